"""What an ending means: try again, wait, repair, or stop and say why.

Rules kept here:

* `decide` is pure. Its table is `ROWS`, read from top to bottom: the first row that matches
  counts. ``docs/reconnect.md`` is generated from it.
* The key of a refusal is ``details.code`` or ``details.reason``, not ``error.code``, which is
  nearly always INVALID_REQUEST (wire.md 5).
* A close without an error frame is retried whatever its code: the answer to the next connect
  decides. Its reason only chooses the words.
* A hint is a floor, never shortened; the backoff comes on top of it, with full jitter, so that a
  restart of the gateway meets no herd.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs

from butter_proto.errors import Ending, EndKind, FaultKind
from butter_proto.identity import BACKEND
from butter_proto.settings import ReconnectSettings

PAIRING_REQUIRED: Final = "PAIRING_REQUIRED"
_REPAIR_DELAY: Final = 0.25
_LOCK_OUT: Final = 300.0
"""How long the gateway locks an address out, in seconds; it does not always say so (wire.md 5)."""
_EQUAL_ANSWERS: Final = 3
_LARGEST_EXPONENT: Final = 64


class Action(Enum):
    """What to do after an ending."""

    RETRY = "retry"
    """Exponential backoff with full jitter, on top of the peer's hint."""
    WAIT = "wait"
    """A slow poll: somebody must approve the device first."""
    REPAIR = "repair"
    """One quick attempt with another credential."""
    STOP = "stop"
    """No attempt without the application's word."""
    STOP_IF_REPEATED = "stop at the third equal answer in a row"
    """RETRY, until the same answer came three times in a row."""


@attrs.frozen
class Attempts:
    """What came before: everything `decide` knows besides the ending itself."""

    failures: int = 1
    """Endings since the last stable time online, this one included: the backoff's n + 1."""
    equal: int = 1
    """Equal answers in a row, this one included."""
    certificate_seen_good: bool = False
    """Whether TLS to this endpoint ever succeeded."""
    can_repair: bool = False
    """Whether another credential may be tried that was not refused yet (credentials.py)."""
    tried: int = attrs.field(default=attrs.Factory(lambda self: self.failures, takes_self=True))
    """Attempts since then that did not lead to a stable time online: what ``max_attempts`` counts.
    The end of a stable time online is no failed attempt."""


@attrs.frozen
class Decision:
    """What `decide` decided. ``delay`` and ``floor`` are seconds; STOP has no delay.

    ``floor`` is how long even ``reconnect_now`` must wait.
    """

    action: Action
    delay: float = 0.0
    floor: float = 0.0
    advice: str = ""


@attrs.frozen
class Row:
    """One row of the table; ``advice`` may name keys of the refusal's details in braces."""

    when: str
    matches: Callable[[Ending], bool]
    action: Action
    advice: str = ""
    hint_binds: bool = False
    """Whether ``reconnect_now`` must wait for the hint too."""
    assumed_hint: float = 0.0
    """Seconds to wait where the peer gives no hint."""


def _detail(name: str) -> tuple[str, Callable[[Ending], bool]]:
    def matches(ending: Ending) -> bool:
        error = ending.error
        return error is not None and name in (error.detail_code, error.detail_reason)

    return f"refused: {name}", matches


def _refused(when: str, test: Callable[[Any], bool]) -> tuple[str, Callable[[Ending], bool]]:
    return f"refused: {when}", lambda ending: ending.error is not None and test(ending.error)


def _http(when: str, *statuses: range | int) -> tuple[str, Callable[[Ending], bool]]:
    def matches(ending: Ending) -> bool:
        status = ending.http_status
        return ending.kind is EndKind.UPGRADE_REFUSED and any(
            status in entry if isinstance(entry, range) else status == entry for entry in statuses
        )

    return f"upgrade answered HTTP {when}", matches


def _kind(*kinds: EndKind) -> tuple[str, Callable[[Ending], bool]]:
    return " / ".join(kind.name for kind in kinds), lambda ending: ending.kind in kinds


def _fault(*kinds: FaultKind) -> tuple[str, Callable[[Ending], bool]]:
    when = "transport failed: " + " / ".join(kind.name for kind in kinds)
    return when, lambda ending: ending.fault is not None and ending.fault.kind in kinds


def _closed(reason: str) -> tuple[str, Callable[[Ending], bool]]:
    def matches(ending: Ending) -> bool:
        return ending.kind is EndKind.CLOSED_BY_PEER and ending.close_reason == reason

    return f"closed: {reason!r}", matches


_STOPS: Final = {
    "AUTH_TOKEN_MISMATCH": "The token is wrong, or a password was given to a gateway that wants a "
    "token. Use the value of gateway.auth.token of the gateway's configuration (or "
    "OPENCLAW_GATEWAY_TOKEN).",
    "AUTH_TOKEN_MISSING": "The gateway wants a token: give the value of gateway.auth.token of its "
    "configuration (or OPENCLAW_GATEWAY_TOKEN). A device without one has no stored token for this "
    "very URL; those for other hosts, ports or schemes do not count.",
    "AUTH_PASSWORD_MISMATCH": "The password is wrong.",
    "AUTH_PASSWORD_MISSING": "The gateway wants a password: give the value of "
    "gateway.auth.password of its configuration (or OPENCLAW_GATEWAY_PASSWORD).",
    "AUTH_DEVICE_TOKEN_MISMATCH": "The stored device token is no longer valid; "
    "connect with the shared token to get a new one.",
    "AUTH_SCOPE_MISMATCH": "The device token does not cover the scopes asked for; ask for "
    "fewer, or connect with the shared token.",
    "AUTH_BOOTSTRAP_TOKEN_INVALID": "The setup code is wrong, too old or used by another device; "
    "make a new one.",
    "AUTH_IDENTITY_HEADER_REQUIRED": "The gateway trusts a proxy for identity; connect "
    "through that proxy.",
    "AUTH_VERIFIED_USER_REQUIRED": "The gateway wants a user verified by its proxy.",
    "DEVICE_IDENTITY_REQUIRED": "No token or password was given, or this identity needs a "
    "device; give a token.",
    "CONTROL_UI_DEVICE_IDENTITY_REQUIRED": "This client.id needs a device identity; use "
    "gateway-client/backend.",
    "CONTROL_UI_ORIGIN_NOT_ALLOWED": "This client.id or mode is for browsers of an allowed "
    "origin; use gateway-client/backend.",
    "PROTOCOL_MISMATCH": "The gateway speaks protocol {expectedProtocol}; use a version of "
    "openbutter that offers it.",
    "DEVICE_AUTH_NONCE_MISMATCH": "The device signature was made for another connection.",
    "DEVICE_AUTH_NONCE_REQUIRED": "The device signature has no nonce.",
    "DEVICE_AUTH_SIGNATURE_INVALID": "The device signature is wrong; check the identity's key.",
    "DEVICE_AUTH_SIGNATURE_EXPIRED": "The device signature is too old.",
    "DEVICE_AUTH_DEVICE_ID_MISMATCH": "The device id does not belong to its public key.",
    "CONTROL_UI_BUILD_MISMATCH": "The gateway runs another build of the control UI.",
}
_APPROVE: Final = "approve it on the gateway: openclaw devices approve {requestId}"
_UPGRADES: Final = {
    "scope-upgrade": "The device asks for more scopes than it was approved for; ask for the "
    f"approved ones, or {_APPROVE}",
    "role-upgrade": "The device asks for a role that it was not approved for, or that was "
    f"revoked; {_APPROVE}",
    "metadata-upgrade": "The device's platform or family has changed since it was approved; "
    f"{_APPROVE}",
}
"""What a device that is known waits for (wire.md 4)."""
_LIMITED_ADVICE: Final = "Too many failed attempts; the gateway refuses even the right token."
_SCHEMA_ADVICE: Final = (
    "The gateway does not know this connect request. Use the dialect gateway-v4, which sends "
    f"protocol 4, client.id {BACKEND.id}, client.mode {BACKEND.mode} and role {BACKEND.role} "
    "(all it allows: butter_proto.CLIENT_IDS, CLIENT_MODES, ROLES)."
)

ROWS: Final[tuple[Row, ...]] = (
    Row(*_kind(EndKind.STOPPED), Action.STOP, "Stopped by the application."),
    Row(
        *_detail("AUTH_RATE_LIMITED"),
        Action.RETRY,
        _LIMITED_ADVICE,
        hint_binds=True,
        assumed_hint=_LOCK_OUT,
    ),
    *(Row(*_detail(reason), Action.WAIT, advice) for reason, advice in _UPGRADES.items()),
    Row(
        *_detail(PAIRING_REQUIRED),
        Action.WAIT,
        "Approve the device on the gateway: openclaw devices approve {requestId}",
    ),
    *(Row(*_detail(code), Action.STOP, advice) for code, advice in _STOPS.items()),
    Row(*_detail("startup-sidecars"), Action.RETRY, "The gateway is starting."),
    Row(*_detail("gateway-restarting"), Action.RETRY, "The gateway is restarting."),
    Row(*_refused("retryable true", lambda error: error.retryable is True), Action.RETRY),
    Row(
        *_refused("retryable false", lambda error: error.retryable is False),
        Action.STOP,
        "The gateway says that trying again does not help.",
    ),
    Row(
        *_refused(
            "INVALID_REQUEST without details",
            lambda error: error.code == "INVALID_REQUEST" and error.details is None,
        ),
        Action.STOP,
        _SCHEMA_ADVICE,
    ),
    Row(
        *_refused("anything else", lambda _: True),
        Action.STOP_IF_REPEATED,
        "The gateway keeps refusing.",
    ),
    Row(
        *_http("401, 403 or 407", 401, 403, 407),
        Action.STOP,
        "Something in front of the gateway refuses the connection; check proxies and "
        "gateway.trustedProxies.",
    ),
    Row(*_http("408, 425, 429 or 5xx", 408, 425, 429, range(500, 600)), Action.RETRY),
    Row(
        *_kind(EndKind.UPGRADE_REFUSED, EndKind.NOT_WEBSOCKET),
        Action.STOP_IF_REPEATED,
        "No gateway answers at this URL; check host, port and path.",
    ),
    Row(
        *_kind(EndKind.CHALLENGE_INVALID, EndKind.HELLO_INVALID),
        Action.STOP_IF_REPEATED,
        "The peer does not speak the gateway's protocol; check the URL and the dialect.",
    ),
    Row(
        *_kind(EndKind.SIGNER_FAILED),
        Action.STOP_IF_REPEATED,
        "The device's key cannot sign; check where it is kept.",
    ),
    Row(
        *_kind(EndKind.PIN_MISMATCH),
        Action.STOP,
        "Something else answers in the gateway's place, or its certificate was renewed: compare "
        "its fingerprint on the gateway's own machine before pinning the new one.",
    ),
    Row(
        *_fault(FaultKind.CERTIFICATE),
        Action.STOP,
        "The gateway's certificate was not accepted; check its CA, name and dates. Trust a CA of "
        "your own by an ssl_context (--cafile), a self-signed certificate by a pin (--pin).",
    ),
    Row(*_fault(FaultKind.DNS), Action.RETRY, "The host name is not known; check it."),
    Row(
        *_fault(FaultKind.REFUSED),
        Action.RETRY,
        "Nothing listens there; is the gateway running, and is the port right?",
    ),
    Row(
        *_fault(FaultKind.PROXY_REFUSED),
        Action.STOP,
        "The proxy wants other credentials, or lets nobody through to that host.",
    ),
    Row(
        *_fault(FaultKind.PROXY),
        Action.RETRY,
        "Check the proxy: is it running, is its address right, and does it reach the gateway?",
    ),
    Row(*_kind(EndKind.TRANSPORT_FAILED), Action.RETRY, "Check the network to the gateway."),
    Row(
        *_kind(EndKind.OPEN_TIMEOUT, EndKind.CHALLENGE_TIMEOUT, EndKind.HELLO_TIMEOUT),
        Action.RETRY,
        "Something accepts the connection and does not answer; is it the gateway, and is "
        "ws:// or wss:// right?",
    ),
    Row(
        *_closed("slow consumer"),
        Action.RETRY,
        "The gateway had more queued for this connection than it allows; read faster or "
        "subscribe to less.",
    ),
    Row(*_closed("service restart"), Action.RETRY, "The gateway restarts or stops."),
    Row(*_closed("gateway starting"), Action.RETRY, "The gateway is starting."),
    Row(*_closed("gateway restart in progress"), Action.RETRY, "The gateway is restarting."),
    Row(*_closed("device removed"), Action.RETRY, "The device's token was rotated or revoked."),
    Row(*_closed("gateway auth changed"), Action.RETRY, "The gateway's token was changed."),
    Row("any other ending", lambda _: True, Action.RETRY),
)


def advice(ending: Ending) -> str:
    """Say what to do about an ending; empty where there is nothing to say."""
    return _worded(_row_of(ending).advice, ending)


def is_known_reason(reason: str) -> bool:
    """Tell whether a Close frame's reason is one of the gateway's own that choose the advice."""
    return bool(advice(Ending(EndKind.CLOSED_BY_PEER, close_reason=reason)))


def decide(
    ending: Ending,
    attempts: Attempts,
    settings: ReconnectSettings,
    random: Callable[[], float],
    *,
    told: Ending | None = None,
) -> Decision:
    """Decide what follows an ending. ``random`` returns numbers in 0..1, the jitter.

    The advice takes its words from ``told``: the ending without secrets, where there is one.
    """
    row = _row_of(ending)
    words = _worded(row.advice, told or ending)
    action = row.action
    if action is Action.STOP and _may_still_try(ending, attempts):
        action = Action.REPAIR if ending.error is not None else Action.RETRY
    if action is Action.STOP_IF_REPEATED:
        action = Action.STOP if attempts.equal >= _EQUAL_ANSWERS else Action.RETRY
    if action is Action.WAIT and settings.pairing_poll is None:
        action = Action.STOP
    if action is Action.RETRY and _out_of_attempts(attempts, settings):
        action = Action.STOP
        count = f"{attempts.tried} attempt{'s' if attempts.tried > 1 else ''}"
        words = f"Gave up after {count}. {words}".rstrip()
    hint = ending.retry_after or 0.0
    delay = 0.0
    match action:
        case Action.RETRY:
            delay = (hint or row.assumed_hint) + _backoff(ending, attempts, settings, random)
        case Action.WAIT:
            assert settings.pairing_poll is not None
            delay = max(hint, settings.pairing_poll)
        case Action.REPAIR:
            delay = _REPAIR_DELAY
    return Decision(action, delay, hint if row.hint_binds else 0.0, words)


def backoff(n: int, settings: ReconnectSettings, random: Callable[[], float]) -> float:
    """Return the delay, in seconds, after ``n`` failures before this one: full jitter."""
    exponent = min(n, _LARGEST_EXPONENT)
    return min(settings.cap, settings.base * settings.factor**exponent) * random()


def _row_of(ending: Ending) -> Row:
    return next(row for row in ROWS if row.matches(ending))


def _out_of_attempts(attempts: Attempts, settings: ReconnectSettings) -> bool:
    return settings.max_attempts is not None and attempts.tried >= settings.max_attempts


def _may_still_try(ending: Ending, attempts: Attempts) -> bool:
    """Tell whether a row that stops leaves one way open."""
    if ending.fault is not None:
        return ending.fault.kind is FaultKind.CERTIFICATE and attempts.certificate_seen_good
    return attempts.can_repair and ending.error is not None


def _backoff(
    ending: Ending,
    attempts: Attempts,
    settings: ReconnectSettings,
    random: Callable[[], float],
) -> float:
    delay = backoff(attempts.failures - 1, settings, random)
    return max(delay, settings.minimum) if ending.transport_opened else delay


class _Words(dict[str, str | int]):
    """The words that an advice may name; a missing one is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


def _worded(advice: str, ending: Ending) -> str:
    error = ending.error
    if error is None:
        return advice
    details = error.details if isinstance(error.details, dict) else {}
    words = {name: word for name, word in details.items() if isinstance(word, str | int)}
    return advice.format_map(_Words(words))
