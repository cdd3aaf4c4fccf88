"""The entry point of ``butter``: hides the token, and says what is missing.

Rules kept here:

* A token on the command line can be seen by every user of the machine (``ps``). So the process
  starts itself again at once with the token in its environment, where only its owner sees it.
  For a moment it was to be seen: the variable is the safe way.
* Without the extra ``cli`` there is one line on how to get it, and exit code 1.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from butter_proto.endpoint import parse_url
from butter_proto.errors import InvalidSettings
from butter_trio.words import TOKEN_VARIABLE

_EXTRA: Final = frozenset({"click", "rich"})
_INTERRUPTED: Final = 130
"""128 + SIGINT."""


def main() -> None:
    """Run ``butter`` with the arguments of this process, and leave with its exit code."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    visible, token = split_token(arguments)
    if token is not None:
        os.environ[TOKEN_VARIABLE] = token
        _start_again(len(arguments), visible)
    try:
        from butter_trio.commands import run  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("butter needs click and rich: pip install 'openbutter[cli]'\n")
        return 1
    return run(visible)


def split_token(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Split a command line into what may be seen and the token: ``--token`` or ``?token=``.

    ``--token`` goes before one in the URL. What cannot be read stays, for click to complain of.
    """
    visible: list[str] = []
    given = in_url = None
    waiting = deque(arguments)
    while waiting:
        argument = waiting.popleft()
        if argument == "--token" and waiting and waiting[0]:
            given = waiting.popleft()
        elif argument.startswith("--token=") and argument != "--token=":
            given = argument.removeprefix("--token=")
        elif argument.startswith(("ws://", "wss://")):
            url, in_url = _split_url(argument, in_url)
            visible.append(url)
        else:
            visible.append(argument)
    return visible, given or in_url


def _split_url(url: str, before: str | None) -> tuple[str, str | None]:
    with suppress(InvalidSettings):
        endpoint, token = parse_url(url)
        if token is not None:
            return endpoint.url, token
    return url, before


def _start_again(old_count: int, arguments: Sequence[str]) -> None:
    """Replace this process by one with other arguments; returns where that cannot be done."""
    if os.name != "posix":  # elsewhere exec starts a second process and the first one ends
        return
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - old_count]
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, *interpreter, *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
