"""KMS: keys that the customer manages."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

KEY = "AWS::KMS::Key"


async def keys(reads: Reads) -> AsyncIterator[Item]:
    """Keys of the customer; those that AWS manages are left out, because nobody can change them."""

    async def look(key: dict[str, Any]) -> Item | None:
        uid = key["KeyId"]
        about = await reads.fact("kms", "describe_key", lambda a: a["KeyMetadata"], KeyId=uid)
        if isinstance(about, dict) and about.get("KeyManager") == "AWS":
            return None
        facts: dict[str, Any] = {"Key": about}
        if isinstance(about, Unreadable) or _rotates(about or {}):
            facts["Rotation"] = await reads.fact(
                "kms", "get_key_rotation_status", lambda a: a["KeyRotationEnabled"], KeyId=uid
            )
        facts["Policy"] = await reads.fact(
            "kms", "get_key_policy", lambda a: a["Policy"], KeyId=uid, PolicyName="default"
        )
        return item(reads, KEY, key.get("KeyArn") or reads.arn("kms", f"key/{uid}"), facts, name=uid)

    async for found in details(reads.pages("kms", "list_keys", "Keys"), look):
        if found is not None:
            yield found


def _rotates(key: Any) -> bool:
    """Only enabled symmetric keys whose material KMS made can be rotated by KMS."""
    return bool(
        key.get("KeySpec", key.get("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT")) == "SYMMETRIC_DEFAULT"
        and key.get("KeyState") == "Enabled"
        and key.get("Origin", "AWS_KMS") == "AWS_KMS"
    )


def rotation(key: Item) -> Verdict:
    """Rotated every year."""
    if not _rotates(key["Key"]):
        return None
    return unless(not key["Rotation"], "Rotation is off.")


def public_policy(key: Item) -> Verdict:
    """Not everyone may use it."""
    opened = open_statements(key["Policy"])
    return unless(bool(opened), f"Everyone may use it: {', '.join(opened)}.")


def pending_deletion(key: Item) -> Verdict:
    """Not about to be deleted."""
    return unless(key["Key"].get("KeyState") == "PendingDeletion", "It will be deleted.")


SERVICE = Service(
    name="kms",
    reference="https://docs.aws.amazon.com/kms/latest/developerguide/best-practices.html",
    sources=(
        Source(
            kind=KEY,
            collect=keys,
            checks=(
                Check(
                    id="kms.key_rotation",
                    title="Key is not rotated",
                    severity=Severity.LOW,
                    judge=rotation,
                    why="The more data one key material protects, the more its loss costs.",
                    fix="Turn on automatic rotation.",
                    cis=("3.6",),
                ),
                Check(
                    id="kms.key_public_policy",
                    title="Everyone may use the key",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why="Any AWS account may use it as far as the statement goes, decryption included.",
                    fix="Name the principals, or tie the statement with kms:CallerAccount.",
                ),
                Check(
                    id="kms.key_pending_deletion",
                    title="Key will be deleted",
                    severity=Severity.MEDIUM,
                    judge=pending_deletion,
                    why="What it encrypted can never be read again after that day.",
                    fix="Cancel the deletion unless you know that nothing needs the key.",
                    pillars=("reliability", "security"),
                ),
            ),
        ),
    ),
)
