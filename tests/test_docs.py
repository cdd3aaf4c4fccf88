"""docs/ says what the code does: generated parts are fresh, blocks run, the example drives."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
import trio

from butter_proto import (
    Connector,
    EndKind,
    FaultKind,
    ReconnectSettings,
    Settings,
    events,
)
from butter_proto.testing import StandInGateway
from butter_trio.serve import serve
from docs import generate, parts
from examples.minimal_driver import Driver

TOP = Path(__file__).parents[1]
PAGES = sorted((TOP / "docs").glob("*.md"))
RUNNABLE = re.compile(r"^```python runnable\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)")
TOKEN = "s3cret-token"
_T = TypeVar("_T")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pages, which generate.py takes for the real ones."""
    folder = tmp_path / "docs"
    shutil.copytree(TOP / "docs", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(generate, "DOCS", folder)
    monkeypatch.setattr(
        generate, "guarantee_tests", lambda: {n: ["test"] for n in parts.GUARANTEES}
    )
    return folder


def change(page: Path, old: str, new: str) -> None:
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new, 1))


# --- the generated parts --------------------------------------------------------------------


def test_the_generated_parts_are_what_the_code_says() -> None:
    assert generate.main(["--check"]) == 0


def test_a_stale_page_is_named_and_then_rewritten(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copy / "states.md", "the gateway went silent", "the gateway slept")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "states.md is stale: run python docs/generate.py\n"
    assert generate.main([]) == 0
    assert capsys.readouterr().out == "wrote states.md\n"
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("<!-- end: states -->", "", "states.md: a mark has no partner"),
        ("<!-- generated: states -->", "", "states.md: a mark has no partner"),
        ("generated: states -->", "generated: moods -->", "states.md: a mark has no partner"),
        (
            "# ",
            "<!-- generated: moods -->\n<!-- end: moods -->\n# ",
            "states.md: there is no part 'moods'",
        ),
        (
            "# ",
            "<!-- generated: states -->\n<!-- end: states -->\n# ",
            "the part 'states' stands in 2 places",
        ),
    ],
)
def test_a_misplaced_mark_is_named_and_nothing_is_written(
    copy: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, fault: str
) -> None:
    change(copy / "states.md", old, new)
    before = (copy / "states.md").read_text()
    assert generate.main([]) == 1
    assert fault in capsys.readouterr().err.splitlines()
    assert (copy / "states.md").read_text() == before


def test_a_guarantee_without_a_test_is_named(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy.exists()
    tests = {number: ["test"] for number in parts.GUARANTEES} | {7: []}
    monkeypatch.setattr(generate, "guarantee_tests", lambda: tests)
    assert generate.main(["--check"]) == 1
    assert "test_g7_" in capsys.readouterr().err


# --- the pages ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embedding.md", "settings.md", "transport.md"])
def test_the_runnable_blocks_of_a_page_run_one_after_the_other(name: str) -> None:
    page = TOP / "docs" / name
    text = page.read_text()
    names: dict[str, Any] = {}
    for block in RUNNABLE.finditer(text):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), names)
    assert names


def test_no_other_page_has_runnable_blocks() -> None:
    found = {page.name for page in PAGES if RUNNABLE.search(page.read_text())}
    assert found == {"embedding.md", "settings.md", "transport.md"}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_index_names_every_page() -> None:
    index = (TOP / "docs" / "README.md").read_text()
    linked = {path for path, _ in LINK.findall(index)}
    assert {page.name for page in PAGES} - {"README.md"} <= linked


# --- the example ----------------------------------------------------------------------------


class Watched:
    """A machine that checks how its driver calls it: the contract's steps, in their order."""

    def __init__(self, machine: Connector) -> None:
        self._machine = machine
        self._left = {"next_command", "next_event"}
        self.driver: Driver | None = None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._machine, name)
        return partial(self._call, name, value) if callable(value) else value

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        if name.startswith("next_"):
            answer = method()
            if answer is None:
                self._left.discard(name)
            return answer
        if name == "data_to_send":
            assert self.driver is not None
            assert not self.driver.transports[arguments[0]].unsent
        else:
            in_pull = name in ("transport_opened", "transport_failed")
            assert in_pull or not self._left, f"{name} before {self._left} was empty"
            self._left = {"next_command", "next_event"}
        return method(*arguments)


def connector_to(url: str) -> Connector:
    quick = ReconnectSettings(base=0.05, cap=0.05, minimum=0.01)
    settings = Settings(token=TOKEN, reconnect=quick)
    return Connector(url, settings, random=lambda: 1.0, entropy=Random(7).randbytes)


def run_driver(
    connector: Connector, act: Callable[[events.PoolEvent], None]
) -> list[events.PoolEvent]:
    """Run the example's driver until Stopped; return what it told."""
    told: list[events.PoolEvent] = []

    def on_event(event: events.PoolEvent) -> None:
        told.append(event)
        act(event)

    watched = Watched(connector)
    watched.driver = driver = Driver(watched, on_event)
    connector.start(time.monotonic())
    driver.run()
    assert driver.transports == {}
    assert told[-1] == events.Stopped()
    return told


def on_a_port(gateway: StandInGateway, use: Callable[[str], _T]) -> _T:
    """Call a blocking function with the URL of a stand-in on a real port; return its result."""

    async def main() -> _T:
        async with serve(gateway) as url:
            with trio.fail_after(30):
                return await trio.to_thread.run_sync(use, url, abandon_on_cancel=True)

    return trio.run(main)


def test_the_example_asks_and_comes_back_after_a_drop() -> None:
    gateway = StandInGateway(token=TOKEN)

    def use(url: str) -> list[events.PoolEvent]:
        connector = connector_to(url)

        def act(event: events.PoolEvent) -> None:
            match event:
                case events.Online(resync=False):
                    connector.request("echo", {"n": 1}, now=time.monotonic())
                case events.Replied():
                    gateway.drop()
                case events.Online():
                    connector.stop(time.monotonic())

        return run_driver(connector, act)

    told = on_a_port(gateway, use)
    connecting, online, replied, offline, retrying, again, online_again, *_ = told
    assert isinstance(connecting, events.Connecting)
    assert isinstance(online, events.Online)
    assert isinstance(replied, events.Replied)
    assert replied.payload == {"n": 1}
    assert isinstance(offline, events.Offline)
    assert offline.ending.kind is EndKind.END_OF_STREAM
    assert isinstance(retrying, events.Retrying)
    assert isinstance(again, events.Connecting)
    assert isinstance(online_again, events.Online)


def test_the_example_waits_for_a_socket_that_takes_no_more() -> None:
    """20 MB are far more than the buffers of the two sockets hold."""
    gateway = StandInGateway(token=TOKEN)

    def use(url: str) -> list[events.PoolEvent]:
        connector = connector_to(url)

        def act(event: events.PoolEvent) -> None:
            match event:
                case events.Online():
                    connector.request("echo", {"text": "x" * 20_000_000}, now=time.monotonic())
                case events.Replied() | events.RequestFailed():
                    connector.stop(time.monotonic())

        return run_driver(connector, act)

    [replied] = [event for event in on_a_port(gateway, use) if isinstance(event, events.Outcome)]
    assert isinstance(replied, events.Replied)
    assert len(replied.payload["text"]) == 20_000_000


def test_the_example_reports_a_refused_dial_and_a_reset() -> None:
    gateway = StandInGateway(token=TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    connector = connector_to(f"ws://127.0.0.1:{port}")

    def stop(event: events.PoolEvent) -> None:
        if isinstance(event, events.Retrying):
            connector.stop(time.monotonic())

    [retrying] = [e for e in run_driver(connector, stop) if isinstance(e, events.Retrying)]
    assert retrying.ending.fault is not None
    assert retrying.ending.fault.kind is FaultKind.REFUSED

    def use(url: str) -> list[events.PoolEvent]:
        connector = connector_to(url)

        def act(event: events.PoolEvent) -> None:
            match event:
                case events.Online():
                    gateway.drop(reset=True)
                case events.Retrying():
                    connector.stop(time.monotonic())

        return run_driver(connector, act)

    [retrying] = [e for e in on_a_port(gateway, use) if isinstance(e, events.Retrying)]
    assert retrying.ending.fault is not None
    assert retrying.ending.fault.kind is FaultKind.RESET


@pytest.mark.parametrize(
    ("token", "names"),
    [
        (TOKEN, ["Connecting", "Online", "Replied", "Offline", "Stopped"]),
        ("wrong", ["Connecting", "GaveUp", "Stopped"]),
    ],
)
def test_the_example_runs_as_a_script_and_shows_no_token(token: str, names: list[str]) -> None:
    def use(url: str) -> str:
        return subprocess.run(
            [sys.executable, "examples/minimal_driver.py", url, token],
            cwd=TOP,
            env=os.environ | {"PYTHONPATH": str(TOP)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    printed = on_a_port(StandInGateway(token=TOKEN), use)
    shown = [line.partition("(")[0] for line in printed.splitlines()]
    assert [name for name in shown if name != "RoundTrip"] == names
    assert token not in printed.replace("The token is wrong", "")
