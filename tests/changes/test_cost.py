"""Monthly prices: what is known, what is not, and why."""

import json
from importlib.resources import files
from typing import Any

import pytest

from fairlead.changes import cost
from fairlead.changes.model import Cost, Unknown
from fairlead.changes.prices import prices
from fairlead.changes.types.traits import FREE, USAGE_BASED
from tests.changes.plan_factory import desired, only, plan, recorded

HERE = "us-east-1"


@pytest.mark.parametrize(
    ("type_name", "properties", "expected"),
    [
        pytest.param("EC2::Instance", {"InstanceType": "t3.micro"}, 7.592, id="instance"),
        pytest.param(
            "EC2::Instance",
            {
                "InstanceType": "t3.micro",
                "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 100, "VolumeType": "gp3"}}],
            },
            15.592,
            id="instance with a volume",
        ),
        pytest.param("EC2::Volume", {"Size": 100}, 10.0, id="volume, gp2 unless said otherwise"),
        pytest.param(
            "EC2::Volume",
            {"Size": "100", "VolumeType": "gp3", "Iops": 4000, "Throughput": 225},
            17.0,
            id="gp3 beyond what is included",
        ),
        pytest.param(
            "EC2::Volume",
            {"Size": 100, "VolumeType": "gp3", "Iops": 3000, "Throughput": 125},
            8.0,
            id="gp3 with what is included",
        ),
        pytest.param("EC2::NatGateway", {}, 32.85, id="NAT gateway"),
        pytest.param("EC2::EIP", {}, 3.65, id="address"),
        pytest.param(
            "RDS::DBInstance",
            {"Engine": "mysql", "DBInstanceClass": "db.t3.micro", "AllocatedStorage": "20"},
            14.71,
            id="database",
        ),
        pytest.param(
            "RDS::DBInstance",
            {"Engine": "mysql", "DBInstanceClass": "db.t3.micro", "AllocatedStorage": 20, "MultiAZ": True},
            29.42,
            id="database in two zones",
        ),
        pytest.param(
            "RDS::DBInstance",
            {"Engine": "postgres", "DBInstanceClass": "db.t3.micro", "AllocatedStorage": 20},
            15.44,
            id="engines differ",
        ),
        pytest.param(
            "ElastiCache::CacheCluster",
            {"CacheNodeType": "cache.t3.micro", "NumCacheNodes": 2, "Engine": "redis"},
            24.82,
            id="cache nodes",
        ),
        pytest.param(
            "ElastiCache::ReplicationGroup",
            {"CacheNodeType": "cache.t3.micro", "NumNodeGroups": 2, "ReplicasPerNodeGroup": 1},
            49.64,
            id="shards and replicas",
        ),
        pytest.param("ElasticLoadBalancingV2::LoadBalancer", {"Type": "network"}, 16.425, id="load balancer"),
        pytest.param("EKS::Cluster", {}, 73.0, id="cluster"),
        pytest.param("KMS::Key", {}, 1.0, id="key"),
        pytest.param("SecretsManager::Secret", {}, 0.4, id="secret"),
        pytest.param("CloudWatch::Alarm", {"Period": 60}, 0.1, id="alarm"),
        pytest.param("CloudWatch::Alarm", {"Period": 10}, 0.3, id="high-resolution alarm"),
        pytest.param(
            "DynamoDB::Table",
            {"ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}},
            2.847,
            id="provisioned table",
        ),
        pytest.param(
            "EC2::VPCEndpoint",
            {"VpcEndpointType": "Interface", "SubnetIds": ["a", "b"]},
            14.6,
            id="endpoint per zone",
        ),
        pytest.param("EC2::VPCEndpoint", {}, 0.0, id="gateway endpoint"),
        pytest.param("SSM::Parameter", {"Tier": "Standard"}, 0.0, id="parameter"),
        pytest.param("IAM::Role", {}, 0.0, id="free"),
    ],
)
def test_known_prices(type_name: str, properties: dict[str, Any], expected: float) -> None:
    price, why = cost.monthly_usd(f"AWS::{type_name}", properties, HERE)
    assert price == pytest.approx(expected, abs=0.001)
    assert why is None


@pytest.mark.parametrize(
    ("type_name", "properties", "region", "why"),
    [
        pytest.param("S3::Bucket", {}, HERE, "usage-based", id="bucket"),
        pytest.param(
            "DynamoDB::Table", {"BillingMode": "PAY_PER_REQUEST"}, HERE, "usage-based", id="table by request"
        ),
        pytest.param(
            "EC2::Instance", {"InstanceType": "x9.mega"}, HERE, "not in the price table", id="unlisted size"
        ),
        pytest.param(
            "EC2::Instance",
            {"InstanceType": "t3.micro", "Tenancy": "host"},
            HERE,
            "not in the price table",
            id="tenancy",
        ),
        pytest.param(
            "EC2::Instance",
            {
                "InstanceType": "t3.micro",
                "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 8, "VolumeType": "zz"}}],
            },
            HERE,
            "not in the price table",
            id="an unlisted volume makes the whole unknown",
        ),
        pytest.param(
            "EC2::Volume", {"SnapshotId": "snap-1"}, HERE, "not in the price table", id="size in a snapshot"
        ),
        pytest.param(
            "EC2::Volume",
            {"Size": Unknown("X")},
            HERE,
            "depends on values that are not known yet",
            id="unknown until apply",
        ),
        pytest.param(
            "RDS::DBInstance",
            {"Engine": "aurora-mysql", "DBInstanceClass": "db.t3.micro"},
            HERE,
            "not in the price table",
            id="unlisted engine",
        ),
        pytest.param(
            "AutoScaling::AutoScalingGroup",
            {"MaxSize": "3"},
            HERE,
            "not in the price table",
            id="what runs in it is not listed",
        ),
        pytest.param(
            "EC2::NatGateway",
            {},
            "eu-central-1",
            "region eu-central-1 is not in the price table",
            id="another region",
        ),
        pytest.param("MSK::Cluster", {}, HERE, "not in the price table", id="another type"),
    ],
)
def test_unknown_is_never_zero_and_says_why(
    type_name: str, properties: dict[str, Any], region: str, why: str
) -> None:
    assert cost.monthly_usd(f"AWS::{type_name}", properties, region) == (None, why)


def test_a_change_knows_both_sides_and_its_source() -> None:
    small, large = {"InstanceType": "t3.micro"}, {"InstanceType": "t3.small"}
    found = cost.change_cost("AWS::EC2::Instance", small, "AWS::EC2::Instance", large, HERE)
    assert (found.before_usd, found.after_usd) == (7.592, 15.184)
    assert cost.delta_usd(found) == 7.592
    assert found.source == "AWS public on-demand price list, us-east-1"
    assert found.as_of == "2026-01-19"


def test_a_plan_sums_what_is_known_and_lists_the_rest() -> None:
    wanted = [
        desired("Nat", "EC2::NatGateway", SubnetId="s"),
        desired("B", "S3::Bucket"),
        desired("K", "KMS::Key"),
    ]
    total = plan(wanted, [recorded("Old", "EC2::EIP")]).cost
    assert (total.before_usd, total.after_usd, total.unknown) == (3.65, 33.85, ("B",))
    assert total.note == "without 1 of unknown price"


def test_a_plan_of_nothing_but_unknown_prices_is_unknown() -> None:
    total = plan([desired("B", "S3::Bucket")], []).cost
    assert (total.before_usd, total.after_usd, total.unknown) == (None, None, ("B",))


def test_a_plan_without_changes_costs_nothing() -> None:
    assert plan([], []).cost.after_usd == 0


def test_what_is_retained_is_still_paid_for() -> None:
    change = only(plan([], [recorded("Nat", "EC2::NatGateway", policy="Retain")]))
    assert change.cost is not None
    assert cost.delta_usd(change.cost) == 0


def test_the_delta_is_unknown_when_either_side_is() -> None:
    assert cost.delta_usd(Cost(before_usd=None, after_usd=1.0)) is None


def test_the_table_is_dated_and_every_price_is_positive() -> None:
    table = json.loads(files("fairlead.changes.prices").joinpath("on_demand.json").read_text("utf-8"))

    def numbers(value: Any) -> list[float]:
        return [n for item in value.values() for n in numbers(item)] if isinstance(value, dict) else [value]

    found = prices(HERE)
    assert found is not None
    assert table["as_of"] == found.as_of
    assert min(numbers(table["regions"])) > 0
    assert not FREE & USAGE_BASED
