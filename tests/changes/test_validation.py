"""Validation against AWS's schemas: the path and the line of every fault, and nothing that is not one."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.registry import Registry
from fairlead.changes.template import TemplateInvalid
from fairlead.changes.validation import _validator, check, validate, validate_file
from tests.changes.template_text import SHOP, bound

REGISTRY = Registry()


def report(properties: str, kind: str = "AWS::EC2::Instance", more: str = "") -> list[tuple[Any, ...]]:
    text = f"Resources:\n  R:\n    Type: {kind}\n    Properties:\n{properties}\n{more}"
    return [
        (f["code"].removeprefix("template."), f["line"], f["path"].removeprefix("Resources.R.Properties."))
        for f in validate_file(text.encode(), {})["faults"]
    ]


def test_a_real_template_is_valid() -> None:
    given = {"DatabasePassword": "correct horse battery"}
    for environment in ("test", "stage", "production"):
        data = SHOP.read_bytes()
        assert validate_file(data, {**given, "Environment": environment}) == {"valid": True, "faults": []}


@pytest.mark.parametrize(
    ("properties", "kind", "fault"),
    [
        pytest.param(
            "      ImageID: a",
            "AWS::EC2::Instance",
            ("unknown_property", 5, "ImageID"),
            id="unknown property",
        ),
        pytest.param(
            "      CpuOptions:\n        CoreCont: 2",
            "AWS::EC2::Instance",
            ("unknown_property", 6, "CpuOptions.CoreCont"),
            id="unknown nested property",
        ),
        pytest.param(
            "      Tags:\n      - {Key: a, Value: b}\n      - {Key: a}",
            "AWS::EC2::Instance",
            ("required_property", 7, "Tags.1.Value"),
            id="required in an item",
        ),
        pytest.param(
            "      Path: /",
            "AWS::IAM::Role",
            ("required_property", 4, "AssumeRolePolicyDocument"),
            id="required",
        ),
        pytest.param(
            "      EbsOptimized: maybe",
            "AWS::EC2::Instance",
            ("wrong_type", 5, "EbsOptimized"),
            id="no boolean",
        ),
        pytest.param(
            "      SecurityGroupIds: sg-1",
            "AWS::EC2::Instance",
            ("wrong_type", 5, "SecurityGroupIds"),
            id="a text for a list",
        ),
        pytest.param(
            "      ImageId: [a]", "AWS::EC2::Instance", ("wrong_type", 5, "ImageId"), id="a list for a text"
        ),
        pytest.param(
            "      CpuOptions:\n        CoreCount: many",
            "AWS::EC2::Instance",
            ("wrong_type", 6, "CpuOptions.CoreCount"),
            id="a word for a number",
        ),
        pytest.param(
            "      CpuOptions:\n        CoreCount: 1.5",
            "AWS::EC2::Instance",
            ("wrong_type", 6, "CpuOptions.CoreCount"),
            id="half a core",
        ),
        pytest.param(
            "      Affinity: guest", "AWS::EC2::Instance", ("invalid_value", 5, "Affinity"), id="enum"
        ),
        pytest.param(
            "      RetentionInDays: 2",
            "AWS::Logs::LogGroup",
            ("invalid_value", 5, "RetentionInDays"),
            id="number enum",
        ),
        pytest.param(
            "      Code: {ZipFile: x}\n      Role: r\n      Timeout: 0",
            "AWS::Lambda::Function",
            ("invalid_value", 7, "Timeout"),
            id="minimum",
        ),
        pytest.param(
            "      CidrBlock: banana", "AWS::EC2::VPC", ("invalid_value", 5, "CidrBlock"), id="no network"
        ),
        pytest.param(
            "      GroupDescription: g\n      SecurityGroupIngress:\n"
            "      - {IpProtocol: tcp, CidrIp: 10.0.0.1}",
            "AWS::EC2::SecurityGroup",
            ("invalid_value", 7, "SecurityGroupIngress.0.CidrIp"),
            id="an address for a network",
        ),
        pytest.param(
            "      Code: {ZipFile: x}\n      Role: r\n      Environment:\n        Variables: {1A: x}",
            "AWS::Lambda::Function",
            ("unknown_property", 8, "Environment.Variables.1A"),
            id="a name that the pattern refuses",
        ),
        pytest.param(
            "      PrivateIp: 10.0.0.1",
            "AWS::EC2::Instance",
            ("read_only_property", 5, "PrivateIp"),
            id="read-only",
        ),
    ],
)
def test_faults_have_the_path_and_line_of_the_property(
    properties: str, kind: str, fault: tuple[Any, ...]
) -> None:
    assert fault in report(properties, kind)


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        pytest.param("AWS::EC2::VPC", "      CidrBlock: 10.0.0.1/16", id="bits of hosts, which AWS clears"),
        pytest.param(
            "AWS::EC2::SecurityGroup",
            "      GroupDescription: g\n      SecurityGroupIngress:\n"
            "      - {IpProtocol: tcp, FromPort: 1, ToPort: 2, CidrIpv6: '::/0'}",
            id="IPv6",
        ),
        pytest.param(
            "AWS::EC2::VPC", "      CidrBlock: !Select [0, !Cidr [10.0.0.0/8, 2, 16]]", id="computed"
        ),
        pytest.param(
            "AWS::EC2::VPC", "      CidrBlock: !ImportValue Network", id="not known before the apply"
        ),
    ],
)
def test_networks_in_every_form_that_aws_takes_are_valid(kind: str, properties: str) -> None:
    assert report(properties, kind) == []


def test_a_missing_alternative_is_said_in_words() -> None:
    text = b"Resources:\n  S:\n    Type: AWS::Batch::JobQueue\n    Properties: {Priority: 1}\n"
    messages = [fault["message"] for fault in validate_file(text, {})["faults"]]
    assert messages == ["AWS::Batch::JobQueue needs 'ComputeEnvironmentOrder' or 'ServiceEnvironmentOrder'."]


def test_guesses_help_with_misspelt_names() -> None:
    text = b"""Resources:
  A: {Type: AWS::EC2::Instanc}
  B: {Type: AWS::EC2::Instance, Properties: {ImageID: x}}
"""
    messages = [fault["message"] for fault in validate_file(text, {})["faults"]]
    assert "did you mean AWS::EC2::Instance" in messages[0]
    assert "did you mean 'ImageId'" in messages[1]


def test_lines_are_right_behind_functions_that_choose() -> None:
    properties = """      Tags:
      - !If [Never, {Key: x, Value: y}, !Ref AWS::NoValue]
      - !If
        - Never
        - {Key: a, Value: b}
        - Key: c
          Valu: d
      CpuOptions: !If
      - Never
      - {}
      - CoreCount: x"""
    found = report(properties, more="Conditions: {Never: !Equals [a, b]}\n")
    assert found == [
        ("required_property", 10, "Tags.0.Value"),
        ("unknown_property", 11, "Tags.0.Valu"),
        ("wrong_type", 15, "CpuOptions.CoreCount"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "!Ref V",
        "!GetAtt V.CidrBlock",
        "!Sub '${V}-x'",
        "!Select [0, !GetAtt V.CidrBlockAssociations]",
        "!ImportValue x",
    ],
)
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        pytest.param("      EbsOptimized: {}", "AWS::EC2::Instance", id="boolean"),
        pytest.param("      Affinity: {}", "AWS::EC2::Instance", id="enum"),
        pytest.param("      Tags: {}", "AWS::EC2::Instance", id="list"),
        pytest.param("      CpuOptions: {}", "AWS::EC2::Instance", id="map"),
        pytest.param("      SecurityGroupIds: [{0}, {0}]", "AWS::EFS::MountTarget", id="unique items"),
        pytest.param("      RetentionInDays: {}", "AWS::Logs::LogGroup", id="number"),
        pytest.param("      KmsKeyId: {}", "AWS::SecretsManager::Secret", id="alternatives"),
    ],
)
def test_values_that_are_not_known_yet_count_as_any(value: str, place: str, kind: str) -> None:
    found = report(
        place.format(value), kind, "  V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}"
    )
    allowed = {"required_property", "unknown_property"}
    assert {code for code, _, _ in found} <= allowed


@pytest.mark.parametrize(
    ("value", "line"),
    [("!GetAtt V.CidrBlok", 5), ("!Sub '${V.CidrBlok}'", 5), ("!Join ['', [x, !GetAtt V.CidrBlok]]", 5)],
)
def test_attributes_that_do_not_exist_are_faults(value: str, line: int) -> None:
    found = report(
        f"      KeyName: {value}", more="  V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}"
    )
    assert found == [("unknown_attribute", line, "KeyName")]


def test_attributes_of_outputs_are_checked() -> None:
    text = b"Resources:\n  T: {Type: AWS::SNS::Topic}\nOutputs:\n  O:\n    Value: !GetAtt T.Arm\n"
    assert validate_file(text, {})["faults"] == [
        {
            "path": "Outputs.O.Value",
            "line": 5,
            "code": "template.unknown_attribute",
            "message": "AWS::SNS::Topic has no attribute 'Arm'.",
        }
    ]


def test_resources_that_depend_on_each_other_are_a_fault_with_the_way() -> None:
    text = b"""Resources:
  A: {Type: AWS::SNS::Topic, DependsOn: C}
  B: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Ref A}}
  C: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Sub 'x${B.TopicName}'}}
"""
    (fault,) = validate_file(text, {})["faults"]
    assert (fault["code"], fault["line"], fault["path"]) == ("template.cycle", 2, "Resources.A")
    assert all(name in fault["message"] for name in "ABC")


def test_faults_of_all_kinds_are_reported_at_once() -> None:
    text = b"""Parameters:
  Env: {Type: String}
Resources:
  A:
    Type: AWS::EC2::Instance
    Properties:
      ImageId: !Ref Nothing
      Instancetype: t3.micro
      KeyName: !Ref Env
  B: {Type: AWS::Nothing::AtAll}
Transform: x
"""
    found = validate_file(text, {"Other": "x"})
    assert not found["valid"]
    assert [(fault["code"], fault["line"]) for fault in found["faults"]] == [
        ("template.unknown_parameter", None),
        ("template.parameter_missing", 2),
        ("template.unknown_reference", 7),
        ("template.unknown_property", 8),
        ("template.unknown_type", 10),
        ("template.unsupported", 11),
    ]
    assert {tuple(fault) for fault in found["faults"]} == {("path", "line", "code", "message")}


@pytest.mark.parametrize(
    "declaration",
    [
        "{Type: String, NoEcho: true, Default: hunter2}",
        "{Type: CommaDelimitedList, NoEcho: true, Default: hunter2}",
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "EbsOptimized: !Ref P",
        "Affinity: !Ref P",
        "CpuOptions: !Ref P",
        "Affinity: !Sub 'x${P}'",
        "Tags: [!Ref P]",
        "SecurityGroupIds: !Split ['t', !Ref P]",
        "CpuOptions: {CoreCount: !Ref P}",
    ],
)
def test_no_fault_quotes_a_secret(declaration: str, place: str) -> None:
    text = f"""Parameters: {{P: {declaration}}}
Resources:
  R:
    Type: AWS::EC2::Instance
    Properties:
      {place}
"""
    assert "hunter" not in json.dumps(validate_file(text.encode(), {}))


def test_a_file_of_nothing_but_faults_is_reported_in_seconds() -> None:
    items = ", ".join(["{Kye: a}"] * 5_000)
    names = ", ".join(f"X{n}: 1" for n in range(5_000))
    text = f"Resources:\n  A: {{Type: AWS::EC2::VPC, Properties: {{Tags: [{items}], {names}}}}}\n"
    started = time.process_time()
    assert len(validate_file(text.encode(), {})["faults"]) == 1000
    assert time.process_time() - started < 10


def test_check_raises_every_fault() -> None:
    broken = bound("Resources: {A: {Type: AWS::EC2::Instance, Properties: {X: 1, Y: 2}}}")
    with pytest.raises(TemplateInvalid) as caught:
        check(broken, REGISTRY)
    assert len(caught.value.faults) == len(validate(broken, REGISTRY)) == 2


@pytest.mark.parametrize(
    "type_name",
    [
        "AWS::Logs::LogGroup",
        "AWS::Cognito::UserPool",
        "AWS::Amplify::App",
        "AWS::Amplify::Branch",
        "AWS::EFS::AccessPoint",
        "AWS::WAFv2::WebACL",
        "AWS::DynamoDB::GlobalTable",
        "AWS::MediaTailor::PlaybackConfiguration",
    ],
)
def test_schemas_with_patterns_of_another_engine_compile(type_name: str) -> None:
    assert _validator(REGISTRY.get(type_name)) is not None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1]", b"x" * (17 * 1024 * 1024)], ids=range(5))
def test_no_file_is_too_broken_for_a_report(data: bytes) -> None:
    found = validate_file(data, {})
    assert not found["valid"]
    assert found["faults"]


def test_validating_offline_needs_neither_cfn_lint_nor_the_rest_of_the_house() -> None:
    script = (
        f"import sys; from fairlead.changes.validation import validate_file;"
        f"validate_file(open({str(SHOP)!r}, 'rb').read(), {{}});"
        "heavy = {'cfnlint', 'fastapi', 'sqlalchemy', 'dbos', 'mcp'};"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


PIECES = st.sampled_from(
    [
        *(
            "!Ref Vpc",
            "!GetAtt Vpc.X",
            "!If [IsStage, a, b]",
            "!Ref DatabasePassword",
            "[",
            "{}",
            "null",
            "'",
            ": ",
        ),
        *(
            "\n  ",
            "- ",
            "Fn::Sub",
            "!Select [9, []]",
            "Condition: HasBastion",
            "resources:",
            "10.5",
            "!Cidr [a, 1, 1]",
        ),
    ]
)


@given(st.data(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_damaged_template_is_reported_and_never_a_crash(data: st.DataObject, short_form: bool) -> None:
    text = SHOP.read_text()
    if short_form:
        text = text.replace("Resources:", "resources:").replace("Type: AWS::", "type: ")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 12)))
        text = text[:at] + data.draw(PIECES) + text[end:]
    found = validate_file(text.encode(), {"DatabasePassword": "correct horse battery"})
    assert found["valid"] == (not found["faults"])
    assert "correct horse" not in json.dumps(found)
