"""Chat turns that are under way when the real gateway restarts (wire.md 11 and 14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from typing import Any, Final

import attrs
import pytest
import trio

from butter_proto.errors import RequestFailed
from butter_proto.request_options import Offline, RequestOptions
from tests.chaos.faults import TABLE
from tests.chaos.proxy import Proxy

from .fake_model import FakeModel
from .real_gateway import RealGateway
from .restarts import restarted
from .scenario import ADAPTERS, IMPATIENT, Client, connected, scenario

pytestmark = pytest.mark.live

LOOK_AGAIN: Final = 0.2
"""Seconds between two looks into the history."""


class Kind(Enum):
    """How a turn meets the restart."""

    TOLD = "its answer came before"
    LOST = "its answer is lost with its connection, and the run goes on"
    REPLAYED = "as LOST, and it may be sent again"
    LATE = "it is sent after the signal, to be asked again"

    @property
    def answer_is_lost(self) -> bool:
        return self in (Kind.LOST, Kind.REPLAYED)

    @property
    def options(self) -> RequestOptions:
        match self:
            case Kind.REPLAYED:
                return {"replay": True}
            case Kind.LATE:
                return {"offline": Offline.QUEUE, "retry_unavailable": True}
            case _:
                return {}


OUTCOMES: Final = {
    "SIGUSR2": {
        Kind.TOLD: {"started"},
        Kind.LOST: {"may have executed"},
        Kind.REPLAYED: {"in_flight", "ok"},
        Kind.LATE: {"started"},
    },
    "SIGTERM": {
        Kind.TOLD: {"started"},
        Kind.LOST: {"may have executed"},
        Kind.REPLAYED: {"may have executed"},
        Kind.LATE: {"started"},
    },
}
"""What is told of each.

While it waits for its runs after SIGUSR2 the gateway lets clients in, and a replay meets the same
boot; after SIGTERM nobody gets in, and the next process is another boot.
"""


@attrs.define(eq=False)
class Turn:
    """One message in a session of its own, and what was told of it."""

    kind: Kind
    key: str
    client: Client
    proxy: Proxy
    told: str = ""
    rows: list[dict[str, Any]] = attrs.field(factory=list)
    """Its session's history, after another turn."""

    @property
    def session(self) -> str:
        return f"agent:main:{self.key}"

    @property
    def message(self) -> str:
        return f"Say something about {self.key}."

    async def send(self) -> None:
        params = {"sessionKey": self.session, "message": self.message}
        options: RequestOptions = {
            "timeout": None,
            "idempotency_key": self.key,
            **self.kind.options,
        }
        try:
            answer = await self.client.request("chat.send", params, **options)
        except RequestFailed as failure:
            self.told = failure.delivery.value
        else:
            self.told = answer["status"]

    async def until_rows(self, watcher: Client, *roles: str) -> list[dict[str, Any]]:
        """Look into the history until it has so many rows of these roles; return all of its rows."""
        while True:
            params = {"sessionKey": self.session, "limit": 20}
            rows: list[dict[str, Any]] = (await watcher.request("chat.history", params))["messages"]
            if Counter(roles) <= Counter(row["role"] for row in rows):
                return rows
            await trio.sleep(LOOK_AGAIN)

    async def until_running(self, watcher: Client, model: FakeModel) -> None:
        """Wait until it is stored and runs: before that, SIGTERM may undo it (wire.md 14)."""
        await self.until_rows(watcher, "user")
        while not self.calls_of(model):  # noqa: ASYNC110 - made in another thread
            await trio.sleep(LOOK_AGAIN)

    def calls_of(self, model: FakeModel) -> int:
        """Count how often the model was asked for it."""
        return sum(self.message in str(request) for request in model.requests)

    async def run_another(self, watcher: Client) -> None:
        """Let another turn run, before which one that came twice would run."""
        params = {"sessionKey": self.session, "message": "Next.", "idempotencyKey": f"{self.key}-2"}
        await watcher.request("chat.send", params)
        self.rows = await self.until_rows(watcher, *("user", "assistant") * 2)

    def assert_once(self, reply: str) -> None:
        """It has one row of each role, and the other turn has the rest."""
        user, assistant, *rest = self.rows
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert user["idempotencyKey"] == f"{self.key}:user"
        assert assistant["__openclaw"]["runId"] == self.key
        assert reply in str(assistant["content"])
        assert [row["role"] for row in rest] == ["user", "assistant"]
        assert rest[0]["idempotencyKey"] == f"{self.key}-2:user"


@asynccontextmanager
async def turn(gateway: RealGateway, way: str, over: str, kind: Kind) -> AsyncIterator[Turn]:
    proxy = Proxy(gateway.url)
    async with (
        proxy.serving(),
        connected(gateway, IMPATIENT, over=over, url=proxy.url) as client,
    ):
        yield Turn(kind, f"{way}-{over}-{kind.name.lower()}", client, proxy)


@pytest.mark.parametrize("way", OUTCOMES)
@scenario(150, once=True)
async def test_a_turn_leaves_one_row_of_each_role_whatever_was_told(
    gateway_with_model: RealGateway, model: FakeModel, way: str, record_property: Any
) -> None:
    model.reply, model.chunks, model.delay = "Bread and butter, slowly.", 20, 0.1
    model.requests.clear()
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(connected(gateway_with_model, over="trio"))
        turns = [
            await stack.enter_async_context(turn(gateway_with_model, way, over, kind))
            for over in ADAPTERS
            for kind in Kind
        ]
        late = [one for one in turns if one.kind is Kind.LATE]
        early = [one for one in turns if one.kind is not Kind.LATE]
        lost = [one for one in turns if one.kind.answer_is_lost]
        for one in lost:
            one.proxy.strike(TABLE["answers lost"])
        async with trio.open_nursery() as nursery:
            for one in early:
                nursery.start_soon(one.send)
            for one in early:
                await one.until_running(watcher, model)
            nursery.start_soon(restarted, gateway_with_model, way)
            await trio.sleep(0.3)
            for one in lost:
                one.proxy.strike(TABLE["cut"])
            for one in late:
                nursery.start_soon(one.send)
        await watcher.wait_online()
        for one in turns:
            await one.until_rows(watcher, "user", "assistant")
        assert [one.calls_of(model) for one in turns] == [1] * len(turns)
        model.chunks = 1
        async with trio.open_nursery() as nursery:
            for one in turns:
                nursery.start_soon(one.run_another, watcher)

    record_property(f"{way}: told", {one.key: one.told for one in turns})
    for one in turns:
        assert one.told in OUTCOMES[way][one.kind]
        one.assert_once(model.reply)
