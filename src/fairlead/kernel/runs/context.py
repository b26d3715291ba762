"""What a workflow may do. The same history gives the same calls: every effect is a step.

A workflow is executed again from its first line after a crash; recorded steps answer from the
record. So between steps it must not ask the clock, chance or the world, and a step, which a
crash may cut short and repeat, must be idempotent.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, DatabaseFull, DatabaseReadOnly
from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.runs import binding, dag, store
from fairlead.kernel.runs.errors import RunCancelled, RunInternal, StepFailed
from fairlead.kernel.runs.locks import Locks
from fairlead.kernel.runs.model import Json, NodeOutcome, NodeStatus, Run
from fairlead.kernel.runs.service import CANCEL_MESSAGE, Runs

T = TypeVar("T")
LOCK_POLL_S = 0.1
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 5.0


class Shift:
    """What the runs of one worker share; once it ends, no further step begins."""

    def __init__(self, runs: Runs, locks: Locks) -> None:
        self.runs = runs
        self.locks = locks
        self.ending = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.steps = 0  # in progress
        self.idle = asyncio.Event()  # set while no step is in progress
        self.idle.set()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something that must not be cut short, its record included, is going on."""
        self.steps += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.steps -= 1
            if not self.steps:
                self.idle.set()

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step, its record included. Raises CancelledError once the shift ends: it begins elsewhere."""
        if self.ending:
            raise asyncio.CancelledError
        with self.busy():
            yield

    async def in_transaction(self, act: Callable[[sa.Connection], T], *, reading: bool = False) -> T:
        """`act(connection)` committed, in a thread; repeated for as long as the database is away.

        Without the database a run can neither go on nor fail: nobody would know. Waiting loses nothing.
        """
        pause_s = RETRY_FIRST_S
        while True:
            try:
                return await asyncio.to_thread(_transact, self.runs.database, act, reading)
            except (Unavailable, DatabaseFull, DatabaseReadOnly) as error:
                telemetry.log.warning("run.database_away", code=error.code)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MOST_S)


def _transact(database: Database, act: Callable[[sa.Connection], T], reading: bool) -> T:
    with database.reading() if reading else database.transaction() as connection:
        return act(connection)


class RunContext:
    """One run, as its workflow sees it."""

    def __init__(self, run: Run, shift: Shift) -> None:
        self.run = run
        self.shift = shift
        self._waits = 0

    @property
    def run_id(self) -> str:
        """The run's id: stable, so a good seed for external names and client tokens."""
        return self.run.id

    @property
    def project_id(self) -> str | None:
        """The project that the run belongs to."""
        return self.run.project_id

    @property
    def actor(self) -> str:
        """Who asked for it."""
        return self.run.actor

    @property
    def runs(self) -> Runs:
        """To submit further runs, inside a step, with a `run_id` derived from this run's."""
        return self.shift.runs

    async def step(self, name: str, act: Callable[..., Awaitable[Json]], *args: Any) -> Any:
        """`await act(*args)`, recorded: its result as JSON gives it back, also on the first execution.

        Raises StepFailed, whose `code` is that of the error in the step; an unexpected one is
        logged and becomes `run.internal`.
        """
        with self.shift.step():
            return _opened(await binding.recorded_step(name, lambda: self._recorded(act, args)))

    async def event(self, type_: str, data: Mapping[str, Any], *, key: str) -> None:
        """Append to the run's stream, once per `key`; from the workflow or inside a step."""
        frozen = dict(data)
        await self.shift.in_transaction(lambda c: store.append(c, self.run_id, type_, frozen, key))

    async def cancelled(self) -> bool:
        """Whether the run was asked to stop, now. Only inside steps: the answer is not recorded."""
        return await self.shift.in_transaction(lambda c: store.cancel_requested(c, self.run_id), reading=True)

    async def check_cancelled(self) -> None:
        """Raise RunCancelled where the run was asked to stop. Between steps: the answer is recorded."""
        if await self.step("cancelled?", self.cancelled):
            raise RunCancelled

    async def wait_for(self, topic: str, deadline: datetime) -> dict[str, Any] | None:
        """The next message that `decide` sent on `topic`, or None once `deadline` has passed.

        The deadline holds across restarts as it was when first asked. Raises RunCancelled where
        the run is asked to stop meanwhile. Only in operations that are not partitioned.
        """
        self._waits += 1
        key = f"wait:{self._waits}"

        await self.shift.in_transaction(lambda c: self.runs.wait(c, self.run_id, topic, deadline, key))
        message = await binding.receive(topic, max(0.0, (deadline - utc_now()).total_seconds()))
        if message == CANCEL_MESSAGE:
            raise RunCancelled
        await self.shift.in_transaction(
            lambda c: store.resume(c, self.run_id, topic, f"{key}:end", expired=message is None)
        )
        return message if message is None else dict(message)

    @asynccontextmanager
    async def project_lock(self) -> AsyncIterator[None]:
        """Hold the project, on all workers together, around effects; waits until it is free.

        The queue alone is not enough: a slot is free as soon as a worker is taken for dead, this
        lock only once it is dead. Take it inside the workflow, never inside a step that waits.
        """
        name = f"project:{self.project_id}"
        while not await _take(self.shift.locks, name):  # noqa: ASYNC110 - others set no event of ours
            await asyncio.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            self.shift.locks.release(name)

    async def gather_dag(
        self,
        dependencies: Mapping[str, Collection[str]],
        run_node: Callable[[str, Mapping[str, Json]], Awaitable[Json]],
        *,
        parallelism: int,
        name: str = "node",
    ) -> dict[str, NodeOutcome]:
        """Run every node of a graph as a step, in parallel where `dependencies` allow it.

        `dependencies` maps each node to those that must succeed before it; `run_node(node,
        results)` gets their results. A failed node stops only what depends on it. Once the run is
        asked to stop, no further node begins. At most `parallelism` nodes run at once, smallest
        name first. After a crash only nodes that were in progress are run again.
        Raises ValueError on a cycle or an unknown node.
        """
        dag.check(dependencies)
        # Steps are numbered in the order of these calls, which must be the same in every replay.
        places = {node: binding.reserve_step() for node in sorted(dependencies)}

        async def body(node: str, results: Mapping[str, Json]) -> Json:
            if await self.cancelled():
                raise RunCancelled
            return await run_node(node, results)

        async def run(node: str, results: Mapping[str, Json]) -> NodeOutcome:
            async def record() -> Any:
                return await self._recorded(body, (node, results))

            with self.shift.step():
                return _node_outcome(await places[node].run_async({"name": f"{name}:{node}"}, record))

        return await dag.run(dependencies, run, parallelism)

    async def _recorded(self, act: Callable[..., Awaitable[Json]], args: tuple[Any, ...]) -> dict[str, Any]:
        try:
            return {"ok": store.plain(await act(*args))}
        except FairleadError as error:
            return {"problem": store.plain(error.problem())}
        except Exception as error:  # noqa: BLE001 - this is where a failure is recorded
            telemetry.log.error("step.failed", run_id=self.run_id, exc_info=error)
            return {"problem": RunInternal().problem()}
        except asyncio.CancelledError as error:
            if really_cancelled(self.shift):
                raise
            # Some library's scope leaked: nobody cancelled us, so nobody would go on with this run.
            telemetry.log.error("step.failed", run_id=self.run_id, exc_info=error)
            return {"problem": RunInternal().problem()}


async def _take(locks: Locks, name: str) -> bool:
    taking = asyncio.ensure_future(asyncio.to_thread(locks.take, name))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        # The thread goes on and may get the lock, for nobody.
        if await asyncio.shield(taking):
            locks.release(name)
        raise


def really_cancelled(shift: Shift) -> bool:
    """Whether the current task is being cancelled by somebody, or by the shift's end."""
    task = asyncio.current_task()
    return shift.ending or (task is not None and task.cancelling() > 0)


def _opened(recorded: dict[str, Any]) -> Any:
    if "problem" in recorded:
        raise StepFailed(recorded["problem"])
    return recorded["ok"]


def _node_outcome(recorded: dict[str, Any]) -> NodeOutcome:
    if "ok" in recorded:
        return NodeOutcome(status=NodeStatus.SUCCEEDED, result=recorded["ok"])
    problem = recorded["problem"]
    if problem["code"] == RunCancelled.code:
        return NodeOutcome(status=NodeStatus.CANCELLED)
    return NodeOutcome(status=NodeStatus.FAILED, problem=problem)
