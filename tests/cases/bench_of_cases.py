"""A real API server with cases of every kind in its database, that no worker touches."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI

from fairlead.api.app import build_app
from fairlead.cases import gpus, intake, store
from fairlead.cases.gpus import Gpu
from fairlead.cases.routes import CasesDoor, router
from fairlead.cases.store import BeamStatus, CaseStatus
from fairlead.cli.client import Client, Credentials
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.objects import open_objects
from fairlead.kernel.projects import accounts, sessions
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings, Role
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Runs, open_runs
from fairlead.kernel.settings import CaseHostSettings
from tests.api.conftest import served

KEY = SigningKey(b"k" * 32)
PROJECT = "clinic"
PATIENT = "Doe^Jane-4711"
HOSTS = (
    CaseHostSettings(name="gpu-1", work_dir="/scratch", gpus=1),
    CaseHostSettings(name="cpu-1", work_dir="/scratch", slots=3),
)
PROBLEM = {
    "code": "cases.beams_failed",
    "detail": "1 of the case's beams could not be calculated: its job ended as failed [exit code 1]",
    "remedy": "Read the output of job c-b2-a3 on that host; then retry the case.",
}
VIOLATION = {
    "rule": "log.truncated",
    "file": "2026011209300000/layer 5.ptn",
    "field": "row 412",
    "message": "6599 bytes are no whole number of 16-byte rows: the file is truncated",
}


@dataclass
class Bench:
    """The server, and hands on its database."""

    app: FastAPI
    database: Database
    runs: Runs
    tokens: dict[str, str]
    url: str = ""

    def client(self, who: str = "root", *, url: str | None = None) -> Client:
        return Client(Credentials(url or self.url, self.tokens[who]), keep=False)

    def set(self, number: int, **values: Any) -> None:
        with self.database.transaction() as conn:
            store.update_case(conn, store.by_number(conn, PROJECT, number).id, utc_now(), **values)

    def case(self, number: int) -> store.CaseRecord:
        with self.database.reading() as conn:
            return store.by_number(conn, PROJECT, number)

    def happened(self, number: int, kind: str, **data: Any) -> None:
        """An event of the case's run."""
        run = str(self.case(number).run_id)
        with self.database.transaction() as conn:
            key = f"{kind}:{json.dumps(data, sort_keys=True)}"
            self.runs.append_event(conn, run, kind, data, key)

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """The API at a URL while the block is open."""
        with served(self.app, port) as url:
            self.url = url
            yield url


@contextmanager
def bench(database: Database, folder: Path) -> Iterator[Bench]:
    """Six cases: running, two waiting, passed, failed its rules, failed. Nothing is served yet."""
    with ExitStack() as stack:
        runs = open_runs(database)
        stack.callback(runs.close)
        tokens = {}
        with database.transaction() as conn:
            for name in ("root", "olga", "vera"):
                user = accounts.create_user(conn, username=name, password_hash="!", is_admin=name == "root")
                tokens[name] = sessions.open_session(conn, KEY, user).access_token
            owner = accounts.find_user(conn, "olga")
            actor = Actor(user_id=owner.id, username="olga", is_admin=False)
            about: dict[str, Any] = {"name": "Clinic", "description": "", "settings": ProjectSettings()}
            project = projects.create(conn, project_id=PROJECT, owner=actor, **about)
            projects.set_member(conn, project, accounts.find_user(conn, "vera"), Role.VIEWER)
            for number in range(1, 7):
                found = intake.Found(
                    project_id=PROJECT, folder=folder / PATIENT / str(number), source=f"s{number}",
                    seen="1", content="1", identity=f"i{number}",
                )  # fmt: skip
                assert intake.take(conn, runs, found) == "new"
        door = CasesDoor(
            database=database, runs=runs, objects=open_objects((folder / "objects").as_uri()), hosts=HOSTS
        )
        app = build_app(database=database, signing_key=KEY, runs=runs, routers=[router(door)])
        made = Bench(app, database, runs, tokens)
        _furnish(made)
        yield made


def _furnish(made: Bench) -> None:
    now = utc_now()
    made.set(1, status=CaseStatus.RUNNING, step="run", progress=0.46, host="gpu-1")
    made.set(3, priority=5, status=CaseStatus.WAITING, step="group", progress=0.08)
    checks = [{"name": "gamma 3 %/3 mm", "found": "99.21 %", "limit": "95 %", "passed": True}]
    done = {"status": CaseStatus.COMPLETED, "step": "done", "progress": 1.0}
    made.set(
        4, **done, finished_at=now - timedelta(minutes=9), verdict="pass", pass_rate=99.21,
        result={"checks": checks}, host="cpu-1",
    )  # fmt: skip
    made.set(5, **done, finished_at=now - timedelta(minutes=4), verdict="fail", violations=[VIOLATION])
    failed = {"status": CaseStatus.FAILED, "step": "run", "progress": 0.5, "problem": PROBLEM}
    made.set(6, **failed, finished_at=now - timedelta(minutes=2), host="cpu-1")
    for step in ("validate", "group", "interpret", "transfer"):
        made.happened(1, "case.step", step=step, state="begun")
        made.happened(1, "case.step", step=step, state="done", progress=0.25)
    with made.database.transaction() as conn:
        _beams(conn, store.by_number(conn, PROJECT, 1))
        cards = [
            Gpu(
                uuid=f"GPU-{n}", index=n, name="H200 SXM", memory_total_mb=143771,
                memory_used_mb=20480 * (1 - n), temperature_c=41, utilisation_percent=97 * (1 - n),
            )
            for n in (0, 1)
        ]  # fmt: skip
        seen = [{name: getattr(card, name) for name in Gpu.__slots__} for card in cards]
        store.update_host(conn, "gpu-1", now, gpus=seen, looked_at=now - timedelta(seconds=4))
        problem = {"code": "cases.host_unreachable", "detail": "No connection to host cpu-1.", "remedy": "x"}
        store.update_host(conn, "cpu-1", now, looked_at=now - timedelta(minutes=11), problem=problem)
        store.update_scan(
            conn, PROJECT, tried_at=now, scanned_at=now - timedelta(seconds=3), unstable=1, problem=None
        )


def _beams(conn: sa.Connection, case: store.CaseRecord) -> None:
    now = utc_now()
    store.plan_beams(conn, case.id, 1, [2, 3], now)
    job = store.job_name(case.id, 1, 2, 1)
    for holder, project, places in ((job, PROJECT, 1), ("c0000000000000000-r1-b1-a1", "other", 0)):
        wanted = gpus.Request(
            holder=holder, project_id=project, gpus=places, priority=0, since=now,
            hosts=("gpu-1" if places else "cpu-1",),
        )  # fmt: skip
        gpus.enqueue(conn, wanted, now)
        there = [gpus.Slots(host="gpu-1", gpus=("GPU-0", "GPU-1")), gpus.Slots(host="cpu-1", cpu_jobs=3)]
        assert gpus.claim(conn, holder, there, now)
    store.update_beam(
        conn, case.id, 1, 2, status=BeamStatus.RUNNING, attempt=1, host="gpu-1", gpus=["GPU-0"], job=job,
        started_at=now - timedelta(seconds=95),
    )  # fmt: skip
    store.update_beam(conn, case.id, 1, 2, progress=0.4)


def main() -> None:
    """Serve the bench for somebody who looks: prints address and token, ends with standard input."""
    import tempfile

    from fairlead.kernel.db import migrate, open_database

    telemetry.configure(level="warning")
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/fairlead.db")
        migrate(database)
        open_runs(database).close()
        with bench(database, Path(folder)) as made, made.serving(int(sys.argv[1])) as url:
            print(json.dumps({"url": url, "token": made.tokens["root"]}), flush=True)
            sys.stdin.read()
        database.close()


if __name__ == "__main__":
    main()
