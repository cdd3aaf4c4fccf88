"""G11 over the whole suite: nothing that any test brings about may show a secret.

Rules kept here:

* The code under test is hooked from outside, for as long as the run lasts; it knows nothing of it.
* A secret is every text that a `Secret` was made of, that a stand-in was given, or that it issued:
  by the test that runs, or while the tests were collected. Texts under `SHORTEST` characters are
  none, since they are part of ordinary words. In a property test those of the collection alone
  count: what it draws may be a secret in one place and none in another.
* Looked at is what a program, a log or a terminal may show: log records with their tracebacks, what
  was captured and what subprocesses wrote, the exceptions of this package and the one that a test
  fails with, each event and command that was pulled, each line of a trace.
* A finding fails the test. It tells the place and the text around, never the secret.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from subprocess import Popen
from typing import Any, Final

import pytest
from hypothesis import is_hypothesis_test

from butter_proto.connector import Connector
from butter_proto.errors import ButterError
from butter_proto.event_queue import EventStore
from butter_proto.secret import LONG_ENOUGH, Secret
from butter_proto.testing import StandInGateway
from butter_proto.testing.devices import IssuedToken
from butter_proto.trace import Traced

SHORTEST: Final = LONG_ENOUGH
_KEPT: Final = 200
"""Texts that are looked at again when the test is over: a secret may be made after it was shown."""
_LONGEST: Final = 2000
"""Characters of each of them; tests that measure memory measure this too."""
_MOST_FINDINGS: Final = 10
_AROUND: Final = 60
_MASK: Final = "<secret>"


class SecretWatch:
    """The plugin."""

    def __init__(self) -> None:
        self._patches = pytest.MonkeyPatch()
        self._from_collection: frozenset[str] = frozenset()
        self._secrets: set[str] = set()
        self._drawing = False
        self._last: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self._findings: dict[str, None] = {}

    # --- what is secret, and what is shown --------------------------------------------------

    def learn(self, text: object) -> None:
        """Take note of a secret."""
        if isinstance(text, str) and len(text) >= SHORTEST and not self._drawing:
            self._secrets.add(text)
            self._secrets.add(repr(text)[1:-1])

    def look(self, place: str, text: object) -> None:
        """Look for secrets in what is shown at a place."""
        shown = text if isinstance(text, str) else repr(text)
        self._last.append((place, shown[:_LONGEST]))
        self._search(place, shown)

    def _search(self, place: str, shown: str) -> None:
        if any(secret in shown for secret in tuple(self._secrets)):
            masked = self.masked(shown)
            at = masked.index(_MASK)
            excerpt = masked[max(0, at - _AROUND) : at + _AROUND]
            if len(self._findings) < _MOST_FINDINGS:
                self._findings[f"a secret is shown by {place}: {excerpt}"] = None

    def masked(self, text: str) -> str:
        """Take every secret out of a text."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return text

    # --- pytest's hooks ---------------------------------------------------------------------

    def pytest_configure(self) -> None:
        self._after(Secret, "__init__", lambda secret, _: self.learn(secret.reveal()))
        self._after(StandInGateway, "__attrs_post_init__", self._on_stand_in)
        self._after(IssuedToken, "__init__", lambda issued, _: self.learn(issued.token))
        self._after(EventStore, "next", lambda _, event: self._on_pulled("event", event))
        self._after(Connector, "next_command", lambda _, told: self._on_pulled("command", told))
        self._after(Traced, "__init__", lambda traced, _: self._on_traced(traced))
        self._after(ButterError, "__init__", lambda error, _: self._on_error(error))
        self._after(Popen, "communicate", lambda _, output: self.look("a subprocess", output))
        self._after(
            pytest.CaptureFixture, "readouterr", lambda _, output: self.look("an output", output)
        )
        logging.setLogRecordFactory(self._make_record)

    def pytest_unconfigure(self) -> None:
        self._patches.undo()
        logging.setLogRecordFactory(logging.LogRecord)

    def pytest_collection_finish(self) -> None:
        self._from_collection = frozenset(self._secrets)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._secrets = {*self._from_collection}
        self._drawing = is_hypothesis_test(getattr(item, "obj", None))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo and call.excinfo.value
        while error is not None and not isinstance(error, AssertionError):
            self._on_error(error)
            error = error.__cause__ or error.__context__
        if report.when == "teardown":
            for place, text in report.sections:
                self.look(place, text)
            for place, shown in self._last:
                self._search(place, shown)
            if self._findings:
                told = [] if report.longrepr is None else [report.longreprtext]
                report.longrepr = self.masked("\n".join([*told, *self._findings]))
                report.outcome = "failed"
                report.sections = [(name, self.masked(text)) for name, text in report.sections]
            self._findings = {}
            self._last.clear()
        return report

    # --- inside -----------------------------------------------------------------------------

    def _after(self, owner: type, name: str, look: Callable[[Any, Any], None]) -> None:
        """Let ``look(self, result)`` be called after each call of a method."""
        method = getattr(owner, name)

        def call_and_look(this: Any, /, *args: Any, **kwargs: Any) -> Any:
            result = method(this, *args, **kwargs)
            look(this, result)
            return result

        self._patches.setattr(owner, name, call_and_look)

    def _make_record(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        self.look(f"a log record of {record.name}", logging.Formatter().format(record))
        return record

    def _on_stand_in(self, stand_in: StandInGateway, _: None) -> None:
        for given in (stand_in.token, stand_in.password, stand_in.bootstrap_token):
            self.learn(given)

    def _on_pulled(self, kind: str, pulled: object) -> None:
        if pulled is not None:
            self.look(f"the {kind} {type(pulled).__name__}", repr(pulled))

    def _on_traced(self, traced: Traced) -> None:
        self.look("a trace", f"{traced} {traced!r}")

    def _on_error(self, error: BaseException) -> None:
        place = f"the exception {type(error).__name__}"
        self.look(place, f"{error!s} {error!r}")
