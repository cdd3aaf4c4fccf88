"""Connection: one socket's life, composed of link, admission, requests and keepalive.

Rules kept here:

* Online is queued before anything else of the connection, Offline last; every request has its
  outcome before Offline, but for those that are carried over to the next connection.
* Every phase has its limit, so time alone ends every connection (G10).
* The ending is decided once, at the first cause; after it nothing that arrives matters but the
  end of the stream, which a Close frame of ours waits for (``timeouts.close`` at most).

Phases: OPENING -> CHALLENGE -> HELLO [-> STORING] -> ONLINE, each of them -> CLOSING -> CLOSED or
-> CLOSED. In STORING a new device token is made durable: keepalive runs, events are held back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Final, TypeVar

import attrs

from butter_proto import events, frames
from butter_proto.admission import Admission
from butter_proto.attempt import Attempt, Surroundings, link_for
from butter_proto.codec import codec_for
from butter_proto.device import DeviceToken
from butter_proto.errors import (
    Delivery,
    Ending,
    EndKind,
    FaultKind,
    MessageTooLarge,
    TransportFault,
)
from butter_proto.event_lane import MOST_SEQ, EventLane, Item
from butter_proto.events import GatewayEvent
from butter_proto.handshake import secrets_of_hello
from butter_proto.keepalive import Keepalive, KeepaliveTimer
from butter_proto.link import HostClose, Inbound, Opened, PongReceived, Received, ends_stream
from butter_proto.machine import Message
from butter_proto.outbox import BAD_DATA
from butter_proto.pending import PendingRequest
from butter_proto.pins import fingerprints
from butter_proto.probes import Probes
from butter_proto.reconnect import backoff
from butter_proto.redaction import Redaction
from butter_proto.requests import AskAgain, Postponed, Requests, TooLate
from butter_proto.settings import Dialect
from butter_proto.timers import Timers

_T = TypeVar("_T")
_NORMAL: Final = 1000
STORING_LIMIT: Final = 5.0
"""Seconds that Online waits for ``token_stored``."""
_REFUSAL_BODY_TIME: Final = 1.0
"""Seconds to wait for the body of a refused upgrade."""


class Phase(Enum):
    """Where a connection is in its life."""

    OPENING = "dial, TLS and upgrade"
    CHALLENGE = "waiting for the challenge"
    HELLO = "waiting for the hello"
    STORING = "waiting until a new device token is stored"
    ONLINE = "online"
    CLOSING = "over; a Close frame and the end of the stream are under way"
    CLOSED = "over; the transport may be dropped"


class _Timer(Enum):
    PHASE = "the limit of the present phase"
    REFUSAL_BODY = "the time for a refusal's body"
    CLOSE = "the time for the end of the stream"


class Connection:
    """One connection. Inputs take ``now``, already made monotonic by the owner.

    After each input look at ``ending`` (set once) and ``closed`` (the transport may go), and pull
    the shared queue.
    """

    event_lane: ClassVar[bool] = True
    """Whether usual events take the lane. Only tests switch it off, to see that nothing changes."""

    def __init__(self, around: Surroundings, attempt: Attempt, now: float) -> None:
        self.attempt = attempt
        self._settings = around.settings
        self._json_rpc = around.settings.json_rpc
        self._identity = around.identity
        self._next_id = around.next_id
        self._queue = around.queue
        self._counters = around.counters
        self._timers: Timers[Any] = Timers()
        self.redaction = Redaction(attempt.secrets)
        if attempt.previous is not None:
            self.redaction.add(secrets_of_hello(attempt.previous.payload))
        self._link = link_for(around, attempt, self.redaction)
        self._lane = EventLane(
            self._link.next_item,
            frames.reader(codec_for(around.settings.json)),
            self.redaction.plain_names,
        )
        self._standing = around.standing
        self._backlog = around.backlog
        self._random = around.random
        self._requests = Requests(
            self._link.outbox, self._timers, around.window, self._until_asked_again
        )
        self._probes: Probes | None = None
        self._now = now
        self._opened = False
        self._admission = Admission(
            around.settings.dialect,
            around.identity,
            attempt.auth,
            around.signer,
            attempt.signed,
            attempt.durable,
            around.endpoint.is_confidential,
        )
        self._connect_id = ""
        self._expected_seq: int | None = None
        self._retry_after: tuple[float, float] | None = None
        self.phase = Phase.OPENING
        self.ending: Ending | None = None
        """Why it is over, as it may be told."""
        self.cause: Ending | None = None
        """The same unredacted, for `reconnect.decide` alone: a secret may be part of a code."""
        self.hello: events.Hello | None = None
        self.issued: Mapping[str, DeviceToken] = {}
        """The device tokens that came with the hello and are to be stored, by role."""
        self.online_since: float | None = None
        self._timers.set(_Timer.PHASE, now + self._settings.timeouts.open)

    @property
    def closed(self) -> bool:
        """True once the transport may be dropped."""
        return self.phase is Phase.CLOSED

    # --- transport inputs -------------------------------------------------------------------

    def opened(self, now: float, certificate: bytes | None) -> None:
        """Take note that the transport is open; what the link sends first is now to be pulled.

        Where there are pins, it sends nothing to a peer whose certificate (DER) matches none.
        """
        if self.phase is not Phase.OPENING or self._opened:
            return
        self._now = now
        self._opened = True
        pins = self._settings.pins
        if pins and not (certificate and any(pin.matches(certificate) for pin in pins)):
            seen = fingerprints(certificate) if certificate else "no certificate was told"
            self._end(Ending(EndKind.PIN_MISMATCH, seen))
            return
        self._link.start()
        self._take_items()

    def receive(self, inbound: Inbound, now: float) -> None:
        """Take in what a transport brought, in the framing that it has; not once ``closed``."""
        self._now = now
        if not self._opened:
            if isinstance(inbound, HostClose):  # a browser tells of every failure so
                fault = TransportFault(FaultKind.OTHER, "the WebSocket closed before it was open")
                self.failed(fault, now)
            return
        ended = ends_stream(inbound)
        if self.phase is Phase.CLOSING:
            if ended:
                self._close()
            return
        if not ended:
            self._counters.last_received_at = now
            if self._probes is not None:
                self._probes.heard(now)
        self._link.receive(inbound)
        self._take_items()

    def failed(self, fault: TransportFault, now: float) -> None:
        """Take note that the transport could not be opened, or broke."""
        self._now = now
        self._end(Ending(EndKind.TRANSPORT_FAILED, fault=fault))
        self._close()

    def handle_timeout(self, now: float) -> None:
        """Handle everything due at ``now``."""
        self._now = now
        woken_for = self._timers.next()
        while (expired := self._timers.take_expired(now)) is not None:
            timer = expired[0]
            match timer:
                case KeepaliveTimer():
                    assert woken_for is not None
                    assert self._probes is not None
                    if self._probes.on_timer(timer, woken_for, now):
                        self._end(Ending(EndKind.SILENT_PEER))
                case PendingRequest() | AskAgain() | TooLate():
                    outcome = self._requests.on_timer(timer, now)
                    if outcome is not None:
                        self._queue.put(outcome)
                case _Timer.PHASE if self.phase is Phase.STORING:
                    self._go_online(events.DeviceTokenNotStored(True))
                case _Timer.PHASE:
                    self._end(Ending(_TOO_LATE[self.phase]))
                case _Timer.REFUSAL_BODY:
                    self._link.receive(b"")
                    self._take_items()
                case _:
                    self._close()

    # --- application inputs -----------------------------------------------------------------

    def request(self, request: PendingRequest, now: float) -> None:
        """Take in a request; only while ONLINE."""
        assert self.phase is Phase.ONLINE
        self._now = now
        self._requests.add(request, now)

    def take_from_backlog(self, now: float) -> None:
        """Take what waits for this connection, and may come by now; only while ONLINE."""
        assert self.hello is not None
        self._now = now
        for request in self._backlog.release(self._standing, self.hello.boot_id, now):
            try:
                check_size(self.hello, request.size)
            except MessageTooLarge as error:  # it was accepted before this gateway was known
                self._queue.put(request.failed(request.delivery, text=str(error)))
                request.forget()
            else:
                self._requests.add(request, now)

    def cancel(self, request_id: str, now: float) -> Delivery | None:
        """Take a request back; None where it is not pending."""
        self._now = now
        return self._requests.cancel(request_id, now)

    def token_stored(self, now: float, *, ok: bool) -> None:
        """Take note that the new device token is durable, or cannot be; Online follows."""
        self._now = now
        if self.phase is Phase.STORING:
            self._go_online(*(() if ok else (events.DeviceTokenNotStored(False),)))

    def take_issued(self) -> Mapping[str, DeviceToken]:
        """Take the device tokens that came with the hello, once."""
        issued, self.issued = self.issued, {}
        return issued

    def probe(self, now: float) -> None:
        """Ask the gateway at once whether it is there; before ONLINE the phase limits do."""
        self._now = now
        if self._probes is not None:
            self._probes.ask_now(now)

    def stop(self, now: float, *, abort: bool) -> None:
        """End the connection here: with a Close frame, or at once."""
        self._now = now
        if self.phase not in (Phase.OPENING, Phase.CLOSING, Phase.CLOSED):
            self._link.outbox.close(_NORMAL, "")
        self._end(Ending(EndKind.STOPPED))
        if abort:
            self._close()

    # --- outputs ----------------------------------------------------------------------------

    def data_to_send(self, now: float) -> bytes:
        """Take at most 64 KiB for the wire, handed out at ``now``; not once it is ``closed``."""
        return self._handed_out(self._link.data_to_send(now), now)

    def next_message(self, now: float) -> Message | None:
        """Take the next message for a host, handed out at ``now``; not once it is ``closed``."""
        return self._handed_out(self._link.next_message(now), now)

    def _handed_out(self, outbound: _T, now: float) -> _T:
        if outbound and self._probes is not None:
            self._probes.handed_out(now)
        return outbound

    def next_timeout(self) -> float | None:
        """Return when the next deadline is due."""
        return self._timers.next()

    @property
    def pending_bytes(self) -> int:
        """The size of the requests without an outcome."""
        return self._requests.bytes

    @property
    def pending(self) -> int:
        """The requests that have no outcome, or keep their place in flight."""
        return len(self._requests)

    # --- what arrived -----------------------------------------------------------------------

    def _take_items(self) -> None:
        while self.ending is None:
            item, message = self._next_item()
            match item:
                case None:
                    break
                case Received():
                    self._on_message(message, item.size)
                case PongReceived():
                    if self._probes is not None:
                        self._probes.answered(item.payload, self._now)
                case Opened():
                    self._enter(Phase.CHALLENGE, self._settings.timeouts.challenge)
                case _:
                    self._end(item)
        if self._link.reading_refusal and _Timer.REFUSAL_BODY not in self._timers:
            self._timers.set(_Timer.REFUSAL_BODY, self._now + _REFUSAL_BODY_TIME)

    def _next_item(self) -> Item:
        """Let usual events take the lane, and return what comes then."""
        seq = self._expected_seq
        if seq is None or seq >= MOST_SEQ or self.phase is not Phase.ONLINE or not self.event_lane:
            return self._lane.next_item()
        into = self._queue.lane()
        if into is None:
            return self._lane.next_item()
        self._expected_seq, size, item = self._lane.take(seq, into)
        number = self._expected_seq - seq
        if number:
            self._queue.took_lane(number, size)
            self._counters.messages_received += number
            self._counters.events += number
        return item

    def _on_message(self, message: Any, size: int) -> None:
        self._counters.messages_received += 1
        phase = self.phase
        try:
            if isinstance(message, frames.InvalidFrame):
                raise message
            frame = frames.frame_of(message, size, json_rpc=self._json_rpc)
        except frames.InvalidFrame as error:
            self._link.outbox.close(BAD_DATA, "")
            self._end(Ending(EndKind.PROTOCOL_VIOLATION, str(error)))
            return
        match frame:
            case GatewayEvent() if phase is Phase.ONLINE or phase is Phase.STORING:
                self._on_event(frame)
            case frames.Response() if phase in _GREETED:
                self._on_response(frame, size)
            case GatewayEvent(name=frames.EVENT_CHALLENGE) if phase is Phase.CHALLENGE:
                self._on_challenge(frame.payload)
            case frames.Response(id=self._connect_id) if phase is Phase.HELLO:
                self._on_connect_answer(frame, size)
            case frames.Pong():
                pass
            case _:
                self._counters.ignored_frames += 1

    def _on_challenge(self, payload: object) -> None:
        params = self._admission.answer(payload)
        if isinstance(params, Ending):
            self._end(params)
            return
        self._connect_id = self._next_id()
        request = frames.encode_request(self._connect_id, frames.METHOD_CONNECT, params)
        self._link.outbox.text(request)
        self._enter(Phase.HELLO, self._settings.timeouts.hello)

    def _on_connect_answer(self, answer: frames.Response, size: int) -> None:
        hello = self._admission.hello_of(answer, size)
        if isinstance(hello, Ending):
            self._end(hello)
            return
        self.hello = hello
        self.redaction.add(secrets_of_hello(hello.payload))
        self._probes = self._start_keepalive(hello.policy.tick_interval)
        if self._settings.dialect is Dialect.GATEWAY_V4:
            self._expected_seq = 1  # seq starts at 1 on each connection (wire.md 3)
        self.issued = self._admission.new_tokens(hello)
        if self.issued:
            tokens = tuple(self.issued.items())
            told = events.DeviceTokenIssued(self.attempt.transport_id, tokens)
            self._queue.put_notice(told)
            self._queue.hold()
            self._enter(Phase.STORING, STORING_LIMIT)
        else:
            self._go_online()

    def _go_online(self, *notices: events.Notice) -> None:
        """Let Online be told, then ``notices``, then what was held back until now."""
        hello, previous = self.hello, self.attempt.previous
        assert hello is not None
        self._timers.stop(_Timer.PHASE)
        self.phase = Phase.ONLINE
        self.online_since = self._now
        resync = previous is not None
        boot_changed = previous is not None and hello.is_of_another_boot(previous.boot_id)
        self._counters.online += 1
        self._counters.reconnects += resync
        told = self.redaction.hello(hello, (self._identity.role, *self._identity.scopes))
        transport_id = self.attempt.transport_id
        self._queue.put(events.Online(told, resync, boot_changed, transport_id))
        requested = self._identity.scopes
        if hello.scopes is not None and not set(requested) <= set(hello.scopes):
            self._queue.put_notice(events.ScopesReduced(requested, told.scopes or ()))
        for notice in notices:
            self._queue.put_notice(notice)
        self._queue.release()
        self._backlog.meet(self._standing.name, hello.boot_id)
        self._standing.hold()
        self.take_from_backlog(self._now)

    def _start_keepalive(self, tick_interval: float) -> Probes:
        settings, counters = self._settings, self._counters
        keepalive = Keepalive(settings.keepalive, tick_interval, self._timers, counters, self._now)
        return Probes(settings, keepalive, self._link, self._next_id, self._queue, counters)

    def _on_event(self, event: GatewayEvent) -> None:
        self._counters.events += 1
        name, seq, expected, missed = event.name, event.seq, self._expected_seq, 0
        if seq is not None and (expected is None or seq >= expected):
            self._expected_seq = seq + 1
            if expected is not None and seq > expected:
                missed = seq - expected
                self._counters.gap(missed)
        if name == frames.EVENT_SHUTDOWN and isinstance(event.payload, dict):
            hint = frames.seconds_from_ms(event.payload.get("restartExpectedMs"))
            if hint is not None:
                self._retry_after = (self._now, hint)
        told = self.redaction.name(name)
        if told != name:
            event = attrs.evolve(event, name=told)
        self._queue.put_gateway_event(event, missed)

    def _on_response(self, response: frames.Response, size: int) -> None:
        assert self._probes is not None
        if self._probes.answered(response.id, self._now):
            return
        if response.error is not None:
            response = attrs.evolve(response, error=self.redaction.error(response.error))
        outcome = self._requests.on_response(response, size, self._now)
        if outcome is None:
            self._counters.ignored_frames += 1
        elif outcome is not Postponed.POSTPONED:
            self._queue.put(outcome)

    def _until_asked_again(self, hint: float | None, times: int) -> float:
        """Return the seconds until a refused request is sent again: as after a refused connect."""
        settings = self._settings.reconnect
        delay = backoff(times, settings, self._random)
        return max(settings.minimum, delay) + (hint or 0.0)

    # --- the end ----------------------------------------------------------------------------

    def _enter(self, phase: Phase, limit: float) -> None:
        self.phase = phase
        self._timers.set(_Timer.PHASE, self._now + limit)

    def _end(self, ending: Ending) -> None:
        """Decide the ending; only the first one counts. A Close frame of ours has its time."""
        if self.ending is not None:
            return
        online = self.phase is Phase.ONLINE
        self.cause = attrs.evolve(
            ending,
            online=online,
            transport_opened=self._opened,
            retry_after=self._hint(ending),
        )
        self.ending = self.redaction.ending(self.cause)
        boot_id = None if self.hello is None else self.hello.boot_id
        standing = self._standing
        outcomes, carried = self._requests.end(
            self.ending,
            standing.name,
            boot_id,
            self._now,
            is_leaving=standing.is_leaving,
        )
        for outcome in outcomes:
            self._queue.put(outcome)
        self._backlog.carry(carried)
        if online:
            self._counters.disconnects += ending.kind is not EndKind.STOPPED
            self._queue.put(events.Offline(self.ending))
        elif self.phase is Phase.STORING:
            self._queue.drop_held()
        self._timers.stop_all()
        if self._link.outbox.closed:
            self.phase = Phase.CLOSING
            self._timers.set(_Timer.CLOSE, self._now + self._settings.timeouts.close)
        else:
            self._close()

    def _close(self) -> None:
        self.phase = Phase.CLOSED
        self._timers.stop_all()

    def _hint(self, ending: Ending) -> float | None:
        """Return the peer's hint, counted from now; a shutdown's counts from its arrival."""
        if self._retry_after is None:
            return ending.retry_after
        told_at, hint = self._retry_after
        return max(0.0, told_at + hint - self._now, ending.retry_after or 0.0)


def check_size(hello: events.Hello, size: int) -> None:
    """Raise `MessageTooLarge` for what the gateway would close the connection over."""
    largest = hello.policy.max_payload
    if size > largest:
        raise MessageTooLarge(f"{size} bytes; the gateway takes at most {largest}")


_GREETED: Final = (Phase.STORING, Phase.ONLINE)
_TOO_LATE: Final = {
    Phase.OPENING: EndKind.OPEN_TIMEOUT,
    Phase.CHALLENGE: EndKind.CHALLENGE_TIMEOUT,
    Phase.HELLO: EndKind.HELLO_TIMEOUT,
}
