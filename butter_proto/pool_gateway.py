"""One gateway of a pool: what a caller says of it, what a pool keeps of it, what it tells of it.

Rules kept here:

* A name is unique in its pool; it is what events, ``gateway=`` and ``health`` go by.
* A lower ``priority`` is better. Equal ones never take over from each other, so several connections
  to one gateway, which have the same priority by default, do not.
* Nothing that is shown here has a secret of a URL (G11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping
from typing import Final

import attrs

from butter_proto import events
from butter_proto.attempt import proxy_to
from butter_proto.connector import Connector
from butter_proto.device import Device, DeviceToken
from butter_proto.endpoint import Endpoint, located
from butter_proto.errors import Ending, InvalidSettings
from butter_proto.machine import State, Stats
from butter_proto.proxy_address import ProxyAddress
from butter_proto.secret import Secret, to_secret
from butter_proto.settings import Settings, adapter_settings
from butter_proto.standing import Standing
from butter_proto.window import Window

REMEMBERED: Final = 8
"""Closed transports of one gateway of a pool that an answer of the application may still name."""


def _shown(url: str | Endpoint) -> str:
    return str(located(url)[0])


@attrs.frozen(kw_only=True)
class PoolGateway:
    """What a pool is told of one gateway; only ``url`` is needed.

    Raises `InvalidSettings` for a URL that cannot work, an empty name, and a priority that is no
    whole number.
    """

    url: str | Endpoint = attrs.field(kw_only=False, repr=_shown)
    """A ws:// or wss:// URL; a ``?token=`` moves into the connect request."""
    name: str | None = None
    """None: ``host:port``, and a number where that is taken."""
    token: Secret | None = attrs.field(default=None, converter=to_secret)
    """Its shared token; goes before that of its settings, and that before the URL's."""
    settings: Settings | None = None
    """None: those of the pool."""
    device: Device | None = None
    """Signs, and keeps the tokens that it is given."""
    priority: int | None = None
    """None: behind all that came before it; for the same host, port and path the same one."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.url, str | Endpoint):
            raise InvalidSettings("a gateway's URL is a str or an Endpoint")
        located(self.url)
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise InvalidSettings(f"a gateway's name is a non-empty str: {self.name!r}")
        if self.priority is not None and type(self.priority) is not int:
            raise InvalidSettings(f"a priority is a whole number: {self.priority!r}")

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return located(self.url)[0]

    @property
    def proxy(self) -> ProxyAddress | None:
        """What is dialled instead of it by its own settings; None for loopback."""
        return None if self.settings is None else proxy_to(self.endpoint, self.settings)

    @property
    def place(self) -> str:
        """What makes two of them the same gateway: origin and path."""
        endpoint = self.endpoint
        return endpoint.origin + endpoint.target.partition("?")[0]

    @property
    def own_token(self) -> Secret | None:
        """Its shared token, where it brings one: its own, that of its settings, or the URL's."""
        if self.token is not None:
            return self.token
        if self.settings is not None and self.settings.token is not None:
            return self.settings.token
        return to_secret(located(self.url)[1])

    def settings_in(self, pool: Settings) -> Settings:
        """Return the settings of its connector in a pool with these."""
        settings, token = self.settings or pool, self.own_token
        return settings if token is None else attrs.evolve(settings, token=token)


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
    if not isinstance(gateway, PoolGateway):
        gateway = PoolGateway(gateway)
    own = gateway.own_token
    settled = adapter_settings(
        gateway.settings or settings,
        token if own is None else own,
        url=gateway.url,
        environ=environ,
    )
    return attrs.evolve(gateway, settings=settled, token=None)


def listed(gateways: Iterable[PoolGateway | str]) -> Iterable[PoolGateway | str]:
    """Return them. Raises `InvalidSettings` for one URL, which is no list of them."""
    if isinstance(gateways, str):
        raise InvalidSettings("a pool takes a list of gateways; for one there is connect")
    return gateways


@attrs.frozen
class GatewayHealth:
    """How one gateway of a pool is."""

    name: str
    """What events and ``gateway=`` call it."""
    url: str
    """Without secrets."""
    state: State
    """Where its connector is."""
    primary: bool
    """Whether it delivers the events."""
    priority: int
    """A lower one is better."""
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
        "device_token",
        "hello",
        "leaves_at",
        "name",
        "online_since",
        "place",
        "priority",
        "standing",
        "transport_id",
        "transports",
        "window",
    )

    def __init__(
        self,
        name: str,
        place: str,
        priority: int,
        window: Window,
        standing: Standing,
        device_token: DeviceToken | None,
    ) -> None:
        self.name = name
        self.place = place
        self.priority = priority
        self.window = window
        self.standing = standing
        self.device_token = device_token
        """The one to start with."""
        self.connector: Connector
        self.hello: events.Hello | None = None
        self.transport_id = 0
        self.attempt = 1
        self.online_since: float | None = None
        self.leaves_at = 0.0
        """When it goes at the latest, where it leaves and is still served."""
        self.advice = ""
        self.transports: deque[int] = deque()
        """Those that may still be named, oldest first."""

    @property
    def is_leaving(self) -> bool:
        """Whether it is on its way out."""
        return self.standing.is_leaving

    @property
    def is_available(self) -> bool:
        """Whether it is online, and stays."""
        return self.online_since is not None and not self.standing.is_leaving

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
            str(connector.endpoint),
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


def named(gateway: PoolGateway, taken: Container[str]) -> str:
    """Return the name that a gateway gets. Raises `InvalidSettings` where its own one is taken."""
    if gateway.name is not None:
        if gateway.name in taken:
            raise InvalidSettings(f"two gateways of a pool have the name {gateway.name!r}")
        return gateway.name
    endpoint = gateway.endpoint
    name = base = f"{endpoint.host}:{endpoint.port}"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}#{number}"
    return name
