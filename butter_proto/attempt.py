"""What an attempt to connect is made of: what it shares with others, and what it has of its own.

Rules kept here:

* A connector shares with the other ones of its pool, a connection with those before and after it;
  all that is neither stands in `Attempt`.
* A loopback gateway is never dialled through a proxy (lesson 28).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count

import attrs

from butter_proto import events
from butter_proto.backlog import Backlog
from butter_proto.counters import Counters
from butter_proto.credentials import Auth
from butter_proto.device import DeviceToken
from butter_proto.device_auth import SignedPayload, Signer
from butter_proto.endpoint import Endpoint, Reach, without_zone
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.identity import Identity
from butter_proto.intake import Draws
from butter_proto.link import Link
from butter_proto.machine import Command, OpenTransport
from butter_proto.message_link import MessageLink
from butter_proto.proxy_address import ProxyAddress
from butter_proto.redaction import Redaction
from butter_proto.secret import Secret
from butter_proto.settings import Framing, Settings
from butter_proto.standing import Standing
from butter_proto.timers import Clock
from butter_proto.trace import Trace, Tracer
from butter_proto.traced_link import traced
from butter_proto.websocket import WebSocketLink
from butter_proto.window import Window


@attrs.frozen
class Shared:
    """What a connector shares with the other ones of its pool."""

    standing: Standing
    store: EventStore
    on_state: Callable[[events.StateEvent], None] | None
    ids: Draws
    backlog: Backlog
    window: Window
    """For all connections to one gateway."""
    commands: deque[Command]
    clock: Clock = attrs.Factory(Clock)
    """One for all: what is handed out is dated by the last input of any of them."""


def alone(
    settings: Settings, next_request_id: Callable[[], str] | None, *, hold_queue: bool
) -> Shared:
    """Return what a connector without a pool has of its own."""
    store = EventStore(settings.limits)
    return Shared(
        Standing(hold_queue=hold_queue),
        store,
        None,
        Draws(next_request_id or map(str, count(1)).__next__),
        Backlog(settings.limits, store.put),
        Window(settings.limits.max_in_flight),
        deque(),
    )


@attrs.frozen
class Surroundings:
    """What a connection shares with the connections before and after it."""

    settings: Settings
    endpoint: Endpoint
    random: Callable[[], float]
    entropy: Callable[[int], bytes]
    next_id: Callable[[], str]
    queue: EventQueue
    counters: Counters
    identity: Identity
    signer: Signer | None
    trace: Trace | None
    standing: Standing
    backlog: Backlog
    window: Window


@attrs.frozen
class Attempt:
    """What one connection has of its own."""

    transport_id: int
    auth: Auth
    signed: SignedPayload
    durable: Mapping[str, DeviceToken]
    """The device tokens that are known to be stored, by role."""
    secrets: tuple[Secret, ...]
    """All that must not be told."""
    previous: events.Hello | None
    """The hello of the connection before it; its secrets are not told either."""


def proxy_to(endpoint: Endpoint, settings: Settings) -> ProxyAddress | None:
    """Return what is dialled instead of the gateway; None for loopback."""
    return None if endpoint.reach is Reach.LOOPBACK else settings.proxy


def dial(endpoint: Endpoint, settings: Settings, transport_id: int) -> OpenTransport:
    """Return the command that opens the transport of an attempt."""
    proxy = proxy_to(endpoint, settings)
    return OpenTransport(
        transport_id,
        endpoint.dial_host if proxy is None else without_zone(endpoint.host),
        endpoint.port,
        endpoint.tls,
        endpoint.server_name,
        proxy,
        settings.framing,
        endpoint.url,
        pinned=bool(settings.pins),
    )


def link_for(around: Surroundings, attempt: Attempt, redaction: Redaction) -> Link:
    """Make the link for whoever speaks WebSocket; with a trace it is told of each message."""
    settings, counters = around.settings, around.counters
    link: Link
    if settings.framing is Framing.MESSAGES:
        link = MessageLink(settings.limits, counters)
    else:
        link = WebSocketLink(
            around.endpoint, settings.limits, around.entropy, counters, settings.headers
        )
    if around.trace is None:
        return link
    tracer = Tracer(around.trace, attempt.transport_id, redaction)
    return traced(link, tracer, around.entropy, counters)
