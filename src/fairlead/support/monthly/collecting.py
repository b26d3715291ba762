"""Reading a whole month: every part of every region side by side, within a deadline, failures named.

A part that fails becomes a gap and never stops the others; what was read until a deadline or a stop is kept.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

from fairlead import __version__
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.support.collect import Account, ReadDenied, ReadFailed, Reads
from fairlead.support.monthly import reading
from fairlead.support.monthly.model import WATCHED, Bucket, Cause, Gap, MonthlyData, Part, Row, Watched
from fairlead.support.monthly.month import DEFAULT_ZONE, Month, Span

HISTORY = timedelta(days=90)  # how long CloudTrail's event history goes back
AT_ONCE = 8  # readers side by side, besides those that wait between lookups
LOOKUPS_PER_S = 2.0
# Where AWS records what has no region, and where Trusted Advisor lives.
_WORLD = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
_SUPPORT_PLAN = "SubscriptionRequiredException"


class RegionUnknown(FairleadError):
    """A region that was asked for does not exist, or none of them is switched on."""

    code, status, retryable = "support.region_unknown", 422, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far reading is; `percent` never falls."""

    done: int
    total: int
    percent: int
    part: Part  # that was finished last
    region: str
    resources: int


Tell = Callable[[Progress], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how fast to read."""

    deadline_s: float | None = None  # after it the report is made of what there is
    lookups_per_s: float = LOOKUPS_PER_S  # of CloudTrail in each region


@dataclass(frozen=True, slots=True)
class _Step:
    """One part in one region."""

    part: Part
    region: str  # "global" where it has none
    at: str  # region that is asked
    read: Callable[[Reads], AsyncGenerator[Row]]


@dataclass(slots=True)
class _Gathered:
    """What the steps have brought so far."""

    total: int
    open: dict[_Step, None]
    rows: dict[Part, list[Any]] = field(default_factory=lambda: {part: [] for part in Part})
    read: dict[Part, list[str]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)


async def collect_month(
    account: Account,
    month: Month,
    *,
    regions: Sequence[str] = (),
    timezone: str = DEFAULT_ZONE,
    progress: Tell | None = None,
    limits: Limits = Limits(),
    stop: asyncio.Event | None = None,
    now: datetime | None = None,
) -> MonthlyData:
    """`month` of an identified `account`: of `regions`, else of all that are switched on.

    `stop` ends it early with what there is, as the deadline does; what `progress` raises is raised.
    Raises MonthNotBegun, TimezoneUnknown, RegionUnknown.
    """
    loop, started = asyncio.get_running_loop(), now or utc_now()
    began = loop.time()
    span = month.span(started, timezone)
    deadline = None if limits.deadline_s is None else began + limits.deadline_s
    places = await _places(account, tuple(dict.fromkeys(regions)), deadline)
    steps = _steps(account, places.chosen, span, limits, started)
    gathered = _Gathered(total=len(steps), open=dict.fromkeys(steps), calls=places.calls)
    gathered.gaps += [*places.gaps, *_beyond_history(span, started)]
    why = await _read_all(account, gathered, progress, stop or asyncio.Event(), deadline)
    if why is not None:
        gathered.gaps += [Gap(part=step.part, region=step.region, cause=why) for step in gathered.open]
    rows = {part.value: _sorted(gathered.rows[part], places.chosen) for part in Part}
    return MonthlyData(
        account=account.account,
        month=str(month),
        timezone=timezone,
        start=span.start,
        end=span.end,
        running=span.running,
        started_at=started,
        finished_at=started + timedelta(seconds=loop.time() - began),
        regions=places.chosen,
        regions_off=places.off,
        complete=why is None,
        read={part: tuple(sorted(gathered.read[part])) for part in Part if part in gathered.read},
        gaps=tuple(sorted(gathered.gaps, key=lambda gap: (list(Part).index(gap.part), gap.region))),
        calls=dict(sorted(gathered.calls.items())),
        versions={"fairlead": __version__, "botocore": version("botocore")},
        **rows,
    )


def _sorted(rows: list[Any], regions: tuple[str, ...]) -> tuple[Any, ...]:
    """Rows by region and name; buckets of regions that were not asked for are left out."""
    here = [row for row in rows if not isinstance(row, Bucket) or row.region in (*regions, reading.GLOBAL)]
    return tuple(sorted(here, key=lambda row: (row.region, row.name, row.uid)))


@dataclass(frozen=True, slots=True)
class _Places:
    """Regions to read and those that are switched off."""

    chosen: tuple[str, ...]
    off: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    calls: Counter[str] = field(default_factory=Counter)


async def _places(account: Account, asked: tuple[str, ...], deadline: float | None) -> _Places:
    """Where to read. Where regions cannot be listed, those asked for or the one of the profile."""
    async with account.region(account.home) as reads:
        try:
            async with asyncio.timeout_at(deadline):
                answer = await reads.call("ec2", "describe_regions", AllRegions=True)
        except (ReadFailed, TimeoutError) as error:
            detail = error.message if isinstance(error, ReadFailed) else "ec2:DescribeRegions got no answer."
            # Whatever lies in other regions is not known, of any part that has regions.
            gaps = [
                Gap(part=Part(name), region="all", cause=Cause.FAILED, detail=detail)
                for name in reading.REGIONAL
            ]
            return _Places(asked or (account.home,), gaps=() if asked else tuple(gaps))
        calls = reads.calls
    state = {
        region["RegionName"]: region.get("OptInStatus", "opt-in-not-required") for region in answer["Regions"]
    }
    if unknown := sorted(set(asked) - set(state)):
        raise RegionUnknown(
            f"There is no region {', '.join(unknown)}.",
            remedy=f"Choose among {', '.join(sorted(state))}.",
            regions=unknown,
        )
    wanted = asked or tuple(sorted(state))
    off = tuple(region for region in wanted if state[region] == "not-opted-in")
    chosen = tuple(region for region in wanted if region not in off)
    if not chosen:
        raise RegionUnknown(
            f"Switched off in account {account.account}: {', '.join(off)}.",
            remedy="Choose a region that is switched on.",
        )
    gaps = [
        Gap(part=Part(name), region=region, cause=Cause.REGION_OFF)
        for region in off
        if asked  # a region that nobody switched on or asked for is no gap
        for name in reading.REGIONAL
    ]
    return _Places(chosen, off, tuple(gaps), calls)


def _steps(
    account: Account, regions: Sequence[str], span: Span, limits: Limits, now: datetime
) -> list[_Step]:
    """Everything to read: first what waits between its calls, then what has no region, then the regions."""
    world = _WORLD.get(account.partition, account.home)
    steps = []
    if (kept := _kept(span, now)) is not None:
        for region in dict.fromkeys((world, *regions)):
            watched = [kind for kind in WATCHED if _recorded(kind, region, world, regions)]
            read = partial(reading.events, watched=watched, span=kept, lookups_per_s=limits.lookups_per_s)
            steps.append(_Step(Part.EVENTS, region, region, read))
    steps.append(_Step(Part.TRUSTED_ADVISOR, reading.GLOBAL, world, reading.trusted_advisor))
    steps += [
        _Step(Part(name), reading.GLOBAL, account.home, read) for name, read in reading.WORLDWIDE.items()
    ]
    steps += [
        _Step(Part(name), region, region, read)
        for region in regions
        for name, read in reading.REGIONAL.items()
    ]
    return steps


def _recorded(kind: Watched, region: str, world: str, regions: Sequence[str]) -> bool:
    """Whether events of `kind` are to be looked for in `region`."""
    return region in regions if kind.everywhere else region == world


def _kept(span: Span, now: datetime) -> Span | None:
    """The part of `span` that CloudTrail still has; a minute less than it says, for clocks that differ."""
    oldest = now - HISTORY + timedelta(minutes=1)
    if span.end <= oldest:
        return None
    return replace(span, start=max(span.start, oldest.astimezone(span.start.tzinfo)))


def _beyond_history(span: Span, now: datetime) -> list[Gap]:
    kept = _kept(span, now)
    if kept is not None and kept.start == span.start:
        return []
    since = "is over" if kept is None else f"is kept since {kept.start.isoformat(timespec='minutes')}"
    detail = f"CloudTrail keeps events for {HISTORY.days} days: what it has of this month {since}."
    return [Gap(part=Part.EVENTS, region="all", cause=Cause.HISTORY_ENDS, detail=detail)]


async def _read_all(
    account: Account,
    gathered: _Gathered,
    progress: Tell | None,
    stop: asyncio.Event,
    deadline: float | None,
) -> Cause | None:
    """Carry out all steps; why it ended before the last of them, else None."""

    async def all_steps() -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for step in list(gathered.open):
                group.create_task(_read_step(account, step, gathered, gate, progress))

    work, stopped = asyncio.create_task(all_steps()), asyncio.create_task(stop.wait())
    try:
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.wait((work, stopped), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            _raise(work)
            return None
        return Cause.CANCELLED if stop.is_set() else Cause.OUT_OF_TIME
    finally:
        stopped.cancel()
        work.cancel()
        await asyncio.wait((work,))


def _raise(work: asyncio.Task[None]) -> None:
    """What ended `work`; the first of several."""
    error = work.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


async def _read_step(
    account: Account, step: _Step, gathered: _Gathered, gate: asyncio.Semaphore, progress: Tell | None
) -> None:
    # Lookups mostly wait, and take no place of those that read.
    async with gate if step.part is not Part.EVENTS else nullcontext(), account.region(step.at) as reads:
        try:
            async with aclosing(step.read(reads)) as rows:
                async for row in rows:
                    gathered.rows[step.part].append(row)
        except FairleadError as error:
            gathered.gaps.append(_gap(step, error))
        except Exception as error:  # noqa: BLE001 - an answer that nobody foresaw ends this step, not the report
            telemetry.log.error("support.monthly_step_failed", part=step.part.value, exc_info=error)
            detail = f"The answer was not understood ({type(error).__name__})."
            gathered.gaps.append(
                Gap(part=step.part, region=step.region, cause=Cause.NOT_UNDERSTOOD, detail=detail)
            )
        else:
            gathered.read.setdefault(step.part, []).append(step.region)
        finally:
            gathered.calls.update(reads.calls)
    del gathered.open[step]
    await _tell(step, gathered, progress)


def _gap(step: _Step, error: FairleadError) -> Gap:
    cause = Cause.DENIED if isinstance(error, ReadDenied) else Cause.FAILED
    if step.part is Part.TRUSTED_ADVISOR and error.details.get("aws_code") == _SUPPORT_PLAN:
        cause = Cause.SUPPORT_PLAN
    return Gap(part=step.part, region=step.region, cause=cause, detail=error.message)


async def _tell(step: _Step, gathered: _Gathered, progress: Tell | None) -> None:
    if progress is None:
        return
    async with gathered.telling:  # one after the other, so that percentages never fall
        done = gathered.total - len(gathered.open)
        told = progress(
            Progress(
                done=done,
                total=gathered.total,
                percent=100 * done // gathered.total,
                part=step.part,
                region=step.region,
                resources=sum(map(len, gathered.rows.values())),
            )
        )
        if inspect.isawaitable(told):
            await told
