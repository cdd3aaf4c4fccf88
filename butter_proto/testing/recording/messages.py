"""What a recording keeps of a message: all that a machine decides by, and nothing that users say.

Rules kept here:

* A message becomes another one of as many bytes with the same effect: what is kept is written
  anew, the rest is spaces behind it. So a secret's JSON escapes need no search of their own.
* Kept are names, ids, numbers and codes of the frames (frames.py), and what the gateway says of
  itself: challenge, hello, errors, tick, shutdown. Anything else keeps its JSON type alone.
* What is no frame becomes something that is none for the same reason.
* With ``bodies`` all is kept but the secrets.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from butter_proto import frames
from butter_proto.codec import load_json
from butter_proto.testing.recording.fillers import Fillers

_ANY: Final = ""
"""Stands for all names in a shape."""
_Shape = Mapping[str, Any]
"""What is kept of an object: names, each with what is kept of its value: None for a number or a
bool, `str` for a text too, a shape, or one of these in a list."""
_LONE: Final = re.compile("[\ud800-\udfff]")
_DEEP: Final = frames.DEEPEST + 1
_TOO_DEEP: Final = b"[" * _DEEP + b"]" * _DEEP
_OF_TYPE: Final[Mapping[type, Any]] = {str: "", bool: True, int: 0, float: 0.5, dict: {}, list: []}
"""What stands for a value of which only the type is kept."""


class Messages:
    """Writes messages without secrets, and without bodies unless they are asked for."""

    def __init__(self, fillers: Fillers, *, bodies: bool) -> None:
        self._fillers = fillers
        self._bodies = bodies

    def clean(self, data: bytes) -> bytes:
        """Return a whole message of as many bytes with the same effect."""
        size = len(data)
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError as error:
            return blank_text(size, error)
        try:
            message = load_json(text)
        except (ValueError, RecursionError) as error:
            return _no_json(error, size)
        if frames.is_too_deep(text, message):
            return _TOO_DEEP.ljust(size)
        written = map(_written, self._shapes(message))
        return next((one for one in written if len(one) <= size), b"").ljust(size)

    def _shapes(self, message: Any) -> Iterator[Any]:
        """Yield what may stand for a message, the best first: it may have been written shorter."""
        if not isinstance(message, dict):
            yield _bare(message)
        else:
            if self._bodies:
                yield self._fillers.json(_without_secrets(message, self._fillers))
            yield self._kept(message)

    def _kept(self, message: dict[str, Any]) -> dict[str, Any]:
        event = message.get("event", message.get("method"))
        kept: dict[str, Any] = {}
        for key, value in message.items():
            match key:
                case "type" | "event" | "method" | "id" | "jsonrpc":
                    kept[key] = (
                        self._fillers.name(value) if isinstance(value, str) else _bare(value)
                    )
                case "ok":
                    kept[key] = value is True
                case "seq" if frames.whole_number(value) is not None:
                    kept[key] = value
                case "error":
                    kept[key] = self._error(value)
                case "payload" | "params" if isinstance(event, str):
                    kept[key] = self._told(event, value)
                case "payload" | "result":
                    kept[key] = self._answer(value)
        return kept

    def _error(self, error: Any) -> Any:
        if not isinstance(error, dict):
            return _bare(error)
        kept: dict[str, Any] = {}
        for key, value in error.items():
            match key:
                case "code":
                    kept[key] = self._fillers.text(value) if isinstance(value, str) else value
                    if isinstance(value, dict | list | float):
                        kept[key] = _bare(value)
                case "details" | "data":
                    kept[key] = self._some(value, _DETAILS)
                case "retryable" | "retryAfterMs":
                    kept[key] = _scalar(value)
        return kept

    def _told(self, event: str, payload: Any) -> Any:
        return self._some(payload, _TOLD.get(event, frozenset()))

    def _answer(self, payload: Any) -> Any:
        if not isinstance(payload, dict):
            return _bare(payload)
        if payload.get("status") == frames.STATUS_ACCEPTED:
            return {"status": frames.STATUS_ACCEPTED}
        if payload.get("type") != "hello-ok":
            return {}
        return self._fillers.json(_without_secrets(_shaped(payload, _HELLO), self._fillers))

    def _some(self, value: Any, keys: frozenset[str]) -> Any:
        if not isinstance(value, dict):
            return _bare(value)
        return {key: self._scalar(value[key]) for key in value if key in keys}

    def _scalar(self, value: Any) -> Any:
        return self._fillers.text(value) if isinstance(value, str) else _scalar(value)


_AUTH: Final[_Shape] = {
    **dict.fromkeys(("method", "role", "deviceToken", "recoveryScope"), str),
    "issuedAtMs": None,
    "scopes": [str],
}
_HELLO: Final[_Shape] = {
    "type": str,
    "protocol": None,
    "server": dict.fromkeys(("version", "bootId", "connId"), str),
    "auth": {**_AUTH, "deviceTokens": [_AUTH]},
    "features": {"methods": [str], "events": [str]},
    "policy": dict.fromkeys(("maxPayload", "maxBufferedBytes", "tickIntervalMs")),
    "pluginSurfaceUrls": {_ANY: str},
}
"""What is kept of a hello: what the handshake reads, at every level (wire.md 3)."""
_TOLD: Final[Mapping[str, frozenset[str]]] = {
    frames.EVENT_CHALLENGE: frozenset({"nonce", "ts"}),
    frames.EVENT_TICK: frozenset({"ts"}),
    frames.EVENT_SHUTDOWN: frozenset({"reason", "restartExpectedMs"}),
}
_DETAILS: Final = frozenset(
    {
        *("code", "reason", "requestId", "deviceId", "retryAfterMs"),
        *("expectedProtocol", "minimumProbeProtocol", "recommendedNextStep", "authReason"),
        *("canRetryWithDeviceToken", "clientMinProtocol", "clientMaxProtocol"),
    }
)
"""What is kept of an error's details (wire.md 5). Its texts are not: gateways quote params."""
_SECRET_KEYS: Final = frozenset({"deviceToken", "recoveryScope"})
_URLS: Final = "pluginSurfaceUrls"


def blank_text(size: int, error: UnicodeDecodeError | None = None) -> bytes:
    """Return a text of so many bytes that says nothing, and is as little UTF-8 as it was."""
    blank = bytearray(b" " * size)
    if error is None:
        pass
    elif error.reason == "unexpected end of data":
        blank[-1] = 0xC3  # the first of two bytes
    else:  # at the byte that shows it
        blank[error.start if error.reason == "invalid start byte" else error.end] = 0xFF
    return bytes(blank)


def _no_json(error: Exception, size: int) -> bytes:
    """Return what is no JSON for the same reason."""
    if isinstance(error, RecursionError):
        return b"[" * size
    return (b"" if isinstance(error, json.JSONDecodeError) else b"NaN").ljust(size)


def _bare(value: Any) -> Any:
    """Keep the type of a value."""
    return _OF_TYPE.get(type(value))


def _scalar(value: Any) -> Any:
    """Keep a number or a bool, of anything else the type."""
    return value if isinstance(value, bool | int | float) else _bare(value)


def _shaped(value: Any, shape: Any) -> Any:
    """Keep of a value what its shape has, of anything else the type."""
    match shape:
        case builtins.str if isinstance(value, str):
            return value
        case [of_each] if isinstance(value, list):
            return [_shaped(item, of_each) for item in value]
        case {**named} if isinstance(value, dict):
            return {
                key: _shaped(item, named.get(key, named.get(_ANY)))
                for key, item in value.items()
                if key in named or _ANY in named
            }
    return _scalar(value)


def _without_secrets(value: Any, fillers: Fillers) -> Any:
    """Replace what stands under the keys of secrets: one too short to be searched for, too."""
    if isinstance(value, list):
        return [_without_secrets(item, fillers) for item in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        if key in _SECRET_KEYS:
            kept[key] = _hidden(item, fillers)
        elif key == _URLS and isinstance(item, dict):
            kept[key] = {name: _hidden(url, fillers) for name, url in item.items()}
        elif key == _URLS:
            kept[key] = _hidden(item, fillers)
        else:
            kept[key] = _without_secrets(item, fillers)
    return kept


def _hidden(value: Any, fillers: Fillers) -> Any:
    """Keep of what stands under a secret's key its length, where it is a text."""
    return fillers.of(value) if isinstance(value, str) and value else _bare(value)


def _written(message: Any) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return _LONE.sub(lambda one: f"\\u{ord(one[0]):04x}", text).encode()
