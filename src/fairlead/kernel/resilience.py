"""The only way out of the process: limiter → breaker → retry → deadline, counted and timed.

    answer = await call(guard, fetch, url, safe_to_retry=True)

A deadline that passes means *unknown*, not *failed*: the effect may have happened. So a call is
repeated only where its caller says that repeating is safe (a read, or a write with a client token).
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, TypeVarTuple

from aiolimiter import AsyncLimiter

from fairlead.kernel import db, telemetry
from fairlead.kernel.errors import FairleadError, Unavailable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class CallInTransaction(FairleadError):
    """A call out of the process was made while a database transaction was open; this is a bug."""

    code, status, retryable = "call.in_transaction", 500, False


class OutcomeUnknown(Unavailable):
    """The call may or may not have had its effect; look before repeating it."""

    code, status, retryable = "call.outcome_unknown", 503, False


class DeadlineExceeded(OutcomeUnknown):
    """No answer came in time: the call may or may not have had its effect."""

    code, status, retryable = "call.deadline_exceeded", 504, False


class BreakerOpen(Unavailable):
    """Calls to this target failed repeatedly and rest for a moment; nothing was sent."""

    code, status, retryable = "call.breaker_open", 503, True


class Throttled(Unavailable):
    """The other side asks for fewer calls; nothing was done. It counts as alive."""

    code, status, retryable = "call.throttled", 429, True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How often and how long to try."""

    deadline_s: float = 60.0  # of one attempt
    attempts: int = 4  # in all, where repeating is safe; one elsewhere
    wait_initial_s: float = 0.2
    wait_max_s: float = 5.0
    failures_to_open: int = 5  # final outcomes in a row
    rest_s: float = 15.0  # how long an open breaker refuses before it lets one probe through


class BreakerState(StrEnum):
    """closed: calls pass; open: calls are refused; half_open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def _announce(target: str, state: BreakerState) -> None:
    telemetry.count("fairlead_breaker_changes_total", labels={"target": target, "state": state.value})
    telemetry.log.warning("breaker.changed", target=target, state=state.value)


class Breaker:
    """Stops calls to a target that keeps failing; after a rest exactly one call tries it again.

    Counts final outcomes, after retries. An outcome of a call that was admitted before the last
    change of state says nothing about now and is ignored. Safe to share between threads.
    """

    def __init__(
        self,
        target: str,
        *,
        failures_to_open: int = 5,
        rest_s: float = 15.0,
        now: Callable[[], float] = time.monotonic,
        listener: Callable[[str, BreakerState], None] = _announce,
    ) -> None:
        self.target = target
        self.state = BreakerState.CLOSED
        self._failures_to_open = failures_to_open
        self._rest_s = rest_s
        self._now = now
        self._listener = listener
        self._failures = 0
        self._opened_at = 0.0
        self._generation = 0
        self._guard = threading.Lock()

    def admit(self) -> int:
        """A ticket for `settle`. Raises BreakerOpen where the call must not be made."""
        with self._guard:
            if self.state is BreakerState.CLOSED:
                return self._generation
            remaining_s = self._opened_at + self._rest_s - self._now()
            if self.state is BreakerState.OPEN and remaining_s <= 0:
                self._change(BreakerState.HALF_OPEN)
                return self._generation
        wait_s = round(max(remaining_s, 0.0), 3)
        raise BreakerOpen(
            f"{self.target} failed {self._failures_to_open} times in a row and rests.",
            remedy=f"Wait {wait_s:.0f} s, or see the log for what failed.",
            target=self.target,
            retry_after_s=wait_s,
        )

    def settle(self, ticket: int, succeeded: bool | None) -> None:
        """Report the outcome of an admitted call; None where it says nothing (a cancelled call)."""
        with self._guard:
            if ticket != self._generation:
                return
            if self.state is BreakerState.HALF_OPEN:
                # A probe that was cancelled leaves the rest expired, so the next call probes again.
                self._change(BreakerState.CLOSED if succeeded else BreakerState.OPEN)
                if succeeded is False:
                    self._opened_at = self._now()
            elif succeeded:
                self._failures = 0
            elif succeeded is False:
                self._failures += 1
                if self._failures >= self._failures_to_open:
                    self._change(BreakerState.OPEN)
                    self._opened_at = self._now()

    def _change(self, state: BreakerState) -> None:
        self.state = state
        self._failures = 0
        self._generation += 1
        self._listener(self.target, state)


class Guard:
    """What stands between us and one target: its rate, its breaker, its policy.

    `target` names it in metrics, logs and errors: a constant such as "aws.read", never an address.
    A guard with a rate belongs to one event loop.
    """

    def __init__(
        self,
        target: str,
        policy: Policy | None = None,
        *,
        calls_per_second: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.policy = policy or Policy()
        self.breaker = Breaker(
            target,
            failures_to_open=self.policy.failures_to_open,
            rest_s=self.policy.rest_s,
            now=now,
        )
        # A bucket below one call would never admit any: stretch the period instead.
        self._limiter = (
            AsyncLimiter(max(calls_per_second, 1.0), max(1.0, 1.0 / calls_per_second))
            if calls_per_second
            else None
        )

    async def wait_for_rate(self, cost: int) -> None:
        """Return once the rate allows `cost` more calls."""
        for _ in range(cost if self._limiter else 0):
            assert self._limiter is not None
            await self._limiter.acquire()


async def call(
    guard: Guard,
    function: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    safe_to_retry: bool = False,
    cost: int = 1,
) -> T:
    """What `function(*args)` answers, within `guard`'s rate, breaker and deadline.

    `safe_to_retry` is for reads and for writes that a client token makes safe; anything else is
    tried once. `cost` is how many calls' worth of rate it takes. Raises DeadlineExceeded,
    BreakerOpen, CallInTransaction, and whatever `function` raises.
    """
    refuse_in_transaction(guard.target)
    await guard.wait_for_rate(cost)
    ticket = guard.breaker.admit()
    started = time.perf_counter()
    outcome, succeeded = "cancelled", None
    try:
        answer = await _retried(guard, lambda: function(*args), guard.policy.attempts if safe_to_retry else 1)
        outcome, succeeded = "ok", True
    except FairleadError as error:
        # Any answer, even a refusal, shows a target that is alive; so does throttling.
        outcome, succeeded = error.code, not _is_failure(error)
        raise
    except Exception:
        outcome = "bug"
        raise
    else:
        return answer
    finally:
        guard.breaker.settle(ticket, succeeded)
        labels = {"target": guard.target}
        telemetry.count("fairlead_calls_total", labels={**labels, "outcome": outcome})
        telemetry.observe("fairlead_call_seconds", time.perf_counter() - started, labels)


def refuse_in_transaction(target: str) -> None:
    """Raise CallInTransaction where a database transaction is open around a call to `target`."""
    if db.in_transaction():
        raise CallInTransaction(
            f"{target} was called inside a database transaction.",
            remedy="Report this as a bug.",
            target=target,
        )


def _is_failure(error: FairleadError) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, Throttled)


def may_repeat(error: FairleadError) -> bool:
    """Whether another try can help, given that repeating is safe."""
    return error.retryable or isinstance(error, OutcomeUnknown)


async def _retried(guard: Guard, function: Callable[[], Awaitable[T]], attempts: int) -> T:
    attempt = 1
    while True:
        try:
            async with deadline(guard.policy.deadline_s, guard.target):
                return await function()
        except FairleadError as error:
            if attempt >= attempts or not may_repeat(error):
                raise
            wait_s = pause_s(guard.policy, attempt, random.random())  # noqa: S311 - jitter, no secret
            telemetry.count("fairlead_call_retries_total", labels={"target": guard.target})
            telemetry.log.info(
                "call.retried",
                target=guard.target,
                error=error.code,
                attempt=attempt,
                wait_s=round(wait_s, 3),
            )
        await asyncio.sleep(wait_s)
        attempt += 1


def pause_s(policy: Policy, attempt: int, chance: float) -> float:
    """Seconds to wait after failed attempt number `attempt`; `chance` in [0, 1) gives the jitter."""
    longest = min(policy.wait_max_s, policy.wait_initial_s * 2.0 ** (attempt - 1))
    return longest * (0.5 + chance / 2)


@asynccontextmanager
async def deadline(deadline_s: float, target: str) -> AsyncIterator[None]:
    """Give the block `deadline_s` seconds; raises DeadlineExceeded afterwards."""
    timer = asyncio.timeout(deadline_s)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise  # the block's own, about something else
        raise DeadlineExceeded(
            f"{target} did not answer within {deadline_s:g} s; whether it acted is unknown.",
            remedy="Look at what stands before repeating.",
            target=target,
            deadline_s=deadline_s,
        ) from error
