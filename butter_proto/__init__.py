"""The pure core of openbutter: state machines that connect to an OpenClaw Gateway without I/O.

Start with `Connector` and the contract in ``machine.py``. The events are in the module ``events``
(two of them, ``GaveUp`` and ``RequestFailed``, share their names with the exceptions that the
adapters raise, which are here).
"""

from butter_proto import events
from butter_proto.backlog import QueuedRequest
from butter_proto.connector import Connector
from butter_proto.credentials import Credentials
from butter_proto.device import Device, DeviceToken, MemoryStore, TokenKey, TokenStore
from butter_proto.device_auth import SignedPayload, Signer, device_id
from butter_proto.endpoint import Endpoint, Reach, parse_url
from butter_proto.errors import (
    ButterError,
    ConnectionEnded,
    ConnectTimeout,
    Delivery,
    Ending,
    EndKind,
    FaultKind,
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
    TransportFault,
)
from butter_proto.identity import (
    BACKEND,
    CLI,
    CLIENT_IDS,
    CLIENT_MODES,
    OPENBUTTER_BROWSER,
    OPENBUTTER_NODE,
    ROLES,
    VERSION,
    Identity,
)
from butter_proto.machine import (
    CHUNK,
    CloseTransport,
    Machine,
    OpenTransport,
    State,
    Stats,
)
from butter_proto.pins import Pin
from butter_proto.pool import Pool
from butter_proto.pool_gateway import GatewayHealth, PoolGateway
from butter_proto.proxy import ProxyFailed, ProxyRefused, Tunnel
from butter_proto.proxy_address import (
    ProxyAddress,
    ProxyScheme,
    parse_proxy,
    proxy_from_environment,
)
from butter_proto.reconnect import ROWS, Action, Attempts, Decision, decide
from butter_proto.request_options import AUTO, Auto, Offline, PoolOptions, RequestOptions
from butter_proto.secret import Secret
from butter_proto.settings import (
    DEFAULT,
    Default,
    Dialect,
    Framing,
    KeepaliveSettings,
    Limits,
    Probe,
    ReconnectSettings,
    Settings,
    Timeouts,
)
from butter_proto.setup_code import SetupCode, parse_setup_code
from butter_proto.trace import Trace, Traced

__version__ = VERSION

__all__ = [
    "AUTO",
    "BACKEND",
    "CHUNK",
    "CLI",
    "CLIENT_IDS",
    "CLIENT_MODES",
    "DEFAULT",
    "OPENBUTTER_BROWSER",
    "OPENBUTTER_NODE",
    "ROLES",
    "ROWS",
    "VERSION",
    "Action",
    "Attempts",
    "Auto",
    "ButterError",
    "CloseTransport",
    "ConnectTimeout",
    "ConnectionEnded",
    "Connector",
    "Credentials",
    "Decision",
    "Default",
    "Delivery",
    "Device",
    "DeviceToken",
    "Dialect",
    "EndKind",
    "Ending",
    "Endpoint",
    "FaultKind",
    "Framing",
    "GatewayError",
    "GatewayHealth",
    "GaveUp",
    "Identity",
    "InvalidParams",
    "InvalidSettings",
    "KeepaliveSettings",
    "Limits",
    "LocalProtocolError",
    "Machine",
    "MemoryStore",
    "MessageTooLarge",
    "NotOnline",
    "Offline",
    "OpenTransport",
    "PendingFull",
    "Pin",
    "Pool",
    "PoolGateway",
    "PoolOptions",
    "Probe",
    "ProxyAddress",
    "ProxyFailed",
    "ProxyRefused",
    "ProxyScheme",
    "QueuedRequest",
    "Reach",
    "ReconnectSettings",
    "RequestFailed",
    "RequestMayHaveExecuted",
    "RequestNotSent",
    "RequestOptions",
    "RequestRefused",
    "RequestTimeout",
    "Secret",
    "Settings",
    "SetupCode",
    "SignedPayload",
    "Signer",
    "State",
    "Stats",
    "StoreError",
    "Timeouts",
    "TokenKey",
    "TokenStore",
    "Trace",
    "Traced",
    "TransportFault",
    "Tunnel",
    "decide",
    "device_id",
    "events",
    "parse_proxy",
    "parse_setup_code",
    "parse_url",
    "proxy_from_environment",
]
