"""What every step of the pipeline gets, and how it says what it did."""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from fairlead.cases import store
from fairlead.cases.machine import Machine
from fairlead.cases.places import Place
from fairlead.cases.steps.readings import Readings
from fairlead.cases.steps.waiters import Waiters
from fairlead.cases.store import CaseRecord
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.resilience import OutcomeUnknown
from fairlead.kernel.runs import RunCancelled, RunContext
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.settings import CasesSettings

T = TypeVar("T")
Json = Any
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 10.0
PATIENCE_S = 900.0  # with a host that does not answer
_AWAY = {"cases.host_unreachable", "cases.host_connection_lost", "call.breaker_open"}


class StepDeadline(FairleadError):
    """A step of the pipeline did not end in time."""

    code, status, retryable = "cases.step_deadline", 504, True


class FilesUnusable(FairleadError):
    """Files that a step of the pipeline needs on this machine cannot be read or written."""

    code, status, retryable = "cases.files_unusable", 507, True


class Turns:
    """Room for so many at once. The oldest goes first, whoever came first: a case that has begun is brought
    to its host, and to its verdict, before others begin, so that hosts get work soon and never run out of it.
    """

    def __init__(self, at_once: int) -> None:
        """Nobody waits yet."""
        self._free = at_once
        self._order = itertools.count()
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn(self, since: datetime) -> AsyncIterator[None]:
        """The block has a place; before it began, whoever waits with an earlier `since` had theirs."""
        if self._free:
            self._free -= 1
        else:
            await self._called(since)
        try:
            yield
        finally:
            self._pass_on()

    async def _called(self, since: datetime) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (since, next(self._order), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._pass_on()  # called and cancelled in the same moment
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, following = heapq.heappop(self._waiting)
            if not following.done():
                following.set_result(None)
                return
        self._free += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseParts:
    """What runs of `cases` need."""

    database: Database
    objects: ObjectStore
    machine: Machine
    places: Mapping[str, Place]
    settings: CasesSettings
    criteria: VerdictCriteria
    work: Path  # folder of ours on this machine; holds patient data, so mode 0700
    waiters: Waiters = field(default_factory=Waiters)
    calculating: Turns  # how many steps may use much memory and all of a core at once
    readings: Readings = field(default_factory=Readings)


@dataclass(frozen=True, slots=True)
class Work:
    """One round of one case, as its steps see it."""

    parts: CaseParts
    ctx: RunContext
    case_id: str
    round: int

    @property
    def name(self) -> str:
        """Stable, unique and without any identifier: for folders and jobs, here and on hosts."""
        return f"{self.case_id}-r{self.round}"

    @property
    def folder(self) -> Path:
        """This round's own folder on this machine."""
        return self.parts.work / self.name

    async def case(self) -> CaseRecord:
        """The case as it is now."""
        return await self.reading(lambda conn: store.by_id(conn, self.case_id))

    async def reading(self, act: Callable[[sa.Connection], T]) -> T:
        """`act` in a reading transaction."""
        return await self.ctx.shift.in_transaction(act, reading=True)

    async def change(
        self, event: str, data: Mapping[str, Any], *, key: str, act: Callable[[sa.Connection], T]
    ) -> T:
        """`act` and the event that tells of it, in one transaction; the event once per `key`."""

        def both(conn: sa.Connection) -> T:
            store.by_id(conn, self.case_id, lock=True)
            done = act(conn)
            self.ctx.runs.append_event(conn, self.ctx.run_id, event, data, key)
            return done

        return await self.ctx.shift.in_transaction(both)

    async def calculate(self, act: Callable[..., T], *args: Any) -> T:
        """`act(*args)` in a thread, when there is room for it."""
        async with self.parts.calculating.turn(self.ctx.run.created_at):
            return await asyncio.to_thread(act, *args)

    async def check_cancelled(self) -> None:
        """Raise RunCancelled where the run was asked to stop. Inside steps."""
        if await self.ctx.cancelled():
            raise RunCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. `run` may be executed again from its first line after a crash, or after a passing failure."""

    name: str
    run: Callable[[Work], Awaitable[Json]]
    deadline_s: float
    until: float  # progress of the case, 0 … 1, when it is done
    reattach: str  # what a second execution finds of the first


async def execute(step: Step, work: Work) -> Json:
    """The step within its deadline, tried again where it failed for a passing reason.

    Raises what the step raises last; StepDeadline where time ran out.
    """

    def begin(conn: sa.Connection) -> None:
        if run_store.cancel_requested(conn, work.ctx.run_id):
            raise RunCancelled
        store.update_case(conn, work.case_id, utc_now(), step=step.name)

    key = f"{step.name}:begun:{await _repeats(work, step)}"
    await work.change("case.step", {"step": step.name, "state": "begun"}, key=key, act=begin)
    with timed(step.name):
        result = await attempts(step.name, lambda: _in_time(step, work), work)
    await work.change(
        "case.step",
        {"step": step.name, "state": "done", "progress": step.until},
        key=f"{step.name}:done:{await _repeats(work, step)}",
        act=lambda conn: store.update_case(conn, work.case_id, utc_now(), progress=step.until),
    )
    return result


async def _repeats(work: Work, step: Step) -> int:
    """Which repetition this is: deliveries that arrive while a fraction is awaited repeat the first steps."""
    if step.name not in ("validate", "group"):
        return 0
    found = await work.reading(lambda conn: store.by_id(conn, work.case_id).content)
    return int(found[:8], 16)


async def attempts(name: str, act: Callable[[], Awaitable[T]], work: Work, *, heed_cancel: bool = True) -> T:
    """`act()`, repeated while it fails for a passing reason: as often as the settings say, and for
    PATIENCE_S where a host does not answer, which is no fault of the case.
    """
    pause_s, attempt, began = RETRY_FIRST_S, 0, time.monotonic()
    while True:
        try:
            return await act()
        except FairleadError as error:
            away = error.code in _AWAY and time.monotonic() - began < PATIENCE_S
            attempt += not away
            passing = error.retryable or isinstance(error, OutcomeUnknown)
            if not away and (not passing or attempt >= work.parts.settings.attempts):
                raise
            telemetry.count("fairlead_case_step_retries_total", labels={"step": name})
            telemetry.log.warning(
                "case.step_retried", case=work.case_id, step=name, code=error.code, attempt=attempt
            )
        await _pause(work, pause_s, heed_cancel=heed_cancel)
        pause_s = min(2 * pause_s, RETRY_MOST_S)


async def _pause(work: Work, pause_s: float, *, heed_cancel: bool) -> None:
    until = time.monotonic() + pause_s
    while (left := until - time.monotonic()) > 0:
        if heed_cancel:
            await work.check_cancelled()
        await asyncio.sleep(min(left, 0.5))


async def _in_time(step: Step, work: Work) -> Json:
    try:
        async with asyncio.timeout(step.deadline_s):
            return await step.run(work)
    except TimeoutError:
        raise StepDeadline(
            f"The step {step.name} did not end within {step.deadline_s:g} s.",
            remedy="See the log for what it waited for; then retry the case.",
        ) from None
    except OSError as error:
        # Its text, and a traceback with it, would hold a path, which may name the patient.
        raise FilesUnusable(
            f"The step {step.name} cannot use a file: {(error.strerror or type(error).__name__).lower()}.",
            remedy="Check room and permissions of the case folder and the work folder; then retry.",
        ) from None


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    """Measure the block as an execution of `step`."""
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "done"
    finally:
        labels = {"step": step, "outcome": outcome}
        telemetry.observe("fairlead_case_step_seconds", time.monotonic() - began, labels)
