"""Any text as a recording: it is refused in our own words, or played to its end.

A good recording, a part of which the input replaces, leads further than what begins with nothing:
the first byte chooses one, or none, then two say how much of it stays at its begin and its end.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from butter_proto.testing.recording import BadRecording, load, replay
from tests.fuzz.choices import Choices

LONGEST: Final = 4096
RECORDINGS: Final = Path(__file__).parents[1] / "recordings"
NAMES: Final = ("", "refusal.jsonl", "conversation.jsonl", "reconnect-with-replay.jsonl")


def fuzz(data: bytes) -> None:
    """Read the recording that these bytes make, and do it again."""
    choices = Choices(data)
    lines = recorded(choices.one_of(NAMES))
    begin, end = choices.number(), choices.number()
    between = choices.rest().decode(errors="replace").split("\n")
    with suppress(BadRecording):
        for _ in replay(load("\n".join((*lines[:begin], *between, *lines[max(begin, end) :])))):
            pass


@cache
def recorded(name: str) -> tuple[str, ...]:
    """Return the lines of a file in git."""
    return tuple((RECORDINGS / name).read_text(encoding="utf-8").splitlines()) if name else ()
