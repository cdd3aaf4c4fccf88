"""Files of strangers: a clear error of our own, whatever stands in them."""

from __future__ import annotations

import json
import os
import stat
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import Credentials, LocalProtocolError, Settings
from butter_proto.identity import VERSION
from butter_proto.private_file import check_replaceable
from butter_proto.testing.recording import (
    BadRecording,
    Recorder,
    difference,
    load,
    load_file,
    replay,
)
from butter_proto.testing.recording.reading import LARGEST
from butter_proto.testing.recording.writer import Writer
from tests.testing.recorded import URL, Recorded

json_values: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def good_lines() -> list[str]:
    one = Recorded()
    one.run(1)
    one.request("echo", params={"text": "said"}, timeout=float(5))
    one.run(1)
    one.machine.cancel("1", one.network.now)
    one.machine.stop(one.network.now)
    one.run(2)
    return one.recorder.dump().splitlines()


def cut_lines() -> list[str]:
    one = Recorded(minutes=0.5)
    one.stand_in.reply("slow", {}, delay=5000)
    one.run(1)
    one.machine.use_credentials(Credentials(token="another"), one.network.now)
    one.request("slow", timeout=4000)
    one.run(60)
    return one.recorder.dump().splitlines()


LINES: Final = good_lines()
CUT: Final = cut_lines()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


PLACES: Final = [
    (lines, number, place)
    for lines in (LINES, CUT)
    for number, line in enumerate(lines)
    for place in places(json.loads(line))
]


def damaged(lines: list[str], number: int, place: tuple[Any, ...], value: Any) -> str:
    told = [json.loads(line) for line in lines]
    box: Any = told
    path = (number, *place)
    for key in path[:-1]:
        box = box[key]
    box[path[-1]] = value
    return "\n".join(json.dumps(line) for line in told)


def test_the_undamaged_file_is_good() -> None:
    for lines in (LINES, CUT):
        assert difference(load("\n".join(lines))) is None
    assert '"cut"' in "".join(CUT)


@given(where=st.sampled_from(PLACES), value=json_values)
@example(where=(LINES, 1, ("at",)), value=10**400)
@example(where=(CUT, len(CUT) - 2, ("did",)), value=[["event", "X", {"request": []}]])
@example(where=(CUT, len(CUT) - 2, ("did",)), value=[["event", {}, {}]])
@example(where=(CUT, len(CUT) - 2, ("did",)), value=[["sent", [], 5]])
def test_a_file_with_anything_anywhere_raises_nothing_but_its_own_error(
    where: tuple[list[str], int, tuple[Any, ...]], value: Any
) -> None:
    with suppress(BadRecording):
        for _ in replay(load(damaged(*where, value))):
            pass


def with_line(line: str) -> str:
    return f"{LINES[0]}\n{line}\n"


def with_data(data: list[int]) -> str:
    given = {"transport_id": 1, "data": data}
    return with_line(json.dumps({"at": 1, "call": "receive_data", "with": given, "did": []}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("\ufeff" + LINES[0], "line 1: it begins with a byte order mark"),
        ("no json", "line 1: it is no JSON from character 1 on"),
        ("[" * 100_000, "line 1: .* too deep"),
        ("[]", "line 1: it is not the first line of a recording"),
        ('{"connector":{}}', "line 1: it is not the first line of a recording"),
        (
            '{"recording":99,"openbutter":"9.8.7"}',
            f"line 1: its format is 99, of openbutter 9.8.7; this is openbutter {VERSION}, which",
        ),
        ('{"recording":1,"connector":{}}', "line 1: .* makes no connector: it lacks 'url'"),
        ('{"recording":1,"connector":5}', "makes no connector: a value in it is none of those"),
        (with_line("null"), "line 2: it is no object"),
        (with_line(""), "line 2: it is empty"),
        (with_line(LINES[1][:-9]), "line 2: it is no JSON from .*: the line was cut off"),
        (with_line('{"a":}'), "line 2: it is no JSON from character 6 on$"),
        (with_line("{}"), "line 2: it lacks 'call'"),
        (with_line('{"at":1,"call":"probe","with":{},"did":5}'), "line 2: a value in it is of no"),
        (with_line('{"end":0}\n{"end":0}'), "line 3: it goes on after its end"),
        (with_line('{"end":"0"}'), "line 2: its end counts"),
        (with_line('{"at":1,"call":"__init__","with":{},"did":[]}'), "line 2"),
        (with_line('{"at":1,"call":"probe","with":{"x":1},"did":[]}'), "arguments"),
        (with_line('{"at":NaN,"call":"probe","with":{},"did":[]}'), "a number that JSON has not"),
        (with_data([99_999_999_999]), "size"),
        (with_data([60_000_000] * 5), "more data"),
    ],
)
def test_what_is_no_recording_says_why(text: str, why: str) -> None:
    with pytest.raises(BadRecording, match=why):
        load(text)


@pytest.mark.parametrize("gone", [-1, 1, 5])
def test_a_recording_that_lacks_a_line_is_read_and_known_not_to_be_whole(gone: int) -> None:
    assert load("\n".join(LINES)).is_whole
    left = [*LINES]
    del left[gone]
    recording = load("\n".join(left))
    assert not recording.is_whole
    assert [step.turn for step in replay(recording)] == recording.entries


def test_a_file_that_is_open_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("before\n" + "\n".join(LINES))
    with path.open("rb") as file:
        file.readline()
        assert difference(load_file(file)) is None


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(BadRecording, match="no regular file"):
            load_file(path)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "none")


def test_a_saved_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    one = Recorded()
    one.run(1)
    path = one.recorder.save(tmp_path / "one.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == one.recorder.dump()
    assert [*tmp_path.iterdir()] == [path]


def test_giving_up_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    one = Recorded(token="a-wrong-token-of-the-tests", path=path)
    one.run(5)
    one.recorder.wait()
    text = path.read_text()
    assert '"GaveUp"' in text
    assert "a-wrong-token-of-the-tests" not in text
    assert difference(load(text)) is None


def test_a_disk_that_fails_disturbs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Recorded(token="a-wrong-token-of-the-tests", path=tmp_path / "none" / "one.jsonl")
    one.run(5)
    one.recorder.wait()
    assert one.machine.last_ending is not None
    path = tmp_path / "none" / "one.jsonl"
    (told,) = caplog.messages
    assert (
        told == f"the recording could not be written: [Errno 2] No such file or directory: '{path}'"
    )
    assert caplog.records[0].exc_info is None


def test_a_recording_that_cannot_be_made_is_told_with_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Writer()
    writer.put(partial(next, iter(())))
    writer.wait()
    assert "could not be written" in caplog.text
    assert "StopIteration" in caplog.text


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    one = Recorded()
    one.run(1)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="no file"):
            one.recorder.save(path)
    assert [*tmp_path.iterdir()] == [pipe]
    assert pipe.is_fifo()


def test_a_file_is_checked_without_being_touched(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    check_replaceable(path)
    assert [*tmp_path.iterdir()] == []
    path.write_text("before")
    check_replaceable(path)
    assert path.read_text() == "before"
    with pytest.raises(FileNotFoundError, match="none"):
        check_replaceable(tmp_path / "none" / "one.jsonl")


def test_a_thread_that_cannot_be_started_disturbs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    path = tmp_path / "one.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", no_more)
        one = Recorded(token="a-wrong-token-of-the-tests", path=path)
        one.run(5)
    assert "could not be written" in caplog.text
    one.recorder.wait()
    assert not path.exists()
    one.recorder.save()
    assert difference(load(path.read_text())) is None


def test_without_a_recording_there_is_nothing_to_dump() -> None:
    recorder = Recorder()
    assert recorder.size == 0
    with pytest.raises(LocalProtocolError):
        recorder.dump()
    recorder.connector(URL, Settings(), random=lambda: 0.5, entropy=partial(bytes))
    with pytest.raises(LocalProtocolError, match="path"):
        recorder.save()


def test_a_secret_in_the_url_is_one() -> None:
    recorder = Recorder()
    url = f"{URL}a-hidden-path?token=a-hidden-token&key=another"
    machine = recorder.connector(url, None, random=lambda: 0.5, entropy=partial(bytes))
    machine.start(1.0)
    text = recorder.dump()
    assert "hidden" not in text
    assert "another" not in text
    assert difference(load(text)) is None


class SlowDisk:
    """Stands for ``os.fsync``: it waits until it is let go, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = Event()
        self.go_on = Event()
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.asked.set()
        assert self.go_on.wait(5.0)
        self._real(descriptor)


def test_a_disk_that_is_slow_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.jsonl"
    disk = SlowDisk(monkeypatch)
    one = Recorded(token="a-wrong-token-of-the-tests", path=path)
    one.run(5)  # it gives up, and returns all the same
    assert disk.asked.wait(30.0)
    assert not path.exists()
    with pytest.raises(LocalProtocolError):
        one.request()
    for token in ("another-wrong-token", "a-third-wrong-token"):
        one.machine.use_credentials(Credentials(token=token), one.network.now)
        one.run(5)
    disk.go_on.set()
    one.recorder.wait()
    assert path.read_text().count('"GaveUp"') == 3  # the newest


def test_many_may_save_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    one = Recorded(path=path)
    one.run(5)
    with ThreadPoolExecutor(4) as pool:
        saved = [pool.submit(one.recorder.save) for _ in range(20)]
    assert {one.result() for one in saved} == {path}
    assert path.read_text() == one.recorder.dump()
    assert [*tmp_path.iterdir()] == [path]


def test_of_a_file_that_is_too_large_no_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("\n".join(LINES))
    assert len(load_file(path).entries) == len(LINES) - 2
    with path.open("wb") as file:
        file.truncate(8 * LARGEST)  # it has no blocks
    tracemalloc.start()
    try:
        with pytest.raises(BadRecording, match="larger"):
            load_file(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST
    finally:
        tracemalloc.stop()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadRecording, match="no text in UTF-8"):
        load_file(path)
