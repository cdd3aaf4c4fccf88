"""Both packages through real proxies, to a stand-in on a real port (lesson 28)."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest
import trio
import trustme

import butter_threads
import butter_trio
from butter_proto.errors import Ending, EndKind, FaultKind, GaveUp, InvalidSettings
from butter_proto.events import Offline, Online, Retrying
from butter_proto.machine import OpenTransport
from butter_proto.proxy_address import ProxyAddress, parse_proxy
from butter_proto.reconnect import advice
from butter_proto.settings import Settings, Timeouts
from butter_proto.testing import StandInGateway
from tests.adapters.gateway_side import Relay, relayed
from tests.adapters.scenario import QUICK, TOKEN, eventually, until
from tests.adapters.subject import FullSubject
from tests.adapters.subjects import FULL
from tests.adapters.worlds import TrioWorld
from tests.local_proxies import (
    HOST,
    SILENCE,
    LocalProxy,
    http_proxy,
    socks_proxy,
    socks_reply,
)
from tests.tls import presenting, trusting

ME: Final = ("me", "hidden word")
MY_LOGIN: Final = "me:hidden%20word"
LARGE: Final = "x" * 1_000_000
AnyProxy = Callable[..., AbstractContextManager[LocalProxy]]
PROXIES: Final[list[AnyProxy]] = [http_proxy, socks_proxy]


@pytest.fixture(params=FULL)
def subject(request: pytest.FixtureRequest) -> Iterator[FullSubject]:
    with FULL[request.param]() as subject:
        yield subject


@pytest.fixture
def port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.fixture
def far(port: int) -> str:
    """The stand-in's URL as it is reached through a proxy."""
    return f"ws://{HOST}:{port}"


def through(proxy: str) -> Settings:
    return attrs.evolve(QUICK, proxy=proxy)


def refusal(subject: FullSubject, url: str, proxy: str) -> GaveUp:
    """Connect, expecting to be told to stop."""
    with (
        pytest.raises(GaveUp) as caught,
        subject.connect(url, token=TOKEN, settings=through(proxy)),
    ):
        raise AssertionError
    return caught.value


def failure(subject: FullSubject, url: str, settings: Settings) -> Ending:
    """Connect, expecting a failure after which it tries again."""
    with subject.connect(url, token=TOKEN, settings=settings, wait=False) as client:
        return until(client.states(), Retrying).ending


def told(ending: Ending | None) -> tuple[FaultKind, str]:
    assert ending is not None
    assert ending.kind is EndKind.TRANSPORT_FAILED
    assert ending.fault is not None
    return ending.fault.kind, ending.fault.text


# --- ways through ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("credentials", [None, ME])
def test_a_gateway_is_reached_through_a_proxy_and_again_after_a_drop(
    subject: FullSubject,
    far: str,
    port: int,
    stand_in: StandInGateway,
    kind: AnyProxy,
    credentials: tuple[str, str] | None,
) -> None:
    with kind(credentials) as proxy:
        settings = through(proxy.url_for(MY_LOGIN if credentials else ""))
        with subject.connect(far, token=TOKEN, settings=settings) as client:
            assert client.request("echo", LARGE) == LARGE
            states = client.states()
            stand_in.drop()
            until(states, Offline)
            until(states, Online)
            assert client.request("echo", 1) == 1
        assert proxy.asked == [(HOST, port)] * 2
        eventually(lambda: proxy.open == 0)


def test_socks5h_is_the_same_and_a_login_may_be_given_in_vain(
    subject: FullSubject, far: str
) -> None:
    with socks_proxy() as proxy:
        settings = through(proxy.url_for(MY_LOGIN).replace("socks5:", "socks5h:"))
        with subject.connect(far, token=TOKEN, settings=settings) as client:
            assert client.request("echo", 1) == 1


@pytest.fixture
def tls_relay(world: TrioWorld, url: str, authority: trustme.CA) -> Iterator[Relay]:
    """A relay that speaks TLS, with a certificate for the name that the proxies know."""
    with relayed(world, url, presenting(authority.issue_cert(HOST))) as relay:
        yield relay


@pytest.mark.parametrize("kind", PROXIES)
def test_tls_is_spoken_with_the_host_and_its_name_is_verified(
    subject: FullSubject, tls_relay: Relay, authority: trustme.CA, kind: AnyProxy
) -> None:
    context = trusting(authority)
    far = tls_relay.url.replace("127.0.0.1", HOST)
    with kind(ME) as proxy:
        settings = through(proxy.url_for(MY_LOGIN))
        with subject.connect(far, token=TOKEN, settings=settings, ssl_context=context) as client:
            assert client.request("echo", LARGE) == LARGE
        refused = refusal(subject, far, proxy.url_for(MY_LOGIN))  # the platform's trust
    assert told(refused.ending)[0] is FaultKind.CERTIFICATE


def test_a_certificate_for_the_proxys_own_name_is_not_enough(
    subject: FullSubject, world: TrioWorld, url: str, authority: trustme.CA
) -> None:
    presented = presenting(authority.issue_cert("127.0.0.1"))
    context = trusting(authority)
    with (
        http_proxy() as proxy,
        relayed(world, url, presented) as relay,
        pytest.raises(GaveUp) as caught,
        subject.connect(
            relay.url.replace("127.0.0.1", HOST), settings=through(proxy.url), ssl_context=context
        ),
    ):
        raise AssertionError
    assert told(caught.value.ending)[0] is FaultKind.CERTIFICATE


# --- no way through -------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["", "me:wrong", "me"])
def test_an_http_proxy_that_wants_other_credentials_is_not_asked_again(
    subject: FullSubject, far: str, login: str
) -> None:
    with http_proxy(ME) as proxy:
        refused = refusal(subject, far, proxy.url_for(login))
        kind, text = told(refused.ending)
        assert kind is FaultKind.PROXY_REFUSED
        assert text.startswith(f"{proxy.url}: HTTP 407 Not with ")
        assert "wants other credentials" in refused.advice
        assert proxy.connections == 1
        assert proxy.asked == []


@pytest.mark.parametrize("login", ["", "me:wrong"])
def test_a_socks_proxy_that_wants_other_credentials_is_not_asked_again(
    subject: FullSubject, far: str, login: str
) -> None:
    with socks_proxy(ME) as proxy:
        refused = refusal(subject, far, proxy.url_for(login))
        kind, text = told(refused.ending)
        assert kind is FaultKind.PROXY_REFUSED
        assert text.startswith(f"{proxy.url}: ")
        assert proxy.connections == 1


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(http_proxy, b"HTTP/1.1 403 Forbidden\r\n\r\n"), (socks_proxy, socks_reply(2))],
)
def test_a_proxy_that_lets_nobody_through_is_not_asked_again(
    subject: FullSubject, far: str, kind: AnyProxy, answer: bytes
) -> None:
    with kind(answer=answer) as proxy:
        assert told(refusal(subject, far, proxy.url).ending)[0] is FaultKind.PROXY_REFUSED
        assert proxy.connections == 1


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        (http_proxy, None, "HTTP 502 Bad Gateway"),
        (http_proxy, b"\x05\x00", "the answer is no HTTP"),
        (http_proxy, b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101", "more came than the answer"),
        (http_proxy, b"HTTP/1.1 ", "the stream ended before the answer"),
        (socks_proxy, None, "Host unreachable"),
        (socks_proxy, b"HTTP/1.1 400 Bad\r\n\r\n", "Unexpected SOCKS version"),
        (socks_proxy, b"\x05\x63\x00", "Invalid reply code"),
        (socks_proxy, b"\x05\x00\x00\x03\x01\xff\x00\x00", "an invalid answer"),
        (socks_proxy, b"\x05\x00", "Connection closed"),
    ],
)
def test_a_proxy_that_fails_is_named_and_tried_again(
    subject: FullSubject, port: int, kind: AnyProxy, answer: bytes | None, words: str
) -> None:
    with kind(answer=answer) as proxy:
        ending = failure(subject, f"ws://elsewhere.local:{port}", through(proxy.url))
        fault, text = told(ending)
        assert fault is FaultKind.PROXY
        assert text.startswith(f"{proxy.url}: {words}")
        assert "Check the proxy" in advice(ending)
        eventually(lambda: proxy.open == 0)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("known", [True, False])
def test_a_proxy_that_cannot_be_reached_is_named_and_not_the_gateway(
    subject: FullSubject, far: str, scheme: str, known: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        unused_port = unused.getsockname()[1]
    proxy = f"{scheme}://{'127.0.0.1' if known else 'proxy.invalid'}:{unused_port}"
    settings = attrs.evolve(through(proxy), allow_plaintext=True)  # its name is no near one
    ending = failure(subject, far, settings)
    fault, text = told(ending)
    assert fault is FaultKind.PROXY
    assert text.startswith(f"{proxy}: {'connection refused' if known else 'name not resolved'}")
    assert "is the gateway running" not in advice(ending)


@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_that_says_nothing_counts_into_the_limit_of_opening(
    subject: FullSubject, far: str, kind: AnyProxy
) -> None:
    with kind(answer=SILENCE) as proxy:
        settings = attrs.evolve(through(proxy.url), timeouts=Timeouts(open=0.2))
        assert failure(subject, far, settings).kind is EndKind.OPEN_TIMEOUT
        eventually(lambda: proxy.open == 0)


def test_a_proxy_that_echoes_the_credentials_is_told_without_them(
    subject: FullSubject, far: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with http_proxy(("me", "other")) as proxy:
        refused = refusal(subject, far, proxy.url_for(MY_LOGIN))
    assert told(refused.ending)[1] == f"{proxy.url}: HTTP 407 Not with Basic ***"
    shown = f"{refused!r} {refused} {caplog.text}"
    assert "Basic ***" in caplog.text
    for secret in ("hidden", "bWU6aGlkZGVuIHdvcmQ="):
        assert secret not in shown


# --- which proxy ----------------------------------------------------------------------------


def test_loopback_is_never_proxied(
    subject: FullSubject, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_proxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        settings = through(proxy.url)
        with subject.connect(url, token=TOKEN, settings=settings, trust_env=True) as client:
            assert client.request("echo", 1) == 1
        assert proxy.connections == 0


def test_the_environment_is_asked_where_it_is_trusted(
    subject: FullSubject, far: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with http_proxy() as proxy, http_proxy() as other:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with subject.connect(far, token=TOKEN, trust_env=True) as client:
            assert client.request("echo", 1) == 1
        assert proxy.connections == 1
        settings = through(other.url)
        with subject.connect(far, token=TOKEN, settings=settings, trust_env=True):
            assert other.connections == 1
        monkeypatch.setenv("NO_PROXY", ".local")
        impatient = attrs.evolve(QUICK, timeouts=Timeouts(open=0.5))
        for trusted in (True, False):  # nobody but the proxies knows that name
            with subject.connect(far, settings=impatient, trust_env=trusted, wait=False) as client:
                until(client.states(), Retrying)
            monkeypatch.delenv("NO_PROXY", raising=False)
        assert (proxy.connections, other.connections) == (1, 1)


@pytest.mark.parametrize("proxy", ["https://proxy", "socks4://proxy"])
def test_a_proxy_that_cannot_work_is_raised_before_anything_is_dialled(
    subject: FullSubject, far: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with (
        pytest.raises(InvalidSettings, match=r"https_proxy: .* allowed: http, socks5, socks5h"),
        subject.connect(far, trust_env=True),
    ):
        raise AssertionError


@pytest.fixture
def _without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    for package in ("butter_trio", "butter_threads"):
        monkeypatch.delitem(sys.modules, f"{package}.socks", raising=False)


@pytest.mark.usefixtures("_without_the_extra")
def test_a_socks_proxy_without_the_extra_is_raised_at_once_with_what_to_do(
    subject: FullSubject, far: str, url: str
) -> None:
    settings = through("socks5://proxy.local")
    with (
        pytest.raises(InvalidSettings, match=r"pip install 'openbutter\[socks\]'"),
        subject.connect(far, settings=settings),
    ):
        raise AssertionError
    with subject.connect(url, token=TOKEN, settings=settings) as client:
        assert client.request("echo", 1) == 1


# --- a dial of one's own --------------------------------------------------------------------


@pytest.mark.usefixtures("_without_the_extra")
def test_a_dial_of_the_users_own_is_told_the_proxy_on_trio(far: str) -> None:
    seen: list[ProxyAddress | None] = []

    async def dial(command: OpenTransport) -> trio.abc.Stream:
        seen.append(command.proxy)
        raise OSError

    async def main() -> None:
        settings = through("socks5://proxy.local")
        async with butter_trio.connect(far, settings=settings, dial=dial, wait=False) as gateway:
            async for state in gateway.states():
                if isinstance(state, Retrying):
                    return

    trio.run(main)
    assert seen == [parse_proxy("socks5://proxy.local")]


@pytest.mark.usefixtures("_without_the_extra")
def test_a_dial_of_the_users_own_is_told_the_proxy_in_threads(far: str) -> None:
    seen: list[ProxyAddress | None] = []

    def dial(command: OpenTransport) -> socket.socket:
        seen.append(command.proxy)
        raise OSError

    settings = through("socks5://proxy.local")
    with (
        butter_threads.connect(far, settings=settings, dial=dial, wait=False) as gateway,
        gateway.states() as states,
    ):
        assert any(isinstance(state, Retrying) for state in states)
    assert seen[0] == parse_proxy("socks5://proxy.local")
