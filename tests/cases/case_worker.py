"""A worker process that executes cases only.

It kills itself in the moment in which one of the given events ("beam.started", "case.step:convert:begun") is
written, once for each: before its transaction commits, or with the suffix `!` right after.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from fairlead.cases import machine
from fairlead.cases.health import observe
from fairlead.cases.intake import Watched, watch
from fairlead.cases.operations import operations
from fairlead.cases.places import open_places
from fairlead.cases.steps.port import CaseParts, Turns, Work
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel import clock, telemetry
from fairlead.kernel.db import open_database
from fairlead.kernel.objects import open_objects
from fairlead.kernel.runs import open_runs, worker
from fairlead.kernel.settings import CaseHostSettings, CasesSettings, RunSettings

PROJECT = "clinic"


def case_settings(folder: Path, **values: Any) -> CasesSettings:
    """Two places on this machine, and no waiting that a test would feel."""
    host = CaseHostSettings(name="here", work_dir=str(folder / "host"), python=sys.executable, slots=2)
    given = {"scan": {PROJECT: folder / "scan"}, "hosts": (host,), "stability_s": 0.1, "rescan_s": 0.3}
    return CasesSettings(**{**given, "fraction_wait_s": 0.0, **values})


def die_at(events: Sequence[str], folder: Path) -> None:
    """Make this process kill itself at each of `events` that no former one has died at."""
    change = Work.change

    def die_once(event: str) -> None:
        mark = folder / f"died-{event}"
        if event in events and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async def changing(
        self: Work, type_: str, data: Mapping[str, Any], *, key: str, act: Callable[[sa.Connection], Any]
    ) -> Any:
        names = (type_, f"{type_}:{data.get('step')}:{data.get('state')}")

        def dying(conn: sa.Connection) -> Any:
            done = act(conn)
            for name in names:
                die_once(name)
            return done

        result = await change(self, type_, data, key=key, act=dying)
        for name in names:
            die_once(f"{name}!")
        return result

    Work.change = changing  # type: ignore[method-assign,assignment]


def set_clock(ahead_s: float) -> None:
    """Make this process's wall clock wrong, as that of another machine may be."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time() + ahead_s, tz)

    clock.datetime = Wrong  # type: ignore[attr-defined]


def main(folder: Path, events: Sequence[str], ahead_s: float = 0.0) -> None:
    """The process, from its first line."""
    if ahead_s:
        set_clock(ahead_s)
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    telemetry.configure(level="info", form="text")
    die_at(events, folder)
    asyncio.run(_work(folder))


async def _work(folder: Path) -> None:
    settings = CasesSettings.model_validate_json((folder / "settings.json").read_text())
    async with AsyncExitStack() as stack:
        database = open_database((folder / "database").read_text())
        stack.callback(database.close)
        runs = open_runs(database)
        stack.callback(runs.close)
        (folder / "work").mkdir(exist_ok=True)
        parts = CaseParts(
            database=database,
            objects=open_objects((folder / "objects").absolute().as_uri()),
            machine=machine.load(),
            places=await stack.enter_async_context(open_places(settings.hosts)),
            settings=settings,
            criteria=VerdictCriteria(),
            work=folder / "work",
            calculating=Turns(1),
        )
        run_settings = RunSettings(poll_s=0.05, liveness_interval_s=0.2)
        await stack.enter_async_context(worker(database, operations(parts), run_settings))
        observing = asyncio.create_task(observe(parts))
        stack.callback(observing.cancel)
        port = stack.enter_context(telemetry.serving_metrics(0))
        (folder / "metrics-port").write_text(str(port))
        watched = Watched(
            database=database,
            runs=runs,
            scan=settings.scan,
            stability_s=settings.stability_s,
            rescan_s=settings.rescan_s,
        )
        await watch(watched)
