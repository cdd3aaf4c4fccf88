"""What is kept of the params of a request, and what stands for them in a replay.

Rules kept here:

* There remain the size, the kind and the idempotency key, and what is as large stands for them;
  with ``bodies`` they are kept.
* What cannot be written as JSON becomes something that cannot either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from butter_proto.errors import InvalidParams
from butter_proto.frames import IDEMPOTENCY_KEY, encode_request, nests_too_deep
from butter_proto.testing.recording.data import Budget, object_of

_ENVELOPE: Final = len(encode_request("", "m", 0)) - 1
_NOT_JSON: Final = float("nan")


def params_to_json(params: Any, *, bodies: bool) -> dict[str, Any]:
    """Say of the params of a request what is recorded of them; secrets are still in it."""
    told: dict[str, Any] = {"kind": _kind(params), "size": None}
    try:
        encoded = b"" if params is None else encode_request("", "m", params)
    except InvalidParams:
        return told
    told["size"] = max(0, len(encoded) - _ENVELOPE)
    if isinstance(params, dict) and IDEMPOTENCY_KEY in params:
        key = params[IDEMPOTENCY_KEY]
        told["key"] = key if isinstance(key, str | None) else 0
    if bodies and params is not None:
        plain = json.loads(encoded)["params"]
        if not nests_too_deep(plain):  # what is deeper cannot be walked to be cleaned
            told["params"] = plain
    return told


def params_from_json(told: Any, budget: Budget) -> Any:  # noqa: PLR0911 - one line a kind
    """Return params that are as large, and of the same kind. Raises `BadRecording`."""
    fields = object_of(told)
    if fields.get("kind") == "none":
        return None
    if fields.get("size") is None:
        return {"": _NOT_JSON} if fields.get("kind") == "dict" else _NOT_JSON
    size = budget.take(fields["size"])
    if "params" in fields:
        return fields["params"]
    match fields.get("kind"):
        case "dict":
            return _dict_of(size, fields)
        case "list":
            return [] if size < 3 else [0] if size == 3 else ["x" * (size - 4)]  # noqa: PLR2004
        case "str":
            return "x" * max(0, size - 2)
    return 10 ** min(max(0, size - 1), 300)


def _kind(params: Any) -> str:
    match params:
        case None:
            return "none"
        case dict():
            return "dict"
        case list() | tuple():
            return "list"
        case str():
            return "str"
    return "number"


def _dict_of(size: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "key" in fields:
        made[IDEMPOTENCY_KEY] = fields["key"]
    begin = len(json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode())
    left = size - begin - bool(made)
    if left == 4:  # noqa: PLR2004 - "":0
        made[""] = 0
    elif left > 4:  # noqa: PLR2004
        made[""] = "x" * (left - 5)
    return made
