"""What a run of `cases` does: one round of one case, from its folder to a verdict.

    validate → group → (wait for deliveries) → interpret → transfer → run and collect each beam
             → convert → verify → clean up

The workflow decides from recorded results only; every step finds what an interrupted execution left.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.cases import gpus, store
from fairlead.cases.intake import CASE, DELIVERIES, start
from fairlead.cases.steps import collect, compute
from fairlead.cases.steps.cleanup import CLEANUP, remove_marked, sweep
from fairlead.cases.steps.convert import CONVERT
from fairlead.cases.steps.group import GROUP
from fairlead.cases.steps.interpret import INTERPRET
from fairlead.cases.steps.port import CaseParts, Step, Work, attempts, execute, timed
from fairlead.cases.steps.transfer import TRANSFER
from fairlead.cases.steps.validate import VALIDATE
from fairlead.cases.steps.verify import REJECT, VERIFY
from fairlead.cases.store import BeamStatus, CaseStatus
from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Conflict, FairleadError
from fairlead.kernel.runs import NodeStatus, Operation, RunCancelled, RunContext, StepFailed
from fairlead.kernel.runs import store as run_store

MOST_WAITS = 100  # how often deliveries may wake a case that waits
TEND_S, RETAIN_EVERY, SWEEP_EVERY = 15.0, 240, 60
BEAMS_AT_ONCE = 64  # of one case; hosts decide how many really run


class BeamsFailed(Conflict):
    """Not every beam could be calculated."""

    code = "cases.beams_failed"


def operations(parts: CaseParts) -> tuple[Operation, ...]:
    """The operations of this capability, bound to the opened parts."""

    async def case(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return await _case_workflow(Work(parts, ctx, str(params["case"]), int(params["round"])))

    return (Operation(name=CASE, workflow=case),)


async def _case_workflow(work: Work) -> dict[str, Any]:
    try:
        checked = await _checked(work)
        verdict = await (_calculated(work, checked) if checked["valid"] else _step(work, REJECT))
        await _step(work, CLEANUP)
        return dict(await work.ctx.step("finish", _finish, work, verdict, checked["content"]))
    except RunCancelled:
        await _stopped(work)
        raise
    except (StepFailed, BeamsFailed) as error:
        if error.code == RunCancelled.code:
            await _stopped(work)
            raise RunCancelled from error
        await work.ctx.step("give up", _give_up, work, error.problem())
        raise


async def _step(work: Work, step: Step) -> Any:
    return await work.ctx.step(step.name, execute, step, work)


async def _checked(work: Work) -> dict[str, Any]:
    """Validated and grouped, once no fraction waits for deliveries any more."""
    for _ in range(MOST_WAITS):
        checked = dict(await _step(work, VALIDATE))
        if not checked["valid"]:
            return checked
        grouped = await _step(work, GROUP)
        if grouped["wait_until"] is None:
            return checked
        # Deliveries, or the deadline, end the wait; the deliveries are then read like the first ones.
        await work.ctx.wait_for(DELIVERIES, datetime.fromisoformat(grouped["wait_until"]))
    return checked


async def _calculated(work: Work, checked: Mapping[str, Any]) -> Any:
    await _step(work, INTERPRET)
    await _step(work, TRANSFER)
    await work.ctx.step("run", _begin_run, work)

    async def beam(node: str, _: Mapping[str, Any]) -> Any:
        number = int(node)
        return await attempts("run", lambda: _one_beam(work, number), work)

    nodes: dict[str, tuple[str, ...]] = {str(number): () for number in checked["beams"]}
    outcomes = await work.ctx.gather_dag(nodes, beam, parallelism=BEAMS_AT_ONCE, name="beam")
    if any(outcome.status is NodeStatus.CANCELLED for outcome in outcomes.values()):
        raise RunCancelled
    problems = {node: outcome.problem for node, outcome in outcomes.items() if outcome.problem}
    if problems:
        raise _beams_failed(problems)
    await _step(work, CONVERT)
    return await _step(work, VERIFY)


async def _one_beam(work: Work, beam: int) -> Any:
    with timed("run"):
        calculated, ended = await compute.run(work, beam)
    with timed("collect"):
        return await collect.run(work, calculated, ended)


async def _begin_run(work: Work) -> None:
    await work.check_cancelled()
    await work.change(
        "case.step",
        {"step": "run", "state": "begun"},
        key="run:begun",
        act=lambda conn: store.update_case(conn, work.case_id, utc_now(), step="run"),
    )


def _beams_failed(problems: Mapping[str, Any]) -> BeamsFailed:
    first = problems[min(problems, key=int)]
    return BeamsFailed(
        f"{len(problems)} of the case's beams could not be calculated: {first['detail']}",
        remedy=first.get("remedy"),
        beams=sorted(int(beam) for beam in problems),
        first=first,
    )


async def _finish(work: Work, verdict: Mapping[str, Any], content: str) -> dict[str, Any]:
    """The case has a verdict. Where deliveries arrived meanwhile it begins anew at once."""

    def act(conn: sa.Connection) -> dict[str, Any]:
        now = utc_now()
        case = store.by_id(conn, work.case_id, lock=True)
        result = {"number": case.number, "verdict": verdict["verdict"], "pass_rate": verdict["pass_rate"]}
        if case.round != work.round or case.status.final:
            return result
        store.end_beams(conn, work.case_id, work.round, BeamStatus.CANCELLED, now)
        store.update_case(
            conn, case.id, now, status=CaseStatus.COMPLETED, step="done", progress=1.0, finished_at=now
        )
        if case.content != content:
            start(conn, work.ctx.runs, store.reopen(conn, store.by_id(conn, case.id), now), work.ctx.actor)
        return result

    result = await work.change("case.finished", dict(verdict), key="finished", act=act)
    telemetry.count("fairlead_cases_finished_total", labels={"outcome": str(verdict["verdict"])})
    return result


async def _give_up(work: Work, problem: dict[str, Any]) -> None:
    """The case has failed: stop what still runs, then say so, beams included, in one transaction."""
    await attempts("stop", lambda: compute.stop(work), work, heed_cancel=False)
    await _ended(work, CaseStatus.FAILED, BeamStatus.FAILED, "case.failed", problem)
    telemetry.count("fairlead_cases_finished_total", labels={"outcome": "failed"})
    first = problem.get("details", {}).get("first") or problem
    telemetry.count("fairlead_case_failures_total", labels={"code": str(first["code"])})


async def _stopped(work: Work) -> None:
    await work.ctx.step("stop", _stop, work)


async def _stop(work: Work) -> None:
    await attempts("stop", lambda: compute.stop(work), work, heed_cancel=False)
    await _ended(work, CaseStatus.CANCELLED, BeamStatus.CANCELLED, "case.cancelled", None)
    telemetry.count("fairlead_cases_finished_total", labels={"outcome": "cancelled"})


async def _ended(
    work: Work, status: CaseStatus, beams: BeamStatus, event: str, problem: dict[str, Any] | None
) -> None:
    def act(conn: sa.Connection) -> None:
        end_case(conn, work.case_id, work.round, status, beams, problem)

    data = {"code": problem["code"]} if problem else {}
    await work.change(event, data, key="ended", act=act)
    work.parts.waiters.wake()


def end_case(
    conn: sa.Connection,
    case_id: str,
    round_: int,
    status: CaseStatus,
    beams: BeamStatus,
    problem: dict[str, Any] | None,
) -> None:
    """End a round that reached no verdict, its beams with it, unless a newer one has begun."""
    now = utc_now()
    case = store.by_id(conn, case_id, lock=True)
    if case.round != round_ or case.status.final:
        return
    store.end_beams(conn, case_id, round_, beams, now)
    store.update_case(conn, case_id, now, status=status, problem=problem, finished_at=now)
    audit.append(
        conn,
        actor="fairlead",
        action=f"case.{status.value}",
        subject=f"case:{case_id}",
        project_id=case.project_id,
        data={"number": case.number, "round": round_},
    )


# --- what nobody else would notice ---------------------------------------------------------------


def reconcile(parts: CaseParts) -> int:
    """End cases whose run ended without them (given up by the engine); how many it were.

    Otherwise their beams would hold places on hosts for ever.
    """
    with parts.database.transaction() as conn:
        ended = 0
        for case in store.unfinished(conn):
            run = run_store.get(conn, case.run_id) if case.run_id else None
            if run is None or not run.status.final:
                continue
            cancelled = run.status.value == "cancelled"
            status, beams = (
                (CaseStatus.CANCELLED, BeamStatus.CANCELLED)
                if cancelled
                else (CaseStatus.FAILED, BeamStatus.FAILED)
            )
            end_case(conn, case.id, case.round, status, beams, run.error)
            ended += 1
        return ended


def retain(parts: CaseParts) -> int:
    """Remove the work folders of cases that ended long ago, where they carry our mark; how many it were."""
    before = utc_now() - timedelta(days=parts.settings.retention_days)
    with parts.database.reading() as conn:
        due = store.finished_before(conn, before)
    for case in due:
        for round_ in range(1, case.round + 1):
            remove_marked(parts.work / f"{case.id}-r{round_}")
        with parts.database.transaction() as conn:
            store.update_case(conn, case.id, utc_now(), cleaned_at=utc_now())
    return len(due)


async def free_expired(parts: CaseParts) -> int:
    """Free places whose lease nobody renews, once their host says that the job has ended; how many."""
    with parts.database.reading() as conn:
        due = gpus.expired(conn, gpus.clock(conn))
    freed = 0
    for lease in due:
        place = parts.places.get(lease.host)
        if place is not None:
            ref = await place.executor.find(lease.holder)
            if ref is not None and not (await place.executor.status(ref)).state.is_final:
                continue
        with parts.database.transaction() as conn:
            gpus.release(conn, lease.holder)
        freed += 1
    return freed


async def tend(parts: CaseParts) -> None:
    """For ever: what neither a run nor its worker notices."""
    rounds = 0
    while True:
        try:
            await asyncio.to_thread(reconcile, parts)
            await free_expired(parts)
            if rounds % RETAIN_EVERY == 0:
                await asyncio.to_thread(retain, parts)
            if rounds % SWEEP_EVERY == 1:
                await sweep(parts)
        except (FairleadError, OSError, sa.exc.SQLAlchemyError) as error:
            telemetry.log.warning("case.tending_failed", error=type(error).__name__)
        rounds += 1
        await asyncio.sleep(TEND_S)
