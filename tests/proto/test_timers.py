"""The clock a machine believes, and its deadlines against a naive model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.timers import LATEST, TICK, Clock, Timers

NAMES = st.integers(0, 5)
TIMES = st.integers(-3, 9).map(float)  # few values, so that many are equal
OPERATIONS = st.one_of(
    st.tuples(st.just("set"), NAMES, TIMES),
    st.tuples(st.just("move often"), NAMES, TIMES),
    st.tuples(st.just("stop"), NAMES, TIMES),
    st.tuples(st.just("take"), NAMES, TIMES),
    st.tuples(st.just("stop all"), NAMES, TIMES),
)


class NaiveTimers:
    """The same table as one dict, searched from end to end."""

    def __init__(self) -> None:
        self.deadlines: dict[int, float] = {}

    def set(self, name: int, when: float) -> None:
        self.deadlines.pop(name, None)  # a moved deadline is the last of its equals
        self.deadlines[name] = when

    def take_expired(self, now: float) -> tuple[int, float] | None:
        due = [item for item in self.deadlines.items() if item[1] <= now]
        if not due:
            return None
        first = min(due, key=lambda item: item[1])
        del self.deadlines[first[0]]
        return first


@given(operations=st.lists(OPERATIONS, max_size=60))
def test_timers_do_what_one_naive_dict_does(operations: list[tuple[str, int, float]]) -> None:
    timers: Timers[int] = Timers()
    model = NaiveTimers()
    for operation, name, when in operations:
        match operation:
            case "set":
                timers.set(name, when)
                model.set(name, when)
            case "move often":  # more often than the heap may keep dead entries
                for step in range(100):
                    timers.set(name, when + step % 7)
                    model.set(name, when + step % 7)
            case "stop":
                timers.stop(name)
                model.deadlines.pop(name, None)
            case "take":
                assert timers.take_expired(when) == model.take_expired(when)
            case _:
                timers.stop_all()
                model.deadlines.clear()
        assert len(timers) == len(model.deadlines)
        assert [known in timers for known in range(6)] == [
            known in model.deadlines for known in range(6)
        ]
        assert timers.next() == min(model.deadlines.values(), default=None)
    while model.deadlines:
        assert timers.take_expired(math.inf) == model.take_expired(math.inf)
    assert timers.take_expired(math.inf) is None


def test_a_deadline_is_due_at_its_time_and_not_before() -> None:
    timers: Timers[str] = Timers()
    timers.set("probe", 10.0)
    assert timers.take_expired(math.nextafter(10.0, 0.0)) is None
    assert timers.take_expired(10.0) == ("probe", 10.0)
    assert timers.take_expired(10.0) is None
    assert "probe" not in timers


def test_what_next_names_is_what_expires_then() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 7.0)
    timers.set("early", 3.0)
    timers.stop("early")
    assert timers.next() == 7.0
    assert timers.take_expired(7.0) == ("late", 7.0)
    assert timers.next() is None


def test_equal_deadlines_come_in_the_order_in_which_they_were_set() -> None:
    timers: Timers[str] = Timers()
    for name in ("a", "b", "c"):
        timers.set(name, 1.0)
    timers.set("a", 1.0)
    taken = [timers.take_expired(1.0) for _ in range(3)]
    assert taken == [("b", 1.0), ("c", 1.0), ("a", 1.0)]


def test_names_need_not_be_comparable() -> None:
    timers: Timers[object] = Timers()
    names = [object(), object(), "text", 5]
    for name in names:
        timers.set(name, 1.0)
    taken = [timers.take_expired(1.0) for _ in names]
    assert taken == [(name, 1.0) for name in names]


def test_stopping_what_is_not_set_is_no_error() -> None:
    timers: Timers[str] = Timers()
    timers.stop("never set")
    timers.stop_all()
    assert len(timers) == 0


def test_stopping_all_deadlines_lets_go_of_their_names() -> None:
    timers: Timers[int] = Timers()
    for name in range(50):
        timers.set(name, float(name))
    timers.stop_all()
    assert len(timers) == len(timers._heap) == 0


@pytest.mark.parametrize("live", [0, 1, 50])
def test_a_deadline_that_is_moved_for_ever_takes_no_more_room(live: int) -> None:
    timers: Timers[int] = Timers()
    for name in range(live):
        timers.set(name, 1e6 + name)
    most = 0
    for step in range(10_000):
        timers.set(-1, float(step))
        most = max(most, len(timers._heap))
    assert most <= 2 * (live + 1) + 64
    assert timers.next() == 9999.0
    assert len(timers) == live + 1


def test_deadlines_that_are_set_and_stopped_for_ever_take_no_more_room() -> None:
    timers: Timers[int] = Timers()
    for name in range(10_000):
        timers.set(name, 30.0)
        timers.stop(name)
        assert len(timers._heap) <= 64 + 2
    assert timers.next() is None


def test_a_rebuilt_heap_still_gives_the_earliest_first() -> None:
    timers: Timers[int] = Timers()
    for name in range(20, 0, -1):  # the latest first
        timers.set(name, float(name))
    heap = timers._heap
    for step in range(100):
        timers.set(0, 30.0 + step)
    assert timers._heap is not heap
    assert [timers.take_expired(20.0) for _ in range(21)] == [
        *((name, float(name)) for name in range(1, 21)),
        None,
    ]


def test_the_heap_is_rebuilt_seldom_however_many_deadlines_live() -> None:
    timers: Timers[int] = Timers()
    rebuilt = 0
    heap = timers._heap
    for step in range(20_000):
        timers.set(step % 1000, float(step))
        rebuilt += timers._heap is not heap
        heap = timers._heap
    assert 0 < rebuilt <= 20  # each rebuild pays for at least 1,000 moves


@given(
    times=st.lists(
        st.one_of(
            st.floats(),  # NaN and both infinities too
            st.integers(),
            st.sampled_from(
                [LATEST, -LATEST, math.nextafter(LATEST, math.inf), 10**400, -(10**400)]
            ),
        )
    )
)
def test_the_clock_shows_the_largest_usable_time_it_was_told(times: list[float]) -> None:
    clock = Clock()
    usable = [-LATEST]
    for now in times:
        if -LATEST <= now <= LATEST:  # False for NaN
            usable.append(now)
        assert clock.advance(now) == max(usable)
        assert clock.now == max(usable)


@pytest.mark.parametrize(
    "unusable", [math.nan, math.inf, -math.inf, 4.0, 5.0, LATEST * 2, -LATEST * 2]
)
def test_a_time_that_cannot_be_the_present_leaves_the_clock_alone(unusable: float) -> None:
    clock = Clock()
    clock.advance(5.0)
    assert clock.advance(unusable) == 5.0
    assert clock.advance(5.5) == 5.5


def test_the_latest_time_can_still_be_told_from_the_next_tick() -> None:
    assert math.ulp(LATEST) < TICK
    assert LATEST + TICK > LATEST
