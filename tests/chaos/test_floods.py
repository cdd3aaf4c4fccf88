"""What a gateway, or somebody in between, may pour over a client; and the largest frames.

A flood is a change of the next chunk, so the line is idle when it begins: the one answer that is
awaited comes behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final

import attrs
import pytest

from butter_proto.errors import Ending, EndKind, MessageTooLarge
from butter_proto.events import EventsMissed
from butter_proto.machine import State
from butter_proto.settings import KeepaliveSettings
from butter_proto.testing import StandInGateway
from tests.adapters.scenario import QUICK, TOKEN, eventually
from tests.adapters.subject import FullSubject
from tests.chaos.faults import NONE, TABLE, Fault, Treatment
from tests.chaos.outcomes import Outcomes
from tests.chaos.proxy import Reached

pytestmark = pytest.mark.chaos

CALM: Final = attrs.evolve(QUICK, keepalive=KeepaliveSettings(interval=3600.0, timeout=60.0))
"""No probe of ours is on the line when the flood begins."""
MIB: Final = 1024 * 1024
LARGE: Final = "x" * (24 * MIB)
"""With the frame around it under the 25 MiB that both sides take."""
SLOW: Final = Treatment(size=64 * 1024, pause=0.05)
"""About a MiB a second."""
REST: Final = b'"type":"event","event":"flood"}'
"""What makes a gateway's event of a brace and many spaces."""


def before(flood: bytes) -> Fault:
    """Pour this over the client, before the next thing that it is told."""
    return Fault(down=Treatment(change=lambda chunk: flood + chunk))


SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\n"

BORNE: Final[Mapping[str, bytes]] = {
    "100,000 empty pings": b"\x89\x00" * 100_000,
    "100,000 full pings": (b"\x89\x7d" + b"p" * 125) * 100_000,
    "100,000 pongs": b"\x8a\x03huh" * 100_000,
    "9,000 fragments": b"\x01\x01{" + b"\x00\x01 " * 9_000 + b"\x80" + bytes([len(REST)]) + REST,
}
FATAL: Final[Mapping[str, tuple[bytes, EndKind]]] = {
    "a million fragments": (b"\x01\x01[" + b"\x00\x01 " * 1_000_000, EndKind.LIMIT_EXCEEDED),
    "a million empty fragments": (b"\x01\x01[" + b"\x00\x00" * 1_000_000, EndKind.LIMIT_EXCEEDED),
    "a frame of 2**62 bytes": (
        b"\x81\x7f" + (2**62).to_bytes(8, "big") + b"x" * MIB,
        EndKind.LIMIT_EXCEEDED,
    ),
    "a message of 26 MiB in frames of 1 MiB": (
        b"\x01\x01[" + (b"\x00\x7f" + MIB.to_bytes(8, "big") + b" " * MIB) * 26,
        EndKind.LIMIT_EXCEEDED,
    ),
}
HEADS: Final[Mapping[str, tuple[bytes, EndKind]]] = {
    "a head without an end": (SWITCHING + b"X-Flood: yes\r\n" * 100_000, EndKind.LIMIT_EXCEEDED),
    "a header of a MiB": (SWITCHING + b"X-Flood: " + b"y" * MIB, EndKind.LIMIT_EXCEEDED),
    "interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, EndKind.LIMIT_EXCEEDED),
    "a MiB that is no HTTP": (b"y" * MIB, EndKind.NOT_WEBSOCKET),
}


@pytest.mark.parametrize("name", BORNE)
def test_a_flood_that_is_within_the_rules_is_borne(
    name: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    with subject.connect(proxy.url, token=TOKEN, settings=CALM) as client:
        assert outcomes.ask(client) == "replied"
        proxy.strike(before(BORNE[name]))
        assert outcomes.ask(client) == "replied"
        proxy.heal()
        assert outcomes.ask(client) == "replied"
        assert client.stats.disconnects == 0
    outcomes.check()


@pytest.mark.parametrize("name", FATAL)
def test_a_flood_beyond_a_limit_ends_the_connection_and_the_next_one_serves(
    name: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    flood, kind = FATAL[name]
    with subject.connect(proxy.url, token=TOKEN, settings=CALM) as client:
        assert outcomes.ask(client) == "replied"
        proxy.strike(before(flood))
        assert outcomes.ask(client) == "may have executed"
        client.wait_online()
        assert last(client.last_ending) is kind, client.last_ending
        assert outcomes.ask(client) == "replied"
        assert client.stats.disconnects == 1
    outcomes.check()


@pytest.mark.parametrize("name", HEADS)
def test_a_flood_in_place_of_the_upgrade_ends_the_attempt_and_the_next_one_serves(
    name: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    flood, kind = HEADS[name]
    proxy.meet(NONE, before(flood))
    with subject.connect(proxy.url, token=TOKEN, settings=CALM) as client:
        proxy.strike(TABLE["cut"])
        eventually(lambda: client.stats.disconnects == 1)
        client.wait_online()
        assert last(client.last_ending) is kind, client.last_ending
        assert client.stats.attempts == 3
        assert outcomes.ask(client) == "replied"
    outcomes.check()


def last(ending: Ending | None) -> EndKind:
    """Return how it ended."""
    assert ending is not None
    return ending.kind


# --- the largest frames ---------------------------------------------------------------------


def test_the_largest_frames_pass_both_ways_while_others_are_served(
    subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    with subject.connect(proxy.url, token=TOKEN, settings=QUICK) as client:
        assert outcomes.ask(client, LARGE, timeout=60.0) == "replied"
        with outcomes.load(client) as until_replied:
            assert outcomes.ask(client, LARGE, timeout=60.0) == "replied"
            until_replied(10)
        with pytest.raises(MessageTooLarge):
            client.request("count", {"number": 0, "fill": LARGE + "x" * 2 * MIB})
        assert client.stats.disconnects == 0
    outcomes.check()


def test_a_gateway_on_a_slow_line_is_not_silent_while_a_large_frame_goes_up(
    subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    """A probe may wait for what is on the line, and not for all that a kernel would buffer."""
    settings = attrs.evolve(QUICK, keepalive=KeepaliveSettings(interval=0.5, timeout=0.5))
    with subject.connect(proxy.url, token=TOKEN, settings=settings) as client:
        proxy.strike(Fault(up=SLOW))
        assert outcomes.ask(client, "x" * 6 * MIB, timeout=60.0) == "replied"
        assert client.stats.disconnects == 0
    outcomes.check()


@pytest.mark.parametrize("fault", ["cut", "reset", "half-open", "stall up", "garbage up"])
def test_the_largest_frame_that_is_hurt_on_its_way_may_have_executed_and_is_not_sent_again(
    fault: str, subject: FullSubject, proxy: Reached, outcomes: Outcomes
) -> None:
    settings = attrs.evolve(QUICK, keepalive=KeepaliveSettings(interval=0.5, timeout=0.5))
    slow = Treatment(size=64 * 1024, pause=0.005)
    told: Future[str] = Future()
    with subject.connect(proxy.url, token=TOKEN, settings=settings) as client:
        proxy.strike(Fault(up=slow))
        asking = threading.Thread(target=lambda: told.set_result(outcomes.ask(client, LARGE)))
        passed = proxy.passed_up
        asking.start()
        eventually(lambda: proxy.passed_up > passed + 2 * MIB)
        proxy.strike(TABLE[fault])
        assert told.result(30) == "may have executed"
        asking.join()
        client.wait_online()
        assert outcomes.ask(client) == "replied"
        assert client.stats.disconnects == 1
    outcomes.check()
    assert outcomes.executed.total() == 1, "the hurt one was not executed"


# --- slow readers ---------------------------------------------------------------------------


def test_an_application_that_does_not_read_loses_events_and_keeps_the_connection(
    subject: FullSubject, stand_in: StandInGateway, proxy: Reached, outcomes: Outcomes
) -> None:
    with subject.connect(proxy.url, token=TOKEN, settings=QUICK) as client:
        events = client.events("chat", limit=100)
        for number in range(5_000):
            stand_in.push("chat", {"number": number, "fill": "x" * 1000})
        eventually(lambda: client.stats.events >= 5_000)
        assert outcomes.ask(client) == "replied"
        seen = [events.get() for _ in range(101)]
        assert isinstance(seen[-1], EventsMissed)
        assert seen[-1].count == 4_900
        assert client.stats.disconnects == 0
        events.close()
    outcomes.check()


def test_a_host_that_reads_slower_than_the_gateway_writes_is_closed_as_a_slow_consumer_and_back(
    subject: FullSubject, stand_in: StandInGateway, proxy: Reached, outcomes: Outcomes
) -> None:
    stand_in.policy = attrs.evolve(stand_in.policy, max_buffered_bytes=MIB)
    with subject.connect(proxy.url, token=TOKEN, settings=QUICK) as client:
        proxy.strike(Fault(down=Treatment(size=16 * 1024, pause=0.001)))
        for _ in range(40):
            stand_in.push("chat", {"fill": "x" * MIB})
        eventually(lambda: client.stats.disconnects == 1)
        client.wait_online()
        assert outcomes.ask(client) == "replied"
        assert client.state is State.ONLINE
    outcomes.check()
