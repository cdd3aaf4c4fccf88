"""A connector that is a device: what it signs, what it stores, what it does when refused."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import pytest

from butter_proto import (
    CLI,
    Credentials,
    DeviceToken,
    Dialect,
    EndKind,
    FaultKind,
    Framing,
    InvalidSettings,
    NotOnline,
    ReconnectSettings,
    Secret,
    Settings,
    SignedPayload,
    TokenKey,
    device_id,
    events,
)
from butter_proto.machine import State
from tests.proto.gateway_side import (
    DEVICE_TOKEN,
    OTHER_DEVICE_TOKEN,
    TOKEN,
    Speech,
    challenged,
    event,
    frame,
    hello_ok,
    pushed,
    refused,
    response,
    said,
    welcomed,
)
from tests.proto.operations import Hashing, World, new_machine

AS_DEVICE: Final = Settings(identity=CLI, token=TOKEN)
WITHOUT_TOKEN: Final = Settings(identity=CLI)
LOOPBACK: Final = "ws://127.0.0.1:18789/"
STORED: Final = DeviceToken(Secret(DEVICE_TOKEN), ("operator.read",))
TS: Final = 1_795_397_784_915
_E = TypeVar("_E", bound=events.Event)


def refusal(detail: str, **error: Any) -> Speech:
    body = {"code": "INVALID_REQUEST", "message": "no", "details": {"code": detail}, **error}
    return partial(refused, error=body)


def begun(
    settings: Settings = AS_DEVICE, *, url: str = LOOPBACK, stored: DeviceToken | None = None
) -> World:
    """Start a connector, with the device token that was kept for it."""
    world = World(settings, url)
    world.give("start", device_token=stored)
    return world


def greeted(world: World, *speeches: Speech) -> World:
    """Answer the next connect request, and say more in the same breath."""
    world.online(2)
    world.say([*(speeches or (welcomed,))])
    return world


def of(world: World, kind: type[_E]) -> list[_E]:
    return [one for one in world.told if isinstance(one, kind)]


def connects(world: World) -> list[dict[str, Any]]:
    """Return the params of every connect request."""
    return [
        message["params"]
        for peer in world.peers.values()
        for message in peer.messages
        if message["method"] == "connect"
    ]


def state_of(world: World) -> State:
    return world.machine.state


def names(world: World) -> list[str]:
    """Return what was told, states and events by their names."""
    return [
        one.name if isinstance(one, events.GatewayEvent) else type(one).__name__
        for one in world.told
    ]


# --- the proof ------------------------------------------------------------------------------


def test_the_connect_request_is_signed_with_the_challenge() -> None:
    world = greeted(begun())
    [params] = connects(world)
    device = params["device"]
    assert device["id"] == device_id(Hashing.public_key)
    assert (device["nonce"], device["signedAt"]) == ("a nonce", TS)
    assert (params["client"]["id"], params["client"]["mode"]) == ("cli", "cli")


def test_a_device_is_cli_unless_it_is_told_otherwise() -> None:
    """wire.md 4: the backend identity never gets a device token."""
    machine = new_machine(AS_DEVICE)
    key = TokenKey("ws://gateway.local:18789", device_id(Hashing.public_key), "cli", "operator")
    assert machine.token_key == key
    assert new_machine(Settings()).token_key is None


def test_v2_is_signed_in_the_attempt_that_asks_for_it_and_in_no_other() -> None:
    """Lesson 9."""
    world = World(AS_DEVICE, LOOPBACK)
    signed: list[str] = []

    def sign(message: bytes) -> bytes:
        signed.append(message[:2].decode())
        return bytes(64)

    signer: Any = world.machine._around.signer
    signer.sign = sign
    world.give("start", signed=SignedPayload.V2)
    for wish in (SignedPayload.V3, SignedPayload.V2, SignedPayload.V3):
        world.online(2)
        world.ended()
        world.reconnect_now(wish)
    world.online(2)
    world.ended()
    world.online(2)
    assert signed == ["v2", "v3", "v2", "v3", "v3"]


@pytest.mark.parametrize("ts", [None, -1, "1795397784915", 1.5, True, 2**60])
def test_a_challenge_without_a_time_is_not_answered(ts: Any) -> None:
    world = begun()
    world.online(1)
    world.say([partial(said, data=event("connect.challenge", {"nonce": "n", "ts": ts}))])
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.CHALLENGE_INVALID
    assert connects(world) == []


@pytest.mark.parametrize("nonce", [None, "", 5, "a|b", "n" * 300, "a\nb"])
def test_a_challenge_whose_nonce_cannot_be_signed_is_not_answered(nonce: Any) -> None:
    world = begun()
    world.online(1)
    world.say([partial(challenged, nonce=nonce)])
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.CHALLENGE_INVALID
    assert connects(world) == []


def test_without_a_device_the_time_of_a_challenge_does_not_matter() -> None:
    world = World(Settings(token=TOKEN), LOOPBACK)
    world.online(1)
    world.say([partial(said, data=event("connect.challenge", {"nonce": "a|b"}))])
    assert len(connects(world)) == 1


def test_a_signer_that_keeps_failing_stops_at_the_third_time_and_nothing_is_sent() -> None:
    world = begun()
    signer: Any = world.machine._around.signer
    signer.sign = lambda _: b"short"
    for _ in range(3):
        world.online(2)
        world.now = world.machine.retry_at or world.now
        world.give("handle_timeout")
    [gave_up] = of(world, events.GaveUp)
    assert gave_up.ending.kind is EndKind.SIGNER_FAILED
    assert gave_up.ending.text == "the signer returned no 64 bytes"
    assert "key cannot sign" in gave_up.advice
    assert connects(world) == []


def test_the_original_dialect_knows_no_devices() -> None:
    settings = Settings(dialect=Dialect.OPENBUTTER_V1, identity=CLI)
    with pytest.raises(InvalidSettings, match="devices"):
        new_machine(settings)


# --- a new token ----------------------------------------------------------------------------


def test_online_waits_until_a_new_token_is_stored() -> None:
    world = greeted(begun())
    issued = of(world, events.DeviceTokenIssued)
    assert issued == [events.DeviceTokenIssued(1, (("operator", STORED),))]
    assert state_of(world) is State.CONNECTING
    with pytest.raises(NotOnline):
        world.machine.request("health", now=world.now)
    world.stored()
    assert state_of(world) is State.ONLINE
    assert of(world, events.DeviceTokenNotStored) == []


def test_a_store_that_takes_too_long_delays_online_by_five_seconds_and_is_told() -> None:
    world = greeted(begun())
    world.wait(4.99)
    assert state_of(world) is State.CONNECTING
    world.wait(0.01)
    assert names(world)[-3:] == ["Online", "ScopesReduced", "DeviceTokenNotStored"]
    assert of(world, events.DeviceTokenNotStored) == [events.DeviceTokenNotStored(True)]
    world.stored()
    assert len(of(world, events.Online)) == 1


def test_a_token_that_could_not_be_stored_is_told_again_with_the_next_hello() -> None:
    """Lesson 7: it may be the only way in."""
    world = greeted(begun())
    world.stored(ok=False)
    world.ended()
    greeted(world)
    assert state_of(world) is State.CONNECTING
    world.stored()
    world.ended()
    greeted(world)
    assert state_of(world) is State.ONLINE
    assert len(of(world, events.DeviceTokenIssued)) == 2


def test_a_store_that_answers_late_has_stored_all_the_same() -> None:
    world = greeted(begun())
    world.wait(5.0)
    world.ended()
    world.stored(which=0)
    greeted(world)
    assert state_of(world) is State.ONLINE


def test_answers_that_never_come_are_not_remembered_for_ever() -> None:
    world = begun()
    for number in range(12):
        greeted(world, partial(welcomed, device_token=f"token number {number}"))
        world.ended()
    assert len(world.machine._authenticator._to_be_stored) == 8


def test_a_store_that_fails_is_told_after_online() -> None:
    world = greeted(begun())
    world.stored(ok=False)
    assert of(world, events.DeviceTokenNotStored) == [events.DeviceTokenNotStored(False)]
    assert state_of(world) is State.ONLINE


def test_what_comes_while_a_token_is_stored_is_told_after_online() -> None:
    tick = partial(pushed, name="tick")
    world = greeted(begun(), welcomed, tick, partial(pushed, name="chat", gap=2))
    assert names(world) == ["Connecting", "DeviceTokenIssued"]
    world.stored()
    assert names(world)[2:] == ["Online", "ScopesReduced", "tick", "EventsMissed", "chat"]
    assert of(world, events.EventsMissed) == [
        events.EventsMissed(events.MissReason.GAP, 2),
    ]


def test_the_gateways_pings_are_answered_while_a_token_is_stored() -> None:
    world = greeted(begun())
    world.say([partial(said, data=frame(9, b"are you there"))])
    assert world.peers[1].pongs == [b"are you there"]


def test_a_peer_that_falls_silent_while_a_token_is_stored_is_found_all_the_same() -> None:
    """The probes run from hello on."""
    settings = attrs.evolve(
        AS_DEVICE, keepalive=attrs.evolve(AS_DEVICE.keepalive, interval=1.0, timeout=1.0, misses=1)
    )
    world = greeted(begun(settings))
    world.wait(1.0)
    assert len(world.peers[1].pings) == 1
    world.wait(1.0)
    assert world.machine.last_ending is not None
    assert world.machine.last_ending.kind is EndKind.SILENT_PEER


def test_a_connection_that_falls_while_a_token_is_stored_was_never_online() -> None:
    world = greeted(begun(), welcomed, partial(pushed, name="tick"))
    world.ended()
    assert names(world) == ["Connecting", "DeviceTokenIssued", "Retrying"]
    greeted(world)
    assert names(world)[3:] == ["Connecting", "DeviceTokenIssued"]
    world.stored()
    assert names(world)[5:] == ["Online", "ScopesReduced"]


def test_what_was_held_for_nothing_leaves_its_room_free() -> None:
    tick = partial(pushed, name="tick")
    settings = attrs.evolve(AS_DEVICE, limits=attrs.evolve(AS_DEVICE.limits, max_events=1))
    world = begun(settings)
    for _ in range(3):
        greeted(world, partial(welcomed, device_token=f"token {world.now}"))
        world.say([tick])
        world.say([tick])
        world.ended()
        world.now += 1
    world.online()
    world.say([tick])
    assert names(world)[-1] == "tick"


def test_an_answer_for_a_connection_that_fell_does_not_count_for_the_next_one() -> None:
    world = greeted(begun())
    world.ended()
    greeted(world, partial(welcomed, device_token=OTHER_DEVICE_TOKEN))
    world.stored(which=1)
    assert state_of(world) is State.CONNECTING
    world.stored(which=0)
    assert state_of(world) is State.ONLINE


def test_a_token_that_is_known_already_is_not_told_again() -> None:
    world = greeted(begun(stored=STORED))
    assert state_of(world) is State.ONLINE
    assert of(world, events.DeviceTokenIssued) == []


def test_a_known_token_keeps_the_scopes_that_it_was_granted_before() -> None:
    """A connection may have fewer; more are added."""
    stored = DeviceToken(STORED.token, ("operator.write",))
    world = greeted(begun(stored=stored))
    world.stored()
    world.ended()
    greeted(world)
    assert state_of(world) is State.ONLINE
    both = DeviceToken(STORED.token, ("operator.write", "operator.read"))
    assert of(world, events.DeviceTokenIssued) == [
        events.DeviceTokenIssued(1, (("operator", both),))
    ]


def test_without_a_device_no_token_is_told_or_waited_for() -> None:
    world = World(Settings(token=TOKEN), LOOPBACK)
    greeted(world)
    assert state_of(world) is State.ONLINE
    assert of(world, events.DeviceTokenIssued) == []


def with_more_tokens(peer: Any) -> bytes:
    """The hello of a setup code's first connect, with things that are no tokens among them."""
    hello = hello_ok()
    more = {"deviceToken": OTHER_DEVICE_TOKEN, "role": "node", "scopes": ["x"], "issuedAtMs": 5}
    hello["auth"]["deviceTokens"] = [
        more,
        {**more, "deviceToken": ""},
        {**more, "role": "king"},
        {**more, "role": "operator"},
        {**more, "deviceToken": "x" * 5000},
        {**more, "deviceToken": "\ud800"},
        {**more, "scopes": None},
        7,
    ]
    return response(peer.connect_id, hello)


@pytest.mark.parametrize(
    ("url", "roles"),
    [
        (LOOPBACK, ["operator", "node"]),
        ("wss://gateway.example/", ["operator", "node"]),
        ("ws://gateway.local/", ["operator"]),
    ],
)
def test_further_tokens_are_kept_only_where_nobody_could_read_along(
    url: str, roles: list[str]
) -> None:
    settings = Settings(identity=CLI, bootstrap_token="the-setup-code")
    world = greeted(begun(settings, url=url), with_more_tokens)
    [issued] = of(world, events.DeviceTokenIssued)
    assert [role for role, _ in issued.tokens] == roles
    assert dict(issued.tokens)["operator"] == STORED
    assert OTHER_DEVICE_TOKEN not in repr(issued)


def test_a_hello_that_tells_no_scopes_is_taken_to_grant_what_was_asked_for() -> None:
    def without_scopes(peer: Any) -> bytes:
        hello = hello_ok()
        del hello["auth"]["scopes"]
        return response(peer.connect_id, hello)

    world = greeted(begun(), without_scopes)
    [issued] = of(world, events.DeviceTokenIssued)
    assert dict(issued.tokens)["operator"].scopes == ("operator.read", "operator.write")


def test_when_a_token_was_issued_is_kept_with_it() -> None:
    def dated(peer: Any) -> bytes:
        hello = hello_ok()
        hello["auth"]["issuedAtMs"] = 1_795_397_965_432
        return response(peer.connect_id, hello)

    world = greeted(begun(), dated)
    [issued] = of(world, events.DeviceTokenIssued)
    assert dict(issued.tokens)["operator"].issued_at == 1_795_397_965_432


def test_a_token_is_told_though_the_gateways_clock_has_gone_back() -> None:
    """What a hello brings is valid, whenever it says that it was issued."""

    def dated(peer: Any) -> bytes:
        hello = hello_ok(device_token=OTHER_DEVICE_TOKEN)
        hello["auth"]["issuedAtMs"] = 1000
        return response(peer.connect_id, hello)

    stored = DeviceToken(STORED.token, STORED.scopes, 2000)
    world = greeted(begun(stored=stored), dated)
    [issued] = of(world, events.DeviceTokenIssued)
    assert dict(issued.tokens)["operator"].issued_at == 1000


def test_the_token_of_another_role_is_masked_on_every_later_connection() -> None:
    settings = Settings(identity=CLI, bootstrap_token="the-setup-code")
    world = greeted(begun(settings), with_more_tokens)
    world.stored()
    for _ in range(3):
        world.ended()
        world.online()
    world.ended()
    error = {"code": "X", "message": f"not {OTHER_DEVICE_TOKEN}"}
    greeted(world, partial(refused, error=error))
    assert "not ***" in str(world.machine.last_ending)


# --- what the next attempt uses -------------------------------------------------------------


def test_a_kept_token_connects_alone_and_asks_for_what_it_was_granted() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED))
    [params] = connects(world)
    assert params["auth"] == {"deviceToken": DEVICE_TOKEN}
    assert params["scopes"] == ["operator.read"]


def test_a_token_that_was_just_issued_is_used_by_the_next_attempt() -> None:
    settings = Settings(identity=CLI, bootstrap_token="the-setup-code")
    world = greeted(begun(settings))
    world.stored()
    world.ended()
    world.online()
    first, second = connects(world)
    assert first["auth"] == {"bootstrapToken": "the-setup-code"}
    assert second["auth"] == {"deviceToken": DEVICE_TOKEN}
    assert second["scopes"] == ["operator.read"]


def test_a_refused_shared_token_is_repaired_once_by_the_kept_one() -> None:
    """wire.md 12."""
    world = greeted(begun(stored=STORED), refusal("AUTH_TOKEN_MISMATCH"))
    assert [one.delay for one in of(world, events.Retrying)] == [0.25]
    world.online()
    assert state_of(world) is State.ONLINE
    assert [list(params["auth"]) for params in connects(world)] == [["token"], ["deviceToken"]]
    world.ended()
    world.online()
    assert list(connects(world)[2]["auth"]) == ["deviceToken"]


def test_two_refused_tokens_stop_and_only_the_devices_is_forgotten() -> None:
    """Lesson 8."""
    world = greeted(begun(stored=STORED), refusal("AUTH_TOKEN_MISMATCH"))
    greeted(world, refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.forgotten()
    [rejected] = of(world, events.DeviceTokenRejected)
    assert (rejected.role, rejected.token) == ("operator", STORED.token)
    [gave_up] = of(world, events.GaveUp)
    assert "shared token" in gave_up.advice
    assert state_of(world) is State.BLOCKED


@pytest.mark.parametrize("url", ["ws://gateway.local/", "wss://gateway.example/"])
def test_an_endpoint_that_may_be_somebody_else_gets_no_kept_token_for_a_refusal(url: str) -> None:
    world = greeted(begun(url=url, stored=STORED), refusal("AUTH_TOKEN_MISMATCH"))
    assert len(of(world, events.GaveUp)) == 1


@pytest.mark.parametrize(
    "code", ["AUTH_SCOPE_MISMATCH", "PAIRING_REQUIRED", "DEVICE_AUTH_SIGNATURE_INVALID"]
)
def test_no_other_refusal_forgets_a_token(code: str) -> None:
    """Lesson 8; a plain close deleted it elsewhere."""
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal(code))
    world.reconnect_now()
    world.online()
    assert of(world, events.DeviceTokenRejected) == []
    assert connects(world)[1]["auth"] == {"deviceToken": DEVICE_TOKEN}


def test_a_removed_device_is_not_reconnected_in_a_loop() -> None:
    """wire.md 4: close 4001 at a rotation; the next connect decides."""
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED))
    world.say([partial(said, data=frame(8, (4001).to_bytes(2) + b"device removed"))])
    world.ended()
    greeted(world, refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.forgotten()
    assert names(world)[-2:] == ["DeviceTokenRejected", "GaveUp"]
    assert world.machine.next_timeout() is None


# --- new credentials ------------------------------------------------------------------------


def test_new_credentials_leave_gave_up_at_once() -> None:
    world = greeted(begun(Settings(identity=CLI, token="old")), refusal("AUTH_TOKEN_MISMATCH"))
    assert state_of(world) is State.BLOCKED
    world.use_credentials(token=TOKEN)
    assert state_of(world) is State.CONNECTING
    world.online()
    assert connects(world)[1]["auth"] == {"token": TOKEN}
    assert state_of(world) is State.ONLINE


def test_new_credentials_leave_an_open_connection_alone() -> None:
    world = greeted(begun(stored=STORED))
    world.use_credentials(password="changed")
    assert state_of(world) is State.ONLINE
    world.ended()
    world.online()
    assert connects(world)[1]["auth"] == {"password": "changed"}


@pytest.mark.parametrize(
    "code", ["AUTH_TOKEN_MISMATCH", "DEVICE_IDENTITY_REQUIRED", "AUTH_SCOPE_MISMATCH"]
)
def test_new_credentials_that_came_during_a_refused_attempt_get_one_of_their_own(
    code: str,
) -> None:
    world = begun(Settings(identity=CLI, token="old"))
    world.online(2)
    world.use_credentials(token=TOKEN)
    world.say([refusal(code)])
    assert [one.delay for one in of(world, events.Retrying)] == [0.25]
    greeted(world, refusal("AUTH_TOKEN_MISMATCH"))
    assert state_of(world) is State.BLOCKED


def test_new_credentials_do_not_undercut_a_rate_limit() -> None:
    """Lesson 14."""
    settings = Settings(identity=CLI, token=TOKEN, reconnect=ReconnectSettings(max_attempts=1))
    limited = refusal("AUTH_RATE_LIMITED", retryable=True, retryAfterMs=299_993)
    world = greeted(begun(settings), limited)
    assert state_of(world) is State.BLOCKED
    world.use_credentials(password="other")
    assert state_of(world) is State.WAITING
    assert world.machine.retry_at == pytest.approx(world.now + 299.993)


def test_credentials_too_large_for_a_connect_request_change_nothing() -> None:
    world = greeted(begun(), refusal("AUTH_TOKEN_MISMATCH"))
    with pytest.raises(InvalidSettings, match="65536"):
        world.machine.use_credentials(Credentials(token="x" * 70_000), world.now)
    assert state_of(world) is State.BLOCKED
    world.reconnect_now()
    world.online(2)
    assert connects(world)[1]["auth"] == {"token": TOKEN}


def test_a_rate_limit_is_waited_out_to_the_second_and_then_tried_again() -> None:
    """Lesson 14; wire.md 5: the right token is refused too until then."""
    limited = refusal("AUTH_RATE_LIMITED", retryable=True, retryAfterMs=299_993)
    world = greeted(begun(), limited)
    hit = world.now
    for seconds in (100.0, 100.0, 99.0):
        world.wait(seconds)
        world.reconnect_now()
        assert state_of(world) is State.WAITING
    assert world.machine.retry_at is not None
    assert world.machine.retry_at >= hit + 299.993
    world.wait(world.machine.retry_at - world.now)
    assert state_of(world) is State.CONNECTING
    assert len(of(world, events.Connecting)) == 2


def test_no_credential_that_was_ever_in_use_is_told() -> None:
    world = greeted(begun(Settings(identity=CLI, token="the-old-token")), refusal("ANY"))
    world.use_credentials(token="the-new-token")
    world.reconnect_now()
    error = {"code": "X", "message": "neither the-old-token nor the-new-token"}
    greeted(world, partial(refused, error=error))
    assert "neither *** nor ***" in str(world.machine.last_ending)


def test_a_token_that_another_program_was_given_is_tried_before_anything_is_given_up() -> None:
    """Two programs of one device: a scope upgrade of one kills the token of the other (wire 4)."""
    newer = DeviceToken(Secret(OTHER_DEVICE_TOKEN), ("operator.read", "operator.write"))
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    assert names(world) == ["Connecting", "DeviceTokenRejected"]
    world.give("token_forgotten", 1, newer)
    assert [one.delay for one in of(world, events.Retrying)] == [0.25]
    world.online()
    assert connects(world)[1]["auth"] == {"deviceToken": OTHER_DEVICE_TOKEN}
    assert state_of(world) is State.ONLINE


def test_where_there_is_no_other_token_it_gives_up_at_once() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.forgotten(which=1)
    assert state_of(world) is State.CONNECTING
    world.forgotten()
    assert names(world)[1:] == ["DeviceTokenRejected", "GaveUp"]


def test_a_store_that_does_not_answer_delays_giving_up_by_five_seconds() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.wait(4.99)
    assert state_of(world) is State.CONNECTING
    world.wait(0.01)
    assert state_of(world) is State.BLOCKED
    world.forgotten(OTHER_DEVICE_TOKEN)
    assert state_of(world) is State.BLOCKED


def test_other_credentials_do_not_wait_for_the_store() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.use_credentials(token=TOKEN)
    assert state_of(world) is State.WAITING
    world.online()
    assert connects(world)[1]["auth"] == {"token": TOKEN}


def test_taking_all_credentials_away_leaves_the_store_its_say() -> None:
    newer = DeviceToken(Secret(OTHER_DEVICE_TOKEN), ("operator.read",))
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.use_credentials()
    assert state_of(world) is State.CONNECTING
    world.give("token_forgotten", 1, newer)
    world.online()
    assert connects(world)[1]["auth"] == {"deviceToken": OTHER_DEVICE_TOKEN}


def test_a_stop_does_not_wait_for_the_store() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.stop()
    assert names(world)[-1] == "Stopped"


def test_a_store_that_gives_the_refused_token_again_makes_no_loop() -> None:
    world = greeted(begun(WITHOUT_TOKEN, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    world.give("token_forgotten", 1, STORED)
    assert state_of(world) is State.BLOCKED


def test_an_answer_that_comes_after_a_newer_token_changes_nothing() -> None:
    """The setup code has brought one meanwhile."""
    settings = Settings(identity=CLI, bootstrap_token="the-setup-code")
    world = greeted(begun(settings, stored=STORED), refusal("AUTH_DEVICE_TOKEN_MISMATCH"))
    greeted(world, partial(welcomed, device_token="the-newest-token"))
    world.stored()
    world.forgotten(OTHER_DEVICE_TOKEN, which=1)
    world.ended()
    world.online()
    assert connects(world)[2]["auth"] == {"deviceToken": "the-newest-token"}


# --- pairing --------------------------------------------------------------------------------


def pairing(request_id: str, reason: str = "not-paired") -> Speech:
    details = {"code": "PAIRING_REQUIRED", "reason": reason, "requestId": request_id}
    return refusal("PAIRING_REQUIRED", code="NOT_PAIRED", details=details)


def poll(world: World) -> None:
    assert world.machine.retry_at is not None
    world.now = world.machine.retry_at
    world.give("handle_timeout")


def test_a_device_that_waits_polls_slowly_and_is_let_in_without_a_restart() -> None:
    """Lesson 2."""
    world = begun()
    for _ in range(5):
        greeted(world, pairing("request-1"))
        poll(world)
    assert {one.delay for one in of(world, events.Retrying)} == {15.0}
    assert [one.request_id for one in of(world, events.PairingRequired)] == ["request-1"]
    world.online()
    assert state_of(world) is State.ONLINE
    assert [one.attempt for one in of(world, events.Connecting)] == [1, 2, 3, 4, 5, 6]


def test_a_poll_is_no_failed_attempt() -> None:
    """It was answered: neither ``max_attempts`` nor the backoff counts it."""
    settings = attrs.evolve(AS_DEVICE, reconnect=ReconnectSettings(max_attempts=2))
    world = begun(settings)
    for _ in range(5):
        greeted(world, pairing("request-1"))
        poll(world)
    world.failed(FaultKind.REFUSED)
    assert state_of(world) is State.WAITING
    assert of(world, events.Retrying)[-1].delay <= 1.0


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("not-paired", "Approve the device"),
        ("scope-upgrade", "more scopes"),
        ("role-upgrade", "a role"),
        ("metadata-upgrade", "platform or family"),
    ],
)
def test_what_a_device_waits_for_is_told_apart(reason: str, words: str) -> None:
    settings = attrs.evolve(AS_DEVICE, reconnect=ReconnectSettings(pairing_poll=None))
    world = greeted(begun(settings), pairing("request-1", reason))
    [required] = of(world, events.PairingRequired)
    assert required.reason == reason
    [gave_up] = of(world, events.GaveUp)
    assert words in gave_up.advice
    assert "openclaw devices approve request-1" in gave_up.advice


def test_a_host_that_speaks_websocket_signs_and_stores_as_well() -> None:
    world = greeted(begun(attrs.evolve(AS_DEVICE, framing=Framing.MESSAGES)))
    assert json.dumps(connects(world)[0]["device"])
    world.stored()
    assert state_of(world) is State.ONLINE
