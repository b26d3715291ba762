"""What runs of `changes` do: make a plan and wait for its approval; apply an approved plan.

Workflows decide from recorded facts only; whatever reads or changes the world is a step.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fairlead.changes import desired, diff, policy, store
from fairlead.changes.apply import Applier, Node, Work, made_by, nodes, recorded_of, snapshot, value_of
from fairlead.changes.cloudcontrol import Resources
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
    Via,
)
from fairlead.changes.registry import Registry
from fairlead.changes.schemas import change_from_document, plan_document
from fairlead.changes.secrets import Vault
from fairlead.changes.state import State, StateLog
from fairlead.changes.template import Bound, evaluate, mask, references
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Conflict
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Project
from fairlead.kernel.runs import NodeOutcome, NodeStatus, Operation, RunCancelled, RunContext, StepFailed

PLAN, APPLY, DECISION = "changes.plan", "changes.apply", "decision"
RULES = "automatic rule"


class PlanStale(Conflict):
    """The world moved after this plan was made; plan again."""

    code = "changes.plan_stale"


class ApplyFailed(Conflict):
    """Not everything could be applied."""

    code = "changes.apply_failed"


class WrongAccount(Conflict):
    """The credentials belong to another AWS account than the project."""

    code = "changes.wrong_account"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesParts:
    """What runs of `changes` need."""

    database: Database
    objects: ObjectStore
    resources: Resources
    registry: Registry
    vault: Vault
    region: str  # of projects that name none
    parallelism: int
    max_template_bytes: int


def operations(parts: ChangesParts) -> tuple[Operation, ...]:
    """The operations of this capability, bound to the opened parts."""

    async def plan(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return await _plan_workflow(parts, ctx, int(params["number"]))

    async def apply(ctx: RunContext, params: dict[str, Any]) -> dict[str, Any]:
        return await _apply_workflow(parts, ctx, int(params["number"]))

    return (
        Operation(name=PLAN, workflow=plan),
        Operation(name=APPLY, workflow=apply, partition_by_project=True),
    )


# --- planning ------------------------------------------------------------------------------------


async def _plan_workflow(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    try:
        made = await ctx.step("plan", _make_plan, parts, ctx, number)
        if made["status"] != PlanStatus.PENDING:
            return dict(made)
        decision = await ctx.wait_for(DECISION, datetime.fromisoformat(made["deadline_at"]))
        if decision is None:
            return dict(await ctx.step("expire", _close_plan, parts, ctx, number, PlanStatus.EXPIRED))
        return {**made, "status": decision["status"]}
    except RunCancelled:
        await ctx.step("withdraw", _close_plan, parts, ctx, number, PlanStatus.CANCELLED)
        raise
    except StepFailed as error:
        await ctx.step("give up", _close_plan, parts, ctx, number, PlanStatus.FAILED, error.problem())
        raise


async def _make_plan(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    """Look, decide, write down. Repeating it before it is written down makes the plan anew."""
    record, project = await _plan_of(parts, ctx, number)
    if record.status is not PlanStatus.PLANNING:
        return _made(record)
    state = await state_log(parts.objects, project).current()
    recorded = recorded_of(state)
    await ctx.event(
        "plan.reading",
        {"resources": len(recorded), "base_version": state.about.version if state else 0},
        key="reading",
    )
    target = await _target(parts, project, record)
    live = await _live(parts, target.region, recorded)
    plan = await asyncio.to_thread(_decide, parts, target, record, recorded, live, state)
    document = plan_document(plan, _calls(plan, recorded))
    await ctx.shift.in_transaction(lambda conn: _store_plan(conn, project, record, plan, document))
    stored, _ = await _plan_of(parts, ctx, number)
    summary = {
        action.value: sum(c.action is action for c in plan.changes)
        for action in Action
        if action is not Action.NO_OP
    }
    await ctx.event(
        "plan.ready",
        {"number": number, "status": stored.status.value, "risk": plan.risk.level.value, **summary},
        key="ready",
    )
    return _made(stored)


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
    wanted = {} if record.destroy else _bound(parts, target).resources
    return diff.plan(
        wanted,
        recorded,
        live,
        parts.registry,
        base_version=state.about.version if state else 0,
        region=target.region,
        environment=target.environment,
        seal=parts.vault.sealer(parts.registry),
    )


async def _target(parts: ChangesParts, project: Project, record: PlanRecord) -> Target:
    """The template with everything that binding it needs: parameters, region, account, exports."""
    identity = await parts.resources.caller_identity()
    wanted = project.settings.account_id
    if wanted and wanted != identity.account:
        raise WrongAccount(
            f"Project {project.id} belongs to account {wanted}; the credentials are of {identity.account}.",
            remedy="Correct the credentials of the worker, or the project's account_id.",
        )
    data = b"" if record.template_key is None else await parts.objects.get(record.template_key)
    region = project.settings.region or parts.region
    resources = parts.resources.in_region(region)
    return Target(
        data=data,
        parameters=parts.vault.decrypt(record.parameters),
        region=region,
        account_id=identity.account,
        stack_name=project.id,
        environment=project.settings.environment,
        exports=await resources.exports() if desired.asks_for_exports(data) else {},
        zones={region: await resources.zones()} if desired.asks_for_zones(data) else None,
    )


def _bound(parts: ChangesParts, target: Target) -> Bound:
    return desired.bound(target, parts.registry, max_bytes=parts.max_template_bytes)


async def _live(
    parts: ChangesParts, region: str, recorded: Mapping[str, Recorded]
) -> dict[str, Properties | None]:
    """What is there now of what we recorded, secrets digested as in the record."""
    found: dict[str, Properties | None] = {}
    resources = parts.resources.in_region(region)
    for via in Via:
        known = {name: item for name, item in recorded.items() if item.via is via}
        if not known:
            continue
        answers = await resources.read_many(
            [(item.type, item.identifier) for item in known.values()], via=via
        )
        for logical_id, item in known.items():
            answer = answers[(item.type, item.identifier)]
            found[logical_id] = (
                None if answer is None else parts.vault.seal_like(logical_id, answer, item.properties)
            )
    return found


def _store_plan(
    conn: sa.Connection, project: Project, record: PlanRecord, plan: Plan, document: dict[str, Any]
) -> None:
    now = utc_now()
    current = store.get_plan(conn, record.project_id, record.number)
    if current.status is not PlanStatus.PLANNING:
        return
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
        _audit(conn, record, "plan.approved", by, {"digest": plan.digest, "rule": rule})
        return
    decided = {"decided_by": by, "decided_at": now, "comment": reason} if by else {}
    store.move_plan(conn, current, status, **values, **decided)
    _audit(conn, record, "plan.made", record.author, {"digest": plan.digest, "status": status.value})


async def _close_plan(
    parts: ChangesParts, ctx: RunContext, number: int, status: str, problem: Json = None
) -> dict[str, Any]:
    """Give the plan its end, unless somebody has decided meanwhile."""
    to = PlanStatus(status)

    def close(conn: sa.Connection) -> None:
        record = store.get_plan(conn, str(ctx.project_id), number)
        if record.status not in (PlanStatus.PLANNING, PlanStatus.PENDING):
            return
        store.move_plan(conn, record, to, problem=problem)
        _audit(conn, record, f"plan.{to.value}", "fairlead", {})

    await ctx.shift.in_transaction(close)
    record, _ = await _plan_of(parts, ctx, number)
    return _made(record)


# --- applying ------------------------------------------------------------------------------------


async def _apply_workflow(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, Any]:
    async with ctx.project_lock():
        try:
            graph = await ctx.step("check", _check, parts, ctx, number)
            work = _WorkOnce(parts, ctx, number)

            async def run(name: str, results: Mapping[str, Any]) -> Any:
                shared, region = await work.get()
                applier = Applier(parts.resources.in_region(region), parts.vault, parts.registry, ctx)
                return await applier.run(shared, name, results)

            outcomes = await ctx.gather_dag(graph, run, parallelism=parts.parallelism)
            ended = {name: _ended(outcome) for name, outcome in outcomes.items()}
            return dict(await ctx.step("record", _record, parts, ctx, number, ended))
        except RunCancelled:
            await ctx.step("withdraw", _close_apply, parts, ctx, number, PlanStatus.CANCELLED)
            raise
        except StepFailed as error:
            problem = error.problem()
            stale = problem["code"] in (PlanStale.code, "state.moved")
            status = PlanStatus.STALE if stale else PlanStatus.FAILED
            await ctx.step("give up", _close_apply, parts, ctx, number, status, problem)
            raise


class _WorkOnce:
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
    record, project = await _plan_of(parts, ctx, number)
    base = await state_log(parts.objects, project).read(record.base_version) if record.base_version else None
    target = await _target(parts, project, record)
    bound = None if record.destroy else await asyncio.to_thread(_bound, parts, target)
    changes = tuple(change_from_document(item) for item in record.document["changes"])
    recorded = recorded_of(base)
    made = {change.logical_id for change in changes if change.action is not Action.DELETE}
    wanted = {name: bound.resources[name] for name in made} if bound else {}
    used = {ref.logical_id for item in wanted.values() if item.dynamic for ref in references(item.properties)}
    unchanged = {name: recorded[name] for name in used - made if name in recorded}
    live = await _live(parts, target.region, unchanged)
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
        description=record.description,
        number=number,
        digest=str(record.digest),
    )
    return work, target.region


async def _check(parts: ChangesParts, ctx: RunContext, number: int) -> dict[str, list[str]]:
    """Refuse if anything moved since planning; else the graph of calls."""
    record, project = await _plan_of(parts, ctx, number)
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
    live = await _live(parts, region, touched)
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


def _ended(outcome: NodeOutcome) -> dict[str, Any]:
    return {"status": outcome.status.value, "result": outcome.result, "problem": outcome.problem}


async def _record(
    parts: ChangesParts, ctx: RunContext, number: int, ended: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Commit what really happened as the next state version, and close the plan."""
    record, project = await _plan_of(parts, ctx, number)
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
    await _finish_apply(ctx, project, number, status, version, _what_failed(work, ended))
    return {"number": number, "status": status.value, "state_version": version, "outputs": outputs}


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
    live = await _live(parts, region, {name: item for name, item in known.items() if name not in gone})
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


async def _close_apply(
    parts: ChangesParts, ctx: RunContext, number: int, status: str, problem: Json = None
) -> dict[str, Any]:
    record, project = await _plan_of(parts, ctx, number)
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
        _audit(conn, record, f"plan.{status.value}", ctx.actor, {"state_version": version, "run": ctx.run_id})

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


# --- shared --------------------------------------------------------------------------------------


def state_log(objects: ObjectStore, project: Project) -> StateLog:
    """The project's state versions."""
    return StateLog(objects, project.id, prefix=project.settings.state_prefix)


async def _plan_of(parts: ChangesParts, ctx: RunContext, number: int) -> tuple[PlanRecord, Project]:
    def read() -> tuple[PlanRecord, Project]:
        project_id = str(ctx.project_id)
        with parts.database.reading() as conn:
            return store.get_plan(conn, project_id, number), projects.find(conn, project_id)

    return await asyncio.to_thread(read)


def _audit(conn: sa.Connection, record: PlanRecord, action: str, actor: str, data: dict[str, Any]) -> None:
    subject = f"plan:{record.project_id}#{record.number}"
    audit.append(conn, actor=actor, action=action, subject=subject, project_id=record.project_id, data=data)
