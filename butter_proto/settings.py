"""Every number and choice a user may set; each default says where it comes from.

Rules kept here:

* Settings are frozen and checked when they are made: `InvalidSettings` names field and range.
* All times are seconds as floats, all sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.credentials import Credentials
from butter_proto.endpoint import Endpoint, located
from butter_proto.errors import InvalidSettings
from butter_proto.headers import Headers, secrets_of_headers, to_headers
from butter_proto.identity import (
    BACKEND,
    CLI,
    CLIENT_IDS,
    CLIENT_MODES,
    OPENBUTTER_NODE,
    ROLES,
    Identity,
)
from butter_proto.pins import Pin, to_pins
from butter_proto.proxy_address import ProxyAddress, proxy_from_environment, to_proxy
from butter_proto.secret import Secret, to_secret

MIB: Final = 1024 * 1024
HOUR: Final = 3600.0
MONTH: Final = 30 * 24 * HOUR
"""The longest time that a request, or a command, may be given."""


def _number(
    low: float, high: float, *, optional: bool = False, whole: bool = False
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make an attrs validator for a finite number in ``low..high``."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if optional and value is None:
            return
        right_type = isinstance(value, int if whole else int | float)
        if right_type and not isinstance(value, bool):
            assert isinstance(value, int | float)
            if low <= value <= high:  # False for NaN
                return
        kind = "a whole number" if whole else "a number"
        raise InvalidSettings(f"{attribute.name} must be {kind} in {low}..{high}: {value!r}")

    return check


def _instance(
    kind: type, *, optional: bool = False
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make an attrs validator that raises our own error."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind) and not (optional and value is None):
            raise InvalidSettings(f"{attribute.name} must be a {kind.__name__}: {value!r}")

    return check


class Dialect(Enum):
    """Which connect request is spoken; ``handshake.py`` has each one's data."""

    GATEWAY_V4 = "gateway-v4"
    """Protocol 4, today's gateway."""
    OPENBUTTER_V1 = "openbutter-v1"
    """The original OpenButter connector's request, exactly."""


class Default(Enum):
    """Stands for an argument that was left out where None has a meaning of its own."""

    DEFAULT = "the value in the settings"


DEFAULT: Final = Default.DEFAULT


class Framing(Enum):
    """Who speaks WebSocket on a transport."""

    BYTES = "bytes"
    """The machine does: the driver moves bytes."""
    MESSAGES = "messages"
    """The host does: the driver moves whole text messages. One that takes longer than the keepalive
    allows looks like silence (docs/embedding.md)."""


def require_bytes(framing: Framing) -> None:
    """Raise `InvalidSettings` for the other framing: for adapters that move only bytes."""
    if framing is not Framing.BYTES:
        raise InvalidSettings(f"this adapter moves bytes: framing must be {Framing.BYTES}")


class Probe(Enum):
    """How the keepalive asks whether the gateway is there."""

    AUTO = "auto"
    """PING where the machine speaks WebSocket; HEALTH where the host does, for nobody knows whether
    it can ping (a browser cannot)."""
    PING = "ping"
    """A WebSocket ping (RFC 6455, 5.5.2). With ``framing=MESSAGES`` it is handed to the host as a
    `Ping`, and its pong comes back by ``receive_pong``."""
    HEALTH = "health"
    """A ``health`` request; it needs no scope (wire.md 6)."""
    NONE = "none"
    """No probes; the tick watchdog alone watches."""


class Json(Enum):
    """Who reads and writes JSON; the results are the same (codec.py)."""

    AUTO = "auto"
    """MSGSPEC where it is installed, else STDLIB."""
    STDLIB = "stdlib"
    """The standard library."""
    MSGSPEC = "msgspec"
    """msgspec, from the extra ``openbutter[speed]``."""


@attrs.frozen
class Timeouts:
    """Limits of the phases of one connection."""

    open: float = attrs.field(default=15.0, validator=_number(0.01, HOUR))
    """Dial, proxy, TLS and upgrade together. 15 s: the gateway's own handshake limit."""
    challenge: float = attrs.field(default=15.0, validator=_number(0.01, HOUR))
    """From the upgrade to ``connect.challenge``; shorter ones cut slow gateways (lesson 11)."""
    hello: float = attrs.field(default=15.0, validator=_number(0.01, HOUR))
    """From the connect request to its answer; a throttled answer takes up to 5 s (wire.md 5)."""
    close: float = attrs.field(default=1.0, validator=_number(0.01, 60.0))
    """From our Close frame to the end of the stream."""
    request: float = attrs.field(default=30.0, validator=_number(0.001, MONTH))
    """A request's deadline where the caller names none; the reference client's (wire.md 12)."""


@attrs.frozen
class KeepaliveSettings:
    """When to probe and when the peer is gone. The defaults are the original's."""

    interval: float = attrs.field(default=10.0, validator=_number(0.05, HOUR))
    """Seconds between probes, counted from Online."""
    timeout: float = attrs.field(default=5.0, validator=_number(0.05, HOUR))
    """Seconds a probe may take; at most ``interval``."""
    misses: int = attrs.field(default=2, validator=_number(1, 1000, whole=True))
    """Misses in a row after which the peer is gone."""
    probe: Probe = attrs.field(default=Probe.AUTO, validator=_instance(Probe))
    """What a probe is; the gateway answers pings before and after hello (wire.md 6)."""

    def __attrs_post_init__(self) -> None:
        if self.timeout > self.interval:
            raise InvalidSettings(
                f"keepalive timeout {self.timeout:g} must not exceed its interval {self.interval:g}"
            )


@attrs.frozen
class ReconnectSettings:
    """Exponential backoff with full jitter: hint + uniform(0, min(cap, base * factor**n))."""

    base: float = attrs.field(default=1.0, validator=_number(0.01, HOUR))
    """The first ceiling; the reference client's first delay (wire.md 12)."""
    factor: float = attrs.field(default=2.0, validator=_number(1.0, 100.0))
    """What each ending in a row multiplies the ceiling by; the original's doubling."""
    cap: float = attrs.field(default=30.0, validator=_number(0.01, HOUR))
    """The reference client's cap (wire.md 12)."""
    minimum: float = attrs.field(default=0.25, validator=_number(0.001, HOUR))
    """The least delay once a transport had opened: a refusal never retries in milliseconds."""
    stable_after: float = attrs.field(default=10.0, validator=_number(0.0, HOUR))
    """Seconds online after which the backoff starts over."""
    max_attempts: int | None = attrs.field(
        default=None, validator=_number(1, 1_000_000_000, optional=True, whole=True)
    )
    """Endings in a row, without a stable time online, before giving up; None: never."""
    pairing_poll: float | None = attrs.field(
        default=15.0, validator=_number(1.0, HOUR, optional=True)
    )
    """Seconds between attempts while a device waits for approval; None stops instead."""


@attrs.frozen
class Limits:
    """The bound of every buffer (G9)."""

    max_message: int = attrs.field(default=25 * MIB, validator=_number(1024, 2**31, whole=True))
    """The largest inbound message; the gateway's own limit is the same (wire.md 8)."""
    max_fragments: int = attrs.field(default=10_000, validator=_number(1, 2**31, whole=True))
    """Fragments of one inbound message; the gateway refuses 20,000 itself (wire.md 8)."""
    max_pending: int = attrs.field(default=10_000, validator=_number(1, 2**31, whole=True))
    """Requests accepted whose outcome was not yet pulled. Outcomes are bounded by this count alone:
    one may be as large as ``max_message``."""
    max_pending_bytes: int = attrs.field(
        default=256 * MIB, validator=_number(1024, 2**40, whole=True)
    )
    """Bytes of the requests that were accepted and have no outcome yet."""
    max_queued: int = attrs.field(default=1_000, validator=_number(1, 2**31, whole=True))
    """Requests with ``offline=QUEUE`` that wait for a connection, above which no more is taken."""
    max_queued_bytes: int = attrs.field(
        default=16 * MIB, validator=_number(1024, 2**40, whole=True)
    )
    """The size of those requests."""
    max_in_flight: int = attrs.field(default=200, validator=_number(1, 2**31, whole=True))
    """Requests on the wire to one gateway; above about 256 it refuses, counted over all of its
    connections (wire.md 8)."""
    max_events: int = attrs.field(default=10_000, validator=_number(1, 2**31, whole=True))
    """Gateway events not yet pulled."""
    max_event_bytes: int = attrs.field(default=64 * MIB, validator=_number(1, 2**40, whole=True))
    """The size on the wire of the gateway events not yet pulled; decoded JSON may take 20 times as
    much memory."""
    max_state_changes: int = attrs.field(default=100, validator=_number(4, 2**31, whole=True))
    """State changes not yet pulled, above which no new attempt starts."""


@attrs.frozen(kw_only=True)
class Settings:
    """Everything one connector needs besides its endpoint."""

    framing: Framing = attrs.field(default=Framing.BYTES, validator=_instance(Framing))
    """Who speaks WebSocket: the machine, or a host that owns one."""
    dialect: Dialect = attrs.field(default=Dialect.GATEWAY_V4, validator=_instance(Dialect))
    """Which connect request is sent; today's gateway refuses the original one (wire.md 10)."""
    identity: Identity | None = attrs.field(
        default=None, validator=_instance(Identity, optional=True)
    )
    """Who connects. None: `BACKEND`, which keeps its scopes on loopback without a device; `CLI`
    where a device signs, for `BACKEND` never gets a device token (wire.md 2 and 4); the original's
    own in its dialect."""
    token: Secret | None = attrs.field(default=None, converter=to_secret)
    """The gateway's shared token; goes before one in the URL."""
    password: Secret | None = attrs.field(default=None, converter=to_secret)
    """The gateway's shared password, for its password mode (wire.md 5)."""
    bootstrap_token: Secret | None = attrs.field(default=None, converter=to_secret)
    """A setup code's token, which pairs a device once; used where there is no other credential."""
    allow_plaintext: bool = attrs.field(default=False, validator=_instance(bool))
    """Whether ``ws://`` may go to public hosts too, token and chats in clear text."""
    pins: tuple[Pin, ...] = attrs.field(default=(), converter=to_pins)
    """SHA-256 of the certificates, or of their keys, one of which the gateway must show."""
    headers: Headers = attrs.field(default=(), converter=to_headers)
    """Added to the upgrade request, over ``wss://`` only; their values are secrets."""
    proxy: ProxyAddress | None = attrs.field(default=None, converter=to_proxy)
    """The proxy to the gateway, or its URL (docs/proxies.md); loopback is never proxied."""
    json_rpc: bool = attrs.field(default=False, validator=_instance(bool))
    """Requests as JSON-RPC 2.0; connect keeps the ``req`` form."""
    json: Json = attrs.field(default=Json.AUTO, validator=_instance(Json))
    """Who reads and writes JSON: the fastest that is installed."""
    timeouts: Timeouts = attrs.field(factory=Timeouts, validator=_instance(Timeouts))
    """Limits of the phases of a connection, and of a request."""
    keepalive: KeepaliveSettings = attrs.field(
        factory=KeepaliveSettings, validator=_instance(KeepaliveSettings)
    )
    """When to probe, and when the peer is gone."""
    reconnect: ReconnectSettings = attrs.field(
        factory=ReconnectSettings, validator=_instance(ReconnectSettings)
    )
    """How to come back."""
    limits: Limits = attrs.field(factory=Limits, validator=_instance(Limits))
    """The bounds of the buffers."""

    def __attrs_post_init__(self) -> None:
        if self.headers and self.framing is Framing.MESSAGES:
            raise InvalidSettings(
                "headers need framing=BYTES: a host that owns the WebSocket sends its own upgrade"
            )
        identity = self.identity
        if self.dialect is Dialect.OPENBUTTER_V1 or identity is None:
            return
        for name, value, allowed in (
            ("client.id", identity.id, CLIENT_IDS),
            ("client.mode", identity.mode, CLIENT_MODES),
            ("role", identity.role, ROLES),
        ):
            if value not in allowed:
                raise InvalidSettings(
                    f"{name} {value!r} is not known to the gateway; allowed: {', '.join(allowed)}"
                )

    @property
    def credentials(self) -> Credentials:
        """What there is to connect with at first."""
        return Credentials(self.token, self.password, self.bootstrap_token)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that must not appear in anything told."""
        of_proxy = () if self.proxy is None else self.proxy.secrets
        return (*self.credentials.secrets, *secrets_of_headers(self.headers), *of_proxy)

    def identity_for(self, *, device: bool) -> Identity:
        """Return who connects, with or without a device that signs."""
        if self.identity is not None:
            return self.identity
        if self.dialect is Dialect.OPENBUTTER_V1:
            return OPENBUTTER_NODE
        return CLI if device else BACKEND


def with_token_of(url: str | Endpoint, settings: Settings | None) -> tuple[Endpoint, Settings]:
    """Return where a URL leads, and settings with its token where they have none.

    Raises `InvalidSettings` for a URL that cannot work.
    """
    settings = settings or Settings()
    endpoint, token = located(url)
    if token is not None and settings.token is None:
        settings = attrs.evolve(settings, token=token)
    return endpoint, settings


def adapter_settings(
    settings: Settings | None,
    token: str | Secret | None,
    *,
    url: str | Endpoint,
    environ: Mapping[str, str] | None,
) -> Settings:
    """Return what an adapter's ``connect`` runs with; ``token`` goes before that of ``settings``.

    ``environ`` is asked for a proxy where the settings name none; None is not asked.

    Raises `InvalidSettings` for a token that is none, for a framing that moves no bytes, and for a
    URL or a proxy that cannot work.
    """
    settings = settings or Settings()
    if token is not None:
        settings = attrs.evolve(settings, token=token)
    if environ is not None and settings.proxy is None:
        proxy = proxy_from_environment(located(url)[0], environ)
        settings = attrs.evolve(settings, proxy=proxy)
    require_bytes(settings.framing)
    return settings
