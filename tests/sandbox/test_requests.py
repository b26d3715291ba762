"""Cloud Control's own rules: asynchronous, idempotent by client token, strict about models."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.clients import Aws, add, remove, replace

QUEUE = "AWS::SQS::Queue"
TYPES_UNKNOWN = ("AWS::EC2::Instanse", "Nobody::Knows::This")


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    return str(refusal.value.response["Error"]["Code"])


def test_a_request_is_in_progress_first_and_succeeds_later(aws: Aws) -> None:
    event = aws.ask_create(QUEUE, {"QueueName": "later"})
    assert event["OperationStatus"] == "IN_PROGRESS"
    assert event["Operation"] == "CREATE"
    assert "Identifier" not in event
    assert event["RetryAfter"] > event["EventTime"]
    done = aws.wait(event)
    assert (done["OperationStatus"], done["RequestToken"]) == ("SUCCESS", event["RequestToken"])
    assert done["Identifier"].endswith(f"/{aws.account}/later")
    assert json.loads(done["ResourceModel"])["QueueName"] == "later"


def test_the_same_client_token_and_body_is_one_request(aws: Aws) -> None:
    first = aws.ask_create(QUEUE, {"QueueName": "once"}, ClientToken="token-1")
    second = aws.ask_create(QUEUE, {"QueueName": "once"}, ClientToken="token-1")
    assert second["RequestToken"] == first["RequestToken"]
    assert aws.wait(second)["OperationStatus"] == "SUCCESS"
    third = aws.ask_create(QUEUE, {"QueueName": "once"}, ClientToken="token-1")
    assert (third["RequestToken"], third["OperationStatus"]) == (first["RequestToken"], "SUCCESS")
    (request,) = aws.requests()
    assert (request["accepted"], request["attempts"], request["effects"]) == (3, 1, 1)


def test_the_same_client_token_for_another_body_is_a_conflict(aws: Aws) -> None:
    aws.create(QUEUE, {"QueueName": "mine"}, ClientToken="token-2")
    create = aws.cloudcontrol.create_resource
    body = json.dumps({"QueueName": "yours"})
    assert (
        refused(create, TypeName=QUEUE, DesiredState=body, ClientToken="token-2")
        == "ClientTokenConflictException"
    )
    delete = aws.cloudcontrol.delete_resource
    assert (
        refused(delete, TypeName=QUEUE, Identifier="x", ClientToken="token-2")
        == "ClientTokenConflictException"
    )


def test_client_tokens_of_two_accounts_do_not_meet(aws: Aws) -> None:
    other = Aws(
        {"endpoint_url": aws.endpoint, "region_name": "us-east-1", "aws_access_key_id": "299999999999"}
    )
    mine = aws.wait(aws.ask_create(QUEUE, {"QueueName": "same"}, ClientToken="token-3"))
    theirs = other.wait(other.ask_create(QUEUE, {"QueueName": "same"}, ClientToken="token-3"))
    assert mine["RequestToken"] != theirs["RequestToken"]
    assert (aws.identifiers(QUEUE), other.identifiers(QUEUE)) == (
        [mine["Identifier"]],
        [theirs["Identifier"]],
    )
    status = other.cloudcontrol.get_resource_request_status
    assert refused(status, RequestToken=mine["RequestToken"]) == "RequestTokenNotFoundException"


def test_two_changes_of_one_resource_at_once_are_refused(aws: Aws) -> None:
    identifier = aws.create(QUEUE, {"QueueName": "busy"})
    aws.faults({"kind": "handler_latency", "seconds": 0.3, "identifier": "*/busy"})
    arguments = {
        "TypeName": QUEUE,
        "Identifier": identifier,
        "PatchDocument": json.dumps([replace("/VisibilityTimeout", 1)]),
    }
    event = aws.cloudcontrol.update_resource(**arguments)["ProgressEvent"]
    assert refused(aws.cloudcontrol.update_resource, **arguments) == "ConcurrentOperationException"
    assert aws.wait(event)["OperationStatus"] == "SUCCESS"


def test_a_cancelled_request_never_takes_effect(aws: Aws) -> None:
    aws.faults({"kind": "handler_latency", "seconds": 30, "identifier": "*", "type": "AWS::Logs::LogGroup"})
    event = aws.ask_create("AWS::Logs::LogGroup", {"LogGroupName": "/never"})
    cancelled = aws.cloudcontrol.cancel_resource_request(RequestToken=event["RequestToken"])["ProgressEvent"]
    assert cancelled["OperationStatus"] == "CANCEL_COMPLETE"
    assert refused(aws.cloudcontrol.cancel_resource_request, RequestToken=event["RequestToken"]) == (
        "ConcurrentModificationException"
    )
    assert aws.identifiers("AWS::Logs::LogGroup") == []
    assert aws.requests()[0]["effects"] == 0


def test_requests_are_listed_newest_first_and_filtered(aws: Aws) -> None:
    identifier = aws.create(QUEUE, {"QueueName": "listed"})
    aws.delete(QUEUE, identifier)
    listed = aws.cloudcontrol.list_resource_requests()["ResourceRequestStatusSummaries"]
    assert [(event["Operation"], event["OperationStatus"]) for event in listed] == [
        ("DELETE", "SUCCESS"),
        ("CREATE", "SUCCESS"),
    ]
    wanted = {"Operations": ["CREATE"], "OperationStatuses": ["SUCCESS"]}
    filtered = aws.cloudcontrol.list_resource_requests(ResourceRequestStatusFilter=wanted)
    assert [event["Operation"] for event in filtered["ResourceRequestStatusSummaries"]] == ["CREATE"]


def test_a_list_comes_in_pages_and_can_be_narrowed(aws: Aws) -> None:
    for number in range(5):
        aws.client("sqs").create_queue(QueueName=f"page-{number}")
    pages = aws.cloudcontrol.get_paginator("list_resources").paginate(TypeName=QUEUE, MaxResults=2)
    assert [len(page["ResourceDescriptions"]) for page in pages] == [2, 2, 1]
    narrowed = aws.cloudcontrol.list_resources(
        TypeName=QUEUE, ResourceModel=json.dumps({"QueueName": "page-3"})
    )
    assert len(narrowed["ResourceDescriptions"]) == 1


@pytest.mark.parametrize(
    ("type_name", "desired", "words"),
    [
        ("AWS::Lambda::Function", {"Runtime": "python3.12"}, "required key [Code] not found"),
        ("AWS::SQS::Queue", {"QueueNam": "x"}, "extraneous key [QueueNam] is not permitted"),
        ("AWS::SQS::Queue", {"VisibilityTimeout": "40"}, "expected type: Integer, found: String"),
        ("AWS::SQS::Queue", {"FifoQueue": 1}, "expected type: Boolean, found: Integer"),
        ("AWS::EC2::VPC", {"CidrBlock": "10.0.0.0/16", "VpcId": "vpc-1"}, "read-only"),
        ("AWS::S3::Bucket", {"VersioningConfiguration": {"Status": "On"}}, "not a valid enum value"),
        ("AWS::EC2::Subnet", {"VpcId": "vpc-0", "CidrBlock": "10.0.0.0/24"}, "InvalidVpcID.NotFound"),
        ("AWS::EC2::SecurityGroup", {"GroupDescription": "x", "VpcId": "vpc-0"}, "InvalidVpcID.NotFound"),
    ],
    ids=[
        "required",
        "unknown",
        "type",
        "one-is-not-true",
        "read-only",
        "enum",
        "vpc-of-subnet",
        "vpc-of-group",
    ],
)
def test_an_invalid_model_fails_and_nothing_is_made(
    aws: Aws, type_name: str, desired: dict[str, Any], words: str
) -> None:
    before = aws.identifiers(type_name)
    event = aws.failed_create(type_name, desired)
    assert event["ErrorCode"] == "InvalidRequest"
    assert words in event["StatusMessage"]
    assert aws.identifiers(type_name) == before


@pytest.mark.parametrize(
    ("type_name", "desired"),
    [
        ("AWS::S3::Bucket", {"BucketName": "taken-by-me"}),
        (
            "AWS::DynamoDB::Table",
            {"TableName": "taken", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}]},
        ),
        ("AWS::IAM::User", {"UserName": "taken"}),
        ("AWS::Logs::LogGroup", {"LogGroupName": "/taken"}),
        ("AWS::SQS::Queue", {"QueueName": "taken"}),
        ("AWS::SNS::Topic", {"TopicName": "taken"}),
    ],
    ids=lambda value: value.removeprefix("AWS::") if isinstance(value, str) else "",
)
def test_what_exists_is_not_created_again(aws: Aws, type_name: str, desired: dict[str, Any]) -> None:
    identifier = aws.create(type_name, desired)
    assert aws.failed_create(type_name, desired)["ErrorCode"] == "AlreadyExists"
    assert aws.delete(type_name, identifier)["OperationStatus"] == "SUCCESS"


@pytest.mark.parametrize(
    ("patch", "code", "words"),
    [
        ([replace("/QueueName", "other")], "NotUpdatable", "createOnlyProperties [/properties/QueueName]"),
        ([replace("/Arn", "arn:aws:sqs:x")], "NotUpdatable", "readOnlyProperties [/properties/Arn]"),
        ([add("/Nonsense", 1)], "InvalidRequest", "extraneous key [Nonsense]"),
        ([replace("/VisibilityTimeout", "9")], "InvalidRequest", "expected type: Integer"),
        ([replace("/VisibilityTimeout", 999999)], "InvalidRequest", "VisibilityTimeout"),
    ],
    ids=["create-only", "read-only", "unknown", "type", "refused-by-the-service"],
)
def test_an_update_that_may_not_be_fails_and_changes_nothing(
    aws: Aws, patch: list[dict[str, Any]], code: str, words: str
) -> None:
    identifier = aws.create(QUEUE, {"QueueName": "still"})
    before = aws.get(QUEUE, identifier)
    event = aws.update(QUEUE, identifier, *patch)
    assert (event["OperationStatus"], event["ErrorCode"]) == ("FAILED", code)
    assert words in event["StatusMessage"]
    assert aws.get(QUEUE, identifier) == before


@pytest.mark.parametrize(
    "patch",
    [
        "not json",
        '{"op": "add"}',
        '[{"op": "replace", "path": "/Tags", "value": []}]',
        '[{"op": "jump", "path": "/x"}]',
    ],
    ids=["not-json", "not-a-list", "nothing-to-replace", "unknown-op"],
)
def test_a_patch_document_that_does_not_fit_is_refused_at_the_door(aws: Aws, patch: str) -> None:
    identifier = aws.create(QUEUE, {"QueueName": "patched"})
    update = aws.cloudcontrol.update_resource
    arguments = {"TypeName": QUEUE, "Identifier": identifier, "PatchDocument": patch}
    assert refused(update, **arguments) == "InvalidRequestException"


def test_what_does_not_exist_is_not_found(aws: Aws) -> None:
    url = f"{aws.endpoint}/{aws.account}/nothing"
    control = aws.cloudcontrol
    patch = json.dumps([remove("/Tags")])
    assert refused(control.get_resource, TypeName=QUEUE, Identifier=url) == "ResourceNotFoundException"
    assert refused(control.update_resource, TypeName=QUEUE, Identifier=url, PatchDocument=patch) == (
        "ResourceNotFoundException"
    )
    assert aws.delete(QUEUE, url)["ErrorCode"] == "NotFound"
    assert (
        refused(control.get_resource_request_status, RequestToken="nothing")
        == "RequestTokenNotFoundException"
    )


@pytest.mark.parametrize("type_name", TYPES_UNKNOWN)
def test_a_type_that_does_not_exist_is_not_found(aws: Aws, type_name: str) -> None:
    assert (
        refused(aws.cloudcontrol.create_resource, TypeName=type_name, DesiredState="{}")
        == "TypeNotFoundException"
    )


@pytest.mark.parametrize(
    "type_name",
    [
        "AWS::IAM::Policy",
        "AWS::SQS::QueuePolicy",
        "AWS::Redshift::Cluster",
        "AWS::CloudFormation::WaitCondition",
    ],
)
def test_a_type_without_handlers_is_refused_by_the_services_own_error(aws: Aws, type_name: str) -> None:
    assert refused(aws.cloudcontrol.create_resource, TypeName=type_name, DesiredState="{}") == (
        "UnsupportedActionException"
    )
    assert refused(aws.cloudcontrol.list_resources, TypeName=type_name) == "UnsupportedActionException"


def test_an_action_that_a_type_does_not_have_is_refused(aws: Aws) -> None:
    update = aws.cloudcontrol.update_resource
    arguments = {"TypeName": "AWS::Lambda::Permission", "Identifier": "f|s", "PatchDocument": "[]"}
    assert refused(update, **arguments) == "UnsupportedActionException"


def test_drift_made_by_native_calls_shows(aws: Aws) -> None:
    sqs = aws.client("sqs")
    url = aws.create(
        QUEUE, {"QueueName": "drifting", "VisibilityTimeout": 40, "Tags": [{"Key": "a", "Value": "1"}]}
    )
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
    live = aws.get(QUEUE, url)
    assert live["VisibilityTimeout"] == 7
    assert "Tags" not in live
    sqs.delete_queue(QueueUrl=url)
    assert (
        refused(aws.cloudcontrol.get_resource, TypeName=QUEUE, Identifier=url) == "ResourceNotFoundException"
    )
    assert aws.identifiers(QUEUE) == []


def test_what_native_calls_made_is_listed_read_changed_and_deleted(aws: Aws) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.44.0.0/16")["Vpc"]["VpcId"]
    assert vpc in aws.identifiers("AWS::EC2::VPC")
    assert aws.get("AWS::EC2::VPC", vpc)["CidrBlock"] == "10.44.0.0/16"
    tags = [{"Key": "adopted", "Value": "yes"}]
    assert aws.update("AWS::EC2::VPC", vpc, add("/Tags", tags))["OperationStatus"] == "SUCCESS"
    assert ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Tags"] == tags
    assert aws.delete("AWS::EC2::VPC", vpc)["OperationStatus"] == "SUCCESS"
    assert vpc not in [found["VpcId"] for found in ec2.describe_vpcs()["Vpcs"]]


def test_what_is_in_use_is_not_deleted(aws: Aws) -> None:
    vpc = aws.create("AWS::EC2::VPC", {"CidrBlock": "10.45.0.0/16"})
    subnet = aws.create("AWS::EC2::Subnet", {"VpcId": vpc, "CidrBlock": "10.45.1.0/24"})
    event = aws.delete("AWS::EC2::VPC", vpc)
    assert (event["OperationStatus"], event["ErrorCode"]) == ("FAILED", "ResourceConflict")
    assert aws.delete("AWS::EC2::Subnet", subnet)["OperationStatus"] == "SUCCESS"
    assert aws.delete("AWS::EC2::VPC", vpc)["OperationStatus"] == "SUCCESS"


def test_a_bucket_that_holds_objects_is_not_deleted(aws: Aws) -> None:
    bucket = aws.create("AWS::S3::Bucket", {})
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert aws.delete("AWS::S3::Bucket", bucket)["ErrorCode"] == "ResourceConflict"
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    s3.delete_object(Bucket=bucket, Key="a")
    assert aws.delete("AWS::S3::Bucket", bucket)["OperationStatus"] == "SUCCESS"


def test_properties_that_no_service_keeps_are_remembered_until_deletion(aws: Aws) -> None:
    volumes = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20}}]
    instance = aws.create("AWS::EC2::Instance", {"BlockDeviceMappings": volumes})
    assert aws.get("AWS::EC2::Instance", instance)["BlockDeviceMappings"] == volumes
    assert aws.delete("AWS::EC2::Instance", instance)["OperationStatus"] == "SUCCESS"


def test_accounts_and_regions_are_apart(aws: Aws) -> None:
    aws.create(QUEUE, {"QueueName": "here"})
    elsewhere = Aws(
        {"endpoint_url": aws.endpoint, "region_name": "eu-west-1", "aws_access_key_id": aws.account}
    )
    stranger = Aws(
        {"endpoint_url": aws.endpoint, "region_name": "us-east-1", "aws_access_key_id": "288888888888"}
    )
    assert len(aws.identifiers(QUEUE)) == 1
    assert elsewhere.identifiers(QUEUE) == []
    assert stranger.identifiers(QUEUE) == []
    assert aws.client("sts").get_caller_identity()["Account"] == aws.account
