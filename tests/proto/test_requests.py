"""Pending requests: one outcome each, or one cancel; never more on the wire than the window."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder

from butter_proto.counters import Counters
from butter_proto.errors import Delivery, Ending, EndKind, GatewayError
from butter_proto.events import Outcome, Replied, RequestAccepted, RequestFailed
from butter_proto.frames import Response
from butter_proto.outbox import Outbox
from butter_proto.pending import REPLAY_TOO_LATE, PendingRequest
from butter_proto.requests import AFTERMATH, Postponed, Requests
from butter_proto.timers import Timers
from butter_proto.window import Window

NOT_SENT, MAY_HAVE, REFUSED = Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED, Delivery.REFUSED
ENDING = Ending(EndKind.END_OF_STREAM)
BUSY = GatewayError("UNAVAILABLE", "The server is busy.", retryable=True)
INTERIM = {"status": "accepted"}


class Stage:
    """The requests of one connection on a virtual clock; nothing leaves before ``send``."""

    def __init__(self, window: int | Window = 200) -> None:
        self.now = 0.0
        self.outbox = Outbox(bytes, Counters())
        self.timers: Timers[Any] = Timers()
        window = window if isinstance(window, Window) else Window(window)
        self.requests = Requests(self.outbox, self.timers, window, self.delay)
        self.refusals: list[int] = []
        """What ``delay`` was told of the refusals before."""

    def delay(self, hint: float | None, times: int) -> float:
        self.refusals.append(times)
        return hint or 1.0

    def add(
        self,
        request_id: str,
        timeout: float | None = 30.0,
        *,
        size: int = 100,
        key: str | None = None,
        final: bool = False,
        queue: bool = False,
        replay: bool = False,
        retry_unavailable: bool = False,
    ) -> PendingRequest:
        payload = request_id.encode().ljust(size, b".")
        deadline = None if timeout is None else self.now + timeout
        request = PendingRequest(
            request_id, "chat.send", payload, key, deadline, final, queue, replay, retry_unavailable
        )
        self.requests.add(request, self.now)
        return request

    def take(self) -> list[str]:
        """Take one chunk; return the ids of the requests whose first frame is in it."""
        decoder = FrameDecoder(client=False)
        decoder.receive_bytes(self.outbox.take(self.now))
        ids = []
        while (frame := decoder.process_buffer()) is not None:
            assert isinstance(frame.payload, bytes)
            if frame.opcode:
                ids.append(frame.payload.rstrip(b".").decode())
        return ids

    def send(self) -> list[str]:
        """Let everything leave that waits in the outbox."""
        ids: list[str] = []
        while taken := self.take():
            ids += taken
        return ids

    def answer(
        self, request_id: str, payload: Any = None, error: GatewayError | None = None
    ) -> Outcome | RequestAccepted | Postponed | None:
        return self.requests.on_response(Response(request_id, payload, error), 7, self.now)

    def end(self) -> list[RequestFailed]:
        """End the connection; nothing is carried over."""
        outcomes, carried = self.requests.end(ENDING, None, "boot", self.now)
        assert carried == []
        return outcomes

    def fall(
        self, boot: str | None = "boot", kind: EndKind = EndKind.END_OF_STREAM
    ) -> tuple[list[RequestFailed], list[PendingRequest]]:
        """End the connection; return the outcomes, and what is carried over."""
        self.timers.stop_all()
        return self.requests.end(Ending(kind), None, boot, self.now)

    def cancel(self, request_id: str) -> Delivery | None:
        return self.requests.cancel(request_id, self.now)

    def run(self, seconds: float) -> list[RequestFailed]:
        """Let time pass and handle what is due then; return the outcomes."""
        self.now += seconds
        outcomes = []
        while (expired := self.timers.take_expired(self.now)) is not None:
            outcome = self.requests.on_timer(expired[0], self.now)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes


def failed(request_id: str, delivery: Delivery, **more: Any) -> RequestFailed:
    return RequestFailed(request_id, delivery, "chat.send", **more)


# --- answers ----------------------------------------------------------------------------------


def test_a_request_leaves_at_once_and_its_answer_is_its_outcome() -> None:
    stage = Stage()
    stage.add("1")
    assert stage.send() == ["1"]
    assert stage.answer("1", {"ok": True}) == Replied("1", {"ok": True}, 7)


def test_answers_may_come_in_any_order() -> None:
    """wire.md 8: seen ``5:health`` before ``4:agents.list``."""
    stage = Stage()
    for request_id in "123":
        stage.add(request_id)
    assert stage.send() == ["1", "2", "3"]
    outcomes = [stage.answer(request_id) for request_id in "312"]
    assert outcomes == [Replied(request_id, None, 7) for request_id in "312"]


def test_a_refusal_tells_its_error_its_payload_and_the_key() -> None:
    """wire.md 8 and 11: a failed chat.send carries both payload and error. Lessons 23."""
    stage = Stage()
    stage.add("1", key="idem-1")
    stage.send()
    payload = {"runId": "idem-1", "status": "error"}
    assert stage.answer("1", payload, BUSY) == failed(
        "1", REFUSED, idempotency_key="idem-1", error=BUSY, payload=payload
    )


def test_an_answer_nobody_waits_for_is_told_to_nobody() -> None:
    """Late, double and unknown ones; wire.md 8: doubles were seen."""
    stage = Stage(window=1)
    stage.add("1")
    stage.add("waiting")
    stage.send()
    assert stage.answer("unknown") is None
    assert stage.answer("waiting") is None
    assert stage.answer("1") is not None
    assert stage.answer("1") is None
    assert stage.send() == ["waiting"]


def test_a_final_request_waits_past_its_interim_answer() -> None:
    stage = Stage()
    stage.add("1", final=True)
    stage.send()
    assert stage.answer("1", INTERIM | {"runId": "r"}) == RequestAccepted(
        "1", INTERIM | {"runId": "r"}, 7
    )
    assert stage.answer("1", INTERIM) is None  # told once
    assert stage.answer("1", {"status": "ok"}) == Replied("1", {"status": "ok"}, 7)


@pytest.mark.parametrize("payload", [{"status": "started"}, {"status": "in_flight"}, ["accepted"]])
def test_what_is_no_interim_answer_is_the_outcome_of_a_final_request_too(payload: object) -> None:
    """wire.md 11: chat.send is answered ``started`` or ``in_flight``."""
    stage = Stage()
    stage.add("1", final=True)
    stage.send()
    assert stage.answer("1", payload) == Replied("1", payload, 7)


def test_an_interim_answer_is_the_outcome_of_a_request_that_is_not_final() -> None:
    stage = Stage()
    stage.add("1")
    stage.send()
    assert stage.answer("1", INTERIM) == Replied("1", INTERIM, 7)


def test_a_refusal_is_never_an_interim_answer() -> None:
    stage = Stage()
    stage.add("1", final=True)
    stage.send()
    assert stage.answer("1", INTERIM, BUSY) == failed("1", REFUSED, error=BUSY, payload=INTERIM)


def test_an_answer_that_was_guessed_is_the_outcome_and_the_request_stays_here() -> None:
    """G12: else the caller sends it again, and the gateway executes both."""
    stage = Stage(window=1)
    stage.add("1")
    stage.add("2")
    assert stage.answer("1", error=BUSY) == failed("1", REFUSED, error=BUSY)
    assert stage.send() == ["2"]


def test_a_half_sent_request_that_is_answered_leaves_whole() -> None:
    """A message once begun cannot be taken back."""
    stage = Stage()
    stage.add("1", size=200_000)
    stage.take()
    assert stage.answer("1") == Replied("1", None, 7)
    chunks = list(iter(lambda: stage.outbox.take(0.0), b""))
    assert sum(map(len, chunks)) > 130_000


# --- the window -------------------------------------------------------------------------------


def test_no_more_than_the_window_leaves_and_the_rest_follows_in_order() -> None:
    """wire.md 8: past about 256 at once the gateway refuses."""
    stage = Stage(window=2)
    for request_id in "12345":
        stage.add(request_id)
    assert stage.send() == ["1", "2"]
    stage.answer("2")
    assert stage.send() == ["3"]
    stage.answer("1")
    stage.answer("3")
    assert stage.send() == ["4", "5"]


def test_a_waiting_requests_deadline_runs() -> None:
    stage = Stage(window=1)
    stage.add("1", None)
    stage.add("2", 5.0)
    stage.add("3", 6.0)
    stage.send()
    assert stage.run(math.nextafter(5.0, 0.0)) == []
    stage.now = 5.0
    assert stage.run(0.0) == [failed("2", NOT_SENT, timed_out=True)]
    stage.answer("1")
    assert stage.send() == ["3"]


# --- cancel -----------------------------------------------------------------------------------


def test_a_waiting_request_that_is_cancelled_never_leaves() -> None:
    stage = Stage(window=1)
    for request_id in "123":
        stage.add(request_id)
    assert stage.cancel("2") is NOT_SENT
    stage.send()
    stage.answer("1")
    assert stage.send() == ["3"]
    assert stage.run(30.0) == [failed("3", MAY_HAVE, timed_out=True)]


def test_a_request_still_in_the_outbox_that_is_cancelled_is_withdrawn_and_gives_its_place() -> None:
    stage = Stage(window=2)
    for request_id in "123":
        stage.add(request_id)
    assert stage.cancel("1") is NOT_SENT
    assert stage.send() == ["2", "3"]
    assert stage.cancel("1") is None


def test_a_request_of_which_a_byte_left_may_have_executed() -> None:
    """G12: half a message counts."""
    stage = Stage()
    stage.add("1", size=200_000)
    assert stage.take() == ["1"]
    assert stage.cancel("1") is MAY_HAVE
    assert stage.take() == []
    assert stage.answer("1") is None


def test_what_cannot_be_taken_back_any_more_is_none() -> None:
    stage = Stage()
    stage.add("1")
    stage.add("2", 5.0)
    stage.send()
    stage.answer("1")
    stage.run(5.0)
    assert [stage.cancel(request_id) for request_id in ("1", "2", "unknown")] == [None] * 3


# --- deadlines and what comes after them --------------------------------------------------------


@pytest.mark.parametrize(("sent", "delivery"), [(False, NOT_SENT), (True, MAY_HAVE)])
def test_a_deadline_is_kept_to_the_tick_and_tells_whether_the_request_had_left(
    sent: bool, delivery: Delivery
) -> None:
    """Lessons 20."""
    stage = Stage()
    stage.add("1", 30.0, key="k")
    if sent:
        stage.send()
    assert stage.run(math.nextafter(30.0, 0.0)) == []
    stage.now = 30.0
    assert stage.run(0.0) == [failed("1", delivery, idempotency_key="k", timed_out=True)]
    assert stage.send() == []  # withdrawn, or gone before
    assert stage.run(1000.0) == []


def test_a_request_without_a_deadline_waits_for_ever() -> None:
    stage = Stage()
    stage.add("1", None)
    stage.send()
    assert stage.run(1e9) == []
    assert stage.answer("1") == Replied("1", None, 7)


def test_an_answered_requests_deadline_is_over() -> None:
    stage = Stage()
    stage.add("1", 5.0)
    stage.send()
    stage.answer("1")
    assert stage.timers.next() is None


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_an_abandoned_request_keeps_its_place_for_60_s(how: str) -> None:
    """The gateway is still busy with it."""
    stage = Stage(window=1)
    stage.add("1", 5.0)
    stage.add("2", None)
    stage.send()
    if how == "cancel":
        stage.now = 5.0
        stage.cancel("1")
    else:
        stage.run(5.0)
    assert AFTERMATH == 60.0
    stage.run(59.999)
    assert stage.send() == []
    stage.now = 65.0
    assert stage.run(0.0) == []
    assert stage.send() == ["2"]
    assert stage.answer("1") is None


def test_an_abandoned_request_gives_its_place_when_its_answer_comes() -> None:
    stage = Stage(window=1)
    stage.add("1", 5.0, final=True)
    stage.add("2", None)
    stage.send()
    stage.run(5.0)
    assert stage.answer("1", {"status": "ok"}) is None
    assert stage.send() == ["2"]
    assert stage.timers.next() is None


def test_an_interim_answer_does_not_free_the_place_of_an_abandoned_request() -> None:
    stage = Stage(window=1)
    stage.add("1", 5.0, final=True)
    stage.add("2", None)
    stage.send()
    stage.run(5.0)
    assert stage.answer("1", INTERIM) is None
    assert stage.send() == []
    stage.answer("1")
    assert stage.send() == ["2"]


# --- the end ----------------------------------------------------------------------------------


def test_at_the_end_every_request_gets_its_outcome_oldest_first() -> None:
    """G7; lessons 21 and 32: at the decision, nobody waits on."""
    stage = Stage(window=3)
    for request_id in ("cancelled", "sent", "half", "waiting", "waiting too"):
        stage.add(request_id, size=200_000 if request_id == "half" else 100, key=request_id)
    stage.take()
    stage.take()
    assert stage.cancel("cancelled") is MAY_HAVE
    assert stage.end() == [
        failed(request_id, delivery, idempotency_key=request_id, ending=ENDING)
        for request_id, delivery in (
            ("sent", MAY_HAVE),
            ("half", MAY_HAVE),
            ("waiting", NOT_SENT),
            ("waiting too", NOT_SENT),
        )
    ]
    assert stage.end() == []
    assert stage.answer("sent") is None
    assert stage.cancel("waiting") is None


def test_a_request_in_the_outbox_at_the_end_was_not_sent() -> None:
    stage = Stage()
    stage.add("1")
    assert stage.end() == [failed("1", NOT_SENT, ending=ENDING)]


# --- size -------------------------------------------------------------------------------------


def test_the_bytes_of_requests_count_until_their_outcome() -> None:
    """G9."""
    stage = Stage(window=2)
    for number, request_id in enumerate("12345"):
        stage.add(request_id, 5.0 + number, size=10**number)
    assert stage.requests.bytes == 11_111
    stage.send()
    stage.answer("2")
    assert stage.requests.bytes == 11_101
    stage.cancel("3")
    assert stage.requests.bytes == 11_001
    stage.run(5.0)
    assert stage.requests.bytes == 11_000
    stage.end()
    assert stage.requests.bytes == 0


def test_an_abandoned_request_keeps_its_place_and_not_its_bytes() -> None:
    """G9: they count no more."""
    stage = Stage()
    request = PendingRequest("1", "chat.send", b"x" * 100)
    stage.requests.add(request, stage.now)
    stage.send()
    stage.cancel("1")
    assert request.payload == b""
    assert request.outgoing is not None
    assert request.outgoing.payload == b""


# --- over the end of a connection ---------------------------------------------------------------


def test_what_may_be_carried_over_leaves_without_an_outcome_oldest_first() -> None:
    stage = Stage(window=3)
    stage.add("fail")
    stage.add("replay", replay=True)
    stage.add("queue", queue=True)
    stage.add("waiting replay", replay=True)
    stage.add("waiting queue", queue=True)
    stage.add("both", queue=True, replay=True)
    stage.send()
    outcomes, carried = stage.fall()
    assert [request.id for request in carried] == ["replay", "waiting queue", "both"]
    assert outcomes == [
        failed("fail", MAY_HAVE, ending=ENDING),
        failed("queue", MAY_HAVE, ending=ENDING),  # a byte of it left
        failed("waiting replay", NOT_SENT, ending=ENDING),  # it was not to be queued
    ]
    assert [dict(request.boots) for request in carried] == [{None: "boot"}, {}, {}]
    assert (stage.requests.bytes, len(stage.requests)) == (0, 0)


@pytest.mark.parametrize(
    ("boot", "kind"), [(None, EndKind.END_OF_STREAM), ("boot", EndKind.STOPPED)]
)
def test_nothing_is_replayed_without_a_boot_or_after_a_stop(
    boot: str | None, kind: EndKind
) -> None:
    stage = Stage()
    stage.add("1", replay=True)
    stage.send()
    assert stage.fall(boot, kind) == ([failed("1", MAY_HAVE, ending=Ending(kind))], [])


@pytest.mark.parametrize(("seconds", "carried"), [(239.0, 1), (240.0, 0)])
def test_what_cannot_be_replayed_in_time_is_not_carried_over(seconds: float, carried: int) -> None:
    stage = Stage()
    stage.add("1", None, replay=True)
    stage.send()
    stage.run(seconds)
    outcomes, left = stage.fall()
    assert (len(outcomes), len(left)) == (1 - carried, carried)


def test_what_is_over_due_is_not_carried_over() -> None:
    """The end may come before the wake-up."""
    stage = Stage(window=1)
    stage.add("1", None)
    stage.add("2", 5.0, queue=True)
    stage.now = 5.0
    outcomes, carried = stage.fall()
    assert [one.id for one in outcomes] == ["1", "2"]
    assert carried == []


def test_an_abandoned_request_is_not_carried_over() -> None:
    stage = Stage()
    stage.add("1", replay=True)
    stage.send()
    assert stage.cancel("1") is MAY_HAVE
    assert stage.fall() == ([], [])


def replayed() -> tuple[Stage, PendingRequest]:
    """A request that was carried over to this stage; it is in the outbox."""
    before = Stage()
    request = before.add("1", None, key="k", replay=True)
    before.send()
    assert before.fall() == ([], [request])
    stage = Stage()
    stage.requests.add(request, stage.now)
    return stage, request


def test_a_replay_that_does_not_leave_in_time_is_withdrawn() -> None:
    stage, _ = replayed()
    assert stage.run(239.0) == []
    assert stage.run(1.0) == [failed("1", MAY_HAVE, idempotency_key="k", text=REPLAY_TOO_LATE)]
    assert stage.send() == []
    assert len(stage.requests) == stage.requests.bytes == len(stage.timers) == 0


def test_a_replay_that_left_in_time_is_waited_for() -> None:
    stage, _ = replayed()
    stage.send()
    assert stage.run(1000.0) == []
    assert stage.answer("1") == Replied("1", None, 7, "k")
    assert len(stage.timers) == 0


@pytest.mark.parametrize("left", [False, True])
def test_a_replay_may_have_executed_wherever_it_is_taken_back(left: bool) -> None:
    stage, _ = replayed()
    if left:
        stage.send()
    assert stage.cancel("1") is MAY_HAVE
    stage.run(AFTERMATH)
    assert len(stage.requests) == len(stage.timers) == 0


def test_a_replay_that_did_not_leave_is_carried_on_without_a_boot_too() -> None:
    """Where it may go is asked when the next hello comes."""
    stage, request = replayed()
    assert stage.fall(None) == ([], [request])
    assert dict(request.boots) == {None: "boot"}


def test_a_refused_replay_without_a_payload_may_have_executed() -> None:
    stage, _ = replayed()
    stage.send()
    assert stage.answer("1", error=BUSY) == failed("1", MAY_HAVE, idempotency_key="k", error=BUSY)


# --- asking again -------------------------------------------------------------------------------


def test_a_refused_request_gives_its_place_while_it_waits_to_be_asked_again() -> None:
    stage = Stage(window=1)
    stage.add("1", retry_unavailable=True)
    stage.add("2")
    assert stage.send() == ["1"]
    assert stage.answer("1", error=BUSY) is Postponed.POSTPONED
    assert stage.send() == ["2"]
    assert stage.run(1.0) == []
    assert stage.send() == []  # it waits for its place
    stage.answer("2")
    assert stage.send() == ["1"]
    assert stage.answer("1", error=BUSY) is Postponed.POSTPONED
    assert stage.refusals == [0, 1]
    assert stage.requests.bytes == 100


def test_a_deadline_while_it_waits_for_a_place_again_tells_the_refusal() -> None:
    stage = Stage(window=1)
    stage.add("1", 5.0, retry_unavailable=True)
    stage.add("2", None)
    stage.send()
    stage.answer("1", error=BUSY)
    stage.send()
    assert stage.run(5.0) == [failed("1", REFUSED, error=BUSY)]
    assert stage.requests.bytes == 100


def test_it_is_not_asked_again_where_its_time_would_be_up() -> None:
    stage = Stage()
    stage.add("1", 1.0, retry_unavailable=True)
    stage.send()
    assert stage.answer("1", error=BUSY) == failed("1", REFUSED, error=BUSY)
    replay, request = replayed()
    request.retry_unavailable = True
    replay.send()
    hint = attrs.evolve(BUSY, retry_after=240.0)
    outcome = replay.answer("1", error=hint)
    assert outcome == failed("1", MAY_HAVE, idempotency_key="k", error=hint)


def test_a_guessed_refusal_withdraws_what_has_not_left_and_asks_later() -> None:
    stage = Stage()
    stage.add("1", retry_unavailable=True)
    assert stage.answer("1", error=BUSY) is Postponed.POSTPONED
    assert stage.send() == []
    stage.run(1.0)
    assert stage.send() == ["1"]


def test_an_abandoned_request_is_not_asked_again() -> None:
    stage = Stage()
    stage.add("1", retry_unavailable=True)
    stage.send()
    stage.cancel("1")
    assert stage.answer("1", error=BUSY) is None
    stage.run(100.0)
    assert stage.send() == []
    assert len(stage.requests) == 0


# --- one window for two connections -------------------------------------------------------------


def two_stages(places: int) -> tuple[Stage, Stage]:
    window = Window(places)
    return Stage(window), Stage(window)


def test_two_connections_that_share_a_window_share_its_places() -> None:
    one, other = two_stages(2)
    for request_id in "12":
        one.add(request_id)
        other.add(request_id)
    assert (one.send(), other.send()) == (["1"], ["1"])
    one.answer("1")
    assert (one.send(), other.send()) == (["2"], [])  # it has waited longest
    one.answer("2")
    assert (one.send(), other.send()) == ([], ["2"])


def test_the_end_of_a_connection_gives_its_places_to_the_other() -> None:
    one, other = two_stages(3)
    for request_id in "123":
        one.add(request_id)
    for request_id in "45":
        other.add(request_id)
    one.send()
    one.cancel("1")  # it keeps its place until the end
    assert other.send() == []
    one.end()
    assert other.send() == ["4", "5"]


def test_a_connection_that_is_over_gets_no_place() -> None:
    one, other = two_stages(1)
    other.add("1")
    one.add("2")
    other.send()
    one.end()
    other.add("3")
    other.answer("1")
    assert (one.send(), other.send()) == ([], ["3"])


# --- against a model ----------------------------------------------------------------------------

SMALL, LARGE = 40_000, 100_000  # so that each chunk is one frame, and LARGE needs two of them
OPERATIONS = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from([None, 5.0, 30.0, 100.0]),
        st.sampled_from([SMALL, LARGE]),
        st.booleans(),
    ),
    st.tuples(
        st.just("answer"),
        st.integers(0, 15),
        st.sampled_from([None, INTERIM, {"status": "ok"}]),
        st.booleans(),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 15), st.none(), st.none()),
    st.tuples(
        st.just("run"), st.sampled_from([0.0, 1.0, 5.0, 30.0, 59.0, 61.0]), st.none(), st.none()
    ),
    st.tuples(st.just("take"), st.integers(1, 3), st.none(), st.none()),
)


class Known:
    """What the model knows of one request."""

    def __init__(self, request_id: str, deadline: float, size: int, *, final: bool) -> None:
        self.id = request_id
        self.deadline = deadline
        self.size = size
        self.final = final
        self.frames = 2 if size == LARGE else 1
        self.started = False
        self.interim = False
        self.settled = False
        self.gone = False
        """Without a place in flight, and not waiting for one."""


class Model:
    """The same rules over one list, searched from end to end."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.known: list[Known] = []
        self.now = 0.0

    @property
    def in_flight(self) -> list[Known]:
        return [request for request in self.known if not request.gone][: self.window]

    def is_in_flight(self, request: Known) -> bool:
        return request in self.in_flight

    def answer(
        self, request: Known, payload: Any, *, refused: bool
    ) -> Outcome | RequestAccepted | None:
        if request.gone or not self.is_in_flight(request):
            return None
        if request.final and not refused and payload == INTERIM:
            told = request.interim or request.settled
            request.interim = True
            return None if told else RequestAccepted(request.id, payload, 7)
        request.gone = True
        if request.settled:
            return None
        request.settled = True
        if refused:
            return failed(request.id, REFUSED, error=BUSY, payload=payload)
        return Replied(request.id, payload, 7)

    def abandon(self, request: Known) -> Delivery:
        request.settled = True
        request.gone = not request.started
        request.deadline = self.now + 60.0
        return MAY_HAVE if request.started else NOT_SENT

    def cancel(self, request: Known) -> Delivery | None:
        return None if request.settled else self.abandon(request)

    def run(self, seconds: float) -> list[RequestFailed]:
        self.now += seconds
        outcomes = []
        while due := [
            request for request in self.known if not request.gone and request.deadline <= self.now
        ]:
            request = min(due, key=lambda request: request.deadline)
            if request.settled:
                request.gone = True
            else:
                outcomes.append(failed(request.id, self.abandon(request), timed_out=True))
        return outcomes

    def take(self) -> list[str]:
        """One frame of the oldest message that has any left: at the wire a place is not needed."""
        for request in self.known:
            if request.frames and (request.started or self.is_in_flight(request)):
                request.frames -= 1
                first = not request.started
                request.started = True
                return [request.id] if first else []
        return []

    def end(self) -> list[RequestFailed]:
        return [
            failed(request.id, MAY_HAVE if request.started else NOT_SENT, ending=ENDING)
            for request in self.known
            if not request.settled
        ]


@given(operations=st.lists(OPERATIONS, max_size=50), window=st.integers(1, 4))
def test_requests_do_what_one_naive_list_does(
    operations: list[tuple[str, Any, Any, Any]], window: int
) -> None:
    """G7: exactly one outcome each, or one cancel; the window is kept, and the order."""
    stage = Stage(window)
    model = Model(window)
    outcomes: dict[str, int] = {}

    def count(outcome: Outcome | RequestAccepted | Postponed | None) -> None:
        if isinstance(outcome, Replied | RequestFailed):
            outcomes[outcome.id] = outcomes.get(outcome.id, 0) + 1

    for operation, number, detail, flag in operations:
        match operation:
            case "add":
                request_id = str(len(model.known))
                stage.add(request_id, number, size=detail, final=flag)
                deadline = math.inf if number is None else stage.now + number
                model.known.append(Known(request_id, deadline, detail, final=flag))
            case "answer" if number < len(model.known):
                request = model.known[number]
                answer = stage.answer(request.id, detail, BUSY if flag else None)
                assert answer == model.answer(request, detail, refused=flag)
                count(answer)
            case "cancel" if number < len(model.known):
                delivery = stage.cancel(str(number))
                assert delivery == model.cancel(model.known[number])
                if delivery is not None:
                    outcomes[str(number)] = outcomes.get(str(number), 0) + 1
            case "run":
                expired = stage.run(number)
                assert expired == model.run(number)
                for outcome in expired:
                    count(outcome)
            case "take":
                for _ in range(number):
                    assert stage.take() == model.take()
            case _:
                pass
        assert sum(known.started and not known.gone for known in model.known) <= window
        assert stage.requests.bytes == sum(known.size for known in model.known if not known.settled)
    ended = stage.end()
    assert ended == model.end()
    for outcome in ended:
        count(outcome)
    assert outcomes == {known.id: 1 for known in model.known}
