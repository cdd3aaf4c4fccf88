"""The soak: ``butter check`` for an hour against the real gateway, hurt once a minute.

    python -m tests.chaos.soak --minutes 60 --json soak.json

Rules kept here:

* The command is the real one, in a process of its own; between it and the gateway stands a proxy
  that does what `soak_script.SCRIPT` says. Its report says what it noticed, the proxy says when.
* ``butter check`` exits 1 after a drop, by its rule. The soak's verdict is its own: each fault
  caused exactly the drops it must, each was told as it was, and the connection was back within the
  bound; the process took no more memory, descriptors or threads as time went by.
* Exit code 0: all of that. What is not so is named.

On Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from subprocess import PIPE
from typing import Final

import attrs
import trio

from tests.chaos.process import usage
from tests.chaos.proxy import Proxy
from tests.chaos.soak_script import SCRIPT, Minute, Site
from tests.chaos.soak_verdict import MINUTE, Hurt, Soaked, judged
from tests.live.ports import free_port
from tests.live.real_gateway import RealGateway

HANDSHAKE: Final = 30.0
"""Seconds until the first hello; the command itself gives up after 15."""
TOP: Final = Path(__file__).parents[2]


async def soak(minutes: int) -> Soaked:
    """Run it: so many minutes, one fault soon after each begins."""
    with RealGateway() as gateway:
        proxy = Proxy(gateway.url, free_port())
        async with proxy.serving(), trio.open_nursery() as nursery:
            seconds = minutes * MINUTE
            command = [sys.executable, "-m", "butter_trio.cli", "check", proxy.url, "--json"]
            process: trio.Process = await nursery.start(
                _run, [*command, "--duration", f"{seconds:g}"], gateway.token
            )
            first_hello = await _first_hello(proxy)
            site = Site(proxy, gateway)
            hurts = list[Hurt]()
            for number, minute in enumerate(islice(cycle(SCRIPT), minutes)):
                await trio.sleep_until(first_hello + (number + 0.1) * MINUTE)
                if process.returncode is not None:  # it gave up; its report says why
                    break
                hurts.append(await _strike(minute, site, process.pid))
            samples = [hurt.usage for hurt in hurts]
            await trio.sleep_until(first_hello + seconds - 1)
            if process.returncode is None:
                samples.append(usage(process.pid))
            assert process.stdout is not None
            printed = b"".join([bytes(chunk) async for chunk in process.stdout])
            await process.wait()
    return judged(json.loads(printed), hurts, samples, first_hello, minutes)


async def _run(
    command: Sequence[str],
    token: str,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
) -> None:
    environment = os.environ | {"OPENCLAW_GATEWAY_TOKEN": token}
    process = await trio.lowlevel.open_process(list(command), env=environment, cwd=TOP, stdout=PIPE)
    task_status.started(process)
    try:
        await process.wait()
    finally:
        process.kill()


async def _first_hello(proxy: Proxy) -> float:
    with trio.fail_after(HANDSHAKE):
        while True:
            for line in proxy.history:
                if line.hello_at is not None:
                    return line.hello_at
            await trio.sleep(0.02)


async def _strike(minute: Minute, site: Site, pid: int) -> Hurt:
    taken = usage(pid)
    began = trio.current_time()
    await minute.hurt(site)
    hurt = Hurt(minute, began, trio.current_time(), taken)
    print(f"{minute.name}: {hurt.until - began:.1f} s  {taken}", file=sys.stderr, flush=True)
    return hurt


def show(soaked: Soaked) -> None:
    """Print the run as a table, with what is wrong below it."""
    print("| min | fault | drop told as | offline s | back after s | bound s | KiB | fd | thr |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for each in soaked.struck:
        endings = ", ".join(drop["ending"] for drop in each.drops) or "-"
        offline = ", ".join(str(drop["offline_s"]) for drop in each.drops) or "-"
        back = "-" if each.back_after_s is None else f"{each.back_after_s:.2f}"
        taken = f"{each.usage.rss_kib} | {each.usage.descriptors} | {each.usage.threads}"
        row = f"{each.at_s / MINUTE:.1f} | {each.fault} | {endings} | {offline} | {back}"
        print(f"| {row} | {each.bound_s:g} | {taken} |")
    report = soaked.report
    print(
        f"\n{soaked.minutes} minutes: {report['disconnects']} disconnects "
        f"({soaked.drops_expected} expected), {report['reconnects']} reconnects, "
        f"{report['online_s']} s online, {soaked.cpu_s} s of CPU, round trip p50 "
        f"{report['rtt_ms']['p50']} ms, {report['probes']} probes, {report['missed']} missed"
    )
    for what in soaked.wrong:
        print(f"WRONG: {what}")
    print("ok" if soaked.ok else "not ok")


def main() -> int:
    """Parse the arguments, run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="one fault each (default: 60)")
    parser.add_argument("--json", type=Path, help="where to write the result as JSON")
    arguments = parser.parse_args()
    soaked = trio.run(soak, arguments.minutes)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(attrs.asdict(soaked), indent=1) + "\n")
    show(soaked)
    return 0 if soaked.ok else 1


if __name__ == "__main__":
    sys.exit(main())
