"""One log line per state change, on one line, with the transport's id."""

from __future__ import annotations

import logging

import pytest

from butter_proto import events
from butter_proto.errors import Ending, EndKind
from butter_proto.handshake import read_hello
from butter_proto.journal import Journal, Journaled, Level
from butter_proto.printable import printable
from butter_proto.settings import Dialect

CLOSED = Ending(EndKind.CLOSED_BY_PEER, close_code=1012, close_reason="bye\nroot: all is well")


def online(version: object) -> events.Online:
    payload = {"type": "hello-ok", "server": {"version": version}}
    hello = read_hello(payload, Dialect.GATEWAY_V4)
    assert hello is not None
    return events.Online(hello, resync=False, boot_changed=False)


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (online("2026.9.6"), Level.INFO, "online, gateway 2026.9.6"),
        (online(None), Level.INFO, "online, gateway of unknown version"),
        (
            events.Offline(Ending(EndKind.SILENT_PEER)),
            Level.INFO,
            "offline: the gateway went silent",
        ),
        (events.Offline(Ending(EndKind.STOPPED)), Level.INFO, "offline: stopped here"),
        (
            events.Retrying(Ending(EndKind.HELLO_TIMEOUT), 3, 1.5),
            Level.INFO,
            "no hello in time; attempt 3 in 1.50 s",
        ),
        (
            events.GaveUp(Ending(EndKind.CONNECT_REFUSED), "Use another token."),
            Level.WARNING,
            "gave up: the gateway refused to connect. Use another token.",
        ),
        (events.Stopped(), Level.DEBUG, "stopped"),
        (
            events.DeviceTokenNotStored(True),
            Level.WARNING,
            "a new device token is not stored after 5 s",
        ),
        (events.DeviceTokenNotStored(False), Level.DEBUG, "a new device token is not stored"),
    ],
)
def test_a_state_change_is_one_line_about_the_latest_transport(
    event: Journaled, level: Level, text: str
) -> None:
    journal = Journal()
    journal.line(events.Connecting(1, 1))
    first = journal.line(events.Connecting(2, 17))
    assert first == (Level.DEBUG, "transport 17: connecting, attempt 2")
    assert journal.line(event) == (level, f"transport 17: {text}")


def test_what_a_peer_wrote_cannot_add_a_line() -> None:
    _, line = Journal().line(events.Offline(CLOSED))
    assert line.splitlines() == [line]


def test_the_levels_are_those_of_the_standard_library() -> None:
    assert {level.name: int(level) for level in Level} == {
        name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING")
    }


def test_what_a_terminal_might_act_on_is_escaped() -> None:
    assert printable("plain ünïcode") == "plain ünïcode"
    assert printable("\x1b[31mred\r\n\u202e") == r"\x1b[31mred\r\n\u202e"
