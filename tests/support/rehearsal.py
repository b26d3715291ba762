"""A worker in a thread of this process, whose engine and accounts play what a test has written down.

The runs, the database, the object store and the operations are the real ones; only AWS is not asked.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from fairlead.kernel.runs import worker
from fairlead.support.collect import Access
from fairlead.support.model import Customer, Finding, Resource, Severity, Status
from fairlead.support.opening import open_parts
from fairlead.support.operations import operations
from fairlead.support.screenings.port import (
    HEARTBEAT_S,
    Ending,
    Event,
    Finished,
    Found,
    Plan,
    Progress,
    Scope,
)
from tests.support.desk import Desk
from tests.support.desk_worker import RUN_SETTINGS

ACCOUNT = "444455556666"
REGION = "ap-northeast-2"


def finding(account: str = ACCOUNT, check: str = "s3.public", uid: str = "bucket", **more: Any) -> Finding:
    """A failed check."""
    values: dict[str, Any] = {
        "title": "Bucket is public",
        "severity": Severity.HIGH,
        "status": Status.FAIL,
        "resource": Resource(uid=uid, type="AWS::S3::Bucket", region=REGION, name=uid),
    }
    return Finding(check=check, account=account, **{**values, **more})


def progress(percent: int, **more: Any) -> Progress:
    """Where a screening stands."""
    values: dict[str, Any] = {"stage": f"s3 {REGION}", "resources": percent, "elapsed_s": 1.0}
    return Progress(done=percent, total=100, percent=percent, remaining_s=None, **{**values, **more})


@dataclass(frozen=True, slots=True)
class Fail:
    """The engine fails here."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Wait:
    """The engine waits: for being cancelled, its deadline, or `seconds`."""

    seconds: float = 600.0


Act = Event | Fail | Wait


@dataclass
class Script:
    """What the engine does, and what was asked of it. Changed by the test at any time."""

    acts: list[Act] = field(default_factory=list)
    plan_error: Exception | None = None
    open_error: Exception | None = None
    opened: list[tuple[str, str, str | None]] = field(default_factory=list)  # account, actor, ticket
    scopes: list[Scope] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)


class ScriptedEngine:
    """A screening as a script says."""

    name: ClassVar[str] = "builtin"

    def __init__(self, account: str, script: Script) -> None:
        self._account, self._script = account, script
        self._stop = asyncio.Event()

    async def plan(self, scope: Scope) -> Plan:
        self._script.scopes.append(scope)
        if self._script.plan_error:
            raise self._script.plan_error
        return Plan(
            engine=self.name,
            account=self._account,
            regions=scope.regions or (REGION,),
            regions_off=(),
            services=("s3",),
            steps=100,
            checks=1,
            scope=scope,
        )

    async def run(
        self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        until, started, ending = loop.time() + deadline_s, datetime.now(UTC), Ending.COMPLETE
        for act in list(self._script.acts):
            if isinstance(act, Fail):
                raise act.error
            if isinstance(act, Wait):
                self._script.begun.set()
                left = min(act.seconds, until - loop.time())
                try:
                    async with asyncio.timeout(left):
                        await self._stop.wait()
                    ending = Ending.CANCELLED
                    break
                except TimeoutError:
                    if loop.time() >= until:
                        ending = Ending.TIMED_OUT
                        break
                continue
            yield act
        yield Finished(ending=ending, started_at=started, finished_at=datetime.now(UTC), services=("s3",))

    async def cancel(self) -> None:
        self._stop.set()


@dataclass(frozen=True, slots=True)
class ScriptedAccess:
    """An account that is not there."""

    account: str
    collect: Access = field(default_factory=Access)

    def environment(self) -> Mapping[str, str]:
        return {}


class ScriptedAccesses:
    """Accounts as a script lets in."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def open(self, customer: Customer, *, actor: str, ticket: str | None) -> ScriptedAccess:
        self._script.opened.append((customer.account, actor, ticket))
        if self._script.open_error:
            raise self._script.open_error
        return ScriptedAccess(customer.account)


@contextmanager
def rehearsed(desk: Desk, script: Script) -> Iterator[None]:
    """A worker for `desk` while the block is open."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def main() -> None:
        async with open_parts(desk.settings, desk.database, desk.objects) as opened:
            parts: Any = replace(opened, accesses=_given(ScriptedAccesses(script)), engine=_engine(script))
            async with worker(desk.database, operations(parts), RUN_SETTINGS, grace_s=0.2):
                ready.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(90)
        assert not thread.is_alive()
        loop.close()


def _given(value: Any) -> Callable[[], Any]:
    async def give() -> Any:
        return value

    return give


def _engine(script: Script) -> Any:
    async def engine(name: str, access: ScriptedAccess) -> ScriptedEngine:
        return ScriptedEngine(access.account, script)

    return engine


__all__ = ["Ending", "Fail", "Found", "Script", "Wait", "finding", "progress", "rehearsed"]
