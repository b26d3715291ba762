"""Which property values nobody may see in a plan.

The schema marks what AWS never gives back (write-only). Some of that is secret, so all of it is
masked, except the names here that a reviewer must see and that hold no secret: a property that
nobody has thought about stays masked.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from fairlead.changes.intrinsics import MASK, Secret
from fairlead.changes.types.equality import Path, pointer

SEALED_KEY = "fairlead:secret"  # the state log keeps {SEALED_KEY: keyed digest} in place of a secret

_HARMLESS = frozenset(
    {
        "AccessControl",
        "AdditionalInfo",
        "Address",
        "AllowMajorVersionUpgrade",
        "AllowedPattern",
        "ApplyImmediately",
        "ApplyOn",
        "BasePath",
        "Body",
        "BodyS3Location",
        "BootstrapClusterCreatorAdminPermissions",
        "BootstrapSelfManagedAddons",
        "BucketNamePrefix",
        "BucketNamespace",
        "BypassPolicyLockoutSafetyCheck",
        "CacheSecurityGroupNames",
        "CertificateRotationRestart",
        "Classic",
        "CloneFrom",
        "Comment",
        "Configuration",
        "Content",
        "CpuConfigurations",
        "DBSnapshotIdentifier",
        "DeferMaintenance",
        "Definition",
        "DefinitionS3Location",
        "DefinitionString",
        "DefinitionSubstitutions",
        "DeleteAutomatedBackups",
        "DeploymentCanarySettings",
        "Description",
        "DisableSchemaValidation",
        "EgressOnlyInternetGatewayExclusion",
        "ElasticFileSystemExclusion",
        "EmptyOnDelete",
        "EnableCapacityReservationProvisionStabilize",
        "EnableLniAtDeviceIndex",
        "EnabledMfas",
        "EncryptionConfiguration",
        "ExpiredObjectDeleteMarker",
        "FailOnWarnings",
        "Force",
        "ForceNewDeployment",
        "ForceUpdateEnabled",
        "GenerateSecretString",
        "ImageUri",
        "ImportSourceSpecification",
        "InternetGatewayExclusion",
        "Ipv4NetmaskLength",
        "Ipv6AddressCount",
        "Ipv6Addresses",
        "Ipv6NetmaskLength",
        "KeyFormat",
        "LambdaExclusion",
        "LaunchTemplateData",
        "LicenseSpecifications",
        "ManageMasterPassword",
        "MaxDrainDurationSeconds",
        "Monitoring",
        "NatGatewayExclusion",
        "NoDevice",
        "NodeGroupConfiguration",
        "NoncurrentVersionTransition",
        "NumNodeGroups",
        "Policies",
        "Policy",
        "PolicyName",
        "PreferredAvailabilityZone",
        "PreferredCacheClusterAZs",
        "PreferredMaintenanceWindow",
        "Prefix",
        "PropagateTagsToVolumeOnCreation",
        "PublicIpDnsHostnameTypeSpecification",
        "PublishToLatestPublished",
        "RecursiveDeleteOption",
        "Region",
        "RestartExecutionOnUpdate",
        "RestoreTime",
        "RestoreToTime",
        "RollbackConfig",
        "RouteKey",
        "S3Bucket",
        "S3Key",
        "S3ObjectStorageMode",
        "S3ObjectVersion",
        "ServiceConnectConfiguration",
        "ServiceConnectDefaults",
        "SkipZonalShiftValidation",
        "SnapStart",
        "SnapshotIdentifier",
        "SourceDBInstanceIdentifier",
        "SourceRegion",
        "SourceSecurityGroupName",
        "StageDescription",
        "TagSpecifications",
        "Tags",
        "Target",
        "Tier",
        "TransferAddress",
        "Transition",
        "UseDefaultProcessorFeatures",
        "UseLatestRestorableTime",
        "VersionDescription",
        "VirtualName",
        "VirtualPrivateGatewayExclusion",
        "VolumeConfigurations",
        "VpcLatticeExclusion",
        "VpcPeeringExclusion",
        "WarmThroughputMiBps",
        "ZipFile",
        "ZookeeperAccess",
    }
)
# What things are called, and what they refer to, is no secret either.
_NAMING = re.compile(r"(?:A(?:rn|RN)s?|Ids?|Identifiers?|Names?|Versions?|Type|Days)\Z")


def hidden(write_only: Collection[str]) -> frozenset[str]:
    """The pointers of `write_only` whose values are masked."""
    return frozenset(p for p in write_only if not _is_harmless(p.rpartition("/")[2]))


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or _NAMING.search(name) is not None


def sealed(value: Any) -> bool:
    """Whether `value` is what the state log keeps in place of a secret."""
    return isinstance(value, dict) and value.keys() == {SEALED_KEY}


def masked(value: Any, path: Path, pointers: Collection[str]) -> Any:
    """`value`, which stands at `path`, as it may be shown: NoEcho, sealed and hidden values become MASK.

    `pointers` are the hidden ones. Nulls stay: that a secret comes or goes is no secret.
    """
    start = f"/properties/{path[0]}"
    return _masked(value, path, [p for p in pointers if p == start or p.startswith(start + "/")])


def _masked(value: Any, path: Path, pointers: Collection[str]) -> Any:
    if value is None:
        return None
    if isinstance(value, Secret) or sealed(value):
        return MASK
    if pointers:
        here = pointer(path)
        if any(here == p or here.startswith(p + "/") for p in pointers):
            return MASK
    if isinstance(value, dict):
        return {key: _masked(item, (*path, key), pointers) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, (*path, "0"), pointers) for item in value]
    return value
