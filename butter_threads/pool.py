"""Several gateways that serve as one, for any number of threads.

    with butter_threads.connect_pool([url, url], token=...) as pool:
        pool.request("health")

Rules kept here:

* What a `Gateway` has means the same here; only what is about one of several is added.
* Ctrl-C on a gateway's way in: it was never taken in; on its way out: it goes all the same.
"""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Unpack

from butter_proto import pool as core
from butter_proto.credentials import Credentials
from butter_proto.device_auth import SignedPayload
from butter_proto.pool import DRAIN_LIMIT
from butter_proto.pool_gateway import PoolGateway, listed, prepared
from butter_proto.request_options import RequestOptions
from butter_proto.secret import Secret
from butter_proto.settings import Settings
from butter_proto.token_keeper import TokenKeeper, pool_keeper_for, pool_keepers_for
from butter_proto.trace import Trace
from butter_proto.view import PoolView
from butter_threads.client import Gateway, left_of
from butter_threads.dial import Dial, Opener
from butter_threads.keeping import load_within
from butter_threads.streams import GatewayStream, Stream
from butter_threads.tunnel import require


class Pool(PoolView, Gateway):
    """Gateways to talk to as if they were one. Made by `connect_pool`.

    What a `Gateway` can do it can do too: its events are the primary's, and it is online while any
    gateway is.
    """

    def __init__(
        self,
        machine: core.Pool,
        settle: Callable[[PoolGateway | str], PoolGateway],
        open_peer: Opener,
        hook: Callable[[Pool], object] | None,
        keepers: dict[str | None, TokenKeeper],
    ) -> None:
        super().__init__(machine, open_peer, hook, keepers)
        self._pool = machine
        self._settle_gateway = settle
        self._keepers = keepers

    def request(
        self,
        method: str,
        params: Any = None,
        *,
        gateway: str | None = None,
        spread: bool = False,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Send a request and return its payload, as `Gateway.request`.

        It goes to the primary; to the one that ``gateway`` names and to no other; or with
        ``spread=True`` to the one that is online with the fewest in flight.
        """
        make_request = partial(
            self._pool.request, method, params, gateway=gateway, spread=spread, **options
        )
        return self._outcome(make_request, options)

    def submit(
        self,
        method: str,
        params: Any = None,
        *,
        gateway: str | None = None,
        spread: bool = False,
        **options: Unpack[RequestOptions],
    ) -> Future[Any]:
        """Send a request and return its future, as `Gateway.submit`; it goes as `request` says."""
        make_request = partial(
            self._pool.request, method, params, gateway=gateway, spread=spread, **options
        )
        return self._submitted(make_request)

    def from_gateways(self, *, timeout: float | None = None) -> GatewayStream:
        """Iterate over what each gateway tells of itself: its states, and its notices.

        What is so by now comes first. The pool as a whole is what ``states`` tells.
        """
        return Stream(self._source, timeout, self._client.watch_gateways)

    def add(self, gateway: PoolGateway | str) -> str:
        """Take one more gateway in, and return its name; it connects in the background.

        Raises `InvalidSettings`, `StoreError`, and `LocalProtocolError` once the pool is closed.
        """
        self._may_wait()
        settled = self._settle_gateway(gateway)
        keeper = pool_keeper_for(settled)
        token = None if keeper is None else load_within(keeper, None)

        def take_in(now: float) -> str:
            name = self._pool.add(settled, now, device_token=token)
            if keeper is not None:
                self._keepers[name] = keeper
            return name

        return self._call(take_in)

    def remove(self, name: str, *, drain: float = DRAIN_LIMIT) -> None:
        """Let a gateway go, and wait until it is gone: it gets no more requests.

        Its connection ends when all that it has is answered, at the latest after ``drain`` seconds.
        Its name is free then. Raises `InvalidParams` for an unknown name, or a drain under 0. Where
        Ctrl-C comes, it goes all the same.
        """
        self._may_wait()
        self._call(lambda now: self._pool.remove(name, now, drain=drain))
        with self._lock:
            self._changed.wait_for(lambda: not self._is_leaving(name))

    def probe(self, *, gateway: str | None = None) -> None:
        """Ask all gateways at once, or one, whether they are there."""
        self._call(partial(self._pool.probe, gateway=gateway))

    def use_credentials(
        self,
        *,
        token: str | Secret | None = None,
        password: str | Secret | None = None,
        bootstrap_token: str | Secret | None = None,
        gateway: str | None = None,
    ) -> None:
        """Connect all gateways, or one, with these from the next attempt on.

        As `Gateway.use_credentials`.
        """
        credentials = Credentials(token, password, bootstrap_token)
        self._call(partial(self._pool.use_credentials, credentials, gateway=gateway))

    def reconnect_now(
        self, *, signed: SignedPayload = SignedPayload.V3, gateway: str | None = None
    ) -> None:
        """End the backoff of all gateways, or of one; as `Gateway.reconnect_now`."""
        self._call(partial(self._pool.reconnect_now, signed=signed, gateway=gateway))


def connect_pool(
    gateways: Iterable[PoolGateway | str],
    *,
    token: str | Secret | None = None,
    timeout: float | None = 60.0,
    wait: bool = True,
    settings: Settings | None = None,
    shared_state: bool = False,
    on_online: Callable[[Pool], object] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial | None = None,
    trust_env: bool = False,
    trace: Trace | None = None,
) -> Pool:
    """Keep several gateways connected, or one several times, until closed: best in a ``with``.

    ``gateways`` are URLs or `PoolGateway`, the best one first. Returns when one of them is online
    and the first ``on_online`` has run; with ``wait=False`` at once. ``token`` and ``settings``
    hold for those that bring none of their own, the limits of ``settings`` for the pool as a whole.
    ``on_online(pool)`` is called after each Online of the pool: also when another gateway takes
    over, and again where that came while it ran. ``shared_state`` says that the gateways share what
    they know of idempotency keys (docs/pool.md). The other arguments, and what is raised, are those
    of `connect`; `GaveUp` is raised where no gateway may be tried again.
    """
    environ = os.environ if trust_env else None
    opener = Opener(dial, ssl_context)

    def settle(gateway: PoolGateway | str) -> PoolGateway:
        settled = prepared(gateway, settings, token, environ)
        assert settled.settings is not None
        if dial is None:
            require(settled.proxy)
        opener.serve(settled.settings)
        return settled

    settled = [settle(gateway) for gateway in listed(gateways)]
    machine = core.Pool(
        settled,
        settings,
        random=random.random,
        entropy=os.urandom,
        shared_state=shared_state,
        hold_queue=on_online is not None,
        trace=trace,
    )
    begun = time.monotonic()
    keepers = pool_keepers_for(settled, machine)
    tokens = {name: load_within(keeper, left_of(timeout, begun)) for name, keeper in keepers}
    pool = Pool(machine, settle, opener, on_online, dict(keepers))
    pool._start(lambda now: machine.start(now, device_tokens=tokens))  # noqa: SLF001 - one idea
    return pool._ready(left_of(timeout, begun) if keepers else timeout, wait=wait)  # noqa: SLF001
