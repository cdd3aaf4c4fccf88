"""Connector and Pool against the delivery model, on a network that does its worst.

Rules kept here:

* Hypothesis draws the calls and the faults; delivery_model.py and election_model.py judge.
* A run ends by letting everything settle: what has no outcome then was lost.
* ``python -m tests.proto.test_delivery_model --seconds 600`` looks further than CI does, with
  chance, and prints the number of examples and steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from butter_proto import (
    AUTO,
    GatewayError,
    KeepaliveSettings,
    Limits,
    Offline,
    Pool,
    ReconnectSettings,
    Settings,
)
from butter_proto.testing.conditions import Conditions, Direction
from tests.proto.delivery_stage import DELAYS, TURN, Cast, Stage, address, member

IN_CI: Final = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MEMBERS: Final = (
    (("a", "a"), ("b", "b")),
    (("a", "a"), ("b", "b"), ("c", "c")),
    (("a", "a"), ("a2", "a"), ("b", "b")),
    (("a", "a"), ("a2", "a")),
)
"""Several gateways, and several connections to one."""
FATAL: Final = GatewayError("INVALID_REQUEST", "no", {"code": "AUTH_TOKEN_MISMATCH"})

picks = st.integers(0, 1000)
few_seconds = st.sampled_from([0.001, 0.02, 0.3, 2.0, 11.0])
seconds = few_seconds | st.sampled_from([40.0, 100.0, 250.0])
conditions = st.builds(
    Conditions,
    latency_up=st.sampled_from([0.0, 0.001, 0.5]),
    latency_down=st.sampled_from([0.0, 0.001, 0.5]),
    jitter=st.sampled_from([0.0, 0.2]),
    chunk=st.sampled_from([65536, 1000]),
    window=st.sampled_from([65536, 5000]),
)
options = st.fixed_dictionaries(
    {
        "timeout": st.sampled_from([0.1, 5.0, 30.0, 300.0, None]),
        "offline": st.sampled_from(Offline),
        "replay": st.booleans(),
        "retry_unavailable": st.booleans(),
        "final": st.booleans(),
        "idempotency_key": st.sampled_from([None, AUTO, AUTO, "one", "two"]),
    }
)
replayed = st.fixed_dictionaries(
    {
        "timeout": st.sampled_from([30.0, 300.0, None]),
        "offline": st.sampled_from(Offline),
        "replay": st.just(True),
        "retry_unavailable": st.booleans(),
        "final": st.booleans(),
        "idempotency_key": st.sampled_from([AUTO, AUTO, "one"]),
    }
)
few = st.sampled_from([1, 1, 1, 2, 5])
params = st.fixed_dictionaries(
    {
        "refused": st.sampled_from([[], [], [], [1], [1, 2], [2], [1, 2, 3, 4]]),
        "retryable": st.sampled_from([True, True, False, None]),
        "hint": st.sampled_from([None, 0.0, 1.5]),
    }
)
Trouble = Callable[[Stage, str], None]
troubles: st.SearchStrategy[Trouble] = st.sampled_from(
    [
        lambda stage, host: stage.network.eof(address(host)),
        lambda stage, host: stage.network.cut(address(host)),
        lambda stage, _: stage.network.cut(),
        lambda stage, host: stage.gateways[host].close(1000),
        lambda stage, host: stage.network.stall(None, address(host)),
        lambda stage, host: stage.network.stall(Direction.UP, address(host)),
        lambda stage, host: stage.network.stall(Direction.DOWN, address(host)),
        lambda stage, host: stage.gateways[host].stall(),
        lambda stage, host: stage.gateways[host].close(1012, "service restart"),
        lambda stage, host: stage.gateways[host].restart(),
        lambda stage, host: stage.gateways[host].restart(down=0.5),
        lambda stage, host: stage.gateways[host].restart(announce=False),
        lambda stage, host: stage.gateways[host].restart(announce=False, down=8.0),
        lambda stage, host: stage.gateways[host].refuse_next(FATAL),
    ]
)
methods = st.sampled_from(sorted(DELAYS))
sizes = st.sampled_from([0, 0, 0, 0, 70_000, 200_000])


class Deliveries(RuleBasedStateMachine):
    """A connector alone."""

    counted: ClassVar[Counter[str]] = Counter()
    stage: Stage | None = None
    steps = -1
    """The first one is no step: it sets the stage."""

    @initialize(
        members=st.just(()),
        hold_queue=st.booleans(),
        shared_state=st.just(False),
        max_in_flight=st.sampled_from([1, 3, 200]),
        max_queued=st.sampled_from([2, 1000]),
        conditions=conditions,
        seed=picks,
    )
    def begin(
        self,
        members: tuple[tuple[str, str], ...],
        max_in_flight: int,
        max_queued: int,
        **cast: Any,
    ) -> None:
        settings = Settings(
            limits=Limits(max_in_flight=max_in_flight, max_queued=max_queued),
            keepalive=KeepaliveSettings(interval=4.0, timeout=2.0),
            reconnect=ReconnectSettings(cap=5.0, stable_after=3.0),
        )
        self.stage = Stage(Cast(members=members, settings=settings, **cast))

    @property
    def on(self) -> Stage:
        """The stage, once it is there."""
        assert self.stage is not None
        return self.stage

    @invariant()
    def count(self) -> None:
        self.steps += 1

    def teardown(self) -> None:
        if self.stage is None or sys.exc_info()[0] is not None:
            return  # a step has failed already
        self.stage.close()
        self.counted["examples"] += 1
        self.counted["steps"] += self.steps
        self.counted["requests"] += len(self.stage.delivery.requests)

    # what the application does

    @rule(
        method=methods,
        params=params,
        options=options,
        size=sizes,
        times=few,
        gateway=picks,
        pause=st.sampled_from([0.0, 0.003, None]),
    )
    def request(
        self,
        method: str,
        params: dict[str, Any],
        options: dict[str, Any],
        size: int,
        times: int,
        gateway: int,
        pause: float | None,
    ) -> None:
        """Make some requests; ``pause`` None takes the last one back at once."""
        stage = self.on
        if options["replay"] and options["idempotency_key"] is None:
            options["idempotency_key"] = AUTO
        options |= self.whom(gateway)
        made = [
            stage.request(method, {**params, "pad": "x" * size}, **options) for _ in range(times)
        ]
        if pause is None and made[-1] is not None:
            stage.cancel(made[-1])
        stage.run(pause or 0.0)

    @rule(
        method=st.sampled_from(["soon", "slow", "late", TURN]),
        params=params,
        options=replayed,
        times=few,
        gateway=picks,
        pause=st.sampled_from([0.0, 0.003, 1.5]),
        trouble=troubles,
        outage=st.sampled_from([0.0, 0.0, 2.0, 100.0, 250.0]),
    )
    def request_in_trouble(
        self,
        method: str,
        params: dict[str, Any],
        options: dict[str, Any],
        times: int,
        gateway: int,
        pause: float,
        trouble: Trouble,
        outage: float,
    ) -> None:
        """Make some requests that may be replayed, and let trouble come while they are under way.

        It ends after ``outage`` seconds; 0.0: nothing ends it.
        """
        self.request(method, params, {**options}, 0, times, gateway, pause)
        self.trouble(trouble, gateway)
        if outage:
            self.wait(outage)
            self.recover(0.001)

    def whom(self, gateway: int) -> dict[str, Any]:  # noqa: ARG002
        """Say for which gateway a request is."""
        return {}

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        stage = self.on
        pending = [*stage.delivery.unsettled] or [*stage.delivery.requests.values()]
        if pending:
            stage.cancel(pending[pick % len(pending)].id)
            stage.run()

    @rule()
    def resynced(self) -> None:
        self.on.resynced()
        self.on.run()

    # what time and the network do

    @rule(seconds=seconds)
    def wait(self, seconds: float) -> None:
        self.on.run(seconds)

    @rule(seconds=few_seconds)
    def suspend(self, seconds: float) -> None:
        self.on.suspend(seconds)

    @rule(conditions=conditions)
    def change_the_network(self, conditions: Conditions) -> None:
        self.on.network.conditions = conditions

    @rule(trouble=troubles, pick=picks)
    def trouble(self, trouble: Trouble, pick: int) -> None:
        """Let something happen to the connections of one gateway, or to the gateway."""
        stage = self.on
        host = stage.hosts[pick % len(stage.hosts)]
        trouble(stage, host)
        stage.run()

    @rule(seconds=few_seconds)
    def recover(self, seconds: float) -> None:
        self.on.recover()
        self.on.run(seconds)

    @rule(pick=picks)
    def answer_twice(self, pick: int) -> None:
        stage = self.on
        answered = [one for one in stage.delivery.requests.values() if one.answers]
        if answered:
            stage.answer_twice(answered[pick % len(answered)])
            stage.run()

    @rule()
    def push(self) -> None:
        stage = self.on
        for gateway in stage.gateways.values():
            gateway.push("chat", {})
        stage.run()


class PoolDeliveries(Deliveries):
    """A pool."""

    @initialize(
        members=st.sampled_from(MEMBERS),
        hold_queue=st.booleans(),
        shared_state=st.booleans(),
        max_in_flight=st.sampled_from([1, 3, 200]),
        max_queued=st.sampled_from([2, 1000]),
        conditions=conditions,
        seed=picks,
    )
    def begin(self, **cast: Any) -> None:
        super().begin(**cast)

    def whom(self, gateway: int) -> dict[str, Any]:
        names = [health.name for health in self.pool.health()]
        named = dict(enumerate(names)).get(gateway % 8)
        return {"spread": gateway % 8 == 7} if named is None else {"gateway": named}

    @property
    def pool(self) -> Pool:
        """The pool itself."""
        assert self.stage is not None
        assert isinstance(self.stage.machine, Pool)
        return self.stage.machine

    @rule(pick=picks, drain=st.sampled_from([0.0, 3.0, 30.0]))
    def remove(self, pick: int, drain: float) -> None:
        stage = self.on
        names = [health.name for health in self.pool.health()]
        if len(names) > 1:
            name = names[pick % len(names)]
            stage.delivery.leaving.add(name)
            self.pool.remove(name, stage.network.now, drain=drain)
            stage.run()

    @rule()
    def add(self) -> None:
        stage = self.on
        here = {health.name for health in self.pool.health()}
        for name, host in stage.cast.members:
            if name not in here:
                stage.delivery.leaving.discard(name)
                self.pool.add(member(name, host), stage.network.now)
                stage.run()
                return


TestConnector = Deliveries.TestCase
TestConnector.settings = IN_CI
TestPool = PoolDeliveries.TestCase
TestPool.settings = IN_CI


def main() -> None:
    """Run both for some time, and tell how much that was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    lots = settings(
        IN_CI, max_examples=100, stateful_step_count=given.steps, database=None, print_blob=True
    )
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        for machine in (Deliveries, PoolDeliveries):
            run_state_machine_as_test(machine, settings=lots)
            counted = ", ".join(f"{count:,} {what}" for what, count in machine.counted.items())
            print(f"{machine.__name__}: {counted}", flush=True)


if __name__ == "__main__":
    main()
