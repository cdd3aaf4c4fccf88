"""Redaction: what a connection tells, without the secrets it knows."""

from __future__ import annotations

from butter_proto import Ending, EndKind, FaultKind, Secret, TransportFault
from butter_proto.errors import GatewayError
from butter_proto.handshake import read_hello
from butter_proto.redaction import Redaction
from butter_proto.settings import Dialect

A, B = "aaa-secret", "bbb-secret"


def test_an_ending_is_told_without_any_secret() -> None:
    redaction = Redaction((Secret(A),))
    redaction.add([B])
    ending = Ending(
        EndKind.CONNECT_REFUSED,
        text=A,
        error=GatewayError(A, B, {A: [B]}),
        fault=TransportFault(FaultKind.OTHER, A),
        close_reason=B,
        http_body=f"{A} {B}".encode(),
    )
    assert redaction.ending(ending) == Ending(
        EndKind.CONNECT_REFUSED,
        text="***",
        error=GatewayError("***", "***", {"***": ["***"]}),
        fault=TransportFault(FaultKind.OTHER, "***"),
        close_reason="***",
        http_body=b"*** ***",
    )


def test_a_plain_ending_stays_as_it_is() -> None:
    ending = Ending(EndKind.SILENT_PEER)
    assert Redaction((Secret(A),)).ending(ending) == ending


def test_a_hello_keeps_its_payload_and_loses_its_secrets() -> None:
    payload = {"server": {"version": A}, "auth": {"scopes": [A, "x"]}}
    hello = read_hello(payload, Dialect.OPENBUTTER_V1)
    assert hello is not None
    told = Redaction((Secret(A),)).hello(hello)
    assert (told.server_version, told.scopes, told.payload) == ("***", ("***", "x"), payload)
    bare = read_hello({}, Dialect.OPENBUTTER_V1)
    assert bare is not None
    assert Redaction((Secret(A),)).hello(bare) == bare


def test_a_secret_of_one_letter_hides_it_and_breaks_nothing() -> None:
    hello = read_hello({"server": {"version": "beta", "bootId": "xyz"}}, Dialect.OPENBUTTER_V1)
    assert hello is not None
    told = Redaction((Secret("t"),)).hello(hello)
    assert (told.server_version, told.boot_id, told.role) == ("be***a", "xyz", None)


def test_a_name_is_looked_at_again_when_there_are_more_secrets() -> None:
    redaction = Redaction((Secret(A),))
    assert redaction.name(B) == redaction.name(B) == B
    redaction.add([B])
    assert redaction.name(B) == "***"


def test_a_secret_too_short_to_be_one_does_not_rename_events() -> None:
    redaction = Redaction((Secret("t"), Secret("chat-token")))
    assert redaction.name("chat") == "chat"
    assert redaction.name("my-chat-token") == "my-***"
    assert redaction.text("chat") == "cha***"


def test_only_so_many_names_are_remembered() -> None:
    redaction = Redaction((Secret(A),))
    assert [redaction.name(f"{A}{number}") for number in range(1500)] == [
        f"***{number}" for number in range(1500)
    ]
