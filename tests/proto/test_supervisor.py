"""Supervisor: what is remembered from one ending to the next."""

from __future__ import annotations

import attrs

from butter_proto import Action, Ending, EndKind, FaultKind, ReconnectSettings, TransportFault
from butter_proto.errors import GatewayError
from butter_proto.supervisor import Supervisor, pairing_of

CLOSED = Ending(EndKind.CLOSED_BY_PEER, close_code=1012, transport_opened=True, online=True)
NOT_WEBSOCKET = Ending(EndKind.NOT_WEBSOCKET, transport_opened=True)
BAD_CERTIFICATE = Ending(
    EndKind.TRANSPORT_FAILED, fault=TransportFault(FaultKind.CERTIFICATE, "expired")
)


def longest() -> Supervisor:
    return Supervisor(ReconnectSettings(), lambda: 1.0)


def pairing(request_id: str | None) -> Ending:
    details = {
        "code": "PAIRING_REQUIRED",
        "reason": "not-paired",
        "requestId": request_id,
        "deviceId": "d",
        "remediationHint": "Approve it.",
    }
    error = GatewayError("NOT_PAIRED", "pairing required", details)
    return Ending(EndKind.CONNECT_REFUSED, error=error, transport_opened=True)


def test_the_backoff_grows_while_connections_do_not_last() -> None:
    supervisor = longest()
    delays = [supervisor.on_ending(CLOSED, 100.0, 90.1).delay for _ in range(4)]
    assert delays == [1.0, 2.0, 4.0, 8.0]
    assert supervisor.next_attempt == 5


def test_the_backoff_starts_over_after_a_stable_time_online() -> None:
    """Lessons 1."""
    supervisor = longest()
    for _ in range(3):
        supervisor.on_ending(CLOSED, 100.0, None)
    assert supervisor.on_ending(CLOSED, 100.0, 90.0).delay == 1.0
    assert supervisor.next_attempt == 1
    assert supervisor.on_ending(CLOSED, 102.0, None).delay == 2.0
    assert supervisor.next_attempt == 2


def test_the_third_equal_answer_in_a_row_stops() -> None:
    supervisor = longest()
    actions = [supervisor.on_ending(NOT_WEBSOCKET, 0.0, None).action for _ in range(3)]
    assert actions == [Action.RETRY, Action.RETRY, Action.STOP]


def test_another_answer_or_a_hello_in_between_starts_the_row_anew() -> None:
    supervisor = longest()
    for _ in range(4):
        assert supervisor.on_ending(NOT_WEBSOCKET, 0.0, None).action is Action.RETRY
        assert supervisor.on_ending(NOT_WEBSOCKET, 0.0, None).action is Action.RETRY
        supervisor.on_ending(CLOSED, 0.0, None)
    supervisor.on_ending(NOT_WEBSOCKET, 0.0, None)
    supervisor.on_ending(NOT_WEBSOCKET, 0.0, None)
    supervisor.on_online()
    assert supervisor.on_ending(NOT_WEBSOCKET, 0.0, None).action is Action.RETRY


def test_starting_over_forgets_the_failures() -> None:
    supervisor = longest()
    for _ in range(3):
        supervisor.on_ending(NOT_WEBSOCKET, 0.0, None)
    supervisor.start_over()
    decision = supervisor.on_ending(NOT_WEBSOCKET, 0.0, None)
    assert (decision.action, decision.delay) == (Action.RETRY, 1.0)


def test_a_certificate_that_was_good_before_is_retried() -> None:
    supervisor = longest()
    assert supervisor.on_ending(BAD_CERTIFICATE, 0.0, None).action is Action.STOP
    supervisor.on_certificate_accepted()
    assert supervisor.on_ending(BAD_CERTIFICATE, 0.0, None).action is Action.RETRY


def test_a_rate_limit_binds_even_an_attempt_that_is_asked_for() -> None:
    """Lessons 14."""
    supervisor = longest()
    error = GatewayError("X", "limited", {"code": "AUTH_RATE_LIMITED"}, True, 299.0)
    ending = Ending(EndKind.CONNECT_REFUSED, error=error, retry_after=299.0)
    supervisor.on_ending(ending, 1000.0, None)
    assert supervisor.earliest(1001.0) == 1299.0
    supervisor.on_ending(CLOSED, 1300.0, None)
    assert supervisor.earliest(1301.0) == 1301.0


def test_a_pairing_request_is_told_once_and_again_when_its_id_changes() -> None:
    """Lessons 2."""
    supervisor = longest()
    told = [supervisor.is_new_pairing(pairing(name)) for name in ("a", "a", "b", "b", "a")]
    assert told == [True, False, True, False, True]
    assert attrs.astuple(pairing_of(pairing("a"))) == ("a", "d", "not-paired", "Approve it.")


def test_a_pairing_request_without_an_id_is_told_once_too() -> None:
    supervisor = longest()
    told = [supervisor.is_new_pairing(pairing(name)) for name in (None, None, "a", None)]
    assert told == [True, False, True, True]


def test_the_end_of_a_stable_time_online_is_no_failed_attempt() -> None:
    supervisor = Supervisor(ReconnectSettings(max_attempts=1), lambda: 1.0)
    assert supervisor.on_ending(CLOSED, 5000.0, 0.0).action is Action.RETRY
    assert supervisor.on_ending(CLOSED, 5001.0, None).action is Action.STOP


def test_a_hello_ends_a_pairing() -> None:
    supervisor = longest()
    supervisor.is_new_pairing(pairing("a"))
    supervisor.on_online()
    assert supervisor.is_new_pairing(pairing("a"))


def test_other_endings_are_no_pairing() -> None:
    assert not longest().is_new_pairing(CLOSED)
    other = GatewayError("X", "no", {"code": "AUTH_TOKEN_MISMATCH"})
    assert not longest().is_new_pairing(Ending(EndKind.CONNECT_REFUSED, error=other))
