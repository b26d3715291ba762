"""Agents' live connections: who may connect, what they ask for, and everything that happens to their jobs.

A job is a durable run that some worker executes; its events are in the database before anybody hears of them.
A process only reads them out, so a killed process, a cut connection or an absent Redis loses nothing: who
comes back names the last number it saw and gets what follows. docs/reference/realtime.md has the messages.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import socketio

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError, Forbidden, Unauthenticated
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Runs
from fairlead.support import accounts, history, messages, session_ends, zendesk
from fairlead.support import socket_requests as requests
from fairlead.support.broadcast import Broadcast, Voice
from fairlead.support.errors_words import worded
from fairlead.support.messages import NAMESPACE
from fairlead.support.model import AgentRole, Language
from fairlead.support.socket_gate import SCOPE_KEY, App, Gate
from fairlead.support.socket_requests import Caller, EventUnknown, SocketInternal
from fairlead.support.socket_sessions import Session, Sessions, warn_at
from fairlead.support.socket_wire import Telegraph, redis_answers, socket_server
from fairlead.support.zendesk_api import Directory

LOOK_S = 1.0  # between two looks at who has to go
SETTLE_S = 1.0

Answer = dict[str, Any]


class SessionForeign(Forbidden):
    """This session belongs to another agent."""

    code = "auth.agent_session_foreign"


class SessionMissing(Unauthenticated):
    """This connection has no session any more."""

    code = "auth.agent_session_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeDoor:
    """What the sockets need, opened elsewhere."""

    database: Database
    runs: Runs
    key: SigningKey
    installations: zendesk.Installations
    directory: Directory
    public_url: str | None = None
    redis_url: str | None = None


class Realtime:
    """The sockets of one process. Belongs to one event loop; `open_realtime` opens it."""

    def __init__(self, door: RealtimeDoor) -> None:
        self._door = door
        self._sessions = Sessions()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telegraph = Telegraph(door.redis_url, self._hear) if door.redis_url else None
        origins = {one.app_origin for one in door.installations.by_id.values() if one.app_origin}
        self._server = socket_server(
            {*origins, door.public_url or ""}, own_origin=door.public_url is None, telegraph=self._telegraph
        )
        shout = self._telegraph.shout if self._telegraph else None
        voice = Voice(emit=self._emit, enter=self._enter, shout=shout)
        self._broadcast = Broadcast(door.database, self._sessions, voice)
        for name, act in (("connect", self._connect), ("disconnect", self._disconnect), ("*", self._receive)):
            self._server.on(name, act, namespace=NAMESPACE)
        self.app: App = Gate(socketio.ASGIApp(self._server, socketio_path=None))
        self._acts: Mapping[str, Callable[[Session, Any], Awaitable[str | None]]] = {
            "ask": self._submit,
            "screen": self._submit,
            "report": self._submit,
            "cancel": self._cancel,
            "inserted": self._inserted,
            "resume": self._resume,
            "session": self._renew,
        }

    async def check_redis(self) -> None:
        """For `/health`: raises where Redis does not answer."""
        if self._door.redis_url:
            await redis_answers(self._door.redis_url)

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow jobs and to look after connections."""
        if self._telegraph is not None:
            self._telegraph.start()
        self._go(self._broadcast.follow())
        self._go(self._look_after())

    async def close(self) -> None:
        """End everything; clients come back to another process or to the next one."""
        assert isinstance(self.app, Gate)
        for connection in list(self.app.connections):
            connection.close("server_stops", code=1012)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._telegraph is not None:
            await self._telegraph.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._server.shutdown()

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_after(self) -> None:
        """Who has to go is put out."""
        assert isinstance(self.app, Gate)
        while True:
            await asyncio.sleep(LOOK_S)
            self.app.look(time.monotonic())
            expiring, expired = self._sessions.look(utc_now())
            for session in expiring:
                await self._emit("session_expiring", {}, session.sid)
            for session in (*expired, *await self._ended()):
                telemetry.log.info("support.session_ended", agent=session.agent.actor)
                await self._server.disconnect(session.sid, namespace=NAMESPACE)

    async def _ended(self) -> list[Session]:
        """Whose session an administrator ended; none where the database is away, which others will say."""
        here = list(self._sessions.by_sid.values())
        if not here:
            return []

        def look() -> Mapping[tuple[str, str], datetime]:
            with self._door.database.reading() as connection:
                return session_ends.ends(connection)

        try:
            ended = await asyncio.to_thread(look)
        except Exception as error:  # noqa: BLE001 - the next look comes soon, and nobody else may wait
            telemetry.log.warning("support.session_ends_unread", error=type(error).__name__)
            return []
        return [one for one in here if session_ends.is_ended(one.agent, one.opened_at, ended)]

    async def _emit(self, name: str, payload: Mapping[str, Any], to: str) -> None:
        await self._server.emit(name, dict(payload), to=to, namespace=NAMESPACE, ignore_queue=True)

    async def _enter(self, session: Session) -> None:
        await self._server.enter_room(session.sid, session.room, namespace=NAMESPACE)

    async def _hear(self, room: str, event: messages.JobEvent) -> None:
        await self._broadcast.hear(room, event.model_dump())

    # --- connections -----------------------------------------------------------------------------

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: Any = None) -> None:
        try:
            given = messages.parsed(messages.Auth, auth)
            proved = self._proved(given.token)
            self._sessions.check_room_for(proved.agent)
            await asyncio.to_thread(self._check_not_ended, proved)
        except FairleadError as error:
            telemetry.count("fairlead_support_connections_refused_total", labels={"code": error.code})
            telemetry.log.warning("support.connection_refused", code=error.code)
            # A text first: a problem alone would arrive as its repr.
            word = "unauthorized" if error.code.startswith("auth.") else "refused"
            raise socketio.exceptions.ConnectionRefusedError(word, error.problem()) from None
        session = Session(
            sid=sid,
            agent=proved.agent,
            ticket=given.ticket,
            language=given.locale,
            connection=environ["asgi.scope"][SCOPE_KEY],
            opened_at=proved.opened_at,
            expires_at=proved.expires_at,
            warn_at=warn_at(proved.expires_at, utc_now()),
        )
        session.connection.waiting_since = None
        self._sessions.add(session)
        telemetry.log.info("support.connected", agent=session.agent.actor, ticket=session.ticket)
        self._go(self._welcome(session, given.since))

    def _proved(self, token: str) -> zendesk.Session:
        proved = zendesk.read_session(self._door.key, token, utc_now())
        self._door.installations.of(proved.agent)
        return proved

    def _check_not_ended(self, proved: zendesk.Session) -> None:
        with self._door.database.reading() as connection:
            session_ends.check(connection, proved)

    async def _disconnect(self, sid: str, _reason: object = None) -> None:
        session = self._sessions.remove(sid)
        if session is not None:
            # Who keeps the line without a session is put out by the gate.
            session.connection.waiting_since = time.monotonic()
            self._broadcast.left(session)

    async def _welcome(self, session: Session, since: Mapping[str, int]) -> None:
        async with session.lock:
            try:
                await self._greet(session, since)
                await self._broadcast.catch_up(session, since)
            except Exception as error:  # noqa: BLE001 - the client comes back and is welcomed again
                code = error.code if isinstance(error, FairleadError) else type(error).__name__
                telemetry.log.warning("support.welcome_failed", code=code)
                session.connection.close("welcome_failed", code=1011)

    async def _greet(self, session: Session, seen: Collection[str] = ()) -> None:
        """Say where the session is, and decide what of the ticket's past it gets."""
        caller = None
        with suppress(FairleadError):  # the greeting says less; a request will say why
            caller = await self._caller(session)

        def look() -> tuple[str | None, AgentRole]:
            account = None
            with self._door.database.reading() as connection:
                role = accounts.role_of(connection, session.agent.installation, session.agent.user)
                # Where Zendesk should have said whose ticket it is and did not, no binding counts either.
                if caller is not None:
                    with suppress(FairleadError):
                        account = caller.customer(connection).account
                if caller or not session.joined:
                    shown = caller.shown(connection) if caller else None
                    session.hidden = history.hidden(connection, session.agent, session.ticket, shown, seen)
                    session.is_sure = caller is not None
            return account, role

        account, role = await asyncio.to_thread(look)
        organization = caller.organization if caller else None
        hello = messages.Hello(account=account, organization=organization or None, role=role)
        await self._emit("hello", hello.model_dump(mode="json"), session.sid)

    async def _caller(self, session: Session) -> Caller:
        installation = self._door.installations.of(session.agent)
        organization = await self._door.directory.organization_of(installation, session.ticket)
        return Caller(agent=session.agent, ticket=session.ticket, organization=organization)

    # --- requests --------------------------------------------------------------------------------

    async def _receive(self, name: str, sid: str, *given: Any) -> Answer:
        """Every event that a client sends; the answer is its acknowledgement, where it wants one."""
        label = name if name in self._acts else "other"
        try:
            answer: Answer = {"ok": True, "job": await self._taken(name, sid, given[0] if given else None)}
            outcome = "ok"
        except FairleadError as error:
            session = self._sessions.by_sid.get(sid)
            language = session.language if session else Language.ENGLISH
            answer, outcome = {"ok": False, "problem": worded(error.problem(), language)}, error.code
        except Exception as error:  # noqa: BLE001 - a bug is ours to read, not the client's
            telemetry.log.error("support.request_failed", event_name=label, exc_info=error)
            answer, outcome = {"ok": False, "problem": SocketInternal().problem()}, SocketInternal.code
        telemetry.count("fairlead_support_requests_total", labels={"event": label, "outcome": outcome})
        return answer

    async def _taken(self, name: str, sid: str, payload: Any) -> str | None:
        session = self._sessions.by_sid.get(sid)
        if session is None:
            raise SessionMissing(remedy="Reload the ticket.")
        self._sessions.spend(session)
        act = self._acts.get(name)
        if act is None:
            raise EventUnknown(remedy=f"There are: {', '.join(self._acts)}.")
        request = messages.parsed(messages.REQUESTS[name], payload)
        if (ticket := getattr(request, "ticket", None)) is not None:
            requests.check_ticket(Caller(agent=session.agent, ticket=session.ticket), ticket)
        async with session.lock:
            return await act(session, request)

    async def _submit(self, session: Session, request: Any) -> str:
        caller = await self._caller(session)
        if not session.is_sure:  # it is now: what was kept back follows, and apps drop what they know
            self._go(self._welcome(session, {}))
        room, job = session.room, None
        self._broadcast.hold(room)
        try:
            job = await asyncio.to_thread(
                requests.submit, self._door.database, self._door.runs, caller, request
            )
        finally:
            # Runs after the acknowledgement was queued, which nothing in between waits for.
            asyncio.get_running_loop().call_soon(self._broadcast.begin, room, job)
        return job

    async def _cancel(self, session: Session, request: messages.Cancel) -> str:
        caller = Caller(agent=session.agent, ticket=session.ticket)
        return await asyncio.to_thread(requests.cancel, self._door.database, self._door.runs, caller, request)

    async def _inserted(self, session: Session, request: messages.Inserted) -> str | None:
        caller = Caller(agent=session.agent, ticket=session.ticket)
        return await asyncio.to_thread(requests.note_insertion, self._door.database, caller, request)

    async def _resume(self, session: Session, request: messages.Resume) -> None:
        def check() -> None:
            with self._door.database.reading() as connection:
                for job in request.jobs:
                    history.job_of(connection, session.agent, session.ticket, job, session.hidden)

        await asyncio.to_thread(check)
        for job, after in request.jobs.items():
            await self._broadcast.replay(session, job, after)

    async def _renew(self, session: Session, request: messages.Renewed) -> None:
        proved = self._proved(request.token)
        was, now = session.agent, proved.agent
        if (was.installation, was.user, was.project_id) != (now.installation, now.user, now.project_id):
            self._go(self._server.disconnect(session.sid, namespace=NAMESPACE))  # after the answer
            raise SessionForeign(remedy="Reload the ticket.")
        await asyncio.to_thread(self._check_not_ended, proved)
        session.renew(proved.agent, proved.opened_at, proved.expires_at, utc_now())
        await self._greet(session)


@asynccontextmanager
async def open_realtime(door: RealtimeDoor) -> AsyncIterator[Realtime]:
    """The sockets while the block is open; mount `app` at `/socket.io`."""
    realtime = Realtime(door)
    realtime.start()
    try:
        yield realtime
    finally:
        await realtime.close()
