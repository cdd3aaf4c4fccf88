"""The I/O loop of threads: runs any Machine and knows nothing but its contract (machine.py).

Rules kept here:

* One I/O thread owns the selector and every open socket, and nothing that it does blocks. Dialling
  (DNS, TCP, TLS) blocks, so each dial has a short-lived thread of its own.
* The machine is called under one lock, from any thread. Its commands and bytes are pulled by the
  I/O thread alone, its events by whoever made the input: what a call has told is known when it
  returns. ``deliver`` gets each event, in order, under that lock; ``delivered`` is called after
  some were, in the I/O thread, without it.
* Waking up and ending are under that lock too, so that no wake-up is lost and none is written to
  a descriptor that was closed meanwhile.
* Reads come before ``handle_timeout``, so that a late wake-up finds what had arrived; and before
  the report of a failed write, which may be the answer to a refusal that is still unread.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from butter_proto.errors import FaultKind, LocalProtocolError, TransportFault
from butter_proto.events import PoolEvent, Stopped
from butter_proto.faults import fault_of
from butter_proto.machine import Command, Machine, OpenTransport
from butter_threads.dial import Peer
from butter_threads.transport import IN_A_ROW, Transport
from butter_threads.waker import Waker

_T = TypeVar("_T")
_LONGEST_WAIT: Final = 3600.0


def is_owned(lock: threading.RLock) -> bool:
    """Tell whether this thread has a lock; the standard library's conditions ask the same way."""
    return bool(lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001


class Driver:
    """Runs one machine in a thread of its own.

    ``deliver`` and ``delivered`` must not block. ``end(now)`` must finish the machine; it is called
    whatever makes the thread end. The last event is Stopped, even where an input was cut off.
    """

    def __init__(
        self,
        machine: Machine,
        dial: Callable[[OpenTransport], Peer],
        deliver: Callable[[PoolEvent], None],
        delivered: Callable[[], None],
        end: Callable[[float], object],
        *,
        lock: threading.RLock,
        name: str,
    ) -> None:
        self._machine = machine
        self._dial = dial
        self._deliver = deliver
        self._delivered = delivered
        self._end_machine = end
        self._lock = lock
        self._selector = selectors.DefaultSelector()
        self._waker = Waker(self._selector)
        self._woken = False
        self._broken = False
        self._told = False
        self._stopped = False
        self._ended = False
        self._transports: dict[int, Transport] = {}
        self._dialled: deque[tuple[Transport, Peer | TransportFault]] = deque()
        self._unread: dict[Transport, None] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_current(self) -> bool:
        """True in the I/O thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Start the I/O thread; it ends when the machine is finished."""
        try:
            self._thread.start()
        except BaseException:  # no more threads
            self._close_own()
            raise

    def join(self) -> None:
        """Wait until the I/O thread has ended and every socket is closed."""
        self._thread.join()

    def call(self, make_input: Callable[[float], _T]) -> _T:
        """Make one input of the application, from any thread, and let its queues be pulled.

        ``make_input`` gets ``now``. What it raises comes out; where that is no Exception, it was
        cut off inside the machine (Ctrl-C), which is then dropped.
        """
        with self._lock:
            try:
                result = make_input(time.monotonic())
                self._pull_events()
            except Exception:  # nothing was changed (G2); what led to it is told before
                self._pull_events()
                raise
            except BaseException:
                self._broken = True
                with suppress(Exception):  # before anybody else calls what was cut off
                    self._end_machine(time.monotonic())
                raise
            else:
                return result
            finally:
                self._wake()

    def check_not_inside(self) -> None:
        """Raise `LocalProtocolError` in the middle of another call of this thread.

        There a finalizer or a signal handler may find itself.
        """
        if is_owned(self._lock):
            raise LocalProtocolError("called in the middle of another call")

    def forget(self) -> None:
        """Close every descriptor and nothing else: the child of a fork has no I/O thread."""
        for transport in self._transports.values():
            transport.forget()
        for _, result in self._dialled:
            _discard(result)
        self._close_own()

    def _wake(self) -> None:
        """Let the I/O thread pull; one byte is enough however many call. Under the lock."""
        if not self._woken and not self.is_current:
            self._waker.wake()
            self._woken = True  # not before: Ctrl-C may come between the two

    # --- the I/O thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            try:
                self._drive()
            finally:
                self._end()
        except Exception:
            if not self._broken:  # a machine that was cut off may say anything
                raise

    def _drive(self) -> None:
        self._pump()
        while not self._machine.finished and not self._broken:
            for key, ready in self._selector.select(self._patience()):
                self._on_ready(key.data, ready)
            for transport in [*self._unread]:
                self._read(transport)
            self._take_dialled()
            with self._lock:
                self._machine.handle_timeout(time.monotonic())
            self._pump()

    def _patience(self) -> float:
        if self._unread:
            return 0.0
        with self._lock:
            due = self._machine.next_timeout()
        if due is None:
            return _LONGEST_WAIT
        return min(max(due - time.monotonic(), 0.0), _LONGEST_WAIT)

    def _on_ready(self, what: Transport | Waker, ready: int) -> None:
        if isinstance(what, Waker):
            what.woken()
            with self._lock:
                self._woken = False  # before the queues are pulled: a later call wakes again
            return
        if ready & selectors.EVENT_WRITE:
            what.unblock()
        self._read(what)

    def _pump(self) -> None:
        """Pull every queue until all are empty; called after each input, never by itself."""
        while self._obey() | self._tell() | self._write_all():
            pass

    def _obey(self) -> bool:
        """Carry out the commands; tell whether there were any."""
        with self._lock:
            commands: list[Command] = list(iter(self._machine.next_command, None))
        for command in commands:
            if isinstance(command, OpenTransport):
                self._open(command)
            else:
                self._transports.pop(command.id).close()
        return bool(commands)

    def _tell(self) -> bool:
        """Deliver the events; tell whether there were any."""
        with self._lock:
            self._pull_events()
            told, self._told = self._told, False
        if told:
            self._delivered()
        return told

    def _pull_events(self) -> None:
        """Deliver the events; called under the lock."""
        while (event := self._machine.next_event()) is not None:
            self._told = True
            self._deliver(event)
            self._stopped = isinstance(event, Stopped)

    def _end(self) -> None:
        """Leave nothing open and nobody waiting, whatever made the thread end."""
        try:
            with self._lock:
                self._end_machine(time.monotonic())
            self._tell()
        finally:
            self._close_all()
            if not self._stopped:
                with self._lock:
                    self._deliver(Stopped())
                self._delivered()

    def _close_all(self) -> None:
        while self._transports:  # a machine that was cut off may not know all of them
            self._transports.popitem()[1].close()
        with self._lock:
            self._ended = self._woken = True  # nobody dials or wakes from here on
            self._close_own()
        for _, result in self._dialled:
            _discard(result)

    def _close_own(self) -> None:
        self._selector.close()
        self._waker.close()

    # --- dialling ---------------------------------------------------------------------------

    def _open(self, command: OpenTransport) -> None:
        transport = Transport(command.id, self._selector)
        self._transports[command.id] = transport
        name = f"{self._thread.name}: dial {command.id}"
        dialling = threading.Thread(
            target=self._dial_for, args=(transport, command), name=name, daemon=True
        )
        try:
            dialling.start()
        except RuntimeError as error:  # no more threads, or the interpreter is about to exit
            self._failed(transport, TransportFault(FaultKind.LOCAL, str(error)))

    def _dial_for(self, transport: Transport, command: OpenTransport) -> None:
        result: Peer | TransportFault
        try:
            result = self._dial(command)
        except BaseException as error:  # noqa: BLE001 - whatever a dial raises is an input
            result = fault_of(error)
        with self._lock:
            if not self._ended:
                self._dialled.append((transport, result))
                self._wake()
                return
        _discard(result)

    def _take_dialled(self) -> None:
        """Take what the dials brought; what nobody wants any more is closed."""
        while self._dialled:
            transport, result = self._dialled.popleft()
            if self._transports.get(transport.id) is not transport:
                _discard(result)
            elif isinstance(result, TransportFault):
                self._failed(transport, result)
            else:
                self._use(transport, *result)

    def _use(self, transport: Transport, opened: socket.socket, certificate: bytes | None) -> None:
        try:
            transport.use(opened)
        except Exception as error:  # noqa: BLE001 - a dial may return anything, or what is closed
            self._failed(transport, fault_of(error))
            return
        with self._lock:
            self._machine.transport_opened(transport.id, time.monotonic(), certificate)
        self._pump()

    # --- reading and writing ----------------------------------------------------------------

    def _read(self, transport: Transport) -> None:
        """Read until there is nothing, or until it is another one's turn."""
        self._unread.pop(transport, None)
        for _ in range(IN_A_ROW):
            if not self._read_once(transport):
                return
            self._pump()
        self._unread[transport] = None

    def _read_once(self, transport: Transport) -> bool:
        """Hand over what came; tell whether that made an input."""
        try:
            data = transport.receive()
        except Exception as error:  # noqa: BLE001 - whatever a socket raises is an input
            self._failed(transport, fault_of(error))
            return True
        if data is None:
            return False
        with self._lock:
            self._machine.receive_data(transport.id, data, time.monotonic())
            self._pull_events()  # before anybody sees by the counters that there are some
        return True

    def _write_all(self) -> bool:
        """Let every transport write; tell whether that made an input."""
        made = [self._write(transport) for transport in self._transports.values()]  # each of them
        return any(made)

    def _write(self, transport: Transport) -> bool:
        """Write what waits; tell whether that made an input: its failure."""

        def next_chunk() -> bytes:
            with self._lock:
                return self._machine.data_to_send(transport.id)

        try:
            transport.send(next_chunk)
        except Exception as error:  # noqa: BLE001 - whatever a socket raises is an input
            for _ in range(IN_A_ROW):
                if not self._read_once(transport):
                    break
            self._failed(transport, fault_of(error))
            return True
        return False

    def _failed(self, transport: Transport, fault: TransportFault) -> None:
        with self._lock:
            self._machine.transport_failed(transport.id, fault, time.monotonic())


def _discard(result: Peer | TransportFault) -> None:
    """Close what a dial brought too late."""
    if not isinstance(result, TransportFault):
        with suppress(Exception):  # it may be anything, and nobody wants to know
            result[0].close()
