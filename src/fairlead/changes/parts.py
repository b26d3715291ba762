"""What runs of `changes` stand on: the opened parts, and how they look at plans, templates and AWS."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fairlead.changes import desired, store
from fairlead.changes.cloudcontrol import Resources
from fairlead.changes.desired import Target
from fairlead.changes.model import (
    PlanRecord,
    Properties,
    Recorded,
    Via,
)
from fairlead.changes.registry import Registry
from fairlead.changes.secrets import Vault
from fairlead.changes.state import StateLog
from fairlead.changes.template import Bound
from fairlead.kernel import audit
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Conflict
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Project
from fairlead.kernel.runs import RunContext


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


def state_log(objects: ObjectStore, project: Project) -> StateLog:
    """The project's state versions."""
    return StateLog(objects, project.id, prefix=project.settings.state_prefix)


async def plan_of(parts: ChangesParts, ctx: RunContext, number: int) -> tuple[PlanRecord, Project]:
    def read() -> tuple[PlanRecord, Project]:
        project_id = str(ctx.project_id)
        with parts.database.reading() as conn:
            return store.get_plan(conn, project_id, number), projects.find(conn, project_id)

    return await asyncio.to_thread(read)


async def target_of(parts: ChangesParts, project: Project, record: PlanRecord) -> Target:
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


def bound_of(parts: ChangesParts, target: Target) -> Bound:
    return desired.bound(target, parts.registry, max_bytes=parts.max_template_bytes)


async def live_of(
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


def audit_plan(
    conn: sa.Connection, record: PlanRecord, action: str, actor: str, data: dict[str, Any]
) -> None:
    subject = f"plan:{record.project_id}#{record.number}"
    audit.append(conn, actor=actor, action=action, subject=subject, project_id=record.project_id, data=data)
