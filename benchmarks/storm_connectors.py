"""The storm of storm.py with whole Connectors: what each costs, and that the figures agree.

Rules kept here:

* Time is virtual. The gateway is a few canned frames with the handshake's real content, written for
  speed: what is measured is the Connectors, their events and bytes pulled as a driver does.
* CPU is this process's own, of the reconnects alone; memory is what this process grew by.
"""

from __future__ import annotations

import gc
import heapq
import re
import struct
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import attrs

from benchmarks.canned import CHALLENGE, frame, hello, upgraded
from benchmarks.storm_gateway import ENOUGH, Gateway
from butter_proto import Connector, State, events
from butter_proto.errors import FaultKind, TransportFault
from butter_proto.machine import CloseTransport, OpenTransport

_KEY: Final = re.compile(rb"Sec-WebSocket-Key: (\S+)", re.IGNORECASE)
_LATENCY: Final = 0.001
_REFUSED: Final = TransportFault(FaultKind.REFUSED, "nothing listens there")
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@attrs.frozen
class Cost:
    """What whole Connectors came to."""

    connectors: int
    kilobytes: float
    """Memory of one that is online."""
    microseconds: float
    """CPU time of one reconnect, failed attempts included."""
    recovered_at: float
    """When 99 % were online again, in virtual seconds since the drop."""
    connects: int
    """Attempts of all until then."""


class _Client:
    """One Connector and its transport."""

    __slots__ = ("id", "last_request", "machine", "transport_id")

    def __init__(self, number: int, random: Random) -> None:
        self.id = number
        self.last_request = 0
        self.machine = Connector(
            "ws://gateway.local:18789/",
            random=random.random,
            entropy=random.randbytes,
            next_request_id=self.next_request_id,
        )
        self.transport_id = 0

    def next_request_id(self) -> str:
        """Return a number, so that the gateway need not read them."""
        self.last_request += 1
        return str(self.last_request)


class _World:
    """The clients, the canned gateway and a virtual clock."""

    def __init__(self, connectors: int, gateway: Gateway, seed: int) -> None:
        random = Random(seed)  # noqa: S311 - jitter, nonces and masks
        self.clients = [_Client(number, random) for number in range(connectors)]
        self.now = 0.0
        self.listens_at = 0.0
        self.free_at = 0.0
        self.gateway = gateway
        self.connects = 0
        self.online: set[int] = set()
        self._due: list[tuple[float, int, _Client]] = []
        self._wake: dict[_Client, float] = {}
        self._order = count()

    def start(self) -> None:
        for client in self.clients:
            client.machine.start(self.now)
            self.pump(client)

    def run_until_online(self, number: int) -> None:
        """Let time pass until that many are online."""
        while len(self.online) < number:
            when, _, client = heapq.heappop(self._due)
            if self._wake.get(client) == when:
                self.now = max(self.now, when)
                client.machine.handle_timeout(self.now)
                self.pump(client)

    def drop_all(self) -> None:
        """End every connection, as a gateway that restarts does."""
        self.listens_at = self.free_at = self.now + self.gateway.down
        goodbye = frame(0x88, struct.pack("!H", 1012) + b"service restart")
        for client in self.clients:
            for data in (goodbye, b""):
                client.machine.receive_data(client.transport_id, data, self.now)
            self.pump(client)

    def pump(self, client: _Client) -> None:
        """Pull everything, as a driver does, and let the gateway answer."""
        machine = client.machine
        while (command := machine.next_command()) is not None:
            if isinstance(command, OpenTransport):
                client.transport_id = command.id
                self.dial(client, command)
            elif isinstance(command, CloseTransport):
                self.online.discard(client.id)
        while (event := machine.next_event()) is not None:
            if isinstance(event, events.Online):
                self.online.add(client.id)
        due = machine.next_timeout()
        if due is not None and self._wake.get(client) != due:
            self._wake[client] = due
            heapq.heappush(self._due, (due, next(self._order), client))

    def dial(self, client: _Client, command: OpenTransport) -> None:
        """Answer a dial with all that the gateway says until hello."""
        machine, transport_id, now = client.machine, command.id, self.now
        self.connects += 1
        if now < self.listens_at:
            machine.transport_failed(transport_id, _REFUSED, now)
            return
        machine.transport_opened(transport_id, now + _LATENCY)
        key = _KEY.search(machine.data_to_send(transport_id))
        assert key is not None
        if self.free_at - now > self.gateway.longest_queue:
            for data in (_BUSY, b""):
                machine.receive_data(transport_id, data, now + _LATENCY)
            return
        self.free_at = max(self.free_at, now) + self.gateway.place
        answered = self.free_at + _LATENCY
        machine.receive_data(transport_id, upgraded(key[1]) + CHALLENGE, answered)
        connect = machine.data_to_send(transport_id)
        assert connect
        machine.receive_data(transport_id, hello(str(client.last_request)), answered)
        assert machine.state is State.ONLINE
        machine.data_to_send(transport_id)


def cost_of_connectors(connectors: int, gateway: Gateway, seed: int) -> Cost:
    """Let a gateway restart under so many Connectors."""
    gc.collect()
    before = _resident()
    world = _World(connectors, gateway, seed)
    world.start()
    world.run_until_online(connectors)
    gc.collect()
    kilobytes = (_resident() - before) / 1024 / connectors
    world.connects = 0
    dropped_at = world.now
    began = time.process_time()
    world.drop_all()
    world.run_until_online(int(ENOUGH * connectors))
    spent = time.process_time() - began
    return Cost(
        connectors,
        kilobytes,
        spent / connectors * 1_000_000,
        max(world.now, world.free_at) - dropped_at,
        world.connects,
    )


def _resident() -> int:
    """Return the memory of this process in bytes; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0
