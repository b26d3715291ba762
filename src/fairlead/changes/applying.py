"""Steps around the calls of an apply: refuse if anything moved, and record what really happened."""

import asyncio
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from fairlead.changes import diff, store
from fairlead.changes.model import (
    Action,
    Json,
    PlanStatus,
    Properties,
    Recorded,
)
from fairlead.changes.nodes import Node, nodes
from fairlead.changes.notices import announce
from fairlead.changes.outcome import made_by, recorded_of, snapshot
from fairlead.changes.parts import ChangesParts, audit_plan, bound_of, live_of, plan_of, state_log, target_of
from fairlead.changes.schemas import change_from_document
from fairlead.changes.template import evaluate, mask, references
from fairlead.changes.types.arns import Arns
from fairlead.changes.work import Work, value_of
from fairlead.kernel.errors import Conflict
from fairlead.kernel.projects.model import Project
from fairlead.kernel.runs import NodeStatus, RunContext


class PlanStale(Conflict):
    """The world moved after this plan was made; plan again."""

    code = "changes.plan_stale"


class ApplyFailed(Conflict):
    """Not everything could be applied."""

    code = "changes.apply_failed"


class WorkOnce:
    """What the nodes of one apply share, read once a process: it does not change during the apply."""

    def __init__(self, parts: ChangesParts, ctx: RunContext, number: int) -> None:
        self._of = (parts, ctx, number)
        self._lock = asyncio.Lock()
        self._work: tuple[Work, str] | None = None

    async def get(self) -> tuple[Work, str]:
        """The work and the region that it is done in."""
        async with self._lock:
            if self._work is None:
                self._work = await _work(*self._of)
            return self._work


async def _work(parts: ChangesParts, ctx: RunContext, number: int) -> tuple[Work, str]:
    record, project = await plan_of(parts, ctx, number)
    base = await state_log(parts.objects, project).read(record.base_version) if record.base_version else None
    target = await target_of(parts, project, record)
    bound = None if record.destroy else await asyncio.to_thread(bound_of, parts, target)
    changes = tuple(change_from_document(item) for item in record.document["changes"])
    recorded = recorded_of(base)
    made = {change.logical_id for change in changes if change.action is not Action.DELETE}
    wanted = {name: bound.resources[name] for name in made} if bound else {}
    used = {ref.logical_id for item in wanted.values() if item.dynamic for ref in references(item.properties)}
    unchanged = {name: recorded[name] for name in used - made if name in recorded}
    live = await live_of(parts, target.region, unchanged)
    work = Work(
        changes=changes,
        graph=nodes(changes, recorded),
        desired=wanted,
        recorded=recorded,
        base=base,
        live={name: found for name, found in live.items() if found is not None},
        outputs=bound.outputs if bound else {},
        dependencies={name: item.depends_on for name, item in bound.resources.items()} if bound else {},
        referred_to=frozenset(used),
        arns=Arns(target.place.partition[0], target.region, target.account_id),
        description=record.description,
        number=number,
        digest=str(record.digest),
    )
    return work, target.region


async def check_nothing_moved(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, list[str]]:
    """Refuse if anything moved since planning; else the graph of calls."""
    record, project = await plan_of(parts, ctx, number)
    log = state_log(parts.objects, project)
    newest = await log.latest()
    if newest != record.base_version:
        raise PlanStale(
            f"The state is at version {newest}; the plan was made on {record.base_version}.",
            remedy="Plan again.",
            moved=[{"logical_id": "(state)", "what": f"version {record.base_version} became {newest}"}],
        )
    work, region = await _work(parts, ctx, number)
    touched = {
        c.logical_id: work.recorded[c.logical_id] for c in work.changes if c.logical_id in work.recorded
    }
    live = await live_of(parts, region, touched)
    kinds = {name: kind for name, item in touched.items() if (kind := parts.registry.find(item.type))}
    moved = diff.moved(record.document["fingerprints"], live, kinds)
    if moved:
        raise PlanStale(
            f"Changed after the plan was made: {', '.join(moved)}.",
            remedy="Plan again; the new plan shows what changed.",
            moved=[
                {
                    "logical_id": name,
                    "what": "was deleted" if live.get(name) is None else "changed outside Fairlead",
                }
                for name in sorted(moved)
            ],
        )
    graph = work.graph
    shown = [
        {
            "node": name,
            "logical_id": node.change.logical_id,
            "type": node.change.type,
            "action": node.call.value,
        }
        for name, node in graph.items()
    ]
    await ctx.event("apply.started", {"nodes": shown}, key="started")
    return {name: list(node.depends_on) for name, node in graph.items()}


async def record_outcome(
    parts: ChangesParts, ctx: RunContext, number: int, ended: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Commit what really happened as the next state version, and close the plan."""
    record, project = await plan_of(parts, ctx, number)
    work, region = await _work(parts, ctx, number)
    for name, end in ended.items():
        if end["status"] != NodeStatus.SUCCEEDED:
            # Most failures were told by their node; the key keeps those from being told twice.
            data = {**_node_data(work.graph[name]), "problem": end["problem"]}
            await ctx.event(f"node.{end['status']}", data, key=f"{name}:end")
    log = state_log(parts.objects, project)
    version = record.base_version or 0
    after = await _after(parts, region, work, ended)
    if any(end["status"] in (NodeStatus.SUCCEEDED, NodeStatus.FAILED) for end in ended.values()):
        # One moment for every execution of this step, so that a repeated commit says the same.
        content = snapshot(
            work,
            ended,
            after,
            region=region,
            now=ctx.run.created_at,
            actor=record.author,
            run_id=ctx.run_id,
        )
        committed = await log.commit(version, content, nonce=ctx.run_id)
        version = committed.version
        await ctx.event(
            "state.committed", {"version": version, "address": committed.address}, key="committed"
        )
    status = _final(ended)
    outputs = _outputs(parts, work, ended, after) if status is PlanStatus.APPLIED else {}
    problem = _what_failed(work, ended)
    await _finish_apply(ctx, project, number, status, version, problem)
    return {
        "number": number,
        "status": status.value,
        "state_version": version,
        "outputs": outputs,
        "problem": problem,
        "cancelled": any(end["status"] == NodeStatus.CANCELLED for end in ended.values()),
    }


async def _after(
    parts: ChangesParts, region: str, work: Work, ended: Mapping[str, Mapping[str, Any]]
) -> dict[str, Properties]:
    """What AWS says, once all is done, of what was made and of what that depends on.

    One resource can change how another looks: a policy adds itself to its role. Recorded as it was
    before, the role would look changed by somebody else at the next plan.
    """
    known: dict[str, Recorded] = {}
    for name, end in ended.items():
        change = work.graph[name].change
        for target in change.depends_on:
            if target in work.recorded:
                known.setdefault(target, work.recorded[target])
        if made := made_by(work, name, end):
            known[change.logical_id] = made
    gone = {work.graph[name].change.logical_id for name in ended} - {
        work.graph[name].change.logical_id for name, end in ended.items() if made_by(work, name, end)
    }
    live = await live_of(parts, region, {name: item for name, item in known.items() if name not in gone})
    return {name: found for name, found in live.items() if found is not None}


def _outputs(
    parts: ChangesParts, work: Work, ended: Mapping[str, Mapping[str, Any]], after: Mapping[str, Properties]
) -> dict[str, Any]:
    """The template's outputs, as far as AWS has told them; secrets masked."""
    results = {
        name: {**end["result"], "observed": after.get(work.graph[name].change.logical_id, {})}
        for name, end in ended.items()
    }
    found = {}
    for name, output in work.outputs.items():
        try:
            value = evaluate(
                output.value, lambda reference: value_of(work, parts.registry, reference, results)
            )
        except Conflict:
            value = None
        found[name] = mask(value)
    return found


def _final(ended: Mapping[str, Mapping[str, Any]]) -> PlanStatus:
    states = {end["status"] for end in ended.values()}
    if states <= {NodeStatus.SUCCEEDED}:
        return PlanStatus.APPLIED
    if NodeStatus.SUCCEEDED in states:
        return PlanStatus.PARTIAL
    return PlanStatus.CANCELLED if states == {NodeStatus.CANCELLED} else PlanStatus.FAILED


async def close_apply(
    parts: ChangesParts, ctx: RunContext, number: int, status: str, problem: Json = None
) -> dict[str, Any]:
    record, project = await plan_of(parts, ctx, number)
    await _finish_apply(ctx, project, number, PlanStatus(status), record.state_version, problem)
    return {"number": number, "status": status}


async def _finish_apply(
    ctx: RunContext, project: Project, number: int, status: PlanStatus, version: int | None, problem: Json
) -> None:
    def finish(conn: sa.Connection) -> None:
        record = store.get_plan(conn, project.id, number)
        if record.status is not PlanStatus.APPLYING:
            return  # an earlier execution of this step got here
        store.move_plan(conn, record, status, state_version=version, problem=problem)
        audit_plan(
            conn, record, f"plan.{status.value}", ctx.actor, {"state_version": version, "run": ctx.run_id}
        )
        announce(ctx.runs, conn, project.id, number)

    await ctx.shift.in_transaction(finish)


def _what_failed(work: Work, ended: Mapping[str, Mapping[str, Any]]) -> Json:
    """A problem document that names every call that failed; None where none did."""
    failed = [
        (work.graph[name].change.logical_id, end["problem"]) for name, end in ended.items() if end["problem"]
    ]
    if not failed:
        return None
    told = "; ".join(f"{logical_id}: {problem['detail']}" for logical_id, problem in failed[:5])
    skipped = sum(end["status"] == NodeStatus.SKIPPED for end in ended.values())
    return ApplyFailed(
        f"{len(failed)} of {len(ended)} calls failed and {skipped} were not made. {told}",
        remedy="Correct the cause and plan again: the new plan holds what is left.",
        failed=[{"logical_id": logical_id, **problem} for logical_id, problem in failed],
    ).problem()


def _node_data(node: Node) -> dict[str, Any]:
    return {"node": node.name, "logical_id": node.change.logical_id, "action": node.call.value}
