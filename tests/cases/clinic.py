"""A clinic in a folder: scan folder, database, project, and worker processes that can be killed."""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from fairlead.cases import store
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.projects import accounts
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings
from fairlead.kernel.runs import Runs, open_runs
from tests.cases import case_worker
from tests.cases.case_worker import PROJECT, case_settings

# Forked from a process that has everything imported: a worker starts in a fraction of a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.cases.case_worker"])

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
class Clinic:
    """Where cases are put, and what comes of them."""

    folder: Path
    database: Database
    runs: Runs
    workers: list[ForkServerProcess] = field(default_factory=list)

    @property
    def scan(self) -> Path:
        return self.folder / "scan"

    def put(self, case: Path, name: str = "SYN000001") -> Path:
        """A copy of `case` in the scan folder; the ready marker last, as senders do."""
        target = self.scan / name
        shutil.copytree(case, target, ignore=shutil.ignore_patterns("_CASE_READY"))
        (target / "_CASE_READY").touch()
        return target

    def start(self, *events: str, ahead_s: float = 0.0) -> ForkServerProcess:
        """A worker, which kills itself at each of `events` that none has died at yet.

        `ahead_s`: by how much its clock is wrong.
        """
        process = _processes.Process(target=case_worker.main, args=(self.folder, events, ahead_s))
        process.start()
        self.workers.append(process)
        return process

    def keep_running(self, *events: str, number: int = 1) -> store.CaseRecord:
        """The case once it has ended, with a new worker whenever the last one has died."""
        for _ in range(len(events) + 1):
            process = self.start(*events)
            self._await_end(process, number)
            if self._has_ended(number):
                break
        return self.ended(number)

    def _await_end(self, process: ForkServerProcess, number: int) -> None:
        until(lambda: self._has_ended(number) or not process.is_alive(), "a worker dies or the case ends")

    def _has_ended(self, number: int) -> bool:
        case = self.case(number)
        return case is not None and case.status.final

    def log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")

    def cases(self) -> list[store.CaseRecord]:
        with self.database.reading() as conn:
            return store.list_cases(conn, PROJECT, status=None, before=None, limit=100)

    def case(self, number: int = 1) -> store.CaseRecord | None:
        return next((case for case in self.cases() if case.number == number), None)

    def ended(self, number: int = 1, round_: int = 1) -> store.CaseRecord:
        """The case once its round has ended."""

        def look() -> store.CaseRecord | None:
            case = self.case(number)
            return case if case and case.round >= round_ and case.status.final else None

        try:
            found: store.CaseRecord = until(look, f"case {number} ends")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.case(number)}\n{self.log()[-4000:]}") from None
        return found

    def events(self, run_id: str | None) -> list[tuple[str, dict[str, Any]]]:
        assert run_id
        return [(event.type, event.data) for event in self.runs.events(run_id)]

    def jobs(self) -> list[str]:
        """Names of all jobs that were ever started on the host and not cleaned up."""
        folder = self.folder / "host" / "jobs"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@contextmanager
def opened(
    folder: Path, database_file: Path | None, *, database_url: str = "", **settings: Any
) -> Iterator[Clinic]:
    """A clinic over a copy of `database_file`, which has all tables, or over `database_url`.

    Its workers end with the block.
    """
    (folder / "scan").mkdir()
    if database_file is not None:
        shutil.copy(database_file, folder / "fairlead.db")
        database_url = f"sqlite:///{folder / 'fairlead.db'}"
    (folder / "database").write_text(database_url)
    (folder / "settings.json").write_text(case_settings(folder, **settings).model_dump_json())
    database = open_database(database_url)
    runs = open_runs(database)
    with database.transaction() as conn:
        user = accounts.create_user(conn, username="ann", password_hash="!", is_admin=False)
        projects.create(
            conn,
            project_id=PROJECT,
            name="Clinic",
            description="",
            settings=ProjectSettings(),
            owner=Actor(user_id=user.id, username="ann", is_admin=False),
        )
    clinic = Clinic(folder, database, runs)
    try:
        yield clinic
    finally:
        for process in clinic.workers:
            process.kill()
            process.join()
        runs.close()
        database.close()
