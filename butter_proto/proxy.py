"""Asking a proxy for a way to a host: HTTP CONNECT as a pure machine, and what proxies refuse.

Rules kept here:

* Nothing a proxy sends raises: `Tunnel` is then not ``open`` and has a ``fault``, for the dial to
  raise. Cutting the same bytes differently leads to the same end.
* The proxy may say 2xx and nothing after it. Neither a TLS nor a WebSocket server speaks first, so
  what follows the answer at once is somebody else's, and nothing of the gateway's is lost.
* A refusal has to be told from a failure: who is refused must not try again by itself.
* Foreign text is told printable, short and without the credentials.
"""

from __future__ import annotations

from typing import Final

import h11

from butter_proto.endpoint import checked_host, without_zone
from butter_proto.errors import InvalidSettings
from butter_proto.faults import fault_of
from butter_proto.proxy_address import ProxyAddress, ProxyScheme
from butter_proto.secret import redact

MAX_HEAD: Final = 16 * 1024
"""The largest answer to CONNECT, informational ones included, in bytes."""
_LONGEST_TOLD: Final = 100
_HTTP: Final = b"HTTP/1."
_REFUSALS: Final = (401, 403, 407)
_SUCCESSES: Final = range(200, 300)
_SOCKS_NOT_ALLOWED: Final = 2  # RFC 1928, 6
_SOCKS_REFUSALS: Final = (
    "no acceptable authentication",
    "unexpected socks authentication",
    "authentication failure",
)
"""What python-socks says of credentials: it has no codes for them."""


class ProxyFailed(OSError):
    """The proxy cannot be reached, breaks its protocol, or does not get through to the host."""


class ProxyRefused(ProxyFailed):
    """The proxy wants other credentials, or lets nobody through to that host."""


class Tunnel:
    """HTTP CONNECT through one connection to a proxy; then that connection leads to the host.

    Send ``data_to_send()``, hand what is read to ``receive_data`` until ``open`` is True or
    ``fault`` is an exception to raise. Time is the caller's to limit.

    Raises `InvalidSettings` for a proxy that is no HTTP proxy, and for a host that is none.
    """

    def __init__(self, proxy: ProxyAddress, host: str, port: int) -> None:
        if proxy.scheme is not ProxyScheme.HTTP:
            raise InvalidSettings(f"{proxy} is no HTTP proxy")
        host = without_zone(checked_host(host, host))
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", authority)]  # with the port, as in the request line (RFC 9110, 9.3.6)
        credentials = proxy.basic_credentials
        if credentials is not None:
            headers.append(("Proxy-Authorization", f"Basic {credentials.reveal()}"))
        self._proxy = proxy
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        request = h11.Request(method="CONNECT", target=authority, headers=headers)
        self._request = self._http.send(request) or b""
        self._http.send(h11.EndOfMessage())
        self._start = b""
        self._room = MAX_HEAD
        self._open = False
        self._fault: ProxyFailed | None = None

    @property
    def open(self) -> bool:
        """True once the connection leads to the host."""
        return self._open

    @property
    def fault(self) -> ProxyFailed | None:
        """Why it never will; `ProxyRefused` where the proxy will not."""
        return self._fault

    def data_to_send(self) -> bytes:
        """Return the request, once; then ``b""``."""
        request, self._request = self._request, b""
        return request

    def receive_data(self, data: bytes) -> None:
        """Hand over what the proxy sent; ``b""`` is the end of the stream. Never raises."""
        if self._fault is not None:
            return
        if self._open:
            self._fail("more came than the answer" if data else "the stream ended")
        elif not data:
            self._fail("the stream ended before the answer")
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._start = (self._start + data[: len(_HTTP)])[: len(_HTTP)]
        if not _HTTP.startswith(self._start):
            self._fail("the answer is no HTTP")
            return
        within, beyond = data[: self._room], data[self._room :]
        self._room -= len(within)
        try:
            self._http.receive_data(within)
            answer = self._answer()
        except h11.RemoteProtocolError:  # its text quotes what was sent
            self._fail("the answer is no valid HTTP")
            return
        if answer is not None:
            self._judge(answer)
            if self._open and (beyond or self._http.trailing_data[0]):
                self._fail("more came than the answer")
        elif not self._room:
            self._fail(f"the answer has over {MAX_HEAD} bytes")

    def _answer(self) -> h11.Response | None:
        """Return the answer if all of it is there; informational ones are passed over."""
        while True:
            event = self._http.next_event()
            if not isinstance(event, h11.InformationalResponse):
                return event if isinstance(event, h11.Response) else None

    def _judge(self, answer: h11.Response) -> None:
        if answer.status_code in _SUCCESSES:
            self._open = True
            return
        reason = _text(bytes(answer.reason))
        kind = ProxyRefused if answer.status_code in _REFUSALS else ProxyFailed
        self._fail(f"HTTP {answer.status_code} {reason}".rstrip(), kind)

    def _fail(self, what: str, kind: type[ProxyFailed] = ProxyFailed) -> None:
        self._open = False
        self._fault = kind(_told(self._proxy, what))


def unreachable(proxy: ProxyAddress, error: Exception) -> ProxyFailed:
    """Name what kept a dial from reaching a proxy, or broke the connection to it."""
    fault = fault_of(error)
    return ProxyFailed(_told(proxy, f"{fault.kind.value}: {fault.text}"))


def socks_fault(proxy: ProxyAddress, words: str, code: int | None) -> ProxyFailed:
    """Name what python-socks says of a proxy; ``code`` is the proxy's reply (RFC 1928, 6)."""
    refused = code == _SOCKS_NOT_ALLOWED or any(said in words.lower() for said in _SOCKS_REFUSALS)
    return (ProxyRefused if refused else ProxyFailed)(_told(proxy, words))


def _text(reason: bytes) -> str:
    """Return a reason as who repeats our credentials wrote it: they are sent as UTF-8."""
    try:
        return reason.decode()
    except UnicodeDecodeError:
        return reason.decode("latin-1")


def _told(proxy: ProxyAddress, what: str) -> str:
    """Return what may be told; redacted before it is cut, or half a secret would be left."""
    what = "".join(
        c if c.isascii() and c.isprintable() else "?" for c in redact(what, proxy.secrets)
    )
    return f"{proxy}: {what[:_LONGEST_TOLD]}"
