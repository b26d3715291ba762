"""Finds dead workers and takes their runs over; ends this process once it may be taken for dead.

Every worker holds, for life, a lock named after its executor id. Whoever can take the lock of
an executor that holds runs in progress knows that it is dead. No table, no heartbeat, no clock.
Runs in a thread of its own, so that a blocked event loop neither delays nor hides it.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

from fairlead.kernel import telemetry
from fairlead.kernel.db import Database
from fairlead.kernel.runs import binding, locks, store
from fairlead.kernel.runs.errors import RunLost
from fairlead.kernel.runs.model import Outcome, RunStatus

LOCK_CHECK_S = 1.0  # how long a worker may go on without noticing that its lock is lost
# A worker that lost its session needs LOCK_CHECK_S to notice and die; until then it may still act.
SETTLE_S = 1.5
HANG_S = 60.0  # an event loop that does not answer for so long is taken for dead
EXIT_CODE = 70  # EX_SOFTWARE: a supervisor restarts us


WORKERS = "workers"
"""The lock that every worker shares."""


def workers_live(database: Database) -> bool:
    """Whether at least one worker lives, in any process."""
    return locks.held(database, WORKERS)


def lock_name(executor_id: str) -> str:
    """The lock that tells whether that executor lives."""
    return f"worker:{executor_id}"


class Liveness:
    """The thread; `start` and `stop` once."""

    def __init__(
        self,
        database: Database,
        held: locks.Locks,
        executor_id: str,
        *,
        interval_s: float,
        loop: asyncio.AbstractEventLoop,
        hang_s: float = HANG_S,
        die: Callable[[str], None] | None = None,
    ) -> None:
        """`die(reason)` ends the process; only tests pass another."""
        self._database = database
        self._locks = held
        self._executor_id = executor_id
        self._interval_s = interval_s
        self._loop = loop
        self._hang_s = hang_s
        self._die = die or end_process
        self._pause_s = min(LOCK_CHECK_S, interval_s)
        self._unanswered = 0  # questions to the event loop since its last answer
        self._other_versions: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlead-liveness", daemon=True)

    def start(self) -> None:
        """Begin; the first look at dead workers is at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has gone."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        next_look = 0.0
        while True:
            self._check_self()
            if time.monotonic() >= next_look:
                self._look_safely()
                next_look = time.monotonic() + self._interval_s
            if self._stopping.wait(self._pause_s):
                return

    def _check_self(self) -> None:
        if lost := self._locks.lost():
            self._die(f"lost locks: {', '.join(lost)}")
        # Counted, not clocked: neither a suspended machine nor a slow look of ours is a hung loop.
        if self._unanswered * self._pause_s > self._hang_s:
            self._die(f"the event loop has not answered for {self._hang_s:g} s")
        self._unanswered += 1
        with contextlib.suppress(RuntimeError):  # closed: it will not answer
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._unanswered = 0

    def _look_safely(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - the next look may succeed; a dead detector never does
            telemetry.log.warning("worker.liveness_failed", error=type(error).__name__)

    def look(self) -> None:
        """Take over what dead workers held; close runs that the engine gave up."""
        owners = binding.owners(self._database)
        for executor_id in sorted({owner.executor_id for owner in owners} - {self._executor_id}):
            self._take_over_if_dead(executor_id)
        self._report_other_versions(owners)
        for run_id in binding.abandoned(self._database):
            self._close(run_id)

    def _take_over_if_dead(self, executor_id: str) -> None:
        name = lock_name(executor_id)
        if not self._locks.take(name):
            return
        try:
            if not self._database.is_sqlite and self._stopping.wait(SETTLE_S):
                return
            binding.take_over(executor_id)
            telemetry.log.warning("worker.taken_over", executor_id=executor_id)
            telemetry.count("fairlead_workers_taken_over_total")
        finally:
            self._locks.release(name, for_good=True)

    def _report_other_versions(self, owners: tuple[binding.Owner, ...]) -> None:
        others = {
            owner.application_version: owner.runs
            for owner in owners
            if owner.application_version != binding.APPLICATION_VERSION
        }
        for version in others.keys() - self._other_versions:
            telemetry.log.error("run.other_version", version=version, runs=others[version])
        self._other_versions = set(others)

    def _close(self, run_id: str) -> None:
        binding.give_up(run_id)
        outcome = Outcome(status=RunStatus.FAILED, error=RunLost().problem())
        with self._database.transaction() as connection:
            if store.finish(connection, run_id, outcome):
                telemetry.log.error("run.lost", run_id=run_id)


def end_process(reason: str) -> None:
    """Exit at once, without clean-up: another worker may already own our runs."""
    telemetry.log.critical("worker.dies", reason=reason)
    sys.stderr.flush()
    os._exit(EXIT_CODE)
