"""What the blocking API shows that an async one does not: threads, futures, who may wait where.

What both adapters have in common is in tests/adapters.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for_futures
from functools import partial
from typing import Any

import pytest

from butter_proto.errors import Delivery
from butter_proto.events import EventsMissed, GatewayEvent, Offline, Online, Stopped
from butter_proto.settings import Limits, Settings
from butter_proto.testing import StandInGateway
from butter_threads import (
    ConnectionEnded,
    Gateway,
    InvalidParams,
    LocalProtocolError,
    NotOnline,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestRefused,
    State,
    connect,
)
from butter_threads.serve import serve
from tests.threads.scenario import LIMIT, TOKEN, Parallel, connected, until

NEVER = math.inf


# --- futures --------------------------------------------------------------------------------


def test_a_future_has_the_payload() -> None:
    with connected(StandInGateway()) as gateway:
        future = gateway.submit("echo", {"n": 1})
        assert future.result(LIMIT) == {"n": 1}
        assert future.done()
        assert not future.cancel()


def test_a_future_has_the_refusal() -> None:
    with connected(StandInGateway()) as gateway:
        future = gateway.submit("no.such.method")
        assert isinstance(future.exception(LIMIT), RequestRefused)


def test_submit_raises_what_was_not_accepted() -> None:
    with connected(StandInGateway()) as gateway:
        with pytest.raises(InvalidParams):
            gateway.submit("echo", {"n": {1, 2}})
        gateway.close()
        with pytest.raises(NotOnline):
            gateway.submit("echo")


def test_params_are_written_at_once_so_the_caller_may_change_them_afterwards() -> None:
    with connected(StandInGateway()) as gateway:
        params = {"n": 0}
        futures = []
        for n in range(100):
            params["n"] = n
            futures.append(gateway.submit("echo", params))
        assert [future.result(LIMIT)["n"] for future in futures] == list(range(100))


def test_cancelling_a_future_takes_a_request_back_that_has_not_left() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    with connected(stand_in, Settings(limits=Limits(max_in_flight=1))) as gateway:
        first = gateway.submit("slow", timeout=None)
        second = gateway.submit("echo", {"n": 2})
        assert second.cancel()
        assert second.cancelled()
        with pytest.raises(CancelledError):
            second.result()
        third = gateway.submit("echo", {"n": 3})
        until(lambda: any(request.method == "slow" for request in stand_in.received))
        assert first.cancel()
        assert not third.done()  # what has left keeps its place until the answer
    assert isinstance(third.exception(0), RequestNotSent)
    echoes = [request.params for request in stand_in.received if request.method == "echo"]
    assert echoes == []


def test_a_cancelled_future_calls_back_and_wakes_who_waits_for_it() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    with connected(stand_in) as gateway:
        future = gateway.submit("slow", timeout=None)
        called: list[Future[Any]] = []
        future.add_done_callback(called.append)
        waiting = Parallel(lambda: wait_for_futures([future], LIMIT))
        assert future.cancel()
        waiting.join()
        assert waiting.result.done == {future}
        assert called == [future]
        assert future.cancel()  # twice is no error


def test_done_callbacks_run_in_the_io_thread_and_may_submit_but_not_wait() -> None:
    stand_in = StandInGateway()
    added, done = threading.Event(), threading.Event()
    stand_in.reply("slow", lambda _: added.wait(LIMIT))
    with connected(stand_in) as gateway:
        seen: dict[str, Any] = {}

        def call_back(future: Future[Any]) -> None:
            seen["payload"] = future.result()
            for name, wait in (
                ("request", lambda: gateway.request("health")),
                ("wait_online", gateway.wait_online),
                ("next", lambda: next(gateway.events())),
            ):
                try:
                    wait()
                except LocalProtocolError as error:
                    seen[name] = str(error)
            seen["next future"] = gateway.submit("echo", 2)
            done.set()

        gateway.submit("slow").add_done_callback(call_back)
        added.set()
        assert done.wait(LIMIT)
        assert seen["payload"] is True
        assert all("must not wait" in seen[name] for name in ("request", "wait_online", "next"))
        assert seen["next future"].result(LIMIT) == 2


def test_a_done_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def raises(_: Future[Any]) -> None:
        raise ZeroDivisionError

    stand_in = StandInGateway()
    added = threading.Event()
    stand_in.reply("slow", lambda _: added.wait(LIMIT))
    with connected(stand_in) as gateway:
        future = gateway.submit("slow")
        future.add_done_callback(raises)
        added.set()
        assert future.result(LIMIT) is True
        assert gateway.request("echo", 1) == 1
        assert gateway.state is State.ONLINE
    assert any(record.exc_info for record in caplog.records)


def test_a_done_callback_that_waits_for_another_future_is_told_not_to() -> None:
    stand_in = StandInGateway()
    added = threading.Event()
    stand_in.reply("slow", lambda _: added.wait(LIMIT))
    with connected(stand_in) as gateway:
        told: list[BaseException | None] = []

        def wait(_: object) -> None:
            for ask in (gateway.submit("echo").result, gateway.submit("echo").exception):
                try:
                    ask()
                except LocalProtocolError as error:
                    told.append(error)

        future = gateway.submit("slow")
        future.add_done_callback(wait)
        added.set()
        until(lambda: len(told) == 2)
        assert future.exception(LIMIT) is None
        assert gateway.request("echo", 1) == 1


def test_a_done_callback_that_exits_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stand_in = StandInGateway()
    added = threading.Event()
    stand_in.reply("slow", lambda _: added.wait(LIMIT))
    with connected(stand_in) as gateway:
        future = gateway.submit("slow")
        future.add_done_callback(lambda _: sys.exit(3))
        added.set()
        assert future.result(LIMIT) is True
        assert gateway.request("echo", 1) == 1
        until(lambda: caplog.records)
    assert "done-callback" in caplog.records[0].message


def test_params_that_raise_fail_alone() -> None:
    class Params(dict[str, int]):
        def items(self) -> Any:
            raise KeyError("nothing here")

    with connected(StandInGateway()) as gateway:
        for ask in (gateway.request, gateway.submit):
            with pytest.raises(InvalidParams, match="KeyError"):
                ask("echo", Params(n=1))
        assert gateway.request("echo", 1) == 1
        assert gateway.stats.disconnects == 0


def test_a_gateway_may_be_closed_by_a_done_callback() -> None:
    with connected(StandInGateway()) as gateway:
        future = gateway.submit("echo")
        future.add_done_callback(lambda _: gateway.close())
        for event in gateway.states(timeout=LIMIT):
            last = event
        assert last == Stopped()


# --- streams --------------------------------------------------------------------------------


def test_a_stream_with_a_timeout_raises_and_may_be_read_on() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway, gateway.events("chat", timeout=0.01) as stream:
        with pytest.raises(TimeoutError, match="nothing came"):
            next(stream)
        stand_in.push("chat", 1)
        until(lambda: gateway.stats.events)
        event = next(stream)
        assert isinstance(event, GatewayEvent)
        assert event.payload == 1


def test_a_timeout_beyond_what_the_system_can_wait_for_is_no_error() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway, gateway.events("chat", timeout=math.inf) as stream:
        assert gateway.wait_online(math.inf) is gateway.hello
        stand_in.push("chat", 1)
        assert isinstance(next(stream), GatewayEvent)


def test_threads_that_share_a_stream_get_each_event_once() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway, gateway.events("chat") as stream:

        def read() -> list[int]:
            return [event.payload for event in stream if isinstance(event, GatewayEvent)]

        readers = [Parallel(read) for _ in range(4)]
        for n in range(200):
            stand_in.push("chat", n)
        until(lambda: gateway.stats.events >= 200)
        stream.close()
        for reader in readers:
            reader.join()
        assert sorted(n for reader in readers for n in reader.result) == list(range(200))


def test_a_stream_that_is_not_read_holds_nothing_back() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway, gateway.events("chat", limit=10, timeout=LIMIT) as stream:
        for n in range(50):
            stand_in.push("chat", n)
        until(lambda: gateway.stats.events >= 50)
        assert gateway.request("echo", 1) == 1
        taken = [next(stream) for _ in range(11)]
        assert [type(item) for item in taken] == [GatewayEvent] * 10 + [EventsMissed]


def test_a_stream_that_the_collector_closes_in_the_middle_of_a_call_stops_nobody() -> None:
    class Params(dict[str, int]):
        """Encoding it collects garbage, as any allocation may, while the gateway is locked."""

        def items(self) -> Any:
            gc.collect()
            return super().items()

    def read(gateway: Gateway) -> Iterator[object]:
        with gateway.events() as stream:
            yield from stream

    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        stand_in.push("chat")
        reader: Any = [read(gateway)]
        next(reader[0])
        reader.append(reader)
        del reader
        assert gateway.request("echo", Params(n=1)) == {"n": 1}
        until(lambda: not gateway._client._events)


def test_a_stream_that_nobody_holds_any_more_is_unsubscribed() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        stand_in.push("chat")
        for _ in gateway.events():
            break
        gc.collect()
        assert gateway._client._events == {}


def test_a_call_in_the_middle_of_another_one_is_refused_and_does_not_hang() -> None:
    told: list[str] = []

    class Params(dict[str, int]):
        def items(self) -> Any:
            for call in (
                gateway.close,
                gateway.probe,
                gateway.events,
                gateway.wait_online,
                lambda: gateway.request("echo"),
                lambda: gateway.submit("echo"),
                lambda: gateway.on("message", print),
            ):
                try:
                    call()
                except LocalProtocolError as error:
                    told.append(str(error))
            return super().items()

    with connected(StandInGateway()) as gateway:
        assert gateway.request("echo", Params(n=1)) == {"n": 1}
    assert told == ["called in the middle of another call"] * 7


def test_what_led_to_a_refusal_is_known_when_it_is_raised() -> None:
    """Else ``wait_online`` after a `NotOnline` would return at once."""
    with connected(StandInGateway(), Settings()) as gateway:

        def end_and_refuse(now: float) -> None:
            gateway._machine.receive_data(1, b"", now)
            raise NotOnline("the stream has just ended")

        with pytest.raises(NotOnline):
            gateway._driver.call(end_and_refuse)
        assert not gateway._client.online


# --- closing --------------------------------------------------------------------------------


def test_closing_wakes_every_waiter_whatever_it_waits_for() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    with connected(stand_in) as gateway:
        states = gateway.states()
        next(states)

        def fails(kind: type[Exception]) -> Parallel:
            def ask() -> None:
                with pytest.raises(kind):
                    gateway.request("slow", timeout=None)

            return Parallel(ask)

        waiting = [
            fails(RequestMayHaveExecuted),
            Parallel(lambda: list(gateway.events())),
            Parallel(lambda: list(gateway.notices())),
            Parallel(lambda: list(states)),
        ]
        future = gateway.submit("slow", timeout=None)
        until(lambda: sum(request.method == "slow" for request in stand_in.received) == 2)
        gateway.close()
        for thread in waiting:
            thread.join()
        assert isinstance(future.exception(0), RequestMayHaveExecuted)
        gateway.close()
        with pytest.raises(ConnectionEnded, match="stopped"):
            gateway.wait_online(0)


def test_closing_wakes_a_thread_that_waits_for_a_gateway_that_is_not_there() -> None:
    with serve(StandInGateway()) as url:
        pass
    gateway = connect(url, wait=False)

    def wait() -> None:
        with pytest.raises(ConnectionEnded, match="stopped"):
            gateway.wait_online()

    waiting = Parallel(wait)
    gateway.close()
    waiting.join()


def test_ctrl_c_takes_the_request_back_and_leaves_the_connection_alone() -> None:
    stand_in = StandInGateway()

    def interrupt(_: object) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    stand_in.reply("slow", interrupt, delay=NEVER)
    with connected(stand_in, Settings(limits=Limits(max_pending=1))) as gateway:
        with pytest.raises(KeyboardInterrupt):
            gateway.request("slow", timeout=None)
        assert gateway.request("echo", 1) == 1  # its place among the pending is free again
        assert gateway.stats.disconnects == 0


# --- the hook -------------------------------------------------------------------------------


def test_the_hook_may_wait_and_runs_before_connect_returns_and_after_each_reconnect() -> None:
    stand_in = StandInGateway()
    answers: list[Any] = []

    def greet(gateway: Gateway) -> None:
        answers.append(gateway.request("echo", len(answers)))

    with connected(stand_in, on_online=greet) as gateway:
        assert answers == [0]
        stand_in.drop()
        until(lambda: answers == [0, 1])
        assert gateway.wait_online(LIMIT) is gateway.hello


def test_a_hook_that_a_drop_interrupts_runs_again_and_one_that_raises_counts_as_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand_in = StandInGateway()
    runs: list[str] = []

    def hook(gateway: Gateway) -> None:
        runs.append("began")
        if len(runs) == 1:
            with gateway.states(timeout=LIMIT) as states:
                stand_in.drop()
                assert any(isinstance(event, Offline) for event in states)
        raise ZeroDivisionError

    with connected(stand_in, on_online=hook) as gateway:
        assert gateway.state is State.ONLINE
        assert runs == ["began", "began"]
    reported = [record for record in caplog.records if record.exc_info]
    assert len(reported) == 1
    assert "on_online" in reported[0].message


# --- many threads ---------------------------------------------------------------------------


def test_each_of_many_threads_gets_its_own_answer() -> None:
    with connected(StandInGateway()) as gateway:

        def ask(first: int) -> None:
            for n in range(first, first + 50):
                assert gateway.request("echo", n) == n

        threads = [Parallel(partial(ask, first)) for first in range(0, 1000, 50)]
        for thread in threads:
            thread.join()


def test_a_refusal_to_wait_in_vain_is_told_by_its_delivery() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=NEVER)
    with connected(stand_in) as gateway:
        future = gateway.submit("slow", timeout=None)
        until(lambda: any(request.method == "slow" for request in stand_in.received))
        stand_in.drop()
        error = future.exception(LIMIT)
        assert isinstance(error, RequestMayHaveExecuted)
        assert error.delivery is Delivery.MAY_HAVE_EXECUTED


# --- logging --------------------------------------------------------------------------------


def test_each_state_change_is_one_line_and_no_line_has_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand_in = StandInGateway(token=TOKEN)
    with caplog.at_level(logging.DEBUG, "butter_threads"), connected(stand_in) as gateway:
        stand_in.drop()
        for event in gateway.states(timeout=LIMIT):
            if isinstance(event, Online) and event.resync:
                break
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0].split(";")[0] for line in lines] == [
        "transport 1: connecting",
        "transport 1: online",
        "transport 1: offline: the stream ended",
        "transport 1: the stream ended",
        "transport 2: connecting",
        "transport 2: online",
        "transport 2: offline: stopped here",
        "transport 2: stopped",
    ]
    assert TOKEN not in caplog.text
