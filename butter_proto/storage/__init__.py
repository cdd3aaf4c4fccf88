"""Keeps a device in files: its key in ``device.pem``, its tokens in ``tokens.json``.

This folder does file I/O and is no part of the pure core, which never imports it. It needs the
extra ``device``; without it the import raises `StoreError`, which says how to get it.

Every call takes the device's folder, by default `default_folder`. Calls block: in an event loop
make them in a thread. All raise `StoreError`, which names the file and what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from butter_proto.device import Device
from butter_proto.device_auth import base64url, device_id
from butter_proto.errors import StoreError
from butter_proto.storage.extra import platformdirs
from butter_proto.storage.files import PrivateFolder
from butter_proto.storage.key import (
    KEY_FILE,
    Ed25519Key,
    kept_key,
    kept_or_new_key,
    new_key,
)
from butter_proto.storage.tokens import TOKENS_FILE, FileTokenStore, KeptToken

__all__ = [
    "FOLDER_VARIABLE",
    "DeviceDescription",
    "Ed25519Key",
    "FileTokenStore",
    "KeptToken",
    "default_folder",
    "describe_device",
    "forget_device",
    "has_device",
    "new_device",
    "open_device",
]

FOLDER_VARIABLE: Final = "OPENBUTTER_DEVICE_FOLDER"
"""The environment variable that names the device's folder, absolute."""


@attrs.frozen
class DeviceDescription:
    """What may be shown of a device that is kept."""

    folder: Path
    device_id: str
    public_key: str
    """base64url without padding, as the gateway shows it."""
    tokens: tuple[KeptToken, ...]


def default_folder() -> Path:
    """Return the folder of this user's device; nothing is made.

    It is what `FOLDER_VARIABLE` says, else ``openbutter/device`` where the platform keeps a user's
    data that stays on this machine. Raises `StoreError` where that is no absolute path.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named or platformdirs.user_data_path("openbutter", appauthor=False) / "device")
    if not folder.is_absolute():  # another identity in every working folder, else
        raise StoreError(f"no absolute folder to keep a device in: set {FOLDER_VARIABLE} to one")
    return folder


def open_device(folder: Path | str | None = None, *, create: bool = True) -> Device:
    """Return the device that is kept in a folder, for ``connect(device=...)``.

    Where none is kept one is made, its key durable, or with ``create=False`` `StoreError` raised.
    """
    place = _place(folder)
    key = kept_or_new_key(place) if create else _kept(place)
    return Device(key, FileTokenStore(place.path, key.public_key))


def has_device(folder: Path | str | None = None) -> bool:
    """Tell whether a device is kept in a folder, whatever is wrong with it; nothing is made."""
    return _place(folder).has(KEY_FILE)


def new_device(folder: Path | str | None = None) -> Device:
    """Make a new device in place of the one before, whose tokens are forgotten.

    The one before is lost, even where it could not be read; the new one has to be approved.
    """
    place = _place(folder)
    with place.locked() as files:
        key = new_key(files)  # first: if it fails the device before is whole, tokens and all
        files.remove(TOKENS_FILE)
    return Device(key, FileTokenStore(place.path, key.public_key))


def forget_device(folder: Path | str | None = None) -> tuple[Path, ...]:
    """Remove a device's tokens and its key, read or not; return the files that were there.

    The gateways still list the device: ``openclaw devices remove`` is for them.
    """
    place = _place(folder)
    if not place.exists():
        return ()
    with place.locked() as files:
        return tuple(place.path / name for name in (TOKENS_FILE, KEY_FILE) if files.remove(name))


def describe_device(folder: Path | str | None = None) -> DeviceDescription:
    """Return what may be shown of the device that is kept in a folder; no token, no private key."""
    place = _place(folder)
    key = _kept(place).public_key
    tokens = FileTokenStore(place.path).kept()
    return DeviceDescription(place.path, device_id(key), base64url(key), tokens)


def _place(folder: Path | str | None) -> PrivateFolder:
    return PrivateFolder(default_folder() if folder is None else Path(folder))


def _kept(place: PrivateFolder) -> Ed25519Key:
    key = kept_key(place)
    if key is None:
        raise StoreError(f"no device is kept in {place.path}")
    return key
