"""One log line per state change, on one line, with the transport's id."""

from __future__ import annotations

import logging

import pytest

from butter_proto import events
from butter_proto.errors import Ending, EndKind
from butter_proto.handshake import read_hello
from butter_proto.journal import Journal, Level
from butter_proto.printable import printable
from butter_proto.settings import Dialect

CLOSED = Ending(EndKind.CLOSED_BY_PEER, close_code=1012, close_reason="bye\nroot: all is well")


def online(version: object) -> events.Online:
    payload = {"type": "hello-ok", "server": {"version": version}}
    hello = read_hello(payload, Dialect.GATEWAY_V4)
    assert hello is not None
    return events.Online(hello, resync=False, boot_changed=False, transport_id=17)


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
    event: events.Event, level: Level, text: str
) -> None:
    journal = Journal()
    journal.line(events.Connecting(1, 1))
    first = journal.line(events.Connecting(2, 17))
    assert first == (Level.DEBUG, "transport 17: connecting, attempt 2")
    assert journal.line(event) == (level, f"transport 17: {text}")


def test_what_a_peer_wrote_cannot_add_a_line() -> None:
    written = Journal().line(events.Offline(CLOSED))
    assert written is not None
    assert written[1].splitlines() == [written[1]]


def test_each_gateway_of_a_pool_has_lines_of_its_own_and_so_has_the_pool() -> None:
    journal = Journal(of_pool=True)
    journal.line(events.Connecting(1, 1))
    journal.line(events.FromGateway("a", events.Connecting(1, 2)))
    journal.line(events.FromGateway("b\n", events.Connecting(1, 3)))
    lines = [
        journal.line(events.FromGateway("a", events.Stopped())),
        journal.line(events.FromGateway("b\n", events.Stopped())),
        journal.line(events.Retrying(Ending(EndKind.HELLO_TIMEOUT), 3, 1.5)),
        journal.line(events.FromGateway("a", events.Stopped())),
    ]
    assert lines == [
        (Level.DEBUG, "a: transport 2: stopped"),
        (Level.DEBUG, r"b\n: transport 3: stopped"),
        (Level.INFO, "pool: no hello in time; attempt 3 in 1.50 s"),
        (Level.DEBUG, "a: transport 0: stopped"),  # it left the pool: nothing is kept of it
    ]


def test_what_is_no_state_change_has_no_line() -> None:
    assert Journal().line(events.RoundTrip(0.1)) is None
    assert Journal().line(events.FromGateway("a", events.RoundTrip(0.1))) is None


def test_the_levels_are_those_of_the_standard_library() -> None:
    assert {level.name: int(level) for level in Level} == {
        name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING")
    }


def test_what_a_terminal_might_act_on_is_escaped() -> None:
    assert printable("plain ünïcode") == "plain ünïcode"
    assert printable("\x1b[31mred\r\n\u202e") == r"\x1b[31mred\r\n\u202e"
