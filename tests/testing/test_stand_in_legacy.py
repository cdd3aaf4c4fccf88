"""The stand-in as the original OpenButter gateway: its connect, its pong, JSON-RPC 2.0."""

from __future__ import annotations

from typing import Any

import pytest

from butter_proto.errors import GatewayError
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient

ORIGINAL: dict[str, Any] = {
    "minProtocol": 1,
    "maxProtocol": 1,
    "client": {"id": "openbutter", "version": "0.1.0", "platform": "node", "mode": "standalone"},
    "caps": ["rpc"],
    "role": "client",
    "scopes": ["gateway:rpc"],
    "auth": {"token": "t"},
}


@pytest.fixture(params=[False, True], ids=["whole", "byte by byte"])
def client(request: pytest.FixtureRequest) -> RawClient:
    gateway = StandInGateway(legacy=True, json_rpc=True, token="t")
    client = RawClient(gateway, bytewise=request.param).upgrade()
    client.request("connect", ORIGINAL, id="c1")
    return client


def call(client: RawClient, method: str, params: Any = None) -> Any:
    client.send({"jsonrpc": "2.0", "id": "j1", "method": method, "params": params})
    return client.inbox[-1]


def test_the_original_request_is_accepted_with_an_empty_payload(client: RawClient) -> None:
    challenge, answer = client.inbox
    assert challenge["event"] == "connect.challenge"
    assert answer == {"type": "res", "id": "c1", "ok": True, "payload": {}}
    assert client.gateway.online_peers == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"minProtocol": 4}, "at /minProtocol: must be equal to constant"),
        ({"maxProtocol": True}, "at /maxProtocol: must be equal to constant"),
        ({"role": "operator"}, "at /role: must be equal to constant"),
        ({"device": {}}, "at root: unexpected property 'device'"),
    ],
)
def test_any_other_request_is_refused(changes: dict[str, Any], fault: str) -> None:
    client = RawClient(StandInGateway(legacy=True)).upgrade()
    client.request("connect", {**ORIGINAL, **changes})
    assert client.error["message"] == f"invalid connect params: {fault}"
    assert client.close is not None
    assert client.close[0] == 1008


def test_a_wrong_token_is_refused() -> None:
    client = RawClient(StandInGateway(legacy=True, token="other")).upgrade()
    client.request("connect", ORIGINAL)
    assert client.error["details"]["code"] == "AUTH_TOKEN_MISMATCH"


def test_without_a_token_any_is_accepted() -> None:
    client = RawClient(StandInGateway(legacy=True)).upgrade()
    assert client.request("connect", ORIGINAL)["ok"] is True


def test_a_ping_message_is_answered_with_a_pong_message(client: RawClient) -> None:
    client.send({"type": "ping"})
    assert client.inbox[-1] == {"type": "pong"}


def test_requests_are_answered_in_the_form_in_which_they_come(client: RawClient) -> None:
    assert client.request("echo", 1, id="r") == {"type": "res", "id": "r", "ok": True, "payload": 1}
    assert call(client, "echo", 2) == {"jsonrpc": "2.0", "id": "j1", "result": 2}


def test_no_scope_is_asked_for(client: RawClient) -> None:
    assert call(client, "status")["result"]["sessions"] == {"count": 0}


def test_json_rpc_errors_have_number_message_and_data(client: RawClient) -> None:
    client.gateway.reply("a", GatewayError("UNAVAILABLE", "later", {"code": "X"}))
    client.gateway.reply("b", GatewayError("UNAVAILABLE", "later"))
    assert call(client, "a")["error"] == {
        "code": -32000,
        "message": "later",
        "data": {"code": "X"},
    }
    assert call(client, "b")["error"]["data"] == {"code": "UNAVAILABLE"}
    assert call(client, "nope")["error"] == {
        "code": -32600,
        "message": "unknown method: nope",
        "data": {"code": "INVALID_REQUEST"},
    }


def test_an_invalid_json_rpc_message_is_answered_as_any_invalid_frame(client: RawClient) -> None:
    client.send({"jsonrpc": "2.0", "method": "echo"})
    assert client.inbox[-1]["id"] == "invalid"
    assert client.error["message"] == "invalid request frame: must have required property 'id'"


def test_events_are_notifications_with_json_rpc_and_events_without(client: RawClient) -> None:
    client.gateway.push("chat", {"a": 1})
    client.wait(0.0)
    assert client.inbox[-1] == {"jsonrpc": "2.0", "method": "chat", "params": {"a": 1}}
    plain = RawClient(StandInGateway(legacy=True)).upgrade()
    plain.request("connect", ORIGINAL)
    plain.gateway.push("chat", {"a": 1})
    plain.wait(0.0)
    assert plain.inbox[-1] == {"type": "event", "event": "chat", "payload": {"a": 1}, "seq": 1}


def test_there_are_no_ticks(client: RawClient) -> None:
    client.wait(100.0)
    assert len(client.inbox) == 2
    assert client.pings == 4


def test_json_rpc_is_no_request_for_todays_gateway() -> None:
    client = RawClient(StandInGateway()).connect()
    client.send({"jsonrpc": "2.0", "id": "j", "method": "health"})
    assert client.inbox[-1]["id"] == "j"
    assert client.inbox[-1]["ok"] is False
