"""The stage of the delivery model: a machine, its gateways, and the network between them.

Rules kept here:

* What the application asks for and what the gateways get goes to the models, in the order in which
  it happens; delivery_watcher.py adds what the machine does.
* A gateway does what the real one does with an idempotency key: it looks it up before it runs
  anything, and forgets it when its process ends, or never where the gateways share their state.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any, Final

import attrs

from butter_proto import (
    Connector,
    Delivery,
    GatewayError,
    NotOnline,
    PendingFull,
    Pool,
    PoolGateway,
    Settings,
    State,
)
from butter_proto.request_options import Offline
from butter_proto.testing.conditions import Conditions, Direction
from butter_proto.testing.network import VirtualNetwork
from butter_proto.testing.stand_in import StandInGateway
from tests.proto.delivery_facts import ALONE, Connection, Request
from tests.proto.delivery_model import DeliveryModel
from tests.proto.delivery_watcher import WatchedConnector, WatchedPool, Watcher
from tests.proto.election_model import ElectionModel

PORT: Final = 18789
ACCEPTED: Final = {"status": "accepted"}
FAILED: Final = {"status": "error"}
TURN: Final = "turn"
FAILING: Final = "failing"
NEVER: Final = "never"
DELAYS: Final = {
    "prompt": 0.0,
    "soon": 0.2,
    "slow": 4.0,
    "late": 45.0,
    NEVER: math.inf,
    TURN: 1.0,
    FAILING: 0.1,
}
"""The methods, and how many seconds each takes."""
SETTLES_WITHIN: Final = 10_000.0
"""Seconds: many slow requests that are asked again and again, one after another."""
STANDS_STILL: Final = 300.0
"""Seconds without a sending or an outcome, after which there will be none."""


@attrs.frozen(kw_only=True)
class Cast:
    """Who plays."""

    members: tuple[tuple[str, str], ...]
    """The names in the pool, each with the name of its host; empty: a connector alone."""
    settings: Settings
    hold_queue: bool = False
    shared_state: bool = False
    conditions: Conditions = attrs.field(factory=Conditions)
    seed: int = 0


class Stage:
    """One run of a machine under the models."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.hosts = list(dict.fromkeys(host for _, host in cast.members)) or ["gateway"]
        self.gateways = {host: self._gateway(host, n) for n, host in enumerate(self.hosts)}
        addresses = {address(host): gateway for host, gateway in self.gateways.items()}
        self.network = VirtualNetwork(addresses, conditions=cast.conditions, seed=cast.seed)
        self.delivery = DeliveryModel(
            lambda: self.network.now,
            dict(cast.members) or {ALONE: self.hosts[0]},
            hold_queue=cast.hold_queue,
            shared_state=cast.shared_state,
            max_in_flight=cast.settings.limits.max_in_flight,
        )
        stable_after = cast.settings.reconnect.stable_after
        self.election = ElectionModel(lambda: self.network.now, self.delivery, stable_after)
        self.methods: dict[str, str] = {}
        """The method of each accepted request."""
        self._ran: dict[tuple[str, str], Any] = {}
        """What came of each idempotency key, by the boot that knows it."""
        self._arrivals: Counter[str] = Counter()
        """How often the gateways got each request."""
        self._executions = 0
        self._random = Random(cast.seed)
        self.machine = self._machine()
        self.network.add(self.machine)
        self.machine.start(self.network.now)
        self.run(5.0)

    # what a run is made of

    def run(self, seconds: float = 0.0) -> None:
        """Let that much time pass."""
        self.network.run(for_=seconds)
        if isinstance(self.machine, Pool):
            self.election.check([one.name for one in self.machine.health() if one.primary])

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep, and wake up late."""
        self.network.suspend(seconds)
        self.delivery.awake_at = self.network.now + seconds
        self.run(seconds)

    def request(self, method: str, params: dict[str, Any], **options: Any) -> str | None:
        """Make a request; None: it was refused, which is held against the model."""
        model, machine, now = self.delivery, self.machine, self.network.now
        queue = options.get("offline") is Offline.QUEUE
        gateway, spread = options.get("gateway"), options.get("spread", False)
        full = len(machine.queued()) >= self.cast.settings.limits.max_queued
        targets = self._targets(gateway, spread=spread)
        waits = queue and all(one is model.held for one in targets)
        try:
            request_id = machine.request(method, params, now=now, **options)
        except PendingFull as error:
            right = full and queue and (waits or spread) and "(max_queued)" in str(error)
            self._check_refused(error, right=right)
            return None
        except NotOnline as error:
            right = not targets and not (queue and self._has_hope(gateway))
            self._check_refused(error, right=right)
            return None
        waited = request_id in {queued.id for queued in machine.queued()}
        assert spread or waited == waits, "R5: who waits in the queue"
        assert not (waited and full), "R9: max_queued"
        assert queue or targets, "a request for nobody was accepted"
        timeout = options["timeout"]
        model.accepted(
            Request(
                id=request_id,
                accepted_at=now,
                deadline=math.inf if timeout is None else now + timeout,
                queue=queue,
                replay=options.get("replay", False),
                retry=options.get("retry_unavailable", False),
                final=options.get("final", False),
                gateway=gateway,
                spread=spread,
                waited=waited or (queue and not self.cast.members),
                period=model.period if self.cast.members else 0,
            )
        )
        self.methods[request_id] = method
        return request_id

    def _check_refused(self, error: Exception, *, right: bool) -> None:
        assert right, f"R9: {type(error).__name__}: {error}"

    def cancel(self, request_id: str) -> None:
        """Take a request back."""
        settled = self.delivery.requests[request_id].settled_at is not None
        delivery: Delivery | None = self.machine.cancel(request_id, self.network.now)
        if delivery is not None:
            self.delivery.cancelled(request_id, delivery)
        elif not settled:
            self.run()
            assert self.delivery.requests[request_id].settled_at is not None, "R1: told by then"

    def resynced(self) -> None:
        """Say that the state was read again, where that is waited for."""
        held = self.delivery.held
        if held is not None:
            self.machine.resynced(held.id, self.network.now)
            self.delivery.resynced(held.id)

    def answer_twice(self, request: Request) -> None:
        """Let a gateway repeat an answer that it gave, on all its connections."""
        if request.answers and request.sendings[-1].connection.online:
            connection = request.sendings[-1].connection
            payload = request.answers[-1]
            message = {"type": "res", "id": request.id, "ok": True, "payload": payload}
            data = json.dumps(message).encode()
            head = bytes((0x81, 126)) + len(data).to_bytes(2)
            self.network.inject(head + data, Direction.DOWN, address(connection.origin))
            request.sendings[-1].answer_at = self.network.now

    def recover(self) -> None:
        """End all troubles."""
        self.network.heal()
        for gateway in self.gateways.values():
            gateway.resume()
        self.machine.reconnect_now(self.network.now)
        self.run()

    def close(self) -> None:
        """Let everything settle, hold that against the model, and stop."""
        network, machine = self.network, self.machine
        network.conditions = Conditions()
        self.recover()
        self._settle()
        self.delivery.check_settled(lambda request: self.methods[request.id] == NEVER)
        self.election.stopping = True
        machine.stop(network.now)
        self.run(5.0)
        network.check_finished()
        assert not [*self.delivery.unsettled], "R1: each request has an outcome"

    def _settle(self) -> None:
        """Let time pass until all have their outcomes, or nothing happens any more."""
        end = self.network.now + SETTLES_WITHIN
        moved_at, seen = self.network.now, -1
        while [*self.delivery.unsettled] and self.network.now < min(end, moved_at + STANDS_STILL):
            self.machine.reconnect_now(self.network.now)  # a connect may be refused for good
            self.run(5.0)
            self.resynced()
            requests = self.delivery.requests.values()
            moves = sum(len(one.sendings) + (one.settled_at is not None) for one in requests)
            if moves != seen:
                moved_at, seen = self.network.now, moves

    # who answers

    def _gateway(self, host: str, seed: int) -> StandInGateway:
        gateway = StandInGateway(seed=seed)
        for method, delay in DELAYS.items():
            gateway.reply(
                method,
                partial(self._answer, host, method),
                delay=delay,
                interim=ACCEPTED if method == TURN else None,
                payload=FAILED if method == FAILING else None,
            )
        return gateway

    def _answer(self, host: str, method: str, params: Mapping[str, Any]) -> Any:
        """Answer one request, as the gateway does that has just read it."""
        gateway = self.gateways[host]
        received = gateway.received[-1]
        request = self.delivery.requests[received.id]
        self._arrivals[received.id] += 1
        refused = self._arrivals[received.id] in params["refused"] and method not in (
            TURN,
            FAILING,
            NEVER,
        )
        done_at_once = method == TURN and not request.final
        takes = 0.0 if done_at_once else DELAYS[method]
        self.delivery.arrived(
            received.id,
            received.peer_id,
            gateway.boot_id,
            refused=refused,
            answer_at=self.network.now + takes,
        )
        if done_at_once:
            request.answers.append(ACCEPTED)
        busy = GatewayError("UNAVAILABLE", "busy", None, params["retryable"], params["hint"])
        if refused:
            return busy
        memory = "" if self.cast.shared_state else gateway.boot_id
        key = params.get("idempotencyKey")
        payload = None if key is None else self._ran.get((memory, key))
        if payload is None:
            self._executions += 1
            payload = {"execution": self._executions}
            self.delivery.executed(received.id)
            if key is not None:
                self._ran[memory, key] = payload
        if method == FAILING or (method == TURN and params["refused"]):
            return busy
        request.answers.append(payload)
        return payload

    # who is asked

    def _machine(self) -> WatchedConnector | WatchedPool:
        cast = self.cast
        machine: WatchedConnector | WatchedPool
        if cast.members:
            machine = WatchedPool(
                [member(name, host) for name, host in cast.members],
                cast.settings,
                random=self._random.random,
                entropy=self._entropy,
                hold_queue=cast.hold_queue,
                shared_state=cast.shared_state,
            )
        else:
            machine = WatchedConnector(
                url(self.hosts[0]),
                cast.settings,
                random=self._random.random,
                entropy=self._entropy,
                hold_queue=cast.hold_queue,
            )
        machine.watcher = Watcher(self.delivery, self.election)
        return machine

    def _entropy(self, size: int) -> bytes:
        """Draw bytes; masks are zero."""
        return bytes(4) if size == len(b"mask") else self._random.randbytes(size)

    def _targets(self, gateway: str | None, *, spread: bool) -> list[Connection]:
        """Return who may get a request now, by the model."""
        model = self.delivery
        if gateway is None and not spread:
            targets = [] if model.primary is None else [model.primary]
        else:
            online = [one for one in model.connections.values() if one.online]
            targets = [one for one in online if gateway in (None, one.gateway)]
        return [one for one in targets if one.gateway not in model.leaving]

    def _has_hope(self, gateway: str | None) -> bool:
        """Tell whether a connection may come for it: by what the machine shows."""
        machine = self.machine
        if isinstance(machine, Connector):
            return machine.state is not State.BLOCKED
        healths = [one for one in machine.health() if gateway in (None, one.name)]
        return any(one.state is not State.BLOCKED and not one.leaving for one in healths)


def address(host: str) -> tuple[str, int]:
    """Return where a gateway listens."""
    return f"{host}.local", PORT


def url(host: str) -> str:
    """Return the URL of a gateway."""
    return f"ws://{host}.local:{PORT}"


def member(name: str, host: str) -> PoolGateway:
    """Return what a pool is told of a gateway."""
    return PoolGateway(url(host), name=name)
