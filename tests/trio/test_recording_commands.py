"""``--record`` and ``butter replay``."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from butter_proto import LocalProtocolError
from butter_proto.testing import StandInGateway
from butter_proto.testing.recording import Recorder
from butter_trio.access import Access
from tests.trio.command_line import TOP, butter, command, environment, served, started

RECORDINGS = TOP / "tests" / "recordings"
TOKEN = "a-token-of-the-tests"


def replayed(file: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("replay", file),
        input=given,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_call_is_recorded_and_comes_out_the_same(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    with served(StandInGateway(token=TOKEN)) as url:
        called = butter("call", url, "health", "--record", str(file), token=TOKEN)
    assert called.returncode == 0
    assert f"recorded: {file}" in called.stderr
    assert TOKEN not in file.read_text()
    played = butter("replay", str(file))
    assert played.returncode == 0
    assert played.stdout.endswith("same\n")
    assert "Online" in played.stdout


def test_a_refusal_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    with served(StandInGateway(token=TOKEN)) as url:
        called = butter("watch", url, "--record", str(file), token="another-token")
    assert called.returncode == 1
    assert '"GaveUp"' in file.read_text()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "name of a file"),
        ("-", "name of a file"),
        ("{}", "{} cannot be written"),
        ("{}/a/b", "{}/a/b cannot be written: No such file"),
        ("/dev/null", "/dev/null cannot be written: It is no file"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(
    tmp_path: Path, name: str, why: str
) -> None:
    called = butter("call", "ws://127.0.0.1:1", "health", "--record", name.format(tmp_path))
    assert called.returncode == 2
    assert why.format(tmp_path) in called.stderr
    assert "Traceback" not in called.stderr
    assert [*tmp_path.iterdir()] == []


def test_several_gateways_are_not_recorded(tmp_path: Path) -> None:
    urls = ("ws://127.0.0.1:1", "ws://127.0.0.1:2")
    called = butter("check", *urls, "--record", str(tmp_path / "one.jsonl"))
    assert called.returncode == 2
    assert "one gateway" in called.stderr


def test_a_time_line_fits_a_narrow_terminal() -> None:
    for file in RECORDINGS.glob("*.jsonl"):
        played = butter("replay", str(file))
        assert played.returncode == 0
        assert max(map(len, played.stdout.splitlines())) <= 80
        assert played.stdout.isascii()


def test_a_wider_terminal_shows_more_and_a_narrow_one_less() -> None:
    file = str(RECORDINGS / "refusal.jsonl")
    widest = {}
    for columns in ("40", "80", "200"):
        played = replayed(file, COLUMNS=columns)
        widest[columns] = max(map(len, played.stdout.splitlines()))
        assert widest[columns] <= int(columns)
    assert widest["40"] == 40
    assert widest["200"] > 80


def test_wake_ups_that_did_nothing_are_counted() -> None:
    played = butter("replay", str(RECORDINGS / "an-hour-that-was-cut.jsonl"))
    assert "-- 1 wake-ups that did nothing" in played.stdout
    lines = played.stdout.splitlines()
    ends = [following for line, following in pairwise(lines) if line.endswith("handle_timeout")]
    assert ends
    assert all(line.startswith(" " * 13) for line in ends)


def test_as_json_each_step_is_an_object_and_the_verdict_the_last() -> None:
    played = butter("replay", str(RECORDINGS / "an-hour-that-was-cut.jsonl"), "--json")
    *steps, verdict = [json.loads(line) for line in played.stdout.splitlines()]
    explained = [step for step in steps if "differences" in step]
    assert verdict == {"same": True, "differences": 0, "cut": len(explained), "whole": True}
    assert all(step["by_cut"] for step in explained)
    assert explained
    assert sum("cut" in step for step in steps) == 1


def test_as_json_all_times_are_of_one_clock() -> None:
    played = butter("replay", str(RECORDINGS / "an-hour-that-was-cut.jsonl"), "--json")
    *steps, _ = [json.loads(line) for line in played.stdout.splitlines()]
    due = [(step["at"], one[1]) for step in steps for one in step["did"] if one[0] == "due"]
    assert len(due) > 50
    assert all(0 <= wake_up - at <= 30 for at, wake_up in due)
    assert steps[0]["at"] == 0
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)


def test_a_difference_is_told_whole_as_it_was_and_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    text = (RECORDINGS / "refusal.jsonl").read_text()
    told = "ending=CONNECT_REFUSED code=INVALID_REQUEST detail=AUTH_TOKEN_MISMATCH"
    file.write_text(text.replace('"GaveUp"', r'"\u001b[31mX"'))
    played = butter("replay", str(file))
    assert played.returncode == 1
    assert "\x1b" not in played.stdout
    words = " ".join(played.stdout.split())
    assert (
        rf"DIFFERS: then \x1b[31mX {told}; now GaveUp {told} not the same: 1 steps differ" in words
    )
    assert words.endswith(rf"then: \x1b[31mX {told} now: GaveUp {told}")
    played = butter("replay", str(file), "--json")
    assert played.returncode == 1
    *steps, verdict = [json.loads(line) for line in played.stdout.splitlines()]
    (found,) = steps[-1]["differences"]
    assert found == {"then": f"\x1b[31mX {told}", "now": f"GaveUp {told}"}
    assert not verdict["same"]


def test_what_came_out_otherwise_is_told_before_what_follows_from_it(tmp_path: Path) -> None:
    """An Online that became a Retrying: the commands differ too."""
    file = tmp_path / "one.jsonl"
    text = (RECORDINGS / "conversation.jsonl").read_text()
    file.write_text(text.replace("hello-ok", "hello-no"))
    played = butter("replay", str(file))
    first = played.stdout.splitlines().index(
        next(line for line in played.stdout.splitlines() if line.startswith("first at"))
    )
    told = played.stdout.splitlines()[first + 1 :]
    assert told[0].startswith("  then: Online")
    assert any(line.startswith("  now:  Retrying") for line in told)


def test_a_recording_that_was_cut_short_is_played_and_told(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    lines = (RECORDINGS / "conversation.jsonl").read_text().splitlines()
    file.write_text("\n".join(lines[:-5]))
    played = butter("replay", str(file))
    assert played.returncode == 1
    assert "Online" in played.stdout
    assert "not whole: the file was cut short" in played.stdout
    verdict = json.loads(butter("replay", str(file), "--json").stdout.splitlines()[-1])
    assert verdict == {"same": True, "differences": 0, "cut": 0, "whole": False}


def test_what_is_no_recording_is_one_line_that_names_the_file_and_its_line(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    for data, why in (
        (b"nothing", "line 1: it is no JSON from character 1 on: the line was cut off"),
        (b"\xff\xfe", "it is no text in UTF-8"),
        (b"", "it is empty"),
    ):
        file.write_bytes(data)
        played = butter("replay", str(file))
        assert played.returncode == 1
        assert played.stdout == ""
        assert played.stderr == f"butter: {file}: {why}\n"


def test_a_pipe_is_refused_and_the_standard_input_is_not(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    played = butter("replay", str(pipe))
    assert (played.returncode, played.stderr) == (1, f"butter: {pipe}: it is no regular file\n")
    text = (RECORDINGS / "refusal.jsonl").read_text()
    assert replayed("-", text).stdout.endswith("same\n")
    assert replayed("-", "").stderr == "butter: -: it is empty\n"


def test_nobody_who_reads_on_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    lines = (RECORDINGS / "conversation.jsonl").read_text().splitlines()
    wake_ups = ['{"at":2000,"call":"probe","with":{},"did":[]}'] * 5000
    file.write_text("\n".join((*lines[:-1], *wake_ups)))
    for options in ([], ["--json"]):
        with started("replay", str(file), *options) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_a_pool_that_is_to_be_recorded_is_refused() -> None:
    access = Access(recorder=Recorder())
    with pytest.raises(LocalProtocolError, match="one gateway"):
        access.connect_pool(["ws://127.0.0.1:1"])
