"""The ``butter`` command against the real gateway, as the operator runs it (it runs on trio)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from .install import OPENCLAW_VERSION
from .real_gateway import RealGateway
from .scenario import scenario

pytestmark = pytest.mark.live

TOP = Path(__file__).parents[2]
KEYS = {
    "ok",
    "handshake_ms",
    "online_s",
    "online_at_end",
    "disconnects",
    "reconnects",
    "drops",
    "events",
    "probes",
    "missed",
    "rtt_ms",
    "server_version",
    "protocol",
    "reason",
}


async def butter(token: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``butter`` to its end; the token, in the environment, never shows."""
    done = await trio.run_process(
        [sys.executable, "-m", "butter_trio.cli", *arguments],
        env=os.environ | {"OPENCLAW_GATEWAY_TOKEN": token},
        cwd=TOP,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert token.encode() not in done.stdout + done.stderr
    return done


def report_of(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done.stdout)
    assert set(report) == KEYS
    return report


@scenario(90, once=True)
async def test_check_of_a_healthy_gateway_is_ok(gateway: RealGateway, record_property: Any) -> None:
    done = await butter(gateway.token, "check", gateway.url, "--duration", "60", "--json")
    report = report_of(done)
    record_property("butter check", report)
    assert done.returncode == 0, done.stderr
    assert report["ok"] is True
    assert (report["disconnects"], report["reconnects"], report["missed"]) == (0, 0, 0)
    assert report["online_at_end"] is True
    assert report["online_s"] >= 59
    assert report["probes"] >= 5
    assert report["events"] >= 1
    assert 0 < report["rtt_ms"]["p50"] <= report["rtt_ms"]["p99"] <= report["rtt_ms"]["max"]
    assert (report["server_version"], report["protocol"]) == (OPENCLAW_VERSION, 4)


@scenario(90, once=True)
async def test_check_of_a_gateway_that_stalls_for_30_seconds_is_not_ok_but_back(
    gateway: RealGateway, record_property: Any
) -> None:
    async with trio.open_nursery() as nursery:
        arguments = ("check", gateway.url, "--duration", "60", "--json")
        ended: list[subprocess.CompletedProcess[bytes]] = []

        async def run() -> None:
            ended.append(await butter(gateway.token, *arguments))

        nursery.start_soon(run)
        await trio.sleep(10)
        with gateway.suspended():
            await trio.sleep(30)
    report = report_of(ended[0])
    record_property("butter check with SIGSTOP at 10 s, SIGCONT at 40 s", report)
    assert ended[0].returncode == 1
    assert report["ok"] is False
    assert (report["disconnects"], report["reconnects"]) == (1, 1)
    assert report["online_at_end"] is True
    assert report["missed"] >= 2
    assert "silent" in report["reason"]


@scenario(30, once=True)
async def test_check_with_a_wrong_token_ends_at_once_and_says_what_to_do(
    gateway: RealGateway,
) -> None:
    done = await butter(gateway.token[::-1], "check", gateway.url, "--duration", "60", "--json")
    report = report_of(done)
    assert done.returncode == 1
    assert report["ok"] is report["online_at_end"] is False
    assert "gateway.auth.token" in report["reason"]


@scenario(30, once=True)
async def test_call_prints_the_payload_or_the_refusal(gateway: RealGateway) -> None:
    done = await butter(gateway.token, "call", gateway.url, "health")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True

    done = await butter(gateway.token, "call", gateway.url, "no.such.method")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"FORBIDDEN" in done.stderr
    assert b"operator.admin" in done.stderr


@scenario(90, once=True)
async def test_doctor_finds_a_healthy_gateway_well_and_traces_it_without_secrets(
    gateway: RealGateway,
) -> None:
    done = await butter(gateway.token, "doctor", gateway.url, "--json", "--trace")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["ok"] is True
    steps = {step["step"]: step for step in report["steps"]}
    assert steps["connect"]["server_version"] == OPENCLAW_VERSION
    assert steps["scopes"]["missing"] == []
    assert abs(steps["challenge"]["clock_ahead_s"]) < 5
    (hello,) = (
        line["told"]["payload"]
        for line in report["trace"]
        if isinstance(line["told"], dict)
        and isinstance(line["told"].get("payload"), dict)
        and line["told"]["payload"].get("type") == "hello-ok"
    )
    assert hello["pluginSurfaceUrls"] == hello["auth"]["recoveryScope"] == "***"
    assert hello["features"]["methods"].endswith("items)")


@scenario(90, once=True)
async def test_doctor_says_that_a_token_is_wrong(gateway: RealGateway) -> None:
    done = await butter("another-token", "doctor", gateway.url, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["failed"] == "connect"
    assert report["steps"][-1]["detail_code"] == "AUTH_TOKEN_MISMATCH"
