"""The list of customers over HTTP: accounts, what they are bound to, and agents' roles."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request

from fairlead.kernel.projects.model import Permission
from fairlead.support import accounts, session_ends
from fairlead.support.account_schemas import (
    AccountPath,
    AgentRoleIn,
    CustomerIn,
    ZendeskId,
    agent_out,
    binding_out,
    customer_out,
)
from fairlead.support.accounts import BindingKind, InstallationNotInProject
from fairlead.support.door import Bearer, Caller, SupportDoor, allow, caller_of
from fairlead.support.http_words import WordedRoute
from fairlead.support.model import Customer

_READ, _MANAGE = Permission.RUN_READ, Permission.PROJECT_UPDATE


def router(door: SupportDoor) -> APIRouter:
    """The routes, bound to the opened parts."""

    def calling(request: Request, credentials: Bearer) -> Caller:
        return caller_of(door, request, credentials)

    routes = APIRouter(route_class=WordedRoute, prefix="/projects/{project}/support", tags=["support"])
    calls = Annotated[Caller, Depends(calling)]
    _customer_routes(routes, door, calls)
    _binding_routes(routes, door, calls)
    _agent_routes(routes, door, calls)
    return routes


def _customer_routes(routes: APIRouter, door: SupportDoor, calls: Any) -> None:
    def shown(one: Customer, *, manages: bool) -> dict[str, Any]:
        return customer_out(one, door.settings.access, manages=manages)

    @routes.get("/customers", summary="Accounts that the project may look into")
    def list_customers(project: str, caller: calls) -> dict[str, Any]:
        with door.database.reading() as conn:
            manages = allow(conn, caller, project, _READ)
            found = accounts.list_customers(conn, project)
        return {"items": [shown(one, manages=manages) for one in found]}

    @routes.get("/customers/{account}", summary="One customer; the ExternalId only for who may manage it")
    def get_customer(project: str, account: AccountPath, caller: calls) -> dict[str, Any]:
        with door.database.reading() as conn:
            manages = allow(conn, caller, project, _READ)
            return shown(accounts.customer(conn, project, account), manages=manages)

    @routes.put("/customers/{account}", summary="Add a customer or change it")
    def put_customer(project: str, account: AccountPath, body: CustomerIn, caller: calls) -> dict[str, Any]:
        with door.database.transaction() as conn:
            manages = allow(conn, caller, project, _MANAGE)
            accounts.alone(conn)
            one = _customer(conn, project, account, body)
            accounts.put_customer(conn, one, actor=caller.name)
        return shown(one, manages=manages)

    @routes.delete("/customers/{account}", status_code=204, summary="Remove a customer and its bindings")
    def remove_customer(project: str, account: AccountPath, caller: calls) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            accounts.remove_customer(conn, project, account, actor=caller.name)


def _customer(conn: sa.Connection, project: str, account: str, body: CustomerIn) -> Customer:
    """What to store: an ExternalId that the customer has already is kept unless a new one is asked for."""
    return Customer(
        project_id=project,
        account=account,
        name=body.name,
        role_name=body.role_name,
        external_id=_external_id(conn, project, account, body),
        regions=body.regions,
        language=body.language,
        timezone=body.timezone,
    )


def _external_id(conn: sa.Connection, project: str, account: str, body: CustomerIn) -> str | None:
    if body.access == "own":
        return None
    known = accounts.find_customer(conn, project, account)
    kept = known.external_id if known is not None and not body.new_external_id else None
    return kept or accounts.new_external_id()


def _binding_routes(routes: APIRouter, door: SupportDoor, calls: Any) -> None:
    @routes.get("/bindings", summary="Which accounts organizations and tickets have")
    def list_bindings(project: str, caller: calls) -> dict[str, Any]:
        with door.database.reading() as conn:
            allow(conn, caller, project, _READ)
            return {"items": [binding_out(one) for one in accounts.list_bindings(conn, project)]}

    @routes.put("/bindings/organization/{zendesk_id}/{account}", status_code=204, summary="Bind an account")
    def bind_organization(project: str, zendesk_id: ZendeskId, account: AccountPath, caller: calls) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            accounts.bind_organization(conn, project, zendesk_id, account, actor=caller.name)

    @routes.put(
        "/bindings/ticket/{zendesk_id}/{account}", status_code=204, summary="Choose a ticket's account"
    )
    async def bind_ticket(project: str, zendesk_id: ZendeskId, account: AccountPath, caller: calls) -> None:
        await accounts.choose(
            door.database,
            door.directory,
            next((one for one in door.installations.in_project(project) if one.has_api), None),
            lambda conn, _: _manager(conn, caller, project),
            project_id=project,
            ticket=zendesk_id,
            account=account,
        )

    @routes.delete("/bindings/{kind}/{zendesk_id}/{account}", status_code=204, summary="Remove a binding")
    def unbind(
        project: str, kind: BindingKind, zendesk_id: ZendeskId, account: AccountPath, caller: calls
    ) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            accounts.unbind(conn, project, kind, zendesk_id, account, actor=caller.name)


def _manager(conn: sa.Connection, caller: Caller, project: str) -> str:
    allow(conn, caller, project, _MANAGE)
    return caller.name


def _agent_routes(routes: APIRouter, door: SupportDoor, calls: Any) -> None:
    def installed(project: str, installation: str) -> None:
        if installation not in {one.id for one in door.installations.in_project(project)}:
            raise InstallationNotInProject(
                f"The project has no installation {installation}.", remedy="See support.installations."
            )

    @routes.get("/agents", summary="Agents who have a role of their own")
    def list_agents(project: str, caller: calls) -> dict[str, Any]:
        theirs = tuple(one.id for one in door.installations.in_project(project))
        with door.database.reading() as conn:
            allow(conn, caller, project, _READ)
            return {"items": [agent_out(one) for one in accounts.list_agents(conn, theirs)]}

    @routes.put("/agents/{installation}/{user}", status_code=204, summary="Give an agent a role")
    def put_agent(
        project: str, installation: ZendeskId, user: ZendeskId, body: AgentRoleIn, caller: calls
    ) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            installed(project, installation)
            accounts.put_agent(conn, project, installation, user, body.role, actor=caller.name)

    @routes.delete(
        "/agents/{installation}/{user}/sessions", status_code=204, summary="End an agent's sessions now"
    )
    def end_sessions(project: str, installation: ZendeskId, user: ZendeskId, caller: calls) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            installed(project, installation)
            session_ends.end(conn, project, installation, user, actor=caller.name)

    @routes.delete("/agents/{installation}/{user}", status_code=204, summary="Take an agent's role")
    def remove_agent(project: str, installation: ZendeskId, user: ZendeskId, caller: calls) -> None:
        with door.database.transaction() as conn:
            allow(conn, caller, project, _MANAGE)
            installed(project, installation)
            accounts.remove_agent(conn, project, installation, user, actor=caller.name)
