"""Writes the parts of docs/ that repeat the code; with ``--check`` it only looks.

    python docs/generate.py           rewrite what is stale
    python docs/generate.py --check   exit 1 and name the stale pages

Rules kept here:

* A part stands in a page between ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``. Each name
  of `PARTS` (parts.py says what stands there) stands in exactly one place.
* Each guarantee has a test whose name begins with its own: ``test_g1_`` to ``test_g12_``.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[1]
DOCS: Final = TOP / "docs"
sys.path.insert(0, str(TOP))  # the code of this tree is documented, not an installed one

from docs.parts import GUARANTEES, PARTS, guarantee_tests  # noqa: E402

MARKED: Final = re.compile(
    r"<!-- generated: (?P<name>[\w-]+) -->\n(?:(?!<!-- generated).)*?<!-- end: (?P=name) -->",
    re.DOTALL,
)
MARK: Final = re.compile(r"<!-- (?:generated|end): [\w-]+ -->")


def fresh(text: str) -> str:
    """Return a page with its generated parts as they should be."""

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n{PARTS[name]()}\n<!-- end: {name} -->"

    return MARKED.sub(part, text)


def misplaced(texts: dict[str, str]) -> list[str]:
    """Return what is wrong with the marks in the pages."""
    found = []
    places: Counter[str] = Counter()
    for page, text in texts.items():
        names = [match["name"] for match in MARKED.finditer(text)]
        places.update(names)
        if len(MARK.findall(text)) != 2 * len(names):
            found.append(f"{page}: a mark has no partner")
        found += [f"{page}: there is no part {name!r}" for name in names if name not in PARTS]
    found += [
        f"the part {name!r} stands in {places[name]} places" for name in PARTS if places[name] != 1
    ]
    return found


def unheld() -> list[str]:
    """Return the guarantees that no test holds."""
    tests = guarantee_tests()
    return [
        f"contract.md: no test in tests/proto/test_guarantees*.py is named test_g{number}_..."
        for number in GUARANTEES
        if not tests[number]
    ]


def main(arguments: list[str]) -> int:
    """Rewrite the pages or, with ``--check``, name those that are stale."""
    pages = {page.name: page for page in sorted(DOCS.glob("*.md"))}
    texts = {name: page.read_text() for name, page in pages.items()}
    faults = misplaced(texts)
    stale = [] if faults else [name for name, text in texts.items() if fresh(text) != text]
    if "--check" in arguments:
        faults += [f"{name} is stale: run python docs/generate.py" for name in stale]
    else:
        for name in stale:
            pages[name].write_text(fresh(texts[name]))
            print(f"wrote {name}")
    faults += unheld()
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
