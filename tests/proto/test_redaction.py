"""Redaction: what a connection tells, without the secrets it knows."""

from __future__ import annotations

import attrs
import pytest

from butter_proto import Ending, EndKind, FaultKind, Secret, TransportFault
from butter_proto.errors import MAX_REFUSAL_BODY, GatewayError
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


def test_a_role_and_scopes_that_were_asked_for_stay_whatever_word_a_secret_is() -> None:
    """Programs look for them: ``"operator.read" in hello.scopes``."""
    auth = {"role": "operator", "scopes": ["operator.read", "operator-x"]}
    hello = read_hello({"auth": auth}, Dialect.OPENBUTTER_V1)
    assert hello is not None
    told = Redaction((Secret("operator"),)).hello(hello, ("operator", "operator.read"))
    assert (told.role, told.scopes) == ("operator", ("operator.read", "***-x"))


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


def test_what_was_cut_inside_a_secret_is_told_without_its_first_part() -> None:
    part = A[:8]
    error = GatewayError(f"code {part}", f"wrong: {part}", {"text": f"whole {part}"})
    ending = Ending(
        EndKind.CLOSED_BY_PEER,
        error=error,
        close_reason=f"bad token {part}",
        http_body=f"<{part}".encode(),
    )
    told = Redaction((Secret(A),)).ending(ending)
    assert told.error == attrs.evolve(error, code="code ***", message="wrong: ***")
    assert (told.close_reason, told.http_body) == ("bad token ***", b"<***")


def test_a_whole_text_may_end_like_the_first_few_letters_of_a_secret() -> None:
    ending = Ending(EndKind.CLOSED_BY_PEER, close_reason=f"b {A[:7]}", http_body=b"seven a")
    assert Redaction((Secret(A),)).ending(ending) == ending


@pytest.mark.parametrize("kept", range(1, len(A)))
def test_a_body_that_was_cut_here_ends_before_the_secret_that_began(kept: int) -> None:
    body = (b"x" * (MAX_REFUSAL_BODY - kept) + A.encode())[:MAX_REFUSAL_BODY]
    told = Redaction((Secret(A), Secret("aa-other"))).ending(
        Ending(EndKind.UPGRADE_REFUSED, http_body=body)
    )
    assert told.http_body == b"x" * (MAX_REFUSAL_BODY - kept) + b"***"
