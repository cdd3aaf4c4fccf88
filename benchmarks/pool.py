"""A pool against one connector: the same events, the same requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from benchmarks.canned import answer, feed, greet, online, stream_of
from benchmarks.timing import Case, Group, run_as_script
from butter_proto import Pool
from butter_proto.settings import Json, Settings

_PARAMS = {"text": "how much is the fish", "number": 7}
_SETTINGS = Settings(json=Json.STDLIB)


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    many, times = (1_000, 200) if quick else (30_000, 5_000)
    return [
        Group(
            "events of 300 B (per event)",
            [
                Case("a Connector", many, lambda: _events_of_one(many)),
                Case("a Pool of 2", many, lambda: _events(2, many)),
                Case("a Pool of 10", many, lambda: _events(10, many)),
            ],
        ),
        Group(
            "a request and its answer (per request)",
            [
                Case("a Pool of 2", times, lambda: _requests(2, times)),
                Case("a Pool of 10", times, lambda: _requests(10, times)),
            ],
        ),
    ]


def _pool(gateways: int) -> tuple[Pool, int]:
    """Return a pool whose gateways are all online, and the transport of its primary."""
    random = Random(1)  # noqa: S311 - start order, nonces, masks
    urls = [f"ws://gateway{number}.local:18789/" for number in range(gateways)]
    pool = Pool(urls, _SETTINGS, random=random.random, entropy=random.randbytes)
    pool.start(0.0)
    transports = [greet(pool, str(number)) for number in range(1, gateways + 1)]
    return pool, transports[0]


def _events_of_one(count: int) -> Callable[[], object]:
    machine, transport_id = online(_SETTINGS)
    data = stream_of(count, 232)
    return lambda: feed(machine, transport_id, data)


def _events(gateways: int, count: int) -> Callable[[], object]:
    pool, transport_id = _pool(gateways)
    data = stream_of(count, 232)
    return lambda: feed(pool, transport_id, data)


def _requests(gateways: int, times: int) -> Callable[[], object]:
    pool, transport_id = _pool(gateways)
    first = gateways + 1
    answers = [answer(str(number), _PARAMS) for number in range(first, first + times)]

    def run() -> int:
        told = 0
        for data in answers:
            pool.request("bench.echo", _PARAMS, now=0.0)
            pool.data_to_send(transport_id)
            told += feed(pool, transport_id, data)
        return told

    return run


if __name__ == "__main__":
    run_as_script(groups)
