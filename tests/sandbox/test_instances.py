"""Attributes of an instance through EC2's own API, and what Cloud Control sees of them."""

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.clients import Aws, replace

INSTANCE = "AWS::EC2::Instance"


@pytest.fixture
def instance(aws: Aws) -> str:
    run = aws.client("ec2").run_instances(
        ImageId="ami-12345678", InstanceType="t3.micro", MinCount=1, MaxCount=1
    )
    return str(run["Instances"][0]["InstanceId"])


def attribute(aws: Aws, instance: str, name: str) -> object:
    answer = aws.client("ec2").describe_instance_attribute(InstanceId=instance, Attribute=name)
    return answer[name[0].upper() + name[1:]].get("Value")


def test_a_running_instance_keeps_its_type_until_it_is_stopped(aws: Aws, instance: str) -> None:
    ec2 = aws.client("ec2")
    with pytest.raises(ClientError) as refusal:
        ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.large"})
    assert refusal.value.response["Error"]["Code"] == "IncorrectInstanceState"
    ec2.stop_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.large"})
    ec2.modify_instance_attribute(InstanceId=instance, EbsOptimized={"Value": True})
    ec2.modify_instance_attribute(InstanceId=instance, UserData={"Value": b"#!/bin/sh"})
    ec2.start_instances(InstanceIds=[instance])
    live = aws.get(INSTANCE, instance)
    assert (live["InstanceType"], live["EbsOptimized"]) == ("t3.large", True)
    assert attribute(aws, instance, "instanceType") == "t3.large"
    assert attribute(aws, instance, "userData") == "IyEvYmluL3No"


def test_groups_and_source_check_change_while_it_runs(aws: Aws, instance: str) -> None:
    ec2 = aws.client("ec2")
    group = ec2.create_security_group(GroupName="new", Description="new")["GroupId"]
    ec2.modify_instance_attribute(InstanceId=instance, Groups=[group])
    ec2.modify_instance_attribute(InstanceId=instance, SourceDestCheck={"Value": False})
    live = aws.get(INSTANCE, instance)
    assert (live["SecurityGroupIds"], live["SourceDestCheck"]) == ([group], False)
    described = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert [item["GroupId"] for item in described["SecurityGroups"]] == [group]
    assert described["SourceDestCheck"] is False


def test_a_protected_instance_is_not_terminated_by_any_door(aws: Aws, instance: str) -> None:
    ec2 = aws.client("ec2")
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    assert attribute(aws, instance, "disableApiTermination") is True
    with pytest.raises(ClientError) as refusal:
        ec2.terminate_instances(InstanceIds=[instance])
    assert refusal.value.response["Error"]["Code"] == "OperationNotPermitted"
    assert aws.delete(INSTANCE, instance)["OperationStatus"] == "FAILED"
    event = aws.update(INSTANCE, instance, replace("/DisableApiTermination", False))
    assert event["OperationStatus"] == "SUCCESS"
    assert aws.delete(INSTANCE, instance)["OperationStatus"] == "SUCCESS"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Groups": ["sg-nothing"]}, "InvalidGroup.NotFound"),
        ({}, "InvalidParameterCombination"),
    ],
    ids=["unknown-group", "nothing"],
)
def test_a_change_that_makes_no_sense_is_refused(
    aws: Aws, instance: str, change: dict[str, object], code: str
) -> None:
    with pytest.raises(ClientError) as refusal:
        aws.client("ec2").modify_instance_attribute(InstanceId=instance, **change)
    assert refusal.value.response["Error"]["Code"] == code


def test_an_instance_that_does_not_exist_is_not_found(aws: Aws) -> None:
    with pytest.raises(ClientError) as refusal:
        aws.client("ec2").modify_instance_attribute(InstanceId="i-0", EbsOptimized={"Value": True})
    assert refusal.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
