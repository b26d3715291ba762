"""What agents are told of errors: a category for each, words in both languages."""

from typing import Any

import pytest

from fairlead.support.errors_words import CATEGORIES, WORDS, category, worded
from fairlead.support.model import Language
from tests.error_codes import classes

# Faults of ours, of the settings, or of doors that agents do not use: there is no more to say.
INWARD = {
    "support.accounts_differ",
    "support.agent_not_found",
    "support.app_invalid",
    "support.app_unreadable",
    "support.binding_not_found",
    "support.command_refused",
    "support.engines_differ",
    "support.event_unknown",
    "support.findings_unreadable",
    "support.installation_invalid",
    "support.installation_unknown",
    "support.internal",
    "support.job_not_found",
    "support.moment_unreadable",
    "support.not_a_read",
    "support.not_a_screening",
    "support.project_closed",
    "support.server_address_invalid",
}


def test_every_error_that_an_agent_can_meet_has_a_category_of_its_own() -> None:
    codes = {one.code for one in classes() if one.code.startswith("support.")}
    assert {code for code in codes if category(code) == "internal"} <= INWARD


@pytest.mark.parametrize("language", list(Language))
def test_every_category_has_words(language: Language) -> None:
    assert set(WORDS[language]) == set(CATEGORIES.values())
    for words in WORDS[language].values():
        assert words.title
        assert words.detail
        assert words.remedy


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("support.access_refused", "access"),
        ("support.access_throttled", "busy"),
        ("support.account_not_bound", "customer"),
        ("support.account_unreachable", "access"),
        ("support.aws_denied", "denied"),
        ("support.aws_unreadable", "aws"),
        ("support.screening_engine_failed", "tools"),
        ("support.screening_scope_invalid", "input"),
        ("objects.full", "storage"),
        ("run.internal", "internal"),
        ("something.new", "internal"),
    ],
)
def test_the_longest_prefix_decides(code: str, expected: str) -> None:
    assert category(code) == expected


def test_korean_agents_read_korean_and_the_code_and_what_was_said_stay() -> None:
    problem: dict[str, Any] = {
        "code": "support.aws_denied",
        "status": 403,
        "title": "Denied",
        "detail": "ec2:DescribeVolumes was denied.",
        "remedy": "Attach SecurityAudit.",
        "retryable": False,
        "details": {"call": "ec2:DescribeVolumes"},
    }
    korean, english = worded(problem, Language.KOREAN), worded(problem, Language.ENGLISH)
    assert korean["title"] == "읽기 권한이 부족합니다"
    assert korean["details"]["said"] == {"detail": problem["detail"], "remedy": problem["remedy"]}
    assert korean["details"]["call"] == "ec2:DescribeVolumes"
    assert (english["detail"], english["remedy"]) == (problem["detail"], problem["remedy"])
    assert {korean["code"], english["code"]} == {problem["code"]}
