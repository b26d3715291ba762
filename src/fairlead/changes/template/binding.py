"""A template with values in place of its parameters: what should be, resource by resource.

Everything that does not depend on another resource is computed here; the rest becomes expression
nodes (`intrinsics`). Pure: the same template, values and place give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from fairlead.changes.intrinsics import (
    BROKEN,
    Base64,
    Cidr,
    Import,
    Join,
    Secret,
    Select,
    Split,
    Unresolvable,
    base64_of,
    cast,
    cidr_blocks,
    is_node,
    joined,
    nodes_in,
    references,
    selected,
    split_text,
    sub_parts,
    text_of,
)
from fairlead.changes.model import Desired, Fault, Reference
from fairlead.changes.registry import Registry
from fairlead.changes.template.bound import NO_VALUE, Bound, Output, Place, Template
from fairlead.changes.template.conform import conform
from fairlead.changes.template.document import Array, Object, dotted, line_at

_SNAPSHOT_BY_DEFAULT: Final = ("AWS::RDS::DBCluster", "AWS::RDS::DBInstance")
_Trail = tuple[Any, Any] | None  # (trail to the parent, key): cheaper than copying paths


def bound(
    template: Template, values: Mapping[str, Any], place: Place, registry: Registry, faults: list[Fault]
) -> Bound:
    """`template` bound to parameter values that `parameters.given` has accepted. Collects faults."""
    binder = _Binder(template, values, place, faults)
    resources = {name: _desired(binder, name, registry) for name in binder.present}
    for name, (region, line) in template.regions.items():
        if region != place.region:
            message = f"This resource names the region {region[:40]}; this project is in {place.region}."
            path = f"Resources.{name}.Region"
            faults.append(Fault(path=path, line=line, code="template.region", message=message))
    return Bound(
        resources=resources,
        outputs=_outputs(binder),
        parameters=values,
        unclear=frozenset(binder.unclear),
        conditions={name: truth for name, truth in binder.truths.items() if truth is not None},
        template=template,
    )


def _desired(binder: _Binder, name: str, registry: Registry) -> Desired:
    section = binder.section("Resources")
    resource: Object = section[name]
    type_name = resource["Type"] if isinstance(resource.get("Type"), str) else "?"
    path: _Trail = (((None, "Resources"), name), "Properties")
    before = binder.nodes
    tree = binder.value(resource.get("Properties", Object(0)), path)
    if not isinstance(tree, dict):
        binder.unclear.add(name)
        tree = {}
    kind = registry.find(type_name)
    properties = conform(tree, kind.root if kind else None)
    dynamic = binder.nodes > before and next(nodes_in(properties), None) is not None
    after = resource.get("DependsOn")
    named = after if isinstance(after, Array) else [after]
    explicit = {item for item in named if isinstance(item, str) and item in binder.present}
    explicit.discard(name)  # reported by the grammar
    implied = {reference.logical_id for reference in references(properties)} if dynamic else set()
    default = "Snapshot" if _keeps_snapshot(type_name, properties) else "Delete"
    return Desired(
        logical_id=name,
        type=type_name,
        properties=properties,
        dynamic=dynamic,
        depends_on=tuple(sorted(explicit | implied)),
        deletion_policy=resource.get("DeletionPolicy", default),
        update_replace_policy=resource.get("UpdateReplacePolicy", "Delete"),
        line=section.lines[name],
    )


def _keeps_snapshot(type_name: str, properties: Mapping[str, Any]) -> bool:
    """CloudFormation's own default: databases that stand alone leave a snapshot behind."""
    return type_name in _SNAPSHOT_BY_DEFAULT and (
        type_name.endswith("DBCluster") or "DBClusterIdentifier" not in properties
    )


def _outputs(binder: _Binder) -> dict[str, Output]:
    found: dict[str, Output] = {}
    for name, node in binder.section("Outputs").items():
        if not isinstance(node, Object) or "Value" not in node or not binder.is_wanted(node):
            continue
        path = ((None, "Outputs"), name)
        value = conform(cast("string", binder.value(node["Value"], (path, "Value"))), None)
        if value is NO_VALUE:
            binder.fault("function", (path, "Value"), "An output needs a value; AWS::NoValue is none.")
            continue
        export = node.get("Export")
        export_name = None
        if isinstance(export, Object) and "Name" in export:
            text = binder.text(export["Name"], ((path, "Export"), "Name"))
            export_name = text if isinstance(text, str) else None
        description = node.get("Description")
        found[name] = Output(value, description if isinstance(description, str) else None, export_name)
    return found


class _Binder:
    """One binding: the values at hand, the truth of each condition, and the faults found."""

    def __init__(
        self, template: Template, values: Mapping[str, Any], place: Place, faults: list[Fault]
    ) -> None:
        self.template = template
        self.values = {**place.pseudo(), **values}
        self.place = place
        self.faults = faults
        self.bad = template.bad
        self.truths: dict[str, bool | None] = {}
        self.unclear: set[str] = set()
        self.nodes = 0  # expression nodes made so far
        for name in template.condition_order:
            self.truths[name] = self._truth(self.section("Conditions")[name], ((None, "Conditions"), name))

    def section(self, name: str) -> Object:
        """A section of the template, empty where it is absent or no map."""
        found = self.template.document.get(name)
        return found if isinstance(found, Object) else Object(0)

    @cached_property
    def present(self) -> dict[str, None]:
        """Logical ids of the resources that are wanted, in the template's order."""
        resources = self.section("Resources")
        return {
            name: None
            for name, node in resources.items()
            if isinstance(node, Object) and self.is_wanted(node)
        }

    def is_wanted(self, holder: Object) -> bool:
        """Whether the Condition of a resource or an output holds; a faulty one counts as true."""
        name = holder.get("Condition")
        return not isinstance(name, str) or self.truth(name) is not False

    def fault(self, code: str, trail: _Trail, message: str) -> Any:
        """Add a fault and give the stand-in for the value."""
        path: list[Any] = []
        while trail is not None:
            trail, key = trail
            path.append(key)
        path.reverse()
        line = line_at(self.template.document, path)
        self.faults.append(Fault(path=dotted(path), line=line, code=f"template.{code}", message=message))
        return BROKEN

    # -------------------------------------------------------------------------- values

    def value(self, node: Any, trail: _Trail) -> Any:
        """A property tree: new containers, functions computed or turned into nodes."""
        if isinstance(node, Object):
            if id(node) in self.bad:
                return self._made(BROKEN)
            if len(node) == 1:
                (key,) = node
                if key == "Ref" or key.startswith("Fn::"):
                    return self._call(key, node[key], (trail, key))
            found: dict[str, Any] = {}
            for key, item in node.items():
                if type(item) is str:
                    found[key] = item
                elif (new := self.value(item, (trail, key))) is not NO_VALUE:
                    found[key] = new
            return found
        if isinstance(node, Array):
            return self._list(node, trail)
        return self._made(BROKEN) if node is None else node  # reported by the grammar

    def _list(self, node: Array, trail: _Trail) -> list[Any]:
        items = (
            item if type(item) is str else self.value(item, (trail, index)) for index, item in enumerate(node)
        )
        return [item for item in items if item is not NO_VALUE]

    def _call(self, function: str, argument: Any, trail: _Trail) -> Any:
        try:
            return self._made(_CALLS[function](self, argument, trail))
        except Unresolvable as problem:
            return self._made(self.fault("function", trail, problem.message))

    def _made(self, value: Any) -> Any:
        if is_node(value) or isinstance(value, list):
            self.nodes += 1
        return value

    def text(self, node: Any, trail: _Trail) -> str | None:
        """A text that no resource decides; None (and a fault) where there is none."""
        value = self.value(node, trail)
        if value is BROKEN:
            return None
        if is_node(value):
            self.fault("function", trail, "This value must be known before anything is made.")
            return None
        try:
            return text_of(value)
        except Unresolvable as problem:
            self.fault("function", trail, problem.message)
            return None

    def _ref(self, name: str, trail: _Trail) -> Any:
        if name in self.values:
            return self.values[name]
        if name in self.section("Parameters"):
            return BROKEN  # its fault is reported with the parameter
        return self._reference(name, None, trail)

    def _reference(self, name: str, attribute: str | None, trail: _Trail) -> Any:
        if name in self.present:
            return Reference(name, attribute)
        if name not in self.section("Resources"):
            return BROKEN  # reported by the grammar
        condition = self.section("Resources")[name].get("Condition")
        message = (
            f"'{name}' is not made: its condition '{condition}' is false. Use Fn::If with the same condition."
        )
        return self.fault("absent_reference", trail, message)

    def _get_att(self, argument: Any, trail: _Trail) -> Any:
        name, *rest = argument.split(".", 1) if isinstance(argument, str) else argument
        parts = [self.text(part, (trail, index)) for index, part in enumerate(rest, 1)]
        if None in parts:
            return BROKEN
        if any(isinstance(part, Secret) for part in parts):
            raise Unresolvable("A NoEcho parameter cannot name an attribute.")
        return self._reference(name, ".".join(part for part in parts if part is not None), trail)

    def _sub(self, argument: Any, trail: _Trail) -> Any:
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        values = {key: self.value(item, ((trail, 1), key)) for key, item in variables.items()}
        parts = [
            self._sub_part(part, values, trail) if is_name else part for is_name, part in sub_parts(text)
        ]
        return self._joined("", parts)

    def _sub_part(self, name: str, values: Mapping[str, Any], trail: _Trail) -> Any:
        if name in values:
            return values[name]
        if "." in name:
            resource, attribute = name.split(".", 1)
            return self._reference(resource, attribute, trail)
        return self._ref(name, trail)

    def _joined(self, separator: str, parts: Sequence[Any]) -> Any:
        if any(part is BROKEN for part in parts):
            return BROKEN
        if any(part is NO_VALUE for part in parts):
            raise Unresolvable("AWS::NoValue is no text.")
        fixed = [part for part in parts if not is_node(part)]
        whole = joined(separator, fixed)  # also tells whether each is a text
        return whole if len(fixed) == len(parts) else Join(separator, tuple(parts))

    def _join(self, argument: Any, trail: _Trail) -> Any:
        parts = self.value(argument[1], (trail, 1))
        if parts is BROKEN:
            return BROKEN
        if isinstance(parts, list):
            return self._joined(argument[0], parts)
        if is_node(parts):
            return Join(argument[0], parts)
        raise Unresolvable("Fn::Join takes a list.")

    def _if(self, argument: Any, trail: _Trail) -> Any:
        truth = self.truth(argument[0])
        if truth is None:
            return BROKEN
        index = 1 if truth else 2
        return self.value(argument[index], (trail, index))

    def _select(self, argument: Any, trail: _Trail) -> Any:
        index = self.text(argument[0], (trail, 0))
        items = self.value(argument[1], (trail, 1))
        if index is None or items is BROKEN:
            return BROKEN
        if not index.strip().isdecimal() or len(index) > 9:
            raise Unresolvable("The index of Fn::Select is a number from 0.")
        return Select(int(index), items) if is_node(items) else selected(int(index), items)

    def _split(self, argument: Any, trail: _Trail) -> Any:
        text = self.value(argument[1], (trail, 1))
        if text is BROKEN:
            return BROKEN
        return Split(argument[0], text) if is_node(text) else split_text(argument[0], text)

    def _find_in_map(self, argument: Any, trail: _Trail) -> Any:
        keys = [self.text(part, (trail, index)) for index, part in enumerate(argument)]
        if None in keys:
            return BROKEN
        found: Any = self.section("Mappings")
        for index, key in enumerate(keys):
            if not isinstance(found, Object) or key not in found:
                what = "mapping" if index == 0 else "key"
                shown = f"{Secret(key) if isinstance(key, Secret) else key}"[:80]
                return self.fault(
                    "mapping_key", (trail, index), f"There is no {what} '{shown}' in Mappings here."
                )
            found = found[str(key)]
        return list(found) if isinstance(found, list) else found

    def _import(self, argument: Any, trail: _Trail) -> Any:
        name = self.text(argument, trail)
        if name is None:
            return BROKEN
        if self.place.exports is None:
            return Import(f"{name}")
        if name not in self.place.exports:
            return self.fault("import_missing", trail, f"No project exports '{f'{name}'[:100]}'.")
        return self.place.exports[name]

    def _get_azs(self, argument: Any, trail: _Trail) -> Any:
        region = "" if argument is None else self.text(argument, trail)
        return BROKEN if region is None else self.place.zones_of(region or self.place.region)

    def _base64(self, argument: Any, trail: _Trail) -> Any:
        text = self.value(argument, trail)
        if text is BROKEN:
            return BROKEN
        return Base64(text) if is_node(text) else base64_of(text)

    def _cidr(self, argument: Any, trail: _Trail) -> Any:
        block = self.value(argument[0], (trail, 0))
        numbers = [self.text(argument[index], (trail, index)) for index in (1, 2)]
        if block is BROKEN or None in numbers:
            return BROKEN
        count, bits = (int(text) if text and text.isdecimal() and len(text) < 5 else -1 for text in numbers)
        if not 1 <= count <= 256 or not 1 <= bits <= 127:
            raise Unresolvable("Fn::Cidr takes a block, a count from 1 to 256 and a number of host bits.")
        return Cidr(block, count, bits) if is_node(block) else cidr_blocks(block, count, bits)

    # -------------------------------------------------------------------------- conditions

    def truth(self, name: str) -> bool | None:
        """Whether a condition holds; None where it has a fault."""
        return self.truths.get(name)

    def _truth(self, node: Any, trail: _Trail) -> bool | None:
        if not isinstance(node, Object) or id(node) in self.bad:
            return None
        ((function, argument),) = node.items()
        trail = (trail, function)
        if function == "Condition":
            return self.truth(argument)
        if function == "Fn::Equals":
            return self._equals(argument, trail)
        parts = [self._truth(part, (trail, index)) for index, part in enumerate(argument)]
        if None in parts:
            return None
        if function == "Fn::Not":
            return not parts[0]
        return all(parts) if function == "Fn::And" else any(parts)

    def _equals(self, argument: Any, trail: _Trail) -> bool | None:
        left, right = (self.value(part, (trail, index)) for index, part in enumerate(argument))
        if left is BROKEN or right is BROKEN:
            return None
        if is_node(left) or is_node(right):
            self.fault("function", trail, "A condition cannot depend on imported values or resources.")
            return None
        scalar = (str, bool, int, float)
        if isinstance(left, scalar) and isinstance(right, scalar):
            return text_of(left) == text_of(right)
        return bool(left == right)


_Call = Callable[[_Binder, Any, _Trail], Any]
_CALLS: Final[dict[str, _Call]] = {
    "Ref": _Binder._ref,
    "Fn::Sub": _Binder._sub,
    "Fn::GetAtt": _Binder._get_att,
    "Fn::Join": _Binder._join,
    "Fn::If": _Binder._if,
    "Fn::ImportValue": _Binder._import,
    "Fn::Select": _Binder._select,
    "Fn::FindInMap": _Binder._find_in_map,
    "Fn::GetAZs": _Binder._get_azs,
    "Fn::Base64": _Binder._base64,
    "Fn::Split": _Binder._split,
    "Fn::Cidr": _Binder._cidr,
}
