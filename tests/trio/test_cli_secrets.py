"""No secret that the ``butter`` command is given shows anywhere: not in ``ps``, not in its words."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest

from butter_proto.errors import GatewayError
from butter_proto.storage import FOLDER_VARIABLE
from butter_proto.testing import StandInGateway
from butter_trio.cli import _HIDDEN_VARIABLE
from butter_trio.commands import run
from butter_trio.hidden import SECRET_OPTIONS
from butter_trio.words import PASSWORD_VARIABLE, TOKEN_VARIABLE
from tests.trio.command_line import environment, line_of, served, started
from tests.trio.test_cli_access import setup_code

SECRET = "QQ-s3cret-QQ"
URL = "wss://127.0.0.1:1"
GIVEN = {
    "--token": ["--token", SECRET],
    "--token=": [f"--token={SECRET}"],
    "--password": ["--password", SECRET],
    "--setup-code": ["--device", "--setup-code", setup_code(URL, SECRET)],
    "a bootstrap token": ["--device", "--setup-code", SECRET],
    "--header": ["--header", f"X-Key: {SECRET}", "--header", f"Authorization: Bearer {SECRET}"],
    "--proxy": ["--proxy", f"http://me:{SECRET}@127.0.0.1:1"],
    "in the url": [],
}
"""Every way in which a secret is given."""
CODE = setup_code(URL, SECRET)
Capture = pytest.CaptureFixture[str]

every_way = pytest.mark.parametrize("way", GIVEN)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (TOKEN_VARIABLE, PASSWORD_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


def line(way: str, name: str, url: str = URL, *arguments: str) -> list[str]:
    """Return the arguments of a command with a secret in them."""
    shown = f"{url}/?token={SECRET}" if way == "in the url" else url
    return [name, shown, *arguments, *GIVEN[way]]


def shows_none(text: str) -> bool:
    return SECRET not in text and CODE not in text and "Traceback" not in text


def test_every_option_that_takes_a_secret_is_tried() -> None:
    assert set(SECRET_OPTIONS) <= set(GIVEN)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@every_way
def test_the_process_list_has_no_secret(way: str) -> None:
    with started(*line(way, "watch"), "chat") as process:
        said = line_of(process.stderr)
        if said.startswith("made a device"):
            said = line_of(process.stderr)
        assert said.startswith("not connected: ")  # so it is past its start
        given = Path(f"/proc/{process.pid}/environ").read_text()
        assert _HIDDEN_VARIABLE in given
        assert shows_none(given)
        title = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "watch\0wss://127.0.0.1:1" in title
        assert "***" in title
        assert shows_none(title)


@every_way
@pytest.mark.parametrize(
    "command",
    [
        ("call", "health", "--timeout", "0.2"),
        ("check", "--duration", "1"),
        ("check", "--duration", "1", "--json"),
        ("watch", "--timeout", "0.2"),
        ("watch", "--timeout", "never"),
        ("call", "health", "{", "--no-such-option"),
        ("no-such-command",),
    ],
)
def test_no_output_of_what_fails_has_a_secret(
    way: str, command: Sequence[str], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("butter_trio.check.HANDSHAKE_LIMIT", 0.2)
    name, *arguments = command
    assert run(line(way, name, URL, *arguments)) != 0
    out, errors = capfd.readouterr()
    assert out + errors
    assert shows_none(out + errors)


@every_way
@pytest.mark.parametrize("before", [["doctor", URL, "--"], ["device", "new", "--"], ["--"], []])
def test_a_secret_where_none_belongs_is_not_quoted(
    way: str, before: list[str], capfd: Capture
) -> None:
    given = GIVEN[way] or [f"{URL}/?token={SECRET}\n'"]
    assert run([*before, *given]) == 2
    assert shows_none(capfd.readouterr().err)


def test_a_short_secret_is_not_cut_out_of_our_own_words(capfd: Capture) -> None:
    """It would show itself: ``bu******er``."""
    assert run(["doctor", URL, "--setup-code", "xyz", "--device", "--token", "t"]) == 2
    errors = capfd.readouterr().err
    assert "butter doctor" in errors
    assert run(["check", URL, "--", "--token", "t"]) == 2
    errors = capfd.readouterr().err
    assert "butter check" in errors
    assert "(t)" not in errors


@pytest.mark.parametrize("way", ["--token", "--token=", "--password", "in the url"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_a_gateway_says_shows_no_secret(way: str, as_json: list[str], capfd: Capture) -> None:
    by_password = way == "--password"
    stand_in = StandInGateway(
        token=None if by_password else SECRET, password=SECRET if by_password else None
    )
    refusal = GatewayError("BAD", f"token {SECRET} seen", {"token": SECRET}, retryable=False)
    stand_in.reply("tells", refusal)
    with served(stand_in) as url:
        assert run(line(way, "call", url, "echo", json.dumps({SECRET: [SECRET]}))) == 0
        assert json.loads(capfd.readouterr().out) == {"***": ["***"]}
        assert run(line(way, "call", url, "tells")) == 1
        errors = capfd.readouterr().err
        assert errors.startswith("BAD: token *** seen\n")
        stand_in.refuse_next(refusal)
        assert run(line(way, "check", url, *as_json)) == 1
        out, more_errors = capfd.readouterr()
        assert "token *** seen" in out
    assert shows_none(out + errors + more_errors)


@every_way
def test_a_traceback_has_no_secret(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("butter_trio.options.Access", fail)
    with pytest.raises(RuntimeError) as unforeseen:
        run([*line(way, "call"), "health"])
    assert shows_none(traceback_text(unforeseen.value))


def traceback_text(error: BaseException) -> str:
    """Return what the interpreter would write, without its heading."""
    lines = traceback.format_exception(error)
    assert lines[0].startswith("Traceback")
    return "".join(lines[1:])


@every_way
def test_no_log_line_has_a_secret(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert run([*line(way, "call"), "health", "--timeout", "0.2"]) == 1
    assert caplog.records
    assert shows_none(caplog.text)


def test_what_takes_the_secrets_over_is_not_in_the_environment_any_more() -> None:
    script = (
        "import os\nfrom butter_trio import cli, commands\n"
        f"commands.run = lambda given: print(given, {_HIDDEN_VARIABLE!r} in os.environ)\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--token", SECRET, "--header", "a: b"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == f"{['check', '--token', SECRET, '--header', 'a: b']} False\n"


@pytest.mark.parametrize(
    "changed", ["sys.argv.append('x')", "sys.argv[1:] = ['check', '--token', 'QQ-s3cret-QQ']"]
)
def test_a_program_that_has_changed_its_arguments_is_not_started_again(changed: str) -> None:
    script = (
        f"import sys\n{changed}\nfrom butter_trio import cli, commands\n"
        "commands.run = lambda given: print(given == sys.argv[1:])\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "watch", "--token", SECRET],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "True\n"


def test_secrets_that_are_too_long_to_hand_over_are_used_all_the_same() -> None:
    script = (
        "from butter_trio import cli, commands\n"
        "commands.run = lambda given: print(len(given[-1]))\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "watch", "--token", 100_000 * "s"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("100000\n", "")


@pytest.mark.parametrize("value", ["", "{", "{}", "[1]", '["a", "b"]', "1:1", "1"])
def test_a_variable_of_somebody_else_changes_nothing(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "butter_trio.cli", "call", URL, "health", "--timeout", "0.2"],
        env=os.environ | environment() | {_HIDDEN_VARIABLE: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "not online after 0.2 s" in done.stderr
