"""What differs between the resources of two state versions. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fairlead.changes.model import Json
from fairlead.changes.state.model import StateResource
from fairlead.changes.state.sealing import is_sealed


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; absent and null are both None. Paths are dotted: `Tags.0.Value`."""

    path: str
    before: Json
    after: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDifference:
    """One logical id that stands in both versions and differs."""

    logical_id: str
    type: str
    replaced: bool  # another physical resource
    attributes: tuple[Difference, ...]  # id, status, deletionPolicy …
    properties: tuple[Difference, ...]  # what was asked for
    observed: tuple[Difference, ...]  # what AWS answered


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDifference:
    """What turns one version's resources into another's; times are not compared."""

    added: tuple[StateResource, ...]
    removed: tuple[StateResource, ...]
    changed: tuple[ResourceDifference, ...]


_ATTRIBUTES = (
    ("type", "type"),
    ("id", "id"),
    ("name", "name"),
    ("arn", "arn"),
    ("region", "region"),
    ("status", "status"),
    ("depends_on", "dependsOn"),
    ("deletion_policy", "deletionPolicy"),
    ("update_replace_policy", "updateReplacePolicy"),
    ("via", "via"),
)


def compare(before: Iterable[StateResource], after: Iterable[StateResource]) -> StateDifference:
    """What changed from `before` to `after`, by logical id; superseded resources by their identifier."""
    old = {each.identity: each for each in before}
    new = {each.identity: each for each in after}
    pairs = [(old[name], new[name]) for name in sorted(old.keys() & new.keys())]
    return StateDifference(
        added=tuple(new[name] for name in sorted(new.keys() - old.keys())),
        removed=tuple(old[name] for name in sorted(old.keys() - new.keys())),
        changed=tuple(found for pair in pairs if (found := _changed(*pair))),
    )


def _changed(old: StateResource, new: StateResource) -> ResourceDifference | None:
    attributes = [
        Difference(label, getattr(old, name), getattr(new, name))
        for name, label in _ATTRIBUTES
        if getattr(old, name) != getattr(new, name)
    ]
    properties = tuple(_differences(old.properties, new.properties))
    observed = tuple(_differences(old.observed, new.observed))
    if not (attributes or properties or observed):
        return None
    return ResourceDifference(
        logical_id=new.logical_id,
        type=new.type,
        replaced=old.id != new.id,
        attributes=tuple(attributes),
        properties=properties,
        observed=observed,
    )


def _differences(before: Json, after: Json, path: str = "") -> Iterator[Difference]:
    prefix = f"{path}." if path else ""
    if isinstance(before, dict) and isinstance(after, dict) and not (is_sealed(before) or is_sealed(after)):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(name), after.get(name), f"{prefix}{name}")
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            old, new = (side[index] if index < len(side) else None for side in (before, after))
            yield from _differences(old, new, f"{prefix}{index}")
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):  # True == 1 in Python
        yield Difference(path, before, after)
