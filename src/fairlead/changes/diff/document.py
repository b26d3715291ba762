"""A plan as plain JSON, in apply order: what `fairlead changes diff --json` prints."""

from __future__ import annotations

from typing import Any

from fairlead.changes.model import Plan, PropertyChange, Replacement, Unknown


def to_json(plan: Plan) -> dict[str, Any]:
    """`{"changes": [{"logical_id", "type", "action", "replacement", "properties": [...]}]}`."""
    return {
        "changes": [
            {
                "logical_id": change.logical_id,
                "type": change.type,
                "action": change.action.value,
                "replacement": change.replacement.value,
                "properties": [property_json(item) for item in change.properties],
            }
            for change in plan.changes
        ]
    }


def property_json(item: PropertyChange) -> dict[str, Any]:
    """One property: `requires_replacement` is true when changing it always needs a new resource."""
    return {
        "path": item.path,
        "before": readable(item.before),
        "after": readable(item.after),
        "requires_replacement": item.replacement is Replacement.ALWAYS,
    }


def readable(value: Any) -> Any:
    """`value` with every Unknown as text: `(known after apply: Vpc.VpcId)`, or `(Vpc)` for what exists."""
    if isinstance(value, Unknown):
        return f"(known after apply: {value.expression})" if value.fresh else f"({value.expression})"
    if isinstance(value, dict):
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(item) for item in value]
    return value
