"""Tells everybody at a ticket what happens to its jobs, from the database, without a gap and in order.

One loop reads the events of all jobs that are followed; who connects is told what happened before, and only
then enters its room. With Redis the process that reads an event first tells the others, which then read less
often; without, or while Redis is away, every process reads for itself.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.support import history, jobs, messages
from fairlead.support.feeds import Feeds
from fairlead.support.history import Tidings
from fairlead.support.jobs import Job
from fairlead.support.socket_sessions import Session, Sessions, room_of

POLL_S = 0.15  # between two looks at the jobs that are followed
DISCOVER_S = 0.5  # between two looks for jobs that somebody else submitted
RECENT = timedelta(seconds=60)  # no transaction takes longer to commit, and clocks differ by less
RETRY_S = 1.0
PAGE = 200  # events of a replay between two looks at whether the client keeps up

Message = Mapping[str, Any]
Emit = Callable[[str, Message, str], Awaitable[None]]  # name, payload, to: a sid or a room
Shout = Callable[[str, Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How this process speaks: to a client or a room, and to other processes."""

    emit: Emit
    enter: Callable[[Session], Awaitable[None]]
    shout: Shout | None = None


class Broadcast:
    """What is told in one process. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        voice: Voice,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._database = database
        self._sessions = sessions
        self._voice = voice
        self._feeds = Feeds()
        self._submitting: Counter[str] = Counter()  # rooms with a request that is not acknowledged yet
        self._wake = asyncio.Event()
        self._discovered_at = float("-inf")

    # --- jobs that begin here --------------------------------------------------------------------

    def hold(self, room: str) -> None:
        """A job is being submitted: nobody hears of it before its request is acknowledged."""
        self._submitting[room] += 1

    def begin(self, room: str, job: str | None) -> None:
        """The request was acknowledged; `job`, where one came of it, is told of from now on."""
        self._submitting[room] -= 1
        if not self._submitting[room]:
            del self._submitting[room]
        if job is not None and room in self._sessions.rooms:
            self._feeds.follow(job, room)
            self._wake.set()

    def left(self, session: Session) -> None:
        """Somebody left; jobs that nobody looks at are not read."""
        if session.room not in self._sessions.rooms:
            self._feeds.forget(session.room)

    # --- one client ------------------------------------------------------------------------------

    async def catch_up(self, session: Session, since: Mapping[str, int]) -> None:
        """Tell all that happened on the ticket, then let the session into its room: no gap in between."""

        def look() -> tuple[history.Story, ...]:
            with self._database.reading() as connection:
                return history.stories(connection, session.agent, session.ticket, since, session.hidden)

        stories = await asyncio.to_thread(look)
        sent: dict[str, int] = {}
        for story in stories:
            sent[story.job] = await self.replay(session, story.job, story.after)
        replayed = sum(sent[story.job] - story.after for story in stories)
        telemetry.observe("fairlead_support_replayed_events", replayed)
        # Meanwhile the room may have been told more. Once it has not, there is nothing to wait for: the
        # session enters before anybody else does anything.
        while (behind := self._behind(session, sent)) and self._is_here(session):
            for job, after in behind.items():
                sent[job] = await self.replay(session, job, after)
        if not self._is_here(session):
            return
        for job, told in sent.items():
            self._feeds.follow(job, session.room, told)
        session.joined = True
        await self._voice.enter(session)
        self._wake.set()

    def _behind(self, session: Session, sent: Mapping[str, int]) -> dict[str, int]:
        behind = self._feeds.behind(session.room, sent)
        return {job: after for job, after in behind.items() if job not in session.hidden}

    async def replay(self, session: Session, job: str, after: int) -> int:
        """Tell one client a job's events above `after`; gives the last number. Waits for slow clients."""
        while True:
            page = await asyncio.to_thread(history.events_after, self._database, job, after, PAGE)
            for event in page.events:
                session.connection.owed += 1
                await self._voice.emit("job", messages.job_event(event, page.asked), session.sid)
                after = event.seq
            await session.connection.drained(session.connection.owed - PAGE)
            if len(page.events) < PAGE or not self._is_here(session):
                return after

    def _is_here(self, session: Session) -> bool:
        return session.sid in self._sessions.by_sid and session.connection.ended is None

    # --- everybody -------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Tell what happens, until cancelled."""
        while True:
            try:
                await self.look()
                pause_s = POLL_S
            except FairleadError as error:  # the database is away; nothing is lost
                telemetry.log.warning("support.follow_failed", code=error.code)
                pause_s = RETRY_S
            except Exception as error:  # noqa: BLE001 - one bad event must not silence all tickets
                telemetry.log.error("support.follow_failed", exc_info=error)
                pause_s = RETRY_S
            try:
                async with asyncio.timeout(pause_s if self._sessions.by_sid else None):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def look(self) -> None:
        """Read what happened to jobs that are due, and tell it."""
        now = self._now()
        if self._sessions.by_sid and now - self._discovered_at >= DISCOVER_S:
            self._discovered_at = now
            self._discover(await asyncio.to_thread(self._recent))
        if due := self._feeds.due(now):
            await self._tell_all(await asyncio.to_thread(history.tidings, self._database, due))

    def _recent(self) -> tuple[Job, ...]:
        with self._database.reading() as connection:
            return jobs.submitted_since(connection, utc_now() - RECENT)

    def _discover(self, found: tuple[Job, ...]) -> None:
        for job in found:
            room = room_of(job.installation, job.ticket)
            members = self._sessions.rooms.get(room)
            if not members or room in self._submitting or self._feeds.knows(job.run_id):
                continue
            if history.belongs(job, next(iter(members)).agent, str(job.ticket)):
                self._feeds.follow(job.run_id, room)

    async def _tell_all(self, tidings: Tidings) -> None:
        for event in tidings.news.events:
            room = self._feeds.take(event.run_id, event.seq)
            if room is None:
                continue
            message = messages.job_event(event, tidings.asked.get(event.run_id, {}))
            await self._tell(room, message)
            if self._voice.shout is not None:
                self._voice.shout(room, message)
        self._feeds.end(tidings.news.ended, self._now())

    async def hear(self, room: str, event: Message) -> None:
        """Another process read this event first."""
        if self._feeds.hear(event["job"], event["seq"], self._now()) == room:
            await self._tell(room, event)
        elif not self._feeds.knows(event["job"]) and room in self._sessions.rooms:
            self._discovered_at = float("-inf")  # somebody else submitted it just now

    async def _tell(self, room: str, event: Message) -> None:
        everybody = self._sessions.here(room)
        here = [session for session in everybody if event["job"] not in session.hidden]
        kind = event["kind"] if event["kind"] in messages.KINDS else "other"
        telemetry.count("fairlead_support_events_sent_total", len(here), labels={"kind": kind})
        for session in here:
            session.connection.owed += 1
        # One message to all of the room, unless it is not for all of them.
        for to in [room] if len(here) == len(everybody) else [session.sid for session in here]:
            await self._voice.emit("job", event, to)
