"""What the routes of `support` share: the opened parts, and who is calling."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Unauthenticated
from fairlead.kernel.http import bearer, current_actor
from fairlead.kernel.projects.access import authorise
from fairlead.kernel.projects.model import Actor, Permission
from fairlead.kernel.projects.store import ProjectNotFound
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.settings import SupportSettings
from fairlead.support import session_ends
from fairlead.support.accounts import require_role
from fairlead.support.allowances import Allowances
from fairlead.support.model import Agent, AgentRole
from fairlead.support.zendesk import SESSION_PREFIX, Installations, read_session
from fairlead.support.zendesk_api import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportDoor:
    """What the routes need."""

    database: Database
    key: SigningKey
    settings: SupportSettings
    installations: Installations
    directory: Directory
    app_files: Mapping[str, bytes]  # the Zendesk app, by path in its package
    allowances: Allowances = field(default_factory=Allowances)


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def agent_of(door: SupportDoor, credentials: HTTPAuthorizationCredentials | None) -> Agent:
    """The agent whose session is shown, for one request; reads the database.

    Raises Unauthenticated, TooManyRequests, AgentSessionEnded and what reading a session raises.
    """
    if credentials is None:
        raise Unauthenticated(remedy="Send the session that the app's page was opened with.")
    session = read_session(door.key, credentials.credentials, utc_now())
    door.installations.of(session.agent)
    door.allowances.spend(session.agent.actor)
    with door.database.reading() as conn:
        session_ends.check(conn, session)
    return session.agent


async def calling_agent(door: SupportDoor, credentials: HTTPAuthorizationCredentials | None) -> Agent:
    """`agent_of` for routes that wait."""
    return await asyncio.to_thread(agent_of, door, credentials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who keeps the list of customers: a user of Fairlead, or an administrator from Zendesk."""

    actor: Actor | None
    agent: Agent | None

    @property
    def name(self) -> str:
        """As audit entries know the caller."""
        if self.actor is not None:
            return self.actor.username
        assert self.agent is not None
        return self.agent.actor


def caller_of(
    door: SupportDoor, request: Request, credentials: HTTPAuthorizationCredentials | None
) -> Caller:
    """Who calls, by a user's credential or an agent's session. Raises Unauthenticated."""
    if credentials is not None and credentials.credentials.startswith(SESSION_PREFIX):
        agent = agent_of(door, credentials)
        request.state.username = agent.actor
        return Caller(actor=None, agent=agent)
    return Caller(actor=current_actor(request, credentials), agent=None)


def allow(conn: sa.Connection, caller: Caller, project: str, permission: Permission) -> bool:
    """Let `caller` go on, and say whether the caller may manage customers (and see ExternalIds).

    Administrators from Zendesk may do everything here in the project of their installation, other agents
    nothing. Raises ProjectNotFound, AgentRoleMissing and what `authorise` raises.
    """
    if caller.actor is not None:
        return Permission.PROJECT_UPDATE in authorise(conn, caller.actor, project, permission).permissions
    assert caller.agent is not None
    if caller.agent.project_id != project:
        raise ProjectNotFound(f"There is no project {project!r}, or you are not a member of it.")
    require_role(conn, caller.agent, AgentRole.ADMINISTRATOR)
    return True
