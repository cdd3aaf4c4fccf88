"""A gateway restarts and all of its clients come back at once: who is online again, and when.

    python -m benchmarks.storm                      # 1,000, 10,000 and 100,000 clients; a table
    python -m benchmarks.storm --plot storm.png     # and a chart (extra `bench`)
    python -m benchmarks.storm --quick              # seconds, for CI

Rules kept here:

* Time is virtual: nothing sleeps, and the same seed gives the same figures on any machine.
* A client is its reconnect policy and nothing else; all policies have the signature of
  `reconnect.decide` and meet the same gateway. `storm_connectors.py` does it with whole Connectors.
* What the gateway can take stands in storm_gateway.py.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import attrs

from benchmarks.storm_connectors import Cost, cost_of_connectors
from benchmarks.storm_gateway import ENOUGH, Gateway
from butter_proto.errors import Ending, EndKind, FaultKind, TransportFault
from butter_proto.reconnect import Action, Attempts, Decision, decide
from butter_proto.settings import ReconnectSettings

SIZES: Final = (1_000, 10_000, 100_000)
CONNECTORS: Final = (1_000, 10_000)
LONGEST: Final = 3600.0
"""Virtual seconds after which a storm is not watched any longer."""

_DROPPED: Final = Ending(
    EndKind.CLOSED_BY_PEER,
    close_code=1012,
    close_reason="service restart",
    transport_opened=True,
    online=True,
)
_NOBODY: Final = Ending(
    EndKind.TRANSPORT_FAILED, fault=TransportFault(FaultKind.REFUSED, "nothing listens there")
)
_BUSY: Final = Ending(EndKind.UPGRADE_REFUSED, http_status=503, transport_opened=True)


Policy = Callable[[Ending, Attempts, ReconnectSettings, Callable[[], float]], Decision]
"""What an ending means: the signature of `reconnect.decide`."""


def original(
    _: Ending, attempts: Attempts, settings: ReconnectSettings, __: Callable[[], float]
) -> Decision:
    """Do what the original connector did: 1, 2, 4, 8, 16 s and no jitter, then give up."""
    if attempts.failures > 5:  # noqa: PLR2004 - its five tries
        return Decision(Action.STOP)
    return Decision(Action.RETRY, settings.base * 2.0 ** (attempts.failures - 1))


def reference(
    _: Ending, attempts: Attempts, settings: ReconnectSettings, __: Callable[[], float]
) -> Decision:
    """Do what the reference client does: doubling from 1 s to 30 s, no jitter, for ever."""
    exponent = min(attempts.failures - 1, 10)
    return Decision(Action.RETRY, min(settings.cap, settings.base * 2.0**exponent))


POLICIES: Final[dict[str, Policy]] = {
    "the original": original,
    "reference client": reference,
    "openbutter": decide,
}


@attrs.define
class Storm:
    """What one policy made of it."""

    policy: str
    clients: int
    attempts: Counter[int] = attrs.field(factory=Counter)
    """Connects in each second since the drop."""
    online: Counter[int] = attrs.field(factory=Counter)
    """Clients that came online in each second."""
    refused: int = 0
    given_up: int = 0
    recovered_at: float | None = None
    """When `ENOUGH` of all were online again, in seconds since the drop."""

    @property
    def peak(self) -> int:
        """The most connects in one second."""
        return max(self.attempts.values(), default=0)

    @property
    def back(self) -> float:
        """The share of the clients that came back."""
        return self.online.total() / self.clients


def storm(name: str, clients: int, gateway: Gateway, seed: int) -> Storm:
    """Let all clients drop at 0 s and come back by a policy."""
    policy, settings = POLICIES[name], ReconnectSettings()
    random = Random(seed).random  # noqa: S311 - the jitter
    result = Storm(name, clients)
    enough = ENOUGH * clients
    came = 0
    failures = [0] * clients
    free_at = gateway.down
    """When the gateway is done with all that it has taken."""

    def after(ending: Ending, client: int, now: float) -> None:
        failures[client] += 1
        decision = policy(ending, Attempts(failures[client]), settings, random)
        if decision.action is Action.STOP:
            result.given_up += 1
        else:
            heapq.heappush(due, (now + decision.delay, client))

    due: list[tuple[float, int]] = []
    for client in range(clients):
        after(_DROPPED, client, random() * gateway.spread)
    while due and due[0][0] < LONGEST:
        now, client = heapq.heappop(due)
        result.attempts[int(now)] += 1
        if now < gateway.down:
            result.refused += 1
            after(_NOBODY, client, now)
        elif free_at - now > gateway.longest_queue:
            result.refused += 1
            after(_BUSY, client, now)
        else:
            free_at = max(free_at, now) + gateway.place
            came += 1
            result.online[int(free_at)] += 1
            if came >= enough and result.recovered_at is None:
                result.recovered_at = free_at
    return result


def table(storms: list[Storm]) -> Iterator[str]:
    """Yield the lines of the result, as Markdown."""
    yield "| clients | policy | peak connects/s | refused | 99 % online after | given up |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in storms:
        when = f"{one.recovered_at:.1f} s" if one.recovered_at is not None else "never"
        if one.recovered_at is None:
            when += f" ({one.back:.0%} in an hour)"
        cells = f"{one.clients:,}", one.policy, f"{one.peak:,}", f"{one.refused:,}", when
        yield f"| {' | '.join(cells)} | {one.given_up:,} |"


def cost_table(costs: list[Cost]) -> Iterator[str]:
    """Yield the lines of what whole Connectors cost, as Markdown."""
    yield "| Connectors | kB each | CPU per reconnect | 99 % online after | connects |"
    yield "| --- | --- | --- | --- | --- |"
    for one in costs:
        yield (
            f"| {one.connectors:,} | {one.kilobytes:.1f} | {one.microseconds:.0f} us "
            f"| {one.recovered_at:.1f} s | {one.connects:,} |"
        )


def plot(storms: list[Storm], path: Path) -> None:
    """Draw connects and clients online over time, for the largest number of clients."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - needs an extra

    clients = max(one.clients for one in storms)
    shown = [one for one in storms if one.clients == clients]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6))
    recovered = [one.recovered_at for one in shown if one.recovered_at is not None]
    end = int(min(LONGEST, 4 * min(recovered))) if recovered else int(LONGEST)
    seconds = range(end)
    for one, style in zip(shown, ("-", "--", "-"), strict=False):  # two are alike for a minute
        counts = [one.attempts[second] for second in seconds]
        above.plot(seconds, counts, style, label=one.policy)
        came = 0
        share = []
        for second in seconds:
            came += one.online[second]
            share.append(100 * came / clients)
        below.plot(seconds, share, style, label=one.policy)
    above.set_yscale("symlog")
    above.set_ylabel("connects in a second")
    above.set_title(f"{clients:,} clients of one gateway that restarts at 0 s")
    above.legend()
    below.set_ylabel("online again, %")
    below.set_xlabel("seconds since the drop")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> int:
    """Run the storms and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=SIZES)
    parser.add_argument("--connectors", type=int, nargs="*", default=CONNECTORS)
    parser.add_argument("--rate", type=float, default=Gateway().rate, help="handshakes a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="a PNG; needs matplotlib (extra `bench`)")
    parser.add_argument("--quick", action="store_true", help="1,000 clients and 200 Connectors")
    options = parser.parse_args(arguments)
    sizes = (1_000,) if options.quick else options.clients
    connectors = (200,) if options.quick else options.connectors
    gateway = Gateway(rate=options.rate)
    storms = [storm(name, size, gateway, options.seed) for size in sizes for name in POLICIES]
    print("\n".join(table(storms)))
    print()
    costs = [cost_of_connectors(size, gateway, options.seed) for size in connectors]
    print("\n".join(cost_table(costs)))
    if options.plot is not None:
        plot(storms, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
