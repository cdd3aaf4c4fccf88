"""What devices get from the real gateway, seen by a raw client: the ground of the pairing tests.

They tell a change of the gateway from a fault of the connector, and hold the harness: the relay,
the command line, certificates, the shifted clock.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import trio

from .certificates import Certificate
from .openclaw_cli import OpenClaw
from .raw_socket import Key, RawSocket, connect_params, raw_socket
from .real_gateway import RealGateway
from .remote_relay import remote_relay
from .scenario import scenario

pytestmark = pytest.mark.live

LOCKED_OUT = 300_000
"""Milliseconds, after ten failures in a minute."""


async def answer(
    dial: Callable[[], AbstractAsyncContextManager[RawSocket]],
    auth: dict[str, str],
    key: Key | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Connect once; return hello-ok's ``auth`` or the error."""
    async with dial() as socket:
        response = await socket.connect(connect_params(auth, **params), key)
    answered: dict[str, Any] = response["payload"]["auth"] if response["ok"] else response["error"]
    return answered


async def pending_of(key: Key, cli: OpenClaw) -> dict[str, Any] | None:
    """Return the pairing request of a device, if one waits."""
    waiting = (await cli.devices())["pending"]
    return next((one for one in waiting if one["deviceId"] == key.device_id), None)


@scenario(30, once=True)
async def test_on_loopback_a_new_device_is_approved_at_once_and_gets_a_token(
    proxied_gateway: RealGateway,
) -> None:
    key = Key()
    dial = partial(raw_socket, proxied_gateway.url)
    issued = await answer(dial, proxied_gateway.auth, key)
    assert (issued["method"], issued["role"]) == ("token", "operator")
    again = await answer(dial, {"deviceToken": issued["deviceToken"]}, key)
    assert again["method"] == "device-token"
    assert again["deviceToken"] == issued["deviceToken"]


@scenario(60, once=True)
async def test_a_remote_device_waits_for_approval_and_loses_its_token_by_rotation(
    proxied_gateway: RealGateway,
) -> None:
    key, shared = Key(), proxied_gateway.auth
    cli = OpenClaw(proxied_gateway)
    async with remote_relay(proxied_gateway) as remote:
        dial = partial(raw_socket, remote.url)
        refused = (await answer(dial, shared, key))["details"]
        assert (refused["code"], refused["reason"]) == ("PAIRING_REQUIRED", "not-paired")
        pending = await pending_of(key, cli)
        assert pending is not None
        assert pending["requestId"] == refused["requestId"]
        assert pending["remoteIp"] == remote.address

        await cli.approve(refused["requestId"])
        issued = await answer(dial, shared, key)
        async with dial() as socket:
            live = await socket.connect(connect_params({"deviceToken": issued["deviceToken"]}), key)
            assert live["ok"]
            await cli.rotate(key.device_id)
            assert await socket.closing() == (4001, "device removed")
        void = await answer(dial, {"deviceToken": issued["deviceToken"]}, key)
        assert void["details"]["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
        repaired = await answer(dial, shared, key)
        assert repaired["deviceToken"] != issued["deviceToken"]

        await cli.revoke(key.device_id)
        revoked = (await answer(dial, shared, key))["details"]
        assert (revoked["code"], revoked["reason"]) == ("PAIRING_REQUIRED", "role-upgrade")
        await cli.remove(key.device_id)
        removed = (await answer(dial, shared, key))["details"]
        assert (removed["code"], removed["reason"]) == ("PAIRING_REQUIRED", "not-paired")
        await cli.reject(removed["requestId"])
        assert await pending_of(key, cli) is None


@scenario(60, once=True)
async def test_the_eleventh_wrong_token_locks_an_address_out(
    proxied_gateway: RealGateway, record_property: Callable[[str, object], None]
) -> None:
    """A frame of a lock-out has no hint where the device was not among those that failed."""
    async with remote_relay(proxied_gateway) as remote:
        dial = partial(raw_socket, remote.url)
        for _ in range(10):
            wrong = await answer(dial, {"token": "wrong"})
            assert wrong["details"]["code"] == "AUTH_TOKEN_MISMATCH"
        locked = await answer(dial, {"token": "wrong"})
        record_property("frame", locked)
        assert locked["details"]["code"] == "AUTH_RATE_LIMITED"
        assert locked["retryable"] is True
        assert LOCKED_OUT - 5_000 < locked["retryAfterMs"] <= LOCKED_OUT

        with_device = await answer(dial, proxied_gateway.auth, Key())
        assert with_device["details"]["code"] == "AUTH_RATE_LIMITED"
        assert not {"retryable", "retryAfterMs"} & with_device.keys()
    async with remote_relay(proxied_gateway) as other:
        allowed = await answer(partial(raw_socket, other.url), proxied_gateway.auth)
        assert allowed["method"] == "token"


@scenario(60, once=True)
async def test_a_setup_code_binds_to_the_first_device_and_gives_it_a_token(
    proxied_gateway: RealGateway,
) -> None:
    key = Key()
    dial = partial(raw_socket, proxied_gateway.url)
    code = await OpenClaw(proxied_gateway).setup_code()
    assert code.url == proxied_gateway.url
    auth = {"bootstrapToken": code.bootstrap_token}
    issued = await answer(dial, auth, key)
    assert issued["method"] == "bootstrap-token"
    assert "deviceTokens" not in issued  # these are for the mobile apps' identities only
    assert (await answer(dial, auth, key))["deviceToken"] == issued["deviceToken"]
    stolen = await answer(dial, auth, Key())
    assert stolen["details"]["code"] == "AUTH_BOOTSTRAP_TOKEN_INVALID"


@scenario(60, once=True)
async def test_a_setup_code_hands_a_mobile_app_a_second_token_once(
    proxied_gateway: RealGateway,
) -> None:
    app = {
        "id": "openclaw-android",
        "mode": "node",
        "platform": "android",
        "deviceFamily": "Android",
    }
    key = Key()
    code = await OpenClaw(proxied_gateway).setup_code("--limited")
    assert code.access == "limited"
    auth = {"bootstrapToken": code.bootstrap_token}
    async with remote_relay(proxied_gateway) as remote:
        dial = partial(raw_socket, remote.url)
        issued = await answer(dial, auth, key, role="node", scopes=(), **app)
        assert (issued["role"], issued["scopes"]) == ("node", [])
        [operator] = issued["deviceTokens"]
        assert operator["role"] == "operator"
        assert operator["deviceToken"] != issued["deviceToken"]
        again = await answer(dial, auth, key, role="node", scopes=(), **app)
        assert again["details"]["code"] == "AUTH_BOOTSTRAP_TOKEN_INVALID"


@scenario(30, once=True)
async def test_a_changed_secret_ends_every_connection(proxied_gateway: RealGateway) -> None:
    async with raw_socket(proxied_gateway.url) as socket:
        backend = {"id": "gateway-client", "mode": "backend"}
        assert (await socket.connect(connect_params(proxied_gateway.auth, **backend)))["ok"]
        proxied_gateway.change_secret()
        assert await socket.closing() == (4001, "gateway auth changed")
    allowed = await answer(partial(raw_socket, proxied_gateway.url), proxied_gateway.auth, Key())
    assert allowed["method"] == "token"


@scenario(60, once=True)
async def test_over_tls_a_proxy_is_believed_too(
    tls_gateway: RealGateway, certificate: Certificate
) -> None:
    trust, key = certificate.trusting(), Key()
    local = partial(raw_socket, tls_gateway.url, trust=trust)
    assert (await answer(local, tls_gateway.auth, Key()))["method"] == "password"
    told = partial(local, headers={"X-Forwarded-For": "203.0.113.254"})
    assert (await answer(told, tls_gateway.auth, Key()))["code"] == "NOT_PAIRED"
    async with remote_relay(tls_gateway, certificate=certificate) as remote:
        dial = partial(raw_socket, remote.url, trust=trust)
        refused = await answer(dial, tls_gateway.auth, key)
        await OpenClaw(tls_gateway).approve(refused["details"]["requestId"])
        assert (await answer(dial, tls_gateway.auth, key))["method"] == "password"
        wrong = await answer(dial, {"password": "wrong"}, key)
        assert wrong["details"]["code"] == "AUTH_PASSWORD_MISMATCH"


@scenario(30, once=True)
async def test_the_certificate_that_a_gateway_makes_names_no_host(
    self_signed_gateway: RealGateway,
) -> None:
    """So nothing but a pin can trust it; the command line does so."""
    own = self_signed_gateway.certificate
    assert own is not None
    with pytest.raises(trio.BrokenResourceError) as refused:
        async with raw_socket(self_signed_gateway.url, trust=own.trusting()):
            pytest.fail("verified")
    assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
    assert "address mismatch" in str(refused.value.__cause__)

    unnamed = own.trusting()
    unnamed.check_hostname = False
    dial = partial(raw_socket, self_signed_gateway.url, trust=unnamed)
    assert "deviceToken" in await answer(dial, self_signed_gateway.auth, Key())
    assert (await OpenClaw(self_signed_gateway).devices())["paired"] != []


@scenario(30, once=True)
async def test_a_gateway_in_another_time_accepts_its_own_time_signed_and_refuses_ours(
    gateway_two_hours_ahead: RealGateway,
) -> None:
    gateway = gateway_two_hours_ahead
    dial = partial(raw_socket, gateway.url)
    async with dial() as socket:
        assert 7190 < socket.challenge["ts"] / 1000 - time.time() < 7210
    assert "deviceToken" in await answer(dial, gateway.auth, Key())
    async with dial() as socket:
        socket.challenge["ts"] = round(time.time() * 1000)
        refused = (await socket.connect(connect_params(gateway.auth), Key()))["error"]
        assert refused["details"]["code"] == "DEVICE_AUTH_SIGNATURE_EXPIRED"
