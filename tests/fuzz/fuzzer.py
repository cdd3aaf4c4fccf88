"""One target under libFuzzer: ``python -m tests.fuzz.fuzzer TARGET`` and libFuzzer's own options.

``python -m tests.fuzz`` starts this and reads what it says; atheris is imported here alone. What is
watched for coverage is the core and the parsers under it: they steer by what they have read.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import atheris

from tests.fuzz.targets import ITSELF, WORDS, load

INSTRUMENTED: Final = ("butter_proto", "wsproto", "h11")
PACE: Final = "-entropic_scale_per_exec_time=1"
"""What is slow is changed less often."""
LIMITS: Final = ("-timeout=60", "-report_slow_units=60", "-rss_limit_mb=2048")
"""An input that takes longer, in seconds, or a process that grows larger is a fault as well.

So high, because watched code is slow, and more so on a machine that does other things.
"""


def main() -> None:
    """Fuzz until time is up or a fault was found; does not return."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=[*INSTRUMENTED]):
        target = load(name)
    program = os.environ.get(ITSELF, sys.argv[0])
    own = (f"-max_len={target.LONGEST}", f"-dict={WORDS}", PACE, *LIMITS)
    atheris.Setup([program, *own, *options], target.fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
