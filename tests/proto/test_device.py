"""The store that keeps tokens in memory, and what a device shows of itself."""

from __future__ import annotations

from butter_proto.device import Device, DeviceToken, MemoryStore, TokenKey
from butter_proto.device_auth import Signer
from butter_proto.secret import Secret

KEY = TokenKey("ws://127.0.0.1:18789", "d" * 64, "cli", "operator")
FIRST = DeviceToken(Secret("first-token"), ("operator.read",))
SECOND = DeviceToken(Secret("second-token"), ("operator.read",))


def test_a_token_is_found_under_its_own_key_alone() -> None:
    store = MemoryStore()
    store.save(KEY, FIRST)
    assert store.load(KEY) == FIRST
    for other in (
        TokenKey("ws://127.0.0.1:18790", KEY.device_id, "cli", "operator"),
        TokenKey(KEY.origin, "e" * 64, "cli", "operator"),
        TokenKey(KEY.origin, KEY.device_id, "test", "operator"),
        TokenKey(KEY.origin, KEY.device_id, "cli", "node"),
    ):
        assert store.load(other) is None


def test_the_token_that_was_refused_is_forgotten_and_no_newer_one() -> None:
    store = MemoryStore()
    store.forget(KEY, FIRST.token)
    store.save(KEY, SECOND)
    store.forget(KEY, FIRST.token)
    assert store.load(KEY) == SECOND
    store.forget(KEY, SECOND.token)
    assert store.load(KEY) is None


def test_a_device_shows_neither_key_nor_tokens() -> None:
    class Talkative:
        public_key = bytes(32)

        def sign(self, message: bytes) -> bytes:
            return message

        def __repr__(self) -> str:
            return "the private key"

    signer: Signer = Talkative()
    assert repr(Device(signer)) == "Device()"
