"""The real gateways of a module, and the measured figures at the end of the run.

A gateway that cannot be installed or started fails the tests, and the text says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from .certificates import Certificate, certificate_of_the_gateway, make_certificate
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


@pytest.fixture(scope="module")
def two_gateways() -> Iterator[dict[str, RealGateway]]:
    """Yield two gateways that share nothing, by name; a test that hurts one leaves it running."""
    gateways = {"first": RealGateway(), "second": RealGateway()}
    with _started(*gateways.values()):
        yield gateways


@pytest.fixture(scope="module")
def proxied_gateway() -> Iterator[RealGateway]:
    """Yield a gateway that believes a proxy on loopback: reached by a `remote_relay`."""
    yield from _running(RealGateway(trusted_proxies=True))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def tls_gateway(certificate: Certificate) -> Iterator[RealGateway]:
    """Yield a gateway on wss with a password, which believes a proxy on loopback too."""
    gateway = RealGateway(certificate=certificate, password_mode=True, trusted_proxies=True)
    yield from _running(gateway)


@pytest.fixture(scope="module")
def self_signed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGateway]:
    """Yield a gateway on wss with the certificate that it makes for itself: for pins."""
    own = certificate_of_the_gateway(tmp_path_factory.mktemp("own"))
    yield from _running(RealGateway(certificate=own))


@pytest.fixture(scope="module")
def gateway_two_hours_ahead() -> Iterator[RealGateway]:
    yield from _running(RealGateway(clock_ahead=7200.0))


def _running(gateway: RealGateway) -> Iterator[RealGateway]:
    with _started(gateway):
        yield gateway


@contextmanager
def _started(*gateways: RealGateway) -> Iterator[None]:
    """Start them side by side, and stop them all."""
    with ExitStack() as ends:
        for gateway in gateways:
            ends.callback(gateway.stop)
        with ThreadPoolExecutor(len(gateways)) as threads:
            try:
                list(threads.map(RealGateway.__enter__, gateways))
            except GatewayFailed as error:
                raise _failed(f"the gateway does not start: {error}") from None
        yield


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
