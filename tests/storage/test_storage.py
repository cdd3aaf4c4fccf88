"""A device in its folder: opened, described, made anew, forgotten."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

from butter_proto.device_auth import device_id
from butter_proto.errors import StoreError
from butter_proto.secret import Secret
from butter_proto.storage import (
    FOLDER_VARIABLE,
    Ed25519Key,
    FileTokenStore,
    default_folder,
    describe_device,
    extra,
    forget_device,
    has_device,
    new_device,
    open_device,
)
from tests.storage.scenario import FIRST, KEY, OTHER_KEY, SECOND, files_in, line_of, process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "device"


def test_a_device_is_there_whatever_is_wrong_with_it(folder: Path) -> None:
    assert not has_device(folder)
    folder.mkdir(mode=0o700)
    assert not has_device(folder)
    assert files_in(folder) == []
    (folder / "device.pem").symlink_to("nowhere")
    assert has_device(folder)


def test_a_folder_that_cannot_be_looked_into_is_an_error(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreError, match="cannot use"):
        has_device(folder)


# --- which folder ---------------------------------------------------------------------------


def test_the_default_folder_is_among_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert default_folder().is_absolute()
    assert default_folder().parts[-2:] == ("openbutter", "device")


def test_the_environment_names_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    assert default_folder() == folder
    opened = open_device()
    assert describe_device().folder == folder
    assert describe_device(str(folder)).device_id == device_id(opened.signer.public_key)


def test_an_empty_variable_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    default = default_folder()
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert default_folder() == default


def test_a_relative_folder_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "device")
    with pytest.raises(StoreError, match=f"set {FOLDER_VARIABLE} to one"):
        default_folder()


def test_a_folder_given_as_relative_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    device = open_device("device")
    monkeypatch.chdir(tmp_path / "elsewhere")
    device.tokens.save(KEY, FIRST)
    assert files_in(tmp_path / "device") == ["device.lock", "device.pem", "tokens.json"]
    assert files_in(tmp_path / "elsewhere") == []


# --- a device's life ------------------------------------------------------------------------


def test_an_opened_device_signs_and_keeps_tokens(folder: Path) -> None:
    device = open_device(folder)
    assert isinstance(device.signer, Ed25519Key)
    device.tokens.save(KEY, FIRST)
    again = open_device(folder, create=False)
    assert again.signer.public_key == device.signer.public_key
    assert again.tokens.load(KEY) == FIRST
    assert "secret" not in repr(again)


def test_only_a_device_that_is_kept_is_opened_or_described_without_being_made(
    folder: Path,
) -> None:
    for use in (lambda: open_device(folder, create=False), lambda: describe_device(folder)):
        with pytest.raises(StoreError, match=f"no device is kept in {folder}"):
            use()
    assert not folder.exists()


def test_a_description_has_the_identity_and_the_tokens_but_no_secret(folder: Path) -> None:
    device = open_device(folder)
    device.tokens.save(KEY, FIRST)
    device.tokens.save(OTHER_KEY, SECOND)
    described = describe_device(folder)
    assert described.device_id == device_id(device.signer.public_key)
    assert len(described.public_key) == 43
    assert [token.key for token in described.tokens] == [KEY, OTHER_KEY]
    assert [token.scopes for token in described.tokens] == [FIRST.scopes, SECOND.scopes]
    assert "-secret" not in repr(described)


def test_a_new_device_takes_the_place_of_the_one_before_and_of_its_tokens(folder: Path) -> None:
    before = open_device(folder)
    before.tokens.save(KEY, FIRST)
    new = new_device(folder)
    assert new.signer.public_key != before.signer.public_key
    assert new.tokens.load(KEY) is None
    assert open_device(folder).signer.public_key == new.signer.public_key


def test_a_new_device_is_made_where_none_was(folder: Path) -> None:
    assert new_device(folder).signer.public_key == open_device(folder).signer.public_key


def test_a_new_device_that_cannot_be_written_leaves_the_one_before_with_its_tokens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_device(folder)
    before.tokens.save(KEY, FIRST)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            new_device(folder)
    after = open_device(folder)
    assert after.signer.public_key == before.signer.public_key
    assert after.tokens.load(KEY) == FIRST


def test_a_forgotten_device_is_gone_and_what_was_removed_is_told(folder: Path) -> None:
    before = open_device(folder)
    before.tokens.save(KEY, FIRST)
    (folder / "device.pem.half.new").write_bytes(b"left by a killed process")
    assert forget_device(folder) == (folder / "tokens.json", folder / "device.pem")
    assert files_in(folder) == ["device.lock"]
    assert forget_device(folder) == ()
    assert open_device(folder).signer.public_key != before.signer.public_key


def test_forgetting_where_no_device_is_makes_nothing(folder: Path) -> None:
    assert forget_device(folder) == ()
    assert not folder.exists()


def test_only_new_and_forget_remove_a_device_that_cannot_be_used(folder: Path) -> None:
    open_device(folder)
    for renew in (forget_device, new_device):
        for name in ("device.pem", "tokens.json"):
            (folder / name).write_bytes(b"broken")
            (folder / name).chmod(0o600)
        with pytest.raises(StoreError, match=r"device\.pem is no private key"):
            open_device(folder)
        with pytest.raises(StoreError, match=r"tokens\.json is no JSON"):
            FileTokenStore(folder).forget(KEY, Secret("refused"))
        assert (folder / "device.pem").read_bytes() == b"broken"
        assert (folder / "tokens.json").read_bytes() == b"broken"
        renew(folder)
        assert FileTokenStore(folder).kept() == ()
    open_device(folder, create=False)


# --- what it needs --------------------------------------------------------------------------

IMPORT = """
import pickle, sys
sys.modules[sys.argv[1]] = None
from butter_proto.errors import StoreError
for module in ("butter_proto.storage", "butter_proto.storage.tokens"):
    try:
        __import__(module)
    except StoreError as error:
        print(pickle.loads(pickle.dumps(error)), flush=True)
"""


@pytest.mark.parametrize("name", ["cryptography", "filelock", "platformdirs"])
def test_what_is_missing_of_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError, match=rf"needs {name}: pip install 'openbutter\[device\]'"):
        runpy.run_path(str(extra.__file__))


def test_without_the_extra_every_import_says_how_to_get_it() -> None:
    with process(IMPORT, "filelock") as running:
        told = "keeping a device in files needs filelock: pip install 'openbutter[device]'"
        assert [line_of(running), line_of(running)] == [told] * 2


def test_a_program_that_still_runs_keeps_no_token_for_a_device_that_is_gone(folder: Path) -> None:
    running = open_device(folder)
    running.tokens.save(KEY, FIRST)
    forget_device(folder)
    with pytest.raises(StoreError, match="keeps none now; open it anew"):
        running.tokens.save(KEY, SECOND)
    assert files_in(folder) == ["device.lock"]
    made = new_device(folder)
    with pytest.raises(StoreError, match="keeps another one now"):
        running.tokens.save(KEY, SECOND)
    assert describe_device(folder).tokens == ()
    made.tokens.save(KEY, FIRST)
    running.tokens.forget(KEY, Secret("other"))
    assert open_device(folder).tokens.load(KEY) == FIRST
