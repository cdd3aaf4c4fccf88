"""A connect request of today's protocol, with what the gateway knows of its socket and itself.

Rules kept here:

* An `Attempt` is made only of params whose schema is right; everything after it trusts the types.
* A field of ``auth`` that is empty counts as absent (wire.md 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from butter_proto.testing import ed25519

BACKEND: Final = ("gateway-client", "backend")
"""The identity that needs no device, and is never paired (wire.md 2 and 4)."""


@attrs.frozen
class Challenge:
    """What one socket was told, and where it came from."""

    nonce: str
    origin: str = ""


@attrs.frozen
class AuthConfig:
    """What the gateway was configured to accept. No token and no password is auth mode "none"."""

    token: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    bootstrap_token: str | None = attrs.field(default=None, repr=False)
    remote: bool = False
    verify: Callable[[bytes, bytes, bytes], bool] = attrs.field(default=ed25519.verify, repr=False)


@attrs.frozen
class Attempt:
    """A connect request whose schema is right, and the time: seconds, and the wall clock's."""

    params: dict[str, Any] = attrs.field(repr=False)
    challenge: Challenge = attrs.field(repr=False)
    now: float
    now_ms: int

    @property
    def identity(self) -> tuple[str, str]:
        """The client's id and mode."""
        return self.params["client"]["id"], self.params["client"]["mode"]

    @property
    def role(self) -> str:
        """What it wants to be."""
        role: str = self.params.get("role", "operator")
        return role

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it wants to do, without doubles; omitted scopes mean none."""
        return tuple(dict.fromkeys(self.params.get("scopes", ())))

    @property
    def device(self) -> dict[str, Any] | None:
        """The ``device`` object."""
        return self.params.get("device")

    def auth(self, *names: str) -> str | None:
        """Return the first of some fields of ``auth`` that is there and not empty."""
        auth = self.params.get("auth", {})
        return next((auth[name] for name in names if auth.get(name)), None)

    def client_name(self, key: str) -> str:
        """Return ``platform`` or ``deviceFamily`` as the gateway compares it."""
        name: str = self.params["client"].get(key, "")
        return name.strip().lower()
