"""The thread that runs the ``on_online`` hook.

Rules kept here:

* The hook is run once per Online, and again where another Online came meanwhile: of a gateway that
  came back, or of another one of a pool that took over.
* It runs without the lock and may wait; what waited for the connection waits for it.
* What it raises is logged and counts as done, unless a drop came meanwhile: then that is why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from butter_proto.client import Client

_log = logging.getLogger("butter_threads")


class HookThread:
    """Runs the hook of one gateway.

    ``changed`` is told of every change of its state. ``resynced(transport_id)`` is called under its
    lock after the hook has run.
    """

    def __init__(
        self,
        hook: Callable[[], object],
        client: Client,
        changed: threading.Condition,
        resynced: Callable[[int], object],
        name: str,
    ) -> None:
        self._hook = hook
        self._client = client
        self._changed = changed
        self._resynced = resynced
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; it ends once the gateway has stopped."""
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """True in the thread that runs the hook."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        client = self._client
        while True:
            with self._changed:
                self._changed.wait_for(lambda: client.stopped or client.hook_is_due)
                if client.stopped:
                    return
                generation = client.generation
            try:
                self._hook()
            except BaseException:  # noqa: BLE001 - a hook may raise anything
                if client.is_still(generation):  # else a drop is why
                    _log.exception("the on_online hook raised; it counts as done")
            with self._changed:
                transport_id = client.hook_has_run(generation)
                if transport_id is not None:
                    self._resynced(transport_id)
                    self._changed.notify_all()
