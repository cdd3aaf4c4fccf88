"""What came out otherwise than then is found, and told as both."""

from __future__ import annotations

from contextlib import suppress

from butter_proto import (
    LocalProtocolError,
    Settings,
)
from butter_proto.testing.recording import Recorder, difference, load
from tests.proto.operations import new_machine
from tests.testing.recorded import (
    Recorded,
)
from tests.testing.test_recordings import FOLDER


def test_another_result_is_a_difference() -> None:
    one = Recorded()
    one.run(1)
    one.request()
    step = difference(load(one.recorder.dump().replace('"returned":"2"', '"returned":"9"')))
    assert step is not None
    assert "returned" in str(step.differences)


def test_what_was_not_decided_then_is_a_difference() -> None:
    one = Recorded()
    text = one.recorder.dump().replace(',"drained":false', "")
    step = difference(load(text))
    assert step is not None
    assert "OpenTransport" in str(step.differences)


def test_another_exception_is_a_difference() -> None:
    recorder = Recorder()
    machine = new_machine(Settings(), make=recorder.connector)
    with suppress(LocalProtocolError):
        machine.request("echo", now=1.0)
    step = difference(load(recorder.dump().replace('"NotOnline"', '"PendingFull"')))
    assert step is not None
    assert "raised" in str(step.differences)


def test_another_wake_up_is_a_difference() -> None:
    one = Recorded()
    one.run(1)
    step = difference(load(one.recorder.dump().replace('["due",1010.', '["due",1011.')))
    assert step is not None
    (found,) = step.differences
    assert str(found) == "then wake-up at 11.006 s; now wake-up at 10.006 s"


def test_no_wake_up_is_one_too_and_equal_looks_are_told_exactly() -> None:
    one = Recorded(token="a-wrong-token-of-the-tests")
    one.run(1)
    step = difference(load(one.recorder.dump().replace('["due",null]', '["due",1015.0]')))
    assert step is not None
    assert str(step.differences[0]) == "then wake-up at 15.000 s; now no wake-up"
    text = one.recorder.dump()
    step = difference(load(text.replace('["due",1015.0]', '["due",1015.00000001]', 1)))
    assert step is not None
    assert "then wake-up at 15.0000000" in str(step.differences[0])


def test_a_message_that_is_not_sent_is_a_difference() -> None:
    text = (FOLDER / "messages-of-a-host.jsonl").read_text(encoding="utf-8")
    assert '["message",1,"Text",' in text
    step = difference(load(text.replace('["message",1,"Text",', '["message",1,"Text",9', 1)))
    assert step is not None
    assert str(step.differences[0]).startswith("then sent Text 9")


def test_no_cut_explains_another_exception() -> None:
    *lines, last, end = (FOLDER / "an-hour-that-was-cut.jsonl").read_text("utf-8").splitlines()
    raised = last.replace('"did":', '"raised":"NotOnline","did":')
    step = difference(load("\n".join((*lines, raised, end))))
    assert step is not None
    (found,) = step.differences
    assert str(found) == "then it raised NotOnline; now it raised nothing"
