"""How far the requests that AWS works on have come, and one poll for all who wait for an end."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fairlead.changes.awsapi import answers
from fairlead.changes.model import Json, Properties
from fairlead.kernel import resilience
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
_LONGEST_HINT_S = 60.0
_TOGETHER_S = 0.05  # polls due this close to each other go out in one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one request has come, in Cloud Control's own words."""

    operation: str  # CREATE | UPDATE | DELETE
    status: str  # PENDING | IN_PROGRESS | SUCCESS | FAILED | CANCEL_IN_PROGRESS | CANCEL_COMPLETE
    type_name: str
    identifier: str | None
    request_token: str
    error_code: str | None = None
    message: str | None = None
    model: Properties | None = None
    retry_after: datetime | None = None  # AWS asks not to be asked again before

    @property
    def is_final(self) -> bool:
        return self.status in {"SUCCESS", "FAILED", "CANCEL_COMPLETE"}

    def error(self) -> FairleadError | None:
        """What went wrong, where the request has failed or was cancelled."""
        if self.status not in {"FAILED", "CANCEL_COMPLETE"}:
            return None
        message = self.message or "no reason given"
        return answers.error_of_code(self.error_code or self.status, f"{self.type_name}: {message}")


def progress_of(event: Json) -> Progress:
    """Cloud Control's progress event; deleting what is not there counts as done."""
    code, operation, status = event.get("ErrorCode"), event["Operation"], event["OperationStatus"]
    gone = operation == "DELETE" and status == "FAILED" and code == "NotFound"
    model, retry_after = event.get("ResourceModel"), event.get("RetryAfter")
    return Progress(
        operation=operation,
        status="SUCCESS" if gone else status,
        type_name=event.get("TypeName", ""),
        identifier=event.get("Identifier"),
        request_token=event["RequestToken"],
        error_code=None if gone else code,
        message=event.get("StatusMessage"),
        model=json.loads(model) if model else None,
        retry_after=_moment(retry_after) if retry_after else None,
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who waits for the end of the request with this token."""

    token: str
    final: asyncio.Future[Progress]
    due: float  # when to ask again, on the event loop's clock
    pause_s: float = FIRST_PAUSE_S


class Poll:
    """Asks for all waiting requests together, each at its own pace."""

    def __init__(
        self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, Progress | FairleadError]]]
    ) -> None:
        self._ask = ask
        self._waiting: list[Waiting] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def final(self, progress: Progress) -> Progress:
        """The final progress of the request that `progress` is about."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(progress.request_token, loop.create_future(), loop.time())
        postpone(waiting, progress.retry_after, loop.time())
        self._waiting.append(waiting)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            return await waiting.final
        finally:
            self._waiting.remove(waiting)
            self._changed.set()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while open_ := [waiting for waiting in self._waiting if not waiting.final.done()]:
            due = [waiting for waiting in open_ if waiting.due <= clock() + _TOGETHER_S]
            if due:
                await self._settle(due, clock)
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(min(waiting.due for waiting in open_) - clock()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _settle(self, due: Sequence[Waiting], clock: Callable[[], float]) -> None:
        try:
            found = await self._ask(list(dict.fromkeys(waiting.token for waiting in due)))
        except FairleadError as error:
            found = dict.fromkeys((waiting.token for waiting in due), error)
        except Exception as error:  # noqa: BLE001 - a bug: those who wait must hear it
            for waiting in due:
                _finish(waiting, error)
            return
        for waiting in due:
            outcome = found[waiting.token]
            if isinstance(outcome, Progress):
                over, hint = outcome.is_final, outcome.retry_after
            else:
                # No answer says nothing about the request: the caller's own deadline ends the wait.
                over, hint = not resilience.may_repeat(outcome), None
            if over:
                _finish(waiting, outcome)
            else:
                postpone(waiting, hint, clock())


def _finish(waiting: Waiting, outcome: Progress | Exception) -> None:
    if waiting.final.done():
        return
    if isinstance(outcome, Progress):
        waiting.final.set_result(outcome)
    else:
        waiting.final.set_exception(outcome)


def postpone(waiting: Waiting, retry_after: datetime | None, now: float) -> None:
    """Ask again after a longer pause than before, and not before AWS wants to be asked."""
    hint_s = (retry_after - utc_now()).total_seconds() if retry_after else 0.0
    waiting.due = now + max(waiting.pause_s, min(hint_s, _LONGEST_HINT_S))
    waiting.pause_s = min(waiting.pause_s * 1.6, LONGEST_PAUSE_S)
