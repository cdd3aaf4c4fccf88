"""From a call to a request: keys, ids, and errors after which nothing has changed."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from butter_proto import AUTO, InvalidParams, Limits, Offline, PendingFull, Settings
from butter_proto.event_queue import EventStore
from butter_proto.intake import Draws, Intake
from butter_proto.pending import PendingRequest


class Stage:
    """An intake whose ids and keys count up."""

    def __init__(self, **limits: int) -> None:
        settings = Settings(limits=Limits(**limits))
        self.drawn: list[int] = []
        self.ids = Draws(map(str, count(1)).__next__)
        self.store = EventStore(settings.limits)
        self.intake = Intake(settings, self.ids, self.entropy, self.store)
        self._numbers = count(1)

    def entropy(self, size: int) -> bytes:
        self.drawn.append(size)
        return next(self._numbers).to_bytes(size)

    def make(self, params: Any = None, **options: Any) -> PendingRequest:
        return self.intake.make("m", params, 100.0, 0, **options)

    def accept(self, params: Any = None, **options: Any) -> PendingRequest:
        request = self.make(params, **options)
        self.intake.accept(request)
        return request


def params_of(request: PendingRequest) -> Any:
    return json.loads(request.payload).get("params")


# --- options ----------------------------------------------------------------------------------


def test_a_request_is_what_its_call_says() -> None:
    request = Stage().accept(
        {"a": 1},
        timeout=5.0,
        final=True,
        offline=Offline.QUEUE,
        replay=True,
        retry_unavailable=True,
        idempotency_key="k",
        gateway="b",
    )
    assert (request.id, request.method, request.deadline) == ("1", "m", 105.0)
    assert (request.final, request.queue, request.replay, request.retry_unavailable) == (
        *(True, True, True, True),
    )
    assert (request.idempotency_key, request.gateway) == ("k", "b")
    assert params_of(request) == {"a": 1, "idempotencyKey": "k"}
    assert request.size == len(request.payload)


def test_left_out_options_ask_for_nothing() -> None:
    request = Stage().accept()
    assert request.deadline == 130.0
    assert not any((request.final, request.queue, request.replay, request.retry_unavailable))
    assert (request.idempotency_key, request.gateway, params_of(request)) == (None, None, None)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), 1e9, True, "5"])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(InvalidParams, match="timeout"):
        Stage().make(timeout=timeout)


# --- idempotency keys -------------------------------------------------------------------------


def test_each_auto_is_a_new_key_of_128_bits() -> None:
    stage = Stage()
    first, second = (stage.accept(idempotency_key=AUTO) for _ in range(2))
    assert (first.idempotency_key, second.idempotency_key) == (f"{1:032x}", f"{2:032x}")
    assert params_of(second) == {"idempotencyKey": f"{2:032x}"}
    assert stage.drawn == [16, 16]


def test_a_key_is_drawn_only_where_one_is_wanted() -> None:
    stage = Stage()
    stage.accept()
    stage.accept(idempotency_key="k")
    stage.accept({"idempotencyKey": "own"}, idempotency_key=AUTO)
    assert stage.drawn == []


def test_a_key_that_was_looked_at_and_not_used_is_the_next_one() -> None:
    stage = Stage()
    assert stage.make(idempotency_key=AUTO).idempotency_key == f"{1:032x}"  # not accepted
    assert stage.accept(idempotency_key="k").idempotency_key == "k"
    assert stage.accept(idempotency_key=AUTO).idempotency_key == f"{1:032x}"
    assert stage.accept(idempotency_key=AUTO).idempotency_key == f"{2:032x}"


def test_a_key_that_comes_back_as_the_callers_own_is_used_up() -> None:
    stage = Stage()
    key = stage.make(idempotency_key=AUTO).idempotency_key
    stage.accept(idempotency_key=key)
    assert stage.accept(idempotency_key=AUTO).idempotency_key != key


def test_an_explicit_null_has_room_for_a_key() -> None:
    request = Stage().accept({"idempotencyKey": None}, idempotency_key="k")
    assert params_of(request) == {"idempotencyKey": "k"}


def test_the_callers_params_are_never_changed() -> None:
    class Params(dict[str, Any]):
        pass

    params = Params(a=1)
    Stage().accept(params, idempotency_key=AUTO)
    assert params == {"a": 1}


def test_the_key_of_params_is_known_without_an_option() -> None:
    assert Stage().accept({"idempotencyKey": "own"}, replay=True).idempotency_key == "own"


# --- nothing was accepted ---------------------------------------------------------------------


def test_a_made_request_takes_no_id_and_no_place() -> None:
    stage = Stage()
    assert (stage.make().id, stage.make().id) == ("1", "1")
    assert stage.store.pending == 0
    assert stage.accept().id == "1"
    assert stage.store.pending == 1
    assert stage.make().id == "2"
    assert stage.ids.take() == "2"  # a probe's


def test_the_places_are_bounded() -> None:
    stage = Stage(max_pending=2)
    stage.accept()
    stage.accept()
    with pytest.raises(PendingFull, match=r"2 requests are pending \(max_pending\)"):
        stage.make()


def test_the_bytes_are_bounded_with_those_that_are_pending() -> None:
    stage = Stage(max_pending_bytes=1024)
    size = stage.make().size
    stage.intake.make("m", None, 0.0, 1024 - size)
    with pytest.raises(PendingFull, match=r"1024 bytes are pending \(max_pending_bytes\)"):
        stage.intake.make("m", None, 0.0, 1025 - size)
