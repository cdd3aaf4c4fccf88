"""No test of the threads adapter leaves a thread of it behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.threads.scenario import own_threads, until


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not own_threads())
