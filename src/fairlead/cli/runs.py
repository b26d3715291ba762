"""`fairlead runs`: everything that has an effect, what it is doing and what it did."""

from typing import Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli.client import connect, current_project

app = typer.Typer(
    name="runs", help="Runs: list them, look at one, follow it, cancel it.", no_args_is_help=True
)
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON and nothing else (watch: one document a line).")
]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")]


@app.command("list")
def list_(project: Project = None, json_: Json = False) -> None:
    """Runs of the project, newest first."""
    found = connect().get(f"/projects/{current_project(project)}/runs")
    if json_:
        output.as_json(found)
        return
    table = output.table("run", "kind", "status", "by", "created")
    for run in found["items"]:
        table.add_row(run["id"], run["kind"], run["status"], run["actor"], run["created_at"][:19])
    output.console().print(table)


@app.command()
def show(run: str, json_: Json = False) -> None:
    """One run: status, result, error."""
    found = connect().get(f"/runs/{run}")
    if json_:
        output.as_json(found)
        return
    out = output.console()
    out.print(f"[bold]{found['id']}[/]  {found['kind']}  {found['status']}")
    out.print(
        f"by {found['actor']}, created {found['created_at']}, finished {found.get('finished_at') or '–'}"
    )
    if found.get("error"):
        out.print(f"[red]{found['error'].get('detail')}[/]  ({found['error'].get('code')})")


@app.command()
def watch(
    run: str,
    after: Annotated[int, typer.Option(help="Only events after this sequence number.")] = 0,
    json_: Json = False,
) -> None:
    """Events of a run as they happen, until it ends."""
    for event in connect().events(run, after=after):
        if json_:
            import json

            typer.echo(json.dumps(event, ensure_ascii=False))
        else:
            output.console().print(
                f"{event['seq']:>4}  {event['at'][11:19]}  {event['type']}  {_brief(event.get('data'))}",
                markup=False,
            )


def _brief(data: Any) -> str:
    if not isinstance(data, dict):
        return ""
    return "  ".join(f"{key}={value}" for key, value in data.items() if isinstance(value, str | int | float))


@app.command()
def cancel(run: str, json_: Json = False) -> None:
    """Ask a run to stop: what has begun is finished and recorded, nothing new begins."""
    found = connect().post(f"/runs/{run}/cancel")
    if json_:
        output.as_json(found)
    else:
        output.console().print(f"{run}: cancellation requested; status {found['status']}.")
