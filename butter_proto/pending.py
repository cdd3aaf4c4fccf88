"""One accepted request: what its caller asked for, and what has become of it so far.

Rules kept here:

* What can be known of its delivery is read off its outgoing message, and off the gateways that
  were sent it and never answered. It is NOT_SENT only where neither says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from butter_proto.errors import Delivery, Ending, GatewayError
from butter_proto.events import RequestFailed
from butter_proto.outbox import Outgoing

REPLAY_WITHIN: Final = 240.0
"""Seconds from the first byte of a request in which it may be sent again: the gateway forgets an
idempotency key after 300."""
REPLAY_TOO_LATE: Final = f"its first byte left over {REPLAY_WITHIN:g} s ago: it is not sent again"
_NOWHERE: Final[Mapping[str | None, str]] = MappingProxyType({})


@attrs.frozen
class Refusal:
    """A refusal that was not the last word."""

    error: GatewayError
    times: int
    again_at: float
    """When the gateway may be asked again, on the clock of ``now``."""


@attrs.define(eq=False)
class PendingRequest:
    """One accepted request; its own name in the table of deadlines."""

    id: str
    method: str
    payload: bytes = attrs.field(repr=False)
    idempotency_key: str | None = attrs.field(default=None, repr=False)
    deadline: float | None = None
    final: bool = False
    queue: bool = False
    """Whether it waits for a connection: `Offline.QUEUE`."""
    replay: bool = False
    retry_unavailable: bool = False
    gateway: str | None = None
    """The one gateway of a pool that may get it; None: any."""
    order: int = attrs.field(default=0, init=False)
    """Counts the requests in the order in which they were accepted."""
    size: int = attrs.field(init=False)
    accepted: bool = attrs.field(default=False, init=False)
    abandoned: bool = attrs.field(default=False, init=False)
    outgoing: Outgoing | None = attrs.field(default=None, init=False)
    boots: Mapping[str | None, str] = attrs.field(default=_NOWHERE, init=False)
    """Where it was handed out and got no answer: the boots of the gateways by their names. Not
    empty: it may have executed."""
    first_sent_at: float = attrs.field(default=0.0, init=False)
    """When its first byte was handed out, where ``boots`` is not empty."""
    refusal: Refusal | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.size = len(self.payload)

    @property
    def handed_out(self) -> bool:
        """Whether a byte of it was handed out on its present connection."""
        return self.outgoing is not None and self.outgoing.handed_out_at is not None

    @property
    def replay_until(self) -> float:
        """Until when it may be sent again."""
        return self.first_sent_at + REPLAY_WITHIN

    @property
    def leaves_by(self) -> float:
        """Until when it may be sent, for the first time or again; infinite: at any time."""
        deadline = math.inf if self.deadline is None else self.deadline
        return min(deadline, self.replay_until) if self.boots else deadline

    def is_late(self, now: float) -> bool:
        """Tell whether its time is up, so that it is not to be sent any more."""
        return self.leaves_by <= now

    @property
    def delivery(self) -> Delivery:
        """What is known while there is no answer."""
        if self.boots or self.handed_out:
            return Delivery.MAY_HAVE_EXECUTED
        return Delivery.NOT_SENT if self.refusal is None else Delivery.REFUSED

    def forget(self) -> None:
        """Keep nothing of what it said: tables of deadlines may still hold it for a while."""
        self.payload = b""

    def failed(
        self,
        delivery: Delivery,
        *,
        timed_out: bool = False,
        ending: Ending | None = None,
        text: str = "",
    ) -> RequestFailed:
        """Make the outcome of a request that got no answer, or none that it was content with."""
        refused = self.refusal if delivery is Delivery.REFUSED else None
        return RequestFailed(
            self.id,
            delivery,
            self.method,
            self.idempotency_key,
            None if refused is None else refused.error,
            timed_out=timed_out and refused is None,
            ending=ending,
            text=text,
        )
