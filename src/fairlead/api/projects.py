"""Projects, their members and their audit record."""

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairlead.api.parts import Parts
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import metadata
from fairlead.kernel.errors import Conflict, InvalidInput
from fairlead.kernel.http import CurrentActor, IfMatch, Page, PageParams, PlainText, etag, page_of
from fairlead.kernel.projects import accounts, store
from fairlead.kernel.projects.access import authorise, permissions_of, require_scope
from fairlead.kernel.projects.model import (
    PROJECT_ID_LENGTH,
    PROJECT_ID_PATTERN,
    Actor,
    Member,
    Permission,
    Project,
    ProjectSettings,
    Role,
)
from fairlead.kernel.runs import store as run_store

router = APIRouter(tags=["projects"])

ProjectId = Annotated[
    str, Field(min_length=2, max_length=PROJECT_ID_LENGTH, pattern=PROJECT_ID_PATTERN, examples=["shop"])
]
Name = Annotated[PlainText, Field(min_length=1, max_length=200, examples=["Web shop"])]
Description = Annotated[PlainText, Field(max_length=4000)]


class StatePrefixFixed(Conflict):
    """The project has runs: its state stays where it is."""

    code = "projects.state_prefix_fixed"


class ProjectIn(BaseModel):
    """A new project; its creator becomes its first owner."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"id": "shop", "name": "Web shop", "settings": {"region": "eu-central-1"}}]
        },
    )

    id: ProjectId
    name: Name
    description: Description = ""
    settings: ProjectSettings = ProjectSettings()


class ProjectChangesIn(BaseModel):
    """What to change; what is left out stays, also among the settings."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Description | None = None
    settings: dict[str, Any] | None = Field(
        default=None, description="The settings to change, as in `settings`"
    )
    archived: bool | None = Field(default=None, description="true: only to be read; false: in use again")


class ProjectOut(BaseModel):
    """One project, and what the caller may do in it."""

    id: str
    uid: str
    name: str
    description: str
    owner: str
    settings: ProjectSettings
    version: int
    archived_at: datetime | None
    created_at: datetime
    updated_at: datetime
    role: Role | None = Field(description="The caller's; null: an administrator who is not a member")
    permissions: list[Permission] = Field(description="All that the caller may do here with this credential")

    @classmethod
    def of(cls, project: Project, role: Role | None, actor: Actor) -> "ProjectOut":
        """The form in which `actor` sees it."""
        plain = {name: getattr(project, name) for name in cls.model_fields if hasattr(project, name)}
        allowed = permissions_of(actor, project.uid, role)
        if Permission.PROJECT_UPDATE not in allowed:
            shown = {"notifications": project.settings.notifications.masked()}
            plain["settings"] = project.settings.model_copy(update=shown)
        return cls(**plain, role=role, permissions=sorted(allowed))


class MemberIn(BaseModel):
    """A member's role."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class MemberOut(BaseModel):
    """One member."""

    username: str
    display_name: str
    role: Role
    added_at: datetime

    @classmethod
    def of(cls, member: Member) -> "MemberOut":
        """The form in which clients see it."""
        return cls(**{name: getattr(member, name) for name in cls.model_fields})


class AuditOut(BaseModel):
    """One entry of the audit record."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    data: dict[str, Any]
    sha256: str

    @classmethod
    def of(cls, entry: audit.Entry) -> "AuditOut":
        """The form in which clients see it."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


@router.post("/projects", status_code=201)
def create_project(body: ProjectIn, actor: CurrentActor, api: Parts, response: Response) -> ProjectOut:
    """Create a project. Any user may; a token needs the scope `full` and no project of its own."""
    require_scope(actor, Permission.PROJECT_CREATE)
    api.check_settings(body.settings)
    with api.database.transaction() as conn:
        project = store.create(
            conn,
            project_id=body.id,
            name=body.name,
            description=body.description,
            settings=body.settings,
            owner=actor,
        )
        _record(conn, actor, "project.created", project)
    response.headers["ETag"] = etag(project.version)
    response.headers["Location"] = f"/projects/{project.id}"
    return ProjectOut.of(project, Role.OWNER, actor)


def _record(conn: sa.Connection, actor: Actor, action: str, project: Project, **data: Any) -> None:
    audit.append(
        conn,
        actor=actor.username,
        action=action,
        subject=f"project:{project.id}",
        project_id=project.id,
        data=data,
    )


@router.get("/projects")
def list_projects(
    actor: CurrentActor, api: Parts, page: PageParams, archived: bool = False
) -> Page[ProjectOut]:
    """The caller's projects, by id; all for administrators. Archived ones with `archived=true`."""
    with api.database.reading() as conn:
        rows = store.list_visible(conn, actor, archived=archived, after=page.after, limit=page.fetch)
    return page_of(
        rows, page, position=lambda row: row[0].id, shape=lambda row: ProjectOut.of(row[0], row[1], actor)
    )


@router.get("/projects/{project}")
def get_project(project: str, actor: CurrentActor, api: Parts, response: Response) -> ProjectOut:
    """One project. The ETag goes into If-Match of a change."""
    with api.database.reading() as conn:
        access = authorise(conn, actor, project, Permission.PROJECT_READ)
    response.headers["ETag"] = etag(access.project.version)
    return ProjectOut.of(access.project, access.role, actor)


@router.patch("/projects/{project}")
def update_project(
    project: str,
    body: ProjectChangesIn,
    actor: CurrentActor,
    api: Parts,
    version: IfMatch,
    response: Response,
) -> ProjectOut:
    """Change a project; with If-Match only if nobody changed it since (else 412). Owners only."""
    with api.database.reading() as conn:
        before = authorise(conn, actor, project, Permission.PROJECT_UPDATE).project
    changes = _changes(before, body)
    if "settings" in changes:
        api.check_settings(changes["settings"])
    with api.database.transaction() as conn:
        access = authorise(conn, actor, project, Permission.PROJECT_UPDATE)
        # The new settings rest on those just read: whatever came in between makes them stale.
        expected = before.version if version is None and "settings" in changes else version
        if "settings" in changes and changes["settings"].state_prefix != before.settings.state_prefix:
            _refuse_with_runs(conn, before)
        changed = store.update(conn, access.project, changes, expected_version=expected)
        _record(conn, actor, _action(body), changed, changed=sorted(body.model_fields_set))
    response.headers["ETag"] = etag(changed.version)
    return ProjectOut.of(changed, access.role, actor)


def _changes(before: Project, body: ProjectChangesIn) -> dict[str, Any]:
    changes = body.model_dump(exclude_unset=True)
    if nulls := sorted(name for name, value in changes.items() if value is None):
        raise InvalidInput(f"{nulls[0]}: cannot be null.", remedy="Leave it out to keep it.")
    if "settings" in changes:
        changes["settings"] = _merged(before.settings, changes["settings"])
    if "archived" in changes:
        changes["archived_at"] = (before.archived_at or utc_now()) if changes.pop("archived") else None
    return changes


def _merged(settings: ProjectSettings, changes: dict[str, Any]) -> ProjectSettings:
    try:
        return ProjectSettings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        faults = [
            {"in": "body", "field": ".".join(["settings", *map(str, item["loc"])]), "message": item["msg"]}
            for item in error.errors(include_input=False, include_url=False)
        ]
        first = faults[0]
        raise InvalidInput(
            f"{first['field']}: {first['message']}",
            remedy="Correct the fields named in details.faults.",
            faults=faults,
        ) from None


def _action(body: ProjectChangesIn) -> str:
    if body.archived is None:
        return "project.updated"
    return "project.archived" if body.archived else "project.restored"


def _refuse_with_runs(conn: sa.Connection, project: Project) -> None:
    if _has_runs(conn, project):
        raise StatePrefixFixed(
            "settings.state_prefix: cannot change after the project's first run.",
            remedy="Make a new project for another place.",
        )


def _is_in_use(conn: sa.Connection, project: Project) -> bool:
    """Whether any part keeps something under the project's id, which somebody else could then take anew."""
    tables = [
        table for table in metadata.tables.values() if "project_id" in table.c and table is not audit.table
    ]
    held = (sa.select(sa.literal(1)).where(table.c.project_id == project.id) for table in tables)
    return any(conn.execute(query.limit(1)).first() for query in held)


def _has_runs(conn: sa.Connection, project: Project) -> bool:
    return bool(run_store.page(conn, project_id=project.id, status=None, kind=None, before=None, limit=1))


@router.delete("/projects/{project}", responses={204: {"description": "Deleted: there was nothing in it"}})
def delete_project(project: str, actor: CurrentActor, api: Parts, version: IfMatch) -> Response:
    """Delete a project. One that had runs, or holds anything, is archived instead (200). Owners only."""
    with api.database.transaction() as conn:
        access = authorise(conn, actor, project, Permission.PROJECT_DELETE)
        if _is_in_use(conn, access.project):
            changes = {"archived_at": access.project.archived_at or utc_now()}
            archived = store.update(conn, access.project, changes, expected_version=version)
            _record(conn, actor, "project.archived", archived)
            body = ProjectOut.of(archived, access.role, actor).model_dump_json()
            return Response(body, media_type="application/json", headers={"ETag": etag(archived.version)})
        store.update(conn, access.project, {}, expected_version=version)
        store.delete(conn, access.project)
        _record(conn, actor, "project.deleted", access.project)
    return Response(status_code=204)


# --- members -------------------------------------------------------------------------------------


@router.get("/projects/{project}/members", tags=["members"])
def list_members(project: str, actor: CurrentActor, api: Parts, page: PageParams) -> Page[MemberOut]:
    """Members, by username."""
    with api.database.reading() as conn:
        access = authorise(conn, actor, project, Permission.PROJECT_READ)
        rows = store.list_members(conn, access.project.uid, after=page.after, limit=page.fetch)
    return page_of(rows, page, position=lambda member: member.username, shape=MemberOut.of)


@router.put("/projects/{project}/members/{username}", tags=["members"])
def set_member(project: str, username: str, body: MemberIn, actor: CurrentActor, api: Parts) -> MemberOut:
    """Make a user a member or change the role. Owners only. The last owner stays owner."""
    with api.database.transaction() as conn:
        access = authorise(conn, actor, project, Permission.MEMBERS_MANAGE)
        user = accounts.find_user(conn, username)
        member = store.set_member(conn, access.project, user, body.role)
        _record(conn, actor, "member.set", access.project, username=username, role=body.role.value)
    return MemberOut.of(member)


@router.delete("/projects/{project}/members/{username}", tags=["members"], status_code=204)
def remove_member(project: str, username: str, actor: CurrentActor, api: Parts) -> None:
    """End a membership. Owners, and everyone their own. The last owner cannot leave."""
    with api.database.transaction() as conn:
        leaving = username == actor.username and Permission.MEMBERS_MANAGE in actor.scopes
        needed = Permission.PROJECT_READ if leaving else Permission.MEMBERS_MANAGE
        access = authorise(conn, actor, project, needed)
        member = store.remove_member(conn, access.project, username)
        _record(conn, actor, "member.removed", access.project, username=username, role=member.role.value)


# --- audit ---------------------------------------------------------------------------------------


@router.get("/projects/{project}/audit", tags=["audit"])
def list_audit(project: str, actor: CurrentActor, api: Parts, page: PageParams) -> Page[AuditOut]:
    """What was done in the project, newest first."""
    before = int(page.after) if page.after.isdigit() and len(page.after) < 19 else None
    with api.database.reading() as conn:
        access = authorise(conn, actor, project, Permission.AUDIT_READ)
        rows = audit.entries(conn, project_id=access.project.id, before=before, limit=page.fetch)
    # A project without runs may have been deleted and its id taken anew: what was before is not ours.
    born = access.project.created_at.replace(microsecond=access.project.created_at.microsecond // 1000 * 1000)
    ours = [entry for entry in rows if entry.at >= born]
    return page_of(ours, page, position=lambda entry: str(entry.seq), shape=AuditOut.of)
