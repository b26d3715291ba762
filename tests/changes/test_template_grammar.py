"""What a template may not say: every fault names the construct and its line."""

import re
import time
from pathlib import Path

import pytest

from fairlead.changes.validation import validate_file
from tests.changes.template_text import bound, faults, topic

ON_T = "Resources.T.Properties.DisplayName"
CALLS = [
    pytest.param("!Ref Nothing", "unknown_reference", f"{ON_T}.Ref", id="Ref of nothing"),
    pytest.param("!Ref [T]", "function", f"{ON_T}.Ref", id="Ref of a list"),
    pytest.param("!Ref AWS::Reqion", "unknown_reference", f"{ON_T}.Ref", id="misspelt pseudo parameter"),
    pytest.param("!GetAtt Nothing.Arn", "unknown_resource", f"{ON_T}.Fn::GetAtt", id="GetAtt of nothing"),
    pytest.param("!GetAtt T", "function", f"{ON_T}.Fn::GetAtt", id="GetAtt without an attribute"),
    pytest.param("!GetAtt [T, {a: b}]", "function", f"{ON_T}.Fn::GetAtt", id="GetAtt of a map"),
    pytest.param("!Sub '${Nothing}'", "unknown_reference", f"{ON_T}.Fn::Sub", id="Sub of nothing"),
    pytest.param(
        "!Sub '${Nothing.Arn}'", "unknown_resource", f"{ON_T}.Fn::Sub", id="Sub of nothing's attribute"
    ),
    pytest.param("!Sub '${T.}'", "function", f"{ON_T}.Fn::Sub", id="Sub of an empty attribute"),
    pytest.param("!Sub '${}'", "unknown_reference", f"{ON_T}.Fn::Sub", id="Sub of no name"),
    pytest.param("!Sub ['${A}', [A]]", "function", f"{ON_T}.Fn::Sub", id="Sub with a list"),
    pytest.param("!Sub ['a', {}, {}]", "function", f"{ON_T}.Fn::Sub", id="Sub with three arguments"),
    pytest.param("!Join [a]", "function", f"{ON_T}.Fn::Join", id="Join with one argument"),
    pytest.param("!Join ['-', text]", "function", f"{ON_T}.Fn::Join.1", id="Join of a text"),
    pytest.param("!Join ['-', [[a]]]", "function", f"{ON_T}.Fn::Join", id="Join of lists"),
    pytest.param("!Select [x, [a]]", "function", f"{ON_T}.Fn::Select.0", id="Select by a word"),
    pytest.param("!Select [1, [a]]", "function", f"{ON_T}.Fn::Select", id="Select out of range"),
    pytest.param("!Select [-1, [a]]", "function", f"{ON_T}.Fn::Select.0", id="Select below zero"),
    pytest.param("!Select [!Ref T, [a]]", "function", f"{ON_T}.Fn::Select.0.Ref", id="Select by a resource"),
    pytest.param("!Split ['', a]", "function", f"{ON_T}.Fn::Split", id="Split by nothing"),
    pytest.param("!Split [a, [b]]", "function", f"{ON_T}.Fn::Split.1", id="Split of a list"),
    pytest.param("!If [Nothing, a, b]", "unknown_condition", f"{ON_T}.Fn::If.0", id="If of no condition"),
    pytest.param("!If [a, b]", "function", f"{ON_T}.Fn::If", id="If with two arguments"),
    pytest.param(
        "!FindInMap [M, a, b]", "unknown_mapping", f"{ON_T}.Fn::FindInMap.0", id="FindInMap of no map"
    ),
    pytest.param("!FindInMap [M]", "function", f"{ON_T}.Fn::FindInMap", id="FindInMap with one argument"),
    pytest.param(
        "!FindInMap [M, a, b, {DefaultValue: c}]",
        "unsupported",
        f"{ON_T}.Fn::FindInMap",
        id="FindInMap default",
    ),
    pytest.param("!GetAZs [a]", "function", f"{ON_T}.Fn::GetAZs", id="GetAZs of a list"),
    pytest.param(
        "!ImportValue nothing", "import_missing", f"{ON_T}.Fn::ImportValue", id="ImportValue of nothing"
    ),
    pytest.param(
        "!ImportValue {Ref: T}", "function", f"{ON_T}.Fn::ImportValue.Ref", id="ImportValue by a resource"
    ),
    pytest.param("!Base64 [a]", "function", f"{ON_T}.Fn::Base64", id="Base64 of a list"),
    pytest.param("!Cidr [10.0.0.0/16, 2]", "function", f"{ON_T}.Fn::Cidr", id="Cidr without bits"),
    pytest.param("!Cidr [10.0.0.0/16, 300, 8]", "function", f"{ON_T}.Fn::Cidr", id="Cidr of too many"),
    pytest.param("!Cidr [10.0.0.1/16, 2, 8]", "function", f"{ON_T}.Fn::Cidr", id="Cidr with host bits"),
    pytest.param("!Cidr [10.0.0.0/30, 2, 8]", "function", f"{ON_T}.Fn::Cidr", id="Cidr that does not fit"),
    pytest.param("!Equals [a, b]", "function", f"{ON_T}.Fn::Equals", id="a condition function in a property"),
    pytest.param("{Ref: T, Also: x}", "function", ON_T, id="a function that does not stand alone"),
    pytest.param("{'Fn::Subb': x}", "function", f"{ON_T}.Fn::Subb", id="a misspelt function"),
    pytest.param("!Transform {Name: x}", "unsupported", f"{ON_T}.Fn::Transform", id="Transform"),
    pytest.param("{'Fn::ForEach::L': []}", "unsupported", f"{ON_T}.Fn::ForEach::L", id="ForEach"),
    pytest.param("!Length [a]", "unsupported", f"{ON_T}.Fn::Length", id="Length"),
    pytest.param("!ToJsonString {}", "unsupported", f"{ON_T}.Fn::ToJsonString", id="ToJsonString"),
    pytest.param("'{{resolve:ssm:x}}'", "unsupported", ON_T, id="dynamic reference"),
    pytest.param(
        "!Sub 'x{{resolve:secretsmanager:y}}'", "unsupported", f"{ON_T}.Fn::Sub", id="one inside Sub"
    ),
    pytest.param("", "null", ON_T, id="nothing"),
]


@pytest.mark.parametrize(("value", "code", "path"), CALLS)
def test_faulty_functions_are_named_with_path_and_line(value: str, code: str, path: str) -> None:
    assert faults(topic(value)) == [(code, 5, path)]


SECTIONS = [
    pytest.param("Transform: AWS::Serverless-2016-10-31", "unsupported", "Transform", id="Transform"),
    pytest.param("Rules: {}", "unsupported", "Rules", id="Rules"),
    pytest.param("Hooks: {}", "unsupported", "Hooks", id="Hooks"),
    pytest.param("Resource: {}", "structure", "Resource", id="unknown section"),
    pytest.param(
        "AWSTemplateFormatVersion: 2011-01-01", "structure", "AWSTemplateFormatVersion", id="version"
    ),
    pytest.param("Description: [a]", "structure", "Description", id="description"),
    pytest.param("Mappings: {M: {a: b}}", "structure", "Mappings.M.a", id="a flat mapping"),
    pytest.param("Mappings: {M: {a: {b: {c: d}}}}", "structure", "Mappings.M.a.b", id="a deep mapping"),
    pytest.param(
        "Mappings: {M: !Transform {Name: x}}", "unsupported", "Mappings.M.Fn::Transform", id="in Mappings"
    ),
    pytest.param("Globals: {}", "unsupported", "Globals", id="a section of SAM"),
    pytest.param(
        "Outputs: {'Fn::ForEach::O': [N, [a], {}]}", "unsupported", "Outputs.Fn::ForEach::O", id="output loop"
    ),
    pytest.param(
        "Conditions: {'Fn::ForEach::C': [N, [a], {}]}",
        "unsupported",
        "Conditions.Fn::ForEach::C",
        id="condition loop",
    ),
    pytest.param(
        "Mappings: {'Fn::ForEach::M': [N, [a], {}]}",
        "unsupported",
        "Mappings.Fn::ForEach::M",
        id="mapping loop",
    ),
    pytest.param("Parameters: text", "structure", "Parameters", id="parameters as a text"),
    pytest.param("Mappings: []", "structure", "Mappings", id="mappings as a list"),
    pytest.param("Conditions: {C: yes}", "condition", "Conditions.C", id="a condition that is no function"),
    pytest.param("Conditions: {C: !Equals [a]}", "condition", "Conditions.C.Fn::Equals", id="Equals of one"),
    pytest.param("Conditions: {C: !Not [a]}", "condition", "Conditions.C.Fn::Not.0", id="Not of a text"),
    pytest.param(
        "Conditions: {C: !And [!Condition D]}", "condition", "Conditions.C.Fn::And", id="And of one"
    ),
    pytest.param(
        "Conditions: {C: !Condition D}", "unknown_condition", "Conditions.C.Condition", id="no condition"
    ),
    pytest.param(
        "Conditions: {C: !Equals [!Ref T, a]}", "function", "Conditions.C.Fn::Equals.0.Ref", id="a resource"
    ),
    pytest.param(
        "Conditions: {C: !Condition D, D: !Not [!Condition C]}", "condition_cycle", "Conditions.C", id="cycle"
    ),
    pytest.param("Outputs: {O: text}", "structure", "Outputs.O", id="an output that is no map"),
    pytest.param(
        "Outputs: {O: {Value: a, Vlaue: b}}", "structure", "Outputs.O.Vlaue", id="an output's attribute"
    ),
    pytest.param(
        "Outputs: {O: {Value: !Ref X}}", "unknown_reference", "Outputs.O.Value.Ref", id="an output of nothing"
    ),
    pytest.param(
        "Outputs: {O: {Value: a, Export: n}}", "structure", "Outputs.O.Export", id="an export without a name"
    ),
    pytest.param(
        "Outputs: {O: {Value: a, Export: {Name: !Ref T}}}",
        "function",
        "Outputs.O.Export.Name.Ref",
        id="an export named by a resource",
    ),
    pytest.param(
        "Outputs: {O: {Value: a, Condition: C}}",
        "unknown_condition",
        "Outputs.O.Condition",
        id="on an output",
    ),
    pytest.param(
        "Outputs: {O: {Value: !Ref AWS::NoValue}}", "function", "Outputs.O.Value", id="an output of no value"
    ),
]


@pytest.mark.parametrize(("section", "code", "path"), SECTIONS)
def test_faulty_sections_are_named_with_path_and_line(section: str, code: str, path: str) -> None:
    assert faults(topic("x", section + "\n")) == [(code, 6, path)]


RESOURCES = [
    pytest.param("Type: AWS::CloudFormation::Stack", "unsupported", "Type", id="nested stack"),
    pytest.param("Type: AWS::CloudFormation::WaitCondition", "unsupported", "Type", id="wait condition"),
    pytest.param("Type: Custom::Thing", "unsupported", "Type", id="custom resource"),
    pytest.param("Type: AWS::Serverless::Function", "unsupported", "Type", id="SAM"),
    pytest.param("Type: My::Own::Thing::MODULE", "unsupported", "Type", id="module"),
    pytest.param("Type: [a]", "structure", "Type", id="type as a list"),
    pytest.param("Type: Instance", "structure", "Type", id="half a type"),
    pytest.param("Propertis: {}", "structure", "Propertis", id="misspelt attribute"),
    pytest.param("Properties: [a]", "structure", "Properties", id="properties as a list"),
    pytest.param("DependsOn: Nothing", "unknown_resource", "DependsOn", id="dangling DependsOn"),
    pytest.param("DependsOn: [U, Nothing]", "unknown_resource", "DependsOn.1", id="one dangling DependsOn"),
    pytest.param("DependsOn: R", "structure", "DependsOn", id="DependsOn itself"),
    pytest.param("DependsOn: {a: b}", "structure", "DependsOn", id="DependsOn as a map"),
    pytest.param("Condition: Nothing", "unknown_condition", "Condition", id="unknown condition"),
    pytest.param("DeletionPolicy: Keep", "structure", "DeletionPolicy", id="unknown policy"),
    pytest.param("DeletionPolicy: !Ref P", "structure", "DeletionPolicy", id="a policy by parameter"),
    pytest.param(
        "UpdateReplacePolicy: Snapshot",
        "snapshot_unsupported",
        "UpdateReplacePolicy",
        id="no snapshots of a topic",
    ),
    pytest.param(
        "DeletionPolicy: Snapshot", "snapshot_unsupported", "DeletionPolicy", id="no last snapshot of a topic"
    ),
    pytest.param(
        "CreationPolicy: {ResourceSignal: {Count: 1}}", "unsupported", "CreationPolicy", id="signals"
    ),
    pytest.param(
        "UpdatePolicy: {AutoScalingRollingUpdate: {MinInstancesInService: 1}}",
        "unsupported",
        "UpdatePolicy",
        id="rolling updates",
    ),
]


def resource(attribute: str) -> str:
    kind = "" if attribute.startswith("Type") else "\n    Type: AWS::SNS::Topic"
    return f"Resources:\n  U: {{Type: AWS::SNS::Topic}}\n  R:\n    {attribute}{kind}\n"


@pytest.mark.parametrize(("attribute", "code", "path"), RESOURCES)
def test_faulty_resource_attributes_are_named_with_path_and_line(
    attribute: str, code: str, path: str
) -> None:
    assert faults(resource(attribute)) == [(code, 4, f"Resources.R.{path}")]


WHOLE = [
    *(
        pytest.param(topic(str(case.values[0])), *case.values[1:], id=f"function: {case.id}")
        for case in CALLS
    ),
    *(
        pytest.param(topic("x", str(case.values[0])), *case.values[1:], id=f"section: {case.id}")
        for case in SECTIONS
    ),
    *(
        pytest.param(
            resource(str(case.values[0])),
            case.values[1],
            f"Resources.R.{case.values[2]}",
            id=f"resource: {case.id}",
        )
        for case in RESOURCES
    ),
]


@pytest.mark.parametrize(("text", "code", "path"), WHOLE)
def test_a_report_goes_on_behind_every_fault_and_adds_none_that_follows_from_it(
    text: str, code: str, path: str
) -> None:
    expected = [] if code == "import_missing" else [(f"template.{code}", path)]
    found = validate_file(text.encode(), {})["faults"]
    assert [(fault["code"], fault["path"]) for fault in found] == expected


@pytest.mark.parametrize(
    "attribute",
    [
        "CreationPolicy: {}",
        "UpdatePolicy: {AutoScalingReplacingUpdate: {WillReplace: false}}",
        "UpdatePolicy: {EnableVersionUpgrade: 'false'}",
        "Metadata: {'AWS::CloudFormation::Init': {config: {x: null, y: '{{resolve:x}}'}}}",
        "DeletionPolicy: RetainExceptOnCreate",
    ],
)
def test_attributes_that_ask_for_nothing_are_accepted(attribute: str) -> None:
    assert bound(f"Resources:\n  R:\n    Type: AWS::SNS::Topic\n    {attribute}\n").resources["R"]


@pytest.mark.parametrize("name", ["my-topic", "a.b", "ü", "x" * 300])
def test_logical_ids_are_letters_and_digits(name: str) -> None:
    assert faults(f"Resources:\n  {name}: {{Type: AWS::SNS::Topic}}\n") == [
        ("structure", 2, f"Resources.{name}")
    ]


@pytest.mark.parametrize("text", ["Resources:\n", "Resources: {}", "Description: x", "[a]", "text"])
def test_a_template_needs_resources(text: str) -> None:
    assert "structure" in [code for code, _, _ in faults(text)]


def test_a_loop_over_resources_is_named_as_what_is_not_supported() -> None:
    text = (
        "Resources:\n  T: {Type: AWS::SNS::Topic}\n  Fn::ForEach::Topics:\n  - N\n  - [a]\n  - '${N}': {}\n"
    )
    assert faults(text) == [("unsupported", 3, "Resources.Fn::ForEach::Topics")]


@pytest.mark.parametrize("name", ["X", "Own_Thing-2@x", "Certificate"])
def test_custom_resources_are_named_as_what_is_not_supported(name: str) -> None:
    assert faults(f"Resources:\n  T: {{Type: 'Custom::{name}'}}\n") == [
        ("unsupported", 2, "Resources.T.Type")
    ]


def test_what_a_false_condition_leaves_out_cannot_be_referred_to() -> None:
    text = """Conditions: {Never: !Equals [a, b]}
Resources:
  A: {Type: AWS::SNS::Topic, Condition: Never}
  B:
    Type: AWS::SNS::Topic
    Properties:
      DisplayName: !Sub "${A.TopicArn}"
      TopicName: !If [Never, !Ref A, x]
"""
    assert faults(text) == [("absent_reference", 7, "Resources.B.Properties.DisplayName.Fn::Sub")]


def test_branches_that_are_not_taken_are_looked_at_too() -> None:
    text = topic("!If [Never, !Ref Nothing, x]", "Conditions: {Never: !Equals [a, b]}")
    assert faults(text) == [("unknown_reference", 5, "Resources.T.Properties.DisplayName.Fn::If.1.Ref")]


def test_thousands_of_faults_take_seconds_at_most() -> None:
    lines = "\n".join(f"  R{n}: {{Type: AWS::SNS::Topic, DependsOn: Nothing{n}}}" for n in range(3000))
    started = time.process_time()
    assert len(faults(f"Resources:\n{lines}\n")) == 3000
    assert time.process_time() - started < 5


def test_a_chain_of_thousands_of_conditions_binds() -> None:
    lines = "\n".join(f"  C{n}: !Condition C{n + 1}" for n in range(3000))
    text = topic("!If [C0, a, b]", f"Conditions:\n{lines}\n  C3000: !Equals [a, a]\n")
    assert bound(text).resources["T"].properties["DisplayName"] == "a"


def test_the_documentation_lists_every_fault_code_and_no_other() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "reference" / "templates.md").read_text()
    documented = set(re.findall(r"^\| `template\.(\w+)` \|", page, re.MULTILINE))
    changes = root / "src" / "fairlead" / "changes"
    source = "".join(
        file.read_text() for file in [*sorted((changes / "template").glob("*.py")), changes / "validation.py"]
    )
    used = set(re.findall(r'"template\.(\w+)"', source))
    used |= set(re.findall(r'(?:\bfault\(|_fault\(bound, |\[\(|return \()\s*"([a-z]+_?[a-z_]*)", ', source))
    used |= {f"unknown_{what}" for what in re.findall(r'no_such\(\s*"(\w+)"', source)}
    assert used - {"invalid", "string"} == documented
