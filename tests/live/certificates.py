"""Certificates as files, for gateways and relays: of our own authority, or the gateway's own."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import attrs
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.local_proxies import HOST


@attrs.frozen
class Certificate:
    """A server's certificate, in PEM files."""

    chain: Path
    key: Path
    authority: Path
    """The authority that a client has to trust."""

    @property
    def der(self) -> bytes:
        """The leaf, as a client sees it."""
        return ssl.PEM_cert_to_DER_cert(self.chain.read_text())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf: the pin of a certificate, 64 lower-case hex digits."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def spki_fingerprint(self) -> str:
        """SHA-256 of its SubjectPublicKeyInfo: the pin of a key, 64 lower-case hex digits."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(info).hexdigest()

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and nothing else."""
        return ssl.create_default_context(cafile=self.authority)

    def serving(self) -> ssl.SSLContext:
        """Return a server's context that shows this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_certificate(folder: Path) -> Certificate:
    """Make a new authority and its certificate for the names of this machine, in `folder`."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost", HOST)
    made = Certificate(folder / "server.pem", folder / "server.key", folder / "authority.pem")
    made.key.touch(mode=0o600)
    leaf.private_key_pem.write_to_path(made.key)
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(made.chain, append=True)
    authority.cert_pem.write_to_path(made.authority)
    return made


def certificate_of_the_gateway(folder: Path) -> Certificate:
    """Return a certificate that the gateway makes when it starts, as it does for its users.

    It is self-signed and names no host (CN=openclaw-gateway and no SAN), so that no client can
    verify it for an address: a pin is all there is.
    """
    chain = folder / "gateway.pem"
    return Certificate(chain, folder / "gateway.key", authority=chain)
