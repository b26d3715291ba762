"""API tokens: made by a person, shown once, used by programs, never more than their user may."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, UtcDateTime, metadata
from fairlead.kernel.errors import NotFound, Unauthenticated
from fairlead.kernel.projects import tokens
from fairlead.kernel.projects.accounts import users
from fairlead.kernel.projects.model import Actor, ApiToken, Role, Scope, token_permissions
from fairlead.kernel.projects.sessions import refusal
from fairlead.kernel.projects.store import projects

_TOUCH_EVERY = timedelta(minutes=1)  # how exact "last used" is; spares a write per request

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("scope", sa.String(16), nullable=False),
    sa.Column("role_ceiling", sa.String(16)),
    sa.Column("project_uid", sa.ForeignKey("projects.uid", ondelete="CASCADE"), index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)


class TokenNotFound(NotFound):
    """There is no such API token of yours."""

    code = "tokens.not_found"


def create(
    conn: sa.Connection,
    *,
    user_id: str,
    name: str,
    scope: Scope = Scope.FULL,
    role_ceiling: Role | None = None,
    project_uid: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """A new API token: what may be shown of it, and the secret, which is kept nowhere."""
    secret = tokens.new_secret(tokens.API_TOKEN_PREFIX)
    token_id = uuid.uuid4().hex
    conn.execute(
        sa.insert(api_tokens).values(
            id=token_id,
            user_id=user_id,
            name=name,
            prefix=secret[:8],
            digest=tokens.digest(secret),
            scope=scope.value,
            role_ceiling=role_ceiling.value if role_ceiling else None,
            project_uid=project_uid,
            created_at=utc_now(),
            expires_at=expires_at,
        )
    )
    return find(conn, user_id, token_id), secret


def _tokens_query() -> sa.Select[Any]:
    joined = api_tokens.outerjoin(projects, projects.c.uid == api_tokens.c.project_uid)
    return sa.select(api_tokens, projects.c.id.label("project")).select_from(joined)


def _token(row: Any) -> ApiToken:
    return ApiToken(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scope=Scope(row.scope),
        role_ceiling=Role(row.role_ceiling) if row.role_ceiling else None,
        project=row.project,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def find(conn: sa.Connection, user_id: str, token_id: str) -> ApiToken:
    """One API token of this user. Raises TokenNotFound."""
    query = _tokens_query().where(api_tokens.c.id == token_id, api_tokens.c.user_id == user_id)
    if row := conn.execute(query).first():
        return _token(row)
    raise TokenNotFound(remedy="See `GET /tokens` for yours.")


def list_of(conn: sa.Connection, user_id: str, *, after: str = "", limit: int = 50) -> list[ApiToken]:
    """This user's API tokens, revoked ones included, in the order of their ids, those behind `after`."""
    query = _tokens_query().where(api_tokens.c.user_id == user_id, api_tokens.c.id > after)
    return [_token(row) for row in conn.execute(query.order_by(api_tokens.c.id).limit(limit))]


def revoke(conn: sa.Connection, user_id: str, token_id: str) -> ApiToken:
    """Make one API token useless, at once and for good. Raises TokenNotFound."""
    token = find(conn, user_id, token_id)
    if token.revoked_at is None:
        conn.execute(sa.update(api_tokens).where(api_tokens.c.id == token_id).values(revoked_at=utc_now()))
    return find(conn, user_id, token_id)


def actor_of(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[Actor, bool]:
    """The user of the one token that meets `condition`, and whether its `last_used_at` is out of date.

    Raises Unauthenticated, TokenExpired, UserDisabled.
    """
    now = utc_now()
    joined = api_tokens.join(users, users.c.id == api_tokens.c.user_id)
    columns = sa.select(api_tokens, users.c.username, users.c.is_admin, users.c.disabled_at)
    row = conn.execute(columns.select_from(joined).where(condition)).first()
    if row is None or row.revoked_at is not None:
        raise Unauthenticated("The API token is not valid.", remedy="Make a new one with `POST /tokens`.")
    if row.expires_at is not None and row.expires_at <= now:
        raise tokens.TokenExpired("The API token has expired.", remedy="Make a new one with `POST /tokens`.")
    if refused := refusal(row, now):
        raise refused
    ceiling = Role(row.role_ceiling) if row.role_ceiling else None
    actor = Actor(
        user_id=row.user_id,
        username=row.username,
        is_admin=row.is_admin,
        scopes=token_permissions(Scope(row.scope), ceiling, row.project_uid),
        token_id=row.id,
        project_uid=row.project_uid,
    )
    return actor, row.last_used_at is None or now - row.last_used_at > _TOUCH_EVERY


def authenticate(database: Database, secret: str) -> Actor:
    """Whose API token `secret` is, as of now; its use is noted. Raises what `actor_of` raises."""
    with database.reading() as conn:
        actor, stale = actor_of(conn, api_tokens.c.digest == tokens.digest(secret))
    if stale:
        used = sa.update(api_tokens).where(api_tokens.c.id == actor.token_id)
        with database.transaction() as conn:
            conn.execute(used.values(last_used_at=utc_now()))
    return actor
