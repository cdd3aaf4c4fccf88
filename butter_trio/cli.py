"""The entry point of ``butter``: hides what is secret, and says what is missing.

Rules kept here:

* A secret on the command line can be seen by every user of the machine (``ps``). So the process
  starts itself again at once with the secrets in its environment, where only its owner sees them.
  For a moment they were to be seen: the variables are the safe way.
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
"""Takes the secrets, a JSON list, from the first start to the second; then it is gone."""


def main() -> None:
    """Run ``butter`` with the arguments of this process, and leave with its exit code."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    handed_over = os.environ.pop(_HIDDEN_VARIABLE, None)
    if handed_over is not None:
        arguments = _restored(arguments, handed_over)
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
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - len(visible)]
    environment = os.environ | {_HIDDEN_VARIABLE: json.dumps(secrets)}
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, *interpreter, *visible], environment)  # noqa: S606


def _restored(arguments: list[str], handed_over: str) -> list[str]:
    """Put the secrets back; a variable that somebody else has set changes nothing."""
    with suppress(ValueError):
        secrets = json.loads(handed_over)
        if isinstance(secrets, list) and all(isinstance(secret, str) for secret in secrets):
            return restore(arguments, secrets) or arguments
    return arguments


if __name__ == "__main__":
    main()
