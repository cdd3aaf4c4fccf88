"""A TCP proxy on loopback between a client and a gateway, which does what `faults` describe.

Rules kept here:

* Without a fault it changes nothing, and passes an end of one side on to the other.
* `strike` is for the lines that there are, `meet` for the next one: a client that comes back finds
  a clean line unless the test says otherwise.
* A side that is gone ends the line; only a gateway whose direction is held or lost goes unheard.
* Runs on trio, and is called there.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import trio

from butter_proto.machine import CHUNK
from butter_trio.background import background
from tests.adapters.worlds import TrioWorld, entered, run_sync
from tests.chaos.faults import HELLO, NONE, End, Fault, Way

_LINGER_0: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing sends a reset."""
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a write raises whose peer is gone, or to whom we sent the end."""


class Line:
    """One connection through the proxy; its times are trio's."""

    def __init__(self, fault: Fault) -> None:
        self.opened_at = trio.current_time()
        self.hello_at: float | None = None
        """When the gateway's hello passed."""
        self.ended_at: float | None = None
        self.passed = dict.fromkeys(Way, 0)
        """Bytes that were written, each way."""
        self._fault = NONE
        self._awaited: Fault | None = None
        self._changes = set[Way]()
        self._healed = trio.Event()
        self._scope = trio.CancelScope()
        self._end: End = End.CUT
        self._tails = dict.fromkeys(Way, b"")
        self._sinks: dict[Way, trio.SocketStream] = {}
        self.strike(fault)

    def strike(self, fault: Fault) -> None:
        """Let this happen to the line from now on, in place of what happened before."""
        if fault.at is not None:
            self._awaited = fault
            return
        self._fault, self._awaited = fault, None
        self._changes = {way for way in Way if fault.treatment(way).change is not None}
        self._healed.set()  # whoever waits looks again
        self._healed = trio.Event()
        if fault.end is not None:
            self._end = fault.end
            self._scope.cancel()
        self._finish()

    @property
    def awaits(self) -> bool:
        """Whether a fault waits for what it is to strike at."""
        return self._awaited is not None

    async def run(self, client: trio.SocketStream, gateway: trio.SocketStream) -> None:
        """Carry bytes both ways until the line ends."""
        self._sinks = {Way.UP: gateway, Way.DOWN: client}
        self._finish()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, Way.UP, client, gateway)
                    nursery.start_soon(self._carry, Way.DOWN, gateway, client)
        finally:
            self.ended_at = trio.current_time()
            for side in (client, gateway):
                if self._end is End.RESET:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                side.socket.close()  # both, whoever else is being cancelled

    async def _carry(self, way: Way, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := bytes(await source.receive_some(CHUNK)):
                self._look(way, data)
                await trio.lowlevel.checkpoint()  # where it is to end now, nothing more passes
                await self._deliver(way, data, sink)
        except _GONE:
            pass
        if way is Way.DOWN:
            await self._until_heard()
        self._scope.cancel()

    def _look(self, way: Way, data: bytes) -> None:
        """Note what passes, and strike where that was awaited."""
        seen = self._tails[way] + data
        self._tails[way] = seen[-32:]
        if self.hello_at is None and way is Way.DOWN and HELLO in seen:
            self.hello_at = trio.current_time()
        fault = self._awaited
        if (
            fault is not None
            and fault.at is not None
            and fault.at[0] is way
            and fault.at[1] in seen
        ):
            self.strike(Fault(fault.up, fault.down, fault.end))

    async def _deliver(self, way: Way, data: bytes, sink: trio.SocketStream) -> None:
        while self._fault.treatment(way).held:
            await self._healed.wait()
        treatment = self._fault.treatment(way)
        if treatment.lost or treatment.over:
            return
        if treatment.change is not None and way in self._changes:
            self._changes.remove(way)
            data = treatment.change(data)
        await trio.sleep(treatment.delay)
        while data:
            treatment = self._fault.treatment(way)  # it may be healed meanwhile
            try:
                await sink.send_all(data[: treatment.size])
            except _GONE:
                if self._fault.treatment(way).over:  # that was us
                    return
                raise
            self.passed[way] += len(data[: treatment.size])
            data = data[treatment.size :]
            await trio.sleep(treatment.pause)

    def _finish(self) -> None:
        """End what is over."""
        for way, sink in self._sinks.items():
            if self._fault.treatment(way).over:
                with suppress(OSError):  # the peer is gone already
                    sink.socket.shutdown(socket.SHUT_WR)

    async def _until_heard(self) -> None:
        """Wait while the client cannot hear that the gateway is gone."""
        while self._fault.down.held or self._fault.down.lost:
            await self._healed.wait()


class Proxy:
    """A listening proxy; clients connect to `url`."""

    def __init__(self, gateway_url: str, port: int = 0) -> None:
        self._gateway_port = urlsplit(gateway_url).port or 0
        self._port = port
        self._meet = deque[Fault]()
        self._open = trio.Event()
        self._door = trio.CancelScope()
        self.history: list[Line] = []
        """Every line there was, oldest first."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def lines(self) -> list[Line]:
        """The lines that there are."""
        return [line for line in self.history if line.ended_at is None]

    def strike(self, fault: Fault) -> None:
        """Let this happen to the lines that there are, from now on."""
        for line in self.lines:
            line.strike(fault)

    def heal(self) -> None:
        """Let the lines that there are be clean again; what was held back passes."""
        self.strike(NONE)

    def meet(self, *faults: Fault) -> None:
        """Let these happen to the next lines, one each."""
        self._meet.extend(faults)

    def shut(self) -> None:
        """Refuse dials from now on."""
        self._open = trio.Event()
        self._door.cancel()

    def open(self) -> None:
        """Take dials again."""
        self._open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve for as long as the ``async with`` lasts."""
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        self._port = listeners[0].socket.getsockname()[1]
        self._open.set()
        async with background(lambda: self._keep_door(listeners)):
            yield

    async def _keep_door(self, listeners: list[trio.SocketListener]) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                with trio.CancelScope() as self._door:
                    await trio.serve_listeners(self._serve, listeners, handler_nursery=nursery)
                await self._open.wait()
                listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")

    async def _serve(self, client: trio.SocketStream) -> None:
        line = Line(self._meet.popleft() if self._meet else NONE)
        self.history.append(line)
        try:
            gateway = await trio.open_tcp_stream("127.0.0.1", self._gateway_port)
        except OSError:
            line.ended_at = trio.current_time()
            client.socket.close()
            return
        await line.run(client, gateway)


class Reached:
    """A proxy in a world of its own, for blocking tests."""

    def __init__(self, world: TrioWorld, proxy: Proxy) -> None:
        self._world = world
        self._proxy = proxy
        self.url = proxy.url

    @property
    def count(self) -> int:
        """How many lines there have been."""
        return len(self._proxy.history)

    @property
    def open(self) -> int:
        """How many lines there are."""
        return len(self._proxy.lines)

    @property
    def awaits(self) -> bool:
        """Whether the latest line has yet to meet what it is to meet."""
        return not self._proxy.history or self._proxy.history[-1].awaits

    @property
    def passed_up(self) -> int:
        """How many bytes of clients were written to the gateway."""
        return sum(line.passed[Way.UP] for line in self._proxy.history)

    def strike(self, fault: Fault) -> None:
        """Do as `Proxy.strike`."""
        run_sync(self._world, lambda: self._proxy.strike(fault))

    def heal(self) -> None:
        """Do as `Proxy.heal`."""
        run_sync(self._world, self._proxy.heal)

    def meet(self, *faults: Fault) -> None:
        """Do as `Proxy.meet`."""
        run_sync(self._world, lambda: self._proxy.meet(*faults))


@contextmanager
def proxied(world: TrioWorld, gateway_url: str) -> Iterator[Reached]:
    """Put a proxy before a gateway's URL."""
    proxy = Proxy(gateway_url)
    with entered(world, proxy.serving()):
        yield Reached(world, proxy)
