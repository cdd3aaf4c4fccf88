"""Tokens in their file: what is kept, what is left alone, and who else writes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from butter_proto.device import DeviceToken, MemoryStore, TokenKey, TokenStore
from butter_proto.errors import StoreError
from butter_proto.secret import Secret
from butter_proto.storage.tokens import (
    LARGEST_FILE,
    LONGEST_ENTRY,
    TOKENS_FILE,
    FileTokenStore,
    KeptToken,
)
from tests.storage.scenario import (
    FIRST,
    KEY,
    OTHER_KEY,
    SECOND,
    files_in,
    line_of,
    mode_of,
    needs_modes,
    process,
    tell,
)

ENTRY: dict[str, Any] = {
    **attrs.asdict(KEY),
    "token": "first-secret",
    "scopes": ["operator.read"],
    "saved_at_ms": 1795397965416,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "device"


def put(folder: Path, content: Any) -> Path:
    """Put a file there that no store wrote."""
    folder.mkdir(0o700)
    path = folder / TOKENS_FILE
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(0o600)
    return path


def content_of(folder: Path) -> Any:
    return json.loads((folder / TOKENS_FILE).read_text())


# --- what a TokenStore promises -------------------------------------------------------------


@needs_modes
def test_a_token_is_found_by_another_store_of_the_same_folder(folder: Path) -> None:
    store: TokenStore = FileTokenStore(folder)
    store.save(KEY, FIRST)
    store.save(OTHER_KEY, SECOND)
    other = FileTokenStore(folder)
    assert (other.load(KEY), other.load(OTHER_KEY)) == (FIRST, SECOND)
    assert mode_of(folder / TOKENS_FILE) == 0o600


def test_where_nothing_is_kept_looking_makes_nothing(folder: Path) -> None:
    store = FileTokenStore(folder)
    assert store.load(KEY) is None
    assert store.kept() == ()
    store.forget(KEY, FIRST.token)
    assert not folder.exists()


def test_forgetting_what_is_not_kept_writes_nothing(folder: Path) -> None:
    store = FileTokenStore(folder)
    store.save(KEY, SECOND)
    before = (folder / TOKENS_FILE).stat()
    store.forget(KEY, FIRST.token)
    store.forget(OTHER_KEY, SECOND.token)
    assert (folder / TOKENS_FILE).stat() == before
    assert store.load(KEY) == SECOND


keys = st.builds(
    TokenKey,
    st.sampled_from(["ws://127.0.0.1:18789", "wss://gateway.example:443"]),
    st.just("d" * 64),
    st.sampled_from(["cli", "test"]),
    st.sampled_from(["operator", "node"]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
tokens = st.sampled_from(["t-1", "t-2", 'quo"ted\\\n', "\u00e9\U0001f511\x00"]).map(Secret)
saves = st.builds(DeviceToken, tokens, st.lists(texts, max_size=3).map(tuple))


@settings(max_examples=60)
@given(st.lists(st.tuples(keys, saves | tokens), max_size=12))
def test_any_saves_and_forgets_leave_what_a_store_in_memory_would_have(
    operations: list[tuple[TokenKey, DeviceToken | Secret]],
) -> None:
    model = MemoryStore()
    used = {key for key, _ in operations}
    with tempfile.TemporaryDirectory() as folder:
        stores = FileTokenStore(Path(folder)), FileTokenStore(Path(folder))  # as two programs
        for number, (key, operand) in enumerate(operations):
            for store in (model, stores[number % 2]):
                if isinstance(operand, DeviceToken):
                    store.save(key, operand)
                else:
                    store.forget(key, operand)
            for each in used:
                assert [store.load(each) for store in stores] == [model.load(each)] * 2
        kept = {each for each in used if model.load(each) is not None}
        assert {token.key for token in stores[0].kept()} == kept


def test_when_a_token_was_saved_is_kept_as_information(folder: Path) -> None:
    store = FileTokenStore(folder)
    before = time.time_ns() // 1_000_000
    store.save(KEY, FIRST)
    (kept,) = store.kept()
    assert before <= kept.saved_at_ms <= time.time_ns() // 1_000_000
    assert kept == KeptToken(KEY, FIRST.scopes, kept.saved_at_ms)


# --- what is not understood is left alone ---------------------------------------------------


def with_entry(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "tokens": [ENTRY | changes]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no JSON"),
        (b'{"version": 1, "tokens": [{"token": "first-secret"', "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"version": ' + b"1" * 5000, "is no JSON"),
        ([], "says no version"),
        ({}, "says no version"),
        ({"version": True, "tokens": []}, "says no version"),
        ({"version": "1", "tokens": []}, "says no version"),
        ({"version": 2, "tokens": []}, "update openbutter"),
        ({"version": 1}, "another shape"),
        ({"version": 1, "tokens": {"first-secret": ENTRY}}, "another shape"),
        ({"version": 1, "tokens": ["first-secret"]}, "another shape"),
        ({"version": 1, "tokens": [{}]}, "another shape"),
        ({"version": 1, "tokens": [ENTRY, ENTRY]}, "two tokens"),
        *[(with_entry(**{name: None}), "another shape") for name in ENTRY],
        *[(with_entry(**{name: ""}), "another shape") for name in ENTRY],
        (with_entry(token="\ud800"), "another shape"),
        (with_entry(scopes="operator.read"), "another shape"),
        (with_entry(scopes=[1]), "another shape"),
        (with_entry(saved_at_ms=True), "another shape"),
        (b" " * (LARGEST_FILE + 1), "more than"),
    ],
)
def test_a_file_that_is_not_understood_is_told_and_never_overwritten(
    folder: Path, content: Any, told: str
) -> None:
    path = put(folder, content)
    before = path.read_bytes()
    store = FileTokenStore(folder)
    uses: list[Callable[[], object]] = [
        lambda: store.load(KEY),
        lambda: store.save(KEY, SECOND),
        lambda: store.forget(KEY, FIRST.token),
        store.kept,
    ]
    for use in uses:
        with pytest.raises(StoreError, match=told) as raised:
            use()
        assert str(path) in str(raised.value)
        assert "-secret" not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert path.read_bytes() == before


def test_what_a_newer_version_added_is_kept_where_it_is_still_true(folder: Path) -> None:
    other = ENTRY | attrs.asdict(OTHER_KEY) | {"expires": 5}
    put(folder, {"version": 1, "made_by": "newer", "tokens": [ENTRY | {"expires": 4}, other]})
    store = FileTokenStore(folder)
    store.save(KEY, DeviceToken(Secret("first-secret"), ("operator.admin",)))
    same, untouched = content_of(folder)["tokens"]
    both = [*ENTRY["scopes"], "operator.admin"]
    assert (same["expires"], same["scopes"], untouched) == (4, both, other)
    store.save(KEY, SECOND)
    replaced, untouched = content_of(folder)["tokens"]
    assert ("expires" not in replaced, untouched) == (True, other)
    store.forget(KEY, SECOND.token)
    assert content_of(folder) == {"version": 1, "made_by": "newer", "tokens": [other]}


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        DeviceToken(Secret("t"), ("s" * LONGEST_ENTRY,)),
        DeviceToken(Secret("\0" * 4000), ()),
    ],
    ids=["scope", "escaped token"],
)
def test_a_token_that_could_not_be_read_again_is_not_saved(
    folder: Path, token: DeviceToken
) -> None:
    store = FileTokenStore(folder)
    store.save(KEY, FIRST)
    with pytest.raises(StoreError, match=f"that {KEY.origin} gave cannot be kept"):
        store.save(KEY, token)
    assert store.load(KEY) == FIRST


def test_a_full_file_takes_no_more_and_loses_nothing(folder: Path) -> None:
    entries = [
        ENTRY | {"client_id": f"{number}", "token": "t" * 4000, "scopes": ["s" * 11_000]}
        for number in range(68)
    ]
    path = put(folder, {"version": 1, "tokens": entries})
    assert path.stat().st_size < LARGEST_FILE
    store = FileTokenStore(folder)
    with pytest.raises(StoreError, match="is full"):
        store.save(KEY, DeviceToken(Secret("t" * 4000), ("s" * 11_000,)))
    assert content_of(folder)["tokens"] == entries
    store.forget(TokenKey(KEY.origin, KEY.device_id, "0", KEY.role), Secret("t" * 4000))
    store.save(KEY, FIRST)
    assert store.load(KEY) == FIRST


# --- several at once ------------------------------------------------------------------------

SAVING = """
import sys
from pathlib import Path
from butter_proto.device import DeviceToken, TokenKey
from butter_proto.secret import Secret
from butter_proto.storage import FileTokenStore
store = FileTokenStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    key = TokenKey(f"ws://{sys.argv[2]}:{number}", "d", "cli", "operator")
    store.save(key, DeviceToken(Secret("old"), ()))
    store.save(key, DeviceToken(Secret("new"), ()))
    gone = TokenKey(f"ws://{sys.argv[2]}:gone", "d", "cli", "operator")
    store.save(gone, DeviceToken(Secret("gone"), ()))
    store.forget(gone, Secret("gone"))
print("done", flush=True)
"""


def test_processes_that_save_at_once_lose_nothing_of_each_other(folder: Path) -> None:
    with ExitStack() as running:
        processes = [running.enter_context(process(SAVING, folder, name)) for name in "abc"]
        assert [line_of(each) for each in processes] == ["ready"] * 3
        for each in processes:
            tell(each)
        assert [line_of(each) for each in processes] == ["done"] * 3
    store = FileTokenStore(folder)
    kept = {token.key.origin for token in store.kept()}
    assert kept == {f"ws://{name}:{number}" for name in "abc" for number in range(10)}
    assert {store.load(token.key) for token in store.kept()} == {DeviceToken(Secret("new"), ())}
    assert files_in(folder) == ["device.lock", TOKENS_FILE]


def test_threads_that_save_at_once_lose_nothing_of_each_other(folder: Path) -> None:
    store = FileTokenStore(folder)
    every = [TokenKey(f"ws://gateway:{number}", "d", "cli", "operator") for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.save(key, FIRST), every))
    assert {token.key for token in store.kept()} == set(every)


def test_a_store_and_what_it_tells_show_no_token(folder: Path) -> None:
    store = FileTokenStore(folder)
    store.save(KEY, FIRST)
    assert "first-secret" not in f"{store!r} {vars(store)!r} {store.kept()!r} {store.load(KEY)!r}"
