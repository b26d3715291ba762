"""Who may do what: roles, permissions, the caller, projects and their settings. Plain data."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PROJECT_ID_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
PROJECT_ID_LENGTH = 40
USERNAME_PATTERN = r"^[a-z0-9]+([._-][a-z0-9]+)*$"
USERNAME_LENGTH = 64
_MAX_JSON_BYTES = 20_000
# "users/me" is the caller; the others would read as a part of the product that acted.
RESERVED_USERNAMES = frozenset({"me", "system", "fairlead", "worker", "scheduler"})


class Role(StrEnum):
    """What a member is in one project; each may do all that the one before may."""

    VIEWER = "viewer"
    AUTHOR = "author"
    APPROVER = "approver"
    OWNER = "owner"


class Permission(StrEnum):
    """One thing that can be allowed. The last three are not about a project."""

    PROJECT_READ = "project.read"
    PLAN_READ = "plan.read"
    STATE_READ = "state.read"
    RUN_READ = "run.read"
    AUDIT_READ = "audit.read"
    PLAN_CREATE = "plan.create"
    RUN_CANCEL = "run.cancel"
    APPLY = "apply"
    PLAN_APPROVE = "plan.approve"
    PROJECT_UPDATE = "project.update"
    PROJECT_DELETE = "project.delete"
    MEMBERS_MANAGE = "members.manage"
    PROJECT_CREATE = "project.create"
    USERS_MANAGE = "users.manage"
    CREDENTIALS_MANAGE = "credentials.manage"


_P = Permission
_READ = frozenset({_P.PROJECT_READ, _P.PLAN_READ, _P.STATE_READ, _P.RUN_READ, _P.AUDIT_READ})
# Whoever may propose may also carry out what somebody else approved, and stop it.
_AUTHOR = _READ | {_P.PLAN_CREATE, _P.RUN_CANCEL, _P.APPLY}
_APPROVER = _AUTHOR | {_P.PLAN_APPROVE}
_OWNER = _APPROVER | {_P.PROJECT_UPDATE, _P.PROJECT_DELETE, _P.MEMBERS_MANAGE}

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {Role.VIEWER: _READ, Role.AUTHOR: _AUTHOR, Role.APPROVER: _APPROVER, Role.OWNER: _OWNER}
)
# An administrator looks after every project, but proposing, approving and applying are for members.
ADMIN_PERMISSIONS = _READ | {_P.RUN_CANCEL, _P.PROJECT_UPDATE, _P.PROJECT_DELETE, _P.MEMBERS_MANAGE}
ALL_PERMISSIONS = frozenset(Permission)


class Scope(StrEnum):
    """What an API token may at most do, whatever its user may."""

    FULL = "full"  # all but managing credentials: a token cannot make another token
    PROPOSE = "propose"  # read and plan; never approve, apply, cancel or manage: for agents
    READ = "read"


SCOPE_PERMISSIONS: Mapping[Scope, frozenset[Permission]] = MappingProxyType(
    {
        Scope.FULL: ALL_PERMISSIONS - {_P.CREDENTIALS_MANAGE},
        Scope.PROPOSE: _READ | {_P.PLAN_CREATE},
        Scope.READ: _READ,
    }
)


def token_permissions(
    scope: Scope, role_ceiling: Role | None, project_uid: str | None
) -> frozenset[Permission]:
    """The most that a token with these limits can ever do."""
    allowed = SCOPE_PERMISSIONS[scope]
    if role_ceiling is not None:
        allowed &= ROLE_PERMISSIONS[role_ceiling]
    if project_uid is not None:
        allowed -= {_P.PROJECT_CREATE, _P.USERS_MANAGE}
    return allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who is calling, established from a session or an API token."""

    user_id: str
    username: str
    is_admin: bool
    scopes: frozenset[Permission] = ALL_PERMISSIONS  # the most that this credential allows anywhere
    token_id: str | None = None  # set when an API token is used
    session_id: str | None = None  # set when a session is used
    project_uid: str | None = None  # the only project that this credential opens


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person or robot that can log in. The password's hash stays in the store."""

    id: str
    username: str
    display_name: str
    email: str | None
    is_admin: bool
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One user's role in one project."""

    username: str
    display_name: str
    role: Role
    added_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """What may be shown of an API token; the token itself is shown once, when it is made."""

    id: str
    name: str
    prefix: str  # first characters, to recognise it by
    scope: Scope
    role_ceiling: Role | None
    project: str | None  # id of the only project that it opens
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("must hold JSON values only") from None
    if size > _MAX_JSON_BYTES:
        raise ValueError(f"must be at most {_MAX_JSON_BYTES} bytes as JSON")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]


def _state_prefix(value: str | None) -> str | None:
    # State lies at <prefix>/projects/<id>/state: without that segment no prefix leads into another's.
    if value is not None and "projects" in value.split("/"):
        raise ValueError("must not have a segment 'projects'")
    return value


class Notifications(BaseModel):
    """Who is to be told what about a project's runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook_url: str | None = Field(
        default=None,
        max_length=2000,
        pattern=r"^https?://[^\s@]+$",
        description="Where events are posted; only who may change the project sees its path",
    )
    events: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]{0,63}$")], ...] = Field(
        default=(), max_length=50, description="Names of the events; empty means all"
    )

    def masked(self) -> "Notifications":
        """Without the webhook's path and query: whoever knows them can post there too."""
        if self.webhook_url is None:
            return self
        scheme, _, rest = self.webhook_url.partition("://")
        return self.model_copy(update={"webhook_url": f"{scheme}://{re.split('[/?#]', rest)[0]}/****"})


class ProjectSettings(BaseModel):
    """What a project's changes go by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$",
        description="AWS region of new resources; null: the server's own",
        examples=["eu-central-1"],
    )
    account_id: str | None = Field(
        default=None,
        pattern=r"^[0-9]{12}$",
        description="AWS account that changes must land in; null: not checked",
    )
    environment: str | None = Field(
        default=None,
        max_length=40,
        pattern=r"^[a-z][a-z0-9-]*$",
        description="What stands in this project; `production` counts as riskier",
        examples=["production", "staging"],
    )
    state_prefix: Annotated[str | None, AfterValidator(_state_prefix)] = Field(
        default=None,
        max_length=200,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.=+@-]*(/[A-Za-z0-9_][A-Za-z0-9_.=+@-]*)*$",
        description="Path in the object store above this project's own folder; fixed by its first run",
        examples=["teams/shop"],
    )
    approval_deadline_s: float | None = Field(
        default=None,
        gt=0,
        le=365 * 86_400,
        description="Seconds until an unanswered plan is cancelled; null: the server's own",
    )
    auto_approval_rules: tuple[JsonObject, ...] = Field(
        default=(), max_length=50, description="Rules that approve a plan without a person"
    )
    notifications: Notifications = Notifications()


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project. Runs, audit entries and state name it by `id`."""

    id: str  # chosen by its creator, never changed: "shop"
    uid: str  # never used again, even where a project without runs is deleted and its id taken anew
    name: str
    description: str
    owner: str  # username: the member who answers for it, always one with the role owner
    settings: ProjectSettings
    version: int  # grows by one with each change of name, description, settings, owner or archiving
    archived_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Proof that `actor` may do what was asked for in `project`."""

    project: Project
    actor: Actor
    role: Role | None  # None: allowed as an administrator who is not a member
    permissions: frozenset[Permission]  # all that this actor may do here
