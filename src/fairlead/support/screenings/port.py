"""What every screening engine promises: a plan, a stream of progress and findings, and an end.

A stream begins with progress, tells something at least every `heartbeat_s`, never runs backwards, and ends
with exactly one `Finished`. What could not be read is told as `Gap` or as a finding that is not assessed.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

from fairlead.kernel.errors import FairleadError
from fairlead.support.collect import Access
from fairlead.support.model import Finding, Language, Screening, Unread

HEARTBEAT_S = 5.0


class ScreeningScopeInvalid(FairleadError):
    """The screening names a region or service that there is not."""

    code, status, retryable = "support.screening_scope_invalid", 422, False


class ScreeningWrongAccount(FairleadError):
    """The credentials belong to another account than the one to be screened."""

    code, status, retryable = "support.screening_wrong_account", 403, False


class ScreeningNothingToRead(FairleadError):
    """Every region that was asked for is switched off."""

    code, status, retryable = "support.screening_nothing_to_read", 409, False


class ScreeningEngineFailed(FairleadError):
    """The engine's program ended before it had found anything."""

    code, status, retryable = "support.screening_engine_failed", 502, True


class Reached(Protocol):
    """An open account, as engines reach it."""

    @property
    def collect(self) -> Access:
        """For reads of this process."""
        ...

    def environment(self) -> dict[str, str]:
        """All of a child program's environment, credentials or the way to them included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where engines that are programs of their own find what they need."""

    toolenvs: Path  # environments of external programs
    service_screener: Path | None = None  # the operator's checkout of it
    interpreter: Path | None = None  # of all of them; default: each engine's own, made where it is missing
    work_dir: Path | None = None  # for what a screening writes; default: the system's temporary folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to screen. Empty: every region that is switched on, every service the engine knows."""

    account: str | None = None  # refuse to screen any other
    regions: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    language: Language = Language.ENGLISH  # of titles, reasons and remedies in findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be read, decided before anything else is."""

    engine: str
    account: str
    regions: tuple[str, ...]
    regions_off: tuple[str, ...]  # switched off in this account, told as gaps
    services: tuple[str, ...]
    steps: int  # what percentages count
    checks: int
    scope: Scope
    gaps: tuple[Unread, ...] = ()  # known from the start


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a screening stands."""

    done: int
    total: int
    percent: int  # 0..100; 100 only when everything was read
    stage: str  # "ec2 ap-northeast-2"
    resources: int  # looked at so far
    elapsed_s: float
    remaining_s: float | None  # an estimate; None while there is nothing to go by
    heartbeat: bool = False  # nothing new: only a sign of life


@dataclass(frozen=True, slots=True)
class Found:
    """Some findings."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be read."""

    unread: Unread


class Ending(StrEnum):
    """How a screening ended."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # the engine's program died; what it had found until then is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last of a stream."""

    ending: Ending
    started_at: datetime
    finished_at: datetime
    services: tuple[str, ...]  # read to their end in every region


Event = Progress | Found | Gap | Finished


class ScreeningEngine(Protocol):
    """One screening of one account; made for it and used once."""

    name: ClassVar[str]

    def __init__(self, account: Reached, workshop: Workshop) -> None: ...

    async def plan(self, scope: Scope) -> Plan:
        """What will be read. Raises AccountUnreachable, ScreeningWrongAccount, ScreeningScopeInvalid.

        An engine that is not installed yet is installed here. Raises ToolBuildFailed where it cannot be.
        """
        ...

    def run(self, plan: Plan, *, deadline_s: float, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[Event]:
        """Carry `plan` out; after `deadline_s` seconds with what there is."""
        ...

    async def cancel(self) -> None:
        """End the stream soon, keeping what was found. Idempotent, before and after the end too."""
        ...


async def gathered(
    plan: Plan, events: AsyncIterator[Event], progress: Callable[[Progress], None] = lambda _: None
) -> Screening:
    """The whole stream as one screening, `progress` called on the way."""
    findings: list[Finding] = []
    unread: list[Unread] = []
    end: Finished | None = None
    async for event in events:
        match event:
            case Progress():
                progress(event)
            case Found():
                findings.extend(event.findings)
            case Gap():
                unread.append(event.unread)
            case Finished():
                end = event
    if end is None:
        raise RuntimeError(f"the stream of {plan.engine} had no end")
    return Screening(
        account=plan.account,
        engine=plan.engine,
        started_at=end.started_at,
        finished_at=end.finished_at,
        regions=plan.regions,
        findings=tuple(findings),
        unread=tuple(unread),
        services=end.services,
        complete=end.ending is Ending.COMPLETE,
    )
