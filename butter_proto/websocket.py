"""The WebSocket layer of one socket: bytes <-> messages. The only importer of wsproto.

Rules kept here:

* wsproto decides: it reads the upgrade's answer and every frame. Our parser only finds where a
  head or a frame ends, hands wsproto one at a time and drains its events before the next; so the
  same bytes, cut anywhere, have the same effect (G3), and lengths are judged before the bytes
  they announce arrive.
* Nothing the peer sends raises (G1); the link's last item is then one `Ending`.
* No extension is offered: the gateway negotiates none, and wsproto inflates without a bound.

wsproto 1.3.2's sharp edges, absorbed here: EOF inside the HTTP response looks like garbage; a 1xx
other than 101 looks like a rejection; a rejection's body may end only at EOF; a framing fault
appears as a CloseConnection while the state is still OPEN; bytes after a close raise; it has no
limit of its own on messages or fragments; it encodes Host as one domain name, port included, and
so refuses long labels.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, ClassVar, Final

import attrs
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from butter_proto.counters import Counters
from butter_proto.endpoint import Endpoint
from butter_proto.errors import MAX_REFUSAL_BODY, Ending, EndKind
from butter_proto.fast_lane import take_usual_frames
from butter_proto.headers import Headers
from butter_proto.link import HostInput, Inbound, LinkItem, Opened, PongReceived, Received
from butter_proto.outbox import BAD_DATA, LENGTH_16, Outbox
from butter_proto.settings import HOUR, Limits, Probe

MAX_HEAD: Final = 16 * 1024
"""The largest HTTP response head, informational ones included, in bytes."""
_MAX_REFUSAL_READ: Final = 16 * 1024
"""How much of it is read, chunk headers and trailers included; h11 has no limit under this."""
HTTP: Final = b"HTTP/1."
_ANY_HOST: Final = b"host"
HEAD_END: Final = re.compile(rb"\n\r?\n")
INFORMATIONAL: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d")
_NO_STATUS: Final = 1005
_DATA_OPCODES: Final = range(3)


class _Phase(Enum):
    HEAD = "reading the HTTP response's head"
    BODY = "reading a refusal's body"
    HEADER = "reading a frame's header"
    PAYLOAD = "reading a frame's payload"
    DONE = "nothing more is read"


class WebSocketLink:
    """The client side of one WebSocket whose frames are read and written here."""

    auto_probe = Probe.PING
    fast_lane: ClassVar[bool] = True
    """Whether usual frames go past wsproto. Only tests switch it off, to see that both agree."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        entropy: Callable[[int], bytes],
        counters: Counters,
        headers: Headers = (),
    ) -> None:
        self.outbox = Outbox(entropy, counters)
        self._counters = counters
        self._headers = headers
        self._endpoint = endpoint
        self._limits = limits
        self._entropy = entropy
        self._phase = _Phase.HEAD
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._items: deque[LinkItem] = deque()
        self._buffer = bytearray()
        self._needed = 1
        self._head_size = 0
        self._refusal: Ending | None = None
        self._body = bytearray()
        self._body_read = 0
        self._parts: list[Any] = []  # str or bytes, alike within one message
        self._fragments = 0
        self._size = 0

    @property
    def reading_refusal(self) -> bool:
        """True while a refused upgrade's body is awaited; the end of the stream stops that."""
        return self._phase is _Phase.BODY

    def start(self) -> None:
        """Queue the upgrade request. No Origin of ours: it empties the scopes (wire.md 2)."""
        added = [(name.encode(), value.reveal().encode()) for name, value in self._headers]
        target = self._endpoint.target
        data = self._ws.send(Request(host=_ANY_HOST.decode(), target=target, extra_headers=added))
        handshake = self._ws.handshake
        drawn = handshake._nonce  # noqa: SLF001 - wsproto draws it from the system
        assert drawn is not None
        nonce = base64.b64encode(self._entropy(16))
        handshake._nonce = nonce  # noqa: SLF001
        host = self._endpoint.host_header.encode()
        data = data.replace(b"\r\nHost: %s\r\n" % _ANY_HOST, b"\r\nHost: %s\r\n" % host)
        self.outbox.raw(data.replace(drawn, nonce))

    def receive(self, inbound: Inbound) -> None:
        """Take in bytes of the peer, ``b""`` is the end of the stream; never raises."""
        assert not isinstance(inbound, HostInput)
        self._counters.bytes_received += len(inbound)
        if not inbound:
            self._receive_eof()
        elif self._phase is not _Phase.DONE:
            self._buffer += inbound

    def next_item(self) -> LinkItem | None:
        """Return what the bytes so far say next, or None."""
        items = self._items
        while not items:
            if self._phase is _Phase.DONE or not self._step():
                return None
        return items.popleft()

    def data_to_send(self, now: float) -> bytes:
        """Take at most 64 KiB for the wire."""
        return self.outbox.take(now)

    def next_message(self, now: float) -> None:
        """Return None: the messages leave as frames."""

    def _receive_eof(self) -> None:
        while self._phase is not _Phase.DONE and self._step():
            pass
        match self._phase:
            case _Phase.DONE:
                pass
            case _Phase.BODY:
                self._end_refusal()
            case _Phase.HEAD:
                where = "inside" if self._buffer or self._head_size else "before"
                self._end(Ending(EndKind.END_OF_STREAM, f"{where} the HTTP response"))
            case _:
                self._end(Ending(EndKind.END_OF_STREAM))

    def _end_refusal(self) -> None:
        """Read no more of a refused upgrade's body; its Ending is the next item."""
        assert self._refusal is not None
        self._end(attrs.evolve(self._refusal, http_body=bytes(self._body)))

    def _step(self) -> bool:
        """Read one head, body piece, frame header or payload; False where bytes are missing."""
        if len(self._buffer) < self._needed:
            return False
        match self._phase:
            case _Phase.HEADER:
                return self._take_usual_frames() or self._read_header()
            case _Phase.HEAD:
                return self._read_head()
            case _Phase.PAYLOAD:
                self._feed(self._cut(self._needed))
                self._expect(_Phase.HEADER, 2)
                return True
            case _:
                return self._read_body()

    def _read_head(self) -> bool:
        if not HTTP.startswith(self._buffer[: len(HTTP)]):
            self._end(Ending(EndKind.NOT_WEBSOCKET, "no HTTP"))
            return True
        found = HEAD_END.search(self._buffer)
        size = found.end() if found else len(self._buffer)
        if self._head_size + size > MAX_HEAD:
            self._end(Ending(EndKind.LIMIT_EXCEEDED, f"HTTP response head over {MAX_HEAD} bytes"))
            return True
        if not found:
            self._needed = len(self._buffer) + 1
            return False
        self._head_size += size
        head = self._cut(size)
        self._needed = 1
        if not INFORMATIONAL.match(head):  # RFC 9110, 15.2: a client skips these
            self._feed(head)
        return True

    def _read_body(self) -> bool:
        data = self._cut(min(len(self._buffer), _MAX_REFUSAL_READ - self._body_read))
        self._body_read += len(data)
        self._feed(data)
        if self._phase is _Phase.BODY and self._body_read == _MAX_REFUSAL_READ:
            self._end_refusal()
        return True

    def _take_usual_frames(self) -> bool:
        """Read what needs no wsproto; False where the next frame does, or a message is open."""
        buffer = self._buffer
        if self._fragments or not self.fast_lane:
            return False
        read, self._needed = take_usual_frames(buffer, self._limits.max_message, self._items)
        del buffer[:read]
        return read > 0

    def _read_header(self) -> bool:
        """Find the frame's length, judge it, and let wsproto judge the rest of the header."""
        if len(self._buffer) < self._needed:
            return False
        length = self._buffer[1] & 0x7F
        size = 2 if length < LENGTH_16 else 4 if length == LENGTH_16 else 10
        if len(self._buffer) < size:
            self._needed = size
            return False
        header = self._cut(size)
        if size > 2:  # noqa: PLR2004 - an extended length
            length = int.from_bytes(header[2:])
        if header[0] & 0x0F in _DATA_OPCODES and not self._admit(length):
            return True
        if length:
            self._expect(_Phase.PAYLOAD, length)
        else:
            self._needed = 2
        self._feed(header)
        return True

    def _admit(self, length: int) -> bool:
        """Hold one more fragment of ``length`` bytes against the limits."""
        self._size += length
        self._fragments += 1
        if self._size > self._limits.max_message:
            text = f"a message over {self._limits.max_message} bytes"
        elif self._fragments > self._limits.max_fragments:
            text = f"a message in over {self._limits.max_fragments} fragments"
        else:
            return True
        self._end(Ending(EndKind.LIMIT_EXCEEDED, text))
        return False

    def _expect(self, phase: _Phase, needed: int) -> None:
        if self._phase is not _Phase.DONE:
            self._phase = phase
            self._needed = needed

    def _cut(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _feed(self, data: bytes) -> None:
        """Hand wsproto its next piece and drain what it says."""
        fault = ""
        try:
            self._ws.receive_data(data)
        except (ProtocolError, ValueError) as error:  # ValueError: undecodable headers
            fault = str(error) if isinstance(error, ProtocolError) else "bad header"
        for event in self._ws.events():
            self._on_event(event)
            if self._phase is _Phase.DONE:
                return
        if fault and self._phase is _Phase.BODY:
            self._end_refusal()
        elif fault:
            self._end(Ending(EndKind.NOT_WEBSOCKET, fault))

    def _on_event(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._on_data(event)
            case Ping():
                self.outbox.pong(bytes(event.payload))
            case Pong():
                self._items.append(PongReceived(bytes(event.payload)))
            case CloseConnection():
                self._on_close(event)
            case AcceptConnection():
                self._expect(_Phase.HEADER, 2)
                self._items.append(Opened())
            case RejectConnection():
                self._expect(_Phase.BODY, 1)
                self._refusal = Ending(
                    EndKind.UPGRADE_REFUSED,
                    http_status=event.status_code,
                    retry_after=_retry_after(event.headers),
                )
            case _:
                assert isinstance(event, RejectData)
                self._body += event.data[: MAX_REFUSAL_BODY - len(self._body)]
                if event.body_finished or len(self._body) == MAX_REFUSAL_BODY:
                    self._end_refusal()

    def _on_data(self, event: TextMessage | BytesMessage) -> None:
        self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if not event.message_finished:
            return
        data = self._parts[0] if len(self._parts) == 1 else self._parts[0][:0].join(self._parts)
        self._items.append(Received(data, self._size))
        self._parts = []
        self._size = self._fragments = 0

    def _on_close(self, event: CloseConnection) -> None:
        code, reason = int(event.code), event.reason or ""
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            self.outbox.close(None if code == _NO_STATUS else code, reason)
            self._end(Ending(EndKind.CLOSED_BY_PEER, close_code=code, close_reason=reason))
            return
        # the parser's text for bad UTF-8 depends on where the bytes were cut
        self.outbox.close(code, "")
        text = "invalid UTF-8" if code == BAD_DATA else reason
        self._end(Ending(EndKind.PROTOCOL_VIOLATION, text))

    def _end(self, ending: Ending) -> None:
        self._phase = _Phase.DONE
        self._buffer.clear()
        self._items.append(ending)


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Read Retry-After where it is in seconds, 0..3600 (RFC 9110, 10.2.3); dates are ignored."""
    for name, value in headers:
        if name.lower() == b"retry-after" and re.fullmatch(rb"\d{1,4}", value):
            seconds = float(value)
            return seconds if seconds <= HOUR else None
    return None
