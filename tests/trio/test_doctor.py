"""The examination: every step fails for real once, says where, why and what to do, and goes well."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from butter_proto import Device, GatewayError, StoreError, Traced
from butter_proto.device import DeviceToken, MemoryStore, TokenKey
from butter_proto.pins import fingerprints
from butter_proto.secret import Secret
from butter_proto.settings import Settings
from butter_proto.storage import open_device
from butter_proto.testing import StandInGateway
from butter_trio import reachability
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.doctor import examine
from butter_trio.findings import Finding, Findings, Result, Step
from butter_trio.serve import serve
from tests.adapters.gateway_side import silent, unanswered
from tests.local_proxies import HOST, LocalProxy, http_proxy
from tests.tls import trusting
from tests.trio.scenario import real_time

TOKEN = "QQ-a-secret-QQ"
PLAIN = [Step.PROXY, Step.TLS, Step.PIN]
"""What there is not to look at without TLS and without a proxy."""


def ignore(_: Finding) -> None:
    pass


async def found(
    url: str, access: Access | None = None, *, limit: float = 5.0, **settings: Any
) -> Findings:
    """Examine, and check what holds for every examination."""
    access = access or Access(Settings(token=TOKEN))
    if settings:
        access = attrs.evolve(access, settings=attrs.evolve(access.settings, **settings))
    told: list[Finding] = []
    findings = await examine(url, access, tell=told.append, limit=limit)
    assert told == findings.all
    assert [one.step for one in told] == list(Step)[: len(told)]
    assert all(one.result is not Result.FAILED for one in told[:-1])
    assert findings.ok == (told[-1].result is not Result.FAILED)
    assert TOKEN not in repr(findings.as_json())
    return findings


async def failed(url: str, access: Access | None = None, **options: Any) -> Finding:
    """Examine, and return the step that failed; it has advice."""
    findings = await found(url, access, **options)
    last = findings.all[-1]
    assert findings.failed is last.step
    assert last.result is Result.FAILED
    assert (
        last.advice.endswith((".", "?", "list")) or "approve" in last.advice or "ws" in last.advice
    )
    return last


def of(findings: Findings, step: Step) -> Finding:
    return next(one for one in findings.all if one.step is step)


@asynccontextmanager
async def listening(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve every connection by ``handler``; yields the port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def quietly(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await handler(stream)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass

    async with background(partial(trio.serve_listeners, quietly, listeners)):
        yield listeners[0].socket.getsockname()[1]


@asynccontextmanager
async def tls_before(url: str, leaf: trustme.LeafCert) -> AsyncIterator[str]:
    """Put TLS before a gateway; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    port = int(url.rpartition(":")[2].strip("/"))

    async def carry(stream: trio.SocketStream) -> None:
        client = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        gateway = await trio.open_tcp_stream("127.0.0.1", port)
        async with gateway, trio.open_nursery() as nursery:
            nursery.start_soon(copy, gateway, client)
            await copy(client, gateway)
            nursery.cancel_scope.cancel()

    async def copy(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            while data := await source.receive_some(65536):
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass

    async with listening(carry) as own_port:
        yield f"wss://127.0.0.1:{own_port}"


def answering(answer: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Return a server that reads a request and says the same to everybody."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(answer)

    return handler


async def upgrading(stream: trio.SocketStream) -> None:
    """Speak WebSocket, and say nothing."""
    request = bytes(await stream.receive_some(65536))
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nServer: nobody/1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    await stream.receive_some(65536)


@pytest.fixture
def der(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    return trusting(authority)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return open_device(tmp_path / "device")


# --- all is well ----------------------------------------------------------------------------


@real_time
async def test_a_gateway_that_is_well_passes_every_step() -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        findings = await found(url)
    assert findings.ok
    assert findings.failed is None
    assert [one.step for one in findings.all if one.result is Result.SKIPPED] == PLAIN
    assert of(findings, Step.TCP).facts["address"] == "127.0.0.1"
    assert of(findings, Step.CONNECT).facts["server_version"] == "2026.9.6"
    assert of(findings, Step.CONNECT).seen.endswith("as operator by token")
    assert of(findings, Step.SCOPES).facts["granted"] == ["operator.read", "operator.write"]
    timed = (Step.TCP, Step.UPGRADE, Step.CHALLENGE, Step.CONNECT, Step.HEALTH)
    assert all((of(findings, step).ms or 0) > 0 for step in timed)


@real_time
async def test_a_name_is_told_with_its_addresses() -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        findings = await found(url.replace("127.0.0.1", "localhost"))
    assert findings.ok
    assert "127.0.0.1" in of(findings, Step.DNS).facts["addresses"]


@real_time
async def test_a_device_is_told_with_its_id_and_keeps_its_token(device: Device) -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        access = Access(Settings(token=TOKEN), device)
        assert (await found(url, access)).ok
        findings = await found(url, attrs.evolve(access, settings=Settings()))
    assert findings.ok
    connect = of(findings, Step.CONNECT)
    assert connect.facts["auth_method"] == "device-token"
    assert len(connect.facts["device_id"]) == 64


class FullStore(MemoryStore):
    """A store that takes nothing more."""

    def save(self, key: TokenKey, token: DeviceToken, _: Secret | None = None) -> None:
        raise StoreError(f"no room for a token of {len(token.scopes)} scopes from {key.origin}")


@real_time
async def test_a_token_that_cannot_be_kept_is_noted(device: Device) -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        access = Access(Settings(token=TOKEN), attrs.evolve(device, tokens=FullStore()))
        findings = await found(url, access)
    assert findings.ok
    notes = [note for one in findings.all for note in one.notes]
    assert any("was not stored (that failed)" in note for note in notes)


@real_time
async def test_a_stored_token_that_is_no_longer_valid_is_noted(
    device: Device,
) -> None:
    stand_in = StandInGateway(token=TOKEN)
    async with serve(stand_in) as url:
        assert (await found(url, Access(Settings(token=TOKEN), device))).ok
        (device_id,) = stand_in.devices
        stand_in.rotate(device_id)
        last = await failed(url, Access(Settings(), device))
    assert last.step is Step.CONNECT
    assert last.facts["detail_code"] == "AUTH_DEVICE_TOKEN_MISMATCH"
    assert last.notes[0].startswith("the stored device token is no longer valid and was forgotten")


@real_time
async def test_the_clocks_are_compared() -> None:
    ahead = StandInGateway(token=TOKEN, wall_clock=lambda _: round((time.time() + 7200) * 1000))
    right = StandInGateway(token=TOKEN, wall_clock=lambda _: round(time.time() * 1000))
    async with serve(ahead) as url:
        challenge = of(await found(url), Step.CHALLENGE)
    assert 7190 < challenge.facts["clock_ahead_s"] < 7201
    assert "ahead of this machine's" in challenge.notes[0]
    async with serve(right) as url:
        assert of(await found(url), Step.CHALLENGE).notes == ()


# --- the way there --------------------------------------------------------------------------


@real_time
async def test_what_is_not_safe_fails_before_anything_is_sent() -> None:
    last = await failed("ws://gateway.example.com")
    assert last.step is Step.URL
    assert "clear text" in last.seen


@real_time
async def test_what_is_no_gateway_url_fails_at_the_url() -> None:
    last = await failed("http://127.0.0.1")
    assert last.step is Step.URL


@real_time
async def test_a_name_that_nobody_knows_fails_at_dns() -> None:
    last = await failed("wss://gateway.invalid")
    assert last.step is Step.DNS
    assert "name not resolved" in last.seen


@real_time
async def test_a_closed_port_fails_at_tcp() -> None:
    async with listening(upgrading) as port:
        pass
    last = await failed(f"ws://127.0.0.1:{port}")
    assert (last.step, last.facts["fault"]) == (Step.TCP, "REFUSED")


@pytest.mark.parametrize("tls", [False, True])
@real_time
async def test_a_gateway_at_the_usual_port_is_pointed_at(
    tls: bool, monkeypatch: pytest.MonkeyPatch, leaf: trustme.LeafCert
) -> None:
    async with listening(upgrading) as closed:
        pass
    http = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with listening(http) as plain, tls_before(f"ws://x:{plain}", leaf) as secure:
        port = int(secure.rpartition(":")[2]) if tls else plain
        monkeypatch.setattr(reachability, "_USUAL_PORT", port)
        last = await failed(f"ws://127.0.0.1:{closed}")
    assert last.step is Step.TCP
    assert f"but at {port}" in last.advice


@real_time
async def test_a_host_that_drops_everything_fails_at_tcp() -> None:
    with unanswered() as url:
        last = await failed(url, limit=0.3)
    assert (last.step, last.seen) == (Step.TCP, "no answer in time")
    assert "drops it" in last.advice


@pytest.fixture
def proxy() -> Iterator[LocalProxy]:
    with http_proxy() as proxy:
        yield proxy


@real_time
async def test_a_proxy_is_gone_through(proxy: LocalProxy) -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        findings = await found(url.replace("127.0.0.1", HOST), proxy=proxy.url)
    assert findings.ok
    assert of(findings, Step.DNS).seen.startswith("127.0.0.1 is an address")
    assert of(findings, Step.TCP).seen.startswith("the proxy accepts")
    assert of(findings, Step.PROXY).facts["proxy"] == proxy.url


@real_time
async def test_a_proxy_that_does_not_run_fails_at_the_proxy() -> None:
    async with listening(upgrading) as port:
        pass
    last = await failed(f"ws://{HOST}:1", proxy=f"http://127.0.0.1:{port}")
    assert (last.step, last.facts["fault"]) == (Step.PROXY, "PROXY")
    assert f"http://127.0.0.1:{port}" in last.seen
    assert last.advice.startswith("Check the proxy")


@real_time
async def test_a_proxy_whose_host_drops_everything_fails_at_the_proxy() -> None:
    with unanswered() as url:
        last = await failed(f"ws://{HOST}:1", proxy=url.replace("ws:", "http:"), limit=0.3)
    assert (last.step, last.seen) == (Step.PROXY, "no answer in time")


@real_time
async def test_a_proxy_that_refuses_fails_at_the_proxy() -> None:
    with http_proxy(credentials=("user", "password")) as refusing:
        last = await failed(f"ws://{HOST}:1", proxy=refusing.url)
    assert (last.step, last.facts["fault"]) == (Step.PROXY, "PROXY_REFUSED")


@real_time
async def test_a_proxy_that_says_nothing_fails_at_the_proxy() -> None:
    async with listening(_read) as port:
        last = await failed(f"ws://{HOST}:1", proxy=f"http://127.0.0.1:{port}", limit=0.3)
    assert (last.step, last.seen) == (Step.PROXY, "no answer in time")


async def _read(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass


# --- TLS and pins ---------------------------------------------------------------------------


@real_time
async def test_tls_is_told_with_its_version_and_the_certificate(
    leaf: trustme.LeafCert, der: bytes, context: ssl.SSLContext
) -> None:
    async with serve(StandInGateway(token=TOKEN)) as plain, tls_before(plain, leaf) as url:
        access = Access(Settings(token=TOKEN), ssl_context=context)
        findings = await found(url, access)
    assert findings.ok
    tls = of(findings, Step.TLS)
    assert tls.facts["version"] == "TLSv1.3"
    assert tls.facts["certificate"] == fingerprints(der)
    assert tls.facts["valid_until"].endswith("Z")
    assert of(findings, Step.PIN).result is Result.SKIPPED


@real_time
async def test_a_gateway_that_wants_a_certificate_of_ours_says_so(
    authority: trustme.CA, leaf: trustme.LeafCert, context: ssl.SSLContext
) -> None:
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(strict)
    authority.configure_trust(strict)
    strict.verify_mode = ssl.CERT_REQUIRED

    def shake_hands(door: socket.socket) -> None:  # trio's own streams would send no alert
        for _ in range(3):  # the steps tcp and tls have connections of their own
            with door.accept()[0] as accepted, contextlib.suppress(OSError):
                strict.wrap_socket(accepted, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=shake_hands, args=(door,))
        thread.start()
        access = Access(Settings(token=TOKEN), ssl_context=context)
        last = await failed(f"wss://127.0.0.1:{door.getsockname()[1]}", access)
        thread.join(10)
    assert last.step is Step.UPGRADE
    assert "certificate required" in last.seen.replace("_", " ").lower()


@real_time
async def test_a_certificate_that_nobody_vouches_for_fails_at_tls_and_is_shown(
    leaf: trustme.LeafCert, der: bytes
) -> None:
    async with serve(StandInGateway(token=TOKEN)) as plain, tls_before(plain, leaf) as url:
        last = await failed(url)
    assert (last.step, last.facts["fault"]) == (Step.TLS, "CERTIFICATE")
    assert last.notes[0] == f"seen: {fingerprints(der)}"
    assert "--pin" in last.notes[-1]


@real_time
async def test_a_pin_stands_in_place_of_verification(leaf: trustme.LeafCert, der: bytes) -> None:
    async with serve(StandInGateway(token=TOKEN)) as plain, tls_before(plain, leaf) as url:
        findings = await found(url, pins=hashlib.sha256(der).hexdigest())
    assert findings.ok
    assert "in place of verification" in of(findings, Step.PIN).seen


@real_time
async def test_another_certificate_fails_at_the_pin(leaf: trustme.LeafCert, der: bytes) -> None:
    stand_in = StandInGateway(token=TOKEN)
    async with serve(stand_in) as plain, tls_before(plain, leaf) as url:
        last = await failed(url, pins="00" * 32)
    assert last.step is Step.PIN
    assert fingerprints(der) in last.seen
    assert not stand_in.received


@real_time
async def test_old_certificates_are_told(authority: trustme.CA, context: ssl.SSLContext) -> None:
    now = datetime.now(UTC)
    soon = authority.issue_cert("127.0.0.1", not_after=now + timedelta(days=3, hours=1))
    old = authority.issue_cert(
        "127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
    )
    access = Access(Settings(token=TOKEN), ssl_context=context)
    async with serve(StandInGateway(token=TOKEN)) as plain:
        async with tls_before(plain, soon) as url:
            findings = await found(url, access)
            assert findings.ok
            assert of(findings, Step.TLS).notes == ("the certificate expires in 3 days",)
        async with tls_before(plain, old) as url:
            last = await failed(url, access)
    assert last.step is Step.TLS
    assert last.notes[1].startswith("the certificate expired on ")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"]
)
@real_time
async def test_wss_to_a_port_without_tls_is_recognised(answer: bytes) -> None:
    async with listening(answering(answer)) as port:
        last = await failed(f"wss://127.0.0.1:{port}", limit=1.0)
    assert last.step is Step.TLS
    plain = answer.startswith(b"HTTP")
    assert (f"use ws://127.0.0.1:{port}" in last.advice) is plain


@real_time
async def test_a_port_that_says_nothing_fails_at_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "_GUESS", 0.2)
    with silent() as url:
        last = await failed(url, limit=0.3)
    assert (last.step, last.seen) == (Step.TLS, "no answer in time")
    assert "speaks no TLS" in last.advice


# --- the conversation -----------------------------------------------------------------------


@real_time
async def test_ws_to_a_port_with_tls_is_recognised(leaf: trustme.LeafCert) -> None:
    async with serve(StandInGateway(token=TOKEN)) as plain, tls_before(plain, leaf) as url:
        last = await failed(url.replace("wss:", "ws:"))
    assert last.step is Step.UPGRADE
    assert last.advice.endswith(f"use {url}")


@real_time
async def test_another_http_server_fails_at_the_upgrade() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nServer: other/1\r\nContent-Length: 3\r\n\r\nno!"
    async with listening(answering(answer)) as port:
        last = await failed(f"ws://127.0.0.1:{port}")
    assert last.step is Step.UPGRADE
    assert (last.facts["http_status"], last.facts["server"]) == (404, "other/1")
    assert "it was other/1 that answered" in last.notes
    assert "no!" not in repr(last)


@real_time
async def test_the_status_of_a_server_without_a_name_is_told() -> None:
    async with listening(answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as port:
        last = await failed(f"ws://127.0.0.1:{port}")
    assert last.facts["http_status"] == 503
    assert "server" not in last.facts


@real_time
async def test_a_server_that_says_nothing_fails_at_the_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reachability, "_GUESS", 0.2)
    async with listening(_read) as port:
        last = await failed(f"ws://127.0.0.1:{port}", limit=0.3)
    assert (last.step, last.facts["ending"]) == (Step.UPGRADE, "OPEN_TIMEOUT")


@real_time
async def test_a_websocket_server_without_a_challenge_fails_at_the_challenge() -> None:
    async with listening(upgrading) as port:
        findings = await found(f"ws://127.0.0.1:{port}", limit=0.3)
    assert findings.failed is Step.CHALLENGE
    assert of(findings, Step.UPGRADE).seen == "accepted by nobody/1"


@real_time
async def test_a_challenge_that_cannot_be_signed_fails_at_the_challenge(device: Device) -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.challenge_next({"nonce": "n"})
    async with serve(stand_in) as url:
        last = await failed(url, Access(Settings(token=TOKEN), device))
    assert last.facts["ending"] == "CHALLENGE_INVALID"
    assert last.step is Step.CHALLENGE


@real_time
async def test_a_wrong_token_fails_at_connect() -> None:
    stand_in = StandInGateway(token="another one")
    async with serve(stand_in) as url:
        last = await failed(url)
    assert (last.step, last.facts["detail_code"]) == (Step.CONNECT, "AUTH_TOKEN_MISMATCH")
    assert "gateway.auth.token" in last.advice
    assert len(stand_in.received) == 1


@real_time
async def test_a_device_that_waits_for_approval_fails_with_the_command_that_approves_it(
    device: Device,
) -> None:
    stand_in = StandInGateway(token=TOKEN, remote=True)
    async with serve(stand_in) as url:
        access = Access(Settings(token=TOKEN), device)
        last = await failed(url, access)
        (request_id,) = stand_in.pending
        assert last.step is Step.CONNECT
        assert f"openclaw devices approve {request_id}" in last.advice
        stand_in.approve(request_id)
        assert (await found(url, access)).ok


@real_time
async def test_a_wrong_token_fails_also_where_the_stored_device_token_gets_in(
    device: Device,
) -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        assert (await found(url, Access(Settings(token=TOKEN), device))).ok
        last = await failed(url, Access(Settings(token="a wrong one"), device))
    assert (last.step, last.facts["detail_code"]) == (Step.CONNECT, "AUTH_TOKEN_MISMATCH")
    assert last.advice.startswith("The token is wrong")
    assert last.notes[0].startswith("the stored device token gets us in all the same")


@real_time
async def test_what_is_refused_before_a_repair_is_told_where_that_fails_too(
    device: Device,
) -> None:
    stand_in = StandInGateway(token=TOKEN)
    async with serve(stand_in) as url:
        assert (await found(url, Access(Settings(token=TOKEN), device))).ok
        (device_id,) = stand_in.devices
        stand_in.rotate(device_id)
        last = await failed(url, Access(Settings(token="a wrong one"), device))
    assert last.facts["detail_code"] == "AUTH_TOKEN_MISMATCH"
    assert "AUTH_DEVICE_TOKEN_MISMATCH" in last.notes[0]


@real_time
async def test_a_gateway_that_goes_during_a_repair_leaves_the_report_in_its_order(
    device: Device,
) -> None:
    stand_in = StandInGateway(token=TOKEN)

    def leave(one: Traced) -> None:
        if isinstance(one.told, dict) and one.told.get("ok") is False:
            stand_in.listening = False

    async with serve(stand_in) as url:
        assert (await found(url, Access(Settings(token=TOKEN), device))).ok
        access = Access(Settings(token="a wrong one"), device)
        findings = await examine(url, access, tell=ignore, trace=leave, limit=1.0)
    last = findings.all[-1]
    assert [one.step for one in findings.all] == list(Step)[: len(findings.all)]
    assert (last.step, last.facts["detail_code"]) == (Step.CONNECT, "AUTH_TOKEN_MISMATCH")
    assert "connection refused" in last.notes[0]


@real_time
async def test_a_setup_code_that_is_used_up_is_noted_where_the_stored_token_went_before(
    device: Device,
) -> None:
    stand_in = StandInGateway(token=TOKEN, bootstrap_token="QQ-a-setup-code-QQ")
    async with serve(stand_in) as url:
        assert (await found(url, Access(Settings(token=TOKEN), device))).ok
        (device_id,) = stand_in.devices
        stand_in.rotate(device_id)
        pairing = Settings(bootstrap_token="QQ-a-setup-code-QQ")
        findings = await found(url, Access(pairing, device))
    notes = of(findings, Step.CONNECT).notes
    assert notes[0].startswith("at first: ")
    assert "AUTH_DEVICE_TOKEN_MISMATCH" in notes[0]


class BrokenStore(MemoryStore):
    """A store that cannot be read."""

    def load(self, key: TokenKey) -> DeviceToken | None:
        raise StoreError(f"the tokens of {key.origin} cannot be read")


@real_time
async def test_tokens_that_cannot_be_read_fail_at_connect(device: Device) -> None:
    async with serve(StandInGateway(token=TOKEN)) as url:
        findings = await examine(
            url,
            Access(Settings(token=TOKEN), attrs.evolve(device, tokens=BrokenStore())),
            tell=ignore,
        )
    last = findings.all[-1]
    assert (last.result, last.seen) == (Result.FAILED, f"the tokens of {url} cannot be read")


@real_time
async def test_a_gateway_that_is_not_ready_fails_at_connect_after_one_attempt() -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.refuse_next(GatewayError("UNAVAILABLE", "not now", retryable=True))
    async with serve(stand_in) as url:
        last = await failed(url)
    assert last.step is Step.CONNECT
    assert last.facts["code"] == "UNAVAILABLE"
    assert stand_in.connections == 2  # the other one is that of the step before


@real_time
async def test_scopes_that_are_not_granted_fail_and_are_named() -> None:
    async with serve(StandInGateway(token=TOKEN, remote=True)) as url:
        last = await failed(url)
    assert last.step is Step.SCOPES
    assert last.facts["missing"] == ["operator.read", "operator.write"]
    assert "--device" in last.advice


@pytest.mark.parametrize(
    ("answer", "delay", "seen"),
    [
        (GatewayError("UNAVAILABLE", "too busy"), 0.0, "UNAVAILABLE: too busy"),
        ({"ok": False}, 0.0, "not well"),
        (None, math.inf, "health"),
    ],
    ids=["refused", "not ok", "silent"],
)
@real_time
async def test_a_gateway_that_is_not_well_fails_at_health(
    answer: object, delay: float, seen: str
) -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.reply("health", answer, delay=delay)
    async with serve(stand_in) as url:
        last = await failed(url, limit=0.5)
    assert last.step is Step.HEALTH
    assert seen in last.seen
    assert ("is not well" in last.advice) is (answer == {"ok": False})
    assert last.facts.get("code") == (answer.code if isinstance(answer, GatewayError) else None)


@real_time
async def test_a_connection_that_ends_before_health_is_answered_is_told_by_its_ending() -> None:
    stand_in = StandInGateway(token=TOKEN)
    stand_in.reply("health", {"ok": True}, delay=60)

    def close(one: Traced) -> None:
        if isinstance(one.told, dict) and one.told.get("method") == "health":
            stand_in.close(1008, "slow consumer")

    async with serve(stand_in) as url:
        findings = await examine(url, Access(Settings(token=TOKEN)), tell=ignore, trace=close)
    last = findings.all[-1]
    assert (last.step, last.facts["ending"]) == (Step.HEALTH, "CLOSED_BY_PEER")
    assert "read faster" in last.advice
