"""What a soak comes to: each fault against what the command told of it, and what the command took.

Rules kept here:

* Pure: a report, times and samples in, a verdict out.
* What is wrong is said in words, with the fault and its minute.
* A bound holds for a connection that has lasted. One that was back only just before the next fault
  has its backoff from before (``reconnect.stable_after``): the longest pause may come on top.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final

import attrs

from butter_proto.settings import ReconnectSettings
from tests.chaos.process import Usage
from tests.chaos.soak_script import Minute

MINUTE: Final = 60.0
RECONNECT: Final = ReconnectSettings()
"""What the command runs with."""
SKEW: Final = 1.0
"""The command counts from when it was online, we from when the hello passed the proxy: on a busy
machine a drop's time may be that many seconds before its cause's."""
GROWTH: Final = 1.05
"""Memory may be so much more at the end than after `WARM_UP`: an allocator's noise, no leak."""
WARM_UP: Final = 10
"""Minutes in which caches fill; in a run under three times of that memory is not judged."""
SLACK: Final = 2
"""Descriptors or threads more than at the start, where a sample meets a handshake."""


@attrs.frozen
class Struck:
    """One minute as it went; the times are seconds since the first hello."""

    fault: str
    at_s: float
    hurt_until_s: float
    drops: list[dict[str, Any]]
    """What the command's report says of this minute."""
    back_after_s: float | None
    """From the end of the hurt to the next hello; None: nothing dropped, or it did not come back."""
    bound_s: float
    usage: Usage
    wrong: list[str]


@attrs.frozen
class Soaked:
    """The result; the fields are the keys of ``--json``."""

    ok: bool
    wrong: list[str]
    minutes: int
    drops_expected: int
    struck: list[Struck]
    cpu_s: float
    """What the command used in all, its start included."""
    report: dict[str, Any]
    """What ``butter check --json`` printed."""


@attrs.define
class Hurt:
    """One fault while it happens, on trio's clock."""

    minute: Minute
    at: float
    until: float
    usage: Usage


def judged(
    report: dict[str, Any],
    hurts: Sequence[Hurt],
    samples: Sequence[Usage],
    first_hello: float,
    minutes: int,
) -> Soaked:
    """Hold the command's report and its samples against the script."""
    ends = [hurt.at - first_hello for hurt in hurts[1:]] + [math.inf]
    struck = list[Struck]()
    back_at = -math.inf  # nothing failed before the first hello
    for hurt, end in zip(hurts, ends, strict=True):
        lasted = hurt.at - first_hello - back_at >= RECONNECT.stable_after
        one = _minute(hurt, first_hello, end, report["drops"], lasted=lasted)
        back_at = max([back_at, *(drop["at_s"] + (drop["offline_s"] or 0.0) for drop in one.drops)])
        struck.append(one)
    expected = sum(hurt.minute.drops for hurt in hurts)
    wrong = [f"{each.fault} at {each.at_s:.0f} s: {what}" for each in struck for what in each.wrong]
    if report["disconnects"] != expected:
        wrong.append(f"{report['disconnects']} disconnects, and the faults cause {expected}")
    if not report["online_at_end"]:
        wrong.append("offline at the end")
    if len(hurts) < minutes:
        wrong.append(f"it ended in minute {len(hurts)}: {report['reason']}")
    wrong += _grown(samples)
    return Soaked(not wrong, wrong, len(hurts), expected, struck, samples[-1].cpu_s, report)


def _minute(
    hurt: Hurt, first_hello: float, end: float, drops: list[dict[str, Any]], *, lasted: bool
) -> Struck:
    minute = hurt.minute
    bound, why = minute.bound, minute.why
    if bound and not lasted:
        bound, why = bound + RECONNECT.cap, f"{why}, in the backoff from before"
    at, until = hurt.at - first_hello, hurt.until - first_hello
    mine = [drop for drop in drops if at <= drop["at_s"] + SKEW < end]
    allowed = {kind.name for kind in minute.endings}
    wrong = [
        f"told as {drop['ending']}: {drop['text']}"
        for drop in mine
        if drop["ending"] not in allowed
    ]
    if len(mine) != minute.drops:
        wrong.append(f"{len(mine)} drops in place of {minute.drops}")
    back_after = None
    if mine and mine[-1]["offline_s"] is None:
        wrong.append("it did not come back")
    elif mine:
        back_after = round(mine[-1]["at_s"] + mine[-1]["offline_s"] - until, 2)
        if back_after > bound:
            wrong.append(f"back after {back_after} s; within {bound:g} s: {why}")
    rounded = round(at, 1), round(until, 1)
    return Struck(minute.name, *rounded, mine, back_after, bound, hurt.usage, wrong)


def _grown(samples: Sequence[Usage]) -> list[str]:
    """Say what the process took more of, the longer it ran."""
    wrong = []
    for what in ("descriptors", "threads"):
        first, most = getattr(samples[0], what), max(getattr(each, what) for each in samples)
        if most > first + SLACK:
            wrong.append(f"{most} {what}, and {first} at the start")
    if len(samples) >= 3 * WARM_UP:
        memory = [each.rss_kib for each in samples]
        early = statistics.median(memory[WARM_UP : 2 * WARM_UP])
        late = statistics.median(memory[-WARM_UP:])
        if late > early * GROWTH:
            wrong.append(f"memory grew from {early:g} to {late:g} KiB")
    return wrong
