"""What may be said to whom: clear text only to what is near, credentials only over TLS.

Rules kept here:

* It is judged by the URL and the settings alone, when a `Connector` is made: no name is resolved,
  and no byte is sent.
* The way counts, not only its end: what goes by a proxy travels as far as the proxy does.
"""

from __future__ import annotations

from butter_proto.endpoint import Endpoint, Reach, reach_of
from butter_proto.errors import InvalidSettings
from butter_proto.proxy_address import ProxyAddress
from butter_proto.settings import Settings


def check_transport(endpoint: Endpoint, settings: Settings) -> None:
    """Raise `InvalidSettings` where settings and URL together are not safe."""
    if endpoint.tls:
        return
    if not settings.allow_plaintext:
        _check_plaintext(endpoint, settings.proxy)
    if settings.pins:
        raise InvalidSettings(f"{endpoint}: pins need wss://, there is no certificate without TLS")
    if settings.headers:
        raise InvalidSettings(f"{endpoint}: headers are sent over wss:// only")


def _check_plaintext(endpoint: Endpoint, proxy: ProxyAddress | None) -> None:
    if endpoint.reach is Reach.LOOPBACK:  # never proxied
        return
    if endpoint.reach is Reach.PUBLIC:
        where = f"{endpoint} would send the token in clear text"
    elif proxy is not None and reach_of(proxy.host) is Reach.PUBLIC:
        where = f"{endpoint} would send the token in clear text to {proxy}"
    else:
        return
    raise InvalidSettings(
        f"{where}: ws:// is for loopback and private addresses, .local and .ts.net names, and so "
        "is a proxy on the way there. Use wss://, or allow_plaintext (--allow-plaintext) where "
        "something else protects the way (a tunnel, a container's network)"
    )
