"""VPC, subnets, security groups, gateways, routes, addresses and endpoints."""

from collections.abc import Iterator

from ministack.services import ec2

from fairlead.sandbox.inside.live.kind import Kind, Model, document, picked, some, tag_list


def _tags(key: str) -> list[Model]:
    return tag_list(ec2._tags.get(key))


def _vpc(key: str) -> Model | None:
    vpc = ec2._vpcs.get(key)
    if vpc is None:
        return None
    return some(
        VpcId=key,
        CidrBlock=vpc["CidrBlock"],
        InstanceTenancy=vpc.get("InstanceTenancy", "default"),
        EnableDnsSupport=vpc.get("EnableDnsSupport", True),
        EnableDnsHostnames=vpc.get("EnableDnsHostnames", False),
        DefaultNetworkAcl=vpc.get("DefaultNetworkAclId"),
        DefaultSecurityGroup=vpc.get("DefaultSecurityGroupId"),
        Tags=_tags(key),
    )


def _subnet(key: str) -> Model | None:
    subnet = ec2._subnets.get(key)
    if subnet is None:
        return None
    return some(
        SubnetId=key,
        **picked(subnet, "VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId"),
        MapPublicIpOnLaunch=subnet.get("MapPublicIpOnLaunch", False),
        AssignIpv6AddressOnCreation=subnet.get("AssignIpv6AddressOnCreation", False),
        Tags=_tags(key),
    )


def rules(permissions: list[Model], peer: str) -> Iterator[Model]:
    """Every single rule of a list of permissions; `peer` is Source or Destination."""
    for permission in permissions:
        head = picked(permission, "IpProtocol", "FromPort", "ToPort")
        sources = [
            *(("CidrIp", item["CidrIp"], item) for item in permission.get("IpRanges") or []),
            *(("CidrIpv6", item["CidrIpv6"], item) for item in permission.get("Ipv6Ranges") or []),
            *(
                (f"{peer}PrefixListId", item["PrefixListId"], item)
                for item in permission.get("PrefixListIds") or []
            ),
            *(
                (f"{peer}SecurityGroupId", item.get("GroupId"), item)
                for item in permission.get("UserIdGroupPairs") or []
            ),
        ]
        for name, value, item in sources:
            yield {**head, name: value, **picked(item, "Description")}


def _security_group(key: str) -> Model | None:
    group = ec2._security_groups.get(key)
    if group is None:
        return None
    return some(
        Id=key,
        GroupId=key,
        GroupName=group["GroupName"],
        GroupDescription=group["Description"],
        VpcId=group["VpcId"],
        SecurityGroupIngress=list(rules(group.get("IpPermissions") or [], "Source")),
        SecurityGroupEgress=list(rules(group.get("IpPermissionsEgress") or [], "Destination")),
        Tags=_tags(key),
    )


def _rule_keys(member: str) -> list[str]:
    return [
        ec2._sg_rule_id(group_id, member == "IpPermissionsEgress", permission)
        for group_id, group in ec2._security_groups.items()
        for permission in group.get(member) or []
    ]


def _rule(key: str, member: str, peer: str) -> Model | None:
    for group_id, group in ec2._security_groups.items():
        for permission in group.get(member) or []:
            if ec2._sg_rule_id(group_id, member == "IpPermissionsEgress", permission) == key:
                first = next(rules([permission], peer), picked(permission, "IpProtocol"))
                return {"Id": key, "GroupId": group_id, **first}
    return None


def _internet_gateway(key: str) -> Model | None:
    if key not in ec2._internet_gateways:
        return None
    return some(InternetGatewayId=key, Tags=_tags(key))


def _attachment_keys() -> list[str]:
    internet = [
        f"IGW|{attachment['VpcId']}"
        for gateway in ec2._internet_gateways.values()
        for attachment in gateway.get("Attachments") or []
    ]
    vpn = [
        f"VGW|{attachment['VpcId']}"
        for gateway in ec2._vpn_gateways.values()
        for attachment in gateway.get("VpcAttachments") or gateway.get("Attachments") or []
    ]
    return internet + vpn


def _attachment(key: str) -> Model | None:
    kind, _, vpc_id = key.partition("|")
    store, member = (
        (ec2._internet_gateways, "InternetGatewayId")
        if kind == "IGW"
        else (ec2._vpn_gateways, "VpnGatewayId")
    )
    for gateway_id, gateway in store.items():
        for attachment in gateway.get("Attachments") or gateway.get("VpcAttachments") or []:
            if attachment["VpcId"] == vpc_id:
                return {"AttachmentType": kind, "VpcId": vpc_id, member: gateway_id}
    return None


def _route_table(key: str) -> Model | None:
    table = ec2._route_tables.get(key)
    return None if table is None else some(RouteTableId=key, VpcId=table["VpcId"], Tags=_tags(key))


_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "InstanceId",
    "NetworkInterfaceId",
    "VpcPeeringConnectionId",
    "TransitGatewayId",
    "EgressOnlyInternetGatewayId",
    "VpcEndpointId",
)


def _destination(route: Model) -> str:
    return next((str(route[name]) for name in _DESTINATIONS if route.get(name)), "")


def _route_keys() -> list[str]:
    return [
        f"{table_id}|{_destination(route)}"
        for table_id, table in ec2._route_tables.items()
        for route in table["Routes"]
    ]


def _route(key: str) -> Model | None:
    table_id, _, destination = key.partition("|")
    for route in (ec2._route_tables.get(table_id) or {}).get("Routes", []):
        if _destination(route) == destination:
            return {
                "RouteTableId": table_id,
                "CidrBlock": destination,
                **picked(route, *_DESTINATIONS, *_TARGETS),
            }
    return None


def _associations() -> Iterator[Model]:
    for table in ec2._route_tables.values():
        yield from (item for item in table["Associations"] if item.get("SubnetId"))


def _association(key: str) -> Model | None:
    for item in _associations():
        if item["RouteTableAssociationId"] == key:
            return {"Id": key, "RouteTableId": item["RouteTableId"], "SubnetId": item["SubnetId"]}
    return None


def _nat_gateway(key: str) -> Model | None:
    gateway = ec2._nat_gateways.get(key)
    if gateway is None or gateway.get("State") in ("deleted", "deleting"):
        return None
    return some(
        NatGatewayId=key,
        **picked(gateway, "SubnetId", "VpcId", "AllocationId", "ConnectivityType"),
        Tags=_tags(key),
    )


def _address(key: str) -> Model | None:
    address = ec2._addresses.get(key.rpartition("|")[2])
    if address is None:
        return None
    return some(
        **picked(address, "PublicIp", "AllocationId", "Domain", "InstanceId"),
        Tags=_tags(address["AllocationId"]),
    )


def _endpoint(key: str) -> Model | None:
    endpoint = ec2._vpc_endpoints.get(key)
    if endpoint is None:
        return None
    return some(
        Id=key,
        **picked(endpoint, "VpcId", "ServiceName", "VpcEndpointType", "RouteTableIds", "SubnetIds"),
        **picked(endpoint, "SecurityGroupIds", "NetworkInterfaceIds", "DnsEntries", "CreationTimestamp"),
        PrivateDnsEnabled=endpoint.get("PrivateDnsEnabled", False),
        PolicyDocument=document(endpoint.get("PolicyDocument")),
        Tags=_tags(key),
    )


KINDS = (
    Kind(type_name="AWS::EC2::VPC", keys=ec2._vpcs.keys, read=_vpc),
    Kind(type_name="AWS::EC2::Subnet", keys=ec2._subnets.keys, read=_subnet),
    Kind(
        type_name="AWS::EC2::SecurityGroup",
        unique=("GroupName", "VpcId"),
        keys=ec2._security_groups.keys,
        read=_security_group,
    ),
    Kind(
        type_name="AWS::EC2::SecurityGroupIngress",
        keys=lambda: _rule_keys("IpPermissions"),
        read=lambda key: _rule(key, "IpPermissions", "Source"),
    ),
    Kind(
        type_name="AWS::EC2::SecurityGroupEgress",
        keys=lambda: _rule_keys("IpPermissionsEgress"),
        read=lambda key: _rule(key, "IpPermissionsEgress", "Destination"),
    ),
    Kind(
        type_name="AWS::EC2::InternetGateway",
        keys=ec2._internet_gateways.keys,
        read=_internet_gateway,
    ),
    Kind(type_name="AWS::EC2::VPCGatewayAttachment", keys=_attachment_keys, read=_attachment),
    Kind(type_name="AWS::EC2::RouteTable", keys=ec2._route_tables.keys, read=_route_table),
    Kind(type_name="AWS::EC2::Route", keys=_route_keys, read=_route),
    Kind(
        type_name="AWS::EC2::SubnetRouteTableAssociation",
        keys=lambda: [item["RouteTableAssociationId"] for item in _associations()],
        read=_association,
    ),
    Kind(type_name="AWS::EC2::NatGateway", keys=ec2._nat_gateways.keys, read=_nat_gateway),
    Kind(
        type_name="AWS::EC2::EIP",
        keys=lambda: [f"{address['PublicIp']}|{key}" for key, address in ec2._addresses.items()],
        read=_address,
    ),
    Kind(type_name="AWS::EC2::VPCEndpoint", keys=ec2._vpc_endpoints.keys, read=_endpoint),
)
