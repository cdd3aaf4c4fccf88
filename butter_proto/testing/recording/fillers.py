"""What stands in a recording where a secret was.

Rules kept here:

* The same secret has the same filler everywhere, of as many characters that take as many bytes, in
  UTF-8 and in JSON, so that lengths stay and what was equal is equal. It fits where a secret does.
* The longest secret is taken out first: one may be part of another. One of fewer than eight
  characters is taken out of free text where it stands alone: in the middle of a word it shows
  nothing, and names must stay what they are.
* A text may end in the first part of a secret, where its writer cut it.
* Only what was learned is looked for: a gateway chooses how much it calls a secret.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from butter_proto.secret import LONG_ENOUGH, Secret

_PADDING: Final = "-"
_ESCAPED: Final = frozenset('"\\\b\f\n\r\t')
"""What JSON writes with two characters; other controls take six."""
_WIDTHS: Final = (
    ("\x7f", 0),
    ("\u07ff", 0x100),
    ("\uffff", 0x1000),
    (chr(sys.maxunicode), 0x10000),
)
"""The last character of each width in UTF-8, and where those begin that stand for one of it."""


class Fillers:
    """The fillers of one recording."""

    def __init__(self) -> None:
        self._fillers: dict[str, str] = {}
        self._learned: set[str] = set()
        self._longest_first: list[str] | None = None

    def of(self, secret: str) -> str:
        """Return the filler of a secret."""
        filler = self._fillers.get(secret)
        if filler is None:
            number = f"s{len(self._fillers) + 1}"
            plain = number.ljust(len(secret), _PADDING)[-len(secret) :]
            filler = "".join(map(_as_wide, plain, secret))
            self._fillers[secret] = filler
        return filler

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Look for these from now on."""
        for secret in secrets:
            self.of(secret.reveal())
            self._learned.add(secret.reveal())
        self._longest_first = None

    def name(self, text: str) -> str:
        """Take the long secrets out of a name that programs look for, or of any text."""
        for secret in self._long():
            text = text.replace(secret, self._fillers[secret])
        return text

    def text(self, text: str) -> str:
        """Take all secrets out of a free text, also one that it ends in the first part of."""
        text = self.name(text)
        for secret in self._learned:
            if len(secret) < LONG_ENOUGH:
                filler = self._fillers[secret]
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", filler, text)
        cut = max((_overlap(text, secret) for secret in self._long()), default=0)
        return text[: len(text) - cut] + _PADDING * cut

    def data(self, data: bytes) -> bytes:
        """Take the long secrets out of bytes; their number stays."""
        for secret in self._long():
            encoded = secret.encode(errors="surrogatepass")
            data = data.replace(encoded, self._fillers[secret].encode())
        return data

    def json(self, value: Any) -> Any:
        """Take the long secrets out of every text of a JSON value, keys included."""
        match value:
            case str():
                return self.name(value)
            case dict():
                return {self.name(str(key)): self.json(item) for key, item in value.items()}
            case list() | tuple():
                return [self.json(item) for item in value]
        return value

    def _long(self) -> list[str]:
        if self._longest_first is None:
            long = (secret for secret in self._learned if len(secret) >= LONG_ENOUGH)
            self._longest_first = sorted(long, key=len, reverse=True)
        return self._longest_first


def _as_wide(plain: str, hidden: str) -> str:
    """Return a character that says what the plain one says and takes the room of the hidden one."""
    if hidden in _ESCAPED:
        return '"'
    if hidden < " ":
        return "\x01"
    base = next(base for last, base in _WIDTHS if hidden <= last)
    return chr(base + ord(plain))


def _overlap(text: str, secret: str) -> int:
    """Return how many characters at the end of a text are the beginning of a secret."""
    for size in range(min(len(secret) - 1, len(text)), LONG_ENOUGH - 1, -1):
        if text.endswith(secret[:size]):
            return size
    return 0
