"""The probes of one connection: what they are on the wire, and which answers are theirs.

Rules kept here:

* keepalive.py decides when to ask and what silence means; here it is carried out.
* A probe is a ping or a ``health`` request; its key is an id of its own, so a round trip is told
  only from its own pong or reply.
"""

from __future__ import annotations

from collections.abc import Callable

from butter_proto import frames
from butter_proto.counters import Counters
from butter_proto.event_queue import EventQueue
from butter_proto.events import RoundTrip
from butter_proto.keepalive import Keepalive, KeepaliveTimer, Verdict
from butter_proto.link import Link
from butter_proto.settings import Probe, Settings


class Probes:
    """Asks over one link, as its keepalive says."""

    __slots__ = (
        "_by_ping",
        "_counters",
        "_json_rpc",
        "_keepalive",
        "_key",
        "_next_id",
        "_outbox",
        "_queue",
    )

    def __init__(
        self,
        settings: Settings,
        keepalive: Keepalive,
        link: Link,
        next_id: Callable[[], str],
        queue: EventQueue,
        counters: Counters,
    ) -> None:
        probe = settings.keepalive.probe
        self._by_ping = (link.auto_probe if probe is Probe.AUTO else probe) is Probe.PING
        self._json_rpc = settings.json_rpc
        self._keepalive = keepalive
        self._outbox = link.outbox
        self._next_id = next_id
        self._queue = queue
        self._counters = counters
        self._key: str | bytes | None = None

    def heard(self, now: float) -> None:
        """Take note of an inbound byte."""
        self._keepalive.heard(now)

    def handed_out(self, now: float) -> None:
        """Take note that the socket took a chunk."""
        self._keepalive.handed_out(now)

    def ask_now(self, now: float) -> None:
        """Ask at once, out of turn."""
        if self._keepalive.ask_now(now) is Verdict.ASK:
            self._ask(now)

    def on_timer(self, timer: KeepaliveTimer, due: float, now: float) -> bool:
        """Handle a due timer of the keepalive; True: the peer is gone."""
        verdict = self._keepalive.on_timer(timer, due, now)
        if verdict is Verdict.ASK:
            self._ask(now)
        return verdict is Verdict.GONE

    def answered(self, key: str | bytes, now: float) -> bool:
        """Tell whether a pong's payload, or a reply's id, is the last probe's; then measure it."""
        if key != self._key:
            return False
        seconds = self._keepalive.answered(now)
        if seconds is not None:
            self._counters.probe_answered(seconds)
            self._queue.put_notice(RoundTrip(seconds))
        return True

    def _ask(self, now: float) -> None:
        self._counters.probes += 1
        key = self._next_id()
        if self._by_ping:
            self._key = key.encode()
            item = self._outbox.ping(self._key)
        else:
            self._key = key
            request = frames.encode_request(key, frames.METHOD_HEALTH, {}, json_rpc=self._json_rpc)
            item = self._outbox.text(request)
        self._keepalive.asked(item, now)
