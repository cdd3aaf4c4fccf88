"""The adapters' common half, pure: outcomes to waiters, events to subscriptions, exceptions.

Rules kept here:

* Every event of the machine is delivered here once, in order; nothing here waits or does I/O.
  An adapter passes functions that wake its own kind of waiter.
* What one gateway of a pool tells of itself is told on with its name; the answers and the gateway
  events of a pool are told as those of one gateway are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from butter_proto import errors, events
from butter_proto.reconnect import advice
from butter_proto.request_options import Offline, RequestOptions
from butter_proto.settings import Limits
from butter_proto.subscriptions import (
    EventSubscription,
    GatewaySubscription,
    NoticeSubscription,
    StateSubscription,
    Subscription,
    Wake,
)

Waiter = Callable[[events.Outcome], None]
_S = TypeVar("_S", bound="Subscription[Any]")


def result_of(outcome: events.Outcome) -> Any:
    """Return the payload of an outcome, or raise the exception that it stands for."""
    if isinstance(outcome, events.Replied):
        return outcome.payload
    kind = errors.RequestTimeout if outcome.timed_out else _FAILURES[outcome.delivery]
    raise kind(
        outcome.method,
        outcome.id,
        outcome.delivery,
        idempotency_key=outcome.idempotency_key,
        error=outcome.error,
        payload=outcome.payload,
        text=_reason(outcome),
    )


_FAILURES: Final = {
    errors.Delivery.NOT_SENT: errors.RequestNotSent,
    errors.Delivery.MAY_HAVE_EXECUTED: errors.RequestMayHaveExecuted,
    errors.Delivery.REFUSED: errors.RequestRefused,
}


def _reason(outcome: events.RequestFailed) -> str:
    if outcome.timed_out:
        return "its deadline passed"
    return str(outcome.ending) if outcome.ending is not None else outcome.text


_STANDING: Final = (
    events.ScopesReduced,
    events.PairingRequired,
    events.DeviceTokenNotStored,
    events.DeviceTokenRejected,
)
"""Notices that stay true until the next Online of their gateway: told first to who subscribes
later."""


def check_in_hook(options: RequestOptions) -> None:
    """Refuse a request for which the ``on_online`` hook itself would wait for its own end.

    The queue waits for the hook. Raises `LocalProtocolError` for ``offline=QUEUE``.
    """
    if options.get("offline") is Offline.QUEUE:
        raise errors.LocalProtocolError(
            "on_online would wait for its own end: the queue does; leave offline=QUEUE out here"
        )


class Client:
    """Routes a machine's events to those who wait for them.

    ``has_hook`` says whether an ``on_online`` hook is run after each Online.
    """

    def __init__(
        self, max_event_bytes: int = Limits().max_event_bytes, *, has_hook: bool = False
    ) -> None:
        self.max_event_bytes = max_event_bytes
        self._has_hook = has_hook
        self._hooked = 0
        self._waiters: dict[str, Waiter] = {}
        self._events: dict[EventSubscription, None] = {}
        self._states: dict[StateSubscription, None] = {}
        self._notices: dict[NoticeSubscription, None] = {}
        self._gateways: dict[GatewaySubscription, None] = {}
        self._standing: dict[tuple[str | None, type[events.Notice]], events.Notice] = {}
        self._last_states: dict[str, events.StateEvent] = {}
        self._last_state: events.StateEvent | None = None
        self._transport_id = 0
        self.dropped_events = 0
        """Events that a reader lost, each counted once for each reader."""
        self.generation = 0
        """Counts the Online events: two equal values mean the same connection."""
        self.hello: events.Hello | None = None
        """The last hello; it stays readable while offline."""
        self.last_ending: errors.Ending | None = None

    @property
    def online(self) -> bool:
        """True between Online and Offline."""
        return isinstance(self._last_state, events.Online)

    @property
    def hook_is_due(self) -> bool:
        """True where the hook has not run to its end since the present Online."""
        return self._has_hook and self.online and self._hooked != self.generation

    @property
    def is_ready(self) -> bool:
        """True while online, once the hook has run."""
        return self.online and not self.hook_is_due

    def is_still(self, generation: int) -> bool:
        """Tell whether the Online of that generation is not over yet."""
        return self.online and self.generation == generation

    def hook_has_run(self, generation: int) -> int | None:
        """Take note that the hook has run for an Online; None where that one is over by now.

        Else return the transport id that the machine's ``resynced`` is to be told.
        """
        if not self.is_still(generation):
            return None
        self._hooked = generation
        return self._transport_id

    @property
    def stopped(self) -> bool:
        """True once nothing more will be delivered."""
        return isinstance(self._last_state, events.Stopped)

    @property
    def failure(self) -> errors.ConnectionEnded | None:
        """What a waiter for Online must be told now: gave up, stopped, or None: go on waiting."""
        match self._last_state:
            case events.GaveUp(ending=ending, advice=advice):
                return errors.GaveUp(ending, advice)
            case events.Stopped():
                return errors.ConnectionEnded("the connector was stopped", self.last_ending)
        return None

    def connect_timeout(self, seconds: float) -> errors.ConnectTimeout:
        """Make the exception for a wait that took too long."""
        ending = self.last_ending
        if self.online:
            text = f"online, but on_online has not finished after {seconds:g} s"
            return errors.ConnectTimeout(text, ending)
        why = "the first attempt is under way"
        if ending is not None:
            why = f"{ending}. {advice(ending)}".rstrip()
        return errors.ConnectTimeout(f"not online after {seconds:g} s: {why}", ending)

    def expect(self, request_id: str, waiter: Waiter) -> None:
        """Call ``waiter`` with the outcome of a request, once."""
        self._waiters[request_id] = waiter

    def forget(self, request_id: str) -> None:
        """Let an outcome pass unheard."""
        self._waiters.pop(request_id, None)

    def subscribe(self, names: tuple[str, ...], limit: int, wake: Wake) -> EventSubscription:
        """Subscribe to gateway events from now on. Raises `InvalidSettings`."""
        if not all(isinstance(name, str) for name in names):
            raise errors.InvalidSettings(f"an event's name is a str: {names!r}")
        subscription = EventSubscription(
            frozenset(names), limit, wake, self.max_event_bytes, self.count_lost
        )
        if isinstance(self._last_state, events.GaveUp):
            subscription.close(self.failure)
        return self._join(self._events, subscription)

    def watch(self, wake: Wake) -> StateSubscription:
        """Subscribe to state events; the present one comes first."""
        subscription = StateSubscription(wake)
        if self._last_state is not None:
            subscription.offer(self._last_state)
        return self._join(self._states, subscription)

    def listen(self, wake: Wake) -> NoticeSubscription:
        """Subscribe to notices; those that still stand come first."""
        subscription = NoticeSubscription(wake)
        for notice in self._standing.values():
            subscription.offer(notice)
        return self._join(self._notices, subscription)

    def watch_gateways(self, wake: Wake) -> GatewaySubscription:
        """Subscribe to what each gateway of a pool tells of itself; what stands comes first."""
        subscription = GatewaySubscription(wake)
        for name, event in self._last_states.items():
            subscription.offer(events.FromGateway(name, event))
        for (gateway, _), notice in self._standing.items():
            if gateway is not None:
                subscription.offer(events.FromGateway(gateway, notice))
        return self._join(self._gateways, subscription)

    def _join(self, subscriptions: dict[_S, None], subscription: _S) -> _S:
        """Let a subscription hear what comes, if anything more will."""
        if self.stopped:
            subscription.close(None)
        if not subscription.closed:
            subscriptions[subscription] = None
        return subscription

    def count_lost(self) -> None:
        """Count an event that a reader lost."""
        self.dropped_events += 1

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """End a subscription; doing it twice is no error."""
        of_all_kinds: tuple[dict[Any, None], ...] = (
            self._events,
            self._states,
            self._notices,
            self._gateways,
        )
        for subscriptions in of_all_kinds:
            subscriptions.pop(subscription, None)
        subscription.close(None)

    def deliver(self, event: events.PoolEvent) -> bool:
        """Route one event of the machine; True: it is for readers or a waiter, and they have it."""
        kind = type(event)
        if kind is events.GatewayEvent:  # by far the most
            for subscription in self._events:
                subscription.offer(event)  # type: ignore[arg-type]
            return True
        if kind is events.Replied:
            self._settle(event)  # type: ignore[arg-type]
            return True
        if isinstance(event, events.FromGateway):
            self._deliver_from(event)
        else:
            self._deliver(event)
        return False

    def _deliver_from(self, signed: events.FromGateway) -> None:
        """Route one event of a gateway of a pool."""
        gateway, event = signed.gateway, signed.event
        if isinstance(event, events.StateEvent):
            self._note_ending(event)
            if isinstance(event, events.Stopped):  # it is no member any more
                self._last_states.pop(gateway, None)
                self._clear_standing(gateway)
            else:
                self._last_states[gateway] = event
            if isinstance(event, events.Online):
                self._clear_standing(gateway)
        elif isinstance(event, events.Notice):
            self._on_notice(event, gateway)
        else:
            self._deliver(event)
            return
        for watcher in self._gateways:
            watcher.offer(signed)

    def _deliver(self, event: events.Event) -> None:
        match event:
            case events.GatewayEvent() | events.EventsMissed():
                self._offer(event)
            case events.Replied() | events.RequestFailed():
                self._settle(event)
            case (
                events.Connecting()
                | events.Online()
                | events.Offline()
                | events.Retrying()
                | events.GaveUp()
                | events.Stopped()
            ):
                self._on_state(event)
            case events.RequestAccepted():
                pass
            case _:
                self._on_notice(event, None)

    def _offer(self, item: events.GatewayEvent | events.EventsMissed) -> None:
        for subscription in self._events:
            subscription.offer(item)

    def _on_state(self, event: events.StateEvent) -> None:
        takes_over = self.online  # one gateway of a pool after another: it tells of the loss
        self._last_state = event
        match event:
            case events.Online():
                self._clear_standing(None)
                self.generation += 1
                self.hello = event.hello
                self._transport_id = event.transport_id
                if event.resync and not takes_over:
                    self._offer(events.EventsMissed(events.MissReason.RECONNECT))
            case events.GaveUp():
                self._close_all(self._events, errors.GaveUp(event.ending, event.advice))
        self._note_ending(event)
        for watcher in self._states:
            watcher.offer(event)
        if isinstance(event, events.Stopped):
            self._fail_waiters()
            self._close_all(self._events, None)
            self._close_all(self._states, None)
            self._close_all(self._notices, None)
            self._close_all(self._gateways, None)

    def _note_ending(self, event: events.StateEvent) -> None:
        """Keep the ending of the last connection, whichever gateway of a pool it was to."""
        if isinstance(event, events.Offline | events.Retrying | events.GaveUp):
            self.last_ending = event.ending

    def _clear_standing(self, gateway: str | None) -> None:
        """Forget the notices of a gateway that stood until now."""
        for key in [key for key in self._standing if key[0] == gateway]:
            del self._standing[key]

    def _fail_waiters(self) -> None:
        """Wake whose outcome is lost: G7 leaves nobody, but Ctrl-C may have cut something off."""
        lost = errors.Delivery.MAY_HAVE_EXECUTED
        for request_id in [*self._waiters]:
            self._settle(events.RequestFailed(request_id, lost, "request", ending=self.last_ending))

    def _settle(self, outcome: events.Outcome) -> None:
        waiter = self._waiters.get(outcome.id)
        if waiter is not None:
            waiter(outcome)
            self._waiters.pop(outcome.id, None)  # not before: Ctrl-C may come between the two

    def _on_notice(self, notice: events.Notice, gateway: str | None) -> None:
        if isinstance(notice, _STANDING):
            self._standing[gateway, type(notice)] = notice
        for listener in self._notices:
            listener.offer(notice)

    @staticmethod
    def _close_all(subscriptions: dict[_S, None], error: errors.ConnectionEnded | None) -> None:
        for subscription in subscriptions:
            subscription.close(error)
        subscriptions.clear()
