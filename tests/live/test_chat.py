"""A chat turn over the real gateway: its acknowledgement, its events, its row in the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from butter_proto.errors import RequestRefused
from butter_proto.events import EventsMissed, GatewayEvent

from .fake_model import FakeModel
from .real_gateway import RealGateway
from .scenario import Client, adapter, connected, scenario

pytestmark = pytest.mark.live


def session() -> str:
    """Name a chat session of this adapter's own."""
    return f"agent:main:{adapter()}"


def message() -> str:
    return f"Say something over {adapter()}."


def turn(key: str) -> dict[str, str]:
    return {"sessionKey": session(), "message": message(), "idempotencyKey": key}


async def history_of(client: Client) -> list[dict[str, Any]]:
    answer = await client.request("chat.history", {"sessionKey": session(), "limit": 20})
    messages: list[dict[str, Any]] = answer["messages"]
    return messages


async def run_of(
    events: AsyncIterator[GatewayEvent | EventsMissed], key: str, state: str, count: int = 1
) -> list[GatewayEvent]:
    """Read this run's events until `count` chat events had that state; nothing may be missed."""
    run: list[GatewayEvent] = []
    async for event in events:
        assert isinstance(event, GatewayEvent)
        if event.payload.get("runId") == key:
            run.append(event)
            count -= event.payload.get("state") == state
        if not count:
            break
    return run


@scenario(60)
async def test_a_turn_without_a_model_ends_with_its_errors_and_a_row_in_the_history(
    gateway: RealGateway,
) -> None:
    """Two terminal ``error`` events for one run, the second with its seq back at 1 (wire.md 11)."""
    key = f"no-model-{adapter()}"
    async with connected(gateway) as client, client.events("chat", "agent") as events:
        ack = await client.request("chat.send", turn(key))
        assert ack == {"runId": key, "status": "started"}
        run = await run_of(events, key, "error", 2)
        errors = [event.payload for event in run if event.payload.get("state") == "error"]
        assert "authentication" in errors[0]["errorMessage"]
        assert errors[1]["seq"] == 1
        assert [event.name for event in run].count("agent") >= 1

        rows = await history_of(client)
        assert "run-failed-before-reply" in [row.get("customType") for row in rows]

        with pytest.raises(RequestRefused) as raised:
            await client.request("chat.send", turn(key))
        assert raised.value.idempotency_key == key
        assert raised.value.error is not None
        assert raised.value.error.code == "UNAVAILABLE"
        assert raised.value.payload["status"] == "error"


@scenario(60)
async def test_a_turn_streams_and_the_same_idempotency_key_runs_it_once(
    gateway_with_model: RealGateway, model: FakeModel
) -> None:
    model.reply = "Bread and butter, piece by piece."
    model.chunks, model.delay = 10, 0.15
    key = f"streamed-{adapter()}"
    async with connected(gateway_with_model) as client, client.events("chat", "agent") as events:
        ack = await client.request("chat.send", turn(key))
        assert ack == {"runId": key, "status": "started"}
        run = await run_of(events, key, "final")
        chat = [event.payload for event in run if event.name == "chat"]
        deltas = [payload["deltaText"] for payload in chat if payload["state"] == "delta"]
        assert len(deltas) > 1
        assert "".join(deltas) == model.reply
        assert chat[-1]["message"]["content"] == [{"type": "text", "text": model.reply}]
        seqs = [event.seq for event in run]
        assert seqs == sorted(seqs, key=lambda seq: seq or 0)

        again = await client.request("chat.send", turn(key))
        assert again["status"] in ("in_flight", "ok")
        rows = await history_of(client)
        assert [row["role"] for row in rows] == ["user", "assistant"]
        assert model.reply in str(rows[1]["content"])
        assert (client.stats.attempts, client.stats.dropped_events) == (1, 0)
    assert sum(message() in str(request) for request in model.requests) == 1
