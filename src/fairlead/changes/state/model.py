"""What the state log holds, and what can go wrong with it: plain data, no store and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import msgspec

from fairlead.changes.model import Properties, Recorded, Via
from fairlead.changes.types.arns import Arns, told_arn
from fairlead.kernel.errors import Conflict, FairleadError, InvalidInput, NotFound, Unavailable


class StateMoved(Conflict):
    """Another version was written since the one that this change rests on; plan again."""

    code = "state.moved"


class StateBusy(Unavailable):
    """Too many writers at once; nothing was written."""

    code = "state.busy"


class StateCorrupted(FairleadError):
    """A state version cannot be trusted: its content is not what was written."""

    code, status, retryable = "state.corrupted", 500, False


class StateUnrecoverable(FairleadError):
    """No version of this state is intact."""

    code, status, retryable = "state.unrecoverable", 500, False


class StateUnsupported(FairleadError):
    """A state version was written by a newer Fairlead."""

    code, status, retryable = "state.unsupported", 500, False


class StateVersionMissing(NotFound):
    """There is no such version of the state."""

    code = "state.version_missing"


class StateInvalid(InvalidInput):
    """These resources cannot be recorded."""

    code = "state.invalid"


class ResourceStatus(StrEnum):
    """Where a resource stands."""

    CREATING = "creating"
    ACTIVE = "active"
    UPDATING = "updating"
    DELETING = "deleting"
    ERROR = "error"


class StateResource(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """One physical resource as a state version holds it. In the file the names are camelCase."""

    id: str  # primary identifier, parts joined by "|"
    logical_id: str
    type: str
    name: str
    region: str
    properties: Properties  # what was asked for, fully resolved
    status: ResourceStatus
    created_at: datetime
    updated_at: datetime
    observed: Properties = {}  # what AWS answered, read-only attributes included
    tags: dict[str, str] = {}
    arn: str | None = None
    depends_on: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    via: Via = Via.CLOUD_CONTROL
    superseded: bool = False  # replaced by another resource of the same logical id, but still there

    @property
    def identity(self) -> tuple[str, str]:
        """What is unique in a version: the logical id, and for a superseded resource also its identifier."""
        return self.logical_id, self.id if self.superseded else ""

    def recorded(self) -> Recorded:
        """The resource as the plan engine takes it."""
        return Recorded(
            logical_id=self.logical_id,
            type=self.type,
            identifier=self.id,
            properties=self.properties,
            observed=self.observed,
            depends_on=self.depends_on,
            deletion_policy=self.deletion_policy,
            update_replace_policy=self.update_replace_policy,
            via=self.via,
        )


def state_resource(
    recorded: Recorded,
    *,
    region: str,
    status: ResourceStatus,
    created_at: datetime,
    updated_at: datetime,
    superseded: bool = False,
) -> StateResource:
    """`recorded` as a state version holds it; name, ARN and tags are read off what AWS answered."""
    tags = _tags(recorded.observed) or _tags(recorded.properties)
    return StateResource(
        id=recorded.identifier,
        logical_id=recorded.logical_id,
        type=recorded.type,
        name=tags.get("Name") or _own_name(recorded) or recorded.logical_id,
        region=region,
        properties=recorded.properties,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        observed=recorded.observed,
        tags=tags,
        arn=told_arn(recorded.type, recorded.identifier, recorded.observed),
        depends_on=recorded.depends_on,
        deletion_policy=recorded.deletion_policy,
        update_replace_policy=recorded.update_replace_policy,
        via=recorded.via,
        superseded=superseded,
    )


def seen(resource: StateResource, observed: Properties, arns: Arns) -> StateResource:
    """`resource` with what AWS answers now, and with the name, ARN and tags that are read off it."""
    tags = _tags(observed) or _tags(resource.properties)
    recorded = replace(resource.recorded(), observed=observed)
    return msgspec.structs.replace(
        resource,
        observed=observed,
        tags=tags,
        name=tags.get("Name") or _own_name(recorded) or resource.logical_id,
        arn=arns.of(resource.type, resource.id, observed),
    )


def _tags(properties: Properties) -> dict[str, str]:
    """Tags in either of the two forms that resource types use: a list of Key and Value, or a map."""
    tags = properties.get("Tags")
    if isinstance(tags, dict):
        return {str(key): value for key, value in tags.items() if isinstance(value, str)}
    if not isinstance(tags, list):
        return {}
    pairs = [(tag.get("Key"), tag.get("Value")) for tag in tags if isinstance(tag, dict)]
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def _own_name(recorded: Recorded) -> str | None:
    """The name that the type itself has: `Name`, or `BucketName` of a Bucket."""
    kind = recorded.type.rsplit("::", 1)[-1]
    for source in (recorded.observed, recorded.properties):
        for key in ("Name", f"{kind}Name"):
            if isinstance(value := source.get(key), str) and value:
                return value
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a new version says. `timestamp` is passed in, aware; `run_id` names the run that applied."""

    resources: Sequence[StateResource]
    actor: str
    description: str
    timestamp: datetime
    run_id: str | None = None
    plan_id: str | None = None
    plan_digest: str | None = None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a recovery passed over, as it was found."""

    version: int
    problem: str
    sha256: str | None  # None where the object was missing


@dataclass(frozen=True, slots=True, kw_only=True)
class StateVersion:
    """What a version says about itself, without its resources."""

    project: str
    version: int
    sha256: str | None  # of the whole object; None only in a history whose successor is damaged
    previous_sha256: str | None  # None for version 1
    actor: str
    description: str
    timestamp: datetime
    nonce: str
    run_id: str | None
    plan_id: str | None
    plan_digest: str | None
    resource_count: int
    size_bytes: int
    address: str
    recovered_from: int | None = None
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """A version and its resources, by logical id."""

    about: StateVersion
    resources: tuple[StateResource, ...]

    def recorded(self) -> dict[str, Recorded]:
        """The resources that stand for their logical id; superseded ones are left out."""
        return {each.logical_id: each.recorded() for each in self.resources if not each.superseded}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One version in a listing; `about` is None where `problem` says why it cannot be read."""

    version: int
    address: str
    size_bytes: int
    about: StateVersion | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFault:
    """Something wrong with one version. `recovered`: a later version says that it passed this one over."""

    version: int
    address: str
    code: str  # missing | corrupted | chain_broken
    problem: str
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What walking the chain from version 1 to `head` found."""

    head: int
    head_sha256: str | None
    faults: tuple[StateFault, ...]

    @property
    def intact(self) -> bool:
        """Whether every version is as written, those that a recovery recorded aside."""
        return all(fault.recovered for fault in self.faults)
