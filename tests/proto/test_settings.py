"""Every setting: its default, its range, and that no secret is ever shown."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from butter_proto import settings as module
from butter_proto.errors import InvalidSettings
from butter_proto.identity import (
    BACKEND,
    CLI,
    CLIENT_IDS,
    CLIENT_MODES,
    OPENBUTTER_NODE,
    ROLES,
    VERSION,
    Identity,
)
from butter_proto.pins import Pin
from butter_proto.proxy_address import parse_proxy
from butter_proto.secret import Secret
from butter_proto.settings import (
    HOUR,
    MIB,
    Dialect,
    Framing,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Settings,
    Timeouts,
    adapter_settings,
)

PLAIN = "QQ-secret-QQ"


def settings_with(**values: Any) -> Settings:
    return Settings(**values)


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
            "max_queued": 1_000,
            "max_queued_bytes": 16 * MIB,
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
    (Limits, "max_queued", 1, 2**31),
    (Limits, "max_queued_bytes", 1024, 2**40),
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


# --- identities and dialects -------------------------------------------------------------------


def test_the_originals_dialect_has_its_own_default_identity() -> None:
    assert Settings(dialect=Dialect.OPENBUTTER_V1).identity_for(device=False) is OPENBUTTER_NODE


def test_who_connects_depends_on_whether_a_device_signs() -> None:
    """wire.md 2 and 4: the backend keeps its scopes without one, and never gets a device token."""
    assert Settings().identity_for(device=False) is BACKEND
    assert Settings().identity_for(device=True) is CLI
    own = Settings(identity=BACKEND)
    assert own.identity_for(device=True) is BACKEND


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
    identity = attrs.evolve(BACKEND, **changes)
    with pytest.raises(InvalidSettings) as caught:
        Settings(identity=identity)
    assert str(caught.value).startswith(words)
    Settings(identity=identity, dialect=Dialect.OPENBUTTER_V1)  # its gateway has no such lists


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", CLIENT_MODES)
def test_every_listed_identity_is_taken(role: str, mode: str) -> None:
    for client_id in CLIENT_IDS:
        Settings(identity=Identity(client_id, mode, role=role))


# --- all settings together --------------------------------------------------------------------


def test_settings_show_no_secret() -> None:
    settings = settings_with(token=PLAIN, password=PLAIN + "2")
    assert PLAIN not in repr(settings)
    assert settings.secrets == (Secret(PLAIN), Secret(PLAIN + "2"))


def test_the_values_of_added_headers_are_secrets() -> None:
    settings = Settings(token=PLAIN, headers={"Authorization": f"Bearer {PLAIN}2"})
    assert PLAIN not in repr(settings)
    assert settings.secrets == (Secret(PLAIN), Secret(f"Bearer {PLAIN}2"), Secret(f"{PLAIN}2"))


@pytest.mark.parametrize("dialect", Dialect)
def test_a_host_that_sends_its_own_upgrade_takes_no_headers(dialect: Dialect) -> None:
    with pytest.raises(InvalidSettings, match="headers need framing=BYTES"):
        Settings(framing=Framing.MESSAGES, headers={"X-Key": "value"}, dialect=dialect)


def test_pins_and_headers_are_none_unless_given_and_survive_a_change_of_others() -> None:
    assert (Settings().pins, Settings().headers, Settings().allow_plaintext) == ((), (), False)
    settings = settings_with(pins="00" * 32, headers={"X-Key": "value"})
    assert settings.pins == (Pin(bytes(32)),)
    assert attrs.evolve(settings, token="t").pins == settings.pins
    assert attrs.evolve(settings, token="t").headers == settings.headers


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
        ("allow_plaintext", "bool"),
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


def for_adapter(
    settings: Settings | None,
    token: str | None,
    *,
    url: str = "wss://gateway.example.com",
    environ: dict[str, str] | None = None,
) -> Settings:
    return adapter_settings(settings, token, url=url, environ=environ)


def test_an_adapter_takes_the_token_of_its_own_before_that_of_the_settings() -> None:
    assert for_adapter(None, None) == Settings()
    given = for_adapter(Settings(token="from-the-settings", json_rpc=True), "of-its-own")
    assert given == Settings(token="of-its-own", json_rpc=True)
    kept = for_adapter(Settings(token="from-the-settings"), None)
    assert kept.token == Secret("from-the-settings")


def test_an_adapter_refuses_what_it_cannot_move() -> None:
    with pytest.raises(InvalidSettings, match="moves bytes"):
        for_adapter(Settings(framing=Framing.MESSAGES), None)


def test_an_adapter_asks_the_environment_for_a_proxy_only_where_it_may() -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "exempt.example.com"}
    assert for_adapter(None, None).proxy is None
    assert for_adapter(None, None, environ=environ).proxy == parse_proxy("http://proxy:3128")
    assert for_adapter(None, None, environ=environ, url="ws://exempt.example.com").proxy is None
    assert for_adapter(None, None, environ={}).proxy is None
    own = Settings(proxy="socks5://own")
    assert for_adapter(own, None, environ=environ) == own
    with pytest.raises(InvalidSettings, match="HTTPS_PROXY"):
        for_adapter(None, None, environ={"HTTPS_PROXY": "ftp://proxy"})


def test_a_proxy_may_be_given_as_a_url_and_its_credentials_are_secrets() -> None:
    settings = Settings(token="token", proxy="http://user:pass%20word@proxy:3128")
    assert settings.proxy == parse_proxy("http://user:pass%20word@proxy:3128")
    assert settings.secrets == (
        Secret("token"),
        Secret("pass word"),
        Secret("dXNlcjpwYXNzIHdvcmQ="),
    )
    assert "pass word" not in repr(settings)
    assert "dXNl" not in repr(settings)
    with pytest.raises(InvalidSettings, match="proxy must be a ProxyAddress or a URL"):
        settings_with(proxy=3128)
