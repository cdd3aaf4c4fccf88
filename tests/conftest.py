"""What all tests share: one hypothesis profile, exact where CI is set, and a working Ctrl-C."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile(
    "openbutter", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("openbutter")


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let SIGINT interrupt, also where a shell started the tests in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
