"""What ``butter`` writes: lines for the operator on stderr, JSON for programs on stdout.

Rules kept here:

* Foreign text reaches a terminal only escaped: it obeys controls, and shows some marks as nothing.
* Writing raises for no text: what the stream's encoding lacks is written escaped. A stream that is
  not there (closed by whoever started us) takes nothing.
* A line for the operator that cannot be written is lost; a result that cannot is an error.
* A secret in a payload is masked if it is long enough to be one: a short one rewrites data.
"""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import suppress
from typing import Any

import click

from butter_proto.printable import printable
from butter_proto.secret import long_enough, redact
from butter_proto.settings import Settings

_UNPRINTABLE = re.compile(
    r"[\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)
"""Controls, direction marks, lone surrogates: JSON need not escape them, a terminal obeys them."""


def prepare_streams() -> None:
    """Let the streams of this process take every text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(text: str) -> None:
    """Show the operator one line, on stderr."""
    with suppress(OSError):
        click.echo(printable(text), err=True)


def masked(payload: Any, settings: Settings) -> Any:
    """Return a payload with the secrets of the settings masked."""
    return redact(payload, long_enough(settings.secrets))


def json_text(value: Any, indent: int | None = None) -> str:
    """Write JSON as readable as the output's encoding and a terminal's safety allow."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
    try:
        text.encode(sys.stdout.encoding if sys.stdout else "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
