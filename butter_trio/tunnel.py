"""Through a proxy on trio: a stream to the proxy becomes one to the host.

The driver cancels what takes too long. SOCKS 5 needs the extra ``socks``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from butter_proto.errors import InvalidSettings
from butter_proto.machine import CHUNK
from butter_proto.proxy import ProxyFailed, Tunnel, unreachable
from butter_proto.proxy_address import ProxyAddress, ProxyScheme

_Ask = Callable[[trio.socket.SocketType, ProxyAddress, str, int], Awaitable[None]]


def require(proxy: ProxyAddress | None) -> None:
    """Raise `InvalidSettings` where a proxy needs what is not installed."""
    if proxy is not None and proxy.scheme is ProxyScheme.SOCKS5:
        _socks(proxy)


async def dial_through(proxy: ProxyAddress, host: str, port: int) -> trio.SocketStream:
    """Connect to a proxy, and let it connect to the host.

    Raises `ProxyFailed`, which names the proxy; `ProxyRefused` where trying again is no use.
    """
    try:
        stream = await trio.open_tcp_stream(proxy.host, proxy.port)
        try:
            await _ask(stream, proxy, host, port)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    except ProxyFailed:
        raise
    except (OSError, trio.BrokenResourceError) as error:
        raise unreachable(proxy, error) from error
    return stream


async def _ask(stream: trio.SocketStream, proxy: ProxyAddress, host: str, port: int) -> None:
    if proxy.scheme is ProxyScheme.SOCKS5:
        await _socks(proxy)(stream.socket, proxy, host, port)
        return
    tunnel = Tunnel(proxy, host, port)
    await stream.send_all(tunnel.data_to_send())
    while not tunnel.open:
        tunnel.receive_data(await stream.receive_some(CHUNK))
        if tunnel.fault is not None:
            raise tunnel.fault


def _socks(proxy: ProxyAddress) -> _Ask:
    try:
        from butter_trio.socks import ask  # noqa: PLC0415 - python-socks is an extra
    except ImportError as error:
        raise InvalidSettings(
            f"{proxy} needs the package python-socks: pip install 'openbutter[socks]'"
        ) from error
    return ask
