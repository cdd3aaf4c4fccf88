"""Imports, forks and the interpreter's exit: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from butter_proto.testing import StandInGateway
from butter_threads.serve import serve

TOP: Final = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> str:
    """Run a script in a fresh interpreter; return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_importing_the_threads_adapter_loads_no_event_loop() -> None:
    printed = run("import sys, butter_threads, butter_threads.serve; print(*sys.modules)")
    assert {"trio", "asyncio", "butter_trio"} & set(printed.split()) == set()


FORK = """
import os, sys, butter_threads
gateway = butter_threads.connect(sys.argv[1])
slow = gateway.submit("slow", timeout=None)
with gateway, gateway.events() as stream:
    child = os.fork()
    if not child:
        told = []
        for use in (lambda: gateway.request("health"), lambda: gateway.submit("health"),
                    gateway.wait_online, gateway.probe, lambda: next(stream), gateway.events,
                    gateway.states, gateway.notices, lambda: gateway.on("message", print),
                    lambda: gateway.off("message", print), slow.result):
            try:
                use()
            except butter_threads.ConnectionEnded as error:
                told.append("forked" in str(error))
        gateway.close()
        stream.close()
        os._exit(0 if told == [True] * 11 else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, gateway.request("echo", "alive"), gateway.stats.disconnects)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_is_told_and_the_parents_connection_goes_on() -> None:
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=float("inf"))
    with serve(stand_in) as url:
        assert run(FORK, url) == "0 alive 0\n"


def test_the_interpreter_ends_though_nothing_was_closed() -> None:
    script = """
import math, sys, threading, butter_threads
gateway = butter_threads.connect(sys.argv[1], on_online=lambda gateway: None)
gateway.on("message", print)
threading.Thread(target=lambda: next(gateway.events()), daemon=True).start()
gateway.submit("slow", timeout=None)
unreachable = butter_threads.connect("ws://127.0.0.1:9", wait=False)
print("the end")
"""
    stand_in = StandInGateway()
    stand_in.reply("slow", delay=float("inf"))
    with serve(stand_in) as url:
        assert run(script, url) == "the end\n"
