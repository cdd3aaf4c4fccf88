"""What the stand-in sends unasked: ticks, pings, pushed events, Close frames, restarts."""

from __future__ import annotations

import pytest

from butter_proto.events import Policy
from butter_proto.testing import ClosePeer, StandInGateway
from tests.testing.raw_client import RawClient


@pytest.fixture
def client() -> RawClient:
    return RawClient(StandInGateway()).connect()


# --- ticks and pings


def test_ticks_come_from_one_timer_with_a_seq_for_each_socket(client: RawClient) -> None:
    client.wait(30.0)
    late = RawClient(client.gateway, 2, now=30.0).connect()
    client.wait(30.0)
    late.pull()
    ticks = [frame for frame in client.inbox if frame.get("event") == "tick"]
    assert [tick["seq"] for tick in ticks] == [1, 2]
    assert [tick["payload"]["ts"] - 1_795_000_000_000 for tick in ticks] == [30_000, 60_000]
    assert late.inbox[-1] == {**ticks[1], "seq": 1}
    assert "stateVersion" not in ticks[0]


def test_the_tick_interval_is_the_policys() -> None:
    client = RawClient(StandInGateway(policy=Policy(1000, None, 2.0))).connect()
    client.wait(7.0)
    assert client.names.count("tick") == 3
    assert client.inbox[1]["payload"]["policy"]["maxBufferedBytes"] is None


def test_an_interval_of_nothing_does_not_stop_time() -> None:
    client = RawClient(StandInGateway(policy=Policy(1000, None, 0.0))).connect()
    client.gateway.handle_timeout(1.0)
    assert client.gateway.next_timeout() == pytest.approx(1.001)


def test_beats_that_were_slept_through_are_skipped(client: RawClient) -> None:
    client.gateway.handle_timeout(100.0)
    client.pull()
    assert client.names.count("tick") == 1
    assert client.gateway.next_timeout() == 125.0


def test_a_client_that_answers_pings_lives_on(client: RawClient) -> None:
    client.wait(240.0)
    assert client.pings == 9
    assert client.gateway.online_peers == 1


def test_a_client_that_answers_no_ping_is_dropped_after_75_s_without_a_close() -> None:
    client = RawClient(StandInGateway(), answer_pings=False).connect()
    client.wait(74.9)
    client.request("health")
    assert (client.pings, client.closed) == (2, None)
    client.wait(0.1)
    assert client.closed == ClosePeer(1, abort=False)
    assert client.close is None


def test_no_ping_comes_before_hello() -> None:
    client = RawClient(StandInGateway(handshake_timeout=100.0)).upgrade()
    client.wait(99.0)
    assert client.pings == 0


# --- scripted


def test_a_pushed_event_reaches_all_online_peers_at_the_next_input(client: RawClient) -> None:
    second = RawClient(client.gateway, 2).connect()
    waiting = RawClient(client.gateway, 3).upgrade()
    client.gateway.push("presence", [1], state_version={"presence": 2})
    assert client.gateway.next_timeout() == 0.0
    client.wait(0.0)
    second.pull()
    waiting.pull()
    expected = {
        "type": "event",
        "event": "presence",
        "payload": [1],
        "seq": 1,
        "stateVersion": {"presence": 2},
    }
    assert client.inbox[-1] == second.inbox[-1] == expected
    assert len(waiting.inbox) == 1


def test_a_gap_leaves_numbers_out(client: RawClient) -> None:
    client.gateway.push("a")
    client.gateway.push("b", seq_gap=3)
    client.wait(0.0)
    assert [frame["seq"] for frame in client.inbox[-2:]] == [1, 5]


def test_each_scripting_call_wakes_the_driver() -> None:
    gateway = StandInGateway()
    woken: list[int] = []
    gateway.wake = lambda: woken.append(1)
    gateway.push("x")
    gateway.reply("x")
    gateway.stall()
    gateway.resume()
    gateway.drop()
    gateway.close(1000)
    gateway.restart()
    gateway.refuse_upgrade_next(503)
    assert len(woken) == 8


def test_close_reaches_sockets_before_hello_and_ends_those_before_the_upgrade() -> None:
    gateway = StandInGateway()
    upgraded = RawClient(gateway, 1).upgrade()
    gateway.close(4001, "gateway auth changed")
    upgraded.wait(0.0)
    assert upgraded.close == (4001, "gateway auth changed")
    dialled = RawClient(gateway, 2)
    gateway.close(4001)
    dialled.wait(0.0)
    assert dialled.closed == ClosePeer(2, abort=False)


def test_a_socket_that_closes_is_not_closed_again() -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.close(4001, "first")
    client.gateway.close(4002, "second")
    client.wait(0.0)
    assert client.close == (4001, "first")


@pytest.mark.parametrize("reset", [False, True])
def test_drop_ends_sockets_without_a_close_and_loses_what_was_unsent(reset: bool) -> None:
    client = RawClient(StandInGateway()).connect()
    client.gateway.push("lost")
    client.gateway.drop(reset=reset)
    client.wait(0.0)
    assert client.closed == ClosePeer(1, abort=reset)
    assert client.close is None
    assert "lost" not in client.names


# --- stall and resume


def test_a_stalled_gateway_accepts_and_reads_but_says_and_does_nothing(client: RawClient) -> None:
    gateway = client.gateway
    gateway.stall()
    client.request("echo", 1)
    assert len(client.inbox) == 2
    gateway.push("later")
    other = RawClient(gateway, 2)
    client.wait(100.0)
    assert gateway.next_timeout() is None
    assert (gateway.connections, len(gateway.received)) == (2, 1)
    other.upgrade()
    assert other.accepted is None
    assert (client.pings, client.names) == (0, ["connect.challenge"])


def test_a_resumed_gateway_does_what_is_due_and_then_what_was_read(client: RawClient) -> None:
    client.gateway.stall()
    client.gateway.stall()
    client.request("echo", "kept", id="k")
    client.gateway.push("pushed")
    client.wait(100.0)
    client.gateway.resume()
    client.wait(0.0)
    assert client.pings == 1
    assert [frame.get("id") or frame["event"] for frame in client.inbox[2:]] == [
        "tick",
        "k",
        "pushed",
    ]


def test_what_a_stalled_gateway_lost_or_saw_end_is_seen_to_on_resume() -> None:
    gateway = StandInGateway()
    lost, ended = RawClient(gateway, 1).connect(), RawClient(gateway, 2).connect()
    gateway.stall()
    gateway.connection_lost(1, 1.0)
    gateway.receive_data(2, b"", 1.0)
    assert gateway.online_peers == 2
    gateway.resume()
    gateway.handle_timeout(2.0)
    ended.pull()
    lost.pull()
    assert gateway.online_peers == 0
    assert ended.closed == ClosePeer(2, abort=False)
    assert lost.closed is None


def test_what_was_lost_while_it_was_stalled_is_not_closed_by_a_drop_either() -> None:
    gateway = StandInGateway()
    lost, dropped = RawClient(gateway, 1).connect(), RawClient(gateway, 2).connect()
    gateway.stall()
    gateway.connection_lost(1, 1.0)
    gateway.drop()
    gateway.handle_timeout(2.0)
    assert [*iter(gateway.next_closed, None)] == [ClosePeer(2, abort=False)]
    gateway.resume()
    gateway.handle_timeout(3.0)
    for client in (lost, dropped):
        client.pull()
        assert client.closed is None
    assert gateway.online_peers == 0


def test_a_reply_function_may_stall_again_while_the_backlog_is_read(client: RawClient) -> None:
    client.gateway.reply("stop", lambda _: client.gateway.stall())
    client.gateway.stall()
    client.request("stop", id="s")
    client.request("echo", id="e")
    client.gateway.resume()
    client.wait(0.0)
    assert len(client.gateway.received) == 2
    client.gateway.resume()
    client.wait(0.0)
    assert [frame.get("id") for frame in client.inbox[2:]] == ["s", "e"]


def test_a_stalled_gateway_can_be_killed(client: RawClient) -> None:
    client.gateway.stall()
    client.gateway.drop()
    client.wait(0.0)
    assert client.closed == ClosePeer(1, abort=False)


# --- restart


def test_a_restart_is_announced_then_refuses_then_starts_with_a_new_boot(client: RawClient) -> None:
    gateway, before = client.gateway, client.gateway.boot_id
    waiting = RawClient(gateway, 2).upgrade()
    gateway.restart(down=4.0, starting=1.5)
    client.wait(0.0)
    waiting.pull()
    assert client.inbox[-1]["event"] == "shutdown"
    assert client.inbox[-1]["payload"] == {
        "reason": "gateway restarting",
        "restartExpectedMs": 1500,
    }
    assert client.close == waiting.close == (1012, "service restart")
    refused = RawClient(gateway, 3)
    assert refused.closed == ClosePeer(3, abort=True)
    assert gateway.connections == 2
    client.wait(4.0)
    early = RawClient(gateway, 4, now=4.0).connect()
    assert early.error["details"] == {"reason": "startup-sidecars"}
    assert (early.error["retryable"], early.error["retryAfterMs"]) == (True, 500)
    assert early.close == (1013, "gateway starting")
    client.wait(1.5)
    late = RawClient(gateway, 5, now=5.5).connect()
    boot = late.inbox[-1]["payload"]["server"]["bootId"]
    assert boot == gateway.boot_id != before
    assert late.inbox[-1]["payload"]["snapshot"]["uptimeMs"] == 0


def test_a_restart_that_is_not_announced_just_ends_the_sockets(client: RawClient) -> None:
    client.gateway.restart("boot-2", announce=False)
    client.wait(0.0)
    assert (client.close, client.closed) == (None, ClosePeer(1, abort=False))
    again = RawClient(client.gateway, 2).connect()
    assert again.inbox[-1]["payload"]["server"]["bootId"] == "boot-2"


def test_a_gateway_that_stops_promises_nothing(client: RawClient) -> None:
    client.gateway.restart(expected=None)
    client.wait(0.0)
    assert client.inbox[-1]["payload"] == {"reason": "gateway stopping"}


def test_the_process_that_ends_waits_1_s_for_the_clients_close(client: RawClient) -> None:
    client.gateway.restart(down=5.0)
    client.gateway.handle_timeout(0.5)
    assert client.gateway.data_to_send(1)
    assert client.gateway.next_closed() is None
    client.gateway.handle_timeout(1.5)
    assert client.gateway.next_closed() == ClosePeer(1, abort=False)


def test_nothing_is_listening_before_the_restart_is_over(client: RawClient) -> None:
    client.gateway.restart(down=2.0)
    listening = []
    for seconds in (0.0, 1.9, 0.1):
        client.wait(seconds)
        listening.append(client.gateway.listening)
    assert listening == [False, False, True]
