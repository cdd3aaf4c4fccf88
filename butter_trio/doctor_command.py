"""``butter doctor``: the examination on a terminal, or as JSON."""

from __future__ import annotations

from typing import Any

import click
import trio

from butter_proto.trace import Traced
from butter_trio.access import Access
from butter_trio.doctor import LIMIT, examine
from butter_trio.findings import Finding
from butter_trio.interrupt import run_until_interrupted
from butter_trio.options import access_options
from butter_trio.output import json_text, tell
from butter_trio.show import show_finding, show_verdict
from butter_trio.words import MS


@click.command()
@click.argument("url", required=False)
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--trace",
    "traced",
    is_flag=True,
    help="Show what goes over the wire, without secrets: on stderr, or in the JSON.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=LIMIT,
    show_default=True,
    metavar="SECONDS",
    help="For each step.",
)
def doctor(url: str | None, access: Access, *, as_json: bool, traced: bool, timeout: float) -> int:
    """Go the whole way to URL, and tell where it ends, why, and what to do.

    Without URL the gateway of the setup code is examined.
    Looks at the name, the port, the proxy, TLS, the pin, the upgrade, the challenge, the connect
    request, the scopes and the health, in this order. Exit code 0: all of it is well.
    """
    where = url or access.url
    if where is None:
        raise click.UsageError("name the gateway's URL, or give a setup code that has it")

    async def main() -> int:
        began = trio.current_time()
        lines: list[dict[str, Any]] = []

        def on_traced(one: Traced) -> None:
            ms = (trio.current_time() - began) * MS
            if as_json:
                told = {"ms": round(ms, 3), "sent": one.sent, "size": one.size, "told": one.told}
                lines.append({"transport": one.transport_id, **told})
            else:
                tell(f"{ms:9.1f} ms {one}")

        findings = await examine(
            where,
            access,
            tell=_ignore if as_json else show_finding,
            trace=on_traced if traced else None,
            limit=timeout,
        )
        if as_json:
            report = findings.as_json()
            click.echo(json_text(report | {"trace": lines} if traced else report))
        else:
            show_verdict(findings)
        return 0 if findings.ok else 1

    return run_until_interrupted(main)


def _ignore(_: Finding) -> None:
    pass
