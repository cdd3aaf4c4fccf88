"""What every adapter does about a device: it stores before Online, and lets no store hold it up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import attrs
import pytest

from butter_proto import connection
from butter_proto.device import Device, DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.errors import ConnectTimeout, EndKind, GaveUp, StoreError
from butter_proto.events import (
    DeviceTokenIssued,
    DeviceTokenNotStored,
    Offline,
    Online,
    PairingRequired,
    Retrying,
)
from butter_proto.machine import State
from butter_proto.secret import Secret
from butter_proto.settings import ReconnectSettings
from butter_proto.testing import StandInGateway
from butter_proto.token_keeper import GIVEN_UP
from butter_trio.serve import serve
from tests.adapters.devices import Gate, Key, Store, device, issued
from tests.adapters.scenario import PATIENT, QUICK, TOKEN, eventually, until
from tests.adapters.subject import FullSubject, Subject
from tests.adapters.subjects import ALL, FULL
from tests.adapters.worlds import TrioWorld, entered


class Oops(Exception):
    """What a test raises itself."""


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with ALL[request.param]() as subject:
        yield subject


@pytest.fixture(params=FULL)
def full_subject(request: pytest.FixtureRequest) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open when the test is over: no thread stands before it for ever."""
    gate = Gate()
    yield gate
    gate.open()


def auths(stand_in: StandInGateway) -> list[dict[str, Any]]:
    """Return what each connect request proved itself with."""
    return [each.params["auth"] for each in stand_in.received if each.method == "connect"]


def texts(store: Store) -> list[str]:
    return [token.token.reveal() for token in store.kept.values()]


def warnings(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == logger and record.levelno >= logging.WARNING
    ]


# --- tokens that are issued -----------------------------------------------------------------


def test_online_waits_until_the_new_token_is_stored(
    subject: Subject, url: str, stand_in: StandInGateway, gate: Gate
) -> None:
    store = Store(before_save=gate)
    with subject.connect(url, token=TOKEN, device=device(store), wait=False) as client:
        gate.wait()
        assert client.state is State.CONNECTING
        gate.open()
        client.wait_online()
        assert texts(store) == [issued(stand_in)]
        assert client.request("echo", 1) == 1


def test_the_stored_token_alone_connects_the_next_time(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    store = Store()
    with subject.connect(url, token=TOKEN, device=device(store)):
        pass
    with subject.connect(url, device=device(store)) as client:
        assert client.state is State.ONLINE
    assert auths(stand_in) == [{"token": TOKEN}, {"deviceToken": issued(stand_in)}]


def test_a_slow_store_keeps_no_ping_waiting(subject: Subject, world: TrioWorld) -> None:
    stand_in = StandInGateway(token=TOKEN, ping_interval=0.1)  # the third unanswered one ends it
    store = Store(before_save=lambda: time.sleep(0.8))
    with (
        entered(world, serve(stand_in)) as url,
        subject.connect(url, token=TOKEN, device=device(store), settings=QUICK) as client,
    ):
        assert client.stats.attempts == 1
        assert texts(store) == [issued(stand_in)]
    assert stand_in.connections == 1


def test_a_store_that_takes_too_long_delays_online_and_is_one_warning(
    full_subject: FullSubject,
    url: str,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connection, "STORING_LIMIT", 0.1)
    store = Store(before_save=gate)
    connecting = full_subject.connect(url, token=TOKEN, device=device(store), wait=False)
    with connecting as client:
        notices = client.notices()
        told = notices.get()
        if isinstance(told, DeviceTokenIssued):  # else it was told before anybody listened
            told = notices.get()
        assert told == DeviceTokenNotStored(timed_out=True)
        assert client.state is State.ONLINE
        gate.open()
        eventually(lambda: len(store.kept) == 1)
    [warning] = warnings(caplog, full_subject.logger)
    assert "not stored" in warning


@pytest.mark.parametrize("kind", [StoreError, OSError, ValueError])
def test_a_store_that_fails_is_one_warning_without_the_token_and_online_follows(
    subject: Subject,
    kind: type[Exception],
    url: str,
    stand_in: StandInGateway,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        words = (
            "disk full" if kind is StoreError else issued(stand_in)
        )  # foreign code says anything
        raise kind(f"no:\n{words}")

    store = Store(before_save=fail)
    with subject.connect(url, token=TOKEN, device=device(store)) as client:
        assert client.request("echo", 1) == 1
    words = "disk full" if kind is StoreError else "***"
    assert warnings(caplog, subject.logger) == [
        f"a device token could not be kept: {kind.__name__}: no:\\n{words}"
    ]


@pytest.mark.parametrize("kind", [StoreError, OSError])
def test_a_store_that_cannot_be_read_is_raised_before_anything_is_dialed(
    subject: Subject, kind: type[Exception], url: str, stand_in: StandInGateway
) -> None:
    def fail() -> None:
        raise kind("not yours")

    with (
        pytest.raises(kind, match="not yours"),
        subject.connect(url, token=TOKEN, device=device(Store(before_load=fail))),
    ):
        raise AssertionError
    assert stand_in.connections == 0


def test_a_token_that_is_refused_is_forgotten_and_the_identity_is_not(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    store, key = Store(), Key()
    with subject.connect(url, token=TOKEN, device=device(store, key)):
        pass
    stand_in.rotate(key.device_id)
    with pytest.raises(GaveUp), subject.connect(url, device=device(store, key), settings=QUICK):
        raise AssertionError
    eventually(lambda: not store.kept)
    with subject.connect(url, token=TOKEN, device=device(store, key)):
        assert texts(store) == [issued(stand_in)]


def test_a_token_that_another_program_was_given_is_used_in_place_of_the_refused_one(
    full_subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    store = Store()
    with full_subject.connect(url, token=TOKEN, device=device(store)):
        pass
    [(key, old)] = store.kept.items()
    with full_subject.connect(url, device=device(store), settings=PATIENT) as client:
        states = client.states()
        stand_in.rotate(key.device_id)
        until(states, Retrying)
        store.save(key, DeviceToken(Secret(issued(stand_in)), old.scopes))
        client.reconnect_now()
        assert until(states, Online)
    assert [list(auth.values()) for auth in auths(stand_in)] == [
        [TOKEN],
        [old.token.reveal()],
        [old.token.reveal()],
        [issued(stand_in)],
    ]


# --- leaving --------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [False, True])
def test_a_token_that_was_just_issued_is_stored_though_the_block_is_left(
    subject: Subject, raised: bool, url: str, stand_in: StandInGateway, gate: Gate
) -> None:
    store = Store(before_save=gate)
    body = pytest.raises(Oops) if raised else nullcontext()
    with body, subject.connect(url, token=TOKEN, device=device(store), wait=False):
        gate.wait()
        threading.Timer(0.1, gate.open).start()
        if raised:
            raise Oops
    assert texts(store) == [issued(stand_in)]


def test_a_store_that_hangs_holds_up_nobody_who_leaves(
    full_subject: FullSubject,
    url: str,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for place in ("butter_trio.keeping", "butter_threads.keeping"):
        monkeypatch.setattr(f"{place}.CLOSE_LIMIT", 0.05)
    store = Store(before_save=gate)
    with full_subject.connect(url, token=TOKEN, device=device(store), wait=False):
        gate.wait()
    assert store.kept == {}
    assert warnings(caplog, full_subject.logger) == [GIVEN_UP]


def test_a_store_that_hangs_before_the_first_attempt_takes_no_longer_than_the_timeout(
    full_subject: FullSubject, url: str, gate: Gate, stand_in: StandInGateway
) -> None:
    held = device(Store(before_load=gate))
    with (
        pytest.raises(ConnectTimeout, match="store did not answer"),
        full_subject.connect(url, token=TOKEN, device=held, timeout=0.05),
    ):
        raise AssertionError
    assert stand_in.connections == 0


# --- refusals, and what leaves them ---------------------------------------------------------


def test_other_credentials_leave_gave_up(
    full_subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    with full_subject.connect(
        url, token="wr0ng-token", device=device(), settings=QUICK, wait=False
    ) as client:
        with pytest.raises(GaveUp):
            client.wait_online()
        client.use_credentials(token=TOKEN)
        client.wait_online()
        client.use_credentials(password="never-used")  # an open connection stays
        assert client.request("echo", 1) == 1
    assert [list(auth) for auth in auths(stand_in)] == [["token"], ["token"]]


def test_v2_is_signed_in_the_one_attempt_that_asks_for_it(
    full_subject: FullSubject, url: str, stand_in: StandInGateway
) -> None:
    key = Key()
    with full_subject.connect(url, token=TOKEN, device=device(key=key), settings=PATIENT) as client:
        states = client.states()
        for signed in (SignedPayload.V2, SignedPayload.V3):
            stand_in.drop()
            until(states, Offline)
            until(states, Retrying)
            client.reconnect_now(signed=signed)
            until(states, Online)
    assert [text[:2] for text in key.signed] == ["v3", "v2", "v3"]


def test_a_device_that_is_approved_while_it_polls_comes_online_by_itself(
    full_subject: FullSubject, world: TrioWorld
) -> None:
    stand_in = StandInGateway(token=TOKEN, remote=True)
    store = Store()
    settings = attrs.evolve(QUICK, reconnect=ReconnectSettings(pairing_poll=1.0))
    with (
        entered(world, serve(stand_in)) as url,
        full_subject.connect(
            url, token=TOKEN, device=device(store), settings=settings, wait=False
        ) as client,
    ):
        required = client.notices().get()
        assert isinstance(required, PairingRequired)
        assert required.request_id is not None
        eventually(lambda: client.state is State.WAITING)
        stand_in.approve(required.request_id)
        client.wait_online()
        assert texts(store) == [issued(stand_in)]
    assert stand_in.connections == 2


# --- the signer -----------------------------------------------------------------------------


def test_a_signer_that_raises_ends_the_attempt_and_gives_up_in_the_end(
    subject: Subject, url: str, stand_in: StandInGateway
) -> None:
    def fail() -> None:
        raise Oops("QQ-the-private-key-QQ")

    with (
        pytest.raises(GaveUp) as caught,
        subject.connect(url, token=TOKEN, device=device(key=Key(fail)), settings=QUICK),
    ):
        raise AssertionError
    assert caught.value.ending is not None
    assert caught.value.ending.kind is EndKind.SIGNER_FAILED
    assert "QQ" not in str(caught.value)
    assert not stand_in.received


def test_a_signer_that_blocks_for_a_moment_only_delays(subject: Subject, url: str) -> None:
    key = Key(lambda: time.sleep(0.2))
    with subject.connect(url, token=TOKEN, device=device(key=key)) as client:
        assert client.stats.attempts == 1
        assert client.request("echo", 1) == 1


def test_a_device_shows_neither_its_signer_nor_its_store() -> None:
    assert repr(device()) == repr(Device(Key())) == "Device()"
