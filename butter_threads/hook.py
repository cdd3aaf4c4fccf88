"""The thread that runs the ``on_online`` hook.

Rules kept here:

* The hook is run once per Online, and again where another Online came meanwhile.
* It runs without the lock and may wait. What it raises is logged and counts as done, unless a drop
  came meanwhile: then that is why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from butter_proto.client import Client

_log = logging.getLogger("butter_threads")


class HookThread:
    """Runs the hook of one gateway. ``changed`` is told of every change of its state."""

    def __init__(
        self, hook: Callable[[], object], client: Client, changed: threading.Condition, name: str
    ) -> None:
        self._hook = hook
        self._client = client
        self._changed = changed
        self._done = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def done(self) -> bool:
        """True once it was run for the present Online. Ask under the lock."""
        return self._done == self._client.generation

    def start(self) -> None:
        """Begin; it ends once the gateway has stopped."""
        self._thread.start()

    def _run(self) -> None:
        client = self._client
        while True:
            with self._changed:
                self._changed.wait_for(lambda: client.stopped or (client.online and not self.done))
                if client.stopped:
                    return
                generation = client.generation
            try:
                self._hook()
            except BaseException:  # noqa: BLE001 - a hook may raise anything
                if client.generation == generation and client.online:
                    _log.exception("the on_online hook raised; it counts as done")
            with self._changed:
                if client.online and client.generation == generation:
                    self._done = generation
                    self._changed.notify_all()
