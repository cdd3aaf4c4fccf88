"""Private files: modes, owners, kinds and sizes, the lock, and what a fault leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from butter_proto import private_file
from butter_proto.errors import StoreError
from butter_proto.storage import files
from butter_proto.storage.files import LOCK_FILE, PrivateFolder
from tests.storage.scenario import files_in, give_away, line_of, mode_of, needs_modes, process, tell

NAME = "kept.bin"
OLD = b"old-secret"
NEW = b"new-secret" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> PrivateFolder:
    """A folder in which a file is kept."""
    folder = PrivateFolder(tmp_path / "kept")
    write(folder, OLD)
    return folder


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def _umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    assert tmp_path.is_dir()  # made with the umask before
    before = os.umask(request.param)
    yield
    os.umask(before)


def write(folder: PrivateFolder, content: bytes = NEW) -> None:
    with folder.locked() as locked:
        locked.replace(NAME, content)


def read(folder: PrivateFolder) -> bytes | None:
    return folder.read(NAME, 100_000)


# --- modes and owners -----------------------------------------------------------------------


@needs_modes
@pytest.mark.usefixtures("_umask")
def test_whatever_the_umask_only_this_user_may_use_what_is_made(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path / "above" / "kept")
    write(folder, OLD)
    write(folder)
    assert read(folder) == NEW
    assert [mode_of(path) for path in (folder.path.parent, folder.path)] == [0o700, 0o700]
    assert files_in(folder.path) == sorted([LOCK_FILE, NAME])
    assert [mode_of(path) for path in folder.path.iterdir()] == [0o600, 0o600]


@needs_modes
@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666])
def test_a_file_that_others_may_use_is_refused_and_left_as_it_is(
    folder: PrivateFolder, mode: int
) -> None:
    path = folder.path / NAME
    path.chmod(mode)
    with pytest.raises(StoreError, match=f"mode {mode:04o}.: chmod 600 {path};"):
        read(folder)
    assert (path.read_bytes(), mode_of(path)) == (OLD, mode)
    path.chmod(0o600)
    assert read(folder) == OLD


def test_a_file_that_nobody_may_write_is_read(folder: PrivateFolder) -> None:
    (folder.path / NAME).chmod(0o400)
    assert read(folder) == OLD


@needs_modes
@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(folder: PrivateFolder, mode: int) -> None:
    folder.path.chmod(mode)
    for use in (read, write):
        with pytest.raises(StoreError, match=f"mode {mode:04o}.: chmod 700 {folder.path}"):
            use(folder)
    folder.path.chmod(0o755)  # to look into it does no harm
    assert read(folder) == OLD


@needs_modes
@pytest.mark.parametrize("whose", ["shared", "root's"])
def test_nobody_is_told_to_close_a_folder_that_others_need(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Such as /tmp."""
    folder.path.chmod(0o1777 if whose == "shared" else 0o777)
    if whose == "root's":
        os.chown(folder.path, 0, 0) if os.geteuid() == 0 else pytest.skip("needs root")
        monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(StoreError, match=r"use a folder of its own$"):
        read(folder)


@needs_modes
def test_another_users_file_is_refused(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(folder.path / NAME, monkeypatch)
    with pytest.raises(StoreError, match=r"belongs to user id \d+, and this process runs as"):
        read(folder)


@needs_modes
def test_another_users_folder_is_refused(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(folder.path, monkeypatch)
    for use in (read, write):
        with pytest.raises(StoreError, match=r"kept belongs to user id"):
            use(folder)


def test_where_files_have_no_modes_none_are_looked_at(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_file, "POSIX", False)
    folder.path.chmod(0o777)
    (folder.path / NAME).chmod(0o666)
    assert read(folder) == OLD
    write(folder)
    assert read(folder) == NEW


# --- kinds and sizes ------------------------------------------------------------------------


def test_where_nothing_is_kept_nothing_is_read_and_nothing_is_made(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path / "kept")
    assert read(folder) is None
    assert not folder.exists()
    folder.path.mkdir(0o700)
    assert read(folder) is None
    assert files_in(folder.path) == []


@needs_modes
def test_a_link_in_the_place_of_a_file_is_refused(folder: PrivateFolder, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (folder.path / NAME).rename(target)
    (folder.path / NAME).symlink_to(target)
    with pytest.raises(StoreError, match="is a symbolic link"):
        read(folder)


@needs_modes
def test_a_link_in_the_place_of_the_folder_is_followed(
    folder: PrivateFolder, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder.path)
    linked = PrivateFolder(tmp_path / "link")
    write(linked)
    assert read(folder) == NEW
    folder.path.chmod(0o777)
    with pytest.raises(StoreError, match="chmod 700"):
        read(linked)


@needs_modes
def test_a_pipe_is_refused_without_waiting_for_its_writer(folder: PrivateFolder) -> None:
    (folder.path / NAME).unlink()
    os.mkfifo(folder.path / NAME, 0o600)
    with pytest.raises(StoreError, match="is no regular file"):
        read(folder)


@needs_modes
def test_a_folder_in_the_place_of_a_file_is_refused(folder: PrivateFolder) -> None:
    (folder.path / NAME).unlink()
    (folder.path / NAME).mkdir(0o700)
    with pytest.raises(StoreError, match=r"is no regular file|Is a directory"):
        read(folder)
    with pytest.raises(StoreError, match=f"cannot use {folder.path / NAME}"):
        write(folder)
    assert files_in(folder.path) == sorted([LOCK_FILE, NAME])


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for use in (read, write):
            with pytest.raises(StoreError, match=r"is no folder|Not a directory"):
                use(PrivateFolder(path))


def test_a_file_of_the_limit_is_read_and_a_larger_one_refused(folder: PrivateFolder) -> None:
    assert folder.read(NAME, len(OLD)) == OLD
    with pytest.raises(StoreError, match=f"more than {len(OLD) - 1} bytes"):
        folder.read(NAME, len(OLD) - 1)


def test_removing_tells_whether_the_file_was_there(folder: PrivateFolder) -> None:
    with folder.locked() as locked:
        assert locked.remove(NAME)
        assert not locked.remove(NAME)
    assert files_in(folder.path) == [LOCK_FILE]


# --- faults ---------------------------------------------------------------------------------


class Full:
    """A function of ``os`` that fails at one call and else does what it does."""

    def __init__(self, name: str, call: int, fault: BaseException) -> None:
        self._real = getattr(os, name)
        self._left = call
        self._fault = fault

    def __call__(self, *arguments: Any) -> Any:
        self._left -= 1
        if not self._left:
            raise self._fault
        return self._real(*arguments)


@pytest.mark.parametrize("path", ["a\0b", "\0"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(StoreError, match="is no folder's name"):
        PrivateFolder(Path(path))


@needs_modes
def test_a_relative_folder_needs_a_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreError, match="cannot use kept: No such file"):
        PrivateFolder(Path("kept"))


@needs_modes
def test_a_folder_is_made_below_one_that_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if path == tmp_path:  # as mode 0300 does to anybody but root
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    folder = PrivateFolder(tmp_path / "kept")
    write(folder)
    assert read(folder) == NEW


@needs_modes
@pytest.mark.parametrize("name", ["fchmod", "fsync", "replace"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch, name: str, fault: BaseException
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, name, Full(name, 1, fault))
        with pytest.raises((StoreError, KeyboardInterrupt)) as raised:
            write(folder)
    assert isinstance(raised.value, KeyboardInterrupt) or "No space left" in str(raised.value)
    assert (read(folder), files_in(folder.path)) == (OLD, sorted([LOCK_FILE, NAME]))
    write(folder)  # the lock was let go
    assert read(folder) == NEW


@needs_modes
def test_a_folder_that_cannot_be_synced_is_told_and_the_file_is_whole(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", Full("fsync", 2, OSError(errno.EIO, "I/O error")))
        with pytest.raises(StoreError, match="I/O error"):
            write(folder)
    assert (read(folder), files_in(folder.path)) == (NEW, sorted([LOCK_FILE, NAME]))


@needs_modes
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_syncs_no_folders_is_good_enough(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", Full("fsync", 2, OSError(number, "not for folders")))
    write(folder)
    assert read(folder) == NEW


@needs_modes
def test_the_file_is_synced_before_it_takes_its_place_and_the_folder_after(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        fsync(file)

    def replaced(source: str, target: Path) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write(folder)
    assert steps == ["file", "replace", "folder"]


LIMITED = """
import resource, sys
from pathlib import Path
from butter_proto.errors import StoreError
from butter_proto.storage.files import PrivateFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with PrivateFolder(Path(sys.argv[1])).locked() as locked:
        locked.replace("kept.bin", b"n" * 1001)
except StoreError as error:
    print(error)
"""


@needs_modes
def test_a_disk_that_takes_only_a_part_leaves_the_old_file_and_nothing_else(
    folder: PrivateFolder,
) -> None:
    with process(LIMITED, folder.path) as running:
        assert line_of(running) == f"cannot use {folder.path / NAME}: File too large"
    assert (read(folder), files_in(folder.path)) == (OLD, sorted([LOCK_FILE, NAME]))


WRITING = """
import sys
from pathlib import Path
from butter_proto.storage.files import PrivateFolder
while True:
    for letter in b"ab":
        with PrivateFolder(Path(sys.argv[1])).locked() as locked:
            locked.replace("kept.bin", bytes([letter]) * 50_000)
        print(flush=True)
"""


def test_a_writer_that_is_killed_at_any_time_leaves_a_whole_file(folder: PrivateFolder) -> None:
    for writes in range(1, 9):
        with process(WRITING, folder.path) as running:
            for _ in range(writes):
                line_of(running)
            running.kill()  # in the middle of the next write
        content = read(folder)
        assert content in (b"a" * 50_000, b"b" * 50_000)
    write(folder)
    assert (read(folder), files_in(folder.path)) == (NEW, sorted([LOCK_FILE, NAME]))


@pytest.mark.parametrize("use", ["replace", "remove"])
def test_what_a_killed_writer_left_goes_with_the_next_change(
    folder: PrivateFolder, use: str
) -> None:
    (folder.path / f"{NAME}.half.new").write_bytes(NEW[:10])
    (folder.path / "other.new").write_bytes(b"not ours")
    with folder.locked() as locked:
        if use == "replace":
            locked.replace(NAME, NEW)
        else:
            locked.remove(NAME)
    assert f"{NAME}.half.new" not in files_in(folder.path)
    assert "other.new" in files_in(folder.path)


# --- the lock -------------------------------------------------------------------------------

HOLDING = """
import sys
from pathlib import Path
from butter_proto.storage.files import PrivateFolder
with PrivateFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def test_a_lock_that_stays_held_is_told_and_reading_does_not_wait_for_it(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.1)
    with process(HOLDING, folder.path) as holder:
        assert line_of(holder) == "held"
        with pytest.raises(StoreError, match=r"device\.lock has been held .* for 0\.1 s; look for"):
            write(folder)
        assert read(folder) == OLD


def test_a_writer_waits_until_the_other_process_is_done(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 60.0)
    with process(HOLDING, folder.path) as holder:
        assert line_of(holder) == "held"
        soon = Timer(0.1, tell, [holder])
        soon.start()
        write(folder)
        assert line_of(holder) == "released"
        soon.join()
    assert read(folder) == NEW


@needs_modes
def test_a_holder_that_is_killed_or_stopped_holds_no_longer_than_it_lives(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.1)
    with process(HOLDING, folder.path) as holder:
        assert line_of(holder) == "held"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match="look for a stopped butter command"):
            write(folder)
        holder.kill()
        holder.wait()
        write(folder)
    assert read(folder) == NEW


@needs_modes
def test_a_lock_that_cannot_be_made_is_told(folder: PrivateFolder) -> None:
    (folder.path / LOCK_FILE).unlink()
    (folder.path / LOCK_FILE).mkdir()
    with pytest.raises(StoreError, match=r"cannot use .*device\.lock"):
        write(folder)
    assert read(folder) == OLD


@needs_modes
@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_told_and_nothing_is_written(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.1)
    with pytest.raises(StoreError, match=r"device\.lock.* cannot be locked on this file system"):
        write(folder)
    assert read(folder) == OLD
