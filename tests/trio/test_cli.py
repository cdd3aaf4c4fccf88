"""The ``butter`` command: exit codes, what goes where, and that the token shows nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from butter_proto.errors import GatewayError
from butter_proto.testing import StandInGateway
from butter_trio.commands import run
from butter_trio.output import json_text
from butter_trio.words import TOKEN_VARIABLE
from tests.trio.command_line import (
    butter,
    ends_cleanly,
    environment,
    line_of,
    served,
    started,
    wait_until,
)

TOKEN = "QQ-a-secret-QQ"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
REPORT_KEYS = [
    *("ok", "handshake_ms", "online_s", "online_at_end", "disconnects", "reconnects", "drops"),
    *("events", "probes", "missed", "rtt_ms", "server_version", "protocol", "reason"),
]


@pytest.fixture
def stand_in() -> StandInGateway:
    return StandInGateway(token=TOKEN)


@pytest.fixture
def url(stand_in: StandInGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of ``stand_in``, served; the token stands in the environment."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with served(stand_in) as url:
        yield url


# --- check ----------------------------------------------------------------------------------


def test_check_without_a_url_checks_the_embedded_stand_in_and_says_so() -> None:
    done = butter("check", "--duration", "1")
    assert done.returncode == 0
    assert "no URL: checking the embedded stand-in at ws://127.0.0.1:" in done.stdout
    assert "2026.9.6, protocol 4" in done.stdout
    assert done.stdout.rstrip().endswith("ok")
    assert done.stderr == ""


@pytest.mark.parametrize("dialect", ["gateway-v4", "openbutter-v1"])
def test_check_with_json_prints_one_object_and_nothing_else(dialect: str) -> None:
    done = butter("check", "--json", "--duration", "1", "--dialect", dialect)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert list(report) == REPORT_KEYS
    assert list(report["rtt_ms"]) == ["p50", "p99", "max"]
    assert report["ok"] is True
    assert report["probes"] >= 1
    assert "embedded stand-in" in done.stderr


def test_check_of_a_wrong_token_says_what_to_do(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", url, "--token", "wrong-one"]) == 1
    out = capfd.readouterr().out
    assert "not ok: the gateway refused to connect" in out
    assert "gateway.auth.token" in out
    assert "wrong-one" not in out


def test_check_shows_a_drop_on_stderr_and_in_the_result(
    url: str, stand_in: StandInGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    def drop() -> None:
        wait_until(lambda: stand_in.online_peers == 1)
        stand_in.drop()

    dropping = threading.Thread(target=drop)
    dropping.start()
    assert run(["check", url, "--duration", "3", "--json"]) == 1
    dropping.join()
    out, errors = capfd.readouterr()
    report = json.loads(out)
    assert (report["disconnects"], report["reconnects"], report["online_at_end"]) == (1, 1, True)
    assert "offline: the stream ended" in errors
    assert "online again" in errors


@pytest.mark.parametrize("command", [["check", "URL"], ["watch", "URL"], ["call", "URL", "health"]])
def test_what_is_no_gateway_url_is_wrong_usage(
    command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"http://x/?token={TOKEN}"
    assert run([url if each == "URL" else each for each in command]) == 2
    errors = capfd.readouterr().err
    assert "starts with ws:// or wss://" in errors
    assert TOKEN not in errors


# --- call -----------------------------------------------------------------------------------


def test_call_prints_the_payload_as_json(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["call", url, "echo", '{"text": "ünïcode", "n": [1, 2]}']) == 0
    out, errors = capfd.readouterr()
    assert json.loads(out) == {"text": "ünïcode", "n": [1, 2]}
    assert "ünïcode" in out
    assert errors == ""


def test_call_prints_what_the_output_cannot_encode_as_escapes(
    url: str, stand_in: StandInGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in.reply("odd", "\ud800")
    assert run(["call", url, "odd"]) == 0
    assert capfd.readouterr().out == '"\\ud800"\n'


def test_call_tells_a_refusal_on_stderr(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["call", url, "models.delete"]) == 1
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.splitlines()[0] == "FORBIDDEN: missing scope: operator.admin"
    assert json.loads(errors.splitlines()[1])["missingScope"] == "operator.admin"


def test_call_times_out_after_connecting_and_waiting_together(
    url: str, stand_in: StandInGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in.reply("slow", delay=60)
    assert run(["call", url, "slow", "--timeout", "1"]) == 1
    assert "its deadline passed" in capfd.readouterr().err


def test_call_without_a_gateway_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "ws://127.0.0.1:1", "health", "--timeout", "0.3"]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("butter: not online after 0.3 s: the transport failed: connection")
    assert "is the gateway running" in errors


def test_call_with_params_that_are_no_json_is_wrong_usage(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(["call", "ws://127.0.0.1:1", "health", "{"]) == 2
    assert "this is no JSON" in capfd.readouterr().err


# --- watch ----------------------------------------------------------------------------------


def test_watch_prints_events_as_lines_and_trouble_on_stderr(
    url: str, stand_in: StandInGateway
) -> None:
    with started("watch", url, "chat", token=TOKEN) as process:
        wait_until(lambda: stand_in.online_peers == 1)
        stand_in.push("agent", "not asked for")
        stand_in.push("chat", {"text": f"{TOKEN} ü"}, seq_gap=2, state_version={"health": 1})
        event = json.loads(line_of(process.stdout))
        assert event == {
            "event": "chat",
            "payload": {"text": "*** ü"},
            "seq": 4,
            "stateVersion": {"health": 1},
        }
        assert "missed 2 events" in line_of(process.stderr)
        stand_in.drop()
        assert "offline: the stream ended" in line_of(process.stderr)
        assert {line_of(process.stderr).strip() for _ in range(2)} == {
            "online again",
            "missed some events: the connection was down",
        }
        assert ends_cleanly(process)


def test_watch_gives_up_where_trying_again_is_no_use(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["watch", url, "--token", "wrong-one"]) == 1
    assert "gateway.auth.token" in capfd.readouterr().err


def test_watch_ends_when_no_handshake_comes_in_time(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "ws://127.0.0.1:1", "--timeout", "0.3"]) == 1
    assert "not online after 0.3 s" in capfd.readouterr().err


def test_watch_ends_quietly_when_nobody_reads_it_any_more(
    url: str, stand_in: StandInGateway
) -> None:
    with started("watch", url, token=TOKEN) as process:
        wait_until(lambda: stand_in.online_peers == 1)
        assert process.stdout is not None
        process.stdout.close()
        stand_in.push("chat")
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


# --- gateway --------------------------------------------------------------------------------


def test_gateway_serves_the_stand_in_until_it_is_interrupted() -> None:
    with started("gateway", "--token", TOKEN) as process:
        url = line_of(process.stdout).strip()
        assert butter("call", url, "health", token=TOKEN).returncode == 0
        assert butter("call", url, "health").returncode == 1
        assert ends_cleanly(process)


def test_gateway_on_a_port_that_is_taken_is_one_line(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["gateway", "--port", url.rpartition(":")[2]]) == 1
    assert "cannot be served" in capfd.readouterr().err


# --- Ctrl-C ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("check",), ("check", "--json"), ("watch",)])
def test_ctrl_c_ends_cleanly_with_130(
    url: str, stand_in: StandInGateway, arguments: Sequence[str]
) -> None:
    name, *options = arguments
    with started(name, url, *options, token=TOKEN) as process:
        wait_until(lambda: stand_in.online_peers == 1)
        assert ends_cleanly(process)
    wait_until(lambda: stand_in.online_peers == 0)


def test_ctrl_c_ends_a_call_that_waits(url: str, stand_in: StandInGateway) -> None:
    stand_in.reply("slow", delay=60)
    with started("call", url, "slow", token=TOKEN) as process:
        wait_until(lambda: any(each.method == "slow" for each in stand_in.received))
        assert ends_cleanly(process)


# --- the token ------------------------------------------------------------------------------


@ON_LINUX
@pytest.mark.parametrize("how", ["--token", "--token=", "in the url"])
def test_the_process_title_has_no_token(url: str, stand_in: StandInGateway, how: str) -> None:
    arguments = {
        "--token": [url, "--token", TOKEN],
        "--token=": [url, f"--token={TOKEN}"],
        "in the url": [f"{url}/?token={TOKEN}"],
    }[how]
    with started("watch", *arguments, "chat") as process:
        wait_until(lambda: stand_in.online_peers == 1)
        title = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "watch" in title
        assert TOKEN not in title
        assert ends_cleanly(process)


@pytest.mark.parametrize(
    "arguments",
    [
        ("call", "URL", "echo", json.dumps({"value": [TOKEN], TOKEN: 1})),
        ("call", "URL", "tells"),
        ("call", "URL", "nothing", "--timeout", "0.1"),
        ("check", "URL", "--duration", "1", "--json"),
        ("check", "URL", "--duration", "1"),
        ("check", "URL", "--duration", "0"),
        ("check", f"ws://127.0.0.1:99999/?token={TOKEN}"),
        ("watch", "URL", "--timeout", "never"),
        ("no-such-command",),
    ],
)
def test_the_token_is_in_no_output(
    url: str, stand_in: StandInGateway, arguments: Sequence[str]
) -> None:
    refusal = GatewayError("BAD", f"token {TOKEN} seen", {"token": TOKEN})
    stand_in.reply("tells", refusal)
    done = butter(*(url if each == "URL" else each for each in arguments), "--token", TOKEN)
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_token_of_a_refused_connect_is_masked(
    url: str, stand_in: StandInGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in.refuse_next(GatewayError("BAD", f"token {TOKEN} \x1b[31m", retryable=False))
    assert run(["check", url]) == 1
    out = capfd.readouterr().out
    assert "token *** \\x1b[31m" in out


def test_an_empty_token_is_wrong_usage(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--token", ""]) == 2
    assert "a secret is a non-empty str" in capfd.readouterr().err


# --- what may be missing --------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_how_to_install_it(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from butter_trio.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "check"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "butter needs click and rich: pip install 'openbutter[cli]'\n"
    assert done.stdout == ""


def test_importing_the_adapter_needs_no_extra() -> None:
    script = "import sys, butter_trio, butter_trio.testing, butter_trio.serve; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded: set[Any] = set(done.stdout.split())
    assert {"click", "rich"} & loaded == set()


def test_help_and_version_are_told() -> None:
    for option in ("--help", "--version"):
        done = butter(option)
        assert done.returncode == 0
        assert "butter" in done.stdout
    assert TOKEN_VARIABLE in butter("check", "--help").stdout


def test_json_output_escapes_what_a_terminal_would_obey() -> None:
    shown = json_text({"text": "a\x9b31mb\x7fc\u202ed\ud800 ü"})
    assert shown == '{"text": "a\\u009b31mb\\u007fc\\u202ed\\ud800 ü"}'


def test_a_token_of_a_few_letters_rewrites_no_payload(
    url: str, stand_in: StandInGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in.token = "t"
    assert run(["call", url, "echo", '{"text": "t"}', "--token", "t"]) == 0
    assert json.loads(capfd.readouterr().out) == {"text": "t"}
