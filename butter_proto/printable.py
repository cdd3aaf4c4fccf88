"""Foreign text as a terminal or a log may have it: one line, and nothing in it that acts."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return one line of text with everything escaped that a terminal might act on."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
