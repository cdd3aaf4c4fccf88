"""openbutter for threads: ``connect``, what it yields and what it raises.

The state events and notices are in the module ``events``: ``events.GaveUp`` is the event,
``GaveUp`` the exception.
"""

from butter_proto import events
from butter_proto.backlog import QueuedRequest
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
from butter_proto.events import EventsMissed, FromGateway, GatewayEvent, Hello
from butter_proto.identity import Identity
from butter_proto.machine import State, Stats
from butter_proto.pool_gateway import GatewayHealth, PoolGateway
from butter_proto.proxy_address import ProxyAddress, ProxyScheme
from butter_proto.request_options import AUTO, Auto, Offline, PoolOptions, RequestOptions
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
from butter_threads.client import Gateway, connect
from butter_threads.dial import Dial, dial_tcp
from butter_threads.pool import Pool, connect_pool
from butter_threads.streams import EventStream, GatewayStream, NoticeStream, StateStream

__all__ = [
    "AUTO",
    "Auto",
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
    "FromGateway",
    "Gateway",
    "GatewayError",
    "GatewayEvent",
    "GatewayHealth",
    "GatewayStream",
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
    "Offline",
    "PendingFull",
    "Pool",
    "PoolGateway",
    "PoolOptions",
    "Probe",
    "ProxyAddress",
    "ProxyScheme",
    "QueuedRequest",
    "ReconnectSettings",
    "RequestFailed",
    "RequestMayHaveExecuted",
    "RequestNotSent",
    "RequestOptions",
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
    "connect_pool",
    "dial_tcp",
    "events",
]
