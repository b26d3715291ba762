"""Beams of this worker that wait for a place on a host: one look at the database for all of them.

Each looking by itself, hundreds of them would keep a core busy.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from fairlead.cases import gpus
from fairlead.kernel.runs import RunContext
from fairlead.kernel.runs import store as run_store

LOOK_S = 1.0


class Waiters:
    """Wakes a beam that was given a place, by whatever worker, and one whose run is to stop."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._waiting: dict[str, tuple[str, asyncio.Event]] = {}  # by job: its run, and what wakes it
        self._looking: asyncio.Task[None] | None = None

    def wake(self, jobs: Collection[str] | None = None) -> None:
        """Have these jobs look at once, or all of them."""
        for job, (_, woken) in self._waiting.items():
            if jobs is None or job in jobs:
                woken.set()

    async def wait(self, ctx: RunContext, job: str, timeout_s: float) -> None:
        """Return when `job` has a lease, when its run is to stop, when it is woken, or after `timeout_s`."""
        woken = asyncio.Event()
        self._waiting[job] = (ctx.run_id, woken)
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(ctx))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await woken.wait()
        finally:
            self._waiting.pop(job, None)

    async def _look(self, ctx: RunContext) -> None:
        await asyncio.sleep(LOOK_S)
        while self._waiting:
            runs = {job: run for job, (run, _) in self._waiting.items()}

            def due(conn: sa.Connection, runs: Mapping[str, str] = runs) -> set[str]:
                return _due(conn, runs)

            self.wake(await ctx.shift.in_transaction(due, reading=True))
            await asyncio.sleep(LOOK_S)


def _due(conn: sa.Connection, runs: Mapping[str, str]) -> set[str]:
    """Which of these jobs (each with its run) have a lease, or a run that is to stop."""
    leased = {lease.holder for lease in gpus.leases(conn)}
    stopping = run_store.cancel_requested_of(conn, set(runs.values()))
    return {job for job, run in runs.items() if job in leased or run in stopping}
