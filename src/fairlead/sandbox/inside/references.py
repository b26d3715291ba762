"""What a new thing must find, and what an old one must not be holding: EC2's own rules of order.

MiniStack creates a subnet in a VPC that does not exist and deletes one that is in use; AWS does neither,
and a plan that applies in the wrong order must fail here as it would there.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import ec2, iam, lambda_svc, rds

Model = dict[str, Any]


class ReferenceMissing(ValueError):
    """Something that the properties name does not exist."""


class StillInUse(ValueError):
    """Something else depends on it."""


def _vpc(name: str) -> bool:
    return name in ec2._vpcs


def _subnet(name: str) -> bool:
    return name in ec2._subnets


def _group(name: str) -> bool:
    return name in ec2._security_groups


def _table(name: str) -> bool:
    return name in ec2._route_tables


def _gateway(name: str) -> bool:
    return name in ec2._internet_gateways or name in ec2._vpn_gateways or name == "local"


def _role(name: str) -> bool:
    return name in iam._roles


def _function(name: str) -> bool:
    return name.rpartition(":")[2] in lambda_svc._functions or ":function:" in name


def _subnet_group(name: str) -> bool:
    return name in rds._subnet_groups or name == "default"


# type → (path of names, does it exist, the service's error code)
_Needs = tuple[tuple[str, Callable[[str], bool], str], ...]
_IN_VPC = ("VpcId", _vpc, "InvalidVpcID.NotFound")
_IN_SUBNET = ("SubnetId", _subnet, "InvalidSubnetID.NotFound")
_IN_TABLE = ("RouteTableId", _table, "InvalidRouteTableID.NotFound")
_OF_GROUP = ("GroupId", _group, "InvalidGroup.NotFound")
NEEDS: dict[str, _Needs] = {
    "AWS::EC2::Subnet": (_IN_VPC,),
    "AWS::EC2::SecurityGroup": (_IN_VPC,),
    "AWS::EC2::RouteTable": (_IN_VPC,),
    "AWS::EC2::VPCEndpoint": (_IN_VPC,),
    "AWS::EC2::VPCGatewayAttachment": (
        _IN_VPC,
        ("InternetGatewayId", _gateway, "InvalidInternetGatewayID.NotFound"),
    ),
    "AWS::EC2::Route": (_IN_TABLE, ("GatewayId", _gateway, "InvalidGatewayID.NotFound")),
    "AWS::EC2::SubnetRouteTableAssociation": (_IN_TABLE, _IN_SUBNET),
    "AWS::EC2::NatGateway": (_IN_SUBNET,),
    "AWS::EC2::SecurityGroupIngress": (_OF_GROUP,),
    "AWS::EC2::SecurityGroupEgress": (_OF_GROUP,),
    "AWS::EC2::Instance": (_IN_SUBNET, ("SecurityGroupIds", _group, "InvalidGroup.NotFound")),
    "AWS::RDS::DBSubnetGroup": (("SubnetIds", _subnet, "InvalidSubnet"),),
    "AWS::RDS::DBInstance": (
        ("DBSubnetGroupName", _subnet_group, "DBSubnetGroupNotFoundFault"),
        ("VPCSecurityGroups", _group, "InvalidParameterValue"),
    ),
    "AWS::ElastiCache::SubnetGroup": (("SubnetIds", _subnet, "InvalidSubnet"),),
    "AWS::EFS::MountTarget": (("SubnetId", _subnet, "SubnetNotFound"),),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        ("Subnets", _subnet, "SubnetNotFound"),
        ("SecurityGroups", _group, "InvalidSecurityGroup"),
    ),
    "AWS::ElasticLoadBalancingV2::TargetGroup": (("VpcId", _vpc, "ValidationError"),),
    "AWS::IAM::InstanceProfile": (("Roles", _role, "NoSuchEntity"),),
    "AWS::IAM::Policy": (("Roles", _role, "NoSuchEntity"),),
    "AWS::IAM::ManagedPolicy": (("Roles", _role, "NoSuchEntity"),),
    "AWS::Lambda::Permission": (("FunctionName", _function, "ResourceNotFoundException"),),
}


def check(type_name: str, properties: Model) -> None:
    """Raises ReferenceMissing where `properties` name something that does not exist."""
    for member, exists, code in NEEDS[type_name]:
        value = properties.get(member)
        for name in value if isinstance(value, list) else [value] if value else []:
            if not exists(str(name)):
                raise ReferenceMissing(f"{code}: {member} '{name}' does not exist")


def _live_instances() -> Iterator[Model]:
    return (item for item in ec2._instances.values() if item["State"]["Name"] != "terminated")


def _subnet_holders(subnet_id: str) -> Iterator[str]:
    yield from (item["InstanceId"] for item in _live_instances() if item["SubnetId"] == subnet_id)
    yield from (key for key, item in ec2._nat_gateways.items() if item.get("SubnetId") == subnet_id)
    for name, group in rds._subnet_groups.items():
        if any(item["SubnetIdentifier"] == subnet_id for item in group.get("Subnets") or []):
            yield name


def _group_holders(group_id: str) -> Iterator[str]:
    for item in _live_instances():
        if any(group["GroupId"] == group_id for group in item["SecurityGroups"]):
            yield item["InstanceId"]
    for name, item in rds._instances.items():
        if any(group["VpcSecurityGroupId"] == group_id for group in item.get("VpcSecurityGroups") or []):
            yield name
    for other_id, other in ec2._security_groups.items():
        permissions = [*(other.get("IpPermissions") or []), *(other.get("IpPermissionsEgress") or [])]
        pairs = [pair for permission in permissions for pair in permission.get("UserIdGroupPairs") or []]
        if other_id != group_id and any(pair.get("GroupId") == group_id for pair in pairs):
            yield other_id


def _gateway_holders(gateway_id: str) -> Iterator[str]:
    gateway = ec2._internet_gateways.get(gateway_id) or {}
    yield from (item["VpcId"] for item in gateway.get("Attachments") or [])


def _table_holders(table_id: str) -> Iterator[str]:
    table = ec2._route_tables.get(table_id) or {}
    yield from (item["SubnetId"] for item in table.get("Associations") or [] if item.get("SubnetId"))


def _subnet_group_holders(name: str) -> Iterator[str]:
    for key, item in rds._instances.items():
        if (item.get("DBSubnetGroup") or {}).get("DBSubnetGroupName") == name:
            yield key


def _role_holders(name: str) -> Iterator[str]:
    yield from (key for key, item in iam._instance_profiles.items() if name in (item.get("Roles") or []))


HELD: dict[str, Callable[[str], Iterator[str]]] = {
    "AWS::EC2::Subnet": _subnet_holders,
    "AWS::EC2::SecurityGroup": _group_holders,
    "AWS::EC2::InternetGateway": _gateway_holders,
    "AWS::EC2::RouteTable": _table_holders,
    "AWS::RDS::DBSubnetGroup": _subnet_group_holders,
    "AWS::IAM::Role": _role_holders,
}


def check_free(type_name: str, physical_id: str) -> None:
    """Raises StillInUse where something depends on `physical_id`."""
    holder = next(HELD[type_name](physical_id), None)
    if holder is not None:
        raise StillInUse(f"DependencyViolation: '{physical_id}' is still used by '{holder}'")
