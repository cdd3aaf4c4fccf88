"""Every input in git, without a fuzzer: what once reached something new, and what once broke.

A file in ``crashes/TARGET/`` is a regression test by being there.
"""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS, corpus_of, crashes_of, load


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_that_is_kept_breaks_its_target(name: str) -> None:
    target = load(name)
    corpus = sorted(corpus_of(name).iterdir())
    assert corpus
    for file in [*corpus, *sorted(crashes_of(name).glob("*"))]:
        data = file.read_bytes()
        assert len(data) <= target.LONGEST, file
        try:
            target.fuzz(data)
        except Exception as error:
            error.add_note(str(file))
            raise
