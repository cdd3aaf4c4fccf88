"""One connector against one stand-in gateway on a virtual network: the stage of scenario tests."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from butter_proto import Connector, KeepaliveSettings, Settings, events
from butter_proto.testing.conditions import Conditions
from butter_proto.testing.network import VirtualNetwork
from butter_proto.testing.stand_in import StandInGateway

TOKEN = "s3cret-token"
ADDRESS = ("gateway.local", 18789)
URL = f"ws://{ADDRESS[0]}:{ADDRESS[1]}"
_T = TypeVar("_T")


class Scenario:
    """A connector, its gateway and the network between them.

    ``jitter`` is what the connector's random source returns: 1.0 is the longest backoff.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        gateway: StandInGateway | None = None,
        jitter: float | Callable[[], float] = 1.0,
        conditions: Conditions | None = None,
        url: str = URL,
        start: bool = True,
        hold_queue: bool = False,
    ) -> None:
        self.gateway = gateway or StandInGateway(token=TOKEN)
        self.network = VirtualNetwork(
            {ADDRESS: self.gateway},
            conditions=conditions or Conditions(latency_up=0.0, latency_down=0.0),
        )
        random = Random(7)
        self.machine = Connector(
            url,
            settings or Settings(token=TOKEN),
            random=jitter if callable(jitter) else lambda: jitter,
            entropy=random.randbytes,
            hold_queue=hold_queue,
        )
        self.network.add(self.machine)
        if start:
            self.machine.start(self.network.now)

    @property
    def now(self) -> float:
        return self.network.now

    @property
    def told(self) -> list[events.Event]:
        """Everything the machine told so far."""
        told = [event for _, event in self.network.events[self.machine]]
        return [event for event in told if not isinstance(event, events.FromGateway)]

    def of(self, kind: type[_T]) -> list[_T]:
        """The events of one type."""
        return [event for event in self.told if isinstance(event, kind)]

    def when(self, kind: type[events.Event]) -> list[float]:
        """The times at which events of one type were told."""
        return [now for now, event in self.network.events[self.machine] if isinstance(event, kind)]

    def run(self, seconds: float = 0.0) -> None:
        """Let that much time pass."""
        self.network.run(for_=seconds)

    def until(self, kind: type[_T], count: int | None = None, limit: float = 120.0) -> _T:
        """Run until one more event of a type (or ``count`` in all) was told; return the last."""
        wanted = len(self.of(kind)) + 1 if count is None else count
        self.network.run_until(lambda: len(self.of(kind)) >= wanted, limit)
        return self.of(kind)[-1]

    def online(self) -> events.Hello:
        """Run until online."""
        self.network.run_until(lambda: self.machine.state.value == "online", 120.0)
        return self.of(events.Online)[-1].hello

    def request(self, method: str, params: Any = None, **options: Any) -> str:
        """Make a request now."""
        return self.machine.request(method, params, now=self.now, **options)

    def outcome(self, request_id: str) -> events.Outcome | None:
        """The outcome of a request, if it was told; fails if there are two."""
        found = [
            event
            for event in self.told
            if isinstance(event, events.Outcome) and event.id == request_id
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def received(self, *methods: str) -> list[str]:
        """The ids of the requests of these methods, as the gateway received them."""
        return [one.id for one in self.gateway.received if one.method in methods]

    def resynced(self) -> None:
        """Say that the state was read again since the last Online."""
        self.machine.resynced(self.of(events.Online)[-1].transport_id, self.now)
        self.run()

    def fall(self) -> events.Offline:
        """Let the connection fall."""
        self.network.cut()
        return self.until(events.Offline)

    def stop(self) -> None:
        """Stop, and check that everything was closed."""
        self.machine.stop(self.now)
        self.run(5.0)
        self.network.check_finished()
        assert isinstance(self.told[-1], events.Stopped)


def quiet(**keepalive: Any) -> Settings:
    """Settings with a token and the keepalive given."""
    return Settings(token=TOKEN, keepalive=KeepaliveSettings(**keepalive))
