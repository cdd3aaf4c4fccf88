"""The way to a gateway, looked at step by step: name, port, proxy, TLS, pin.

Rules kept here:

* Each step opens a connection of its own and closes it. Over none of them a secret is sent, but
  the proxy's own to the proxy.
* A step takes ``limit`` seconds at most. What may explain a failure is tried for `_GUESS` more.
* A certificate that is not accepted is still told, for that is what a pin is made of; whoever pins
  it has to compare it on the gateway's own machine.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import attrs
import trio

from butter_proto.endpoint import Endpoint, Reach, address_of
from butter_proto.errors import Ending, EndKind, FaultKind
from butter_proto.faults import fault_of
from butter_proto.machine import OpenTransport
from butter_proto.pins import Pin, fingerprints, valid_until
from butter_proto.proxy import unreachable
from butter_trio.dial import Peer, dial_tcp, open_peer
from butter_trio.findings import Findings, Step

_GUESS: Final = 3.0
_HTTP: Final = b"HTTP/"
_QUESTION: Final = b"HEAD /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
_USUAL_PORT: Final = 18789
"""Where a gateway listens if it is not told otherwise."""
_SOON: Final = timedelta(days=14)
_DROPPED: Final = "Something on the way drops it: check host and port, firewalls, and the network."
_SILENT_TLS: Final = "Something accepts the connection and speaks no TLS; is ws:// or wss:// right?"
_NO_TLS: Final = "Does the port speak TLS, and a version of it that this machine takes?"
_PIN_IT: Final = (
    "If it is the gateway's own, compare its fingerprint on that machine, and give it as --pin."
)


async def reach(
    command: OpenTransport,
    context: ssl.SSLContext | None,
    pins: tuple[Pin, ...],
    limit: float,
    findings: Findings,
) -> None:
    """Go the whole way. Raises `Failed` at the step that leads no further."""
    walk = _Walk(command, context, limit, findings)
    await walk.resolve()
    await walk.dial()
    await walk.pass_proxy()
    await walk.shake_hands(pins)


async def speaks_tls(command: OpenTransport) -> bool:
    """Tell whether the peer speaks TLS, whatever its certificate."""
    return await _guess(_certificate, attrs.evolve(command, tls=True)) is not None


async def speaks_http(command: OpenTransport) -> bool:
    """Tell whether the peer answers HTTP in clear text."""
    return await _guess(_http, attrs.evolve(command, tls=False)) is not None


def other_scheme(command: OpenTransport) -> str:
    """Return the advice to use the scheme that was not used."""
    other = Endpoint(command.host, command.port, not command.tls)
    place = f"{other.scheme}://{other.host_header}"
    if other.tls:
        return f"The port speaks TLS: use {place}"
    if other.reach is Reach.PUBLIC:
        return "The port speaks HTTP without TLS: everybody on the way could read the token."
    return f"The port speaks HTTP without TLS: use {place}"


class _Walk:
    def __init__(
        self,
        command: OpenTransport,
        context: ssl.SSLContext | None,
        limit: float,
        findings: Findings,
    ) -> None:
        self._command = command
        self._context = context
        self._limit = limit
        self._findings = findings
        self._place = command.proxy or command
        self._whose = "the proxy" if command.proxy is not None else "the gateway"

    async def resolve(self) -> None:
        """Find the addresses of what is dialled."""
        host, port = self._place.host, self._place.port
        if address_of(host) is not None:
            self._findings.well(Step.DNS, f"{host} is an address", addresses=[host])
            return
        began = trio.current_time()
        try:
            with trio.fail_after(self._limit):
                found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError, trio.TooSlowError) as error:
            self._findings.fail_to_open(Step.DNS, error, "Check this machine's resolver.")
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        seen = f"{host} is {', '.join(addresses)}"
        if self._command.proxy is not None:
            seen += "; the proxy resolves the gateway's name"
        self._findings.well(Step.DNS, seen, trio.current_time() - began, addresses=addresses)

    async def dial(self) -> None:
        """Connect to it."""
        host, port = self._place.host, self._place.port
        began = trio.current_time()
        try:
            with trio.fail_after(self._limit):
                stream = await trio.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            await self._fail_dial(error)
        seconds = trio.current_time() - began
        with suppress(OSError):  # a peer that is gone again
            host, port = stream.socket.getpeername()[:2]
        await trio.aclose_forcefully(stream)
        seen = f"{self._whose} accepts at {host} port {port}"
        self._findings.well(Step.TCP, seen, seconds, address=host, port=port)

    async def _fail_dial(self, error: Exception) -> NoReturn:
        """Say why nothing accepts: the gateway, or the proxy, which is then no gateway."""
        proxy = self._command.proxy
        if proxy is not None:
            self._findings.nothing(Step.TCP, "the proxy does not accept")
            if isinstance(error, OSError):
                error = unreachable(proxy, error)
            self._findings.fail_to_open(Step.PROXY, error, _DROPPED)
        hint = await self._hint_for_dial(error)
        self._findings.fail_to_open(Step.TCP, error, _DROPPED, hint)

    async def _hint_for_dial(self, error: Exception) -> str:
        """Look for a gateway at the usual port where nothing listens at this one."""
        command = self._command
        if fault_of(error).kind is not FaultKind.REFUSED or command.port == _USUAL_PORT:
            return ""
        usual = attrs.evolve(command, port=_USUAL_PORT)
        if not (await speaks_http(usual) or await speaks_tls(usual)):
            return ""
        return (
            f"Nothing listens at port {command.port}, but at {_USUAL_PORT}, the gateway's usual "
            "one, something does: use that."
        )

    async def pass_proxy(self) -> None:
        """Let the proxy connect to the gateway."""
        if self._command.proxy is None:
            self._findings.nothing(Step.PROXY, "none is used")
            return
        began = trio.current_time()
        try:
            with trio.fail_after(self._limit):
                stream = await dial_tcp(self._command)
        except (OSError, trio.TooSlowError) as error:
            late = "The proxy accepts the connection and does not answer; is it one of this kind?"
            self._findings.fail_to_open(Step.PROXY, error, late)
        await trio.aclose_forcefully(stream)
        seen = f"{self._command.proxy} leads to {self._command.host} port {self._command.port}"
        self._findings.well(
            Step.PROXY, seen, trio.current_time() - began, proxy=str(self._command.proxy)
        )

    async def shake_hands(self, pins: tuple[Pin, ...]) -> None:
        """Do the TLS handshake, and compare the certificate with the pins."""
        if not self._command.tls:
            self._findings.nothing(Step.TLS, "none: ws:// is clear text")
            self._findings.nothing(Step.PIN, "none: there is no certificate")
            return
        began = trio.current_time()
        try:
            with trio.fail_after(self._limit):
                stream, certificate = await open_peer(self._command, dial_tcp, self._context)
        except (OSError, trio.TooSlowError) as error:
            await self._fail_tls(error)
        seconds = trio.current_time() - began
        assert isinstance(stream, trio.SSLStream)
        assert certificate is not None
        version, cipher = stream.version(), stream.cipher()[0]
        await trio.aclose_forcefully(stream)
        facts = _facts_of(certificate)
        seen = f"{version}, {fingerprints(certificate)}, valid until {facts['valid_until']}"
        notes = _notes_on(certificate)
        self._findings.well(Step.TLS, seen, seconds, notes, version=version, cipher=cipher, **facts)
        self._compare(certificate, pins)

    async def _fail_tls(self, error: Exception) -> None:
        command, findings = self._command, self._findings
        fault = fault_of(error)
        if fault.kind is not FaultKind.CERTIFICATE:
            hint = other_scheme(command) if await speaks_http(command) else ""
            findings.fail_to_open(Step.TLS, error, hint or _SILENT_TLS, hint or _NO_TLS)
        certificate = await _guess(_certificate, command)
        if certificate is None:
            findings.fail_to_open(Step.TLS, error, "")
        ending = Ending(EndKind.TRANSPORT_FAILED, fault=fault)
        notes = (f"seen: {fingerprints(certificate)}", *_notes_on(certificate), _PIN_IT)
        findings.fail_by(Step.TLS, ending, notes=notes, **_facts_of(certificate))

    def _compare(self, certificate: bytes, pins: tuple[Pin, ...]) -> None:
        if not pins:
            self._findings.nothing(Step.PIN, "none is given")
        elif any(pin.matches(certificate) for pin in pins):
            instead = "" if self._context is not None else ", which stands in place of verification"
            self._findings.well(Step.PIN, f"it is a pinned one{instead}")
        else:
            ending = Ending(EndKind.PIN_MISMATCH, fingerprints(certificate))
            self._findings.fail_by(Step.PIN, ending)


# --- what is seen ---------------------------------------------------------------------------


def _facts_of(certificate: bytes) -> dict[str, Any]:
    return {"certificate": fingerprints(certificate), "valid_until": valid_until(certificate)}


def _notes_on(certificate: bytes) -> tuple[str, ...]:
    until = valid_until(certificate)
    try:
        left = datetime.fromisoformat(until or "") - datetime.now(UTC)
    except ValueError:  # a date that is none
        return ()
    if left < timedelta():
        return (f"the certificate expired on {until}",)
    return (f"the certificate expires in {left.days} days",) if left < _SOON else ()


# --- guesses --------------------------------------------------------------------------------


async def _guess(
    look: Callable[[OpenTransport], Awaitable[bytes]], command: OpenTransport
) -> bytes | None:
    """Look at something for a moment; None where there is nothing to see."""
    with trio.move_on_after(_GUESS), suppress(OSError, trio.BrokenResourceError):
        return await look(command) or None
    return None


async def _certificate(command: OpenTransport) -> bytes:
    """Return what a peer shows, not verified."""
    peer: Peer = await open_peer(attrs.evolve(command, pinned=True), dial_tcp, None)
    stream, certificate = peer
    await trio.aclose_forcefully(stream)
    return certificate or b""


async def _http(command: OpenTransport) -> bytes:
    """Return the first bytes of the answer to a request, if they are HTTP."""
    stream = await dial_tcp(command)
    try:
        await stream.send_all(_QUESTION)
        answer = b""
        while len(answer) < len(_HTTP) and (data := await stream.receive_some(len(_HTTP))):
            answer += data
    finally:
        await trio.aclose_forcefully(stream)
    return answer if answer.startswith(_HTTP) else b""
