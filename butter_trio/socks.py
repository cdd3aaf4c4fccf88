"""SOCKS 5 on trio, by python-socks.

Rules kept here:

* The only importer of python-socks, an extra; and itself imported only where it is used.
* The library shakes hands on a connection that is already there: dialling is ours, with all
  addresses of the proxy, so that every proxy that cannot be reached is told alike.
"""

from __future__ import annotations

import math
from typing import Any

import trio
from python_socks import ProxyError, ProxyType
from python_socks.async_.trio import Proxy

from butter_proto.proxy import socks_fault
from butter_proto.proxy_address import ProxyAddress


class _Opened(Proxy):
    """A connection to the proxy that is already there."""

    def __init__(self, opened: trio.socket.SocketType) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0)
        self._opened = opened

    async def connect(self, *_: Any, **__: Any) -> trio.socket.SocketType:
        return self._opened


async def ask(opened: trio.socket.SocketType, proxy: ProxyAddress, host: str, port: int) -> None:
    """Let the proxy connect to the host, and resolve its name. Raises OSError."""
    asking = Proxy(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.username,
        None if proxy.password is None else proxy.password.reveal(),
        rdns=True,
        forward=_Opened(opened),
    )
    try:
        await asking.connect(host, port, timeout=math.inf)  # the driver cancels
    except ProxyError as error:
        raise socks_fault(proxy, str(error), error.error_code) from error
    except ValueError as error:  # the address that the proxy says it uses may be anything
        raise socks_fault(proxy, "an invalid answer", None) from error
