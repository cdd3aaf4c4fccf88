"""What a blocking tunnel owes besides the scenarios of tests/adapters: one limit, and its socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from butter_proto.proxy import ProxyRefused
from butter_proto.proxy_address import ProxyAddress, parse_proxy
from butter_threads.tunnel import open_tunnel

HTTP = parse_proxy("http://proxy")
SOCKS = parse_proxy("socks5://proxy")
ENDLESS = b"HTTP/1.1 100 Continue\r\n\r\n" * 600
LONG_NAME = b"\x05\x00" + b"\x05\x00\x00\x03\xff" + b"x" * 257


@contextmanager
def proxy_that_says(answer: bytes, *, every: float = 0.0) -> Iterator[socket.socket]:
    """Yield a socket to a peer that sends this, whole or a byte at a time."""
    near, far = socket.socketpair()

    def say() -> None:
        with suppress(OSError):
            for place in range(len(answer) if every else 1):
                far.sendall(answer[place : place + 1] if every else answer)
                time.sleep(every)

    saying = threading.Thread(target=say)
    saying.start()
    try:
        yield near
    finally:
        near.close()
        far.shutdown(socket.SHUT_RDWR)
        saying.join()
        far.close()


@pytest.mark.parametrize(("proxy", "answer"), [(HTTP, ENDLESS), (SOCKS, LONG_NAME)])
def test_a_proxy_that_drips_has_one_limit_for_all_it_says(
    proxy: ProxyAddress, answer: bytes
) -> None:
    """A byte every 20 ms would take 5 s at least, and no single one of them is late."""
    began = time.monotonic()
    with proxy_that_says(answer, every=0.02) as opened:
        with pytest.raises(TimeoutError):
            open_tunnel(opened, proxy, "gateway.local", 80, limit=0.2)
        assert opened.fileno() == -1
    assert time.monotonic() - began < 2


def test_an_open_tunnel_is_an_ordinary_blocking_socket() -> None:
    with proxy_that_says(b"HTTP/1.1 200 OK\r\n\r\n") as near:
        opened = open_tunnel(near, HTTP, "gateway.local", 80, limit=5)
        with opened:
            assert type(opened) is socket.socket
            assert opened.gettimeout() is None
            assert near.fileno() == -1


def test_a_tunnel_that_fails_closes_its_socket() -> None:
    with proxy_that_says(b"HTTP/1.1 403 No\r\n\r\n") as near:
        with pytest.raises(ProxyRefused):
            open_tunnel(near, HTTP, "gateway.local", 80, limit=5)
        assert near.fileno() == -1
