"""Ed25519 signatures checked in plain Python (RFC 8032, 5.1.7), so that every machine checks alike.

Rules kept here:

* It handles public values only. It is not constant in time, and nothing here signs.
* The check is the one without cofactor, on the encoded point, as OpenSSL does it.
* Nothing raises: what is no key or no signature is not verified. It takes some milliseconds.
"""

from __future__ import annotations

import hashlib
from typing import Final

from butter_proto.device_auth import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

_Point = tuple[int, int, int, int]
"""Extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x*y = T/Z (RFC 8032, 5.1.4)."""

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE: Final = pow(2, (_P - 1) // 4, _P)
_BITS: Final = 253
"""Scalars are below the order."""
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a raw signature (64 bytes) of a message is that of a raw key (32 bytes)."""
    key = _decoded(public_key)
    commitment, answer = signature[:32], int.from_bytes(signature[32:], "little")
    if key is None or len(signature) != SIGNATURE_BYTES or answer >= _ORDER:
        return False
    digest = hashlib.sha512(commitment + public_key + message).digest()
    factor = int.from_bytes(digest, "little") % _ORDER
    return _encoded(_combined(answer, _GENERATOR, factor, _negated(key))) == commitment


def _decoded(encoded: bytes) -> _Point | None:
    """Return a point; None where there is none (RFC 8032, 5.1.3)."""
    number = int.from_bytes(encoded, "little")
    odd, y = number >> 255, number & (2**255 - 1)
    if len(encoded) != PUBLIC_KEY_BYTES or y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if x * x % _P != square or (x == 0 and odd):
        return None
    if x & 1 != odd:
        x = _P - x
    return x, y, 1, x * y % _P


def _encoded(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _negated(point: _Point) -> _Point:
    x, y, z, t = point
    return -x % _P, y, z, -t % _P


def _sum(one: _Point, other: _Point) -> _Point:
    """Add two points, which may be the same one: the formulas are complete."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    less, more = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    ts, zs = 2 * _D * t1 * t2 % _P, 2 * z1 * z2 % _P
    e, f, g, h = more - less, zs - ts, zs + ts, more + less
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _combined(a: int, one: _Point, b: int, other: _Point) -> _Point:
    """Return ``a * one + b * other``, bit by bit for both at once."""
    terms = (_NEUTRAL, one, other, _sum(one, other))
    total = _NEUTRAL
    for bit in reversed(range(_BITS)):
        total = _sum(total, total)
        which = (a >> bit & 1) | (b >> bit & 1) << 1
        if which:
            total = _sum(total, terms[which])
    return total


def _generator() -> _Point:
    """Return the point of order ``_ORDER`` that all keys are multiples of: y = 4/5, x even."""
    point = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


_GENERATOR: Final = _generator()
