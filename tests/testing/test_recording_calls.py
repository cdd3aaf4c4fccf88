"""A recorded connector is a connector in all that it is asked, also what is wrong."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest

from butter_proto import (
    Connector,
    InvalidSettings,
    LocalProtocolError,
    Settings,
)
from butter_proto.connector_factory import ConnectorFactory
from butter_proto.testing.recording import Recorder, difference, load
from tests.proto.operations import new_machine
from tests.testing.recorded import (
    URL,
)


@pytest.mark.parametrize(
    "bounds",
    [
        *({"minutes": minutes} for minutes in (0, float("nan"), "3", None, True)),
        *({"max_bytes": size} for size in (0, "3")),
        *({"path": path} for path in (5, "", b"one.jsonl")),
    ],
)
def test_bounds_are_positive_and_a_path_is_one(bounds: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        Recorder(**bounds)


def test_an_input_that_raises_what_it_never_should_is_written_down(tmp_path: Any) -> None:
    path = tmp_path / "one.jsonl"
    recorder = Recorder(path)
    machine = new_machine(Settings(), make=recorder.connector)
    machine.start(now=1.0)
    with pytest.raises(AttributeError):
        machine.use_credentials(None, 2.0)  # type: ignore[arg-type]
    recorder.wait()
    assert '"raised":"AttributeError"' in path.read_text()


def test_an_endpoint_is_taken_as_a_url_is() -> None:
    recorder = Recorder()
    endpoint = new_machine(Settings()).endpoint
    made = recorder.connector(endpoint, Settings(), random=lambda: 0.5, entropy=bytes)
    assert made.endpoint == endpoint
    given = recorder.connector(f"{URL}?token=b", Settings(token="a"), random=float, entropy=bytes)
    given.start(1.0)
    assert difference(load(recorder.dump())) is None


def test_what_is_pulled_before_the_first_input_is_nothing() -> None:
    recorder = Recorder()
    machine = new_machine(Settings(), make=recorder.connector)
    assert machine.next_event() is None
    assert machine.next_timeout() is None
    assert recorder.dump().splitlines()[1:] == ['{"end":0}']


class Unreadable(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("it cannot be read")


NO_TIMES: Final[tuple[Any, ...]] = ("x", None, [], 10**400, -(10**400), float("nan"), True)
WRONG: Final[list[tuple[str, dict[str, Any]]]] = [
    *((name, {"now": now}) for name in ("handle_timeout", "probe") for now in NO_TIMES),
    ("request", {"method": "m", "now": "x"}),
    ("request", {"method": "m", "params": Unreadable(a=1), "now": 2.0}),
    ("receive_data", {"transport_id": [1], "data": b"x", "now": 2.0}),
    ("receive_data", {"transport_id": 1, "data": "x", "now": 2.0}),
    ("receive_data", {"transport_id": 1, "data": bytearray(b"HTTP/1.1 403 No"), "now": 2.0}),
    ("cancel", {"request_id": [1], "now": 2.0}),
    ("use_credentials", {"credentials": "x", "now": 2.0}),
]


@pytest.mark.parametrize(("name", "given"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_call_is_to_a_recorded_connector_what_it_is_to_another(
    name: str, given: dict[str, Any]
) -> None:
    told = []
    recorder = Recorder()
    for make in (Connector, recorder.connector):
        machine = new_machine(Settings(), make=make)
        calls: list[Any] = []
        told.append(calls)
        machine.start(now=1.0)
        machine.handle_timeout(now=1.5)
        machine.transport_opened(1, 1.75)
        for call in (
            partial(getattr(machine, name), **given),
            partial(machine.handle_timeout, now=3.0),
            partial(machine.request, "m", now=4.0),
            partial(machine.stop, now=5.0, abort=True),
            machine.next_timeout,
        ):
            try:
                calls.append(call())
            except Exception as error:  # noqa: BLE001 - it is compared
                calls.append(repr(error))
        while (event := machine.next_event()) is not None:
            calls.append(repr(event))
    assert told[0] == told[1]
    recorder.dump()


def test_a_recorder_is_what_the_adapters_ask_for() -> None:
    asked: ConnectorFactory = Recorder()
    assert isinstance(asked.connector(URL, random=float, entropy=bytes), Connector)


def test_an_argument_of_no_known_type_is_nothing() -> None:
    recorder = Recorder()
    machine = new_machine(Settings(), make=recorder.connector)
    machine.start(now=1.0)
    with suppress(LocalProtocolError):
        machine.request("echo", timeout=object(), now=2.0)  # type: ignore[arg-type]
    assert difference(load(recorder.dump())) is None
