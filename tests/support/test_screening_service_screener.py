"""service-screener behind our launcher: safe whatever it tries, and read whatever it prints."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest

from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.model import Severity, Status
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
    ScreeningWrongAccount,
)
from fairlead.support.screenings.program import PYTHON
from fairlead.support.screenings.service_screener.copy import ServiceScreenerMissing, private_copy
from fairlead.support.screenings.service_screener.engine import HERE, Harvest, ServiceScreenerScreening
from fairlead.support.screenings.service_screener.results import Reading, Rule, findings, rules
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.services import missing
from tests.support.reached import SECRET, WORKSHOP, local_account
from tests.support.screening_accounts import REGION, Seeder
from tests.support.screening_rigs import fake_checkout, none_left, others_left_alone, witnessed

ACCOUNT = "333344445555"
SERVICES = ("s3", "ec2", "sqs", "lambda")
WHEN = datetime(2026, 11, 20, 1, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures(others_left_alone.__name__)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    try:
        with start_sandbox(tmp_path_factory.mktemp("service-screener")) as running:
            seed = Seeder(running, ACCOUNT, "acme")
            seed.buckets()
            seed.messages()
            yield running
    except ToolOffline as error:
        missing(f"the sandbox ({error.message})")


def engine(sandbox: SandboxProcess, tree: Path | None, work_dir: Path) -> ServiceScreenerScreening:
    account = local_account(sandbox.endpoint_url, ACCOUNT, work_dir)
    return ServiceScreenerScreening(account, replace(WORKSHOP, service_screener=tree, work_dir=work_dir))


async def screened(
    sandbox: SandboxProcess, tree: Path, *, services: tuple[str, ...] = SERVICES, deadline_s: float = 300
) -> list[Event]:
    one = engine(sandbox, tree, tree.parent)
    try:
        plan = await one.plan(Scope(regions=(REGION,), services=services))
    except ToolOffline as error:
        missing(f"what service-screener needs ({error.message})")
    return [event async for event in one.run(plan, deadline_s=deadline_s, heartbeat_s=0.2)]


def ending(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def gaps_of(events: list[Event]) -> dict[str, str]:
    return {event.unread.service: event.unread.reason for event in events if isinstance(event, Gap)}


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob("fairlead-*"))


def mode(path: Path) -> int:
    return path.stat().st_mode


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ── safe ──────────────────────────────────────────────────────────────────────────────────────────


async def test_safe_options_are_forced_and_the_checkout_stays_as_it_was(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    tree = fake_checkout(tmp_path / "checkout")
    for name, text in (
        ("crossAccounts.json", "{}"),
        ("__fork/s3.json", "old"),
        ("adminlte/aws/9/a.html", "old"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    before = digest(tree)
    events = await screened(sandbox, tree)
    assert ending(events).ending is Ending.COMPLETE
    (told,) = witnessed(tree)  # it changed nothing, and was not refused anything either
    asked = told["asked"]
    assert asked["ztestmode"] == "1"
    assert "WAFS" not in asked["frameworks"]
    assert (asked["crossAccounts"], asked["beta"], asked["disable_custom_pages"]) == ("0", "0", "1")
    assert (asked["regions"], set(asked["services"].split(","))) == (REGION, set(SERVICES))
    assert told["folder"] != str(tree)
    assert Path(told["home"]).parent == Path(told["folder"]).parent
    assert not {"crossAccounts.json", "__fork/s3.json", "adminlte/aws/9"} & set(told["files"])
    assert SECRET not in json.dumps(told)
    assert digest(tree) == before
    assert not left_behind(tmp_path)


async def test_a_version_that_writes_in_spite_of_the_options_is_held_back(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    tree = fake_checkout(tmp_path / "checkout", changes="in-spite")
    assert ending(await screened(sandbox, tree, services=("sqs",))).ending is Ending.COMPLETE
    assert [line["refused"] for line in witnessed(tree)[1:]] == ["in-spite"]
    queues = boto3.client("sqs", **sandbox.aws(ACCOUNT, REGION)).list_queues()["QueueUrls"]
    assert not [url for url in queues if "ssv2" in url]


async def test_screenings_at_once_have_a_copy_each(sandbox: SandboxProcess, tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout")
    both = await asyncio.gather(*(screened(sandbox, tree, services=("sqs",)) for _ in range(2)))
    assert [ending(events).ending for events in both] == [Ending.COMPLETE] * 2
    assert len({line["folder"] for line in witnessed(tree)}) == 2


async def test_what_a_killed_worker_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout")
    left = tmp_path / "fairlead-service-screener-left"
    left.mkdir()
    (left / ".held").touch()
    (left / "tree").mkdir()
    async with private_copy(tree, tmp_path) as first:
        assert not left.exists()
        async with private_copy(tree, tmp_path):
            assert (first / "tree" / "main.py").exists()
        assert mode(first / "home") & 0o077 == 0
    assert not left_behind(tmp_path)


async def test_where_its_worker_is_killed_it_ends_with_all_it_started(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print('started', flush=True)\n"
        "child.wait()\n"
    )
    arguments = (sys.executable, *PYTHON, str(HERE / "launcher.py"), str(HERE.parent / "guard.py"))
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    assert await process.stdout.readline() == b"started\n"
    process.stdin.close()  # as the kernel does for a process that is killed
    assert await process.stdout.read() == b""  # nobody holds it any more
    assert await process.wait() == -signal.SIGKILL


async def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import os\n"
        "ours = [os.fork() for _ in range(3)]\n"
        "for number in range(2000): print('Screener.py error: AccessDenied, and so on')\n"
        "if all(ours): [os.wait() for _ in ours]\n"
    )
    arguments = (sys.executable, *PYTHON, str(HERE / "launcher.py"), str(HERE.parent / "guard.py"))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, cwd=tmp_path)
    assert process.stdin
    assert process.stdout
    said = await process.stdout.read()
    process.stdin.close()
    assert set(said.splitlines()) == {b"Screener.py error: AccessDenied, and so on"}
    assert await process.wait() == 0


@pytest.mark.parametrize("kind", ["not set", "not there", "something else"])
async def test_without_a_checkout_the_error_says_what_to_do(
    sandbox: SandboxProcess, tmp_path: Path, kind: str
) -> None:
    folder = {"not set": None, "not there": tmp_path / "nowhere", "something else": tmp_path}[kind]
    with pytest.raises(ServiceScreenerMissing) as refused:
        await engine(sandbox, folder, tmp_path).plan(Scope())
    assert "FAIRLEAD_SUPPORT__SERVICE_SCREENER" in str(refused.value.remedy)


# ── read ──────────────────────────────────────────────────────────────────────────────────────────


async def test_one_service_that_crashes_costs_only_itself(sandbox: SandboxProcess, tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout", ec2={"raise": True}, long_line=9_000_000)
    events = await screened(sandbox, tree)
    end = ending(events)
    assert end.ending is Ending.COMPLETE  # it went through all of them
    assert set(end.services) == {"s3", "sqs", "lambda"}
    assert gaps_of(events) == {"ec2": "Not read to its end: the engine's program ended."}


async def test_what_a_crash_took_along_is_read_in_another_run(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    tree = fake_checkout(tmp_path / "checkout", ec2={"raise": True}, chunk=4)
    events = await screened(sandbox, tree)
    end = ending(events)
    assert (end.ending, set(end.services)) == (Ending.COMPLETE, {"s3", "sqs", "lambda"})
    assert set(gaps_of(events)) == {"ec2"}
    asked = [set(line["asked"]["services"].split(",")) for line in witnessed(tree)]
    assert asked == [set(SERVICES), set(SERVICES) - {"ec2"}]


async def test_killed_in_the_middle_it_leaves_what_it_had_read(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    one = engine(
        sandbox, fake_checkout(tmp_path / "checkout", ec2={"after": str(go), "kill": True}), tmp_path
    )
    plan, events = await one.plan(Scope(regions=(REGION,), services=("ec2", "s3"))), list[Event]()
    async for event in one.run(plan, deadline_s=300, heartbeat_s=0.1):
        events.append(event)
        if isinstance(event, Found):
            go.touch()
    end = ending(events)
    assert (end.ending, end.services) == (Ending.BROKEN, ("s3",))
    assert any(isinstance(event, Found) for event in events)
    assert none_left(sandbox.pid)


async def test_hanging_for_good_it_tells_where_and_leaves_what_it_had_read(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    one = engine(sandbox, fake_checkout(tmp_path / "checkout", ec2={"after_s": 600}), tmp_path)
    plan = await one.plan(Scope(regions=(REGION,), services=("ec2", "s3")))
    events: list[Event] = []
    async for event in one.run(plan, deadline_s=300, heartbeat_s=0.1):
        events.append(event)
        found = any(isinstance(earlier, Found) for earlier in events)
        if found and isinstance(event, Progress) and event.heartbeat and event.stage == f"ec2 {REGION}":
            await one.cancel()
    end = ending(events)
    assert (end.ending, end.services) == (Ending.CANCELLED, ("s3",))
    assert (end.finished_at - end.started_at).total_seconds() < 250
    assert none_left(sandbox.pid)
    assert not left_behind(tmp_path)


async def test_what_it_was_not_let_see_is_a_gap_with_codes_and_without_words(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    tree = fake_checkout(tmp_path / "checkout", s3={"denied": True, "after_s": 1}, sqs={"errors": 2})
    events = await screened(sandbox, tree, services=("s3", "sqs"))
    assert ending(events).services == ()
    told = gaps_of(events)
    assert told["s3"] == "It may not have been read: AccessDenied."
    assert told["sqs"].startswith("2 checks ended with an error")
    assert "SECRET-WORDS" not in repr(events)


async def test_results_that_are_half_written_for_good_are_a_gap(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    tree = fake_checkout(tmp_path / "checkout", s3={"stat": "{"})
    events = await screened(sandbox, tree, services=("s3", "sqs"))
    assert ending(events).ending is Ending.COMPLETE
    assert ending(events).services == ("sqs",)
    assert gaps_of(events) == {"s3": "The results of service-screener were not understood."}


@pytest.mark.parametrize(
    "files",
    [
        None,
        ([], {}),
        ({"r": {"x": {"c": 7}}}, {}),
        ({"r": {"x": {"c": []}}}, {}),
        ({"r": {"x": {"c": [[]]}}}, {}),
        ({"r": []}, {}),
        ({"r": {}}, []),
    ],
    ids=["no JSON", "a list", "a number", "no verdict", "a list as verdict", "no resources", "statistics"],
)
def test_results_of_another_form_are_a_gap_and_no_crash(
    tmp_path: Path, files: tuple[Any, Any] | None
) -> None:
    course = Course(Reading.parts(("s3", "iam"), (REGION,)), 0.0)
    reading = Reading(plan=plan(), course=course, rules={"s3": {}}, seen_at=WHEN)

    async def put(_: object) -> None:
        raise AssertionError("nothing is handed over here")

    found, gaps = Harvest(reading, tmp_path, put).taken("s3", files)
    assert found == []
    assert [gap.unread.service for gap in gaps] == ["s3"]
    assert {part.service for part in course.open.values()} == {"iam"}
    assert course.failed == {"s3"}


async def test_a_program_that_cannot_begin_is_an_error(sandbox: SandboxProcess, tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout")
    (tree / "main.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ScreeningEngineFailed, match="ended with 3"):
        await screened(sandbox, tree)
    assert not left_behind(tmp_path)


async def test_another_account_than_planned_is_refused(sandbox: SandboxProcess, tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout", account="999988887777", ec2={"after_s": 600})
    with pytest.raises(ScreeningWrongAccount, match="999988887777"):
        await screened(sandbox, tree, services=("ec2",))
    assert none_left(sandbox.pid)


def rule(**members: Any) -> Rule:
    return Rule(**{"title": "Check", "why": "Check", "links": (), **members})


# ── what its words mean ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("about", "rule"),
    [
        (
            {"shortDesc": "Do", "^description": "<b>{$COUNT}</b> bad", "criticality": "H", "category": "S"},
            rule(title="Do", why="{$COUNT} bad", severity=Severity.HIGH, pillars=("security",)),
        ),
        (
            {"criticality": "M", "category": "RS", "ref": ["[a]<https://a>", "b", "[c]<http://c>"]},
            rule(severity=Severity.MEDIUM, pillars=("reliability", "security"), links=("https://a",)),
        ),
        (
            {"criticality": "L", "category": "PC"},
            rule(severity=Severity.LOW, pillars=("performance_efficiency", "cost_optimization")),
        ),
        (
            {"criticality": "?", "category": "T"},
            rule(severity=Severity.INFORMATIONAL, pillars=("operational_excellence",)),
        ),
    ],
    ids=["plain", "two pillars and links", "no words", "unknown letters"],
)
def test_rules_are_read_from_its_own_files(about: dict[str, Any], rule: Rule) -> None:
    assert rules({"Check": about, "comment": "no rule"}) == {"Check": rule}


def plan() -> Plan:
    return Plan(
        engine="service-screener",
        account=ACCOUNT,
        regions=(REGION, "us-east-1"),
        regions_off=(),
        services=("s3", "iam"),
        steps=6,
        checks=2,
        scope=Scope(),
    )


def test_results_become_findings_with_their_region_resource_and_verdict() -> None:
    known = rules(
        {"PublicRead": {"shortDesc": "Block", "^description": "{$COUNT} are open", "criticality": "H"}}
    )
    results = {
        "us-east-1": {"Bucket::a::b": {"PublicRead": [-1, "<b>On</b>"], "Unknown": [0, None]}, "Macie": {}},
        "GLOBAL": {
            "User::<b>root</b>": {"PublicRead": [-1, 7]},
            "Bucket::c": {"PublicRead": [1], "Odd": ["?"]},
        },
    }
    found = findings(plan(), "s3", results, known, WHEN)
    assert [
        (f.check, f.status, f.resource.uid, f.resource.type, f.resource.name, f.resource.region, f.detail)
        for f in found
    ] == [
        ("s3.PublicRead", Status.FAIL, "Bucket::a::b", "s3:Bucket", "a::b", "us-east-1", "On"),
        ("s3.Unknown", Status.MANUAL, "Bucket::a::b", "s3:Bucket", "a::b", "us-east-1", ""),
        ("s3.PublicRead", Status.FAIL, "User::root", "s3:User", "root", "global", "7"),
        ("s3.PublicRead", Status.PASS, "Bucket::c", "s3:Bucket", "c", "global", ""),
        ("s3.Odd", Status.UNREAD, "Bucket::c", "s3:Bucket", "c", "global", ""),
    ]
    assert {f.rationale for f in found if f.check == "s3.PublicRead"} == {"2 are open"}
    assert found[1].severity is Severity.INFORMATIONAL


def test_regions_count_half_when_they_are_through_and_whole_with_their_results() -> None:
    course = Course(Reading.parts(("s3", "iam"), (REGION, "us-east-1")), 0.0)
    reading = Reading(plan=plan(), course=course, rules={}, seen_at=WHEN)
    assert course.progress(0.0).total == 6  # iam is read once
    steps = []
    lines = (
        b"PREPARING -- \x1b[1mS3::us-east-1\x1b[0m",
        b"chatter",
        b"COMPLETED -- S3::us-east-1 (1s)",
        b"COMPLETED -- S3::us-east-1 (1s)",
        b"PREPARING -- IAM::us-east-1",
        b"COMPLETED -- IAM::us-east-1 (1s)",
        b"COMPLETED -- RDS::us-east-1 (1s)",
        None,
    )
    for line in lines:
        reading.hear(line)
        steps.append(course.progress(1.0).done)
    assert steps == [0, 0, 1, 1, 1, 2, 2, 2]
    reading.end("s3", 5)
    assert (course.progress(1.0).done, course.resources) == (5, 5)
    assert reading.begun == {"s3", "iam"}
