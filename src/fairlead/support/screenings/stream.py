"""The stream that every engine gives: signs of life in silent gaps, a deadline, cancelling, an honest end.

An engine brings its work, which hands events over as it finds them, and keeps the course of its parts. Events
wait in a bounded queue, so a slow reader slows the engine down and memory stays small.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from enum import Enum

from fairlead.kernel.clock import utc_now
from fairlead.support.model import Unread
from fairlead.support.screenings.pace import Course
from fairlead.support.screenings.port import Ending, Event, Finished, Found, Gap, Plan, Progress

BATCH = 200  # findings handed over together
QUEUE = 32  # batches that wait for a slow reader
_WHY = {
    Ending.COMPLETE: "the engine's program ended",
    Ending.BROKEN: "the engine's program ended",
    Ending.CANCELLED: "cancelled",
    Ending.TIMED_OUT: "out of time",
}


class Mark(Enum):
    """What an engine hands over beside events."""

    PROGRESS = "progress"  # the course has changed


Put = Callable[[Event | Mark], Awaitable[None]]
_Queue = asyncio.Queue[Event | Mark | Ending]


async def streamed(
    plan: Plan,
    course: Course,
    work: Callable[[Put], Awaitable[Ending]],
    stop: asyncio.Event,
    *,
    deadline_s: float,
    heartbeat_s: float,
) -> AsyncIterator[Event]:
    """The events of `work` until it ends, `stop` is set or `deadline_s` is over, and then what is missing.

    `work` is cancelled in the last two cases and gives what it has not handed over to `course.left`. What it
    raises is raised here.
    """
    started, queue = utc_now(), _Queue(QUEUE)
    loop = asyncio.get_running_loop()
    yield course.progress(loop.time())
    for gap in plan.gaps:
        yield Gap(gap)

    async def worked() -> None:
        await queue.put(await work(queue.put))

    task, ending = asyncio.create_task(worked()), Ending.COMPLETE
    over: list[Event | Mark | Ending] = []  # taken from the queue when the end came
    try:
        deadline = course.began + deadline_s
        events = _until_end(queue, task, course, stop, deadline, heartbeat_s, over)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Ending):
                    ending = event
                else:
                    yield event
    finally:
        task.cancel()
        await asyncio.wait((task,))
    while not queue.empty():
        over.append(queue.get_nowait())
    for waiting in over:  # what was found before the end came
        if isinstance(waiting, Found | Gap):
            yield waiting
    if course.left:
        yield Found(tuple(course.left))
    for unreached in _unreached(course, ending):
        yield unreached
    yield course.progress(loop.time())
    yield Finished(
        ending=ending,
        started_at=started,
        finished_at=max(utc_now(), started),
        services=tuple(name for name in plan.services if name not in course.failed),
    )


async def _until_end(
    queue: _Queue,
    task: asyncio.Task[None],
    course: Course,
    stop: asyncio.Event,
    deadline: float,
    heartbeat_s: float,
    over: list[Event | Mark | Ending],
) -> AsyncGenerator[Event | Ending, None]:
    """Events as they come, heartbeats between them, and how it ended. Raises what ended `task`."""
    loop, told = asyncio.get_running_loop(), course.began
    stopped = asyncio.create_task(stop.wait())
    waiting: asyncio.Task[Event | Mark | Ending] = asyncio.create_task(queue.get())
    try:
        while not stop.is_set() and (left := deadline - loop.time()) > 0:
            await asyncio.wait(
                {waiting, stopped} | ({task} if not task.done() else set()),
                timeout=min(left, heartbeat_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if waiting.done():
                event = waiting.result()
                if isinstance(event, Ending):
                    yield event
                    return
                waiting = asyncio.create_task(queue.get())
            elif task.done():
                _raise(task)
                continue
            else:
                told = loop.time()
                yield course.progress(told, heartbeat=True)
                continue
            if not isinstance(event, Mark | Progress):
                yield event
            if isinstance(event, Mark) or loop.time() - told >= heartbeat_s:
                told = loop.time()  # told as it is now: what waited in the queue is behind
                yield course.progress(told)
        yield Ending.CANCELLED if stop.is_set() else Ending.TIMED_OUT
    finally:
        stopped.cancel()
        if not waiting.cancel() and not waiting.cancelled():
            over.append(waiting.result())


def _raise(task: asyncio.Task[None]) -> None:
    """What ended `task`; the first of several."""
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


def _unreached(course: Course, ending: Ending) -> Iterator[Gap]:
    """A gap for every part that was not read to its end, which takes its service from those that were."""
    for part in course.open.values():
        course.failed.add(part.service)
        reason = f"Not read to its end: {_WHY[ending]}."
        yield Gap(Unread(service=part.service, region=part.region, reason=reason))
