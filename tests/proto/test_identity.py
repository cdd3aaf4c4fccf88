"""Who connects."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from butter_proto.errors import InvalidSettings
from butter_proto.identity import (
    BACKEND,
    CLIENT_IDS,
    CLIENT_MODES,
    OPENBUTTER_BROWSER,
    OPENBUTTER_NODE,
    OPERATOR_SCOPES,
    Identity,
)


def identity_with(**changes: Any) -> Identity:
    return attrs.evolve(BACKEND, **changes)


def test_the_default_identity_keeps_its_scopes_on_loopback() -> None:
    identity = BACKEND
    assert (identity.id, identity.mode, identity.role) == ("gateway-client", "backend", "operator")
    assert identity.scopes == OPERATOR_SCOPES == ("operator.read", "operator.write")


@pytest.mark.parametrize(
    ("identity", "platform", "mode"),
    [(OPENBUTTER_NODE, "node", "standalone"), (OPENBUTTER_BROWSER, "browser", "web")],
)
def test_the_originals_identities_are_exactly_what_it_sent(
    identity: Identity, platform: str, mode: str
) -> None:
    assert (identity.platform, identity.mode) == (platform, mode)
    assert (identity.id, identity.version, identity.role) == ("openbutter", "0.1.0", "client")
    assert (identity.scopes, identity.caps) == (("gateway:rpc",), ("rpc",))


def test_the_closed_enums_are_as_long_as_they_were_measured() -> None:
    assert (len(set(CLIENT_IDS)), len(set(CLIENT_MODES))) == (17, 8)  # wire.md 2


@pytest.mark.parametrize("name", ["id", "mode", "version", "platform", "role"])
@pytest.mark.parametrize("value", ["", None, 3, "\ud800"])
def test_an_identity_names_each_of_its_parts(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"identity.{name} must be a non-empty str"):
        identity_with(**{name: value})


@pytest.mark.parametrize("name", ["display_name", "device_family", "instance_id"])
def test_an_optional_part_of_an_identity_is_absent_or_says_something(name: str) -> None:
    for good in (None, "Mia's laptop"):
        assert getattr(identity_with(**{name: good}), name) == good
    for bad in ("", 3, "\udcff"):
        with pytest.raises(InvalidSettings, match=f"identity.{name} must be None or a non-empty"):
            identity_with(**{name: bad})


@pytest.mark.parametrize("name", ["scopes", "caps"])
def test_names_may_come_in_any_iterable(name: str) -> None:
    for given_names in (["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}):
        assert getattr(identity_with(**{name: given_names}), name) == ("a", "b")
    assert getattr(identity_with(**{name: []}), name) == ()


@pytest.mark.parametrize("name", ["scopes", "caps"])
@pytest.mark.parametrize("value", ["operator.read", None, 5, [1], [""], ["a", None], ["\ud800"]])
def test_one_text_or_a_list_of_anything_else_is_no_list_of_names(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match="a list of non-empty names is expected"):
        identity_with(**{name: value})


def test_a_scope_with_a_comma_would_be_signed_as_two() -> None:
    with pytest.raises(InvalidSettings, match="comma"):
        identity_with(scopes=["operator.read,operator.admin"])
