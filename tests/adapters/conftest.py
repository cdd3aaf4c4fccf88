"""What the scenarios run on: a stand-in gateway on a real port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from butter_proto.testing import StandInGateway
from butter_trio.serve import serve
from tests.adapters.gateway_side import Relay, relayed
from tests.adapters.scenario import TOKEN
from tests.adapters.worlds import TrioWorld, entered


@pytest.fixture
def world() -> Iterator[TrioWorld]:
    """Where everything runs that is not the adapter."""
    world = TrioWorld()
    with world.running():
        yield world


@pytest.fixture
def stand_in() -> StandInGateway:
    return StandInGateway(token=TOKEN)


@pytest.fixture
def url(world: TrioWorld, stand_in: StandInGateway) -> Iterator[str]:
    """Where the stand-in is served."""
    with entered(world, serve(stand_in)) as url:
        yield url


@pytest.fixture
def relay(world: TrioWorld, url: str) -> Iterator[Relay]:
    """A relay before the stand-in."""
    with relayed(world, url) as relay:
        yield relay
