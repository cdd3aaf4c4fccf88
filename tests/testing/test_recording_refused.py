"""What a file may not say is refused, and named."""

from __future__ import annotations

import attrs
import pytest

from butter_proto import (
    CLI,
    DeviceToken,
    Secret,
    Settings,
    SignedPayload,
)
from butter_proto.testing.recording import BadRecording, Recorder, load, replay
from butter_proto.testing.recording.reading import LARGEST, LONGEST_LINE, MOST_BOXES, MOST_LINES
from tests.proto.operations import new_machine
from tests.testing.recorded import (
    Recorded,
)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"public_key":null', '"public_key":"00"', "size"),
        ('"at":1.0', '"at":"x"', "time"),
        ('"signed":"V3"', '"signed":"V9"', "V9"),
        ('"scopes":["a"]', '"scopes":5', "scopes"),
        ('"url":"ws://gateway.local:18789/"', '"url":"ws://8.8.8.8/"', "connector"),
    ],
)
def test_a_value_that_cannot_be_is_named(old: str, new: str, why: str) -> None:
    recorder = Recorder()
    machine = new_machine(Settings(identity=attrs.evolve(CLI)), make=recorder.connector)
    machine.start(now=1.0, device_token=DeviceToken(Secret("a-token-of-it"), ("a",)))
    machine.reconnect_now(1.0, SignedPayload.V3)
    text = recorder.dump()
    if old == '"public_key":null':
        text = text.replace(text.split('"public_key":')[1].split(",")[0], "null")
    assert old in text
    with pytest.raises(BadRecording, match=why):
        next(replay(load(text.replace(old, new))))


def test_a_cut_that_counts_nothing_is_refused() -> None:
    head = Recorded().recorder.dump().splitlines()[0]
    with pytest.raises(BadRecording, match="numbers"):
        load(f'{head}\n{{"cut":{{"inputs":-1}},"carried":[]}}')


def test_a_file_that_is_too_large_is_not_read() -> None:
    head = Recorded().recorder.dump().splitlines()[0]
    probe = '{"at":1,"call":"probe","with":{},"did":[]}'
    assert len(load("\n".join((head, *([probe] * 100)))).entries) == 100
    with pytest.raises(BadRecording, match="lines"):
        load("\n".join((head, *([probe] * MOST_LINES))))
    with pytest.raises(BadRecording, match="lists"):
        load(f"{head}\n[{'[],' * MOST_BOXES}]")
    with pytest.raises(BadRecording, match="line 2: it is longer"):
        load(f"{head}\n{' ' * (LONGEST_LINE + 1)}")

    class Large(str):
        __slots__ = ()

        def __len__(self) -> int:
            return LARGEST + 1

    with pytest.raises(BadRecording, match="larger"):
        load(Large(head))


@pytest.mark.parametrize(
    "data", ["5", '"text"', '["\\u0100"]', "[-1]", "[true]", "[{}]", "null", "{}"]
)
def test_data_that_is_none_is_refused(data: str) -> None:
    head = Recorded().recorder.dump().splitlines()[0]
    given = f'{{"transport_id":1,"data":{data}}}'
    with pytest.raises(BadRecording, match="line 2"):
        load(f'{head}\n{{"at":1,"call":"receive_data","with":{given},"did":[]}}')


@pytest.mark.parametrize(
    "line",
    [
        '{"at":1,"call":"request","with":{"method":"m","params":5},"did":[]}',
        '{"at":1,"call":"probe","with":5,"did":[]}',
        '{"at":1,"call":"probe","with":{},"did":[5]}',
        '{"at":1,"call":"probe","with":{},"did":[["sent"]]}',
        '{"at":1,"call":"probe","with":{},"did":[["due",[]]]}',
        '{"at":1,"call":"probe","with":{},"did":[["message",1,"Ping",[]]]}',
        '{"at":1,"call":"probe","with":{},"did":[["event","A",{"roles":[5]}]]}',
        '{"at":1,"call":"probe","with":{},"did":[["event","A",{"request":[]}]]}',
        '{"at":%s,"call":"probe","with":{},"did":[]}' % 10**400,
        '{"at":1,"call":"probe","with":{},"did":[],"draws":[["random","x"]]}',
        '{"at":1,"call":"resynced","with":{"transport_id":[1]},"did":[]}',
    ],
)
def test_an_input_that_is_none_is_refused(line: str) -> None:
    head = Recorded().recorder.dump().splitlines()[0]
    with pytest.raises(BadRecording, match="line 2"):
        load(f"{head}\n{line}")
