"""The wire trace: what it tells of each message, what it hides, and that nothing else changes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import (
    CLI,
    EndKind,
    Framing,
    KeepaliveSettings,
    Probe,
    Secret,
    Settings,
    State,
    Traced,
)
from butter_proto.redaction import Redaction
from butter_proto.secret import MASK
from butter_proto.trace import HIDDEN, Tracer
from tests.proto.gateway_side import (
    PASSWORD,
    PAYLOAD,
    TOKEN,
    answered,
    close,
    frame,
    pushed,
    refused,
    said,
)
from tests.proto.operations import Op, World, op, replay
from tests.proto.strategies import json_values, over_both_framings, roomy_settings, runs

MARK: Final = "QQ-"
KEYS: Final = (
    *("token", "password", "deviceToken", "bootstrapToken", "signature", "recoveryScope"),
    *("deviceTokens", "pluginSurfaceUrls", "Authorization", "Set-Cookie", "apiKey", "setupCode"),
    *("jwt", "idJwt", "bearer", "pass", "Pwd"),
)


def told_of(message: Any, *secrets: str) -> Any:
    """Return what is told of one message, from JSON or from its text."""
    traced: list[Traced] = []
    data = message if isinstance(message, str | bytes) else json.dumps(message)
    tracer = Tracer(traced.append, 1, Redaction(tuple(map(Secret, secrets))))
    tracer.message(data, len(data), sent=False)
    assert traced[0].size == len(data)
    return traced[0].told


def head_of(*lines: str, sent: bool = False) -> Any:
    traced: list[Traced] = []
    Tracer(traced.append, 1, Redaction(())).head("\r\n".join([*lines, "", ""]).encode(), sent=sent)
    return traced[0].told


def traced_world(settings: Settings | None = None) -> tuple[World, list[Traced]]:
    traced: list[Traced] = []
    return World(settings or Settings(token=TOKEN), trace=traced.append), traced


def lines(traced: list[Traced]) -> list[str]:
    """The beginning of each line, sizes left out."""
    return [f"{str(one)[:2]} {str(one).partition(': ')[2]}" for one in traced]


# --- a conversation -------------------------------------------------------------------------


def test_the_way_to_online_and_back_is_told_in_its_order() -> None:
    world, traced = traced_world()
    world.online()
    world.stop()
    told = lines(traced)
    starts = [
        '-> ["GET / HTTP/1.1"',
        '<- ["HTTP/1.1 101',
        '<- {"type": "event", "event": "connect.challenge", "payload": {"nonce"',
        '-> {"type": "req", "id": "1", "method": "connect", "params": {"minProtocol": 4',
        '<- {"type": "res", "id": "1", "ok": true, "payload": {"type": "hello-ok"',
        "-> close 1000",
    ]
    assert [line[: len(start)] for line, start in zip(told, starts, strict=True)] == starts
    assert {one.transport_id for one in traced} == {1}
    assert [one.sent for one in traced] == [True, False, False, True, False, True]


def test_the_handshake_is_told_without_its_secrets_and_its_snapshot() -> None:
    world, traced = traced_world(Settings(token=TOKEN, identity=CLI))
    world.online()
    connect, hello = (one.told for one in traced[3:5])
    assert connect["params"]["client"]["id"] == "cli"
    assert connect["params"]["auth"] == {"token": MASK}
    assert connect["params"]["device"]["signature"] == MASK
    assert len(connect["params"]["device"]["id"]) == 64
    payload = hello["payload"]
    assert payload["server"]["version"] == "2026.9.6"
    assert payload["snapshot"] == HIDDEN
    assert payload["pluginSurfaceUrls"] == payload["auth"]["deviceToken"] == MASK
    assert payload["auth"]["scopes"] == ["operator.read"]


@over_both_framings
def test_of_requests_replies_and_events_nothing_that_they_carry_is_told(framing: Framing) -> None:
    world, traced = traced_world(Settings(token=TOKEN, framing=framing))
    world.online()
    before = len(traced)
    replied = partial(answered, which=0, payload={"text": PAYLOAD})
    world.do(
        [
            op(World.exchange, requests=1, speeches=[replied]),
            op(World.say, speeches=[partial(pushed, name="chat", payload={"text": PAYLOAD})]),
        ]
    )
    asked, reply, chat = (one.told for one in traced[before:])
    assert (asked["method"], asked["params"]) == ("echo", HIDDEN)
    assert (reply["ok"], reply["payload"]) == (True, HIDDEN)
    assert (chat["event"], chat["payload"], chat["seq"]) == ("chat", HIDDEN, 1)


def test_a_refusal_is_told_with_its_error() -> None:
    world, traced = traced_world()
    error = {"code": "NOT_PAIRED", "message": f"no {TOKEN}", "details": {"requestId": "r-1"}}
    world.meet(2, [partial(refused, error=error)])
    assert traced[-1].told["error"] == error | {"message": "no ***"}


@pytest.mark.parametrize("framing", Framing)
def test_pings_pongs_and_close_frames_are_told(framing: Framing) -> None:
    keepalive = KeepaliveSettings(probe=Probe.PING)
    world, traced = traced_world(Settings(token=TOKEN, framing=framing, keepalive=keepalive))
    world.online()
    before = len(traced)
    world.wait(10.0)
    world.do([op(World.say, speeches=[partial(said, data=frame(10, b"2"))])])
    world.do([op(World.say, speeches=[partial(said, data=close(4001, f"bye {TOKEN}"))])])
    told = lines(traced[before:])
    assert told[:3] == ["-> ping", "<- pong", "<- close 4001 bye ***"]
    assert [one.size for one in traced[before:]][:2] == [1, 1]
    if framing is Framing.BYTES:
        assert told[3] == "-> close 4001 bye QQ-token-QQ".replace(TOKEN, MASK)


def test_a_ping_of_the_gateway_is_seen_by_its_pong_and_a_bare_close_has_no_code() -> None:
    world, traced = traced_world()
    world.online()
    before = len(traced)
    world.do([op(World.say, speeches=[partial(said, data=frame(9, b"p"))])])
    world.do([op(World.say, speeches=[partial(said, data=frame(8))])])
    assert lines(traced[before:]) == ["-> pong", "<- close 1005", "-> close"]


def test_each_of_many_pongs_is_told_once() -> None:
    world, traced = traced_world()
    world.online()
    before = len(traced)
    world.do([op(World.say, speeches=[partial(said, data=frame(9, b"p" * 125) * 600)])])
    assert lines(traced[before:]) == ["-> pong"] * 600


def test_our_own_close_is_told_over_messages_too() -> None:
    world, traced = traced_world(Settings(token=TOKEN, framing=Framing.MESSAGES))
    world.online()
    world.stop()
    assert lines(traced)[-1] == "-> close 1000"


def test_a_message_in_many_fragments_is_told_once() -> None:
    world, traced = traced_world()
    world.online()
    before = len(traced)
    world.do([op(World.request, size=200_000)])
    told = traced[before:]
    assert len(told) == 1
    assert told[0].size > 200_000
    assert told[0].told == HIDDEN


def test_a_request_that_never_left_is_not_told() -> None:
    world, traced = traced_world()
    world.online()
    before = len(traced)
    machine = world.machine
    request = machine.request("echo", "x" * 70_000, now=world.now)
    late = machine.request("late", "x" * 70_000, now=world.now)
    machine.data_to_send(1)
    machine.cancel(late, world.now)
    while machine.data_to_send(1):
        pass
    assert [one.told["id"] for one in traced[before:]] == [request]


# --- HTTP heads -----------------------------------------------------------------------------


def test_of_the_upgrade_only_values_that_hold_no_secret_are_told() -> None:
    settings = Settings(token=TOKEN, headers={"CF-Access-Client-Secret": "QQ-header-QQ"})
    traced: list[Traced] = []
    World(settings, "wss://gateway.local/path?key=QQ-query-QQ", traced.append).online()
    asked, answer = (one.told for one in traced[:2])
    assert asked[0] == "GET /path?*** HTTP/1.1"
    assert "Host: gateway.local" in asked
    assert {"Sec-WebSocket-Key: ***", "CF-Access-Client-Secret: ***"} <= set(asked)
    assert answer[0].startswith("HTTP/1.1 101")


def test_a_line_that_goes_on_with_a_hidden_value_is_hidden() -> None:
    answer = head_of("HTTP/1.1 200 OK", "Set-Cookie: a", " b: c", "d", "Server: x\x85y: z")
    assert answer == ["HTTP/1.1 200 OK", "Set-Cookie: ***", "***", "***", "Server: x\x85y: z"]


def test_of_a_head_with_many_lines_only_some_are_told() -> None:
    assert len(head_of("HTTP/1.1 200 OK", *["A: b"] * 1000)) == 40


@pytest.mark.parametrize("size", [1, 1000])
def test_a_refused_upgrade_is_told_without_its_body(size: int) -> None:
    world, traced = traced_world()
    data = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 403 No\r\nServer: y\r\n\r\n"
    data += PAYLOAD.encode() + b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    world.online(phase=0)
    for place in range(0, len(data), size):
        world.machine.receive_data(1, data[place : place + size], world.now)
    assert [one.told for one in traced if not one.sent] == [
        ["HTTP/1.1 103 Early", "Link: ***"],
        ["HTTP/1.1 403 No", "Server: y"],
    ]


def test_an_answer_that_is_no_http_is_told_as_that() -> None:
    world, traced = traced_world()
    world.meet(0, [partial(said, data=b"SSH-2.0-OpenSSH_9.6\r\n")])
    assert [str(one) for one in traced if not one.sent] == ["<- 21 bytes: (no HTTP)"]


def test_a_head_without_an_end_is_not_kept() -> None:
    world, traced = traced_world()
    world.meet(0, [partial(said, data=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000)])
    assert [one for one in traced if not one.sent] == []
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.LIMIT_EXCEEDED


# --- what is hidden and cut -----------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_what_stands_under_a_key_that_names_a_secret_is_hidden_wherever_it_is(key: str) -> None:
    secret = f"{MARK}secret"
    payload = {
        "type": "hello-ok",
        "deep": [{key: {"x": [secret, 1, None]}}],
        "again": f"<{secret}>",
    }
    told = told_of({"type": "res", "id": secret, "ok": True, "payload": payload})
    assert told["payload"] == {"type": "hello-ok", "deep": [{key: MASK}], "again": "<***>"}
    assert told["id"] == MASK


def test_a_secret_that_is_part_of_another_does_not_uncover_the_rest() -> None:
    told = told_of(
        {"event": "connect.challenge", "payload": {"token": PASSWORD, "a": PASSWORD}}, TOKEN
    )
    assert told["payload"]["a"] == MASK


def test_a_credential_that_was_left_out_is_told_as_that() -> None:
    assert told_of({"method": "connect", "params": {"token": None}})["params"] == {"token": None}


@given(st.text(min_size=1, max_size=12), st.sampled_from(KEYS), json_values)
def test_no_text_under_such_a_key_is_ever_told(rest: str, key: str, other: Any) -> None:
    secret = MARK + rest
    payload = {
        "type": "hello-ok",
        key: other,
        "x": [secret, {secret: other}],
        "nested": {key: [secret]},
    }
    for message in (
        {"type": "res", "id": secret, "payload": payload, "error": secret},
        {"method": "connect", "params": payload, secret: secret},
        {"event": "connect.challenge", "payload": payload},
        {"event": secret, "data": payload},
    ):
        assert MARK not in repr(told_of(message))


def test_a_key_that_is_not_known_may_carry_anything_and_is_hidden() -> None:
    assert told_of({"type": "event", "event": "chat", "data": 1})["data"] == HIDDEN


@pytest.mark.parametrize(
    "message", ["", "[]", "{", '{"a": 1e999}', "[" * 100_000, b"\xff", '{"a":' * 90_000]
)
def test_what_is_no_object_is_told_by_its_size(message: str | bytes) -> None:
    assert told_of(message) == HIDDEN


def test_long_and_deep_values_are_told_short() -> None:
    deep: Any = 0
    for _ in range(20):
        deep = [deep]
    payload = {
        "text": "x" * 300,
        "list": [0] * 466,
        "number": 10**30,
        "flag": True,
        "deep": deep,
        **{f"k{n}": n for n in range(40)},
    }
    told = told_of({"event": "connect.challenge", "payload": payload})["payload"]
    assert told["text"] == "x" * 200 + "... (300 characters)"
    assert told["list"] == "(466 items)"
    assert told["number"] == "(a huge number)"
    assert told["flag"] is True
    assert told["deep"] == [[[["(1 items)"]]]]
    assert told["..."] == "(13 more)"


def test_of_a_url_the_query_is_not_told() -> None:
    url = f"see wss://gateway/path?key={MARK}secret and https://gateway/#{MARK}secret, really?"
    told = told_of({"event": "connect.challenge", "payload": {"text": url}})["payload"]["text"]
    assert told == "see wss://gateway/path?*** and https://gateway/#*** really?"


def test_a_message_with_many_texts_under_a_secret_key_is_told_by_its_size() -> None:
    def told(count: int) -> Any:
        payload = {"token": [f"QQ-{number:03}" for number in range(count)], "text": "QQ-000"}
        return told_of({"event": "connect.challenge", "payload": payload})

    assert told(64)["payload"]["text"] == MASK
    assert told(65) == HIDDEN


def test_a_line_is_ascii_and_nothing_in_it_acts_on_a_terminal() -> None:
    foreign = "\x1b[2J\ud800\u202e\x9b\x7f\nx日"
    message = json.dumps({"type": "event", "event": foreign})
    traced: list[Traced] = []
    tracer = Tracer(traced.append, 1, Redaction(()))
    tracer.message(message, len(message), sent=False)
    tracer.control(f"close 1000 {foreign}", 9, sent=False)
    tracer.head(b"HTTP/1.1 200 \x1b[2J\xff\x7f\r\n\r\n", sent=False)
    assert len(traced) == 3
    for one in traced:
        assert str(one).isascii()
        assert str(one).isprintable()


@over_both_framings
def test_a_trace_that_raises_is_told_no_more_and_changes_nothing(framing: Framing) -> None:
    calls: list[Traced] = []

    def trace(one: Traced) -> None:
        calls.append(one)
        raise UnicodeEncodeError("ascii", "x", 0, 1, "no")

    world = World(Settings(token=TOKEN, framing=framing), trace=trace)
    world.online()
    world.exchange(1, [partial(answered, which=0, payload=1)])
    assert world.machine.state is State.ONLINE
    assert len(calls) == 1


# --- and nothing else -----------------------------------------------------------------------


@over_both_framings
@given(runs(), roomy_settings)
def test_with_a_trace_a_machine_does_exactly_what_it_does_without(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    traced: list[Traced] = []
    world = World(settings)
    world.do(run).stop(abort=True)
    with_trace = replay(world.inputs, settings, trace=traced.append)
    assert with_trace == replay(world.inputs, settings)
    for one in traced:
        assert str(one)
