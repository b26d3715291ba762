"""Who is connected: one session for each open ticket, in rooms by ticket, within limits."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.support.allowances import Allowances, TooManyRequests
from fairlead.support.model import Agent, Language
from fairlead.support.socket_gate import Connection

REFUSALS_MAX, REFUSALS_S = 100, 10.0  # who is refused so often in so long is put out
CONNECTIONS_MAX = 50  # of one agent
ARRIVALS_A_SECOND, ARRIVALS_AT_ONCE = 1.0, 2.0 * CONNECTIONS_MAX  # each asks Zendesk whose ticket it is
WARN_S = 60.0  # before a session ends; a third of what is left where that is less


class TooManyConnections(FairleadError):
    """More tickets are open at once than one agent may have."""

    code, status, retryable = "support.too_many_connections", 429, True


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One agent at one ticket, connected."""

    sid: str
    agent: Agent
    ticket: str
    language: Language
    connection: Connection
    opened_at: datetime  # when a signed URL proved who it is
    expires_at: datetime
    warn_at: datetime
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # what one client asks is done in its order
    joined: bool = False  # was told all that its room was told
    warned: bool = False
    refusals: int = 0
    hidden: frozenset[str] = frozenset()  # jobs of the ticket's past that are not for who is here now
    is_sure: bool = True  # whose ticket it is; else more is hidden than needs to be

    @property
    def room(self) -> str:
        """Everybody who looks at the same ticket."""
        return room_of(self.agent.installation, self.ticket)

    def renew(self, agent: Agent, opened_at: datetime, expires_at: datetime, now: datetime) -> None:
        """Go on until `expires_at`, with what was proved at `opened_at`."""
        self.agent, self.opened_at, self.expires_at, self.warned = agent, opened_at, expires_at, False
        self.warn_at = warn_at(expires_at, now)


def room_of(installation: str | None, ticket: str | None) -> str:
    """The room of a ticket."""
    return f"{installation}/{ticket}"


def warn_at(expires_at: datetime, now: datetime) -> datetime:
    """When the app is asked to renew its session."""
    return expires_at - min(timedelta(seconds=WARN_S), (expires_at - now) / 3)


class Sessions:
    """Everybody who is connected to this process. Belongs to one event loop."""

    def __init__(self) -> None:
        self.by_sid: dict[str, Session] = {}
        self.rooms: defaultdict[str, set[Session]] = defaultdict(set)
        self._of_agent: Counter[str] = Counter()
        self._allowances = Allowances()
        self._arrivals = Allowances(ARRIVALS_A_SECOND, ARRIVALS_AT_ONCE)
        self._forgiven_at = 0.0

    def check_room_for(self, agent: Agent) -> None:
        """Raises TooManyConnections, and TooManyRequests where somebody comes and goes and comes."""
        self._arrivals.spend(agent.actor)
        if self._of_agent[agent.actor] >= CONNECTIONS_MAX:
            raise TooManyConnections(
                remedy="Close some tickets, then reload this one.", limit=CONNECTIONS_MAX
            )

    def add(self, session: Session) -> None:
        """Somebody connected."""
        self.by_sid[session.sid] = session
        self.rooms[session.room].add(session)
        self._of_agent[session.agent.actor] += 1
        telemetry.gauge("fairlead_support_agents_connected", len(self.by_sid))

    def remove(self, sid: str) -> Session | None:
        """Somebody left; None where nobody was connected."""
        session = self.by_sid.pop(sid, None)
        if session is None:
            return None
        session.joined = False
        self.rooms[session.room].discard(session)
        if not self.rooms[session.room]:
            del self.rooms[session.room]
        self._of_agent[session.agent.actor] -= 1
        if not self._of_agent[session.agent.actor]:
            del self._of_agent[session.agent.actor]
        telemetry.gauge("fairlead_support_agents_connected", len(self.by_sid))
        return session

    def here(self, room: str) -> list[Session]:
        """Who is in `room` and was told all that it was told."""
        return [session for session in self.rooms.get(room, ()) if session.joined]

    def spend(self, session: Session) -> None:
        """One request. Raises TooManyRequests; who goes on and on is put out."""
        try:
            self._allowances.spend(session.agent.actor)
        except TooManyRequests:
            session.refusals += 1
            if session.refusals > REFUSALS_MAX:
                session.connection.close("flood")
            raise

    def look(self, now: datetime) -> tuple[list[Session], list[Session]]:
        """(whose session ends soon and who was not told yet, whose session has ended)."""
        self._forgive()
        expiring: list[Session] = []
        expired: list[Session] = []
        for session in self.by_sid.values():
            if now >= session.expires_at:
                expired.append(session)
            elif now >= session.warn_at and not session.warned:
                session.warned = True
                expiring.append(session)
        return expiring, expired

    def _forgive(self) -> None:
        now = time.monotonic()
        if now - self._forgiven_at < REFUSALS_S:
            return
        self._forgiven_at = now
        for session in self.by_sid.values():
            session.refusals = 0
        for allowances in (self._allowances, self._arrivals):
            allowances.forget(but=self._of_agent)
