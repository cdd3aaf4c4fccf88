"""The clients as processes, and the rounds.

Rules kept here:

* In each round all clients do one workload in turn, each round beginning with another client, so
  that what else the machine does meets all of them alike.
* A client that fails at a workload has no figure there, and its error is told.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import attrs

from benchmarks.peers.clients.job import Job, Result
from benchmarks.peers.install import Installation
from benchmarks.peers.plan import Client, Measure, Workload, does
from benchmarks.peers.server import Server, running

_REPOSITORY: Final = Path(__file__).parents[2]
_TAIL: Final = 4000


class ClientFailed(Exception):
    """A client could not do a workload; the text is its own."""


@attrs.frozen
class Run:
    """One client's result in one round, and what the server spent on it."""

    result: Result
    server_cpu: float


@attrs.define
class Runs:
    """All rounds of one client with one workload."""

    runs: list[Run] = attrs.field(factory=list)

    def median(self, measure: Measure) -> float | None:
        """Return the median, None where there is no figure."""
        return self._median(_VALUES[measure])

    @property
    def server_share(self) -> float | None:
        """How much of the time the server's CPU was busy: 1.0 would be the bottleneck."""
        return self._median(lambda run: run.server_cpu / run.result.seconds)

    @property
    def cpu_share(self) -> float | None:
        """How much of the time the client's CPU was busy."""
        return self._median(lambda run: run.result.cpu / run.result.seconds)

    def _median(self, value: Callable[[Run], float]) -> float | None:
        return statistics.median(map(value, self.runs)) if self.runs else None


_VALUES: Final[dict[Measure, Callable[[Run], float]]] = {
    Measure.THROUGHPUT: lambda run: run.result.items / run.result.seconds,
    Measure.CPU: lambda run: run.result.cpu / run.result.items * 1e6,
    Measure.MEMORY: lambda run: run.result.kilobytes,
}
Table = dict[tuple[str, str], Runs]
"""By workload and client."""


class ClientProcess:
    """One client that waits for jobs."""

    def __init__(self, client: Client, process: subprocess.Popen[str], printed: IO[str]) -> None:
        self.client = client
        self._process = process
        self._printed = printed

    def do(self, job: Job) -> Result:
        """Do one job. Raises `ClientFailed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(attrs.asdict(job)) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._printed.seek(0)
            said = self._printed.read()[-_TAIL:]
            raise ClientFailed(f"{self.client.name} ended with {self._process.wait()}\n{said}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientFailed(f"{self.client.name}: {answer['error']}")
        return Result(**answer)


@contextmanager
def started(client: Client, made: Installation) -> Iterator[ClientProcess]:
    """Run a client for as long as the ``with`` lasts."""
    places = {
        "python": made.python,
        "node": made.node,
        "npm": made.npm,
        "clients": Path(__file__).parent / "clients",
    }
    command = [part.format(**places) for part in client.command]
    with ExitStack() as stack:
        printed = stack.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(_REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )
        try:
            yield ClientProcess(client, process, printed)
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # it is dead, and its last job still unwritten
                process.communicate()


def measure(
    made: Installation,
    clients: Iterable[Client],
    workloads: Iterable[Workload],
    *,
    rounds: int,
    quick: bool,
    tell: Callable[[str], None],
    show: Callable[[Workload, Table], None],
) -> Table:
    """Let all clients do all workloads, in rounds.

    ``tell`` is told of each failure, ``show`` is called after each workload.
    """
    table: Table = {}
    clients = list(clients)
    with ExitStack() as stack:
        server = stack.enter_context(running(made.server))
        processes = [stack.enter_context(started(client, made)) for client in clients]
        for workload in workloads:
            job = workload.job(server.port, quick=quick)
            failed: set[str] = set()
            for client in clients:
                table[workload.name, client.name] = Runs()
            for number in range(1 if workload.once else rounds):
                first = number % len(processes)
                for process in [*processes[first:], *processes[:first]]:
                    name = process.client.name
                    if name in failed or not does(name, workload):
                        continue
                    try:
                        if workload.once:
                            with started(process.client, made) as fresh:
                                run = _run(fresh, job, server)
                        else:
                            run = _run(process, job, server)
                    except ClientFailed as error:
                        failed.add(name)
                        tell(f"{workload.name}: {error}")
                    else:
                        table[workload.name, name].runs.append(run)
            show(workload, table)
    return table


def _run(process: ClientProcess, job: Job, server: Server) -> Run:
    before = server.cpu()
    result = process.do(job)
    return Run(result, server.cpu() - before)
