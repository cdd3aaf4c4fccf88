"""The table, the targets and the chart of one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.connection import CORE, JSON_LOADS
from benchmarks.peers.measuring import Runs, Table
from benchmarks.peers.plan import (
    ALONE,
    BARE_TRIO,
    CONNECTS,
    EVENTS,
    FLIGHT,
    IDLE,
    OURS,
    RAW,
    CoreTarget,
    Measure,
    Target,
    Workload,
)
from benchmarks.timing import Figure

_SMALL, _LARGE = 10, 100
_CHARTED: Final = (
    (ALONE, Measure.THROUGHPUT),
    (FLIGHT, Measure.THROUGHPUT),
    (EVENTS, Measure.THROUGHPUT),
    (EVENTS, Measure.CPU),
    (CONNECTS, Measure.THROUGHPUT),
    (IDLE, Measure.MEMORY),
)


def table_lines(table: Table, workloads: Iterable[Workload]) -> Iterator[str]:
    """Yield one table for each workload, as Markdown; clients in their order."""
    for workload in workloads:
        idle = workload.kind == "idle"
        speed = Measure.MEMORY if idle else Measure.THROUGHPUT
        heads = ["client", speed.value.replace("items", workload.unit)]
        item = workload.unit.removesuffix("s")
        heads += [f"CPU ms per {item} and minute" if idle else f"CPU us per {item}"]
        heads += ["its CPU", "the server's CPU"]
        yield f"\n### {workload.name}\n"
        yield f"| {' | '.join(heads)} |"
        yield f"|{' --- |' * len(heads)}"
        for (name, client), runs in table.items():
            if name != workload.name or not runs.runs:
                continue
            cells = [client, _number(runs.median(speed)), _cpu(runs, idle=idle)]
            cells += [_percent(runs.cpu_share), _percent(runs.server_share)]
            yield f"| {' | '.join(cells)} |"


def target_lines(table: Table, targets: Iterable[Target]) -> Iterator[str]:
    """Yield the targets with what was reached, as Markdown."""
    yield "| workload | measure | ours | against | ratio | target | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for target in targets:
        reached, peer = ratio(table, target)
        sign = "<=" if target.measure.less_is_better else ">="
        cells = [target.workload, target.measure.value, target.ours, peer or "nobody"]
        cells += ["-" if reached is None else f"{reached:.2f}", f"{sign} {target.bound:g}"]
        yield f"| {' | '.join(cells)} | {verdict(reached, target)} |"


def core_lines(figures: Iterable[Figure], targets: Iterable[CoreTarget]) -> Iterator[str]:
    """Yield the rows of the core alone, for the same table."""
    ratios = {figure.case: figure.ratio for figure in figures}
    for target in targets:
        reached = ratios[target.case]
        cells = [CORE, "CPU us per item", target.case, JSON_LOADS]
        cells += [f"{reached:.2f}", f"<= {target.bound:g}", _met(met=reached <= target.bound)]
        yield f"| {' | '.join(cells)} |"


def ratio(table: Table, target: Target) -> tuple[float | None, str]:
    """Return ours over the best peer's, and which peer that is."""
    ours = _median(table, target, target.ours)
    theirs = [(_median(table, target, peer), peer) for peer in target.peers]
    known = [(value, peer) for value, peer in theirs if value]
    if ours is None or not known:
        return None, ""
    best, peer = (min if target.measure.less_is_better else max)(known)
    return ours / best, peer


def verdict(reached: float | None, target: Target) -> str:
    """Say whether a target is met."""
    if reached is None:
        return "no figure"
    met = reached <= target.bound if target.measure.less_is_better else reached >= target.bound
    return _met(met=met)


def draw(table: Table, clients: Sequence[str], path: Path) -> None:
    """Draw what matters most, as one PNG."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - needs an extra

    figure, axes = plt.subplots(2, 3, figsize=(15, 7))
    for axis, (workload, measure) in zip(axes.flat, _CHARTED, strict=True):
        shown = [
            (client, value)
            for client in reversed(clients)
            if client not in (RAW, BARE_TRIO)
            and (runs := table.get((workload, client))) is not None
            and (value := runs.median(measure)) is not None
        ]
        colours = ["tab:orange" if client in OURS else "tab:grey" for client, _ in shown]
        axis.barh([client for client, _ in shown], [value for _, value in shown], color=colours)
        better = "less" if measure.less_is_better else "more"
        axis.set_title(f"{workload}: {measure.value}\n({better} is better)", fontsize=9)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _met(*, met: bool) -> str:
    return "met" if met else "**not met**"


def _median(table: Table, target: Target, client: str) -> float | None:
    runs = table.get((target.workload, client))
    return None if runs is None else runs.median(target.measure)


def _cpu(runs: Runs, *, idle: bool) -> str:
    if not idle:
        return _number(runs.median(Measure.CPU))
    one = runs.runs[0].result
    return _number(one.cpu / one.seconds * 60 / one.items * 1000)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = 0 if value >= _LARGE else 1 if value >= _SMALL else 2
    return f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
