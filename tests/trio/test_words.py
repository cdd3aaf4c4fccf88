"""What an operator reads: every ending has its advice, and nothing reaches the terminal raw."""

from __future__ import annotations

import pytest

from butter_proto import events
from butter_proto.errors import ConnectTimeout, Ending, EndKind, GatewayError, GaveUp
from butter_proto.events import EventsMissed, MissReason, Notice
from butter_trio.words import explain, explain_failure, notable, trouble

LOST = Ending(EndKind.END_OF_STREAM, online=True)
REFUSED = Ending(
    EndKind.CONNECT_REFUSED,
    error=GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"}),
)


@pytest.mark.parametrize("kind", EndKind)
def test_every_ending_is_explained_with_something_to_do(kind: EndKind) -> None:
    error = GatewayError("UNAVAILABLE", "no") if kind is EndKind.CONNECT_REFUSED else None
    text = explain(Ending(kind, error=error))
    assert text.startswith(kind.value)
    assert text.endswith((".", "?"))
    assert len(text) > len(kind.value) + 10


def test_a_refusal_is_explained_by_the_reconnect_table() -> None:
    assert "gateway.auth.token" in explain(REFUSED)


def test_giving_up_brings_its_own_advice() -> None:
    assert explain_failure(GaveUp(REFUSED, "Do this.")).endswith("no. Do this.")


def test_a_timeout_is_explained_by_its_last_ending() -> None:
    text = explain_failure(ConnectTimeout(f"not online after 3 s: {REFUSED}", REFUSED))
    assert text.count("AUTH_TOKEN_MISMATCH") == 1
    assert "gateway.auth.token" in text


def test_a_timeout_without_an_ending_still_says_what_to_do() -> None:
    text = explain_failure(ConnectTimeout("not online after 3 s"))
    assert text.startswith("not online after 3 s. ")
    assert text.endswith("ws:// or wss:// right?")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (events.Retrying(LOST, 1, 0.5), "offline: the stream ended"),
        (events.Retrying(REFUSED, 2, 0.5), "not connected: the gateway refused"),
        (EventsMissed(MissReason.GAP, 3), "missed 3 events: a gap in seq"),
        (EventsMissed(MissReason.RECONNECT), "missed some events: the connection was down"),
    ],
)
def test_trouble_is_told(event: events.Retrying | EventsMissed, text: str) -> None:
    assert (trouble(event) or "").startswith(text)


def test_what_is_no_trouble_is_not_told() -> None:
    for event in (events.Connecting(1, 1), events.Offline(LOST), events.Stopped()):
        assert trouble(event) is None


@pytest.mark.parametrize(
    ("notice", "text"),
    [
        (events.ScopesReduced(("a", "b"), ("a",)), "did not grant b"),
        (events.ClockLate(3.21), "held up for 3.2 s"),
        (events.PairingRequired("r-1", None, None, None), "devices approve r-1"),
        (events.PairingRequired(None, None, "scope-upgrade", None), "(scope-upgrade)"),
    ],
)
def test_notices_that_matter_are_told(notice: Notice, text: str) -> None:
    assert text in (notable(notice) or "")


def test_measurements_are_not_told() -> None:
    assert notable(events.RoundTrip(0.1)) is None
