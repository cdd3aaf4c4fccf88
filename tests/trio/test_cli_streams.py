"""What ``butter`` does where its standard streams are poor: closed, broken, or without the letters."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from butter_proto.errors import GatewayError
from butter_proto.storage import FOLDER_VARIABLE
from butter_proto.testing import StandInGateway
from tests.trio.command_line import command, environment, served

TOKEN = "QQ-a-secret-QQ"
FOREIGN = "日本 ü"


@pytest.fixture
def stand_in() -> StandInGateway:
    return StandInGateway(token=TOKEN)


@pytest.fixture
def url(stand_in: StandInGateway) -> Iterator[str]:
    with served(stand_in) as url:
        yield url


def butter(*arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``butter`` in an environment with ``more``."""
    return subprocess.run(
        command(*arguments),
        env=environment(TOKEN) | more,
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", ["doctor", "check"])
def test_what_an_encoding_lacks_is_escaped(
    url: str, stand_in: StandInGateway, name: str, encoding: str
) -> None:
    stand_in.refuse_next(GatewayError("BAD", FOREIGN, retryable=False))
    done = butter(name, url, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"\\u65e5\\u672c" in done.stdout


def test_a_folder_with_a_foreign_name_is_shown(tmp_path: Path) -> None:
    here = {FOLDER_VARIABLE: str(tmp_path / FOREIGN), "PYTHONIOENCODING": "cp1252"}
    assert butter("device", "new", **here).returncode == 0
    shown = butter("device", "show", **here)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"\\u65e5" in shown.stdout


@pytest.mark.skipif(os.name != "posix", reason="runs a shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["doctor", "--trace"], ["call"]])
def test_streams_that_are_closed_change_nothing_else(
    url: str, closed: str, arguments: list[str]
) -> None:
    name, *options = arguments
    line = [*command(name, *options, url, *(["health"] if name == "call" else []))]
    for given in ([], ["--token", TOKEN]):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *line, *given],
            env=environment(TOKEN),
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        assert bool(done.stdout) is (">&-" not in closed.split())


@pytest.mark.skipif(os.name != "posix", reason="closes the other end of a pipe")
def test_a_trace_that_nobody_reads_does_not_change_what_doctor_finds(url: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        command("doctor", url, "--trace"),
        env=environment(TOKEN),
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=30,
        check=False,
    )
    os.close(theirs)
    assert done.stdout.splitlines()[-1] == b"ok"


def test_the_clock_of_the_served_stand_in_is_that_of_this_machine() -> None:
    with subprocess.Popen(
        command("gateway"), env=environment(TOKEN), stdout=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stdout is not None
        url = gateway.stdout.readline().strip()
        report = json.loads(butter("doctor", "--json", url).stdout)
        gateway.kill()
    challenge = next(step for step in report["steps"] if step["step"] == "challenge")
    assert abs(challenge["clock_ahead_s"]) < 30
    assert challenge["notes"] == []
