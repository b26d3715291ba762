"""Executes runs: one worker per process, any number of processes per database."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from secrets import token_hex
from typing import Any

from dbos import StepReservation

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import binding, locks, store
from fairlead.kernel.runs.context import RunContext, Shift, really_cancelled
from fairlead.kernel.runs.errors import (
    NotExclusive,
    OperationUnknown,
    RunCancelled,
    RunInternal,
    WorkerIdTaken,
)
from fairlead.kernel.runs.liveness import HANG_S, WORKERS, Liveness, lock_name
from fairlead.kernel.runs.model import Operation, Outcome, Run, RunStatus
from fairlead.kernel.runs.service import Runs, open_runs
from fairlead.kernel.settings import RunSettings

GRACE_S = 10.0  # how long steps in progress may go on when a worker is asked to stop
PRUNE_EVERY_S = 3600.0
PRUNE_BATCH = 200


@asynccontextmanager
async def worker(
    database: Database,
    operations: Sequence[Operation],
    settings: RunSettings,
    *,
    executor_id: str | None = None,
    grace_s: float = GRACE_S,
    hang_s: float = HANG_S,
) -> AsyncIterator[str]:
    """Execute runs of `operations` until the block ends; yields the executor id.

    Workflows run on this event loop, so resources opened on it may be used in steps. At the end no
    step begins any more, those in progress get `grace_s` seconds, and unfinished runs go on in
    another worker or the next one. Only one worker may be open in a process.
    Raises WorkerIdTaken where a live process has this `executor_id`.
    """
    executor_id = executor_id or f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        runs = await asyncio.to_thread(open_runs, database)
        stack.callback(runs.close)
        held = locks.Locks(database)
        stack.callback(held.release_all)
        # Before launch: from then on runs carry our name, and who has that name must be alive.
        if not await asyncio.to_thread(held.take, lock_name(executor_id)):
            raise WorkerIdTaken(f"A live worker has the executor id {executor_id!r}.")
        stack.callback(held.release, lock_name(executor_id), for_good=True)
        await asyncio.to_thread(held.take, WORKERS, shared=True)
        await asyncio.to_thread(binding.register_queues, runs.client, settings)
        shift = Shift(runs, held)
        # The engine replaces the loop's default threads by its own, which end with it.
        stack.callback(lambda: loop.set_default_executor(ThreadPoolExecutor()))
        stack.push_async_callback(_in_own_thread, binding.shut_down)
        binding.launch(database, settings, executor_id, _body(shift, operations))
        liveness = Liveness(
            database, held, executor_id, interval_s=settings.liveness_interval_s, loop=loop, hang_s=hang_s
        )
        liveness.start()
        stack.push_async_callback(_in_own_thread, liveness.stop)
        retention = asyncio.create_task(_retain(runs, timedelta(days=settings.retention_days)))
        stack.push_async_callback(_stop_task, retention)
        stack.push_async_callback(_end_shift, shift, grace_s)
        telemetry.log.info("worker.started", executor_id=executor_id)
        yield executor_id


def _body(shift: Shift, operations: Sequence[Operation]) -> Callable[[str], Coroutine[Any, Any, None]]:
    known = {operation.name: operation for operation in operations}

    async def execute(run_id: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        shift.tasks.add(task)
        try:
            await _execute(shift, known, run_id)
        finally:
            shift.tasks.discard(task)

    return execute


async def _execute(shift: Shift, known: dict[str, Operation], run_id: str) -> None:
    if shift.ending:
        raise asyncio.CancelledError
    # Its place is fixed before the workflow's own steps, however many a replay comes to.
    finish = binding.reserve_step()
    run = await shift.in_transaction(lambda c: store.begin(c, run_id))
    if run.status.final:
        return
    outcome = await _attempt(RunContext(run, shift), known.get(run.kind))

    with shift.busy():
        await _finish(shift, run, finish, outcome)


async def _finish(shift: Shift, run: Run, place: StepReservation, outcome: Outcome) -> None:
    async def record() -> dict[str, Any]:
        return asdict(outcome)

    # A checkpoint is refused to a worker that no longer owns the run: only its owner ends it.
    recorded = await place.run_async({"name": "finish"}, record)
    final = Outcome(**{**recorded, "status": RunStatus(recorded["status"])})
    if await shift.in_transaction(lambda c: store.finish(c, run.id, final)):
        code = (final.error or {}).get("code")
        telemetry.count("fairlead_runs_finished_total", labels={"status": final.status})
        telemetry.log.info("run.finished", run_id=run.id, kind=run.kind, status=final.status, code=code)


async def _attempt(context: RunContext, operation: Operation | None) -> Outcome:
    """The run's end, whatever happens in it. Raises only where the run goes on elsewhere."""
    run = context.run
    try:
        _check(run, operation)
        assert operation is not None
        result = await operation.workflow(context, dict(run.params))
        return Outcome(status=RunStatus.SUCCEEDED, result=store.plain(result or {}))
    except FairleadError as error:
        if error.code == RunCancelled.code:
            return Outcome(status=RunStatus.CANCELLED)
        return Outcome(status=RunStatus.FAILED, error=store.plain(error.problem()))
    except Exception as error:  # noqa: BLE001 - this is where a run's failure is recorded
        return _unexpected(run, error)
    except asyncio.CancelledError as error:
        if really_cancelled(context.shift):
            raise
        return _unexpected(run, error)


def _check(run: Run, operation: Operation | None) -> None:
    if operation is None:
        raise OperationUnknown(
            f"This worker knows no operation {run.kind!r}.", remedy="Run workers of the same release."
        )
    if operation.partition_by_project and run.partition != run.project_id:
        raise NotExclusive(
            f"Runs of {run.kind!r} must be submitted with their project as partition.",
            remedy="This is a fault in Fairlead: report it.",
        )


def _unexpected(run: Run, error: BaseException) -> Outcome:
    telemetry.log.error("run.failed", run_id=run.id, kind=run.kind, exc_info=error)
    return Outcome(status=RunStatus.FAILED, error=RunInternal().problem())


async def _end_shift(shift: Shift, grace_s: float) -> None:
    shift.ending = True
    telemetry.log.info("worker.stopping", steps=shift.steps)
    binding.quieten(logging.ERROR)
    try:
        async with asyncio.timeout(grace_s):
            await shift.idle.wait()
    except TimeoutError:
        shift.locks.keep()  # a thread cannot be cut short and may be in the middle of an effect
        telemetry.log.warning("worker.steps_cut_short", steps=shift.steps)
    tasks = list(shift.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _retain(runs: Runs, keep: timedelta) -> None:
    while True:
        try:
            while await _in_own_thread(runs.prune, utc_now() - keep, PRUNE_BATCH) == PRUNE_BATCH:
                pass
        except Exception as error:  # noqa: BLE001 - tried again; a worker does not stop for this
            telemetry.log.warning("run.prune_failed", error=type(error).__name__)
        await asyncio.sleep(PRUNE_EVERY_S)


async def _in_own_thread(act: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(max_workers=1) as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, act, *args)


async def _stop_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
