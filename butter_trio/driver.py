"""The I/O loop of trio: runs any Machine and knows nothing but its contract (machine.py).

One clock task; per transport one task that dials and reads, and exactly one that writes. A user's
cancellation never reaches the writer, since a cancelled ``send_all`` may have written half a frame.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from butter_proto.errors import TransportFault
from butter_proto.events import PoolEvent
from butter_proto.faults import fault_of
from butter_proto.machine import CHUNK, Machine, OpenTransport
from butter_trio.dial import Peer

_READ_ON = 1.0
"""Seconds a reader gets to find out why a write failed: a refusal may still be unread."""


class _Transport:
    """One transport that the machine asked for."""

    __slots__ = ("chunk", "command", "read_to_end", "scope", "writable")

    def __init__(self, command: OpenTransport) -> None:
        self.command = command
        self.scope = trio.CancelScope()
        self.chunk = b""
        self.writable = trio.lowlevel.ParkingLot()
        self.read_to_end = trio.Event()


class Driver:
    """Runs one machine. ``deliver`` gets each of its events and must not block or raise."""

    def __init__(
        self,
        machine: Machine,
        dial: Callable[[OpenTransport], Awaitable[Peer]],
        deliver: Callable[[PoolEvent], None],
    ) -> None:
        self._machine = machine
        self._dial = dial
        self._deliver = deliver
        self._transports: dict[int, _Transport] = {}
        self._nursery: trio.Nursery | None = None
        self._sleep = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Drive the machine until it is finished. Cancelling this drops every transport."""
        machine = self._machine
        async with trio.open_nursery() as self._nursery:
            self.pump()
            while not machine.finished:
                with trio.CancelScope(deadline=self._wake_up()) as self._sleep:
                    await trio.sleep(math.inf)
                machine.handle_timeout(trio.current_time())
                self.pump()

    def pump(self) -> None:
        """Pull every queue of the machine; call this after each input."""
        machine = self._machine
        if self._nursery is None:  # not running yet: the first pump finds everything
            return
        while (command := machine.next_command()) is not None:
            if isinstance(command, OpenTransport):
                transport = self._transports[command.id] = _Transport(command)
                self._nursery.start_soon(self._serve, transport)
            else:
                self._transports.pop(command.id).scope.cancel()
        for transport in self._transports.values():
            if transport.writable:  # its writer is idle
                transport.chunk = machine.data_to_send(transport.command.id)
                if transport.chunk:
                    transport.writable.unpark()
        while (event := machine.next_event()) is not None:
            self._deliver(event)
        if machine.finished:
            self._sleep.cancel()
        else:
            self._sleep.deadline = self._wake_up()

    def _wake_up(self) -> float:
        timeout = self._machine.next_timeout()
        return math.inf if timeout is None else timeout

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, transport: _Transport) -> None:
        """Dial, read to the end, and wait for CloseTransport."""
        with transport.scope:
            try:
                stream, certificate = await self._dial(transport.command)
            except Exception as error:  # noqa: BLE001 - whatever a dial raises is an input
                self._failed(transport, fault_of(error))
            else:
                await self._use(transport, stream, certificate)
            await trio.sleep_forever()

    async def _use(
        self, transport: _Transport, stream: trio.abc.Stream, certificate: bytes | None
    ) -> None:
        now = trio.current_time()
        try:
            self._machine.transport_opened(transport.command.id, now, certificate)
            self.pump()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, transport, stream)
                await self._read(transport, stream)
                transport.read_to_end.set()
        finally:
            await trio.aclose_forcefully(stream)

    async def _read(self, transport: _Transport, stream: trio.abc.Stream) -> None:
        machine, transport_id = self._machine, transport.command.id
        data = b"\0"
        while data:
            try:
                data = bytes(await stream.receive_some(CHUNK))
            except Exception as error:  # noqa: BLE001 - whatever a stream raises is an input
                self._failed(transport, fault_of(error))
                return
            machine.receive_data(transport_id, data, trio.current_time())
            self.pump()

    @trio.lowlevel.enable_ki_protection
    async def _write(self, transport: _Transport, stream: trio.abc.Stream) -> None:
        machine, transport_id = self._machine, transport.command.id
        while True:
            transport.chunk = machine.data_to_send(transport_id)
            if not transport.chunk:
                await transport.writable.park()
            try:
                await stream.send_all(transport.chunk)
            except Exception as error:  # noqa: BLE001 - whatever a stream raises is an input
                with trio.move_on_after(_READ_ON):
                    await transport.read_to_end.wait()
                self._failed(transport, fault_of(error))
                return
            machine.handle_timeout(trio.current_time())
            self.pump()

    def _failed(self, transport: _Transport, fault: TransportFault) -> None:
        self._machine.transport_failed(transport.command.id, fault, trio.current_time())
        self.pump()
