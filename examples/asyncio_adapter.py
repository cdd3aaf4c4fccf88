"""An asyncio adapter over plain streams: the driver of a `Connector` and a small API, in one class.

    python -m examples.asyncio_adapter ws://127.0.0.1:18789 [TOKEN]

connects, asks for ``health``, prints the answer and stops. ``docs/embedding.md`` explains drivers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from butter_proto import CHUNK, Connector, Device, OpenTransport, ProxyFailed, Settings
from butter_proto.client import Client, result_of
from butter_proto.events import DeviceTokenIssued, EventsMissed, GatewayEvent, Outcome
from butter_proto.faults import fault_of
from butter_proto.token_keeper import Keepable, complaint, keeper_for

Item = GatewayEvent | EventsMissed
_log = logging.getLogger(__name__)


def now() -> float:
    """Return the time, on the clock of the loop's own timers."""
    return asyncio.get_running_loop().time()


class Gateway:
    """A gateway to talk to. Made by `connect`."""

    def __init__(
        self,
        url: str,
        settings: Settings | None,
        context: ssl.SSLContext | None,
        device: Device | None,
    ) -> None:
        self.machine = Connector(
            url,
            settings,
            random=random.random,
            entropy=os.urandom,
            signer=None if device is None else device.signer,
        )
        self.keeper = keeper_for(device, self.machine)
        self._keeping = asyncio.Lock()
        self.client = Client()
        self.context = context or ssl.create_default_context()
        self.pumped = asyncio.Event()
        self._transports: dict[int, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    # --- what can be done -------------------------------------------------------------------

    async def wait_online(self) -> None:
        """Wait until online. Raises `GaveUp`, or `ConnectionEnded` once stopped."""
        while not self.client.online:
            if (failure := self.client.failure) is not None:
                raise failure
            await self.pumped.wait()

    async def request(self, method: str, params: Any = None, **options: Any) -> Any:
        """Send a request and return its payload; cancelling takes it back if it has not left.

        `Connector.request` has the options.
        """
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(outcome: Outcome) -> None:
            if not told.done():  # a cancelled future takes no result
                told.set_result(outcome)

        request_id = self.machine.request(method, params, now=now(), **options)
        self.client.expect(request_id, tell)
        self.pump()
        try:
            return result_of(await told)
        except asyncio.CancelledError:
            self.client.forget(request_id)
            self.machine.cancel(request_id, now())
            self.pump()
            raise

    def events(self, *names: str, limit: int = 1000) -> AsyncGenerator[Item, None]:
        """Subscribe to gateway events of these names (all, without names), from now on."""
        ready = asyncio.Event()
        subscription = self.client.subscribe(names, limit, ready.set)

        async def read() -> AsyncGenerator[Item, None]:
            try:
                while (item := subscription.take()) is not None or not subscription.closed:
                    if item is not None:
                        yield item
                    else:
                        ready.clear()
                        await ready.wait()
            finally:
                self.client.unsubscribe(subscription)
            if subscription.error is not None:
                raise subscription.error

        return read()

    def stop(self, *, abort: bool = False) -> None:
        """Give every request its outcome and close; ``abort``: without waiting for the peer."""
        self.machine.stop(now(), abort=abort)
        self.pump()

    # --- the driver -------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive the machine until it is finished. Cancelling this drops every transport."""
        async with asyncio.TaskGroup() as self._tasks:
            self.pump()
            while not self.machine.finished:
                try:
                    async with asyncio.timeout_at(self.machine.next_timeout()):
                        await self.pumped.wait()
                except TimeoutError:  # told a turn after the timer, so what has come is read first
                    self.handle_timeout()

    def pump(self) -> None:
        """Pull every queue of the machine; call this after each input."""
        if self._tasks is None:  # not running yet: the first pump finds everything
            return
        while (command := self.machine.next_command()) is not None:
            if isinstance(command, OpenTransport):
                self._transports[command.id] = self._tasks.create_task(self.serve(command))
            else:
                self._transports.pop(command.id).cancel()
        while (event := self.machine.next_event()) is not None:
            self.client.deliver(event)
            if isinstance(event, Keepable):
                self._tasks.create_task(self._keep(event))
        self.pumped.set()  # the writers pull the bytes, the clock looks again
        self.pumped = asyncio.Event()

    def handle_timeout(self) -> None:
        """Tell the machine what time it is."""
        self.machine.handle_timeout(now())
        self.pump()

    def fail(self, transport_id: int, error: BaseException) -> None:
        """Report a transport that could not be opened, or broke."""
        self.machine.transport_failed(transport_id, fault_of(error), now())
        self.pump()

    async def _keep(self, event: Keepable) -> None:
        """Store or forget a token of the device, one at a time; Online waits for it."""
        assert self.keeper is not None
        stored, newer = True, None
        async with self._keeping:
            try:
                newer = await asyncio.to_thread(self.keeper.keep, event)
            except Exception as error:  # noqa: BLE001 - a store may raise anything
                stored = False
                _log.warning(complaint(event, error))
        if isinstance(event, DeviceTokenIssued):
            self.machine.token_stored(event.transport_id, stored, now())
        else:
            self.machine.token_forgotten(event.transport_id, newer, now())
        self.pump()

    async def serve(self, command: OpenTransport) -> None:
        """Dial, then write, and read to the end. CloseTransport cancels this at any point."""
        if command.proxy is not None:
            self.fail(command.id, ProxyFailed("this adapter knows no proxies"))
            return
        tls: dict[str, Any] = {"ssl": self.context, "server_hostname": command.server_name}
        try:
            reader, writer = await asyncio.open_connection(
                command.host, command.port, limit=CHUNK, **(tls if command.tls else {})
            )
            try:
                tls_object = writer.get_extra_info("ssl_object")
                certificate = tls_object and tls_object.getpeercert(binary_form=True)
                self.machine.transport_opened(command.id, now(), certificate)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._write(command.id, writer))
                    await self._read(command.id, reader)
            finally:
                writer.transport.abort()
        except* Exception as error:  # noqa: BLE001 - whatever a dial or a stream raises is an input
            self.fail(command.id, error)

    async def _read(self, transport_id: int, reader: asyncio.StreamReader) -> None:
        data = b"\0"
        while data:
            self.pump()
            data = await reader.read(CHUNK)
            self.machine.receive_data(transport_id, data, now())
        self.pump()

    async def _write(self, transport_id: int, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=1)  # so that drain waits for the socket
        if hasattr(
            socket, "TCP_NOTSENT_LOWAT"
        ):  # and the socket for the line: pings cannot overtake
            opened = writer.get_extra_info("socket")
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, CHUNK)
        while True:
            while chunk := self.machine.data_to_send(transport_id):
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)  # drain may not have waited: let the others have a turn
                self.handle_timeout()  # dates the next chunk by the present
            await self.pumped.wait()


@asynccontextmanager
async def connect(
    url: str,
    settings: Settings | None = None,
    *,
    context: ssl.SSLContext | None = None,
    device: Device | None = None,
    kind: type[Gateway] = Gateway,
) -> AsyncIterator[Gateway]:
    """Keep a gateway connected for as long as the ``async with`` lasts."""
    gateway = kind(url, settings, context, device)
    keeper = gateway.keeper
    stored = None if keeper is None else await asyncio.to_thread(keeper.load)
    gateway.machine.start(now(), device_token=stored)
    running = asyncio.create_task(gateway.run())
    running.add_done_callback(lambda _: gateway.stop(abort=True))  # nobody waits in vain
    try:
        yield gateway
        gateway.stop()
    except BaseException:
        gateway.stop(abort=True)
        raise
    finally:
        await running


if __name__ == "__main__":
    from examples.command_line import run

    run("asyncio_adapter", lambda url, token: connect(url, Settings(token=token)))
