"""What every screening engine promises, on a real account in the sandbox.

`builtin` and `prowler` are the real ones. service-screener is no package that could be had here: a program
that was measured against it stands in for its main.py, in its real environment and behind our real launcher.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec
import pytest

from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.collect import AccountUnreachable
from fairlead.support.findings import document, read_screening, service_of
from fairlead.support.model import Finding, Status
from fairlead.support.screenings.port import (
    Ending,
    Event,
    Finished,
    Found,
    Gap,
    Plan,
    Progress,
    Scope,
    ScreeningEngine,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
    gathered,
)
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.services import missing
from tests.support import small_aws
from tests.support.reached import SECRET
from tests.support.screening_accounts import REGION, Seeder
from tests.support.screening_rigs import Rig, children, none_left, others_left_alone, rigs

ACCOUNT = "222233334444"
SERVICES = ("s3", "ec2", "sqs")
SCOPE = Scope(account=ACCOUNT, regions=(REGION,), services=SERVICES)
AT_ONCE_S = 25.0  # of the two minutes that an answer takes; on a machine that has much else to do

pytestmark = pytest.mark.usefixtures(others_left_alone.__name__)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    try:
        with start_sandbox(tmp_path_factory.mktemp("screenings")) as running:
            seed = Seeder(running, ACCOUNT, "acme")
            seed.buckets()
            seed.network()
            seed.messages()
            yield running
    except ToolOffline as error:
        missing(f"the sandbox ({error.message})")


@pytest.fixture(params=sorted(rigs()), scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(kind: str, tmp_path: Path) -> Rig:
    return rigs()[kind](tmp_path)


@pytest.fixture
def engine(rig: Rig, account: SandboxProcess) -> Iterator[ScreeningEngine]:
    yield rig.engine(account.endpoint_url, ACCOUNT)
    httpx2.delete(f"{account.endpoint_url}/_fairlead/faults", timeout=60)


@dataclass(frozen=True)
class Whole:
    """One whole screening, looked at from many sides."""

    rig: Rig
    plan: Plan
    told: list[Event]
    processes: dict[int, bytes]  # every child that was seen: its command line
    first_s: float  # until the first finding, on this machine as busy as it is

    @property
    def findings(self) -> list[Finding]:
        return [f for event in self.told if isinstance(event, Found) for f in event.findings]

    async def again(self) -> AsyncIterator[Event]:
        for event in self.told:
            yield event


@pytest.fixture(scope="module")
def whole(kind: str, account: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    rig, seen = rigs()[kind](tmp_path_factory.mktemp("whole")), dict[int, bytes]()

    async def screened() -> tuple[Plan, list[Event], float]:
        engine = rig.engine(account.endpoint_url, ACCOUNT)
        plan, told, first_s = await engine.plan(SCOPE), list[Event](), 0.0
        clock = asyncio.get_running_loop().time
        began = clock()
        async for event in engine.run(plan, deadline_s=300, heartbeat_s=0.2):
            told.append(event)
            seen.update(children(account.pid))
            if isinstance(event, Found):
                first_s = first_s or clock() - began
        return plan, told, first_s

    try:
        plan, told, first_s = asyncio.run(screened())
    except ToolOffline as error:
        missing(f"{kind} ({error.message})")
    return Whole(rig, plan, told, seen, first_s)


def slow(account: SandboxProcess, operation: str = "ListQueues") -> None:
    fault = {"kind": "latency", "operation": operation, "seconds": 120, "count": 0}
    httpx2.put(
        f"{account.endpoint_url}/_fairlead/faults", json={"faults": [fault]}, timeout=60
    ).raise_for_status()


async def test_a_plan_says_what_will_be_read(engine: ScreeningEngine) -> None:
    plan = await engine.plan(SCOPE)
    assert (plan.engine, plan.account, plan.regions) == (engine.name, ACCOUNT, (REGION,))
    assert set(plan.services) == set(SERVICES)
    assert plan.steps >= 1
    assert plan.checks >= len(SERVICES)


def test_a_stream_begins_with_progress_and_ends_once(whole: Whole) -> None:
    assert isinstance(whole.told[0], Progress)
    assert [type(event) for event in whole.told].count(Finished) == 1
    end = whole.told[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.COMPLETE
    assert end.started_at <= end.finished_at
    assert end.started_at.tzinfo is not None


def test_every_service_was_read_to_its_end_or_has_a_gap(whole: Whole) -> None:
    end = whole.told[-1]
    assert isinstance(end, Finished)
    gaps = {event.unread.service for event in whole.told if isinstance(event, Gap)}
    assert set(end.services) | gaps == set(SERVICES)
    assert not set(end.services) & gaps
    assert "sqs" in end.services
    if whole.rig.name != "prowler":  # which asks for much that this sandbox lacks
        assert not gaps


def test_percentages_never_run_backwards_and_reach_a_hundred(whole: Whole) -> None:
    progress = [event for event in whole.told if isinstance(event, Progress)]
    percent = [event.percent for event in progress]
    assert percent == sorted(percent)
    assert (percent[0], percent[-1]) == (0, 100)
    elapsed = [event.elapsed_s for event in progress]
    assert elapsed == sorted(elapsed)
    assert all(event.remaining_s is None or event.remaining_s >= 0 for event in progress)
    assert progress[0].remaining_s is None
    assert progress[-1].remaining_s == 0
    assert progress[-1].resources >= len(SERVICES)


def test_findings_are_of_this_account_only_and_each_once(whole: Whole) -> None:
    assert {f.account for f in whole.findings} == {ACCOUNT}
    assert len({f.identity for f in whole.findings}) == len(whole.findings)
    assert {Status.FAIL, Status.PASS} <= {f.status for f in whole.findings}
    assert all(f.title and f.rationale and f.remediation and f.pillars for f in whole.findings)
    assert {f.resource.region for f in whole.findings} <= {REGION, "global"}
    assert {service_of(f) for f in whole.findings} == set(SERVICES)


def test_a_public_bucket_an_open_group_and_an_open_queue_are_found(whole: Whole) -> None:
    failed = [f for f in whole.findings if f.status is Status.FAIL]
    for kind, name in whole.rig.failed:
        assert [f for f in failed if f.resource.type == kind and name in f"{f.resource.name} {f.detail}"], (
            name
        )


async def test_a_screening_survives_being_written_and_read(whole: Whole) -> None:
    screening = await gathered(whole.plan, whole.again())
    assert screening.complete
    assert screening.engine == whole.rig.name
    assert read_screening(msgspec.json.encode(document(screening))) == screening


def test_no_secret_stands_in_what_others_can_read(whole: Whole) -> None:
    assert bool(whole.processes) == whole.rig.is_program
    for words in whole.processes.values():
        assert SECRET.encode() not in words
        assert ACCOUNT.encode() not in words  # the access key's id
    assert SECRET not in repr(whole.told)
    for path in whole.rig.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_with_the_end_no_process_and_no_private_file_is_left(whole: Whole, account: SandboxProcess) -> None:
    assert none_left(account.pid)
    assert not list(whole.rig.folder.glob("fairlead-*"))


async def test_cancelling_ends_it_soon_and_tells_what_was_not_read(
    engine: ScreeningEngine, account: SandboxProcess, rig: Rig
) -> None:
    slow(account)
    plan = await engine.plan(SCOPE)
    told, asked_at = [], 0.0
    async for event in engine.run(plan, deadline_s=300, heartbeat_s=0.05):
        told.append(event)
        if isinstance(event, Found) and not asked_at:
            asked_at = asyncio.get_running_loop().time()
            assert bool(children(account.pid)) == rig.is_program
            await engine.cancel()
            await engine.cancel()
    assert asyncio.get_running_loop().time() - asked_at < AT_ONCE_S
    end = told[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.CANCELLED
    assert "sqs" not in end.services
    assert "sqs" in {event.unread.service for event in told if isinstance(event, Gap)}
    assert max(event.percent for event in told if isinstance(event, Progress)) < 100
    assert none_left(account.pid)
    await engine.cancel()


async def test_out_of_time_it_ends_with_what_it_has(
    engine: ScreeningEngine, account: SandboxProcess, whole: Whole
) -> None:
    slow(account)
    plan, deadline_s = await engine.plan(SCOPE), 3 * whole.first_s + 2
    began = asyncio.get_running_loop().time()
    told = [event async for event in engine.run(plan, deadline_s=deadline_s)]
    assert asyncio.get_running_loop().time() - began < deadline_s + AT_ONCE_S
    end = told[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.TIMED_OUT
    assert any(isinstance(event, Found) for event in told)
    assert "sqs" not in end.services
    assert none_left(account.pid)


async def test_cancelled_before_it_began_it_reads_nothing(
    engine: ScreeningEngine, account: SandboxProcess
) -> None:
    await engine.cancel()
    plan = await engine.plan(SCOPE)
    told = [event async for event in engine.run(plan, deadline_s=300)]
    assert isinstance(told[0], Progress)
    assert isinstance(told[-1], Finished)
    assert told[-1].ending is Ending.CANCELLED
    assert not [event for event in told if isinstance(event, Found)]
    assert {event.unread.service for event in told if isinstance(event, Gap)} == set(SERVICES)
    assert none_left(account.pid)


async def test_left_in_the_middle_it_leaves_nothing_behind(
    engine: ScreeningEngine, account: SandboxProcess, rig: Rig
) -> None:
    plan = await engine.plan(SCOPE)
    stream = engine.run(plan, deadline_s=300, heartbeat_s=0.02)
    async with aclosing(stream):  # type: ignore[type-var]
        async for event in stream:
            if isinstance(event, Progress) and event.heartbeat:
                break
    assert none_left(account.pid)
    assert not list(rig.folder.glob("fairlead-*"))


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (Scope(account="999988887777"), ScreeningWrongAccount),
        (Scope(services=("nonsense",)), ScreeningScopeInvalid),
        (Scope(regions=("nowhere-1",)), ScreeningScopeInvalid),
    ],
    ids=["another account", "unknown service", "unknown region"],
)
async def test_a_scope_that_cannot_be_is_refused(
    engine: ScreeningEngine, scope: Scope, error: type[FairleadError]
) -> None:
    with pytest.raises(error):
        await engine.plan(scope)


async def test_regions_that_are_off_are_told_as_gaps(rig: Rig) -> None:
    with small_aws.small_aws() as aws:
        engine = rig.engine(aws.url, small_aws.ACCOUNT, attempts=1)
        plan = await engine.plan(Scope(services=("ec2",)))
        assert (plan.regions, plan.regions_off) == (("ap-northeast-2", "us-east-1"), ("af-south-1",))
        await engine.cancel()
        told = [event async for event in engine.run(plan, deadline_s=300)]
    gaps = {(event.unread.service, event.unread.region) for event in told if isinstance(event, Gap)}
    assert ("all", "af-south-1") in gaps


async def test_an_account_that_does_not_answer_is_an_error(rig: Rig) -> None:
    with pytest.raises(AccountUnreachable):
        await rig.engine("http://127.0.0.1:9", ACCOUNT, attempts=1).plan(Scope())
