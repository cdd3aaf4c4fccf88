"""The original's names and payloads, one of our events after the other."""

from __future__ import annotations

import pytest

from butter_proto import events
from butter_proto.emitter import NAMES, emitted, taken_over
from butter_proto.errors import (
    ButterError,
    ConnectionEnded,
    Ending,
    EndKind,
    FaultKind,
    GaveUp,
    TransportFault,
)
from butter_proto.handshake import read_hello
from butter_proto.settings import Dialect

URL = "ws://gateway.local/"
HELLO = {"type": "hello-ok", "protocol": 4}
REFUSED = Ending(EndKind.TRANSPORT_FAILED, fault=TransportFault(FaultKind.REFUSED, "no"))
LOST = Ending(EndKind.END_OF_STREAM, online=True)
CLOSED = Ending(EndKind.CLOSED_BY_PEER, close_code=1012, close_reason="service restart")
STOPPED = Ending(EndKind.STOPPED, online=True)


def online() -> events.Online:
    hello = read_hello(HELLO, Dialect.GATEWAY_V4)
    assert hello is not None
    return events.Online(hello, resync=False, boot_changed=False)


def test_online_is_connected_and_handshake() -> None:
    assert emitted(online(), URL) == (("connected", None), ("handshake", HELLO))


@pytest.mark.parametrize(
    ("ending", "payload"),
    [
        (CLOSED, {"code": 1012, "reason": "service restart"}),
        (LOST, {"code": 1006, "reason": "the stream ended"}),
        (STOPPED, {"code": 1000, "reason": ""}),
    ],
)
def test_offline_is_disconnected_with_a_code_and_a_reason(
    ending: Ending, payload: dict[str, object]
) -> None:
    assert emitted(events.Offline(ending), URL) == (("disconnected", payload),)


def test_a_retry_after_being_online_is_reconnecting_alone_in_milliseconds() -> None:
    again = {"attempt": 2, "delay": 1235, "url": URL}
    assert emitted(events.Retrying(LOST, 2, 1.2346), URL) == (("reconnecting", again),)


def test_an_attempt_that_failed_is_an_error_first() -> None:
    (name, error), (again, _) = emitted(events.Retrying(REFUSED, 3, 1.0), URL)
    assert (name, again) == ("error", "reconnecting")
    assert isinstance(error, ConnectionEnded)
    assert error.ending is REFUSED


def test_giving_up_is_an_error_with_its_advice_and_reconnect_failed() -> None:
    (name, error), last = emitted(events.GaveUp(REFUSED, "Start it."), URL)
    assert (name, last) == ("error", ("reconnect_failed", None))
    assert isinstance(error, GaveUp)
    assert error.advice == "Start it."


def test_an_event_of_the_gateway_is_the_message_it_was() -> None:
    event = events.GatewayEvent("health", {"ok": True}, 7, {"health": 2}, 99)
    message = {
        "type": "event",
        "event": "health",
        "payload": {"ok": True},
        "seq": 7,
        "stateVersion": {"health": 2},
    }
    assert emitted(event, URL) == (("message", message),)
    plain = {"type": "event", "event": "tick", "payload": None}
    assert emitted(events.GatewayEvent("tick", None), URL) == (("message", plain),)


def test_an_answered_probe_is_a_heartbeat() -> None:
    assert emitted(events.RoundTrip(0.1), URL) == (("heartbeat", None),)


@pytest.mark.parametrize(("count", "word"), [(3, "3 messages"), (None, "some messages")])
def test_a_loss_is_an_error(count: int | None, word: str) -> None:
    ((name, error),) = emitted(events.EventsMissed(events.MissReason.GAP, count), URL)
    assert name == "error"
    assert isinstance(error, ButterError)
    assert word in str(error)


@pytest.mark.parametrize(
    "event",
    [
        events.Connecting(1, 1),
        events.Stopped(),
        events.Replied("1", None),
        events.ClockLate(2.0),
    ],
)
def test_what_the_original_did_not_tell_is_not_told(event: events.Event) -> None:
    assert emitted(event, URL) == ()


def test_every_name_is_told_by_something() -> None:
    told = [
        *emitted(online(), URL),
        *emitted(events.Offline(LOST), URL),
        *emitted(events.Retrying(REFUSED, 1, 1.0), URL),
        *emitted(events.GaveUp(REFUSED, ""), URL),
        *emitted(events.RoundTrip(0.1), URL),
        *emitted(events.GatewayEvent("tick", None), URL),
    ]
    assert {name for name, _ in told} == set(NAMES)


def test_where_another_gateway_takes_over_the_connection_before_is_told_to_have_ended() -> None:
    assert taken_over() == (
        "disconnected",
        {"code": 1000, "reason": "another gateway takes over"},
    )
