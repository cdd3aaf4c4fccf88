"""The real command line of the gateway: ``openclaw devices`` and ``openclaw qr``.

It runs with a home, a state folder and a device of its own, below the gateway's folder, and reads
the gateway's URL and secret from a config there. One call takes some two seconds.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import attrs
import trio

from .gateway_config import environment, write_config
from .install import node, openclaw
from .real_gateway import RealGateway


class CommandFailed(RuntimeError):
    """The command ended with another code than 0; the text is what it printed."""


@attrs.frozen
class SetupCode:
    """What ``openclaw qr`` issues: how a device gets its first tokens without the shared secret."""

    url: str
    bootstrap_token: str = attrs.field(repr=False)
    access: str
    """``full`` or ``limited``."""


class OpenClaw:
    """The command line, for one gateway."""

    def __init__(self, gateway: RealGateway) -> None:
        self._gateway = gateway

    async def devices(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is ``pending`` and what is ``paired``."""
        listed: dict[str, list[dict[str, Any]]] = await self._json("devices", "list")
        return listed

    async def approve(self, request_id: str) -> Any:
        """Approve a pairing request."""
        return await self._json("devices", "approve", request_id)

    async def reject(self, request_id: str) -> Any:
        """Reject a pairing request."""
        return await self._json("devices", "reject", request_id)

    async def rotate(self, device_id: str, role: str = "operator") -> Any:
        """Make a new device token for a role; the old one is void."""
        return await self._json("devices", "rotate", "--device", device_id, "--role", role)

    async def revoke(self, device_id: str, role: str = "operator") -> Any:
        """Make the device token of a role void."""
        return await self._json("devices", "revoke", "--device", device_id, "--role", role)

    async def remove(self, device_id: str) -> Any:
        """Unpair a device."""
        return await self._json("devices", "remove", device_id)

    async def setup_code(self, *options: str) -> SetupCode:
        """Issue a setup code; ``options`` as of ``openclaw qr``.

        This command asks no gateway: it writes into the gateway's own state folder.
        """
        gateway = self._gateway
        issued = await self._json("qr", "--url", gateway.url, *options, state=gateway.state)
        code = issued["setupCode"]
        held = json.loads(base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)))
        return SetupCode(held["url"], held["bootstrapToken"], issued["access"])

    async def _json(self, *arguments: str, state: Path | None = None) -> Any:
        """Run it and return what it printed. Raises `CommandFailed`. A cancelled one is killed."""
        gateway = self._gateway
        if state is None:
            state = self._configure()
        done = await trio.run_process(
            [node(gateway.installation), openclaw(gateway.installation), *arguments, "--json"],
            cwd=state,
            env=environment(state, gateway.installation),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if done.returncode != 0:
            text = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise CommandFailed(gateway.redacted(text))
        return json.loads(done.stdout)

    def _configure(self) -> Path:
        """Write the config of a client of the gateway, and return the state folder it is in."""
        gateway = self._gateway
        remote: dict[str, Any] = {"url": gateway.url, **gateway.auth}
        if gateway.certificate is not None:
            remote["tlsFingerprint"] = gateway.certificate.fingerprint
        state = gateway.state / "cli"
        write_config(state, {"gateway": {"mode": "remote", "remote": remote}})
        return state
