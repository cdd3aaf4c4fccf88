"""The original connector's event names and payloads, for programs that were written for it.

Rules kept here:

* What the original told without a payload has None; times are in milliseconds, as they were there.
* Nothing is connected before hello: so ``connected`` and ``handshake`` come together, and
  ``disconnected`` only after them.
* An error is an exception that is not raised. Answers to requests are not told here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from butter_proto import events, frames
from butter_proto.errors import ButterError, ConnectionEnded, Ending, EndKind, GaveUp

NAMES: Final[Mapping[str, str]] = {
    "connected": "None; hello was accepted",
    "handshake": "the payload of hello-ok, a dict; right after `connected`",
    "disconnected": '`{"code": int, "reason": str}`; 1006 where no Close frame came',
    "heartbeat": "None; a probe was answered",
    "message": "a dict: an event of the gateway as the frame it was",
    "error": "an exception: why an attempt failed, or that messages were lost",
    "reconnecting": '`{"attempt": int, "delay": int, "url": str}`; the delay is in milliseconds',
    "reconnect_failed": "None; the `error` before it says why",
}
"""Each name and its payload."""

Emitted = tuple[str, Any]
"""A name and its payload."""
_NORMAL, _ABNORMAL = 1000, 1006


def emitted(event: events.Event, url: str) -> tuple[Emitted, ...]:
    """Return what the original would have told; ``url`` must hold no secret."""
    told: tuple[Emitted, ...] = ()
    match event:
        case events.GatewayEvent():
            message = frames.event_message(
                event.name, event.payload, event.seq, event.state_version
            )
            told = (("message", message),)
        case events.RoundTrip():
            told = (("heartbeat", None),)
        case events.Online(hello=hello):
            told = (("connected", None), ("handshake", hello.payload))
        case events.Offline(ending=ending):
            told = (("disconnected", _close(ending)),)
        case events.Retrying(ending=ending):
            again = {"attempt": event.attempt, "delay": round(event.delay * 1000), "url": url}
            told = (*_failed_attempt(ending), ("reconnecting", again))
        case events.GaveUp(ending=ending, advice=advice):
            told = (("error", GaveUp(ending, advice)), ("reconnect_failed", None))
        case events.EventsMissed(reason=reason, count=count):
            told = (("error", messages_missed(count, reason.value)),)
    return told


def taken_over() -> Emitted:
    """Return what comes before the ``connected`` of a pool's next primary.

    The original knew one connection, and programs end by ``disconnected`` what they began by
    ``connected``.
    """
    return "disconnected", {"code": _NORMAL, "reason": "another gateway takes over"}


def messages_missed(count: int | None, why: str) -> ButterError:
    """Make the error for messages that are lost."""
    return ButterError(f"{'some' if count is None else count} messages were missed: {why}")


def _close(ending: Ending) -> dict[str, Any]:
    if ending.close_code is not None:
        return {"code": ending.close_code, "reason": ending.close_reason}
    if ending.kind is EndKind.STOPPED:
        return {"code": _NORMAL, "reason": ""}
    return {"code": _ABNORMAL, "reason": str(ending)}


def _failed_attempt(ending: Ending) -> tuple[Emitted, ...]:
    return () if ending.online else (("error", ConnectionEnded(str(ending), ending)),)
