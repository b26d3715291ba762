"""The way out of the process: breaker, retries, deadlines, rate, and the refusal in a transaction."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.kernel.db import open_database
from fairlead.kernel.errors import FairleadError, NotFound, Unavailable
from fairlead.kernel.resilience import (
    Breaker,
    BreakerOpen,
    BreakerState,
    CallInTransaction,
    DeadlineExceeded,
    Guard,
    OutcomeUnknown,
    Policy,
    Throttled,
    call,
    pause_s,
)

EAGER = Policy(deadline_s=5, attempts=3, wait_initial_s=0, wait_max_s=0, failures_to_open=3, rest_s=10)


class Clock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Target:
    """Answers from a script, the last line for ever; counts the calls it gets."""

    def __init__(self, *script: Exception | str) -> None:
        self.script = list(script)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return line


def breaker(clock: Clock, heard: list[BreakerState] | None = None) -> Breaker:
    def listener(_: str, state: BreakerState) -> None:
        if heard is not None:
            heard.append(state)

    return Breaker("target", failures_to_open=3, rest_s=10, now=clock, listener=listener)


def fail(subject: Breaker, times: int) -> None:
    for _ in range(times):
        subject.settle(subject.admit(), False)


def test_failures_in_a_row_open_the_breaker_and_a_success_between_them_does_not() -> None:
    subject = breaker(Clock())
    fail(subject, 2)
    subject.settle(subject.admit(), True)
    fail(subject, 2)
    assert subject.state is BreakerState.CLOSED
    fail(subject, 1)
    with pytest.raises(BreakerOpen) as refused:
        subject.admit()
    assert refused.value.retryable
    assert refused.value.details["retry_after_s"] == 10


@pytest.mark.parametrize(
    ("outcome", "after"),
    [(True, BreakerState.CLOSED), (False, BreakerState.OPEN)],
    ids=["probe succeeds", "probe fails"],
)
def test_a_probe_decides_what_follows_the_rest(outcome: bool, after: BreakerState) -> None:
    clock, heard = Clock(), list[BreakerState]()
    subject = breaker(clock, heard)
    fail(subject, 3)
    clock.now += 10
    subject.settle(subject.admit(), outcome)
    assert subject.state is after
    assert heard == [BreakerState.OPEN, BreakerState.HALF_OPEN, after]
    if outcome is False:
        clock.now += 9
        with pytest.raises(BreakerOpen):
            subject.admit()


def test_a_cancelled_probe_lets_the_next_call_probe() -> None:
    clock = Clock()
    subject = breaker(clock)
    fail(subject, 3)
    clock.now += 10
    subject.settle(subject.admit(), None)
    subject.settle(subject.admit(), True)
    assert subject.state is BreakerState.CLOSED


def test_an_outcome_from_before_the_breaker_opened_says_nothing_about_now() -> None:
    clock = Clock()
    subject = breaker(clock)
    slow = subject.admit()
    fail(subject, 3)
    subject.settle(slow, True)
    states = [subject.state]
    clock.now += 10
    probe = subject.admit()
    subject.settle(slow, False)
    states.append(subject.state)
    subject.settle(probe, True)
    assert [*states, subject.state] == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


async def test_of_fifty_concurrent_calls_exactly_one_probes() -> None:
    clock = Clock()
    guard = Guard("target", EAGER, now=clock)
    fail(guard.breaker, 3)
    clock.now += 10
    release, reached = asyncio.Event(), 0

    async def slow() -> str:
        nonlocal reached
        reached += 1
        await release.wait()
        return "alive"

    calls = [asyncio.create_task(call(guard, slow)) for _ in range(50)]
    done: set[asyncio.Task[str]] = set()
    while len(done) < 49:
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
    release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert reached == 1
    assert sum(isinstance(one, BreakerOpen) for one in outcomes) == 49
    assert outcomes.count("alive") == 1
    assert await call(guard, slow) == "alive"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(["ok", "fail", "cancel", "wait", "stale"]), max_size=40))
def test_whatever_happens_a_breaker_never_admits_two_probes_nor_stays_shut_for_ever(story: list[str]) -> None:
    clock = Clock()
    subject = breaker(clock)
    stale = [subject.admit()]
    for event in story:
        if event == "wait":
            clock.now += 4
            continue
        if event == "stale":
            subject.settle(stale[0], False)
            continue
        try:
            ticket = subject.admit()
        except BreakerOpen:
            continue
        if subject.state is BreakerState.HALF_OPEN:
            with pytest.raises(BreakerOpen):
                subject.admit()
        subject.settle(ticket, {"ok": True, "fail": False, "cancel": None}[event])
    clock.now += 10
    subject.settle(subject.admit(), True)
    subject.settle(subject.admit(), True)
    assert subject.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("script", "safe", "calls", "raised"),
    [
        ([Unavailable(), "ok"], True, 2, None),
        ([Unavailable(), "ok"], False, 1, Unavailable),
        ([OutcomeUnknown(), "ok"], True, 2, None),
        ([OutcomeUnknown(), "ok"], False, 1, OutcomeUnknown),
        ([Throttled(), Throttled(), "ok"], True, 3, None),
        ([Unavailable()], True, 3, Unavailable),
        ([NotFound(), "ok"], True, 1, NotFound),
        ([ValueError("bug"), "ok"], True, 1, ValueError),
    ],
    ids=[
        "a failure is repeated where that is safe",
        "a failure is not repeated elsewhere",
        "an unknown outcome is repeated where that is safe",
        "an unknown outcome is not repeated elsewhere",
        "throttling is waited out",
        "attempts are bounded",
        "an answer is an answer",
        "a bug is not repeated",
    ],
)
async def test_what_is_repeated(
    script: list[Exception | str], safe: bool, calls: int, raised: type[Exception] | None
) -> None:
    target = Target(*script)
    guard = Guard("target", EAGER)
    if raised is None:
        assert await call(guard, target, safe_to_retry=safe) == "ok"
    else:
        with pytest.raises(raised):
            await call(guard, target, safe_to_retry=safe)
    assert target.calls == calls


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unavailable(), BreakerState.OPEN),
        (OutcomeUnknown(), BreakerState.OPEN),
        (Throttled(), BreakerState.CLOSED),
        (NotFound(), BreakerState.CLOSED),
        (ValueError("bug"), BreakerState.CLOSED),
    ],
    ids=["unavailable", "unknown outcome", "throttled", "refused", "bug"],
)
async def test_only_a_target_that_does_not_answer_opens_the_breaker(
    error: Exception, state: BreakerState
) -> None:
    guard = Guard("target", EAGER)
    for _ in range(3):
        with pytest.raises(type(error)):
            await call(guard, Target(error))
    assert guard.breaker.state is state


async def test_a_breaker_counts_final_outcomes_not_attempts() -> None:
    guard = Guard("target", EAGER)
    target = Target(Unavailable())
    for _ in range(2):
        with pytest.raises(Unavailable):
            await call(guard, target, safe_to_retry=True)
    assert target.calls == 6
    assert guard.breaker.state is BreakerState.CLOSED


async def test_a_deadline_says_that_the_outcome_is_unknown() -> None:
    guard = Guard("target", Policy(deadline_s=0.02))

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded) as late:
        await call(guard, never)
    assert not late.value.retryable
    assert "unknown" in late.value.message


async def test_a_timeout_of_the_callers_own_is_not_mistaken_for_the_deadline() -> None:
    async def impatient() -> None:
        raise TimeoutError("something else")

    with pytest.raises(TimeoutError, match="something else"):
        await call(Guard("target", EAGER), impatient)


async def test_a_cancelled_call_says_nothing_about_the_target() -> None:
    guard = Guard("target", EAGER)
    begun = asyncio.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    for _ in range(4):
        begun.clear()
        task = asyncio.create_task(call(guard, never))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert guard.breaker.state is BreakerState.CLOSED


async def test_a_call_inside_a_database_transaction_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'some.db'}")
    target = Target("ok")
    try:
        with database.transaction(), pytest.raises(CallInTransaction):
            await call(Guard("target", EAGER), target)
        assert target.calls == 0
        assert await call(Guard("target", EAGER), target) == "ok"
    finally:
        database.close()


async def test_the_rate_holds_and_a_batch_pays_for_each_of_its_calls() -> None:
    guard = Guard("target", EAGER, calls_per_second=50)
    target = Target("ok")
    started = time.monotonic()
    await call(guard, target, cost=60)  # 50 at once, 10 more at 50 per second
    assert time.monotonic() - started >= 0.19
    assert target.calls == 1


@given(
    attempt=st.integers(1, 60),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_doubles_has_jitter_and_is_bounded(attempt: int, chance: float) -> None:
    policy = Policy(wait_initial_s=0.2, wait_max_s=5)
    pause = pause_s(policy, attempt, chance)
    longest = min(5.0, 0.2 * 2 ** (attempt - 1))
    assert longest / 2 <= pause <= longest


@pytest.mark.parametrize("kind", [DeadlineExceeded, OutcomeUnknown], ids=lambda kind: kind.code)
def test_an_unknown_outcome_never_claims_to_be_retryable(kind: type[FairleadError]) -> None:
    assert issubclass(kind, Unavailable)
    assert kind.retryable is False
