"""What is so after an apply: the next state version, written from how each call ended."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from fairlead.changes.model import Action, Change, Desired, Properties, Recorded
from fairlead.changes.nodes import Call, Node
from fairlead.changes.state import ResourceStatus, Snapshot, State, StateResource, seen, state_resource
from fairlead.changes.work import Work
from fairlead.kernel.runs import NodeStatus as EndStatus


def made_by(work: Work, name: str, end: Mapping[str, Any]) -> Recorded | None:
    """The resource that a node made or updated, where it succeeded."""
    node = work.graph[name]
    if node.call not in (Call.CREATE, Call.UPDATE) or end["status"] != EndStatus.SUCCEEDED:
        return None
    return _as_recorded(work.desired[node.change.logical_id], node.change, end["result"])


def recorded_of(state: State | None) -> dict[str, Recorded]:
    """What the plan engine knows of the state.

    A superseded resource (its removal failed) has no logical id of its own any more: it gets one that
    no template can have, so that every plan wants it gone.
    """
    if state is None:
        return {}
    found = state.recorded()
    for item in state.resources:
        if item.superseded:
            name = f"{item.logical_id}~{item.id}"
            found[name] = replace(item.recorded(), logical_id=name)
    return found


def snapshot(
    work: Work,
    ended: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Properties],
    *,
    region: str,
    now: datetime,
    actor: str,
    run_id: str,
) -> Snapshot:
    """What the next state version says: exactly what happened, failures included.

    `after` is what AWS said at the very end, by logical id.

    A resource whose creation failed but which AWS left standing is recorded with status `error`, so
    that the next plan replaces or removes it.
    """
    kept: dict[tuple[str, str], StateResource] = {
        item.identity: item for item in (work.base.resources if work.base else ())
    }
    for name, end in ended.items():
        node = work.graph[name]
        if node.call in (Call.DELETE, Call.FORGET):
            _record_removal(kept, work, node, end, now)
        else:
            _record_making(kept, work, node, end, region, now)
    for key, item in list(kept.items()):
        if key[1]:
            continue
        # A changed DependsOn is no change of the resource, but a later removal must know it.
        needs = work.dependencies.get(item.logical_id, item.depends_on)
        told = seen(item, after.get(item.logical_id, item.observed), work.arns)
        kept[key] = msgspec.structs.replace(told, depends_on=needs)
    return Snapshot(
        resources=sorted(kept.values(), key=lambda item: item.identity),
        actor=actor,
        description=work.description,
        timestamp=now,
        run_id=run_id,
        plan_id=str(work.number),
        plan_digest=work.digest,
    )


_Kept = dict[tuple[str, str], StateResource]


def _record_making(
    kept: _Kept, work: Work, node: Node, end: Mapping[str, Any], region: str, now: datetime
) -> None:
    logical_id = node.change.logical_id
    old = kept.get((logical_id, ""))
    if end["status"] != EndStatus.SUCCEEDED:
        _record_failure(kept, work, node, end, region, now)
        return
    if node.call is Call.CREATE and node.change.action is Action.REPLACE and old is not None:
        # Its successor stands; until its own removal has succeeded it stands too.
        _supersede(kept, old, work.desired[logical_id].update_replace_policy)
    recorded = _as_recorded(work.desired[logical_id], node.change, end["result"])
    created_at = old.created_at if old is not None and node.call is Call.UPDATE else now
    kept[logical_id, ""] = state_resource(
        recorded, region=region, status=ResourceStatus.ACTIVE, created_at=created_at, updated_at=now
    )


def _record_failure(
    kept: _Kept, work: Work, node: Node, end: Mapping[str, Any], region: str, now: datetime
) -> None:
    logical_id = node.change.logical_id
    old = kept.get((logical_id, ""))
    if end["status"] != EndStatus.FAILED:
        return
    if node.call is Call.UPDATE and old is not None:
        kept[logical_id, ""] = _with_status(old, now)
        return
    identifier = ((end["problem"] or {}).get("details") or {}).get("identifier")
    if identifier is None or node.call is not Call.CREATE:
        return
    if old is not None:
        _supersede(kept, old, work.desired[logical_id].update_replace_policy)
    left = _as_recorded(
        work.desired[logical_id], node.change, {"identifier": identifier, "properties": {}, "observed": {}}
    )
    kept[logical_id, ""] = state_resource(
        left, region=region, status=ResourceStatus.ERROR, created_at=now, updated_at=now
    )


def _record_removal(kept: _Kept, work: Work, node: Node, end: Mapping[str, Any], now: datetime) -> None:
    known = work.recorded[node.change.logical_id]
    logical_id = known.logical_id.partition("~")[0]
    found = [key for key, item in kept.items() if key[0] == logical_id and item.id == known.identifier]
    for key in found:
        if end["status"] == EndStatus.SUCCEEDED:
            del kept[key]
        elif end["status"] == EndStatus.FAILED:
            kept[key] = _with_status(kept[key], now)


def _supersede(kept: _Kept, old: StateResource, update_replace_policy: str) -> None:
    del kept[old.identity]
    # Where its removal fails, the next plan removes it by its DeletionPolicy: that must save as much.
    policy = old.deletion_policy if update_replace_policy == "Delete" else update_replace_policy
    older = msgspec.structs.replace(old, superseded=True, deletion_policy=policy)
    kept[older.identity] = older


def _with_status(resource: StateResource, now: datetime) -> StateResource:
    return msgspec.structs.replace(resource, status=ResourceStatus.ERROR, updated_at=now)


def _as_recorded(resource: Desired, change: Change, result: Mapping[str, Any]) -> Recorded:
    return Recorded(
        logical_id=resource.logical_id,
        type=resource.type,
        identifier=result["identifier"],
        properties=result["properties"],
        observed=result["observed"],
        depends_on=resource.depends_on,
        deletion_policy=resource.deletion_policy,
        update_replace_policy=resource.update_replace_policy,
        via=change.via,
    )
