"""Taking the secrets out of a command line, and putting them back.

Rules kept here:

* `hide` and `restore` walk the same places in the same way, so that restoring what was hidden
  gives the same command line, whatever stands in it.
* The places: the value of each option that takes a secret, and of a URL, alone or as the value of
  any option, what stands before the ``@`` and from the ``?`` or ``#`` on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from butter_proto.secret import MASK

SECRET_OPTIONS: Final = ("--token", "--password", "--setup-code", "--header", "--proxy")
"""The options whose values nobody else may see."""
_URL: Final = re.compile(r"\s*(?:ws|http)s?://", re.IGNORECASE)
_QUERY: Final = re.compile(r"[?#]")


def hide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into what may be seen of it, and the secrets in their order."""
    secrets: list[str] = []

    def take(secret: str) -> str:
        secrets.append(secret)
        return MASK

    return list(_replaced(arguments, take)), secrets


def restore(visible: Sequence[str], secrets: Sequence[str]) -> list[str] | None:
    """Undo `hide`; None where these are not the secrets of this command line."""
    left = list(reversed(secrets))

    def put_back(mask: str) -> str:
        return left.pop() if mask == MASK else mask

    try:
        arguments = list(_replaced(visible, put_back))
    except IndexError:
        return None
    return None if left else arguments


def _replaced(arguments: Sequence[str], replace: Callable[[str], str]) -> Iterator[str]:
    """Yield the arguments with each secret replaced."""
    is_value = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if is_value:
            is_value = False
            yield replace(argument)
        elif name in SECRET_OPTIONS and equals:
            yield f"{name}={replace(value)}"
        elif _URL.match(argument):
            yield _replaced_in_url(argument, replace)
        elif name.startswith("-") and _URL.match(value):
            yield f"{name}={_replaced_in_url(value, replace)}"
        else:
            is_value = argument in SECRET_OPTIONS
            yield argument


def _replaced_in_url(url: str, replace: Callable[[str], str]) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    shown_user = replace(user) if at else ""
    shown_place = place
    if question := _QUERY.search(place):
        shown_place = place[: question.end()] + replace(place[question.end() :])
    return f"{scheme}{separator}{shown_user}{at}{shown_place}"
