"""The targets, and where their files are.

A target is a module here with ``fuzz(data)``, which any bytes may be given and which raises where
they show a fault, and with ``LONGEST``, the most bytes that make sense.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Final

TARGETS: Final = ("bytes", "frames", "operations", "differential", "stand_in", "recording")
HERE: Final = Path(__file__).parent
TOP: Final = HERE.parents[1]
WORDS: Final = HERE / "words.dict"
"""What gateways say, for libFuzzer to put in and to put together."""
ITSELF: Final = "OPENBUTTER_FUZZER"
"""The variable that names a program which starts this target's fuzzer again: libFuzzer merges so."""


def load(name: str) -> ModuleType:
    """Import a target."""
    return importlib.import_module(f"tests.fuzz.{name}")


def corpus_of(name: str) -> Path:
    """Return the folder of the inputs that reach everything that was reached so far."""
    return HERE / "corpus" / name


def crashes_of(name: str) -> Path:
    """Return the folder of the inputs that once showed a fault."""
    return HERE / "crashes" / name
