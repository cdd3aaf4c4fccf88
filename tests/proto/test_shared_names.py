"""What could be wrong with shared names: that they are other names, or shared too far."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.handshake import read_hello
from butter_proto.settings import Dialect
from butter_proto.shared_names import LARGEST_LIST, MOST_LISTS, SharedNames


def parsed(names: list[Any]) -> list[Any]:
    """Return names as they come from the wire: no string is one of another message."""
    told: list[Any] = json.loads(json.dumps(names))
    return told


def are_shared(one: list[Any], other: list[Any]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))


def test_equal_names_are_the_same_strings_in_lists_of_their_own() -> None:
    names = SharedNames()
    first, second = names.shared(parsed(["ab", "cd"])), names.shared(parsed(["ab", "cd"]))
    assert first == second == ["ab", "cd"]
    assert are_shared(first, second)
    first.clear()
    assert second == ["ab", "cd"]
    assert names.shared(parsed(["ab", "cd"])) == ["ab", "cd"]


@given(st.lists(st.lists(st.text() | st.integers() | st.none() | st.booleans(), max_size=4)))
def test_names_stay_what_they_are(lists: list[list[Any]]) -> None:
    names = SharedNames()
    for one in [*lists, *lists]:
        assert repr(names.shared(parsed(one))) == repr(parsed(one))


@pytest.mark.parametrize("odd", [["ab", 1], ["x" * LARGEST_LIST, "y"]], ids=["types", "size"])
def test_odd_or_huge_lists_are_not_remembered(odd: list[Any]) -> None:
    names = SharedNames()
    first, second = names.shared(parsed(odd)), names.shared(parsed(odd))
    assert first == second
    assert not are_shared(first, second)


def test_only_the_last_lists_are_remembered() -> None:
    names = SharedNames()
    first = names.shared(parsed(["first"]))
    for number in range(MOST_LISTS - 1):
        names.shared([f"list {number}"])
    assert are_shared(first, names.shared(parsed(["first"])))
    names.shared(["one more"])
    assert not are_shared(first, names.shared(parsed(["first"])))


def test_the_hellos_of_two_connections_share_what_they_list() -> None:
    features = {"methods": ["some.method"], "events": ["some.event"], "capabilities": ["some"]}
    payload = {"type": "hello-ok", "features": features}
    told = [json.loads(json.dumps(payload)) for _ in range(2)]
    one, other = (read_hello(each, Dialect.GATEWAY_V4) for each in told)
    assert one is not None
    assert other is not None
    assert one.payload == other.payload == payload
    assert told == [payload, payload]
    for kind in ("methods", "events"):
        assert are_shared(one.payload["features"][kind], other.payload["features"][kind])
    assert one.methods == {"some.method"}


@pytest.mark.parametrize("features", [None, 1, [], {}, {"methods": None, "events": {"a": 1}}])
def test_odd_features_are_left_as_they_are(features: Any) -> None:
    payload = {"type": "hello-ok", "features": features}
    hello = read_hello(payload, Dialect.GATEWAY_V4)
    assert hello is not None
    assert hello.payload == payload
