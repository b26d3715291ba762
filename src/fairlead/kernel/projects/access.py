"""Who is calling, and may this caller do that here? The only place where permission is decided."""

import re

import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Conflict, Forbidden
from fairlead.kernel.projects import api_tokens, sessions, store
from fairlead.kernel.projects.model import (
    ADMIN_PERMISSIONS,
    PROJECT_ID_LENGTH,
    PROJECT_ID_PATTERN,
    ROLE_PERMISSIONS,
    Access,
    Actor,
    Permission,
    Project,
    Role,
)
from fairlead.kernel.projects.store import ProjectNotFound
from fairlead.kernel.projects.tokens import API_TOKEN_PREFIX, SigningKey, read_access_token

# What an archived project refuses: it can be read, stopped, restored and deleted.
_NEEDS_LIVE_PROJECT = frozenset({Permission.PLAN_CREATE, Permission.PLAN_APPROVE, Permission.APPLY})
_ID = re.compile(PROJECT_ID_PATTERN.removesuffix("$"))


class PermissionMissing(Forbidden):
    """Your role in this project does not allow this."""

    code = "auth.permission_missing"


class ScopeMissing(Forbidden):
    """This credential does not allow this, whatever your role."""

    code = "auth.scope_missing"


class NotAdmin(Forbidden):
    """Only administrators may do this."""

    code = "auth.not_admin"


class ProjectArchived(Conflict):
    """The project is archived."""

    code = "projects.archived"


def authenticate(database: Database, key: SigningKey, credential: str) -> Actor:
    """Who `credential` (an access token or an API token) belongs to, as of now.

    Raises Unauthenticated, TokenExpired, SessionEnded, UserDisabled.
    """
    if credential.startswith(API_TOKEN_PREFIX):
        return api_tokens.authenticate(database, credential)
    claims = read_access_token(key, credential, now=utc_now())
    with database.reading() as conn:
        return sessions.actor_of(conn, claims.session_id, claims.user_id)


def again(conn: sa.Connection, actor: Actor) -> Actor:
    """`actor` as of now, for whoever holds a stream open. Raises what `authenticate` raises."""
    if actor.token_id is not None:
        return api_tokens.actor_of(conn, api_tokens.api_tokens.c.id == actor.token_id)[0]
    return sessions.actor_of(conn, actor.session_id or "", actor.user_id)


def permissions_of(actor: Actor, project_uid: str, role: Role | None) -> frozenset[Permission]:
    """All that `actor` with `role` (None: no member) may do in the project."""
    if actor.project_uid not in (None, project_uid):
        return frozenset()
    granted = ROLE_PERMISSIONS[role] if role else frozenset()
    if actor.is_admin:
        granted |= ADMIN_PERMISSIONS
    return granted & actor.scopes


def authorise(conn: sa.Connection, actor: Actor, project_id: str, permission: Permission) -> Access:
    """Proof that `actor` may do `permission` in the project.

    Raises ProjectNotFound (also to those who may not know that it exists), PermissionMissing,
    ScopeMissing, ProjectArchived. Call it in the transaction that does the work.
    """
    # What is no id must not reach a database that refuses NUL and lone surrogates.
    if len(project_id) > PROJECT_ID_LENGTH or not _ID.fullmatch(project_id):
        raise _unknown(project_id)
    return _decide(actor, store.find_with_role(conn, actor.user_id, project_id), permission, project_id)


def _decide(
    actor: Actor, found: tuple[Project, Role | None] | None, permission: Permission, asked: str
) -> Access:
    if found is None:
        raise _unknown(asked)
    project, role = found
    allowed = permissions_of(actor, project.uid, role)
    if Permission.PROJECT_READ not in allowed:
        raise _unknown(asked)
    if permission not in allowed:
        raise _missing(actor, permission, role)
    if project.archived_at is not None and permission in _NEEDS_LIVE_PROJECT:
        raise ProjectArchived(f"The project {project.id!r} is archived.", remedy="Restore it first.")
    return Access(project=project, actor=actor, role=role, permissions=allowed)


def _unknown(asked: str) -> ProjectNotFound:
    named = f"There is no project {asked!r}, or you are not a member of it."
    return ProjectNotFound(named, remedy="See `GET /projects` for yours.")


def _missing(actor: Actor, permission: Permission, role: Role | None) -> Forbidden:
    if permission not in actor.scopes:
        return ScopeMissing(
            f"This credential does not allow {permission.value}.",
            remedy="Use a session or a token with a wider scope.",
            permission=permission.value,
        )
    needed = next(one for one in Role if permission in ROLE_PERMISSIONS[one])
    return PermissionMissing(
        f"{permission.value} needs the role {needed.value}; you are {role.value if role else 'no member'}.",
        remedy="Ask an owner of the project.",
        permission=permission.value,
        needs=needed.value,
    )


def require_scope(actor: Actor, permission: Permission) -> None:
    """Raises ScopeMissing unless the credential allows `permission`, which is about no project."""
    if permission not in actor.scopes:
        raise _missing(actor, permission, None)


def require_admin(actor: Actor) -> None:
    """Raises Forbidden unless `actor` may manage users."""
    require_scope(actor, Permission.USERS_MANAGE)
    if not actor.is_admin:
        raise NotAdmin(remedy="Ask an administrator.")


def require_credentials(actor: Actor) -> None:
    """Raises ScopeMissing unless a person is here by a session: a token must not make or outlive others."""
    require_scope(actor, Permission.CREDENTIALS_MANAGE)
