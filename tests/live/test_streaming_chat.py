"""The chat example against the real gateway, which loses the connection or dies in the middle.

The example is one for `butter_trio`; so are these.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest
import trio

from butter_proto.machine import OpenTransport
from butter_trio import Gateway, connect, dial_tcp
from examples.streaming_chat import Turn, chat

from .fake_model import FakeModel
from .real_gateway import RealGateway
from .restarts import kill_and_start
from .scenario import IMPATIENT, scenario

pytestmark = pytest.mark.live

REPLY: Final = " ".join(f"word{n}" for n in range(30))
BEGUN_AGAIN: Final = "\n[begun again]\n"


class Printed:
    """What the chat printed so far."""

    def __init__(self) -> None:
        self.text = ""
        self._more = trio.Event()

    def show(self, text: str) -> None:
        self.text += text
        self._more.set()
        self._more = trio.Event()

    async def until(self, part: str) -> None:
        """Wait until this is part of it."""
        while part not in self.text:
            await self._more.wait()


@pytest.fixture
def slow_model(model: FakeModel) -> FakeModel:
    model.reply, model.chunks, model.delay = REPLY, 30, 0.1
    model.requests.clear()
    return model


async def rows_of(client: Gateway, message: str) -> Counter[str]:
    """Count the rows of the history from the message on, by role; each user row by its text."""
    answer = await client.request("chat.history", {"sessionKey": "main", "limit": 50})
    rows = [
        str(row["content"]) if row["role"] == "user" else str(row["role"])
        for row in answer["messages"]
    ]
    return Counter(rows[rows.index(message) :])


def impatient(gateway: RealGateway) -> AbstractAsyncContextManager[Gateway]:
    """Connect so that it is back before the gateway takes up what was interrupted."""
    return connect(gateway.url, token=gateway.token, settings=IMPATIENT)


async def chat_and(
    client: Gateway, message: str, act: Callable[[Printed], Awaitable[None]]
) -> Printed:
    """Chat, and act meanwhile; the reply must come whole."""
    printed = Printed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, printed)
        reply = await chat(client, Turn(f"key of {message}", printed.show), message)
        nursery.cancel_scope.cancel()
    assert reply == REPLY
    return printed


@scenario(60, once=True)
async def test_a_drop_in_the_middle_costs_not_a_character(
    gateway_with_model: RealGateway, slow_model: FakeModel
) -> None:
    streams: list[trio.SocketStream] = []

    async def dial(command: OpenTransport) -> trio.abc.Stream:
        stream = await dial_tcp(command)
        assert isinstance(stream, trio.SocketStream)
        streams.append(stream)
        return stream

    async def drop(printed: Printed) -> None:
        await printed.until("word5")
        streams[-1].socket.shutdown(socket.SHUT_RDWR)

    async with connect(gateway_with_model.url, token=gateway_with_model.token, dial=dial) as client:
        printed = await chat_and(client, "drop", drop)
        assert client.stats.disconnects == 1
        assert printed.text == REPLY
        assert await rows_of(client, "drop") == {"drop": 1, "assistant": 1}
    assert len(slow_model.requests) == 1


@scenario(90, once=True)
async def test_a_kill_in_the_middle_begins_the_reply_again_but_sends_nothing_again(
    gateway_with_model: RealGateway, slow_model: FakeModel, record_property: Any
) -> None:
    async def kill(printed: Printed) -> None:
        await printed.until("word5")
        began = trio.current_time()
        await trio.to_thread.run_sync(kill_and_start, gateway_with_model)
        await printed.until(BEGUN_AGAIN)
        record_property("SIGKILL to the reply begun again, s", f"{trio.current_time() - began:.2f}")

    async with impatient(gateway_with_model) as client:
        printed = await chat_and(client, "kill", kill)
        before, after = printed.text.split(BEGUN_AGAIN)
        assert REPLY.startswith(before)
        assert after == REPLY
        rows = await rows_of(client, "kill")
        assert (rows["kill"], rows["assistant"]) == (1, 1)
    assert len(slow_model.requests) == 2


@scenario(90, once=True)
async def test_a_message_whose_gateway_is_killed_at_once_is_still_answered_once(
    gateway_with_model: RealGateway, slow_model: FakeModel
) -> None:
    """Whether it was lost, taken and never run, or just begun: the history says which."""

    async def kill(_: Printed) -> None:
        await trio.sleep(0.1)
        await trio.to_thread.run_sync(kill_and_start, gateway_with_model)

    async with impatient(gateway_with_model) as client:
        printed = await chat_and(client, "kill at once", kill)
        assert printed.text == REPLY
        rows = await rows_of(client, "kill at once")
        assert (rows["kill at once"], rows["assistant"]) == (1, 1)
    assert len(slow_model.requests) == 1
