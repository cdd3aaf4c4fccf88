"""Challenge in, connect request out, hello in: against what was measured on the wire."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.credentials import Auth, Keyring
from butter_proto.errors import InvalidSettings
from butter_proto.events import Hello, Policy
from butter_proto.frames import encode_request
from butter_proto.handshake import (
    BEFORE_HELLO_MAX,
    Challenge,
    check_connect_size,
    connect_params,
    read_challenge,
    read_hello,
    secrets_of_hello,
)
from butter_proto.identity import BACKEND, OPENBUTTER_BROWSER, OPENBUTTER_NODE, Identity
from butter_proto.settings import Dialect, Settings


def who_and_what(settings: Settings) -> tuple[Identity, Auth]:
    """Return who connects without a device, and with what."""
    identity = settings.identity_for(device=False)
    return identity, Keyring(settings.credentials).choose(identity.scopes)


def params_of(settings: Settings) -> dict[str, Any]:
    return connect_params(settings.dialect, *who_and_what(settings))


V4 = Dialect.GATEWAY_V4
V1 = Dialect.OPENBUTTER_V1

HELLO: dict[str, Any] = json.loads("""
{"type":"hello-ok","protocol":4,
 "server":{"version":"2026.9.6","buildId":"2026.9.6-release-eb377ac59e6c","bootId":"57020320-e545",
           "controlUiBuildSource":"bundled","connId":"b1d13b15-3fb5"},
 "features":{"methods":["health","diagnostics.stability"],"events":["connect.challenge","agent"],
             "capabilities":["profile-binding-v1"]},
 "snapshot":{"suspension":{"phase":"accepting"},"presence":[],"uptimeMs":141780},
 "pluginSurfaceUrls":{"canvas":"http://127.0.0.1:18800/__openclaw__/cap/SECRET-URL"},
 "auth":{"method":"token","role":"operator","scopes":["operator.read","operator.write"],
         "recoveryScope":"SECRET-SCOPE"},
 "policy":{"maxPayload":26214400,"maxBufferedBytes":52428800,"tickIntervalMs":30000,
           "attachments":{"maxBytes":19464192}}}
""")
"""wire.md 3, its lists cut."""

EMPTY_HELLO = Hello(
    None,
    None,
    None,
    None,
    None,
    None,
    None,
    Policy(26_214_400, None, 30.0),
    {},
)

foreign_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["hello-ok", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


# --- the challenge ----------------------------------------------------------------------------


def test_a_challenge_is_read_and_its_unknown_keys_are_normal() -> None:
    """wire.md 1: ``capabilities`` is not in the published documents."""
    payload = {"nonce": "8b512dbe-6153", "ts": 1795397784915, "capabilities": ["x"]}
    assert read_challenge(payload) == Challenge("8b512dbe-6153", 1795397784915)


@pytest.mark.parametrize("nonce", [None, "", 7, ["x"], {}])
def test_a_challenge_whose_nonce_is_no_text_has_none(nonce: object) -> None:
    assert read_challenge({"nonce": nonce, "ts": 1}) == Challenge(None, 1)


@pytest.mark.parametrize("ts", [None, -1, 1.0, True, "1795397784915", [1]])
def test_a_challenge_whose_time_is_missing_negative_or_no_integer_has_none(ts: object) -> None:
    assert read_challenge({"nonce": "n", "ts": ts}) == Challenge("n", None)


@pytest.mark.parametrize("payload", [None, [], "nonce", 7, {}])
def test_any_payload_is_a_challenge_maybe_an_empty_one(payload: object) -> None:
    assert read_challenge(payload) == Challenge(None, None)


# --- the connect request ----------------------------------------------------------------------


def test_todays_gateway_is_asked_for_protocol_4_with_both_operator_scopes() -> None:
    """wire.md 2."""
    identity = attrs.evolve(BACKEND, version="1.2.3", platform="linux")
    assert params_of(Settings(identity=identity, token="t0ken")) == {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {
            "id": "gateway-client",
            "version": "1.2.3",
            "platform": "linux",
            "mode": "backend",
        },
        "role": "operator",
        "scopes": ["operator.read", "operator.write"],
        "auth": {"token": "t0ken"},
    }


def test_a_node_offers_protocols_3_to_4() -> None:
    """wire.md 5: for a node [3,4] passes, for an operator both do."""
    params = params_of(Settings(identity=Identity("node-host", "node", role="node")))
    assert (params["minProtocol"], params["maxProtocol"]) == (3, 4)
    assert params["role"] == "node"


def test_what_an_identity_adds_is_sent_and_what_it_leaves_out_is_not() -> None:
    """wire.md 2: closed objects; an unknown key is refused, a null as well."""
    identity = Identity(
        "cli",
        "cli",
        "1",
        "linux",
        scopes=(),
        caps=("tool-events",),
        display_name="Desk",
        device_family="Linux",
        instance_id="i-1",
    )
    params = params_of(Settings(identity=identity))
    assert params["client"] == {
        "id": "cli",
        "version": "1",
        "platform": "linux",
        "mode": "cli",
        "displayName": "Desk",
        "deviceFamily": "Linux",
        "instanceId": "i-1",
    }
    assert (params["caps"], params["scopes"], params["auth"]) == (["tool-events"], [], {})
    one = params_of(Settings(identity=attrs.evolve(identity, display_name=None)))
    assert set(params["client"]) - set(one["client"]) == {"displayName"}


@pytest.mark.parametrize(
    ("given_auth", "auth"),
    [
        ({}, {}),
        ({"token": "t"}, {"token": "t"}),
        ({"password": "p"}, {"password": "p"}),
        ({"token": "t", "password": "p"}, {"token": "t", "password": "p"}),
    ],
)
def test_only_the_secrets_that_were_given_are_sent(
    given_auth: dict[str, Any], auth: dict[str, str]
) -> None:
    """wire.md 5: if both are given, the field of the gateway's mode counts."""
    assert params_of(Settings(**given_auth))["auth"] == auth


@pytest.mark.parametrize(
    ("identity", "platform", "mode"),
    [(OPENBUTTER_NODE, "node", "standalone"), (OPENBUTTER_BROWSER, "browser", "web")],
)
def test_the_originals_request_is_sent_exactly(
    identity: Identity, platform: str, mode: str
) -> None:
    """design.md, Handshake: the dialect openbutter-v1."""
    settings = Settings(dialect=V1, identity=identity, token="t")
    assert params_of(settings) == {
        "minProtocol": 1,
        "maxProtocol": 1,
        "client": {"id": "openbutter", "version": "0.1.0", "platform": platform, "mode": mode},
        "caps": ["rpc"],
        "role": "client",
        "scopes": ["gateway:rpc"],
        "auth": {"token": "t"},
    }


def test_the_originals_client_has_four_keys_whatever_the_identity_adds() -> None:
    identity = attrs.evolve(OPENBUTTER_NODE, display_name="x", device_family="y", instance_id="z")
    params = params_of(Settings(dialect=V1, identity=identity))
    assert set(params["client"]) == {"id", "version", "platform", "mode"}


def test_the_originals_dialect_offers_protocol_1_whatever_the_role() -> None:
    params = params_of(Settings(dialect=V1, identity=BACKEND))
    assert (params["minProtocol"], params["maxProtocol"], params["role"]) == (1, 1, "operator")


def check_size(settings: Settings) -> None:
    check_connect_size(settings.dialect, *who_and_what(settings), device=False)


# --- its size ---------------------------------------------------------------------------------


def settings_of_size(size: int) -> Settings:
    """Make settings whose connect request, without its id, has that many bytes."""

    def length(settings: Settings) -> int:
        return len(encode_request("", "connect", params_of(settings)))

    empty = length(Settings(token="x")) - 1
    settings = Settings(token="x" * (size - empty))
    assert length(settings) == size
    return settings


def test_a_connect_request_that_the_gateway_would_close_over_is_refused_here() -> None:
    """wire.md 1: 70 KiB before hello are closed with 1009; 1 KiB is kept for the id."""
    check_size(settings_of_size(BEFORE_HELLO_MAX - 1024))
    with pytest.raises(InvalidSettings, match=r"65536") as caught:
        check_size(settings_of_size(BEFORE_HELLO_MAX - 1023))
    assert "xxx" not in str(caught.value)


# --- the hello --------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", Dialect)
def test_a_hello_of_todays_gateway_is_read(dialect: Dialect) -> None:
    """wire.md 3."""
    hello = read_hello(HELLO, dialect)
    assert hello == Hello(
        4,
        "2026.9.6",
        "57020320-e545",
        "b1d13b15-3fb5",
        "operator",
        ("operator.read", "operator.write"),
        "token",
        Policy(26_214_400, 52_428_800, 30.0),
        HELLO,
    )
    assert hello.methods == {"health", "diagnostics.stability"}
    assert hello.events == {"connect.challenge", "agent"}


def test_what_a_hello_does_not_tell_is_none_or_has_its_default() -> None:
    payload = {"type": "hello-ok"}
    assert read_hello(payload, V4) == attrs.evolve(EMPTY_HELLO, payload=payload)


@pytest.mark.parametrize(
    "payload", [None, {}, [], "hello-ok", 7, {"type": "hello"}, {"type": ["hello-ok"]}]
)
def test_todays_gateway_says_hello_ok(payload: object) -> None:
    assert read_hello(payload, V4) is None


@pytest.mark.parametrize("payload", [None, {}, [], "welcome", 7, {"type": "hello", "x": 1}])
def test_the_originals_gateway_may_answer_anything(payload: object) -> None:
    """design.md: any ``ok: true`` reply to connect is Online."""
    assert read_hello(payload, V1) == attrs.evolve(EMPTY_HELLO, payload=payload)


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        (["operator.read"], ("operator.read",)),
        ([], ()),
        ([7, "a", None], ("a",)),
        (None, None),
        ("operator.read", None),
        ({"operator.read": True}, None),
    ],
)
def test_granted_scopes_are_told_apart_from_unknown_ones(
    scopes: object, told: tuple[str, ...] | None
) -> None:
    """wire.md 2: scopes are emptied silently, so an empty list means something."""
    hello = read_hello({"type": "hello-ok", "auth": {"scopes": scopes}}, V4)
    assert hello is not None
    assert hello.scopes == told


@pytest.mark.parametrize(
    ("ticks", "seconds"),
    [
        (15_000, 15.0),
        (1000, 1.0),
        (600_000, 600.0),
        (999, 30.0),
        (600_001, 30.0),
        (0, 30.0),
        (-30_000, 30.0),
        (15_000.0, 30.0),
        ("15000", 30.0),
        (True, 30.0),
        (None, 30.0),
    ],
)
def test_a_tick_interval_is_believed_in_1_to_600_s(ticks: object, seconds: float) -> None:
    hello = read_hello({"type": "hello-ok", "policy": {"tickIntervalMs": ticks}}, V4)
    assert hello is not None
    assert hello.policy.tick_interval == seconds


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (1, 1),
        (2**40, 2**40),
        (0, 26_214_400),
        (-1, 26_214_400),
        (1.5, 26_214_400),
        ("1", 26_214_400),
    ],
)
def test_a_largest_payload_is_a_number_of_bytes_or_todays_value(limit: object, told: int) -> None:
    hello = read_hello({"type": "hello-ok", "policy": {"maxPayload": limit}}, V4)
    assert hello is not None
    assert hello.policy.max_payload == told


@given(
    payload=foreign_json
    | st.fixed_dictionaries(
        {"type": st.just("hello-ok")},
        optional={
            "protocol": foreign_json,
            "server": st.dictionaries(st.sampled_from(["version", "bootId"]), foreign_json)
            | foreign_json,
            "auth": st.dictionaries(st.sampled_from(["role", "scopes", "method"]), foreign_json)
            | foreign_json,
            "features": st.dictionaries(st.sampled_from(["methods", "events"]), foreign_json)
            | foreign_json,
            "policy": st.dictionaries(
                st.sampled_from(["maxPayload", "maxBufferedBytes", "tickIntervalMs"]), foreign_json
            )
            | foreign_json,
            "pluginSurfaceUrls": foreign_json,
        },
    ),
    dialect=st.sampled_from(Dialect),
)
def test_any_json_is_a_hello_of_the_right_types_or_none(payload: Any, dialect: Dialect) -> None:
    """G1."""
    hello = read_hello(payload, dialect)
    if hello is None:
        assert dialect is V4
        return
    assert hello.payload == payload
    texts = (hello.server_version, hello.boot_id, hello.connection_id, hello.role)
    assert all(text is None or (isinstance(text, str) and text) for text in texts)
    assert hello.scopes is None or all(isinstance(scope, str) for scope in hello.scopes)
    assert all(isinstance(name, str) for name in hello.methods | hello.events)
    assert hello.policy.max_payload > 0
    assert 1.0 <= hello.policy.tick_interval <= 600.0
    assert all(isinstance(text, str) and text for text in secrets_of_hello(payload))


# --- its secrets ------------------------------------------------------------------------------


def test_the_secrets_of_a_hello_are_found() -> None:
    """wire.md 3; G11."""
    payload = HELLO | {"auth": HELLO["auth"] | {"deviceToken": "SECRET-TOKEN"}}
    assert set(secrets_of_hello(payload)) == {
        "SECRET-TOKEN",
        "SECRET-SCOPE",
        "http://127.0.0.1:18800/__openclaw__/cap/SECRET-URL",
    }


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"auth": ["deviceToken"], "pluginSurfaceUrls": "http://x"},
        {"auth": {"deviceToken": "", "recoveryScope": 7}, "pluginSurfaceUrls": {"canvas": None}},
    ],
)
def test_a_hello_without_secrets_has_none(payload: object) -> None:
    assert secrets_of_hello(payload) == []


def test_a_hello_shows_no_secret() -> None:
    """G11."""
    shown = repr(read_hello(HELLO, V4))
    assert "SECRET" not in shown
    assert "2026.9.6" in shown


def test_the_secrets_of_a_hello_are_bounded_in_number_and_length() -> None:
    urls = {str(number): f"url-{number}" for number in range(100)} | {"huge": "x" * 5000}
    found = secrets_of_hello({"pluginSurfaceUrls": urls, "auth": {"deviceToken": "d"}})
    assert len(found) == 32
    assert found[0] == "d"
    assert max(map(len, found)) < 5000
    for length, count in ((4096, 1), (4097, 0)):
        assert len(secrets_of_hello({"auth": {"recoveryScope": "x" * length}})) == count
