"""The paired devices of the stand-in, their tokens, and the requests that wait for the owner.

Rules kept here:

* A token belongs to one device and role. It stays the same until its scopes grow, or it is rotated;
  then the old one is dead at once (wire.md 3 and 4).
* A request keeps its id until it is resolved, however often the device asks (wire.md 4). Approving
  one and pairing silently are the same act: what was granted leaves the list of what is pending.
* Nothing is random: tokens and request ids are hashes of the gateway's seed and a counter.
* ``paired``, ``pending`` and ``spent`` are replaced, never changed, so that any thread may read
  them.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from enum import Enum

import attrs


class PairingReason(Enum):
    """What stands between a device and what it asks for: ``details.reason`` of the refusal."""

    NOT_PAIRED = "not-paired"
    """The device is unknown."""
    METADATA_UPGRADE = "metadata-upgrade"
    """Its platform or device family is not the approved one."""
    ROLE_UPGRADE = "role-upgrade"
    """The role was not approved, or was revoked."""
    SCOPE_UPGRADE = "scope-upgrade"
    """It asks for more than was approved."""


class Withdrawal(Enum):
    """What the owner takes from a device."""

    ROTATE = "its token, for another one"
    REVOKE = "a role"
    REMOVE = "everything"


@attrs.frozen
class IssuedToken:
    """A token that a device was given. ``issued_at_ms`` is the gateway's wall clock."""

    token: str = attrs.field(repr=False)
    role: str
    scopes: tuple[str, ...]
    issued_at_ms: int


@attrs.frozen
class PairedDevice:
    """A device that was approved. ``tokens`` has the live token of each approved role."""

    device_id: str
    platform: str
    device_family: str
    tokens: Mapping[str, IssuedToken] = attrs.field(factory=dict)

    @property
    def approved_roles(self) -> tuple[str, ...]:
        """The roles, in the order of their approval."""
        return tuple(self.tokens)

    @property
    def approved_scopes(self) -> tuple[str, ...]:
        """The scopes of all roles together."""
        return tuple(dict.fromkeys(s for token in self.tokens.values() for s in token.scopes))


@attrs.frozen
class Asked:
    """What a device asks for."""

    device_id: str
    platform: str
    device_family: str
    role: str
    scopes: tuple[str, ...]


@attrs.frozen
class PairingRequest(Asked):
    """What waits for the owner's word."""

    request_id: str
    reason: PairingReason


class Devices:
    """The gateway's device store; it outlives a restart."""

    def __init__(self, seed: int) -> None:
        self.paired: Mapping[str, PairedDevice] = {}
        """By device id."""
        self.pending: Mapping[str, PairingRequest] = {}
        """By request id."""
        self.spent: frozenset[str] = frozenset()
        """The bootstrap tokens that were used."""
        self._seed = seed
        self._issued = 0

    def token(self, device_id: str, role: str) -> IssuedToken | None:
        """Return the live token of a device and role."""
        paired = self.paired.get(device_id)
        return None if paired is None else paired.tokens.get(role)

    def lacking(self, asked: Asked) -> PairingReason | None:
        """Return why the owner must be asked first, or None where all of it is approved."""
        paired = self.paired.get(asked.device_id)
        if paired is None:
            return PairingReason.NOT_PAIRED
        if (paired.platform, paired.device_family) != (asked.platform, asked.device_family):
            return PairingReason.METADATA_UPGRADE
        token = paired.tokens.get(asked.role)
        if token is None:
            return PairingReason.ROLE_UPGRADE
        return None if set(asked.scopes) <= set(token.scopes) else PairingReason.SCOPE_UPGRADE

    def request(self, asked: Asked, reason: PairingReason) -> PairingRequest:
        """Return the request that waits for this already, with all it asked for, or a new one."""
        wanted = (asked.device_id, asked.role, reason)
        for waiting in self.pending.values():
            if (waiting.device_id, waiting.role, waiting.reason) == wanted:
                request_id, scopes = waiting.request_id, _united(waiting.scopes, asked.scopes)
                break
        else:
            request_id, scopes = str(uuid.UUID(bytes=self._hash()[:16], version=4)), asked.scopes
        request = PairingRequest(
            asked.device_id,
            asked.platform,
            asked.device_family,
            asked.role,
            scopes,
            request_id,
            reason,
        )
        self.pending = {**self.pending, request_id: request}
        return request

    def grant(self, asked: Asked, now_ms: int) -> IssuedToken:
        """Approve what a device asks for, and return its token; what had it before stays."""
        paired = self.paired.get(asked.device_id)
        tokens = {} if paired is None else {**paired.tokens}
        token = tokens.get(asked.role)
        scopes = asked.scopes if token is None else _united(token.scopes, asked.scopes)
        if token is None or token.scopes != scopes:
            token = self._issue(asked.role, scopes, now_ms)
        tokens[asked.role] = token
        device = PairedDevice(asked.device_id, asked.platform, asked.device_family, tokens)
        self.paired = {**self.paired, asked.device_id: device}
        self.pending = {
            request_id: waiting
            for request_id, waiting in self.pending.items()
            if self.lacking(waiting) is not None
        }
        return token

    def reject(self, request_id: str) -> None:
        """Forget a request: the next connect opens a new one."""
        self.pending = {key: value for key, value in self.pending.items() if key != request_id}

    def withdraw(self, device_id: str, what: Withdrawal, role: str, now_ms: int) -> None:
        """Take something from a device; nothing happens where it is gone already."""
        device, token = self.paired.get(device_id), self.token(device_id, role)
        if what is Withdrawal.REMOVE:
            self._remove(device_id)
        elif device is not None and token is not None:
            tokens = {**device.tokens}
            del tokens[role]
            if what is Withdrawal.ROTATE:
                tokens[role] = self._issue(role, token.scopes, now_ms)
            self.paired = {**self.paired, device_id: attrs.evolve(device, tokens=tokens)}

    def _remove(self, device_id: str) -> None:
        self.paired = {key: value for key, value in self.paired.items() if key != device_id}
        self.pending = {
            key: value for key, value in self.pending.items() if value.device_id != device_id
        }

    def _issue(self, role: str, scopes: tuple[str, ...], now_ms: int) -> IssuedToken:
        token = base64.urlsafe_b64encode(self._hash()).rstrip(b"=").decode()
        return IssuedToken(token, role, scopes, now_ms)

    def _hash(self) -> bytes:
        self._issued += 1
        return hashlib.sha256(f"{self._seed}/device/{self._issued}".encode()).digest()


def _united(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
