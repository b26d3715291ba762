"""The builtin screening of real accounts in the sandbox, and of one too large or too odd for it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from typer import Typer
from typer.testing import CliRunner

from fairlead.cli import support_screen
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.collect import Access, AccountUnreachable
from fairlead.support.findings import difference, document, read_screening
from fairlead.support.model import Screening, Status
from fairlead.support.screenings.builtin.engine import BuiltinScreening
from fairlead.support.screenings.port import (
    Ending,
    Event,
    Finished,
    Found,
    Gap,
    Progress,
    Scope,
    ScreeningNothingToRead,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
    gathered,
)
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.services import missing
from tests.support import small_aws
from tests.support.reached import WORKSHOP, LocalAccount, local_account
from tests.support.screening_accounts import REGION, Seeder, statement

ACME, GLOBEX = "111122223333", "444455556666"
# (check, name of the resource without `acme-`) of every failure that the seeded account has, and no other.
EXPECTED = {
    ("cloudtrail.all_regions", ACME),
    ("cloudwatch.alarm_rings", "rings"),
    ("dynamodb.table_customer_key", "table-bad"),
    ("dynamodb.table_customer_key", "table-good"),
    ("dynamodb.table_deletion_protection", "table-bad"),
    ("dynamodb.table_recovery", "table-bad"),
    ("ebs.volume_encryption", "plain"),
    ("ebs.volume_idle", "plain"),
    ("ebs.volume_idle", "sealed"),
    ("ec2.default_security_group", "default"),
    ("ec2.security_group_ssh", "open"),
    ("ecr.repository_mutable_tags", "images-bad"),
    ("ecr.repository_scan", "images-bad"),
    ("iam.password_length", ACME),
    ("iam.password_reuse", ACME),
    ("iam.role_trusts_everyone", "anyone"),
    ("iam.user_mfa", "no-mfa"),
    ("lambda.function_dead_letters", "function-bad"),
    ("lambda.function_dead_letters", "function-good"),
    ("lambda.function_public_policy", "function-bad"),
    ("lambda.function_runtime", "function-bad"),
    ("lambda.function_secret_variables", "function-bad"),
    ("logs.group_customer_key", "logs-bad"),
    ("logs.group_customer_key", "logs-good"),
    ("logs.group_retention", "logs-bad"),
    ("rds.instance_backups", "db-bad"),
    ("rds.instance_deletion_protection", "db-bad"),
    ("rds.instance_encryption", "db-bad"),
    ("rds.instance_multi_az", "db-bad"),
    ("rds.instance_public", "db-bad"),
    ("s3.bucket_lifecycle", "clean"),
    ("s3.bucket_lifecycle", "public"),
    ("s3.bucket_logging", "clean"),
    ("s3.bucket_logging", "public"),
    ("s3.bucket_public_access_block", "public"),
    ("s3.bucket_public_acl", "public"),
    ("s3.bucket_public_policy", "public"),
    ("s3.bucket_tls", "public"),
    ("s3.bucket_versioning", "public"),
    ("secretsmanager.secret_rotation", "secret"),
    ("sns.topic_encryption", "open"),
    ("sns.topic_encryption", "private"),
    ("sns.topic_public_policy", "open"),
    ("sqs.queue_dead_letters", "open"),
    ("sqs.queue_dead_letters", "private"),
    ("sqs.queue_encryption", "open"),
    ("sqs.queue_public_policy", "open"),
}
# Ids that AWS makes up: how many failures there are of each.
EXPECTED_BY_COUNT = {
    "efs.file_system_backups": 2,
    "efs.file_system_encryption": 1,
    "kms.key_rotation": 1,
    "vpc.flow_logs": 2,
}
# What this sandbox does not offer; a screening has to say so.
NOT_OFFERED = {
    "ebs.default_encryption",
    "iam.certificate_expired",
    "iam.support_role",
    "s3.account_public_access_block",
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    try:
        with start_sandbox(tmp_path_factory.mktemp("screening")) as running:
            Seeder(running, ACME, "acme").all()
            Seeder(running, GLOBEX, "globex").all()
            yield running
    except ToolOffline as error:
        missing(f"the sandbox ({error.message})")


def engine(url: str, account: str = ACME, attempts: int = 2) -> BuiltinScreening:
    return BuiltinScreening(local_account(url, account, attempts=attempts), WORKSHOP)


async def screened(
    url: str, account: str = ACME, *, services: tuple[str, ...] = (), attempts: int = 2
) -> Screening:
    one = engine(url, account, attempts)
    plan = await one.plan(Scope(account=account, regions=(REGION,), services=services))
    return await gathered(plan, one.run(plan, deadline_s=300))


def set_faults(sandbox: SandboxProcess, *faults: dict[str, object]) -> None:
    httpx2.put(
        f"{sandbox.endpoint_url}/_fairlead/faults", json={"faults": list(faults)}, timeout=60
    ).raise_for_status()


@pytest.fixture
def faulty(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    set_faults(sandbox)


async def test_a_seeded_account_fails_exactly_where_it_was_seeded_to(sandbox: SandboxProcess) -> None:
    found = await screened(sandbox.endpoint_url)
    failed = [finding for finding in found.findings if finding.status is Status.FAIL]
    named = {
        (f.check, f.resource.name.removeprefix("acme-")) for f in failed if f.check not in EXPECTED_BY_COUNT
    }
    assert named == EXPECTED
    counted = [f.check for f in failed]
    assert {check: counted.count(check) for check in EXPECTED_BY_COUNT} == EXPECTED_BY_COUNT
    assert {f.check for f in found.findings if f.status is Status.UNREAD} == NOT_OFFERED
    assert all(f.detail for f in found.findings if f.status is not Status.PASS)
    assert found.complete
    assert [(gap.service, gap.region) for gap in found.unread] == [("iam", "global")]
    assert "iam" not in found.services
    assert len(found.services) == 19


async def test_two_customers_side_by_side_see_nothing_of_each_other_and_nobody_sees_a_secret(
    sandbox: SandboxProcess,
) -> None:
    acme, globex = await asyncio.gather(
        screened(sandbox.endpoint_url, ACME), screened(sandbox.endpoint_url, GLOBEX)
    )
    for own, other, foreign in ((acme, "globex", GLOBEX), (globex, "acme", ACME)):
        text = json.dumps(document(own), ensure_ascii=False)
        assert other not in text
        assert foreign not in text
        assert "VALUE-hunter2" not in text
        assert len(own.findings) > 100
        assert read_screening(text.encode()) == own


async def test_what_was_repaired_is_fixed_and_what_was_broken_is_new(sandbox: SandboxProcess) -> None:
    services = ("cloudwatch",)
    seed = Seeder(sandbox, "777788889999", "initech")
    seed.alarms()
    before = await screened(sandbox.endpoint_url, "777788889999", services=services)
    for what, state in (("rings", "OK"), ("quiet", "ALARM")):
        seed("cloudwatch").set_alarm_state(AlarmName=f"initech-{what}", StateValue=state, StateReason="t")
    after = await screened(sandbox.endpoint_url, "777788889999", services=services)
    change = difference(before, after, on=after.finished_at.date())
    assert [f.resource.name for f in change.fixed] == ["initech-rings"]
    assert [f.resource.name for f in change.new] == ["initech-quiet"]
    assert change.unknown == ()


async def test_throttling_is_waited_out(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "throttle", "operation": "DescribeVolumes", "count": 1})
    found = await screened(faulty.endpoint_url, services=("ebs",), attempts=3)
    assert len([f for f in found.findings if f.check == "ebs.volume_encryption"]) == 2
    assert found.unread == ()


async def test_throttling_without_end_is_not_assessed_and_never_fine(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "throttle", "operation": "DescribeVolumes", "count": 0})
    found = await screened(faulty.endpoint_url, services=("ebs", "sqs"))
    of_volumes = [f for f in found.findings if f.check.startswith("ebs.volume")]
    assert {(f.check, f.status) for f in of_volumes} == {
        (f"ebs.volume_{what}", Status.UNREAD) for what in ("encryption", "idle", "type")
    }
    assert all("throttled" in f.detail for f in of_volumes)
    assert [(gap.service, gap.region) for gap in found.unread] == [("ebs", REGION)]
    assert found.services == ("sqs",)
    assert found.complete


async def test_what_may_not_be_read_is_not_assessed_and_the_rest_is(tmp_path: Path) -> None:
    with start_sandbox(tmp_path, enforce_iam=True) as strict:
        seed = Seeder(strict, ACME, "acme")
        seed.volumes()
        seed.messages()
        iam = seed("iam")
        iam.create_user(UserName="reader")
        allowed = [
            "ec2:DescribeRegions",
            "ec2:DescribeVolumes",
            "sqs:ListQueues",
            "sns:ListTopics",
            "sns:Get*",
            "sns:List*",
        ]
        iam.put_user_policy(
            UserName="reader",
            PolicyName="some",
            PolicyDocument=statement(Effect="Allow", Action=allowed, Resource="*"),
        )
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        access = Access(
            access_key_id=key["AccessKeyId"],
            secret_access_key=SecretStr(key["SecretAccessKey"]),
            endpoint_url=strict.endpoint_url,
            region=REGION,
            attempts=2,
        )
        one = BuiltinScreening(LocalAccount(access, tmp_path), WORKSHOP)
        plan = await one.plan(Scope(regions=(REGION,), services=("ebs", "sqs", "sns", "rds", "iam")))
        found = await gathered(plan, one.run(plan, deadline_s=300))
    status = {(f.check, f.resource.name): f.status for f in found.findings}
    assert status["ebs.volume_encryption", "acme-plain"] is Status.FAIL
    assert status["ebs.volume_encryption", "acme-sealed"] is Status.PASS
    assert status["sns.topic_public_policy", "acme-open"] is Status.FAIL
    assert (
        status["sqs.queue_public_policy", "acme-open"] is Status.UNREAD
    )  # listed, but its attributes are denied
    assert status["rds.instance_public", "*"] is Status.UNREAD
    assert status["iam.user_mfa", "*"] is Status.UNREAD
    assert not [
        f for f in found.findings if f.check.startswith(("rds", "iam")) and f.status is not Status.UNREAD
    ]
    reasons = {f.detail for f in found.findings if f.check == "rds.instance_public"}
    assert reasons == {"rds:DescribeDBInstances was denied (AccessDenied)."}
    assert {"rds", "iam"} <= {gap.service for gap in found.unread}


async def events_of(
    one: BuiltinScreening, *, deadline_s: float = 300, heartbeat_s: float = 5, services: tuple[str, ...]
) -> list[Event]:
    plan = await one.plan(Scope(regions=(REGION,), services=services))
    return [event async for event in one.run(plan, deadline_s=deadline_s, heartbeat_s=heartbeat_s)]


async def test_a_silent_gap_is_filled_with_signs_of_life(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeVolumes", "seconds": 2})
    events = await events_of(engine(faulty.endpoint_url), heartbeat_s=0.1, services=("ebs",))
    beats = [event for event in events if isinstance(event, Progress) and event.heartbeat]
    assert len(beats) >= 3
    assert beats[-1].elapsed_s > beats[0].elapsed_s
    reading = [beat for beat in beats if beat.stage]  # nothing is read while the account is opened and closed
    assert {(beat.percent, beat.stage) for beat in reading} == {(0, f"ebs {REGION}")}


async def test_out_of_time_keeps_what_was_found_and_says_what_is_missing(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeVolumes", "seconds": 20, "count": 0})
    events = await events_of(engine(faulty.endpoint_url), deadline_s=8, services=("ebs", "sqs"))
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.ending is Ending.TIMED_OUT
    assert end.services == ("sqs",)
    assert end.finished_at - end.started_at < timedelta(seconds=18)
    checks = {f.check for event in events if isinstance(event, Found) for f in event.findings}
    assert "sqs.queue_public_policy" in checks
    gaps = [event.unread for event in events if isinstance(event, Gap)]
    assert [(gap.service, gap.reason) for gap in gaps] == [("ebs", "Not read to its end: out of time.")]
    assert max(event.percent for event in events if isinstance(event, Progress)) == 50


async def test_regions_that_are_off_are_told_and_not_read() -> None:
    with small_aws.small_aws() as aws:
        one = engine(aws.url, small_aws.ACCOUNT, attempts=1)
        plan = await one.plan(Scope(services=("ebs",)))
        assert plan.regions == ("ap-northeast-2", "us-east-1")
        assert plan.regions_off == ("af-south-1",)
        found = await gathered(plan, one.run(plan, deadline_s=120))
        assert ("all", "af-south-1", "The region is switched off in this account.") in {
            (gap.service, gap.region, gap.reason) for gap in found.unread
        }
        assert "SECRET-WORDS" not in json.dumps(document(found))  # words of AWS's errors stay outside
        with pytest.raises(ScreeningNothingToRead):
            await engine(aws.url, small_aws.ACCOUNT).plan(Scope(regions=("af-south-1",)))


async def test_ten_thousand_resources_are_read_page_by_page_no_faster_than_they_are_taken() -> None:
    with small_aws.small_aws(volumes=10_000) as aws:
        one = engine(aws.url, small_aws.ACCOUNT, attempts=1)
        plan = await one.plan(Scope(regions=("us-east-1",), services=("ebs",)))
        stream = one.run(plan, deadline_s=300, heartbeat_s=0.05)
        taken: list[Event] = [await anext(stream), await anext(stream)]
        asked, deadline = 0, asyncio.get_running_loop().time() + 90
        while not asked or asked != aws.asked["DescribeVolumes"]:  # until the reader waits for us
            asked = aws.asked["DescribeVolumes"]
            await asyncio.sleep(0.2)
            assert asyncio.get_running_loop().time() < deadline
        assert asked <= 7
        taken += [event async for event in stream]
        assert aws.asked["DescribeVolumes"] == 20
    findings = [f for event in taken if isinstance(event, Found) for f in event.findings]
    assert len({f.resource.uid for f in findings if f.check == "ebs.volume_type"}) == 10_000
    assert len([f for f in findings if f.check == "ebs.volume_encryption" and f.status is Status.FAIL]) == 10
    told = [event.resources for event in taken if isinstance(event, Progress)]
    assert told == sorted(told)
    assert len(set(told)) > 3  # within the one part that there is
    assert all(len(event.findings) <= 203 for event in taken if isinstance(event, Found))


async def test_what_was_read_of_a_long_list_is_kept_when_time_runs_out() -> None:
    with small_aws.small_aws(volumes=900, stall_at=500) as aws:
        one = engine(aws.url, small_aws.ACCOUNT, attempts=1)
        plan = await one.plan(Scope(regions=("us-east-1",), services=("ebs",)))
        found = await gathered(plan, one.run(plan, deadline_s=8))
    assert not found.complete
    assert len([f for f in found.findings if f.check == "ebs.volume_encryption"]) == 500
    assert [(gap.service, gap.region) for gap in found.unread] == [("ebs", "us-east-1")]
    assert found.services == ()


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (Scope(account=GLOBEX), ScreeningWrongAccount),
        (Scope(services=("s3", "s4")), ScreeningScopeInvalid),
        (Scope(regions=("mars-north-1",)), ScreeningScopeInvalid),
    ],
    ids=["another account", "unknown service", "unknown region"],
)
async def test_a_scope_that_cannot_be_is_refused_before_anything_is_read(
    sandbox: SandboxProcess, scope: Scope, error: type[FairleadError]
) -> None:
    with pytest.raises(error) as refused:
        await engine(sandbox.endpoint_url).plan(scope)
    assert refused.value.remedy


async def test_nobody_there_is_an_error_and_not_an_empty_screening() -> None:
    with pytest.raises(AccountUnreachable) as refused:
        await engine("http://127.0.0.1:9", attempts=1).plan(Scope())
    assert "sts:GetCallerIdentity" in refused.value.message


async def test_a_profile_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccountUnreachable, match="nobody-has-this"):
        await BuiltinScreening(LocalAccount(Access(profile="nobody-has-this"), tmp_path), WORKSHOP).plan(
            Scope()
        )
    with pytest.raises(AccountUnreachable, match="no AWS credentials"):
        await BuiltinScreening(LocalAccount(Access(), tmp_path), WORKSHOP).plan(Scope())


async def test_a_reader_who_leaves_leaves_no_work_behind(sandbox: SandboxProcess) -> None:
    one = engine(sandbox.endpoint_url)
    plan = await one.plan(Scope(regions=(REGION,)))
    before = asyncio.all_tasks()
    stream = one.run(plan, deadline_s=300)
    await anext(stream)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == before


# ── the command ───────────────────────────────────────────────────────────────────────────────────


def environment(folder: Path) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACME,
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_DEFAULT_REGION": REGION,
    }


def command(sandbox_url: str, folder: Path, *arguments: object) -> tuple[int, str, str]:
    app = Typer()
    support_screen.register(app)
    result = CliRunner(env=environment(folder)).invoke(
        app, ["--endpoint-url", sandbox_url, "--region", REGION, *map(str, arguments)]
    )
    if isinstance(result.exception, FairleadError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_findings_that_the_next_one_compares_with(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    code, text, progress = command(sandbox.endpoint_url, tmp_path, "--service", "ec2", "--json")
    assert code == 0
    assert json.loads(text)["change"] == {"new": 2, "unchanged": 0, "fixed": 0, "unknown": 0} | {
        "new": sum(f["status"] == "fail" for f in json.loads(text)["findings"])
    }
    assert "100 %" in progress
    previous = tmp_path / "before.json"
    previous.write_text(text, "utf-8")
    out = tmp_path / "report.html"
    code, text, _ = command(
        sandbox.endpoint_url,
        tmp_path,
        "--service",
        "ec2",
        "--previous",
        previous,
        "--out",
        out,
        "--language",
        "en",
    )
    assert code == 0
    assert "failed" in text
    page = out.read_text("utf-8")
    assert "Security group opens SSH to the internet" in page
    assert "<script" not in page


def test_the_command_writes_findings_and_tables_by_the_ending_of_the_file(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    for ending in ("json", "csv", "html"):
        code, _, _ = command(
            sandbox.endpoint_url, tmp_path, "--service", "sqs", "--out", tmp_path / f"r.{ending}"
        )
        assert code == 0
    assert read_screening((tmp_path / "r.json").read_bytes()).account == ACME
    assert "sqs.queue_public_policy" in (tmp_path / "r.csv").read_text("utf-8")
    assert "대기열" in (tmp_path / "r.html").read_text("utf-8")


def test_the_command_out_of_time_writes_what_it_has_and_fails(faulty: SandboxProcess, tmp_path: Path) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeVolumes", "seconds": 2, "count": 0})
    code, text, _ = command(faulty.endpoint_url, tmp_path, "--service", "ebs", "--timeout", "1", "--json")
    assert code == 1
    assert json.loads(text)["complete"] is False


COMMAND = "import typer; from fairlead.cli import support_screen as s; a = typer.Typer(); s.register(a); a()"


def test_ctrl_c_ends_the_command_with_what_it_has(faulty: SandboxProcess, tmp_path: Path) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeVolumes", "seconds": 8, "count": 0})
    arguments = [
        "--endpoint-url",
        faulty.endpoint_url,
        "--region",
        REGION,
        "--service",
        "sqs",
        "--service",
        "ebs",
    ]
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--json"],
        env={**os.environ, **environment(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        while "50 %" not in (line := running.stderr.readline()):  # sqs is read, ebs is not
            assert line
        running.send_signal(signal.SIGINT)
        text, _ = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130
    found = json.loads(text)
    assert found["complete"] is False
    assert found["services"] == ["sqs"]
    assert {f["check"].split(".")[0] for f in found["findings"]} == {"sqs"}


def test_a_report_that_cannot_be_written_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.html").mkdir()
    for out in (tmp_path / "file" / "report.html", tmp_path / "folder.html"):
        with pytest.raises(FairleadError) as refused:
            command("http://127.0.0.1:9", tmp_path, "--out", out)
        assert refused.value.code == "cli.file_unwritable"
    assert (tmp_path / "file").read_text() == "x"


def test_the_command_refuses_another_account(sandbox: SandboxProcess, tmp_path: Path) -> None:
    with pytest.raises(ScreeningWrongAccount):
        command(sandbox.endpoint_url, tmp_path, "--account", GLOBEX)
