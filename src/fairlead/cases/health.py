"""How the pipeline is: looks at hosts now and then, and the gauges that a worker shows.

Labels are names from the settings (hosts, projects), states and codes: nothing of a case or a patient.
"""

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fairlead.cases import gpus, places, store
from fairlead.cases.jobs import HostUnreachable
from fairlead.cases.places import Place
from fairlead.cases.steps.port import CaseParts
from fairlead.cases.steps.queue import NoGpus
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

OBSERVE_S = 5.0
HOST_LOOK_S = 20.0  # how often one of the workers asks a host


async def observe(parts: CaseParts) -> None:
    """For ever: look at the hosts, and measure."""
    while True:
        try:
            await look_at_hosts(parts)
            await asyncio.to_thread(measure, parts)
        except (FairleadError, OSError, sa.exc.SQLAlchemyError) as error:
            telemetry.log.warning("case.observing_failed", error=type(error).__name__)
        await asyncio.sleep(OBSERVE_S)


async def look_at_hosts(parts: CaseParts, *, deadline_s: float = places.LOOK_S) -> int:
    """Ask every host that no worker has asked for HOST_LOOK_S; remember what it said. How many it were."""
    due = await asyncio.to_thread(_due, parts, utc_now())
    await asyncio.gather(*(_look(parts, parts.places[name], deadline_s) for name in due))
    return len(due)


def _due(parts: CaseParts, now: datetime) -> list[str]:
    """Hosts to ask; whoever else looks now finds them asked already."""
    with parts.database.reading() as conn:
        known = {name: store.host(conn, name) for name in parts.places}
    due = [name for name, one in known.items() if one is None or _is_old(one.tried_at, now)]
    if due:
        with parts.database.transaction() as conn:
            for name in due:
                store.update_host(conn, name, now, tried_at=now)
    return due


def _is_old(moment: datetime | None, now: datetime) -> bool:
    return moment is None or (now - moment).total_seconds() >= HOST_LOOK_S


async def _look(parts: CaseParts, place: Place, deadline_s: float) -> None:
    name, seen, problem = place.about.name, None, None
    try:
        async with asyncio.timeout(deadline_s):
            seen = await places.look(place)
        if seen is not None and len(seen) < place.about.gpus:
            # Its driver may only have hiccuped: what was known of its GPUs stays, and beams go on waiting.
            raise NoGpus(
                f"The host {name} shows {len(seen)} GPUs; a beam is to have {place.about.gpus}.",
                remedy="Check its driver with nvidia-smi, or correct `gpus` of this host in the settings.",
            )
    except TimeoutError:
        problem = HostUnreachable(
            f"Host {name} did not answer within {deadline_s:g} s.",
            remedy="Check address, port, network and that sshd runs there.",
        ).problem()
    except FairleadError as error:
        problem, seen = error.problem(), None
        telemetry.log.warning("host.unwell", host=name, code=error.code)
    await asyncio.to_thread(_remember, parts, name, seen, problem)


def _remember(
    parts: CaseParts, name: str, seen: tuple[gpus.Gpu, ...] | None, problem: dict[str, Any] | None
) -> None:
    now = utc_now()
    values: dict[str, Any] = {"problem": problem}
    if problem is None:
        values["looked_at"] = now
    if seen is not None:
        values["gpus"] = [asdict(gpu) for gpu in seen]
    with parts.database.transaction() as conn:
        store.update_host(conn, name, now, **values)


# --- gauges --------------------------------------------------------------------------------------


def measure(parts: CaseParts) -> None:
    """Set the gauges from the database: every worker shows the same, so take the maximum, not the sum."""
    now = utc_now()
    with parts.database.reading() as conn:
        for status, count in store.counts(conn).items():
            telemetry.gauge("fairlead_cases", count, {"status": status.value})
        pending, waiting = store.oldest_pending(conn), gpus.waiting(conn)
        leases = gpus.leases(conn)
        known = {name: store.host(conn, name) for name in parts.places}
        scans = {project: store.scan(conn, project) for project in parts.settings.scan}
    telemetry.gauge("fairlead_case_pending_oldest_seconds", _age_s(pending, now))
    telemetry.gauge("fairlead_case_queue_beams", len(waiting))
    oldest = min((request.since for request in waiting), default=None)
    telemetry.gauge("fairlead_case_queue_oldest_seconds", _age_s(oldest, now))
    for name, place in parts.places.items():
        _measure_host(place, known[name], [lease for lease in leases if lease.host == name])
    for project, scan in scans.items():
        _measure_scan(project, scan, now)


def _measure_host(place: Place, known: store.HostRecord | None, leases: list[gpus.Lease]) -> None:
    name = place.about.name
    there = len(places.names(place.about, known))
    used = sum(len(lease.slots) for lease in leases)
    telemetry.gauge("fairlead_case_places", used, {"host": name, "state": "used"})
    telemetry.gauge("fairlead_case_places", max(there - used, 0), {"host": name, "state": "free"})
    telemetry.gauge("fairlead_case_gpu_leases", sum(len(lease.gpu_ids) for lease in leases), {"host": name})
    up = known is not None and known.looked_at is not None and known.problem is None
    telemetry.gauge("fairlead_case_host_up", up, {"host": name})


def _measure_scan(project: str, scan: store.ScanRecord | None, now: datetime) -> None:
    up = scan is not None and scan.problem is None
    telemetry.gauge("fairlead_case_scan_up", up, {"project": project})
    if scan is not None:
        telemetry.gauge("fairlead_case_scan_unstable", scan.unstable, {"project": project})
        telemetry.gauge("fairlead_case_scan_age_seconds", _age_s(scan.scanned_at, now), {"project": project})


def _age_s(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since is not None else 0.0
