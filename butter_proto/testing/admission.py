"""What a connect request gets: a `Grant`, or a `Refusal` from the error table (wire.md 2, 5, 10).

Rules kept here:

* The order is the gateway's: schema, protocol range, role, identity, the device's proof,
  credentials, pairing. Each is refused before the next is looked at.
* Only the last two keep anything: who failed how often, and which devices are paired.
"""

from __future__ import annotations

from typing import Final

from butter_proto.errors import GatewayError
from butter_proto.testing import connect_schema
from butter_proto.testing.attempt import Attempt, AuthConfig, Challenge
from butter_proto.testing.authentication import authenticate
from butter_proto.testing.device_proof import check_device
from butter_proto.testing.devices import Devices
from butter_proto.testing.lockout import Lockout
from butter_proto.testing.pairing import pair
from butter_proto.testing.schema import ClosedObject
from butter_proto.testing.verdicts import Grant, Refusal, auth_refused, invalid

PROTOCOL: Final = 4
"""The only one that is spoken (wire.md 3)."""
_OLDEST_PROBE: Final = 3
_LOOPBACK_ORIGINS: Final = ("http://127.0.0.1", "http://localhost", "http://[::1]")


class Admission:
    """The part of a gateway that decides who comes in, with what it remembers."""

    def __init__(self, seed: int) -> None:
        self.devices = Devices(seed)
        self._lockout = Lockout()

    def admit(
        self, params: object, challenge: Challenge, config: AuthConfig, now: float, now_ms: int
    ) -> Grant | Refusal:
        """Decide about a connect request of today's protocol.

        ``now`` is in seconds, ``now_ms`` the gateway's wall clock in milliseconds.
        """
        if (refusal := _schema_refusal(connect_schema.CONNECT, params)) is not None:
            return refusal
        assert isinstance(params, dict)
        attempt = Attempt(params, challenge, now, now_ms)
        for check in (_check_protocol, _check_role, _check_identity):
            if (refusal := check(attempt)) is not None:
                return refusal
        if (refusal := check_device(attempt, config)) is not None:
            return refusal
        method = authenticate(attempt, config, self.devices, self._lockout)
        if isinstance(method, Refusal):
            return method
        return pair(attempt, method, self.devices, remote=config.remote)


def admit_original(params: object, config: AuthConfig) -> Grant | Refusal:
    """Decide about the original OpenButter connector's request."""
    if (refusal := _schema_refusal(connect_schema.ORIGINAL, params)) is not None:
        return refusal
    assert isinstance(params, dict)
    if config.token not in (None, params["auth"]["token"]):
        return auth_refused("token_mismatch", "update_auth_credentials")
    return Grant("client", tuple(params["scopes"]), "token")


def _schema_refusal(shape: ClosedObject, params: object) -> Refusal | None:
    faults = "; ".join(shape.faults(params))
    return invalid(f"invalid connect params: {faults}") if faults else None


def _check_protocol(attempt: Attempt) -> Refusal | None:
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


def _check_role(attempt: Attempt) -> Refusal | None:
    if "worker" in (attempt.role, attempt.identity[1]) or attempt.identity[0] == "openclaw-worker":
        return Refusal(None, close_reason="invalid-handshake")
    if attempt.role not in ("operator", "node"):
        return invalid("invalid role")
    return None


def _check_identity(attempt: Attempt) -> Refusal | None:
    """Refuse foreign origins, and the identities of user interfaces (wire.md 2 and 9)."""
    client_id, mode = attempt.identity
    origin = attempt.challenge.origin
    web = client_id in ("webchat-ui", "openclaw-control-ui") or mode == "webchat"
    if origin and not _is_loopback(origin):
        return _origin_refused("origin not allowed")
    if web and not origin:
        return _origin_refused("origin missing or invalid")
    if client_id in ("openclaw-tui", "openclaw-control-ui") and attempt.device is None:
        return invalid("device identity required", code="CONTROL_UI_DEVICE_IDENTITY_REQUIRED")
    if client_id == "openclaw-browser-copilot":
        return invalid(
            "browser copilot requires ui mode with run-tool-bindings and session-scoped-events"
            " capabilities"
        )
    return None


def _is_loopback(origin: str) -> bool:
    return any(origin == own or origin.startswith(f"{own}:") for own in _LOOPBACK_ORIGINS)


def _origin_refused(reason: str) -> Refusal:
    return invalid(reason, code="CONTROL_UI_ORIGIN_NOT_ALLOWED", reason=reason)
