"""What the chaos runs on: both adapters, each with its own way to serve the stand-in, and a proxy.

``CHAOS=long`` in the environment asks for the long form, ``CHAOS_SEED=N`` for that seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

import butter_threads.serve
import butter_trio.serve
from butter_proto.testing import StandInGateway
from tests.adapters.scenario import TOKEN, eventually
from tests.adapters.subject import FullSubject
from tests.adapters.subjects import FULL
from tests.adapters.worlds import TrioWorld, entered
from tests.chaos.outcomes import Outcomes
from tests.chaos.process import usage
from tests.chaos.proxy import Reached, proxied


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the long form was asked for."""
    return os.environ.get("CHAOS") == "long"


@pytest.fixture(scope="session")
def first_seed() -> int:
    """The seed that was given, or one for this run; a failure shows it."""
    given = os.environ.get("CHAOS_SEED")
    return random.SystemRandom().randrange(10**6) if given is None else int(given)


@pytest.fixture
def _descriptors_are_given_back() -> Iterator[None]:
    """Hold every test to it, and not only the one with 10,000 cycles."""
    before = usage().descriptors
    yield
    eventually(lambda: usage().descriptors <= before)


@pytest.fixture
def world(_descriptors_are_given_back: None) -> Iterator[TrioWorld]:
    """Where the proxy runs, and trio's stand-in."""
    world = TrioWorld()
    with world.running():
        yield world


@pytest.fixture(params=FULL)
def subject(
    request: pytest.FixtureRequest, _descriptors_are_given_back: None
) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


@pytest.fixture
def stand_in() -> StandInGateway:
    return StandInGateway(token=TOKEN)


@pytest.fixture
def url(world: TrioWorld, stand_in: StandInGateway, subject: FullSubject) -> Iterator[str]:
    """Where the stand-in is served, by the subject's own package."""
    serving: AbstractContextManager[str] = (
        entered(world, butter_trio.serve.serve(stand_in))
        if subject.logger == "butter_trio"
        else butter_threads.serve.serve(stand_in)
    )
    with serving as url:
        yield url


@pytest.fixture
def proxy(world: TrioWorld, url: str) -> Iterator[Reached]:
    """A proxy before the stand-in."""
    with proxied(world, url) as proxy:
        yield proxy


@pytest.fixture
def outcomes(stand_in: StandInGateway) -> Outcomes:
    return Outcomes(stand_in)
