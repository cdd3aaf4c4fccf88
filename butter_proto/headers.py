"""Headers that the application adds to the upgrade request.

Rules kept here:

* Names are tokens (RFC 9110, 5.6.2), values visible ASCII and single spaces or tabs inside: no
  header can end its line and begin another.
* What the upgrade itself says cannot be said twice (`OWN_HEADERS`).
* Every value is a secret: such headers are mostly credentials. No error shows one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from butter_proto.errors import InvalidSettings
from butter_proto.secret import LONG_ENOUGH, Secret

Headers = tuple[tuple[str, Secret], ...]

MAX_HEADERS: Final = 7 * 1024
"""Bytes of all added headers together; a Node server takes 16 KiB of head, 8 KiB of target and the
upgrade's own headers included."""
OWN_HEADERS: Final = ("Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding")
"""The names that belong to the upgrade, with all that begin with ``Sec-WebSocket-``."""
_OWN_NAMES: Final = frozenset(map(str.lower, OWN_HEADERS))
_OWN_PREFIX: Final = "sec-websocket-"
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[!-~]+(?:[ \t][!-~]+)*")
_SHAPE: Final = "headers are a mapping, or pairs, of names and values"
_AROUND: Final = len(": \r\n")
_COOKIE: Final = "cookie"
_SPACE: Final = re.compile(r"[ \t]")
_CREDENTIALS: Final = ("authorization", "proxy-authorization")


def to_headers(
    value: Mapping[str, str | Secret] | Iterable[tuple[str, str | Secret]],
) -> Headers:
    """Convert what a caller gives as headers. Raises `InvalidSettings`, without any value."""
    headers = tuple(map(_header, _pairs_of(value)))
    size = sum(len(name) + len(secret.reveal()) + _AROUND for name, secret in headers)
    if size > MAX_HEADERS:
        raise InvalidSettings(f"headers have {size} bytes; at most {MAX_HEADERS} are sent")
    return headers


def secrets_of_headers(headers: Headers) -> Iterator[Secret]:
    """Yield the values, and what is secret of itself in them.

    Of credentials that is the part behind the scheme (RFC 9110, 11.4), of a Cookie header each
    cookie's value (RFC 6265, 4.2.1); a short one is a word as others are.
    """
    for name, secret in headers:
        yield secret
        text, kind = secret.reveal(), name.lower()
        if kind in _CREDENTIALS:
            yield from map(Secret, _SPACE.split(text, maxsplit=1)[1:])
        elif kind == _COOKIE:
            values = (cookie.partition("=")[2] for cookie in text.split("; "))
            yield from (Secret(value) for value in values if len(value) >= LONG_ENOUGH)


def _pairs_of(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidSettings(_SHAPE)
    return value


def _header(pair: object) -> tuple[str, Secret]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
        raise InvalidSettings(_SHAPE)
    name, value = pair
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSettings("the name of a header is a token (RFC 9110, 5.6.2)")
    if name.lower() in _OWN_NAMES or name.lower().startswith(_OWN_PREFIX):
        raise InvalidSettings(f"the header {name} belongs to the upgrade itself")
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not _VALUE.fullmatch(text):
        raise InvalidSettings(f"the value of the header {name} must be visible ASCII")
    return name, Secret(text)
