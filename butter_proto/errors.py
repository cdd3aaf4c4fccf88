"""What can go wrong: one tree of exceptions, and one value for the end of a connection.

Rules kept here:

* ``LocalProtocolError`` is raised only by the application's own inputs, and then nothing changed.
* What the peer or the network did is never raised by the core. It is one `Ending`, told in the
  event stream; adapters raise `ConnectionEnded` with that value.
* Nothing here shows a secret, params, a payload or a response body in a repr (design.md, G11).
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import attrs

MAX_REFUSAL_BODY: Final = 2 * 1024
"""How much of a refused upgrade's body is kept, in bytes."""


class Delivery(Enum):
    """What is known about a request that did not get its result."""

    NOT_SENT = "not sent"
    """No byte of it was handed out: the gateway cannot have seen it."""
    MAY_HAVE_EXECUTED = "may have executed"
    """At least one byte was handed out and no answer came."""
    REFUSED = "refused"
    """The gateway answered with an error."""


class FaultKind(Enum):
    """What kind of trouble a driver met outside the protocol."""

    DNS = "name not resolved"
    REFUSED = "connection refused"
    UNREACHABLE = "host or network unreachable"
    RESET = "connection reset"
    PROXY = "proxy failed"
    PROXY_REFUSED = "proxy refused"
    CERTIFICATE = "certificate not accepted"
    LOCAL = "local resource failed"
    OTHER = "transport failed"


@attrs.frozen
class TransportFault:
    """A driver's report of a transport that could not be opened or broke."""

    kind: FaultKind
    text: str = ""


class EndKind(Enum):
    """Why a connection is over. Exactly one per connection."""

    TRANSPORT_FAILED = "the transport failed"
    """The driver could not open the transport, or it broke; ``fault`` says how."""
    OPEN_TIMEOUT = "no WebSocket in time"
    """Dial, proxy, TLS and the upgrade together took longer than ``timeouts.open``."""
    UPGRADE_REFUSED = "the upgrade was refused"
    """An HTTP answer other than 101; ``http_status``, ``http_body``, ``retry_after`` say more."""
    NOT_WEBSOCKET = "the peer is no WebSocket server"
    """The answer to the upgrade was no HTTP, or an invalid 101."""
    CHALLENGE_TIMEOUT = "no challenge in time"
    """No ``connect.challenge`` within ``timeouts.challenge`` of the upgrade."""
    CHALLENGE_INVALID = "the challenge was invalid"
    """``connect.challenge`` lacked what the connect request needs."""
    SIGNER_FAILED = "the device's signer failed"
    """It raised, or returned no signature; nothing was sent."""
    PIN_MISMATCH = "the certificate is not a pinned one"
    """The peer's certificate matches no pin; not a byte of HTTP was sent."""
    HELLO_TIMEOUT = "no hello in time"
    """The connect request was not answered within ``timeouts.hello``."""
    HELLO_INVALID = "the hello was invalid"
    """The gateway accepted the connect request with an answer that cannot be used."""
    CONNECT_REFUSED = "the gateway refused to connect"
    """The connect request was answered with an error; ``error`` has it."""
    CLOSED_BY_PEER = "the gateway closed the connection"
    """A Close frame came; ``close_code`` and ``close_reason`` have it."""
    END_OF_STREAM = "the stream ended"
    """The transport ended without a Close frame (others call this 1006)."""
    SILENT_PEER = "the gateway went silent"
    """Nothing came back for as long as the keepalive settings allow."""
    PROTOCOL_VIOLATION = "the peer broke the WebSocket protocol"
    """A framing error, bad UTF-8 or a message that is no gateway frame."""
    LIMIT_EXCEEDED = "the peer exceeded a limit"
    """A response head, a message or a number of fragments above ``limits``."""
    STOPPED = "stopped here"
    """The application called ``stop``."""


@attrs.frozen
class GatewayError:
    """The error object of a gateway's answer, parsed leniently.

    ``retry_after`` is in seconds, or None where the gateway gave no usable hint.
    ``details`` may be any JSON; known secrets in it are already replaced by ``***``.
    """

    code: str
    message: str
    details: Any = attrs.field(default=None, repr=False)
    retryable: bool | None = None
    retry_after: float | None = None

    @property
    def detail_code(self) -> str | None:
        """``details.code``: with ``detail_reason`` the key of every decision (wire.md 5)."""
        return self._detail("code")

    @property
    def detail_reason(self) -> str | None:
        """``details.reason``."""
        return self._detail("reason")

    def detail(self, name: str) -> Any:
        """Return ``details[name]``, or None where details is no object or lacks it."""
        return self.details.get(name) if isinstance(self.details, dict) else None

    def _detail(self, name: str) -> str | None:
        value = self.detail(name)
        return value if isinstance(value, str) and value else None

    def __str__(self) -> str:
        key = self.detail_code or self.detail_reason
        return f"{self.code}{f'/{key}' if key else ''}: {self.message}"


@attrs.frozen
class Ending:
    """Why one connection is over, as one value.

    ``retry_after`` is the peer's hint in seconds, counted from the ending. ``transport_opened``
    says whether the transport was ever open, ``online`` whether hello had been accepted.
    """

    kind: EndKind
    text: str = ""
    error: GatewayError | None = None
    fault: TransportFault | None = None
    close_code: int | None = None
    close_reason: str = ""
    http_status: int | None = None
    http_body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    retry_after: float | None = None
    transport_opened: bool = False
    online: bool = False

    def __str__(self) -> str:
        parts = [self.kind.value]
        if self.http_status is not None:
            parts.append(f"HTTP {self.http_status}")
        if self.error is not None:
            parts.append(str(self.error))
        if self.fault is not None:
            known = self.fault.kind is not FaultKind.OTHER  # else the ending has said it
            parts += [*([self.fault.kind.value] if known else ()), self.fault.text]
        if self.close_code is not None:
            parts.append(f"close {self.close_code} {self.close_reason!r}")
        if self.text:
            parts.append(self.text)
        return ": ".join(part for part in parts if part)


class ButterError(Exception):
    """The root of everything openbutter raises on purpose. All of it survives pickling."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ButterError], args: tuple[Any, ...], state: dict[str, Any]) -> ButterError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class LocalProtocolError(ButterError):
    """The application asked for something that cannot be done; nothing was changed."""


class InvalidSettings(LocalProtocolError, ValueError):
    """A setting, a URL or an identity that cannot work."""


class NotOnline(LocalProtocolError):
    """A request was made while no connection is online."""


class PendingFull(LocalProtocolError):
    """Too many requests are pending; the text names the limit."""


class MessageTooLarge(LocalProtocolError):
    """The request is larger than the gateway's ``policy.maxPayload``; it never left."""


class InvalidParams(LocalProtocolError):
    """The method or its params cannot be written as JSON."""


class StoreError(ButterError):
    """A device's key or tokens cannot be read or kept; what is there was left as it is."""


class RequestFailed(ButterError):
    """A request that was accepted has no result; the subclasses say how much is known."""

    def __init__(
        self,
        method: str,
        request_id: str,
        delivery: Delivery,
        *,
        idempotency_key: str | None = None,
        error: GatewayError | None = None,
        payload: Any = None,
        text: str = "",
    ) -> None:
        self.method = method
        self.id = request_id
        self.delivery = delivery
        self.idempotency_key = idempotency_key
        self.error = error
        self.payload = payload
        why = str(error) if error is not None else text
        super().__init__(f"{method} ({request_id}) {delivery.value}{f': {why}' if why else ''}")


class RequestNotSent(RequestFailed):
    """No byte of the request left: it is safe to send it again."""


class RequestMayHaveExecuted(RequestFailed):
    """The request left and no answer came: it may have been executed, or not."""


class RequestRefused(RequestFailed):
    """The gateway answered with an error; ``error`` has it."""


class RequestTimeout(RequestFailed):
    """The request's deadline passed; ``delivery`` says whether it had left."""


class ConnectionEnded(ButterError):
    """There is no connection, and ``ending`` says why (None: none was ever tried)."""

    def __init__(self, text: str, ending: Ending | None = None) -> None:
        self.ending = ending
        super().__init__(text)


class GaveUp(ConnectionEnded):
    """The connector must not try again by itself; ``advice`` says what to do."""

    def __init__(self, ending: Ending, advice: str) -> None:
        self.advice = advice
        super().__init__(f"{ending}. {advice}", ending)


class ConnectTimeout(ConnectionEnded):
    """The gateway was not online in time; ``ending`` is the last attempt's, if one ended."""
