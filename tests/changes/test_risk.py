"""Risk points: every rule with what it must catch and what it must leave alone."""

from typing import Any

import pytest

from fairlead.changes import risk
from fairlead.changes.model import Action, Change, PropertyChange, Replacement, RiskLevel, Unknown, Via
from fairlead.changes.risk import Subject, assess
from tests.changes.plan_factory import desired, plan, recorded

CREATE, UPDATE, REPLACE, DELETE = Action.CREATE, Action.UPDATE, Action.REPLACE, Action.DELETE
GROUP, BUCKET, DATABASE, ROLE = "EC2::SecurityGroup", "S3::Bucket", "RDS::DBInstance", "IAM::Role"


def subject(
    action: Action,
    type_name: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    *,
    conditional: bool = False,
    drift: bool = False,
    unknown: bool = False,
    via: Via = Via.CLOUD_CONTROL,
    delete_first: bool = False,
    retain: bool = False,
    dependants: int = 0,
    cost_delta_usd: float | None = 0.0,
    production: bool = False,
    snapshot: bool = False,
) -> Subject:
    value = Unknown("X") if unknown else 2
    item = PropertyChange(path="P", before=1, after=value, replacement=Replacement.NEVER, drift=drift)
    change = Change(
        logical_id="It",
        type=f"AWS::{type_name}",
        action=action,
        replacement=Replacement.CONDITIONAL if conditional else Replacement.NEVER,
        properties=(item,),
        via=via,
        delete_first=delete_first,
        retain=retain,
    )
    return Subject(
        change=change,
        before=before if before is not None else (None if action is CREATE else {}),
        after=after if after is not None else (None if action is DELETE else {}),
        dependants=dependants,
        cost_delta_usd=cost_delta_usd,
        production=production,
        snapshot=snapshot,
    )


@pytest.mark.parametrize(
    ("given", "points"),
    [
        pytest.param(subject(CREATE, GROUP), 1, id="create"),
        pytest.param(subject(CREATE, DATABASE), 2, id="create what holds data"),
        pytest.param(subject(UPDATE, GROUP), 5, id="update"),
        pytest.param(subject(UPDATE, DATABASE), 10, id="update what holds data"),
        pytest.param(subject(UPDATE, GROUP, conditional=True), 15, id="may replace"),
        pytest.param(subject(UPDATE, DATABASE, conditional=True), 30, id="may replace what holds data"),
        pytest.param(subject(REPLACE, GROUP), 25, id="replace"),
        pytest.param(subject(REPLACE, DATABASE), 60, id="replace what holds data"),
        pytest.param(subject(DELETE, GROUP), 25, id="delete"),
        pytest.param(subject(DELETE, DATABASE), 60, id="delete what holds data"),
        pytest.param(subject(DELETE, DATABASE, snapshot=True), 40, id="a last snapshot softens it"),
        pytest.param(subject(DELETE, GROUP, snapshot=True), 25, id="but only where there is data"),
        pytest.param(subject(DELETE, DATABASE, retain=True), 5, id="retained"),
        pytest.param(subject(REPLACE, DATABASE, retain=True), 5, id="replaced, the old one retained"),
        pytest.param(subject(REPLACE, GROUP, delete_first=True), 40, id="a gap between old and new"),
        pytest.param(subject(UPDATE, GROUP, dependants=3), 8, id="update with dependants"),
        pytest.param(subject(REPLACE, GROUP, dependants=3), 31, id="replace with dependants"),
        pytest.param(subject(DELETE, GROUP, dependants=500), 45, id="reach has a ceiling"),
        pytest.param(subject(CREATE, GROUP, dependants=500), 1, id="nothing relied on what is new"),
        pytest.param(subject(UPDATE, GROUP, drift=True), 20, id="overwrites drift"),
        pytest.param(subject(UPDATE, GROUP, via=Via.CLOUDFORMATION), 15, id="fallback"),
        pytest.param(subject(UPDATE, GROUP, unknown=True), 10, id="unknown until apply"),
        pytest.param(subject(CREATE, GROUP, unknown=True), 1, id="unknown, but new anyway"),
        pytest.param(subject(UPDATE, GROUP, production=True), 20, id="production"),
        pytest.param(subject(CREATE, GROUP, production=True), 1, id="production, but new"),
        pytest.param(
            subject(UPDATE, GROUP, {"Tags": [{"Key": "Environment", "Value": "Prod"}]}),
            20,
            id="production by tag",
        ),
        pytest.param(subject(UPDATE, GROUP, {"Tags": {"env": "production"}}), 20, id="production by tag map"),
        pytest.param(
            subject(UPDATE, GROUP, {"Tags": [{"Key": "Environment", "Value": "dev"}]}),
            5,
            id="another environment",
        ),
        pytest.param(
            subject(UPDATE, GROUP, {"Tags": [{"Key": "Product", "Value": "prod"}]}), 5, id="another tag"
        ),
        pytest.param(subject(CREATE, GROUP, cost_delta_usd=100.0), 1, id="a hundred dollars"),
        pytest.param(subject(CREATE, GROUP, cost_delta_usd=100.01), 11, id="more than a hundred dollars"),
        pytest.param(subject(CREATE, GROUP, cost_delta_usd=1000.01), 26, id="more than a thousand dollars"),
        pytest.param(subject(CREATE, GROUP, cost_delta_usd=None), 1, id="an unknown price adds nothing"),
    ],
)
def test_points_of_an_action_and_its_circumstances(given: Subject, points: int) -> None:
    assert assess(given).points == points


def rule(**extra: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0", **extra}


def allow(**statement: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Resource": "*", **statement}]}


EXPOSED = [
    (GROUP, {"SecurityGroupIngress": [rule()]}, "opens SSH to 0.0.0.0/0", 60),
    (GROUP, {"SecurityGroupIngress": [rule(CidrIp=None, CidrIpv6="::/0")]}, "opens SSH to ::/0", 60),
    (
        GROUP,
        {"SecurityGroupIngress": [rule(FromPort=3000, ToPort=4000)]},
        "opens MySQL, RDP to 0.0.0.0/0",
        60,
    ),
    (GROUP, {"SecurityGroupIngress": [rule(IpProtocol="-1")]}, "opens every port to 0.0.0.0/0", 60),
    (GROUP, {"SecurityGroupIngress": [rule(FromPort=Unknown("P"))]}, "opens every port to 0.0.0.0/0", 60),
    (
        GROUP,
        {"SecurityGroupIngress": [rule(FromPort="8080", ToPort="8081")]},
        "opens port 8080-8081 to 0.0.0.0/0",
        25,
    ),
    ("EC2::SecurityGroupIngress", rule(), "opens SSH to 0.0.0.0/0", 60),
    (BUCKET, {"AccessControl": "PublicRead"}, "makes the bucket public (PublicRead)", 60),
    (
        BUCKET,
        {"PublicAccessBlockConfiguration": {"BlockPublicAcls": False}},
        "lifts the public access block (BlockPublicAcls)",
        40,
    ),
    (DATABASE, {"PubliclyAccessible": True}, "makes the database reachable from the internet", 60),
    ("Lambda::Permission", {"Principal": "*"}, "lets anybody invoke the function", 60),
    ("Lambda::Url", {"AuthType": "NONE"}, "lets anybody call the function's URL", 25),
    (
        "EKS::Cluster",
        {"ResourcesVpcConfig": {"SubnetIds": ["a"]}},
        "leaves the cluster's API reachable from the internet",
        25,
    ),
    (
        ROLE,
        {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]},
        "grants AdministratorAccess",
        60,
    ),
    (
        ROLE,
        {"AssumeRolePolicyDocument": {"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}}}},
        "lets anybody assume the role",
        60,
    ),
    (ROLE, {"Policies": [{"PolicyDocument": allow(Action="*")}]}, "allows every action (Action *)", 60),
    ("IAM::Policy", {"PolicyDocument": allow(Action=["s3:*"])}, "allows s3:* on everything", 25),
    (
        "IAM::ManagedPolicy",
        {"PolicyDocument": allow(Action="iam:PassRole")},
        "allows iam:PassRole on everything",
        60,
    ),
    (
        "IAM::ManagedPolicy",
        {"PolicyDocument": allow(NotAction="iam:*")},
        "allows all actions but a few (NotAction)",
        60,
    ),
    (
        "S3::BucketPolicy",
        {"PolicyDocument": '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:Get*"}]}'},
        "lets anybody in (Principal *)",
        60,
    ),
]


@pytest.mark.parametrize(
    ("type_name", "after", "reason", "points"), EXPOSED, ids=[case[2] + " " + case[0] for case in EXPOSED]
)
def test_what_a_change_opens_counts_when_it_was_not_open_before(
    type_name: str, after: dict[str, Any], reason: str, points: int
) -> None:
    found = assess(subject(CREATE, type_name, None, after))
    assert f"{reason} (+{points})" in found.reasons
    opened = assess(subject(UPDATE, type_name, {}, after))
    assert f"{reason} (+{points})" in opened.reasons
    still_open = assess(subject(UPDATE, type_name, after, {**after, "Other": 1}))
    assert not any(reason in text for text in still_open.reasons)


@pytest.mark.parametrize(
    ("type_name", "after"),
    [
        pytest.param(GROUP, {"SecurityGroupIngress": [rule(CidrIp="10.0.0.0/8")]}, id="SSH from inside"),
        pytest.param(
            GROUP, {"SecurityGroupIngress": [rule(FromPort=443, ToPort=443)]}, id="HTTPS from anywhere"
        ),
        pytest.param(
            GROUP, {"SecurityGroupIngress": [rule(IpProtocol="icmp", FromPort=-1, ToPort=-1)]}, id="ping"
        ),
        pytest.param(GROUP, {"SecurityGroupEgress": [rule()]}, id="outbound"),
        pytest.param(BUCKET, {"AccessControl": "Private"}, id="a private bucket"),
        pytest.param(
            BUCKET, {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}, id="a block in place"
        ),
        pytest.param(DATABASE, {"PubliclyAccessible": False}, id="an inner database"),
        pytest.param(
            "Lambda::Permission",
            {"Principal": "*", "SourceArn": "arn:aws:sns:::t"},
            id="anybody from one source",
        ),
        pytest.param(
            "EKS::Cluster", {"ResourcesVpcConfig": {"EndpointPublicAccess": False}}, id="an inner cluster"
        ),
        pytest.param(ROLE, {"ManagedPolicyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}, id="read only"),
        pytest.param(
            ROLE,
            {
                "AssumeRolePolicyDocument": {
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "ec2.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ]
                }
            },
            id="a service",
        ),
        pytest.param(
            "IAM::Policy", {"PolicyDocument": allow(Action="*", Effect="Deny")}, id="denying everything"
        ),
        pytest.param(
            "IAM::Policy",
            {"PolicyDocument": allow(Action="s3:*", Resource="arn:aws:s3:::b/*")},
            id="one bucket",
        ),
        pytest.param("IAM::Policy", {"PolicyDocument": allow(Action=["s3:Get*"])}, id="a family of actions"),
        pytest.param(
            "S3::BucketPolicy",
            {"PolicyDocument": allow(Principal="*", Action="s3:GetObject", Condition={"Bool": {}})},
            id="anybody under a condition",
        ),
        pytest.param("IAM::Policy", {"PolicyDocument": "not json"}, id="a document that cannot be read"),
    ],
)
def test_near_misses_open_nothing(type_name: str, after: dict[str, Any]) -> None:
    assert assess(subject(CREATE, type_name, None, after)).points <= 2


@pytest.mark.parametrize(
    ("before", "after", "reason", "points"),
    [
        pytest.param(
            {"StorageEncrypted": True},
            {"StorageEncrypted": False},
            "switches off StorageEncrypted",
            60,
            id="encryption",
        ),
        pytest.param({"KmsMasterKeyId": "k"}, {}, "switches off KmsMasterKeyId", 60, id="a key taken away"),
        pytest.param(
            {"DeletionProtection": True},
            {"DeletionProtection": "false"},
            "switches off DeletionProtection",
            40,
            id="protection",
        ),
        pytest.param(
            {"BackupRetentionPeriod": 7},
            {"BackupRetentionPeriod": 0},
            "switches off BackupRetentionPeriod",
            60,
            id="backups off",
        ),
        pytest.param(
            {"BackupRetentionPeriod": 7},
            {"BackupRetentionPeriod": 1},
            "shortens BackupRetentionPeriod",
            25,
            id="backups shorter",
        ),
        pytest.param(
            {"VersioningConfiguration": {"Status": "Enabled"}},
            {"VersioningConfiguration": {"Status": "Suspended"}},
            "switches off VersioningConfiguration",
            40,
            id="versioning",
        ),
        pytest.param(
            {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}},
            {},
            "removes PublicAccessBlockConfiguration",
            60,
            id="the public access block",
        ),
    ],
)
def test_what_protected_the_resource_and_goes_counts(
    before: dict[str, Any], after: dict[str, Any], reason: str, points: int
) -> None:
    assert f"{reason} (+{points})" in assess(subject(UPDATE, GROUP, before, after)).reasons


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"StorageEncrypted": False}, {"StorageEncrypted": True}, id="switched on"),
        pytest.param({"KmsMasterKeyId": "a"}, {"KmsMasterKeyId": "b"}, id="another key"),
        pytest.param({"KmsMasterKeyId": "a"}, {"KmsMasterKeyId": Unknown("Key.Arn")}, id="a new key"),
        pytest.param({"BackupRetentionPeriod": 1}, {"BackupRetentionPeriod": 7}, id="backups longer"),
        pytest.param({"RetentionInDays": 7}, {}, id="logs for ever"),
        pytest.param({"DeletionProtection": False}, {}, id="was off already"),
        pytest.param(
            {"VersioningConfiguration": {"Status": "Suspended"}},
            {"VersioningConfiguration": {"Status": "Enabled"}},
            id="versioning on",
        ),
    ],
)
def test_near_misses_weaken_nothing(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert assess(subject(UPDATE, GROUP, before, after)).points == 5


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (0, RiskLevel.LOW),
        (24, RiskLevel.LOW),
        (25, RiskLevel.MEDIUM),
        (59, RiskLevel.MEDIUM),
        (60, RiskLevel.HIGH),
    ],
)
def test_levels_begin_where_documented(points: int, expected: RiskLevel) -> None:
    assert risk.level(points) is expected


def test_reasons_come_weightiest_first_and_the_same_every_time() -> None:
    given = subject(REPLACE, DATABASE, dependants=2, drift=True, production=True)
    first = assess(given)
    assert first == assess(given)
    assert first.reasons[0] == "replaces a resource that holds data (+60)"
    weights = [int(text.rpartition("(")[2].rstrip(")")) for text in first.reasons]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == first.points


def test_a_plan_is_as_risky_as_its_riskiest_change_and_says_which() -> None:
    known = [recorded("Db", DATABASE), recorded("Net", "EC2::VPC", CidrBlock="10.0.0.0/16")]
    made = plan([desired("Net", "EC2::VPC", CidrBlock="10.0.0.0/8"), desired("Q", "SQS::Queue")], known)
    assert made.risk.level is RiskLevel.HIGH
    assert made.risk.reasons[0] == "changes: 1 HIGH, 1 MEDIUM, 1 LOW"
    assert made.risk.reasons[1].startswith("Db: deletes a resource that holds data")


def test_the_summary_of_a_large_plan_stays_short() -> None:
    made = plan([], [recorded(f"Q{i}", "SQS::Queue") for i in range(25)])
    assert len(made.risk.reasons) == 12
    assert made.risk.reasons[-1] == "and 15 more"


def test_nothing_to_do_is_no_risk() -> None:
    made = plan([], [])
    assert (made.risk.level, made.risk.points) == (RiskLevel.LOW, 0)


def test_blast_radius_of_a_deletion_counts_those_that_depended_on_it() -> None:
    known = [
        recorded("Net", "EC2::VPC"),
        *(recorded(f"S{i}", "EC2::Subnet", depends_on=("Net",)) for i in range(3)),
    ]
    made = plan([], known)
    net = next(change for change in made.changes if change.logical_id == "Net")
    assert net.risk is not None
    assert "3 others depend on it (+6)" in net.risk.reasons


def test_production_comes_from_the_projects_environment() -> None:
    wanted, known = [desired("Q", "SQS::Queue", DelaySeconds=1)], [recorded("Q", "SQS::Queue")]
    assert plan(wanted, known, environment="Production").risk.points == plan(wanted, known).risk.points + 15
    assert plan(wanted, known, environment="staging").risk == plan(wanted, known).risk
