"""Reading and writing a plain socket in as few turns of the loop as there can be.

Rules kept here:

* Only for trio's own `SocketStream` on POSIX; every other stream is asked in its own way.
* trio's own `receive_some` tries to read, fails, and waits; or reads, and gives the others a turn.
  Here it is always waited first, which is their turn. `send_all` gives them none: the writer does.
* `write_at_once` is used only while the writer is idle, so that nothing comes between the parts of
  a frame. It never waits: what was not taken is the writer's.
"""

from __future__ import annotations

import os
from typing import TypeGuard

import trio

from butter_proto.machine import CHUNK


def write_at_once(stream: trio.abc.Stream, data: bytes) -> int:
    """Return how many bytes of ``data`` a stream took; 0 for one that is no plain socket.

    Raises OSError: whoever catches it must keep a reset, of which the socket tells only once.
    """
    if not is_plain(stream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except BlockingIOError:
        return 0


async def receive_some(stream: trio.abc.Stream) -> bytes:
    """Return what came, at most 64 KiB; ``b""`` is the end. Raises what a stream or socket does."""
    if not is_plain(stream):
        return bytes(await stream.receive_some(CHUNK))
    while True:
        await trio.lowlevel.wait_readable(stream.socket)
        try:
            return os.read(stream.socket.fileno(), CHUNK)
        except BlockingIOError:  # it was readable once (select(2))
            pass


async def send_all(stream: trio.abc.Stream, data: bytes) -> None:
    """Write ``data``. Raises what a stream or a socket does."""
    if not is_plain(stream):
        await stream.send_all(data)
        return
    while data:
        try:
            data = data[os.write(stream.socket.fileno(), data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(stream.socket)


def reset_in(error: Exception) -> Exception | None:
    """Return an error that a failed write was told of, if it is a reset."""
    is_reset = isinstance(error, ConnectionResetError)
    return error if is_reset or isinstance(error.__cause__, ConnectionResetError) else None


async def close_at_once(stream: trio.abc.Stream) -> None:
    """Close without a word to the peer. Raises what a stream of somebody else's does."""
    if is_plain(stream):
        stream.socket.close()
    else:
        await trio.aclose_forcefully(stream)


def is_plain(stream: trio.abc.Stream) -> TypeGuard[trio.SocketStream]:
    """Tell whether a stream is nothing but a socket."""
    return type(stream) is trio.SocketStream and os.name == "posix"
