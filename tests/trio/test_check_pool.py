"""The stability test of several gateways: each by itself, and the pool as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
import trio

from butter_proto.machine import OpenTransport
from butter_proto.settings import Settings
from butter_proto.testing import StandInGateway
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.check import Run, keepalive_for
from butter_trio.check_pool import PoolReport, check_pool
from butter_trio.testing import memory_dial
from tests.trio.command_line import butter, served
from tests.trio.scenario import virtual_time

TOKEN = "secret"
FIRST, SECOND = "127.0.0.1:1001", "127.0.0.1:1002"


def ignore(_: object) -> None:
    pass


async def checked(
    *stand_ins: StandInGateway,
    duration: float = 60,
    show: Callable[[Run], None] = ignore,
    warn: Callable[[str], None] = ignore,
) -> PoolReport:
    """Check gateways that listen on the ports from 1001 on."""
    dials = {1001 + number: memory_dial(one) for number, one in enumerate(stand_ins)}

    async def dial(command: OpenTransport) -> trio.abc.Stream:
        return await dials[command.port](command)

    settings = Settings(token=TOKEN, keepalive=keepalive_for(duration))
    urls = [f"ws://127.0.0.1:{port}" for port in dials]
    return await check_pool(urls, Access(settings), duration, show=show, warn=warn, dial=dial)


def stand_ins(count: int) -> list[StandInGateway]:
    return [StandInGateway(token=TOKEN, seed=seed) for seed in range(count)]


async def at(moment: float, action: Callable[[], None]) -> None:
    await trio.sleep_until(moment)
    action()


@virtual_time
async def test_a_minute_without_trouble_at_any_gateway_is_ok() -> None:
    shown: list[str] = []
    report = await checked(*stand_ins(2), show=lambda run: shown.append(run.gateway.state.value))
    assert trio.current_time() == 60
    assert report.ok
    assert report.reason is None
    assert report.primary in (FIRST, SECOND)
    assert list(report.gateways) == [FIRST, SECOND]
    for one in report.gateways.values():
        assert (one.ok, one.online_s, one.disconnects, one.missed) == (True, 60, 0, 0)
        assert one.server_version == "2026.9.6"
        assert one.probes in (5, 6)
    assert report.pool.online_s == 60
    assert report.pool.probes == sum(one.probes for one in report.gateways.values())
    assert "online" in shown


@virtual_time
async def test_a_gateway_that_falls_is_named_and_the_pool_stays_online() -> None:
    gateways = stand_ins(3)
    warned: list[str] = []
    async with background(partial(at, 20, lambda: gateways[0].restart(down=5, announce=False))):
        report = await checked(*gateways, warn=warned.append)
    assert not report.ok
    assert report.pool.ok
    assert report.pool.online_s == 60
    assert [one.ok for one in report.gateways.values()] == [False, True, True]
    assert report.gateways[FIRST].reconnects == 1
    assert report.takeovers in (2, 3)  # to the better one at 10 s if the other was faster
    assert report.reason is not None
    assert report.reason.startswith(f"{FIRST}: the connection was lost")
    assert any(text.startswith(f"{FIRST}: online again") for text in warned)
    assert warned[-1] == f"{FIRST} delivers the events now"


@virtual_time
async def test_a_gateway_that_never_answers_is_no_ok_and_the_test_goes_on() -> None:
    gateways = stand_ins(2)
    gateways[1].stall()
    report = await checked(*gateways, duration=10)
    assert not report.ok
    assert report.pool.ok
    assert report.primary == FIRST
    assert report.reason is not None
    assert report.reason.startswith(f"{SECOND}: no handshake within 15 s")
    assert trio.current_time() == 15 + 10


@virtual_time
async def test_a_test_ends_where_no_gateway_may_be_tried_again() -> None:
    report = await checked(*(StandInGateway(token="another") for _ in range(2)))
    assert not report.ok
    assert trio.current_time() < 15
    assert report.reason is not None
    for name in (FIRST, SECOND, "the pool as a whole"):
        assert f"{name}: " in report.reason


@virtual_time
async def test_when_all_are_gone_the_pool_as_a_whole_was_lost() -> None:
    gateways = stand_ins(2)

    def fall() -> None:
        for gateway in gateways:
            gateway.restart(down=1, announce=False)

    async with background(partial(at, 5, fall)):
        report = await checked(*gateways, duration=30)
    assert not report.pool.ok
    assert report.pool.online_at_end
    assert report.reason is not None
    assert "the pool as a whole: the connection was lost" in report.reason


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def urls() -> Iterator[list[str]]:
    """The URLs of two gateways, each with its own token."""
    with ExitStack() as stack:
        yield [
            f"{stack.enter_context(served(StandInGateway(token=token, seed=seed)))}?token={token}"
            for seed, token in enumerate(("first-token", "second-token"))
        ]


def test_check_of_several_urls_shows_each_and_the_pool(
    urls: list[str],
) -> None:
    done = butter("check", *urls, "--duration", "1")
    assert done.returncode == 0
    out = done.stdout
    assert out.count("2026.9.6") == 2
    assert "(primary)" in out
    assert "the pool: " in out
    assert out.rstrip().endswith("ok")
    assert "-token" not in out


def test_check_of_several_urls_with_json_prints_one_object(
    urls: list[str],
) -> None:
    done = butter("check", *urls, "--duration", "1", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert set(report) == {"ok", "pool", "gateways", "primary", "takeovers", "reason"}
    assert report["primary"] in report["gateways"]
    assert len(report["gateways"]) == 2


def test_check_of_a_gateway_that_refuses_names_it(
    urls: list[str],
) -> None:
    wrong = urls[1].replace("second-token", "another-token")
    done = butter("check", urls[0], wrong, "--duration", "1")
    assert done.returncode == 1
    out = done.stdout
    assert "not ok: 127.0.0.1:" in out
    assert "AUTH_TOKEN_MISMATCH" in out
    assert "another-token" not in out
