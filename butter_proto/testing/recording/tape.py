"""Where a recorded connector writes what it was given, what it drew, and what was pulled.

Rules kept here:

* A call goes through unchanged, with what it returns or raises, whatever it was given; one input
  that another is made of is part of that one.
* Masks are not kept: they decide nothing, and would be most of what is drawn.
* Turns are added under a lock: other threads may read what is kept meanwhile.
* A secret is known from when the connector knows it, and stays one when its turn was let go: other
  turns may repeat it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs

from butter_proto import events
from butter_proto.connection import Connection
from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken
from butter_proto.errors import LocalProtocolError
from butter_proto.machine import Command, Message, OpenTransport
from butter_proto.secret import Secret
from butter_proto.settings import Framing
from butter_proto.testing.recording import decisions
from butter_proto.testing.recording.construction import Construction
from butter_proto.testing.recording.lines import Recording
from butter_proto.testing.recording.params import params_to_json
from butter_proto.testing.recording.reel import Reel
from butter_proto.testing.recording.turn import Decision, Draw, Turn

_log = logging.getLogger("butter_proto.testing")
MASK_BYTES: Final = 4
"""What is drawn for a mask (RFC 6455, 5.3), and for nothing else."""
_MOST_SECRETS: Final = 256
"""Each is looked for in every text of a dump. Past that the oldest are forgotten."""
_SETTLING: Final = (events.Online, events.Retrying, events.GaveUp, events.Stopped)


class Tape:
    """Where a recorded connector writes; other threads may read meanwhile."""

    def __init__(
        self,
        construction: Construction,
        reel: Reel,
        save: Callable[[Recording], None],
        *,
        bodies: bool,
    ) -> None:
        self._construction = construction
        self._reel = reel
        self._save = save
        self._bodies = bodies
        self._lock = threading.Lock()
        self._secrets: dict[Secret, None] = {}
        self._seen: tuple[Secret, ...] = ()
        self._turn = Turn("", 0.0, {})  # nothing yet
        self._is_inside = False
        self._due: float | None = None
        self._has_no_events = False
        self._has_no_commands = False

    @property
    def size(self) -> int:
        """About how much memory is taken, in bytes."""
        return self._reel.size

    def recording(self) -> Recording:
        """Return what is kept now."""
        with self._lock:
            entries = self._reel.turns()
            if self._turn.name and (self._turn.opens or not self._reel.is_lost):
                now = attrs.evolve(self._turn)
                now.did, now.draws = [*now.did], [*now.draws]
                entries.append(now)
            secrets = tuple(self._secrets)
        return Recording(self._construction, entries, secrets)

    # --- inputs ---------------------------------------------------------------------------------

    def record(self, name: str, call: Callable[..., Any], given: dict[str, Any]) -> Any:
        """Make a call, and keep it with what it drew and how it went."""
        if self._is_inside:  # one input that another one is made of
            return call()
        turn = self._begin(name, given)
        self._is_inside = True
        try:
            turn.returned = call()
        except LocalProtocolError as error:
            turn.raised = type(error).__name__
            raise
        except Exception as error:
            turn.raised = type(error).__name__
            self._save(self.recording())
            raise
        finally:
            self._is_inside = False
        return turn.returned

    def _begin(self, name: str, given: dict[str, Any]) -> Turn:
        turn = Turn(name, _time(given.get("now")), {})
        with _undisturbed():
            turn.arguments = self._arguments(name, given)
        with self._lock:
            before, self._turn = self._turn, turn
            if before.name:
                self._reel.add(before)
        self._has_no_events = self._has_no_commands = False
        return turn

    def _arguments(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of the arguments; what a caller may change is copied."""
        arguments = {**given}
        arguments.pop("now", None)
        if name == "request":
            params = arguments.get("params")
            arguments["params"] = params_to_json(params, bodies=self._bodies)
        if not self._construction.settings.pins:
            arguments.pop("certificate", None)
        for key, value in arguments.items():
            if isinstance(value, DeviceToken | Credentials):
                self.learn(_secrets_in(value))
            elif isinstance(value, bytearray | memoryview):
                arguments[key] = bytes(value)
        return arguments

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Know these as secrets from now on."""
        with self._lock:
            for secret in secrets:
                self._secrets.pop(secret, None)
                self._secrets[secret] = None
            while len(self._secrets) > _MOST_SECRETS:
                del self._secrets[next(iter(self._secrets))]

    def looked_at(self, connection: Connection) -> None:
        """Learn what a connection knows by now: what it was given, and what its hello issued."""
        known = connection.redaction.secrets
        if known is not self._seen:
            self._seen = known
            self.learn(known)

    # --- what is drawn --------------------------------------------------------------------------

    def drew(self, kind: Draw, value: Any) -> None:
        """Keep what was drawn."""
        self._turn.draws.append((kind, value))

    def drawing(self, kind: Draw, draw: Callable[[], Any]) -> Callable[[], Any]:
        """Let every draw be kept."""

        def drawn() -> Any:
            value = draw()
            self.drew(kind, value)
            return value

        return drawn

    def entropy(self, entropy: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """Let what is drawn be kept, but for masks."""

        def drawn(size: int) -> bytes:
            value = entropy(size)
            if size != MASK_BYTES:
                self.drew(Draw.ENTROPY, value.hex())
            return value

        return drawn

    # --- what is pulled -------------------------------------------------------------------------

    def pulled_command(self, command: Command | None) -> None:
        """Keep a command; None: there was no more."""
        if command is None:
            self._has_no_commands = True
            self._note_drained()
            return
        if isinstance(command, OpenTransport):
            self._reel.opened(command.id, by_messages=command.framing is Framing.MESSAGES)
            self._turn.opens = True
        else:
            self._reel.closed(command.id)
        self._did(decisions.of_command(command))

    def pulled_event(self, event: events.Event | None) -> None:
        """Keep an event; None: there was no more."""
        if event is None:
            self._has_no_events = True
            self._note_drained()
            return
        self._did(decisions.of_event(event))
        if isinstance(event, _SETTLING):
            self._turn.settles = True
        if isinstance(event, events.GaveUp):
            self._save(self.recording())

    def pulled_bytes(self, transport_id: int, data: bytes) -> None:
        """Keep that bytes were handed out."""
        if data:
            self._did(decisions.of_bytes(transport_id, data))

    def pulled_message(self, transport_id: int, message: Message | None) -> None:
        """Keep that a message was handed out."""
        if message is not None:
            self._did(decisions.of_message(transport_id, message))

    def asked_due(self, due: float | None) -> None:
        """Keep when the machine wants to be woken, where that is another time than before."""
        if due != self._due:
            self._due = due
            self._did(decisions.of_due(due))

    def _did(self, decision: Decision) -> None:
        self._turn.did.append(decision)

    def _note_drained(self) -> None:
        self._turn.drained = self._has_no_events and self._has_no_commands


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nothing that recording raises come to who made the call."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - what a program gives may raise anything
        kind = type(error).__name__  # its text may have what was given
        _log.warning("an input could not be recorded as it was: %s", kind)


def _time(now: Any) -> float:
    """Return a time that a clock believes, or not, as it does this one."""
    try:
        return float(now)
    except OverflowError:
        return math.copysign(math.inf, now > 0 or -1)
    except (TypeError, ValueError):
        return 0.0


def _secrets_in(value: DeviceToken | Credentials) -> tuple[Secret, ...]:
    return (value.token,) if isinstance(value, DeviceToken) else value.secrets
