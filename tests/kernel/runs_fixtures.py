"""Worker processes, and conditions to wait for, shared by the tests of runs."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.runs import Run, Runs, RunStatus
from tests.kernel import runs_worker_program

T = TypeVar("T")
PATIENCE_S = 90.0


def until(ask: Callable[[], T | None], *, patience_s: float = PATIENCE_S) -> T:
    """The first answer of `ask` that is true."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain for {ask}"
        time.sleep(0.01)


def in_a_while(seconds: float = 3600.0) -> str:
    """A deadline, as parameters take it."""
    return (utc_now() + timedelta(seconds=seconds)).isoformat()


# Forked from a process that has everything imported: a worker starts in a fraction of a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pytest", "tests.kernel.runs_worker_program"])


@dataclass
class Bench:
    """A database, what its workers did, and hands to drive both."""

    url: str
    folder: Path
    database: Database
    runs: Runs
    workers: dict[str, ForkServerProcess] = field(default_factory=dict)
    ready: dict[str, Connection] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)

    def start_worker(self, **options: Any) -> str:
        """Start a worker process; give its executor id at once."""
        name = f"worker-{next(self.numbers)}"
        place = {"url": self.url, "folder": str(self.folder), "log": str(self.folder / f"{name}.log")}
        self.ready[name], ready = _processes.Pipe(duplex=False)
        process = _processes.Process(
            target=runs_worker_program.run, args=({**place, "executor_id": name, **options}, ready)
        )
        process.start()
        ready.close()
        self.workers[name] = process
        return name

    def await_ready(self) -> None:
        """Return when all workers execute runs."""
        for name in list(self.ready):
            connection = self.ready.pop(name)
            assert connection.poll(PATIENCE_S), self.log(name)
            assert connection.recv() == "ready"

    def log(self, name: str) -> str:
        """What the worker wrote to its log."""
        return (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """kill -9."""
        self.workers[name].kill()
        self.workers.pop(name).join()

    def stop(self, name: str) -> int:
        """SIGTERM; its exit code."""
        self.workers[name].terminate()
        return self.exit_code(name)

    def exit_code(self, name: str) -> int:
        """Of a worker that ends by itself."""
        process = self.workers.pop(name)
        process.join(PATIENCE_S)
        assert process.exitcode is not None, self.log(name)
        return process.exitcode

    def close(self) -> None:
        """Kill what is left."""
        for name in list(self.workers):
            self.kill(name)
        self.runs.close()
        self.database.close()

    def submit(self, operation: str, params: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Submit in a transaction of its own; the run's id."""
        options = {"project_id": "p1", "actor": "ann", **options}
        with self.database.transaction() as connection:
            return self.runs.submit(connection, f"test.{operation}", params or {}, **options).id

    def decide(
        self, run_id: str, message: Mapping[str, Any], *, topic: str = "decision", key: str = "1"
    ) -> None:
        """Send in a transaction of its own."""
        with self.database.transaction() as connection:
            self.runs.decide(connection, run_id, topic, message, idempotency_key=key)

    def cancel(self, run_id: str) -> Run:
        """Ask in a transaction of its own."""
        with self.database.transaction() as connection:
            return self.runs.request_cancel(connection, run_id, "bob")

    def await_status(self, run_id: str, status: RunStatus) -> Run:
        """The run, once it has this status."""

        def ask() -> Run | None:
            run = self.runs.get(run_id)
            if run.status.final and run.status is not status:
                raise AssertionError(f"ended otherwise: {run}")
            return run if run.status is status else None

        return until(ask)

    def effects(self, *words: str) -> list[str]:
        """Lines that workers wrote, those that begin with `words`."""
        path = self.folder / "effects"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[: len(words)] == list(words)]

    def open_gate(self, name: str) -> None:
        """Let go what waits for it."""
        (self.folder / name).touch()

    def types(self, run_id: str) -> list[str]:
        """Types of the run's events, in order."""
        return [event.type for event in self.runs.events(run_id)]


def at(line: str) -> float:
    """When an effect was noted, seconds since the epoch."""
    return float(line.rsplit("at=", 1)[1])


def moment(text: str) -> datetime:
    """An ISO moment."""
    return datetime.fromisoformat(text)
