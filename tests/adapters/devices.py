"""Devices for the scenarios: a key that tells what it signed, and a store that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from butter_proto.device import Device, DeviceToken, MemoryStore, TokenKey
from butter_proto.device_auth import device_id
from butter_proto.secret import Secret
from butter_proto.storage.key import Ed25519Key
from butter_proto.testing import StandInGateway
from tests.adapters.subject import PATIENCE


class Key:
    """Signs; ``before`` is called first."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self._key: Final = Ed25519Key(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
        self._before = before
        self.signed: list[str] = []

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    @property
    def device_id(self) -> str:
        return device_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        self._before()
        self.signed.append(message.decode())
        return self._key.sign(message)


class Store:
    """Keeps tokens in memory; what a test sets is called before a load or a save."""

    def __init__(
        self,
        *,
        before_load: Callable[[], object] = lambda: None,
        before_save: Callable[[], object] = lambda: None,
    ) -> None:
        self._memory: Final = MemoryStore()
        self._before_load = before_load
        self._before_save = before_save
        self.kept: dict[TokenKey, DeviceToken] = {}
        """What is durable."""

    def load(self, key: TokenKey) -> DeviceToken | None:
        self._before_load()
        return self._memory.load(key)

    def save(self, key: TokenKey, token: DeviceToken, replaces: Secret | None = None) -> None:
        self._before_save()
        self._memory.save(key, token, replaces)
        self.kept[key] = token

    def forget(self, key: TokenKey, token: Secret) -> None:
        self._memory.forget(key, token)
        if self._memory.load(key) is None:
            self.kept.pop(key, None)


class Gate:
    """Where a store waits, until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        """Wait until somebody stands before it."""
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        """Let everybody pass."""
        self._open.set()


def device(store: Store | None = None, key: Key | None = None) -> Device:
    return Device(key or Key(), store or Store())


def issued(stand_in: StandInGateway) -> str:
    """Return the token that a stand-in gave the device."""
    return stand_in.devices[Key().device_id].tokens["operator"].token
