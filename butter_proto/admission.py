"""Admission: how a gateway lets one connection in. Challenge, connect request, hello, new tokens.

Rules kept here:

* It holds no state: it is told what arrived, and returns what to send, what was given, or the
  ending.
* The device signs what stands in the connect request, nothing else (lesson 6).
* A token of another role is kept only where nobody on the way could read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import attrs

from butter_proto.credentials import Auth
from butter_proto.device import DeviceToken, kept_of
from butter_proto.device_auth import SignedPayload, Signer, SigningFailed, prove
from butter_proto.errors import Ending, EndKind
from butter_proto.events import Hello
from butter_proto.frames import Response
from butter_proto.handshake import (
    BEFORE_HELLO_MAX,
    connect_params,
    fault_of_challenge,
    read_challenge,
    read_hello,
    tokens_of_hello,
)
from butter_proto.identity import Identity
from butter_proto.settings import Dialect

_SHORT: Final = 200
"""Characters of a value, and keys, that are kept of a huge refusal's details."""


@attrs.frozen
class Admission:
    """What one connection asks to be let in with."""

    dialect: Dialect
    identity: Identity
    auth: Auth
    signer: Signer | None
    signed: SignedPayload
    durable: Mapping[str, DeviceToken]
    """The device tokens that are known to be stored, by role."""
    is_confidential: bool
    """Whether nobody on the way can read along."""

    def answer(self, challenge: object) -> dict[str, Any] | Ending:
        """Return the params of the connect request for a challenge's payload, or the ending.

        The params hold secrets: never show them.
        """
        asked = read_challenge(challenge)
        fault = fault_of_challenge(asked, self.dialect, signed=self.signer is not None)
        if fault is not None:
            return Ending(EndKind.CHALLENGE_INVALID, fault)
        params = connect_params(self.dialect, self.identity, self.auth)
        if self.signer is not None:
            assert asked.nonce is not None
            assert asked.ts is not None
            try:
                params["device"] = prove(self.signer, self.signed, params, asked.nonce, asked.ts)
            except SigningFailed as error:
                return Ending(EndKind.SIGNER_FAILED, str(error))
        return params

    def hello_of(self, response: Response, size: int) -> Hello | Ending:
        """Return the hello that answers the connect request, or the ending."""
        error = response.error
        if error is not None:
            if size > BEFORE_HELLO_MAX:
                error = attrs.evolve(error, details=_abridged(error.details))
            return Ending(EndKind.CONNECT_REFUSED, error=error, retry_after=error.retry_after)
        hello = read_hello(response.payload, self.dialect)
        return Ending(EndKind.HELLO_INVALID) if hello is None else hello

    def new_tokens(self, hello: Hello) -> dict[str, DeviceToken]:
        """Return the device tokens of a hello, by role, that are not known to be stored."""
        if self.signer is None:
            return {}
        new = {}
        tokens = tokens_of_hello(hello.payload, self.identity.role, self.auth.scopes)
        for role, token in tokens.items():
            known = self.durable.get(role)
            kept = kept_of(known, token, None if known is None else known.token)
            if kept != known and (role == self.identity.role or self.is_confidential):
                new[role] = kept
        return new


def _abridged(details: object) -> dict[str, Any] | None:
    """Keep what is short of the details of a huge refusal: endings are kept for long."""
    if not isinstance(details, dict):
        return None
    short = (
        (key, value)
        for key, value in details.items()
        if value is None or (isinstance(value, str | int | float) and len(str(value)) <= _SHORT)
    )
    return dict(islice(short, _SHORT))
