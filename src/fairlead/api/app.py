"""The HTTP API as one FastAPI app, built from parts that somebody else opened and closes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from fairlead import __version__
from fairlead.api import projects, runs, sessions, status, tokens, users
from fairlead.api.health import Check, Health
from fairlead.api.parts import ApiParts, any_settings
from fairlead.kernel import http
from fairlead.kernel.db import Database
from fairlead.kernel.projects.model import ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs.service import Runs

_Message = MutableMapping[str, Any]
App = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[Any]
]
"""An ASGI app."""

_ROUTERS = (sessions.router, users.router, tokens.router, projects.router, runs.router, status.router)
_TAGS = [
    {"name": "sessions", "description": "Log in, refresh, log out."},
    {"name": "users", "description": "Who can log in."},
    {"name": "tokens", "description": "API tokens for programs, with scopes."},
    {"name": "projects", "description": "What changes belong to: settings, members, history."},
    {"name": "members", "description": "Who may do what in a project."},
    {"name": "runs", "description": "Every effect on the outside world: watch and cancel."},
    {"name": "audit", "description": "Who did what, when; hash-chained."},
    {"name": "server", "description": "Health, version, metrics."},
]


def build_app(
    *,
    database: Database,
    signing_key: SigningKey,
    runs: Runs,
    routers: Sequence[APIRouter] = (),
    checks: Mapping[str, Check] | None = None,
    check_settings: Callable[[ProjectSettings], None] = any_settings,
    max_body_bytes: int = 32 * 1024 * 1024,
    forms: Mapping[str, int] | None = None,
    mounts: Mapping[str, App] | None = None,
    useful: Mapping[str, Check] | None = None,
    stream_check_s: float = 10.0,
    heartbeat_s: float = 15.0,
    health_deadline_s: float = 2.0,
) -> FastAPI:
    """The API over opened parts; `routers` are the capabilities' own.

    `checks` (name → returns when well, else raises) are asked by `/health` beside the database.
    `check_settings` raises InvalidInput for project settings that a capability cannot use.
    `forms` (path → most bytes) are the places where browsers may post forms, `mounts` (path → ASGI app) what
    else is served. Without one of the `useful` parts the server works on, less well.
    """
    app = FastAPI(
        title="Fairlead",
        version=__version__,
        description="Every effect on the outside world is a durable, authorised, audited run.",
        openapi_tags=_TAGS,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses={"default": {"description": "Problem", "content": {http.PROBLEM: {"schema": _PROBLEM}}}},
    )
    app.state.api = ApiParts(
        database=database,
        signing_key=signing_key,
        runs=runs,
        health=Health(
            {"database": _answers(database), **(checks or {})},
            useful=useful or {},
            deadline_s=health_deadline_s,
        ),
        check_settings=check_settings,
        stream_check_s=stream_check_s,
        heartbeat_s=heartbeat_s,
    )
    for router in (*_ROUTERS, *routers):
        app.include_router(router)
    for path, mounted in (mounts or {}).items():
        app.mount(path, mounted)
    http.install(app, database=database, signing_key=signing_key, max_body_bytes=max_body_bytes, forms=forms)
    return app


_PROBLEM = http.Problem.model_json_schema()


def _operation_id(route: APIRoute) -> str:
    return route.name


def _answers(database: Database) -> Check:
    def ask() -> None:
        with database.reading() as conn:
            conn.execute(sa.select(1))

    async def check() -> None:
        await asyncio.to_thread(ask)

    return check
