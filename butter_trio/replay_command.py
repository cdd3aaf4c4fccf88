"""``butter replay``: a recording done again, as a time line on a terminal or as JSON.

Rules kept here:

* A recording comes from strangers: each line of it is escaped, and cut to the terminal's width. A
  difference is told whole, on as many lines as it takes.
* A step is shown as soon as it is done. Wake-ups that did nothing are only counted.
* Exit code 0: all decisions came out the same, or a cut explains what did not; 1: one did not, or
  the file is not whole, or no recording.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any, Final

import attrs
import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from butter_proto.printable import printable
from butter_proto.testing.recording import (
    BadRecording,
    Difference,
    Recording,
    Step,
    Turn,
    load_file,
    replay,
)
from butter_proto.testing.recording.decisions import DUE, in_words
from butter_trio.output import json_text, tell

_STDIN: Final = "-"
_INDENT: Final = " " * 13
_CUT: Final = "..."
_NARROWEST: Final = 20
_SHOWN: Final = ("transport_id", "method", "request_id", "ok", "abort", "code", "reason")
"""The arguments that stand on the time line."""


@click.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a step.")
def replay_command(*, file: str, as_json: bool) -> int:
    """Do a recording again, and tell where a connector of today decides otherwise.

    FILE is what --record wrote, or a Recorder; - is the standard input. Nothing is connected to.
    """
    try:
        recording = load_file(sys.stdin.buffer if file == _STDIN else file)
    except OSError as error:
        tell(f"butter: {file} cannot be read: {error.strerror}")
        return 1
    except BadRecording as error:
        tell(f"butter: {file}: {error}")
        return 1
    verdict = _Verdict(recording)
    show = _as_json if as_json else _TimeLine().show
    for step in replay(recording):
        verdict.hear(step)
        show(step)
    if as_json:
        click.echo(json_text(verdict.as_json()))
    else:
        verdict.show()
    return 0 if verdict.is_good else 1


@attrs.define
class _Verdict:
    """What is said of the whole."""

    recording: Recording
    differ: int = 0
    explained: int = 0
    """Steps that differ by a cut."""
    first: Step | None = None
    """The first that does not."""

    def hear(self, step: Step) -> None:
        self.explained += step.by_cut
        if step.differences and not step.by_cut:
            self.differ += 1
            self.first = self.first or step

    @property
    def is_good(self) -> bool:
        return self.first is None and self.recording.is_whole

    def as_json(self) -> dict[str, Any]:
        return {
            "same": self.first is None,
            "differences": self.differ,
            "cut": self.explained,
            "whole": self.recording.is_whole,
        }

    def show(self) -> None:
        style = "bold green" if self.is_good else "bold red"
        console = Console(highlight=False)
        for line in self._lines():
            console.print(Text(printable(line), style=style))

    def _lines(self) -> Iterator[str]:
        if not self.recording.is_whole:
            yield "not whole: the file was cut short, or lines are missing; as far as it goes:"
        of_cut = f"; {self.explained} steps differ by what was cut out" if self.explained else ""
        if self.first is None:
            yield f"same{of_cut}"
            return
        yield f"not the same: {self.differ} steps differ{of_cut}"
        if self.first.turn is not None:
            yield f"first at {self.first.at:.3f} s: {_said(self.first.turn)}"
        for one in self.first.differences:
            yield f"  then: {one.then}"
            yield f"  now:  {one.now}"


# --- the time line --------------------------------------------------------------------------


class _TimeLine:
    """Shows steps on a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._width = max(_NARROWEST, self._console.width)
        self._idle = 0

    def show(self, step: Step) -> None:
        if _is_idle(step):
            self._idle += 1
            return
        if self._idle:
            self._line(f"{_INDENT}-- {self._idle} wake-ups that did nothing", "dim")
            self._idle = 0
        if step.missing is not None:
            left = step.missing
            gone = f"{left.attempts} attempts, {left.inputs} inputs, {left.bytes} bytes"
            self._line(f"{_INDENT}-- cut: {gone}, {left.seconds:.0f} s", "yellow")
        if step.turn is None:
            return
        self._line(f"{step.at:9.3f} s  {_said(step.turn)}", "bold")
        for decision in step.did:
            if decision[0] != DUE:
                self._line(f"{_INDENT}{in_words(decision)}", "")
        for one in step.differences:
            self._difference(one, by_cut=step.by_cut)

    def _difference(self, one: Difference, *, by_cut: bool) -> None:
        style = "yellow" if by_cut else "bold red"
        word = "differs by the cut" if by_cut else "DIFFERS"
        for line in (f"{word}: then {one.then};", f"now {one.now}"):
            self._console.print(Text(f"{_INDENT}{printable(line)}", style=style))

    def _line(self, line: str, style: str) -> None:
        text = printable(line)
        if cell_len(text) > self._width:
            text = set_cell_size(text, self._width - len(_CUT)) + _CUT
        self._console.print(Text(text, style=style), soft_wrap=True)


def _is_idle(step: Step) -> bool:
    """Tell whether a step is a wake-up that did nothing but choose the next one."""
    turn = step.turn
    if turn is None or turn.name != "handle_timeout" or turn.raised is not None:
        return False
    told = step.differences and not step.by_cut
    return not told and all(one[0] == DUE for one in step.did)


def _said(turn: Turn) -> str:
    given = {name: turn.arguments[name] for name in _SHOWN if name in turn.arguments}
    words = [turn.name, *(_argument(name, value) for name, value in given.items())]
    if "data" in turn.arguments or "message" in turn.arguments:
        words.append(f"{turn.received} bytes")
    fault = turn.arguments.get("fault")
    if fault is not None:
        words.append(fault.kind.name)
    if turn.raised is not None:
        words.append(f"raised {turn.raised}")
    elif turn.returned is not None:
        words.append(f"-> {turn.returned}")
    return " ".join(words)


def _argument(name: str, value: Any) -> str:
    return f"{name}={value}" if isinstance(value, bool) else str(value)


# --- JSON -----------------------------------------------------------------------------------


def _as_json(step: Step) -> None:
    at = round(step.at, 6) if math.isfinite(step.at) else None
    told: dict[str, Any] = {"at": at, "did": step.did}
    if step.missing is not None:
        told["cut"] = attrs.asdict(step.missing)
    if step.turn is not None:
        told["input"] = _said(step.turn)
    if step.differences:
        told["differences"] = [attrs.asdict(one) for one in step.differences]
        told["by_cut"] = step.by_cut
    click.echo(json_text(told))
