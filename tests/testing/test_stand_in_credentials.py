"""Credentials at the stand-in: which opens, in which words the others are refused (wire.md 4, 5)."""

from __future__ import annotations

from typing import Any

import pytest

from butter_proto.errors import InvalidSettings
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient
from tests.testing.raw_device import (
    BACKEND,
    CLI,
    READ,
    READ_WRITE,
    TOKEN,
    RawDevice,
    device_at,
)

WRONG = {"token": "wrong"}


def paired() -> tuple[RawDevice, str]:
    """Return a device that is paired on loopback, and its token."""
    device = device_at(remote=False)
    return device, device.hello(auth=TOKEN)["deviceToken"]


def details(reason: str, next_step: str, *, can_retry: bool = False) -> dict[str, Any]:
    return {
        "code": f"AUTH_{reason.upper()}",
        "authReason": reason,
        "canRetryWithDeviceToken": can_retry,
        "recommendedNextStep": next_step,
    }


# --- device tokens


@pytest.mark.parametrize(
    "fields", [("deviceToken",), ("token",), ("token", "deviceToken"), ("wrong", "deviceToken")]
)
def test_a_device_token_opens_from_either_field(fields: tuple[str, ...]) -> None:
    device, token = paired()
    auth = {name: token for name in fields if name != "wrong"}
    hello = device.hello(auth={**WRONG, **auth} if "wrong" in fields else auth)
    assert (hello["method"], hello["deviceToken"]) == ("device-token", token)


def test_fewer_scopes_narrow_and_omitted_scopes_mean_none() -> None:
    device, token = paired()
    auth = {"deviceToken": token}
    assert device.hello(auth=auth, scopes=READ)["scopes"] == READ
    assert device.hello(auth=auth, scopes=[])["scopes"] == []
    assert device.hello(auth=auth)["scopes"] == READ_WRITE  # nothing was lost


@pytest.mark.parametrize("field", ["token", "deviceToken"])
def test_more_scopes_than_the_device_token_has_are_a_mismatch(field: str) -> None:
    device, token = paired()
    refused = device.refusal(auth={field: token}, scopes=["operator.admin"])
    assert refused == details("scope_mismatch", "review_auth_configuration")


def test_the_device_token_works_with_another_client_id() -> None:
    device, token = paired()
    other = {**CLI, "id": "gateway-client"}
    assert device.hello(auth={"deviceToken": token}, client=other)["method"] == "device-token"


def test_an_operators_token_is_none_for_a_node() -> None:
    device, token = paired()
    refused = device.refusal(auth={"deviceToken": token}, role="node", scopes=[])
    assert refused["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


def test_a_device_token_is_bound_to_its_device() -> None:
    device, token = paired()
    thief = RawDevice(device.gateway, key=1)
    assert thief.refusal(auth={"deviceToken": token})["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    bare = RawClient(device.gateway, 900).connect(client=BACKEND, auth={"deviceToken": token})
    assert bare.error["details"]["code"] == "DEVICE_IDENTITY_REQUIRED"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({}, details("token_missing", "update_auth_configuration")),
        (WRONG, details("token_mismatch", "retry_with_device_token", can_retry=True)),
        (
            {"password": "wrong"},
            details("token_mismatch", "retry_with_device_token", can_retry=True),
        ),
        (
            {"deviceToken": "wrong"},
            details("device_token_mismatch", "update_auth_credentials"),
        ),
        (
            {"token": "wrong", "deviceToken": "wrong"},
            details("device_token_mismatch", "update_auth_credentials"),
        ),
        (
            {"bootstrapToken": "wrong"},
            details("bootstrap_token_invalid", "review_auth_configuration"),
        ),
    ],
)
def test_wrong_secrets_of_a_device_have_the_measured_details(
    known: bool, auth: dict[str, str], expected: dict[str, Any]
) -> None:
    device, _ = paired() if known else (RawDevice(StandInGateway(token="t")), "")
    client = device.connect(auth=auth)
    assert client.error["code"] == "INVALID_REQUEST"
    assert client.error["details"] == expected
    assert client.close == (1008, client.error["message"])


# --- password mode


@pytest.mark.parametrize("field", ["token", "password"])
def test_the_password_counts_in_either_field(field: str) -> None:
    client = RawClient(StandInGateway(password="p")).connect(auth={field: "p"})
    assert client.inbox[-1]["payload"]["auth"]["method"] == "password"


@pytest.mark.parametrize(
    ("options", "method"), [({"password": "p"}, "password"), ({"token": "p"}, "token")]
)
def test_where_both_fields_are_given_the_modes_own_counts(
    options: dict[str, str], method: str
) -> None:
    other = "token" if method == "password" else "password"
    good = RawClient(StandInGateway(**options)).connect(auth={method: "p", other: "x"})  # type: ignore[arg-type]
    assert good.inbox[-1]["payload"]["auth"]["method"] == method
    bad = RawClient(StandInGateway(**options)).connect(auth={method: "x", other: "p"})  # type: ignore[arg-type]
    assert bad.error["details"]["authReason"] == f"{method}_mismatch"


@pytest.mark.parametrize("field", ["token", "password"])
@pytest.mark.parametrize("with_device", [False, True])
def test_a_wrong_password_is_a_mismatch_in_either_field(with_device: bool, field: str) -> None:
    gateway = StandInGateway(password="p")
    if with_device:
        client = RawDevice(gateway).connect(auth={field: "x"})
    else:
        client = RawClient(gateway).connect(auth={field: "x"})
    assert client.error["details"] == details("password_mismatch", "update_auth_credentials")


def test_no_password_is_missing_with_a_device_and_an_identity_short_without() -> None:
    gateway = StandInGateway(password="p")
    refused = RawDevice(gateway).refusal(auth={})
    assert refused == details("password_missing", "update_auth_configuration")
    bare = RawClient(gateway).connect(auth={})
    assert bare.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}


def test_a_device_is_paired_by_password_and_comes_back_with_its_token() -> None:
    device = RawDevice(StandInGateway(password="p"))
    first = device.hello(auth={"password": "p"})
    assert first["method"] == "password"
    assert device.hello(auth={"deviceToken": first["deviceToken"]})["method"] == "device-token"


def test_a_gateway_has_one_shared_secret() -> None:
    with pytest.raises(InvalidSettings):
        StandInGateway(token="t", password="p")


# --- bootstrap


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("role", "scopes", "other", "further"),
    [
        ("operator", READ_WRITE, "node", []),
        (
            "node",
            [],
            "operator",
            ["operator.approvals", "operator.read", "operator.talk.secrets", "operator.write"],
        ),
    ],
)
def test_a_bootstrap_token_pairs_at_once_and_hands_the_other_role_over(
    remote: bool, role: str, scopes: list[str], other: str, further: list[str]
) -> None:
    gateway = StandInGateway(token="t", bootstrap_token="b", remote=remote)
    device = RawDevice(gateway)
    auth = device.hello(auth={"bootstrapToken": "b"}, role=role, scopes=scopes)
    assert (auth["method"], auth["role"], auth["scopes"]) == ("bootstrap-token", role, scopes)
    (second,) = auth["deviceTokens"]
    assert second == {
        "deviceToken": gateway.devices[device.id].tokens[other].token,
        "role": other,
        "scopes": further,
        "issuedAtMs": gateway.wall_clock(0.0),
    }
    for name, token, asked in ((role, auth, scopes), (other, second, further)):
        used = {"deviceToken": token["deviceToken"]}
        assert device.hello(auth=used, role=name, scopes=asked)["scopes"] == asked


def test_only_a_bootstrap_hello_has_further_tokens() -> None:
    device, _ = paired()
    assert "deviceTokens" not in device.hello(auth=TOKEN)


def test_a_bootstrap_token_opens_once() -> None:
    gateway = StandInGateway(token="t", bootstrap_token="b")
    RawDevice(gateway).hello(auth={"bootstrapToken": "b"})
    second = RawDevice(gateway, key=1)
    refused = second.refusal(auth={"bootstrapToken": "b"})
    assert refused == details("bootstrap_token_invalid", "review_auth_configuration")


def test_the_right_shared_token_leaves_the_bootstrap_token_unspent() -> None:
    gateway = StandInGateway(token="t", bootstrap_token="b")
    device = RawDevice(gateway)
    assert device.hello(auth={"token": "t", "bootstrapToken": "b"})["method"] == "token"
    assert device.hello(auth={"bootstrapToken": "b"})["method"] == "bootstrap-token"


def test_a_bootstrap_token_without_a_device_is_nothing() -> None:
    gateway = StandInGateway(token="t", bootstrap_token="b")
    bare = RawClient(gateway).connect(auth={"bootstrapToken": "b"})
    assert bare.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}
