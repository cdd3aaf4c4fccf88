"""What a request gets after hello: a scripted reply, a built-in one or a refusal (wire.md 8).

Rules kept here:

* Order: ``connect`` again, unknown method, missing scope, then the reply.
* A method is known when it is built in or scripted; a scripted reply replaces a built-in one.
* ``echo`` is the stand-in's own: it returns its params. No gateway has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from butter_proto.errors import GatewayError
from butter_proto.frames import METHOD_CONNECT, METHOD_HEALTH
from butter_proto.testing.hello import SERVER_VERSION, health
from butter_proto.testing.server_frames import Answer

Scripted = Any | GatewayError | Callable[[Any], Any]

ADMIN: Final = "operator.admin"
_READ: Final = "operator.read"
_WRITE: Final = "operator.write"
BUILT_IN: Final = (METHOD_HEALTH, "status", "echo")
_SCOPES: Final = {
    "status": _READ,
    "agents.list": _READ,
    "models.list": _READ,
    "chat.history": _READ,
    "chat.send": _WRITE,
    "chat.abort": _WRITE,
    "sessions.list": _READ,
    "sessions.subscribe": _READ,
    "sessions.messages.subscribe": _READ,
}
"""The scope a method needs; methods that are not listed need none."""

BUSY: Final = GatewayError(
    "UNAVAILABLE", "The server is busy. Please try again in a moment.", retryable=True
)
"""For requests beyond the number that may be in flight (wire.md 8)."""


@attrs.frozen
class Reply:
    """A scripted reply: at once ``interim`` if there is one, and after ``delay`` the answer.

    ``answer`` is a payload, a `GatewayError`, or a function from params to one of these.
    ``payload`` is what an error carries besides.
    """

    answer: Scripted
    delay: float = 0.0
    interim: Any = None
    payload: Any = None

    def answered(self, params: Any) -> Answer:
        """Work out the answer to a request."""
        answer = self.answer(params) if callable(self.answer) else self.answer
        if isinstance(answer, GatewayError):
            return Answer(self.payload, answer)
        return Answer(answer)


def reply_for(
    method: str,
    scripted: Mapping[str, Reply],
    scopes: tuple[str, ...] | None,
    now_ms: int,
) -> Reply:
    """Find the reply to a method. ``scopes`` None asks for no scope at all (the original)."""
    admin = scopes is None or ADMIN in scopes
    if method == METHOD_CONNECT:
        return _refused("connect is only valid as the first request") if admin else _missing(ADMIN)
    if method not in scripted and method not in BUILT_IN:
        return _refused(f"unknown method: {method}") if admin else _missing(ADMIN)
    needed = _SCOPES.get(method)
    if scopes is not None and needed is not None and not _covers(scopes, needed):
        return _missing(needed)
    return scripted[method] if method in scripted else _built_in(method, now_ms)


def _covers(scopes: tuple[str, ...], needed: str) -> bool:
    """Tell whether scopes suffice. That write covers read was not measured."""
    return bool({needed, ADMIN} & set(scopes)) or (needed == _READ and _WRITE in scopes)


def _built_in(method: str, now_ms: int) -> Reply:
    if method == METHOD_HEALTH:
        return Reply(health(now_ms))
    if method == "status":
        return Reply({"runtimeVersion": SERVER_VERSION, "sessions": {"count": 0}})
    return Reply(lambda params: params)


def _refused(message: str) -> Reply:
    return Reply(GatewayError("INVALID_REQUEST", message))


def _missing(scope: str) -> Reply:
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    return Reply(GatewayError("FORBIDDEN", f"missing scope: {scope}", details))
