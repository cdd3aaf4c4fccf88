"""What both adapters' gateways can be asked at any time."""

from __future__ import annotations

from random import Random

import pytest

from butter_proto.client import Client
from butter_proto.connector import Connector
from butter_proto.errors import EndKind, FaultKind, NotOnline, TransportFault
from butter_proto.events import Online
from butter_proto.handshake import read_hello
from butter_proto.machine import State
from butter_proto.settings import Dialect
from butter_proto.view import GatewayView


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
