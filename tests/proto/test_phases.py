"""A connector against a model of its phases and states, with every fault at every phase.

phase_model.py says what must be told, and when a driver must wake up at the latest; a step that
tells anything else, wakes nobody up, or leaves another phase, state or transport behind, fails. One
connector over bytes, without requests: what those add is held elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from butter_proto import CLI, EndKind, Settings, Timeouts, events
from butter_proto.timers import TICK
from tests.proto.gateway_side import TOKEN, pushed
from tests.proto.operations import HANDSHAKE, World
from tests.proto.phase_model import (
    ATTEMPT,
    CHALLENGE,
    CLOSE,
    FAULTS,
    HELLO,
    OPEN,
    OPENED,
    SILENCE,
    SILENT,
    PhaseModel,
    Place,
    Told,
)

UNPREDICTED = (events.RoundTrip, events.ClockLate)
"""Measurements."""
PLAIN = Settings(token=TOKEN, timeouts=Timeouts(OPEN, CHALLENGE, HELLO, CLOSE))
HALF_A_MS = 0.0005


class Phases(RuleBasedStateMachine):
    """One connector, step by step."""

    model: PhaseModel
    world: World

    @initialize(is_device=st.booleans(), started=st.sampled_from([True, True, True, False]))
    def begin(self, is_device: bool, started: bool) -> None:
        self.model = PhaseModel(is_device=is_device)
        self.world = World(attrs.evolve(PLAIN, identity=CLI) if is_device else PLAIN)
        self.seen = 0
        if started:
            self.start()

    @property
    def now(self) -> float:
        return self.world.now

    def check(self, told: list[Told]) -> None:
        """Hold what was told since the last time, and what is there now, against the model."""
        steps = self.world.steps[self.seen :]
        self.seen = len(self.world.steps)
        assert [told_of(one) for step in steps for one in predicted(step.told.events)] == told
        machine, model = self.world.machine, self.model
        assert machine.state is model.place.state
        phase = None if machine._current is None else machine._current.phase
        assert phase is model.place.phase
        assert set(self.world.open) == model.open
        assert machine.finished == (model.place is Place.STOPPED)
        if model.retry is None:
            assert machine.retry_at is None
        else:
            earliest, latest = model.retry
            assert machine.retry_at is not None
            assert earliest - HALF_A_MS <= machine.retry_at <= latest + HALF_A_MS
        due, next_timeout = model.due(self.now), machine.next_timeout()
        if due is None:
            assert next_timeout is None
        else:
            assert next_timeout is not None, f"nobody wakes up for what is due at {due}"
            assert next_timeout <= due + TICK

    # what the application does

    @precondition(lambda self: self.model.place is Place.IDLE)
    @rule()
    def start(self) -> None:
        self.world.start()
        self.check(self.model.start(self.now))

    @rule(with_credentials=st.booleans())
    def reconnect(self, with_credentials: bool) -> None:
        if with_credentials:
            self.world.use_credentials(token=TOKEN)
            self.check(self.model.use_credentials(self.now))
        else:
            self.world.reconnect_now()
            self.check(self.model.reconnect(self.now))

    @precondition(lambda self: self.model.place is not Place.IDLE)
    @rule(often=st.integers(0, 5), abort=st.booleans())
    def stop(self, often: int, abort: bool) -> None:
        if often == 0:  # a run that is stopped has little more to tell
            self.world.stop(abort=abort)
            self.check(self.model.stop(self.now, abort=abort))

    @precondition(lambda self: self.model.place is Place.STORING)
    @rule(ok=st.booleans())
    def stored(self, ok: bool) -> None:
        self.world.stored(ok=ok)
        self.check(self.model.token_stored(self.now, ok=ok))

    # what the gateway and the network do

    @precondition(lambda self: self.model.place in (*ATTEMPT, Place.WAITING))
    @rule(to=st.sampled_from(OPENED))
    def go_on(self, to: Place) -> None:
        """Let the connect go its right way as far as that, from wherever it is."""
        self.walk(to)

    def walk(self, to: Place) -> bool:
        """Take the steps to a place; False where none of them leads there."""
        if self.model.place in (Place.WAITING, Place.BLOCKED):
            self.world.reconnect_now()
            self.check(self.model.reconnect(self.now))
        while self.model.place is not to and self.model.place in ATTEMPT[:-1]:
            match self.model.place:
                case Place.DIAL:
                    self.world.opened()
                case Place.STORING:
                    self.world.stored()
                    self.check(self.model.token_stored(self.now, ok=True))
                    continue
                case place:
                    self.world.say([HANDSHAKE[ATTEMPT.index(place) - 1]])
            self.check(self.model.step(self.now))
        return self.model.place is to

    @precondition(lambda self: self.model.place is not Place.IDLE)
    @rule(name=st.sampled_from(sorted(FAULTS)), place=st.integers(0, 5))
    def fault(self, name: str, place: int) -> None:
        fault = FAULTS[name]
        if not self.walk(fault.places[place % len(fault.places)]):
            return
        if fault.report is not None:
            self.world.failed(fault.report.kind)
        elif fault.speech is not None:
            self.world.say([fault.speech])
        else:
            self.world.ended()
        self.check(self.model.fault(fault, self.now))

    @precondition(lambda self: self.model.place in (Place.STORING, Place.ONLINE))
    @rule()
    def push(self) -> None:
        self.world.say([partial(pushed, name="chat")])
        self.check(self.model.pushed(self.now))

    @precondition(lambda self: self.model.closing)
    @rule(pick=st.integers(0, 3))
    def end_what_is_closing(self, pick: int) -> None:
        closing = sorted(self.model.closing)
        transport_id = closing[pick % len(closing)]
        self.world.ended(which=self.model.transports - transport_id)
        self.check(self.model.ended(transport_id))

    # what time does

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 9.0, 13.0, 30.0, 400.0]))
    def wait(self, seconds: float) -> None:
        """Wake up whenever something is due, as a driver does."""
        end = self.now + seconds
        due = self.world.machine.next_timeout()
        while due is not None and due <= end:
            self.wake_up(max(due, self.now))
            due = self.world.machine.next_timeout()
        self.wake_up(end)

    def wake_up(self, now: float) -> None:
        model = self.model
        retry_at = self.world.machine.retry_at
        self.world.wait(now - self.now)
        self.world.now = now
        silence = (events.Offline, EndKind.SILENT_PEER)
        if silence in map(told_of, self.world.steps[-1].told.events):
            earliest, latest = SILENT
            assert earliest <= now - model.heard <= latest + HALF_A_MS
            told = model.settle(now, None)  # transports that are closing are older
            self.check([*told, *model.fault(SILENCE, now)])
        else:
            self.check(model.settle(now, retry_at))
            assert model.place is not Place.ONLINE or now - model.heard < SILENT[1]


def predicted(told: tuple[events.Event, ...]) -> list[Any]:
    """Leave out what depends on the time alone."""
    return [one for one in told if not isinstance(one, UNPREDICTED)]


def told_of(event: events.Event) -> Told:
    """Return an event as the model tells it."""
    ending = getattr(event, "ending", None)
    return type(event), None if ending is None else ending.kind


TestPhases = Phases.TestCase
TestPhases.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def test_a_pairing_request_is_old_news_until_the_device_was_online() -> None:
    """A hello whose connection is lost while its token is stored changes nothing in that."""
    lost_at = FAULTS["close"].places.index
    phases = Phases()
    phases.begin(is_device=True, started=True)
    phases.fault("pairing", 0)
    phases.fault("close", lost_at(Place.STORING))
    phases.fault("pairing", 0)

    def told() -> int:
        return sum(isinstance(one, events.PairingRequired) for one in phases.world.told)

    assert told() == 1
    phases.fault("close", lost_at(Place.ONLINE))
    phases.fault("pairing", 0)
    assert told() == 2


def test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places() -> None:
    """Also where chance would not have led there."""
    for name, fault in FAULTS.items():
        for place in range(len(fault.places)):
            phases = Phases()
            phases.begin(is_device=True, started=True)
            for _ in range(3):
                phases.fault(name, place)
                assert phases.model.place in (Place.WAITING, Place.BLOCKED)
                phases.wait(400.0)
