"""Requests to the real gateway: answers, refusals, and sizes and numbers at its limits."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from butter_proto.errors import Delivery, GatewayError, MessageTooLarge, RequestRefused
from butter_proto.identity import BACKEND
from butter_proto.settings import KeepaliveSettings, Probe, Settings

from .narrow_relay import narrow_relay
from .real_gateway import RealGateway
from .scenario import ADAPTERS, ADMIN, Client, connected, narrow_dial, scenario

pytestmark = pytest.mark.live

READER = Settings(identity=attrs.evolve(BACKEND, scopes=("operator.read",)))


async def refusal_of(client: Client, method: str, params: Any = None) -> GatewayError:
    """Make a request that the gateway refuses, see that the connection lives; return the error."""
    connection = client.hello.connection_id
    with pytest.raises(RequestRefused) as raised:
        await client.request(method, params)
    assert raised.value.method == method
    assert raised.value.delivery is Delivery.REFUSED
    assert (await client.request("health"))["ok"] is True
    assert client.hello.connection_id == connection
    assert raised.value.error is not None
    return raised.value.error


@scenario(30)
async def test_health_and_status_are_answered(gateway: RealGateway) -> None:
    async with connected(gateway) as client:
        health = await client.request("health")
        assert health["ok"] is True
        assert health["defaultAgentId"] == "main"
        status = await client.request("status")
        assert status["runtimeVersion"] == client.hello.server_version


@scenario(30)
async def test_a_method_without_its_scope_is_refused_and_the_scope_is_named(
    gateway: RealGateway,
) -> None:
    async with connected(gateway, READER) as client:
        params = {"sessionKey": "main", "message": "hello", "idempotencyKey": "no-scope"}
        error = await refusal_of(client, "chat.send", params)
        assert (error.code, error.detail_code) == ("FORBIDDEN", "MISSING_SCOPE")
        assert error.detail("missingScope") == "operator.write"
        assert "operator.write" in str(error)


@scenario(30)
async def test_an_unknown_method_is_refused(gateway: RealGateway) -> None:
    """Only an admin is told that it is unknown (wire.md 8)."""
    async with connected(gateway, ADMIN) as client:
        error = await refusal_of(client, "no.such.method")
        assert (error.code, error.message) == ("INVALID_REQUEST", "unknown method: no.such.method")
    async with connected(gateway) as client:
        error = await refusal_of(client, "no.such.method")
        assert (error.code, error.detail("missingScope")) == ("FORBIDDEN", "operator.admin")
        assert "no.such.method" not in client.hello.methods


@scenario(30)
async def test_invalid_params_are_refused_and_the_property_is_named(gateway: RealGateway) -> None:
    async with connected(gateway) as client:
        error = await refusal_of(client, "chat.send", {"sessionKey": "main"})
        assert error.code == "INVALID_REQUEST"
        assert "invalid chat.send params" in error.message
        assert "'message'" in error.message


@scenario(30)
async def test_a_request_over_max_payload_fails_alone(gateway: RealGateway) -> None:
    async with connected(gateway) as client:
        largest = client.hello.policy.max_payload
        with pytest.raises(MessageTooLarge, match=str(largest)):
            await client.request("health", {"filling": "x" * largest})
        assert (await client.request("health"))["ok"] is True
        assert (client.stats.attempts, client.stats.disconnects) == (1, 0)


@pytest.mark.parametrize("name", ADAPTERS)
@scenario(60, once=True)
async def test_a_thousand_requests_at_once_are_all_answered_ok(
    gateway: RealGateway, name: str, record_property: Any
) -> None:
    """The gateway refuses past about 256 in a burst (wire.md 8): the in-flight window.

    It counts all its connections together, so the adapters take turns.
    """
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await client.request("health"))

    async with connected(gateway, over=name) as client:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask)
        record_property(f"{name}: 1,000 health at once, s", f"{trio.current_time() - began:.2f}")
        assert [answer["ok"] for answer in answers] == [True] * 1000
        assert client.stats.disconnects == 0


@scenario(90)
async def test_a_20_mb_request_uploads_while_probes_keep_passing(
    gateway: RealGateway, record_property: Any
) -> None:
    """Pings overtake its fragments; a ``health`` probe behind it is no miss while bytes leave.

    The last probes, which meet a gateway that is busy with 20 MB of JSON, may be missed.
    """
    size = 20_000_000

    async def upload(probe: Probe) -> None:
        async def look_when_all_has_left() -> None:
            await relay.passed.wait()
            stats = client.stats
            seconds = trio.current_time() - began
            record_property(f"20 MB with {probe.name}", f"{seconds:.2f} s, {stats.probes} probes")
            assert stats.probes >= (3 if probe is Probe.PING else 1)
            assert stats.misses == 0

        keepalive = KeepaliveSettings(interval=2.0, timeout=1.5, misses=10, probe=probe)
        async with (
            narrow_relay(gateway.url, size) as relay,
            connected(
                gateway, Settings(keepalive=keepalive), url=relay.url, dial=narrow_dial()
            ) as client,
        ):
            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                nursery.start_soon(look_when_all_has_left)
                answer = await client.request(
                    "health", {"filling": "x" * size}, timeout=60, retry_unavailable=True
                )
            assert answer["ok"] is True
            assert (client.stats.attempts, client.stats.disconnects) == (1, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload, Probe.PING)
        nursery.start_soon(upload, Probe.HEALTH)
