"""What all tests share: a hypothesis profile, a working Ctrl-C, a watch for secrets, certificates.

The profile is exact where CI is set; ``secret_watch.py`` is the watch.
"""

from __future__ import annotations

import os
import signal

import pytest
import trustme
from hypothesis import settings

from tests.secret_watch import SecretWatch

settings.register_profile(
    "openbutter", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("openbutter")


def pytest_configure(config: pytest.Config) -> None:
    """Watch every test of the run."""
    config.pluginmanager.register(SecretWatch(), "secret_watch")


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
