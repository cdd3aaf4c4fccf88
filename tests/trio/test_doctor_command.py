"""``butter doctor`` as a command: exit codes, what goes where, JSON, and that no secret shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from butter_proto.testing import StandInGateway
from tests.trio.command_line import butter, served
from tests.trio.test_cli_access import setup_code

TOKEN = "QQ-a-secret-QQ"
CODE = "QQ-a-bootstrap-token-QQ"
STEPS = [
    *("url", "dns", "tcp", "proxy", "tls", "pin", "upgrade", "challenge", "connect", "scopes"),
    "health",
]
KEYS = {"step", "result", "seen", "ms", "advice", "notes"}


def test_a_gateway_that_is_well_is_exit_code_0_and_a_line_for_each_step() -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        done = butter("doctor", url, token=TOKEN)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1] if line[:5].strip()] == STEPS
    assert lines[-1] == "ok"
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # no colours where nobody sees them


def test_a_failure_is_exit_code_1_with_what_to_do() -> None:
    with served(StandInGateway(token="another one")) as url:
        done = butter("doctor", url, token=TOKEN)
    assert done.returncode == 1
    *_, failed, advice, verdict = done.stdout.splitlines()
    assert failed.startswith("FAIL connect")
    assert "AUTH_TOKEN_MISMATCH" in failed
    assert "gateway.auth.token" in advice
    assert verdict == "not ok: it fails at connect"
    assert done.stderr == ""


def test_json_is_one_object_with_every_step() -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        done = butter("doctor", "--json", url, token=TOKEN)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["ok"], report["failed"]) == (True, None)
    assert [step["step"] for step in report["steps"]] == STEPS
    assert all(set(step) >= KEYS for step in report["steps"])
    assert "trace" not in report
    assert done.stderr == ""


def test_what_is_no_gateway_url_fails_at_the_url() -> None:
    done = butter("doctor", "--json", "http://127.0.0.1", token=TOKEN)
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == "url"


def test_the_setup_code_says_where_to_go(tmp_path: Path) -> None:
    stand_in = StandInGateway(token=TOKEN, bootstrap_token=CODE)
    with served(stand_in) as url:
        device = ["--device", "--device-folder", str(tmp_path / "device")]
        done = butter("doctor", *device, "--setup-code", setup_code(url, CODE))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok")


def test_without_any_url_it_is_wrong_usage(tmp_path: Path) -> None:
    device = ["--device", "--device-folder", str(tmp_path / "device")]
    for given in ([], [*device, "--setup-code", CODE]):
        done = butter("doctor", *given)
        assert done.returncode == 2
        assert "name the gateway's URL" in done.stderr


def test_json_of_a_failure_names_the_step() -> None:
    done = butter("doctor", "--json", "ws://gateway.example.com", token=TOKEN)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["ok"], report["failed"]) == (False, "url")
    assert report["steps"][-1]["result"] == "failed"


def test_a_trace_goes_to_stderr_without_a_secret() -> None:
    with served(StandInGateway(token=TOKEN)) as url:
        done = butter("doctor", url, "--trace", token=TOKEN)
    assert done.returncode == 0
    assert '"auth": {"token": "***"}' in done.stderr
    assert '"pluginSurfaceUrls": "***"' in done.stderr
    assert '"event": "connect.challenge"' in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "->" not in done.stdout


def test_a_trace_in_json_is_data() -> None:
    with served(StandInGateway(token="another one")) as url:
        done = butter("doctor", url, "--trace", "--json", token=TOKEN)
    trace = json.loads(done.stdout)["trace"]
    assert [line["sent"] for line in trace][:4] == [True, False, False, True]
    assert trace[3]["told"]["method"] == "connect"
    assert trace[4]["told"]["error"]["details"]["code"] == "AUTH_TOKEN_MISMATCH"
    assert all(set(line) == {"transport", "ms", "sent", "size", "told"} for line in trace)
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [(), ("--timeout", "0", "ws://127.0.0.1:1")])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert butter("doctor", *arguments).returncode == 2
