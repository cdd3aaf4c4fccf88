"""Opening a transport with blocking calls: DNS, TCP, a proxy, TLS with the platform's trust.

Rules kept here:

* It runs in a thread of its own, so it may block. The machine gives an attempt up after
  ``timeouts.open``; connecting, after it the proxy, and then the TLS handshake have a limit of
  their own, so that the thread ends soon after. Only a resolver that hangs takes its own time.
* Addresses are tried as RFC 8305 says: the families in turn, the next one after `STAGGER` or a
  failure. The first that connects wins, the others are closed.

``connect(dial=...)`` takes any other function from `OpenTransport` to a connected socket; TLS,
where the URL asks for it, comes on top of that socket too.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final

from butter_proto.machine import OpenTransport
from butter_proto.proxy import ProxyFailed, unreachable
from butter_proto.settings import Settings, Timeouts
from butter_threads.tunnel import open_tunnel

LIMIT: Final = Timeouts().open
"""Seconds for connecting, and as many again for a proxy and for the TLS handshake."""
STAGGER: Final = 0.25
"""Seconds until the next address is tried as well (RFC 8305, 5)."""
_LONGER: Final = 1.0
"""Seconds that a dial has more than the machine gives it, so that the machine's verdict is told."""
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EWOULDBLOCK)

Dial = Callable[[OpenTransport], socket.socket]
Peer = tuple[socket.socket, bytes | None]
"""A connected socket, and the peer's certificate (DER) after TLS."""
_Address = tuple[Any, ...]  # as getaddrinfo gives it: family, type, protocol, name, address


def dial_tcp(command: OpenTransport, *, limit: float = LIMIT) -> socket.socket:
    """Connect to the host by TCP (RFC 8305, happy eyeballs), by the command's proxy if it has one.

    Raises OSError, after ``limit`` seconds for either; `ProxyFailed`, which names the proxy, where
    one is in the way.
    """
    proxy = command.proxy
    if proxy is None:
        return _connect(command.host, command.port, limit)
    try:
        opened = _connect(proxy.host, proxy.port, limit)
        return open_tunnel(opened, proxy, command.host, command.port, limit=limit)
    except ProxyFailed:
        raise
    except OSError as error:
        raise unreachable(proxy, error) from error


class Opener:
    """Opens the transports that machines with any of some settings ask for.

    ``dial`` replaces `dial_tcp`, ``context`` the platform's trust.
    """

    def __init__(self, dial: Dial | None, context: ssl.SSLContext | None) -> None:
        self._dial = dial
        self._context = context
        self._limit = 0.0

    def serve(self, settings: Settings) -> None:
        """Open transports for a machine with these settings too: as long as it waits for them."""
        self._limit = max(self._limit, settings.timeouts.open + _LONGER)

    def __call__(self, command: OpenTransport) -> Peer:
        """Open one, blocking. Raises OSError."""
        limit = self._limit
        dial = self._dial or partial(dial_tcp, limit=limit)
        return open_peer(command, dial, self._context, limit=limit)


def open_peer(
    command: OpenTransport, dial: Dial, context: ssl.SSLContext | None, *, limit: float = LIMIT
) -> Peer:
    """Dial and, where the command asks for it, do the TLS handshake. Raises OSError."""
    opened = dial(command)
    if not command.tls:
        return opened, None
    try:
        opened.settimeout(limit)
        context = context or trust_for(command)
        opened.getpeername()  # reset already? wrap_socket would raise and leave its socket open
        opened = secure = context.wrap_socket(opened, server_hostname=command.server_name)
        return opened, secure.getpeercert(binary_form=True)
    except BaseException:
        opened.close()
        raise


def trust_for(command: OpenTransport) -> ssl.SSLContext:
    """Return the platform's trust, or none at all where the machine compares a pin."""
    context = ssl.create_default_context()
    if command.pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _connect(host: str, port: int, limit: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _Race(_families_in_turn(found)).run(limit)


def _families_in_turn(found: list[Any]) -> Iterable[_Address]:
    """Order addresses so that the families alternate, the resolver's first choice first."""
    first = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    in_turn = chain.from_iterable(zip_longest(first, others))
    return [address for address in in_turn if address is not None]


class _Race:
    """Connects to several addresses at once; the first that answers wins."""

    def __init__(self, addresses: Iterable[_Address]) -> None:
        self._waiting = deque(addresses)
        self._selector = selectors.DefaultSelector()
        self._faults: list[OSError] = []

    def run(self, limit: float) -> socket.socket:
        """Return the winner, blocking. Raises OSError with every failure as its cause."""
        give_up_at = time.monotonic() + limit
        try:
            while self._begin_next() or self._selector.get_map():
                left = give_up_at - time.monotonic()
                if left <= 0:
                    self._faults.append(TimeoutError(f"no answer in {limit:g} s"))
                    break
                for key, _ in self._selector.select(min(STAGGER, left) if self._waiting else left):
                    assert isinstance(key.fileobj, socket.socket)
                    if self._has_connected(key.fileobj, key.data):
                        return key.fileobj
        finally:
            for key in list(self._selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
            self._selector.close()
        if len(self._faults) == 1:
            raise self._faults[0]
        raise OSError("all addresses failed") from ExceptionGroup("addresses", self._faults)

    def _begin_next(self) -> bool:
        """Begin with the next address that does not fail at once; False where there is none."""
        while self._waiting:
            if self._begin(self._waiting.popleft()):
                return True
        return False

    def _begin(self, address: _Address) -> bool:
        family, kind, protocol, _, place = address
        try:
            beginning = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine does not have
            self._faults.append(error)
            return False
        beginning.setblocking(False)
        beginning.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = beginning.connect_ex(place)
        if number in (0, *_UNDER_WAY):
            self._selector.register(beginning, selectors.EVENT_WRITE, place)
            return True
        self._fail(beginning, number, place)
        return False

    def _has_connected(self, tried: socket.socket, place: Any) -> bool:
        self._selector.unregister(tried)
        number = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail(tried, number, place)
        return not number

    def _fail(self, tried: socket.socket, number: int, place: Any) -> None:
        tried.close()
        self._faults.append(OSError(number, os.strerror(number), f"{place[0]} port {place[1]}"))
