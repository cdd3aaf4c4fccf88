"""Connecting to a stand-in gateway without sockets, so that trio's MockClock works.

    stand_in = StandInGateway(token="t")
    async with connect("ws://gateway.local", token="t", dial=memory_dial(stand_in)) as gateway:
        ...

Rules kept here:

* There is no task and no latency: a stream that waits for data does for the stand-in what is due,
  and so does a dial. Nothing real is waited for, hence `trio.testing.MockClock` may jump.
* What a test scripts (``push``, ``drop``, ``restart``...) is done at the next checkpoint; script
  from trio's own thread.
* A stand-in has one ``memory_dial``; any number of connectors may share it.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from butter_proto.machine import OpenTransport
from butter_proto.testing import StandInGateway
from butter_trio.dial import Dial

__all__ = ["memory_dial"]

_REFUSED: Final = "the stand-in does not listen"


def memory_dial(stand_in: StandInGateway) -> Dial:
    """Return what ``connect(dial=...)`` takes to reach a stand-in, whatever host the URL names.

    While the stand-in does not listen a dial raises ConnectionRefusedError.
    """
    memory = _Memory(stand_in)

    async def dial(_: OpenTransport) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return memory.open()

    return dial


class _Memory:
    """What the streams of one stand-in share."""

    def __init__(self, stand_in: StandInGateway) -> None:
        self.stand_in = stand_in
        self._streams: dict[int, _MemoryStream] = {}
        self._news = trio.lowlevel.ParkingLot()
        stand_in.wake = self.wake

    def wake(self) -> None:
        """Let every stream that waits look again."""
        self._news.unpark_all()

    def open(self) -> _MemoryStream:
        """Accept one connection."""
        self.catch_up()
        if not self.stand_in.listening:
            raise ConnectionRefusedError(_REFUSED)
        number = self.stand_in.connections + 1
        self.stand_in.accept(number, trio.current_time())
        stream = self._streams[number] = _MemoryStream(self, number)
        return stream

    def feed(self, number: int, data: bytes) -> None:
        """Hand over what a stream wrote; ``b""`` is the end of it."""
        self.stand_in.receive_data(number, data, trio.current_time())
        self.wake()
        self.catch_up()

    def catch_up(self) -> bool:
        """Do what is due and end the streams that were closed; tell whether anything happened."""
        stand_in = self.stand_in
        now = trio.current_time()
        timeout = stand_in.next_timeout()
        due = timeout is not None and timeout <= now
        if due:
            stand_in.handle_timeout(now)
        ended = [*iter(stand_in.next_closed, None)]
        for closed in ended:
            self._streams.pop(closed.peer_id).on_closed(reset=closed.abort)
        if due or ended:
            self.wake()
        return due or bool(ended)

    async def wait(self) -> None:
        """Wait until something happened or is due."""
        timeout = self.stand_in.next_timeout()
        with trio.move_on_after(math.inf) as scope:
            scope.deadline = math.inf if timeout is None else timeout
            await self._news.park()


class _MemoryStream(trio.abc.Stream):
    """The client's end of one connection to the stand-in."""

    def __init__(self, memory: _Memory, number: int) -> None:
        self._memory = memory
        self._number = number
        self._unread = b""
        self._ended = False
        self._reset = False
        self._closed = False

    def on_closed(self, *, reset: bool) -> None:
        """Take note that the stand-in closed this connection."""
        self._ended = True
        self._reset = reset
        if reset:
            self._unread = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check_open()
        memory = self._memory
        while not (data := self._unread or memory.stand_in.data_to_send(self._number)):
            if self._reset:
                raise trio.BrokenResourceError("reset by the stand-in")
            if self._ended:
                return b""
            if not memory.catch_up():
                await memory.wait()
                self._check_open()
        size = len(data) if max_bytes is None else max_bytes
        self._unread = data[size:]
        return data[:size]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.wait_send_all_might_not_block()
        self._memory.feed(self._number, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._ended:
            raise trio.BrokenResourceError("the stand-in closed the connection")

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._memory.feed(self._number, b"")
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
