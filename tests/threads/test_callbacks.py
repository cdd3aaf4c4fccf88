"""``gateway.on``: the original's names, called back in order in a thread of their own."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Any

import attrs
import pytest

from butter_proto.errors import ConnectionEnded, InvalidSettings
from butter_proto.events import Online
from butter_proto.settings import KeepaliveSettings, Limits, ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_threads import Gateway, GaveUp, callbacks, connect
from butter_threads.serve import serve
from tests.threads.scenario import EAGER, LIMIT, TOKEN, connected, until

Told = list[tuple[str, Any]]


def listen(gateway: Gateway, *names: str) -> Told:
    told: Told = []

    def note(name: str, payload: Any) -> None:
        told.append((name, payload))

    for name in names:
        gateway.on(name, partial(note, name))
    return told


def test_a_drop_and_a_reconnect_are_told_as_the_original_told_them() -> None:
    stand_in = StandInGateway()
    settings = Settings(
        reconnect=ReconnectSettings(base=0.01, factor=1.0, cap=0.01, minimum=0.001),
        keepalive=KeepaliveSettings(interval=0.05, timeout=0.05),
    )
    names = ("connected", "handshake", "disconnected", "reconnecting", "heartbeat")
    with connected(stand_in, settings) as gateway:
        told = listen(gateway, *names)
        until(lambda: ("heartbeat", None) in told)
        present = [name for name, _ in told if name != "heartbeat"]
        assert present == ["connected", "handshake"]  # who comes later is told so first
        told.clear()
        stand_in.close(1012, "service restart")
        until(lambda: any(name == "handshake" for name, _ in told))
        url = gateway.endpoint.url
    kinds = [name for name, _ in told if name != "heartbeat"]
    assert kinds[:4] == ["disconnected", "reconnecting", "connected", "handshake"]
    payloads = dict(told[::-1])
    assert payloads["disconnected"] == {"code": 1012, "reason": "service restart"}
    assert payloads["reconnecting"]["attempt"] == 2
    assert payloads["reconnecting"]["url"] == url
    assert 0 < payloads["reconnecting"]["delay"] <= 10
    assert payloads["connected"] is None
    assert payloads["handshake"]["type"] == "hello-ok"


def test_messages_come_as_the_frames_they_were_and_closing_here_is_1000() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        told = listen(gateway, "message", "disconnected")
        for n in range(3):
            stand_in.push("chat", {"n": n})
        until(lambda: len(told) == 3)
    until(lambda: len(told) == 4)
    assert [payload["payload"]["n"] for _, payload in told[:3]] == [0, 1, 2]
    assert told[0][1] == {"type": "event", "event": "chat", "payload": {"n": 0}, "seq": 1}
    assert told[3] == ("disconnected", {"code": 1000, "reason": ""})


def test_an_attempt_that_fails_is_an_error_and_giving_up_is_reconnect_failed() -> None:
    with serve(StandInGateway(token=TOKEN)) as url:
        gateway = connect(url, token="another-token", wait=False)
        told = listen(gateway, "error", "reconnect_failed", "connected")
        gateway.reconnect_now()  # where it gave up before the callbacks were there
        until(lambda: ("reconnect_failed", None) in told)
        gateway.close()
    name, error = told[0]
    assert name == "error"
    assert isinstance(error, ConnectionEnded)
    assert "token" in str(error)
    assert "another-token" not in str(error)


def test_a_callback_that_raises_is_reported_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand_in = StandInGateway()

    def raises(_: Any) -> None:
        raise ZeroDivisionError

    with connected(stand_in) as gateway:
        gateway.on("message", raises)
        told = listen(gateway, "message")
        stand_in.push("chat", 1)
        stand_in.push("chat", 2)
        until(lambda: len(told) == 2)
    assert sum(record.exc_info is not None for record in caplog.records) == 2


def test_a_callback_may_wait_for_the_gateway_and_delays_only_other_callbacks() -> None:
    stand_in = StandInGateway()
    go_on = threading.Event()
    answers: list[Any] = []

    with connected(stand_in) as gateway:

        def ask(_: Any) -> None:
            go_on.wait(LIMIT)
            answers.append(gateway.request("echo", 1))

        gateway.on("message", ask)
        stand_in.push("chat")
        until(lambda: gateway.stats.events)
        assert gateway.request("echo", 2) == 2
        stand_in.drop()
        for event in gateway.states(timeout=LIMIT):
            if isinstance(event, Online) and event.resync:
                break
        go_on.set()
        until(lambda: answers == [1])


def test_a_callback_may_close_the_gateway() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        gateway.on("message", lambda _: gateway.close())
        stand_in.push("chat")
        assert [*gateway.states(timeout=LIMIT)]


def test_off_takes_one_callback_back_and_another_name_is_refused() -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        taken_back: list[Any] = []
        gateway.on("message", taken_back.append)
        gateway.on("message", taken_back.append)
        gateway.off("message", taken_back.append)
        told = listen(gateway, "message")
        gateway.off("message", print)  # was never there
        stand_in.push("chat", 1)
        until(lambda: told)
        assert len(taken_back) == 1
        for change in (gateway.on, gateway.off):
            with pytest.raises(InvalidSettings, match="there are: connected, handshake"):
                change("open", print)


@pytest.mark.parametrize("bound", ["number", "size"])
def test_messages_that_find_no_room_are_lost_and_an_error_in_their_place_says_how_many(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    settings = EAGER
    if bound == "number":
        monkeypatch.setattr(callbacks, "LIMIT", 5)
    else:
        settings = attrs.evolve(EAGER, limits=Limits(max_event_bytes=5000))
    stand_in = StandInGateway()
    go_on = threading.Event()
    with connected(stand_in, settings) as gateway:
        gateway.on("message", lambda _: go_on.wait(LIMIT))
        told = listen(gateway, "message", "error", "disconnected")
        for n in range(20):
            stand_in.push("chat", [n, "x" * 1000])
        until(lambda: gateway.stats.events >= 20)
        assert gateway.stats.dropped_events >= 20 - 7
        stand_in.drop()  # a state change is never lost
        for event in gateway.states(timeout=LIMIT):
            if isinstance(event, Online) and event.resync:
                break
        go_on.set()
        until(lambda: "disconnected" in [name for name, _ in told])
        stand_in.push("chat", ["last"])
        until(lambda: told[-1][0] == "message")
    names = [name for name, _ in told]
    taken = names.index("error")
    assert 0 < taken < 20
    assert names[: taken + 3] == ["message"] * taken + ["error", "disconnected", "message"]
    assert f"{20 - taken} messages were missed" in str(told[taken][1])


def test_giving_up_is_told_to_who_comes_later() -> None:
    with serve(StandInGateway(token=TOKEN)) as url:
        gateway = connect(url, token="another-token", wait=False)
        with pytest.raises(GaveUp):
            gateway.wait_online(LIMIT)
        told = listen(gateway, "error", "reconnect_failed")
        until(lambda: len(told) == 2)
        gateway.close()
    assert isinstance(told[0][1], GaveUp)
    assert told[1] == ("reconnect_failed", None)


def test_what_ends_a_thread_elsewhere_ends_no_callback(caplog: pytest.LogCaptureFixture) -> None:
    stand_in = StandInGateway()
    with connected(stand_in) as gateway:
        gateway.on("message", lambda _: sys.exit(3))
        told = listen(gateway, "message")
        stand_in.push("chat")
        until(lambda: told)
    assert sum(record.exc_info is not None for record in caplog.records) == 1


def test_what_cannot_be_called_is_refused_at_once() -> None:
    with connected(StandInGateway()) as gateway, pytest.raises(InvalidSettings, match="callable"):
        gateway.on("message", 5)  # type: ignore[arg-type]


def test_on_after_closing_starts_nothing() -> None:
    with connected(StandInGateway()) as gateway:
        pass
    gateway.on("message", print)
    until(lambda: not [t for t in threading.enumerate() if "callbacks" in t.name])
