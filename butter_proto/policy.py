"""What may be said to whom: clear text only to what is near, credentials only over TLS.

Rules kept here:

* It is judged by the URL and the settings alone, when a `Connector` is made: no name is resolved,
  and no byte is sent.
"""

from __future__ import annotations

from butter_proto.endpoint import Endpoint, Reach
from butter_proto.errors import InvalidSettings
from butter_proto.settings import Settings


def check_transport(endpoint: Endpoint, settings: Settings) -> None:
    """Raise `InvalidSettings` where settings and URL together are not safe."""
    if endpoint.tls:
        return
    if endpoint.reach is Reach.PUBLIC and not settings.allow_plaintext:
        raise InvalidSettings(
            f"{endpoint} would send the token in clear text: ws:// is for loopback and private "
            "addresses, .local and .ts.net names. Use wss://, or allow_plaintext=True where "
            "something else protects the way (a tunnel, a container's network)"
        )
    if settings.pins:
        raise InvalidSettings(f"{endpoint}: pins need wss://, there is no certificate without TLS")
    if settings.headers:
        raise InvalidSettings(f"{endpoint}: headers are sent over wss:// only")
