"""One virtual TCP connection: a machine's transport, two pipes, a gateway's socket.

Rules kept here:

* Each side is pulled only while its pipe has taken the last chunk, so that back-pressure is real.
* Each side hears of the other's end once, behind the bytes that are under way.
"""

from __future__ import annotations

from typing import Final

from butter_proto.errors import FaultKind, TransportFault
from butter_proto.machine import CHUNK, Machine, OpenTransport
from butter_proto.settings import Framing
from butter_proto.testing.conditions import Address, Dial, Direction, Medium
from butter_proto.testing.host import WebSocketHost
from butter_proto.testing.pipe import End, Pipe
from butter_proto.testing.stand_in import ClosePeer, StandInGateway

_RESET: Final = TransportFault(FaultKind.RESET, "reset by peer")


class ContractBroken(AssertionError):
    """A machine broke the contract of machine.py."""


class Socket:
    """One connection, from the dial until both sides let go of it."""

    __slots__ = (
        "_medium",
        "_side",
        "broken",
        "command",
        "dial_due",
        "down",
        "gateway",
        "machine",
        "number",
        "opened",
        "outcome",
        "released",
        "up",
    )

    def __init__(
        self,
        number: int,
        machine: Machine,
        command: OpenTransport,
        outcome: TransportFault | Dial,
        medium: Medium,
    ) -> None:
        self.number = number
        """Its number at the gateway."""
        self.machine = machine
        self.command = command
        self.outcome = outcome
        self.dial_due: float | None = None
        """When the dial ends, while it goes on."""
        if outcome is not Dial.NEVER_ANSWERS:
            self.dial_due = medium.arrival(Direction.UP) + medium.latency(Direction.DOWN)
        self.gateway: StandInGateway | None = None
        """The gateway at the other end, while it holds its socket."""
        self.opened = False
        """Whether the dial went well."""
        self.released = False
        """Whether the machine let go of it."""
        self.broken = False
        """Whether the machine was told that it failed."""
        self.up = Pipe()
        self.down = Pipe()
        self._medium = medium
        bytes_only = command.framing is Framing.BYTES
        self._side = machine if bytes_only else WebSocketHost(machine, command)

    @property
    def address(self) -> Address:
        """Where it was dialled."""
        return self.command.host, self.command.port

    @property
    def over(self) -> bool:
        """Whether both sides let go of it."""
        return self.released and self.gateway is None

    def open(self, gateway: StandInGateway, certificate: bytes | None) -> None:
        """Tell both sides that the dial went well."""
        now = self._medium.clock.now
        self.opened = True
        self.gateway = gateway
        gateway.accept(self.number, now)
        self._side.transport_opened(self.command.id, now, certificate)

    def fail(self, fault: TransportFault) -> None:
        """Tell the machine that there is no transport, or none any more."""
        self.broken = True
        self._side.transport_failed(self.command.id, fault, self._medium.clock.now)

    def release(self) -> None:
        """Obey CloseTransport: unsent bytes are lost, a dial is cancelled."""
        self.released = True
        self.dial_due = None
        self.down.close()
        self.up.hang_up(self._medium.arrival(Direction.UP))

    def close_peer(self, command: ClosePeer) -> None:
        """Obey the gateway's `ClosePeer`."""
        self.gateway = None
        self.up.close()
        if command.abort:
            self.down.reset(self._medium.arrival(Direction.DOWN))
        else:
            self.down.finish(self._medium.arrival(Direction.DOWN))

    def pull_machine(self) -> None:
        """Take from the machine what the pipe takes."""
        while self.opened and not (self.released or self.broken or self.up.blocked):
            data = self._side.data_to_send(self.command.id)
            if len(data) > CHUNK:
                raise ContractBroken(f"data_to_send gave {len(data)} bytes at once")
            if not data:
                return
            self.write(Direction.UP, data)

    def pull_gateway(self) -> None:
        """Take from the gateway what the pipe takes."""
        while self.gateway is not None and not self.down.blocked:
            data = self.gateway.data_to_send(self.number)
            if not data:
                return
            self.write(Direction.DOWN, data)

    def write(self, direction: Direction, data: bytes) -> None:
        """Put bytes into a pipe."""
        pipe = self.up if direction is Direction.UP else self.down
        pipe.write(data, self._medium.arrival(direction), self._medium.conditions.window)

    def deliver_up(self) -> bool:
        """Give the gateway what has arrived; True: the machine may be pulled again."""
        gateway = self.gateway
        assert gateway is not None
        was_blocked = self.up.blocked
        data = self._read(self.up, Direction.UP)
        now = self._medium.clock.now
        if data is End.RESET:
            self.gateway = None
            gateway.connection_lost(self.number, now)
        else:
            gateway.receive_data(self.number, b"" if data is End.FIN else data, now)
        return was_blocked and not (self.up.blocked or self.released)

    def deliver_down(self) -> bool:
        """Give the machine what has arrived; True: the gateway may be pulled again."""
        was_blocked = self.down.blocked
        data = self._read(self.down, Direction.DOWN)
        if data is End.RESET:
            self.fail(_RESET)
        else:
            data = b"" if data is End.FIN else data
            self._side.receive_data(self.command.id, data, self._medium.clock.now)
        return was_blocked and not self.down.blocked

    def _read(self, pipe: Pipe, direction: Direction) -> bytes | End:
        medium = self._medium
        data = pipe.read(medium.clock.now, medium.conditions.chunk)
        pipe.advance(medium.arrival(direction), medium.conditions.window)
        return data
