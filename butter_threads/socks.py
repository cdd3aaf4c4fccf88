"""SOCKS 5 with blocking calls, by python-socks.

Rules kept here:

* The only importer of python-socks, an extra; and itself imported only where it is used.
* The library shakes hands on a connection that is already there: dialling is ours, with all
  addresses of the proxy, so that every proxy that cannot be reached is told alike.
"""

from __future__ import annotations

import socket
from typing import Any

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.sync import Proxy

from butter_proto.proxy import socks_fault
from butter_proto.proxy_address import ProxyAddress


class _Opened(Proxy):
    """A connection to the proxy that is already there."""

    def __init__(self, opened: socket.socket) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0)
        self._opened = opened

    def connect(self, *_: Any, **__: Any) -> socket.socket:
        return self._opened


def ask(opened: socket.socket, proxy: ProxyAddress, host: str, port: int) -> None:
    """Let the proxy connect to the host, and resolve its name. Raises OSError.

    The socket brings its own limit.
    """
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
        asking.connect(host, port)
    except ProxyTimeoutError as error:
        raise TimeoutError("no answer in time") from error
    except ProxyError as error:
        raise socks_fault(proxy, str(error), error.error_code) from error
    except ValueError as error:  # the address that the proxy says it uses may be anything
        raise socks_fault(proxy, "an invalid answer", None) from error
