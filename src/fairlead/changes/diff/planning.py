"""The plan: what must change so that AWS is as the template says. Pure: everything is passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fairlead.changes import cost, graph, risk
from fairlead.changes.diff.digest import fingerprint, plan_digest
from fairlead.changes.diff.properties import changed_properties, declared, settled, unknowns
from fairlead.changes.diff.secrets import hidden, masked
from fairlead.changes.intrinsics import MASK, evaluate
from fairlead.changes.model import (
    Action,
    Change,
    Desired,
    Plan,
    Properties,
    PropertyChange,
    Recorded,
    Reference,
    Replacement,
    Unknown,
    Via,
)
from fairlead.changes.types.references import MISSING, attribute, ref
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel.memory import gc_paused

if TYPE_CHECKING:
    from fairlead.changes.registry import Registry, ResourceType

Seal = Callable[[str, str, Properties], Properties]
"""`(logical id, type, properties) -> properties` with secrets as the state log keeps them."""


@dataclass(frozen=True, slots=True)
class _Decision:
    """A change with its values in clear, and the properties that risk and cost are judged by."""

    change: Change
    before: Properties | None
    after: Properties | None
    policies: tuple[str, str]  # DeletionPolicy and UpdateReplacePolicy from now on
    snapshot: bool = False


@dataclass(slots=True)
class _World:
    """What is known while the plan is made, in dependency order."""

    recorded: Mapping[str, Recorded]
    live: Mapping[str, Properties | None]
    registry: Registry
    seal: Seal | None
    symbolic: bool  # no AWS behind it: attributes of what exists are names, not values
    fresh: set[str] = field(default_factory=set)  # ids that this plan creates or replaces
    updated: dict[str, tuple[Properties, frozenset[str]]] = field(default_factory=dict)
    known: dict[tuple[str, str | None], Any] = field(default_factory=dict)  # answers of `lookup`
    untold: bool = False  # whether AWS has not told an attribute that somebody reads

    def lookup(self, reference: Reference) -> Any:
        """What the reference stands for once this plan is applied; its resource is decided already."""
        key = (reference.logical_id, reference.attribute)
        found = self.known.get(key, MISSING)
        if found is MISSING:
            found = self.known[key] = self._find(reference)
        return found

    def _find(self, reference: Reference) -> Any:
        name = reference.logical_id
        if name in self.fresh:
            return Unknown(_expression(reference), fresh=True)
        known = self.recorded[name]
        if reference.attribute is None:
            model = known.observed if self.symbolic else self.live.get(name) or known.observed
            found = (
                MISSING
                if self.symbolic
                else ref(known.type, self.registry.find(known.type), known.identifier, model)
            )
        else:
            found = self._attribute(known, reference.attribute)
        if found is MISSING:
            self.untold = not self.symbolic
            return Unknown(_expression(reference), fresh=False)
        return found

    def _attribute(self, known: Recorded, name: str) -> Any:
        if known.logical_id in self.updated:
            wanted, changed = self.updated[known.logical_id]
            if name.partition(".")[0] in changed:
                return attribute(wanted, name)
        if self.symbolic:
            return attribute(known.properties, name)
        return attribute(self.live.get(known.logical_id) or known.observed, name)


def _expression(reference: Reference) -> str:
    return (
        reference.logical_id
        if reference.attribute is None
        else f"{reference.logical_id}.{reference.attribute}"
    )


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
    world = _World(recorded, live, registry, seal, symbolic=False)
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
    then = _World(recorded, {}, registry, None, symbolic=True)
    for name in graph.order({name: resource.depends_on for name, resource in before.items()}):
        recorded[name] = _as_recorded(before[name], then)
    world = _World(recorded, {}, registry, None, symbolic=True)
    return _plan(after, world, base_version=0, region=region, environment=None)


def _as_recorded(resource: Desired, world: _World) -> Recorded:
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
    desired: Mapping[str, Desired], world: _World, *, base_version: int, region: str, environment: str | None
) -> Plan:
    dependencies = {name: resource.depends_on for name, resource in desired.items()}
    ordered = graph.order(dependencies)
    decisions: list[_Decision] = []
    for name in ordered:
        decision = _decide(desired[name], world)
        if decision is not None:
            decisions.append(decision)
    gone = {name: known.depends_on for name, known in world.recorded.items() if name not in desired}
    decisions += [_delete(world.recorded[name], world) for name in graph.apply_order({}, gone)]
    reach = _reach(decisions, dependencies, ordered, world)
    judged = [_judged(d, reach.get(d.change.logical_id, 0), region, environment, world) for d in decisions]
    made = sum(d.change.action is not Action.DELETE for d in decisions)
    return Plan(
        changes=tuple(judged),
        unchanged=len(desired) - made,
        risk=risk.plan_risk({c.logical_id: c.risk for c in judged if c.risk}),
        cost=cost.plan_cost({c.logical_id: c.cost for c in judged if c.cost}, region),
        digest=plan_digest(
            (d.change for d in decisions), {d.change.logical_id: d.policies for d in decisions}
        ),
        base_version=base_version,
        fingerprints=_fingerprints(decisions, world),
    )


def _decide(resource: Desired, world: _World) -> _Decision | None:
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


def _resolved(resource: Desired, known: Recorded | None, world: _World) -> tuple[Properties, bool]:
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


def _create(resource: Desired, wanted: Properties, world: _World, *notes: str) -> _Decision:
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
    return _Decision(change, None, wanted, _policies(resource))


def _retype(resource: Desired, wanted: Properties, known: Recorded, world: _World) -> _Decision:
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
    resource: Desired, wanted: Properties, known: Recorded, live: Properties, world: _World
) -> _Decision | None:
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
    return _Decision(change, known.properties, wanted, _policies(resource))


def _record_only(
    resource: Desired, wanted: Properties, known: Recorded, world: _World, notes: list[str]
) -> _Decision | None:
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
    return _Decision(change, known.properties, wanted, _policies(resource))


def _policy_notes(resource: Desired, known: Recorded) -> list[str]:
    pairs = (
        ("DeletionPolicy", known.deletion_policy, resource.deletion_policy),
        ("UpdateReplacePolicy", known.update_replace_policy, resource.update_replace_policy),
    )
    return [f"{name} changes from {was} to {now}" for name, was, now in pairs if was != now]


def _replacing(
    resource: Desired, known: Recorded, properties: tuple[PropertyChange, ...], world: _World, *notes: str
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
    resource: Desired, known: Recorded, properties: tuple[PropertyChange, ...], world: _World
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


def _replaced(change: Change, resource: Desired, known: Recorded, wanted: Properties) -> _Decision:
    snapshot = resource.update_replace_policy == "Snapshot" and known.type in SNAPSHOT_TYPES
    return _Decision(change, known.properties, wanted, _policies(resource), snapshot)


_RETAINING = ("Retain", "RetainExceptOnCreate")


def _delete(known: Recorded, world: _World) -> _Decision:
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
    return _Decision(change, known.properties, None, (known.deletion_policy, ""), snapshot)


def _via(type_name: str, world: _World) -> Via:
    return Via.CLOUD_CONTROL if world.registry.get(type_name).has_cloud_control else Via.CLOUDFORMATION


def _fallback(type_name: str, world: _World) -> tuple[str, ...]:
    if _via(type_name, world) is Via.CLOUD_CONTROL:
        return ()
    return (f"{type_name} has no Cloud Control handlers: it goes through a CloudFormation stack of its own",)


def _reach(
    decisions: list[_Decision], dependencies: graph.Graph, ordered: list[str], world: _World
) -> dict[str, int]:
    """How many resources depend on each changed one; on a deleted one those that did so far."""
    if not decisions:
        return {}
    reach = graph.dependants(dependencies, ordered)
    if decisions[-1].change.action is Action.DELETE:
        before = graph.dependants({name: known.depends_on for name, known in world.recorded.items()})
        reach |= {name: before[name] for name in before if name not in dependencies}
    return reach


def _judged(
    decision: _Decision, dependants: int, region: str, environment: str | None, world: _World
) -> Change:
    """The change with its risk and cost, and its values as they may be stored and shown."""
    change = decision.change
    stays = change.retain and change.action is Action.DELETE
    price = cost.change_cost(
        change.previous_type or change.type,
        decision.before,
        change.type,
        decision.before if stays else decision.after,
        region,
    )
    subject = risk.Subject(
        change=change,
        before=decision.before,
        after=decision.after,
        dependants=dependants,
        cost_delta_usd=cost.delta_usd(price),
        production=risk.is_production(environment),
        snapshot=decision.snapshot,
    )
    properties = _masked(change, world.registry)
    return replace(change, properties=properties, risk=risk.assess(subject), cost=price)


def _masked(change: Change, registry: Registry) -> tuple[PropertyChange, ...]:
    hidden_after = _hidden(change.type, registry)
    hidden_before = _hidden(change.previous_type, registry) if change.previous_type else hidden_after
    properties = []
    for item in change.properties:
        path = tuple(item.path.split("."))
        before, after = masked(item.before, path, hidden_before), masked(item.after, path, hidden_after)
        if MASK in (before, after):  # what is secret now was one before, and the other way round
            before, after = (None if value is None else MASK for value in (before, after))
        shown = before is item.before and after is item.after
        properties.append(item if shown else replace(item, before=before, after=after))
    return tuple(properties)


def _hidden(type_name: str, registry: Registry) -> frozenset[str]:
    kind: ResourceType | None = registry.find(type_name)
    return hidden(kind.write_only) if kind is not None else frozenset()


def _fingerprints(decisions: list[_Decision], world: _World) -> dict[str, str]:
    """Of every touched resource that was read: what apply compares before it acts."""
    found = {}
    for decision in decisions:
        name = decision.change.logical_id
        live = world.live.get(name)
        if live is not None and name in world.recorded:
            found[name] = fingerprint(live, world.registry.find(world.recorded[name].type))
    return found
