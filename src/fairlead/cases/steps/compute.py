"""Calculate one beam on its host: find the job by its name, else start it; never twice where it is found."""

import asyncio
import contextlib
import re
import time
from typing import Any

import sqlalchemy as sa

from fairlead.cases import gpus, store
from fairlead.cases.jobs import JobDeadline, JobRef, JobSpec, JobState, JobStatus, Resources
from fairlead.cases.places import Place
from fairlead.cases.steps import queue
from fairlead.cases.steps.interpret import request_name
from fairlead.cases.steps.port import Work
from fairlead.cases.steps.transfer import place_of, remote_folder
from fairlead.cases.store import BeamRecord, BeamStatus
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import RunCancelled

RUN_FROM, RUN_UNTIL = 0.25, 0.75
EXIT_RETRYABLE = 75
_ERROR = re.compile(r"^[a-z]+\.[a-z_]+: .*$", re.MULTILINE)
_PROGRESS = re.compile(r"^progress (\d(?:\.\d+)?)$", re.MULTILINE)


class JobFailed(FairleadError):
    """The dose calculation of a beam ended without a result."""

    code, status, retryable = "cases.job_failed", 502, False


class JobLost(FairleadError):
    """The dose calculation of a beam vanished, or failed for a passing reason."""

    code, status, retryable = "cases.job_lost", 502, True


async def run(work: Work, beam: int) -> tuple[BeamRecord, JobStatus | None]:
    """The beam once its job has ended well, and how it ended where that was seen just now.

    Raises RunCancelled (the job was stopped), JobFailed, JobLost.
    """
    place = await place_of(work)
    record = await queue.admitted(work, place, beam)
    if record.status is not BeamStatus.RUNNING:
        return record, None
    ref = await place.executor.submit(_spec(work, place, record))
    status = await _watched(work, place, record, ref)
    if status.state is not JobState.SUCCEEDED:
        raise await _ended_badly(work, place, record, ref, status)
    calculated, given = await work.change(
        "beam.calculated",
        {"beam": beam, "attempt": record.attempt},
        key=f"beam:{beam}:{record.attempt}:calculated",
        act=lambda conn: _calculated(conn, work, place, record),
    )
    work.parts.waiters.wake(given)
    return calculated, status


def _calculated(
    conn: sa.Connection, work: Work, place: Place, record: BeamRecord
) -> tuple[BeamRecord, set[str]]:
    """The beam as it is then, and the jobs that have a place on the host then."""
    values: dict[str, Any] = {"status": BeamStatus.COLLECTING, "gpus": [], "exit_code": 0, "progress": 1.0}
    store.update_beam(conn, work.case_id, work.round, record.beam, **values)
    given = queue.pass_on(conn, place, record)
    return store.beam_of(conn, work.case_id, work.round, record.beam), given


def _spec(work: Work, place: Place, record: BeamRecord) -> JobSpec:
    leased = tuple(record.gpus) if place.leases_gpus else ()
    return JobSpec(
        name=str(record.job),
        argv=(place.about.python, "-m", "fairlead.cases.engines.run", f"{request_name(record.beam)}.json"),
        working_dir=remote_folder(place, work),
        # One job per place: libraries that start a thread per core would get in each other's way.
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        resources=Resources(
            gpus=place.about.gpus, gpu_ids=leased, time_limit_s=work.parts.settings.job_deadline_s
        ),
    )


# --- watching it ---------------------------------------------------------------------------------


async def _watched(work: Work, place: Place, record: BeamRecord, ref: JobRef) -> JobStatus:
    """The job's final status; stops it where the run is cancelled or its time is over."""

    shown = 0.0

    async def show(status: JobStatus) -> None:
        nonlocal shown
        found = _PROGRESS.findall(status.recent)
        done = min(float(found[-1]), 1.0) if found else 0.0
        if done > shown:
            shown = done
            await _progress(work, record, done)

    waiting = asyncio.ensure_future(
        place.executor.wait(ref, work.parts.settings.job_deadline_s + 60, on_progress=show)
    )
    renew_at = 0.0  # at once: after a crash the lease may be about to expire
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=0.5)
            if done:
                return waiting.result()
            await work.check_cancelled()
            if time.monotonic() > renew_at:
                renew_at = time.monotonic() + gpus.LEASE_S / 4
                await work.ctx.shift.in_transaction(lambda conn: gpus.renew(conn, ref.name, gpus.clock(conn)))
    except (RunCancelled, JobDeadline):
        await place.executor.cancel(ref)
        raise
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError, FairleadError):
            await waiting


async def _progress(work: Work, record: BeamRecord, done: float) -> None:
    """Raise the beam's progress, and the case's with it; neither ever falls."""

    def act(conn: sa.Connection) -> None:
        store.update_beam(conn, work.case_id, work.round, record.beam, progress=done)
        all_beams = store.beams_of(conn, work.case_id, work.round)
        share = sum(1.0 if b.status is BeamStatus.COMPLETED else b.progress for b in all_beams)
        whole = RUN_FROM + (RUN_UNTIL - RUN_FROM) * share / max(len(all_beams), 1)
        store.update_case(conn, work.case_id, utc_now(), progress=whole)

    key = f"beam:{record.beam}:{record.attempt}:{int(10 * done)}"
    data = {"beam": record.beam, "progress": round(int(10 * done) / 10, 1)}
    await work.change("beam.progress", data, key=key, act=act)


async def _ended_badly(
    work: Work, place: Place, record: BeamRecord, ref: JobRef, status: JobStatus
) -> FairleadError:
    """What the end of the job means. After a passing failure the beam is pending: it gets a new attempt."""
    killed = status.exit_code is not None and status.exit_code > 128
    passing = status.state is JobState.LOST or killed or status.exit_code == EXIT_RETRYABLE
    again = passing and record.attempt < work.parts.settings.attempts
    words = f"exit code {status.exit_code}" if status.exit_code is not None else status.state.value
    said = await _said(place, ref)
    error = (JobLost if again else JobFailed)(
        f"The dose calculation of beam {record.beam} on {place.host.name} ended without a result "
        f"({words}{f'; {said}' if said else ''}).",
        remedy=f"Read the output of job {record.job} on that host; then retry the case.",
        beam=record.beam,
        host=place.host.name,
        state=status.state.value,
        exit_code=status.exit_code,
    )

    def act(conn: sa.Connection) -> set[str]:
        given = queue.pass_on(conn, place, record)
        store.update_beam(
            conn, work.case_id, work.round, record.beam,
            status=BeamStatus.PENDING if again else BeamStatus.FAILED, gpus=[],
            exit_code=status.exit_code, problem=error.problem(), finished_at=utc_now(),
        )  # fmt: skip
        return given

    data = {"beam": record.beam, "attempt": record.attempt, "state": status.state.value, "again": again}
    given = await work.change("beam.failed", data, key=f"beam:{record.beam}:{record.attempt}:failed", act=act)
    work.parts.waiters.wake(given)
    telemetry.count("fairlead_case_jobs_failed_total", labels={"state": status.state.value})
    return error


async def _said(place: Place, ref: JobRef) -> str:
    """The engine's own error, which it writes as `code: message`."""
    try:
        said = (await place.executor.tail(ref, "stderr")).data.decode(errors="replace")
    except FairleadError:
        return ""  # it only explains
    found = _ERROR.findall(said)
    return str(found[-1])[:300] if found else ""


async def stop(work: Work) -> None:
    """Stop every job of the round that may run, wherever it is; a host that does not answer is an error."""
    for record in await work.reading(lambda conn: store.beams_of(conn, work.case_id, work.round)):
        place = work.parts.places.get(record.host or "")
        if place is None or record.job is None or record.status is not BeamStatus.RUNNING:
            continue
        ref = await place.executor.find(record.job)
        if ref is not None:
            await place.executor.cancel(ref)
