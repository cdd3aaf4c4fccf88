"""Chat turns that are under way when the real gateway restarts (wire.md 11 and 14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from butter_proto.errors import RequestFailed

from .fake_model import FakeModel
from .real_gateway import RealGateway
from .restarts import restarted
from .scenario import ADAPTERS, Client, connected, scenario
from .withholding_relay import WithholdingRelay, withholding_relay

pytestmark = pytest.mark.live

LOOK_AGAIN = 0.2
"""Seconds between two looks into the history."""


@attrs.define(eq=False)
class Turn:
    """One message in a session of its own, and what was told of it."""

    key: str
    client: Client
    line: WithholdingRelay
    lost: bool
    """Whether its answer is lost on the way."""
    told: Any = None

    @property
    def session(self) -> str:
        return f"agent:main:{self.key}"

    @property
    def message(self) -> str:
        return f"Say something about {self.key}."

    async def send(self) -> None:
        params = {"sessionKey": self.session, "message": self.message, "idempotencyKey": self.key}
        try:
            self.told = (await self.client.request("chat.send", params, timeout=None))["status"]
        except RequestFailed as failure:
            self.told = failure.delivery.value

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

    async def rows_after_another(self, watcher: Client) -> list[dict[str, Any]]:
        """Let another turn run, before which one that came twice would run; return all rows."""
        params = {"sessionKey": self.session, "message": "Next.", "idempotencyKey": f"{self.key}-2"}
        await watcher.request("chat.send", params)
        return await self.until_rows(watcher, "user", "assistant", "user", "assistant")

    def assert_once(self, rows: list[dict[str, Any]], reply: str) -> None:
        """It has one row of each role, and the other turn has the rest."""
        user, assistant, *rest = rows
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert user["idempotencyKey"] == f"{self.key}:user"
        assert assistant["__openclaw"]["runId"] == self.key
        assert reply in str(assistant["content"])
        assert [row["role"] for row in rest] == ["user", "assistant"]
        assert rest[0]["idempotencyKey"] == f"{self.key}-2:user"


@asynccontextmanager
async def turn(gateway: RealGateway, way: str, over: str, *, lost: bool) -> AsyncIterator[Turn]:
    async with (
        withholding_relay(gateway.url) as line,
        connected(gateway, over=over, url=line.url) as client,
    ):
        yield Turn(f"{way}-{over}-{'lost' if lost else 'told'}", client, line, lost)


@pytest.mark.parametrize("way", ["SIGUSR2", "SIGTERM"])
@scenario(120, once=True)
async def test_a_turn_leaves_one_row_of_each_role_whatever_was_told(
    gateway_with_model: RealGateway, model: FakeModel, way: str, record_property: Any
) -> None:
    """Of half the turns the answer is lost with its connection, while the run goes on."""
    model.reply, model.chunks, model.delay = "Bread and butter, slowly.", 20, 0.1
    model.requests.clear()
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(connected(gateway_with_model, over="trio"))
        turns = [
            await stack.enter_async_context(turn(gateway_with_model, way, over, lost=lost))
            for over in ADAPTERS
            for lost in (False, True)
        ]
        for one in turns:
            if one.lost:
                one.line.withhold()
        async with trio.open_nursery() as nursery:
            for one in turns:
                nursery.start_soon(one.send)
            for one in turns:
                await one.until_running(watcher, model)
            nursery.start_soon(restarted, gateway_with_model, way)
            for one in turns:
                if one.lost:
                    one.line.cut()
        await watcher.wait_online()
        for one in turns:
            await one.until_rows(watcher, "user", "assistant")
        assert [one.calls_of(model) for one in turns] == [1] * len(turns)
        model.chunks = 1
        rows = [await one.rows_after_another(watcher) for one in turns]

    record_property(f"{way}: told", dict(Counter(one.told for one in turns)))
    for one, of_one in zip(turns, rows, strict=True):
        assert one.told == ("may have executed" if one.lost else "started")
        one.assert_once(of_one, model.reply)
