"""Buckets and their policies, file systems."""

import xml.etree.ElementTree as ET  # what is parsed here was written or checked by the emulator itself

from ministack.core.responses import get_region
from ministack.services import efs, s3

from fairlead.sandbox.inside.live.kind import Kind, Model, document, picked, some, tag_list


def _parsed(text: str | bytes | None) -> ET.Element | None:
    if not text:
        return None
    root = ET.fromstring(text)  # noqa: S314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(parent: ET.Element, path: str) -> str | None:
    found = parent.find(path)
    return found.text if found is not None else None


def _flag(parent: ET.Element, path: str) -> bool | None:
    text = _text(parent, path)
    return None if text is None else text == "true"


def _number(parent: ET.Element, path: str) -> int | None:
    text = _text(parent, path)
    return None if text is None else int(text)


def _texts(parent: ET.Element, path: str) -> list[str]:
    return [element.text or "" for element in parent.findall(path)]


def _encryption(key: str) -> Model:
    root = _parsed(s3._bucket_encryption.get(key))
    rules = []
    for rule in root.findall("Rule") if root is not None else []:
        default = some(
            SSEAlgorithm=_text(rule, "ApplyServerSideEncryptionByDefault/SSEAlgorithm"),
            KMSMasterKeyID=_text(rule, "ApplyServerSideEncryptionByDefault/KMSMasterKeyID"),
        )
        bucket_key = _flag(rule, "BucketKeyEnabled")
        rules.append(some(ServerSideEncryptionByDefault=default, BucketKeyEnabled=bucket_key or None))
    # Since 2023 every bucket is encrypted, whether anybody asked or not.
    default_rule = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return {"ServerSideEncryptionConfiguration": rules or [default_rule]}


def _public_access(key: str) -> Model | None:
    root = _parsed(s3._buckets[key].get("_public_access_block"))
    if root is None:
        return None
    return {
        name: bool(_flag(root, name))
        for name in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    }


def _lifecycle_rule(rule: Model) -> Model:
    filters = rule.get("Filter") or {}
    both = filters.get("And") or {}
    tags = [filters["Tag"]] if filters.get("Tag") else list(both.get("Tags") or [])
    older = rule.get("NoncurrentVersionExpiration") or {}
    return some(
        Id=rule.get("ID"),
        Status=rule.get("Status"),
        Prefix=rule.get("Prefix") or filters.get("Prefix") or both.get("Prefix"),
        TagFilters=tags,
        ExpirationInDays=(rule.get("Expiration") or {}).get("Days"),
        ExpirationDate=(rule.get("Expiration") or {}).get("Date"),
        Transitions=[
            some(
                StorageClass=item["StorageClass"],
                TransitionInDays=item.get("Days"),
                TransitionDate=item.get("Date"),
            )
            for item in rule.get("Transitions") or []
        ],
        NoncurrentVersionTransitions=[
            some(StorageClass=item["StorageClass"], TransitionInDays=item.get("NoncurrentDays"))
            for item in rule.get("NoncurrentVersionTransitions") or []
        ],
        NoncurrentVersionExpiration=picked(older, "NoncurrentDays", "NewerNoncurrentVersions"),
        AbortIncompleteMultipartUpload=picked(
            rule.get("AbortIncompleteMultipartUpload") or {}, "DaysAfterInitiation"
        ),
    )


def _lifecycle(key: str) -> Model | None:
    rules = s3._bucket_lifecycle.get(key)
    return {"Rules": [_lifecycle_rule(rule) for rule in rules]} if isinstance(rules, list) else None


def _cors(key: str) -> Model | None:
    root = _parsed(s3._bucket_cors.get(key))
    if root is None:
        return None
    rules = [
        some(
            Id=_text(rule, "ID"),
            AllowedHeaders=_texts(rule, "AllowedHeader"),
            AllowedMethods=_texts(rule, "AllowedMethod"),
            AllowedOrigins=_texts(rule, "AllowedOrigin"),
            ExposedHeaders=_texts(rule, "ExposeHeader"),
            MaxAge=_number(rule, "MaxAgeSeconds") or None,
        )
        for rule in root.findall("CORSRule")
    ]
    return {"CorsRules": rules}


def _website(key: str) -> Model | None:
    root = _parsed(s3._bucket_websites.get(key))
    if root is None:
        return None
    return some(
        IndexDocument=_text(root, "IndexDocument/Suffix"), ErrorDocument=_text(root, "ErrorDocument/Key")
    )


def _logging(key: str) -> Model | None:
    root = _parsed(s3._bucket_logging_config.get(key))
    if root is None or root.find("LoggingEnabled") is None:
        return None
    return some(
        DestinationBucketName=_text(root, "LoggingEnabled/TargetBucket"),
        LogFilePrefix=_text(root, "LoggingEnabled/TargetPrefix"),
    )


def _ownership(key: str) -> Model | None:
    root = _parsed(s3._buckets[key].get("_ownership_controls"))
    if root is None:
        return None
    return {"Rules": [{"ObjectOwnership": text} for text in _texts(root, "Rule/ObjectOwnership")]}


def _bucket(key: str) -> Model | None:
    if key not in s3._buckets:
        return None
    region = s3._buckets[key].get("region") or get_region()
    versioning = s3._bucket_versioning.get(key)
    return some(
        BucketName=key,
        Arn=f"arn:aws:s3:::{key}",
        DomainName=f"{key}.s3.amazonaws.com",
        DualStackDomainName=f"{key}.s3.dualstack.{region}.amazonaws.com",
        RegionalDomainName=f"{key}.s3.{region}.amazonaws.com",
        WebsiteURL=f"http://{key}.s3-website-{region}.amazonaws.com",
        VersioningConfiguration={"Status": versioning} if versioning else None,
        BucketEncryption=_encryption(key),
        PublicAccessBlockConfiguration=_public_access(key),
        OwnershipControls=_ownership(key),
        LifecycleConfiguration=_lifecycle(key),
        CorsConfiguration=_cors(key),
        WebsiteConfiguration=_website(key),
        LoggingConfiguration=_logging(key),
        Tags=tag_list(s3._bucket_tags.get(key)),
    )


def _bucket_policy(key: str) -> Model | None:
    policy = s3._bucket_policies.get(key)
    return None if policy is None else {"Bucket": key, "PolicyDocument": document(policy)}


def _file_system(key: str) -> Model | None:
    system = efs._file_systems.get(key)
    if system is None:
        return None
    return some(
        FileSystemId=key,
        Arn=system["FileSystemArn"],
        **picked(system, "PerformanceMode", "ThroughputMode", "KmsKeyId", "AvailabilityZoneName"),
        Encrypted=system.get("Encrypted", False),
        ProvisionedThroughputInMibps=system.get("ProvisionedThroughputInMibps"),
        LifecyclePolicies=efs._lifecycle_configs.get(key),
        BackupPolicy=picked(efs._backup_policies.get(key) or {}, "Status"),
        FileSystemProtection=picked(
            system.get("FileSystemProtection") or {}, "ReplicationOverwriteProtection"
        ),
        FileSystemTags=tag_list(system.get("Tags")),
    )


def _mount_target(key: str) -> Model | None:
    target = efs._mount_targets.get(key)
    if target is None:
        return None
    return some(Id=key, **picked(target, "FileSystemId", "SubnetId", "SecurityGroups", "IpAddress"))


KINDS = (
    Kind(type_name="AWS::S3::Bucket", keys=s3._buckets.keys, read=_bucket),
    Kind(
        type_name="AWS::S3::BucketPolicy",
        keys=s3._bucket_policies.keys,
        read=_bucket_policy,
        key_after=lambda _, props: str(props["Bucket"]),
        physical_of=lambda key: f"{key}-policy",
    ),
    Kind(type_name="AWS::EFS::FileSystem", keys=efs._file_systems.keys, read=_file_system),
    Kind(type_name="AWS::EFS::MountTarget", keys=efs._mount_targets.keys, read=_mount_target),
)
