"""The link: bytes to messages and back, without JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from benchmarks.canned import event, frame, stream_of, upgraded
from benchmarks.timing import Case, Group, run_as_script
from butter_proto.counters import Counters
from butter_proto.endpoint import parse_url
from butter_proto.link import Received
from butter_proto.settings import Limits
from butter_proto.websocket import WebSocketLink

_PIECE = 65536


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    many = 500 if quick else 20_000
    sizes = (10, 1000, 100_000) if quick else (10, 1000, 100_000, 2_500_000, 25_000_000)
    total = 200_000 if quick else 25_000_000
    alone = 2_000 if quick else 200_000
    return [
        Group(
            "a message of 300 B in",
            [
                Case("str() of its bytes", many, lambda: _only_text(event(1, 240), many)),
                Case("the usual frame", many, lambda: _receive(stream_of(many, 240), many)),
                Case("in two fragments (wsproto)", many, lambda: _receive(_cut(many), many)),
            ],
        ),
        Group(
            "bytes in, by the size of a message (per kB)",
            [
                Case(f"{size:,} B", max(1, total // 1000), _kilobytes(size, total, _PIECE))
                for size in sizes
            ],
        ),
        Group(
            "one byte at a time, by the size of a message (per byte)",
            [
                Case(f"{size:,} B", size, _kilobytes(size, size, 1, unit=1))
                for size in (1000, 10_000, alone)
            ],
        ),
        Group(
            "bytes out, by the size of a message (per kB)",
            [
                Case(f"{size:,} B", max(1, total // 1000), _send(size, total // size))
                for size in sizes
            ],
        ),
    ]


def _only_text(data: bytes, times: int) -> Callable[[], object]:
    def run() -> int:
        for _ in range(times):
            str(data, "utf-8")
        return times

    return run


def _cut(count: int) -> bytes:
    data = event(1, 240)
    return (frame(0x01, data[:100]) + frame(0x80, data[100:])) * count


def _opened() -> WebSocketLink:
    link = WebSocketLink(
        parse_url("ws://gateway.local/")[0],
        Limits(),
        Random(1).randbytes,  # noqa: S311 - the masks
        Counters(),
    )
    link.start()
    head = link.data_to_send(0.0)
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r")[0]
    link.receive(upgraded(key))
    assert link.next_item() is not None
    return link


def _receive(
    data: bytes, count: int, piece: int = _PIECE, result: int | None = None
) -> Callable[[], object]:
    link = _opened()

    def run() -> Any:
        taken = 0
        for start in range(0, len(data), piece):
            link.receive(data[start : start + piece])
            while (item := link.next_item()) is not None:
                assert isinstance(item, Received)
                taken += 1
        assert taken == count, taken
        return count if result is None else result

    return run


def _kilobytes(
    size: int, total: int, piece: int, unit: int = 1000
) -> Callable[[], Callable[[], object]]:
    count = total // size

    def prepare() -> Callable[[], object]:
        data = frame(0x81, b"x" * size) * count
        return _receive(data, count, piece, max(1, total // unit))

    return prepare


def _send(size: int, count: int) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        link, payload = _opened(), b"x" * size

        def run() -> None:
            sent = 0
            for _ in range(count):
                link.outbox.text(payload)
                while data := link.data_to_send(0.0):
                    sent += len(data)
            assert sent > size * count

        return run

    return prepare


if __name__ == "__main__":
    run_as_script(groups)
