"""The shapes at the door: what requests may hold and how plans, approvals and state are shown."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from fairlead.changes import desired, diff, graph
from fairlead.changes.model import (
    Action,
    Change,
    Cost,
    Desired,
    Plan,
    PlanRecord,
    PropertyChange,
    Replacement,
    Via,
)
from fairlead.changes.registry import Registry
from fairlead.changes.state import (
    HistoryEntry,
    State,
    StateDifference,
    StateResource,
    StateVersion,
    Verification,
)
from fairlead.kernel.clock import iso

OFFLINE_ACCOUNT = "000000000000"
OFFLINE_MAX_BYTES = 16 * 1024 * 1024


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanIn(_Body):
    """A request for a plan: a template with its parameter values, or `destroy`."""

    template: str | None = Field(default=None, description="CloudFormation template, YAML or JSON text")
    parameters: dict[str, Any] = Field(default={}, description="Values by parameter name")
    description: str = Field(default="", max_length=500, description="What this change is for")
    destroy: bool = Field(default=False, description="Plan the deletion of every resource instead")


class DecisionIn(_Body):
    """A decision about exactly the plan that was looked at."""

    digest: str | None = Field(description="Digest of the plan as it was shown")
    comment: str | None = Field(default=None, max_length=2000)


def plan_out(record: PlanRecord, *, document: bool = True) -> dict[str, Any]:
    """A plan for the API. Parameter values never leave the server."""
    body: dict[str, Any] = {
        "number": record.number,
        "project": record.project_id,
        "status": record.status.value,
        "author": record.author,
        "description": record.description,
        "destroy": record.destroy,
        "created_at": iso(record.created_at),
        "deadline_at": iso(record.deadline_at),
        "run_id": record.run_id,
        "digest": record.digest,
        "base_version": record.base_version,
        "risk": record.risk.value if record.risk else None,
        "decided_by": record.decided_by,
        "decided_at": iso(record.decided_at) if record.decided_at else None,
        "comment": record.comment,
        "apply_run_id": record.apply_run_id,
        "state_version": record.state_version,
    }
    if document:
        body["document"] = record.document
        body["problem"] = record.problem
    return body


def plan_document(plan: Plan, calls: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """The plan as it is stored, shown and approved: plain JSON, changes in apply order.

    `calls` is the graph of calls that will carry it out, where it is known.
    """
    return {
        "digest": plan.digest,
        "base_version": plan.base_version,
        "unchanged": plan.unchanged,
        "changes": [_change(change) for change in plan.changes],
        "waves": [sorted(wave) for wave in graph.levels(calls or _waves(plan.changes))],
        "risk": {
            "level": plan.risk.level.value,
            "points": plan.risk.points,
            "reasons": list(plan.risk.reasons),
        },
        "cost": _cost(plan.cost),
        "fingerprints": dict(plan.fingerprints),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "logical_id": change.logical_id,
        "type": change.type,
        "action": change.action.value,
        "replacement": change.replacement.value,
        "identifier": change.identifier,
        "via": change.via.value,
        "delete_first": change.delete_first,
        "retain": change.retain,
        "depends_on": list(change.depends_on),
        "notes": list(change.notes),
        "risk": {
            "level": change.risk.level.value,
            "points": change.risk.points,
            "reasons": list(change.risk.reasons),
        }
        if change.risk
        else None,
        "cost": _cost(change.cost) if change.cost else None,
        "previous_type": change.previous_type,
        "properties": [
            {**diff.property_json(item), "replacement": item.replacement.value, "drift": item.drift}
            for item in change.properties
        ],
    }


def change_from_document(item: Mapping[str, Any]) -> Change:
    """What an apply needs of a stored change; values are shown ones, not for sending."""
    return Change(
        logical_id=item["logical_id"],
        type=item["type"],
        previous_type=item.get("previous_type"),
        action=Action(item["action"]),
        replacement=Replacement(item["replacement"]),
        identifier=item["identifier"],
        via=Via(item["via"]),
        delete_first=item["delete_first"],
        retain=item["retain"],
        depends_on=tuple(item["depends_on"]),
        properties=tuple(
            PropertyChange(
                path=change["path"],
                before=change["before"],
                after=change["after"],
                replacement=Replacement(change["replacement"]),
                drift=change["drift"],
            )
            for change in item["properties"]
        ),
    )


def _cost(cost: Cost) -> dict[str, Any]:
    known = cost.before_usd is not None and cost.after_usd is not None
    return {
        "before_usd": cost.before_usd,
        "after_usd": cost.after_usd,
        "delta_usd": round((cost.after_usd or 0) - (cost.before_usd or 0), 2) if known else None,
        "source": cost.source,
        "as_of": cost.as_of,
        "note": cost.note,
        "unknown": list(cost.unknown),
    }


def _waves(changes: tuple[Change, ...]) -> dict[str, list[str]]:
    """The order where only templates are known: made after what they refer to, removed last."""
    made = {change.logical_id for change in changes if change.action is not Action.DELETE}
    return {
        change.logical_id: [d for d in change.depends_on if d in made]
        if change.logical_id in made
        else sorted(made)
        for change in changes
    }


def offline(data: bytes, parameters: Mapping[str, Any]) -> desired.Target:
    """Where a template is bound when no AWS is asked."""
    return desired.Target(
        data=data, parameters=parameters, region="us-east-1", account_id=OFFLINE_ACCOUNT, stack_name="offline"
    )


def _comparable(data: bytes, parameters: Mapping[str, Any], registry: Registry) -> Mapping[str, Desired]:
    target = offline(data, parameters)
    return desired.bound(target, registry, max_bytes=OFFLINE_MAX_BYTES, comparable=True).resources


def diff_files(
    before: bytes,
    after: bytes,
    before_parameters: Mapping[str, Any],
    after_parameters: Mapping[str, Any],
) -> Plan:
    """The plan that turns one template file into another, without AWS. Raises TemplateInvalid."""
    registry = Registry()
    sides = [
        _comparable(data, parameters, registry)
        for data, parameters in ((before, before_parameters), (after, after_parameters))
    ]
    return diff.diff_templates(sides[0], sides[1], registry)


def state_out(state: State) -> dict[str, Any]:
    """A state version with its resources, in the names of the file."""
    return {**about_out(state.about), "resources": msgspec.to_builtins(list(state.resources))}


def about_out(about: StateVersion) -> dict[str, Any]:
    """What a version says about itself."""
    return {
        "version": about.version,
        "address": about.address,
        "sha256": about.sha256,
        "previous_sha256": about.previous_sha256,
        "actor": about.actor,
        "description": about.description,
        "timestamp": iso(about.timestamp),
        "run_id": about.run_id,
        "plan": about.plan_id,
        "plan_digest": about.plan_digest,
        "resource_count": about.resource_count,
        "size_bytes": about.size_bytes,
        "recovered_from": about.recovered_from,
    }


def version_out(entry: HistoryEntry) -> dict[str, Any]:
    """One line of the history; a damaged version says what is wrong with it."""
    shown = {
        "version": entry.version,
        "address": entry.address,
        "size_bytes": entry.size_bytes,
        "problem": entry.problem,
    }
    return {**shown, **(about_out(entry.about) if entry.about else {})}


def difference_out(found: StateDifference) -> dict[str, Any]:
    """What differs between two versions: one entry a resource."""

    def whole(kind: str, item: StateResource) -> dict[str, Any]:
        return {"kind": kind, "logical_id": item.logical_id, "type": item.type, "id": item.id}

    changed = [
        {
            "kind": "replaced" if item.replaced else "changed",
            "logical_id": item.logical_id,
            "type": item.type,
            "properties": [
                {"path": change.path, "before": change.before, "after": change.after}
                for change in (*item.attributes, *item.properties)
            ],
            "observed": [{"path": c.path, "before": c.before, "after": c.after} for c in item.observed],
        }
        for item in found.changed
    ]
    added = [whole("added", item) for item in found.added]
    return {"differences": [*added, *changed, *(whole("removed", item) for item in found.removed)]}


def verification_out(found: Verification) -> dict[str, Any]:
    """What walking the chain found."""
    faults = [
        {
            "version": f.version,
            "address": f.address,
            "code": f.code,
            "message": f.problem,
            "recovered": f.recovered,
        }
        for f in found.faults
    ]
    return {"intact": found.intact, "checked": found.head, "head_sha256": found.head_sha256, "faults": faults}


def resources_out(
    state: State, *, type_name: str | None = None, status: str | None = None, tag: str | None = None
) -> list[dict[str, Any]]:
    """The resources that stand now, as the seed's own fields plus the logical id.

    Only those of a type (`AWS::EC2::*` is a pattern), in a status, with a tag (`Key` or `Key=Value`).
    """
    key, _, value = (tag or "").partition("=")
    return [
        {
            "id": item.id,
            "logical_id": item.logical_id,
            "type": item.type,
            "name": item.name,
            "region": item.region,
            "arn": item.arn,
            "status": item.status.value,
            "superseded": item.superseded,
            "tags": item.tags,
            "created_at": iso(item.created_at),
            "updated_at": iso(item.updated_at),
        }
        for item in state.resources
        if (type_name is None or fnmatchcase(item.type, type_name))
        and (status is None or item.status == status)
        and (tag is None or (key in item.tags and ("=" not in tag or item.tags[key] == value)))
    ]
