"""Which credentials an attempt uses: the one place that decides it.

Rules kept here:

* One `Auth` says what the frame carries and what the device signs, so the two never differ
  (lesson 6).
* A shared token or password goes first, then the stored device token, then the bootstrap token,
  each until it was refused: so there is one more attempt for each at most, never a loop.
* A stored device token is offered after a refused shared token only to an endpoint that cannot be
  somebody else: loopback, or wss with a pin.
* A refused device token is forgotten; the identity never is (lesson 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

import attrs

from butter_proto.device import DeviceToken
from butter_proto.secret import Secret, to_secret

TOKEN_MISMATCH: Final = "AUTH_TOKEN_MISMATCH"  # noqa: S105 - a code
DEVICE_TOKEN_MISMATCH: Final = "AUTH_DEVICE_TOKEN_MISMATCH"  # noqa: S105 - a code
BOOTSTRAP_TOKEN_INVALID: Final = "AUTH_BOOTSTRAP_TOKEN_INVALID"  # noqa: S105 - a code
_REMEMBERED: Final = 64
"""Secrets that were in use and are still masked in what is told."""


@attrs.frozen
class Credentials:
    """What a program has to connect with; with none of them a stored device token is used."""

    token: Secret | None = attrs.field(default=None, converter=to_secret)
    """The gateway's shared token."""
    password: Secret | None = attrs.field(default=None, converter=to_secret)
    """The gateway's shared password, for its password mode (wire.md 5)."""
    bootstrap_token: Secret | None = attrs.field(default=None, converter=to_secret)
    """A setup code's token: pairs a device once, and is then used up."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Those that are set."""
        every = (self.token, self.password, self.bootstrap_token)
        return tuple(secret for secret in every if secret is not None)


class Source(Enum):
    """Where an attempt's credentials come from."""

    SHARED = "the shared token or password"
    DEVICE = "the stored device token"
    BOOTSTRAP = "the bootstrap token"
    NONE = "nothing was given"


_REFUSALS: Final[Mapping[str, Source]] = {
    TOKEN_MISMATCH: Source.SHARED,
    DEVICE_TOKEN_MISMATCH: Source.DEVICE,
    BOOTSTRAP_TOKEN_INVALID: Source.BOOTSTRAP,
}
"""The answers after which another source is worth an attempt."""


@attrs.frozen
class Auth:
    """What one attempt proves itself with."""

    source: Source
    fields: Mapping[str, Secret]
    """The ``auth`` object of the connect request; each value shows as ``***``."""
    scopes: tuple[str, ...]
    """The scopes to ask for."""


class Keyring:
    """The credentials of one connector, the device token it has, and what was refused.

    ``device`` says whether a device signs: without one only shared credentials are of use.
    ``trusted`` says whether the endpoint is loopback, or wss with a pin.
    """

    __slots__ = ("_credentials", "_device", "_known", "_refused", "_stored", "_trusted")

    def __init__(
        self,
        credentials: Credentials,
        stored: DeviceToken | None = None,
        *,
        device: bool = False,
        trusted: bool = False,
    ) -> None:
        self._device = device
        self._trusted = trusted
        self._refused: set[Source] = set()
        self._known: dict[Secret, None] = {}
        self._credentials = credentials
        self._stored = stored
        self._know(*credentials.secrets, *self._stored_secrets())

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What was in use so far, the latest last; the oldest are forgotten."""
        return tuple(self._known)

    @property
    def stored(self) -> DeviceToken | None:
        """The device token that a gateway gave."""
        return self._stored

    def choose(self, scopes: tuple[str, ...]) -> Auth:
        """Return what the next attempt uses; ``scopes`` are the ones the application wants."""
        candidates = [*self._candidates(scopes)] or [Auth(Source.NONE, {}, scopes)]
        return next((auth for auth in candidates if self._is_open(auth)), candidates[0])

    def refused(self, auth: Auth, code: str | None) -> bool:
        """Take note of a refusal; tell whether another credential is worth one attempt."""
        if code == DEVICE_TOKEN_MISMATCH and auth.source is Source.DEVICE:
            if self._stored_secrets() == (auth.fields["deviceToken"],):
                self._stored = None
        elif _REFUSALS.get(code or "") is auth.source and auth.fields == self._fields(auth.source):
            self._refused.add(auth.source)
        following = self.choose(auth.scopes)
        return following.fields != auth.fields and self._is_open(following)

    def issued(self, token: DeviceToken) -> None:
        """Have a token that the gateway gave; it replaces the one before."""
        self._stored = token
        self._know(token.token)

    def replace(self, credentials: Credentials) -> None:
        """Use other credentials from now on."""
        self._credentials = credentials
        self._know(*credentials.secrets)
        self.forgive()

    def forgive(self) -> None:
        """Forget what was refused: the application says that something has changed."""
        self._refused.clear()

    def _candidates(self, scopes: tuple[str, ...]) -> Iterator[Auth]:
        shared = self._fields(Source.SHARED)
        if shared:
            yield Auth(Source.SHARED, shared, scopes)
        if self._stored is not None and self._device and (self._trusted or not shared):
            fields = self._fields(Source.DEVICE)
            yield Auth(Source.DEVICE, fields, _covered(scopes, self._stored.scopes))
        if self._device and not shared and (bootstrap := self._fields(Source.BOOTSTRAP)):
            yield Auth(Source.BOOTSTRAP, bootstrap, scopes)

    def _fields(self, source: Source) -> dict[str, Secret]:
        given = self._credentials
        named: dict[str, Secret | None] = {}
        if source is Source.SHARED:
            named = {"token": given.token, "password": given.password}
        elif source is Source.BOOTSTRAP:
            named = {"bootstrapToken": given.bootstrap_token}
        elif source is Source.DEVICE:
            named = {"deviceToken": self._stored.token if self._stored is not None else None}
        return {name: secret for name, secret in named.items() if secret is not None}

    def _is_open(self, auth: Auth) -> bool:
        return auth.source is not Source.NONE and auth.source not in self._refused

    def _stored_secrets(self) -> tuple[Secret, ...]:
        return () if self._stored is None else (self._stored.token,)

    def _know(self, *secrets: Secret) -> None:
        for secret in secrets:
            self._known.pop(secret, None)
            self._known[secret] = None
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


def _covered(wanted: tuple[str, ...], granted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the wanted scopes that a token covers; where it covers none, all that it has.

    More would be refused, and none would mean none (wire.md 4).
    """
    return tuple(scope for scope in wanted if scope in granted) or granted
