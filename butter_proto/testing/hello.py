"""The payloads the gateway makes up itself: challenge, hello-ok, health and others (wire.md 3, 4).

Rules kept here:

* The shape is the one measured on the wire; lists that are long there are short here.
* ``now_ms`` is the gateway's wall clock in milliseconds.
* hello-ok holds secrets where the real one does (``pluginSurfaceUrls``, ``recoveryScope``,
  ``deviceToken``), so that a client which logs them is caught.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from butter_proto.events import Policy
from butter_proto.testing.admission import PROTOCOL
from butter_proto.testing.devices import IssuedToken, PairingRequest
from butter_proto.testing.verdicts import Grant

SERVER_VERSION: Final = "2026.9.6"
EVENT_PAIR_REQUESTED: Final = "device.pair.requested"
EVENT_PAIR_RESOLVED: Final = "device.pair.resolved"
OWNER_SCOPES: Final = frozenset({"operator.pairing", "operator.admin"})
"""Who has one of these hears of pairing (wire.md 4)."""
EVENTS: Final = (
    "connect.challenge",
    "agent",
    "chat",
    "presence",
    "tick",
    "shutdown",
    "health",
    "heartbeat",
    "cron",
    EVENT_PAIR_REQUESTED,
    EVENT_PAIR_RESOLVED,
    "session.message",
    "sessions.changed",
)
_CAPABILITIES: Final = ("chat-send-routing-contract", "model-catalog-snapshot")
_MAX_ATTACHMENT: Final = 19_464_192
_MAX_IMAGE: Final = 6_291_456
_REMOTE_IP: Final = "203.0.113.9"


@attrs.frozen
class Boot:
    """One life of the gateway process."""

    id: str
    started_ms: int


def challenge(nonce: str, now_ms: int) -> dict[str, Any]:
    """Build the payload of ``connect.challenge``."""
    return {"nonce": nonce, "ts": now_ms, "capabilities": ["model-catalog-snapshot"]}


def health(now_ms: int) -> dict[str, Any]:
    """Build the payload of the ``health`` answer and event."""
    return {
        "ok": True,
        "ts": now_ms,
        "durationMs": 3,
        "plugins": {"loaded": [], "errors": [], "unavailable": []},
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 1800,
        "defaultAgentId": "main",
        "agents": [{"agentId": "main"}],
        "sessions": {"path": "sessions", "count": 0, "recent": []},
        "eventLoop": {"degraded": False},
    }


def shutdown(restart_expected: float | None) -> dict[str, Any]:
    """Build the payload of ``shutdown``; None: the gateway stops and promises nothing."""
    if restart_expected is None:
        return {"reason": "gateway stopping"}
    return {"reason": "gateway restarting", "restartExpectedMs": round(restart_expected * 1000)}


def pair_requested(request: PairingRequest, params: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """Build the payload of ``device.pair.requested`` for a connect request with these params."""
    client = params["client"]
    return {
        "requestId": request.request_id,
        "deviceId": request.device_id,
        "publicKey": params["device"]["publicKey"],
        "platform": client["platform"],
        "clientId": client["id"],
        "clientMode": client["mode"],
        "role": request.role,
        "roles": [request.role],
        "scopes": list(request.scopes),
        "remoteIp": _REMOTE_IP,
        "silent": False,
        "isRepair": False,
        "ts": now_ms,
    }


def pair_resolved(request: PairingRequest, decision: str, now_ms: int) -> dict[str, Any]:
    """Build the payload of ``device.pair.resolved``."""
    return {
        "requestId": request.request_id,
        "deviceId": request.device_id,
        "decision": decision,
        "ts": now_ms,
    }


def hello_ok(
    grant: Grant,
    policy: Policy,
    boot: Boot,
    connection_id: str,
    methods: Iterable[str],
    now_ms: int,
) -> dict[str, Any]:
    """Build the payload of the answer to an accepted ``connect``."""
    return {
        "type": "hello-ok",
        "protocol": PROTOCOL,
        "server": {
            "version": SERVER_VERSION,
            "buildId": f"{SERVER_VERSION}-stand-in",
            "bootId": boot.id,
            "controlUiBuildSource": "bundled",
            "connId": connection_id,
        },
        "features": {
            "methods": list(methods),
            "events": list(EVENTS),
            "capabilities": list(_CAPABILITIES),
        },
        "snapshot": _snapshot(boot, now_ms),
        "controlUiWidgetKinds": [],
        "controlUiLinkReaders": [],
        "pluginSurfaceUrls": {"canvas": f"http://127.0.0.1/__openclaw__/cap/{connection_id}"},
        "auth": _auth(grant, connection_id),
        "policy": _policy(policy),
    }


def _snapshot(boot: Boot, now_ms: int) -> dict[str, Any]:
    return {
        "suspension": {"phase": "accepting"},
        "presence": [],
        "health": health(now_ms),
        "stateVersion": {"presence": 1, "health": 1},
        "uptimeMs": now_ms - boot.started_ms,
        "sessionDefaults": {
            "defaultAgentId": "main",
            "mainKey": "main",
            "mainSessionKey": "agent:main:main",
            "scope": "per-sender",
        },
    }


def _auth(grant: Grant, connection_id: str) -> dict[str, Any]:
    auth: dict[str, Any] = {
        "method": grant.method,
        "role": grant.role,
        "scopes": list(grant.scopes),
        "recoveryScope": f"U{connection_id}",
    }
    if grant.token is not None:
        auth |= {
            "deviceToken": grant.token.token,
            "issuedAtMs": grant.token.issued_at_ms,
            "recoveryMigrationAllowed": True,
        }
    if grant.further_tokens:
        auth["deviceTokens"] = [_further(token) for token in grant.further_tokens]
    return auth


def _further(token: IssuedToken) -> dict[str, Any]:
    return {
        "deviceToken": token.token,
        "role": token.role,
        "scopes": list(token.scopes),
        "issuedAtMs": token.issued_at_ms,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "maxPayload": policy.max_payload,
        "maxBufferedBytes": policy.max_buffered_bytes,
        "tickIntervalMs": round(policy.tick_interval * 1000),
        "attachments": {"maxBytes": _MAX_ATTACHMENT, "maxImageBytes": _MAX_IMAGE},
        "allowedSessionVisibilities": ["shared", "read-only", "suggest", "draft"],
        "hasMultipleSessionSharingIdentities": False,
    }
