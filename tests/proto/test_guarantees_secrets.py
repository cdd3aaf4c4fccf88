"""G11: nothing that is shown tells a secret (test_guarantees.py has the other guarantees)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import (
    CLI,
    Ending,
    FaultKind,
    Framing,
    GatewayError,
    Limits,
    Settings,
    Traced,
    errors,
    events,
)
from butter_proto.client import result_of
from butter_proto.machine import State
from tests.proto.gateway_side import (
    DEVICE_TOKEN,
    PASSWORD,
    PAYLOAD,
    RECOVERY,
    SURFACE,
    TOKEN,
    Peer,
    Speech,
    answered,
    close,
    hello_ok,
    pushed,
    refused,
    response,
    said,
)
from tests.proto.operations import PARAM, Op, Refused, World, op
from tests.proto.strategies import over_both_framings, passing, requests, roomy_settings, wishes

SECRETS = (TOKEN, PASSWORD, DEVICE_TOKEN, RECOVERY, SURFACE)
HEADER = "QQ-header-QQ"
SECRET_MARK = "QQ-"
"""Part of each secret, and of nothing else."""
HIDDEN_MARK = "PP-"
"""Part of each param, payload and body."""
URL = f"ws://gateway.local:18789/path?token={TOKEN}&key=QQ-query-QQ"


def error_with(secret: str, code: str = "ODD") -> dict[str, Any]:
    """Build an error that repeats a secret wherever it can."""
    return {
        "code": code,
        "message": f"<{secret}> is wrong",
        "details": {
            "code": "PAIRING_REQUIRED" if code == "NOT_PAIRED" else code,
            "requestId": f"request {secret}",
            "remediationHint": f"not {secret}",
            secret: [{"deep": secret}],
        },
    }


def http_answers(secret: str) -> list[bytes]:
    """Write answers to the upgrade that repeat a secret wherever they can."""
    accepted = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    body = f"{PAYLOAD} <{secret}>"
    texts = (
        f"HTTP/1.1 403 {secret}\r\nX: {secret}\r\nContent-Length: {len(body)}\r\n\r\n{body}",
        f"HTTP/1.1 503 No\r\nRetry-After: {secret}\r\nTransfer-Encoding: {secret}\r\n\r\n",
        f"HTTP/1.1 {secret}\r\n\r\n",
        f"{secret}\r\n\r\n",
        f"{accepted}Sec-WebSocket-Accept: {secret}\r\n\r\n",
        f"{accepted}Sec-WebSocket-Protocol: {secret}\r\n\r\n",
        f"{accepted}Sec-WebSocket-Extensions: {secret}\r\n\r\n",
        f"{accepted}{secret}\r\n\r\n",
    )
    return [text.encode() for text in texts]


def welcomed_with(peer: Peer, secret: str) -> bytes:
    """Accept the connect request with a hello that repeats a secret wherever it can."""
    hello = hello_ok()
    hello["server"] = dict.fromkeys(("version", "bootId", "connId"), secret)
    hello["auth"] |= {"role": secret, "method": secret, "scopes": [secret]}
    return response(peer.connect_id, hello)


def meetings_with(secret: str) -> list[Op]:
    """Return operations in which the gateway, or the network, repeats a secret."""
    error = error_with(secret)
    both = [
        partial(answered, which=0, payload=PAYLOAD, error=error),
        partial(answered, which=1, payload={"text": PAYLOAD}),
    ]

    def met(phase: int, speech: Speech) -> Op:
        return op(World.meet, phase=phase, speeches=[speech])

    return [
        *(met(0, partial(said, data=data)) for data in http_answers(secret)),
        met(1, partial(said, data=close(1008, secret))),
        met(2, partial(refused, error=error)),
        met(2, partial(refused, error=error_with(secret, "NOT_PAIRED"))),
        met(2, partial(refused, error=error | {"retryable": False})),
        met(2, partial(refused, error=secret)),
        met(2, partial(welcomed_with, secret=secret)),
        met(3, partial(said, data=close(4001, f"bye {secret}"))),
        met(3, partial(pushed, name="chat", payload={"text": PAYLOAD + secret})),
        met(3, partial(pushed, name=f"event.{secret}")),
        op(World.exchange, requests=2, speeches=both),
        *(op(World.failed, kind=kind, fault_text=f"no {secret}") for kind in FaultKind),
    ]


MEETINGS = [one for secret in SECRETS for one in meetings_with(secret)]


def shown(world: World) -> Iterator[str]:
    """Yield everything that a program, a log or a traceback may show."""
    machine = world.machine
    yield f"{machine!r} {machine.stats} {machine.last_ending} {machine.endpoint!r}"
    yield f"{machine.endpoint} {world.settings}"
    for step in world.steps:
        if isinstance(step.result, Refused):
            yield step.result.text
        yield from map(repr, step.told.commands)
        for one in step.told.events:
            yield f"{one!r} {one}"
            if isinstance(one, events.Outcome):
                try:
                    result_of(one)
                except errors.RequestFailed as error:
                    yield f"{error!r} {error} {error.args}"
            if isinstance(one, events.GaveUp):
                yield f"{errors.GaveUp(one.ending, one.advice)!r} {one.ending}"
            if isinstance(one, events.Offline | events.Retrying):
                yield f"{errors.ConnectTimeout('late', one.ending)!r} {one.ending}"


def messages_of_the_gateway(world: World) -> Iterator[str]:
    """Yield all that errors and endings hold, shown or not."""
    for one in world.told:
        for value in (getattr(one, "ending", None), getattr(one, "error", None)):
            if isinstance(value, Ending | GatewayError):
                yield repr(attrs.astuple(value))
        if isinstance(one, events.PairingRequired):
            yield repr(one)


def check(world: World, traced: Iterable[Traced] = ()) -> None:
    """Check that no secret, param or payload was told."""
    for words in (*shown(world), *map(str, traced), *map(repr, traced)):
        assert SECRET_MARK not in words
        assert HIDDEN_MARK not in words
    for words in messages_of_the_gateway(world):
        assert SECRET_MARK not in words


@over_both_framings
@pytest.mark.parametrize("meeting", MEETINGS, ids=lambda one: one.name)
def test_g11_a_secret_that_the_gateway_repeats_is_not_told(framing: Framing, meeting: Op) -> None:
    settings = Settings(token=TOKEN, password=PASSWORD, framing=framing, identity=CLI)
    traced: list[Traced] = []
    world = World(settings, URL, traced.append)
    world.online()
    world.do([meeting])
    world.ended()
    world.online(phase=0)
    world.do([meeting]).stop(abort=True)
    assert traced
    check(world, traced)


@pytest.mark.parametrize("meeting", meetings_with(HEADER), ids=lambda one: one.name)
def test_g11_an_added_header_that_something_repeats_is_not_told(meeting: Op) -> None:
    headers = {"Authorization": f"Bearer {HEADER}"}
    traced: list[Traced] = []
    settings = Settings(token=TOKEN, headers=headers)
    world = World(settings, URL.replace("ws:", "wss:"), traced.append)
    world.online()
    world.do([meeting]).stop(abort=True)
    assert traced
    check(world, traced)


@over_both_framings
@given(
    st.lists(
        st.sampled_from(MEETINGS) | st.just(op(World.online)) | passing | requests | wishes,
        max_size=20,
    ),
    roomy_settings,
)
def test_g11_nothing_that_is_shown_tells_a_secret_a_param_or_a_payload(
    framing: Framing, run: list[Op], settings: Settings
) -> None:
    settings = attrs.evolve(settings, framing=framing)
    traced: list[Traced] = []
    world = World(settings, URL, traced.append)
    world.online()
    assert world.machine.state is State.ONLINE  # hello's secrets are known from here on
    world.do(run).stop(abort=True)
    check(world, traced)


@pytest.mark.parametrize("wrong", [{"params": {1: {PARAM}}}, {"timeout": -1.0}, {"size": 2000}])
def test_g11_a_refused_call_does_not_tell_its_params(wrong: dict[str, Any]) -> None:
    world = World(Settings(token=TOKEN, limits=Limits(max_pending_bytes=1024)), URL)
    world.request(**wrong)
    world.online()
    world.request(**wrong)
    assert [step.refused for step in world.steps].count(True) == 2
    check(world)


@over_both_framings
@pytest.mark.parametrize("secret", SECRETS)
def test_g11_what_hello_issued_is_kept_secret_on_the_next_connection_too(
    framing: Framing, secret: str
) -> None:
    world = World(Settings(token=TOKEN, password=PASSWORD, framing=framing))
    world.online()
    world.ended()
    world.meet(2, [partial(refused, error=error_with(secret))])
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.error is not None
    assert world.machine.last_ending.error.message == "<***> is wrong"


def test_g11_a_secret_that_is_part_of_another_does_not_uncover_the_rest() -> None:
    world = World(Settings(token=TOKEN, password=PASSWORD))
    body = f"HTTP/1.1 403 No\r\nContent-Length: {len(PASSWORD)}\r\n\r\n{PASSWORD}"
    world.meet(0, [partial(said, data=body.encode())])
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.http_body == b"***"
