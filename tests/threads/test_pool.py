"""A pool in threads: what other threads may see, what is left, Ctrl-C, the original's callbacks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import pytest

from butter_proto.errors import LocalProtocolError
from butter_proto.machine import State
from butter_proto.pool_gateway import PoolGateway
from butter_proto.request_options import Offline
from butter_proto.settings import KeepaliveSettings, ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_threads import Gateway, Pool, connect, connect_pool
from butter_threads.serve import serve
from tests.threads.scenario import EAGER, LIMIT, Parallel, own_threads, until

NOWHERE: Final = "ws://127.0.0.1:9"
PATIENT: Final = Settings(reconnect=ReconnectSettings(base=3600, cap=3600, minimum=600))


@contextmanager
def pooled(*names: str, **options: Any) -> Iterator[tuple[Pool, dict[str, StandInGateway]]]:
    """Serve a gateway for each name, and connect a pool to them."""
    stand_ins = {name: StandInGateway(seed=seed) for seed, name in enumerate(names, 1)}
    with ExitStack() as stack:
        gateways = [
            PoolGateway(stack.enter_context(serve(stand_in)), name=name)
            for name, stand_in in stand_ins.items()
        ]
        options.setdefault("settings", EAGER)
        with connect_pool(gateways, timeout=LIMIT, **options) as pool:
            until(lambda: all(one.state is State.ONLINE for one in pool.health()))
            yield pool, stand_ins


def fell(pool: Pool, stand_ins: dict[str, StandInGateway]) -> None:
    """Drop the primary, and wait until another one is."""
    before = pool.primary
    assert before is not None
    stand_ins[before].drop()
    until(lambda: pool.primary not in (None, before))


def test_any_thread_may_look_at_a_pool_while_gateways_come_and_go() -> None:
    done = threading.Event()

    def look() -> int:
        seen = 0
        while not done.is_set():
            seen += len(pool.health()) + len(pool.queued()) + pool.stats.attempts
            assert pool.endpoint.port
            assert pool.retry_at is None or pool.retry_at > 0
        return seen

    with pooled("a") as (pool, _):
        lookers = [Parallel(look) for _ in range(2)]
        for n in range(200):
            pool.remove(pool.add(PoolGateway(NOWHERE, name=f"n{n}")), drain=0)
        done.set()
        for looker in lookers:
            looker.join()
            assert looker.result > 0


def test_a_closed_pool_leaves_no_thread() -> None:
    before = {*own_threads()}
    with pooled("a", "b", on_online=lambda _: None) as (pool, stand_ins):
        pool.on("message", print)
        fell(pool, stand_ins)
        pool.remove(pool.add(PoolGateway(NOWHERE, name="c")))
        assert {*own_threads()} != before
    until(lambda: not {*own_threads()} - before)


def test_ctrl_c_ends_a_removal_that_waits_and_the_gateway_goes_all_the_same() -> None:
    with pooled("a", "b") as (pool, stand_ins):
        stand_ins["b"].reply("slow", delay=float("inf"))
        asked = pool.submit("slow", gateway="b", timeout=None)
        until(lambda: any(one.method == "slow" for one in stand_ins["b"].received))
        main = threading.get_ident()

        def interrupt() -> None:
            until(lambda: any(one.leaving for one in pool.health()))
            signal.pthread_kill(main, signal.SIGINT)

        interrupting = Parallel(interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.remove("b", drain=3600)
        interrupting.join()
        assert [one.leaving for one in pool.health()] == [False, True]
        asked.cancel()
        assert pool.request("echo", 1) == 1


def test_ctrl_c_takes_a_queued_request_back() -> None:
    with connect(NOWHERE, settings=PATIENT, wait=False) as gateway:
        main = threading.get_ident()

        def interrupt() -> None:
            until(lambda: len(gateway.queued()) == 1)
            signal.pthread_kill(main, signal.SIGINT)

        interrupting = Parallel(interrupt)
        with pytest.raises(KeyboardInterrupt):
            gateway.request("echo", offline=Offline.QUEUE, timeout=None)
        interrupting.join()
        assert gateway.queued() == ()
        assert gateway.state is not State.STOPPED


def test_a_done_callback_may_not_wait_for_a_gateway_to_come_or_go() -> None:
    told: list[str] = []

    def on_done(_: object) -> None:
        for call in (lambda: pool.remove("a"), lambda: pool.add(NOWHERE)):
            try:
                call()
            except LocalProtocolError as error:
                told.append(str(error))

    with pooled("a") as (pool, stand_ins):
        stand_ins["a"].reply("slow", "done", delay=0.05)
        pool.submit("slow").add_done_callback(on_done)
        until(lambda: len(told) == 2)
        assert all("I/O thread" in text for text in told)
        assert [one.leaving for one in pool.health()] == [False]


def test_the_hook_may_submit_to_the_queue_but_not_wait_for_it() -> None:
    told: list[Any] = []

    def hook(gateway: Gateway) -> None:
        told.append(gateway.submit("echo", "later", offline=Offline.QUEUE))
        try:
            gateway.request("echo", "now", offline=Offline.QUEUE)
        except LocalProtocolError as error:
            told.append(str(error))

    with serve(StandInGateway()) as url, connect(url, on_online=hook) as gateway:
        assert told[0].result(LIMIT) == "later"
        assert "wait for its own end" in told[1]
        assert gateway.request("echo", "other threads may", offline=Offline.QUEUE)


def test_where_another_gateway_takes_over_the_callbacks_hear_a_connection_end_and_begin() -> None:
    told: list[tuple[str, Any]] = []

    def note(name: str, payload: Any) -> None:
        told.append((name, payload))

    settings = Settings(
        reconnect=EAGER.reconnect, keepalive=KeepaliveSettings(interval=0.05, timeout=0.05)
    )
    with pooled("a", "b", settings=settings) as (pool, stand_ins):
        for name in ("connected", "handshake", "disconnected", "heartbeat", "error", "message"):
            pool.on(name, partial(note, name))
        until(lambda: ("heartbeat", None) in told)
        fell(pool, stand_ins)
        assert pool.primary is not None
        stand_ins[pool.primary].push("chat")
        until(lambda: told[-1][0] == "message" or any(name == "message" for name, _ in told))
    kinds = [name for name, _ in told if name != "heartbeat"]
    assert kinds == [
        *("connected", "handshake"),
        *("disconnected", "connected", "handshake", "error", "message"),
        "disconnected",
    ]
    ends = [payload for name, payload in told if name == "disconnected"]
    assert ends[0] == {"code": 1000, "reason": "another gateway takes over"}
