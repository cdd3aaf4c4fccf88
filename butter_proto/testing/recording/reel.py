"""What is kept of a recording: the last minutes, inside a bound of bytes.

Rules kept here:

* A machine's state at a cut is not recorded, so a cut may only be where a machine that was not
  told of it goes on as well: between two attempts to connect, or inside a connection between two
  messages.
* Whole old attempts go first. Of the one that lives on the opening stays (up to Online, or to its
  end), and after the cut the requests whose outcome is not cut out; its middle goes, oldest first.
* What cannot be cut and is too large (one message above the bound) makes the attempt unusable: it
  is dropped whole, and recording goes on with the next attempt.
* Adding a turn costs the same however many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs

from butter_proto.testing.recording.boundaries import Boundaries
from butter_proto.testing.recording.turn import Cut, Missing, Turn
from butter_proto.timers import Clock

_LASTING: Final = frozenset({"resynced", "token_forgotten", "token_stored", "use_credentials"})
"""Inputs whose last call has an effect for as long as the connection lives, or longer."""
_OUTCOMES: Final = frozenset({"Replied", "RequestFailed"})
_CREDENTIALS: Final = frozenset({"use_credentials"})
"""Those whose effect outlives the attempt."""


@attrs.define(eq=False)
class _Kept:
    """A turn with the time that its machine believed, and whether a cut may follow it."""

    turn: Turn
    at: float
    size: int
    edge: bool


@attrs.define(eq=False)
class _Chapter:
    """One attempt to connect, and what follows until the next one."""

    opening: list[_Kept] = attrs.field(factory=list)
    tail: deque[_Kept] = attrs.field(factory=deque)
    edges: int = 0
    """How many of the tail a cut may follow."""
    settled: bool = False
    missing: Missing | None = None
    carried: dict[str, _Kept] = attrs.field(factory=dict)

    @property
    def begins(self) -> float:
        return self.opening[0].at

    @property
    def all(self) -> Iterator[_Kept]:
        yield from self.opening
        yield from self.carried.values()
        yield from self.tail


class Reel:
    """Keeps the turns of the last ``seconds`` in about ``max_bytes``."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._clock = Clock()
        self._chapters: deque[_Chapter] = deque([_Chapter()])
        self._boundaries: dict[int, Boundaries | None] = {}
        self._messages: set[int] = set()
        self._unanswered: set[str] = set()
        self._missing: Missing | None = None
        self._start: Turn | None = None
        self._credentials: dict[str, _Kept] = {}
        self.is_lost = False
        """Whether nothing is kept until the next attempt."""
        self.size = 0
        """About how much memory the turns take, in bytes."""

    # --- what happens -------------------------------------------------------------------------

    def add(self, turn: Turn) -> None:
        """Keep a turn that is over, and let go of what is too old, or too much."""
        now = self._clock.advance(turn.at)
        if self.is_lost and not turn.opens:
            self._missing = (self._missing or Missing()) + Missing.of(turn)
            return
        self.is_lost = False
        kept = _Kept(turn, now, turn.size, self._is_edge(turn))
        self.size += kept.size
        if turn.opens and any(one.turn.opens for one in self._chapters[-1].opening):
            self._chapters.append(_Chapter())
        chapter = self._chapters[-1]
        if chapter.settled:
            chapter.tail.append(kept)
            chapter.edges += kept.edge
        else:
            chapter.opening.append(kept)
            chapter.settled = turn.settles
        if turn.name == "request" and turn.raised is None:
            self._unanswered.add(turn.returned)
        self._let_go(now - self._seconds)

    def opened(self, transport_id: int, *, by_messages: bool) -> None:
        """Take note of a transport that was asked for."""
        if by_messages:
            self._messages.add(transport_id)
        else:
            self._boundaries[transport_id] = None

    def closed(self, transport_id: int) -> None:
        """Take note that a transport is no more."""
        self._boundaries.pop(transport_id, None)
        self._messages.discard(transport_id)

    def turns(self) -> list[Turn | Cut]:
        """Return what is kept, with a `Cut` wherever something is missing."""
        result: list[Turn | Cut] = []
        if self._missing is not None:
            carried = [one.turn for one in self._credentials.values()]
            begin = [] if self._start is None else [self._start]
            result.append(Cut(self._missing, (*carried, *begin)))
        for chapter in self._chapters:
            result += (one.turn for one in chapter.opening)
            if chapter.missing is not None:
                carried = [one.turn for one in chapter.carried.values()]
                result.append(Cut(chapter.missing, tuple(carried)))
            result += (one.turn for one in chapter.tail)
        return result

    # --- letting go -----------------------------------------------------------------------------

    def _is_edge(self, turn: Turn) -> bool:
        """Tell whether a cut may follow: all transports are between two messages.

        Of one that lives the last input must be its own: then the peer was just heard, on this
        side of the cut as on the other.
        """
        transport_id = turn.transport_id
        if turn.name == "transport_opened" and transport_id in self._boundaries:
            self._boundaries[transport_id] = Boundaries()
        boundaries = self._boundaries.get(transport_id or 0)
        data = turn.arguments.get("data")
        if boundaries is not None and isinstance(data, bytes):
            boundaries.receive(data)
        if not self._boundaries and not self._messages:
            return True
        heard = boundaries is not None or transport_id in self._messages
        return (
            heard
            and turn.received > 0
            and all(one is not None and one.at_one for one in self._boundaries.values())
        )

    def _let_go(self, horizon: float) -> None:
        while len(self._chapters) > 1 and (
            self._chapters[1].begins <= horizon or self.size > self._max_bytes
        ):
            self._drop_first()
        chapter = self._chapters[0]
        while chapter.edges and (chapter.tail[0].at <= horizon or self.size > self._max_bytes):
            self._cut(chapter)
        while chapter.carried and self.size > self._max_bytes:
            oldest = chapter.carried.pop(next(iter(chapter.carried)))
            self.size -= oldest.size
            self._miss(chapter, oldest)
        if self.size > self._max_bytes:
            self._drop_first()
            self._chapters.append(_Chapter())
            self.is_lost = True

    def _drop_first(self) -> None:
        chapter = self._chapters.popleft()
        missing = (self._missing or Missing()) + Missing(attempts=1)
        missing += chapter.missing or Missing()
        for kept in chapter.all:
            self._unanswered.difference_update(_answered_in(kept.turn))
            self.size -= kept.size
            missing += Missing.of(kept.turn)
            if kept.turn.name == "start":
                self._start = kept.turn
            if kept.turn.name in _CREDENTIALS:
                self._credentials[kept.turn.name] = kept
        self._missing = missing

    def _cut(self, chapter: _Chapter) -> None:
        """Take the oldest turns out of a chapter's middle, up to where a cut may follow."""
        before = chapter.opening[-1].at
        edge = False
        while not edge:
            kept = chapter.tail.popleft()
            edge = kept.edge
            self._forget_answered(chapter, kept.turn)
            key = self._effect_of(kept.turn)
            if key is None:
                self.size -= kept.size
                self._miss(chapter, kept)
                continue
            old = chapter.carried.pop(key, None)
            if old is not None:
                self.size -= old.size
                self._miss(chapter, old)
            chapter.carried[key] = kept
            chapter.missing = chapter.missing or Missing()
        chapter.edges -= 1
        assert chapter.missing is not None
        chapter.missing = attrs.evolve(chapter.missing, seconds=kept.at - before)

    def _effect_of(self, turn: Turn) -> str | None:
        """Return the name under which a turn is carried over a cut; None: it has no effect."""
        if turn.name in _LASTING and turn.raised is None:
            return turn.name
        if turn.name == "request" and turn.returned in self._unanswered:
            request_id: str = turn.returned
            return request_id
        return None

    def _forget_answered(self, chapter: _Chapter, turn: Turn) -> None:
        """Let go of the requests whose outcome goes with a turn."""
        for request_id in _answered_in(turn):
            self._unanswered.discard(request_id)
            gone = chapter.carried.pop(request_id, None)
            if gone is not None:
                self.size -= gone.size
                self._miss(chapter, gone)

    @staticmethod
    def _miss(chapter: _Chapter, kept: _Kept) -> None:
        chapter.missing = (chapter.missing or Missing()) + Missing.of(kept.turn)


def _answered_in(turn: Turn) -> Iterator[str]:
    """Yield the ids of the requests that need no outcome after a turn."""
    for decision in turn.did:
        if decision[1] in _OUTCOMES:
            yield decision[2]["request"]
    if turn.name == "cancel" and turn.returned is not None:
        yield turn.arguments["request_id"]
