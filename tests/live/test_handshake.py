"""What the real gateway answers to connect, and what the application is told about it."""

from __future__ import annotations

import pytest
import trio

import butter_trio
from butter_proto.events import Connecting, GaveUp, Policy, ScopesReduced
from butter_proto.identity import OPENBUTTER_BROWSER, OPENBUTTER_NODE, OPERATOR_SCOPES, Identity
from butter_proto.settings import MIB
from butter_trio import Dialect, EndKind, NotOnline, RequestRefused, Settings, State

from .install import OPENCLAW_VERSION
from .real_gateway import RealGateway
from .scenario import connected, scenario

pytestmark = pytest.mark.live

LONG_ENOUGH_TO_TRY_AGAIN = 3.0
"""Seconds; the first retry of any backoff would come within one."""


@scenario(30)
async def test_the_right_token_gets_a_hello_with_the_scopes_that_were_asked_for(
    gateway: RealGateway,
) -> None:
    async with connected(gateway) as client:
        hello = client.hello
        assert client.state is State.ONLINE
        assert (hello.protocol, hello.server_version) == (4, OPENCLAW_VERSION)
        assert (hello.role, hello.auth_method) == ("operator", "token")
        assert hello.scopes == OPERATOR_SCOPES
        assert hello.boot_id
        assert hello.connection_id
        assert {"health", "status", "chat.send"} <= hello.methods
        assert {"tick", "health", "chat", "agent"} <= hello.events
        assert hello.policy == Policy(25 * MIB, 50 * MIB, 30.0)
        assert (client.stats.attempts, client.stats.online) == (1, 1)


@scenario(30)
async def test_a_token_in_the_url_is_sent_in_the_connect_request(gateway: RealGateway) -> None:
    """The gateway itself ignores it in the URL (wire.md 9)."""
    url = f"{gateway.url}/?token={gateway.token}"
    async with connected(gateway, url=url, token=None, timeout=10) as client:
        assert client.hello.auth_method == "token"
        assert gateway.token not in str(client.endpoint)


@scenario(30)
async def test_a_wrong_token_stops_with_advice_after_one_attempt(gateway: RealGateway) -> None:
    wrong = gateway.token[::-1]
    async with connected(gateway, token=wrong, wait=False) as client, client.states() as states:
        told = [await anext(states), await anext(states)]
        assert told[0] == Connecting(1, 1)
        assert isinstance(told[1], GaveUp)
        error = told[1].ending.error
        assert error is not None
        assert error.detail_code == "AUTH_TOKEN_MISMATCH"
        assert "gateway.auth.token" in told[1].advice

        with pytest.raises(butter_trio.GaveUp) as raised:
            await client.wait_online()
        assert raised.value.advice in str(raised.value)
        assert wrong not in repr(raised.value) + repr(told)
        with pytest.raises(NotOnline):
            await client.request("health")

        await trio.sleep(LONG_ENOUGH_TO_TRY_AGAIN)
        assert client.state is State.BLOCKED
        assert client.stats.attempts == 1


@scenario(30)
async def test_no_token_stops_with_the_advice_to_give_one(gateway: RealGateway) -> None:
    with pytest.raises(butter_trio.GaveUp, match="give a token") as raised:
        async with connected(gateway, token=None):
            pytest.fail("connected without a token")
    assert "DEVICE_IDENTITY_REQUIRED" in str(raised.value)


@pytest.mark.parametrize("identity", [OPENBUTTER_NODE, OPENBUTTER_BROWSER], ids=["node", "browser"])
@scenario(30)
async def test_the_original_dialect_is_refused_in_words_that_name_fields_and_values(
    gateway: RealGateway, identity: Identity
) -> None:
    settings = Settings(dialect=Dialect.OPENBUTTER_V1, identity=identity)
    async with connected(gateway, settings, wait=False) as client:
        with pytest.raises(butter_trio.GaveUp) as raised:
            await client.wait_online()
        assert raised.value.ending is not None
        assert raised.value.ending.kind is EndKind.CONNECT_REFUSED
        text = str(raised.value)
        for field in ("/client/id", "/client/mode"):
            assert field in text
        for value in ("gateway-v4", "gateway-client", "backend", "operator", "protocol 4"):
            assert value in text
        await trio.sleep(LONG_ENOUGH_TO_TRY_AGAIN)
        assert client.stats.attempts == 1


@scenario(30)
async def test_an_identity_that_loses_its_scopes_is_told_so(gateway: RealGateway) -> None:
    """``cli`` with mode ``backend`` and no device: hello-ok, but with no scopes (wire.md 2)."""
    settings = Settings(identity=Identity("cli", "backend"))
    async with connected(gateway, settings) as client:
        assert client.hello.scopes == ()
        async with client.notices() as notices:
            assert await anext(notices) == ScopesReduced(OPERATOR_SCOPES, ())
        assert (await client.request("health"))["ok"] is True
        with pytest.raises(RequestRefused, match=r"operator\.read"):
            await client.request("status")
