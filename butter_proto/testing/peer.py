"""One accepted socket: its WebSocket, what it was granted, and what it waits for.

Rules kept here:

* ``seq`` starts at 1 for each socket and counts the events sent after hello (wire.md 3).
* Nothing is said on a socket that is not open.
"""

from __future__ import annotations

from butter_proto.testing.attempt import Challenge
from butter_proto.testing.link import Phase, ServerLink
from butter_proto.testing.script import Push
from butter_proto.testing.server_frames import (
    Answer,
    InvalidRequest,
    Request,
    encode_answer,
    encode_event,
    encode_notification,
)
from butter_proto.testing.verdicts import Grant


class Peer:
    """One client, from accept to the end of its socket."""

    __slots__ = (
        "challenge",
        "grant",
        "id",
        "link",
        "lost",
        "reset",
        "seq",
        "settled",
        "unanswered_pings",
        "waiting",
    )

    def __init__(self, peer_id: int) -> None:
        self.id = peer_id
        self.link = ServerLink()
        self.challenge: Challenge | None = None
        """What it was told; None before the upgrade."""
        self.grant: Grant | None = None
        """What hello-ok gave it; None before."""
        self.seq = 0
        self.unanswered_pings = 0
        self.waiting: set[int] = set()
        """The numbers of its requests that wait for a delayed answer."""
        self.settled = Phase.UPGRADING
        """The phase of its link that the gateway has seen to."""
        self.reset = False
        """Whether its socket ends with a reset."""
        self.lost = False
        """Whether its socket broke."""

    @property
    def online(self) -> bool:
        """Whether hello-ok was sent, and no Close frame."""
        return self.grant is not None and self.link.phase is Phase.OPEN

    def may_hear(self, event: Push) -> bool:
        """Tell whether an event is for this peer."""
        if not self.online or self.grant is None:
            return False
        return not event.needs or not event.needs.isdisjoint(self.grant.scopes)

    @property
    def unauthenticated(self) -> bool:
        """Whether it has a WebSocket, but no hello yet."""
        return self.grant is None and self.link.phase is Phase.OPEN

    def answer(self, request: Request | InvalidRequest, answer: Answer) -> None:
        """Answer a request."""
        self.link.send_text(encode_answer(request, answer))

    def tell(self, event: Push, *, json_rpc: bool = False) -> None:
        """Send an event, as a JSON-RPC notification where that was asked for."""
        self.seq += 1 + event.seq_gap
        if json_rpc:
            text = encode_notification(event.name, event.payload)
        else:
            text = encode_event(event.name, event.payload, self.seq, event.state_version)
        self.link.send_text(text)
