"""MiniStack's CloudFormation handlers, completed: what they drop is applied, what they lack is added.

Stacks and Cloud Control both come through here, so both behave alike.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import alb, dynamodb, ec2, eks, lambda_svc, rds, sns, waf
from ministack.services.cloudformation import provisioners

from fairlead.sandbox.inside import buckets, instances, references
from fairlead.sandbox.inside.registry import Facts, Registry, forbidden_changes

Model = dict[str, Any]
Finish = Callable[[str, Model, Model], None]  # physical id, properties before, properties after
HANDLERS: dict[str, dict[str, Any]] = provisioners._RESOURCE_HANDLERS


class Refused(ValueError):
    """The service behind a type would not do it."""


def checked(answer: Any) -> Any:
    """`answer` of a service, or Refused with the service's own words."""
    status, _, body = answer
    if status >= 400:
        raise Refused(body.decode() if isinstance(body, bytes) else str(body))
    return body


def install(registry: Registry) -> None:
    """Complete the table of handlers. Once per process."""
    for type_name, handler in _ADDED.items():
        HANDLERS[type_name] = {**handler, "update": _replacing(handler, registry.facts(type_name))}
    for type_name, finish in _FINISH.items():
        _extend(type_name, finish)
    HANDLERS["AWS::S3::Bucket"]["delete"] = _delete_bucket
    for type_name in references.NEEDS:
        _guard_create(type_name)
    for type_name in references.HELD:
        _guard_delete(type_name)


def create(type_name: str, logical_id: str, properties: Model, stack_name: str) -> str:
    """Physical id of a new `type_name`. Raises ValueError with the reason it was refused."""
    return str(HANDLERS[type_name]["create"](logical_id, properties, stack_name)[0])


def update(
    type_name: str, physical_id: str, logical_id: str, before: Model, after: Model, stack_name: str
) -> str:
    """Physical id after turning `before` into `after`; another one means it was replaced."""
    handler = HANDLERS[type_name]
    arguments: tuple[Any, ...] = (physical_id, before, after, stack_name)
    if handler.get("update_with_logical_id"):
        arguments += (logical_id,)
    return str(handler["update"](*arguments)[0])


def delete(type_name: str, physical_id: str, properties: Model, logical_id: str) -> None:
    """Delete it. Raises ValueError with the reason it was refused."""
    handler = HANDLERS[type_name]
    if handler.get("delete_with_logical_id"):
        handler["delete"](physical_id, properties, logical_id)
    else:
        handler["delete"](physical_id, properties)


# Guards and finishing touches ------------------------------------------------------------------------


def _guard_create(type_name: str) -> None:
    create_it = HANDLERS[type_name]["create"]

    def guarded(logical_id: str, properties: Model, stack_name: str) -> Any:
        references.check(type_name, properties)
        return create_it(logical_id, properties, stack_name)

    HANDLERS[type_name]["create"] = guarded


def _guard_delete(type_name: str) -> None:
    delete_it = HANDLERS[type_name]["delete"]

    def guarded(physical_id: str, properties: Model) -> Any:
        references.check_free(type_name, physical_id)
        return delete_it(physical_id, properties)

    HANDLERS[type_name]["delete"] = guarded


def _replacing(handler: dict[str, Any], facts: Facts) -> Callable[..., Any]:
    """The update of an added type, which replaces what cannot change in place (only stacks ask for that)."""

    def update_or_replace(physical_id: str, before: Model, after: Model, stack_name: str) -> Any:
        if forbidden_changes(facts, before, after) is None:
            return handler["update"](physical_id, before, after, stack_name)
        made = handler["create"](physical_id, after, stack_name)
        provisioners._delete_predecessor(handler["delete"], physical_id, before)
        return made

    return update_or_replace


def _extend(type_name: str, finish: Finish) -> None:
    handler = HANDLERS[type_name]
    create_it, update_it = handler["create"], handler.get("update")

    def create_and_finish(logical_id: str, properties: Model, stack_name: str) -> Any:
        result = create_it(logical_id, properties, stack_name)
        try:
            finish(result[0], {}, properties)
        except ValueError:  # half a resource is no resource
            handler["delete"](result[0], properties)
            raise
        return result

    def update_and_finish(physical_id: str, before: Model, after: Model, *rest: Any) -> Any:
        result = update_it(physical_id, before, after, *rest)  # type: ignore[misc]
        # A replacement went through the extended creation already where it matters: its name is new.
        finish(result[0], before if result[0] == physical_id else {}, after)
        return result

    handler["create"] = create_and_finish
    if update_it is not None:
        handler["update"] = update_and_finish


def _finish_bucket(name: str, before: Model, after: Model) -> None:
    for answer in buckets.configure(name, before, after):
        checked(answer)


def _delete_bucket(name: str, _: Model) -> None:
    status, _headers, body = buckets.delete(name)
    if status >= 400 and b"NoSuchBucket" not in body:
        raise Refused(body.decode())


def _finish_group(group_id: str, before: Model, after: Model) -> None:
    group = ec2._security_groups[group_id]
    for member, store, read in (
        ("SecurityGroupIngress", "IpPermissions", provisioners._ec2_sg_permissions),
        ("SecurityGroupEgress", "IpPermissionsEgress", provisioners._ec2_sg_permissions),
    ):
        # Exactly these rules, also where native calls had grouped the old ones otherwise.
        if before and before.get(member) != after.get(member):
            group[store] = read(after.get(member))


def _finish_function(name: str, before: Model, after: Model) -> None:
    data: Model = {}
    for member, native in (
        ("VpcConfig", "VpcConfig"),
        ("DeadLetterConfig", "DeadLetterConfig"),
        ("KmsKeyArn", "KMSKeyArn"),
        ("FileSystemConfigs", "FileSystemConfigs"),
    ):
        if after.get(member) != before.get(member):
            empty: Any = {"SubnetIds": [], "SecurityGroupIds": []} if member == "VpcConfig" else {}
            data[native] = after.get(member) or ("" if member == "KmsKeyArn" else empty)
    if data:
        function = lambda_svc._functions[name]
        if "VpcConfig" in data:
            data["VpcConfig"] = lambda_svc._vpc_config_with_id(data["VpcConfig"])
        function["config"].update(data)
    if after.get("ReservedConcurrentExecutions") != before.get("ReservedConcurrentExecutions"):
        lambda_svc._functions[name]["concurrency"] = after.get("ReservedConcurrentExecutions")


def _finish_table(name: str, before: Model, after: Model) -> None:
    if after.get("TimeToLiveSpecification") != before.get("TimeToLiveSpecification"):
        spec = after.get("TimeToLiveSpecification") or {**before["TimeToLiveSpecification"], "Enabled": False}
        checked(dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": spec}))
    recovery = after.get("PointInTimeRecoverySpecification") or {}
    if recovery != (before.get("PointInTimeRecoverySpecification") or {}):
        checked(
            dynamodb._update_continuous_backups(
                {"TableName": name, "PointInTimeRecoverySpecification": recovery}
            )
        )
    table = dynamodb._tables[name]
    if after.get("SSESpecification") != before.get("SSESpecification"):
        sse = after.get("SSESpecification") or {}
        native = {**sse, "Enabled": sse.get("SSEEnabled", False)}
        native.pop("SSEEnabled", None)
        table["SSEDescription"] = dynamodb._sse_description_from_spec(native)
    if after.get("TableClass") != before.get("TableClass"):
        table["TableClassSummary"] = {"TableClass": after.get("TableClass") or "STANDARD"}


def _finish_database(name: str, before: Model, after: Model) -> None:
    instance = rds._instances[name]
    if not before and not after.get("DBName"):
        instance["DBName"] = ""  # the emulator invents one
    for member in ("Iops", "StorageThroughput", "CACertificateIdentifier", "LicenseModel"):
        if after.get(member) != before.get(member) and after.get(member) is not None:
            instance[member] = after[member]


_TOPIC_TEXT = ("KmsMasterKeyId", "SignatureVersion", "TracingConfig", "FifoThroughputScope")
_TOPIC_FLAGS = ("FifoTopic", "ContentBasedDeduplication")


def _finish_topic(arn: str, before: Model, after: Model) -> None:
    attributes = sns._topics[arn]["attributes"]
    for member in (*_TOPIC_TEXT, *_TOPIC_FLAGS, "ArchivePolicy"):
        value = after.get(member)
        if value == before.get(member):
            continue
        if value in (None, ""):
            attributes.pop(member, None)
        elif isinstance(value, bool):
            attributes[member] = str(value).lower()
        else:
            attributes[member] = value if isinstance(value, str) else json.dumps(value)


def _finish_subscription(arn: str, _: Model, __: Model) -> None:
    topic_arn = sns._sub_arn_to_topic[arn]
    item = sns._find_subscription(topic_arn, arn)
    described = {
        "SubscriptionArn": arn,
        "TopicArn": topic_arn,
        "Protocol": item["protocol"],
        "Endpoint": item["endpoint"],
        "Owner": item["owner"],
        "PendingConfirmation": str(not item["confirmed"]).lower(),
        "ConfirmationWasAuthenticated": str(item["confirmed"]).lower(),
        "RawMessageDelivery": "false",
    }
    item["attributes"] = {**described, **item["attributes"]}


def _vpc_of(subnets: list[str]) -> str | None:
    found = ec2._subnets.get(subnets[0]) if subnets else None
    return found["VpcId"] if found else None


def _finish_cluster(name: str, _: Model, after: Model) -> None:
    config = eks._clusters[name]["resourcesVpcConfig"]
    config["vpcId"] = _vpc_of(after["ResourcesVpcConfig"].get("SubnetIds") or []) or config["vpcId"]


def _finish_balancer(arn: str, _: Model, after: Model) -> None:
    balancer = alb._lbs[arn]
    balancer["VpcId"] = _vpc_of(list(after.get("Subnets") or [])) or balancer["VpcId"]


def _finish_targets(arn: str, before: Model, after: Model) -> None:
    if after.get("Targets") != before.get("Targets"):
        port = alb._tgs[arn].get("Port")
        alb._targets[arn] = [{"Port": port, **target} for target in after.get("Targets") or []]


_FINISH: dict[str, Finish] = {
    "AWS::S3::Bucket": _finish_bucket,
    "AWS::EC2::SecurityGroup": _finish_group,
    "AWS::Lambda::Function": _finish_function,
    "AWS::DynamoDB::Table": _finish_table,
    "AWS::RDS::DBInstance": _finish_database,
    "AWS::SNS::Topic": _finish_topic,
    "AWS::SNS::Subscription": _finish_subscription,
    "AWS::EKS::Cluster": _finish_cluster,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _finish_balancer,
    "AWS::ElasticLoadBalancingV2::TargetGroup": _finish_targets,
}

# Types that MiniStack's CloudFormation does not have ---------------------------------------------------


def _create_ip_set(logical_id: str, props: Model, stack_name: str) -> tuple[str, Model]:
    name = props.get("Name") or f"{stack_name}-{logical_id}"
    data = {
        "Name": name,
        "Scope": props["Scope"],
        "IPAddressVersion": props["IPAddressVersion"],
        "Addresses": list(props.get("Addresses") or []),
        "Description": props.get("Description", ""),
        "Tags": list(props.get("Tags") or []),
    }
    summary = json.loads(checked(waf._create_ip_set(data)))["Summary"]
    return f"{name}|{summary['Id']}|{props['Scope']}", {"Id": summary["Id"], "Arn": summary["ARN"]}


def _update_ip_set(physical_id: str, _: Model, after: Model, __: str) -> tuple[str, Model]:
    item_id = physical_id.split("|")[1]
    item = waf._ip_sets[item_id]
    item["Addresses"] = list(after.get("Addresses") or [])
    item["Description"] = after.get("Description", "")
    item["LockToken"] = new_uuid()
    waf._waf_tags[item["ARN"]] = list(after.get("Tags") or [])
    return physical_id, {"Id": item_id, "Arn": item["ARN"]}


def _delete_ip_set(physical_id: str, _: Model) -> None:
    item_id, scope = physical_id.split("|")[1:]
    waf._delete_ip_set({"Id": item_id, "Scope": scope})


def _create_nat_gateway(_: str, props: Model, __: str) -> tuple[str, Model]:
    before = set(ec2._nat_gateways)
    params = {
        name: [str(props[name])]
        for name in ("SubnetId", "AllocationId", "ConnectivityType", "PrivateIpAddress")
        if props.get(name)
    }
    checked(ec2._create_nat_gateway(params))
    gateway_id = next(iter(set(ec2._nat_gateways) - before))
    provisioners._ec2_apply_tags(gateway_id, props)
    return gateway_id, {"NatGatewayId": gateway_id}


def _update_nat_gateway(physical_id: str, before: Model, after: Model, _: str) -> tuple[str, Model]:
    provisioners._ec2_apply_tags(physical_id, after, before)
    return physical_id, {"NatGatewayId": physical_id}


def _delete_nat_gateway(physical_id: str, _: Model) -> None:
    ec2._nat_gateways.pop(physical_id, None)
    ec2._tags.pop(physical_id, None)


def _create_address(_: str, props: Model, __: str) -> tuple[str, Model]:
    before = set(ec2._addresses)
    checked(ec2._allocate_address({"Domain": [props.get("Domain") or "vpc"]}))
    allocation_id = next(iter(set(ec2._addresses) - before))
    provisioners._ec2_apply_tags(allocation_id, props)
    if props.get("InstanceId"):
        checked(
            ec2._associate_address({"AllocationId": [allocation_id], "InstanceId": [props["InstanceId"]]})
        )
    public_ip = ec2._addresses[allocation_id]["PublicIp"]
    return f"{public_ip}|{allocation_id}", {"AllocationId": allocation_id, "PublicIp": public_ip}


def _update_address(physical_id: str, before: Model, after: Model, __: str) -> tuple[str, Model]:
    public_ip, _, allocation_id = physical_id.partition("|")
    provisioners._ec2_apply_tags(allocation_id, after, before)
    address = ec2._addresses[allocation_id]
    if after.get("InstanceId") != before.get("InstanceId"):
        address.update(InstanceId=None, AssociationId=None)
        if after.get("InstanceId"):
            checked(
                ec2._associate_address({"AllocationId": [allocation_id], "InstanceId": [after["InstanceId"]]})
            )
    return physical_id, {"AllocationId": allocation_id, "PublicIp": public_ip}


def _delete_address(physical_id: str, _: Model) -> None:
    checked(ec2._release_address({"AllocationId": [physical_id.rpartition("|")[2]]}))


def _rule_handlers(store: str) -> dict[str, Any]:
    egress = store == "IpPermissionsEgress"

    def create_rule(_: str, props: Model, __: str) -> tuple[str, Model]:
        group = ec2._security_groups[props["GroupId"]]
        permission = provisioners._ec2_sg_permissions([props])[0]
        rule_id = ec2._sg_rule_id(props["GroupId"], egress, permission)
        if any(ec2._sg_rule_id(props["GroupId"], egress, item) == rule_id for item in group[store]):
            raise Refused("InvalidPermission.Duplicate: the specified rule already exists")
        group[store].append(permission)
        return rule_id, {"Id": rule_id}

    def update_rule(physical_id: str, before: Model, after: Model, _: str) -> tuple[str, Model]:
        group = ec2._security_groups[before["GroupId"]]
        permission = provisioners._ec2_sg_permissions([after])[0]
        permission["SecurityGroupRuleId"] = physical_id  # only the description can differ
        group[store] = [
            permission if ec2._sg_rule_id(before["GroupId"], egress, item) == physical_id else item
            for item in group[store]
        ]
        return physical_id, {"Id": physical_id}

    def delete_rule(physical_id: str, _: Model) -> None:
        for group_id, group in ec2._security_groups.items():
            group[store] = [
                item
                for item in group.get(store) or []
                if ec2._sg_rule_id(group_id, egress, item) != physical_id
            ]

    return {"create": create_rule, "update": update_rule, "delete": delete_rule}


_ADDED: dict[str, dict[str, Any]] = {
    "AWS::EC2::Instance": {
        "create": instances.create,
        "update": instances.update,
        "delete": instances.delete,
    },
    "AWS::WAFv2::IPSet": {"create": _create_ip_set, "update": _update_ip_set, "delete": _delete_ip_set},
    "AWS::EC2::NatGateway": {
        "create": _create_nat_gateway,
        "update": _update_nat_gateway,
        "delete": _delete_nat_gateway,
    },
    "AWS::EC2::EIP": {"create": _create_address, "update": _update_address, "delete": _delete_address},
    "AWS::EC2::SecurityGroupIngress": _rule_handlers("IpPermissions"),
    "AWS::EC2::SecurityGroupEgress": _rule_handlers("IpPermissionsEgress"),
}
