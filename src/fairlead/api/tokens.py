"""API tokens: for programs, made and revoked by the person they act for."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fairlead.api.parts import Parts
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.http import CurrentActor, Page, PageParams, PlainText, page_of
from fairlead.kernel.projects import api_tokens
from fairlead.kernel.projects.access import authorise, require_credentials
from fairlead.kernel.projects.api_tokens import TokenNotFound
from fairlead.kernel.projects.model import ApiToken, Permission, Role, Scope

router = APIRouter(tags=["tokens"])


class TokenIn(BaseModel):
    """A new API token."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "planner", "scope": "propose", "project": "shop"}]},
    )

    name: Annotated[PlainText, Field(min_length=1, max_length=100)]
    scope: Scope = Field(default=Scope.FULL, description="`propose` can plan, never approve or apply")
    role_ceiling: Role | None = Field(default=None, description="Never more than this role may do")
    project: str | None = Field(default=None, max_length=100, description="Opens only this project")
    expires_at: AwareDatetime | None = Field(default=None, description="null: when it is revoked")
    expires_in_days: int | None = Field(default=None, ge=1, le=3650, description="Instead of expires_at")

    def until(self, now: datetime) -> datetime | None:
        """When it expires. Raises InvalidInput for the past and for both fields at once."""
        if self.expires_at is not None and self.expires_in_days is not None:
            raise InvalidInput("expires_in_days: not together with expires_at.", remedy="Leave one out.")
        if self.expires_at is not None and self.expires_at <= now:
            raise InvalidInput("expires_at: lies in the past.", remedy="Choose a later moment.")
        return now + timedelta(days=self.expires_in_days) if self.expires_in_days else self.expires_at


class TokenOut(BaseModel):
    """What may be shown of an API token."""

    id: str
    name: str
    prefix: str
    scope: Scope
    role_ceiling: Role | None
    project: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, token: ApiToken) -> "TokenOut":
        """The form in which clients see it."""
        return cls(**{name: getattr(token, name) for name in cls.model_fields})


class CreatedTokenOut(TokenOut):
    """The new token, shown this once."""

    token: str


@router.post("/tokens", status_code=201)
def create_token(body: TokenIn, actor: CurrentActor, api: Parts) -> CreatedTokenOut:
    """Make an API token for oneself. Needs a session: a token cannot make tokens."""
    require_credentials(actor)
    expires_at = body.until(utc_now())
    with api.database.transaction() as conn:
        project_uid = None
        if body.project is not None:
            project_uid = authorise(conn, actor, body.project, Permission.PROJECT_READ).project.uid
        token, secret = api_tokens.create(
            conn,
            user_id=actor.user_id,
            name=body.name,
            scope=body.scope,
            role_ceiling=body.role_ceiling,
            project_uid=project_uid,
            expires_at=expires_at,
        )
        data = {"name": token.name, "scope": token.scope.value}
        audit.append(
            conn,
            actor=actor.username,
            action="token.created",
            subject=f"token:{token.id}",
            project_id=body.project,
            data=data,
        )
    return CreatedTokenOut(**TokenOut.of(token).model_dump(), token=secret)


@router.get("/tokens")
def list_tokens(actor: CurrentActor, api: Parts, page: PageParams) -> Page[TokenOut]:
    """One's own API tokens, revoked ones included. Needs a session."""
    require_credentials(actor)
    with api.database.reading() as conn:
        rows = api_tokens.list_of(conn, actor.user_id, after=page.after, limit=page.fetch)
    return page_of(rows, page, position=lambda token: token.id, shape=TokenOut.of)


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, actor: CurrentActor, api: Parts) -> TokenOut:
    """Revoke one of one's own tokens, for good. A token may revoke itself, and no other."""
    if token_id != actor.token_id:
        require_credentials(actor)
    if not token_id.isalnum():
        raise TokenNotFound
    with api.database.transaction() as conn:
        token = api_tokens.revoke(conn, actor.user_id, token_id)
        audit.append(conn, actor=actor.username, action="token.revoked", subject=f"token:{token.id}")
    return TokenOut.of(token)
