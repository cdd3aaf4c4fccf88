"""What a connection and its link say to each other, whoever speaks WebSocket.

Rules kept here:

* A link turns what a transport brings into items: first `Opened`, then messages and pongs, last one
  `Ending`. Everything above it is the same code for both kinds of `Framing`.
* Nothing that a transport brings raises (G1).
"""

from __future__ import annotations

from typing import Protocol

import attrs

from butter_proto.errors import Ending
from butter_proto.machine import Message
from butter_proto.outbox import Outbox
from butter_proto.settings import Probe

# --- what a transport brings ----------------------------------------------------------------


@attrs.frozen
class HostMessage:
    """A whole message that a host read from its own WebSocket."""

    data: str | bytes = attrs.field(repr=False)


@attrs.frozen
class HostPong:
    """A pong that such a host read."""

    payload: bytes


@attrs.frozen
class HostClose:
    """The end of such a host's WebSocket; ``code`` None where no Close frame came."""

    code: int | None
    reason: str


HostInput = HostMessage | HostPong | HostClose
Inbound = bytes | HostInput
"""Bytes, of which ``b""`` is the end of the stream, or what a host read."""


def ends_stream(inbound: Inbound) -> bool:
    """Tell whether nothing comes after this."""
    return inbound == b"" or isinstance(inbound, HostClose)


# --- what a link makes of it ----------------------------------------------------------------


@attrs.frozen
class Opened:
    """The WebSocket is open: the upgrade was accepted."""


@attrs.define
class Received:
    """A whole message; ``size`` in bytes."""

    data: str | bytes = attrs.field(repr=False)
    size: int


@attrs.frozen
class PongReceived:
    """A pong with the payload of one of our pings, or any other."""

    payload: bytes


LinkItem = Opened | Received | PongReceived | Ending


class Link(Protocol):
    """The client side of one WebSocket.

    Call ``start`` once the transport is open, ``receive`` for what it brings; after each of them
    call ``next_item`` until it returns None. Send through ``outbox``.
    """

    outbox: Outbox

    @property
    def auto_probe(self) -> Probe:
        """What `Probe.AUTO` means on this link."""

    @property
    def reading_refusal(self) -> bool:
        """True while a refused upgrade's body is awaited; the end of the stream stops that."""

    def start(self) -> None:
        """Begin: the transport is open."""

    def receive(self, inbound: Inbound) -> None:
        """Take in what the transport brought; never raises."""

    def next_item(self) -> LinkItem | None:
        """Return what that says next, or None."""

    def data_to_send(self, now: float) -> bytes:
        """Take at most 64 KiB for the wire; always ``b""`` where the host speaks WebSocket."""

    def next_message(self, now: float) -> Message | None:
        """Take the next message for such a host; None where the machine speaks WebSocket."""
