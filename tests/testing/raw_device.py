"""A device that connects to a stand-in: it signs with Ed25519 what it sends."""

from __future__ import annotations

from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from butter_proto import device_auth
from butter_proto.device_auth import SignedPayload
from butter_proto.testing import StandInGateway
from tests.testing.raw_client import RawClient, connect_params

CLI = {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"}
BACKEND = {"id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend"}
TOKEN = {"token": "t"}
"""The shared secret of `device_at`."""
READ = ["operator.read"]
READ_WRITE = ["operator.read", "operator.write"]


class RawDevice:
    """An identity, and its connects to one gateway, each on a socket of its own."""

    numbers = count(1)

    def __init__(self, gateway: StandInGateway, key: int = 0) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes(range(key, key + 32)))
        self.public_key = self._key.public_key().public_bytes_raw()
        self.id = device_auth.device_id(self.public_key)
        self.gateway = gateway
        self.now = 0.0
        self.clients: list[RawClient] = []

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def connect(
        self,
        *,
        version: SignedPayload = SignedPayload.V3,
        off_ms: int = 0,
        device: dict[str, Any] | None = None,
        origin: str | None = None,
        **changes: Any,
    ) -> RawClient:
        """Connect with these params; ``device`` changes its object after it was signed."""
        client = RawClient(self.gateway, next(self.numbers), now=self.now)
        self.clients.append(client)
        client.upgrade(**({} if origin is None else {"Origin": origin}))
        params = {**connect_params(client=CLI, auth={}, scopes=READ_WRITE), **changes}
        challenge = client.inbox[0]["payload"]
        proof = device_auth.prove(
            self, version, params, challenge["nonce"], challenge["ts"] + off_ms
        )
        client.request("connect", {**params, "device": {**proof, **(device or {})}})
        return client

    def hello(self, **changes: Any) -> dict[str, Any]:
        """Connect, and return ``auth`` of the hello."""
        answer = self.connect(**changes).inbox[-1]
        assert answer["ok"] is True, answer
        auth: dict[str, Any] = answer["payload"]["auth"]
        return auth

    def refusal(self, **changes: Any) -> dict[str, Any]:
        """Connect, and return ``error.details`` of the refusal."""
        client = self.connect(**changes)
        assert client.close is not None
        details: dict[str, Any] = client.error["details"]
        return details


def let_it_act(gateway: StandInGateway, now: float = 0.0) -> None:
    """Give the gateway the input at which it does what was scripted."""
    gateway.handle_timeout(now)


def device_at(*, remote: bool, key: int = 0, **options: Any) -> RawDevice:
    """Return a device and its gateway, which has a token."""
    return RawDevice(StandInGateway(token="t", remote=remote, **options), key)


def approved(**changes: Any) -> RawDevice:
    """Return a device that a remote gateway's owner has approved."""
    device = device_at(remote=True)
    approve(device, **changes)
    return device


def approve(device: RawDevice, **changes: Any) -> None:
    """Let a device ask with the shared secret, and approve it."""
    device.gateway.approve(device.refusal(auth=TOKEN, **changes)["requestId"])
