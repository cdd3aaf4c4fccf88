"""Keeping a device's tokens at one gateway: what an adapter's worker does about events.

Rules kept here:

* Everything here may block and may raise: an adapter calls it in a thread, one call at a time, in
  the order of the events.
* Only what was refused is forgotten, and only the token.
* A store's own words are told without the tokens that it was given (G11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from butter_proto import events
from butter_proto.authenticator import token_key
from butter_proto.connection import STORING_LIMIT
from butter_proto.connector import Connector
from butter_proto.device import Device, DeviceToken, MemoryStore, TokenKey, TokenStore
from butter_proto.pool import Pool
from butter_proto.pool_gateway import PoolGateway
from butter_proto.printable import printable
from butter_proto.secret import Secret, redact

CLOSE_LIMIT: Final = STORING_LIMIT
"""Seconds after Stopped that closing waits for a store; one that hangs must hold up nobody."""
GIVEN_UP: Final = f"the store did not answer in {CLOSE_LIMIT:g} s: a device token may be lost"
"""The warning after that."""
Keepable = events.DeviceTokenIssued | events.DeviceTokenRejected
"""The events that there is something to do about."""


class TokenKeeper:
    """Keeps the tokens of one device at one gateway in a store."""

    __slots__ = ("_key", "_known", "_store")

    def __init__(self, store: TokenStore, key: TokenKey) -> None:
        self._store = store
        self._key = key
        self._known: dict[str, Secret] = {}
        """The tokens that this program knows to be kept, by role."""

    @property
    def may_block(self) -> bool:
        """Whether a thread must do it; memory is asked at once, whatever a test's clock shows."""
        return type(self._store) is not MemoryStore

    def load(self) -> DeviceToken | None:
        """Return the token to start with. Raises what the store raises."""
        return self._loaded(self._key)

    def keep(self, event: Keepable) -> DeviceToken | None:
        """Save new tokens, or forget a refused one; done when it returns.

        Where another program of the device has kept another token than the refused one, that is
        returned, for ``token_forgotten``.
        """
        if isinstance(event, events.DeviceTokenRejected):
            key = self._key_for(event.role)
            self._store.forget(key, event.token)
            kept = self._loaded(key)
            return None if kept is None or kept.token == event.token else kept
        for role, token in event.tokens:
            self._store.save(self._key_for(role), token, self._known.get(role))
            self._known[role] = token.token
        return None

    def _loaded(self, key: TokenKey) -> DeviceToken | None:
        kept = self._store.load(key)
        if kept is not None:
            self._known[key.role] = kept.token
        return kept

    def _key_for(self, role: str) -> TokenKey:
        return attrs.evolve(self._key, role=role)


Keepers = Mapping[str | None, TokenKeeper]
"""The keepers of a pool by the names of its gateways; of a gateway alone by None."""


def task_for(keepers: Keepers, event: events.PoolEvent) -> tuple[TokenKeeper, Keepable] | None:
    """Return what is to be kept about an event, and by whom; None: nothing."""
    gateway, inner = None, event
    if isinstance(inner, events.FromGateway):
        gateway, inner = inner.gateway, inner.event
    keeper = keepers.get(gateway)
    return (keeper, inner) if keeper is not None and isinstance(inner, Keepable) else None


def pool_keeper_for(gateway: PoolGateway) -> TokenKeeper | None:
    """Return what keeps the tokens of a pool's gateway that was ``prepared``; None: no device."""
    device, settings = gateway.device, gateway.settings
    if device is None:
        return None
    assert settings is not None
    return TokenKeeper(device.tokens, token_key(settings, gateway.endpoint, device.signer))


def pool_keepers_for(
    gateways: Sequence[PoolGateway], machine: Pool
) -> list[tuple[str, TokenKeeper]]:
    """Return these keepers of a new pool that has just these gateways, each with its name."""
    names = (health.name for health in machine.health())
    found = zip(names, map(pool_keeper_for, gateways), strict=True)
    return [(name, keeper) for name, keeper in found if keeper is not None]


def keeper_for(device: Device | None, machine: Connector) -> TokenKeeper | None:
    """Return what keeps a device's tokens at a connector's gateway; None without a device."""
    key = machine.token_key
    return None if device is None or key is None else TokenKeeper(device.tokens, key)


def complaint(event: Keepable, error: Exception) -> str:
    """Say in one line what a store could not do."""
    if isinstance(event, events.DeviceTokenRejected):
        done, tokens = "forgotten", [event.token]
    else:
        done, tokens = "kept", [token.token for _, token in event.tokens]
    text = f"a device token could not be {done}: {type(error).__name__}: {error}"
    return printable(redact(text, tokens))
