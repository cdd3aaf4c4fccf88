"""Added headers: what passes, what is refused, and that no value is ever shown."""

from __future__ import annotations

import traceback
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import Connector, Settings
from butter_proto.errors import InvalidSettings
from butter_proto.headers import MAX_HEADERS, OWN_HEADERS, secrets_of_headers, to_headers
from butter_proto.secret import Secret

PLAIN = "QQ-secret-QQ"


def test_headers_are_a_mapping_or_pairs() -> None:
    expected = (("CF-Access-Client-Id", Secret("id")), ("Cookie", Secret("a=b; c=d")))
    mapping: dict[str, str | Secret] = {"CF-Access-Client-Id": "id", "Cookie": Secret("a=b; c=d")}
    assert to_headers(mapping) == expected
    assert to_headers(iter([("CF-Access-Client-Id", "id"), ("Cookie", "a=b; c=d")])) == expected
    assert to_headers(()) == ()


def test_a_header_may_be_said_twice_and_keeps_its_place() -> None:
    pairs = [("X-A", "1"), ("X-B", "2"), ("X-A", "3")]
    assert [name for name, _ in to_headers(pairs)] == ["X-A", "X-B", "X-A"]


@pytest.mark.parametrize("name", ["Origin", "origin", "x", "!#$%&'*+-.^_`|~9"])
def test_any_other_token_is_a_name(name: str) -> None:
    assert to_headers({name: PLAIN}) == ((name, Secret(PLAIN)),)


OWN = [*OWN_HEADERS, "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "sec-websocket-anything"]


@pytest.mark.parametrize("name", [*OWN, *map(str.lower, OWN), *map(str.upper, OWN)])
def test_what_the_upgrade_says_itself_is_refused(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"{name} belongs to the upgrade"):
        to_headers({name: PLAIN})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "é", "a(b)", 5, None, b"x"])
def test_what_is_no_token_is_no_name(name: Any) -> None:
    with pytest.raises(InvalidSettings, match="is a token"):
        to_headers({name: PLAIN})


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", f" {PLAIN}", f"{PLAIN} ", f"{PLAIN}\r\nX: y", f"{PLAIN}\n", f"{PLAIN}\0"),
        *(f"{PLAIN}é", f"{PLAIN}\x7f", f"a  {PLAIN}", 5, None, PLAIN.encode(), [PLAIN]),
        *(Secret(f"{PLAIN}\r\nX: y"), Secret(f"{PLAIN} ")),
    ],
)
def test_a_value_that_no_line_can_hold_is_refused_unseen(value: Any) -> None:
    with pytest.raises(InvalidSettings, match="value of the header X-Key must be") as caught:
        to_headers({"X-Key": value})
    assert PLAIN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", [f"X: {PLAIN}", 5, None, [PLAIN], [("X", PLAIN, PLAIN)], [5]])
def test_what_is_neither_mapping_nor_pairs_is_refused_unseen(value: Any) -> None:
    with pytest.raises(InvalidSettings, match="a mapping, or pairs") as caught:
        to_headers(value)
    assert PLAIN not in "".join(traceback.format_exception(caught.value))


def test_all_headers_together_are_bounded() -> None:
    room = MAX_HEADERS - len("A: \r\n") - len("B: \r\n")
    assert len(to_headers({"A": "x" * (room - 1), "B": "y"})) == 2
    with pytest.raises(InvalidSettings, match=f"{MAX_HEADERS + 1} bytes; at most {MAX_HEADERS}"):
        to_headers({"A": "x" * room, "B": "y"})


def test_behind_a_scheme_the_credentials_are_a_secret_of_their_own() -> None:
    headers = to_headers({"Authorization": f"Bearer {PLAIN}", "X-Words": "two words"})
    assert [secret.reveal() for secret in secrets_of_headers(headers)] == [
        f"Bearer {PLAIN}",
        PLAIN,
        "two words",
    ]
    tab = to_headers({"Proxy-Authorization": f"Bearer\t{PLAIN}"})
    assert Secret(PLAIN) in secrets_of_headers(tab)
    alone = to_headers({"authorization": PLAIN})
    assert list(secrets_of_headers(alone)) == [Secret(PLAIN)]


def test_each_cookie_is_a_secret_of_its_own_unless_it_is_short() -> None:
    headers = to_headers({"Cookie": f"session={PLAIN}; theme=dark; id=1234567=; bare"})
    assert list(secrets_of_headers(headers))[1:] == [Secret(PLAIN), Secret("1234567=")]


def test_the_largest_head_fits_into_what_a_node_server_takes() -> None:
    target = "/" + "x" * 8191
    room = MAX_HEADERS - len("A: \r\n")
    machine = Connector(
        f"wss://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:18789{target}",
        Settings(headers={"A": "b" * room}),
        random=lambda: 1.0,
        entropy=Random(1).randbytes,
    )
    machine.start(0.0)
    machine.transport_opened(1, 0.0)
    assert 15_000 < len(machine.data_to_send(1)) < 16 * 1024


@given(name=st.text(max_size=20), value=st.text(max_size=20))
def test_a_header_that_passes_is_one_line(name: str, value: str) -> None:
    try:
        [(said, secret)] = to_headers([(name, value)])
    except InvalidSettings:
        return
    line = f"{said}: {secret.reveal()}"
    assert line == f"{name}: {value}"
    assert len(line.splitlines()) == 1
    assert line.isascii()
