"""With each fast path and without it a connector tells the same and sends the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import Framing, Settings
from butter_proto.codec import STDLIB, codec_for
from butter_proto.settings import Json
from tests.proto.fast_paths import FAST_PATHS, without_any
from tests.proto.operations import Op, World, replay
from tests.proto.strategies import all_settings, runs, wrong_requests


@pytest.mark.parametrize("off", FAST_PATHS.values(), ids=FAST_PATHS)
@given(runs(wrong_requests), all_settings, st.sampled_from(Framing))
def test_a_connector_without_a_fast_path_tells_and_sends_the_same(
    off: Callable[[], AbstractContextManager[None]],
    run: list[Op],
    settings: Settings,
    framing: Framing,
) -> None:
    world = World(attrs.evolve(settings, framing=framing)).do(run)
    with off():
        twin = replay(world.inputs, world.settings)
    assert [(step.result, step.told) for step in twin] == [
        (step.result, step.told) for step in world.steps
    ]


def test_the_fast_paths_can_be_switched_off() -> None:
    link = import_module("butter_proto.websocket").WebSocketLink
    with without_any():
        assert not link.fast_lane
        assert codec_for(Json.AUTO) is STDLIB
