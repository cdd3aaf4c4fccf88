"""The tree of exceptions, and the values that say why something is over."""

from __future__ import annotations

import ast
import inspect
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import errors
from butter_proto.errors import (
    ButterError,
    ConnectionEnded,
    ConnectTimeout,
    Delivery,
    Ending,
    EndKind,
    FaultKind,
    GatewayError,
    GaveUp,
    InvalidParams,
    InvalidSettings,
    LocalProtocolError,
    MessageTooLarge,
    NotOnline,
    PendingFull,
    RequestFailed,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestRefused,
    RequestTimeout,
    TransportFault,
)

HIDDEN = "must-not-be-shown"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("code"), inner),
    max_leaves=10,
)


def sentences_of(enum_name: str) -> dict[str, str | None]:
    """Return each member of an enum in errors.py with the text that stands below it."""
    tree = ast.parse(inspect.getsource(errors))
    [body] = [
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enum_name
    ]
    found: dict[str, str | None] = {}
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            [target] = statement.targets
            assert isinstance(target, ast.Name)
            text = below.value if isinstance(below, ast.Expr) else None
            found[target.id] = str(text.value) if isinstance(text, ast.Constant) else None
    return found


@pytest.mark.parametrize("enum", [EndKind, Delivery])
def test_every_way_to_end_is_told_in_a_sentence_of_its_own(enum: type[EndKind | Delivery]) -> None:
    sentences = sentences_of(enum.__name__)
    assert list(sentences) == list(enum.__members__)
    assert [name for name, text in sentences.items() if not text or text[-1] != "."] == []
    assert len(set(sentences.values())) == len(sentences)


@pytest.mark.parametrize("enum", [EndKind, Delivery, FaultKind])
def test_no_two_members_are_the_same(enum: type[EndKind | Delivery | FaultKind]) -> None:
    assert len(list(enum)) == len(enum.__members__)  # an Enum makes equal values one member


@pytest.mark.parametrize(
    "kind", ["DNS", "REFUSED", "UNREACHABLE", "RESET", "PROXY", "CERTIFICATE", "LOCAL", "OTHER"]
)
def test_a_driver_can_name_every_fault_of_the_contract(kind: str) -> None:
    assert FaultKind[kind].name == kind


def test_the_decision_keys_of_an_error_are_its_details_code_and_reason() -> None:
    error = GatewayError("UNAVAILABLE", "wait", {"reason": "startup-sidecars", "phase": "x"})
    assert (error.detail_code, error.detail_reason) == (None, "startup-sidecars")
    assert error.detail("phase") == "x"
    assert error.detail("absent") is None
    assert GatewayError("X", "y", {"code": "PAIRING_REQUIRED"}).detail_code == "PAIRING_REQUIRED"


@pytest.mark.parametrize("details", [None, "PAIRING_REQUIRED", ["code"], {"code": ""}, {"code": 7}])
def test_details_of_an_unexpected_shape_have_no_decision_key(details: object) -> None:
    error = GatewayError("X", "y", details)
    assert (error.detail_code, error.detail_reason) == (None, None)


@given(details=json_values)
def test_no_details_at_all_make_the_decision_keys_raise(details: object) -> None:
    error = GatewayError("X", "y", details)
    for key in (error.detail_code, error.detail_reason):
        assert key is None or (isinstance(key, str) and key)
    assert str(error).startswith("X")


@pytest.mark.parametrize(
    ("details", "text"),
    [
        (None, "INVALID_REQUEST: unauthorized"),
        ({"code": "AUTH_TOKEN_MISMATCH"}, "INVALID_REQUEST/AUTH_TOKEN_MISMATCH: unauthorized"),
        ({"reason": "startup-sidecars"}, "INVALID_REQUEST/startup-sidecars: unauthorized"),
        ({"code": "A", "reason": "b"}, "INVALID_REQUEST/A: unauthorized"),
    ],
)
def test_an_error_is_told_with_the_key_that_decides(details: object, text: str) -> None:
    assert str(GatewayError("INVALID_REQUEST", "unauthorized", details)) == text


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending(EndKind.END_OF_STREAM), "the stream ended"),
        (Ending(EndKind.HELLO_INVALID, "no policy"), "the hello was invalid: no policy"),
        (
            Ending(EndKind.UPGRADE_REFUSED, http_status=503, http_body=b"busy"),
            "the upgrade was refused: HTTP 503",
        ),
        (
            Ending(EndKind.CONNECT_REFUSED, error=GatewayError("NOT_PAIRED", "wait")),
            "the gateway refused to connect: NOT_PAIRED: wait",
        ),
        (
            Ending(EndKind.TRANSPORT_FAILED, fault=TransportFault(FaultKind.DNS, "no such name")),
            "the transport failed: name not resolved: no such name",
        ),
        (
            Ending(EndKind.TRANSPORT_FAILED, fault=TransportFault(FaultKind.RESET)),
            "the transport failed: connection reset",
        ),
        (
            Ending(EndKind.CLOSED_BY_PEER, close_code=1012, close_reason="service restart"),
            "the gateway closed the connection: close 1012 'service restart'",
        ),
        (
            Ending(EndKind.CLOSED_BY_PEER, "slow", close_code=1000),
            "the gateway closed the connection: close 1000 '': slow",
        ),
    ],
)
def test_an_ending_tells_all_that_is_known_in_one_line(ending: Ending, text: str) -> None:
    assert str(ending) == text


def test_no_repr_of_an_ending_shows_details_or_a_body() -> None:
    error = GatewayError("NOT_PAIRED", "wait", {"requestId": HIDDEN})
    ending = Ending(EndKind.CONNECT_REFUSED, error=error, http_body=HIDDEN.encode())
    for shown in (repr(error), str(error), repr(ending), str(ending)):
        assert HIDDEN not in shown
    assert f"<{len(HIDDEN)} bytes>" in repr(ending)


@pytest.mark.parametrize(
    "value", [GatewayError("X", "y"), Ending(EndKind.STOPPED), TransportFault(FaultKind.OTHER)]
)
def test_what_leaves_the_machine_cannot_be_changed(value: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, "other")


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (ButterError, Exception),
        (LocalProtocolError, ButterError),
        (InvalidSettings, LocalProtocolError),
        (InvalidSettings, ValueError),
        (NotOnline, LocalProtocolError),
        (PendingFull, LocalProtocolError),
        (MessageTooLarge, LocalProtocolError),
        (InvalidParams, LocalProtocolError),
        (RequestFailed, ButterError),
        (RequestNotSent, RequestFailed),
        (RequestMayHaveExecuted, RequestFailed),
        (RequestRefused, RequestFailed),
        (RequestTimeout, RequestFailed),
        (ConnectionEnded, ButterError),
        (GaveUp, ConnectionEnded),
        (ConnectTimeout, ConnectionEnded),
    ],
)
def test_catching_the_parent_catches_the_child(
    kind: type[Exception], parent: type[Exception]
) -> None:
    assert issubclass(kind, parent)


@pytest.mark.parametrize("other", [RequestFailed, ConnectionEnded])
def test_what_the_peer_did_is_no_local_mistake(other: type[Exception]) -> None:
    assert not issubclass(other, LocalProtocolError)


def test_a_failed_request_names_method_id_and_delivery_and_keeps_its_key() -> None:
    failure = RequestTimeout(
        "chat.send", "r7", Delivery.MAY_HAVE_EXECUTED, idempotency_key="k1", text="30 s passed"
    )
    assert str(failure) == "chat.send (r7) may have executed: 30 s passed"
    assert (failure.method, failure.id, failure.idempotency_key) == ("chat.send", "r7", "k1")
    assert failure.delivery is Delivery.MAY_HAVE_EXECUTED
    assert (failure.error, failure.payload) == (None, None)


def test_a_failed_request_without_a_reason_ends_at_its_delivery() -> None:
    assert str(RequestNotSent("health", "r1", Delivery.NOT_SENT)) == "health (r1) not sent"


def test_a_refused_request_tells_the_gateways_words_and_hides_the_payload() -> None:
    error = GatewayError("UNAVAILABLE", "busy", {"x": HIDDEN})
    failure = RequestRefused(
        "chat.send", "r1", Delivery.REFUSED, error=error, payload={"x": HIDDEN}, text="less known"
    )
    assert str(failure) == "chat.send (r1) refused: UNAVAILABLE: busy"
    assert HIDDEN not in repr(failure)
    assert failure.error is error
    assert failure.payload == {"x": HIDDEN}


def test_giving_up_tells_why_and_what_to_do() -> None:
    ending = Ending(EndKind.CONNECT_REFUSED, error=GatewayError("INVALID_REQUEST", "bad role"))
    gave_up = GaveUp(ending, "Check the role.")
    assert str(gave_up) == f"{ending}. Check the role."
    assert gave_up.ending is ending
    assert gave_up.advice == "Check the role."


def test_a_connect_timeout_may_have_no_ending_to_tell() -> None:
    assert ConnectTimeout("not online after 5 s").ending is None
    ending = Ending(EndKind.OPEN_TIMEOUT)
    timeout = ConnectTimeout("not online after 5 s", ending)
    assert (str(timeout), timeout.ending) == ("not online after 5 s", ending)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotOnline("no"),
        errors.RequestRefused(
            "m",
            "7",
            errors.Delivery.REFUSED,
            idempotency_key="k",
            error=errors.GatewayError("C", "text"),
            payload=[1],
        ),
        errors.GaveUp(errors.Ending(errors.EndKind.SILENT_PEER), "advice"),
        errors.ConnectTimeout("late", errors.Ending(errors.EndKind.OPEN_TIMEOUT)),
    ],
)
def test_exceptions_survive_pickling(error: errors.ButterError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
