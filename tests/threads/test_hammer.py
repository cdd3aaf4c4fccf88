"""Fifty threads on one connector while the gateway goes away and comes back.

Each request carries a number of its own, and the stand-in notes which ones it executed. So every
outcome can be held against what really happened on the other side.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Final

from butter_proto.events import Online
from butter_proto.testing import StandInGateway
from butter_threads import Delivery, Gateway, NotOnline, RequestFailed
from tests.threads.scenario import LIMIT, Parallel, connected, until

THREADS: Final = 50
EACH: Final = 100
DEATHS: Final = 5
NOT_ACCEPTED: Final = "not accepted"
REPLIED: Final = "replied"


def hammer(gateway: Gateway, first: int, outcomes: dict[int, list[str]]) -> None:
    """Make requests one after the other, half of them as futures, and note each outcome."""
    for n in range(first, first + EACH):
        try:
            if n % 2:
                assert gateway.request("count", n, timeout=None) == n
            else:
                assert gateway.submit("count", n, timeout=None).result(LIMIT) == n
        except NotOnline:
            outcomes[n].append(NOT_ACCEPTED)
            gateway.wait_online(LIMIT)
        except RequestFailed as error:
            outcomes[n].append(error.delivery.value)
        else:
            outcomes[n].append(REPLIED)


def has_executed(executed: list[int], enough: int) -> bool:
    return len(executed) >= enough


def test_fifty_threads_get_exactly_one_outcome_for_each_call_while_the_gateway_dies() -> None:
    stand_in = StandInGateway()
    executed: list[int] = []

    def execute(n: int) -> int:
        executed.append(n)
        return n

    stand_in.reply("count", execute)
    outcomes: dict[int, list[str]] = {n: [] for n in range(THREADS * EACH)}
    with connected(stand_in) as gateway, gateway.states(timeout=LIMIT) as states:
        threads = [
            Parallel(partial(hammer, gateway, first, outcomes))
            for first in range(0, THREADS * EACH, EACH)
        ]
        for death in range(DEATHS):
            enough = len(executed) + 200
            until(partial(has_executed, executed, enough))
            if death % 2:
                stand_in.restart(announce=False, down=0.05, starting=0.0)
            else:
                stand_in.drop(reset=True)
            for event in states:
                if isinstance(event, Online) and event.resync:
                    break
        for thread in threads:
            thread.join()
        stats = gateway.stats

    assert {len(told) for told in outcomes.values()} == {1}
    by_outcome: dict[str, set[int]] = {}
    for n, (outcome,) in outcomes.items():
        by_outcome.setdefault(outcome, set()).add(n)
    counts: Counter[str] = Counter({outcome: len(which) for outcome, which in by_outcome.items()})
    nothing: set[int] = set()

    assert max(Counter(executed).values()) == 1  # nothing was sent twice
    assert by_outcome[REPLIED] <= set(executed)
    assert not by_outcome.get(NOT_ACCEPTED, nothing) & set(executed)
    assert not by_outcome.get(Delivery.NOT_SENT.value, nothing) & set(executed)
    assert set(by_outcome) <= {
        REPLIED,
        NOT_ACCEPTED,
        Delivery.NOT_SENT.value,
        Delivery.MAY_HAVE_EXECUTED.value,
    }
    assert counts[REPLIED] > THREADS * EACH / 2
    assert counts[Delivery.MAY_HAVE_EXECUTED.value] > 0
    assert stats.disconnects == DEATHS
    assert stats.reconnects == DEATHS
