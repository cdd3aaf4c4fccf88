"""A grammar of messages as JSON text: what a gateway, or something in its place, may write.

Rules kept here:

* They are texts and no dumps of values, so that they hold what no value can: a key twice, numbers
  that are none, 5000 digits, escapes of half a character, nesting beyond every limit.
* A message begins as a right one of its kind. Then it gets up to three faults, each in any field at
  any depth: missing, wrong, there twice with either one right, under another name.
* Some ids are known only when the message is said: `with_ids` puts them in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st

from butter_proto.frames import DEEPEST
from tests.proto.gateway_side import Peer, frame, hello_ok

CONNECT_ID: Final = "<connect>"
REQUEST_ID: Final = "<request>"
"""What stands for the id of the connect request, and of the last request after it."""

Tree = str | list[tuple[str, Any]]
"""A text, or the fields of an object, each of them a tree."""

# --- right messages ------------------------------------------------------------------------------

ERROR: Final = {
    "code": "UNAVAILABLE",
    "message": "not now",
    "details": {
        "code": "PAIRING_REQUIRED",
        "reason": "scope-upgrade",
        "requestId": "r-1",
        "deviceId": "d-1",
        "remediationHint": "ask",
    },
    "retryable": True,
    "retryAfterMs": 500,
}
HELLO: Final = hello_ok()
HELLO["features"] = {"methods": ["health"], "events": ["tick"]}
HELLO["policy"]["maxPayload"] = 500
HELLO["auth"] |= {
    "issuedAtMs": 1_795_397_784_915,
    "deviceTokens": [{"deviceToken": "QQ-node-QQ", "role": "node", "scopes": []}],
}
GREETING: Final = (
    {
        "type": "event",
        "event": "connect.challenge",
        "payload": {"nonce": "n", "ts": 1_795_397_784_915},
    },
    {"type": "res", "id": CONNECT_ID, "ok": True, "payload": HELLO},
    {"type": "res", "id": CONNECT_ID, "ok": False, "payload": None, "error": ERROR},
)
"""What is said before a client is online."""
KINDS: Final = (
    *GREETING,
    {"type": "event", "event": "chat", "payload": {}, "seq": 1, "stateVersion": {"health": 1}},
    {"type": "event", "event": "tick", "payload": {"ts": 1}, "seq": 2},
    {
        "type": "event",
        "event": "shutdown",
        "payload": {"reason": "x", "restartExpectedMs": 1500},
        "seq": 3,
    },
    {"type": "res", "id": REQUEST_ID, "ok": True, "payload": {"status": "accepted"}},
    {"type": "res", "id": REQUEST_ID, "ok": True, "payload": {"n": 1}},
    {"type": "res", "id": REQUEST_ID, "ok": False, "payload": {"n": 1}, "error": ERROR},
    {"type": "pong"},
    {"jsonrpc": "2.0", "id": REQUEST_ID, "result": {"n": 1}},
    {
        "jsonrpc": "2.0",
        "id": REQUEST_ID,
        "error": {"code": -32000, "message": "no", "data": {"n": 1}},
    },
    {"jsonrpc": "2.0", "method": "told", "params": {"n": 1}},
)

# --- texts that are values, or nearly ------------------------------------------------------------

# fmt: off
NUMBERS: Final = (
    "0", "-0", "-1", "1.5", "-0.0", "1e-999", "1E2", "9007199254740991", "9007199254740992",
    "3600001", "1" * 4300, "-" + "1" * 4300,
)
NOT_FINITE: Final = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 4301, "-" + "9" * 5000,
)
"""What Python's json would take for a number, and what it cannot count."""
NO_JSON: Final = (
    "01", "1.", "+1", ".5", "0x1", "--1", "'a'", "undefined", "", "[1,]", '{"a":1,}', '{"a"}',
    '"\n"', '"\x00"', '"\\x"', '"\\u12"', '"', "\ud800", "\ufeff1", "//", "{", "]",
)
CHARACTERS: Final = (
    "\\ud800", "\\udc00\\ud800", "\\ud83d\\ude00", "\\u0000", '\\"', "\\\\", "\\/", "é", "\x7f",
    "\u2028", "\U0001f600", "a",
)
SURROGATES: Final = ('"\ud800"', '"\udc80a"')
"""Raw ones: a host's text may hold them, UTF-8 cannot."""
# fmt: on
HUGE: Final = '"' + "HUGE" * 17_500 + '"'
DEPTHS: Final = (2, DEEPEST - 3, DEEPEST - 1, DEEPEST, DEEPEST + 1, 900, 20_000)


def nested_text(depth: int, brackets: str = "[]") -> str:
    """Write a value of this depth, with brackets or braces."""
    opening = brackets[0] if brackets == "[]" else '{"a":'
    return opening * depth + "1" + brackets[1] * depth


texts = st.lists(st.sampled_from(CHARACTERS), max_size=4).map(lambda parts: f'"{"".join(parts)}"')
names = st.sampled_from(sorted({name for kind in KINDS for name in kind} | {"code", "", "a"}))
simple = st.one_of(
    st.sampled_from(["null", "true", "false", '""', "[]", "{}"]),
    st.sampled_from(NUMBERS),
    st.integers().map(str),
    texts,
)


def _boxes(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fields = st.tuples(names.map(json.dumps), inner).map(":".join)
    return st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]") | st.lists(
        fields, max_size=3
    ).map(lambda parts: f"{{{','.join(parts)}}}")


values = st.recursive(simple, _boxes, max_leaves=5)
"""What every reader of JSON takes, with keys that may come twice."""
edges = st.one_of(
    st.sampled_from(NOT_FINITE),
    st.sampled_from(NO_JSON),
    st.sampled_from(SURROGATES),
    st.just(HUGE),
    st.builds(nested_text, st.sampled_from(DEPTHS), st.sampled_from(["[]", "{}"])),
)
"""What one of the limits is for, or no JSON at all."""

# --- messages with faults ------------------------------------------------------------------------


def tree_of(value: Any) -> Tree:
    """Return a value as a tree that can be given faults."""
    if isinstance(value, dict):
        return [(json.dumps(name), tree_of(inner)) for name, inner in value.items()]
    return json.dumps(value)


def written(tree: Tree) -> str:
    """Write a tree."""
    if isinstance(tree, str):
        return tree
    return "{" + ",".join(f"{name}:{written(inner)}" for name, inner in tree) + "}"


def objects_in(tree: Tree) -> Iterator[list[tuple[str, Any]]]:
    """Yield all objects of a tree that have a field, the outer ones first."""
    if isinstance(tree, list) and tree:
        yield tree
        for _, inner in tree:
            yield from objects_in(inner)


@st.composite
def messages(draw: st.DrawFn, kinds: tuple[dict[str, Any], ...] = KINDS) -> str:
    """Draw a message of these kinds with up to three faults, or something that is no message."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values | edges)
    tree = tree_of(draw(st.sampled_from(kinds)))
    for _ in range(draw(st.integers(0, 3))):
        fields = draw(st.sampled_from([*objects_in(tree)] or [[("", "")]]))
        place = draw(st.integers(0, len(fields) - 1))
        name, right = fields[place]
        wrong = (name, draw(values | values | edges))
        fault = draw(st.sampled_from(["missing", "wrong", "last", "first", "renamed", "more"]))
        fields[place : place + 1] = {
            "missing": [],
            "wrong": [wrong],
            "last": [(name, right), wrong],
            "first": [wrong, (name, right)],
            "renamed": [(draw(names.map(json.dumps)), right)],
            "more": [(name, right), (draw(texts), draw(values))],
        }[fault]
    return draw(st.sampled_from(["{}", "{}", " {}\r\n\t"])).replace("{}", written(tree))


def with_ids(text: str, peer: Peer) -> str:
    """Put in the ids that are known by now."""
    text = text.replace(CONNECT_ID, peer.connect_id)
    return text.replace(REQUEST_ID, peer.request_id(0))


def wrote(peer: Peer, text: str) -> bytes:
    """Say a message of the grammar; half a character becomes bytes that are no UTF-8."""
    return frame(1, with_ids(text, peer).encode(errors="surrogatepass"))
