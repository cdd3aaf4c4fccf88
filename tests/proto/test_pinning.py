"""A connector with pins: nothing is sent to a peer that shows none of the pinned certificates."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from butter_proto import (
    CloseTransport,
    Connector,
    EndKind,
    FaultKind,
    Framing,
    GatewayError,
    OpenTransport,
    Secret,
    Settings,
    State,
    TransportFault,
    events,
)
from butter_proto.device import DeviceToken
from butter_proto.pins import fingerprints
from butter_proto.testing import StandInGateway, VirtualNetwork
from tests.proto.certificates import certificate, certificate_digest, key_digest
from tests.proto.scenario import ADDRESS, TOKEN, Scenario

URL = f"wss://{ADDRESS[0]}:{ADDRESS[1]}"
RIGHT = certificate("EC", "gateway.local")
WRONG = certificate("Ed25519", "gateway.local")
PIN = certificate_digest(RIGHT).hex()

over_both_framings = pytest.mark.parametrize("framing", Framing, ids=lambda one: one.value)


def pinned(framing: Framing = Framing.BYTES, *pins: str) -> Settings:
    return Settings(token=TOKEN, framing=framing, pins=pins or PIN)


def scene(settings: Settings, shown: bytes | None) -> Scenario:
    """Set up a gateway that shows this certificate, and let a second pass."""
    scenario = Scenario(settings, url=URL, start=False)
    if shown is not None:
        scenario.network.certificates[ADDRESS] = shown
    scenario.machine.start(scenario.now)
    scenario.run(1.0)
    return scenario


def machine_with(settings: Settings) -> Connector:
    machine = Connector(URL, settings, random=lambda: 1.0, entropy=Random(1).randbytes)
    machine.start(0.0)
    assert isinstance(machine.next_command(), OpenTransport)
    return machine


@over_both_framings
@pytest.mark.parametrize(
    "pins",
    [[PIN], [key_digest(RIGHT).hex()], [certificate_digest(WRONG).hex(), PIN]],
    ids=["certificate", "key", "the second of two"],
)
def test_a_gateway_that_shows_a_pinned_certificate_is_online(
    framing: Framing, pins: list[str]
) -> None:
    assert scene(pinned(framing, *pins), RIGHT).machine.state is State.ONLINE


@over_both_framings
@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (WRONG, fingerprints(WRONG)),
        (RIGHT[:-1], fingerprints(RIGHT[:-1])),
        (b"", "no certificate was told"),
        (None, "no certificate was told"),
    ],
    ids=["another", "a broken one", "an empty one", "none"],
)
def test_any_other_peer_is_dropped_unspoken_to_and_not_tried_again(
    framing: Framing, shown: bytes | None, text: str
) -> None:
    scenario = scene(pinned(framing), shown)
    scenario.run(3600.0)
    [gave_up] = scenario.of(events.GaveUp)
    assert (gave_up.ending.kind, gave_up.ending.text) == (EndKind.PIN_MISMATCH, text)
    assert "fingerprint" in gave_up.advice
    assert scenario.machine.state is State.BLOCKED
    stats = scenario.machine.stats
    assert (stats.attempts, stats.bytes_sent) == (1, 0)
    assert not scenario.gateway.received


@over_both_framings
def test_the_transport_is_given_up_at_once(framing: Framing) -> None:
    machine = machine_with(pinned(framing))
    machine.transport_opened(1, 0.5, WRONG)
    assert machine.next_command() == CloseTransport(1)
    assert machine.data_to_send(1) == b""
    assert machine.next_message(1) is None
    assert machine.next_timeout() is None


def test_the_one_that_was_told_first_counts() -> None:
    machine = machine_with(pinned())
    machine.transport_opened(1, 0.5, WRONG)
    machine.transport_opened(1, 0.5, RIGHT)
    assert machine.data_to_send(1) == b""


def test_a_certificate_is_good_only_once_it_has_matched() -> None:
    """A certificate fault after a good one is tried again: this one was not good."""
    machine = machine_with(pinned())
    machine.transport_opened(1, 0.5, WRONG)
    machine.reconnect_now(1.0)
    machine.transport_failed(2, TransportFault(FaultKind.CERTIFICATE, "expired"), 1.0)
    assert machine.state is State.BLOCKED


def test_a_mismatch_after_a_good_certificate_stops_all_the_same() -> None:
    scenario = scene(pinned(), RIGHT)
    scenario.network.certificates[ADDRESS] = WRONG
    scenario.gateway.drop()
    assert scenario.until(events.GaveUp).ending.kind is EndKind.PIN_MISMATCH


def test_reconnect_now_compares_anew() -> None:
    scenario = scene(pinned(), WRONG)
    scenario.network.certificates[ADDRESS] = RIGHT
    scenario.machine.reconnect_now(scenario.now)
    scenario.online()


def test_without_pins_any_certificate_that_tls_accepts_will_do() -> None:
    assert scene(Settings(token=TOKEN), WRONG).machine.state is State.ONLINE


class KeptKey:
    """A signer whose key is in memory."""

    def __init__(self) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


@pytest.mark.parametrize("pins", [PIN, ()], ids=["pinned", "not pinned"])
def test_only_a_pinned_gateway_gets_the_stored_token_by_refusing_the_shared_one(
    pins: str | tuple[()],
) -> None:
    """design.md, Reconnect: the repair is for loopback, or wss with a pin."""
    mismatch = GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"})
    gateway = StandInGateway(token=TOKEN)
    gateway.refuse_next(mismatch)
    network = VirtualNetwork({ADDRESS: gateway})
    network.certificates[ADDRESS] = RIGHT
    machine = Connector(
        URL,
        Settings(token="another", pins=pins),
        random=lambda: 1.0,
        entropy=Random(1).randbytes,
        signer=KeptKey(),
    )
    network.add(machine)
    stored = DeviceToken(Secret("stored-token"), ("operator.read",))
    machine.start(network.now, device_token=stored)
    network.run(for_=2.0)
    shown = [frame.params["auth"] for frame in gateway.received if frame.method == "connect"]
    assert shown[1:] == ([{"deviceToken": "stored-token"}] if pins else [])


Step = Callable[[Connector], Any]


def open_with(shown: bytes | None) -> Step:
    return lambda machine: machine.transport_opened(1, 1.0, shown)


OPENINGS = {shown: open_with(shown) for shown in (RIGHT, WRONG, b"", None)}
OTHERS: list[Step] = [
    lambda machine: machine.receive_data(1, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 1.0),
    lambda machine: machine.receive_message(1, '{"type":"event"}', 1.0),
    lambda machine: machine.receive_pong(1, b"", 1.0),
    lambda machine: machine.handle_timeout(1.0),
    lambda machine: machine.handle_timeout(20.0),
    lambda machine: machine.probe(1.0),
    lambda machine: machine.cancel("1", 1.0),
    lambda machine: machine.reconnect_now(1.0),
    lambda machine: machine.stop(1.0),
    lambda machine: machine.receive_data(1, b"", 1.0),
    lambda machine: machine.transport_failed(1, TransportFault(FaultKind.RESET), 1.0),
]


@over_both_framings
@given(
    before=st.lists(st.sampled_from(OTHERS), max_size=5),
    shown=st.sampled_from(list(OPENINGS)),
    after=st.lists(st.sampled_from([*OTHERS, *OPENINGS.values()]), max_size=5),
)
def test_not_a_byte_leaves_before_a_certificate_matched_its_pin(
    framing: Framing, before: list[Step], shown: bytes | None, after: list[Step]
) -> None:
    """Row 27 of the lessons: the pin was checked after the token had gone out."""
    machine = machine_with(pinned(framing))

    def sent() -> bool:
        return bool(machine.data_to_send(1)) or machine.next_message(1) is not None

    for step in before:
        step(machine)
        assert not sent()
    OPENINGS[shown](machine)
    silent = shown != RIGHT
    if not before and framing is Framing.BYTES:
        assert sent() is not silent
    for step in after:
        assert not (sent() and silent)
        step(machine)
    assert not (sent() and silent)
