"""The steps of `support.report`: read an account's month and render it, then keep it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectMissing
from fairlead.kernel.runs import RunCancelled
from fairlead.support import records
from fairlead.support.job_words import monthly_summary
from fairlead.support.model import Customer, Language
from fairlead.support.monthly import Month, MonthlyData, from_json, judging, render
from fairlead.support.monthly.documents import MonthlyUnreadable
from fairlead.support.monthly.words import PART_WORDS
from fairlead.support.records import MONTHLY, Record
from fairlead.support.steps.port import Job, loaded
from fairlead.support.telling import Teller, telling

if TYPE_CHECKING:
    from fairlead.support.collect import Access
    from fairlead.support.monthly.collecting import Progress

END_S = 60.0  # for what is being read, after the deadline
FIRST, LAST = 5, 85  # percent of the job while the account is read


class ReportDeadline(FairleadError):
    """The monthly report was not ready in time."""

    code, status, retryable = "support.report_deadline", 504, True


async def collected(job: Job) -> dict[str, Any]:
    """Read the month, write the files; what `kept` needs.

    A report whose deadline passes, or that somebody stops, is made of what there is. Raises RunCancelled
    where nothing was read yet, MonthUnreadable, MonthNotBegun, ReportDeadline, and what entering raises.
    """
    async with telling(job.ctx, job.language) as tell:
        tell.progress(1, "preparing")
        customer = await job.customer()
        asked_at = job.ctx.run.created_at
        given = job.details.get("month")
        month = Month.parse(str(given)) if given else Month.before(asked_at, customer.timezone)
        month.span(asked_at, customer.timezone)  # before the account is opened: it may not have begun
        data = await _read(job, customer, month, tell)
        tell.progress(LAST + 1, "rendering")
        made = await _rendered(job, data, month)
        tell.progress(95, "storing")
        for name, content in made.files.items():
            await job.parts.objects.put(f"{job.prefix}/{name}", content)
        return {
            "kind": MONTHLY,
            "month": str(month),
            "complete": data.complete,
            "summary": made.summary,
            "event": made.event,
        }


async def _read(job: Job, customer: Customer, month: Month, tell: Teller) -> MonthlyData:
    access = await job.open_account(customer)
    tell.progress(FIRST, "collecting")
    deadline_s = job.parts.settings.report_deadline_s
    try:
        async with asyncio.timeout(deadline_s + END_S):
            data = await _collected(job, customer, month, access.collect, tell)
    except TimeoutError:
        raise ReportDeadline(
            f"Reading did not stop after {deadline_s:g} s.", remedy="Give the customer fewer regions to read."
        ) from None
    if not data.complete and not data.read and await job.ctx.cancelled():
        raise RunCancelled
    return data


async def _collected(
    job: Job, customer: Customer, month: Month, access: "Access", tell: Teller
) -> MonthlyData:
    collect = await asyncio.to_thread(loaded, _collecting)  # its libraries take a while to import

    loop = asyncio.get_running_loop()
    began = loop.time()

    def feed(progress: "Progress") -> None:
        left_s = (loop.time() - began) / max(1, progress.done) * (progress.total - progress.done)
        percent = FIRST + (LAST - FIRST) * progress.percent / 100
        note = f"{PART_WORDS[job.language][progress.part]} {progress.region}"
        tell.progress(
            percent,
            "collecting",
            done=progress.done,
            total=progress.total,
            eta_s=round(left_s, 1),
            note=note,
        )

    async def stop_when_asked() -> None:
        await job.until_cancelled()
        stop.set()

    stop = asyncio.Event()
    stopping = asyncio.create_task(stop_when_asked())
    try:
        return await collect(
            access,
            month,
            regions=customer.regions,
            timezone=customer.timezone,
            deadline_s=job.parts.settings.report_deadline_s,
            progress=feed,
            stop=stop,
        )
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


def _collecting() -> Callable[..., Awaitable[MonthlyData]]:
    from fairlead.support.collect import open_account
    from fairlead.support.monthly.collecting import Limits, collect_month

    async def collect(access: "Access", month: Month, *, deadline_s: float, **more: Any) -> MonthlyData:
        async with open_account(access) as account:
            return await collect_month(account, month, limits=Limits(deadline_s=deadline_s), **more)

    return collect


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a month becomes."""

    files: Mapping[str, bytes]
    summary: Mapping[str, Any]  # of the record
    event: Mapping[str, Any]


async def _rendered(job: Job, data: MonthlyData, month: Month) -> _Made:
    earlier = await job.reading(
        lambda conn: records.of_month(conn, job.project_id, job.account, str(month.previous()))
    )
    previous = await _kept(job, earlier) if earlier else None
    return await asyncio.to_thread(_made, data, previous, job.language)


async def _kept(job: Job, earlier: Record) -> MonthlyData | None:
    """The data of an earlier report; None, and no comparison, where they cannot be read any more."""
    try:
        content = await job.parts.objects.get(earlier.key("report.json"))
        return await asyncio.to_thread(from_json, content)
    except (ObjectMissing, MonthlyUnreadable) as error:
        telemetry.log.warning("support.earlier_report_unreadable", record=earlier.id, code=error.code)
        return None


def _made(data: MonthlyData, previous: MonthlyData | None, language: Language) -> _Made:
    return _Made(
        files=render(data, language=language, previous=previous),
        summary={
            "figures": {name: figure.document() for name, figure in judging.figures(data).items()},
            "regions": list(data.regions),
            "unread": [part.value for part in judging.unread_parts(data)],
        },
        event={"subtitle": f"{data.account} · {data.month}", "summary": monthly_summary(data, language)},
    )
