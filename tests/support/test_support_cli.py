"""`fairlead support …` as a user types it: real processes for one way through, the app itself for the rest."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlead.cli.support import app
from fairlead.kernel.errors import FairleadError
from fairlead.support.findings import document
from tests.support.screenings import HOSTILE, customer, finding, screening
from tests.support.zendesk_page import ROOT

NOW = ("--now", "2026-11-20T10:00:00+09:00")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FairleadError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json")[1])


def test_understand_prints_exactly_the_documented_object() -> None:
    assert run_json("understand", "어제 누가 버킷을 삭제했나요?", *NOW) == {
        "intent": "api_activity",
        "confidence": 0.8,
        "slots": {
            "account": None,
            "region": None,
            "period": {
                "start": "2026-11-19T00:00:00+09:00",
                "end": "2026-11-20T00:00:00+09:00",
                "timezone": "Asia/Seoul",
            },
            "resource": "s3",
            "event": "DeleteBucket",
            "metric": None,
        },
        "clarify": None,
    }


def test_understand_without_now_counts_from_now() -> None:
    assert run_json("understand", "어제 로그인")["slots"]["period"]["timezone"] == "Asia/Seoul"


def test_understand_for_people_shows_the_question_back() -> None:
    code, text = run("understand", "Q3 report", *NOW)
    assert code == 0
    assert "monthly_report" in text
    assert "? A monthly report covers one month." in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("understand", "x" * 5000), "support.question_too_long"),
        (("understand", "a\x07b"), "support.question_unreadable"),
        (("understand", "x", "--now", "tomorrow"), "support.moment_unreadable"),
        (("general", ""), "support.question_unreadable"),
        (("validate-app", "/nonexistent.zip"), "support.app_unreadable"),
        (("package-app", "--server-url", "http://x.kr", "--source", ROOT / "zendesk-app", "--out", "/dev/null"), "support.server_address_invalid"),
        (("render-report", "/nonexistent.json", "--out", "/dev/null"), "cli.file_unreadable"),
    ],
)  # fmt: skip
def test_bad_input_is_a_clear_error(arguments: tuple[object, ...], code: str) -> None:
    with pytest.raises(FairleadError) as refused:
        run(*arguments)
    assert refused.value.code == code
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"x" * 1_000_000, "support.question_too_long"),
        (b"\xff\xfe", "support.question_unreadable"),
        (b"", "support.question_unreadable"),
    ],
    ids=["1 MB", "not UTF-8", "nothing"],
)
@pytest.mark.parametrize("command", ["understand", "general"])
def test_standard_input_that_is_no_question_is_refused(command: str, data: bytes, code: str) -> None:
    result = CliRunner().invoke(app, [command, "-", "--json"], input=data)
    assert isinstance(result.exception, FairleadError)
    assert result.exception.code == code


def test_a_question_may_come_from_standard_input() -> None:
    result = CliRunner().invoke(app, ["understand", "-", "--json", *NOW], input="지난달 보고서\n".encode())
    assert json.loads(result.stdout)["intent"] == "monthly_report"


def test_general_answers_with_a_source_or_exits_1() -> None:
    found = run_json("general", "How do I enable MFA for a user?")
    assert found["sources"][0]["url"].startswith("https://docs.aws.amazon.com/IAM/")
    code, text = run("general", "오늘 날씨 어때", "--json")
    assert code == 1
    assert json.loads(text)["answer"] is None


@pytest.fixture
def files(tmp_path: Path) -> Path:
    before, now, accepted = customer()
    for name, value in (("before", before), ("now", now), ("accepted", list(accepted))):
        (tmp_path / f"{name}.json").write_text(json.dumps(document(value)), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "begins"),
    [("r.html", "<!doctype html>\n<html lang=\"ko\">"), ("r.json", "{"), ("r.csv", "\ufeff\"account\",\"change\"")],
)  # fmt: skip
def test_a_report_is_written_in_the_form_that_its_name_asks_for(files: Path, name: str, begins: str) -> None:
    found = run_json(
        "render-report", files / "now.json", "--out", files / name,
        "--previous", files / "before.json", "--suppressions", files / "accepted.json",
    )  # fmt: skip
    assert (files / name).read_text(encoding="utf-8").startswith(begins)
    assert {k: found[k] for k in ("new", "unchanged", "fixed", "unknown", "suppressed")} == {
        "new": 6, "unchanged": 19, "fixed": 1, "unknown": 1, "suppressed": 2,
    }  # fmt: skip


def test_a_report_in_english_of_hostile_findings_holds_no_script(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps(document(screening(finding(title=HOSTILE, detail=HOSTILE)))))
    run("render-report", tmp_path / "f.json", "--out", tmp_path / "r.html", "--language", "en")
    page = (tmp_path / "r.html").read_text()
    assert '<html lang="en">' in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_previous_screening_of_another_account_is_refused(files: Path) -> None:
    other = screening(finding(account="210987654321"), account="210987654321")
    (files / "other.json").write_text(json.dumps(document(other)))
    with pytest.raises(FairleadError) as refused:
        run(
            "render-report", files / "now.json", "--out", files / "r.html", "--previous", files / "other.json"
        )
    assert refused.value.code == "support.accounts_differ"


def test_the_app_is_validated_and_packaged(tmp_path: Path) -> None:
    made = run_json("package-app", "--source", ROOT / "zendesk-app", "--out", tmp_path / "a.zip")
    assert made["size_bytes"] == (tmp_path / "a.zip").stat().st_size
    code, text = run("validate-app", tmp_path / "a.zip", "--json")
    assert (code, json.loads(text)["valid"]) == (0, True)
    (tmp_path / "empty").mkdir()
    code, text = run("validate-app", tmp_path / "empty")
    assert code == 1
    assert "app.no_manifest" in text


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    import subprocess
    import sys

    loaded = "import sys, fairlead.cli.support; print([m for m in sys.modules if m.startswith('fairlead.support') or m in ('yaml', 'msgspec', 'zoneinfo')])"
    assert (
        subprocess.run(
            [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
