"""What a worker process of the tests executes.

Its operations write what they do, one line each, to the file `effects`; they wait for files
(gates) instead of sleeping, and kill their own process where the parameters say so, once.
"""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fairlead.kernel import telemetry
from fairlead.kernel.db import open_database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import Operation, RunContext, worker
from fairlead.kernel.settings import RunSettings


class OutOfPaint(FairleadError):
    """There is no paint left."""

    code, status, retryable = "test.out_of_paint", 409, False


class Effects:
    """The outside world: one file of lines, and gates that tests open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, *words: object) -> None:
        line = " ".join(str(word) for word in words) + f" pid={os.getpid()} at={time.time():.4f}\n"
        with (self.folder / "effects").open("a") as file:
            file.write(line)

    async def gate(self, name: str | None) -> None:
        while name is not None and not (self.folder / name).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def die_once(self, mark: str) -> None:
        path = self.folder / f"died-{mark.replace('/', '-')}"
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def operations(effects: Effects) -> tuple[Operation, ...]:  # noqa: C901 - one closure per operation
    async def echo(context: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        async def work() -> Any:
            effects.note("echo", context.run_id)
            return {"pair": (1, 2), "params": params}

        first = await context.step("work", work)
        await context.event("test.echoed", {"pair": first["pair"]}, key="echoed")
        await context.event("test.echoed", {"pair": "again"}, key="echoed")
        return {"kind": type(first["pair"]).__name__, "params": first["params"], "actor": context.actor}

    async def fail(_context: RunContext, params: dict[str, Any]) -> None:
        async def work() -> None:
            if params["how"] == "expected":
                raise OutOfPaint("The bucket is empty.", remedy="Buy paint.", colour="red")
            if params["how"] == "cancelled":
                raise asyncio.CancelledError  # a library's scope that leaks
            raise ValueError("hunter2 is the password")

        if params["where"] == "step":
            await _context.step("work", work)
        await work()

    async def wait(context: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        message = await context.wait_for("decision", datetime.fromisoformat(params["deadline"]))
        if message is None:
            return {"decision": None}
        second = params.get("second")
        return {"decision": message, "second": second and await context.wait_for("more", _moment(second))}

    async def graph(context: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        dependencies: Mapping[str, list[str]] = params["graph"]

        async def node(name: str, results: Mapping[str, Any]) -> Any:
            effects.note("begin", context.run_id, name)
            await context.event("test.node", {"node": name}, key=f"begin:{name}")
            await effects.gate(params.get("gates", {}).get(name))
            if name in params.get("die", ()):
                effects.die_once(f"{context.run_id}/{name}")
            if name in params.get("fail", ()):
                raise OutOfPaint
            effects.note("end", context.run_id, name)
            return sorted({name, *(seen for result in results.values() for seen in result)})

        async with context.project_lock():
            outcomes = await context.gather_dag(dependencies, node, parallelism=params.get("parallelism", 4))
        return {
            name: [outcome.status, outcome.result, (outcome.problem or {}).get("code")]
            for name, outcome in sorted(outcomes.items())
        }

    async def exclusive(context: RunContext, params: dict[str, Any]) -> None:
        async def work() -> None:
            effects.note("begin", context.project_id, context.run_id)
            await effects.gate(params.get("gate"))
            await asyncio.sleep(0.03)  # long enough for an overlap to show
            effects.note("end", context.project_id, context.run_id)

        await context.step("work", work)

    async def patient(context: RunContext, _params: dict[str, Any]) -> None:
        async def work() -> None:
            while not await context.cancelled():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        await context.step("work", work)
        await context.check_cancelled()

    async def steps(context: RunContext, params: dict[str, Any]) -> None:
        for number in range(params["steps"]):

            async def work(number: int = number) -> None:
                effects.note("begin", context.run_id, number)
                await effects.gate(f"gate-{number}" if number in params["gates"] else None)
                effects.note("end", context.run_id, number)

            await context.step(f"step {number}", work)

    async def hang(_context: RunContext, _params: dict[str, Any]) -> None:
        effects.note("hangs")
        time.sleep(300)  # noqa: ASYNC251 - the fault under test

    named = (echo, fail, wait, graph, patient, steps, hang)
    return (
        *(Operation(name=f"test.{act.__name__}", workflow=act) for act in named),
        Operation(name="test.exclusive", workflow=exclusive, partition_by_project=True),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def main(options: dict[str, Any], ready: Connection) -> None:
    telemetry.configure()
    effects = Effects(Path(options["folder"]))
    database = open_database(options["url"])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = RunSettings(poll_s=0.05, liveness_interval_s=options.get("liveness_interval_s", 0.5))
    async with worker(
        database,
        operations(effects),
        settings,
        executor_id=options["executor_id"],
        hang_s=options.get("hang_s", 60.0),
        grace_s=options.get("grace_s", 10.0),
    ):
        ready.send("ready")
        await stop.wait()
    database.close()


def run(options: dict[str, Any], ready: Connection) -> None:
    """The process: says "ready" once it executes runs; logs to the file that `options` name."""
    log = os.open(options["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    asyncio.run(main(options, ready))
