"""What runs of `changes` do: make a plan and wait for its approval; apply an approved plan; tell of both.

Workflows decide from recorded facts only; whatever reads or changes the world is a step.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fairlead.changes.apply import Applier
from fairlead.changes.applying import PlanStale, WorkOnce, check_nothing_moved, close_apply, record_outcome
from fairlead.changes.model import PlanStatus
from fairlead.changes.notices import NOTIFY, notify
from fairlead.changes.parts import ChangesParts
from fairlead.changes.planning import close_plan, make_plan
from fairlead.kernel.runs import NodeOutcome, Operation, RunCancelled, RunContext, StepFailed

PLAN, APPLY, DECISION = "changes.plan", "changes.apply", "decision"


def operations(parts: ChangesParts) -> tuple[Operation, ...]:
    """The operations of this capability, bound to the opened parts."""

    async def plan(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return await _plan_workflow(parts, ctx, int(params["number"]))

    async def apply(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return await _apply_workflow(parts, ctx, int(params["number"]))

    async def tell(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return dict(await ctx.step("post", notify, parts, ctx, int(params["number"]), str(params["event"])))

    return (
        Operation(name=PLAN, workflow=plan),
        Operation(name=APPLY, workflow=apply, partition_by_project=True),
        Operation(name=NOTIFY, workflow=tell),
    )


async def _plan_workflow(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    try:
        made = await ctx.step("plan", make_plan, parts, ctx, number)
        if made["status"] != PlanStatus.PENDING:
            return dict(made)
        decision = await ctx.wait_for(DECISION, datetime.fromisoformat(made["deadline_at"]))
        if decision is None:
            return dict(await ctx.step("expire", close_plan, parts, ctx, number, PlanStatus.EXPIRED))
        return {**made, "status": decision["status"]}
    except RunCancelled:
        await ctx.step("withdraw", close_plan, parts, ctx, number, PlanStatus.CANCELLED)
        raise
    except StepFailed as error:
        await ctx.step("give up", close_plan, parts, ctx, number, PlanStatus.FAILED, error.problem())
        raise


async def _apply_workflow(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    async with ctx.project_lock():
        try:
            graph = await ctx.step("check", check_nothing_moved, parts, ctx, number)
            work = WorkOnce(parts, ctx, number)

            async def run(name: str, results: Mapping[str, Any]) -> Any:
                shared, region = await work.get()
                applier = Applier(parts.resources.in_region(region), parts.vault, parts.registry, ctx)
                return await applier.run(shared, name, results)

            outcomes = await ctx.gather_dag(graph, run, parallelism=parts.parallelism)
            ended = {name: _ended(outcome) for name, outcome in outcomes.items()}
            return _whole(await ctx.step("record", record_outcome, parts, ctx, number, ended))
        except RunCancelled:
            await ctx.step("withdraw", close_apply, parts, ctx, number, PlanStatus.CANCELLED)
            raise
        except StepFailed as error:
            problem = error.problem()
            status = PlanStatus.STALE if problem["code"] == PlanStale.code else PlanStatus.FAILED
            await ctx.step("give up", close_apply, parts, ctx, number, status, problem)
            raise


def _ended(outcome: NodeOutcome) -> dict[str, Any]:
    return {"status": outcome.status.value, "result": outcome.result, "problem": outcome.problem}


def _whole(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What was recorded, where all went well. The plan has its end already; the run must not look better.

    Raises StepFailed and RunCancelled.
    """
    if recorded["problem"] is not None:
        raise StepFailed(recorded["problem"])
    if recorded["cancelled"]:
        raise RunCancelled
    return dict(recorded)
