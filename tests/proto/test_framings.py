"""The same conversation over bytes and over messages: what is told does not depend on it.

The gateway is the stand-in. Over messages the virtual network is the host: a WebSocket of its own
stands between (butter_proto/testing/host.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import (
    Ending,
    EndKind,
    FaultKind,
    Framing,
    GatewayError,
    KeepaliveSettings,
    Probe,
    ReconnectSettings,
    Settings,
    State,
    events,
)
from butter_proto.testing.conditions import Conditions
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import TOKEN, Scenario

BUSY = GatewayError("UNAVAILABLE", "busy", retryable=True, retry_after=0.5)
REFUSED = GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"})
Act = Callable[[Scenario], object]


def acts(name: str, act: Act) -> st.SearchStrategy[tuple[str, Act]]:
    """Name an act, so that a falsifying example can be read."""
    return st.just((name, act))


def ask(method: str, size: int = 0, **options: Any) -> Act:
    def act(scenario: Scenario) -> None:
        if scenario.machine.state.value == "online":
            scenario.request(method, {"text": "é" * size}, **options)

    return act


def run(seconds: float) -> Act:
    return lambda scenario: scenario.run(seconds)


def say_online(frame: bytes) -> Act:
    """Make an act that brings a frame; before the upgrade it is none, and only bytes show that."""

    def say(scenario: Scenario) -> None:
        if scenario.machine.state is State.ONLINE:
            scenario.network.inject(frame)

    return say


CONVERSATION = st.lists(
    st.one_of(
        acts("wait", run(0.0)),
        *(acts(f"wait {seconds} s", run(seconds)) for seconds in (0.001, 0.5, 5.0, 40.0)),
        acts("echo", ask("echo", 300)),
        acts("slow", ask("slow", final=True, timeout=3.0)),
        acts("busy", ask("busy")),
        acts("event", lambda scenario: scenario.gateway.push("chat", {"text": "é"}, seq_gap=1)),
        acts("probe", lambda scenario: scenario.machine.probe(scenario.now)),
        acts("again", lambda scenario: scenario.machine.reconnect_now(scenario.now)),
        acts("refuse", lambda scenario: scenario.gateway.refuse_next(REFUSED)),
        acts("close", lambda scenario: scenario.gateway.close(4001, f"bye {TOKEN}")),
        acts("drop", lambda scenario: scenario.gateway.drop()),
        acts("reset", lambda scenario: scenario.gateway.drop(reset=True)),
        acts("eof", lambda scenario: scenario.network.eof()),
        acts("cut", lambda scenario: scenario.network.cut()),
        acts("restart", lambda scenario: scenario.gateway.restart(down=2.0, starting=2.0)),
        acts("stall", lambda scenario: scenario.gateway.stall()),
        acts("resume", lambda scenario: scenario.gateway.resume()),
        acts("no json", say_online(b"\x81\x02no")),
        acts("bad UTF-8", say_online(b"\x82\x01\xff")),
        acts("stop", lambda scenario: scenario.machine.stop(scenario.now)),
    ),
    max_size=15,
)


def had(
    conversation: Iterable[tuple[str, Act]], settings: Settings, conditions: Conditions
) -> Scenario:
    """Have a conversation, and an end of it."""
    gateway = StandInGateway(token=TOKEN)
    gateway.reply("slow", {"done": True}, delay=2.0, interim={"status": "accepted"})
    gateway.reply("busy", BUSY)
    scenario = Scenario(settings, gateway=gateway, conditions=conditions)
    scenario.run(1.0)
    for _, act in conversation:
        act(scenario)
    scenario.run(100.0)
    scenario.machine.stop(scenario.now)
    scenario.run(5.0)
    scenario.network.check_finished()
    return scenario


def told(scenario: Scenario) -> list[tuple[float, events.Event]]:
    """What was told and when, but for what only bytes can show.

    A host says that it is closed when both Close frames have passed; bytes end with the stream.
    """
    return [
        (inf if isinstance(event, events.Stopped) else when, seen(event))
        for when, event in scenario.network.events[scenario.machine]
        if not isinstance(event, events.FromGateway)
    ]


def seen(event: events.Event) -> events.Event:
    """Leave out what a host's WebSocket does not tell: how far an upgrade that failed had come."""
    ending = getattr(event, "ending", None)
    if ending is None or ending.online:
        return event
    failed = ending.kind is EndKind.NOT_WEBSOCKET or ending.text.endswith("the HTTP response")
    if failed or (ending.fault is not None and ending.fault.kind is FaultKind.OTHER):
        ending = Ending(EndKind.TRANSPORT_FAILED, retry_after=ending.retry_after)
    told: Any = event
    seen: events.Event = attrs.evolve(told, ending=attrs.evolve(ending, transport_opened=False))
    return seen


@given(
    CONVERSATION,
    st.sampled_from([Probe.PING, Probe.HEALTH]),
    st.sampled_from([0.0, 0.02]),
)
@example(
    [("stall", lambda one: one.gateway.stall()), ("cut", lambda one: one.network.cut())],
    Probe.PING,
    0.0,
)
def test_bytes_and_messages_tell_the_same(
    conversation: list[tuple[str, Act]], probe: Probe, latency: float
) -> None:
    """Without probes the gateway's own pings would show: only to who reads frames are they life."""
    settings = Settings(
        token=TOKEN,
        keepalive=KeepaliveSettings(probe=probe),
        reconnect=ReconnectSettings(stable_after=3.0),
    )
    conditions = Conditions(latency_up=latency, latency_down=latency)
    by_bytes, by_messages = (
        had(conversation, attrs.evolve(settings, framing=framing), conditions)
        for framing in Framing
    )
    assert told(by_messages) == told(by_bytes)
    for counter in ("attempts", "online", "disconnects", "events", "probes", "misses"):
        ours = [getattr(one.machine.stats, counter) for one in (by_bytes, by_messages)]
        assert ours[0] == ours[1], counter


def test_a_large_upload_and_its_answer_pass_over_messages_too() -> None:
    scenario = Scenario(Settings(token=TOKEN, framing=Framing.MESSAGES))
    scenario.online()
    text = "é" * 1_000_000
    request_id = scenario.request("echo", {"text": text})
    scenario.run(5.0)
    outcome = scenario.outcome(request_id)
    assert isinstance(outcome, events.Replied)
    assert outcome.payload == {"text": text}
    scenario.stop()
