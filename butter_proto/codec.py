"""JSON text <-> Python values. The only importer of msgspec.

Rules kept here:

* The standard library is the authority: what msgspec refuses is read again by it, and msgspec
  writes only what both write alike. So which of them is used changes nothing but the speed.
* Numbers that are not finite are refused both ways; integers are bounded by CPython's own limit.
  Duplicate keys: the last one counts. Lone surrogates are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Never

import attrs

from butter_proto.errors import InvalidSettings
from butter_proto.settings import Json


@attrs.frozen
class Codec:
    """How JSON is read and written."""

    load: Callable[[str], Any]
    """Reads foreign JSON. Raises ValueError, or RecursionError for deep nesting."""
    dump: Callable[[Any], bytes]
    """Writes UTF-8. Raises whatever the value makes it raise."""


def codec_for(choice: Json) -> Codec:
    """Return the codec that settings ask for.

    Raises `InvalidSettings` for msgspec where it is not installed.
    """
    if choice is Json.STDLIB:
        return STDLIB
    try:
        return with_msgspec()
    except ImportError:
        if choice is Json.MSGSPEC:
            raise InvalidSettings(
                "json=MSGSPEC needs the extra: pip install 'openbutter[speed]'"
            ) from None
        return STDLIB


def load_json(text: str) -> Any:
    """Read foreign JSON, numbers finite. Raises ValueError, or RecursionError for deep nesting."""
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        end = -1
    # without white space around it, which the usual text has not, half the time is saved
    return value if end == len(text) else _DECODER.decode(text)


def _not_finite(_: str) -> Never:
    raise ValueError("not finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


_DECODER: Final = json.JSONDecoder(parse_constant=_not_finite, parse_float=_finite)
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)


def chunks_of_json() -> Callable[[Any, int], Iterable[str]]:
    """Return what `_ENCODER` makes anew for each value, where CPython has it: a third of its time.

    It writes all but a str, an int or a float that stands alone, as the encoder does.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value, _: _ENCODER.iterencode(value)
    quote = json.encoder.encode_basestring
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None,
        _ENCODER.default,
        quote,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
    return chunks


_CHUNKS: Final = chunks_of_json()


def _dump_json(value: Any) -> bytes:
    return "".join(_CHUNKS(value, 0)).encode()


STDLIB: Final = Codec(load_json, _dump_json)


def with_msgspec() -> Codec:
    """Return the codec that asks msgspec first. Raises ImportError where it is not installed."""
    import msgspec  # noqa: PLC0415 - an extra

    read = msgspec.json.Decoder().decode
    write = msgspec.json.Encoder().encode
    refused = (msgspec.MsgspecError, UnicodeError, RecursionError)

    def load(text: str) -> Any:
        try:
            return read(text)
        except refused:
            return load_json(text)

    def dump(value: Any) -> bytes:
        if _is_plain(value):
            try:
                return write(value)
            except (OverflowError, UnicodeError):  # an integer over 64 bits, a lone surrogate
                pass
        return _dump_json(value)

    return Codec(load, dump)


_PLAIN: Final = frozenset({str, int, bool, type(None)})
_DEEPEST_PLAIN: Final = 8


def _is_plain(value: Any, deepest: int = _DEEPEST_PLAIN) -> bool:
    """Tell whether both codecs write the same for a value: no floats, no types but JSON's own."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        inner = value.values()
    elif kind is list:
        inner = value
    else:
        return kind in _PLAIN
    for one in inner:  # loops, since a generator costs more than what is looked at
        if type(one) not in _PLAIN and (deepest == 0 or not _is_plain(one, deepest - 1)):
            return False
    return True
