"""A stream of events from each of several real gateways, to see which one is heard.

Each ``chat.inject`` is one ``chat`` event to every client of its gateway (wire.md 14).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count, pairwise
from typing import Final

import attrs
import trio

from butter_proto.errors import NotOnline, RequestFailed
from butter_proto.events import EventsMissed, GatewayEvent, MissReason

from .real_gateway import RealGateway
from .scenario import ADMIN, IMPATIENT, connected

INTERVAL: Final = 0.05
"""Seconds between two events of one gateway; a busy gateway takes longer."""
_SESSION: Final = "agent:main:feed"


@attrs.frozen
class Fed:
    """One event of the feed: which gateway it came from, and its number there."""

    gateway: str
    number: int


class Heard:
    """What an application heard of the feed, and what it was told that it missed, with the times."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, Fed | EventsMissed]] = []
        self._news = trio.lowlevel.ParkingLot()

    async def follow(self, events: AsyncIterator[GatewayEvent | EventsMissed]) -> None:
        """Note the events of a subscription to ``chat``; those of no feed are left out."""
        async for event in events:
            self.note(event)

    def note(self, event: GatewayEvent | EventsMissed) -> None:
        noted = event if isinstance(event, EventsMissed) else _fed(event)
        if noted is not None:
            self.entries.append((trio.current_time(), noted))
            self._news.unpark_all()

    async def until(self, *course: str | MissReason) -> None:
        """Wait until this is the course of what was heard, and not another one."""
        while (heard := tuple(self.course())) != course:
            assert heard == course[: len(heard)]
            await self._news.park()

    def course(self) -> list[str | MissReason]:
        """Return whose events came, each run of one gateway once, and each loss in its place."""
        course: list[str | MissReason] = []
        for _, noted in self.entries:
            if isinstance(noted, EventsMissed):
                course.append(noted.reason)
            elif course[-1:] != [noted.gateway]:
                course.append(noted.gateway)
        return course

    def first_loss(self) -> tuple[float, float]:
        """Return when the first loss was told, and when the next event came."""
        [at, *_] = [
            n for n, (_, noted) in enumerate(self.entries) if isinstance(noted, EventsMissed)
        ]
        return self.entries[at][0], self.entries[at + 1][0]

    def assert_without_a_gap(self) -> None:
        """Within a gateway's run every number follows the one before."""
        for (_, before), (_, after) in pairwise(self.entries):
            if isinstance(before, Fed) and isinstance(after, Fed):
                assert after == Fed(before.gateway, before.number + 1)


def _fed(event: GatewayEvent) -> Fed | None:
    if event.payload.get("sessionKey") != _SESSION:
        return None
    name, number = event.payload["message"]["content"][0]["text"].rsplit(" ", 1)
    return Fed(name, int(number))


@asynccontextmanager
async def feeding(gateways: Mapping[str, RealGateway]) -> AsyncIterator[None]:
    """Let every gateway tell one event after the other, each numbered, whatever becomes of it.

    A number may be left out where the gateway goes away, but none comes twice.
    """
    async with trio.open_nursery() as nursery:
        for name, gateway in gateways.items():
            await nursery.start(_feed, name, gateway)
        yield
        nursery.cancel_scope.cancel()


async def _feed(
    name: str, gateway: RealGateway, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    settings = attrs.evolve(ADMIN, reconnect=IMPATIENT.reconnect)
    async with connected(gateway, settings, over="trio") as client:
        await client.request("sessions.create", {"key": _SESSION})
        task_status.started()
        for number in count():
            with suppress(RequestFailed, NotOnline):
                params = {"sessionKey": _SESSION, "message": f"{name} {number}"}
                await client.request("chat.inject", params, timeout=None)
            await trio.sleep(INTERVAL)
            await client.wait_online()
