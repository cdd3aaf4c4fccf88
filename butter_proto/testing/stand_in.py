"""The server side of the gateway as one pure machine that serves many sockets.

Rules kept here:

* It behaves as wire.md measured the real gateway, on loopback or remote; comments name the section.
* Inputs do all the work and never raise, whatever the bytes; only a test's own reply function
  may. ``now`` is monotonic seconds; the largest one seen counts.
* A driver, after each input, takes ``data_to_send`` of each socket until ``b""``, then
  ``next_closed`` until None, then asks ``next_timeout``.
* Every socket that was accepted gets one `ClosePeer`, unless ``connection_lost`` came before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

import attrs

from butter_proto.frames import EVENT_SHUTDOWN, EVENT_TICK
from butter_proto.testing import hello
from butter_proto.testing.conversation import Conversation, Due
from butter_proto.testing.link import Phase
from butter_proto.testing.peer import Peer
from butter_proto.testing.script import (
    Action,
    CloseAll,
    Disown,
    Drop,
    Pause,
    Push,
    Resolve,
    Restart,
)
from butter_proto.timers import TICK

MAX_UNANSWERED_PINGS: Final = 2
"""Instead of a third one in a row the socket is dropped: 75 s after hello (wire.md 6)."""
CLOSE_TIMEOUT: Final = 30.0
"""How long a Close frame waits for the peer's, in seconds; the ``ws`` package's."""
EXIT_TIMEOUT: Final = 1.0
"""The same where the process ends (wire.md 7)."""


@attrs.frozen
class ClosePeer:
    """Close this socket now; ``abort``: with a reset where the transport has one."""

    peer_id: int
    abort: bool


@attrs.define(eq=False, kw_only=True)
class StandInGateway(Conversation):
    """A gateway, for tests.

    `Conversation` has its options, `Script` and `DeviceScript` have what it may be told.

    All sockets share one clock. Socket numbers are the driver's; one must not come twice while
    its socket lives. Inputs for an unknown number do nothing.
    """

    connections: int = attrs.field(default=0, init=False)
    """How many sockets were accepted so far."""
    listening: bool = attrs.field(default=True, init=False)
    """Whether new sockets are accepted; a driver refuses dials while it is False."""
    _closed: deque[ClosePeer] = attrs.field(factory=deque, init=False, repr=False)
    _ended: dict[int, Peer] = attrs.field(factory=dict, init=False, repr=False)
    _backlog: deque[Callable[[], None]] = attrs.field(factory=deque, init=False, repr=False)
    _stalled: bool = attrs.field(default=False, init=False, repr=False)
    _close_timeout: float = attrs.field(default=CLOSE_TIMEOUT, init=False, repr=False)

    @property
    def online_peers(self) -> int:
        """How many sockets have their hello, and no Close frame yet."""
        return sum(peer.online for peer in self._peers.values())

    # inputs

    def accept(self, peer_id: int, now: float) -> None:
        """Take a new socket; while nothing listens it is closed at once."""
        self._begin(now)
        if not self.listening:
            self._closed.append(ClosePeer(peer_id, abort=True))
            return
        self.connections += 1
        self._peers[peer_id] = Peer(peer_id)
        self._timers.set((Due.HANDSHAKE, peer_id), self._clock.now + self.handshake_timeout)

    def receive_data(self, peer_id: int, data: bytes, now: float) -> None:
        """Take what a socket read; ``b""`` is the end of its stream."""
        self._begin(now)
        self._do_or_keep(partial(self._receive, peer_id, data))

    def connection_lost(self, peer_id: int, now: float) -> None:
        """Tell that a socket broke; no `ClosePeer` follows for it."""
        self._begin(now)
        peer = self._peers.get(peer_id)
        if peer is not None:
            peer.lost = True
        self._do_or_keep(partial(self._lose, peer_id))

    def handle_timeout(self, now: float) -> None:
        """Do what is due, and what was scripted since the last input."""
        self._begin(now)
        if not self._stalled:
            self._expire()

    # outputs

    def data_to_send(self, peer_id: int) -> bytes:
        """Take at most 64 KiB for a socket; ``b""``: nothing now."""
        peer = self._peers.get(peer_id)
        return b"" if peer is None or self._stalled else peer.link.data_to_send()

    def next_closed(self) -> ClosePeer | None:
        """Take the next socket to close. It comes when all its data was taken."""
        if self._closed:
            return self._closed.popleft()
        for peer in [*self._ended.values()]:
            if not peer.link.unsent:
                del self._ended[peer.id], self._peers[peer.id]
                if not peer.lost:
                    return ClosePeer(peer.id, peer.reset)
        return None

    def next_timeout(self) -> float | None:
        """Return when ``handle_timeout`` is due; in the past where something was scripted."""
        if self._actions:
            return self._clock.now
        return None if self._stalled else self._timers.next()

    # what a socket does

    def _begin(self, now: float) -> None:
        now = self._clock.advance(now)
        if not self.legacy and (Due.TICK, 0) not in self._timers:
            self._timers.set((Due.TICK, 0), now + self.policy.tick_interval)
        self._do_what_was_scripted()

    def _do_or_keep(self, what: Callable[[], None]) -> None:
        if self._stalled:
            self._backlog.append(what)
        else:
            what()

    def _receive(self, peer_id: int, data: bytes) -> None:
        peer = self._peers.get(peer_id)
        if peer is not None:
            self._listen_to(peer, data)
            self._settle(peer)
            self._do_what_was_scripted()  # by a reply function

    def _lose(self, peer_id: int) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            self._forget_what_waits(peer)
            self._ended.pop(peer_id, None)

    def _settle(self, peer: Peer) -> None:
        """See to what follows from the phase of a socket's link, once for each phase."""
        link = peer.link
        limit = self.policy.max_buffered_bytes
        if limit is not None and link.unsent > limit:
            link.close(1008, "slow consumer")  # wire.md 8
        if link.phase in (peer.settled, Phase.OPEN):
            return
        peer.settled = link.phase
        self._forget_what_waits(peer)
        if link.phase is Phase.ENDED:
            self._ended[peer.id] = peer
        else:
            self._timers.set((Due.CLOSE, peer.id), self._clock.now + self._close_timeout)

    def _end(self, peer: Peer) -> None:
        peer.link.abort()
        self._settle(peer)

    def _close(self, peer: Peer, code: int, reason: str) -> None:
        peer.link.close(code, reason)
        self._settle(peer)

    # what time does

    def _expire(self) -> None:
        while (expired := self._timers.take_expired(self._clock.now)) is not None:
            (due, number), when = expired
            if due is Due.TICK:
                self._repeat(due, 0, when, self.policy.tick_interval)
                self._push(Push(EVENT_TICK, {"ts": self._now_ms}))
            elif due is Due.HANDSHAKE:
                self._close(self._peers[number], 1000, "")
            elif due is Due.PING:
                self._ping(self._peers[number], when)
            elif due is Due.CLOSE:
                self._end(self._peers[number])
            elif due is Due.ANSWER:
                self._settle(self._answer_delayed(number))
            elif due is Due.LISTEN:
                self.listening = True
                self._close_timeout = CLOSE_TIMEOUT
            elif due is Due.READY:
                self._starting = False
            else:
                assert_never(due)

    def _ping(self, peer: Peer, when: float) -> None:
        if peer.unanswered_pings >= MAX_UNANSWERED_PINGS:
            self._end(peer)
            return
        peer.unanswered_pings += 1
        peer.link.send_ping()
        self._repeat(Due.PING, peer.id, when, self.ping_interval)

    def _repeat(self, due: Due, number: int, when: float, interval: float) -> None:
        """Set a periodic deadline again; beats that were slept through are skipped."""
        now = self._clock.now
        interval = max(interval, TICK)
        late = when + interval <= now
        self._timers.set((due, number), (now if late else when) + interval)

    # what the test does

    def _do_what_was_scripted(self) -> None:
        while self._actions:
            action = self._actions.popleft()
            if isinstance(action, Pause | Drop):
                self._perform(action)  # signals reach a stopped process
            else:
                self._do_or_keep(partial(self._perform, action))

    def _perform(self, action: Action) -> None:
        if isinstance(action, Push):
            self._push(action)
        elif isinstance(action, CloseAll):
            for peer in self._peers.values():
                self._close(peer, action.code, action.reason)
        elif isinstance(action, Drop):
            for peer in self._peers.values():
                peer.reset = action.reset
                self._end(peer)
        elif isinstance(action, Restart):
            self._restart(action)
        elif isinstance(action, Resolve):
            self._resolve(action)
        elif isinstance(action, Disown):
            self._disown(action)
        elif action is Pause.STALL:
            self._stalled = True
        else:
            self._resume()

    def _push(self, event: Push) -> None:
        for peer in self._peers.values():
            if peer.may_hear(event):
                peer.tell(event, json_rpc=self.json_rpc)
                self._settle(peer)

    def _resume(self) -> None:
        self._stalled = False
        self._expire()
        backlog, self._backlog = self._backlog, deque()
        for what in backlog:
            self._do_or_keep(what)

    def _resolve(self, word: Resolve) -> None:
        request, now_ms = word.request, self._now_ms
        if request.request_id not in self.pending:
            return  # a silent approval or a removal came before
        if word.approved:
            self._admission.devices.grant(self.pending[request.request_id], now_ms)
        else:
            self._admission.devices.reject(request.request_id)
        decision = "approved" if word.approved else "rejected"
        payload = hello.pair_resolved(request, decision, now_ms)
        self._push(Push(hello.EVENT_PAIR_RESOLVED, payload, needs=hello.OWNER_SCOPES))

    def _disown(self, withdrawal: Disown) -> None:
        self._admission.devices.withdraw(
            withdrawal.device_id, withdrawal.what, withdrawal.role, self._now_ms
        )
        for peer in self._peers.values():
            if peer.grant is not None and peer.grant.device_id == withdrawal.device_id:
                self._close(peer, 4001, "device removed")  # wire.md 4

    def _restart(self, restart: Restart) -> None:
        now = self._clock.now
        ready = now + restart.down + restart.starting
        self._boot = hello.Boot(restart.boot_id or self._new_uuid(), self.wall_clock(ready))
        self.listening = False
        self._starting = True
        self._close_timeout = EXIT_TIMEOUT
        if restart.announce:
            self._push(Push(EVENT_SHUTDOWN, hello.shutdown(restart.expected)))
        for peer in self._peers.values():
            if restart.announce:
                self._close(peer, 1012, "service restart")
            else:
                self._end(peer)
        self._timers.set((Due.LISTEN, 0), now + restart.down)
        self._timers.set((Due.READY, 0), ready)
        self._expire()
