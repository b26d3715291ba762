"""`fairlead changes`: plan, review, approve, apply; and what works offline on files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli.client import Client, FileUnreadable, connect, current_project, read_input

app = typer.Typer(
    name="changes", help="Plan, review, approve and apply changes of AWS resources.", no_args_is_help=True
)
state_app = typer.Typer(
    name="state", help="The recorded versions of a project's resources.", no_args_is_help=True
)
app.add_typer(state_app)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")]
Parameters = Annotated[
    Path | None, typer.Option("--parameters", help="File with parameter values (JSON or YAML).")
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="One parameter value; may be repeated."),
]
PlanNumber = Annotated[int, typer.Argument(metavar="PLAN", help="Number of the plan, as `plan` printed it.")]
Comment = Annotated[str | None, typer.Option("--comment", "-m", help="Why; kept with the decision.")]


def _text(template: Path) -> str:
    data = read_input(template)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileUnreadable(
            f"{template}:{line}: byte {error.start} is not UTF-8.",
            remedy="Save the file as UTF-8.",
            path=str(template),
            line=line,
        ) from None


def _parameters(file: Path | None, variables: list[str] | None) -> dict[str, Any]:
    from fairlead.changes.template import load_parameters

    values: dict[str, Any] = load_parameters(read_input(file)) if file else {}
    for variable in variables or ():
        name, separator, value = variable.partition("=")
        if not separator:
            raise typer.BadParameter(f"{variable!r}: write --var NAME=VALUE.")
        values[name] = value
    return values


@app.command()
def validate(
    template: Path, parameters: Parameters = None, var: Variables = None, json_: Json = False
) -> None:
    """Check a template against the resource schemas, offline. Exit 0 valid, 1 not."""
    from fairlead.changes.template import TemplateInvalid
    from fairlead.changes.validation import report as report_of
    from fairlead.changes.validation import validate_file

    data, faulty = read_input(template), template
    try:
        report = validate_file(data, _parameters(parameters, var))
    except TemplateInvalid as broken:  # the parameters file cannot be read: nothing can be said of the rest
        faulty = parameters or template
        told = [replace(fault, message=f"Parameters file: {fault.message}") for fault in broken.faults]
        report = report_of(told)
    if json_:
        output.as_json(report)
    else:
        for fault in report["faults"]:
            where = f"{faulty}:{fault['line']}" if fault["line"] else str(faulty)
            path = f"{fault['path']}: " if fault["path"] else ""
            output.console().print(f"{where}: {path}{fault['message']}  ({fault['code']})", markup=False)
        if report["valid"]:
            output.console().print(f"{template} is valid.", style="green")
    raise typer.Exit(0 if report["valid"] else 1)


@app.command()
def diff(
    before: Path,
    after: Path,
    before_parameters: Annotated[
        Path | None, typer.Option("--before-parameters", help="Parameter values of BEFORE.")
    ] = None,
    after_parameters: Annotated[
        Path | None, typer.Option("--after-parameters", help="Parameter values of AFTER.")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare two templates, offline. Exit 0 without changes, 2 with, 1 on error."""
    from fairlead.changes.schemas import diff_files, plan_document

    plan = diff_files(
        read_input(before),
        read_input(after),
        _parameters(before_parameters, None),
        _parameters(after_parameters, None),
    )
    if json_:
        from fairlead.changes.diff import to_json

        output.as_json(to_json(plan))
    else:
        from fairlead.cli.planview import plan_view

        output.console().print(plan_view(plan_document(plan)))
    raise typer.Exit(2 if plan.changes else 0)


@app.command()
def plan(
    template: Annotated[Path, typer.Argument(help="CloudFormation template, or - for standard input.")],
    project: Project = None,
    parameters: Parameters = None,
    var: Variables = None,
    message: Annotated[str, typer.Option("--message", "-m", help="What this change is for.")] = "",
    json_: Json = False,
) -> None:
    """Work out what would change, and ask for approval. Exit 0 without changes, 2 with."""
    body = {
        "template": _text(template),
        "parameters": _parameters(parameters, var),
        "description": message or template.name,
    }
    _request_plan(current_project(project), body, as_json=json_)


@app.command()
def destroy(
    project: Project = None,
    message: Annotated[str, typer.Option("--message", "-m")] = "",
    json_: Json = False,
) -> None:
    """Plan the deletion of every resource of the project. Exit 0 when there are none, 2 with changes."""
    _request_plan(
        current_project(project),
        {"destroy": True, "description": message or "destroy everything"},
        as_json=json_,
    )


def _request_plan(project: str, body: dict[str, Any], *, as_json: bool) -> None:
    client = connect()
    number = client.post(f"/projects/{project}/plans", body)["number"]
    made = wait_for_plan(client, project, number)
    if as_json:
        output.as_json(made)
    else:
        show_plan(made, project)
    if made["status"] == "failed":
        raise typer.Exit(4)
    raise typer.Exit(0 if made["status"] == "no_changes" else 2)


def wait_for_plan(client: Client, project: str, number: int) -> dict[str, Any]:
    """The plan once it has been worked out (or has failed)."""
    made: dict[str, Any] = client.get(f"/projects/{project}/plans/{number}")
    if made["status"] != "planning":
        return made
    for event in client.events(made["run_id"]):
        if event["type"] in ("plan.ready", "run.failed", "run.cancelled"):
            break
    return dict(client.get(f"/projects/{project}/plans/{number}"))


def show_plan(made: dict[str, Any], project: str) -> None:
    """Print a plan, where it stands and what to do next."""
    from fairlead.cli.planview import plan_view

    out = output.console()
    if made.get("document"):
        out.print(plan_view(made["document"]))
    out.print()
    out.print(
        f"[bold]Plan {made['number']}[/] of {project} is [bold]{made['status']}[/].",
        *_next_step(made, project),
    )
    if made.get("problem"):
        out.print(f"[red]{made['problem'].get('detail')}[/]")


def _next_step(made: dict[str, Any], project: str) -> list[str]:
    number = made["number"]
    if made["status"] == "pending":
        who = "another member" if made.get("risk") == "HIGH" else "a member"
        until = made["deadline_at"][:16]
        return [f"Waits for {who} until {until}Z:\n  fairlead changes approve {number} -p {project}"]
    if made["status"] == "approved":
        return [f"Approved by {made['decided_by']}:\n  fairlead changes apply {number} -p {project}"]
    return []


@app.command()
def show(number: PlanNumber, project: Project = None, json_: Json = False) -> None:
    """Print a plan again."""
    name = current_project(project)
    made = connect().get(f"/projects/{name}/plans/{number}")
    output.as_json(made) if json_ else show_plan(made, name)


@app.command("list")
def list_(
    project: Project = None,
    status: Annotated[str | None, typer.Option(help="Only plans in this status.")] = None,
    json_: Json = False,
) -> None:
    """Plans of the project, newest first."""
    rows = connect().get(f"/projects/{current_project(project)}/plans", status=status)
    if json_:
        output.as_json(rows)
        return
    from fairlead.cli.planview import plans_table

    output.console().print(plans_table(rows["items"]))


@app.command()
def approve(
    number: PlanNumber, project: Project = None, comment: Comment = None, json_: Json = False
) -> None:
    """Approve exactly the plan that you have seen (by its digest)."""
    _decide("approve", number, project, comment, json_)


@app.command()
def reject(number: PlanNumber, project: Project = None, comment: Comment = None, json_: Json = False) -> None:
    """Reject a plan, or withdraw its approval before it is applied."""
    _decide("reject", number, project, comment, json_)


@app.command()
def cancel(number: PlanNumber, project: Project = None, comment: Comment = None, json_: Json = False) -> None:
    """Withdraw a plan, or stop its apply: what has begun is finished and recorded, nothing new begins."""
    _decide("cancel", number, project, comment, json_)


def _decide(verb: str, number: int, project: str | None, comment: str | None, as_json: bool) -> None:
    name = current_project(project)
    client = connect()
    seen = client.get(f"/projects/{name}/plans/{number}")
    made = client.post(
        f"/projects/{name}/plans/{number}/{verb}", {"digest": seen["digest"], "comment": comment}
    )
    if as_json:
        output.as_json(made)
    else:
        output.console().print(
            f"[bold]Plan {number}[/] of {name} is [bold]{made['status']}[/].", *_next_step(made, name)
        )


@app.command()
def apply(
    number: PlanNumber,
    project: Project = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    json_: Json = False,
) -> None:
    """Apply an approved plan, resource by resource. Exit 4 if something failed; Ctrl-C leaves it running."""
    name = current_project(project)
    client = connect()
    made = client.post(f"/projects/{name}/plans/{number}/apply")
    if not detach:
        made = follow_apply(client, name, made, quiet=json_)
    if json_:
        output.as_json(made)
    elif not detach:
        output.console().print(f"[bold]Plan {number}[/] of {name} is [bold]{made['status']}[/].")
        _show_outputs(client, made["apply_run_id"])
    if made["status"] not in ("applied", "applying"):
        if not json_ and made.get("problem"):
            problem = made["problem"]
            output.console(stderr=True).print(
                f"[bold red]error[/] {problem.get('detail')}",
                *output.detail_lines(problem.get("details") or {}),
                sep="\n  ",
            )
        raise typer.Exit(3 if made["status"] == "cancelled" else 4)


def _show_outputs(client: Client, run_id: str) -> None:
    outputs = (client.get(f"/runs/{run_id}").get("result") or {}).get("outputs") or {}
    if outputs:
        output.console().print("\n[bold]Outputs[/]")
    for name, value in outputs.items():
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        output.console().print(f"  {name} = {shown}", markup=False)


def follow_apply(
    client: Client, project: str, made: dict[str, Any], *, quiet: bool = False
) -> dict[str, Any]:
    """Show the apply until it ends; the plan as it stands then."""
    from fairlead.cli.progress import follow

    events = client.events(made["apply_run_id"])
    if quiet:
        for _ in events:
            pass
    else:
        follow(events)
    return dict(client.get(f"/projects/{project}/plans/{made['number']}"))


@app.command()
def resources(
    project: Project = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only of this type; AWS::EC2::* is a pattern.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="Only in this status: active, error …")
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="KEY[=VALUE]", help="Only with this tag.")
    ] = None,
    json_: Json = False,
) -> None:
    """Resources that the newest state version records."""
    path = f"/projects/{current_project(project)}/resources"
    found = connect().get(path, type=type_, status=status, tag=tag)
    if json_:
        output.as_json(found)
        return
    from rich.table import Table

    table = Table("resource", "type", "identifier", "status", box=None, pad_edge=False)
    for item in found["items"]:
        table.add_row(item["logical_id"], item["type"], item["id"], item["status"])
    output.console().print(table)


@state_app.command("show")
def state_show(
    project: Project = None,
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    json_: Json = False,
) -> None:
    """One version of the state, as it is stored."""
    name = current_project(project)
    found = connect().get(
        f"/projects/{name}/state" if version is None else f"/projects/{name}/state/versions/{version}"
    )
    if json_:
        output.as_json(found)
        return
    output.console().print(
        f"[bold]version {found['version']}[/]  {found['address']}\n"
        f"{found['timestamp']}  {found['actor']}  {found['description']}"
    )
    for item in found["resources"]:
        output.console().print(f"  {item['logicalId']}  {item['type']}  {item['id']}", markup=False)


@state_app.command("history")
def state_history(project: Project = None, json_: Json = False) -> None:
    """Versions, newest first."""
    found = connect().get(f"/projects/{current_project(project)}/state/versions")
    if json_:
        output.as_json(found)
        return
    for item in found["items"]:
        output.console().print(
            f"{item['version']:>5}  {item['timestamp']}  {item['actor']}  {item['description']}", markup=False
        )


@state_app.command("diff")
def state_diff(before: int, after: int, project: Project = None, json_: Json = False) -> None:
    """What differs between two versions. Exit 0 when nothing does, 2 otherwise."""
    found = connect().get(f"/projects/{current_project(project)}/state/compare", before=before, after=after)
    if json_:
        output.as_json(found)
    else:
        output.console().print(state_difference(found))
    raise typer.Exit(2 if found["differences"] else 0)


def state_difference(found: dict[str, Any]) -> Any:
    """The difference of two versions for people."""
    from rich.console import Group
    from rich.text import Text

    signs = {
        "added": ("+", "green"),
        "removed": ("-", "red"),
        "changed": ("~", "yellow"),
        "replaced": ("±", "magenta"),
    }
    lines: list[Any] = []
    for item in found["differences"]:
        sign, style = signs[item["kind"]]
        lines.append(
            Text(f"{sign} {item['logical_id']}", style=f"bold {style}").append(
                f"  {item['type']}", style="cyan"
            )
        )
        for change in item.get("properties", ()):
            before, after = (json.dumps(change[side], default=str) for side in ("before", "after"))
            lines.append(Text(f"    {change['path']}: {before} → {after}"))
    return Group(*lines) if lines else Text("No differences.")


@state_app.command("verify")
def state_verify(project: Project = None, json_: Json = False) -> None:
    """Walk the chain of versions and check every hash. Exit 1 when something is wrong."""
    found = connect().post(f"/projects/{current_project(project)}/state/verify")
    if json_:
        output.as_json(found)
    else:
        for fault in found["faults"]:
            output.console().print(
                f"✗ version {fault['version']}: {fault['message']}", markup=False, style="red"
            )
        output.console().print(f"{found['checked']} versions checked, {len(found['faults'])} faults.")
    raise typer.Exit(1 if found["faults"] else 0)


@state_app.command("recover")
def state_recover(project: Project = None, json_: Json = False) -> None:
    """Write a new version from the last good one after the newest was damaged; history stays."""
    found = connect().post(f"/projects/{current_project(project)}/state/recover")
    if json_:
        output.as_json(found)
    else:
        output.console().print(f"Version {found['version']} written from version {found['recovered_from']}.")
