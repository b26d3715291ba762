"""Every check as a table: what passes, what fails, what nearly fails, and what was not read."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.support.collect import Unreadable
from fairlead.support.findings import service_of
from fairlead.support.hazards import is_world
from fairlead.support.model import Finding, Language, Resource, Status
from fairlead.support.screenings.builtin.catalogue import SERVICES, checks, reference
from fairlead.support.screenings.builtin.checks import CIS, PASSED, Failed, Item
from fairlead.support.screenings.builtin.engine import judged
from fairlead.support.screenings.builtin.policies import open_statements
from fairlead.support.screenings.builtin.words import KOREAN
from fairlead.support.screenings.port import Plan, Scope
from tests.support.screening_accounts import open_to_everyone, statement
from tests.support.screening_cases import ACCOUNT, CASES, NOW, Case

ROOT = Path(__file__).parents[2]
KNOWN = {
    check.id: (service, source, check)
    for service in SERVICES
    for source in service.sources
    for check in source.checks
}
PILLARS = {
    "security",
    "reliability",
    "cost-optimization",
    "operational-excellence",
    "performance-efficiency",
    "sustainability",
}
PLAN = Plan(
    engine="builtin", account=ACCOUNT, regions=("us-east-1",), regions_off=(), services=(), steps=1, checks=1,
    scope=Scope(),
)  # fmt: skip
BAD = [
    pytest.param(check, change, id=f"{check}-{number}")
    for check, case in CASES.items()
    for number, change in enumerate((case.bad, *case.more_bad))
]


def item(check: str, facts: dict[str, Any]) -> Item:
    kind = KNOWN[check][1].kind
    return Item(resource=Resource(uid="u", type=kind, region="us-east-1", name="n"), facts=facts, seen_at=NOW)


def finding(check: str, facts: dict[str, Any]) -> Finding:
    service, _, asked = KNOWN[check]
    (found,) = judged(PLAN, service, (asked,), item(check, facts))
    return found


def test_every_check_has_its_case_and_every_case_its_check() -> None:
    assert sorted(CASES) == sorted(KNOWN)


@pytest.mark.parametrize("check", CASES)
def test_what_is_as_it_should_be_passes(check: str) -> None:
    assert KNOWN[check][2].judge(item(check, CASES[check].good)) == PASSED


@pytest.mark.parametrize(("check", "change"), BAD)
def test_what_is_not_as_it_should_be_fails_and_says_what_was_seen(check: str, change: dict[str, Any]) -> None:
    verdict = KNOWN[check][2].judge(item(check, {**CASES[check].good, **change}))
    assert isinstance(verdict, Failed)
    assert verdict.detail.endswith((".", "denied"))
    assert len(verdict.detail) > 8


@pytest.mark.parametrize("check", CASES)
def test_what_nearly_fails_does_not(check: str) -> None:
    verdict = KNOWN[check][2].judge(item(check, {**CASES[check].good, **CASES[check].near}))
    assert not isinstance(verdict, Failed)


@pytest.mark.parametrize("check", CASES)
@pytest.mark.parametrize("kind", ["good", "bad"])
def test_what_was_not_read_is_not_assessed_and_says_why(check: str, kind: str) -> None:
    case: Case = CASES[check]
    reason = "x:DescribeIt was denied (AccessDenied)."
    facts = {**case.good, **(case.bad if kind == "bad" else {}), case.needs: Unreadable(reason)}
    found = finding(check, facts)
    assert (found.status, found.detail) == (Status.UNREAD, reason)


@pytest.mark.parametrize("check", CASES)
@pytest.mark.parametrize("junk", ["text", 7, [7], {"x": []}, [[]]], ids=repr)
def test_an_answer_that_nobody_foresaw_never_ends_the_screening(check: str, junk: Any) -> None:
    service, _, asked = KNOWN[check]
    facts = {**CASES[check].good, CASES[check].needs: junk}
    for found in judged(PLAN, service, (asked,), item(check, facts)):
        assert found.status in (Status.UNREAD, Status.FAIL, Status.PASS)


def test_a_finding_carries_all_that_a_report_needs() -> None:
    found = finding("iam.user_mfa", {**CASES["iam.user_mfa"].good, "MfaDevices": []})
    assert found.status is Status.FAIL
    assert found.account == ACCOUNT
    assert found.compliance == {CIS: ("1.10",)}
    assert found.pillars == ("security",)
    assert found.rationale
    assert found.remediation
    assert found.references[0].startswith("https://docs.aws.amazon.com/")
    assert found.seen_at == NOW


@pytest.mark.parametrize("check", KNOWN)
def test_a_check_is_told_completely_and_belongs_to_its_service(check: str) -> None:
    service, source, asked = KNOWN[check]
    assert service_of(finding(check, CASES[check].good)) == service.name
    assert source.kind.startswith("AWS::")
    assert min(len(asked.title), len(asked.why), len(asked.fix)) > 10
    assert asked.why.endswith(".")
    assert asked.fix.endswith(".")
    assert asked.pillars
    assert set(asked.pillars) <= PILLARS
    assert all(section.count(".") >= 1 and section[0] in "12345" for section in asked.cis)
    assert asked.judge.__doc__


def test_there_are_more_than_sixty_checks_over_more_than_fifteen_services() -> None:
    assert len(KNOWN) >= 60
    assert len(SERVICES) >= 15
    assert len(KNOWN) == sum(len(checks(service)) for service in SERVICES)  # no id twice


def test_the_reference_lists_the_checks_as_they_are() -> None:
    assert (ROOT / "docs/reference/screening-checks.md").read_text("utf-8") == reference()


def test_every_check_is_told_in_korean_too() -> None:
    assert sorted(KOREAN) == sorted(KNOWN)
    for words in KOREAN.values():
        for text in (words.title, words.why, words.fix):
            assert any("가" <= letter <= "힣" for letter in text)
    service, _, asked = KNOWN["iam.user_mfa"]
    plan = Plan(
        **{**{name: getattr(PLAN, name) for name in PLAN.__slots__}, "scope": Scope(language=Language.KOREAN)}
    )
    (found,) = judged(plan, service, (asked,), item("iam.user_mfa", CASES["iam.user_mfa"].good))
    assert found.title == KOREAN["iam.user_mfa"].title


@pytest.mark.parametrize(
    ("block", "world"),
    [("0.0.0.0/0", True), ("::/0", True), ("0.0.0.0/1", True), ("8000::/1", True), ("10.0.0.0/8", False),
     ("203.0.113.7/32", False), ("2001:db8::/32", False), ("pl-123", False), ("", False)],
)  # fmt: skip
def test_only_the_internet_is_the_internet(block: str, world: bool) -> None:
    assert is_world(block) is world


@pytest.mark.parametrize(
    ("condition", "opened"),
    [
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, False),
        ({"StringEquals": {"AWS:SourceOwner": ACCOUNT}}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::web"}}, False),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24"]}}, False),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "0.0.0.0/0"]}}, True),
        ({"StringLike": {"aws:SourceArn": "*"}}, True),
        ({"StringNotEquals": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
        ({}, True),
    ],
)
def test_a_condition_narrows_a_statement_only_when_it_says_who(
    condition: dict[str, Any], opened: bool
) -> None:
    policy = statement(Effect="Allow", Principal="*", Action="*", Resource="*", Condition=condition)
    assert bool(open_statements(policy)) is opened


def test_everyone_but_somebody_is_everyone() -> None:
    policy = statement(Effect="Allow", NotPrincipal={"AWS": "444455556666"}, Action="*", Resource="*")
    assert open_statements(policy) == ["One"]


def test_statements_without_a_name_are_counted() -> None:
    document = json.loads(open_to_everyone("*"))
    del document["Statement"][0]["Sid"]
    assert open_statements(document) == ["statement 1"]


@given(
    st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
@settings(max_examples=60, deadline=None)
def test_no_policy_ends_a_judgement(policy: Any) -> None:
    service, _, asked = KNOWN["sqs.queue_public_policy"]
    for found in judged(PLAN, service, (asked,), item(asked.id, {"Attributes": {"Policy": policy}})):
        assert found.status is not Status.MANUAL
