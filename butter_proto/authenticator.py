"""Authenticator: who a connector is, and what each of its attempts proves that with.

Rules kept here:

* Credentials that do not fit into a connect request never replace others.
* A device token is in use as soon as a hello has brought it, and durable only once a store has
  said so; answers that never come are not waited for without end (G9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from butter_proto.attempt import Attempt
from butter_proto.credentials import Auth, Credentials, Keyring, Source
from butter_proto.device import DeviceToken, TokenKey
from butter_proto.device_auth import SignedPayload, Signer, device_id, public_key_of
from butter_proto.endpoint import Endpoint, Reach
from butter_proto.events import Hello
from butter_proto.handshake import check_connect_size
from butter_proto.settings import Settings

_UNANSWERED: Final = 8
"""Transports whose device tokens may still be told to be stored."""


def token_key(settings: Settings, endpoint: Endpoint, signer: Signer) -> TokenKey:
    """Return under which the token of a device at a gateway is kept."""
    identity = settings.identity_for(device=True)
    device = device_id(public_key_of(signer))
    return TokenKey(endpoint.origin, device, identity.id, identity.role)


class Authenticator:
    """Holds a connector's identity, its keyring, and the device tokens that are being stored.

    Raises `InvalidSettings` where the credentials do not fit into a connect request, or where the
    ``signer`` has no key of the right size.
    """

    __slots__ = ("_settings", "_to_be_stored", "identity", "keyring", "token_key")

    def __init__(self, settings: Settings, endpoint: Endpoint, signer: Signer | None) -> None:
        self._settings = settings
        self.identity = settings.identity_for(device=signer is not None)
        self.keyring = Keyring(
            settings.credentials,
            role=None if signer is None else self.identity.role,
            trusted=endpoint.reach is Reach.LOOPBACK or bool(settings.pins),
        )
        self.token_key = None if signer is None else token_key(settings, endpoint, signer)
        """Under which its device token is kept; None without a device."""
        self.check(settings.credentials)
        self._to_be_stored: dict[int, Mapping[str, DeviceToken]] = {}

    def attempt(self, transport_id: int, signed: SignedPayload, previous: Hello | None) -> Attempt:
        """Return what the next connection has of its own."""
        return Attempt(
            transport_id,
            self.keyring.choose(self.identity.scopes),
            signed,
            self.keyring.durable,
            (*self._settings.secrets, *self.keyring.secrets),
            previous,
        )

    def replace(self, credentials: Credentials) -> None:
        """Use other credentials from now on.

        Raises `InvalidSettings` where they do not fit; then nothing was changed.
        """
        self.check(credentials)
        self.keyring.replace(credentials)

    def begin_with(self, device_token: DeviceToken) -> None:
        """Have the device token that was kept from another time."""
        kept = {self.identity.role: device_token}
        self.keyring.issued(kept)
        self.keyring.stored(kept)

    def issued(self, transport_id: int, tokens: Mapping[str, DeviceToken]) -> None:
        """Use the device tokens that came with a hello, and remember what is to be stored."""
        self.keyring.issued(tokens)
        self._to_be_stored[transport_id] = tokens
        while len(self._to_be_stored) > _UNANSWERED:
            del self._to_be_stored[next(iter(self._to_be_stored))]

    def stored(self, transport_id: int, *, ok: bool) -> None:
        """Take note that a transport's tokens are durable, or cannot be."""
        tokens = self._to_be_stored.pop(transport_id, {})
        if ok:
            self.keyring.stored(tokens)

    def check(self, credentials: Credentials) -> None:
        """Raise `InvalidSettings` where all of them together would not fit."""
        named = {"token": credentials.token, "password": credentials.password}
        named["bootstrapToken"] = credentials.bootstrap_token
        fields = {name: secret for name, secret in named.items() if secret is not None}
        auth = Auth(Source.SHARED, fields, self.identity.scopes)
        is_device = self.token_key is not None
        check_connect_size(self._settings.dialect, self.identity, auth, device=is_device)
