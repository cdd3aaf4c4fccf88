"""The check of Ed25519 signatures, where the extra ``device`` is installed.

Rules kept here:

* Without it nothing is verified: a stand-in that lets every signature pass would let tests pass
  that must fail. Whoever signs with something else gives the gateway his own ``verify``.
* Nothing raises: what is no key or no signature is not verified.
"""

from __future__ import annotations


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a raw signature (64 bytes) of a message is that of a raw key (32 bytes)."""
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )
    except ModuleNotFoundError:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
