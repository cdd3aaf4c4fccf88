"""Which credentials an attempt uses, and what is signed for them."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from butter_proto.credentials import (
    BOOTSTRAP_TOKEN_INVALID,
    DEVICE_TOKEN_MISMATCH,
    TOKEN_MISMATCH,
    Auth,
    Credentials,
    Keyring,
    Source,
)
from butter_proto.device import DeviceToken
from butter_proto.device_auth import SignedPayload, signed_text
from butter_proto.errors import InvalidSettings
from butter_proto.handshake import connect_params
from butter_proto.identity import CLI
from butter_proto.secret import Secret
from butter_proto.settings import Dialect

WANTED: Final = ("operator.read", "operator.write")
STORED: Final = DeviceToken(Secret("the-device-token"), WANTED)
SHARED: Final = Credentials(token="the-shared-token")
BOOTSTRAP: Final = Credentials(bootstrap_token="the-setup-code")


def shown(auth: Auth) -> tuple[Source, dict[str, str]]:
    return auth.source, {name: secret.reveal() for name, secret in auth.fields.items()}


def keyring(
    credentials: Credentials, stored: DeviceToken | None = None, *, trusted: bool = True
) -> Keyring:
    ring = Keyring(credentials, role="operator", trusted=trusted)
    if stored is not None:
        ring.issued({"operator": stored})
        ring.stored({"operator": stored})
    return ring


# --- the order ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "stored", "source", "fields"),
    [
        (SHARED, STORED, Source.SHARED, {"token": "the-shared-token"}),
        (Credentials(password="p"), STORED, Source.SHARED, {"password": "p"}),
        (
            Credentials(token="t", password="p", bootstrap_token="b"),
            None,
            Source.SHARED,
            {"token": "t", "password": "p"},
        ),
        (Credentials(), STORED, Source.DEVICE, {"deviceToken": "the-device-token"}),
        (BOOTSTRAP, STORED, Source.DEVICE, {"deviceToken": "the-device-token"}),
        (BOOTSTRAP, None, Source.BOOTSTRAP, {"bootstrapToken": "the-setup-code"}),
        (Credentials(), None, Source.NONE, {}),
    ],
)
def test_the_first_credential_that_there_is_goes_first(
    credentials: Credentials, stored: DeviceToken | None, source: Source, fields: dict[str, str]
) -> None:
    assert shown(keyring(credentials, stored).choose(WANTED)) == (source, fields)


@pytest.mark.parametrize("credentials", [Credentials(), BOOTSTRAP])
def test_without_a_device_nothing_but_shared_credentials_is_used(credentials: Credentials) -> None:
    ring = Keyring(credentials, trusted=True)
    ring.issued({"operator": STORED})
    assert shown(ring.choose(WANTED)) == (Source.NONE, {})


# --- scopes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "granted", "asked"),
    [
        (("a", "b"), ("b", "a"), ("a", "b")),
        (("a", "b", "c"), ("b",), ("b",)),
        (("a",), ("b", "c"), ("a",)),
        ((), ("b",), ()),
        (("a",), (), ("a",)),
    ],
)
def test_a_stored_token_asks_for_what_it_covers(
    wanted: tuple[str, ...], granted: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    """wire.md 4: more are refused, and omitted ones mean none. More than wanted never."""
    ring = keyring(Credentials(), DeviceToken(Secret("t"), granted))
    assert ring.choose(wanted).scopes == asked


def test_every_other_credential_asks_for_what_the_application_wants() -> None:
    for credentials in (SHARED, BOOTSTRAP, Credentials()):
        assert keyring(credentials).choose(WANTED).scopes == WANTED


# --- refusals -------------------------------------------------------------------------------


def refuse(ring: Keyring, code: str) -> bool:
    return ring.refused(ring.choose(WANTED), code)


def test_a_refused_shared_token_is_followed_by_the_stored_one_once() -> None:
    """wire.md 12: one retry."""
    ring = keyring(SHARED, STORED)
    assert refuse(ring, TOKEN_MISMATCH)
    assert ring.choose(WANTED).source is Source.DEVICE
    assert not refuse(ring, DEVICE_TOKEN_MISMATCH)
    assert ring.durable == {}
    assert ring.choose(WANTED).source is Source.SHARED
    assert not refuse(ring, TOKEN_MISMATCH)


def test_a_token_that_had_worked_says_nothing_about_the_shared_one() -> None:
    """It was rotated since; the shared one may be right by now."""
    ring = keyring(SHARED, STORED)
    refuse(ring, TOKEN_MISMATCH)
    ring.accepted(ring.choose(WANTED))
    assert refuse(ring, DEVICE_TOKEN_MISMATCH)
    assert ring.choose(WANTED).source is Source.SHARED
    assert not refuse(ring, TOKEN_MISMATCH)


def test_a_token_found_in_place_of_a_dead_one_is_worth_one_attempt() -> None:
    ring = keyring(Credentials(), STORED)
    refuse(ring, DEVICE_TOKEN_MISMATCH)
    assert not ring.found(STORED)
    newer = DeviceToken(Secret("a-newer-token"), WANTED)
    assert ring.found(newer)
    assert ring.choose(WANTED).fields == {"deviceToken": newer.token}
    assert not ring.found(DeviceToken(Secret("yet another"), WANTED))


def test_a_store_that_keeps_giving_dead_tokens_makes_no_loop() -> None:
    ring = keyring(Credentials(), STORED)
    found = 0
    for number in range(10):
        refuse(ring, DEVICE_TOKEN_MISMATCH)
        found += ring.found(DeviceToken(Secret(f"token {number}"), WANTED))
    assert found == 2
    assert not Keyring(Credentials()).found(STORED)


def test_an_untrusted_endpoint_never_gets_the_stored_token_by_refusing_the_shared_one() -> None:
    ring = keyring(SHARED, STORED, trusted=False)
    assert not refuse(ring, TOKEN_MISMATCH)
    assert ring.choose(WANTED).source is Source.SHARED


def test_a_stored_token_that_is_no_longer_valid_is_followed_by_the_setup_code() -> None:
    ring = keyring(BOOTSTRAP, STORED)
    assert refuse(ring, DEVICE_TOKEN_MISMATCH)
    assert ring.choose(WANTED).source is Source.BOOTSTRAP
    assert not refuse(ring, BOOTSTRAP_TOKEN_INVALID)


@pytest.mark.parametrize(
    "code", [None, "AUTH_PASSWORD_MISMATCH", "AUTH_SCOPE_MISMATCH", "PAIRING_REQUIRED"]
)
def test_no_other_refusal_makes_another_credential_come_first(code: str) -> None:
    """Lessons 8: nothing is forgotten but by its own refusal."""
    for credentials in (SHARED, Credentials(), BOOTSTRAP):
        ring = keyring(credentials, STORED)
        before = ring.choose(WANTED)
        assert not refuse(ring, code)
        assert ring.choose(WANTED) == before
        assert ring.durable == {"operator": STORED}


def test_the_refusal_of_a_token_that_was_replaced_meanwhile_forgets_no_newer_one() -> None:
    ring = keyring(Credentials(), STORED)
    old = ring.choose(WANTED)
    newer = DeviceToken(Secret("a-newer-token"), WANTED)
    ring.issued({"operator": newer})
    assert ring.refused(old, DEVICE_TOKEN_MISMATCH)
    assert ring.choose(WANTED).fields == {"deviceToken": newer.token}


def test_credentials_that_were_replaced_meanwhile_are_worth_an_attempt() -> None:
    ring = keyring(Credentials(token="old"))
    old = ring.choose(WANTED)
    ring.replace(Credentials(token="new"))
    assert ring.has_untried
    for code in (TOKEN_MISMATCH, "DEVICE_IDENTITY_REQUIRED", None):
        assert ring.refused(old, code)
    assert shown(ring.choose(WANTED)) == (Source.SHARED, {"token": "new"})
    assert not refuse(ring, TOKEN_MISMATCH)


def test_new_credentials_or_the_applications_word_open_what_was_refused() -> None:
    for begin_anew in (lambda ring: ring.replace(SHARED), Keyring.forgive):
        ring = keyring(SHARED, STORED)
        refuse(ring, TOKEN_MISMATCH)
        begin_anew(ring)
        assert ring.choose(WANTED).source is Source.SHARED


codes = st.sampled_from([TOKEN_MISMATCH, DEVICE_TOKEN_MISMATCH, BOOTSTRAP_TOKEN_INVALID, "OTHER"])
optional_text = st.none() | st.sampled_from(["one", "two", "three"])
some_credentials = st.builds(Credentials, optional_text, optional_text, optional_text)


@given(some_credentials, st.none() | st.just(STORED), st.booleans(), st.lists(codes, max_size=20))
def test_refusals_alone_never_lead_to_more_attempts_than_there_are_credentials(
    credentials: Credentials, stored: DeviceToken | None, trusted: bool, answers: list[str]
) -> None:
    ring = keyring(credentials, stored, trusted=trusted)
    used: list[Source] = []
    for code in answers:
        used.append(ring.choose(WANTED).source)
        if not refuse(ring, code):
            break
    assert len(used) == len(set(used))


# --- what is signed is what is sent ---------------------------------------------------------


tokens = st.builds(DeviceToken, st.builds(Secret, st.text(min_size=1)), st.just(("a", "b")))


@given(
    some_credentials,
    st.none() | tokens,
    st.lists(codes, max_size=3),
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(tuple),
    st.sampled_from(SignedPayload),
)
def test_what_is_signed_is_what_stands_in_the_frame(
    credentials: Credentials,
    stored: DeviceToken | None,
    refusals: list[str],
    wanted: tuple[str, ...],
    version: SignedPayload,
) -> None:
    """Lesson 6, and wire.md 4: auth.token, else deviceToken, else bootstrapToken, else empty."""
    ring = keyring(credentials, stored)
    for code in refusals:
        refuse(ring, code)
    params: dict[str, Any] = connect_params(Dialect.GATEWAY_V4, CLI, ring.choose(wanted))
    signed = signed_text(version, params, "id", "nonce", 7)
    auth = params["auth"]
    token = auth.get("token") or auth.get("deviceToken") or auth.get("bootstrapToken") or ""
    expected = f"|operator|{','.join(params['scopes'])}|7|{token}|nonce"
    assert expected in signed
    assert signed.startswith(f"{version.value}|id|cli|cli|operator|")


# --- secrets --------------------------------------------------------------------------------


def test_nothing_shows_a_secret() -> None:
    ring = keyring(Credentials("the-shared-token", "pass-word", "the-setup-code"), STORED)
    text = repr([ring.choose(WANTED), SHARED, BOOTSTRAP, ring.durable])
    for secret in ring.secrets:
        assert secret.reveal() not in text
    assert len(ring.secrets) == 4


def test_what_was_in_use_stays_known_for_long_but_not_for_ever() -> None:
    ring = keyring(Credentials(token="first"), STORED)
    ring.replace(Credentials(token="second"))
    assert [secret.reveal() for secret in ring.secrets] == ["first", "the-device-token", "second"]
    for number in range(100):
        ring.replace(Credentials(token=f"token {number}"))
    assert len(ring.secrets) == 65
    assert Secret("token 99") in ring.secrets
    assert Secret("token 30") not in ring.secrets


def test_what_is_in_use_is_known_however_much_came_after_it() -> None:
    ring = keyring(Credentials(token="first"), STORED)
    for number in range(100):
        ring.replace(Credentials(token=f"token {number}"))
    ring.replace(Credentials())
    assert ring.choose(WANTED).fields["deviceToken"] in ring.secrets


def test_a_device_token_is_buried_though_other_credentials_came_meanwhile() -> None:
    ring = keyring(Credentials(), STORED)
    old = ring.choose(WANTED)
    ring.replace(Credentials())
    assert not ring.refused(old, DEVICE_TOKEN_MISMATCH)
    assert ring.durable == {}
    assert ring.found(DeviceToken(Secret("a-newer-token"), WANTED))


@pytest.mark.parametrize("name", ["token", "password", "bootstrap_token"])
def test_a_secret_is_text_that_can_be_sent(name: str) -> None:
    for bad in ("", "\ud800", 5):
        with pytest.raises(InvalidSettings):
            Credentials(**{name: bad})  # type: ignore[arg-type]
