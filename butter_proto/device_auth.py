"""A device's proof: its id, the text that it signs, and the ``device`` object (wire.md 4).

Rules kept here:

* What is signed is read from the connect request's own params, so that the token, the scopes and
  the names that are sent are the ones that are signed (lesson 6).
* The time signed is the challenge's, never this machine's (lesson 5), and the nonce is the
  socket's own: a signature is of no use on another one.
* Only the `Signer` touches the private key. What it raises is `SigningFailed`, without its words.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Protocol

from butter_proto.errors import InvalidSettings

PUBLIC_KEY_BYTES: Final = 32
"""A raw Ed25519 public key (RFC 8032, 5.1.5)."""
SIGNATURE_BYTES: Final = 64
"""An Ed25519 signature (RFC 8032, 5.1.6)."""
_SEPARATOR: Final = "|"
_LONGEST_NONCE: Final = 256
_SIGNED_TOKENS: Final = ("token", "deviceToken", "bootstrapToken")
"""The first of these in ``auth`` is signed; a password never is (wire.md 4)."""


_SPACES: Final = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What the gateway's ``trim`` takes off (ECMA-262, 22.1.3.32)."""


class SigningFailed(Exception):
    """The signer raised, or returned no signature."""


class Signer(Protocol):
    """The only thing that touches a device's private key."""

    @property
    def public_key(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes; always the same."""

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of a message, 64 bytes.

        It is called by the machine while it handles an input, so it must not wait long. It may
        raise anything: the connection then ends with `EndKind.SIGNER_FAILED`.
        """


class SignedPayload(Enum):
    """Which text a device signs."""

    V3 = "v3"
    """With platform and device family."""
    V2 = "v2"
    """Without them, for older gateways. Only ever for the one attempt that asks for it: a fallback
    that sticks would be a downgrade (lesson 9)."""


def public_key_of(signer: Signer) -> bytes:
    """Return a signer's public key. Raises `InvalidSettings` where it is none."""
    key = signer.public_key
    if not isinstance(key, bytes) or len(key) != PUBLIC_KEY_BYTES:
        raise InvalidSettings(f"a signer's public_key must be {PUBLIC_KEY_BYTES} bytes")
    return key


def device_id(public_key: bytes) -> str:
    """Return the id of a device: the SHA-256 of its raw public key, 64 lower-case hex digits."""
    return hashlib.sha256(public_key).hexdigest()


def base64url(data: bytes) -> str:
    """Write bytes as the ``device`` object has them: base64url without padding (wire.md 4)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def can_be_signed(nonce: str) -> bool:
    """Tell whether a challenge's nonce may become part of a signed text.

    One with a separator could pose as the fields that follow it.
    """
    return len(nonce) <= _LONGEST_NONCE and nonce.isprintable() and _SEPARATOR not in nonce


def signed_text(
    version: SignedPayload, params: Mapping[str, Any], device: str, nonce: str, ts: int
) -> str:
    """Return what a device signs for a connect request with these params.

    ``device`` is its id; ``nonce`` and ``ts`` (ms) are the challenge's.
    """
    client, auth = params["client"], params["auth"]
    token = next((auth[name] for name in _SIGNED_TOKENS if name in auth), "")
    fields = [
        version.value,
        device,
        client["id"],
        client["mode"],
        params["role"],
        ",".join(params["scopes"]),
        str(ts),
        token,
        nonce,
    ]
    if version is SignedPayload.V3:
        fields += [_normalized(client.get("platform")), _normalized(client.get("deviceFamily"))]
    return _SEPARATOR.join(fields)


def prove(
    signer: Signer, version: SignedPayload, params: Mapping[str, Any], nonce: str, ts: int
) -> dict[str, str | int]:
    """Return the ``device`` object for a connect request. Raises `SigningFailed`."""
    try:
        key = public_key_of(signer)
        device = device_id(key)
        signature = signer.sign(signed_text(version, params, device, nonce, ts).encode())
    except Exception as error:  # noqa: BLE001 - foreign code: what it raises is an ending
        raise SigningFailed(f"the signer raised {type(error).__name__}") from None
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise SigningFailed(f"the signer returned no {SIGNATURE_BYTES} bytes")
    return {
        "id": device,
        "publicKey": base64url(key),
        "signature": base64url(signature),
        "signedAt": ts,
        "nonce": nonce,
    }


def _normalized(name: str | None) -> str:
    """Trim, and lower ASCII letters alone, as the gateway does."""
    text = (name or "").strip(_SPACES)
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
