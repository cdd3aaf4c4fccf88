"""``connect`` and what it yields: requests, streams, the hook, and how everything ends."""

from __future__ import annotations

import logging
import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from butter_proto.errors import ConnectionEnded, Delivery, EndKind, GatewayError, InvalidSettings
from butter_proto.events import (
    Connecting,
    EventsMissed,
    GatewayEvent,
    GaveUp,
    MissReason,
    Notice,
    Offline,
    Online,
    Retrying,
    RoundTrip,
    ScopesReduced,
    Stopped,
)
from butter_proto.identity import Identity
from butter_proto.machine import OpenTransport
from butter_proto.settings import Dialect, Framing, Limits, ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_trio import (
    ConnectTimeout,
    Dial,
    Gateway,
    InvalidParams,
    NotOnline,
    PendingFull,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestRefused,
    RequestTimeout,
    State,
    connect,
)
from butter_trio import GaveUp as GaveUpError
from butter_trio.testing import memory_dial
from tests.trio.scenario import URL, Oops, tasks_living, until, virtual_time

NEVER = math.inf
WRONG_TOKEN = GatewayError(
    "INVALID_REQUEST", "unauthorized: token mismatch", {"code": "AUTH_TOKEN_MISMATCH"}
)


async def never(_: OpenTransport) -> trio.abc.Stream:
    await trio.sleep_forever()
    raise AssertionError


# --- connect --------------------------------------------------------------------------------


@virtual_time
async def test_connect_returns_when_online() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        assert gateway.state is State.ONLINE
        assert gateway.hello.protocol == 4
        assert str(gateway.endpoint) == "ws://gateway.local/"
        assert gateway.retry_at is None
        assert gateway.last_ending is None


@virtual_time
async def test_without_waiting_connect_returns_at_once_and_wait_online_waits() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway()), wait=False) as gateway:
        assert gateway.state is State.CONNECTING
        with pytest.raises(NotOnline):
            _ = gateway.hello
        with pytest.raises(NotOnline):
            await gateway.request("health")
        hello = await gateway.wait_online()
        assert hello is gateway.hello


@virtual_time
async def test_connect_times_out_with_the_last_ending() -> None:
    stand_in = StandInGateway()
    stand_in.refuse_upgrade_next(503, times=100)
    with pytest.raises(ConnectTimeout) as caught:
        async with connect(URL, dial=memory_dial(stand_in), timeout=20):
            raise AssertionError
    assert trio.current_time() == 20
    assert caught.value.ending is not None
    assert caught.value.ending.http_status == 503


@virtual_time
async def test_connect_times_out_without_an_ending_where_no_attempt_had_one() -> None:
    with pytest.raises(ConnectTimeout, match="not online after 3 s") as caught:
        async with connect(URL, dial=never, timeout=3):
            raise AssertionError
    assert caught.value.ending is None


@virtual_time
async def test_without_a_timeout_connect_waits_for_hours() -> None:
    stand_in = StandInGateway()
    stand_in.restart(down=4 * 3600.0)
    async with connect(URL, dial=memory_dial(stand_in), timeout=None):
        assert trio.current_time() >= 4 * 3600


@virtual_time
async def test_giving_up_is_raised_as_it_is_with_its_advice() -> None:
    stand_in = StandInGateway(token="secret")
    with pytest.raises(GaveUpError) as caught:
        async with connect(URL, token="wrong", dial=memory_dial(stand_in)):
            raise AssertionError
    assert "gateway.auth.token" in caught.value.advice
    assert stand_in.connections == 1
    assert "wrong" not in str(caught.value).replace("is wrong", "")


@virtual_time
async def test_settings_that_cannot_work_are_raised_before_anything_is_dialed() -> None:
    with pytest.raises(InvalidSettings):
        async with connect("http://gateway.local", dial=never):
            raise AssertionError
    with pytest.raises(InvalidSettings, match="moves bytes"):
        async with connect(URL, settings=Settings(framing=Framing.MESSAGES), dial=never):
            raise AssertionError


@virtual_time
async def test_the_token_goes_before_that_of_the_settings() -> None:
    stand_in = StandInGateway(token="right", legacy=True)
    settings = Settings(token="wrong", dialect=Dialect.OPENBUTTER_V1)
    async with connect(URL, token="right", settings=settings, dial=memory_dial(stand_in)):
        assert stand_in.received[0].params["client"]["id"] == "openbutter"


# --- how it ends ----------------------------------------------------------------------------


@virtual_time
async def test_no_task_outlives_the_block() -> None:
    before = tasks_living()
    stand_in = StandInGateway()
    hook_ran = trio.Event()

    async def hook(_: Gateway) -> None:
        hook_ran.set()

    async with connect(URL, dial=memory_dial(stand_in), on_online=hook):
        assert tasks_living() > before
    assert tasks_living() == before
    assert hook_ran.is_set()


@virtual_time
async def test_no_task_outlives_a_block_that_never_came_online() -> None:
    before = tasks_living()
    async with connect(URL, dial=never, wait=False):
        await trio.sleep(100)
    assert tasks_living() == before


@virtual_time
async def test_a_block_may_be_left_before_anything_ran() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in), wait=False):
        pass
    assert stand_in.connections == 0


@virtual_time
async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(Oops):
        async with connect(URL, dial=memory_dial(StandInGateway())):
            raise Oops


@virtual_time
async def test_leaving_normally_waits_a_second_at_most_for_a_silent_gateway() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)):
        stand_in.stall()
        left_at = trio.current_time()
    assert trio.current_time() == left_at + 1


@virtual_time
async def test_leaving_by_an_exception_waits_for_nobody() -> None:
    stand_in = StandInGateway()

    async def body() -> None:
        async with connect(URL, dial=memory_dial(stand_in)):
            stand_in.stall()
            raise Oops

    with pytest.raises(Oops):
        await body()
    assert trio.current_time() == 0


@virtual_time
async def test_leaving_by_a_cancellation_waits_for_nobody() -> None:
    stand_in = StandInGateway()
    with trio.move_on_after(3) as scope:
        async with connect(URL, dial=memory_dial(stand_in)):
            stand_in.stall()
            await trio.sleep(NEVER)
    assert scope.cancelled_caught
    assert trio.current_time() == 3


@virtual_time
async def test_an_exception_while_cleaning_up_after_a_cancellation_is_not_lost() -> None:
    async def body() -> None:
        async with connect(URL, dial=memory_dial(StandInGateway())):
            try:
                await trio.sleep_forever()
            finally:
                raise Oops

    with pytest.raises(Oops), trio.move_on_after(3):
        await body()


@virtual_time
async def test_a_shielded_request_after_a_cancellation_fails_and_does_not_hang() -> None:
    with trio.move_on_after(3):
        async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                    with pytest.raises(NotOnline):
                        await gateway.request("health", timeout=None)


@virtual_time
async def test_a_request_that_waits_in_a_shield_is_woken_by_the_cancellation() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    with trio.move_on_after(3):
        async with connect(URL, dial=memory_dial(stand_in)) as gateway:
            with trio.CancelScope(shield=True), pytest.raises(RequestMayHaveExecuted):
                await gateway.request("slow", timeout=None)
            assert trio.current_time() == 3


@virtual_time
async def test_after_the_block_nothing_can_be_asked_and_nothing_hangs() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        pass
    assert gateway.state is State.STOPPED
    gateway.probe()
    gateway.reconnect_now()
    with pytest.raises(NotOnline):
        await gateway.request("health")
    with pytest.raises(ConnectionEnded, match="stopped"):
        await gateway.wait_online()
    assert [event async for event in gateway.states()] == [Stopped()]
    assert [event async for event in gateway.events()] == []
    assert [notice async for notice in gateway.notices()] == []


# --- requests -------------------------------------------------------------------------------


@virtual_time
async def test_a_refusal_is_raised_with_the_gateways_error() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        with pytest.raises(RequestRefused) as caught:
            await gateway.request("models.delete")
        assert caught.value.error is not None
        assert caught.value.error.detail_code == "MISSING_SCOPE"
        assert caught.value.method == "models.delete"
        assert caught.value.delivery is Delivery.REFUSED


@virtual_time
async def test_a_request_has_thirty_seconds_unless_it_is_told_otherwise() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", "late", delay=100)
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        with pytest.raises(RequestTimeout) as caught:
            await gateway.request("slow")
        assert caught.value.delivery is Delivery.MAY_HAVE_EXECUTED
        assert trio.current_time() == 30
        with pytest.raises(RequestTimeout):
            await gateway.request("slow", timeout=5)
        assert trio.current_time() == 35
        assert await gateway.request("slow", timeout=None) == "late"
        assert trio.current_time() == 135


@virtual_time
async def test_a_request_without_an_answer_may_have_executed_when_the_connection_drops() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    async with connect(URL, dial=memory_dial(stand_in)) as gateway, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def ask() -> None:
            with pytest.raises(RequestMayHaveExecuted) as caught:
                await gateway.request("slow", {"idempotencyKey": "key-1"})
            assert caught.value.idempotency_key == "key-1"

        await trio.sleep(1)
        stand_in.drop()


@virtual_time
async def test_a_final_reply_is_waited_for_past_the_interim_one() -> None:
    stand_in = StandInGateway()
    stand_in.reply("agent", {"status": "ok"}, interim={"status": "accepted"}, delay=3)
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        assert await gateway.request("agent") == {"status": "accepted"}
        assert await gateway.request("agent", final=True) == {"status": "ok"}


@virtual_time
async def test_a_request_that_cannot_be_written_is_refused_here() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        with pytest.raises(InvalidParams):
            await gateway.request("echo", object())
        assert await gateway.request("echo", 1) == 1


@virtual_time
async def test_a_cancelled_request_that_has_not_left_never_leaves() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", "done", delay=10)
    settings = Settings(limits=Limits(max_in_flight=1))
    async with connect(URL, settings=settings, dial=memory_dial(stand_in)) as gateway:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.request, "slow")
            await trio.sleep(1)
            with trio.move_on_after(1) as scope:
                await gateway.request("echo", "never sent")
            assert scope.cancelled_caught
        assert await gateway.request("echo", "sent") == "sent"
        assert [each.params for each in stand_in.received if each.method == "echo"] == ["sent"]


@virtual_time
async def test_cancelled_requests_leak_no_place() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    settings = Settings(limits=Limits(max_pending=1))
    async with connect(URL, settings=settings, dial=memory_dial(stand_in)) as gateway:
        for _ in range(10):
            with trio.move_on_after(1):
                await gateway.request("slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.request, "slow")
            await trio.sleep(1)
            with pytest.raises(PendingFull):
                await gateway.request("slow")
            nursery.cancel_scope.cancel()
        assert await gateway.request("health")


@virtual_time
async def test_the_late_answer_of_a_cancelled_request_reaches_nobody() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", "late", delay=5)
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        with trio.move_on_after(1):
            await gateway.request("slow")
        assert await gateway.request("echo", 1) == 1
        await trio.sleep(10)
        assert gateway.stats.ignored_frames == 1


@virtual_time
async def test_a_request_in_a_cancelled_scope_is_not_sent() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        with trio.CancelScope() as scope:
            scope.cancel()
            await gateway.request("echo", 1)
        await gateway.request("health")
        assert [each.method for each in stand_in.received] == ["connect", "health"]


@virtual_time
async def test_a_thousand_requests_at_once_are_all_answered() -> None:
    stand_in = StandInGateway()
    answers = []
    async with connect(URL, dial=memory_dial(stand_in)) as gateway, trio.open_nursery() as nursery:
        for n in range(1000):

            @nursery.start_soon
            async def ask(n: int = n) -> None:
                answers.append(await gateway.request("echo", n) == n)

    assert answers == [True] * 1000


# --- events ---------------------------------------------------------------------------------


def payload_of(item: GatewayEvent | EventsMissed) -> Any:
    assert isinstance(item, GatewayEvent)
    return item.payload


@virtual_time
async def test_events_come_by_name_from_the_subscription_on() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        stand_in.push("chat", "before")
        await trio.sleep(1)
        chats, all_of_them = gateway.events("chat"), gateway.events()
        stand_in.push("agent", 1)
        stand_in.push("chat", 2)
        assert payload_of(await anext(chats)) == 2
        assert [payload_of(await anext(all_of_them)) for _ in range(2)] == [1, 2]


@virtual_time
async def test_a_slow_reader_is_told_how_many_events_it_lost() -> None:
    stand_in = StandInGateway()
    async with (
        connect(URL, dial=memory_dial(stand_in)) as gateway,
        gateway.events("chat", limit=2) as events,
    ):
        for n in range(5):
            stand_in.push("chat", n)
        await trio.sleep(1)
        assert [payload_of(await anext(events)) for _ in range(2)] == [0, 1]
        assert await anext(events) == EventsMissed(MissReason.OVERFLOW, 3)
        stand_in.push("chat", "after")
        assert payload_of(await anext(events)) == "after"


@virtual_time
async def test_a_gap_is_told_before_the_event_that_shows_it() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        events = gateway.events("chat")
        stand_in.push("chat", 1, seq_gap=3)
        assert await anext(events) == EventsMissed(MissReason.GAP, 3)
        assert payload_of(await anext(events)) == 1


@virtual_time
async def test_a_reconnect_is_told_in_its_place_among_the_events() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        events = gateway.events("chat")
        stand_in.push("chat", "before")
        stand_in.restart()
        await until(gateway, Offline)
        await gateway.wait_online()
        stand_in.push("chat", "after")
        assert payload_of(await anext(events)) == "before"
        assert await anext(events) == EventsMissed(MissReason.RECONNECT)
        assert payload_of(await anext(events)) == "after"


@virtual_time
async def test_the_events_end_with_the_block() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        events = gateway.events("chat")
        stand_in.push("chat", "last")
        await trio.sleep(1)
    assert [payload_of(item) async for item in events] == ["last"]


@virtual_time
async def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    async with (
        trio.open_nursery() as nursery,
        connect(URL, dial=memory_dial(StandInGateway())) as gateway,
    ):

        @nursery.start_soon
        async def read() -> None:
            assert [item async for item in gateway.events("chat")] == []

        await trio.testing.wait_all_tasks_blocked()


@virtual_time
async def test_the_events_raise_after_giving_up() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        events = gateway.events("chat")
        stand_in.push("chat", "last")
        stand_in.refuse_next(WRONG_TOKEN)
        stand_in.close(4001, "gateway auth changed")
        assert payload_of(await anext(events)) == "last"
        with pytest.raises(GaveUpError):
            await anext(events)


@virtual_time
async def test_leaving_a_stream_unsubscribes() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        async with gateway.events("chat") as events, gateway.notices(), gateway.states():
            pass
        stand_in.push("chat")
        await trio.sleep(1)
        assert [item async for item in events] == []


@virtual_time
async def test_a_cancelled_reader_loses_no_event() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        events = gateway.events("chat")
        with trio.move_on_after(1):
            await anext(events)
        stand_in.push("chat", 1)
        with trio.CancelScope() as scope:
            await trio.sleep(1)
            scope.cancel()
            await anext(events)
        assert payload_of(await anext(events)) == 1


@virtual_time
async def test_a_limit_under_one_is_refused() -> None:
    async with connect(URL, dial=memory_dial(StandInGateway())) as gateway:
        with pytest.raises(InvalidSettings):
            gateway.events(limit=0)


# --- states and notices ---------------------------------------------------------------------


@virtual_time
async def test_states_begin_with_the_present_one_and_go_on_in_order() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        states = gateway.states()
        stand_in.drop()
        seen = [await anext(states) for _ in range(5)]
        assert [type(event) for event in seen] == [Online, Offline, Retrying, Connecting, Online]
        assert isinstance(seen[4], Online)
        assert seen[4].resync
    assert [type(event) async for event in states] == [Offline, Stopped]


@virtual_time
async def test_wait_online_after_giving_up_raises_until_told_to_try_again() -> None:
    stand_in = StandInGateway()
    stand_in.refuse_next(WRONG_TOKEN)
    async with connect(URL, dial=memory_dial(stand_in), wait=False) as gateway:
        with pytest.raises(GaveUpError):
            await gateway.wait_online()
        assert gateway.state is State.BLOCKED
        with pytest.raises(GaveUpError):
            await gateway.wait_online()
        gateway.reconnect_now()
        await gateway.wait_online()


@virtual_time
async def test_wait_online_of_no_time_tells_whether_it_is() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        await gateway.wait_online(0)
        stand_in.restart(down=10)
        await until(gateway, Offline)
        with pytest.raises(ConnectTimeout) as caught:
            await gateway.wait_online(0)
        assert caught.value.ending is not None
        assert caught.value.ending.kind is EndKind.CLOSED_BY_PEER


@virtual_time
async def test_reconnect_now_ends_a_backoff() -> None:
    stand_in = StandInGateway()
    settings = Settings(reconnect=ReconnectSettings(base=3600, cap=3600, minimum=600))
    async with connect(URL, settings=settings, dial=memory_dial(stand_in)) as gateway:
        stand_in.drop()
        await until(gateway, Retrying)
        assert gateway.retry_at is not None
        gateway.reconnect_now()
        await gateway.wait_online()
        assert trio.current_time() == 0


@virtual_time
async def test_each_probe_tells_its_round_trip() -> None:
    stand_in = StandInGateway()
    async with connect(URL, dial=memory_dial(stand_in)) as gateway:
        notices = gateway.notices()
        gateway.probe()
        assert await anext(notices) == RoundTrip(0.0)
        assert trio.current_time() == 0
        await anext(notices)
        assert trio.current_time() == 10


@virtual_time
async def test_scopes_that_were_not_granted_are_told_to_who_asks_later() -> None:
    settings = Settings(identity=Identity("test", "backend"))
    async with connect(URL, settings=settings, dial=memory_dial(StandInGateway())) as gateway:
        reduced = await anext(gateway.notices())
        assert isinstance(reduced, ScopesReduced)
        assert reduced.missing == ("operator.read", "operator.write")


@virtual_time
async def test_a_pairing_request_stands_until_the_device_is_in() -> None:
    stand_in = StandInGateway()
    details = {"code": "PAIRING_REQUIRED", "requestId": "r-1"}
    stand_in.refuse_next(GatewayError("NOT_PAIRED", "wait", details), times=2)
    async with connect(URL, dial=memory_dial(stand_in), wait=False) as gateway:
        await trio.sleep(1)
        told: Notice = await anext(gateway.notices())
        assert attrs.asdict(told)["request_id"] == "r-1"
        await gateway.wait_online()
        with trio.move_on_after(5) as scope:
            await anext(gateway.notices())
        assert scope.cancelled_caught


# --- the hook -------------------------------------------------------------------------------


@virtual_time
async def test_the_hook_is_done_before_connect_returns() -> None:
    stand_in = StandInGateway()
    stand_in.reply("subscribe", delay=4)
    done = []

    async def hook(gateway: Gateway) -> None:
        await gateway.request("subscribe")
        done.append(trio.current_time())

    async with connect(URL, dial=memory_dial(stand_in), on_online=hook):
        assert done == [4]
        assert trio.current_time() == 4


@virtual_time
async def test_the_hook_runs_after_each_reconnect_and_wait_online_waits_for_it() -> None:
    stand_in = StandInGateway()
    done = []

    async def hook(_: Gateway) -> None:
        await trio.sleep(2)
        done.append(trio.current_time())

    async with connect(URL, dial=memory_dial(stand_in), on_online=hook) as gateway:
        for runs in (2, 3):
            stand_in.drop()
            await until(gateway, Offline)
            await gateway.wait_online()
            assert len(done) == runs


@virtual_time
async def test_a_hook_that_a_drop_interrupts_runs_again_and_is_not_reported() -> None:
    stand_in = StandInGateway()
    stand_in.reply("subscribe", delay=NEVER)
    runs: list[str] = []

    async def hook(gateway: Gateway) -> None:
        runs.append("began")
        if len(runs) == 1:
            stand_in.drop()
        else:
            stand_in.reply("subscribe", "ok")
        await gateway.request("subscribe", timeout=None)
        runs.append("done")

    async with connect(URL, dial=memory_dial(stand_in), on_online=hook):
        assert runs == ["began", "began", "done"]


@pytest.mark.parametrize("how", ["raises at once", "in a nursery", "of the drop"])
def test_a_hook_that_raises_because_of_a_drop_is_not_reported(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual_time
    async def scenario() -> None:
        stand_in = StandInGateway()
        runs = []

        async def hook(gateway: Gateway) -> None:
            runs.append(how)
            if len(runs) == 2:
                return
            stand_in.drop()
            try:
                if how == "of the drop":
                    await gateway.request("slow")
                await trio.sleep_forever()
            finally:
                if how == "in a nursery":
                    with trio.CancelScope(shield=True):
                        await raise_in_a_nursery()
                if how == "raises at once":
                    raise Oops

        stand_in.reply("slow", delay=NEVER)
        async with connect(URL, dial=memory_dial(stand_in), on_online=hook):
            assert len(runs) == 2

    scenario()
    assert caplog.records == []


async def raise_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def child() -> None:
            raise Oops

        await trio.sleep_forever()


def test_a_hook_that_raises_is_reported_and_counts_as_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @virtual_time
    async def scenario() -> None:
        async def hook(_: Gateway) -> None:
            raise Oops

        async with connect(URL, dial=memory_dial(StandInGateway()), on_online=hook) as gateway:
            assert gateway.state is State.ONLINE
            await trio.sleep(100)

    scenario()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is Oops


@virtual_time
async def test_a_hook_that_hangs_is_bounded_by_the_timeout() -> None:
    async def hook(_: Gateway) -> None:
        await trio.sleep_forever()

    with pytest.raises(ConnectTimeout):
        async with connect(URL, dial=memory_dial(StandInGateway()), on_online=hook, timeout=9):
            raise AssertionError
    assert trio.current_time() == 9


@virtual_time
async def test_requests_go_on_while_the_hook_runs() -> None:
    hold = trio.Event()

    async def hook(_: Gateway) -> None:
        await hold.wait()

    dial: Dial = memory_dial(StandInGateway())
    async with connect(URL, dial=dial, on_online=hook, wait=False) as gateway:
        await until(gateway, Online)
        assert await gateway.request("echo", 1) == 1
        hold.set()
        await gateway.wait_online()


@virtual_time
async def test_giving_up_is_seen_by_who_watches_the_states() -> None:
    stand_in = StandInGateway()
    stand_in.refuse_next(WRONG_TOKEN)
    async with connect(URL, dial=memory_dial(stand_in), wait=False) as gateway:
        await until(gateway, GaveUp)
        assert gateway.state is State.BLOCKED


@virtual_time
async def test_a_request_that_waits_behind_others_is_not_sent_when_the_connection_ends() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    settings = Settings(limits=Limits(max_in_flight=1))
    async with (
        connect(URL, settings=settings, dial=memory_dial(stand_in)) as gateway,
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def first() -> None:
            with pytest.raises(RequestMayHaveExecuted):
                await gateway.request("slow")

        await trio.sleep(1)

        @nursery.start_soon
        async def second() -> None:
            with pytest.raises(RequestNotSent):
                await gateway.request("slow")

        await trio.sleep(1)
        stand_in.drop()


@virtual_time
async def test_a_reader_that_does_nothing_else_takes_a_burst_whole() -> None:
    stand_in = StandInGateway()
    async with (
        connect(URL, dial=memory_dial(stand_in)) as gateway,
        gateway.events("chat") as stream,
    ):
        for number in range(5000):
            stand_in.push("chat", [number, "x" * 200])
        for number in range(5000):
            event = await stream.__anext__()
            assert isinstance(event, GatewayEvent)
            assert event.payload[0] == number


@virtual_time
async def test_a_stream_that_raises_anything_is_a_drop_and_no_crash() -> None:
    """Lessons 16: every failure is an input of the machine."""
    stand_in = StandInGateway()
    dial = memory_dial(stand_in)
    broken: list[trio.abc.Stream] = []

    async def fragile(command: OpenTransport) -> trio.abc.Stream:
        stream = await dial(command)
        if not broken:
            broken.append(stream)
            return Fragile(stream)
        return stream

    async with connect(URL, dial=fragile) as gateway:
        assert gateway.stats.attempts == 2


class Fragile(trio.abc.Stream):
    """A stream whose reads fail in a way of their own."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        raise Oops(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@virtual_time
async def test_a_stream_opened_after_giving_up_raises_it() -> None:
    stand_in = StandInGateway(token="right")
    async with connect(URL, token="wrong", dial=memory_dial(stand_in), wait=False) as gateway:
        with pytest.raises(GaveUpError):
            await gateway.wait_online()
        with pytest.raises(GaveUpError):
            await gateway.events().__anext__()


@virtual_time
async def test_the_size_of_what_waits_for_a_reader_is_bounded_by_the_settings() -> None:
    stand_in = StandInGateway()
    settings = Settings(limits=Limits(max_event_bytes=5000))
    async with (
        connect(URL, settings=settings, dial=memory_dial(stand_in)) as gateway,
        gateway.events("chat") as stream,
    ):
        for _ in range(20):
            stand_in.push("chat", "x" * 1000)
            await trio.sleep(1)
        taken = [await stream.__anext__() for _ in range(6)]
    assert [type(item) for item in taken] == [GatewayEvent] * 5 + [EventsMissed]
