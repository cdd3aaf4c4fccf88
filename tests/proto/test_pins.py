"""Pins: which texts are one, which certificates match, and that no bytes ever raise."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.errors import InvalidSettings
from butter_proto.pins import Pin, fingerprints, public_key_info, to_pins, valid_until
from tests.proto.certificates import (
    certificate,
    certificate_digest,
    element,
    key_digest,
    key_of,
    parts_of,
    sequence,
    version_1,
)

KINDS = ["EC", "RSA", "Ed25519"]
DIGEST = bytes(range(0xE0, 0x100))
HEX = DIGEST.hex()
COLONS = ":".join(f"{byte:02X}" for byte in DIGEST)
BASE64 = base64.b64encode(DIGEST).decode()


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        COLONS,
        COLONS.lower(),
        BASE64,
        f"sha256/{BASE64}",
        f"sha256//{BASE64}",
        f" {COLONS}\n",
    ],
)
def test_every_usual_form_of_a_digest_is_the_same_pin(text: str) -> None:
    assert to_pins(text) == (Pin(DIGEST),)


@given(st.binary(min_size=32, max_size=32))
def test_any_digest_is_read_from_any_form(digest: bytes) -> None:
    encoded = base64.b64encode(digest).decode()
    assert to_pins([digest.hex(":"), digest.hex(), encoded]) == (Pin(digest),) * 3


def test_pins_are_one_or_several_and_may_be_made_before() -> None:
    other = Pin(bytes(32))
    assert to_pins(()) == ()
    assert to_pins(other) == (other,)
    several: list[str | Pin] = [HEX, other]
    assert to_pins(iter(several)) == (Pin(DIGEST), other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX[:-1],
        HEX[:-2],
        HEX + "00",
        COLONS[:-1],
        COLONS + ":",
        ":" + COLONS,
        COLONS.replace(":", "", 1),
        COLONS.replace(":", "-"),
        HEX.replace("e0", "g0"),
        "٣" * 64,
        BASE64.rstrip("="),
        BASE64 + "=",
        base64.b64encode(DIGEST[:31]).decode(),
        base64.urlsafe_b64encode(DIGEST).decode(),
        f"sha1/{BASE64}",
        f"sha256///{BASE64}",
        f"sha256/{HEX}",
        f"{HEX} {HEX}",
    ],
)
def test_what_is_no_sha256_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="a pin is a SHA-256"):
        to_pins(text)
    with pytest.raises(InvalidSettings, match="a pin is a SHA-256"):
        to_pins([HEX, text])


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "pins are texts"), (5, "pins are texts"), (DIGEST, "a pin is a"), ([[HEX]], "a pin")],
)
def test_what_is_no_text_is_refused(value: Any, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        to_pins(value)


@pytest.mark.parametrize("digest", [b"", DIGEST[:-1], DIGEST + b"x", HEX])
def test_a_pin_cannot_be_made_of_another_digest(digest: Any) -> None:
    with pytest.raises(InvalidSettings, match="32 bytes"):
        Pin(digest)


def test_a_pin_shows_its_digest_as_openssl_does() -> None:
    assert repr(Pin(DIGEST)) == f"Pin({COLONS})"


# --- certificates ---------------------------------------------------------------------------


def real_certificates() -> list[bytes]:
    leaf = trustme.CA().issue_cert("gateway.local")
    pem = leaf.cert_chain_pems[0].bytes()
    issued = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    made = [certificate(kind) for kind in KINDS]
    return [issued, *made, *map(version_1, made), certificate("EC", "a" * 64)]


def test_a_certificate_matches_its_own_digest_and_its_keys() -> None:
    for der in real_certificates():
        assert public_key_info(der) == key_of(der)
        assert Pin(certificate_digest(der)).matches(der)
        assert Pin(key_digest(der)).matches(der)
        assert not Pin(DIGEST).matches(der)


def test_a_version_1_certificate_is_one_without_a_version_field() -> None:
    assert x509.load_der_x509_certificate(version_1(certificate())).version is x509.Version.v1


def test_a_renewed_certificate_with_the_same_key_matches_the_keys_pin_alone() -> None:
    old, new = certificate("EC", "old.local"), certificate("EC", "new.local")
    assert Pin(key_digest(old)).matches(new)
    assert not Pin(certificate_digest(old)).matches(new)


def test_the_fingerprints_of_a_certificate_are_pins_that_match_it() -> None:
    for der in real_certificates():
        first, second = fingerprints(der).split(", ")
        pins = to_pins([first.removeprefix("certificate "), second.removeprefix("public key ")])
        assert pins == (Pin(certificate_digest(der)), Pin(key_digest(der)))


def test_of_what_is_no_certificate_only_the_digest_is_told() -> None:
    digest = hashlib.sha256(b"no certificate").digest()
    assert fingerprints(b"no certificate") == f"certificate {digest.hex(':').upper()}"


# --- foreign bytes --------------------------------------------------------------------------


def with_key(**changes: bytes) -> bytes:
    """Return the least that is a certificate to the reader, with parts changed."""
    parts = {
        "version": element(0xA0, b"\x02\x01\x02"),
        "serial": element(0x02, b"\x01"),
        "signature": sequence([]),
        "issuer": sequence([]),
        "validity": sequence([]),
        "subject": sequence([]),
        "key": sequence([b"the key"]),
        "rest": b"",
    } | changes
    return sequence([sequence(parts.values()), b"and the signature"])


def test_the_least_certificate_has_its_key_at_its_place() -> None:
    assert public_key_info(with_key()) == sequence([b"the key"])
    assert public_key_info(with_key(version=b"")) == sequence([b"the key"])


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_every_length_is_read(size: int) -> None:
    key = element(0x30, bytes(size))
    assert public_key_info(with_key(key=key, issuer=sequence([bytes(size)]))) == key


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b""},
        {"key": element(0x31, b"the key")},
        {"key": b"\x30"},
        {"key": b"\x30\x08the key"},  # one byte more than there is
        {"key": b"\x30\x80the key\0\0"},  # an indefinite length is BER, not DER
        {"key": b"\x30\x81\x07the key"},  # and so is a length that could be shorter
        {"key": b"\x30\x82\x00\x80" + bytes(128)},
        {"key": b"\x30\x85\x00\x00\x00\x00\x80" + bytes(128)},
        {"key": b"\x30\x85\x01\x00\x00\x00\x00" + bytes(128)},
        {"key": b"\x30\x84\x7f\xff\xff\xff"},
        {"key": b"\x30\x84"},
        {"key": b"\x30\xff"},
        {"serial": b""},
        {"serial": element(0x04, b"\x01")},
        {"version": element(0xA1, b"\x02\x01\x02")},
        {"version": element(0xA0, b"") * 2},
        {"subject": b""},
        {"issuer": b"\xbf\x30\x00"},  # a tag of several bytes
    ],
)
def test_what_is_not_written_as_der_has_no_key(changes: dict[str, bytes]) -> None:
    assert public_key_info(with_key(**changes)) is None


def test_bytes_behind_a_certificate_make_it_none() -> None:
    assert public_key_info(certificate() + b"\0") is None


def test_a_key_that_reaches_over_its_certificates_end_is_none() -> None:
    signed, *others = parts_of(certificate())
    fields = parts_of(signed)[:6]
    inside = sequence([*fields, b"\x30\x20"])  # the 32 bytes would be those behind it
    assert public_key_info(sequence([inside, bytes(32), *others])) is None


def test_the_digest_of_nothing_is_no_pin() -> None:
    """A pipeline whose first part failed prints it, and pins would then be compared in vain."""
    with pytest.raises(InvalidSettings, match="SHA-256 of nothing"):
        to_pins("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
    with pytest.raises(InvalidSettings, match="SHA-256 of nothing"):
        Pin(certificate_digest(b""))


@given(
    st.binary(min_size=1, max_size=300) | st.binary(max_size=60).map(lambda body: sequence([body]))
)
def test_any_bytes_match_only_their_own_digest(data: bytes) -> None:
    assert Pin(certificate_digest(data)).matches(data)
    assert not Pin(DIGEST).matches(data)
    assert fingerprints(data).startswith("certificate ")


@given(kind=st.sampled_from(KINDS), cut=st.floats(0, 1), to=st.binary(max_size=3))
def test_a_damaged_certificate_never_raises(kind: str, cut: float, to: bytes) -> None:
    der = certificate(kind)
    place = int(cut * len(der))
    for damaged in (der[:place], der[:place] + to + der[place + len(to) :], der[:place] + to):
        found = public_key_info(damaged)
        assert found is None or found in damaged
        assert damaged == der or not Pin(certificate_digest(der)).matches(damaged)


@given(st.data())
def test_a_key_is_found_only_where_a_library_finds_it(data: st.DataObject) -> None:
    """Else a peer could show a key that it does not hold."""
    der = bytearray(certificate(data.draw(st.sampled_from(KINDS))))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    found = public_key_info(bytes(der))
    try:
        theirs = key_of(bytes(der))
    except Exception:  # noqa: BLE001 - whatever it dislikes: no such peer comes through TLS
        return
    assert found is None or found == theirs


# --- dates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_says_when_it_expires(kind: str) -> None:
    assert valid_until(certificate(kind)) == "2027-01-01T00:00:00Z"


def times(*ends: tuple[int, bytes]) -> bytes:
    """Return the least certificate with these times, the first one its beginning."""
    return with_key(validity=sequence(element(tag, text) for tag, text in ends))


BEGIN = (0x17, b"260101000000Z")


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ((0x17, b"491231235959Z"), "2049-12-31T23:59:59Z"),
        ((0x17, b"500101000000Z"), "1950-01-01T00:00:00Z"),
        ((0x18, b"99991231235959Z"), "9999-12-31T23:59:59Z"),
    ],
)
def test_both_kinds_of_time_are_read(end: tuple[int, bytes], text: str) -> None:
    assert valid_until(times(BEGIN, end)) == text


@pytest.mark.parametrize(
    "ends",
    [
        (),
        (BEGIN,),
        (BEGIN, (0x17, b"soon")),
        (BEGIN, (0x16, b"270101000000Z")),
        ((0x02, b"1"), BEGIN),
    ],
)
def test_a_certificate_without_a_time_says_none(ends: tuple[tuple[int, bytes], ...]) -> None:
    assert valid_until(times(*ends)) is None


@given(kind=st.sampled_from(KINDS), cut=st.floats(0, 1), to=st.binary(max_size=3))
def test_the_date_of_a_damaged_certificate_never_raises(kind: str, cut: float, to: bytes) -> None:
    der = certificate(kind)
    place = int(cut * len(der))
    found = valid_until(der[:place] + to + der[place + len(to) :])
    assert found is None or found.endswith("Z")
