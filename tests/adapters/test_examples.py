"""The examples as their readers run them: as scripts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from butter_proto.errors import FaultKind
from butter_proto.settings import Settings
from butter_proto.testing import StandInGateway
from examples import asyncio_adapter
from tests.adapters.scenario import PATIENT, TOKEN, Unanswered
from tests.adapters.subject import PATIENCE

TOP: Final = Path(__file__).parents[2]
EXAMPLES: Final = ("asyncio_adapter", "websockets_host")


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", *arguments],
        check=False,
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_asks_for_health_and_ends_in_order(
    name: str, url: str, stand_in: StandInGateway
) -> None:
    ended = run(name, url, TOKEN)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "'ok': True" in ended.stdout
    assert [request.method for request in stand_in.received] == ["connect", "health"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_with_a_wrong_token_says_what_to_do_and_shows_it_nowhere(
    name: str, url: str
) -> None:
    ended = run(name, url, "wr0ng-token")
    assert ended.returncode == 1
    assert "gateway.auth.token" in ended.stderr
    assert "wr0ng" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_without_a_url_says_how_it_is_called(name: str) -> None:
    assert run(name).stderr.startswith("usage: ")


def test_an_adapter_that_knows_no_proxies_goes_by_no_other_way() -> None:
    async def main() -> None:
        settings = Settings(proxy="http://proxy.local", reconnect=PATIENT.reconnect)
        async with asyncio_adapter.connect("ws://10.0.0.1", settings) as gateway:
            while gateway.machine.last_ending is None:
                await gateway.pumped.wait()
            assert gateway.machine.last_ending.fault is not None
            assert gateway.machine.last_ending.fault.kind is FaultKind.PROXY

    asyncio.run(main())


def test_an_outcome_in_the_same_turn_as_a_cancellation_is_no_error(
    url: str, stand_in: StandInGateway
) -> None:
    slow = Unanswered(stand_in, "slow")

    async def main() -> None:
        async with asyncio_adapter.connect(url, Settings(token=TOKEN)) as gateway:
            await gateway.wait_online()
            asking = asyncio.create_task(gateway.request("slow"))
            await asyncio.to_thread(slow.wait)
            asking.cancel()
            gateway.stop(abort=True)
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(main())
