"""Wait for a place on the host: a lease and the beam's state change in one transaction.

Whoever frees a place gives it to whose turn it is, in the same transaction. Waiters only read, so that
hundreds of them do not hold up the database, and write now and then to show that they still wait.
"""

import time
from dataclasses import asdict
from functools import partial

import sqlalchemy as sa

from fairlead.cases import gpus, store
from fairlead.cases.gpus import HostState
from fairlead.cases.places import Place
from fairlead.cases.steps.port import Work
from fairlead.cases.store import BeamRecord, BeamStatus
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import RunCancelled
from fairlead.kernel.runs import store as run_store

_CLAIM_S, _DISCOVER_S = gpus.WAITER_S / 4, 300.0
_TICK_S = 0.01  # after the end of its patience, so that it surely has ended


class NoGpus(FairleadError):
    """The host does not have the GPUs that a beam is to have."""

    code, status, retryable = "cases.no_gpus", 503, False


class PlaceDeadline(FairleadError):
    """A beam waited too long for a place on its host."""

    code, status, retryable = "cases.place_deadline", 504, False


async def admitted(work: Work, place: Place, beam: int) -> BeamRecord:
    """The beam's record once it holds a place; the one that it held before a crash, where it still does.

    Raises PlaceDeadline, counted from when the beam began to wait, whatever was restarted since.
    """
    claimed_at = -_CLAIM_S
    while True:
        found, granted = await work.reading(partial(_look, work=work, beam=beam))
        if found.status is BeamStatus.RUNNING and not await _holds(work, place, found):
            continue
        if found.status is not BeamStatus.PENDING:
            return found
        patience_s = _patience_s(work, place, found)
        if granted or time.monotonic() - claimed_at >= _CLAIM_S:
            claimed_at = time.monotonic()
            known = await _known_gpus(work, place)
            admit = partial(_admit, work=work, place=place, beam=beam, known=known)
            record = await work.ctx.shift.in_transaction(admit)
            if record is not None:
                return record
        claim_s = claimed_at + _CLAIM_S - time.monotonic()
        await work.parts.waiters.wait(work.ctx, _next_job(found), min(claim_s, patience_s + _TICK_S))


def _patience_s(work: Work, place: Place, record: BeamRecord) -> float:
    """How long the beam still waits. Raises PlaceDeadline where that is over."""
    allowed_s = work.parts.settings.place_wait_s
    left_s = allowed_s - (utc_now() - record.queued_at).total_seconds()
    if left_s < 0:
        raise PlaceDeadline(
            f"Beam {record.beam} got no place on the host {place.about.name} within {allowed_s:g} s.",
            remedy="See `fairlead cases hosts`: resume it, add places, or raise place_wait_s; then retry.",
            host=place.about.name,
        )
    return left_s


def pass_on(conn: sa.Connection, place: Place, record: BeamRecord) -> set[str]:
    """Give up the beam's place, and give it to whose turn it is; the jobs that have places on hosts then."""
    store.leave_place(conn, record)
    about = store.host(conn, place.about.name)
    known = [str(gpu["uuid"]) for gpu in about.gpus] if about else []
    slots = place.slots(known, about.state if about else HostState.ACTIVE)
    gpus.claim(conn, str(record.job), [slots], gpus.clock(conn))
    return {lease.holder for lease in gpus.leases(conn)}


def _look(conn: sa.Connection, *, work: Work, beam: int) -> tuple[BeamRecord, bool]:
    """The beam, and whether somebody has given it a place already. Raises RunCancelled."""
    if run_store.cancel_requested(conn, work.ctx.run_id):
        raise RunCancelled
    record = store.beam_of(conn, work.case_id, work.round, beam)
    return record, bool(gpus.leases(conn, _next_job(record)))


def _next_job(record: BeamRecord) -> str:
    return store.job_name(record.case_id, record.round, record.beam, record.attempt + 1)


async def _holds(work: Work, place: Place, record: BeamRecord) -> bool:
    """Whether a beam that is on record as running has its lease, or at least its job.

    Where a crash came before the job was started, and lasted until the lease ran out, the beam queues again.
    """
    job = str(record.job)
    renewed = await work.ctx.shift.in_transaction(lambda conn: gpus.renew(conn, job, gpus.clock(conn)))
    if renewed or await place.executor.find(job) is not None:
        return True

    def again(conn: sa.Connection) -> None:
        values = {"status": BeamStatus.PENDING, "attempt": record.attempt - 1, "gpus": [], "progress": 0.0}
        store.update_beam(conn, work.case_id, work.round, record.beam, **values)

    await work.ctx.shift.in_transaction(again)
    return False


async def _known_gpus(work: Work, place: Place) -> tuple[str, ...]:
    """Ids of the host's GPUs, looked at again now and then; remembered for everybody."""
    if not place.leases_gpus:
        return ()
    name, now = place.about.name, utc_now()
    known = await work.reading(lambda conn: store.host(conn, name))
    if known is None or known.looked_at is None or (now - known.looked_at).total_seconds() > _DISCOVER_S:
        seen = [asdict(gpu) for gpu in await gpus.discover(place.host)]
        await work.ctx.shift.in_transaction(
            lambda conn: store.update_host(conn, name, now, gpus=seen, looked_at=now)
        )
    else:
        seen = known.gpus
    if len(seen) < place.about.gpus:
        raise NoGpus(
            f"The host {name} shows {len(seen)} GPUs; a beam is to have {place.about.gpus}.",
            remedy="Check its driver with nvidia-smi, or correct `gpus` of this host in the settings.",
            host=name,
        )
    return tuple(str(gpu["uuid"]) for gpu in seen)


def _admit(
    conn: sa.Connection, *, work: Work, place: Place, beam: int, known: tuple[str, ...]
) -> BeamRecord | None:
    """Take a place on the host if it is the beam's turn: lease, state and event in one transaction."""
    now, name = utc_now(), place.about.name
    case, record = store.by_id(conn, work.case_id), store.beam_of(conn, work.case_id, work.round, beam)
    if record.status is not BeamStatus.PENDING:
        return record
    attempt, job = record.attempt + 1, _next_job(record)
    wanted = gpus.Request(
        holder=job,
        project_id=case.project_id,
        gpus=place.about.gpus if place.leases_gpus else 0,
        priority=case.priority,
        since=record.queued_at,
        hosts=(name,),
    )
    clock = gpus.clock(conn)
    gpus.enqueue(conn, wanted, clock)
    gpus.prioritise(conn, job, case.priority)
    about = store.host(conn, name)
    slots = place.slots(known, about.state if about else HostState.ACTIVE)
    lease = gpus.claim(conn, job, [slots], clock)
    if lease is None:
        return None
    store.update_beam(
        conn, work.case_id, work.round, beam,
        status=BeamStatus.RUNNING, attempt=attempt, host=name, gpus=list(lease.slots), job=job,
        progress=0.0, exit_code=None, problem=None, started_at=now, finished_at=None,
    )  # fmt: skip
    data = {"beam": beam, "host": name, "slots": list(lease.slots), "attempt": attempt}
    work.ctx.runs.append_event(conn, work.ctx.run_id, "beam.started", data, f"beam:{beam}:{attempt}:started")
    return store.beam_of(conn, work.case_id, work.round, beam)
