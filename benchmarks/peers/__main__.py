"""openbutter against its peers, on one server, in one run.

    python -m benchmarks.peers                    # all: some 30 minutes; tables and targets
    python -m benchmarks.peers --chart docs/images/peers.png     # and a chart (extra `bench`)
    python -m benchmarks.peers --quick            # each once and short, for CI; no figure counts
    python -m benchmarks.peers --clients trio Node --workloads flight

The first run installs the peers (install.py). It fails where openbutter could not do a workload; a
peer that could not has no figure. docs/performance.md says what each workload is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import attrs

from benchmarks import connection
from benchmarks.peers.install import install
from benchmarks.peers.measuring import Table, measure
from benchmarks.peers.plan import CLIENTS, CORE_TARGETS, OURS, TARGETS, WORKLOADS, Workload
from benchmarks.peers.report import core_lines, draw, table_lines, target_lines
from benchmarks.timing import measure as measure_group


def main(arguments: list[str] | None = None) -> int:
    """Compare, and print what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", nargs="+", default=[""], help="parts of their names")
    parser.add_argument("--workloads", nargs="+", default=[""], help="parts of their names")
    parser.add_argument("--chart", type=Path, help="a PNG; needs matplotlib (extra `bench`)")
    parser.add_argument("--json", type=Path, help="every run, as JSON")
    parser.add_argument(
        "--one-core", action="store_true", help="server and clients share one: no waking of another"
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    options = parser.parse_args(arguments)
    if options.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clients = [one for one in CLIENTS if any(part in one.name for part in options.clients)]
    workloads = [one for one in WORKLOADS if any(part in one.name for part in options.workloads)]

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def show(workload: Workload, table: Table) -> None:
        print("\n".join(table_lines(table, [workload])), flush=True)

    table = measure(
        install(),
        clients,
        workloads,
        rounds=1 if options.quick else options.rounds,
        quick=options.quick,
        tell=tell,
        show=show,
    )
    print("\n### Targets\n")
    print("\n".join(target_lines(table, TARGETS)))
    core = measure_group(connection.core(options.quick), options.rounds)
    print("\n".join(core_lines(core, CORE_TARGETS)))
    if options.json is not None:
        rows = [
            {
                "workload": workload,
                "client": client,
                "runs": [attrs.asdict(one) for one in runs.runs],
            }
            for (workload, client), runs in table.items()
        ]
        options.json.write_text(json.dumps(rows, indent=1))
    if options.chart is not None:
        draw(table, [one.name for one in clients], options.chart)
    return int(any(name in OURS and not runs.runs for (_, name), runs in table.items()))


if __name__ == "__main__":
    sys.exit(main())
