"""From a call to a request that may be accepted, or to the error that says why not.

Rules kept here:

* ``make`` changes nothing, so that a refused call leaves the machine as it was (G2); ``accept``
  takes what it made.
* Ids and idempotency keys may be looked at before they are taken, and are taken once.
* The caller's params are never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from butter_proto import frames
from butter_proto.codec import codec_for
from butter_proto.errors import InvalidParams, PendingFull
from butter_proto.event_queue import EventStore
from butter_proto.pending import PendingRequest
from butter_proto.request_options import Auto, Offline
from butter_proto.settings import DEFAULT, MONTH, Default, Settings

_KEY_BYTES: Final = 16


class Draws:
    """Values that are drawn one by one; the next one may be looked at before it is taken."""

    __slots__ = ("_draw", "_next")

    def __init__(self, draw: Callable[[], str]) -> None:
        self._draw = draw
        self._next: str | None = None

    def look(self) -> str:
        """Return the value that is taken next."""
        if self._next is None:
            self._next = self._draw()
        return self._next

    def take(self) -> str:
        """Return a value that no other call returns."""
        taken = self.look()
        self._next = None
        return taken

    def use(self, value: str | None) -> None:
        """Take the value that was looked at, if this is it."""
        if value == self._next:
            self._next = None


class Intake:
    """Makes the requests of one connector, or of a pool."""

    def __init__(
        self, settings: Settings, ids: Draws, entropy: Callable[[int], bytes], store: EventStore
    ) -> None:
        self._settings = settings
        self._codec = codec_for(settings.json)
        self._ids = ids
        self._keys = Draws(lambda: entropy(_KEY_BYTES).hex())
        self._store = store
        self._accepted = 0

    def make(
        self,
        method: str,
        params: Any,
        now: float,
        pending_bytes: int,
        *,
        timeout: float | Default | None = DEFAULT,
        final: bool = False,
        offline: Offline = Offline.FAIL,
        replay: bool = False,
        retry_unavailable: bool = False,
        idempotency_key: str | Auto | None = None,
        gateway: str | None = None,
    ) -> PendingRequest:
        """Return the request that a call asks for; `RequestOptions` says what it may say.

        ``pending_bytes`` is the size of those that are pending. Raises `InvalidParams` and
        `PendingFull`.
        """
        seconds: float | None
        if isinstance(timeout, Default):
            seconds = self._settings.timeouts.request
        elif timeout is None or _is_duration(timeout):
            seconds = timeout
        else:
            raise InvalidParams(f"timeout must be over 0 and at most {MONTH:.0f} seconds, or None")
        if not isinstance(offline, Offline):
            raise InvalidParams("offline must be Offline.FAIL or Offline.QUEUE")
        limits = self._settings.limits
        if self._store.pending >= limits.max_pending:
            raise PendingFull(f"{limits.max_pending} requests are pending (max_pending)")
        if idempotency_key is None:
            key = _key_in(params)
        else:
            params = _as_object(params)
            key = params[frames.IDEMPOTENCY_KEY] = self._key(params, idempotency_key)
        if replay and key is None:
            raise InvalidParams("replay needs an idempotency key: its own, or AUTO")
        request_id = self._ids.look()
        payload = frames.encode_request(
            request_id, method, params, json_rpc=self._settings.json_rpc, codec=self._codec
        )
        if pending_bytes + len(payload) > limits.max_pending_bytes:
            raise PendingFull(
                f"over {limits.max_pending_bytes} bytes are pending (max_pending_bytes)"
            )
        return PendingRequest(
            request_id,
            method,
            payload,
            key,
            None if seconds is None else now + seconds,
            final,
            offline is Offline.QUEUE,
            replay,
            retry_unavailable,
            gateway,
        )

    def accept(self, request: PendingRequest) -> None:
        """Take note that a request was accepted: from here on it has one outcome."""
        self._ids.take()
        self._keys.use(request.idempotency_key)
        self._store.pending += 1
        self._accepted += 1
        request.order = self._accepted

    def _key(self, params: dict[str, Any], wanted: str | Auto) -> str:
        """Return the idempotency key that params get, which may have one already."""
        own = params.get(frames.IDEMPOTENCY_KEY)
        if isinstance(wanted, Auto):
            wanted = self._keys.look() if own is None else own
        key = frames.text_or_none(wanted)
        if key is None:
            raise InvalidParams("an idempotency key is a non-empty str, or AUTO")
        if own is not None and frames.text_or_none(own) != key:
            raise InvalidParams("the params carry another idempotency key")
        return key


def _as_object(params: Any) -> dict[str, Any]:
    """Return a copy of params that can carry a key."""
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise InvalidParams("only params that are an object can carry an idempotency key")
    return dict.copy(params)


def _key_in(params: Any) -> str | None:
    """Return the idempotency key that params carry."""
    if not isinstance(params, dict):
        return None
    key = dict.get(params, frames.IDEMPOTENCY_KEY)
    return None if key is None else frames.text_or_none(key)


def _is_duration(seconds: object) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 < seconds <= MONTH
