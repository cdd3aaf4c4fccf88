"""Whatever happens to a recorded connector: its dump comes out the same, and shows nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from butter_proto import Framing, Limits, Settings
from butter_proto.testing.recording import Cut, Recorder, difference, load, replay
from tests.proto import gateway_side as gateway
from tests.proto.json_grammar import wrote
from tests.proto.operations import PARAM, Op, World
from tests.proto.strategies import (
    all_settings,
    over_both_framings,
    runs,
    wrong_clocks,
    wrong_requests,
)

SECRETS: Final = (
    *(gateway.TOKEN, gateway.PASSWORD, gateway.DEVICE_TOKEN, gateway.OTHER_DEVICE_TOKEN),
    *(gateway.RECOVERY, gateway.SURFACE),
)
every_run = runs(wrong_requests, wrong_clocks)

WRONG_FROM_THE_START: Final = [
    *(Op("wrong_clock", {"value": value}) for value in (math.nan, -math.inf)),
    Op("meet", {"phase": 0, "speeches": [gateway.ponged]}),
]
SMALL: Final = Settings(token="a-token", limits=Limits(max_message=1024))
LARGE_AND_NO_UTF_8: Final = Op(
    "exchange", {"requests": 0, "speeches": [partial(wrote, text="\ud800" * 1025)]}
)


def recorded(given_settings: Settings, framing: Framing, run: list[Op], *, bodies: bool) -> str:
    """Do a run, and return its dump."""
    recorder = Recorder(bodies=bodies)
    made = attrs.evolve(given_settings, framing=framing)
    World(made, make=recorder.connector).do(run)
    return recorder.dump()


@over_both_framings
@given(given_settings=all_settings, run=every_run, bodies=st.booleans())
@example(given_settings=Settings(token="a-token"), run=WRONG_FROM_THE_START, bodies=False)
@example(given_settings=SMALL, run=[Op("online", {}), LARGE_AND_NO_UTF_8], bodies=False)
@settings(max_examples=150)
def test_a_recording_comes_out_the_same(
    framing: Framing, given_settings: Settings, run: list[Op], bodies: bool
) -> None:
    recording = load(recorded(given_settings, framing, run, bodies=bodies))
    assert difference(recording) is None


odd_tokens: Final = st.text(
    st.sampled_from('aX1"\\\n\x01\x7f\u00e9\u20ac\uffff\U0001f600-'), min_size=1, max_size=12
)


@over_both_framings
@given(token=odd_tokens, password=odd_tokens, run=every_run)
def test_it_comes_out_the_same_whatever_characters_a_secret_has(
    framing: Framing, token: str, password: str, run: list[Op]
) -> None:
    made = Settings(token=f"{token} {gateway.TOKEN}", password=f"{password} {gateway.PASSWORD}")
    assert difference(load(recorded(made, framing, run, bodies=False))) is None


@over_both_framings
@given(given_settings=all_settings, run=every_run)
@settings(max_examples=100)
def test_a_recording_shows_no_secret_and_nothing_that_users_say(
    framing: Framing, given_settings: Settings, run: list[Op]
) -> None:
    text = recorded(given_settings, framing, run, bodies=False)
    assert [one for one in (*SECRETS, PARAM, gateway.PAYLOAD) if one in text] == []


@over_both_framings
@given(given_settings=all_settings, run=every_run)
def test_with_bodies_it_shows_no_secret_either(
    framing: Framing, given_settings: Settings, run: list[Op]
) -> None:
    text = recorded(given_settings, framing, run, bodies=True)
    assert [one for one in SECRETS if one in text] == []


@over_both_framings
@given(
    given_settings=all_settings,
    run=every_run,
    minutes=st.sampled_from([0.05, 0.5, 2.0]),
    most=st.sampled_from([6_000, 20_000, 10_000_000]),
)
def test_a_cut_recording_is_played_to_its_end_and_shows_nothing(
    framing: Framing, given_settings: Settings, run: list[Op], minutes: float, most: int
) -> None:
    recorder = Recorder(minutes=minutes, max_bytes=most)
    World(attrs.evolve(given_settings, framing=framing), make=recorder.connector).do(run)
    text = recorder.dump()
    assert [one for one in (*SECRETS, PARAM, gateway.PAYLOAD) if one in text] == []
    entries = load(text).entries
    assert len([*replay(load(text))]) == len(entries)
    if not any(isinstance(entry, Cut) for entry in entries):
        assert difference(load(text)) is None
