"""connect at the stand-in: hello-ok, and every row of wire.md's error table that it plays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wsproto.events import TextMessage

from butter_proto.errors import GatewayError
from butter_proto.events import Policy
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import SCOPES, RawClient, connect_params

NOT_ALLOWED = "must be equal to one of the allowed values"


def client_of(client_id: str, mode: str) -> dict[str, Any]:
    return {"id": client_id, "version": "1", "platform": "linux", "mode": mode}


@pytest.fixture(params=[False, True], ids=["whole", "byte by byte"])
def bytewise(request: pytest.FixtureRequest) -> bool:
    flag: bool = request.param
    return flag


# --- hello-ok


def test_hello_ok_has_the_measured_shape(bytewise: bool) -> None:
    gateway = StandInGateway(token="secret-a", policy=Policy(1000, 2000, 15.0))
    gateway.reply("chat.send", {})
    client = RawClient(gateway, bytewise=bytewise).connect(auth={"token": "secret-a"})
    challenge, answer = client.inbox
    assert challenge["event"] == "connect.challenge"
    assert (answer["type"], answer["id"], answer["ok"]) == ("res", "c1", True)
    payload = answer["payload"]
    assert (payload["type"], payload["protocol"]) == ("hello-ok", 4)
    assert payload["server"]["bootId"] == gateway.boot_id
    assert payload["features"]["methods"] == ["health", "status", "echo", "chat.send"]
    assert "tick" in payload["features"]["events"]
    assert payload["snapshot"]["health"]["ok"] is True
    assert payload["auth"]["method"] == "token"
    assert payload["auth"]["scopes"] == SCOPES
    assert "deviceToken" not in payload["auth"]
    assert payload["policy"]["maxPayload"] == 1000
    assert payload["policy"]["maxBufferedBytes"] == 2000
    assert payload["policy"]["tickIntervalMs"] == 15_000
    assert gateway.online_peers == 1


def test_the_connect_request_is_recorded() -> None:
    client = RawClient(StandInGateway(), now=7.0).connect()
    (entry,) = client.gateway.received
    assert (entry.peer_id, entry.now, entry.method, entry.id) == (1, 7.0, "connect", "c1")
    assert entry.params == connect_params()
    assert "params" not in repr(entry)


def test_boot_and_connection_ids_differ_by_seed_and_socket() -> None:
    first, second = StandInGateway(seed=1), StandInGateway(seed=2)
    servers = [
        RawClient(gateway, number).connect().inbox[-1]["payload"]["server"]
        for gateway, number in ((first, 1), (first, 2), (second, 1))
    ]
    assert servers[0]["bootId"] == servers[1]["bootId"] != servers[2]["bootId"]
    assert len({server["connId"] for server in servers}) == 3


def test_the_stand_in_shows_no_secret_in_its_repr() -> None:
    assert "s3cret" not in repr(StandInGateway(token="s3cret", bootstrap_token="s3cret"))
    assert "s3cret" not in repr(StandInGateway(password="s3cret"))


@pytest.mark.parametrize(
    ("identity", "scopes"),
    [
        (("gateway-client", "backend"), SCOPES),
        (("cli", "cli"), SCOPES),
        (("gateway-client", "cli"), []),
        (("cli", "backend"), []),
        (("openclaw-linux", "backend"), []),
    ],
)
def test_without_a_device_only_two_identities_keep_their_scopes(
    identity: tuple[str, str], scopes: list[str]
) -> None:
    client = RawClient(StandInGateway(token="t")).connect(
        client=client_of(*identity), auth={"token": "t"}
    )
    assert client.inbox[-1]["payload"]["auth"]["scopes"] == scopes


def test_scopes_are_echoed_without_their_doubles_and_default_to_none() -> None:
    asked = RawClient(StandInGateway()).connect(scopes=["gateway:rpc", "x", "gateway:rpc"])
    assert asked.inbox[-1]["payload"]["auth"]["scopes"] == ["gateway:rpc", "x"]
    params = connect_params()
    del params["scopes"], params["role"]
    client = RawClient(StandInGateway()).upgrade()
    auth = client.request("connect", params)["payload"]["auth"]
    assert (auth["role"], auth["scopes"], auth["method"]) == ("operator", [], "none")


def test_an_origin_of_loopback_empties_the_scopes_and_any_other_is_refused() -> None:
    local = RawClient(StandInGateway()).upgrade(Origin="http://localhost:3000")
    assert local.request("connect", connect_params())["payload"]["auth"]["scopes"] == []
    foreign = RawClient(StandInGateway()).upgrade(Origin="http://evil.example")
    foreign.request("connect", connect_params())
    assert foreign.error["details"]["code"] == "CONTROL_UI_ORIGIN_NOT_ALLOWED"
    assert foreign.error["details"]["reason"] == "origin not allowed"


def test_the_secret_counts_in_the_password_field_too() -> None:
    client = RawClient(StandInGateway(token="t")).connect(auth={"password": "t"})
    assert client.inbox[-1]["payload"]["auth"]["method"] == "token"


def test_requests_that_follow_connect_at_once_are_answered_after_hello() -> None:
    client = RawClient(StandInGateway()).upgrade()
    connect = {"type": "req", "id": "c", "method": "connect", "params": connect_params()}
    health = {"type": "req", "id": "h", "method": "health"}
    client.send_raw(
        b"".join(client.ws.send(TextMessage(json.dumps(frame))) for frame in (connect, health))
    )
    assert [frame.get("id") for frame in client.inbox] == [None, "c", "h"]


# --- what is no connect request


def test_no_hello_within_15_s_is_a_normal_close() -> None:
    client = RawClient(StandInGateway())
    client.wait(10.0)
    client.upgrade()
    client.wait(14.9)
    assert client.close is None
    client.wait(0.1)
    assert client.close == (1000, "")


def test_a_socket_that_never_asks_for_an_upgrade_is_closed() -> None:
    client = RawClient(StandInGateway())
    client.wait(15.0)
    assert client.closed is not None


def test_another_request_than_connect_is_refused(bytewise: bool) -> None:
    client = RawClient(StandInGateway(), bytewise=bytewise).upgrade()
    client.request("health", id="x1")
    message = "invalid handshake: first request must be connect"
    assert client.inbox[-1] == {
        "type": "res",
        "id": "x1",
        "ok": False,
        "error": {"code": "INVALID_REQUEST", "message": message},
    }
    assert client.close == (1008, message)


@pytest.mark.parametrize("text", ["{", "", "NaN", '{"type":1e999}', "[" * 3000, "\x00"])
def test_no_json_before_hello_is_a_normal_close(text: str) -> None:
    client = RawClient(StandInGateway()).upgrade()
    client.send(text)
    assert client.close == (1000, "")
    assert len(client.inbox) == 1


@pytest.mark.parametrize(
    "message",
    [
        [1, 2],
        {"type": "ping"},
        {"type": "event", "event": "x"},
        {"type": "req", "id": "1"},
        {"type": "req", "method": "connect"},
        {"type": "req", "id": 5, "method": "connect"},
        {"type": "req", "id": "", "method": "connect"},
        {"type": "req", "id": "1", "method": "connect", "foo": 1},
        {"type": "req", "id": "1", "method": "connect", "traceparent": "x" * 129},
    ],
)
def test_json_that_is_no_request_is_closed_without_an_answer(message: Any) -> None:
    client = RawClient(StandInGateway()).upgrade()
    client.send(message)
    assert client.close == (1008, "invalid request frame")
    assert len(client.inbox) == 1


# --- schema


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"foo": 1}, "at root: unexpected property 'foo'"),
        ({"client": None}, "at /client: must be object"),
        ({"client": {"id": "cli"}}, "at /client: must have required property 'version'"),
        (
            {"client": {**client_of("cli", "cli"), "foo": 1}},
            "at /client: unexpected property 'foo'",
        ),
        (
            {"client": client_of("CLI", "operator")},
            f"at /client/id: {NOT_ALLOWED}; at /client/mode: {NOT_ALLOWED}",
        ),
        (
            {"client": {**client_of("cli", "cli"), "buildId": "x" * 97}},
            "at /client/buildId: must NOT have more than 96 characters",
        ),
        (
            {"client": {**client_of("cli", "cli"), "version": ""}},
            "at /client/version: must NOT have fewer than 1 characters",
        ),
        ({"auth": {"secret": "x"}}, "at /auth: unexpected property 'secret'"),
        ({"auth": {"token": 1}}, "at /auth/token: must be string"),
        ({"device": {}}, "at /device: must have required property 'id'"),
        ({"caps": "x"}, "at /caps: must be array"),
        ({"caps": [1]}, "at /caps: must be array of strings"),
        ({"minProtocol": "4"}, "at /minProtocol: must be integer"),
        ({"minProtocol": 0}, "at /minProtocol: must be >= 1"),
        ({"role": ""}, "at /role: must NOT have fewer than 1 characters"),
    ],
)
def test_a_schema_fault_is_named_in_the_answer_and_in_the_close(
    changes: dict[str, Any], fault: str
) -> None:
    client = RawClient(StandInGateway()).connect(**changes)
    assert client.error == {
        "code": "INVALID_REQUEST",
        "message": f"invalid connect params: {fault}",
    }
    assert client.close is not None
    code, reason = client.close
    assert code == 1008
    assert reason == client.error["message"][:123]


def test_a_reason_that_utf_8_cannot_write_closes_all_the_same() -> None:
    """The names of unknown keys are repeated; half a character is one in JSON. Found by fuzzing."""
    client = RawClient(StandInGateway()).connect(**{"\ud800": 1})
    assert client.close is not None
    assert client.close[0] == 1008


def test_connect_without_params_is_a_schema_fault() -> None:
    client = RawClient(StandInGateway()).upgrade()
    client.send({"type": "req", "id": "c", "method": "connect"})
    assert client.error["message"] == "invalid connect params: must be object"


def test_every_optional_key_is_accepted() -> None:
    client = RawClient(StandInGateway()).connect(
        client={
            **client_of("gateway-client", "backend"),
            "displayName": "d",
            "buildId": "x" * 96,
            "deviceFamily": "f",
            "modelIdentifier": "m",
            "timeZone": "UTC",
            "instanceId": "i",
        },
        caps=["tool-events"],
        commands=[],
        permissions={"a": True},
        pathEnv="/bin",
        locale="de",
        userAgent="u",
        computerUse={},
        workerRuns=[],
    )
    assert client.inbox[-1]["ok"] is True


def test_the_original_clients_request_is_refused_in_the_measured_words() -> None:
    client = RawClient(StandInGateway(token="t")).upgrade()
    client.request(
        "connect",
        {
            "minProtocol": 1,
            "maxProtocol": 1,
            "client": {"id": "openbutter", "version": "1.0.0", "platform": "linux", "mode": "web"},
            "role": "client",
            "scopes": ["gateway:rpc"],
            "auth": {"token": "t"},
        },
    )
    assert client.error["message"] == (
        f"invalid connect params: at /client/id: {NOT_ALLOWED}; at /client/mode: {NOT_ALLOWED}"
    )


# --- protocol, role, identity


@pytest.mark.parametrize(("low", "high"), [(4, 4), (3, 4), (4, 5), (1, 9)])
def test_a_range_with_4_is_accepted(low: int, high: int) -> None:
    client = RawClient(StandInGateway()).connect(minProtocol=low, maxProtocol=high)
    assert client.inbox[-1]["ok"] is True


@pytest.mark.parametrize(("low", "high"), [(1, 1), (3, 3), (5, 5), (1, 3), (4, 3)])
def test_a_range_without_4_is_a_protocol_mismatch(low: int, high: int) -> None:
    client = RawClient(StandInGateway()).connect(minProtocol=low, maxProtocol=high)
    assert client.error["details"] == {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": low,
        "clientMaxProtocol": high,
        "expectedProtocol": 4,
        "minimumProbeProtocol": 3,
    }
    assert client.close == (1002, "protocol mismatch")


@pytest.mark.parametrize(("high", "ok"), [(3, True), (2, False)])
def test_a_probe_may_offer_protocol_3(high: int, ok: bool) -> None:
    client = RawClient(StandInGateway()).connect(
        minProtocol=2, maxProtocol=high, client=client_of("openclaw-probe", "probe")
    )
    assert client.inbox[-1]["ok"] is ok


def test_an_unknown_role_is_refused() -> None:
    client = RawClient(StandInGateway()).connect(role="client")
    assert client.error == {"code": "INVALID_REQUEST", "message": "invalid role"}
    assert client.close == (1008, "invalid role")


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "worker"},
        {"client": client_of("cli", "worker")},
        {"client": client_of("openclaw-worker", "cli")},
    ],
)
def test_a_worker_is_closed_without_an_answer(changes: dict[str, Any]) -> None:
    client = RawClient(StandInGateway()).connect(**changes)
    assert client.close == (1008, "invalid-handshake")
    assert len(client.inbox) == 1


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        (("webchat-ui", "ui"), "CONTROL_UI_ORIGIN_NOT_ALLOWED"),
        (("cli", "webchat"), "CONTROL_UI_ORIGIN_NOT_ALLOWED"),
        (("openclaw-tui", "ui"), "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"),
        (("openclaw-browser-copilot", "ui"), None),
    ],
)
def test_identities_of_user_interfaces_are_refused(
    identity: tuple[str, str], code: str | None
) -> None:
    client = RawClient(StandInGateway()).connect(client=client_of(*identity))
    assert client.error.get("details", {}).get("code") == code
    assert client.error["code"] == "INVALID_REQUEST"


# --- shared secret


def test_a_wrong_token_without_a_device_has_the_measured_details() -> None:
    client = RawClient(StandInGateway(token="right")).connect(auth={"token": "wrong"})
    assert client.error["code"] == "INVALID_REQUEST"
    assert client.error["details"] == {
        "code": "AUTH_TOKEN_MISMATCH",
        "authReason": "token_mismatch",
        "canRetryWithDeviceToken": False,
        "recommendedNextStep": "update_auth_credentials",
    }
    assert client.close == (1008, client.error["message"])


@pytest.mark.parametrize("auth", [{}, {"token": ""}, {"deviceToken": "d"}])
def test_no_secret_and_no_device_is_not_paired(auth: dict[str, str]) -> None:
    client = RawClient(StandInGateway(token="right")).connect(auth=auth)
    assert client.error["code"] == "NOT_PAIRED"
    assert client.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}


def test_a_node_needs_a_device() -> None:
    node = {"role": "node", "client": client_of("node-host", "node"), "minProtocol": 3}
    client = RawClient(StandInGateway(token="t")).connect(auth={"token": "t"}, **node)
    assert client.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}


def test_without_a_shared_secret_the_cli_needs_a_device() -> None:
    client = RawClient(StandInGateway()).connect(client=client_of("cli", "cli"))
    assert client.error["details"] == {"code": "DEVICE_IDENTITY_REQUIRED"}


# --- scripted refusals


def test_the_next_connects_are_refused_as_scripted() -> None:
    gateway = StandInGateway()
    error = GatewayError(
        "INVALID_REQUEST", "locked", {"code": "AUTH_RATE_LIMITED"}, retryable=True, retry_after=2.5
    )
    gateway.refuse_next(error, times=2)
    for number in (1, 2):
        client = RawClient(gateway, number).connect()
        assert client.error == {
            "code": "INVALID_REQUEST",
            "message": "locked",
            "details": {"code": "AUTH_RATE_LIMITED"},
            "retryable": True,
            "retryAfterMs": 2500,
        }
        assert client.close == (1008, "locked")
    assert RawClient(gateway, 3).connect().inbox[-1]["ok"] is True


def test_a_scripted_refusal_may_close_in_other_words() -> None:
    gateway = StandInGateway()
    gateway.refuse_next(GatewayError("NOT_PAIRED", "pair"), close_code=1013, close_reason="x" * 200)
    client = RawClient(gateway).connect()
    assert client.close == (1013, "x" * 123)
