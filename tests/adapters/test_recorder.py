"""Both packages record, and write the recording when they give up."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import butter_threads
import butter_trio
from butter_proto.errors import GaveUp
from butter_proto.testing.recording import Recorder, difference, load
from tests.adapters.scenario import TOKEN

WRONG = "another-token-than-that"


def check(text: str) -> None:
    assert TOKEN not in text
    assert WRONG not in text
    assert difference(load(text)) is None


def test_threads_write_it_when_they_give_up(url: str, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    recorder = Recorder(path)
    with pytest.raises(GaveUp):
        butter_threads.connect(url, token=WRONG, recorder=recorder)
    recorder.wait()
    assert '"GaveUp"' in path.read_text()
    check(path.read_text())


def test_trio_writes_it_when_it_gives_up(url: str, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    recorder = Recorder(path)

    async def main() -> None:
        with pytest.raises(GaveUp):
            async with butter_trio.connect(url, token=WRONG, recorder=recorder):
                raise AssertionError

    trio.run(main)
    recorder.wait()
    assert '"GaveUp"' in path.read_text()
    check(path.read_text())


def test_threads_dump_what_they_did_at_any_time(url: str) -> None:
    recorder = Recorder()
    with butter_threads.connect(url, token=TOKEN, recorder=recorder) as gateway:
        gateway.request("health")
        check(recorder.dump())
    check(recorder.dump())


def test_trio_dumps_what_it_did_at_any_time(url: str) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with butter_trio.connect(url, token=TOKEN, recorder=recorder) as gateway:
            await gateway.request("health")
            check(recorder.dump())

    trio.run(main)
    check(recorder.dump())
