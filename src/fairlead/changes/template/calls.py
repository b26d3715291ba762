"""Functions of a template: how each is written, and whether what it names exists.

Looks at every branch, those that no condition takes included.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairlead.changes.intrinsics import sub_parts
from fairlead.changes.model import Fault
from fairlead.changes.template.document import Array, Object, Path, dotted

MAX_HINTS = 20  # faults of one file that come with a guess at what was meant
PSEUDO = (
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
)
CONDITION_FUNCTIONS = ("Fn::And", "Fn::Or", "Fn::Not", "Fn::Equals", "Condition")


def function_of(node: Any) -> str | None:
    """Name of the function that `node` calls (`Ref`, `Fn::Sub`, …), or None for plain data."""
    if isinstance(node, dict):
        return next((key for key in node if key == "Ref" or key.startswith("Fn::")), None)
    return None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'X'?` or nothing: the end of a message."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name[:100].lower(), lower, n=1, cutoff=0.7)
    return f"; did you mean '{lower[close[0]]}'?" if close else ""


class Calls:
    """The function calls of one document; holds the names that it defines and the faults found.

    `bad` holds the ids of the calls that have a fault, so that binding leaves them alone.
    """

    def __init__(self, document: Object, faults: list[Fault]) -> None:
        self.document = document
        self.faults = faults
        self.bad: set[int] = set()
        self.condition_order: list[str] = []  # what a condition uses comes before it
        self.parameters = self._names("Parameters")
        self.mappings = self._names("Mappings")
        self.conditions = self._names("Conditions")
        self.resources = self._names("Resources")

    def _names(self, section: str) -> frozenset[str]:
        found = self.document.get(section)
        return frozenset(found) if isinstance(found, Object) else frozenset()

    def fault(self, code: str, path: Path, line: int | None, message: str) -> None:
        """Add one fault."""
        self.faults.append(Fault(path=dotted(path), line=line, code=f"template.{code}", message=message))

    def no_such(self, what: str, name: str, names: Iterable[str], path: Path, line: int | None) -> None:
        """Add the fault of a name that nothing has."""
        hint = self._hint(name, names)
        self.fault(f"unknown_{what}", path, line, f"There is no {what} '{name[:100]}'{hint or '.'}")

    def _hint(self, name: str, names: Iterable[str]) -> str:
        # Guessing compares with every name: for a file with thousands of faults that would take minutes.
        return did_you_mean(name, names) if len(self.faults) < MAX_HINTS else ""

    # -------------------------------------------------------------------------- functions

    def value(self, node: Any, path: Path, line: int, *, resources: bool = True) -> None:
        """Check a value; `resources` tells whether it may depend on resources."""
        if isinstance(node, Array):
            for index, item in enumerate(node):
                if not isinstance(item, str):
                    self.value(item, (*path, index), node.lines[index], resources=resources)
        elif isinstance(node, Object):
            name = function_of(node)
            if name is not None:
                self._call(name, node, path, line, resources)
                return
            for key, item in node.items():
                if not isinstance(item, str):
                    self.value(item, (*path, key), node.lines[key], resources=resources)

    def _call(self, name: str, node: Object, path: Path, line: int, resources: bool) -> None:
        before, where = len(self.faults), (*path, name)
        at = node.lines[name]
        check = _FUNCTIONS.get(name)
        if len(node) > 1:
            self.fault("function", path, line, f"{name} must stand alone in its map.")
        elif name in CONDITION_FUNCTIONS:
            self.fault("function", where, at, f"{name} is allowed in Conditions only; use Fn::If here.")
        elif check is None:
            self._unknown_function(name, where, at)
        else:
            check(self, node[name], where, at, resources)
        if len(self.faults) > before:
            self.bad.add(id(node))

    def _unknown_function(self, name: str, path: Path, line: int) -> None:
        if is_unsupported(name):
            self.unsupported(name, path, line)
        else:
            hint = did_you_mean(name, _FUNCTIONS)
            self.fault("function", path, line, f"There is no function {name[:80]}{hint or '.'}")

    def unsupported(self, name: str, path: Path, line: int) -> None:
        """Add the fault of a function that Fairlead does not do, wherever it stands."""
        self.fault("unsupported", path, line, f"{name[:80]} is not supported.")

    def _target(self, name: str, path: Path, line: int, resources: bool) -> None:
        """A name that Ref or a `${Name}` may mean."""
        if name in PSEUDO or name in self.parameters:
            return
        if name in self.resources:
            if not resources:
                self.fault("function", path, line, f"'{name}' is a resource: its value is not known here.")
            return
        hint = self._hint(name, (*self.parameters, *self.resources, *PSEUDO))
        message = f"'{name[:100]}' is neither a parameter nor a resource{hint or '.'}"
        self.fault("unknown_reference", path, line, message)

    def _ref(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not isinstance(argument, str):
            self.fault("function", path, line, "Ref takes a name.")
        else:
            self._target(argument, path, line, resources)

    def _get_att(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        parts = argument.split(".", 1) if isinstance(argument, str) else argument
        is_pair = isinstance(parts, list) and len(parts) >= 2
        if not is_pair or not isinstance(parts[0], str) or not parts[0] or "" in parts:
            self.fault(
                "function", path, line, "Fn::GetAtt takes a logical id and an attribute: 'Id.Attribute'."
            )
            return
        self._resource_name(parts[0], path, line, resources)
        for index, part in enumerate(parts[1:], 1):
            if not isinstance(part, str):
                self.value(part, (*path, index), line, resources=False)
                if function_of(part) is None:
                    self.fault("function", path, line, "The attribute of Fn::GetAtt is a text.")

    def _resource_name(self, name: str, path: Path, line: int, resources: bool) -> None:
        if name not in self.resources:
            self.no_such("resource", name, self.resources, path, line)
        elif not resources:
            self.fault("function", path, line, f"'{name}' is a resource: its attributes are not known here.")

    def _sub(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        text, variables = argument, {}
        if isinstance(argument, Array) and len(argument) == 2:
            text, variables = argument
        if not isinstance(text, str) or not isinstance(variables, dict) or function_of(variables):
            self.fault("function", path, line, "Fn::Sub takes a text, or a text and a map of variables.")
            return
        self.value(variables, (*path, 1), line, resources=resources)
        for is_name, name in sub_parts(text):
            if not is_name or name in variables:
                continue
            if "." in name:
                head, _, attribute = name.partition(".")
                self._get_att(f"{head}.{attribute}", path, line, resources)
            else:
                self._target(name, path, line, resources)

    def _arguments(self, name: str, argument: Any, path: Path, line: int, counts: tuple[int, ...]) -> bool:
        if isinstance(argument, Array) and len(argument) in counts:
            return True
        wanted = " or ".join(map(str, counts))
        self.fault("function", path, line, f"{name} takes a list of {wanted} arguments.")
        return False

    def _join(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not self._arguments("Fn::Join", argument, path, line, (2,)):
            return
        if not isinstance(argument[0], str):
            self.fault("function", path, line, "The separator of Fn::Join is a text.")
        self._list_of("Fn::Join", argument[1], (*path, 1), argument.lines[1], resources)

    def _list_of(self, name: str, node: Any, path: Path, line: int, resources: bool) -> None:
        """A list, or a function that gives one."""
        if not isinstance(node, Array) and function_of(node) is None:
            self.fault("function", path, line, f"{name} needs a list here.")
        self.value(node, path, line, resources=resources)

    def _select(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not self._arguments("Fn::Select", argument, path, line, (2,)):
            return
        self._number("Fn::Select", argument, 0, path)
        self._list_of("Fn::Select", argument[1], (*path, 1), argument.lines[1], resources)

    def _number(self, name: str, arguments: Array, index: int, path: Path) -> None:
        """A number from 0, as a number or a text, or a function that gives one."""
        node, line = arguments[index], arguments.lines[index]
        is_number = isinstance(node, int) and not isinstance(node, bool) and node >= 0
        is_text = isinstance(node, str) and node.strip().isdecimal()
        if not is_number and not is_text and function_of(node) is None:
            self.fault("function", (*path, index), line, f"{name} needs a number from 0 here.")
        self.value(node, (*path, index), line, resources=False)

    def _split(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not self._arguments("Fn::Split", argument, path, line, (2,)):
            return
        if not isinstance(argument[0], str) or not argument[0]:
            self.fault("function", path, line, "The separator of Fn::Split is a text that is not empty.")
        self._text("Fn::Split", argument[1], (*path, 1), argument.lines[1], resources)

    def _text(self, name: str, node: Any, path: Path, line: int, resources: bool) -> None:
        """A scalar, or a function that gives one."""
        if node is None or isinstance(node, list) or (isinstance(node, dict) and function_of(node) is None):
            self.fault("function", path, line, f"{name} needs a text here.")
        self.value(node, path, line, resources=resources)

    def _if(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not self._arguments("Fn::If", argument, path, line, (3,)):
            return
        name = argument[0]
        if not isinstance(name, str):
            self.fault("function", path, line, "The first argument of Fn::If is the name of a condition.")
        elif name not in self.conditions:
            self.no_such("condition", name, self.conditions, (*path, 0), argument.lines[0])
        for index in (1, 2):
            self.value(argument[index], (*path, index), argument.lines[index], resources=resources)

    def _find_in_map(self, argument: Any, path: Path, line: int, _: bool) -> None:
        if isinstance(argument, Array) and len(argument) == 4:
            message = "A default for Fn::FindInMap needs the language extensions, which are not supported."
            self.fault("unsupported", path, line, message)
            return
        if not self._arguments("Fn::FindInMap", argument, path, line, (3,)):
            return
        name = argument[0]
        if isinstance(name, str) and name not in self.mappings:
            self.no_such("mapping", name, self.mappings, (*path, 0), argument.lines[0])
        for index, part in enumerate(argument):
            self._text("Fn::FindInMap", part, (*path, index), argument.lines[index], resources=False)

    def _import_value(self, argument: Any, path: Path, line: int, _: bool) -> None:
        self._text("Fn::ImportValue", argument, path, line, resources=False)

    def _get_azs(self, argument: Any, path: Path, line: int, _: bool) -> None:
        if argument is not None:  # nothing means this region, as "" does
            self._text("Fn::GetAZs", argument, path, line, resources=False)

    def _base64(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        self._text("Fn::Base64", argument, path, line, resources)

    def _cidr(self, argument: Any, path: Path, line: int, resources: bool) -> None:
        if not self._arguments("Fn::Cidr", argument, path, line, (3,)):
            return
        self._text("Fn::Cidr", argument[0], (*path, 0), argument.lines[0], resources)
        self._number("Fn::Cidr", argument, 1, path)
        self._number("Fn::Cidr", argument, 2, path)

    # -------------------------------------------------------------------------- conditions

    def check_conditions(self) -> None:
        """Look at the Conditions section, cycles included."""
        conditions = self.document.get("Conditions")
        if not isinstance(conditions, Object):
            return
        uses: dict[str, set[str]] = {}
        for name, node in conditions.items():
            if is_unsupported(name):
                self.unsupported(name, ("Conditions", name), conditions.lines[name])
                continue
            uses[name] = set()
            self._boolean(node, ("Conditions", name), conditions.lines[name], uses[name])
        self.condition_order, waiting = _in_order(uses)
        for name in waiting:
            self.bad.add(id(conditions[name]))
        if waiting:
            cycle = _cycle(waiting)
            message = f"Conditions depend on each other: {' → '.join(cycle[:20])}."
            line = conditions.lines[cycle[0]]
            self.fault("condition_cycle", ("Conditions", cycle[0]), line, message)

    def _boolean(self, node: Any, path: Path, line: int, uses: set[str]) -> None:
        before = len(self.faults)
        name = next(iter(node), None) if isinstance(node, Object) and len(node) == 1 else None
        if name not in CONDITION_FUNCTIONS:
            wanted = ", ".join(CONDITION_FUNCTIONS)
            self.fault("condition", path, line, f"A condition is one of {wanted}.")
        else:
            self._boolean_call(str(name), node[name], (*path, str(name)), node.lines[name], uses)
        if len(self.faults) > before:
            self.bad.add(id(node))

    def _boolean_call(self, name: str, argument: Any, path: Path, line: int, uses: set[str]) -> None:
        if name == "Condition":
            if not isinstance(argument, str) or argument not in self.conditions:
                self.no_such("condition", str(argument), self.conditions, path, line)
            else:
                uses.add(argument)
            return
        counts = {"Fn::Equals": (2,), "Fn::Not": (1,)}.get(name, tuple(range(2, 11)))
        if not isinstance(argument, Array) or len(argument) not in counts:
            wanted = str(counts[0]) if len(counts) == 1 else "2 to 10"
            self.fault("condition", path, line, f"{name} takes a list of {wanted} items.")
            return
        for index, item in enumerate(argument):
            if name == "Fn::Equals":
                self.value(item, (*path, index), argument.lines[index], resources=False)
            else:
                self._boolean(item, (*path, index), argument.lines[index], uses)


UNSUPPORTED_FUNCTIONS = (
    "Fn::Contains",
    "Fn::EachMemberEquals",
    "Fn::EachMemberIn",
    "Fn::ForEach",
    "Fn::GetStackOutput",
    "Fn::Length",
    "Fn::RefAll",
    "Fn::ToJsonString",
    "Fn::Transform",
    "Fn::ValueOf",
    "Fn::ValueOfAll",
)


def is_unsupported(name: str) -> bool:
    """Whether this is a function of CloudFormation that Fairlead does not do: `Fn::ForEach::Name` too."""
    return name in UNSUPPORTED_FUNCTIONS or name.startswith("Fn::ForEach")


_Check = Callable[[Calls, Any, Path, int, bool], None]
_FUNCTIONS: dict[str, _Check] = {
    "Ref": Calls._ref,
    "Fn::Sub": Calls._sub,
    "Fn::GetAtt": Calls._get_att,
    "Fn::Join": Calls._join,
    "Fn::If": Calls._if,
    "Fn::ImportValue": Calls._import_value,
    "Fn::Select": Calls._select,
    "Fn::FindInMap": Calls._find_in_map,
    "Fn::GetAZs": Calls._get_azs,
    "Fn::Base64": Calls._base64,
    "Fn::Split": Calls._split,
    "Fn::Cidr": Calls._cidr,
}


def _in_order(uses: Mapping[str, set[str]]) -> tuple[list[str], dict[str, set[str]]]:
    """Names with what they use before them; and those on or behind a cycle, with what they still wait for."""
    waiting = {name: set(used) for name, used in uses.items()}
    users: dict[str, list[str]] = {}
    for name, used in uses.items():
        for other in used:
            users.setdefault(other, []).append(name)
    order = [name for name, used in waiting.items() if not used]
    for name in order:
        for user in users.get(name, ()):
            waiting[user].discard(name)
            if not waiting[user]:
                order.append(user)
    return order, {name: used for name, used in waiting.items() if used}


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """One cycle among names that all wait for another of them."""
    name = min(waiting)
    seen: dict[str, int] = {}
    while name not in seen:
        seen[name] = len(seen)
        name = min(waiting[name])
    return [*list(seen)[seen[name] :], name]
