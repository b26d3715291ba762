"""Comparing screenings: what is new, fixed, unchanged, unknown and accepted; and reading them."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import json
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.support.findings import (
    FindingsUnreadable,
    SuppressionsUnreadable,
    count_by_service,
    covers,
    difference,
    document,
    failures,
    read_screening,
    read_suppressions,
)
from fairlead.support.model import Finding, Screening, Severity, Status, Suppression, Unread
from tests.support.screenings import DAY, finding, screening

A, B = finding(uid="a"), finding(uid="b")


def kinds(previous: Screening | None, current: Screening, *suppressions: Suppression) -> dict[str, list[str]]:
    change = difference(previous, current, suppressions, on=DAY)
    found = {
        kind: [f.resource.uid for f in getattr(change, kind)]
        for kind in ("new", "fixed", "unchanged", "unknown")
    }
    found["suppressed"] = [item.finding.resource.uid for item in change.suppressed]
    return {kind: uids for kind, uids in found.items() if uids}


@pytest.mark.parametrize(
    ("previous", "current", "expected"),
    [
        pytest.param(None, screening(A), {"new": ["a"]}, id="no previous: all new"),
        pytest.param(screening(A), screening(A), {"unchanged": ["a"]}, id="still there"),
        pytest.param(screening(A), screening(A, B), {"unchanged": ["a"], "new": ["b"]}, id="one more"),
        pytest.param(screening(A), screening(finding(uid="a", status=Status.PASS)), {"fixed": ["a"]}, id="passes now"),
        pytest.param(screening(A, B), screening(B), {"fixed": ["a"], "unchanged": ["b"]}, id="resource gone"),
        pytest.param(screening(A), screening(services=("s3",)), {"fixed": ["a"]}, id="last one gone, service was read"),
        pytest.param(screening(A), screening(finding("iam.mfa", "u")), {"new": ["u"], "unknown": ["a"]}, id="service not read"),
        pytest.param(screening(A), screening(B, regions=("us-east-1",)), {"new": ["b"], "unknown": ["a"]}, id="region not read"),
        pytest.param(screening(A), screening(B, complete=False), {"new": ["b"], "unknown": ["a"]}, id="stopped early"),
        pytest.param(
            screening(A), screening(B, unread=(Unread(service="s3", region="ap-northeast-2", reason="denied"),)),
            {"new": ["b"], "unknown": ["a"]}, id="service unread in its region",
        ),
        pytest.param(
            screening(A, B), screening(B, unread=(Unread(service="s3", region="us-east-1", reason="denied"),)),
            {"fixed": ["a"], "unchanged": ["b"]}, id="unread elsewhere does not matter",
        ),
        pytest.param(screening(A), screening(B, finding(uid="a", status=Status.UNREAD)), {"new": ["b"], "unknown": ["a"]}, id="itself unread"),
        pytest.param(screening(A), screening(B, finding(uid="a", status=Status.MANUAL)), {"new": ["b"], "unknown": ["a"]}, id="now manual"),
        pytest.param(screening(A), screening(finding(uid="a", region="us-east-1")), {"new": ["a"], "fixed": ["a"]}, id="same name, other region"),
        pytest.param(screening(A), screening(finding(uid="a", severity=Severity.LOW, title="x")), {"unchanged": ["a"]}, id="other words, same finding"),
        pytest.param(screening(A, A), screening(A), {"unchanged": ["a"]}, id="doubles count once"),
    ],
)  # fmt: skip
def test_what_changed_since_the_previous_screening(
    previous: Screening | None, current: Screening, expected: dict[str, list[str]]
) -> None:
    assert kinds(previous, current) == expected


def suppression(**changes: object) -> Suppression:
    values: dict[str, object] = {"check": A.check, "reason": "known", "author": "kim", "expires": DAY}
    return Suppression(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "hidden"),
    [
        pytest.param(suppression(), True, id="its last day"),
        pytest.param(suppression(expires=DAY - timedelta(days=1)), False, id="the day after"),
        pytest.param(suppression(resource="a"), True, id="this resource"),
        pytest.param(suppression(resource="b"), False, id="another resource"),
        pytest.param(suppression(account="123456789012"), True, id="this account"),
        pytest.param(suppression(account="210987654321"), False, id="another account"),
        pytest.param(suppression(check="s3.other"), False, id="another check"),
    ],
)
def test_a_suppression_hides_what_it_names_until_its_day(given_: Suppression, hidden: bool) -> None:
    assert kinds(None, screening(A), given_) == ({"suppressed": ["a"]} if hidden else {"new": ["a"]})


def test_an_expired_suppression_is_named_only_where_it_would_have_hidden_something() -> None:
    expired = suppression(expires=date(2026, 1, 1))
    other = suppression(expires=date(2026, 1, 1), check="iam.other")
    assert difference(None, screening(A), [expired, other], on=DAY).lapsed == (expired,)


UIDS = st.sampled_from("abc")
FINDINGS = st.lists(
    st.builds(
        lambda check, uid, status, region: finding(check, uid, status=status, region=region),
        st.sampled_from(["s3.x", "s3.y", "iam.z"]), UIDS, st.sampled_from(Status), st.sampled_from(["ap-northeast-2", "us-east-1", "eu-west-1"]),
    ),
    max_size=8,
)  # fmt: skip
SCREENINGS = st.builds(lambda found, complete: screening(*found, complete=complete), FINDINGS, st.booleans())
SUPPRESSIONS = st.lists(st.builds(lambda check, days: suppression(check=check, expires=DAY + timedelta(days=days)), st.sampled_from(["s3.x", "iam.z"]), st.integers(-2, 2)), max_size=3)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(SCREENINGS, SCREENINGS, SUPPRESSIONS)
def test_every_failure_of_both_screenings_has_exactly_one_place(
    previous: Screening, current: Screening, suppressions: list[Suppression]
) -> None:
    change = difference(previous, current, suppressions, on=DAY)
    hidden = [item.finding for item in change.suppressed]
    now = sorted(f.identity for f in (*change.new, *change.unchanged, *hidden))
    assert now == sorted(failures(current))
    gone = sorted(f.identity for f in (*change.fixed, *change.unknown))
    assert gone == sorted(set(failures(previous)) - set(failures(current)))
    assert all(covers(item.suppression, item.finding) for item in change.suppressed)
    if not current.complete:
        passed = {f.identity for f in current.findings}
        assert all(f.identity in passed for f in change.fixed)


def test_services_are_counted_with_the_largest_first() -> None:
    found = count_by_service([finding("ec2.a"), finding("s3.a"), finding("s3_b")])
    assert [(service, counts[Severity.HIGH]) for service, counts in found.items()] == [("s3", 2), ("ec2", 1)]


def test_a_screening_survives_being_written_and_read() -> None:
    whole = screening(
        A, finding(uid="c", status=Status.PASS), unread=(Unread(service="s3", region="x", reason="y"),)
    )
    assert read_screening(json.dumps(document(whole)).encode()) == whole


def broken(**changes: object) -> bytes:
    return json.dumps({**document(screening(A)), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "part"),
    [
        pytest.param(b"", "Input data was truncated", id="empty"),
        pytest.param(b"[]", "object", id="a list"),
        pytest.param(b"\xff\xfe{}", "malformed", id="not UTF-8"),
        pytest.param(broken(findings=[{"check": "x"}]), "$.findings[0]", id="half a finding"),
        pytest.param(
            broken(findings=[{**document(A), "severity": "awful"}]), "severity", id="unknown severity"
        ),
        pytest.param(broken(started_at="2026-11-20T10:00:00"), "time zone", id="time without zone"),
        pytest.param(
            broken(finished_at="2020-01-01T00:00:00Z"), "before started_at", id="ends before it starts"
        ),
        pytest.param(broken(account="210987654321"), "123456789012", id="findings of another account"),
    ],
)
def test_what_is_no_screening_is_refused_with_the_place(data: bytes, part: str) -> None:
    with pytest.raises(FindingsUnreadable) as refused:
        read_screening(data, name="x.json")
    assert part in refused.value.message
    assert refused.value.message.startswith("x.json")


@pytest.mark.parametrize(
    "data",
    [b"{}", b'[{"check": "x"}]', b'[{"check": "x", "reason": " ", "author": "a", "expires": "2026-01-01"}]',
     b'[{"check": "x", "reason": "r", "author": "a", "expires": "soon"}]'],
)  # fmt: skip
def test_suppressions_need_reason_author_and_day(data: bytes) -> None:
    with pytest.raises(SuppressionsUnreadable):
        read_suppressions(data)


def test_findings_are_sorted_by_severity() -> None:
    found: list[Finding] = [finding(f"c.{s}", severity=s) for s in reversed(Severity)]
    assert [f.severity for f in difference(None, screening(*found), on=DAY).new] == list(Severity)
