"""EBS: volumes, snapshots and the default encryption of a region."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable, details, tags_of
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

VOLUME, SNAPSHOT, DEFAULT = "AWS::EC2::Volume", "AWS::EC2::Snapshot", "AWS::EC2::EbsEncryptionByDefault"


async def volumes(reads: Reads) -> AsyncIterator[Item]:
    """Volumes."""
    async for found in reads.pages("ec2", "describe_volumes", "Volumes"):
        uid, tags = found["VolumeId"], tags_of(found.get("Tags"))
        yield item(
            reads, VOLUME, reads.arn("ec2", f"volume/{uid}"), found, name=tags.get("Name", uid), tags=tags
        )


async def snapshots(reads: Reads) -> AsyncIterator[Item]:
    """The account's own snapshots, with whether everyone may restore them."""
    listed = await reads.all_of(
        "ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], RestorableByUserIds=["all"]
    )
    suspects = listed if isinstance(listed, Unreadable) else {found["SnapshotId"] for found in listed}

    async def look(found: dict[str, Any]) -> Item:
        uid, tags = found["SnapshotId"], tags_of(found.get("Tags"))
        public: Any = suspects if isinstance(suspects, Unreadable) else uid in suspects
        if public is True:  # few, and grave enough to be asked about one by one
            public = await reads.fact(
                "ec2",
                "describe_snapshot_attribute",
                _shared,
                SnapshotId=uid,
                Attribute="createVolumePermission",
            )
        facts = {**found, "Public": public}
        arn = reads.arn("ec2", f"snapshot/{uid}")
        return item(reads, SNAPSHOT, arn, facts, name=tags.get("Name", uid), tags=tags)

    async for found in details(
        reads.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"]), look
    ):
        yield found


def _shared(answer: dict[str, Any]) -> bool:
    return any(grant.get("Group") == "all" for grant in answer.get("CreateVolumePermissions") or ())


async def default(reads: Reads) -> AsyncIterator[Item]:
    """Whether new volumes of the region are encrypted."""
    state = await reads.fact("ec2", "get_ebs_encryption_by_default", lambda a: a["EbsEncryptionByDefault"])
    yield item(reads, DEFAULT, reads.arn("ec2", "ebs-encryption-by-default"), {"Enabled": state})


def encrypted(volume: Item) -> Verdict:
    """The volume is encrypted."""
    return unless(not volume["Encrypted"], "It is not encrypted.")


def attached(volume: Item) -> Verdict:
    """The volume is in use."""
    return unless(
        volume["State"] == "available", f"{volume.optional('Size', '?')} GiB are attached to nothing."
    )


def current_type(volume: Item) -> Verdict:
    """Not of a type that a better and cheaper one replaced."""
    kind = volume["VolumeType"]
    return unless(kind in ("gp2", "standard"), f"It is of type {kind}.")


def public_snapshot(snapshot: Item) -> Verdict:
    """Not everyone may restore it."""
    return unless(snapshot["Public"], "Everyone can restore it.")


def by_default(region: Item) -> Verdict:
    """New volumes are encrypted."""
    return unless(not region["Enabled"], "New volumes are not encrypted unless one asks for it.")


SERVICE = Service(
    name="ebs",
    reference="https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption.html",
    sources=(
        Source(
            kind=VOLUME,
            collect=volumes,
            checks=(
                Check(
                    id="ebs.volume_encryption",
                    title="Volume is not encrypted",
                    severity=Severity.MEDIUM,
                    judge=encrypted,
                    why="Its data, and every snapshot of it, lie in the clear.",
                    fix=(
                        "Copy a snapshot of it with encryption and replace the volume by one "
                        "made from the copy."
                    ),
                    cis=("2.2.1",),
                ),
                Check(
                    id="ebs.volume_idle",
                    title="Volume is attached to nothing",
                    severity=Severity.LOW,
                    judge=attached,
                    why="It is paid for and forgotten, with the data on it.",
                    fix="Keep a snapshot if the data matters, then delete the volume.",
                    pillars=("cost-optimization",),
                ),
                Check(
                    id="ebs.volume_type",
                    title="Volume is of an old type",
                    severity=Severity.INFORMATIONAL,
                    judge=current_type,
                    why="gp3 costs less than gp2 and its speed does not depend on its size.",
                    fix="Change the type to gp3; this needs no interruption.",
                    pillars=("cost-optimization", "performance-efficiency"),
                ),
            ),
        ),
        Source(
            kind=SNAPSHOT,
            collect=snapshots,
            checks=(
                Check(
                    id="ebs.snapshot_public",
                    title="Snapshot is public",
                    severity=Severity.CRITICAL,
                    judge=public_snapshot,
                    why="Everyone with an AWS account can restore the disk and read it.",
                    fix=(
                        "Make it private, block public sharing for the account, and replace "
                        "secrets that were on it."
                    ),
                ),
                Check(
                    id="ebs.snapshot_encryption",
                    title="Snapshot is not encrypted",
                    severity=Severity.MEDIUM,
                    judge=encrypted,
                    why="What was on the disk lies in the clear, and can be shared without a key.",
                    fix="Copy it with encryption and delete the original.",
                ),
            ),
        ),
        Source(
            kind=DEFAULT,
            collect=default,
            checks=(
                Check(
                    id="ebs.default_encryption",
                    title="New volumes are not encrypted by default",
                    severity=Severity.LOW,
                    judge=by_default,
                    why="One forgotten switch is enough for a disk in the clear.",
                    fix="Turn on EBS encryption by default in this region.",
                    cis=("2.2.1",),
                ),
            ),
        ),
    ),
)
