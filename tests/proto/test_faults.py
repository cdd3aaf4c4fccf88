"""Naming what a driver met, without importing what raises it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from butter_proto.errors import FaultKind
from butter_proto.faults import fault_of


class OwnRefusal(ConnectionRefusedError):
    """A subclass is known by its parent."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no"), FaultKind.DNS),
        (ssl.SSLCertVerificationError("no"), FaultKind.CERTIFICATE),
        (ConnectionRefusedError("no"), FaultKind.REFUSED),
        (OwnRefusal("no"), FaultKind.REFUSED),
        (OSError(errno.ECONNREFUSED, "no"), FaultKind.REFUSED),
        (ConnectionResetError("no"), FaultKind.RESET),
        (BrokenPipeError("no"), FaultKind.RESET),
        (ConnectionAbortedError("no"), FaultKind.RESET),
        (TimeoutError("no"), FaultKind.UNREACHABLE),
        (OSError(errno.EHOSTUNREACH, "no"), FaultKind.UNREACHABLE),
        (OSError(errno.ENETDOWN, "no"), FaultKind.UNREACHABLE),
        (PermissionError("no"), FaultKind.LOCAL),
        (OSError(errno.EMFILE, "no"), FaultKind.LOCAL),
        (OSError("no"), FaultKind.OTHER),
        (ssl.SSLError("no"), FaultKind.OTHER),
        (RuntimeError("no"), FaultKind.OTHER),
    ],
)
def test_an_exception_is_known_by_its_type_or_its_number(error: Exception, kind: FaultKind) -> None:
    fault = fault_of(error)
    assert fault.kind is kind
    assert fault.text == str(error)


def test_a_cause_that_says_something_counts_before_a_wrapper_that_does_not() -> None:
    error = OSError("all addresses failed")
    error.__cause__ = ExceptionGroup("", [OSError("x"), ConnectionRefusedError(111, "refused")])
    fault = fault_of(error)
    assert (fault.kind, fault.text) == (FaultKind.REFUSED, "[Errno 111] refused")


def test_a_group_that_says_nothing_leaves_it_to_its_cause() -> None:
    error = ExceptionGroup("addresses", [OSError("x"), OSError("y")])
    error.__cause__ = TimeoutError("no answer")
    assert fault_of(error).kind is FaultKind.UNREACHABLE


def test_what_was_being_handled_counts_unless_it_was_suppressed() -> None:
    error = RuntimeError("my dial failed")
    error.__context__ = ConnectionRefusedError("refused")
    assert fault_of(error).kind is FaultKind.REFUSED
    error.__suppress_context__ = True
    assert fault_of(error).kind is FaultKind.OTHER


def test_an_exception_that_is_its_own_cause_is_looked_at_once() -> None:
    error = RuntimeError("round")
    error.__cause__ = error
    assert fault_of(error).text == "round"


def test_an_exception_without_a_text_is_told_by_its_name() -> None:
    assert fault_of(OSError()).text == "OSError"


def test_an_exception_without_a_text_has_that_of_its_cause() -> None:
    error = OSError()
    error.__cause__ = RuntimeError("certificate required")
    assert fault_of(error).text == "certificate required"
