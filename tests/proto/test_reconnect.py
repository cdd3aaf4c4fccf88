"""What every ending means, row by row, with the answers that the real gateway gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.errors import Ending, EndKind, FaultKind, TransportFault
from butter_proto.frames import Response, decode
from butter_proto.reconnect import (
    ROWS,
    Action,
    Attempts,
    Row,
    advice,
    decide,
)
from butter_proto.settings import ReconnectSettings

RETRY, WAIT, REPAIR, STOP = Action.RETRY, Action.WAIT, Action.REPAIR, Action.STOP
IF_REPEATED = Action.STOP_IF_REPEATED
SETTINGS: Final = ReconnectSettings()
PAIRING_ID = "8137d63c-f599-4f21-9a8e-d3827f1bfa65"


def refused(error: dict[str, Any]) -> Ending:
    """Make the ending of a connection whose connect request got this error object."""
    frame = decode(json.dumps({"type": "res", "id": "c1", "ok": False, "error": error}))
    assert isinstance(frame, Response)
    assert frame.error is not None
    return Ending(
        EndKind.CONNECT_REFUSED,
        error=frame.error,
        retry_after=frame.error.retry_after,
        transport_opened=True,
    )


def auth(code: str, **details: Any) -> Ending:
    """An answer of wire.md 5 whose ``error.code`` says nothing."""
    return refused(
        {"code": "INVALID_REQUEST", "message": "unauthorized", "details": {"code": code, **details}}
    )


def http(status: int, retry_after: float | None = None) -> Ending:
    return Ending(
        EndKind.UPGRADE_REFUSED,
        http_status=status,
        retry_after=retry_after,
        transport_opened=True,
    )


def closed(code: int, reason: str) -> Ending:
    return Ending(
        EndKind.CLOSED_BY_PEER,
        close_code=code,
        close_reason=reason,
        transport_opened=True,
        online=True,
    )


def fault(kind: FaultKind) -> Ending:
    return Ending(EndKind.TRANSPORT_FAILED, fault=TransportFault(kind, "text"))


def opened(kind: EndKind) -> Ending:
    return Ending(kind, transport_opened=True)


NOT_PAIRED: Final = refused(
    {
        "code": "NOT_PAIRED",
        "message": "pairing required: device is not approved yet",
        "details": {
            "code": "PAIRING_REQUIRED",
            "reason": "not-paired",
            "requestId": PAIRING_ID,
            "remediationHint": "Approve this device from the pending pairing requests.",
            "deviceId": "56475a",
            "requestedRole": "operator",
            "requestedScopes": ["operator.read", "operator.write"],
        },
    }
)
RATE_LIMITED: Final = refused(
    {
        "code": "INVALID_REQUEST",
        "message": "unauthorized: too many failed authentication attempts (retry later)",
        "details": {
            "code": "AUTH_RATE_LIMITED",
            "authReason": "rate_limited",
            "recommendedNextStep": "wait_then_retry",
        },
        "retryable": True,
        "retryAfterMs": 299_993,
    }
)
STARTING: Final = refused(
    {
        "code": "UNAVAILABLE",
        "message": "gateway starting",
        "details": {"reason": "startup-sidecars"},
        "retryable": True,
        "retryAfterMs": 500,
    }
)
RESTARTING: Final = refused(
    {
        "code": "UNAVAILABLE",
        "message": "connect unavailable during gateway restart",
        "details": {"method": "connect", "reason": "gateway-restarting", "phase": "accepting"},
        "retryable": True,
        "retryAfterMs": 1000,
    }
)
WRONG_TOKEN: Final = auth(
    "AUTH_TOKEN_MISMATCH",
    authReason="token_mismatch",
    canRetryWithDeviceToken=True,
    recommendedNextStep="retry_with_device_token",
)
UNKNOWN: Final = auth("SOMETHING_NEW")
NEVER_SEEN_GOOD: Final = fault(FaultKind.CERTIFICATE)

# the ending, the action of its row, and words that its advice must have
EXAMPLES: Final[list[tuple[Ending, Action, str]]] = [
    (opened(EndKind.STOPPED), STOP, "Stopped by the application."),
    # wire.md 5, in its order
    (
        refused(
            {
                "code": "INVALID_REQUEST",
                "message": "invalid connect params: at /client/id: must be equal to one of",
            }
        ),
        STOP,
        "gateway-v4",
    ),
    (refused({"code": "INVALID_REQUEST", "message": "invalid role"}), STOP, "ROLES"),
    (
        auth(
            "PROTOCOL_MISMATCH",
            clientMinProtocol=1,
            clientMaxProtocol=1,
            expectedProtocol=4,
            minimumProbeProtocol=3,
        ),
        STOP,
        "speaks protocol 4;",
    ),
    (
        refused(
            {
                "code": "NOT_PAIRED",
                "message": "device identity required",
                "details": {"code": "DEVICE_IDENTITY_REQUIRED"},
            }
        ),
        STOP,
        "give a token",
    ),
    (auth("AUTH_TOKEN_MISSING", authReason="token_missing"), STOP, "for this very URL"),
    (WRONG_TOKEN, STOP, "gateway.auth.token"),
    (auth("AUTH_DEVICE_TOKEN_MISMATCH"), STOP, "device token is no longer valid"),
    (auth("AUTH_SCOPE_MISMATCH", authReason="scope_mismatch"), STOP, "scopes"),
    (auth("AUTH_BOOTSTRAP_TOKEN_INVALID"), STOP, "setup code"),
    (auth("AUTH_PASSWORD_MISMATCH", authReason="password_mismatch"), STOP, "password is wrong"),
    (auth("AUTH_PASSWORD_MISSING"), STOP, "wants a password"),
    (RATE_LIMITED, RETRY, "Too many failed attempts"),
    (NOT_PAIRED, WAIT, f"Approve the device on the gateway: openclaw devices approve {PAIRING_ID}"),
    *[
        (auth("PAIRING_REQUIRED", reason=reason, requestId=PAIRING_ID), WAIT, words)
        for reason, words in {
            "scope-upgrade": "more scopes than it was approved for",
            "role-upgrade": "a role that it was not approved for, or that was revoked",
            "metadata-upgrade": f"has changed since it was approved; approve it on the gateway: "
            f"openclaw devices approve {PAIRING_ID}",
        }.items()
    ],
    (auth("DEVICE_AUTH_NONCE_MISMATCH", reason="device-nonce-mismatch"), STOP, "another"),
    (auth("DEVICE_AUTH_NONCE_REQUIRED", reason="device-nonce-missing"), STOP, "no nonce"),
    (auth("DEVICE_AUTH_SIGNATURE_INVALID", reason="device-signature"), STOP, "is wrong"),
    (auth("DEVICE_AUTH_SIGNATURE_EXPIRED", reason="device-signature-stale"), STOP, "too old"),
    (auth("DEVICE_AUTH_DEVICE_ID_MISMATCH", reason="device-id-mismatch"), STOP, "public key"),
    (
        auth("CONTROL_UI_ORIGIN_NOT_ALLOWED", reason="origin missing or invalid"),
        STOP,
        "gateway-client/backend",
    ),
    (auth("CONTROL_UI_DEVICE_IDENTITY_REQUIRED"), STOP, "device identity"),
    (
        refused(
            {
                "code": "UNAVAILABLE",
                "message": "control ui build mismatch",
                "details": {"code": "PROTOCOL_MISMATCH", "reloadRequired": True},
                "retryable": False,
            }
        ),
        STOP,
        "speaks protocol ?;",
    ),
    (STARTING, RETRY, "The gateway is starting."),
    (RESTARTING, RETRY, "The gateway is restarting."),
    # wire.md 12: what else the reference client does not come back from
    (auth("AUTH_IDENTITY_HEADER_REQUIRED"), STOP, "through that proxy"),
    (auth("AUTH_VERIFIED_USER_REQUIRED"), STOP, "verified by its proxy"),
    (auth("CONTROL_UI_BUILD_MISMATCH"), STOP, "another build"),
    # what no list names (design.md, Reconnect)
    (
        refused({"code": "UNAVAILABLE", "message": "The server is busy.", "retryable": True}),
        RETRY,
        "",
    ),
    (
        refused({"code": "X", "message": "no", "details": {"code": "Y"}, "retryable": False}),
        STOP,
        "trying again does not help",
    ),
    (UNKNOWN, IF_REPEATED, "keeps refusing"),
    (refused({"code": "FORBIDDEN", "message": "no"}), IF_REPEATED, "keeps refusing"),
    (
        refused({"code": "INVALID_REQUEST", "message": "x", "details": ["AUTH_TOKEN_MISMATCH"]}),
        IF_REPEATED,
        "keeps refusing",
    ),
    # wire.md 1, 5, 7 and 9: answers to the upgrade
    (http(401), STOP, "in front of the gateway"),
    (http(403), STOP, "gateway.trustedProxies"),
    (http(407), STOP, "proxies"),
    (http(408), RETRY, ""),
    (http(425), RETRY, ""),
    (http(429, 300.0), RETRY, ""),
    (http(500), RETRY, ""),
    (http(503), RETRY, ""),
    (http(599), RETRY, ""),
    (http(200), IF_REPEATED, "check host, port and path"),
    (http(302), IF_REPEATED, "check host, port and path"),
    (http(404), IF_REPEATED, "check host, port and path"),
    (http(426), IF_REPEATED, "check host, port and path"),
    (opened(EndKind.NOT_WEBSOCKET), IF_REPEATED, "check host, port and path"),
    (opened(EndKind.CHALLENGE_INVALID), IF_REPEATED, "check the URL and the dialect"),
    (opened(EndKind.HELLO_INVALID), IF_REPEATED, "check the URL and the dialect"),
    # the transport
    (NEVER_SEEN_GOOD, STOP, "check its CA, name and dates"),
    (fault(FaultKind.DNS), RETRY, "host name is not known"),
    (fault(FaultKind.REFUSED), RETRY, "is the gateway running"),
    *[
        (fault(kind), RETRY, "Check the network")
        for kind in FaultKind
        if kind
        not in (
            FaultKind.CERTIFICATE,
            FaultKind.DNS,
            FaultKind.REFUSED,
            FaultKind.PROXY,
            FaultKind.PROXY_REFUSED,
        )
    ],
    (fault(FaultKind.PROXY), RETRY, "Check the proxy"),
    (fault(FaultKind.PROXY_REFUSED), STOP, "wants other credentials, or lets nobody through"),
    (opened(EndKind.SIGNER_FAILED), IF_REPEATED, "key cannot sign"),
    (opened(EndKind.PIN_MISMATCH), STOP, "fingerprint"),
    (opened(EndKind.OPEN_TIMEOUT), RETRY, "does not answer"),
    (opened(EndKind.CHALLENGE_TIMEOUT), RETRY, "does not answer"),
    (opened(EndKind.HELLO_TIMEOUT), RETRY, "does not answer"),
    # wire.md 4, 7 and 8: closes without an error frame; the reason is matched whole
    (closed(1008, "slow consumer"), RETRY, "read faster"),
    (closed(1012, "service restart"), RETRY, "restarts or stops"),
    (closed(1013, "gateway starting"), RETRY, "is starting"),
    (closed(1013, "gateway restart in progress"), RETRY, "is restarting"),
    (closed(4001, "device removed"), RETRY, "rotated or revoked"),
    (closed(4001, "gateway auth changed"), RETRY, "token was changed"),
    (closed(1008, "slow consumers"), RETRY, ""),
    (closed(1000, ""), RETRY, ""),
    (closed(1008, "invalid request frame"), RETRY, ""),
    (closed(1009, ""), RETRY, ""),
    *[
        (opened(kind), RETRY, "")
        for kind in (
            EndKind.END_OF_STREAM,
            EndKind.SILENT_PEER,
            EndKind.PROTOCOL_VIOLATION,
            EndKind.LIMIT_EXCEEDED,
        )
    ],
]


def first_match(ending: Ending) -> Row:
    return next(row for row in ROWS if row.matches(ending))


def half() -> float:
    return 0.5


def always(jitter: float) -> Callable[[], float]:
    return lambda: jitter


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "action", "words"), EXAMPLES)
def test_an_ending_means_what_its_row_says(ending: Ending, action: Action, words: str) -> None:
    """Lessons 3, 8, 10, 13 and 14; design.md, Reconnect."""
    first = decide(ending, Attempts(), SETTINGS, half)
    third = decide(ending, Attempts(3, 3), SETTINGS, half)
    if action is IF_REPEATED:
        assert (first.action, third.action) == (RETRY, STOP)
    else:
        assert (first.action, third.action) == (action, action)
    assert words in third.advice
    assert bool(third.advice) == bool(words)
    assert (first.delay > 0) == (first.action is not STOP)
    assert third.delay == 0 or third.action is not STOP


def test_every_row_has_an_example_that_no_row_above_it_takes() -> None:
    used = {first_match(ending).when for ending, _, _ in EXAMPLES}
    assert [row.when for row in ROWS if row.when not in used] == []
    assert len({row.when for row in ROWS}) == len(ROWS)


def test_every_kind_of_ending_has_its_row() -> None:
    used = {ending.kind for ending, _, _ in EXAMPLES}
    assert used == set(EndKind)
    assert {ending.fault.kind for ending, _, _ in EXAMPLES if ending.fault} == set(FaultKind)


def test_only_a_row_that_stops_or_waits_or_explains_itself_has_words() -> None:
    """A reader of GaveUp must always be told what to do."""
    assert [row.when for row in ROWS if row.action is not RETRY and not row.advice] == []


def test_the_key_is_the_details_code_and_not_the_errors() -> None:
    """wire.md 5."""
    for code in ("INVALID_REQUEST", "NOT_PAIRED", "UNAVAILABLE", "X"):
        error = {"code": code, "message": "m", "details": {"code": "PAIRING_REQUIRED"}}
        assert decide(refused(error), Attempts(), SETTINGS, half).action is WAIT
    plain = refused({"code": "PAIRING_REQUIRED", "message": "m"})
    assert decide(plain, Attempts(), SETTINGS, half).action is RETRY


def test_a_close_is_retried_whatever_its_code() -> None:
    """4001 too: the answer to the next connect decides."""
    for code in (1000, 1001, 1002, 1008, 1011, 1012, 3000, 4001, 4999):
        for reason in ("", "device removed", "unheard of"):
            ending = closed(code, reason)
            assert decide(ending, Attempts(9, 9), SETTINGS, half).action is RETRY


# --- delays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (7, 30.0)]
)
def test_the_backoff_doubles_from_one_second_up_to_its_cap(failures: int, ceiling: float) -> None:
    """Lessons 1 and 15: full jitter."""
    for jitter in (0.25, 0.5, 1.0):
        decision = decide(fault(FaultKind.RESET), Attempts(failures), SETTINGS, always(jitter))
        assert decision.delay == jitter * ceiling


@pytest.mark.parametrize("failures", [65, 66, 10**6, 10**400])
def test_the_backoff_of_countless_failures_is_its_cap(failures: int) -> None:
    wild = ReconnectSettings(base=3600.0, factor=100.0, cap=3600.0)
    for settings in (SETTINGS, wild):
        decision = decide(closed(1000, ""), Attempts(failures), settings, lambda: 1.0)
        assert decision.delay == settings.cap


def test_a_factor_of_one_is_a_constant_backoff() -> None:
    settings = ReconnectSettings(base=3.0, factor=1.0)
    delays = {
        decide(fault(FaultKind.DNS), Attempts(n), settings, lambda: 1.0).delay for n in range(1, 99)
    }
    assert delays == {3.0}


@pytest.mark.parametrize(("was_open", "least"), [(True, 0.25), (False, 0.0)])
def test_a_retry_in_milliseconds_needs_a_transport_that_never_opened(
    was_open: bool, least: float
) -> None:
    """Lessons 1: a refusal never retries in milliseconds."""
    ending = attrs.evolve(closed(1000, ""), transport_opened=was_open)
    assert decide(ending, Attempts(), SETTINGS, lambda: 0.0).delay == least
    assert decide(ending, Attempts(), SETTINGS, lambda: 0.5).delay == 0.5
    hinted = attrs.evolve(ending, retry_after=2.0)
    assert decide(hinted, Attempts(), SETTINGS, lambda: 0.0).delay == 2.0 + least


def test_the_least_delay_holds_under_a_smaller_cap_too() -> None:
    settings = ReconnectSettings(cap=0.01, minimum=0.1)
    assert decide(closed(1000, ""), Attempts(), settings, lambda: 1.0).delay == 0.1


@pytest.mark.parametrize(
    ("ending", "hint"),
    [
        (STARTING, 0.5),
        (RESTARTING, 1.0),
        (RATE_LIMITED, 299.993),
        (http(429, 300.0), 300.0),
        (attrs.evolve(closed(1012, "service restart"), retry_after=1.5), 1.5),
    ],
)
def test_a_hint_is_a_floor_and_the_backoff_comes_on_top(ending: Ending, hint: float) -> None:
    """wire.md 5 and 7; lessons 13 and 14: never sooner than the hint, and no herd at it."""
    for jitter in (0.25, 1.0):
        decision = decide(ending, Attempts(2), SETTINGS, always(jitter))
        assert decision.delay == hint + 2.0 * jitter


def test_only_a_rate_limits_hint_binds_the_application_too() -> None:
    """Lessons 14: the lock-out hits the good token as well."""
    floors = {
        ending: decide(attrs.evolve(ending, retry_after=7.0), Attempts(), SETTINGS, half).floor
        for ending, _, _ in EXAMPLES
        if ending.error is None or not isinstance(ending.error.details, dict | list)
    }
    assert set(floors.values()) == {0.0}
    assert decide(STARTING, Attempts(), SETTINGS, half).floor == 0.0
    assert decide(NOT_PAIRED, Attempts(), SETTINGS, half).floor == 0.0
    assert decide(RATE_LIMITED, Attempts(), SETTINGS, half).floor == 299.993
    no_hint = attrs.evolve(RATE_LIMITED, retry_after=None)
    assert decide(no_hint, Attempts(), SETTINGS, half).floor == 0.0


def test_a_rate_limit_without_a_hint_is_waited_out_all_the_same() -> None:
    """Seen live: the hint lacks where only the shared secret's class is locked."""
    no_hint = attrs.evolve(RATE_LIMITED, retry_after=None)
    assert decide(no_hint, Attempts(), SETTINGS, half).delay == 300.5


CHECKED = st.builds(
    ReconnectSettings,
    base=st.floats(0.01, 3600.0),
    factor=st.floats(1.0, 100.0),
    cap=st.floats(0.01, 3600.0),
    minimum=st.floats(0.001, 3600.0),
    max_attempts=st.none() | st.integers(1, 5),
    pairing_poll=st.none() | st.floats(1.0, 3600.0),
)


@given(
    ending=st.sampled_from([ending for ending, _, _ in EXAMPLES]),
    hint=st.none() | st.floats(0.0, 3600.0),
    settings=CHECKED,
    attempts=st.builds(
        Attempts, st.integers(1, 10**6), st.integers(1, 5), st.booleans(), st.booleans()
    ),
    jitter=st.floats(0.0, 1.0),
)
def test_a_decision_keeps_its_bounds(
    ending: Ending,
    hint: float | None,
    settings: ReconnectSettings,
    attempts: Attempts,
    jitter: float,
) -> None:
    ending = attrs.evolve(ending, retry_after=hint)
    decision = decide(ending, attempts, settings, lambda: jitter)
    floor = hint or (300.0 if ending == attrs.evolve(RATE_LIMITED, retry_after=hint) else 0.0)
    ceiling = settings.base
    for _ in range(min(attempts.failures - 1, 2000)):
        ceiling = min(ceiling * settings.factor, settings.cap)
    match decision.action:
        case Action.RETRY:
            least = settings.minimum if ending.transport_opened else 0.0
            assert floor + least <= decision.delay
            assert decision.delay <= floor + max(min(ceiling, settings.cap), least) * (1 + 1e-9)
            assert settings.max_attempts is None or attempts.failures < settings.max_attempts
        case Action.WAIT:
            assert settings.pairing_poll is not None
            assert decision.delay == max(floor, settings.pairing_poll)
        case Action.REPAIR:
            assert (attempts.can_repair, decision.delay) == (True, 0.25)
        case Action.STOP:
            assert decision.delay == 0.0
            assert decision.advice
        case _:
            pytest.fail("a row's condition is no decision")


# --- pairing ------------------------------------------------------------------------------------


def test_a_device_that_waits_for_approval_polls_slowly_and_for_ever() -> None:
    """Lessons 2: fast retries make a new request id while a human approves the old one."""
    for failures in (1, 2, 1000):
        decision = decide(NOT_PAIRED, Attempts(failures, failures), SETTINGS, half)
        assert (decision.action, decision.delay) == (WAIT, 15.0)


def test_the_poll_is_settable_and_a_longer_hint_counts() -> None:
    settings = ReconnectSettings(pairing_poll=40.0)
    assert decide(NOT_PAIRED, Attempts(), settings, half).delay == 40.0
    for hint, delay in ((39.0, 40.0), (41.0, 41.0)):
        ending = attrs.evolve(NOT_PAIRED, retry_after=hint)
        assert decide(ending, Attempts(), settings, half).delay == delay


def test_a_device_that_shall_not_poll_stops_and_says_what_to_approve() -> None:
    decision = decide(NOT_PAIRED, Attempts(), ReconnectSettings(pairing_poll=None), half)
    assert (decision.action, decision.delay) == (STOP, 0.0)
    assert decision.advice.endswith(f"openclaw devices approve {PAIRING_ID}")


@pytest.mark.parametrize("request_id", [None, ["x"], {"x": 1}, 1.5])
def test_a_request_id_that_is_no_word_is_a_question_mark(request_id: object) -> None:
    """G1 and G9: foreign JSON of any depth and size, and it goes into a command line."""
    decision = decide(auth("PAIRING_REQUIRED", requestId=request_id), Attempts(), SETTINGS, half)
    assert decision.advice.endswith("openclaw devices approve ?")


def test_a_word_with_braces_stays_as_it_is() -> None:
    decision = decide(auth("PAIRING_REQUIRED", requestId="{code}"), Attempts(), SETTINGS, half)
    assert decision.advice.endswith("openclaw devices approve {code}")


# --- giving up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "advice"),
    [
        (fault(FaultKind.DNS), "Gave up after 5 attempts. The host name is not known; check it."),
        (closed(1000, ""), "Gave up after 5 attempts."),
        (UNKNOWN, "Gave up after 5 attempts. The gateway keeps refusing."),
    ],
)
def test_after_so_many_attempts_it_gives_up_and_says_so(ending: Ending, advice: str) -> None:
    settings = ReconnectSettings(max_attempts=5)
    assert decide(ending, Attempts(4), settings, half).action is RETRY
    for failures in (5, 6):
        decision = decide(ending, Attempts(failures), settings, half)
        assert decision.action is STOP
        assert decision.advice == advice.replace("5", str(failures))


def test_a_single_attempt_is_told_as_one() -> None:
    settings = ReconnectSettings(max_attempts=1)
    assert decide(closed(1000, ""), Attempts(), settings, half).advice == "Gave up after 1 attempt."


def test_what_was_tried_counts_for_giving_up_and_what_failed_for_the_backoff() -> None:
    """The end of a stable time online is a failure, and no attempt that failed."""
    settings = ReconnectSettings(max_attempts=2)
    decision = decide(closed(1000, ""), Attempts(3, tried=1), settings, half)
    assert (decision.action, decision.delay) == (RETRY, 2.0)
    decision = decide(closed(1000, ""), Attempts(1, tried=2), settings, half)
    assert (decision.action, decision.advice) == (STOP, "Gave up after 2 attempts.")


@pytest.mark.parametrize(("equal", "action"), [(1, RETRY), (2, RETRY), (3, STOP), (4, STOP)])
def test_an_unknown_refusal_stops_at_the_third_equal_answer(equal: int, action: Action) -> None:
    decision = decide(UNKNOWN, Attempts(50, equal), SETTINGS, half)
    assert decision.action is action
    assert decision.delay == (15.0 if action is RETRY else 0.0)


# --- one way left -------------------------------------------------------------------------------


def test_a_certificate_that_was_good_before_may_be_good_again() -> None:
    """Never seen good it stops: a retry would never help."""
    assert decide(NEVER_SEEN_GOOD, Attempts(), SETTINGS, half).action is STOP
    seen = Attempts(3, certificate_seen_good=True)
    decision = decide(NEVER_SEEN_GOOD, seen, SETTINGS, half)
    assert (decision.action, decision.delay) == (RETRY, 2.0)
    limited = decide(NEVER_SEEN_GOOD, seen, ReconnectSettings(max_attempts=3), half)
    assert limited.action is STOP
    assert "was not accepted" in limited.advice


def test_a_wrong_token_is_repaired_by_a_stored_device_token() -> None:
    """wire.md 12: one retry with the stored deviceToken on a trusted endpoint."""
    decision = decide(WRONG_TOKEN, Attempts(9, 9, can_repair=True), SETTINGS, half)
    assert (decision.action, decision.delay) == (REPAIR, 0.25)
    assert decide(WRONG_TOKEN, Attempts(), SETTINGS, half).action is STOP


def test_another_credential_repairs_refusals_alone() -> None:
    """Which refusal it helps is credentials.py's to say; where nothing was refused it is no help."""
    attempts = Attempts(1, 3, certificate_seen_good=True, can_repair=True)
    for ending, action, _ in EXAMPLES:
        stops = action in (STOP, IF_REPEATED)
        if ending != NEVER_SEEN_GOOD:
            expected = STOP if stops and ending.error is None else action
            if stops and ending.error is not None:
                expected = REPAIR if action is STOP else STOP
            assert decide(ending, attempts, SETTINGS, half).action is expected


def test_the_advice_alone_is_that_of_the_decision_whatever_was_tried() -> None:
    for ending in (WRONG_TOKEN, fault(FaultKind.DNS), closed(1000, "")):
        assert advice(ending) == decide(ending, Attempts(), SETTINGS, half).advice


def test_the_advice_has_its_words_from_what_may_be_told() -> None:
    error = {"code": "INVALID_REQUEST", "message": "protocol mismatch"}
    said, told = (
        refused({**error, "details": {"code": "PROTOCOL_MISMATCH", "expectedProtocol": word}})
        for word in ("s3cret", "***")
    )
    decision = decide(said, Attempts(), SETTINGS, half, told=told)
    assert "s3cret" in advice(said)
    assert "***" in decision.advice
    assert "s3cret" not in decision.advice
