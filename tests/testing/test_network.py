"""The virtual network, with a tiny machine that follows the contract or breaks it."""

from __future__ import annotations

from collections import deque

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import Ping, Pong, Request

from butter_proto.errors import Ending, FaultKind, TransportFault
from butter_proto.events import Event, RoundTrip
from butter_proto.machine import (
    CHUNK,
    Close,
    CloseTransport,
    Command,
    Message,
    OpenTransport,
    State,
    Stats,
    Text,
)
from butter_proto.machine import Ping as PingMessage
from butter_proto.settings import Framing
from butter_proto.testing import (
    Conditions,
    ContractBroken,
    Dial,
    Direction,
    Livelock,
    NotReached,
    StandInGateway,
    VirtualClock,
    VirtualNetwork,
)

HERE = ("gateway", 18789)


class TinyMachine:
    """Dials, upgrades and reads; what happens to it is written into ``log``."""

    def __init__(self, address: tuple[str, int] = HERE, *, tls: bool = False) -> None:
        self.address = address
        self.tls = tls
        self.log: list[tuple[float, str]] = []
        self.received: list[bytes] = []
        self.certificate: bytes | None = None
        self.commands: deque[Command] = deque()
        self.told: deque[Event] = deque()
        self.out = b""
        self.chunk = CHUNK
        self.pulled: list[int] = []
        self.messages: deque[Message] = deque()
        self.timeout: float | None = None
        self.after_timeout: float | None = None
        self.wakes: list[float] = []
        self.stopped = False
        self.framing = Framing.BYTES
        self.redial = False
        self.pongs = 0
        self.ws = WSConnection(ConnectionType.CLIENT)

    def dial(self, transport_id: int = 1) -> TinyMachine:
        host, port = self.address
        self.commands.append(
            OpenTransport(transport_id, host, port, self.tls, host, None, self.framing, "ws://x/")
        )
        return self

    def upgrade(self) -> None:
        self.out += self.ws.send(Request("gateway", "/"))

    def ping(self) -> None:
        self.out += self.ws.send(Ping())

    def close(self, transport_id: int = 1) -> None:
        self.commands.append(CloseTransport(transport_id))

    def stop(self) -> None:
        self.stopped = True

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.log]

    # the contract

    def transport_opened(
        self, transport_id: int, now: float, certificate: bytes | None = None
    ) -> None:
        self.log.append((now, f"opened {transport_id}"))
        self.certificate = certificate

    def receive_data(self, transport_id: int, data: bytes, now: float) -> None:
        self.log.append((now, "data" if data else "end"))
        self.received.append(data)
        self.told.append(RoundTrip(float(len(data))))
        if not data:
            self.close(transport_id)
            return
        self.ws.receive_data(data)
        self.pongs += sum(isinstance(event, Pong) for event in self.ws.events())

    def transport_failed(self, transport_id: int, fault: TransportFault, now: float) -> None:
        self.log.append((now, fault.kind.name))
        self.close(transport_id)
        if self.redial:
            self.dial(transport_id + 1)

    def receive_message(self, transport_id: int, message: str | bytes, now: float) -> None:
        assert transport_id >= 1
        self.log.append((now, "message"))
        self.received.append(message.encode() if isinstance(message, str) else message)

    def receive_pong(self, transport_id: int, payload: bytes, now: float) -> None:
        assert transport_id >= 1
        self.log.append((now, f"pong {payload!r}"))

    def transport_closed(
        self, transport_id: int, code: int | None, reason: str, now: float
    ) -> None:
        self.log.append((now, f"closed {code} {reason}"))
        self.close(transport_id)

    def handle_timeout(self, now: float) -> None:
        self.wakes.append(now)
        self.log.append((now, "wake"))
        self.timeout = self.after_timeout

    def next_command(self) -> Command | None:
        return self.commands.popleft() if self.commands else None

    def data_to_send(self, transport_id: int) -> bytes:
        assert transport_id >= 1
        data, self.out = self.out[: self.chunk], self.out[self.chunk :]
        if data:
            self.pulled.append(len(data))
        return data

    def next_message(self, transport_id: int) -> Message | None:
        assert transport_id >= 1
        return self.messages.popleft() if self.messages else None

    def next_event(self) -> Event | None:
        return self.told.popleft() if self.told else None

    def next_timeout(self) -> float | None:
        return self.timeout

    @property
    def state(self) -> State:
        return State.IDLE

    @property
    def retry_at(self) -> float | None:
        return None

    @property
    def finished(self) -> bool:
        return self.stopped

    @property
    def last_ending(self) -> Ending | None:
        return None

    @property
    def stats(self) -> Stats:
        return Stats()


class Scene:
    """One machine, one gateway, one network; online at the WebSocket level."""

    def __init__(self, conditions: Conditions | None = None, *, seed: int = 0) -> None:
        self.gateway = StandInGateway(handshake_timeout=3600.0)
        self.network = VirtualNetwork({HERE: self.gateway}, conditions=conditions, seed=seed)
        self.machine = TinyMachine()
        self.network.add(self.machine)

    def open(self) -> Scene:
        self.machine.dial()
        self.network.run(for_=1.0)
        self.machine.upgrade()
        self.network.run(for_=1.0)
        assert b"connect.challenge" in b"".join(self.machine.received)
        self.machine.log.clear()
        self.machine.received.clear()
        return self


@pytest.fixture
def scene() -> Scene:
    return Scene().open()


# --- time


def test_the_clock_moves_only_forward_and_only_when_told() -> None:
    clock = VirtualClock(5.0)
    clock.advance_to(7.0)
    clock.advance_to(6.0)
    assert clock() == clock.now == 7.0


def test_run_ends_at_its_time_also_when_nothing_happens() -> None:
    network = VirtualNetwork({}, clock=VirtualClock(10.0))
    network.run(for_=2.5)
    assert network.now == 12.5
    network.run(until=20.0)
    assert network.now == 20.0
    network.run()
    assert network.now == 20.0


def test_run_until_returns_the_time_at_which_it_became_true() -> None:
    scene = Scene()
    scene.machine.dial()
    start = scene.network.now
    when = scene.network.run_until(lambda: scene.machine.log)
    assert when == pytest.approx(start + 0.002)


def test_run_until_gives_up_at_its_limit() -> None:
    network = VirtualNetwork({})
    with pytest.raises(NotReached, match="5 s"):
        network.run_until(lambda: False, 5.0)
    assert network.now == 1005.0


def test_a_machine_is_woken_when_it_asked_for_it(scene: Scene) -> None:
    due = scene.network.now + 1.5
    scene.machine.timeout, scene.machine.after_timeout = due, None
    scene.network.run(for_=5.0)
    assert scene.machine.wakes == [due]


def test_wake_ups_can_be_late(scene: Scene) -> None:
    due = scene.network.now + 1.5
    scene.machine.timeout = due
    scene.network.late_wakeups(0.25)
    scene.network.run(for_=5.0)
    assert scene.machine.wakes == [due + 0.25]


def test_a_suspended_machine_hears_all_at_once_in_the_order_in_which_it_was_due() -> None:
    scene = Scene().open()
    network, machine = scene.network, scene.machine
    start = network.now
    machine.timeout = start + 1.0
    machine.ping()
    network.run(for_=0.0)
    network.suspend(5.0)
    network.inject(b"\x8a\x00", Direction.DOWN)
    scene.gateway.push("ignored")
    network.run(for_=10.0)
    assert {when for when, _ in machine.log} == {start + 5.0}
    assert machine.words == ["data", "wake"]


def test_a_finished_machine_is_not_woken(scene: Scene) -> None:
    scene.machine.timeout = scene.network.now + 1.0
    scene.machine.stop()
    scene.network.run(for_=5.0)
    assert scene.machine.wakes == []


# --- dials


def test_a_dial_takes_a_round_trip() -> None:
    scene = Scene(Conditions(latency_up=0.25, latency_down=0.5))
    scene.machine.dial()
    scene.network.run(for_=5.0)
    assert scene.machine.log == [(1000.75, "opened 1")]
    assert scene.gateway.connections == 1


def test_an_unknown_address_is_not_resolved_and_a_gateway_that_is_down_refuses() -> None:
    gateway = StandInGateway()
    network = VirtualNetwork({HERE: gateway})
    stranger, machine = TinyMachine(("nowhere", 1)), TinyMachine()
    network.add(stranger)
    network.add(machine)
    gateway.restart(down=5.0)
    stranger.dial()
    machine.dial()
    network.run(for_=1.0)
    assert stranger.words == ["DNS"]
    assert machine.words == ["REFUSED"]
    network.run(for_=5.0)
    machine.dial(2)
    network.run(for_=1.0)
    assert machine.words[-1] == "opened 2"


def test_dials_can_be_scripted_for_one_address_or_for_all() -> None:
    scene = Scene()
    network, machine = scene.network, scene.machine
    fault = TransportFault(FaultKind.CERTIFICATE)
    network.script_dials(fault, Dial.OPENS, address=HERE)
    network.script_dials(Dial.NEVER_ANSWERS)
    for transport_id in (1, 2, 3):
        machine.dial(transport_id)
    network.run(for_=100.0)
    assert machine.words == ["CERTIFICATE", "opened 2"]
    machine.close(3)
    network.run()
    machine.dial(4)
    network.run(for_=1.0)
    assert machine.words[-1] == "opened 4"


def test_a_cancelled_dial_is_never_heard_of_again() -> None:
    scene = Scene()
    scene.machine.dial()
    scene.network.run()
    scene.machine.close()
    scene.network.run(for_=10.0)
    assert scene.machine.log == []
    assert scene.gateway.connections == 0


def test_a_certificate_is_reported_for_tls_alone() -> None:
    gateway = StandInGateway()
    network = VirtualNetwork({HERE: gateway})
    network.certificates[HERE] = b"leaf"
    plain, secure = TinyMachine(), TinyMachine(tls=True)
    for machine in (plain, secure):
        network.add(machine)
        machine.dial()
    network.run(for_=1.0)
    assert (plain.certificate, secure.certificate) == (None, b"leaf")


# --- bytes


def test_bytes_take_the_latency_of_their_direction() -> None:
    scene = Scene(Conditions(latency_up=0.2, latency_down=0.05)).open()
    start = scene.network.now
    scene.machine.ping()
    scene.network.run(for_=1.0)
    assert [when - start for when, _ in scene.machine.log] == [pytest.approx(0.25)]


def test_conditions_may_change_on_the_way() -> None:
    scene = Scene().open()
    scene.network.conditions = Conditions(latency_down=3.0)
    assert scene.network.conditions.latency_down == 3.0
    start = scene.network.now
    scene.machine.ping()
    scene.network.run(for_=5.0)
    assert [when - start for when, _ in scene.machine.log] == [pytest.approx(3.001)]


def test_jitter_is_drawn_from_the_seed_and_never_reorders() -> None:
    def times(seed: int) -> list[float]:
        scene = Scene(Conditions(jitter=1.0), seed=seed)
        scene.machine.dial()
        scene.network.run(for_=5.0)
        scene.machine.upgrade()
        scene.network.run(for_=5.0)
        for _ in range(20):
            scene.machine.ping()
            scene.network.run(for_=0.01)
        scene.network.run(for_=5.0)
        assert scene.machine.pongs == 20
        return [when for when, _ in scene.machine.log]

    assert times(1) == times(1) != times(2)


def test_bytes_can_be_delivered_one_at_a_time() -> None:
    scene = Scene(Conditions(chunk=1)).open()
    scene.machine.ping()
    scene.network.run(for_=1.0)
    assert scene.machine.received == [b"\x8a", b"\x00"]
    assert scene.machine.pongs == 1


def test_a_full_window_stops_the_pulling_until_bytes_were_delivered() -> None:
    scene = Scene(Conditions(window=1000)).open()
    machine, network = scene.machine, scene.network
    machine.pulled.clear()
    machine.out = bytes(3 * CHUNK)
    network.stall(Direction.UP)
    network.run(for_=60.0)
    assert machine.pulled == [CHUNK]
    assert machine.wakes == []
    network.heal()
    network.run(for_=60.0)
    assert machine.pulled == [CHUNK] * 3
    assert len(machine.wakes) >= 2  # the contract: handle_timeout before the next chunk


def test_a_full_window_stops_the_gateway_too() -> None:
    scene = Scene(Conditions(window=500)).open()
    machine, network, gateway = scene.machine, scene.network, scene.gateway
    for number in range(500):
        machine.out += machine.ws.send(Ping(b"%0100d" % number))
    network.stall(Direction.DOWN)
    network.run(for_=1.0)
    waiting = len(gateway.data_to_send(1))
    assert 0 < waiting < 500 * 102 - 500
    network.heal()
    network.run(for_=60.0)
    assert sum(map(len, machine.received)) == 500 * 102 - waiting


def test_a_stalled_direction_delivers_nothing_until_it_is_healed(scene: Scene) -> None:
    scene.network.stall(Direction.DOWN, HERE)
    scene.machine.ping()
    scene.network.run(for_=100.0)
    assert scene.machine.log == []
    scene.network.heal()
    scene.network.run(for_=0.0)
    assert scene.machine.pongs == 1


def test_a_stall_of_another_address_does_not_matter(scene: Scene) -> None:
    scene.network.stall(address=("other", 1))
    scene.machine.ping()
    scene.network.run(for_=1.0)
    assert scene.machine.pongs == 1


def test_a_stalled_network_completes_no_dial_until_it_is_healed() -> None:
    scene = Scene()
    scene.network.stall()
    scene.machine.dial()
    scene.network.run(for_=100.0)
    assert scene.machine.log == []
    scene.network.heal()
    scene.network.run()
    assert scene.machine.log == [(1100.0, "opened 1")]


@pytest.mark.parametrize("address", [None, HERE])
def test_a_cut_resets_both_sides_at_once(scene: Scene, address: tuple[str, int] | None) -> None:
    start = scene.network.now
    scene.machine.ping()
    scene.network.run()
    scene.network.cut(address)
    scene.network.run(for_=1.0)
    assert scene.machine.log == [(start, "RESET")]
    assert scene.gateway.online_peers == 0
    scene.machine.stop()
    scene.network.check_finished()


def test_a_cut_of_another_address_does_not_matter(scene: Scene) -> None:
    scene.network.cut(("other", 1))
    scene.network.run(for_=1.0)
    assert scene.machine.log == []


def test_the_end_of_the_stream_comes_behind_the_bytes_under_way(scene: Scene) -> None:
    scene.network.inject(b"\x8a\x00")
    scene.network.eof()
    scene.network.inject(b"never")
    scene.network.run(for_=1.0)
    assert scene.machine.words == ["data", "end"]
    scene.machine.stop()
    scene.network.check_finished()


def test_the_end_of_the_stream_waits_for_a_full_window() -> None:
    scene = Scene(Conditions(window=100)).open()
    scene.network.inject(b"\x8a\x00" * 100)
    scene.network.eof()
    scene.network.run(for_=1.0)
    assert sum(map(len, scene.machine.received)) == 200
    assert scene.machine.words[-1] == "end"


def test_foreign_bytes_can_go_up_too(scene: Scene) -> None:
    scene.network.inject(b"\xff\xff\xff", Direction.UP)
    scene.network.run(for_=1.0)
    assert scene.machine.received == [b"\x88\x02\x03\xea"]


def test_closing_drops_what_was_not_sent_and_the_gateway_sees_the_end() -> None:
    scene = Scene(Conditions(window=10)).open()
    scene.machine.out = bytes(100)
    scene.network.run()
    scene.machine.close()
    scene.network.run(for_=1.0)
    assert scene.machine.log == []
    assert scene.gateway.next_closed() is None
    scene.machine.stop()
    scene.network.check_finished()


def test_closing_behind_an_end_that_waits_for_room_still_ends_the_stream() -> None:
    scene = Scene(Conditions(window=10)).open()
    scene.machine.out = bytes(100)
    scene.network.run()
    scene.network.eof()
    scene.machine.close()
    scene.network.run(for_=1.0)
    scene.machine.stop()
    scene.network.check_finished()
    assert scene.network._sockets == []


@pytest.mark.parametrize(("reset", "word"), [(True, "RESET"), (False, "end")])
def test_the_gateways_end_is_a_reset_or_the_end_of_the_stream(
    scene: Scene, reset: bool, word: str
) -> None:
    scene.gateway.drop(reset=reset)
    scene.network.run(for_=1.0)
    assert scene.machine.words == [word]
    scene.machine.stop()
    scene.network.check_finished()


def test_two_machines_and_two_gateways_do_not_mix() -> None:
    there = ("other", 1)
    gateways = {HERE: StandInGateway(), there: StandInGateway(seed=1)}
    network = VirtualNetwork(gateways)
    machines = [TinyMachine(HERE), TinyMachine(there)]
    for machine in machines:
        network.add(machine)
        machine.dial()
    network.run(for_=1.0)
    for machine in machines:
        machine.upgrade()
    network.run(for_=1.0)
    assert [gateway.connections for gateway in gateways.values()] == [1, 1]
    gateways[there].drop()
    network.run(for_=1.0)
    assert [machine.words[-1] for machine in machines] == ["data", "end"]


# --- events


def test_events_are_collected_with_their_time(scene: Scene) -> None:
    seen = len(scene.network.events[scene.machine])
    scene.network.inject(b"\x8a\x00")
    scene.network.run(for_=1.0)
    (_, event), *_ = scene.network.events[scene.machine][seen:]
    assert event == RoundTrip(2.0)


def test_events_can_be_left_in_the_machine(scene: Scene) -> None:
    seen = len(scene.network.events[scene.machine])
    scene.network.pull_events = False
    scene.network.inject(b"\x8a\x00")
    scene.network.run(for_=1.0)
    assert len(scene.network.events[scene.machine]) == seen
    scene.network.pull_events = True
    scene.network.run()
    assert len(scene.network.events[scene.machine]) == seen + 1


# --- what a machine may not do


def test_a_transport_id_must_not_come_twice(scene: Scene) -> None:
    scene.machine.dial(1)
    with pytest.raises(ContractBroken, match=r"OpenTransport\(1\) came twice"):
        scene.network.run()


@pytest.mark.parametrize("ids", [[7], [1, 1]])
def test_only_an_open_transport_is_closed(scene: Scene, ids: list[int]) -> None:
    for transport_id in ids:
        scene.machine.close(transport_id)
    with pytest.raises(ContractBroken, match=rf"CloseTransport\({ids[-1]}\)"):
        scene.network.run()


def test_a_chunk_has_at_most_64_kib(scene: Scene) -> None:
    scene.machine.chunk = CHUNK + 1
    scene.machine.out = bytes(CHUNK + 1)
    with pytest.raises(ContractBroken, match="65537 bytes"):
        scene.network.run()


def test_nothing_is_due_within_a_millisecond_of_a_wake_up(scene: Scene) -> None:
    scene.machine.timeout = scene.network.now + 1.0
    scene.machine.after_timeout = scene.machine.timeout + 0.0005
    with pytest.raises(ContractBroken, match="left something due"):
        scene.network.run(for_=10.0)


def test_a_machine_that_makes_time_stand_still_is_a_livelock() -> None:
    network = VirtualNetwork({}, conditions=Conditions(latency_up=0.0, latency_down=0.0))
    machine = TinyMachine()
    machine.redial = True
    network.add(machine)
    machine.dial()
    with pytest.raises(Livelock, match="more than 50 steps at 1000"):
        network.run(for_=1.0, max_steps=50)


def test_transports_left_open_and_machines_left_running_are_told(scene: Scene) -> None:
    with pytest.raises(ContractBroken, match="not finished"):
        scene.network.check_finished()
    scene.machine.stop()
    with pytest.raises(ContractBroken, match=r"without CloseTransport: \[1\]"):
        scene.network.check_finished()
    scene.machine.close()
    scene.network.run(for_=1.0)
    scene.network.check_finished()


# --- a host that owns a WebSocket


def hosted(conditions: Conditions | None = None) -> Scene:
    """Dial for a machine with framing=MESSAGES."""
    scene = Scene(conditions)
    scene.machine.framing = Framing.MESSAGES
    scene.machine.dial()
    return scene


@pytest.fixture
def host() -> Scene:
    scene = hosted()
    scene.network.run(for_=1.0)
    scene.machine.log.clear()
    return scene


def test_a_host_reports_its_websocket_open_after_the_upgrade_and_hands_over_messages() -> None:
    scene = hosted(Conditions(latency_up=0.25, latency_down=0.5, chunk=1))
    scene.network.run(for_=5.0)
    began = 1000.0 + 0.75  # the dial
    assert scene.machine.log == [(began + 0.75, "opened 1"), (began + 0.75, "message")]
    assert b"connect.challenge" in scene.machine.received[0]


def test_a_host_tells_the_certificate_when_its_websocket_is_open() -> None:
    scene = Scene()
    scene.network.certificates[HERE] = b"leaf"
    scene.machine.framing, scene.machine.tls = Framing.MESSAGES, True
    scene.machine.dial()
    scene.network.run(for_=1.0)
    assert scene.machine.certificate == b"leaf"


def test_a_host_sends_texts_and_pings_and_hands_over_pongs(host: Scene) -> None:
    host.machine.messages += [Text("no frame"), PingMessage(b"7")]
    host.network.run(for_=1.0)
    assert host.machine.words == ["closed 1000 "]
    host.machine.dial(2)
    host.network.run(for_=1.0)
    host.machine.messages.append(PingMessage(b"8"))
    host.network.run(for_=1.0)
    assert host.machine.words[-1] == "pong b'8'"


def test_a_host_takes_one_message_at_a_time_and_only_while_the_pipe_does() -> None:
    scene = hosted(Conditions(window=1000))
    scene.network.run(for_=1.0)
    scene.network.stall(Direction.UP)
    scene.machine.messages += [Text("x" * 600)] * 3
    scene.network.run(for_=1.0)
    assert len(scene.machine.messages) == 1


def test_a_host_closes_with_a_close_frame_and_reports_the_answer(host: Scene) -> None:
    host.machine.messages.append(Close(1000, "bye"))
    host.network.run(for_=1.0)
    assert host.machine.words == ["closed 1000 bye"]


@pytest.mark.parametrize("code", [1012, 4001])
def test_a_host_reports_the_code_and_the_reason_of_a_close(host: Scene, code: int) -> None:
    host.gateway.close(code, "service restart")
    host.network.run(for_=1.0)
    assert host.machine.words == [f"closed {code} service restart"]


def test_a_host_reports_the_end_of_a_stream_and_broken_frames_without_a_code(host: Scene) -> None:
    host.gateway.drop()
    host.network.run(for_=1.0)
    host.machine.dial(2)
    host.network.run(for_=1.0)
    host.network.inject(b"\x83\x00")
    host.network.run(for_=1.0)
    assert host.machine.words == ["closed None ", "opened 2", "message", "closed None "]


def test_a_host_reports_a_refused_upgrade_and_a_reset_as_failures(host: Scene) -> None:
    host.network.cut()
    host.network.run(for_=1.0)
    host.gateway.refuse_upgrade_next(503)
    host.machine.dial(2)
    host.network.run(for_=1.0)
    assert host.machine.words == ["RESET", "OTHER"]
