"""A complete driver for any Machine: the sockets of the standard library, one thread, no TLS.

    python examples/minimal_driver.py ws://127.0.0.1:18789 [TOKEN]

connects, asks for ``health``, prints what it is told, and stops. ``docs/embedding.md`` explains it.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import attrs

from butter_proto import Connector, FaultKind, OpenTransport, Settings, TransportFault, events
from butter_proto.machine import CHUNK, Machine

DIAL_LIMIT: Final = 5.0
"""Seconds for which a dial may block the loop."""
LONGEST_SLEEP: Final = 60.0
FAULTS: Final[dict[type[OSError], FaultKind]] = {
    socket.gaierror: FaultKind.DNS,
    ConnectionRefusedError: FaultKind.REFUSED,
    ConnectionResetError: FaultKind.RESET,
    TimeoutError: FaultKind.UNREACHABLE,
}


def fault_of(error: OSError) -> TransportFault:
    """Name what went wrong."""
    return TransportFault(FAULTS.get(type(error), FaultKind.OTHER), str(error))


@attrs.define(eq=False)
class Transport:
    """One open socket, and what it has not yet taken of the last chunk."""

    id: int
    sock: socket.socket
    unsent: bytes = b""
    readable: bool = True
    writable: bool = True

    def fileno(self) -> int:
        """Stand for the socket in select."""
        return self.sock.fileno()


class Driver:
    """Runs one machine. ``on_event`` may call the machine's application inputs."""

    def __init__(self, machine: Machine, on_event: Callable[[events.PoolEvent], None]) -> None:
        self.machine = machine
        self.on_event = on_event
        self.transports: dict[int, Transport] = {}

    def run(self) -> None:
        """Run until the machine is finished."""
        self.pull()
        while not self.machine.finished:
            for transport in self.wait():  # reads come first: what was read may prove life
                self.read(transport)
            self.machine.handle_timeout(time.monotonic())
            self.pull()

    def wait(self) -> list[Transport]:
        """Sleep until something is due, readable or writable; return what is readable."""
        due = self.machine.next_timeout()
        seconds = LONGEST_SLEEP if due is None else max(0.0, due - time.monotonic())
        reading = [transport for transport in self.transports.values() if transport.readable]
        writing = [transport for transport in self.transports.values() if transport.unsent]
        if reading or writing:
            return select.select(reading, writing, [], seconds)[0]
        time.sleep(seconds)
        return []

    def pull(self) -> None:
        """Pull every queue; call this after each input."""
        while True:  # a dial is an input, and on_event may make some: go on until all are empty
            for transport in self.transports.values():
                self.write(transport)
            if (command := self.machine.next_command()) is not None:
                if isinstance(command, OpenTransport):
                    self.dial(command)
                elif command.id in self.transports:  # else its dial failed
                    self.transports.pop(command.id).sock.close()
            elif (event := self.machine.next_event()) is not None:
                self.on_event(event)
            else:
                return

    def dial(self, command: OpenTransport) -> None:
        """Open a socket and tell how that went."""
        if command.tls or command.proxy is not None:
            raise NotImplementedError("this driver speaks ws:// only, and knows no proxies")
        try:
            sock = socket.create_connection((command.host, command.port), DIAL_LIMIT)
        except OSError as error:
            self.machine.transport_failed(command.id, fault_of(error), time.monotonic())
            return
        sock.setblocking(False)
        self.transports[command.id] = Transport(command.id, sock)
        self.machine.transport_opened(command.id, time.monotonic())

    def read(self, transport: Transport) -> None:
        """Hand over what came. After the end, wait for CloseTransport."""
        try:
            data = transport.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            transport.readable = False
            self.machine.transport_failed(transport.id, fault_of(error), time.monotonic())
        else:
            transport.readable = bool(data)
            self.machine.receive_data(transport.id, data, time.monotonic())
        self.pull()

    def write(self, transport: Transport) -> None:
        """Send until nothing waits or the socket blocks; a new chunk only after the last one."""
        while transport.writable:
            transport.unsent = transport.unsent or self.machine.data_to_send(transport.id)
            if not transport.unsent:
                return
            try:
                sent = transport.sock.send(transport.unsent)
            except BlockingIOError:
                return
            except OSError:  # the reads tell why, after what the peer had to say before it went
                transport.writable = False
                sent = len(transport.unsent)
            transport.unsent = transport.unsent[sent:]


def main(url: str, token: str | None = None) -> None:
    """Connect, ask for ``health``, print what is told, stop."""
    settings = Settings(token=token)
    connector = Connector(url, settings, random=random.random, entropy=os.urandom)

    def on_event(event: events.PoolEvent) -> None:
        print(event)
        match event:
            case events.Online():
                connector.request("health", now=time.monotonic())
            case events.Replied() | events.RequestFailed() | events.GaveUp():
                connector.stop(time.monotonic())

    connector.start(time.monotonic())
    Driver(connector, on_event).run()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit("usage: minimal_driver.py ws://HOST:PORT [TOKEN]")
    main(*sys.argv[1:])
