"""Operations on a pool that is driven directly: a `World` whose machine is one.

Its gateways have the hosts ``a.local``, ``b.local`` ..., and a boot id each; the strategies of
strategies.py drive it as they drive a connector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, cast

import attrs
from hypothesis import strategies as st

from butter_proto import CLI, Connector, Device, Offline, Pool, PoolGateway, Settings, events
from butter_proto.machine import OpenTransport, State
from tests.proto import strategies
from tests.proto.gateway_side import Speech, challenged, upgraded, welcomed
from tests.proto.operations import ALL, Hashing, Ids, Input, Op, Step, World, op, replay

HOSTS: Final = ("a", "b", "c")
NAMES: Final = ("a", "b", "c", "a2", "d")


@attrs.frozen
class Plan:
    """What a pool is made of."""

    names: tuple[str, ...] = ("a", "b")
    """The first letter is the host; ``a`` and ``a2`` are two connections to one gateway."""
    shared_state: bool = False
    hold_queue: bool = False


def gateway_of(name: str, settings: Settings) -> PoolGateway:
    """Return what a pool is told of a gateway; with the id of `CLI` it is a device."""
    is_device = settings.identity is not None and settings.identity.id == CLI.id
    device = Device(Hashing()) if is_device else None
    return PoolGateway(f"ws://{name[0]}.local:18789", name=name, device=device)


def new_pool(settings: Settings, plan: Plan, ids: Ids | None = None) -> Any:
    """Make a pool whose chance is the same each time; typed as the machine of a `World`."""
    pool = Pool(
        [gateway_of(name, settings) for name in plan.names],
        settings,
        random=Random(7).random,
        entropy=lambda size: bytes(range(1, size + 1)),
        next_request_id=ids or Ids(),
        shared_state=plan.shared_state,
        hold_queue=plan.hold_queue,
    )
    return cast("Connector", pool)


def replay_pool(
    inputs: Iterable[Input], settings: Settings, plan: Plan, chunks: Sequence[int] = (ALL,)
) -> list[Step]:
    """Give these inputs to a new pool, and pull after each of them."""
    return replay(inputs, settings, chunks, machine=new_pool(settings, plan))


class PoolWorld(World):
    """One pool, everything it was given and everything it told."""

    def __init__(self, settings: Settings, plan: Plan | None = None) -> None:
        super().__init__(settings)
        self.plan = plan or Plan()
        self.ids = Ids()
        self.machine = new_pool(settings, self.plan, self.ids)

    @property
    def pool(self) -> Pool:
        return cast("Pool", self.machine)

    @property
    def told(self) -> list[Any]:
        return super().told

    @property
    def hosts(self) -> dict[int, str]:
        """Where each transport was opened to."""
        return {one.id: one.host for one in self.commands if isinstance(one, OpenTransport)}

    def online(self, phase: int = 3, which: int = 0) -> None:
        """Lead one connection through the handshake, or through some steps of it."""
        if self.machine.state is State.IDLE:
            self.give("start")
        if not self._greeting:
            self.reconnect_now()
            self.now = max(self.now, self.machine.retry_at or self.now)
            self.give("handle_timeout")
        if self._greeting:
            self._greet(self._greeting[which % len(self._greeting)], phase)

    def all_online(self) -> PoolWorld:
        """Lead every connection through the handshake, the first one first."""
        for _ in self.plan.names:
            self.online()
        return self

    def remove(self, which: int, drain: float = 30.0) -> None:
        self.give("remove", NAMES[which % len(NAMES)], drain=drain)

    def add(self, which: int) -> None:
        self.give("add", gateway_of(NAMES[which % len(NAMES)], self.settings))

    def resynced(self, which: int = 0) -> None:
        self.give("resynced", self._transport(which))

    def ask_one(self, which: int, **options: Any) -> None:
        """Make a request that names its gateway."""
        self.request(gateway=NAMES[which % len(NAMES)], **options)

    @property
    def _greeting(self) -> list[int]:
        return [one for one in self.open if self.peers[one].phase < 3]

    def _greet(self, transport_id: int, phase: int) -> None:
        peer = self.peers[transport_id]
        host = self.hosts[transport_id]
        handshake: tuple[Speech, ...] = (
            upgraded,
            challenged,
            partial(welcomed, boot_id=f"boot of {host}"),
        )
        which = [*reversed(self.peers)].index(transport_id)
        self.opened(which)
        for speech in handshake[peer.phase : phase]:
            peer.phase += 1
            self.say([speech], which=which)
        if phase == len(handshake):
            self.stored(which=which)


def plain(event: events.PoolEvent) -> events.Event:
    """Return an event without the name of its gateway."""
    return event.event if isinstance(event, events.FromGateway) else event


# --- strategies ----------------------------------------------------------------------------------

plans = st.builds(
    Plan,
    st.sampled_from([("a",), ("a", "b"), ("a", "b"), ("a", "a2"), ("a", "b", "a2"), ()]),
    st.booleans(),
    st.booleans(),
)
_few = st.integers(0, 4)
_options = {
    "offline": st.sampled_from(Offline),
    "timeout": strategies.timeouts,
    "retry_unavailable": st.booleans(),
}


def _op(method: Any, /, **arguments: Any) -> st.SearchStrategy[Op]:
    return st.builds(Op, st.just(method.__name__), st.fixed_dictionaries(arguments))


wishes = st.one_of(
    _op(PoolWorld.online, which=_few),
    _op(PoolWorld.online, which=_few),
    _op(PoolWorld.online, which=_few, phase=st.integers(0, 3)),
    _op(PoolWorld.ended, which=_few),
    _op(PoolWorld.remove, which=_few, drain=st.sampled_from([0.0, 0.5, 30.0, -1.0])),
    _op(PoolWorld.add, which=_few),
    _op(PoolWorld.resynced, which=_few),
    _op(PoolWorld.ask_one, which=_few, offline=st.sampled_from(Offline)),
    _op(PoolWorld.request, spread=st.booleans(), **_options),
    _op(PoolWorld.request, **_options),
)
replays = _op(PoolWorld.request, replay=st.just(True), spread=st.booleans(), **_options)
"""Requests that may be sent again."""


def pool_runs(*more: st.SearchStrategy[Op]) -> st.SearchStrategy[list[Op]]:
    """Draw the operations of one run on a pool; most have all its gateways online at once."""
    begin = st.sampled_from([[], [op(PoolWorld.all_online)], [op(PoolWorld.all_online)]])
    return st.builds(
        lambda first, rest: [*first, *rest], begin, strategies.runs(wishes, wishes, *more)
    )
