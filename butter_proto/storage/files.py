"""Private files: who may read them, how they are replaced, and who else is writing.

Rules kept here:

* What is read is this user's own and nobody else's to read or write; otherwise it is refused, with
  what to do about it. Where files have no POSIX modes (Windows) nothing of this can be seen.
* A file is written whole or not at all (private_file.py). Reading therefore needs no lock.
* Only who holds the folder's lock writes, and it is held for one operation, never for a
  program's life. What a killed program left half written goes at the next write.
* Every fault is a `StoreError` that names the file. None has a word of what a file holds.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from butter_proto import private_file
from butter_proto.errors import StoreError
from butter_proto.private_file import PRIVATE, SUFFIX, replace_file, sync_folder

LOCK_FILE: Final = "device.lock"
"""Stays where it is: a lock file that is removed splits those who wait for it."""
LOCK_TIMEOUT: Final = 3.0
"""Seconds to wait for another process. Online waits 5 s for a token to be stored."""

_FOLDER_MODE: Final = 0o700
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
_READ_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
    | getattr(os, "O_BINARY", 0)
)


class PrivateFolder:
    """A folder of private files. It is made at the first write, with mode 0700.

    A later change of the working folder changes nothing. Raises `StoreError` for what is no path.
    """

    def __init__(self, path: Path) -> None:
        if "\0" in str(path):
            raise StoreError(f"{str(path)!r} is no folder's name")
        with _named(path):
            self.path = path.absolute()

    def exists(self) -> bool:
        """Tell whether the folder is there. Raises `StoreError` where that cannot be seen."""
        with _named(self.path):
            return self.path.exists()

    def has(self, name: str) -> bool:
        """Tell whether there is a file, or a link, of a name. Raises `StoreError` as `exists`."""
        path = self.path / name
        with _named(path):
            try:
                path.lstat()
            except FileNotFoundError:
                return False
        return True

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's content, or None where there is no such file.

        Raises `StoreError` where the file or the folder is not private, the file is no regular
        file or has over ``limit`` bytes, or it cannot be read.
        """
        path = self.path / name
        with _named(path):
            try:
                _check_folder(self.path)
                file = os.open(path, _READ_FLAGS)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    # a link's target lies in a folder that nobody looked at, and a write would
                    # put a file in the place of the link and leave the target as it was
                    raise StoreError(f"{path} is a symbolic link; put the file itself") from None
                raise
            with open(file, "rb") as opened:  # noqa: PTH123 - a descriptor
                _check_file(path, os.fstat(file))
                content = opened.read(limit + 1)
        if len(content) > limit:
            raise StoreError(f"{path} has more than {limit:,} bytes; it is none of ours")
        return content

    @contextmanager
    def locked(self) -> Iterator[LockedFolder]:
        """Hold the folder's lock, so that what is written follows from what was read.

        Makes the folder where there is none. Waits `LOCK_TIMEOUT` for another process, then
        raises `StoreError`, as it does where the folder is not private.
        """
        lock_path = self.path / LOCK_FILE
        with _named(self.path):
            _make_folder(self.path)
            _check_folder(self.path)
        lock = FileLock(lock_path, mode=PRIVATE)
        with _named(lock_path):
            _acquire(lock, lock_path)
        try:
            yield LockedFolder(self.path)
        finally:
            with _named(lock_path):
                lock.release()


class LockedFolder:
    """A folder whose lock is held: the only way to write. Got from `PrivateFolder.locked`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whole, with mode 0600; when this returns it is durable.

        Raises `StoreError`; the file is then as it was (or, where only the sync of the folder
        failed, whole and new), and nothing half written is left.
        """
        path = self._path / name
        with _named(path):
            self._remove_leftovers(name)
            replace_file(path, content)

    def remove(self, name: str) -> bool:
        """Remove a file, unread, and what was left half written; tell whether it was there.

        Raises `StoreError`.
        """
        path = self._path / name
        with _named(path):
            self._remove_leftovers(name)
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(self._path)
        return True

    def _remove_leftovers(self, name: str) -> None:
        """Remove what a killed process left: under the lock nobody is writing it."""
        for entry in self._path.iterdir():
            if entry.name.startswith(f"{name}.") and entry.name.endswith(SUFFIX):
                entry.unlink(missing_ok=True)


def _acquire(lock: BaseFileLock, path: Path) -> None:
    fault: Exception | None = None
    try:
        lock.acquire(timeout=LOCK_TIMEOUT)
    except (NotImplementedError, OSError) as error:
        fault = error
    if isinstance(lock, SoftFileLock):  # filelock's way out: a file, that a killed process leaves
        lock.release()
        fault = NotImplementedError()
    if isinstance(fault, NotImplementedError) or getattr(fault, "errno", None) in _NO_LOCKS:
        raise StoreError(
            f"{path} cannot be locked on this file system (flock); use a folder on another one"
        ) from fault
    if isinstance(fault, Timeout):
        raise StoreError(
            f"{path} has been held by another process for {LOCK_TIMEOUT:g} s; look for a stopped "
            "butter command or another program that uses this device"
        )
    if fault is not None:
        raise fault


def _make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each for this user alone."""
    if path.is_dir() or path == path.parent:
        return
    _make_folder(path.parent)
    with suppress(FileExistsError):  # another process was faster; it is looked at as any other
        path.mkdir(_FOLDER_MODE)
        path.chmod(_FOLDER_MODE)  # whatever the umask took away
        with suppress(PermissionError):  # a folder that lets us make one, and not look into it
            sync_folder(path.parent)


def _check_folder(path: Path) -> None:
    """Refuse a folder in which others could put another file. A link to a good one is good."""
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{path} is no folder")
    if not private_file.POSIX:
        return
    if found.st_uid not in (os.geteuid(), 0):  # root may do anything anyway
        raise StoreError(f"{path} belongs to {_owner(found)}")
    if found.st_mode & _OTHERS_WRITE:
        own = found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX
        raise StoreError(
            f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o}): "
            + (f"chmod 700 {shlex.quote(str(path))}" if own else "use a folder of its own")
        )


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is no regular file")
    if not private_file.POSIX:
        return
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to {_owner(found)}")
    if found.st_mode & _OTHERS:
        raise StoreError(
            f"others may use {path} (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"chmod 600 {shlex.quote(str(path))}; if others could have read it, make a new device"
        )


def _owner(found: os.stat_result) -> str:
    return (
        f"user id {found.st_uid}, and this process runs as {os.geteuid()}: "
        "run it as that user, or use another folder"
    )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Tell a fault of the operating system with the file's name."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror or error}") from error
