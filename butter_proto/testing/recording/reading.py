"""A recording out of JSON lines; lines.py wrote them.

Rules kept here:

* A line is JSON and nothing else is ever executed or imported: recordings come from strangers.
* Reading is bounded before anything is made of it: in bytes, in lines, in JSON's lists and objects,
  and in what blanks are made to stand for.
* Whatever stands in a file, `BadRecording` says in words what is wrong, and in which line.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from butter_proto.connector import Connector
from butter_proto.errors import ButterError
from butter_proto.identity import VERSION
from butter_proto.testing.recording.arguments import argument_from_json
from butter_proto.testing.recording.construction import Construction
from butter_proto.testing.recording.data import BadRecording, Budget, object_of
from butter_proto.testing.recording.lines import END, FORMAT, INPUTS, PARAMETERS, Recording
from butter_proto.testing.recording.turn import Cut, Decision, Draw, Missing, Turn

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file that is read: some more than a `Recorder` of 8 MiB can write."""
LONGEST_LINE: Final = 16 * 1024 * 1024
"""Characters of one line."""
MOST_LINES: Final = 200_000
MOST_BOXES: Final = 2_000_000
"""Lists and objects of a file: an empty one of two characters takes some sixty bytes of memory."""
MOST_DATA: Final = 256 * 1024 * 1024
"""Bytes of all that a file's blanks stand for."""
_LARGEST_TIME: Final = 2**53
"""Seconds as a whole number: a float holds all of these."""
_OPTIONS: Final = frozenset(
    {"timeout", "final", "offline", "replay", "retry_unavailable", "idempotency_key"}
)
_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(
        parameter.name
        for parameter in inspect.signature(getattr(Connector, name)).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    )
    - {"self"}
    for name in INPUTS
}
_ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(PARAMETERS[name]) - {"options"} | (_OPTIONS if name == "request" else set())
    for name in INPUTS
}
_BYTE_ORDER_MARK: Final = "\ufeff"
_QUOTED: Final = 40
"""Characters of a value that are told."""


def from_text(text: str) -> Recording:
    """Read a recording. Raises `BadRecording`, and nothing else."""
    if len(text) > LARGEST:
        raise BadRecording(f"it is larger than {LARGEST} characters")
    if text.count("[") + text.count("{") > MOST_BOXES:
        raise BadRecording(f"it has more than {MOST_BOXES} lists and objects")
    if not text.strip():
        raise BadRecording("it is empty")
    lines = _lines(text)
    construction = _head(_parsed(next(lines), 1))
    budget = Budget(MOST_DATA)
    entries: list[Turn | Cut] = []
    counted: Any = None
    for number, line in enumerate(lines, 2):
        if counted is not None:
            raise BadRecording(f"line {number}: it goes on after its end")
        told = _parsed(line, number)
        if isinstance(told, dict) and END in told:
            counted = _count(told[END], number)
        else:
            entries.append(_entry(told, number, budget))
    return Recording(construction, entries, is_whole=counted == len(entries))


def from_file(source: str | os.PathLike[str] | BinaryIO) -> Recording:
    """Read a recording from a file: from its path, or from where one that is open stands.

    A path to something else (a pipe, a device) is refused: it might never end, or never begin.
    Raises OSError and `BadRecording`.
    """
    if not isinstance(source, str | os.PathLike):
        return _from_bytes(source.read(LARGEST + 1))
    path = Path(source)
    if path.exists() and not path.is_file():
        raise BadRecording("it is no regular file")
    with path.open("rb") as file:
        return _from_bytes(file.read(LARGEST + 1))


def _from_bytes(data: bytes) -> Recording:
    if len(data) > LARGEST:
        raise BadRecording(f"it is larger than {LARGEST} bytes")
    try:
        return from_text(str(data, "utf-8"))
    except UnicodeDecodeError:
        raise BadRecording("it is no text in UTF-8") from None


def _head(told: Any) -> Construction:
    """Read the first line. Raises `BadRecording`."""
    if not isinstance(told, dict) or "recording" not in told:
        raise BadRecording("line 1: it is not the first line of a recording")
    written, by = (str(told.get(name))[:_QUOTED] for name in ("recording", "openbutter"))
    if told["recording"] != FORMAT:
        raise BadRecording(
            f"line 1: its format is {written}, of openbutter {by}; this is openbutter {VERSION}, "
            f"which reads format {FORMAT}"
        )
    try:
        return Construction.from_json(told.get("connector"))
    except BadRecording as error:
        raise BadRecording(f"line 1: {error}") from None


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, one after the other. Raises `BadRecording`."""
    start = number = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        if number > MOST_LINES:
            raise BadRecording(f"it has more than {MOST_LINES} lines")
        if end - start > LONGEST_LINE:
            raise BadRecording(f"line {number}: it is longer than {LONGEST_LINE} characters")
        yield text[start:end]
        start = end + 1


def _parsed(line: str, number: int) -> Any:
    if line.startswith(_BYTE_ORDER_MARK):
        raise BadRecording(f"line {number}: it begins with a byte order mark, which JSON has not")
    if not line.strip():
        raise BadRecording(f"line {number}: it is empty")
    try:
        return json.loads(line, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        why = f"it is no JSON from character {error.pos + 1} on"
        if not line.rstrip().endswith("}"):
            why += ": the line was cut off"
        raise BadRecording(f"line {number}: {why}") from None
    except RecursionError:
        raise BadRecording(f"line {number}: it is no JSON that can be read: too deep") from None
    except ValueError:
        raise BadRecording(
            f"line {number}: it is no JSON: it has a number that JSON has not"
        ) from None


def _count(told: Any, number: int) -> int:
    if type(told) is not int:
        raise BadRecording(f"line {number}: its end counts the turns and cuts")
    return told


def _no_constant(_: str) -> Any:
    raise ValueError


def _entry(told: Any, number: int, budget: Budget) -> Turn | Cut:
    try:
        fields = object_of(told)
        return _cut(fields, budget) if "cut" in fields else _turn(fields, budget)
    except KeyError as error:
        raise BadRecording(f"line {number}: it lacks {error}") from None
    except ButterError as error:
        raise BadRecording(f"line {number}: {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise BadRecording(
            f"line {number}: a value in it is of no kind that belongs there"
        ) from None


def _cut(fields: dict[str, Any], budget: Budget) -> Cut:
    missing = Missing(**object_of(fields["cut"]))
    for value in attrs.astuple(missing):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:  # noqa: PLR2004
            raise BadRecording("what is missing is counted in numbers")
    return Cut(missing, tuple(_turn(object_of(one), budget) for one in fields["carried"]))


def _turn(fields: dict[str, Any], budget: Budget) -> Turn:
    name = fields["call"]
    if name not in INPUTS:
        raise BadRecording(f"there is no input {str(name)[:_QUOTED]!r}")
    arguments = {
        key: argument_from_json(key, value, budget)
        for key, value in object_of(fields["with"]).items()
    }
    _check_names(name, arguments.keys() | {"now"})
    at = argument_from_json("at", fields["at"], budget)
    if not isinstance(at, float | int) or (isinstance(at, int) and abs(at) > _LARGEST_TIME):
        raise BadRecording("a time is a number that a float can hold")
    turn = Turn(name, at, arguments)
    turn.draws = [_draw(one) for one in fields.get("draws", [])]
    turn.did = [_decision(one) for one in fields["did"]]
    turn.returned, turn.raised = fields.get("returned"), fields.get("raised")
    turn.drained = fields.get("drained", True) is True
    return turn


def _check_names(name: str, given: set[str]) -> None:
    if not _NEEDED[name] <= given <= _ALLOWED[name]:
        raise BadRecording(f"{name} has other arguments")


def _draw(told: Any) -> tuple[Draw, Any]:
    kind, value = told
    draw = Draw(kind)
    fits = {
        Draw.RANDOM: isinstance(value, float | int),
        Draw.ENTROPY: isinstance(value, str),
        Draw.REQUEST_ID: isinstance(value, str),
        Draw.TRANSPORT_ID: isinstance(value, int),
        Draw.SIGNATURE: value is None or (type(value) is int and 0 <= value <= 1024),  # noqa: PLR2004
    }
    if not fits[draw]:
        raise BadRecording(f"no {kind} was drawn so")
    return draw, bytes.fromhex(value) if draw is Draw.ENTROPY else value


def _decision(told: Any) -> Decision:
    if not _is_decision(told):
        raise BadRecording("what it did is no decision")
    decision: Decision = told
    return decision


def _is_decision(told: Any) -> bool:
    match told:
        case ["event" | "command", str(), {**fields}]:
            return all(_is_plain(name, value) for name, value in fields.items())
        case ["sent", int(), int()] | ["message", int(), str(), int() | None]:
            return True
        case ["due", float() | int() | None]:
            return True
    return False


def _is_plain(name: object, value: object) -> bool:
    """Tell whether a decision may tell this: roles are its only list."""
    if name == "roles":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str | int | float | None)
