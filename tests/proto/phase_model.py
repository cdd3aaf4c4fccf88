"""Where a connector is, as a model: docs/states.md and docs/reconnect.md, told a second time.

Rules kept here:

* It knows what was done, never how the connector does it. What it tells is what must be told: these
  events in this order, and this phase, state and set of open transports after each step.
* What a fault leads to stands in `FAULTS`: the ending, whether a Close frame of ours goes out, and
  what follows. A delay is known within its jitter, the end by silence within one probe.
* The gateway grants fewer scopes than are asked for, and each hello brings the same device token.
* A lone Close frame is waited for; everything else drops the transport at once.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any, Final

import attrs

from butter_proto import EndKind, FaultKind, events
from butter_proto.connection import Phase
from butter_proto.errors import TransportFault
from butter_proto.machine import State
from tests.proto.gateway_side import Speech, challenged, close, frame, refused, said
from tests.proto.strategies import RATE_LIMITED

OPEN, CHALLENGE, HELLO, STORING, CLOSE = 15.0, 14.0, 13.0, 5.0, 1.0
"""The limits of the phases in seconds; all but STORING are settings of the test."""
SILENT: Final = (15.0, 25.0)
"""When a peer is called silent, in seconds after its last byte: two probes without an answer."""
PROBED: Final = 10.0
"""Seconds from one probe to the next, whatever the traffic."""
STABLE, BASE, CAP, MINIMUM, POLL = 10.0, 1.0, 30.0, 0.25, 15.0
"""The defaults of ReconnectSettings, in seconds."""


class Place(Enum):
    """Where the connector is, more exactly than its state."""

    IDLE = "not started"
    DIAL = "the transport is being opened"
    UPGRADE = "it is open, and the upgrade asked for"
    CHALLENGE = "waiting for the challenge"
    HELLO = "waiting for the hello"
    STORING = "waiting until a device token is stored"
    ONLINE = "online"
    LEAVING = "stopped on the way to being online"
    WAITING = "between two attempts, or stopped when online"
    BLOCKED = "gave up"
    STOPPED = "over"

    @property
    def phase(self) -> Phase | None:
        """The phase of the connection; None where there is none, or it is over."""
        return Phase.OPENING if self in DIALLED else Phase.__members__.get(self.name)

    @property
    def state(self) -> State:
        """The state of the connector."""
        return State.__members__.get(self.name, State.CONNECTING)


class Then(Enum):
    """What follows an ending."""

    RETRY = "the backoff"
    POLL = "the slow poll"
    STOP = "giving up"


DIALLED: Final = (Place.DIAL, Place.UPGRADE)
OPENED: Final = (Place.UPGRADE, Place.CHALLENGE, Place.HELLO, Place.STORING, Place.ONLINE)
GREETING: Final = OPENED[1:]
"""What the peer says is read as messages here."""
ATTEMPT: Final = (Place.DIAL, *OPENED)


@attrs.frozen
class Fault:
    """Something that ends a connection in some of its places."""

    kind: EndKind
    places: tuple[Place, ...]
    then: Then = Then.RETRY
    speech: Speech | None = None
    """What the gateway says, or what the transport reports."""
    report: TransportFault | None = None
    closes: bool = False
    """Whether a Close frame of ours goes out."""
    hint: float = 0.0
    """Seconds that the peer asks for; ``reconnect_now`` must wait for them too."""
    asks_pairing: bool = False


def _report(kind: FaultKind, then: Then = Then.RETRY) -> Fault:
    return Fault(EndKind.TRANSPORT_FAILED, ATTEMPT, then, report=TransportFault(kind))


def _http(status: int, then: Then) -> Fault:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    return Fault(EndKind.UPGRADE_REFUSED, (Place.UPGRADE,), then, partial(said, data=answer))


def _refusal(then: Then, error: Any, **more: Any) -> Fault:
    speech = partial(refused, error=error)
    return Fault(EndKind.CONNECT_REFUSED, (Place.HELLO,), then, speech, **more)


def _wrong(data: bytes) -> Fault:
    speech = partial(said, data=data)
    return Fault(EndKind.PROTOCOL_VIOLATION, GREETING, speech=speech, closes=True)


def _details(code: str, **more: str) -> dict[str, Any]:
    return {"code": "INVALID_REQUEST", "message": "x", "details": {"code": code, **more}}


FAULTS: Final[dict[str, Fault]] = {
    "reset": _report(FaultKind.RESET),
    "refused": _report(FaultKind.REFUSED),
    "certificate": _report(FaultKind.CERTIFICATE, Then.STOP),
    "end of stream": Fault(EndKind.END_OF_STREAM, OPENED),
    "HTTP 503": _http(503, Then.RETRY),
    "HTTP 403": _http(403, Then.STOP),
    "close": Fault(
        EndKind.CLOSED_BY_PEER, GREETING, speech=partial(said, data=close(1012)), closes=True
    ),
    "reserved opcode": _wrong(frame(3)),
    "no JSON": _wrong(frame(1, b"no JSON")),
    "no nonce": Fault(
        EndKind.CHALLENGE_INVALID, (Place.CHALLENGE,), speech=partial(challenged, nonce=None)
    ),
    "too large": Fault(
        EndKind.LIMIT_EXCEEDED, GREETING, speech=partial(said, data=b"\x81\x7f" + b"\x01" * 8)
    ),
    "wrong token": _refusal(Then.STOP, _details("AUTH_TOKEN_MISMATCH")),
    "rate limit": _refusal(Then.RETRY, RATE_LIMITED, hint=299.993),
    "pairing": _refusal(
        Then.POLL, _details("PAIRING_REQUIRED", requestId="r-1"), asks_pairing=True
    ),
}
LIMITS: Final = {
    Place.DIAL: (OPEN, Fault(EndKind.OPEN_TIMEOUT, DIALLED)),
    Place.UPGRADE: (OPEN, Fault(EndKind.OPEN_TIMEOUT, DIALLED)),
    Place.CHALLENGE: (CHALLENGE, Fault(EndKind.CHALLENGE_TIMEOUT, (Place.CHALLENGE,))),
    Place.HELLO: (HELLO, Fault(EndKind.HELLO_TIMEOUT, (Place.HELLO,))),
}
SILENCE: Final = Fault(EndKind.SILENT_PEER, (Place.ONLINE,))
Told = tuple[type[events.Event], EndKind | None]
"""An event, and the kind of the ending that it tells."""


class PhaseModel:
    """What a connector must be and tell. Inputs take ``now``, and return what is told."""

    def __init__(self, *, is_device: bool) -> None:
        self.is_device = is_device
        self.place = Place.IDLE
        self.transports = 0
        self.closing: dict[int, float] = {}
        """The transports that a Close frame of ours is out on, and until when."""
        self.retry: tuple[float, float] | None = None
        """The earliest and the latest time of the next attempt."""
        self.heard = self.online_since = 0.0
        self._entered = 0.0
        self._failures = self._refused_alike = 0
        self._last_kind: EndKind | None = None
        self._not_before = -1.0
        self._stored = self._stopping = False
        self._pairing_told = False
        self._held = 0
        self._replaced = False

    @property
    def open(self) -> set[int]:
        """The transports that are not closed."""
        current = {self.transports} if self.place in ATTEMPT else set()
        return current | self.closing.keys()

    def due(self, now: float) -> float | None:
        """Return when a driver must wake up at the latest; None where time changes nothing."""
        every = [*self.closing.values()]
        if self.place in LIMITS:
            every.append(self._entered + LIMITS[self.place][0])
        elif self.place is Place.STORING:
            every.append(self._entered + STORING)
        elif self.retry is not None:
            every.append(self.retry[1])
        if self.place in (Place.STORING, Place.ONLINE):
            every.append(now + PROBED)
        return min(every, default=None)

    # --- the application ------------------------------------------------------------------------

    def start(self, now: float) -> list[Told]:
        return self._dial(now)

    def reconnect(self, now: float) -> list[Told]:
        """End a backoff, or leave BLOCKED."""
        if self._stopping or self.place not in (Place.WAITING, Place.BLOCKED):
            return []
        gave_up = self.place is Place.BLOCKED
        if gave_up:
            self._failures = self._refused_alike = 0
        when = max(now, self._not_before)
        if when <= now:
            return self._dial(now)
        self.retry = (when, when)
        self.place = Place.WAITING
        return [(events.Retrying, self._last_kind)] if gave_up else []

    def use_credentials(self, now: float) -> list[Told]:
        """Have other credentials: they leave BLOCKED, and what the old ones led to is repaired."""
        self._replaced = self.place in ATTEMPT
        return self.reconnect(now) if self.place is Place.BLOCKED else []

    def stop(self, now: float, *, abort: bool) -> list[Told]:
        told: list[Told] = []
        self._stopping = True
        self.retry = None
        if self.place in ATTEMPT:
            if self.place is Place.ONLINE:
                told = [(events.Offline, EndKind.STOPPED)]
            if self.place not in DIALLED:
                self.closing[self.transports] = now + CLOSE
            self.place = Place.WAITING if told else Place.LEAVING
        if abort:
            self.closing.clear()
        return told + self._stopped()

    def token_stored(self, now: float, *, ok: bool) -> list[Told]:
        if self.place is not Place.STORING:
            return []
        self._stored = self._stored or ok
        return self._online(now, () if ok else ((events.DeviceTokenNotStored, None),))

    # --- the gateway and the network ------------------------------------------------------------

    def step(self, now: float) -> list[Told]:
        """Let the connect go its right way one step on."""
        self.heard = now
        following = {
            Place.DIAL: Place.UPGRADE,
            Place.UPGRADE: Place.CHALLENGE,
            Place.CHALLENGE: Place.HELLO,
            Place.HELLO: Place.STORING,
        }[self.place]
        if following is not Place.STORING:
            began = self._entered  # dial and upgrade have one limit
            self._enter(following, began if following is Place.UPGRADE else now)
            return []
        if self.is_device and not self._stored:
            self._enter(Place.STORING, now)
            return [(events.DeviceTokenIssued, None)]
        return self._online(now)

    def pushed(self, now: float) -> list[Told]:
        """Let an event come; while a token is being stored it waits for Online."""
        self.heard = now
        if self.place is Place.STORING:
            self._held += 1
            return []
        return [(events.GatewayEvent, None)]

    def fault(self, fault: Fault, now: float) -> list[Told]:
        """Let the connection end."""
        assert self.place in fault.places
        told: list[Told] = []
        opened = self.place is not Place.DIAL
        if self.place is Place.ONLINE:
            told.append((events.Offline, fault.kind))
            if now - self.online_since >= STABLE:
                self._failures = 0
        self._refused_alike = self._refused_alike + 1 if fault.kind is self._last_kind else 1
        self._last_kind = fault.kind
        self._failures += 1
        if fault.closes:
            self.closing[self.transports] = now + CLOSE
        if fault.asks_pairing and not self._pairing_told:
            self._pairing_told = True
            told.append((events.PairingRequired, None))
        self._not_before = now + fault.hint
        if fault.kind is EndKind.CONNECT_REFUSED and fault.then is Then.STOP and self._replaced:
            self.place = Place.WAITING
            self.retry = (now + MINIMUM, now + MINIMUM)
            return [*told, (events.Retrying, fault.kind)]
        if fault.then is Then.STOP or self._same_answer_too_often(fault):
            self.place = Place.BLOCKED
            return [*told, (events.GaveUp, fault.kind)]
        self.place = Place.WAITING
        if fault.then is Then.POLL:
            self._failures = 0
            self.retry = (now + POLL, now + POLL)
        else:
            most = min(CAP, BASE * 2 ** (self._failures - 1))
            least = MINIMUM if opened else 0.0
            self.retry = (now + fault.hint + least, now + fault.hint + max(least, most))
        return [*told, (events.Retrying, fault.kind)]

    def ended(self, transport_id: int) -> list[Told]:
        """Let the stream of a transport end that is closing."""
        del self.closing[transport_id]
        return self._stopped()

    # --- time -----------------------------------------------------------------------------------

    def settle(self, now: float, retry_at: float | None) -> list[Told]:
        """Let everything happen that is due; the jitter has chosen ``retry_at``."""
        for transport_id, until in [*self.closing.items()]:
            if until <= now:
                del self.closing[transport_id]
        told = self._stopped()
        limit, fault = LIMITS.get(self.place, (0.0, SILENCE))
        if self.place is Place.STORING and now >= self._entered + STORING:
            return told + self._online(now, ((events.DeviceTokenNotStored, None),))
        if self.place in LIMITS and now >= self._entered + limit:
            return told + self.fault(fault, now)
        if self.place is Place.WAITING and retry_at is not None and retry_at <= now:
            return told + self._dial(now)
        return told

    # --- inside ---------------------------------------------------------------------------------

    def _enter(self, place: Place, now: float) -> None:
        self.place = place
        self._entered = now

    def _dial(self, now: float) -> list[Told]:
        self.transports += 1
        self.retry = None
        self._held = 0
        self._replaced = False
        self._enter(Place.DIAL, now)
        return [(events.Connecting, None)]

    def _online(self, now: float, notices: tuple[Told, ...] = ()) -> list[Told]:
        self._enter(Place.ONLINE, now)
        self.online_since = now
        self._refused_alike, self._pairing_told = 0, False
        held, self._held = self._held, 0
        online: list[Told] = [(events.Online, None), (events.ScopesReduced, None)]
        return [*online, *notices, *[(events.GatewayEvent, None)] * held]

    def _stopped(self) -> list[Told]:
        if not self._stopping or self.place is Place.STOPPED or self.closing:
            return []
        self.place = Place.STOPPED
        return [(events.Stopped, None)]

    def _same_answer_too_often(self, fault: Fault) -> bool:
        return fault.kind is EndKind.CHALLENGE_INVALID and self._refused_alike >= 3
