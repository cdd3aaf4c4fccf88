"""Machines and stand-in gateways on one virtual clock: no socket, no sleep, no chance.

Rules kept here:

* The network is a driver that keeps the contract of machine.py to the letter, and holds each
  machine to it: `ContractBroken` says what a machine did wrong, `Livelock` that time stands still.
* What is due first happens first; at equal times reading comes before waking up.
* The same seed and the same calls give the same run. TLS and proxies are not acted out.
* For a machine with ``framing=MESSAGES`` it is the host too: host.py speaks WebSocket for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from butter_proto.errors import FaultKind, TransportFault
from butter_proto.events import PoolEvent
from butter_proto.machine import Machine, OpenTransport
from butter_proto.testing.conditions import (
    Address,
    Conditions,
    Dial,
    Direction,
    Medium,
    VirtualClock,
)
from butter_proto.testing.sockets import ContractBroken, Socket
from butter_proto.testing.stand_in import StandInGateway
from butter_proto.timers import TICK

Candidate = tuple[float, float, Callable[[], None]]

MAX_STEPS: Final = 100_000
_SLACK: Final = 1e-6
_REFUSED: Final = TransportFault(FaultKind.REFUSED, "nothing listens there")
_UNKNOWN: Final = TransportFault(FaultKind.DNS, "no such address in this network")


class Livelock(AssertionError):
    """Too many steps without time passing."""


class NotReached(AssertionError):
    """What ``run_until`` waited for did not become true in time."""


class VirtualNetwork:
    """Runs machines against the gateways at their addresses.

    After calling an application input of a machine, or scripting a gateway, call ``run``.
    ``address`` in a method stands for the connections to one gateway, None for all.
    """

    def __init__(
        self,
        gateways: Mapping[Address, StandInGateway],
        *,
        conditions: Conditions | None = None,
        clock: VirtualClock | None = None,
        seed: int = 0,
    ) -> None:
        self.gateways = dict(gateways)
        self.clock = clock or VirtualClock()
        self.certificates: dict[Address, bytes] = {}
        """The leaf (DER) that is reported for TLS transports to an address."""
        self.pull_events = True
        """Whether events are taken from the machines; False leaves them in their queues."""
        self.events: dict[Machine, list[tuple[float, PoolEvent]]] = {}
        """What each machine told, and when."""
        self._medium = Medium(self.clock, conditions or Conditions(), seed)
        self._dials: dict[Address | None, deque[TransportFault | Dial]] = {}
        self._late = 0.0
        self._awake_at = self.now
        self._sockets: list[Socket] = []
        self._open: dict[tuple[Machine, int], Socket] = {}
        self._seen: set[tuple[Machine, int]] = set()
        self._steps = 0

    @property
    def now(self) -> float:
        """The present time, in seconds."""
        return self.clock.now

    @property
    def conditions(self) -> Conditions:
        """How connections behave; may be replaced at any time, for what is sent from then on."""
        return self._medium.conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._medium.conditions = conditions

    # what a test does

    def add(self, machine: Machine) -> None:
        """Take a machine into the network."""
        self.events[machine] = []

    def run(
        self, *, until: float | None = None, for_: float = 0.0, max_steps: int = MAX_STEPS
    ) -> None:
        """Let everything happen up to a time, or for some seconds from now.

        Raises `Livelock` when more than ``max_steps`` things happen at one time.
        """
        limit = self.now + for_ if until is None else until
        self._begin()
        while self._step(limit, max_steps):
            pass
        self.clock.advance_to(limit)

    def run_until(
        self, predicate: Callable[[], object], limit: float = 60.0, *, max_steps: int = MAX_STEPS
    ) -> float:
        """Let everything happen until the predicate is true, and return the time.

        Raises `NotReached` when that takes more than ``limit`` seconds, `Livelock` as ``run``.
        """
        end = self.now + limit
        self._begin()
        while not predicate():
            if not self._step(end, max_steps):
                self.clock.advance_to(end)
                raise NotReached(f"not true within {limit:g} s")
        return self.now

    def script_dials(
        self, *outcomes: TransportFault | Dial, address: Address | None = None
    ) -> None:
        """Say what becomes of the next dials, to one address or to any."""
        self._dials.setdefault(address, deque()).extend(outcomes)

    def cut(self, address: Address | None = None) -> None:
        """Break the open connections: both sides see a reset."""
        for socket in self._connected(address):
            socket.up.reset(self.now)
            socket.down.reset(self.now)

    def eof(self, address: Address | None = None) -> None:
        """End the open connections: both sides see the end of the stream."""
        for socket in self._connected(address):
            socket.up.finish(self._medium.arrival(Direction.UP))
            socket.down.finish(self._medium.arrival(Direction.DOWN))

    def inject(
        self, data: bytes, direction: Direction = Direction.DOWN, address: Address | None = None
    ) -> None:
        """Put foreign bytes into the open connections, behind what is under way."""
        for socket in self._connected(address):
            socket.write(direction, data)

    def stall(self, direction: Direction | None = None, address: Address | None = None) -> None:
        """Deliver nothing in one direction, or in both: no byte, no end, no dial."""
        for one in Direction if direction is None else (direction,):
            self._medium.stall(one, address)

    def heal(self) -> None:
        """End all stalls: what was held back is delivered now."""
        self._medium.heal()

    def late_wakeups(self, seconds: float) -> None:
        """From now on call ``handle_timeout`` of the machines that much later than asked for."""
        self._late = seconds

    def suspend(self, seconds: float) -> None:
        """Give the machines no input for some seconds, as if their process slept.

        Afterwards what was due first comes first: a wake-up before bytes that came later.
        """
        self._awake_at = self.now + seconds

    def check_finished(self) -> None:
        """Check that every machine has finished and every transport was closed."""
        for machine in self.events:
            if not machine.finished:
                raise ContractBroken(f"{machine!r} is not finished")
        if self._open:
            left = [transport_id for _, transport_id in self._open]
            raise ContractBroken(f"transports without CloseTransport: {left}")

    # what is due

    def _begin(self) -> None:
        self._steps = 0
        for machine in self.events:
            self._turn(machine)

    def _step(self, limit: float, max_steps: int) -> bool:
        """Do the next thing that is due by ``limit``; False: there is none."""
        due = min(self._candidates(), key=lambda candidate: candidate[:2], default=None)
        if due is None or due[0] > limit:
            return False
        when, _, act = due
        self._steps = 1 if when > self.now else self._steps + 1
        if self._steps > max_steps:
            raise Livelock(f"more than {max_steps} steps at {self.now:.3f}; now {act}")
        self.clock.advance_to(when)
        act()
        return True

    def _candidates(self) -> Iterator[Candidate]:
        """Yield what waits: when it happens, since when it is due, and what to do."""
        for socket in self._sockets:
            yield from self._traffic(socket)
        for gateway in dict.fromkeys(self.gateways.values()):
            if (due := gateway.next_timeout()) is not None:
                yield max(due, self.now), due, partial(self._wake_gateway, gateway)
        for machine in self.events:
            if not machine.finished and (due := machine.next_timeout()) is not None:
                when = max(due + self._late, self._awake_at, self.now)
                yield when, due, partial(self._wake, machine)

    def _traffic(self, socket: Socket) -> Iterator[Candidate]:
        up = self._medium.flows(Direction.UP, socket.address)
        down = self._medium.flows(Direction.DOWN, socket.address)
        if (due := socket.dial_due) is not None and up and down:
            yield max(due, self._awake_at, self.now), due, partial(self._end_dial, socket)
        if (due := socket.up.next_arrival) is not None and up:
            yield max(due, self.now), due, partial(self._deliver_up, socket)
        if (due := socket.down.next_arrival) is not None and down:
            when = max(due, self._awake_at, self.now)
            yield when, due, partial(self._deliver_down, socket)

    # what happens

    def _turn(self, machine: Machine) -> None:
        """Pull everything, as a driver does after each input."""
        while (command := machine.next_command()) is not None:
            if isinstance(command, OpenTransport):
                self._dial(machine, command)
            else:
                self._release(machine, command.id)
        while self.pull_events and (event := machine.next_event()) is not None:
            self.events[machine].append((self.now, event))
        for socket in self._sockets:
            if socket.machine is machine:
                socket.pull_machine()

    def _serve(self, gateway: StandInGateway) -> None:
        """Pull everything from a gateway, as its driver does after each input."""
        for socket in self._sockets:
            if socket.gateway is gateway:
                socket.pull_gateway()
        while (command := gateway.next_closed()) is not None:
            for socket in self._connected():
                if socket.gateway is gateway and socket.number == command.peer_id:
                    socket.close_peer(command)
                    self._forget_if_over(socket)

    def _wake(self, machine: Machine) -> None:
        machine.handle_timeout(self.now)
        due = machine.next_timeout()
        if due is not None and due < self.now + TICK - _SLACK:
            raise ContractBroken(f"handle_timeout({self.now}) left something due at {due}")
        self._turn(machine)

    def _wake_gateway(self, gateway: StandInGateway) -> None:
        gateway.handle_timeout(self.now)
        self._serve(gateway)

    def _dial(self, machine: Machine, command: OpenTransport) -> None:
        key = machine, command.id
        if key in self._seen:
            raise ContractBroken(f"OpenTransport({command.id}) came twice")
        self._seen.add(key)
        address = command.host, command.port
        scripted = self._dials.get(address) or self._dials.get(None)
        outcome = scripted.popleft() if scripted else Dial.OPENS
        socket = Socket(len(self._seen), machine, command, outcome, self._medium)
        self._open[key] = socket
        self._sockets.append(socket)

    def _end_dial(self, socket: Socket) -> None:
        socket.dial_due = None
        gateway = self.gateways.get(socket.address)
        if isinstance(socket.outcome, TransportFault):
            socket.fail(socket.outcome)
        elif gateway is None:
            socket.fail(_UNKNOWN)
        elif not gateway.listening:
            socket.fail(_REFUSED)
        else:
            certificate = self.certificates.get(socket.address) if socket.command.tls else None
            socket.open(gateway, certificate)
            self._serve(gateway)
        self._turn(socket.machine)

    def _release(self, machine: Machine, transport_id: int) -> None:
        socket = self._open.pop((machine, transport_id), None)
        if socket is None:
            raise ContractBroken(f"CloseTransport({transport_id}) for no open transport")
        socket.release()
        self._forget_if_over(socket)

    def _deliver_up(self, socket: Socket) -> None:
        gateway = socket.gateway
        assert gateway is not None
        writable = socket.deliver_up()
        self._forget_if_over(socket)
        self._serve(gateway)
        if writable:
            self._wake(socket.machine)  # its next chunk is dated by the present

    def _deliver_down(self, socket: Socket) -> None:
        writable = socket.deliver_down()
        self._turn(socket.machine)
        if writable and socket.gateway is not None:
            self._serve(socket.gateway)

    def _forget_if_over(self, socket: Socket) -> None:
        if socket.over:
            self._sockets.remove(socket)

    def _connected(self, address: Address | None = None) -> list[Socket]:
        return [
            socket
            for socket in self._sockets
            if socket.gateway is not None and address in (None, socket.address)
        ]
