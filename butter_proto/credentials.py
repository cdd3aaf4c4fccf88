"""Which credentials an attempt uses: the one place that decides it.

Rules kept here:

* One `Auth` says what the frame carries and what the device signs, so the two never differ
  (lesson 6).
* A shared token or password goes first, then the stored device token, then the bootstrap token,
  each until it was refused: so there is one more attempt for each at most, never a loop.
* A stored device token is offered after a refused shared token only to an endpoint that cannot be
  somebody else: loopback, or wss with a pin.
* A refused device token is forgotten; the identity never is (lesson 8).
* A token in use is not yet a token that is stored: only what a store has confirmed is durable.
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
_MOST_DEAD: Final = 3
"""Device tokens refused in a row, without a hello, after which no further one is tried."""


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
    generation: int = 0
    """Of the credentials that it was chosen from."""


class Keyring:
    """The credentials of one connector, the device tokens it was given, and what was refused.

    ``role`` is the connector's own; None without a device: then only shared credentials are of
    use. ``trusted`` says whether the endpoint is loopback, or wss with a pin.
    """

    __slots__ = (
        "_credentials",
        "_dead",
        "_durable",
        "_generation",
        "_in_use",
        "_known",
        "_proved",
        "_refused",
        "_role",
        "_trusted",
    )

    def __init__(
        self, credentials: Credentials, *, role: str | None = None, trusted: bool = False
    ) -> None:
        self._credentials = credentials
        self._role = role
        self._trusted = trusted
        self._generation = 0
        self._in_use: DeviceToken | None = None
        self._durable: dict[str, DeviceToken] = {}
        self._refused: set[Source] = set()
        self._dead: list[Secret] = []
        self._proved = False
        self._known: dict[Secret, None] = {}
        self._know(*credentials.secrets)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What is in use, and what was; of the latter the oldest are forgotten."""
        durable = [token.token for token in self._durable.values()]
        in_use = [] if self._in_use is None else [self._in_use.token]
        return tuple(dict.fromkeys((*self._known, *self._credentials.secrets, *in_use, *durable)))

    @property
    def durable(self) -> Mapping[str, DeviceToken]:
        """The device tokens that are known to be stored, by role."""
        return dict(self._durable)

    # --- attempts ---------------------------------------------------------------------------

    @property
    def has_untried(self) -> bool:
        """Whether there is a credential that was not refused."""
        return self._is_untried(self.choose(()))

    def choose(self, scopes: tuple[str, ...]) -> Auth:
        """Return what the next attempt uses; ``scopes`` are the ones the application wants."""
        candidates = [*self._candidates(scopes)]
        return next((auth for auth in candidates if self._is_untried(auth)), candidates[0])

    def accepted(self, auth: Auth) -> None:
        """Take note of a hello."""
        self._proved = auth.source is Source.DEVICE
        self._dead.clear()

    def refused(self, auth: Auth, code: str | None) -> bool:
        """Take note of a refusal; tell whether another credential is worth one attempt."""
        is_its_own = _REFUSALS.get(code or "") is auth.source
        if is_its_own and auth.source is Source.DEVICE:
            self._bury(auth.fields["deviceToken"])
        if auth.generation != self._generation:  # others were given meanwhile
            return self.has_untried
        if not is_its_own:
            return False
        if auth.source is not Source.DEVICE:
            self._refused.add(auth.source)
        following = self.choose(auth.scopes)
        return self._is_untried(following) and following.fields != auth.fields

    def replace(self, credentials: Credentials) -> None:
        """Use other credentials from now on."""
        self._credentials = credentials
        self._generation += 1
        self._know(*credentials.secrets)
        self.forgive()

    def forgive(self) -> None:
        """Forget what was refused: the application says that something has changed."""
        self._refused.clear()
        self._dead.clear()

    # --- device tokens ----------------------------------------------------------------------

    def issued(self, tokens: Mapping[str, DeviceToken]) -> None:
        """Have the tokens that the gateway gave, by role; its own replaces the one in use."""
        self._know(*(token.token for token in tokens.values()))
        self._in_use = tokens.get(self._role or "", self._in_use)

    def stored(self, tokens: Mapping[str, DeviceToken]) -> None:
        """Take note that these are durable."""
        self._durable.update(tokens)

    def found(self, token: DeviceToken) -> bool:
        """Use a token that was kept in place of a refused one; tell whether it is worth it.

        It is not where it was refused itself, where another one is in use by now, and after
        several in a row: a store that keeps giving dead ones must not make a loop.
        """
        if self._role is None or self._in_use is not None or len(self._dead) >= _MOST_DEAD:
            return False
        if token.token in self._dead:
            return False
        self.issued({self._role: token})
        self.stored({self._role: token})
        return True

    def _bury(self, token: Secret) -> None:
        """Forget a refused token. One that had worked says nothing about the shared secret."""
        self._dead.append(token)
        if self._in_use is not None and self._in_use.token == token:
            self._in_use = None
        self._durable = {role: kept for role, kept in self._durable.items() if kept.token != token}
        if self._proved:
            self._refused.discard(Source.SHARED)
            self._proved = False

    # --- inside -----------------------------------------------------------------------------

    def _candidates(self, scopes: tuple[str, ...]) -> Iterator[Auth]:
        given, in_use, is_device = self._credentials, self._in_use, self._role is not None
        shared = _set({"token": given.token, "password": given.password})
        bootstrap = _set({"bootstrapToken": given.bootstrap_token})
        if shared:
            yield Auth(Source.SHARED, shared, scopes, self._generation)
        if in_use is not None and is_device and (self._trusted or not shared):
            fields, covered = {"deviceToken": in_use.token}, _covered(scopes, in_use.scopes)
            yield Auth(Source.DEVICE, fields, covered, self._generation)
        if bootstrap and is_device and not shared:
            yield Auth(Source.BOOTSTRAP, bootstrap, scopes, self._generation)
        yield Auth(Source.NONE, {}, scopes, self._generation)

    def _is_untried(self, auth: Auth) -> bool:
        return auth.source is not Source.NONE and auth.source not in self._refused

    def _know(self, *secrets: Secret) -> None:
        for secret in secrets:
            self._known.pop(secret, None)
            self._known[secret] = None
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


def _set(named: Mapping[str, Secret | None]) -> dict[str, Secret]:
    return {name: secret for name, secret in named.items() if secret is not None}


def _covered(wanted: tuple[str, ...], granted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the wanted scopes that a token covers: more would be refused (wire.md 4).

    Where it covers none of them they are asked for all the same, and the gateway says what it
    thinks of that; none would mean none, and never are more asked for than were wanted.
    """
    return tuple(scope for scope in wanted if scope in granted) or wanted
