"""JSON by either codec: the same is read, the same is refused, the same bytes are written."""

from __future__ import annotations

import enum
import json
import sys
from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto import InvalidSettings, Settings
from butter_proto.codec import STDLIB, Codec, chunks_of_json, codec_for
from butter_proto.settings import Json

pytest.importorskip("msgspec")
FAST = codec_for(Json.MSGSPEC)
ODD = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "-0", "-0.0", "0.1e1", "01", "1.",
    ".5", "+1", "9007199254740993", "18446744073709551616", "-9223372036854775809",
    "9" * 400, "9" * 4300, "9" * 4301, "9" * 5000, "9007199254740993.0", "0.1", "2.5e-324",
    "123456789012345678901234567890.5", '"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\ud800"',
    "\ufeff1", '"\x00"', '"\\u0000"', '"\x7f"', '"a\tb"', " 1 ", "\t{}\r\n", "\x0c1", '""1', "[1,]",
    '{"a":1,"a":{"b":2,"b":3}}', '{"a":1,}', "{1:2}", "tru", "", " ", "[" * 300 + "]" * 300,
    "[" * 100_000 + "]" * 100_000, '{"a":' * 5000, '"\\x"', '"', "'a'", "\x1f1", "1\x00",
)  # fmt: skip

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=15,
)
texts = st.sampled_from(ODD) | json_values.map(lambda value: repr(value).replace("'", '"'))


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    __slots__ = ()


class Number(int):
    pass


def read(codec: Codec, text: str) -> tuple[str, Any]:
    """Return what a codec reads, with the types of all that is in it, or that it refuses."""
    try:
        return "read", shown(codec.load(text))
    except (ValueError, RecursionError):
        return "refused", None


def written(codec: Codec, value: Any) -> bytes | None:
    """Return what a codec writes, or None where it does not."""
    try:
        return codec.dump(value)
    except Exception:  # noqa: BLE001 - whatever it is, it is no bytes
        return None


def shown(value: Any) -> str:
    """Return a text that is the same only for the same value: its order, its kinds, its zeros."""
    return repr(value)


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:20]))
def test_what_is_odd_is_read_or_refused_alike(text: str) -> None:
    assert read(FAST, text) == read(STDLIB, text)


@given(st.lists(texts, min_size=1, max_size=3), st.sampled_from(["", "[", '{"k":', " "]))
def test_any_text_is_read_or_refused_alike(parts: list[str], before: str) -> None:
    after = {"[": "]", '{"k":': "}"}.get(before, before)
    text = before + ",".join(parts) + after
    assert read(FAST, text) == read(STDLIB, text)


@given(json_values)
@example({"a": float("nan")})
@example(1e16)
@example({"t": ["\x7f\x00\x1f\b\f\u2028", 2**63, -(2**63) - 1, 2**64]})
@example([[[[[[[[[[[[1]]]]]]]]]]]])
def test_any_value_is_written_alike(value: Any) -> None:
    assert written(FAST, value) == written(STDLIB, value)


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Word("x"),
        Number(3),
        True,
        Decimal(1),
        UUID(int=1),
        b"bytes",
        {1: 2},
        {Word("k"): 1},
        {None: 1},
        (1, 2),
        {1},
        object(),
        "\ud800",
        10**5000,
        {"a": {"b": [Word("x"), Number(3)]}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_another_type_is_written_or_refused_alike(value: Any) -> None:
    for params in (value, [value], {"k": value}):
        assert written(FAST, params) == written(STDLIB, params)


@given(json_values)
def test_without_the_encoder_in_c_the_same_is_written(value: Any) -> None:
    with patch.object(json.encoder, "c_make_encoder", new=None):
        slow = chunks_of_json()

        def written_slowly(message: dict[str, Any]) -> bytes:
            return "".join(slow(message, 0)).encode()

        message = {"params": value}
        assert written(attrs.evolve(STDLIB, dump=written_slowly), message) == written(
            STDLIB, message
        )


def test_a_value_that_holds_itself_is_refused() -> None:
    round_and_round: list[Any] = []
    round_and_round.append(round_and_round)
    assert written(FAST, round_and_round) is written(STDLIB, round_and_round) is None


@pytest.mark.fast_paths
def test_without_a_choice_msgspec_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert codec_for(Json.AUTO) is not STDLIB
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert codec_for(Json.AUTO) is STDLIB


def test_the_standard_library_is_used_where_it_is_chosen() -> None:
    assert codec_for(Json.STDLIB) is STDLIB


@pytest.mark.fast_paths
def test_msgspec_where_it_is_chosen_and_missing_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(InvalidSettings, match=r"openbutter\[speed\]"):
        codec_for(Json.MSGSPEC)


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="json must be a Json"):
        Settings(json="msgspec")  # type: ignore[arg-type]
