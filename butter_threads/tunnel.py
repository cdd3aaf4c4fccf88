"""Through a proxy with blocking calls: a socket to the proxy becomes one to the host.

Rules kept here:

* All that is read and written before the host is there has one limit, however slowly it comes.
* SOCKS 5 needs the extra ``socks``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from butter_proto.errors import InvalidSettings
from butter_proto.machine import CHUNK
from butter_proto.proxy import Tunnel
from butter_proto.proxy_address import ProxyAddress, ProxyScheme

_Ask = Callable[[socket.socket, ProxyAddress, str, int], None]


def require(proxy: ProxyAddress | None) -> None:
    """Raise `InvalidSettings` where a proxy needs what is not installed."""
    if proxy is not None and proxy.scheme is ProxyScheme.SOCKS5:
        _socks(proxy)


def open_tunnel(
    opened: socket.socket, proxy: ProxyAddress, host: str, port: int, *, limit: float
) -> socket.socket:
    """Let a proxy that ``opened`` is connected to connect to the host, in ``limit`` seconds.

    ``opened`` is used up. Raises OSError; `ProxyRefused` where trying again is no use.
    """
    limited = _Limited(opened, limit)
    try:
        _ask(limited, proxy, host, port)
        limited.setblocking(True)
        kind = limited.family, limited.type, limited.proto
        return socket.socket(*kind, fileno=limited.detach())
    except BaseException:
        limited.close()
        raise


class _Limited(socket.socket):
    """A connected socket whose reads and writes, together, take ``limit`` seconds at most."""

    def __init__(self, opened: socket.socket, limit: float) -> None:
        super().__init__(opened.family, opened.type, opened.proto, fileno=opened.detach())
        self._limit: Final = limit
        self._ends_at: Final = time.monotonic() + limit

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self._limit_next()
        return super().recv(size, flags)

    def sendall(self, data: bytes, flags: int = 0, /) -> None:  # type: ignore[override]
        self._limit_next()
        super().sendall(data, flags)

    def _limit_next(self) -> None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer in {self._limit:g} s")
        self.settimeout(left)


def _ask(opened: socket.socket, proxy: ProxyAddress, host: str, port: int) -> None:
    if proxy.scheme is ProxyScheme.SOCKS5:
        _socks(proxy)(opened, proxy, host, port)
        return
    tunnel = Tunnel(proxy, host, port)
    opened.sendall(tunnel.data_to_send())
    while not tunnel.open:
        tunnel.receive_data(opened.recv(CHUNK))
        if tunnel.fault is not None:
            raise tunnel.fault


def _socks(proxy: ProxyAddress) -> _Ask:
    try:
        from butter_threads.socks import ask  # noqa: PLC0415 - python-socks is an extra
    except ImportError as error:
        raise InvalidSettings(
            f"{proxy} needs the package python-socks: pip install 'openbutter[socks]'"
        ) from error
    return ask
