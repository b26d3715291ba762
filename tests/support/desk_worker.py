"""A worker process that does jobs of `support` only.

It kills itself (kill -9) in the moment in which one of the given events is written: before its transaction
commits, or with the suffix `!` when the next one is about to be. `support.progress#4` is the fourth of its
type. Each kills one process only.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.kernel import telemetry
from fairlead.kernel.db import open_database
from fairlead.kernel.objects import open_objects
from fairlead.kernel.runs import Event, worker
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.settings import RunSettings, Settings
from fairlead.support.opening import open_parts
from fairlead.support.operations import operations

RUN_SETTINGS = RunSettings(poll_s=0.05, liveness_interval_s=0.2)


def die_at(events: Sequence[str], folder: Path) -> None:
    """Make this process kill itself at each of `events` that no former one has died at."""
    append, seen, due = run_store.append, Counter[str](), set[str]()

    def die_once(name: str) -> None:
        mark = folder / f"died-{name}"
        if name in events and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def appending(
        connection: sa.Connection, run_id: str, type_: str, data: Mapping[str, Any], key: str | None = None
    ) -> Event:
        for name in due:
            die_once(f"{name}!")
        event = append(connection, run_id, type_, data, key)
        seen[type_] += 1
        names = {type_, f"{type_}#{seen[type_]}"}
        for name in names:
            die_once(name)
        due.update(names)
        return event

    run_store.append = appending


def main(folder: Path, url: str, settings: Settings, events: Sequence[str]) -> None:
    """The process, from its first line."""
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    telemetry.configure(level="info", form="json")
    die_at(events, folder)
    asyncio.run(_work(folder, url, settings))


async def _work(folder: Path, url: str, settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        database = open_database(url)
        stack.callback(database.close)
        objects = open_objects((folder / "objects").absolute().as_uri())
        parts = await stack.enter_async_context(open_parts(settings, database, objects))
        await stack.enter_async_context(worker(database, operations(parts), RUN_SETTINGS))
        await asyncio.Event().wait()
