"""What a template may say: sections, resource attributes and functions. What is not listed here is a fault.

Looks at the whole tree, branches that no condition takes included: a template is never half understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fairlead.changes.model import Fault
from fairlead.changes.template.calls import Calls, did_you_mean, function_of, is_unsupported
from fairlead.changes.template.document import Array, Object, Path
from fairlead.changes.types.traits import SNAPSHOT_TYPES

SECTIONS = (
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
)
UNSUPPORTED_SECTIONS = {
    "Transform": "macros and SAM are not run here; give the template that they produce",
    "Globals": "it belongs to SAM; give the template that `sam` produces",
    "Rules": "state the limits on the parameters themselves (AllowedValues, AllowedPattern)",
    "Hooks": "blue/green hooks are CloudFormation's own",
}
ATTRIBUTES = (
    "Type",
    "Properties",
    "Condition",
    "DependsOn",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "Metadata",
    "CreationPolicy",
    "UpdatePolicy",
)
DELETION_POLICIES = ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
REPLACE_POLICIES = ("Delete", "Retain", "Snapshot")
OUTPUT_ATTRIBUTES = ("Description", "Value", "Export", "Condition")
_LOGICAL_ID = re.compile(r"[A-Za-z0-9]{1,255}\Z")
_TYPE = re.compile(r"[A-Za-z0-9]{2,64}(?:::[A-Za-z0-9]{2,64}){1,3}\Z")


class Grammar:
    """One check of one document."""

    def __init__(self, document: Object, faults: list[Fault]) -> None:
        self.document = document
        self.faults = faults
        self.calls = Calls(document, faults)
        self.fault = self.calls.fault

    def check(self) -> None:
        """Look at everything."""
        self._sections()
        self._resources()
        self._each_object("Parameters", None)
        self._each_object("Mappings", self._mapping)
        self._each_object("Conditions", None)
        self.calls.check_conditions()
        self._each_object("Outputs", self._output)
        self._dynamic_references()

    def _sections(self) -> None:
        document = self.document
        for name, line in document.lines.items():
            if name in UNSUPPORTED_SECTIONS:
                hint = UNSUPPORTED_SECTIONS[name]
                self.fault("unsupported", (name,), line, f"The section {name} is not supported: {hint}.")
            elif name not in SECTIONS:
                hint = did_you_mean(name, SECTIONS)
                self.fault("structure", (name,), line, f"A template has no section '{name[:80]}'{hint}")
        version = document.get("AWSTemplateFormatVersion", "2010-09-09")
        if version != "2010-09-09":
            line = document.lines["AWSTemplateFormatVersion"]
            message = "The only template format version is '2010-09-09'."
            self.fault("structure", ("AWSTemplateFormatVersion",), line, message)
        if not isinstance(document.get("Description", ""), str):
            self.fault(
                "structure", ("Description",), document.lines["Description"], "Description must be text."
            )

    def _each_object(self, section: str, look: Callable[[Any, Path, int], None] | None) -> None:
        if section not in self.document:
            return
        found, line = self.document[section], self.document.lines[section]
        if not isinstance(found, Object):
            self.fault("structure", (section,), line, f"{section} must be a map of names.")
            return
        for name, value in found.items():
            if look is not None and is_unsupported(name):
                self.calls.unsupported(name, (section, name), found.lines[name])
            elif look is not None:
                look(value, (section, name), found.lines[name])

    def _mapping(self, mapping: Any, path: Path, line: int) -> None:
        if not isinstance(mapping, Object):
            self.fault("structure", path, line, "A mapping has two levels of keys, then values.")
            return
        if (name := function_of(mapping)) is not None:
            self.fault("unsupported", (*path, name), line, f"{name} is not supported inside Mappings.")
            return
        for key, row in mapping.items():
            if not isinstance(row, Object):
                self.fault("structure", (*path, key), mapping.lines[key], "A mapping has two levels of keys.")
                continue
            for inner, value in row.items():
                items = value if isinstance(value, Array) else (value,)
                if any(item is None or isinstance(item, dict | list) for item in items):
                    message = "A mapping's value is a text, a number, true or false, or a list of those."
                    self.fault("structure", (*path, key, inner), row.lines[inner], message)

    def _resources(self) -> None:
        if not isinstance(self.document.get("Resources"), Object) or not self.document["Resources"]:
            line = self.document.lines.get("Resources")
            self.fault(
                "structure", ("Resources",), line, "A template needs Resources: a map with at least one."
            )
            return
        self._each_object("Resources", self._resource)

    def _resource(self, resource: Any, path: Path, line: int) -> None:
        name = str(path[-1])
        if not _LOGICAL_ID.match(name):
            self.fault("structure", path, line, "A logical id is made of 1 to 255 letters and digits.")
        if not isinstance(resource, Object):
            self.fault("structure", path, line, "A resource is a map with Type and Properties.")
            return
        for key, at in resource.lines.items():
            if key not in ATTRIBUTES:
                hint = did_you_mean(key, ATTRIBUTES)
                self.fault("structure", (*path, key), at, f"A resource has no attribute '{key[:80]}'{hint}")
        self._type(resource, path, line)
        self._policies(resource, path)
        self._depends_on(resource, path)
        self._condition_name(resource, path)
        self._waiting_policies(resource, path)
        if "Properties" in resource:
            at = resource.lines["Properties"]
            if not isinstance(resource["Properties"], Object):
                self.fault("structure", (*path, "Properties"), at, "Properties must be a map.")
            else:
                self.calls.value(resource["Properties"], (*path, "Properties"), at)

    def _type(self, resource: Object, path: Path, line: int) -> None:
        kind = resource.get("Type")
        at = resource.lines.get("Type", line)
        if isinstance(kind, str) and kind.startswith("Custom::"):
            message = f"{kind[:80]}: custom resources are not supported."
            self.fault("unsupported", (*path, "Type"), at, message)
        elif not isinstance(kind, str) or not _TYPE.match(kind):
            self.fault(
                "structure", (*path, "Type"), at, "A resource needs a Type such as AWS::EC2::Instance."
            )
        elif kind.startswith("AWS::CloudFormation::"):
            message = (
                f"{kind} is not supported: it is a part of CloudFormation itself, not a resource of AWS."
            )
            self.fault("unsupported", (*path, "Type"), at, message)
        elif kind.startswith("AWS::Serverless::"):
            message = f"{kind} needs the SAM transform; give the template that `sam` produces."
            self.fault("unsupported", (*path, "Type"), at, message)
        elif kind.endswith("::MODULE"):
            self.fault("unsupported", (*path, "Type"), at, f"{kind}: modules are not supported.")

    def _policies(self, resource: Object, path: Path) -> None:
        for key, allowed in (
            ("DeletionPolicy", DELETION_POLICIES),
            ("UpdateReplacePolicy", REPLACE_POLICIES),
        ):
            if key not in resource:
                continue
            value, line = resource[key], resource.lines[key]
            if value not in allowed:
                self.fault(
                    "structure", (*path, key), line, f"{key} is one of {', '.join(allowed)}, as plain text."
                )
            elif value == "Snapshot" and resource.get("Type") not in SNAPSHOT_TYPES:
                message = f"{resource.get('Type')} has no snapshots; {key} can be Delete or Retain."
                self.fault("snapshot_unsupported", (*path, key), line, message)

    def _depends_on(self, resource: Object, path: Path) -> None:
        if "DependsOn" not in resource:
            return
        value, line = resource["DependsOn"], resource.lines["DependsOn"]
        names = value if isinstance(value, Array) else [value]
        for index, name in enumerate(names):
            at = value.lines[index] if isinstance(value, Array) else line
            where = (*path, "DependsOn", index) if isinstance(value, Array) else (*path, "DependsOn")
            if not isinstance(name, str):
                self.fault("structure", where, at, "DependsOn takes logical ids as plain text.")
            elif name == path[-1]:
                self.fault("structure", where, at, "A resource cannot depend on itself.")
            elif name not in self.calls.resources:
                self.calls.no_such("resource", name, self.calls.resources, where, at)

    def _condition_name(self, holder: Object, path: Path) -> None:
        if "Condition" not in holder:
            return
        name, where, line = holder["Condition"], (*path, "Condition"), holder.lines["Condition"]
        if not isinstance(name, str):
            self.fault("structure", where, line, "Condition takes the name of a condition.")
        elif name not in self.calls.conditions:
            self.calls.no_such("condition", name, self.calls.conditions, where, line)

    def _waiting_policies(self, resource: Object, path: Path) -> None:
        """CreationPolicy and UpdatePolicy ask CloudFormation to wait or to roll; harmless only if all off."""
        for key in ("CreationPolicy", "UpdatePolicy"):
            if key in resource and not _asks_nothing(resource[key]):
                message = f"{key} is not supported: signals and rolling updates are CloudFormation's own."
                self.fault("unsupported", (*path, key), resource.lines[key], message)

    def _output(self, output: Any, path: Path, line: int) -> None:
        if not isinstance(output, Object) or "Value" not in output:
            self.fault("structure", path, line, "An output is a map with a Value.")
            return
        for key, at in output.lines.items():
            if key not in OUTPUT_ATTRIBUTES:
                hint = did_you_mean(key, OUTPUT_ATTRIBUTES)
                self.fault("structure", (*path, key), at, f"An output has no '{key[:80]}'{hint}")
        if not isinstance(output.get("Description", ""), str):
            self.fault(
                "structure", (*path, "Description"), output.lines["Description"], "Description must be text."
            )
        self._condition_name(output, path)
        self.calls.value(output["Value"], (*path, "Value"), output.lines["Value"])
        if "Export" in output:
            self._export(output["Export"], (*path, "Export"), output.lines["Export"])

    def _export(self, export: Any, path: Path, line: int) -> None:
        if not isinstance(export, Object) or set(export) != {"Name"}:
            self.fault("structure", path, line, "Export is a map with one Name.")
        else:
            self.calls.value(export["Name"], (*path, "Name"), export.lines["Name"], resources=False)

    def _dynamic_references(self) -> None:
        """`{{resolve:…}}` anywhere outside Metadata."""
        for section in ("Parameters", "Mappings", "Conditions", "Resources", "Outputs"):
            if section in self.document:
                self._texts(self.document[section], (section,), self.document.lines[section])

    def _texts(self, node: Any, path: Path, line: int) -> None:
        if isinstance(node, str):
            if "{{resolve:" in node:
                message = "Dynamic references ({{resolve:…}}) are not supported; use a NoEcho parameter."
                self.fault("unsupported", path, line, message)
        elif isinstance(node, Object):
            for key, value in node.items():
                if key != "Metadata" or len(path) != 2:
                    self._texts(value, (*path, key), node.lines[key])
        elif isinstance(node, Array):
            for index, value in enumerate(node):
                self._texts(value, (*path, index), node.lines[index])
        elif node is None and path[0] != "Mappings" and path[-1] != "Fn::GetAZs":
            self.fault(
                "null", path, line, "A null value is not allowed; leave the key out, or use AWS::NoValue."
            )


def _asks_nothing(node: Any) -> bool:
    """Whether every switch in a policy is off."""
    if isinstance(node, dict):
        return all(map(_asks_nothing, node.values()))
    return node is False or node == "false"
