"""What a recorder keeps of a long run, and what comes of that when it is done again."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import pytest

from butter_proto import (
    Credentials,
    KeepaliveSettings,
    LocalProtocolError,
)
from butter_proto.testing.recording import (
    Decision,
    Turn,
)
from tests.testing.recorded import TOKEN, Recorded

WEEK: Final = 7 * 86_400.0
MINUTE: Final = 60.0


def connects(steps: Iterable[list[Decision]]) -> list[int]:
    """Return the sizes of the connect requests."""
    return [one[2] for did in steps for one in did if one[0] == "sent" and one[2] > 250]


def test_a_week_of_ticks_and_probes_takes_the_memory_of_ten_minutes() -> None:
    one = Recorded(keepalive=KeepaliveSettings(interval=MINUTE))
    one.run(15 * MINUTE)
    early, lines = one.recorder.size, len(one.recorder.dump().splitlines())
    for _ in range(7):
        one.run(WEEK / 7)
    assert one.recorder.size <= early * 1.05
    assert len(one.recorder.dump().splitlines()) <= lines * 1.05
    assert one.unexplained() is None


def test_a_cut_says_how_much_is_missing() -> None:
    one = Recorded()
    one.run(3600)
    (cut,) = one.cuts()
    assert cut.missing.attempts == 0
    assert 49 * MINUTE <= cut.missing.seconds <= 51 * MINUTE
    assert cut.missing.inputs > 500
    assert cut.missing.bytes > 1000


def test_the_opening_stays_and_the_rest_comes_out_the_same_after_a_cut() -> None:
    one = Recorded()
    one.run(3600)
    steps = one.played()
    online = [["event", "Online", {"transport": 1, "resync": False, "boot_changed": False}]]
    assert [d for s in steps for d in s.did if d[1] == "Online"] == online
    assert [s.differences for s in steps if s.differences and not s.by_cut] == []
    rounds = [d for s in steps[-100:] for d in s.did if d[1] == "RoundTrip"]
    assert len(rounds) > 10


def test_a_request_without_an_outcome_is_carried_over_the_cut() -> None:
    one = Recorded()
    one.stand_in.reply("slow", {"late": True}, delay=1800)
    one.run(1)
    for _ in range(3):
        one.request()
    request_id = one.request("slow", timeout=3600)
    one.run(1700)
    (cut,) = one.cuts()
    assert [turn.returned for turn in cut.carried] == [request_id]
    one.run(200)
    replied = [d for s in one.played() for d in s.did if d[1] == "Replied"]
    assert [d[2]["request"] for d in replied] == [request_id]
    assert one.unexplained() is None
    one.run(3600)
    assert [turn.returned for cut in one.cuts() for turn in cut.carried] == []


def test_whole_old_attempts_go_first() -> None:
    one = Recorded()
    for _ in range(40):
        one.run(MINUTE)
        one.network.cut()
    one.run(MINUTE)
    cut = one.cuts()[0]
    assert 25 <= cut.missing.attempts <= 35
    assert one.unexplained() is None
    explained = [s.differences for s in one.played() if s.by_cut]
    assert any("Online" in str(text) for text in explained)


def test_after_whole_attempts_are_gone_it_goes_on_with_the_present_credentials() -> None:
    one = Recorded(token="a-wrong-token-of-the-tests", minutes=1.0)
    one.run(5)
    one.machine.use_credentials(Credentials(token=TOKEN), one.network.now)
    one.run(30)
    for _ in range(5):
        one.network.cut()
        one.run(MINUTE)
    steps = one.played()
    assert one.cuts()[0].missing.attempts >= 2
    assert [s.differences for s in steps if s.differences and not s.by_cut] == []
    given = [
        turn.arguments["credentials"] for turn in one.cuts()[0].carried if turn.name != "start"
    ]
    assert given == [Credentials(token=TOKEN)]
    now, then = connects(s.did for s in steps), connects(s.turn.did for s in steps if s.turn)
    assert len(now) == 2
    assert {*now} == {*then}  # a connect request with the other token is of another size


def test_the_bytes_are_bounded_whatever_comes() -> None:
    most = 200_000
    one = Recorded(max_bytes=most)
    one.run(1)
    for _ in range(300):
        one.stand_in.push("chat", {"text": "x" * 3000})
        one.run(0.01)
        assert one.recorder.size <= most
    assert one.unexplained() is None


def idle(one: Recorded, _: int) -> None:
    one.run(1)


def conversation(one: Recorded, second: int) -> None:
    for number in range(5):
        one.request("echo", params={"text": "x" * 100, "n": [second, number]})
        one.stand_in.push("chat", {"text": "x" * 300})
    one.run(1)


def calls_that_are_refused(one: Recorded, second: int) -> None:
    for number in range(5):
        with suppress(LocalProtocolError):
            one.request(f"{second}.{number}" + "m" * 300, params={1, 2})
    one.machine.use_credentials(Credentials(token=f"{second}" + "t" * 500), one.network.now)
    one.run(0.1)


@pytest.mark.parametrize("bodies", [False, True])
@pytest.mark.parametrize("go_on", [idle, conversation, calls_that_are_refused])
def test_the_size_that_is_told_is_what_is_taken(
    go_on: Callable[[Recorded, int], None], bodies: bool
) -> None:
    told, taken = [], []
    for is_recorded in (False, True):
        one = Recorded(is_recorded=is_recorded, bodies=bodies, minutes=WEEK)
        one.run(1)
        gc.collect()
        tracemalloc.start()
        try:
            before = one.recorder.size
            for second in range(60):
                go_on(one, second)
            gc.collect()
            taken.append(tracemalloc.get_traced_memory()[0])
            told.append(one.recorder.size - before)
        finally:
            tracemalloc.stop()
    assert 0.6 * told[1] <= taken[1] - taken[0] <= 1.3 * told[1]


def test_a_message_above_the_bound_makes_the_attempt_unusable_and_no_more() -> None:
    one = Recorded(max_bytes=100_000)
    one.run(1)
    one.stand_in.push("chat", {"text": "x" * 400_000})
    one.run(20)
    assert one.recorder.size <= 100_000
    assert not any(isinstance(entry, Turn) for entry in one.recorder.recording().entries[1:-1])
    one.network.cut()
    one.run(20)
    assert any(d[1] == "Online" for s in one.played() for d in s.did)
    assert one.unexplained() is None


def test_calls_that_are_refused_do_not_pile_up_while_it_is_blocked() -> None:
    one = Recorded(token="a-wrong-token-of-the-tests", minutes=1.0)
    one.run(5)
    sizes = []
    for second in range(300):
        for _ in range(10):
            one.machine.probe(one.network.now)
        one.run(1)
        sizes.append((second, one.recorder.size))
    assert sizes[-1][1] <= sizes[100][1] * 1.1
    assert one.unexplained() is None


def test_a_gateway_that_gives_up_is_played_to_its_end() -> None:
    one = Recorded(token="a-wrong-token-of-the-tests")
    one.run(5)
    assert [d[1] for s in one.played() for d in s.did if d[0] == "event"][-1] == "GaveUp"
