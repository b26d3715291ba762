"""The builtin engine: reads service by service and region by region, judges each resource as it comes.

Memory holds a few pages and a bounded queue, however large the account is. A part that fails makes its checks
not assessed, with the reason; it never stops the others.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.support.collect import Access, Account, ReadFailed, Reads, open_account
from fairlead.support.model import Finding, Resource, Status, Unread
from fairlead.support.screenings.builtin.catalogue import SERVICES, checks
from fairlead.support.screenings.builtin.checks import (
    CIS,
    GLOBAL,
    Check,
    Failed,
    Item,
    NotAssessed,
    Service,
    Source,
)
from fairlead.support.screenings.builtin.words import worded
from fairlead.support.screenings.port import (
    HEARTBEAT_S,
    Ending,
    Event,
    Finished,
    Found,
    Gap,
    Plan,
    Progress,
    Scope,
    ScreeningNothingToRead,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
)

AT_ONCE = 6  # parts that are read side by side
BATCH = 200  # findings handed over together
QUEUE = 32  # batches that wait for a slow reader


@dataclass(frozen=True, slots=True)
class _Part:
    service: Service
    region: str  # GLOBAL for what is read once

    @property
    def stage(self) -> str:
        return f"{self.service.name} {self.region}"


@dataclass(slots=True)
class _State:
    """How far the parts are."""

    total: int
    began: float
    done: int = 0
    resources: int = 0
    active: list[str] = field(default_factory=list)  # stages, the one that has been going on longest first
    left: list[Finding] = field(default_factory=list)  # found, and cut off before they were handed over
    failed: set[str] = field(default_factory=set)  # services with a gap or a part that did not end
    open: dict[str, _Part] = field(default_factory=dict)


class BuiltinScreening:
    """One screening of one account with boto3; made for it and used once."""

    name: ClassVar[str] = "builtin"

    def __init__(self, access: Access) -> None:
        """Nothing is opened yet."""
        self._access = access
        self._stop = asyncio.Event()

    async def plan(self, scope: Scope) -> Plan:
        """What will be read. Raises AccountUnreachable, ScreeningWrongAccount, ScreeningScopeInvalid."""
        services = _services(scope)
        async with open_account(self._access) as account:
            if scope.account not in (None, account.account):
                raise ScreeningWrongAccount(
                    f"The credentials are of {account.account}, and {scope.account} was to be screened.",
                    remedy="Use credentials of the account that the ticket belongs to.",
                )
            regions, off, gaps = await _regions(account, scope)
        return Plan(
            engine=self.name,
            account=account.account,
            regions=regions,
            regions_off=off,
            services=tuple(service.name for service in services),
            steps=len(_parts(services, regions)),
            checks=sum(len(checks(service)) for service in services),
            scope=scope,
            gaps=gaps,
        )

    async def cancel(self) -> None:
        """End the stream soon, keeping what was found. Idempotent, before and after the end too."""
        self._stop.set()

    async def run(
        self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncIterator[Event]:
        """Carry `plan` out; after `deadline_s` seconds with what there is."""
        loop, started = asyncio.get_running_loop(), utc_now()
        parts = _parts(_services(plan.scope), plan.regions)
        state = _State(total=len(parts), began=loop.time(), open={part.stage: part for part in parts})
        yield _progress(state, loop.time())
        for gap in plan.gaps:
            yield Gap(gap)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE)
        work = asyncio.create_task(self._read(plan, parts, state, queue))
        ending = Ending.COMPLETE
        try:
            async with aclosing(
                self._until_end(queue, work, state, state.began + deadline_s, heartbeat_s)
            ) as events:
                async for event in events:
                    if isinstance(event, Ending):
                        ending = event
                    else:
                        yield event
        finally:
            work.cancel()
            await asyncio.wait((work,))
        while not queue.empty():  # what was found before the end came
            if isinstance(left := queue.get_nowait(), Found | Gap):
                yield left
        if state.left:
            yield Found(tuple(state.left))
        for unreached in _unreached(state, ending):
            yield unreached
        yield _progress(state, loop.time())
        yield Finished(
            ending=ending,
            started_at=started,
            finished_at=max(utc_now(), started),
            services=tuple(name for name in plan.services if name not in state.failed),
        )

    async def _until_end(
        self,
        queue: asyncio.Queue[Event | None],
        work: asyncio.Task[None],
        state: _State,
        deadline: float,
        heartbeat_s: float,
    ) -> AsyncGenerator[Event | Ending, None]:
        """Events as they come, heartbeats between them, and how it ended. Raises what ended `work`."""
        loop, told = asyncio.get_running_loop(), state.began
        stopped = asyncio.create_task(self._stop.wait())
        waiting: asyncio.Task[Event | None] = asyncio.create_task(queue.get())
        try:
            while not self._stop.is_set() and (left := deadline - loop.time()) > 0:
                await asyncio.wait(
                    {waiting, stopped} | ({work} if not work.done() else set()),
                    timeout=min(left, heartbeat_s),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if waiting.done():
                    event = waiting.result()
                    if event is None:
                        yield Ending.COMPLETE
                        return
                    waiting = asyncio.create_task(queue.get())
                elif work.done():
                    _raise(work)
                    continue
                else:
                    told = loop.time()
                    yield _progress(state, told, heartbeat=True)
                    continue
                if not isinstance(event, Progress):
                    yield event
                if isinstance(event, Progress) or loop.time() - told >= heartbeat_s:
                    told = loop.time()  # told as it is now: what waited in the queue is behind
                    yield _progress(state, told)
            yield Ending.CANCELLED if self._stop.is_set() else Ending.TIMED_OUT
        finally:
            stopped.cancel()
            if not waiting.cancel() and not waiting.cancelled() and (event := waiting.result()) is not None:
                queue.put_nowait(event)

    async def _read(
        self, plan: Plan, parts: list[_Part], state: _State, queue: asyncio.Queue[Event | None]
    ) -> None:
        """Read all parts, a few side by side, then say that there is no more."""
        todo = iter(parts)

        async def reader(account: Account) -> None:
            for part in todo:
                state.active.append(part.stage)
                async with account.region(
                    account.home if part.region == GLOBAL else part.region, seen_at=utc_now()
                ) as reads:
                    await _read_part(plan, part, reads, state, queue)
                state.done += 1
                state.active.remove(part.stage)
                del state.open[part.stage]
                await queue.put(_progress(state, asyncio.get_running_loop().time()))

        async with AsyncExitStack() as stack:
            account = await stack.enter_async_context(open_account(self._access))
            if account.account != plan.account:
                raise ScreeningWrongAccount(f"The credentials changed to account {account.account}.")
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for _ in range(min(AT_ONCE, len(parts))):
                group.create_task(reader(account))
        await queue.put(None)


def _raise(work: asyncio.Task[None]) -> None:
    """What ended `work`; the first of several."""
    error = work.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


def _unreached(state: _State, ending: Ending) -> Iterator[Gap]:
    """A gap for every part that was not read to its end, which takes its service from those that were."""
    why = "cancelled" if ending is Ending.CANCELLED else "out of time"
    for part in state.open.values():
        state.failed.add(part.service.name)
        reason = f"Not read to its end: {why}."
        yield Gap(Unread(service=part.service.name, region=part.region, reason=reason))


async def _read_part(
    plan: Plan, part: _Part, reads: Reads, state: _State, queue: asyncio.Queue[Event | None]
) -> None:
    for source in part.service.sources:
        try:
            await _read_source(plan, part, source, reads, state, queue)
        except FairleadError as error:
            reason = error.message
        except Exception as error:  # noqa: BLE001 - an answer that nobody foresaw ends this source, not the screening
            stage, kind = part.stage, source.kind
            telemetry.log.error("support.screening_source_failed", part=stage, kind=kind, exc_info=error)
            reason = f"The answer was not understood ({type(error).__name__})."
        else:
            continue
        state.failed.add(part.service.name)
        unread = Unread(service=part.service.name, region=part.region, reason=f"{source.kind}: {reason}")
        await queue.put(Gap(unread))
        await queue.put(Found(tuple(_not_assessed(plan, part, source, reads, reason))))


async def _read_source(
    plan: Plan,
    part: _Part,
    source: Source,
    reads: Reads,
    state: _State,
    queue: asyncio.Queue[Event | None],
) -> None:
    """Judge every resource of `source` and hand all findings over in batches, also when cut off."""
    found: list[Finding] = []
    try:
        async for item in source.collect(reads):
            if _outside(plan, item):
                continue
            state.resources += 1
            found += judged(plan, part.service, source.checks, item)
            if len(found) >= BATCH:
                await queue.put(Found(tuple(found)))
                found = []
    except asyncio.CancelledError:
        state.left += found
        raise
    except Exception:
        await queue.put(Found(tuple(found)))
        raise
    if found:
        await queue.put(Found(tuple(found)))


def judged(plan: Plan, service: Service, asked: Iterable[Check], item: Item) -> list[Finding]:
    """What `asked` say about `item`. What cannot be judged is unread, never passed."""
    found = []
    for check in asked:
        try:
            verdict = check.judge(item)
        except NotAssessed as error:
            status, detail = Status.UNREAD, str(error)
        except (KeyError, TypeError, ValueError, AttributeError, LookupError) as error:
            status, detail = Status.UNREAD, f"The answer was not understood ({type(error).__name__})."
        else:
            if verdict is None:
                continue
            fault = verdict.detail if isinstance(verdict, Failed) else None
            status, detail = (Status.PASS, "") if fault is None else (Status.FAIL, fault)
        found.append(_finding(plan, service, check, item.resource, status, detail, item.seen_at))
    return found


def _not_assessed(plan: Plan, part: _Part, source: Source, reads: Reads, reason: str) -> list[Finding]:
    """Every check of a source that could not be read to its end, told once for the region."""
    place = Resource(
        uid=f"arn:{reads.partition}:{part.service.name}:{part.region}:{plan.account}:*",
        type=source.kind,
        region=part.region,
        name="*",
    )
    seen = reads.seen_at or utc_now()
    return [
        _finding(plan, part.service, check, place, Status.UNREAD, reason, seen) for check in source.checks
    ]


def _finding(
    plan: Plan,
    service: Service,
    check: Check,
    resource: Resource,
    status: Status,
    detail: str,
    seen_at: datetime,
) -> Finding:
    title, why, fix = worded(check, plan.scope.language)
    return Finding(
        check=check.id,
        title=title,
        severity=check.severity,
        status=status,
        account=plan.account,
        resource=resource,
        detail=detail,
        rationale=why,
        remediation=fix,
        references=(service.reference,),
        compliance={CIS: check.cis} if check.cis else {},
        pillars=check.pillars,
        seen_at=seen_at,
    )


def _outside(plan: Plan, item: Item) -> bool:
    """Whether a resource of a global service lies in a region that is not asked for."""
    return item.resource.region != GLOBAL and item.resource.region not in plan.regions


def _progress(state: _State, now: float, *, heartbeat: bool = False) -> Progress:
    elapsed = now - state.began
    percent = 100 * state.done // state.total if state.total else 100
    remaining = elapsed / state.done * (state.total - state.done) if state.done else None
    return Progress(
        done=state.done,
        total=state.total,
        percent=percent,
        stage=state.active[0] if state.active else "",
        resources=state.resources,
        elapsed_s=round(elapsed, 3),
        remaining_s=None if remaining is None else round(remaining, 1),
        heartbeat=heartbeat,
    )


def _services(scope: Scope) -> tuple[Service, ...]:
    known = {service.name: service for service in SERVICES}
    if unknown := sorted(set(scope.services) - set(known)):
        raise ScreeningScopeInvalid(
            f"There is no service {', '.join(unknown)} in this screening.",
            remedy=f"Choose among {', '.join(sorted(known))}.",
            services=unknown,
        )
    return tuple(service for service in SERVICES if not scope.services or service.name in scope.services)


def _parts(services: Iterable[Service], regions: Iterable[str]) -> list[_Part]:
    """What is global first, then region by region, so that a service is not asked everywhere at once."""
    chosen, places = tuple(services), tuple(regions)
    return [_Part(service, GLOBAL) for service in chosen if not service.regional] + [
        _Part(service, region) for region in places for service in chosen if service.regional
    ]


async def _regions(
    account: Account, scope: Scope
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Unread, ...]]:
    """(to read, switched off, gaps). Where regions cannot be listed, those asked for or the home region."""
    async with account.region(account.home) as reads:
        try:
            answer = await reads.call("ec2", "describe_regions", AllRegions=True)
        except ReadFailed as error:
            gap = Unread(
                service="ec2", region=GLOBAL, reason=f"Which regions there are is unknown: {error.message}"
            )
            return scope.regions or (account.home,), (), (gap,)
    state = {
        region["RegionName"]: region.get("OptInStatus", "opt-in-not-required") for region in answer["Regions"]
    }
    if unknown := sorted(set(scope.regions) - set(state)):
        raise ScreeningScopeInvalid(
            f"There is no region {', '.join(unknown)}.",
            remedy=f"Choose among {', '.join(sorted(state))}.",
            regions=unknown,
        )
    wanted = tuple(dict.fromkeys(scope.regions)) or tuple(sorted(state))
    off = tuple(region for region in wanted if state[region] == "not-opted-in")
    chosen = tuple(region for region in wanted if region not in off)
    if not chosen:
        raise ScreeningNothingToRead(
            f"Switched off in account {account.account}: {', '.join(off)}.",
            remedy="Choose a region that is switched on.",
        )
    gaps = tuple(
        Unread(service="all", region=region, reason="The region is switched off in this account.")
        for region in off
    )
    return chosen, off, gaps
