"""How a plan is applied: which calls there are, what each waits for, and how one is made safely.

The calls form a graph of *nodes*. Everything that decides is pure; `Applier` acts. Each node is
idempotent: its client token is derived from the run and the node, its intent is written down
before the call and its result after, so a node that was cut off anywhere can simply be run again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from fairlead.changes import store
from fairlead.changes.cloudcontrol import Progress, Resources
from fairlead.changes.intrinsics import evaluate
from fairlead.changes.model import (
    Action,
    Change,
    Desired,
    JournalEntry,
    NodeStatus,
    Properties,
    Recorded,
    Reference,
    Unknown,
)
from fairlead.changes.registry import Registry
from fairlead.changes.secrets import Vault, revealed
from fairlead.changes.state import ResourceStatus, Snapshot, State, StateResource, is_sealed, state_resource
from fairlead.changes.template import Output
from fairlead.changes.types.references import MISSING, attribute, ref
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Conflict, FairleadError
from fairlead.kernel.runs import NodeStatus as EndStatus
from fairlead.kernel.runs import RunContext

NODE_DEADLINE_S = 3600.0  # a database or a cluster takes many minutes
SNAPSHOT_DEADLINE_S = 4 * 3600.0  # the first one of a large volume takes hours
ATTEMPTS = 3
_PASSING = frozenset({"Throttling", "ServiceInternalError", "NetworkFailure", "ServiceTimeout"})


class ValueUnknown(Conflict):
    """AWS has not told a value that another resource needs."""

    code = "changes.value_unknown"


class SecretReference(Conflict):
    """A resource refers to a secret of another one, which Fairlead does not keep."""

    code = "changes.secret_reference"


class SnapshotFailed(FairleadError):
    """The last snapshot of a resource was not taken, so the resource was not deleted."""

    code, status, retryable = "changes.snapshot_failed", 502, False


class Call(StrEnum):
    """What a node does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    FORGET = "forget"  # drop it from the state and leave it standing (DeletionPolicy: Retain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One call of an apply."""

    name: str  # "create:Web": unique, and the same on every execution
    call: Call
    change: Change
    depends_on: tuple[str, ...]


def nodes(changes: Collection[Change], recorded: Mapping[str, Recorded]) -> dict[str, Node]:
    """The graph of calls that carries out `changes`, by name.

    Resources are made after what they refer to. Old resources go after everything that used them
    has been updated or has gone; a replacement is made first and its predecessor removed last,
    unless both cannot stand at once (`Change.delete_first`).
    """
    by_id = {change.logical_id: change for change in changes}
    dependants: dict[str, list[str]] = {}
    for known in recorded.values():
        for target in known.depends_on:
            dependants.setdefault(target, []).append(known.logical_id)
    found: dict[str, Node] = {}
    for change in changes:
        for node in _nodes_of(change, by_id, dependants):
            found[node.name] = node
    # A dependency may name a call that the plan does not hold: that resource does not change.
    needs = {name: set(node.depends_on) & found.keys() - {name} for name, node in found.items()}
    for change in changes:
        if change.action is Action.REPLACE and change.delete_first:
            _wait_for_users(change.logical_id, needs, dependants, by_id)
    return {
        name: Node(name=name, call=node.call, change=node.change, depends_on=tuple(sorted(needs[name])))
        for name, node in found.items()
    }


def _wait_for_users(
    logical_id: str,
    needs: dict[str, set[str]],
    dependants: Mapping[str, list[str]],
    by_id: Mapping[str, Change],
) -> None:
    """Let what must go first go after its users that go too, where those do not wait for its successor."""
    removal = _delete_name(logical_id)
    for user in dependants.get(logical_id, ()):
        goes = user in by_id and (by_id[user].action is Action.DELETE or by_id[user].delete_first)
        name = _delete_name(user)
        if goes and name in needs and not _reaches(name, removal, needs):
            needs[removal].add(name)


def _reaches(start: str, target: str, needs: Mapping[str, set[str]]) -> bool:
    """Whether `start` waits, directly or not, for `target`."""
    seen, open_ = {start}, [start]
    while open_:
        name = open_.pop()
        if name == target:
            return True
        fresh = needs.get(name, set()) - seen
        seen |= fresh
        open_.extend(fresh)
    return False


def _nodes_of(
    change: Change,
    by_id: Mapping[str, Change],
    dependants: Mapping[str, list[str]],
) -> list[Node]:
    logical_id = change.logical_id
    make = [_make_name(by_id[target]) for target in change.depends_on if _is_made(by_id.get(target))]
    old_users = dependants.get(logical_id, [])
    users_moved = [_make_name(by_id[user]) for user in old_users if _is_made(by_id.get(user))]
    users_gone = [_delete_name(user) for user in old_users if user in by_id]
    match change.action:
        case Action.CREATE:
            return [Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=tuple(make))]
        case Action.UPDATE:
            return [Node(name=_make_name(change), call=Call.UPDATE, change=change, depends_on=tuple(make))]
        case Action.DELETE:
            after = tuple(users_gone + users_moved)
            return [
                Node(name=_delete_name(logical_id), call=_removal(change), change=change, depends_on=after)
            ]
        case Action.REPLACE if change.delete_first:
            create_after = (*make, _delete_name(logical_id))
            return [
                Node(name=_delete_name(logical_id), call=Call.DELETE, change=change, depends_on=()),
                Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=create_after),
            ]
        case Action.REPLACE:
            after = (_make_name(change), *users_moved, *users_gone)
            return [
                Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=tuple(make)),
                Node(name=_delete_name(logical_id), call=_removal(change), change=change, depends_on=after),
            ]
        case _:
            return []


def _removal(change: Change) -> Call:
    return Call.FORGET if change.retain else Call.DELETE


def _is_made(change: Change | None) -> bool:
    return change is not None and change.action in (Action.CREATE, Action.UPDATE, Action.REPLACE)


def _make_name(change: Change) -> str:
    verb = Call.UPDATE if change.action is Action.UPDATE else Call.CREATE
    return f"{verb.value}:{change.logical_id}"


def _delete_name(logical_id: str) -> str:
    return f"delete:{logical_id}"


def client_token(run_id: str, node: str, attempt: int = 1) -> str:
    """The idempotency token of a node's call: the same on every execution of the same run."""
    return hashlib.sha256(f"{run_id}\n{node}\n{attempt}".encode()).hexdigest()


def patch(change: Change, wanted: Properties) -> list[dict[str, Any]]:
    """RFC 6902 operations that bring the changed properties to their wanted values.

    Whole top-level properties are set, not their insides: an index into a list that AWS reorders would
    hit the wrong item. `add` overwrites; `remove` only where the plan saw something. Depends on the
    plan alone, so that a repeated call carries the same body under its client token.
    """
    seen: dict[str, bool] = {}
    for item in change.properties:
        name = item.path.partition(".")[0]
        seen[name] = seen.get(name, False) or item.before is not None
    operations: list[dict[str, Any]] = []
    for name in sorted(seen):
        if name in wanted:
            operations.append({"op": "add", "path": f"/{name}", "value": wanted[name]})
        elif seen[name]:
            operations.append({"op": "remove", "path": f"/{name}"})
    return operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all nodes of one apply share. None of it changes while the apply runs."""

    changes: tuple[Change, ...]
    graph: Mapping[str, Node]
    desired: Mapping[str, Desired]
    recorded: Mapping[str, Recorded]
    base: State | None
    live: Mapping[str, Properties]  # of unchanged resources that changed ones refer to
    outputs: Mapping[str, Output]
    dependencies: Mapping[str, tuple[str, ...]]  # of every resource that the template wants
    referred_to: frozenset[str]  # logical ids whose values other resources of this plan need
    description: str
    number: int
    digest: str


def wants_snapshot(work: Work, change: Change) -> bool:
    """Whether the policy that removes the old resource of `change` asks for a last snapshot of it."""
    known = work.recorded[change.logical_id]
    policy = known.deletion_policy
    if change.action is Action.REPLACE:
        policy = work.desired[change.logical_id].update_replace_policy
    # A logical id that stood for another type: the new type's policy cannot be kept for that one.
    return policy == "Snapshot" and known.type in SNAPSHOT_TYPES


Results = Mapping[str, Any]  # what the nodes that a node depends on gave back, by node name


class Applier:
    """Makes the calls of one run."""

    def __init__(self, resources: Resources, vault: Vault, registry: Registry, ctx: RunContext) -> None:
        self._resources = resources
        self._vault = vault
        self._seal = vault.sealer(registry)
        self._registry = registry
        self._ctx = ctx

    async def run(self, work: Work, name: str, results: Results) -> dict[str, Any]:
        """Carry out one node; safe to repeat at any point. Raises what AWS refused with."""
        node = work.graph[name]
        shown = {"node": name, "logical_id": node.change.logical_id, "action": node.call.value}
        await self._ctx.event("node.started", shown, key=f"{name}:start")
        try:
            result = await self._carry_out(work, node, results)
        except FairleadError as error:
            await self._journal(
                node, NodeStatus.FAILED, error=error.problem(), identifier=error.details.get("identifier")
            )
            await self._ctx.event("node.failed", {**shown, "problem": error.problem()}, key=f"{name}:end")
            raise
        await self._journal(node, NodeStatus.SUCCEEDED, identifier=result["identifier"])
        await self._ctx.event(
            "node.succeeded", {**shown, "identifier": result["identifier"]}, key=f"{name}:end"
        )
        return result

    async def _carry_out(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        match node.call:
            case Call.FORGET:
                return {"identifier": work.recorded[node.change.logical_id].identifier}
            case Call.DELETE:
                return await self._delete(work, node)
            case Call.UPDATE:
                return await self._update(work, node, results)
            case Call.CREATE:
                return await self._create(work, node, results)

    async def _delete(self, work: Work, node: Node) -> dict[str, Any]:
        known = work.recorded[node.change.logical_id]
        if wants_snapshot(work, node.change):
            await self._snapshot(node, known)
        await self._attempts(
            node,
            lambda token: self._resources.delete(
                known.type, known.identifier, client_token=token, via=known.via
            ),
        )
        return {"identifier": known.identifier}

    async def _snapshot(self, node: Node, known: Recorded) -> None:
        """Take the last snapshot of what is about to be deleted; nothing where it is already gone."""
        token = client_token(self._ctx.run_id, f"snapshot of {node.name}")
        await self._journal(node, NodeStatus.INTENDED, token=token)
        try:
            taken = await self._resources.snapshot(
                known.type,
                known.identifier,
                client_token=token,
                deadline_s=SNAPSHOT_DEADLINE_S,
                via=known.via,
            )
        except FairleadError as error:
            raise SnapshotFailed(
                f"{known.logical_id} ({known.identifier}) was not deleted, because its last snapshot was not "
                f"taken: {error.message}",
                remedy=f"{error.remedy or 'Remove the reason.'} Then plan again; or first apply a template "
                "that sets the policy to Delete or Retain.",
                identifier=known.identifier,
                cause=error.code,
            ) from error
        if taken is not None:
            shown = {"node": node.name, "logical_id": known.logical_id, "identifier": known.identifier}
            await self._ctx.event("node.snapshot", {**shown, "snapshot": taken}, key=f"{node.name}:snapshot")

    async def _create(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        change = node.change
        wanted = self._wanted(work, change, results)
        final = await self._attempts(
            node,
            lambda token: self._resources.create(
                change.type, revealed(wanted), client_token=token, via=change.via
            ),
        )
        return await self._made(work, change, wanted, str(final.identifier))

    async def _update(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        change = node.change
        known = work.recorded[change.logical_id]
        wanted = self._wanted(work, change, results)
        if operations := patch(change, revealed(wanted)):
            await self._attempts(
                node,
                lambda token: self._resources.update(
                    change.type, known.identifier, operations, client_token=token, via=change.via
                ),
            )
        return await self._made(work, change, wanted, known.identifier)

    async def _made(self, work: Work, change: Change, wanted: Properties, identifier: str) -> dict[str, Any]:
        """The result of a node that made something, fit to be stored: secrets are digested."""
        sealed = self._seal(change.logical_id, change.type, wanted)
        if change.logical_id not in work.referred_to:
            # Nobody waits for its attributes: it is read with all others at the end, twenty in a call.
            return {"identifier": identifier, "properties": sealed, "observed": {}}
        observed = await self._resources.read(change.type, identifier, via=change.via)
        return {
            "identifier": identifier,
            "properties": sealed,
            "observed": self._vault.seal_like(change.logical_id, observed or {}, sealed),
        }

    async def _attempts(self, node: Node, begin: Callable[[str], Awaitable[Progress]]) -> Progress:
        """The successful end of a call; what fails for a passing reason is tried again under a new token.

        A repeated execution starts with the first token again and finds its own requests.
        """
        for attempt in range(1, ATTEMPTS + 1):
            token = client_token(self._ctx.run_id, node.name, attempt)
            await self._journal(node, NodeStatus.INTENDED, token=token)
            progress = await begin(token)
            await self._journal(node, NodeStatus.SUBMITTED, token=token, request=progress.request_token)
            final = await self._resources.wait(progress, deadline_s=NODE_DEADLINE_S)
            error = final.error()
            if error is None:
                return final
            if final.identifier:
                error.details.setdefault("identifier", final.identifier)
            if (
                attempt == ATTEMPTS
                or final.error_code not in _PASSING
                or (node.call is Call.CREATE and final.identifier)
            ):
                raise error
            await asyncio.sleep(2**attempt / 4)
        raise AssertionError("unreachable")

    def _wanted(self, work: Work, change: Change, results: Results) -> Properties:
        """The resource's properties now that everything that it refers to exists."""
        resource = work.desired[change.logical_id]
        if not resource.dynamic:
            return resource.properties

        def lookup(reference: Reference) -> Any:
            return value_of(work, self._registry, reference, results)

        return dict(evaluate(resource.properties, lookup))

    async def _journal(
        self,
        node: Node,
        status: NodeStatus,
        *,
        token: str | None = None,
        request: str | None = None,
        identifier: str | None = None,
        error: Any = None,
    ) -> None:
        """Write the call down: what is known of it so far, in a transaction of its own."""

        def write(conn: Any) -> None:
            old = store.journal_entry(conn, self._ctx.run_id, node.name)
            entry = JournalEntry(
                run_id=self._ctx.run_id,
                node=node.name,
                client_token=token or (old.client_token if old else ""),
                status=status,
                request_token=request or (old.request_token if old else None),
                identifier=identifier,
                error=error,
            )
            store.write_journal(conn, entry, now=utc_now())

        await self._ctx.shift.in_transaction(write)


def value_of(work: Work, registry: Registry, reference: Reference, results: Results) -> Any:
    """What a reference stands for now. Raises ValueUnknown and SecretReference."""
    logical_id = reference.logical_id
    made = results.get(f"create:{logical_id}") or results.get(f"update:{logical_id}")
    if made is not None:
        type_name, identifier = work.desired[logical_id].type, made["identifier"]
        model = {**made["properties"], **made["observed"]}
    else:
        known = work.recorded[logical_id]
        type_name, identifier = known.type, known.identifier
        model = {**known.properties, **work.live.get(logical_id, known.observed)}
    if reference.attribute is None:
        found = ref(type_name, registry.find(type_name), identifier, model)
    else:
        found = attribute(model, reference.attribute)
    shown = logical_id if reference.attribute is None else f"{logical_id}.{reference.attribute}"
    if found is MISSING or isinstance(found, Unknown):
        raise ValueUnknown(
            f"AWS has not told {shown}.", remedy="Refer to an attribute that the type returns."
        )
    if is_sealed(found):
        raise SecretReference(f"{shown} is a secret.", remedy="Pass the value as a NoEcho parameter instead.")
    return found


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
        observed = after.get(item.logical_id, item.observed)
        kept[key] = msgspec.structs.replace(item, observed=observed, depends_on=needs)
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
