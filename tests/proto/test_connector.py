"""Connector: one gateway over many sockets, on the virtual network."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import Any

import attrs
import pytest

from butter_proto import (
    CloseTransport,
    Connector,
    Delivery,
    Endpoint,
    FaultKind,
    InvalidParams,
    InvalidSettings,
    Limits,
    LocalProtocolError,
    NotOnline,
    OpenTransport,
    PendingFull,
    ReconnectSettings,
    Settings,
    State,
    Timeouts,
    TransportFault,
    events,
    parse_proxy,
)
from butter_proto.errors import GatewayError
from butter_proto.identity import Identity
from butter_proto.testing.conditions import Dial
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import ADDRESS, TOKEN, URL, Scenario

REFUSED = TransportFault(FaultKind.REFUSED, "connection refused")
STARTING = GatewayError(
    "UNAVAILABLE", "gateway starting", {"reason": "startup-sidecars"}, True, 0.5
)


def connector(url: str | Endpoint = URL, settings: Settings | None = None) -> Connector:
    return Connector(url, settings, random=lambda: 1.0, entropy=Random(1).randbytes)


# --- starting -------------------------------------------------------------------------------


def test_nothing_happens_before_start() -> None:
    machine = connector()
    machine.handle_timeout(5.0)
    assert machine.state is State.IDLE
    assert machine.next_command() is None
    assert machine.next_event() is None
    assert machine.next_timeout() is None


def test_the_bound_of_what_waits_to_be_pulled_is_told_to_adapters() -> None:
    settings = Settings(limits=Limits(max_event_bytes=10))
    assert connector(settings=settings).max_event_bytes == 10


def test_start_asks_for_a_transport() -> None:
    machine = connector("wss://gateway.example:8443/path?token=t&x=1")
    machine.start(0.0)
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    assert (command.host, command.port, command.tls) == ("gateway.example", 8443, True)
    assert command.server_name == "gateway.example"
    assert command.url == "wss://gateway.example:8443/path?x=1"
    assert machine.next_event() == events.Connecting(1, 1)
    assert machine.state is State.CONNECTING


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("wss://gateway.example", True),
        ("ws://10.0.0.1", True),
        ("ws://127.0.0.1:18789", False),
        ("ws://localhost", False),
        ("wss://[::1]", False),
    ],
)
def test_the_proxy_of_the_settings_is_told_but_for_loopback(url: str, proxied: bool) -> None:
    """Lesson 28."""
    machine = connector(url, Settings(proxy="http://user:hidden@proxy.local:3128"))
    machine.start(0.0)
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    assert command.proxy == machine.proxy
    assert machine.proxy == (
        parse_proxy("http://user:hidden@proxy.local:3128") if proxied else None
    )
    assert "hidden" not in repr(command)


def dialled(url: str, settings: Settings | None = None) -> OpenTransport:
    """Return what a connector of this URL has dialled first."""
    machine = connector(url, settings)
    machine.start(0.0)
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    return command


@pytest.mark.parametrize("host", ["gw.localhost", "LOCALHOST.", "a.b.localhost.", "localhost"])
def test_a_name_under_localhost_is_never_left_to_a_resolver(host: str) -> None:
    """RFC 6761, 6.3: it is trusted as loopback, so it must be loopback."""
    command = dialled(f"wss://{host}:18789")
    assert command.host == "localhost"
    assert command.server_name == host.lower().rstrip(".")
    assert f"//{host.lower()}:" in command.url


@pytest.mark.parametrize("address", ["127.0.0.9", "10.0.0.1", "8.8.8.8"])
def test_an_address_with_the_roots_dot_is_not_left_to_a_resolver_either(address: str) -> None:
    assert dialled(f"wss://{address}.").host == address


@pytest.mark.parametrize(
    "host", ["127.0.0.9", "::1", "fe80::1%a.", "gw.example.com.", "localhost.example.com"]
)
def test_any_other_host_is_dialled_as_it_is_written(host: str) -> None:
    assert dialled(f"wss://[{host}]" if ":" in host else f"wss://{host}").host == host


def test_the_zone_of_an_address_is_for_dialling_alone() -> None:
    machine = connector("wss://[fe80::1%25eth0]:18789/")
    machine.start(0.0)
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    assert (command.host, command.server_name) == ("fe80::1%eth0", "fe80::1")
    machine.transport_opened(command.id, 0.0)
    assert b"\r\nHost: [fe80::1]:18789\r\n" in machine.data_to_send(command.id)
    proxied = dialled("wss://[fe80::1%25eth0]", Settings(proxy="socks5://proxy.local"))
    assert proxied.host == "fe80::1"


def test_what_a_dial_says_of_a_proxy_is_told_without_its_credentials() -> None:
    machine = connector("ws://gateway.local", Settings(proxy="http://user:hidden@proxy.local:3128"))
    machine.start(0.0)
    fault = TransportFault(FaultKind.PROXY_REFUSED, "not with dXNlcjpoaWRkZW4= or hidden")
    machine.transport_failed(1, fault, 0.0)
    assert machine.state is State.BLOCKED
    assert machine.last_ending is not None
    assert machine.last_ending.fault == attrs.evolve(fault, text="not with *** or ***")


def test_starting_twice_is_an_error_and_changes_nothing() -> None:
    machine = connector()
    machine.start(0.0)
    with pytest.raises(LocalProtocolError):
        machine.start(1.0)
    assert isinstance(machine.next_command(), OpenTransport)
    assert machine.next_command() is None


def test_starting_after_stop_is_an_error() -> None:
    machine = connector()
    machine.stop(0.0)
    with pytest.raises(LocalProtocolError):
        machine.start(1.0)


def test_the_token_of_the_url_moves_into_the_connect_request() -> None:
    scenario = Scenario(Settings(), url=f"{URL}/?token={TOKEN}")
    scenario.online()
    assert scenario.gateway.received[0].params["auth"] == {"token": TOKEN}
    assert TOKEN not in str(scenario.machine.endpoint)


def test_the_token_of_the_settings_goes_before_that_of_the_url() -> None:
    scenario = Scenario(Settings(token=TOKEN), url=f"{URL}/?token=other")
    scenario.online()


def test_an_endpoint_will_do_for_a_url() -> None:
    machine = connector(Endpoint(*ADDRESS, False))
    assert str(machine.endpoint) == f"{URL}/"


def test_an_identity_too_large_for_the_handshake_is_refused_at_once() -> None:
    identity = Identity("cli", "cli", scopes=["x" * 100] * 1000)
    with pytest.raises(InvalidSettings, match="the gateway takes 65536"):
        connector(settings=Settings(identity=identity))


# --- coming back ----------------------------------------------------------------------------


def test_it_comes_back_after_a_drop_and_says_resync() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.drop()
    scenario.until(events.Online)
    first, second = scenario.of(events.Online)
    assert (first.resync, first.boot_changed) == (False, False)
    assert (second.resync, second.boot_changed) == (True, False)
    assert scenario.machine.stats.disconnects == 1
    scenario.stop()


def test_it_tells_when_the_gateway_process_is_another_one() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.restart()
    assert scenario.until(events.Online).boot_changed


def test_every_kind_of_transport_fault_but_a_refusal_is_tried_again() -> None:
    """Lessons 16: every failure is an input of the machine."""
    refusals = (FaultKind.CERTIFICATE, FaultKind.PROXY_REFUSED)
    faults = [TransportFault(kind) for kind in FaultKind if kind not in refusals]
    scenario = Scenario(start=False)
    scenario.network.script_dials(*faults)
    scenario.machine.start(scenario.now)
    scenario.online()
    assert scenario.machine.stats.attempts == len(faults) + 1


def test_the_delays_follow_the_formula_with_full_jitter() -> None:
    settings = Settings(token=TOKEN, reconnect=ReconnectSettings(base=2, factor=3, cap=30))
    scenario = Scenario(settings, jitter=0.5, start=False)
    scenario.network.script_dials(*[REFUSED] * 5)
    scenario.machine.start(scenario.now)
    scenario.online()
    assert [event.delay for event in scenario.of(events.Retrying)] == [1.0, 3.0, 9.0, 15.0, 15.0]
    assert [event.attempt for event in scenario.of(events.Connecting)] == [1, 2, 3, 4, 5, 6]
    began = scenario.when(events.Connecting)
    assert [later - earlier for earlier, later in pairwise(began)] == [1.0, 3.0, 9.0, 15.0, 15.0]


def test_a_retry_without_delay_still_lets_the_driver_breathe() -> None:
    scenario = Scenario(jitter=0.0, start=False)
    scenario.network.script_dials(*[REFUSED] * 50)
    scenario.machine.start(scenario.now)
    scenario.online()
    assert scenario.machine.stats.attempts == 51


def test_a_hint_is_a_floor_under_the_backoff() -> None:
    """Lessons 13: the gateway's retryAfterMs while it starts."""
    scenario = Scenario(jitter=0.0, start=False)
    scenario.gateway.refuse_next(STARTING, close_code=1013, times=3)
    scenario.machine.start(scenario.now)
    scenario.online()
    delays = [event.delay for event in scenario.of(events.Retrying)]
    assert delays == [0.75, 0.75, 0.75]  # 0.5 s hint, and the least delay once it had opened


def test_the_hint_of_a_shutdown_counts_from_its_arrival() -> None:
    scenario = Scenario(jitter=0.0)
    scenario.online()
    scenario.gateway.restart(expected=9.0, down=5.0)
    retrying = scenario.until(events.Retrying)
    assert retrying.ending.retry_after == 9.0
    assert retrying.delay == 9.25
    scenario.until(events.Online)


def test_a_shutdown_hint_long_past_is_no_hint() -> None:
    scenario = Scenario(jitter=0.0)
    scenario.online()
    scenario.gateway.push("shutdown", {"restartExpectedMs": 5000})
    scenario.run(20.0)
    scenario.gateway.drop()
    assert scenario.until(events.Retrying).ending.retry_after == 0.0


def test_a_shutdown_without_a_hint_is_retried_by_the_backoff_alone() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.restart(expected=None, down=20.0)
    assert scenario.until(events.Retrying).ending.retry_after is None
    scenario.until(events.Online)


def test_reconnect_now_ends_a_backoff() -> None:
    scenario = Scenario(start=False)
    scenario.network.script_dials(*[REFUSED] * 6)
    scenario.machine.start(scenario.now)
    scenario.until(events.Retrying, 6)
    assert scenario.machine.retry_at == scenario.now + 30.0
    scenario.machine.reconnect_now(scenario.now)
    scenario.run(0.1)
    assert scenario.machine.state is State.ONLINE
    scenario.machine.reconnect_now(scenario.now)  # no effect while online
    scenario.run(0.1)
    assert scenario.machine.stats.attempts == 7


def test_reconnect_now_never_undercuts_a_rate_limit() -> None:
    """Lessons 14."""
    limited = GatewayError(
        "INVALID_REQUEST", "slow down", {"code": "AUTH_RATE_LIMITED"}, True, 299.993
    )
    scenario = Scenario(jitter=0.0, start=False)
    scenario.gateway.refuse_next(limited)
    scenario.machine.start(scenario.now)
    scenario.until(events.Retrying)
    refused_at = scenario.now
    scenario.machine.reconnect_now(refused_at + 10.0)
    scenario.until(events.Online, limit=400.0)
    assert scenario.when(events.Connecting)[1] == refused_at + 299.993


def test_a_token_that_is_a_word_does_not_spoil_the_advice() -> None:
    scenario = Scenario(Settings(token="wrong"), gateway=StandInGateway(token="right"))
    gave_up = scenario.until(events.GaveUp)
    assert "The token is wrong, or" in gave_up.advice


def test_max_attempts_gives_up_and_reconnect_now_starts_over() -> None:
    settings = Settings(token=TOKEN, reconnect=ReconnectSettings(max_attempts=3))
    scenario = Scenario(settings, start=False)
    scenario.network.script_dials(*[REFUSED] * 5)
    scenario.machine.start(scenario.now)
    gave_up = scenario.until(events.GaveUp)
    assert "3 attempts" in gave_up.advice
    assert scenario.machine.state is State.BLOCKED
    assert scenario.machine.stats.attempts == 3
    scenario.run(1000.0)
    scenario.machine.reconnect_now(scenario.now)
    scenario.online()
    assert [event.attempt for event in scenario.of(events.Connecting)] == [1, 2, 3, 1, 2, 3]


def test_a_refused_token_makes_exactly_one_attempt() -> None:
    """Lessons 3: terminal causes stop, and say why."""
    scenario = Scenario(Settings(token="wrong"))
    scenario.until(events.GaveUp)
    scenario.run(3600.0)
    assert scenario.machine.stats.attempts == 1
    assert scenario.machine.next_timeout() is None
    assert scenario.machine.last_ending is scenario.of(events.GaveUp)[0].ending


@pytest.mark.parametrize("weak", ["code", "AUTH", "TOKEN_MISMATCH"])
def test_a_secret_that_is_part_of_a_code_hides_it_and_changes_no_decision(weak: str) -> None:
    scenario = Scenario(Settings(token=weak))
    gave_up = scenario.until(events.GaveUp)
    assert scenario.machine.stats.attempts == 1
    assert weak not in str(gave_up.ending) + gave_up.advice


def test_a_device_that_waits_for_approval_polls_slowly_and_tells_its_id_once() -> None:
    """Lessons 2."""
    error = GatewayError(
        "NOT_PAIRED", "pairing required", {"code": "PAIRING_REQUIRED", "requestId": "r"}
    )
    scenario = Scenario(start=False)
    scenario.gateway.refuse_next(error, times=4)
    scenario.machine.start(scenario.now)
    scenario.online()
    assert [event.request_id for event in scenario.of(events.PairingRequired)] == ["r"]
    assert [event.delay for event in scenario.of(events.Retrying)] == [15.0] * 4


# --- transports -----------------------------------------------------------------------------


def test_each_attempt_has_a_transport_of_its_own_and_frees_it() -> None:
    """Lessons 17, 33: nothing of an old socket reaches the new one."""
    machine = connector()
    machine.start(0.0)
    machine.transport_failed(1, REFUSED, 0.0)
    machine.handle_timeout(1.0)
    commands = []
    while (command := machine.next_command()) is not None:
        commands.append((type(command), command.id))
    assert commands == [(OpenTransport, 1), (CloseTransport, 1), (OpenTransport, 2)]
    machine.transport_opened(1, 2.0)
    machine.receive_data(1, b"HTTP/1.1 401 no\r\n\r\n", 2.0)
    machine.receive_data(1, b"", 2.0)
    machine.transport_failed(1, REFUSED, 2.0)
    assert machine.data_to_send(1) == b""
    assert machine.state is State.CONNECTING
    assert machine.next_command() is None


def test_the_ids_of_transports_and_requests_can_be_injected() -> None:
    numbers = iter(range(100, 200))
    names = (f"id-{number}" for number in range(10))
    machine = Connector(
        URL,
        random=lambda: 0.0,
        entropy=Random(1).randbytes,
        next_transport_id=lambda: next(numbers),
        next_request_id=lambda: next(names),
    )
    machine.start(0.0)
    command = machine.next_command()
    assert command is not None
    assert command.id == 100


def test_a_certificate_fault_after_a_good_one_is_retried() -> None:
    machine = connector("wss://gateway.local")
    bad = TransportFault(FaultKind.CERTIFICATE, "expired")
    machine.start(0.0)
    machine.transport_opened(1, 0.0, b"certificate")
    machine.receive_data(1, b"", 0.0)
    machine.handle_timeout(1.0)
    machine.transport_failed(2, bad, 1.0)
    assert machine.state is State.WAITING


def test_a_certificate_that_was_never_good_stops() -> None:
    machine = connector("wss://gateway.local")
    machine.start(0.0)
    machine.transport_failed(1, TransportFault(FaultKind.CERTIFICATE, "self-signed"), 0.0)
    assert machine.state is State.BLOCKED


def test_no_new_attempt_starts_while_nobody_pulls_the_state_changes() -> None:
    settings = Settings(token=TOKEN, limits=Limits(max_state_changes=10))
    scenario = Scenario(settings, jitter=0.0, start=False)
    scenario.network.pull_events = False
    scenario.network.script_dials(*[REFUSED] * 100)
    scenario.machine.start(scenario.now)
    scenario.run(1000.0)
    assert scenario.machine.stats.attempts == 5
    scenario.network.pull_events = True
    scenario.run(60.0)
    assert scenario.machine.stats.attempts > 50


# --- stopping -------------------------------------------------------------------------------


def test_stop_settles_requests_closes_and_is_last() -> None:
    scenario = Scenario()
    scenario.gateway.reply("slow", delay=math.inf)
    scenario.online()
    scenario.request("slow")
    scenario.run(1.0)
    scenario.stop()
    kinds = [type(event) for event in scenario.told[-3:]]
    assert kinds == [events.RequestFailed, events.Offline, events.Stopped]
    assert scenario.machine.finished
    assert scenario.machine.state is State.STOPPED
    assert scenario.machine.stats.disconnects == 0


def test_stop_waits_for_the_end_of_the_stream_a_second_at_most() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.stall()
    stopped_at = scenario.now
    scenario.machine.stop(stopped_at)
    assert not scenario.machine.finished
    scenario.machine.reconnect_now(stopped_at)
    scenario.until(events.Stopped)
    assert scenario.now == stopped_at + 1.0


def test_abort_is_finished_at_once() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.stall()
    scenario.machine.stop(scenario.now)
    scenario.machine.stop(scenario.now, abort=True)
    assert scenario.machine.finished
    scenario.machine.stop(scenario.now)
    scenario.run(0.0)
    scenario.network.check_finished()


@pytest.mark.parametrize("abort", [False, True])
def test_stop_cancels_a_dial(abort: bool) -> None:
    scenario = Scenario(start=False)
    scenario.network.script_dials(Dial.NEVER_ANSWERS)
    scenario.machine.start(scenario.now)
    scenario.run(1.0)
    scenario.machine.stop(scenario.now, abort=abort)
    scenario.run(0.0)
    scenario.network.check_finished()
    assert [type(event) for event in scenario.told] == [events.Connecting, events.Stopped]


def test_stop_in_a_backoff_and_before_start_is_immediate() -> None:
    scenario = Scenario(start=False)
    scenario.network.script_dials(REFUSED)
    scenario.machine.start(scenario.now)
    scenario.until(events.Retrying)
    scenario.machine.stop(scenario.now)
    assert scenario.machine.finished
    assert scenario.machine.retry_at is None
    idle = connector()
    idle.stop(0.0)
    assert idle.next_event() == events.Stopped()


def test_stop_during_the_handshake_sends_a_close_frame() -> None:
    scenario = Scenario(start=False)
    scenario.machine.start(scenario.now)
    scenario.network.run_until(lambda: scenario.gateway.connections == 1)
    scenario.machine.stop(scenario.now)
    scenario.run(2.0)
    scenario.network.check_finished()


# --- requests -------------------------------------------------------------------------------


def test_a_request_while_offline_is_refused_at_once() -> None:
    machine = connector()
    with pytest.raises(NotOnline, match="health was not sent"):
        machine.request("health", now=0.0)
    machine.start(0.0)
    with pytest.raises(NotOnline):
        machine.request("health", now=0.0)


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_a_timeout_out_of_range_is_refused(timeout: float) -> None:
    scenario = Scenario()
    scenario.online()
    with pytest.raises(InvalidParams, match="timeout"):
        scenario.request("echo", timeout=timeout)


def test_a_request_that_is_refused_locally_leaves_no_trace() -> None:
    scenario = Scenario()
    scenario.online()
    with pytest.raises(InvalidParams):
        scenario.request("echo", {"x": object()})
    first = scenario.request("echo", 1)
    second = scenario.request("echo", 2)
    assert (first, second) == ("2", "3")  # "1" was the connect request


def test_a_pending_request_keeps_its_place_until_its_outcome_is_pulled() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_pending=2)))
    scenario.online()
    scenario.network.pull_events = False
    for _ in range(2):
        scenario.request("echo")
    with pytest.raises(PendingFull, match="max_pending"):
        scenario.request("echo")
    scenario.run(1.0)
    with pytest.raises(PendingFull):
        scenario.request("echo")
    scenario.network.pull_events = True
    scenario.run(0.0)
    scenario.request("echo")


def test_pending_requests_are_bounded_by_their_size_too() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_pending_bytes=1024)))
    scenario.online()
    scenario.request("echo", "x" * 600)
    with pytest.raises(PendingFull, match="max_pending_bytes"):
        scenario.request("echo", "x" * 600)
    scenario.run(1.0)
    scenario.request("echo", "x" * 600)


def test_a_request_cancelled_before_it_left_never_leaves() -> None:
    scenario = Scenario()
    scenario.online()
    request_id = scenario.request("echo", 1)
    assert scenario.machine.cancel(request_id, scenario.now) is Delivery.NOT_SENT
    assert scenario.machine.cancel(request_id, scenario.now) is None
    scenario.run(1.0)
    assert [received.method for received in scenario.gateway.received] == ["connect"]
    assert scenario.outcome(request_id) is None


def test_a_request_cancelled_after_it_left_may_have_executed() -> None:
    scenario = Scenario()
    scenario.gateway.reply("slow", delay=5.0)
    scenario.online()
    request_id = scenario.request("slow")
    scenario.run(1.0)
    assert scenario.machine.cancel(request_id, scenario.now) is Delivery.MAY_HAVE_EXECUTED
    scenario.run(10.0)
    assert scenario.outcome(request_id) is None


def test_cancelling_what_is_unknown_or_settled_is_no_error() -> None:
    scenario = Scenario()
    assert scenario.machine.cancel("nope", scenario.now) is None
    scenario.online()
    request_id = scenario.request("echo")
    scenario.run(1.0)
    assert scenario.machine.cancel(request_id, scenario.now) is None
    scenario.stop()
    assert scenario.machine.cancel(request_id, scenario.now) is None


def test_a_cancelled_request_gives_its_place_back() -> None:
    """Lessons 36."""
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_pending=1)))
    scenario.online()
    for _ in range(5):
        scenario.machine.cancel(scenario.request("echo"), scenario.now)
    scenario.request("echo")


def test_a_request_has_thirty_seconds_unless_told_otherwise() -> None:
    """Lessons 20."""
    scenario = Scenario()
    scenario.gateway.reply("slow", delay=math.inf)
    scenario.online()
    default = scenario.request("slow")
    unbounded = scenario.request("slow", timeout=None)
    scenario.run(29.9)
    assert scenario.outcome(default) is None
    scenario.run(0.2)
    outcome = scenario.outcome(default)
    assert isinstance(outcome, events.RequestFailed)
    assert outcome.timed_out
    scenario.run(10_000.0)
    assert scenario.outcome(unbounded) is None


def test_a_thousand_requests_at_once_are_all_answered() -> None:
    """The gateway refuses above 256 in flight (wire.md 8); the window keeps below."""
    scenario = Scenario()
    scenario.gateway.reply("slow", "ok", delay=0.5)
    scenario.online()
    ids = [scenario.request("slow") for _ in range(1000)]
    scenario.run(10.0)
    assert all(isinstance(scenario.outcome(request_id), events.Replied) for request_id in ids)


# --- time -----------------------------------------------------------------------------------


def test_a_late_wake_up_is_told_and_does_not_kill_a_living_peer() -> None:
    """Lessons 25: we were late, the peer was not silent."""
    scenario = Scenario()
    scenario.online()
    scenario.network.suspend(60.0)
    scenario.run(90.0)
    (late,) = scenario.of(events.ClockLate)
    assert late.seconds == pytest.approx(50.0, abs=1.0)
    assert not scenario.of(events.Offline)


def test_a_peer_that_died_during_a_suspend_is_found_after_it() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.stall()
    scenario.network.suspend(300.0)
    began = scenario.now
    scenario.until(events.Offline, limit=400.0)
    assert scenario.now <= began + 300.0 + 25.0


def test_small_lateness_is_not_told() -> None:
    scenario = Scenario()
    scenario.network.late_wakeups(0.5)
    scenario.online()
    scenario.run(100.0)
    assert not scenario.of(events.ClockLate)
    assert not scenario.of(events.Offline)


def test_limits_of_a_phase_can_be_set() -> None:
    settings = Settings(token=TOKEN, timeouts=Timeouts(open=2.0))
    scenario = Scenario(settings, start=False)
    scenario.network.script_dials(Dial.NEVER_ANSWERS)
    scenario.machine.start(scenario.now)
    began = scenario.now
    scenario.until(events.Retrying)
    assert scenario.now == began + 2.0


def test_the_counters_add_up_over_connections() -> None:
    scenario = Scenario(gateway=StandInGateway(token=TOKEN))
    scenario.online()
    scenario.run(35.0)
    scenario.gateway.drop()
    scenario.until(events.Online)
    scenario.run(35.0)
    stats = scenario.machine.stats
    assert (stats.attempts, stats.online, stats.disconnects) == (2, 2, 1)
    assert stats.probes == 6
    assert stats.events == len(scenario.of(events.GatewayEvent)) > 1


def test_leaving_a_rate_limit_after_giving_up_is_told_as_a_retry() -> None:
    limited = GatewayError("X", "slow down", {"code": "AUTH_RATE_LIMITED"}, True, 300.0)
    settings = Settings(token=TOKEN, reconnect=ReconnectSettings(max_attempts=1))
    scenario = Scenario(settings, jitter=0.0, start=False)
    scenario.gateway.refuse_next(limited)
    scenario.machine.start(scenario.now)
    assert "after 1 attempt." in scenario.until(events.GaveUp).advice
    scenario.machine.reconnect_now(scenario.now)
    retrying = scenario.until(events.Retrying)
    assert (retrying.attempt, retrying.delay) == (1, 300.0)
    assert scenario.machine.state is State.WAITING
    scenario.until(events.Online, limit=400.0)


@pytest.mark.parametrize("timeout", ["5", True, [5]])
def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    scenario = Scenario()
    scenario.online()
    with pytest.raises(InvalidParams, match="timeout"):
        scenario.request("echo", timeout=timeout)
