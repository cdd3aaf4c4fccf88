"""The handshake above the upgrade: challenge in, connect request out, hello in.

Rules kept here:

* The dialects differ by data (`_DIALECTS`) and by what their hello tells, nowhere else.
* Nothing is sent before the challenge, and nothing between connect and hello: a gateway closes a
  connection that sends more than a few frames there (wire.md 1).
* A hello is read leniently: unknown keys are normal, missing ones have the defaults below.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import attrs

from butter_proto.credentials import Auth
from butter_proto.device import LONGEST_TOKEN, MOST_SCOPES, DeviceToken
from butter_proto.device_auth import can_be_signed
from butter_proto.errors import InvalidSettings
from butter_proto.events import Hello, Policy
from butter_proto.frames import METHOD_CONNECT, encode_request, text_or_none, whole_number
from butter_proto.identity import ROLES, Identity
from butter_proto.secret import Secret, is_text
from butter_proto.settings import MIB, Dialect
from butter_proto.shared_names import SharedNames

BEFORE_HELLO_MAX: Final = 64 * 1024
"""The gateway's limit on a message before hello (wire.md 1), in bytes."""
DEFAULT_MAX_PAYLOAD: Final = 25 * MIB
"""Where hello tells no ``policy.maxPayload``: today's value (wire.md 3)."""
DEFAULT_TICK_INTERVAL: Final = 30.0
"""Where hello tells no believable ``policy.tickIntervalMs`` (wire.md 3), in seconds."""
_ID_ROOM: Final = 1024
_DEVICE_ROOM: Final = 1024 + 4 * LONGEST_TOKEN
_MOST_SECRETS: Final = 32
_LONGEST_SECRET: Final = LONGEST_TOKEN
_BELIEVABLE_TICKS: Final = (1000, 600_000)
_LISTED: Final = ("methods", "events")
_NAMES: Final = SharedNames()


@attrs.frozen
class Challenge:
    """``connect.challenge``. ``nonce`` and ``ts`` (ms) are None where missing or invalid."""

    nonce: str | None
    ts: int | None


@attrs.frozen
class _DialectData:
    protocols: Mapping[str, tuple[int, int]]
    """Role -> lowest and highest protocol offered."""
    optional_client_keys: bool


_DIALECTS: Final = {
    Dialect.GATEWAY_V4: _DialectData({"operator": (4, 4), "node": (3, 4)}, True),
    Dialect.OPENBUTTER_V1: _DialectData({}, False),
}
_ORIGINAL_PROTOCOLS: Final = (1, 1)


def read_challenge(payload: object) -> Challenge:
    """Read the payload of ``connect.challenge``; extra keys are normal (wire.md 1)."""
    fields = payload if isinstance(payload, dict) else {}
    return Challenge(text_or_none(fields.get("nonce")), whole_number(fields.get("ts")))


def fault_of_challenge(challenge: Challenge, dialect: Dialect, *, signed: bool) -> str | None:
    """Say what is wrong with a challenge; None: it can be answered.

    A device signs nonce and ts, so neither may be missing or odd then. The original has none.
    """
    if challenge.nonce is None and (signed or dialect is Dialect.GATEWAY_V4):
        return "it has no nonce"
    if signed and challenge.ts is None:
        return "its ts is no time"
    if signed and not can_be_signed(challenge.nonce or ""):
        return "its nonce cannot be signed"
    return None


def connect_params(dialect: Dialect, identity: Identity, auth: Auth) -> dict[str, Any]:
    """Make the params of the connect request. They hold secrets: never show them.

    A device signs what stands in them (device_auth.py) and is added by the caller.
    """
    data = _DIALECTS[dialect]
    low, high = data.protocols.get(identity.role, _ORIGINAL_PROTOCOLS)
    client = {
        "id": identity.id,
        "version": identity.version,
        "platform": identity.platform,
        "mode": identity.mode,
    }
    params: dict[str, Any] = {"minProtocol": low, "maxProtocol": high, "client": client}
    if data.optional_client_keys:
        optional = {
            "displayName": identity.display_name,
            "deviceFamily": identity.device_family,
            "instanceId": identity.instance_id,
        }
        client.update({key: value for key, value in optional.items() if value is not None})
    if identity.caps:
        params["caps"] = list(identity.caps)
    proof = {name: secret.reveal() for name, secret in auth.fields.items()}
    params |= {"role": identity.role, "scopes": list(auth.scopes), "auth": proof}
    return params


def check_connect_size(dialect: Dialect, identity: Identity, auth: Auth, *, device: bool) -> None:
    """Raise `InvalidSettings` for what is too large for a message before hello.

    With a ``device`` its proof and the largest token that it may be given have room too.
    """
    size = len(encode_request("", METHOD_CONNECT, connect_params(dialect, identity, auth)))
    if size + _ID_ROOM + device * _DEVICE_ROOM > BEFORE_HELLO_MAX:
        raise InvalidSettings(
            f"the connect request has {size} bytes; the gateway takes {BEFORE_HELLO_MAX}"
        )


def read_hello(payload: object, dialect: Dialect) -> Hello | None:
    """Read the answer to connect; None where it cannot be one.

    The original's gateway may answer anything with ``ok: true``; today's sends ``hello-ok``.
    """
    fields = _object(payload)
    if dialect is Dialect.GATEWAY_V4 and fields.get("type") != "hello-ok":
        return None
    server, auth = _object(fields.get("server")), _object(fields.get("auth"))
    return Hello(
        whole_number(fields.get("protocol")),
        text_or_none(server.get("version")),
        text_or_none(server.get("bootId")),
        text_or_none(server.get("connId")),
        text_or_none(auth.get("role")),
        _names(auth["scopes"]) if isinstance(auth.get("scopes"), list) else None,
        text_or_none(auth.get("method")),
        _policy(_object(fields.get("policy"))),
        _with_shared_names(payload),
    )


def _with_shared_names(payload: object) -> object:
    """Return a hello's payload that shares what it lists with those before it."""
    features = _object(payload).get("features")
    if not isinstance(features, dict):
        return payload
    lists = {kind: names for kind in _LISTED if isinstance(names := features.get(kind), list)}
    shared = {kind: _NAMES.shared(names) for kind, names in lists.items()}
    return {**_object(payload), "features": {**features, **shared}}


def _policy(fields: dict[str, Any]) -> Policy:
    ticks = whole_number(fields.get("tickIntervalMs"))
    low, high = _BELIEVABLE_TICKS
    believable = ticks is not None and low <= ticks <= high
    return Policy(
        whole_number(fields.get("maxPayload")) or DEFAULT_MAX_PAYLOAD,
        whole_number(fields.get("maxBufferedBytes")),
        ticks / 1000 if ticks is not None and believable else DEFAULT_TICK_INTERVAL,
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: list[Any]) -> tuple[str, ...]:
    """Return the names that can be sent again: a lone surrogate cannot."""
    return tuple(value for value in values if is_text(value))


def _names(value: object) -> tuple[str, ...]:
    return tuple(name for name in _list(value) if isinstance(name, str))


def secrets_of_hello(payload: object) -> list[str]:
    """Return the texts in a hello that must not be shown (wire.md 3).

    Bounded in number and length, since every text that is told is searched for them.
    """
    fields = _object(payload)
    auth = _object(fields.get("auth"))
    urls = _object(fields.get("pluginSurfaceUrls"))
    more = (_object(entry).get("deviceToken") for entry in _list(auth.get("deviceTokens")))
    found = [auth.get("deviceToken"), auth.get("recoveryScope"), *more, *urls.values()]
    return list(islice(filter(_is_secret, found), _MOST_SECRETS))


def tokens_of_hello(payload: object, role: str, asked: tuple[str, ...]) -> dict[str, DeviceToken]:
    """Return the device tokens in a hello by their roles; ``role`` is the one that connected.

    Others than its own come once, with the first connect of a setup code. A hello that tells no
    scopes is taken to grant those that were ``asked`` for.
    """
    auth = _object(_object(payload).get("auth"))
    found: dict[str, DeviceToken] = {}
    for entry in [{**auth, "role": role}, *map(_object, _list(auth.get("deviceTokens")))]:
        token = entry.get("deviceToken")
        if isinstance(token, str) and _is_secret(token) and entry.get("role") in (role, *ROLES):
            told = entry.get("scopes")
            scopes = _texts(told) if isinstance(told, list) else asked
            issued_at = whole_number(entry.get("issuedAtMs"))
            given = DeviceToken(Secret(token), scopes[:MOST_SCOPES], issued_at)
            found.setdefault(entry["role"], given)
    return found


def _is_secret(value: Any) -> bool:
    return is_text(value) and len(value) <= _LONGEST_SECRET
