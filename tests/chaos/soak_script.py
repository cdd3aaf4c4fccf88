"""What the soak does to a connection each minute, and what has to follow.

Rules kept here:

* A row is a minute: a name, what is done, how many drops it must cause (not fewer: a fault that
  nothing notices proves nothing; not more: each one is an outage), how they may end, and within
  how many seconds after the hurt the connection is back, with the reason for that bound.
* The order is fixed, so that two runs can be compared. Every hurt is over before the next minute,
  and the last row is a short one: a run ends with it. So there is no row in which only our bytes
  are lost for good: the gateway goes on to ping and tick until it misses a pong, for 75 s at most.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from butter_proto.errors import EndKind
from tests.chaos.faults import PHASES, TABLE, Fault, Treatment
from tests.chaos.proxy import Proxy
from tests.live.real_gateway import RealGateway
from tests.live.restarts import restarted

_HANDSHAKE: Final = 3.0
"""Seconds for dial, upgrade, challenge and hello on a busy machine; it is about 0.05."""
_FIRST: Final = 1.0 + _HANDSHAKE
"""The first retry comes at most 1 s after an ending (``reconnect.base``)."""
_SILENCE: Final = 25.0
"""misses * interval + timeout of the default keepalive: a silent peer is gone after that."""
_CAP: Final = 30.0 + _HANDSHAKE
"""The longest pause between two attempts (``reconnect.cap``)."""
_OPEN: Final = 15.0
"""``timeouts.open``: an attempt that nobody answers."""


@attrs.frozen
class Site:
    """Where the soak happens."""

    proxy: Proxy
    gateway: RealGateway


@attrs.frozen
class Minute:
    """One fault; ``hurt`` returns when the harm is done, from when ``bound`` counts."""

    name: str
    hurt: Callable[[Site], Awaitable[None]]
    drops: int
    bound: float
    """Seconds; 0 where nothing may drop."""
    why: str
    endings: frozenset[EndKind] = frozenset()


async def _struck(fault: Fault, site: Site, *, heal_after: float | None = None) -> None:
    """Strike the line, and heal it after that many seconds where it is to live on."""
    site.proxy.strike(fault)
    if heal_after is not None:
        await trio.sleep(heal_after)
        site.proxy.heal()


async def _cut_and_meet(fault: Fault, site: Site) -> None:
    """Cut the line, and let the next one meet this."""
    site.proxy.meet(fault)
    site.proxy.strike(TABLE["cut"])


async def _refused(site: Site) -> None:
    site.proxy.shut()
    site.proxy.strike(TABLE["cut"])
    await trio.sleep(10)
    site.proxy.open()


async def _suspended(site: Site) -> None:
    with site.gateway.suspended():
        await trio.sleep(30)


async def _restarted(way: str, site: Site) -> None:
    await restarted(site.gateway, way)


def _line(name: str, bound: float, why: str, *endings: EndKind) -> Minute:
    return Minute(name, partial(_struck, TABLE[name]), 1, bound, why, frozenset(endings))


def _borne(name: str, seconds: float, fault: Fault | None = None) -> Minute:
    hurt = partial(_struck, fault or TABLE[name], heal_after=seconds)
    return Minute(f"{name}, {seconds:g} s", hurt, 0, 0.0, "nothing may drop")


_SLOW: Final = Treatment(size=1, pause=0.02)
_HALF: Final = Treatment(delay=0.3)
_GONE: Final = (EndKind.END_OF_STREAM, EndKind.CLOSED_BY_PEER, EndKind.TRANSPORT_FAILED)
"""The ways in which a gateway that goes away may be noticed."""

SCRIPT: Final[tuple[Minute, ...]] = (
    _line("cut", _FIRST, "first retry", EndKind.END_OF_STREAM),
    _line("half-open", _SILENCE + _FIRST, "silence, first retry", EndKind.SILENT_PEER),
    Minute(
        "SIGUSR2, restart in the process",
        partial(_restarted, "SIGUSR2"),
        1,
        _CAP,
        "one pause after it is ready",
        frozenset(_GONE),
    ),
    _borne("one byte at a time", 20, Fault(_SLOW, _SLOW)),
    _line("reset", _FIRST, "first retry", EndKind.TRANSPORT_FAILED),
    _line("garbage down", 10 + _FIRST, "next answer, first retry", EndKind.PROTOCOL_VIOLATION),
    _line("garbage up", 10 + _FIRST, "next probe, first retry", *_GONE),
    Minute(
        "dials refused, 10 s",
        _refused,
        1,
        _CAP,
        "one pause after the door is open",
        frozenset((EndKind.END_OF_STREAM,)),
    ),
    _borne("delay", 30, Fault(_HALF, _HALF)),
    _line("garbage in the middle up", 10 + _FIRST, "next probe, first retry", *_GONE),
    _borne("stall up", 12),
    _line("stall down", _SILENCE + _FIRST, "silence, first retry", EndKind.SILENT_PEER),
    Minute(
        "SIGSTOP, 30 s",
        _suspended,
        1,
        _OPEN + 2 + _FIRST,
        "an attempt that hangs, second retry",
        frozenset((EndKind.SILENT_PEER,)),
    ),
    _borne("duplicate down", 20),
    Minute(
        "SIGTERM, new process",
        partial(_restarted, "SIGTERM"),
        1,
        _CAP,
        "one pause after it is ready",
        frozenset(_GONE),
    ),
    _borne("duplicate up", 20),
    Minute(
        "cut, and the next dial is not answered",
        partial(_cut_and_meet, Fault(down=TABLE["half-open"].down)),
        1,
        1 + _OPEN + 2 + _HANDSHAKE,
        "first retry, an attempt that hangs, second retry",
        frozenset((EndKind.END_OF_STREAM,)),
    ),
    _line(
        "garbage in the middle down",
        10 + _FIRST,
        "next answer, first retry",
        *(EndKind.PROTOCOL_VIOLATION, EndKind.SILENT_PEER),
    ),
    Minute(
        "SIGKILL, new process",
        partial(_restarted, "SIGKILL"),
        1,
        _CAP,
        "one pause after it is ready",
        frozenset(_GONE),
    ),
    Minute(
        "cut, and the next hello is reset",
        partial(_cut_and_meet, attrs.evolve(TABLE["reset"], at=PHASES["hello"])),
        1,
        2 + _FIRST,
        "first retry, second retry",
        frozenset((EndKind.END_OF_STREAM,)),
    ),
)
"""It begins again after its last row."""
