"""A message that is written anew has its size and its effect."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from butter_proto import (
    Secret,
    frames,
)
from butter_proto.events import GatewayEvent
from butter_proto.testing.recording.fillers import Fillers
from tests.testing.recorded import (
    SAID,
    SECRET,
    SHORT,
    answer,
    cleaner,
    event,
)


def effect(data: bytes) -> Any:
    """Return what a machine makes of a message, but for what it carries."""
    try:
        frame = frames.decode(data, json_rpc=True)
    except frames.InvalidFrame as error:
        return str(error)
    match frame:
        case GatewayEvent(name, payload, seq):
            return name, type(payload), seq
        case frames.Response(request_id, payload, told):
            known = None if told is None else (told.code, told.retryable, told.retry_after)
            details = None if told is None else (type(told.details), told.detail_code)
            return request_id, type(payload), known, details
    return frame


MESSAGES: Final = [
    *(event(), event(seq=5), event(seq=-5), event(seq=1.5), event({"a": [SAID]}), event(event=7)),
    *(event(None), event(2), event(2.5), event(True), event([SAID]), event("", event="")),
    event(event="\ud800 lone"),
    answer(ok=True, payload={"status": "accepted", "more": SAID}),
    answer(ok=True, payload=SAID),
    answer(ok=True, payload={"text": SAID, "status": SAID}),
    answer(ok=1, payload=None),
    answer(ok=False, error=SAID),
    answer(ok=False, error={"code": 5, "message": [SAID], "details": SAID}),
    answer(ok=False, error={"code": 1.5, "message": None, "extra": SAID}),
    answer(
        ok=False,
        error={
            "code": "X",
            "message": "no",
            "retryable": True,
            "retryAfterMs": 1.5,
            "details": {"code": "Y", "text": SAID, "requestId": None, "reason": 5},
        },
    ),
    answer(ok=False, error={"code": "X", "retryable": "yes", "retryAfterMs": "5", "details": None}),
    answer(id=5),
    b'{"type":"pong"}',
    b'{"jsonrpc":"2.0","method":"tick","params":{"ts":1,"more":2}}',
    b'{"jsonrpc":"2.0","id":"1","result":{"a":1}}',
    b'{"jsonrpc":"2.0","id":"1","error":{"code":5,"message":"m","data":{"code":"Z"}}}',
    *(b"", b"x", b"[1,2]", b'"text"', b"5", b"1.5", b"true", b"null", b'{"a":NaN}', b"1e999"),
    b"[" * 201 + b"]" * 201,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 201 + b"1" + b"}" * 201,
    json.dumps({"type": "pong", "a": [[]] * 300}).encode(),
    *(b'{"type":"pong"}\xff', b"\xe4A", b'{"type":"pong"}\xc3'),
]


@pytest.mark.parametrize("bodies", [False, True])
@pytest.mark.parametrize("data", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_keeps_its_size_and_its_effect(data: bytes, bodies: bool) -> None:
    cleaned = cleaner(bodies=bodies).clean(data)
    assert len(cleaned) == len(data)
    assert effect(cleaned) == effect(data)
    if not bodies:
        assert SAID.encode() not in cleaned


def test_what_was_written_shorter_than_we_can_is_left_out() -> None:
    data = b'{"type":"res","id":"1","ok":false,"error":{"retryAfterMs":1E1}}'
    assert cleaner().clean(data).strip() == b""


def test_a_secret_is_found_however_it_was_escaped() -> None:
    text = json.dumps({"type": "res", "id": SECRET, "payload": {SECRET: [SECRET]}})
    escaped = text.replace(SECRET, "".join(f"\\u{ord(c):04x}" for c in SECRET))
    for bodies in (False, True):
        told = json.loads(cleaner(bodies=bodies).clean(escaped.encode()))
        assert SECRET not in json.dumps(told)
        assert len(told["id"]) == len(SECRET)


def test_what_stands_under_a_secret_key_is_learned_even_if_it_is_short() -> None:
    messages = cleaner(bodies=True)
    data = answer(ok=True, payload={"deviceToken": "xy", "pluginSurfaceUrls": {"a": "u", "b": 5}})
    told = json.loads(messages.clean(data))
    assert told["payload"]["deviceToken"] != "xy"
    assert told["payload"]["pluginSurfaceUrls"]["a"] != "u"


def test_a_short_secret_is_taken_out_where_it_stands_alone() -> None:
    fillers = Fillers()
    fillers.learn([Secret(SHORT), Secret(SECRET)])
    assert SHORT not in fillers.text(f"token {SHORT}: no")
    assert fillers.text("abcdef") == "abcdef"
    assert fillers.text(f"cut: {SECRET[:9]}") == f"cut: {'-' * 9}"


def test_a_hello_without_a_server_is_kept_as_one() -> None:
    data = answer(ok=True, payload={"type": "hello-ok", "snapshot": SAID * 9, "server": 5})
    told = json.loads(cleaner().clean(data))
    assert told["payload"] == {"type": "hello-ok", "server": 5}
