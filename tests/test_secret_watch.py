"""The watch for secrets finds every way in which a test may show one, and tells none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).parents[1]
BEGINNING: Final = """
import logging, subprocess, sys
import attrs, pytest
from hypothesis import given, strategies as st
from butter_proto import Connector, Ending, EndKind, NotOnline, Secret, Traced, events
from butter_proto.errors import ConnectionEnded
from butter_proto.event_queue import EventQueue, EventStore
from butter_proto.counters import Counters
from butter_proto.settings import Limits
from butter_proto.testing import StandInGateway
from butter_proto.testing.devices import IssuedToken

def leak(secret):
    return Secret(secret[::-1]).reveal()
"""
LEAKS: Final = {
    "a log record": "logging.getLogger('any').debug('no level'); logging.error('%s', leak(it))",
    "a traceback in the log": """
    try:
        raise ValueError(leak(it))
    except ValueError:
        logging.exception("odd")""",
    "stdout": "print(leak(it), 2 * leak(it))",
    "stderr": "sys.stderr.write(leak(it))",
    "what capsys took": "print(leak(it)); assert capsys.readouterr().out",
    "a subprocess": """
    command = [sys.executable, "-c", "import sys; print(sys.argv[1])", leak(it)]
    subprocess.run(command, check=True, capture_output=True, text=True)""",
    "an exception that was caught": """
    with pytest.raises(NotOnline):
        raise NotOnline(leak(it))""",
    "an exception made before its secret": "NotOnline(it[::-1]); leak(it)",
    "an exception with an ending": "ConnectionEnded(str(Ending(EndKind.STOPPED, leak(it))))",
    "an event": """
    queue = EventQueue(EventStore(Limits()), Counters())
    queue.put_notice(events.PairingRequired(leak(it), None, None, None))
    queue.next()""",
    "a command": """
    connector = Connector("ws://127.0.0.1/", random=lambda: 0.5, entropy=bytes)
    connector.start(0.0)
    command = connector.next_command()
    connector._commands.append(attrs.evolve(command, host=leak(it)))
    connector.next_command()""",
    "a trace": "Traced(1, True, 2, [leak(it)])",
    "a secret of a stand-in": "StandInGateway(token=it[::-1]); print(it[::-1])",
    "a token that a stand-in issued": "IssuedToken(it[::-1], 'operator', (), 0); print(it[::-1])",
    "a secret as its repr is written": "print([leak('\\n' + it)])",
    "a fixture's end": "request.addfinalizer(lambda: print(leak(it)))",
}
CLEAN: Final = {
    "a secret": "print(Secret(it)); logging.error('%r', Secret(it))",
    "what a property test draws": """
    pass

@given(st.just("drawn-secret"))
def test_drawn(it):
    print(leak(it))""",
    "a short word": "print(Secret('olleh').reveal())",
    "the secret of another test": "print('QQ-terces-0'); leak('another-one')",
}


def run(tmp_path: Path, tests: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run tests with the watch, in a process of their own; each of them has another secret."""
    bodies = [
        f"def test_{number}(request, capsys):\n    it = '{number}-secret-QQ'\n    {body.strip()}\n"
        for number, body in enumerate(tests.values())
    ]
    (tmp_path / "conftest.py").write_text(
        "from tests.secret_watch import SecretWatch\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(SecretWatch())\n"
    )
    (tmp_path / "test_it.py").write_text("\n".join([BEGINNING, *bodies]))
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "--tb=line"]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TOP), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of all leaking tests prints."""
    return run(tmp_path_factory.mktemp("leaking"), LEAKS).stdout


@pytest.mark.parametrize("number", range(len(LEAKS)), ids=list(LEAKS))
def test_a_test_that_shows_a_secret_fails(leaking: str, number: int) -> None:
    assert f"ERROR test_it.py::test_{number} - a secret is shown by" in leaking


def test_the_finding_itself_does_not_show_it(leaking: str) -> None:
    assert leaking.count("<secret>") >= len(LEAKS)
    assert "terces" not in leaking


def test_a_test_that_fails_with_one_is_told_so_too(tmp_path: Path) -> None:
    ended = run(tmp_path, {"a failure": "raise ValueError(leak(it))"})
    assert "a secret is shown by the exception ValueError: <secret>" in ended.stdout


def test_tests_that_show_none_pass(tmp_path: Path) -> None:
    ended = run(tmp_path, CLEAN)
    assert ended.returncode == 0, ended.stdout
