"""Which account a ticket is about, which accounts there are, and what agents may do.

An account is chosen by the ticket's own binding, else by its organization's only account; by nothing that
somebody wrote. What is not bound is refused, and a refusal names no account but those of the organization.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import Conflict, Forbidden, NotFound
from fairlead.kernel.projects import store as projects
from fairlead.support.model import Agent, AgentRole, Customer, Language
from fairlead.support.tables import agents, bindings, customers
from fairlead.support.zendesk import Installation, Installations
from fairlead.support.zendesk_api import Directory

_RANK = tuple(AgentRole)
_LOCK = 0x73_7570_706F  # "suppo": PostgreSQL advisory lock of whoever changes these tables


class AccountNotBound(Conflict):
    """No account is bound to this ticket or its organization."""

    code = "support.account_not_bound"


class AccountAmbiguous(Conflict):
    """The ticket's organization has several accounts, and none was chosen for the ticket."""

    code = "support.account_ambiguous"


class AccountNotAllowed(Forbidden):
    """This account does not belong to the ticket's organization."""

    code = "support.account_not_allowed"


class CustomerNotFound(NotFound):
    """The project has no such customer."""

    code = "support.customer_not_found"


class BindingNotFound(NotFound):
    """There is no such binding."""

    code = "support.binding_not_found"


class AgentNotFound(NotFound):
    """This agent has no role of its own."""

    code = "support.agent_not_found"


class InstallationNotInProject(NotFound):
    """The project has no such installation of the Zendesk app."""

    code = "support.installation_unknown"


class ProjectClosed(Conflict):
    """The project that these agents work for is archived or gone."""

    code = "support.project_closed"


class AgentRoleMissing(Forbidden):
    """Your role in the support assistant does not allow this."""

    code = "auth.agent_role_missing"


class BindingKind(StrEnum):
    """What an account is bound to."""

    ORGANIZATION = "organization"  # any number of accounts
    TICKET = "ticket"  # exactly one


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One row: an organization's or a ticket's account."""

    kind: BindingKind
    zendesk_id: str
    account: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One agent's role; who has none is an agent."""

    installation: str
    user: str
    role: AgentRole
    created_at: datetime
    created_by: str


# --- which account -------------------------------------------------------------------------------


def resolve(
    connection: sa.Connection, project_id: str, *, ticket: str | None, organization: str | None
) -> Customer:
    """The customer that a ticket is about.

    `organization` is the id that Zendesk's API gave for the ticket (NO_ORGANIZATION: it has none), or None
    where nobody could be asked: then only a binding of the ticket itself counts. Raises AccountNotBound or
    AccountAmbiguous.
    """
    theirs = None if organization is None else organization_accounts(connection, project_id, organization)
    bound = ticket_account(connection, project_id, ticket) if ticket is not None else None
    if bound is not None:
        if theirs is not None and bound not in theirs:
            # The ticket went to another organization, or the account was taken away from this one.
            raise AccountNotBound(
                "The account that was chosen for this ticket is not one of its organization any more.",
                remedy="Ask a lead to choose the ticket's account again.",
            )
        return customer(connection, project_id, bound)
    if not theirs:
        raise AccountNotBound(remedy="Ask an administrator to bind the organization or the ticket.")
    if len(theirs) > 1:
        raise AccountAmbiguous(
            f"The organization has {len(theirs)} accounts, and none was chosen for this ticket.",
            remedy="Ask a lead to choose one for this ticket.",
            accounts=list(theirs),
        )
    return customer(connection, project_id, theirs[0])


async def of_ticket(
    database: Database, directory: Directory, installations: Installations, agent: Agent, ticket: str
) -> Customer:
    """The customer that the agent's ticket is about, its organization asked of Zendesk where that is set up.

    Raises what `Installations.of`, `Directory.organization_of` and `resolve` raise.
    """
    organization = await directory.organization_of(installations.of(agent), ticket)

    def look() -> Customer:
        with database.reading() as connection:
            return resolve(connection, agent.project_id, ticket=ticket, organization=organization)

    return await asyncio.to_thread(look)


def shown(
    connection: sa.Connection, project_id: str, *, ticket: str, organization: str | None
) -> frozenset[str]:
    """Accounts of which the ticket may show what was found earlier; `organization` as for `resolve`.

    All of its organization's, also while none of them is chosen.
    """
    if organization is not None:
        return frozenset(organization_accounts(connection, project_id, organization))
    bound = ticket_account(connection, project_id, ticket)
    return frozenset() if bound is None else frozenset((bound,))


def organization_accounts(connection: sa.Connection, project_id: str, organization: str) -> tuple[str, ...]:
    """The accounts of an organization, sorted."""
    return _bound(connection, project_id, BindingKind.ORGANIZATION, organization)


def ticket_account(connection: sa.Connection, project_id: str, ticket: str) -> str | None:
    """The account that was chosen for a ticket."""
    found = _bound(connection, project_id, BindingKind.TICKET, ticket)
    return found[0] if found else None


def _bound(connection: sa.Connection, project_id: str, kind: BindingKind, zendesk_id: str) -> tuple[str, ...]:
    query = sa.select(bindings.c.account).where(
        bindings.c.project_id == project_id,
        bindings.c.kind == kind.value,
        bindings.c.zendesk_id == zendesk_id,
    )
    return tuple(connection.execute(query.order_by(bindings.c.account)).scalars())


def require_open(connection: sa.Connection, project_id: str) -> None:
    """Raises ProjectClosed where the project is archived or gone."""
    try:
        closed = projects.find(connection, project_id).archived_at is not None
    except projects.ProjectNotFound:
        closed = True
    if closed:
        raise ProjectClosed(remedy="Ask an administrator to restore it.")


def alone(connection: sa.Connection) -> None:
    """Let one transaction at a time look and then change: a ticket has one account, whoever hurries."""
    if connection.dialect.name != "sqlite":  # SQLite's BEGIN IMMEDIATE is such a lock already
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


# --- customers -----------------------------------------------------------------------------------


def new_external_id() -> str:
    """An ExternalId that nobody guesses and no other customer has: 48 hexadecimal digits."""
    return secrets.token_hex(24)


def customer(connection: sa.Connection, project_id: str, account: str) -> Customer:
    """One customer of the project. Raises CustomerNotFound."""
    if found := find_customer(connection, project_id, account):
        return found
    raise CustomerNotFound(
        f"The project has no customer with the account {account!r}.",
        remedy="Add it first, or check the number.",
    )


def find_customer(connection: sa.Connection, project_id: str, account: str) -> Customer | None:
    """One customer of the project, or None."""
    query = sa.select(customers).where(customers.c.project_id == project_id, customers.c.account == account)
    row = connection.execute(query).one_or_none()
    return _customer(row) if row else None


def list_customers(connection: sa.Connection, project_id: str) -> tuple[Customer, ...]:
    """All customers of the project, by account."""
    query = sa.select(customers).where(customers.c.project_id == project_id).order_by(customers.c.account)
    return tuple(_customer(row) for row in connection.execute(query))


def put_customer(connection: sa.Connection, given: Customer, *, actor: str) -> None:
    """Add a customer, or replace all that is known of it."""
    alone(connection)
    values = {
        "name": given.name,
        "role_name": given.role_name,
        "external_id": given.external_id,
        "regions": list(given.regions),
        "language": given.language.value,
        "timezone": given.timezone,
    }
    mine = (customers.c.project_id == given.project_id, customers.c.account == given.account)
    changed = connection.execute(sa.update(customers).where(*mine).values(**values)).rowcount
    if changed == 0:
        connection.execute(
            sa.insert(customers).values(
                project_id=given.project_id,
                account=given.account,
                created_at=utc_now(),
                created_by=actor,
                **values,
            )
        )
    # That it has an ExternalId is recorded, and not which.
    noted = {**values, "external_id": given.external_id is not None, "new": changed == 0}
    _note(connection, given.project_id, actor, "support.customer_put", f"account:{given.account}", noted)


def remove_customer(connection: sa.Connection, project_id: str, account: str, *, actor: str) -> None:
    """Remove a customer and every binding to it. Raises CustomerNotFound."""
    alone(connection)
    customer(connection, project_id, account)
    for table in (bindings, customers):
        connection.execute(
            sa.delete(table).where(table.c.project_id == project_id, table.c.account == account)
        )
    _note(connection, project_id, actor, "support.customer_removed", f"account:{account}", {})


def _customer(row: sa.Row[Any]) -> Customer:
    return Customer(
        project_id=row.project_id,
        account=row.account,
        name=row.name,
        role_name=row.role_name,
        external_id=row.external_id,
        regions=tuple(row.regions),
        language=Language(row.language),
        timezone=row.timezone,
    )


# --- bindings ------------------------------------------------------------------------------------


def list_bindings(connection: sa.Connection, project_id: str) -> tuple[Binding, ...]:
    """All bindings of the project: organizations first."""
    query = (
        sa.select(bindings)
        .where(bindings.c.project_id == project_id)
        .order_by(bindings.c.kind, bindings.c.zendesk_id, bindings.c.account)
    )
    return tuple(
        Binding(
            kind=BindingKind(row.kind),
            zendesk_id=row.zendesk_id,
            account=row.account,
            created_at=row.created_at,
            created_by=row.created_by,
        )
        for row in connection.execute(query)
    )


def bind_organization(
    connection: sa.Connection, project_id: str, organization: str, account: str, *, actor: str
) -> None:
    """Let tickets of an organization be about an account; nothing happens where they may be already.

    Raises CustomerNotFound.
    """
    alone(connection)
    customer(connection, project_id, account)
    if account in organization_accounts(connection, project_id, organization):
        return
    _bind(connection, project_id, BindingKind.ORGANIZATION, organization, account, actor)


def bind_ticket(
    connection: sa.Connection,
    project_id: str,
    ticket: str,
    account: str,
    *,
    organization: str | None,
    actor: str,
) -> None:
    """Choose the account of a ticket, instead of the one that was chosen before.

    It has to be one of the ticket's `organization`; None, where Zendesk could not be asked, allows every
    customer of the project, so only those who keep the list may pass it. Raises AccountNotAllowed (the same
    for an account of others and for one that nobody has) or CustomerNotFound.
    """
    alone(connection)
    if organization is None:
        customer(connection, project_id, account)
    elif account not in organization_accounts(connection, project_id, organization):
        raise AccountNotAllowed(remedy="Choose one of its own; an administrator can bind more to it.")
    _unbind(connection, project_id, BindingKind.TICKET, ticket, None)
    _bind(connection, project_id, BindingKind.TICKET, ticket, account, actor)


async def choose(
    database: Database,
    directory: Directory,
    installation: Installation | None,
    allowed: Callable[[sa.Connection, bool], str],
    *,
    project_id: str,
    ticket: str,
    account: str,
) -> None:
    """Choose the account of a ticket, its organization asked of Zendesk where that is set up.

    `allowed(connection, asked)` gives the name of whoever may do that, `asked` saying whether Zendesk told
    the organization, or raises; it is asked before Zendesk is and once more in the transaction. Raises what
    `Directory.organization_of` and `bind_ticket` raise.
    """
    asked = installation is not None and installation.has_api

    def look() -> None:
        with database.reading() as connection:
            allowed(connection, asked)

    await asyncio.to_thread(look)
    organization = await directory.organization_of(installation, ticket) if installation else None

    def change() -> None:
        with database.transaction() as connection:
            actor = allowed(connection, asked)
            bind_ticket(connection, project_id, ticket, account, organization=organization, actor=actor)

    await asyncio.to_thread(change)


def unbind(
    connection: sa.Connection,
    project_id: str,
    kind: BindingKind,
    zendesk_id: str,
    account: str,
    *,
    actor: str,
) -> None:
    """Remove a binding. Raises BindingNotFound."""
    alone(connection)
    if not _unbind(connection, project_id, kind, zendesk_id, account):
        raise BindingNotFound(f"{kind.value} {zendesk_id} is not bound to this account.")
    _note(
        connection, project_id, actor, "support.unbound", f"{kind.value}:{zendesk_id}", {"account": account}
    )


def _bind(
    connection: sa.Connection, project_id: str, kind: BindingKind, zendesk_id: str, account: str, actor: str
) -> None:
    connection.execute(
        sa.insert(bindings).values(
            project_id=project_id,
            kind=kind.value,
            zendesk_id=zendesk_id,
            account=account,
            created_at=utc_now(),
            created_by=actor,
        )
    )
    _note(connection, project_id, actor, "support.bound", f"{kind.value}:{zendesk_id}", {"account": account})


def _unbind(
    connection: sa.Connection, project_id: str, kind: BindingKind, zendesk_id: str, account: str | None
) -> int:
    gone = sa.delete(bindings).where(
        bindings.c.project_id == project_id,
        bindings.c.kind == kind.value,
        bindings.c.zendesk_id == zendesk_id,
    )
    if account is not None:
        gone = gone.where(bindings.c.account == account)
    return connection.execute(gone).rowcount


# --- agents --------------------------------------------------------------------------------------


def role_of(connection: sa.Connection, installation: str, user: str) -> AgentRole:
    """An agent's role as of now."""
    query = sa.select(agents.c.role).where(agents.c.installation == installation, agents.c.user_id == user)
    found = connection.execute(query).scalar()
    return AgentRole(found) if found is not None else AgentRole.AGENT


def require_role(connection: sa.Connection, agent: Agent, needed: AgentRole) -> Agent:
    """`agent` with the role of now, if that is `needed` or more. Raises AgentRoleMissing."""
    current = replace(agent, role=role_of(connection, agent.installation, agent.user))
    if _RANK.index(current.role) < _RANK.index(needed):
        raise AgentRoleMissing(
            f"This needs the role {needed.value}; yours is {current.role.value}.",
            remedy="Ask an administrator of the support assistant.",
            needs=needed.value,
        )
    return current


def list_agents(connection: sa.Connection, installations: tuple[str, ...]) -> tuple[Assignment, ...]:
    """Everybody in these installations who has a role of their own."""
    query = sa.select(agents).where(agents.c.installation.in_(installations))
    rows = connection.execute(query.order_by(agents.c.installation, agents.c.user_id))
    return tuple(
        Assignment(
            installation=row.installation,
            user=row.user_id,
            role=AgentRole(row.role),
            created_at=row.created_at,
            created_by=row.created_by,
        )
        for row in rows
    )


def put_agent(
    connection: sa.Connection, project_id: str, installation: str, user: str, role: AgentRole, *, actor: str
) -> None:
    """Give somebody a role; it counts from their next request on."""
    alone(connection)
    _remove_agent(connection, installation, user)
    connection.execute(
        sa.insert(agents).values(
            installation=installation, user_id=user, role=role.value, created_at=utc_now(), created_by=actor
        )
    )
    subject = f"zendesk:{installation}:{user}"
    _note(connection, project_id, actor, "support.agent_put", subject, {"role": role.value})


def remove_agent(
    connection: sa.Connection, project_id: str, installation: str, user: str, *, actor: str
) -> None:
    """Take somebody's role; who has none is an agent. Raises AgentNotFound."""
    alone(connection)
    if not _remove_agent(connection, installation, user):
        raise AgentNotFound(f"User {user} has no role of its own in installation {installation}.")
    _note(connection, project_id, actor, "support.agent_removed", f"zendesk:{installation}:{user}", {})


def _remove_agent(connection: sa.Connection, installation: str, user: str) -> int:
    mine = (agents.c.installation == installation, agents.c.user_id == user)
    return connection.execute(sa.delete(agents).where(*mine)).rowcount


def _note(
    connection: sa.Connection,
    project_id: str,
    actor: str,
    action: str,
    subject: str,
    data: Mapping[str, Any],
) -> None:
    audit.append(
        connection, actor=actor, action=action, subject=subject, project_id=project_id, data=dict(data)
    )
