"""RDS and Aurora: databases, clusters and snapshots."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details, tags_of
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

INSTANCE, CLUSTER, SNAPSHOT = "AWS::RDS::DBInstance", "AWS::RDS::DBCluster", "AWS::RDS::DBSnapshot"
MIN_BACKUP_DAYS = 7
_OWN_STORAGE = ("aurora", "docdb", "neptune")  # their clusters keep storage and backups


async def instances(reads: Reads) -> AsyncIterator[Item]:
    """Database instances."""
    async for found in reads.pages("rds", "describe_db_instances", "DBInstances"):
        yield _item(reads, INSTANCE, found["DBInstanceArn"], found["DBInstanceIdentifier"], found)


async def clusters(reads: Reads) -> AsyncIterator[Item]:
    """Database clusters."""
    async for found in reads.pages("rds", "describe_db_clusters", "DBClusters"):
        yield _item(reads, CLUSTER, found["DBClusterArn"], found["DBClusterIdentifier"], found)


async def snapshots(reads: Reads) -> AsyncIterator[Item]:
    """Snapshots that people made, with who may restore them."""

    async def look(found: dict[str, Any]) -> Item:
        uid = found["DBSnapshotIdentifier"]
        restorers = await reads.fact(
            "rds",
            "describe_db_snapshot_attributes",
            lambda a: [
                value
                for attribute in a["DBSnapshotAttributesResult"].get("DBSnapshotAttributes", ())
                if attribute["AttributeName"] == "restore"
                for value in attribute.get("AttributeValues", ())
            ],
            DBSnapshotIdentifier=uid,
        )
        return _item(reads, SNAPSHOT, found["DBSnapshotArn"], uid, {**found, "Restorers": restorers})

    own = reads.pages("rds", "describe_db_snapshots", "DBSnapshots", SnapshotType="manual")
    async for found in details(own, look):
        yield found


def _item(reads: Reads, kind: str, arn: str, name: str, facts: dict[str, Any]) -> Item:
    return item(reads, kind, arn, facts, name=name, tags=tags_of(facts.get("TagList")))


def _in_cluster(database: Item) -> bool:
    return str(database.optional("Engine", "")).startswith(_OWN_STORAGE)


def encrypted(database: Item) -> Verdict:
    """The storage is encrypted."""
    return unless(not database["StorageEncrypted"], "The storage is not encrypted.")


def private(database: Item) -> Verdict:
    """No public address."""
    return unless(database["PubliclyAccessible"], "It has a public address.")


def backups(database: Item) -> Verdict:
    """Backups of at least seven days."""
    if _in_cluster(database) and database.resource.type == INSTANCE:
        return None
    days = database["BackupRetentionPeriod"]
    return unless(
        days < MIN_BACKUP_DAYS, f"Backups are kept for {days} days." if days else "There are no backups."
    )


def minor_upgrades(database: Item) -> Verdict:
    """Small updates come by themselves."""
    return unless(not database["AutoMinorVersionUpgrade"], "Minor versions are not updated automatically.")


def multi_az(database: Item) -> Verdict:
    """A standby in another zone."""
    if _in_cluster(database):
        return None
    return unless(not database["MultiAZ"], "It runs in one availability zone.")


def deletion_protection(database: Item) -> Verdict:
    """It cannot be deleted by one call."""
    if _in_cluster(database) and database.resource.type == INSTANCE:
        return None
    return unless(not database["DeletionProtection"], "Deletion protection is off.")


def public_snapshot(snapshot: Item) -> Verdict:
    """Not everyone may restore it."""
    return unless("all" in snapshot["Restorers"], "Everyone can restore it.")


def snapshot_encrypted(snapshot: Item) -> Verdict:
    """The snapshot is encrypted."""
    return unless(not snapshot["Encrypted"], "It is not encrypted.")


SERVICE = Service(
    name="rds",
    reference="https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_BestPractices.Security.html",
    sources=(
        Source(
            kind=INSTANCE,
            collect=instances,
            checks=(
                Check(
                    id="rds.instance_encryption",
                    title="Database is not encrypted",
                    severity=Severity.HIGH,
                    judge=encrypted,
                    why="The data, its backups and its replicas lie in the clear.",
                    fix=(
                        "Restore an encrypted copy of a snapshot and change over; it cannot be "
                        "switched on later."
                    ),
                    cis=("2.3.1",),
                ),
                Check(
                    id="rds.instance_public",
                    title="Database has a public address",
                    severity=Severity.HIGH,
                    judge=private,
                    why="One open security group rule, and the internet can try passwords on it.",
                    fix="Turn off public access and reach it from within the VPC.",
                    cis=("2.3.3",),
                ),
                Check(
                    id="rds.instance_backups",
                    title="Database keeps backups for less than seven days",
                    severity=Severity.MEDIUM,
                    judge=backups,
                    why="Damage that is noticed after a long weekend cannot be undone.",
                    fix="Keep automated backups for at least seven days.",
                    pillars=("reliability",),
                ),
                Check(
                    id="rds.instance_minor_upgrades",
                    title="Database is not updated automatically",
                    severity=Severity.LOW,
                    judge=minor_upgrades,
                    why="Known holes stay open until somebody thinks of it.",
                    fix="Turn on automatic minor version upgrades.",
                    cis=("2.3.2",),
                ),
                Check(
                    id="rds.instance_multi_az",
                    title="Database runs in one availability zone",
                    severity=Severity.LOW,
                    judge=multi_az,
                    why="When the zone fails, the database is away until it is restored.",
                    fix="Turn on Multi-AZ for databases of production.",
                    pillars=("reliability",),
                ),
                Check(
                    id="rds.instance_deletion_protection",
                    title="Database can be deleted by one call",
                    severity=Severity.LOW,
                    judge=deletion_protection,
                    why="A mistake in a script is enough.",
                    fix="Turn on deletion protection.",
                    pillars=("reliability", "security"),
                ),
            ),
        ),
        Source(
            kind=CLUSTER,
            collect=clusters,
            checks=(
                Check(
                    id="rds.cluster_encryption",
                    title="Database cluster is not encrypted",
                    severity=Severity.HIGH,
                    judge=encrypted,
                    why="The data, its backups and its replicas lie in the clear.",
                    fix="Restore an encrypted cluster from a snapshot and change over.",
                    cis=("2.3.1",),
                ),
                Check(
                    id="rds.cluster_backups",
                    title="Database cluster keeps backups for less than seven days",
                    severity=Severity.MEDIUM,
                    judge=backups,
                    why="Damage that is noticed after a long weekend cannot be undone.",
                    fix="Keep automated backups for at least seven days.",
                    pillars=("reliability",),
                ),
                Check(
                    id="rds.cluster_deletion_protection",
                    title="Database cluster can be deleted by one call",
                    severity=Severity.LOW,
                    judge=deletion_protection,
                    why="A mistake in a script is enough.",
                    fix="Turn on deletion protection.",
                    pillars=("reliability", "security"),
                ),
            ),
        ),
        Source(
            kind=SNAPSHOT,
            collect=snapshots,
            checks=(
                Check(
                    id="rds.snapshot_public",
                    title="Database snapshot is public",
                    severity=Severity.CRITICAL,
                    judge=public_snapshot,
                    why="Everyone with an AWS account can restore the database and read it.",
                    fix="Remove the sharing with all accounts, and treat what was in it as known.",
                ),
                Check(
                    id="rds.snapshot_encryption",
                    title="Database snapshot is not encrypted",
                    severity=Severity.MEDIUM,
                    judge=snapshot_encrypted,
                    why="It lies in the clear, and can be shared without a key.",
                    fix="Copy it with encryption and delete the original.",
                    cis=("2.3.1",),
                ),
            ),
        ),
    ),
)
