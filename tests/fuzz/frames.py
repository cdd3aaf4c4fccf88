"""Any text as a frame: a well-formed one, none, or `InvalidFrame`; and all codecs agree.

Rules kept here:

* `CODECS` names every way to read a frame. Each says what the first one says, to the type of the
  last number, of the bytes and of the text that they are.
* What was read can be written and read again, and is the same then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any, Final

import attrs

from butter_proto.codec import codec_for
from butter_proto.errors import GatewayError, InvalidParams
from butter_proto.events import GatewayEvent
from butter_proto.frames import (
    DEEPEST,
    Frame,
    InvalidFrame,
    Pong,
    Response,
    decode,
    encode_request,
    event_message,
)
from butter_proto.settings import Json
from butter_proto.testing.server_frames import Request, decode_request

LONGEST: Final = 4096
Codec = Callable[..., Frame | None]
CODECS: Final[dict[str, Codec]] = {
    "json": decode,
    "msgspec": partial(decode, codec=codec_for(Json.MSGSPEC)),
}
_LARGEST: Final = 2**53


def fuzz(data: bytes) -> None:
    """Read these bytes in both dialects."""
    for json_rpc in (False, True):
        said = said_of(data, json_rpc=json_rpc)
        check(said)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            assert isinstance(said, InvalidFrame)
            check(said_of(data.decode(errors="surrogateescape"), json_rpc=json_rpc))
        else:
            assert shown(said_of(text, json_rpc=json_rpc)) == shown(said)


def said_of(text: str | bytes, *, json_rpc: bool = False) -> Frame | InvalidFrame | None:
    """Return what the codecs say, all of them the same."""
    first, *others = (one_said(codec, text, json_rpc=json_rpc) for codec in CODECS.values())
    assert all(shown(one) == shown(first) for one in others)
    return first


def one_said(
    codec: Codec, text: str | bytes, *, json_rpc: bool = False
) -> Frame | InvalidFrame | None:
    try:
        return codec(text, json_rpc=json_rpc)
    except InvalidFrame as error:
        return error


def shown(said: Frame | InvalidFrame | None) -> str:
    """Show all that was said, so that 1, 1.0 and True differ; in what words it was refused, not."""
    kind = type(said).__name__
    return (
        kind if said is None or isinstance(said, InvalidFrame) else f"{kind} {attrs.asdict(said)}"
    )


def check(said: Frame | InvalidFrame | None) -> None:
    """Check that a frame is one as the core counts on it, and that it can be written."""
    match said:
        case GatewayEvent(name, payload, seq, state_version):
            assert isinstance(name, str)
            assert name
            assert seq is None or (type(seq) is int and 0 <= seq < _LARGEST)
            message = event_message(name, payload, seq, state_version)
            again = said_of(json.dumps(message, ensure_ascii=False))  # escapes could make a pair
            assert shown(again) == shown(said)
            check_value([payload, state_version])
            check_request(name, payload)
        case Response(request_id, payload, error):
            assert isinstance(request_id, str)
            check_value(payload)
            if error is not None:
                check_error(error)
        case _:
            assert said is None or isinstance(said, Pong | InvalidFrame)


def check_error(error: GatewayError) -> None:
    assert 0 < len(error.code) <= 5000
    assert len(error.message) > 0
    assert error.retryable in (None, True, False)
    assert error.retry_after is None or 0 <= error.retry_after <= 3600
    check_value(error.details)


def check_value(value: Any) -> None:
    """Check that a value is JSON's, finite and no deeper than it may be."""
    level = [value]
    for _ in range(DEEPEST + 1):
        assert all(isinstance(one, dict | list | str | int | float | None) for one in level)
        assert all(isfinite(one) for one in level if isinstance(one, float))
        level = [
            inner
            for box in level
            if isinstance(box, dict | list)
            for inner in (box.values() if isinstance(box, dict) else box)
        ]
    assert not level


def check_request(method: str, params: Any) -> None:
    """Write a request; the gateway reads the same, or `InvalidParams` says that it cannot be."""
    try:
        written = encode_request("1", method, params)
    except InvalidParams:
        assert not is_text(json.dumps([method, params], ensure_ascii=False))
        return
    read = decode_request(written)
    assert isinstance(read, Request)
    assert (read.id, read.method) == ("1", method)
    assert repr(read.params) == repr(params)


def is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
