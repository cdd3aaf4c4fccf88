"""The connector that is recorded: each call of it goes through its tape.

Rules kept here:

* A call goes through unchanged, with what it returns or raises, whatever it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from butter_proto import events
from butter_proto.connection import Connection
from butter_proto.connector import Connector
from butter_proto.device_auth import Signer
from butter_proto.machine import Command, Message
from butter_proto.testing.recording.lines import INPUTS, PARAMETERS
from butter_proto.testing.recording.tape import Tape
from butter_proto.testing.recording.turn import Draw


class RecordedSigner:
    """A signer of which is kept whether it signed."""

    def __init__(self, signer: Signer, tape: Tape) -> None:
        self._signer = signer
        self._tape = tape

    @property
    def public_key(self) -> bytes:
        """As the signer's."""
        return self._signer.public_key

    def sign(self, message: bytes) -> bytes:
        """As the signer does."""
        try:
            signature = self._signer.sign(message)
        except Exception:
            self._tape.drew(Draw.SIGNATURE, None)
            raise
        size = len(signature) if isinstance(signature, bytes) else 0
        self._tape.drew(Draw.SIGNATURE, size)
        return signature


class RecordedConnector(Connector):
    """A connector whose inputs (`INPUTS`) and pulls are kept."""

    tape: Tape

    def next_command(self) -> Command | None:
        """As a connector; it is kept."""
        command = super().next_command()
        self.tape.pulled_command(command)
        return command

    def data_to_send(self, transport_id: int) -> bytes:
        """As a connector; it is kept."""
        data = super().data_to_send(transport_id)
        self.tape.pulled_bytes(transport_id, data)
        return data

    def next_message(self, transport_id: int) -> Message | None:
        """As a connector; it is kept."""
        message = super().next_message(transport_id)
        self.tape.pulled_message(transport_id, message)
        return message

    def next_event(self) -> events.Event | None:
        """As a connector; it is kept."""
        event = super().next_event()
        self.tape.pulled_event(event)
        return event

    def next_timeout(self) -> float | None:
        """As a connector; it is kept."""
        due = super().next_timeout()
        self.tape.asked_due(due)
        return due

    def _settle(self, transport_id: int, connection: Connection) -> None:
        self.tape.looked_at(connection)
        super()._settle(transport_id, connection)


def _recorded(name: str) -> Callable[..., Any]:
    """Return an input of a connector that is kept on its tape."""
    method = getattr(Connector, name)
    names = PARAMETERS[name]

    @wraps(method)
    def call(self: RecordedConnector, *arguments: Any, **options: Any) -> Any:
        given = {**dict(zip(names, arguments, strict=False)), **options}
        return self.tape.record(name, partial(method, self, *arguments, **options), given)

    return call


for _name in INPUTS:
    setattr(RecordedConnector, _name, _recorded(_name))
