"""JSON text <-> frames: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from butter_proto.errors import GatewayError, InvalidParams
from butter_proto.events import GatewayEvent
from butter_proto.frames import (
    DEEPEST,
    InvalidFrame,
    Pong,
    Response,
    decode,
    encode_request,
    seconds_from_ms,
    text_or_none,
    whole_number,
)
from tests.proto.json_grammar import edges, messages, nested_text

SECRET = "QQ-secret-QQ"

# fmt: off
fields = st.sampled_from([
    "type", "event", "res", "pong", "id", "ok", "error", "payload", "seq", "stateVersion", "code",
    "message", "details", "retryable", "retryAfterMs", "jsonrpc", "2.0", "method", "params",
    "result", "data",
])
# fmt: on
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | fields,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(fields | st.text(max_size=3), inner)
    ),
    max_leaves=15,
)  # fmt: skip
frame_like = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["event", "res", "pong", "req", "x"]) | json_values,
        "jsonrpc": st.sampled_from(["2.0"]) | json_values,
        "event": st.text(max_size=3) | json_values,
        "method": st.text(max_size=3) | json_values,
        "id": st.text(max_size=3) | json_values,
        "ok": json_values,
        "error": st.dictionaries(fields, json_values) | json_values,
        "payload": json_values,
        "result": json_values,
        "params": json_values,
        "seq": json_values,
    },
)


@st.composite
def damaged_messages(draw: st.DrawFn) -> str:
    """Draw the text of a message with something foreign put into it anywhere."""
    text = draw(messages())
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(edges | st.text(max_size=3)) + text[at:]


def frames_of(text: str | bytes) -> list[Any]:
    """Decode in both modes; anything raised but `InvalidFrame` fails the test."""
    frames: list[Any] = []
    for json_rpc in (False, True):
        try:
            frames.append(decode(text, json_rpc=json_rpc))
        except InvalidFrame:
            frames.append(InvalidFrame)
    return frames


def assert_well_formed(frame: Any) -> None:
    """Check what the rest of the machine trusts a frame to be."""
    if isinstance(frame, Response):
        assert isinstance(frame.id, str)
        if frame.error is not None:
            assert isinstance(frame.error, GatewayError)
            assert isinstance(frame.error.code, str)
            assert frame.error.code
            assert isinstance(frame.error.message, str)
            assert frame.error.retryable is None or isinstance(frame.error.retryable, bool)
            assert frame.error.retry_after is None or 0 <= frame.error.retry_after <= 3600
            assert len(str(frame.error)) < 1_000_000
    elif isinstance(frame, GatewayEvent):
        assert isinstance(frame.name, str)
        assert frame.name
        assert frame.seq is None or (type(frame.seq) is int and frame.seq >= 0)
    else:
        assert frame in (Pong(), None, InvalidFrame)


# --- any input --------------------------------------------------------------------------------


@given(text=st.text(st.characters()) | messages() | damaged_messages())
@example("{" * 200_000)
@example('{"a":' + "9" * 5000 + "}")
@example('{"a":NaN}')
@example('{"a":[1e999]}')
def test_any_text_is_a_well_formed_frame_or_none_or_invalid(text: str) -> None:
    for frame in frames_of(text):
        assert_well_formed(frame)


@given(
    data=st.binary() | damaged_messages().map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(b"\xff\xfe{\x00}\x00")
@example(b'{"type":"pong","x":"\xed\xa0\x80"}')
def test_any_bytes_are_a_well_formed_frame_or_none_or_invalid(data: bytes) -> None:
    for frame in frames_of(data):
        assert_well_formed(frame)


@given(text=messages() | damaged_messages() | edges)
@example('{"a":NaN,"a":1}')
@example(f'{{"a":{nested_text(DEEPEST)},"a":1}}')
def test_a_message_is_refused_only_where_it_is_no_object_of_finite_numbers_or_too_deep(
    text: str,
) -> None:
    """Where a key comes twice, what the last one says decides how deep it is."""
    numbers: list[float] = []
    try:
        value = json.loads(text, parse_float=lambda one: numbers.append(float(one)))
        refused = not isinstance(value, dict) or is_deeper(value, DEEPEST)
        refused |= any(map(math.isinf, numbers)) or has_constants(text)
    except (ValueError, RecursionError):
        refused = True
    assert [frame is InvalidFrame for frame in frames_of(text)] == [refused, refused]


def is_deeper(value: object, levels: int) -> bool:
    """Tell whether a value is nested deeper than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(one, levels - 1) for one in inner)


def has_constants(text: str) -> bool:
    """Tell whether NaN or an infinity stands in the text of a JSON value."""
    constants: list[str] = []
    json.loads(text, parse_constant=constants.append)
    return bool(constants)


@given(message=frame_like)
def test_any_object_is_read_and_never_refused(message: dict[str, Any]) -> None:
    for frame in frames_of(json.dumps(message)):
        assert frame is not InvalidFrame
        assert_well_formed(frame)


@given(data=st.binary() | st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
       .map('{"type":"pong"}'.encode))  # fmt: skip
def test_bytes_mean_what_their_utf_8_text_means_and_nothing_else(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert frames_of(data) == [InvalidFrame, InvalidFrame]
    else:
        assert frames_of(data) == frames_of(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000])
def test_a_number_beyond_the_limits_is_invalid_wherever_it_stands(value: str) -> None:
    for text in (f'{{"type":"event","event":"e","seq":{value}}}', f'{{"a":[{{"b":{value}}}]}}'):
        assert frames_of(text) == [InvalidFrame, InvalidFrame]


@pytest.mark.parametrize(
    "text",
    [
        *["", "[1,2]", '"text"', "7", "null", "true", "{", '{"a":1}x', "{'a':1}", "\ufeff{}"],
        *["[" * 200_000, '{"a":' * 200_000, '{"a":"\n"}'],
    ],
)
def test_what_is_no_json_object_is_invalid(text: str) -> None:
    assert frames_of(text) == [InvalidFrame, InvalidFrame]
    assert frames_of(text.encode()) == [InvalidFrame, InvalidFrame]


def test_an_invalid_frame_is_told_without_its_text() -> None:
    with pytest.raises(InvalidFrame) as caught:
        decode(f'{{"token":"{SECRET}"')
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidFrame, match=r"^a list, not an object$") as caught:
        decode(f'["{SECRET}"]')
    assert SECRET not in str(caught.value)


def test_of_equal_keys_the_last_one_counts() -> None:
    text = '{"type":"res","type":"event","event":"a","event":"b","payload":{"k":1,"k":2}}'
    assert decode(text) == GatewayEvent("b", {"k": 2}, None, None)


def test_a_lone_surrogate_is_kept() -> None:
    frame = decode('{"type":"event","event":"e","payload":"\\ud800"}')
    assert frame == GatewayEvent("e", "\ud800", None, None)


def test_numbers_keep_their_kind() -> None:
    frame = decode('{"type":"event","event":"e","payload":[1,1.0,1e2,-0.0,123456789012345678901]}')
    assert isinstance(frame, GatewayEvent)
    assert [type(number) for number in frame.payload] == [int, float, float, float, int]
    assert frame.payload[4] == 123456789012345678901


# --- what the gateway sends -------------------------------------------------------------------


def test_an_event_is_read_with_its_seq_and_state_version() -> None:
    text = '{"type":"event","event":"health","payload":{"ok":true},"seq":2,"stateVersion":{"a":1}}'
    assert decode(text) == GatewayEvent("health", {"ok": True}, 2, {"a": 1})


@pytest.mark.parametrize("seq", ["null", "-1", "1.0", "true", '"1"', "[]"])
def test_an_event_whose_seq_is_no_count_has_none(seq: str) -> None:
    frame = decode('{"type":"event","event":"tick","seq":' + seq + "}")
    assert frame == GatewayEvent("tick", None, None, None)


def test_an_answer_is_read_with_its_payload() -> None:
    text = '{"type":"res","id":"r1","ok":true,"payload":{"ts":1},"new key":[]}'
    assert decode(text) == Response("r1", {"ts": 1}, None)


def test_a_refusal_is_read_with_all_its_parts_and_may_carry_a_payload() -> None:
    text = json.dumps(
        {
            "type": "res",
            "id": "r1",
            "ok": False,
            "payload": {"status": "error"},
            "error": {
                "code": "UNAVAILABLE",
                "message": "gateway starting",
                "details": {"reason": "startup-sidecars"},
                "retryable": True,
                "retryAfterMs": 500,
            },
        }
    )
    error = GatewayError(
        "UNAVAILABLE", "gateway starting", {"reason": "startup-sidecars"}, True, 0.5
    )
    assert decode(text) == Response("r1", {"status": "error"}, error)


@pytest.mark.parametrize("ok", ["", '"ok":null,', '"ok":1,', '"ok":"true",', '"ok":false,'])
def test_only_ok_true_is_a_success(ok: str) -> None:
    frame = decode('{"type":"res",' + ok + '"id":"r1","payload":1}')
    assert isinstance(frame, Response)
    assert frame.error == GatewayError("UNKNOWN", "the gateway refused without an error object")


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ({}, GatewayError("UNKNOWN", "no message")),
        ({"code": "", "message": ""}, GatewayError("UNKNOWN", "no message")),
        ({"code": 5, "message": ["x"]}, GatewayError("UNKNOWN", "no message")),
        ({"code": "X", "retryable": "yes"}, GatewayError("X", "no message")),
        ({"code": "X", "retryable": False}, GatewayError("X", "no message", retryable=False)),
        ({"code": "X", "retryAfterMs": "9"}, GatewayError("X", "no message")),
        ({"code": "X", "retryAfterMs": 3_600_001}, GatewayError("X", "no message")),
        ({"code": "X", "details": "text"}, GatewayError("X", "no message", "text")),
    ],
)
def test_a_malformed_part_of_an_error_is_left_out(error: object, read: GatewayError) -> None:
    frame = decode(json.dumps({"type": "res", "id": "r1", "ok": False, "error": error}))
    assert frame == Response("r1", None, read)


def test_the_originals_pong_is_life() -> None:
    assert decode('{"type":"pong","anything":1}') == Pong()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"type":"later"}',
        '{"type":["event"]}',
        '{"type":"event"}',
        '{"type":"event","event":""}',
        '{"type":"event","event":7}',
        '{"type":"res","ok":true}',
        '{"type":"res","id":5,"ok":true}',
        '{"type":"req","id":"r1","method":"health"}',
        '{"jsonrpc":"2.0","id":"r1","result":1}',
    ],
)
def test_an_object_that_is_no_known_frame_is_skipped(text: str) -> None:
    assert decode(text) is None


# --- JSON-RPC 2.0 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('{"jsonrpc":"2.0","id":"1","result":{"a":1}}', Response("1", {"a": 1}, None)),
        ('{"jsonrpc":"2.0","id":"1","result":null}', Response("1", None, None)),
        ('{"jsonrpc":"2.0","id":"1","result":3,"error":null}', Response("1", 3, None)),
        (
            '{"jsonrpc":"2.0","id":"1","error":{"code":-32601,"message":"no","data":[1]}}',
            Response("1", None, GatewayError("-32601", "no", [1])),
        ),
        (
            '{"jsonrpc":"2.0","id":"1","error":{"code":"BUSY"},"result":null}',
            Response("1", None, GatewayError("BUSY", "no message")),
        ),
        (
            '{"jsonrpc":"2.0","id":"1","error":{"code":{"payload":1},"message":7}}',
            Response("1", None, GatewayError("UNKNOWN", "no message")),
        ),
        (
            '{"jsonrpc":"2.0","id":"1","error":{"code":true}}',
            Response("1", None, GatewayError("UNKNOWN", "no message")),
        ),
        (
            '{"jsonrpc":"2.0","id":"1","error":"text"}',
            Response(
                "1", None, GatewayError("UNKNOWN", "the gateway refused without an error object")
            ),
        ),
        (
            '{"jsonrpc":"2.0","id":"1","error":null}',
            Response(
                "1", None, GatewayError("UNKNOWN", "the gateway refused without an error object")
            ),
        ),
        ('{"jsonrpc":"2.0","method":"tick","params":[1]}', GatewayEvent("tick", [1], None, None)),
        ('{"jsonrpc":"2.0","method":"tick","id":null}', GatewayEvent("tick", None, None, None)),
        ('{"jsonrpc":"2.0","method":"tick","id":"9"}', None),
        ('{"jsonrpc":"2.0","method":""}', None),
        ('{"jsonrpc":"2.0","id":1,"result":1}', None),
        ('{"jsonrpc":"2.0","id":"1"}', None),
        ('{"jsonrpc":"2.0"}', None),
        ('{"jsonrpc":"1.0","id":"1","result":1}', None),
        ('{"id":"1","result":1}', None),
        ('{"type":"pong"}', Pong()),
        ('{"type":"res","id":"c1","ok":true,"payload":1}', Response("c1", 1, None)),
        ('{"type":"event","event":"e"}', GatewayEvent("e", None, None, None)),
    ],
)
def test_in_json_rpc_mode_both_forms_are_read(text: str, frame: object) -> None:
    assert decode(text, json_rpc=True) == frame


# --- what is written --------------------------------------------------------------------------


def test_a_request_is_written_compactly_and_as_utf_8() -> None:
    written = encode_request("r1", "chat.send", {"message": "grüß dich", "n": [1, 2.5, None]})
    assert (
        written
        == (
            '{"type":"req","id":"r1","method":"chat.send",'
            '"params":{"message":"grüß dich","n":[1,2.5,null]}}'
        ).encode()
    )


def test_params_of_none_leave_the_key_out() -> None:
    assert encode_request("r1", "health", None) == b'{"type":"req","id":"r1","method":"health"}'


@pytest.mark.parametrize("params", [{}, [], 0, False, ""])
def test_empty_params_are_written(params: object) -> None:
    assert json.loads(encode_request("r1", "m", params))["params"] == params


def test_a_json_rpc_request_has_the_form_of_the_specification() -> None:
    written = encode_request("r1", "health", [1], json_rpc=True)
    assert written == b'{"jsonrpc":"2.0","id":"r1","method":"health","params":[1]}'


@given(request_id=st.text(), method=st.text(min_size=1), params=json_values, json_rpc=st.booleans())
def test_what_is_written_reads_back_equal(
    request_id: str, method: str, params: object, json_rpc: bool
) -> None:
    written = encode_request(request_id, method, params, json_rpc=json_rpc)
    form = {"jsonrpc": "2.0"} if json_rpc else {"type": "req"}
    expected = form | {"id": request_id, "method": method}
    if params is not None:
        expected |= {"params": params}  # type: ignore[dict-item]
    frame = decode(b'{"type":"event","event":"echo","payload":' + written + b"}")
    assert frame == GatewayEvent("echo", expected, None, None)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = [SECRET]
    value.append(value)
    return value


@pytest.mark.parametrize(
    "params",
    [
        {SECRET},
        {"x": SECRET.encode()},
        {("tuple",): 1},
        object(),
        math.nan,
        [math.inf],
        {"x": -math.inf},
        {math.nan: 1},
        SECRET + "\ud800",
        {"\udfff": SECRET},
        nested(200_000),
        circular(),
        10**5000,
    ],
    ids=range(13),
)
@pytest.mark.parametrize("json_rpc", [False, True])
def test_params_that_json_cannot_write_are_invalid_and_not_shown(
    params: object, json_rpc: bool
) -> None:
    with pytest.raises(
        InvalidParams, match=r"^params of 'chat.send' cannot be written as JSON: \w+$"
    ) as caught:
        encode_request("r1", "chat.send", params, json_rpc=json_rpc)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("method", ["", None, 7, b"health", ["health"]])
def test_a_method_is_a_text_that_says_something(method: Any) -> None:
    with pytest.raises(InvalidParams, match="a method is a non-empty str"):
        encode_request("r1", method, None)


def test_a_method_that_utf_8_cannot_write_is_told_in_a_text_that_can_be_printed() -> None:
    with pytest.raises(InvalidParams) as caught:
        encode_request("r1", "health\ud800", None)
    assert str(caught.value).isprintable()


# --- single values ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (500, 0.5),
        (0.5, 0.0005),
        (3_600_000, 3600.0),
        (3_600_000.1, None),
        (3_600_001, None),
        (-1, None),
        (-0.1, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        (True, None),
        (False, None),
        ("500", None),
        (None, None),
        ([500], None),
    ],
)
def test_a_hint_in_milliseconds_is_believed_up_to_an_hour(
    value: object, seconds: float | None
) -> None:
    assert seconds_from_ms(value) == seconds


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (2**53 - 1, 2**53 - 1),
        (2**53, None),
        (10**400, None),
        (-1, None),
        (1.0, None),
        (True, None),
        ("1", None),
    ],
)
def test_a_whole_number_is_an_integer_that_javascript_can_count_to(
    value: object, number: int | None
) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize(
    ("value", "text"), [("x", "x"), (" ", " "), ("", None), (None, None), (7, None), (b"x", None)]
)
def test_a_text_is_a_str_that_is_not_empty(value: object, text: str | None) -> None:
    assert text_or_none(value) == text


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_nesting_is_bounded_by_a_limit_of_our_own(brackets: str) -> None:
    """The interpreter's limit depends on the caller's stack: a replay must not."""

    def event(depth: int) -> str:
        return f'{{"type":"event","event":"e","payload":{nested_text(depth - 1, brackets)}}}'

    assert isinstance(decode(event(DEEPEST)), GatewayEvent)
    with pytest.raises(InvalidFrame, match="deeper than 200"):
        decode(event(DEEPEST + 1))
    with pytest.raises(InvalidFrame, match="deeper than 200"):
        decode(event(200_000))


def test_a_wide_message_is_not_a_deep_one() -> None:
    wide = '{"type":"event","event":"e","payload":[' + ",".join(["{}"] * 1000) + "]}"
    assert isinstance(decode(wide), GatewayEvent)


def test_the_texts_of_an_error_are_bounded() -> None:
    error = {"code": "c" * 10_000, "message": "m" * 10_000}
    frame = decode(json.dumps({"type": "res", "id": "1", "ok": False, "error": error}))
    assert isinstance(frame, Response)
    assert frame.error is not None
    assert (len(frame.error.code), len(frame.error.message)) == (200, 2000)
