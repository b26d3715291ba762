"""Accepting findings over HTTP: in a project by its users, in a ticket's account by its leads."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from fairlead.kernel.http import CurrentActor
from fairlead.kernel.projects.access import authorise
from fairlead.kernel.projects.model import Permission
from fairlead.support import accounts, records
from fairlead.support.door import Bearer, calling_agent
from fairlead.support.findings import by_check, difference
from fairlead.support.http_words import WordedRoute
from fairlead.support.job_schemas import (
    RECORD_ID,
    ZENDESK_ID,
    SuppressionIn,
    TicketAcceptIn,
    accepted_out,
    failing_out,
)
from fairlead.support.jobs_door import JobsDoor, customer_of, record_of, screening_of, today
from fairlead.support.model import AgentRole, Suppression

TicketQuery = Annotated[str, Query(pattern=ZENDESK_ID)]


def router(door: JobsDoor) -> APIRouter:
    """The routes, bound to the opened parts."""
    routes = APIRouter()
    of_project = APIRouter(route_class=WordedRoute, prefix="/projects/{project}/support")
    _project_routes(of_project, door)
    of_agents = APIRouter(route_class=WordedRoute, prefix="/support/zendesk")
    _finding_routes(of_agents, door)
    _agent_routes(of_agents, door)
    routes.include_router(of_project)
    routes.include_router(of_agents)
    return routes


def _project_routes(routes: APIRouter, door: JobsDoor) -> None:
    @routes.get("/suppressions", summary="Findings that somebody accepted, lapsed ones included")
    def list_suppressions(
        project: str,
        actor: CurrentActor,
        account: Annotated[str | None, Query(pattern=r"^[0-9]{12}$")] = None,
    ) -> dict[str, Any]:
        with door.support.database.reading() as conn:
            access = authorise(conn, actor, project, Permission.RUN_READ)
            items = records.accepted(conn, access.project.id, account)
        return {"items": [accepted_out(one, today()) for one in items]}

    @routes.post("/suppressions", status_code=201, summary="Accept a finding until a day, with a reason")
    def add_suppression(project: str, body: SuppressionIn, actor: CurrentActor) -> dict[str, Any]:
        with door.support.database.transaction() as conn:
            access = authorise(conn, actor, project, Permission.PLAN_APPROVE)
            if body.account is not None:
                accounts.customer(conn, access.project.id, body.account)
            given = _suppression(body, body.account, actor.username)
            return accepted_out(records.accept(conn, access.project.id, given, today=today()), today())

    @routes.delete("/suppressions/{suppression}", status_code=204, summary="Let a finding come back")
    def remove_suppression(
        project: str, suppression: Annotated[str, Path(max_length=36)], actor: CurrentActor
    ) -> None:
        with door.support.database.transaction() as conn:
            access = authorise(conn, actor, project, Permission.PLAN_APPROVE)
            records.withdraw(conn, access.project.id, suppression, actor=actor.username)


def _suppression(body: SuppressionIn | TicketAcceptIn, account: str | None, author: str) -> Suppression:
    return Suppression(
        check=body.check,
        reason=body.reason,
        author=author,
        expires=body.expires,
        account=account,
        resource=body.resource,
    )


def _finding_routes(routes: APIRouter, door: JobsDoor) -> None:
    @routes.get("/findings", summary="What failed in a screening of the agent's ticket and is not accepted")
    async def list_failing(
        ticket: TicketQuery, record: Annotated[str, Query(pattern=RECORD_ID)], credentials: Bearer
    ) -> dict[str, Any]:
        agent = await calling_agent(door.support, credentials)
        found = await record_of(door, agent, ticket, record)

        def accepted() -> tuple[Suppression, ...]:
            with door.support.database.reading() as conn:
                return tuple(
                    one.suppression for one in records.accepted(conn, agent.project_id, found.account)
                )

        screening, given = await screening_of(door, found), await asyncio.to_thread(accepted)
        change = await asyncio.to_thread(difference, None, screening, given, on=today())
        return {"record": found.id, "items": [failing_out(*group) for group in by_check(change.new)]}


def _agent_routes(routes: APIRouter, door: JobsDoor) -> None:
    @routes.get("/suppressions", summary="Findings of the ticket's account that somebody accepted")
    async def list_agent_suppressions(ticket: TicketQuery, credentials: Bearer) -> dict[str, Any]:
        agent = await calling_agent(door.support, credentials)
        customer = await customer_of(door, agent, ticket)

        def listed() -> dict[str, Any]:
            with door.support.database.reading() as conn:
                items = records.accepted(conn, agent.project_id, customer.account)
            # What was accepted for every account and names a thing, names one of some customer's.
            theirs = [one for one in items if one.suppression.account or one.suppression.resource is None]
            return {"items": [accepted_out(one, today()) for one in theirs]}

        return await asyncio.to_thread(listed)

    @routes.post("/suppressions", status_code=201, summary="Accept a finding of the ticket's account; leads")
    async def add_agent_suppression(body: TicketAcceptIn, credentials: Bearer) -> dict[str, Any]:
        agent = await calling_agent(door.support, credentials)
        customer = await customer_of(door, agent, body.ticket)

        def added() -> dict[str, Any]:
            with door.support.database.transaction() as conn:
                accounts.require_open(conn, agent.project_id)
                accounts.require_role(conn, agent, AgentRole.LEAD)
                given = _suppression(body, customer.account, agent.actor)
                return accepted_out(records.accept(conn, agent.project_id, given, today=today()), today())

        return await asyncio.to_thread(added)

    @routes.delete("/suppressions/{suppression}", status_code=204, summary="Let a finding come back; leads")
    async def remove_agent_suppression(
        suppression: Annotated[str, Path(max_length=36)], ticket: TicketQuery, credentials: Bearer
    ) -> None:
        agent = await calling_agent(door.support, credentials)
        customer = await customer_of(door, agent, ticket)

        def removed() -> None:
            with door.support.database.transaction() as conn:
                accounts.require_role(conn, agent, AgentRole.LEAD)
                records.withdraw(
                    conn, agent.project_id, suppression, actor=agent.actor, account=customer.account
                )

        await asyncio.to_thread(removed)
