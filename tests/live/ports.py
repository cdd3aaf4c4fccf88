"""A port for a gateway that has to come back on the same one."""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

PORTS: Final = range(20_000, 32_000)
"""Below the ephemeral range (Linux from 32768, macOS from 49152).

While the gateway is down no outgoing socket can take its port, and a client that dials it over and
over cannot connect to itself (simultaneous open).
"""


def free_port() -> int:
    """Find a port that is free on 127.0.0.1 and on ::1, where the gateway listens too.

    Raises OSError where there is none.
    """
    addresses = [(socket.AF_INET, "127.0.0.1")] + (
        [(socket.AF_INET6, "::1")] if socket.has_ipv6 else []
    )
    for port in random.sample(PORTS, 100):
        if all(_is_free(family, host, port) for family, host in addresses):
            return port
    raise OSError(errno.EADDRINUSE, "no free port on loopback")


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # any other: this machine has no such address
    return True
