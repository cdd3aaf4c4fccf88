"""JSON text <-> frames as the gateway reads and writes them: the other half of ``frames.py``.

Rules kept here:

* A client's message is a `Request`, an `InvalidRequest` with the gateway's own words for what is
  wrong, the original client's `LegacyPing`, or None where it is no JSON at all.
* Numbers that are not finite are no JSON. Foreign JSON never raises, either way.
* What is written is compact UTF-8; lone surrogates are escaped, as ``JSON.stringify`` does it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from butter_proto.codec import load_json
from butter_proto.errors import GatewayError
from butter_proto.frames import event_message
from butter_proto.testing import schema

_REQUEST: Final = schema.ClosedObject(
    {
        "type": schema.constant("req"),
        "id": schema.full_text,
        "method": schema.full_text,
        "params": schema.anything,
        "traceparent": schema.short_text(128),
        "expectedProfileId": schema.text,
    },
    ("type", "id", "method"),
)
_JSON_RPC: Final = schema.ClosedObject(
    {
        "jsonrpc": schema.constant("2.0"),
        "id": schema.full_text,
        "method": schema.full_text,
        "params": schema.anything,
    },
    ("id", "method"),
)
_JSON_RPC_CODES: Final = {"INVALID_REQUEST": -32600}
_JSON_RPC_SERVER_ERROR: Final = -32000
_UNWRITABLE: Final = GatewayError("INVALID_REQUEST", "the answer is nested too deeply")


@attrs.frozen
class Request:
    """A request; ``json_rpc`` says in which form it came and is to be answered."""

    id: str
    method: str
    params: Any = attrs.field(repr=False)
    json_rpc: bool = False


@attrs.frozen
class InvalidRequest:
    """JSON that is no request. ``id`` is the frame's, a number too, or ``"invalid"``."""

    id: str | float
    message: str


@attrs.frozen
class LegacyPing:
    """The original client's ``{"type": "ping"}``."""


@attrs.frozen
class Answer:
    """What a request is answered with: a success, or ``error`` with perhaps a payload besides."""

    payload: Any = attrs.field(default=None, repr=False)
    error: GatewayError | None = None


def decode_request(
    data: bytes, *, legacy: bool = False
) -> Request | InvalidRequest | LegacyPing | None:
    """Read one message of a client; None: it is no JSON. ``legacy`` allows the original's forms."""
    try:
        message = load_json(data.decode())
    except (ValueError, RecursionError):
        return None
    if legacy and message == {"type": "ping"}:
        return LegacyPing()
    json_rpc = legacy and isinstance(message, dict) and "jsonrpc" in message
    faults = list((_JSON_RPC if json_rpc else _REQUEST).faults(message))
    if not faults:
        return Request(message["id"], message["method"], message.get("params"), json_rpc)
    return InvalidRequest(_echoed_id(message), f"invalid request frame: {'; '.join(faults)}")


def encode_answer(request: Request | InvalidRequest, answer: Answer) -> str:
    """Write the answer to a request in the form in which the request came."""
    write = _json_rpc_answer if isinstance(request, Request) and request.json_rpc else _answer
    try:
        return _dumps(write(request.id, answer))
    except RecursionError:
        return _dumps(write(request.id, Answer(error=_UNWRITABLE)))


def encode_event(name: str, payload: Any, seq: int | None = None, state_version: Any = None) -> str:
    """Write an event."""
    return _dumps(event_message(name, payload, seq, state_version))


def encode_notification(name: str, payload: Any) -> str:
    """Write an event as a JSON-RPC 2.0 notification."""
    return _dumps({"jsonrpc": "2.0", "method": name, "params": payload})


def encode_legacy_pong() -> str:
    """Write the original gateway's answer to `LegacyPing`."""
    return _dumps({"type": "pong"})


def _answer(request_id: str | float, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "res", "id": request_id, "ok": answer.error is None}
    if answer.error is None or answer.payload is not None:
        message["payload"] = answer.payload
    if answer.error is not None:
        message["error"] = _error(answer.error)
    return message


def _error(error: GatewayError) -> dict[str, Any]:
    written: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details is not None:
        written["details"] = error.details
    if error.retryable is not None:
        written["retryable"] = error.retryable
    if error.retry_after is not None:
        written["retryAfterMs"] = round(error.retry_after * 1000)
    return written


def _json_rpc_answer(request_id: str | float, answer: Answer) -> dict[str, Any]:
    """Write a response object (jsonrpc.org/specification, 5); its error codes are numbers."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id}
    error = answer.error
    if error is None:
        return {**message, "result": answer.payload}
    number = _JSON_RPC_CODES.get(error.code, _JSON_RPC_SERVER_ERROR)
    data = {"code": error.code} if error.details is None else error.details
    return {**message, "error": {"code": number, "message": error.message, "data": data}}


def _echoed_id(message: object) -> str | float:
    request_id = message.get("id") if isinstance(message, dict) else None
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float):
        return "invalid"
    return request_id or "invalid" if isinstance(request_id, str) else request_id


def _dumps(message: dict[str, Any]) -> str:
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()
