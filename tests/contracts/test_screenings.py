"""What every screening engine promises, on a real account in the sandbox."""

from collections.abc import Iterator

import httpx2
import pytest
from pydantic import SecretStr

from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.collect import Access, AccountUnreachable
from fairlead.support.findings import document, failures, read_screening
from fairlead.support.model import Status
from fairlead.support.screenings import ENGINES
from fairlead.support.screenings.port import (
    Ending,
    Event,
    Finished,
    Found,
    Gap,
    Progress,
    Scope,
    ScreeningEngine,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
    gathered,
)
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.services import missing
from tests.support.screening_accounts import REGION, Seeder

ACCOUNT = "222233334444"
SERVICES = ("s3", "ec2", "sqs")


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


@pytest.fixture(params=ENGINES, ids=lambda kind: kind.name)
def engine(request: pytest.FixtureRequest, account: SandboxProcess) -> Iterator[ScreeningEngine]:
    yield request.param(
        Access(
            access_key_id=ACCOUNT,
            secret_access_key=SecretStr("sandbox"),
            endpoint_url=account.endpoint_url,
            region=REGION,
            attempts=2,
        )
    )
    httpx2.delete(f"{account.endpoint_url}/_fairlead/faults", timeout=10)


def slow(account: SandboxProcess, operation: str = "ListQueues") -> None:
    fault = {"kind": "latency", "operation": operation, "seconds": 6, "count": 0}
    httpx2.put(
        f"{account.endpoint_url}/_fairlead/faults", json={"faults": [fault]}, timeout=10
    ).raise_for_status()


async def whole(engine: ScreeningEngine, *, deadline_s: float = 60, heartbeat_s: float = 5) -> list[Event]:
    plan = await engine.plan(Scope(account=ACCOUNT, regions=(REGION,), services=SERVICES))
    return [event async for event in engine.run(plan, deadline_s=deadline_s, heartbeat_s=heartbeat_s)]


async def test_a_plan_says_what_will_be_read(engine: ScreeningEngine) -> None:
    plan = await engine.plan(Scope(account=ACCOUNT, regions=(REGION,), services=SERVICES))
    assert (plan.engine, plan.account, plan.regions) == (engine.name, ACCOUNT, (REGION,))
    assert set(plan.services) == set(SERVICES)
    assert plan.steps >= 1
    assert plan.checks >= len(SERVICES)


async def test_a_stream_begins_with_progress_and_ends_once(engine: ScreeningEngine) -> None:
    events = await whole(engine)
    assert isinstance(events[0], Progress)
    assert [type(event) for event in events].count(Finished) == 1
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.COMPLETE
    assert set(end.services) == set(SERVICES)
    assert end.started_at <= end.finished_at
    assert end.started_at.tzinfo is not None


async def test_percentages_never_run_backwards_and_reach_a_hundred(engine: ScreeningEngine) -> None:
    progress = [event for event in await whole(engine, heartbeat_s=0.01) if isinstance(event, Progress)]
    percent = [event.percent for event in progress]
    assert percent == sorted(percent)
    assert (percent[0], percent[-1]) == (0, 100)
    elapsed = [event.elapsed_s for event in progress]
    assert elapsed == sorted(elapsed)
    assert all(event.remaining_s is None or event.remaining_s >= 0 for event in progress)
    assert progress[0].remaining_s is None
    assert progress[-1].remaining_s == 0


async def test_findings_are_of_this_account_only_and_each_once(engine: ScreeningEngine) -> None:
    findings = [f for event in await whole(engine) if isinstance(event, Found) for f in event.findings]
    assert {f.account for f in findings} == {ACCOUNT}
    assert len({f.identity for f in findings}) == len(findings)
    assert {Status.FAIL, Status.PASS} <= {f.status for f in findings}
    assert all(f.title and f.rationale and f.remediation and f.pillars for f in findings)


async def test_a_public_bucket_an_open_group_and_an_open_queue_are_found(engine: ScreeningEngine) -> None:
    plan = await engine.plan(Scope(regions=(REGION,), services=SERVICES))
    screening = await gathered(plan, engine.run(plan, deadline_s=60))
    failed = {(f.resource.type, f.resource.name) for f in failures(screening).values()}
    for kind, name in (
        ("AWS::S3::Bucket", "acme-public"),
        ("AWS::EC2::SecurityGroup", "acme-open"),
        ("AWS::SQS::Queue", "acme-open"),
    ):
        assert (kind, name) in failed
    assert ("AWS::EC2::SecurityGroup", "acme-office") not in failed


async def test_a_screening_survives_being_written_and_read(engine: ScreeningEngine) -> None:
    import msgspec

    plan = await engine.plan(Scope(regions=(REGION,), services=("sqs",)))
    screening = await gathered(plan, engine.run(plan, deadline_s=60))
    assert read_screening(msgspec.json.encode(document(screening))) == screening


async def test_cancelling_ends_it_soon_and_tells_what_was_not_read(
    engine: ScreeningEngine, account: SandboxProcess
) -> None:
    slow(account)
    plan = await engine.plan(Scope(regions=(REGION,), services=SERVICES))
    events = []
    async for event in engine.run(plan, deadline_s=60, heartbeat_s=0.05):
        events.append(event)
        if isinstance(event, Found):
            await engine.cancel()
            await engine.cancel()
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.CANCELLED
    assert "sqs" not in end.services
    assert "sqs" in {event.unread.service for event in events if isinstance(event, Gap)}
    assert (end.finished_at - end.started_at).total_seconds() < 5
    assert max(event.percent for event in events if isinstance(event, Progress)) < 100


async def test_out_of_time_it_ends_with_what_it_has(engine: ScreeningEngine, account: SandboxProcess) -> None:
    slow(account)
    events = await whole(engine, deadline_s=3)
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.TIMED_OUT
    assert any(isinstance(event, Found) for event in events)
    assert "sqs" not in end.services


async def test_cancelled_before_it_began_it_reads_nothing(engine: ScreeningEngine) -> None:
    await engine.cancel()
    events = await whole(engine)
    assert isinstance(events[-1], Finished)
    assert events[-1].ending is Ending.CANCELLED
    assert not [event for event in events if isinstance(event, Found)]
    assert {event.unread.service for event in events if isinstance(event, Gap)} == set(SERVICES)


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


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)
async def test_an_account_that_does_not_answer_is_an_error(kind: type[ScreeningEngine]) -> None:
    engine = kind(
        Access(
            access_key_id=ACCOUNT,
            secret_access_key=SecretStr("x"),
            endpoint_url="http://127.0.0.1:9",
            attempts=1,
        )
    )
    with pytest.raises(AccountUnreachable):
        await engine.plan(Scope())
