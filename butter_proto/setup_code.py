"""Reading what ``openclaw qr`` gives to pair a device with: a bootstrap token, and where to use it.

Rules kept here:

* A setup code is base64url of a JSON object with ``url`` and ``bootstrapToken``; other keys are
  passed over. A text that is nothing of the kind is a bootstrap token itself.
* A ``?token=`` in its url is left out: it is the code's token that pairs, and the connector would
  use the other one first.
* A code that was copied in part is an error, not a token that the gateway would refuse.
* No error shows the code. Whether it has expired is for the gateway to say: this machine's clock
  may be wrong (lesson 5).
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

import attrs

from butter_proto.endpoint import parse_url
from butter_proto.errors import InvalidSettings
from butter_proto.secret import Secret, is_text

_START: Final = re.compile(rb'\{\s*"[A-Za-z]{3}')
"""How a JSON object begins, and a random token does not, but one in millions."""
_STANDARD: Final = str.maketrans("+/", "-_")
"""The other alphabet of base64 (RFC 4648, 4 and 5)."""
_ADVICE: Final = "copy all of it, or make a new one: openclaw qr --setup-code-only"


@attrs.frozen
class SetupCode:
    """What pairs a device once. ``url`` is None where only a bootstrap token was given."""

    bootstrap_token: Secret
    url: str | None = attrs.field(default=None, repr=False)


def parse_setup_code(text: str) -> SetupCode:
    """Read a setup code, or take a bootstrap token as it is. Raises `InvalidSettings`.

    White space in it does not count: it comes from copying.
    """
    code = "".join(text.split())
    whole_groups = code[: len(code) // 4 * 4]
    if not _START.match(_decoded(whole_groups)):
        return SetupCode(Secret(code))
    try:
        fields: dict[str, Any] = json.loads(_decoded(code))
    except (ValueError, RecursionError):
        raise InvalidSettings(f"this setup code is damaged: {_ADVICE}") from None
    url, shown = fields.get("url"), fields.get("bootstrapToken")
    if not (isinstance(url, str) and isinstance(shown, str) and is_text(shown)):
        raise InvalidSettings(f"this setup code has no url or no bootstrapToken: {_ADVICE}")
    endpoint, shared_token = parse_url(url)
    return SetupCode(Secret(shown), url if shared_token is None else endpoint.url)


def _decoded(code: str) -> bytes:
    """Return what base64url says, padded or not; ``b""`` where it is none."""
    text = code.rstrip("=").translate(_STANDARD)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
