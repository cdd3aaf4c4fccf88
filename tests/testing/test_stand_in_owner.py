"""What the owner does at the stand-in with a paired device, and who hears of it (wire.md 4)."""

from __future__ import annotations

import pytest

from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient
from tests.testing.raw_device import (
    READ_WRITE,
    TOKEN,
    RawDevice,
    approve,
    approved,
    device_at,
    let_it_act,
)

ADMIN = ["operator.admin"]
REMOVED = (4001, "device removed")


# --- the owner takes back


def test_a_rotation_closes_every_connection_and_kills_the_old_token() -> None:
    device = approved()
    old = device.hello(auth=TOKEN)["deviceToken"]
    device.hello(auth={"deviceToken": old})
    stranger = RawClient(device.gateway, 900).connect(auth=TOKEN)
    live = device.clients[-2:]
    device.gateway.rotate(device.id)
    let_it_act(device.gateway)
    for client in (*live, stranger):
        client.pull()
    assert [client.close for client in live] == [REMOVED, REMOVED]
    assert stranger.close is None
    assert device.refusal(auth={"deviceToken": old})["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    as_token = device.refusal(auth={"token": old})
    assert as_token["code"] == "AUTH_TOKEN_MISMATCH"
    assert as_token["canRetryWithDeviceToken"] is True
    new = device.hello(auth=TOKEN)["deviceToken"]
    assert new != old
    assert device.hello(auth={"deviceToken": new})["scopes"] == READ_WRITE


def test_a_revoked_role_must_be_asked_for_again() -> None:
    device = approved()
    old = device.hello(auth=TOKEN)["deviceToken"]
    device.gateway.revoke(device.id)
    let_it_act(device.gateway)
    device.clients[-1].pull()
    assert device.clients[-1].close == REMOVED
    assert device.refusal(auth={"deviceToken": old})["code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    details = device.refusal(auth=TOKEN)
    assert (details["reason"], details["approvedRoles"]) == ("role-upgrade", [])
    device.gateway.approve(details["requestId"])
    assert device.hello(auth=TOKEN)["deviceToken"] != old


def test_revoking_one_role_leaves_the_other() -> None:
    device = device_at(remote=False)
    operator = device.hello(auth=TOKEN)["deviceToken"]
    device.hello(auth=TOKEN, role="node", scopes=[])
    device.gateway.revoke(device.id, "node")
    assert device.hello(auth={"deviceToken": operator})["deviceToken"] == operator
    assert device.gateway.devices[device.id].approved_roles == ("operator",)


def test_a_removed_device_is_as_new() -> None:
    device = device_at(remote=True)
    first = device.refusal(auth=TOKEN)["requestId"]
    device.gateway.approve(first)
    device.hello(auth=TOKEN)
    upgrade = device.refusal(auth=TOKEN, scopes=ADMIN)["requestId"]
    device.gateway.remove(device.id)
    let_it_act(device.gateway)
    assert upgrade not in device.gateway.pending
    details = device.refusal(auth=TOKEN)
    assert details["reason"] == "not-paired"
    assert details["requestId"] not in (first, upgrade)
    assert "approvedRoles" not in details


def test_what_is_unknown_cannot_be_resolved_or_taken_back() -> None:
    gateway = approved().gateway
    let_it_act(gateway)
    (device_id,) = gateway.devices
    with pytest.raises(KeyError):
        gateway.approve("x")
    with pytest.raises(KeyError):
        gateway.reject("x")
    with pytest.raises(KeyError):
        gateway.remove("x")
    with pytest.raises(KeyError):
        gateway.rotate(device_id, "node")
    with pytest.raises(KeyError):
        gateway.revoke(device_id, "node")
    assert gateway.next_timeout() != 0.0  # nothing was scripted


def test_what_was_asked_twice_is_done_once() -> None:
    device = approved()
    token = device.hello(auth=TOKEN)["deviceToken"]
    gateway = device.gateway
    request_id = device.refusal(auth=TOKEN, role="node", scopes=[])["requestId"]
    gateway.approve(request_id)
    gateway.reject(request_id)
    let_it_act(gateway)
    assert gateway.devices[device.id].approved_roles == ("operator", "node")
    assert gateway.devices[device.id].tokens["operator"].token == token
    gateway.remove(device.id)
    gateway.rotate(device.id)
    gateway.revoke(device.id)
    let_it_act(gateway)
    assert gateway.devices == {}


# --- what the owner's clients hear


def test_who_may_pair_hears_of_requests_once_and_of_their_end() -> None:
    gateway = StandInGateway(token="t", remote=True)
    watcher_device = RawDevice(gateway, key=7)
    approve(watcher_device, scopes=["operator.pairing"])
    watcher_device.hello(auth=TOKEN, scopes=["operator.pairing"])
    watcher, deaf = watcher_device.clients[-1], RawClient(gateway, 901).connect(auth=TOKEN)
    device = RawDevice(gateway)
    request_id = device.refusal(auth=TOKEN)["requestId"]
    device.refusal(auth=TOKEN)
    gateway.reject(request_id)
    second = device.refusal(auth=TOKEN)["requestId"]
    gateway.approve(second)
    let_it_act(gateway)
    for client in (watcher, deaf):
        client.pull()
    told = [frame for frame in watcher.inbox if "device.pair" in frame.get("event", "")]
    now_ms = gateway.wall_clock(0.0)
    assert told[0] == {
        "type": "event",
        "event": "device.pair.requested",
        "payload": {
            "requestId": request_id,
            "deviceId": device.id,
            "publicKey": gateway.received[-1].params["device"]["publicKey"],
            "platform": "linux",
            "clientId": "cli",
            "clientMode": "cli",
            "role": "operator",
            "roles": ["operator"],
            "scopes": READ_WRITE,
            "remoteIp": "203.0.113.9",
            "silent": False,
            "isRepair": False,
            "ts": now_ms,
        },
        "seq": 1,
    }
    assert [
        (f["event"], f["payload"]["requestId"], f["payload"].get("decision")) for f in told
    ] == [
        ("device.pair.requested", request_id, None),
        ("device.pair.resolved", request_id, "rejected"),
        ("device.pair.requested", second, None),
        ("device.pair.resolved", second, "approved"),
    ]
    assert deaf.names == ["connect.challenge"]


def test_a_stalled_gateway_approves_when_it_goes_on() -> None:
    device = device_at(remote=True)
    request_id = device.refusal(auth=TOKEN)["requestId"]
    device.gateway.stall()
    let_it_act(device.gateway)
    device.gateway.approve(request_id)
    let_it_act(device.gateway)
    assert device.gateway.devices == {}
    device.gateway.resume()
    let_it_act(device.gateway)
    assert [*device.gateway.devices] == [device.id]


def test_each_scripted_word_wakes_the_driver() -> None:
    device = device_at(remote=True)
    request_id = device.refusal(auth=TOKEN)["requestId"]
    woken: list[str] = []
    device.gateway.wake = lambda: woken.append("!")
    device.gateway.approve(request_id)
    device.gateway.challenge_next(None)
    assert len(woken) == 2
    assert device.gateway.next_timeout() == 0.0
