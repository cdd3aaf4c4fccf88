"""An HTTP CONNECT and a SOCKS 5 proxy on a port of this machine, served by threads.

Rules kept here:

* Loopback is never proxied, so a test asks for `HOST`; the proxy, which resolves it, knows that
  name as 127.0.0.1 and no other.
* Every socket is closed and every thread has ended when the ``with`` ends.
"""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

HOST: Final = "gateway.local"
SILENCE: Final = b""
"""As an answer: say nothing, and keep the connection."""
_CHUNK: Final = 65536

Place = tuple[str, int]


class _Refused(Exception):
    """Carries what to say before the connection is closed."""


class LocalProxy:
    """A proxy; ``answer`` is sent instead of what is true, once it was asked for a host."""

    scheme: str

    def __init__(self, credentials: tuple[str, str] | None, answer: bytes | None) -> None:
        self._credentials = credentials
        self._answer = answer
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._ending = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port: int = self._door.getsockname()[1]
        self.connections = 0
        """Accepted so far."""
        self.asked: list[Place] = []
        """The hosts asked for, by whoever was let in."""

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self.url_for()

    def url_for(self, user_info: str = "") -> str:
        """Where it is, for somebody."""
        return f"{self.scheme}://{user_info}{'@' if user_info else ''}127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """The sockets that are open now: one for each client, one for each host."""
        with self._lock:
            return len(self._open)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve for as long as the ``with`` lasts."""
        accepting = threading.Thread(target=self._accept)
        accepting.start()
        try:
            yield
        finally:
            with self._lock:
                self._ending = True
                for each in self._open:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
            socket.create_connection(("127.0.0.1", self.port)).close()  # the accept returns
            accepting.join()
            for thread in self._threads:
                thread.join()
            self._door.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._door.accept()
            if self._ending:
                client.close()
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    @contextmanager
    def _holding(self, held: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(held)
            if self._ending:
                held.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(held)
                held.close()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), self._holding(client):
            try:
                place = self._place(client)
                self.asked.append(place)
                gateway = self._dial(*place)
            except _Refused as refused:
                client.sendall(refused.args[0])
                if refused.args[0] == SILENCE:
                    client.recv(1)
            else:
                with self._holding(gateway):
                    client.sendall(self._granted())
                    _copy(client, gateway)

    def _dial(self, host: str, port: int) -> socket.socket:
        if self._answer is not None:
            raise _Refused(self._answer)
        if host != HOST:
            raise _Refused(self._unreachable())
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            raise _Refused(self._unreachable()) from None

    def _place(self, client: socket.socket) -> Place:
        """Read what the client asks for, and let in only who may."""
        raise NotImplementedError

    def _granted(self) -> bytes:
        raise NotImplementedError

    def _unreachable(self) -> bytes:
        raise NotImplementedError


class HttpProxy(LocalProxy):
    """Takes CONNECT."""

    scheme = "http"

    def _place(self, client: socket.socket) -> Place:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _read(client, 1)
        line, *headers = head.decode().split("\r\n")
        method, target, version = line.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        fields = {name.lower(): value for name, _, value in (h.partition(": ") for h in headers)}
        assert fields["host"] == target
        if self._credentials is not None:
            basic = base64.b64encode(":".join(self._credentials).encode()).decode()
            given = fields.get("proxy-authorization", "nothing")
            if given != f"Basic {basic}":
                raise _Refused(f"HTTP/1.1 407 Not with {given}\r\n\r\n".encode())
        host, _, port = target.rpartition(":")
        return host, int(port)

    def _granted(self) -> bytes:
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def _unreachable(self) -> bytes:
        return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class SocksProxy(LocalProxy):
    """Takes CONNECT of SOCKS 5 (RFC 1928), and user name and password (RFC 1929)."""

    scheme = "socks5"

    def _place(self, client: socket.socket) -> Place:
        version, count = _read(client, 2)
        assert version == 5
        offered = _read(client, count)
        method = 0 if self._credentials is None else 2
        if method not in offered:
            raise _Refused(b"\x05\xff")
        client.sendall(bytes([5, method]))
        if self._credentials is not None:
            assert _read(client, 1) == b"\x01"
            given = tuple(_read(client, _read(client, 1)[0]).decode() for _ in range(2))
            if given != self._credentials:
                raise _Refused(b"\x01\x01")
            client.sendall(b"\x01\x00")
        assert _read(client, 3) == b"\x05\x01\x00"
        assert _read(client, 1) == b"\x03", "the proxy resolves the name"
        host = _read(client, _read(client, 1)[0]).decode()
        return host, int.from_bytes(_read(client, 2))

    def _granted(self) -> bytes:
        return socks_reply(0)

    def _unreachable(self) -> bytes:
        return socks_reply(4)


def socks_reply(code: int) -> bytes:
    """Return a reply of SOCKS 5 to a request (RFC 1928, 6)."""
    return bytes([5, code, 0, 1, *[0] * 6])


@contextmanager
def http_proxy(
    credentials: tuple[str, str] | None = None, answer: bytes | None = None
) -> Iterator[HttpProxy]:
    """Run an HTTP proxy; without ``credentials`` it lets everybody in."""
    proxy = HttpProxy(credentials, answer)
    with proxy.serving():
        yield proxy


@contextmanager
def socks_proxy(
    credentials: tuple[str, str] | None = None, answer: bytes | None = None
) -> Iterator[SocksProxy]:
    """Run a SOCKS 5 proxy; without ``credentials`` it lets everybody in."""
    proxy = SocksProxy(credentials, answer)
    with proxy.serving():
        yield proxy


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _copy(client: socket.socket, gateway: socket.socket) -> None:
    """Copy both ways until one side ends."""
    other = {client: gateway, gateway: client}
    while True:
        for side in select.select(list(other), [], [])[0]:
            data = side.recv(_CHUNK)
            if not data:
                return
            other[side].sendall(data)
