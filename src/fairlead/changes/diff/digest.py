"""Digests: of a plan as it is approved, and of a live resource as it was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.changes.model import Change, Properties, Unknown

if TYPE_CHECKING:
    from fairlead.changes.registry import ResourceType

_PREFIX = "sha256:"


def canonical(value: Any) -> bytes:
    """The one JSON text of `value`: keys sorted, no spaces. An Unknown becomes an object of its own kind."""
    return msgspec.json.encode(_plain(value), order="sorted")


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown):
        # No template value can look like this: a key that starts with Fn:: is always a call.
        return {"Fn::Unknown": [value.expression, value.fresh]}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # Marked texts and numbers (NoEcho, as written) count as what they are.
    return str(value) if isinstance(value, str) else float(value) if isinstance(value, float) else value


def plan_digest(changes: Iterable[Change], policies: Mapping[str, tuple[str, str]]) -> str:
    """Digest of what is approved, for `changes` with their values unmasked.

    In it: type, action, identifier, way, replacement, what becomes of the old resource, order of
    dependencies, before and after of every property, and the deletion `policies` that take effect.
    Not in it: state version, times, notes, risk and prices. So an identical re-plan has the same
    digest and any other plan has another.
    """
    lines = sorted(
        (
            [
                change.logical_id,
                change.type,
                change.action.value,
                change.replacement.value,
                change.identifier,
                change.via.value,
                change.delete_first,
                change.retain,
                sorted(change.depends_on),
                policies.get(change.logical_id, ()),
                [[p.path, p.before, p.after, p.replacement.value, p.drift] for p in change.properties],
            ]
            for change in changes
        ),
        key=lambda line: str(line[0]),
    )
    return _PREFIX + hashlib.sha256(canonical(lines)).hexdigest()


def fingerprint(live: Properties, kind: ResourceType | None = None) -> str:
    """Digest of a live model; with `kind`, without read-only attributes: those move by themselves."""
    kept = _without(live, [p.split("/")[2:] for p in kind.read_only]) if kind is not None else live
    return _PREFIX + hashlib.sha256(canonical(kept)).hexdigest()


def moved(
    fingerprints: Mapping[str, str],
    live_now: Mapping[str, Properties | None],
    kinds: Mapping[str, ResourceType],
) -> list[str]:
    """The ids whose resource is not as it was when `fingerprints` were taken, or is gone, sorted.

    `kinds` gives the type of each id, as it was given to `fingerprint`.
    """
    found = []
    for name, seen in fingerprints.items():
        live = live_now.get(name)
        if live is None or fingerprint(live, kinds.get(name)) != seen:
            found.append(name)
    return sorted(found)


def _without(value: Any, paths: list[list[str]]) -> Any:
    """`value` without what lies at `paths`; `*` stands for every item."""
    if isinstance(value, list):
        return [_without(item, [p[1:] for p in paths if p[0] == "*" and len(p) > 1]) for item in value]
    if not isinstance(value, dict) or not paths:
        return value
    dropped = {p[0] for p in paths if len(p) == 1}
    kept = {}
    for key, item in value.items():
        if key not in dropped:
            deeper = [p[1:] for p in paths if len(p) > 1 and p[0] in (key, "*")]
            kept[key] = _without(item, deeper) if deeper else item
    return kept
