"""Template parameters: what a template declares, what a caller gives, and whether the two fit.

A NoEcho value becomes `Secret` as soon as it is read, and no fault ever quotes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs

from fairlead.changes.intrinsics import Secret, Written, cast, text_of
from fairlead.changes.model import Fault
from fairlead.changes.template.calls import did_you_mean
from fairlead.changes.template.document import Array, Object
from fairlead.changes.template.reading import read

MAX_BYTES: Final = 4 * 1024 * 1024  # of a parameters file
# The id types that AWS checks; the start of each id. None: any text that is not empty.
_ID_STARTS: Final[dict[str, str | None]] = {
    "AWS::EC2::AvailabilityZone::Name": None,
    "AWS::EC2::Image::Id": "ami-",
    "AWS::EC2::Instance::Id": "i-",
    "AWS::EC2::KeyPair::KeyName": None,
    "AWS::EC2::SecurityGroup::GroupName": None,
    "AWS::EC2::SecurityGroup::Id": "sg-",
    "AWS::EC2::Subnet::Id": "subnet-",
    "AWS::EC2::VPC::Id": "vpc-",
    "AWS::EC2::Volume::Id": "vol-",
    "AWS::Route53::HostedZone::Id": None,
    "AWS::SSM::Parameter::Name": None,
}
_KEYS: Final = (
    "Type",
    "Default",
    "Description",
    "NoEcho",
    "AllowedValues",
    "AllowedPattern",
    "ConstraintDescription",
    "MinLength",
    "MaxLength",
    "MinValue",
    "MaxValue",
)
_LIMITS: Final = ("MinLength", "MaxLength", "MinValue", "MaxValue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One declared parameter. `item` is the type of one value; `many` tells a list of them."""

    name: str
    item: str
    many: bool
    default: Any  # as written; None where there is none
    no_echo: bool
    allowed: tuple[str, ...] | None
    pattern: str | None
    limits: Mapping[str, float]
    explanation: str | None  # the template's ConstraintDescription
    line: int | None

    def fault(self, code: str, message: str) -> Fault:
        """A fault of this parameter."""
        return Fault(path=f"Parameters.{self.name}", line=self.line, code=f"template.{code}", message=message)


def declared(section: Any, faults: list[Fault]) -> dict[str, Parameter]:
    """The parameters of a template's `Parameters`; those with a fault are left out."""
    found: dict[str, Parameter] = {}
    if isinstance(section, Object):
        for name, node in section.items():
            line = section.lines[name]
            problems = _declaration_problems(name, node)
            for message in problems:
                path = f"Parameters.{name}"
                faults.append(
                    Fault(path=path, line=line, code="template.parameter_declaration", message=message)
                )
            if not problems:
                found[name] = _parameter(name, node, line)
    return found


def _declaration_problems(name: str, node: Any) -> list[str]:
    if not (name.isascii() and name.isalnum()):
        return ["A parameter's name is made of letters and digits."]
    if not isinstance(node, Object) or not isinstance(node.get("Type"), str):
        return ["A parameter is a map with a Type."]
    kind = node["Type"]
    problems = [
        f"A parameter has no '{key[:80]}'{did_you_mean(key, _KEYS)}" for key in node if key not in _KEYS
    ]
    if kind.startswith("AWS::SSM::Parameter::Value<"):
        problems.append(f"Parameters of type {kind[:80]} are not supported; give the value itself.")
    elif _item_of(kind)[0] is None:
        problems.append(
            f"There is no parameter type '{kind[:80]}'{did_you_mean(kind, ('String', 'Number', *_ID_STARTS))}"
        )
    if "AllowedValues" in node and not _is_scalars(node["AllowedValues"]):
        problems.append("AllowedValues is a list of texts and numbers.")
    if not isinstance(node.get("NoEcho", False), bool) and node["NoEcho"] not in ("true", "false"):
        problems.append("NoEcho is true or false.")
    if isinstance(node.get("Default", ""), dict | list) or node.get("Default", "") is None:
        problems.append("Default is a text or a number; the items of a list are separated by commas.")
    problems += [f"{key} is a number." for key in _LIMITS if key in node and _finite(node[key]) is None]
    problems += _pattern_problems(node)
    return problems


def _is_scalars(value: Any) -> bool:
    return isinstance(value, Array) and not any(
        item is None or isinstance(item, dict | list) for item in value
    )


def _pattern_problems(node: Object) -> list[str]:
    pattern = node.get("AllowedPattern", "")
    if not isinstance(pattern, str):
        return ["AllowedPattern is a regular expression, as text."]
    try:
        _matcher(pattern)
    except ValueError:
        return [f"AllowedPattern {pattern[:60]!r} is not a regular expression that can be used."]
    return []


def _finite(value: Any) -> float | None:
    number = cast("number", value)
    return None if isinstance(number, bool) or not isinstance(number, int | float) else float(number)


def _item_of(kind: str) -> tuple[str | None, bool]:
    """The type of one value (None if there is no such type) and whether it is a list."""
    if kind == "CommaDelimitedList":
        return "String", True
    many = kind.startswith("List<") and kind.endswith(">")
    item = kind[5:-1] if many else kind
    known = item in ("String", "Number") or item in _ID_STARTS
    return (item if known else None), many


def _parameter(name: str, node: Object, line: int) -> Parameter:
    item, many = _item_of(node["Type"])
    explanation = node.get("ConstraintDescription")
    return Parameter(
        name=name,
        item=item or "String",
        many=many,
        default=node.get("Default"),
        no_echo=node.get("NoEcho", False) in (True, "true"),
        allowed=tuple(map(text_of, node["AllowedValues"])) if "AllowedValues" in node else None,
        pattern=node.get("AllowedPattern"),
        limits={key: limit for key in _LIMITS if (limit := _finite(node.get(key))) is not None},
        explanation=explanation if isinstance(explanation, str) else None,
        line=line,
    )


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> jsonschema_rs.Validator:
    """Matches whole texts. Rust's engine with a limit on backtracking: no pattern can hang it."""
    if len(pattern) > 4096:
        raise ValueError("longer than any pattern needs to be")
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)
    try:
        schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
        return jsonschema_rs.Draft7Validator(schema, pattern_options=options)
    except ValueError:
        # Java, which AWS matches with, takes the hyphen of `[\w-.]` for itself; this engine sees a range.
        schema["pattern"] = _CLASS.sub(lambda found: _HYPHEN.sub(r"\1\-", found[0]), schema["pattern"])
        return jsonschema_rs.Draft7Validator(schema, pattern_options=options)


_CLASS: Final = re.compile(r"\[(?:[^\]\\]|\\.)*+\]")
_HYPHEN: Final = re.compile(r"(\\[dDsSwW])-(?=[^\]])")


def check_names(names: Collection[str], values: Iterable[str], faults: list[Fault]) -> None:
    """Add a fault for each value that no declared name takes."""
    for name in values:
        if name not in names:
            message = f"The template has no parameter '{name[:80]}'{did_you_mean(name, names) or '.'}"
            path = f"Parameters.{name}"
            faults.append(Fault(path=path, line=None, code="template.unknown_parameter", message=message))


def given(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any], faults: list[Fault]
) -> dict[str, Any]:
    """What `Ref` of each parameter gives: a text, or a list of texts; faulty ones are left out."""
    bound: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value = values.get(name, parameter.default)
        if value is None:
            message = f"The parameter '{name}' has no default: give it a value."
            faults.append(parameter.fault("parameter_missing", message))
            continue
        texts = _texts(parameter, value)
        problem = (
            "it must be a text, a number or a list of those" if texts is None else _problem(parameter, texts)
        )
        if problem or texts is None:
            ending = f" ({parameter.explanation})" if parameter.explanation and not parameter.no_echo else ""
            faults.append(parameter.fault("parameter_value", f"Parameter '{name}': {problem}.{ending}"))
            continue
        shown: list[str] = [Secret(text) for text in texts] if parameter.no_echo else texts
        bound[name] = shown if parameter.many else shown[0]
    return bound


def _texts(parameter: Parameter, value: Any) -> list[str] | None:
    """The value's texts, one unless it is a list; None where it is no text at all."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, list | tuple) and not parameter.many:
        return None
    if any(
        not isinstance(item, str | int | float) or item in (math.inf, -math.inf) or item != item
        for item in items
    ):
        return None
    texts = [text_of(item) for item in items]
    if parameter.many and isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    return texts


def _problem(parameter: Parameter, texts: list[str]) -> str | None:
    """What is wrong with the value; it is quoted unless it is a secret."""
    for text in texts:
        wrong = _wrong(parameter, text)
        if wrong:
            return f"the value {'' if parameter.no_echo else repr(text[:60]) + ' '}{wrong}"
    return None


def _wrong(parameter: Parameter, text: str) -> str | None:
    if "{{resolve:" in text:
        return "is a dynamic reference, which is not supported"
    if parameter.allowed is not None and text not in parameter.allowed:
        return "is not one of the allowed ones" + _listed(parameter)
    if parameter.pattern is not None and not _matcher(parameter.pattern).is_valid(text):
        return f"does not match the pattern {parameter.pattern[:80]}"
    if parameter.item == "Number":
        return _wrong_number(parameter.limits, text)
    start = _ID_STARTS.get(parameter.item, "")
    if start is None and not text:
        return f"is empty, and no {parameter.item}"
    if start and not (text.startswith(start) and text.removeprefix(start).isalnum()):
        return f"is no {parameter.item}: those begin with '{start}'"
    return _wrong_length(parameter.limits, text)


def _listed(parameter: Parameter) -> str:
    allowed = parameter.allowed or ()
    return "" if parameter.no_echo or len(allowed) > 20 else f": {', '.join(allowed)}"


def _wrong_number(limits: Mapping[str, float], text: str) -> str | None:
    number = _finite(text.strip())
    if number is None:
        return "is not a number"
    if number < limits.get("MinValue", number):
        return f"is below {limits['MinValue']:g}"
    if number > limits.get("MaxValue", number):
        return f"is above {limits['MaxValue']:g}"
    return None


def _wrong_length(limits: Mapping[str, float], text: str) -> str | None:
    if len(text) < limits.get("MinLength", 0):
        return f"is shorter than {limits['MinLength']:g} characters"
    if len(text) > limits.get("MaxLength", len(text)):
        return f"is longer than {limits['MaxLength']:g} characters"
    return None


def parse(data: bytes, faults: list[Fault]) -> dict[str, Any]:
    """Values of a parameters file, JSON or YAML, in any of three forms.

    `{Name: value}`; CloudFormation's `[{"ParameterKey": …, "ParameterValue": …}]`; and
    CodePipeline's `{"Parameters": {Name: value}}`, whose Tags and StackPolicy are left alone.
    """
    tree = read(data, max_bytes=MAX_BYTES, faults=faults)
    if isinstance(tree, Array):
        return _from_list(tree, faults)
    if isinstance(tree, Object):
        if isinstance(tree.get("Parameters"), Object) and set(tree) <= {"Parameters", "Tags", "StackPolicy"}:
            tree = tree["Parameters"]
        return {name: _plain(value) for name, value in tree.items()}
    if tree is not None or not faults:
        _file_fault(
            faults, 1, "A parameters file is a map of names to values, or a list of ParameterKey entries."
        )
    return {}


def _from_list(tree: Array, faults: list[Fault]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for index, entry in enumerate(tree):
        line = tree.lines[index]
        if not isinstance(entry, Object) or not isinstance(entry.get("ParameterKey"), str):
            _file_fault(faults, line, "Each entry of the list has a ParameterKey and a ParameterValue.")
        elif "ParameterValue" not in entry:
            _file_fault(faults, line, f"'{entry['ParameterKey'][:80]}' has no ParameterValue.")
        elif entry["ParameterKey"] in values:
            _file_fault(faults, line, f"'{entry['ParameterKey'][:80]}' is given twice.")
        else:
            values[entry["ParameterKey"]] = _plain(entry["ParameterValue"])
    return values


def _file_fault(faults: list[Fault], line: int, message: str) -> None:
    faults.append(Fault(path="", line=line, code="template.parameters_file", message=message))


def _plain(value: Any) -> Any:
    """Without line numbers; numbers as they were written."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return dict(value)
    return value.text if isinstance(value, Written) else value
