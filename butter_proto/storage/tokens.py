"""The tokens that gateways gave a device, in one private JSON file.

Rules kept here:

* What is written can be read again: a save that would leave more than the limits fails.
* A file that is not understood is left as it is, by ``save`` and by ``forget`` too: its tokens
  may be the only way in.
* Keys that a newer version added are kept, but not on a token that is replaced: they were said of
  the one before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, Final

import attrs

from butter_proto.device import LONGEST_TOKEN, DeviceToken, TokenKey, kept_of
from butter_proto.errors import StoreError
from butter_proto.secret import Secret, is_text
from butter_proto.storage.files import PrivateFolder
from butter_proto.storage.key import kept_key

TOKENS_FILE: Final = "tokens.json"
LONGEST_ENTRY: Final = 16 * 1024
"""Characters of one token with its key and scopes: no gateway takes the room of the others."""
LARGEST_FILE: Final = 1024 * 1024
"""Bytes of all tokens: about 2,500 of the gateway's size."""
_VERSION: Final = 1
_ADVICE: Final = "mend it, or remove it and connect with the shared token"


@attrs.frozen
class KeptToken:
    """What may be shown of a token that is kept."""

    key: TokenKey
    scopes: tuple[str, ...]
    saved_at_ms: int
    """When it was saved, by this machine's clock: milliseconds since 1970. Decides nothing."""


class FileTokenStore:
    """A `TokenStore` in a private folder. Several threads and processes may use it at once.

    With a ``public_key`` it saves only while that device is the one that is kept there.
    """

    def __init__(self, folder: Path, public_key: bytes | None = None) -> None:
        self._folder = PrivateFolder(folder)
        self._public_key = public_key
        self._path = self._folder.path / TOKENS_FILE

    def load(self, key: TokenKey) -> DeviceToken | None:
        """Return the token kept under a key, or None. Raises `StoreError`."""
        for entry in self._document()["tokens"]:
            if _key_of(entry) == key:
                return _token_of(entry)
        return None

    def save(self, key: TokenKey, token: DeviceToken, replaces: Secret | None = None) -> None:
        """Keep what `kept_of` says; it is durable when this returns.

        Raises `StoreError`; then what was kept before still is. So it does where another process
        forgot the device, or made a new one: nobody could ever use the token.
        """
        _entry_of(key, token)

        def with_token(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            self._check_device()
            for place, before in enumerate(entries):
                if _key_of(before) == key:
                    entry = _entry_of(key, kept_of(_token_of(before), token, replaces))
                    same = before["token"] == entry["token"]
                    entry = before | entry if same else entry
                    return [*entries[:place], entry, *entries[place + 1 :]]
            return [*entries, _entry_of(key, token)]

        self._change(with_token)

    def forget(self, key: TokenKey, token: Secret) -> None:
        """Forget a token that was refused, unless another one is kept there by now.

        Raises `StoreError`; then what was kept before still is.
        """

        def is_refused(entry: dict[str, Any]) -> bool:
            return _key_of(entry) == key and Secret(entry["token"]) == token

        if any(is_refused(entry) for entry in self._document()["tokens"]):
            self._change(lambda entries: [entry for entry in entries if not is_refused(entry)])

    def kept(self) -> tuple[KeptToken, ...]:
        """Return what may be shown of every token kept. Raises `StoreError`."""
        return tuple(
            KeptToken(_key_of(entry), tuple(entry["scopes"]), entry["saved_at_ms"])
            for entry in self._document()["tokens"]
        )

    def _check_device(self) -> None:
        if self._public_key is None:
            return
        kept = kept_key(self._folder)
        if kept is None or kept.public_key != self._public_key:
            raise StoreError(
                f"the device was forgotten: {self._folder.path} keeps "
                f"{'none' if kept is None else 'another one'} now; open it anew"
            )

    def _change(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        with self._folder.locked() as files:
            document = self._document()
            document["tokens"] = change(document["tokens"])
            with self._as_json():
                content = json.dumps(document, indent=2).encode() + b"\n"
            if len(content) > LARGEST_FILE:
                raise StoreError(
                    f"{self._path} is full ({LARGEST_FILE:,} bytes); forget the device"
                )
            files.replace(TOKENS_FILE, content)

    def _document(self) -> dict[str, Any]:
        """Return the file's content, every shape in it looked at."""
        content = self._folder.read(TOKENS_FILE, LARGEST_FILE)
        if content is None:
            return {"version": _VERSION, "tokens": []}
        with self._as_json():
            document = json.loads(content)
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is not int:
            raise StoreError(f"{self._path} says no version; {_ADVICE}")
        if version != _VERSION:
            raise StoreError(
                f"{self._path} is of another version than {_VERSION}: update openbutter"
            )
        entries = document.get("tokens")
        if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
            raise StoreError(f"{self._path} has a token of another shape; {_ADVICE}")
        if len({_key_of(entry) for entry in entries}) != len(entries):
            raise StoreError(f"{self._path} has two tokens for one use; {_ADVICE}")
        return dict(document)

    @contextmanager
    def _as_json(self) -> Iterator[None]:
        """Tell of what is no JSON, or nested deeper than the interpreter's stack."""
        try:
            yield
        except (ValueError, RecursionError):
            raise StoreError(f"{self._path} is no JSON; {_ADVICE}") from None


def _is_entry(entry: Any) -> bool:
    """Tell whether this has the shape of a token that is kept."""
    return (
        isinstance(entry, dict)
        and all(is_text(entry.get(field.name)) for field in attrs.fields(TokenKey))
        and is_text(entry.get("token"))
        and isinstance(entry.get("scopes"), list)
        and all(is_text(scope) for scope in entry["scopes"])
        and type(entry.get("saved_at_ms")) is int
        and type(entry.get("issued_at_ms")) in (int, NoneType)
        and len(entry["token"]) <= LONGEST_TOKEN
    )


def _entry_of(key: TokenKey, token: DeviceToken) -> dict[str, Any]:
    """Write a token as it is kept. Raises `StoreError` for one that could not be read again."""
    entry = attrs.asdict(key) | {
        "token": token.token.reveal(),
        "scopes": list(token.scopes),
        "issued_at_ms": token.issued_at,
        "saved_at_ms": time.time_ns() // 1_000_000,
    }
    if not _is_entry(entry) or len(json.dumps(entry)) > LONGEST_ENTRY:
        raise StoreError(f"the token that {key.origin} gave cannot be kept: too long, or no text")
    return entry


def _token_of(entry: dict[str, Any]) -> DeviceToken:
    return DeviceToken(Secret(entry["token"]), entry["scopes"], entry.get("issued_at_ms"))


def _key_of(entry: dict[str, Any]) -> TokenKey:
    return TokenKey(*(entry[field.name] for field in attrs.fields(TokenKey)))
