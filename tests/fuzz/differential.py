"""Machines that are made or driven in different ways tell the same and send the same.

Rules kept here:

* `DRIVINGS` names every way; the ways without a fast path come from `FAST_PATHS`.
* The first byte chooses what they are driven by: any bytes of a gateway, operations on a connector
  or on a pool, or a conversation with the stand-in, over bytes and over messages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import attrs
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import Connector, Framing, Settings
from tests.fuzz.bytes import listening
from tests.fuzz.choices import Choices
from tests.fuzz.operations import drawn, drawn_from, told_of
from tests.proto.fast_paths import FAST_PATHS
from tests.proto.operations import Op, World, new_machine, replay
from tests.proto.pool_operations import Plan, PoolWorld, new_pool, plans, pool_runs, replays
from tests.proto.strategies import roomy_settings, runs, without
from tests.proto.test_framings import test_bytes_and_messages_tell_the_same
from tests.proto.test_guarantees import check_cut_anywhere, check_pulled_in_any_order

LONGEST: Final = 2048


# --- the ways ------------------------------------------------------------------------------------


@attrs.frozen
class Driving:
    """A way to drive a machine with what a world was given.

    ``check`` does it and fails where the twin told or sent anything else.
    """

    check: Callable[[World, Connector, list[int]], None]
    without: Callable[[], AbstractContextManager[None]] = nullcontext
    """Switches a fast path off meanwhile."""


def check_again(world: World, machine: Connector, _: list[int]) -> None:
    """Give a twin the same inputs: it tells and sends the same, to the byte."""
    twin = replay(world.inputs, world.settings, machine=machine)
    assert [(one.result, one.told) for one in twin] == [
        (one.result, one.told) for one in world.steps
    ]


DRIVINGS: Final[dict[str, Driving]] = {
    "again": Driving(check_again),
    "cut": Driving(check_cut_anywhere),
    "pulled in any order": Driving(check_pulled_in_any_order),
    **{f"without {name}": Driving(check_again, off) for name, off in FAST_PATHS.items()},
}


def check_every_way(world: World, new: Callable[[], Connector], numbers: list[int]) -> None:
    """Drive a twin in each way. ``numbers`` are sizes, and bits that choose what is pulled."""
    for name, driving in DRIVINGS.items():
        try:
            with driving.without():
                driving.check(world, new(), numbers)
        except Exception as error:
            error.add_note(f"driven {name}, numbers={numbers!r}")
            raise


# --- what they are driven by ---------------------------------------------------------------------

_numbers: Final = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def fuzz(data: bytes) -> None:
    """Drive machines by what the first byte chooses."""
    FUZZED[data[0] % len(FUZZED) if data else 0](data[1:])


def by_bytes(data: bytes) -> None:
    choices = Choices(data)
    numbers = [1 + choices.number() % 60, 1 + choices.number() % 60]
    world = listening(choices)
    check_every_way(world, lambda: new_machine(world.settings), numbers)


@drawn
@given(runs(), roomy_settings, st.sampled_from(Framing), _numbers)
def by_operations(run: list[Op], settings: Settings, framing: Framing, numbers: list[int]) -> None:
    world = World(attrs.evolve(settings, framing=framing))
    with told_of(run, world):
        world.do(without(run, "offline"))  # when bytes were pulled decides what it carries over
        check_every_way(world, lambda: new_machine(world.settings), numbers)


@drawn
@given(pool_runs(replays), roomy_settings, st.sampled_from(Framing), plans, _numbers)
def by_operations_on_a_pool(
    run: list[Op], settings: Settings, framing: Framing, plan: Plan, numbers: list[int]
) -> None:
    world = PoolWorld(attrs.evolve(settings, framing=framing), plan)
    with told_of(run, world):
        world.do(without(run, "offline"))
        check_every_way(world, lambda: new_pool(world.settings, plan), numbers)


FUZZED: Final[tuple[Callable[[bytes], object], ...]] = (
    by_bytes,
    drawn_from(by_operations),
    drawn_from(by_operations_on_a_pool),
    drawn_from(test_bytes_and_messages_tell_the_same),
)
