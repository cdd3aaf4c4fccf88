"""The commands of ``butter``: check, call, watch, gateway; the others have own files.

Rules kept here:

* stdout has the result and nothing else; everything about the way there goes to stderr.
* Exit codes: 0 ok, 1 failed (with the reason and what to do), 2 wrong usage. Ctrl-C closes what is
  open and comes out as KeyboardInterrupt.
* What is expected to go wrong is one line, never a traceback. Secrets are `Secret` from
  the moment they are read, and are masked in payloads that repeat them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import attrs
import click
import trio

from butter_proto.device import MemoryStore
from butter_proto.endpoint import parse_url
from butter_proto.errors import ButterError, ConnectionEnded, RequestRefused
from butter_proto.events import EventsMissed, GatewayEvent
from butter_proto.identity import VERSION
from butter_proto.secret import LONG_ENOUGH, MASK, Secret, redact
from butter_proto.settings import MONTH, Dialect, Settings
from butter_proto.testing import StandInGateway
from butter_trio.access import Access
from butter_trio.background import background
from butter_trio.check import Report, Run, check, keepalive_for
from butter_trio.check_pool import check_pool
from butter_trio.client import Gateway
from butter_trio.device_command import device
from butter_trio.doctor_command import doctor
from butter_trio.hidden import hide
from butter_trio.interrupt import run_until_interrupted
from butter_trio.options import access_options, token_option, url_argument, urls_argument
from butter_trio.output import json_text, masked, prepare_streams, tell
from butter_trio.record_option import record_option
from butter_trio.replay_command import replay_command
from butter_trio.serve import serve
from butter_trio.show import progress, show_pool_report, show_report
from butter_trio.words import explain_failure, notable, trouble


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    prepare_streams()
    logging.getLogger("butter_trio").addHandler(logging.NullHandler())  # `tell` says it better
    try:
        code = butter.main(arguments, prog_name="butter", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(_without_secrets(shown.getvalue(), arguments), nl=False, err=True)
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:  # nobody reads our output any more; let the flush at exit find nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ConnectionEnded as error:
        tell(f"butter: {explain_failure(error)}")
    except ButterError as error:
        tell(f"butter: {error}")
    else:
        return int(code or 0)
    return 1


def _without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Mask what click quotes of a command line whose secrets stand where it expects none.

    A short one is masked where it stands alone: in the middle of our own words it would show
    itself.
    """
    secrets = hide(arguments)[1]
    quoted = {*secrets, *(repr(secret)[1:-1] for secret in secrets)} - {""}
    for each in quoted:
        if len(each) < LONG_ENOUGH:
            text = re.sub(rf"(?<!\w){re.escape(each)}(?!\w)", MASK, text)
    return redact(text, (Secret(each) for each in quoted if len(each) >= LONG_ENOUGH))


def _to_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}") from None


_timeout = click.option(
    "--timeout",
    type=click.FloatRange(0.001, MONTH),
    default=30,
    show_default=True,
    metavar="SECONDS",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="butter")
def butter() -> None:
    """Check an OpenClaw Gateway, call it, watch its events, or stand in for one.

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 130 after Ctrl-C.
    """


butter.add_command(device)
butter.add_command(doctor)
butter.add_command(replay_command)


# --- check ----------------------------------------------------------------------------------


@butter.command("check")
@urls_argument
@access_options
@record_option
@click.option(
    "--duration",
    type=click.FloatRange(1, MONTH),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Counted from the handshake.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and no progress.")
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    default=Dialect.GATEWAY_V4.value,
    show_default=True,
)
def check_command(
    *, urls: tuple[str, ...], access: Access, duration: float, as_json: bool, dialect: str
) -> int:
    """Stay connected to URL and tell how that went.

    Several URLs are checked as one pool, the best first: each gateway by itself, and how often
    another one had to take over. --duration then counts from the last handshake.

    Without URL the gateway of the setup code is checked, or else the embedded stand-in. Exit code
    0: the handshake came within 15 s of the first attempt and nothing dropped. The gateway is
    probed every 10 s, in a test under 60 s about six times (at most every 0.5 s).
    """
    where = urls or ((access.url,) if access.url is not None else ())
    if not where and access.settings.bootstrap_token is not None:
        raise click.UsageError("a bootstrap token says no URL: name the gateway's")
    settings = attrs.evolve(
        access.settings, dialect=Dialect(dialect), keepalive=keepalive_for(duration)
    )
    access = attrs.evolve(access, settings=settings)

    async def main() -> int:
        if not where:
            return await _check_stand_in(access, duration, as_json=as_json)
        if not urls:
            shown = parse_url(where[0])[0]
            click.echo(f"no URL: checking {shown}, as the setup code says", err=as_json)
        if len(where) > 1:
            return await _check_pool(where, access, duration, as_json=as_json)
        return await _check(where[0], access, duration, as_json=as_json)

    return run_until_interrupted(main)


async def _check_stand_in(access: Access, duration: float, *, as_json: bool) -> int:
    settings, signing = access.settings, access.device
    if settings.token is None and settings.password is None:
        # the original dialect never goes without one, nor is a device approved without
        settings = attrs.evolve(settings, token=secrets.token_urlsafe())
    if signing is not None:  # each run has a port, and so an origin, of its own
        signing = attrs.evolve(signing, tokens=MemoryStore())
    access = attrs.evolve(access, settings=settings, device=signing)
    async with serve(_stand_in(settings)) as url:
        click.echo(f"no URL: checking the embedded stand-in at {url}", err=as_json)
        return await _check(url, access, duration, as_json=as_json)


def _stand_in(settings: Settings) -> StandInGateway:
    token, password = settings.token, settings.password
    return StandInGateway(
        seed=secrets.randbits(32),  # each process has a boot id of its own
        token=None if token is None else token.reveal(),
        password=None if password is None or token is not None else password.reveal(),
        legacy=settings.dialect is Dialect.OPENBUTTER_V1,
        wall_clock=lambda _: time.time_ns() // 1_000_000,
    )


async def _check(url: str, access: Access, duration: float, *, as_json: bool) -> int:
    if as_json:
        report = await check(url, access, duration, show=_show_nothing, warn=tell)
        click.echo(json.dumps(attrs.asdict(report)))
    else:
        report = await _check_with_progress(url, access, duration)
        show_report(report)
    return 0 if report.ok else 1


async def _check_with_progress(url: str, access: Access, duration: float) -> Report:
    with progress(duration) as (show, warn):
        return await check(url, access, duration, show=show, warn=warn)


async def _check_pool(
    urls: Sequence[str], access: Access, duration: float, *, as_json: bool
) -> int:
    if as_json:
        report = await check_pool(urls, access, duration, show=_show_nothing, warn=tell)
        click.echo(json.dumps(attrs.asdict(report)))
    else:
        with progress(duration) as (show, warn):
            report = await check_pool(urls, access, duration, show=show, warn=warn)
        show_pool_report(report)
    return 0 if report.ok else 1


def _show_nothing(_: Run) -> None:
    pass


# --- call -----------------------------------------------------------------------------------


@butter.command()
@url_argument()
@click.argument("method")
@click.argument("params", type=_to_json, required=False, metavar="[PARAMS_JSON]")
@access_options
@record_option
@_timeout
def call(url: str, method: str, params: Any, access: Access, timeout: float) -> int:
    """Call METHOD at URL and print its payload as JSON.

    --timeout seconds are for connecting, the approval of a device and the answer together.
    """

    async def main() -> int:
        deadline = trio.current_time() + timeout
        async with (
            access.connect(url, wait=False) as gateway,
            background(partial(_tell_notices, gateway)),
        ):
            await gateway.wait_online(timeout)
            left = max(deadline - trio.current_time(), 0.001)
            payload = await gateway.request(method, params, timeout=left)
        click.echo(json_text(masked(payload, access.settings), indent=2))
        return 0

    try:
        return run_until_interrupted(main)
    except RequestRefused as refusal:
        _tell_refusal(refusal)
        return 1


def _tell_refusal(refusal: RequestRefused) -> None:
    error = refusal.error
    assert error is not None
    tell(f"{error.code}: {error.message}")
    if error.details is not None:
        tell(json_text(error.details))


# --- watch ----------------------------------------------------------------------------------


@butter.command()
@url_argument()
@click.argument("events", nargs=-1, metavar="[EVENT]...")
@access_options
@record_option
@_timeout
def watch(url: str, events: tuple[str, ...], access: Access, timeout: float) -> int:
    """Print the events of URL (those named EVENT, or all), one JSON object a line.

    Gaps and reconnects are told on stderr. --timeout is for the first handshake.
    """

    async def main() -> int:
        async with (
            access.connect(url, wait=False) as gateway,
            gateway.events(*events) as stream,
            background(partial(_tell_states, gateway)),
            background(partial(_tell_notices, gateway)),
        ):
            await gateway.wait_online(timeout)
            await _print_events(stream, access.settings)
        return 0

    return run_until_interrupted(main)


async def _tell_states(gateway: Gateway) -> None:
    async for event in gateway.states():
        if (text := trouble(event)) is not None:
            tell(text)


async def _tell_notices(gateway: Gateway) -> None:
    async for notice in gateway.notices():
        if (text := notable(notice)) is not None:
            tell(text)


async def _print_events(
    stream: AsyncIterator[GatewayEvent | EventsMissed], settings: Settings
) -> None:
    async for item in stream:
        if isinstance(item, EventsMissed):
            tell(trouble(item) or "")
            continue
        line = {
            "event": item.name,
            "payload": masked(item.payload, settings),
            "seq": item.seq,
            "stateVersion": item.state_version,
        }
        # in a thread: whoever reads our stdout may be slow, and the gateway must be answered
        await trio.to_thread.run_sync(click.echo, json_text(line))


# --- gateway --------------------------------------------------------------------------------


@butter.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Left out: any."
)
@token_option
def gateway(port: int, token: Secret | None) -> int:
    """Serve the stand-in gateway on loopback until Ctrl-C, and print its URL.

    Without a token it lets everybody in.
    """

    async def main() -> int:
        async with serve(_stand_in(Settings(token=token)), port=port) as url:
            click.echo(url)
            return await trio.sleep_forever()

    try:
        return run_until_interrupted(main)
    except BrokenPipeError:
        raise
    except OSError as error:
        tell(f"butter: port {port} cannot be served: {error.strerror or error}")
        return 1
