"""What AWS says about each resource type: its registry schema, read straight from the cfn-lint wheel's files.

cfn-lint itself is never imported (that takes seconds); a type is read when it is first asked for.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from fairlead.changes.model import Replacement
from fairlead.kernel.errors import FairleadError

SchemaPath = str | tuple[str | int, ...]
_REGION: Final = "us-east-1"  # the one region whose schema set is complete


class UnknownType(FairleadError):
    """There is no resource type of this name."""

    code, status, retryable = "template.unknown_type", 422, False


class SchemasMissing(FairleadError):
    """The AWS resource schemas are not installed."""

    code, status, retryable = "template.schemas_missing", 500, False


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What may stand at one place of a type: its schema with `$ref` followed, and what is inside.

    `kinds` are JSON types, empty where anything goes. Shapes may be recursive, so the inner ones
    are made when asked for.
    """

    schema: Mapping[str, Any]
    kinds: tuple[str, ...]
    _schemas: Mapping[str, Mapping[str, Any]]
    _items: Mapping[str, Any] | None
    _extra: Mapping[str, Any] | None
    _type: ResourceType
    _children: dict[str, Shape | None] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the properties that the schema spells out."""
        return tuple(self._schemas)

    def child(self, name: str) -> Shape | None:
        """Shape of the property `name`; None where the schema says nothing about it."""
        if name not in self._children:
            schema = self._schemas.get(name, self._extra)
            self._children[name] = None if schema is None else self._type.shape_of(schema)
        return self._children[name]

    def item(self) -> Shape | None:
        """Shape of the items of an array; None where the schema says nothing about them."""
        if "[]" not in self._children:
            self._children["[]"] = None if self._items is None else self._type.shape_of(self._items)
        return self._children["[]"]

    def is_unordered(self) -> bool:
        """Whether this is an array whose order AWS does not keep."""
        keeps = self.schema.get("insertionOrder")
        return "array" in self.kinds and (
            keeps is False or (keeps is None and bool(self.schema.get("uniqueItems")))
        )


@dataclass(frozen=True, eq=False)
class ResourceType:
    """One resource type. Pointers read `/properties/A/B`, with `*` for the items of a list."""

    name: str
    schema: Mapping[str, Any]
    _shapes: dict[int, Shape] = field(default_factory=dict)
    _replacements: dict[SchemaPath, Replacement] = field(default_factory=dict)
    _parts: dict[SchemaPath, Mapping[tuple[str, ...], Replacement]] = field(default_factory=dict)
    _unordered: dict[SchemaPath, bool] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Any]:
        """Property name to its JSON schema."""
        found: Mapping[str, Any] = self.schema["properties"]
        return found

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the properties that must be given."""
        return tuple(self.schema.get("required", ()))

    @cached_property
    def create_only(self) -> frozenset[str]:
        """Pointers to what only a new resource can have: a change replaces."""
        return self._pointers("createOnlyProperties")

    @cached_property
    def conditional_create_only(self) -> frozenset[str]:
        """Pointers to what replaces in some cases."""
        return self._pointers("conditionalCreateOnlyProperties")

    @cached_property
    def read_only(self) -> frozenset[str]:
        """Pointers to what AWS sets and nobody may give."""
        return self._pointers("readOnlyProperties")

    @cached_property
    def write_only(self) -> frozenset[str]:
        """Pointers to what AWS never gives back."""
        return self._pointers("writeOnlyProperties")

    def _pointers(self, key: str) -> frozenset[str]:
        return frozenset(self.schema.get(key, ()))

    @cached_property
    def primary_identifier(self) -> tuple[str, ...]:
        """Property names (nested ones dotted) that identify a resource, in Cloud Control's order."""
        pointers: Iterable[str] = self.schema.get("primaryIdentifier", ())
        return tuple(pointer.removeprefix("/properties/").replace("/", ".") for pointer in pointers)

    @cached_property
    def handlers(self) -> frozenset[str]:
        """Which of create, read, update, delete and list the type declares."""
        return frozenset(self.schema.get("handlers", ()))

    @property
    def has_cloud_control(self) -> bool:
        """Whether Cloud Control can make, read and delete it."""
        return {"create", "read", "delete"} <= self.handlers

    @cached_property
    def property_transforms(self) -> Mapping[str, str]:
        """Pointer to the JSONata expression that tells how AWS rewrites a given value."""
        return dict(self.schema.get("propertyTransform", {}))

    @cached_property
    def tag_property(self) -> str | None:
        """Name of the property that holds the tags, or None."""
        named = (
            self.schema.get("tagging", {}).get("tagProperty", "/properties/Tags").removeprefix("/properties/")
        )
        return named if self.taggable and named in self.properties else None

    @cached_property
    def taggable(self) -> bool:
        """Whether resources of the type take tags."""
        stated = self.schema.get("tagging", {}).get("taggable", self.schema.get("taggable"))
        return bool(stated) if stated is not None else "Tags" in self.properties

    @cached_property
    def root(self) -> Shape:
        """Shape of the whole `Properties` object."""
        return self.shape_of(self.schema)

    def shape_at(self, path: SchemaPath) -> Shape | None:
        """Shape at a pointer (`/properties/A/*`), a dotted path (`A.0.B`) or parts; None if there is none."""
        shape: Shape | None = self.root
        for part in _parts(path):
            if shape is None:
                return None
            shape = shape.item() if "array" in shape.kinds and _is_index(part) else shape.child(str(part))
        return shape

    def has_attribute(self, attribute: str) -> bool:
        """Whether `Fn::GetAtt` of `attribute` (nested ones dotted) can have a value."""
        if attribute in self.properties:
            return True
        return self.shape_at(tuple(attribute.split("."))) is not None

    def unordered(self, path: SchemaPath) -> bool:
        """Whether the array at `path` is a set: AWS does not keep the order of its items."""
        if path not in self._unordered:
            shape = self.shape_at(path)
            self._unordered[path] = shape is not None and shape.is_unordered()
        return self._unordered[path]

    def replacement_of(self, path: SchemaPath) -> Replacement:
        """What a change at `path` asks for.

        A part of a create-only value is create-only. A whole that holds a create-only part is
        conditional: it depends on whether that part is among what changed.
        """
        if path not in self._replacements:
            self._replacements[path] = self._replacement(self._pointer(path))
        return self._replacements[path]

    def replacing_parts(self, path: SchemaPath) -> Mapping[tuple[str, ...], Replacement]:
        """What parts of the value at `path` ask for, by their place in it; empty where the whole asks."""
        if path not in self._parts:
            pointer = self._pointer(path)
            whole = any(_covers(one, pointer) for one in self.create_only | self.conditional_create_only)
            self._parts[path] = {} if whole else self._inside(pointer)
        return self._parts[path]

    def _inside(self, pointer: str) -> dict[tuple[str, ...], Replacement]:
        start = f"{pointer}/"
        found = dict.fromkeys(self.conditional_create_only, Replacement.CONDITIONAL)
        found |= dict.fromkeys(self.create_only, Replacement.ALWAYS)
        return {
            tuple(part.removeprefix(start).split("/")): asked
            for part, asked in found.items()
            if part.startswith(start)
        }

    def _replacement(self, pointer: str) -> Replacement:
        if any(_covers(whole, pointer) for whole in self.create_only):
            return Replacement.ALWAYS
        if any(_covers(whole, pointer) for whole in self.conditional_create_only):
            return Replacement.CONDITIONAL
        if any(_covers(pointer, part) for part in self.create_only | self.conditional_create_only):
            return Replacement.CONDITIONAL
        return Replacement.NEVER

    def _pointer(self, path: SchemaPath) -> str:
        """`path` in the schemas' own spelling, list indices as `*`."""
        shape: Shape | None = self.root
        parts: list[str] = []
        for part in _parts(path):
            is_item = shape is not None and "array" in shape.kinds and _is_index(part)
            parts.append("*" if is_item else str(part))
            shape = None if shape is None else shape.item() if is_item else shape.child(str(part))
        return "/".join(("/properties", *parts))

    def shape_of(self, schema: Mapping[str, Any]) -> Shape:
        """The shape of a schema that is part of this type's."""
        known = self._shapes.get(id(schema))
        if known is None:
            known = self._shapes[id(schema)] = self._shape(schema)
        return known

    def _shape(self, schema: Mapping[str, Any]) -> Shape:
        forms = list(self._forms(schema, depth=0))
        kinds = dict.fromkeys(kind for form in forms for kind in _kinds(form))
        names: dict[str, Mapping[str, Any]] = {}
        for form in forms:
            for name, inner in form.get("properties", {}).items():
                names.setdefault(name, inner)
        items = next((form["items"] for form in forms if isinstance(form.get("items"), dict)), None)
        extra = next(filter(None, map(_extra, forms)), None)
        return Shape(forms[0] if forms else schema, tuple(kinds), names, items, extra, self)

    def _forms(self, schema: Any, depth: int) -> Iterable[Mapping[str, Any]]:
        """`schema` with `$ref` followed, and the alternatives inside: all that may describe the value."""
        if not isinstance(schema, dict) or depth > 8:
            return
        target: Any = schema
        if isinstance(schema.get("$ref"), str):
            target = self.schema
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            target = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        yield target
        for keyword in ("allOf", "anyOf", "oneOf"):
            for inner in target.get(keyword, ()):
                yield from self._forms(inner, depth + 1)


class Registry:
    """The resource types of one set of schema files.

    Cheap to make: files are read when a type is first asked for, and stay in memory for all registries.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` holds `providers/` and `resources/`; by default the installed wheel's."""
        self._folder = folder or _installed_folder()

    def names(self) -> tuple[str, ...]:
        """Every type name, sorted."""
        return tuple(sorted(_index(self._folder)))

    def get(self, type_name: str) -> ResourceType:
        """The type. Raises UnknownType, which names similar types."""
        found = self.find(type_name)
        if found is None:
            similar = self.similar(type_name)
            hint = f"Did you mean {' or '.join(similar)}?" if similar else None
            raise UnknownType(
                f"There is no resource type {type_name[:100]}.", remedy=hint, similar=list(similar)
            )
        return found

    def find(self, type_name: str) -> ResourceType | None:
        """The type, or None."""
        return _type(self._folder, type_name) if type_name in _index(self._folder) else None

    def similar(self, type_name: str) -> tuple[str, ...]:
        """Up to three type names that look like `type_name`."""
        lower = {name.lower(): name for name in _index(self._folder)}
        wanted = type_name[:100].lower()
        found = difflib.get_close_matches(wanted, lower, n=3, cutoff=0.8)
        if not found:
            last = "::" + wanted.rpartition("::")[2]
            found = [name for name in lower if name.endswith(last)][:3]
        return tuple(lower[name] for name in found)


@lru_cache(maxsize=8)
def _index(folder: Path) -> dict[str, str]:
    index: dict[str, str] = json.loads((folder / "providers" / f"{_REGION}.json").read_bytes())
    return index


@cache
def _type(folder: Path, name: str) -> ResourceType:
    file = folder / "resources" / f"{_index(folder)[name]}.json"
    return ResourceType(name, json.loads(file.read_bytes()))


@lru_cache(maxsize=1)
def _installed_folder() -> Path:
    found = importlib.util.find_spec("cfnlint")
    if found is None or not found.submodule_search_locations:
        raise SchemasMissing(remedy="Install the locked requirements again (make setup).")
    return Path(found.submodule_search_locations[0]) / "data" / "schemas"


def _parts(path: SchemaPath) -> tuple[str | int, ...]:
    if not isinstance(path, str):
        return path
    if path.startswith("/"):
        return tuple(path.removeprefix("/properties").split("/")[1:])
    return tuple(path.split(".")) if path else ()


def _is_index(part: str | int) -> bool:
    return isinstance(part, int) or part == "*" or part.isdigit()


def _covers(whole: str, part: str) -> bool:
    """Whether pointer `part` is `whole` or lies inside it."""
    return part == whole or part.startswith(f"{whole}/")


def _kinds(schema: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = schema.get("type", ())
    if not kinds and ("properties" in schema or "patternProperties" in schema):
        return ("object",)
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _extra(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Schema of the properties that are not spelt out, {} where they are free."""
    for inner in schema.get("patternProperties", {}).values():
        if isinstance(inner, dict):
            return inner
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return more
    is_free_object = "object" in _kinds(schema) and "properties" not in schema and more is not False
    return {} if is_free_object else None
