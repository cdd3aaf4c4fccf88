"""The stand-in's check of signatures: real ones pass, and nothing else."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from butter_proto.testing.ed25519 import verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
SIGNATURE = KEY.sign(b"message")


def test_a_signature_is_verified_for_its_own_message_and_key_alone() -> None:
    assert verify(PUBLIC, SIGNATURE, b"message")
    assert not verify(PUBLIC, SIGNATURE, b"another message")
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    assert not verify(other, SIGNATURE, b"message")


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), bytes([255]) * 32])
def test_what_is_no_key_or_no_signature_is_not_verified(data: bytes) -> None:
    assert not verify(data, SIGNATURE, b"message")
    assert not verify(PUBLIC, data, b"message")


def test_without_the_extra_nothing_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert not verify(PUBLIC, SIGNATURE, b"message")
