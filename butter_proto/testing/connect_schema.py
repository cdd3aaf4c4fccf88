"""The closed objects of ``connect``'s params, as data: today's, and the original connector's.

Rules kept here:

* Keys, required keys and enums are those of wire.md 2; what is not known of a value passes.
"""

from __future__ import annotations

from typing import Final

from butter_proto.identity import CLIENT_IDS, CLIENT_MODES
from butter_proto.testing import schema

_CLIENT: Final = schema.ClosedObject(
    {
        "id": schema.one_of(*CLIENT_IDS),
        "mode": schema.one_of(*CLIENT_MODES),
        "version": schema.full_text,
        "platform": schema.full_text,
        "displayName": schema.full_text,
        "buildId": schema.short_text(96),
        "deviceFamily": schema.full_text,
        "modelIdentifier": schema.full_text,
        "timeZone": schema.short_text(64),
        "instanceId": schema.full_text,
    },
    ("id", "version", "platform", "mode"),
)
_AUTH: Final = schema.ClosedObject(
    dict.fromkeys(
        (
            "token",
            "bootstrapToken",
            "deviceToken",
            "password",
            "approvalRuntimeToken",
            "agentRuntimeIdentityToken",
        ),
        schema.text,
    )
)
_DEVICE: Final = schema.ClosedObject(
    {
        "id": schema.full_text,
        "publicKey": schema.full_text,
        "signature": schema.full_text,
        "signedAt": schema.positive,
        "nonce": schema.text,
    },
    ("id", "publicKey", "signature", "signedAt", "nonce"),
)
CONNECT: Final = schema.ClosedObject(
    {
        "minProtocol": schema.positive,
        "maxProtocol": schema.positive,
        "client": _CLIENT,
        "role": schema.full_text,
        "scopes": schema.texts,
        "caps": schema.texts,
        "commands": schema.texts,
        "permissions": schema.anything,
        "pathEnv": schema.text,
        "device": _DEVICE,
        "auth": _AUTH,
        "locale": schema.text,
        "userAgent": schema.text,
        "computerUse": schema.anything,
        "workerRuns": schema.anything,
    },
    ("minProtocol", "maxProtocol", "client"),
)
"""Today's request (wire.md 2)."""
ORIGINAL: Final = schema.ClosedObject(
    {
        "minProtocol": schema.constant(1),
        "maxProtocol": schema.constant(1),
        "client": schema.ClosedObject(
            {
                "id": schema.constant("openbutter"),
                "version": schema.full_text,
                "platform": schema.full_text,
                "mode": schema.full_text,
            },
            ("id", "version", "platform", "mode"),
        ),
        "caps": schema.texts,
        "role": schema.constant("client"),
        "scopes": schema.texts,
        "auth": schema.ClosedObject({"token": schema.text}, ("token",)),
    },
    ("minProtocol", "maxProtocol", "client", "caps", "role", "scopes", "auth"),
)
"""The original OpenButter connector's request (design.md, Handshake)."""
