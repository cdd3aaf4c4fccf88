"""What a dial may raise on any runtime, and how each is named."""

from __future__ import annotations

import errno
import socket
import ssl

from butter_proto.errors import FaultKind


def dial_faults() -> list[tuple[Exception, FaultKind]]:
    """Return each exception anew, since raising one changes it."""
    return [
        (ConnectionRefusedError("no"), FaultKind.REFUSED),
        (ConnectionResetError("no"), FaultKind.RESET),
        (BrokenPipeError("no"), FaultKind.RESET),
        (TimeoutError("no"), FaultKind.UNREACHABLE),
        (PermissionError("no"), FaultKind.LOCAL),
        (socket.gaierror(socket.EAI_NONAME, "no"), FaultKind.DNS),
        (ssl.SSLCertVerificationError("no"), FaultKind.CERTIFICATE),
        (OSError(errno.EHOSTUNREACH, "no"), FaultKind.UNREACHABLE),
        (OSError(errno.EMFILE, "no"), FaultKind.LOCAL),
        (OSError("no"), FaultKind.OTHER),
        (RuntimeError("no"), FaultKind.OTHER),
        (ExceptionGroup("no", [OSError("x"), ConnectionRefusedError("x")]), FaultKind.REFUSED),
    ]
