"""Any bytes of a client, from any phase on: the stand-in never raises, and frees each socket once.

Once there was an upgrade `RawClient` reads all that it sends with a WebSocket of its own, which
refuses what is wrong.
"""

from __future__ import annotations

from typing import Any, Final

from butter_proto import GatewayError
from butter_proto.testing import StandInGateway
from tests.fuzz.choices import Choices, pieces
from tests.proto.gateway_side import TOKEN
from tests.testing.raw_client import RawClient, connect_params

LONGEST: Final = 4096
PHASES: Final = (0, 1, 2)
"""Nothing was said before, the upgrade was, or it is online."""
KINDS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"legacy": True},
    {"legacy": True, "json_rpc": True},
    {"remote": True},
)
_LONG: Final = 1000.0
_BUSY: Final = GatewayError("UNAVAILABLE", "busy", retryable=True, retry_after=0.5)


def fuzz(data: bytes) -> None:
    """Let a client say the rest of these bytes; then let time pass, and restart."""
    choices = Choices(data)
    gateway = StandInGateway(token=TOKEN, **choices.one_of(KINDS))
    gateway.reply("busy", _BUSY)
    gateway.reply("slow", {"done": True}, delay=2.0, interim={"status": "accepted"})
    phase = choices.one_of(PHASES)
    client = (RawClient if phase > 0 else DeafClient)(gateway)
    size = choices.number()
    if phase > 0:
        client.upgrade()
    if phase > 1:
        client.request("connect", connect_params(auth={"token": TOKEN}), id="c1")
    for piece in pieces(choices.rest(), size):
        gateway.receive_data(1, piece, client.now)
        client.pull()
    gateway.push("chat", {"text": "hello"})
    client.wait(1.0)
    gateway.restart()
    client.wait(_LONG)
    assert client.closed is not None
    assert gateway.online_peers == 0
    assert not gateway.data_to_send(1)


class DeafClient(RawClient):
    """Reads nothing: only who asked for an upgrade can read the answer."""

    def pull(self) -> None:
        while self.gateway.data_to_send(self.peer_id):
            pass
        super().pull()
