"""Thousands of connections, one after the other: nothing may be left over."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from butter_proto.testing import StandInGateway
from tests.adapters.scenario import TOKEN
from tests.adapters.subject import FullSubject
from tests.chaos.cycles import ASK, CUT_ME, NEVER

pytestmark = pytest.mark.chaos

LONG: Final = 10_000
SHORT: Final = 2_000
WARM: Final = 0.2
"""The share of the cycles in which caches fill: of 10,000 the first 2,000."""
GROWTH: Final = 1.02
"""Memory at the end over memory when warm."""
LIMIT: Final = 600
"""Seconds for all cycles; they take about 60."""
TOP: Final = Path(__file__).parents[2]


def test_connecting_and_closing_leaves_nothing_behind(
    subject: FullSubject,
    stand_in: StandInGateway,
    url: str,
    long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    executed = Counter[int]()

    def execute(params: Any) -> None:
        executed[params["number"]] += 1

    stand_in.reply(ASK, execute)
    stand_in.reply(CUT_ME, lambda _: stand_in.drop(reset=True), delay=float("inf"))
    taken = Counter[int]()

    def take(params: Any) -> None:
        taken[params["number"]] += 1

    stand_in.reply(NEVER, take, delay=float("inf"))
    cycles = LONG if long else SHORT
    adapter = subject.logger.removeprefix("butter_")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.cycles", adapter, url, TOKEN, str(cycles)],
        cwd=TOP,
        stdout=subprocess.PIPE,
        timeout=LIMIT,
        check=True,
    )
    samples = [json.loads(line) for line in done.stdout.splitlines()]
    warm = samples[round(len(samples) * WARM) - 1 :]
    memory = [sample["rss_kib"] for sample in warm]
    figures = {
        "cycles": cycles,
        "seconds": round(time.monotonic() - began, 1),
        "KiB when warm, and at the end": (memory[0], memory[-1]),
        **{what: {sample[what] for sample in warm} for what in ("descriptors", "threads", "tasks")},
        "objects": (warm[0]["objects"], warm[-1]["objects"]),
        "outcomes": samples[-1]["outcomes"],
    }
    record_property(f"{adapter}: connect and close", figures)
    print(figures)
    for what in ("descriptors", "threads", "tasks"):
        assert len({sample[what] for sample in warm}) == 1, what
    assert statistics.median(memory[-3:]) <= memory[0] * GROWTH
    assert warm[-1]["objects"] <= warm[0]["objects"] * GROWTH
    assert executed == Counter(range(cycles))
    told = Counter[str](samples[-1]["outcomes"])
    cancelled = cycles // 4 if adapter == "trio" else 0  # taken back, so nothing is told of them
    assert told.total() == cycles + cycles // 2 - cancelled
    assert told["replied"] == cycles
    assert taken.total() <= told["may have executed"] - cycles // 4 + cancelled, "told: not sent"
