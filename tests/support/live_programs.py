"""What the processes of the realtime tests do: an API server as composed, and a worker with small operations.

A question's text is its script, as JSON: how many `deltas` to tell, behind which one (`at`) to wait for the
file `gate`, whether to `fail`, how `long` each piece is.
"""

import asyncio
import json
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fairlead.api.server import serving
from fairlead.compose import open_fairlead, serving_app
from fairlead.kernel import telemetry
from fairlead.kernel.db import open_database
from fairlead.kernel.errors import Unavailable
from fairlead.kernel.runs import Operation, RunContext, worker
from fairlead.kernel.settings import RunSettings, Settings
from fairlead.support import socket_sessions, sockets  # noqa: F401 - before the fork, not after each
from fairlead.support.model import JobKind


class OutOfLuck(Unavailable):
    """Today nothing works."""

    code = "test.out_of_luck"


async def _gate(context: RunContext, path: Path) -> None:
    while not path.exists() and not await context.cancelled():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.02)


async def _tell(context: RunContext, event: str, number: int = 0, /, **data: Any) -> None:
    await context.event(f"support.{event}", data, key=f"{event}:{number}")


def operations(folder: Path) -> tuple[Operation, ...]:
    async def ask(context: RunContext, params: dict[str, Any]) -> None:
        script = json.loads(params["text"]) if params["text"].startswith("{") else {}

        async def work() -> None:
            await _tell(context, "progress", percent=5, stage="preparing")
            for number in range(script.get("deltas", 2)):
                await _tell(context, "delta", number, text=f"{number} " + "x" * script.get("long", 0))
                if number == script.get("at"):
                    await _gate(context, folder / script["gate"])
            if script.get("fail"):
                raise OutOfLuck(remedy="Try tomorrow.")
            if not await context.cancelled():
                await _tell(context, "answer", text="all of it", evidence={"account": params["account"]})

        await context.step("work", work)
        await context.check_cancelled()

    async def report(context: RunContext, params: dict[str, Any]) -> None:
        await _tell(
            context,
            "report",
            kind="monthly_report" if "month" in params else "screening",
            url=f"/support/reports/{context.run_id}/report.html",
            expires_at="2099-01-01T00:00:00Z",
            complete=True,
        )

    acts = {JobKind.ASK: ask, JobKind.SCREEN: report, JobKind.REPORT: report}
    return tuple(Operation(name=kind.operation, workflow=act) for kind, act in acts.items())


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    telemetry.configure()


async def _until_terminated() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


def serve(options: dict[str, Any], ready: Connection) -> None:
    """An API process; sends its address once it listens."""

    async def main() -> None:
        settings = Settings.model_validate(options["settings"])
        async with (
            open_fairlead(settings) as fairlead,
            serving_app(fairlead) as app,
            serving(app, host="127.0.0.1", port=options.get("port", 0)) as url,
        ):
            ready.send(url)
            await _until_terminated()

    _log_to(options["log"])
    asyncio.run(main())


def work(options: dict[str, Any], ready: Connection) -> None:
    """A worker process; sends "ready" once it executes runs."""

    async def main() -> None:
        database = open_database(options["url"])
        settings = RunSettings(poll_s=0.05, liveness_interval_s=0.5)
        async with worker(database, operations(Path(options["folder"])), settings):
            ready.send("ready")
            await _until_terminated()
        database.close()

    _log_to(options["log"])
    asyncio.run(main())
