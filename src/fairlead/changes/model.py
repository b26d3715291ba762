"""What a change is: plain frozen data that knows no SDK, no HTTP and no SQL.

Vocabulary: a *template* says what should be (desired); the *state log* says what we last
made (recorded); AWS says what is (live). A *plan* is the list of changes that turns live
into desired, in apply order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = Any
Properties = dict[str, Any]


class Action(StrEnum):
    """What happens to one resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    NO_OP = "no-op"


class Replacement(StrEnum):
    """Whether a change makes a new physical resource: CloudFormation's own three words."""

    NEVER = "never"
    CONDITIONAL = "conditional"
    ALWAYS = "always"


class RiskLevel(StrEnum):
    """How much a change can hurt."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class Via(StrEnum):
    """How a resource is made: Cloud Control, or a one-resource stack where the type has no handlers."""

    CLOUD_CONTROL = "cloudcontrol"
    CLOUDFORMATION = "cloudformation"


@dataclass(frozen=True, slots=True)
class Reference:
    """`Ref` (attribute None) or `Fn::GetAtt` of a resource in the same template."""

    logical_id: str
    attribute: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only the apply will know.

    Equal only to the same expression of the same generation: `fresh` marks a value of a
    resource that this plan creates or replaces, so it differs from what stood there before.
    """

    expression: str
    fresh: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a template: where, and what to do about it."""

    path: str  # e.g. "Resources.Web.Properties.ImageId"
    line: int | None  # 1-based, in the file as given
    code: str  # e.g. "template.unknown_property"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """One resource of a bound template: parameters, mappings and conditions are resolved.

    `properties` holds plain JSON values and, where a value depends on other resources,
    expression nodes that `template.evaluate` understands; `dynamic` tells whether any are there.
    """

    logical_id: str
    type: str  # "AWS::EC2::Instance"
    properties: Properties
    dynamic: bool
    depends_on: tuple[str, ...]  # explicit and implied, sorted, only ids in the same template
    deletion_policy: str = "Delete"  # Delete | Retain | RetainExceptOnCreate | Snapshot
    update_replace_policy: str = "Delete"
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One resource as the state log last recorded it."""

    logical_id: str
    type: str
    identifier: str  # primary identifier, parts joined by "|" as Cloud Control does
    properties: Properties  # what we asked for, fully resolved
    observed: Properties  # what AWS answered afterwards, read-only attributes included
    depends_on: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    via: Via = Via.CLOUD_CONTROL


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyChange:
    """One property that differs. Paths are dotted, list items by index: `Tags.0.Value`."""

    path: str
    before: Json  # None where absent before
    after: Json  # may hold Unknown
    replacement: Replacement  # what changing this property asks for
    drift: bool = False  # somebody changed it outside Fairlead


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """How much a change can hurt, and why: points and reasons are the same for the same input."""

    level: RiskLevel
    points: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Monthly on-demand price in US dollars; `None` is unknown and never counts as zero."""

    before_usd: float | None
    after_usd: float | None
    source: str | None = None
    as_of: str | None = None  # date of the price list, ISO
    note: str | None = None  # why it is unknown or partial: "usage-based", "region not in the table"
    unknown: tuple[str, ...] = ()  # of a plan: logical ids whose price is unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One resource's part of a plan."""

    logical_id: str
    type: str
    action: Action
    replacement: Replacement
    properties: tuple[PropertyChange, ...] = ()
    depends_on: tuple[str, ...] = ()
    identifier: str | None = None  # physical id of what stands today
    via: Via = Via.CLOUD_CONTROL
    delete_first: bool = False  # a replacement whose fixed name the old resource still holds
    retain: bool = False  # the old resource is left standing (DeletionPolicy or UpdateReplacePolicy)
    previous_type: str | None = None  # set where the logical id stood for another type before
    notes: tuple[str, ...] = ()  # e.g. retained, fallback announced, drift found
    risk: Risk | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes in apply order (deletes last, dependants first), and what they rest on."""

    changes: tuple[Change, ...]  # no-ops left out
    unchanged: int
    risk: Risk
    cost: Cost
    digest: str  # of what is approved: actions, identifiers, before and after; not of times or prices
    base_version: int  # state version that the plan was made on, 0 = none
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # logical id -> digest of live


class PlanStatus(StrEnum):
    """Where a plan stands. `planning` and `applying` have a run at work."""

    PLANNING = "planning"
    NO_CHANGES = "no_changes"
    PENDING = "pending"  # waits for approval
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"  # its deadline passed before it was approved or applied
    CANCELLED = "cancelled"
    APPLYING = "applying"
    APPLIED = "applied"
    PARTIAL = "partially_applied"
    STALE = "stale"  # the world moved after planning; plan again
    FAILED = "failed"


NEXT: Mapping[PlanStatus, frozenset[PlanStatus]] = {
    PlanStatus.PLANNING: frozenset(
        {
            PlanStatus.NO_CHANGES,
            PlanStatus.PENDING,
            PlanStatus.APPROVED,
            PlanStatus.CANCELLED,
            PlanStatus.FAILED,
        }
    ),
    PlanStatus.PENDING: frozenset(
        {PlanStatus.APPROVED, PlanStatus.REJECTED, PlanStatus.EXPIRED, PlanStatus.CANCELLED}
    ),
    PlanStatus.APPROVED: frozenset(
        {PlanStatus.APPLYING, PlanStatus.REJECTED, PlanStatus.EXPIRED, PlanStatus.CANCELLED}
    ),
    PlanStatus.APPLYING: frozenset(
        {PlanStatus.APPLIED, PlanStatus.PARTIAL, PlanStatus.STALE, PlanStatus.FAILED, PlanStatus.CANCELLED}
    ),
}
"""Every move that a plan may make; a status without an entry is final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan as Fairlead keeps it: what was asked, what was found, who decided."""

    project_id: str
    number: int  # counts up from 1 in its project
    status: PlanStatus
    author_id: str
    author: str
    description: str
    destroy: bool
    template_key: str | None  # object that holds the template text
    parameters: str  # sealed JSON: values may be secret
    created_at: datetime
    deadline_at: datetime
    run_id: str | None = None
    digest: str | None = None
    base_version: int | None = None
    risk: RiskLevel | None = None
    document: Json = None  # the plan as shown; see docs/reference/http-api.md
    decided_by: str | None = None
    decided_at: datetime | None = None
    comment: str | None = None
    apply_run_id: str | None = None
    state_version: int | None = None
    problem: Json = None  # why it failed, is stale, or was applied only in part


class NodeStatus(StrEnum):
    """Where one call of an apply stands."""

    INTENDED = "intended"  # written before the call: from now on the effect may exist
    SUBMITTED = "submitted"  # AWS has accepted it under a request token
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One call of an apply, written down before it is made and after it is answered."""

    run_id: str
    node: str  # "create:Web", "delete:Web"
    client_token: str
    status: NodeStatus
    request_token: str | None = None
    identifier: str | None = None
    error: Json = None
