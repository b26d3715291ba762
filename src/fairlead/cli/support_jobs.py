"""`fairlead support ask | report | screenings | reports | fetch | suppress …`: jobs that a server does.

Exit codes: 0 answered, or the report is whole · 1 error, a question back, or a report that is not whole ·
3 cancelled · 4 the job failed · 130 interrupted; the job goes on.
"""

import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fairlead.cli import files, output
from fairlead.cli.client import Client, ServerRefused, connect, current_project, read_input
from fairlead.cli.support_options import Json, Language, Out, Project

if TYPE_CHECKING:
    from rich.status import Status

EXIT_NOT_WHOLE, EXIT_CANCELLED, EXIT_FAILED, EXIT_INTERRUPTED = 1, 3, 4, 130
LINES_EVERY_S = 2.0  # where nobody looks at a terminal


def _twelve_digits(account: str | None) -> str | None:
    if account is not None and not re.fullmatch(r"[0-9]{12}", account):
        raise typer.BadParameter("An AWS account has twelve digits.")
    return account


def _number(ticket: str | None) -> str | None:
    if ticket is not None and not re.fullmatch(r"[1-9][0-9]{0,19}", ticket):
        raise typer.BadParameter("A ticket is named by its number.")
    return ticket


Ticket = Annotated[
    str | None,
    typer.Option(callback=_number, help="Zendesk ticket; its account is the one that it is bound to."),
]
Account = Annotated[
    str | None,
    typer.Option(callback=_twelve_digits, help="AWS account of one of the project's customers."),
]


Spoken = Annotated[Language | None, typer.Option("--language", help="Default: the customer's.")]
AskedIn = Annotated[Language | None, typer.Option("--language", help="Default: the question's.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `fairlead support`."""
    for command in (ask, report, screenings, reports, fetch, suppress, suppressions, unsuppress):
        app.command()(command)


# ── asking ────────────────────────────────────────────────────────────────────────────────────────


def ask(
    question: Annotated[
        str, typer.Argument(help="The question, in Korean or English; - reads it from standard input.")
    ],
    ticket: Ticket = None,
    account: Account = None,
    language: AskedIn = None,
    project: Project = None,
    json_: Json = False,
) -> None:
    """Ask about a customer's account. The answer names what it stands on; exit 1 for a question back."""
    if question == "-":
        from fairlead.support.language import decoded

        question = decoded(read_input(Path("-")))
    _carry_out("asks", {"text": question}, ticket, account, language, project, json_=json_)


def report(
    month: Annotated[
        str | None, typer.Option(help="2026-10; default: the last one that is over in the customer's zone.")
    ] = None,
    ticket: Ticket = None,
    account: Account = None,
    out: Out = None,
    language: Spoken = None,
    project: Project = None,
    json_: Json = False,
) -> None:
    """Make the monthly security report of a customer's account; it is stored, and fetched with --out."""
    details = {"month": month} if month else {}
    _carry_out("reports", details, ticket, account, language, project, json_=json_, out=out)


def screen_on_server(
    details: Mapping[str, Any],
    *,
    ticket: str | None,
    account: str | None,
    language: str | None,
    project: str | None,
    out: Path | None,
    json_: bool,
) -> NoReturn:
    """`fairlead support screen` with --ticket or --project: by the server, recorded and compared there."""
    given = Language(language) if language else None
    _carry_out("screenings", dict(details), ticket, account, given, project, json_=json_, out=out)


def _carry_out(
    what: str,
    details: dict[str, Any],
    ticket: str | None,
    account: str | None,
    language: Language | None,
    project: str | None,
    *,
    json_: bool,
    out: Path | None = None,
) -> NoReturn:
    """Submit a job, follow it, show what came of it. Raises Exit with its code."""
    if (ticket is None) == (account is None):
        raise typer.BadParameter("Which account? Give either --ticket or --account.")
    if out is not None:
        files.make_ready(out)
    place = {"ticket": ticket, "account": account, "language": language.value if language else None}
    body = {**details, **{name: value for name, value in place.items() if value is not None}}
    client, name = connect(), current_project(project)
    job = str(client.post(f"/projects/{name}/support/{what}", body)["job"])
    about = f"--ticket {ticket}" if ticket else f"--account {account} --project {name}"
    followed = Followed(job=job, about=about, quiet=json_)
    try:
        followed.all(client.events(job))
    except KeyboardInterrupt:
        output.console(stderr=True).print(f"The job goes on: fairlead runs watch {job}", markup=False)
        raise
    code = _shown(followed, json_=json_)
    if followed.kind == "report" and out is not None:
        _fetch(client, name, job, out)
        if not json_:
            output.console().print(str(out), markup=False)
    raise typer.Exit(code)


@dataclass
class Followed:
    """What a job has told until now. Progress goes to standard error; text to standard output as it comes."""

    job: str
    about: str  # options that name the same account to another command
    quiet: bool
    kind: str = ""  # "answer", "clarify", "report", "failed", "cancelled"
    data: dict[str, Any] = field(default_factory=dict)
    cancelled: bool = False
    _text: str = ""
    _last: float = 0.0
    _tenths: int = -1

    def all(self, events: Iterable[dict[str, Any]]) -> None:
        """Follow to the end."""
        console = output.console(stderr=True)
        if self.quiet or not console.is_terminal:
            for event in events:
                self._take(event, None)
            return
        with console.status("queued") as status:
            for event in events:
                self._take(event, status)

    def _take(self, event: Mapping[str, Any], status: "Status | None") -> None:
        kind, data = str(event["type"]), dict(event.get("data") or {})
        match kind:
            case "support.progress":
                self._progress(data, status)
            case "support.delta":
                self._say(str(data["text"]), status)
            case "support.answer" | "support.clarify" | "support.report":
                self.kind, self.data = kind.removeprefix("support."), data
            case "run.cancel_requested":
                self.cancelled = True
            case "run.failed":
                self.kind, self.data = "failed", dict(data["problem"])
            case "run.cancelled":
                self.kind = "cancelled"

    def _progress(self, data: Mapping[str, Any], status: "Status | None") -> None:
        from rich.markup import escape

        from fairlead.support.markup import printable

        left = f", about {left_s:.0f} s left" if (left_s := float(data.get("eta_s") or 0)) >= 1 else ""
        note = f"  {data['note']}" if data.get("note") else ""
        line = printable(f"{data['percent']:3.0f} %  {data['stage']}{note}{left}")
        if status is not None:
            if not self._text:  # else the terminal is the answer's
                status.update(escape(line))
            return
        now, tenths = time.monotonic(), int(data["percent"]) // 10
        if not self.quiet and (now - self._last >= LINES_EVERY_S or tenths > self._tenths):
            self._last, self._tenths = now, tenths
            output.console(stderr=True).print(line, markup=False)

    def _say(self, text: str, status: "Status | None") -> None:
        self._text += text
        if self.quiet or not sys.stdout.isatty():
            return
        from fairlead.support.markup import printable

        if status is not None:
            status.stop()  # two writers on one terminal
        sys.stdout.write(printable(text))
        sys.stdout.flush()

    def rest(self) -> str:
        """What of the answer's text is not on the terminal yet; all of it where it became another one."""
        text = str(self.data.get("text", ""))
        shown = self._text if sys.stdout.isatty() and not self.quiet else ""
        if text.startswith(shown):
            return text[len(shown) :]
        return f"\n\n{text}"


def _shown(followed: Followed, *, json_: bool) -> int:
    """Print what came of the job; the exit code."""
    if followed.kind == "failed":
        output.failure(ServerRefused(followed.data, int(followed.data.get("status", 500))), as_json=json_)
        return EXIT_FAILED
    if json_:
        # A report says itself which kind it is.
        output.as_json({"job": followed.job, "result": followed.kind, **followed.data})
    else:
        _print(followed)
    if followed.kind == "cancelled" or (followed.cancelled and followed.kind == "report"):
        return EXIT_CANCELLED
    whole = followed.kind == "answer" or (followed.kind == "report" and followed.data.get("complete"))
    return 0 if whole else EXIT_NOT_WHOLE


def _print(followed: Followed) -> None:
    from fairlead.support.markup import printable

    console, data = output.console(), followed.data

    def line(text: str, style: str = "") -> None:
        console.print(printable(text), markup=False, style=style)

    match followed.kind:
        case "answer":
            line(followed.rest())
            for text in evidence_lines(data.get("evidence") or {}):
                line(text, "dim")
            if suggests := data.get("suggests"):
                line(_command(suggests, followed.about), "dim")
        case "clarify":
            line(f"? {data['question']}")
            for choice in data.get("choices", ()):
                line(f"  - {choice}")
        case "report":
            line(data.get("subtitle", ""), "bold")
            line(data.get("summary", ""))
            line(f"fairlead support fetch {followed.job} --out report.html", "dim")
        case _:
            line("The job was cancelled.", "yellow")


def _command(suggests: Mapping[str, Any], about: str) -> str:
    """What starts the job that does what was asked."""
    month = f" --month {suggests['month']}" if suggests.get("month") else ""
    return f"fairlead support {suggests['job']}{month} {about}"


def evidence_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What an answer stands on, for people: where, when, how many, which calls, what was not read."""
    where = [str(evidence[name]) for name in ("account", "region") if evidence.get(name)]
    if period := evidence.get("period"):
        where.append(f"{period['start']} – {period['end']} {period['timezone']}")
    if evidence.get("count") is not None:
        where.append(f"{evidence['count']:,} found" + (", and more" if evidence.get("truncated") else ""))
    lines = [" · ".join(where)] if where else []
    for name, mark in (("calls", "→"), ("unread", "not read:"), ("sources", "source:")):
        lines += [f"{mark} {item}" for item in evidence.get(name) or ()]
    return lines


# ── records ───────────────────────────────────────────────────────────────────────────────────────


def screenings(
    account: Account = None,
    ticket: Ticket = None,
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json_: Json = False,
) -> None:
    """Screenings that were made, newest first, and what had changed."""
    _list("screening", account, ticket, project, limit, json_=json_)


def reports(
    account: Account = None,
    ticket: Ticket = None,
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json_: Json = False,
) -> None:
    """Monthly reports that were made, newest first."""
    _list("monthly_report", account, ticket, project, limit, json_=json_)


def _list(
    kind: str, account: str | None, ticket: str | None, project: str | None, limit: int, *, json_: bool
) -> None:
    path = f"/projects/{current_project(project)}/support/records"
    found = connect().get(path, kind=kind, account=account, ticket=ticket, limit=limit)
    if json_:
        output.as_json(found)
        return
    about = ("failed", "new", "fixed") if kind == "screening" else ("month",)
    table = output.table("id", "account", "ticket", *about, "whole", "created")
    for one in found["items"]:
        counts = {**one["summary"], **one["summary"].get("counts", {}), "month": one["month"]}
        shown = "deleted" if one["deleted_at"] else "yes" if one["complete"] else "no"
        cells = (one["id"], one["account"], one["ticket"] or "–", *(counts.get(name, "–") for name in about))
        table.add_row(*map(str, cells), shown, one["created_at"][:16])
    output.console().print(table)


def fetch(
    record: Annotated[str, typer.Argument(metavar="ID", help="Id, as `screenings` and `reports` show it.")],
    out: Annotated[
        Path,
        typer.Option(callback=files.report_file, help="File to write; .html, .json or .csv by its ending."),
    ],
    project: Project = None,
) -> None:
    """Bring a stored report here. Who fetched it is recorded."""
    _fetch(connect(), current_project(project), record, out)


def _fetch(client: Client, project: str, record: str, out: Path) -> None:
    from urllib.parse import quote

    path = f"/projects/{project}/support/records/{quote(record, safe='')}/link"
    link = client.post(path, {"file": f"report{out.suffix.lower()}"})
    files.write(out, client.content(link["url"]))


# ── accepted findings ─────────────────────────────────────────────────────────────────────────────


def suppress(
    check: Annotated[str, typer.Argument(help="Id of the check, as a report's CSV has it.")],
    reason: Annotated[str, typer.Option(help="Why the finding is accepted.")],
    until: Annotated[str, typer.Option(metavar="DATE", help="The last day on which it is: 2026-12-31.")],
    account: Annotated[
        str | None,
        typer.Option(
            callback=_twelve_digits, help="Account of a customer; default: every one of the project."
        ),
    ] = None,
    resource: Annotated[
        str | None, typer.Option(help="The resource's uid, as the CSV has it; default: every one.")
    ] = None,
    project: Project = None,
    json_: Json = False,
) -> None:
    """Accept a finding until a day: screenings list it apart. For approvers; recorded with its author."""
    body = {"check": check, "reason": reason, "expires": until, "account": account, "resource": resource}
    path = f"/projects/{current_project(project)}/support/suppressions"
    made = connect().post(path, {name: value for name, value in body.items() if value is not None})
    if json_:
        output.as_json(made)
    else:
        output.console().print(f"{made['id']}: {check} accepted until {made['expires']}", markup=False)


def suppressions(account: Account = None, project: Project = None, json_: Json = False) -> None:
    """Accepted findings, lapsed ones included."""
    found = connect().get(f"/projects/{current_project(project)}/support/suppressions", account=account)
    if json_:
        output.as_json(found)
        return
    from rich.text import Text

    table = output.table("id", "check", "account", "resource", "until", "by", "reason")
    for one in found["items"]:
        until = one["expires"] + (" (lapsed)" if one["lapsed"] else "")
        cells = (one["id"], one["check"], one["account"] or "every", one["resource"] or "every", until)
        table.add_row(*(Text(cell) for cell in (*cells, one["author"], one["reason"])))
    output.console().print(table)


def unsuppress(
    suppression: Annotated[str, typer.Argument(metavar="ID", help="Id, as `suppressions` shows it.")],
    project: Project = None,
) -> None:
    """Let an accepted finding come back. For approvers."""
    from urllib.parse import quote

    place = quote(suppression, safe="")
    connect().request("DELETE", f"/projects/{current_project(project)}/support/suppressions/{place}")
