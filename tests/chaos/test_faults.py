"""What a network can do to a connection that is online and busy, and in every phase of another.

Whatever happens: the connection comes back, every request has its one outcome, and that agrees
with what the stand-in executed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import product
from typing import Final

import attrs
import pytest
import trio

import butter_threads
import butter_trio
from butter_proto.errors import EndKind
from butter_proto.identity import CLI
from butter_proto.machine import State
from butter_proto.settings import KeepaliveSettings, Timeouts
from butter_proto.testing import StandInGateway
from tests.adapters.devices import Gate, Store, device
from tests.adapters.scenario import QUICK, TOKEN, eventually
from tests.adapters.subject import PATIENCE, FullClient, FullSubject
from tests.adapters.worlds import TrioWorld, run_sync
from tests.chaos.faults import CLOSED, NONE, PHASES, TABLE
from tests.chaos.outcomes import Outcomes
from tests.chaos.proxy import Reached

pytestmark = pytest.mark.chaos

SILENCE: Final = 1.5
"""Seconds after which a silent peer is gone, with these settings: misses * interval + timeout."""
TOUGH: Final = attrs.evolve(
    QUICK,
    keepalive=KeepaliveSettings(interval=0.5, timeout=0.5, misses=2),
    timeouts=Timeouts(open=1.0, challenge=1.0, hello=1.0, close=0.5),
)
PATIENT_WITH_IT: Final = attrs.evolve(TOUGH, timeouts=Timeouts(close=0.5))
"""Leaves a test the time to leave in a phase: 15 s each."""
SLOW_TO_CLOSE: Final = attrs.evolve(TOUGH, timeouts=Timeouts(close=30.0))
BUSY: Final = 50
"""Replies before a fault, and after it."""
TOLD: Final = {
    "cut": {EndKind.END_OF_STREAM, EndKind.TRANSPORT_FAILED},  # a write may meet the end first
    "reset": {EndKind.TRANSPORT_FAILED},
    "over up": {EndKind.END_OF_STREAM, EndKind.CLOSED_BY_PEER, EndKind.TRANSPORT_FAILED},
    "over down": {EndKind.END_OF_STREAM},
    "half-open": {EndKind.SILENT_PEER},
    "answers lost": {EndKind.SILENT_PEER},
    "stall down": {EndKind.SILENT_PEER},
    "stall up": {EndKind.SILENT_PEER},
    "garbage up": {EndKind.CLOSED_BY_PEER, EndKind.END_OF_STREAM, EndKind.TRANSPORT_FAILED},
    "garbage down": {EndKind.PROTOCOL_VIOLATION},
    "garbage in the middle up": {
        *(EndKind.CLOSED_BY_PEER, EndKind.END_OF_STREAM, EndKind.TRANSPORT_FAILED),
        EndKind.SILENT_PEER,  # a frame that the gateway waits for the rest of
    },
    "garbage in the middle down": {EndKind.PROTOCOL_VIOLATION, EndKind.SILENT_PEER},
}
"""What must be told of a fault that ends a busy line; the others are borne."""
DUPLICATES: Final = {"duplicate up", "duplicate down"}
"""On a busy line a chunk may begin anywhere: it is borne, or it is garbage."""
STRANGE: Final = ("one byte at a time", "delay", *sorted(DUPLICATES))
ENDING: Final = (
    *("cut", "reset", "over up", "over down", "half-open", "stall down", "garbage down"),
)
ENDS: Final = {
    **{name: TABLE[name] for name in ENDING},
    "close": CLOSED,
}
"""What ends a line in any of its phases."""
LEFT_BY: Final = (None, ValueError, KeyboardInterrupt)
IN_A_PHASE: Final = ("dial", "upgrade", "challenge", "hello")
HURT_IN_A_PHASE: Final = [
    (phase, end)
    for phase, end in product(IN_A_PHASE, ENDS)
    if (phase, end) != ("hello", "over up")  # the hello still passes: that line was online
]


def connected(subject: FullSubject, proxy: Reached) -> AbstractContextManager[FullClient]:
    return subject.connect(proxy.url, token=TOKEN, settings=TOUGH)


def until_dropped(client: FullClient, times: int) -> None:
    eventually(lambda: client.stats.disconnects >= times)


@pytest.mark.parametrize("name", TABLE)
def test_a_busy_line_survives(
    name: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    with connected(subject, proxy) as client:
        with outcomes.load(client) as until_replied:
            until_replied(BUSY)
            proxy.strike(TABLE[name])
            if name in TOLD:
                until_dropped(client, 1)
                assert client.last_ending is not None
                assert client.last_ending.kind in TOLD[name], client.last_ending
            until_replied(BUSY)
            proxy.heal()
            until_replied(BUSY)
        dropped = client.stats.disconnects
        assert client.state is State.ONLINE
    if name not in DUPLICATES:
        assert dropped == (name in TOLD)
    outcomes.check(repeats=2 if name == "duplicate up" else 1)


@pytest.mark.parametrize(("phase", "end"), HURT_IN_A_PHASE)
def test_a_line_that_is_hurt_in_this_phase_is_followed_by_another(
    phase: str, end: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    hurt = attrs.evolve(ENDS[end], at=PHASES.get(phase))
    proxy.meet(NONE, hurt, hurt)
    with connected(subject, proxy) as client:
        proxy.strike(TABLE["cut"])
        until_dropped(client, 1)
        client.wait_online()
        if end == "close":
            assert client.last_ending is not None
            assert client.last_ending.kind is EndKind.CLOSED_BY_PEER, client.last_ending
        assert outcomes.ask(client) == "replied"
        assert client.stats.disconnects == 1
    assert proxy.count == 4
    outcomes.check()


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("phase", IN_A_PHASE)
def test_a_line_that_is_strange_from_this_phase_on_is_borne_or_followed_by_another(
    phase: str, name: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    proxy.meet(attrs.evolve(TABLE[name], at=PHASES.get(phase)))
    with connected(subject, proxy) as client:
        for _ in range(5):
            while outcomes.ask(client) != "replied":
                assert name in DUPLICATES
                client.wait_online(PATIENCE)
    assert proxy.count <= (2 if name in DUPLICATES else 1)
    outcomes.check(repeats=2 if name == "duplicate up" else 1)


@pytest.mark.parametrize("end", ENDS)
def test_a_line_that_is_hurt_while_it_closes_holds_nobody_up(
    end: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    proxy.meet(attrs.evolve(ENDS[end], at=PHASES["closing"]))
    with connected(subject, proxy) as client:
        assert outcomes.ask(client) == "replied"
        leaving = time.monotonic()
    assert time.monotonic() - leaving < TOUGH.timeouts.close + 1.0
    outcomes.check()


@pytest.mark.parametrize("error", LEFT_BY, ids=str)
@pytest.mark.parametrize("phase", IN_A_PHASE)
def test_an_application_may_leave_in_any_phase(
    phase: str, error: type[BaseException] | None, subject: FullSubject, proxy: Reached
) -> None:
    """The line stands still in the phase; nothing of it is left afterwards."""
    proxy.meet(attrs.evolve(TABLE["stall down"], at=PHASES.get(phase)))
    with (
        suppress(ValueError, KeyboardInterrupt),
        subject.connect(proxy.url, token=TOKEN, settings=PATIENT_WITH_IT, wait=False) as client,
    ):
        eventually(lambda: not proxy.awaits)
        assert client.state is State.CONNECTING
        leaving = time.monotonic()
        if error is not None:
            raise error
    assert time.monotonic() - leaving < PATIENT_WITH_IT.timeouts.close + 1.0
    eventually(lambda: not proxy.open)
    assert proxy.count == 1


@pytest.mark.parametrize("phase", IN_A_PHASE)
def test_a_task_may_be_cancelled_in_any_phase(phase: str, world: TrioWorld, proxy: Reached) -> None:
    """As above, where `connect` itself is what waits."""
    proxy.meet(attrs.evolve(TABLE["stall down"], at=PHASES.get(phase)))
    scope = trio.CancelScope()

    async def connect() -> None:
        with scope:
            async with butter_trio.connect(proxy.url, token=TOKEN, settings=PATIENT_WITH_IT):
                raise AssertionError("the line stands still")

    connecting = world.submit(connect)
    eventually(lambda: not proxy.awaits)
    leaving = time.monotonic()
    run_sync(world, scope.cancel)
    connecting.result(PATIENCE)
    assert time.monotonic() - leaving < 1.0
    eventually(lambda: not proxy.open)
    assert proxy.count == 1


def test_a_task_may_be_cancelled_while_it_closes(world: TrioWorld, proxy: Reached) -> None:
    proxy.meet(attrs.evolve(TABLE["stall down"], at=PHASES["closing"]))
    scope = trio.CancelScope()

    async def connect_and_close() -> None:
        with scope:
            async with butter_trio.connect(proxy.url, token=TOKEN, settings=SLOW_TO_CLOSE):
                pass
            raise AssertionError("the line stands still")

    closing = world.submit(connect_and_close)
    eventually(lambda: not proxy.awaits)
    leaving = time.monotonic()
    run_sync(world, scope.cancel)
    closing.result(PATIENCE)
    assert time.monotonic() - leaving < 1.0
    eventually(lambda: not proxy.open)


def test_a_thread_may_abort_what_another_one_closes(proxy: Reached) -> None:
    proxy.meet(attrs.evolve(TABLE["stall down"], at=PHASES["closing"]))
    with butter_threads.connect(proxy.url, token=TOKEN, settings=SLOW_TO_CLOSE) as gateway:
        closing = threading.Thread(target=gateway.close)
        closing.start()
        eventually(lambda: not proxy.awaits)
        leaving = time.monotonic()
        gateway.close(abort=True)
        closing.join()
        assert time.monotonic() - leaving < 1.0
    eventually(lambda: not proxy.open)


@pytest.mark.parametrize("error", LEFT_BY, ids=str)
@pytest.mark.parametrize("name", ["cut", "half-open"])
def test_an_application_may_leave_a_hurt_line_while_a_token_is_stored(
    name: str, error: type[BaseException] | None, subject: FullSubject, proxy: Reached
) -> None:
    """It leaves at once where the store does its work; what was issued is kept."""
    gate = Gate()
    store = Store(before_save=gate)
    settings = attrs.evolve(PATIENT_WITH_IT, identity=CLI)
    with (
        suppress(ValueError, KeyboardInterrupt),
        subject.connect(
            proxy.url, token=TOKEN, settings=settings, device=device(store), wait=False
        ) as client,
    ):
        gate.wait()
        assert client.state is State.CONNECTING
        proxy.strike(TABLE[name])
        gate.open()
        leaving = time.monotonic()
        if error is not None:
            raise error
    assert time.monotonic() - leaving < settings.timeouts.close + 1.0
    assert store.kept
    eventually(lambda: not proxy.open)


@pytest.mark.parametrize("round_", range(20))
def test_whatever_a_seed_brings(
    round_: int,
    first_seed: int,
    long: bool,
    subject: FullSubject,
    stand_in: StandInGateway,
    proxy: Reached,
    outcomes: Outcomes,
) -> None:
    """Ten hurts, one after the other, drawn from a seed, on a busy line."""
    if round_ >= 3 and not long:
        pytest.skip("only with CHAOS=long")
    seed = first_seed + round_
    print(f"CHAOS_SEED={seed}")
    draw = random.Random(seed)
    hurts = tuple(drawn(draw, stand_in, proxy) for _ in range(10))
    with connected(subject, proxy) as client:
        with outcomes.load(client) as until_replied:
            for name, hurt in hurts:
                print(name)
                until_replied(draw.randrange(2, BUSY))
                hurt()
                if draw.random() < 0.5:
                    proxy.heal()
            proxy.heal()
            until_replied(BUSY)
        assert client.state is State.ONLINE
    outcomes.check(repeats=2)


def drawn(
    draw: random.Random, stand_in: StandInGateway, proxy: Reached
) -> tuple[str, Callable[[], None]]:
    """Draw what happens next, and say what it is: mostly the network's doing."""
    name = draw.choice(sorted(TABLE))
    end, phase = draw.choice([*ENDS]), draw.choice(["upgrade", "challenge", "hello"])
    later = attrs.evolve(ENDS[end], at=PHASES[phase])

    def cut_and_hurt() -> None:
        proxy.meet(later)
        proxy.strike(TABLE["cut"])

    (drawn,) = draw.choices(
        [
            (name, lambda: proxy.strike(TABLE[name])),
            (f"cut, then {end} at {phase}", cut_and_hurt),
            ("restart", lambda: stand_in.restart(down=0.05, starting=0.0)),
            ("crash", lambda: stand_in.restart(announce=False, down=0.05, starting=0.05)),
            ("drop", lambda: stand_in.drop(reset=draw.random() < 0.5)),
            ("close", lambda: stand_in.close(1012, "service restart")),
        ],
        weights=(4, 4, 1, 1, 1, 1),
    )
    return drawn
