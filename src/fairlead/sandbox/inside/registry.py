"""What the CloudFormation registry says of a type, read from schema files; and models checked by it."""

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

Model = dict[str, Any]
HANDLERS = frozenset({"create", "read", "update", "delete", "list"})
_MESSAGE_LIMIT = 10  # faults named in one message
_DEPTH_LIMIT = 40


@dataclass(frozen=True)
class Facts:
    """One type's registry schema. Paths are tuples of property names; `*` stands for any item."""

    type_name: str
    schema: Model

    def _paths(self, member: str) -> tuple[tuple[str, ...], ...]:
        prefix = "/properties/"
        return tuple(tuple(path.removeprefix(prefix).split("/")) for path in self.schema.get(member) or ())

    @cached_property
    def identifier(self) -> tuple[str, ...]:
        """Names of the properties that make the primary identifier, in order."""
        return tuple(path[0] for path in self._paths("primaryIdentifier"))

    @cached_property
    def read_only(self) -> tuple[tuple[str, ...], ...]:
        """What only the service sets."""
        return self._paths("readOnlyProperties")

    @cached_property
    def create_only(self) -> tuple[tuple[str, ...], ...]:
        """What cannot change after creation."""
        return self._paths("createOnlyProperties")

    @cached_property
    def write_only(self) -> tuple[tuple[str, ...], ...]:
        """What is never given back."""
        return self._paths("writeOnlyProperties")

    @cached_property
    def handlers(self) -> frozenset[str]:
        """The operations that the type offers through Cloud Control."""
        return frozenset(self.schema.get("handlers") or ()) & HANDLERS


class Registry:
    """All types of the schema folder of one region; schemas are read when first asked for."""

    def __init__(self, folder: Path, region: str = "us-east-1") -> None:
        self._folder = folder / "resources"
        self._index: dict[str, str] = json.loads((folder / "providers" / f"{region}.json").read_text("utf-8"))

    def __contains__(self, type_name: object) -> bool:
        return type_name in self._index

    @lru_cache(maxsize=256)  # noqa: B019 - one registry lives as long as the process
    def facts(self, type_name: str) -> Facts:
        """The facts of `type_name`. Raises KeyError for a type that does not exist."""
        path = self._folder / f"{self._index[type_name]}.json"
        return Facts(type_name, json.loads(path.read_text("utf-8")))


def strip(model: Model, paths: tuple[tuple[str, ...], ...]) -> Model:
    """`model` without what lies at `paths`."""
    result: Model = json.loads(json.dumps(model))
    for path in paths:
        _drop(result, path)
    return result


def _drop(node: Any, path: tuple[str, ...]) -> None:
    if isinstance(node, list):
        for item in node:
            _drop(item, path[1:] if path[0] == "*" else path)
    elif isinstance(node, dict) and path[0] in node:
        if len(path) == 1:
            del node[path[0]]
        else:
            _drop(node[path[0]], path[1:])


def values_at(model: Any, path: tuple[str, ...]) -> list[Any]:
    """Every value that `model` has at `path`."""
    if not path:
        return [model]
    if isinstance(model, list):
        rest = path[1:] if path[0] == "*" else path
        return [value for item in model for value in values_at(item, rest)]
    if isinstance(model, dict) and path[0] in model:
        return values_at(model[path[0]], path[1:])
    return []


def pointer(path: tuple[str, ...]) -> str:
    """`path` as the registry writes it."""
    return "/properties/" + "/".join(path)


def read_only_set(facts: Facts, desired: Model) -> list[str]:
    """Read-only properties that a creation tries to set."""
    settable = set(facts.create_only)
    return [
        pointer(path) for path in facts.read_only if path not in settable and values_at(desired, path) != []
    ]


def forbidden_changes(facts: Facts, before: Model, after: Model) -> str | None:
    """Why `before` cannot become `after` in place: the service's own words, or None."""
    for name, paths in (
        ("readOnlyProperties", facts.read_only),
        ("createOnlyProperties", facts.create_only),
    ):
        moved = [pointer(path) for path in paths if values_at(before, path) != values_at(after, path)]
        if moved:
            return f"Invalid patch update: {name} [{', '.join(moved)}] cannot be updated"
    return None


def model_faults(facts: Facts, model: Model) -> list[str]:
    """What the schema holds against `model`, in the service's words."""
    faults: list[str] = []
    _check(facts.schema, facts.schema, model, "#", faults, 0)
    return faults[:_MESSAGE_LIMIT]


_TYPES: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "string": ("String", str),
    "integer": ("Integer", int),
    "number": ("Number", (int, float)),
    "boolean": ("Boolean", bool),
    "array": ("JSONArray", list),
    "object": ("JSONObject", dict),
}
_FOUND = {
    str: "String",
    bool: "Boolean",
    int: "Integer",
    float: "BigDecimal",
    list: "JSONArray",
    dict: "JSONObject",
}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    return isinstance(value, _TYPES[kind][1])


def _resolve(root: Model, schema: Model) -> Model:
    seen = 0
    while "$ref" in schema and seen < _DEPTH_LIMIT:
        node: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node.get(part, {}) if isinstance(node, dict) else {}
        schema, seen = node, seen + 1
    return schema


def _check(root: Model, schema: Model, value: Any, at: str, faults: list[str], depth: int) -> None:
    schema = _resolve(root, schema)
    if depth > _DEPTH_LIMIT:
        return
    kinds = schema.get("type")
    if kinds:
        allowed = kinds if isinstance(kinds, list) else [kinds]
        if not any(_is(value, kind) for kind in allowed if kind in _TYPES):
            wanted = " or ".join(_TYPES[kind][0] for kind in allowed if kind in _TYPES)
            faults.append(f"{at}: expected type: {wanted}, found: {_FOUND.get(type(value), 'Null')}")
            return
    if isinstance(value, dict):
        _check_object(root, schema, value, at, faults, depth)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check(root, schema.get("items") or {}, item, f"{at}/{number}", faults, depth + 1)
    else:
        _check_scalar(schema, value, at, faults)


def _check_object(root: Model, schema: Model, value: Model, at: str, faults: list[str], depth: int) -> None:
    properties: Model = schema.get("properties") or {}
    faults.extend(
        f"{at}: required key [{name}] not found" for name in schema.get("required") or () if name not in value
    )
    patterns: Model = schema.get("patternProperties") or {}
    for name, item in value.items():
        if name in properties:
            _check(root, properties[name], item, f"{at}/{name}", faults, depth + 1)
        elif patterns or not properties:
            continue
        elif schema.get("additionalProperties") is False:
            faults.append(f"{at}: extraneous key [{name}] is not permitted")


def _check_scalar(schema: Model, value: Any, at: str, faults: list[str]) -> None:
    if "enum" in schema and value not in schema["enum"]:
        faults.append(f"{at}: {value} is not a valid enum value")
    if isinstance(value, str):
        if "pattern" in schema and not _matches(schema["pattern"], value):
            faults.append(f"{at}: string [{value}] does not match pattern {schema['pattern']}")
        if len(value) > schema.get("maxLength", len(value)):
            faults.append(f"{at}: expected maxLength: {schema['maxLength']}, actual: {len(value)}")
        if len(value) < schema.get("minLength", 0):
            faults.append(f"{at}: expected minLength: {schema['minLength']}, actual: {len(value)}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            faults.append(f"{at}: {value} is not greater or equal to {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            faults.append(f"{at}: {value} is not less or equal to {schema['maximum']}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # some patterns are not Python's; the service's own check has the last word then
        return True
