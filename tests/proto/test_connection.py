"""Connection: every phase's limit, every way to end, and what is told on the way."""

from __future__ import annotations

import json

import pytest
import wsproto
from wsproto.events import AcceptConnection

from butter_proto import (
    Dialect,
    EndKind,
    FaultKind,
    Limits,
    MessageTooLarge,
    Probe,
    Settings,
    Timeouts,
    TransportFault,
    events,
)
from butter_proto.errors import Delivery, GatewayError
from butter_proto.events import Policy
from butter_proto.identity import OPENBUTTER_BROWSER, Identity
from butter_proto.testing.conditions import Conditions, Dial
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import TOKEN, Scenario, quiet

WHOLE = Conditions(latency_up=0.0, latency_down=0.0)
BYTE_BY_BYTE = Conditions(latency_up=0.0, latency_down=0.0, chunk=1)


@pytest.fixture(params=[WHOLE, BYTE_BY_BYTE], ids=["whole", "byte by byte"])
def conditions(request: pytest.FixtureRequest) -> Conditions:
    assert isinstance(request.param, Conditions)
    return request.param


def first_ending(scenario: Scenario) -> tuple[EndKind, float]:
    """Run to the first ending; return its kind and how long it took."""
    began = scenario.now
    retrying = scenario.until(events.Retrying)
    return retrying.ending.kind, scenario.now - began


def test_it_answers_the_challenge_and_is_online(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions)
    hello = scenario.online()
    assert hello.server_version == "2026.9.6"
    assert hello.scopes == ("operator.read", "operator.write")
    assert [type(event) for event in scenario.told] == [events.Connecting, events.Online]
    (connect,) = scenario.gateway.received
    assert connect.method == "connect"
    assert connect.params["auth"] == {"token": TOKEN}
    scenario.stop()


def test_requests_are_answered_whole_and_byte_by_byte(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions)
    scenario.online()
    ids = [scenario.request("echo", {"n": n, "text": "ü" * n}) for n in (0, 1, 70, 700)]
    scenario.run(1.0)
    outcomes = [scenario.outcome(request_id) for request_id in ids]
    assert [outcome.payload for outcome in outcomes if isinstance(outcome, events.Replied)] == [
        {"n": n, "text": "ü" * n} for n in (0, 1, 70, 700)
    ]


# --- limits of the phases -------------------------------------------------------------------


def test_a_dial_that_never_answers_ends_after_the_open_limit() -> None:
    scenario = Scenario(start=False)
    scenario.network.script_dials(Dial.NEVER_ANSWERS)
    scenario.machine.start(scenario.now)
    assert first_ending(scenario) == (EndKind.OPEN_TIMEOUT, 15.0)


def test_a_peer_that_accepts_and_never_answers_the_upgrade_ends_after_the_open_limit() -> None:
    """Lessons 12."""
    scenario = Scenario(start=False)
    scenario.gateway.stall()
    scenario.machine.start(scenario.now)
    assert first_ending(scenario) == (EndKind.OPEN_TIMEOUT, 15.0)


def upgraded_and_then_stalled() -> Scenario:
    """A gateway that upgrades and says no more."""
    settings = Settings(token=TOKEN, timeouts=Timeouts(open=15, challenge=14, hello=13))
    return Scenario(settings, start=False)


def test_no_challenge_ends_after_the_challenge_limit() -> None:
    scenario = upgraded_and_then_stalled()
    machine, now = scenario.machine, scenario.now
    machine.start(now)
    accepted = accept(scenario)
    machine.receive_data(1, accepted, now)
    assert machine.next_timeout() == now + 14
    machine.handle_timeout(now + 14)
    assert last_ending(scenario) is EndKind.CHALLENGE_TIMEOUT


def test_no_hello_ends_after_the_hello_limit() -> None:
    scenario = upgraded_and_then_stalled()
    machine, now = scenario.machine, scenario.now
    machine.start(now)
    machine.receive_data(1, accept(scenario) + challenge(), now)
    machine.receive_data(1, text({"type": "event", "event": "tick", "seq": 1}), now)
    assert machine.next_timeout() == now + 13
    machine.handle_timeout(now + 13)
    assert last_ending(scenario) is EndKind.HELLO_TIMEOUT
    assert machine.stats.ignored_frames == 1


# --- scripted by hand -----------------------------------------------------------------------


def accept(scenario: Scenario) -> bytes:
    """Open transport 1 and answer its upgrade; return the 101."""
    scenario.machine.transport_opened(1, scenario.now)
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(scenario.machine.data_to_send(1))
    return bytes(server.send(AcceptConnection()))


def frame(first: int, payload: bytes) -> bytes:
    """One unmasked server frame."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
    return bytes([first]) + length + payload


def text(message: object) -> bytes:
    return frame(0x81, json.dumps(message).encode())


def challenge(payload: object = None) -> bytes:
    payload = {"nonce": "n", "ts": 1} if payload is None else payload
    return text({"type": "event", "event": "connect.challenge", "payload": payload})


def hello(payload: object, request_id: str = "1") -> bytes:
    return text({"type": "res", "id": request_id, "ok": True, "payload": payload})


def last_ending(scenario: Scenario) -> EndKind:
    ending = scenario.machine.last_ending
    assert ending is not None
    return ending.kind


def by_hand(settings: Settings | None = None) -> Scenario:
    """A scenario whose transport 1 is upgraded; the test plays the gateway."""
    scenario = Scenario(settings)
    scenario.machine.receive_data(1, accept(scenario), scenario.now)
    return scenario


def play(scenario: Scenario, *messages: bytes) -> None:
    for message in messages:
        while scenario.machine.data_to_send(1):
            pass
        scenario.machine.receive_data(1, message, scenario.now)


def drain(scenario: Scenario) -> list[events.Event]:
    """Pull the events that are queued now."""
    pulled = []
    while (event := scenario.machine.next_event()) is not None:
        pulled.append(event)
    return pulled


HELLO = {"type": "hello-ok", "protocol": 4, "server": {"bootId": "b"}, "auth": {"scopes": []}}


def test_a_challenge_without_a_nonce_is_invalid() -> None:
    scenario = by_hand()
    play(scenario, challenge({"ts": 5}))
    assert last_ending(scenario) is EndKind.CHALLENGE_INVALID


def test_a_second_challenge_is_ignored() -> None:
    scenario = by_hand()
    play(scenario, challenge(), challenge())
    assert scenario.machine.stats.ignored_frames == 1


def test_an_answer_that_is_no_hello_is_invalid() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello({"type": "something-else"}))
    assert last_ending(scenario) is EndKind.HELLO_INVALID


def test_an_answer_to_another_request_is_no_hello() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO, request_id="2"))
    assert scenario.machine.stats.ignored_frames == 1
    assert scenario.machine.last_ending is None


def test_a_legacy_pong_is_life_and_nothing_else() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO), text({"type": "pong"}))
    assert scenario.machine.stats.ignored_frames == 0
    assert scenario.machine.last_ending is None


def test_a_pong_nobody_asked_for_is_no_round_trip() -> None:
    scenario = by_hand()
    play(scenario, frame(0x8A, b""), challenge(), hello(HELLO), frame(0x8A, b""))
    assert not [event for event in drain(scenario) if isinstance(event, events.RoundTrip)]


def test_a_pong_that_comes_twice_is_one_round_trip() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO))
    scenario.machine.probe(scenario.now)
    while scenario.machine.data_to_send(1):
        pass
    pong = frame(0x8A, b"2")  # the connect request had "1"
    play(scenario, pong, pong)
    trips = [event for event in drain(scenario) if isinstance(event, events.RoundTrip)]
    assert len(trips) == 1


def test_a_transport_that_is_over_has_nothing_to_send() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.request("echo")
    scenario.machine.stop(scenario.now, abort=True)
    assert scenario.machine.data_to_send(1) == b""


def test_a_message_that_is_no_json_ends_the_connection_with_a_close_frame() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO))
    drain(scenario)
    while scenario.machine.data_to_send(1):
        pass
    play(scenario, frame(0x81, b"{"))
    assert last_ending(scenario) is EndKind.PROTOCOL_VIOLATION
    assert scenario.machine.data_to_send(1)[0] == 0x88
    kinds = [type(event) for event in drain(scenario)]
    assert kinds == [events.Offline, events.Retrying]


def test_what_comes_after_the_ending_is_not_told() -> None:
    scenario = by_hand()
    event = text({"type": "event", "event": "late", "seq": 1})
    play(scenario, challenge(), hello(HELLO), frame(0x88, b"\x03\xe8") + event, event)
    assert not [event for event in drain(scenario) if isinstance(event, events.GatewayEvent)]


def test_the_transport_is_dropped_at_the_end_of_the_stream_after_a_close() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO), frame(0x88, b"\x03\xe8"))
    commands = []
    play(scenario, b"")
    while (command := scenario.machine.next_command()) is not None:
        commands.append(type(command).__name__)
    assert commands == ["OpenTransport", "CloseTransport"]
    assert scenario.machine.data_to_send(1) == b""


def test_the_transport_is_dropped_a_second_after_a_close_that_nothing_follows() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO), frame(0x88, b"\x03\xe8"))
    machine = scenario.machine
    machine.next_command()
    machine.handle_timeout(scenario.now + 0.999)
    assert machine.next_command() is None or machine.state.value == "connecting"
    assert machine.data_to_send(1) != b""
    machine.handle_timeout(scenario.now + 1.0)
    assert machine.data_to_send(1) == b""


def test_bytes_before_the_transport_is_open_do_nothing() -> None:
    scenario = Scenario()
    scenario.machine.receive_data(1, b"HTTP/1.1 500 no\r\n\r\n", scenario.now)
    assert scenario.machine.last_ending is None


def test_a_transport_that_opens_twice_sends_one_upgrade() -> None:
    scenario = Scenario()
    scenario.machine.transport_opened(1, scenario.now)
    scenario.machine.transport_opened(1, scenario.now)
    assert scenario.machine.data_to_send(1).count(b"GET ") == 1


# --- endings --------------------------------------------------------------------------------


def test_a_refused_upgrade_keeps_status_body_and_hint(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions, start=False, jitter=0.0)
    scenario.gateway.refuse_upgrade_next(503, [("Retry-After", "7")], b"Too many " + TOKEN.encode())
    scenario.machine.start(scenario.now)
    ending = scenario.until(events.Retrying).ending
    assert (ending.kind, ending.http_status) == (EndKind.UPGRADE_REFUSED, 503)
    assert (ending.http_body, ending.retry_after) == (b"Too many ***", 7.0)


def test_a_refusal_whose_body_never_ends_is_told_after_a_second() -> None:
    scenario = Scenario(start=False)
    machine, now = scenario.machine, scenario.now
    machine.start(now)
    machine.transport_opened(1, now)
    machine.receive_data(1, b"HTTP/1.1 502 Bad\r\n\r\nsome", now)
    machine.receive_data(1, b" text", now + 0.5)
    assert machine.next_timeout() == now + 1.0
    machine.handle_timeout(now + 1.0)
    ending = machine.last_ending
    assert ending is not None
    assert ending.http_body == b"some text"


def test_a_refused_connect_ends_at_once_with_the_gateways_error(conditions: Conditions) -> None:
    scenario = Scenario(Settings(token="wrong"), conditions=conditions)
    gave_up = scenario.until(events.GaveUp)
    error = gave_up.ending.error
    assert error is not None
    assert error.detail_code == "AUTH_TOKEN_MISMATCH"
    assert gave_up.ending.kind is EndKind.CONNECT_REFUSED
    assert "token" in gave_up.advice


def test_a_close_frame_is_echoed_and_told(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions)
    scenario.online()
    scenario.gateway.close(4001, "device removed")
    ending = scenario.until(events.Offline).ending
    assert (ending.kind, ending.close_code, ending.close_reason) == (
        EndKind.CLOSED_BY_PEER,
        4001,
        "device removed",
    )


def test_an_end_of_stream_without_a_close_frame_is_told_as_such() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.gateway.drop()
    assert scenario.until(events.Offline).ending.kind is EndKind.END_OF_STREAM


def test_a_reset_is_told_with_its_fault() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.network.cut()
    ending = scenario.until(events.Offline).ending
    assert ending.kind is EndKind.TRANSPORT_FAILED
    assert ending.fault is not None
    assert ending.fault.kind is FaultKind.RESET


def test_a_fault_text_hides_the_token() -> None:
    scenario = Scenario()
    fault = TransportFault(FaultKind.OTHER, f"proxy said {TOKEN}")
    scenario.machine.transport_failed(1, fault, scenario.now)
    ending = scenario.machine.last_ending
    assert ending is not None
    assert ending.fault == TransportFault(FaultKind.OTHER, "proxy said ***")


def test_a_framing_error_is_answered_with_its_close_code(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions)
    scenario.online()
    scenario.network.inject(b"\xc1\x00")
    assert scenario.until(events.Offline).ending.kind is EndKind.PROTOCOL_VIOLATION


def test_a_message_over_the_limit_drops_the_connection_at_its_header() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_message=2048)))
    scenario.online()
    scenario.network.inject(b"\x81\x7e\x08\x01")
    assert scenario.until(events.Offline).ending.kind is EndKind.LIMIT_EXCEEDED


def test_a_silent_peer_is_gone_25_seconds_after_its_last_byte() -> None:
    scenario = Scenario(gateway=StandInGateway(token=TOKEN, policy=Policy(10**6, None, 600.0)))
    scenario.online()
    online_at = scenario.now
    scenario.gateway.stall()
    ending = scenario.until(events.Offline).ending
    assert ending.kind is EndKind.SILENT_PEER
    assert scenario.now == online_at + 25.0


def test_stopping_tells_that_it_was_stopped_here() -> None:
    scenario = Scenario()
    scenario.online()
    scenario.stop()
    (offline,) = scenario.of(events.Offline)
    assert offline.ending.kind is EndKind.STOPPED


# --- keepalive ------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [Probe.AUTO, Probe.PING, Probe.HEALTH])
def test_probes_go_out_every_ten_seconds_and_tell_the_round_trip(probe: Probe) -> None:
    scenario = Scenario(
        quiet(probe=probe), conditions=Conditions(latency_up=0.125, latency_down=0.125)
    )
    scenario.online()
    began = scenario.now
    scenario.run(45.0)
    assert [round(now - began, 3) for now in scenario.when(events.RoundTrip)] == [
        10.25,
        20.25,
        30.25,
        40.25,
    ]
    assert {event.seconds for event in scenario.of(events.RoundTrip)} == {0.25}
    health = [received for received in scenario.gateway.received if received.method == "health"]
    assert len(health) == (4 if probe is Probe.HEALTH else 0)


def test_a_refused_health_probe_is_life() -> None:
    """wire.md 7: a draining gateway refuses health, and is there."""
    scenario = Scenario(quiet(probe=Probe.HEALTH))
    scenario.gateway.reply(
        "health", GatewayError("UNAVAILABLE", "draining", {"reason": "gateway-restarting"})
    )
    scenario.online()
    scenario.run(100.0)
    assert scenario.machine.stats.misses == 0
    assert not scenario.of(events.RequestFailed)


def test_a_probe_asked_for_by_the_application_goes_out_at_once() -> None:
    scenario = Scenario()
    scenario.machine.probe(scenario.now)  # not yet online: the limits of the phases do
    scenario.online()
    scenario.machine.probe(scenario.now)
    scenario.run(0.1)
    assert len(scenario.of(events.RoundTrip)) == 1
    scenario.stop()
    scenario.machine.probe(scenario.now)


@pytest.mark.parametrize("probe", [Probe.PING, Probe.HEALTH])
def test_a_long_upload_is_no_silence(probe: Probe) -> None:
    """Chunks that the socket takes are progress, though a health probe waits behind them all."""
    scenario = Scenario(
        quiet(probe=probe),
        gateway=StandInGateway(token=TOKEN, ping_interval=1e6, policy=Policy(10**8, None, 600.0)),
        conditions=Conditions(latency_up=0.25, latency_down=0.25),
    )
    scenario.online()
    began = scenario.now
    request_id = scenario.request("echo", "x" * 15_000_000, timeout=None)
    scenario.network.run_until(lambda: scenario.outcome(request_id) is not None, 300.0)
    assert scenario.now - began > 50.0
    assert isinstance(scenario.outcome(request_id), events.Replied)
    assert scenario.machine.stats.misses == 0


def test_without_probes_the_tick_watchdog_finds_a_silent_peer() -> None:
    scenario = Scenario(quiet(probe=Probe.NONE))
    scenario.online()
    heard_at = scenario.now
    scenario.gateway.stall()
    scenario.until(events.Offline)
    assert scenario.now == heard_at + 60.0
    scenario.gateway.resume()
    scenario.online()
    scenario.machine.probe(scenario.now)
    scenario.run(1.0)
    assert not scenario.of(events.RoundTrip)


# --- requests -------------------------------------------------------------------------------


def test_a_request_over_the_gateways_limit_fails_alone() -> None:
    """Lessons 26."""
    scenario = Scenario(gateway=StandInGateway(token=TOKEN, policy=Policy(1000, None, 30.0)))
    scenario.online()
    with pytest.raises(MessageTooLarge, match="takes at most 1000"):
        scenario.request("echo", "x" * 1000)
    request_id = scenario.request("echo", "small")
    scenario.run(1.0)
    assert scenario.outcome(request_id) == events.Replied(
        request_id, "small", scenario.of(events.Replied)[0].size
    )
    assert not scenario.of(events.Offline)


def test_pending_requests_fail_at_the_decision_before_offline() -> None:
    """Lessons 21, 22: nothing masks a dead link, and nobody waits for the close."""
    scenario = Scenario()
    scenario.gateway.reply("slow", "done", delay=1e6)
    scenario.online()
    request_id = scenario.request("slow", {"idempotencyKey": "k"}, timeout=None)
    scenario.run(1.0)
    scenario.gateway.stall()
    scenario.until(events.Offline)
    kinds = [type(event) for event in scenario.told[-3:]]
    assert kinds == [events.RequestFailed, events.Offline, events.Retrying]
    failed = scenario.outcome(request_id)
    assert isinstance(failed, events.RequestFailed)
    assert (failed.delivery, failed.method, failed.idempotency_key) == (
        Delivery.MAY_HAVE_EXECUTED,
        "slow",
        "k",
    )
    assert failed.ending is not None
    assert failed.ending.kind is EndKind.SILENT_PEER


def test_a_request_times_out_and_its_late_answer_is_counted() -> None:
    scenario = Scenario()
    scenario.gateway.reply("slow", "done", delay=10.0)
    scenario.online()
    request_id = scenario.request("slow", timeout=5.0)
    scenario.run(20.0)
    failed = scenario.outcome(request_id)
    assert isinstance(failed, events.RequestFailed)
    assert failed.timed_out
    assert failed.delivery is Delivery.MAY_HAVE_EXECUTED
    assert scenario.machine.stats.ignored_frames == 1


def test_an_abandoned_request_gives_its_place_back_after_its_aftermath() -> None:
    scenario = Scenario(Settings(token=TOKEN, limits=Limits(max_in_flight=1)))
    scenario.gateway.reply("slow", "done", delay=1e6)
    scenario.online()
    scenario.request("slow", timeout=5.0)
    waiting = scenario.request("echo", "x", timeout=None)
    scenario.run(64.0)
    assert scenario.outcome(waiting) is None
    scenario.run(2.0)
    assert isinstance(scenario.outcome(waiting), events.Replied)


def test_a_two_step_request_tells_its_acceptance_and_then_its_outcome() -> None:
    scenario = Scenario()
    scenario.gateway.reply("agent", "done", delay=5.0, interim={"status": "accepted"})
    scenario.online()
    request_id = scenario.request("agent", final=True)
    scenario.run(1.0)
    assert [event.id for event in scenario.of(events.RequestAccepted)] == [request_id]
    assert scenario.outcome(request_id) is None
    scenario.run(10.0)
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.Replied)
    assert outcome.payload == "done"


def test_a_refusal_keeps_its_error_and_payload_and_hides_the_token() -> None:
    scenario = Scenario()
    error = GatewayError("NO", f"not with {TOKEN}", {"code": "X", "echo": [TOKEN]}, True, 2.5)
    scenario.gateway.reply("refused", error, payload={"runId": "r"})
    scenario.online()
    request_id = scenario.request("refused")
    scenario.run(1.0)
    failed = scenario.outcome(request_id)
    assert isinstance(failed, events.RequestFailed)
    assert failed.delivery is Delivery.REFUSED
    assert failed.error == GatewayError(
        "NO", "not with ***", {"code": "X", "echo": ["***"]}, True, 2.5
    )
    assert failed.payload == {"runId": "r"}


# --- events ---------------------------------------------------------------------------------


def test_events_are_told_with_name_payload_seq_and_size(conditions: Conditions) -> None:
    scenario = Scenario(conditions=conditions)
    scenario.online()
    scenario.gateway.push("chat", {"text": "hi"}, state_version={"health": 2})
    event = scenario.until(events.GatewayEvent)
    assert (event.name, event.payload, event.seq) == ("chat", {"text": "hi"}, 1)
    assert event.state_version == {"health": 2}
    assert event.size > 20


def test_a_gap_is_told_before_the_event_that_shows_it() -> None:
    """Lessons 19."""
    scenario = Scenario()
    scenario.online()
    scenario.gateway.push("chat", 1)
    scenario.gateway.push("chat", 2, seq_gap=3)
    scenario.run(1.0)
    assert scenario.told[-3:] == [
        events.GatewayEvent("chat", 1, 1, None, scenario.of(events.GatewayEvent)[0].size),
        events.EventsMissed(events.MissReason.GAP, 3),
        events.GatewayEvent("chat", 2, 5, None, scenario.of(events.GatewayEvent)[1].size),
    ]


def test_a_seq_that_goes_back_is_no_gap_and_neither_is_one_that_is_missing() -> None:
    scenario = by_hand()
    numbers = [1, 2, 1, None, 3, 4]
    frames = [
        text({"type": "event", "event": "e", "payload": None, "seq": number}) for number in numbers
    ]
    play(scenario, challenge(), hello(HELLO), *frames)
    assert not [event for event in drain(scenario) if isinstance(event, events.EventsMissed)]


def test_events_lost_before_the_first_one_are_a_gap() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO), text({"type": "event", "event": "e", "seq": 3}))
    missed = [event for event in drain(scenario) if isinstance(event, events.EventsMissed)]
    assert missed == [events.EventsMissed(events.MissReason.GAP, 2)]


def test_scopes_that_were_not_granted_are_told() -> None:
    """Lessons 4; wire.md 2: this identity connects, and may do nothing."""
    scenario = Scenario(Settings(token=TOKEN, identity=Identity("gateway-client", "probe")))
    scenario.online()
    (reduced,) = scenario.of(events.ScopesReduced)
    assert reduced.missing == ("operator.read", "operator.write")
    assert reduced.granted == ()


# --- the original dialect -------------------------------------------------------------------


@pytest.mark.parametrize("json_rpc", [False, True])
def test_the_original_gateway_is_spoken_to_in_its_own_way(
    json_rpc: bool, conditions: Conditions
) -> None:
    gateway = StandInGateway(token=TOKEN, legacy=True, json_rpc=json_rpc)
    settings = Settings(dialect=Dialect.OPENBUTTER_V1, token=TOKEN, json_rpc=json_rpc)
    scenario = Scenario(settings, gateway=gateway, conditions=conditions)
    hello = scenario.online()
    assert (hello.protocol, hello.boot_id, hello.scopes) == (None, None, None)
    (connect,) = gateway.received
    assert connect.params == {
        "minProtocol": 1,
        "maxProtocol": 1,
        "client": {
            "id": "openbutter",
            "version": "0.1.0",
            "platform": "node",
            "mode": "standalone",
        },
        "caps": ["rpc"],
        "role": "client",
        "scopes": ["gateway:rpc"],
        "auth": {"token": TOKEN},
    }
    request_id = scenario.request("echo", {"a": 1})
    gateway.push("news", {"n": 1})
    scenario.run(30.0)
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.Replied)
    assert outcome.payload == {"a": 1}
    (news,) = [event for event in scenario.of(events.GatewayEvent) if event.name == "news"]
    assert news.payload == {"n": 1}
    assert scenario.machine.stats.misses == 0
    scenario.stop()


def test_the_original_browser_identity_probes_by_health_and_any_first_seq_is_fine() -> None:
    gateway = StandInGateway(token=TOKEN, legacy=True)
    settings = Settings(
        dialect=Dialect.OPENBUTTER_V1,
        identity=OPENBUTTER_BROWSER,
        token=TOKEN,
        keepalive=quiet(probe=Probe.HEALTH).keepalive,
    )
    scenario = Scenario(settings, gateway=gateway)
    scenario.online()
    gateway.push("news", seq_gap=7)
    scenario.run(25.0)
    assert len(scenario.of(events.RoundTrip)) == 2
    assert not scenario.of(events.EventsMissed)


def test_todays_gateway_refuses_the_original_request_and_it_is_not_repeated() -> None:
    """wire.md 10."""
    scenario = Scenario(Settings(dialect=Dialect.OPENBUTTER_V1, token=TOKEN))
    gave_up = scenario.until(events.GaveUp)
    assert "client/id" in str(gave_up.ending)
    assert "gateway-v4" in gave_up.advice
    scenario.run(3600.0)
    assert scenario.machine.stats.attempts == 1


# --- peers that mean no good --------------------------------------------------------------------


def test_an_answer_to_a_request_that_has_not_left_keeps_it_from_leaving() -> None:
    """Ids can be guessed: what was refused must not be executed afterwards."""
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO))
    request_id = scenario.request("chat.send", {"secret-marker": 1})
    refusal = text({"type": "res", "id": request_id, "ok": False, "error": {"code": "X"}})
    scenario.machine.receive_data(1, refusal, scenario.now)
    (failed,) = [event for event in drain(scenario) if isinstance(event, events.RequestFailed)]
    assert failed.delivery is Delivery.REFUSED
    assert scenario.machine.data_to_send(1) == b""


def test_a_huge_refusal_is_remembered_by_its_short_details_alone() -> None:
    details = {
        "code": "PAIRING_REQUIRED",
        "requestId": "r",
        "noise": "x" * 100_000,
        "list": [1] * 1000,
    }
    scenario = by_hand(Settings(token=TOKEN, limits=Limits(max_message=10**6)))
    play(scenario, challenge())
    refusal = {"type": "res", "id": "1", "ok": False, "error": {"code": "C", "details": details}}
    play(scenario, long_text(refusal))
    ending = scenario.machine.last_ending
    assert ending is not None
    assert ending.error is not None
    assert ending.error.details == {"code": "PAIRING_REQUIRED", "requestId": "r"}
    assert scenario.machine.state.value == "waiting"


def test_the_details_of_a_huge_refusal_may_be_anything() -> None:
    scenario = by_hand()
    play(scenario, challenge())
    error = {"code": "C", "details": ["x" * 100_000]}
    play(scenario, long_text({"type": "res", "id": "1", "ok": False, "error": error}))
    ending = scenario.machine.last_ending
    assert ending is not None
    assert ending.error == GatewayError("C", "no message")


def long_text(message: object) -> bytes:
    """Make a frame with a 64-bit length."""
    payload = json.dumps(message).encode()
    return b"\x81\x7f" + len(payload).to_bytes(8) + payload


def test_what_a_hello_echoes_of_the_token_is_not_shown() -> None:
    scenario = by_hand()
    echo = {
        "type": "hello-ok",
        "server": {"version": TOKEN, "bootId": f"b-{TOKEN}"},
        "auth": {"method": TOKEN, "scopes": [TOKEN]},
    }
    event = {"type": "event", "event": f"e-{TOKEN}", "seq": 1}
    play(scenario, challenge(), hello(echo), text(event), text(event | {"seq": 2}))
    told = drain(scenario)
    assert TOKEN not in repr(told)
    names = [event.name for event in told if isinstance(event, events.GatewayEvent)]
    assert names == ["e-***", "e-***"]


def test_names_of_events_are_remembered_only_up_to_a_number() -> None:
    scenario = by_hand()
    play(scenario, challenge(), hello(HELLO))
    for number in range(1, 1100):
        play(scenario, text({"type": "event", "event": f"e{number}", "seq": number}))
    names = [event.name for event in drain(scenario) if isinstance(event, events.GatewayEvent)]
    assert names == [f"e{number}" for number in range(1, 1100)]
