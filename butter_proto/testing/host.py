"""A host that owns a WebSocket, so that a network of bytes can drive ``framing=MESSAGES``.

Rules kept here:

* One host per transport. It speaks WebSocket by itself and shows the machine only what a browser
  or a WebSocket library shows: open, whole messages, pongs, closed or failed.
* It takes the next message when the last one has left, so that the machine can withdraw the rest.
"""

from __future__ import annotations

from typing import Final

from butter_proto.counters import Counters
from butter_proto.endpoint import parse_url
from butter_proto.errors import EndKind, FaultKind, TransportFault
from butter_proto.link import LinkItem, Opened, PongReceived, Received
from butter_proto.machine import Machine, Message, OpenTransport, Ping, Text
from butter_proto.settings import Limits
from butter_proto.websocket import WebSocketLink

_LIMITS: Final = Limits(max_message=2**31)
"""The machine's own limit is to be the smaller one."""


class WebSocketHost:
    """Stands between a machine and the bytes of one of its transports."""

    __slots__ = ("_certificate", "_id", "_link", "_machine", "_now", "_open")

    def __init__(self, machine: Machine, command: OpenTransport) -> None:
        endpoint, _ = parse_url(command.url)
        self._machine = machine
        self._id = command.id
        self._link = WebSocketLink(endpoint, _LIMITS, bytes, Counters())
        self._certificate: bytes | None = None
        self._open = False
        self._now = 0.0

    # a socket calls these as it calls a machine's

    def transport_opened(self, _: int, now: float, certificate: bytes | None = None) -> None:
        """Begin the upgrade; the machine hears of it when that is done."""
        self._now = now
        self._certificate = certificate
        self._link.start()

    def receive_data(self, _: int, data: bytes, now: float) -> None:
        """Read frames, and hand over what they say."""
        self._now = now
        self._link.receive(data)
        while (item := self._link.next_item()) is not None:
            self._hand_over(item)

    def transport_failed(self, _: int, fault: TransportFault, now: float) -> None:
        """Pass it on."""
        self._machine.transport_failed(self._id, fault, now)

    def data_to_send(self, _: int) -> bytes:
        """Write frames, of one message after the other."""
        outbox = self._link.outbox
        while not (data := outbox.take(self._now)):
            message = self._machine.next_message(self._id)
            if message is None:
                break
            self._write(message)
        return data

    # both ways

    def _hand_over(self, item: LinkItem) -> None:
        match item:
            case Opened():
                self._open = True
                self._machine.transport_opened(self._id, self._now, self._certificate)
            case Received(data):
                self._machine.receive_message(self._id, data, self._now)
            case PongReceived(payload):
                self._machine.receive_pong(self._id, payload, self._now)
            case _ if not self._open:
                fault = TransportFault(FaultKind.OTHER, str(item))
                self._machine.transport_failed(self._id, fault, self._now)
            case _:
                by_peer = item.kind is EndKind.CLOSED_BY_PEER
                code = item.close_code if by_peer else None
                self._machine.transport_closed(self._id, code, item.close_reason, self._now)

    def _write(self, message: Message) -> None:
        outbox = self._link.outbox
        match message:
            case Text(text):
                outbox.text(text.encode())
            case Ping(payload):
                outbox.ping(payload)
            case _:
                outbox.close(message.code, message.reason)
