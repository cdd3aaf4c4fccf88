"""The examination behind ``butter doctor``: where the way to a gateway ends, why, and what to do.

Rules kept here:

* First the way there (reachability.py), each step on a connection of its own; then one connection
  as any program makes it, whose trace shows how far it came.
* It is one attempt, with the one repair that the reconnect table knows. Nothing is waited for: a
  device that has to be approved is a failure with the command that approves it.
* It is well only if every scope that was asked for was granted and the gateway calls itself well.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
import trio

from butter_proto import events
from butter_proto.connector import Connector
from butter_proto.device_auth import device_id
from butter_proto.endpoint import Reach
from butter_proto.errors import (
    Ending,
    EndKind,
    FaultKind,
    GaveUp,
    InvalidSettings,
    LocalProtocolError,
    RequestFailed,
    StoreError,
)
from butter_proto.frames import METHOD_HEALTH
from butter_proto.machine import OpenTransport
from butter_proto.settings import ReconnectSettings, Timeouts, adapter_settings
from butter_proto.trace import Trace, Traced
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.client import Gateway, NoticeStream, connect
from butter_trio.findings import Failed, Finding, Findings, Step
from butter_trio.reachability import other_scheme, reach, speaks_tls
from butter_trio.tunnel import require
from butter_trio.words import NO_ANSWER, notable

LIMIT: Final = 15.0
"""Seconds that a step may take if nothing else is said."""
_WRONG_CLOCK: Final = 60.0
"""Seconds between two clocks above which it is told."""
_NO_DEVICE: Final = (
    "Without a device, scopes are granted only on loopback, to the identities "
    "gateway-client/backend and cli/cli, and where nothing in front makes the connection look "
    "remote. Use --device."
)
_DEVICE: Final = "See what the device is approved for on the gateway: openclaw devices list"
_UNWELL: Final = "The gateway runs and is not well: look at its log, and at openclaw status."
_PLACES: Final = {
    Reach.LOOPBACK: "this machine",
    Reach.PRIVATE: "a private network",
    Reach.PUBLIC: "a public host",
}
_ONCE: Final = ReconnectSettings(max_attempts=1, pairing_poll=None)


async def examine(
    url: str,
    access: Access,
    *,
    tell: Callable[[Finding], None],
    trace: Trace | None = None,
    limit: float = LIMIT,
) -> Findings:
    """Go the whole way to a gateway. ``tell`` gets each finding as it comes.

    ``trace`` is told of the messages on the wire, without secrets. ``limit`` is in seconds and for
    each step. Whatever is wrong is in the findings.
    """
    findings = Findings(tell)
    try:
        access, command = _look_at_url(url, access, limit, findings)
        await reach(command, access.ssl_context, access.settings.pins, limit, findings)
        await _Conversation(access, command, findings, trace).hold(url)
    except Failed:
        pass
    return findings


def _look_at_url(
    url: str, access: Access, limit: float, findings: Findings
) -> tuple[Access, OpenTransport]:
    """Return what is used for this URL, and the transport that a connector asks for."""
    settings, device = access.settings, access.device
    try:
        settings = attrs.evolve(
            settings,
            timeouts=Timeouts(limit, limit, limit, request=limit),
            reconnect=_ONCE,
        )
        environ = os.environ if access.trust_env else None
        settings = adapter_settings(settings, None, url=url, environ=environ)
        signer = None if device is None else device.signer
        machine = Connector(url, settings, random=random.random, entropy=os.urandom, signer=signer)
        require(machine.proxy)
    except InvalidSettings as error:
        findings.fail(Step.URL, str(error), "Nothing was sent.")
    machine.start(0.0)  # for what it asks for; it is never opened
    command = machine.next_command()
    assert isinstance(command, OpenTransport)
    endpoint = machine.endpoint
    notes = (
        () if endpoint.is_confidential else ("what is said can be read on the way: prefer wss://",)
    )
    way = "TLS" if endpoint.tls else "clear text"
    seen = f"{endpoint}: {_PLACES[endpoint.reach]}, {way}"
    findings.well(Step.URL, seen, notes=notes, url=str(endpoint))
    return attrs.evolve(access, settings=settings), command


@attrs.define
class _Progress:
    """How far one connection came, by its trace. Times are on trio's clock, None: never."""

    transport_id: int
    began: float
    upgraded: float | None = None
    challenged: float | None = None
    server: str | None = None
    """What the answer to the upgrade names as the server."""
    ahead: float | None = None
    """By how many seconds the gateway's clock is ahead of this machine's."""

    def received(self, told: Any, now: float) -> None:
        """Take note of what came."""
        match told:
            case [first, *headers]:
                named = (header.partition(": ") for header in headers)
                self.server = next((v for n, _, v in named if n.lower() == "server"), None)
                if first.split()[1:2] == ["101"]:
                    self.upgraded = now
            case {"event": "connect.challenge", "payload": payload}:
                self.challenged = now
                match payload:
                    case {"ts": int(ts)}:
                        self.ahead = ts / 1000 - time.time()

    @property
    def step(self) -> Step:
        """The step at which it is."""
        if self.upgraded is None:
            return Step.UPGRADE
        return Step.CHALLENGE if self.challenged is None else Step.CONNECT


class _Conversation:
    """One connection, from the upgrade to the answer of a request."""

    def __init__(
        self, access: Access, command: OpenTransport, findings: Findings, trace: Trace | None
    ) -> None:
        self._access = access
        self._command = command
        self._findings = findings
        self._trace = trace
        self._progress = _Progress(0, 0.0)
        self._notes: list[str] = []

    async def hold(self, url: str) -> None:
        """Connect, and ask. Raises `Failed` at the step that leads no further."""
        access = self._access
        opening = connect(
            url,
            wait=False,
            settings=access.settings,
            device=access.device,
            ssl_context=access.ssl_context,
            trace=self._on_traced,
        )
        try:
            async with (
                opening as gateway,
                gateway.notices() as notices,
                background(partial(self._follow, notices)),
            ):
                await gateway.wait_online()
                self._greeted(gateway.hello)
                self._compare_scopes(gateway.hello)
                await self._ask(gateway)
        except StoreError as error:
            self._findings.fail(Step.CONNECT, str(error), "Nothing was sent.")
        except GaveUp as gave_up:
            await self._refused(gave_up.ending or NO_ANSWER)

    def _on_traced(self, traced: Traced) -> None:
        """Take note of a message, and pass it on."""
        now = trio.current_time()
        if traced.transport_id != self._progress.transport_id:
            self._progress = _Progress(traced.transport_id, now)
        if not traced.sent:
            self._progress.received(traced.told, now)
        if self._trace is not None:
            self._trace(traced)

    async def _follow(self, notices: NoticeStream) -> None:
        async for notice in notices:
            text = notable(notice)
            if text is not None and not isinstance(
                notice, events.ScopesReduced | events.PairingRequired | events.ClockLate
            ):
                self._notes.append(text)

    def _take_notes(self) -> tuple[str, ...]:
        """Return what was noted since the last time."""
        notes, self._notes = tuple(self._notes), []
        return notes

    # --- steps ------------------------------------------------------------------------------

    async def _refused(self, ending: Ending) -> None:
        """Say at which step a connection ended, after those that went well."""
        step = _STEP_OF.get(ending.kind, self._progress.step)
        hint = ""
        if ending.kind is EndKind.TRANSPORT_FAILED and not ending.transport_opened:
            assert ending.fault is not None
            step = _STEP_OF_FAULT.get(ending.fault.kind, Step.TCP)
        elif step is Step.UPGRADE and not self._command.tls and await speaks_tls(self._command):
            hint = other_scheme(self._command)
        self._went_well_before(step)
        server = self._progress.server
        facts = {"http_status": ending.http_status, "server": server} if server else {}
        self._findings.fail_by(step, ending, hint, self._take_notes(), **facts)

    def _went_well_before(self, step: Step) -> None:
        progress = self._progress
        upgraded, challenged = progress.upgraded, progress.challenged
        if upgraded is not None and step is not Step.UPGRADE:
            seen = f"accepted{f' by {progress.server}' if progress.server else ''}"
            self._findings.well(Step.UPGRADE, seen, upgraded - progress.began)
        if upgraded is not None and challenged is not None and step is not Step.CHALLENGE:
            ahead = progress.ahead
            self._findings.well(
                Step.CHALLENGE,
                "received",
                challenged - upgraded,
                _notes_on_clock(ahead),
                clock_ahead_s=None if ahead is None else round(ahead, 3),
            )

    def _greeted(self, hello: events.Hello) -> None:
        self._went_well_before(Step.CONNECT)
        device = self._access.device
        facts = {
            "server_version": hello.server_version,
            "protocol": hello.protocol,
            "role": hello.role,
            "auth_method": hello.auth_method,
            "device_id": None if device is None else device_id(device.signer.public_key),
        }
        seen = (
            f"gateway {hello.server_version or 'of unknown version'}, protocol "
            f"{hello.protocol or '?'}, as {hello.role or '?'} by {hello.auth_method or '?'}"
        )
        if device is not None:
            seen += f", device {facts['device_id']}"
        challenged = self._progress.challenged
        seconds = None if challenged is None else trio.current_time() - challenged
        self._findings.well(Step.CONNECT, seen, seconds, self._take_notes(), **facts)

    def _compare_scopes(self, hello: events.Hello) -> None:
        device = self._access.device is not None
        requested = self._access.settings.identity_for(device=device).scopes
        if hello.scopes is None:
            self._findings.nothing(Step.SCOPES, "the gateway tells none")
            return
        missing = [scope for scope in requested if scope not in hello.scopes]
        granted = ", ".join(hello.scopes) or "none"
        facts: dict[str, Any] = {"granted": list(hello.scopes), "missing": missing}
        if missing:
            seen = f"granted: {granted}; not granted: {', '.join(missing)}"
            self._findings.fail(Step.SCOPES, seen, _DEVICE if device else _NO_DEVICE, **facts)
        self._findings.well(Step.SCOPES, f"granted: {granted}", **facts)

    async def _ask(self, gateway: Gateway) -> None:
        began = trio.current_time()
        try:
            payload = await gateway.request(METHOD_HEALTH)
        except (RequestFailed, LocalProtocolError) as error:
            self._findings.fail(Step.HEALTH, str(error), _UNWELL)
        seconds = trio.current_time() - began
        if isinstance(payload, dict) and payload.get("ok") is False:
            self._findings.fail(Step.HEALTH, "the gateway says that it is not well", _UNWELL)
        seen = "the gateway answers, and is well"
        self._findings.well(Step.HEALTH, seen, seconds, self._take_notes())


def _notes_on_clock(ahead: float | None) -> tuple[str, ...]:
    if ahead is None or abs(ahead) < _WRONG_CLOCK:
        return ()
    where = "ahead of" if ahead > 0 else "behind"
    text = f"the gateway's clock is {abs(ahead):.0f} s {where} this machine's; "
    return (text + "that does no harm, for a device signs the gateway's time",)


_STEP_OF: Final = {
    EndKind.PIN_MISMATCH: Step.PIN,
    EndKind.OPEN_TIMEOUT: Step.UPGRADE,
    EndKind.UPGRADE_REFUSED: Step.UPGRADE,
    EndKind.NOT_WEBSOCKET: Step.UPGRADE,
    EndKind.CHALLENGE_TIMEOUT: Step.CHALLENGE,
    EndKind.CHALLENGE_INVALID: Step.CHALLENGE,
}
"""The endings that name their step; another one is where the connection had come to."""
_STEP_OF_FAULT: Final = {
    FaultKind.DNS: Step.DNS,
    FaultKind.PROXY: Step.PROXY,
    FaultKind.PROXY_REFUSED: Step.PROXY,
    FaultKind.CERTIFICATE: Step.TLS,
}
