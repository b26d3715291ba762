"""A template before and after binding, and the place where it is bound: data, and the lines of the file."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fairlead.changes.model import Desired
from fairlead.changes.template.calls import PSEUDO, function_of
from fairlead.changes.template.document import Array, Object, Path
from fairlead.changes.template.parameters import Parameter

# Partition and DNS suffix by how a region's name begins; all others are the commercial partition.
_PARTITIONS: Final = (
    ("cn-", "aws-cn", "amazonaws.com.cn"),
    ("us-gov-", "aws-us-gov", "amazonaws.com"),
    ("us-isob-", "aws-iso-b", "sc2s.sgov.gov"),
    ("us-isof-", "aws-iso-f", "csp.hci.ic.gov"),
    ("us-iso-", "aws-iso", "c2s.ic.gov"),
    ("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"),
    ("eusc-", "aws-eusc", "amazonaws.eu"),
)
NO_VALUE: Final[Any] = object()
"""What `AWS::NoValue` stands for: the property or item is not there."""
_ANY_ZONES: Final = "abc"


class Output(NamedTuple):
    """One output: `value` is a property tree, `export_name` the name that other projects import."""

    value: Any
    description: str | None
    export_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a template is bound: what the pseudo parameters stand for.

    `exports` None means that nobody knows (offline): imported values stay unknown. `zones` are
    each region's availability zones for this account; where absent, a to c.
    """

    region: str
    account_id: str
    stack_name: str
    exports: Mapping[str, str] | None = None
    zones: Mapping[str, Sequence[str]] | None = None

    @property
    def stack_id(self) -> str:
        """An ARN of the form that CloudFormation gives, the same for the same project."""
        unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.account_id}/{self.region}/{self.stack_name}")
        partition = self.partition[0]
        return (
            f"arn:{partition}:cloudformation:{self.region}:{self.account_id}:stack/{self.stack_name}/{unique}"
        )

    @property
    def partition(self) -> tuple[str, str]:
        """Partition name and DNS suffix."""
        for start, partition, suffix in _PARTITIONS:
            if self.region.startswith(start):
                return partition, suffix
        return "aws", "amazonaws.com"

    def zones_of(self, region: str) -> list[str]:
        """Availability zones of a region."""
        known = (self.zones or {}).get(region)
        return list(known) if known is not None else [f"{region}{letter}" for letter in _ANY_ZONES]

    def pseudo(self) -> dict[str, Any]:
        """Pseudo parameter to value."""
        partition, suffix = self.partition
        values: tuple[Any, ...] = (
            self.account_id,
            NO_VALUE,
            [],
            partition,
            self.region,
            self.stack_id,
            self.stack_name,
            suffix,
        )
        return dict(zip(PSEUDO, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template that is understood: CloudFormation's form, with the line of everything."""

    document: Object
    parameters: Mapping[str, Parameter]
    regions: Mapping[str, tuple[str, int]]  # logical id -> region that the short form names, and line
    condition_order: tuple[str, ...]
    bad: frozenset[int]  # ids of the function calls with faults; empty once loaded


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What should be. `resources` and `outputs` hold only those whose condition is true."""

    resources: dict[str, Desired]
    outputs: dict[str, Output]
    parameters: Mapping[str, Any]  # NoEcho values are Secret: they show as ****
    conditions: Mapping[str, bool]
    template: Template
    unclear: frozenset[str]  # logical ids whose Properties could not be read; empty once bound
    _lists: _Kept = field(default_factory=dict, compare=False, repr=False)

    def line(self, path: Path) -> int | None:
        """Line in the file of a path of the bound form: ("Resources", "Web", "Properties", "Tags", 0)."""
        return _line(self.template.document, path, self.conditions, self._lists)


_Kept = dict[int, list[tuple[int, Any]]]  # id of a list in the document -> (line, item) of what is bound


def _line(node: Any, path: Path, truths: Mapping[str, bool], lists: _Kept) -> int | None:
    """Line of a bound path: Fn::If branches are walked through, items that are no value are not counted."""
    line: int | None = getattr(node, "line", None)
    for part in path:
        node, at = _branch(node, truths)
        line = at or line
        if isinstance(node, Object) and part in node and not _is_call(node):
            line, node = node.lines[str(part)], node[str(part)]
        elif isinstance(node, Array) and isinstance(part, int):
            if id(node) not in lists:
                pairs = zip(node.lines, node, strict=True)
                lists[id(node)] = [pair for pair in pairs if not _is_no_value(pair[1], truths)]
            if part >= len(lists[id(node)]):
                return line
            line, node = lists[id(node)][part]
        else:
            return line
    return line


def _is_call(node: Any) -> bool:
    return isinstance(node, Object) and len(node) == 1 and function_of(node) is not None


def _branch(node: Any, truths: Mapping[str, bool]) -> tuple[Any, int | None]:
    line = None
    while _is_call(node) and isinstance(node.get("Fn::If"), Array) and len(node["Fn::If"]) == 3:
        arguments = node["Fn::If"]
        index = 1 if truths.get(str(arguments[0])) else 2
        node, line = arguments[index], arguments.lines[index]
    return node, line


def _is_no_value(node: Any, truths: Mapping[str, bool]) -> bool:
    taken, _ = _branch(node, truths)
    return isinstance(taken, Object) and taken.get("Ref") == "AWS::NoValue"
