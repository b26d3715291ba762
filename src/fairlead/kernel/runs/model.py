"""What a run is: plain frozen data that knows no engine, no SQL and no HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairlead.kernel.runs.context import RunContext

Json = Any
Workflow = Callable[["RunContext", dict[str, Any]], Awaitable[dict[str, Any] | None]]


class RunStatus(StrEnum):
    """Where a run stands. The last three are final."""

    QUEUED = "queued"  # nobody has begun it
    RUNNING = "running"
    WAITING = "waiting"  # for a message, until a deadline; costs nothing meanwhile
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the run will never change again."""
        return self in FINAL


FINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One durable operation on behalf of somebody."""

    id: str
    kind: str  # the operation's name: "changes.apply"
    project_id: str | None
    actor: str  # who asked for it
    title: str
    params: dict[str, Any]
    status: RunStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    partition: str | None  # runs of one partition execute one after the other
    waiting_for: str | None  # topic, while status is WAITING
    result: dict[str, Any] | None
    error: dict[str, Any] | None  # a problem document

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for it to stop."""
        return self.cancel_requested_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a run. `seq` counts 1, 2, 3 … within the run, without gaps."""

    run_id: str
    seq: int
    at: datetime
    type: str
    data: dict[str, Any]


QUEUED = "run.queued"
STARTED = "run.started"
WAITING = "run.waiting"
RESUMED = "run.resumed"
CANCEL_REQUESTED = "run.cancel_requested"
SUCCEEDED = "run.succeeded"
FAILED = "run.failed"
CANCELLED = "run.cancelled"
FINAL_EVENTS = frozenset({SUCCEEDED, FAILED, CANCELLED})
"""Types of the last event of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What runs of one kind do. Built at worker start as a closure over the opened resources.

    With `partition_by_project` its runs must be submitted with `partition=project_id`: one at a
    time per project, on every worker together. Such an operation must never wait for a person:
    it would block its project.
    """

    name: str
    workflow: Workflow
    partition_by_project: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended; what its final checkpoint holds."""

    status: RunStatus
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class NodeStatus(StrEnum):
    """How one node of a graph ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # something that it depends on failed
    CANCELLED = "cancelled"  # the run was cancelled before the node began


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutcome:
    """One node's end: `result` where it succeeded, `problem` where it failed."""

    status: NodeStatus
    result: Json = None
    problem: dict[str, Any] | None = None
