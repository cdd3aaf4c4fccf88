"""A link whose messages, control frames and HTTP heads are told to a tracer.

Rules kept here:

* It wraps a link and takes the place of its outbox; what the link does is never changed.
* A message is told when its first byte is handed out, or when it came in whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from butter_proto.counters import Counters
from butter_proto.errors import Ending, EndKind
from butter_proto.link import Inbound, Link, LinkItem, Opened, PongReceived, Received
from butter_proto.machine import Close, Message, Ping, Text
from butter_proto.outbox import CLOSE, PING, PONG, Outbox, Outgoing
from butter_proto.settings import Probe
from butter_proto.trace import Tracer
from butter_proto.websocket import HEAD_END, HTTP, INFORMATIONAL, MAX_HEAD

_NAMES: Final = {PING: "ping", PONG: "pong"}


def traced(link: Link, tracer: Tracer, entropy: Callable[[int], bytes], counters: Counters) -> Link:
    """Let a link that was not started be told of."""
    link.outbox = _TracedOutbox(tracer, entropy, counters)
    return _TracedLink(link, tracer)


class _TracedOutbox(Outbox):
    """An outbox that tells what is handed out."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer, entropy: Callable[[int], bytes], counters: Counters) -> None:
        super().__init__(entropy, counters)
        self._tracer = tracer

    def next_message(self, now: float) -> Message | None:
        message = super().next_message(now)
        match message:
            case Text(text):
                self._tracer.message(text, len(text.encode()), sent=True)
            case Ping(payload):
                self._tracer.control(_NAMES[PING], len(payload), sent=True)
            case Close(code, reason):
                self._tracer.control(_close(code, reason), len(reason.encode()) + 2, sent=True)
        return message

    def _control_frame(self, room: int, now: float) -> bytes | None:
        item = self._control[0]
        frame = super()._control_frame(room, now)
        if frame is not None:
            self._tell_control(item)
        return frame

    def _message_frame(self, item: Outgoing, room: int, now: float) -> bytes | None:
        fresh, payload = item.handed_out_at is None, item.payload
        frame = super()._message_frame(item, room, now)
        if fresh and frame is not None:
            self._tracer.message(payload, len(payload), sent=True)
        return frame

    def _tell_control(self, item: Outgoing) -> None:
        payload = item.payload
        if item.opcode is None:
            self._tracer.head(payload, sent=True)
        elif item.opcode == CLOSE:
            code = int.from_bytes(payload[:2]) if payload else None
            reason = payload[2:].decode()
            self._tracer.control(_close(code, reason), len(payload), sent=True)
        else:
            self._tracer.control(_NAMES[item.opcode], len(payload), sent=True)


class _TracedLink:
    """A link that tells what it takes in; everything else is the link's own."""

    def __init__(self, link: Link, tracer: Tracer) -> None:
        self.outbox = link.outbox
        self._link = link
        self._tracer = tracer
        self._head: bytearray | None = bytearray()

    @property
    def auto_probe(self) -> Probe:
        return self._link.auto_probe

    @property
    def reading_refusal(self) -> bool:
        return self._link.reading_refusal

    def start(self) -> None:
        self._link.start()

    def receive(self, inbound: Inbound) -> None:
        if self._head is not None and isinstance(inbound, bytes):
            self._head += inbound
            self._read_heads(self._head)
        self._link.receive(inbound)

    def next_item(self) -> LinkItem | None:
        item = self._link.next_item()
        match item:
            case Received():
                self._tracer.message(item.data, item.size, sent=False)
            case PongReceived(payload):
                self._tracer.control("pong", len(payload), sent=False)
            case Opened():
                self._head = None
            case Ending(kind=EndKind.CLOSED_BY_PEER, close_code=code, close_reason=reason):
                self._tracer.control(_close(code, reason), len(reason.encode()) + 2, sent=False)
        return item

    def data_to_send(self, now: float) -> bytes:
        return self._link.data_to_send(now)

    def next_message(self, now: float) -> Message | None:
        return self._link.next_message(now)

    def _read_heads(self, data: bytearray) -> None:
        """Tell of each HTTP head up to the one that is the answer; what follows is none."""
        while data:
            if not HTTP.startswith(data[: len(HTTP)]):
                self._tracer.no_http(len(data))
                self._head = None
                return
            end = HEAD_END.search(data)
            if end is None:
                if len(data) > MAX_HEAD:
                    self._head = None
                return
            head = bytes(data[: end.end()])
            del data[: end.end()]
            self._tracer.head(head, sent=False)
            if not INFORMATIONAL.match(head):
                self._head = None
                return


def _close(code: int | None, reason: str) -> str:
    return " ".join(filter(None, ("close", "" if code is None else str(code), reason)))
