"""The plan: what must change so that AWS is as the template says. Pure: everything is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fairlead.changes import cost, graph, risk
from fairlead.changes.diff.digest import plan_digest
from fairlead.changes.diff.judging import Decision, fingerprints, judged, reach
from fairlead.changes.diff.properties import changed_properties, declared, settled, unknowns
from fairlead.changes.diff.world import Seal, World
from fairlead.changes.intrinsics import evaluate
from fairlead.changes.model import (
    Action,
    Change,
    Desired,
    Plan,
    Properties,
    PropertyChange,
    Recorded,
    Replacement,
    Via,
)
from fairlead.changes.types.references import MISSING
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel.memory import gc_paused

if TYPE_CHECKING:
    from fairlead.changes.registry import Registry


def plan(
    desired: Mapping[str, Desired],
    recorded: Mapping[str, Recorded],
    live: Mapping[str, Properties | None],
    registry: Registry,
    *,
    base_version: int,
    region: str = "us-east-1",
    environment: str | None = None,
    seal: Seal | None = None,
) -> Plan:
    """Changes that turn `live` into `desired`, in apply order; deletes last, in reverse.

    `live` holds what AWS answers now: None for a resource that is gone; an id that is not in it was
    not read and counts as recorded. `seal` brings desired properties into the form in which
    `recorded` keeps secrets. Values in the plan are masked; its digest is of the real (sealed) ones.
    Raises CycleFound, UnknownType and Unresolvable.
    """
    world = World(recorded, live, registry, seal, symbolic=False)
    with gc_paused():
        return _plan(desired, world, base_version=base_version, region=region, environment=environment)


def diff_templates(
    before: Mapping[str, Desired],
    after: Mapping[str, Desired],
    registry: Registry,
    *,
    region: str = "us-east-1",
) -> Plan:
    """The plan between two bound templates, offline. References to what exists stay symbolic: `(Vpc)`."""
    recorded: dict[str, Recorded] = {}
    then = World(recorded, {}, registry, None, symbolic=True)
    for name in graph.order({name: resource.depends_on for name, resource in before.items()}):
        recorded[name] = _as_recorded(before[name], then)
    world = World(recorded, {}, registry, None, symbolic=True)
    return _plan(after, world, base_version=0, region=region, environment=None)


def _as_recorded(resource: Desired, world: World) -> Recorded:
    properties = evaluate(resource.properties, world.lookup) if resource.dynamic else resource.properties
    return Recorded(
        logical_id=resource.logical_id,
        type=resource.type,
        identifier="",
        properties=properties,
        observed=properties,
        depends_on=resource.depends_on,
        deletion_policy=resource.deletion_policy,
        update_replace_policy=resource.update_replace_policy,
        via=_via(resource.type, world),
    )


def _plan(
    desired: Mapping[str, Desired], world: World, *, base_version: int, region: str, environment: str | None
) -> Plan:
    dependencies = {name: resource.depends_on for name, resource in desired.items()}
    ordered = graph.order(dependencies)
    decisions: list[Decision] = []
    for name in ordered:
        decision = _decide(desired[name], world)
        if decision is not None:
            decisions.append(decision)
    gone = {name: known.depends_on for name, known in world.recorded.items() if name not in desired}
    decisions += [_delete(world.recorded[name], world) for name in graph.apply_order({}, gone)]
    affected = reach(decisions, dependencies, ordered, world)
    shown = [judged(d, affected.get(d.change.logical_id, 0), region, environment, world) for d in decisions]
    made = sum(d.change.action is not Action.DELETE for d in decisions)
    return Plan(
        changes=tuple(shown),
        unchanged=len(desired) - made,
        risk=risk.plan_risk({c.logical_id: c.risk for c in shown if c.risk}),
        cost=cost.plan_cost({c.logical_id: c.cost for c in shown if c.cost}, region),
        digest=plan_digest(
            (d.change for d in decisions), {d.change.logical_id: d.policies for d in decisions}
        ),
        base_version=base_version,
        fingerprints=fingerprints(decisions, world),
    )


def _decide(resource: Desired, world: World) -> Decision | None:
    """What happens to one resource that the template wants; None where nothing does."""
    name = resource.logical_id
    known = world.recorded.get(name)
    wanted, differs = _resolved(resource, known, world)
    live = MISSING if known is None else world.live.get(name, known.observed)
    if known is not None and known.type == resource.type and not differs and live is not None:
        same_policies = _policies(resource) == (known.deletion_policy, known.update_replace_policy)
        if same_policies and (live is known.observed or live == known.observed):
            return None
    if world.seal is not None:
        wanted = world.seal(name, resource.type, wanted)
    if known is None:
        return _create(resource, wanted, world)
    if live is None:
        gone = f"{known.identifier} is gone from AWS: it was deleted outside Fairlead and is made again"
        return _create(resource, wanted, world, gone)
    if known.type != resource.type:
        return _retype(resource, wanted, known, world)
    return _change(resource, wanted, known, live, world)


def _resolved(resource: Desired, known: Recorded | None, world: World) -> tuple[Properties, bool]:
    """The wanted properties with references resolved, and whether they differ from what was asked for."""
    properties = resource.properties
    if known is None:
        return dict(evaluate(properties, world.lookup)) if resource.dynamic else properties, True
    asked = known.properties
    differs = len(asked) != len(properties)
    resolved = {}
    for name, value in properties.items():
        before = asked.get(name, MISSING)
        if value == before:
            continue  # equal to plain JSON, so there is no expression in it to walk through
        if resource.dynamic:
            value = resolved[name] = evaluate(value, world.lookup)  # noqa: PLW2901
        differs = differs or value != before
    return ({**properties, **resolved}, True) if differs else (asked, False)


def _policies(resource: Desired) -> tuple[str, str]:
    return resource.deletion_policy, resource.update_replace_policy


def _create(resource: Desired, wanted: Properties, world: World, *notes: str) -> Decision:
    world.fresh.add(resource.logical_id)
    change = Change(
        logical_id=resource.logical_id,
        type=resource.type,
        action=Action.CREATE,
        replacement=Replacement.NEVER,
        properties=declared(wanted, added=True),
        depends_on=resource.depends_on,
        via=_via(resource.type, world),
        notes=(*notes, *_fallback(resource.type, world)),
    )
    return Decision(change, None, wanted, _policies(resource))


def _retype(resource: Desired, wanted: Properties, known: Recorded, world: World) -> Decision:
    """Another type under the same logical id: the old resource goes, a new one comes."""
    properties = tuple(
        PropertyChange(
            path=name,
            before=known.properties.get(name),
            after=wanted.get(name),
            replacement=Replacement.ALWAYS,
        )
        for name in sorted(known.properties.keys() | wanted.keys())
    )
    note = f"replaced: its type changes from {known.type} to {resource.type}"
    change = _replacing(resource, known, properties, world, note)
    change = replace(change, previous_type=known.type)
    return _replaced(change, resource, known, wanted)


def _change(
    resource: Desired, wanted: Properties, known: Recorded, live: Properties, world: World
) -> Decision | None:
    """An update, a replacement, or nothing."""
    kind = world.registry.get(resource.type)
    notes: list[str] = []
    if world.untold:
        untold = sorted({u.expression for u in unknowns(wanted) if not u.fresh})
        wanted = settled(wanted, known.properties)
        notes += [f"AWS has not told {expression}: taken as it was" for expression in untold]
    properties = changed_properties(kind, wanted, known.properties, known.observed, live)
    notes += _policy_notes(resource, known)
    if not properties:
        return _record_only(resource, wanted, known, world, notes)
    if any(p.drift for p in properties):
        notes.append("changed outside Fairlead: " + ", ".join(p.path for p in properties if p.drift))
    forced = [p.path for p in properties if p.replacement is Replacement.ALWAYS]
    if kind.has_cloud_control and "update" not in kind.handlers:
        forced = [p.path for p in properties]
        properties = tuple(replace(p, replacement=Replacement.ALWAYS) for p in properties)
    if forced:
        reason = f"replaced: {', '.join(forced)} cannot change in place"
        change = _replacing(resource, known, properties, world, reason, *notes)
        return _replaced(change, resource, known, wanted)
    world.updated[resource.logical_id] = (wanted, frozenset(p.path.partition(".")[0] for p in properties))
    conditional = any(p.replacement is Replacement.CONDITIONAL for p in properties)
    change = Change(
        logical_id=resource.logical_id,
        type=resource.type,
        action=Action.UPDATE,
        replacement=Replacement.CONDITIONAL if conditional else Replacement.NEVER,
        properties=properties,
        depends_on=resource.depends_on,
        identifier=known.identifier or None,
        via=_via(resource.type, world),
        notes=(*notes, *_fallback(resource.type, world)),
    )
    return Decision(change, known.properties, wanted, _policies(resource))


def _record_only(
    resource: Desired, wanted: Properties, known: Recorded, world: World, notes: list[str]
) -> Decision | None:
    """An update without properties where only a policy changes: nothing is sent, but it must be recorded."""
    if _policies(resource) == (known.deletion_policy, known.update_replace_policy):
        return None
    change = Change(
        logical_id=resource.logical_id,
        type=resource.type,
        action=Action.UPDATE,
        replacement=Replacement.NEVER,
        depends_on=resource.depends_on,
        identifier=known.identifier or None,
        via=_via(resource.type, world),
        notes=(*notes, "recorded only: nothing is sent to AWS"),
    )
    return Decision(change, known.properties, wanted, _policies(resource))


def _policy_notes(resource: Desired, known: Recorded) -> list[str]:
    pairs = (
        ("DeletionPolicy", known.deletion_policy, resource.deletion_policy),
        ("UpdateReplacePolicy", known.update_replace_policy, resource.update_replace_policy),
    )
    return [f"{name} changes from {was} to {now}" for name, was, now in pairs if was != now]


def _replacing(
    resource: Desired, known: Recorded, properties: tuple[PropertyChange, ...], world: World, *notes: str
) -> Change:
    world.fresh.add(resource.logical_id)
    retain = resource.update_replace_policy == "Retain"
    alone = _delete_first(resource, known, properties, world)
    policy = {
        "Retain": ("UpdateReplacePolicy Retain: the old one stays in AWS",),
        "Snapshot": (_snapshot_note("UpdateReplacePolicy", known.type),),
    }.get(resource.update_replace_policy, ())
    order: tuple[str, ...] = ()
    if alone and retain:
        order = ("the old one stays and both cannot stand at once: AWS will refuse the new one",)
    elif alone:
        order = ("the old one is deleted before the new one is made: both cannot stand at once",)
    return Change(
        logical_id=resource.logical_id,
        type=resource.type,
        action=Action.REPLACE,
        replacement=Replacement.ALWAYS,
        properties=properties,
        depends_on=resource.depends_on,
        identifier=known.identifier or None,
        via=_via(resource.type, world),
        delete_first=alone and not retain,
        retain=retain,
        notes=(*notes, *policy, *order, *_fallback(resource.type, world)),
    )


def _snapshot_note(policy: str, old_type: str) -> str:
    if old_type in SNAPSHOT_TYPES:
        return f"{policy} Snapshot: a last snapshot is taken before it is deleted"
    # A logical id that stood for another type before: the new type's policy cannot be kept for it.
    return f"{policy} Snapshot: {old_type} has no snapshots, so it is deleted without one"


def _delete_first(
    resource: Desired, known: Recorded, properties: tuple[PropertyChange, ...], world: World
) -> bool:
    """Whether the old resource must go first: the schema says so, or both would have one fixed name."""
    kind = world.registry.get(resource.type)
    if known.type != resource.type:
        return False
    if kind.schema.get("replacementStrategy") == "delete_then_create":
        return True
    changed = {p.path.partition(".")[0] for p in properties}
    named = [name.partition(".")[0] for name in kind.primary_identifier]
    return bool(named) and all(name in known.properties and name not in changed for name in named)


def _replaced(change: Change, resource: Desired, known: Recorded, wanted: Properties) -> Decision:
    snapshot = resource.update_replace_policy == "Snapshot" and known.type in SNAPSHOT_TYPES
    return Decision(change, known.properties, wanted, _policies(resource), snapshot)


_RETAINING = ("Retain", "RetainExceptOnCreate")


def _delete(known: Recorded, world: World) -> Decision:
    retain = known.deletion_policy in _RETAINING
    notes = []
    if known.logical_id in world.live and world.live[known.logical_id] is None:
        notes.append("already gone from AWS: only the record of it goes")
    elif retain:
        notes.append(f"DeletionPolicy {known.deletion_policy}: it stays in AWS and Fairlead forgets it")
    elif known.deletion_policy == "Snapshot":
        notes.append(_snapshot_note("DeletionPolicy", known.type))
    change = Change(
        logical_id=known.logical_id,
        type=known.type,
        action=Action.DELETE,
        replacement=Replacement.NEVER,
        properties=declared(known.properties, added=False),
        depends_on=known.depends_on,
        identifier=known.identifier or None,
        via=known.via,
        retain=retain,
        notes=tuple(notes),
    )
    snapshot = known.deletion_policy == "Snapshot" and known.type in SNAPSHOT_TYPES
    return Decision(change, known.properties, None, (known.deletion_policy, ""), snapshot)


def _via(type_name: str, world: World) -> Via:
    return Via.CLOUD_CONTROL if world.registry.get(type_name).has_cloud_control else Via.CLOUDFORMATION


def _fallback(type_name: str, world: World) -> tuple[str, ...]:
    if _via(type_name, world) is Via.CLOUD_CONTROL:
        return ()
    return (f"{type_name} has no Cloud Control handlers: it goes through a CloudFormation stack of its own",)
