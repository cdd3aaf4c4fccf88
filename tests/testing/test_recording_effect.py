"""What is recorded of whole machines has the same effect when it is done again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from butter_proto import (
    AUTO,
    CLI,
    DeviceToken,
    FaultKind,
    Framing,
    KeepaliveSettings,
    Probe,
    Secret,
    Settings,
    TransportFault,
)
from butter_proto.testing import StandInGateway, VirtualNetwork
from butter_proto.testing.recording import Recorder, difference, load, replay
from tests.proto import gateway_side as gateway
from tests.proto.operations import World, new_machine
from tests.testing.recorded import (
    SAID,
    SECRET,
    URL,
    play,
    waiting,
)

HTTP: Final = [
    b"HTTP/1.1 103 Early\r\nLink: said\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nsaid",
    b"HTTP/1.1 403 No\r\nX-Said: said\r\nno header\r\n\r\nsaid",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\n0\r\nSaid: said\r\n\r\n",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsaid\r\nzz\r\n",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsaidsaid\r\n",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nsaid",
    b"HTTP/1.1 200 OK\r\nHalf: said",
    b"HTsaid",
    b"said",
]
ONLINE: Final = [
    gateway.frame(1, b'{"type":"po', fin=False) + gateway.frame(1, b"said"),
    gateway.frame(1, b"\xff said"),
    gateway.frame(1, b"said \xff", fin=False) + gateway.frame(0, b"x", fin=False),
    gateway.frame(1, b"said \xc3", fin=False) + gateway.frame(9, b"said"),
    gateway.frame(1, b"said" * 40)[:-3],
    gateway.frame(1, b"said" * 40)[:3],
    gateway.frame(0, b"said"),
    gateway.frame(0x41, b"said"),
    gateway.frame(8, b"\x03\xe8\xff"),
    gateway.close(1008, f"token {gateway.TOKEN[:9]}"),
    gateway.close(1012, "service restart"),
    gateway.frame(10, b"said"),
]


@pytest.mark.parametrize("data", HTTP, ids=range(len(HTTP)))
@pytest.mark.parametrize("size", [1, 1000])
def test_an_answer_to_the_upgrade_has_the_same_effect(data: bytes, size: int) -> None:
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    world.online(0)
    for place in range(0, len(data), size):
        world.say([partial(gateway.said, data=data[place : place + size])])
    world.ended()
    play(recorder)


@pytest.mark.parametrize("data", ONLINE, ids=range(len(ONLINE)))
@pytest.mark.parametrize("size", [1, 1000])
def test_what_comes_online_has_the_same_effect(data: bytes, size: int) -> None:
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    world.online()
    for place in range(0, len(data), size):
        world.say([partial(gateway.said, data=data[place : place + size])])
    world.ended()
    play(recorder)


def by_messages(world: World) -> None:
    world.request()
    world.wake_late(0.0)
    for message in ("said", "\ud800", b"said", '{"type":"pong"}'):
        world.give("receive_message", 1, message)
    world.give("receive_pong", 1, b"said")
    world.stop()


def as_device(world: World) -> None:
    world.meet(2, [partial(gateway.welcomed, device_token=gateway.OTHER_DEVICE_TOKEN)])
    world.wait(6.0)
    for code in ("AUTH_DEVICE_TOKEN_MISMATCH", "PAIRING_REQUIRED"):
        world.ended()
        world.wake_late(0.0)
        error = {"code": "NOT_PAIRED", "message": "x", "details": {"code": code}}
        world.meet(2, [partial(gateway.refused, error=error)])
        world.forgotten(gateway.DEVICE_TOKEN)
    world.failed(FaultKind.LOCAL, f"token {gateway.TOKEN}")


def every_params(world: World) -> None:
    every: list[Any] = [
        None,
        {},
        {"": 0},
        {"a": 1},
        [],
        [0],
        [SAID],
        "",
        SAID,
        5,
        12345,
        {1, 2},
        True,
    ]
    for params in every:
        world.ask("echo", params)
    for key in ("k", 5, None):
        params = {"idempotencyKey": key, "": 0} if key == "k" else {"idempotencyKey": key}
        world.ask("echo", params, timeout=float("inf"))
        world.ask("echo", params, timeout=5.0)
    world.ask("echo", {"a": float("nan")})
    world.ask(5, None)
    world.cancel(1)


@pytest.mark.parametrize(
    ("settings", "act"),
    [
        (
            Settings(framing=Framing.MESSAGES, keepalive=KeepaliveSettings(probe=Probe.PING)),
            by_messages,
        ),
        (Settings(identity=CLI, proxy="http://u:pw@127.0.0.1:1"), World.start),
        (Settings(identity=CLI, bootstrap_token=gateway.PASSWORD), as_device),
        (Settings(), every_params),
    ],
)
def test_every_input_has_the_same_effect(settings: Settings, act: Callable[[World], None]) -> None:
    for bodies in (False, True):
        recorder = Recorder(bodies=bodies)
        world = World(settings, make=recorder.connector)
        world.online()
        act(world)
        text = recorder.dump()
        step = difference(load(text))
        assert step is None, step.differences
        assert gateway.TOKEN not in text


def test_a_certificate_is_kept_where_there_are_pins() -> None:
    recorder = Recorder()
    machine = new_machine(Settings(pins="ab" * 32), url="wss://h.example/", make=recorder.connector)
    machine.start(now=1.0)
    machine.transport_opened(1, 2.0, b"\x30\x00")
    assert difference(load(recorder.dump())) is None
    assert '"certificate":["0' in recorder.dump()


def test_a_fault_is_told_without_a_secret() -> None:
    recorder = Recorder()
    machine = new_machine(Settings(token=SECRET), make=recorder.connector)
    machine.start(now=1.0)
    fault = TransportFault(FaultKind.PROXY, f"proxy said {SECRET}")
    machine.transport_failed(1, fault, 2.0)
    assert SECRET not in recorder.dump()


def test_a_device_that_waits_and_a_token_that_is_not_stored_are_told() -> None:
    recorder = Recorder()
    world = waiting(recorder, Settings(identity=CLI, token=gateway.TOKEN))
    details = {"code": "PAIRING_REQUIRED", "requestId": "r-1"}
    world.ended()
    world.wake_late(0.0)
    world.meet(2, [partial(gateway.refused, error={"code": "NOT_PAIRED", "details": details})])
    names = {d[1] for step in replay(load(recorder.dump())) for d in step.did}
    assert "PairingRequired" in names
    assert difference(load(recorder.dump())) is None


@pytest.mark.parametrize("signs", [True, False])
def test_a_signer_that_fails_fails_again(signs: bool) -> None:
    class Failing:
        public_key = bytes(range(32))

        def sign(self, _: bytes) -> bytes:
            if signs:
                return b"too short"
            raise ValueError("its words are not told")

    recorder = Recorder()
    machine = recorder.connector(
        URL, Settings(identity=CLI), random=lambda: 0.5, entropy=bytes, signer=Failing()
    )
    stand_in = StandInGateway()
    network = VirtualNetwork({("gateway.local", 18789): stand_in})
    network.add(machine)
    machine.start(network.now)
    network.run(for_=5)
    assert "SIGNER_FAILED" in recorder.dump()
    assert difference(load(recorder.dump())) is None


def test_a_host_of_messages_plays_its_closes_and_pings() -> None:
    recorder = Recorder()
    keepalive = KeepaliveSettings(probe=Probe.PING)
    world = waiting(recorder, Settings(framing=Framing.MESSAGES, keepalive=keepalive))
    world.wait(10.0)
    world.stop()
    text = recorder.dump()
    assert '"Ping"' in text
    assert '"Close"' in text
    assert difference(load(text)) is None


def test_what_runs_out_of_time_runs_out_again() -> None:
    recorder = Recorder()
    world = World(Settings(identity=CLI, token=gateway.TOKEN), make=recorder.connector)
    world.meet(2, [gateway.welcomed])
    world.wait(6.0)
    world.request(timeout=1.0)
    world.wait(2.0)
    told = [d for step in replay(load(recorder.dump())) for d in step.did]
    assert ["event", "DeviceTokenNotStored", {"timed_out": True}] in told
    assert any(d[1] == "RequestFailed" and d[2].get("timed_out") for d in told)
    assert difference(load(recorder.dump())) is None


def test_a_token_of_another_program_is_a_secret() -> None:
    recorder = Recorder()
    world = World(Settings(identity=CLI), make=recorder.connector)
    world.give("start", device_token=DeviceToken(Secret(gateway.DEVICE_TOKEN), ("a",)))
    error = {"code": "X", "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"}}
    world.meet(2, [partial(gateway.refused, error=error)])
    world.forgotten(gateway.OTHER_DEVICE_TOKEN)
    text = recorder.dump()
    assert gateway.DEVICE_TOKEN not in text
    assert gateway.OTHER_DEVICE_TOKEN not in text
    assert '"DeviceTokenRejected"' in text
    assert difference(load(text)) is None


def test_messages_of_a_host_are_written_anew() -> None:
    recorder = Recorder()
    world = waiting(recorder, Settings(framing=Framing.MESSAGES))
    for message in ('{"type":"pong","text":"said"}', b'{"type":"pong","text":"said"}', "\ud800"):
        world.give("receive_message", 1, message)
    world.give("receive_pong", 1, b"said")
    play(recorder)


def test_a_long_body_that_is_kept_is_written_around_its_blanks() -> None:
    recorder = Recorder(bodies=True)
    world = waiting(recorder)
    payload = {"a": f"{SAID}{' ' * 50}{SAID}", "b": [SECRET]}
    world.say([partial(gateway.pushed, name="chat", payload=payload)])
    assert SAID in recorder.dump()
    assert difference(load(recorder.dump())) is None


def test_what_comes_before_a_transport_is_open_is_blank() -> None:
    recorder = Recorder()
    world = World(Settings(), make=recorder.connector)
    world.give("start")
    world.say([partial(gateway.said, data=b"said" * 20)])
    play(recorder)


def test_idempotency_keys_come_out_the_same() -> None:
    recorder = Recorder()
    world = waiting(recorder, Settings(token=SECRET))
    for key in (AUTO, "a key", f"with {SECRET}"):
        world.request(keyed=False, idempotency_key=key, replay=True)
    text = recorder.dump()
    assert SECRET not in text
    assert difference(load(text)) is None


def nested(depth: int) -> Any:
    value: Any = SAID
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize("bodies", [True, False])
@pytest.mark.parametrize("depth", [90, 110, 450])
def test_what_is_nested_too_deep_to_be_walked_can_be_dumped(depth: int, bodies: bool) -> None:
    recorder = Recorder(bodies=bodies)
    world = waiting(recorder)
    world.ask("echo", nested(depth))
    world.say([partial(gateway.pushed, name="chat", payload=nested(depth))])
    text = recorder.dump()
    assert (SAID in text) == (bodies and depth == 90)
    assert difference(load(text)) is None
