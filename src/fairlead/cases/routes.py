"""The HTTP door of `cases`: look at cases, retry, cancel, prioritise; reports, pictures, hosts."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import Response

from fairlead.cases import gpus, store
from fairlead.cases.intake import start
from fairlead.cases.operations import end_case
from fairlead.cases.schemas import (
    HostStateIn,
    PriorityIn,
    case_details,
    case_out,
    host_out,
    scan_out,
    step_out,
)
from fairlead.cases.steps.verify import objects_prefix
from fairlead.cases.store import BeamStatus, CaseMoved, CaseRecord, CaseStatus
from fairlead.kernel import audit
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import NotFound
from fairlead.kernel.http import CurrentActor
from fairlead.kernel.objects import ObjectMissing, ObjectStore
from fairlead.kernel.projects.access import authorise, require_admin
from fairlead.kernel.projects.model import Actor, Permission
from fairlead.kernel.runs import Runs
from fairlead.kernel.settings import CaseHostSettings

_PICTURE = re.compile(r"[a-z][a-z-]{0,40}\.png")
# A report loads nothing and runs nothing, whatever somebody managed to write into a plan's label.
_SANDBOX = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


class ReportMissing(NotFound):
    """The case has no report yet."""

    code = "cases.report_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesDoor:
    """What the routes need."""

    database: Database
    runs: Runs
    objects: ObjectStore
    hosts: Sequence[CaseHostSettings]


def router(door: CasesDoor) -> APIRouter:
    """The routes of `cases`, bound to the opened parts."""
    routes = APIRouter(prefix="/projects/{project}/cases", tags=["cases"])
    _reading_routes(routes, door)
    _report_routes(routes, door)
    _changing_routes(routes, door)
    both = APIRouter()
    both.include_router(routes)
    both.include_router(_host_routes(door))
    return both


def _reading_routes(routes: APIRouter, door: CasesDoor) -> None:
    @routes.get("", summary="Cases of the project, newest first")
    def list_cases(
        project: str,
        actor: CurrentActor,
        status: CaseStatus | None = None,
        before: int | None = Query(default=None, description="Only cases with smaller numbers"),
        limit: int = Query(default=50, ge=1, le=200),
    ) -> dict[str, Any]:
        with door.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.RUN_READ)
            found = store.list_cases(conn, access.project.id, status=status, before=before, limit=limit)
        return {"items": [case_out(case) for case in found]}

    @routes.get("/overview", summary="Queues, beams at work, hosts, GPUs and the scan folder in one call")
    def get_overview(
        project: str,
        actor: CurrentActor,
        most: int = Query(default=100, ge=1, le=500, description="Most cases of each queue"),
    ) -> dict[str, Any]:
        with door.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.RUN_READ)
            return overview(conn, access.project.id, door.hosts, most)

    @routes.get("/{number}", summary="One case with its fractions, beams, violations and result")
    def get_case(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        with door.database.reading() as conn:
            authorise(conn, actor, project, Permission.RUN_READ)
            case = store.by_number(conn, project, number)
            fractions = store.fractions_of(conn, case.id)
            return case_details(case, fractions, store.beams_of(conn, case.id, case.round))


_QUEUES = {
    "waiting": (CaseStatus.PENDING, CaseStatus.WAITING),
    "running": (CaseStatus.RUNNING,),
    "done": (CaseStatus.COMPLETED, CaseStatus.FAILED, CaseStatus.CANCELLED),
}


def overview(
    conn: sa.Connection, project: str, hosts: Sequence[CaseHostSettings], most: int
) -> dict[str, Any]:
    """Everything that somebody who watches the pipeline wants to see, from one reading transaction."""
    leases, numbers = gpus.leases(conn), store.numbers_of(conn, project)
    return {
        "at": iso(utc_now()),
        "counts": {status.value: count for status, count in store.counts(conn, project).items()},
        "queues": {
            name: [case_out(case) for case in store.overview(conn, project, statuses, limit=most)]
            for name, statuses in _QUEUES.items()
        },
        "steps": [step_out(number, beam) for number, beam in store.beams_at_work(conn, project)],
        "hosts": [host_out(host, store.host(conn, host.name), leases, numbers) for host in hosts],
        "scan": scan_out(store.scan(conn, project)),
    }


def _report_routes(routes: APIRouter, door: CasesDoor) -> None:
    def found(project: str, number: int, actor: Actor) -> CaseRecord:
        with door.database.reading() as conn:
            authorise(conn, actor, project, Permission.RUN_READ)
            return store.by_number(conn, project, number)

    async def content(case: CaseRecord, name: str) -> bytes:
        try:
            return await door.objects.get(f"{objects_prefix(case.id, case.round)}/{name}")
        except ObjectMissing:
            raise ReportMissing(
                f"Case {case.number} has no {name}.", remedy="Wait for its verdict; see its status."
            ) from None

    @routes.get("/{number}/report", summary="The report: one self-contained HTML page")
    async def get_report(project: str, number: int, actor: CurrentActor) -> Response:
        case = await asyncio.to_thread(found, project, number, actor)
        headers = {"Content-Security-Policy": _SANDBOX}
        return Response(await content(case, "report.html"), media_type="text/html", headers=headers)

    @routes.get("/{number}/pictures", summary="Names of the pictures")
    async def list_pictures(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        case = await asyncio.to_thread(found, project, number, actor)
        infos = await door.objects.list(objects_prefix(case.id, case.round))
        names = [info.key.rsplit("/", 1)[-1] for info in infos]
        return {"items": sorted(name for name in names if _PICTURE.fullmatch(name))}

    @routes.get("/{number}/pictures/{name}", summary="One picture, PNG")
    async def get_picture(project: str, number: int, name: str, actor: CurrentActor) -> Response:
        case = await asyncio.to_thread(found, project, number, actor)
        if not _PICTURE.fullmatch(name):
            raise ReportMissing(f"Case {case.number} has no such picture.", remedy="List its pictures.")
        return Response(await content(case, name), media_type="image/png")


def _changing_routes(routes: APIRouter, door: CasesDoor) -> None:
    def changed(
        project: str, number: int, actor: Actor, permission: Permission, act: _Change, *more: Any
    ) -> dict[str, Any]:
        with door.database.transaction() as conn:
            authorise(conn, actor, project, permission)
            act(door, conn, store.by_number(conn, project, number, lock=True), actor, *more)
            return case_out(store.by_number(conn, project, number))

    @routes.post("/{number}/retry", status_code=202, summary="Begin a case that has ended again")
    def retry_case(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        return changed(project, number, actor, Permission.APPLY, retry)

    @routes.post("/{number}/cancel", status_code=202, summary="Stop a case, its jobs on hosts included")
    def cancel_case(project: str, number: int, actor: CurrentActor) -> dict[str, Any]:
        return changed(project, number, actor, Permission.RUN_CANCEL, cancel)

    @routes.post("/{number}/priority", summary="Let a case go before others, or after them")
    def prioritise_case(project: str, number: int, body: PriorityIn, actor: CurrentActor) -> dict[str, Any]:
        return changed(project, number, actor, Permission.APPLY, prioritise, body.priority)


_Change = Callable[..., None]


def retry(door: CasesDoor, conn: sa.Connection, case: CaseRecord, actor: Actor) -> None:
    """Begin the next round of a case that has ended. Raises CaseMoved."""
    if not case.status.final:
        raise CaseMoved(f"Case {case.number} is {case.status}.", remedy="Cancel it first, or wait.")
    start(conn, door.runs, store.reopen(conn, case, utc_now(), host=None), actor.username)


def cancel(door: CasesDoor, conn: sa.Connection, case: CaseRecord, actor: Actor) -> None:
    """Ask the case's run to stop; one that nobody has begun ends here. Raises CaseMoved."""
    if case.status.final or case.run_id is None:
        raise CaseMoved(f"Case {case.number} is {case.status}.", remedy="There is nothing to stop.")
    run = door.runs.request_cancel(conn, case.run_id, actor.username)
    if run.status.final:  # nobody had begun it
        end_case(conn, case.id, case.round, CaseStatus.CANCELLED, BeamStatus.CANCELLED, None)
    _note(conn, case, actor, "case.cancel_requested", {})


def prioritise(
    door: CasesDoor,  # noqa: ARG001 - as its neighbours
    conn: sa.Connection,
    case: CaseRecord,
    actor: Actor,
    priority: int,
) -> None:
    """Remember the priority; places are given by it from now on."""
    store.update_case(conn, case.id, utc_now(), priority=priority)
    _note(conn, case, actor, "case.prioritised", {"priority": priority})


def _note(conn: sa.Connection, case: CaseRecord, actor: Actor, action: str, data: dict[str, Any]) -> None:
    audit.append(
        conn,
        actor=actor.username,
        action=action,
        subject=f"case:{case.id}",
        project_id=case.project_id,
        data={"number": case.number, **data},
    )


def _host_routes(door: CasesDoor) -> APIRouter:
    routes = APIRouter(prefix="/case-hosts", tags=["cases"])

    def listed(conn: sa.Connection) -> dict[str, Any]:
        leases = gpus.leases(conn)
        return {"items": [host_out(host, store.host(conn, host.name), leases) for host in door.hosts]}

    @routes.get("", summary="Hosts that calculate doses, and who holds their places")
    def list_case_hosts(actor: CurrentActor) -> dict[str, Any]:  # noqa: ARG001 - whoever is logged in
        with door.database.reading() as conn:
            return listed(conn)

    @routes.put("/{name}", summary="Pause or drain a host, or let it work again; administrators only")
    def set_case_host(name: str, body: HostStateIn, actor: CurrentActor) -> dict[str, Any]:
        require_admin(actor)
        if name not in {host.name for host in door.hosts}:
            raise HostUnknown(f"The settings name no host {name!r}.", remedy="List the hosts.")
        with door.database.transaction() as conn:
            now = utc_now()
            store.update_host(conn, name, now, state=body.state, changed_at=now)
            audit.append(conn, actor=actor.username, action=f"host.{body.state}", subject=f"host:{name}")
            return listed(conn)

    return routes


class HostUnknown(NotFound):
    """There is no such host in the settings."""

    code = "cases.host_unknown"
