"""A recording as JSON lines; reading.py is the way back.

Rules kept here:

* The first line says what the connector is made of, each other one is a turn or a cut; the last one
  counts them, so that a file that was cut short shows it.
* Secrets and bodies are taken out here. All secrets are known before the first line is written: a
  hello may make known one that came before it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from butter_proto.connector import Connector
from butter_proto.errors import Delivery
from butter_proto.identity import VERSION
from butter_proto.secret import Secret
from butter_proto.testing.recording.construction import Construction
from butter_proto.testing.recording.data import data_to_json
from butter_proto.testing.recording.fillers import Fillers
from butter_proto.testing.recording.inputs import Inputs
from butter_proto.testing.recording.messages import Messages
from butter_proto.testing.recording.streams import Streams
from butter_proto.testing.recording.turn import Cut, Draw, Turn

FORMAT: Final = 1
END: Final = "end"
"""What the last line tells: how many turns and cuts there are."""
INPUTS: Final = (
    *("start", "stop", "request", "cancel", "probe", "token_stored", "token_forgotten"),
    *("use_credentials", "reconnect_now", "resynced"),
    *("transport_opened", "receive_data", "receive_message", "receive_pong"),
    *("transport_closed", "transport_failed", "handle_timeout"),
)
"""The inputs of a connector: the application's, then a driver's."""
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(getattr(Connector, name)).parameters)[1:] for name in INPUTS
}


@attrs.frozen
class Recording:
    """What a connector is made of, and what happened to it."""

    construction: Construction
    entries: list[Turn | Cut] = attrs.field(repr=lambda entries: f"<{len(entries)} entries>")
    secrets: tuple[Secret, ...] = ()
    """What was known as one by then, but for those of the settings; none in one that was read."""
    is_whole: bool = True
    """Whether it has all that was written; False: its file was cut short, or lines are missing."""


def to_lines(recording: Recording, *, bodies: bool = False) -> Iterator[str]:
    """Write a recording without secrets, and without bodies unless they are asked for."""
    fillers = Fillers()
    recording.construction.learn(fillers)
    fillers.learn(recording.secrets)
    messages = Messages(fillers, bodies=bodies)
    streams = Streams(messages, fillers, _ids_of(_turns_of(recording.entries)))
    cleaned = _clean(recording.entries, streams)
    inputs = Inputs(streams, messages, fillers)
    head = {"recording": FORMAT, "openbutter": VERSION}
    yield _line({**head, "connector": recording.construction.to_json(fillers)})
    for entry in recording.entries:
        if isinstance(entry, Turn):
            yield _line(_turn_to_json(entry, cleaned.get(id(entry)), inputs, fillers))
        else:
            carried = [_turn_to_json(turn, None, inputs, fillers) for turn in entry.carried]
            yield _line({"cut": attrs.asdict(entry.missing), "carried": carried})
    yield _line({END: len(recording.entries)})


def _turns_of(entries: Iterable[Turn | Cut]) -> Iterator[Turn]:
    for entry in entries:
        if isinstance(entry, Turn):
            yield entry
        else:
            yield from entry.carried


def _ids_of(turns: Iterable[Turn]) -> set[str]:
    return {str(value) for turn in turns for kind, value in turn.draws if kind is Draw.REQUEST_ID}


def _clean(entries: Iterable[Turn | Cut], streams: Streams) -> dict[int, bytes]:
    """Return the clean data of each turn that brought some, by its ``id``."""
    of_transport: dict[Any, list[Turn]] = {}
    cleaned: dict[int, bytes] = {}
    for entry in entries:
        if isinstance(entry, Cut):
            continue
        data = entry.arguments.get("data")
        if entry.name == "transport_opened":
            of_transport.setdefault(entry.transport_id, [])
        elif isinstance(data, bytes) and entry.transport_id in of_transport:
            of_transport[entry.transport_id].append(entry)
        elif isinstance(data, bytes):  # what comes before that is never read
            cleaned[id(entry)] = b" " * len(data)
    for turns in of_transport.values():
        left = memoryview(streams.clean(b"".join(turn.arguments["data"] for turn in turns)))
        for turn in turns:
            size = len(turn.arguments["data"])
            cleaned[id(turn)] = bytes(left[:size])
            left = left[size:]
    return cleaned


def _turn_to_json(
    turn: Turn, data: bytes | None, inputs: Inputs, fillers: Fillers
) -> dict[str, Any]:
    told: dict[str, Any] = inputs.arguments({"at": turn.at, **turn.arguments})
    at = told.pop("at")
    if data is not None:
        told["data"] = data_to_json(data)
    line: dict[str, Any] = {"at": at, "call": turn.name, "with": told}
    returned = turn.returned
    if isinstance(returned, Delivery):
        line["returned"] = returned.name
    elif returned is not None:
        line["returned"] = fillers.name(str(returned))
    if turn.raised is not None:
        line["raised"] = turn.raised
    if turn.draws:
        line["draws"] = [[kind.value, fillers.json(value)] for kind, value in turn.draws]
    line["did"] = fillers.json(turn.did)
    if not turn.drained:
        line["drained"] = False
    return line


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
