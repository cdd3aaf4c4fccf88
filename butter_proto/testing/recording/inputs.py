"""The arguments of a recorded input as JSON; arguments.py is the way back.

Rules kept here:

* Times, ids, options and codes are kept. Params are told already (params.py), and data is clean.
* What cannot be written as JSON becomes something that cannot either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.errors import TransportFault
from butter_proto.reconnect import is_known_reason
from butter_proto.request_options import Auto, Offline
from butter_proto.settings import Default
from butter_proto.testing.recording.data import data_to_json
from butter_proto.testing.recording.fillers import Fillers
from butter_proto.testing.recording.messages import Messages
from butter_proto.testing.recording.streams import PONG, Streams

AUTO_TOLD: Final[Mapping[str, bool]] = {"auto": True}
"""Stands for an idempotency key that the connector makes."""


class Inputs:
    """Writes the arguments of inputs."""

    def __init__(self, streams: Streams, messages: Messages, fillers: Fillers) -> None:
        self._streams = streams
        self._messages = messages
        self._fillers = fillers

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as JSON; ``data`` is clean already."""
        told: dict[str, Any] = {}
        for name, value in given.items():
            match name:
                case "params":
                    told[name] = self._fillers.json(value)
                case "idempotency_key" if isinstance(value, str):
                    told[name] = self._fillers.name(value)
                case "payload":
                    told[name] = data_to_json(self._streams.control(PONG, value))
                case "message":
                    told[name] = self._message(value)
                case "reason" if isinstance(value, str) and not is_known_reason(value):
                    told[name] = " " * len(value)
                case _:
                    told[name] = self._value(value)
        return told

    def _message(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            return data_to_json(self._messages.clean(message))
        try:
            return {"text": data_to_json(self._messages.clean(message.encode()))}
        except UnicodeEncodeError:
            return {"text": len(message)}  # no UTF-8; whether it is too long is looked at before

    def _value(self, value: Any) -> Any:  # noqa: PLR0911 - one line a type
        match value:
            case bytes():
                return data_to_json(value)
            case DeviceToken(token, scopes, issued_at):
                return {
                    "token": self._fillers.of(token.reveal()),
                    "scopes": list(scopes),
                    "issued_at": issued_at,
                }
            case Credentials(token, password, bootstrap):
                secrets = {"token": token, "password": password, "bootstrap_token": bootstrap}
                return {
                    name: None if secret is None else self._fillers.of(secret.reveal())
                    for name, secret in secrets.items()
                }
            case TransportFault(kind, text):
                return {"kind": kind.name, "text": self._fillers.text(text)}
            case SignedPayload() | Offline() | Default():
                return value.name
            case Auto():
                return {**AUTO_TOLD}
            case str():
                return self._fillers.text(value)
            case float() if not math.isfinite(value):
                return {"float": str(value)}
            case bool() | int() | float() | None:
                return value
        return 0
