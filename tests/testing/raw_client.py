"""A raw WebSocket client for one socket of a stand-in, on wsproto, whole or byte by byte."""

from __future__ import annotations

import json
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from butter_proto.testing import ClosePeer, StandInGateway

SCOPES = ["operator.read", "operator.write"]


def connect_params(**changes: Any) -> dict[str, Any]:
    """Return a connect request's params that a gateway without a token accepts."""
    params: dict[str, Any] = {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {
            "id": "gateway-client",
            "version": "1",
            "platform": "linux",
            "mode": "backend",
        },
        "role": "operator",
        "scopes": SCOPES,
    }
    return {**params, **changes}


class RawClient:
    """One socket at a gateway. Time is the client's ``now``; ``wait`` lets it pass."""

    def __init__(
        self,
        gateway: StandInGateway,
        peer_id: int = 1,
        *,
        now: float = 0.0,
        bytewise: bool = False,
        answer_pings: bool = True,
    ) -> None:
        self.gateway = gateway
        self.peer_id = peer_id
        self.now = now
        self.step = 1 if bytewise else 1 << 30
        self.answer_pings = answer_pings
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.text = ""
        self.inbox: list[Any] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.accepted: AcceptConnection | None = None
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.close: tuple[int, str | None] | None = None
        self.closed: ClosePeer | None = None
        gateway.accept(peer_id, now)
        self.pull()

    def upgrade(self, **headers: str) -> RawClient:
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.send_event(Request("gateway:18789", "/", extra_headers=extra))
        return self

    def connect(self, **changes: Any) -> RawClient:
        """Upgrade and send a connect request; the challenge and its answer are in the inbox."""
        self.upgrade()
        self.request("connect", connect_params(**changes), id="c1")
        return self

    def request(self, method: str, params: Any = None, *, id: str = "r1") -> Any:  # noqa: A002
        """Send a request and return what came last."""
        self.send({"type": "req", "id": id, "method": method, "params": params})
        return self.inbox[-1] if self.inbox else None

    def send(self, message: Any) -> None:
        """Send JSON; a str goes out as it is."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.send_event(TextMessage(text))

    def send_event(self, event: Event) -> None:
        self.send_raw(self.ws.send(event))

    def send_raw(self, data: bytes) -> None:
        for start in range(0, len(data), self.step):
            self.gateway.receive_data(self.peer_id, data[start : start + self.step], self.now)
            self.pull()

    def wait(self, seconds: float) -> None:
        """Let time pass, waking the gateway when it asks for it."""
        end = self.now + seconds
        while (due := self.gateway.next_timeout()) is not None and due <= end:
            self.now = max(due, self.now)
            self.gateway.handle_timeout(self.now)
            self.pull()
        self.now = end

    def pull(self) -> None:
        """Read what the gateway has for this socket, and whether it is closed."""
        while data := self.gateway.data_to_send(self.peer_id):
            assert len(data) <= 64 * 1024
            for start in range(0, len(data), self.step):
                self.ws.receive_data(data[start : start + self.step])
                for event in self.ws.events():
                    self.read(event)
        if (closed := self.gateway.next_closed()) is not None:
            assert closed.peer_id == self.peer_id
            assert self.closed is None
            self.closed = closed

    def read(self, event: Event) -> None:
        match event:
            case TextMessage():
                self.text += event.data
                if event.message_finished:
                    self.inbox.append(json.loads(self.text))
                    self.text = ""
            case Ping():
                self.pings += 1
                if self.answer_pings:
                    self.send_event(event.response())
            case Pong():
                self.pongs.append(bytes(event.payload))
            case CloseConnection():
                self.close = (event.code, event.reason)
                if self.ws.state is ConnectionState.REMOTE_CLOSING:
                    self.send_event(event.response())
            case AcceptConnection():
                self.accepted = event
            case RejectConnection():
                self.status = event.status_code
                self.headers = dict(event.headers)
            case RejectData():
                self.body += event.data
            case BytesMessage():  # pragma: no cover - the gateway sends none
                raise AssertionError

    @property
    def names(self) -> list[str]:
        """The names of the events in the inbox."""
        return [frame["event"] for frame in self.inbox if frame.get("type") == "event"]

    @property
    def error(self) -> dict[str, Any]:
        """The error of what came last."""
        error: dict[str, Any] = self.inbox[-1]["error"]
        return error
