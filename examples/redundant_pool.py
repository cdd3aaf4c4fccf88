"""Sends one chat message through two gateways that serve as one, and shows how they are.

    OPENCLAW_GATEWAY_TOKEN=... python examples/redundant_pool.py ws://127.0.0.1:18789 ws://...

Rules kept here:

* The message has an idempotency key of its own, made by the client. With it the message may be
  sent again where its connection fell: to the same process of the gateway, never to another one.
* ``offline=QUEUE`` lets it wait for a connection, not longer than its deadline.
* Where nobody can know whether it was executed, that is what is printed, with the key:
  ``chat.history`` has a row with "<key>:user" where the turn began.
"""

from __future__ import annotations

import os
import sys

from butter_threads import AUTO, ButterError, Offline, Pool, RequestFailed, connect_pool


def send(pool: Pool, session: str, text: str) -> str:
    """Send one message, once, and say what became of it."""
    try:
        reply = pool.request(
            "chat.send",
            {"sessionKey": session, "message": text},
            idempotency_key=AUTO,
            replay=True,
            offline=Offline.QUEUE,
        )
    except RequestFailed as error:
        return f"{error}; its idempotency key is {error.idempotency_key}"
    return f"{reply['status']}, run {reply['runId']}"


def show(pool: Pool) -> None:
    """Print a line for each gateway."""
    for gateway in pool.health():
        role = ", primary" if gateway.primary else ""
        print(f"{gateway.name}: {gateway.state.value}{role} {gateway.advice}".rstrip())


def main(urls: list[str]) -> str | None:
    """Return what went wrong, if anything did."""
    token = os.environ.get("OPENCLAW_GATEWAY_TOKEN")
    try:
        with connect_pool(urls, token=token, timeout=20) as pool:
            print(send(pool, "main", "Hello from two gateways"))
            show(pool)
    except ButterError as error:
        return str(error)
    return None


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: redundant_pool.py URL [URL]...")
    sys.exit(main(sys.argv[1:]))
