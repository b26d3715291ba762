"""`fairlead support screen`: read an account, say what should be repaired. Reads only; needs no server.

Exit codes: 0 everything was read, whatever was found · 1 error, or out of time · 130 interrupted. In the last
two what was found until then is written all the same, and marked as incomplete.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from fairlead.cli import files, output, support_engines, support_jobs
from fairlead.cli.client import read_input
from fairlead.cli.support_options import EndpointUrl, Json, Language, MustBe, Out, Profile, Regions, Timeout

if TYPE_CHECKING:
    from fairlead.support.collect import Access
    from fairlead.support.model import Difference, Screening
    from fairlead.support.screenings.port import Progress, Scope, ScreeningEngine

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
LINES_EVERY_S = 2.0  # where nobody looks at a terminal
SHOWN = 20  # failures listed on a terminal; the report has them all


class Engine(StrEnum):
    """What can screen."""

    BUILTIN = "builtin"
    PROWLER = "prowler"
    SERVICE_SCREENER = "service-screener"


def register(app: typer.Typer) -> None:
    """Add `screen` to the commands of `support`."""
    app.command()(screen)


def screen(
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    region: Regions = None,
    service: Annotated[
        list[str] | None, typer.Option(help="Service to read, repeatable; default: all.")
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(help="What reads and judges; default: builtin. See fairlead support engines list."),
    ] = None,
    account: MustBe = None,
    out: Out = None,
    language: Annotated[
        Language | None, typer.Option(help="Language of the report; default: the customer's, else ko.")
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(metavar="FINDINGS.json", help="The screening before, to show what changed.")
    ] = None,
    timeout: Timeout = 3600.0,
    ticket: Annotated[
        str | None, typer.Option(help="By the server: the account that this Zendesk ticket is bound to.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="By the server: --account is a customer of it.")
    ] = None,
    json_: Json = False,
) -> None:
    """Screen an AWS account for faults in its configuration. Reads only, and never a secret's value.

    With --ticket or --project the server does it: kept, and compared with the screening before.
    """
    if ticket or project:
        if profile or endpoint_url or previous:
            raise typer.BadParameter(
                "--profile, --endpoint-url and --previous are for work without a server."
            )
        details = {"engine": engine and engine.value, "regions": region, "services": service}
        support_jobs.screen_on_server(
            {name: value for name, value in details.items() if value},
            ticket=ticket,
            account=account,
            language=language and language.value,
            project=project,
            out=out,
            json_=json_,
        )
    from fairlead.support import findings as found_by
    from fairlead.support.collect import Access
    from fairlead.support.model import Language as ReportLanguage
    from fairlead.support.screenings.port import Scope

    name = (engine or Engine.BUILTIN).value
    language = language or Language.KOREAN
    before = found_by.read_screening(read_input(previous), name=str(previous)) if previous else None
    if before:
        found_by.same_engine(before, name)
    access = Access(profile=profile, endpoint_url=endpoint_url)
    scope = Scope(
        account=account or (before.account if before else None),
        regions=tuple(region or ()),
        services=tuple(service or ()),
        language=ReportLanguage(language.value),
    )
    if out is not None:
        files.make_ready(out)  # before an hour of reading, not after it
    screening, interrupted = asyncio.run(_opened(name, access, scope, timeout))
    change = found_by.difference(before, screening, on=screening.finished_at.date())
    if out is not None:
        _write(out, screening, change, language)
    if json_:
        output.as_json({**found_by.document(screening), "change": _counts(change)})
    else:
        _show(screening, change, out)
    if not screening.complete:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_ERROR)


async def _opened(name: str, access: "Access", scope: "Scope", timeout: float) -> "tuple[Screening, bool]":
    """The screening with the engine `name`, installed first where it is not here."""
    from fairlead.kernel.settings import load_settings
    from fairlead.support.own_access import open_own
    from fairlead.support.screenings import engine, installs, workshop

    place = workshop(load_settings())
    if size := installs(name, place):
        support_engines.say_size(name, size)
    async with open_own(access) as account:
        return await _screen(engine(name, account, place), scope, timeout)


async def _screen(engine: "ScreeningEngine", scope: "Scope", timeout: float) -> "tuple[Screening, bool]":
    """The screening, and whether somebody interrupted it. A second Ctrl-C does not wait."""
    from fairlead.support.screenings.port import gathered

    plan = await engine.plan(scope)
    output.console(stderr=True).print(
        f"account {plan.account}: {plan.checks} checks, {len(plan.services)} services, "
        f"{len(plan.regions)} regions"
        + (f", {len(plan.regions_off)} switched off" if plan.regions_off else ""),
        markup=False,
    )
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        interrupted.set()
        stopping.append(loop.create_task(engine.cancel()))
        loop.remove_signal_handler(signal.SIGINT)

    with suppress(NotImplementedError):  # only the main thread of a POSIX system has them
        loop.add_signal_handler(signal.SIGINT, stop)
    with _Shown() as shown:
        screening = await gathered(plan, engine.run(plan, deadline_s=timeout), shown.feed)
    return screening, interrupted.is_set()


class _Shown:
    """Progress: one line that moves on a terminal, a line every two seconds or ten percent elsewhere."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = output.console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._last, self._tenths = 0.0, -1

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def feed(self, progress: "Progress") -> None:
        """Show `progress`."""
        left = f", about {progress.remaining_s:.0f} s left" if (progress.remaining_s or 0) >= 1 else ""
        line = f"{progress.percent:3d} %  {progress.stage}  {progress.resources:,} resources{left}"
        if self._console.is_terminal:
            self._live.update(line)
        elif (now := time.monotonic()) - self._last >= LINES_EVERY_S or progress.percent // 10 > self._tenths:
            self._last, self._tenths = now, progress.percent // 10
            self._console.print(line, markup=False)


def _write(out: Path, screening: "Screening", change: "Difference", language: Language) -> None:
    """A report for people, or the findings in the form that `--previous` and `render-report` read."""
    import json

    from fairlead.support import findings as found_by
    from fairlead.support import screening_report as report
    from fairlead.support.model import Language as ReportLanguage

    forms: dict[str, Callable[[], str]] = {
        ".json": lambda: json.dumps(found_by.document(screening), ensure_ascii=False) + "\n",
        # Excel reads Korean only behind a byte order mark.
        ".csv": lambda: "\ufeff" + report.render_csv(screening, change),
        ".html": lambda: report.render_html(screening, change, ReportLanguage(language.value)),
    }
    files.write(out, forms[out.suffix.lower()]().encode())


def _counts(change: "Difference") -> dict[str, int]:
    return {kind: len(getattr(change, kind)) for kind in ("new", "unchanged", "fixed", "unknown")}


def _show(screening: "Screening", change: "Difference", out: Path | None) -> None:
    from fairlead.support.markup import printable

    console = output.console()
    failed = [*change.new, *change.unchanged]
    for finding in failed[: SHOWN if out is None else 0]:
        # A customer wrote it: no control character may reach the terminal.
        name = printable(finding.resource.name or finding.resource.uid)
        console.print(
            f"{finding.severity.value:13s} {finding.title}: {name} ({finding.resource.region})", markup=False
        )
    if out is None and len(failed) > SHOWN:
        console.print(f"and {len(failed) - SHOWN:,} more; --out report.html has them all", markup=False)
    for gap in screening.unread:
        console.print(f"not read: {gap.service} {gap.region}: {gap.reason}", markup=False)
    statuses = [finding.status.value for finding in screening.findings]
    console.print(
        f"{statuses.count('fail'):,} failed, {statuses.count('pass'):,} passed, "
        f"{statuses.count('unread'):,} not assessed"
        + (f", {len(change.fixed):,} fixed since the previous" if change.fixed else "")
        + ("" if screening.complete else "; stopped before its end")
        + (f"; {out}" if out else ""),
        markup=False,
    )
