"""Running a task beside the body of an ``async with``, with the body's exceptions left alone.

Rules kept here:

* The task never outlives the block.
* What the body raises comes out as it is, not in the nursery's exception group; what the task
  raises is trio's to tell, in a group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background(
    task: Callable[[], Awaitable[None]], end: Callable[[bool], None] | None = None
) -> AsyncIterator[None]:
    """Run ``task`` for as long as the ``async with`` lasts.

    When the body is done, ``end(raised)`` asks the task to finish and the block waits for that;
    without ``end`` the task is cancelled.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again, outside the group
                raised = error
            if end is None:
                nursery.cancel_scope.cancel()
            else:
                end(raised is not None)
    except BaseExceptionGroup as group:
        if raised is None or (_is_cancelled(raised) and not _is_cancelled(group)):
            raise  # a body that the task's failure cancelled has nothing of its own to say
        if not _is_cancelled(group):
            both = [raised, *group.exceptions]
            raise BaseExceptionGroup("the body and its background task failed", both) from None
    if raised is not None:
        raise raised


def _is_cancelled(error: BaseException) -> bool:
    """Tell whether this is nothing but cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)
