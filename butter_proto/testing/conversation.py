"""What the stand-in says on each socket: the upgrade, the handshake, answers to requests.

Rules kept here:

* Before hello every fault ends the socket; after it none does, but a message above
  ``policy.maxPayload`` (wire.md 1 and 8).
* What a test scripted comes before what the gateway would do by itself.
* Nothing is random: ids are hashes of ``seed`` and a counter, the wall clock is a function of now.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.errors import GatewayError, InvalidSettings
from butter_proto.events import Policy
from butter_proto.frames import EVENT_CHALLENGE, METHOD_CONNECT
from butter_proto.testing import ed25519, hello
from butter_proto.testing.admission import admit_original
from butter_proto.testing.answers import BUILT_IN, BUSY, reply_for
from butter_proto.testing.attempt import AuthConfig, Challenge
from butter_proto.testing.device_script import DeviceScript
from butter_proto.testing.link import ClientMessage, UpgradeRequest
from butter_proto.testing.peer import Peer
from butter_proto.testing.script import Push
from butter_proto.testing.server_frames import (
    Answer,
    LegacyPing,
    Request,
    decode_request,
    encode_event,
    encode_legacy_pong,
)
from butter_proto.testing.verdicts import Grant, Refusal
from butter_proto.timers import Clock, Timers

POLICY: Final = Policy(26_214_400, 52_428_800, 30.0)
"""What hello-ok says by default (wire.md 3)."""
RECEIVED: Final = 10_000
"""How many requests ``received`` keeps."""
_INVALID: Final = "INVALID_REQUEST"
_NO_SLOT: Final = b"Too many unauthenticated sockets"
_NOT_CONNECT: Final = Refusal(
    GatewayError(_INVALID, "invalid handshake: first request must be connect")
)
_STARTING: Final = Refusal(
    GatewayError(
        "UNAVAILABLE",
        "gateway starting",
        {"reason": "startup-sidecars"},
        retryable=True,
        retry_after=0.5,
    ),
    close_code=1013,
)


class Due(Enum):
    """What a deadline is for; each comes with a socket's or a request's number, or 0."""

    TICK = "the gateway-wide tick"
    HANDSHAKE = "hello is due"
    PING = "the next ping"
    CLOSE = "the peer's Close is due"
    ANSWER = "a delayed answer"
    LISTEN = "the restarted process listens"
    READY = "the restarted process is ready"


@attrs.frozen
class Received:
    """One request that was read, connect requests included."""

    peer_id: int
    now: float
    method: str
    id: str
    params: Any = attrs.field(repr=False)


def _wall_clock(now: float) -> int:
    return 1_795_000_000_000 + round(now * 1000)


@attrs.define(eq=False, kw_only=True)
class Conversation(DeviceScript):
    """The talking half of `StandInGateway`, with its options."""

    token: str | None = attrs.field(default=None, repr=False)
    """The shared secret; without it and ``password`` connects need none: auth mode "none"."""
    password: str | None = attrs.field(default=None, repr=False)
    """The shared secret of auth mode "password". Not together with ``token``."""
    bootstrap_token: str | None = attrs.field(default=None, repr=False)
    """Pairs one device, once."""
    remote: bool = False
    """See clients as remote: new devices and upgrades need ``approve``, who guesses is locked out,
    and without a device there are no scopes. On loopback (False) devices are approved silently."""
    verify: Callable[[bytes, bytes, bytes], bool] = attrs.field(default=ed25519.verify, repr=False)
    """From public key, signature and message to whether a device signed it. The default checks
    Ed25519 in plain Python, the same on every machine; a test whose signer is none passes
    ``lambda *_: True``."""
    policy: Policy = POLICY
    legacy: bool = False
    """Speak to the original OpenButter connector instead of today's clients."""
    json_rpc: bool = False
    """With ``legacy``: push events as JSON-RPC 2.0 notifications."""
    max_in_flight: int = 256
    """Requests of one socket that may wait for their answer (wire.md 8)."""
    max_unauthenticated: int = 32
    """Sockets that may be without hello at a time (wire.md 1)."""
    handshake_timeout: float = 15.0
    """Seconds until hello (wire.md 1)."""
    ping_interval: float = 25.0
    """Seconds between pings from hello on (wire.md 6)."""
    wall_clock: Callable[[float], int] = attrs.field(default=_wall_clock, repr=False)
    """From ``now`` to milliseconds since the epoch: the challenge's ``ts``, and what ``signedAt``
    is held against. A gateway whose clock is wrong has one that is."""
    received: deque[Received] = attrs.field(
        factory=lambda: deque(maxlen=RECEIVED), init=False, repr=False
    )
    """The latest requests, oldest first."""

    _boot: hello.Boot = attrs.field(init=False, repr=False)
    _starting: bool = attrs.field(default=False, init=False, repr=False)
    _clock: Clock = attrs.field(factory=Clock, init=False, repr=False)
    _timers: Timers[tuple[Due, int]] = attrs.field(factory=Timers, init=False, repr=False)
    _peers: dict[int, Peer] = attrs.field(factory=dict, init=False, repr=False)
    _delayed: dict[int, tuple[Peer, Request, Answer]] = attrs.field(
        factory=dict, init=False, repr=False
    )
    _numbers: int = attrs.field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.token is not None and self.password is not None:
            raise InvalidSettings("a gateway has one shared secret: token or password")
        self._boot = hello.Boot(self._new_uuid(), self.wall_clock(0.0))

    @property
    def boot_id(self) -> str:
        """The ``server.bootId`` of the present process."""
        return self._boot.id

    def _listen_to(self, peer: Peer, data: bytes) -> None:
        """Act on what one socket read; ``b""`` is the end of its stream."""
        for fact in peer.link.receive_data(data):
            if isinstance(fact, UpgradeRequest):
                self._upgrade(peer, fact)
            elif not isinstance(fact, ClientMessage):
                peer.unanswered_pings = 0
            elif peer.grant is None:
                self._handshake(peer, fact.data)
            else:
                self._request(peer, fact.data, peer.grant)

    def _upgrade(self, peer: Peer, request: UpgradeRequest) -> None:
        unauthenticated = sum(other.unauthenticated for other in self._peers.values())
        if self._upgrade_refusals:
            refusal = self._upgrade_refusals.popleft()
            peer.link.refuse(refusal.status, refusal.body, refusal.headers)
        elif unauthenticated >= self.max_unauthenticated:
            peer.link.refuse(503, _NO_SLOT)
        else:
            peer.link.accept()
            self._challenge(peer, request.origin)
            self._timers.set((Due.HANDSHAKE, peer.id), self._clock.now + self.handshake_timeout)

    def _challenge(self, peer: Peer, origin: str) -> None:
        nonce = self._new_uuid()
        payload: Any = hello.challenge(nonce, self._now_ms)
        if self._challenges:
            payload = self._challenges.popleft()
            given = payload.get("nonce") if isinstance(payload, dict) else None
            nonce = given if isinstance(given, str) else nonce
        peer.challenge = Challenge(nonce, origin)
        peer.link.send_text(encode_event(EVENT_CHALLENGE, payload))

    def _handshake(self, peer: Peer, data: bytes) -> None:
        request = decode_request(data)
        if request is None:
            peer.link.close(1000, "")
        elif not isinstance(request, Request):
            peer.link.close(1008, "invalid request frame")
        else:
            self._record(peer, request)
            verdict = self._verdict(peer, request)
            if isinstance(verdict, Refusal):
                if verdict.error is not None:
                    peer.answer(request, Answer(error=verdict.error))
                peer.link.close(verdict.close_code, verdict.reason)
            else:
                self._welcome(peer, request, verdict)

    def _verdict(self, peer: Peer, request: Request) -> Grant | Refusal:
        if request.method != METHOD_CONNECT:
            return _NOT_CONNECT
        if self._refusals:
            return self._refusals.popleft()
        if self._starting:
            return _STARTING
        config = AuthConfig(
            self.token, self.password, self.bootstrap_token, self.remote, self.verify
        )
        if self.legacy:
            return admit_original(request.params, config)
        assert peer.challenge is not None
        known = self.pending.keys()
        verdict = self._admission.admit(
            request.params, peer.challenge, config, self._clock.now, self._now_ms
        )
        for request_id in self.pending.keys() - known:
            payload = hello.pair_requested(self.pending[request_id], request.params, self._now_ms)
            self._act(Push(hello.EVENT_PAIR_REQUESTED, payload, needs=hello.OWNER_SCOPES))
        return verdict

    def _welcome(self, peer: Peer, request: Request, grant: Grant) -> None:
        peer.grant = grant
        peer.link.max_message = self.policy.max_payload
        self._timers.stop((Due.HANDSHAKE, peer.id))
        self._timers.set((Due.PING, peer.id), self._clock.now + self.ping_interval)
        payload: dict[str, Any] = {}
        if not self.legacy:
            methods = dict.fromkeys((*BUILT_IN, *self._replies))
            payload = hello.hello_ok(
                grant, self.policy, self._boot, self._new_uuid(), methods, self._now_ms
            )
        peer.answer(request, Answer(payload))

    def _request(self, peer: Peer, data: bytes, grant: Grant) -> None:
        request = decode_request(data, legacy=self.legacy)
        if request is None:
            return  # wire.md 8: malformed JSON after hello is silently ignored
        if isinstance(request, LegacyPing):
            peer.link.send_text(encode_legacy_pong())
        elif not isinstance(request, Request):
            peer.answer(request, Answer(error=GatewayError(_INVALID, request.message)))
        elif len(peer.waiting) >= self.max_in_flight:
            self._record(peer, request)
            peer.answer(request, Answer(error=BUSY))
        else:
            self._record(peer, request)
            self._reply_to(peer, request, None if self.legacy else grant.scopes)

    def _reply_to(self, peer: Peer, request: Request, scopes: tuple[str, ...] | None) -> None:
        reply = reply_for(request.method, self._replies, scopes, self._now_ms)
        answer = reply.answered(request.params)
        if reply.interim is not None:
            peer.answer(request, Answer(reply.interim))
        if reply.delay <= 0:
            peer.answer(request, answer)
            return
        number = self._next_number()
        self._delayed[number] = (peer, request, answer)
        peer.waiting.add(number)
        if math.isfinite(reply.delay):
            self._timers.set((Due.ANSWER, number), self._clock.now + reply.delay)

    def _answer_delayed(self, number: int) -> Peer:
        peer, request, answer = self._delayed.pop(number)
        peer.waiting.discard(number)
        peer.answer(request, answer)
        return peer

    def _forget_what_waits(self, peer: Peer) -> None:
        """Drop the deadlines and the delayed answers of a socket that closes."""
        for due in (Due.HANDSHAKE, Due.PING, Due.CLOSE):
            self._timers.stop((due, peer.id))
        for number in peer.waiting:
            self._timers.stop((Due.ANSWER, number))
            del self._delayed[number]
        peer.waiting.clear()

    def _record(self, peer: Peer, request: Request) -> None:
        self.received.append(
            Received(peer.id, self._clock.now, request.method, request.id, request.params)
        )

    @property
    def _now_ms(self) -> int:
        return self.wall_clock(self._clock.now)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _new_uuid(self) -> str:
        digest = hashlib.sha256(f"{self.seed}/{self._next_number()}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))
