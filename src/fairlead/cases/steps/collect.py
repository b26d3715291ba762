"""Bring one beam's result back and accept it only where everything about it agrees."""

from typing import Any

import sqlalchemy as sa

from fairlead.cases import store, transfer
from fairlead.cases.engines.files import ResultIncomplete, read_result, result_folder
from fairlead.cases.jobs import JobState, JobStatus
from fairlead.cases.places import Place
from fairlead.cases.steps.interpret import INPUT, request_name
from fairlead.cases.steps.port import Work
from fairlead.cases.steps.transfer import place_of, remote_folder
from fairlead.cases.store import BeamRecord, BeamStatus
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

FINISHED = b"progress 1.00"


class ResultRefused(FairleadError):
    """The result of a beam is not accepted: exit code, log, files and dose do not all agree."""

    code, status, retryable = "cases.result_refused", 502, True


async def run(work: Work, record: BeamRecord, ended: JobStatus | None) -> dict[str, Any]:
    """The beam's result on this machine, accepted. After ResultRefused it is calculated anew.

    `ended` is how its job ended; where it is not known the host is asked.
    """
    if record.status is BeamStatus.COMPLETED:
        return {"beam": record.beam}
    place = await place_of(work)
    try:
        _agree(ended or await _asked(place, record))
        seconds = await _fetched(work, place, record)
    except (ResultIncomplete, ResultRefused) as error:
        await _refuse(work, record, error)
        raise ResultRefused(
            f"Beam {record.beam}: {error.message}", remedy=error.remedy, beam=record.beam
        ) from None
    data = {"beam": record.beam, "attempt": record.attempt, "engine_s": seconds}
    await work.change(
        "beam.completed",
        data,
        key=f"beam:{record.beam}:{record.attempt}:completed",
        act=lambda conn: _end(conn, work, record, BeamStatus.COMPLETED),
    )
    return data


async def _asked(place: Place, record: BeamRecord) -> JobStatus:
    ref = await place.executor.find(str(record.job))
    if ref is None:
        raise ResultRefused("its job is unknown to the host")
    return await place.executor.status(ref)


def _agree(status: JobStatus) -> None:
    """Exit code and log are of this very attempt, because its job has a name of its own."""
    if status.state is not JobState.SUCCEEDED or status.exit_code != 0:
        raise ResultRefused(f"its job ended as {status.state.value}, exit code {status.exit_code}")
    if FINISHED.decode() not in status.recent.splitlines():
        raise ResultRefused("the log of its job does not say that it finished")


async def _fetched(work: Work, place: Place, record: BeamRecord) -> float:
    """Download and check the files; seconds that the engine took. Raises ResultIncomplete, DoseRejected."""
    request = work.folder / INPUT / f"{request_name(record.beam)}.json"
    local = result_folder(request)
    await transfer.pull(place.host, f"{remote_folder(place, work)}/{local.name}", local)
    marker, _ = await work.calculate(read_result, request)
    return marker.seconds


async def _refuse(work: Work, record: BeamRecord, error: FairleadError) -> None:
    await work.change(
        "beam.refused",
        {"beam": record.beam, "attempt": record.attempt, "code": error.code},
        key=f"beam:{record.beam}:{record.attempt}:refused",
        act=lambda conn: _end(conn, work, record, BeamStatus.PENDING, problem=error.problem()),
    )


def _end(conn: sa.Connection, work: Work, record: BeamRecord, status: BeamStatus, **values: Any) -> None:
    values |= {"status": status, "gpus": [], "finished_at": utc_now()}
    store.update_beam(conn, work.case_id, work.round, record.beam, **values)
