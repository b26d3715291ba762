"""One form for one value: what CloudFormation takes for a number, a boolean or a text becomes that.

The diff then compares `"80"` in one template with `80` in another, or in AWS, as equal.
"""

from __future__ import annotations

from typing import Any

from fairlead.changes.intrinsics import Base64, Cast, Import, Join, Written, cast, is_node
from fairlead.changes.model import Reference
from fairlead.changes.registry import Shape

_JSON_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}

_JSON_SCALARS = ("string", "integer", "number", "boolean")


def conform(value: Any, shape: Shape | None) -> Any:
    """`value` with each scalar in the JSON type that its place wants; new containers, no line numbers.

    What cannot be taken for the wanted type stays as it is, for validation to report.
    """
    kind = type(value)
    if kind is str and (shape is None or not shape.kinds or "string" in shape.kinds):
        return value
    if isinstance(value, dict):
        if shape is None:
            return {key: conform(item, None) for key, item in value.items()}
        return {key: conform(item, shape.child(key)) for key, item in value.items()}
    if isinstance(value, list):
        item_shape = None if shape is None else shape.item()
        return [conform(item, item_shape) for item in value]
    if is_node(value):
        return value if shape is None else _conform_node(value, shape)
    return _conform_scalar(value, shape)


def _wanted(shape: Shape | None) -> tuple[str, ...]:
    kinds = () if shape is None else shape.kinds
    return ("string",) if _TAKES_ALL.issubset(kinds) else kinds


def _conform_scalar(value: Any, shape: Shape | None) -> Any:
    kinds = _wanted(shape)
    if isinstance(value, Written) and "string" in kinds:
        return value.text
    own = _JSON_KINDS.get(type(value), "string")
    if not isinstance(value, Written) and (
        not kinds or own in kinds or (own == "integer" and "number" in kinds)
    ):
        return value
    for kind in sorted(kinds, key=_FIRST.index):
        new = cast(kind, value)
        if _fits(new, kind):
            return new
    return float(value) if isinstance(value, Written) else value


_FIRST = ("integer", "number", "boolean", "string", "array", "object", "null")
# So the schemas mark a map of texts (a function's environment) into which templates also write
# numbers and booleans, because CloudFormation turns them into text.
_TAKES_ALL = frozenset({"string", "number", "integer", "object", "array", "boolean"})


def _fits(value: Any, kind: str) -> bool:
    own = _JSON_KINDS.get(type(value))
    return own == kind or (own == "integer" and kind == "number")


def _conform_node(node: Any, shape: Shape) -> Any:
    """Wrap where the value may turn out to be of another type than the place wants."""
    kinds = _wanted(shape)
    if len(kinds) != 1 or kinds[0] not in _JSON_SCALARS:
        return node
    is_text = isinstance(node, Join | Base64 | Import) or (
        isinstance(node, Reference) and node.attribute is None
    )
    return node if kinds[0] == "string" and is_text else Cast(kinds[0], node)
