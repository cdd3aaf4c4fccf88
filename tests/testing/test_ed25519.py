"""The stand-in's own check of Ed25519 signatures, held against another implementation."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from butter_proto.testing.ed25519 import verify

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("public_key", "message", "signature"),
    [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_the_vectors_of_rfc_8032_are_verified(
    public_key: str, message: str, signature: str
) -> None:
    given = [bytes.fromhex(text) for text in (public_key, signature, message)]
    assert verify(*given)
    assert not verify(given[0], given[1], given[2] + b"x")


def openssl_verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.integers(0, 511))
def test_it_agrees_with_openssl_on_signatures_right_and_bent(
    seed: bytes, message: bytes, bit: int
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify(public, signature, message)
    bent = (int.from_bytes(signature, "little") ^ 1 << bit).to_bytes(64, "little")
    assert verify(public, bent, message) is openssl_verifies(public, bent, message) is False


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_it_agrees_with_openssl_on_keys_that_may_be_none(public_key: bytes) -> None:
    signature = KEY.sign(b"m")
    assert verify(public_key, signature, b"m") is openssl_verifies(public_key, signature, b"m")


@pytest.mark.parametrize(
    "public_key",
    [
        b"",
        PUBLIC[:-1],
        P.to_bytes(32, "little"),  # not reduced
        (1 | 1 << 255).to_bytes(32, "little"),  # x is 0, and its sign set
        (2).to_bytes(32, "little"),  # on no point
    ],
)
def test_what_is_no_key_verifies_nothing(public_key: bytes) -> None:
    assert not verify(public_key, KEY.sign(b"m"), b"m")


def test_a_signature_of_another_size_or_above_the_order_is_none() -> None:
    signature = KEY.sign(b"m")
    raised = int.from_bytes(signature[32:], "little") + ORDER
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not verify(PUBLIC, wrong, b"m")
    assert not verify(PUBLIC, signature[:32] + raised.to_bytes(32, "little"), b"m")
