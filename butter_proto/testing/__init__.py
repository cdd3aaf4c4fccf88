"""For embedders' own tests: a gateway without a network, and a network without time.

`StandInGateway` is the server side as a pure machine: ``butter_trio.serve`` and
``butter_threads.serve`` run it on a real port, `VirtualNetwork` runs it against any machine
(a ``Connector``, a ``Pool``) on a `VirtualClock`. ``recording`` has the flight recorder.
"""

from butter_proto.testing.conditions import Conditions, Dial, Direction, VirtualClock
from butter_proto.testing.conversation import Received
from butter_proto.testing.devices import IssuedToken, PairedDevice, PairingReason, PairingRequest
from butter_proto.testing.network import Livelock, NotReached, VirtualNetwork
from butter_proto.testing.sockets import ContractBroken
from butter_proto.testing.stand_in import ClosePeer, StandInGateway

__all__ = [
    "ClosePeer",
    "Conditions",
    "ContractBroken",
    "Dial",
    "Direction",
    "IssuedToken",
    "Livelock",
    "NotReached",
    "PairedDevice",
    "PairingReason",
    "PairingRequest",
    "Received",
    "StandInGateway",
    "VirtualClock",
    "VirtualNetwork",
]
