"""Secrets, and foreign text with them taken out."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.errors import InvalidSettings
from butter_proto.secret import Secret, is_text, redact, to_secret, without_cut_secret

PLAIN = "QQ-secret-QQ"

# "*" is left out: the mask itself shows a secret that is made of stars
secret_texts = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1, max_size=6)


def json_around(texts: list[str]) -> st.SearchStrategy[Any]:
    """Make JSON values whose texts and keys hold the given texts, apart and run together."""
    pieces = st.lists(st.sampled_from(texts) | st.text(max_size=2), max_size=4).map("".join)
    return st.recursive(
        pieces | st.none() | st.booleans() | st.integers() | st.floats(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(pieces, inner, max_size=4),
        max_leaves=12,
    )


def texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts_in(part)]
    return []


# --- Secret -----------------------------------------------------------------------------------


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>3}".format, ascii])
def test_no_text_form_of_a_secret_shows_it(show: Callable[[object], str]) -> None:
    assert show(Secret(PLAIN)) == "***"
    assert show([Secret(PLAIN)]).count(PLAIN) == 0


def test_only_reveal_gives_the_text() -> None:
    assert Secret(PLAIN).reveal() == PLAIN


def test_secrets_are_equal_by_their_text_and_to_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert hash(Secret("a")) != hash("a")


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_leaves_the_process_in_no_pickle(take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        take(Secret(PLAIN))


@pytest.mark.parametrize("text", ["", None, 7, b"QQ-secret-QQ", ["QQ-secret-QQ"]])
def test_what_is_no_text_is_no_secret_and_is_not_shown(text: Any) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Secret(text)
    assert PLAIN not in str(caught.value)


# --- redact -----------------------------------------------------------------------------------


@given(data=st.data(), texts=st.lists(secret_texts, min_size=1, max_size=4))
def test_no_secret_is_left_anywhere_in_a_redacted_value(
    data: st.DataObject, texts: list[str]
) -> None:
    value = data.draw(json_around(texts))
    redacted = redact(value, map(Secret, texts))
    shown = texts_in(redacted)
    assert [(secret, text) for secret in texts for text in shown if secret in text] == []


@given(value=json_around(["a", "b"]))
def test_a_value_without_secrets_comes_back_equal(value: object) -> None:
    assert redact(value, [Secret("\N{SNOWMAN}\N{COMET}\N{SNOWMAN}")]) == value or "nan" in repr(
        value
    )
    assert redact(value, []) is value


@given(value=json_around([PLAIN]))
def test_redacting_leaves_the_value_itself_as_it_was(value: object) -> None:
    before = repr(value)
    redact(value, [Secret(PLAIN)])
    assert repr(value) == before


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ("token secret-a was wrong", "token *** was wrong"),
        ("secret-abc", "***"),
        (["x", {"secret-a": ["secret-a", 1]}], ["x", {"***": ["***", 1]}]),
        ({"n": 1, "f": 1.5, "b": True, "z": None}, {"n": 1, "f": 1.5, "b": True, "z": None}),
        ({1: "secret-a"}, {1: "***"}),
        (None, None),
        (7, 7),
    ],
)
def test_a_secret_is_replaced_wherever_it_stands(value: object, redacted: object) -> None:
    assert redact(value, [Secret("secret-a"), Secret("secret-abc")]) == redacted


def test_a_value_nested_deeper_than_the_stack_is_redacted_to_its_core() -> None:
    depth = 100_000
    value: Any = PLAIN
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    value = redact(value, [Secret(PLAIN)])
    for _ in range(depth):
        value = value[0] if isinstance(value, list) else value["k"]
    assert value == "***"


# --- what a caller gives ------------------------------------------------------------------------


def test_a_caller_gives_a_text_a_secret_or_none() -> None:
    assert to_secret(PLAIN) == Secret(PLAIN)
    assert to_secret(Secret(PLAIN)) == Secret(PLAIN)
    assert to_secret(None) is None


@pytest.mark.parametrize("value", ["", 5, b"QQ-secret-QQ", "QQ\ud800", Secret("QQ\ud800")])
def test_what_utf_8_cannot_write_is_refused_unseen(value: Any) -> None:
    with pytest.raises(InvalidSettings) as caught:
        to_secret(value)
    assert "QQ" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "answer"), [("a", True), ("", False), (3, False), ("\udc80", False)]
)
def test_text_is_a_str_that_can_be_sent(value: object, answer: bool) -> None:
    assert is_text(value) is answer


# --- texts that were cut --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shortest", "expected"),
    [
        ("says 12345678", 8, "says ***"),
        ("says 1234567", 8, "says 1234567"),
        ("says 1234567", 7, "says ***"),
        ("12345678", 1, "***"),
        ("123456789", 8, "123456789"),  # whole: redact takes it out
        ("1", 1, "***"),
        ("2", 1, "2"),
        ("", 1, ""),
        ("says ab12345678", 8, "says ***"),  # the longest of them
        ("12345678 ends", 1, "12345678 ends"),
    ],
)
def test_the_end_of_a_cut_text_is_masked_where_a_secret_begins(
    text: str, shortest: int, expected: str
) -> None:
    secrets = ["123456789", "ab123456789", "x"]
    assert without_cut_secret(text, secrets, "***", shortest) == expected
    told = without_cut_secret(text.encode(), [s.encode() for s in secrets], b"***", shortest)
    assert told == expected.encode()
