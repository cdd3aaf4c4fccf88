"""What every layer costs, and how the cost grows.

    python -m benchmarks.layers                 # all layers, some minutes
    python -m benchmarks.layers --quick         # seconds, for CI; no figure counts
    python -m benchmarks.link                   # one of them

The layers: link, frames, connection, connector, pool, adapters.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import adapters, connection, connector, frames, link, pool
from benchmarks.timing import Group, run_as_script

LAYERS = (link, frames, connection, connector, pool, adapters)


def groups(quick: bool) -> Sequence[Group]:  # noqa: FBT001 - the one question
    """Return the groups of all layers."""
    return [group for layer in LAYERS for group in layer.groups(quick)]


if __name__ == "__main__":
    run_as_script(groups)
