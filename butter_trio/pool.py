"""Several gateways that serve as one, on trio.

    async with butter_trio.connect_pool([url, url], token=...) as pool:
        await pool.request("health")

Rules kept here:

* What a `Gateway` has means the same here; only what is about one of several is added.
* A gateway that is cancelled on its way in was never taken in; on its way out it goes all the same.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Unpack

import trio

from butter_proto import pool as core
from butter_proto.client import result_of
from butter_proto.credentials import Credentials
from butter_proto.device import DeviceToken
from butter_proto.device_auth import SignedPayload
from butter_proto.pool import DRAIN_LIMIT
from butter_proto.pool_gateway import PoolGateway, listed, prepared
from butter_proto.request_options import RequestOptions
from butter_proto.secret import Secret
from butter_proto.settings import Settings
from butter_proto.token_keeper import TokenKeeper, pool_keeper_for, pool_keepers_for
from butter_proto.trace import Trace
from butter_proto.view import PoolView
from butter_trio.client import Gateway, left_of, running
from butter_trio.dial import Dial, dial_tcp
from butter_trio.keeping import load_within
from butter_trio.streams import GatewayStream
from butter_trio.tunnel import require


class Pool(PoolView, Gateway):
    """Gateways to talk to as if they were one. Made by `connect_pool`.

    What a `Gateway` can do it can do too: its events are the primary's, and it is online while any
    gateway is.
    """

    def __init__(
        self,
        machine: core.Pool,
        settle: Callable[[PoolGateway | str], PoolGateway],
        dial: Dial,
        context: ssl.SSLContext | None,
        hook: Callable[[Pool], Awaitable[None]] | None,
        keepers: dict[str | None, TokenKeeper],
    ) -> None:
        super().__init__(machine, dial, context, hook, keepers)
        self._pool = machine
        self._settle_gateway = settle
        self._keepers = keepers

    @trio.lowlevel.enable_ki_protection
    async def request(
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
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_in_hook(options)
        request_id = self._pool.request(
            method, params, now=trio.current_time(), gateway=gateway, spread=spread, **options
        )
        return result_of(await trio.lowlevel.wait_task_rescheduled(self._expect(request_id)))

    def from_gateways(self) -> GatewayStream:
        """Iterate over what each gateway tells of itself: its states, and its notices.

        What is so by now comes first. The pool as a whole is what ``states`` tells.
        """
        return GatewayStream(self._client)

    async def add(self, gateway: PoolGateway | str) -> str:
        """Take one more gateway in, and return its name; it connects in the background.

        Raises `InvalidSettings`, `StoreError`, and `LocalProtocolError` once the pool is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        settled = self._settle_gateway(gateway)
        keeper = pool_keeper_for(settled)
        token = None if keeper is None else await load_within(keeper, None)
        return self._take_in(settled, keeper, token)

    async def remove(self, name: str, *, drain: float = DRAIN_LIMIT) -> None:
        """Let a gateway go, and wait until it is gone: it gets no more requests.

        Its connection ends when all that it has is answered, at the latest after ``drain`` seconds.
        Its name is free then. Raises `InvalidParams` for an unknown name, or a drain under 0. Where
        this is cancelled, it goes all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._let_go(name, drain)
        while self._is_leaving(name):
            await self._changed.park()

    @trio.lowlevel.enable_ki_protection
    def probe(self, *, gateway: str | None = None) -> None:
        """Ask all gateways at once, or one, whether they are there."""
        self._pool.probe(trio.current_time(), gateway=gateway)
        self._driver.pump()

    @trio.lowlevel.enable_ki_protection
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
        self._pool.use_credentials(credentials, trio.current_time(), gateway=gateway)
        self._driver.pump()

    @trio.lowlevel.enable_ki_protection
    def reconnect_now(
        self, *, signed: SignedPayload = SignedPayload.V3, gateway: str | None = None
    ) -> None:
        """End the backoff of all gateways, or of one; as `Gateway.reconnect_now`."""
        self._pool.reconnect_now(trio.current_time(), signed, gateway=gateway)
        self._driver.pump()

    # --- inside -----------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def _take_in(
        self, gateway: PoolGateway, keeper: TokenKeeper | None, token: DeviceToken | None
    ) -> str:
        name = self._pool.add(gateway, trio.current_time(), device_token=token)
        if keeper is not None:
            self._keepers[name] = keeper
        self._driver.pump()
        return name

    @trio.lowlevel.enable_ki_protection
    def _let_go(self, name: str, drain: float) -> None:
        self._pool.remove(name, trio.current_time(), drain=drain)
        self._driver.pump()


@asynccontextmanager
async def connect_pool(
    gateways: Iterable[PoolGateway | str],
    *,
    token: str | Secret | None = None,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - it tells the last ending
    wait: bool = True,
    settings: Settings | None = None,
    shared_state: bool = False,
    on_online: Callable[[Pool], Awaitable[None]] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial = dial_tcp,
    trust_env: bool = False,
    trace: Trace | None = None,
) -> AsyncIterator[Pool]:
    """Keep several gateways connected, or one several times, for as long as the block lasts.

    ``gateways`` are URLs or `PoolGateway`, the best one first. Returns when one of them is online
    and the first ``on_online`` has run; with ``wait=False`` at once. ``token`` and ``settings``
    hold for those that bring none of their own, the limits of ``settings`` for the pool as a whole.
    ``on_online(pool)`` is awaited after each Online of the pool: also when another gateway takes
    over, which cancels a run that is not over yet. ``shared_state`` says that the gateways share
    what they know of idempotency keys (docs/pool.md). The other arguments, and what is raised, are
    those of `connect`; `GaveUp` is raised where no gateway may be tried again.
    """
    environ = os.environ if trust_env else None

    def settle(gateway: PoolGateway | str) -> PoolGateway:
        settled = prepared(gateway, settings, token, environ)
        if dial is dial_tcp:
            require(settled.proxy)
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
    begun = trio.current_time()
    keepers = pool_keepers_for(settled, machine)
    tokens = {name: await load_within(keeper, left_of(timeout, begun)) for name, keeper in keepers}
    pool = Pool(machine, settle, dial, ssl_context, on_online, dict(keepers))
    machine.start(trio.current_time(), device_tokens=tokens)
    async with running(pool, left_of(timeout, begun) if keepers else timeout, wait=wait):
        yield pool
