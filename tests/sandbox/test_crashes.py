"""What kill -9 leaves behind: everything that was answered, once."""

import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from fairlead.sandbox import process
from tests.sandbox.cases import CASES, World
from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess, start_sandbox

QUEUE, BUCKET, INSTANCE = "AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::EC2::Instance"


def test_everything_that_was_answered_survives_kill_9(own_sandbox: SandboxProcess) -> None:
    aws = Aws(own_sandbox.aws())
    bucket = aws.create(BUCKET, {"BucketName": "kept", "VersioningConfiguration": {"Status": "Enabled"}})
    s3, ec2 = aws.client("s3"), aws.client("ec2")
    first = s3.put_object(Bucket=bucket, Key="a/b", Body=b"one")["VersionId"]
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"two")
    instance = aws.create(INSTANCE, {"InstanceType": "t3.micro", "Tags": [{"Key": "k", "Value": "v"}]})
    queue = aws.create(QUEUE, {"QueueName": "kept"}, ClientToken="t-1")
    ec2.stop_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.large"})
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    aws.client("secretsmanager").create_secret(Name="s", SecretString="deep")
    before = {
        type_name: aws.get(type_name, key) for type_name, key in ((BUCKET, bucket), (INSTANCE, instance))
    }

    own_sandbox.kill()
    own_sandbox.restart()

    assert {
        type_name: aws.get(type_name, key) for type_name, key in ((BUCKET, bucket), (INSTANCE, instance))
    } == before
    assert before[INSTANCE]["InstanceType"] == "t3.large"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"two"
    assert s3.get_object(Bucket=bucket, Key="a/b", VersionId=first)["Body"].read() == b"one"
    assert vpc in aws.identifiers("AWS::EC2::VPC")
    assert aws.client("secretsmanager").get_secret_value(SecretId="s")["SecretString"] == "deep"
    again = aws.ask_create(QUEUE, {"QueueName": "kept"}, ClientToken="t-1")
    assert (again["OperationStatus"], again["Identifier"]) == ("SUCCESS", queue)
    with pytest.raises(ClientError) as refusal:
        aws.ask_create(QUEUE, {"QueueName": "other"}, ClientToken="t-1")
    assert refusal.value.response["Error"]["Code"] == "ClientTokenConflictException"


def test_every_type_is_the_same_after_kill_9(tmp_path: Path) -> None:
    with start_sandbox(tmp_path, latency_ms=0) as sandbox:
        world = World(Aws(sandbox.aws()))
        made = [(case.type_name, world.aws.create(case.type_name, case.desired(world))) for case in CASES]
        before = [world.aws.get(type_name, key) for type_name, key in made]
        sandbox.kill()
        sandbox.restart()
        assert [world.aws.get(type_name, key) for type_name, key in made] == before


def test_requests_in_progress_are_finished_exactly_once_after_kill_9(own_sandbox: SandboxProcess) -> None:
    aws = Aws(own_sandbox.aws())
    aws.faults({"kind": "handler_latency", "seconds": 60, "count": 0})
    table = {"TableName": "t", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}]}
    asked = [
        aws.ask_create(QUEUE, {"QueueName": "in-progress"}, ClientToken="q"),
        aws.ask_create("AWS::DynamoDB::Table", table, ClientToken="d"),
        aws.ask_create("AWS::EC2::VPC", {"CidrBlock": "10.1.0.0/16"}, ClientToken="v"),
        aws.ask_create(BUCKET, {"BucketName": "in-progress"}, ClientToken="b"),
        aws.ask_create("AWS::IAM::User", {}, ClientToken="u"),
    ]
    vpcs = len(aws.identifiers("AWS::EC2::VPC"))

    own_sandbox.kill()
    own_sandbox.restart()  # the fault is gone with the process

    assert [aws.wait(event)["OperationStatus"] for event in asked] == ["SUCCESS"] * len(asked)
    own_sandbox.kill()
    own_sandbox.restart()
    assert [request["effects"] for request in aws.requests()] == [1] * len(asked)
    assert len(aws.identifiers("AWS::EC2::VPC")) == vpcs + 1
    assert [len(aws.identifiers(kind)) for kind in (QUEUE, BUCKET, "AWS::IAM::User")] == [1, 1, 1]


def insist(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The progress event that `call` gives, repeated while the sandbox is away."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(BotoCoreError):
            return dict(call()["ProgressEvent"])
    raise AssertionError("the sandbox did not come back")


def test_no_request_is_lost_or_doubled_by_kills_at_random_moments(own_sandbox: SandboxProcess) -> None:
    aws, wanted = Aws(own_sandbox.aws()), 24
    vpcs = len(aws.identifiers("AWS::EC2::VPC"))

    def create(number: int) -> str:
        type_name, desired = (("AWS::EC2::VPC", {"CidrBlock": "10.0.0.0/16"}), (QUEUE, {}))[number % 2]
        body = {"TypeName": type_name, "DesiredState": json.dumps(desired), "ClientToken": f"token-{number}"}
        event = insist(partial(aws.cloudcontrol.create_resource, **body))
        status = partial(aws.cloudcontrol.get_resource_request_status, RequestToken=event["RequestToken"])
        while event["OperationStatus"] == "IN_PROGRESS":
            event = insist(status)
        return str(event["OperationStatus"])

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(create, number) for number in range(wanted)]
        for number in range(3):
            wait(running[: 2 + number * 8], return_when=FIRST_COMPLETED if number == 0 else ALL_COMPLETED)
            own_sandbox.kill()
            own_sandbox.restart()
        assert [each.result() for each in running] == ["SUCCESS"] * wanted
    assert [request["effects"] for request in aws.requests()] == [1] * wanted
    assert len(aws.identifiers("AWS::EC2::VPC")) - vpcs == wanted // 2
    assert len(aws.identifiers(QUEUE)) == wanted // 2


def test_damaged_state_is_refused_with_the_place_and_nothing_is_overwritten(
    own_sandbox: SandboxProcess,
) -> None:
    aws = Aws(own_sandbox.aws())
    aws.create(QUEUE, {"QueueName": "precious"})
    own_sandbox.stop()
    state = own_sandbox.options.data_dir / "state.db"
    with sqlite3.connect(state) as database:
        database.execute("UPDATE services SET payload = '{}' WHERE name = 'sqs'")
    database.close()
    with pytest.raises(process.SandboxStateCorrupt) as refusal:
        own_sandbox.restart()
    assert "sqs" in refusal.value.message
    assert refusal.value.details["path"] == str(state.parent)
    state.write_bytes(b"SQLite format 3\0" + b"garbage" * 4096)
    with pytest.raises(process.SandboxStateCorrupt):
        own_sandbox.restart()
    assert state.read_bytes().endswith(b"garbage")


def test_trust_policies_and_external_ids_are_enforced_where_asked(tmp_path: Path) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": "shared-secret"}},
            }
        ],
    }
    with start_sandbox(tmp_path, enforce_iam=True) as sandbox:
        owner = Aws(sandbox.aws("444455556666"))
        role = owner.client("iam").create_role(RoleName="audited", AssumeRolePolicyDocument=json.dumps(trust))
        sts = Aws(sandbox.aws("111122223333")).client("sts")
        arguments = {"RoleArn": role["Role"]["Arn"], "RoleSessionName": "audit"}
        for wrong in ({}, {"ExternalId": "guessed"}):
            with pytest.raises(ClientError) as refusal:
                sts.assume_role(**arguments, **wrong)
            assert refusal.value.response["Error"]["Code"] == "AccessDenied"
        assumed = sts.assume_role(**arguments, ExternalId="shared-secret")
        assert assumed["AssumedRoleUser"]["Arn"].startswith("arn:aws:sts::444455556666:assumed-role/audited/")
        assert len(owner.identifiers(QUEUE)) == 0
        assert owner.create(QUEUE, {"QueueName": "allowed"})
