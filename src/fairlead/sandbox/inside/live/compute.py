"""Instances, functions, load balancers."""

from ministack.services import alb, ec2, lambda_svc

from fairlead.sandbox.inside.live.kind import Kind, Model, picked, some, tag_list


def _instance(key: str) -> Model | None:
    instance = ec2._instances.get(key)
    if instance is None or instance["State"]["Name"] in ("terminated", "shutting-down"):
        return None
    profile = (instance.get("IamInstanceProfile") or {}).get("Arn", "")
    return some(
        InstanceId=key,
        **picked(instance, "ImageId", "InstanceType", "KeyName", "SubnetId", "VpcId", "PrivateIpAddress"),
        PrivateIp=instance["PrivateIpAddress"],
        **picked(instance, "PrivateDnsName", "PublicDnsName", "CreditSpecification", "MetadataOptions"),
        PublicIp=instance.get("PublicIpAddress"),
        State={"Code": str(instance["State"]["Code"]), "Name": instance["State"]["Name"]},
        AvailabilityZone=instance["Placement"]["AvailabilityZone"],
        Tenancy=instance["Placement"].get("Tenancy"),
        SecurityGroupIds=[group["GroupId"] for group in instance["SecurityGroups"]],
        IamInstanceProfile=profile.rpartition("/")[2],
        Monitoring=instance["Monitoring"]["State"] in ("enabled", "pending"),
        SourceDestCheck=instance.get("SourceDestCheck", True),
        EbsOptimized=instance.get("EbsOptimized", False),
        DisableApiTermination=instance.get("DisableApiTermination", False),
        InstanceInitiatedShutdownBehavior=instance.get("InstanceInitiatedShutdownBehavior", "stop"),
        UserData=instance.get("UserData"),
        Volumes=_extra_volumes(key),
        Tags=tag_list(ec2._tags.get(key)),
    )


def _extra_volumes(key: str) -> list[Model]:
    return [
        {"VolumeId": volume_id, "Device": attachment["Device"]}
        for volume_id, volume in ec2._volumes.items()
        for attachment in volume.get("Attachments") or []
        if attachment["InstanceId"] == key and attachment["Device"] != ec2._instances[key]["RootDeviceName"]
    ]


def _launch_template(key: str) -> Model | None:
    template = ec2._launch_templates.get(key)
    if template is None:
        return None
    return some(
        LaunchTemplateId=key,
        LaunchTemplateName=template["LaunchTemplateName"],
        DefaultVersionNumber=str(template["DefaultVersionNumber"]),
        LatestVersionNumber=str(template["LatestVersionNumber"]),
    )


def _function(key: str) -> Model | None:
    function = lambda_svc._functions.get(key)
    if function is None:
        return None
    config = function["config"]
    vpc = config.get("VpcConfig") or {}
    return some(
        FunctionName=key,
        Arn=config["FunctionArn"],
        **picked(config, "Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize", "PackageType"),
        **picked(config, "Architectures", "DeadLetterConfig", "FileSystemConfigs"),
        KmsKeyArn=config.get("KMSKeyArn"),
        Environment=some(Variables=(config.get("Environment") or {}).get("Variables")),
        EphemeralStorage=picked(config.get("EphemeralStorage") or {}, "Size"),
        TracingConfig=picked(config.get("TracingConfig") or {}, "Mode"),
        LoggingConfig=config.get("LoggingConfig"),
        VpcConfig=picked(vpc, "SubnetIds", "SecurityGroupIds"),
        Layers=[layer["Arn"] for layer in config.get("Layers") or []],
        ImageConfig=(config.get("ImageConfigResponse") or {}).get("ImageConfig"),
        ReservedConcurrentExecutions=function.get("concurrency"),
        Tags=tag_list(function.get("tags")),
    )


def _permission_keys() -> list[str]:
    return [
        f"{name}|{statement['Sid']}"
        for name, function in lambda_svc._functions.items()
        for statement in (function.get("policy") or {}).get("Statement") or []
    ]


def _permission(key: str) -> Model | None:
    name, _, sid = key.rpartition("|")
    name = name.rpartition(":")[2]  # the function's ARN is as good as its name
    policy = (lambda_svc._functions.get(name) or {}).get("policy") or {}
    for statement in policy.get("Statement") or []:
        if statement["Sid"] == sid:
            principal = statement["Principal"]
            condition = statement.get("Condition") or {}
            return some(
                FunctionName=name,
                Id=sid,
                Action=statement["Action"],
                Principal=principal if isinstance(principal, str) else next(iter(principal.values())),
                SourceArn=(condition.get("ArnLike") or {}).get("AWS:SourceArn"),
                SourceAccount=(condition.get("StringEquals") or {}).get("AWS:SourceAccount"),
                PrincipalOrgID=(condition.get("StringEquals") or {}).get("aws:PrincipalOrgID"),
                FunctionUrlAuthType=(condition.get("StringEquals") or {}).get("lambda:FunctionUrlAuthType"),
            )
    return None


_MAPPING_OPTIONS = (
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "FunctionResponseTypes",
    "FilterCriteria",
    "DestinationConfig",
    "ParallelizationFactor",
    "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "ScalingConfig",
)


def _event_source_mapping(key: str) -> Model | None:
    mapping = lambda_svc._esms.get(key)
    if mapping is None:
        return None
    stream = ":kinesis:" in mapping["EventSourceArn"] or ":dynamodb:" in mapping["EventSourceArn"]
    qualifier = f":{mapping['Qualifier']}" if mapping.get("Qualifier") else ""
    return some(
        Id=key,
        EventSourceMappingArn=mapping["FunctionArn"].partition(":function:")[0]
        + f":event-source-mapping:{key}",
        EventSourceArn=mapping["EventSourceArn"],
        FunctionName=mapping["FunctionName"] + qualifier,
        Enabled=mapping.get("Enabled", True),
        StartingPosition=mapping.get("StartingPosition") if stream else None,
        **picked(mapping, *_MAPPING_OPTIONS),
    )


def _load_balancer(key: str) -> Model | None:
    balancer = alb._lbs.get(key)
    if balancer is None:
        return None
    return some(
        LoadBalancerArn=key,
        LoadBalancerName=balancer["LoadBalancerName"],
        Name=balancer["LoadBalancerName"],
        LoadBalancerFullName=key.partition(":loadbalancer/")[2],
        **picked(balancer, "DNSName", "Scheme", "Type", "IpAddressType", "SecurityGroups"),
        CanonicalHostedZoneID=balancer.get("CanonicalHostedZoneId", "Z35SXDOTRQ7X7K"),
        Subnets=[
            item if isinstance(item, str) else item["SubnetId"] for item in balancer.get("Subnets") or []
        ],
        LoadBalancerAttributes=[dict(item) for item in alb._lb_attrs.get(key) or []],
        Tags=tag_list(alb._tags.get(key)),
    )


def _target_group(key: str) -> Model | None:
    group = alb._tgs.get(key)
    if group is None:
        return None
    return some(
        TargetGroupArn=key,
        TargetGroupName=group["TargetGroupName"],
        Name=group["TargetGroupName"],
        TargetGroupFullName="targetgroup/" + key.partition(":targetgroup/")[2],
        **picked(group, "Protocol", "Port", "VpcId", "TargetType", "ProtocolVersion", "LoadBalancerArns"),
        **picked(group, "HealthCheckProtocol", "HealthCheckPort", "HealthCheckPath", "Matcher"),
        **picked(group, "HealthCheckEnabled", "HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds"),
        **picked(group, "HealthyThresholdCount", "UnhealthyThresholdCount"),
        TargetGroupAttributes=[dict(item) for item in alb._tg_attrs.get(key) or []],
        Targets=[picked(target, "Id", "Port", "AvailabilityZone") for target in alb._targets.get(key) or []],
        Tags=tag_list(alb._tags.get(key)),
    )


def _actions(actions: list[Model] | None) -> list[Model]:
    """A single action needs no order; the emulator numbers it all the same."""
    given = [dict(action) for action in actions or []]
    if len(given) == 1:
        given[0].pop("Order", None)
    return given


def _listener(key: str) -> Model | None:
    listener = alb._listeners.get(key)
    if listener is None:
        return None
    return some(
        ListenerArn=key,
        **picked(listener, "LoadBalancerArn", "Port", "Protocol", "SslPolicy", "Certificates", "AlpnPolicy"),
        DefaultActions=_actions(listener.get("DefaultActions")),
        Tags=tag_list(alb._tags.get(key)),
    )


def _listener_rule(key: str) -> Model | None:
    rule = alb._rules.get(key)
    if rule is None:
        return None
    return some(
        RuleArn=key,
        IsDefault=rule.get("IsDefault", False),
        ListenerArn=rule["ListenerArn"],
        Priority=int(rule["Priority"]) if str(rule["Priority"]).isdigit() else None,
        Conditions=rule.get("Conditions"),
        Actions=_actions(rule.get("Actions")),
        Tags=tag_list(alb._tags.get(key)),
    )


KINDS = (
    Kind(type_name="AWS::EC2::Instance", keys=ec2._instances.keys, read=_instance),
    Kind(
        type_name="AWS::EC2::LaunchTemplate",
        unique=("LaunchTemplateName",),
        keys=ec2._launch_templates.keys,
        read=_launch_template,
    ),
    Kind(
        type_name="AWS::Lambda::Function",
        keys=lambda_svc._functions.keys,
        read=_function,
        key_of=lambda identifier: identifier.rpartition(":")[2],
    ),
    Kind(
        type_name="AWS::Lambda::Permission",
        keys=_permission_keys,
        read=_permission,
        physical_of=lambda key: key.rpartition("|")[2],
        key_after=lambda physical, props: f"{props['FunctionName'].rpartition(':')[2]}|{physical}",
    ),
    Kind(type_name="AWS::Lambda::EventSourceMapping", keys=lambda_svc._esms.keys, read=_event_source_mapping),
    Kind(
        type_name="AWS::ElasticLoadBalancingV2::LoadBalancer",
        unique=("Name",),
        keys=alb._lbs.keys,
        read=_load_balancer,
    ),
    Kind(
        type_name="AWS::ElasticLoadBalancingV2::TargetGroup",
        unique=("Name",),
        keys=alb._tgs.keys,
        read=_target_group,
    ),
    Kind(type_name="AWS::ElasticLoadBalancingV2::Listener", keys=alb._listeners.keys, read=_listener),
    Kind(
        type_name="AWS::ElasticLoadBalancingV2::ListenerRule",
        keys=alb._rules.keys,
        read=_listener_rule,
    ),
)
