"""Setup codes, as ``openclaw qr`` gives them, and what is given instead."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from butter_proto.errors import InvalidSettings
from butter_proto.secret import Secret
from butter_proto.setup_code import parse_setup_code

URL = "wss://gateway.example:18789"
TOKEN = "zLcS0-bootstrap_token"


def code(text: str | None = None, **fields: Any) -> str:
    """Write a code as the gateway does: base64url without padding."""
    fields = {"url": URL, "bootstrapToken": TOKEN} | fields
    data = json.dumps(fields, separators=(",", ":")) if text is None else text
    return base64.urlsafe_b64encode(data.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "more", [{}, {"expiresAtMs": 1_795_000_000_000}, {"urls": [URL], "später": "~~~???"}]
)
def test_a_code_has_a_url_and_a_bootstrap_token_and_other_keys_are_passed_over(
    more: dict[str, Any],
) -> None:
    read = parse_setup_code(code(**more))
    assert read.url == URL
    assert read.bootstrap_token == Secret(TOKEN)
    assert TOKEN not in repr(read)


def test_a_shared_token_in_its_url_is_left_out() -> None:
    read = parse_setup_code(code(url=f"{URL}/path?token=QQ-shared-QQ&a=b"))
    assert read.url == f"{URL}/path?a=b"
    assert "a=b" not in repr(read)


@pytest.mark.parametrize("length", range(4))
def test_a_code_is_read_whatever_copying_did_to_it(length: int) -> None:
    whole = code(note="~?" * 4 + "x" * length)
    padded = whole + "=" * (-len(whole) % 4)
    standard = padded.replace("-", "+").replace("_", "/")
    for copied in (whole, padded, standard, f" {whole[:30]}\n  {whole[30:]}\n"):
        assert parse_setup_code(copied).url == URL


@pytest.mark.parametrize("token", [TOKEN, "abc", "eyJhbGciOi.J9", "ü", "{", code("[1]")])
def test_what_is_no_code_is_a_bootstrap_token(token: str) -> None:
    read = parse_setup_code(token)
    assert read.bootstrap_token == Secret(token)
    assert read.url is None


def test_a_code_that_was_copied_in_part_is_refused_wherever_it_was_cut() -> None:
    whole = code()
    for end in range(8, len(whole)):
        with pytest.raises(InvalidSettings, match="damaged: copy all of it") as refused:
            parse_setup_code(whole[:end])
        assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": None},
        {"url": 1},
        {"bootstrapToken": None},
        {"bootstrapToken": ""},
        {"bootstrapToken": ["x"]},
        {"bootstrapToken": "\ud800"},
    ],
)
def test_a_code_without_what_it_is_for_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match="no url or no bootstrapToken"):
        parse_setup_code(code(**fields))


def test_a_code_with_a_url_that_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="starts with ws://") as refused:
        parse_setup_code(code(url="http://gateway.example"))
    assert TOKEN not in str(refused.value)


def test_a_code_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="damaged"):
        parse_setup_code(code('{"url":' + "[" * 100_000))


def test_nothing_is_no_code() -> None:
    with pytest.raises(InvalidSettings, match="non-empty"):
        parse_setup_code(" \n")
