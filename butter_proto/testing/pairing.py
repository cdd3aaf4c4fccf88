"""What an authenticated client may do: its device must be approved for it (wire.md 2 and 4).

Rules kept here:

* On loopback the gateway approves by itself, but never a device whose platform or family changed.
  Remote, the owner must approve; a bootstrap token is the owner's approval.
* A refused upgrade takes nothing away: the old grant works on.
* The backend identity is never paired. Remote, it has the scopes of its device token or none, as
  clients without a device have none; that part is not measured.
"""

from __future__ import annotations

from typing import Final

from butter_proto.testing.attempt import BACKEND, Attempt
from butter_proto.testing.authentication import Method
from butter_proto.testing.devices import Asked, Devices, IssuedToken, PairingReason
from butter_proto.testing.verdicts import Grant, Refusal, pairing_required

HANDED_OVER: Final = {
    "operator": (
        "operator.approvals",
        "operator.read",
        "operator.talk.secrets",
        "operator.write",
    ),
    "node": (),
}
"""The roles that a bootstrap token opens besides the one that connects, with their scopes; read in
the reference gateway, not measured."""
_KEEP_SCOPES: Final = (BACKEND, ("cli", "cli"))
"""Without a device only these keep their scopes; all others silently get none (wire.md 2)."""


def pair(attempt: Attempt, method: Method, devices: Devices, *, remote: bool) -> Grant | Refusal:
    """Return what an authenticated attempt is granted, or ask the owner first."""
    if attempt.device is None:
        local = not remote and not attempt.challenge.origin
        keeps = local and attempt.identity in _KEEP_SCOPES
        return Grant(attempt.role, attempt.scopes if keeps else (), method.value)
    asked = _asked(attempt, attempt.device["id"])
    if attempt.identity == BACKEND:
        keeps = not remote or method is Method.DEVICE_TOKEN
        scopes = asked.scopes if keeps else ()
        return Grant(asked.role, scopes, method.value, asked.device_id)
    lacking = devices.lacking(asked)
    silently = not remote and lacking is not PairingReason.METADATA_UPGRADE
    if lacking is None or silently or method is Method.BOOTSTRAP_TOKEN:
        token = devices.grant(asked, attempt.now_ms)
        further = _hand_over(asked, devices, attempt.now_ms, method)
        return Grant(asked.role, asked.scopes, method.value, asked.device_id, token, further)
    request = devices.request(asked, lacking)
    return pairing_required(request, asked.scopes, devices.paired.get(asked.device_id))


def _asked(attempt: Attempt, device_id: str) -> Asked:
    return Asked(
        device_id,
        attempt.client_name("platform"),
        attempt.client_name("deviceFamily"),
        attempt.role,
        attempt.scopes,
    )


def _hand_over(
    asked: Asked, devices: Devices, now_ms: int, method: Method
) -> tuple[IssuedToken, ...]:
    """Grant a bootstrapped device its other roles as well."""
    if method is not Method.BOOTSTRAP_TOKEN:
        return ()
    others = {role: scopes for role, scopes in HANDED_OVER.items() if role != asked.role}
    return tuple(
        devices.grant(
            Asked(asked.device_id, asked.platform, asked.device_family, role, scopes), now_ms
        )
        for role, scopes in others.items()
    )
