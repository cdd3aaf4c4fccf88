"""What both adapters' gateways can be asked at any time."""

from __future__ import annotations

from random import Random

import pytest

from butter_proto.client import Client
from butter_proto.connector import Connector
from butter_proto.errors import EndKind, FaultKind, NotOnline, TransportFault
from butter_proto.events import FromGateway, Online, Stopped
from butter_proto.handshake import read_hello
from butter_proto.machine import State
from butter_proto.pool import Pool
from butter_proto.request_options import Offline
from butter_proto.settings import Dialect
from butter_proto.view import GatewayView, PoolView


def view() -> tuple[GatewayView, Connector, Client]:
    source = Random(1)
    machine = Connector("ws://gateway.local", random=source.random, entropy=source.randbytes)
    client = Client()
    return GatewayView(machine, client), machine, client


def test_it_shows_what_the_machine_knows() -> None:
    seen, machine, _ = view()
    assert str(seen.endpoint) == "ws://gateway.local/"
    assert (seen.state, seen.retry_at, seen.last_ending) == (State.IDLE, None, None)
    machine.start(0.0)
    machine.transport_failed(1, TransportFault(FaultKind.REFUSED), 0.0)
    assert seen.state is State.WAITING
    assert seen.retry_at == machine.retry_at
    assert seen.last_ending is not None
    assert seen.last_ending.kind is EndKind.TRANSPORT_FAILED
    assert seen.stats.attempts == 1


def test_the_hello_is_the_one_that_was_told_and_before_it_there_is_none() -> None:
    seen, _, client = view()
    with pytest.raises(NotOnline):
        _ = seen.hello
    hello = read_hello({"type": "hello-ok"}, Dialect.GATEWAY_V4)
    assert hello is not None
    client.deliver(Online(hello, resync=False, boot_changed=False))
    assert seen.hello is hello


def test_the_events_that_readers_lost_are_among_the_dropped() -> None:
    seen, _, client = view()
    client.count_lost()
    assert seen.stats.dropped_events == 1


def test_what_waits_for_a_connection_can_be_listed() -> None:
    seen, machine, _ = view()
    machine.start(0.0)
    machine.request("chat.send", now=0.0, offline=Offline.QUEUE)
    assert [request.method for request in seen.queued()] == ["chat.send"]


# --- a pool ---------------------------------------------------------------------------------


class SeenPool(PoolView):
    """A pool's view, as an adapter has one."""

    def __init__(self, pool: Pool, client: Client) -> None:
        super().__init__(pool, client)
        self._pool = pool


def pool_of(*urls: str) -> tuple[SeenPool, Pool, Client]:
    source = Random(1)
    pool = Pool(urls, random=source.random, entropy=source.randbytes)
    client = Client()
    return SeenPool(pool, client), pool, client


def test_a_pool_shows_its_gateways_besides() -> None:
    seen, pool, _ = pool_of("ws://a.local", "ws://b.local")
    assert str(seen.endpoint) == "ws://a.local/"
    assert (seen.primary, seen.retry_at, seen.last_ending) == (None, None, None)
    pool.start(0.0)
    assert [health.name for health in seen.health()] == ["a.local:80", "b.local:80"]
    assert seen.state is State.CONNECTING


def test_a_pool_without_a_gateway_is_nowhere() -> None:
    seen, _, _ = pool_of()
    with pytest.raises(NotOnline):
        _ = seen.endpoint


def test_a_gateway_is_leaving_until_it_is_gone_and_another_one_with_its_name_is_not() -> None:
    seen, pool, client = pool_of("ws://a.local", "ws://b.local")
    pool.start(0.0)
    name = "a.local:80"
    assert not seen._is_leaving(name)
    pool.transport_opened(1, 0.0)
    pool.remove(name, 0.0)
    while seen._is_leaving(name):
        now = pool.next_timeout()
        assert now is not None
        pool.handle_timeout(now)
    pool.add("ws://a.local", 100.0)
    assert not seen._is_leaving(name)
    pool.remove("b.local:80", 100.0)
    client.deliver(FromGateway("b.local:80", Stopped()))
    client.deliver(Stopped())
    assert not seen._is_leaving("b.local:80")
