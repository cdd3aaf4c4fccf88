"""When to probe, what is alive and when the peer is gone: to the tick, on a virtual clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto.counters import Counters
from butter_proto.keepalive import LATE, Keepalive, Verdict
from butter_proto.machine import CHUNK
from butter_proto.outbox import Outbox, Outgoing
from butter_proto.settings import KeepaliveSettings, Probe
from butter_proto.timers import Timers

DEFAULTS = KeepaliveSettings()  # 10 s, 5 s, 2 misses
HEALTH = KeepaliveSettings(probe=Probe.HEALTH)  # a text: it waits behind an upload
NONE = KeepaliveSettings(probe=Probe.NONE)


class Stage:
    """A keepalive from its hello at ``start`` on, an outbox, and a socket that takes at once.

    ``blocked`` is a socket that takes nothing; ``asked`` and ``gone`` are times.
    """

    def __init__(
        self, settings: KeepaliveSettings = DEFAULTS, *, tick: float = 1e9, start: float = 0.0
    ) -> None:
        self.now = start
        self.blocked = False
        self.asked: list[float] = []
        self.gone: float | None = None
        self.probe: Outgoing | None = None
        self._as_text = settings.probe is Probe.HEALTH
        self.counters = Counters()
        self.outbox = Outbox(bytes, self.counters)
        self.timers: Timers[Any] = Timers()
        self.keepalive = Keepalive(settings, tick, self.timers, self.counters, start)

    @property
    def misses(self) -> int:
        return self.counters.misses

    def wake(self, at: float) -> None:
        """Be woken at a time, on time or late, and handle everything that is due."""
        self.now = at
        woken_for = self.timers.next()
        for _ in range(20):
            expired = self.timers.take_expired(at)
            if expired is None or self.gone is not None:
                return
            assert woken_for is not None
            self._act(self.keepalive.on_timer(expired[0], woken_for, at))
        pytest.fail("the keepalive is busy with itself")

    def run(self, until: float, *, late: float = 0.0) -> None:
        """Let time pass; every wake-up comes ``late`` seconds after it is due."""
        for _ in range(10_000):
            due = self.timers.next()
            if self.gone is not None or due is None or due + late > until:
                break
            self.wake(max(self.now, due + late))
        else:
            pytest.fail("the keepalive is busy with itself")
        self.now = max(self.now, until)

    def hear(self, at: float | None = None) -> None:
        """Let one byte come in, after everything that was due before it."""
        if at is not None:
            self.run(math.nextafter(at, 0.0))
            self.now = at
        self.keepalive.heard(self.now)

    def probe_now(self) -> None:
        self._act(self.keepalive.ask_now(self.now))

    def take_chunk(self) -> bool:
        """Let the socket take one chunk; False where nothing waits."""
        if not self.outbox.take(self.now):
            return False
        self.keepalive.handed_out(self.now)
        return True

    def _act(self, verdict: Verdict) -> None:
        assert verdict in Verdict
        match verdict:
            case Verdict.GONE:
                self.gone = self.now
            case Verdict.ASK:
                self.asked.append(self.now)
                self.probe = self.outbox.text(b"{}") if self._as_text else self.outbox.ping(b"")
                self.keepalive.asked(self.probe, self.now)
        while not self.blocked and self.take_chunk():
            pass


# --- on time ------------------------------------------------------------------------------------


def test_a_silent_peer_is_probed_at_10_missed_at_15_and_gone_at_25() -> None:
    """design.md, Keepalive; lessons 24: the client needs its own ping."""
    stage = Stage()
    stage.run(9.999)
    assert stage.asked == []
    stage.run(10.0)
    assert stage.asked == [10.0]
    stage.run(14.999)
    assert stage.misses == 0
    stage.run(15.0)
    assert (stage.misses, stage.gone) == (1, None)
    stage.run(100.0)
    assert (stage.asked, stage.misses, stage.gone) == ([10.0, 20.0], 2, 25.0)


@pytest.mark.parametrize(
    ("heard", "gone"), [(9.999, 25.0), (10.0, 35.0), (14.999, 35.0), (15.0, 35.0), (20.0, 45.0)]
)
def test_a_byte_since_the_probe_left_is_life(heard: float, gone: float) -> None:
    stage = Stage()
    stage.hear(heard)
    stage.run(100.0)
    assert stage.gone == gone


def test_a_byte_sets_the_misses_to_zero() -> None:
    stage = Stage()
    for byte in (16.0, 26.0, 36.0, 46.0):  # each after one miss
        stage.hear(byte)
    assert (stage.gone, stage.misses) == (None, 4)
    stage.run(100.0)
    assert (stage.gone, stage.misses) == (65.0, 6)


@pytest.mark.parametrize(
    ("interval", "timeout", "misses"),
    [
        (10.0, 5.0, 1),
        (10.0, 5.0, 3),
        (30.0, 1.0, 2),
        (1.0, 0.5, 10),
        (10.0, 10.0, 2),
        (7.0, 7.0, 5),
    ],
)
def test_a_peer_silent_since_hello_is_gone_after_misses_intervals_and_one_timeout(
    interval: float, timeout: float, misses: int
) -> None:
    """Also where a probe's time ends just when the next one is due."""
    stage = Stage(KeepaliveSettings(interval, timeout, misses))
    stage.run(1000.0)
    assert stage.asked == [interval * (k + 1) for k in range(misses)]
    assert stage.gone == misses * interval + timeout


def test_probes_come_every_interval_whatever_the_traffic() -> None:
    """Lessons 22 and 24: nothing masks a dead link, and nothing replaces the own ping."""
    stage = Stage()
    for second in range(1, 100):
        stage.hear(float(second))
    assert stage.asked == [10.0 * k for k in range(1, 10)]
    assert (stage.misses, stage.gone) == (0, None)


def test_a_peer_that_answers_is_never_gone() -> None:
    stage = Stage(start=5e8)
    for _ in range(1000):
        stage.run(stage.now + 10.0)
        stage.hear()
    assert (len(stage.asked), stage.misses, stage.gone) == (1000, 0, None)


# --- the outbox ---------------------------------------------------------------------------------


def test_a_probe_that_left_late_has_its_full_time_from_then() -> None:
    stage = Stage()
    stage.blocked = True
    stage.run(14.0)
    stage.take_chunk()
    stage.run(18.999)
    assert stage.misses == 0
    stage.run(19.0)
    assert stage.misses == 1


def test_the_progress_of_an_upload_is_no_miss_and_queues_no_second_probe() -> None:
    """A ``health`` request waits behind 25 MB that the socket takes slowly."""
    stage = Stage(HEALTH)
    stage.outbox.text(bytes(100 * CHUNK))
    stage.blocked = True
    for step in range(1, 80):
        stage.run(4.0 * step)
        assert stage.take_chunk()
    assert (stage.asked, stage.misses, stage.gone) == ([10.0], 0, None)
    while stage.take_chunk():
        pass
    stage.run(324.999)  # it left at 316, behind the last of the upload
    assert (stage.asked, stage.misses) == ([10.0, 320.0], 0)
    stage.run(325.0)
    assert stage.misses == 1


def test_an_upload_that_stands_still_is_a_silent_peer() -> None:
    stage = Stage(HEALTH)
    stage.outbox.text(bytes(100 * CHUNK))
    stage.blocked = True
    stage.run(100.0)
    assert (stage.asked, stage.misses, stage.gone) == ([10.0], 2, 25.0)


@pytest.mark.parametrize(
    ("chunk", "gone"), [(9.999, 25.0), (10.001, 35.0), (14.999, 35.0), (15.001, 25.0)]
)
def test_a_chunk_that_left_since_the_probe_was_due_excuses_that_probe_alone(
    chunk: float, gone: float
) -> None:
    """Only a byte of the peer sets the misses to 0, and here none comes."""
    stage = Stage(HEALTH)
    stage.outbox.text(bytes(100 * CHUNK))
    stage.blocked = True
    stage.run(chunk)
    assert stage.take_chunk()
    stage.run(100.0)
    assert (stage.misses, stage.gone) == (2, gone)


def test_a_byte_is_life_while_the_probe_waits_in_the_outbox() -> None:
    stage = Stage()
    stage.blocked = True
    stage.hear(12.0)
    stage.run(15.0)
    assert stage.misses == 0


def test_a_probe_that_was_due_while_another_was_awaited_is_asked_when_that_one_is_judged() -> None:
    """Else a byte at 17 would give the peer until 45: 28 s instead of 25."""
    stage = Stage()
    stage.blocked = True
    stage.run(16.0)
    stage.blocked = False
    assert stage.take_chunk()  # the probe of 10: the miss at 15 was told, it still leaves
    stage.probe_now()
    stage.hear(17.0)
    stage.run(100.0)
    assert stage.asked == [10.0, 16.0, 21.0, 30.0]
    assert stage.gone == 35.0


# --- round trips --------------------------------------------------------------------------------


def test_a_round_trip_is_the_time_from_its_hand_out_to_its_own_answer() -> None:
    stage = Stage()
    assert stage.keepalive.answered(1.0) is None
    stage.blocked = True
    stage.run(10.0)
    assert stage.keepalive.answered(11.0) is None  # it has not left
    stage.now = 12.0
    stage.take_chunk()
    assert stage.keepalive.answered(12.25) == 0.25
    assert stage.keepalive.answered(12.5) is None


def test_each_probe_has_its_round_trip() -> None:
    stage = Stage()
    for due in (10.0, 20.0):
        stage.run(due)
        stage.hear()
        assert stage.keepalive.answered(due + 0.5) == 0.5


def test_an_answer_after_the_verdict_still_has_a_round_trip() -> None:
    stage = Stage()
    stage.run(17.0)
    assert stage.keepalive.answered(17.0) == 7.0


# --- late wake-ups ------------------------------------------------------------------------------


def test_a_late_verdict_asks_once_more_and_judges_by_what_comes_from_then_on() -> None:
    """Lessons 25: bytes may be unread behind a wake-up that comes late."""
    stage = Stage()
    stage.run(10.0)
    stage.wake(15.2)
    assert (stage.asked, stage.misses) == ([10.0, 15.2], 0)
    stage.wake(20.0)
    assert stage.misses == 0
    stage.wake(20.2)
    assert stage.misses == 1


def test_a_byte_after_a_late_wake_up_is_life() -> None:
    stage = Stage()
    stage.run(10.0)
    stage.wake(15.2)
    stage.hear(15.3)
    stage.wake(20.2)
    assert (stage.misses, stage.gone) == (0, None)


def test_a_verdict_that_is_hardly_late_is_given() -> None:
    stage = Stage()
    stage.run(10.0)
    stage.wake(15.0 + LATE - 1e-9)
    assert (stage.misses, stage.asked) == (1, [10.0])


def test_there_is_one_second_look_between_two_bytes() -> None:
    """G10: a driver that is always late cannot keep a dead peer."""
    stage = Stage(KeepaliveSettings(misses=1))
    stage.run(10.0)
    stage.wake(15.2)
    for byte in (16.0, 21.0, 29.0):
        stage.hear(byte)
    stage.run(30.0)
    stage.wake(35.2)  # a byte came since the last look: granted again
    assert (stage.gone, stage.misses) == (None, 0)
    stage.wake(40.5)  # late again, and nothing came
    assert stage.gone == 40.5


def test_a_suspend_over_many_intervals_kills_nobody_at_once_and_asks_once() -> None:
    """Lessons 25 and 39."""
    stage = Stage(tick=30.0)
    stage.run(12.0)
    stage.wake(10_000.0)
    assert (stage.gone, stage.misses, stage.asked) == (None, 0, [10.0, 10_000.0])
    assert stage.timers.next() == 10_005.0


def test_a_peer_that_lives_after_a_suspend_goes_on_as_before() -> None:
    stage = Stage(tick=30.0)
    stage.run(12.0)
    stage.wake(10_000.0)
    for answer in (10_000.1, 10_010.1, 10_020.1):
        stage.hear(answer)
    stage.run(10_025.0)
    assert (stage.gone, stage.misses) == (None, 0)
    assert stage.asked == [10.0, 10_000.0, 10_010.0, 10_020.0]


def test_a_peer_that_is_dead_after_a_suspend_is_gone_within_the_bound_from_there() -> None:
    stage = Stage()
    stage.run(12.0)
    stage.wake(10_000.0)
    stage.run(20_000.0)
    assert stage.gone == 10_015.0


def test_a_suspend_between_two_probes_asks_at_once() -> None:
    stage = Stage()
    stage.hear(10.0)
    stage.run(15.0)
    stage.wake(1003.0)
    assert stage.asked == [10.0, 1003.0]
    stage.run(1010.0)
    assert (stage.misses, stage.asked) == (1, [10.0, 1003.0, 1010.0])


def test_a_late_verdict_over_a_probe_in_the_outbox_waits_anew_without_a_second_probe() -> None:
    stage = Stage()
    stage.blocked = True
    stage.run(10.0)
    stage.wake(15.2)
    assert (stage.misses, stage.asked) == (0, [10.0])
    stage.wake(20.2)
    assert stage.misses == 1


# --- out of turn --------------------------------------------------------------------------------


def test_a_probe_out_of_turn_is_asked_at_once_and_judged_after_its_time() -> None:
    """Lessons 25: the host knows of a wake-up or a new network."""
    stage = Stage(KeepaliveSettings(misses=1))
    stage.run(3.0)
    stage.probe_now()
    assert stage.asked == [3.0]
    stage.run(100.0)
    assert stage.gone == 8.0


def test_a_probe_out_of_turn_is_not_put_off_by_asking_again() -> None:
    stage = Stage(KeepaliveSettings(misses=1))
    for second in range(3, 8):
        stage.run(float(second))
        stage.probe_now()
    assert stage.asked == [3.0]
    stage.run(100.0)
    assert stage.gone == 8.0


def test_a_probe_out_of_turn_may_be_asked_again_once_it_was_judged() -> None:
    stage = Stage()
    stage.run(3.0)
    stage.probe_now()
    stage.run(8.5)
    stage.probe_now()
    assert (stage.asked, stage.misses) == ([3.0, 8.5], 1)


def test_a_probe_out_of_turn_takes_the_place_of_one_in_turn() -> None:
    """The one in turn may have left by the old network: the new one has its full time."""
    stage = Stage(KeepaliveSettings(misses=1))
    stage.run(14.0)
    stage.probe_now()
    assert stage.asked == [10.0, 14.0]
    stage.run(100.0)
    assert stage.gone == 19.0


def test_a_probe_in_turn_after_one_out_of_turn_may_be_replaced_again() -> None:
    stage = Stage()
    stage.run(3.0)
    stage.probe_now()
    stage.hear(4.0)
    stage.run(12.0)
    stage.probe_now()
    assert stage.asked == [3.0, 10.0, 12.0]


def test_probes_out_of_turn_leave_the_others_where_they_are() -> None:
    stage = Stage()
    stage.run(4.0)
    stage.probe_now()
    for second in range(5, 30):
        stage.hear(float(second))
    assert stage.asked == [4.0, 10.0, 20.0]


def test_a_probe_out_of_turn_at_the_very_time_of_one_in_turn_stands_for_it() -> None:
    stage = Stage()
    stage.hear(10.0)
    stage.probe_now()
    stage.hear(11.0)
    stage.run(20.0)
    assert stage.asked == [10.0, 20.0]


def test_a_probe_out_of_turn_queues_no_second_one_behind_a_blocked_socket() -> None:
    stage = Stage()
    stage.blocked = True
    stage.run(12.0)
    stage.probe_now()
    assert stage.asked == [10.0]
    stage.run(16.999)
    assert stage.misses == 0
    stage.run(17.0)
    assert stage.misses == 1


# --- the tick watchdog --------------------------------------------------------------------------


@pytest.mark.parametrize("tick", [1.0, 30.0, 600.0])
def test_without_probes_a_peer_is_gone_after_two_ticks_of_silence(tick: float) -> None:
    """wire.md 12: the reference client's rule; G10: it always runs."""
    stage = Stage(NONE, tick=tick)
    stage.run(math.nextafter(2 * tick, 0.0))
    assert (stage.gone, stage.misses) == (None, 0)
    stage.run(1e6)
    assert (stage.gone, stage.misses) == (2 * tick, 0)
    assert stage.asked == []


def test_the_silence_is_counted_from_the_last_byte() -> None:
    stage = Stage(NONE, tick=30.0)
    for byte in (0.2, 30.2, 59.9, 119.899):
        stage.hear(byte)
    stage.run(1e6)
    assert stage.gone == 119.899 + 60.0


def test_a_peer_that_ticks_is_never_gone() -> None:
    stage = Stage(NONE, tick=30.0)
    for k in range(1, 100):
        stage.hear(30.0 * k)
    assert stage.gone is None


def test_the_watchdog_runs_beside_the_probes() -> None:
    stage = Stage(tick=1.0)
    stage.run(100.0)
    assert (stage.gone, stage.asked) == (2.0, [])


def test_a_late_watchdog_looks_once_more() -> None:
    stage = Stage(NONE, tick=30.0)
    stage.wake(1000.0)
    assert stage.gone is None
    assert stage.timers.next() == 1005.0
    stage.hear(1001.0)
    stage.wake(1005.0)
    assert stage.gone is None
    assert stage.timers.next() == 1061.0
    stage.wake(2000.0)  # late again after a byte: another look
    assert stage.gone is None
    stage.wake(3000.0)  # and none after silence
    assert stage.gone == 3000.0


def test_a_late_watchdog_asks_the_peer() -> None:
    """Where probes are on, and none is awaited: the answer is what the second look sees."""
    stage = Stage(KeepaliveSettings(interval=3600.0), tick=30.0)
    stage.wake(61.0)
    assert (stage.gone, stage.asked) == (None, [61.0])
    stage.hear(61.5)
    stage.run(121.0)
    assert (stage.gone, stage.misses) == (None, 0)
    stage.run(1000.0)
    assert stage.gone == 121.5


def test_a_late_watchdog_asks_nobody_twice() -> None:
    stage = Stage(KeepaliveSettings(interval=3600.0, timeout=50.0), tick=30.0)
    stage.run(30.0)
    stage.probe_now()
    stage.wake(60.5)
    assert (stage.asked, stage.gone) == ([30.0], None)


def test_without_probes_none_is_asked_out_of_turn() -> None:
    stage = Stage(NONE)
    stage.run(3.0)
    stage.probe_now()
    assert stage.asked == []


# --- the bound ----------------------------------------------------------------------------------

CHECKED = st.tuples(st.floats(0.05, 100.0), st.floats(0.0, 1.0), st.integers(1, 5)).map(
    lambda drawn: KeepaliveSettings(drawn[0], max(0.05, drawn[0] * drawn[1]), drawn[2])
)
ROUND = st.sampled_from(
    [DEFAULTS, KeepaliveSettings(10.0, 10.0, 2), KeepaliveSettings(10.0, 10.0, 1), HEALTH]
)
GAPS = st.one_of(st.floats(0.0, 3.0), st.sampled_from([0.0, 0.5, 1.0, 5.0]))  # in intervals / 5
SCHEDULES = st.lists(
    st.tuples(GAPS, st.sampled_from(["byte", "chunk", "upload", "block", "free"])), max_size=30
)


def bound(settings: KeepaliveSettings) -> float:
    return settings.misses * settings.interval + settings.timeout


@given(
    settings=ROUND | CHECKED,
    gaps=st.lists(GAPS, max_size=30),
    start=st.sampled_from([0.0, 0.3, 1e6, 1e9]),
)
def test_a_peer_is_gone_within_the_bound_of_its_last_byte_and_not_much_sooner(
    settings: KeepaliveSettings, gaps: list[float], start: float
) -> None:
    """design.md: misses * interval + timeout; never under one interval less."""
    stage = Stage(settings, tick=1e9, start=start)
    last = start
    for gap in gaps:
        stage.run(stage.now + gap * settings.interval / 5)
        if stage.gone is None:
            stage.hear()
            last = stage.now
    stage.run(stage.now + 2 * bound(settings))
    assert stage.gone is not None
    assert last + bound(settings) - settings.interval - 1e-5 <= stage.gone
    assert stage.gone <= last + bound(settings) + 1e-5


@given(settings=ROUND | CHECKED, schedule=SCHEDULES, blocked=st.booleans())
@example(
    settings=KeepaliveSettings(10.0, 8.0, 2),
    schedule=[(0.0, "block"), (7.5, "free"), (1.0, "byte")],  # the probe of 10 leaves at 15
    blocked=False,
)
def test_a_peer_is_gone_within_the_bound_of_its_last_byte_or_the_last_chunk_it_took(
    settings: KeepaliveSettings, schedule: list[tuple[float, str]], blocked: bool
) -> None:
    """Whether at the end the socket takes nothing more or all: probes alone are no progress."""
    stage = Stage(settings, tick=1e9)
    last = 0.0
    for gap, step in [*schedule, (0.0, "block" if blocked else "free")]:
        stage.run(stage.now + gap * settings.interval / 5)
        if stage.gone is not None:
            return
        match step:
            case "byte":
                stage.hear()
                last = stage.now
            case "upload":
                stage.outbox.text(bytes(5 * CHUNK))
            case "block":
                stage.blocked = True
            case "free":
                stage.blocked = False
        if step != "byte" and (step == "chunk" or not stage.blocked) and stage.take_chunk():
            last = stage.now
            while not stage.blocked and stage.take_chunk():
                pass
    stage.run(stage.now + 2 * bound(settings))
    assert stage.gone is not None
    assert stage.gone <= last + bound(settings) + 1e-5


@given(
    settings=ROUND | CHECKED,
    lateness=st.lists(st.sampled_from([0.0, 0.05, 0.2, 3.0, 100.0]), min_size=1),
    probe_every=st.sampled_from([None, 1, 2]),
)
def test_a_driver_however_late_cannot_keep_a_dead_peer(
    settings: KeepaliveSettings, lateness: list[float], probe_every: int | None
) -> None:
    """G10: one second look at most, and each wake-up brings the end nearer."""
    stage = Stage(settings, tick=1e9)
    wakes = 0
    late = 0.0
    while stage.gone is None:
        due = stage.timers.next()
        assert due is not None
        assert due > stage.now - 1e-9
        extra = lateness[wakes % len(lateness)]
        late += extra
        stage.wake(max(stage.now, due + extra))
        if probe_every is not None and wakes % probe_every == 0 and stage.gone is None:
            stage.probe_now()
        wakes += 1
        assert wakes < 50
    assert stage.gone <= late + bound(settings) + 2 * settings.misses * settings.timeout + 1e-5
