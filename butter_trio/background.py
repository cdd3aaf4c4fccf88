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
    except BaseException:
        # a body that was cancelled, perhaps by the task's failure, has nothing of its own to say
        if raised is None or isinstance(raised, trio.Cancelled):
            raise
    if raised is not None:
        raise raised
