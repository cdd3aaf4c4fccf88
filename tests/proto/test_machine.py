"""The contract between a machine and its driver: the names, their order, and what is shown."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import attrs
import pytest

from butter_proto import events
from butter_proto.machine import (
    CHUNK,
    STATE_AFTER,
    Close,
    CloseTransport,
    Command,
    Machine,
    Message,
    OpenTransport,
    Ping,
    State,
    Stats,
    Text,
)
from butter_proto.proxy_address import ProxyAddress, ProxyScheme
from butter_proto.settings import Framing

HIDDEN = "QQ-must-not-be-shown-QQ"
INPUTS = {
    "transport_opened": ["transport_id", "now", "certificate"],
    "receive_data": ["transport_id", "data", "now"],
    "transport_failed": ["transport_id", "fault", "now"],
    "receive_message": ["transport_id", "message", "now"],
    "receive_pong": ["transport_id", "payload", "now"],
    "transport_closed": ["transport_id", "code", "reason", "now"],
    "handle_timeout": ["now"],
}
OUTPUTS = {
    "next_command": [],
    "data_to_send": ["transport_id"],
    "next_message": ["transport_id"],
    "next_event": [],
    "next_timeout": [],
}
STATE = {"state", "retry_at", "finished", "last_ending", "stats"}
OPEN = OpenTransport(
    3,
    "gw.example.com",
    443,
    True,
    "gw.example.com",
    ProxyAddress(ProxyScheme.HTTP, "proxy.example.com", 3128),
    Framing.BYTES,
    f"wss://gw.example.com/?key={HIDDEN}",
)


def members() -> dict[str, Any]:
    return {name: value for name, value in vars(Machine).items() if not name.startswith("_")}


def test_a_driver_calls_these_names_and_no_others() -> None:
    assert set(members()) == {*INPUTS, *OUTPUTS, *STATE}


@pytest.mark.parametrize(("name", "parameters"), [*INPUTS.items(), *OUTPUTS.items()])
def test_a_call_takes_its_arguments_in_the_documented_order(
    name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(members()[name]).parameters) == ["self", *parameters]


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_takes_the_time_and_no_default_for_it(name: str) -> None:
    now = inspect.signature(members()[name]).parameters["now"]
    assert now.default is inspect.Parameter.empty


@pytest.mark.parametrize("name", STATE)
def test_the_state_is_read_and_never_called(name: str) -> None:
    assert isinstance(members()[name], property)


@pytest.mark.parametrize("name", [*INPUTS, *OUTPUTS, *STATE])
def test_every_name_of_the_contract_says_what_it_does(name: str) -> None:
    assert inspect.getdoc(members()[name])


def test_a_chunk_is_64_kib() -> None:
    assert CHUNK == 65_536


def test_a_connector_is_in_one_of_six_states() -> None:
    names = [state.name for state in State]
    assert names == ["IDLE", "CONNECTING", "ONLINE", "WAITING", "BLOCKED", "STOPPED"]


def test_every_state_event_leads_to_one_state_and_no_other_event_does() -> None:
    assert set(STATE_AFTER) == {None, *get_args(events.StateEvent)}
    assert {
        None: State.IDLE,
        events.Connecting: State.CONNECTING,
        events.Online: State.ONLINE,
        events.Offline: State.WAITING,
        events.Retrying: State.WAITING,
        events.GaveUp: State.BLOCKED,
        events.Stopped: State.STOPPED,
    } == STATE_AFTER


def test_a_command_opens_or_closes_one_transport_by_its_id() -> None:
    assert set(get_args(Command)) == {OpenTransport, CloseTransport}
    assert (OPEN.id, CloseTransport(3).id) == (3, 3)


def test_a_message_is_a_text_a_ping_or_a_close() -> None:
    assert set(get_args(Message)) == {Text, Ping, Close}


def test_a_command_does_not_show_the_query_of_its_url() -> None:
    assert HIDDEN not in repr(OPEN)
    assert OPEN.url.endswith(HIDDEN)
    for word in ("id=3", "'gw.example.com'", "443", "tls=True", "3128"):
        assert word in repr(OPEN)


def test_a_message_shows_its_size_and_not_its_text() -> None:
    assert repr(Text(HIDDEN)) == f"Text(text=<{len(HIDDEN)} characters>)"


def test_a_machine_has_counted_and_measured_nothing_at_first() -> None:
    assert set(attrs.astuple(Stats())) == {0, None}
    assert Stats().age(5.0) is None


@pytest.mark.parametrize(("now", "age"), [(7.5, 2.5), (5.0, 0.0), (4.0, 0.0)])
def test_the_age_of_the_last_byte_is_counted_from_it_and_never_negative(
    now: float, age: float
) -> None:
    assert Stats(last_received_at=5.0).age(now) == age


@pytest.mark.parametrize(
    "value", [OPEN, CloseTransport(1), Text("x"), Ping(b""), Close(1000, ""), Stats()]
)
def test_what_a_driver_is_given_cannot_be_changed(value: Any) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)
