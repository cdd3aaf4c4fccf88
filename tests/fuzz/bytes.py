"""Any bytes of a gateway, from any phase on, in any pieces: G1, G8, G9, and what is sent is right.

The first byte chooses a connector over bytes, one over messages, or the tunnel through a proxy.
`World` reads all that is sent with a WebSocket of its own, which refuses what is wrong.
"""

from __future__ import annotations

from typing import Final

import attrs

from butter_proto import CLI, Dialect, Framing, Limits, Settings, events
from butter_proto.proxy import Tunnel
from butter_proto.proxy_address import parse_proxy
from tests.fuzz.choices import Choices, pieces
from tests.proto.gateway_side import PASSWORD, TOKEN, inputs_of
from tests.proto.operations import World
from tests.proto.test_guarantees import check_closed_once

LONGEST: Final = 4096
FRAMINGS: Final = (Framing.BYTES, Framing.MESSAGES)
PHASES: Final = (0, 1, 2, 3, 4)
"""Steps of the handshake that were said before; 4 is a connector that was stopped."""
_PLAIN: Final = Settings(token=TOKEN)
KINDS: Final = (
    _PLAIN,
    Settings(token=TOKEN, password=PASSWORD, identity=CLI),
    Settings(token=TOKEN, dialect=Dialect.OPENBUTTER_V1),
    Settings(token=TOKEN, dialect=Dialect.OPENBUTTER_V1, json_rpc=True),
    attrs.evolve(_PLAIN, limits=Limits(max_message=1024, max_fragments=3)),
)
_PROXY: Final = parse_proxy("http://user:hidden@proxy:3128")


def fuzz(data: bytes) -> None:
    """Give these bytes to what the first one chooses."""
    if data[:1] == b"P":
        check_tunnel(data[1:])
    else:
        world = listening(Choices(data))
        world.wait(0.0)
        world.ended()
        world.stop(abort=True)
        check_closed_once(world)
        assert world.machine.finished
        most = world.settings.limits.max_message
        assert all(one.size <= most for one in world.told if isinstance(one, events.GatewayEvent))


def listening(choices: Choices) -> World:
    """Return a world that is in a phase and then hears the rest of the input."""
    framing = choices.one_of(FRAMINGS)
    phase = choices.one_of(PHASES)
    world = World(attrs.evolve(choices.one_of(KINDS), framing=framing))
    size = choices.number()
    world.online(phase)
    if phase > 2:
        world.request(timeout=None)
        world.probe()
    if phase > 3:
        world.stop()
    for piece in pieces(choices.rest(), size):
        for name, args in inputs_of(framing, piece):
            world.give(name, 1, *args)
    return world


def check_tunnel(data: bytes) -> None:
    """Give an answer to CONNECT whole and byte by byte; the same must come of it."""
    whole, *others = (answered(data, size) for size in (0, 1, 7))
    assert all(one == whole for one in others)


def answered(data: bytes, size: int) -> tuple[bool, str]:
    tunnel = Tunnel(_PROXY, "gateway.example.com", 443)
    assert tunnel.data_to_send()
    for piece in pieces(data, size):
        tunnel.receive_data(piece)
    answer = (tunnel.open, f"{tunnel.fault!r}")
    tunnel.receive_data(b"")
    assert not tunnel.open
    assert tunnel.fault is not None
    assert "hidden" not in f"{tunnel.fault!r} {tunnel.fault}"
    return answer
