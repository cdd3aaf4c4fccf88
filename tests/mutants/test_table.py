"""The table of mistakes fits the code: `python -m tests.mutants` then shows that each is caught."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutants.chaos_table import CHAOS_MUTANTS
from tests.mutants.table import MUTANTS, Mutant

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", [*MUTANTS, *CHAOS_MUTANTS], ids=lambda one: one.broken)
def test_a_mistake_can_be_made_in_one_place_and_has_its_test(mutant: Mutant) -> None:
    assert (TOP / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    file, _, name = mutant.test.partition("::")
    tests = ast.walk(ast.parse((TOP / "tests" / file).read_text()))
    function = name.partition("[")[0]
    assert function in {
        node.name for node in tests if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("table", [MUTANTS, CHAOS_MUTANTS], ids=["ordinary", "chaos"])
def test_no_mistake_stands_there_twice(table: Sequence[Mutant]) -> None:
    assert len({(one.file, one.old) for one in table}) == len(table)
    assert len({one.broken for one in table}) == len(table)


def test_only_the_chaos_takes_the_time_of_the_chaos() -> None:
    assert all(one.test.startswith("chaos/") for one in CHAOS_MUTANTS)
    assert not any(one.test.startswith("chaos/") for one in MUTANTS)
