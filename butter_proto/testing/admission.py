"""What a connect request gets: a `Grant`, or a `Refusal` from the error table (wire.md 2, 5, 10).

Rules kept here:

* Pure functions of the request, the socket's challenge and the stand-in's credentials.
* The order is the gateway's: schema, protocol range, role, identity, device, shared secret.
* The stand-in plays a gateway on loopback: devices are approved silently, nobody is locked out.
  It checks what a device signs, but not the Ed25519 signature itself.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import attrs

from butter_proto.errors import GatewayError
from butter_proto.testing import connect_schema
from butter_proto.testing.schema import ClosedObject

PROTOCOL: Final = 4
"""The only one that is spoken (wire.md 3)."""
_OLDEST_PROBE: Final = 3
_SIGNED_AT_WINDOW_MS: Final = 120_000
_BACKEND: Final = ("gateway-client", "backend")
_KEEP_SCOPES: Final = (_BACKEND, ("cli", "cli"))
"""Without a device only these keep their scopes; all others silently get none (wire.md 2)."""
_LOOPBACK_ORIGINS: Final = ("http://127.0.0.1", "http://localhost", "http://[::1]")


@attrs.frozen
class Credentials:
    """What the gateway accepts. ``token`` None is auth mode "none"."""

    token: str | None = attrs.field(default=None, repr=False)
    device_token: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Challenge:
    """What one socket was told, and where it came from."""

    nonce: str
    ts: int
    origin: str = ""


@attrs.frozen
class Grant:
    """A connect request that was accepted."""

    role: str
    scopes: tuple[str, ...]
    method: str
    device_token: str | None = attrs.field(default=None, repr=False)


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


@attrs.frozen
class _Attempt:
    """A connect request whose schema is right."""

    params: dict[str, Any] = attrs.field(repr=False)
    challenge: Challenge = attrs.field(repr=False)
    credentials: Credentials

    @property
    def identity(self) -> tuple[str, str]:
        return self.params["client"]["id"], self.params["client"]["mode"]

    @property
    def role(self) -> str:
        role: str = self.params.get("role", "operator")
        return role

    @property
    def device(self) -> dict[str, Any] | None:
        return self.params.get("device")

    def auth(self, *names: str) -> list[str]:
        """Return the non-empty ones of some fields of ``auth``."""
        auth = self.params.get("auth", {})
        return [auth[name] for name in names if auth.get(name)]


def admit(params: object, challenge: Challenge, credentials: Credentials) -> Grant | Refusal:
    """Decide about a connect request of today's protocol."""
    if (refusal := _schema_refusal(connect_schema.CONNECT, params)) is not None:
        return refusal
    assert isinstance(params, dict)
    attempt = _Attempt(params, challenge, credentials)
    for check in (_check_protocol, _check_role, _check_identity, _check_device):
        if (refusal := check(attempt)) is not None:
            return refusal
    method = _authenticate(attempt)
    if isinstance(method, Refusal):
        return method
    keeps = attempt.device is not None or attempt.identity in _KEEP_SCOPES
    asked = tuple(dict.fromkeys(params.get("scopes", ())))
    scopes = asked if keeps and not challenge.origin else ()
    paired = attempt.device is not None and attempt.identity != _BACKEND
    return Grant(attempt.role, scopes, method, credentials.device_token if paired else None)


def admit_original(params: object, credentials: Credentials) -> Grant | Refusal:
    """Decide about the original OpenButter connector's request."""
    if (refusal := _schema_refusal(connect_schema.ORIGINAL, params)) is not None:
        return refusal
    assert isinstance(params, dict)
    if credentials.token not in (None, params["auth"]["token"]):
        return _auth_refusal("token", "mismatch", "update_auth_credentials")
    return Grant("client", tuple(params["scopes"]), "token")


def _schema_refusal(shape: ClosedObject, params: object) -> Refusal | None:
    faults = "; ".join(shape.faults(params))
    return _refusal("INVALID_REQUEST", f"invalid connect params: {faults}") if faults else None


def _check_protocol(attempt: _Attempt) -> Refusal | None:
    low, high = attempt.params["minProtocol"], attempt.params["maxProtocol"]
    probing = attempt.identity == ("openclaw-probe", "probe")
    as_node = attempt.role == "node" and attempt.identity[1] == "node"
    oldest = _OLDEST_PROBE if probing or as_node else PROTOCOL
    if low <= high and low <= PROTOCOL and high >= oldest:
        return None
    details = {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": low,
        "clientMaxProtocol": high,
        "expectedProtocol": PROTOCOL,
        "minimumProbeProtocol": _OLDEST_PROBE,
    }
    return Refusal(GatewayError("INVALID_REQUEST", "protocol mismatch", details), 1002)


def _check_role(attempt: _Attempt) -> Refusal | None:
    if "worker" in (attempt.role, attempt.identity[1]) or attempt.identity[0] == "openclaw-worker":
        return Refusal(None, close_reason="invalid-handshake")
    if attempt.role not in ("operator", "node"):
        return _refusal("INVALID_REQUEST", "invalid role")
    return None


def _check_identity(attempt: _Attempt) -> Refusal | None:
    """Refuse foreign origins, and the identities of user interfaces (wire.md 2 and 9)."""
    client_id, mode = attempt.identity
    origin = attempt.challenge.origin
    web = client_id in ("webchat-ui", "openclaw-control-ui") or mode == "webchat"
    if origin and not _is_loopback(origin):
        return _coded("CONTROL_UI_ORIGIN_NOT_ALLOWED", "origin not allowed", reason=True)
    if web and not origin:
        return _coded("CONTROL_UI_ORIGIN_NOT_ALLOWED", "origin missing or invalid", reason=True)
    if client_id in ("openclaw-tui", "openclaw-control-ui") and attempt.device is None:
        return _coded("CONTROL_UI_DEVICE_IDENTITY_REQUIRED", "device identity required")
    if client_id == "openclaw-browser-copilot":
        return _refusal(
            "INVALID_REQUEST",
            "browser copilot requires ui mode with run-tool-bindings and session-scoped-events"
            " capabilities",
        )
    return None


def _is_loopback(origin: str) -> bool:
    return any(origin == own or origin.startswith(f"{own}:") for own in _LOOPBACK_ORIGINS)


def _check_device(attempt: _Attempt) -> Refusal | None:
    device, challenge = attempt.device, attempt.challenge
    if device is None:
        return None
    if _fingerprint(device["publicKey"]) != device["id"]:
        return _device_refusal("DEVICE_ID_MISMATCH", "device-id-mismatch")
    if not device["nonce"].strip():
        return _device_refusal("NONCE_REQUIRED", "device-nonce-missing")
    if device["nonce"] != challenge.nonce:
        return _device_refusal("NONCE_MISMATCH", "device-nonce-mismatch")
    if abs(device["signedAt"] - challenge.ts) > _SIGNED_AT_WINDOW_MS:
        return _device_refusal("SIGNATURE_EXPIRED", "device-signature-stale")
    return None


def _fingerprint(public_key: str) -> str | None:
    """Return the device id of a raw public key in base64, URL-safe or not, padded or not."""
    text = public_key.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return hashlib.sha256(raw).hexdigest()


def _authenticate(attempt: _Attempt) -> str | Refusal:
    """Return hello's ``auth.method``. Shared secrets count in either field (wire.md 5)."""
    open_to_all = attempt.credentials.token is None
    needs_device = attempt.role == "node" or (open_to_all and attempt.identity[0] == "cli")
    if attempt.device is None and needs_device:
        return _identity_required()
    if open_to_all:
        return "none"
    shared = attempt.auth("token", "password")[:1]
    if attempt.credentials.token in shared:
        return "token"
    if attempt.device is not None:
        return _authenticate_device(attempt, shared)
    if shared:
        return _auth_refusal("token", "mismatch", "update_auth_credentials")
    return _identity_required()


def _authenticate_device(attempt: _Attempt, shared: list[str]) -> str | Refusal:
    """Look at device tokens where the shared secret was wrong or missing."""
    offered = attempt.auth("deviceToken")
    if attempt.credentials.device_token in (*shared, *offered):
        return "device-token"
    if offered:
        return _auth_refusal("device_token", "mismatch", "update_auth_credentials")
    if shared:
        return _auth_refusal("token", "mismatch", "retry_with_device_token", can_retry=True)
    return _auth_refusal("token", "missing", "update_auth_configuration")


def _refusal(code: str, message: str) -> Refusal:
    return Refusal(GatewayError(code, message))


def _coded(code: str, message: str, *, reason: bool = False) -> Refusal:
    details = {"code": code, "reason": message} if reason else {"code": code}
    return Refusal(GatewayError("INVALID_REQUEST", message, details))


def _identity_required() -> Refusal:
    details = {"code": "DEVICE_IDENTITY_REQUIRED"}
    return Refusal(GatewayError("NOT_PAIRED", "device identity required", details))


def _device_refusal(code: str, reason: str) -> Refusal:
    details = {"code": f"DEVICE_AUTH_{code}", "reason": reason}
    return Refusal(GatewayError("INVALID_REQUEST", "device identity not accepted", details))


def _auth_refusal(what: str, wrong: str, next_step: str, *, can_retry: bool = False) -> Refusal:
    details = {
        "code": f"AUTH_{what}_{wrong}".upper(),
        "authReason": f"{what}_{wrong}",
        "canRetryWithDeviceToken": can_retry,
        "recommendedNextStep": next_step,
    }
    return Refusal(GatewayError("INVALID_REQUEST", f"unauthorized: {what} {wrong}", details))
