"""A text that must not be shown, and foreign text with such texts taken out (G11).

Rules kept here:

* Only ``reveal()`` gives a secret's text; every text form is ``***``.
* Redaction takes the longest secret first: one may be part of another.
* A text that somebody cut may end in the first part of a secret, which no search for it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, AnyStr, Final, TypeVar

from butter_proto.errors import InvalidSettings

MASK: Final = "***"
"""Stands for a secret wherever one was."""
LONG_ENOUGH: Final = 8
"""Characters of a secret, or of its first part, that no other text has by chance."""
_T = TypeVar("_T")


class Secret:
    """A text that must not be shown. Equal to another `Secret` with the same text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise InvalidSettings("a secret is a non-empty str")
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; keep it out of everything that is shown."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


def redact(value: _T, secrets: Iterable[Secret]) -> _T:
    """Return foreign text or JSON with every known secret replaced by ``***``.

    Walks lists and objects, keys included; other types come back as they are.
    """
    texts = longest_first(secrets)
    root = [value]
    boxes: list[Any] = [root] if texts else []
    while boxes:  # no recursion: foreign JSON may be nested as deep as the interpreter's stack
        box = boxes.pop()
        for place, item in list(box.items() if isinstance(box, dict) else enumerate(box)):
            if isinstance(item, str):
                box[place] = masked(item, texts)
            elif isinstance(item, list):
                box[place] = list(item)
                boxes.append(box[place])
            elif isinstance(item, dict):
                box[place] = {masked(key, texts): inner for key, inner in item.items()}
                boxes.append(box[place])
    return root[0]


def long_enough(secrets: Iterable[Secret]) -> list[Secret]:
    """Return the secrets that no other text has by chance: taking these out rewrites no data."""
    return [secret for secret in secrets if len(secret.reveal()) >= LONG_ENOUGH]


def longest_first(secrets: Iterable[Secret]) -> list[str]:
    """Return the texts of secrets in the order in which they have to be taken out."""
    return sorted({secret.reveal() for secret in secrets}, key=len, reverse=True)


def masked(text: Any, texts: Iterable[str]) -> Any:
    """Return a text with each of ``texts`` replaced by ``***``; any other value as it is."""
    if isinstance(text, str):
        for secret in texts:
            text = text.replace(secret, MASK)
    return text


def without_cut_secret(
    text: AnyStr, secrets: Iterable[AnyStr], mask: AnyStr, shortest: int = LONG_ENOUGH
) -> AnyStr:
    """Return a text that may have been cut, its end masked where a secret begins there.

    ``shortest`` is how much of a secret must be there, at least 1.
    """
    longest = 0
    for secret in secrets:
        for size in range(min(len(secret) - 1, len(text)), max(longest, shortest - 1), -1):
            if text.endswith(secret[:size]):
                longest = size
                break
    return text[: len(text) - longest] + mask if longest else text


def is_text(value: object) -> bool:
    """Tell whether this is a non-empty str that UTF-8 can write: connect must never fail on it."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # a lone surrogate, as os.environ has for a byte that is no UTF-8
        return False


def to_secret(value: str | Secret | None) -> Secret | None:
    """Convert what a caller gives as a secret. Raises `InvalidSettings`."""
    if value is None:
        return None
    secret = value if isinstance(value, Secret) else Secret(value)
    if not is_text(secret.reveal()):
        raise InvalidSettings("a secret must be text that UTF-8 can write")
    return secret
