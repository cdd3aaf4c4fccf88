"""The soak's verdict can be bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from butter_proto.errors import EndKind
from tests.chaos.process import Usage
from tests.chaos.soak_script import SCRIPT, Minute, Site
from tests.chaos.soak_verdict import WARM_UP, Hurt, Soaked, judged

STEADY = Usage(rss_kib=40_000, descriptors=9, threads=1, cpu_s=1.0)
DROP = {"at_s": 6.0, "offline_s": 0.5, "ending": "END_OF_STREAM", "text": "the stream ended"}
OTHER = {**DROP, "at_s": 66.0}


async def nothing(_: Site) -> None:
    pass


CUT = Minute("cut", nothing, 1, 4.0, "first retry", frozenset((EndKind.END_OF_STREAM,)))
SLOW = attrs.evolve(CUT, bound=59.0)
DELAY = Minute("delay", nothing, 0, 0.0, "nothing may drop")


def verdict(
    *drops: dict[str, Any],
    script: Sequence[Minute] = (CUT, CUT),
    samples: Sequence[Usage] = (STEADY,) * 3,
    minutes: int = 2,
    **report: Any,
) -> Soaked:
    """Judge a run that began at 1000; each hurt came 6 s after its minute began and was short."""
    told = {"drops": list(drops), "disconnects": len(drops), "online_at_end": True, **report}
    hurts = [
        Hurt(minute, 1006.0 + 60.0 * number, 1006.0 + 60.0 * number, STEADY)
        for number, minute in enumerate(script)
    ]
    return judged(told, hurts, samples, 1000.0, minutes)


def test_a_run_that_went_as_it_must_is_ok() -> None:
    soaked = verdict(DROP, OTHER)
    assert (soaked.ok, soaked.wrong) == (True, [])
    assert [each.back_after_s for each in soaked.struck] == [0.5, 0.5]


def test_a_drop_is_its_faults_though_the_command_began_to_count_later() -> None:
    assert verdict({**DROP, "at_s": 5.9}, {**OTHER, "at_s": 65.9}).ok


def test_a_fault_that_nothing_noticed_is_wrong() -> None:
    assert verdict(OTHER).wrong == [
        "cut at 6 s: 0 drops in place of 1",
        "1 disconnects, and the faults cause 2",
    ]


def test_a_drop_that_nothing_caused_is_wrong() -> None:
    soaked = verdict(DROP, OTHER, script=(CUT, DELAY))
    assert "delay at 66 s: 1 drops in place of 0" in soaked.wrong


def test_a_drop_before_the_first_fault_is_wrong() -> None:
    early = {**DROP, "at_s": 2.0}
    assert verdict(early, DROP, OTHER).wrong == ["3 disconnects, and the faults cause 2"]


def test_coming_back_late_or_not_at_all_is_wrong() -> None:
    (late,) = verdict({**DROP, "offline_s": 4.1}, OTHER).wrong
    assert late == "cut at 6 s: back after 4.1 s; within 4 s: first retry"
    wrong = verdict(DROP, {**OTHER, "offline_s": None}, online_at_end=False).wrong
    assert wrong == ["cut at 66 s: it did not come back", "offline at the end"]


def test_a_connection_that_had_not_lasted_may_take_one_long_pause_more() -> None:
    just_back = {**DROP, "offline_s": 50.1}
    soaked = verdict(just_back, {**OTHER, "offline_s": 33.9}, script=(SLOW, CUT))
    assert [each.bound_s for each in soaked.struck] == [59.0, 34.0]
    assert soaked.ok
    (late,) = verdict(just_back, {**OTHER, "offline_s": 34.1}, script=(SLOW, CUT)).wrong
    assert late.endswith("within 34 s: first retry, in the backoff from before")
    lasted = {**DROP, "offline_s": 49.9}
    assert not verdict(lasted, {**OTHER, "offline_s": 33.9}, script=(SLOW, CUT)).ok


def test_an_ending_that_is_told_as_another_is_wrong() -> None:
    (wrong,) = verdict({**DROP, "ending": "SILENT_PEER"}, OTHER).wrong
    assert wrong == "cut at 6 s: told as SILENT_PEER: the stream ended"


def test_giving_up_is_wrong() -> None:
    soaked = verdict(DROP, OTHER, minutes=60, reason="refused")
    assert soaked.wrong == ["it ended in minute 2: refused"]


def test_growing_is_wrong() -> None:
    def growing(kib: int, descriptors: int, threads: int) -> list[Usage]:
        return [
            attrs.evolve(
                STEADY,
                rss_kib=40_000 + kib * number,
                descriptors=9 + descriptors * number // 20,
                threads=1 + threads * number // 20,
            )
            for number in range(6 * WARM_UP)
        ]

    assert verdict(DROP, OTHER, samples=growing(10, 1, 1)).ok
    (memory,) = verdict(DROP, OTHER, samples=growing(100, 0, 0)).wrong
    assert memory == "memory grew from 41450 to 45450 KiB"
    assert verdict(DROP, OTHER, samples=growing(100, 0, 0)[: 3 * WARM_UP - 1]).ok, "too short"
    (descriptors,) = verdict(DROP, OTHER, samples=growing(0, 2, 0)).wrong
    assert descriptors == "14 descriptors, and 9 at the start"
    (threads,) = verdict(DROP, OTHER, samples=growing(0, 0, 2)).wrong
    assert threads == "6 threads, and 1 at the start"


def test_the_script_is_consistent() -> None:
    for minute in SCRIPT:
        assert (minute.drops == 0) == (not minute.endings) == (minute.bound == 0.0)
        assert 0.0 <= minute.bound < 60.0
    assert len({minute.name for minute in SCRIPT}) == len(SCRIPT)
    assert SCRIPT[-1].bound < 20.0, "or a run of whole scripts ends before it is back"
