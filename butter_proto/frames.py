"""JSON text <-> request, response and event frames: the one home of their wire names.

Rules kept here:

* Foreign text becomes a typed frame here or nowhere: `InvalidFrame` for what is no JSON object,
  None for an object that is no frame we know (newer gateways may send some; they are skipped).
* JSON itself is read and written by a codec (codec.py); nesting is bounded by `DEEPEST` here.
* Unknown keys are normal.

JSON-RPC 2.0 is the original connector's second form of requests, responses and notifications.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from butter_proto.codec import STDLIB, Codec
from butter_proto.errors import GatewayError, InvalidParams
from butter_proto.events import GatewayEvent
from butter_proto.settings import HOUR

METHOD_CONNECT: Final = "connect"
METHOD_HEALTH: Final = "health"
EVENT_CHALLENGE: Final = "connect.challenge"
EVENT_TICK: Final = "tick"
EVENT_SHUTDOWN: Final = "shutdown"
IDEMPOTENCY_KEY: Final = "idempotencyKey"
STATUS_ACCEPTED: Final = "accepted"
DEEPEST: Final = 200
"""The deepest nesting of a message. CPython's own limit depends on the caller's stack."""
_NOT_DEEP: Final = 2 * DEEPEST
"""A text of so many characters cannot be nested deeper: each level opens and closes."""
_TOO_DEEP: Final = f"nested deeper than {DEEPEST}"
_LONGEST_CODE: Final = 200
_LONGEST_MESSAGE: Final = 2000
_LARGEST_INTEGER: Final = 2**53 - 1
"""JavaScript's Number.MAX_SAFE_INTEGER; sums of larger ones could not even be written."""


class InvalidFrame(ValueError):
    """A message that is no JSON object."""


@attrs.define
class Response:
    """An answer: ``error`` is None exactly when it is a success."""

    id: str
    payload: Any
    error: GatewayError | None


@attrs.frozen
class Pong:
    """The original gateway's ``{"type": "pong"}``: life, and nothing else."""


Frame = Response | GatewayEvent | Pong


def encode_request(
    request_id: str, method: str, params: Any, *, json_rpc: bool = False, codec: Codec = STDLIB
) -> bytes:
    """Write a request as UTF-8. ``params`` None leaves the key out.

    Raises `InvalidParams` where method or params cannot be written; nothing of them is shown.
    """
    if not isinstance(method, str) or not method:
        raise InvalidParams("a method is a non-empty str")
    message: dict[str, Any] = (
        {"jsonrpc": "2.0", "id": request_id, "method": method}
        if json_rpc
        else {"type": "req", "id": request_id, "method": method}
    )
    if params is not None:
        message["params"] = params
    try:
        return codec.dump(message)
    except Exception as error:  # noqa: BLE001 - params may run any code of the caller's
        kind = type(error).__name__
        raise InvalidParams(f"params of {method!r} cannot be written as JSON: {kind}") from None


def decode(
    text: str | bytes, size: int = 0, *, json_rpc: bool = False, codec: Codec = STDLIB
) -> Frame | None:
    """Read one message of ``size`` bytes: `reader`, then `frame_of`."""
    return frame_of(reader(codec)(text), size, json_rpc=json_rpc)


def reader(codec: Codec) -> Callable[[str | bytes], Any]:
    """Return what reads a message's JSON.

    It raises `InvalidFrame` for what is no JSON in UTF-8, or nested deeper than `DEEPEST`.
    """
    load = codec.load

    def read(text: str | bytes) -> Any:
        try:
            # json.loads would guess UTF-16 and let surrogates pass in bytes, but not in a str
            text = text if isinstance(text, str) else str(text, "utf-8")
            message = load(text)
        except RecursionError:
            raise InvalidFrame(_TOO_DEEP) from None
        except ValueError as error:
            raise InvalidFrame(f"no JSON: {type(error).__name__}") from None
        if len(text) > _NOT_DEEP and is_too_deep(text, message):
            raise InvalidFrame(_TOO_DEEP)
        return message

    return read


def frame_of(message: Any, size: int = 0, *, json_rpc: bool = False) -> Frame | None:
    """Return the frame that a message's JSON is; an event keeps the message's ``size`` in bytes.

    An event's ``seq`` is None where there is no usable one. Raises `InvalidFrame` for what is no
    object.
    """
    if type(message) is not dict:
        raise InvalidFrame(f"a {type(message).__name__}, not an object")
    get = message.get
    kind = get("type")
    if kind == "event":
        name, seq = get("event"), whole_number(get("seq"))
        if not name or type(name) is not str:
            return None
        return GatewayEvent(name, get("payload"), seq, get("stateVersion"), size)
    if kind == "res":
        return _response(message)
    if kind == "pong":
        return Pong()
    if json_rpc and message.get("jsonrpc") == "2.0":
        return _json_rpc(message, size)
    return None


def event_message(
    name: str, payload: Any, seq: int | None = None, state_version: Any = None
) -> dict[str, Any]:
    """Return an event as the message that it is on the wire."""
    message: dict[str, Any] = {"type": "event", "event": name, "payload": payload}
    if seq is not None:
        message["seq"] = seq
    if state_version is not None:
        message["stateVersion"] = state_version
    return message


def is_too_deep(text: str, value: object) -> bool:
    """Tell whether the JSON ``value`` of a text is nested deeper than `DEEPEST`."""
    return _opens_over(DEEPEST, text) and nests_too_deep(value)


def nests_too_deep(value: object) -> bool:
    """Tell whether lists and objects are nested deeper than `DEEPEST`, the value included."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for box in level
            for inner in (box.values() if isinstance(box, dict) else box)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _opens_over(most: int, text: str) -> bool:
    """Tell whether there are over ``most`` brackets that open: `str.count` is ten times as slow."""
    for bracket in "[{":
        at = text.find(bracket)
        while at >= 0:
            most -= 1
            if most < 0:
                return True
            at = text.find(bracket, at + 1)
    return False


def seconds_from_ms(value: object) -> float | None:
    """Read a hint in milliseconds as seconds; outside 0..3600 s, or no number, it is None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value / 1000 if 0 <= value <= HOUR * 1000 else None


def whole_number(value: object) -> int | None:
    """Return a JSON integer that is at least 0 and that the gateway can mean, else None."""
    return value if type(value) is int and 0 <= value <= _LARGEST_INTEGER else None


def text_or_none(value: object) -> str | None:
    """Return a non-empty JSON string, else None."""
    return value if isinstance(value, str) and value else None


def _response(message: dict[str, Any]) -> Response | None:
    request_id = message.get("id")
    if not isinstance(request_id, str):
        return None
    if message.get("ok") is True:
        return Response(request_id, message.get("payload"), None)
    return Response(request_id, message.get("payload"), _gateway_error(message.get("error")))


def _gateway_error(error: object) -> GatewayError:
    if not isinstance(error, dict):
        return GatewayError("UNKNOWN", "the gateway refused without an error object")
    retryable = error.get("retryable")
    return GatewayError(
        (text_or_none(error.get("code")) or "UNKNOWN")[:_LONGEST_CODE],
        (text_or_none(error.get("message")) or "no message")[:_LONGEST_MESSAGE],
        error.get("details"),
        retryable if isinstance(retryable, bool) else None,
        seconds_from_ms(error.get("retryAfterMs")),
    )


def _json_rpc(message: dict[str, Any], size: int) -> Frame | None:
    """Read a JSON-RPC 2.0 response or notification (jsonrpc.org/specification, 4.1 and 5)."""
    method = message.get("method")
    request_id = message.get("id")
    if isinstance(method, str) and method and request_id is None:
        return GatewayEvent(method, message.get("params"), None, None, size)
    if not isinstance(request_id, str):
        return None
    if "result" in message and message.get("error") is None:  # some send both, one of them null
        return Response(request_id, message["result"], None)
    if "error" not in message:
        return None
    error = message["error"]
    if not isinstance(error, dict):
        return Response(request_id, None, _gateway_error(error))
    code = error.get("code")
    name = str(code) if type(code) is int else text_or_none(code) or "UNKNOWN"
    text = text_or_none(error.get("message")) or "no message"
    return Response(request_id, None, GatewayError(name, text, error.get("data")))
