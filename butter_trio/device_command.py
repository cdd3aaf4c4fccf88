"""``butter device``: the identity of this machine, and the tokens that gateways gave it.

Rules kept here:

* No token is shown and no private key: of a token whom it is for, its scopes and its age.
* What cannot be undone is asked for by name: replacing by ``--replace``, forgetting by ``--yes`` or
  an answer.
* What is broken is no obstacle: the identity is shown where its tokens cannot be read, and both
  are replaced and forgotten unread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from butter_proto.device_auth import base64url, device_id
from butter_proto.errors import StoreError
from butter_proto.printable import printable
from butter_trio.options import device_folder_option, to_origin
from butter_trio.output import json_text, tell

if TYPE_CHECKING:
    from butter_proto.storage import KeptToken

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
"""Seconds, and what they are called, largest first."""


@click.group("device")
def device() -> None:
    """Show, make or forget the identity with which --device connects."""


@device.command()
@device_folder_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(*, device_folder: Path | None, as_json: bool) -> int:
    """Show the device's id, and what gateways gave it; never a token."""
    from butter_proto.storage import (  # noqa: PLC0415 - needs an extra
        FileTokenStore,
        default_folder,
        has_device,
        open_device,
    )

    folder = (device_folder or default_folder()).absolute()
    if not has_device(folder):
        own = "" if device_folder is None else f" --device-folder {device_folder}"
        raise StoreError(f"no device is kept in {folder}: 'butter device new{own}' makes one")
    key = open_device(folder, create=False).signer.public_key
    tokens: tuple[KeptToken, ...] | None = None
    error = None
    try:
        tokens = FileTokenStore(folder).kept()
    except StoreError as broken:
        error = str(broken)
    described = {
        "device_id": device_id(key),
        "public_key": base64url(key),
        "folder": str(folder),
        "tokens": None if tokens is None else [_described(token) for token in tokens],
        "error": error,
    }
    if as_json:
        click.echo(json_text(described))
    else:
        _show(described)
    if error is None:
        return 0
    tell(f"butter: {error}")
    return 1


@device.command()
@device_folder_option
@click.option("--replace", is_flag=True, help="Also where there is one, which is lost.")
def new(*, device_folder: Path | None, replace: bool) -> int:
    """Make a device, and print its id."""
    from butter_proto.storage import (  # noqa: PLC0415 - needs an extra
        default_folder,
        has_device,
        new_device,
        open_device,
    )

    folder = (device_folder or default_folder()).absolute()
    if not replace and has_device(folder):
        raise StoreError(
            f"there is a device in {folder}. With --replace it and its tokens are lost, and every "
            "gateway has to approve the new one"
        )
    made = new_device(folder) if replace else open_device(folder)
    click.echo(device_id(made.signer.public_key))
    return 0


@device.command()
@device_folder_option
@click.option(
    "--gateway",
    "origin",
    type=to_origin,
    metavar="URL",
    help="Only the tokens of this gateway; the device stays.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(*, device_folder: Path | None, origin: str | None, yes: bool) -> int:
    """Remove the device and its tokens from this machine.

    The gateways still list it: 'openclaw devices remove' is for them.
    """
    from butter_proto.storage import default_folder, forget_device  # noqa: PLC0415 - an extra

    folder = (device_folder or default_folder()).absolute()
    what = "the device and its tokens" if origin is None else f"the tokens of {origin}"
    if not yes and not _confirmed(f"Forget {what} in {folder}?"):
        tell("nothing was forgotten")
        return 1
    if origin is None:
        count = len(forget_device(folder))
        tell(f"forgot {what}" if count else f"no device was kept in {folder}")
    else:
        tell(f"forgot {_forget_tokens(folder, origin)} of {origin}; the device stays")
    return 0


def _forget_tokens(folder: Path, origin: str) -> str:
    from butter_proto.storage import FileTokenStore  # noqa: PLC0415 - needs an extra

    store = FileTokenStore(folder)
    keys = [token.key for token in store.kept() if token.key.origin == origin]
    for key in keys:
        kept = store.load(key)
        if kept is not None:  # else another process was faster
            store.forget(key, kept.token)
    return "1 token" if len(keys) == 1 else f"{len(keys)} tokens"


def _confirmed(question: str) -> bool:
    """Ask; without anybody who could answer it is a no."""
    click.echo(f"{printable(question)} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo("no answer: --yes gives it", err=True)
    return answer.strip().lower() in ("y", "yes")


def _described(token: KeptToken) -> dict[str, Any]:
    key = token.key
    return {
        "gateway": key.origin,
        "device_id": key.device_id,
        "client_id": key.client_id,
        "role": key.role,
        "scopes": list(token.scopes),
        "saved_at_ms": token.saved_at_ms,
    }


def _show(described: dict[str, Any]) -> None:
    rows = [(name.replace("_", " "), described[name]) for name in ("device_id", "public_key")]
    rows.append(("folder", described["folder"]))
    for token in described["tokens"] or ():
        age = age_text(time.time() - token["saved_at_ms"] / 1000)
        other = token["device_id"] != described["device_id"]
        whose = f" (of another device, {token['device_id']})" if other else ""
        rows.append(("token", f"{token['gateway']} {token['client_id']} {token['role']}{whose}"))
        rows.append(("", f"{age} old, {', '.join(token['scopes']) or 'no scopes'}"))
    if described["tokens"] == []:
        rows.append(("tokens", "none"))
    for name, value in rows:
        click.echo(f"{name:<12}{printable(value)}")


def age_text(seconds: float) -> str:
    """Say a time in the largest unit that fits; what lies ahead (clocks differ) is 0 s."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "0 s"
