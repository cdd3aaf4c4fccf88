"""Requests after hello at the stand-in: built-in, scripted, refused, delayed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from butter_proto.errors import GatewayError
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient

ADMIN = ["operator.admin"]


@pytest.fixture(params=[False, True], ids=["whole", "byte by byte"])
def client(request: pytest.FixtureRequest) -> RawClient:
    return RawClient(StandInGateway(), bytewise=request.param).connect()


def missing(scope: str) -> dict[str, Any]:
    return {
        "code": "FORBIDDEN",
        "message": f"missing scope: {scope}",
        "details": {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]},
    }


def test_health_needs_no_scope() -> None:
    client = RawClient(StandInGateway(), now=3.0).connect(scopes=[])
    answer = client.request("health", id="h1")
    assert (answer["id"], answer["ok"], answer["payload"]["ok"]) == ("h1", True, True)
    assert answer["payload"]["ts"] == 1_795_000_003_000


def test_status_needs_read(client: RawClient) -> None:
    assert client.request("status")["payload"]["sessions"] == {"count": 0}
    poor = RawClient(client.gateway, 2).connect(scopes=[])
    poor.request("status")
    assert poor.error == missing("operator.read")


@pytest.mark.parametrize("params", [None, {"a": [1, 1.5, "ä", None]}, "x", "\ud800"])
def test_echo_returns_its_params(client: RawClient, params: Any) -> None:
    assert client.request("echo", params)["payload"] == params


def test_an_unknown_method_looks_like_a_missing_scope_but_to_admins(client: RawClient) -> None:
    client.request("nope")
    assert client.error == missing("operator.admin")
    admin = RawClient(client.gateway, 2).connect(scopes=ADMIN)
    admin.request("nope")
    assert admin.error == {"code": "INVALID_REQUEST", "message": "unknown method: nope"}


def test_a_second_connect_is_refused_and_the_socket_stays(client: RawClient) -> None:
    client.request("connect", {})
    assert client.error == missing("operator.admin")
    admin = RawClient(client.gateway, 2).connect(scopes=ADMIN)
    admin.request("connect", {})
    assert admin.error["message"] == "connect is only valid as the first request"
    assert client.gateway.online_peers == 2


def test_malformed_json_is_ignored(client: RawClient) -> None:
    client.send("{")
    assert len(client.inbox) == 2
    assert client.gateway.online_peers == 1


@pytest.mark.parametrize(
    ("message", "request_id", "fault"),
    [
        (
            {"type": "ping"},
            "invalid",
            "must have required property 'id'; at /type: must be equal to constant",
        ),
        ([1], "invalid", "must be object"),
        ({"type": "req", "id": 5, "method": "x"}, 5, "at /id: must be string"),
        ({"type": "req", "id": True, "method": "x"}, "invalid", "at /id: must be string"),
        (
            {"type": "req", "id": "", "method": "x"},
            "invalid",
            "at /id: must NOT have fewer than 1 characters",
        ),
        (
            {"type": "req", "id": "a", "method": "x", "foo": 1},
            "a",
            "at root: unexpected property 'foo'",
        ),
    ],
)
def test_an_invalid_frame_is_answered_with_its_id_or_invalid(
    client: RawClient, message: Any, request_id: Any, fault: str
) -> None:
    client.send(message)
    assert client.inbox[-1]["id"] == request_id
    assert client.error == {
        "code": "INVALID_REQUEST",
        "message": f"invalid request frame: {fault}",
    }
    assert client.gateway.online_peers == 1


def test_params_that_cannot_be_written_again_are_refused() -> None:
    nested: list[Any] = []
    for _ in range(200_000):
        nested = [nested]
    client = RawClient(StandInGateway()).connect()
    client.gateway.reply("deep", nested)
    client.request("deep")
    assert client.error["message"] == "the answer is nested too deeply"


# --- scripted replies


def test_a_scripted_payload_is_answered_and_may_replace_a_built_in_one(client: RawClient) -> None:
    client.gateway.reply("x.y", {"n": 1})
    client.gateway.reply("health", None)
    assert client.request("x.y")["payload"] == {"n": 1}
    assert client.request("health")["payload"] is None


def test_a_scripted_method_needs_its_real_scope() -> None:
    client = RawClient(StandInGateway()).connect(scopes=["operator.read"])
    client.gateway.reply("chat.send", {"status": "started"})
    client.request("chat.send")
    assert client.error == missing("operator.write")
    admin = RawClient(client.gateway, 2).connect(scopes=ADMIN)
    assert admin.request("chat.send")["ok"] is True


def test_write_covers_read() -> None:
    client = RawClient(StandInGateway()).connect(scopes=["operator.write"])
    assert client.request("status")["ok"] is True


def test_a_scripted_error_may_carry_a_payload(client: RawClient) -> None:
    error = GatewayError("UNAVAILABLE", "failed", retryable=False)
    client.gateway.reply("chat.send", error, payload={"runId": "k", "status": "error"})
    answer = client.request("chat.send")
    assert answer["ok"] is False
    assert answer["payload"] == {"runId": "k", "status": "error"}
    assert answer["error"] == {"code": "UNAVAILABLE", "message": "failed", "retryable": False}


def test_a_function_sees_the_params_and_may_refuse(client: RawClient) -> None:
    def answer(params: Any) -> Any:
        return GatewayError("INVALID_REQUEST", "odd") if params % 2 else params // 2

    client.gateway.reply("half", answer)
    assert client.request("half", 8)["payload"] == 4
    client.request("half", 7)
    assert client.error["message"] == "odd"


def test_what_a_function_pushes_follows_its_answer(client: RawClient) -> None:
    def started(params: Any) -> Any:
        client.gateway.push("chat", {"runId": params["idempotencyKey"]})
        return {"status": "started"}

    client.gateway.reply("chat.send", started)
    client.request("chat.send", {"idempotencyKey": "k"}, id="s")
    answer, event = client.inbox[-2:]
    assert answer["id"] == "s"
    assert (event["event"], event["payload"], event["seq"]) == ("chat", {"runId": "k"}, 1)


def test_a_delayed_answer_comes_on_time_behind_its_interim(client: RawClient) -> None:
    client.gateway.reply("slow", "done", delay=2.5, interim={"status": "accepted"})
    assert client.request("slow", id="s")["payload"] == {"status": "accepted"}
    assert client.request("health", id="h")["id"] == "h"
    client.wait(2.4)
    assert client.inbox[-1]["id"] == "h"
    client.wait(0.1)
    assert (client.inbox[-1]["id"], client.inbox[-1]["payload"]) == ("s", "done")


def test_a_delay_without_end_is_never_answered(client: RawClient) -> None:
    client.gateway.reply("never", delay=math.inf)
    client.request("never")
    assert len(client.inbox) == 2
    client.wait(29.0)
    assert len(client.inbox) == 2


def test_requests_above_those_that_may_wait_are_refused_as_busy() -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.reply("slow", "done", delay=1.0)
    for number in range(257):
        client.request("slow", id=f"s{number}")
    assert client.inbox[-1]["id"] == "s256"
    assert client.error == {
        "code": "UNAVAILABLE",
        "message": "The server is busy. Please try again in a moment.",
        "retryable": True,
    }
    client.wait(1.0)
    assert len(client.inbox) == 2 + 257
    assert client.request("health")["ok"] is True


def test_delayed_answers_die_with_their_socket() -> None:
    gateway = StandInGateway()
    gateway.reply("slow", delay=1.0)
    gateway.reply("never", delay=math.inf)
    client = RawClient(gateway).connect()
    client.request("slow")
    client.request("never")
    gateway.connection_lost(1, 0.0)
    RawClient(gateway, 2).wait(2.0)
    assert gateway.online_peers == 0


def test_requests_are_recorded_and_the_oldest_forgotten(client: RawClient) -> None:
    client.request("echo", [1], id="e")
    assert client.gateway.received[-1].params == [1]
    assert client.gateway.received.maxlen == 10_000
