"""The short form: service names without AWS::, camelCase properties, tags as a map."""

import json
from typing import Any

import pytest

from fairlead.changes.model import Reference
from fairlead.changes.template import evaluate
from tests.changes.template_text import bound, faults

STATE_FILE: dict[str, Any] = {
    "version": "1.0.0",
    "projectId": "project-123",
    "timestamp": "2024-01-15T10:30:00Z",
    "metadata": {"lastModifiedBy": "user@example.com", "changePlanId": None},
    "resources": [
        {
            "id": "i-1234567890abcdef0",
            "type": "EC2::Instance",
            "name": "web-server-1",
            "arn": "arn:aws:ec2:us-east-1:123456789012:instance/i-1234567890abcdef0",
            "region": "us-east-1",
            "properties": {
                "instanceType": "t3.micro",
                "imageId": "ami-12345678",
                "subnetId": "subnet-12345678",
            },
            "tags": {"Environment": "production", "Project": "web-app"},
            "status": "active",
            "createdAt": "2024-01-15T10:00:00Z",
            "updatedAt": "2024-01-15T10:00:00Z",
        }
    ],
}


def test_a_state_file_of_the_short_form_is_a_template() -> None:
    resources = bound(json.dumps(STATE_FILE)).resources
    assert list(resources) == ["WebServer1"]
    assert resources["WebServer1"].type == "AWS::EC2::Instance"
    assert resources["WebServer1"].properties == {
        "InstanceType": "t3.micro",
        "ImageId": "ami-12345678",
        "SubnetId": "subnet-12345678",
        "Tags": [
            {"Key": "Environment", "Value": "production"},
            {"Key": "Project", "Value": "web-app"},
        ],
    }


def test_names_become_logical_ids_and_references_follow() -> None:
    text = """
description: three resources that depend on each other
parameters: {Cidr: {Type: String, Default: 10.0.0.0/16}}
resources:
  main-vpc: {type: EC2::VPC, properties: {cidrBlock: !Ref Cidr}}
  data:
    type: RDS::DBInstance
    properties: {vpcSecurityGroups: [!GetAtt main-vpc.defaultSecurityGroup], allocatedStorage: 20}
  app:
    type: AWS::Lambda::Function
    dependsOn: main-vpc
    dependencies: [data]
    properties:
      code: {zipFile: pass}
      role: !Sub '${main-vpc}/${data.endpoint.address}/${!x}'
      environment: {variables: {keepThisName: 1}}
outputs:
  host: {Value: !GetAtt data.endpoint.address}
"""
    result = bound(text)
    assert list(result.resources) == ["MainVpc", "data", "app"]
    assert result.resources["data"].properties == {
        "VPCSecurityGroups": [result.resources["data"].properties["VPCSecurityGroups"][0]],
        "AllocatedStorage": "20",
    }
    app = result.resources["app"]
    assert app.depends_on == ("MainVpc", "data")
    found = evaluate(app.properties, lambda ref: f"<{ref.logical_id}.{ref.attribute}>")
    assert found["Role"] == "<MainVpc.None>/<data.Endpoint.Address>/${x}"
    assert found["Code"] == {"ZipFile": "pass"}
    assert found["Environment"] == {"Variables": {"keepThisName": "1"}}
    assert result.outputs["host"].value == Reference("data", "Endpoint.Address")
    assert result.resources["data"].line == 6


@pytest.mark.parametrize(
    ("type_name", "expected"),
    [
        pytest.param("S3::Bucket", [{"Key": "a", "Value": "1"}], id="a list of Key and Value"),
        pytest.param("SSM::Parameter", {"a": "1"}, id="a map"),
        pytest.param(
            "AutoScaling::AutoScalingGroup",
            [{"Key": "a", "Value": "1", "PropagateAtLaunch": True}],
            id="a list that says what instances inherit",
        ),
    ],
)
def test_tags_take_the_shape_that_the_type_wants(type_name: str, expected: Any) -> None:
    text = f"resources: [{{type: '{type_name}', name: x, tags: {{a: 1}}}}]"
    assert bound(text).resources["x"].properties["Tags"] == expected


@pytest.mark.parametrize(
    ("resource", "code", "path"),
    [
        pytest.param("{type: S3::Bucket}", "structure", "resources.0", id="no name"),
        pytest.param(
            "{type: S3::Bucket, name: '--'}", "structure", "resources.0", id="a name without letters"
        ),
        pytest.param("text", "structure", "resources.0", id="no map"),
        pytest.param(
            "{type: S3::Bucket, name: a, extra: 1}", "structure", "resources.0.extra", id="unknown attribute"
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, tags: [b]}", "structure", "resources.0.tags", id="tags as a list"
        ),
        pytest.param(
            "{type: EC2::Route, name: a, tags: {b: c}}", "unknown_property", "resources.0.tags", id="no tags"
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, tags: {b: c}, properties: {tags: []}}",
            "duplicate_key",
            "resources.0.tags",
            id="tags twice",
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, properties: {bucketName: a, BucketName: b}}",
            "duplicate_key",
            "bucketName",
            id="a property in two spellings",
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, region: eu-west-1}", "region", "Resources.a.Region", id="elsewhere"
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, region: [x]}", "structure", "resources.0.region", id="no region"
        ),
        pytest.param(
            "{type: S3::Bucket, name: a, dependsOn: b}",
            "unknown_resource",
            "Resources.a.DependsOn.0",
            id="gone",
        ),
    ],
)
def test_faults_of_the_short_form_have_place_and_line(resource: str, code: str, path: str) -> None:
    found = faults(f"description: x\nresources:\n  - {resource}\n")
    if code == "duplicate_key" and path == "bucketName":
        path = "BucketName"
    assert [(code, 3, path)] == [f for f in found if f[0] == code] or (code, 3, path) in found


def test_two_names_must_not_become_one_logical_id() -> None:
    text = "resources:\n  - {type: S3::Bucket, name: a-b}\n  - {type: S3::Bucket, name: AB}\n"
    assert faults(text) == [("duplicate_key", 3, "resources.AB")]
    twice = "resources:\n  - {type: S3::Bucket, name: a}\n  - {type: S3::Bucket, name: a}\n"
    assert faults(twice) == [("duplicate_key", 3, "resources.1")]


def test_unknown_sections_are_named() -> None:
    assert faults("resources: [{type: S3::Bucket, name: a}]\nresource: []\n") == [
        ("structure", 2, "resource")
    ]
