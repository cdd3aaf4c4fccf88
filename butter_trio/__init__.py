"""openbutter on trio: ``connect``, what it yields and what it raises.

The state events and notices are in the module ``events``: ``events.GaveUp`` is the event,
``GaveUp`` the exception.
"""

from butter_proto import events
from butter_proto.device import Device, MemoryStore
from butter_proto.device_auth import SignedPayload, Signer
from butter_proto.errors import (
    ButterError,
    ConnectionEnded,
    ConnectTimeout,
    Delivery,
    Ending,
    EndKind,
    GatewayError,
    GaveUp,
    InvalidParams,
    InvalidSettings,
    LocalProtocolError,
    MessageTooLarge,
    NotOnline,
    PendingFull,
    RequestFailed,
    RequestMayHaveExecuted,
    RequestNotSent,
    RequestRefused,
    RequestTimeout,
    StoreError,
)
from butter_proto.events import EventsMissed, GatewayEvent, Hello
from butter_proto.identity import Identity
from butter_proto.machine import State, Stats
from butter_proto.proxy_address import ProxyAddress, ProxyScheme
from butter_proto.secret import Secret
from butter_proto.settings import (
    Dialect,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Settings,
    Timeouts,
)
from butter_trio.client import EventStream, Gateway, NoticeStream, StateStream, connect
from butter_trio.dial import Dial, dial_tcp

__all__ = [
    "ButterError",
    "ConnectTimeout",
    "ConnectionEnded",
    "Delivery",
    "Device",
    "Dial",
    "Dialect",
    "EndKind",
    "Ending",
    "EventStream",
    "EventsMissed",
    "Gateway",
    "GatewayError",
    "GatewayEvent",
    "GaveUp",
    "Hello",
    "Identity",
    "InvalidParams",
    "InvalidSettings",
    "KeepaliveSettings",
    "Limits",
    "LocalProtocolError",
    "MemoryStore",
    "MessageTooLarge",
    "NotOnline",
    "NoticeStream",
    "PendingFull",
    "Probe",
    "ProxyAddress",
    "ProxyScheme",
    "ReconnectSettings",
    "RequestFailed",
    "RequestMayHaveExecuted",
    "RequestNotSent",
    "RequestRefused",
    "RequestTimeout",
    "Secret",
    "Settings",
    "SignedPayload",
    "Signer",
    "State",
    "StateStream",
    "Stats",
    "StoreError",
    "Timeouts",
    "connect",
    "dial_tcp",
    "events",
]
