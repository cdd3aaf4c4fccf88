"""Async iterators over what a gateway tells."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

import trio

from butter_proto.client import Client
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, Notice, StateEvent
from butter_proto.subscriptions import Subscription

_T = TypeVar("_T")


class Stream(Generic[_T]):
    """An async iterator over a subscription; leaving its ``async with`` unsubscribes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ready = trio.lowlevel.ParkingLot()
        self._subscription: Subscription[_T]

    def _wake(self) -> None:
        if self._ready:
            self._ready.unpark_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribe; what is queued can still be read."""
        self._client.unsubscribe(self._subscription)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        # no full checkpoint per item: a burst must be taken faster than it is read
        await trio.lowlevel.checkpoint_if_cancelled()
        while (item := self._subscription.take()) is None:
            if self._subscription.error is not None:
                raise self._subscription.error
            if self._subscription.closed:
                raise StopAsyncIteration
            await self._ready.park()
        return item


class EventStream(Stream[GatewayEvent | EventsMissed]):
    """Gateway events as they come, losses in their place. Raises `GaveUp` after giving up."""

    def __init__(self, client: Client, names: tuple[str, ...], limit: int) -> None:
        super().__init__(client)
        self._subscription = client.subscribe(names, limit, self._wake)


class StateStream(Stream[StateEvent]):
    """State events, the present one first; ends after Stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._subscription = client.watch(self._wake)


class NoticeStream(Stream[Notice]):
    """Notices: `RoundTrip` of each probe, `ScopesReduced`, `ClockLate`...; ends after Stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._subscription = client.listen(self._wake)


class GatewayStream(Stream[FromGateway]):
    """State events and notices of each gateway of a pool; ends after the pool's Stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._subscription = client.watch_gateways(self._wake)
