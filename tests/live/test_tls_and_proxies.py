"""The real gateway over TLS, with a password: whom to trust, and through which proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from butter_proto.errors import EndKind, FaultKind
from butter_proto.events import GaveUp, Online, PairingRequired
from butter_proto.identity import OPERATOR_SCOPES
from butter_proto.settings import ReconnectSettings, Settings
from tests.local_proxies import HOST, http_proxy, socks_proxy

from .certificates import Certificate
from .kept_device import KeptDevice
from .real_gateway import RealGateway
from .scenario import adapter, begun, connected, detail_code, noticed, scenario

pytestmark = pytest.mark.live

WRONG_PIN: Final = "0" * 64
FORMS: Final = {"certificate": "fingerprint", "key": "spki_fingerprint"}
"""What a pin may be of, and the property of a `Certificate` that has it."""
PROXIES: Final = {"CONNECT": http_proxy, "SOCKS5": socks_proxy}
USER: Final = ("somebody", "with-a-password")


@scenario(30)
async def test_a_password_connects_without_a_device_and_brings_one_its_token(
    tls_gateway: RealGateway, certificate: Certificate, tmp_path: Path
) -> None:
    trust = certificate.trusting()
    settings = Settings(password=tls_gateway.password)
    kept = KeptDevice(tmp_path / adapter())
    for device in (None, kept.device):
        async with connected(
            tls_gateway, settings, token=None, device=device, ssl_context=trust
        ) as client:
            assert client.hello.auth_method == "password"
            assert client.hello.scopes == OPERATOR_SCOPES
    assert kept.token is not None
    async with connected(tls_gateway, token=None, device=kept.device, ssl_context=trust) as client:
        assert client.hello.auth_method == "device-token"


@pytest.mark.parametrize("with_device", [False, True], ids=["without a device", "with a device"])
@scenario(60)
async def test_a_wrong_password_stops_and_the_right_one_goes_on(
    tls_gateway: RealGateway, certificate: Certificate, tmp_path: Path, with_device: bool
) -> None:
    device = KeptDevice(tmp_path / adapter()).device if with_device else None
    async with begun(
        tls_gateway,
        Settings(password="wrong"),
        token=None,
        device=device,
        ssl_context=certificate.trusting(),
    ) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert detail_code(gave_up) == "AUTH_PASSWORD_MISMATCH"
        assert gave_up.advice == "The password is wrong."
        assert client.stats.attempts == 1

        client.use_credentials(password=tls_gateway.password)
        await watched.until(Online)
        assert client.stats.attempts == 2


@scenario(30)
async def test_an_authority_that_is_not_trusted_stops(tls_gateway: RealGateway) -> None:
    async with begun(tls_gateway) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert gave_up.ending.fault is not None
        assert gave_up.ending.fault.kind is FaultKind.CERTIFICATE
        assert client.stats.attempts == 1


@pytest.mark.parametrize("form", FORMS)
@scenario(30)
async def test_a_pin_is_compared_beside_an_authority_and_in_place_of_one(
    tls_gateway: RealGateway, certificate: Certificate, form: str
) -> None:
    pin = getattr(certificate, FORMS[form])
    trust = certificate.trusting()
    for pins, context in (([pin], trust), ([WRONG_PIN, pin], trust), ([pin], None)):
        settings = Settings(password=tls_gateway.password, pins=pins)
        async with connected(tls_gateway, settings, token=None, ssl_context=context) as client:
            assert (await client.request("health"))["ok"] is True

    settings = Settings(password=tls_gateway.password, pins=WRONG_PIN)
    async with begun(tls_gateway, settings, token=None, ssl_context=trust) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert gave_up.ending.kind is EndKind.PIN_MISMATCH
        assert client.stats.attempts == 1


@pytest.mark.parametrize("form", FORMS)
@scenario(30)
async def test_the_certificate_that_a_gateway_makes_needs_its_pin_and_nothing_else(
    self_signed_gateway: RealGateway, tmp_path: Path, form: str
) -> None:
    own = self_signed_gateway.certificate
    assert own is not None
    settings = Settings(pins=getattr(own, FORMS[form]))
    kept = KeptDevice(tmp_path / adapter())
    async with connected(self_signed_gateway, settings, device=kept.device) as client:
        assert client.hello.scopes == OPERATOR_SCOPES
    async with connected(self_signed_gateway, settings, token=None, device=kept.device) as client:
        assert client.hello.auth_method == "device-token"

    async with begun(self_signed_gateway, Settings(pins=WRONG_PIN)) as (client, watched):
        _, gave_up = await watched.until(GaveUp)
        assert gave_up.ending.kind is EndKind.PIN_MISMATCH
        shown = gave_up.ending.text.replace(":", "").lower()
        assert own.fingerprint in shown
        assert client.stats.attempts == 1


@scenario(30)
async def test_a_context_that_verifies_is_not_replaced_by_a_pin(
    self_signed_gateway: RealGateway,
) -> None:
    own = self_signed_gateway.certificate
    assert own is not None
    settings = Settings(pins=own.fingerprint)
    async with begun(self_signed_gateway, settings, ssl_context=own.trusting()) as (_, watched):
        _, gave_up = await watched.until(GaveUp)
        assert gave_up.ending.fault is not None
        assert gave_up.ending.fault.kind is FaultKind.CERTIFICATE


@scenario(30)
async def test_extra_headers_reach_the_gateway_over_tls(
    tls_gateway: RealGateway, certificate: Certificate, tmp_path: Path
) -> None:
    """It believes who the client is said to be, and so the device waits for approval."""
    settings = Settings(
        password=tls_gateway.password,
        headers={"X-Forwarded-For": "198.51.100.77"},
        reconnect=ReconnectSettings(pairing_poll=None),
    )
    device = KeptDevice(tmp_path / adapter()).device
    async with (
        begun(
            tls_gateway, settings, token=None, device=device, ssl_context=certificate.trusting()
        ) as (client, watched),
        noticed(client, PairingRequired) as pairing,
    ):
        await watched.until(GaveUp)
        assert (await pairing.until(1)).reason == "not-paired"


@pytest.mark.parametrize("kind", PROXIES)
@scenario(30)
async def test_a_proxy_leads_to_the_gateway_in_clear_text_and_over_tls(
    gateway: RealGateway, tls_gateway: RealGateway, certificate: Certificate, kind: str
) -> None:
    with PROXIES[kind](USER) as proxy:
        address = proxy.url_for(":".join(USER))
        plain = Settings(token=gateway.token, proxy=address)
        secure = Settings(password=tls_gateway.password, proxy=address)
        for target, settings, context in (
            (gateway, plain, None),
            (tls_gateway, secure, certificate.trusting()),
        ):
            url = target.url.replace("127.0.0.1", HOST)
            async with connected(
                target, settings, url=url, token=None, ssl_context=context
            ) as client:
                assert client.hello.scopes == OPERATOR_SCOPES
                assert (await client.request("health"))["ok"] is True
                assert proxy.asked[-1] == (HOST, target.port)
                assert client.stats.attempts == 1
        assert proxy.connections == 2
        async with connected(gateway, plain):
            assert proxy.connections == 2, "loopback is never proxied"
