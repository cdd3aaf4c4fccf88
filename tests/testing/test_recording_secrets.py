"""No dump shows a secret: whatever was said, in whatever place, and whatever was cut away since."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from butter_proto import CLI, Credentials, Framing, GatewayError, Secret, Settings
from butter_proto.events import Replied
from butter_proto.machine import State
from butter_proto.testing.recording import Recorder, difference, load
from butter_proto.testing.recording.fillers import Fillers
from tests.proto import gateway_side as gateway
from tests.proto.operations import Op, World, op
from tests.proto.strategies import over_both_framings, passing, requests, roomy_settings, wishes
from tests.proto.test_guarantees_secrets import MEETINGS, SECRET_MARK, error_with
from tests.testing.recorded import Recorded

MINUTE: Final = 60.0
GIVEN: Final = "QQ-a-credential-that-was-replaced-QQ"


def refused_with(world: World, secret: str) -> None:
    world.meet(2, [partial(gateway.refused, error=error_with(secret))])


def test_a_token_that_was_issued_in_a_dropped_attempt_stays_a_secret() -> None:
    recorder = Recorder(minutes=1.0)
    world = World(Settings(identity=CLI, token=gateway.TOKEN), make=recorder.connector)
    world.meet(2, [partial(gateway.welcomed, device_token="QQ-issued-once-QQ")])
    world.wait(6.0)
    for _ in range(3):
        world.ended()
        world.wait(2 * MINUTE)
        world.online()
    world.ended()
    assert '"attempts":0' not in recorder.dump().splitlines()[1]
    refused_with(world, "QQ-issued-once-QQ")
    text = recorder.dump()
    assert '"ODD"' in text
    assert SECRET_MARK not in text


def test_a_credential_that_was_replaced_and_cut_out_stays_a_secret() -> None:
    one = Recorded(minutes=1.0)
    one.run(5)
    for token in (GIVEN, "QQ-the-next-one-QQ"):
        one.machine.use_credentials(Credentials(token=token), one.network.now)
        one.run(2 * MINUTE)
    one.run(10 * MINUTE)
    assert GIVEN not in str([turn for cut in one.cuts() for turn in cut.carried])
    one.stand_in.refuse_next(GatewayError("UNAVAILABLE", f"not {GIVEN}"))
    one.network.cut()
    one.run(5)
    text = one.recorder.dump()
    assert "UNAVAILABLE" in text
    assert SECRET_MARK not in text


@over_both_framings
@given(
    run=st.lists(
        st.sampled_from(MEETINGS) | st.just(op(World.online)) | passing | requests | wishes,
        max_size=20,
    ),
    made=roomy_settings,
    minutes=st.sampled_from([0.01, 0.1, 1.0]),
    most=st.sampled_from([4_000, 20_000, 10_000_000]),
)
@settings(max_examples=100)
def test_what_is_let_go_takes_no_secret_s_name_with_it(
    framing: Framing, run: list[Op], made: Settings, minutes: float, most: int
) -> None:
    recorder = Recorder(minutes=minutes, max_bytes=most, bodies=True)
    world = World(attrs.evolve(made, framing=framing), make=recorder.connector)
    world.online()
    world.do(run)
    assert SECRET_MARK not in recorder.dump()


UNKNOWN: Final = "QQ-nobody-knows-what-this-is-QQ"
ODD: Final = (UNKNOWN, [UNKNOWN], {"value": UNKNOWN}, [{"value": [UNKNOWN]}])
PLACES: Final = (
    *(("auth", key) for key in ("deviceToken", "recoveryScope", "deviceTokens", "sessionToken")),
    *(("auth", key) for key in ("issuedAtMs", "scopes")),
    *(("policy", key) for key in ("maxPayload", "tickIntervalMs", "unknown")),
    *(("features", key) for key in ("unknown", "capabilities")),
    *(("server", "unknown"), ("pluginSurfaceUrls", "canvas")),
    *((key,) for key in ("auth", "policy", "features", "server", "pluginSurfaceUrls", "unknown")),
)
OPEN: Final = (("auth", "scopes"),)
"""Names that are told, whatever they are, where they are texts in a list."""


@pytest.mark.parametrize("value", ODD, ids=["text", "list", "object", "objects"])
@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("framing", Framing)
def test_a_hello_is_kept_where_the_handshake_reads_it_and_nowhere_else(
    place: tuple[str, ...], value: Any, framing: Framing
) -> None:
    hello = gateway.hello_ok()
    box = hello
    for key in place[:-1]:
        box = box.setdefault(key, {})
    box[place[-1]] = value
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN, framing=framing), make=recorder.connector)
    world.meet(2, [lambda peer: gateway.response(peer.connect_id, hello)])
    text = recorder.dump()
    assert (UNKNOWN in text) == (place in OPEN and value == [UNKNOWN])
    assert difference(load(text)) is None
    assert world.machine.state is State.ONLINE


def test_a_device_token_that_is_no_text_is_hidden_in_a_body_too() -> None:
    recorder = Recorder(bodies=True)
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    world.online()
    for value in ODD:
        payload = {"deviceToken": value, "pluginSurfaceUrls": value, "recoveryScope": value}
        world.say([partial(gateway.pushed, name="chat", payload={**payload, "said": "kept"})])
    text = recorder.dump()
    assert "kept" in text
    assert UNKNOWN not in text


def test_a_gateway_that_calls_everything_a_secret_makes_no_dump_slow() -> None:
    """Only what a hello may issue is looked for in every text; the rest is blank where it stands."""
    recorder = Recorder(bodies=True)
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    many = {f"canvas-{number}": f"QQ-surface-{number}-QQ" for number in range(2000)}
    hello = {**gateway.hello_ok(), "pluginSurfaceUrls": many}
    for _ in range(20):
        world.meet(2, [lambda peer: gateway.response(peer.connect_id, hello)])
        world.say([partial(gateway.pushed, name="chat", payload={"pluginSurfaceUrls": many})])
        hello["pluginSurfaceUrls"] = {key: f"{url}-more" for key, url in many.items()}
        world.ended()
        world.wake_late(0.0)
    assert len(recorder.recording().secrets) <= 256
    assert SECRET_MARK not in recorder.dump()


def test_only_what_was_learned_is_looked_for() -> None:
    fillers = Fillers()
    assert fillers.of(UNKNOWN) != UNKNOWN
    assert fillers.name(UNKNOWN) == UNKNOWN
    fillers.learn([Secret(UNKNOWN)])
    assert fillers.name(UNKNOWN) == fillers.of(UNKNOWN)


@pytest.mark.parametrize(
    "secret", ['a"b', "\\", "\n\x01", "\x7f", "é-token", "\u20ac" * 9, "\U0001f600"]
)
def test_a_filler_takes_the_room_of_its_secret(secret: str) -> None:
    filler = Fillers().of(secret)
    assert len(filler) == len(secret)
    assert len(filler.encode()) == len(secret.encode())
    written = [json.dumps(one, ensure_ascii=False).encode() for one in (filler, secret)]
    assert len(written[0]) == len(written[1])


HEADS: Final = (
    f"HTTP/1.1 403 {UNKNOWN}\r\nContent-Length: 0\r\n\r\n",
    f"HTTP/1.1 403 No\r\n{UNKNOWN}: x\r\nContent-Length: 0\r\n\r\n",
    f"HTTP/1.1 403 No\r\nServer: {UNKNOWN}\r\nContent-Length: 0\r\n\r\n",
    f"HTTP/1.1 403 No\r\nX: y\r\n {UNKNOWN}: z\r\nContent-Length: 0\r\n\r\n",
)


@pytest.mark.parametrize("head", HEADS, ids=["phrase", "name", "server", "folded"])
def test_nothing_of_users_is_kept_of_a_head(head: str) -> None:
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    world.meet(0, [partial(gateway.said, data=head.encode())])
    text = recorder.dump()
    assert UNKNOWN not in text
    assert difference(load(text)) is None


def test_what_an_error_says_is_not_kept() -> None:
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN), make=recorder.connector)
    world.online()
    error = {"code": "INVALID", "message": UNKNOWN, "details": {"remediationHint": UNKNOWN}}
    world.exchange(1, [partial(gateway.answered, which=0, error=error)])
    text = recorder.dump()
    assert "INVALID" in text
    assert UNKNOWN not in text
    assert difference(load(text)) is None


@over_both_framings
@pytest.mark.parametrize(
    ("reason", "kept"), [("service restart", True), (UNKNOWN, False), (f"{UNKNOWN} é", False)]
)
def test_of_the_reasons_of_close_frames_only_known_ones_are_kept(
    framing: Framing,
    reason: str,
    kept: bool,
) -> None:
    recorder = Recorder()
    world = World(Settings(token=gateway.TOKEN, framing=framing), make=recorder.connector)
    world.online()
    world.say([partial(gateway.said, data=gateway.close(1012, reason))])
    text = recorder.dump()
    assert (reason in text) is kept
    assert UNKNOWN not in text
    assert difference(load(text)) is None


def test_the_secrets_that_are_known_are_bounded_and_the_oldest_goes() -> None:
    one = Recorded()
    for number in range(300):
        one.machine.use_credentials(Credentials(token=f"QQ-credential-{number}-QQ"), 0.0)
    known = {secret.reveal() for secret in one.recorder.recording().secrets}
    assert len(known) == 256
    assert "QQ-credential-299-QQ" in known
    assert "QQ-credential-0-QQ" not in known


class Unreadable(dict[str, Any]):
    """Params that can be written, and raise where they are asked for a key."""

    def __contains__(self, key: object) -> bool:
        raise RuntimeError(f"{UNKNOWN} has no {key!r}")


def test_params_that_cannot_be_read_are_sent_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Recorded()
    one.run(1)
    one.stand_in.reply("echo", {})
    request_id = one.request("echo", params=Unreadable(a=1))
    one.network.run(for_=1)
    told = [event for _, event in one.network.events[one.machine]]
    assert [event.id for event in told if isinstance(event, Replied)] == [request_id]
    assert "could not be recorded as it was: RuntimeError" in caplog.text
    assert UNKNOWN not in caplog.text
