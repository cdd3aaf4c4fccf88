"""Runs targets: ``python -m tests.fuzz bytes --seconds 60``, or ``--all`` for each of them in turn.

Rules kept here:

* Every run starts from the files in git. What it finds beyond them is kept in ``--corpus FOLDER``,
  for the next run to start from; ``--merge`` then puts what adds coverage among the files in git.
* What crashes is saved, and told together with what to do. The exit code is then 1.
* A run that does not begin, for want of atheris say, fails as well: nothing is skipped in silence.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs

from tests.fuzz.targets import ITSELF, TARGETS, TOP, corpus_of, crashes_of

FOUND: Final = TOP / ".cache" / "fuzz"
"""Where inputs that crashed are saved, and what libFuzzer says while it runs."""
BRANCHES_ALONE: Final = ("-use_counters=0",)
"""Not how often each was passed: what git keeps stays small."""
MISSING: Final = (
    "fuzzing needs atheris: pip install 'openbutter[fuzz]' on Linux, x86-64, CPython 3.11 to 3.13;"
    f" this is {sys.platform}, {platform.machine()}, {platform.python_version()}"
)
_PROGRESS: Final = re.compile(r"^#\d+\s+(INITED|DONE)\s+cov: (\d+) ft: (\d+)", re.MULTILINE)
_EXECUTIONS: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_A_SECOND: Final = re.compile(r"^stat::average_exec_per_sec:\s*(\d+)", re.MULTILINE)
_SAVED: Final = re.compile(r"Test unit written to (\S+)")


@attrs.frozen
class Run:
    """How a run of libFuzzer ended, and what it said."""

    returncode: int
    log: str

    @property
    def figures(self) -> str:
        """Executions, their rate, and the branches that were covered before and after."""
        coverage = {when: (int(cov), int(ft)) for when, cov, ft in _PROGRESS.findall(self.log)}
        began, ended = coverage.get("INITED", (0, 0)), coverage.get("DONE")
        told = [f"{_last(_EXECUTIONS, self.log):,} executions, {_last(_A_SECOND, self.log):,}/s"]
        if ended:
            told.append(f"{ended[0]:,} branches reached, {ended[0] - began[0]:,} of them new")
            told.append(f"{ended[1] - began[1]:,} new features")
        return ", ".join(told)

    @property
    def complaint(self) -> str:
        """What it said besides its progress."""
        lines = self.log.splitlines()
        return "\n".join(one for one in lines if not one.startswith(("#", "INFO:", "WARNING:")))

    @property
    def saved(self) -> str | None:
        """The input that crashed."""
        found = _SAVED.findall(self.log)
        return found[-1] if found else None


def _last(pattern: re.Pattern[str], log: str) -> int:
    found = pattern.findall(log)
    return int(found[-1]) if found else 0


def fuzz(name: str, seconds: int, corpus: Path) -> bool:
    """Fuzz one target for some seconds and tell how it went; False where it crashed."""
    known = [str(one) for one in (corpus_of(name), crashes_of(name)) if one.is_dir()]
    run = libfuzzer(
        name,
        str(corpus),
        *known,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-print_final_stats=1",
    )
    if run.returncode == 0:
        print(f"{name}: {run.figures}, nothing crashed", flush=True)
        return True
    print(run.complaint)
    print(f"{name}: {run.figures}, CRASHED")
    if run.saved is not None:
        place = crashes_of(name).relative_to(TOP)
        print(
            f"To make it a regression test copy {Path(run.saved).relative_to(TOP)} into {place}/: "
            "tests/fuzz/test_regressions.py gives its target every file there."
        )
    return False


def merge(name: str, corpus: Path) -> bool:
    """Put the inputs of a folder that add coverage among the files in git."""
    with TemporaryDirectory() as folder:
        itself = Path(folder) / "fuzzer"
        itself.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz.fuzzer {name} "$@"\n')
        itself.chmod(0o700)
        corpus_of(name).mkdir(parents=True, exist_ok=True)
        folders = (str(corpus_of(name)), str(corpus))
        run = libfuzzer(name, "-merge=1", *BRANCHES_ALONE, *folders, itself=str(itself))
    if run.returncode != 0:
        print(run.complaint)
    files = [*corpus_of(name).iterdir()]
    print(f"{name}: {len(files)} files, {sum(one.stat().st_size for one in files):,} bytes")
    return run.returncode == 0


def libfuzzer(name: str, *options: str, itself: str | None = None) -> Run:
    """Run it in a process of its own: it ends the process when it is done."""
    environment = {**os.environ, "PYTHONPATH": str(TOP)} | ({ITSELF: itself} if itself else {})
    command = [sys.executable, "-m", "tests.fuzz.fuzzer", name, *options]
    FOUND.mkdir(parents=True, exist_ok=True)
    log = FOUND / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command, cwd=TOP, env=environment, stdout=output, stderr=output, check=False
        )
    return Run(done.returncode, log.read_text(errors="backslashreplace"))


@contextmanager
def folder_or(given: Path | None, name: str) -> Iterator[Path]:
    """Make a target's folder in the given one, or one for this run alone."""
    if given is None:
        with TemporaryDirectory() as passing:
            yield Path(passing)
    else:
        folder = given.absolute() / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--all", action="store_true", help="every target, one after another")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--corpus", type=Path, help="keeps what was found, a folder a target")
    parser.add_argument("--merge", action="store_true", help="bring --corpus into git's files")
    given = parser.parse_args()
    if given.all == (given.target is not None):
        parser.error("name one target, or --all")
    if given.merge and given.corpus is None:
        parser.error("--merge needs --corpus")
    if find_spec("atheris") is None:
        sys.exit(MISSING)
    passed = True
    for name in TARGETS if given.all else [given.target]:
        with folder_or(given.corpus, name) as corpus:
            passed &= merge(name, corpus) if given.merge else fuzz(name, given.seconds, corpus)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
