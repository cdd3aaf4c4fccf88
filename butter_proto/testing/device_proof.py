"""The check of a ``device`` object: id, nonce, time and signature (wire.md 4).

Rules kept here:

* Key and signature are base64, URL-safe or not, padded or not.
* The time is compared with the gateway's clock now, not with the challenge's.
* The signed text is built from the request's own params, by the function that clients sign with.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from butter_proto.device_auth import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SignedPayload,
    device_id,
    signed_text,
)
from butter_proto.testing.attempt import Attempt, AuthConfig
from butter_proto.testing.verdicts import Refusal, device_refused

SIGNED_AT_WINDOW_MS: Final = 120_000
"""How far ``signedAt`` may be off, both ways."""


def check_device(attempt: Attempt, config: AuthConfig) -> Refusal | None:
    """Refuse a device that does not prove its key on this socket; None: nothing is wrong."""
    device = attempt.device
    return None if device is None else _check(device, attempt, config)


def _check(device: dict[str, Any], attempt: Attempt, config: AuthConfig) -> Refusal | None:
    key = _decoded(device["publicKey"], PUBLIC_KEY_BYTES)
    if key is None or device_id(key) != device["id"]:
        return device_refused("DEVICE_ID_MISMATCH", "device-id-mismatch")
    if not device["nonce"].strip():
        return device_refused("NONCE_REQUIRED", "device-nonce-missing")
    if device["nonce"] != attempt.challenge.nonce:
        return device_refused("NONCE_MISMATCH", "device-nonce-mismatch")
    if abs(device["signedAt"] - attempt.now_ms) > SIGNED_AT_WINDOW_MS:
        return device_refused("SIGNATURE_EXPIRED", "device-signature-stale")
    signature = _decoded(device["signature"], SIGNATURE_BYTES)
    texts = _signed_texts(attempt.params, device)
    if signature is None or not any(config.verify(key, signature, text) for text in texts):
        return device_refused("SIGNATURE_INVALID", "device-signature")
    return None


def _signed_texts(params: dict[str, Any], device: dict[str, Any]) -> list[bytes]:
    """Return what the device may have signed: v3, or v2. What is empty or omitted is filled in."""
    auth = {name: value for name, value in params.get("auth", {}).items() if value}
    filled = {"role": "operator", "scopes": [], **params, "auth": auth}
    return [
        signed_text(version, filled, device["id"], device["nonce"], device["signedAt"]).encode(
            errors="surrogatepass"
        )
        for version in (SignedPayload.V3, SignedPayload.V2)
    ]


def _decoded(text: str, size: int) -> bytes | None:
    """Return the bytes of a base64 text; None where it is none, or of another size."""
    unpadded = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        data = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))
    except ValueError:
        return None
    return data if len(data) == size else None
