"""Several gateways that serve as one, the same in both packages, over real sockets."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final

import attrs
import pytest

from butter_proto.device import MemoryStore
from butter_proto.errors import (
    ConnectionEnded,
    ConnectTimeout,
    EndKind,
    GaveUp,
    InvalidParams,
    InvalidSettings,
    LocalProtocolError,
    NotOnline,
    RequestMayHaveExecuted,
    RequestNotSent,
)
from butter_proto.events import (
    Connecting,
    EventsMissed,
    FromGateway,
    GatewayEvent,
    MissReason,
    Online,
    Retrying,
    Stopped,
)
from butter_proto.events import Offline as OfflineEvent
from butter_proto.machine import State
from butter_proto.pool_gateway import GatewayHealth, PoolGateway
from butter_proto.request_options import AUTO, Offline
from butter_proto.settings import ReconnectSettings, Settings
from butter_proto.testing import StandInGateway
from butter_trio.serve import serve
from tests.adapters.devices import Store, device
from tests.adapters.scenario import (
    PATIENT,
    QUICK,
    TOKEN,
    WATCHFUL,
    Unanswered,
    eventually,
    rest_of,
    until,
)
from tests.adapters.subject import PATIENCE, FullSubject, PoolClient, Stream
from tests.adapters.subjects import FULL
from tests.adapters.worlds import TrioWorld, entered

NAMES: Final = ("a", "b", "c")
CHANGED: Final = EventsMissed(MissReason.PRIMARY_CHANGED)


@pytest.fixture(params=FULL)
def subject(request: pytest.FixtureRequest) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


@attrs.define
class Several:
    """Three gateways, each another process; ``echo`` of each tells who answered."""

    stand_ins: dict[str, StandInGateway] = attrs.field(factory=dict)
    urls: dict[str, str] = attrs.field(factory=dict)

    def __getitem__(self, name: str) -> StandInGateway:
        return self.stand_ins[name]

    def of(self, *names: str, **options: Any) -> list[PoolGateway]:
        """Return what a pool is told of these."""
        return [PoolGateway(self.urls[name], name=name, **options) for name in names]


@pytest.fixture
def several(world: TrioWorld) -> Iterator[Several]:
    several = Several()
    with ExitStack() as stack:
        for seed, name in enumerate(NAMES, 1):
            stand_in = several.stand_ins[name] = StandInGateway(token=TOKEN, seed=seed)
            stand_in.reply("who", name)
            several.urls[name] = stack.enter_context(entered(world, serve(stand_in)))
        yield several


def all_online(pool: PoolClient) -> None:
    """Wait until every gateway of a pool is online."""
    eventually(lambda: all(gateway.state is State.ONLINE for gateway in pool.health()))


def ranks(pool: PoolClient) -> tuple[str, str]:
    """Return the names of the primary and of the warm one: start order is random."""
    all_online(pool)
    before = pool.primary
    assert before is not None
    return before, "b" if before == "a" else "a"


def health_of(pool: PoolClient, name: str) -> GatewayHealth:
    [health] = [gateway for gateway in pool.health() if gateway.name == name]
    return health


def from_gateway(stream: Stream, name: str, kind: type[Any]) -> Any:
    """Wait until one gateway tells an event of a kind."""
    while True:
        told = stream.get()
        assert isinstance(told, FromGateway)
        if told.gateway == name and isinstance(told.event, kind):
            return told.event


# --- connect --------------------------------------------------------------------------------


def test_a_pool_is_online_with_its_first_gateway_and_warms_the_others(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of(*NAMES), token=TOKEN) as pool:
        assert pool.state is State.ONLINE
        assert pool.primary in NAMES
        all_online(pool)
        assert [gateway.name for gateway in pool.health()] == list(NAMES)
        assert [gateway.primary for gateway in pool.health()].count(True) == 1
        assert pool.request("who") == pool.primary
    assert pool.health() == ()
    eventually(lambda: all(several[name].online_peers == 0 for name in NAMES))


def test_several_connections_to_one_gateway_have_names_of_their_own(
    subject: FullSubject, several: Several
) -> None:
    url = several.urls["a"]
    with subject.connect_pool([url, url], token=TOKEN) as pool:
        all_online(pool)
        first, second = (gateway.name for gateway in pool.health())
        assert second == f"{first}#2"
        assert several["a"].online_peers == 2


def test_one_that_refuses_does_not_keep_a_pool_from_being_online(
    subject: FullSubject, several: Several
) -> None:
    gateways = [*several.of("a", token="wrong"), *several.of("b")]
    with subject.connect_pool(gateways, token=TOKEN) as pool:
        assert pool.request("who") == "b"
        eventually(lambda: health_of(pool, "a").state is State.BLOCKED)
        assert health_of(pool, "a").advice != ""


def test_where_all_refuse_connect_gives_up_with_the_advice_of_each(
    subject: FullSubject, several: Several
) -> None:
    with (
        pytest.raises(GaveUp) as caught,
        subject.connect_pool(several.of("a", "b"), token="wrong"),
    ):
        raise AssertionError
    assert caught.value.ending is not None
    assert caught.value.ending.kind is EndKind.CONNECT_REFUSED
    assert "a: " in caught.value.advice
    assert "b: " in caught.value.advice


def test_connect_times_out_with_the_ending_of_the_one_that_had_one(
    subject: FullSubject, several: Several
) -> None:
    several["a"].stall()
    several["b"].refuse_upgrade_next(503, times=1000)
    with (
        pytest.raises(ConnectTimeout) as caught,
        subject.connect_pool(several.of("a", "b"), token=TOKEN, settings=QUICK, timeout=0.3),
    ):
        raise AssertionError
    assert caught.value.ending is not None
    assert caught.value.ending.http_status == 503
    several["a"].resume()


@pytest.mark.parametrize("gateways", ["ws://127.0.0.1:1", [None]])
def test_what_is_no_list_of_gateways_is_told(subject: FullSubject, gateways: Any) -> None:
    with (
        pytest.raises(InvalidSettings, match=r"list of gateways|a str or an Endpoint"),
        subject.connect_pool(gateways),
    ):
        raise AssertionError


def test_an_empty_pool_gives_up_and_can_be_filled(subject: FullSubject, several: Several) -> None:
    with pytest.raises(GaveUp, match="add one"), subject.connect_pool([]):
        raise AssertionError
    with subject.connect_pool([], token=TOKEN, wait=False) as pool:
        with pytest.raises(NotOnline):
            pool.request("who", offline=Offline.QUEUE)
        assert pool.add(several.of("a")[0]) == "a"
        pool.wait_online()
        assert pool.request("who") == "a"


# --- another gateway takes over -------------------------------------------------------------


@pytest.mark.parametrize("how", ["drop", "close", "stall"])
def test_where_the_primary_falls_a_warm_one_takes_over_and_events_say_so_first(
    subject: FullSubject, several: Several, how: str
) -> None:
    gateways = several.of("a", "b", settings=WATCHFUL)
    with subject.connect_pool(gateways, token=TOKEN) as pool:
        before, after = ranks(pool)
        events, states = pool.events("chat"), pool.states()
        several[after].push("chat", "nobody hears the warm one")
        assert pool.request("who", gateway=after) == after  # by now it is here
        several[before].push("chat", "the last of the old one")
        assert events.get().payload == "the last of the old one"
        if how == "drop":
            several[before].drop()
        elif how == "close":
            several[before].close(1012, "service restart")
        else:
            several[before].stall()
        assert events.get() == CHANGED
        assert pool.primary == after
        several[after].push("chat", "the first of the new one")
        event = events.get()
        assert isinstance(event, GatewayEvent)
        assert event.payload == "the first of the new one"
        assert pool.request("who") == after
        assert [type(states.get()) for _ in range(2)] == [Online, Online]
        if how == "stall":
            several[before].resume()


def test_where_all_fall_the_pool_is_offline_and_comes_back_as_one_gateway_does(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN, settings=PATIENT) as pool:
        all_online(pool)
        events, states = pool.events("chat"), pool.states()
        for name in ("a", "b"):
            several[name].drop()
        until(states, OfflineEvent)
        until(states, Retrying)
        with pytest.raises(NotOnline):
            pool.request("who")
        asked = pool.submit("who", offline=Offline.QUEUE)
        eventually(lambda: len(pool.queued()) == 1)
        pool_back = pool.add(several.of("c")[0])
        assert asked.result(PATIENCE) == pool_back
        told = events.get()
        while told == CHANGED:  # one may have taken over from the other before both fell
            told = events.get()
        assert told == EventsMissed(MissReason.RECONNECT)


def test_a_better_one_that_comes_back_takes_over_once_it_is_stable(
    subject: FullSubject, several: Several
) -> None:
    settings = Settings(
        reconnect=ReconnectSettings(base=0.02, cap=0.05, minimum=0.01, stable_after=0.2)
    )
    gateways = [*several.of("a", priority=1), *several.of("b", priority=0)]
    several["b"].stall()
    with subject.connect_pool(gateways, token=TOKEN, settings=settings) as pool:
        assert pool.primary == "a"
        events = pool.events("chat")
        several["b"].resume()
        assert events.get() == CHANGED
        assert pool.request("who") == "b"


@pytest.mark.parametrize("shared", [False, True])
def test_what_was_in_flight_is_sent_to_no_other_gateway_unless_they_share_their_state(
    subject: FullSubject,
    several: Several,
    shared: bool,
) -> None:
    with subject.connect_pool(
        several.of("a", "b"), token=TOKEN, settings=PATIENT, shared_state=shared
    ) as pool:
        before, after = ranks(pool)
        slow = Unanswered(several[before], "send")
        several[after].reply("send", after)
        asked = pool.submit("send", replay=True, idempotency_key=AUTO)
        slow.wait()
        several[before].drop()
        if shared:
            assert asked.result(PATIENCE) == after
            return
        eventually(lambda: pool.primary == after)
        pool.remove(before)
        with pytest.raises(RequestMayHaveExecuted):
            asked.result(PATIENCE)
    assert "send" not in [request.method for request in several[after].received]


# --- requests -------------------------------------------------------------------------------


def asked_for(stand_in: StandInGateway, method: str) -> int:
    """How often a gateway got a method."""
    return sum(one.method == method for one in stand_in.received)


def test_a_request_goes_to_whom_it_names_or_is_spread(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of(*NAMES), token=TOKEN) as pool:
        all_online(pool)
        assert [pool.request("who", gateway=name) for name in NAMES] == list(NAMES)
        for name in NAMES:
            several[name].reply("slow", name, delay=math.inf)
        asked = [pool.submit("slow", spread=True, timeout=None) for _ in range(6)]
        eventually(lambda: [gateway.pending for gateway in pool.health()] == [2, 2, 2])
        eventually(lambda: [asked_for(several[name], "slow") for name in NAMES] == [2, 2, 2])
        for name in NAMES:
            several[name].drop()
        for future in asked:
            with pytest.raises(RequestMayHaveExecuted):
                future.result(PATIENCE)
        with pytest.raises(InvalidParams, match="no gateway 'nobody'"):
            pool.request("who", gateway="nobody")
        with pytest.raises(InvalidParams, match="not both"):
            pool.request("who", gateway="a", spread=True)


def test_many_may_talk_to_one_pool_while_gateways_come_and_go(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN, settings=QUICK) as pool:
        all_online(pool)
        asked: list[Future[Any]] = []

        def ask(number: int) -> None:
            asked.extend(
                pool.submit("echo", [number, n], offline=Offline.QUEUE, spread=n % 2 == 0)
                for n in range(50)
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            pool.add(several.of("c")[0])
            pool.remove("c")
        for thread in threads:
            thread.join(PATIENCE)
        answers = sorted(future.result(PATIENCE) for future in asked)
    assert answers == [[number, n] for number in range(4) for n in range(50)]


# --- coming and going -----------------------------------------------------------------------


def test_a_gateway_that_is_removed_answers_what_it_has_first(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
        several["b"].reply("slow", "done", delay=0.2)
        stream = pool.from_gateways()
        asked = pool.submit("slow", gateway="b")
        eventually(lambda: health_of(pool, "b").pending == 1)
        pool.remove("b")
        assert asked.result(PATIENCE) == "done"
        assert [gateway.name for gateway in pool.health()] == ["a"]
        assert pool.request("who") == "a"
        from_gateway(stream, "b", Stopped)
        with pytest.raises(InvalidParams):
            pool.remove("b")


def test_a_gateway_that_does_not_answer_is_gone_after_its_drain(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
        slow = Unanswered(several["b"], "slow")
        asked = pool.submit("slow", gateway="b", timeout=None)
        slow.wait()
        pool.remove("b", drain=0.05)
        with pytest.raises(RequestMayHaveExecuted):
            asked.result(PATIENCE)
        with pytest.raises(InvalidParams, match="drain"):
            pool.remove("a", drain=-1)


def test_removing_the_primary_hands_over_before_it_goes(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
        before = pool.primary
        assert before is not None
        events = pool.events()
        pool.remove(before)
        assert events.get() == CHANGED
        assert pool.primary not in (before, None)
        assert pool.request("who") == pool.primary


def test_a_name_can_come_back_once_it_is_gone(subject: FullSubject, several: Several) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
        with pytest.raises(InvalidSettings, match="two gateways"):
            pool.add(several.of("b")[0])
        pool.remove("b")
        assert pool.add(several.of("b")[0]) == "b"
        all_online(pool)
        assert pool.request("who", gateway="b") == "b"


def test_closing_ends_a_removal_that_waits(subject: FullSubject, several: Several) -> None:
    removed = threading.Event()
    slow = Unanswered(several["b"], "slow")
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
        asked = pool.submit("slow", gateway="b", timeout=None)
        slow.wait()

        def remove() -> None:
            pool.remove("b", drain=3600)
            removed.set()

        removing = threading.Thread(target=remove)
        removing.start()
        eventually(lambda: health_of(pool, "b").leaving)
    assert removed.wait(PATIENCE)
    removing.join()
    with pytest.raises(RequestMayHaveExecuted):
        asked.result(PATIENCE)


def test_after_the_block_a_pool_takes_nobody_in(subject: FullSubject, several: Several) -> None:
    with subject.connect_pool(several.of("a"), token=TOKEN) as pool:
        pass
    with pytest.raises(LocalProtocolError, match="stopped"):
        pool.add(several.of("b")[0])
    with pytest.raises(InvalidParams):
        pool.remove("a")
    with pytest.raises(ConnectionEnded, match="stopped"):
        pool.wait_online()
    assert rest_of(pool.from_gateways()) == []
    assert rest_of(pool.events()) == []
    assert rest_of(pool.states()) == [Stopped()]


def test_closing_settles_everything_and_ends_every_stream(
    subject: FullSubject, several: Several
) -> None:
    slow = Unanswered(several["a"], "slow")
    with subject.connect_pool(several.of("a", "b"), token=TOKEN, settings=PATIENT) as pool:
        all_online(pool)
        streams = [pool.events(), pool.states(), pool.notices(), pool.from_gateways()]
        in_flight = pool.submit("slow", gateway="a", timeout=None)
        slow.wait()
        several["b"].drop()
        from_gateway(streams[3], "b", Retrying)
        queued = pool.submit("echo", gateway="b", offline=Offline.QUEUE, timeout=None)
        eventually(lambda: len(pool.queued()) == 1)
    with pytest.raises(RequestMayHaveExecuted):
        in_flight.result(PATIENCE)
    with pytest.raises(RequestNotSent):
        queued.result(PATIENCE)
    told = [rest_of(stream) for stream in streams]
    assert isinstance(told[1][-1], Stopped)
    assert {one.gateway for one in told[3] if one.event == Stopped()} == {"a", "b"}


# --- the hook, devices, what is told --------------------------------------------------------


def test_the_hook_runs_for_each_primary_and_the_queue_waits_for_it(
    subject: FullSubject, several: Several
) -> None:
    done: list[str] = []
    with subject.connect_pool(
        several.of("a", "b"), token=TOKEN, on_online=lambda pool: done.append(pool.request("who"))
    ) as pool:
        first = pool.primary
        assert done == [first]
        all_online(pool)
        assert first is not None
        states = pool.states()
        until(states, Online)
        several[first].drop()
        until(states, Online)
        pool.wait_online()
        assert pool.request("who", offline=Offline.QUEUE) == pool.primary
        assert done == [first, pool.primary]
        assert pool.primary != first


def test_a_hook_that_a_takeover_interrupts_runs_again_for_the_next_primary(
    subject: FullSubject, several: Several, caplog: pytest.LogCaptureFixture
) -> None:
    slow = [Unanswered(several[name], "subscribe") for name in ("a", "b")]
    done: list[str] = []

    def hook(pool: PoolClient) -> None:
        pool.request("subscribe", timeout=None)
        done.append(pool.request("who"))

    with subject.connect_pool(
        several.of("a", "b"), token=TOKEN, settings=PATIENT, on_online=hook, wait=False
    ) as pool:
        first, after = ranks(pool)
        slow[first == "b"].wait()
        several[after].reply("subscribe", "ok")
        held = pool.submit("who", offline=Offline.QUEUE)
        eventually(lambda: len(pool.queued()) == 1)
        several[first].drop()
        pool.wait_online()
        assert done == [after]
        assert held.result(PATIENCE) == after
    assert "on_online hook raised" not in caplog.text


def test_each_gateway_has_a_device_and_a_store_of_its_own(
    subject: FullSubject, several: Several
) -> None:
    stores = {name: Store() for name in NAMES}
    gateways = [
        PoolGateway(several.urls[name], name=name, device=device(stores[name])) for name in NAMES
    ]
    with subject.connect_pool(gateways[:2], token=TOKEN) as pool:
        all_online(pool)
        pool.add(gateways[2])
        all_online(pool)
        for name in NAMES:
            [(key, token)] = stores[name].kept.items()
            assert several.urls[name].endswith(key.origin.rpartition("/")[2])
            [known] = several[name].devices.values()
            assert known.tokens["operator"].token == token.token.reveal()
    # what was kept opens, at the start and at add
    with subject.connect_pool(gateways[:2]) as pool:
        pool.add(gateways[2])
        all_online(pool)
        for name in NAMES:
            hello = health_of(pool, name).hello
            assert hello is not None
            assert hello.auth_method == "device-token"


def test_two_gateways_may_share_a_device(subject: FullSubject, several: Several) -> None:
    store = MemoryStore()
    gateways = several.of("a", "b", device=device(store))  # type: ignore[arg-type]
    with subject.connect_pool(gateways, token=TOKEN) as pool:
        all_online(pool)
    assert len(store._tokens) == 2


def test_what_each_gateway_tells_of_itself_begins_with_what_is_so(
    subject: FullSubject, several: Several
) -> None:
    with subject.connect_pool(several.of("a", "b"), token=TOKEN, settings=PATIENT) as pool:
        all_online(pool)
        stream = pool.from_gateways()
        present = [stream.get() for _ in range(2)]
        assert {one.gateway: type(one.event) for one in present} == {"a": Online, "b": Online}
        several["b"].drop()
        from_gateway(stream, "b", OfflineEvent)
        from_gateway(stream, "b", Retrying)
        pool.add(several.of("c")[0])
        from_gateway(stream, "c", Connecting)


def test_every_line_says_which_gateway_it_is_about(
    subject: FullSubject, several: Several, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", subject.logger)
    with subject.connect_pool(several.of("a", "b"), token=TOKEN) as pool:
        all_online(pool)
    lines = [record.getMessage() for record in caplog.records if record.name == subject.logger]
    assert {line.partition(": ")[0] for line in lines} == {"a", "b", "pool"}
    assert lines[-1] == "pool: stopped"
    assert TOKEN not in caplog.text
