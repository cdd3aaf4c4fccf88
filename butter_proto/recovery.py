"""Recovery: what follows an ending. Another attempt, another token first, or giving up.

Rules kept here:

* ``reconnect.decide`` says what an ending means; this file carries it out and tells it.
* Every ending has one consequence: Retrying or GaveUp, or none where the application stopped.
* An ending whose device token was refused may wait for another token, but never for long: time
  alone decides it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from butter_proto import events
from butter_proto.connection import STORING_LIMIT
from butter_proto.credentials import DEVICE_TOKEN_MISMATCH, Auth, Keyring, Source
from butter_proto.device import DeviceToken
from butter_proto.errors import Ending
from butter_proto.event_queue import EventQueue
from butter_proto.identity import Identity
from butter_proto.reconnect import Action
from butter_proto.secret import Secret
from butter_proto.settings import ReconnectSettings
from butter_proto.supervisor import Supervisor, pairing_of

_HELD_BACK: Final = 1.0
"""Seconds until an attempt that was held back is looked at again."""


@attrs.frozen
class Ended:
    """What is to be known of a connection that is over."""

    transport_id: int
    auth: Auth
    ending: Ending
    """As it may be told."""
    cause: Ending
    """The same unredacted, for `reconnect.decide` alone."""
    online_since: float | None


class Recovery:
    """Plans a connector's attempts. Inputs take ``now``, already made monotonic by the owner.

    After each input look at ``retry_at``, and pull the shared queue. ``give_up_waiting`` is called
    before it tells that it gave up.
    """

    __slots__ = (
        "_decide_by",
        "_give_up_waiting",
        "_identity",
        "_keyring",
        "_queue",
        "_stopped",
        "_supervisor",
        "_undecided",
        "last_ending",
        "retry_at",
    )

    def __init__(
        self,
        settings: ReconnectSettings,
        random: Callable[[], float],
        identity: Identity,
        keyring: Keyring,
        queue: EventQueue,
        give_up_waiting: Callable[[Ending], None],
    ) -> None:
        self._supervisor = Supervisor(settings, random)
        self._identity = identity
        self._keyring = keyring
        self._queue = queue
        self._give_up_waiting = give_up_waiting
        self._undecided: Ended | None = None
        self._decide_by = 0.0
        self._stopped = False
        self.retry_at: float | None = None
        """When the next attempt begins; None where none is planned."""
        self.last_ending: Ending | None = None
        """How the last connection ended, if one did."""

    def next_timeout(self) -> float | None:
        """Return when an attempt begins, or an ending is decided that waits."""
        return self.retry_at if self._undecided is None else self._decide_by

    # --- attempts ---------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Tell whether an attempt is to begin."""
        return self.retry_at is not None and self.retry_at <= now

    def begin_attempt(self) -> int:
        """Take note that an attempt begins; return its number, from 1."""
        self.retry_at = None
        return self._supervisor.next_attempt

    def postpone(self, now: float) -> None:
        """Hold an attempt back: nobody reads what the last ones told."""
        self.retry_at = now + _HELD_BACK

    def bring_forward(self, now: float, *, gave_up: bool) -> None:
        """Let the next attempt begin now, or as soon as a rate limit allows.

        Where it ``gave_up`` the failures are forgotten, and an attempt that must wait is told.
        """
        if gave_up:
            self._supervisor.start_over()
            self._keyring.forgive()
        self.retry_at = self._supervisor.earliest(now)
        if gave_up and self.retry_at > now:
            assert self.last_ending is not None
            self._tell_retrying(self.last_ending, self.retry_at - now)

    def stop(self) -> None:
        """Plan nothing any more, whatever ends."""
        self._stopped = True
        self._undecided = None
        self.retry_at = None

    # --- what an attempt came to ------------------------------------------------------------

    def on_certificate_accepted(self) -> None:
        """Take note that TLS succeeded."""
        self._supervisor.on_certificate_accepted()

    def on_online(self, auth: Auth) -> None:
        """Take note of a hello, and of what it was given for."""
        self._supervisor.on_online()
        self._keyring.accepted(auth)

    def on_ending(self, ended: Ended, now: float) -> None:
        """Decide what follows an ending, or wait until another device token is found."""
        self.last_ending = ended.ending
        if self._stopped:
            return
        error, auth = ended.cause.error, ended.auth
        if error is None:
            self._decide(ended, now)
            return
        can_repair = self._keyring.refused(auth, error.detail_code)
        if error.detail_code == DEVICE_TOKEN_MISMATCH and auth.source is Source.DEVICE:
            self._tell_rejected(ended, auth.fields["deviceToken"])
            if not can_repair:
                self._undecided = ended
                self._decide_by = now + STORING_LIMIT
                return
        self._decide(ended, now, can_repair=can_repair)

    # --- an ending that waits ---------------------------------------------------------------

    def token_forgotten(self, transport_id: int, newer: DeviceToken | None, now: float) -> None:
        """Use the device token that is kept in place of a refused one, if there is one."""
        found = newer is not None and self._keyring.found(newer)
        if self._undecided is not None and self._undecided.transport_id == transport_id:
            self._decide(self._undecided, now, can_repair=found)

    def credentials_replaced(self, now: float) -> None:
        """Take note that the keyring has other credentials: they may be tried instead."""
        if self._undecided is not None and self._keyring.has_untried:
            self._decide(self._undecided, now, can_repair=True)

    def handle_timeout(self, now: float) -> None:
        """Decide an ending that has waited long enough."""
        if self._undecided is not None and self._decide_by <= now:
            self._decide(self._undecided, now)

    # --- inside -----------------------------------------------------------------------------

    def _decide(self, ended: Ended, now: float, *, can_repair: bool = False) -> None:
        """Decide what follows an ending, and tell it."""
        self._undecided = None
        decision = self._supervisor.on_ending(
            ended.cause, now, ended.online_since, told=ended.ending, can_repair=can_repair
        )
        if self._supervisor.is_new_pairing(ended.cause):
            self._queue.put_notice(pairing_of(ended.ending))
        if decision.action is Action.STOP:
            self._give_up_waiting(ended.ending)
            self._queue.put(events.GaveUp(ended.ending, decision.advice))
        else:
            self.retry_at = now + decision.delay
            self._tell_retrying(ended.ending, decision.delay)

    def _tell_retrying(self, ending: Ending, delay: float) -> None:
        self._queue.put(events.Retrying(ending, self._supervisor.next_attempt, delay))

    def _tell_rejected(self, ended: Ended, token: Secret) -> None:
        role = self._identity.role
        notice = events.DeviceTokenRejected(ended.transport_id, role, token, ended.ending)
        self._queue.put_notice(notice)
