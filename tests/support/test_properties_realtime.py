"""Properties of the support assistant's live half, each named after the seed's correctness property."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fairlead.api.app import build_app
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Runs, open_runs
from fairlead.kernel.runs import store as run_store
from fairlead.support import jobs
from fairlead.support.broadcast import Broadcast, Voice
from fairlead.support.model import Agent, AgentRole, Customer, JobKind, Language
from fairlead.support.socket_gate import Connection
from fairlead.support.socket_sessions import Session, Sessions
from tests.services import fresh_database

AGENT = Agent(installation="1", user="2", project_id="p", role=AgentRole.AGENT)
CUSTOMER = Customer(project_id="p", account="111122223333", name="c", role_name=None, external_id=None)
TICKETS = count(1)
PROCESSES, APPS, JOBS = 2, 3, 2


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Database]:
    with fresh_database("sqlite", tmp_path_factory.mktemp("properties"), request) as url:
        opened = open_database(url)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def runs(database: Database) -> Iterator[Runs]:
    opened = open_runs(database)
    yield opened
    opened.close()


# --- 1: whatever happens to connections, every event is seen once, in order ------------------------


@dataclass
class App:
    """An agent's app with the rules of transport.js, at the end of a line that can do anything."""

    name: str
    line: deque[dict[str, Any]] = field(default_factory=deque)
    seen: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, int]] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    lossy: bool = False  # something was lost on this line
    session: Session | None = None
    process: int = 0
    numbers: "count[int]" = field(default_factory=count)

    def receive(self, event: dict[str, Any]) -> tuple[str, int] | None:
        """What it wants to be resumed."""
        job, seq = event["job"], event["seq"]
        last = self.seen.get(job, 0)
        if seq <= last:
            return None
        if seq > last + 1:
            if self.asked.get(job) == last:
                return None
            self.asked[job] = last
            return job, last
        self.seen[job] = seq
        self.events.append((job, seq))
        return None


class World:
    """Processes over one database, apps, the lines between them, and what one process calls to the others."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self.database, self.runs, self.ticket = database, runs, str(next(TICKETS))
        self.clock = 0.0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # happens in the middle of a replay
        self.apps = [App(f"app-{number}") for number in range(APPS)]
        self.sessions = [Sessions() for _ in range(PROCESSES)]
        self.inside: list[defaultdict[str, set[str]]] = [defaultdict(set) for _ in range(PROCESSES)]
        self.calls: list[deque[tuple[str, dict[str, Any]]]] = [deque() for _ in range(PROCESSES)]
        self.broadcasts = [self._broadcast(number) for number in range(PROCESSES)]
        self.jobs = [self._submit() for _ in range(JOBS)]
        self.told = dict.fromkeys(self.jobs, 1)

    def _broadcast(self, number: int) -> Broadcast:
        async def emit(_name: str, payload: Mapping[str, Any], to: str) -> None:
            for sid in list(self.inside[number][to]) if "/" in to else [to]:
                app = next(app for app in self.apps if sid.startswith(app.name))
                if app.session is not None and app.session.sid == sid:
                    app.line.append(dict(payload))
            if self.meanwhile is not None and "/" not in to:
                meanwhile, self.meanwhile = self.meanwhile, None
                await meanwhile()

        async def enter(session: Session) -> None:
            self.inside[number][session.room].add(session.sid)

        def shout(room: str, event: Mapping[str, Any]) -> None:
            for other in range(PROCESSES):
                if other != number:
                    self.calls[other].append((room, dict(event)))

        voice = Voice(emit=emit, enter=enter, shout=shout)
        return Broadcast(self.database, self.sessions[number], voice, now=lambda: self.clock)

    def _submit(self) -> str:
        with self.database.transaction() as connection:
            return jobs.submit(
                connection,
                self.runs,
                JobKind.ASK,
                CUSTOMER,
                actor="a",
                language=Language.ENGLISH,
                installation="1",
                ticket=self.ticket,
                details={"text": "?"},
            ).id

    async def happen(self, job: int) -> None:
        """Something happens to a job."""
        with self.database.transaction() as connection:
            event = run_store.append(connection, self.jobs[job], "support.delta", {"text": "x"})
        self.told[self.jobs[job]] = event.seq

    async def look(self, process: int) -> None:
        self.clock += 0.7
        await self.broadcasts[process].look()

    async def hear(self, process: int) -> None:
        if self.calls[process]:
            room, event = self.calls[process].popleft()
            await self.broadcasts[process].hear(room, event)

    async def mishear(self, process: int) -> None:
        if self.calls[process]:
            self.calls[process].popleft()

    async def connect(self, app: int, process: int) -> None:
        await self.cut(app)
        one = self.apps[app]
        now = utc_now()
        one.session = Session(
            sid=f"{one.name}-{next(one.numbers)}",
            agent=AGENT,
            ticket=self.ticket,
            language=Language.ENGLISH,
            connection=Connection(0.0),
            opened_at=now,
            expires_at=now + timedelta(hours=1),
            warn_at=now + timedelta(hours=1),
        )
        one.process, one.asked, one.lossy = process, {}, False
        self.sessions[process].add(one.session)
        await self.broadcasts[process].catch_up(one.session, dict(one.seen))

    async def connect_while(self, app: int, process: int, job: int) -> None:
        """While an app is told what happened, more happens, and the others are told of it."""

        async def meanwhile() -> None:
            await self.happen(job)
            await self.look(process)

        self.meanwhile = meanwhile
        await self.connect(app, process)
        self.meanwhile = None

    async def cut(self, app: int) -> None:
        one = self.apps[app]
        if one.session is not None:
            one.line.clear()
            self.sessions[one.process].remove(one.session.sid)
            self.inside[one.process][one.session.room].discard(one.session.sid)
            self.broadcasts[one.process].left(one.session)
            one.session = None

    async def deliver(self, app: int) -> None:
        one = self.apps[app]
        if one.line and (wanted := one.receive(one.line.popleft())) and one.session is not None:
            await self.broadcasts[one.process].replay(one.session, *wanted)

    async def lose(self, app: int) -> None:
        if self.apps[app].line:
            self.apps[app].line.popleft()
            self.apps[app].lossy = True

    async def double(self, app: int) -> None:
        if self.apps[app].line:
            self.apps[app].line.append(self.apps[app].line[0])

    async def settle(self) -> None:
        """Who is not connected, or lost something, connects; nothing is lost from now on."""
        for number, one in enumerate(self.apps):
            if one.session is None or one.lossy:
                await self.connect(number, number % PROCESSES)
        for _ in range(4):
            self.clock += 3.0
            for process in range(PROCESSES):
                await self.look(process)
                while self.calls[process]:
                    await self.hear(process)
            for app in range(APPS):
                while self.apps[app].line:
                    await self.deliver(app)


@asynccontextmanager
async def world(database: Database, runs: Runs) -> AsyncIterator[World]:
    made = World(database, runs)
    yield made
    for app in range(APPS):
        await made.cut(app)


apps, processes, some_job = (st.integers(0, most - 1) for most in (APPS, PROCESSES, JOBS))
ACTIONS = st.one_of(
    st.tuples(st.just("happen"), some_job),
    st.tuples(st.just("look"), processes),
    st.tuples(st.just("hear"), processes),
    st.tuples(st.just("mishear"), processes),
    st.tuples(st.just("connect"), apps, processes),
    st.tuples(st.just("connect_while"), apps, processes, some_job),
    st.tuples(st.just("cut"), apps),
    st.tuples(st.just("deliver"), apps),
    st.tuples(st.just("lose"), apps),
    st.tuples(st.just("double"), apps),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=st.lists(ACTIONS, max_size=30))
@example(actions=[("connect", 0, 0), ("happen", 0), ("look", 0), ("lose", 0), ("happen", 0), ("look", 0)])
@example(actions=[("connect", 0, 0), ("connect_while", 1, 0, 0), ("happen", 0), ("look", 0)])
@example(actions=[("connect", 0, 0), ("connect", 1, 1), ("happen", 0), ("look", 0), ("hear", 1), ("look", 1)])
def test_property_1_realtime_delivery(database: Database, runs: Runs, actions: list[tuple[Any, ...]]) -> None:
    """Whatever is cut, lost, doubled, overheard or missed: each app sees each event once, in order."""

    async def play() -> None:
        async with world(database, runs) as stage:
            for name, *values in actions:
                await getattr(stage, name)(*values)
            await stage.settle()
            for app in stage.apps:
                for job in stage.jobs:
                    numbers = [seq for one, seq in app.events if one == job]
                    assert numbers == list(range(1, stage.told[job] + 1)), (app.name, job)

    asyncio.run(play())


# --- 10: health says of each dependency what is true, and never waits long -------------------------

ANSWERS = st.sampled_from(["well", "broken", "hanging"])


async def _well() -> None:
    pass


async def _broken() -> None:
    raise ConnectionError("password=hunter2")


async def _hanging() -> None:
    await asyncio.Event().wait()


CHECKS = {"well": _well, "broken": _broken, "hanging": _hanging}


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    needed=st.dictionaries(st.sampled_from(["objects", "zendesk"]), ANSWERS),
    useful=st.dictionaries(st.sampled_from(["workers", "redis"]), ANSWERS),
)
@example(needed={"objects": "well"}, useful={"workers": "broken", "redis": "hanging"})
def test_property_10_health_monitoring(
    database: Database, runs: Runs, needed: dict[str, str], useful: dict[str, str]
) -> None:
    """In any state of the dependencies each is named with its own, and the whole follows from them."""

    def asked() -> Any:
        app = build_app(
            database=database,
            signing_key=SigningKey(b"k" * 32),
            runs=runs,
            checks={name: CHECKS[how] for name, how in needed.items()},
            useful={name: CHECKS[how] for name, how in useful.items()},
            health_deadline_s=1.0,
        )
        return TestClient(app).get("/health")

    # On a busy machine even the database may be late once.
    answer = next(found for _ in range(20) if (found := asked()).json()["checks"]["database"]["ok"])
    body = answer.json()
    told = {name: check["ok"] for name, check in body["checks"].items()}
    assert told == {"database": True} | {name: how == "well" for name, how in (needed | useful).items()}
    lost = any(how != "well" for how in needed.values())
    worse = any(how != "well" for how in useful.values())
    assert body["status"] == ("unavailable" if lost else "degraded" if worse else "ok")
    assert answer.status_code == (503 if lost else 200)
    assert all(check["latency_ms"] < 20_000 for check in body["checks"].values())
    assert "hunter2" not in json.dumps(body)
