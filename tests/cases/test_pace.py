"""What keeps the pipeline quick: whose turn it is, what is not read twice, and who is woken when."""

import asyncio
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from fairlead.cases import gpus, pictures
from fairlead.cases.detached import DetachedExecutor
from fairlead.cases.ends import Ends
from fairlead.cases.folders import CaseNotFound
from fairlead.cases.intake import Stability
from fairlead.cases.jobs import JobSpec, JobState
from fairlead.cases.local import LocalHost
from fairlead.cases.machine import Machine
from fairlead.cases.pictures import GAMMA_COLOURS, Slice, Wash
from fairlead.cases.steps.port import Turns
from fairlead.cases.steps.readings import Readings
from fairlead.cases.steps.waiters import Waiters
from fairlead.kernel.runs.context import RunContext, Shift
from fairlead.kernel.runs.locks import Locks
from tests.cases.case_worker import PROJECT
from tests.cases.clinic import opened

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG_S = 600.0  # a test that is not woken would not end in time


async def _in_turn(turns: Turns, ages: dict[str, int], done: list[str]) -> dict[str, asyncio.Task[None]]:
    """Tasks that wait for their turn; `ages` are the seconds at which they were made."""

    async def work(name: str, since: datetime) -> None:
        async with turns.turn(since):
            done.append(name)

    tasks = {
        name: asyncio.create_task(work(name, START + timedelta(seconds=age))) for name, age in ages.items()
    }
    await asyncio.sleep(0)
    return tasks


async def test_the_oldest_case_goes_first_whoever_came_first() -> None:
    turns, done = Turns(1), list[str]()
    async with turns.turn(START):
        tasks = await _in_turn(turns, {"young": 30, "old": 10, "as old": 10, "middle": 20}, done)
        assert done == []
    await asyncio.gather(*tasks.values())
    assert done == ["old", "as old", "middle", "young"]


async def test_who_is_cancelled_takes_nobodys_turn() -> None:
    turns, done = Turns(1), list[str]()
    async with turns.turn(START):
        tasks = await _in_turn(turns, {"first": 1, "second": 2, "third": 3}, done)
        tasks["first"].cancel()  # while it waits
        await asyncio.sleep(0)
    tasks["second"].cancel()  # it was called, and has not begun
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert done == ["third"]
    async with turns.turn(START):
        done.append("free again")
    assert done == ["third", "free again"]


async def test_as_many_go_at_once_as_there_is_room_for() -> None:
    turns, done = Turns(2), list[str]()
    async with turns.turn(START):
        await asyncio.gather(*(await _in_turn(turns, {"one": 1, "other": 2}, done)).values())
    assert done == ["one", "other"]


def test_a_copy_is_read_once_and_again_when_a_file_of_it_changes(case: Path, machines: Machine) -> None:
    readings = Readings()
    first = readings.examined(case, machines)
    assert first.valid
    assert readings.examined(case, machines) is first
    log = next(case.glob("*/*.ptn"))
    log.write_bytes(log.read_bytes()[:-1])
    again = readings.examined(case, machines)
    assert again is not first
    assert not again.valid
    log.unlink()
    assert {violation.rule for violation in readings.examined(case, machines).violations} == {"log.missing"}


def test_a_file_of_the_same_size_written_later_is_a_change(case: Path, machines: Machine) -> None:
    readings = Readings()
    first = readings.examined(case, machines)
    log = next(case.glob("*/*.ptn"))
    os.utime(log, (4e9, 4e9))
    assert readings.examined(case, machines) is not first


def test_what_was_read_is_forgotten_when_asked_and_when_there_is_too_much(
    case: Path, clean_case: Path, machines: Machine
) -> None:
    readings = Readings()
    first = readings.examined(case, machines)
    readings.forget(case)
    readings.forget(case)
    assert readings.examined(case, machines) is not first
    assert first.ct is not None
    one = Readings(int(1.9 * first.ct.values.nbytes))
    first, other = one.examined(case, machines), one.examined(clean_case, machines)
    assert one.examined(clean_case, machines) is other
    assert one.examined(case, machines) is not first
    none = Readings(0)
    assert none.examined(case, machines) is not none.examined(case, machines)


def test_a_copy_that_is_gone_is_no_case(tmp_path: Path, machines: Machine) -> None:
    with pytest.raises(CaseNotFound):
        Readings().examined(tmp_path / "gone", machines)


async def test_whoever_waits_for_a_job_is_woken_by_its_end_and_by_no_others(tmp_path: Path) -> None:
    ends, jobs = Ends(LocalHost("here", str(tmp_path))), tmp_path / "jobs"
    for name in ("one", "other", "with.dots-and_more"):
        (jobs / name).mkdir(parents=True)
    waiting = {name: asyncio.create_task(ends.wait(name, LONG_S)) for name in ("one", "other")}
    twice = asyncio.create_task(ends.wait("one", LONG_S))
    await asyncio.sleep(0)
    (jobs / "one" / "rc").touch()
    await asyncio.gather(waiting["one"], twice)
    assert not waiting["other"].done()
    (jobs / "other" / "rc").touch()
    await waiting["other"]
    (jobs / "with.dots-and_more" / "rc").touch()
    await ends.wait("with.dots-and_more", LONG_S)  # it had ended before


async def test_who_is_not_woken_looks_again_by_himself(tmp_path: Path) -> None:
    for folder in ("missing", "there"):
        (tmp_path / "there" / "jobs" / "one").mkdir(parents=True, exist_ok=True)
        ends = Ends(LocalHost("here", str(tmp_path / folder)))
        await ends.wait("one", 0.01)
        await ends.wait("one", 0.7)  # its script has ended by then, and found nothing


async def test_the_end_of_a_job_is_seen_without_waiting_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.cases.detached.POLL_WOKEN_S", LONG_S)
    executor = DetachedExecutor(LocalHost("here", str(tmp_path / "root")))
    gate = tmp_path / "gate"
    script = f"until [ -e {gate} ]; do sleep 0.02; done"
    ref = await executor.submit(JobSpec(name="gated", argv=("sh", "-c", script), working_dir="/"))
    looked = asyncio.Event()

    async def look(_: object) -> None:
        looked.set()

    waiting = asyncio.create_task(executor.wait(ref, LONG_S, look))
    await looked.wait()
    gate.touch()
    assert (await waiting).state is JobState.SUCCEEDED


@pytest.fixture
def ctx(tmp_path: Path, sqlite_template: Path) -> Iterator[RunContext]:
    """A run of a clinic's database."""
    with opened(tmp_path, sqlite_template) as clinic:
        with clinic.database.transaction() as conn:
            run = clinic.runs.submit(conn, "cases.case", {}, project_id=PROJECT, actor="a", title="t")
        yield RunContext(run, Shift(clinic.runs, Locks(clinic.database)))


def _lease(conn: sa.Connection, holder: str, slot: str) -> None:
    values = {"host": "h", "slot": slot, "holder": holder, "project_id": PROJECT, "expires_at": START}
    conn.execute(sa.insert(gpus.leases_table).values(**values))


async def test_a_beam_that_waits_is_woken_by_a_place_of_its_own_and_when_its_run_is_to_stop(
    ctx: RunContext,
) -> None:
    waiters = Waiters()
    first, other = (asyncio.create_task(waiters.wait(ctx, job, LONG_S)) for job in ("first", "other"))
    await ctx.shift.in_transaction(lambda conn: _lease(conn, "nobody here", "cpu-0"))
    await ctx.shift.in_transaction(lambda conn: _lease(conn, "first", "cpu-1"))
    await first
    assert not other.done()
    await ctx.shift.in_transaction(lambda conn: ctx.runs.request_cancel(conn, ctx.run_id, "a"))
    await other


async def test_a_beam_that_waits_is_woken_by_name_or_with_all_others_or_by_its_own_time(
    ctx: RunContext,
) -> None:
    waiters = Waiters()
    tasks = [asyncio.create_task(waiters.wait(ctx, job, LONG_S)) for job in ("a", "b", "c")]
    await asyncio.sleep(0)
    waiters.wake({"b", "unknown"})
    await tasks[1]
    assert not tasks[0].done()
    waiters.wake()
    await asyncio.gather(*tasks)
    await waiters.wait(ctx, "d", 0.0)


@pytest.mark.parametrize(
    ("seen_at", "now", "soonest"),
    [
        pytest.param([], 100.0, None, id="nothing is on its way"),
        pytest.param([100.0], 100.0, 30.0, id="seen just now"),
        pytest.param([100.0, 110.0], 115.0, 15.0, id="the first of two"),
        pytest.param([100.0, 110.0], 135.0, 5.0, id="one is past its window: it vanished, or cannot be read"),
        pytest.param([100.0], 130.0, None, id="all are past their windows"),
    ],
)
def test_the_next_scan_comes_when_the_next_case_may_be_stable(
    seen_at: list[float], now: float, soonest: float | None
) -> None:
    clock = [0.0]
    stability = Stability(30.0, now=lambda: clock[0])
    for number, moment in enumerate(seen_at):
        clock[0] = moment
        stability.is_stable(str(number), "seen")
    clock[0] = now
    assert stability.soonest_s() == soonest


def _plane(values: np.ndarray) -> Slice:
    return Slice(
        values.astype(np.float32), np.linspace(-30.0, 30.0, values.shape[1]),
        np.linspace(-20.0, 20.0, values.shape[0]), ("x", "y"),
    )  # fmt: skip


def test_a_slice_shows_ct_where_nothing_is_known_and_the_scales_colours_where_something_is() -> None:
    ct = _plane(np.full((5, 7), -300.0))
    values = np.full((5, 7), np.nan)
    values[:, :3] = 2.0
    wash = Wash(0.0, 2.0, GAMMA_COLOURS, "gamma", opacity=0.5)
    png = pictures.slice_png(pictures.ground(ct), _plane(values), wash, title="t", subtitle="s")
    image = Image.open(io.BytesIO(png))
    image.load()
    assert (image.mode, image.size) == ("RGB", (1120, 1060))
    assert image.getpixel((2 * 430, 2 * 200)) == (70, 70, 70)  # -300 HU
    found = np.array(image.getpixel((2 * 100, 2 * 200)))
    assert np.abs(found - (np.array(GAMMA_COLOURS[-1]) + 70) / 2).max() <= 1.0
    assert image.getpixel((1110, 1050)) == pictures.PAPER


def test_what_is_drawn_smoothly_stays_inside_and_leaves_the_rest_as_it_was() -> None:
    figure = pictures.Figure(100, 80, "t")
    before = np.asarray(Image.open(io.BytesIO(figure.png())))
    with figure.smooth((50, 40, 90, 70)):
        figure.line([(0, 0), (100, 80)], pictures.BAD, 2.0)
    after = np.asarray(Image.open(io.BytesIO(figure.png())))
    changed = np.argwhere((before != after).any(axis=2))
    assert (changed >= [80, 100]).all()
    assert (changed < [140, 180]).all()
    shades = {tuple(after[row, column]) for row, column in changed}
    assert tuple(pictures.BAD) in shades
    assert len(shades) > 2  # its edge is no staircase
