"""The examination behind ``butter doctor``: where the way to a gateway ends, why, and what to do.

Rules kept here:

* First the way there (reachability.py), each step on a connection of its own; then one connection
  as any program makes it, whose trace shows how far it came.
* It is one attempt, with the one repair that the reconnect table knows. Nothing is waited for: a
  device that has to be approved is a failure with the command that approves it.
* What a repair covers up is told all the same: what was given and is wrong is a failure.
* It is well only if every scope that was asked for was granted and the gateway calls itself well.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

import attrs
import trio

from butter_proto import events
from butter_proto.connector import Connector
from butter_proto.credentials import TOKEN_MISMATCH
from butter_proto.device_auth import device_id
from butter_proto.endpoint import Reach
from butter_proto.errors import (
    Ending,
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
from butter_trio.client import Gateway, connect
from butter_trio.findings import Failed, Finding, Findings, Step, known_of
from butter_trio.progress import Progress
from butter_trio.reachability import other_scheme, reach, speaks_tls
from butter_trio.streams import NoticeStream, StateStream
from butter_trio.tunnel import require
from butter_trio.words import LOOK, NO_ANSWER, notable

LIMIT: Final = 15.0
"""Seconds that a step may take if nothing else is said."""
_NO_DEVICE: Final = (
    "Without a device, scopes are granted only on loopback, to the identities "
    "gateway-client/backend and cli/cli, and where nothing in front makes the connection look "
    "remote. Use --device."
)
_DEVICE: Final = "See what the device is approved for on the gateway: openclaw devices list"
_UNWELL: Final = "The gateway runs and is not well: look at its log, and at openclaw status."
_COVERED_UP: Final = "the stored device token gets us in all the same; it may end any day"
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


class _Conversation:
    """One connection, from the upgrade to the answer of a request."""

    def __init__(
        self, access: Access, command: OpenTransport, findings: Findings, trace: Trace | None
    ) -> None:
        self._access = access
        self._command = command
        self._findings = findings
        self._trace = trace
        self._progress = Progress()
        self._first = self._progress
        """Of the first attempt, and ``_progress`` of the last one."""
        self._repaired: list[Ending] = []
        """How the attempts before the last one ended."""
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
                gateway.states() as states,
                gateway.notices() as notices,
                background(partial(self._follow_states, states)),
                background(partial(self._follow_notices, notices)),
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
            is_first = self._progress.transport_id == 0
            self._progress = Progress(traced.transport_id, now)
            if is_first:
                self._first = self._progress
        if not traced.sent:
            self._progress.received(traced.told, now)
        if self._trace is not None:
            self._trace(traced)

    async def _follow_states(self, states: StateStream) -> None:
        async for event in states:
            if isinstance(event, events.Retrying):
                self._repaired.append(event.ending)

    async def _follow_notices(self, notices: NoticeStream) -> None:
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
        if self._repaired:
            first, *others = (*self._repaired, ending)
            notes = (*(f"then, with another credential: {other}" for other in others),)
            self._fail(first, self._first, notes=notes)
        hint = ""
        in_clear = not self._command.tls
        if in_clear and self._progress.step_of(ending) is Step.UPGRADE:
            hint = other_scheme(self._command) if await speaks_tls(self._command) else ""
        self._fail(ending, self._progress, hint)

    def _fail(
        self, ending: Ending, progress: Progress, hint: str = "", notes: tuple[str, ...] = ()
    ) -> NoReturn:
        """Take down where an attempt ended. The way there was found to be open before."""
        step = progress.step_of(ending)
        self._went_well_before(step, progress)
        facts: dict[str, Any] = {}
        if ending.http_status is not None:
            facts["http_status"] = ending.http_status
        if progress.server is not None and step is Step.UPGRADE:
            facts["server"] = progress.server
            notes = (*notes, f"it was {progress.server} that answered")
        self._findings.fail_by(step, ending, hint, (*notes, *self._take_notes()), **facts)

    def _went_well_before(self, step: Step, progress: Progress) -> None:
        upgraded, challenged = progress.upgraded, progress.challenged
        if upgraded is not None and step is not Step.UPGRADE:
            seen = f"accepted{f' by {progress.server}' if progress.server else ''}"
            self._findings.well(Step.UPGRADE, seen, upgraded - progress.began)
        if upgraded is not None and challenged is not None and step is Step.CONNECT:
            ahead = progress.ahead
            self._findings.well(
                Step.CHALLENGE,
                "received",
                challenged - upgraded,
                progress.notes_on_clock,
                clock_ahead_s=None if ahead is None else round(ahead, 3),
            )

    def _greeted(self, hello: events.Hello) -> None:
        for ending in self._repaired:
            if ending.error is not None and ending.error.detail_code == TOKEN_MISMATCH:
                self._fail(ending, self._first, notes=(_COVERED_UP,))
        self._went_well_before(Step.CONNECT, self._progress)
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
        notes = (*(f"at first: {ending}" for ending in self._repaired), *self._take_notes())
        self._findings.well(Step.CONNECT, seen, seconds, notes, **facts)

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
            self._unanswered(error, gateway.last_ending)
        seconds = trio.current_time() - began
        if isinstance(payload, dict) and payload.get("ok") is False:
            self._findings.fail(Step.HEALTH, "the gateway says that it is not well", _UNWELL)
        seen = "the gateway answers, and is well"
        self._findings.well(Step.HEALTH, seen, seconds, self._take_notes())

    def _unanswered(self, error: RequestFailed | LocalProtocolError, ending: Ending | None) -> None:
        """Take down why a request has no result."""
        if ending is not None and ending.online:
            self._findings.fail_by(Step.HEALTH, ending, notes=self._take_notes())
        refusal = error.error if isinstance(error, RequestFailed) else None
        facts = known_of(refusal)
        self._findings.fail(Step.HEALTH, str(error), LOOK, self._take_notes(), **facts)
