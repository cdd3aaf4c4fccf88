"""Hypothesis strategies of operations, speeches, damage and settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, nan
from typing import Any, Final

import attrs
import pytest
from hypothesis import strategies as st

from butter_proto import (
    AUTO,
    CLI,
    Dialect,
    FaultKind,
    Framing,
    KeepaliveSettings,
    Limits,
    Offline,
    Probe,
    ReconnectSettings,
    Settings,
    SignedPayload,
    Timeouts,
)
from tests.proto import gateway_side as gateway
from tests.proto import json_grammar
from tests.proto.operations import ALL, HANDSHAKE, Damage, Holding, Op, World

over_both_framings = pytest.mark.parametrize("framing", Framing, ids=lambda one: one.value)
"""For a property that holds whoever speaks WebSocket."""

# --- settings ------------------------------------------------------------------------------------

seconds = st.sampled_from([0.5, 1.0, 5.0, 15.0])
keepalives = st.builds(
    KeepaliveSettings,
    interval=st.sampled_from([0.5, 3.0]),
    timeout=st.sampled_from([0.05, 0.5]),
    misses=st.integers(1, 3),
    probe=st.sampled_from(Probe),
) | st.builds(
    KeepaliveSettings,
    interval=st.sampled_from([10.0, 40.0]),
    timeout=st.sampled_from([5.0, 10.0]),
    misses=st.integers(1, 3),
    probe=st.sampled_from(Probe),
)
secrets: Final = {"token": st.just(gateway.TOKEN), "password": st.just(gateway.PASSWORD)}
roomy_settings = st.builds(
    lambda kind, dialect, identity, **others: kind(
        dialect=dialect, identity=identity if dialect is Dialect.GATEWAY_V4 else None, **others
    ),
    kind=st.sampled_from([Settings, Holding]),
    **secrets,
    dialect=st.sampled_from([Dialect.GATEWAY_V4, Dialect.GATEWAY_V4, Dialect.OPENBUTTER_V1]),
    identity=st.sampled_from([None, CLI]),
    json_rpc=st.booleans(),
    timeouts=st.builds(Timeouts, seconds, seconds, seconds, seconds, seconds),
    keepalive=keepalives,
    reconnect=st.builds(
        ReconnectSettings,
        stable_after=st.sampled_from([0.0, 10.0]),
        max_attempts=st.sampled_from([None, None, 2]),
        pairing_poll=st.sampled_from([15.0, None]),
    ),
)
"""Settings whose limits are never reached."""
tight_limits = st.builds(
    Limits,
    max_message=st.just(1024),
    max_fragments=st.integers(1, 3),
    max_pending=st.integers(1, 3),
    max_pending_bytes=st.just(1024),
    max_queued=st.integers(1, 2),
    max_queued_bytes=st.just(1024),
    max_in_flight=st.integers(1, 2),
    max_events=st.integers(1, 3),
    max_event_bytes=st.integers(1, 200),
    max_state_changes=st.just(4),
)
all_settings = st.builds(
    lambda settings, limits: attrs.evolve(settings, limits=limits),
    roomy_settings,
    st.sampled_from([Limits(), Limits(max_in_flight=1)]) | tight_limits,
)


def _over_any_framing(drawn: st.SearchStrategy[Settings]) -> st.SearchStrategy[Settings]:
    return st.builds(attrs.evolve, drawn, framing=st.sampled_from(Framing))


any_settings = _over_any_framing(all_settings)
any_roomy = _over_any_framing(roomy_settings)


# --- what the gateway says -----------------------------------------------------------------------

few = st.integers(0, 3)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("accepted"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["status", "type", "id", "ok"]), inner, max_size=2)
    ),
    max_leaves=4,
)
BUSY: Final = {"code": "UNAVAILABLE", "message": "busy", "retryable": True}
RATE_LIMITED: Final = {
    "code": "INVALID_REQUEST",
    "message": "unauthorized",
    "details": {"code": "AUTH_RATE_LIMITED"},
    "retryable": True,
    "retryAfterMs": 299_993,
}
REFUSALS: Final = (
    *(
        {"code": "INVALID_REQUEST", "message": "no", "details": {"code": code}}
        for code in ("AUTH_TOKEN_MISMATCH", "AUTH_DEVICE_TOKEN_MISMATCH")
    ),
    {
        "code": "UNAVAILABLE",
        "message": "gateway starting",
        "details": {"reason": "startup-sidecars"},
        "retryable": True,
        "retryAfterMs": 500,
    },
    {
        "code": "NOT_PAIRED",
        "message": "pairing required",
        "details": {"code": "PAIRING_REQUIRED", "requestId": "r-1"},
    },
    RATE_LIMITED,
    {"code": "INVALID_REQUEST", "message": "invalid connect params: at root"},
    {"code": "ODD", "message": "x", "details": {"code": "NEVER_SEEN"}},
    {"code": "ODD", "details": [1], "retryable": False},
    "no object",
)
HTTP_ANSWERS: Final = (
    b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nRetry-After: 3\r\n\r\nbusy",
    b"HTTP/1.1 403 No\r\n\r\nwithout a length",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzz\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 3000\n\n" + b"b" * 2100,
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
    (
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n"
    ),
    b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\r\n\r\n",
)
frames = st.builds(
    gateway.frame,
    st.sampled_from([0, 1, 2, 8, 9, 10, 3, 0x41]),
    st.binary(max_size=130),
    fin=st.booleans(),
)
messages = st.one_of(
    st.builds(
        lambda kind, fields: gateway.text({"type": kind, **fields}),
        st.sampled_from(["event", "res", "pong", "req"]),
        st.dictionaries(
            st.sampled_from(["id", "ok", "error", "payload", "event", "seq", "stateVersion"]),
            json_values,
            max_size=4,
        ),
    ),
    st.builds(gateway.text, json_values),
    st.builds(lambda data: gateway.frame(1, data), st.binary(max_size=20)),
    st.sampled_from(
        [
            gateway.text({"type": "pong"}),
            gateway.text({"jsonrpc": "2.0", "method": "told", "params": {}}),
            gateway.frame(1, b'{"type":"po', fin=False)
            + gateway.frame(9, b"p")
            + gateway.frame(0, b'ng"}'),
        ]
    ),
)
closes = st.builds(
    lambda code, reason: gateway.frame(8, code.to_bytes(2) + reason),
    st.sampled_from([1000, 1001, 1008, 1012, 4001, 4999, 1005, 999]),
    st.sampled_from([b"", b"service restart", b"slow consumer", b"\xff"]),
) | st.just(gateway.frame(8))


def _speech(speech: Callable[..., bytes], /, **arguments: Any) -> st.SearchStrategy[gateway.Speech]:
    """Draw a speech with these arguments, each of which is a strategy."""
    return st.builds(partial, st.just(speech), **arguments)


answers = st.one_of(
    _speech(gateway.answered, which=few, payload=json_values),
    _speech(gateway.answered, which=few, error=st.sampled_from(REFUSALS)),
    _speech(gateway.answered, which=few, error=st.just(BUSY)),
    _speech(gateway.answered, which=few, payload=st.just({"status": "accepted"})),
)
ordinary_speeches = st.one_of(
    answers,
    _speech(gateway.pushed, name=st.just("chat"), payload=json_values, gap=few),
    _speech(gateway.said, data=st.builds(gateway.frame, st.just(9), st.binary(max_size=125))),
    _speech(
        gateway.said,
        data=st.sampled_from(
            [
                gateway.event("shutdown", {"restartExpectedMs": 1500}),
                gateway.event("tick", {"ts": 1}),
            ]
        ),
    ),
    st.just(gateway.ponged),
)
"""What a gateway says to a client that is online."""
upgrade_answers = _speech(gateway.said, data=st.sampled_from(HTTP_ANSWERS))
challenges = _speech(gateway.challenged, nonce=json_values)
connect_answers = st.one_of(
    _speech(gateway.refused, error=st.sampled_from(REFUSALS)),
    _speech(gateway.welcomed, boot_id=st.just("boot-2"), max_payload=st.sampled_from([1, 500])),
    _speech(
        gateway.welcomed,
        device_token=st.sampled_from([gateway.DEVICE_TOKEN, gateway.OTHER_DEVICE_TOKEN]),
    ),
)
goodbyes = _speech(gateway.said, data=closes)
speeches = st.one_of(
    ordinary_speeches,
    st.sampled_from(HANDSHAKE),
    upgrade_answers,
    challenges,
    connect_answers,
    goodbyes,
    _speech(gateway.said, data=frames | messages | st.binary(max_size=12)),
    _speech(json_grammar.wrote, text=json_grammar.messages()),
)
"""What it says at any time."""
damages = st.none() | st.builds(
    Damage, st.integers(0, 4000), st.integers(0, 40), st.binary(max_size=4)
)

few_chunks = st.sampled_from([0, 0, 1, ALL])
"""How many chunks of bytes a socket takes."""

# --- operations ----------------------------------------------------------------------------------


def _op(method: Callable[..., Any], /, **arguments: Any) -> st.SearchStrategy[Op]:
    """Draw an operation with these arguments, each of which is a strategy."""
    return st.builds(Op, st.just(method.__name__), st.fixed_dictionaries(arguments))


which = st.sampled_from([0, 0, 0, 0, 1, 2])
times = st.sampled_from([0.0, 0.0004, 0.001, 0.5, 1.0, 5.0, 10.0, 15.0, 30.0, 61.0, 200.0])
timeouts = st.sampled_from([None, 0.0005, 1.0, 20.0, 300.0])
lasting: Final = {
    "offline": st.sampled_from(Offline),
    "replay": st.booleans(),
    "retry_unavailable": st.booleans(),
}
"""The options with which a request may outlive its connection, or a refusal."""
passing = st.one_of(
    _op(World.wait, seconds=times),
    _op(World.wake_late, seconds=times),
    _op(World.oversleep, seconds=times),
)


def _said(*kinds: st.SearchStrategy[gateway.Speech]) -> st.SearchStrategy[list[gateway.Speech]]:
    return st.lists(st.one_of(*kinds), min_size=1, max_size=4)


talk = st.one_of(
    _op(World.online),
    _op(World.say, speeches=_said(ordinary_speeches)),
    _op(World.say, speeches=_said(speeches), which=which),
    _op(World.say, speeches=_said(speeches), damage=damages),
    _op(World.exchange, requests=few, speeches=_said(answers), final=st.booleans()),
    _op(World.exchange, requests=few, speeches=_said(answers, goodbyes), **lasting),
    _op(World.exchange, requests=few, speeches=_said(speeches)),
    *(
        _op(World.meet, phase=st.just(phase), speeches=_said(right, right, ordinary_speeches))
        for phase, right in enumerate((upgrade_answers, challenges, connect_answers, goodbyes))
    ),
)
transports = st.one_of(
    _op(World.opened, which=which),
    _op(World.ended, which=which),
    _op(World.failed, kind=st.sampled_from(FaultKind), which=which),
)
requests = st.one_of(
    _op(
        World.request,
        size=st.sampled_from([0, 0, 300, 70_000]),
        timeout=timeouts,
        final=st.booleans(),
    ),
    _op(World.request),
    _op(World.request, timeout=timeouts, final=st.booleans(), **lasting),
    _op(World.request, idempotency_key=st.just(AUTO), keyed=st.booleans(), **lasting),
    _op(World.resynced, which=which),
    _op(World.cancel, which=few),
)
wishes = st.one_of(
    _op(World.start),
    _op(World.probe),
    _op(World.reconnect_now),
    _op(World.reconnect_now, signed=st.sampled_from(SignedPayload)),
    _op(World.stored, ok=st.booleans(), which=which),
    _op(World.forgotten, newer=st.sampled_from([None, gateway.OTHER_DEVICE_TOKEN]), which=which),
    _op(World.use_credentials),
    _op(World.use_credentials, token=st.just(gateway.TOKEN)),
    _op(World.use_credentials, bootstrap_token=st.just(gateway.PASSWORD)),
)
wrong_requests = st.one_of(
    _op(World.start),
    _op(World.use_credentials, token=st.just("x" * 70_000)),
    _op(World.request, size=st.just(2000), **lasting),
    _op(World.request, replay=st.just(True), keyed=st.just(False)),
    _op(World.request, idempotency_key=st.sampled_from(["", "another", 5]), **lasting),
    _op(World.request, offline=st.just("queue")),
    _op(
        World.ask,
        method=st.just("echo"),
        params=st.sampled_from([[], "text", {"idempotencyKey": 5}]),
        idempotency_key=st.just(AUTO),
        offline=st.sampled_from(Offline),
    ),
    _op(World.request, timeout=st.sampled_from([nan, inf, 0.0, -1.0, 1e9])),
    _op(World.ask, method=st.sampled_from(["", "echo"]), params=st.sampled_from([{1, 2}, nan])),
)
wrong_clocks = st.one_of(
    _op(World.wrong_clock, value=st.sampled_from([nan, inf, -inf, 1e300, -1e300, 1e13, 0.0])),
    _op(
        World.wrong_clock,
        value=st.sampled_from([-100.0, -1.0, -0.0001, 3.0]),
        from_now=st.just(True),
    ),
)
operations = st.one_of(passing, talk, talk, transports, requests, wishes)


def runs(*more: st.SearchStrategy[Op]) -> st.SearchStrategy[list[Op]]:
    """Draw the operations of one run, with others among them; most go online at once."""
    one = st.one_of(operations, *more)
    begin = st.lists(_op(World.online), max_size=1)
    middle = st.lists(one, max_size=6) | st.lists(one, min_size=20, max_size=30)
    end = st.lists(st.one_of(_op(World.stop, abort=st.booleans()), one), max_size=4)
    return st.builds(lambda *parts: [one for part in parts for one in part], begin, middle, end)


def without(run: list[Op], *options: str) -> list[Op]:
    """Return a run whose requests are made without these options."""
    return [
        attrs.evolve(
            one, arguments={name: one.arguments[name] for name in one.arguments.keys() - options}
        )
        for one in run
    ]
