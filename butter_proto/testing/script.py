"""What a test may tell a stand-in gateway to do, as notes that the gateway acts on.

Rules kept here:

* No scripting call does I/O or takes a time. ``reply`` and the calls that end in ``_next`` hold for
  what comes later; the others are done, in order, when the gateway's next input begins, for which
  ``next_timeout`` then asks at once.
* The calls may come from another thread; after each of them ``wake`` is called, which a driver
  sets so that it hears of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import attrs

from butter_proto.errors import GatewayError
from butter_proto.testing.answers import Reply, Scripted
from butter_proto.testing.devices import PairingRequest, Withdrawal
from butter_proto.testing.verdicts import Refusal


@attrs.frozen
class Push:
    """An event for every online peer."""

    name: str
    payload: Any = attrs.field(repr=False)
    state_version: Any = None
    seq_gap: int = 0
    needs: frozenset[str] = frozenset()
    """The scopes of which a peer must have one; empty: everybody gets it."""


@attrs.frozen
class CloseAll:
    """A Close frame for every socket."""

    code: int
    reason: str


@attrs.frozen
class Drop:
    """The end of every socket, with no Close frame."""

    reset: bool


@attrs.frozen
class Restart:
    """The end of this process, and another one."""

    boot_id: str | None
    down: float
    starting: float
    announce: bool
    expected: float | None


class Pause(Enum):
    """SIGSTOP and SIGCONT."""

    STALL = "stall"
    RESUME = "resume"


@attrs.frozen
class Resolve:
    """The owner's word on a pairing request."""

    request: PairingRequest
    approved: bool


@attrs.frozen
class Disown:
    """A withdrawal, and the end of the device's connections."""

    device_id: str
    what: Withdrawal
    role: str = ""


Action = Push | CloseAll | Drop | Restart | Pause | Resolve | Disown


@attrs.frozen
class UpgradeRefusal:
    """An HTTP answer other than 101."""

    status: int
    headers: tuple[tuple[str, str], ...] | None
    body: bytes


def _sleep_on() -> None:
    """Do nothing: no driver wants to be woken."""


@attrs.define(eq=False, kw_only=True)
class Script:
    """The scripting half of `StandInGateway`."""

    wake: Callable[[], None] = attrs.field(default=_sleep_on, init=False, repr=False)
    """Set by a driver: called after each scripting call, in the caller's thread."""
    _actions: deque[Action] = attrs.field(factory=deque, init=False, repr=False)
    _replies: dict[str, Reply] = attrs.field(factory=dict, init=False, repr=False)
    _refusals: deque[Refusal] = attrs.field(factory=deque, init=False, repr=False)
    _upgrade_refusals: deque[UpgradeRefusal] = attrs.field(factory=deque, init=False, repr=False)
    _challenges: deque[Any] = attrs.field(factory=deque, init=False, repr=False)

    def reply(
        self,
        method: str,
        answer: Scripted = None,
        *,
        delay: float = 0.0,
        interim: Any = None,
        payload: Any = None,
    ) -> None:
        """Answer every later request of a method.

        ``answer`` is a payload, a `GatewayError`, or a function from the params to one of these,
        called when the request comes (what it pushes follows the answer). ``delay`` is in seconds
        (``math.inf``: never answered). ``interim`` is a payload that is sent at once, before the
        answer. ``payload`` is what an error carries besides.
        """
        self._replies[method] = Reply(answer, delay, interim, payload)
        self.wake()

    def push(
        self,
        event_name: str,
        payload: Any = None,
        *,
        state_version: Any = None,
        seq_gap: int = 0,
    ) -> None:
        """Send an event to all online peers; ``seq_gap`` numbers are left out before it."""
        self._act(Push(event_name, payload, state_version, seq_gap))

    def refuse_next(
        self,
        error: GatewayError,
        *,
        close_code: int = 1008,
        close_reason: str | None = None,
        times: int = 1,
    ) -> None:
        """Refuse the next connect requests, whatever they hold.

        ``close_reason`` None stands for the error's message; RFC 6455 cuts it to 123 bytes.
        """
        self._refusals.extend([Refusal(error, close_code, close_reason)] * times)
        self.wake()

    def refuse_upgrade_next(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] | None = None,
        body: bytes = b"",
        *,
        times: int = 1,
    ) -> None:
        """Answer the next upgrade requests with an HTTP status, and end their sockets.

        ``headers`` are sent exactly as given (without Content-Length the body ends with the
        stream); None stands for those of a plain text.
        """
        given = None if headers is None else tuple(headers)
        self._upgrade_refusals.extend([UpgradeRefusal(status, given, body)] * times)
        self.wake()

    def challenge_next(self, payload: Any, *, times: int = 1) -> None:
        """Send a payload in place of the next challenges, exactly as given.

        So a test breaks one: ``ts`` missing, negative or a string, no ``nonce``. A ``nonce`` that
        is a string is the one that devices must sign on that socket.
        """
        self._challenges.extend([payload] * times)
        self.wake()

    def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame on every socket; one that is not upgraded yet just ends."""
        self._act(CloseAll(code, reason))

    def drop(self, *, reset: bool = False) -> None:
        """End every socket without a Close frame, unsent bytes lost, as a killed process does.

        The peers see the end of the stream (wire.md 7), with ``reset`` a reset.
        """
        self._act(Drop(reset))

    def stall(self) -> None:
        """Send and process nothing at all, but accept and read, as after SIGSTOP."""
        self._act(Pause.STALL)

    def resume(self) -> None:
        """Go on after ``stall``: what is due by then, then what was read."""
        self._act(Pause.RESUME)

    def restart(
        self,
        boot_id: str | None = None,
        *,
        down: float = 0.0,
        starting: float = 0.0,
        announce: bool = True,
        expected: float | None = 1.5,
    ) -> None:
        """End this process and start another one with a new ``server.bootId`` (wire.md 7).

        Announced: ``shutdown`` with ``restartExpectedMs`` of ``expected`` seconds (None: without,
        as a gateway that stops), then Close 1012 "service restart". Not announced: every socket
        ends without a Close frame. Then for ``down`` seconds nothing listens, and for ``starting``
        more seconds connects are refused with "startup-sidecars".
        """
        self._act(Restart(boot_id, down, starting, announce, expected))

    def _act(self, action: Action) -> None:
        self._actions.append(action)
        self.wake()
