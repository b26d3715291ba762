"""Which properties of one resource change: what is wanted now, was asked for before, and stands in AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairlead.changes.diff.secrets import sealed
from fairlead.changes.model import Properties, PropertyChange, Replacement, Unknown
from fairlead.changes.types.equality import Path, covered, dotted, in_policy, pointer, same, tagged, unordered
from fairlead.changes.types.references import MISSING

if TYPE_CHECKING:
    from fairlead.changes.registry import ResourceType


@dataclass(frozen=True, slots=True)
class Views:
    """One value as four sides see it; MISSING where a side has none."""

    wanted: Any  # the template, resolved
    asked: Any  # what the last apply asked for
    answered: Any  # what AWS answered to that
    live: Any  # what AWS answers now

    def inside(self, key: str) -> Views:
        """The same four sides of one member."""
        return Views(
            _member(self.wanted, key),
            _member(self.asked, key),
            _member(self.answered, key),
            _member(self.live, key),
        )


def changed_properties(
    kind: ResourceType, wanted: Properties, asked: Properties, answered: Properties, live: Properties
) -> tuple[PropertyChange, ...]:
    """The properties that must change so that the resource is as `wanted`, sorted by name at each level.

    A property changes when `wanted` differs from what was `asked` for, or when AWS has moved
    (`live` against `answered`) at a place that the template declares: drift. Where it has moved to
    just what is wanted there is nothing to do, and what only AWS has filled in is ignored. Arrays are
    shown item by item where items keep their place, as a whole where they do not.
    """
    return tuple(_walk(Views(wanted, asked, answered, live), (), kind))


def _walk(views: Views, path: Path, kind: ResourceType) -> Iterator[PropertyChange]:
    wanted, asked = views.wanted, views.asked
    if isinstance(wanted, dict) and isinstance(asked, dict) and not (sealed(wanted) or sealed(asked)):
        yield from _inside(views, sorted(wanted.keys() | asked.keys()), path, kind)
        return
    kept = wanted is not MISSING and asked is not MISSING and same(wanted, asked, path, kind)
    drift = _moved(views, path, kind)
    if kept and not drift:
        return
    before = views.live if drift else asked
    if isinstance(wanted, list) and _in_place(before if kept else asked, wanted, path, kind):
        yield from _inside(views, [str(index) for index in range(len(wanted))], path, kind)
    elif not (drift and _as_wanted(views, path, kind)):
        yield _change(before, wanted, path, kind, drift=drift)


def _as_wanted(views: Views, path: Path, kind: ResourceType) -> bool:
    """Whether somebody has made outside Fairlead what the template wants: nothing is left to do."""
    if views.wanted is MISSING or views.live is MISSING:
        return views.wanted is views.live
    return covered(views.wanted, views.live, path, kind)


def _inside(views: Views, parts: list[str], path: Path, kind: ResourceType) -> Iterator[PropertyChange]:
    for part in parts:
        inner = views.inside(part)
        if inner.wanted != inner.asked or inner.live is not inner.answered:
            yield from _walk(inner, (*path, part), kind)


def _moved(views: Views, path: Path, kind: ResourceType) -> bool:
    """Whether AWS answers something else now than it did after the last apply."""
    if views.live is views.answered or write_only(path, kind):
        return False
    if views.live is MISSING or views.answered is MISSING:
        # What AWS did not answer then and answers now (a default made visible) is no drift.
        return views.live is MISSING
    return not same(views.live, views.answered, path, kind)


def _in_place(before: Any, after: list[Any], path: Path, kind: ResourceType) -> bool:
    """Whether items keep their place, so that showing them one by one tells the truth."""
    if not isinstance(before, list) or len(before) != len(after):
        return False
    if tagged(before) and tagged(after):
        return [tag["Key"] for tag in before] == [tag["Key"] for tag in after]
    if not (unordered(path, kind) or in_policy(path)):
        return True
    item = (*path, "0")
    differing = [i for i, (x, y) in enumerate(zip(before, after, strict=True)) if not same(x, y, item, kind)]
    return not any(same(before[i], after[j], item, kind) for i in differing for j in differing)


def _member(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key, MISSING)
    if isinstance(value, list) and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    return MISSING


def _change(
    before: Any, after: Any, path: Path, kind: ResourceType, *, drift: bool = False
) -> PropertyChange:
    return PropertyChange(
        path=dotted(path),
        before=None if before is MISSING else before,
        after=None if after is MISSING else after,
        replacement=_replacement(before, after, path, kind),
        drift=drift,
    )


def _replacement(before: Any, after: Any, path: Path, kind: ResourceType) -> Replacement:
    """What the change asks for; of a whole value, what the parts that change inside it ask for."""
    inner = kind.replacing_parts(dotted(path))
    if not inner or any(isinstance(value, Unknown) or sealed(value) for value in (before, after)):
        return kind.replacement_of(dotted(path))
    asked = {
        # Which item of a list became which is not known, so what their parts ask for stays open.
        Replacement.CONDITIONAL if "*" in part else replacement
        for part, replacement in inner.items()
        if "*" in part or not same(_part(before, part), _part(after, part), (*path, *part), kind)
    }
    return next((r for r in (Replacement.ALWAYS, Replacement.CONDITIONAL) if r in asked), Replacement.NEVER)


def _part(value: Any, path: Path) -> Any:
    for key in path:
        value = _member(value, key)
    return value


def write_only(path: Path, kind: ResourceType) -> bool:
    """Whether AWS never gives this value back, so that it cannot drift."""
    here = pointer(path)
    return any(here == p or here.startswith(p + "/") for p in kind.write_only)


def declared(properties: Properties, *, added: bool) -> tuple[PropertyChange, ...]:
    """Every top-level property of a resource that comes (`added`) or goes."""
    return tuple(
        PropertyChange(
            path=name,
            before=None if added else properties[name],
            after=properties[name] if added else None,
            replacement=Replacement.NEVER,
        )
        for name in sorted(properties)
    )


def settled(wanted: Any, asked: Any) -> Any:
    """`wanted` with what AWS has not told (Unknown, not fresh) taken as it was `asked` for before."""
    if isinstance(wanted, Unknown):
        return wanted if wanted.fresh or asked is MISSING else asked
    if isinstance(wanted, dict):
        return {key: settled(value, _member(asked, key)) for key, value in wanted.items()}
    if isinstance(wanted, list):
        return [settled(value, _member(asked, str(index))) for index, value in enumerate(wanted)]
    return wanted


def unknowns(value: Any) -> Iterator[Unknown]:
    """Every Unknown inside `value`."""
    if isinstance(value, Unknown):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from unknowns(item)
    elif isinstance(value, list):
        for item in value:
            yield from unknowns(item)
