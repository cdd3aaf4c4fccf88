"""Naming what a driver met: from an exception to a `TransportFault`, for any runtime.

Rules kept here:

* An exception is known by the names of its types, so that no socket or TLS module is imported.
* Groups and causes are walked; the first that has a known kind counts, and of unknown ones the
  first that has a text.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Final

from butter_proto.errors import FaultKind, TransportFault

_TYPES: Final[Mapping[str, FaultKind]] = {
    "gaierror": FaultKind.DNS,
    "ProxyRefused": FaultKind.PROXY_REFUSED,
    "ProxyFailed": FaultKind.PROXY,
    "SSLCertVerificationError": FaultKind.CERTIFICATE,
    "ConnectionRefusedError": FaultKind.REFUSED,
    "ConnectionResetError": FaultKind.RESET,
    "BrokenPipeError": FaultKind.RESET,
    "ConnectionAbortedError": FaultKind.RESET,
    "PermissionError": FaultKind.LOCAL,
    "TimeoutError": FaultKind.UNREACHABLE,
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


def fault_of(error: BaseException) -> TransportFault:
    """Name what went wrong."""
    for cause in _causes(error):
        kind = _kind_of(cause)
        if kind is not FaultKind.OTHER:
            return TransportFault(kind, str(cause))
    text = next(filter(None, map(str, _causes(error))), type(error).__name__)
    return TransportFault(FaultKind.OTHER, text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk an exception, its group's members and its causes, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        before = None if cause.__suppress_context__ else cause.__context__
        found = [cause.__cause__ or before]
        if isinstance(cause, BaseExceptionGroup):
            found += reversed(cause.exceptions)
        waiting += [inner for inner in found if inner is not None]


def _kind_of(error: BaseException) -> FaultKind:
    for kind in type(error).__mro__:
        if kind.__name__ in _TYPES:
            return _TYPES[kind.__name__]
    return _ERRNOS.get(error.errno if isinstance(error, OSError) else None, FaultKind.OTHER)
