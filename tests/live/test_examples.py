"""The examples of other loops against the real gateway, as their readers run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .real_gateway import RealGateway

pytestmark = pytest.mark.live

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["asyncio_adapter", "websockets_host"])
def test_an_example_asks_the_real_gateway_for_health(gateway: RealGateway, name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", gateway.url, gateway.token],
        check=False,
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "'ok': True" in ended.stdout
