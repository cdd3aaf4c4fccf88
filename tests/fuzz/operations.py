"""Any operations on a connector and on a pool; all that must hold afterwards is checked.

Rules kept here:

* Operations and settings are drawn by the strategies of the property tests: hypothesis takes each
  choice from the input. What is checked is what those tests check, all of it after one run.
* An input that hypothesis reads to its end is as good as one with zeros after it: those choose
  the simplest, and so nothing more.
* What fails is told in words, since those can be copied into a property as an ``@example``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from butter_proto import Framing, Settings, events
from tests.proto.operations import Op, World, new_machine
from tests.proto.pool_operations import (
    Plan,
    PoolWorld,
    new_pool,
    plain,
    plans,
    pool_runs,
    replays,
)
from tests.proto.strategies import all_settings, runs, wrong_clocks, wrong_requests
from tests.proto.test_guarantees import check_closed_once, check_order, check_refused_in_vain
from tests.proto.test_guarantees_pool import check_order_in_a_pool, check_outcomes_of_a_pool
from tests.proto.test_guarantees_requests import check_counted_out, check_outcomes, counted_world
from tests.proto.test_guarantees_time import check_nothing_due

LONGEST: Final = 1024
ZEROS: Final = bytes(2048)
drawn: Final = hypothesis_settings(database=None, deadline=None)


def fuzz(data: bytes) -> None:
    """Draw a run from these bytes; the first one chooses a connector or a pool."""
    FUZZED[data[0] % len(FUZZED) if data else 0](data[1:])


@drawn
@given(runs(wrong_clocks, wrong_requests), all_settings, st.sampled_from(Framing))
def on_a_connector(run: list[Op], settings: Settings, framing: Framing) -> None:
    world, shared = counted_world(attrs.evolve(settings, framing=framing))
    with told_of(run, world):
        world.do(run)
        check_bounds(world)
        check_counted_out(world, shared)
        check_order(world)
        check_outcomes(world)
        check_nothing_due(world)
        check_closed_once(world)
        check_refused_in_vain(world, new_machine(world.settings))


@drawn
@given(
    pool_runs(wrong_clocks, wrong_requests, replays), all_settings, st.sampled_from(Framing), plans
)
def on_a_pool(run: list[Op], settings: Settings, framing: Framing, plan: Plan) -> None:
    world = PoolWorld(attrs.evolve(settings, framing=framing), plan)
    with told_of(run, world):
        world.do(run)
        check_bounds(world)
        world.stop(abort=True)
        check_order_in_a_pool(world)
        check_outcomes_of_a_pool(world)
        check_nothing_due(world)
        check_closed_once(world)
        check_refused_in_vain(world, new_pool(world.settings, plan))


def drawn_from(given_test: Any) -> Callable[[bytes], object]:
    """Let hypothesis draw what a property is about from the bytes of an input."""
    fuzz_one_input: Callable[[bytes], object] = given_test.hypothesis.fuzz_one_input
    return lambda data: fuzz_one_input(data + ZEROS)


FUZZED: Final = (drawn_from(on_a_connector), drawn_from(on_a_pool))


@contextmanager
def told_of(run: list[Op], world: World) -> Iterator[None]:
    """Tell of what ran, where it fails."""
    try:
        yield
    except Exception as error:
        error.add_note(f"run={run!r}\nsettings={world.settings!r}")
        raise


def check_bounds(world: World) -> None:
    """G9: count what was accepted and not settled, after each step."""
    limits = world.settings.limits
    pending = waited = 0
    for step in world.steps:
        pending += step.input.name == "request" and not step.refused
        pending -= step.input.name == "cancel" and step.result is not None
        assert pending <= limits.max_pending
        pending -= sum(isinstance(plain(one), events.Outcome) for one in step.told.events)
        waits = len(step.told.queued)
        assert 0 <= waits <= pending
        if step.input.name == "request" and waits > waited:  # what comes back needs no room
            assert waits <= limits.max_queued
        waited = waits
