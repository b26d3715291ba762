"""service-screener-v2: the operator's checkout, run in a private copy with safe flags and watched calls.

By itself it would create a CloudFormation stack in the account, and can write to the Well-Architected Tool
and to IAM: the flags that prevent it are forced, and a guard keeps back what is no read in any case.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fairlead.kernel import toolenv
from fairlead.kernel.clock import utc_now
from fairlead.support.model import Finding
from fairlead.support.screenings.pace import Course
from fairlead.support.screenings.port import (
    HEARTBEAT_S,
    Ending,
    Event,
    Found,
    Gap,
    Plan,
    Reached,
    Scope,
    ScreeningEngineFailed,
    ScreeningScopeInvalid,
    Workshop,
)
from fairlead.support.screenings.program import PYTHON, Command, Program, running
from fairlead.support.screenings.service_screener.copy import checkout, private_copy
from fairlead.support.screenings.service_screener.results import Reading, Rule, findings, rules
from fairlead.support.screenings.stream import BATCH, Mark, Put, streamed
from fairlead.support.screenings.survey import surveyed, wrong_account

TOOL = "service-screener"
HERE = Path(__file__).parent
LOOK_S = 0.2  # how often its folder is looked into
SAFE = {
    "--ztestmode": "1",  # no CloudFormation stack
    "--frameworks": "MSR,FTR,SSB,CIS,NIST",  # without WAFS, which writes to the Well-Architected Tool
    "--crossAccounts": "0",  # which would change the account's IAM settings
    "--disable-custom-pages": "1",
    "--beta": "0",  # which builds pages with code from the network
}


class ServiceScreenerScreening:
    """One screening of one account with service-screener-v2; made for it and used once."""

    name: ClassVar[str] = "service-screener"

    def __init__(self, account: Reached, workshop: Workshop) -> None:
        """Nothing is started yet."""
        self._account, self._workshop = account, workshop
        self._stop = asyncio.Event()
        self._rules: dict[str, dict[str, Rule]] = {}

    async def plan(self, scope: Scope) -> Plan:
        """What will be read. Raises ServiceScreenerMissing, and what the port says."""
        folder = checkout(self._workshop.service_screener)
        self._rules = _chosen(await asyncio.to_thread(_rules, folder), scope)
        ground = await surveyed(self._account.collect, scope)
        await self._python()  # installed now, and not while the deadline runs
        services = tuple(self._rules)
        return Plan(
            engine=self.name,
            account=ground.account,
            regions=ground.regions,
            regions_off=ground.regions_off,
            services=services,
            steps=sum(part.weight for part in Reading.parts(services, ground.regions)),
            checks=sum(map(len, self._rules.values())),
            scope=scope,
            gaps=ground.gaps,
        )

    async def cancel(self) -> None:
        """End the stream soon, keeping what was found. Idempotent, before and after the end too."""
        self._stop.set()

    def run(self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Event]:
        """Carry `plan` out; after `deadline_s` seconds with what there is."""
        course = Course(Reading.parts(plan.services, plan.regions), asyncio.get_running_loop().time())
        work = partial(self._read, plan, course)
        return streamed(plan, course, work, self._stop, deadline_s=deadline_s, heartbeat_s=heartbeat_s)

    async def _read(self, plan: Plan, course: Course, put: Put) -> Ending:
        folder = checkout(self._workshop.service_screener)
        reading = Reading(plan=plan, course=course, rules=self._rules, seen_at=utc_now())
        async with private_copy(folder, self._workshop.work_dir) as place:
            harvest = Harvest(reading, place / "tree" / "__fork", put)
            status = await self._through(plan, place, harvest)
        if not course.open:
            return Ending.COMPLETE
        if not harvest.found:
            raise ScreeningEngineFailed(
                f"service-screener ended with {status} before it had read anything.",
                remedy="Run its main.py by hand with --ztestmode 1, or screen with the engine builtin.",
                engine=TOOL,
            )
        went_through = reading.begun >= harvest.unread() and status is not None and status >= 0
        return Ending.COMPLETE if went_through else Ending.BROKEN

    async def _through(self, plan: Plan, place: Path, harvest: "Harvest") -> int | None:
        """Run it, and again for what it left out: the error of one service ends it before others begin."""
        status: int | None = None
        before: tuple[str, ...] = ()
        services = plan.services
        while services and services != before:
            async with running(await self._command(plan, services, place)) as program:
                status = await _follow(program, harvest)
            if status is None or status < 0:  # behind with all, or killed
                break
            unread = harvest.unread() - harvest.reading.begun
            before, services = services, tuple(name for name in services if name in unread)
        return status

    async def _python(self) -> Path:
        if self._workshop.interpreter is not None:
            return self._workshop.interpreter
        return await asyncio.to_thread(toolenv.ensure, TOOL, root=self._workshop.toolenvs)

    async def _command(self, plan: Plan, services: tuple[str, ...], place: Path) -> Command:
        asked = {**SAFE, "--regions": ",".join(plan.regions), "--services": ",".join(services)}
        return Command(
            arguments=(
                str(await self._python()),
                *PYTHON,
                str(HERE / "launcher.py"),
                str(HERE.parent / "guard.py"),
                *(word for pair in asked.items() for word in pair),
            ),
            environment={**self._account.environment(), "HOME": str(place / "home")},
            folder=place / "tree",
        )


@dataclass(slots=True)
class Harvest:
    """Takes what lies in the folder of results, service by service.

    A file is seen at once, while lines take their way through a pipe. So results are taken when they are seen
    for the second time: then all is heard that was said before they were written, and what was refused does
    not look as if it had been read.
    """

    reading: Reading
    folder: Path
    put: Put
    found: bool = False
    moved: bool = False  # a line told something since the last look
    _seen: frozenset[str] = frozenset()  # services with results at the last look

    async def look(self, *, last: bool = False) -> None:
        """Hand over what has come. `last`: nothing that is being written can become whole any more."""
        if self.moved:
            self.moved = False
            await self.put(Mark.PROGRESS)
        ended = self.ended()
        due, self._seen = [name for name in ended if last or name in self._seen], frozenset(ended)
        for service in due:
            taken = await asyncio.to_thread(self._read, service)
            if taken is None and not last:
                continue
            found, events = self.taken(service, taken)
            self.found = True
            left = self.reading.course.left
            left += found  # what is cut off is kept for the stream's end
            for event in events:
                await self.put(event)
            while left:
                await self.put(Found(tuple(left[:BATCH])))
                del left[:BATCH]
            await self.put(Mark.PROGRESS)

    def keep(self) -> None:
        """At the end before the end: what lies there goes to the stream's end."""
        for service in self.ended():
            if service in self._seen and (taken := self._read(service)):
                self.reading.course.left += self.taken(service, taken)[0]

    def ended(self) -> list[str]:
        """Services with results that were not taken yet: the statistics are written after them."""
        return sorted(name for name in self.unread() if (self.folder / f"{name}.stat.json").exists())

    def unread(self) -> set[str]:
        """Services that are not behind."""
        return {part.service for part in self.reading.course.open.values()}

    def _read(self, service: str) -> tuple[Any, Any] | None:
        """(results, statistics); None where they are not JSON, or not yet."""
        try:
            return _json(self.folder / f"{service}.json"), _json(self.folder / f"{service}.stat.json")
        except (OSError, ValueError, RecursionError):
            return None

    def taken(self, service: str, files: tuple[Any, Any] | None) -> tuple[list[Finding], list[Gap]]:
        """What they tell; with it the service is behind."""
        reading = self.reading
        try:
            if files is None:
                raise ValueError("no JSON")
            results, stat = files
            found = findings(reading.plan, service, results, reading.rules[service], reading.seen_at)
            gaps = list(reading.gaps(service, results, stat))
            reading.end(service, sum(len(resources) for resources in results.values()))
        except (ValueError, TypeError, AttributeError, IndexError, KeyError):
            reading.end(service, 0)
            return [], [reading.not_understood(service)]
        return found, gaps


async def _follow(program: Program, harvest: Harvest) -> int | None:
    """Listen and harvest until all services are behind (None) or the program has ended (its exit status)."""
    course = harvest.reading.course
    listening = asyncio.create_task(_listen(program, harvest))
    try:
        while course.open and not listening.done():
            await asyncio.wait((listening,), timeout=LOOK_S)
            await harvest.look()
        if not course.open:
            return None
        listening.result()
        status = await program.ended()
        await harvest.look(last=True)
    except asyncio.CancelledError:
        harvest.keep()
        raise
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    return status


async def _listen(program: Program, harvest: Harvest) -> None:
    """Hear everything that has come before anything else is done: waits for nothing but lines."""
    reading = harvest.reading
    async for line in program.lines():
        harvest.moved |= reading.hear(line)
        if reading.account not in (None, reading.plan.account):
            raise wrong_account(str(reading.account), reading.plan.account)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _rules(folder: Path) -> dict[str, dict[str, Rule]]:
    """Service → check → rule, from the checkout. What is not understood there is left out."""
    return dict(_reporters(folder))


def _reporters(folder: Path) -> Iterator[tuple[str, dict[str, Rule]]]:
    for path in sorted(folder.glob("services/*/*.reporter.json")):
        with suppress(OSError, ValueError, AttributeError, TypeError):
            yield path.name.removesuffix(".reporter.json"), rules(_json(path))


def _chosen(known: Mapping[str, dict[str, Rule]], scope: Scope) -> dict[str, dict[str, Rule]]:
    if unknown := sorted(set(scope.services) - set(known)):
        raise ScreeningScopeInvalid(
            f"There is no service {', '.join(unknown)} in service-screener.",
            remedy=f"Choose among {', '.join(sorted(known))}.",
            services=unknown,
        )
    return {
        service: found for service, found in known.items() if not scope.services or service in scope.services
    }
