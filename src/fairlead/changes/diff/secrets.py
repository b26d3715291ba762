"""Which property values nobody may see in a plan.

The schema marks what AWS never gives back (write-only). Most of that is secret, so all of it is
masked, except the few names here that a reviewer must see and that hold no secret.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fairlead.changes.intrinsics import MASK, Secret
from fairlead.changes.types.equality import Path, pointer

SEALED_KEY = "fairlead:secret"  # the state log keeps {SEALED_KEY: keyed digest} in place of a secret

_HARMLESS = frozenset(
    {
        "AccessControl",
        "AllowMajorVersionUpgrade",
        "AllowedPattern",
        "ApplyImmediately",
        "ApplyOn",
        "BucketNamePrefix",
        "DBSnapshotIdentifier",
        "DeleteAutomatedBackups",
        "Description",
        "ImageUri",
        "Ipv6AddressCount",
        "Ipv6Addresses",
        "LicenseSpecifications",
        "NoDevice",
        "Policies",
        "Policy",
        "PolicyName",
        "PropagateTagsToVolumeOnCreation",
        "PublishToLatestPublished",
        "RestoreTime",
        "S3Bucket",
        "S3Key",
        "S3ObjectStorageMode",
        "S3ObjectVersion",
        "SnapStart",
        "SnapshotIdentifier",
        "SourceDBInstanceIdentifier",
        "SourceRegion",
        "SourceSecurityGroupName",
        "Tags",
        "Tier",
        "TransferAddress",
        "UseLatestRestorableTime",
        "VirtualName",
        "ZipFile",
    }
)


def hidden(write_only: Collection[str]) -> frozenset[str]:
    """The pointers of `write_only` whose values are masked."""
    return frozenset(p for p in write_only if p.rpartition("/")[2] not in _HARMLESS)


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
