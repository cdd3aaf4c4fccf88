"""The server side of one WebSocket: bytes <-> the upgrade request, messages, pongs and Close.

Rules kept here:

* This is the stand-in's only file that knows wsproto.
* Foreign bytes never raise: what is no upgrade gets an HTTP error; what breaks RFC 6455 gets a
  Close frame with the fitting code and no reason, as the gateway does it (wire.md 1).
* After a Close frame of ours messages are skipped; after a violation nothing is read at all.
* Head, message and number of fragments are bounded. There is no permessage-deflate (wire.md 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

import attrs
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from butter_proto.machine import CHUNK
from butter_proto.outbox import clipped_reason

MAX_HEAD: Final = 16 * 1024
"""The largest request head; Node's own limit."""
MAX_BEFORE_HELLO: Final = 64 * 1024
"""The largest message before hello (wire.md 1)."""
MAX_FRAGMENTS: Final = 16 * 1024
"""Fragments of one message; measured between 397 and 20,000 (wire.md 8)."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_BIG: Final = 1009
_POLICY: Final = 1008


class Phase(Enum):
    """How far a link is."""

    UPGRADING = "the request head is awaited, or its answer"
    OPEN = "messages go both ways"
    CLOSING = "our Close frame was sent, the peer's is awaited"
    DEAF = "our Close frame followed a violation; only the end of the stream is awaited"
    ENDED = "the socket is to be closed once everything was flushed"


@attrs.frozen
class UpgradeRequest:
    """A client asks for a WebSocket: the owner answers with ``accept`` or ``refuse``."""

    target: str = attrs.field(repr=False)
    origin: str = ""


@attrs.frozen
class ClientMessage:
    """A whole message, text or binary."""

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class ClientPong:
    """The client answered a ping."""


Fact = UpgradeRequest | ClientMessage | ClientPong


class ServerLink:
    """One socket's WebSocket. ``max_message`` may be raised while it is open."""

    __slots__ = (
        "_fragments",
        "_head",
        "_message",
        "_out",
        "_subprotocol",
        "_ws",
        "max_message",
        "phase",
    )

    def __init__(self) -> None:
        self.phase = Phase.UPGRADING
        self.max_message = MAX_BEFORE_HELLO
        self._ws = WSConnection(ConnectionType.SERVER)
        self._subprotocol: str | None = None
        self._head = bytearray()
        self._message = bytearray()
        self._fragments = 0
        self._out = bytearray()

    def receive_data(self, data: bytes) -> Iterator[Fact]:
        """Take what was read and yield what it means; ``b""`` ends the link.

        The caller exhausts the iterator, and acts on each fact before it takes the next one.
        """
        if not data:
            self.abort()
        elif self.phase is Phase.UPGRADING:
            yield from self._read_head(data)
        elif self.phase in (Phase.OPEN, Phase.CLOSING):
            yield from self._read_frames(data)

    def accept(self) -> None:
        """Answer the upgrade request with 101; the first subprotocol offered is taken."""
        self._out += self._ws.send(AcceptConnection(subprotocol=self._subprotocol))
        self.phase = Phase.OPEN

    def refuse(
        self, status: int, body: bytes = b"", headers: Sequence[tuple[str, str]] | None = None
    ) -> None:
        """Answer the upgrade request with an HTTP error, and end the link.

        ``headers`` None stands for those of a plain text; others are sent exactly as given.
        """
        if headers is None:
            headers = (
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            )
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        self._out += "\r\n".join(lines).encode("latin-1") + _END_OF_HEAD + body
        self.phase = Phase.ENDED

    def send_text(self, text: str) -> None:
        """Send a text message on an open link."""
        self._out += self._ws.send(TextMessage(text))

    def send_ping(self) -> None:
        """Send a ping with no payload on an open link."""
        self._out += self._ws.send(Ping())

    def close(self, code: int, reason: str) -> None:
        """Send a Close frame, its reason cut to 123 bytes; before the upgrade just end.

        A link that is closing already stays as it is.
        """
        if self.phase is Phase.OPEN:
            self._out += self._ws.send(CloseConnection(code, clipped_reason(reason)))
            self.phase = Phase.CLOSING
        elif self.phase is Phase.UPGRADING:
            self.phase = Phase.ENDED

    def abort(self) -> None:
        """End the link now: what was not yet handed out is lost."""
        self._out.clear()
        self.phase = Phase.ENDED

    @property
    def unsent(self) -> int:
        """How many bytes were not yet handed out."""
        return len(self._out)

    def data_to_send(self) -> bytes:
        """Take at most 64 KiB for the wire."""
        data = bytes(self._out[:CHUNK])
        del self._out[:CHUNK]
        return data

    def _read_head(self, data: bytes) -> Iterator[Fact]:
        """Collect the head, so that wsproto gets it alone: it loses what comes behind it."""
        self._head += data
        end = self._head.find(_END_OF_HEAD)
        if (len(self._head) if end < 0 else end) > MAX_HEAD:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif end >= 0:
            end += len(_END_OF_HEAD)
            head, rest = bytes(self._head[:end]), bytes(self._head[end:])
            self._head.clear()
            yield from self._read_upgrade(head)
            if rest:
                yield from self.receive_data(rest)

    def _read_upgrade(self, head: bytes) -> Iterator[Fact]:
        try:
            self._ws.receive_data(head)
            requests = [event for event in self._ws.events() if isinstance(event, Request)]
        except (RemoteProtocolError, UnicodeError):
            requests = []
        if not requests:
            self.refuse(HTTPStatus.BAD_REQUEST)
            return
        (request,) = requests
        self._subprotocol = next(iter(request.subprotocols), None)
        origins = [value for name, value in request.extra_headers if name == b"origin"]
        yield UpgradeRequest(request.target, b"".join(origins).decode("latin-1"))

    def _read_frames(self, data: bytes) -> Iterator[Fact]:
        self._ws.receive_data(data)
        for event in self._ws.events():
            if self.phase in (Phase.DEAF, Phase.ENDED):
                return
            if isinstance(event, CloseConnection):
                self._read_close(event)
            elif self.phase is Phase.CLOSING:
                continue
            elif isinstance(event, TextMessage):
                yield from self._read_message(event.data.encode(), event)
            elif isinstance(event, BytesMessage):
                yield from self._read_message(event.data, event)
            elif isinstance(event, Ping):
                self._out += self._ws.send(event.response())
            else:
                assert isinstance(event, Pong)
                yield ClientPong()

    def _read_message(
        self, data: bytes | bytearray, event: TextMessage | BytesMessage
    ) -> Iterator[Fact]:
        self._message += data
        self._fragments += event.frame_finished
        if len(self._message) > self.max_message:
            self._break_off(_TOO_BIG)
        elif self._fragments > MAX_FRAGMENTS:
            self._break_off(_POLICY)
        elif event.message_finished:
            message = bytes(self._message)
            self._message.clear()
            self._fragments = 0
            yield ClientMessage(message)

    def _read_close(self, event: CloseConnection) -> None:
        """Echo the peer's Close (RFC 6455, 5.5.1), or answer what wsproto calls a violation.

        wsproto shows a violation as a CloseConnection that leaves its state as it was.
        """
        state = self._ws.state
        if state is ConnectionState.OPEN:
            self._break_off(event.code)
            return
        if state is ConnectionState.REMOTE_CLOSING:
            self._out += self._ws.send(event.response())
        self.phase = Phase.ENDED

    def _break_off(self, code: int) -> None:
        self._out += self._ws.send(CloseConnection(code, ""))
        self.phase = Phase.DEAF
