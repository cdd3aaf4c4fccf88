"""Each file in tests/recordings comes out the same: a bug report's becomes a test by copying it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from butter_proto.testing.recording import BadRecording, Recording, difference, load, load_file

FOLDER: Final = Path(__file__).parents[1] / "recordings"
FILES: Final = sorted(path for path in FOLDER.iterdir() if not path.name.startswith("."))


def recording(file: Path) -> Recording:
    """Read one; a file that is none is a line, and no traceback."""
    try:
        return load_file(file)
    except BadRecording as error:
        pytest.fail(f"{file.name}: {error}", pytrace=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_recording_comes_out_as_it_was(file: Path) -> None:
    played = recording(file)
    if not played.is_whole:
        pytest.fail(f"{file.name} was cut short, or lacks lines", pytrace=False)
    step = difference(played)
    if step is not None:
        told = "\n".join(map(str, step.differences))
        pytest.fail(f"{file.name}: at {step.at:.3f} s: {told}", pytrace=False)


def test_there_are_some() -> None:
    assert len(FILES) >= 8


def test_a_decision_that_came_out_otherwise_is_found() -> None:
    text = (FOLDER / "refusal.jsonl").read_text(encoding="utf-8")
    step = difference(load(text.replace('"GaveUp"', '"Retrying"')))
    assert step is not None
    (found,) = step.differences
    told = "ending=CONNECT_REFUSED code=INVALID_REQUEST detail=AUTH_TOKEN_MISMATCH"
    assert str(found) == f"then Retrying {told}; now GaveUp {told}"
