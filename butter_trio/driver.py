"""The I/O loop of trio: runs any Machine and knows nothing but its contract (machine.py).

One clock task; per transport one task that dials and reads, and exactly one that writes. A user's
cancellation never reaches the writer, since a cancelled ``send_all`` may have written half a frame.
The first chunk after something was read goes out at once where it can, so that a lone request does
not wait for the writer's turn; whatever follows it the writer joins. Once it is woken nothing needs
to be pulled until it runs, however many requests come before it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from butter_proto.errors import TransportFault
from butter_proto.events import PoolEvent
from butter_proto.faults import fault_of
from butter_proto.machine import Machine, OpenTransport
from butter_trio.dial import Peer
from butter_trio.plain_socket import close_at_once, receive_some, reset_in, send_all, write_at_once

_READ_ON = 1.0
"""Seconds a reader gets to find out why a write failed: a refusal may still be unread."""


class _Transport:
    """One transport that the machine asked for."""

    __slots__ = (
        "at_once",
        "chunk",
        "command",
        "read_to_end",
        "reset",
        "scope",
        "stream",
        "writable",
    )

    def __init__(self, command: OpenTransport) -> None:
        self.command = command
        self.scope = trio.CancelScope()
        self.chunk = b""
        self.stream: trio.abc.Stream | None = None
        self.at_once = True
        self.reset: Exception | None = None
        """The reset of which a write was told, and no read since: reads are told of an end."""
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
        self._writer_comes = False
        """Whether a writer is about to run, which pulls before it does anything."""

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
                transport.chunk = self._next_chunk(transport)
                if transport.chunk:
                    transport.writable.unpark()
                    self._writer_comes = True
        while (event := machine.next_event()) is not None:
            self._deliver(event)
        if machine.finished:
            self._sleep.cancel()
            return
        wake_up = self._wake_up()
        if wake_up != self._sleep.deadline:  # moving it costs more than the rest
            self._sleep.deadline = wake_up

    def pump_soon(self) -> None:
        """Pull every queue before anything waits: call this after an input that ends nothing."""
        if not self._writer_comes:
            self.pump()

    def _next_chunk(self, transport: _Transport) -> bytes:
        """Pull what an idle writer is to write, but for what the socket takes at once."""
        chunk = self._machine.data_to_send(transport.command.id)
        if chunk and transport.at_once and transport.stream is not None:
            transport.at_once = False
            try:
                chunk = chunk[write_at_once(transport.stream, chunk) :]
            except OSError as error:  # the writer finds out too
                transport.reset = reset_in(error)
            if not chunk:
                return self._machine.data_to_send(transport.command.id)
        return chunk

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
                transport.stream = stream
                nursery.start_soon(self._write, transport, stream)
                await self._read(transport, stream)
                transport.read_to_end.set()
        finally:
            await close_at_once(stream)

    async def _read(self, transport: _Transport, stream: trio.abc.Stream) -> None:
        machine, transport_id = self._machine, transport.command.id
        ended = False
        while not ended:
            try:
                data = await receive_some(stream)
            except Exception as error:  # noqa: BLE001 - whatever a stream raises is an input
                self._failed(transport, fault_of(error))
                return
            if not data and transport.reset is not None:
                self._failed(transport, fault_of(transport.reset))
                return
            transport.at_once = True
            transport.reset = None
            machine.receive_data(transport_id, data, trio.current_time())
            ended = not data
            del data  # or it is kept until something else comes
            self.pump()

    @trio.lowlevel.enable_ki_protection
    async def _write(self, transport: _Transport, stream: trio.abc.Stream) -> None:
        machine, transport_id = self._machine, transport.command.id
        while True:
            transport.chunk = machine.data_to_send(transport_id)
            try:
                if transport.chunk:
                    self._writer_comes = True
                    await trio.lowlevel.checkpoint()
                else:
                    await transport.writable.park()
            finally:  # whoever trusted in this writer must not wait
                self._writer_comes = False
                self.pump()
            try:
                await send_all(stream, transport.chunk)
            except Exception as error:  # noqa: BLE001 - whatever a stream raises is an input
                transport.reset = transport.reset or reset_in(error)
                with trio.move_on_after(_READ_ON):
                    await transport.read_to_end.wait()
                self._failed(transport, fault_of(error))
                return
            machine.handle_timeout(trio.current_time())
            self.pump()

    def _failed(self, transport: _Transport, fault: TransportFault) -> None:
        self._machine.transport_failed(transport.command.id, fault, trio.current_time())
        self.pump()
