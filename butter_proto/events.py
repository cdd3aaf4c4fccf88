"""What the application is told, in the order in which it happened.

Rules kept here:

* Every event is frozen and says what is now true. `DeviceTokenIssued` and `DeviceTokenRejected`
  are answered, or time goes on without an answer.
* Only the events of `StateEvent` change the connector's state, in the order of `FOLLOWERS`:
  ``(Connecting [Online Offline] (Retrying | GaveUp))* Stopped``, where ``Stopped`` may cut the row
  anywhere (an ``Offline`` still closes an ``Online``), and ``reconnect_now`` after a ``GaveUp`` is
  told as ``Retrying`` where a rate limit still holds.
* Reprs show names, ids, seq and sizes, never params, payloads or bodies (G11).

The hot ones are built positionally.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.device import DeviceToken
from butter_proto.errors import Delivery, Ending, GatewayError
from butter_proto.secret import Secret


@attrs.frozen
class Policy:
    """What the gateway allows and promises (wire.md 3)."""

    max_payload: int
    """The largest message it takes, in bytes."""
    max_buffered_bytes: int | None
    """How much it queues for a slow reader before it closes the connection."""
    tick_interval: float
    """Seconds between its ``tick`` events."""


def _features(payload: object, kind: str) -> list[str]:
    """Return the names that a hello lists."""
    features = payload.get("features") if isinstance(payload, dict) else None
    names = features.get(kind) if isinstance(features, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _listed(payload: object) -> str:
    """Show of a hello how much it lists, and nothing that it says."""
    methods, listed = _features(payload, "methods"), _features(payload, "events")
    return f"<{len(methods)} methods, {len(listed)} events>"


@attrs.frozen
class Hello:
    """The gateway's answer to ``connect``. What the peer did not say is None or empty."""

    protocol: int | None
    server_version: str | None
    boot_id: str | None
    """Changes when the gateway process starts anew; None where the dialect has none."""
    connection_id: str | None
    role: str | None
    scopes: tuple[str, ...] | None
    """What was granted; compare with what was asked for: see `ScopesReduced`."""
    auth_method: str | None
    policy: Policy
    payload: Any = attrs.field(repr=_listed)
    """All of it as it came, the snapshot included. Holds secrets: keep it out of logs."""

    @property
    def methods(self) -> frozenset[str]:
        """What may be requested, by name; made at each access, for it is as large as the rest."""
        return frozenset(_features(self.payload, "methods"))

    @property
    def events(self) -> frozenset[str]:
        """Which events there are, by name; made at each access."""
        return frozenset(_features(self.payload, "events"))

    def is_of_another_boot(self, boot_id: str | None) -> bool:
        """Tell whether the gateway is known to be another process than the one of ``boot_id``."""
        return None not in (boot_id, self.boot_id) and boot_id != self.boot_id


# --- state events ---------------------------------------------------------------------------


@attrs.frozen
class Connecting:
    """An attempt begins; ``attempt`` counts from 1 since the last stable time online.

    ``transport_id`` is the id of its OpenTransport.
    """

    attempt: int
    transport_id: int


@attrs.frozen
class Online:
    """hello-ok was accepted: requests may be made.

    ``resync`` is True on each Online after the first: events were missed meanwhile, read your
    state again. ``boot_changed`` is True where the gateway process is known to be another one.
    ``transport_id`` names the connection: ``resynced`` is answered with it.
    """

    hello: Hello
    resync: bool
    boot_changed: bool
    transport_id: int = 0


@attrs.frozen
class Offline:
    """The connection that was online is over.

    Its requests have had their outcomes, but for those that wait for the next connection.
    """

    ending: Ending


@attrs.frozen
class Retrying:
    """The next attempt begins in ``delay`` seconds; ``attempt`` is its number."""

    ending: Ending
    attempt: int
    delay: float


@attrs.frozen
class GaveUp:
    """No further attempt without the application's word; ``advice`` says what to do."""

    ending: Ending
    advice: str


@attrs.frozen
class Stopped:
    """The last event: every transport is closed and the machine is finished."""


StateEvent = Connecting | Online | Offline | Retrying | GaveUp | Stopped

Followers = Mapping[type[StateEvent] | None, tuple[type[StateEvent], ...]]
FOLLOWERS: Final[Followers] = {
    None: (Connecting, Stopped),
    Connecting: (Online, Retrying, GaveUp, Stopped),
    Online: (Offline,),
    Offline: (Retrying, GaveUp, Stopped),
    Retrying: (Connecting, Stopped),
    GaveUp: (Connecting, Retrying, Stopped),
    Stopped: (),
}
"""Which state event may follow which; None stands for the beginning."""

# --- requests -------------------------------------------------------------------------------


@attrs.frozen
class RequestAccepted:
    """The interim answer of a request made with ``final=True``; its outcome is still to come."""

    id: str
    payload: Any = attrs.field(repr=False)
    size: int = 0
    idempotency_key: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Replied:
    """The outcome of a request that succeeded. ``size`` is the message's, in bytes."""

    id: str
    payload: Any = attrs.field(repr=False)
    size: int = 0
    idempotency_key: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class RequestFailed:
    """The outcome of a request that did not succeed.

    ``payload`` is kept where a refusal carried one (chat.send does, wire.md 8). ``timed_out`` is
    True where the deadline decided; otherwise ``error``, ``ending`` or ``text`` says why. A replay
    that is refused MAY_HAVE_EXECUTED all the same, the first time: then it has an ``error`` too.
    """

    id: str
    delivery: Delivery
    method: str
    idempotency_key: str | None = None
    error: GatewayError | None = None
    payload: Any = attrs.field(default=None, repr=False)
    timed_out: bool = False
    ending: Ending | None = None
    text: str = ""


Outcome = Replied | RequestFailed

# --- gateway events -------------------------------------------------------------------------


@attrs.frozen
class GatewayEvent:
    """An event of the gateway. ``seq`` counts per connection; ``size`` is in bytes."""

    name: str
    payload: Any = attrs.field(repr=False)
    seq: int | None = None
    state_version: Any = attrs.field(default=None, repr=False)
    size: int = 0


class MissReason(Enum):
    """Why events were missed."""

    GAP = "a gap in seq"
    """The gateway dropped events for this connection (it does so for slow readers)."""
    OVERFLOW = "events were not taken in time"
    """A queue on this side was full."""
    RECONNECT = "the connection was down"
    """seq starts anew on each connection: what was missed cannot be counted."""
    PRIMARY_CHANGED = "another connection delivers the events now"


@attrs.frozen
class EventsMissed:
    """Events were lost at this place in the stream: read your state again.

    ``count`` is None where it cannot be known.
    """

    reason: MissReason
    count: int | None = None


# --- notices --------------------------------------------------------------------------------


@attrs.frozen
class ScopesReduced:
    """The gateway granted fewer scopes than were asked for (wire.md 2: it does so silently)."""

    requested: tuple[str, ...]
    granted: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The scopes that were asked for and not granted."""
        return tuple(scope for scope in self.requested if scope not in self.granted)


@attrs.frozen
class PairingRequired:
    """A device waits for approval. Told once, and again when ``request_id`` changes."""

    request_id: str | None
    device_id: str | None
    reason: str | None
    remediation: str | None


@attrs.frozen
class DeviceTokenIssued:
    """New device tokens: store them, then call ``token_stored``; Online waits for that."""

    transport_id: int
    tokens: tuple[tuple[str, DeviceToken], ...]
    """Each with its role: those that are not known to be stored. Others than the one for the role
    that connected come with a setup code, and only over a transport that nobody else can read."""


@attrs.frozen
class DeviceTokenNotStored:
    """A new device token may be lost when the program ends: storing it failed, or took too long.

    Online follows all the same, and the token is told again with each hello until it is stored.
    """

    timed_out: bool


@attrs.frozen
class DeviceTokenRejected:
    """A stored device token is no longer valid: forget it (never the identity).

    Then call ``token_forgotten``, with the one that is kept by now if another program of the device
    was given one. Where nothing else is left to try, what follows waits for that.
    """

    transport_id: int
    role: str
    token: Secret
    ending: Ending


@attrs.frozen
class ClockLate:
    """The machine was woken ``seconds`` later than it had asked for."""

    seconds: float


@attrs.frozen
class RoundTrip:
    """A probe was answered by its own pong or reply after ``seconds``."""

    seconds: float


Notice = (
    ScopesReduced
    | PairingRequired
    | DeviceTokenIssued
    | DeviceTokenNotStored
    | DeviceTokenRejected
    | ClockLate
    | RoundTrip
)
Event = StateEvent | RequestAccepted | Outcome | GatewayEvent | EventsMissed | Notice

# --- a pool ---------------------------------------------------------------------------------


@attrs.frozen
class FromGateway:
    """An event of one connector of a pool; ``gateway`` is its name there."""

    gateway: str
    event: Event


PoolEvent = Event | FromGateway
"""What a machine may tell. An event of a pool's own stands for the pool as a whole."""
