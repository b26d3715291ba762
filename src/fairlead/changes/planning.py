"""Steps that make a plan: look, decide, write down."""

import asyncio
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from fairlead.changes import diff, policy, store
from fairlead.changes.desired import Target
from fairlead.changes.model import (
    Action,
    Json,
    Plan,
    PlanRecord,
    PlanStatus,
    Properties,
    Recorded,
    RiskLevel,
)
from fairlead.changes.nodes import nodes
from fairlead.changes.notices import announce
from fairlead.changes.outcome import recorded_of
from fairlead.changes.parts import ChangesParts, audit_plan, bound_of, live_of, plan_of, state_log, target_of
from fairlead.changes.schemas import plan_document
from fairlead.changes.state import State
from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects.model import Project
from fairlead.kernel.runs import RunContext

RULES = "automatic rule"  # who decided, where no person did


async def make_plan(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    """Look, decide, write down. Repeating it before it is written down makes the plan anew."""
    record, project = await plan_of(parts, ctx, number)
    if record.status is not PlanStatus.PLANNING:
        return await _tell_ready(ctx, record)  # an earlier execution of this step got this far
    state = await state_log(parts.objects, project).current()
    recorded = recorded_of(state)
    await ctx.event(
        "plan.reading",
        {"resources": len(recorded), "base_version": state.about.version if state else 0},
        key="reading",
    )
    target = await target_of(parts, project, record)
    live = await live_of(parts, target.region, recorded)
    plan = await asyncio.to_thread(_decide, parts, target, record, recorded, live, state)
    document = plan_document(plan, _calls(plan, recorded))
    await ctx.shift.in_transaction(lambda conn: _decided(conn, ctx, project, record, plan, document))
    stored, _ = await plan_of(parts, ctx, number)
    return await _tell_ready(ctx, stored)


async def _tell_ready(ctx: RunContext, record: PlanRecord) -> dict[str, Any]:
    changes = (record.document or {}).get("changes", ())
    counts = {
        action.value: sum(change["action"] == action for change in changes)
        for action in Action
        if action is not Action.NO_OP
    }
    risk = record.risk.value if record.risk else None
    data = {"number": record.number, "status": record.status.value, "risk": risk, **counts}
    await ctx.event("plan.ready", data, key="ready")
    return _made(record)


def _calls(plan: Plan, recorded: Mapping[str, Recorded]) -> dict[str, list[str]]:
    """The graph of calls as people read it: `Web`, and `delete Web` for what goes."""

    def shown(name: str) -> str:
        call, _, logical_id = name.partition(":")
        return f"delete {logical_id}" if call == "delete" else logical_id

    graph = nodes(plan.changes, recorded)
    return {shown(name): [shown(other) for other in node.depends_on] for name, node in graph.items()}


def _made(record: PlanRecord) -> dict[str, Any]:
    return {
        "number": record.number,
        "status": record.status.value,
        "deadline_at": record.deadline_at.isoformat(),
    }


def _decide(
    parts: ChangesParts,
    target: Target,
    record: PlanRecord,
    recorded: Mapping[str, Recorded],
    live: Mapping[str, Properties | None],
    state: State | None,
) -> Plan:
    wanted = {} if record.destroy else bound_of(parts, target).resources
    return diff.plan(
        wanted,
        recorded,
        live,
        parts.registry,
        base_version=state.about.version if state else 0,
        region=target.region,
        environment=target.environment,
        seal=parts.vault.sealer(parts.registry, recorded),
    )


def _decided(
    conn: sa.Connection,
    ctx: RunContext,
    project: Project,
    record: PlanRecord,
    plan: Plan,
    document: dict[str, Any],
) -> None:
    if store.get_plan(conn, record.project_id, record.number).status is PlanStatus.PLANNING:
        _store_plan(conn, project, record, plan, document)
        announce(ctx.runs, conn, record.project_id, record.number)


def _store_plan(
    conn: sa.Connection, project: Project, record: PlanRecord, plan: Plan, document: dict[str, Any]
) -> None:
    now = utc_now()
    current = store.get_plan(conn, record.project_id, record.number)
    values: dict[str, Any] = {
        "digest": plan.digest,
        "base_version": plan.base_version,
        "risk": plan.risk.level.value,
        "document": document,
    }
    status, by, reason = PlanStatus.PENDING, None, None
    if not plan.changes:
        status = PlanStatus.NO_CHANGES
    elif standing := store.standing_approval(conn, record.project_id, plan.digest, now=now):
        # Whoever may not approve this plan must not profit from an older approval of their own.
        if not (plan.risk.level is RiskLevel.HIGH and standing.approved_by_id == record.author_id):
            status, by, reason = (
                PlanStatus.APPROVED,
                standing.approved_by,
                f"approved with plan {standing.number}, which was the same",
            )
    elif rule := policy.auto_approves(
        plan, policy.rules_of(project.settings.auto_approval_rules), project.settings.environment
    ):
        status, by, reason = PlanStatus.APPROVED, RULES, rule
        store.move_plan(conn, current, status, decided_by=by, decided_at=now, comment=reason, **values)
        approved = store.get_plan(conn, record.project_id, record.number)
        store.add_approval(conn, approved, by_id=None, by=RULES, comment=reason, now=now)
        audit_plan(conn, record, "plan.approved", by, {"digest": plan.digest, "rule": rule})
        return
    decided = {"decided_by": by, "decided_at": now, "comment": reason} if by else {}
    store.move_plan(conn, current, status, **values, **decided)
    audit_plan(conn, record, "plan.made", record.author, {"digest": plan.digest, "status": status.value})


async def close_plan(
    parts: ChangesParts, ctx: RunContext, number: int, status: str, problem: Json = None
) -> dict[str, Any]:
    """Give the plan its end, unless somebody has decided meanwhile."""
    to = PlanStatus(status)

    def close(conn: sa.Connection) -> None:
        record = store.get_plan(conn, str(ctx.project_id), number)
        if record.status not in (PlanStatus.PLANNING, PlanStatus.PENDING):
            return
        store.move_plan(conn, record, to, problem=problem)
        audit_plan(conn, record, f"plan.{to.value}", "fairlead", {})
        announce(ctx.runs, conn, record.project_id, number)

    await ctx.shift.in_transaction(close)
    record, _ = await plan_of(parts, ctx, number)
    return _made(record)
