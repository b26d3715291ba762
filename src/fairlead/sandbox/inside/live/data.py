"""Databases, caches, tables, secrets, parameters, keys, streams."""

from ministack.services import dynamodb, elasticache, kinesis, kms, rds, secretsmanager, ssm

from fairlead.sandbox.inside.live.kind import Kind, Model, document, picked, some, tag_list, tag_map


def _db_instance(key: str) -> Model | None:
    instance = rds._instances.get(key)
    if instance is None:
        return None
    endpoint = instance.get("Endpoint") or {}
    return some(
        DBInstanceIdentifier=key,
        **picked(instance, "DBInstanceArn", "DbiResourceId", "DBInstanceStatus", "InstanceCreateTime"),
        **picked(instance, "DBInstanceClass", "Engine", "EngineVersion", "MasterUsername", "DBName"),
        **picked(instance, "StorageType", "Iops", "StorageThroughput", "MaxAllocatedStorage", "KmsKeyId"),
        **picked(instance, "MultiAZ", "AvailabilityZone", "PubliclyAccessible", "StorageEncrypted"),
        **picked(instance, "BackupRetentionPeriod", "PreferredBackupWindow", "PreferredMaintenanceWindow"),
        **picked(instance, "AutoMinorVersionUpgrade", "CopyTagsToSnapshot", "DeletionProtection"),
        **picked(instance, "MonitoringInterval", "MonitoringRoleArn", "PromotionTier", "LicenseModel"),
        **picked(instance, "CACertificateIdentifier", "DBClusterIdentifier"),
        AllocatedStorage=str(instance["AllocatedStorage"]),
        Port=str(endpoint["Port"]) if endpoint else None,
        Endpoint=some(
            Address=endpoint.get("Address"),
            Port=str(endpoint.get("Port", "")),
            HostedZoneId=endpoint.get("HostedZoneId"),
        ),
        EnableIAMDatabaseAuthentication=instance.get("IAMDatabaseAuthenticationEnabled"),
        EnablePerformanceInsights=instance.get("PerformanceInsightsEnabled"),
        DBSubnetGroupName=(instance.get("DBSubnetGroup") or {}).get("DBSubnetGroupName"),
        DBParameterGroupName=next(
            (group["DBParameterGroupName"] for group in instance.get("DBParameterGroups") or []), None
        ),
        VPCSecurityGroups=[group["VpcSecurityGroupId"] for group in instance.get("VpcSecurityGroups") or []],
        Tags=tag_list(instance.get("TagList")),
    )


def _subnet_group(key: str) -> Model | None:
    group = rds._subnet_groups.get(key)
    if group is None:
        return None
    return some(
        DBSubnetGroupName=key,
        **picked(group, "DBSubnetGroupDescription", "DBSubnetGroupArn"),
        SubnetIds=[subnet["SubnetIdentifier"] for subnet in group.get("Subnets") or []],
        Tags=tag_list(rds._tags.get(group["DBSubnetGroupArn"])),
    )


def _parameter_group(key: str) -> Model | None:
    group = rds._param_groups.get(key)
    if group is None:
        return None
    return some(
        DBParameterGroupName=key,
        Family=group["DBParameterGroupFamily"],
        **picked(group, "Description", "DBParameterGroupArn"),
        Parameters={name: item["ParameterValue"] for name, item in (group.get("Parameters") or {}).items()},
        Tags=tag_list(rds._tags.get(group["DBParameterGroupArn"])),
    )


def _cache_subnet_group(key: str) -> Model | None:
    group = elasticache._subnet_groups.get(key)
    if group is None:
        return None
    return some(
        CacheSubnetGroupName=key,
        Description=group["CacheSubnetGroupDescription"],
        SubnetIds=[subnet["SubnetIdentifier"] for subnet in group.get("Subnets") or []],
        Tags=tag_list(elasticache._tags.get(group["ARN"])),
    )


def _index(index: Model) -> Model:
    throughput = index.get("ProvisionedThroughput") or {}
    return some(
        **picked(index, "IndexName", "KeySchema", "Projection"),
        ProvisionedThroughput=_throughput(throughput),
    )


def _throughput(throughput: Model | None) -> Model | None:
    if not throughput or not throughput.get("ReadCapacityUnits"):
        return None
    return picked(throughput, "ReadCapacityUnits", "WriteCapacityUnits")


def _table(key: str) -> Model | None:
    table = dynamodb._tables.get(key)
    if table is None:
        return None
    billing = (table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED")
    stream = table.get("StreamSpecification") or {}
    ttl = dynamodb._ttl_settings.get(key) or {}
    sse = table.get("SSEDescription") or {}
    recovery = dynamodb._pitr_settings.get(key)
    return some(
        TableName=key,
        Arn=table["TableArn"],
        StreamArn=table.get("LatestStreamArn") if stream.get("StreamEnabled") else None,
        **picked(table, "AttributeDefinitions", "KeySchema"),
        BillingMode=billing,
        ProvisionedThroughput=_throughput(table.get("ProvisionedThroughput"))
        if billing == "PROVISIONED"
        else None,
        GlobalSecondaryIndexes=[_index(index) for index in table.get("GlobalSecondaryIndexes") or []],
        LocalSecondaryIndexes=[
            picked(index, "IndexName", "KeySchema", "Projection")
            for index in table.get("LocalSecondaryIndexes") or []
        ],
        StreamSpecification=picked(stream, "StreamViewType") if stream.get("StreamEnabled") else None,
        SSESpecification=_sse(sse),
        TimeToLiveSpecification=_time_to_live(ttl),
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": bool(_enabled(recovery))},
        DeletionProtectionEnabled=table.get("DeletionProtectionEnabled", False),
        TableClass=(table.get("TableClassSummary") or {}).get("TableClass"),
        Tags=tag_list(dynamodb._tags.get(table["TableArn"])),
    )


def _sse(sse: Model) -> Model | None:
    if sse.get("Status") not in ("ENABLED", "UPDATING"):
        return None
    return some(SSEEnabled=True, SSEType=sse.get("SSEType"), KMSMasterKeyId=sse.get("KMSMasterKeyArn"))


def _time_to_live(ttl: Model) -> Model | None:
    enabled = ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") or ttl.get("Enabled") is True
    return {"AttributeName": ttl["AttributeName"], "Enabled": True} if enabled else None


def _enabled(recovery: object) -> bool:
    if isinstance(recovery, dict):
        status = recovery.get("PointInTimeRecoveryStatus", recovery.get("PointInTimeRecoveryEnabled"))
        return status in ("ENABLED", True)
    return bool(recovery)


def _replication_group(key: str) -> Model | None:
    group = elasticache._replication_groups.get(key)
    if group is None:
        return None
    node = (group.get("NodeGroups") or [{}])[0]
    return some(
        ReplicationGroupId=key,
        ReplicationGroupDescription=group["Description"],
        **picked(group, "CacheNodeType", "Engine", "SnapshotRetentionLimit", "SnapshotWindow", "ClusterMode"),
        **picked(group, "AutoMinorVersionUpgrade", "AtRestEncryptionEnabled", "TransitEncryptionEnabled"),
        **picked(group, "TransitEncryptionMode", "KmsKeyId", "UserGroupIds", "LogDeliveryConfigurations"),
        AutomaticFailoverEnabled=group.get("AutomaticFailover") in ("enabled", "enabling"),
        MultiAZEnabled=group.get("MultiAZ") == "enabled",
        NumCacheClusters=len(group.get("MemberClusters") or []),
        ReplicasPerNodeGroup=group.get("_replicas_per_node_group"),
        PrimaryEndPoint=_endpoint(node.get("PrimaryEndpoint")),
        ReaderEndPoint=_endpoint(node.get("ReaderEndpoint")),
        ConfigurationEndPoint=_endpoint(group.get("ConfigurationEndpoint")),
        Tags=tag_list(elasticache._tags.get(group["ARN"])),
    )


def _endpoint(endpoint: Model | None) -> Model | None:
    return {"Address": endpoint["Address"], "Port": str(endpoint["Port"])} if endpoint else None


def _secret_key(identifier: str) -> str:
    if not identifier.startswith("arn:"):
        return identifier
    return next((name for name, secret in secretsmanager._secrets.items() if secret["ARN"] == identifier), "")


def _secret(key: str) -> Model | None:
    secret = secretsmanager._secrets.get(key)
    if secret is None or secret.get("DeletedDate"):
        return None
    return some(
        Id=secret["ARN"],
        **picked(secret, "Name", "Description", "KmsKeyId"),
        Tags=tag_list(secret.get("Tags")),
    )


def _parameter(key: str) -> Model | None:
    parameter = ssm._parameters.get(key)
    if parameter is None:
        return None
    return some(
        **picked(parameter, "Name", "Type", "DataType"),
        Value=parameter.get("OriginalValue", parameter.get("Value")),
        Description=parameter.get("Description"),
        AllowedPattern=parameter.get("AllowedPattern"),
        Tier=parameter.get("Tier"),
        Tags=tag_map(ssm._tags.get(parameter["ARN"])),
    )


def _key(key: str) -> Model | None:
    record = kms._keys.get(key)
    if record is None or record["KeyState"] == "PendingDeletion":
        return None
    return some(
        KeyId=key,
        **picked(record, "Arn", "Description", "KeySpec", "KeyUsage", "MultiRegion", "Origin"),
        Enabled=record.get("Enabled", True),
        EnableKeyRotation=record.get("KeyRotationEnabled", False),
        KeyPolicy=document(record.get("Policy")),
        Tags=tag_list(record.get("Tags")),
    )


def _alias_keys() -> list[str]:
    return ["alias/" + arn.partition(":alias/")[2] for arn in kms._aliases]


def _alias(key: str) -> Model | None:
    for arn, key_id in kms._aliases.items():
        if arn.endswith(":" + key):
            return {"AliasName": key, "TargetKeyId": key_id}
    return None


def _stream(key: str) -> Model | None:
    stream = kinesis._streams.get(key)
    if stream is None:
        return None
    mode = (stream.get("StreamModeDetails") or {}).get("StreamMode", "PROVISIONED")
    encrypted = stream.get("EncryptionType") == "KMS"
    return some(
        Name=key,
        Arn=stream["StreamARN"],
        RetentionPeriodHours=stream.get("RetentionPeriodHours"),
        StreamModeDetails={"StreamMode": mode},
        ShardCount=_open_shards(stream.get("shards") or {}) if mode == "PROVISIONED" else None,
        StreamEncryption=some(EncryptionType="KMS", KeyId=stream.get("KeyId")) if encrypted else None,
        Tags=tag_list(stream.get("tags")),
    )


def _open_shards(shards: Model) -> int:
    return sum(
        1
        for shard in shards.values()
        if not (shard.get("SequenceNumberRange") or {}).get("EndingSequenceNumber")
        and not shard.get("closed")
    )


KINDS = (
    Kind(type_name="AWS::RDS::DBInstance", keys=rds._instances.keys, read=_db_instance),
    Kind(type_name="AWS::RDS::DBSubnetGroup", keys=rds._subnet_groups.keys, read=_subnet_group),
    Kind(type_name="AWS::RDS::DBParameterGroup", keys=rds._param_groups.keys, read=_parameter_group),
    Kind(
        type_name="AWS::ElastiCache::SubnetGroup",
        keys=elasticache._subnet_groups.keys,
        read=_cache_subnet_group,
    ),
    Kind(type_name="AWS::DynamoDB::Table", keys=dynamodb._tables.keys, read=_table),
    Kind(
        type_name="AWS::ElastiCache::ReplicationGroup",
        keys=elasticache._replication_groups.keys,
        read=_replication_group,
    ),
    Kind(
        type_name="AWS::SecretsManager::Secret",
        keys=secretsmanager._secrets.keys,
        read=_secret,
        key_of=_secret_key,
        unique=("Name",),
    ),
    Kind(type_name="AWS::SSM::Parameter", keys=ssm._parameters.keys, read=_parameter),
    Kind(type_name="AWS::KMS::Key", keys=kms._keys.keys, read=_key),
    Kind(type_name="AWS::KMS::Alias", keys=_alias_keys, read=_alias),
    Kind(type_name="AWS::Kinesis::Stream", keys=kinesis._streams.keys, read=_stream),
)
