"""A device at the real gateway on loopback: its first token, what follows, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

import butter_trio
from butter_proto.device import Device
from butter_proto.device_auth import SignedPayload, device_id
from butter_proto.events import GaveUp, Online, ScopesReduced
from butter_proto.identity import CLI, OPERATOR_SCOPES
from butter_proto.settings import Settings
from butter_proto.storage import FileTokenStore
from butter_trio import State

from .kept_device import KeptDevice, SlowStore, connected_process
from .openclaw_cli import OpenClaw
from .raw_socket import Key, raw_socket
from .real_gateway import RealGateway
from .replaying_relay import replaying_relay
from .scenario import ADAPTERS, adapter, begun, connected, detail_code, scenario, timeline

pytestmark = pytest.mark.live

WRONG: Final = "a-token-that-no-gateway-gave"


@scenario(30)
async def test_a_new_device_is_online_only_when_its_token_is_in_the_file(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    kept = KeptDevice(tmp_path / adapter())
    slow = Device(kept.device.signer, SlowStore(kept.store))
    async with begun(proxied_gateway, device=slow) as (client, watched):
        _, online = await watched.until(Online)
        token = kept.token
        assert token is not None
        assert token.token.reveal() == online.hello.payload["auth"]["deviceToken"]
        assert token.scopes == online.hello.scopes == OPERATOR_SCOPES
        assert online.hello.auth_method == "token"
        assert client.stats.attempts == 1
        assert (await client.request("health"))["ok"] is True


@scenario(30)
async def test_the_stored_token_alone_connects_with_the_scopes_that_it_was_granted(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    folder = tmp_path / adapter()
    reader = Settings(identity=attrs.evolve(CLI, scopes=["operator.read"]))
    async with connected(proxied_gateway, reader, device=KeptDevice(folder).device):
        pass
    again = KeptDevice(folder)
    before = again.token
    async with (
        connected(proxied_gateway, token=None, device=again.device) as client,
        client.notices() as notices,
    ):
        assert client.hello.auth_method == "device-token"
        assert client.hello.scopes == ("operator.read",)
        assert await anext(notices) == ScopesReduced(OPERATOR_SCOPES, ("operator.read",))
        assert client.stats.attempts == 1
        assert again.token == before
    async with connected_process(adapter(), proxied_gateway, folder) as (device, method, scopes):
        assert (device, method, scopes) == (again.device_id, "device-token", ["operator.read"])


@scenario(30)
async def test_a_wrong_stored_token_is_forgotten_and_the_shared_one_brings_another(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    kept = KeptDevice(tmp_path / adapter())
    async with connected(proxied_gateway, device=kept.device):
        right = kept.token
    kept.spoil_token(WRONG)
    with pytest.raises(butter_trio.GaveUp, match="shared token"):
        async with connected(proxied_gateway, token=None, device=kept.device):
            pytest.fail("connected with a wrong token")
    assert kept.token is None
    assert KeptDevice(kept.folder).device_id == kept.device_id

    async with connected(proxied_gateway, device=kept.device):
        kept.spoil_token(WRONG)
    async with begun(proxied_gateway, token=None, device=kept.device) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "AUTH_DEVICE_TOKEN_MISMATCH"
        client.use_credentials(token=proxied_gateway.token)
        _, online = await watched.until(Online)
        assert online.hello.auth_method == "token"
        assert kept.token == right
        assert client.stats.attempts == 2


@scenario(60)
async def test_a_wrong_shared_token_is_repaired_once_by_the_stored_one(
    proxied_gateway: RealGateway, tmp_path: Path, record_property: Any
) -> None:
    kept = KeptDevice(tmp_path / adapter())
    async with connected(proxied_gateway, device=kept.device):
        pass
    began = trio.current_time()
    async with begun(proxied_gateway, token=WRONG, device=kept.device) as (client, watched):
        at, online = await watched.until(Online)
        record_property("wrong token to online by the stored one, s", f"{at - began:.2f}")
        [repair] = watched.retries
        assert detail_code(repair) == "AUTH_TOKEN_MISMATCH"
        assert repair.delay == 0.25
        assert online.hello.auth_method == "device-token"
        assert client.stats.attempts == 2

    kept.spoil_token(WRONG)
    async with begun(proxied_gateway, token=WRONG, device=kept.device) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "AUTH_DEVICE_TOKEN_MISMATCH"
        assert client.stats.attempts == 2


class SignsOnlyV2:
    """A device that signs something else than it is asked to, but for v2."""

    def __init__(self) -> None:
        self._key = Key()

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message if message.startswith(b"v2|") else b"something else")


@scenario(30)
async def test_a_wrong_signature_stops_and_v2_is_signed_in_the_one_attempt_that_asks_for_it(
    proxied_gateway: RealGateway,
) -> None:
    device = Device(SignsOnlyV2())
    async with begun(proxied_gateway, device=device) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "DEVICE_AUTH_SIGNATURE_INVALID"
        assert "signature" in gave_up.advice
        assert client.stats.attempts == 1

        client.reconnect_now(signed=SignedPayload.V2)
        await watched.until(Online)
        await OpenClaw(proxied_gateway).rotate(device_id(device.signer.public_key))
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "DEVICE_AUTH_SIGNATURE_INVALID"


@scenario(30)
async def test_a_nonce_of_another_connection_stops(proxied_gateway: RealGateway) -> None:
    async with raw_socket(proxied_gateway.url) as socket:
        stale = socket.challenge["nonce"]
    async with (
        replaying_relay(proxied_gateway.url, stale) as url,
        begun(proxied_gateway, url=url, device=Device(Key())) as (client, watched),
    ):
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "DEVICE_AUTH_NONCE_MISMATCH"
        assert client.state is State.BLOCKED
        assert client.stats.attempts == 1


@scenario(30)
async def test_a_clock_that_is_two_hours_wrong_does_not_matter(
    gateway_two_hours_ahead: RealGateway, tmp_path: Path
) -> None:
    kept = KeptDevice(tmp_path / adapter())
    for token, method in ((gateway_two_hours_ahead.token, "token"), (None, "device-token")):
        async with connected(gateway_two_hours_ahead, token=token, device=kept.device) as client:
            assert client.hello.auth_method == method
            assert client.stats.attempts == 1


@scenario(60, once=True)
async def test_a_setup_code_brings_a_token_that_connects_alone(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    """Over both adapters with one code, which belongs to one device once it was used."""
    code = await OpenClaw(proxied_gateway).setup_code()
    settings = Settings(bootstrap_token=code.bootstrap_token)
    signer = Key()
    for over in ADAPTERS:
        store = FileTokenStore(tmp_path / over)
        device = Device(signer, store)
        for method in ("bootstrap-token", "device-token"):
            async with connected(
                proxied_gateway, settings, over=over, url=code.url, token=None, device=device
            ) as client:
                assert client.hello.auth_method == method
                assert client.hello.scopes == OPERATOR_SCOPES
                assert client.stats.attempts == 1
                [kept] = store.kept()
                assert kept.scopes == OPERATOR_SCOPES


@scenario(30)
async def test_one_device_is_online_twice_side_by_side(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    kept = KeptDevice(tmp_path / adapter())
    async with (
        connected(proxied_gateway, device=kept.device) as one,
        connected(proxied_gateway, token=None, device=kept.device) as other,
        timeline(one) as watched,
    ):
        assert (await other.request("health"))["ok"] is True
        assert (await one.request("health"))["ok"] is True
        assert one.hello.connection_id != other.hello.connection_id
        assert (one.stats.disconnects, watched.entries) == (0, [])


@scenario(60, once=True)
async def test_two_processes_make_one_device_in_one_folder_and_are_online_side_by_side(
    proxied_gateway: RealGateway, tmp_path: Path
) -> None:
    folder, told = tmp_path / "shared", {}
    both_online = trio.Event()

    async def run(over: str) -> None:
        token = proxied_gateway.token
        async with connected_process(over, proxied_gateway, folder, token=token) as said:
            told[over] = said
            if len(told) == len(ADAPTERS):
                both_online.set()
            await both_online.wait()

    async with trio.open_nursery() as nursery:
        for over in ADAPTERS:
            nursery.start_soon(run, over)
    kept = KeptDevice(folder)
    assert {device for device, _, _ in told.values()} == {kept.device_id}
    for over in ADAPTERS:
        async with connected(proxied_gateway, over=over, token=None, device=kept.device) as client:
            assert client.hello.auth_method == "device-token"
