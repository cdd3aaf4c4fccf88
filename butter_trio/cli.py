"""The entry point of ``butter``: hides what is secret, and says what is missing.

Rules kept here:

* A secret on the command line can be seen by every user of the machine (``ps``). So the process
  starts itself again at once and takes the secrets over by a pipe. For a moment they were to be
  seen: the variables are the safe way. On Windows nothing is hidden.
* Where it cannot start again as it was started it runs on with what it has.
* Without the extra ``cli`` there is one line on how to get it, and exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from butter_trio.hidden import hide, restore

_EXTRA: Final = frozenset({"click", "rich"})
_INTERRUPTED: Final = 130
"""128 + SIGINT."""
_HIDDEN_VARIABLE: Final = "OPENBUTTER_HIDDEN"
"""From the first start to the second: the process, and its end of the pipe with the secrets."""


def main() -> None:
    """Run ``butter`` with the arguments of this process, and leave with its exit code."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    handed_over = os.environ.pop(_HIDDEN_VARIABLE, None)
    if handed_over is not None and handed_over.startswith(f"{os.getpid()}:"):
        arguments = _restored(arguments, int(handed_over.partition(":")[2]))
    else:
        visible, secrets = hide(arguments)
        if secrets:
            _start_again(visible, secrets)
    try:
        from butter_trio.commands import run  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("butter needs click and rich: pip install 'openbutter[cli]'\n")
        return 1
    return run(arguments)


def _start_again(visible: Sequence[str], secrets: Sequence[str]) -> None:
    """Replace this process by one with other arguments; returns where that cannot be done."""
    if os.name != "posix":  # elsewhere exec starts a second process and the first one ends
        return
    count = len(sys.orig_argv) - len(visible)
    if sys.orig_argv[count:] != sys.argv[1:]:  # somebody has changed sys.argv: who knows how
        return
    with suppress(OSError):
        ours = _pipe_with(json.dumps(secrets).encode())
        try:
            environment = os.environ | {_HIDDEN_VARIABLE: f"{os.getpid()}:{ours}"}
            interpreter = sys.orig_argv[1:count]
            os.execve(sys.executable, [sys.executable, *interpreter, *visible], environment)  # noqa: S606
        finally:
            os.close(ours)


def _pipe_with(data: bytes) -> int:
    """Return the end of a pipe from which this comes, for a process that follows."""
    import fcntl  # noqa: PLC0415 - only where the process can start again

    ours, theirs = os.pipe()
    try:
        os.set_blocking(theirs, False)
        if os.write(theirs, data) < len(data):
            raise BlockingIOError
        return fcntl.fcntl(ours, fcntl.F_DUPFD, 3)  # inherited, and none of the standard streams
    finally:
        os.close(ours)
        os.close(theirs)


def _restored(arguments: list[str], pipe: int) -> list[str]:
    """Put the secrets back."""
    with open(pipe, "rb") as handed_over:
        return restore(arguments, json.load(handed_over)) or arguments


if __name__ == "__main__":
    main()
