"""What the packages do alike over real sockets: waiting, requests, streams, the hook, the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import attrs
import pytest

from butter_proto.errors import (
    ConnectionEnded,
    ConnectTimeout,
    Delivery,
    EndKind,
    GatewayError,
    GaveUp,
    InvalidParams,
    InvalidSettings,
    MessageTooLarge,
    NotOnline,
    PendingFull,
    RequestMayHaveExecuted,
    RequestRefused,
    RequestTimeout,
)
from butter_proto.events import (
    Connecting,
    EventsMissed,
    GatewayEvent,
    MissReason,
    Offline,
    Online,
    PairingRequired,
    Policy,
    Retrying,
    RoundTrip,
    ScopesReduced,
    Stopped,
)
from butter_proto.events import GaveUp as GaveUpEvent
from butter_proto.identity import Identity
from butter_proto.machine import State
from butter_proto.settings import Dialect, Framing, Limits, Settings
from butter_proto.testing import StandInGateway
from tests.adapters.gateway_side import Relay, unanswered
from tests.adapters.scenario import (
    PATIENT,
    QUICK,
    TOKEN,
    Unanswered,
    eventually,
    rest_of,
    until,
)
from tests.adapters.subject import PATIENCE, FullClient, FullSubject
from tests.adapters.subjects import FULL

WRONG_TOKEN = GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"})


class Oops(Exception):
    """What a test raises itself."""


@pytest.fixture(params=FULL)
def subject(request: pytest.FixtureRequest) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


# --- connect --------------------------------------------------------------------------------


def test_connect_returns_when_online(subject: FullSubject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        assert client.state is State.ONLINE
        assert client.hello.protocol == 4
        assert client.hello.auth_method == "token"
        assert str(client.endpoint) == f"{url}/"
        assert client.retry_at is None
        assert client.last_ending is None


def test_without_waiting_connect_returns_at_once_and_wait_online_waits(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.stall()
    with subject.connect(url, token=TOKEN, wait=False) as client:
        assert client.state is State.CONNECTING
        with pytest.raises(NotOnline):
            _ = client.hello
        with pytest.raises(NotOnline):
            client.request("health")
        stand_in.resume()
        assert client.wait_online() is client.hello


def test_connect_times_out_with_the_last_ending(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.refuse_upgrade_next(503, times=1000)
    with (
        pytest.raises(ConnectTimeout, match=r"not online after 0\.3 s") as caught,
        subject.connect(url, token=TOKEN, settings=QUICK, timeout=0.3),
    ):
        raise AssertionError
    assert caught.value.ending is not None
    assert caught.value.ending.http_status == 503


def test_connect_times_out_without_an_ending_where_no_attempt_had_one(
    subject: FullSubject,
) -> None:
    with (
        unanswered() as nowhere,
        pytest.raises(ConnectTimeout) as caught,
        subject.connect(nowhere, timeout=0.1),
    ):
        raise AssertionError
    assert caught.value.ending is None


def test_without_a_timeout_connect_waits_on(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.refuse_upgrade_next(503, times=5)
    with subject.connect(url, token=TOKEN, settings=QUICK, timeout=None) as client:
        assert client.stats.attempts == 6


def test_settings_that_cannot_work_are_raised_before_anything_is_dialed(
    subject: FullSubject,
) -> None:
    with pytest.raises(InvalidSettings), subject.connect("http://127.0.0.1:1"):
        raise AssertionError


def test_messages_instead_of_bytes_are_refused_before_anything_is_dialed(
    subject: FullSubject,
) -> None:
    settings = Settings(framing=Framing.MESSAGES)
    with (
        pytest.raises(InvalidSettings, match="moves bytes"),
        subject.connect("ws://127.0.0.1:1", settings=settings),
    ):
        raise AssertionError


def test_the_token_goes_before_that_of_the_settings(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.legacy = True
    settings = Settings(token="wrong", dialect=Dialect.OPENBUTTER_V1)
    with subject.connect(url, token=TOKEN, settings=settings):
        assert stand_in.received[0].params["client"]["id"] == "openbutter"


def test_wait_online_of_no_time_tells_whether_it_is(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        client.wait_online(0)
        states = client.states()
        stand_in.drop()
        until(states, Retrying)
        with pytest.raises(ConnectTimeout) as caught:
            client.wait_online(0)
        assert caught.value.ending is not None
        assert caught.value.ending.kind is EndKind.END_OF_STREAM


def test_wait_online_after_giving_up_raises_until_told_to_try_again(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.refuse_next(WRONG_TOKEN)
    with subject.connect(url, token=TOKEN, wait=False) as client:
        for _ in range(2):
            with pytest.raises(GaveUp, match="token") as caught:
                client.wait_online()
            assert caught.value.advice
            assert client.state is State.BLOCKED
        with pytest.raises(GaveUp):
            client.events().get()
        client.reconnect_now()
        client.wait_online()


# --- requests -------------------------------------------------------------------------------


def test_a_final_reply_is_waited_for_past_the_interim_one(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.reply("agent", {"status": "ok"}, interim={"status": "accepted"}, delay=0.05)
    with subject.connect(url, token=TOKEN) as client:
        assert client.request("agent") == {"status": "accepted"}
        assert client.request("agent", final=True) == {"status": "ok"}


def test_a_request_that_cannot_be_written_is_refused_here(subject: FullSubject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(InvalidParams):
            client.request("echo", object())
        with pytest.raises(InvalidParams, match="timeout"):
            client.request("echo", timeout=-1)
        assert client.request("echo", 1) == 1


def test_a_request_above_the_gateways_limit_never_leaves(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.policy = Policy(1000, None, 30.0)
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(MessageTooLarge):
            client.request("echo", "x" * 1000)
        assert client.request("echo", "x" * 100) == "x" * 100


def test_a_request_beyond_the_places_is_refused_here_and_cancelling_gives_one_back(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")
    settings = Settings(limits=Limits(max_pending=1))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        for _ in range(5):
            asked = client.submit("slow")
            slow.wait()
            with pytest.raises(PendingFull):
                client.request("slow")
            assert asked.cancel()
        assert client.request("echo", 1) == 1


def test_without_a_deadline_a_request_waits_on(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.reply("slow", "late", delay=0.2)
    settings = Settings(timeouts=attrs.evolve(Settings().timeouts, request=0.05))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        with pytest.raises(RequestTimeout) as caught:
            client.request("slow")
        assert caught.value.delivery is Delivery.MAY_HAVE_EXECUTED
        assert client.request("slow", timeout=None) == "late"


def test_a_refusal_names_the_request_and_keeps_the_gateways_error(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    busy = GatewayError("UNAVAILABLE", "later", retryable=True, retry_after=2.0)
    stand_in.reply("busy", busy, payload={"queued": 3})
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(RequestRefused) as caught:
            client.request("busy", {"idempotencyKey": "key-1"})
        refused = caught.value
        assert refused.error == busy
        assert (refused.method, refused.idempotency_key) == ("busy", "key-1")
        assert refused.payload == {"queued": 3}


def test_a_result_that_is_there_is_not_cancelled(subject: FullSubject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        asked = client.submit("echo", 1)
        assert asked.result(PATIENCE) == 1
        assert not asked.cancel()


# --- events ---------------------------------------------------------------------------------


def test_events_before_the_subscription_are_not_told(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        everything = client.events()
        stand_in.push("chat", "before")
        assert everything.get().payload == "before"
        chats = client.events("chat")
        stand_in.push("agent", "another name")
        stand_in.push("chat", "after")
        assert chats.get().payload == "after"


def test_a_slow_reader_is_told_how_many_events_it_lost(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        events, last = client.events("chat", limit=2), client.events("last")
        for n in range(5):
            stand_in.push("chat", n)
        stand_in.push("last")
        last.get()
        assert [events.get().payload for _ in range(2)] == [0, 1]
        assert events.get() == EventsMissed(MissReason.OVERFLOW, 3)
        stand_in.push("chat", "after")
        assert events.get().payload == "after"


def test_the_size_of_what_waits_for_a_reader_is_bounded_by_the_settings(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    settings = Settings(limits=Limits(max_event_bytes=5000))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        events, last = client.events("chat"), client.events("chat", "last")
        for _ in range(20):
            stand_in.push("chat", "x" * 1000)
            last.get()
        taken = [events.get() for _ in range(6)]
        assert [type(item) for item in taken] == [GatewayEvent] * 5 + [EventsMissed]


def test_a_gap_is_told_before_the_event_that_shows_it(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        events = client.events("chat")
        stand_in.push("chat", 1, seq_gap=3)
        assert events.get() == EventsMissed(MissReason.GAP, 3)
        assert events.get().payload == 1


def test_a_stream_that_was_closed_ends_after_what_it_holds(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        events, other = client.events("chat"), client.events("chat")
        stand_in.push("chat", "held")
        other.get()
        events.close()
        stand_in.push("chat", "after")
        other.get()
        assert [event.payload for event in rest_of(events)] == ["held"]


def test_the_events_end_at_close_after_what_they_hold(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        events, other = client.events("chat"), client.events("chat")
        stand_in.push("chat", "last")
        other.get()
    assert [event.payload for event in rest_of(events)] == ["last"]


def test_a_limit_under_one_is_refused(subject: FullSubject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client, pytest.raises(InvalidSettings):
        client.events(limit=0)


# --- states and notices ---------------------------------------------------------------------


def test_states_begin_with_the_present_one_and_end_with_stopped(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        states = client.states()
        assert isinstance(states.get(), Online)
        stand_in.drop()
        seen = [type(states.get()) for _ in range(4)]
        assert seen == [Offline, Retrying, Connecting, Online]
    assert [type(state) for state in rest_of(states)] == [Offline, Stopped]


def test_giving_up_is_told_to_who_watches_the_states(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.refuse_next(WRONG_TOKEN)
    with subject.connect(url, token=TOKEN, wait=False) as client:
        assert "token" in until(client.states(), GaveUpEvent).advice


def test_reconnect_now_ends_a_backoff(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        states = client.states()
        stand_in.drop()
        until(states, Retrying)
        assert client.state is State.WAITING
        assert client.retry_at is not None
        client.reconnect_now()
        client.wait_online()
        assert client.retry_at is None


def test_a_probe_is_answered_at_once_and_tells_its_round_trip(
    subject: FullSubject, url: str
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        notices = client.notices()
        client.probe()
        notice = notices.get()
        assert isinstance(notice, RoundTrip)
        assert 0 <= notice.seconds < PATIENCE
        assert client.stats.probes == 1


def test_scopes_that_were_not_granted_are_told_to_who_asks_later(
    subject: FullSubject, url: str
) -> None:
    settings = Settings(identity=Identity("test", "backend"))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        reduced = client.notices().get()
        assert isinstance(reduced, ScopesReduced)
        assert reduced.missing == ("operator.read", "operator.write")


def test_a_pairing_request_stands_until_the_device_is_in(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    details = {"code": "PAIRING_REQUIRED", "requestId": "r-1"}
    stand_in.refuse_next(GatewayError("NOT_PAIRED", "wait", details))
    with subject.connect(url, token=TOKEN, wait=False) as client:
        until(client.states(), Retrying)
        notice = client.notices().get()
        assert isinstance(notice, PairingRequired)
        assert notice.request_id == "r-1"
        client.reconnect_now()
        client.wait_online()
        notices = client.notices()
        client.probe()
        assert isinstance(notices.get(), RoundTrip)


def test_the_counters_count(subject: FullSubject, url: str, stand_in: StandInGateway) -> None:
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        states, events = client.states(), client.events("chat")
        stand_in.push("chat")
        events.get()
        stand_in.drop()
        until(states, Offline)
        until(states, Online)
        stats = client.stats
        assert (stats.attempts, stats.online, stats.disconnects, stats.events) == (2, 2, 1, 1)


# --- the hook -------------------------------------------------------------------------------


def test_the_hook_is_done_before_connect_returns_and_again_after_each_reconnect(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    done: list[int] = []

    def hook(client: FullClient) -> None:
        done.append(client.request("echo", len(done)))

    with subject.connect(url, token=TOKEN, settings=QUICK, on_online=hook) as client:
        assert done == [0]
        states = client.states()
        for runs in (2, 3):
            stand_in.drop()
            until(states, Offline)
            client.wait_online()
            assert len(done) == runs


def test_requests_go_on_while_the_hook_runs(subject: FullSubject, url: str) -> None:
    go_on = threading.Event()

    def hook(_: FullClient) -> None:
        assert go_on.wait(PATIENCE)

    with subject.connect(url, token=TOKEN, on_online=hook, wait=False) as client:
        until(client.states(), Online)
        assert client.request("echo", 1) == 1
        with pytest.raises(ConnectTimeout, match="on_online has not finished"):
            client.wait_online(0)
        go_on.set()
        client.wait_online()


def test_a_hook_that_a_drop_interrupts_runs_again_and_is_not_reported(
    subject: FullSubject, url: str, stand_in: StandInGateway, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Unanswered(stand_in, "subscribe")
    begun = []

    def hook(client: FullClient) -> None:
        begun.append(client)
        client.request("subscribe", timeout=None)

    with subject.connect(url, token=TOKEN, settings=QUICK, on_online=hook, wait=False) as client:
        slow.wait()
        stand_in.reply("subscribe", "ok")
        stand_in.drop()
        client.wait_online()
        assert len(begun) == 2
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_hook_that_raises_is_reported_once_and_counts_as_done(
    subject: FullSubject, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(_: FullClient) -> None:
        raise Oops

    with subject.connect(url, token=TOKEN, on_online=hook) as client:
        assert client.request("echo", 1) == 1
    [report] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert report.name == subject.logger
    assert report.exc_info is not None
    assert report.exc_info[0] is Oops


def test_a_hook_that_hangs_is_bounded_by_the_timeout(subject: FullSubject, url: str) -> None:
    go_on = threading.Event()

    def hook(_: FullClient) -> None:
        go_on.wait(PATIENCE)

    with (
        pytest.raises(ConnectTimeout, match="on_online has not finished"),
        subject.connect(url, token=TOKEN, on_online=hook, timeout=0.2),
    ):
        raise AssertionError
    go_on.set()


# --- the log --------------------------------------------------------------------------------


def test_each_state_change_is_one_line_in_the_log_and_no_line_has_a_secret(
    subject: FullSubject, url: str, stand_in: StandInGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, subject.logger)
    with subject.connect(f"{url}/?token={TOKEN}", settings=QUICK) as client:
        states = client.states()
        client.request("echo", {"key": "pr1vate"})
        stand_in.drop()
        until(states, Offline)
        until(states, Online)
    lines = [record.getMessage() for record in caplog.records if record.name == subject.logger]
    told = [line.partition(": ") for line in lines]
    assert [where for where, _, _ in told] == ["transport 1"] * 4 + ["transport 2"] * 4
    beginnings = ("connecting", "online", "offline", "the stream ended")
    for (_, _, what), beginning in zip(
        told, (*beginnings, *beginnings[:3], "stopped"), strict=True
    ):
        assert what.startswith(beginning)
    assert "pr1vate" not in caplog.text
    assert TOKEN not in caplog.text


# --- the end --------------------------------------------------------------------------------


def test_closing_wakes_every_waiter(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")
    outcomes: Future[list[object]] = Future()
    with subject.connect(url, token=TOKEN) as client:
        events, states = client.events(), client.states()

        def read_both() -> None:
            outcomes.set_result([rest_of(events), rest_of(states)])

        reader = threading.Thread(target=read_both)
        reader.start()
        asked = client.submit("slow", timeout=None)
        slow.wait()
    with pytest.raises(RequestMayHaveExecuted, match="stopped"):
        asked.result(PATIENCE)
    told, seen = outcomes.result(PATIENCE)
    reader.join()
    assert told == []
    assert [type(state) for state in seen] == [Online, Offline, Stopped]  # type: ignore[attr-defined]


def test_closing_wakes_who_waits_to_be_online(subject: FullSubject) -> None:
    outcome: Future[BaseException] = Future()
    waiting = threading.Event()
    with unanswered() as nowhere, subject.connect(nowhere, wait=False) as client:

        def wait() -> None:
            waiting.set()
            with pytest.raises(ConnectionEnded) as caught:
                client.wait_online(None)
            outcome.set_result(caught.value)

        waiter = threading.Thread(target=wait)
        waiter.start()
        waiting.wait(PATIENCE)
    assert "stopped" in str(outcome.result(PATIENCE))
    waiter.join()


def test_after_the_block_nothing_can_be_asked_and_nothing_hangs(
    subject: FullSubject, url: str
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        pass
    assert client.state is State.STOPPED
    client.probe()
    client.reconnect_now()
    with pytest.raises(NotOnline):
        client.request("health")
    with pytest.raises(ConnectionEnded, match="stopped"):
        client.wait_online()
    assert rest_of(client.states()) == [Stopped()]
    assert rest_of(client.events()) == []
    assert rest_of(client.notices()) == []


def test_leaving_normally_waits_for_a_silent_gateway_no_longer_than_the_setting(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    settings = Settings(timeouts=attrs.evolve(Settings().timeouts, close=0.1))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        states = client.states()
        stand_in.stall()
    assert isinstance(rest_of(states)[-1], Stopped)


def test_leaving_by_an_exception_aborts(
    subject: FullSubject, relay: Relay, stand_in: StandInGateway
) -> None:
    settings = Settings(timeouts=attrs.evolve(Settings().timeouts, close=60))

    def body() -> None:
        with subject.connect(relay.url, token=TOKEN, settings=settings):
            stand_in.stall()  # it would wait for a minute
            raise Oops

    with pytest.raises(Oops):
        body()
    assert relay.close_code is None
    stand_in.resume()
    eventually(lambda: stand_in.online_peers == 0)
