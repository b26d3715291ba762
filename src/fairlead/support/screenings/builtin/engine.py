"""The builtin engine: reads service by service and region by region, judges each resource as it comes.

Memory holds a few pages and a bounded queue, however large the account is. A part that fails makes its checks
not assessed, with the reason; it never stops the others.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from typing import ClassVar

from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.support.collect import Account, Reads, open_account
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
from fairlead.support.screenings.pace import Course, Part
from fairlead.support.screenings.port import (
    HEARTBEAT_S,
    Ending,
    Event,
    Found,
    Gap,
    Plan,
    Reached,
    Scope,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
    Workshop,
)
from fairlead.support.screenings.stream import BATCH, Mark, Put, streamed
from fairlead.support.screenings.survey import surveyed

AT_ONCE = 6  # parts that are read side by side

_Placed = tuple[Part, Service]


class BuiltinScreening:
    """One screening of one account with boto3; made for it and used once."""

    name: ClassVar[str] = "builtin"

    def __init__(self, account: Reached, workshop: Workshop) -> None:  # noqa: ARG002 - the port's shape
        """Nothing is opened yet."""
        self._access = account.collect
        self._stop = asyncio.Event()

    async def plan(self, scope: Scope) -> Plan:
        """What will be read. Raises AccountUnreachable, ScreeningWrongAccount, ScreeningScopeInvalid."""
        services = _services(scope)
        ground = await surveyed(self._access, scope)
        return Plan(
            engine=self.name,
            account=ground.account,
            regions=ground.regions,
            regions_off=ground.regions_off,
            services=tuple(service.name for service in services),
            steps=len(_parts(services, ground.regions)),
            checks=sum(len(checks(service)) for service in services),
            scope=scope,
            gaps=ground.gaps,
        )

    async def cancel(self) -> None:
        """End the stream soon, keeping what was found. Idempotent, before and after the end too."""
        self._stop.set()

    def run(self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Event]:
        """Carry `plan` out; after `deadline_s` seconds with what there is."""
        parts = _parts(_services(plan.scope), plan.regions)
        course = Course((part for part, _ in parts), asyncio.get_running_loop().time())
        work = partial(self._read, plan, parts, course)
        return streamed(plan, course, work, self._stop, deadline_s=deadline_s, heartbeat_s=heartbeat_s)

    async def _read(self, plan: Plan, parts: list[_Placed], course: Course, put: Put) -> Ending:
        """Read all parts, a few side by side."""
        todo = iter(parts)

        async def reader(account: Account) -> None:
            for part, service in todo:
                course.begin(part)
                async with account.region(
                    account.home if part.region == GLOBAL else part.region, seen_at=utc_now()
                ) as reads:
                    await _read_part(plan, part, service, reads, course, put)
                course.end(part)
                await put(Mark.PROGRESS)

        async with AsyncExitStack() as stack:
            account = await stack.enter_async_context(open_account(self._access))
            if account.account != plan.account:
                raise ScreeningWrongAccount(f"The credentials changed to account {account.account}.")
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for _ in range(min(AT_ONCE, len(parts))):
                group.create_task(reader(account))
        return Ending.COMPLETE


async def _read_part(
    plan: Plan, part: Part, service: Service, reads: Reads, course: Course, put: Put
) -> None:
    for source in service.sources:
        try:
            await _read_source(plan, service, source, reads, course, put)
        except FairleadError as error:
            reason = error.message
        except Exception as error:  # noqa: BLE001 - an answer that nobody foresaw ends this source, not the screening
            stage, kind = part.stage, source.kind
            telemetry.log.error("support.screening_source_failed", part=stage, kind=kind, exc_info=error)
            reason = f"The answer was not understood ({type(error).__name__})."
        else:
            continue
        course.failed.add(part.service)
        unread = Unread(service=part.service, region=part.region, reason=f"{source.kind}: {reason}")
        await put(Gap(unread))
        await put(Found(tuple(_not_assessed(plan, part, service, source, reads, reason))))


async def _read_source(
    plan: Plan, service: Service, source: Source, reads: Reads, course: Course, put: Put
) -> None:
    """Judge every resource of `source` and hand all findings over in batches, also when cut off."""
    found: list[Finding] = []
    try:
        async for item in source.collect(reads):
            if _outside(plan, item):
                continue
            course.resources += 1
            found += judged(plan, service, source.checks, item)
            if len(found) >= BATCH:
                await put(Found(tuple(found)))
                found = []
    except asyncio.CancelledError:
        course.left += found
        raise
    except Exception:
        await put(Found(tuple(found)))
        raise
    if found:
        await put(Found(tuple(found)))


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


def _not_assessed(
    plan: Plan, part: Part, service: Service, source: Source, reads: Reads, reason: str
) -> list[Finding]:
    """Every check of a source that could not be read to its end, told once for the region."""
    place = Resource(
        uid=f"arn:{reads.partition}:{part.service}:{part.region}:{plan.account}:*",
        type=source.kind,
        region=part.region,
        name="*",
    )
    seen = reads.seen_at or utc_now()
    return [_finding(plan, service, check, place, Status.UNREAD, reason, seen) for check in source.checks]


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


def _services(scope: Scope) -> tuple[Service, ...]:
    known = {service.name: service for service in SERVICES}
    if unknown := sorted(set(scope.services) - set(known)):
        raise ScreeningScopeInvalid(
            f"There is no service {', '.join(unknown)} in this screening.",
            remedy=f"Choose among {', '.join(sorted(known))}.",
            services=unknown,
        )
    return tuple(service for service in SERVICES if not scope.services or service.name in scope.services)


def _parts(services: Iterable[Service], regions: Iterable[str]) -> list[_Placed]:
    """What is global first, then region by region, so that a service is not asked everywhere at once."""
    chosen, places = tuple(services), tuple(regions)
    return [(Part(one.name, GLOBAL), one) for one in chosen if not one.regional] + [
        (Part(one.name, region), one) for region in places for one in chosen if one.regional
    ]
