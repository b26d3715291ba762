"""Projects and members as rows in SQL; every function works on the caller's connection."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.errors import Conflict, FairleadError, NotFound
from fairlead.kernel.projects.accounts import insert_into, storable, users
from fairlead.kernel.projects.model import Actor, Member, Project, ProjectSettings, Role, User

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("owner_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("archived_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

members = sa.Table(
    "members",
    metadata,
    sa.Column("project_uid", sa.ForeignKey("projects.uid", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True, index=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("added_at", UtcDateTime, nullable=False),
)


class ProjectNotFound(NotFound):
    """There is no such project, or you are not a member of it."""

    code = "projects.not_found"


class ProjectExists(Conflict):
    """The project id is taken."""

    code = "projects.exists"


class ProjectStale(FairleadError):
    """The project has changed since you read it."""

    code, status, retryable = "projects.stale", 412, False


class LastOwner(Conflict):
    """This is the last owner of the project."""

    code = "projects.last_owner"


class MemberNotFound(NotFound):
    """The user is not a member of this project."""

    code = "members.not_found"


def _query(*more: Any) -> sa.Select[Any]:
    joined = projects.join(users, users.c.id == projects.c.owner_id)
    return sa.select(projects, users.c.username.label("owner"), *more).select_from(joined)


def _with_role(user_id: str) -> sa.Select[Any]:
    mine = sa.select(members.c.role).where(
        members.c.project_uid == projects.c.uid, members.c.user_id == user_id
    )
    return _query(mine.scalar_subquery().label("role"))


def _project(row: Any) -> Project:
    return Project(
        id=row.id,
        uid=row.uid,
        name=row.name,
        description=row.description,
        owner=row.owner,
        settings=ProjectSettings.model_validate(row.settings),
        version=row.version,
        archived_at=row.archived_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _role(row: Any) -> Role | None:
    return Role(row.role) if row.role else None


def create(
    conn: sa.Connection,
    *,
    project_id: str,
    name: str,
    description: str,
    settings: ProjectSettings,
    owner: Actor,
) -> Project:
    """Add a project with `owner` as its first member. Raises ProjectExists, also for an archived one."""
    now = utc_now()
    project = Project(
        id=project_id,
        uid=uuid.uuid4().hex,
        name=name,
        description=description,
        owner=owner.username,
        settings=settings,
        version=1,
        archived_at=None,
        created_at=now,
        updated_at=now,
    )
    columns = {name: getattr(project, name) for name in Project.__slots__ if name != "owner"}
    columns |= {"owner_id": owner.user_id, "settings": settings.model_dump(mode="json")}
    added = insert_into(conn, projects).values(columns).on_conflict_do_nothing()
    if conn.execute(added.returning(projects.c.uid)).first() is None:
        raise ProjectExists(f"The project id {project_id!r} is taken.", remedy="Choose another one.")
    conn.execute(
        sa.insert(members).values(
            project_uid=project.uid, user_id=owner.user_id, role=Role.OWNER.value, added_at=now
        )
    )
    return project


def find(conn: sa.Connection, project_id: str) -> Project:
    """The project. Raises ProjectNotFound. Asks for no permission: see `access`."""
    if row := conn.execute(_query().where(projects.c.id == project_id)).first():
        return _project(row)
    raise ProjectNotFound


def find_with_role(conn: sa.Connection, user_id: str, project_id: str) -> tuple[Project, Role | None] | None:
    """The project with this id and the user's role in it; None if there is none."""
    row = conn.execute(_with_role(user_id).where(projects.c.id == project_id)).first()
    return (_project(row), _role(row)) if row else None


def list_visible(
    conn: sa.Connection, actor: Actor, *, archived: bool = False, after: str = "", limit: int = 50
) -> list[tuple[Project, Role | None]]:
    """Projects that `actor` may see, with the role in each, in the order of ids, those behind `after`."""
    listed = _with_role(actor.user_id).where(projects.c.id > after)
    if not archived:
        listed = listed.where(projects.c.archived_at.is_(None))
    if not actor.is_admin:
        mine = sa.select(members.c.project_uid).where(members.c.user_id == actor.user_id)
        listed = listed.where(projects.c.uid.in_(mine))
    if actor.project_uid is not None:
        listed = listed.where(projects.c.uid == actor.project_uid)
    rows = conn.execute(listed.order_by(projects.c.id).limit(limit))
    return [(_project(row), _role(row)) for row in rows]


def update(
    conn: sa.Connection, project: Project, changes: Mapping[str, Any], *, expected_version: int | None = None
) -> Project:
    """Change name, description, settings (ProjectSettings) or archived_at.

    `project` is the caller's reading of it in this transaction. Raises ProjectStale when its
    version is not `expected_version`, or somebody else was faster.
    """
    if expected_version is not None and expected_version != project.version:
        raise _stale(project.id, project.version)
    values = dict(changes)
    if "settings" in values:
        values["settings"] = values["settings"].model_dump(mode="json")
    changed = conn.execute(
        sa.update(projects)
        .where(projects.c.uid == project.uid, projects.c.version == project.version)
        .values({**values, "version": project.version + 1, "updated_at": utc_now()})
    )
    if changed.rowcount != 1:
        raise _stale(project.id, None)
    return find(conn, project.id)


def _stale(project_id: str, version: int | None) -> ProjectStale:
    return ProjectStale(
        f"The project {project_id!r} has changed since you read it.",
        remedy="Read it again and repeat your change on what you find.",
        **({"version": version} if version is not None else {}),
    )


def delete(conn: sa.Connection, project: Project) -> None:
    """Remove a project for good, with its members and the API tokens that open only it."""
    conn.execute(sa.delete(projects).where(projects.c.uid == project.uid))


# --- members -------------------------------------------------------------------------------------


def _members_query(uid: str) -> sa.Select[Any]:
    joined = members.join(users, users.c.id == members.c.user_id)
    return (
        sa.select(users.c.username, users.c.display_name, members.c.role, members.c.added_at)
        .select_from(joined)
        .where(members.c.project_uid == uid)
    )


def _member(row: Any) -> Member:
    return Member(
        username=row.username, display_name=row.display_name, role=Role(row.role), added_at=row.added_at
    )


def list_members(conn: sa.Connection, uid: str, *, after: str = "", limit: int = 50) -> list[Member]:
    """Members in the order of their usernames, those behind `after`."""
    behind = _members_query(uid).where(users.c.username > after)
    return [_member(row) for row in conn.execute(behind.order_by(users.c.username).limit(limit))]


def find_member(conn: sa.Connection, uid: str, username: str) -> Member | None:
    """One member; None if the user is not one."""
    row = conn.execute(_members_query(uid).where(users.c.username == username)).first()
    return _member(row) if row else None


def set_member(conn: sa.Connection, project: Project, user: User, role: Role) -> Member:
    """Make `user` a member, or change the role. Raises LastOwner rather than leave no owner."""
    _lock(conn, project)
    now = utc_now()
    put = insert_into(conn, members).values(
        project_uid=project.uid, user_id=user.id, role=role.value, added_at=now
    )
    conn.execute(
        put.on_conflict_do_update(index_elements=["project_uid", "user_id"], set_={"role": role.value})
    )
    _settle_owner(conn, project)
    member = find_member(conn, project.uid, user.username)
    return member or Member(username=user.username, display_name=user.display_name, role=role, added_at=now)


def remove_member(conn: sa.Connection, project: Project, username: str) -> Member:
    """End a membership; answers what it was. Raises MemberNotFound, LastOwner."""
    _lock(conn, project)
    member = find_member(conn, project.uid, username) if storable(username) else None
    if member is None:
        raise MemberNotFound(f"{username!r} is not a member of {project.id!r}.")
    theirs = sa.select(users.c.id).where(users.c.username == username).scalar_subquery()
    conn.execute(sa.delete(members).where(members.c.project_uid == project.uid, members.c.user_id == theirs))
    _settle_owner(conn, project)
    return member


def _lock(conn: sa.Connection, project: Project) -> None:
    # Two owners who leave at once must see each other; SQLite's transaction is such a lock already.
    locked = sa.select(projects.c.uid).where(projects.c.uid == project.uid).with_for_update()
    if conn.execute(locked).first() is None:
        raise ProjectNotFound


def _settle_owner(conn: sa.Connection, project: Project) -> None:
    """The named owner stays one of the owners: the longest-standing takes over from one who left."""
    owners = (
        sa.select(members.c.user_id)
        .where(members.c.project_uid == project.uid, members.c.role == Role.OWNER.value)
        .order_by(members.c.added_at, members.c.user_id)
    )
    ids = list(conn.execute(owners).scalars())
    if not ids:
        raise LastOwner(
            f"{project.id!r} would have no owner left.", remedy="Make another member an owner first."
        )
    named = conn.execute(sa.select(projects.c.owner_id).where(projects.c.uid == project.uid)).scalar()
    if named not in ids:
        update(conn, replace(project, version=_version(conn, project)), {"owner_id": ids[0]})


def _version(conn: sa.Connection, project: Project) -> int:
    return int(conn.execute(sa.select(projects.c.version).where(projects.c.uid == project.uid)).scalar_one())
