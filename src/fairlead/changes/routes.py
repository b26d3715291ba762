"""The HTTP door of `changes`: request a plan, look at it, decide, apply; read the state."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query

from fairlead.changes import desired, policy, store
from fairlead.changes.desired import Target, TemplateTooLarge
from fairlead.changes.model import PlanRecord, PlanStatus, RiskLevel
from fairlead.changes.notices import announce
from fairlead.changes.operations import APPLY, DECISION, PLAN
from fairlead.changes.parts import audit_plan, state_log
from fairlead.changes.registry import Registry
from fairlead.changes.schemas import (
    OFFLINE_ACCOUNT,
    DecisionIn,
    PlanIn,
    difference_out,
    plan_out,
    resources_out,
    state_out,
    verification_out,
    version_out,
)
from fairlead.changes.secrets import Vault
from fairlead.changes.state import ResourceStatus, compare
from fairlead.kernel import audit
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Conflict, Forbidden, InvalidInput
from fairlead.kernel.http import CurrentActor
from fairlead.kernel.objects import ObjectExists, ObjectStore
from fairlead.kernel.projects.access import authorise
from fairlead.kernel.projects.model import Access, Actor, Permission
from fairlead.kernel.runs import Runs


class DigestMismatch(Conflict):
    """The plan is not the one that you looked at."""

    code = "changes.digest_mismatch"


class OwnHighRisk(Forbidden):
    """The author of a plan with high risk may not approve it; somebody else must."""

    code = "changes.own_high_risk"


class NotApproved(Conflict):
    """The plan is not approved."""

    code = "changes.not_approved"


class DeadlinePassed(Conflict):
    """The plan's deadline has passed; plan again."""

    code = "changes.deadline_passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesDoor:
    """What the routes need."""

    database: Database
    runs: Runs
    objects: ObjectStore
    registry: Registry
    vault: Vault
    region: str
    approval_deadline_s: float
    max_template_bytes: int


def router(door: ChangesDoor) -> APIRouter:
    """The routes of `changes`, bound to the opened parts."""
    routes = APIRouter(prefix="/projects/{project}", tags=["changes"])
    _plan_routes(routes, door)
    _decision_routes(routes, door)
    _state_routes(routes, door)
    return routes


def _plan_routes(routes: APIRouter, door: ChangesDoor) -> None:
    @routes.post("/plans", status_code=202, summary="Work out what a template would change")
    async def create_plan(project: str, body: PlanIn, actor: CurrentActor) -> dict[str, Any]:
        return await _request_plan(door, project, body, actor)

    @routes.get("/plans", summary="Plans of the project, newest first")
    def list_plans(
        project: str,
        actor: CurrentActor,
        status: PlanStatus | None = None,
        before: int | None = Query(default=None, description="Only plans with smaller numbers"),
        limit: int = Query(default=50, ge=1, le=200),
    ) -> dict[str, Any]:
        with door.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.PLAN_READ)
            found = store.list_plans(conn, access.project.id, status=status, before=before, limit=limit)
        return {"items": [plan_out(record, document=False) for record in found]}

    @routes.get("/plans/{number}", summary="One plan, with what it would change")
    def get_plan(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        with door.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.PLAN_READ)
            plan = store.get_plan(conn, access.project.id, number)
        return plan_out(plan)


def _decision_routes(routes: APIRouter, door: ChangesDoor) -> None:
    @routes.post("/plans/{number}/approve", summary="Approve exactly the plan with this digest")
    def approve(project: str, number: int, body: DecisionIn, actor: CurrentActor) -> dict[str, Any]:
        return _decide(door, project, number, body, actor, Permission.PLAN_APPROVE, _approve)

    @routes.post("/plans/{number}/reject", summary="Reject a plan, or withdraw its approval")
    def reject(project: str, number: int, body: DecisionIn, actor: CurrentActor) -> dict[str, Any]:
        return _decide(door, project, number, body, actor, Permission.PLAN_APPROVE, _reject)

    @routes.post("/plans/{number}/cancel", summary="Withdraw a plan, or stop its apply")
    def cancel(project: str, number: int, body: DecisionIn, actor: CurrentActor) -> dict[str, Any]:
        return _decide(door, project, number, body, actor, Permission.PLAN_CREATE, _cancel)

    @routes.post("/plans/{number}/apply", status_code=202, summary="Apply an approved plan")
    def apply(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        with door.database.transaction() as conn:
            access = authorise(conn, actor, project, Permission.APPLY)
            plan = store.get_plan(conn, access.project.id, number)
            _submit_apply(door, conn, plan, actor)
            plan = store.get_plan(conn, access.project.id, number)
        return plan_out(plan)


def _state_routes(routes: APIRouter, door: ChangesDoor) -> None:
    def opened(project: str, actor: Actor, permission: Permission = Permission.STATE_READ) -> Access:
        with door.database.reading() as conn:
            return authorise(conn, actor, project, permission)

    # These talk to the object store, so they wait without holding a thread or a transaction.
    @routes.get("/state", summary="The newest state version")
    async def get_state(project: str, actor: CurrentActor) -> dict[str, Any]:
        log = state_log(door.objects, opened(project, actor).project)
        return state_out(await log.read(await log.latest()))

    @routes.get("/state/versions", summary="State versions, newest first")
    async def list_versions(
        project: str,
        actor: CurrentActor,
        before: int | None = None,
        limit: int = Query(default=20, ge=1, le=200),
    ) -> dict[str, Any]:
        log = state_log(door.objects, opened(project, actor).project)
        return {"items": [version_out(entry) for entry in await log.history(limit, before)]}

    @routes.get("/state/versions/{version}", summary="One state version")
    async def get_version(project: str, version: int, actor: CurrentActor) -> dict[str, Any]:
        return state_out(await state_log(door.objects, opened(project, actor).project).read(version))

    @routes.get("/state/compare", summary="What differs between two versions")
    async def compare_versions(project: str, before: int, after: int, actor: CurrentActor) -> dict[str, Any]:
        log = state_log(door.objects, opened(project, actor).project)
        return difference_out(compare((await log.read(before)).resources, (await log.read(after)).resources))

    @routes.post("/state/verify", summary="Check every version against the chain of hashes")
    async def verify(project: str, actor: CurrentActor) -> dict[str, Any]:
        log = state_log(door.objects, opened(project, actor).project)
        return verification_out(await log.verify())

    @routes.post("/state/recover", summary="Write a new version from the last good one")
    async def recover(project: str, actor: CurrentActor) -> dict[str, Any]:
        return await _recover(door, opened(project, actor, Permission.PROJECT_UPDATE), actor)

    @routes.get("/resources", summary="Resources that the newest state version records")
    async def list_resources(
        project: str,
        actor: CurrentActor,
        type_: Annotated[str | None, Query(alias="type", max_length=200)] = None,
        status: ResourceStatus | None = None,
        tag: Annotated[str | None, Query(max_length=400)] = None,
    ) -> dict[str, Any]:
        log = state_log(door.objects, opened(project, actor).project)
        newest = await log.latest()
        if not newest:
            return {"items": []}
        found = await log.read(newest)
        return {"items": resources_out(found, type_name=type_, status=status, tag=tag)}


# --- requesting a plan ---------------------------------------------------------------------------


async def _request_plan(door: ChangesDoor, project: str, body: PlanIn, actor: Actor) -> dict[str, Any]:
    """Refuse bad input at once; else store the template and submit the run that makes the plan."""

    def admitted() -> Access:
        with door.database.reading() as conn:
            return authorise(conn, actor, project, Permission.PLAN_CREATE)

    access = await asyncio.to_thread(admitted)
    data = _template_of(door, body)
    key = None
    if data is not None:
        await asyncio.to_thread(_check_template, door, access, data, body.parameters)
        key = await _store_template(door, access, data)
    now = utc_now()
    deadline_s = access.project.settings.approval_deadline_s or door.approval_deadline_s

    def submit() -> dict[str, Any]:
        with door.database.transaction() as conn:
            authorise(conn, actor, project, Permission.PLAN_CREATE)
            return _submit_plan(door, conn, access, body, key, now, now + timedelta(seconds=deadline_s))

    return await asyncio.to_thread(submit)


def _template_of(door: ChangesDoor, body: PlanIn) -> bytes | None:
    if body.destroy == (body.template is not None):
        raise InvalidInput("Give either a template or destroy, and not both.", remedy="Correct the request.")
    if body.template is None:
        return None
    data = body.template.encode("utf-8", "surrogatepass")
    if len(data) > door.max_template_bytes:
        raise TemplateTooLarge(
            f"The template has {len(data):,} bytes; this server takes {door.max_template_bytes:,}.",
            remedy="Split it into several projects, or raise FAIRLEAD_MAX_TEMPLATE_BYTES.",
            size=len(data),
            limit=door.max_template_bytes,
        )
    return data


def _check_template(door: ChangesDoor, access: Access, data: bytes, parameters: dict[str, Any]) -> None:
    settings = access.project.settings
    target = Target(
        data=data,
        parameters=parameters,
        region=settings.region or door.region,
        account_id=settings.account_id or OFFLINE_ACCOUNT,
        stack_name=access.project.id,
    )
    desired.bound(target, door.registry, max_bytes=door.max_template_bytes)


async def _store_template(door: ChangesDoor, access: Access, data: bytes) -> str:
    """Under its digest: the same template is stored once."""
    key = f"projects/{access.project.id}/templates/{hashlib.sha256(data).hexdigest()}"
    try:
        await door.objects.put_new(key, data)
    except ObjectExists:
        return key
    return key


def _submit_plan(
    door: ChangesDoor,
    conn: sa.Connection,
    access: Access,
    body: PlanIn,
    key: str | None,
    now: datetime,
    deadline_at: datetime,
) -> dict[str, Any]:
    project, actor = access.project, access.actor
    plan = store.insert_plan(
        conn,
        project_id=project.id,
        author_id=actor.user_id,
        author=actor.username,
        description=body.description,
        destroy=body.destroy,
        template_key=key,
        parameters=door.vault.encrypt(body.parameters),
        now=now,
        deadline_at=deadline_at,
    )
    run = door.runs.submit(
        conn,
        PLAN,
        {"number": plan.number},
        project_id=project.id,
        actor=actor.username,
        title=f"Plan {plan.number}: {body.description}"[:200],
    )
    store.set_run(conn, plan, run.id)
    audit_plan(conn, plan, "plan.requested", actor.username, {"run": run.id, "destroy": plan.destroy})
    return plan_out(store.get_plan(conn, project.id, plan.number), document=False)


# --- deciding ------------------------------------------------------------------------------------

Decision = Callable[[ChangesDoor, sa.Connection, PlanRecord, Actor, str | None], None]


def _decide(
    door: ChangesDoor,
    project: str,
    number: int,
    body: DecisionIn,
    actor: Actor,
    permission: Permission,
    act: Decision,
) -> dict[str, Any]:
    with door.database.transaction() as conn:
        access = authorise(conn, actor, project, permission)
        plan = store.get_plan(conn, access.project.id, number)
        if plan.digest != body.digest:
            raise DigestMismatch(
                f"Plan {number} has the digest {plan.digest}, not the one that you name.",
                remedy="Look at the plan again, then decide.",
                digest=plan.digest,
            )
        act(door, conn, plan, actor, body.comment)
        decided = store.get_plan(conn, access.project.id, number)
        if decided.status is not plan.status:
            announce(door.runs, conn, access.project.id, number)
    return plan_out(decided)


def _approve(
    door: ChangesDoor, conn: sa.Connection, plan: PlanRecord, actor: Actor, comment: str | None
) -> None:
    now = utc_now()
    _refuse_late(plan, now)
    if plan.risk is not None and (
        reason := policy.refuses_approver(plan.risk, author_id=plan.author_id, approver_id=actor.user_id)
    ):
        raise OwnHighRisk(
            reason, remedy="Ask another member with the role approver.", risk=RiskLevel.HIGH.value
        )
    store.move_plan(
        conn, plan, PlanStatus.APPROVED, decided_by=actor.username, decided_at=now, comment=comment
    )
    store.add_approval(conn, plan, by_id=actor.user_id, by=actor.username, comment=comment, now=now)
    _tell_run(door, conn, plan, PlanStatus.APPROVED)
    audit_plan(conn, plan, "plan.approved", actor.username, {"digest": plan.digest, "comment": comment})


def _reject(
    door: ChangesDoor, conn: sa.Connection, plan: PlanRecord, actor: Actor, comment: str | None
) -> None:
    now = utc_now()
    store.move_plan(
        conn, plan, PlanStatus.REJECTED, decided_by=actor.username, decided_at=now, comment=comment
    )
    if plan.digest is not None:
        # A later identical plan must not profit from an approval that was withdrawn.
        store.use_approvals(conn, plan.project_id, plan.digest, f"rejected:{plan.number}")
    if plan.status is PlanStatus.PENDING:
        _tell_run(door, conn, plan, PlanStatus.REJECTED)
    audit_plan(conn, plan, "plan.rejected", actor.username, {"digest": plan.digest, "comment": comment})


def _cancel(
    door: ChangesDoor, conn: sa.Connection, plan: PlanRecord, actor: Actor, comment: str | None
) -> None:
    if plan.status is PlanStatus.APPROVED:
        store.move_plan(conn, plan, PlanStatus.CANCELLED, comment=comment)
    elif plan.status is PlanStatus.APPLYING and plan.apply_run_id:
        door.runs.request_cancel(conn, plan.apply_run_id, actor.username)
    elif plan.status in (PlanStatus.PLANNING, PlanStatus.PENDING) and plan.run_id:
        if plan.status is PlanStatus.PENDING:
            store.move_plan(conn, plan, PlanStatus.CANCELLED, comment=comment)
        door.runs.request_cancel(conn, plan.run_id, actor.username)
    else:
        raise store.PlanMoved(
            f"Plan {plan.number} is {plan.status.value}; there is nothing to cancel.",
            status=plan.status.value,
        )
    audit_plan(conn, plan, "plan.cancel_requested", actor.username, {"comment": comment})


def _tell_run(door: ChangesDoor, conn: sa.Connection, plan: PlanRecord, status: PlanStatus) -> None:
    if plan.run_id is not None:
        key = f"{plan.project_id}#{plan.number}:{status.value}"
        door.runs.decide(conn, plan.run_id, DECISION, {"status": status.value}, idempotency_key=key)


def _refuse_late(plan: PlanRecord, now: datetime) -> None:
    if now >= plan.deadline_at:
        raise DeadlinePassed(
            f"Plan {plan.number} was to be decided and applied by {iso(plan.deadline_at)}.",
            remedy="Plan again.",
        )


def _submit_apply(door: ChangesDoor, conn: sa.Connection, plan: PlanRecord, actor: Actor) -> None:
    now = utc_now()
    if plan.status is PlanStatus.APPLYING:
        raise store.ApplyInProgress(
            f"Plan {plan.number} is being applied already.",
            remedy=f"Follow it: fairlead runs watch {plan.apply_run_id}",
            run_id=plan.apply_run_id,
        )
    if plan.status is not PlanStatus.APPROVED:
        raise NotApproved(
            f"Plan {plan.number} is {plan.status.value}; only an approved plan can be applied.",
            remedy="Have it approved, or plan again.",
            status=plan.status.value,
        )
    _refuse_late(plan, now)
    if other := store.applying(conn, plan.project_id):
        raise store.ApplyInProgress(
            f"Plan {other.number} of this project is being applied.",
            remedy=f"Wait for it: fairlead runs watch {other.apply_run_id}",
            run_id=other.apply_run_id,
            number=other.number,
        )
    run = door.runs.submit(
        conn,
        APPLY,
        {"number": plan.number},
        project_id=plan.project_id,
        actor=actor.username,
        title=f"Apply plan {plan.number}: {plan.description}"[:200],
        partition=plan.project_id,
    )
    store.move_plan(conn, plan, PlanStatus.APPLYING, apply_run_id=run.id)
    store.use_approvals(conn, plan.project_id, str(plan.digest), run.id)
    audit_plan(conn, plan, "plan.apply_requested", actor.username, {"digest": plan.digest, "run": run.id})
    announce(door.runs, conn, plan.project_id, plan.number)


def _refuse_while_applying(door: ChangesDoor, project_id: str) -> None:
    """A version written now would leave the apply without a place for its own."""
    with door.database.reading() as conn:
        other = store.applying(conn, project_id)
    if other is not None:
        raise store.ApplyInProgress(
            f"Plan {other.number} is being applied; its end writes the next version.",
            remedy=f"Wait for it: fairlead runs watch {other.apply_run_id}",
            run_id=other.apply_run_id,
        )


async def _recover(door: ChangesDoor, access: Access, actor: Actor) -> dict[str, Any]:
    await asyncio.to_thread(_refuse_while_applying, door, access.project.id)
    log = state_log(door.objects, access.project)
    written = await log.recover(actor.username, timestamp=utc_now(), nonce=uuid.uuid4().hex)
    if written is None:
        return {"version": await log.latest(), "recovered_from": None, "skipped": []}

    def record() -> None:
        with door.database.transaction() as conn:
            audit.append(
                conn,
                actor=actor.username,
                action="state.recovered",
                subject=f"project:{access.project.id}",
                project_id=access.project.id,
                data={"version": written.version, "recovered_from": written.recovered_from},
            )

    await asyncio.to_thread(record)
    return {
        "version": written.version,
        "recovered_from": written.recovered_from,
        "address": written.address,
        "skipped": [{"version": item.version, "problem": item.problem} for item in written.skipped],
    }
