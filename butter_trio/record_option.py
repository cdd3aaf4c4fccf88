"""``--record FILE``: the flight recorder on the command line.

Rules kept here:

* A file that cannot be written is refused before anything is done: what is worth recording may take
  days to come.
* What happened is written when the connector gives up, and when the command ends, however it does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from butter_proto.errors import LocalProtocolError
from butter_proto.private_file import check_replaceable
from butter_proto.testing.recording import Recorder
from butter_trio.access import Access
from butter_trio.output import tell

_T = TypeVar("_T")


def record_option(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command that takes an ``access`` the option; below ``access_options``."""

    @click.option(
        "--record",
        metavar="FILE",
        callback=_checked,
        help="Keep the last ten minutes for 'butter replay': without secrets, and without what "
        "requests and events carry. A FILE that is there is replaced.",
    )
    @functools.wraps(command)
    def with_recorder(*, access: Access, record: Path | None, **arguments: Any) -> _T:
        if record is None:
            return command(access=access, **arguments)
        if len(arguments.get("urls", ())) > 1:
            raise click.UsageError("--record is for one gateway")
        recorder = Recorder(record)
        try:
            return command(access=attrs.evolve(access, recorder=recorder), **arguments)
        finally:
            _save(recorder)

    return with_recorder


def _checked(_: click.Context, __: click.Parameter, given: str | None) -> Path | None:
    """Return where to write to. Raises `click.BadParameter` where that cannot be done."""
    if given is None:
        return None
    if given in {"", "-"}:
        raise click.BadParameter("a recording needs the name of a file")
    path = Path(given)
    try:
        check_replaceable(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}") from None
    return path


def _save(recorder: Recorder) -> None:
    try:
        path = recorder.save()
    except LocalProtocolError:  # it never came to a connection
        return
    except OSError as error:
        tell(f"the recording could not be written: {error.filename}: {error.strerror}")
    else:
        tell(f"recorded: {path}")
