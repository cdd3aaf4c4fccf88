"""What no connection has: its order, its bounds, where a replay may go, and one outcome each."""

from __future__ import annotations

import math
from typing import Any

import pytest

from butter_proto import Delivery, Ending, EndKind, Limits, PendingFull
from butter_proto.backlog import OTHER_BOOT, Backlog
from butter_proto.events import RequestFailed
from butter_proto.pending import REPLAY_TOO_LATE, PendingRequest
from butter_proto.standing import Standing

NOT_SENT, MAY_HAVE = Delivery.NOT_SENT, Delivery.MAY_HAVE_EXECUTED
ENDING = Ending(EndKind.CONNECT_REFUSED)
ALONE = Standing()
BOOTS: dict[str | None, str] = {None: "boot"}


class Stage:
    """A backlog, and what it told."""

    def __init__(self, limits: Limits | None = None, *, shared_state: bool = False) -> None:
        self.told: list[RequestFailed] = []
        self.backlog = Backlog(limits or Limits(), self.told.append, shared_state=shared_state)

    def queue(self, *ids: str, deadline: float | None = None, gateway: str | None = None) -> None:
        for request_id in ids:
            self.backlog.add(made(request_id, deadline, gateway=gateway))

    def replay(
        self,
        *ids: str,
        deadline: float | None = None,
        gateway: str | None = None,
        boots: dict[str | None, str] | None = None,
    ) -> None:
        """Take over what may have executed, sent at 0."""
        requests = [made(request_id, deadline, gateway=gateway) for request_id in ids]
        for request in requests:
            request.boots = boots or BOOTS
        self.backlog.carry(requests)

    def release(
        self, standing: Standing = ALONE, boot_id: str | None = "boot", now: float = 0.0
    ) -> list[str]:
        return [request.id for request in self.backlog.release(standing, boot_id, now)]


def made(
    request_id: str, deadline: float | None = None, *, gateway: str | None = None
) -> PendingRequest:
    return PendingRequest(
        request_id, "m", request_id.encode(), deadline=deadline, queue=True, gateway=gateway
    )


def failed(request_id: str, delivery: Delivery, **more: Any) -> RequestFailed:
    return RequestFailed(request_id, delivery, "m", **more)


# --- the queue --------------------------------------------------------------------------------


def test_it_is_first_in_first_out_and_empty_afterwards() -> None:
    stage = Stage()
    stage.queue("1", "2", "3")
    assert [one.id for one in stage.backlog.queued()] == ["1", "2", "3"]
    assert stage.backlog.bytes == 3
    assert stage.release() == ["1", "2", "3"]
    assert stage.release() == []
    assert (stage.backlog.queued(), stage.backlog.bytes) == ((), 0)


def test_what_comes_back_goes_to_the_head_in_its_order() -> None:
    stage = Stage()
    stage.queue("3", "4")
    stage.backlog.carry([made("1"), made("2")])
    assert stage.release() == ["1", "2", "3", "4"]


def test_what_comes_back_late_goes_where_it_was_accepted() -> None:
    """It was refused and waited to be asked again, while a newer one had not left yet."""
    stage = Stage()
    slow, busy, new = made("slow"), made("busy"), made("new")
    busy.order, slow.order, new.order = 1, 2, 3
    stage.backlog.add(new)
    stage.backlog.carry([slow, busy])
    assert stage.release() == ["busy", "slow", "new"]


def test_replays_go_before_the_queue() -> None:
    stage = Stage()
    stage.queue("queued")
    stage.replay("replay 1", "replay 2")
    stage.backlog.carry([made("back")])
    assert [one.id for one in stage.backlog.queued()] == ["back", "queued"]
    assert stage.release() == ["replay 1", "replay 2", "back", "queued"]


def test_nothing_is_released_while_the_gate_is_closed() -> None:
    stage = Stage()
    stage.queue("1")
    stage.replay("2")
    assert stage.release(Standing(held=True)) == []
    assert stage.release() == ["2", "1"]


# --- bounds -----------------------------------------------------------------------------------


def test_the_number_is_bounded_for_what_comes_in_and_not_for_what_comes_back() -> None:
    stage = Stage(Limits(max_queued=2))
    stage.queue("1")
    stage.backlog.check_room(1)
    stage.backlog.carry([made("back 1"), made("back 2")])
    with pytest.raises(PendingFull, match="max_queued"):
        stage.backlog.check_room(1)
    assert len(stage.release()) == 3
    stage.backlog.check_room(1)


def test_the_bytes_are_bounded_and_replays_count_for_neither() -> None:
    stage = Stage(Limits(max_queued=1, max_queued_bytes=1024))
    stage.replay("x" * 1024)
    stage.backlog.check_room(1024)
    with pytest.raises(PendingFull, match="max_queued_bytes"):
        stage.backlog.check_room(1025)
    assert stage.backlog.bytes == 1024


def test_what_leaves_in_any_way_counts_no_more() -> None:
    stage = Stage(Limits(max_queued=1, max_queued_bytes=1024))
    size = "x" * 1024
    for leave in (
        lambda: stage.backlog.cancel(size),
        stage.release,
        lambda: stage.backlog.handle_timeout(9.0),
        lambda: stage.backlog.end(ENDING),
    ):
        stage.backlog.check_room(1024)
        stage.queue(size, deadline=9.0)
        leave()
        assert stage.backlog.bytes == 0
        assert stage.backlog.next_timeout() is None


# --- time -------------------------------------------------------------------------------------


def test_a_deadline_is_kept_to_the_tick() -> None:
    stage = Stage()
    stage.queue("late", deadline=5.0)
    stage.queue("later", deadline=6.0)
    stage.queue("never")
    assert stage.backlog.next_timeout() == 5.0
    stage.backlog.handle_timeout(math.nextafter(5.0, 0.0))
    assert stage.told == []
    stage.backlog.handle_timeout(5.0)
    assert stage.told == [failed("late", NOT_SENT, timed_out=True)]
    assert stage.backlog.next_timeout() == 6.0


@pytest.mark.parametrize(
    ("deadline", "when", "why"),
    [
        (None, 240.0, {"text": REPLAY_TOO_LATE}),
        (300.0, 240.0, {"text": REPLAY_TOO_LATE}),
        (240.0, 240.0, {"timed_out": True}),
        (100.0, 100.0, {"timed_out": True}),
    ],
)
def test_a_replay_is_given_up_at_its_deadline_or_when_its_key_is_forgotten(
    deadline: float | None, when: float, why: dict[str, Any]
) -> None:
    stage = Stage()
    stage.replay("1", deadline=deadline)
    assert stage.backlog.next_timeout() == when
    stage.backlog.handle_timeout(when)
    assert stage.told == [failed("1", MAY_HAVE, **why)]


@pytest.mark.parametrize("kind", ["queue", "replay"])
def test_what_is_due_is_not_released_but_told(kind: str) -> None:
    stage = Stage()
    getattr(stage, kind)("1", deadline=5.0)
    assert stage.release(now=5.0) == []
    stage.backlog.handle_timeout(5.0)
    assert [one.timed_out for one in stage.told] == [True]


def test_a_replay_is_not_released_after_240_s() -> None:
    stage = Stage()
    stage.replay("1")
    assert stage.release(now=240.0) == []
    assert stage.release(now=239.0) == ["1"]


# --- where a replay may go --------------------------------------------------------------------


@pytest.mark.parametrize("boot_id", ["another", None])
def test_a_replay_is_given_up_when_another_boot_says_hello(boot_id: str | None) -> None:
    stage = Stage()
    stage.replay("1")
    stage.queue("2")
    stage.backlog.meet(None, boot_id)
    assert stage.told == [failed("1", MAY_HAVE, text=OTHER_BOOT)]
    assert stage.release(boot_id=boot_id) == ["2"]


def test_a_replay_stays_when_its_boot_says_hello() -> None:
    stage = Stage()
    stage.replay("1")
    stage.backlog.meet(None, "boot")
    assert stage.told == []
    assert stage.release() == ["1"]


def test_in_a_pool_another_gateways_hello_says_nothing_of_a_replay() -> None:
    stage = Stage()
    stage.replay("1", boots={"a": "boot a"})
    stage.backlog.meet("b", "boot b")
    assert stage.told == []
    assert stage.release(Standing("b"), "boot b") == []
    assert stage.release(Standing("c", primary=False), "boot a") == ["1"]  # the same process


def test_a_gateway_that_shares_state_gets_a_replay_as_primary_and_once() -> None:
    stage = Stage(shared_state=True)
    stage.replay("1", boots={"a": "boot a"})
    stage.replay("2", boots={"a": "boot a", "b": "boot b"})
    assert stage.release(Standing("b", primary=False), "boot c") == []
    assert stage.release(Standing("b"), None) == []
    assert stage.release(Standing("b"), "boot c") == ["1"]


# --- whose a request is -----------------------------------------------------------------------


def test_in_a_pool_the_queue_goes_to_the_primary_and_what_names_a_gateway_to_that_one() -> None:
    stage = Stage()
    stage.queue("any")
    stage.queue("a's", gateway="a")
    stage.queue("b's", gateway="b")
    assert stage.release(Standing("a", primary=False)) == ["a's"]
    assert stage.release(Standing("c")) == ["any"]
    assert [one.gateway for one in stage.backlog.queued()] == ["b"]


def test_a_gateway_that_is_gone_takes_along_what_only_it_could_get() -> None:
    stage = Stage()
    stage.queue("any")
    stage.queue("a's", gateway="a")
    stage.replay("in a", boots={"a": "boot a"})
    stage.replay("in both", boots={"a": "boot a", "b": "boot b"})
    stage.backlog.forsake("a", ENDING)
    assert stage.told == [
        failed("in a", MAY_HAVE, ending=ENDING),
        failed("a's", NOT_SENT, ending=ENDING),
    ]


def test_where_gateways_share_state_a_replay_outlives_its_own() -> None:
    stage = Stage(shared_state=True)
    stage.replay("1", boots={"a": "boot a"})
    stage.replay("a's", boots={"a": "boot a"}, gateway="a")
    stage.backlog.forsake("a", ENDING)
    assert [one.id for one in stage.told] == ["a's"]


# --- the end ----------------------------------------------------------------------------------


def test_when_no_connection_will_come_everything_is_told() -> None:
    stage = Stage()
    stage.queue("1", deadline=5.0)
    stage.replay("2")
    stage.backlog.end(ENDING)
    assert stage.told == [
        failed("2", MAY_HAVE, ending=ENDING),
        failed("1", NOT_SENT, ending=ENDING),
    ]
    stage.backlog.end(ENDING)
    assert len(stage.told) == 2


def test_what_is_taken_back_has_no_outcome() -> None:
    stage = Stage()
    stage.queue("1")
    stage.replay("2")
    assert [stage.backlog.cancel(one) for one in ("1", "2", "1", "3")] == [
        *(NOT_SENT, MAY_HAVE, None, None)
    ]
    stage.backlog.end(ENDING)
    assert stage.told == []


def test_a_pools_request_is_exported_with_the_gateway_that_it_is_for() -> None:
    stage = Stage()
    payload = b'{"type":"req","id":"1","method":"m"}'
    stage.backlog.add(PendingRequest("1", "m", payload, deadline=9.0, queue=True, gateway="a"))
    (queued,) = stage.backlog.queued()
    assert queued.export(4.0) == {
        "method": "m",
        "params": None,
        "timeout": 5.0,
        "final": False,
        "replay": False,
        "retry_unavailable": False,
        "gateway": "a",
    }
