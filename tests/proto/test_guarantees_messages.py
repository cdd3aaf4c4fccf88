"""G1, G3 and G9 whatever JSON comes, for a connection, a connector and a pool.

json_grammar.py says what comes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import Settings, events
from butter_proto.handshake import BEFORE_HELLO_MAX
from tests.proto.connection_operations import ConnectionWorld, new_connection
from tests.proto.gateway_side import TOKEN
from tests.proto.json_grammar import GREETING, HUGE, messages, nested_text, wrote
from tests.proto.operations import World, new_machine, pull_events
from tests.proto.pool_operations import Plan, PoolWorld, new_pool, plain
from tests.proto.strategies import any_roomy, any_settings
from tests.proto.test_guarantees import check_cut_anywhere

PLAIN = Settings(token=TOKEN)
EVENT = '{"type":"event","event":"e","payload":%s}'
PIECES = 1000
"""About the most that a message is cut into."""
FEWER = hypothesis.settings(max_examples=60)
KINDS = {
    "connection": (ConnectionWorld, new_connection),
    "connector": (World, new_machine),
    "pool": (PoolWorld, partial(new_pool, plan=Plan())),
}
of_each_machine = pytest.mark.parametrize("make", [make for make, _ in KINDS.values()], ids=KINDS)
of_each_twin = pytest.mark.parametrize(("make", "make_twin"), KINDS.values(), ids=KINDS)
phases = st.sampled_from([1, 2, 3])
several = st.lists(messages(), min_size=1, max_size=6) | st.lists(messages(GREETING), min_size=1)


def said(world: World, phase: int, texts: list[str]) -> World:
    """Let the gateway say these messages, one after the other, from a step of the handshake on."""
    world.online(phase)
    for text in texts:
        world.say([partial(wrote, text=text)])
    return world


@of_each_machine
@FEWER
@given(phases, several, any_settings)
@example(3, [EVENT % nested_text(100_000), EVENT % nested_text(900)], PLAIN)
def test_g1_no_message_raises_at_any_step(
    make: Any, phase: int, texts: list[str], settings: Settings
) -> None:
    said(make(settings), phase, texts).stop(abort=True)


@of_each_twin
@FEWER
@given(phases, several, any_roomy, st.lists(st.integers(1, 2000), min_size=1, max_size=5))
@example(2, [EVENT % HUGE], PLAIN, [1])
@example(3, [EVENT % HUGE, EVENT % "1"], PLAIN, [1, 7])
def test_g3_a_message_cut_anywhere_says_the_same(
    make: Any,
    make_twin: Any,
    phase: int,
    texts: list[str],
    settings: Settings,
    sizes: list[int],
) -> None:
    """Of a long message the pieces are longer: each one is an input of its own."""
    longer = 1 + max(map(len, texts)) // PIECES
    world = said(make(settings), phase, texts)
    check_cut_anywhere(world, make_twin(settings), [longer * size for size in sizes])


@of_each_machine
@FEWER
@given(several, any_settings)
def test_g9_what_is_kept_of_messages_is_bounded(
    make: Any, texts: list[str], settings: Settings
) -> None:
    """Of gateway events that nobody pulls, and of an ending that is remembered."""
    limits = attrs.evolve(settings.limits, max_events=2, max_event_bytes=1000)
    world = make(attrs.evolve(settings, limits=limits))
    world.online()
    largest = 0
    for text in texts:
        message = wrote(world.peers[1], text)
        largest = max(largest, len(message))
        world.hear(message)
    kept = [plain(one) for one in pull_events(world.machine)]
    pushed = [one for one in kept if isinstance(one, events.GatewayEvent)]
    assert len(pushed) <= 2
    assert sum(one.size for one in pushed) < 1000 + largest
    ending = world.machine.last_ending
    if ending is not None and ending.error is not None:
        assert len(str(attrs.astuple(ending))) < 3 * BEFORE_HELLO_MAX
