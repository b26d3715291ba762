"""Prowler: its own program in its own environment, which our driver there tells about line by line.

The plan is made of Prowler's own list of checks. What it cannot read it goes on without; the driver tells,
and it becomes a gap. Installed on first use: see `Workshop`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fairlead.kernel import toolenv
from fairlead.kernel.clock import utc_now
from fairlead.support.screenings.pace import Course
from fairlead.support.screenings.port import (
    HEARTBEAT_S,
    Ending,
    Event,
    Found,
    Plan,
    Reached,
    Scope,
    ScreeningEngineFailed,
    ScreeningScopeInvalid,
    Workshop,
)
from fairlead.support.screenings.program import PYTHON, Command, Program, running
from fairlead.support.screenings.prowler.reading import Reading
from fairlead.support.screenings.stream import Mark, Put, streamed
from fairlead.support.screenings.survey import surveyed, wrong_account

TOOL = "prowler"
DRIVER = Path(__file__).with_name("driver.py")
CATALOGUE_S = 60.0
SERVICES = {"lambda": "awslambda"}  # Prowler's names for what others call otherwise
# A local AWS lists the public snapshots of the world as the account's own.
LOCAL_NOISE = ("ec2_ebs_public_snapshot", "ec2_ebs_snapshots_encrypted", "ec2_ebs_volume_snapshots_exists")


class ProwlerScreening:
    """One screening of one account with Prowler; made for it and used once."""

    name: ClassVar[str] = "prowler"

    def __init__(self, account: Reached, workshop: Workshop) -> None:
        """Nothing is started yet."""
        self._account, self._workshop = account, workshop
        self._stop = asyncio.Event()
        self._checks: dict[str, str] = {}

    async def plan(self, scope: Scope) -> Plan:
        """What will be read. Raises AccountUnreachable, ScreeningWrongAccount, ScreeningScopeInvalid."""
        ground = await surveyed(self._account.collect, scope)
        self._checks = _chosen(await self._catalogue(), scope, local=self._is_local)
        services = tuple(dict.fromkeys(self._checks.values()))
        return Plan(
            engine=self.name,
            account=ground.account,
            regions=ground.regions,
            regions_off=ground.regions_off,
            services=services,
            steps=len(self._checks),
            checks=len(self._checks),
            scope=scope,
            gaps=ground.gaps,
        )

    async def cancel(self) -> None:
        """End the stream soon, keeping what was found. Idempotent, before and after the end too."""
        self._stop.set()

    def run(self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Event]:
        """Carry `plan` out; after `deadline_s` seconds with what there is."""
        course = Course(Reading.parts(self._checks), asyncio.get_running_loop().time())
        work = partial(self._read, plan, course)
        return streamed(plan, course, work, self._stop, deadline_s=deadline_s, heartbeat_s=heartbeat_s)

    @property
    def _is_local(self) -> bool:
        return self._account.collect.endpoint_url is not None

    async def _command(self) -> Command:
        python = self._workshop.interpreter or await asyncio.to_thread(
            toolenv.ensure, TOOL, root=self._workshop.toolenvs
        )
        environment = self._account.environment()
        return Command(
            arguments=(str(python), *PYTHON, str(DRIVER)),
            environment=environment,
            folder=Path(environment["HOME"]),
        )

    async def _catalogue(self) -> list[tuple[str, str]]:
        """(id, service) of every check that Prowler has and that may run."""
        async with running(await self._command()) as program:
            await program.ask({"do": "catalogue"})
            try:
                async with asyncio.timeout(CATALOGUE_S):
                    async for line in program.lines():
                        told = json.loads(line or b"")
                        if told["kind"] == "catalogue":
                            return [(str(check), str(service)) for check, service in told["checks"]]
            except (TimeoutError, ValueError, KeyError, TypeError) as error:
                raise _failed(f"its list of checks was not understood ({type(error).__name__})") from error
        raise _failed("it gave no list of its checks")

    async def _read(self, plan: Plan, course: Course, put: Put) -> Ending:
        reading = Reading(plan=plan, course=course, checks=self._checks, seen_at=utc_now())
        async with running(await self._command()) as program:
            await program.ask(self._request(plan))
            found = await _follow(program, reading, put)
            if reading.account:
                raise wrong_account(reading.account, plan.account)
            if reading.ended:
                return Ending.COMPLETE
            status = await program.ended()
        if not found:
            raise _failed(reading.error or f"it ended with {status} before it had found anything")
        return Ending.BROKEN

    def _request(self, plan: Plan) -> dict[str, Any]:
        return {
            "do": "scan",
            "account": plan.account,
            "regions": list(plan.regions),
            "checks": list(self._checks),
            "local": self._is_local,
            "attempts": self._account.collect.attempts,
        }


async def _follow(program: Program, reading: Reading, put: Put) -> bool:
    """Hand over what the lines tell until they end; whether anything was found."""
    found = False
    async for line in program.lines():
        for event in reading.feed(line):
            found = found or isinstance(event, Found)
            await put(event)
        await put(Mark.PROGRESS)
        if reading.ended or reading.account:
            break
    return found


def _failed(why: str) -> ScreeningEngineFailed:
    return ScreeningEngineFailed(
        f"Prowler did not begin: {why}.",
        remedy="Try again, or screen with the engine builtin.",
        engine=TOOL,
    )


def _chosen(catalogue: Iterable[tuple[str, str]], scope: Scope, *, local: bool) -> dict[str, str]:
    """id → service of the checks that `scope` asks for, in Prowler's order. Raises ScreeningScopeInvalid."""
    known = dict(sorted(catalogue))
    wanted = {SERVICES.get(service, service) for service in scope.services}
    if unknown := sorted(wanted - set(known.values())):
        raise ScreeningScopeInvalid(
            f"There is no service {', '.join(unknown)} in Prowler.",
            remedy=f"Choose among {', '.join(sorted(set(known.values())))}.",
            services=unknown,
        )
    return {
        check: service
        for check, service in known.items()
        if (not wanted or service in wanted) and not (local and check in LOCAL_NOISE)
    }
