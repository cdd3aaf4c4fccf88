"""The arguments of an input out of JSON; inputs.py wrote them.

Rules kept here:

* What a stranger wrote is believed nowhere: `BadRecording` says what is wrong, and the settings'
  own types check what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.errors import FaultKind, TransportFault
from butter_proto.request_options import AUTO, Offline
from butter_proto.secret import Secret
from butter_proto.settings import DEFAULT
from butter_proto.testing.recording.data import BadRecording, Budget, data_from_json, object_of
from butter_proto.testing.recording.inputs import AUTO_TOLD
from butter_proto.testing.recording.params import params_from_json

_LONE_SURROGATE: Final = "\ud800"


def argument_from_json(name: str, value: Any, budget: Budget) -> Any:
    """Return one argument. Raises `BadRecording`, and what the settings' types raise."""
    convert = _CONVERT.get(name)
    if convert is not None:
        return convert(value, budget)
    if isinstance(value, dict):
        return float(_text_or(value.get("float"), "nan"))
    if not isinstance(value, str | int | float | None):
        raise BadRecording(f"{name[:40]!r} is no text and no number")
    return value


def _device_token(value: Any, _: Budget) -> DeviceToken | None:
    if value is None:
        return None
    fields = object_of(value)
    scopes = fields.get("scopes")
    if not isinstance(scopes, list):
        raise BadRecording("scopes are a list")
    return DeviceToken(Secret(fields.get("token", "")), tuple(scopes), fields.get("issued_at"))


def _credentials(value: Any, _: Budget) -> Credentials:
    fields = object_of(value)
    names = ("token", "password", "bootstrap_token")
    return Credentials(*(_text_or(fields.get(name), None) for name in names))


def _fault(value: Any, _: Budget) -> TransportFault:
    fields = object_of(value)
    return TransportFault(_member(FaultKind, fields.get("kind")), str(fields.get("text", "")))


def _message(value: Any, budget: Budget) -> str | bytes:
    if isinstance(value, list):
        return data_from_json(value, budget)
    text = object_of(value).get("text")
    if isinstance(text, int):
        return _LONE_SURROGATE.ljust(budget.take(text))
    return str(data_from_json(text, budget), "utf-8")


def _key(value: Any, _: Budget) -> Any:
    return AUTO if value == AUTO_TOLD else value


def _timeout(value: Any, _: Budget) -> Any:
    return DEFAULT if value == DEFAULT.name else argument_from_json("", value, _NOTHING)


def _offline(value: Any, _: Budget) -> Any:
    known = isinstance(value, str) and value in Offline.__members__
    return Offline[value] if known else value


def _member(kind: Any, name: Any) -> Any:
    if isinstance(name, str) and name in kind.__members__:
        return kind[name]
    raise BadRecording(f"no {kind.__name__} is named {str(name)[:40]!r}")


def _text_or(value: Any, other: Any) -> Any:
    return value if isinstance(value, str) else other


_NOTHING: Final = Budget(0)
_CONVERT: Final[Mapping[str, Callable[[Any, Budget], Any]]] = {
    "data": data_from_json,
    "payload": data_from_json,
    "message": _message,
    "certificate": lambda value, budget: None if value is None else data_from_json(value, budget),
    "params": params_from_json,
    "device_token": _device_token,
    "newer": _device_token,
    "credentials": _credentials,
    "fault": _fault,
    "signed": lambda value, _: _member(SignedPayload, value),
    "offline": _offline,
    "timeout": _timeout,
    "idempotency_key": _key,
}
