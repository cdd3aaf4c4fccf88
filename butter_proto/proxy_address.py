"""Which proxy stands between here and a gateway: from a URL, or from the environment.

Rules kept here:

* ``http://`` (CONNECT) and ``socks5://`` pass, ``socks5h://`` too: the proxy always resolves the
  host's name. Everything else is `InvalidSettings`. Without a scheme a proxy is HTTP, as curl has
  it; the default ports are the schemes' own, 80 and 1080 (curl takes 1080 for both).
* No error and no text form shows user names or passwords: some services make the user name a key.
* The environment is an argument. A WebSocket goes by the proxy for HTTPS, ``ws://`` too, before
  any other (RFC 6455, 4.1); lower-case names count before upper-case ones. Loopback is never
  proxied (lesson 28).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from enum import Enum
from typing import Final
from urllib.parse import unquote

import attrs

from butter_proto.endpoint import Endpoint, Reach, address_of, checked_host, unescaped
from butter_proto.errors import InvalidSettings
from butter_proto.secret import LONG_ENOUGH, Secret, is_text, to_secret


class ProxyScheme(Enum):
    """How a proxy is asked for a connection."""

    HTTP = "http"
    """By CONNECT (RFC 9110, 9.3.6)."""
    SOCKS5 = "socks5"
    """By SOCKS 5 (RFC 1928)."""


_SCHEMES: Final = {
    "http": ProxyScheme.HTTP,
    "socks5": ProxyScheme.SOCKS5,
    "socks5h": ProxyScheme.SOCKS5,
}
_DEFAULT_PORTS: Final = {ProxyScheme.HTTP: 80, ProxyScheme.SOCKS5: 1080}
_PROXY_NAMES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_EXEMPT_NAMES: Final = ("no_proxy", "NO_PROXY")
_LARGEST_PORT: Final = 65535
_LONGEST_IN_SOCKS: Final = 255
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PLACE: Final = re.compile(r"(\[[^][]*:[^][]*\]|[^][:/?#]*)(?::([0-9]{0,5}))?/?")
_PATH: Final = re.compile(r"[/?#]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_EXEMPT_PLACE: Final = re.compile(r"\[?(?P<host>[^][]*?)\]?(?::(?P<port>[0-9]+))?")


def _host(host: str) -> str:
    if not isinstance(host, str):
        raise InvalidSettings("a proxy's host is a str")
    return checked_host(host, host)


@attrs.frozen
class ProxyAddress:
    """A proxy to dial instead of the host itself. Raises `InvalidSettings`.

    A ``username`` without a ``password`` works with HTTP alone. SOCKS 5 takes 1 to 255 ASCII
    characters each (RFC 1929 says bytes; the library writes no others).
    """

    scheme: ProxyScheme
    host: str = attrs.field(converter=_host)
    port: int
    username: str | None = attrs.field(default=None, repr=False)
    password: Secret | None = attrs.field(default=None, converter=to_secret)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.scheme, ProxyScheme):
            raise InvalidSettings(f"a proxy's scheme must be a {ProxyScheme.__name__}")
        if type(self.port) is not int or not 0 < self.port <= _LARGEST_PORT:
            raise InvalidSettings(f"{self.host!r}: a proxy's port is a number in 1..65535")
        if self.username is None and self.password is None:
            return
        if self.scheme is ProxyScheme.HTTP:
            right = _fit_basic(self.username, self.password)
            rule = "a user name without ':', and no control characters"
        else:
            right = _fit_socks(self.username) and _fit_socks(self._password_text)
            rule = f"a user name and a password of 1..{_LONGEST_IN_SOCKS} ASCII characters"
        if not right:
            raise InvalidSettings(f"{self}: this proxy takes {rule}")

    @property
    def basic_credentials(self) -> Secret | None:
        """What goes over the wire to an HTTP proxy (RFC 7617); None without a user name."""
        if self.username is None or self.scheme is not ProxyScheme.HTTP:
            return None
        text = f"{self.username}:{self._password_text or ''}"
        return Secret(base64.b64encode(text.encode()).decode())

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must not appear in anything told; a short user name is a word as others are."""
        name = self.username or ""
        found = (
            Secret(name) if len(name) >= LONG_ENOUGH else None,
            self.password,
            self.basic_credentials,
        )
        return tuple(secret for secret in found if secret is not None)

    @property
    def _password_text(self) -> str | None:
        return None if self.password is None else self.password.reveal()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme.value}://{host}:{self.port}"


def parse_proxy(url: str) -> ProxyAddress:
    """Parse ``scheme://[user[:password]@]host[:port]``. Raises `InvalidSettings`.

    User name and password are percent-decoded.
    """
    before, separator, rest = url.strip().partition("://")
    scheme = before.lower() if separator else "http"
    user_info, at, place = (rest if separator else before).rpartition("@")
    if scheme not in _SCHEMES:
        named = f": {scheme}" if _SCHEME.fullmatch(scheme) else ""
        raise InvalidSettings(
            f"this scheme of a proxy is not known{named}; allowed: {', '.join(_SCHEMES)}"
        )
    kind = _SCHEMES[scheme]
    match = _PLACE.fullmatch(place)
    # what has another shape, or is escaped, may be a password: host:port:user:password is in use
    shown = f"{scheme}://{place}" if match and "%" not in place else f"{scheme}://..."
    if match is None or _PATH.search(user_info):
        raise InvalidSettings(
            f"{shown!r} is no proxy; one is scheme://user:password@host:port, user and password "
            "percent-encoded"
        )
    host, port = match.groups()
    if "%" in host and ":" not in host:
        raise InvalidSettings(f"{shown!r}: only user name and password are percent-encoded")
    user, _, password = user_info.partition(":")
    try:
        username = unquote(user, errors="strict") if at else None
        password = unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise InvalidSettings(f"{shown!r}: user name or password is no UTF-8") from None
    return ProxyAddress(
        kind,
        unescaped(host.strip("[]")),
        int(port) if port else _DEFAULT_PORTS[kind],
        username,
        to_secret(password or None),
    )


def to_proxy(value: ProxyAddress | str | None) -> ProxyAddress | None:
    """Convert what a caller gives as a proxy. Raises `InvalidSettings`."""
    if isinstance(value, str):
        return parse_proxy(value)
    if value is not None and not isinstance(value, ProxyAddress):
        raise InvalidSettings("proxy must be a ProxyAddress or a URL")
    return value


def proxy_from_environment(endpoint: Endpoint, environ: Mapping[str, str]) -> ProxyAddress | None:
    """Return the proxy that the environment names for a gateway. Raises `InvalidSettings`.

    ``HTTPS_PROXY``, then ``ALL_PROXY``; an empty one counts as not set. ``NO_PROXY`` is a list of
    hosts, separated by commas or spaces: ``*`` for all; a domain, which stands for what is under
    it too, with a leading dot or without; an address; a CIDR block. Each may have a port.
    """
    exempt = next((environ[name] for name in _EXEMPT_NAMES if environ.get(name)), "")
    entries = exempt.lower().replace(",", " ").split()
    if endpoint.reach is Reach.LOOPBACK or any(_matches(entry, endpoint) for entry in entries):
        return None
    name = next((name for name in _PROXY_NAMES if environ.get(name, "").strip()), None)
    if name is None:
        return None
    try:
        return parse_proxy(environ[name])
    except InvalidSettings as error:
        raise InvalidSettings(f"{name}: {error}") from None


def _matches(entry: str, endpoint: Endpoint) -> bool:
    """Tell whether an entry of NO_PROXY stands for a gateway."""
    host = endpoint.host.lower().rstrip(".")
    addresses = _addresses_of(host)
    if any(_holds(entry, address) for address in addresses):
        return True
    match = _EXEMPT_PLACE.fullmatch(entry)
    if match is None or match["port"] not in (None, str(endpoint.port)):
        return False
    if match["host"] == "*":
        return True
    if addresses:
        return any(_holds(match["host"], address) for address in addresses)
    name = _ascii(match["host"].removeprefix("*").strip("."))
    return bool(name) and f".{host}".endswith(f".{name}")


def _addresses_of(host: str) -> tuple[_Address, ...]:
    """Return what a host is as an address: an IPv4-mapped one is both."""
    address = address_of(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return tuple(found for found in (address, mapped) if found is not None)


def _ascii(name: str) -> str:
    """Return a domain as an `Endpoint` has it."""
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:  # no domain at all, then
        return ""


def _holds(network: str, address: _Address) -> bool:
    """Tell whether this is an address or a block, and holds the other."""
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _fit_basic(username: str | None, password: Secret | None) -> bool:
    if not isinstance(username, str) or ":" in username or not is_text(f"{username}:"):
        return False
    return not _CONTROL.search(username + (password.reveal() if password else ""))


def _fit_socks(text: str | None) -> bool:
    return isinstance(text, str) and text.isascii() and 0 < len(text) <= _LONGEST_IN_SOCKS
