"""`fairlead cases …` with a server: watch, list, show, retry, cancel, prioritise, hosts, gpus."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli import output
from fairlead.cli.client import connect, current_project

if TYPE_CHECKING:
    from rich.table import Table

    from fairlead.compose import Fairlead

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")]
Number = Annotated[int, typer.Argument(metavar="CASE", help="Number of the case, as `list` shows it.")]
LOOK_S = 0.25
_COLOURS = {"pass": "green", "fail": "bold red", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def register(app: typer.Typer) -> None:
    """Add these commands to `fairlead cases`."""
    app.command("list")(list_)
    for command in (watch, show, report_of, retry, cancel, prioritise, hosts, gpus):
        app.command("fetch" if command is report_of else None)(command)


def list_(
    project: Project = None, status: Annotated[str | None, typer.Option()] = None, json_: Json = False
) -> None:
    """Cases of the project, newest first."""
    found = connect().get(f"/projects/{current_project(project)}/cases", status=status)
    if json_:
        output.as_json(found)
        return
    output.console().print(table(found["items"]))


def show(case: Number, project: Project = None, json_: Json = False) -> None:
    """One case: fractions, beams, checks, violations, problem."""
    found = connect().get(f"/projects/{current_project(project)}/cases/{case}")
    if json_:
        output.as_json(found)
        return
    out = output.console()
    out.print(table([found]))
    for fraction in found["fractions"]:
        missing = f", missing beams {fraction['missing_beams']}" if fraction["missing_beams"] else ""
        count = len(fraction["deliveries"])
        out.print(f"fraction {fraction['number']}: {fraction['state']}, {count} deliveries{missing}")
    for beam in found["beams"]:
        where = f"{beam['host']} place {beam['slots']}" if beam["slots"] else beam["host"] or "–"
        share = f"{beam['progress']:.0%}  attempt {beam['attempt']}"
        out.print(f"beam {beam['beam']}: {beam['status']}  {share}  {where}")
    for check in (found["result"] or {}).get("checks", ()):
        mark = "[green]✓[/]" if check["passed"] else "[red]✗[/]"
        out.print(f"{mark} {check['name']}: {check['found']} (limit {check['limit']})")
    for v in found["violations"]:
        out.print(f"{v['file']}: {v['field']}: {v['message']}  ({v['rule']})", markup=False, style="red")
    if problem := found["problem"]:
        out.print(f"{problem['detail']}  ({problem['code']})", markup=False, style="red")


def report_of(
    case: Number,
    out: Annotated[Path, typer.Option(help="Folder for report.html and the pictures.")],
    project: Project = None,
) -> None:
    """Bring a case's report and pictures here."""
    client, path = connect(), f"/projects/{current_project(project)}/cases/{case}"
    fetch_report(client, path, out)
    output.console().print(str(out / "report.html"))


def fetch_report(client: Any, path: str, out: Path) -> list[str]:
    """Write the report and the pictures of the case at `path` into `out`; the pictures' names."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_bytes(client.content(f"{path}/report"))
    names: list[str] = client.get(f"{path}/pictures")["items"]
    for name in names:
        (out / name).write_bytes(client.content(f"{path}/pictures/{name}"))
    return names


def _post(case: int, project: str | None, what: str, body: Any, json_: bool) -> None:
    found = connect().post(f"/projects/{current_project(project)}/cases/{case}/{what}", body)
    if json_:
        output.as_json(found)
    else:
        output.console().print(table([found]))


def retry(case: Number, project: Project = None, json_: Json = False) -> None:
    """Begin a case that has ended again: a new round."""
    _post(case, project, "retry", None, json_)


def cancel(case: Number, project: Project = None, json_: Json = False) -> None:
    """Stop a case and its jobs on the hosts."""
    _post(case, project, "cancel", None, json_)


def prioritise(
    case: Number,
    priority: Annotated[int, typer.Argument(help="-100 to 100; higher goes first.", min=-100, max=100)],
    project: Project = None,
    json_: Json = False,
) -> None:
    """Let a case go before others, or after them."""
    _post(case, project, "priority", {"priority": priority}, json_)


def hosts(
    pause: Annotated[str | None, typer.Option(help="No new jobs for this host; running ones go on.")] = None,
    drain: Annotated[str | None, typer.Option(help="The same, to take it away: `drained` says when.")] = None,
    resume: Annotated[str | None, typer.Option(help="Give this host jobs again.")] = None,
    json_: Json = False,
) -> None:
    """Hosts that calculate doses; pausing or draining one needs an administrator."""
    client = connect()
    for name, state in ((pause, "paused"), (drain, "draining"), (resume, "active")):
        if name:
            client.request("PUT", f"/case-hosts/{name}", body={"state": state})
    found = client.get("/case-hosts")
    if json_:
        output.as_json(found)
        return
    made = output.table("host", "executor", "state", "places", "taken", "answered", "problem")
    for host in found["items"]:
        taken = sum(slot["job"] is not None for slot in host["slots"])
        state = "drained" if host["drained"] else host["state"]
        answered = (host["looked_at"] or "never")[:19]
        problem = f"[red]{host['problem']['code']}[/]" if host["problem"] else ""
        places = (str(len(host["slots"])), str(taken))
        made.add_row(host["name"], host["executor"], state, *places, answered, problem)
    output.console().print(made)
    for host in found["items"]:
        if problem := host["problem"]:
            output.console().print(
                f"{host['name']}: {problem['detail']}  {problem['remedy'] or ''}".rstrip(), markup=False
            )


def gpus(json_: Json = False) -> None:
    """Every GPU (or place, on hosts without) and the job that holds it."""
    rows = []
    for host in connect().get("/case-hosts")["items"]:
        by_id = {gpu["uuid"]: gpu for gpu in host["gpus"]}
        rows += [{"host": host["name"], **slot, "gpu": by_id.get(slot["slot"])} for slot in host["slots"]]
    if json_:
        output.as_json({"items": rows})
        return
    made = output.table("host", "place", "GPU", "memory MB", "used MB", "job")
    for row in rows:
        gpu = row["gpu"] or {}
        memory = [str(gpu.get(key) or "") for key in ("memory_total_mb", "memory_used_mb")]
        made.add_row(row["host"], row["slot"], gpu.get("name", "–"), *memory, row["job"] or "free")
    output.console().print(made)


def table(cases: Iterable[dict[str, Any]]) -> "Table":
    """One row a case."""
    made = output.table("case", "project", "status", "step", "", "%", "round", "host", "verdict", "gamma")
    for case in cases:
        verdict = case["verdict"] or ""
        colour = _COLOURS.get(verdict or case["status"], "")
        rate = case["pass_rate"]
        made.add_row(
            str(case["number"]),
            case["project"],
            f"[{colour}]{case['status']}[/]" if colour else case["status"],
            case["step"],
            bar(case["progress"]),
            f"{100 * case['progress']:.0f}",
            str(case["round"]),
            case["host"] or "",
            f"[{colour}]{verdict.upper()}[/]" if verdict else "",
            "" if rate is None else f"{rate:.1f} %",
        )
    return made


def bar(progress: float, width: int = 16) -> str:
    """Progress as text."""
    done = round(width * progress)
    return "━" * done + "[dim]" + "─" * (width - done) + "[/]"


# --- watch ---------------------------------------------------------------------------------------


def watch(
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Also stop when standard input ends: for a parent process.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document a line and change.")] = False,
) -> None:
    """Watch the scan folders of the settings and show what becomes of the cases; workers do the work."""
    from fairlead.kernel import telemetry
    from fairlead.kernel.settings import load_settings

    settings = load_settings()
    telemetry.configure(level=settings.log_level, form=settings.log_format)
    if not settings.cases.scan:
        raise typer.BadParameter("no folder to watch: set FAIRLEAD_CASES__SCAN or cases.scan")
    asyncio.run(_watch(settings, until_eof=until_eof, as_json=json_))


async def _watch(settings: Any, *, until_eof: bool, as_json: bool) -> None:
    from fairlead.cli.server import until_stopped
    from fairlead.compose import open_fairlead, watching_cases

    async with open_fairlead(settings) as fairlead:
        tasks = [
            asyncio.create_task(watching_cases(fairlead)),
            asyncio.create_task(_show(fairlead, list(settings.cases.scan), as_json=as_json)),
        ]
        stopping = asyncio.create_task(until_stopped(until_eof))
        try:
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)


async def _show(fairlead: "Fairlead", projects: list[str], *, as_json: bool) -> None:
    from rich.live import Live

    out = output.console()
    if out.is_terminal and not as_json:
        latest: list[dict[str, Any]] = []
        with Live(console=out, refresh_per_second=4, get_renderable=lambda: table(latest)):
            await _every_change(fairlead, projects, latest, lambda _: None)
        return

    def say(case: dict[str, Any]) -> None:
        if as_json:
            sys.stdout.write(json.dumps(case) + "\n")
            sys.stdout.flush()
        else:
            verdict = f"  {case['verdict']}" if case["verdict"] else ""
            out.print(
                f"case {case['number']}  {case['status']}  {case['step']}  {case['progress']:.0%}{verdict}"
            )

    await _every_change(fairlead, projects, [], say)


async def _every_change(
    fairlead: "Fairlead",
    projects: list[str],
    latest: list[dict[str, Any]],
    say: Callable[[dict[str, Any]], None],
) -> None:
    from fairlead.cases.schemas import case_out
    from fairlead.cases.store import list_cases

    def look() -> list[dict[str, Any]]:
        with fairlead.database.reading() as conn:
            return [
                case_out(case)
                for project in projects
                for case in list_cases(conn, project, status=None, before=None, limit=50)
            ]

    seen: dict[str, dict[str, Any]] = {}
    while True:
        latest[:] = await asyncio.to_thread(look)
        for case in reversed(latest):
            if seen.get(case["id"]) != case:
                seen[case["id"]] = case
                say(case)
        await asyncio.sleep(LOOK_S)
