"""Fairlead's own short form of a template, turned into CloudFormation's.

`resources:` is a list or a map of `{type: "EC2::Instance", name, properties: {instanceType: …}, tags: {…}}`:
the service prefix `AWS::` may be left out, property names may begin in lower case, tags are a map.
`docs/reference/templates.md` lists every key.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fairlead.changes.model import Fault
from fairlead.changes.registry import Registry, ResourceType, Shape
from fairlead.changes.template.calls import PSEUDO, did_you_mean
from fairlead.changes.template.document import Array, Object, Path, dotted

_SECTIONS: Final = {
    "description": "Description",
    "parameters": "Parameters",
    "mappings": "Mappings",
    "conditions": "Conditions",
    "outputs": "Outputs",
}
# A state file is accepted as it is: what it says about the past is not what should be.
_PAST_SECTIONS: Final = frozenset({"version", "projectid", "timestamp", "metadata"})
_PAST: Final = frozenset({"id", "projectid", "arn", "status", "createdat", "updatedat"})
_ATTRIBUTES: Final = {
    "type": "Type",
    "properties": "Properties",
    "condition": "Condition",
    "dependson": "DependsOn",
    "dependencies": "DependsOn",
    "deletionpolicy": "DeletionPolicy",
    "updatereplacepolicy": "UpdateReplacePolicy",
}
_SUB_NAME: Final = re.compile(r"\$\{(?!!)([^{}]*+)\}")
_OWN: Final = frozenset({"name", "tags", "region"})


def is_seed_form(tree: Any) -> bool:
    """Whether the document is in the short form: `resources` in lower case, no `Resources`."""
    return isinstance(tree, Object) and "resources" in tree and "Resources" not in tree


def logical_id(name: str) -> str:
    """`web-server-1` as `WebServer1`: letters and digits only; a name of only those stays as it is."""
    if name.isascii() and name.isalnum():
        return name
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name))


class SeedForm:
    """One conversion; holds the names of the resources and the faults found."""

    def __init__(self, tree: Object, registry: Registry, faults: list[Fault]) -> None:
        self.tree = tree
        self.registry = registry
        self.faults = faults
        self.ids: dict[str, str] = {}  # the name that the document uses -> logical id
        self.types: dict[str, ResourceType] = {}  # by the document's name
        self.regions: dict[str, tuple[str, int]] = {}  # logical id -> region that it names, line

    def fault(self, code: str, path: Path, line: int, message: str) -> None:
        """Add one fault."""
        self.faults.append(Fault(path=dotted(path), line=line, code=f"template.{code}", message=message))

    def convert(self) -> Object:
        """The document as a CloudFormation template, every line number kept."""
        entries = self._entries()
        for name, (_, resource, line) in entries.items():
            self._register(name, resource, line)
        out = Object(self.tree.line)
        for key, value in self.tree.items():
            line = self.tree.lines[key]
            section = _SECTIONS.get(key.lower())
            if key == "resources":
                resources = Object(line)
                for name, (path, resource, at) in entries.items():
                    resources.put(self.ids[name], self._resource(name, resource, path, at), at)
                out.put("Resources", resources, line)
            elif section is not None:
                out.put(section, self._value(value, None), line)
            elif key.lower() not in _PAST_SECTIONS:
                hint = did_you_mean(key, (*_SECTIONS, "resources"))
                self.fault("structure", (key,), line, f"The short form has no '{key[:80]}'{hint or '.'}")
        return out

    def _entries(self) -> dict[str, tuple[Path, Object, int]]:
        """Name to (path in the document, resource, line), of those that are resources at all."""
        resources, line = self.tree["resources"], self.tree.lines["resources"]
        found: dict[str, tuple[Path, Object, int]] = {}
        if isinstance(resources, Object):
            pairs = [(name, node, resources.lines[name], name) for name, node in resources.items()]
        elif isinstance(resources, Array):
            pairs = [(_name(node), node, resources.lines[i], i) for i, node in enumerate(resources)]  # type: ignore[misc]
        else:
            self.fault("structure", ("resources",), line, "resources is a list or a map of resources.")
            return found
        for name, node, at, key in pairs:
            path: Path = ("resources", key)
            if not isinstance(node, Object) or not isinstance(name, str) or not logical_id(name):
                self.fault("structure", path, at, "A resource is a map with a type and a name.")
            elif name in found:
                self.fault("duplicate_key", path, at, f"Two resources are named '{name[:80]}'.")
            else:
                found[name] = (path, node, at)
        return found

    def _register(self, name: str, resource: Object, line: int) -> None:
        wanted = logical_id(name)
        if wanted in self.ids.values():
            message = f"'{name[:80]}' and another name both become the logical id '{wanted[:80]}'."
            self.fault("duplicate_key", ("resources", name), line, message)
            wanted = f"{wanted}{line}"
        self.ids[name] = wanted
        kind = _get(resource, "type")
        found = self.registry.find(full_type(kind)) if isinstance(kind, str) else None
        if found is not None:
            self.types[name] = found

    def _resource(self, name: str, resource: Object, path: Path, line: int) -> Object:
        out = Object(line)
        kind = self.types.get(name)
        for key, value in resource.items():
            at, lower = resource.lines[key], key.lower()
            attribute = _ATTRIBUTES.get(lower)
            if lower == "type" and isinstance(value, str):
                out.put("Type", full_type(value), at)
            elif lower == "properties":
                out.put("Properties", self._value(value, kind.root if kind else None), at)
            elif lower in ("dependson", "dependencies"):
                self._depend(out, value, at)
            elif attribute is not None:
                out.put(attribute, value, at)
            elif lower == "region":
                self._region(name, value, (*path, key), at)
            elif lower not in _OWN | _PAST:
                hint = did_you_mean(key, (*_ATTRIBUTES, *_OWN))
                self.fault("structure", (*path, key), at, f"A resource has no '{key[:80]}'{hint or '.'}")
        tags = _get(resource, "tags")
        if tags is not None and tags != {}:
            self._tags(out, tags, kind, path, resource)
        return out

    def _region(self, name: str, value: Any, path: Path, line: int) -> None:
        if isinstance(value, str):
            self.regions[self.ids[name]] = (value, line)
        else:
            self.fault("structure", path, line, "region is the name of a region.")

    def _depend(self, out: Object, value: Any, line: int) -> None:
        names = value if isinstance(value, Array) else Array(line, [(value, line)])
        target = out.get("DependsOn")
        if not isinstance(target, Array):
            target = Array(line)
            out.put("DependsOn", target, line)
        for name, at in zip(names, names.lines, strict=True):
            target.put(self.ids.get(name, name) if isinstance(name, str) else name, at)

    def _tags(self, out: Object, tags: Any, kind: ResourceType | None, path: Path, resource: Object) -> None:
        line = next(at for key, at in resource.lines.items() if key.lower() == "tags")
        where = (*path, "tags")
        if not isinstance(tags, Object):
            self.fault("structure", where, line, "tags is a map of names to values.")
            return
        if kind is None:
            return
        name = kind.tag_property
        if name is None:
            self.fault("unknown_property", where, line, f"{kind.name} takes no tags.")
            return
        properties = out.setdefault("Properties", Object(line))
        out.lines.setdefault("Properties", line)
        if not isinstance(properties, Object):
            return
        if name in properties:
            self.fault("duplicate_key", where, line, f"Tags are given twice: here and in properties.{name}.")
            return
        properties.put(name, self._tag_value(tags, kind.root.child(name), line), line)

    def _tag_value(self, tags: Object, shape: Shape | None, line: int) -> Any:
        """The map, or CloudFormation's list of Key and Value, as the type wants it."""
        if shape is None or "array" not in shape.kinds:
            return self._value(tags, None)
        item = shape.item()
        to_new = item is not None and "PropagateAtLaunch" in item.names
        out = Array(line)
        for key, value in tags.items():
            at = tags.lines[key]
            tag = Object(at)
            tag.put("Key", key, at)
            tag.put("Value", self._value(value, None), at)
            if to_new:
                tag.put("PropagateAtLaunch", True, at)
            out.put(tag, at)
        return out

    # ------------------------------------------------------------------------ values

    def _value(self, node: Any, shape: Shape | None) -> Any:
        """`node` with property names in the schema's spelling and references to logical ids."""
        if isinstance(node, Array):
            inner = None if shape is None else shape.item()
            return Array(
                node.line, ((self._value(item, inner), at) for item, at in zip(node, node.lines, strict=True))
            )
        if not isinstance(node, Object):
            return node
        out = Object(node.line)
        for key, item in node.items():
            line = node.lines[key]
            if key == "Ref" or key.startswith("Fn::"):
                out.put(key, self._call(key, item), line)
                continue
            name = _spelling(key, shape)
            if name in out:
                self.fault(
                    "duplicate_key", (key,), line, f"'{key[:80]}' is '{name}', which is already there."
                )
                continue
            out.put(name, self._value(item, None if shape is None else shape.child(name)), line)
        return out

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Ref" and isinstance(argument, str):
            return self.ids.get(argument, argument)
        if function == "Fn::GetAtt":
            return self._attribute(argument)
        if function == "Fn::Sub":
            return self._sub(argument)
        return self._value(argument, None)

    def _attribute(self, argument: Any) -> Any:
        parts = argument.split(".", 1) if isinstance(argument, str) else argument
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            return argument
        line = argument.line if isinstance(argument, Array) else self.tree.line
        name, attribute = parts
        kind = self.types.get(name)
        spelt = _attribute_spelling(attribute, kind) if kind else attribute
        return Array(line, [(self.ids.get(name, name), line), (spelt, line)])

    def _sub(self, argument: Any) -> Any:
        if isinstance(argument, Array) and len(argument) == 2 and isinstance(argument[1], Object):
            text, variables = argument[0], argument[1]
            out = Array(argument.line)
            out.put(self._sub_text(text, frozenset(variables)), argument.lines[0])
            out.put(self._value(variables, None), argument.lines[1])
            return out
        return self._sub_text(argument, frozenset())

    def _sub_text(self, text: Any, variables: frozenset[str]) -> Any:
        if not isinstance(text, str):
            return text
        return _SUB_NAME.sub(lambda match: f"${{{self._sub_name(match[1].strip(), variables)}}}", text)

    def _sub_name(self, name: str, variables: frozenset[str]) -> str:
        if name in variables or name in PSEUDO or name in self.ids:
            return self.ids.get(name, name) if name not in variables else name
        head, dot, attribute = name.partition(".")
        if not dot or head not in self.ids:
            return name
        kind = self.types.get(head)
        return f"{self.ids[head]}.{_attribute_spelling(attribute, kind) if kind else attribute}"


def full_type(name: str) -> str:
    """`EC2::Instance` as `AWS::EC2::Instance`; a full name stays as it is."""
    return f"AWS::{name}" if name.count("::") == 1 and not name.startswith(("AWS::", "Custom::")) else name


def _name(node: Any) -> Any:
    return _get(node, "name") if isinstance(node, Object) else None


def _get(node: Object, key: str) -> Any:
    return next((value for name, value in node.items() if name.lower() == key), None)


def _spelling(name: str, shape: Shape | None) -> str:
    """The schema's own spelling of a property name; `name` where the schema has none like it."""
    if shape is None or name in shape.names:
        return name
    lower = name.lower()
    return next((known for known in shape.names if known.lower() == lower), name)


def _attribute_spelling(attribute: str, kind: ResourceType) -> str:
    shape: Shape | None = kind.root
    parts: list[str] = []
    for part in attribute.split("."):
        parts.append(_spelling(part, shape))
        shape = None if shape is None else shape.child(parts[-1])
    return ".".join(parts)
