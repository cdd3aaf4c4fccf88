"""What the tests of sockets share: loopback, certificates, a driver at work, and patience.

Nothing here sleeps. What is waited for comes within `PATIENCE` seconds, or the test fails.
"""

from __future__ import annotations

import gc
import os
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import trustme

from butter_proto.connector import Connector
from butter_proto.events import PoolEvent
from butter_proto.machine import Machine, OpenTransport
from butter_proto.settings import Framing, ReconnectSettings, Settings
from butter_threads import Gateway
from butter_threads.dial import Peer, open_peer
from butter_threads.driver import Driver, is_owned

_T = TypeVar("_T")

PATIENCE: Final = 20.0
"""Seconds after which a test hangs."""
URL: Final = "ws://gateway.local"
COMMAND: Final = OpenTransport(
    1, "gateway.local", 80, False, "gateway.local", None, Framing.BYTES, URL
)
SOON: Final = Settings(reconnect=ReconnectSettings(base=0.01, cap=0.01, minimum=0.01))
"""Tries again at once."""
OPEN: Final = Path("/proc/self/fd")
LINGER_0: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing sends a reset."""


# --- sockets --------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Listen on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


@contextmanager
def saturated() -> Iterator[tuple[str, int]]:
    """Yield an address where dials hang: it listens, but its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                waiting.connect_ex(address)
            yield address


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def dial_url(url: str) -> Callable[[OpenTransport], socket.socket]:
    """Make a dial that goes there, whatever it is told."""
    return lambda _: open_socket(url)


def open_socket(url: str) -> socket.socket:
    """Open a raw socket to a URL."""
    parts = urlsplit(url)
    opened = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def reset(connected: socket.socket) -> None:
    """Close a TCP socket so that its peer gets a reset."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    connected.close()


def read_to_the_end(connected: socket.socket) -> bytes:
    data = b""
    while part := connected.recv(65536):
        data += part
    return data


def descriptors() -> list[str]:
    """Return the sockets and selectors that this process has open, once no dial is under way.

    Nothing where the system does not tell.
    """
    for thread in threading.enumerate():
        if ": dial " in thread.name:
            thread.join(PATIENCE)
    if not OPEN.is_dir():
        return []
    found = []
    for entry in OPEN.iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return sorted(name for name in found if name.startswith(("socket:", "anon_inode:")))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Hold what is done meanwhile to the descriptors that were open before it."""
    before = descriptors()
    yield
    gc.collect()  # an unclosed socket warns, and a warning is an error
    assert descriptors() == before


class Relay:
    """A dial to a URL that passes bytes on, as long as the ``with`` lasts.

    What goes up can be held back. Its sockets have small buffers, so that a write soon blocks.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._passing: list[threading.Thread] = []
        self._open = threading.Event()
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_through()
        for passing in self._passing:
            passing.join()

    def __call__(self, _: OpenTransport) -> socket.socket:
        near, far = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        gateway = open_socket(self._url)
        passing = threading.Thread(target=self._pass_on, args=(far, gateway))
        passing.start()
        self._passing.append(passing)
        return near

    def hold_back(self) -> None:
        """Let nothing up from now on."""
        self._open.clear()

    def let_through(self) -> None:
        """Let everything up again."""
        self._open.set()

    def _pass_on(self, far: socket.socket, gateway: socket.socket) -> None:
        with far, gateway, suppress(OSError):
            while True:
                up = [far] if self._open.is_set() else []
                ready = select.select([gateway, *up], [], [], 0.01)[0]
                for source in ready:
                    data = source.recv(65536)
                    (gateway if source is far else far).sendall(data)
                    if not data:
                        return


# --- TLS ------------------------------------------------------------------------------------


@cache
def authority() -> trustme.CA:
    """Return the CA that `trusting` trusts."""
    return trustme.CA()


@cache
def certificate(name: str = "gateway.local", *, known: bool = True) -> trustme.LeafCert:
    """Return a certificate for a name, of that CA or of one that nobody knows."""
    return (authority() if known else trustme.CA()).issue_cert(name)


def trusting() -> ssl.SSLContext:
    """Return a client's context that trusts `authority`."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


def presenting(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """Return a server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def handshaken(near: socket.socket, far: socket.socket) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Do the TLS handshake between two ends; returns the client's and the server's."""
    served: list[ssl.SSLSocket] = []
    context = presenting(certificate())
    serving = threading.Thread(
        target=lambda: served.append(context.wrap_socket(far, server_side=True))
    )
    serving.start()
    client = trusting().wrap_socket(near, server_hostname="gateway.local")
    serving.join()
    served[0].send(b"\0")
    client.recv(1)  # and the session tickets before it
    return client, served[0]


@contextmanager
def behind_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Put a TLS terminator before a URL; yields the terminator's URL."""
    with listening() as listener:
        host, port = listener.getsockname()
        ending = threading.Event()
        serving = threading.Thread(target=_terminate, args=(listener, url, context, ending))
        serving.start()
        try:
            yield f"ws://{host}:{port}"
        finally:
            ending.set()
            socket.create_connection((host, port)).close()  # the accept returns
            serving.join()


def _terminate(
    listener: socket.socket, url: str, context: ssl.SSLContext, ending: threading.Event
) -> None:
    copying: list[threading.Thread] = []
    while True:
        accepted, _ = listener.accept()
        if ending.is_set():
            accepted.close()
            break
        accepted.settimeout(PATIENCE)
        try:
            secure = context.wrap_socket(accepted, server_side=True)
        except OSError:
            accepted.close()
            continue
        copying.append(threading.Thread(target=_copy, args=(secure, open_socket(url))))
        copying[-1].start()
    for thread in copying:
        thread.join()


def _copy(secure: ssl.SSLSocket, plain: socket.socket) -> None:
    """Copy both ways until one side ends. One thread: an SSL object is not for two."""
    with secure, plain, suppress(OSError):
        secure.setblocking(False)
        waiting = b""
        while True:
            readers = [secure] if waiting else [secure, plain]
            ready = select.select(readers, [secure] if waiting else [], [], PATIENCE)[0]
            with suppress(ssl.SSLWantReadError):
                while data := secure.recv(65536):
                    plain.sendall(data)
                return
            if plain in ready:
                waiting = plain.recv(65536)
                if not waiting:
                    return
            with suppress(ssl.SSLWantWriteError):
                waiting = waiting[secure.send(waiting) :] if waiting else b""


# --- a driver at work -----------------------------------------------------------------------


class Running:
    """A driver that runs a machine for as long as the ``with`` lasts, and what it told.

    ``delivered`` is called where the driver calls it; it may raise.
    """

    def __init__(
        self,
        machine: Machine,
        dial: Callable[[OpenTransport], Peer],
        end: Callable[[float], object],
        delivered: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine = machine
        self.lock = threading.RLock()
        self.told: list[PoolEvent] = []
        self._news: queue.SimpleQueue[PoolEvent] = queue.SimpleQueue()
        self.driver = Driver(
            machine, dial, self._deliver, delivered, end, lock=self.lock, name="driver"
        )

    def __enter__(self) -> Self:
        self.driver.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop the machine, and wait until the driver has left."""
        self.driver.call(self.driver._end_machine)
        self.driver.join()

    def until(self, kind: type[_T]) -> _T:
        """Wait for the next event of a type."""
        while True:
            event = self._news.get(timeout=PATIENCE)
            if isinstance(event, kind):
                return event

    def _deliver(self, event: PoolEvent) -> None:
        assert is_owned(self.lock)
        self.told.append(event)
        self._news.put(event)


def connector(settings: Settings = SOON, url: str = URL) -> Connector:
    """Make a connector that has begun its first attempt."""
    machine = Connector(url, settings, random=lambda: 1.0, entropy=os.urandom)
    machine.start(time.monotonic())
    return machine


def running(
    machine: Connector,
    dial: Callable[[OpenTransport], socket.socket],
    context: ssl.SSLContext | None = None,
) -> Running:
    """Run a connector with dials as `butter_threads.connect` makes them."""
    return Running(
        machine, partial(open_peer, dial=dial, context=context), partial(machine.stop, abort=True)
    )


def until(gateway: Gateway, kind: type[_T]) -> _T:
    """Wait for a state event of this type; the present one counts."""
    for event in gateway.states(timeout=PATIENCE):
        if isinstance(event, kind):
            return event
    raise AssertionError(f"stopped before {kind.__name__}")
