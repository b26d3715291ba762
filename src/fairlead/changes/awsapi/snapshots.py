"""Last snapshots: for each type that has them, the commands that take and find one, and what AWS says of it.

Pure. A snapshot's name comes from the client token, so a repeated step finds its own. EBS snapshots
have no name of their own: theirs is a tag, which AWS does not keep unique, so look before you take.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from fairlead.changes.awsapi.commands import command
from fairlead.changes.model import Json
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import OutcomeUnknown


class State(Enum):
    """Where a snapshot stands."""

    ABSENT = auto()
    PENDING = auto()
    READY = auto()
    FAILED = auto()


class Refusal(Enum):
    """Why AWS has not begun a snapshot."""

    TAKEN = auto()  # there is one of this name: our own, from an earlier try
    GONE = auto()  # there is no such resource
    BUSY = auto()  # something else is done to the resource at the moment
    UNKNOWN = auto()  # no answer came: it may have begun
    REFUSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look for a snapshot found."""

    state: State
    identifier: str = ""
    status: str = ""  # in AWS's own word


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How snapshots of one type are taken and looked at: AWS CLI operations, options and answers."""

    service: str
    take: str
    look: str
    named: str | None  # option that carries the snapshot's name; None: it is a tag
    of: str  # option that names the resource
    listed: str  # member of the answer that lists snapshots
    identifier: str  # member of a snapshot
    status: str = "Status"  # member of a snapshot
    ask_first: str | None = None  # operation that tells what exactly to take the snapshot of
    source: Callable[[Json, str], Mapping[str, str]] | None = None  # its answer, identifier -> options


def _node_or_group(answer: Json, identifier: str) -> Mapping[str, str]:
    """A group in cluster mode is saved as a whole, another one through the node that holds everything."""
    group = answer["ReplicationGroups"][0]
    nodes = [node for part in group.get("NodeGroups", ()) for node in part.get("NodeGroupMembers", ())]
    primaries = [node["CacheClusterId"] for node in nodes if node.get("CurrentRole") == "primary"]
    members = [*primaries, *group.get("MemberClusters", ())]
    if group.get("ClusterEnabled") or not members:
        return {"replication_group_id": identifier}
    return {"cache_cluster_id": members[0]}


def _cluster(service: str) -> Kind:
    return Kind(
        service=service,
        take="create-db-cluster-snapshot",
        look="describe-db-cluster-snapshots",
        named="db_cluster_snapshot_identifier",
        of="db_cluster_identifier",
        listed="DBClusterSnapshots",
        identifier="DBClusterSnapshotIdentifier",
    )


_CACHE = Kind(
    service="elasticache",
    take="create-snapshot",
    look="describe-snapshots",
    named="snapshot_name",
    of="cache_cluster_id",
    listed="Snapshots",
    identifier="SnapshotName",
    status="SnapshotStatus",
)

KINDS: Mapping[str, Kind] = {
    "AWS::DocDB::DBCluster": _cluster("docdb"),
    "AWS::EC2::Volume": Kind(
        service="ec2",
        take="create-snapshot",
        look="describe-snapshots",
        named=None,
        of="volume_id",
        listed="Snapshots",
        identifier="SnapshotId",
        status="State",
    ),
    "AWS::ElastiCache::CacheCluster": _CACHE,
    "AWS::ElastiCache::ReplicationGroup": replace(
        _CACHE, of="replication_group_id", ask_first="describe-replication-groups", source=_node_or_group
    ),
    "AWS::Neptune::DBCluster": _cluster("neptune"),
    "AWS::RDS::DBCluster": _cluster("rds"),
    "AWS::RDS::DBInstance": Kind(
        service="rds",
        take="create-db-snapshot",
        look="describe-db-snapshots",
        named="db_snapshot_identifier",
        of="db_instance_identifier",
        listed="DBSnapshots",
        identifier="DBSnapshotIdentifier",
    ),
    "AWS::Redshift::Cluster": Kind(
        service="redshift",
        take="create-cluster-snapshot",
        look="describe-cluster-snapshots",
        named="snapshot_identifier",
        of="cluster_identifier",
        listed="Snapshots",
        identifier="SnapshotIdentifier",
    ),
}
"""One entry for each type of `traits.SNAPSHOT_TYPES`."""

# In their own words; any other status means that AWS is at work on it.
_READY = frozenset({"available", "completed", "final snapshot"})
_FAILED = frozenset({"failed", "error", "deleting", "deleted"})


def snapshot_name(type_name: str, identifier: str, client_token: str) -> str:
    """The name of the snapshot that a request with `client_token` takes of a resource.

    39 lower-case letters, digits and single hyphens, a letter first: every service accepts it.
    """
    digest = hashlib.sha256(f"{type_name}\n{identifier}\n{client_token}".encode()).hexdigest()
    return f"fairlead-{digest[:30]}"


def look(type_name: str, name: str, region: str | None) -> str:
    """The command that looks for the snapshot `name`."""
    kind = KINDS[type_name]
    if kind.named is not None:
        return command(kind.service, kind.look, region=region, **{kind.named: name})
    filters = [f"Name=tag:Name,Values={name}"]
    return command(kind.service, kind.look, region=region, owner_ids=["self"], filters=filters)


def first(type_name: str, identifier: str, region: str | None) -> str | None:
    """The command whose answer `take` wants as `told`; None for most types."""
    kind = KINDS[type_name]
    if kind.ask_first is None:
        return None
    return command(kind.service, kind.ask_first, region=region, **{kind.of: identifier})


def take(type_name: str, identifier: str, name: str, region: str | None, told: Json = None) -> str:
    """The command that takes the snapshot `name` of a resource. `told`: see `first`."""
    kind = KINDS[type_name]
    of = {kind.of: identifier} if kind.source is None else kind.source(told, identifier)
    if kind.named is not None:
        return command(kind.service, kind.take, region=region, **of, **{kind.named: name})
    return command(
        kind.service,
        kind.take,
        region=region,
        **of,
        description=f"Last snapshot of {identifier} by Fairlead",
        tag_specifications=f"ResourceType=snapshot,Tags=[{{Key=Name,Value={name}}}]",
    )


def is_named(type_name: str) -> bool:
    """Whether AWS itself refuses a second snapshot of the same name."""
    return KINDS[type_name].named is not None


def found(type_name: str, outcome: Json | FairleadError) -> Found:
    """What the answer to `look` says. Raises the error that it is, where that is not just absence."""
    kind = KINDS[type_name]
    if isinstance(outcome, FairleadError):
        if _code(outcome).endswith("NotFound"):
            return Found(state=State.ABSENT)
        raise outcome
    # Of several (a tag is not unique) the one that has come furthest.
    all_found = [_found(kind, item) for item in outcome.get(kind.listed, ())]
    return max(all_found, key=_progress, default=Found(state=State.ABSENT))


def refusal(error: FairleadError) -> Refusal:
    """Why a snapshot was not begun, from the error that `take` or `first` met."""
    code = _code(error)
    if isinstance(error, OutcomeUnknown):
        return Refusal.UNKNOWN
    if code.endswith("AlreadyExists"):
        return Refusal.TAKEN
    if code.endswith("NotFound"):
        return Refusal.GONE
    if (code.startswith("Invalid") and code.endswith("State")) or code == "IncorrectState":
        return Refusal.BUSY
    return Refusal.REFUSED


def has_begun(type_name: str, refused: FairleadError | None) -> bool:
    """Whether the snapshot may stand, so that it must not be asked for again: only looked for."""
    if refused is None:
        return True
    why = refusal(refused)
    return why is Refusal.TAKEN or (why is Refusal.UNKNOWN and not is_named(type_name))


def _found(kind: Kind, item: Json) -> Found:
    status = str(item.get(kind.status, ""))
    state = State.READY if status in _READY else State.FAILED if status in _FAILED else State.PENDING
    return Found(state=state, identifier=str(item[kind.identifier]), status=status)


def _progress(one: Found) -> int:
    return (State.FAILED, State.PENDING, State.READY).index(one.state)


def _code(error: FairleadError) -> str:
    """AWS's own code, in the one spelling that its services do not agree on."""
    return str(error.details.get("aws_code", "")).removesuffix("Exception").removesuffix("Fault")
