"""Writing a file that only its owner may read, whole or not at all. No part of the pure core.

Rules kept here:

* What is written goes into a new file beside the old one, with mode 0600, is synced, and is then
  renamed over it; then the folder is synced. So reading needs no lock, and of two that write at
  once one wins.
* Only a file is replaced: what else stands there (a device, a pipe) stays.
* An error names the file that was asked for, not the new one beside it.
* Where files have no POSIX modes (Windows) none are set, and no folder is synced.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

POSIX: Final = os.name == "posix"
PRIVATE: Final = 0o600  # the mode of a private file
SUFFIX: Final = ".new"
"""How the name of a file ends that is not whole yet; it begins with the other's name and a dot."""
_SYNCS_NO_FOLDERS: Final = (errno.EINVAL, errno.ENOTSUP)
"""What some file systems say to it."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a file; when this returns it is durable.

    Raises OSError; the file is then as it was (or, where only the sync of the folder failed, whole
    and new), and nothing half written is left.
    """
    with _new_beside(path) as (file, new):
        with open(file, "wb") as opened:  # noqa: PTH123 - a descriptor
            if POSIX:
                os.fchmod(file, PRIVATE)  # whatever the umask took away
            opened.write(content)
            opened.flush()
            os.fsync(file)
        os.replace(new, path)  # noqa: PTH105 - beside its fsync
        sync_folder(path.parent)


def check_replaceable(path: Path) -> None:
    """Raise the OSError that `replace_file` would raise by now; nothing is changed."""
    with _new_beside(path) as (file, new):
        os.close(file)
        os.unlink(new)  # noqa: PTH108 - beside its mkstemp


@contextmanager
def _new_beside(path: Path) -> Iterator[tuple[int, str]]:
    """Give a new file, open, and its name; it goes where an error comes. Errors name ``path``."""
    try:
        if path.exists() and not path.is_file():
            kind = errno.EISDIR if path.is_dir() else errno.EINVAL
            raise OSError(kind, "It is no file")  # noqa: TRY301 - it is named as the others
        file, new = tempfile.mkstemp(SUFFIX, f"{path.name}.", path.parent)  # O_EXCL, mode 0600
        try:
            yield file, new
        except BaseException:
            with suppress(OSError):
                os.unlink(new)  # noqa: PTH108 - beside its mkstemp
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def sync_folder(path: Path) -> None:
    """Make a rename or a removal durable. Raises OSError."""
    if not POSIX:
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _SYNCS_NO_FOLDERS:
            raise
    finally:
        os.close(folder)
