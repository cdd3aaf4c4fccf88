"""A device: who signs for it, and where the tokens are kept that gateways gave it.

Rules kept here:

* A token belongs to one gateway, device, client id and role, and is kept with the scopes that it
  was granted: used without them it would mean none (wire.md 4).
* A store does its I/O when an adapter calls it, in a thread; the core never calls one.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from butter_proto.device_auth import Signer
from butter_proto.secret import Secret


@attrs.frozen
class TokenKey:
    """Whom a device token belongs to."""

    origin: str
    """The gateway's, as `Endpoint.origin` says it."""
    device_id: str
    client_id: str
    role: str


@attrs.frozen
class DeviceToken:
    """A token that a gateway gave a device, and what it was granted."""

    token: Secret
    scopes: tuple[str, ...] = attrs.field(repr=lambda scopes: f"<{len(scopes)} names>")


class TokenStore(Protocol):
    """Where device tokens are kept. Calls may come from any thread, one at a time.

    Each may raise `StoreError`, and may take its time: keepalive goes on meanwhile.
    """

    def load(self, key: TokenKey) -> DeviceToken | None:
        """Return the token kept under a key, or None."""

    def save(self, key: TokenKey, token: DeviceToken) -> None:
        """Keep a token in place of the one before; it is durable when this returns."""

    def forget(self, key: TokenKey, token: Secret) -> None:
        """Forget a token that was refused, unless another one is kept there by now."""


class MemoryStore:
    """Keeps tokens for as long as the program runs."""

    def __init__(self) -> None:
        self._tokens: dict[TokenKey, DeviceToken] = {}

    def load(self, key: TokenKey) -> DeviceToken | None:
        """Return the token kept under a key, or None."""
        return self._tokens.get(key)

    def save(self, key: TokenKey, token: DeviceToken) -> None:
        """Keep a token in place of the one before."""
        self._tokens[key] = token

    def forget(self, key: TokenKey, token: Secret) -> None:
        """Forget a token, unless another one is kept there by now."""
        kept = self._tokens.get(key)
        if kept is not None and kept.token == token:
            del self._tokens[key]


@attrs.frozen
class Device:
    """What ``connect(device=...)`` takes: an identity that signs, and its tokens."""

    signer: Signer = attrs.field(repr=False)
    tokens: TokenStore = attrs.field(factory=MemoryStore, repr=False)
