"""A recording done again: each input given to a new connector, and its decisions compared.

Rules kept here:

* Chance is what was drawn then, bytes are pulled where they were pulled then. So an uncut recording
  comes out the same to the last decision.
* At a cut the missing time is taken out, in whole intervals of the keepalive, so that its probes
  stay where they were; what still waited to be sent counts as sent. What differs after it in what
  hangs on the missing part (differences.py) is told as due to the cut.
* Whatever a file says, nothing is raised but `BadRecording`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import attrs

from butter_proto.connector import Connector
from butter_proto.errors import Delivery, InvalidSettings
from butter_proto.machine import OpenTransport, State
from butter_proto.testing.recording import decisions
from butter_proto.testing.recording.data import BadRecording
from butter_proto.testing.recording.differences import Difference, Outcome, between, without_cut
from butter_proto.testing.recording.lines import Recording
from butter_proto.testing.recording.tape import MASK_BYTES
from butter_proto.testing.recording.turn import Cut, Decision, Draw, Missing, Turn

_HASTE: Final = 1e-9
"""Seconds that each step after a cut comes later than it did: the sums of other times are rounded
otherwise, and a wake-up would come too soon by that."""


@attrs.frozen
class Step:
    """One turn of a recording, and how it came out again; or a cut."""

    at: float
    """Seconds since the first input, as they were then; so are times in what it did. Infinite, or
    no number, where the driver's clock said so."""
    turn: Turn | None
    """None at a cut."""
    did: list[Decision]
    """The decisions of now."""
    missing: Missing | None = None
    differences: tuple[Difference, ...] = ()
    """What came out otherwise than then."""
    by_cut: bool = False
    """Whether the cut before it explains that."""


def replay(recording: Recording) -> Iterator[Step]:
    """Do a recording again, step by step. Raises `BadRecording` where it makes no connector."""
    return _Player(recording).steps(recording)


def difference(recording: Recording) -> Step | None:
    """Return the first step that comes out otherwise, and that no cut explains; None: the same."""
    return next((s for s in replay(recording) if s.differences and not s.by_cut), None)


class _Chance:
    """Gives a connector what was drawn then; where it draws more than that, the same each time."""

    def __init__(self) -> None:
        self._draws: dict[Draw, deque[Any]] = {kind: deque() for kind in Draw}
        self._more = 0

    def load(self, turn: Turn) -> None:
        """Have the draws of a turn, and no others."""
        for waiting in self._draws.values():
            waiting.clear()
        for kind, value in turn.draws:
            self._draws[kind].append(value)

    def random(self) -> float:
        return float(self._next(Draw.RANDOM, 0.5))

    def entropy(self, size: int) -> bytes:
        drawn = bytes(size) if size == MASK_BYTES else self._next(Draw.ENTROPY, bytes(size))
        return bytes(drawn[:size].ljust(size, b"\0"))

    def request_id(self) -> str:
        self._more += 1
        return str(self._next(Draw.REQUEST_ID, f"more-{self._more}"))

    def transport_id(self) -> int:
        self._more -= 1
        return int(self._next(Draw.TRANSPORT_ID, self._more))

    def sign(self, _: bytes) -> bytes:
        size = self._next(Draw.SIGNATURE, None)
        if size is None:
            raise ValueError("it did not sign")
        return bytes(size)

    def _next(self, kind: Draw, other: Any) -> Any:
        waiting = self._draws[kind]
        return waiting.popleft() if waiting else other


@attrs.frozen
class _Signer:
    public_key: bytes
    chance: _Chance

    def sign(self, message: bytes) -> bytes:
        return self.chance.sign(message)


class _Player:
    def __init__(self, recording: Recording) -> None:
        made = recording.construction
        self._chance = chance = _Chance()
        self._interval = made.settings.keepalive.interval
        self._shift = 0.0
        self._begin: Turn | None = None
        self._is_cut = False
        self._known: set[str] = set()
        self._open: set[int] = set()
        try:
            self._machine = Connector(
                made.endpoint,
                made.settings,
                random=chance.random,
                entropy=chance.entropy,
                next_transport_id=chance.transport_id,
                next_request_id=chance.request_id,
                signer=None if made.public_key is None else _Signer(made.public_key, chance),
                hold_queue=made.hold_queue,
            )
        except InvalidSettings as error:
            raise BadRecording(f"its first line makes no connector: {error}") from None

    def steps(self, recording: Recording) -> Iterator[Step]:
        times = (one.at for one in recording.entries if isinstance(one, Turn))
        first = next(filter(math.isfinite, times), 0.0)  # a driver's clock may be wrong
        at = 0.0
        for entry in recording.entries:
            if isinstance(entry, Cut):
                self._cut(entry)
                yield Step(at, None, [], entry.missing)
            else:
                at = entry.at - first
                yield self._step(entry, first)

    def _step(self, turn: Turn, first: float) -> Step:
        self._shift -= _HASTE * self._is_cut
        returned, raised = self._give(turn)
        did = _since(first - self._shift, self._pull(turn))
        then = Outcome(turn.returned, turn.raised, _since(first, turn.did))
        now = Outcome(returned, raised, did)
        found = between(then, now)
        by_cut = self._is_cut and bool(found) and not without_cut(then, now, self._known)
        return Step(turn.at - first, turn, did, None, found, by_cut)

    # --- inputs ---------------------------------------------------------------------------------

    def _give(self, turn: Turn) -> tuple[Any, str | None]:
        """Make the call of a turn; return what it returned, and what it raised."""
        machine, now = self._machine, turn.at - self._shift
        self._chance.load(turn)
        name, arguments = turn.name, turn.arguments
        if self._begin is not None and machine.state is State.IDLE:  # what began it is missing
            token = self._begin.arguments.get("device_token")
            arguments = {**_some(arguments, "signed"), "device_token": token}
            name, self._begin = "start", None
        try:
            returned = getattr(machine, name)(**arguments, now=now)
        except Exception as error:  # noqa: BLE001 - what a stranger's file makes it raise is told
            return None, type(error).__name__
        if name == "request":
            self._known.add(returned)
        return returned.name if isinstance(returned, Delivery) else returned, None

    def _cut(self, cut: Cut) -> None:
        self._is_cut = True
        self._known.clear()
        if not cut.missing.attempts:
            intervals = math.floor(cut.missing.seconds / self._interval)
            self._shift += intervals * self._interval
        for turn in cut.carried:
            if turn.name != "start":
                self._give(turn)
        self._known.clear()
        if cut.missing.attempts:
            starts = (turn for turn in cut.carried if turn.name == "start")
            self._begin = next(starts, Turn("start", 0.0, {}))
        for transport_id in self._open:
            while self._machine.data_to_send(transport_id):
                pass
            while self._machine.next_message(transport_id):
                pass

    # --- pulls ----------------------------------------------------------------------------------

    def _pull(self, turn: Turn) -> list[Decision]:
        """Pull what was pulled then, in the same order; to the end where that was done."""
        did: list[Decision] = []
        for decision in turn.did:
            self._pull_one(decision, did)
        while turn.drained and self._pull_one([decisions.COMMAND], did):
            pass
        while turn.drained and self._pull_one([decisions.EVENT], did):
            pass
        return did

    def _pull_one(self, decision: Decision, did: list[Decision]) -> bool:
        machine = self._machine
        match decision:
            case [decisions.EVENT, *_]:
                event = machine.next_event()
                found = None if event is None else decisions.of_event(event)
            case [decisions.COMMAND, *_]:
                command = machine.next_command()
                found = None if command is None else decisions.of_command(command)
                if isinstance(command, OpenTransport):
                    self._open.add(command.id)
                elif command is not None:
                    self._open.discard(command.id)
            case [decisions.SENT, transport_id, *_]:
                data = machine.data_to_send(transport_id)
                found = decisions.of_bytes(transport_id, data) if data else None
            case [decisions.MESSAGE, transport_id, *_]:
                message = machine.next_message(transport_id)
                found = None if message is None else decisions.of_message(transport_id, message)
            case _:
                found = decisions.of_due(machine.next_timeout())
        if found is not None:
            did.append(found)
        return found is not None


def _some(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: arguments[name] for name in names if name in arguments}


def _since(first: float, did: list[Decision]) -> list[Decision]:
    """Return decisions with their times counted from then on."""
    return [
        decisions.of_due(one[1] - first) if one[0] == decisions.DUE and one[1] is not None else one
        for one in did
    ]
