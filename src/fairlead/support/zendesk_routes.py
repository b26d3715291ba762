"""What an agent's browser asks for: the app's page and files, sessions, and the account of a ticket."""

import asyncio
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.errors import FairleadError, Unauthenticated
from fairlead.kernel.http import RouteNotFound
from fairlead.support import accounts, session_ends
from fairlead.support.account_schemas import RenewIn, TicketAccountIn, ZendeskId
from fairlead.support.accounts import require_role, role_of
from fairlead.support.door import Bearer, SupportDoor, calling_agent
from fairlead.support.http_words import WordedRoute
from fairlead.support.model import Agent, AgentRole, Customer
from fairlead.support.zendesk import (
    Vouched,
    claim,
    issue_session,
    read_session,
    renewable,
    verify_signed_url,
)

PAGE = "/support/zendesk/assets/iframe.html"
FORMS: Mapping[str, int] = {PAGE: 16 * 1024}  # where Zendesk's browser form may be posted, most bytes
_META = b'<meta name="fairlead-session" content="">'
_TYPES = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}
# A page that holds nothing but this may be shown by any Zendesk.
_NOTICE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors https://*.zendesk.com"
)
_NOTICE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>AWS support</title>
<style>:root {{ color-scheme: light dark }}
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 24px; word-break: keep-all }}
small {{ opacity: .7 }}</style></head>
<body><p>{english}</p><p lang="ko">{korean}</p>{code}</body>
</html>
"""
_OPENED_BARE = (
    "This page works beside a ticket in Zendesk: open a ticket and choose the app there.",
    "이 페이지는 Zendesk 티켓 옆에서 열립니다. 티켓을 열고 앱을 선택하십시오.",
)
_KOREAN = {
    401: "Zendesk가 보낸 로그인 정보를 확인하지 못했습니다. 티켓을 새로 고치십시오. "
    "계속되면 관리자에게 문의하십시오.",
    403: "이 앱을 사용할 권한이 없습니다. Zendesk 관리자에게 문의하십시오.",
    503: "지금은 Zendesk에 확인할 수 없습니다. 잠시 후 티켓을 새로 고치십시오.",
}
_KOREAN_OTHER = "앱을 열지 못했습니다. 관리자에게 문의하십시오."


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def router(door: SupportDoor) -> APIRouter:
    """The routes, bound to the opened parts."""
    routes = APIRouter(route_class=WordedRoute, prefix="/support/zendesk", tags=["support"])
    _page_routes(routes, door)
    _file_routes(routes, door)
    _session_routes(routes, door)
    _ticket_routes(routes, door)
    return routes


# --- the page ------------------------------------------------------------------------------------


def _page_routes(routes: APIRouter, door: SupportDoor) -> None:
    page = door.app_files.get("assets/iframe.html", b"")

    @routes.get("/assets/iframe.html", include_in_schema=False)
    def opened_bare() -> Response:
        return _notice(200, *_OPENED_BARE)

    @routes.post(
        "/assets/iframe.html",
        summary="Open the app from Zendesk: a form with the `token` of a signed URL",
        response_class=HTMLResponse,
    )
    async def open_page(request: Request) -> Response:
        token = _token(await request.body())
        try:
            vouched, session = await open_session(door, token, utc_now())
        except FairleadError as error:
            return _refusal(error)
        request.state.username = f"zendesk:{vouched.installation.id}:{vouched.user}"
        filled = f'<meta name="fairlead-session" content="{html.escape(session)}">'.encode()
        headers = {"Content-Security-Policy": f"frame-ancestors {vouched.installation.origin}"}
        return HTMLResponse(page.replace(_META, filled, 1), headers=headers)


def _token(body: bytes) -> str:
    """The form's token; empty where there is none, or more than one."""
    try:
        found = parse_qs(body.decode("ascii"), max_num_fields=20).get("token", [])
    except ValueError:
        return ""
    return found[0] if len(found) == 1 else ""


async def open_session(door: SupportDoor, token: str, now: datetime) -> tuple[Vouched, str]:
    """Exchange the token of a signed URL for a session; audited.

    Raises what `verify_signed_url`, `claim`, `Directory.require_agent` raise, and ProjectClosed.
    """
    vouched = verify_signed_url(door.installations, token, now=now)
    try:
        await asyncio.to_thread(_used_up, door, vouched, now)
        await door.directory.require_agent(vouched.installation, vouched.user)
        return vouched, await asyncio.to_thread(_opened, door, vouched, now)
    except FairleadError as error:
        # Only where Zendesk's signature was right: anybody could fill the record with forgeries.
        await asyncio.to_thread(_note_refused, door, vouched, error)
        raise


def _used_up(door: SupportDoor, vouched: Vouched, now: datetime) -> None:
    with door.database.transaction() as conn:
        claim(conn, vouched, now=now)


def _opened(door: SupportDoor, vouched: Vouched, now: datetime) -> str:
    with door.database.transaction() as conn:
        agent = _agent(conn, vouched.installation.id, vouched.user, vouched.installation.project_id)
        _note(conn, agent, "support.session_opened", {"role": agent.role.value})
    telemetry.count("fairlead_support_sessions_total", labels={"how": "opened"})
    return issue_session(door.key, agent, now, door.settings.session_s)


def _agent(conn: sa.Connection, installation: str, user: str, project_id: str) -> Agent:
    """The agent with the role of now. Raises ProjectClosed."""
    accounts.require_open(conn, project_id)
    role = role_of(conn, installation, user)
    return Agent(installation=installation, user=user, project_id=project_id, role=role)


def _note_refused(door: SupportDoor, vouched: Vouched, error: FairleadError) -> None:
    agent = Agent(
        installation=vouched.installation.id,
        user=vouched.user,
        project_id=vouched.installation.project_id,
        role=AgentRole.AGENT,
    )
    with door.database.transaction() as conn:
        _note(conn, agent, "support.session_refused", {"code": error.code})


def _note(conn: sa.Connection, agent: Agent, action: str, data: dict[str, Any]) -> None:
    audit.append(
        conn,
        actor=agent.actor,
        action=action,
        subject=f"installation:{agent.installation}",
        project_id=agent.project_id,
        data=data,
    )


def _refusal(error: FairleadError) -> Response:
    english = f"{error.message} {error.remedy or ''}".strip()
    return _notice(error.status, english, _KOREAN.get(error.status, _KOREAN_OTHER), error.code)


def _notice(status: int, english: str, korean: str, code: str = "") -> Response:
    shown = f"<small>{html.escape(code)}</small>" if code else ""
    page = _NOTICE.format(english=html.escape(english), korean=html.escape(korean), code=shown)
    return HTMLResponse(page, status_code=status, headers={"Content-Security-Policy": _NOTICE_POLICY})


# --- the app's files -----------------------------------------------------------------------------


def _file_routes(routes: APIRouter, door: SupportDoor) -> None:
    # Looked up by name in what was read at the start: no path of a request ever reaches the disk.
    files = {
        name: _File(content, _TYPES[ending], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        for name, content in door.app_files.items()
        if (ending := name.rsplit(".", 1)[-1]) in _TYPES and ending != "html"
    }

    def served(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise RouteNotFound("The app has no such file.", remedy="See its manifest and page.")
        headers = {"Cache-Control": "no-cache", "ETag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    @routes.get("/assets/{name:path}", include_in_schema=False)
    def asset(request: Request, name: str) -> Response:
        return served(request, f"assets/{name}")

    @routes.get("/translations/{name}", include_in_schema=False)
    def translation(request: Request, name: str) -> Response:
        return served(request, f"translations/{name}")


# --- sessions ------------------------------------------------------------------------------------


def _session_routes(routes: APIRouter, door: SupportDoor) -> None:
    @routes.post("/session", summary="A fresh session for an old one, asked for through Zendesk's proxy")
    async def renew(body: RenewIn, credentials: Bearer) -> dict[str, Any]:
        if credentials is None:
            raise Unauthenticated(remedy="Let Zendesk's proxy sign the request.")
        now = utc_now()
        old = renewable(
            door.key,
            door.installations,
            session_token=body.session,
            proxy_token=credentials.credentials,
            now=now,
        )
        await door.directory.require_agent(door.installations.of(old.agent), old.agent.user)

        def current() -> Agent:
            with door.database.reading() as conn:
                session_ends.check(conn, old)
                return _agent(conn, old.agent.installation, old.agent.user, old.agent.project_id)

        agent = await asyncio.to_thread(current)
        token = issue_session(door.key, agent, now, door.settings.session_s, opened_at=old.opened_at)
        telemetry.count("fairlead_support_sessions_total", labels={"how": "renewed"})
        return {"session": token, "expires_at": iso(read_session(door.key, token, now).expires_at)}


# --- the account of a ticket ---------------------------------------------------------------------


def _ticket_routes(routes: APIRouter, door: SupportDoor) -> None:
    @routes.get("/tickets/{ticket}/account", summary="The account of a ticket, and what a lead may choose")
    async def ticket_account(ticket: ZendeskId, credentials: Bearer) -> dict[str, Any]:
        agent = await calling_agent(door, credentials)
        organization = await door.directory.organization_of(door.installations.of(agent), ticket)
        return await asyncio.to_thread(_choices, door, agent, ticket, organization)

    @routes.put("/tickets/{ticket}/account", status_code=204, summary="Choose the account of a ticket")
    async def choose_account(ticket: ZendeskId, body: TicketAccountIn, credentials: Bearer) -> None:
        agent = await calling_agent(door, credentials)
        await accounts.choose(
            door.database,
            door.directory,
            door.installations.of(agent),
            lambda conn, asked: _chooser(conn, agent, asked=asked),
            project_id=agent.project_id,
            ticket=ticket,
            account=body.account,
        )


def _choices(door: SupportDoor, agent: Agent, ticket: str, organization: str | None) -> dict[str, Any]:
    with door.database.reading() as conn:
        try:
            found = accounts.resolve(conn, agent.project_id, ticket=ticket, organization=organization)
        except (accounts.AccountNotBound, accounts.AccountAmbiguous):
            found = None
        named = _choosable(conn, agent, organization)
    return {
        "account": found.account if found else None,
        "choices": [{"account": one.account, "name": one.name} for one in named],
    }


def _choosable(conn: sa.Connection, agent: Agent, organization: str | None) -> tuple[Customer, ...]:
    """Customers that the ticket may be about: its organization's, or all where only administrators choose."""
    if organization is not None:
        theirs = accounts.organization_accounts(conn, agent.project_id, organization)
        return tuple(accounts.customer(conn, agent.project_id, account) for account in theirs)
    if role_of(conn, agent.installation, agent.user) is AgentRole.ADMINISTRATOR:
        return accounts.list_customers(conn, agent.project_id)
    return ()


def _chooser(conn: sa.Connection, agent: Agent, *, asked: bool) -> str:
    # Without Zendesk's word for the organization only those choose who keep the list anyway.
    require_role(conn, agent, AgentRole.LEAD if asked else AgentRole.ADMINISTRATOR)
    return agent.actor
