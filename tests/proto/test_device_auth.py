"""What a device signs, and the object that carries the proof (wire.md 4)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from butter_proto.device_auth import (
    SignedPayload,
    SigningFailed,
    can_be_signed,
    device_id,
    prove,
    public_key_of,
    signed_text,
)
from butter_proto.errors import InvalidSettings

NONCE = "5e644c2f-0b91-4836-bc79-84d468aaf7a6"
TS = 1795397965416
ID = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"


class Ed25519:
    """A signer with the key of wire.md's vector."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def params(auth: dict[str, str] | None = None, **client: str) -> dict[str, Any]:
    return {
        "client": {"id": "cli", "mode": "cli", "platform": "linux", **client},
        "role": "operator",
        "scopes": ["operator.read", "operator.write"],
        "auth": {"token": "secret-a"} if auth is None else auth,
    }


def test_the_vector_that_the_gateway_accepted_comes_out() -> None:
    """wire.md 4, test vector 1."""
    assert signed_text(SignedPayload.V3, params(), ID, NONCE, TS) == (
        f"v3|{ID}|cli|cli|operator|operator.read,operator.write|{TS}|secret-a|{NONCE}|linux|"
    )
    assert prove(Ed25519(), SignedPayload.V3, params(), NONCE, TS) == {
        "id": ID,
        "publicKey": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
        "signature": (
            "RTCT2lCtmaIzikXZD2SB70XbPDRK6RojSxv3S6s5B2tiSfV2cU996rCUuvGe934NsTA-3FfLZkB5rYnohMeeDw"
        ),
        "signedAt": TS,
        "nonce": NONCE,
    }


def test_v2_has_neither_platform_nor_family() -> None:
    assert signed_text(SignedPayload.V2, params(), ID, NONCE, TS) == (
        f"v2|{ID}|cli|cli|operator|operator.read,operator.write|{TS}|secret-a|{NONCE}"
    )


@pytest.mark.parametrize(
    ("auth", "signed"),
    [
        ({"token": "t", "deviceToken": "d", "bootstrapToken": "b"}, "t"),
        ({"deviceToken": "d", "bootstrapToken": "b"}, "d"),
        ({"bootstrapToken": "b"}, "b"),
        ({"password": "p"}, ""),
        ({}, ""),
    ],
)
def test_the_first_token_is_signed_and_a_password_never(auth: dict[str, str], signed: str) -> None:
    text = signed_text(SignedPayload.V2, params(auth), ID, NONCE, TS)
    assert text.split("|")[7] == signed


def test_platform_and_family_are_trimmed_and_lowered_in_ascii_alone() -> None:
    text = signed_text(
        SignedPayload.V3, params(platform=" MacOS ", deviceFamily="ÄB"), ID, NONCE, TS
    )
    assert text.split("|")[-2:] == ["macos", "Äb"]


def test_a_device_id_is_the_hash_of_its_raw_key() -> None:
    key = base64.urlsafe_b64decode("A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=")
    assert device_id(key) == ID == hashlib.sha256(key).hexdigest()


@pytest.mark.parametrize("nonce", ["a|b", "a\nb", "n" * 257])
def test_a_nonce_that_could_pose_as_more_is_not_signed(nonce: str) -> None:
    assert not can_be_signed(nonce)


def test_a_uuid_is_signed() -> None:
    assert can_be_signed(NONCE)


@pytest.mark.parametrize("key", [b"", bytes(31), "k" * 32])
def test_a_public_key_has_32_bytes(key: Any) -> None:
    class Odd(Ed25519):
        @property
        def public_key(self) -> Any:
            return key

    with pytest.raises(InvalidSettings, match="32 bytes"):
        public_key_of(Odd())


def test_what_a_signer_raises_is_told_without_its_words() -> None:
    class Broken(Ed25519):
        def sign(self, message: bytes) -> bytes:
            raise ValueError(f"cannot sign {message!r}")

    with pytest.raises(SigningFailed, match=r"^the signer raised ValueError$"):
        prove(Broken(), SignedPayload.V3, params(), NONCE, TS)


@pytest.mark.parametrize("signature", [b"", bytes(63), None])
def test_what_is_no_signature_is_not_sent(signature: Any) -> None:
    class Short(Ed25519):
        def sign(self, message: bytes) -> Any:
            return signature if message else message

    with pytest.raises(SigningFailed, match="64 bytes"):
        prove(Short(), SignedPayload.V3, params(), NONCE, TS)
