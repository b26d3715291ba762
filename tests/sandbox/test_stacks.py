"""CloudFormation stacks: the way for types without Cloud Control handlers."""

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.cases import POLICY, POLICY2, TRUST
from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess


def template(type_name: str, **properties: Any) -> str:
    return json.dumps({"Resources": {"It": {"Type": type_name, "Properties": properties}}})


def status(aws: Aws, stack: str) -> str:
    """The stack's status once it has settled."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = str(aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])
        if not found.endswith("IN_PROGRESS"):
            return found
    raise AssertionError(f"{stack} did not settle")


@pytest.fixture
def role(aws: Aws) -> str:
    aws.client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(TRUST))
    return "worker"


def test_a_policy_lives_its_life_in_a_stack_of_its_own(aws: Aws, role: str) -> None:
    cloudformation, iam = aws.client("cloudformation"), aws.client("iam")
    body = template("AWS::IAM::Policy", PolicyName="p", PolicyDocument=POLICY, Roles=[role])
    arguments = {"StackName": "one", "Capabilities": ["CAPABILITY_IAM"], "ClientRequestToken": "c-1"}
    made = cloudformation.create_stack(TemplateBody=body, **arguments)["StackId"]
    assert cloudformation.create_stack(TemplateBody=body, **arguments)["StackId"] == made
    assert status(aws, "one") == "CREATE_COMPLETE"
    assert iam.get_role_policy(RoleName=role, PolicyName="p")["PolicyDocument"] == POLICY
    (resource,) = cloudformation.describe_stack_resources(StackName="one")["StackResources"]
    assert (resource["LogicalResourceId"], resource["ResourceStatus"]) == ("It", "CREATE_COMPLETE")
    detail = cloudformation.describe_stack_resource(StackName="one", LogicalResourceId="It")[
        "StackResourceDetail"
    ]
    assert detail["PhysicalResourceId"] == resource["PhysicalResourceId"]

    body = template("AWS::IAM::Policy", PolicyName="p", PolicyDocument=POLICY2, Roles=[role])
    arguments = {"StackName": "one", "Capabilities": ["CAPABILITY_IAM"], "ClientRequestToken": "c-2"}
    cloudformation.update_stack(TemplateBody=body, **arguments)
    cloudformation.update_stack(TemplateBody=body, **arguments)
    assert status(aws, "one") == "UPDATE_COMPLETE"
    assert iam.get_role_policy(RoleName=role, PolicyName="p")["PolicyDocument"] == POLICY2

    cloudformation.delete_stack(StackName="one", ClientRequestToken="c-3")
    assert status(aws, made) == "DELETE_COMPLETE"
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == []


def test_one_token_for_two_stacks_is_refused(aws: Aws, role: str) -> None:
    cloudformation = aws.client("cloudformation")
    body = template("AWS::SQS::Queue", QueueName="q")
    cloudformation.create_stack(StackName="a", TemplateBody=body, ClientRequestToken="t")
    with pytest.raises(ClientError) as refusal:
        cloudformation.create_stack(StackName="b", TemplateBody=body, ClientRequestToken="t")
    assert refusal.value.response["Error"]["Code"] == "TokenAlreadyExistsException"


def test_queue_and_topic_policies_reach_their_services(aws: Aws) -> None:
    cloudformation = aws.client("cloudformation")
    url = aws.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    topic = aws.client("sns").create_topic(Name="t")["TopicArn"]
    queue_body = template("AWS::SQS::QueuePolicy", Queues=[url], PolicyDocument=POLICY)
    topic_body = template("AWS::SNS::TopicPolicy", Topics=[topic], PolicyDocument=POLICY)
    cloudformation.create_stack(StackName="queue", TemplateBody=queue_body)
    cloudformation.create_stack(StackName="topic", TemplateBody=topic_body)
    assert (status(aws, "queue"), status(aws, "topic")) == ("CREATE_COMPLETE", "CREATE_COMPLETE")
    queue = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    assert json.loads(queue["Policy"]) == POLICY
    attributes = aws.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    assert json.loads(attributes["Policy"]) == POLICY


def test_what_a_stack_made_is_seen_by_cloud_control(aws: Aws) -> None:
    body = template("AWS::EC2::Instance", InstanceType="t3.micro", ImageId="ami-12345678")
    aws.client("cloudformation").create_stack(StackName="box", TemplateBody=body)
    assert status(aws, "box") == "CREATE_COMPLETE"
    (resource,) = aws.client("cloudformation").describe_stack_resources(StackName="box")["StackResources"]
    assert resource["PhysicalResourceId"] in aws.identifiers("AWS::EC2::Instance")
    assert aws.get("AWS::EC2::Instance", resource["PhysicalResourceId"])["InstanceType"] == "t3.micro"


def test_a_stack_replaces_an_instance_whose_image_changes(aws: Aws) -> None:
    cloudformation, ids = aws.client("cloudformation"), []
    for change, image in (
        (cloudformation.create_stack, "ami-11111111"),
        (cloudformation.update_stack, "ami-22222222"),
    ):
        change(StackName="box", TemplateBody=template("AWS::EC2::Instance", ImageId=image))
        assert status(aws, "box") in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        (resource,) = cloudformation.describe_stack_resources(StackName="box")["StackResources"]
        ids.append(resource["PhysicalResourceId"])
    assert aws.identifiers("AWS::EC2::Instance") == [ids[1]]
    assert aws.get("AWS::EC2::Instance", ids[1])["ImageId"] == "ami-22222222"


def test_a_stack_that_cannot_be_made_says_why(aws: Aws) -> None:
    body = template("AWS::EC2::Subnet", VpcId="vpc-nothing", CidrBlock="10.0.0.0/24")
    aws.client("cloudformation").create_stack(StackName="broken", TemplateBody=body)
    assert status(aws, "broken") == "ROLLBACK_COMPLETE"
    events = aws.client("cloudformation").describe_stack_events(StackName="broken")["StackEvents"]
    assert any("vpc-nothing" in event.get("ResourceStatusReason", "") for event in events)


def test_stacks_and_their_tokens_survive_kill_9(own_sandbox: SandboxProcess) -> None:
    aws = Aws(own_sandbox.aws())
    cloudformation = aws.client("cloudformation")
    arguments = {"StackName": "kept", "TemplateBody": template("AWS::SQS::Queue"), "ClientRequestToken": "t"}
    made = cloudformation.create_stack(**arguments)["StackId"]
    own_sandbox.kill()
    own_sandbox.restart()
    assert status(aws, "kept") == "CREATE_COMPLETE"
    assert cloudformation.create_stack(**arguments)["StackId"] == made
    (queue,) = aws.identifiers("AWS::SQS::Queue")
    assert (
        cloudformation.describe_stack_resources(StackName="kept")["StackResources"][0]["PhysicalResourceId"]
        == queue
    )
