"""What goes on having an effect is carried over a cut."""

from __future__ import annotations

from functools import partial

import pytest

from butter_proto import (
    Credentials,
    Framing,
    Settings,
)
from butter_proto.testing.recording import Recorder, difference, load, replay
from tests.proto import gateway_side as gateway
from tests.testing.recorded import (
    Recorded,
    waiting,
)


def test_the_last_word_of_the_application_is_carried_over_a_cut() -> None:
    one = Recorded(minutes=1.0)
    one.run(5)
    for number in range(3):
        one.machine.use_credentials(Credentials(token=f"another-token-{number}"), one.network.now)
        one.request("health")
        one.machine.cancel(one.request("slow"), one.network.now)
    one.run(600)
    (cut,) = one.cuts()
    assert [turn.name for turn in cut.carried] == ["use_credentials"]
    assert "another-token" not in one.recorder.dump()
    assert one.unexplained() is None


def test_what_waits_to_be_sent_at_a_cut_counts_as_sent() -> None:
    one = Recorded(minutes=1.0)
    one.stand_in.reply("slow", {}, delay=5000)
    one.run(5)
    requests = [one.request("slow", timeout=4000, params={"n": n}) for n in range(5)]
    one.run(600)
    assert [turn.returned for turn in one.cuts()[0].carried] == requests
    assert one.unexplained() is None


def test_requests_without_an_outcome_are_bounded_too() -> None:
    one = Recorded(minutes=1.0, max_bytes=40_000)
    one.stand_in.reply("slow", {}, delay=5000)
    one.run(5)
    for _ in range(30):
        for _ in range(5):
            one.request("slow", timeout=4000)
        one.run(11)
    one.run(600)
    assert one.recorder.size <= 40_000
    assert 0 < len(one.cuts()[0].carried) < 150
    assert one.unexplained() is None
    one.run(6000)
    assert one.cuts()[0].carried == ()


@pytest.mark.parametrize("bodies", [True, False])
def test_what_waits_to_be_sent_at_a_cut_is_pulled(bodies: bool) -> None:
    """A socket that takes nothing, and a host that does not either."""
    for framing in Framing:
        recorder = Recorder(minutes=0.5, bodies=bodies)
        world = waiting(recorder, Settings(framing=framing))
        world.request(timeout=None)
        for _ in range(20):
            world.wait(5.0)
            world.say([partial(gateway.pushed, name="chat")])
        text = recorder.dump()
        assert '"cut"' in text
        assert difference(load(text)) is None


def test_a_cut_is_between_two_messages() -> None:
    recorder = Recorder(minutes=0.5)
    world = waiting(recorder)
    message = gateway.frame(1, b'{"type":"event","event":"chat","payload":1}')
    for _ in range(20):
        for part in (message[:9], message[9:]):
            world.wait(2.5)
            world.say([partial(gateway.said, data=part)])
    text = recorder.dump()
    assert '"cut"' in text
    assert difference(load(text)) is None
    told = [one[1] for step in replay(load(text)) for one in step.did if one[0] == "event"]
    assert told.count("GatewayEvent") >= 5
