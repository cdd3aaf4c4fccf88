"""Opening a transport on trio: TCP, then TLS with the platform's trust, and naming what failed.

``connect(dial=...)`` takes any other function from `OpenTransport` to a stream; TLS, where the URL
asks for it, comes on top of that stream too.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import trio

from butter_proto.errors import FaultKind, TransportFault
from butter_proto.machine import OpenTransport

Dial = Callable[[OpenTransport], Awaitable[trio.abc.Stream]]
Peer = tuple[trio.abc.Stream, bytes | None]
"""An open stream, and the peer's certificate (DER) after TLS."""

_TYPES: Final[Mapping[FaultKind, tuple[type[OSError], ...]]] = {
    FaultKind.DNS: (socket.gaierror,),
    FaultKind.CERTIFICATE: (ssl.SSLCertVerificationError,),
    FaultKind.REFUSED: (ConnectionRefusedError,),
    FaultKind.RESET: (ConnectionResetError, BrokenPipeError, ConnectionAbortedError),
    FaultKind.LOCAL: (PermissionError,),
    FaultKind.UNREACHABLE: (TimeoutError,),
}
_ERRNOS: Final[Mapping[int | None, FaultKind]] = {
    errno.EHOSTUNREACH: FaultKind.UNREACHABLE,
    errno.ENETUNREACH: FaultKind.UNREACHABLE,
    errno.EHOSTDOWN: FaultKind.UNREACHABLE,
    errno.ENETDOWN: FaultKind.UNREACHABLE,
    errno.EMFILE: FaultKind.LOCAL,
    errno.ENFILE: FaultKind.LOCAL,
    errno.ENOBUFS: FaultKind.LOCAL,
    errno.ENOMEM: FaultKind.LOCAL,
    errno.EADDRNOTAVAIL: FaultKind.LOCAL,
    errno.EAFNOSUPPORT: FaultKind.LOCAL,
}


async def dial_tcp(command: OpenTransport) -> trio.abc.Stream:
    """Connect to the host by TCP (RFC 8305, happy eyeballs)."""
    return await trio.open_tcp_stream(command.host, command.port)


async def open_peer(command: OpenTransport, dial: Dial, context: ssl.SSLContext | None) -> Peer:
    """Dial and, where the command asks for it, do the TLS handshake. Raises OSError."""
    stream = await dial(command)
    if not command.tls:
        return stream, None
    context = context or ssl.create_default_context()
    secure = trio.SSLStream(
        stream, context, server_hostname=command.server_name, https_compatible=True
    )
    try:
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


def fault_of(error: BaseException) -> TransportFault:
    """Name what went wrong, judged by the first cause that says something."""
    for cause in _causes(error):
        kind = _kind_of(cause)
        if kind is not FaultKind.OTHER:
            return TransportFault(kind, str(cause))
    return TransportFault(FaultKind.OTHER, str(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk an exception, its group's members and its causes."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _causes(member)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _kind_of(error: BaseException) -> FaultKind:
    for kind, types in _TYPES.items():
        if isinstance(error, types):
            return kind
    number = error.errno if isinstance(error, OSError) else None
    return _ERRNOS.get(number, FaultKind.OTHER)
