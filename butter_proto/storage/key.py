"""The device's identity: an Ed25519 key in a private file.

Rules kept here:

* The private key leaves its file for `sign` alone: no text form and no pickle has it.
* A key is made only where no file is. One that cannot be used is an error, and stays as it is:
  a gateway approved this identity, and another one would wait for approval again.
"""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from butter_proto.device_auth import device_id
from butter_proto.errors import StoreError
from butter_proto.storage.files import LockedFolder, PrivateFolder

KEY_FILE: Final = "device.pem"
"""PKCS #8 in PEM, not encrypted: ``openssl pkey -in device.pem -noout`` reads it."""
_LONGEST: Final = 16 * 1024
_ADVICE: Final = "restore it from a backup, or forget the device and pair a new one"


class Ed25519Key:
    """A `Signer` whose private key is in this process."""

    __slots__ = ("_private_key", "_public_key")

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_key = private_key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes (RFC 8032, 5.1.6)."""
        return self._private_key.sign(message)

    def __repr__(self) -> str:
        return f"<Ed25519Key of device {device_id(self._public_key)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Ed25519Key is not pickled")


def kept_key(folder: PrivateFolder) -> Ed25519Key | None:
    """Return the key that is kept in a folder, or None where there is none. Raises `StoreError`."""
    pem = folder.read(KEY_FILE, _LONGEST)
    return None if pem is None else _key_of(pem, folder)


def kept_or_new_key(folder: PrivateFolder) -> Ed25519Key:
    """Return the key that is kept in a folder; make one where there is none. Raises `StoreError`.

    Of several processes that do so at once, one makes the key and all get it.
    """
    key = kept_key(folder)
    if key is None:
        with folder.locked() as files:
            key = kept_key(folder) or new_key(files)
    return key


def new_key(files: LockedFolder) -> Ed25519Key:
    """Make a key in place of the one before, and return it. Raises `StoreError`."""
    private_key = Ed25519PrivateKey.generate()
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.replace(KEY_FILE, pem)
    return Ed25519Key(private_key)


def _key_of(pem: bytes, folder: PrivateFolder) -> Ed25519Key:
    path = folder.path / KEY_FILE
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:  # this is how cryptography asks for a password
        raise StoreError(
            f"{path} is encrypted; a device's key is kept without a password"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise StoreError(f"{path} is no private key in PEM (PKCS #8); {_ADVICE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path} is no Ed25519 key; {_ADVICE}")
    return Ed25519Key(key)
