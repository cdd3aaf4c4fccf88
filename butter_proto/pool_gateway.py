"""One gateway of a pool: what a caller says of it, what a pool keeps of it, what it tells of it.

Rules kept here:

* A name is unique in its pool; it is what events, ``gateway=`` and ``health`` go by.
* A lower ``priority`` is better. Equal ones never take over from each other, so several connections
  to one gateway, which have the same priority by default, do not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from butter_proto import events
from butter_proto.connector import Connector
from butter_proto.device import Device
from butter_proto.endpoint import Endpoint, parse_url
from butter_proto.errors import Ending, InvalidSettings
from butter_proto.machine import State, Stats
from butter_proto.secret import Secret, to_secret
from butter_proto.settings import Settings, adapter_settings
from butter_proto.standing import Standing

_REMEMBERED: Final = 8
"""Transports of one gateway for which an answer of the application may still come."""


@attrs.frozen(kw_only=True)
class PoolGateway:
    """What a pool is told of one gateway; only ``url`` is needed.

    Raises `InvalidSettings` for an empty name and for a priority that is no whole number.
    """

    url: str | Endpoint = attrs.field(kw_only=False)
    """A ws:// or wss:// URL; a ``?token=`` moves into the connect request."""
    name: str | None = None
    """None: ``host:port``, and a number where that is taken."""
    token: Secret | None = attrs.field(default=None, converter=to_secret)
    """Its shared token; goes before that of its settings."""
    settings: Settings | None = None
    """None: those of the pool."""
    device: Device | None = None
    """Signs, and keeps the tokens that it is given."""
    priority: int | None = None
    """None: its place in the order in which the gateways are named; the same URL, the same one."""

    def __attrs_post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise InvalidSettings(f"a gateway's name is a non-empty str: {self.name!r}")
        if self.priority is not None and type(self.priority) is not int:
            raise InvalidSettings(f"a priority is a whole number: {self.priority!r}")

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return parse_url(self.url)[0] if isinstance(self.url, str) else self.url

    def settings_in(self, pool: Settings) -> Settings:
        """Return the settings of its connector."""
        settings = self.settings or pool
        return settings if self.token is None else attrs.evolve(settings, token=self.token)


def prepared(
    gateway: PoolGateway | str,
    settings: Settings | None,
    token: str | Secret | None,
    environ: Mapping[str, str] | None,
) -> PoolGateway:
    """Return a gateway with all that an adapter's ``connect`` would settle for it.

    ``settings`` and ``token`` hold where it has none of its own; ``environ`` is asked for a proxy.
    Raises `InvalidSettings`.
    """
    if isinstance(gateway, str):
        gateway = PoolGateway(gateway)
    settled = adapter_settings(
        gateway.settings or settings, gateway.token or token, url=gateway.url, environ=environ
    )
    return attrs.evolve(gateway, settings=settled, token=None)


@attrs.frozen
class GatewayHealth:
    """How one gateway of a pool is."""

    name: str
    url: str
    """Without secrets."""
    state: State
    primary: bool
    """Whether it delivers the events."""
    priority: int
    leaving: bool
    """Whether it is being removed: it gets no more requests."""
    pending: int
    """The requests on its connection: without an outcome, or with a place in flight."""
    hello: events.Hello | None
    """Its last hello."""
    online_since: float | None
    """On the clock of ``now``; None while it is not online."""
    retry_at: float | None
    """When its next attempt begins; None where none is planned."""
    last_ending: Ending | None
    """How its last connection ended, if one did."""
    advice: str
    """What to do where it gave up, else empty."""
    stats: Stats
    """Its counters; ``stats.age(now)`` is the seconds since its last byte."""


class Member:
    """What a pool keeps of one gateway."""

    __slots__ = (
        "advice",
        "attempt",
        "connector",
        "hello",
        "is_leaving",
        "leaves_at",
        "name",
        "online_since",
        "priority",
        "standing",
        "transport_id",
        "transports",
    )

    def __init__(self, name: str, priority: int, standing: Standing) -> None:
        self.name = name
        self.priority = priority
        self.standing = standing
        self.connector: Connector
        self.hello: events.Hello | None = None
        self.transport_id = 0
        self.attempt = 1
        self.online_since: float | None = None
        self.is_leaving = False
        self.leaves_at = math.inf
        self.advice = ""
        self.transports: deque[int] = deque(maxlen=_REMEMBERED)

    def note(self, event: events.StateEvent, now: float) -> None:
        """Keep what a state event of its connector says."""
        self.advice = event.advice if isinstance(event, events.GaveUp) else ""
        self.online_since = now if isinstance(event, events.Online) else None
        match event:
            case events.Connecting(attempt=attempt, transport_id=transport_id):
                self.attempt, self.transport_id = attempt, transport_id
            case events.Online(hello=hello):
                self.hello = hello
            case events.Retrying(attempt=attempt):
                self.attempt = attempt
            case _:
                pass

    def health(self) -> GatewayHealth:
        """Tell how it is."""
        connector = self.connector
        return GatewayHealth(
            self.name,
            connector.endpoint.url,
            connector.state,
            self.standing.primary,
            self.priority,
            self.is_leaving,
            connector.pending,
            self.hello,
            self.online_since,
            connector.retry_at,
            connector.last_ending,
            self.advice,
            connector.stats,
        )


def named(gateway: PoolGateway, taken: Iterable[str]) -> str:
    """Return the name that a gateway gets. Raises `InvalidSettings` where its own one is taken."""
    names = set(taken)
    if gateway.name is not None:
        if gateway.name in names:
            raise InvalidSettings(f"two gateways of a pool have the name {gateway.name!r}")
        return gateway.name
    endpoint = gateway.endpoint
    name = base = f"{endpoint.host}:{endpoint.port}"
    number = 1
    while name in names:
        number += 1
        name = f"{base}#{number}"
    return name
