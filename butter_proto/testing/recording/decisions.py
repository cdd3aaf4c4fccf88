"""What a machine decided, as short JSON: the time line, and what a replay is compared by.

Rules kept here:

* Kinds, names, ids, numbers and sizes; never a payload, and no free text. Endings are told by what
  `reconnect.decide` may have decided by.
"""

from __future__ import annotations

from typing import Any, Final

from butter_proto import events
from butter_proto.errors import Ending
from butter_proto.machine import Command, Message, Ping, Text
from butter_proto.testing.recording.turn import Decision

EVENT: Final = "event"
COMMAND: Final = "command"
SENT: Final = "sent"
MESSAGE: Final = "message"
DUE: Final = "due"


def of_command(command: Command) -> Decision:
    """Tell a command."""
    return [COMMAND, type(command).__name__, {"transport": command.id}]


def of_bytes(transport_id: int, data: bytes) -> Decision:
    """Tell what was handed out."""
    return [SENT, transport_id, len(data)]


def of_message(transport_id: int, message: Message) -> Decision:
    """Tell a message that was handed out."""
    match message:
        case Text(text):
            size = len(text.encode())
        case Ping(payload):
            size = len(payload)
        case _:
            size = message.code
    return [MESSAGE, transport_id, type(message).__name__, size]


def of_due(due: float | None) -> Decision:
    """Tell when the machine wants to be woken."""
    return [DUE, due]


def of_event(event: events.Event) -> Decision:
    """Tell an event."""
    return [EVENT, type(event).__name__, _told(event)]


def in_words(decision: Decision, *, exact: bool = False) -> str:
    """Say a decision in one line, with times to the millisecond, or ``exact``."""
    match decision:
        case ["event" | "command", name, {**told}]:
            fields = (f"{key}={_plain(value, exact=exact)}" for key, value in told.items())
            return " ".join((name, *fields))
        case ["sent", transport_id, size]:
            return f"sent {size} bytes to {transport_id}"
        case ["message", transport_id, name, size]:
            return f"sent {name} {size} to {transport_id}"
    due = decision[1]
    return "no wake-up" if due is None else f"wake-up at {_plain(due, exact=exact)} s"


def _plain(value: Any, *, exact: bool) -> str:
    return f"{value:.3f}" if isinstance(value, float) and not exact else str(value)


def _told(event: events.Event) -> dict[str, Any]:  # noqa: PLR0911 - one line a type
    match event:
        case events.Connecting(attempt, transport_id):
            return {"attempt": attempt, "transport": transport_id}
        case events.Online(_, resync, boot_changed, transport_id):
            return {"transport": transport_id, "resync": resync, "boot_changed": boot_changed}
        case events.Offline(ending):
            return _ending(ending)
        case events.Retrying(ending, attempt, delay):
            return {"attempt": attempt, "delay": delay, **_ending(ending)}
        case events.GaveUp(ending):
            return _ending(ending)
        case events.RequestAccepted(request_id, _, size) | events.Replied(request_id, _, size):
            return {"request": request_id, "size": size}
        case events.RequestFailed():
            return _failed(event)
        case events.GatewayEvent(name, _, seq, _, size):
            return {"name": name, "seq": seq, "size": size}
        case _:
            return _notice(event)


def _notice(event: events.Event) -> dict[str, Any]:  # noqa: PLR0911 - one line a type
    match event:
        case events.EventsMissed(reason, count):
            return {"reason": reason.name, "count": count}
        case events.ScopesReduced():
            return {"missing": len(event.missing)}
        case events.PairingRequired(request_id):
            return {"request": request_id}
        case events.DeviceTokenIssued(transport_id, tokens):
            return {"transport": transport_id, "roles": [role for role, _ in tokens]}
        case events.DeviceTokenNotStored(timed_out):
            return {"timed_out": timed_out}
        case events.DeviceTokenRejected(transport_id, role):
            return {"transport": transport_id, "role": role}
        case events.ClockLate(seconds) | events.RoundTrip(seconds):
            return {"seconds": seconds}
    return {}


def _failed(event: events.RequestFailed) -> dict[str, Any]:
    told: dict[str, Any] = {"request": event.id, "delivery": event.delivery.name}
    if event.timed_out:
        told["timed_out"] = True
    if event.error is not None:
        told["code"] = event.error.code
    if event.ending is not None:
        told["ending"] = event.ending.kind.name
    return told


def _ending(ending: Ending) -> dict[str, Any]:
    error, fault = ending.error, ending.fault
    told = {
        "ending": ending.kind.name,
        "code": None if error is None else error.code,
        "detail": None if error is None else error.detail_code or error.detail_reason,
        "fault": None if fault is None else fault.kind.name,
        "close_code": ending.close_code,
        "status": ending.http_status,
        "retry_after": ending.retry_after,
    }
    return {name: value for name, value in told.items() if value is not None}
