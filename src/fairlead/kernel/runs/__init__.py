"""Durable runs: submitted by any process, executed by workers, resumed after any crash.

Routes use `Runs` and the streams; capabilities' `operations.py` write workflows on `RunContext`;
the composition root opens both. Nothing outside this package imports the engine.
"""

from fairlead.kernel.runs.binding import patched
from fairlead.kernel.runs.context import RunContext
from fairlead.kernel.runs.errors import (
    RunCancelled,
    RunConflict,
    RunFinished,
    RunInternal,
    RunNotFound,
    StepFailed,
    WorkerIdTaken,
)
from fairlead.kernel.runs.liveness import workers_live
from fairlead.kernel.runs.model import (
    Event,
    NodeOutcome,
    NodeStatus,
    Operation,
    Run,
    RunStatus,
)
from fairlead.kernel.runs.service import Runs, open_runs
from fairlead.kernel.runs.streams import News, follow, news, sse, sse_stream
from fairlead.kernel.runs.worker import worker

__all__ = [
    "Event",
    "News",
    "NodeOutcome",
    "NodeStatus",
    "Operation",
    "Run",
    "RunCancelled",
    "RunConflict",
    "RunContext",
    "RunFinished",
    "RunInternal",
    "RunNotFound",
    "RunStatus",
    "Runs",
    "StepFailed",
    "WorkerIdTaken",
    "follow",
    "news",
    "open_runs",
    "patched",
    "sse",
    "sse_stream",
    "worker",
    "workers_live",
]
