"""The stability test: what it counts, when it ends, and what it calls ok."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from butter_proto.identity import Identity
from butter_proto.machine import OpenTransport
from butter_proto.settings import Dialect, Settings
from butter_proto.testing import StandInGateway
from butter_trio import Dial, InvalidSettings
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.check import Report, Run, check, keepalive_for, percentile
from butter_trio.testing import memory_dial
from tests.trio.scenario import URL, virtual_time

TOKEN = "secret"


def ignore(_: object) -> None:
    pass


async def checked(
    stand_in: StandInGateway,
    duration: float = 60,
    *,
    settings: Settings | None = None,
    show: Callable[[Run], None] = ignore,
    warn: Callable[[str], None] = ignore,
    dial: Dial | None = None,
) -> Report:
    settings = settings or Settings(token=TOKEN)
    settings = attrs.evolve(settings, keepalive=keepalive_for(duration))
    dial = dial or memory_dial(stand_in)
    return await check(URL, Access(settings), duration, show=show, warn=warn, dial=dial)


async def at(moment: float, *actions: Callable[[], None]) -> None:
    await trio.sleep_until(moment)
    for action in actions:
        action()


@virtual_time
async def test_a_minute_without_trouble_is_ok() -> None:
    report = await checked(StandInGateway(token=TOKEN))
    assert trio.current_time() == 60
    assert report.ok
    assert report.reason is None
    assert report.handshake_ms == 0
    assert report.online_s == 60
    assert report.online_at_end
    assert (report.disconnects, report.reconnects, report.missed) == (0, 0, 0)
    assert report.drops == ()
    assert report.events in (1, 2)  # a tick every 30 s; the second one is due at the very end
    assert report.probes in (5, 6)
    assert report.rtt_ms.p50 == report.rtt_ms.p99 == report.rtt_ms.max == 0
    assert report.server_version == "2026.9.6"
    assert report.protocol == 4


@virtual_time
async def test_the_original_dialect_is_checked_too() -> None:
    settings = Settings(dialect=Dialect.OPENBUTTER_V1, token=TOKEN)
    report = await checked(StandInGateway(token=TOKEN, legacy=True), settings=settings)
    assert report.ok
    assert report.server_version is None
    assert report.protocol is None


@virtual_time
async def test_a_gateway_that_sleeps_from_10_to_40_is_lost_once_and_back_at_the_end() -> None:
    stand_in = StandInGateway(token=TOKEN)
    warned: list[str] = []
    async with (
        background(partial(at, 10.5, stand_in.stall)),
        background(partial(at, 40, stand_in.resume)),
    ):
        report = await checked(stand_in, warn=warned.append)
    assert trio.current_time() == 60
    assert not report.ok
    assert (report.disconnects, report.reconnects, report.online_at_end) == (1, 1, True)
    assert report.missed == 2
    assert report.online_s == 35 + 20
    (drop,) = report.drops
    assert (drop.at_s, drop.offline_s, drop.ending) == (35, 5, "SILENT_PEER")
    assert drop.text.startswith("the gateway went silent")
    assert report.reason is not None
    assert "went silent" in report.reason
    assert report.reason.endswith("in between.")
    assert warned[0].startswith("offline: the gateway went silent")
    assert warned[-1] == "online again"


@virtual_time
async def test_a_new_gateway_process_is_told() -> None:
    stand_in = StandInGateway(token=TOKEN)
    warned: list[str] = []
    async with background(partial(at, 5, partial(stand_in.restart, "second"))):
        report = await checked(stand_in, warn=warned.append)
    assert not report.ok
    assert "service restart" in (report.reason or "")
    assert warned[-1] == "online again, with a new gateway process"


@virtual_time
async def test_being_offline_at_the_end_is_told() -> None:
    stand_in = StandInGateway(token=TOKEN)
    async with background(partial(at, 50, partial(stand_in.restart, down=3600))):
        report = await checked(stand_in)
    assert (report.ok, report.online_at_end, report.online_s) == (False, False, 50)
    assert (report.disconnects, report.reconnects) == (1, 0)
    (drop,) = report.drops
    assert (drop.at_s, drop.offline_s) == (50, None)


@virtual_time
async def test_a_drop_is_dated_from_the_first_hello() -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.stall()
    async with (
        background(partial(at, 5, stand_in.resume)),
        background(partial(at, 15, stand_in.drop)),
    ):
        report = await checked(stand_in)
    assert report.handshake_ms == 5000
    (drop,) = report.drops
    assert drop.at_s == 10


@virtual_time
async def test_each_drop_is_listed_and_the_first_thousand_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("butter_trio.check.MAX_DROPS", 2)
    stand_in = StandInGateway(token=TOKEN)
    async with (
        background(partial(at, 10, stand_in.drop)),
        background(partial(at, 30, partial(stand_in.close, 1012, "service restart"))),
        background(partial(at, 50, stand_in.drop)),
    ):
        report = await checked(stand_in)
    assert [drop.ending for drop in report.drops] == ["END_OF_STREAM", "CLOSED_BY_PEER"]
    assert [drop.at_s for drop in report.drops] == [10, 30]
    assert all(0.25 <= (drop.offline_s or 0) <= 1 for drop in report.drops)  # the first backoff
    assert (report.disconnects, report.reconnects, report.online_at_end) == (3, 3, True)


@virtual_time
async def test_a_wrong_token_ends_the_test_at_once_with_what_to_do() -> None:
    report = await checked(StandInGateway(token="another"))
    assert trio.current_time() == 0
    assert not report.ok
    assert report.handshake_ms is None
    assert (report.online_s, report.server_version) == (0, None)
    assert "gateway.auth.token" in (report.reason or "")
    assert report.rtt_ms.max is None


@virtual_time
async def test_a_token_that_is_changed_ends_the_test_early() -> None:
    stand_in = StandInGateway(token=TOKEN)

    def change() -> None:
        stand_in.token = "another"
        stand_in.close(4001, "gateway auth changed")

    async with background(partial(at, 20, change)):
        report = await checked(stand_in)
    assert 20 < trio.current_time() < 25
    assert not report.ok
    assert report.online_s == 20
    assert "AUTH_TOKEN_MISMATCH" in (report.reason or "")


@virtual_time
async def test_without_a_handshake_it_ends_15_s_after_the_first_attempt() -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.restart(down=3600)
    report = await checked(stand_in)
    assert trio.current_time() == 15
    assert not report.ok
    assert "no handshake within 15 s" in (report.reason or "")
    assert "Nothing listens there" in (report.reason or "")


@virtual_time
async def test_an_address_that_never_answers_ends_after_15_s_too() -> None:
    async def never(_: OpenTransport) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    report = await checked(StandInGateway(), dial=never)
    assert trio.current_time() == 15
    assert "no handshake within 15 s" in (report.reason or "")


@virtual_time
async def test_a_handshake_after_refusals_counts_from_the_first_attempt() -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.restart(starting=3)
    report = await checked(stand_in)
    assert report.ok
    assert report.handshake_ms is not None
    assert report.handshake_ms >= 3000


@virtual_time
async def test_scopes_that_were_not_granted_are_told() -> None:
    warned: list[str] = []
    settings = Settings(token=TOKEN, identity=Identity("test", "backend"))
    report = await checked(StandInGateway(token=TOKEN), 5, settings=settings, warn=warned.append)
    assert report.ok
    assert [text for text in warned if "did not grant operator.read, operator.write" in text]


@virtual_time
async def test_a_program_that_was_held_up_says_so() -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    warned: list[str] = []
    async with background(partial(at, 12, partial(clock.jump, 11))):
        report = await checked(StandInGateway(token=TOKEN), warn=warned.append)
    assert report.ok
    assert [text for text in warned if "held up for" in text]


@virtual_time
async def test_progress_is_shown_four_times_a_second() -> None:
    shown: list[tuple[float, str]] = []

    def show(run: Run) -> None:
        shown.append((run.elapsed, run.gateway.state.value))

    await checked(StandInGateway(token=TOKEN), 2, show=show)
    assert shown[0][0] == 0
    assert [elapsed for elapsed, _ in shown[1:5]] == [0.25, 0.5, 0.75, 1.0]
    assert {state for _, state in shown[1:]} == {"online"}


@virtual_time
async def test_settings_that_cannot_work_are_raised() -> None:
    with pytest.raises(InvalidSettings):
        await check("http://x", Access(), 60, show=ignore, warn=ignore)


@pytest.mark.parametrize(
    ("duration", "interval", "timeout"),
    [(3600, 10, 5), (60, 10, 5), (30, 5, 5), (6, 1, 1), (1, 0.5, 0.5)],
)
def test_short_tests_are_probed_faster(duration: float, interval: float, timeout: float) -> None:
    keepalive = keepalive_for(duration)
    assert (keepalive.interval, keepalive.timeout) == (interval, timeout)


def test_percentiles_are_of_the_nearest_rank() -> None:
    seconds = [n / 1000 for n in range(100, 0, -1)]
    assert [percentile(seconds, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([0.25], 0.5) == 250
    assert percentile([], 0.5) is None
