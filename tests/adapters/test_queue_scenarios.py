"""What becomes of requests between two connections, the same in both packages: queue and replay."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any, Final

import attrs
import pytest

from butter_proto.errors import (
    Delivery,
    GatewayError,
    LocalProtocolError,
    NotOnline,
    PendingFull,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestRefused,
    RequestTimeout,
)
from butter_proto.events import Offline as OfflineEvent
from butter_proto.events import Online, Retrying
from butter_proto.request_options import AUTO, Offline
from butter_proto.settings import Limits
from butter_proto.testing import StandInGateway
from tests.adapters.scenario import PATIENT, QUICK, TOKEN, Unanswered, eventually, until
from tests.adapters.subject import PATIENCE, FullClient, FullSubject
from tests.adapters.subjects import FULL

QUEUE: Final = Offline.QUEUE
BUSY: Final = GatewayError("UNAVAILABLE", "busy", retryable=True, retry_after=0.01)


@pytest.fixture(params=FULL)
def subject(request: pytest.FixtureRequest) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


class Executed:
    """A method that runs once for each key, and answers with what it was given."""

    def __init__(self, stand_in: StandInGateway) -> None:
        self.keys: list[str] = []
        self.asked = 0
        self._answer = threading.Event()
        self._stand_in = stand_in
        stand_in.reply("send", self._run, delay=math.inf)

    def wait(self) -> None:
        """Wait until one was asked for."""
        assert self._answer.wait(PATIENCE)

    def answer(self) -> None:
        """Answer from now on."""
        self._stand_in.reply("send", self._run)

    def _run(self, params: Any) -> Any:
        self.asked += 1
        if params["idempotencyKey"] not in self.keys:
            self.keys.append(params["idempotencyKey"])
        self._answer.set()
        return params["n"]


def methods(stand_in: StandInGateway) -> list[str]:
    return [request.method for request in stand_in.received if request.method != "connect"]


# --- the queue ------------------------------------------------------------------------------


def test_what_is_queued_before_the_first_hello_is_sent_after_it_in_order(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.stall()
    with subject.connect(url, token=TOKEN, wait=False) as client:
        asked = [client.submit("echo", n, offline=QUEUE) for n in range(5)]
        eventually(lambda: len(client.queued()) == 5)
        assert not any(future.done() for future in asked)
        stand_in.resume()
        assert [future.result(PATIENCE) for future in asked] == [0, 1, 2, 3, 4]
        assert client.queued() == ()
    echoed = [request.params for request in stand_in.received if request.method == "echo"]
    assert echoed == [0, 1, 2, 3, 4]


def test_what_is_queued_over_a_drop_is_sent_on_the_next_connection(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        states = client.states()
        stand_in.drop()
        until(states, Retrying)
        asked = client.submit("echo", 1, offline=QUEUE)
        eventually(lambda: len(client.queued()) == 1)
        with pytest.raises(NotOnline):
            client.request("echo", 2)
        client.reconnect_now()
        assert asked.result(PATIENCE) == 1


def test_the_deadline_of_a_queued_request_runs_on(subject: FullSubject) -> None:
    with subject.connect("ws://127.0.0.1:9", settings=PATIENT, wait=False) as client:
        with pytest.raises(RequestTimeout) as caught:
            client.request("echo", 1, offline=QUEUE, timeout=0.05)
        assert caught.value.delivery is Delivery.NOT_SENT
        assert client.queued() == ()


def test_a_full_queue_names_its_limit(subject: FullSubject) -> None:
    settings = attrs.evolve(PATIENT, limits=Limits(max_queued=2))
    with subject.connect("ws://127.0.0.1:9", settings=settings, wait=False) as client:
        for n in range(2):
            client.submit("echo", n, offline=QUEUE)
        eventually(lambda: len(client.queued()) == 2)
        with pytest.raises(PendingFull, match="max_queued"):
            client.request("echo", 3, offline=QUEUE)


def test_nothing_is_queued_where_no_connection_will_come(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.stall()
    with subject.connect(url, token="wrong", wait=False) as client:
        asked = client.submit("echo", 1, offline=QUEUE)
        eventually(lambda: len(client.queued()) == 1)
        stand_in.resume()
        with pytest.raises(RequestNotSent, match="AUTH_TOKEN_MISMATCH"):
            asked.result(PATIENCE)
        with pytest.raises(NotOnline):
            client.request("echo", 2, offline=QUEUE)


def test_taking_a_queued_request_back_leaves_nothing(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        states = client.states()
        stand_in.drop()
        until(states, Retrying)
        asked = client.submit("echo", 1, offline=QUEUE)
        kept = client.submit("echo", 2, offline=QUEUE)
        eventually(lambda: len(client.queued()) == 2)
        asked.cancel()
        eventually(lambda: len(client.queued()) == 1)
        with pytest.raises(CancelledError):
            asked.result(PATIENCE)
        client.reconnect_now()
        assert kept.result(PATIENCE) == 2
    assert [request.params for request in stand_in.received if request.method == "echo"] == [2]


def test_closing_settles_what_is_queued(subject: FullSubject) -> None:
    with subject.connect("ws://127.0.0.1:9", settings=PATIENT, wait=False) as client:
        asked = [client.submit("echo", n, offline=QUEUE, timeout=None) for n in range(3)]
        eventually(lambda: len(client.queued()) == 3)
    for future in asked:
        with pytest.raises(RequestNotSent, match="stopped"):
            future.result(PATIENCE)


def test_what_is_queued_can_be_exported_and_made_again(subject: FullSubject, url: str) -> None:
    with subject.connect("ws://127.0.0.1:9", settings=PATIENT, wait=False) as client:
        client.submit("echo", {"n": 1}, offline=QUEUE, idempotency_key=AUTO, replay=True)
        eventually(lambda: len(client.queued()) == 1)
        [queued] = client.queued()
        assert (queued.method, queued.gateway, queued.replay) == ("echo", None, True)
        kept = json.dumps([queued.export(queued.deadline or 0.0)])
    [made] = json.loads(kept)
    assert made["params"] == {"n": 1, "idempotencyKey": queued.idempotency_key}
    made["timeout"] = PATIENCE
    with subject.connect(url, token=TOKEN) as client:
        assert client.request(offline=QUEUE, **made) == made["params"]


# --- the hook goes first --------------------------------------------------------------------


def test_the_hook_goes_first_and_then_the_queue(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    def hook(client: FullClient) -> None:
        client.request("subscribe")
        client.request("history")

    for method in ("subscribe", "history", "send"):
        stand_in.reply(method, "ok")
    stand_in.stall()
    with subject.connect(url, token=TOKEN, settings=QUICK, on_online=hook, wait=False) as client:
        asked = client.submit("send", offline=QUEUE)
        eventually(lambda: len(client.queued()) == 1)
        stand_in.resume()
        assert asked.result(PATIENCE) == "ok"
        assert methods(stand_in) == ["subscribe", "history", "send"]
        assert client.request("send", offline=QUEUE) == "ok"  # the hook has run: at once


def test_while_the_hook_runs_the_queue_waits_and_the_rest_does_not(
    subject: FullSubject, url: str
) -> None:
    go_on = threading.Event()

    def hook(_: FullClient) -> None:
        assert go_on.wait(PATIENCE)

    with subject.connect(url, token=TOKEN, on_online=hook, wait=False) as client:
        until(client.states(), Online)
        held = client.submit("echo", 1, offline=QUEUE)
        assert client.request("echo", 2) == 2
        assert not held.done()
        assert [request.method for request in client.queued()] == ["echo"]
        go_on.set()
        assert held.result(PATIENCE) == 1


def test_what_was_queued_goes_out_after_a_hook_that_raises(subject: FullSubject, url: str) -> None:
    def hook(_: FullClient) -> None:
        raise LocalProtocolError

    with subject.connect(url, token=TOKEN, on_online=hook, wait=False) as client:
        assert client.request("echo", 1, offline=QUEUE) == 1


# --- replay ---------------------------------------------------------------------------------


def test_a_replay_to_the_same_boot_gets_the_reply_and_runs_once(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    sends = Executed(stand_in)
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        asked = client.submit("send", {"n": 1}, replay=True, idempotency_key=AUTO)
        sends.wait()
        sends.answer()
        stand_in.drop()
        assert asked.result(PATIENCE) == 1
    assert sends.asked == 2
    assert len(sends.keys) == 1


def test_another_boot_is_never_sent_a_replay(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    sends = Executed(stand_in)
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        states = client.states()
        asked = client.submit("send", {"n": 1}, replay=True, idempotency_key=AUTO)
        sends.wait()
        sends.answer()
        stand_in.restart("another-boot")
        until(states, OfflineEvent)
        with pytest.raises(RequestMayHaveExecuted) as caught:
            asked.result(PATIENCE)
    [key] = sends.keys
    assert caught.value.idempotency_key == key
    assert caught.value.method == "send"
    assert sends.asked == 1


def test_a_request_in_flight_without_replay_fails_with_its_connection(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    sends = Executed(stand_in)
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        asked = client.submit("send", {"n": 1}, offline=QUEUE, idempotency_key=AUTO)
        sends.wait()
        sends.answer()
        stand_in.drop()
        with pytest.raises(RequestMayHaveExecuted) as caught:
            asked.result(PATIENCE)
        assert [caught.value.idempotency_key] == sends.keys
        client.wait_online()
        assert sends.asked == 1


def test_a_replay_waits_for_the_hook_and_goes_before_the_queue(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    def hook(client: FullClient) -> None:
        client.request("subscribe")

    for method in ("subscribe", "later"):
        stand_in.reply(method, "ok")
    sends = Executed(stand_in)
    with subject.connect(url, token=TOKEN, settings=PATIENT, on_online=hook) as client:
        states = client.states()
        asked = client.submit("send", {"n": 1}, replay=True, idempotency_key="k")
        sends.wait()
        sends.answer()
        stand_in.drop()
        until(states, Retrying)
        later = client.submit("later", offline=QUEUE)
        eventually(lambda: len(client.queued()) == 1)
        client.reconnect_now()
        assert (asked.result(PATIENCE), later.result(PATIENCE)) == (1, "ok")
    assert methods(stand_in) == ["subscribe", "send", "subscribe", "send", "later"]


def test_taking_a_replay_back_sends_nothing_more(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    sends = Executed(stand_in)
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        states = client.states()
        asked = client.submit("send", {"n": 1}, replay=True, idempotency_key=AUTO)
        sends.wait()
        sends.answer()
        stand_in.drop()
        until(states, Retrying)
        asked.cancel()
        with pytest.raises(CancelledError):
            asked.result(PATIENCE)
        client.reconnect_now()
        client.wait_online()
        assert client.request("echo", 1) == 1
    assert sends.asked == 1


def test_closing_settles_a_replay_that_waits(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "send")
    with subject.connect(url, token=TOKEN, settings=PATIENT) as client:
        states = client.states()
        asked = client.submit("send", replay=True, idempotency_key="k", timeout=None)
        slow.wait()
        stand_in.drop()
        until(states, Retrying)
    with pytest.raises(RequestMayHaveExecuted, match="stopped") as caught:
        asked.result(PATIENCE)
    assert caught.value.idempotency_key == "k"


# --- asking again ---------------------------------------------------------------------------


def test_what_is_refused_for_now_is_asked_again(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    answers: list[Any] = [BUSY, BUSY, "done"]
    stand_in.reply("send", lambda _: answers.pop(0))
    with subject.connect(url, token=TOKEN, settings=QUICK) as client:
        assert client.request("send", retry_unavailable=True) == "done"
        answers[:] = [BUSY]
        with pytest.raises(RequestRefused) as caught:
            client.request("send", idempotency_key=AUTO)
        assert caught.value.error == BUSY
        assert caught.value.idempotency_key is not None


def test_what_is_refused_until_its_deadline_tells_the_refusal(
    subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    stand_in.reply("send", BUSY)
    with subject.connect(url, token=TOKEN) as client:
        with pytest.raises(RequestRefused) as caught:
            client.request("send", retry_unavailable=True, timeout=0.2)
        assert caught.value.error == BUSY
