"""What a connect request gets: a `Grant`, or a `Refusal`, one function for each kind of them.

Rules kept here:

* Codes, reasons, next steps and close codes are those of wire.md's error table (section 5).
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from butter_proto.errors import GatewayError
from butter_proto.testing.devices import IssuedToken, PairedDevice, PairingReason, PairingRequest

_PAIRING_TEXTS: Final = {
    PairingReason.NOT_PAIRED: (
        "device is not approved yet",
        "Approve this device from the pending pairing requests.",
    ),
    PairingReason.METADATA_UPGRADE: (
        "device identity changed and must be re-approved",
        "Review the refreshed device details, then approve the pending request.",
    ),
    PairingReason.ROLE_UPGRADE: (
        "device is asking for a higher role than currently approved",
        "Review the requested role upgrade, then approve the pending request.",
    ),
    PairingReason.SCOPE_UPGRADE: (
        "device is asking for more scopes than currently approved",
        "Review the requested scopes, then approve the pending upgrade.",
    ),
}
"""What is required, and what the owner should do."""
_LONGEST_REASON: Final = 120
"""An upgrade's reason ends in the middle of the request id (wire.md 4)."""


@attrs.frozen
class Grant:
    """A connect request that was accepted.

    ``device_id`` is set where one was proven, ``token`` where that device is paired;
    ``further_tokens`` come with a bootstrap token alone.
    """

    role: str
    scopes: tuple[str, ...]
    method: str
    device_id: str | None = None
    token: IssuedToken | None = None
    further_tokens: tuple[IssuedToken, ...] = ()


@attrs.frozen
class Refusal:
    """An error answer, then Close. ``close_reason`` None stands for the error's message."""

    error: GatewayError | None
    close_code: int = 1008
    close_reason: str | None = None

    @property
    def reason(self) -> str:
        """The reason of the Close frame."""
        if self.close_reason is not None:
            return self.close_reason
        return "" if self.error is None else self.error.message


def invalid(message: str, **details: Any) -> Refusal:
    """Refuse what cannot be; no details stand for no ``details`` at all."""
    return Refusal(GatewayError("INVALID_REQUEST", message, details or None))


def identity_required() -> Refusal:
    """Refuse a connect request that shows nothing, or lacks the device that its role needs."""
    details = {"code": "DEVICE_IDENTITY_REQUIRED"}
    return Refusal(GatewayError("NOT_PAIRED", "device identity required", details))


def device_refused(code: str, reason: str) -> Refusal:
    """Refuse a device's proof."""
    return invalid("device identity not accepted", code=f"DEVICE_AUTH_{code}", reason=reason)


def auth_refused(reason: str, next_step: str, *, can_retry: bool = False) -> Refusal:
    """Refuse a credential; ``reason`` is ``authReason``."""
    return Refusal(
        GatewayError(
            "INVALID_REQUEST",
            f"unauthorized: {reason.replace('_', ' ')}",
            _auth_details(reason, next_step, can_retry=can_retry),
        )
    )


def rate_limited(seconds: float) -> Refusal:
    """Refuse whatever is shown, for so many more seconds."""
    return Refusal(
        GatewayError(
            "INVALID_REQUEST",
            "unauthorized: too many failed authentication attempts (retry later)",
            _auth_details("rate_limited", "wait_then_retry"),
            retryable=True,
            retry_after=seconds,
        )
    )


def pairing_required(
    request: PairingRequest, asked: tuple[str, ...], paired: PairedDevice | None
) -> Refusal:
    """Refuse until the owner has approved; ``asked`` are the scopes of this very attempt."""
    required, hint = _PAIRING_TEXTS[request.reason]
    message = f"pairing required: {required}"
    details: dict[str, Any] = {
        "code": "PAIRING_REQUIRED",
        "reason": request.reason.value,
        "requestId": request.request_id,
        "remediationHint": hint,
        "deviceId": request.device_id,
        "requestedRole": request.role,
        "requestedScopes": list(asked),
    }
    if paired is not None:
        details |= {
            "approvedRoles": list(paired.approved_roles),
            "approvedScopes": list(paired.approved_scopes),
        }
    error = GatewayError("NOT_PAIRED", message, details)
    reason = f"{message} (requestId: {request.request_id})"
    return Refusal(error, close_reason=reason[:_LONGEST_REASON])


def _auth_details(reason: str, next_step: str, *, can_retry: bool = False) -> dict[str, Any]:
    return {
        "code": f"AUTH_{reason.upper()}",
        "authReason": reason,
        "canRetryWithDeviceToken": can_retry,
        "recommendedNextStep": next_step,
    }
