"""EC2 instances whose attributes can be read and changed: native API and CloudFormation type."""

import base64
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

Model = dict[str, Any]
_TEXT = {
    "instanceType": "InstanceType",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "userData": "UserData",
    "kernel": "KernelId",
    "ramdisk": "RamdiskId",
}
_FLAGS = {
    "disableApiTermination": "DisableApiTermination",
    "disableApiStop": "DisableApiStop",
    "ebsOptimized": "EbsOptimized",
    "sourceDestCheck": "SourceDestCheck",
    "enaSupport": "EnaSupport",
}
_FLAG_DEFAULTS = {"sourceDestCheck": True, "enaSupport": True}
_TEXT_DEFAULTS = {"instanceInitiatedShutdownBehavior": "stop"}
# Real EC2 refuses to change these while the machine runs.
_ONLY_STOPPED = {"instanceType", "userData", "kernel", "ramdisk", "ebsOptimized", "enaSupport"}


def install() -> None:
    """Put the missing actions into EC2's table."""
    ec2._ACTION_MAP["ModifyInstanceAttribute"] = _modify_attribute
    ec2._ACTION_MAP["DescribeInstanceAttribute"] = _describe_attribute
    ec2._ACTION_MAP["TerminateInstances"] = _terminate
    ec2._ACTION_MAP["MonitorInstances"] = lambda params: _monitor(params, "enabled")
    ec2._ACTION_MAP["UnmonitorInstances"] = lambda params: _monitor(params, "disabled")
    render = ec2._instance_xml

    def instance_xml(instance: Model) -> str:
        optimized = f"<ebsOptimized>{str(instance.get('EbsOptimized', False)).lower()}</ebsOptimized>"
        return str(render(instance)).replace("<virtualizationType>", optimized + "<virtualizationType>", 1)

    ec2._instance_xml = instance_xml


def _first(params: Model, name: str) -> str | None:
    value = params.get(name)
    return str(value[0]) if isinstance(value, list) and value else None


def _upper(name: str) -> str:
    return name[0].upper() + name[1:]


def _given(params: Model) -> dict[str, str]:
    """Attributes that a request changes, by either of the two ways of writing it."""
    given: dict[str, str] = {}
    named = _first(params, "Attribute")
    if named is not None:
        given[named] = _first(params, "Value") or ""
    for name in (*_TEXT, *_FLAGS):
        value = _first(params, f"{_upper(name)}.Value")
        value = value if value is not None else _first(params, _upper(name))
        if value is not None:
            given[name] = value
    return given


def _missing(instance_id: str | None) -> Any:
    return ec2._error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist", 400)


def _modify_attribute(params: Model) -> Any:
    instance_id = _first(params, "InstanceId")
    instance = ec2._instances.get(instance_id)
    if instance is None or instance["State"]["Name"] == "terminated":
        return _missing(instance_id)
    given, groups = _given(params), ec2._parse_member_list(params, "GroupId")
    unknown = [name for name in given if name not in _TEXT and name not in _FLAGS]
    if unknown or not (given or groups):
        return ec2._error("InvalidParameterCombination", "No attributes specified.", 400)
    if instance["State"]["Name"] != "stopped" and (locked := sorted(_ONLY_STOPPED & given.keys())):
        message = (
            f"The instance '{instance_id}' is not in the 'stopped' state: {locked[0]} cannot be changed."
        )
        return ec2._error("IncorrectInstanceState", message, 400)
    for group_id in groups:
        if group_id not in ec2._security_groups:
            return ec2._error("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist", 400)
    change(instance, given, groups)
    return ec2._xml(200, "ModifyInstanceAttributeResponse", "<return>true</return>")


def change(instance: Model, given: Model, groups: list[str]) -> None:
    """Set attributes (API names and text values) and, where any are given, security groups."""
    for name, value in given.items():
        if name in _FLAGS:
            instance[_FLAGS[name]] = str(value).lower() == "true"
        else:
            instance[_TEXT[name]] = str(value)
    if groups:
        instance["SecurityGroups"] = [
            {"GroupId": group_id, "GroupName": ec2._security_groups[group_id]["GroupName"]}
            for group_id in groups
        ]


def _describe_attribute(params: Model) -> Any:
    instance_id, name = _first(params, "InstanceId"), _first(params, "Attribute") or ""
    instance = ec2._instances.get(instance_id)
    if instance is None:
        return _missing(instance_id)
    body = f"<instanceId>{instance_id}</instanceId>{_attribute_xml(instance, name)}"
    return ec2._xml(200, "DescribeInstanceAttributeResponse", body)


def _attribute_xml(instance: Model, name: str) -> str:
    if name in _FLAGS:
        value = str(instance.get(_FLAGS[name], _FLAG_DEFAULTS.get(name, False))).lower()
    elif name in _TEXT:
        value = str(instance.get(_TEXT[name]) or _TEXT_DEFAULTS.get(name, ""))
    elif name == "rootDeviceName":
        value = instance["RootDeviceName"]
    elif name == "groupSet":
        items = "".join(
            f"<item><groupId>{group['GroupId']}</groupId></item>" for group in instance["SecurityGroups"]
        )
        return f"<groupSet>{items}</groupSet>"
    elif name == "blockDeviceMapping":
        return f"<blockDeviceMapping>{ec2._inst_bdm_xml(instance)}</blockDeviceMapping>"
    elif name == "sriovNetSupport":
        value = "simple"
    else:
        value = ""
    return f"<{name}><value>{escape(value)}</value></{name}>" if value else f"<{name}/>"


def _terminate(params: Model) -> Any:
    for instance_id in ec2._parse_member_list(params, "InstanceId"):
        if (ec2._instances.get(instance_id) or {}).get("DisableApiTermination"):
            message = (
                f"The instance '{instance_id}' may not be terminated. "
                "Modify its 'disableApiTermination' instance attribute and try again."
            )
            return ec2._error("OperationNotPermitted", message, 400)
    return ec2._terminate_instances(params)


def _monitor(params: Model, state: str) -> Any:
    wanted = ec2._parse_member_list(params, "InstanceId")
    for instance_id in wanted:
        if instance_id not in ec2._instances:
            return _missing(instance_id)
    items = ""
    for instance_id in wanted:
        ec2._instances[instance_id]["Monitoring"] = {"State": state}
        monitoring = f"<monitoring><state>{state}</state></monitoring>"
        items += f"<item><instanceId>{instance_id}</instanceId>{monitoring}</item>"
    return ec2._xml(200, "MonitorInstancesResponse", f"<instancesSet>{items}</instancesSet>")


# The CloudFormation type --------------------------------------------------------------------------


class InstanceRefused(ValueError):
    """EC2 would not take these properties."""


def create(_: str, props: Model, __: str) -> tuple[str, Model]:
    """Launch one instance with `props` (AWS::EC2::Instance)."""
    profile = props.get("IamInstanceProfile")
    groups = list(props.get("SecurityGroupIds") or [])
    for interface in props.get("NetworkInterfaces") or []:
        groups += interface.get("GroupSet") or []
    subnet = props.get("SubnetId") or next(
        (item["SubnetId"] for item in props.get("NetworkInterfaces") or [] if item.get("SubnetId")), None
    )
    resolved = ec2._resolve_iam_instance_profile(iam_name=profile)[0] if profile else None
    if profile and resolved is None:
        raise InstanceRefused(f"Value ({profile}) for parameter iamInstanceProfile.name is invalid.")
    instance = ec2._launch_instances_internal(
        image_id=props.get("ImageId") or "ami-00000000",
        instance_type=props.get("InstanceType") or "m1.small",
        subnet_id=subnet or ec2._DEFAULT_SUBNET_ID,
        count=1,
        key_name=props.get("KeyName") or "",
        user_data=_encoded(props.get("UserData") or ""),
        sg_ids=groups or None,
        requested_private_ip=props.get("PrivateIpAddress"),
        iam_profile=resolved,
    )[0]
    zone = props.get("AvailabilityZone") or ec2._subnets.get(instance["SubnetId"], {}).get("AvailabilityZone")
    instance["Placement"] = {
        "AvailabilityZone": zone or instance["Placement"]["AvailabilityZone"],
        "Tenancy": props.get("Tenancy", "default"),
    }
    _apply(instance, {}, props)
    return instance["InstanceId"], attributes(instance)


def update(physical_id: str, before: Model, after: Model, _: str) -> tuple[str, Model]:
    """Change an instance in place; a new instance type stops and starts it, as CloudFormation does."""
    instance = ec2._instances[physical_id]
    _apply(instance, before, after)
    return physical_id, attributes(instance)


def delete(physical_id: str, _: Model) -> None:
    """Terminate an instance."""
    status, _headers, body = _terminate({"InstanceId.1": [physical_id]})
    if status >= 400:
        raise InstanceRefused(body.decode())


def attributes(instance: Model) -> Model:
    """What Fn::GetAtt gives."""
    return {
        "InstanceId": instance["InstanceId"],
        "PrivateIp": instance["PrivateIpAddress"],
        "PublicIp": instance["PublicIpAddress"],
        "PrivateDnsName": instance["PrivateDnsName"],
        "PublicDnsName": instance["PublicDnsName"],
        "AvailabilityZone": instance["Placement"]["AvailabilityZone"],
        "VpcId": instance["VpcId"],
    }


def _encoded(user_data: str) -> str:
    try:
        base64.b64decode(user_data, validate=True)
    except ValueError:
        return base64.b64encode(user_data.encode()).decode()
    return user_data


_PLAIN = (
    "InstanceType",
    "EbsOptimized",
    "DisableApiTermination",
    "SourceDestCheck",
    "InstanceInitiatedShutdownBehavior",
    "CreditSpecification",
    "MetadataOptions",
)


def _apply(instance: Model, before: Model, after: Model) -> None:
    provisioners._ec2_apply_tags(instance["InstanceId"], after, before)
    for name in _PLAIN:
        if after.get(name) != before.get(name):
            if after.get(name) is None:
                instance.pop(name, None)
            else:
                instance[name] = after[name]
    if after.get("UserData") != before.get("UserData"):
        instance["UserData"] = _encoded(after.get("UserData") or "")
    if after.get("Monitoring") != before.get("Monitoring"):
        instance["Monitoring"] = {"State": "enabled" if after.get("Monitoring") else "disabled"}
    if after.get("SecurityGroupIds") != before.get("SecurityGroupIds"):
        change(instance, {}, list(after.get("SecurityGroupIds") or [ec2._DEFAULT_SG_ID]))
    if before and after.get("IamInstanceProfile") != before.get("IamInstanceProfile"):
        _exchange_profile(instance, after.get("IamInstanceProfile"))


def _exchange_profile(instance: Model, name: str | None) -> None:
    old = ec2._find_active_iam_instance_profile_association(instance["InstanceId"])
    if old:
        ec2._mark_iam_instance_profile_association_disassociated(old)
    instance["IamInstanceProfile"] = None
    if name:
        profile = ec2._resolve_iam_instance_profile(iam_name=name)[0]
        if profile is None:
            raise InstanceRefused(f"Value ({name}) for parameter iamInstanceProfile.name is invalid.")
        instance["IamInstanceProfile"] = profile
        ec2._upsert_iam_instance_profile_association(instance["InstanceId"], profile)
