"""Which gateway of a pool is primary, and what the pool as a whole is told to be.

Rules kept here:

* The first one online is primary. Where it falls the best warm one takes over at once: the lowest
  priority, then the longest online. A better one takes over after ``stable_after`` seconds online.
* The pool's own state events are those of a connector, in the order of `POOL_FOLLOWERS`: where
  another gateway takes over, ``Online`` follows ``Online`` and `EventsMissed` follows that.
* Everything here happens in the middle of an input of one connector, so nothing here makes another
  input. What became possible is done by the pool when the input is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from butter_proto import events
from butter_proto.errors import Ending, EndKind
from butter_proto.event_queue import EventQueue
from butter_proto.machine import State
from butter_proto.pool_gateway import Member
from butter_proto.timers import Clock

POOL_FOLLOWERS: Final[events.Followers] = {
    None: (events.Connecting, events.GaveUp, events.Stopped),
    events.Connecting: (events.Online, events.Retrying, events.GaveUp, events.Stopped),
    events.Online: (events.Online, events.Offline),
    events.Offline: (events.Connecting, events.Retrying, events.GaveUp, events.Stopped),
    events.Retrying: (events.Connecting, events.Retrying, events.GaveUp, events.Stopped),
    events.GaveUp: (events.Connecting, events.Retrying, events.Stopped),
    events.Stopped: (),
}
"""Which state event of a pool as a whole may follow which; None stands for the beginning."""
EMPTY: Final = "The pool has no gateway left: add one."


class Election:
    """Chooses the primary among ``members``, and tells by ``queue`` what that means."""

    def __init__(
        self, members: Mapping[str, Member], queue: EventQueue, clock: Clock, stable_after: float
    ) -> None:
        self._members = members
        self._queue = queue
        self._clock = clock
        self._stable_after = stable_after
        self._boot_id: str | None = None
        self._was_online = False
        self.primary: Member | None = None
        self.last_ending: Ending | None = None
        self.stopping = False

    # --- what happened ----------------------------------------------------------------------

    def on_state(self, member: Member, event: events.StateEvent) -> None:
        """Take note of a state event of one gateway, right after it was queued."""
        member.note(event, self._clock.now)
        if isinstance(event, events.Offline | events.Retrying | events.GaveUp):
            self.last_ending = event.ending
        match event:
            case events.Online():
                if self.primary is None:
                    self._promote(member)
            case events.Offline():
                if member is self.primary:
                    self._replace(event.ending)
            case events.Stopped():
                pass  # the pool forgets it when the input is over
            case _:
                self._tell_without_primary()

    def hand_over(self) -> None:
        """Let another one take over from a primary that leaves, if another one is online."""
        best = self._best()
        if best is not None:
            self._promote(best)

    def on_left(self) -> None:
        """Take note that a gateway is not a member any more."""
        self._tell_without_primary()

    # --- what time does ---------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Return when a better one has been online for long enough."""
        return min((due for due, _ in self._better()), default=None)

    def handle_timeout(self, now: float) -> None:
        """Let the best of the better ones take over whose time has come."""
        stable = [member for due, member in self._better() if due <= now]
        if stable:
            self._promote(min(stable, key=_rank))

    # --- inside -----------------------------------------------------------------------------

    def _better(self) -> Iterable[tuple[float, Member]]:
        """Yield who is better than the primary, and when it may take over."""
        primary = self.primary
        if primary is None:
            return
        for member in self._candidates():
            assert member.online_since is not None
            if member.priority < primary.priority:
                yield member.online_since + self._stable_after, member

    def _candidates(self) -> list[Member]:
        return [
            member
            for member in self._members.values()
            if member.online_since is not None and not member.is_leaving
        ]

    def _best(self) -> Member | None:
        others = [member for member in self._candidates() if member is not self.primary]
        return min(others, key=_rank, default=None)

    def _promote(self, member: Member) -> None:
        before, self.primary = self.primary, member
        if before is not None:
            before.standing.step_down()
        member.standing.primary = True
        member.standing.hold()
        hello = member.hello
        assert hello is not None
        known = self._boot_id is not None and hello.boot_id is not None
        boot_changed = known and hello.boot_id != self._boot_id
        self._boot_id = hello.boot_id
        resync, self._was_online = self._was_online, True
        takes_over = self._queue.last_state_event is events.Online
        self._queue.put(events.Online(hello, resync, boot_changed, member.transport_id))
        if takes_over:
            self._queue.put(events.EventsMissed(events.MissReason.PRIMARY_CHANGED))

    def _replace(self, ending: Ending) -> None:
        """Let the best warm one take over from a primary that fell, or tell that there is none."""
        fallen, self.primary = self.primary, None
        assert fallen is not None
        fallen.standing.step_down()
        best = None if self.stopping else self._best()
        if best is None:
            self._queue.put(events.Offline(ending))
        else:
            self._promote(best)

    def _tell_without_primary(self) -> None:
        """Tell what the pool as a whole does while nothing is online."""
        told = self._queue.last_state_event
        if self.primary is not None or self.stopping:
            return
        members = [member for member in self._members.values() if not member.is_leaving]
        states = {member: member.connector.state for member in members}
        connecting = [member for member in members if states[member] is State.CONNECTING]
        if connecting:
            if told is not events.Connecting:
                first = connecting[0]
                self._queue.put(events.Connecting(first.attempt, first.transport_id))
        elif any(state in (State.IDLE, State.WAITING) for state in states.values()):
            self._tell_retrying(members)
        elif told is not events.GaveUp:
            ending = self.last_ending or Ending(EndKind.STOPPED)
            advice = [f"{member.name}: {member.advice}" for member in members if member.advice]
            self._queue.put(events.GaveUp(ending, " ".join(advice) or EMPTY))

    def _tell_retrying(self, members: list[Member]) -> None:
        """Tell when the next attempt of any gateway begins, where that is known by now."""
        due = [
            (member.connector.retry_at, member)
            for member in members
            if member.connector.retry_at is not None
        ]
        if due and self.last_ending is not None:
            retry_at, member = min(due, key=lambda one: one[0])
            delay = max(0.0, retry_at - self._clock.now)
            self._queue.put(events.Retrying(self.last_ending, member.attempt, delay))


def _rank(member: Member) -> tuple[int, float]:
    """Return what sorts the better one first."""
    assert member.online_since is not None
    return member.priority, member.online_since
