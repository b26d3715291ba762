"""Binding: parameters, mappings, conditions and functions become values or expressions."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.intrinsics import Secret, Unresolvable
from fairlead.changes.model import Reference, Unknown
from fairlead.changes.template import TemplateInvalid, evaluate, load_parameters, mask, references
from tests.changes.template_text import SHOP, bound, display_name, faults, topic

MORE = """  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
Parameters:
  Name: {Type: String, Default: shop}
  Count: {Type: Number, Default: 3}
  Names: {Type: CommaDelimitedList, Default: 'a, b,c'}
  Pass: {Type: String, NoEcho: true, Default: s3cret}
Mappings:
  M: {us-east-1: {size: 5, list: [x, y]}, shop: {name: z}}
Conditions:
  IsShop: !Equals [!Ref Name, shop]
  IsOther: !Not [!Condition IsShop]
  Both: !And [!Condition IsShop, !Condition IsOther]
  Either: !Or [!Condition IsShop, !Condition IsOther]
  Three: !Equals [!Ref Count, '3']
  Flag: !Equals [true, 'true']
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("!Ref Name", "shop", id="Ref of a parameter"),
        pytest.param("!Ref Count", "3", id="Ref of a number is text"),
        pytest.param("!Ref AWS::Region", "us-east-1", id="region"),
        pytest.param("!Ref AWS::AccountId", "123456789012", id="account"),
        pytest.param("!Ref AWS::Partition", "aws", id="partition"),
        pytest.param("!Ref AWS::URLSuffix", "amazonaws.com", id="suffix"),
        pytest.param("!Ref AWS::StackName", "shop", id="stack name"),
        pytest.param("!Select [1, !Split ['/', !Ref AWS::StackId]]", "shop", id="stack id"),
        pytest.param("!Sub 'a-${Name}-${AWS::Region}'", "a-shop-us-east-1", id="Sub"),
        pytest.param("!Sub '${!Name} $$ {x} ${ Name }'", "${Name} $$ {x} shop", id="Sub literals and spaces"),
        pytest.param("!Sub ['${A}${Name}', {A: !Ref Count}]", "3shop", id="Sub with variables"),
        pytest.param("!Sub ['${Name}', {Name: other}]", "other", id="a variable hides a parameter"),
        pytest.param("!Join ['-', [a, 1, true, !Ref Name]]", "a-1-true-shop", id="Join of scalars"),
        pytest.param("!Join [',', !Ref Names]", "a,b,c", id="Join of a list parameter"),
        pytest.param("!Join ['', [a, !Ref AWS::NoValue, b]]", "ab", id="Join leaves no value out"),
        pytest.param("!Select [1, !Ref Names]", "b", id="Select"),
        pytest.param("!Select ['0', [x, y]]", "x", id="Select by text"),
        pytest.param("!Select [!Ref Count, [p, q, r, s]]", "s", id="Select by parameter"),
        pytest.param("!Select [2, !Split ['.', 'a.b.c']]", "c", id="Split"),
        pytest.param("!If [IsShop, a, b]", "a", id="If true"),
        pytest.param("!If [IsOther, a, b]", "b", id="If false"),
        pytest.param("!If [Both, a, !If [Either, c, d]]", "c", id="And, Or, nested If"),
        pytest.param("!If [Three, a, b]", "a", id="Equals compares texts"),
        pytest.param("!If [Flag, a, b]", "a", id="Equals of true and its text"),
        pytest.param("!FindInMap [M, !Ref AWS::Region, size]", "5", id="FindInMap"),
        pytest.param("!FindInMap [M, !Ref Name, name]", "z", id="FindInMap by parameter"),
        pytest.param("!Select [1, !FindInMap [M, us-east-1, list]]", "y", id="FindInMap of a list"),
        pytest.param("!Base64 {'Fn::Sub': '${Name}!'}", "c2hvcCE=", id="Base64"),
        pytest.param("!Select [1, !GetAZs '']", "us-east-1b", id="GetAZs of this region"),
        pytest.param("!Select [2, !GetAZs eu-west-1]", "eu-west-1c", id="GetAZs of another region"),
        pytest.param("!Select [3, !Cidr [10.0.0.0/16, 4, 8]]", "10.0.3.0/24", id="Cidr"),
        pytest.param("!Select [1, !Cidr ['2001:db8::/56', 2, 64]]", "2001:db8:0:1::/64", id="Cidr of IPv6"),
        pytest.param("!ImportValue net-Vpc", "vpc-1", id="ImportValue"),
        pytest.param("!ImportValue {'Fn::Sub': '${Net}-Vpc'}", None, id="ImportValue of nothing"),
        pytest.param("!Ref Vpc", Reference("Vpc"), id="Ref of a resource"),
    ],
)
def test_functions_of_known_values_are_computed(value: str, expected: Any) -> None:
    if expected is None:
        assert faults(topic(value, MORE), exports={"net-Vpc": "vpc-1"}) == [
            ("unknown_reference", 5, "Resources.T.Properties.DisplayName.Fn::ImportValue.Fn::Sub")
        ]
    else:
        assert display_name(value, MORE, exports={"net-Vpc": "vpc-1"}) == expected


KNOWN = {
    Reference("Vpc"): "vpc-1",
    Reference("Vpc", "CidrBlock"): "10.0.0.0/16",
    Reference("Vpc", "VpcId"): "vpc-1",
    Reference("Vpc", "Ipv6CidrBlocks"): ["2001:db8::/56", "2001:db9::/56"],
    Reference("Vpc", "DefaultSecurityGroup"): Unknown("${Vpc.DefaultSecurityGroup}"),
    Reference("Vpc", "DefaultNetworkAcl"): Unknown("${Vpc.DefaultNetworkAcl}", fresh=False),
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("!Ref Vpc", "vpc-1", id="Ref"),
        pytest.param("!GetAtt Vpc.CidrBlock", "10.0.0.0/16", id="GetAtt"),
        pytest.param("!Sub '${Vpc}/${Vpc.CidrBlock}'", "vpc-1/10.0.0.0/16", id="Sub"),
        pytest.param("!Join ['+', [!Ref Vpc, !Ref Name]]", "vpc-1+shop", id="Join"),
        pytest.param(
            "!Join ['+', !GetAtt Vpc.Ipv6CidrBlocks]", "2001:db8::/56+2001:db9::/56", id="Join of a list"
        ),
        pytest.param("!Select [1, !GetAtt Vpc.Ipv6CidrBlocks]", "2001:db9::/56", id="Select"),
        pytest.param("!Select [0, !Split ['-', !Ref Vpc]]", "vpc", id="Split"),
        pytest.param("!Base64 {Ref: Vpc}", "dnBjLTE=", id="Base64"),
        pytest.param("!Select [2, !Cidr [!GetAtt Vpc.CidrBlock, 4, 8]]", "10.0.2.0/24", id="Cidr"),
        pytest.param("!Select [0, [!Ref Vpc, !Ref Vpc]]", "vpc-1", id="Select among nodes"),
        pytest.param(
            "!Sub '${Vpc.DefaultSecurityGroup}-x'",
            Unknown("${Vpc.DefaultSecurityGroup}-x"),
            id="an unknown part",
        ),
        pytest.param(
            "!Sub '${Vpc.DefaultNetworkAcl}-x'",
            Unknown("${Vpc.DefaultNetworkAcl}-x", fresh=False),
            id="an unknown part of what stands already",
        ),
        pytest.param(
            "!Sub '${Vpc.DefaultNetworkAcl}${Vpc.DefaultSecurityGroup}'",
            Unknown("${Vpc.DefaultNetworkAcl}${Vpc.DefaultSecurityGroup}", fresh=True),
            id="one fresh part makes all fresh",
        ),
        pytest.param(
            "!Select [0, !Split ['-', !GetAtt Vpc.DefaultSecurityGroup]]",
            Unknown("Select(0, Split('-', ${Vpc.DefaultSecurityGroup}))"),
            id="functions of unknown values",
        ),
        pytest.param(
            "!Sub '${Pass}@${Vpc.DefaultSecurityGroup}'",
            Unknown("****@${Vpc.DefaultSecurityGroup}"),
            id="a secret part does not show",
        ),
    ],
)
def test_expressions_are_evaluated_once_references_are_known(value: str, expected: Any) -> None:
    resource = bound(topic(value, MORE)).resources["T"]
    assert resource.dynamic
    assert resource.depends_on == ("Vpc",)
    assert evaluate(resource.properties, KNOWN.__getitem__)["DisplayName"] == expected


def test_a_tree_without_expressions_comes_back_itself() -> None:
    resource = bound(topic("plain", MORE)).resources["Vpc"]
    assert not resource.dynamic
    assert evaluate(resource.properties, KNOWN.__getitem__) is resource.properties


def test_evaluating_leaves_the_tree_as_it_was() -> None:
    resource = bound(topic("!Ref Vpc", MORE)).resources["T"]
    before = repr(resource.properties)
    evaluate(resource.properties, KNOWN.__getitem__)
    assert repr(resource.properties) == before


def test_values_that_do_not_fit_are_refused_with_their_reason() -> None:
    resource = bound(topic("!Sub 'a${Vpc.Ipv6CidrBlocks}'", MORE)).resources["T"]
    with pytest.raises(Unresolvable, match="not a list"):
        evaluate(resource.properties, KNOWN.__getitem__)


def test_imported_values_stay_unknown_where_nobody_knows_the_exports() -> None:
    value = display_name("!Sub ['${V}/x', {V: !ImportValue net}]", exports=None)
    assert evaluate(value, KNOWN.__getitem__) == Unknown("${ImportValue:net}/x", fresh=False)


def test_no_value_takes_away_properties_and_items() -> None:
    text = """
Parameters: {Set: {Type: String, Default: 'no'}}
Conditions: {IsSet: !Equals [!Ref Set, 'yes']}
Resources:
  Q:
    Type: AWS::SQS::Queue
    Properties:
      DelaySeconds: !If [IsSet, 5, !Ref AWS::NoValue]
      Tags: [!If [IsSet, {Key: a, Value: b}, !Ref AWS::NoValue], {Key: c, Value: d}]
"""
    assert bound(text).resources["Q"].properties == {"Tags": [{"Key": "c", "Value": "d"}]}
    assert bound(text, {"Set": "yes"}).resources["Q"].properties["DelaySeconds"] == 5


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"region": "cn-north-1"}, "aws-cn amazonaws.com.cn"),
        ({"region": "us-gov-west-1"}, "aws-us-gov amazonaws.com"),
        ({"region": "us-isob-east-1"}, "aws-iso-b sc2s.sgov.gov"),
    ],
    ids=["China", "GovCloud", "secret"],
)
def test_partitions_follow_the_region(place: dict[str, Any], expected: str) -> None:
    assert display_name("!Sub '${AWS::Partition} ${AWS::URLSuffix}'", **place) == expected


def test_availability_zones_of_the_account_are_used_where_they_are_known() -> None:
    zones = {"us-west-1": ["us-west-1a", "us-west-1c"]}
    assert display_name("!Select [1, !GetAZs us-west-1]", zones=zones) == "us-west-1c"


# ------------------------------------------------------------------------------ resources


def test_what_a_condition_leaves_out_is_not_there() -> None:
    shop = bound(
        SHOP.read_bytes(), {"DatabasePassword": "correct horse battery", "Environment": "production"}
    )
    assert "Bastion" not in shop.resources
    assert "BastionAddress" not in shop.outputs
    assert shop.resources["Web"].properties["EbsOptimized"] is True


def test_a_real_template_binds_as_a_whole() -> None:
    shop = bound(SHOP.read_bytes(), {"DatabasePassword": "correct horse battery", "Environment": "stage"})
    assert len(shop.resources) >= 14
    assert len({resource.type for resource in shop.resources.values()}) >= 10
    web = shop.resources["Web"]
    assert web.depends_on == (
        "Assets",
        "Carts",
        "DefaultRoute",
        "Orders",
        "Profile",
        "PublicSubnetA",
        "WebSecurityGroup",
    )
    assert (web.line, web.properties["InstanceType"]) == (126, "t3.micro")
    assert shop.resources["Database"].deletion_policy == "Snapshot"
    assert shop.resources["Assets"].update_replace_policy == "Retain"
    assert shop.resources["WebSecurityGroup"].properties["SecurityGroupIngress"][1] == {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "CidrIp": "203.0.113.0/24",
    }
    assert shop.outputs["VpcId"] == (Reference("Vpc"), "The network, for other projects", "shop-VpcId")
    assert references(shop.outputs["DatabaseHost"].value) == {Reference("Database", "Endpoint.Address")}


@pytest.mark.parametrize(
    ("properties", "policy"),
    [("{}", "Snapshot"), ("{DBClusterIdentifier: c}", "Delete")],
    ids=["a database that stands alone leaves a snapshot", "a member of a cluster does not"],
)
def test_databases_have_cloudformations_own_default_policy(properties: str, policy: str) -> None:
    text = f"Resources:\n  D: {{Type: AWS::RDS::DBInstance, Properties: {properties}}}"
    assert bound(text).resources["D"].deletion_policy == policy


def test_depends_on_a_resource_that_is_left_out_is_forgotten() -> None:
    text = """
Parameters: {P: {Type: String, Default: a}}
Conditions: {Never: !Equals [!Ref P, b]}
Resources:
  A: {Type: AWS::SNS::Topic, Condition: Never}
  B: {Type: AWS::SNS::Topic, DependsOn: [A]}
"""
    assert bound(text).resources["B"].depends_on == ()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        pytest.param("{DelaySeconds: '5'}", {"DelaySeconds": 5}, id="text for a whole number"),
        pytest.param("{DelaySeconds: 5.0}", {"DelaySeconds": 5}, id="decimal for a whole number"),
        pytest.param("{FifoQueue: 'True'}", {"FifoQueue": True}, id="text for a boolean"),
        pytest.param("{QueueName: 12}", {"QueueName": "12"}, id="number for a text"),
        pytest.param("{QueueName: true}", {"QueueName": "true"}, id="boolean for a text"),
        pytest.param("{DelaySeconds: x}", {"DelaySeconds": "x"}, id="what is no number stays"),
        pytest.param("{DelaySeconds: nan}", {"DelaySeconds": "nan"}, id="NaN is no number"),
        pytest.param(
            "{RedrivePolicy: {maxReceiveCount: 3.50}}", {"RedrivePolicy": {"maxReceiveCount": 3.5}}, id="free"
        ),
        pytest.param(
            "{Tags: [{Key: 1, Value: 1.10}]}", {"Tags": [{"Key": "1", "Value": "1.10"}]}, id="in lists"
        ),
    ],
)
def test_scalars_take_the_type_that_the_schema_wants(written: str, kept: dict[str, Any]) -> None:
    text = f"Resources:\n  Q: {{Type: AWS::SQS::Queue, Properties: {written}}}"
    properties = bound(text).resources["Q"].properties
    assert properties == kept
    assert json.dumps(properties) == json.dumps(kept)


def test_an_environment_is_text_whatever_the_template_writes() -> None:
    text = """Resources:
  F:
    Type: AWS::Lambda::Function
    Properties: {Environment: {Variables: {A: 1, B: true, C: 3.10, D: x}}}
"""
    variables = bound(text).resources["F"].properties["Environment"]["Variables"]
    assert variables == {"A": "1", "B": "true", "C": "3.10", "D": "x"}


def test_evaluated_values_take_the_type_that_the_schema_wants() -> None:
    text = """Resources:
  V: {Type: AWS::EC2::VPC}
  Q: {Type: AWS::SQS::Queue, Properties: {DelaySeconds: !GetAtt V.X}}
"""
    tree = bound(text).resources["Q"].properties
    assert evaluate(tree, lambda _: "5") == {"DelaySeconds": 5}
    assert evaluate(tree, lambda _: Unknown("${V.X}")) == {"DelaySeconds": Unknown("${V.X}")}


# ------------------------------------------------------------------------------ parameters

PARAMETERS = """Parameters:
  Env: {Type: String, AllowedValues: [test, production]}
  Port: {Type: Number, MinValue: 1, MaxValue: 65535, Default: 80}
  Name: {Type: String, MinLength: 2, MaxLength: 5, Default: abc, AllowedPattern: '[a-z]+'}
  Ports: {Type: List<Number>, Default: '1,2'}
  Vpc: {Type: AWS::EC2::VPC::Id, Default: vpc-12}
  Subnets: {Type: List<AWS::EC2::Subnet::Id>, Default: 'subnet-1a,subnet-2b'}
  Pass: {Type: String, NoEcho: true, MinLength: 8, Default: '12345678', AllowedPattern: '[a-z0-9]+'}
"""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, [("parameter_missing", 7, "Parameters.Env")], id="missing"),
        pytest.param({"Env": "prod"}, [("parameter_value", 7, "Parameters.Env")], id="not allowed"),
        pytest.param(
            {"Env": "test", "Port": "x"}, [("parameter_value", 8, "Parameters.Port")], id="not a number"
        ),
        pytest.param({"Env": "test", "Port": 0}, [("parameter_value", 8, "Parameters.Port")], id="too small"),
        pytest.param(
            {"Env": "test", "Port": "65536"}, [("parameter_value", 8, "Parameters.Port")], id="too large"
        ),
        pytest.param(
            {"Env": "test", "Name": "a"}, [("parameter_value", 9, "Parameters.Name")], id="too short"
        ),
        pytest.param(
            {"Env": "test", "Name": "abcdef"}, [("parameter_value", 9, "Parameters.Name")], id="too long"
        ),
        pytest.param(
            {"Env": "test", "Name": "ab1"}, [("parameter_value", 9, "Parameters.Name")], id="pattern"
        ),
        pytest.param(
            {"Env": "test", "Name": "abc\n"}, [("parameter_value", 9, "Parameters.Name")], id="line end"
        ),
        pytest.param({"Env": "test", "Name": {}}, [("parameter_value", 9, "Parameters.Name")], id="a map"),
        pytest.param(
            {"Env": "test", "Name": ["abc"]}, [("parameter_value", 9, "Parameters.Name")], id="a list"
        ),
        pytest.param(
            {"Env": "test", "Port": float("nan")}, [("parameter_value", 8, "Parameters.Port")], id="NaN"
        ),
        pytest.param(
            {"Env": "test", "Ports": ["1", "x"]}, [("parameter_value", 10, "Parameters.Ports")], id="item"
        ),
        pytest.param(
            {"Env": "test", "Vpc": "subnet-1"}, [("parameter_value", 11, "Parameters.Vpc")], id="wrong id"
        ),
        pytest.param(
            {"Env": "test", "Subnets": "subnet-1,x"},
            [("parameter_value", 12, "Parameters.Subnets")],
            id="ids",
        ),
        pytest.param(
            {"Env": "test", "Envy": 1}, [("unknown_parameter", None, "Parameters.Envy")], id="unknown"
        ),
        pytest.param(
            {"Env": "{{resolve:ssm:x}}"}, [("parameter_value", 7, "Parameters.Env")], id="dynamic reference"
        ),
        pytest.param(
            {"Env": "test", "Port": "443", "Ports": [1, 2], "Subnets": ["subnet-1"]}, [], id="all well"
        ),
    ],
)
def test_parameter_values_are_checked(values: dict[str, Any], expected: list[Any]) -> None:
    assert faults(topic("x", PARAMETERS), values) == expected


@pytest.mark.parametrize(
    "declaration",
    [
        "{Type: AWS::SSM::Parameter::Value<String>}",
        "{Type: Sting}",
        "{}",
        "text",
        "{Type: String, AllowedPattern: '('}",
        "{Type: String, AllowedValues: a}",
        "{Type: String, MinLength: many}",
        "{Type: String, NoEcho: perhaps}",
        "{Type: String, Default: [a]}",
        "{Type: String, Defualt: a}",
    ],
)
def test_faulty_declarations_are_faults_and_not_crashes(declaration: str) -> None:
    text = topic("!Ref P", f"Parameters:\n  P: {declaration}\n")
    assert faults(text) == [("parameter_declaration", 7, "Parameters.P")]


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        pytest.param(r"[\w-\.]+@[\w-]+\.[a-z]{2,4}", "a.b-c@d-e.com", "a b@c.de", id="an address"),
        pytest.param(r"[\d-.]+", "1-2.3", "1x2", id="digits"),
        pytest.param(r"\w-\w", "a-b", "ab", id="outside of brackets"),
    ],
)
def test_a_hyphen_behind_a_class_stands_for_itself_as_in_java(pattern: str, good: str, bad: str) -> None:
    text = topic("!Ref P", f"Parameters: {{P: {{Type: String, AllowedPattern: '{pattern}'}}}}")
    assert faults(text, {"P": good}) == []
    assert faults(text, {"P": bad}) == [("parameter_value", 6, "Parameters.P")]


def test_a_pattern_cannot_hang_us() -> None:
    text = topic("!Ref P", "Parameters: {P: {Type: String, AllowedPattern: '(a|a)*(?=x)b'}}")
    assert faults(text, {"P": "a" * 5000}) == [("parameter_value", 6, "Parameters.P")]


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "value",
    [
        "!Ref P",
        "!Sub 'x${P}'",
        "!Join ['', [a, !Ref P]]",
        "!Select [0, !Split ['2', !Ref P]]",
        "!Base64 {Ref: P}",
    ],
    ids=["Ref", "Sub", "Join", "Split", "Base64"],
)
def test_secret_values_reach_aws_but_never_show(value: str) -> None:
    text = topic(value, "Parameters: {P: {Type: String, NoEcho: true}}")
    result = bound(text, {"P": SECRET})
    found = result.resources["T"].properties["DisplayName"]
    assert isinstance(found, Secret)
    assert "****" in repr(result.resources["T"])
    assert "hunter" not in repr(result)
    assert mask(result.resources["T"].properties) == {"DisplayName": "****"}
    assert f"{found}" == "****"
    assert "hunter" in bound(text, {"P": SECRET}).resources["T"].properties[
        "DisplayName"
    ] or value.startswith("!B")


@pytest.mark.parametrize(
    "declaration",
    [
        "{Type: String, NoEcho: true, MinLength: 99}",
        "{Type: String, NoEcho: true, AllowedPattern: x, ConstraintDescription: not hunter2-hunter2}",
        "{Type: Number, NoEcho: true}",
        "{Type: String, NoEcho: 'true', AllowedValues: [a]}",
    ],
)
def test_faults_never_quote_a_secret(declaration: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        bound(topic("!Ref P", f"Parameters: {{P: {declaration}}}"), {"P": SECRET})
    assert "hunter" not in json.dumps(caught.value.problem())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param('{"A": "x", "B": 5}', {"A": "x", "B": 5}, id="a JSON map"),
        pytest.param("A: x\nB: [1, 2]\nC: 1.10", {"A": "x", "B": [1, 2], "C": "1.10"}, id="a YAML map"),
        pytest.param(
            '[{"ParameterKey": "A", "ParameterValue": "x"}]', {"A": "x"}, id="CloudFormation's list"
        ),
        pytest.param('{"Parameters": {"A": "x"}, "Tags": {"t": "u"}}', {"A": "x"}, id="CodePipeline's"),
        pytest.param(
            '{"Parameters": "x", "B": "y"}', {"Parameters": "x", "B": "y"}, id="one that is named so"
        ),
        pytest.param("{}", {}, id="none"),
    ],
)
def test_parameter_files_are_read_in_three_forms(data: str, expected: dict[str, Any]) -> None:
    assert load_parameters(data.encode()) == expected


@pytest.mark.parametrize(
    "data",
    [
        "",
        "just text",
        "[1]",
        '[{"ParameterKey": "A"}]',
        "{",
        "A: 1\nA: 2",
        '[{"ParameterKey": "A", "ParameterValue": 1}, {"ParameterKey": "A", "ParameterValue": 1}]',
    ],
)
def test_faulty_parameter_files_are_refused(data: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        load_parameters(data.encode())
    assert "parameters file" in caught.value.message


# ------------------------------------------------------------------------------ properties

NAMES = st.sampled_from(["P", "Q", "AWS::Region", "R", "R.Arn", "S"])
TEXTS = st.text(st.sampled_from("abc-/ "), max_size=4)


def expressions() -> st.SearchStrategy[Any]:
    """Random text-valued expressions over two parameters and two resources."""
    leaf = TEXTS | NAMES.map(lambda name: {"Fn::GetAtt": name.split(".")} if "." in name else {"Ref": name})

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return (
            st.tuples(TEXTS, st.lists(inner, min_size=1, max_size=3)).map(
                lambda a: {"Fn::Join": [a[0], a[1]]}
            )
            | st.tuples(inner, inner, st.booleans()).map(
                lambda a: {"Fn::If": ["Yes" if a[2] else "No", a[0], a[1]]}
            )
            | st.lists(inner, min_size=2, max_size=3).map(
                lambda items: {"Fn::Select": [len(items) - 1, items]}
            )
            | st.tuples(st.sampled_from("-/ab"), inner).map(
                lambda a: {"Fn::Select": [0, {"Fn::Split": [a[0], a[1]]}]}
            )
            | st.tuples(inner, NAMES).map(lambda a: {"Fn::Sub": ["${V}-${" + a[1] + "}${!x}", {"V": a[0]}]})
            | inner.map(lambda a: {"Fn::Base64": a})
        )

    return st.recursive(leaf, grow, max_leaves=8)


PLAIN = {"P": "p/1", "Q": "q-2", "AWS::Region": "us-east-1", "R": "r/3", "R.Arn": "arn-4", "S": "s5"}


def naive(node: Any) -> Any:
    """The value of an expression, the plainest way."""
    import base64

    if isinstance(node, str):
        return node
    ((name, argument),) = node.items()
    if name == "Ref":
        return PLAIN[argument]
    if name == "Fn::GetAtt":
        return PLAIN[".".join(argument)]
    if name == "Fn::Join":
        return argument[0].join(naive(item) for item in argument[1])
    if name == "Fn::If":
        return naive(argument[1] if argument[0] == "Yes" else argument[2])
    if name == "Fn::Select":
        items = argument[1]
        if isinstance(items, dict):
            separator, text = items["Fn::Split"]
            return naive(text).split(separator)[argument[0]]
        return naive(items[argument[0]])
    if name == "Fn::Sub":
        text = argument[0].replace("${!x}", "\1").replace("${V}", naive(argument[1]["V"]) + "\2", 1)
        head, tail = text.split("\2-${")
        return head + "-" + PLAIN[tail.split("}")[0]] + "${x}"
    return base64.b64encode(naive(argument).encode()).decode()


def random_template(expression: Any) -> dict[str, Any]:
    return {
        "Parameters": {"P": {"Type": "String", "Default": "p/1"}, "Q": {"Type": "String", "Default": "q-2"}},
        "Conditions": {"Yes": {"Fn::Equals": ["a", "a"]}, "No": {"Fn::Equals": ["a", "b"]}},
        "Resources": {
            "R": {"Type": "AWS::SNS::Topic"},
            "S": {"Type": "AWS::SQS::Queue"},
            "T": {
                "Type": "AWS::SNS::Topic",
                "Properties": {"DisplayName": expression, "Tags": [{"Key": expression}]},
            },
        },
    }


@given(expressions())
@settings(max_examples=150, deadline=None)
def test_binding_then_evaluating_equals_the_plain_meaning(expression: Any) -> None:
    resource = bound(json.dumps(random_template(expression))).resources["T"]
    found = evaluate(
        resource.properties,
        lambda ref: PLAIN[f"{ref.logical_id}.{ref.attribute}" if ref.attribute else ref.logical_id],
    )
    assert found == {"DisplayName": naive(expression), "Tags": [{"Key": naive(expression)}]}
    assert resource.dynamic == bool(references(resource.properties))
    assert set(resource.depends_on) == {ref.logical_id for ref in references(resource.properties)}


@given(expressions())
@settings(max_examples=60, deadline=None)
def test_json_and_yaml_of_the_same_template_bind_equally(expression: Any) -> None:
    template = random_template(expression)
    from_yaml = bound(yaml.safe_dump(template))
    from_json = bound(json.dumps(template, indent=2))
    assert [r.properties for r in from_yaml.resources.values()] == [
        from_json.resources[name].properties for name in from_yaml.resources
    ]


@given(expressions())
@settings(max_examples=60, deadline=None)
def test_unknown_references_make_unknown_values_and_nothing_else(expression: Any) -> None:
    resource = bound(json.dumps(random_template(expression))).resources["T"]
    found = evaluate(resource.properties, lambda ref: Unknown(f"${{{ref.logical_id}}}", fresh=False))
    assert isinstance(found["DisplayName"], Unknown if resource.dynamic else str)
    if isinstance(found["DisplayName"], Unknown):
        assert not found["DisplayName"].fresh
