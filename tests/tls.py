"""The two sides of TLS in tests: who trusts an authority, and who shows a certificate of it."""

from __future__ import annotations

import ssl

import trustme


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Make the context of a client that trusts an authority beside the platform's."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def presenting(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """Make the context of a server that shows a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context
