"""What a recorded connector is made of, as JSON, and back.

Rules kept here:

* Secrets are fillers. Of the URL the host stays, of its path and query the length; of a proxy its
  place. The device's public key stays: it lets nobody in.
* The settings are read by their own classes, which check every value.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.device_auth import PUBLIC_KEY_BYTES
from butter_proto.endpoint import Endpoint, parse_url
from butter_proto.errors import InvalidSettings
from butter_proto.identity import Identity
from butter_proto.pins import Pin
from butter_proto.proxy_address import ProxyAddress
from butter_proto.secret import Secret
from butter_proto.settings import (
    Dialect,
    Framing,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Settings,
    Timeouts,
)
from butter_proto.testing.recording.data import BadRecording
from butter_proto.testing.recording.fillers import Fillers

_PARTS: Final[Mapping[str, type]] = {
    "identity": Identity,
    "timeouts": Timeouts,
    "keepalive": KeepaliveSettings,
    "reconnect": ReconnectSettings,
    "limits": Limits,
}
_ENUMS: Final[Mapping[str, type[Enum]]] = {
    "dialect": Dialect,
    "framing": Framing,
    "probe": Probe,
}
_CODEC: Final = "json"
"""Not written: whoever reads JSON, the decisions are the same, and it need not be installed."""

_NO_CONNECTOR: Final = (
    *(InvalidSettings, TypeError, KeyError, ValueError, AttributeError),
    *(OverflowError, RecursionError),
)
"""What a stranger's first line may raise."""


@attrs.frozen
class Construction:
    """All that a connector is made of, but for chance."""

    endpoint: Endpoint
    settings: Settings = attrs.field(repr=False)
    public_key: bytes | None
    """Of its device; None without one."""
    hold_queue: bool

    def learn(self, fillers: Fillers) -> None:
        """Tell the secrets."""
        fillers.learn(self.settings.secrets)

    def to_json(self, fillers: Fillers) -> dict[str, Any]:
        """Write it without secrets."""
        endpoint = self.endpoint
        target = "/".ljust(len(endpoint.target), "x")
        settings = {
            field.name: _to_json(getattr(self.settings, field.name), fillers)
            for field in attrs.fields(Settings)
            if field.name != _CODEC
        }
        return {
            "url": attrs.evolve(endpoint, target=target).url,
            "settings": settings,
            "public_key": None if self.public_key is None else self.public_key.hex(),
            "hold_queue": self.hold_queue,
        }

    @classmethod
    def from_json(cls, told: Any) -> Construction:
        """Read it. Raises `BadRecording`."""
        try:
            return cls(
                parse_url(told["url"])[0],
                _settings(told["settings"]),
                _public_key(told["public_key"]),
                told["hold_queue"] is True,
            )
        except _NO_CONNECTOR as error:
            raise BadRecording(f"its first line makes no connector: {_said(error)}") from None


def _to_json(value: Any, fillers: Fillers) -> Any:  # noqa: PLR0911 - one line a type
    match value:
        case Secret():
            return fillers.of(value.reveal())
        case Enum():
            return value.value
        case Pin():
            return value.digest.hex()
        case ProxyAddress():
            return str(attrs.evolve(value, username=None, password=None))
        case tuple():
            return [_to_json(item, fillers) for item in value]
        case _ if attrs.has(type(value)):
            return {
                field.name: _to_json(getattr(value, field.name), fillers)
                for field in attrs.fields(type(value))
            }
    return fillers.name(value) if isinstance(value, str) else value


def _settings(told: dict[str, Any]) -> Settings:
    return Settings(**_values(told))


def _values(told: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name in _PARTS and value is not None:
            values[name] = _PARTS[name](**_values(value))
        elif name in _ENUMS:
            values[name] = _ENUMS[name](value)
        else:
            values[name] = value
    return values


def _public_key(told: str | None) -> bytes | None:
    if told is None:
        return None
    key = bytes.fromhex(told)
    if len(key) != PUBLIC_KEY_BYTES:
        raise InvalidSettings("the public key has another size")
    return key


def _said(error: Exception) -> str:
    """Say in words what is wrong."""
    match error:
        case InvalidSettings():
            return str(error)
        case KeyError():
            return f"it lacks {error}"
    return "a value in it is none of those that belong there"
