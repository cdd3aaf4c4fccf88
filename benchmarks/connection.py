"""One connection: from bytes to events, and from the upgrade to hello."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from benchmarks.canned import event, feed, is_online, online, stream_of
from benchmarks.timing import Case, Group, run_as_script
from butter_proto.settings import Json, Settings

CORE = "the core alone: bytes to event, 300 B"
"""The group that a target of the comparison with the peers names."""
JSON_LOADS, STDLIB, MSGSPEC = "json.loads", "with stdlib json", "with msgspec"
_TEXT_OF_300 = 232
"""Characters of text in an event that has 300 bytes."""
_ENOUGH = 1_000
"""Events that take long enough to be timed."""


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    counts = (1, 100, 2_000) if quick else (1, 1_000, 30_000, 1_000_000)
    handshakes = 20 if quick else 500
    return [
        core(quick),
        Group(
            "events on one connection, by how many come at once (per event)",
            [_burst(count) for count in reversed(counts)],
        ),
        Group(
            "from start to online (per connection)",
            [Case("a Connector", handshakes, lambda: _handshakes(handshakes))],
        ),
    ]


def core(quick: bool) -> Group:  # noqa: FBT001 - the one question
    """Return the group `CORE`."""
    many = 1_000 if quick else 30_000
    return Group(
        CORE,
        [
            Case(JSON_LOADS, many, lambda: _loads(many)),
            Case(STDLIB, many, _feed(Json.STDLIB, many)),
            Case(MSGSPEC, many, _feed(Json.MSGSPEC, many)),
        ],
    )


def _loads(count: int) -> Callable[[], object]:
    text = event(count, _TEXT_OF_300).decode()

    def run() -> int:
        loads = json.loads
        for _ in range(count):
            loads(text)
        return count

    return run


def _feed(choice: Json, count: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        machine, transport_id = online(Settings(json=choice))
        data = stream_of(count, _TEXT_OF_300)
        return lambda: feed(machine, transport_id, data)

    return prepare


def _burst(count: int) -> Case:
    """Let so many events come at once; few of them again and again."""
    times = max(1, _ENOUGH // count)

    def prepare() -> Callable[[], object]:
        machine, transport_id = online(Settings(json=Json.STDLIB))
        firsts = range(1, times * count + 1, count)
        bursts = [stream_of(count, _TEXT_OF_300, first) for first in firsts]
        return lambda: sum(feed(machine, transport_id, burst) for burst in bursts)

    return Case(f"{count:,}", times * count, prepare)


def _handshakes(count: int) -> Callable[[], object]:
    return lambda: sum(is_online(online()[0]) for _ in range(count))


if __name__ == "__main__":
    run_as_script(groups)
