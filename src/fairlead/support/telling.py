"""What a job says while it is at work: progress that never runs backwards, text that never comes twice.

Progress is coalesced here, at the source: at most two events a second, fewer in a long job, and one at least
every few seconds so that nobody has to wonder. A step that begins again after a crash goes on where the
stream stands: its percentages begin at the last one, and text that was told already is not told again.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.runs import RunContext
from fairlead.kernel.runs.store import run_events, runs
from fairlead.support.model import Language

STAGES = ("queued", "preparing", "collecting", "checking", "rendering", "storing", "done")
PROGRESS, DELTA = "support.progress", "support.delta"
APART_S = 0.5  # between two progress events
MOST_APART_S = 5.0  # in a job that has been going on for ten minutes: its stream must not grow for ever
HEARTBEAT_S = 5.0
TEXT_APART_S = 0.15  # between two pieces of text

_STILL = {
    Language.KOREAN: "진행 중 ({seconds}초 동안 새 소식 없음)",
    Language.ENGLISH: "still at work ({seconds} s without news)",
}


class Tell(Protocol):
    """Appends to a job's stream, once per `key`; `RunContext.event` is one."""

    async def __call__(self, type_: str, data: Mapping[str, Any], *, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Told:
    """How far a job's stream is."""

    seq: int = 0  # of its last event
    percent: int = 0
    stage: str = "queued"
    since_progress_s: float = math.inf
    age_s: float = 0.0  # of the job
    text: str = ""  # of all deltas


def told(conn: sa.Connection, run_id: str) -> Told:
    """How far the stream of `run_id` is."""
    now = utc_now()
    run = conn.execute(sa.select(runs.c.last_seq, runs.c.created_at).where(runs.c.id == run_id)).one()
    of_run = sa.select(run_events.c.data, run_events.c.at).where(run_events.c.run_id == run_id)
    last = conn.execute(
        of_run.where(run_events.c.type == PROGRESS).order_by(run_events.c.seq.desc()).limit(1)
    ).one_or_none()
    deltas = conn.execute(of_run.where(run_events.c.type == DELTA).order_by(run_events.c.seq))
    found = Told(
        seq=run.last_seq,
        age_s=(now - run.created_at).total_seconds(),
        text="".join(str(row.data["text"]) for row in deltas),
    )
    if last is None:
        return found
    return Told(
        seq=found.seq,
        age_s=found.age_s,
        text=found.text,
        percent=int(last.data["percent"]),
        stage=str(last.data["stage"]),
        since_progress_s=(now - last.at).total_seconds(),
    )


def merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` as the next progress after `before`: percent and stage are raised or left as they were."""
    percent = min(100, max(int(before["percent"]), int(given["percent"])))
    stage = max(str(before["stage"]), str(given["stage"]), key=STAGES.index)
    rest = {name: value for name, value in given.items() if value is not None}
    return {**rest, "percent": percent, "stage": stage}


def untold(known: str, text: str) -> str | None:
    """What of `text`, as far as it is, comes after `known`; None where it is another text than was begun."""
    if text.startswith(known):
        return text[len(known) :]
    return "" if known.startswith(text) else None


def apart_s(age_s: float) -> float:
    """How long after one progress event the next may come, in a job of this age."""
    return min(MOST_APART_S, max(APART_S, age_s / 120))


class Teller:
    """The voice of one execution of one step. Use `telling`."""

    def __init__(
        self, event: Tell, before: Told, language: Language, *, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        """`event` appends to the job's stream; `before` is what earlier steps and executions told."""
        self._event = event
        self._heartbeat_s = heartbeat_s
        self._before = before
        self._language = language
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._latest: dict[str, Any] = {"percent": before.percent, "stage": before.stage}
        self._dirty = False
        self._quiet_since = self._began  # when somebody last had news for us
        self._last_told = self._began
        self._last_progress = self._began - before.since_progress_s
        self._known, self._text = before.text, ""
        self._same = True  # whether this execution's text goes on where the stream's stands
        self._last_text = -math.inf
        self._number = 0
        self._wake = asyncio.Event()
        self._closed = False

    def progress(self, percent: float, stage: str, **more: Any) -> None:
        """`more`: `done`, `total`, `eta_s`, `note`. Told soon, or never where something newer comes first."""
        self._latest = merged(self._latest, {"percent": int(percent), "stage": stage, **more})
        self._dirty, self._quiet_since = True, self._loop.time()
        self._wake.set()

    def text(self, piece: str) -> None:
        """The next piece of the answer."""
        self._text += piece
        self._quiet_since = self._loop.time()
        self._wake.set()

    async def tell(self) -> None:
        """Tell what there is to tell, until `close`."""
        while True:
            await self._wait()
            if (piece := self._piece()) and (self._closed or self._text_due() <= self._loop.time()):
                await self._tell_text(piece)
            elif self._closed:
                return
            elif self._progress_due() <= self._loop.time():
                await self._tell_progress()

    async def finish(self, task: "asyncio.Task[None]", *, done: bool) -> None:
        """Tell the rest of the text and, if `done`, that everything is; then no more."""
        self._closed = True
        self._wake.set()
        await task
        if done:
            self._latest = merged(self._latest, {"percent": 100, "stage": "done"})
            await asyncio.sleep(max(0.0, self._last_progress + APART_S - self._loop.time()))
            await self._tell_progress()

    async def _wait(self) -> None:
        due = min(self._progress_due(), self._text_due() if self._piece() else math.inf)
        if self._closed or (left := due - self._loop.time()) <= 0:
            return
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._wake.wait()

    def _piece(self) -> str:
        rest = untold(self._known, self._text) if self._same else None
        self._same = rest is not None
        return rest or ""

    def _text_due(self) -> float:
        return self._last_text + TEXT_APART_S

    def _progress_due(self) -> float:
        if not self._dirty:
            return self._last_told + self._heartbeat_s
        return self._last_progress + apart_s(self._before.age_s + self._loop.time() - self._began)

    async def _tell_text(self, piece: str) -> None:
        # By its place in the text: whoever tells it again tells it once.
        await self._event(DELTA, {"text": piece}, key=f"delta:{len(self._known)}")
        self._known += piece
        self._last_text = self._last_told = self._loop.time()

    async def _tell_progress(self) -> None:
        now = self._loop.time()
        data = dict(self._latest)
        if not self._dirty and now - self._quiet_since >= self._heartbeat_s:
            still = _STILL[self._language].format(seconds=int(now - self._quiet_since))
            data["note"] = f"{data['note']} · {still}" if data.get("note") else still
        self._dirty = False
        self._number += 1
        # By where the stream stood when this execution began: a later one has other keys.
        await self._event(PROGRESS, data, key=f"progress:{self._before.seq}:{self._number}")
        self._last_progress = self._last_told = self._loop.time()


@asynccontextmanager
async def telling(ctx: RunContext, language: Language, *, done: bool = False) -> AsyncIterator[Teller]:
    """A teller for one step; `done`: where the block ends well, the job's work has ended."""
    before = await ctx.shift.in_transaction(lambda conn: told(conn, ctx.run_id), reading=True)
    teller = Teller(ctx.event, before, language)
    task = asyncio.create_task(teller.tell())
    try:
        yield teller
        await teller.finish(task, done=done)
    except Exception:
        await teller.finish(task, done=False)
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
