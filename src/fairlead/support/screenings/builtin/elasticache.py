"""ElastiCache: encryption, failover and backups of replication groups."""

from collections.abc import AsyncIterator

from fairlead.support.collect import Reads
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

GROUP = "AWS::ElastiCache::ReplicationGroup"


async def groups(reads: Reads) -> AsyncIterator[Item]:
    """Replication groups."""
    async for found in reads.pages("elasticache", "describe_replication_groups", "ReplicationGroups"):
        uid = found["ReplicationGroupId"]
        arn = found.get("ARN") or reads.arn("elasticache", f"replicationgroup:{uid}")
        yield item(reads, GROUP, arn, found, name=uid)


def at_rest(group: Item) -> Verdict:
    """Encrypted on disk."""
    return unless(not group["AtRestEncryptionEnabled"], "Data on disk is not encrypted.")


def in_transit(group: Item) -> Verdict:
    """Encrypted on the way."""
    return unless(not group["TransitEncryptionEnabled"], "Connections are not encrypted.")


def failover(group: Item) -> Verdict:
    """A replica takes over by itself."""
    state = group["AutomaticFailover"]
    return unless(state not in ("enabled", "enabling"), f"Automatic failover is {state}.")


def backups(group: Item) -> Verdict:
    """Snapshots are kept."""
    return unless(not group["SnapshotRetentionLimit"], "There are no automatic backups.")


SERVICE = Service(
    name="elasticache",
    reference="https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/encryption.html",
    sources=(
        Source(
            kind=GROUP,
            collect=groups,
            checks=(
                Check(
                    id="elasticache.group_at_rest",
                    title="Cache is not encrypted on disk",
                    severity=Severity.MEDIUM,
                    judge=at_rest,
                    why="Backups and swapped data lie in the clear.",
                    fix="Create an encrypted group from a backup and change over.",
                ),
                Check(
                    id="elasticache.group_in_transit",
                    title="Cache takes connections without TLS",
                    severity=Severity.MEDIUM,
                    judge=in_transit,
                    why="Sessions and data can be read within the network.",
                    fix="Turn on encryption in transit, first as preferred, then as required.",
                ),
                Check(
                    id="elasticache.group_failover",
                    title="Cache has no automatic failover",
                    severity=Severity.LOW,
                    judge=failover,
                    why="When the node fails, the cache is away until somebody acts.",
                    fix="Add a replica in another zone and turn on automatic failover.",
                    pillars=("reliability",),
                ),
                Check(
                    id="elasticache.group_backups",
                    title="Cache has no automatic backups",
                    severity=Severity.INFORMATIONAL,
                    judge=backups,
                    why="What is only in the cache is lost with it.",
                    fix="Keep snapshots where the data cannot be made again.",
                    pillars=("reliability",),
                ),
            ),
        ),
    ),
)
