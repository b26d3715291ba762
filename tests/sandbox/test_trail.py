"""CloudTrail's event history of the sandbox: what is recorded, where it lies, and how it is looked up."""

# ruff: noqa: E501
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fairlead.sandbox.process import SandboxStateCorrupt
from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess

HERE = "ap-northeast-2"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)


@pytest.fixture
def account(aws: Aws, sandbox: SandboxProcess) -> Any:
    """`account(service, region, **keys)`: a client of an account of its own."""

    def client(service: str, region: str = HERE, **keys: str) -> Any:
        return boto3.client(service, **{**sandbox.aws(aws.account, region), **keys})

    return client


def _events(client: Any, region: str = HERE, **asked: Any) -> list[dict[str, Any]]:
    pages = client("cloudtrail", region).get_paginator("lookup_events").paginate(**asked)
    return [event for page in pages for event in page["Events"]]


def _by(key: str, value: str) -> dict[str, Any]:
    return {"LookupAttributes": [{"AttributeKey": key, "AttributeValue": value}]}


def test_who_did_what_to_which_thing_is_recorded(account: Any) -> None:
    account("iam").create_role(RoleName="Operators", AssumeRolePolicyDocument=TRUST)
    role = f"arn:aws:iam::{account('sts').get_caller_identity()['Account']}:role/Operators"
    held = account("sts").assume_role(RoleArn=role, RoleSessionName="minji.kim")["Credentials"]
    keys = {
        "aws_access_key_id": held["AccessKeyId"],
        "aws_secret_access_key": held["SecretAccessKey"],
        "aws_session_token": held["SessionToken"],
    }
    account("s3").create_bucket(Bucket="trail-one", CreateBucketConfiguration={"LocationConstraint": HERE})
    account("s3", **keys).delete_bucket(Bucket="trail-one")
    (event,) = _events(account, **_by("EventName", "DeleteBucket"))
    assert event["Username"] == "minji.kim"
    assert event["EventSource"] == "s3.amazonaws.com"
    assert event["ReadOnly"] == "false"
    assert event["Resources"] == [{"ResourceType": "AWS::S3::Bucket", "ResourceName": "trail-one"}]
    record = json.loads(event["CloudTrailEvent"])
    assert record["userIdentity"]["type"] == "AssumedRole"
    assert record["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"] == "Operators"
    assert record["awsRegion"] == HERE
    assert record["eventID"] == event["EventId"]
    both = _events(account, **_by("ResourceName", "trail-one"))
    assert [one["EventName"] for one in both] == ["DeleteBucket", "CreateBucket"]
    assert [one["EventName"] for one in _events(account, **_by("Username", "minji.kim"))] == ["DeleteBucket"]


@pytest.mark.parametrize(
    ("service", "operation", "asked", "event", "region", "resource"),
    [
        pytest.param("iam", "create_user", {"UserName": "kim"}, "CreateUser", "us-east-1", "kim", id="global: us-east-1"),
        pytest.param("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16"}, "CreateVpc", HERE, "vpc-", id="made by the call"),
        pytest.param("sqs", "create_queue", {"QueueName": "trail-q"}, "CreateQueue", HERE, None, id="JSON protocol"),
        pytest.param("dynamodb", "list_tables", {}, "ListTables", HERE, None, id="reads too"),
        pytest.param("cloudwatch", "delete_alarms", {"AlarmNames": ["none"]}, "DeleteAlarms", HERE, None, id="CBOR protocol"),
        pytest.param("kms", "create_key", {}, "CreateKey", HERE, None, id="keys"),
    ],
)  # fmt: skip
def test_calls_of_every_protocol_are_recorded_under_their_names(
    account: Any,
    service: str,
    operation: str,
    asked: dict[str, Any],
    event: str,
    region: str,
    resource: str | None,
) -> None:
    getattr(account(service), operation)(**asked)
    (found,) = _events(account, region, **_by("EventName", event))
    assert found["Username"] == "root"
    assert found["ReadOnly"] == str(event.startswith("List")).lower()
    if resource:
        assert found["Resources"][-1]["ResourceName"].startswith(resource)
    other = "us-east-1" if region == HERE else HERE
    assert not _events(account, other, **_by("EventName", event))


def test_a_refused_call_is_recorded_with_its_code(account: Any) -> None:
    with pytest.raises(ClientError):
        account("ec2").terminate_instances(InstanceIds=["i-0123456789abcdef0"])
    (event,) = _events(account, **_by("EventName", "TerminateInstances"))
    assert json.loads(event["CloudTrailEvent"])["errorCode"] == "InvalidInstanceID.NotFound"
    assert event["Resources"][0]["ResourceName"] == "i-0123456789abcdef0"


def test_secrets_and_contents_are_not_recorded(account: Any) -> None:
    account("secretsmanager").create_secret(Name="s", SecretString="hunter2")
    account("iam").create_user(UserName="kim")
    account("iam").create_login_profile(UserName="kim", Password="hunter2hunter2")
    account("s3").create_bucket(Bucket="trail-two", CreateBucketConfiguration={"LocationConstraint": HERE})
    account("s3").put_object(Bucket="trail-two", Key="k", Body=b"hunter2")
    account("s3").list_objects_v2(Bucket="trail-two")
    account("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    everything = _events(account) + _events(account, "us-east-1")
    names = {event["EventName"] for event in everything}
    assert {"CreateSecret", "CreateLoginProfile", "CreateBucket"} <= names
    assert not {"PutObject", "ListObjects", "ListObjectsV2", "PutMetricData"} & names
    assert "hunter2" not in json.dumps(everything, default=str)


def test_lookups_come_newest_first_in_pages_of_fifty(account: Any) -> None:
    for number in range(60):
        account("sns").create_topic(Name=f"t{number}")
    cloudtrail = account("cloudtrail")
    asked = _by("EventName", "CreateTopic")
    first = cloudtrail.lookup_events(**asked)
    assert len(first["Events"]) == 50
    second = cloudtrail.lookup_events(**asked, NextToken=first["NextToken"])
    assert len(second["Events"]) == 10
    assert "NextToken" not in second
    times = [event["EventTime"] for event in first["Events"] + second["Events"]]
    assert times == sorted(times, reverse=True)
    edge = first["Events"][10]["EventTime"]
    assert len(_events(account, **asked, StartTime=edge)) == 11


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        pytest.param({"NextToken": "bm9uZQ=="}, "InvalidNextTokenException", id="a token of nothing"),
        pytest.param({"StartTime": 2_000_000_000, "EndTime": 1_000}, "InvalidTimeRangeException", id="backwards"),
        pytest.param({"LookupAttributes": [{"AttributeKey": "Username", "AttributeValue": "a"}] * 2}, "InvalidLookupAttributesException", id="two attributes"),
    ],
)  # fmt: skip
def test_lookups_that_aws_refuses_are_refused(account: Any, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        account("cloudtrail").lookup_events(**asked)
    assert refused.value.response["Error"]["Code"] == code


def test_events_survive_a_crash_and_belong_to_their_account(own_sandbox: SandboxProcess) -> None:
    def sns(account: str) -> Any:
        return boto3.client("sns", **own_sandbox.aws(account, HERE))

    def names(account: str) -> list[str]:
        events = boto3.client("cloudtrail", **own_sandbox.aws(account, HERE)).lookup_events()["Events"]
        return [event["EventName"] for event in events if event["EventName"] != "LookupEvents"]

    sns("111122223333").create_topic(Name="mine")
    own_sandbox.kill()
    own_sandbox.restart()
    assert names("111122223333") == ["CreateTopic"]
    assert names("444455556666") == []
    trail = Path(own_sandbox.options.data_dir) / "trail.db"
    assert trail.stat().st_mode & 0o077 == 0


def test_a_damaged_history_is_refused(own_sandbox: SandboxProcess) -> None:
    own_sandbox.stop()
    for part in Path(own_sandbox.options.data_dir).glob("trail.db-*"):
        part.unlink()
    (Path(own_sandbox.options.data_dir) / "trail.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SandboxStateCorrupt, match=r"trail\.db"):
        own_sandbox.restart()
