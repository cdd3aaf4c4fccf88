"""A device that has to be approved at the real gateway, or loses its token while it is online."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from butter_proto.device import Device
from butter_proto.events import (
    Connecting,
    DeviceTokenRejected,
    GaveUp,
    Offline,
    Online,
    PairingRequired,
    Retrying,
)
from butter_proto.identity import CLI, OPERATOR_SCOPES
from butter_proto.machine import State
from butter_proto.settings import ReconnectSettings, Settings

from .kept_device import KeptDevice
from .openclaw_cli import OpenClaw
from .raw_socket import Key
from .real_gateway import RealGateway
from .remote_relay import remote_relay
from .scenario import (
    ADAPTERS,
    Client,
    Timeline,
    adapter,
    begun,
    connected,
    detail_code,
    noticed,
    scenario,
    timeline,
)

pytestmark = pytest.mark.live

POLL: Final = 1.0
"""Seconds."""
POLLING: Final = Settings(reconnect=ReconnectSettings(pairing_poll=POLL))
NO_POLL: Final = Settings(reconnect=ReconnectSettings(pairing_poll=None))
LATER: Final = Settings(reconnect=ReconnectSettings(minimum=4.0))
"""Comes back when everybody else is online again, on a busy machine too."""
ONCE_AN_HOUR: Final = Settings(reconnect=ReconnectSettings(pairing_poll=3600.0))

WRONG: Final = "a-token-that-no-gateway-gave"
LOCK_OUT: Final = 300.0
"""Seconds, after ten failures in a minute."""
UPGRADES: Final = {
    "scope-upgrade": (attrs.evolve(CLI, scopes=(*OPERATOR_SCOPES, "operator.admin")), "scopes"),
    "role-upgrade": (attrs.evolve(CLI, mode="node", role="node", scopes=()), "role"),
    "metadata-upgrade": (attrs.evolve(CLI, platform="another"), "platform or family"),
}


async def approved(gateway: RealGateway, folder: Path, over: str | None = None) -> KeptDevice:
    """Return a device that the gateway approved, as it does on loopback by itself."""
    kept = KeptDevice(folder)
    async with connected(gateway, over=over, device=kept.device):
        return kept


@scenario(60)
async def test_a_remote_device_is_online_by_its_slow_poll_when_it_is_approved(
    proxied_gateway: RealGateway, tmp_path: Path, record_property: Any
) -> None:
    kept, cli = KeptDevice(tmp_path / adapter()), OpenClaw(proxied_gateway)
    async with (
        remote_relay(proxied_gateway) as remote,
        begun(proxied_gateway, POLLING, url=remote.url, device=kept.device) as (client, watched),
        noticed(client, PairingRequired) as pairing,
    ):
        for _ in range(3):
            _, waiting = await watched.until(Retrying)
            assert detail_code(waiting) == "PAIRING_REQUIRED"
            assert waiting.delay == POLL
        first = await pairing.until(1)
        assert (first.device_id, first.reason) == (kept.device_id, "not-paired")
        assert first.request_id is not None
        assert first.remediation

        await cli.reject(first.request_id)
        second = await pairing.until(2)
        assert second.request_id not in (None, first.request_id)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cli.approve, second.request_id)
            at, online = await watched.until(Online)
            record_property("approval begun to online, s", f"{at - began:.2f}")
        assert online.hello.auth_method == "token"
        assert kept.token is not None
        assert kept.token.scopes == online.hello.scopes == OPERATOR_SCOPES
        assert pairing.told == [first, second]
        assert client.stats.attempts == len(watched.retries) + 1


@pytest.mark.parametrize("reason", UPGRADES)
@scenario(30)
async def test_what_an_approved_device_may_not_yet_do_is_told_apart(
    proxied_gateway: RealGateway, tmp_path: Path, reason: str
) -> None:
    identity, words = UPGRADES[reason]
    kept = await approved(proxied_gateway, tmp_path / adapter())
    settings = attrs.evolve(NO_POLL, identity=identity)
    async with (
        remote_relay(proxied_gateway) as remote,
        begun(proxied_gateway, settings, url=remote.url, device=kept.device) as (client, watched),
        client.notices() as notices,
    ):
        _, gave_up = await watched.until(GaveUp)
        told = await anext(notices)
        assert isinstance(told, PairingRequired)
        assert told.reason == reason
        assert words in gave_up.advice
        assert f"openclaw devices approve {told.request_id}" in gave_up.advice
        assert client.stats.attempts == 1


@scenario(60)
async def test_a_rotated_token_is_repaired_by_the_shared_one(
    proxied_gateway: RealGateway, tmp_path: Path, record_property: Any
) -> None:
    kept = await approved(proxied_gateway, tmp_path / adapter())
    before = kept.token
    async with (
        connected(proxied_gateway, device=kept.device) as client,
        timeline(client) as watched,
    ):
        await OpenClaw(proxied_gateway).rotate(kept.device_id)
        _, offline = await watched.until(Offline)
        assert (offline.ending.close_code, offline.ending.close_reason) == (4001, "device removed")
        _, online = await watched.until(Online)
        assert online.hello.auth_method == "token"
        assert kept.token not in (None, before)
        [retry] = watched.retries
        record_property("delay after the rotation, s", f"{retry.delay:.2f}")
        assert client.stats.attempts == 2
    async with connected(proxied_gateway, token=None, device=kept.device) as client:
        assert client.hello.auth_method == "device-token"


@scenario(60)
async def test_the_token_that_another_program_of_the_device_was_given_is_used(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    kept = await approved(proxied_gateway, tmp_path / adapter())
    async with (
        connected(proxied_gateway, device=kept.device),
        connected(proxied_gateway, LATER, token=None, device=kept.device) as client,
        timeline(client) as watched,
    ):
        await OpenClaw(proxied_gateway).rotate(kept.device_id)
        _, online = await watched.until(Online)
        assert online.hello.auth_method == "device-token"
        _, repair = watched.retries
        assert detail_code(repair) == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert repair.delay == 0.25
        assert client.stats.attempts == 3


@pytest.mark.parametrize("act", [OpenClaw.rotate, OpenClaw.revoke], ids=["rotated", "revoked"])
@scenario(60)
async def test_a_token_that_ends_while_it_alone_connects_is_given_up(
    proxied_gateway: RealGateway, tmp_path: Path, act: Any
) -> None:
    """The shared token brings another one; on loopback a revocation is no more than a rotation."""
    kept = await approved(proxied_gateway, tmp_path / adapter())
    before = kept.token
    async with (
        connected(proxied_gateway, token=None, device=kept.device) as client,
        timeline(client) as watched,
        noticed(client, DeviceTokenRejected) as rejected,
    ):
        await act(OpenClaw(proxied_gateway), kept.device_id)
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert client.stats.attempts == 2
        told = await rejected.until(1)
        assert before is not None
        assert told.token == before.token

        client.use_credentials(token=proxied_gateway.token)
        _, online = await watched.until(Online)
        assert online.hello.auth_method == "token"
        assert kept.token not in (None, before)
        assert rejected.told == [told]
        assert client.stats.attempts == 3


@scenario(60)
async def test_a_remote_device_whose_token_is_revoked_waits_for_approval_again(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    kept, cli = await approved(proxied_gateway, tmp_path / adapter()), OpenClaw(proxied_gateway)
    async with (
        remote_relay(proxied_gateway) as remote,
        connected(proxied_gateway, ONCE_AN_HOUR, url=remote.url, device=kept.device) as client,
        timeline(client) as watched,
        noticed(client, PairingRequired) as pairing,
    ):
        await cli.revoke(kept.device_id)
        await watched.until(Connecting)
        _, waiting = await watched.until(Retrying)
        assert detail_code(waiting) == "PAIRING_REQUIRED"
        assert (client.state, client.stats.attempts) == (State.WAITING, 2)
        revoked = await pairing.until(1)
        assert revoked.reason == "role-upgrade"
        assert revoked.request_id is not None

        await cli.approve(revoked.request_id)
        client.reconnect_now()
        await watched.until(Online)
        assert client.stats.attempts == 3


@scenario(60)
async def test_guesses_lock_a_remote_address_out_and_the_right_token_waits_like_every_other(
    proxied_gateway: RealGateway, record_property: Any
) -> None:
    async with (
        remote_relay(proxied_gateway) as remote,
        begun(proxied_gateway, url=remote.url, token=WRONG) as (client, watched),
    ):
        for guess in range(10):
            _, gave_up = await watched.until(GaveUp)
            assert detail_code(gave_up) == "AUTH_TOKEN_MISMATCH"
            client.use_credentials(token=f"{WRONG}-{guess}")
        _, locked = await watched.until(Retrying)
        assert detail_code(locked) == "AUTH_RATE_LIMITED"
        assert locked.ending.retry_after is not None
        record_property("hint, s", locked.ending.retry_after)
        assert LOCK_OUT - 5 < locked.ending.retry_after <= min(LOCK_OUT, locked.delay)

        client.use_credentials(token=proxied_gateway.token)
        client.reconnect_now()
        assert (client.state, client.stats.attempts) == (State.WAITING, 11)

        # where the gateway gives a device no hint, its lock-out is known all the same
        async with begun(proxied_gateway, url=remote.url, device=Device(Key())) as (_, other):
            _, told = await other.until(Retrying)
            assert detail_code(told) == "AUTH_RATE_LIMITED"
            assert told.ending.retry_after is None
            assert told.delay >= LOCK_OUT
    async with (
        remote_relay(proxied_gateway) as elsewhere,
        connected(proxied_gateway, url=elsewhere.url) as client,
    ):
        assert client.hello.auth_method == "token"


@scenario(60, once=True)
async def test_a_changed_secret_is_survived_by_a_stored_token_and_given_up_without_one(
    proxied_gateway: RealGateway, tmp_path: Path, record_property: Any
) -> None:
    """With a device or without: the shared token that they know is the old one."""

    async def follow(client: Client, watched: Timeline, method: str) -> None:
        _, offline = await watched.until(Offline)
        ending = offline.ending
        assert (ending.close_code, ending.close_reason) == (4001, "gateway auth changed")
        if method == "token":
            _, gave_up = await watched.until(GaveUp)
            assert detail_code(gave_up) == "AUTH_TOKEN_MISMATCH"
            assert client.stats.attempts == 2
            client.use_credentials(token=proxied_gateway.token)
        at, online = await watched.until(Online)
        record_property(f"changed to online by {method}, s", f"{at - began:.2f}")
        assert online.hello.auth_method == method
        assert client.stats.attempts == 3

    async with AsyncExitStack() as stack:
        followed = []
        for over in ADAPTERS:
            kept = await approved(proxied_gateway, tmp_path / over, over=over)
            for device, method in ((kept.device, "device-token"), (None, "token")):
                client = await stack.enter_async_context(
                    connected(proxied_gateway, over=over, device=device)
                )
                watched = await stack.enter_async_context(timeline(client))
                followed.append((client, watched, method))
        began = trio.current_time()
        proxied_gateway.change_secret()
        async with trio.open_nursery() as nursery:
            for one in followed:
                nursery.start_soon(follow, *one)
