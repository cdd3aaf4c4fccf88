"""The examples do what they say: against the stand-in, in virtual time where no socket is needed."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

import attrs
import pytest
import trio

import butter_threads
import butter_threads.serve
from butter_proto.errors import GatewayError
from butter_proto.machine import State, Stats
from butter_proto.testing import StandInGateway
from butter_trio import RequestRefused, connect
from butter_trio.serve import serve
from butter_trio.testing import memory_dial
from examples import redundant_pool
from examples.metrics_exporter import CONTENT_TYPE, METRICS, exporter, render
from examples.streaming_chat import LOOK_AGAIN, NoReply, Standing, Turn, chat
from tests.trio.scenario import URL, real_time, virtual_time

TOP: Final = Path(__file__).parents[1]
SOON: Final = 0.1
"""Seconds in which what was pushed arrives and what was dropped is known; no retry is due yet."""
BACKOFF: Final = 1.5
"""Seconds in which a dropped connector is back; the first retry comes after 0.25 to 1 s."""

# --- streaming_chat -------------------------------------------------------------------------


@attrs.define(eq=False)
class Session:
    """A chat session as the gateway keeps it (wire.md 11), for a stand-in to answer from."""

    gateway: StandInGateway = attrs.field(factory=StandInGateway)
    sent: list[str] = attrs.field(factory=list)
    """The idempotency key of every chat.send."""
    rows: list[dict[str, Any]] = attrs.field(factory=list)
    pending: list[dict[str, Any]] = attrs.field(factory=list)
    run: dict[str, Any] | None = None
    active: bool = False

    def __attrs_post_init__(self) -> None:
        self.gateway.reply("chat.send", self.take)
        self.gateway.reply("chat.history", lambda _: self.history())

    def take(self, params: dict[str, Any]) -> dict[str, str]:
        key = params["idempotencyKey"]
        self.sent.append(key)
        self.write("user", params["message"], key)
        self.begin(key)
        return {"runId": key, "status": "started"}

    def history(self) -> dict[str, Any]:
        """What chat.history has; without a run there is no key for it."""
        return {
            "messages": self.rows,
            "pendingInputs": {"items": self.pending, "total": len(self.pending)},
            "sessionInfo": {"hasActiveRun": self.active},
        } | ({"inFlightRun": dict(self.run)} if self.run else {})

    def begin(self, run_id: str) -> None:
        self.run, self.active = {"runId": run_id, "text": ""}, True

    def write(self, role: str, text: str, run_id: str, stop: str = "stop") -> None:
        """Store a row."""
        if role == "user":
            self.rows.append({"role": role, "content": text, "idempotencyKey": f"{run_id}:user"})
            return
        content = [{"type": "text", "text": text}]
        row = {"role": role, "content": content, "stopReason": stop}
        self.rows.append(row | {"__openclaw": {"runId": run_id}})

    def stream(self, *pieces: str) -> None:
        """Go on with the run."""
        for piece in pieces:
            assert self.run is not None
            self.run["text"] += piece
            self.push("delta", deltaText=piece, message=self.message())

    def finish(self) -> None:
        """End the run."""
        assert self.run is not None
        self.write("assistant", self.run["text"], self.run["runId"])
        self.push("final", message=self.message())
        self.run, self.active = None, False

    def message(self) -> dict[str, Any]:
        assert self.run is not None
        return {"role": "assistant", "content": [{"type": "text", "text": self.run["text"]}]}

    def push(self, state: str, **more: Any) -> None:
        assert self.run is not None
        self.gateway.push("chat", {"runId": self.run["runId"], "state": state, **more})

    def kill(self) -> None:
        """End the process without a word, and start another one."""
        self.run = None
        self.gateway.restart(down=0.1, announce=False)

    def take_up_again(self, run_id: str) -> None:
        """Begin the interrupted turn again, as a run of its own."""
        self.write("user", "[System] Your previous turn was interrupted.", run_id)
        self.begin(run_id)


@attrs.define(eq=False)
class Chat:
    """One turn under way: what it printed, and how it ended."""

    printed: list[str] = attrs.field(factory=list)
    turn: Turn = attrs.field(init=False)
    reply: str | None = None
    error: NoReply | RequestRefused | None = None

    def __attrs_post_init__(self) -> None:
        self.turn = Turn("key", self.printed.append)


@asynccontextmanager
async def chatting(session: Session, *, resend: bool = False) -> AsyncIterator[Chat]:
    """Chat in the background; the ``async with`` ends when the chat does."""
    one = Chat()

    async def run() -> None:
        try:
            one.reply = await chat(gateway, one.turn, "Hello", resend=resend)
        except (NoReply, RequestRefused) as error:
            one.error = error

    async with (
        connect(URL, dial=memory_dial(session.gateway)) as gateway,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(run)
        await trio.sleep(SOON)
        yield one


@virtual_time
async def test_a_reply_is_printed_piece_by_piece_and_once() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread", " and ", "butter")
        await trio.sleep(SOON)
        assert one.printed == ["Bread", " and ", "butter"]
        session.finish()
    assert one.printed == ["Bread", " and ", "butter"]
    assert one.reply == "Bread and butter"
    assert session.sent == ["key"]


@virtual_time
async def test_after_a_drop_the_run_is_adopted_and_only_what_is_new_is_printed() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread")
        await trio.sleep(SOON)
        session.gateway.drop()
        await trio.sleep(SOON)
        session.stream(" and ")  # nobody is connected
        await trio.sleep(BACKOFF)
        session.stream("butter")
        session.finish()
    assert one.printed == ["Bread", " and ", "butter"]
    assert one.reply == "Bread and butter"
    assert session.sent == ["key"]


@virtual_time
async def test_the_rest_of_a_reply_that_ended_meanwhile_comes_from_the_history() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread")
        await trio.sleep(SOON)
        session.gateway.drop()
        await trio.sleep(SOON)
        session.stream(" and butter")
        session.finish()
    assert one.printed == ["Bread", " and butter"]
    assert session.sent == ["key"]


@virtual_time
async def test_a_run_that_a_new_process_takes_up_again_is_awaited_and_followed() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread and")
        await trio.sleep(SOON)
        session.kill()
        await trio.sleep(BACKOFF)
        assert one.printed == ["Bread and"]
        session.take_up_again("second")
        session.stream("But")
        await trio.sleep(LOOK_AGAIN)
        session.stream("ter.")
        session.finish()
    assert one.printed == ["Bread and", "\n[begun again]\n", "But", "ter."]
    assert one.reply == "Butter."
    assert session.sent == ["key"]


@virtual_time
async def test_a_run_that_was_taken_up_and_ended_meanwhile_is_found_behind_its_tools() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Let me")
        await trio.sleep(SOON)
        session.write("assistant", "Let me look.", "key", "toolUse")
        session.kill()
        await trio.sleep(SOON)
        session.take_up_again("second")
        session.stream("Butter.")
        session.finish()
        session.write("user", "And now?", "another")
        session.write("assistant", "Now nothing.", "another")
    assert one.reply == "Butter."


@virtual_time
async def test_a_message_that_never_arrived_is_sent_again_with_its_key() -> None:
    session = Session()
    session.gateway.reply("chat.send", None, delay=math.inf)
    async with chatting(session) as one:
        session.gateway.reply("chat.send", session.take)
        session.gateway.drop()
        await trio.sleep(BACKOFF)
        session.stream("Here.")
        session.finish()
    assert one.reply == "Here."
    assert session.sent == ["key"]


@virtual_time
async def test_a_message_that_was_taken_but_never_ran_is_sent_as_a_new_turn() -> None:
    session = Session()
    async with chatting(session) as one:
        session.rows.clear()
        session.active = False
        session.pending.append({"runId": "key", "state": "interrupted"})
        session.kill()
        await trio.sleep(BACKOFF)
        session.stream("Here.")
        session.finish()
    assert one.reply == "Here."
    assert session.sent == ["key", one.turn.key]
    assert one.turn.key != "key"


@virtual_time
async def test_a_message_that_waits_for_its_run_is_awaited() -> None:
    session = Session()
    async with chatting(session) as one:
        session.rows.clear()
        session.run = None
        session.pending.append({"runId": "key", "state": "queued"})
        session.gateway.drop()
        await trio.sleep(BACKOFF)
        session.pending.clear()
        session.write("user", "Hello", "key")
        session.begin("key")
        session.stream("Here.")
        session.finish()
    assert one.reply == "Here."
    assert session.sent == ["key"]


@virtual_time
async def test_a_run_that_is_gone_is_told_and_its_message_not_sent_again() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread")
        await trio.sleep(SOON)
        session.active = False
        session.kill()
    assert isinstance(one.error, NoReply)
    assert str(one.error) == Standing.GONE.value
    assert one.printed == ["Bread"]
    assert session.sent == ["key"]


@virtual_time
async def test_a_run_that_is_gone_is_begun_again_as_a_new_turn_when_asked() -> None:
    session = Session()
    async with chatting(session, resend=True) as one:
        session.stream("Bread")
        await trio.sleep(SOON)
        session.active = False
        session.kill()
        await trio.sleep(BACKOFF)
        session.stream("Butter.")
        session.finish()
    assert one.printed == ["Bread", "\n[begun again]\n", "Butter."]
    assert session.sent == ["key", one.turn.key]


@virtual_time
async def test_a_failed_run_is_told_once_though_it_has_two_ends() -> None:
    session = Session()
    async with chatting(session) as one:
        session.stream("Bread")
        session.push("error", errorMessage="the oven is cold")
        session.push("error", errorMessage="Agent failed before reply")
    assert isinstance(one.error, NoReply)
    assert str(one.error) == "the oven is cold"


@virtual_time
async def test_an_end_without_a_text_is_looked_up() -> None:
    """As after a message that was sent again had been answered before (wire.md 11)."""
    session = Session()
    async with chatting(session) as one:
        session.write("assistant", "Answered before.", "key")
        session.push("final")
        session.run = None
    assert one.printed == ["Answered before."]


@virtual_time
async def test_a_refused_message_is_no_reply() -> None:
    session = Session()
    session.gateway.reply("chat.send", GatewayError("INVALID_REQUEST", "message required"))
    async with chatting(session) as one:
        pass
    assert isinstance(one.error, RequestRefused)


def delta(text: str, run_id: str = "key", state: str = "delta") -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"runId": run_id, "state": state, "message": {"content": content}}


def test_late_and_repeated_texts_print_nothing_and_a_changed_one_begins_a_line() -> None:
    printed: list[str] = []
    turn = Turn("key", printed.append)
    for text in ("Bread and", "Bread", "Bread and", "Bread and butter", "Butter", "Butter!"):
        turn.on_chat(delta(text))
    assert printed == ["Bread and", " butter", "\nButter", "!"]


def test_events_of_other_runs_and_after_the_end_change_nothing() -> None:
    printed: list[str] = []
    turn = Turn("key", printed.append)
    turn.on_chat(delta("not ours", "other"))
    turn.on_chat(delta("not ours", "other", "final"))
    assert not turn.over
    turn.on_chat(delta("Bread", state="final"))
    turn.on_chat(delta("Bread again"))
    turn.on_chat({"runId": "key", "state": "error", "errorMessage": "too late"})
    assert (printed, turn.over, turn.failure) == (["Bread"], True, None)


@pytest.mark.parametrize(("state", "told"), [("aborted", "the run was aborted"), ("error", "Oops")])
def test_a_run_that_did_not_succeed_says_how(state: str, told: str) -> None:
    turn = Turn("key", print)
    turn.on_chat(
        {"runId": "key", "state": state} | ({"errorMessage": told} if told == "Oops" else {})
    )
    assert turn.failure == told


def test_a_message_that_somebody_took_back_is_gone() -> None:
    session = Session(pending=[{"runId": "key", "state": "cancelled"}])
    assert Turn("key", print).on_history(session.history()) is Standing.GONE


@pytest.mark.parametrize("stop", ["error", "aborted"])
def test_a_stored_failure_is_one(stop: str) -> None:
    session = Session()
    session.write("user", "Hello", "key")
    session.write("assistant", "Bread and", "key", stop)
    turn = Turn("key", print)
    assert turn.on_history(session.history()) is Standing.FOLLOWED
    assert (turn.over, turn.failure) == (True, f"the run ended with {stop!r}")


async def run_script(*arguments: str, token: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, "examples/streaming_chat.py", *arguments],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP), "OPENCLAW_GATEWAY_TOKEN": token},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


@real_time
async def test_the_chat_runs_as_a_script() -> None:
    session = Session(StandInGateway(token="s3cret"))

    def take_and_answer(params: dict[str, Any]) -> Any:
        taken = session.take(params)
        session.stream("Bread", " and butter")
        session.finish()
        return taken

    session.gateway.reply("chat.send", take_and_answer)
    async with serve(session.gateway) as url:
        done = await run_script(url, "Hello", token="s3cret")
        assert (done.returncode, done.stdout) == (0, b"Bread and butter\n"), done.stderr
        done = await run_script(url, "Hello", token="wrong")
        assert done.returncode == 1
        assert b"gateway.auth.token" in done.stderr
        assert b"Traceback" not in done.stderr


# --- metrics_exporter -----------------------------------------------------------------------

HELP: Final = re.compile(r"# HELP (\w+) [A-Z1].*\.")
TYPE: Final = re.compile(r"# TYPE (\w+) (counter|gauge)")
SAMPLE: Final = re.compile(r'(\w+(?:\{\w+="\w+"\})?) (-?[0-9.e+-]+)')


def parse(text: str) -> dict[str, float]:
    """Read the text format: each metric with its help, its type and then its samples."""
    samples: dict[str, float] = {}
    name = ""
    for line in text.splitlines():
        if described := HELP.fullmatch(line):
            name = described[1]
        elif typed := TYPE.fullmatch(line):
            assert typed[1] == name
            assert name.endswith("_total") == (typed[2] == "counter")
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1].partition("{")[0] == name
            assert sample[1] not in samples
            samples[sample[1]] = float(sample[2])
    assert text.endswith("\n")
    return samples


def scrape(url: str) -> dict[str, float]:
    with urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        return parse(answer.read().decode())


def test_every_counter_is_exported_once_with_a_proper_name() -> None:
    fields = [field.name for field in attrs.fields(Stats)]
    assert [metric.field for metric in METRICS] == fields
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"openbutter_[a-z_]+(_total|_seconds)", name)


def test_each_value_is_its_own_fields() -> None:
    fields = [field.name for field in attrs.fields(Stats)]
    numbers = {name: n for n, name in enumerate(fields, 3)}
    stats = Stats(**numbers)
    samples = parse(render(stats, State.ONLINE, now=100.0))
    expected = numbers | {"last_received_at": 100.0 - numbers["last_received_at"]}
    assert {metric.field: samples[metric.name] for metric in METRICS} == expected


def test_what_has_no_value_yet_has_no_sample() -> None:
    samples = parse(render(Stats(), State.IDLE, now=100.0))
    absent = {metric.name for metric in METRICS} - set(samples)
    assert {name.removeprefix("openbutter_") for name in absent} == {
        "round_trip_seconds",
        "smoothed_round_trip_seconds",
        "last_received_age_seconds",
    }


@pytest.mark.parametrize("state", State)
def test_one_state_is_1_and_all_others_are_0(state: State) -> None:
    samples = parse(render(Stats(), state, now=0.0))
    shown = {one: samples[f'openbutter_state{{state="{one.value}"}}'] for one in State}
    assert shown == {one: float(one is state) for one in State}


def test_a_scrape_shows_what_happened_since_the_last_one() -> None:
    stand_in = StandInGateway(token="s3cret")
    quick = butter_threads.Settings(
        reconnect=butter_threads.ReconnectSettings(base=0.05, cap=0.05, minimum=0.01)
    )
    with (
        butter_threads.serve.serve(stand_in) as url,
        butter_threads.connect(url, token="s3cret", settings=quick) as gateway,
        gateway.events("chat", timeout=10) as events,
        gateway.states(timeout=10) as states,
        exporter(gateway, "127.0.0.1", 0) as metrics,
    ):
        before = scrape(metrics)
        gateway.request("echo", "x" * 1000)
        stand_in.push("chat", seq_gap=2)
        assert isinstance(next(events), butter_threads.EventsMissed)
        next(events)
        now = scrape(metrics)
        moved = {name: value - before[name] for name, value in now.items() if name in before}
        assert moved["openbutter_sent_messages_total"] == 1
        assert moved["openbutter_received_messages_total"] >= 2
        assert 1000 < moved["openbutter_sent_bytes_total"] < 1200
        assert moved["openbutter_received_bytes_total"] > 1000
        assert moved["openbutter_events_total"] >= 1
        assert moved["openbutter_event_gaps_total"] == 1
        assert moved["openbutter_missed_events_total"] == 2
        assert now["openbutter_last_received_age_seconds"] < 10
        assert now['openbutter_state{state="online"}'] == 1

        stand_in.drop()
        for event in states:
            if isinstance(event, butter_threads.events.Online) and event.resync:
                break
        now = scrape(metrics)
        assert now["openbutter_disconnects_total"] == now["openbutter_reconnects_total"] == 1
        assert now["openbutter_hellos_total"] == 2

        with pytest.raises(HTTPError, match="404"):
            urlopen(metrics.removesuffix("metrics"), timeout=10)


def test_the_exporter_runs_as_a_script_while_the_gateway_is_away() -> None:
    with subprocess.Popen(
        [sys.executable, "examples/metrics_exporter.py", "ws://127.0.0.1:1", "--port", "0"],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout is not None
        try:
            samples = scrape(script.stdout.readline().strip())
        finally:
            script.send_signal(signal.SIGINT)
            _, logged = script.communicate(timeout=10)
    assert samples["openbutter_attempts_total"] >= 1
    assert samples["openbutter_hellos_total"] == 0
    assert "Traceback" not in logged


# --- redundant_pool -------------------------------------------------------------------------


def run_pool(*urls: str, token: str = "s3cret") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "examples/redundant_pool.py", *urls],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP), "OPENCLAW_GATEWAY_TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_pool_runs_as_a_script_and_sends_once() -> None:
    sessions = [Session(StandInGateway(token="s3cret", seed=seed)) for seed in (1, 2)]
    first, second = (butter_threads.serve.serve(session.gateway) for session in sessions)
    with first as url, second as other:
        script = run_pool(url, other)
    assert (script.returncode, script.stderr) == (0, "")
    [key] = [key for session in sessions for key in session.sent]
    sent, *shown = script.stdout.splitlines()
    assert sent == f"started, run {key}"
    assert [line.partition(": ")[0] for line in shown] == [
        address.removeprefix("ws://") for address in (url, other)
    ]
    assert [line for line in shown if line.endswith("online, primary")] != []


def test_the_pool_names_the_key_where_nobody_can_know() -> None:
    """The gateway is started anew in the middle, so the message is not sent again."""
    gateway = StandInGateway()
    keys: list[str] = []

    def take(params: dict[str, Any]) -> None:
        keys.append(params["idempotencyKey"])
        gateway.restart("another boot")

    gateway.reply("chat.send", take, delay=math.inf)
    with butter_threads.serve.serve(gateway) as url, butter_threads.connect_pool([url]) as pool:
        said = redundant_pool.send(pool, "main", "Hello")
    assert "may have executed" in said
    assert [said.rpartition(" ")[2]] == keys


def test_the_pool_says_what_to_do_where_no_gateway_lets_it_in() -> None:
    with butter_threads.serve.serve(StandInGateway(token="s3cret")) as url:
        script = run_pool(url, token="wrong")
    assert script.returncode == 1
    assert "AUTH_TOKEN_MISMATCH" in script.stderr
    assert "Traceback" not in script.stderr
