"""What happened, in words for an operator: what it was, and what to do.

Rules kept here:

* The advice is the reconnect table's; one of our own stands in only where the table has none.
* Nothing here shows a payload; text of the gateway passes `printable` before a terminal gets it.
"""

from __future__ import annotations

from typing import Final, assert_never

from butter_proto import events
from butter_proto.errors import ConnectionEnded, ConnectTimeout, Ending, EndKind
from butter_proto.reconnect import advice

TOKEN_VARIABLE: Final = "OPENCLAW_GATEWAY_TOKEN"  # noqa: S105 - its name
"""The environment variable that may hold the gateway's token."""
PASSWORD_VARIABLE: Final = "OPENCLAW_GATEWAY_PASSWORD"  # noqa: S105 - its name
"""The environment variable that may hold the gateway's password."""
MS: Final = 1000
"""Milliseconds in a second."""
NO_ANSWER: Final = Ending(EndKind.HELLO_TIMEOUT)
"""Stands for the ending of an attempt that had none yet."""
LOOK: Final = "Look at the gateway's log of that time, and at the network in between."


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to the microsecond."""
    return round(seconds * MS, 3)


def explain(ending: Ending) -> str:
    """Say why a connection ended and what to do."""
    return f"{ending}. {advice(ending) or LOOK}"


def explain_failure(error: ConnectionEnded) -> str:
    """Say why there is no connection and what to do."""
    if isinstance(error, ConnectTimeout):
        words = advice(error.ending or NO_ANSWER) or LOOK
        if words not in str(error):
            return f"{error}. {words}"
    return str(error)  # it has its advice


def trouble(event: events.StateEvent | events.EventsMissed) -> str | None:
    """Say what an operator who watches should know; None: nothing."""
    match event:
        case events.Retrying():
            lost = "offline" if event.ending.online else "not connected"
            return f"{lost}: {explain(event.ending)} (next attempt in {event.delay:.1f} s)"
        case events.Online(resync=True):
            return "online again" + (", with a new gateway process" if event.boot_changed else "")
        case events.EventsMissed():
            count = "some" if event.count is None else event.count
            return f"missed {count} events: {event.reason.value}"
    return None


def notable(notice: events.Notice) -> str | None:
    """Say what a notice means; None: nothing an operator must know."""
    match notice:
        case events.ScopesReduced():
            return (
                f"the gateway did not grant {', '.join(notice.missing)}: calls that need these "
                "will be refused. Without a device they are granted on loopback only."
            )
        case events.PairingRequired():
            return (
                f"the device {notice.device_id or '?'} waits for approval "
                f"({notice.reason or 'not paired'}). On the gateway: "
                f"openclaw devices approve {notice.request_id or '?'}"
            )
        case events.ClockLate():
            return (
                f"this program was held up for {notice.seconds:.1f} s (suspend, or a busy "
                "machine): what was measured then says nothing about the gateway"
            )
        case events.DeviceTokenNotStored():
            why = "that took too long" if notice.timed_out else "that failed"
            return (
                f"the device's new token was not stored ({why}): it is lost at the end, and the "
                "next connect needs the shared token again"
            )
        case events.DeviceTokenRejected():
            return (
                "the stored device token is no longer valid and was forgotten; connecting with "
                "the shared token brings a new one"
            )
        case events.RoundTrip() | events.DeviceTokenIssued():
            return None
        case _:
            assert_never(notice)
