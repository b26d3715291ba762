"""Logging in, and who may do what: users, tokens, projects and their members."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli.client import (
    Client,
    Credentials,
    connect,
    credentials_path,
    current_project,
    load_credentials,
    read_input,
    store_credentials,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")]

projects = typer.Typer(name="projects", help="Projects, their settings and members.", no_args_is_help=True)
members = typer.Typer(name="members", help="Who may do what in a project.", no_args_is_help=True)
users = typer.Typer(
    name="users", help="People and robots that can log in (administrators only).", no_args_is_help=True
)
tokens = typer.Typer(name="tokens", help="API tokens for programs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the top of the command line."""
    app.command()(login)
    app.command()(logout)
    app.command()(whoami)
    projects.add_typer(members)
    app.add_typer(projects)
    app.add_typer(users)
    app.add_typer(tokens)


def secret_input(prompt: str, *, confirm: bool = False) -> str:
    """A password, typed unseen, or the first line of standard input where that is not a terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    value: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm)
    return value


def login(
    username: Annotated[str, typer.Option("--username", "-u", prompt=True, help="Who you are.")],
    url: Annotated[
        str | None, typer.Option(help="The server; default: FAIRLEAD_URL or this machine.")
    ] = None,
    json_: Json = False,
) -> None:
    """Log in and keep the session (the password is asked for, or read from standard input)."""
    server = load_credentials(url).url
    client = Client(Credentials(server), keep=False)
    session = client.request(
        "POST", "/sessions", body={"username": username, "password": secret_input("Password")}, auth=False
    )
    path = store_credentials(Credentials(server, session["access_token"], session["refresh_token"]))
    if json_:
        output.as_json({"url": server, "username": username, "credentials": str(path)})
    else:
        output.console().print(f"Logged in to {server} as [bold]{username}[/]; session kept in {path}.")


def logout(json_: Json = False) -> None:
    """End the session and forget it."""
    path = credentials_path()
    if path.exists():
        try:
            connect().request("DELETE", "/sessions/current")
        finally:
            path.unlink(missing_ok=True)
    output.as_json({"logged_in": False}) if json_ else output.console().print("Logged out.")


def whoami(json_: Json = False) -> None:
    """Who you are to the server."""
    found = connect().get("/users/me")
    output.as_json(found) if json_ else output.console().print(
        f"{found['username']}  {load_credentials().url}", markup=False
    )


def _table(rows: list[dict[str, Any]], *columns: str) -> None:
    table = output.table(*columns)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    output.console().print(table)


@projects.command("create")
def project_create(
    key: Annotated[str, typer.Argument(help="Short name, for ever: lower-case letters, digits, dashes.")],
    name: Annotated[str | None, typer.Option(help="Name for people; default: the key.")] = None,
    description: Annotated[str, typer.Option()] = "",
    region: Annotated[str | None, typer.Option(help="AWS region; default: the server's.")] = None,
    settings: Annotated[Path | None, typer.Option(help="JSON file with more settings.")] = None,
    json_: Json = False,
) -> None:
    """Create a project; you become its owner."""
    values = json.loads(read_input(settings)) if settings else {}
    if region:
        values["region"] = region
    found = connect().post(
        "/projects", {"id": key, "name": name or key, "description": description, "settings": values}
    )
    output.as_json(found) if json_ else output.console().print(f"Project [bold]{found['id']}[/] created.")


@projects.command("list")
def project_list(json_: Json = False) -> None:
    """Projects that you may see."""
    found = connect().get("/projects")
    output.as_json(found) if json_ else _table(found["items"], "id", "name", "owner", "description")


@projects.command("show")
def project_show(key: str, json_: Json = False) -> None:
    """One project with its settings."""
    found = connect().get(f"/projects/{key}")
    if json_:
        output.as_json(found)
        return
    output.console().print(f"[bold]{found['id']}[/]  {found['name']}  owner {found['owner']}")
    output.as_json(found["settings"])


@projects.command("set")
def project_set(
    key: str,
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None,
    environment: Annotated[str | None, typer.Option(help="Such as production: it counts as riskier.")] = None,
    settings: Annotated[Path | None, typer.Option(help="JSON file with more settings.")] = None,
    json_: Json = False,
) -> None:
    """Change settings of a project; what is not named stays."""
    client = connect()
    values = client.get(f"/projects/{key}")["settings"] | (
        json.loads(read_input(settings)) if settings else {}
    )
    values |= {name: value for name, value in (("region", region), ("environment", environment)) if value}
    found = client.request("PATCH", f"/projects/{key}", body={"settings": values})
    output.as_json(found) if json_ else output.console().print(f"Project [bold]{key}[/] changed.")


@members.command("list")
def member_list(project: Project = None, json_: Json = False) -> None:
    """Members and their roles."""
    found = connect().get(f"/projects/{current_project(project)}/members")
    output.as_json(found) if json_ else _table(found["items"], "username", "display_name", "role")


@members.command("add")
def member_add(
    username: str,
    role: Annotated[str, typer.Option(help="viewer, author, approver or owner.")],
    project: Project = None,
    json_: Json = False,
) -> None:
    """Add a member, or change a member's role."""
    name = current_project(project)
    found = connect().request("PUT", f"/projects/{name}/members/{username}", body={"role": role})
    output.as_json(found) if json_ else output.console().print(f"{username} is now {role} of {name}.")


@members.command("remove")
def member_remove(username: str, project: Project = None, json_: Json = False) -> None:
    """Take a member's access away."""
    name = current_project(project)
    connect().request("DELETE", f"/projects/{name}/members/{username}")
    output.as_json({"removed": username}) if json_ else output.console().print(f"{username} left {name}.")


@users.command("create")
def user_create(
    username: str,
    display_name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May manage users and projects.")] = False,
    json_: Json = False,
) -> None:
    """Create a user (the password is asked for, or read from standard input)."""
    body = {
        "username": username,
        "display_name": display_name or username,
        "is_admin": admin,
        "password": secret_input("Password for the new user", confirm=True),
    }
    found = connect().post("/users", body)
    output.as_json(found) if json_ else output.console().print(f"User [bold]{username}[/] created.")


@users.command("list")
def user_list(json_: Json = False) -> None:
    """All users."""
    found = connect().get("/users")
    output.as_json(found) if json_ else _table(
        found["items"], "username", "display_name", "is_admin", "disabled_at"
    )


@tokens.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        str, typer.Option(help="full, propose (read and plan only: for agents) or read.")
    ] = "full",
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 90,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Only for this project.")] = None,
    json_: Json = False,
) -> None:
    """Create an API token; it is shown once."""
    found = connect().post(
        "/tokens", {"name": name, "scope": scope, "expires_in_days": days, "project": project}
    )
    if json_:
        output.as_json(found)
    else:
        output.console().print(f"{found['token']}\nShown once. Use it as FAIRLEAD_TOKEN.", markup=False)


@tokens.command("list")
def token_list(json_: Json = False) -> None:
    """Your API tokens."""
    found = connect().get("/tokens")
    output.as_json(found) if json_ else _table(
        found["items"], "id", "name", "scope", "project", "expires_at", "revoked_at"
    )


@tokens.command("revoke")
def token_revoke(token_id: str, json_: Json = False) -> None:
    """Make a token worthless at once."""
    connect().request("DELETE", f"/tokens/{token_id}")
    output.as_json({"revoked": token_id}) if json_ else output.console().print(f"{token_id} revoked.")
