"""The I/O loop with a machine that is no connector: turns, the lock, wake-ups, ends, and Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import pytest

from butter_proto.errors import Ending, FaultKind, TransportFault
from butter_proto.events import Event, RoundTrip, Stopped
from butter_proto.machine import CloseTransport, Command, Message, OpenTransport, State, Stats
from butter_proto.testing import StandInGateway
from butter_threads import Gateway, connect
from butter_threads.driver import is_owned
from butter_threads.serve import serve
from butter_threads.transport import IN_A_ROW
from tests.threads.io_scenario import (
    COMMAND,
    PATIENCE,
    Running,
    nothing_left_open,
)
from tests.threads.scenario import Parallel


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    with nothing_left_open():
        yield


class Wires:
    """A machine of its own: transports that stay open, and bytes both ways.

    It takes offence at being called without the lock, or with a time that goes back.
    """

    state = State.ONLINE
    retry_at: float | None = None
    last_ending: Ending | None = None
    stats = Stats()

    def __init__(self, count: int) -> None:
        self.finished = False
        self.due: float | None = None
        self.received: dict[int, int] = defaultdict(int)
        self.unsent: dict[int, deque[bytes]] = defaultdict(deque)
        self.failed: list[tuple[int, TransportFault]] = []
        self.open: list[int] = []
        self._commands: deque[Command] = deque(
            attrs.evolve(COMMAND, id=number) for number in range(1, count + 1)
        )
        self._events: deque[Event] = deque()
        self.lock: threading.RLock | None = None
        self._now = 0.0

    def tell(self, event: Event) -> None:
        self._events.append(event)

    def end(self, now: float) -> None:
        self._hold_to_the_rules(now)
        self._commands.extend(CloseTransport(number) for number in self.open)
        self.open.clear()
        if not self.finished:
            self.finished = True
            self.tell(Stopped())

    def transport_opened(
        self, transport_id: int, now: float, certificate: bytes | None = None
    ) -> None:
        self._hold_to_the_rules(now)
        assert certificate is None
        self.tell(RoundTrip(transport_id))

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        self._hold_to_the_rules(now)
        self.received[transport_id] += len(data)

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        self._hold_to_the_rules(now)
        self.failed.append((transport_id, fault))

    def handle_timeout(self, now: float) -> None:
        self._hold_to_the_rules(now)
        if self.due is not None and self.due <= now:
            self.due = None
            self.tell(RoundTrip(-1))

    def next_command(self) -> Command | None:
        self._hold_to_the_rules(self._now)
        if not self._commands:
            return None
        command = self._commands.popleft()
        if isinstance(command, OpenTransport):
            self.open.append(command.id)
        return command

    def data_to_send(self, transport_id: int) -> bytes:
        self._hold_to_the_rules(self._now)
        unsent = self.unsent[transport_id]
        return unsent.popleft() if unsent else b""

    def next_event(self) -> Event | None:
        self._hold_to_the_rules(self._now)
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        self._hold_to_the_rules(self._now)
        return self.due

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        raise NotImplementedError(transport_id, message, now)

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        raise NotImplementedError(transport_id, payload, now)

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        raise NotImplementedError(transport_id, code, reason, now)

    def next_message(self, transport_id: int) -> Message | None:
        raise NotImplementedError(transport_id)

    def _hold_to_the_rules(self, now: float) -> None:
        assert self.lock is None or is_owned(self.lock), "called without the lock"
        assert now >= self._now, "time went back"
        self._now = now


class Ends:
    """Dials for `Wires`: the far ends of its sockets, in the order of their ids."""

    def __init__(self, count: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.far = [far for _, far in self.pairs]
        for far in self.far:
            far.settimeout(PATIENCE)

    def __call__(self, command: OpenTransport) -> tuple[socket.socket, None]:
        return self.pairs[command.id - 1][0], None

    def close(self) -> None:
        for far in self.far:
            far.close()


def wired(count: int, delivered: Callable[[], None] = lambda: None) -> tuple[Wires, Ends, Running]:
    """Make a machine with so many transports, their far ends, and the driver that runs it."""
    wires, ends = Wires(count), Ends(count)
    run = Running(wires, ends, wires.end, delivered)
    wires.lock = run.lock
    return wires, ends, run


def test_a_transport_that_never_stops_sending_leaves_the_others_and_time_their_turn() -> None:
    wires, ends, run = wired(2)
    flood, trickle = ends.far
    ended = threading.Event()

    def send_on() -> None:
        while not ended.is_set():
            try:
                flood.sendall(bytes(1 << 20))
            except OSError:
                return

    with run:
        for _ in range(2):
            run.until(RoundTrip)
        flooding = Parallel(send_on)
        while wires.received[1] < IN_A_ROW << 20:
            run.driver.call(lambda now: setattr(wires, "due", now))
            run.until(RoundTrip)  # the deadline passed
        trickle.sendall(b"x" * 100)
        run.driver.call(lambda _: wires.unsent[2].append(b"to you too"))
        assert trickle.recv(100) == b"to you too"
        while wires.received[2] < 100:
            run.driver.call(lambda now: setattr(wires, "due", now))
            run.until(RoundTrip)
        ended.set()
    ends.close()
    flooding.join()


class Hoarding(socket.socket):
    """A socket that reads all there is and gives it bit by bit, as TLS may."""

    hoard = b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.hoard:
            self.hoard = super().recv(size, flags)
        given, self.hoard = self.hoard[:10], self.hoard[10:]
        return given


def test_what_a_socket_holds_and_the_selector_cannot_see_is_read_to_its_end() -> None:
    """Though others get their turn in between."""
    wires, ends, run = wired(1)
    near, far = ends.pairs[0]
    ends.pairs[0] = Hoarding(fileno=near.detach()), far
    size = 10 * IN_A_ROW * 3
    with run:
        run.until(RoundTrip)
        far.sendall(bytes(size))
        for _ in range(10):
            run.driver.call(lambda now: setattr(wires, "due", now))
            run.until(RoundTrip)  # one more turn was over
        assert wires.received[1] == size
    ends.close()


def test_the_machine_is_called_and_told_under_the_lock_and_delivered_is_not() -> None:
    locked: list[bool] = []
    in_thread: list[str] = []

    def delivered() -> None:
        locked.append(is_owned(run.lock))
        in_thread.append(threading.current_thread().name)

    wires, ends, run = wired(1, delivered)
    with run:  # `Wires` and `Running` look after the lock
        run.until(RoundTrip)
        ends.far[0].sendall(b"x")
        run.driver.call(lambda _: wires.tell(RoundTrip(5)))
    ends.close()
    assert [type(event) for event in run.told] == [RoundTrip, RoundTrip, Stopped]
    assert set(locked) == {False}
    assert set(in_thread) == {"driver"}


def test_no_wake_up_is_lost_when_many_threads_call_at_once() -> None:
    threads, calls = 20, 200
    wires, ends, run = wired(1)
    with run:
        run.until(RoundTrip)

        def call_often() -> None:
            for _ in range(calls):
                run.driver.call(lambda _: wires.unsent[1].append(b"x"))

        calling = [Parallel(call_often) for _ in range(threads)]
        arrived = 0
        while arrived < threads * calls:
            arrived += len(ends.far[0].recv(65536))
        for thread in calling:
            thread.join()
        run.driver.call(lambda _: wires.unsent[1].append(b"last"))
        assert ends.far[0].recv(100) == b"last"
    ends.close()


def test_however_many_call_meanwhile_one_byte_wakes_the_io_thread() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def delivered() -> None:
        busy.set()
        go_on.wait(PATIENCE)

    wires, ends, run = wired(1, delivered)
    with run:
        assert busy.wait(PATIENCE)
        run.driver._waker._receiver.setblocking(False)
        for _ in range(100):
            run.driver.call(lambda _: wires.unsent[1].append(b"x"))
        assert len(run.driver._waker._receiver.recv(100, socket.MSG_PEEK)) <= 1
        go_on.set()
        arrived = 0
        while arrived < 100:
            arrived += len(ends.far[0].recv(100))
    ends.close()


def test_a_machine_that_does_not_close_what_failed_is_not_asked_for_more() -> None:
    wires, ends, run = wired(1)
    with run:
        run.until(RoundTrip)
        ends.close()
        run.driver.call(lambda _: wires.unsent[1].extend([b"x"] * 100))
        while not wires.failed:
            run.driver.call(lambda now: setattr(wires, "due", now))
            run.until(RoundTrip)
        assert len(wires.unsent[1]) == 99
        assert [number for number, _ in wires.failed] == [1]
        assert wires.failed[0][1].kind is FaultKind.RESET


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_ends_the_io_thread_nothing_stays_open_and_stopped_is_told() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    _, ends, run = wired(2, fail)
    run.driver.start()
    run.until(Stopped)
    run.driver.join()
    for far in ends.far:
        assert far.recv(1) == b""
    ends.close()


# --- Ctrl-C ---------------------------------------------------------------------------------


def test_an_input_that_is_cut_off_ends_the_machine_and_is_raised() -> None:
    wires, ends, run = wired(1)

    def cut_off(_: float) -> None:
        wires.finished = True  # and nothing of what follows from it
        raise KeyboardInterrupt

    run.driver.start()
    run.until(RoundTrip)
    with pytest.raises(KeyboardInterrupt):
        run.driver.call(cut_off)
    run.until(Stopped)
    run.driver.join()
    assert ends.far[0].recv(1) == b""
    ends.close()


def test_a_machine_that_cannot_even_end_after_it_was_cut_off_leaves_nobody_waiting() -> None:
    wires, ends, run = wired(1)

    def cut_off(_: float) -> None:
        wires._commands.append(CloseTransport(99))  # one that was never dialled
        raise KeyboardInterrupt

    def cannot_end(_: float) -> None:
        raise AssertionError("in no state that I know")

    run.driver._end_machine = cannot_end
    run.driver.start()
    run.until(RoundTrip)
    with pytest.raises(KeyboardInterrupt):
        run.driver.call(cut_off)
    run.until(Stopped)
    run.driver.join()
    assert ends.far[0].recv(1) == b""
    ends.close()


Action = Callable[[Gateway], object]


def interrupted(action: Callable[[], object], at: int) -> bool:
    """Do something, and raise KeyboardInterrupt at a line of the core; False where there is none."""
    line = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal line
        if f"{os.sep}butter_proto{os.sep}" not in frame.f_code.co_filename:
            return trace if event == "call" else None
        line += event == "line"
        if line == at:
            line += 1
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return line >= at


@pytest.mark.parametrize(
    ("action", "step"),
    [
        (lambda gateway: gateway.submit("echo", "x"), 13),
        (lambda gateway: gateway.probe(), 3),
        (lambda gateway: gateway.close(), 29),
    ],
    ids=["a request", "a probe", "closing"],
)
def test_wherever_ctrl_c_comes_everybody_is_woken(action: Action, step: int) -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", {}, delay=PATIENCE)
    with serve(stand_in) as url:
        at = 1
        while cut_off_at(at, action, url):
            at += step
    assert at > 3 * step, "there were lines to cut off at"


def cut_off_at(line: int, action: Action, url: str) -> bool:
    """Connect, let everybody wait, and cut an action off; tell whether it came that far."""
    with connect(url, timeout=PATIENCE) as gateway:
        future = gateway.submit("slow", timeout=None)
        waiting = Parallel(lambda: ask(gateway))
        watching = Parallel(lambda: [*gateway.states()][-1])
        while gateway.stats.messages_sent < 3:  # connect, and two requests
            time.sleep(0)
        came = interrupted(lambda: action(gateway), line)
        gateway.close(abort=True)
        waiting.join()
        watching.join()
        assert isinstance(watching.result, Stopped)
        assert future.exception(PATIENCE) is not None
    return came


def ask(gateway: Gateway) -> None:
    with pytest.raises(Exception, match="may have executed"):
        gateway.request("slow", timeout=None)


# --- the end --------------------------------------------------------------------------------


def test_the_io_thread_ends_with_the_machine_and_calls_do_no_harm_afterwards() -> None:
    wires, ends, run = wired(3)
    with run:
        for _ in range(3):
            run.until(RoundTrip)
        run.end()
        assert not run.driver._thread.is_alive()
        run.driver.call(lambda _: wires.unsent[1].append(b"late"))
    for far in ends.far:
        assert far.recv(1) == b""
    ends.close()
