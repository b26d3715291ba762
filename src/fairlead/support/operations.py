"""What jobs do: answer a question, screen an account, make a month's report. All of them only read AWS.

    ask      enter the account → answer → `answer` or `clarify`
    screen   enter the account → read → compare with the one before, render, store → `report`
    report   enter the account → read the month → render, store → `report`

Every step may be executed again from its first line after a crash: files have the run's own place, a record
and the event that tells of it are one transaction, and what was told is not told again.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import Operation, RunCancelled, RunContext, StepFailed
from fairlead.support import records
from fairlead.support.errors_words import worded
from fairlead.support.model import JobKind
from fairlead.support.steps.ask import answered
from fairlead.support.steps.monthly import collected
from fairlead.support.steps.port import Job, SupportParts, kept
from fairlead.support.steps.screen import compared, screened

Act = Callable[[Job], Awaitable[dict[str, Any]]]


def operations(parts: SupportParts) -> tuple[Operation, ...]:
    """The operations of this capability, bound to the opened parts."""
    acts: dict[JobKind, Act] = {JobKind.ASK: _ask, JobKind.SCREEN: _screen, JobKind.REPORT: _report}
    return tuple(Operation(name=kind.operation, workflow=_bound(parts, act)) for kind, act in acts.items())


def _bound(
    parts: SupportParts, act: Act
) -> Callable[[RunContext, dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def workflow(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        job = Job.of(parts, ctx, params)
        try:
            await ctx.check_cancelled()
            result = await act(job)
        except FairleadError as error:
            await _give_up(job)
            telemetry.count(
                "fairlead_support_jobs_total", labels={"kind": ctx.run.kind, "outcome": error.code}
            )
            if error.code == RunCancelled.code:
                raise RunCancelled from error
            raise StepFailed(worded(error.problem(), job.language)) from error
        telemetry.count("fairlead_support_jobs_total", labels={"kind": ctx.run.kind, "outcome": "succeeded"})
        return result

    return workflow


async def _ask(job: Job) -> dict[str, Any]:
    said = await job.ctx.step("answer", answered, job)
    await job.ctx.event(f"support.{said['kind']}", said["data"], key="answer")
    return {"kind": said["kind"]}


async def _screen(job: Job) -> dict[str, Any]:
    read = await job.ctx.step("screen", screened, job)
    made = await job.ctx.step("render", compared, job)
    await job.ctx.step("store", kept, job, made)
    return {"kind": records.SCREENING, "record": job.ctx.run_id, **read, "counts": made["event"]["counts"]}


async def _report(job: Job) -> dict[str, Any]:
    made = await job.ctx.step("collect", collected, job)
    await job.ctx.step("store", kept, job, made)
    return {"kind": records.MONTHLY, "record": job.ctx.run_id, "complete": made["complete"]}


async def _give_up(job: Job) -> None:
    """No record will ever name the files of this run: they go, as far as the store lets us."""

    async def remove() -> None:
        if not await job.reading(lambda conn: records.exists(conn, job.ctx.run_id)):
            await records.remove_files(job.parts.objects, job.prefix)

    with suppress(StepFailed):
        await job.ctx.step("remove files", remove)
