"""The ARN of a resource that exists: told by AWS among its attributes or, for much of EC2, made of its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairlead.changes.model import Properties

# Types whose model has no ARN, although AWS gives them one: what stands before the id in it
# (the service authorization reference of EC2 lists the formats).
_EC2: Mapping[str, str] = {
    "AWS::EC2::DHCPOptions": "dhcp-options",
    "AWS::EC2::Instance": "instance",
    "AWS::EC2::InternetGateway": "internet-gateway",
    "AWS::EC2::LaunchTemplate": "launch-template",
    "AWS::EC2::NatGateway": "natgateway",
    "AWS::EC2::NetworkAcl": "network-acl",
    "AWS::EC2::NetworkInterface": "network-interface",
    "AWS::EC2::RouteTable": "route-table",
    "AWS::EC2::SecurityGroup": "security-group",
    "AWS::EC2::Subnet": "subnet",
    "AWS::EC2::TransitGateway": "transit-gateway",
    "AWS::EC2::VPC": "vpc",
    "AWS::EC2::VPCEndpoint": "vpc-endpoint",
    "AWS::EC2::Volume": "volume",
}


def told_arn(type_name: str, identifier: str, observed: Properties) -> str | None:
    """The ARN that AWS told: `Arn`, or `DBInstanceArn` of a DBInstance, or the identifier itself."""
    kind = type_name.rpartition("::")[2]
    for name in ("Arn", "ARN", f"{kind}Arn", f"{kind}ARN"):
        value = observed.get(name)
        if isinstance(value, str) and value.startswith("arn:"):
            return value
    return identifier if identifier.startswith("arn:") else None


@dataclass(frozen=True, slots=True)
class Arns:
    """ARNs of one account in one region."""

    partition: str
    region: str
    account: str

    def of(self, type_name: str, identifier: str, observed: Properties) -> str | None:
        """The ARN of a resource, told or made; None where neither is possible."""
        told = told_arn(type_name, identifier, observed)
        if told is None and type_name in _EC2 and identifier:
            return f"arn:{self.partition}:ec2:{self.region}:{self.account}:{_EC2[type_name]}/{identifier}"
        return told
