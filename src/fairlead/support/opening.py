"""What jobs stand on, opened by the first job that needs it: a worker that nobody asks starts without it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fairlead.kernel import telemetry, toolenv
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.settings import Settings
from fairlead.support.answers.tools import SERVERS
from fairlead.support.steps.port import SupportParts, loaded

if TYPE_CHECKING:
    from fairlead.support.access import Accesses, AccountAccess
    from fairlead.support.answers.pool import Toolsets
    from fairlead.support.screenings.port import ScreeningEngine

T = TypeVar("T")


@asynccontextmanager
async def open_parts(
    settings: Settings, database: Database, objects: ObjectStore
) -> AsyncIterator[SupportParts]:
    """What jobs need; nothing is asked of AWS, and no program started, before a job asks for it."""

    @asynccontextmanager
    async def accesses() -> "AsyncIterator[Accesses]":
        opening = await asyncio.to_thread(loaded, _import_accesses)
        async with opening(settings, database=database) as opened:
            yield opened

    @asynccontextmanager
    async def toolsets() -> "AsyncIterator[Toolsets]":
        opening = await asyncio.to_thread(loaded, _import_toolsets)
        async with opening(settings) as opened:
            yield opened

    async def engine(name: str, access: "AccountAccess") -> "ScreeningEngine":
        return await asyncio.to_thread(loaded, partial(_engine, name, access, settings))

    async with AsyncExitStack() as stack:
        yield SupportParts(
            database=database,
            objects=objects,
            settings=settings.support,
            accesses=await stack.enter_async_context(late(accesses)),
            toolsets=await stack.enter_async_context(late(toolsets)),
            engine=engine,
        )


async def warm(toolenvs: Path) -> None:
    """Import and install what answers will need, so that the first question does not wait for it."""
    for load in (_import_accesses, _import_toolsets, _import_answers):
        await asyncio.to_thread(loaded, load)
    for server in SERVERS:
        try:
            await asyncio.to_thread(toolenv.ensure, server, root=toolenvs)
        except FairleadError as error:  # the question that needs it tries again, and says why
            telemetry.log.warning("support.tool_server_not_installed", server=server, code=error.code)


# Their libraries take seconds to import; in a thread the other jobs go on meanwhile.


def _import_accesses() -> "Callable[..., AbstractAsyncContextManager[Accesses]]":
    from fairlead.support.access import open_accesses

    return open_accesses


def _import_toolsets() -> "Callable[..., AbstractAsyncContextManager[Toolsets]]":
    from fairlead.support.answers.pool import open_toolsets

    return open_toolsets


def _import_answers() -> None:
    import fairlead.support.answers.loop
    import fairlead.support.screenings  # noqa: F401


def _engine(name: str, access: "AccountAccess", settings: Settings) -> "ScreeningEngine":
    from fairlead.support.screenings import engine, workshop

    return engine(name, access, workshop(settings))


@asynccontextmanager
async def late(
    opening: Callable[[], AbstractAsyncContextManager[T]],
) -> AsyncIterator[Callable[[], Awaitable[T]]]:
    """Gives a function whose first call opens; all that call meanwhile wait, later ones get the same.

    A task of its own opens and closes, because libraries insist that one task does both. Where opening
    fails, all that wait are told, and the next call tries again.
    """
    ending = asyncio.Event()
    holding: list[tuple[asyncio.Task[None], asyncio.Future[T]]] = []

    async def hold(opened: "asyncio.Future[T]") -> None:
        try:
            async with opening() as value:
                opened.set_result(value)
                await ending.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def get() -> T:
        if not holding or _failed(holding[-1][1]):
            opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            holding.append((asyncio.create_task(hold(opened)), opened))
        return await asyncio.shield(holding[-1][1])

    try:
        yield get
    finally:
        ending.set()
        for task, opened in holding:
            if not opened.done():
                task.cancel()
        await asyncio.gather(*(task for task, _ in holding), return_exceptions=True)


def _failed(opened: "asyncio.Future[T]") -> bool:
    return opened.done() and (opened.cancelled() or opened.exception() is not None)
