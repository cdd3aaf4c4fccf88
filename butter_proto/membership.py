"""Who belongs to a pool: its gateways come and go, and own their transports.

Rules kept here:

* A gateway that is gone is forgotten with its name, its transports and its window: nothing here
  grows with those that came and went.
* One that leaves is still served until all that it has is answered, or its time is up. That is
  looked at when time is handled, never in the middle of what a transport brings (G3).
* All connections to one gateway share its places in flight, and by default their priority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from butter_proto.connector import Connector
from butter_proto.counters import added_up
from butter_proto.device import DeviceToken
from butter_proto.errors import InvalidParams, InvalidSettings
from butter_proto.machine import Stats
from butter_proto.pool_gateway import REMEMBERED, Member, PoolGateway, named
from butter_proto.settings import Settings
from butter_proto.standing import Standing
from butter_proto.timers import TICK
from butter_proto.window import Window

Connect = Callable[[Member, PoolGateway, Settings], Connector]
"""Makes the connector of a new member, with its settings in the pool."""


class Membership:
    """The gateways of one pool."""

    __slots__ = (
        "_connect",
        "_hold_queue",
        "_left",
        "_next_transport_id",
        "_owners",
        "_served",
        "_settings",
        "members",
    )

    def __init__(
        self,
        settings: Settings,
        connect: Connect,
        next_transport_id: Callable[[], int],
        *,
        hold_queue: bool,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._next_transport_id = next_transport_id
        self._hold_queue = hold_queue
        self._owners: dict[int, Member] = {}
        self._served: list[Member] = []
        self._left = Stats()
        self.members: dict[str, Member] = {}
        """All that are not gone, by name, in the order in which they came."""

    # --- coming -----------------------------------------------------------------------------

    def admit(self, gateway: PoolGateway | str, device_token: DeviceToken | None = None) -> Member:
        """Take a gateway in. Raises `InvalidSettings`; then nothing was changed."""
        if isinstance(gateway, str):
            gateway = PoolGateway(gateway)
        settings = gateway.settings_in(self._settings)
        if settings.json_rpc is not self._settings.json_rpc:
            raise InvalidSettings("all gateways of a pool speak JSON-RPC, or none")
        name = named(gateway, self.members)
        place, priority = gateway.place, gateway.priority
        same = next((one for one in self.members.values() if one.place == place), None)
        if priority is None:
            last = max((one.priority for one in self.members.values()), default=-1)
            priority = last + 1 if same is None else same.priority
        window = Window(self._settings.limits.max_in_flight) if same is None else same.window
        standing = Standing(name, self._hold_queue, primary=False)
        member = Member(name, place, priority, window, standing, device_token)
        member.connector = self._connect(member, gateway, settings)
        self.members[name] = member
        return member

    def new_transport(self, member: Member) -> int:
        """Draw the id of a transport of one gateway."""
        transport_id = self._next_transport_id()
        transports = member.transports
        while len(transports) >= REMEMBERED and not member.connector.holds(transports[0]):
            del self._owners[transports.popleft()]
        transports.append(transport_id)
        self._owners[transport_id] = member
        return transport_id

    # --- going ------------------------------------------------------------------------------

    def begin_leaving(self, member: Member, now: float, until: float) -> None:
        """Serve a member until then at the latest, and give it nothing more."""
        if not member.is_leaving:
            member.standing.is_leaving = True
            self._served.append(member)
            member.leaves_at = until if member.connector.pending_bytes else now
        member.leaves_at = min(member.leaves_at, until)

    def look_at_drained(self, now: float) -> None:
        """Let those go next that leave, and for whose answers nobody waits any more."""
        for member in self._served:
            if not member.connector.pending_bytes:
                member.leaves_at = min(member.leaves_at, now + TICK)

    def next_due(self) -> float | None:
        """Return when one that leaves is to go."""
        return min((member.leaves_at for member in self._served), default=None)

    def take_due(self, now: float) -> list[Member]:
        """Return those whose time to go has come; they are served no longer."""
        due = [member for member in self._served if member.leaves_at <= now]
        for member in due:
            self._served.remove(member)
        return due

    def forget(self, member: Member) -> None:
        """Forget one that is gone, but for what it counted."""
        del self.members[member.name]
        for transport_id in member.transports:
            del self._owners[transport_id]
        self._left = added_up([self._left, member.connector.stats], self._left)

    # --- who it is about --------------------------------------------------------------------

    def owner(self, transport_id: int) -> Member | None:
        """Return whose transport that is; None: nobody's any more."""
        return self._owners.get(transport_id)

    def member(self, name: str) -> Member:
        """Return one by its name. Raises `InvalidParams`."""
        member = self.members.get(name)
        if member is None:
            known = ", ".join(self.members) or "none"
            raise InvalidParams(f"the pool has no gateway {name!r}; it has {known}")
        return member

    def staying(self, name: str | None = None) -> list[Member]:
        """Return all, or the one of that name, but those that leave. Raises `InvalidParams`."""
        members: Iterable[Member] = self.members.values()
        if name is not None:
            members = (self.member(name),)
        return [member for member in members if not member.is_leaving]

    def stats(self, primary: Member | None) -> Stats:
        """Add all counters up; the round trips are the primary's."""
        every = [self._left, *(member.connector.stats for member in self.members.values())]
        return added_up(every, Stats() if primary is None else primary.connector.stats)
