"""Cases that are timed in turn, and their table.

Rules kept here:

* CPU time of this process, in interleaved rounds: what else the machine does meets all cases alike.
* Each case of a group is told as a ratio to the group's first, its baseline, in the same run: only
  ratios may be compared between machines and days.
* A case is prepared anew for each round; preparing is not timed. What it returns is checked.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

ROUNDS: Final = 7


@attrs.frozen
class Case:
    """One thing to time."""

    name: str
    items: int
    """What it does at once; the cost is told for one of them."""
    prepare: Callable[[], Callable[[], object]]
    """Returns the function that is timed. It must return ``items``, or None."""


@attrs.frozen
class Group:
    """Cases to be compared; the first one is the baseline."""

    title: str
    cases: Sequence[Case]


@attrs.frozen
class Figure:
    """What a case came to, in microseconds an item."""

    group: str
    case: str
    median: float
    best: float
    ratio: float
    """Its best over the baseline's best: noise only ever adds."""


class WrongCount(Exception):
    """A case did not do what it says."""


def measure(group: Group, rounds: int = ROUNDS) -> list[Figure]:
    """Time a group. Raises `WrongCount`."""
    costs: list[list[float]] = [[] for _ in group.cases]
    for _ in range(rounds):
        for case, measured in zip(group.cases, costs, strict=True):
            measured.append(_time(case))
    baseline = min(costs[0])
    return [
        Figure(
            group.title,
            case.name,
            statistics.median(measured),
            min(measured),
            min(measured) / baseline if baseline else 0.0,
        )
        for case, measured in zip(group.cases, costs, strict=True)
    ]


def _time(case: Case) -> float:
    run = case.prepare()
    gc.collect()
    began = time.process_time()
    done = run()
    spent = time.process_time() - began
    if done is not None and done != case.items:
        raise WrongCount(f"{case.name}: {done!r} instead of {case.items}")
    return spent / case.items * 1e6


def lines(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield the table of one group, as Markdown."""
    yield f"| {figures[0].group} | us, median | us, best | best / baseline |"
    yield "| --- | --- | --- | --- |"
    for one in figures:
        yield f"| {one.case} | {one.median:,.2f} | {one.best:,.2f} | {one.ratio:.2f} |"


def main(groups: Callable[[bool], Sequence[Group]], arguments: list[str] | None = None) -> int:
    """Time the groups that ``groups(quick)`` makes, and print them."""
    parser = argparse.ArgumentParser(description="Times what it costs; only ratios count.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="small and few, for CI")
    parser.add_argument("--json", type=Path, help="all figures, as JSON")
    options = parser.parse_args(arguments)
    figures: list[Figure] = []
    for group in groups(options.quick):
        some = measure(group, 2 if options.quick else options.rounds)
        print("\n".join(lines(some)), end="\n\n", flush=True)
        figures += some
    if options.json is not None:
        options.json.write_text(json.dumps([attrs.asdict(one) for one in figures], indent=1))
    return 0


def run_as_script(groups: Callable[[bool], Sequence[Group]]) -> None:
    """Be the whole of a script."""
    sys.exit(main(groups))
