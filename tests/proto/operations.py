"""Operations on a connector that is driven directly, and what each of them made it tell.

Rules kept here:

* A `World` does the operations and plays the gateway. It keeps every input with all that was told
  after it, so that `replay` can give the same inputs to a twin that is driven in another way.
* Only the application's inputs may be refused; anything else that is raised fails the test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from random import Random
from typing import Any, Final

import attrs

from butter_proto import (
    CLI,
    Connector,
    Credentials,
    DeviceToken,
    FaultKind,
    Framing,
    LocalProtocolError,
    QueuedRequest,
    Secret,
    Settings,
    SignedPayload,
    Trace,
    TransportFault,
    events,
)
from butter_proto.machine import Command, OpenTransport, State
from butter_proto.timers import LATEST
from tests.proto.gateway_side import (
    Peer,
    Speech,
    challenged,
    inputs_of,
    upgraded,
    welcomed,
    written,
)

PARAM: Final = "PP-param-PP"
URL: Final = "ws://gateway.local:18789/"
BEGIN: Final = 1000.0
ALL: Final = 1_000_000
"""More chunks than ever wait."""
HANDSHAKE: Final = (upgraded, challenged, welcomed)
END: Final[dict[Framing, Callable[[int], tuple[Any, ...]]]] = {
    Framing.BYTES: lambda transport_id: ("receive_data", transport_id, b""),
    Framing.MESSAGES: lambda transport_id: ("transport_closed", transport_id, None, ""),
}
"""How a transport that was open ends."""
_APPLICATION: Final = frozenset(
    {
        "start",
        "stop",
        "request",
        "cancel",
        "probe",
        "reconnect_now",
        "resynced",
        "use_credentials",
        "token_stored",
        "token_forgotten",
        "add",
        "remove",
    }
)


@attrs.frozen(kw_only=True)
class Holding(Settings):
    """The settings of a machine that is made with ``hold_queue``."""


@attrs.frozen
class Refused:
    """The error that an input of the application raised."""

    kind: type[LocalProtocolError]
    text: str


@attrs.frozen
class Input:
    """One call of an input."""

    name: str
    now: float
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = attrs.Factory(dict)

    def give(self, machine: Connector) -> Any:
        """Make the call; what a transport's input raises is raised here."""
        try:
            return getattr(machine, self.name)(*self.args, now=self.now, **self.options)
        except LocalProtocolError as error:
            if self.name not in _APPLICATION:
                raise
            return Refused(type(error), str(error))


@attrs.frozen
class Told:
    """All that could be pulled after an input."""

    events: tuple[events.Event, ...]
    commands: tuple[Command, ...]
    sent: dict[int, bytes]
    next_timeout: float | None
    state: State
    retry_at: float | None
    queued: tuple[QueuedRequest, ...]

    def __add__(self, later: Told) -> Told:
        sent = self.sent | {
            transport_id: self.sent.get(transport_id, b"") + data
            for transport_id, data in later.sent.items()
        }
        return attrs.evolve(
            later,
            events=self.events + later.events,
            commands=self.commands + later.commands,
            sent=sent,
        )


@attrs.frozen
class Step:
    """An input, what it returned or how it was refused, and what was told then."""

    input: Input
    result: Any
    told: Told

    @property
    def refused(self) -> bool:
        return isinstance(self.result, Refused)


class Ids:
    """The ids that a machine draws."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self) -> str:
        self.drawn += 1
        return str(self.drawn)

    @property
    def following(self) -> str:
        return str(self.drawn + 1)


class Hashing:
    """A signer that needs no library: its signatures are hashes, and now and then it raises."""

    public_key = bytes(range(32))

    def sign(self, message: bytes) -> bytes:
        digest = hashlib.sha512(message).digest()
        if digest[0] % 8 == 0:
            raise ValueError(f"cannot sign {message!r}")
        return digest


def new_machine(
    settings: Settings,
    ids: Ids | None = None,
    url: str = URL,
    trace: Trace | None = None,
    make: Callable[..., Connector] = Connector,
    **others: Any,
) -> Connector:
    """Make a connector whose chance is the same each time; with the id of `CLI` it is a device.

    Its masks are all the same: they are drawn when bytes are pulled, which twins do differently.
    """
    return make(
        url,
        settings,
        random=Random(7).random,
        entropy=lambda size: bytes(range(1, size + 1)),
        next_request_id=ids or Ids(),
        signer=Hashing()
        if settings.identity is not None and settings.identity.id == CLI.id
        else None,
        trace=trace,
        hold_queue=isinstance(settings, Holding),
        **others,
    )


def pull_events(machine: Connector) -> tuple[events.Event, ...]:
    return tuple(iter(machine.next_event, None))


def pull_commands(machine: Connector) -> tuple[Command, ...]:
    return tuple(iter(machine.next_command, None))


def pull_chunk(machine: Connector, transport_id: int) -> bytes:
    """Take one chunk for the wire, or one message as the frame that its host makes of it."""
    data = machine.data_to_send(transport_id)
    message = machine.next_message(transport_id)
    if message is None:
        return data
    assert not data
    return written(message)


def pull_bytes(
    machine: Connector, transport_ids: Iterable[int], chunks: int = ALL
) -> dict[int, bytes]:
    """Take at most so many chunks, or messages, for each transport."""
    sent = {}
    for transport_id in transport_ids:
        taken = iter(partial(pull_chunk, machine, transport_id), b"")
        if data := b"".join(islice(taken, chunks)):
            sent[transport_id] = data
    return sent


def pull(machine: Connector, transport_ids: Collection[int], chunks: int = ALL) -> Told:
    """Pull everything, as a driver does after each input, or all but some chunks of bytes."""
    commands = pull_commands(machine)
    opened = [command.id for command in commands if isinstance(command, OpenTransport)]
    return Told(
        pull_events(machine),
        commands,
        pull_bytes(machine, [*transport_ids, *opened], chunks),
        machine.next_timeout(),
        machine.state,
        machine.retry_at,
        machine.queued(),
    )


def replay(
    inputs: Iterable[Input],
    settings: Settings,
    chunks: Sequence[int] = (ALL,),
    trace: Trace | None = None,
    machine: Connector | None = None,
) -> list[Step]:
    """Give these inputs to a new machine, or to this one, and pull after each of them.

    ``chunks`` are the numbers of chunks that its sockets take, over and over.
    """
    machine = machine or new_machine(settings, trace=trace)
    opened: list[int] = []
    steps = []
    for one, most in zip(inputs, cycle(chunks), strict=False):
        result = one.give(machine)
        told = pull(machine, opened, most)
        opened += [command.id for command in told.commands if isinstance(command, OpenTransport)]
        steps.append(Step(one, result, told))
    return steps


def believed(steps: Iterable[Step]) -> list[Input]:
    """Return the inputs with the times that a machine believes (G6); refused ones teach none."""
    largest = -LATEST
    result = []
    for step in steps:
        now = step.input.now
        if largest < now <= LATEST and not step.refused:
            largest = now
        result.append(attrs.evolve(step.input, now=largest))
    return result


def wake_ups(
    world: World, *, taking: bool, listening: bool = True, late: float = 0.0
) -> Iterator[tuple[float, tuple[Command, ...]]]:
    """Let only time pass; yield each wake-up with its commands.

    ``taking`` says whether bytes are taken (they never arrive), ``listening`` whether events are.
    ``late`` is in seconds.
    """
    machine = world.machine
    now = believed(world.steps)[-1].now
    transport_ids = list(world.peers)
    while (due := machine.next_timeout()) is not None:
        now = max(now, due) + late
        machine.handle_timeout(now)
        commands = pull_commands(machine)
        transport_ids += [one.id for one in commands if isinstance(one, OpenTransport)]
        if listening:
            pull_events(machine)
        if taking:
            pull_bytes(machine, transport_ids)
        yield now, commands


@attrs.frozen
class Damage:
    """A place in a stream where bytes were taken out and others put in."""

    place: int
    removed: int
    inserted: bytes

    def done_to(self, data: bytes) -> bytes:
        place = self.place % (len(data) + 1)
        return data[:place] + self.inserted + data[place + self.removed :]


class World:
    """One connector, everything it was given and everything it told."""

    def __init__(
        self,
        settings: Settings,
        url: str = URL,
        trace: Trace | None = None,
        make: Callable[..., Connector] = Connector,
        **others: Any,
    ) -> None:
        self.settings = settings
        self.ids = Ids()
        self.machine = new_machine(settings, self.ids, url, trace, make, **others)
        self.now = BEGIN
        self.steps: list[Step] = []
        self.peers: dict[int, Peer] = {}
        self.accepted: list[str] = []
        """The ids of the requests that were accepted."""
        self._next_now: float | None = None

    # what it was given and told

    @property
    def inputs(self) -> list[Input]:
        return [step.input for step in self.steps]

    @property
    def told(self) -> list[events.Event]:
        return [event for step in self.steps for event in step.told.events]

    @property
    def commands(self) -> list[Command]:
        return [command for step in self.steps for command in step.told.commands]

    @property
    def open(self) -> list[int]:
        """The transports whose CloseTransport was not told yet."""
        opened: dict[int, None] = {}
        for command in self.commands:
            if isinstance(command, OpenTransport):
                opened[command.id] = None
            else:
                del opened[command.id]
        return list(opened)

    def give(self, name: str, *args: Any, **options: Any) -> Any:
        """Give an input at the present time, and pull everything."""
        now = self.now if self._next_now is None else self._next_now
        self._next_now = None
        one = Input(name, now, args, options)
        result = one.give(self.machine)
        told = pull(self.machine, self.open)
        self.steps.append(Step(one, result, told))
        for command in told.commands:
            if isinstance(command, OpenTransport):
                assert command.framing is self.settings.framing
                self.peers[command.id] = Peer(self.ids, command.framing)
        for transport_id, data in told.sent.items():
            self.peers[transport_id].read(data)
        return result

    def do(self, operations: Iterable[Op]) -> World:
        for operation in operations:
            getattr(self, operation.name)(**operation.arguments)
        return self

    # time

    def wrong_clock(self, value: float, *, from_now: bool = False) -> None:
        """Let the next input come with a wrong time."""
        self._next_now = self.now + value if from_now else value

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.give("handle_timeout")

    def wake_late(self, seconds: float) -> None:
        """Wake up that much later than was asked for."""
        due = self.machine.next_timeout()
        self.now = max(self.now, self.now if due is None else due) + seconds
        self.give("handle_timeout")

    def oversleep(self, seconds: float) -> None:
        """Let time pass; the next input comes before the wake-up."""
        self.now += seconds

    # transports

    def opened(self, which: int = 0) -> None:
        self.give("transport_opened", self._transport(which))

    def failed(self, kind: FaultKind, fault_text: str = "", which: int = 0) -> None:
        self.give("transport_failed", self._transport(which), TransportFault(kind, fault_text))

    def ended(self, which: int = 0) -> None:
        self.give(*END[self.settings.framing](self._transport(which)))

    def say(self, speeches: Iterable[Speech], damage: Damage | None = None, which: int = 0) -> None:
        """Let the gateway say all this at once."""
        transport_id = self._transport(which)
        peer = self.peers.get(transport_id) or Peer(self.ids, self.settings.framing)
        data = b"".join(speech(peer) for speech in speeches)
        if damage is not None:
            data = damage.done_to(data)
        for name, args in inputs_of(self.settings.framing, data):
            self.give(name, transport_id, *args)

    def hear(self, data: bytes) -> None:
        """Let the first transport bring something, and pull nothing."""
        for name, args in inputs_of(self.settings.framing, data):
            getattr(self.machine, name)(1, *args, now=self.now)

    def online(self, phase: int = 3) -> None:
        """Go online if the machine is willing, or only through some steps of `HANDSHAKE`."""
        if self.machine.state is State.IDLE:
            self.give("start")
        elif self.machine.state in (State.WAITING, State.BLOCKED):
            self.reconnect_now()
            self.now = max(self.now, self.machine.retry_at or self.now)
            self.give("handle_timeout")
        if self.machine.state is State.CONNECTING:
            self.opened()
            peer = self.peers[self._transport(0)]
            for speech in HANDSHAKE[peer.phase : phase]:
                peer.phase += 1
                self.say([speech])
            if phase == len(HANDSHAKE):
                self.stored()

    def meet(self, phase: int, speeches: Iterable[Speech]) -> None:
        """Let the gateway say something at a step of the handshake, if one is that far."""
        self.online(phase)
        if self.peers and self.peers[self._transport(0)].phase == phase:
            self.say(speeches)

    def stored(self, *, ok: bool = True, which: int = 0) -> None:
        """Answer that the new device tokens are stored, or cannot be."""
        self.give("token_stored", self._transport(which), ok)

    def forgotten(self, newer: str | None = None, which: int = 0) -> None:
        """Answer that the refused device token is forgotten."""
        token = None if newer is None else DeviceToken(Secret(newer), ("operator.read",))
        self.give("token_forgotten", self._transport(which), token)

    def _transport(self, which: int) -> int:
        """Return an id: 0 is the newest one, then come older ones, and one that never was."""
        ids = [0, *self.peers]
        return ids[-1 - which % len(ids)]

    # the application

    def start(self) -> None:
        self.give("start")

    def request(
        self,
        method: Any = "echo",
        params: Any = PARAM,
        size: int = 0,
        *,
        keyed: bool = True,
        **options: Any,
    ) -> Any:
        """Make a request; ``size`` bytes more make it large, ``keyed`` gives it a key."""
        mark = len(self.steps)
        params = {"mark": mark, "text": params, "more": "x" * size}
        if keyed:
            params["idempotencyKey"] = f"key {mark}"
        return self.ask(method, params, **options)

    def ask(self, method: Any, params: Any, **options: Any) -> Any:
        result = self.give("request", method, params, **options)
        if isinstance(result, str):
            self.accepted.append(result)
        return result

    def exchange(self, requests: int, speeches: Iterable[Speech], **options: Any) -> None:
        """Make some requests, then let the gateway say something."""
        for _ in range(requests):
            self.request(**options)
        self.say(speeches)

    def cancel(self, which: int = 0) -> None:
        ids = ["unknown", *self.accepted]
        self.give("cancel", ids[-1 - which % len(ids)])

    def resynced(self, which: int = 0) -> None:
        self.give("resynced", self._transport(which))

    def probe(self) -> None:
        self.give("probe")

    def reconnect_now(self, signed: SignedPayload = SignedPayload.V3) -> None:
        self.give("reconnect_now", signed=signed)

    def use_credentials(self, **credentials: str) -> None:
        self.give("use_credentials", Credentials(**credentials))

    def stop(self, *, abort: bool = False) -> None:
        self.give("stop", abort=abort)


@attrs.frozen
class Op:
    """One operation as data, so that a falsifying example can be read, and copied."""

    name: str
    arguments: dict[str, Any] = attrs.Factory(dict)


def op(method: Callable[..., Any], /, **arguments: Any) -> Op:
    """Make the operation that calls a method of `World`."""
    return Op(method.__name__, arguments)
