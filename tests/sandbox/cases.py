"""One case per type: what to create, how the service itself sees it, what to change, how it sees that."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tests.sandbox.clients import Aws, add, remove, replace

Facts = dict[str, Any]
TAGS = [{"Key": "env", "Value": "dev"}]
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
}
POLICY2 = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"}],
}
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@dataclass
class World:
    """An account with what most resources stand on, made by native calls and by Cloud Control."""

    aws: Aws
    made: dict[str, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> str:
        """The identifier of `name`, created when first asked for."""
        if name.startswith("_") or name not in _GROUND:
            raise AttributeError(name)
        if name not in self.made:
            self.made[name] = _GROUND[name](self)
        return self.made[name]

    def c(self, service: str) -> Any:
        return self.aws.client(service)


_GROUND: dict[str, Callable[["World"], str]] = {
    "vpc": lambda w: w.c("ec2").create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"],
    "subnet": lambda w: _subnet(w, "10.7.1.0/24", "us-east-1a"),
    "subnet2": lambda w: _subnet(w, "10.7.2.0/24", "us-east-1b"),
    "group": lambda w: _group(w, "first"),
    "group2": lambda w: _group(w, "second"),
    "gateway": lambda w: w.c("ec2").create_internet_gateway()["InternetGateway"]["InternetGatewayId"],
    "table": lambda w: w.c("ec2").create_route_table(VpcId=w.vpc)["RouteTable"]["RouteTableId"],
    "allocation": lambda w: w.c("ec2").allocate_address(Domain="vpc")["AllocationId"],
    "role": lambda w: _role(w, "ground"),
    "role_arn": lambda w: w.c("iam").get_role(RoleName=w.role)["Role"]["Arn"],
    "profile": lambda w: w.aws.create("AWS::IAM::InstanceProfile", {"Roles": [w.role]}),
    "bucket": lambda w: _bucket(w),  # noqa: PLW0108 - defined below
    "queue_arn": lambda w: _queue(w),  # noqa: PLW0108 - defined below
    "topic": lambda w: w.c("sns").create_topic(Name="ground")["TopicArn"],
    "function": lambda w: w.aws.create(
        "AWS::Lambda::Function", {"Code": {"ZipFile": "def handler(e, c): return 1"}, "Role": w.role_arn}
    ),
    "balancer": lambda w: w.c("elbv2").create_load_balancer(Name="ground", Subnets=[w.subnet, w.subnet2])[
        "LoadBalancers"
    ][0]["LoadBalancerArn"],
    "targets": lambda w: w.c("elbv2").create_target_group(
        Name="ground", Protocol="HTTP", Port=80, VpcId=w.vpc, TargetType="instance"
    )["TargetGroups"][0]["TargetGroupArn"],
    "listener": lambda w: w.aws.create(
        "AWS::ElasticLoadBalancingV2::Listener",
        {
            "LoadBalancerArn": w.balancer,
            "Port": 81,
            "Protocol": "HTTP",
            "DefaultActions": [{"Type": "forward", "TargetGroupArn": w.targets}],
        },
    ),
    "log_group": lambda w: w.aws.create("AWS::Logs::LogGroup", {"LogGroupName": "/ground"}),
    "file_system": lambda w: w.c("efs").create_file_system(CreationToken="ground")["FileSystemId"],
    "key": lambda w: w.c("kms").create_key()["KeyMetadata"]["KeyId"],
}


def _subnet(w: World, cidr: str, zone: str) -> str:
    made = w.c("ec2").create_subnet(VpcId=w.vpc, CidrBlock=cidr, AvailabilityZone=zone)
    return str(made["Subnet"]["SubnetId"])


def _group(w: World, name: str) -> str:
    return str(w.c("ec2").create_security_group(GroupName=name, Description=name, VpcId=w.vpc)["GroupId"])


def _role(w: World, name: str) -> str:
    w.c("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    return name


def _bucket(w: World) -> str:
    name = f"ground-{w.aws.account}"
    w.c("s3").create_bucket(Bucket=name)
    return name


def _queue(w: World) -> str:
    url = w.c("sqs").create_queue(QueueName="ground")["QueueUrl"]
    attributes = w.c("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(attributes["Attributes"]["QueueArn"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """`native` asks the service, never Cloud Control; `created` and `updated` must be part of its answer."""

    type_name: str
    desired: Callable[[World], Facts]
    native: Callable[[World, str], Facts | None]
    created: Callable[[World], Facts]
    patch: Callable[[World], list[Facts]] | None = None
    updated: Callable[[World], Facts] | None = None
    hidden: frozenset[str] = frozenset()  # write-only: taken, never given back


def _one(items: list[Any]) -> Any:
    return items[0] if items else None


def _gone(call: Callable[[], Any]) -> Any:
    """What `call` gives, or None where the service says that there is no such thing."""
    try:
        return call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if any(
            word in code
            for word in ("NotFound", "NoSuch", "NonExistent", "Nonexistent", "DoesNotExist", "404")
        ):
            return None
        raise


def _tags(items: Any) -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in items or []}


def _bucket_facts(w: World, name: str) -> Facts | None:
    s3 = w.c("s3")
    if _gone(lambda: s3.head_bucket(Bucket=name)) is None:
        return None
    encryption = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"][0]
    block = _gone(lambda: s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]) or {}
    lifecycle = _gone(lambda: s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]) or []
    return {
        "versioning": s3.get_bucket_versioning(Bucket=name).get("Status"),
        "encryption": encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
        "tags": _tags((_gone(lambda: s3.get_bucket_tagging(Bucket=name)) or {}).get("TagSet")),
        "blocked": block.get("BlockPublicAcls"),
        "expires": [rule["Expiration"]["Days"] for rule in lifecycle],
    }


def _describe(service: str, method: str, member: str, argument: str) -> Callable[[World, str], Any]:
    """Native reader: the first of `member` that `method` gives for one identifier."""

    def native(w: World, identifier: str) -> Any:
        return _gone(lambda: _one(getattr(w.c(service), method)(**{argument: [identifier]})[member]))

    return native


def _plain(service: str, method: str, argument: str, member: str) -> Callable[[World, str], Any]:
    def native(w: World, identifier: str) -> Any:
        return _gone(lambda: getattr(w.c(service), method)(**{argument: identifier})[member])

    return native


def _vpc_facts(w: World, vpc: str) -> Facts | None:
    found = _describe("ec2", "describe_vpcs", "Vpcs", "VpcIds")(w, vpc)
    if found is None:
        return None
    dns = w.c("ec2").describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    return {
        "cidr": found["CidrBlock"],
        "hostnames": dns["EnableDnsHostnames"]["Value"],
        "tags": _tags(found.get("Tags")),
    }


def _instance_facts(w: World, instance: str) -> Facts | None:
    found = _describe("ec2", "describe_instances", "Reservations", "InstanceIds")(w, instance)
    if found is None or found["Instances"][0]["State"]["Name"] == "terminated":
        return None
    found = found["Instances"][0]
    return {
        "type": found["InstanceType"],
        "groups": [group["GroupId"] for group in found["SecurityGroups"]],
        "subnet": found["SubnetId"],
        "tags": _tags(found.get("Tags")),
        "optimized": found["EbsOptimized"],
        "profile": found["IamInstanceProfile"]["Arn"].rpartition("/")[2],
        "monitoring": found["Monitoring"]["State"],
    }


def _group_facts(w: World, group: str) -> Facts | None:
    found = _describe("ec2", "describe_security_groups", "SecurityGroups", "GroupIds")(w, group)
    if found is None:
        return None
    ports = sorted(
        (rule["FromPort"], cidr["CidrIp"]) for rule in found["IpPermissions"] for cidr in rule["IpRanges"]
    )
    return {"ports": ports, "tags": _tags(found.get("Tags"))}


def _rule_facts(w: World, rule: str) -> Facts | None:
    rules: list[Facts] = w.c("ec2").describe_security_group_rules(SecurityGroupRuleIds=[rule])[
        "SecurityGroupRules"
    ]
    return next(iter(rules), None)


def _attached(w: World, identifier: str) -> Facts | None:
    found = _describe("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayIds")(
        w, w.gateway
    )
    vpcs = [item["VpcId"] for item in found["Attachments"]]
    return {"vpcs": vpcs} if identifier.partition("|")[2] in vpcs else None


def _route_facts(w: World, identifier: str) -> Facts | None:
    table = _describe("ec2", "describe_route_tables", "RouteTables", "RouteTableIds")(w, w.table)
    wanted = identifier.partition("|")[2]
    return next((item for item in table["Routes"] if item.get("DestinationCidrBlock") == wanted), None)


def _association_facts(w: World, identifier: str) -> Facts | None:
    table = _describe("ec2", "describe_route_tables", "RouteTables", "RouteTableIds")(w, w.table)
    found: list[Facts] = [x for x in table["Associations"] if x["RouteTableAssociationId"] == identifier]
    return next(iter(found), None)


def _nat_facts(w: World, identifier: str) -> Facts | None:
    found = _describe("ec2", "describe_nat_gateways", "NatGateways", "NatGatewayIds")(w, identifier)
    return None if found is None else {"subnet": found["SubnetId"], "tags": _tags(found.get("Tags"))}


def _address_facts(w: World, identifier: str) -> Facts | None:
    allocation = identifier.rpartition("|")[2]
    found = _describe("ec2", "describe_addresses", "Addresses", "AllocationIds")(w, allocation)
    return None if found is None else {"ip": found["PublicIp"], "tags": _tags(found.get("Tags"))}


def _tagged(
    service: str, method: str, member: str, argument: str, **names: str
) -> Callable[[World, str], Any]:
    """Native reader of a described thing: members under short names, and its tags."""
    describe = _describe(service, method, member, argument)

    def native(w: World, identifier: str) -> Any:
        found = describe(w, identifier)
        if found is None:
            return None
        return {"tags": _tags(found.get("Tags"))} | {short: found.get(name) for short, name in names.items()}

    return native


def _db_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: _one(w.c("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]))
    return (
        None
        if found is None
        else {
            "class": found["DBInstanceClass"],
            "engine": found["Engine"],
            "storage": found["AllocatedStorage"],
            "retention": found["BackupRetentionPeriod"],
            "groups": [group["VpcSecurityGroupId"] for group in found["VpcSecurityGroups"]],
            "subnet_group": found["DBSubnetGroup"]["DBSubnetGroupName"],
            "tags": _tags(found.get("TagList")),
        }
    )


def _subnet_group_facts(w: World, name: str) -> Facts | None:
    found = _gone(
        lambda: _one(w.c("rds").describe_db_subnet_groups(DBSubnetGroupName=name)["DBSubnetGroups"])
    )
    return (
        None
        if found is None
        else {
            "description": found["DBSubnetGroupDescription"],
            "subnets": sorted(item["SubnetIdentifier"] for item in found["Subnets"]),
        }
    )


def _function_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("lambda").get_function(FunctionName=name))
    if found is None:
        return None
    config = found["Configuration"]
    return {
        "timeout": config["Timeout"],
        "memory": config["MemorySize"],
        "environment": config["Environment"]["Variables"],
        "subnets": config["VpcConfig"]["SubnetIds"],
        "tags": found["Tags"],
        "size": config["CodeSize"] > 0,
    }


def _permission_facts(w: World, identifier: str) -> Facts | None:
    policy = _gone(lambda: json.loads(w.c("lambda").get_policy(FunctionName=w.function)["Policy"]))
    wanted = identifier.partition("|")[2]
    statements = [item for item in (policy or {}).get("Statement", []) if item["Sid"] == wanted]
    return {"principal": statements[0]["Principal"]} if statements else None


def _role_facts(w: World, name: str) -> Facts | None:
    iam = w.c("iam")
    found = _gone(lambda: iam.get_role(RoleName=name)["Role"])
    if found is None:
        return None
    inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    return {
        "trust": found["AssumeRolePolicyDocument"],
        "description": found.get("Description", ""),
        "inline": {
            item: iam.get_role_policy(RoleName=name, PolicyName=item)["PolicyDocument"] for item in inline
        },
        "attached": [
            item["PolicyArn"] for item in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        ],
        "tags": _tags(iam.list_role_tags(RoleName=name)["Tags"]),
    }


def _profile_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"])
    return None if found is None else {"roles": [role["RoleName"] for role in found["Roles"]]}


def _managed_facts(w: World, arn: str) -> Facts | None:
    iam = w.c("iam")
    found = _gone(lambda: iam.get_policy(PolicyArn=arn)["Policy"])
    if found is None:
        return None
    version = iam.get_policy_version(PolicyArn=arn, VersionId=found["DefaultVersionId"])["PolicyVersion"]
    roles = iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]
    return {"document": version["Document"], "roles": [role["RoleName"] for role in roles]}


def _user_facts(w: World, name: str) -> Facts | None:
    if _gone(lambda: w.c("iam").get_user(UserName=name)) is None:
        return None
    return {"tags": _tags(w.c("iam").list_user_tags(UserName=name)["Tags"])}


def _table_facts(w: World, name: str) -> Facts | None:
    db = w.c("dynamodb")
    found = _gone(lambda: db.describe_table(TableName=name)["Table"])
    if found is None:
        return None
    ttl = db.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    backups = db.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    return {
        "billing": found["BillingModeSummary"]["BillingMode"],
        "indexes": [index["IndexName"] for index in found.get("GlobalSecondaryIndexes", [])],
        "ttl": ttl["TimeToLiveStatus"],
        "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "stream": (found.get("StreamSpecification") or {}).get("StreamViewType"),
        "tags": _tags(db.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"]),
    }


def _queue_facts(w: World, url: str) -> Facts | None:
    sqs = w.c("sqs")
    found = _gone(lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])
    if found is None:
        return None
    return {
        "timeout": found["VisibilityTimeout"],
        "redrive": json.loads(found["RedrivePolicy"])["maxReceiveCount"],
        "tags": sqs.list_queue_tags(QueueUrl=url).get("Tags", {}),
    }


def _topic_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: w.c("sns").get_topic_attributes(TopicArn=arn)["Attributes"])
    return (
        None
        if found is None
        else {
            "display": found["DisplayName"],
            "key": found.get("KmsMasterKeyId"),
            "tags": _tags(w.c("sns").list_tags_for_resource(ResourceArn=arn)["Tags"]),
        }
    )


def _subscription_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: w.c("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"])
    return (
        None
        if found is None
        else {
            "endpoint": found["Endpoint"],
            "filter": json.loads(found["FilterPolicy"]),
            "raw": found["RawMessageDelivery"],
        }
    )


def _bucket_policy_facts(w: World, bucket: str) -> Facts | None:
    found = _gone(lambda: w.c("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    return None if found is None else {"document": json.loads(found)}


def _cluster_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("eks").describe_cluster(name=name)["cluster"])
    return (
        None
        if found is None
        else {
            "version": found["version"],
            "subnets": found["resourcesVpcConfig"]["subnetIds"],
            "vpc": found["resourcesVpcConfig"]["vpcId"],
            "tags": found["tags"],
        }
    )


def _replication_facts(w: World, name: str) -> Facts | None:
    cache = w.c("elasticache")
    found = _gone(
        lambda: _one(cache.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"])
    )
    return (
        None
        if found is None
        else {
            "node": found["CacheNodeType"],
            "members": len(found["MemberClusters"]),
            "retention": found["SnapshotRetentionLimit"],
            "description": found["Description"],
        }
    )


def _file_system_facts(w: World, name: str) -> Facts | None:
    efs = w.c("efs")
    found = _gone(lambda: _one(efs.describe_file_systems(FileSystemId=name)["FileSystems"]))
    if found is None:
        return None
    policies = efs.describe_lifecycle_configuration(FileSystemId=name)["LifecyclePolicies"]
    return {
        "encrypted": found["Encrypted"],
        "throughput": found["ThroughputMode"],
        "policies": policies,
        "tags": _tags(found["Tags"]),
    }


def _mount_facts(w: World, name: str) -> Facts | None:
    efs = w.c("efs")
    found = _gone(lambda: _one(efs.describe_mount_targets(MountTargetId=name)["MountTargets"]))
    if found is None:
        return None
    return {"groups": efs.describe_mount_target_security_groups(MountTargetId=name)["SecurityGroups"]}


def _repository_facts(w: World, name: str) -> Facts | None:
    ecr = w.c("ecr")
    found = _gone(lambda: _one(ecr.describe_repositories(repositoryNames=[name])["repositories"]))
    return (
        None
        if found is None
        else {
            "mutability": found["imageTagMutability"],
            "scan": found["imageScanningConfiguration"]["scanOnPush"],
            "tags": _tags(ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]),
        }
    )


def _alarm_facts(w: World, name: str) -> Facts | None:
    found = _one(w.c("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"])
    return (
        None
        if found is None
        else {
            "threshold": found["Threshold"],
            "metric": found["MetricName"],
            "actions": found["AlarmActions"],
        }
    )


def _parameter_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("ssm").get_parameter(Name=name)["Parameter"])
    return None if found is None else {"value": found["Value"], "type": found["Type"]}


def _balancer_facts(w: World, arn: str) -> Facts | None:
    elb = w.c("elbv2")
    found = _gone(lambda: _one(elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]))
    if found is None:
        return None
    attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    return {
        "scheme": found["Scheme"],
        "groups": found["SecurityGroups"],
        "vpc": found["VpcId"],
        "idle": _tags(attributes).get("idle_timeout.timeout_seconds"),
    }


def _targets_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: _one(w.c("elbv2").describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]))
    return None if found is None else {"path": found["HealthCheckPath"], "port": found["Port"]}


def _listener_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: _one(w.c("elbv2").describe_listeners(ListenerArns=[arn])["Listeners"]))
    return None if found is None else {"port": found["Port"], "action": found["DefaultActions"][0]["Type"]}


def _listener_rule_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: _one(w.c("elbv2").describe_rules(RuleArns=[arn])["Rules"]))
    return (
        None if found is None else {"priority": found["Priority"], "values": found["Conditions"][0]["Values"]}
    )


def _key_facts(w: World, key: str) -> Facts | None:
    kms = w.c("kms")
    found = _gone(lambda: kms.describe_key(KeyId=key)["KeyMetadata"])
    if found is None or found["KeyState"] == "PendingDeletion":
        return None
    return {
        "description": found["Description"],
        "rotates": kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"],
        "policy": json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]),
    }


def _alias_facts(w: World, alias: str) -> Facts | None:
    found = [item for item in w.c("kms").list_aliases()["Aliases"] if item["AliasName"] == alias]
    return {"key": found[0]["TargetKeyId"]} if found else None


def _secret_facts(w: World, arn: str) -> Facts | None:
    secrets = w.c("secretsmanager")
    found = _gone(lambda: secrets.describe_secret(SecretId=arn))
    if found is None or found.get("DeletedDate"):
        return None
    value = secrets.get_secret_value(SecretId=arn)["SecretString"]
    return {"description": found["Description"], "value": value, "tags": _tags(found["Tags"])}


def _log_group_facts(w: World, name: str) -> Facts | None:
    groups = w.c("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    found = [group for group in groups if group["logGroupName"] == name]
    return {"days": found[0].get("retentionInDays")} if found else None


def _ip_set_facts(w: World, identifier: str) -> Facts | None:
    name, item, scope = identifier.split("|")
    found = _gone(lambda: w.c("wafv2").get_ip_set(Name=name, Id=item, Scope=scope)["IPSet"])
    return None if found is None else {"addresses": found["Addresses"], "description": found["Description"]}


def _acl_facts(w: World, identifier: str) -> Facts | None:
    name, item, scope = identifier.split("|")
    found = _gone(lambda: w.c("wafv2").get_web_acl(Name=name, Id=item, Scope=scope)["WebACL"])
    return None if found is None else {"action": found["DefaultAction"]}


def _event_rule_facts(w: World, arn: str) -> Facts | None:
    events, name = w.c("events"), arn.rpartition("/")[2]
    found = _gone(lambda: events.describe_rule(Name=name))
    if found is None:
        return None
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    return {
        "schedule": found["ScheduleExpression"],
        "state": found["State"],
        "targets": [target["Arn"] for target in targets],
    }


def _bus_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("events").describe_event_bus(Name=name))
    return None if found is None else {"description": found.get("Description", "")}


def _ecs_facts(w: World, name: str) -> Facts | None:
    found = _one(w.c("ecs").describe_clusters(clusters=[name], include=["TAGS", "SETTINGS"])["clusters"])
    if found is None or found["status"] == "INACTIVE":
        return None
    return {"settings": found["settings"]}


def _stream_facts(w: World, name: str) -> Facts | None:
    found = _gone(lambda: w.c("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"])
    return (
        None
        if found is None
        else {
            "hours": found["RetentionPeriodHours"],
            "shards": found["OpenShardCount"],
        }
    )


def _machine_facts(w: World, arn: str) -> Facts | None:
    found = _gone(lambda: w.c("stepfunctions").describe_state_machine(stateMachineArn=arn))
    if found is None or found["status"] == "DELETING":
        return None
    return {"states": sorted(json.loads(found["definition"])["States"])}


def _mapping_facts(w: World, identifier: str) -> Facts | None:
    found = _gone(lambda: w.c("lambda").get_event_source_mapping(UUID=identifier))
    if found is None or found["State"] == "Deleting":
        return None
    return {"batch": found["BatchSize"], "source": found["EventSourceArn"], "state": found["State"]}


def _parameter_group_facts(w: World, name: str) -> Facts | None:
    rds = w.c("rds")
    if _gone(lambda: rds.describe_db_parameter_groups(DBParameterGroupName=name)) is None:
        return None
    found = rds.describe_db_parameters(DBParameterGroupName=name)["Parameters"]
    values = [item.get("ParameterValue") for item in found if item["ParameterName"] == "max_connections"]
    return {"connections": values}


def _cache_subnets_facts(w: World, name: str) -> Facts | None:
    cache = w.c("elasticache")
    found = _gone(
        lambda: _one(cache.describe_cache_subnet_groups(CacheSubnetGroupName=name)["CacheSubnetGroups"])
    )
    if found is None:
        return None
    subnets = sorted(item["SubnetIdentifier"] for item in found["Subnets"])
    return {"description": found["CacheSubnetGroupDescription"], "subnets": subnets}


def _metric_filter_facts(w: World, identifier: str) -> Facts | None:
    group, _, name = identifier.partition("|")
    found = w.c("logs").describe_metric_filters(logGroupName=group, filterNamePrefix=name)["metricFilters"]
    return {"pattern": found[0]["filterPattern"]} if found else None


def _endpoint_facts(w: World, identifier: str) -> Facts | None:
    found = _describe("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointIds")(w, identifier)
    return None if found is None else {"service": found["ServiceName"], "tables": found["RouteTableIds"]}


def _template_facts(w: World, identifier: str) -> Facts | None:
    describe = _describe("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateIds")
    found = describe(w, identifier)
    if found is None:
        return None
    versions = w.c("ec2").describe_launch_template_versions(LaunchTemplateId=identifier)
    latest = max(versions["LaunchTemplateVersions"], key=lambda version: version["VersionNumber"])
    return {"type": latest["LaunchTemplateData"]["InstanceType"]}


def _definition(state: str) -> str:
    return json.dumps({"StartAt": state, "States": {state: {"Type": "Pass", "End": True}}})


def _subnet_facts(w: World, identifier: str) -> Facts | None:
    native = _tagged(
        "ec2",
        "describe_subnets",
        "Subnets",
        "SubnetIds",
        vpc="VpcId",
        cidr="CidrBlock",
        public="MapPublicIpOnLaunch",
    )
    found: Facts | None = native(w, identifier)
    return found


_DEV = {"tags": {"env": "dev"}}
_PROD = [replace("/Tags", [{"Key": "env", "Value": "prod"}])]
_TAGGED_PROD = {"tags": {"env": "prod"}}
_KEYS = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}

CASES: tuple[Case, ...] = (
    Case(
        type_name="AWS::S3::Bucket",
        desired=lambda w: {
            "BucketName": f"case-{w.aws.account}",
            "VersioningConfiguration": {"Status": "Enabled"},
            "LifecycleConfiguration": {"Rules": [{"Id": "old", "Status": "Enabled", "ExpirationInDays": 30}]},
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "Tags": TAGS,
        },
        native=_bucket_facts,
        created=lambda _: {
            "versioning": "Enabled",
            "encryption": "AES256",
            "expires": [30],
            "blocked": True,
            **_DEV,
        },
        patch=lambda _: [
            replace("/VersioningConfiguration/Status", "Suspended"),
            replace(
                "/BucketEncryption/ServerSideEncryptionConfiguration",
                [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}],
            ),
            replace("/LifecycleConfiguration/Rules/0/ExpirationInDays", 7),
            *_PROD,
        ],
        updated=lambda _: {
            "versioning": "Suspended",
            "encryption": "aws:kms",
            "expires": [7],
            **_TAGGED_PROD,
        },
    ),
    Case(
        type_name="AWS::S3::BucketPolicy",
        desired=lambda w: {"Bucket": w.bucket, "PolicyDocument": POLICY},
        native=_bucket_policy_facts,
        created=lambda _: {"document": POLICY},
        patch=lambda _: [replace("/PolicyDocument", POLICY2)],
        updated=lambda _: {"document": POLICY2},
    ),
    Case(
        type_name="AWS::EC2::VPC",
        desired=lambda _: {"CidrBlock": "10.8.0.0/16", "EnableDnsHostnames": True, "Tags": TAGS},
        native=_vpc_facts,
        created=lambda _: {"cidr": "10.8.0.0/16", "hostnames": True, **_DEV},
        patch=lambda _: [replace("/EnableDnsHostnames", False), *_PROD],
        updated=lambda _: {"hostnames": False, **_TAGGED_PROD},
    ),
    Case(
        type_name="AWS::EC2::Subnet",
        desired=lambda w: {
            "VpcId": w.vpc,
            "CidrBlock": "10.7.9.0/24",
            "AvailabilityZone": "us-east-1c",
            "MapPublicIpOnLaunch": True,
            "Tags": TAGS,
        },
        native=_subnet_facts,
        created=lambda w: {"vpc": w.vpc, "cidr": "10.7.9.0/24", "public": True, **_DEV},
        patch=lambda _: [replace("/MapPublicIpOnLaunch", False), *_PROD],
        updated=lambda _: {"public": False, **_TAGGED_PROD},
    ),
    Case(
        type_name="AWS::EC2::SecurityGroup",
        desired=lambda w: {
            "GroupDescription": "web",
            "VpcId": w.vpc,
            "SecurityGroupIngress": [
                {
                    "IpProtocol": "tcp",
                    "FromPort": 80,
                    "ToPort": 80,
                    "CidrIp": "0.0.0.0/0",
                    "Description": "web",
                }
            ],
            "Tags": TAGS,
        },
        native=_group_facts,
        created=lambda _: {"ports": [(80, "0.0.0.0/0")], **_DEV},
        patch=lambda _: [
            replace("/SecurityGroupIngress/0/CidrIp", "10.0.0.0/8"),
            add(
                "/SecurityGroupIngress/-",
                {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"},
            ),
        ],
        updated=lambda _: {"ports": [(80, "10.0.0.0/8"), (443, "0.0.0.0/0")]},
    ),
    Case(
        type_name="AWS::EC2::SecurityGroupIngress",
        desired=lambda w: {
            "GroupId": w.group,
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "SourceSecurityGroupId": w.group2,
            "Description": "ssh",
        },
        native=_rule_facts,
        created=lambda w: {"GroupId": w.group, "FromPort": 22, "IsEgress": False, "Description": "ssh"},
        patch=lambda _: [replace("/Description", "shell")],
        updated=lambda _: {"FromPort": 22, "Description": "shell"},
    ),
    Case(
        type_name="AWS::EC2::SecurityGroupEgress",
        desired=lambda w: {
            "GroupId": w.group,
            "IpProtocol": "tcp",
            "FromPort": 25,
            "ToPort": 25,
            "CidrIp": "10.0.0.0/8",
        },
        native=_rule_facts,
        created=lambda w: {"GroupId": w.group, "FromPort": 25, "IsEgress": True},
    ),
    Case(
        type_name="AWS::EC2::Instance",
        desired=lambda w: {
            "ImageId": "ami-12345678",
            "InstanceType": "t3.micro",
            "SubnetId": w.subnet,
            "SecurityGroupIds": [w.group],
            "IamInstanceProfile": w.profile,
            "UserData": "IyEvYmluL3No",
            "Tags": TAGS,
        },
        native=_instance_facts,
        created=lambda w: {
            "type": "t3.micro",
            "groups": [w.group],
            "subnet": w.subnet,
            "profile": w.profile,
            "optimized": False,
            **_DEV,
        },
        patch=lambda w: [
            replace("/InstanceType", "t3.large"),
            replace("/SecurityGroupIds", [w.group2]),
            replace("/EbsOptimized", True),
            replace("/Monitoring", True),
            *_PROD,
        ],
        updated=lambda w: {
            "type": "t3.large",
            "groups": [w.group2],
            "optimized": True,
            "monitoring": "enabled",
            **_TAGGED_PROD,
        },
    ),
    Case(
        type_name="AWS::EC2::InternetGateway",
        desired=lambda _: {"Tags": TAGS},
        native=_tagged("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayIds"),
        created=lambda _: _DEV,
        patch=lambda _: _PROD,
        updated=lambda _: _TAGGED_PROD,
    ),
    Case(
        type_name="AWS::EC2::VPCGatewayAttachment",
        desired=lambda w: {"VpcId": w.vpc, "InternetGatewayId": w.gateway},
        native=_attached,
        created=lambda w: {"vpcs": [w.vpc]},
    ),
    Case(
        type_name="AWS::EC2::RouteTable",
        desired=lambda w: {"VpcId": w.vpc, "Tags": TAGS},
        native=_tagged("ec2", "describe_route_tables", "RouteTables", "RouteTableIds", vpc="VpcId"),
        created=lambda w: {"vpc": w.vpc, **_DEV},
        patch=lambda _: _PROD,
        updated=lambda _: _TAGGED_PROD,
    ),
    Case(
        type_name="AWS::EC2::Route",
        desired=lambda w: {
            "RouteTableId": w.table,
            "DestinationCidrBlock": "192.168.0.0/16",
            "GatewayId": w.gateway,
        },
        native=_route_facts,
        created=lambda w: {"GatewayId": w.gateway},
        patch=lambda w: [replace("/GatewayId", _another_gateway(w))],
        updated=lambda w: {"GatewayId": w.made["gateway2"]},
    ),
    Case(
        type_name="AWS::EC2::SubnetRouteTableAssociation",
        desired=lambda w: {"RouteTableId": w.table, "SubnetId": w.subnet},
        native=_association_facts,
        created=lambda w: {"SubnetId": w.subnet},
    ),
    Case(
        type_name="AWS::EC2::NatGateway",
        desired=lambda w: {"SubnetId": w.subnet, "AllocationId": w.allocation, "Tags": TAGS},
        native=_nat_facts,
        created=lambda w: {"subnet": w.subnet, **_DEV},
        patch=lambda _: _PROD,
        updated=lambda _: _TAGGED_PROD,
    ),
    Case(
        type_name="AWS::EC2::EIP",
        desired=lambda _: {"Domain": "vpc", "Tags": TAGS},
        native=_address_facts,
        created=lambda _: _DEV,
        patch=lambda _: _PROD,
        updated=lambda _: _TAGGED_PROD,
    ),
    Case(
        type_name="AWS::EC2::VPCEndpoint",
        desired=lambda w: {
            "VpcId": w.vpc,
            "ServiceName": "com.amazonaws.us-east-1.s3",
            "RouteTableIds": [w.table],
        },
        native=_endpoint_facts,
        created=lambda w: {"service": "com.amazonaws.us-east-1.s3", "tables": [w.table]},
        patch=lambda _: [replace("/RouteTableIds", [])],
        updated=lambda _: {"tables": []},
    ),
    Case(
        type_name="AWS::EC2::LaunchTemplate",
        desired=lambda _: {"LaunchTemplateName": "case", "LaunchTemplateData": {"InstanceType": "t3.micro"}},
        native=_template_facts,
        created=lambda _: {"type": "t3.micro"},
        patch=lambda _: [add("/LaunchTemplateData", {"InstanceType": "t3.large"})],
        updated=lambda _: {"type": "t3.large"},
        hidden=frozenset({"LaunchTemplateData"}),
    ),
    Case(
        type_name="AWS::RDS::DBSubnetGroup",
        desired=lambda w: {
            "DBSubnetGroupName": "case",
            "DBSubnetGroupDescription": "first",
            "SubnetIds": [w.subnet, w.subnet2],
        },
        native=_subnet_group_facts,
        created=lambda w: {"description": "first", "subnets": sorted([w.subnet, w.subnet2])},
        patch=lambda w: [replace("/DBSubnetGroupDescription", "second")],
        updated=lambda _: {"description": "second"},
    ),
    Case(
        type_name="AWS::RDS::DBInstance",
        desired=lambda w: {
            "DBInstanceIdentifier": "case",
            "DBInstanceClass": "db.t3.micro",
            "Engine": "postgres",
            "AllocatedStorage": "20",
            "MasterUsername": "keeper",
            "MasterUserPassword": "not-a-real-one",
            "VPCSecurityGroups": [w.group],
            "BackupRetentionPeriod": 1,
            "Tags": TAGS,
        },
        native=_db_facts,
        created=lambda w: {
            "class": "db.t3.micro",
            "engine": "postgres",
            "storage": 20,
            "groups": [w.group],
            **_DEV,
        },
        patch=lambda _: [
            replace("/DBInstanceClass", "db.t3.large"),
            replace("/AllocatedStorage", "40"),
            replace("/BackupRetentionPeriod", 7),
        ],
        updated=lambda _: {"class": "db.t3.large", "storage": 40, "retention": 7, **_DEV},
        hidden=frozenset({"MasterUserPassword"}),
    ),
    Case(
        type_name="AWS::Lambda::Function",
        desired=lambda w: {
            "FunctionName": "case",
            "Code": {"ZipFile": "def handler(event, context): return 1"},
            "Handler": "index.handler",
            "Runtime": "python3.12",
            "Role": w.role_arn,
            "Timeout": 5,
            "MemorySize": 128,
            "Environment": {"Variables": {"STAGE": "dev"}},
            "VpcConfig": {"SubnetIds": [w.subnet], "SecurityGroupIds": [w.group]},
            "Tags": TAGS,
        },
        native=_function_facts,
        created=lambda w: {
            "timeout": 5,
            "memory": 128,
            "environment": {"STAGE": "dev"},
            "subnets": [w.subnet],
            "size": True,
            **_DEV,
        },
        patch=lambda _: [
            replace("/Timeout", 30),
            replace("/MemorySize", 512),
            replace("/Environment/Variables/STAGE", "prod"),
        ],
        updated=lambda _: {
            "timeout": 30,
            "memory": 512,
            "environment": {"STAGE": "prod"},
            "size": True,
            **_DEV,
        },
        hidden=frozenset({"Code"}),
    ),
    Case(
        type_name="AWS::Lambda::Permission",
        desired=lambda w: {
            "FunctionName": w.function,
            "Action": "lambda:InvokeFunction",
            "Principal": "events.amazonaws.com",
        },
        native=_permission_facts,
        created=lambda _: {"principal": {"Service": "events.amazonaws.com"}},
    ),
    Case(
        type_name="AWS::Lambda::EventSourceMapping",
        desired=lambda w: {"FunctionName": w.function, "EventSourceArn": w.queue_arn, "BatchSize": 5},
        native=_mapping_facts,
        created=lambda w: {"batch": 5, "source": w.queue_arn, "state": "Enabled"},
        patch=lambda _: [replace("/BatchSize", 8), replace("/Enabled", False)],
        updated=lambda _: {"batch": 8, "state": "Disabled"},
    ),
    Case(
        type_name="AWS::RDS::DBParameterGroup",
        desired=lambda _: {
            "DBParameterGroupName": "case",
            "Family": "postgres16",
            "Description": "first",
            "Parameters": {"max_connections": "200"},
            "Tags": TAGS,
        },
        native=_parameter_group_facts,
        created=lambda _: {"connections": ["200"]},
        patch=lambda _: [replace("/Parameters/max_connections", "400"), *_PROD],
        updated=lambda _: {"connections": ["400"]},
    ),
    Case(
        type_name="AWS::ElastiCache::SubnetGroup",
        desired=lambda w: {
            "CacheSubnetGroupName": "case",
            "Description": "first",
            "SubnetIds": [w.subnet, w.subnet2],
        },
        native=_cache_subnets_facts,
        created=lambda w: {"description": "first", "subnets": sorted([w.subnet, w.subnet2])},
        patch=lambda _: [replace("/Description", "second")],
        updated=lambda _: {"description": "second"},
    ),
    Case(
        type_name="AWS::Logs::MetricFilter",
        desired=lambda w: {
            "LogGroupName": w.log_group,
            "FilterName": "case",
            "FilterPattern": "ERROR",
            "MetricTransformations": [{"MetricName": "m", "MetricNamespace": "n", "MetricValue": "1"}],
        },
        native=_metric_filter_facts,
        created=lambda _: {"pattern": "ERROR"},
        patch=lambda _: [replace("/FilterPattern", "FATAL")],
        updated=lambda _: {"pattern": "FATAL"},
    ),
    Case(
        type_name="AWS::IAM::Role",
        desired=lambda _: {
            "AssumeRolePolicyDocument": TRUST,
            "Description": "first",
            "ManagedPolicyArns": [READ_ONLY],
            "Policies": [{"PolicyName": "inline", "PolicyDocument": POLICY}],
            "Tags": TAGS,
        },
        native=_role_facts,
        created=lambda _: {"trust": TRUST, "inline": {"inline": POLICY}, "attached": [READ_ONLY], **_DEV},
        patch=lambda _: [
            replace("/Description", "second"),
            replace("/Policies/0/PolicyDocument", POLICY2),
            remove("/ManagedPolicyArns"),
            *_PROD,
        ],
        updated=lambda _: {
            "description": "second",
            "inline": {"inline": POLICY2},
            "attached": [],
            **_TAGGED_PROD,
        },
    ),
    Case(
        type_name="AWS::IAM::InstanceProfile",
        desired=lambda w: {"InstanceProfileName": "case", "Roles": [w.role]},
        native=_profile_facts,
        created=lambda w: {"roles": [w.role]},
        patch=lambda w: [replace("/Roles", [_role(w, "another")])],
        updated=lambda _: {"roles": ["another"]},
    ),
    Case(
        type_name="AWS::IAM::ManagedPolicy",
        desired=lambda w: {"ManagedPolicyName": "case", "PolicyDocument": POLICY, "Roles": [w.role]},
        native=_managed_facts,
        created=lambda w: {"document": POLICY, "roles": [w.role]},
        patch=lambda _: [replace("/PolicyDocument", POLICY2)],
        updated=lambda _: {"document": POLICY2},
    ),
    Case(
        type_name="AWS::IAM::User",
        desired=lambda _: {"UserName": "case", "Tags": TAGS},
        native=_user_facts,
        created=lambda _: _DEV,
        patch=lambda _: _PROD,
        updated=lambda _: _TAGGED_PROD,
    ),
    Case(
        type_name="AWS::DynamoDB::Table",
        desired=lambda _: {
            "TableName": "case",
            **_KEYS,
            "BillingMode": "PROVISIONED",
            "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "Tags": TAGS,
        },
        native=_table_facts,
        created=lambda _: {
            "billing": "PROVISIONED",
            "ttl": "ENABLED",
            "recovery": "ENABLED",
            "stream": "NEW_IMAGE",
            **_DEV,
        },
        patch=lambda _: [
            replace("/BillingMode", "PAY_PER_REQUEST"),
            remove("/ProvisionedThroughput"),
            replace("/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled", False),
            replace(
                "/AttributeDefinitions",
                [
                    {"AttributeName": "id", "AttributeType": "S"},
                    {"AttributeName": "group", "AttributeType": "S"},
                ],
            ),
            add(
                "/GlobalSecondaryIndexes",
                [
                    {
                        "IndexName": "by-group",
                        "KeySchema": [{"AttributeName": "group", "KeyType": "HASH"}],
                        "Projection": {"ProjectionType": "ALL"},
                    }
                ],
            ),
        ],
        updated=lambda _: {"billing": "PAY_PER_REQUEST", "recovery": "DISABLED", "indexes": ["by-group"]},
    ),
    Case(
        type_name="AWS::SQS::Queue",
        desired=lambda w: {
            "QueueName": "case",
            "VisibilityTimeout": 40,
            "RedrivePolicy": {"deadLetterTargetArn": w.queue_arn, "maxReceiveCount": 3},
            "Tags": TAGS,
        },
        native=_queue_facts,
        created=lambda _: {"timeout": "40", "redrive": 3, **_DEV},
        patch=lambda _: [
            replace("/VisibilityTimeout", 90),
            replace("/RedrivePolicy/maxReceiveCount", 5),
            *_PROD,
        ],
        updated=lambda _: {"timeout": "90", "redrive": 5, **_TAGGED_PROD},
    ),
    Case(
        type_name="AWS::SNS::Topic",
        desired=lambda _: {"TopicName": "case", "DisplayName": "first", "Tags": TAGS},
        native=_topic_facts,
        created=lambda _: {"display": "first", "key": None, **_DEV},
        patch=lambda _: [replace("/DisplayName", "second"), add("/KmsMasterKeyId", "alias/aws/sns")],
        updated=lambda _: {"display": "second", "key": "alias/aws/sns", **_DEV},
    ),
    Case(
        type_name="AWS::SNS::Subscription",
        desired=lambda w: {
            "TopicArn": w.topic,
            "Protocol": "sqs",
            "Endpoint": w.queue_arn,
            "FilterPolicy": {"kind": ["order"]},
            "RawMessageDelivery": True,
        },
        native=_subscription_facts,
        created=lambda w: {"endpoint": w.queue_arn, "filter": {"kind": ["order"]}, "raw": "true"},
        patch=lambda _: [replace("/FilterPolicy", {"kind": ["refund"]})],
        updated=lambda _: {"filter": {"kind": ["refund"]}},
    ),
    Case(
        type_name="AWS::EKS::Cluster",
        desired=lambda w: {
            "Name": "case",
            "RoleArn": w.role_arn,
            "Version": "1.30",
            "ResourcesVpcConfig": {"SubnetIds": [w.subnet, w.subnet2]},
            "Tags": TAGS,
        },
        native=_cluster_facts,
        created=lambda w: {"version": "1.30", "subnets": [w.subnet, w.subnet2], "vpc": w.vpc, **_DEV},
        patch=lambda _: [replace("/Version", "1.31")],
        updated=lambda _: {"version": "1.31"},
    ),
    Case(
        type_name="AWS::ElastiCache::ReplicationGroup",
        desired=lambda _: {
            "ReplicationGroupId": "case",
            "ReplicationGroupDescription": "first",
            "CacheNodeType": "cache.t3.micro",
            "Engine": "redis",
            "NumCacheClusters": 2,
            "AutomaticFailoverEnabled": True,
            "SnapshotRetentionLimit": 1,
        },
        native=_replication_facts,
        created=lambda _: {"node": "cache.t3.micro", "members": 2, "retention": 1},
        patch=lambda _: [
            replace("/CacheNodeType", "cache.t3.small"),
            replace("/ReplicationGroupDescription", "second"),
            replace("/SnapshotRetentionLimit", 5),
        ],
        updated=lambda _: {"node": "cache.t3.small", "description": "second", "retention": 5},
    ),
    Case(
        type_name="AWS::EFS::FileSystem",
        desired=lambda _: {
            "Encrypted": True,
            "LifecyclePolicies": [{"TransitionToIA": "AFTER_30_DAYS"}],
            "FileSystemTags": TAGS,
        },
        native=_file_system_facts,
        created=lambda _: {"encrypted": True, "policies": [{"TransitionToIA": "AFTER_30_DAYS"}], **_DEV},
        patch=lambda _: [
            replace("/LifecyclePolicies/0/TransitionToIA", "AFTER_7_DAYS"),
            replace("/ThroughputMode", "elastic"),
            replace("/FileSystemTags", [{"Key": "env", "Value": "prod"}]),
        ],
        updated=lambda _: {
            "policies": [{"TransitionToIA": "AFTER_7_DAYS"}],
            "throughput": "elastic",
            **_TAGGED_PROD,
        },
    ),
    Case(
        type_name="AWS::EFS::MountTarget",
        desired=lambda w: {"FileSystemId": w.file_system, "SubnetId": w.subnet, "SecurityGroups": [w.group]},
        native=_mount_facts,
        created=lambda w: {"groups": [w.group]},
        patch=lambda w: [replace("/SecurityGroups", [w.group2])],
        updated=lambda w: {"groups": [w.group2]},
    ),
    Case(
        type_name="AWS::ECR::Repository",
        desired=lambda _: {"RepositoryName": "case", "ImageTagMutability": "MUTABLE", "Tags": TAGS},
        native=_repository_facts,
        created=lambda _: {"mutability": "MUTABLE", "scan": False, **_DEV},
        patch=lambda _: [
            replace("/ImageTagMutability", "IMMUTABLE"),
            replace("/ImageScanningConfiguration/ScanOnPush", True),
        ],
        updated=lambda _: {"mutability": "IMMUTABLE", "scan": True},
    ),
    Case(
        type_name="AWS::ECS::Cluster",
        desired=lambda _: {"ClusterName": "case"},
        native=_ecs_facts,
        created=lambda _: {"settings": [{"name": "containerInsights", "value": "disabled"}]},
        patch=lambda _: [replace("/ClusterSettings", [{"Name": "containerInsights", "Value": "enabled"}])],
        updated=lambda _: {"settings": [{"name": "containerInsights", "value": "enabled"}]},
    ),
    Case(
        type_name="AWS::CloudWatch::Alarm",
        desired=lambda w: {
            "AlarmName": "case",
            "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1,
            "MetricName": "CPUUtilization",
            "Namespace": "AWS/EC2",
            "Period": 60,
            "Statistic": "Average",
            "Threshold": 80,
            "AlarmActions": [w.topic],
        },
        native=_alarm_facts,
        created=lambda w: {"threshold": 80.0, "metric": "CPUUtilization", "actions": [w.topic]},
        patch=lambda _: [replace("/Threshold", 95)],
        updated=lambda _: {"threshold": 95.0},
    ),
    Case(
        type_name="AWS::SSM::Parameter",
        desired=lambda _: {"Name": "/case", "Type": "String", "Value": "first", "Tags": {"env": "dev"}},
        native=_parameter_facts,
        created=lambda _: {"value": "first", "type": "String"},
        patch=lambda _: [replace("/Value", "second")],
        updated=lambda _: {"value": "second"},
    ),
    Case(
        type_name="AWS::ElasticLoadBalancingV2::LoadBalancer",
        desired=lambda w: {
            "Name": "case",
            "Scheme": "internal",
            "Subnets": [w.subnet, w.subnet2],
            "SecurityGroups": [w.group],
            "LoadBalancerAttributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "30"}],
        },
        native=_balancer_facts,
        created=lambda w: {"scheme": "internal", "groups": [w.group], "vpc": w.vpc, "idle": "30"},
        patch=lambda w: [
            replace("/SecurityGroups", [w.group2]),
            replace("/LoadBalancerAttributes", [{"Key": "idle_timeout.timeout_seconds", "Value": "90"}]),
        ],
        updated=lambda w: {"groups": [w.group2], "idle": "90"},
    ),
    Case(
        type_name="AWS::ElasticLoadBalancingV2::TargetGroup",
        desired=lambda w: {
            "Name": "case",
            "Port": 8080,
            "Protocol": "HTTP",
            "VpcId": w.vpc,
            "TargetType": "instance",
            "HealthCheckPath": "/up",
        },
        native=_targets_facts,
        created=lambda _: {"path": "/up", "port": 8080},
        patch=lambda _: [replace("/HealthCheckPath", "/ready")],
        updated=lambda _: {"path": "/ready", "port": 8080},
    ),
    Case(
        type_name="AWS::ElasticLoadBalancingV2::Listener",
        desired=lambda w: {
            "LoadBalancerArn": w.balancer,
            "Port": 80,
            "Protocol": "HTTP",
            "DefaultActions": [{"Type": "forward", "TargetGroupArn": w.targets}],
        },
        native=_listener_facts,
        created=lambda _: {"port": 80, "action": "forward"},
        patch=lambda _: [replace("/Port", 8080)],
        updated=lambda _: {"port": 8080},
    ),
    Case(
        type_name="AWS::ElasticLoadBalancingV2::ListenerRule",
        desired=lambda w: {
            "ListenerArn": w.listener,
            "Priority": 5,
            "Conditions": [{"Field": "path-pattern", "Values": ["/a"]}],
            "Actions": [{"Type": "forward", "TargetGroupArn": w.targets}],
        },
        native=_listener_rule_facts,
        created=lambda _: {"priority": "5", "values": ["/a"]},
        patch=lambda _: [replace("/Conditions/0/Values", ["/b"])],
        updated=lambda _: {"values": ["/b"]},
        hidden=frozenset({"ListenerArn"}),
    ),
    Case(
        type_name="AWS::KMS::Key",
        desired=lambda _: {"Description": "first", "KeyPolicy": POLICY, "EnableKeyRotation": True},
        native=_key_facts,
        created=lambda _: {"description": "first", "rotates": True, "policy": POLICY},
        patch=lambda _: [
            replace("/Description", "second"),
            replace("/EnableKeyRotation", False),
            replace("/KeyPolicy", POLICY2),
        ],
        updated=lambda _: {"description": "second", "rotates": False, "policy": POLICY2},
    ),
    Case(
        type_name="AWS::KMS::Alias",
        desired=lambda w: {"AliasName": "alias/case", "TargetKeyId": w.key},
        native=_alias_facts,
        created=lambda w: {"key": w.key},
        patch=lambda w: [
            replace("/TargetKeyId", w.c("kms").create_key(Description="other")["KeyMetadata"]["KeyId"])
        ],
        updated=lambda _: {},
    ),
    Case(
        type_name="AWS::SecretsManager::Secret",
        desired=lambda _: {"Name": "case", "Description": "first", "SecretString": "one", "Tags": TAGS},
        native=_secret_facts,
        created=lambda _: {"description": "first", "value": "one", **_DEV},
        patch=lambda _: [replace("/Description", "second"), add("/SecretString", "two"), *_PROD],
        updated=lambda _: {"description": "second", "value": "two", **_TAGGED_PROD},
        hidden=frozenset({"SecretString"}),
    ),
    Case(
        type_name="AWS::Logs::LogGroup",
        desired=lambda _: {"LogGroupName": "/case", "RetentionInDays": 7, "Tags": TAGS},
        native=_log_group_facts,
        created=lambda _: {"days": 7},
        patch=lambda _: [replace("/RetentionInDays", 30)],
        updated=lambda _: {"days": 30},
    ),
    Case(
        type_name="AWS::WAFv2::IPSet",
        desired=lambda _: {
            "Name": "case",
            "Scope": "REGIONAL",
            "IPAddressVersion": "IPV4",
            "Addresses": ["10.0.0.0/8"],
            "Description": "first",
        },
        native=_ip_set_facts,
        created=lambda _: {"addresses": ["10.0.0.0/8"], "description": "first"},
        patch=lambda _: [add("/Addresses/-", "192.168.0.0/16"), replace("/Description", "second")],
        updated=lambda _: {"addresses": ["10.0.0.0/8", "192.168.0.0/16"], "description": "second"},
    ),
    Case(
        type_name="AWS::WAFv2::WebACL",
        desired=lambda _: {
            "Name": "case",
            "Scope": "REGIONAL",
            "DefaultAction": {"Allow": {}},
            "VisibilityConfig": {
                "SampledRequestsEnabled": True,
                "CloudWatchMetricsEnabled": True,
                "MetricName": "case",
            },
        },
        native=_acl_facts,
        created=lambda _: {"action": {"Allow": {}}},
        patch=lambda _: [replace("/DefaultAction", {"Block": {}})],
        updated=lambda _: {"action": {"Block": {}}},
    ),
    Case(
        type_name="AWS::Events::Rule",
        desired=lambda w: {
            "Name": "case",
            "ScheduleExpression": "rate(5 minutes)",
            "State": "ENABLED",
            "Targets": [{"Id": "one", "Arn": w.queue_arn}],
        },
        native=_event_rule_facts,
        created=lambda w: {"schedule": "rate(5 minutes)", "state": "ENABLED", "targets": [w.queue_arn]},
        patch=lambda _: [replace("/ScheduleExpression", "rate(1 hour)"), replace("/State", "DISABLED")],
        updated=lambda w: {"schedule": "rate(1 hour)", "state": "DISABLED", "targets": [w.queue_arn]},
    ),
    Case(
        type_name="AWS::Events::EventBus",
        desired=lambda _: {"Name": "case", "Description": "first"},
        native=_bus_facts,
        created=lambda _: {"description": "first"},
        patch=lambda _: [replace("/Description", "second")],
        updated=lambda _: {"description": "second"},
    ),
    Case(
        type_name="AWS::Kinesis::Stream",
        desired=lambda _: {"Name": "case", "ShardCount": 1, "RetentionPeriodHours": 24},
        native=_stream_facts,
        created=lambda _: {"hours": 24, "shards": 1},
        patch=lambda _: [replace("/RetentionPeriodHours", 48)],
        updated=lambda _: {"hours": 48, "shards": 1},
    ),
    Case(
        type_name="AWS::StepFunctions::StateMachine",
        desired=lambda w: {
            "StateMachineName": "case",
            "RoleArn": w.role_arn,
            "DefinitionString": _definition("A"),
        },
        native=_machine_facts,
        created=lambda _: {"states": ["A"]},
        patch=lambda _: [replace("/DefinitionString", _definition("B"))],
        updated=lambda _: {"states": ["B"]},
    ),
)


def _another_gateway(w: World) -> str:
    made = w.c("ec2").create_internet_gateway()
    w.made["gateway2"] = made["InternetGateway"]["InternetGatewayId"]
    return w.made["gateway2"]
