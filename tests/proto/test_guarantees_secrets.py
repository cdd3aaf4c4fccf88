"""G11: nothing that is shown tells a secret (test_guarantees.py has the other guarantees)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import Ending, FaultKind, GatewayError, Settings, errors, events
from butter_proto.client import result_of
from butter_proto.machine import State
from tests.proto.gateway_side import (
    DEVICE_TOKEN,
    PASSWORD,
    PAYLOAD,
    RECOVERY,
    SURFACE,
    TOKEN,
    Speech,
    answered,
    close,
    pushed,
    refused,
    said,
)
from tests.proto.operations import Op, Refused, World, op
from tests.proto.strategies import passing, requests, roomy_settings, wishes, wrong_requests

SECRETS = (TOKEN, PASSWORD, DEVICE_TOKEN, RECOVERY, SURFACE)
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


def op_with(secret: str) -> st.SearchStrategy[Op]:
    """Draw an operation in which the gateway, or the network, repeats a secret."""
    error = error_with(secret)

    def saying(phase: int, *speeches: Speech) -> Op:
        return op(World.meet, phase=phase, speeches=list(speeches))

    return st.sampled_from(
        [
            *(saying(0, partial(said, data=data)) for data in http_answers(secret)),
            saying(1, partial(said, data=close(1008, secret))),
            saying(2, partial(refused, error=error)),
            saying(2, partial(refused, error=error_with(secret, "NOT_PAIRED"))),
            saying(2, partial(refused, error=error | {"retryable": False})),
            saying(2, partial(refused, error=secret)),
            saying(3, partial(said, data=close(4001, f"bye {secret}"))),
            saying(3, partial(pushed, name="chat", payload={"text": PAYLOAD + secret})),
            op(
                World.exchange,
                requests=2,
                speeches=[
                    partial(answered, which=0, payload=PAYLOAD, error=error),
                    partial(answered, which=1, payload={"text": PAYLOAD}),
                ],
            ),
            *(op(World.failed, kind=kind, fault_text=f"no {secret}") for kind in FaultKind),
            op(World.online),
        ]
    )


echoes = st.sampled_from(SECRETS).flatmap(op_with)


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


@given(st.lists(echoes | passing | requests | wishes | wrong_requests, max_size=20), roomy_settings)
def test_g11_nothing_that_is_shown_tells_a_secret_a_param_or_a_payload(
    run: list[Op], settings: Settings
) -> None:
    world = World(settings, URL)
    world.online()
    assert world.machine.state is State.ONLINE  # hello's secrets are known from here on
    world.do(run).stop(abort=True)
    for words in shown(world):
        assert SECRET_MARK not in words
        assert HIDDEN_MARK not in words
    for words in messages_of_the_gateway(world):
        assert SECRET_MARK not in words


@pytest.mark.parametrize("secret", SECRETS)
def test_g11_what_hello_issued_is_kept_secret_on_the_next_connection_too(secret: str) -> None:
    world = World(Settings(token=TOKEN, password=PASSWORD))
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
