"""What the delivery model knows of each connection, of each request, and of each time that it left."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs

ALONE: Final = ""
"""The name of the gateway of a connector that is in no pool."""


@attrs.define(eq=False)
class Connection:
    """One connection, from its Online on."""

    id: int
    gateway: str
    origin: str
    """The gateway's address; several connections may lead there."""
    boot: str
    since: float
    until: float = math.inf
    primary_until: float = -math.inf
    warm_until: float = -math.inf
    """When it became primary, if it was warm before."""
    resynced_at: float = -math.inf

    @property
    def online(self) -> bool:
        """Whether its Offline was not told yet."""
        return self.until == math.inf


@attrs.define(eq=False)
class Sending:
    """One time that a request left."""

    connection: Connection
    at: float
    refused: bool = False
    """The gateway refused it before the method ran."""
    answer_at: float = math.inf
    """When the gateway says its last word to it."""


@attrs.define(eq=False, kw_only=True)
class Request:
    """One accepted request."""

    id: str
    accepted_at: float
    deadline: float
    queue: bool
    replay: bool
    retry: bool
    final: bool
    gateway: str | None
    spread: bool
    waited: bool
    """It was accepted into the queue."""
    period: int
    """How often the machine had been online by then."""
    sendings: list[Sending] = attrs.field(factory=list)
    answers: list[Any] = attrs.field(factory=list)
    """The payloads that a gateway gave for it."""
    executions: int = 0
    begun: bool = False
    """An interim answer was told: a gateway has begun to run it."""
    settled_at: float | None = None

    @property
    def unanswered(self) -> list[Sending]:
        """What left and was not refused: it may have executed."""
        return [sending for sending in self.sendings if not sending.refused]
