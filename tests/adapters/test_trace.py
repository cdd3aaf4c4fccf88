"""A wire trace by both packages."""

from __future__ import annotations

import trio

import butter_threads
import butter_trio
from butter_proto.trace import Traced
from tests.adapters.scenario import TOKEN


def check(traced: list[Traced]) -> None:
    """Check the way to online and one request, without a secret."""
    names = [told["event" if "event" in told else "type"] for _, told in messages(traced)]
    assert names[:5] == ["connect.challenge", "req", "res", "req", "res"]
    assert TOKEN not in repr(traced)
    assert traced[0].sent


def messages(traced: list[Traced]) -> list[tuple[bool, dict[str, object]]]:
    return [(one.sent, one.told) for one in traced if isinstance(one.told, dict)]


def test_threads_trace_what_goes_over_the_wire(url: str) -> None:
    traced: list[Traced] = []
    with butter_threads.connect(url, token=TOKEN, trace=traced.append) as gateway:
        gateway.request("health")
    check(traced)


def test_trio_traces_what_goes_over_the_wire(url: str) -> None:
    traced: list[Traced] = []

    async def main() -> None:
        async with butter_trio.connect(url, token=TOKEN, trace=traced.append) as gateway:
            await gateway.request("health")

    trio.run(main)
    check(traced)
