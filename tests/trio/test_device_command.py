"""``butter device``: what it shows, what it never shows, and what it asks before it forgets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from butter_proto.device import DeviceToken, TokenKey
from butter_proto.secret import Secret
from butter_proto.storage import FOLDER_VARIABLE, FileTokenStore, describe_device, open_device
from butter_proto.storage.key import KEY_FILE
from butter_proto.storage.tokens import TOKENS_FILE
from butter_trio.commands import run
from butter_trio.device_command import age_text
from tests.trio.command_line import butter

HERE = "ws://127.0.0.1:18789"
THERE = "wss://gateway.example:443"
TOKEN = "QQ-a-device-token-QQ"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this machine's device."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "device"))
    return tmp_path / "device"


@pytest.fixture
def device_id(folder: Path) -> str:
    """The id of a device that is kept, with a token for two gateways."""
    open_device(folder)
    device_id = describe_device(folder).device_id
    store = FileTokenStore(folder)
    scopes = ("operator.read", "operator.\x1b[31mwrite")
    store.save(TokenKey(HERE, device_id, "cli", "operator"), DeviceToken(Secret(TOKEN), scopes))
    store.save(TokenKey(THERE, "d" * 64, "cli", "node"), DeviceToken(Secret(TOKEN), ()))
    return device_id


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


# --- show -----------------------------------------------------------------------------------


def test_show_tells_who_the_device_is_and_what_it_was_given(
    device_id: str, folder: Path, capfd: Capture
) -> None:
    assert run(["device", "show"]) == 0
    out, errors = capfd.readouterr()
    assert out.splitlines()[0] == f"device id   {device_id}"
    assert describe_device(folder).public_key in out
    assert str(folder) in out
    assert f"{HERE} cli operator\n" in out
    assert "s old, operator.read, operator.\\x1b[31mwrite\n" in out
    assert f"{THERE} cli node (of another device, {'d' * 64})\n" in out
    assert "s old, no scopes\n" in out
    assert errors == ""
    assert TOKEN not in out


def test_show_as_json_is_one_object_without_any_token(
    device_id: str, folder: Path, capfd: Capture
) -> None:
    assert run(["device", "show", "--json"]) == 0
    out = capfd.readouterr().out
    shown = json.loads(out)
    assert list(shown) == ["device_id", "public_key", "folder", "tokens", "error"]
    assert (shown["device_id"], shown["folder"], shown["error"]) == (device_id, str(folder), None)
    assert shown["tokens"][1] == {
        "gateway": THERE,
        "device_id": "d" * 64,
        "client_id": "cli",
        "role": "node",
        "scopes": [],
        "saved_at_ms": describe_device(folder).tokens[1].saved_at_ms,
    }
    assert TOKEN not in out


def test_show_tells_of_no_tokens(folder: Path, capfd: Capture) -> None:
    open_device(folder)
    assert run(["device", "show"]) == 0
    assert capfd.readouterr().out.endswith("tokens      none\n")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_show_tells_the_id_also_where_the_tokens_cannot_be_read(
    as_json: list[str], device_id: str, folder: Path, capfd: Capture
) -> None:
    (folder / TOKENS_FILE).write_text(f"{TOKEN}")
    assert run(["device", "show", *as_json]) == 1
    out, errors = capfd.readouterr()
    assert device_id in out
    assert errors.startswith(f"butter: {folder / TOKENS_FILE} is no JSON; ")
    assert errors.count("\n") == 1
    assert TOKEN not in out + errors
    if as_json:
        shown = json.loads(out)
        assert shown["tokens"] is None
        assert errors == f"butter: {shown['error']}\n"


def test_show_without_a_device_is_one_line_and_makes_none(folder: Path, capfd: Capture) -> None:
    assert run(["device", "show"]) == 1
    assert capfd.readouterr().err == (
        f"butter: no device is kept in {folder}: 'butter device new' makes one\n"
    )
    assert not folder.exists()


@pytest.mark.usefixtures("device_id")
def test_show_of_a_key_that_cannot_be_read_is_one_line(folder: Path, capfd: Capture) -> None:
    (folder / KEY_FILE).write_text("no key")
    assert run(["device", "show"]) == 1
    out, errors = capfd.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert str(folder / KEY_FILE) in errors


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (7_300, "2 h"), (900_000, "10 d")],
)
def test_an_age_is_said_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


# --- new ------------------------------------------------------------------------------------


def test_new_makes_a_device_and_prints_its_id(folder: Path, capfd: Capture) -> None:
    assert run(["device", "new"]) == 0
    assert capfd.readouterr().out == f"{describe_device(folder).device_id}\n"


@pytest.mark.parametrize("key", [None, "no key"])
def test_new_replaces_nothing_unless_it_is_told_to(
    key: str | None, device_id: str, folder: Path, capfd: Capture
) -> None:
    if key is not None:
        (folder / KEY_FILE).write_text(key)
    before = (folder / KEY_FILE).read_bytes()
    assert run(["device", "new"]) == 1
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert "every gateway has to approve the new one" in errors
    assert (folder / KEY_FILE).read_bytes() == before
    assert run(["device", "new", "--replace"]) == 0
    made = describe_device(folder)
    assert capfd.readouterr().out == f"{made.device_id}\n"
    assert made.device_id != device_id
    assert made.tokens == ()


# --- forget ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("device_id")
@pytest.mark.parametrize("yes", ["--yes", "y\n", "Yes\n"])
def test_forget_removes_the_device_once_it_is_confirmed(
    yes: str, folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "" if yes == "--yes" else yes)
    options = [yes] if yes == "--yes" else []
    assert run(["device", "forget", *options]) == 0
    assert "forgot the device and its tokens\n" in capfd.readouterr().err
    assert not (folder / KEY_FILE).exists()
    assert not (folder / TOKENS_FILE).exists()
    assert run(["device", "forget", "--yes"]) == 0
    assert capfd.readouterr().err == f"no device was kept in {folder}\n"


@pytest.mark.usefixtures("device_id")
@pytest.mark.parametrize("no", ["", "\n", "n\n", "what?\n"])
def test_forget_keeps_everything_without_a_yes(
    no: str, folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, no)
    assert run(["device", "forget"]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith(f"Forget the device and its tokens in {folder}? [y/N] ")
    assert errors.endswith("nothing was forgotten\n")
    assert ("--yes" in errors) == (no == "")
    assert len(describe_device(folder).tokens) == 2


def test_forget_of_one_gateway_keeps_the_device_and_the_other_tokens(
    device_id: str, folder: Path, capfd: Capture
) -> None:
    assert run(["device", "forget", "--yes", "--gateway", f"{HERE}/?token=x"]) == 0
    assert capfd.readouterr().err == f"forgot 1 token of {HERE}; the device stays\n"
    assert run(["device", "forget", "--yes", "--gateway", HERE]) == 0
    assert capfd.readouterr().err == f"forgot 0 tokens of {HERE}; the device stays\n"
    kept = describe_device(folder)
    assert kept.device_id == device_id
    assert [token.key.origin for token in kept.tokens] == [THERE]


@pytest.mark.usefixtures("device_id")
def test_forget_of_a_gateway_that_cannot_be_one_is_wrong_usage(capfd: Capture) -> None:
    assert run(["device", "forget", "--yes", "--gateway", "http://h"]) == 2
    assert "starts with ws:// or wss://" in capfd.readouterr().err


# --- all of them ----------------------------------------------------------------------------


def test_each_takes_another_folder(tmp_path: Path, folder: Path, capfd: Capture) -> None:
    options = ["--device-folder", str(tmp_path / "other")]
    assert run(["device", "new", *options]) == 0
    made = capfd.readouterr().out.strip()
    assert run(["device", "show", "--json", *options]) == 0
    assert json.loads(capfd.readouterr().out)["device_id"] == made
    assert run(["device", "forget", "--yes", *options]) == 0
    assert not folder.exists()


def test_a_device_is_made_and_shown_by_processes_of_their_own(folder: Path) -> None:
    made = butter("device", "new")
    assert (made.returncode, made.stderr) == (0, "")
    shown = butter("device", "show", "--json")
    assert json.loads(shown.stdout)["device_id"] == made.stdout.strip()
    assert butter("device", "forget").returncode == 1  # nobody answers
    assert describe_device(folder).device_id == made.stdout.strip()
