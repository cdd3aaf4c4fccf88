"""One real gateway per module, and the measured figures at the end of the run.

A gateway that cannot be installed or started fails the tests, and the text says why.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .fake_model import FakeModel
from .install import InstallFailed, install
from .real_gateway import GatewayFailed, RealGateway


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """Install once; where that fails, every test fails with the same text at once."""
    try:
        install()
    except InstallFailed as error:
        raise _failed(f"the gateway cannot be installed: {error}") from None


@pytest.fixture(scope="module")
def gateway() -> Iterator[RealGateway]:
    """Yield a gateway without a model; a test that hurts it leaves it running."""
    yield from _running(RealGateway())


@pytest.fixture(scope="module")
def model() -> Iterator[FakeModel]:
    with FakeModel() as model:
        yield model


@pytest.fixture(scope="module")
def gateway_with_model(model: FakeModel) -> Iterator[RealGateway]:
    yield from _running(RealGateway(model_url=model.url))


def _running(gateway: RealGateway) -> Iterator[RealGateway]:
    try:
        gateway.__enter__()
    except GatewayFailed as error:
        raise _failed(f"the gateway does not start: {error}") from None
    try:
        yield gateway
    finally:
        gateway.stop()


def _failed(text: str) -> BaseException:
    return pytest.fail.Exception(text, pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each live test's time and what it measured (by ``record_property``)."""
    reports = [
        report
        for outcome in ("", "passed", "failed", "error")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport) and "live" in report.keywords
    ]
    if not reports:
        return
    terminalreporter.section("live figures")
    for report in reports:
        if report.when != "call":
            continue
        terminalreporter.write_line(f"{report.duration:7.2f} s  {report.nodeid}")
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{'':11}{name}: {value}")
    around = sum(report.duration for report in reports if report.when != "call")
    terminalreporter.write_line(f"{around:7.2f} s  starting and ending gateways")
    total = sum(report.duration for report in reports)
    terminalreporter.write_line(f"{total:7.2f} s  in all")
