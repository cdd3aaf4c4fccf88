"""A device's proof at the stand-in: what is signed, with which clock, and broken challenges."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from butter_proto.device_auth import SignedPayload, signed_text
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient, connect_params
from tests.testing.raw_device import CLI, RawDevice


def standard(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("version", SignedPayload)
def test_both_signed_texts_are_accepted(version: SignedPayload) -> None:
    named = {**CLI, "platform": " Linux ", "deviceFamily": "Élan"}
    device = RawDevice(StandInGateway(token="t"))
    assert device.hello(version=version, client=named, auth={"token": "t"})["method"] == "token"


@pytest.mark.parametrize(
    ("device", "code", "reason"),
    [
        ({"nonce": "other"}, "NONCE_MISMATCH", "device-nonce-mismatch"),
        ({"nonce": " "}, "NONCE_REQUIRED", "device-nonce-missing"),
        ({"id": "0" * 64}, "DEVICE_ID_MISMATCH", "device-id-mismatch"),
        ({"publicKey": "x"}, "DEVICE_ID_MISMATCH", "device-id-mismatch"),
        ({"publicKey": "é"}, "DEVICE_ID_MISMATCH", "device-id-mismatch"),
        ({"publicKey": standard(bytes(31))}, "DEVICE_ID_MISMATCH", "device-id-mismatch"),
        ({"signature": "s"}, "SIGNATURE_INVALID", "device-signature"),
        ({"signature": standard(bytes(63))}, "SIGNATURE_INVALID", "device-signature"),
        ({"signature": standard(bytes(64))}, "SIGNATURE_INVALID", "device-signature"),
    ],
)
def test_a_proof_that_is_wrong_is_refused_in_the_measured_words(
    device: dict[str, Any], code: str, reason: str
) -> None:
    client = RawDevice(StandInGateway()).connect(device=device)
    assert client.error["code"] == "INVALID_REQUEST"
    assert client.error["details"] == {"code": f"DEVICE_AUTH_{code}", "reason": reason}
    assert client.close == (1008, client.error["message"])


def test_a_proof_is_no_good_on_another_socket() -> None:
    device = RawDevice(StandInGateway())
    device.connect()
    replayed = device.gateway.received[-1].params["device"]
    assert device.refusal(device=replayed)["code"] == "DEVICE_AUTH_NONCE_MISMATCH"


@pytest.mark.parametrize("off", [119_000, -119_000])
def test_a_time_119_s_off_is_accepted(off: int) -> None:
    assert RawDevice(StandInGateway()).hello(off_ms=off)["method"] == "none"


@pytest.mark.parametrize("off", [121_000, -121_000])
def test_a_time_121_s_off_is_refused(off: int) -> None:
    assert RawDevice(StandInGateway()).refusal(off_ms=off) == {
        "code": "DEVICE_AUTH_SIGNATURE_EXPIRED",
        "reason": "device-signature-stale",
    }


def test_the_time_is_held_against_the_gateways_clock_at_connect() -> None:
    gateway = StandInGateway(handshake_timeout=300.0)
    device = RawDevice(gateway)
    client = RawClient(gateway, 900).upgrade()
    old = client.inbox[0]["payload"]["ts"]
    client.wait(121.0)
    device.now = 121.0
    assert device.connect().inbox[-1]["ok"] is True
    proof = gateway.received[-1].params["device"]
    nonce = client.inbox[0]["payload"]["nonce"]
    client.request(
        "connect", connect_params(client=CLI, device={**proof, "nonce": nonce, "signedAt": old})
    )
    assert client.error["details"]["code"] == "DEVICE_AUTH_SIGNATURE_EXPIRED"


def test_standard_base64_is_accepted_for_key_and_signature() -> None:
    device = RawDevice(StandInGateway(seed=1))
    client = RawClient(device.gateway).upgrade()
    challenge = client.inbox[0]["payload"]
    params = connect_params(client=CLI, auth={})
    text = signed_text(SignedPayload.V3, params, device.id, challenge["nonce"], challenge["ts"])
    proof = {
        "id": device.id,
        "publicKey": standard(device.public_key),
        "signature": standard(device.sign(text.encode())),
        "signedAt": challenge["ts"],
        "nonce": challenge["nonce"],
    }
    assert client.request("connect", {**params, "device": proof})["ok"] is True


@pytest.mark.parametrize("role", ["operator", None])
def test_what_is_omitted_is_signed_as_operator_and_empty(role: str | None) -> None:
    """An empty auth field counts as absent: the deviceToken is the one that is signed."""
    device = RawDevice(StandInGateway())
    client = RawClient(device.gateway).upgrade()
    challenge = client.inbox[0]["payload"]
    text = f"v3|{device.id}|cli|cli|operator||{challenge['ts']}|d|{challenge['nonce']}|linux|"
    proof = {
        "id": device.id,
        "publicKey": standard(device.public_key),
        "signature": standard(device.sign(text.encode())),
        "signedAt": challenge["ts"],
        "nonce": challenge["nonce"],
    }
    params = connect_params(client=CLI, auth={"token": "", "deviceToken": "d"}, device=proof)
    del params["scopes"], params["role"]
    answer = client.request("connect", params if role is None else {**params, "role": role})
    assert answer["payload"]["auth"]["scopes"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"auth": {"token": "t", "deviceToken": "d"}},
        {"scopes": ["operator.write", "operator.read"]},
        {"client": {**CLI, "platform": "macos"}},
        {"client": {**CLI, "id": "gateway-client"}},
        {"role": "node"},
    ],
)
def test_a_signature_is_void_when_what_is_sent_was_not_signed(changes: dict[str, Any]) -> None:
    device = RawDevice(StandInGateway())
    client = RawClient(device.gateway).upgrade()
    challenge = client.inbox[0]["payload"]
    signed = connect_params(client=CLI, auth={"deviceToken": "d"})
    text = signed_text(SignedPayload.V3, signed, device.id, challenge["nonce"], challenge["ts"])
    proof = {
        "id": device.id,
        "publicKey": standard(device.public_key),
        "signature": standard(device.sign(text.encode())),
        "signedAt": challenge["ts"],
        "nonce": challenge["nonce"],
    }
    client.request("connect", {**signed, **changes, "device": proof})
    assert client.error["details"]["code"] == "DEVICE_AUTH_SIGNATURE_INVALID"


def test_text_that_is_no_unicode_is_a_wrong_signature_and_no_crash() -> None:
    device = RawDevice(StandInGateway())
    client = RawClient(device.gateway).upgrade()
    device.connect()
    proof = {**device.gateway.received[-1].params["device"], **client.inbox[0]["payload"]}
    del proof["ts"], proof["capabilities"]
    client.request("connect", connect_params(client={**CLI, "platform": "\ud800"}, device=proof))
    assert client.error["details"]["code"] == "DEVICE_AUTH_SIGNATURE_INVALID"


def test_a_test_may_verify_in_its_own_way() -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []

    def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
        seen.append((public_key, signature, message))
        return True

    device = RawDevice(StandInGateway(verify=verify))
    assert device.hello(device={"signature": standard(bytes(64))})["method"] == "none"
    ((public_key, signature, message),) = seen
    assert (public_key, signature) == (device.public_key, bytes(64))
    assert message.startswith(f"v3|{device.id}|cli|cli|operator|".encode())


# --- the challenge


def test_a_gateway_two_hours_off_takes_its_own_time_and_no_other() -> None:
    two_hours = 7_200_000
    gateway = StandInGateway(wall_clock=lambda now: 1_795_000_000_000 + two_hours + int(now * 1000))
    device = RawDevice(gateway)
    assert device.hello()["method"] == "none"
    assert device.clients[0].inbox[0]["payload"]["ts"] == 1_795_000_000_000 + two_hours
    assert device.refusal(off_ms=-two_hours)["code"] == "DEVICE_AUTH_SIGNATURE_EXPIRED"


@pytest.mark.parametrize(
    "payload",
    [
        {"nonce": "n"},
        {"nonce": "n", "ts": -1},
        {"nonce": "n", "ts": "1795000000000"},
        {"ts": 1_795_000_000_000},
        None,
        [],
    ],
)
def test_a_broken_challenge_is_sent_once_and_exactly_as_given(payload: Any) -> None:
    gateway = StandInGateway()
    gateway.challenge_next(payload)
    broken, sound = RawClient(gateway, 1).upgrade(), RawClient(gateway, 2).upgrade()
    assert broken.inbox[0]["payload"] == payload
    assert set(sound.inbox[0]["payload"]) == {"nonce", "ts", "capabilities"}
    assert broken.request("connect", connect_params())["ok"] is True  # it has no device


def test_the_nonce_of_a_given_challenge_is_the_one_to_sign() -> None:
    gateway = StandInGateway()
    gateway.challenge_next({"nonce": "given", "ts": 1_795_000_000_000}, times=2)
    device = RawDevice(gateway)
    assert device.hello()["method"] == "none"
    assert device.refusal(device={"nonce": "x"})["code"] == "DEVICE_AUTH_NONCE_MISMATCH"
    assert gateway.received[0].params["device"]["nonce"] == "given"
