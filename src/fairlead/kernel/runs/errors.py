"""What can go wrong with a run as such."""

from typing import Any

from fairlead.kernel.errors import Conflict, FairleadError, NotFound


class RunNotFound(NotFound):
    """There is no such run, or you may not see it."""

    code = "run.not_found"


class RunFinished(Conflict):
    """The run has ended; it takes no more messages and cannot be cancelled."""

    code = "run.finished"


class RunConflict(Conflict):
    """This idempotency key or run id was used for something else."""

    code = "run.idempotency_conflict"


class RunCancelled(FairleadError):
    """The run was cancelled on request."""

    code, status, retryable = "run.cancelled", 409, False


class RunInternal(FairleadError):
    """The run stopped on an error inside Fairlead; the server's log has the details."""

    code, status, retryable = "run.internal", 500, False


class RunLost(FairleadError):
    """The engine gave the run up: its record is damaged or was cancelled behind our back."""

    code, status, retryable = "run.lost", 500, False


class OperationUnknown(FairleadError):
    """This worker knows no operation of that name."""

    code, status, retryable = "run.operation_unknown", 500, False


class NotExclusive(FairleadError):
    """This operation changes a whole project and was not queued one at a time for it."""

    code, status, retryable = "run.not_exclusive", 500, False


class WorkerIdTaken(Conflict):
    """Another live worker has this executor id."""

    code = "run.worker_id_taken"


class StepFailed(FairleadError):
    """A step failed; `code` and `problem()` are those of the original error.

    Steps are recorded as JSON, so a replay could not raise the original class: to treat both
    alike the first execution raises this one too. Compare `code`, not the class.
    """

    code, status, retryable = "run.step_failed", 500, False

    def __init__(self, recorded: dict[str, Any]) -> None:
        """`recorded` is the original error's problem document."""
        super().__init__(recorded["detail"], remedy=recorded.get("remedy"))
        self.details = dict(recorded.get("details", {}))
        self._recorded = recorded
        # Instance values shadow the class's: callers compare error.code.
        self.__dict__.update(
            code=recorded["code"], status=recorded["status"], retryable=recorded["retryable"]
        )

    def problem(self) -> dict[str, Any]:
        """The original problem document."""
        return dict(self._recorded)
