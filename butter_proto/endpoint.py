"""A gateway's URL, parsed once at the edge and then never checked again.

Rules kept here:

* Only ``ws`` and ``wss`` URLs with a host pass; everything else is `InvalidSettings`. An
  `Endpoint` is fit for a request's head and for a log, whoever made it.
* A token in the query (``?token=``) is taken out of the URL and never part of any text form:
  today's gateway ignores it there (wire.md 9), so it moves into ``connect``.
* The text form is safe to log: other query values are shown as ``***`` too. An error shows no
  user name, query or fragment, and no library's words, which may quote them.
"""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit

import attrs

from butter_proto.errors import InvalidSettings

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_LOOPBACK = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            "100.64.0.0/10",  # RFC 6598: behind a carrier's NAT, and tailnets
            "169.254.0.0/16",  # RFC 3927, link-local
            "fc00::/7",  # RFC 4193, unique local
            "fe80::/10",  # RFC 4291, link-local
        ),
    )
)
"""Not Python's ``is_private``, which holds documentation and reserved ranges too."""
_PRIVATE_SUFFIXES = (".local", ".ts.net")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_HOST = 253
_MAX_TARGET = 8192
_LARGEST_PORT = 65535
_HOSTS_REMEMBERED = 64
_TARGET = re.compile(r"/[!-~]*")
_AUTHORITY = re.compile(r"(\[[^][]*:[^][]*\]|[^][:]*)(:[^][:]*)?")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")
_QUERY_OR_FRAGMENT = re.compile(r"[?#]")
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~-._"


class Reach(Enum):
    """How far a connection to a host travels."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    """Private, link-local or shared (CGNAT) addresses, ``.local`` and ``.ts.net`` names."""
    PUBLIC = "public"
    """Everything else: also names without a dot, reserved ranges, and ``0.0.0.0``."""


def _host(host: str) -> str:
    if not isinstance(host, str):
        raise InvalidSettings("a host is a str")
    return checked_host(host, host)


@attrs.frozen
class Endpoint:
    """Where a gateway listens. Raises `InvalidSettings`.

    ``target`` is the request target without any token: a path that begins with ``/``, perhaps a
    query, in visible ASCII.
    """

    host: str = attrs.field(converter=_host)
    port: int
    tls: bool
    target: str = attrs.field(default="/", repr=False)

    def __attrs_post_init__(self) -> None:
        if type(self.port) is not int or not 0 < self.port <= _LARGEST_PORT:
            raise InvalidSettings(f"{self.host!r}: a port is a number in 1..{_LARGEST_PORT}")
        if len(self.target) > _MAX_TARGET:
            raise InvalidSettings(f"a URL's path and query have at most {_MAX_TARGET} characters")
        if not _TARGET.fullmatch(self.target):
            raise InvalidSettings("a request target is a path in visible ASCII (RFC 9112, 3.2.1)")

    @property
    def dial_host(self) -> str:
        """What to resolve and dial: no more is left to a resolver than ``reach`` was judged by.

        Every name under ``.localhost`` is loopback (RFC 6761, 6.3), and an address with the root's
        dot is that address.
        """
        for address in (self.host, self.host.rstrip(".")):
            if address_of(address) is not None:
                return address
        return "localhost" if self.reach is Reach.LOOPBACK else self.host

    @property
    def server_name(self) -> str:
        """The name to verify: without the root's dot, and the zone that means nothing elsewhere."""
        return without_zone(self.host).rstrip(".")

    @property
    def host_header(self) -> str:
        """The value of the Host header: without zone and default port (RFC 9110, 7.2)."""
        return self._authority(without_zone(self.host))

    @property
    def scheme(self) -> str:
        """``ws`` or ``wss``."""
        return "wss" if self.tls else "ws"

    @property
    def url(self) -> str:
        """The URL for hosts that open the WebSocket themselves; it may hold query values."""
        return f"{self.scheme}://{self._authority(self.host)}{self.target}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, always all three: what a device token belongs to."""
        host = self.host.lower().rstrip(".")
        # an IPv4-mapped address: Python 3.13 writes it otherwise than 3.11 does
        mapped = getattr(address_of(host), "ipv4_mapped", None)
        host = str(mapped or host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_confidential(self) -> bool:
        """Whether nobody on the way can read along: TLS, or never leaving this machine."""
        return self.tls or self.reach is Reach.LOOPBACK

    @property
    def reach(self) -> Reach:
        """How far a connection to its host travels."""
        return reach_of(self.host)

    def __str__(self) -> str:
        path, question, query = self.target.partition("?")
        if question:
            parts = (part.partition("=") for part in query.split("&"))
            query = "&".join(f"{name}=***" if equals else "***" for name, equals, _ in parts)
        return f"{self.scheme}://{self._authority(self.host)}{path}{question}{query}"

    def _authority(self, host: str) -> str:
        host = f"[{host}]" if ":" in host else host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@lru_cache(_HOSTS_REMEMBERED)
def reach_of(host: str) -> Reach:
    """Return loopback, private or public, judged by a host's text alone (no name is resolved)."""
    host = host.lower().rstrip(".")
    address = address_of(host)
    if address is None:
        if host == "localhost" or host.endswith(".localhost"):
            return Reach.LOOPBACK
        return Reach.PRIVATE if host.endswith(_PRIVATE_SUFFIXES) else Reach.PUBLIC
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in _LOOPBACK):
        return Reach.LOOPBACK
    private = any(address in network for network in _PRIVATE)
    return Reach.PRIVATE if private else Reach.PUBLIC


def parse_url(url: str) -> tuple[Endpoint, str | None]:
    """Split a gateway URL into its endpoint and the token of its query, if it has one.

    The rest of the query is kept as it was written. Raises `InvalidSettings` with a text that does
    not repeat the query.
    """
    shown = _shown(url)
    try:
        url.encode()  # a lone surrogate cannot be sent
        parts = urlsplit(url)
    except ValueError:
        raise InvalidSettings(f"{shown!r} is not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidSettings(f"{shown!r}: a gateway URL starts with ws:// or wss://")
    if parts.username is not None or parts.password is not None:
        raise InvalidSettings(f"{shown!r}: the gateway takes no user name in its URL")
    if parts.fragment:
        raise InvalidSettings(f"{shown!r}: a WebSocket URL has no fragment (RFC 6455, 3)")
    if not _AUTHORITY.fullmatch(parts.netloc):
        raise InvalidSettings(f"{shown!r} is not a URL")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise InvalidSettings(f"{shown!r}: a port is a number in 1..65535")
    host = checked_host(unescaped(parts.hostname or ""), shown)
    query, token = _without_token(parts.query)
    target = quote(parts.path or "/", safe=_SAFE_IN_PATH)
    if query:
        target += "?" + quote(query, safe=_SAFE_IN_PATH + "?")
    endpoint = Endpoint(host, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "wss", target)
    return endpoint, token


def located(url: str | Endpoint) -> tuple[Endpoint, str | None]:
    """Return where a URL leads, and its token; an endpoint is returned as it is.

    Raises `InvalidSettings`.
    """
    return parse_url(url) if isinstance(url, str) else (url, None)


def _shown(url: str) -> str:
    """Return what an error text may show of a URL."""
    head = _QUERY_OR_FRAGMENT.split(url, maxsplit=1)[0]
    if "://" not in head:  # an option, perhaps: what it is given is nobody's business
        head = head.partition("=")[0]
    if "@" in url[len(head) :]:  # a password may hold the "?" or "#" that ended the head
        return head.partition(":")[0] + ":..."
    return head.rsplit("@", 1)[-1]


def _without_token(query: str) -> tuple[str, str | None]:
    """Take every ``token=`` out of a query; the last one that is not empty counts."""
    kept = []
    token = None
    for part in filter(None, query.split("&")):
        [(name, value)] = parse_qsl(part, keep_blank_values=True)
        if name == "token":
            token = value or token
        else:
            kept.append(part)
    return "&".join(kept), token


@lru_cache(_HOSTS_REMEMBERED)
def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return what a host is as an address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def without_zone(host: str) -> str:
    """Return a host for others: the zone of an address is known on this machine alone."""
    return host.partition("%")[0]


def unescaped(host: str) -> str:
    """Return the host of a URL with the zone of an IPv6 address as it is (RFC 6874, 2)."""
    address, percent, zone = host.partition("%")
    return f"{address}%{zone.removeprefix('25') or zone}" if percent and ":" in host else host


def checked_host(host: str, shown: str) -> str:
    """Return the host as ASCII, or raise `InvalidSettings`."""
    if not host:
        raise InvalidSettings(f"{shown!r} names no host")
    if ":" in host:
        address, percent, zone = host.partition("%")
        try:
            address = str(ipaddress.IPv6Address(address))
        except ValueError:
            address = ""
        if not address or (percent and not _ZONE.fullmatch(zone)):
            raise InvalidSettings(f"{shown!r}: {host!r} is not an IPv6 address")
        return address + percent + zone
    try:
        ascii_host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidSettings(f"{shown!r}: {host!r} is not a host name") from None
    labels = ascii_host.removesuffix(".").split(".")
    if len(ascii_host) > _MAX_HOST or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidSettings(f"{shown!r}: {host!r} is not a host name")
    return ascii_host
