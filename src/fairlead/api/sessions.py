"""Logging in, staying logged in, logging out."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fairlead.api.parts import Parts
from fairlead.api.users import UserOut
from fairlead.kernel import audit
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.http import CurrentActor, client_address
from fairlead.kernel.projects import sessions
from fairlead.kernel.projects.passwords import MAX_LENGTH

router = APIRouter(tags=["sessions"])


class LoginIn(BaseModel):
    """Who is logging in."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"username": "ana", "password": "a long sentence"}]}
    )

    username: str = Field(max_length=200)
    password: str = Field(max_length=MAX_LENGTH)


class RefreshIn(BaseModel):
    """The refresh token that the last answer held."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: str = Field(max_length=200)


class SessionOut(BaseModel):
    """A session's credentials. Both are shown this once."""

    access_token: str = Field(description="Send as `Authorization: Bearer …`")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - its kind, not the token
    expires_in: int = Field(description="Seconds until the access token has to be refreshed")
    refresh_token: str = Field(description="Good for one `POST /sessions/refresh`")
    user: UserOut

    @classmethod
    def of(cls, opened: sessions.OpenedSession) -> "SessionOut":
        """The form in which clients see it."""
        return cls(
            access_token=opened.access_token,
            expires_in=opened.expires_in_s,
            refresh_token=opened.refresh_token,
            user=UserOut.of(opened.user),
        )


@router.post("/sessions", status_code=201)
def open_session(body: LoginIn, request: Request, api: Parts) -> SessionOut:
    """Log in. Wrong passwords in a row make the next attempt wait (429 with Retry-After)."""
    opened = sessions.login(
        api.database,
        api.signing_key,
        username=body.username,
        password=body.password,
        address=client_address(request),
    )
    with api.database.transaction() as conn:
        name = opened.user.username
        audit.append(conn, actor=name, action="session.opened", subject=f"session:{opened.session_id}")
    return SessionOut.of(opened)


@router.post("/sessions/refresh")
def refresh_session(body: RefreshIn, api: Parts) -> SessionOut:
    """New credentials for a session. A refresh token that comes twice ends its session."""
    return SessionOut.of(sessions.refresh(api.database, api.signing_key, body.refresh_token))


@router.delete("/sessions/current", status_code=204)
def end_session(actor: CurrentActor, api: Parts) -> None:
    """Log out: both tokens of this session are useless at once."""
    if actor.session_id is None:
        raise InvalidInput("An API token is no session.", remedy="Revoke it with `DELETE /tokens/{id}`.")
    with api.database.transaction() as conn:
        sessions.end(conn, actor.session_id)
        audit.append(
            conn, actor=actor.username, action="session.ended", subject=f"session:{actor.session_id}"
        )
