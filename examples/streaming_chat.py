"""A chat that prints an agent's reply as it comes, over drops and restarts of the gateway.

    OPENCLAW_GATEWAY_TOKEN=... python examples/streaming_chat.py ws://127.0.0.1:18789 "Hello"

Subscribe, then send; the message's idempotency key is also its run's id. ``EventsMissed`` means:
read ``chat.history`` again. What becomes of a run, measured on 2026.9.6:

* The connection drops: it goes on, and `inFlightRun` has the text so far.
* SIGUSR2, SIGTERM: the gateway waits for it; its ``final`` comes before ``shutdown``.
* SIGKILL: 2-5 s after the start it is begun again as a new run. Its id is in a row after ours that
  says "[System] ..."; until that row is written the session only counts as active.
* SIGKILL within 0.2 s of the ack, before our row is written: a pending input is left, which is
  ``interrupted``. It never runs, and its key is refused ("submit a new turn").
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Final

import attrs
import trio

import butter_trio
from butter_trio import (
    Gateway,
    GatewayEvent,
    NotOnline,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestTimeout,
)

LOOK_AGAIN: Final = 2.0
"""Seconds between looks into the history while the gateway has yet to begin a run (again)."""


class NoReply(Exception):
    """The turn is over, and there is no whole reply."""


class Standing(Enum):
    """What the history says about a message."""

    FOLLOWED = "its run goes on, or is over"
    AWAITED = "it was taken; its run has yet to begin, or to begin again"
    NEVER_RAN = "it was taken, but did not run, and with this key it never will"
    UNKNOWN = "it never arrived"
    GONE = "it was taken, but there is neither a run nor a reply; it may have taken effect"


PENDING: Final = {"queued": Standing.AWAITED, "interrupted": Standing.NEVER_RAN}
"""What the state of a pending input means; the third one is ``cancelled``."""


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message: of an event or of a row of the history."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


@attrs.define
class Turn:
    """One message and its reply as far as it is known; ``show`` gets what of it is new."""

    key: str
    show: Callable[[str], None]
    run_id: str = attrs.field(default=attrs.Factory(lambda self: self.key, takes_self=True))
    text: str = ""
    over: bool = False
    failure: str | None = None

    def on_chat(self, payload: dict[str, Any]) -> bool:
        """Take a ``chat`` event; False: only the history has the end. A second end is nothing."""
        state = payload.get("state")
        if not self.over and payload.get("runId") == self.run_id:
            self._extend(text_of(payload.get("message") or {}))
            if state in ("error", "aborted"):
                self.failure = payload.get("errorMessage") or f"the run was {state}"
            self.over = bool(self.failure or (state == "final" and self.text))
            return self.over or state != "final"
        return True

    def on_history(self, history: dict[str, Any]) -> Standing:
        """Take a ``chat.history`` payload; follow the run to which it leads."""
        for pending in (history.get("pendingInputs") or {}).get("items", ()):
            if pending.get("runId") == self.key:
                return PENDING.get(pending.get("state"), Standing.GONE)
        rows = history["messages"]
        taken = [i for i, row in enumerate(rows) if row.get("idempotencyKey") == f"{self.key}:user"]
        run_id, reply = self._reply_in(rows[taken[0] + 1 :] if taken else [])
        run = history.get("inFlightRun") or {}
        if run.get("runId") == run_id:
            self._follow(run_id, run.get("text", ""))
        elif reply is not None and reply.get("stopReason") != "toolUse":
            self._follow(run_id, text_of(reply))
            self.over = True
            if (stop := reply.get("stopReason")) in ("error", "aborted"):
                self.failure = f"the run ended with {stop!r}"
        elif not taken:
            return Standing.UNKNOWN
        else:
            active = (history.get("sessionInfo") or {}).get("hasActiveRun")
            return Standing.AWAITED if active else Standing.GONE
        return Standing.FOLLOWED

    def send_anew(self, key: str) -> None:
        """Make it a new turn."""
        self._follow(key, "")
        self.key = key

    def _reply_in(self, later: list[dict[str, Any]]) -> tuple[str, dict[str, Any] | None]:
        """Find the latest run for our row in the rows after it, and that run's last message."""
        run_id, reply = self.key, None
        for row in later:
            if row.get("role") == "user":
                if not text_of(row).startswith("[System]"):
                    break  # the next message
                run_id, reply = row.get("idempotencyKey", "").removesuffix(":user"), None
            elif (row.get("__openclaw") or {}).get("runId") == run_id:
                reply = row
        return run_id, reply

    def _follow(self, run_id: str, text: str) -> None:
        if run_id != self.run_id:
            if self.text:
                self.show("\n[begun again]\n")
            self.run_id, self.text = run_id, ""
        self._extend(text)

    def _extend(self, text: str) -> None:
        """Show what is new in the whole text so far. Old is what came before or comes late."""
        if not self.text.startswith(text):
            new = text.startswith(self.text)
            self.show(text.removeprefix(self.text) if new else f"\n{text}")
            self.text = text


async def chat(
    gateway: Gateway, turn: Turn, message: str, *, session: str = "main", resend: bool = False
) -> str:
    """Send a message, show its reply and return it. Raises `NoReply`."""

    async def ask(method: str, **params: Any) -> Any:
        with suppress(NotOnline, RequestNotSent, RequestMayHaveExecuted, RequestTimeout):
            return await gateway.request(method, {"sessionKey": session, **params})
        return None  # the next Online brings an EventsMissed, and the history the truth

    async def send() -> None:
        await ask("chat.send", message=message, idempotencyKey=turn.key)

    async with gateway.events("chat") as events:
        await send()
        look_at = math.inf
        while not turn.over:
            event = None
            with trio.move_on_at(look_at):
                event = await anext(events)
            if isinstance(event, GatewayEvent) and turn.on_chat(event.payload):
                continue
            history = await ask("chat.history", limit=100)
            standing = turn.on_history(history) if history else None
            awaited = standing is Standing.AWAITED
            look_at = trio.current_time() + LOOK_AGAIN if awaited else math.inf
            if standing is Standing.GONE and not resend:
                raise NoReply(standing.value)
            if standing in (Standing.GONE, Standing.NEVER_RAN):
                turn.send_anew(str(uuid.uuid4()))
                await send()
            elif standing is Standing.UNKNOWN:
                await send()  # with the same key: should it come to two, it still runs once
    if turn.failure is not None:
        raise NoReply(turn.failure)
    return turn.text


async def main() -> None:
    """Read the command line and chat once."""
    parser = argparse.ArgumentParser(description="Stream an agent's reply to a message.")
    parser.add_argument("url")
    parser.add_argument("message")
    parser.add_argument("--session", default="main")
    parser.add_argument("--resend", action="store_true", help="a message whose run is gone")
    args = parser.parse_args()
    turn = Turn(str(uuid.uuid4()), partial(print, end="", flush=True))
    token = os.environ.get("OPENCLAW_GATEWAY_TOKEN")
    async with butter_trio.connect(args.url, token=token) as gateway:
        await chat(gateway, turn, args.message, session=args.session, resend=args.resend)
    print()


if __name__ == "__main__":
    try:
        trio.run(main)
    except (NoReply, butter_trio.ButterError, KeyboardInterrupt) as error:
        sys.exit(f"\n{error}")
