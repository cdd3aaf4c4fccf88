"""Pairing at the stand-in: silent on loopback, by the owner where the client is remote (wire.md 4)."""

from __future__ import annotations

from typing import Any

import pytest

from butter_proto.testing import PairingReason, StandInGateway
from tests.testing.raw_client import RawClient
from tests.testing.raw_device import (
    BACKEND,
    CLI,
    READ,
    READ_WRITE,
    TOKEN,
    RawDevice,
    approve,
    approved,
    device_at,
    let_it_act,
)

ADMIN = ["operator.admin"]


# --- loopback


def test_loopback_approves_silently_and_gives_a_token_with_the_first_hello() -> None:
    device = device_at(remote=False)
    auth = device.hello(auth=TOKEN)
    assert (auth["method"], auth["role"], auth["scopes"]) == ("token", "operator", READ_WRITE)
    assert auth["issuedAtMs"] == device.gateway.wall_clock(0.0)
    assert auth["recoveryMigrationAllowed"] is True
    assert auth["recoveryScope"]
    paired = device.gateway.devices[device.id]
    assert paired.tokens["operator"].token == auth["deviceToken"]
    assert auth["deviceToken"] not in repr(paired)
    assert device.gateway.pending == {}


def test_the_same_token_comes_back_on_every_connect() -> None:
    device = device_at(remote=False)
    first = device.hello(auth=TOKEN)
    device.now = 60.0
    for auth in (TOKEN, {"deviceToken": first["deviceToken"]}):
        again = device.hello(auth=auth)
        assert again["deviceToken"] == first["deviceToken"]
        assert again["issuedAtMs"] == first["issuedAtMs"]


def test_a_silent_scope_upgrade_issues_a_new_token_and_kills_the_old_one() -> None:
    device = device_at(remote=False)
    old = device.hello(auth=TOKEN, scopes=READ)["deviceToken"]
    upgraded = device.hello(auth=TOKEN, scopes=ADMIN)
    assert upgraded["scopes"] == ADMIN
    assert upgraded["deviceToken"] != old
    assert device.gateway.devices[device.id].approved_scopes == (*READ, *ADMIN)
    assert device.refusal(auth={"deviceToken": old})["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"


def test_a_silent_role_upgrade_leaves_the_operators_token_alone() -> None:
    device = device_at(remote=False)
    operator = device.hello(auth=TOKEN)["deviceToken"]
    node = device.hello(auth=TOKEN, role="node", scopes=[])
    assert node["role"] == "node"
    assert node["deviceToken"] != operator
    assert device.hello(auth={"deviceToken": operator})["deviceToken"] == operator
    assert device.gateway.devices[device.id].approved_roles == ("operator", "node")


def test_the_backend_identity_connects_with_a_device_but_is_never_paired() -> None:
    device = device_at(remote=False)
    auth = device.hello(auth=TOKEN, client=BACKEND)
    assert auth["scopes"] == READ_WRITE
    assert "deviceToken" not in auth
    assert device.gateway.devices == {}


def test_a_device_keeps_its_scopes_with_an_origin() -> None:
    auth = device_at(remote=False).hello(auth=TOKEN, origin="http://localhost:1")
    assert auth["scopes"] == READ_WRITE


def test_tokens_and_request_ids_come_from_the_seed() -> None:
    tokens = [
        device_at(remote=False, seed=seed, key=key).hello(auth=TOKEN)["deviceToken"]
        for seed, key in ((1, 0), (1, 0), (2, 0))
    ]
    assert tokens[0] == tokens[1] != tokens[2]
    ids = [device_at(remote=True, seed=seed).refusal(auth=TOKEN)["requestId"] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("changed", [{"platform": "macos"}, {"deviceFamily": "Mac"}])
def test_changed_metadata_must_be_approved_on_loopback_too(
    remote: bool, changed: dict[str, Any]
) -> None:
    device = device_at(remote=remote)
    if remote:
        approve(device)
    token = device.hello(auth=TOKEN)["deviceToken"]
    details = device.refusal(auth=TOKEN, client={**CLI, **changed})
    assert details["reason"] == "metadata-upgrade"
    assert details["approvedRoles"] == ["operator"]
    assert details["approvedScopes"] == READ_WRITE
    assert device.hello(auth=TOKEN)["deviceToken"] == token  # the old grant works on
    device.gateway.approve(details["requestId"])
    assert device.hello(auth=TOKEN, client={**CLI, **changed})["deviceToken"] == token


def test_metadata_is_compared_trimmed_and_in_lower_case() -> None:
    device = device_at(remote=False)
    device.hello(auth=TOKEN)
    assert device.hello(auth=TOKEN, client={**CLI, "platform": " LINUX"})["method"] == "token"


# --- remote


def test_a_new_remote_device_is_not_paired_in_the_measured_words() -> None:
    client = (device := device_at(remote=True)).connect(auth=TOKEN)
    ((request_id, request),) = device.gateway.pending.items()
    assert client.error == {
        "code": "NOT_PAIRED",
        "message": "pairing required: device is not approved yet",
        "details": {
            "code": "PAIRING_REQUIRED",
            "reason": "not-paired",
            "requestId": request_id,
            "remediationHint": "Approve this device from the pending pairing requests.",
            "deviceId": device.id,
            "requestedRole": "operator",
            "requestedScopes": READ_WRITE,
        },
    }
    reason = f"pairing required: device is not approved yet (requestId: {request_id})"
    assert client.close == (1008, reason)
    assert (request.device_id, request.reason) == (device.id, PairingReason.NOT_PAIRED)


def test_the_request_id_stays_the_same_also_with_fewer_scopes() -> None:
    device = device_at(remote=True)
    first = device.refusal(auth=TOKEN)
    fewer = device.refusal(auth=TOKEN, scopes=READ)
    assert fewer["requestId"] == first["requestId"]
    assert fewer["requestedScopes"] == READ
    assert device.gateway.pending[first["requestId"]].scopes == tuple(READ_WRITE)
    other = RawDevice(device.gateway, key=1).refusal(auth=TOKEN)
    assert other["requestId"] != first["requestId"]


def test_after_the_approval_the_shared_token_gets_a_device_token() -> None:
    device = approved()
    auth = device.hello(auth=TOKEN)
    assert (auth["method"], auth["scopes"]) == ("token", READ_WRITE)
    assert auth["deviceToken"] == device.gateway.devices[device.id].tokens["operator"].token
    assert device.gateway.pending == {}


def test_after_a_rejection_the_next_connect_opens_a_new_request() -> None:
    device = device_at(remote=True)
    first = device.refusal(auth=TOKEN)["requestId"]
    device.gateway.reject(first)
    assert device.refusal(auth=TOKEN)["requestId"] != first
    assert first not in device.gateway.pending


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scopes": [*READ_WRITE, *ADMIN]}, "scope-upgrade"),
        ({"role": "node", "scopes": []}, "role-upgrade"),
    ],
)
def test_an_upgrade_waits_while_the_old_grant_works_on(
    changes: dict[str, Any], reason: str
) -> None:
    device = approved()
    old = device.hello(auth=TOKEN)["deviceToken"]
    client = device.connect(auth=TOKEN, **changes)
    details = client.error["details"]
    assert details["reason"] == reason
    assert (details["approvedRoles"], details["approvedScopes"]) == (["operator"], READ_WRITE)
    assert client.close is not None
    code, cut = client.close
    assert code == 1008
    assert cut is not None
    assert len(cut) == 120  # in the middle of the request id
    assert f"{client.error['message']} (requestId: {details['requestId']})".startswith(cut)
    assert device.hello(auth={"deviceToken": old})["deviceToken"] == old
    assert device.refusal(auth=TOKEN, **changes)["requestId"] == details["requestId"]
    device.gateway.approve(details["requestId"])
    assert device.hello(auth=TOKEN, **changes)["scopes"] == changes["scopes"]


def test_two_connections_of_a_device_live_side_by_side() -> None:
    device = approved()
    device.hello(auth=TOKEN)
    device.hello(auth=TOKEN)
    assert device.gateway.online_peers == 2


@pytest.mark.parametrize("identity", [CLI, BACKEND])
def test_a_remote_client_without_a_device_has_no_scopes(identity: dict[str, str]) -> None:
    gateway = StandInGateway(token="t", remote=True)
    client = RawClient(gateway).connect(client=identity, auth=TOKEN)
    assert client.inbox[-1]["payload"]["auth"]["scopes"] == []


def test_a_remote_backend_with_a_device_has_what_its_device_token_was_granted() -> None:
    device = approved()
    token = device.hello(auth=TOKEN)["deviceToken"]
    assert device.hello(auth=TOKEN, client=BACKEND)["scopes"] == []
    auth = device.hello(auth={"deviceToken": token}, client=BACKEND)
    assert auth["scopes"] == READ_WRITE
    assert "deviceToken" not in auth


def test_a_restart_keeps_what_is_paired() -> None:
    device = approved()
    token = device.hello(auth=TOKEN)["deviceToken"]
    device.gateway.restart(down=1.0)
    let_it_act(device.gateway)
    device.clients[-1].pull()
    device.now = 5.0
    let_it_act(device.gateway, 5.0)
    assert device.hello(auth={"deviceToken": token})["deviceToken"] == token


def test_without_a_shared_secret_devices_are_paired_too() -> None:
    auth = RawDevice(StandInGateway()).hello()
    assert (auth["method"], auth["scopes"]) == ("none", READ_WRITE)
    assert auth["deviceToken"]
    assert RawDevice(StandInGateway(remote=True)).refusal()["reason"] == "not-paired"
