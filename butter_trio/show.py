"""How ``butter`` looks on a terminal: check's bar and table, doctor's line for each step.

Rules kept here:

* The bar and warnings go to stderr, the table and the steps to stdout.
* No text from outside is read as rich's markup, and none reaches the terminal unescaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from butter_proto.printable import printable
from butter_trio.check import Report, Run
from butter_trio.check_pool import PoolReport
from butter_trio.findings import Finding, Findings, Result
from butter_trio.words import MS


@contextmanager
def progress(duration: float) -> Iterator[tuple[Callable[[Run], None], Callable[[str], None]]]:
    """Show a bar; yields ``show`` and ``warn`` for `check`."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s  {task.fields[figures]}"),
    )
    bar = Progress(
        *columns,
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("connecting", total=duration, figures="")

        def show(run: Run) -> None:
            state = run.gateway.state.value
            bar.update(task, completed=run.elapsed, description=state, figures=_figures(run))
            bar.refresh()

        def warn(text: str) -> None:
            console.print(Text(printable(text), style="yellow"), soft_wrap=True)

        yield show, warn


def _figures(run: Run) -> str:
    stats = run.gateway.stats
    last = f"{run.round_trips[-1] * MS:.1f} ms" if run.round_trips else "-"
    return f"round trip {last}  events {stats.events}  disconnects {stats.disconnects}"


def show_report(report: Report) -> None:
    """Print the table of a finished test, and its verdict."""
    rtt = report.rtt_ms
    back = f"{report.reconnects} reconnected, {_online(report)} at the end"
    rows = {
        "gateway": f"{report.server_version or '-'}, protocol {report.protocol or '-'}",
        "handshake": _milliseconds(report.handshake_ms),
        "time online": f"{report.online_s:.1f} s",
        "disconnects": f"{report.disconnects} unexpected, {back}",
        "events": str(report.events),
        "probes": f"{report.probes}, {report.missed} missed",
        "round trip": " / ".join(map(_milliseconds, (rtt.p50, rtt.p99, rtt.max)))
        + " (p50 / p99 / max)",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(printable(value)))
    console = Console()
    console.print(table)
    _show_reason(console, report.reason)


def show_pool_report(report: PoolReport) -> None:
    """Print the table of a finished test of several gateways, and its verdict."""
    table = Table(box=None)
    for title in ("gateway", "handshake", "time online", "lost", "missed", "round trip", "version"):
        table.add_column(title, justify="left" if title in ("gateway", "version") else "right")
    for name, one in report.gateways.items():
        mark = " (primary)" if name == report.primary else ""
        table.add_row(
            Text(f"{printable(name)}{mark}", style="bold"),
            _milliseconds(one.handshake_ms),
            f"{one.online_s:.1f} s",
            str(one.disconnects),
            f"{one.missed} of {one.probes}",
            _milliseconds(one.rtt_ms.p50),
            Text(printable(one.server_version or "-")),
        )
    console = Console()
    console.print(table)
    whole = report.pool
    takeovers = "1 takeover" if report.takeovers == 1 else f"{report.takeovers} takeovers"
    back = f"{takeovers}, {_online(whole)} at the end"
    console.print(f"the pool: {whole.online_s:.1f} s online, {whole.events} events, {back}")
    _show_reason(console, report.reason)


def show_finding(finding: Finding) -> None:
    """Print one step of an examination: its mark, what was seen, and what to do."""
    mark, style = _MARKS[finding.result]
    console = Console()
    line = Text(f"{mark:>4} ", style=style)
    line.append(f"{finding.step.value:<10}", style="bold")
    line.append(printable(finding.seen), style="dim" if finding.result is Result.SKIPPED else "")
    if finding.ms is not None:
        line.append(f"  {finding.ms:.1f} ms", style="dim")
    console.print(line, soft_wrap=True)
    for note in (*finding.notes, *filter(None, [finding.advice])):
        text = Text(f"{'':15}{printable(note)}", style="yellow")
        console.print(text, soft_wrap=True)


def show_verdict(findings: Findings) -> None:
    """Print what an examination comes to."""
    step = findings.failed
    verdict = (
        Text("ok", style="bold green")
        if step is None
        else Text(f"not ok: it fails at {step.value}", style="bold red")
    )
    Console().print(verdict)


_MARKS = {
    Result.OK: ("ok", "green"),
    Result.FAILED: ("FAIL", "bold red"),
    Result.SKIPPED: ("-", "dim"),
}


def _show_reason(console: Console, reason: str | None) -> None:
    verdict = (
        Text("ok", style="bold green")
        if reason is None
        else Text(f"not ok: {printable(reason)}", style="bold red")
    )
    console.print(verdict, soft_wrap=True)


def _online(report: Report) -> str:
    return "online" if report.online_at_end else "offline"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
