"""What could be wrong in the benchmarks: that a client does other work than it claims."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import butter_threads
from benchmarks import layers, shares, timing
from benchmarks.peers import install as installing
from benchmarks.peers.clients import bare_trio, ours_threads, ours_trio, raw, workloads
from benchmarks.peers.clients.job import Job, Result, WrongCount
from benchmarks.peers.clients.on_trio import RUNTIME
from benchmarks.peers.measuring import Run, Runs, Table, measure
from benchmarks.peers.plan import CLIENTS, WORKLOADS, Client, Measure, Target, does
from benchmarks.peers.report import draw, ratio, table_lines, target_lines
from benchmarks.peers.server import Server, running
from benchmarks.timing import Case, Group
from butter_proto.settings import Json

# --- timing ---------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_prepared_anew_outside_of_the_time() -> None:
    log: list[str] = []

    def case(name: str) -> Case:
        def prepare() -> Callable[[], object]:
            log.append(f"prepare {name}")
            return lambda: log.append(name)

        return Case(name, 1, prepare)

    figures = timing.measure(Group("group", [case("a"), case("b")]), rounds=2)
    assert log == ["prepare a", "a", "prepare b", "b"] * 2
    assert [figure.case for figure in figures] == ["a", "b"]


def test_a_case_that_does_less_than_it_says_has_no_figure() -> None:
    with pytest.raises(timing.WrongCount):
        timing.measure(Group("group", [Case("a", 10, lambda: lambda: 9)]), rounds=1)


def test_ratios_are_to_the_first_case() -> None:
    def spin(times: int) -> Callable[[], object]:
        return lambda: sum(range(times)) and None

    cases = [Case("one", 1, lambda: spin(100_000)), Case("five", 1, lambda: spin(500_000))]
    one, five = timing.measure(Group("group", cases), rounds=5)
    assert one.ratio == 1.0
    assert 2 < five.ratio < 12


@pytest.mark.parametrize(
    "layer", layers.LAYERS, ids=lambda layer: layer.__name__.rpartition(".")[2]
)
def test_each_layer_does_what_it_says(layer: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert timing.main(layer.groups, ["--quick"]) == 0  # type: ignore[attr-defined]
    assert "| us, median |" in capsys.readouterr().out


def test_a_run_can_be_kept_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "figures.json"
    groups = [Group("group", [Case("a", 1, lambda: lambda: None)])]
    assert timing.main(lambda _: groups, ["--json", str(kept)]) == 0
    assert [one["case"] for one in json.loads(kept.read_text())] == ["a"]
    assert "| a |" in capsys.readouterr().out


# --- the server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBUTTER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield installing.install(peers=False).server


@pytest.fixture
def server(executable: Path) -> Iterator[Server]:
    with running(executable) as one:
        yield one


PAYLOADS = [
    {},
    {"text": "x" * 125},
    {"text": "x" * 126},
    {"text": "x" * 65_535},
    {"text": "x" * 300_000},
    {"id": "not the request's", "method": "connect", "params": {"size": 1}},
    {"text": 'quotes " and \\ and {[ and \u00fc\U0001f980', "list": [1, [2, {"a": "}"}], "]"]},
    {"nothing": None, "number": -1.5e3, "flags": [True, False]},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: str(len(str(payload))))
def test_the_server_echoes(server: Server, payload: dict[str, object]) -> None:
    with butter_threads.connect(f"ws://127.0.0.1:{server.port}/") as gateway:
        assert gateway.request("bench.echo", payload) == payload


def test_the_server_counts_a_large_upload_in_fragments(server: Server) -> None:
    text = "x" * 2_000_000
    with butter_threads.connect(f"ws://127.0.0.1:{server.port}/") as gateway:
        size = gateway.request("bench.size", {"text": text})["size"]
    assert size == len(json.dumps({"text": text}, separators=(",", ":")))


def test_the_server_sends_a_burst_whole_and_in_order(server: Server) -> None:
    with (
        butter_threads.connect(f"ws://127.0.0.1:{server.port}/") as gateway,
        gateway.events("bench", limit=5_000, timeout=30) as events,
    ):
        gateway.request("bench.burst", {"count": 5_000, "size": 300})
        taken = [event for _, event in zip(range(5_000), events, strict=False)]
    assert [event.seq for event in taken] == [*range(1, 5_001)]  # type: ignore[union-attr]


def test_the_server_tells_what_cpu_it_has_spent(server: Server) -> None:
    before = server.cpu()
    raw.run(Job("requests", server.port, 20_000, parallel=100))
    assert before < server.cpu() < before + 10


# --- the clients ----------------------------------------------------------------------------

JOBS = [
    Job("requests", 0, 50),
    Job("requests", 0, 640, parallel=64),
    Job("burst", 0, 2_000, size=300),
    Job("connects", 0, 3),
    Job("up", 0, 2, size=100_000),
    Job("down", 0, 2, size=100_000),
]


@pytest.mark.parametrize("run", [raw.run, ours_threads.run], ids=["raw", "threads"])
@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.kind} {job.parallel}")
def test_a_client_does_all_of_a_job(server: Server, run: Callable[[Job], Result], job: Job) -> None:
    result = run(attrs.evolve(job, port=server.port))
    assert result.items == job.count
    assert result.seconds > 0


class LyingSession:
    """Answers all with the same, and counts one event too few."""

    async def request(self, *_: object) -> object:
        return {"text": "", "size": 0}

    async def burst(self, params: dict[str, int]) -> tuple[int, object]:
        return params["count"] - 1, {"text": "x" * params["size"]}


@asynccontextmanager
async def lying(_: Job) -> AsyncIterator[LyingSession]:
    yield LyingSession()


@pytest.mark.parametrize("kind", ["requests", "burst", "up", "down", "idle"])
def test_a_client_that_gets_something_else_has_no_result(kind: str) -> None:
    with pytest.raises(WrongCount):
        trio.run(workloads.run, Job(kind, 0, 10, size=300), lying, RUNTIME)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.kind} {job.parallel}")
def test_a_client_that_is_awaited_does_all_of_a_job(server: Server, job: Job) -> None:
    told = attrs.evolve(job, port=server.port)
    result = trio.run(
        workloads.run, told, partial(ours_trio.open_session, json=Json.STDLIB), RUNTIME
    )
    assert result.items == job.count


@pytest.mark.parametrize("kind", ["requests", "connects"])
def test_the_bound_of_trio_does_all_of_a_job(server: Server, kind: str) -> None:
    told = Job(kind, server.port, 20)
    assert trio.run(workloads.run, told, bare_trio.open_session, RUNTIME).items == 20


def test_idle_connections_are_alive_at_the_end(server: Server) -> None:
    result = ours_threads.run(Job("idle", server.port, 3, seconds=0.1))
    assert result.items == 3
    assert result.kilobytes >= 0


def test_a_client_that_fails_has_no_figure_and_the_others_go_on(executable: Path) -> None:
    made = installing.Installation(executable.parent)
    broken = Client("broken", (sys.executable, "-c", "raise SystemExit('no such client')"))
    works = Client("raw socket", (sys.executable, "-m", "benchmarks.peers.clients.raw"))
    told: list[str] = []
    table = measure(
        made,
        [broken, works],
        WORKLOADS[:1],
        rounds=2,
        quick=True,
        tell=told.append,
        show=lambda workload, _: told.append(workload.name),
    )
    assert "no such client" in told[0]
    assert told[1:] == [WORKLOADS[0].name]
    assert [len(runs.runs) for runs in table.values()] == [0, 2]


# --- what is printed ------------------------------------------------------------------------


def table_of(**throughputs: float) -> Table:
    return {
        ("work", name): Runs([Run(Result(int(value), 1.0, 1.0), 0.1)])
        for name, value in throughputs.items()
    }


def test_a_target_is_held_against_the_best_peer() -> None:
    table = table_of(ours=100, slow=10, fast=200)
    target = Target("work", Measure.THROUGHPUT, "ours", ("slow", "fast"), 0.5)
    assert ratio(table, target) == (0.5, "fast")
    cheapest = Target("work", Measure.CPU, "ours", ("slow", "fast"), 0.5)
    assert ratio(table, cheapest) == (2.0, "fast")
    lines = [*target_lines(table, [target, cheapest])][2:]
    assert [line.split(" | ")[-1] for line in lines] == ["met |", "**not met** |"]


def test_a_target_without_a_figure_is_not_met() -> None:
    target = Target("work", Measure.THROUGHPUT, "ours", ("peer",), 1.0)
    assert [*target_lines(table_of(ours=1), [target])][-1].endswith("| no figure |")


def test_a_median_is_of_all_rounds() -> None:
    runs = Runs([Run(Result(items, 1.0, 0.5), 0.25) for items in (1, 100, 3)])
    assert runs.median(Measure.THROUGHPUT) == 3
    assert (runs.cpu_share, runs.server_share) == (0.5, 0.25)
    assert Runs().median(Measure.CPU) is None


def test_the_tables_name_every_client_that_has_a_figure() -> None:
    workload = WORKLOADS[0]
    table = {
        (workload.name, client.name): Runs([Run(Result(1, 1.0, 1.0), 0.1)])
        for client in CLIENTS
        if does(client.name, workload)
    }
    printed = "\n".join(table_lines(table, WORKLOADS))
    assert all(f"| {client.name} |" in printed for client in CLIENTS)


def test_the_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = {
        (workload.name, client.name): Runs([Run(Result(1, 1.0, 1.0, 5.0), 0.1)])
        for workload in WORKLOADS
        for client in CLIENTS
    }
    draw(table, [client.name for client in CLIENTS], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 0


# --- shares ---------------------------------------------------------------------------------


def test_each_workload_has_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert shares.main(["--quick"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 * len(shares.SHOWN)
    parts = head.split("|")[2:-1]
    totals = [sum(int(cell.strip(" %")) for cell in row.split("|")[2:-1]) for row in rows]
    assert {len(row.split("|")[2:-1]) for row in rows} == {len(parts)}
    assert all(total == 0 or 96 <= total <= 104 for total in totals)  # 0: too quick for a sample
    assert any(totals)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("trio._core._run", shares.TRIO),
        ("trio._socket", shares.SOCKETS),
        ("h11._connection", shares.WSPROTO),
        ("json.decoder", shares.JSON),
        ("butter_proto.codec", shares.JSON),
        ("butter_proto.connection", shares.CORE),
        ("butter_trio.client", shares.ADAPTER),
    ],
)
def test_what_is_nobodys_belongs_to_its_caller(module: str, part: str) -> None:
    caller: dict[str, Any] = {"__name__": module}
    exec("def call(function):\n    return function()\n", caller)
    nobody: dict[str, Any] = {"__name__": "contextlib"}
    exec("import sys\ndef own():\n    return sys._getframe()\n", nobody)
    assert shares.part_of(caller["call"](nobody["own"])) == part


def test_a_frame_of_nobody_is_the_rest() -> None:
    assert shares.part_of(None) == shares.REST
