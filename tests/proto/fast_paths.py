"""The fast paths, and how tests do without them: what is told must not depend on them.

A fast path is added to `FAST_PATHS`, as what switches it off for a while. The properties, the fuzzer
and ``pytest --without-fast-paths`` then know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final
from unittest.mock import patch

from butter_proto import codec
from butter_proto.connection import Connection
from butter_proto.websocket import WebSocketLink


@contextmanager
def without_the_lane() -> Iterator[None]:
    """Let wsproto read every frame."""
    with patch.object(WebSocketLink, "fast_lane", new=False):
        yield


@contextmanager
def without_the_event_lane() -> Iterator[None]:
    """Let `Connection` look at every event."""
    with patch.object(Connection, "event_lane", new=False):
        yield


@contextmanager
def without_msgspec() -> Iterator[None]:
    """Let the standard library read and write all JSON, whoever asks for msgspec."""
    with patch.object(codec, "with_msgspec", new=lambda: codec.STDLIB):
        yield


FAST_PATHS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "the lane": without_the_lane,
    "the event lane": without_the_event_lane,
    "msgspec": without_msgspec,
}


@contextmanager
def without_any() -> Iterator[None]:
    """Switch all of them off."""
    with ExitStack() as stack:
        for off in FAST_PATHS.values():
            stack.enter_context(off())
        yield
