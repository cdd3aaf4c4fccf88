"""How a command gets to a gateway, as one value: who connects, with what, and by which way."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

from butter_proto.connector_factory import ConnectorFactory
from butter_proto.device import Device
from butter_proto.errors import LocalProtocolError
from butter_proto.pool_gateway import PoolGateway
from butter_proto.settings import Settings
from butter_trio.client import Gateway, connect
from butter_trio.dial import Dial, dial_tcp
from butter_trio.pool import Pool, connect_pool


@attrs.frozen
class Access:
    """Everything that `connect` takes besides the URL. Made of a command's options."""

    settings: Settings = attrs.field(factory=Settings, repr=False)
    device: Device | None = None
    """Who signs; None: no device."""
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    """In place of the platform's trust."""
    trust_env: bool = False
    """Whether the environment may name a proxy."""
    url: str | None = attrs.field(default=None, repr=False)
    """Where the setup code leads to, if one was given that says it."""

    recorder: ConnectorFactory | None = None
    """Who records; None: nobody."""

    def connect(
        self,
        url: str,
        *,
        wait: bool = True,
        timeout: float | None = 60.0,
        dial: Dial = dial_tcp,
    ) -> AbstractAsyncContextManager[Gateway]:
        """Connect as `butter_trio.connect` does; it raises what that raises."""
        return connect(
            url,
            wait=wait,
            timeout=timeout,
            settings=self.settings,
            device=self.device,
            ssl_context=self.ssl_context,
            dial=dial,
            trust_env=self.trust_env,
            recorder=self.recorder,
        )

    def connect_pool(
        self,
        urls: Sequence[str],
        *,
        wait: bool = True,
        timeout: float | None = 60.0,
        dial: Dial = dial_tcp,
    ) -> AbstractAsyncContextManager[Pool]:
        """Connect to several gateways as `butter_trio.connect_pool` does; the device is for all.

        Raises `LocalProtocolError` with a ``recorder``: no pool is recorded.
        """
        if self.recorder is not None:
            raise LocalProtocolError("a recorder is for one gateway, not for a pool")
        return connect_pool(
            [PoolGateway(url, device=self.device) for url in urls],
            wait=wait,
            timeout=timeout,
            settings=self.settings,
            ssl_context=self.ssl_context,
            dial=dial,
            trust_env=self.trust_env,
        )
