"""The store that keeps tokens in memory, and what a device shows of itself."""

from __future__ import annotations

from typing import Any

import pytest

from butter_proto.device import Device, DeviceToken, MemoryStore, TokenKey, kept_of
from butter_proto.device_auth import Signer
from butter_proto.errors import InvalidSettings
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


def test_the_token_that_was_issued_later_is_kept_whoever_saves_last() -> None:
    """Two programs of one device may save in another order than the gateway issued."""
    earlier = DeviceToken(Secret("first-token"), (), 1000)
    later = DeviceToken(Secret("second-token"), (), 2000)
    undated = DeviceToken(Secret("third-token"), ())
    assert kept_of(None, earlier) is earlier
    assert kept_of(earlier, later) is later
    assert kept_of(later, earlier) is later
    for one, other in ((earlier, undated), (undated, earlier)):
        assert kept_of(one, other) is other


def test_the_token_that_a_program_knew_to_be_kept_is_replaced_whatever_the_times_say() -> None:
    """The gateway's clock may have gone back."""
    earlier = DeviceToken(Secret("first-token"), (), 1000)
    later = DeviceToken(Secret("second-token"), (), 2000)
    assert kept_of(later, earlier, later.token) is earlier
    assert kept_of(later, earlier, Secret("another one")) is later


def test_the_same_token_keeps_every_scope_that_it_had() -> None:
    read = DeviceToken(Secret("a-token"), ("operator.read",), 1000)
    write = DeviceToken(Secret("a-token"), ("operator.write", "operator.read"), 1000)
    assert kept_of(read, write).scopes == ("operator.read", "operator.write")
    many = DeviceToken(Secret("a-token"), [f"scope {number}" for number in range(100)])
    assert len(kept_of(read, many).scopes) == 64


@pytest.mark.parametrize("token", ["a text", Secret("x" * 4097), Secret("\ud800"), None])
def test_a_token_is_a_short_secret_that_can_be_sent(token: Any) -> None:
    with pytest.raises(InvalidSettings, match="device token"):
        DeviceToken(token, ())


@pytest.mark.parametrize("scopes", ["operator.read", [""], [5], ["\ud800"]])
def test_scopes_are_names(scopes: Any) -> None:
    with pytest.raises(InvalidSettings, match="scopes"):
        DeviceToken(Secret("a-token"), scopes)


def test_scopes_of_any_kind_of_list_are_compared_alike() -> None:
    assert DeviceToken(Secret("t"), ["a"]) == DeviceToken(Secret("t"), ("a",))
