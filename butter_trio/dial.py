"""Opening a transport on trio: TCP, perhaps a proxy, then TLS with the platform's trust.

``connect(dial=...)`` takes any other function from `OpenTransport` to a stream; TLS, where the URL
asks for it, comes on top of that stream too.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from butter_proto.endpoint import address_of
from butter_proto.machine import OpenTransport
from butter_trio.tunnel import dial_through

Dial = Callable[[OpenTransport], Awaitable[trio.abc.Stream]]
Peer = tuple[trio.abc.Stream, bytes | None]
"""An open stream, and the peer's certificate (DER) after TLS."""
_FAMILIES: Final = {4: trio.socket.AF_INET, 6: trio.socket.AF_INET6}


async def dial_tcp(command: OpenTransport) -> trio.abc.Stream:
    """Connect to the host by TCP (RFC 8305, happy eyeballs), by the command's proxy if it has one.

    Raises OSError.
    """
    if command.proxy is not None:
        return await dial_through(command.proxy, command.host, command.port)
    address = address_of(command.host)
    if address is None or "%" in command.host:  # a resolver knows what a zone means
        return await trio.open_tcp_stream(command.host, command.port)
    return await _dial_address(_FAMILIES[address.version], command.host, command.port)


async def _dial_address(family: int, host: str, port: int) -> trio.SocketStream:
    """Connect to the one address that there is: nothing to resolve, nothing to race."""
    opened = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await opened.connect((host, port))
    except BaseException:
        opened.close()
        raise
    return trio.SocketStream(opened)


async def open_peer(command: OpenTransport, dial: Dial, context: ssl.SSLContext | None) -> Peer:
    """Dial and, where the command asks for it, do the TLS handshake. Raises OSError."""
    stream = await dial(command)
    if not command.tls:
        return stream, None
    try:
        context = context or trust_for(command)
        secure = trio.SSLStream(
            stream, context, server_hostname=command.server_name, https_compatible=True
        )
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise OSError(f"TLS failed: {error.__cause__ or error}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    certificate = secure.getpeercert(binary_form=True)
    assert isinstance(certificate, bytes | None)
    return secure, certificate


def trust_for(command: OpenTransport) -> ssl.SSLContext:
    """Return the platform's trust, or none at all where the machine compares a pin."""
    context = ssl.create_default_context()
    if command.pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
