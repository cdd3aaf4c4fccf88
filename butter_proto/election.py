"""Which gateway of a pool is primary, and what the pool as a whole is told to be.

Rules kept here:

* The first one online is primary. Where it falls, or leaves, the best one that is online takes over
  at once: the lowest priority, then the longest online. A better one takes over after
  ``stable_after`` seconds online.
* A primary that leaves while no other one is online stays primary until one comes. Where none is
  left, ``GaveUp`` waits until those that leave have told their last outcome (G7).
* The pool's own state events are those of a connector, in the order of `POOL_FOLLOWERS`: where
  another gateway takes over, ``Online`` follows ``Online`` and `EventsMissed` follows that.
* Everything here happens in the middle of an input of one connector, so nothing here makes another
  input. What became possible is done by the pool when the input is over: ``has_news``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from butter_proto import events
from butter_proto.errors import Ending, EndKind
from butter_proto.event_queue import EventQueue
from butter_proto.machine import State
from butter_proto.pool_gateway import Member
from butter_proto.timers import TICK, Clock

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
    """Chooses the primary among ``members``, and tells by ``queue`` what that means.

    ``give_up_waiting`` is called before it tells that all have given up.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        queue: EventQueue,
        clock: Clock,
        stable_after: float,
        give_up_waiting: Callable[[Ending], None],
    ) -> None:
        self._members = members
        self._queue = queue
        self._clock = clock
        self._stable_after = max(stable_after, TICK)  # never in the wake-up that comes early (G5)
        self._give_up_waiting = give_up_waiting
        self._boot_id: str | None = None
        self._was_online = False
        self._is_open = False
        self._due: float | None = None
        self.primary: Member | None = None
        self.last_ending: Ending | None = None
        """How the last connection of any gateway ended that did not leave."""
        self.has_news = False
        """Whether a gateway has another state, or another place, since the pool looked."""

    # --- what happened ----------------------------------------------------------------------

    def open(self) -> None:
        """Tell from now on what the pool as a whole is."""
        self._is_open = True
        self._tell_without_primary()

    def close(self) -> None:
        """Elect nobody any more: the pool is being stopped."""
        self._is_open = False

    def on_state(self, member: Member, event: events.StateEvent) -> None:
        """Take note of a state event of one gateway, right after it was queued."""
        self.has_news = True
        member.note(event, self._clock.now)
        if not member.is_leaving and isinstance(
            event, events.Offline | events.Retrying | events.GaveUp
        ):
            self.last_ending = event.ending
        match event:
            case events.Online():
                if self.primary is None or self.primary.is_leaving:
                    self._promote(member)
            case events.Offline():
                if member is self.primary:
                    self._replace(member, event.ending)
            case _ if not member.is_leaving:
                self._tell_without_primary()
        self._plan()

    def on_leaving(self, member: Member) -> None:
        """Take note that a gateway leaves from now on."""
        self.has_news = True
        if member is not self.primary:
            self._tell_without_primary()
        elif (best := self._best()) is not None:
            self._promote(best)
        self._plan()

    def on_gone(self) -> None:
        """Take note that a gateway that left is gone: the last outcomes of it were told."""
        if not any(member.connector.has_hope for member in self._members.values()):
            self._tell_without_primary()

    # --- what time does ---------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """Return when a better one has been online for long enough."""
        return self._due

    def handle_timeout(self, now: float) -> None:
        """Let the best of the better ones take over whose time has come."""
        if self._due is not None and self._due <= now:
            self._promote(min((one for due, one in self._better() if due <= now), key=_rank))
            self._plan()
            self.has_news = True

    # --- inside -----------------------------------------------------------------------------

    def _plan(self) -> None:
        self._due = min((due for due, _ in self._better()), default=None)

    def _better(self) -> list[tuple[float, Member]]:
        """Return who is better than the primary, and when it may take over."""
        primary = self.primary
        if primary is None or not self._is_open:
            return []
        return [
            ((member.online_since or 0.0) + self._stable_after, member)
            for member in self._members.values()
            if member.is_available and member.priority < primary.priority
        ]

    def _best(self) -> Member | None:
        """Return who takes over from the primary."""
        available = (one for one in self._members.values() if one.is_available)
        return min((one for one in available if one is not self.primary), key=_rank, default=None)

    def _promote(self, member: Member) -> None:
        before, self.primary = self.primary, member
        if before is not None:
            before.standing.step_down()
        member.standing.primary = True
        member.standing.hold()
        hello = member.hello
        assert hello is not None
        boot_changed = hello.is_of_another_boot(self._boot_id)
        self._boot_id = hello.boot_id
        resync, self._was_online = self._was_online, True
        takes_over = self._queue.last_state_event is events.Online
        self._queue.put(events.Online(hello, resync, boot_changed, member.transport_id))
        if takes_over:
            self._queue.put(events.EventsMissed(events.MissReason.PRIMARY_CHANGED))

    def _replace(self, fallen: Member, ending: Ending) -> None:
        """Let the best warm one take over from a primary that fell, or tell that there is none."""
        best = self._best() if self._is_open else None
        if best is not None:
            self._promote(best)
            return
        self.primary = None
        fallen.standing.step_down()
        self._queue.put(events.Offline(ending))
        if fallen.is_leaving:  # otherwise its connector is about to say what follows
            self._tell_without_primary()

    def _tell_without_primary(self) -> None:
        """Tell what the pool as a whole does while nothing is online."""
        if self.primary is not None or not self._is_open:
            return
        told = self._queue.last_state_event
        members = [member for member in self._members.values() if not member.is_leaving]
        connecting = [one for one in members if one.connector.state is State.CONNECTING]
        if connecting:
            if told is not events.Connecting:
                first = connecting[0]
                self._queue.put(events.Connecting(first.attempt, first.transport_id))
        elif any(member.connector.has_hope for member in members):
            self._tell_retrying(members)
        elif told is not events.GaveUp and len(members) == len(self._members):
            ending = self.last_ending or Ending(EndKind.STOPPED)
            advice = [f"{member.name}: {member.advice}" for member in members if member.advice]
            self._give_up_waiting(ending)
            self._queue.put(events.GaveUp(ending, " ".join(advice) or EMPTY))

    def _tell_retrying(self, members: list[Member]) -> None:
        """Tell when the next attempt of any gateway begins, where one has ended before it."""
        planned = (
            (one.connector.retry_at, one.connector.last_ending, one.attempt) for one in members
        )
        known = [
            (retry_at, ending, attempt)
            for retry_at, ending, attempt in planned
            if retry_at is not None and ending is not None
        ]
        if known:
            retry_at, ending, attempt = min(known, key=lambda one: one[0])
            self._queue.put(events.Retrying(ending, attempt, max(0.0, retry_at - self._clock.now)))


def _rank(member: Member) -> tuple[int, float]:
    """Return what sorts the better one first."""
    return member.priority, member.online_since or 0.0
