"""`fairlead support monthly`: read an account and write the monthly security report. Reads only; no server.

Exit codes: 0 the report is there, with what could not be read named in it · 1 error, or out of time ·
130 interrupted. In the last two the report of what was read until then is written all the same.
"""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli import files, output
from fairlead.cli.client import read_input
from fairlead.cli.support_options import EndpointUrl, Json, Language, MustBe, Out, Profile, Regions, Timeout

if TYPE_CHECKING:
    from fairlead.support.collect import Access
    from fairlead.support.model import Language as ReportLanguage
    from fairlead.support.monthly import Month, MonthlyData
    from fairlead.support.monthly.collecting import Limits, Progress

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
LOCAL_LOOKUPS_PER_S = 1_000.0  # a local AWS has no limit to share with others


def register(app: typer.Typer) -> None:
    """Add `monthly` to the commands of `support`."""
    app.command()(monthly)


def monthly(
    month: Annotated[
        str | None, typer.Option(help="Month as 2026-10; default: the last one that is over.")
    ] = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    region: Regions = None,
    account: MustBe = None,
    out: Out = None,
    language: Annotated[Language, typer.Option(help="Language of the report.")] = Language.KOREAN,
    timezone: Annotated[
        str, typer.Option(help="Time zone in which the month begins and ends.")
    ] = "Asia/Seoul",
    previous: Annotated[
        Path | None, typer.Option(metavar="REPORT.json", help="The month before, to show what changed.")
    ] = None,
    timeout: Timeout = 1800.0,
    json_: Json = False,
) -> None:
    """Write the monthly security report of an AWS account. Reads only, and never a secret's value."""
    from fairlead.kernel.clock import utc_now
    from fairlead.support.collect import Access
    from fairlead.support.model import Language as ReportLanguage
    from fairlead.support.monthly import Month, from_json, render
    from fairlead.support.monthly.collecting import LOOKUPS_PER_S, Limits

    chosen = Month.parse(month) if month else Month.before(utc_now(), timezone)
    chosen.span(utc_now(), timezone)  # an impossible month is told before anybody waits
    before = from_json(read_input(previous), name=str(previous)) if previous else None
    if out is not None:
        files.make_ready(out)  # before minutes of reading, not after them
    access = Access(
        account=account or (before.account if before else None), profile=profile, endpoint_url=endpoint_url
    )
    limits = Limits(deadline_s=timeout, lookups_per_s=LOCAL_LOOKUPS_PER_S if endpoint_url else LOOKUPS_PER_S)
    data, interrupted = asyncio.run(_collect(access, chosen, tuple(region or ()), timezone, limits))
    reports = render(data, language=ReportLanguage(language.value), previous=before)
    if out is not None:
        files.write(out, reports[f"report{out.suffix.lower()}"])
    if json_:
        typer.echo(reports["report.json"].decode(), nl=False)
    else:
        _show(data, ReportLanguage(language.value), out)
    if not data.complete:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_ERROR)


async def _collect(
    access: "Access", month: "Month", regions: tuple[str, ...], timezone: str, limits: "Limits"
) -> "tuple[MonthlyData, bool]":
    """The month, and whether somebody interrupted it. A second Ctrl-C does not wait."""
    from fairlead.support.collect import open_account
    from fairlead.support.monthly.collecting import collect_month

    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    with suppress(NotImplementedError):  # only the main thread of a POSIX system has them
        loop.add_signal_handler(signal.SIGINT, interrupted)
    async with open_account(access) as account:
        output.console(stderr=True).print(f"account {account.account}, {month}", markup=False)
        data = await collect_month(
            account, month, regions=regions, timezone=timezone, progress=_Shown(), limits=limits, stop=stop
        )
    return data, stop.is_set()


class _Shown:
    """Progress on standard error: a line for every tenth of the way."""

    def __init__(self) -> None:
        self._tenths = -1

    def __call__(self, progress: "Progress") -> None:
        if progress.percent // 10 > self._tenths:
            self._tenths = progress.percent // 10
            output.console(stderr=True).print(
                f"{progress.percent:3d} %  {progress.part.value} {progress.region}  "
                f"{progress.resources:,} resources",
                markup=False,
            )


def _show(data: "MonthlyData", language: "ReportLanguage", out: Path | None) -> None:
    from fairlead.support.markup import printable
    from fairlead.support.monthly import judging
    from fairlead.support.monthly.words import PART_WORDS, RULE_WORDS

    console = output.console()
    found = judging.issues(data)
    for issue in judging.recommended(found):
        count = f"{len(issue.rows):,}{'' if issue.figure.whole else '+'}"
        console.print(
            f"{issue.rule.severity.value:9s} {count:>6s}  {RULE_WORDS[language][issue.rule.id][0]}",
            markup=False,
        )
    for blank in judging.blanks(data):
        what = PART_WORDS[language][blank.part] + (f" ({blank.field})" if blank.field else "")
        console.print(
            printable(f"not read: {what} {blank.region}: {blank.cause.value} {blank.detail}".rstrip()),
            markup=False,
        )
    until = " until now" if data.running else ""
    stopped = "" if data.complete else "; stopped before its end"
    console.print(
        f"{data.month}{until}: {len(judging.urgent(found))} urgent{stopped}" + (f"; {out}" if out else ""),
        markup=False,
    )
