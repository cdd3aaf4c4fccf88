"""Certificates known by their SHA-256: reading pins, and holding a peer's certificate to them.

Rules kept here:

* A pin is the digest of the peer's own certificate (the leaf, DER) or of the SubjectPublicKeyInfo
  in it. Either is compared with both, and one match of one pin is enough.
* A certificate is foreign bytes: one that cannot be read matches no key, and nothing raises.
* The reader of the key is as strict as DER. A TLS library may take a certificate that is written
  otherwise; then no key is found, never another one than the peer has proved to hold.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

import attrs

from butter_proto.errors import InvalidSettings

_DIGEST_BYTES: Final = 32
_OF_NOTHING: Final = hashlib.sha256(b"").digest()
"""What ``openssl ... | openssl dgst -sha256`` prints where its first part failed."""
_HEX: Final = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}")
_BASE64: Final = re.compile(r"(?:sha256//?)?([A-Za-z0-9+/]{43}=)")

_INTEGER: Final = 0x02
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_FIELDS: Final = (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE)
"""Serial number, signature, issuer, validity, subject, key (RFC 5280, 4.1)."""
_VALIDITY, _KEY = 3, 5
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_TIME: Final = re.compile(rb"(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_LONG_FORM: Final = 0x80
_MOST_LENGTH_BYTES: Final = 4


def _is_digest(_: object, __: attrs.Attribute[bytes], value: object) -> None:
    if not isinstance(value, bytes) or len(value) != _DIGEST_BYTES:
        raise InvalidSettings(f"a pin's digest has {_DIGEST_BYTES} bytes")
    if value == _OF_NOTHING:
        raise InvalidSettings(
            "this pin is the SHA-256 of nothing: what should have read the certificate failed"
        )


@attrs.frozen(repr=False)
class Pin:
    """The SHA-256 of a certificate, or of its public key. `Settings` takes its text forms too."""

    digest: bytes = attrs.field(validator=_is_digest)

    def matches(self, certificate: bytes) -> bool:
        """Tell whether a certificate (DER), or the key in it, has this digest. Never raises."""
        if hashlib.sha256(certificate).digest() == self.digest:
            return True
        key = public_key_info(certificate)
        return key is not None and hashlib.sha256(key).digest() == self.digest

    def __repr__(self) -> str:
        return f"Pin({_with_colons(self.digest)})"


def to_pins(value: str | Pin | Iterable[str | Pin]) -> tuple[Pin, ...]:
    """Convert what a caller gives as pins, one or several. Raises `InvalidSettings`.

    A text is 64 hex digits with or without colons, as openssl writes a fingerprint, or base64, with
    ``sha256/`` or ``sha256//`` before it or not, as HPKP and curl write the digest of a key.
    """
    if isinstance(value, str | Pin):
        return (_to_pin(value),)
    if not isinstance(value, Iterable):
        raise InvalidSettings(f"pins are texts: {value!r}")
    return tuple(map(_to_pin, value))


def fingerprints(certificate: bytes) -> str:
    """Write both digests of a certificate for people, each in a form that `to_pins` takes."""
    text = f"certificate {_with_colons(hashlib.sha256(certificate).digest())}"
    key = public_key_info(certificate)
    if key is None:
        return text
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"{text}, public key sha256/{digest}"


def public_key_info(certificate: bytes) -> bytes | None:
    """Return the SubjectPublicKeyInfo (DER) of a certificate, or None where it cannot be read."""
    try:
        key = _signed_fields(certificate)[_KEY]
    except _NotDer:
        return None
    return certificate[key.start : key.end]


def valid_until(certificate: bytes) -> str | None:
    """Return when a certificate (DER) expires, like ``2026-12-31T23:59:59Z``; None: unreadable."""
    try:
        validity = _signed_fields(certificate)[_VALIDITY]
        begin = _time(certificate, validity.body, validity.end)
        end = _time(certificate, begin.end, validity.end)
    except _NotDer:
        return None
    found = _TIME.fullmatch(certificate[end.body : end.end])
    if found is None:
        return None
    year, *others = (part.decode() for part in found.groups())
    if len(year) == 2:  # noqa: PLR2004 - RFC 5280, 4.1.2.5.1
        year = ("19" if year >= "50" else "20") + year
    return "{}-{}-{}T{}:{}:{}Z".format(year, *others)


def _to_pin(value: object) -> Pin:
    if isinstance(value, Pin):
        return value
    if not isinstance(value, str):
        raise InvalidSettings(f"a pin is a text: {value!r}")
    text = value.strip()
    if _HEX.fullmatch(text):
        return Pin(bytes.fromhex(text.replace(":", "")))
    if found := _BASE64.fullmatch(text):
        return Pin(base64.b64decode(found[1]))
    raise InvalidSettings(
        f"a pin is a SHA-256, 64 hex digits or base64 (sha256/...); this is none: {value!r}"
    )


def _with_colons(digest: bytes) -> str:
    return binascii.hexlify(digest, ":").decode().upper()


class _NotDer(Exception):
    """Another element than the one that is due."""


@attrs.frozen
class _Element:
    """Where an element and its contents begin, and where it ends."""

    start: int
    body: int
    end: int


def _signed_fields(certificate: bytes) -> list[_Element]:
    """Return the fields of a certificate's signed part, from its serial number to its key."""
    outer = _element(certificate, 0, len(certificate), _SEQUENCE)
    if outer.end != len(certificate):
        raise _NotDer
    signed = _element(certificate, outer.body, outer.end, _SEQUENCE)
    place = signed.body
    if certificate[place : place + 1] == bytes([_VERSION]):  # version 1 leaves it out
        place = _element(certificate, place, signed.end, _VERSION).end
    fields = []
    for tag in _FIELDS:
        fields.append(_element(certificate, place, signed.end, tag))
        place = fields[-1].end
    return fields


def _time(data: bytes, start: int, end: int) -> _Element:
    """Read the head of one of the two kinds of time."""
    short = data[start : start + 1] == bytes([_UTC_TIME])
    return _element(data, start, end, _UTC_TIME if short else _GENERALIZED_TIME)


def _element(data: bytes, start: int, end: int, tag: int) -> _Element:
    """Read the head of the element that is due at ``start`` (X.690, 8.1 and 10.1)."""
    if end - start < 2 or data[start] != tag:  # noqa: PLR2004 - a tag and a length
        raise _NotDer
    body = start + 2
    length = data[start + 1]
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        length = int.from_bytes(data[body : body + count])
        shortest = max(1, (length.bit_length() + 7) // 8)
        if not 1 <= count <= _MOST_LENGTH_BYTES or count != shortest or length < _LONG_FORM:
            raise _NotDer
        body += count
    if length > end - body:
        raise _NotDer
    return _Element(start, body, body + length)
