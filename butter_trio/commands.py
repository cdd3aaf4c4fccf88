"""The commands of ``butter``: check, call, watch, gateway.

Rules kept here:

* stdout has the result and nothing else; everything about the way there goes to stderr.
* Exit codes: 0 ok, 1 failed (with the reason and what to do), 2 wrong usage. Ctrl-C closes what is
  open and comes out as KeyboardInterrupt.
* What is expected to go wrong is one line, never a traceback. The token is a `Secret` from the
  moment it is read, and is masked in payloads that repeat it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final

import attrs
import click
import trio

from butter_proto.errors import ButterError, ConnectionEnded, InvalidSettings, RequestRefused
from butter_proto.events import EventsMissed, GatewayEvent
from butter_proto.identity import VERSION
from butter_proto.journal import printable
from butter_proto.secret import Secret, redact
from butter_proto.settings import MONTH, Dialect, Settings
from butter_proto.testing import StandInGateway
from butter_trio.background import background
from butter_trio.check import Report, Run, check, keepalive_for
from butter_trio.client import Gateway, connect
from butter_trio.interrupt import run_until_interrupted
from butter_trio.serve import serve
from butter_trio.show import progress, show_report
from butter_trio.words import (
    TOKEN_VARIABLE,
    explain_failure,
    notable,
    trouble,
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    logging.getLogger("butter_trio").addHandler(logging.NullHandler())  # `tell` says it better
    try:
        code = butter.main(arguments, prog_name="butter", standalone_mode=False)
    except click.ClickException as error:
        error.show()
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


def tell(text: str) -> None:
    """Show the operator one line, on stderr."""
    click.echo(printable(text), err=True)


def _to_secret(text: str) -> Secret:
    try:
        return Secret(text)
    except InvalidSettings as error:
        raise click.BadParameter(str(error)) from None


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
_token = click.option(
    "--token",
    type=_to_secret,
    metavar="TOKEN",
    envvar=TOKEN_VARIABLE,
    help=f"Better set {TOKEN_VARIABLE}: other users of this machine may see a command line for a "
    "moment, until butter has hidden it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="butter")
def butter() -> None:
    """Check an OpenClaw Gateway, call it, watch its events, or stand in for one.

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 130 after Ctrl-C.
    """


# --- check ----------------------------------------------------------------------------------


@butter.command("check")
@click.argument("url", required=False)
@_token
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
    *, url: str | None, token: Secret | None, duration: float, as_json: bool, dialect: str
) -> int:
    """Stay connected to URL and tell how that went.

    Without URL the embedded stand-in gateway is checked. Exit code 0: the handshake came within 15
    s of the first attempt and nothing dropped. The gateway is probed every 10 s, in a test under 60
    s about six times (at most every 0.5 s).
    """
    if url is None and token is None:
        token = Secret(secrets.token_urlsafe())  # the original dialect never goes without one
    settings = Settings(dialect=Dialect(dialect), token=token, keepalive=keepalive_for(duration))

    async def main() -> int:
        if url is not None:
            return await _check(url, settings, duration, as_json=as_json)
        async with serve(_stand_in(token, settings.dialect)) as own_url:
            click.echo(f"no URL: checking the embedded stand-in at {own_url}", err=as_json)
            return await _check(own_url, settings, duration, as_json=as_json)

    return run_until_interrupted(main)


def _stand_in(token: Secret | None, dialect: Dialect = Dialect.GATEWAY_V4) -> StandInGateway:
    return StandInGateway(
        seed=secrets.randbits(32),  # each process has a boot id of its own
        token=None if token is None else token.reveal(),
        legacy=dialect is Dialect.OPENBUTTER_V1,
    )


async def _check(url: str, settings: Settings, duration: float, *, as_json: bool) -> int:
    if as_json:
        report = await check(url, settings, duration, show=_show_nothing, warn=tell)
        click.echo(json.dumps(attrs.asdict(report)))
    else:
        report = await _check_with_progress(url, settings, duration)
        show_report(report)
    return 0 if report.ok else 1


async def _check_with_progress(url: str, settings: Settings, duration: float) -> Report:
    with progress(duration) as (show, warn):
        return await check(url, settings, duration, show=show, warn=warn)


def _show_nothing(_: Run) -> None:
    pass


# --- call -----------------------------------------------------------------------------------


@butter.command()
@click.argument("url")
@click.argument("method")
@click.argument("params", type=_to_json, required=False, metavar="[PARAMS_JSON]")
@_token
@_timeout
def call(url: str, method: str, params: Any, token: Secret | None, timeout: float) -> int:
    """Call METHOD at URL and print its payload as JSON.

    --timeout seconds are for connecting and the answer together.
    """
    settings = Settings(token=token)

    async def main() -> int:
        deadline = trio.current_time() + timeout
        async with connect(url, settings=settings, timeout=timeout) as gateway:
            left = max(deadline - trio.current_time(), 0.001)
            payload = await gateway.request(method, params, timeout=left)
        click.echo(_json(_masked(payload, settings), indent=2))
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
        tell(_json(error.details))


# --- watch ----------------------------------------------------------------------------------


@butter.command()
@click.argument("url")
@click.argument("events", nargs=-1, metavar="[EVENT]...")
@_token
@_timeout
def watch(url: str, events: tuple[str, ...], token: Secret | None, timeout: float) -> int:
    """Print the events of URL (those named EVENT, or all), one JSON object a line.

    Gaps and reconnects are told on stderr. --timeout is for the first handshake.
    """
    settings = Settings(token=token)

    async def main() -> int:
        async with (
            connect(url, settings=settings, wait=False) as gateway,
            gateway.events(*events) as stream,
            background(partial(_tell_states, gateway)),
            background(partial(_tell_notices, gateway)),
        ):
            await gateway.wait_online(timeout)
            await _print_events(stream, settings)
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
            "payload": _masked(item.payload, settings),
            "seq": item.seq,
            "stateVersion": item.state_version,
        }
        # in a thread: whoever reads our stdout may be slow, and the gateway must be answered
        await trio.to_thread.run_sync(click.echo, _json(line))


# --- gateway --------------------------------------------------------------------------------


@butter.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Left out: any."
)
@_token
def gateway(port: int, token: Secret | None) -> int:
    """Serve the stand-in gateway on loopback until Ctrl-C, and print its URL.

    Without a token it lets everybody in.
    """

    async def main() -> int:
        async with serve(_stand_in(token), port=port) as url:
            click.echo(url)
            return await trio.sleep_forever()

    try:
        return run_until_interrupted(main)
    except BrokenPipeError:
        raise
    except OSError as error:
        tell(f"butter: port {port} cannot be served: {error.strerror or error}")
        return 1


# --- what they share ------------------------------------------------------------------------


def _masked(payload: Any, settings: Settings) -> Any:
    """Mask the token in a payload, if it is long enough to be one: a short one rewrites data."""
    long = (secret for secret in settings.secrets if len(secret.reveal()) >= _MASKED_FROM)
    return redact(payload, long)


_MASKED_FROM: Final = 8
"""Characters of a token from which payloads that repeat it are masked."""
_UNPRINTABLE = re.compile(
    r"[\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
"""Controls, direction marks, lone surrogates: JSON need not escape them, a terminal obeys them."""


def _json(value: Any, indent: int | None = None) -> str:
    """Write JSON as readable as the output's encoding and a terminal's safety allow."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
