"""Breaks the code on purpose, one mistake after the other, and runs the test that must say so.

Rules kept here:

* Everything happens in a copy that is thrown away. First each named test must pass there as it is.
* A mistake is caught where its test fails or hangs. One that breaks the collection or is not seen
  is an error in the table: what pytest said is shown, and the exit code is 1.
* The order of sets and what hypothesis draws come from one seed. What real time decides differs all
  the same: a test that did not do as it must is run again with other seeds, twice at most, and that
  is told. ``--seeds`` finds what is caught by luck.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from tests.mutants.chaos_table import CHAOS_MUTANTS
from tests.mutants.table import MUTANTS, Mutant

TOP: Final = Path(__file__).parents[2]
COPIED: Final = ("butter_proto", "butter_trio", "butter_threads", "tests", "pyproject.toml")
LIMIT: Final = 120.0
"""Seconds for one test, which no test needs on a machine that is busy; together they have more."""
PASSED, FAILED = 0, 1
"""How pytest ends where all tests passed, and where one failed."""
CAUGHT: Final = (FAILED, None)
"""How pytest ends where a mistake was seen: None is a test that hangs."""
AGAIN: Final = 3
"""How often it is tried to have the right tests pass, and to have a mistake caught."""
LAST: Final = 40
"""How many of pytest's lines are shown where it was not as it must be."""


@attrs.frozen
class Run:
    """How pytest ended, and the last lines that it said."""

    returncode: int | None
    """None: it took too long."""
    said: str

    def __str__(self) -> str:
        """Say how it ended."""
        return "took too long" if self.returncode is None else f"exit code {self.returncode}"


def copied(folder: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        if (TOP / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__", ".hypothesis")
            shutil.copytree(TOP / name, folder / name, ignore=leave_out)
        else:
            shutil.copy(TOP / name, folder / name)
    return folder


def run(folder: Path, tests: Sequence[str], seed: int) -> Run:
    """Run tests in a copy, with the examples that belong to a seed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["--hypothesis-profile=first failure"]  # which is enough to have been caught
    command += [f"--hypothesis-seed={seed}"]
    command += ["-m", "chaos or not chaos"]  # it is named, whatever its marks
    command += [f"tests/{test}" for test in tests]
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONHASHSEED": str(seed),
        "PYTHONDONTWRITEBYTECODE": "1",  # of a mistake, which would outlive it
    }
    limit = LIMIT * len(tests)
    returncode = None
    with (
        (folder / "said").open("wb") as said,  # no pipe: whatever a test started may hold it open
        suppress(subprocess.TimeoutExpired),
    ):
        returncode = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        ).returncode
    lines = (folder / "said").read_text(errors="replace").splitlines()
    return Run(returncode, "\n".join(lines[-LAST:]))


def broken(folder: Path, mutant: Mutant, seed: int) -> Run:
    """Make one mistake, run its test, and take the mistake back."""
    file = folder / mutant.file
    right = file.read_text()
    file.write_text(right.replace(mutant.old, mutant.new))
    try:
        return run(folder, [mutant.test], seed)
    finally:
        file.write_text(right)


def chosen_by(words: Sequence[str], table: Iterable[Mutant]) -> list[Mutant]:
    """Return the mistakes whose words, file or test hold one of the words; with none, all."""
    return [
        one
        for one in table
        if not words or any(word in f"{one.broken} {one.file} {one.test}" for word in words)
    ]


def at_last(tried: Callable[[int], Run], wanted: Collection[int | None], seed: int) -> Run:
    """Run until it ends as it must, each time with another seed, and show what did not."""
    for number in range(AGAIN):
        it = tried(seed + number * 1000)
        if it.returncode in wanted:
            break
        print(it.said, f"pytest: {it}, in run {number + 1} of {AGAIN} at most", sep="\n\n")
    return it


def made(chosen: Sequence[Mutant], seeds: Sequence[int]) -> int:
    """Make the mistakes, tell of each whether it was caught, and return the exit code."""
    began = time.monotonic()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder))
        for seed in seeds:
            tests = sorted({one.test for one in chosen})
            if at_last(partial(run, place, tests), (PASSED,), seed).returncode != PASSED:
                print("the tests do not pass as they are")
                return 1
        for one in chosen:
            since = time.monotonic()
            runs = [at_last(partial(broken, place, one), CAUGHT, seed) for seed in seeds]
            failures = [it for it in runs if it.returncode not in CAUGHT]
            missed += bool(failures)
            verdict = f"MISSED {len(failures)} of {len(runs)}" if failures else "caught"
            seconds = f"{time.monotonic() - since:.1f} s"
            print(verdict, seconds, one.broken, one.test, sep="  ", flush=True)
    seconds = f"{time.monotonic() - began:.0f} s"
    print(f"{len(chosen) - missed} of {len(chosen)} mistakes caught, in {seconds}")
    return 1 if missed else 0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="only mistakes whose words, file or test hold one of these",
    )
    parser.add_argument("--chaos", action="store_true", help="those that the chaos must catch")
    parser.add_argument("--list", action="store_true", help="show them, and make none")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="make each one N times, each otherwise"
    )
    given = parser.parse_args()
    chosen = chosen_by(given.words, CHAOS_MUTANTS if given.chaos else MUTANTS)
    if not chosen:
        parser.error("nothing was chosen; --list shows what there is")
    if given.seeds < 1:
        parser.error("--seeds: at least 1")
    if given.list:
        for one in chosen:
            print(one.file, one.broken, one.test, sep="  ")
        return 0
    return made(chosen, range(given.seeds))


if __name__ == "__main__":
    sys.exit(main())
