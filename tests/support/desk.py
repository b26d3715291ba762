"""A support desk in a folder: database, objects, two customers, and worker processes that can be killed."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx2
import structlog

from fairlead.api.app import build_app
from fairlead.kernel import audit
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.objects import ObjectStore, open_objects
from fairlead.kernel.projects import accounts as users
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Event, Run, Runs, open_runs
from fairlead.kernel.settings import Settings
from fairlead.support import accounts, jobs, records
from fairlead.support.door import SupportDoor
from fairlead.support.job_routes import JobsDoor, router
from fairlead.support.model import Customer, JobKind, Language
from fairlead.support.records import Record
from fairlead.support.zendesk import read_installations
from fairlead.support.zendesk_api import Directory
from tests.api.conftest import served
from tests.support import desk_worker

# Forked from a process that has everything imported: a worker starts in a fraction of a second.
_IMPORTED = (
    "tests.support.desk_worker",
    "fairlead.support.access",
    "fairlead.support.answers.loop",
    "fairlead.support.screenings",
)
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(_IMPORTED))
PROJECT, INSTALLATION, TICKET = "web", "360001234567", "4711"
AGENT = f"zendesk:{INSTALLATION}:361507770001"
KEY = SigningKey(b"k" * 32)
PATIENCE_S = 120.0


def until(ask: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer of `ask`."""
    deadline = time.monotonic() + patience_s
    while True:
        if answer := ask():
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s"
        time.sleep(0.02)


@dataclass
class Desk:
    """Where jobs are asked for, and what comes of them."""

    folder: Path
    url: str
    database: Database
    runs: Runs
    objects: ObjectStore
    settings: Settings
    workers: list[ForkServerProcess] = field(default_factory=list)

    def with_customers(self, *customers: Customer) -> None:
        """Put `customers` on the project's list."""
        with self.database.transaction() as conn:
            for customer in customers:
                accounts.put_customer(conn, customer, actor="ann")

    def start(self, *events: str) -> ForkServerProcess:
        """A worker, which kills itself at each of `events` that none has died at yet."""
        args = (self.folder, self.url, self.settings, events)
        process = _processes.Process(target=desk_worker.main, args=args)
        process.start()
        self.workers.append(process)
        return process

    def stop(self) -> None:
        """Kill every worker."""
        for process in self.workers:
            process.kill()
            process.join()

    def submit(
        self,
        kind: JobKind,
        account: str,
        *,
        language: Language = Language.ENGLISH,
        ticket: str = TICKET,
        actor: str = AGENT,
        **details: Any,
    ) -> str:
        """The id of a new job of an agent."""
        with self.database.transaction() as conn:
            return jobs.submit(
                conn,
                self.runs,
                kind,
                accounts.customer(conn, PROJECT, account),
                actor=actor,
                language=language,
                installation=INSTALLATION,
                ticket=ticket,
                details=details,
            ).id

    def cancel(self, job: str) -> None:
        with self.database.transaction() as conn:
            self.runs.request_cancel(conn, job, AGENT)

    def ended(self, job: str, patience_s: float = PATIENCE_S) -> Run:
        """The run once it has ended."""
        try:
            until(lambda: self.runs.get(job).status.final, f"{job} ends", patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told(job)}\n{self.log()[-4000:]}") from None
        return self.runs.get(job)

    def keep_running(self, job: str, *events: str) -> Run:
        """The run once it has ended, with a new worker whenever the last one has died."""
        for _ in range(len(events) + 1):
            self._await_end(job, self.start(*events))
            if self.runs.get(job).status.final:
                break
        return self.ended(job)

    def _await_end(self, job: str, process: ForkServerProcess) -> None:
        until(
            lambda: self.runs.get(job).status.final or not process.is_alive(), "a worker dies or the job ends"
        )

    def told_when_ended(self, job: str) -> Mapping[str, Any]:
        """The data of the job's report, which it must come to."""
        run = self.ended(job)
        assert run.error is None, run.error
        return self.told(job, "report")[0]

    def secrets(self) -> tuple[str, ...]:
        """What must stand in no event, log or audit entry."""
        key = self.settings.aws.secret_access_key
        hub = self.settings.support.access.hub_external_id
        return tuple(secret.get_secret_value() for secret in (key, hub) if secret)

    def events(self, job: str) -> list[Event]:
        """Everything that was told of the job."""
        found: list[Event] = []
        while page := self.runs.events(job, after=found[-1].seq if found else 0):
            found += page
        return found

    def told(self, job: str, kind: str | None = None) -> list[Mapping[str, Any]]:
        """The data of the job's own events, of one kind or with their kind as `_`."""
        ours = [event for event in self.events(job) if event.type.startswith("support.")]
        if kind is not None:
            return [event.data for event in ours if event.type == f"support.{kind}"]
        return [{"_": event.type.removeprefix("support."), **event.data} for event in ours]

    def record(self, job: str) -> Record:
        with self.database.reading() as conn:
            return records.by_id(conn, job)

    def records(self) -> tuple[Record, ...]:
        with self.database.reading() as conn:
            return records.page(conn, PROJECT)

    def audited(self, action: str | None = None) -> list[audit.Entry]:
        with self.database.reading() as conn:
            return audit.entries(conn, action=action, limit=1000)

    def files(self, job: str = "") -> dict[str, bytes]:
        """Every object that is stored, or those of one job, by key."""
        root = self.folder / "objects"
        # Whoever is killed while writing leaves `name#number`, which is no object.
        found = [path for path in root.rglob("*") if path.is_file() and "#" not in path.name]
        return {str(path.relative_to(root)): path.read_bytes() for path in found if job in str(path)}

    def log(self) -> str:
        path = self.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def opened_desk(folder: Path, url: str, settings: Settings) -> Iterator[Desk]:
    """A desk over the database at `url`, which has all tables; its workers end with the block."""
    database = open_database(url)
    runs = open_runs(database)
    with database.transaction() as conn:
        user = users.create_user(conn, username="ann", password_hash="!", is_admin=False)
        projects.create(
            conn,
            project_id=PROJECT,
            name="Web",
            description="",
            settings=ProjectSettings(),
            owner=Actor(user_id=user.id, username="ann", is_admin=False),
        )
    objects = open_objects((folder / "objects").absolute().as_uri())
    desk = Desk(folder, url, database, runs, objects, settings)
    try:
        yield desk
    finally:
        desk.stop()
        runs.close()
        database.close()


@contextmanager
def serving(desk: Desk) -> Iterator[tuple[JobsDoor, httpx2.Client]]:
    """The HTTP door of jobs over `desk`, behind a real server."""
    door = JobsDoor(
        support=SupportDoor(
            database=desk.database,
            key=KEY,
            settings=desk.settings.support,
            installations=read_installations(desk.settings.support.installations),
            directory=Directory(),
            app_files={},
        ),
        runs=desk.runs,
        objects=desk.objects,
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    app = build_app(database=desk.database, signing_key=KEY, runs=desk.runs, routers=[router(door)])
    with served(app) as url, httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield door, client
    structlog.reset_defaults()
