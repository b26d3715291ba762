"""The HTTP door of jobs: ask, screen, report; records, what changed, links to reports."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import HTMLResponse, Response

from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.errors import FairleadError, InvalidInput
from fairlead.kernel.http import CurrentActor
from fairlead.kernel.objects import ObjectMissing
from fairlead.kernel.projects.access import authorise
from fairlead.kernel.projects.model import Actor, Permission
from fairlead.kernel.runs import Run
from fairlead.support import acceptance_routes, accounts, findings, jobs, links, records
from fairlead.support.door import Bearer, calling_agent
from fairlead.support.http_words import WordedRoute
from fairlead.support.job_schemas import (
    RECORD_ID,
    ZENDESK_ID,
    AskIn,
    File,
    JobIn,
    LinkIn,
    ReportIn,
    ScreenIn,
    TicketLinkIn,
    job_out,
    record_out,
)
from fairlead.support.jobs_door import JobsDoor, record_of, screening_of, today
from fairlead.support.language import language_of
from fairlead.support.links import Link
from fairlead.support.model import Customer, JobKind, Language
from fairlead.support.monthly.month import Month
from fairlead.support.records import FILES, Record, RecordUnknown

RecordPath = Annotated[str, Path(pattern=RECORD_ID, description="A screening or report")]

__all__ = ["JobsDoor", "router"]


def router(door: JobsDoor) -> APIRouter:
    """The routes of jobs, bound to the opened parts."""
    routes = APIRouter(tags=["support"])
    of_project = APIRouter(route_class=WordedRoute, prefix="/projects/{project}/support")
    _asking_routes(of_project, door)
    _record_routes(of_project, door)
    routes.include_router(of_project)
    routes.include_router(_agent_routes(door))
    routes.include_router(_report_routes(door))
    routes.include_router(acceptance_routes.router(door))
    return routes


# ── asking ────────────────────────────────────────────────────────────────────────────────────────


def _asking_routes(routes: APIRouter, door: JobsDoor) -> None:
    async def submitted(kind: JobKind, project: str, body: JobIn, actor: Actor) -> dict[str, Any]:
        await asyncio.to_thread(_may_submit, door, actor, project)
        installation, organization = await _about_ticket(door, project, body)
        run = await asyncio.to_thread(_submit, door, kind, project, body, actor, installation, organization)
        return job_out(run)

    @routes.post("/asks", status_code=202, summary="Ask a question about a customer's account")
    async def ask(project: str, body: AskIn, actor: CurrentActor) -> dict[str, Any]:
        return await submitted(JobKind.ASK, project, body, actor)

    @routes.post("/screenings", status_code=202, summary="Screen a customer's account")
    async def screen(project: str, body: ScreenIn, actor: CurrentActor) -> dict[str, Any]:
        return await submitted(JobKind.SCREEN, project, body, actor)

    @routes.post("/reports", status_code=202, summary="Make the monthly report of a customer's account")
    async def make_report(project: str, body: ReportIn, actor: CurrentActor) -> dict[str, Any]:
        return await submitted(JobKind.REPORT, project, body, actor)


def _may_submit(door: JobsDoor, actor: Actor, project: str) -> None:
    with door.support.database.reading() as conn:
        authorise(conn, actor, project, Permission.APPLY)


async def _about_ticket(door: JobsDoor, project: str, body: JobIn) -> tuple[str | None, str | None]:
    """(installation, organization) of the ticket that `body` names, as far as they are known."""
    if body.ticket is None:
        return None, None
    theirs = door.support.installations.in_project(project)
    if body.installation is not None:
        theirs = tuple(one for one in theirs if one.id == body.installation)
        if not theirs:
            raise InvalidInput(
                f"installation: the project has no installation {body.installation}.",
                remedy="See support.installations in the server's settings.",
            )
    if len(theirs) != 1:
        return None, None  # a binding of the ticket itself still counts
    return theirs[0].id, await door.support.directory.organization_of(theirs[0], body.ticket)


def _submit(
    door: JobsDoor,
    kind: JobKind,
    project: str,
    body: JobIn,
    actor: Actor,
    installation: str | None,
    organization: str | None,
) -> Run:
    with door.support.database.transaction() as conn:
        access = authorise(conn, actor, project, Permission.APPLY)
        if body.ticket is not None:
            customer = accounts.resolve(
                conn, access.project.id, ticket=body.ticket, organization=organization
            )
        else:
            customer = accounts.customer(conn, access.project.id, str(body.account))
        return jobs.submit(
            conn,
            door.runs,
            kind,
            customer,
            actor=actor.username,
            language=body.language or _spoken(body) or customer.language,
            installation=installation,
            ticket=body.ticket,
            request_id=body.request_id,
            details=_details(body, customer, utc_now()),
        )


def _spoken(body: JobIn) -> Language | None:
    """The language that a question is asked in, where it has letters of one."""
    if not isinstance(body, AskIn) or not re.search(r"[A-Za-z]{2}|[가-힣]", body.text):
        return None
    return language_of(body.text)


def _details(body: JobIn, customer: Customer, now: datetime) -> Mapping[str, Any]:
    """The operation's own parameters. Raises MonthUnreadable, MonthNotBegun."""
    match body:
        case AskIn():
            return {"text": body.text}
        case ScreenIn():
            given = {
                "engine": body.engine,
                "regions": list(body.regions),
                "services": list(body.services),
            }
            return {name: value for name, value in given.items() if value}
        case ReportIn():
            month = Month.parse(body.month) if body.month else Month.before(now, customer.timezone)
            month.span(now, customer.timezone)
            return {"month": str(month)}
    raise TypeError(type(body).__name__)


# ── records ───────────────────────────────────────────────────────────────────────────────────────


def _record_routes(routes: APIRouter, door: JobsDoor) -> None:
    days = door.support.settings.retention_days

    def found(project: str, record: str, actor: Actor) -> Record:
        with door.support.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.RUN_READ)
            return records.by_id(conn, record, project_id=access.project.id)

    @routes.get("/records", summary="Screenings and reports that were made, newest first")
    def list_records(
        project: str,
        actor: CurrentActor,
        kind: Annotated[str | None, Query(pattern=r"^(screening|monthly_report)$")] = None,
        account: Annotated[str | None, Query(pattern=r"^[0-9]{12}$")] = None,
        ticket: Annotated[str | None, Query(pattern=ZENDESK_ID)] = None,
        before: Annotated[str | None, Query(pattern=RECORD_ID, description="Only older ones")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        with door.support.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.RUN_READ)
            items = records.page(
                conn,
                access.project.id,
                kind=kind,
                account=account,
                ticket=ticket,
                before=before,
                limit=limit,
            )
        return {"items": [record_out(one, days) for one in items]}

    @routes.get("/records/{record}", summary="One screening or report")
    def get_record(project: str, record: RecordPath, actor: CurrentActor) -> dict[str, Any]:
        return record_out(found(project, record, actor), days)

    @routes.get("/records/{record}/difference", summary="What changed since another screening")
    async def get_difference(
        project: str,
        record: RecordPath,
        actor: CurrentActor,
        since: Annotated[
            str | None, Query(pattern=RECORD_ID, description="default: the one that it was compared with")
        ] = None,
    ) -> dict[str, Any]:
        current = await asyncio.to_thread(found, project, record, actor)
        other = since or current.summary.get("previous")
        earlier = await asyncio.to_thread(found, project, other, actor) if other else None
        return await _difference(door, current, earlier)

    @routes.post("/records/{record}/link", summary="A short-lived address under which a browser opens a file")
    def make_link(project: str, record: RecordPath, body: LinkIn, actor: CurrentActor) -> dict[str, Any]:
        return _linked(door, found(project, record, actor), body.file, actor.username)


async def _difference(door: JobsDoor, current: Record, earlier: Record | None) -> dict[str, Any]:
    now, before = await screening_of(door, current), await screening_of(door, earlier) if earlier else None

    def compared() -> dict[str, Any]:
        with door.support.database.reading() as conn:
            given = records.accepted(conn, current.project_id, current.account)
        change = findings.difference(before, now, [one.suppression for one in given], on=today())
        kinds = ("new", "fixed", "unchanged", "unknown", "suppressed", "lapsed")
        return {
            "record": current.id,
            "since": earlier.id if earlier else None,
            "counts": {kind: len(getattr(change, kind)) for kind in kinds},
            **findings.document(change),
        }

    return await asyncio.to_thread(compared)


# ── links ─────────────────────────────────────────────────────────────────────────────────────────


def _linked(door: JobsDoor, record: Record, file: str, actor: str) -> dict[str, Any]:
    settings = door.support.settings
    until = records.kept_until(records.present(record).created_at, settings.retention_days)
    link = Link(
        record=record.id,
        file=file,
        actor=actor,
        expires_at=links.lifetime(utc_now(), settings.link_s, until),
    )
    return {"url": links.sign(door.link_key, link), "expires_at": iso(link.expires_at)}


def _report_routes(door: JobsDoor) -> APIRouter:
    routes = APIRouter(route_class=WordedRoute, prefix="/support/reports")

    @routes.get("/{record}/{file}", summary="A file of a record, opened by a link")
    async def open_report(
        record: RecordPath,
        file: File,
        link: Annotated[str, Query(max_length=4096)] = "",
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        try:
            return await _opened(door, record, file, link)
        except FairleadError as error:
            telemetry.log.warning("support.link_refused", code=error.code, record=record)
            if "text/html" not in accept or error.status >= 500:
                raise
            # Any Zendesk may show it: naming ours would tell strangers who our customers are.
            headers = {"Content-Security-Policy": links.policy(["https://*.zendesk.com"])}
            return HTMLResponse(links.refusal(error.code), status_code=error.status, headers=headers)

    return routes


async def _opened(door: JobsDoor, record_id: str, file: str, proof: str) -> Response:
    link = links.read(door.link_key, proof, record=record_id, file=file, now=utc_now())

    def found() -> Record:
        with door.support.database.reading() as conn:
            return records.present(records.by_id(conn, link.record))

    record = await asyncio.to_thread(found)
    try:
        content = await door.objects.get(record.key(file))
    except ObjectMissing:
        raise RecordUnknown(f"The record has no {file}.", remedy="Ask for a new one.") from None
    await asyncio.to_thread(_viewed, door, record, link)
    headers = {"Content-Security-Policy": _policy(door, record), "Cache-Control": "no-store"}
    if file != "report.html":
        name = f"{record.kind}-{record.account}-{record.created_at:%Y%m%d}.{file.rsplit('.', 1)[-1]}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(content, media_type=FILES[file], headers=headers)


def _viewed(door: JobsDoor, record: Record, link: Link) -> None:
    with door.support.database.transaction() as conn:
        audit.append(
            conn,
            actor=link.actor,
            action="support.report_viewed",
            subject=f"run:{record.id}",
            project_id=record.project_id,
            data={
                "account": record.account,
                "ticket": record.ticket,
                "installation": record.installation,
                "file": link.file,
            },
        )


def _policy(door: JobsDoor, record: Record) -> str:
    """A report may stand in the Zendesk of its own installation, and nowhere else."""
    theirs = door.support.installations.by_id.get(record.installation or "")
    return links.policy((theirs.origin, theirs.app_origin) if theirs else ())


# ── agents ────────────────────────────────────────────────────────────────────────────────────────


def _agent_routes(door: JobsDoor) -> APIRouter:
    routes = APIRouter(route_class=WordedRoute, prefix="/support/zendesk")

    @routes.post("/links", summary="A short-lived address of a report of the agent's ticket")
    async def make_agent_link(body: TicketLinkIn, credentials: Bearer) -> dict[str, Any]:
        agent = await calling_agent(door.support, credentials)
        record_id, _, file = body.url.partition("?")[0].removeprefix("/support/reports/").partition("/")
        record = await record_of(door, agent, body.ticket, record_id)
        return _linked(door, record, file, agent.actor)

    return routes
