"""Certificates for tests: real ones, and what else a peer may show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SEQUENCE: Final = 0x30
_SHORT: Final = 0x80


@cache
def key(kind: str) -> Key:
    """Make a key, once for each kind."""
    match kind:
        case "EC":
            return ec.generate_private_key(ec.SECP256R1())
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case _:
            return ed25519.Ed25519PrivateKey.generate()


@cache
def certificate(kind: str = "EC", name: str = "gateway.local") -> bytes:
    """Make a self-signed certificate (DER), once for each kind of key and name."""
    made = key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(made.public_key())
        .serial_number(1)
        .not_valid_before(_BORN)
        .not_valid_after(_BORN + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    algorithm = None if isinstance(made, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(made, algorithm).public_bytes(Encoding.DER)


def certificate_digest(der: bytes) -> bytes:
    """Return what pins the certificate."""
    return hashlib.sha256(der).digest()


def key_of(der: bytes) -> bytes:
    """Return its SubjectPublicKeyInfo, read by a library."""
    found = x509.load_der_x509_certificate(der).public_key()
    return found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_digest(der: bytes) -> bytes:
    """Return what pins its key."""
    return hashlib.sha256(key_of(der)).digest()


# --- DER, to take certificates apart ---------------------------------------------------------


def element(tag: int, body: bytes) -> bytes:
    """Write one element (X.690, 8.1)."""
    size = len(body)
    if size < _SHORT:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, _SHORT | len(length)]) + length + body


def sequence(parts: Iterable[bytes]) -> bytes:
    """Write a SEQUENCE."""
    return element(_SEQUENCE, b"".join(parts))


def parts_of(data: bytes) -> list[bytes]:
    """Split the contents of an element into the elements they are; well-formed ones only."""
    rest = data[_head_size(data) :]
    parts = []
    while rest:
        size = _head_size(rest)
        length = rest[1] if size == 2 else int.from_bytes(rest[2:size])
        parts.append(rest[: size + length])
        rest = rest[size + length :]
    return parts


def version_1(der: bytes) -> bytes:
    """Return a certificate without version and extensions; its signature is wrong then."""
    signed, *others = parts_of(der)
    return sequence([sequence(parts_of(signed)[1:7]), *others])


def _head_size(data: bytes) -> int:
    return 2 if data[1] < _SHORT else 2 + data[1] - _SHORT
