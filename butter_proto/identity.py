"""Who connects: the identities that a connect request may tell (wire.md 2).

Rules kept here:

* An identity is frozen and checked when it is made: what a connect request cannot carry is
  `InvalidSettings` here, never a failure later.
* The gateway's closed enums have their one home here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

import attrs

from butter_proto.errors import InvalidSettings
from butter_proto.secret import is_text

VERSION: Final = "0.1.0"
"""The distribution's version, told to the gateway as ``client.version``."""
OPERATOR_SCOPES: Final = ("operator.read", "operator.write")


def _names(values: Iterable[str]) -> tuple[str, ...]:
    names = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else None
    if names is None or not all(map(is_text, names)):
        raise InvalidSettings(f"a list of non-empty names is expected: {values!r}")
    return names


@attrs.frozen
class Identity:
    """Who connects: the ``client`` object of the connect request, role, scopes and caps."""

    id: str
    """``client.id``, of `CLIENT_IDS` for today's gateway."""
    mode: str
    """``client.mode``, of `CLIENT_MODES` for today's gateway."""
    version: str = VERSION
    """``client.version``: this distribution's, unless an embedder tells its own."""
    platform: str = sys.platform
    """``client.platform``; part of what a device signs, a change of it needs a new approval."""
    role: str = "operator"
    """The role asked for, of `ROLES` for today's gateway."""
    scopes: tuple[str, ...] = attrs.field(default=OPERATOR_SCOPES, converter=_names)
    """The scopes asked for: left out they would mean none (wire.md 2)."""
    caps: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """What the client can do, e.g. ``tool-events`` (wire.md 2)."""
    display_name: str | None = None
    """``client.displayName``, for people."""
    device_family: str | None = None
    """``client.deviceFamily``; like ``platform`` part of what a device signs."""
    instance_id: str | None = None
    """``client.instanceId``, to tell two programs of one identity apart."""

    def __attrs_post_init__(self) -> None:
        for name in ("id", "mode", "version", "platform", "role"):
            if not is_text(getattr(self, name)):
                raise InvalidSettings(f"identity.{name} must be a non-empty str")
        if any("," in scope for scope in self.scopes):
            raise InvalidSettings("a scope has no comma: a device signs them with commas between")
        for name in ("display_name", "device_family", "instance_id"):
            if getattr(self, name) is not None and not is_text(getattr(self, name)):
                raise InvalidSettings(f"identity.{name} must be None or a non-empty str")


BACKEND: Final = Identity("gateway-client", "backend")
"""Without a device: keeps its scopes on loopback (wire.md 2)."""
CLI: Final = Identity("cli", "cli")
"""With a device: `BACKEND` never gets a device token (wire.md 4)."""
OPENBUTTER_NODE: Final = Identity(
    "openbutter", "standalone", "0.1.0", "node", "client", ("gateway:rpc",), ("rpc",)
)
"""The original connector under Node."""
OPENBUTTER_BROWSER: Final = attrs.evolve(OPENBUTTER_NODE, platform="browser", mode="web")
"""The original connector in a browser."""

CLIENT_IDS: Final = (
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "node-host",
    "openclaw-worker",
    "test",
    "fingerprint",
    "openclaw-probe",
)
"""The closed enum of ``client.id`` (wire.md 2)."""
CLIENT_MODES: Final = ("webchat", "cli", "ui", "backend", "node", "worker", "probe", "test")
"""The closed enum of ``client.mode`` (wire.md 2)."""
ROLES: Final = ("operator", "node")
