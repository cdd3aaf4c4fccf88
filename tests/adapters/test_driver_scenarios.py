"""What every adapter does over real sockets, the examples included: dials, reads, writes, ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trustme

from butter_proto.errors import (
    Delivery,
    EndKind,
    FaultKind,
    GatewayError,
    GaveUp,
    NotOnline,
    PendingFull,
    RequestMayHaveExecuted,
    RequestNotSent,
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
    Retrying,
)
from butter_proto.machine import State
from butter_proto.settings import MIB, Limits, Timeouts
from butter_proto.testing import StandInGateway
from butter_trio.serve import serve
from tests.adapters.gateway_side import Relay, relayed, silent, unanswered
from tests.adapters.scenario import QUICK, TOKEN, WATCHFUL, Unanswered, eventually, until
from tests.adapters.subject import PATIENCE, Subject
from tests.adapters.subjects import ALL, BYTES
from tests.adapters.worlds import TrioWorld, entered
from tests.tls import presenting, trusting

LARGE = "x" * (8 * MIB)
"""More than the buffers of a connection hold."""


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with ALL[request.param]() as subject:
        yield subject


# --- requests -------------------------------------------------------------------------------


def test_a_request_is_answered(subject: Subject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        assert client.state is State.ONLINE
        assert client.request("echo", {"n": 1}) == {"n": 1}


def test_a_refused_request_says_why(subject: Subject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(RequestRefused) as caught:
            client.request("models.delete")
        assert caught.value.delivery is Delivery.REFUSED
        assert caught.value.error is not None
        assert caught.value.error.detail_code == "MISSING_SCOPE"


def test_a_thousand_requests_at_once_are_all_answered(subject: Subject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        futures = [client.submit("echo", n) for n in range(1000)]
        assert [future.result(PATIENCE) for future in futures] == list(range(1000))


def test_answers_may_come_out_of_order(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")
    with subject.connect(url, token=TOKEN) as client:
        waiting = client.submit("slow")
        slow.wait()
        assert client.request("echo", "first") == "first"
        assert not waiting.done()


def test_a_request_has_its_own_deadline(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    Unanswered(stand_in, "slow")
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(RequestTimeout) as caught:
            client.request("slow", timeout=0.05)
        assert caught.value.delivery is Delivery.MAY_HAVE_EXECUTED
        assert client.request("echo", 1) == 1


def test_a_cancelled_request_that_has_not_left_never_leaves(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    settings = attrs.evolve(QUICK, limits=Limits(max_in_flight=1, max_pending=2))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        stand_in.stall()
        first = client.submit("echo", "first")
        cancelled = client.submit("echo", "cancelled")
        with pytest.raises(PendingFull):  # so both were accepted
            client.request("echo", "one too many")
        assert cancelled.cancel()
        last = client.submit("echo", "last")
        stand_in.resume()
        assert first.result(PATIENCE) == "first"
        assert last.result(PATIENCE) == "last"
        echoed = [request.params for request in stand_in.received if request.method == "echo"]
        assert echoed == ["first", "last"]


def test_the_late_answer_of_a_cancelled_request_reaches_nobody(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        stand_in.stall()
        future = client.submit("echo", "late")
        eventually(lambda: bool(stand_in._backlog))
        assert future.cancel()
        with pytest.raises(RequestTimeout):  # a later call: the cancellation has arrived
            client.request("echo", timeout=0.01)
        stand_in.resume()
        assert client.request("echo", 1) == 1
        assert client.stats.ignored_frames == 2


def test_a_request_before_the_first_hello_is_refused_here(subject: Subject) -> None:
    with (
        unanswered() as nowhere,
        subject.connect(nowhere, wait=False) as client,
        pytest.raises(NotOnline),
    ):
        client.request("health")


# --- large messages -------------------------------------------------------------------------


def test_a_large_request_and_its_large_reply_arrive_whole(subject: Subject, url: str) -> None:
    with subject.connect(url, token=TOKEN) as client:
        assert client.request("echo", LARGE) == LARGE


def test_a_blocked_write_holds_back_no_event_and_no_deadline(
    subject: Subject, relay: Relay, stand_in: StandInGateway
) -> None:
    with subject.connect(relay.url, token=TOKEN) as client:
        events = client.events("chat")
        relay.hold()
        large = client.submit("echo", LARGE)
        with pytest.raises(RequestTimeout) as caught:
            client.request("echo", "behind it", timeout=0.1)
        assert caught.value.delivery is Delivery.NOT_SENT
        stand_in.push("chat", "through")
        assert events.get().payload == "through"
        assert not large.done()
        relay.release()
        assert large.result(PATIENCE) == LARGE


# --- events ---------------------------------------------------------------------------------


def test_events_come_in_order_and_by_name(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN) as client:
        chats, everything = client.events("chat"), client.events()
        for n in range(100):
            stand_in.push("chat", n)
            stand_in.push("agent", n)
        assert [chats.get().payload for _ in range(100)] == list(range(100))
        mixed = [(event.name, event.payload) for event in (everything.get() for _ in range(200))]
        assert mixed == [(name, n) for n in range(100) for name in ("chat", "agent")]


def test_a_large_event_arrives_whole_before_the_close_behind_it(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        events, states = client.events("big"), client.states()
        stand_in.push("big", LARGE)
        stand_in.close(1012, "service restart")
        event = events.get()
        assert isinstance(event, GatewayEvent)
        assert event.payload == LARGE
        ending = until(states, Offline).ending
        assert (ending.kind, ending.close_code) == (EndKind.CLOSED_BY_PEER, 1012)


# --- drops ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["end of stream", "reset"])
def test_a_drop_is_told_and_the_connection_comes_back(
    subject: Subject, url: str, stand_in: StandInGateway, reset: bool
) -> None:
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        events, states = client.events("chat"), client.states()
        stand_in.push("chat", "before")
        assert events.get().payload == "before"
        stand_in.drop(reset=reset)
        seen = [states.get() for _ in range(5)]
        assert [type(state) for state in seen] == [Online, Offline, Retrying, Connecting, Online]
        assert not seen[0].resync
        assert seen[4].resync
        ending = seen[1].ending
        if reset:
            assert ending.fault is not None
            assert ending.fault.kind is FaultKind.RESET
        else:
            assert ending.kind is EndKind.END_OF_STREAM
        stand_in.push("chat", "after")
        assert events.get() == EventsMissed(MissReason.RECONNECT)
        assert events.get().payload == "after"
        assert client.request("echo", 1) == 1


def test_a_request_in_flight_at_a_drop_may_have_executed(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        asked = client.submit("slow", {"idempotencyKey": "key-1"})
        slow.wait()
        stand_in.drop()
        with pytest.raises(RequestMayHaveExecuted) as caught:
            asked.result(PATIENCE)
        assert caught.value.idempotency_key == "key-1"


def test_a_request_behind_it_was_not_sent(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")
    settings = attrs.evolve(QUICK, limits=Limits(max_in_flight=1, max_pending=2))
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        client.submit("slow")
        slow.wait()
        behind = client.submit("echo", "never sent")
        with pytest.raises(PendingFull):  # so it was accepted
            client.request("echo", "one too many")
        stand_in.drop()
        with pytest.raises(RequestNotSent):
            behind.result(PATIENCE)


def test_refused_dials_are_retried_until_the_restarted_gateway_listens(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        states = client.states()
        stand_in.restart("second", down=0.3, expected=None)
        assert until(states, Offline).ending.close_code == 1012
        until(states, Retrying)  # for that ending; the next ones are of dials
        fault = until(states, Retrying).ending.fault
        assert fault is not None
        assert fault.kind is FaultKind.REFUSED
        online = until(states, Online)
        assert online.boot_changed
        assert online.hello.boot_id == "second"


@pytest.mark.parametrize("name", ALL)
def test_probes_are_asked_and_answered(name: str, url: str, stand_in: StandInGateway) -> None:
    with (
        ALL[name]() as subject,
        subject.connect(url, token=TOKEN, settings=WATCHFUL) as client,
    ):
        eventually(lambda: client.stats.round_trip is not None)
    asked_by_request = "health" in [request.method for request in stand_in.received]
    assert asked_by_request == (name == "websockets, health")


def test_a_stalled_gateway_is_found_gone(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=WATCHFUL) as client:
        states = client.states()
        stand_in.stall()
        asked = client.submit("echo", "unheard")
        assert until(states, Offline).ending.kind is EndKind.SILENT_PEER
        with pytest.raises(RequestMayHaveExecuted, match="silent"):
            asked.result(PATIENCE)
        stand_in.resume()
        until(states, Online)
        assert client.stats.misses >= 2


def test_a_gateway_that_stops_reading_is_found_gone(subject: Subject, relay: Relay) -> None:
    with subject.connect(relay.url, token=TOKEN, settings=WATCHFUL) as client:
        states = client.states()
        relay.hold()
        asked = client.submit("echo", LARGE)
        assert until(states, Offline).ending.kind is EndKind.SILENT_PEER
        with pytest.raises(RequestMayHaveExecuted):
            asked.result(PATIENCE)
        relay.release()
        until(states, Online)


@pytest.mark.parametrize("name", BYTES)
def test_the_gateways_hint_is_read_from_a_refused_upgrade(
    name: str, url: str, stand_in: StandInGateway
) -> None:
    stand_in.refuse_upgrade_next(503, (("Retry-After", "7"),), b"starting")
    with BYTES[name]() as subject, subject.connect(url, token=TOKEN, wait=False) as client:
        ending = until(client.states(), Retrying).ending
        assert (ending.http_status, ending.retry_after) == (503, 7)
        assert ending.http_body == b"starting"


# --- ends -----------------------------------------------------------------------------------


def test_stopping_sends_close_1000(
    subject: Subject, relay: Relay, stand_in: StandInGateway
) -> None:
    with subject.connect(relay.url, token=TOKEN):
        assert stand_in.online_peers == 1
    eventually(lambda: stand_in.online_peers == 0)
    assert relay.close_code == 1000


def test_stopping_while_a_dial_hangs_cancels_it(subject: Subject) -> None:
    with unanswered() as nowhere, subject.connect(nowhere, wait=False) as client:
        assert client.state is State.CONNECTING


def test_a_dial_that_hangs_is_cancelled_in_time_and_tried_again(subject: Subject) -> None:
    settings = attrs.evolve(QUICK, timeouts=Timeouts(open=0.05))
    with unanswered() as nowhere, subject.connect(nowhere, settings=settings, wait=False) as client:
        states = client.states()
        for _ in range(2):
            assert until(states, Retrying).ending.kind is EndKind.OPEN_TIMEOUT


def test_leaving_by_an_exception_aborts_and_brings_it_out(
    subject: Subject, relay: Relay, stand_in: StandInGateway
) -> None:
    class Oops(Exception):
        pass

    with pytest.raises(Oops), subject.connect(relay.url, token=TOKEN):
        raise Oops
    eventually(lambda: stand_in.online_peers == 0)
    assert relay.close_code is None


def test_a_redirect_is_not_followed(
    subject: Subject, world: TrioWorld, url: str, stand_in: StandInGateway
) -> None:
    """The token would go wherever it leads."""
    elsewhere = StandInGateway()
    with entered(world, serve(elsewhere)) as other_url:
        where = other_url.replace("ws://", "http://")
        stand_in.refuse_upgrade_next(302, (("Location", where), ("Content-Length", "0")))
        with subject.connect(url, token=TOKEN, settings=QUICK) as client:
            assert client.request("echo", 1) == 1
    assert elsewhere.connections == 0


def test_a_wrong_token_gives_up_with_advice(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    with pytest.raises(GaveUp) as caught, subject.connect(url, token="wr0ng-token"):
        raise AssertionError
    assert "gateway.auth.token" in caught.value.advice
    assert "wr0ng" not in str(caught.value)
    assert stand_in.connections == 1


def test_the_events_raise_after_giving_up(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    wrong = GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"})
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        events = client.events("chat")
        stand_in.push("chat", "last")
        stand_in.refuse_next(wrong)
        stand_in.close(4001, "gateway auth changed")
        assert events.get().payload == "last"
        with pytest.raises(GaveUp):
            events.get()


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture
def tls_relay(world: TrioWorld, url: str, leaf: trustme.LeafCert) -> Iterator[Relay]:
    """A relay that speaks TLS, with a certificate for its address."""
    with relayed(world, url, presenting(leaf)) as relay:
        yield relay


def test_a_gateway_behind_tls_is_reached_and_comes_back_after_a_drop(
    subject: Subject, tls_relay: Relay, stand_in: StandInGateway, authority: trustme.CA
) -> None:
    options: dict[str, Any] = {"settings": QUICK, "ssl_context": trusting(authority)}
    with subject.connect(tls_relay.url, token=TOKEN, **options) as client:
        assert client.request("echo", LARGE) == LARGE
        states = client.states()
        stand_in.drop()
        assert until(states, Offline).ending.kind is EndKind.END_OF_STREAM
        until(states, Online)
        assert client.request("echo", 1) == 1
    assert tls_relay.close_code == 1000


@pytest.mark.parametrize("name", BYTES)  # a host's TLS may take whole messages
def test_a_blocked_write_behind_tls_holds_back_no_event(
    name: str, tls_relay: Relay, stand_in: StandInGateway, authority: trustme.CA
) -> None:
    context = trusting(authority)
    with (
        BYTES[name]() as subject,
        subject.connect(tls_relay.url, token=TOKEN, ssl_context=context) as client,
    ):
        events = client.events("chat")
        tls_relay.hold()
        large = client.submit("echo", LARGE)
        with pytest.raises(RequestTimeout) as caught:
            client.request("echo", "behind it", timeout=0.1)
        assert caught.value.delivery is Delivery.NOT_SENT
        stand_in.push("chat", "through")
        assert events.get().payload == "through"
        tls_relay.release()
        assert large.result(PATIENCE) == LARGE


def test_an_unknown_certificate_gives_up_before_a_byte_of_ours(
    subject: Subject, tls_relay: Relay, stand_in: StandInGateway
) -> None:
    with (
        pytest.raises(GaveUp) as caught,
        subject.connect(tls_relay.url, token=TOKEN, ssl_context=trusting(trustme.CA())),
    ):
        raise AssertionError
    ending = caught.value.ending
    assert ending is not None
    assert ending.fault is not None
    assert ending.fault.kind is FaultKind.CERTIFICATE
    assert not stand_in.received


def test_a_tls_handshake_that_hangs_counts_into_the_limit_of_opening(subject: Subject) -> None:
    settings = attrs.evolve(QUICK, timeouts=Timeouts(open=0.1))
    with silent() as url, subject.connect(url, settings=settings, wait=False) as client:
        assert until(client.states(), Retrying).ending.kind is EndKind.OPEN_TIMEOUT
