"""How the stand-in locks out who guesses, where the client is remote (wire.md 5)."""

from __future__ import annotations

import pytest

from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient
from tests.testing.raw_device import TOKEN, RawDevice, approved, device_at, let_it_act

WRONG = {"token": "wrong"}
LIMITED = {
    "code": "AUTH_RATE_LIMITED",
    "authReason": "rate_limited",
    "canRetryWithDeviceToken": False,
    "recommendedNextStep": "wait_then_retry",
}


def remote_pair() -> tuple[RawDevice, str]:
    """Return a device that a remote gateway's owner approved, and its token."""
    device = approved()
    return device, device.hello(auth=TOKEN)["deviceToken"]


def guess(device: RawDevice, times: int, auth: dict[str, str]) -> set[str]:
    return {device.refusal(auth=auth)["code"] for _ in range(times)}


def test_the_11th_failure_in_60_s_is_locked_out_and_the_good_token_too() -> None:
    device, _ = remote_pair()
    assert guess(device, 10, WRONG) == {"AUTH_TOKEN_MISMATCH"}
    device.now = 0.007
    client = device.connect(auth=WRONG)
    assert client.error["details"] == LIMITED
    assert client.error["code"] == "INVALID_REQUEST"
    assert (client.error["retryable"], client.error["retryAfterMs"]) == (True, 299_993)
    assert device.refusal(auth=TOKEN) == LIMITED
    device.now = 299.9
    assert device.refusal(auth=TOKEN) == LIMITED
    device.now = 300.0
    assert device.hello(auth=TOKEN)["method"] == "token"


def test_attempts_while_locked_out_do_not_lengthen_it() -> None:
    device, _ = remote_pair()
    guess(device, 10, WRONG)
    device.now = 200.0
    assert guess(device, 20, WRONG) == {"AUTH_RATE_LIMITED"}
    device.now = 300.0
    assert guess(device, 9, WRONG) == {"AUTH_TOKEN_MISMATCH"}
    assert device.hello(auth=TOKEN)["method"] == "token"


def test_failures_older_than_60_s_do_not_count() -> None:
    device, _ = remote_pair()
    guess(device, 9, WRONG)
    device.now = 60.0
    assert guess(device, 9, WRONG) == {"AUTH_TOKEN_MISMATCH"}
    assert device.hello(auth=TOKEN)["method"] == "token"


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"deviceToken": "x"}, "AUTH_DEVICE_TOKEN_MISMATCH"),
        ({"bootstrapToken": "x"}, "AUTH_BOOTSTRAP_TOKEN_INVALID"),
    ],
)
def test_the_shared_token_is_not_hit_by_guesses_of_another_class(
    auth: dict[str, str], code: str
) -> None:
    device, token = remote_pair()
    assert guess(device, 10, auth) == {code}
    assert device.refusal(auth=auth) == LIMITED
    assert device.hello(auth=TOKEN)["method"] == "token"
    if code == "AUTH_DEVICE_TOKEN_MISMATCH":
        assert device.refusal(auth={"deviceToken": token}) == LIMITED


def test_a_device_token_opens_while_the_shared_token_is_locked_out() -> None:
    device, token = remote_pair()
    guess(device, 10, WRONG)
    for auth in ({"deviceToken": token}, {**WRONG, "deviceToken": token}, {"token": token}):
        assert device.hello(auth=auth)["method"] == "device-token"


def test_a_locked_out_bootstrap_token_is_not_spent() -> None:
    gateway = StandInGateway(token="t", bootstrap_token="b", remote=True)
    device = RawDevice(gateway)
    guess(device, 10, {"bootstrapToken": "x"})
    assert device.refusal(auth={"bootstrapToken": "b"}) == LIMITED
    device.now = 300.0
    assert device.hello(auth={"bootstrapToken": "b"})["method"] == "bootstrap-token"


def test_a_client_without_a_device_is_locked_out_just_the_same() -> None:
    gateway = StandInGateway(token="t", remote=True)
    for number in range(10):
        RawClient(gateway, number).connect(auth=WRONG)
    assert RawClient(gateway, 10).connect(auth=TOKEN).error["details"] == LIMITED
    bare = RawClient(gateway, 11).connect(auth={})  # guessed nothing
    assert bare.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}


def test_loopback_locks_nobody_out() -> None:
    device = device_at(remote=False)
    token = device.hello(auth=TOKEN)["deviceToken"]
    assert guess(device, 12, WRONG) == {"AUTH_TOKEN_MISMATCH"}
    assert guess(device, 12, {"deviceToken": "x"}) == {"AUTH_DEVICE_TOKEN_MISMATCH"}
    assert device.hello(auth=TOKEN)["deviceToken"] == token


def test_a_restart_leaves_the_lock() -> None:
    device, _ = remote_pair()
    guess(device, 10, WRONG)
    device.gateway.restart()
    let_it_act(device.gateway)
    assert device.refusal(auth=TOKEN) == LIMITED
