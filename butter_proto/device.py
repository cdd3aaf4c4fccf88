"""A device: who signs for it, and where the tokens are kept that gateways gave it.

Rules kept here:

* A token belongs to one gateway, device, client id and role, and is kept with the scopes that it
  was granted: used without them it would mean none (wire.md 4).
* A store does its I/O when an adapter calls it, in a thread; the core never calls one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs

from butter_proto.device_auth import Signer
from butter_proto.errors import InvalidSettings
from butter_proto.secret import Secret, is_text

LONGEST_TOKEN: Final = 4096
"""Characters of a device token; the gateway's have fewer than 100."""
MOST_SCOPES: Final = 64
"""Scopes that are kept of one token."""


@attrs.frozen
class TokenKey:
    """Whom a device token belongs to."""

    origin: str
    """The gateway's, as `Endpoint.origin` says it."""
    device_id: str
    client_id: str
    role: str


def _is_short(_: object, __: object, token: Any) -> None:
    text = token.reveal() if isinstance(token, Secret) else None
    if not is_text(text) or len(text or "") > LONGEST_TOKEN:
        raise InvalidSettings(f"a device token is a Secret of at most {LONGEST_TOKEN} characters")


def _to_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    names = tuple(scopes)
    if isinstance(scopes, str) or not all(map(is_text, names)):
        raise InvalidSettings("scopes are a list of non-empty names")
    return names


@attrs.frozen
class DeviceToken:
    """A token that a gateway gave a device, and what it was granted."""

    token: Secret = attrs.field(validator=_is_short)
    scopes: tuple[str, ...] = attrs.field(
        converter=_to_scopes, repr=lambda scopes: f"<{len(scopes)} names>"
    )
    issued_at: int | None = None
    """When the gateway issued it, in ms since the epoch by its clock, if it said so."""


def kept_of(
    before: DeviceToken | None, given: DeviceToken, replaces: Secret | None = None
) -> DeviceToken:
    """Return what a store keeps when it is given a token in place of the one it ``replaces``.

    Where another program of the device has kept another one meanwhile, it is the one issued later,
    if both times are known: they may save in another order than their gateway issued. The gateway's
    clock decides nothing else: it may have gone back. Of the same token all scopes are kept: a
    connection that had fewer of them does not narrow what the token may do.
    """
    if before is None or before.token == replaces != given.token:
        return given
    if before.token == given.token:
        both = (*before.scopes, *given.scopes)
        return attrs.evolve(given, scopes=tuple(dict.fromkeys(both))[:MOST_SCOPES])
    times = before.issued_at, given.issued_at
    is_older = None not in times and (times[0] or 0) > (times[1] or 0)
    return before if is_older else given


class TokenStore(Protocol):
    """Where device tokens are kept. Calls may come from several threads at once.

    Each may raise `StoreError`, and may take its time: keepalive goes on meanwhile.
    """

    def load(self, key: TokenKey) -> DeviceToken | None:
        """Return the token kept under a key, or None."""

    def save(self, key: TokenKey, token: DeviceToken, replaces: Secret | None = None) -> None:
        """Keep what `kept_of` says; it is durable when this returns.

        ``replaces`` is the token that this program knew to be kept.
        """

    def forget(self, key: TokenKey, token: Secret) -> None:
        """Forget a token that was refused, unless another one is kept there by now."""


class MemoryStore:
    """Keeps tokens for as long as the program runs."""

    def __init__(self) -> None:
        self._tokens: dict[TokenKey, DeviceToken] = {}

    def load(self, key: TokenKey) -> DeviceToken | None:
        """Return the token kept under a key, or None."""
        return self._tokens.get(key)

    def save(self, key: TokenKey, token: DeviceToken, replaces: Secret | None = None) -> None:
        """Keep what `kept_of` says."""
        self._tokens[key] = kept_of(self._tokens.get(key), token, replaces)

    def forget(self, key: TokenKey, token: Secret) -> None:
        """Forget a token, unless another one is kept there by now."""
        kept = self._tokens.get(key)
        if kept is not None and kept.token == token:
            self._tokens.pop(key, None)


@attrs.frozen
class Device:
    """What ``connect(device=...)`` takes: an identity that signs, and its tokens."""

    signer: Signer = attrs.field(repr=False)
    tokens: TokenStore = attrs.field(factory=MemoryStore, repr=False)
