"""What becomes of Prowler's words, and what happens when its program misbehaves."""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fairlead.kernel import toolenv
from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.model import Finding, Severity, Status, Unread
from fairlead.support.screenings import guard
from fairlead.support.screenings.pace import Course
from fairlead.support.screenings.port import (
    Ending,
    Event,
    Finished,
    Found,
    Gap,
    Plan,
    Progress,
    Scope,
    ScreeningEngineFailed,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
)
from fairlead.support.screenings.program import PYTHON, Command, running
from fairlead.support.screenings.prowler import driver
from fairlead.support.screenings.prowler.engine import DRIVER, ProwlerScreening
from fairlead.support.screenings.prowler.reading import Reading
from tests.sandbox_service import toolenvs
from tests.services import missing
from tests.support import scripted_driver, small_aws
from tests.support.reached import WORKSHOP, local_account
from tests.support.screening_rigs import none_left, others_left_alone
from tests.support.scripted_driver import check, finding

WHEN = datetime(2026, 11, 20, 1, tzinfo=UTC)
CHECKS = dict(scripted_driver.CATALOGUE)
BEGAN = {"kind": "began", "account": small_aws.ACCOUNT, "checks": len(CHECKS)}

pytestmark = pytest.mark.usefixtures(others_left_alone.__name__)


# ── what its words mean ───────────────────────────────────────────────────────────────────────────


def reading() -> Reading:
    plan = Plan(
        engine="prowler",
        account="123412341234",
        regions=("ap-northeast-2",),
        regions_off=(),
        services=tuple(dict.fromkeys(CHECKS.values())),
        steps=len(CHECKS),
        checks=len(CHECKS),
        scope=Scope(),
    )
    return Reading(plan=plan, course=Course(Reading.parts(CHECKS), 0.0), checks=CHECKS, seen_at=WHEN)


def read(*lines: Any) -> tuple[Reading, list[Event]]:
    found = reading()
    events = [event for line in lines for event in found.feed(json.dumps(line).encode())]
    return found, events


def one(**members: Any) -> Finding:
    name = members.pop("check", "s3_one")
    about = members.pop("about", {})
    _, (event,) = read(BEGAN, check(name, finding(**members), **about))
    assert isinstance(event, Found)
    return event.findings[0]


@pytest.mark.parametrize(
    ("word", "status"),
    [("FAIL", Status.FAIL), ("PASS", Status.PASS), ("MANUAL", Status.MANUAL), ("MUTED", Status.PASS)],
)
def test_statuses_keep_their_meaning(word: str, status: Status) -> None:
    assert one(status=word).status is status


@pytest.mark.parametrize("word", ["critical", "high", "medium", "low", "informational"])
def test_severities_keep_their_meaning(word: str) -> None:
    assert one(about={"severity": word}).severity is Severity(word)


@pytest.mark.parametrize(
    ("frameworks", "compliance"),
    [
        ({"CIS-7.0": ["2.1.4", "2.1.4"]}, {"CIS-7.0": ("2.1.4",)}),
        ({"KISA-ISMS-P-2023": ["2.6.1", "2.10.2"]}, {"KISA-ISMS-P": ("2.6.1", "2.10.2")}),
        ({"HIPAA": ["164"], "CIS-3.0": ["1.4"]}, {"CIS-3.0": ("1.4",)}),
        ({}, {}),
    ],
    ids=["cis", "kisa", "others are left out", "none"],
)
def test_findings_are_mapped_to_frameworks(
    frameworks: dict[str, list[str]], compliance: dict[str, tuple[str, ...]]
) -> None:
    assert one(about={"compliance": frameworks}).compliance == compliance


RELIABILITY = "AWS-Well-Architected-Framework-Reliability-Pillar"
SECURITY = "AWS-Well-Architected-Framework-Security-Pillar"


@pytest.mark.parametrize(
    ("about", "pillars"),
    [
        ({}, ("security",)),
        ({"compliance": {SECURITY: ["SEC01"]}}, ("security",)),
        ({"compliance": {RELIABILITY: ["REL09"]}}, ("reliability",)),
        ({"compliance": {RELIABILITY: ["REL09"], SECURITY: ["SEC01"]}}, ("security", "reliability")),
        ({"categories": ["resilience"]}, ("reliability",)),
    ],
    ids=["nothing said", "security", "reliability", "both", "resilience"],
)
def test_findings_belong_to_pillars(about: dict[str, Any], pillars: tuple[str, ...]) -> None:
    assert one(about=about).pillars == pillars


def test_what_is_global_has_no_region_whatever_region_was_asked() -> None:
    assert one(check="iam_one", region="us-east-1").resource.region == "global"
    assert one(check="s3_one", region="us-east-1").resource.region == "us-east-1"


def test_texts_lose_their_markup_and_links_are_https_and_once() -> None:
    found = one()
    assert found.rationale == "It is bad for you."
    assert found.references == ("https://hub.prowler.com/x",)
    assert found.resource.tags == {"Owner": "kim"}
    assert found.seen_at == WHEN


@pytest.mark.parametrize(
    ("gap", "unread"),
    [
        (("s3", "AccessDenied", "GetBucketAcl"), ("s3", "GetBucketAcl was denied (AccessDenied).")),
        (("s3", "UnauthorizedOperation", "X"), ("s3", "X was denied (UnauthorizedOperation).")),
        (
            ("ec2", "ThrottlingException", "X"),
            ("ec2", "X was throttled until the attempts were used up (ThrottlingException)."),
        ),
        (("ssm", "InvalidAction", "ListDocuments"), ("ec2", "ListDocuments failed (InvalidAction).")),
        (("s3", "", ""), ("s3", "Prowler could not read something here (KeyError).")),
    ],
    ids=["denied", "not authorised", "throttled", "of a service that is not screened", "no call"],
)
def test_what_prowler_cannot_read_is_a_gap_of_the_service(
    gap: tuple[str, str, str], unread: tuple[str, str]
) -> None:
    service, code, call = gap
    line = {
        "kind": "gap",
        "service": service,
        "region": "r-1",
        "error": "KeyError",
        "code": code,
        "call": call,
    }
    found, events = read(BEGAN, line, line)
    assert events == [Gap(Unread(service=unread[0], region="r-1", reason=unread[1]))]
    assert found.course.failed == {unread[0]}


def test_checks_move_the_percentage_and_services_end_with_their_last_check() -> None:
    found, _ = read(BEGAN, check("ec2_one", last=False), check("ec2_one"), check("s3_one"))
    progress = found.course.progress(10.0)
    assert (progress.done, progress.total, progress.percent) == (2, 5, 40)
    assert progress.stage == "iam"  # in its order, and not behind yet
    assert [part.service for part in found.course.open.values()] == ["iam", "s3", "sqs"]


def test_a_check_that_was_skipped_or_lost_is_a_gap_and_not_a_pass() -> None:
    found, events = read(
        BEGAN, check("ec2_one"), {"kind": "skipped", "check": "iam_one"}, check("s3_one"), {"kind": "end"}
    )
    assert [(event.unread.service, event.unread.reason) for event in events if isinstance(event, Gap)] == [
        ("iam", "iam_one did not run."),
        ("s3", "s3_two did not run."),
        ("sqs", "sqs_one did not run."),
    ]
    assert found.ended
    assert found.course.progress(1.0).percent == 100


@pytest.mark.parametrize(
    "line",
    [
        b"\x1b[31mwarning\x1b[0m",
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b'{"kind": "nonsense"}',
        b'{"kind": "check"}',
        b'{"kind": "check", "id": "unknown_check", "findings": [], "last": true}',
        json.dumps(check("ec2_one", finding(), severity="dreadful")).encode(),
        json.dumps(check("ec2_one", {"status": "FAIL"})).encode(),
        b"\xff\xfe",
        None,
    ],
    ids=[
        "colours",
        "empty",
        "half",
        "deep",
        "null",
        "kind",
        "bare",
        "unknown check",
        "severity",
        "finding",
        "bytes",
        "long",
    ],
)
def test_a_line_that_is_not_understood_costs_the_service_that_is_being_read(line: bytes | None) -> None:
    found, _ = read(BEGAN)
    (event,) = found.feed(line)
    assert event == Gap(
        Unread(service="ec2", region="global", reason="A line of the engine was not understood.")
    )
    assert found.feed(line) == []  # once
    assert found.course.failed == {"ec2"}


# ── the driver ────────────────────────────────────────────────────────────────────────────────────


def refused(code: str, call: str) -> str:
    return f"ClientError[12]: An error occurred ({code}) when calling the {call} operation: SECRET-WORDS"


class Heard(driver.Lines):
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def say(self, kind: str, **members: Any) -> None:
        self.said.append({"kind": kind, **members})


@pytest.mark.parametrize(
    ("path", "message", "gap"),
    [
        (
            "services/s3/s3_service.py",
            f"eu-west-1 -- {refused('AccessDenied', 'GetBucketAcl')}",
            ("s3", "eu-west-1", "ClientError", "AccessDenied", "GetBucketAcl"),
        ),
        ("services/iam/iam_service.py", "KeyError[7]: 'x'", ("iam", "global", "KeyError", "", "")),
        ("lib/check/check.py", "s3_one -- TypeError[3]: no", ("s3", "global", "TypeError", "", "")),
        (
            "services/s3/s3_service.py",
            refused("NoSuchBucketPolicy", "GetBucketPolicy"),
            None,
        ),
        (
            "services/ec2/ec2_service.py",
            f"ap-northeast-2 -- {refused('WithheldByFairlead', 'X')}",
            None,
        ),
        ("services/ec2/ec2_service.py", "No Shodan API Key -- Please input one", None),
    ],
    ids=["denied", "bug", "check", "absent", "withheld", "no error"],
)
def test_errors_that_prowler_only_logs_are_told_by_code(
    path: str, message: str, gap: tuple[str, ...] | None
) -> None:
    heard = Heard()
    record = logging.LogRecord(
        "root", logging.ERROR, f"/x/prowler/providers/aws/{path}", 1, message, (), None
    )
    gaps = driver.Gaps(heard)
    gaps.emit(record)
    gaps.emit(record)
    told = [tuple(line[key] for key in ("service", "region", "error", "code", "call")) for line in heard.said]
    assert told == ([gap] if gap else [])


def test_of_findings_about_one_resource_the_worst_is_told_and_many_come_in_several_lines() -> None:
    about = SimpleNamespace(
        CheckTitle="t",
        Severity=SimpleNamespace(value="high"),
        ResourceType="AwsThing",
        Risk="",
        Description="d",
        Remediation=SimpleNamespace(Recommendation=SimpleNamespace(Text="f", Url="https://x")),
        AdditionalURLs=["https://y"],
        Categories=["a"],
    )

    def found(uid: str, status: str) -> SimpleNamespace:
        return SimpleNamespace(
            status=SimpleNamespace(value=status),
            status_extended=status,
            resource_uid=uid,
            resource_name=uid,
            region="r",
            resource_tags={},
            compliance={"CIS-7.0": ["1"]},
        )

    lines = list(driver.told("c", about, [found("a", "PASS"), found("a", "FAIL"), found("a", "MANUAL")]))
    assert [(line["last"], [one["status"] for one in line["findings"]]) for line in lines] == [
        (True, ["FAIL"])
    ]
    assert lines[0]["links"] == ["https://x", "https://y"]
    assert (lines[0]["risk"], lines[0]["compliance"]) == ("d", {"CIS-7.0": ["1"]})
    many = list(driver.told("c", about, [found(str(number), "FAIL") for number in range(450)]))
    assert [(len(line["findings"]), line["last"]) for line in many] == [
        (200, False),
        (200, False),
        (50, True),
    ]
    assert [line["findings"] for line in driver.told("c", about, [])] == [[]]


@pytest.mark.parametrize(
    "call",
    [
        "s3.PutBucketPolicy", "s3.GetObject", "s3.Getaway", "ec2.TerminateInstances", "ec2.GetPasswordData",
        "ec2.DescribeInstanceAttribute", "ec2.ListenToMe", "iam.CreateUser", "sts.AssumeRole", "kms.Decrypt",
        "iam.SetSecurityTokenServicePreferences", "cloudformation.CreateStack", "lambda.GetFunction",
        "wellarchitected.CreateWorkload", "lambda.Invoke", "ecs.ExecuteCommand", "logs.StartQuery",
        "secretsmanager.GetSecretValue", "ssm.GetParameter", "dynamodb.GetItem",
    ],
)  # fmt: skip
def test_the_guard_keeps_back_what_changes_or_tells_too_much(call: str) -> None:
    assert not guard.allowed(*call.split("."))


@pytest.mark.parametrize(
    "call",
    ["s3.ListBuckets", "s3.GetBucketPolicy", "ec2.DescribeInstances", "iam.GenerateCredentialReport",
     "cloudtrail.LookupEvents", "s3.HeadBucket", "sts.GetCallerIdentity"],
)  # fmt: skip
def test_the_guard_lets_reads_through(call: str) -> None:
    assert guard.allowed(*call.split("."))


def test_a_call_that_is_kept_back_never_leaves_and_looks_denied() -> None:
    with small_aws.small_aws() as aws:
        session = boto3.Session("k", "s", region_name="us-east-1")
        guard.guard(session)
        client = session.client("ec2", endpoint_url=aws.url)
        assert client.describe_regions()["Regions"]
        with pytest.raises(ClientError, match=guard.WITHHELD) as refused:
            client.delete_volume(VolumeId="vol-1")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert aws.asked["DeleteVolume"] == 0


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return toolenv.ensure("prowler", root=toolenvs())
    except ToolOffline as error:
        missing(f"Prowler ({error.message})")


async def test_the_catalogue_is_prowlers_without_checks_that_search_for_secrets(
    python: Path, tmp_path: Path
) -> None:
    command = Command(arguments=(str(python), *PYTHON, str(DRIVER)), environment={}, folder=tmp_path)
    async with running(command) as program:
        await program.ask({"do": "catalogue"})
        told: dict[str, Any] = {}
        async for line in program.lines():
            told = json.loads(line or b"")
    checks = dict(told["checks"])
    locked = (toolenv.locks_dir() / "prowler.in").read_text()
    assert f"prowler=={told['version']}" in locked
    assert len(checks) > 600
    assert {"s3", "ec2", "iam", "awslambda", "cloudtrail"} <= set(checks.values())
    assert checks["s3_bucket_public_access"] == "s3"
    for kept_back in (
        "awslambda_function_no_secrets_in_code",
        "ec2_instance_secrets_user_data",
        "cloudtrail_threat_detection_enumeration",
    ):
        assert kept_back not in checks


def test_every_module_of_prowler_for_aws_can_be_imported_without_what_was_left_out(python: Path) -> None:
    """All checks lie in modules of their own; a package that one of them needs must not be missing."""
    import subprocess

    looks = (
        "import ast, pathlib, importlib.util as u, sys\n"
        "root = pathlib.Path(u.find_spec('prowler').submodule_search_locations[0])\n"
        "names = set()\n"
        "folders = ('providers/aws/**', 'lib/check', 'lib/scan', 'config')\n"
        "for path in (path for folder in folders for path in root.glob(folder + '/*.py')):\n"
        "    for node in ast.parse(path.read_text()).body:\n"
        "        if isinstance(node, ast.Import): names |= {a.name.split('.')[0] for a in node.names}\n"
        "        if isinstance(node, ast.ImportFrom): names.add(node.module.split('.')[0])\n"
        "print(sorted(n for n in names if u.find_spec(n) is None))\n"
    )
    done = subprocess.run([python, "-I", "-c", looks], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stderr


# ── a program that misbehaves ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripted") / "python"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} {scripted_driver.__file__}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def aws() -> Iterator[small_aws.SmallAws]:
    with small_aws.small_aws() as running:
        yield running


class Stage:
    """Makes engines whose driver follows a script."""

    def __init__(self, interpreter: Path, url: str, home: Path) -> None:
        self._interpreter, self._url, self._home = interpreter, url, home

    def engine(self, *script: Any, **extra: str) -> ProwlerScreening:
        account = local_account(
            self._url, small_aws.ACCOUNT, self._home, attempts=1, SCRIPT=json.dumps(script), **extra
        )
        return ProwlerScreening(account, replace(WORKSHOP, interpreter=self._interpreter))

    async def run(self, *script: Any, deadline_s: float = 120, heartbeat_s: float = 5) -> list[Event]:
        engine = self.engine(*script)
        plan = await engine.plan(Scope(regions=("us-east-1",)))
        return [event async for event in engine.run(plan, deadline_s=deadline_s, heartbeat_s=heartbeat_s)]


@pytest.fixture
def stage(interpreter: Path, aws: small_aws.SmallAws, tmp_path: Path) -> Stage:
    return Stage(interpreter, aws.url, tmp_path)


def ending(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def gaps_of(events: list[Event]) -> set[str]:
    return {event.unread.service for event in events if isinstance(event, Gap)}


ALL = [check(name) for name in CHECKS]


async def test_nonsense_between_the_lines_is_survived_and_told(stage: Stage) -> None:
    events = await stage.run(
        "Traceback (most recent call last):", BEGAN, *ALL[:2], {"do": "long line"}, *ALL[2:], {"kind": "end"}
    )
    end = ending(events)
    assert end.ending is Ending.COMPLETE
    assert gaps_of(events) == {"ec2", "s3"}  # each was being read then
    assert set(end.services) == {"iam", "sqs"}


async def test_a_program_that_dies_leaves_what_it_had_found(stage: Stage) -> None:
    events = await stage.run(BEGAN, check("ec2_one", finding()), {"do": "die"})
    end = ending(events)
    assert end.ending is Ending.BROKEN
    assert end.services == ("ec2",)
    assert gaps_of(events) == {"iam", "s3", "sqs"}
    assert [len(event.findings) for event in events if isinstance(event, Found)] == [1]
    assert max(event.percent for event in events if isinstance(event, Progress)) == 20


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ([{"do": "die"}], "ended with -9"),
        ([{"kind": "failed", "error": "ModuleNotFoundError"}], "ModuleNotFoundError"),
        (["no JSON at all"], "ended with 0"),
    ],
    ids=["killed", "cannot begin", "nonsense only"],
)
async def test_a_program_that_finds_nothing_before_it_dies_is_an_error(
    stage: Stage, script: list[Any], says: str
) -> None:
    with pytest.raises(ScreeningEngineFailed, match=says) as failed:
        await stage.run(*script)
    assert failed.value.remedy


async def test_a_program_with_other_credentials_is_refused_before_it_reads(stage: Stage) -> None:
    with pytest.raises(ScreeningWrongAccount, match="999988887777"):
        await stage.run({"kind": "account", "account": "999988887777"}, {"do": "hang"})
    assert none_left()


async def test_a_silent_program_is_covered_by_heartbeats_and_ends_with_all_it_started(stage: Stage) -> None:
    script = (BEGAN, check("ec2_one", finding()), {"do": "children"}, {"do": "hang"})
    events = await stage.run(*script, deadline_s=8, heartbeat_s=0.1)
    end = ending(events)
    assert end.ending is Ending.TIMED_OUT
    assert (end.finished_at - end.started_at).total_seconds() < 30
    beats = [event for event in events if isinstance(event, Progress) and event.heartbeat]
    assert len(beats) >= 5
    assert {beat.stage for beat in beats[-3:]} == {"iam"}
    assert [len(event.findings) for event in events if isinstance(event, Found)] == [1]
    assert none_left()


@pytest.mark.parametrize(
    "catalogue",
    ["no JSON", {"kind": "nonsense"}, {"kind": "catalogue", "checks": 7}],
    ids=["no JSON", "another line", "another form"],
)
async def test_a_program_without_a_list_of_checks_is_an_error(stage: Stage, catalogue: Any) -> None:
    with pytest.raises(ScreeningEngineFailed, match="list of"):
        await stage.engine(CATALOGUE=json.dumps(catalogue)).plan(Scope())


async def test_services_are_known_by_their_usual_names(stage: Stage) -> None:
    listed = {
        "kind": "catalogue",
        "version": "1",
        "checks": [["awslambda_one", "awslambda"], ["s3_one", "s3"]],
    }
    engine = stage.engine(CATALOGUE=json.dumps(listed))
    assert (await engine.plan(Scope(services=("lambda",)))).services == ("awslambda",)
    with pytest.raises(ScreeningScopeInvalid) as refused:
        await engine.plan(Scope(services=("rds",)))
    assert "awslambda, s3" in str(refused.value.remedy)
