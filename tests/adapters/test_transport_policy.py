"""Pins and added headers over real TLS: what every adapter shows the machine, and what leaves."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from butter_proto.errors import EndKind, GaveUp, InvalidSettings
from butter_proto.pins import fingerprints
from butter_proto.settings import Settings
from butter_proto.testing import StandInGateway
from tests.adapters.gateway_side import Relay, relayed
from tests.adapters.scenario import QUICK, TOKEN, eventually
from tests.adapters.subject import Subject
from tests.adapters.subjects import ALL, BYTES
from tests.adapters.worlds import TrioWorld
from tests.proto.certificates import certificate, certificate_digest, key, key_digest
from tests.tls import presenting, trusting

SELF_SIGNED = certificate("EC", "gateway.local")


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with ALL[request.param]() as subject:
        yield subject


@pytest.fixture
def tls_relay(world: TrioWorld, url: str, leaf: trustme.LeafCert) -> Iterator[Relay]:
    """A relay with a certificate for its address."""
    with relayed(world, url, presenting(leaf)) as relay:
        yield relay


@pytest.fixture
def self_signed_relay(
    world: TrioWorld, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relay]:
    """A relay whose certificate nobody vouches for."""
    pem = tmp_path_factory.mktemp("tls") / "both.pem"
    plain_key = key("EC").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(plain_key + ssl.DER_cert_to_PEM_cert(SELF_SIGNED).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with relayed(world, url, context) as relay:
        yield relay


def not_verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown_by(leaf: trustme.LeafCert) -> bytes:
    """Return the certificate (DER) that a server with this leaf shows."""
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def pinning(*digests: bytes) -> Settings:
    return attrs.evolve(QUICK, pins=[digest.hex() for digest in digests])


def test_a_gateway_that_shows_the_pinned_certificate_is_reached(
    subject: Subject, tls_relay: Relay, authority: trustme.CA, leaf: trustme.LeafCert
) -> None:
    der, context = shown_by(leaf), trusting(authority)
    for digest in (certificate_digest(der), key_digest(der)):
        with subject.connect(
            tls_relay.url, token=TOKEN, settings=pinning(digest), ssl_context=context
        ) as client:
            assert client.request("echo", 1) == 1


@pytest.mark.parametrize("name", BYTES)  # a host has sent its upgrade before it tells
def test_a_gateway_that_shows_another_one_gets_not_a_byte(
    name: str,
    tls_relay: Relay,
    stand_in: StandInGateway,
    authority: trustme.CA,
    leaf: trustme.LeafCert,
) -> None:
    settings, context = pinning(certificate_digest(SELF_SIGNED)), trusting(authority)
    with (
        BYTES[name]() as subject,
        pytest.raises(GaveUp) as caught,
        subject.connect(tls_relay.url, token=TOKEN, settings=settings, ssl_context=context),
    ):
        raise AssertionError
    ending = caught.value.ending
    assert ending is not None
    assert (ending.kind, ending.text) == (EndKind.PIN_MISMATCH, fingerprints(shown_by(leaf)))
    eventually(lambda: tls_relay.ended == 1)
    assert tls_relay.head == b""
    assert not stand_in.received


def test_no_adapter_sends_the_token_to_another_one(
    subject: Subject, tls_relay: Relay, stand_in: StandInGateway, authority: trustme.CA
) -> None:
    settings, context = pinning(certificate_digest(SELF_SIGNED)), trusting(authority)
    with (
        pytest.raises(GaveUp),
        subject.connect(tls_relay.url, token=TOKEN, settings=settings, ssl_context=context),
    ):
        raise AssertionError
    eventually(lambda: tls_relay.ended == 1)
    assert not stand_in.received


def test_a_self_signed_gateway_is_reached_by_its_pin_alone(
    subject: Subject, self_signed_relay: Relay
) -> None:
    settings = pinning(key_digest(SELF_SIGNED))
    with subject.connect(
        self_signed_relay.url, token=TOKEN, settings=settings, ssl_context=not_verifying()
    ) as client:
        assert client.request("echo", 1) == 1


@pytest.mark.parametrize("name", ["trio", "threads"])
def test_a_pin_is_enough_trust_where_no_other_was_given(
    name: str, self_signed_relay: Relay, tls_relay: Relay
) -> None:
    """A gateway's own certificate names no host, so there is nothing else to verify."""
    settings = pinning(key_digest(SELF_SIGNED))
    with (
        BYTES[name]() as subject,
        subject.connect(self_signed_relay.url, token=TOKEN, settings=settings) as client,
    ):
        assert client.request("echo", 1) == 1
    with (
        BYTES[name]() as subject,
        pytest.raises(GaveUp, match="not a pinned one"),
        subject.connect(tls_relay.url, token=TOKEN, settings=settings),
    ):
        raise AssertionError
    eventually(lambda: tls_relay.ended == 1)
    assert tls_relay.head == b""


@pytest.mark.parametrize("name", ["trio", "threads"])
def test_without_a_pin_nobody_unknown_is_trusted(name: str, self_signed_relay: Relay) -> None:
    with (
        BYTES[name]() as subject,
        pytest.raises(GaveUp, match="certificate not accepted"),
        subject.connect(self_signed_relay.url, token=TOKEN, settings=QUICK),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", BYTES)
def test_without_verification_another_one_gets_not_a_byte_either(
    name: str, tls_relay: Relay, leaf: trustme.LeafCert
) -> None:
    settings = pinning(key_digest(SELF_SIGNED))
    with (
        BYTES[name]() as subject,
        pytest.raises(GaveUp, match=re.escape(fingerprints(shown_by(leaf)))),
        subject.connect(tls_relay.url, token=TOKEN, settings=settings, ssl_context=not_verifying()),
    ):
        raise AssertionError
    eventually(lambda: tls_relay.ended == 1)
    assert tls_relay.head == b""


@pytest.mark.parametrize("name", BYTES)
def test_added_headers_reach_what_stands_before_the_gateway(
    name: str, tls_relay: Relay, authority: trustme.CA
) -> None:
    headers = {"CF-Access-Client-Id": "the-id", "CF-Access-Client-Secret": "QQ-secret-QQ"}
    settings = attrs.evolve(QUICK, headers=headers)
    with (
        BYTES[name]() as subject,
        subject.connect(
            tls_relay.url, token=TOKEN, settings=settings, ssl_context=trusting(authority)
        ) as client,
    ):
        assert client.request("echo", 1) == 1
    head = tls_relay.head.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"CF-Access-Client-Id: the-id" in head
    assert b"CF-Access-Client-Secret: QQ-secret-QQ" in head


def test_clear_text_to_a_public_host_is_refused_by_every_adapter(subject: Subject) -> None:
    with (
        pytest.raises(InvalidSettings, match="clear text"),
        subject.connect("ws://gateway.example.com", token=TOKEN),
    ):
        raise AssertionError
