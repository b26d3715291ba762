"""Runs: list, watch, cancel. Each access is authorised against the run's project."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from fairlead.api.parts import ApiParts, Parts
from fairlead.kernel import audit
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.http import CurrentActor, Page, PageParams, page_of, parts_of, until
from fairlead.kernel.projects.access import NotAdmin, again, authorise, require_admin
from fairlead.kernel.projects.accounts import storable
from fairlead.kernel.projects.model import Actor, Permission
from fairlead.kernel.projects.store import ProjectNotFound
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.runs.errors import RunNotFound
from fairlead.kernel.runs.model import Event, Run, RunStatus
from fairlead.kernel.runs.streams import sse_stream

router = APIRouter(tags=["runs"])

SSE = "text/event-stream"
RECONNECT_MS = 1000


class RunOut(BaseModel):
    """One run."""

    id: str
    kind: str
    project: str | None
    actor: str
    title: str
    status: RunStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    waiting_for: str | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="A problem document, where the run failed")

    @classmethod
    def of(cls, run: Run) -> "RunOut":
        """The form in which clients see it. Parameters stay inside: a template's may be secret."""
        names = cls.model_fields.keys() - {"project"}
        return cls(project=run.project_id, **{name: getattr(run, name) for name in names})


class EventOut(BaseModel):
    """One thing that happened in a run."""

    run_id: str
    seq: int
    at: datetime
    type: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        """The form in which clients see it."""
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


class EventsOut(BaseModel):
    """Events above the number that was asked for."""

    items: list[EventOut]
    next_after: int = Field(description="Name this as `after` to go on")
    final: bool = Field(description="Whether the run has ended and all its events have been seen")


@router.get("/projects/{project}/runs")
def list_runs(
    project: str,
    actor: CurrentActor,
    api: Parts,
    page: PageParams,
    status: RunStatus | None = None,
    kind: Annotated[str | None, Query(max_length=100, pattern=r"^[a-z0-9._-]+$")] = None,
) -> Page[RunOut]:
    """Runs of the project, newest first."""
    with api.database.reading() as conn:
        authorise(conn, actor, project, Permission.RUN_READ)
        if page.after and run_store.get(conn, page.after).project_id != project:
            raise InvalidInput("cursor: not of this list.", remedy="Use next_cursor of the page before.")
        rows = run_store.page(
            conn, project_id=project, status=status, kind=kind, before=page.after or None, limit=page.fetch
        )
    return page_of(rows, page, position=lambda run: run.id, shape=RunOut.of)


def _authorised(conn: sa.Connection, actor: Actor, run_id: str, permission: Permission) -> Run:
    """The run. Raises RunNotFound also to those who may not know its project; PermissionMissing."""
    if not storable(run_id):
        raise RunNotFound
    run = run_store.get(conn, run_id)
    try:
        if run.project_id is None:
            require_admin(actor)
        else:
            authorise(conn, actor, run.project_id, permission)
    except (ProjectNotFound, NotAdmin):
        raise RunNotFound(f"There is no run {run_id!r}.") from None
    return run


@router.get("/runs/{run_id}")
def get_run(run_id: str, actor: CurrentActor, api: Parts) -> RunOut:
    """One run."""
    with api.database.reading() as conn:
        return RunOut.of(_authorised(conn, actor, run_id, Permission.RUN_READ))


@router.post("/runs/{run_id}/cancel", status_code=202)
def cancel_run(run_id: str, actor: CurrentActor, api: Parts) -> RunOut:
    """Ask a run to stop: at once where it waits, else at its next step. Follow its events to see it end."""
    with api.database.transaction() as conn:
        run = _authorised(conn, actor, run_id, Permission.RUN_CANCEL)
        cancelled = api.runs.request_cancel(conn, run_id, actor.username)
        if not run.cancel_requested:
            audit.append(
                conn,
                actor=actor.username,
                action="run.cancel_requested",
                subject=f"run:{run_id}",
                project_id=run.project_id,
            )
    return RunOut.of(cancelled)


@router.get(
    "/runs/{run_id}/events",
    response_model=EventsOut,
    responses={200: {"content": {SSE: {"schema": {"type": "string"}}}}},
)
async def run_events(
    run_id: str,
    request: Request,
    actor: CurrentActor,
    api: Parts,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="The last number already seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=500, description="Events per page (JSON only)")] = 200,
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[str | None, Header(description="Sent by reconnecting SSE clients")] = None,
) -> Response:
    """Events above `after`: a JSON page, or with `Accept: text/event-stream` a live stream to the end."""
    run = await run_in_threadpool(_readable, api, actor, run_id)
    if SSE in accept:
        return _stream(request, api, actor, run, _resume_point(after, last_event_id))
    page = await run_in_threadpool(_events_page, api, run_id, after, limit)
    return JSONResponse(page.model_dump(mode="json"))


def _readable(api: ApiParts, actor: Actor, run_id: str) -> Run:
    with api.database.reading() as conn:
        return _authorised(conn, actor, run_id, Permission.RUN_READ)


def _resume_point(after: int, last_event_id: str | None) -> int:
    if last_event_id is None:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10):
        raise InvalidInput("Last-Event-ID: not a number of this stream.", remedy="Use `after` instead.")
    return int(last_event_id)


def _events_page(api: ApiParts, run_id: str, after: int, limit: int) -> EventsOut:
    with api.database.reading() as conn:
        # The status first: a run that is final has all its events.
        final = run_store.get(conn, run_id).status.final
        events = run_store.events(conn, run_id, after, limit)
    return EventsOut(
        items=[EventOut.of(event) for event in events],
        next_after=events[-1].seq if events else after,
        final=final and len(events) < limit,
    )


def _stream(request: Request, api: ApiParts, actor: Actor, run: Run, after: int) -> StreamingResponse:
    async def body() -> Any:
        yield f"retry: {RECONNECT_MS}\n\n"
        events = sse_stream(api.database, run.id, after, heartbeat_s=api.heartbeat_s)
        closing = parts_of(request.app).closing
        async for text in until(events, closing.wait(), _until_refused(api, actor, run)):
            yield text

    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), media_type=SSE, headers=headers)


async def _until_refused(api: ApiParts, actor: Actor, run: Run) -> None:
    """Raises once the reader of a stream may no longer read it: logged out, disabled, no member."""

    def look() -> None:
        with api.database.reading() as conn:
            _authorised(conn, again(conn, actor), run.id, Permission.RUN_READ)

    while True:
        await asyncio.sleep(api.stream_check_s)
        await run_in_threadpool(look)
