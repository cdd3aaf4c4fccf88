"""Every setting: its default, its range, and that no secret is ever shown."""

from __future__ import annotations

import copy
import pickle
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import settings as module
from butter_proto.errors import InvalidSettings
from butter_proto.settings import (
    BACKEND,
    CLIENT_IDS,
    CLIENT_MODES,
    HOUR,
    MIB,
    OPENBUTTER_BROWSER,
    OPENBUTTER_NODE,
    OPERATOR_SCOPES,
    ROLES,
    VERSION,
    Dialect,
    Framing,
    Identity,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Secret,
    Settings,
    Timeouts,
    redact,
)

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


def identity_with(**changes: Any) -> Identity:
    return attrs.evolve(BACKEND, **changes)


def settings_with(**values: Any) -> Settings:
    return Settings(**values)


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


# --- numbers ----------------------------------------------------------------------------------

DEFAULTS: list[tuple[type[Any], dict[str, object]]] = [
    (Timeouts, {"open": 15.0, "challenge": 15.0, "hello": 15.0, "close": 1.0, "request": 30.0}),
    (KeepaliveSettings, {"interval": 10.0, "timeout": 5.0, "misses": 2, "probe": Probe.AUTO}),
    (
        ReconnectSettings,
        {
            "base": 1.0,
            "factor": 2.0,
            "cap": 30.0,
            "minimum": 0.25,
            "stable_after": 10.0,
            "max_attempts": None,
            "pairing_poll": 15.0,
        },
    ),
    (
        Limits,
        {
            "max_message": 25 * MIB,
            "max_fragments": 10_000,
            "max_pending": 10_000,
            "max_pending_bytes": 256 * MIB,
            "max_in_flight": 200,
            "max_events": 10_000,
            "max_event_bytes": 64 * MIB,
            "max_state_changes": 100,
        },
    ),
]
RANGES: list[tuple[type[Any], str, float, float]] = [
    (Timeouts, "open", 0.01, HOUR),
    (Timeouts, "challenge", 0.01, HOUR),
    (Timeouts, "hello", 0.01, HOUR),
    (Timeouts, "close", 0.01, 60.0),
    (Timeouts, "request", 0.001, 30 * 24 * HOUR),
    (KeepaliveSettings, "misses", 1, 1000),
    (ReconnectSettings, "base", 0.01, HOUR),
    (ReconnectSettings, "factor", 1.0, 100.0),
    (ReconnectSettings, "cap", 0.01, HOUR),
    (ReconnectSettings, "minimum", 0.001, HOUR),
    (ReconnectSettings, "stable_after", 0.0, HOUR),
    (ReconnectSettings, "max_attempts", 1, 1_000_000_000),
    (ReconnectSettings, "pairing_poll", 1.0, HOUR),
    (Limits, "max_message", 1024, 2**31),
    (Limits, "max_fragments", 1, 2**31),
    (Limits, "max_pending", 1, 2**31),
    (Limits, "max_pending_bytes", 1024, 2**40),
    (Limits, "max_in_flight", 1, 2**31),
    (Limits, "max_events", 1, 2**31),
    (Limits, "max_event_bytes", 1, 2**40),
    (Limits, "max_state_changes", 4, 2**31),
]
WHOLE = {"misses", "max_attempts"} | {field.name for field in attrs.fields(Limits)}


@pytest.mark.parametrize(("kind", "values"), DEFAULTS)
def test_the_defaults_are_the_ones_the_design_names(
    kind: type[Any], values: dict[str, object]
) -> None:
    assert attrs.asdict(kind()) == values


def test_every_number_stands_in_the_table_of_ranges() -> None:
    tabled = {(kind, name) for kind, name, *_ in RANGES}
    numbers = {(kind, name) for kind, values in DEFAULTS for name in values if name != "probe"}
    assert numbers - tabled == {(KeepaliveSettings, "interval"), (KeepaliveSettings, "timeout")}


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES)
def test_a_number_passes_up_to_its_bounds_and_not_beyond(
    kind: type[Any], name: str, low: float, high: float
) -> None:
    beyond = 1 if name in WHOLE else 0.0001
    for value in (low, high):
        assert getattr(kind(**{name: value}), name) == value
    for value in (low - beyond, high + beyond, float("nan"), float("inf"), 10**400, -(10**400)):
        with pytest.raises(InvalidSettings, match=rf"^{name} must be .* in {low}\.\.{high}: "):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name, *_ in RANGES])
@pytest.mark.parametrize("value", [True, "15", [], {}, 1j])
def test_what_is_no_number_is_refused(kind: type[Any], name: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} must be a .*number in"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name, *_ in RANGES if name in WHOLE]
)
def test_a_count_is_a_whole_number(kind: type[Any], name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} must be a whole number"):
        kind(**{name: 1024.0})


@pytest.mark.parametrize(
    ("kind", "name", "optional"),
    [(kind, name, name in ("max_attempts", "pairing_poll")) for kind, name, *_ in RANGES],
)
def test_none_is_a_choice_only_where_it_has_a_meaning(
    kind: type[Any], name: str, optional: bool
) -> None:
    if optional:
        assert getattr(kind(**{name: None}), name) is None
    else:
        with pytest.raises(InvalidSettings):
            kind(**{name: None})


@pytest.mark.parametrize("name", ["interval", "timeout"])
@pytest.mark.parametrize("value", [0.04, 3600.1, float("nan"), None, "5"])
def test_a_probe_time_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} must be a number in 0.05..3600.0"):
        KeepaliveSettings(**{name: value})


def test_a_probe_may_take_as_long_as_the_interval_and_no_longer() -> None:
    assert KeepaliveSettings(5.0, 5.0).timeout == 5.0
    with pytest.raises(InvalidSettings, match=r"timeout 5.1 must not exceed its interval 5"):
        KeepaliveSettings(5.0, 5.1)


@pytest.mark.parametrize("probe", ["ping", None, Framing.BYTES])
def test_a_probe_is_one_of_its_kinds(probe: Any) -> None:
    with pytest.raises(InvalidSettings, match="probe must be a Probe"):
        KeepaliveSettings(probe=probe)


# --- identity ---------------------------------------------------------------------------------


def test_the_default_identity_keeps_its_scopes_on_loopback() -> None:
    identity = Settings().identity
    assert identity is BACKEND
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
    settings = Settings(dialect=Dialect.OPENBUTTER_V1, identity=identity)
    assert settings.identity is identity


def test_the_originals_dialect_has_its_own_default_identity() -> None:
    assert Settings(dialect=Dialect.OPENBUTTER_V1).identity is OPENBUTTER_NODE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "CLI"}, "client.id 'CLI' is not known to the gateway; allowed: webchat-ui, "),
        ({"mode": "operator"}, "client.mode 'operator' is not known to the gateway; allowed: web"),
        ({"role": "client"}, "role 'client' is not known to the gateway; allowed: operator, node"),
    ],
)
def test_todays_gateway_takes_only_what_its_closed_enums_list(
    changes: dict[str, str], words: str
) -> None:
    identity = identity_with(**changes)
    with pytest.raises(InvalidSettings) as caught:
        Settings(identity=identity)
    assert str(caught.value).startswith(words)
    Settings(identity=identity, dialect=Dialect.OPENBUTTER_V1)  # its gateway has no such lists


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", CLIENT_MODES)
def test_every_listed_identity_is_taken(role: str, mode: str) -> None:
    for client_id in CLIENT_IDS:
        Settings(identity=Identity(client_id, mode, role=role))


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


# --- all settings together --------------------------------------------------------------------


def test_settings_show_no_secret() -> None:
    settings = settings_with(token=PLAIN, password=PLAIN + "2")
    assert PLAIN not in repr(settings)
    assert settings.secrets == (Secret(PLAIN), Secret(PLAIN + "2"))


def test_settings_without_secrets_have_none_to_hide() -> None:
    assert Settings().secrets == ()
    assert Settings(password=Secret("p")).secrets == (Secret("p"),)


@pytest.mark.parametrize("name", ["token", "password"])
@pytest.mark.parametrize(
    "value", ["", 5, b"QQ-secret-QQ", ["QQ-secret-QQ"], "QQ-secret-QQ\ud800", Secret("\udcff")]
)
def test_a_secret_that_cannot_be_sent_is_refused_unseen(name: str, value: object) -> None:
    with pytest.raises(InvalidSettings) as caught:
        settings_with(**{name: value})
    assert PLAIN not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dialect", "Dialect"),
        ("identity", "Identity"),
        ("json_rpc", "bool"),
        ("timeouts", "Timeouts"),
        ("keepalive", "KeepaliveSettings"),
        ("reconnect", "ReconnectSettings"),
        ("limits", "Limits"),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} must be a {kind}: 'yes'$"):
        settings_with(**{name: "yes"})


@pytest.mark.parametrize(
    "value", [Settings(), Timeouts(), KeepaliveSettings(), ReconnectSettings(), Limits(), BACKEND]
)
def test_settings_are_frozen(value: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, "other")


def test_the_version_told_to_the_gateway_is_the_distributions() -> None:
    top = Path(module.__file__).parents[1]
    source = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["hatch"]["version"]
    found = re.findall(source["pattern"], (top / source["path"]).read_text())
    assert found == [VERSION]
    assert BACKEND.version == VERSION
