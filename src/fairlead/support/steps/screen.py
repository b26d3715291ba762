"""The steps of `support.screen`: read the account, then compare, render and keep."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectMissing
from fairlead.kernel.runs import RunCancelled
from fairlead.support import findings as found_by
from fairlead.support import records, screening_report
from fairlead.support.job_words import screening_subtitle, screening_summary
from fairlead.support.model import Customer, Difference, Language, Screening, Status, Suppression
from fairlead.support.records import FINDINGS, SCREENING, Record
from fairlead.support.steps.port import Job
from fairlead.support.telling import HEARTBEAT_S, Teller, telling

if TYPE_CHECKING:
    from fairlead.support.screenings.port import Plan, Progress, ScreeningEngine

PLAN_S = 900.0  # to find out what there is to read; an engine may have to be installed first
END_S = 60.0  # for an engine to hand over what it has, after its deadline
FIRST, LAST = 5, 85  # percent of the job while the engine reads


class ScreeningDeadline(FairleadError):
    """The screening did not end in time, and left nothing."""

    code, status, retryable = "support.screening_deadline", 504, True


async def screened(job: Job) -> dict[str, Any]:
    """Read the account and keep what was found; says whether that is all, and whether somebody stopped it.

    A screening that was stopped or ran out of time is kept as far as it came. Raises RunCancelled where it
    had found nothing yet, ScreeningDeadline, and what engines raise.
    """
    async with telling(job.ctx, job.language) as tell:
        tell.progress(1, "preparing")
        late = ScreeningDeadline(
            f"It took more than {PLAN_S:g} s to find out what there is to read.",
            remedy="Try again in a while.",
        )
        engine, plan = await job.in_time(_planned(job), PLAN_S, late)
        tell.progress(FIRST, "collecting", done=0, total=plan.steps)
        screening = await _read(job, engine, plan, tell)
        content = await asyncio.to_thread(msgspec.json.encode, screening)
        await job.parts.objects.put(f"{job.prefix}/{FINDINGS}", content)
        return {"complete": screening.complete, "cancelled": await job.ctx.cancelled()}


async def _planned(job: Job) -> "tuple[ScreeningEngine, Plan]":
    customer = await job.customer()
    access = await job.open_account(customer)
    engine = await job.parts.engine(str(job.details.get("engine") or job.parts.settings.engine), access)
    from fairlead.support.screenings.port import Scope

    scope = Scope(
        account=job.account,
        regions=tuple(job.details.get("regions") or customer.regions),
        services=tuple(job.details.get("services") or ()),
        language=job.language,
    )
    return engine, await engine.plan(scope)


async def _read(job: Job, engine: "ScreeningEngine", plan: "Plan", tell: Teller) -> Screening:
    from fairlead.support.screenings.port import gathered

    async def stop_when_asked() -> None:
        await job.until_cancelled()
        await engine.cancel()

    deadline_s = job.parts.settings.screening_deadline_s
    stopping = asyncio.create_task(stop_when_asked())
    try:
        async with asyncio.timeout(deadline_s + END_S):
            events = engine.run(plan, deadline_s=deadline_s, heartbeat_s=HEARTBEAT_S)
            screening = await gathered(plan, events, lambda progress: _feed(progress, tell))
    except TimeoutError:
        raise ScreeningDeadline(
            f"The engine {plan.engine} did not stop after {deadline_s:g} s.",
            remedy="Screen fewer regions or services at a time.",
        ) from None
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
    if not screening.findings and await job.ctx.cancelled():
        raise RunCancelled
    return screening


def _feed(progress: "Progress", tell: Teller) -> None:
    if progress.heartbeat:  # the teller has heartbeats of its own
        return
    percent = FIRST + (LAST - FIRST) * progress.percent / 100
    tell.progress(
        percent,
        "collecting",
        done=progress.done,
        total=progress.total,
        eta_s=progress.remaining_s,
        note=progress.stage or None,
    )


# ── comparing, rendering, keeping ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a screening becomes."""

    files: Mapping[str, bytes]
    summary: Mapping[str, Any]  # of the record
    event: Mapping[str, Any]


async def compared(job: Job) -> dict[str, Any]:
    """Compare with the screening before, write the files; what `kept` needs."""
    async with telling(job.ctx, job.language) as tell:
        tell.progress(LAST + 1, "checking")
        screening = await _kept(job, job.prefix)
        earlier = await job.reading(lambda conn: _earlier(conn, job, screening))
        before = await _before(job, earlier) if earlier else None
        accepted = await job.reading(lambda conn: records.accepted(conn, job.project_id, job.account))
        customer = await job.customer()
        tell.progress(90, "rendering")
        given = tuple(one.suppression for one in accepted)
        made = await asyncio.to_thread(_made, screening, before, given, customer, job.language)
        tell.progress(95, "storing")
        for name, content in made.files.items():
            await job.parts.objects.put(f"{job.prefix}/{name}", content)
        previous = earlier.id if earlier and before else None
        return {
            "kind": SCREENING,
            "engine": screening.engine,
            "complete": screening.complete,
            "summary": {**made.summary, "previous": previous},
            "event": made.event,
        }


def _earlier(conn: sa.Connection, job: Job, screening: Screening) -> Record | None:
    return records.previous(
        conn,
        job.project_id,
        job.account,
        screening.engine,
        regions=screening.regions,
        services=screening.services,
        besides=job.ctx.run_id,
    )


async def _kept(job: Job, prefix: str) -> Screening:
    content = await job.parts.objects.get(f"{prefix}/{FINDINGS}")
    return await asyncio.to_thread(found_by.read_screening, content, name="a stored screening")


async def _before(job: Job, earlier: Record) -> Screening | None:
    """An earlier screening; None, and everything is new, where it cannot be read any more."""
    try:
        return await _kept(job, earlier.prefix)
    except (ObjectMissing, found_by.FindingsUnreadable) as error:
        telemetry.log.warning("support.earlier_screening_unreadable", record=earlier.id, code=error.code)
        return None


def _made(
    screening: Screening,
    before: Screening | None,
    suppressions: tuple[Suppression, ...],
    customer: Customer,
    language: Language,
) -> _Made:
    day: date = screening.finished_at.astimezone(ZoneInfo(customer.timezone)).date()
    change = found_by.difference(before, screening, suppressions, on=day)
    counts = {kind: len(getattr(change, kind)) for kind in ("new", "fixed", "unchanged")}
    return _Made(
        files={
            "report.html": screening_report.render_html(screening, change, language).encode(),
            "report.json": screening_report.render_json(screening, change).encode(),
            # Excel reads Korean only behind a byte order mark.
            "report.csv": ("\ufeff" + screening_report.render_csv(screening, change)).encode(),
        },
        summary={**_figures(screening, change), "counts": counts},
        event={
            "subtitle": screening_subtitle(screening, customer),
            "summary": screening_summary(screening, change, before is not None, language),
            "counts": counts,
        },
    )


def _figures(screening: Screening, change: Difference) -> dict[str, Any]:
    statuses = [finding.status for finding in screening.findings]
    failed = (*change.new, *change.unchanged)
    return {
        "regions": list(screening.regions),
        "services": list(screening.services),
        "failed": len(failed),
        "by_severity": {name.value: number for name, number in found_by.count_by_severity(failed).items()},
        "passed": statuses.count(Status.PASS),
        "accepted": len(change.suppressed),
        "unknown": len(change.unknown),
        "unread": statuses.count(Status.UNREAD) + len(screening.unread),
    }
