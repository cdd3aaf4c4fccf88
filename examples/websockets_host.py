"""The same core over the ``websockets`` package: its host speaks WebSocket, the machine messages.

    python -m examples.websockets_host ws://127.0.0.1:18789 [TOKEN]

connects, asks for ``health``, prints the answer and stops (``pip install websockets`` first). Only
the half that touches a transport differs from ``asyncio_adapter.py``; all above it is the same.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed

from butter_proto import Framing, KeepaliveSettings, Limits, OpenTransport, Probe, Settings
from butter_proto.machine import Close, Ping, Text
from examples.asyncio_adapter import Gateway, connect, now
from examples.command_line import run

PINGING: Final = KeepaliveSettings(probe=Probe.PING)
"""This host can ping and tell of pongs. For one that cannot (a browser) leave it out: the machine
then asks with ``health`` requests."""
LARGEST: Final = Limits().max_message
"""Bytes of a message; the machine holds its own limit besides."""


class OpenWebSocket(websockets_connect):
    """Opens a WebSocket where it was asked to, and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirect: the token would go wherever it leads."""
        return exc


class WebSocketGateway(Gateway):
    """The same over WebSockets; its settings say ``framing=Framing.MESSAGES``."""

    async def serve(self, command: OpenTransport) -> None:
        """Open a WebSocket, send and receive. CloseTransport cancels this at any point."""
        try:
            websocket = await OpenWebSocket(
                command.url,
                ssl=self.context if command.tls else None,
                proxy=None,
                compression=None,  # the gateway has none
                max_size=LARGEST,
                write_limit=1,  # so that send waits for the socket
                open_timeout=None,  # the machine has the limits and the keepalive
                ping_interval=None,
            )
        except Exception as error:  # noqa: BLE001 - whatever opening raises is an input
            self.fail(command.id, error)
            return
        try:
            tls_object = websocket.transport.get_extra_info("ssl_object")
            certificate = tls_object and tls_object.getpeercert(binary_form=True)
            self.machine.transport_opened(command.id, now(), certificate)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._send(command.id, websocket))
                await self._receive(command.id, websocket)
        finally:
            websocket.transport.abort()

    async def _receive(self, transport_id: int, websocket: ClientConnection) -> None:
        self.pump()
        try:
            while True:
                message = await websocket.recv()
                self.machine.receive_message(transport_id, message, now())
                self.pump()
        except ConnectionClosed as closed:
            if isinstance(closed.__cause__, OSError):
                self.fail(transport_id, closed.__cause__)
            code, reason = websocket.close_code, websocket.close_reason or ""
            self.machine.transport_closed(transport_id, code, reason, now())
            self.pump()

    async def _send(self, transport_id: int, websocket: ClientConnection) -> None:
        while True:
            while (message := self.machine.next_message(transport_id)) is not None:
                try:
                    match message:
                        case Text(text):
                            await websocket.send(text)
                        case Ping(payload):
                            pong = await websocket.ping(payload)
                            tell = partial(self._tell_pong, transport_id, payload)
                            asyncio.ensure_future(pong).add_done_callback(tell)
                        case Close(code, reason):
                            await websocket.close(code, reason)
                except ConnectionClosed:  # the receiver learns it too, and reports it
                    return
                await asyncio.sleep(0)  # send may not have waited: let the others have a turn
                self.handle_timeout()  # dates the next message by the present
            await self.pumped.wait()

    def _tell_pong(self, transport_id: int, payload: bytes, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            self.machine.receive_pong(transport_id, payload, now())
            self.pump()


def over_websockets(url: str, token: str | None) -> AbstractAsyncContextManager[Gateway]:
    """Keep a gateway connected over a WebSocket of the host's."""
    settings = Settings(token=token, framing=Framing.MESSAGES, keepalive=PINGING)
    return connect(url, settings, kind=WebSocketGateway)


if __name__ == "__main__":
    run("websockets_host", over_websockets)
