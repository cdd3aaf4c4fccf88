"""A pool against stand-in gateways on a virtual network: the stage of the pool's scenario tests."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import attrs

from butter_proto import Limits, Pool, PoolGateway, Settings, events
from butter_proto.machine import State
from butter_proto.testing.conditions import Conditions
from butter_proto.testing.network import VirtualNetwork
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.scenario import TOKEN

PORT = 18789
STABLE = 10.0
"""The default of ``reconnect.stable_after``."""
_T = TypeVar("_T")


def url_of(name: str) -> str:
    return f"ws://{name}.local:{PORT}"


class PoolScenario:
    """A pool of gateways ``a``, ``b`` ..., in this order of priority, and the network between them.

    ``names`` may hold a gateway twice: ``a`` and ``a2`` are two connections to the gateway ``a``.
    The first one of them is started first.
    """

    def __init__(
        self,
        names: str = "a b",
        settings: Settings | None = None,
        *,
        random: Callable[[], float] = lambda: 0.3,
        start: bool = True,
        **options: Any,
    ) -> None:
        self.gateways = {
            letter: StandInGateway(token=TOKEN, seed=seed)
            for seed, letter in enumerate("abcd", start=1)
        }
        self.network = VirtualNetwork(
            {(f"{name}.local", PORT): gateway for name, gateway in self.gateways.items()},
            conditions=Conditions(latency_up=0.0, latency_down=0.0),
        )
        self.machine = Pool(
            [PoolGateway(url_of(name[0]), name=name) for name in names.split()],
            settings or Settings(token=TOKEN),
            random=random,
            entropy=Random(7).randbytes,
            **options,
        )
        self.network.add(self.machine)
        if start:
            self.machine.start(self.now)
            self.run()

    @property
    def now(self) -> float:
        return self.network.now

    def state(self) -> State:
        """Where the pool is."""
        return self.machine.state

    @property
    def told(self) -> list[events.PoolEvent]:
        """Everything the pool told so far."""
        return [event for _, event in self.network.events[self.machine]]

    @property
    def states(self) -> list[events.PoolEvent]:
        """What the pool as a whole was told to be."""
        return [event for event in self.told if isinstance(event, events.StateEvent)]

    def of(self, kind: type[_T]) -> list[_T]:
        """The events of one type that stand for the pool as a whole."""
        return [event for event in self.told if isinstance(event, kind)]

    def of_gateway(self, name: str, kind: type[_T]) -> list[_T]:
        """The events of one type that one gateway told."""
        mine = [
            event.event
            for event in self.told
            if isinstance(event, events.FromGateway) and event.gateway == name
        ]
        return [event for event in mine if isinstance(event, kind)]

    def run(self, seconds: float = 0.0) -> None:
        """Let that much time pass."""
        self.network.run(for_=seconds)

    def down(self, name: str, seconds: float = 1e6) -> None:
        """Kill a gateway; for so long nothing listens there."""
        self.gateways[name].restart(down=seconds, announce=False)
        self.run()

    def drop(self, name: str) -> None:
        """End the connections to a gateway, which lives on."""
        self.gateways[name].drop()
        self.run()

    def slow(self, method: str = "slow", delay: float = 5.0) -> None:
        """Let all gateways answer a method late."""
        for gateway in self.gateways.values():
            gateway.reply(method, {"ok": True}, delay=delay)

    def request(self, method: str = "health", params: Any = None, **options: Any) -> str:
        """Make a request now, and let its bytes go out."""
        request_id = self.machine.request(method, params, now=self.now, **options)
        self.run()
        return request_id

    def outcome(self, request_id: str) -> events.Outcome | None:
        """The outcome of a request, if it was told; fails if there are two."""
        plain = [e.event if isinstance(e, events.FromGateway) else e for e in self.told]
        found = [e for e in plain if isinstance(e, events.Outcome) and e.id == request_id]
        assert len(found) <= 1, found
        return found[0] if found else None

    def failure(self, request_id: str) -> events.RequestFailed:
        """The outcome of a request that failed."""
        outcome = self.outcome(request_id)
        assert isinstance(outcome, events.RequestFailed), outcome
        return outcome

    def seen(self, name: str, method: str) -> list[Any]:
        """The params of the requests of a method that a gateway got."""
        return [one.params for one in self.gateways[name].received if one.method == method]

    def stop(self) -> None:
        """Stop, and check that everything was closed."""
        self.machine.stop(self.now)
        self.run(5.0)
        self.network.check_finished()
        assert self.machine.state is State.STOPPED
        assert isinstance(self.told[-1], events.Stopped)


def limited(**limits: int) -> Settings:
    """Settings with a token and these limits."""
    return attrs.evolve(Settings(token=TOKEN), limits=Limits(**limits))
