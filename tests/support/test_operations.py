"""Jobs from question to report: real workers, a real AWS that enforces trust, and kill -9 on the way."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.kernel.clock import utc_now
from fairlead.kernel.runs import Event, RunStatus
from fairlead.kernel.settings import Settings
from fairlead.support import accounts, jobs_door, records
from fairlead.support.model import JobKind, Language, Suppression
from fairlead.support.tables import suppressions
from fairlead.support.telling import STAGES
from tests.sandbox_service import toolenvs
from tests.services import fresh_database
from tests.support.cross_accounts import ACME, GLOBEX, REGION, World, customer, external_id, start_world
from tests.support.desk import AGENT, INSTALLATION, PROJECT, TICKET, Desk, opened_desk
from tests.support.rehearsal import Found, Script, Wait, finding, progress, rehearsed
from tests.support.screening_accounts import Seeder

FILES = {"report.html", "report.json", "report.csv", "screening.json"}
WORDS = {ACME: "acmewidgets", GLOBEX: "globexcorp"}  # in the name of everything that a customer has


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_world(tmp_path_factory.mktemp("world")) as started:
        for account, word in WORDS.items():
            seed = Seeder(started.sandbox, account, word)
            seed.buckets()
            seed.volumes()
            seed.people()
        yield started


def with_support(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update={"support": settings.support.model_copy(update=values)})


@contextmanager
def desk_over(kind: str, folder: Path, request: pytest.FixtureRequest, settings: Settings) -> Iterator[Desk]:
    with fresh_database(kind, folder, request) as url, opened_desk(folder, url, settings) as desk:
        desk.with_customers(*(customer(account, regions=(REGION,)) for account in (ACME, GLOBEX)))
        yield desk


@pytest.fixture
def desk(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A desk for two real customers."""
    kind = getattr(request, "param", "sqlite")
    with desk_over(kind, tmp_path, request, world.settings(tmp_path / "data")) as opened:
        yield opened


@pytest.fixture(scope="module")
def busy(
    world: World, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Desk]:
    """A desk whose worker is at work, for tests that share it."""
    folder = tmp_path_factory.mktemp("busy")
    settings = world.settings(folder / "data").model_copy(update={"toolenv_dir": toolenvs()})
    with desk_over("sqlite", folder, request, settings) as opened:
        opened.start()
        yield opened


@pytest.fixture
def quiet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A desk without AWS, for scripts."""
    settings = with_support(Settings(data_dir=tmp_path / "data"), **getattr(request, "param", {}))
    with desk_over("sqlite", tmp_path, request, settings) as opened:
        yield opened


def check_stream(events: list[Event]) -> None:
    """What holds for every stream: no gaps, nothing backwards, at most two progress events a second."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    told = [event for event in events if event.type == "support.progress"]
    percents = [event.data["percent"] for event in told]
    stages = [STAGES.index(event.data["stage"]) for event in told]
    assert percents == sorted(percents)
    assert stages == sorted(stages)
    assert all(0 <= percent <= 100 for percent in percents)
    moments = [event.at for event in told]
    for first, third in zip(moments, moments[2:], strict=False):
        assert third - first >= timedelta(seconds=0.95), moments


def test_a_screening_says_how_far_it_is_and_keeps_its_report(busy: Desk) -> None:
    job = busy.submit(JobKind.SCREEN, ACME, services=["s3", "ebs"])
    run = busy.ended(job)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)
    check_stream(busy.events(job))
    *_, last, report = busy.told(job)
    assert (last["stage"], last["percent"]) == ("done", 100)
    assert report["_"] == "report"
    assert (report["kind"], report["complete"]) == ("screening", True)
    assert report["url"] == f"/support/reports/{job}/report.html"
    assert report["counts"]["new"] > 0
    assert "Bucket policy lets everyone in" in report["summary"]
    record = busy.record(job)
    assert (record.account, record.ticket, record.installation) == (ACME, TICKET, INSTALLATION)
    assert set(busy.files(job)) == {f"support/{PROJECT}/{ACME}/{job}/{name}" for name in FILES}
    page = busy.files()[record.key("report.html")].decode()
    assert not re.search(r'(?:src|href)="(?!https://|#)|<script|url\(', page)
    opened = busy.audited("support.account_opened")
    assert (AGENT, ACME, TICKET) in {(e.actor, e.data["account"], e.data["ticket"]) for e in opened}


def test_the_next_screening_says_what_is_new_and_what_is_fixed(busy: Desk, world: World) -> None:
    first = busy.submit(JobKind.SCREEN, GLOBEX, services=["s3", "ebs"])
    assert busy.told_when_ended(first)["counts"]["fixed"] == 0
    ec2, s3 = world.client("ec2", GLOBEX), world.client("s3", GLOBEX)
    ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8, VolumeType="gp3", Encrypted=False)
    s3.delete_bucket_policy(Bucket=f"{WORDS[GLOBEX]}-public")
    today = jobs_door.today()
    with busy.database.transaction() as conn:
        given = Suppression(check="ebs.volume_encryption", reason="a test", author="ann", expires=today)
        records.accept(conn, PROJECT, given, today=today)
    second = busy.submit(JobKind.SCREEN, GLOBEX, services=["s3", "ebs"], ticket="99")
    told = busy.told_when_ended(second)
    findings = busy.files()[busy.record(second).key("report.json")].decode()
    assert told["counts"]["fixed"] == 1, findings
    assert busy.record(second).summary["previous"] == first
    assert busy.record(second).summary["accepted"] == 2  # the volume of before and the new one


DEATHS = ("support.progress#1", "support.progress#2!", "support.report", "support.report!")


@pytest.mark.parametrize(
    ("desk", "deaths"),
    [("sqlite", DEATHS), ("postgresql", DEATHS[1:3])],
    ids=["sqlite", "postgresql"],
    indirect=["desk"],
)
def test_a_screening_survives_kill_9_wherever_it_is_and_tells_nothing_twice(
    desk: Desk, deaths: tuple[str, ...]
) -> None:
    job = desk.submit(JobKind.SCREEN, ACME, services=["s3", "ebs"])
    run = desk.keep_running(job, *deaths)
    assert run.status is RunStatus.SUCCEEDED, run.error
    assert {path.name.removeprefix("died-") for path in desk.folder.glob("died-*")} == set(deaths)
    check_stream(desk.events(job))
    assert len(desk.told(job, "report")) == 1
    assert [record.id for record in desk.records()] == [job]
    assert len(desk.files()) == len(FILES)


def test_a_monthly_report_of_the_last_month_is_made(busy: Desk) -> None:
    job = busy.submit(JobKind.REPORT, ACME, language=Language.KOREAN)
    run = busy.ended(job)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)
    check_stream(busy.events(job))
    report = busy.told(job, "report")[0]
    assert report["kind"] == "monthly_report"
    record = busy.record(job)
    assert record.month is not None
    assert record.month < f"{utc_now():%Y-%m}"
    assert set(busy.files(job)) == {record.key(name) for name in FILES - {"screening.json"}}
    assert 'lang="ko"' in busy.files()[record.key("report.html")].decode()


def test_a_month_that_has_not_begun_is_refused_in_words(busy: Desk) -> None:
    job = busy.submit(JobKind.REPORT, ACME, language=Language.KOREAN, month="2099-01", ticket="2099")
    run = busy.ended(job)
    assert run.error is not None
    assert (run.status, run.error["code"]) == (RunStatus.FAILED, "support.month_not_begun")
    assert run.error["title"] == "요청을 처리할 수 없습니다"
    assert "2099" not in [entry.data["ticket"] for entry in busy.audited("support.account_opened")]


def test_two_customers_side_by_side_see_nothing_of_each_other(busy: Desk) -> None:
    kinds: dict[JobKind, dict[str, Any]] = {
        JobKind.SCREEN: {"services": ["s3", "ebs", "iam"]},
        JobKind.REPORT: {},
    }
    asked = {
        (account, kind): busy.submit(kind, account, ticket=ticket, **details)
        for kind, details in kinds.items()
        for account, ticket in ((ACME, "1001"), (GLOBEX, "2002"))
    }
    for job in asked.values():
        assert busy.ended(job).status is RunStatus.SUCCEEDED
    for mine, theirs in ((ACME, GLOBEX), (GLOBEX, ACME)):
        jobs = [asked[mine, kind] for kind in kinds]
        files = {key: text for job in jobs for key, text in busy.files(job).items()}
        assert len(files) == 2 * len(FILES) - 1
        told = str([busy.events(job) for job in jobs]).encode()
        entries = str([e for e in busy.audited() if e.data.get("account") == mine]).encode()
        for content in (told, entries, *files.values()):
            assert WORDS[theirs].encode() not in content
            assert theirs.encode() not in content
        assert any(WORDS[mine].encode() in text for text in files.values())
    for secret in (external_id(ACME), external_id(GLOBEX), *busy.secrets()):
        for what in (busy.log(), str(busy.audited()), *map(str, map(busy.events, asked.values()))):
            assert secret not in what


def test_an_account_that_does_not_let_us_in_fails_with_what_to_do(busy: Desk) -> None:
    stranger = "121212121212"
    busy.with_customers(customer(stranger, external_id="another-1234567890"))
    job = busy.submit(JobKind.SCREEN, stranger, services=["s3"])
    problem = busy.ended(job).error
    assert problem is not None
    assert problem["title"] == "The customer's account cannot be entered"
    assert problem["remedy"]
    assert problem["details"]["category"] == "access"
    assert "another-1234567890" not in str(busy.events(job)) + busy.log()


# ── what a script plays ───────────────────────────────────────────────────────────────────────────


def test_a_customer_who_was_taken_off_the_list_is_not_read_any_more(quiet: Desk) -> None:
    job = quiet.submit(JobKind.SCREEN, ACME)
    with quiet.database.transaction() as conn:
        accounts.remove_customer(conn, PROJECT, ACME, actor="ann")
    script = Script()
    with rehearsed(quiet, script):
        run = quiet.ended(job)
    assert run.error is not None
    assert run.error["code"] == "support.customer_not_found"
    assert (quiet.files(), quiet.records(), script.opened) == ({}, (), [])


def test_a_flood_of_progress_becomes_two_a_second_and_never_runs_backwards(quiet: Desk) -> None:
    ups_and_downs = [progress(percent) for percent in (*range(60), 10, 3, *range(30, 90))]
    script = Script(acts=[*ups_and_downs, Wait(1.2), *ups_and_downs, progress(99), Wait(0.7)])
    with rehearsed(quiet, script):
        job = quiet.submit(JobKind.SCREEN, ACME)
        run = quiet.ended(job)
    assert run.status is RunStatus.SUCCEEDED
    assert run.started_at
    assert run.finished_at
    check_stream(quiet.events(job))
    lasted_s = (run.finished_at - run.started_at).total_seconds()
    assert 3 <= len(quiet.told(job, "progress")) <= 2 * lasted_s + 4


def test_a_cancelled_screening_keeps_what_it_found_and_says_that_it_is_not_all(quiet: Desk) -> None:
    script = Script(acts=[progress(20), Found((finding(), finding(uid="other"))), Wait()])
    with rehearsed(quiet, script):
        job = quiet.submit(JobKind.SCREEN, ACME)
        assert script.begun.wait(60)
        quiet.cancel(job)
        run = quiet.ended(job)
    assert run.result is not None
    assert (run.result["complete"], run.result["cancelled"]) == (False, True)
    report = quiet.told(job, "report")[0]
    assert (report["complete"], report["counts"]["new"]) == (False, 2)
    assert report["summary"].startswith("It was stopped before its end")
    assert quiet.record(job).complete is False


def test_a_screening_cancelled_before_it_found_anything_leaves_nothing(quiet: Desk) -> None:
    script = Script(acts=[progress(1), Wait()])
    with rehearsed(quiet, script):
        job = quiet.submit(JobKind.SCREEN, ACME)
        assert script.begun.wait(60)
        quiet.cancel(job)
        assert quiet.ended(job).status is RunStatus.CANCELLED
    assert (quiet.records(), quiet.files(), quiet.told(job, "report")) == ((), {}, [])


@pytest.mark.parametrize("quiet", [{"screening_deadline_s": 0.4}], indirect=True)
def test_a_screening_out_of_time_keeps_what_it_found(quiet: Desk) -> None:
    with rehearsed(quiet, Script(acts=[Found((finding(),)), Wait()])):
        job = quiet.submit(JobKind.SCREEN, ACME)
        run = quiet.ended(job)
    assert run.result is not None
    assert (run.result["complete"], run.result["cancelled"]) == (False, False)
    # What is incomplete is no measure for the next one.
    with rehearsed(quiet, Script(acts=[Found((finding(),))])):
        after = quiet.submit(JobKind.SCREEN, ACME)
        assert quiet.ended(after).status is RunStatus.SUCCEEDED
    assert quiet.record(after).summary["previous"] is None


def test_difference_and_suppressions_over_three_screenings(quiet: Desk) -> None:
    today = jobs_door.today()
    script = Script()
    with rehearsed(quiet, script):

        def screened(*found: Any) -> dict[str, int]:
            script.acts = [Found(tuple(found))]
            job = quiet.submit(JobKind.SCREEN, ACME)
            assert quiet.ended(job).status is RunStatus.SUCCEEDED
            told: dict[str, int] = quiet.told(job, "report")[0]["counts"]
            return told

        one, two, three = (finding(uid=uid) for uid in ("one", "two", "three"))
        assert screened(one, two) == {"new": 2, "fixed": 0, "unchanged": 0}
        assert screened(two, three) == {"new": 1, "fixed": 1, "unchanged": 1}
        with quiet.database.transaction() as conn:
            given = Suppression(
                check="s3.public", reason="known", author="ann", expires=today, resource="three"
            )
            records.accept(conn, PROJECT, given, today=today)
        assert screened(two, three) == {"new": 0, "fixed": 0, "unchanged": 1}
        with quiet.database.transaction() as conn:
            yesterday = today - timedelta(days=2)
            conn.execute(suppressions.update().values(expires=yesterday))
        assert screened(two, three) == {"new": 0, "fixed": 0, "unchanged": 2}
    assert quiet.records()[0].account == ACME


# ── questions ─────────────────────────────────────────────────────────────────────────────────────


def test_a_general_question_is_answered_piece_by_piece_and_then_whole(busy: Desk) -> None:
    job = busy.submit(JobKind.ASK, ACME, text="What is S3 versioning?", ticket="3003")
    run = busy.ended(job)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)
    check_stream(busy.events(job))
    answer = busy.told(job, "answer")[0]
    assert "".join(data["text"] for data in busy.told(job, "delta")) == answer["text"]
    assert answer["evidence"]["sources"]
    assert "S3 versioning" not in str(busy.audited())
    # Nothing was asked about the account, so it was not entered.
    assert "3003" not in [entry.data["ticket"] for entry in busy.audited("support.account_opened")]


def test_a_question_about_the_account_is_answered_from_it_and_every_call_is_audited(
    busy: Desk, world: World
) -> None:
    word = WORDS[ACME]
    Seeder(world.sandbox, ACME, word).alarms()
    job = busy.submit(JobKind.ASK, ACME, text="Which alarms are firing right now?", ticket="4004")
    run = busy.ended(job)
    assert (run.status, run.error) == (RunStatus.SUCCEEDED, None)
    check_stream(busy.events(job))
    answer = busy.told(job, "answer")[0]
    assert f"{word}-rings" in answer["text"]
    assert answer["evidence"]["account"] == ACME
    calls = [entry for entry in busy.audited("support.tool_called") if entry.subject == f"run:{job}"]
    assert calls
    for entry in (*calls, *busy.audited("support.account_opened")[:1]):
        assert (entry.actor, entry.data["account"], entry.data["ticket"]) == (AGENT, ACME, "4004")
    assert "firing" not in str(calls)


def test_a_wish_for_a_screening_is_answered_with_the_job_that_does_it(busy: Desk) -> None:
    job = busy.submit(JobKind.ASK, ACME, language=Language.KOREAN, text="우리 계정 보안 점검해줘")
    assert busy.ended(job).status is RunStatus.SUCCEEDED
    answer = busy.told(job, "answer")[0]
    assert answer["suggests"] == {"job": "screen"}
    assert "'보안 점검'" in answer["text"]


def test_a_question_that_says_nothing_is_asked_back(busy: Desk) -> None:
    job = busy.submit(JobKind.ASK, ACME, text="hmm, that thing there")
    assert busy.ended(job).status is RunStatus.SUCCEEDED
    assert [data["_"] for data in busy.told(job) if data["_"] != "progress"] == ["clarify"]


def test_an_answer_survives_kill_9_and_its_text_comes_once(desk: Desk) -> None:
    job = desk.submit(JobKind.ASK, ACME, text="What is S3 versioning?")
    run = desk.keep_running(job, "support.delta!", "support.answer")
    assert run.status is RunStatus.SUCCEEDED
    check_stream(desk.events(job))
    (answer,) = desk.told(job, "answer")
    assert "".join(data["text"] for data in desk.told(job, "delta")) == answer["text"]
