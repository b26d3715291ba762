"""A ticket's server, worker and agents for the realtime tests: processes of their own, and real clients."""

import asyncio
import json
import multiprocessing
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import socketio

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.projects import accounts as users
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey, load_signing_key
from fairlead.support import accounts
from fairlead.support.messages import ENDS, NAMESPACE
from fairlead.support.model import Agent, AgentRole, Customer
from fairlead.support.zendesk import issue_session
from tests.support import live_programs
from tests.support.zendesk_keys import INSTALLATION, PROJECT, USER, installation_settings

OTHER, OTHER_PROJECT = "360007654321", "globex"  # another Zendesk on the same server
ACCOUNT, OTHER_ACCOUNT = "111122223333", "444455556666"
PATIENCE_S = 90.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["pytest", "tests.kernel.runs_worker_program", "tests.support.live_programs"]
)


async def until(ask: Callable[[], Any], what: str = "", *, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer of `ask`."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain for {what or ask}"
        await asyncio.sleep(0.01)
    return answer


@dataclass
class Process:
    """A server or a worker."""

    process: ForkServerProcess
    log_file: Path
    said: str

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def kill(self) -> None:
        """kill -9, and wait until it has gone."""
        self.process.kill()
        self.process.join(60)

    def stop(self) -> int | None:
        """SIGTERM; its exit code."""
        self.process.terminate()
        self.process.join(60)
        return self.process.exitcode


@dataclass
class Desk:
    """A database with customers, and what runs on it. Tickets 1 to 999 of both Zendesks are bound."""

    folder: Path
    url: str
    database: Database
    key: SigningKey
    tickets: "count[int]" = field(default_factory=lambda: count(1))
    processes: list[Process] = field(default_factory=list)

    def start_server(self, *, port: int = 0, **support: Any) -> Process:
        """An API process; `said` is its address."""
        keys = self.folder / "keys"
        keys.mkdir(exist_ok=True)
        installations = [
            installation_settings(keys),
            installation_settings(
                keys,
                key="other",
                id=OTHER,
                project=OTHER_PROJECT,
                subdomain="globex",
                shared_secret="9e" * 32,
            ),
        ]
        plain = [
            {**one.model_dump(mode="json"), "shared_secret": one.shared_secret.get_secret_value()}
            for one in installations
        ]
        settings = {
            "data_dir": str(self.folder),
            "database_url": self.url,
            "log_level": "info",
            "support": {"installations": plain, **support},
        }
        return self._start(live_programs.serve, {"settings": settings, "port": port})

    def start_worker(self) -> Process:
        """A worker process."""
        return self._start(live_programs.work, {"url": self.url, "folder": str(self.folder)})

    def _start(
        self, program: Callable[[dict[str, Any], Connection], None], options: dict[str, Any]
    ) -> Process:
        log = self.folder / f"process-{len(self.processes)}.log"
        receive, ready = _processes.Pipe(duplex=False)
        process = _processes.Process(target=program, args=({**options, "log": str(log)}, ready))
        process.start()
        ready.close()
        assert receive.poll(PATIENCE_S), log.read_text()
        try:
            said = receive.recv()
        except EOFError:
            raise AssertionError(log.read_text()) from None
        started = Process(process, log, said)
        self.processes.append(started)
        return started

    def token(
        self,
        *,
        user: str = USER,
        installation: str = INSTALLATION,
        project: str = PROJECT,
        ttl_s: float = 900,
    ) -> str:
        """A session, as the server would give it."""
        agent = Agent(installation=installation, user=user, project_id=project, role=AgentRole.AGENT)
        return issue_session(self.key, agent, utc_now(), ttl_s)

    def ticket(self) -> str:
        """A ticket of its own for a test."""
        return str(next(self.tickets))

    def open_gate(self, name: str) -> None:
        """Let go the jobs that wait for it."""
        (self.folder / name).touch()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.database.close()


@contextmanager
def open_desk(folder: Path, url: str, *, tickets: int = 60) -> Iterator[Desk]:
    """A desk over the migrated database at `url`."""
    database = open_database(url)
    with database.transaction() as connection:
        user = users.create_user(connection, username="olga", password_hash="!", is_admin=False)
        for project, account in ((PROJECT, ACCOUNT), (OTHER_PROJECT, OTHER_ACCOUNT)):
            customer = Customer(
                project_id=project, account=account, name=project, role_name=None, external_id=None
            )
            projects.create(
                connection,
                project_id=project,
                name=project,
                description="",
                settings=ProjectSettings(),
                owner=Actor(user_id=user.id, username="olga", is_admin=False),
            )
            accounts.put_customer(connection, customer, actor="test")
            for ticket in range(1, tickets + 1):
                accounts.bind_ticket(
                    connection, project, str(ticket), account, organization=None, actor="test"
                )
    desk = Desk(folder, url, database, load_signing_key(folder / "secret.key"))
    try:
        yield desk
    finally:
        desk.close()


class Client:
    """An agent's app: keeps the rules of `transport.js`, on python-socketio's client."""

    def __init__(self, url: str, token: str, ticket: str, **auth: Any) -> None:
        self.url, self.token, self.ticket, self.auth = url, token, ticket, auth
        self.seen: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []  # each once, in order
        self.raw: list[dict[str, Any]] = []
        self.hellos: list[dict[str, Any]] = []
        self.expiring = 0
        self.left: list[str] = []
        self._gaps: dict[str, int] = {}
        self.io = self._new()

    def _new(self) -> socketio.AsyncClient:
        io = socketio.AsyncClient(reconnection=False)
        io.on("hello", self.hellos.append, namespace=NAMESPACE)
        io.on("job", self._receive, namespace=NAMESPACE)
        io.on("session_expiring", self._expiring, namespace=NAMESPACE)
        io.on("disconnect", self._left, namespace=NAMESPACE)
        return io

    def _expiring(self, *_: Any) -> None:
        self.expiring += 1

    def _left(self, reason: str) -> None:
        self.left.append(reason)

    async def _receive(self, event: dict[str, Any]) -> None:
        self.raw.append(event)
        job, seq = event["job"], event["seq"]
        last = self.seen.get(job, 0)
        if seq <= last:
            return
        if seq > last + 1:
            if self._gaps.get(job) != last:
                self._gaps[job] = last
                await self.io.emit("resume", {"jobs": {job: last}}, namespace=NAMESPACE)
            return
        self.seen[job] = seq
        self.events.append(event)

    async def connect(self, *, headers: Mapping[str, str] | None = None, **auth: Any) -> "Client":
        self.io = self._new()
        given = {"token": self.token, "ticket": self.ticket, "locale": "en", "since": dict(self.seen)}
        await self.io.connect(
            self.url,
            namespaces=[NAMESPACE],
            transports=["websocket"],
            headers=dict(headers or {}),
            auth={**given, **self.auth, **auth},
            wait_timeout=60,
        )
        return self

    async def cut(self) -> None:
        """Cut the line without a word."""
        self.io.eio.ws._response.connection.transport.abort()
        await until(lambda: not self.io.connected, "the client to notice")

    async def close(self) -> None:
        with suppress(Exception):
            await self.io.disconnect()

    async def send(self, name: str, payload: Any, *, timeout_s: float = 60) -> Any:
        """The acknowledgement."""
        return await self.io.call(name, payload, namespace=NAMESPACE, timeout=timeout_s)

    async def ask(self, *, id_: str | None = None, ticket: str | None = None, **script: Any) -> Any:
        payload = {
            "id": id_ or str(uuid.uuid4()),
            "ticket": ticket or self.ticket,
            "text": json.dumps(script),
            "language": "en",
        }
        return await self.send("ask", payload)

    def of(self, job: str) -> list[dict[str, Any]]:
        """What was received of a job, each event once."""
        return [event for event in self.events if event["job"] == job]

    def kinds(self, job: str) -> list[str]:
        """Kinds of it that the app knows."""
        return [event["kind"] for event in self.of(job) if not event["kind"].startswith("run.")]

    async def ended(self, job: str) -> list[str]:
        """Wait for the job's end."""
        await until(lambda: set(self.kinds(job)) & ENDS, f"the end of {job}: {self.kinds(job)}")
        return self.kinds(job)

    async def over(self, job: str) -> None:
        """Wait for the last event of all that are told of the job, which follows its answer."""
        await until(lambda: self.of(job) and self.of(job)[-1]["kind"] == "run.succeeded", f"{job} is over")

    def whole(self, job: str) -> bool:
        """Whether what was received of the job begins at 1 and has no gap, nothing twice."""
        numbers = [event["seq"] for event in self.of(job)]
        return numbers == list(range(1, len(numbers) + 1))


@asynccontextmanager
async def agents(*clients: Client) -> AsyncIterator[None]:
    """Close them at the end."""
    try:
        yield
    finally:
        await asyncio.gather(*(client.close() for client in clients))
