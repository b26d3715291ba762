"""`fairlead support customers | bind | bindings | agents`: whose accounts may be looked into, and by whom."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli.client import Client, connect, current_project
from fairlead.cli.support_options import Json, Language, Project

customers = typer.Typer(name="customers", help="Accounts that a project may look into.", no_args_is_help=True)
agents = typer.Typer(
    name="agents",
    help="What agents in Zendesk may do. Who has no role here is an agent: asks, screens and reports.",
    no_args_is_help=True,
)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="AWS account: twelve digits.")]
Installation = Annotated[
    str, typer.Argument(metavar="INSTALLATION", help="Zendesk's number of the app's installation.")
]
User = Annotated[str, typer.Argument(metavar="USER", help="Zendesk's id of the user: digits.")]


class AgentRole(StrEnum):
    """What an agent may do."""

    AGENT = "agent"
    LEAD = "lead"
    ADMINISTRATOR = "administrator"


def register(app: typer.Typer) -> None:
    """Add these commands to `fairlead support`."""
    app.add_typer(customers)
    app.add_typer(agents)
    app.command()(bind)
    app.command()(bindings)


def _address(project: str | None, *parts: str) -> str:
    # What is typed stays one part of the address, whatever characters it has.
    from urllib.parse import quote

    return "/".join(
        (f"/projects/{current_project(project)}/support", *(quote(part, safe="") for part in parts))
    )


def _cell(value: object) -> Any:
    from rich.text import Text

    return Text(str(value))  # names are text, whatever brackets they hold


# --- customers -----------------------------------------------------------------------------------


@customers.command("list")
def list_customers(project: Project = None, json_: Json = False) -> None:
    """All customers of the project."""
    found = connect().get(_address(project, "customers"))
    if json_:
        output.as_json(found)
        return
    made = output.table("account", "name", "access", "role", "regions", "language", "time zone")
    for one in found["items"]:
        role = one["role_name"] if one["access"] == "role" else "–"
        regions = ", ".join(one["regions"]) or "all"
        shown = (one["account"], one["name"], one["access"], role, regions, one["language"], one["timezone"])
        made.add_row(*map(_cell, shown))
    output.console().print(made)


@customers.command("show")
def show_customer(account: Account, project: Project = None, json_: Json = False) -> None:
    """One customer; with its ExternalId and trust policy for those who may manage customers."""
    found = connect().get(_address(project, "customers", account))
    if json_:
        output.as_json(found)
    else:
        _print_customer(found)


@customers.command("add")
def add_customer(
    account: Account,
    name: Annotated[str, typer.Option(help="What the customer is called.")],
    role_name: Annotated[
        str | None, typer.Option(help="Role to assume there; default: the server's setting.")
    ] = None,
    region: Annotated[
        list[str] | None, typer.Option(help="Look into this region only; may be repeated. Default: all.")
    ] = None,
    language: Annotated[Language, typer.Option(help="Of reports.")] = Language.KOREAN,
    timezone: Annotated[str, typer.Option(help="Whose days and months count.")] = "Asia/Seoul",
    principal: Annotated[
        str | None,
        typer.Option(help="ARN that the customer's role has to trust; default: the server's hub role."),
    ] = None,
    own_account: Annotated[
        bool, typer.Option("--own-account", help="The server's own account: no role is assumed.")
    ] = False,
    new_external_id: Annotated[
        bool, typer.Option("--new-external-id", help="Replace the ExternalId; the old one works no more.")
    ] = False,
    project: Project = None,
    json_: Json = False,
) -> None:
    """Add a customer, or change all that is said of it; prints the trust policy that the customer needs."""
    body = {
        "name": name,
        "access": "own" if own_account else "role",
        "role_name": role_name,
        "regions": region or [],
        "language": language.value,
        "timezone": timezone,
        "new_external_id": new_external_id,
    }
    found = connect().request("PUT", _address(project, "customers", account), body=body)
    if principal and found.get("trust_policy"):
        found["trust_policy"]["Statement"][0]["Principal"]["AWS"] = principal
    if json_:
        output.as_json(found)
    else:
        _print_customer(found)


@customers.command("remove")
def remove_customer(account: Account, project: Project = None, json_: Json = False) -> None:
    """Remove a customer and everything that is bound to it; its reports stay until their time is over."""
    connect().request("DELETE", _address(project, "customers", account))
    _done({"account": account, "removed": True}, f"{account} removed", json_=json_)


def _print_customer(one: dict[str, Any]) -> None:
    out = output.console()
    out.print(f"{one['account']}  {one['name']}  {one['language']}  {one['timezone']}", markup=False)
    out.print(f"regions: {', '.join(one['regions']) or 'all'}", markup=False)
    if one["access"] == "own":
        out.print("read with the server's own credentials")
    elif one.get("trust_policy"):
        out.print(f"role: {one['role_name']}, which has to trust:", markup=False)
        out.print(json.dumps(one["trust_policy"], indent=2), markup=False)
        out.print("and to have the policy arn:aws:iam::aws:policy/SecurityAudit.", markup=False)
    else:
        out.print(f"role: {one['role_name']}", markup=False)


def _done(document: dict[str, Any], text: str, *, json_: bool) -> None:
    if json_:
        output.as_json(document)
    else:
        output.console().print(text, markup=False)


# --- bindings ------------------------------------------------------------------------------------


def bind(
    account: Account,
    organization: Annotated[
        str | None, typer.Option(help="Zendesk's id of an organization; it can have several accounts.")
    ] = None,
    ticket: Annotated[
        str | None, typer.Option(help="Number of a ticket; instead of the account that was chosen before.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the binding away.")] = False,
    project: Project = None,
    json_: Json = False,
) -> None:
    """Say whose tickets are about an account: those of an organization, or one ticket."""
    if (organization is None) == (ticket is None):
        raise typer.BadParameter("Whose account is it? Give either --organization or --ticket.")
    kind, number = ("organization", organization) if organization is not None else ("ticket", ticket)
    method = "DELETE" if remove else "PUT"
    connect().request(method, _address(project, "bindings", kind, number or "", account))
    document = {"kind": kind, "zendesk_id": number, "account": account, "bound": not remove}
    verb = "is no longer bound to" if remove else "is bound to"
    _done(document, f"{kind} {number} {verb} {account}", json_=json_)


def bindings(project: Project = None, json_: Json = False) -> None:
    """Which accounts organizations and tickets have."""
    found = connect().get(_address(project, "bindings"))
    if json_:
        output.as_json(found)
        return
    made = output.table("kind", "id in Zendesk", "account", "since", "by")
    for one in found["items"]:
        shown = (one["kind"], one["zendesk_id"], one["account"], one["created_at"], one["created_by"])
        made.add_row(*map(_cell, shown))
    output.console().print(made)


# --- agents --------------------------------------------------------------------------------------


@agents.command("list")
def list_agents(project: Project = None, json_: Json = False) -> None:
    """Everybody who has a role of their own."""
    found = connect().get(_address(project, "agents"))
    if json_:
        output.as_json(found)
        return
    made = output.table("installation", "user", "role", "since", "by")
    for one in found["items"]:
        shown = (one["installation"], one["user"], one["role"], one["created_at"], one["created_by"])
        made.add_row(*map(_cell, shown))
    output.console().print(made)


@agents.command("set")
def set_agent(
    installation: Installation,
    user: User,
    role: Annotated[
        AgentRole,
        typer.Argument(
            help="lead: also chooses a ticket's account and accepts findings; administrator: also keeps "
            "the list of customers."
        ),
    ],
    project: Project = None,
    json_: Json = False,
) -> None:
    """Give somebody in Zendesk a role; it counts from their next request on."""
    client: Client = connect()
    client.request("PUT", _address(project, "agents", installation, user), body={"role": role.value})
    document = {"installation": installation, "user": user, "role": role.value}
    _done(document, f"user {user} of installation {installation} is {role.value}", json_=json_)


@agents.command("remove")
def remove_agent(
    installation: Installation, user: User, project: Project = None, json_: Json = False
) -> None:
    """Take somebody's role: an agent like everybody else."""
    connect().request("DELETE", _address(project, "agents", installation, user))
    document = {"installation": installation, "user": user, "role": "agent"}
    _done(document, f"user {user} of installation {installation} is agent", json_=json_)


@agents.command("end-sessions")
def end_sessions(
    installation: Installation, user: User, project: Project = None, json_: Json = False
) -> None:
    """End everything that somebody has open now: for who left. Take the user out of Zendesk first."""
    connect().request("DELETE", _address(project, "agents", installation, user, "sessions"))
    document = {"installation": installation, "user": user, "ended": True}
    _done(document, f"sessions of user {user} of installation {installation} are ended", json_=json_)
