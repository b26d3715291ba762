"""`fairlead support ask, report, screen, screenings, fetch, suppress …` against a real server and worker."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from fairlead.cli import support_jobs, support_screen
from fairlead.cli.support_jobs import evidence_lines
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.projects import accounts as users
from fairlead.kernel.projects import sessions
from fairlead.kernel.settings import Settings
from fairlead.support import accounts
from fairlead.support.collect import ReadFailed
from fairlead.support.model import Customer, Language
from tests.services import fresh_database
from tests.support.desk import KEY, PROJECT, TICKET, Desk, opened_desk, serving
from tests.support.rehearsal import Fail, Found, Script, finding, progress, rehearsed

ACME = "444455556666"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, script: Script
) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("cli")
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database("sqlite", folder, request))
        made = stack.enter_context(opened_desk(folder, url, Settings(data_dir=folder / "data")))
        customer = Customer(
            project_id=PROJECT,
            account=ACME,
            name="Acme",
            role_name=None,
            external_id="x" * 8,
            language=Language.ENGLISH,
        )
        made.with_customers(customer)
        with made.database.transaction() as conn:
            accounts.bind_ticket(conn, PROJECT, TICKET, ACME, organization=None, actor="ann")
        stack.enter_context(rehearsed(made, script))
        yield made


@pytest.fixture(scope="module")
def run(desk: Desk) -> Iterator[Run]:
    """The command line of a member of the project."""
    app = typer.Typer()
    commands = typer.Typer(name="support")
    support_screen.register(commands)
    support_jobs.register(commands)
    app.add_typer(commands)
    with desk.database.transaction() as conn:
        token = sessions.open_session(conn, KEY, users.find_user(conn, "ann")).access_token
    with serving(desk) as (_, client):
        variables = {
            "FAIRLEAD_URL": str(client.base_url),
            "FAIRLEAD_TOKEN": token,
            "FAIRLEAD_PROJECT": PROJECT,
            "COLUMNS": "200",
        }
        yield lambda *arguments: CliRunner().invoke(app, ["support", *arguments], env=variables)


def test_an_answer_is_printed_with_what_it_stands_on(run: Run) -> None:
    result = run("ask", "What is S3 versioning?", "--ticket", TICKET)
    assert result.exit_code == 0, result.output
    assert "version" in result.stdout
    assert "source: https://" in result.stdout


def test_an_answer_as_json_is_one_document(run: Run) -> None:
    result = run("ask", "What is S3 versioning?", "--account", ACME, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["result"]) == (0, "answer")
    assert found["evidence"]["sources"]


@pytest.mark.parametrize(
    ("question", "title"),
    [("보안 점검해줘", "보안 점검은"), ("run a screening", "A security screening")],
    ids=["ko", "en"],
)
def test_a_question_is_answered_in_its_language_and_names_the_command_of_a_job(
    run: Run, question: str, title: str
) -> None:
    result = run("ask", question, "--account", ACME)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(title)
    assert f"\nfairlead support screen --account {ACME} --project {PROJECT}\n" in result.stdout


def test_a_question_back_is_exit_1(run: Run) -> None:
    result = run("ask", "hmm, that thing", "--account", ACME, "--json")
    assert (result.exit_code, json.loads(result.stdout)["result"]) == (1, "clarify")


def test_a_screening_is_followed_kept_listed_and_fetched(run: Run, script: Script, tmp_path: Path) -> None:
    script.acts = [progress(50), Found((finding(), finding(uid="two")))]
    out = tmp_path / "deep" / "screening.html"
    result = run("screen", "--ticket", TICKET, "--engine", "builtin", "--language", "en", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "2 to be repaired" in result.stdout
    assert out.read_text().startswith("<!doctype html>")
    listed = json.loads(run("screenings", "--account", ACME, "--json").stdout)["items"]
    assert listed[0]["summary"]["counts"]["new"] == 2
    assert listed[0]["id"] in run("screenings").stdout
    table = tmp_path / "screening.csv"
    assert run("fetch", listed[0]["id"], "--out", str(table)).exit_code == 0
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_failed_job_is_exit_4_with_its_problem(run: Run, script: Script) -> None:
    script.acts = [Fail(ReadFailed("ec2:DescribeRegions failed (Boom)."))]
    result = run("screen", "--account", ACME, "--project", PROJECT, "--language", "ko", "--json")
    problem = json.loads(result.stdout)
    assert (result.exit_code, problem["code"]) == (4, "support.aws_unreadable")
    assert problem["title"] == "AWS에서 읽지 못했습니다"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "x"),
        ("ask", "x", "--ticket", "1", "--account", ACME),
        ("report", "--account", ACME, "--out", "report.pdf"),
        ("screen", "--ticket", TICKET, "--profile", "mine"),
        ("ask", "x", "--ticket", "../7"),
        ("ask", "x", "--account", "4444-5555-6666"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output  # main() makes it 1
    assert result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ask", "x", "--account", "999999999999"), "support.customer_not_found"),
        (("ask", "x", "--ticket", "404"), "support.account_not_bound"),
        (("report", "--account", ACME, "--month", "2099-01"), "support.month_not_begun"),
        (("fetch", "0" * 32, "--out", "x.html"), "support.record_unknown"),
        (("unsuppress", "nothing"), "support.suppression_unknown"),
    ],
)
def test_what_the_server_refuses_is_its_problem(run: Run, arguments: tuple[str, ...], code: str) -> None:
    error: Any = run(*arguments).exception
    assert isinstance(error, FairleadError)
    assert error.problem()["code"] == code


def test_a_finding_is_accepted_listed_and_comes_back(run: Run) -> None:
    day = (utc_now() + timedelta(days=30)).date().isoformat()
    arguments = ("suppress", "s3.public", "--reason", "on purpose", "--until", day, "--json")
    made = json.loads(run(*arguments).stdout)
    assert made["author"] == "ann"
    assert "on purpose" in run("suppressions").stdout
    assert run("unsuppress", made["id"]).exit_code == 0
    assert json.loads(run("suppressions", "--json").stdout)["items"] == []


def test_evidence_is_told_in_lines() -> None:
    evidence = {
        "account": ACME,
        "region": "ap-northeast-2",
        "period": {"start": "2026-11-19", "end": "2026-11-20", "timezone": "Asia/Seoul"},
        "count": 1200,
        "truncated": True,
        "calls": ["cloudwatch.describe_alarms"],
        "unread": ["us-east-1: denied"],
    }
    assert evidence_lines(evidence) == [
        f"{ACME} · ap-northeast-2 · 2026-11-19 \u2013 2026-11-20 Asia/Seoul · 1,200 found, and more",
        "→ cloudwatch.describe_alarms",
        "not read: us-east-1: denied",
    ]
