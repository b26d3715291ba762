"""`fairlead support …`: what works on text and files and needs no server.

Exit codes: 0 done, understood or valid · 1 error, no answer, or faults found.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli import files, output
from fairlead.cli.client import read_input
from fairlead.cli.support_options import Json, Language

if TYPE_CHECKING:
    from fairlead.support.zendesk_app import Report

app = typer.Typer(
    name="support", help="AWS support in Zendesk: questions, screenings and the app.", no_args_is_help=True
)

Question = Annotated[
    str, typer.Argument(help="The question, in Korean or English; - reads it from standard input.")
]


class Format(StrEnum):
    """Forms of a report."""

    HTML = "html"
    JSON = "json"
    CSV = "csv"


def _asked(question: str) -> str:
    if question != "-":
        return question
    from fairlead.support.language import decoded

    return decoded(read_input(Path("-")))


@app.command()
def understand(
    question: Question,
    now: Annotated[
        str | None,
        typer.Option(
            help="Moment that words such as 'yesterday' count from; ISO 8601. Default: now, in Seoul."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """What the embedded rules make of a question: intent, slots, and what they would ask back."""
    from zoneinfo import ZoneInfo

    from fairlead.kernel.clock import utc_now
    from fairlead.support.periods import DEFAULT_ZONE, moment
    from fairlead.support.understanding import understand as read

    found = read(_asked(question), moment(now) if now else utc_now().astimezone(ZoneInfo(DEFAULT_ZONE)))
    if json_:
        output.as_json(found.document())
        return
    out = output.console()
    out.print(f"{found.intent.value}  confidence {found.confidence}", markup=False)
    for name, value in found.slots.document().items():
        if value is not None:
            shown = f"{value['start']} – {value['end']}  {value['timezone']}" if name == "period" else value
            out.print(f"  {name}: {shown}", markup=False)
    if found.clarify:
        out.print(f"? {found.clarify}", markup=False)


@app.command()
def general(question: Question, json_: Json = False) -> None:
    """Answer a general question about AWS from the offline corpus. Exit 1 where it has no answer."""
    from fairlead.support.general import answer

    found = answer(_asked(question))
    if json_:
        output.as_json(found.document())
    elif found.text and found.entry:
        output.console().print(f"{found.text}\n{found.entry.source}", markup=False)
    else:
        output.console().print(found.reason or "", markup=False)
    raise typer.Exit(0 if found.text else 1)


@app.command("render-report")
def render_report(
    findings: Annotated[Path, typer.Argument(metavar="FINDINGS.json", help="A screening's findings.")],
    out: Annotated[Path, typer.Option(help="File to write; its ending chooses the form.")],
    language: Annotated[Language, typer.Option(help="Language of the report.")] = Language.KOREAN,
    previous: Annotated[
        Path | None, typer.Option(help="Findings of the screening before, to show what changed.")
    ] = None,
    suppressions: Annotated[
        Path | None, typer.Option(help="JSON list of accepted findings, with reason and expiry.")
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Form; default: by the ending of --out, else html.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write a screening as self-contained HTML, JSON or CSV."""
    from zoneinfo import ZoneInfo

    from fairlead.support import findings as found_by
    from fairlead.support import screening_report as report
    from fairlead.support.model import Language as ReportLanguage
    from fairlead.support.periods import DEFAULT_ZONE

    screening = found_by.read_screening(read_input(findings), name=str(findings))
    before = found_by.read_screening(read_input(previous), name=str(previous)) if previous else None
    accepted = (
        found_by.read_suppressions(read_input(suppressions), name=str(suppressions)) if suppressions else ()
    )
    day = screening.finished_at.astimezone(ZoneInfo(DEFAULT_ZONE)).date()
    change = found_by.difference(before, screening, accepted, on=day)
    endings = {".json": Format.JSON, ".csv": Format.CSV}
    form = format_ or endings.get(out.suffix.lower(), Format.HTML)
    text = {
        Format.HTML: lambda: report.render_html(screening, change, ReportLanguage(language.value)),
        Format.JSON: lambda: report.render_json(screening, change),
        # Excel reads Korean only behind a byte order mark.
        Format.CSV: lambda: "\ufeff" + report.render_csv(screening, change),
    }[form]()
    files.write(out, text.encode())
    counts = {
        kind: len(getattr(change, kind)) for kind in ("new", "unchanged", "fixed", "unknown", "suppressed")
    }
    if json_:
        output.as_json({"out": str(out), "format": form.value, **counts})
    else:
        shown = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        output.console().print(f"{out}: {shown}", markup=False)


@app.command("validate-app")
def validate_app(
    source: Annotated[
        Path, typer.Argument(metavar="[DIR|ZIP]", help="The app's folder, or a package of it.")
    ] = Path("zendesk-app"),
    json_: Json = False,
) -> None:
    """Check a Zendesk app or its package, offline: manifest, translations, secrets, scripts, sizes, icons."""
    from fairlead.support.zendesk_app import validate

    report = validate(source)
    _show(report, json_=json_)
    raise typer.Exit(0 if report.valid else 1)


@app.command("package-app")
def package_app(
    out: Annotated[Path, typer.Option(help="Package to write.")] = Path("build/zendesk-app.zip"),
    source: Annotated[Path, typer.Option(help="The app's folder.")] = Path("zendesk-app"),
    server_url: Annotated[
        str | None,
        typer.Option(help="Where the server is, e.g. https://support.acme.kr; needed for an upload."),
    ] = None,
    json_: Json = False,
) -> None:
    """Write the package to upload to Zendesk: the same bytes for the same files."""
    from fairlead.support.zendesk_app import package

    digest, size = package(source, out, server_url=server_url)
    if json_:
        output.as_json({"out": str(out), "sha256": digest, "size_bytes": size})
    else:
        output.console().print(f"{out}  {size:,} bytes  sha256 {digest}", markup=False)


def _show(report: "Report", *, json_: bool) -> None:
    if json_:
        output.as_json(report.document())
        return
    for fault in (*report.faults, *report.warnings):
        kind = "error" if fault in report.faults else "warning"
        output.console().print(f"{kind}: {fault.path}: {fault.message}  ({fault.code})", markup=False)
    if report.valid:
        output.console().print(f"{report.source} is valid.", style="green")
