"""Sessions of agents that an administrator ended: who left Zendesk has no minutes left here.

A session's token says by itself how long it counts. What stands here says the opposite: whatever somebody
proved up to a moment opens nothing any more, is not renewed, and its open connections are cut within seconds.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Unauthenticated
from fairlead.support.model import Agent
from fairlead.support.tables import session_ends
from fairlead.support.zendesk import SESSION_GRACE_S, SESSION_LIFETIME_S, Session

# Older sessions have ended by themselves; an hour because servers' clocks differ.
_KEPT = timedelta(seconds=SESSION_LIFETIME_S + SESSION_GRACE_S, hours=1)


class AgentSessionEnded(Unauthenticated):
    """An administrator ended this session."""

    code = "auth.agent_session_ended"


def end(connection: sa.Connection, project_id: str, installation: str, user: str, *, actor: str) -> None:
    """End everything that `user` opened in `installation` up to now, audited.

    What Zendesk vouches for afterwards opens a new session: take the user out of Zendesk first.
    """
    now = utc_now()
    mine = sa.and_(session_ends.c.installation == installation, session_ends.c.user_id == user)
    connection.execute(sa.delete(session_ends).where(mine | (session_ends.c.ended_at < now - _KEPT)))
    connection.execute(
        sa.insert(session_ends).values(installation=installation, user_id=user, ended_at=now, ended_by=actor)
    )
    audit.append(
        connection,
        actor=actor,
        action="support.sessions_ended",
        subject=f"zendesk:{installation}:{user}",
        project_id=project_id,
        data={},
    )


def ends(connection: sa.Connection) -> Mapping[tuple[str, str], datetime]:
    """(installation, user) → up to when what was proved counts no more."""
    rows = connection.execute(sa.select(session_ends))
    return {(row.installation, row.user_id): row.ended_at for row in rows}


def is_ended(agent: Agent, opened_at: datetime, ended: Mapping[tuple[str, str], datetime]) -> bool:
    """Whether what `agent` opened then was ended since."""
    at = ended.get((agent.installation, agent.user))
    return at is not None and opened_at <= at


def check(connection: sa.Connection, session: Session) -> None:
    """Raises AgentSessionEnded."""
    agent = session.agent
    query = sa.select(session_ends.c.ended_at).where(
        session_ends.c.installation == agent.installation, session_ends.c.user_id == agent.user
    )
    at = connection.execute(query).scalar()
    if at is not None and session.opened_at <= at:
        raise AgentSessionEnded(remedy="Reload the ticket.")
