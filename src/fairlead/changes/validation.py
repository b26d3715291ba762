"""Whether what a template asks for fits AWS's resource schemas, with the path and line of each fault.

Values that only the apply will know count as any value. Nothing here calls AWS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_network
from itertools import chain, islice
from typing import Any, Final, TypedDict

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind as Kind

from fairlead.changes import graph
from fairlead.changes.intrinsics import Secret, is_node, kind_of, nodes_in, references
from fairlead.changes.model import Desired, Fault
from fairlead.changes.registry import Registry, ResourceType, Shape
from fairlead.changes.template import MAX_SHOWN, Bound, Place, TemplateInvalid, bind_all, load_all
from fairlead.changes.template.calls import MAX_HINTS, did_you_mean
from fairlead.changes.template.conform import conform
from fairlead.changes.template.document import Path, dotted

MAX_BYTES: Final = 16 * 1024 * 1024
_BRANCHES: Final = (Kind.AnyOf, Kind.OneOfNotValid)


class FaultJson(TypedDict):
    """One fault as `fairlead changes validate --json` prints it."""

    path: str
    line: int | None
    code: str
    message: str


class ValidationReport(TypedDict):
    """What `fairlead changes validate --json` prints."""

    valid: bool
    faults: list[FaultJson]


def validate_file(
    data: bytes,
    parameters: Mapping[str, Any],
    *,
    region: str = "us-east-1",
    account_id: str = "000000000000",
    max_bytes: int = MAX_BYTES,
    registry: Registry | None = None,
) -> ValidationReport:
    """Everything that is wrong with a template file, in the order of its lines; bad input never raises."""
    known = registry or Registry()
    faults: list[Fault] = []
    template = load_all(data, faults, max_bytes=max_bytes, registry=known)
    if template is not None:
        place = Place(region=region, account_id=account_id, stack_name="offline")
        faults.extend(validate(bind_all(template, parameters, place, faults, registry=known), known))
    return report(faults)


def report(faults: Iterable[Fault]) -> ValidationReport:
    """The faults in the order of their lines, each once, the first MAX_SHOWN of them."""
    ordered = sorted(set(faults), key=lambda fault: (fault.line or 0, fault.path, fault.message))
    shown = [
        FaultJson(path=fault.path, line=fault.line, code=fault.code, message=fault.message)
        for fault in ordered[:MAX_SHOWN]
    ]
    return ValidationReport(valid=not ordered, faults=shown)


def check(bound: Bound, registry: Registry) -> None:
    """Raise TemplateInvalid with every fault against the schemas, if there is any."""
    faults = validate(bound, registry)
    if faults:
        raise TemplateInvalid(faults)


def validate(bound: Bound, registry: Registry) -> tuple[Fault, ...]:
    """Faults of the resources and outputs against the schemas, the first MAX_SHOWN of them."""
    found = chain(_schema_faults(bound, registry), _attribute_faults(bound, registry), _cycle_faults(bound))
    return tuple(islice(found, MAX_SHOWN))


def _schema_faults(bound: Bound, registry: Registry) -> Iterator[Fault]:
    count = 0
    for desired in bound.resources.values():
        if desired.logical_id in bound.unclear or _is_reported(desired.type):
            continue
        kind = registry.find(desired.type)
        if kind is not None:
            for fault in _resource_faults(bound, desired, kind, guess=count < MAX_HINTS):
                count += 1
                yield fault
        elif "::" in desired.type:
            count += 1
            yield _unknown_type(bound, desired, registry.similar(desired.type) if count < MAX_HINTS else ())


def _unknown_type(bound: Bound, desired: Desired, guesses: Sequence[str]) -> Fault:
    hint = f"; did you mean {' or '.join(guesses)}?" if guesses else "."
    message = f"There is no resource type {desired.type[:100]}{hint}"
    return _fault(bound, "unknown_type", ("Resources", desired.logical_id, "Type"), message)


def _cycle_faults(bound: Bound) -> Iterator[Fault]:
    try:
        graph.order({name: desired.depends_on for name, desired in bound.resources.items()})
    except graph.CycleFound as found:
        first = str(found.details["cycle"][0])
        yield _fault(bound, "cycle", ("Resources", first), found.message)


def _is_reported(type_name: str) -> bool:
    """Whether the grammar has already refused the type, with a better reason than this module has."""
    return type_name.endswith("::MODULE") or type_name.startswith(
        ("Custom::", "AWS::CloudFormation::", "AWS::Serverless::")
    )


def _fault(bound: Bound, code: str, path: Path, message: str) -> Fault:
    return Fault(path=dotted(path), line=bound.line(path), code=f"template.{code}", message=message)


# ------------------------------------------------------------------------------ attributes


def _attribute_faults(bound: Bound, registry: Registry) -> Iterator[Fault]:
    """`Fn::GetAtt` of attributes that the type does not have."""
    places: list[tuple[Path, Any]] = [
        (("Resources", name, "Properties"), desired.properties)
        for name, desired in bound.resources.items()
        if desired.dynamic
    ]
    places += [(("Outputs", name, "Value"), output.value) for name, output in bound.outputs.items()]
    for start, tree in places:
        for path, node in nodes_in(tree, start):
            for reference in sorted(references(node), key=str):
                target = bound.resources.get(reference.logical_id)
                kind = registry.find(target.type) if target and not _is_reported(target.type) else None
                if kind is None or reference.attribute is None or kind.has_attribute(reference.attribute):
                    continue
                hint = did_you_mean(reference.attribute, _attributes(kind))
                message = f"{kind.name} has no attribute '{reference.attribute[:80]}'{hint or '.'}"
                yield _fault(bound, "unknown_attribute", path, message)


def _attributes(kind: ResourceType) -> list[str]:
    nested = [pointer.removeprefix("/properties/").replace("/", ".") for pointer in kind.read_only]
    return sorted({*kind.properties, *nested})


# ------------------------------------------------------------------------------ properties


@dataclass(frozen=True, slots=True)
class _Instance:
    """A property tree as the validator takes it, and where in it something else stands."""

    tree: Any
    holes: set[Path] = field(default_factory=set)  # values that are not known yet
    secrets: set[Path] = field(default_factory=set)
    guess: bool = True  # whether messages guess at what was meant

    @classmethod
    def of(cls, properties: Any, kind: ResourceType, *, guess: bool) -> _Instance:
        """`properties` with a text of its own for each unknown value, and secrets in their real type."""
        self = cls(None)
        plain = conform(self._plain(properties, ()), kind.root)
        return cls(plain, self.holes, self.secrets, guess)

    def _plain(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if kind is str:
            return value
        if kind is dict:
            return {key: self._plain(item, (*path, key)) for key, item in value.items()}
        if kind is list or kind is tuple:
            return [self._plain(item, (*path, index)) for index, item in enumerate(value)]
        if is_node(value):
            self.holes.add(path)
            return f"\0{len(self.holes)}"  # all different: equal ones would not be unique items
        if kind is Secret:
            self.secrets.add(path)
            return str.__str__(value)
        return value

    def at(self, path: Path) -> Any:
        """The value at `path`."""
        value = self.tree
        for part in path:
            value = value[part]
        return value

    def is_hole(self, path: Path) -> bool:
        """Whether `path` is an unknown value or lies inside one."""
        return bool(self.holes) and any(path[:length] in self.holes for length in range(len(path) + 1))

    def has_hole(self, path: Path) -> bool:
        """Whether an unknown value lies at `path` or inside it."""
        return any(hole[: len(path)] == path for hole in self.holes)

    def shown(self, path: Path) -> str:
        """The value for a message: short, and never a secret."""
        if any(secret[: len(path)] == path for secret in self.secrets):
            return "****"
        value = self.at(path)
        if isinstance(value, dict | list | None):
            return kind_of(value)
        text = repr(value) if isinstance(value, str) else str(value).lower()
        return text if len(text) <= 60 else f"{text[:57]}..."


def _resource_faults(bound: Bound, desired: Desired, kind: ResourceType, *, guess: bool) -> Iterator[Fault]:
    instance = _Instance.of(desired.properties, kind, guess=guess)
    start: Path = ("Resources", desired.logical_id, "Properties")
    for path in _read_only_given(desired.properties, kind):
        message = f"'{dotted(path)}' is set by AWS; leave it out."
        yield _fault(bound, "read_only_property", start + path, message)
    for error in _standing(_validator(kind).iter_errors(instance.tree), instance):
        for code, path, message in _explained(error, instance, kind):
            yield _fault(bound, code, start + path, message)


def _read_only_given(properties: Mapping[str, Any], kind: ResourceType) -> Iterator[Path]:
    """Paths of what the template gives although only AWS may."""
    settable = kind.create_only | kind.write_only | {f"/properties/{name}" for name in kind.required}
    for pointer in sorted(kind.read_only - settable):
        yield from _found(properties, pointer.split("/")[2:], ())


def _found(value: Any, parts: list[str], path: Path) -> Iterator[Path]:
    if not parts:
        yield path
    elif parts[0] == "*" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _found(item, parts[1:], (*path, index))
    elif isinstance(value, dict) and parts[0] in value:
        yield from _found(value[parts[0]], parts[1:], (*path, parts[0]))


def _standing(
    errors: Iterable[jsonschema_rs.ValidationError], instance: _Instance
) -> Iterator[jsonschema_rs.ValidationError]:
    """The errors that hold whatever the unknown values turn out to be."""
    return (error for error in errors if not _may_vanish(error, instance))


_ABOUT_CONTENT: Final = (
    Kind.Enum,
    Kind.Constant,
    Kind.Not,
    Kind.OneOfMultipleValid,
    Kind.Contains,
    Kind.UniqueItems,
)


def _may_vanish(error: jsonschema_rs.ValidationError, instance: _Instance) -> bool:
    if not instance.holes:
        return False
    path = tuple(error.instance_path)
    if instance.is_hole(path):
        return True
    if isinstance(error.kind, _BRANCHES):
        branches = error.kind.context
        return any(all(_may_vanish(inner, instance) for inner in branch) for branch in branches)
    return isinstance(error.kind, _ABOUT_CONTENT) and instance.has_hole(path)


_Said = tuple[str, Path, str]  # code, path, message


def _explained(error: jsonschema_rs.ValidationError, instance: _Instance, kind: ResourceType) -> list[_Said]:
    """What an error means to the author of the template; no message quotes a secret."""
    path = tuple(error.instance_path)
    if isinstance(error.kind, Kind.AdditionalProperties):
        names = error.kind.unexpected[:MAX_SHOWN]
        return [
            _unknown_property(name, path, kind, instance.guess and index < MAX_HINTS)
            for index, name in enumerate(names)
        ]
    if isinstance(error.kind, Kind.Required):
        name = error.kind.property
        where = f"'{dotted(path)}'" if path else kind.name
        return [("required_property", (*path, name), f"{where} needs the property '{name}'.")]
    if isinstance(error.kind, Kind.Type):
        wanted = " or ".join(_KINDS.get(name, name) for name in error.kind.types)
        found = f"{kind_of(instance.at(path))} ({instance.shown(path)})"
        if isinstance(instance.at(path), dict | list | None):
            found = kind_of(instance.at(path))
        return [("wrong_type", path, f"'{dotted(path)}' must be {wanted}, not {found}.")]
    if isinstance(error.kind, _BRANCHES):
        return _branch(error, error.kind.context, instance, kind)
    say = _LIMITS.get(type(error.kind))
    rule = say(error.kind) if say else f"does not fit the schema ({error.kind.name})"
    return [("invalid_value", path, f"'{dotted(path)}' {rule}: it is {instance.shown(path)}.")]


def _unknown_property(name: str, path: Path, kind: ResourceType, guess: bool) -> _Said:
    where = f"'{dotted(path)}' of {kind.name}" if path else kind.name
    shape: Shape | None = kind.shape_at(path) if guess else None
    free = shape.schema.get("patternProperties") if shape else None
    if free:
        message = f"{where} takes no name '{name[:80]}': names here match {' or '.join(free)[:120]}."
        return ("unknown_property", (*path, name), message)
    hint = did_you_mean(name, shape.names if shape else ())
    return ("unknown_property", (*path, name), f"{where} has no property '{name[:80]}'{hint or '.'}")


def _branch(
    error: jsonschema_rs.ValidationError,
    branches: list[list[jsonschema_rs.ValidationError]],
    instance: _Instance,
    kind: ResourceType,
) -> list[_Said]:
    """No alternative fits: what the nearest one lacks, or what each of them needs."""
    standing = [list(_standing(branch, instance)) for branch in branches]
    needs = [
        [inner.kind.property for inner in branch if isinstance(inner.kind, Kind.Required)]
        for branch in standing
    ]
    path = tuple(error.instance_path)
    if all(names and len(names) == len(branch) for names, branch in zip(needs, standing, strict=True)):
        sets = " or ".join(dict.fromkeys(" and ".join(f"'{name}'" for name in names) for names in needs))
        where = f"'{dotted(path)}'" if path else kind.name
        return [("required_property", path, f"{where} needs {sets}.")]
    nearest = min(standing, key=lambda branch: (len(branch), -_depth(branch)))
    return [said for inner in nearest for said in _explained(inner, instance, kind)]


def _depth(branch: list[jsonschema_rs.ValidationError]) -> int:
    return max((len(error.instance_path) for error in branch), default=0)


_KINDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}


def _options(kind: Any) -> str:
    listed = ", ".join(map(str, kind.options[:20])) + (", …" if len(kind.options) > 20 else "")
    return f"must be one of {listed}"


_LIMITS: Final[dict[type, Callable[[Any], str]]] = {
    Kind.Enum: _options,
    Kind.Constant: lambda kind: f"must be {kind.expected_value}",
    Kind.Format: lambda _: "must be a network in CIDR form, such as 10.0.0.0/16",
    Kind.Pattern: lambda kind: f"must match the pattern {kind.pattern[:120]}",
    Kind.Minimum: lambda kind: f"must be at least {kind.limit}",
    Kind.Maximum: lambda kind: f"must be at most {kind.limit}",
    Kind.ExclusiveMinimum: lambda kind: f"must be above {kind.limit}",
    Kind.ExclusiveMaximum: lambda kind: f"must be below {kind.limit}",
    Kind.MultipleOf: lambda kind: f"must be a multiple of {kind.multiple_of}",
    Kind.MinLength: lambda kind: f"must have at least {kind.limit} characters",
    Kind.MaxLength: lambda kind: f"must have at most {kind.limit} characters",
    Kind.MinItems: lambda kind: f"must have at least {kind.limit} items",
    Kind.MaxItems: lambda kind: f"must have at most {kind.limit} items",
    Kind.MinProperties: lambda kind: f"must have at least {kind.limit} entries",
    Kind.MaxProperties: lambda kind: f"must have at most {kind.limit} entries",
    Kind.UniqueItems: lambda _: "must not hold the same item twice",
    Kind.OneOfMultipleValid: lambda _: "mixes properties that exclude each other",
    Kind.Not: lambda _: "holds a combination that the schema excludes",
}


# ------------------------------------------------------------------------------ validators


@lru_cache(maxsize=2048)
def _validator(kind: ResourceType) -> jsonschema_rs.Validator:
    """The compiled schema of a type. Patterns that only Python's engine knows are left out."""
    schema = {key: value for key, value in kind.schema.items() if key != "$schema"}
    try:
        return _compiled(schema)
    except ValueError:
        return _compiled(_without_odd_patterns(schema))


def _compiled(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)
    return jsonschema_rs.Draft202012Validator(
        schema, formats=_FORMATS, validate_formats=True, pattern_options=options, offline=True
    )


def _is_network(text: str) -> bool:
    """Whether this is a block such as 10.0.0.0/16, of either family: the schemas mix the two up."""
    try:
        ip_network(text, strict=False)  # AWS clears the bits of hosts by itself
    except ValueError:
        return False
    return "/" in text


_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "ipv4-network": _is_network,
    "ipv6-network": _is_network,
    # What JSON schema itself would check, although AWS takes more: dates in texts, relative addresses.
    **dict.fromkeys(("date-time", "uri"), lambda _: True),
}


def _without_odd_patterns(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_odd_patterns(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _without_odd_patterns(value) for key, value in node.items()}
    if isinstance(found.get("pattern"), str) and not _compiles(found["pattern"]):
        del found["pattern"]
    keys = found.get("patternProperties")
    if isinstance(keys, dict):  # the empty pattern matches every key
        found["patternProperties"] = {(key if _compiles(key) else ""): value for key, value in keys.items()}
    return found


def _compiles(pattern: str) -> bool:
    try:
        _compiled({"pattern": pattern})
    except ValueError:
        return False
    return True
