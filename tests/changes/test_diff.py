"""What a plan says for one resource and for resources that depend on each other."""

import copy
import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes import diff
from fairlead.changes.graph import CycleFound
from fairlead.changes.intrinsics import Join, Secret
from fairlead.changes.model import Action, Change, Desired, Recorded, Reference, Replacement, Unknown, Via
from fairlead.changes.secrets import Vault
from fairlead.changes.state import seal
from tests.changes.plan_factory import desired, only, plan, recorded, registry

VPC, SUBNET, INSTANCE, BUCKET = "EC2::VPC", "EC2::Subnet", "EC2::Instance", "S3::Bucket"
ALARM, QUEUE, ROLE, TABLE = "CloudWatch::Alarm", "SQS::Queue", "IAM::Role", "DynamoDB::Table"


def shown(change: Change) -> list[tuple[str, Any, Any, bool]]:
    return [(p.path, p.before, p.after, p.drift) for p in change.properties]


# --- one resource: what was asked for against what is wanted ------------------------------------


def trust(action: str | list[str]) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": action}
    return {"Version": "2012-10-17", "Statement": [statement]}


TRUST, TRUST_AS_LIST, TRUST_OTHER = trust("sts:AssumeRole"), trust(["sts:AssumeRole"]), trust(["sts:*"])
TRUST_TEXT = (
    '{"Version": "2012-10-17", "Statement": [{"Action": "sts:AssumeRole", "Effect": "Allow",'
    ' "Principal": {"Service": "ec2.amazonaws.com"}}]}'
)


@pytest.mark.parametrize(
    ("type_name", "was", "now"),
    [
        pytest.param(VPC, {"CidrBlock": "10.0.0.0/16"}, {"CidrBlock": "10.0.0.0/16"}, id="equal"),
        pytest.param(QUEUE, {"DelaySeconds": 5}, {"DelaySeconds": "5"}, id="a number and its text"),
        pytest.param(QUEUE, {"DelaySeconds": 5}, {"DelaySeconds": 5.0}, id="an integer and a whole float"),
        pytest.param(
            VPC, {"EnableDnsSupport": True}, {"EnableDnsSupport": "true"}, id="a boolean and its text"
        ),
        pytest.param(
            ROLE,
            {"AssumeRolePolicyDocument": TRUST},
            {"AssumeRolePolicyDocument": TRUST_TEXT},
            id="a policy and its text",
        ),
        pytest.param(
            ROLE,
            {"AssumeRolePolicyDocument": TRUST},
            {"AssumeRolePolicyDocument": TRUST_AS_LIST},
            id="one action and a list of it",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}]},
            {"Tags": [{"Key": "B", "Value": "2"}, {"Key": "A", "Value": "1"}]},
            id="tags in another order",
        ),
        pytest.param(
            ALARM,
            {"Dimensions": [{"Name": "a", "Value": "1"}, {"Name": "b", "Value": "2"}]},
            {"Dimensions": [{"Name": "b", "Value": "2"}, {"Name": "a", "Value": "1"}]},
            id="an unordered array in another order",
        ),
        pytest.param(
            "EC2::SecurityGroup",
            {"SecurityGroupIngress": [{"IpProtocol": "6", "FromPort": 22, "ToPort": 22}]},
            {"SecurityGroupIngress": [{"IpProtocol": "TCP", "FromPort": 22, "ToPort": 22}]},
            id="a protocol by number and by name",
        ),
        pytest.param(
            "Lambda::Function",
            {"VpcConfig": {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1", "sg-2"]}},
            {"VpcConfig": {"SubnetIds": ["subnet-2", "subnet-1"], "SecurityGroupIds": ["sg-2", "sg-1"]}},
            id="subnets and groups in another order, of which the schema says nothing",
        ),
        pytest.param(
            "RDS::DBInstance", {"Engine": "MySQL"}, {"Engine": "mysql"}, id="a transform that lowers"
        ),
    ],
)
def test_what_means_the_same_is_no_change(type_name: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    made = plan([desired("It", type_name, **now)], [recorded("It", type_name, **was)])
    assert made.changes == ()
    assert made.unchanged == 1


@pytest.mark.parametrize(
    ("type_name", "was", "now", "expected"),
    [
        pytest.param(
            QUEUE, {"DelaySeconds": 5}, {"DelaySeconds": 6}, [("DelaySeconds", 5, 6, False)], id="a value"
        ),
        pytest.param(
            QUEUE, {}, {"DelaySeconds": 0}, [("DelaySeconds", None, 0, False)], id="a property added"
        ),
        pytest.param(
            QUEUE, {"DelaySeconds": 5}, {}, [("DelaySeconds", 5, None, False)], id="a property removed"
        ),
        pytest.param(
            "SSM::Parameter",
            {"Value": '{"a": 1}'},
            {"Value": '{"a":1}'},
            [("Value", '{"a": 1}', '{"a":1}', False)],
            id="text that happens to be JSON is text",
        ),
        pytest.param(
            QUEUE,
            {"KmsMasterKeyId": "Alias/A"},
            {"KmsMasterKeyId": "alias/a"},
            [("KmsMasterKeyId", "Alias/A", "alias/a", False)],
            id="case, where no transform folds it",
        ),
        pytest.param(
            ROLE,
            {"AssumeRolePolicyDocument": TRUST},
            {"AssumeRolePolicyDocument": TRUST_OTHER},
            [("AssumeRolePolicyDocument.Statement.0.Action", "sts:AssumeRole", ["sts:*"], False)],
            id="another action in a policy, by its place",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}]},
            {"Tags": [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "3"}]},
            [("Tags.1.Value", "2", "3", False)],
            id="one tag's value, by its place",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}]},
            {"Tags": [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}]},
            [
                (
                    "Tags",
                    [{"Key": "A", "Value": "1"}],
                    [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}],
                    False,
                )
            ],
            id="one tag more, as a whole",
        ),
        pytest.param(
            INSTANCE,
            {"SecurityGroupIds": ["sg-1", "sg-2"]},
            {"SecurityGroupIds": ["sg-2", "sg-3"]},
            [("SecurityGroupIds", ["sg-1", "sg-2"], ["sg-2", "sg-3"], False)],
            id="a set whose members move, as a whole",
        ),
        pytest.param(
            "Lambda::Function",
            {"Environment": {"Variables": {"A": "1", "B": "2"}}},
            {"Environment": {"Variables": {"A": "1", "B": "3"}}},
            [("Environment.Variables.B", "2", "3", False)],
            id="deep inside a map",
        ),
    ],
)
def test_what_differs_is_an_update_property_by_property(
    type_name: str, was: dict[str, Any], now: dict[str, Any], expected: list[tuple[str, Any, Any, bool]]
) -> None:
    change = only(plan([desired("It", type_name, **now)], [recorded("It", type_name, **was)]))
    assert change.action is Action.UPDATE
    assert shown(change) == expected
    assert change.identifier == "it-1"


@pytest.mark.parametrize(
    ("type_name", "was", "now", "action", "replacement"),
    [
        pytest.param(
            VPC,
            {"CidrBlock": "10.0.0.0/16"},
            {"CidrBlock": "10.1.0.0/16"},
            "replace",
            "always",
            id="create-only",
        ),
        pytest.param(
            VPC, {"EnableDnsSupport": True}, {"EnableDnsSupport": False}, "update", "never", id="mutable"
        ),
        pytest.param(
            INSTANCE,
            {"InstanceType": "t3.micro"},
            {"InstanceType": "t3.large"},
            "update",
            "conditional",
            id="conditional",
        ),
        pytest.param(
            INSTANCE,
            {"InstanceType": "t3.micro", "ImageId": "ami-1"},
            {"InstanceType": "t3.large", "ImageId": "ami-2"},
            "replace",
            "always",
            id="the strictest of several wins",
        ),
        pytest.param(
            VPC, {"CidrBlock": "10.0.0.0/16"}, {}, "replace", "always", id="a create-only property removed"
        ),
        pytest.param(
            INSTANCE,
            {"CpuOptions": {"CoreCount": 1}},
            {"CpuOptions": {"CoreCount": 2}},
            "replace",
            "always",
            id="inside a create-only property",
        ),
        pytest.param(
            "SNS::Subscription",
            {"Protocol": "sqs", "RawMessageDelivery": True},
            {"Protocol": "sqs", "RawMessageDelivery": False},
            "update",
            "never",
            id="beside a create-only property",
        ),
    ],
)
def test_replacement_follows_the_schema(
    type_name: str, was: dict[str, Any], now: dict[str, Any], action: str, replacement: str
) -> None:
    change = only(plan([desired("It", type_name, **now)], [recorded("It", type_name, **was)]))
    assert (change.action.value, change.replacement.value) == (action, replacement)


CIDR = {"ServiceIpv4Cidr": "10.100.0.0/16"}
BALANCER = {"ElasticLoadBalancing": {"Enabled": False}}


@pytest.mark.parametrize(
    ("was", "now", "replacement"),
    [
        pytest.param(None, CIDR, "always", id="it comes with the value"),
        pytest.param(CIDR, None, "always", id="it goes with the value"),
        pytest.param(None, BALANCER, "never", id="the value comes without it"),
        pytest.param(CIDR, {**CIDR, **BALANCER}, "never", id="something beside it comes"),
        pytest.param(CIDR, {**BALANCER}, "always", id="it goes, something beside it comes"),
        pytest.param(None, Unknown("X"), "conditional", id="nobody knows yet what comes"),
    ],
)
def test_a_whole_value_replaces_where_its_create_only_part_changes(
    was: Any, now: Any, replacement: str
) -> None:
    before, after = ({} if v is None else {"KubernetesNetworkConfig": v} for v in (was, now))
    change = only(plan([desired("It", "EKS::Cluster", **after)], [recorded("It", "EKS::Cluster", **before)]))
    assert change.replacement.value == replacement


def test_a_replacement_names_the_property_that_forces_it() -> None:
    was = recorded("Net", VPC, CidrBlock="10.0.0.0/16", EnableDnsSupport=True)
    change = only(plan([desired("Net", VPC, CidrBlock="10.1.0.0/16", EnableDnsSupport=False)], [was]))
    forcing = [p.path for p in change.properties if p.replacement is Replacement.ALWAYS]
    assert forcing == ["CidrBlock"]
    assert "replaced: CidrBlock cannot change in place" in change.notes


def test_a_type_that_cannot_be_updated_is_replaced_whatever_changes() -> None:
    kind = registry().get("AWS::EC2::VPCCidrBlock")
    assert kind.has_cloud_control
    assert "update" not in kind.handlers
    was = recorded("More", "EC2::VPCCidrBlock", VpcId="vpc-1", CidrBlock="10.2.0.0/16")
    change = only(plan([desired("More", "EC2::VPCCidrBlock", VpcId="vpc-1", CidrBlock="10.3.0.0/16")], [was]))
    assert change.action is Action.REPLACE
    assert all(p.replacement is Replacement.ALWAYS for p in change.properties)


# --- creating, deleting, keeping ------------------------------------------------------------------


def test_a_new_resource_is_created_with_all_its_properties() -> None:
    change = only(plan([desired("Net", VPC, CidrBlock="10.0.0.0/16", EnableDnsSupport=True)], []))
    assert (change.action, change.replacement, change.identifier) == (Action.CREATE, Replacement.NEVER, None)
    assert shown(change) == [
        ("CidrBlock", None, "10.0.0.0/16", False),
        ("EnableDnsSupport", None, True, False),
    ]


def test_what_the_template_no_longer_holds_is_deleted() -> None:
    change = only(plan([], [recorded("Q", QUEUE, DelaySeconds=5)]))
    assert (change.action, change.retain, change.identifier) == (Action.DELETE, False, "q-1")
    assert shown(change) == [("DelaySeconds", 5, None, False)]


@pytest.mark.parametrize(
    ("policy", "retain", "note"),
    [
        ("Retain", True, "stays in AWS"),
        ("RetainExceptOnCreate", True, "stays in AWS"),
        ("Snapshot", False, "snapshot"),
        ("Delete", False, ""),
    ],
)
def test_deletion_follows_the_recorded_policy(policy: str, retain: bool, note: str) -> None:
    change = only(plan([], [recorded("Data", TABLE, policy=policy)]))
    assert (change.action, change.retain) == (Action.DELETE, retain)
    assert any(note in text for text in change.notes) if note else not change.notes


@pytest.mark.parametrize(
    ("type_name", "note"),
    [
        ("RDS::DBInstance", "a last snapshot is taken before"),
        (TABLE, "AWS::DynamoDB::Table has no snapshots"),
    ],
)
def test_the_plan_says_whether_a_last_snapshot_is_possible(type_name: str, note: str) -> None:
    new = desired("Data", "RDS::DBInstance", on_replace="Snapshot", DBInstanceIdentifier="b")
    change = only(plan([new], [recorded("Data", type_name, DBInstanceIdentifier="a")]))
    assert change.action is Action.REPLACE
    assert any(note in text for text in change.notes)


def test_a_resource_deleted_outside_is_made_again() -> None:
    made = plan([desired("Q", QUEUE, DelaySeconds=5)], [recorded("Q", QUEUE, DelaySeconds=5)], {"Q": None})
    change = only(made)
    assert change.action is Action.CREATE
    assert change.notes == ("q-1 is gone from AWS: it was deleted outside Fairlead and is made again",)
    assert made.fingerprints == {}


def test_a_deletion_of_what_is_already_gone_says_so() -> None:
    change = only(plan([], [recorded("Q", QUEUE)], {"Q": None}))
    assert change.action is Action.DELETE
    assert "already gone" in change.notes[0]


def test_another_type_under_the_same_id_is_a_replacement() -> None:
    change = only(plan([desired("Store", TABLE, TableName="t")], [recorded("Store", QUEUE, QueueName="q")]))
    assert (change.action, change.replacement) == (Action.REPLACE, Replacement.ALWAYS)
    assert (change.type, change.previous_type) == ("AWS::DynamoDB::Table", "AWS::SQS::Queue")
    assert shown(change) == [("QueueName", "q", None, False), ("TableName", None, "t", False)]


@pytest.mark.parametrize(("policy", "retain"), [("Retain", True), ("Snapshot", False), ("Delete", False)])
def test_a_replacement_follows_the_new_update_replace_policy(policy: str, retain: bool) -> None:
    wanted = desired("Data", TABLE, on_replace=policy, TableName="b")
    change = only(plan([wanted], [recorded("Data", TABLE, TableName="a", on_replace=policy)]))
    assert (change.action, change.retain) == (Action.REPLACE, retain)
    assert any(policy in note for note in change.notes) == (policy != "Delete")


def test_a_changed_policy_alone_is_recorded_because_it_decides_about_a_later_deletion() -> None:
    made = plan(
        [desired("Data", TABLE, policy="Retain", TableName="a")], [recorded("Data", TABLE, TableName="a")]
    )
    change = only(made)
    assert (change.action, change.properties) == (Action.UPDATE, ())
    assert change.notes == (
        "DeletionPolicy changes from Delete to Retain",
        "recorded only: nothing is sent to AWS",
    )


@pytest.mark.parametrize(
    ("type_name", "was", "now", "first"),
    [
        pytest.param(
            TABLE, {"TableName": "t", "SSESpecification": {}}, {"TableName": "u"}, False, id="another name"
        ),
        pytest.param(
            "Logs::LogGroup",
            {"LogGroupName": "g"},
            {"LogGroupName": "h"},
            False,
            id="the name itself changes",
        ),
        pytest.param(
            "SNS::Topic",
            {"TopicName": "t", "FifoTopic": False},
            {"TopicName": "t", "FifoTopic": True},
            False,
            id="the identifier is an ARN that AWS makes",
        ),
        pytest.param(
            "Lambda::Function",
            {"FunctionName": "f", "PackageType": "Zip"},
            {"FunctionName": "f", "PackageType": "Image"},
            True,
            id="one fixed name for both",
        ),
        pytest.param(
            "Lambda::Function",
            {"PackageType": "Zip"},
            {"PackageType": "Image"},
            False,
            id="a name that AWS makes",
        ),
        pytest.param(
            "EC2::SubnetRouteTableAssociation",
            {"SubnetId": "a", "RouteTableId": "r"},
            {"SubnetId": "a", "RouteTableId": "s"},
            True,
            id="the schema says delete, then create",
        ),
    ],
)
def test_the_old_one_goes_first_only_where_both_cannot_stand(
    type_name: str, was: dict[str, Any], now: dict[str, Any], first: bool
) -> None:
    change = only(plan([desired("It", type_name, **now)], [recorded("It", type_name, **was)]))
    assert (change.action, change.delete_first) == (Action.REPLACE, first)


def test_a_retained_predecessor_with_the_same_fixed_name_is_announced_as_a_clash() -> None:
    was = recorded("F", "Lambda::Function", on_replace="Retain", FunctionName="f", PackageType="Zip")
    wanted = desired("F", "Lambda::Function", on_replace="Retain", FunctionName="f", PackageType="Image")
    change = only(plan([wanted], [was]))
    assert (change.retain, change.delete_first) == (True, False)
    assert any("AWS will refuse the new one" in note for note in change.notes)


def test_a_type_without_cloud_control_handlers_announces_its_fallback() -> None:
    assert not registry().get("AWS::EC2::NetworkAclEntry").has_cloud_control
    change = only(
        plan([desired("Rule", "EC2::NetworkAclEntry", NetworkAclId="acl-1", RuleNumber=1, Protocol=6)], [])
    )
    assert change.via is Via.CLOUDFORMATION
    assert any("no Cloud Control handlers" in note for note in change.notes)
    assert any("CloudFormation" in reason for reason in change.risk.reasons) if change.risk else False


def test_a_deletion_goes_the_way_the_resource_was_made() -> None:
    change = only(plan([], [recorded("Rule", "EC2::NetworkAclEntry", via=Via.CLOUDFORMATION)]))
    assert change.via is Via.CLOUDFORMATION


# --- drift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_name", "declared", "observed", "live", "expected"),
    [
        pytest.param(
            QUEUE,
            {"DelaySeconds": 5},
            {},
            {"DelaySeconds": 9},
            [("DelaySeconds", 9, 5, True)],
            id="a value moved",
        ),
        pytest.param(
            QUEUE,
            {"DelaySeconds": 5},
            {},
            {"DelaySeconds": 5, "VisibilityTimeout": 30},
            [],
            id="a default shows up",
        ),
        pytest.param(
            QUEUE,
            {"DelaySeconds": 5},
            {"VisibilityTimeout": 30},
            {"VisibilityTimeout": 60},
            [],
            id="undeclared moves",
        ),
        pytest.param(
            QUEUE,
            {"DelaySeconds": 5},
            {"DelaySeconds": "5"},
            {"DelaySeconds": 5},
            [],
            id="only its form moves",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}]},
            {},
            {"Tags": [{"Key": "aws:cloudformation:stack-id", "Value": "x"}, {"Key": "A", "Value": "1"}]},
            [],
            id="AWS adds a tag of its own",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}]},
            {},
            {"Tags": [{"Key": "A", "Value": "2"}]},
            [("Tags.0.Value", "2", "1", True)],
            id="a tag is changed by hand",
        ),
        pytest.param(
            VPC,
            {"Tags": [{"Key": "A", "Value": "1"}]},
            {},
            {"Tags": [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}]},
            [
                (
                    "Tags",
                    [{"Key": "A", "Value": "1"}, {"Key": "B", "Value": "2"}],
                    [{"Key": "A", "Value": "1"}],
                    True,
                )
            ],
            id="a tag is added by hand",
        ),
        pytest.param(
            "EC2::SecurityGroup",
            {
                "SecurityGroupIngress": [
                    {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.0.0.0/8"}
                ]
            },
            {},
            {"SecurityGroupIngress": []},
            [
                (
                    "SecurityGroupIngress",
                    [],
                    [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.0.0.0/8"}],
                    True,
                )
            ],
            id="a rule is removed by hand",
        ),
        pytest.param(
            "RDS::DBInstance",
            {"MasterUserPassword": "x"},
            {},
            {"MasterUserPassword": None},
            [],
            id="write-only never drifts",
        ),
        pytest.param(
            "RDS::DBInstance",
            {"Engine": "mysql"},
            {},
            {"LatestRestorableTime": "later"},
            [],
            id="read-only moves by itself",
        ),
    ],
)
def test_drift_shows_where_the_template_declares_something(
    type_name: str,
    declared: dict[str, Any],
    observed: dict[str, Any],
    live: dict[str, Any],
    expected: list[tuple[str, Any, Any, bool]],
) -> None:
    known = recorded("It", type_name, observed=observed, **declared)
    made = plan([desired("It", type_name, **declared)], [known], {"It": {**known.observed, **live}})
    assert [item for change in made.changes for item in shown(change)] == expected


def test_a_value_removed_outside_is_put_back() -> None:
    known = recorded("Q", QUEUE, DelaySeconds=5)
    change = only(plan([desired("Q", QUEUE, DelaySeconds=5)], [known], {"Q": {}}))
    assert shown(change) == [("DelaySeconds", None, 5, True)]
    assert "changed outside Fairlead: DelaySeconds" in change.notes


def test_what_aws_never_answered_is_no_drift() -> None:
    known = Recorded(
        logical_id="Q", type="AWS::SQS::Queue", identifier="q", properties={"DelaySeconds": 5}, observed={}
    )
    assert plan([desired("Q", QUEUE, DelaySeconds=5)], [known], {"Q": {"Arn": "arn"}}).changes == ()


def test_drift_to_what_the_template_wants_now_shows_the_live_value() -> None:
    change = only(
        plan(
            [desired("Q", QUEUE, DelaySeconds=7)],
            [recorded("Q", QUEUE, DelaySeconds=5)],
            {"Q": {"DelaySeconds": 9}},
        )
    )
    assert shown(change) == [("DelaySeconds", 9, 7, True)]


@pytest.mark.parametrize(
    ("now", "live"),
    [
        pytest.param({"DelaySeconds": 9}, {"DelaySeconds": 9}, id="a value"),
        pytest.param({"DelaySeconds": 9}, {"DelaySeconds": "9"}, id="a value in another form"),
        pytest.param({}, {}, id="a removal"),
    ],
)
def test_what_was_already_done_by_hand_needs_no_change(now: dict[str, Any], live: dict[str, Any]) -> None:
    known = recorded("Q", QUEUE, DelaySeconds=5)
    assert plan([desired("Q", QUEUE, **now)], [known], {"Q": live}).changes == ()


@pytest.mark.parametrize("name", ["AlarmActions", "Dimensions"])
def test_drift_in_an_array_shows_only_the_item_that_moved(name: str) -> None:
    a, b, c = ({"Name": each, "Value": "1"} if name == "Dimensions" else each for each in "abc")
    was: dict[str, Any] = {name: [a, b]}
    now: dict[str, Any] = {name: [b, a]}
    change = only(plan([desired("A", ALARM, **now)], [recorded("A", ALARM, **was)], {"A": {name: [b, c]}}))
    values = [(p.path, p.before, p.after, p.drift) for p in change.properties]
    assert values in ([(f"{name}.1", c, a, True)], [(f"{name}.1.Name", "c", "a", True)])


def test_drift_to_exactly_what_is_wanted_needs_no_change() -> None:
    wanted = desired(
        "G", "EC2::SecurityGroup", GroupDescription="g", SecurityGroupIngress=[{"IpProtocol": "tcp"}]
    )
    known = recorded(
        "G", "EC2::SecurityGroup", GroupDescription="g", SecurityGroupIngress=[{"IpProtocol": "tcp"}]
    )
    live = {**known.observed, "SecurityGroupIngress": [{"IpProtocol": "tcp", "Description": ""}]}
    assert plan([wanted], [known], {"G": live}).changes == ()


# --- references -----------------------------------------------------------------------------------

NET = desired("Net", VPC, CidrBlock="10.0.0.0/16")
SUB = desired("Sub", SUBNET, VpcId=Reference("Net"), CidrBlock="10.0.1.0/24")
KNOWN_NET = recorded("Net", VPC, identifier="vpc-1", observed={"VpcId": "vpc-1"}, CidrBlock="10.0.0.0/16")
KNOWN_SUB = recorded(
    "Sub", SUBNET, identifier="subnet-1", depends_on=("Net",), VpcId="vpc-1", CidrBlock="10.0.1.0/24"
)


def test_references_to_new_resources_are_known_after_apply() -> None:
    made = plan([SUB, NET], [])
    assert [c.logical_id for c in made.changes] == ["Net", "Sub"]
    assert made.changes[1].properties[1].after == Unknown("Net", fresh=True)


def test_references_to_what_stands_are_its_identifier() -> None:
    assert plan([SUB, NET], [KNOWN_NET, KNOWN_SUB]).changes == ()


def test_a_replacement_spreads_through_create_only_references() -> None:
    made = plan([desired("Net", VPC, CidrBlock="10.9.0.0/16"), SUB], [KNOWN_NET, KNOWN_SUB])
    assert [(c.logical_id, c.action.value) for c in made.changes] == [("Net", "replace"), ("Sub", "replace")]
    assert shown(made.changes[1]) == [("VpcId", "vpc-1", Unknown("Net", fresh=True), False)]


def test_a_replacement_updates_those_that_refer_to_it_from_a_mutable_property() -> None:
    topic, alarm = (
        desired("T", "SNS::Topic", TopicName="new"),
        desired("A", ALARM, AlarmActions=[Reference("T")]),
    )
    known = [
        recorded("T", "SNS::Topic", identifier="arn:t", TopicName="old"),
        recorded("A", ALARM, depends_on=("T",), AlarmActions=["arn:t"]),
    ]
    made = plan([topic, alarm], known)
    assert [(c.logical_id, c.action.value) for c in made.changes] == [("T", "replace"), ("A", "update")]


def test_an_update_does_not_touch_those_that_refer_to_an_attribute_that_stays() -> None:
    queue = desired("Q", QUEUE, DelaySeconds=9)
    alarm = desired("A", ALARM, AlarmDescription=Reference("Q", "Arn"))
    known = [
        recorded("Q", QUEUE, observed={"Arn": "arn:q"}, DelaySeconds=5),
        recorded("A", ALARM, depends_on=("Q",), AlarmDescription="arn:q"),
    ]
    assert [c.logical_id for c in plan([queue, alarm], known).changes] == ["Q"]


def test_an_updated_property_reaches_those_that_read_it() -> None:
    group = desired("G", "AutoScaling::AutoScalingGroup", MinSize="1", MaxSize="3")
    alarm = desired("A", ALARM, AlarmDescription=Join("", ["max ", Reference("G", "MaxSize")]))
    known = [
        recorded("G", "AutoScaling::AutoScalingGroup", MinSize="1", MaxSize="2"),
        recorded("A", ALARM, depends_on=("G",), AlarmDescription="max 2"),
    ]
    made = plan([group, alarm], known)
    assert [(c.logical_id, shown(c)) for c in made.changes] == [
        ("G", [("MaxSize", "2", "3", False)]),
        ("A", [("AlarmDescription", "max 2", "max 3", False)]),
    ]


def test_attributes_come_from_what_is_live_now() -> None:
    alarm = desired("A", ALARM, AlarmDescription=Reference("W", "PublicIp"))
    known = [
        recorded("W", INSTANCE, observed={"PublicIp": "1.1.1.1"}, ImageId="ami-1"),
        recorded("A", ALARM, depends_on=("W",), AlarmDescription="1.1.1.1"),
    ]
    live = {"W": {**known[0].observed, "PublicIp": "2.2.2.2"}}
    made = plan([desired("W", INSTANCE, ImageId="ami-1"), alarm], known, live)
    assert [(c.logical_id, shown(c)) for c in made.changes] == [
        ("A", [("AlarmDescription", "1.1.1.1", "2.2.2.2", False)])
    ]


def test_an_attribute_that_aws_has_not_told_counts_as_it_was() -> None:
    known = [
        recorded("Q", QUEUE),
        recorded("A", ALARM, depends_on=("Q",), AlarmDescription="arn:q", Period=60),
    ]
    wanted = [desired("Q", QUEUE), desired("A", ALARM, AlarmDescription=Reference("Q", "Arn"), Period=60)]
    assert plan(wanted, known).changes == ()
    wanted[1] = desired("A", ALARM, AlarmDescription=Reference("Q", "Arn"), Period=120)
    change = only(plan(wanted, known))
    assert shown(change) == [("Period", 60, 120, False)]
    assert "AWS has not told Q.Arn: taken as it was" in change.notes


@pytest.mark.parametrize(
    ("type_name", "identifier", "observed", "expected"),
    [
        pytest.param("EC2::EIP", "1.2.3.4|eipalloc-1", {}, "1.2.3.4", id="one part of several"),
        pytest.param(
            "EC2::EIP", "1.2.3.4|eipalloc-1", {"PublicIp": "5.6.7.8"}, "5.6.7.8", id="as AWS answers it"
        ),
        pytest.param(
            "Events::Rule", "arn:aws:events:::rule/r", {"RuleName": "r"}, "r", id="a name, not the ARN"
        ),
        pytest.param("WAFv2::WebACL", "n|i|REGIONAL", {}, "n|i|REGIONAL", id="all parts"),
        pytest.param(QUEUE, "https://q", {}, "https://q", id="the identifier"),
    ],
)
def test_ref_gives_what_cloudformation_gives(
    type_name: str, identifier: str, observed: dict[str, Any], expected: str
) -> None:
    known = [
        recorded("It", type_name, identifier=identifier, observed=observed),
        recorded("A", ALARM, depends_on=("It",), AlarmDescription="?"),
    ]
    made = plan([desired("It", type_name), desired("A", ALARM, AlarmDescription=Reference("It"))], known)
    assert only(made).properties[0].after == expected


def test_nested_attributes_and_stack_outputs_are_found() -> None:
    known = [
        recorded("Db", "RDS::DBInstance", observed={"Endpoint": {"Address": "db.local", "Port": "3306"}}),
        recorded(
            "St", "CloudFormation::Stack", observed={"Outputs": [{"OutputKey": "K", "OutputValue": "v"}]}
        ),
        recorded("A", ALARM, AlarmDescription="?", AlarmName="?"),
    ]
    alarm = desired(
        "A", ALARM, AlarmDescription=Reference("Db", "Endpoint.Address"), Unit=Reference("St", "Outputs.K")
    )
    made = plan([desired("Db", "RDS::DBInstance"), desired("St", "CloudFormation::Stack"), alarm], known)
    after = {p.path: p.after for p in made.changes[-1].properties}
    assert (after["AlarmDescription"], after["Unit"]) == ("db.local", "v")


# --- order, secrets, digest, fingerprints ---------------------------------------------------------


def test_deletions_come_last_dependants_first() -> None:
    known = [
        recorded("Net", VPC),
        recorded("Sub", SUBNET, depends_on=("Net",)),
        recorded("Web", INSTANCE, depends_on=("Sub",)),
    ]
    made = plan([desired("Q", QUEUE)], known)
    assert [c.logical_id for c in made.changes] == ["Q", "Web", "Sub", "Net"]


def test_a_cycle_is_refused() -> None:
    wanted = [desired("A", QUEUE, depends_on=("B",)), desired("B", QUEUE, depends_on=("A",))]
    with pytest.raises(CycleFound, match="A → B → A"):
        plan(wanted, [])


@pytest.mark.parametrize(
    ("wanted", "known", "path"),
    [
        pytest.param(
            {"MasterUserPassword": "new-pw-1"},
            {"MasterUserPassword": "old-pw-1"},
            "MasterUserPassword",
            id="write-only",
        ),
        pytest.param({"DBName": Secret("new-pw-1")}, {"DBName": "x"}, "DBName", id="NoEcho"),
        pytest.param(
            {"DBName": {"fairlead:secret": "new-pw-1"}},
            {"DBName": {"fairlead:secret": "old-pw-1"}},
            "DBName",
            id="sealed",
        ),
    ],
)
def test_secrets_are_compared_but_never_shown(
    wanted: dict[str, Any], known: dict[str, Any], path: str
) -> None:
    made = plan([desired("Db", "RDS::DBInstance", **wanted)], [recorded("Db", "RDS::DBInstance", **known)])
    assert [p.path for p in only(made).properties] == [path]
    text = repr(made) + str(diff.to_json(made))
    assert "new-pw" not in text
    assert "old-pw" not in text
    other: dict[str, Any] = {
        name: str(value).replace("new-pw-1", "new-pw-2") for name, value in wanted.items()
    }
    again = plan([desired("Db", "RDS::DBInstance", **other)], [recorded("Db", "RDS::DBInstance", **known)])
    assert again.digest != made.digest


def test_a_new_resource_hides_nested_secrets_and_shows_the_rest() -> None:
    user = desired(
        "U", "IAM::User", LoginProfile={"Password": "hunter2-hunter2", "PasswordResetRequired": True}
    )
    change = only(plan([user], []))
    assert change.properties[0].after == {"Password": "****", "PasswordResetRequired": True}


@pytest.mark.parametrize(
    ("type_name", "name", "value", "shown_as"),
    [
        pytest.param(
            "EC2::LaunchTemplate", "LaunchTemplateData", {"ImageId": "ami-1"}, None, id="a template"
        ),
        pytest.param("ElastiCache::ReplicationGroup", "EngineVersion", "7.1", None, id="a version"),
        pytest.param("ElastiCache::ReplicationGroup", "SnapshotArns", ["arn:x"], None, id="ARNs"),
        pytest.param("StepFunctions::StateMachine", "Definition", {"StartAt": "A"}, None, id="a definition"),
        pytest.param("ElastiCache::ReplicationGroup", "AuthToken", "hunter2-hunter2", "****", id="a token"),
        pytest.param("SecretsManager::Secret", "SecretString", "hunter2", "****", id="a secret"),
        pytest.param(
            "OpenSearchService::Domain",
            "AdvancedSecurityOptions",
            {"MasterUserOptions": {"MasterUserPassword": "hunter2"}},
            {"MasterUserOptions": "****"},
            id="options that hold one",
        ),
    ],
)
def test_write_only_values_are_hidden_unless_they_can_be_no_secret(
    type_name: str, name: str, value: Any, shown_as: Any
) -> None:
    change = only(plan([desired("It", type_name, **{name: value})], []))
    assert change.properties[0].after == (value if shown_as is None else shown_as)


def test_what_an_older_record_keeps_sealed_is_compared_by_its_digest() -> None:
    vault, data = Vault(b"k" * 32), {"ImageId": "ami-1"}
    sealed = seal(data, vault._sealing_key(), "It/LaunchTemplateData")
    known = recorded("It", "EC2::LaunchTemplate", LaunchTemplateData=sealed)
    sealer = vault.sealer(registry(), {"It": known})
    same = desired("It", "EC2::LaunchTemplate", LaunchTemplateData=data)
    assert plan([same], [known], seal=sealer).changes == ()
    other = desired("It", "EC2::LaunchTemplate", LaunchTemplateData={"ImageId": "ami-2"})
    assert only(plan([other], [known], seal=sealer)).properties[0].after == "****"


def test_secrets_are_sealed_the_way_the_state_keeps_them() -> None:
    def seal(logical_id: str, type_name: str, properties: dict[str, Any]) -> dict[str, Any]:
        assert (logical_id, type_name) == ("Db", "AWS::RDS::DBInstance")
        return {
            **properties,
            "MasterUserPassword": {"fairlead:secret": f"<{properties['MasterUserPassword']}>"},
        }

    known = recorded("Db", "RDS::DBInstance", MasterUserPassword={"fairlead:secret": "<one>"})
    assert (
        plan([desired("Db", "RDS::DBInstance", MasterUserPassword="one")], [known], seal=seal).changes == ()
    )
    assert only(plan([desired("Db", "RDS::DBInstance", MasterUserPassword="two")], [known], seal=seal))


BASE = [desired("Q", QUEUE, DelaySeconds=7), desired("R", QUEUE, DelaySeconds=Reference("Q", "Arn"))]
BASE_KNOWN = [recorded("Q", QUEUE, DelaySeconds=5), recorded("Old", QUEUE)]


def test_an_identical_replan_has_the_same_digest_whatever_the_order_of_anything() -> None:
    first = plan(BASE, BASE_KNOWN)
    again = plan(BASE[::-1], BASE_KNOWN[::-1], base_version=9, environment="production")
    assert again.digest == first.digest
    assert again.base_version == 9
    assert first.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        pytest.param([desired("Q", QUEUE, DelaySeconds=8), BASE[1]], BASE_KNOWN, id="another value"),
        pytest.param(
            [desired("Q", QUEUE, DelaySeconds="7"), BASE[1]], BASE_KNOWN, id="another form of a value"
        ),
        pytest.param(BASE[:1], BASE_KNOWN, id="a change less"),
        pytest.param(BASE, BASE_KNOWN[:1], id="a deletion less"),
        pytest.param(BASE, [recorded("Q", QUEUE, DelaySeconds=6), BASE_KNOWN[1]], id="another value before"),
        pytest.param(
            BASE,
            [recorded("Q", QUEUE, identifier="other", DelaySeconds=5), BASE_KNOWN[1]],
            id="another resource",
        ),
        pytest.param(BASE, [BASE_KNOWN[0], recorded("Old", QUEUE, policy="Retain")], id="the old one stays"),
        pytest.param(
            [desired("Q", QUEUE, policy="Retain", DelaySeconds=7), BASE[1]], BASE_KNOWN, id="another policy"
        ),
        pytest.param(
            [BASE[0], desired("R", QUEUE, DelaySeconds=Reference("Q", "QueueName"))],
            BASE_KNOWN,
            id="another reference",
        ),
    ],
)
def test_any_other_plan_has_another_digest(wanted: list[Desired], known: list[Recorded]) -> None:
    assert plan(wanted, known).digest != plan(BASE, BASE_KNOWN).digest


def test_a_literal_that_looks_like_an_unknown_has_another_digest() -> None:
    literal = desired("R", QUEUE, DelaySeconds={"expression": "Q.Arn", "fresh": True})
    unknown = desired("R", QUEUE, DelaySeconds=Reference("Q", "Arn"))
    queue = desired("Q", QUEUE)
    assert plan([queue, literal], []).digest != plan([queue, unknown], []).digest


def test_fingerprints_are_of_the_touched_resources_that_were_read() -> None:
    known = [recorded("Q", QUEUE, DelaySeconds=5), recorded("Same", QUEUE), recorded("Old", QUEUE)]
    live = {item.logical_id: item.observed for item in known}
    made = plan(
        [desired("Q", QUEUE, DelaySeconds=6), desired("Same", QUEUE), desired("New", QUEUE)], known, live
    )
    assert set(made.fingerprints) == {"Q", "Old"}


def test_moved_lists_what_changed_or_went_since_but_not_what_moves_by_itself() -> None:
    kind = registry().get("AWS::RDS::DBInstance")
    live = {"Engine": "mysql", "LatestRestorableTime": "1", "Endpoint": {"Address": "a"}}
    seen = {name: diff.fingerprint(live, kind) for name in ("Same", "Later", "Changed", "Gone", "Unread")}
    now = {
        "Same": dict(reversed(live.items())),
        "Later": {**live, "LatestRestorableTime": "2"},
        "Changed": {**live, "Engine": "postgres"},
        "Gone": None,
    }
    assert diff.moved(seen, now, dict.fromkeys(seen, kind)) == ["Changed", "Gone", "Unread"]


def test_planning_leaves_the_garbage_collector_as_it_was() -> None:
    plan(BASE, BASE_KNOWN)
    assert gc.isenabled()
    with pytest.raises(CycleFound):
        plan([desired("A", QUEUE, depends_on=("A",))], [])
    assert gc.isenabled()
    gc.disable()
    try:
        plan(BASE, BASE_KNOWN)
        assert not gc.isenabled()
    finally:
        gc.enable()


# --- offline --------------------------------------------------------------------------------------


def offline(before: list[Desired], after: list[Desired]) -> list[dict[str, Any]]:
    made = diff.diff_templates(
        {r.logical_id: r for r in before}, {r.logical_id: r for r in after}, registry()
    )
    changes: list[dict[str, Any]] = diff.to_json(made)["changes"]
    return changes


def test_two_equal_templates_do_not_differ() -> None:
    assert offline([NET, SUB], [SUB, NET]) == []


def test_the_offline_diff_has_the_documented_form() -> None:
    after = [desired("Net", VPC, CidrBlock="10.9.0.0/16"), SUB, desired("Q", QUEUE, DelaySeconds=1)]
    assert offline([NET, SUB, desired("Old", QUEUE, DelaySeconds=2)], after) == [
        {
            "logical_id": "Net",
            "type": "AWS::EC2::VPC",
            "action": "replace",
            "replacement": "always",
            "properties": [
                {
                    "path": "CidrBlock",
                    "before": "10.0.0.0/16",
                    "after": "10.9.0.0/16",
                    "requires_replacement": True,
                }
            ],
        },
        {
            "logical_id": "Q",
            "type": "AWS::SQS::Queue",
            "action": "create",
            "replacement": "never",
            "properties": [
                {"path": "DelaySeconds", "before": None, "after": 1, "requires_replacement": False}
            ],
        },
        {
            "logical_id": "Sub",
            "type": "AWS::EC2::Subnet",
            "action": "replace",
            "replacement": "always",
            "properties": [
                {
                    "path": "VpcId",
                    "before": "(Net)",
                    "after": "(known after apply: Net)",
                    "requires_replacement": True,
                }
            ],
        },
        {
            "logical_id": "Old",
            "type": "AWS::SQS::Queue",
            "action": "delete",
            "replacement": "never",
            "properties": [
                {"path": "DelaySeconds", "before": 2, "after": None, "requires_replacement": False}
            ],
        },
    ]


def test_offline_a_reference_to_another_resource_is_a_change() -> None:
    other = desired("Other", VPC, CidrBlock="10.2.0.0/16")
    moved = desired("Sub", SUBNET, VpcId=Reference("Other"), CidrBlock="10.0.1.0/24")
    changes = offline([NET, other, SUB], [NET, other, moved])
    assert [(c["logical_id"], c["action"]) for c in changes] == [("Sub", "replace")]
    assert (changes[0]["properties"][0]["before"], changes[0]["properties"][0]["after"]) == (
        "(Net)",
        "(Other)",
    )


def test_offline_a_declared_property_is_known_to_those_that_read_it() -> None:
    def both(size: str) -> list[Desired]:
        group = desired("G", "AutoScaling::AutoScalingGroup", MinSize="1", MaxSize=size)
        return [group, desired("A", ALARM, AlarmDescription=Reference("G", "MaxSize"))]

    changes = offline(both("2"), both("3"))
    assert [(c["logical_id"], c["properties"][0]["after"]) for c in changes] == [("G", "3"), ("A", "3")]


# --- properties -----------------------------------------------------------------------------------

_scalars = st.one_of(st.text(max_size=4), st.integers(-5, 5), st.booleans())
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcXY"), inner, max_size=3),
    max_leaves=6,
)
_properties = st.dictionaries(
    st.sampled_from(["Tags", "DelaySeconds", "QueueName", "RedrivePolicy", "X"]), _values, max_size=4
)


@settings(deadline=None, max_examples=80)
@given(_properties)
def test_a_resource_against_itself_never_changes(properties: dict[str, Any]) -> None:
    assert (
        plan([desired("Q", QUEUE, **properties)], [recorded("Q", QUEUE, **copy.deepcopy(properties))]).changes
        == ()
    )


def put(tree: Any, parts: list[str], value: Any) -> None:
    head = int(parts[0]) if isinstance(tree, list) else parts[0]
    if len(parts) > 1:
        put(tree[head], parts[1:], value)
    elif value is None:
        del tree[head]
    else:
        tree[head] = value


@settings(deadline=None, max_examples=120)
@given(_properties, _properties)
def test_applying_the_after_values_leaves_nothing_to_do(was: dict[str, Any], now: dict[str, Any]) -> None:
    kind = registry().get("AWS::SQS::Queue")
    result = copy.deepcopy(was)
    for change in diff.changed_properties(kind, now, was, was, was):
        put(result, change.path.split("."), copy.deepcopy(change.after))
    assert diff.changed_properties(kind, now, result, result, result) == ()


@settings(deadline=None, max_examples=60)
@given(_properties, _properties)
def test_drift_is_repaired_by_the_after_values(declared: dict[str, Any], live: dict[str, Any]) -> None:
    kind = registry().get("AWS::SQS::Queue")
    found = diff.changed_properties(kind, declared, declared, declared, live)
    assert all(change.drift for change in found)
    for change in found:
        value: Any = declared
        for part in change.path.split("."):
            value = value[int(part) if isinstance(value, list) else part]
        assert change.after == value


@st.composite
def world(draw: st.DrawFn) -> tuple[list[Desired], list[Recorded]]:
    """Queues that refer to earlier ones, some recorded as they are, some otherwise, some gone."""
    names = [f"R{i}" for i in range(draw(st.integers(1, 7)))]
    wanted, known = [], []
    for index, name in enumerate(names):
        needs = tuple(sorted(draw(st.sets(st.sampled_from(names[:index]), max_size=2)))) if index else ()
        size = draw(st.integers(0, 2))
        if draw(st.booleans()):
            wanted.append((name, needs, size))
        if draw(st.booleans()):
            known.append(recorded(name, QUEUE, depends_on=needs, DelaySeconds=draw(st.integers(0, 2))))
    ids = {name for name, _, _ in wanted}
    made = [
        desired(n, QUEUE, depends_on=tuple(d for d in needs if d in ids), DelaySeconds=s)
        for n, needs, s in wanted
    ]
    return made, known


@settings(deadline=None, max_examples=80)
@given(world())
def test_apply_order_respects_every_dependency(case: tuple[list[Desired], list[Recorded]]) -> None:
    made = plan(*case)
    place = {change.logical_id: index for index, change in enumerate(made.changes)}
    for change in made.changes:
        for need in change.depends_on:
            if (
                need in place
                and change.action is Action.DELETE
                and made.changes[place[need]].action is Action.DELETE
            ):
                assert place[change.logical_id] < place[need]
            elif need in place and change.action is not Action.DELETE:
                assert place[need] < place[change.logical_id]
    deletes = [index for index, change in enumerate(made.changes) if change.action is Action.DELETE]
    assert deletes == list(range(len(made.changes) - len(deletes), len(made.changes)))


@settings(deadline=None, max_examples=60)
@given(world(), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_mappings(
    case: tuple[list[Desired], list[Recorded]], chance: Any
) -> None:
    wanted, known = case
    first = plan(wanted, known)
    chance.shuffle(wanted)
    chance.shuffle(known)
    assert plan(wanted, known) == first
