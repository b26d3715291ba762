"""The resource schemas: what AWS says about each type."""

import subprocess
import sys

import pytest

from fairlead.changes.model import Replacement
from fairlead.changes.registry import Registry, ResourceType, UnknownType


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


def test_a_type_says_what_the_schema_says(registry: Registry) -> None:
    instance = registry.get("AWS::EC2::Instance")
    assert instance.primary_identifier == ("InstanceId",)
    assert "/properties/ImageId" in instance.create_only
    assert "/properties/InstanceType" in instance.conditional_create_only
    assert "/properties/PrivateIp" in instance.read_only
    assert "/properties/BlockDeviceMappings/*/NoDevice" in instance.write_only
    assert instance.handlers == {"create", "read", "update", "delete", "list"}
    assert instance.has_cloud_control
    assert (instance.taggable, instance.tag_property) == (True, "Tags")
    assert registry.get("AWS::IAM::Role").required == ("AssumeRolePolicyDocument",)


def test_types_without_handlers_cannot_go_through_cloud_control(registry: Registry) -> None:
    assert not registry.get("AWS::EC2::NetworkAclEntry").has_cloud_control


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("AWS::EC2::Instanc", "AWS::EC2::Instance"),
        ("AWS::S3::bucket", "AWS::S3::Bucket"),
        ("AWS::Storage::Bucket", "Bucket"),
        ("x" * 10_000, ""),
    ],
)
def test_an_unknown_type_comes_with_similar_names(registry: Registry, name: str, guess: str) -> None:
    with pytest.raises(UnknownType) as caught:
        registry.get(name)
    assert guess in (caught.value.remedy or "")
    assert (caught.value.code, caught.value.status) == ("template.unknown_type", 422)
    assert registry.find(name) is None


@pytest.mark.parametrize(
    ("type_name", "path", "expected"),
    [
        pytest.param("AWS::EC2::Instance", "ImageId", Replacement.ALWAYS, id="create-only"),
        pytest.param("AWS::EC2::Instance", "/properties/ImageId", Replacement.ALWAYS, id="as a pointer"),
        pytest.param(
            "AWS::EC2::Instance", "NetworkInterfaces.0.SubnetId", Replacement.ALWAYS, id="inside create-only"
        ),
        pytest.param("AWS::EC2::Instance", "InstanceType", Replacement.CONDITIONAL, id="conditional"),
        pytest.param(
            "AWS::EC2::Instance", "BlockDeviceMappings.0", Replacement.CONDITIONAL, id="inside conditional"
        ),
        pytest.param("AWS::EC2::Instance", "Tags.0.Value", Replacement.NEVER, id="tags"),
        pytest.param("AWS::EC2::Instance", "NoSuchThing.1", Replacement.NEVER, id="unknown property"),
        pytest.param("AWS::S3::Bucket", "BucketName", Replacement.ALWAYS, id="name"),
        pytest.param("AWS::S3::Bucket", "BucketNameX", Replacement.NEVER, id="a name that only begins alike"),
        pytest.param(
            "AWS::Batch::ComputeEnvironment", "ComputeResources", Replacement.CONDITIONAL, id="a whole"
        ),
        pytest.param(
            "AWS::Batch::ComputeEnvironment",
            ("ComputeResources", "SpotIamFleetRole"),
            Replacement.ALWAYS,
            id="its create-only part",
        ),
    ],
)
def test_replacement_follows_the_schema(
    registry: Registry, type_name: str, path: str | tuple[str, ...], expected: Replacement
) -> None:
    assert registry.get(type_name).replacement_of(path) is expected


@pytest.mark.parametrize(
    ("type_name", "path", "expected"),
    [
        ("AWS::EC2::Instance", "SecurityGroupIds", True),
        ("AWS::EC2::Instance", "Tags", True),
        ("AWS::EC2::SecurityGroup", "SecurityGroupIngress", True),
        ("AWS::EC2::Instance", "ImageId", False),
        ("AWS::EC2::Instance", "Tags.0", False),
        ("AWS::EC2::Instance", "Nothing", False),
    ],
)
def test_arrays_whose_order_means_nothing_are_known(
    registry: Registry, type_name: str, path: str, expected: bool
) -> None:
    assert registry.get(type_name).unordered(path) is expected


@pytest.mark.parametrize(
    ("type_name", "attribute", "expected"),
    [
        ("AWS::EC2::VPC", "CidrBlock", True),
        ("AWS::EC2::VPC", "DefaultSecurityGroup", True),
        ("AWS::RDS::DBInstance", "Endpoint.Address", True),
        ("AWS::RDS::DBInstance", "Endpoint.Adress", False),
        ("AWS::S3::Bucket", "RegionalDomainName", True),
        ("AWS::S3::Bucket", "Arm", False),
    ],
)
def test_attributes_are_known(registry: Registry, type_name: str, attribute: str, expected: bool) -> None:
    assert registry.get(type_name).has_attribute(attribute) is expected


def test_recursive_schemas_can_be_walked_to_any_depth(registry: Registry) -> None:
    acl = registry.get("AWS::WAFv2::WebACL")
    path = "Rules.0.Statement" + ".NotStatement.Statement" * 20 + ".ByteMatchStatement.SearchString"
    shape = acl.shape_at(path)
    assert shape is not None
    assert shape.kinds == ("string",)


def test_every_type_can_be_read(registry: Registry) -> None:
    names = registry.names()
    assert len(names) > 1500
    for name in names[::40]:
        kind: ResourceType = registry.get(name)
        assert kind.primary_identifier
        assert set(kind.properties) == set(kind.root.names) or kind.schema.keys() & {
            "allOf",
            "anyOf",
            "oneOf",
        }
        for pointer in kind.create_only:
            assert kind.replacement_of(pointer) is Replacement.ALWAYS


def test_reading_schemas_never_imports_cfn_lint() -> None:
    script = (
        "import sys; from fairlead.changes.registry import Registry; Registry().get('AWS::S3::Bucket');"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'cfnlint']"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
