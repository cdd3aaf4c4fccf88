"""A wire trace: what one connection sends and receives, as it may be shown to an operator (G11).

Rules kept here:

* Nothing that is secret is told: not what the connection knows as a secret, not what stands under a
  key that names one, and not the same text anywhere else in that message.
* Requests, replies and events are told by name, id and size. What they carry is told only where it
  is the handshake's; of a hello without its snapshot. A response body is never told.
* The error of a refusal is told with its details, of any method: whoever wrote a text of somebody
  else's into them, under a key that says nothing, has shown it.
* What is told is short, whatever the peer wrote, takes little time, and is safe on any terminal.
* Nothing raises: not what a peer wrote, and not the program that is told (G1).
* A connection without a trace has none of this: not a branch per message (traced_link.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from butter_proto.codec import load_json
from butter_proto.frames import EVENT_CHALLENGE, EVENT_SHUTDOWN, METHOD_CONNECT
from butter_proto.printable import printable
from butter_proto.redaction import Redaction
from butter_proto.secret import MASK, Secret, longest_first, masked

HIDDEN: Final = "(not shown)"
"""Stands for params, payloads and the like."""


@attrs.frozen
class Traced:
    """One message, one control frame or one HTTP head.

    ``told`` is JSON: an object for a message, the lines of a head, a text for all else. ``size``
    is in bytes; of a control frame, its payload's. Its text form is one line of ASCII.
    """

    transport_id: int
    sent: bool
    size: int
    told: Any

    def __str__(self) -> str:
        if isinstance(self.told, str):
            text = self.told.encode("ascii", "backslashreplace").decode()
        else:
            text = json.dumps(self.told)
        text = printable(text)
        return f"{'->' if self.sent else '<-'} {self.size} bytes: {text}"


Trace = Callable[[Traced], None]
"""What a program gives to see a trace; it must not block. One that raises is told no more of that
connection."""


class Tracer:
    """Tells of one connection, without the secrets that ``redaction`` knows by then."""

    __slots__ = ("_redaction", "_trace", "_transport_id")

    def __init__(self, trace: Trace, transport_id: int, redaction: Redaction) -> None:
        self._trace: Trace | None = trace
        self._transport_id = transport_id
        self._redaction = redaction

    def message(self, data: str | bytes, size: int, *, sent: bool) -> None:
        """Tell of a text message."""
        message = _object_in(data) if size <= _LARGEST_READ else None
        if message is None:
            self._tell(HIDDEN, size, sent=sent)
            return
        found = set(_secrets_in(message))
        if len(found) > _MOST_SECRETS:
            self._tell(HIDDEN, size, sent=sent)
            return
        texts = longest_first((*self._redaction.secrets, *found))
        self._tell(_abridged(_shown_of(message), texts, 0), size, sent=sent)

    def control(self, text: str, size: int, *, sent: bool) -> None:
        """Tell of a control frame."""
        self._tell(_cut(self._redaction.text(text)), size, sent=sent)

    def head(self, data: bytes, *, sent: bool) -> None:
        """Tell of an HTTP head: its first line, and the values of headers that hold no secret."""
        text = self._redaction.text(data.decode(errors="replace"))
        first, *others = (line.rstrip("\r") for line in text.split("\n"))
        first = _QUERY.sub(f"?{MASK}", first) if sent else first
        lines = [first, *(_header(line) for line in others if line)]
        self._tell([_cut(line) for line in lines[:_MOST_LINES]], len(data), sent=sent)

    def no_http(self, size: int) -> None:
        """Tell that the answer to the upgrade is no HTTP."""
        self._tell("(no HTTP)", size, sent=False)

    def _tell(self, told: Any, size: int, *, sent: bool) -> None:
        if self._trace is None:
            return
        try:
            self._trace(Traced(self._transport_id, sent, size, told))
        except Exception:  # noqa: BLE001 - foreign code, in the middle of an input of ours
            self._trace = None


# --- what is told of it ---------------------------------------------------------------------

_NAMES_A_SECRET: Final = re.compile(
    r"token|password|passphrase|^pass$|pwd|secret|signature|authorization|bearer|jwt|cookie"
    r"|credential|setup.?code|api.?key|private.?key|recovery.?scope|plugin.?surface.?urls",
    re.IGNORECASE,
)
_OPEN_KEYS: Final = frozenset(
    {"error", "event", "id", "jsonrpc", "method", "ok", "seq", "stateVersion", "type"}
)
"""What is told of every message (wire.md 3 and 8); anything else may be what it carries."""
_HANDSHAKE_EVENTS: Final = (EVENT_CHALLENGE, EVENT_SHUTDOWN)
_SNAPSHOT: Final = "snapshot"
_OPEN_HEADERS: Final = frozenset(
    {
        *("connection", "content-length", "content-type", "date", "host", "retry-after", "server"),
        *("sec-websocket-version", "upgrade", "via"),
    }
)
_QUERY: Final = re.compile(r"\?\S*")
_QUERY_OF_URL: Final = re.compile(r"(://[^\s?#]*[?#])\S*")
_LARGEST_READ: Final = 128 * 1024
"""Bytes of a message above which only its size is told; a hello has about 18,000 (wire.md 3)."""
_MOST_SECRETS: Final = 64
"""Texts under keys that name secrets above which nothing of a message is told: each is looked for
in every text of it."""
_MOST_LINES: Final = 40
_LONGEST_TEXT: Final = 200
_MOST_ITEMS: Final = 16
_MOST_KEYS: Final = 32
_DEEPEST: Final = 6
_LARGEST_NUMBER: Final = 2**64


def _object_in(data: str | bytes) -> dict[str, Any] | None:
    try:
        message = load_json(data if isinstance(data, str) else str(data, "utf-8"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _shown_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what it carries, or with that where it is the handshake's."""
    told = {key: value if key in _OPEN_KEYS else HIDDEN for key, value in message.items()}
    carried = message.get("payload")
    if message.get("method") == METHOD_CONNECT and "params" in message:
        told["params"] = message["params"]
    elif message.get("event") in _HANDSHAKE_EVENTS and "payload" in message:
        told["payload"] = carried
    elif isinstance(carried, dict) and carried.get("type") == "hello-ok":
        told["payload"] = {key: HIDDEN if key == _SNAPSHOT else carried[key] for key in carried}
    return told


def _secrets_in(message: dict[str, Any]) -> Iterable[Secret]:
    """Find the texts that stand under a key that names a secret, however deep."""
    boxes: list[tuple[Any, bool]] = [(message, False)]
    while boxes:  # no recursion: foreign JSON may be nested as deep as the interpreter's stack
        box, secret = boxes.pop()
        items = box.items() if isinstance(box, dict) else (("", item) for item in box)
        for key, value in items:
            hidden = secret or _NAMES_A_SECRET.search(key) is not None
            if isinstance(value, dict | list):
                boxes.append((value, hidden))
            elif hidden and isinstance(value, str) and value:
                yield Secret(value)


def _abridged(value: Any, secrets: list[str], depth: int) -> Any:
    """Return a short form of foreign JSON. Texts are redacted before they are cut."""
    match value:
        case str():
            return _text(value, secrets)
        case dict() if depth < _DEEPEST:
            return _abridged_object(value, secrets, depth + 1)
        case list() if depth < _DEEPEST and len(value) <= _MOST_ITEMS:
            return [_abridged(item, secrets, depth + 1) for item in value]
        case dict() | list():
            return f"({len(value)} items)"
        case int() if abs(value) > _LARGEST_NUMBER:
            return "(a huge number)"
    return value


def _abridged_object(value: dict[str, Any], secrets: list[str], depth: int) -> Any:
    told: dict[str, Any] = {}
    for key, inner in list(value.items())[:_MOST_KEYS]:
        hidden = inner is not None and _NAMES_A_SECRET.search(key) is not None
        name = _text(key, secrets)
        told[name] = MASK if hidden else _abridged(inner, secrets, depth)
    if len(value) > _MOST_KEYS:
        told["..."] = f"({len(value) - _MOST_KEYS} more)"
    return told


def _text(text: str, secrets: list[str]) -> str:
    return _QUERY_OF_URL.sub(rf"\g<1>{MASK}", _cut(masked(text, secrets)))


def _header(line: str) -> str:
    name, colon, value = line.partition(":")
    if not colon or name[:1].isspace():  # what goes on with the value before it
        return MASK
    return f"{name}:{value}" if name.strip().lower() in _OPEN_HEADERS else f"{name}: {MASK}"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"
