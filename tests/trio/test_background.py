"""A task beside the body: it never outlives it, and the body's exceptions stay what they are."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from butter_trio.background import background
from tests.trio.scenario import Oops, tasks_living, virtual_time


@virtual_time
async def test_the_task_runs_beside_the_body_and_is_cancelled_with_it() -> None:
    before = tasks_living()
    started = trio.Event()

    async def task() -> None:
        started.set()
        await trio.sleep_forever()

    async with background(task):
        await started.wait()
    assert tasks_living() == before


@virtual_time
async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(Oops):
        async with background(trio.sleep_forever):
            raise Oops


@virtual_time
async def test_what_the_task_raises_comes_out_in_a_group() -> None:
    async def task() -> None:
        raise Oops

    with pytest.raises(ExceptionGroup) as caught:
        async with background(task):
            await trio.sleep_forever()
    assert caught.group_contains(Oops)


@virtual_time
async def test_a_cancelled_body_stays_cancelled() -> None:
    with trio.move_on_after(1) as scope:
        async with background(trio.sleep_forever):
            await trio.sleep(10)
    assert scope.cancelled_caught


@virtual_time
async def test_an_exception_of_a_body_that_cleans_up_after_a_cancellation_is_not_lost() -> None:
    async def body() -> None:
        async with background(trio.sleep_forever):
            try:
                await trio.sleep_forever()
            finally:
                raise Oops

    with pytest.raises(Oops), trio.move_on_after(1):
        await body()


@pytest.mark.parametrize("raised", [True, False])
def test_end_is_told_how_the_body_was_left_and_the_task_may_finish(raised: bool) -> None:
    told = []

    @virtual_time
    async def scenario() -> None:
        asked = trio.Event()

        async def task() -> None:
            await asked.wait()
            await trio.sleep(5)

        def end(raised: bool) -> None:
            told.append(raised)
            asked.set()

        with suppress(Oops):
            async with background(task, end):
                if raised:
                    raise Oops
        assert trio.current_time() == 5

    scenario()
    assert told == [raised]


@virtual_time
async def test_what_the_task_raises_is_not_lost_behind_what_the_body_raises() -> None:
    async def fail() -> None:
        raise Oops

    async def body() -> None:
        async with background(fail):
            try:
                await trio.sleep_forever()
            finally:
                raise ConnectionError

    with pytest.raises(BaseExceptionGroup) as caught:
        await body()
    assert caught.group_contains(Oops)
    assert caught.group_contains(ConnectionError)


@virtual_time
async def test_what_the_task_raises_comes_out_of_a_body_with_a_nursery_of_its_own() -> None:
    async def fail() -> None:
        raise Oops

    async def body() -> None:
        async with background(fail), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await body()
    assert caught.group_contains(Oops)
