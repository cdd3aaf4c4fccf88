"""What all tests share: a hypothesis profile, a working Ctrl-C, a watch for secrets, certificates.

The profile is exact where CI is set. ``first failure`` looks for no smaller example, and its seed
comes from the command line.
``secret_watch.py`` is the watch.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import trustme
from hypothesis import Phase, settings

from tests.proto.fast_paths import without_any
from tests.secret_watch import SecretWatch

settings.register_profile(
    "openbutter", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.register_profile(
    "first failure",
    settings.get_profile("openbutter"),
    derandomize=False,  # the seed on the command line counts
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("openbutter")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the whole suite do without the fast paths: whatever it expects holds there too."""
    parser.addoption("--without-fast-paths", action="store_true", help="test the slow ones")


def pytest_configure(config: pytest.Config) -> None:
    """Watch every test of the run."""
    config.pluginmanager.register(SecretWatch(), "secret_watch")
    if config.getoption("--without-fast-paths"):
        off = ExitStack()
        off.enter_context(without_any())
        off.enter_context(patch("butter_trio.plain_socket.is_plain", new=lambda _: False))
        config.add_cleanup(off.close)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is about a fast path itself where there is none."""
    if config.getoption("--without-fast-paths"):
        for item in items:
            if item.get_closest_marker("fast_paths"):
                item.add_marker(pytest.mark.skip("it is about a fast path"))


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Let SIGINT interrupt, also where a shell started the tests in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1")
