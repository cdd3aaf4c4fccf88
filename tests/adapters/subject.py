"""What the scenarios know of an adapter: a blocking form that each one is brought into.

Rules kept here:

* A scenario is an ordinary function that calls nothing but this and the stand-in, so that it is
  written once and runs over every adapter.
* Nothing is mocked and nothing is repaired on the way: a subject only carries calls into the
  adapter's own world (a thread with its event loop) and brings results and exceptions back.
* Whoever waits, waits `PATIENCE` at most.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, Unpack

from butter_proto.backlog import QueuedRequest
from butter_proto.device import Device
from butter_proto.device_auth import SignedPayload
from butter_proto.endpoint import Endpoint
from butter_proto.errors import Ending
from butter_proto.events import Hello
from butter_proto.machine import State, Stats
from butter_proto.pool_gateway import GatewayHealth, PoolGateway
from butter_proto.request_options import PoolOptions
from butter_proto.settings import DEFAULT, Default, Settings

PATIENCE: Final = 20.0
"""Seconds after which what was waited for counts as never coming."""


class Ended(Exception):
    """A stream has come to its end."""


class Stream(Protocol):
    """Events, states or notices, one at a time."""

    def get(self) -> Any:
        """Wait for the next one. Raises `Ended`, TimeoutError, or what the adapter raises."""

    def close(self) -> None:
        """Unsubscribe."""


class Client(Protocol):
    """A connection that an adapter keeps."""

    def request(
        self,
        method: str,
        params: Any = None,
        *,
        timeout: float | Default | None = DEFAULT,
        final: bool = False,
    ) -> Any:
        """Make a request and wait for its payload."""

    def submit(
        self,
        method: str,
        params: Any = None,
        *,
        timeout: float | Default | None = DEFAULT,
        final: bool = False,
    ) -> Future[Any]:
        """Begin a request; cancelling the future cancels it in the adapter."""

    def events(self, *names: str, limit: int = 1000) -> Stream:
        """Subscribe to gateway events."""

    def states(self) -> Stream:
        """Watch the state events, the present one first."""

    def wait_online(self, timeout: float | None = PATIENCE) -> object:
        """Wait until the gateway is online."""

    @property
    def state(self) -> State: ...

    @property
    def stats(self) -> Stats: ...

    @property
    def last_ending(self) -> Ending | None: ...


class FullClient(Client, Protocol):
    """What the two adapters have that are packages; the examples leave part of it out."""

    def request(self, method: str, params: Any = None, **options: Unpack[PoolOptions]) -> Any:
        """Make a request and wait for its payload."""

    def submit(
        self, method: str, params: Any = None, **options: Unpack[PoolOptions]
    ) -> Future[Any]:
        """Begin a request; cancelling the future cancels it in the adapter."""

    def queued(self) -> tuple[QueuedRequest, ...]:
        """Return what waits for a connection."""

    def notices(self) -> Stream:
        """Listen to the notices."""

    def probe(self) -> None:
        """Ask at once whether the gateway is there."""

    def reconnect_now(self, *, signed: SignedPayload = SignedPayload.V3) -> None:
        """End a backoff, or try again after `GaveUp`."""

    def use_credentials(
        self,
        *,
        token: str | None = None,
        password: str | None = None,
        bootstrap_token: str | None = None,
    ) -> None:
        """Connect with these from the next attempt on."""

    @property
    def hello(self) -> Hello: ...

    @property
    def retry_at(self) -> float | None: ...

    @property
    def endpoint(self) -> Endpoint: ...


class PoolClient(FullClient, Protocol):
    """Several gateways that serve as one."""

    def from_gateways(self) -> Stream:
        """Watch what each gateway tells of itself."""

    def add(self, gateway: PoolGateway | str) -> str:
        """Take one more gateway in."""

    def remove(self, name: str, *, drain: float = 30.0) -> None:
        """Let a gateway go, and wait until it is gone."""

    def health(self) -> tuple[GatewayHealth, ...]:
        """Tell how each gateway is."""

    @property
    def primary(self) -> str | None: ...


class Subject(Protocol):
    """An adapter, with the world that it runs in; its logger has its name."""

    logger: str

    def connect(
        self,
        url: str,
        *,
        token: str | None = None,
        settings: Settings | None = None,
        wait: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        device: Device | None = None,
    ) -> AbstractContextManager[Client]:
        """Keep a gateway connected for as long as the ``with`` lasts."""


class FullSubject(Protocol):
    """An adapter that is a package; its logger has the same name."""

    logger: str

    def connect(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float | None = PATIENCE,
        settings: Settings | None = None,
        wait: bool = True,
        on_online: Callable[[FullClient], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = False,
        device: Device | None = None,
    ) -> AbstractContextManager[FullClient]:
        """Keep a gateway connected; ``on_online`` may block."""

    def connect_pool(
        self,
        gateways: Iterable[PoolGateway | str],
        *,
        token: str | None = None,
        timeout: float | None = PATIENCE,
        settings: Settings | None = None,
        wait: bool = True,
        shared_state: bool = False,
        on_online: Callable[[PoolClient], None] | None = None,
    ) -> AbstractContextManager[PoolClient]:
        """Keep several gateways connected; ``on_online`` may block."""
