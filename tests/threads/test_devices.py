"""A device with threads: Ctrl-C and a fork while a token is stored, and no thread that stays."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from butter_proto.settings import Settings
from butter_proto.testing import StandInGateway
from butter_threads import connect
from butter_threads.serve import serve
from tests.adapters.devices import Gate, Store, device, issued
from tests.threads.scenario import LIMIT, TOKEN, Parallel, connected, own_threads, until
from tests.threads.test_processes import run


def test_a_device_has_one_thread_more_and_it_ends_with_the_gateway() -> None:
    stand_in = StandInGateway(token=TOKEN)
    with connected(stand_in) as gateway, connected(stand_in, device=device()):
        names = [thread.name.partition(": ")[2] for thread in own_threads()]
        assert names.count("tokens") == 1
        gateway.close()
    assert not any("tokens" in thread.name for thread in own_threads())


def test_ctrl_c_while_a_token_is_stored_leaves_after_it_is_durable() -> None:
    stand_in = StandInGateway(token=TOKEN)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: stand_in.online_peers == 0)  # the connection was dropped at once

    store = Store(before_save=interrupt)
    with pytest.raises(KeyboardInterrupt), connected(stand_in, device=device(store)):
        raise AssertionError
    [kept] = store.kept.values()
    assert kept.token.reveal() == issued(stand_in)


def test_a_store_may_close_the_gateway_that_it_works_for() -> None:
    stand_in, gate = StandInGateway(token=TOKEN), Gate()
    with serve(stand_in) as url:

        def close() -> None:
            gate()
            gateway.close()

        store = Store(before_save=close)
        gateway = connect(url, token=TOKEN, device=device(store), wait=False)
        gate.open()
        until(lambda: store.kept)
        gateway.close()


def test_closing_twice_waits_for_one_store_only_once() -> None:
    stand_in, gate = StandInGateway(token=TOKEN), Gate()
    store = Store(before_save=gate)
    with serve(stand_in) as url:
        gateway = connect(url, token=TOKEN, device=device(store), wait=False)
        gate.wait()
        closing = [Parallel(gateway.close), Parallel(gateway.close)]
        gate.open()
        for each in closing:
            each.join()
        assert len(store.kept) == 1


def test_no_more_threads_is_raised_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_but_one(thread: threading.Thread) -> None:
        if thread.name.endswith(": tokens"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_but_one)
    stand_in = StandInGateway(token=TOKEN)
    with (
        serve(stand_in) as url,
        pytest.raises(RuntimeError, match="new thread"),
        connect(url, token=TOKEN, device=device(), settings=Settings(), timeout=LIMIT),
    ):
        raise AssertionError


FORK = """
import os, sys, threading, butter_threads
from tests.adapters.devices import Gate, Store, device

gate = Gate()
store = Store(before_save=gate)
options = {"token": sys.argv[2], "device": device(store), "wait": False}
with butter_threads.connect(sys.argv[1], **options) as gateway:
    gate.wait()
    child = os.fork()
    if not child:
        gateway.close()
        os._exit(0 if not store.kept else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    gate.open()
    gateway.wait_online(20)
    print(code, len(store.kept), gateway.request("echo", "alive"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_a_token_is_stored_leaves_it_to_the_parent() -> None:
    with serve(StandInGateway(token=TOKEN)) as url:
        assert run(FORK, url, TOKEN) == "0 1 alive\n"
