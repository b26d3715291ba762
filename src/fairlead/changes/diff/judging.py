"""Decided changes as they are shown and approved: risk, cost, reach, secrets masked, fingerprints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fairlead.changes import cost, graph, risk
from fairlead.changes.diff.digest import fingerprint
from fairlead.changes.diff.secrets import hidden, masked
from fairlead.changes.diff.world import World
from fairlead.changes.intrinsics import MASK
from fairlead.changes.model import Action, Change, Properties, PropertyChange

if TYPE_CHECKING:
    from fairlead.changes.registry import Registry, ResourceType


@dataclass(frozen=True, slots=True)
class Decision:
    """A change with its values in clear, and the properties that risk and cost are judged by."""

    change: Change
    before: Properties | None
    after: Properties | None
    policies: tuple[str, str]  # DeletionPolicy and UpdateReplacePolicy from now on
    snapshot: bool = False


def reach(
    decisions: list[Decision], dependencies: graph.Graph, ordered: list[str], world: World
) -> dict[str, int]:
    """How many resources depend on each changed one; on a deleted one those that did so far."""
    if not decisions:
        return {}
    reach = graph.dependants(dependencies, ordered)
    if decisions[-1].change.action is Action.DELETE:
        before = graph.dependants({name: known.depends_on for name, known in world.recorded.items()})
        reach |= {name: before[name] for name in before if name not in dependencies}
    return reach


def judged(decision: Decision, dependants: int, region: str, environment: str | None, world: World) -> Change:
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


def fingerprints(decisions: list[Decision], world: World) -> dict[str, str]:
    """Of every touched resource that was read: what apply compares before it acts."""
    found = {}
    for decision in decisions:
        name = decision.change.logical_id
        live = world.live.get(name)
        if live is not None and name in world.recorded:
            found[name] = fingerprint(live, world.registry.find(world.recorded[name].type))
    return found
