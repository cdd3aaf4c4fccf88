"""Fifty threads on one connector of `butter_threads`, while the real gateway is killed and started."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import count
from typing import Any, Final

import attrs
import pytest

import butter_threads
from butter_threads import Gateway, NotOnline, RequestFailed

from .real_gateway import RealGateway

pytestmark = pytest.mark.live

THREADS: Final = 50
LOAD: Final = 4.0
"""Seconds of load before the kill, and again after the gateway is back."""
LIMIT: Final = 80.0
"""Seconds in which every thread has its last outcome."""


@attrs.define(eq=False)
class Hammer:
    """Threads that call without a deadline: a lost outcome would leave one hanging."""

    client: Gateway
    enough: threading.Event = attrs.field(factory=threading.Event)
    outcomes: list[Counter[str]] = attrs.field(factory=list)
    """One counter per thread."""
    mixed_up: list[Any] = attrs.field(factory=list)
    """Replies to another's request."""
    callbacks: Counter[int] = attrs.field(factory=Counter)
    """How often each future called back."""
    asked: list[int] = attrs.field(factory=list)
    _numbers: count[int] = attrs.field(factory=count)

    def run(self, threads: int) -> list[threading.Thread]:
        """Start the threads; each fifth asks for what is its own, the others for futures."""
        started = []
        for n in range(threads):
            self.outcomes.append(Counter())
            self.asked.append(0)
            thread = threading.Thread(target=self._call_on, args=(n,), daemon=True)
            thread.start()
            started.append(thread)
        return started

    def total(self, outcome: str) -> int:
        return sum(counter[outcome] for counter in self.outcomes)

    def _call_on(self, thread: int) -> None:
        ask = self._ask_for_health if thread % 5 else self._ask
        while not self.enough.is_set():
            self.asked[thread] += 1
            try:
                ask()
            except NotOnline:
                self.outcomes[thread]["not accepted"] += 1
                self.enough.wait(0.05)
            except RequestFailed as failure:
                self.outcomes[thread][failure.delivery.value] += 1
            else:
                self.outcomes[thread]["replied"] += 1

    def _ask(self) -> None:
        """Ask what no other call asks; the reply names the session that was asked for."""
        session = f"agent:main:hammer-{next(self._numbers)}"
        params = {"sessionKey": session, "limit": 1}
        reply = self.client.request("chat.history", params, timeout=None)
        if reply["sessionKey"] != session:
            self.mixed_up.append((session, reply["sessionKey"]))

    def _ask_for_health(self) -> None:
        number = next(self._numbers)
        future = self.client.submit("health", timeout=None)
        future.add_done_callback(lambda _: self.callbacks.update([number]))
        reply = future.result()
        if "ok" not in reply:
            self.mixed_up.append(reply)


def test_fifty_threads_have_one_outcome_for_every_call_over_a_kill_and_a_start(
    gateway: RealGateway, record_property: Any
) -> None:
    settings = butter_threads.Settings(
        reconnect=butter_threads.ReconnectSettings(base=0.2, factor=1.0, cap=0.2, minimum=0.1)
    )
    began = time.monotonic()
    with butter_threads.connect(gateway.url, token=gateway.token, settings=settings) as client:
        hammer = Hammer(client)
        threads = hammer.run(THREADS)
        time.sleep(LOAD)
        replied_before = hammer.total("replied")
        first_boot = client.hello.boot_id

        with client.states(timeout=LIMIT) as states:
            gateway.kill()
            gateway.start()
            online = next(
                event
                for event in states
                if isinstance(event, butter_threads.events.Online) and event.resync
            )
        time.sleep(LOAD)
        hammer.enough.set()
        for thread in threads:
            thread.join(max(0.0, began + LIMIT - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads)
        stats = client.stats

    assert online.hello.boot_id != first_boot
    assert hammer.mixed_up == []
    assert [counter.total() for counter in hammer.outcomes] == hammer.asked
    assert set(hammer.callbacks.values()) == {1}
    assert replied_before > 0
    assert hammer.total("replied") > replied_before
    assert 0 < hammer.total("may have executed") <= THREADS
    assert stats.disconnects == stats.reconnects == 1
    outcomes = sum(hammer.outcomes, Counter())
    record_property("calls, and their outcomes", f"{outcomes.total()}: {dict(outcomes)}")
