"""Mistakes that the chaos must catch, over real sockets: ``python -m tests.mutants --chaos``.

They follow the rules of table.py. Each takes as long as its test waits for what never comes, so
they are no part of the ordinary run.
"""

from __future__ import annotations

from typing import Final

from tests.mutants.table import Mutant

_BUSY: Final = "chaos/test_faults.py::test_a_busy_line_survives"
_IN_A_PHASE: Final = (
    "chaos/test_faults.py::test_a_line_that_is_hurt_in_this_phase_is_followed_by_another"
)
_CLOSING: Final = "chaos/test_faults.py::test_a_line_that_is_hurt_while_it_closes_holds_nobody_up"
_FATAL: Final = (
    "chaos/test_floods.py::test_a_flood_beyond_a_limit_ends_the_connection_and_the_next_one_serves"
)
_HEADS: Final = (
    "chaos/test_floods.py"
    "::test_a_flood_in_place_of_the_upgrade_ends_the_attempt_and_the_next_one_serves"
)
_CYCLES: Final = "chaos/test_cycles.py::test_connecting_and_closing_leaves_nothing_behind"

CHAOS_MUTANTS: Final = (
    Mutant(
        "what was sent is told as not sent",
        "butter_proto/pending.py",
        "        if self.boots or self.handed_out:\n            return Delivery.MAY_HAVE_EXECUTED\n",
        "",
        f"{_BUSY}[trio-reset]",
    ),
    Mutant(
        "what was in flight is sent again on the next connection",
        "butter_proto/requests.py",
        "        if not request.replay or boot_id is None:\n            return False\n",
        "        if boot_id is None:\n            return False\n",
        f"{_BUSY}[trio-answers lost]",
    ),
    Mutant(
        "an answer goes to the oldest request",
        "butter_proto/requests.py",
        "        request = self._in_flight.get(response.id)\n        if request is None:\n"
        "            return None\n        if request.final",
        "        request = next(iter(self._in_flight.values()), None)\n"
        "        if request is None:\n            return None\n        if request.final",
        f"{_BUSY}[trio-delay]",
    ),
    Mutant(
        "a silent peer is never gone",
        "butter_proto/keepalive.py",
        "return Verdict.GONE if self._in_a_row >= self._settings.misses else self._judged(now)",
        "return self._judged(now)",
        f"{_BUSY}[trio-half-open]",
    ),
    Mutant(
        "a framing fault is not told",
        "butter_proto/websocket.py",
        "        self._end(Ending(EndKind.PROTOCOL_VIOLATION, text))\n\n    def _end(",
        "\n    def _end(",
        f"{_BUSY}[trio-garbage down]",
    ),
    Mutant(
        "there is no deadline for the hello",
        "butter_proto/connection.py",
        "self._enter(Phase.HELLO, self._settings.timeouts.hello)",
        "self._enter(Phase.HELLO, 3600.0)",
        f"{_IN_A_PHASE}[trio-hello-half-open]",
    ),
    Mutant(
        "there is no deadline for the close",
        "butter_proto/connection.py",
        "self._now + self._settings.timeouts.close)",
        "self._now + 3600.0)",
        f"{_CLOSING}[trio-half-open]",
    ),
    Mutant(
        "fragments without a bound",
        "butter_proto/websocket.py",
        "elif self._fragments > self._limits.max_fragments:",
        "elif self._fragments > 2**62:",
        f"{_FATAL}[trio-a million empty fragments]",
    ),
    Mutant(
        "a message without a bound",
        "butter_proto/websocket.py",
        "if self._size > self._limits.max_message:",
        "if self._size > 2**64:",
        f"{_FATAL}[trio-a frame of 2**62 bytes]",
    ),
    Mutant(
        "the upgrade's head without a bound",
        "butter_proto/websocket.py",
        "if self._head_size + size > MAX_HEAD:",
        "if self._head_size + size > 2**62:",
        f"{_HEADS}[trio-interim answers]",
    ),
    Mutant(
        "each connector leaves a KiB behind",
        "butter_proto/connector.py",
        "        self._handled = -math.inf\n",
        "        self._handled = -math.inf\n"
        '        vars(math).setdefault("kept", []).append(bytes(1024))\n',
        f"{_CYCLES}[threads]",
    ),
    Mutant(
        "trio: a transport that is over keeps its socket",
        "butter_trio/driver.py",
        "            await close_at_once(stream)",
        '            vars(trio).setdefault("kept", []).append(stream)',
        f"{_BUSY}[trio-cut]",
    ),
    Mutant(
        "threads: a transport that is over keeps its socket",
        "butter_threads/transport.py",
        "            self._socket.close()\n",
        '            vars(ssl).setdefault("kept", []).append(self._socket)\n',
        f"{_BUSY}[threads-cut]",
    ),
)
