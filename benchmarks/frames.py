"""JSON text to frames and back, with either codec."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from benchmarks.canned import event
from benchmarks.timing import Case, Group, run_as_script
from butter_proto import frames
from butter_proto.codec import Codec, codec_for
from butter_proto.settings import Json

_CODECS = {"stdlib": Json.STDLIB, "msgspec": Json.MSGSPEC}
_PARAMS = {"sessionKey": "agent:main:main", "message": "how much is the fish " * 10, "n": 7}


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return what is timed."""
    made = []
    for size, count in ((100, 20_000), (300, 20_000), (10_000, 2_000), (1_000_000, 20)):
        times = max(2, count // 50) if quick else count
        text = event(1, size).decode()
        cases = [Case("json.loads", times, _times(json.loads, text, times))]
        for name, choice in _CODECS.items():
            cases.append(Case(f"decode, {name}", times, _decode(text, codec_for(choice), times)))
        made.append(Group(f"an event with {size:,} characters of text", cases))
    times = 400 if quick else 20_000
    cases = [Case("json.dumps", times, _times(json.dumps, _PARAMS, times))]
    for name, choice in _CODECS.items():
        cases.append(Case(f"encode_request, {name}", times, _encode(codec_for(choice), times)))
    made.append(Group("a request of 300 B", cases))
    return made


def _times(
    function: Callable[..., object], argument: object, times: int
) -> Callable[[], Callable[[], object]]:
    def run() -> int:
        for _ in range(times):
            function(argument)
        return times

    return lambda: run


def _decode(text: str, codec: Codec, times: int) -> Callable[[], Callable[[], object]]:
    size = len(text)

    def run() -> int:
        for _ in range(times):
            frames.decode(text, size, codec=codec)
        return times

    return lambda: run


def _encode(codec: Codec, times: int) -> Callable[[], Callable[[], object]]:
    def run() -> int:
        for _ in range(times):
            frames.encode_request("1", "chat.send", _PARAMS, codec=codec)
        return times

    return lambda: run


if __name__ == "__main__":
    run_as_script(groups)
