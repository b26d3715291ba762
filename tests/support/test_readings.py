"""Questions of a review, and what must be read out of them: relative periods across months, years and clock
changes, regions, resources, events, metrics, and numbers that are no accounts.

A row of `readings.jsonl` says only what matters about its question; "clarify" is whether something is asked
back. They were used to mend the rules, so they measure nothing: `accuracy.py` does.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.support.understanding import understand
from tests.support.accuracy import NOW

ROWS = [
    json.loads(line) for line in Path(__file__).with_name("readings.jsonl").read_text("utf-8").splitlines()
]


def read(text: str, now: datetime = NOW) -> dict[str, Any]:
    document = understand(text, now).document()
    clarify = document["clarify"] is not None
    return {**document["slots"], "intent": document["intent"], "clarify": clarify}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["text"][:60])
def test_what_matters_about_a_question_is_read(row: dict[str, Any]) -> None:
    found = read(row["text"], datetime.fromisoformat(row["now"]) if "now" in row else NOW)
    expected = row["expect"]
    if found["period"] and expected.get("period"):
        found["period"] = {name: found["period"][name] for name in expected["period"]}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        # Clocks go forward on 8 March and back on 1 November 2026 in New York.
        (
            "logins in the last 3 hours, New York time",
            "2026-03-08T01:00:00-05:00",
            "2026-03-08T05:00:00-04:00",
        ),
        ("logins 3 hours ago, New York time", "2026-03-08T01:00:00-05:00", "2026-03-08T05:00:00-04:00"),
        ("뉴욕 시간 기준 최근 3시간 로그인", "2026-03-08T01:00:00-05:00", "2026-03-08T05:00:00-04:00"),
        ("logins today, New York time", "2026-03-08T00:00:00-05:00", "2026-03-08T05:00:00-04:00"),
        ("logins yesterday, New York time", "2026-03-07T00:00:00-05:00", "2026-03-08T00:00:00-05:00"),
    ],
)
def test_time_that_passed_is_counted_across_a_change_of_clocks(text: str, start: str, end: str) -> None:
    period = read(text, datetime.fromisoformat("2026-03-08T09:00:00+00:00"))["period"]
    assert period == {"start": start, "end": end, "timezone": "America/New_York"}


def test_a_day_on_which_clocks_change_is_still_one_day() -> None:
    period = understand(
        "logins yesterday, New York time", datetime.fromisoformat("2026-11-02T20:00+00:00")
    ).slots.period
    assert period is not None
    assert (period.end - period.start).days == 1
    assert (period.end.timestamp() - period.start.timestamp()) == 25 * 3600


@pytest.mark.parametrize(
    "text",
    [
        "scan before next week's audit",
        "다음 주 감사 전에 보안 점검해줘",
        "list the buckets before tomorrow",
        "내년 예산 때문에 EC2 목록 부탁해요",
    ],
)
def test_a_time_to_come_that_only_says_why_is_not_asked_about(text: str) -> None:
    found = read(text)
    assert (found["clarify"], found["period"]) == (False, None)


@pytest.mark.parametrize("name", ["acme-logs-archive", "acme-errors", "prod.alarm.data"])
def test_words_within_the_name_of_a_bucket_ask_for_nothing(name: str) -> None:
    assert read(f"is versioning on for the {name} bucket?")["intent"] == "inventory"


@pytest.mark.parametrize(
    "text",
    [
        "What is S3 versioning?",
        "How do I turn on MFA for a user?",
        "How can I enable versioning on a bucket?",
        "What does multi-AZ mean?",
        "S3 버전 관리가 뭐예요?",
        "백업 보존 기간은 어떻게 설정하나요?",
        "Should I rotate access keys older than 90 days?",
    ],
)
def test_who_asks_what_a_thing_is_or_how_it_is_done_wants_no_list(text: str) -> None:
    found = read(text)
    assert (found["intent"], found["clarify"]) == ("general", False)
