"""What real gateways have executed, as each of them counts it itself.

A gateway stores one row in a chat session for each ``chat.inject`` that it executes, before it
answers; the rows outlive its process, however that ends (wire.md 14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio

from butter_proto.errors import NotOnline, RequestFailed

from .real_gateway import RealGateway
from .scenario import ADMIN, connected

MOST_ROWS: Final = 1000
"""The most that ``chat.history`` gives at once."""
EXECUTIONS: Final[Mapping[str, range]] = {
    "replied": range(1, 2),
    "may have executed": range(2),
    "refused": range(1),
    "not sent": range(1),
    "not accepted": range(1),
}
"""How often a request may have been executed of which this was told."""


class Ledger:
    """One request for each of many marks, and what was told of it.

    `open` it on the gateways first. The marks stand in a chat session of this name, which each
    gateway has for itself; the client that asks needs `ADMIN`.
    """

    def __init__(self, name: str) -> None:
        self._session = f"agent:main:{name}"
        self.told: dict[str, str] = {}
        """What was told of the request for each mark: a key of `EXECUTIONS`."""
        self._news = trio.lowlevel.ParkingLot()

    async def open(self, *gateways: RealGateway) -> None:
        """Make the session, without which the gateway refuses to write."""
        for gateway in gateways:
            async with connected(gateway, ADMIN, over="trio") as client:
                await client.request("sessions.create", {"key": self._session})

    async def ask(
        self, request: Callable[..., Awaitable[Any]], mark: str, **options: Any
    ) -> RequestFailed | NotOnline | None:
        """Ask for one row with this mark by the ``request`` of a client; return what it raised."""
        params = {"sessionKey": self._session, "message": mark}
        failure: RequestFailed | NotOnline | None = None
        told = "replied"
        try:
            await request("chat.inject", params, **options)
        except NotOnline as raised:
            failure, told = raised, "not accepted"
        except RequestFailed as raised:
            failure, told = raised, raised.delivery.value
        assert mark not in self.told
        self.told[mark] = told
        self._news.unpark_all()
        return failure

    async def until_told(self, count: int) -> None:
        """Wait until something was told of so many requests."""
        while len(self.told) < count:
            await self._news.park()

    async def executed(self, gateway: RealGateway) -> Counter[str]:
        """Read how often this gateway executed the request for each mark."""
        async with connected(gateway, ADMIN, over="trio") as client:
            params = {"sessionKey": self._session, "limit": MOST_ROWS}
            history = await client.request("chat.history", params)
        rows = history["messages"]
        assert len(rows) == history["totalMessages"]
        return Counter(row["content"][0]["text"] for row in rows)

    def check(self, executed: Counter[str]) -> None:
        """Assert that all the gateways together executed what was told, and nothing else."""
        assert executed.keys() <= self.told.keys()
        belied = {
            mark: (told, executed[mark])
            for mark, told in self.told.items()
            if executed[mark] not in EXECUTIONS[told]
        }
        assert not belied
