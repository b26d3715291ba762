"""The monthly report: what is unread is never zero, nothing that a customer wrote becomes markup or formula."""
# Rows of tables stay on one line; texts are what users type.
# ruff: noqa: E501, RUF001

import asyncio
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from typer import Typer
from typer.testing import CliRunner

from fairlead.cli import support_monthly
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import ToolOffline
from fairlead.support.collect import Access, AccountUnreachable, open_account
from fairlead.support.findings import AccountsDiffer
from fairlead.support.model import Language, Severity
from fairlead.support.monthly import Month, MonthlyData, from_json, judging, render
from fairlead.support.monthly.cells import MAX_ROWS
from fairlead.support.monthly.collecting import Limits, Progress, RegionUnknown, collect_month
from fairlead.support.monthly.documents import COLUMNS, MonthlyUnreadable, to_csv, to_json
from fairlead.support.monthly.judging import Figure, Tone
from fairlead.support.monthly.model import WATCHED, Cause, Gap, Part, Risk, Row, State
from fairlead.support.monthly.month import MonthNotBegun, MonthUnreadable, TimezoneUnknown
from fairlead.support.monthly.page import to_html
from fairlead.support.monthly.reading import risk_of
from fairlead.support.monthly.words import CATEGORIES, CAUSE_WORDS, PART_WORDS, RULE_WORDS, WORDS, month_name
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.services import missing
from tests.support import months, small_aws, small_history
from tests.support.chromium import running_chromium
from tests.support.months import NOW, OCTOBER, RTL, SEOUL, VIRGINIA
from tests.support.screening_accounts import REGION, Seeder, statement
from tests.support.screenings import HOSTILE
from tests.support.test_screening_report import TAGS as SCREENING_TAGS
from tests.support.test_screening_report import Reader

ACME, GLOBEX = "111122223333", "444455556666"
TAGS = SCREENING_TAGS | {"bdi", "br", "footer", "nav", "small"}
FAST = Limits(deadline_s=300, lookups_per_s=1000)


# ── months ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-10", Month(2026, 10)),
        (" 2026-01 ", Month(2026, 1)),
        *((bad, None) for bad in ("2025-13", "2026-00", "2026-1", "26-10", "1999-12", "2101-01", "2026-10-01", "10월", "", "２０２６-10", "2026-10\x00", "x" * 500)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_month_is_a_year_and_a_month_or_a_clear_error(text: str, found: Month | None) -> None:
    if found:
        assert Month.parse(text) == found
        assert Month.parse(str(found)) == found
    else:
        with pytest.raises(MonthUnreadable) as refused:
            Month.parse(text)
        assert "2026-10" in str(refused.value.remedy)
        assert len(refused.value.message) < 100


@pytest.mark.parametrize(
    ("month", "zone", "start", "end"),
    [
        ("2026-10", "Asia/Seoul", "2026-09-30T15:00", "2026-10-31T15:00"),
        ("2026-10", "UTC", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("2026-03", "America/New_York", "2026-03-01T05:00", "2026-04-01T04:00"),  # clocks go forward
        ("2025-11", "America/New_York", "2025-11-01T04:00", "2025-12-01T05:00"),  # and back
        ("2017-10", "America/Asuncion", "2017-10-01T04:00", "2017-11-01T03:00"),  # there was no midnight
        ("2025-12", "Asia/Seoul", "2025-11-30T15:00", "2025-12-31T15:00"),
        ("2026-02", "Asia/Kolkata", "2026-01-31T18:30", "2026-02-28T18:30"),
    ],
)
def test_a_month_begins_and_ends_at_midnight_there(month: str, zone: str, start: str, end: str) -> None:
    span = Month.parse(month).span(NOW, zone)
    assert [at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") for at in (span.start, span.end)] == [start, end]
    assert not span.running
    assert span.start.utcoffset() == span.start.astimezone(ZoneInfo(zone)).utcoffset()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2007, 2025), st.integers(1, 12),
    st.sampled_from(("Asia/Seoul", "UTC", "America/Asuncion", "Europe/London", "Africa/Cairo", "Pacific/Apia", "Asia/Beirut", "Australia/Lord_Howe")),
)  # fmt: skip
def test_months_follow_each_other_without_gap_or_overlap(year: int, number: int, zone: str) -> None:
    month = Month(year, number)
    assert month.previous().span(NOW, zone).end.astimezone(UTC) == month.span(NOW, zone).start.astimezone(UTC)
    assert month.previous() < month


def test_the_running_month_ends_now_and_says_so() -> None:
    now = datetime(2026, 10, 20, 3, tzinfo=UTC)
    span = OCTOBER.span(now)
    assert (span.running, span.end) == (True, now)
    page = to_html(months.month(OCTOBER, now), Language.ENGLISH)
    assert "still going on: this report covers it until 2026-10-20 12:00 Asia/Seoul" in page


@pytest.mark.parametrize(
    "now", [datetime(2026, 9, 30, 14, 59, tzinfo=UTC), datetime(2026, 9, 30, 15, tzinfo=UTC)]
)
def test_a_month_that_has_not_begun_in_the_zone_is_refused(now: datetime) -> None:
    with pytest.raises(MonthNotBegun) as refused:
        OCTOBER.span(now)
    assert "2026-0" in str(refused.value.remedy)
    assert OCTOBER.span(now, "Pacific/Kiritimati").running  # there it has


@pytest.mark.parametrize(
    ("zone", "month"), [("Asia/Seoul", "2026-10"), ("UTC", "2026-09"), ("America/Los_Angeles", "2026-09")]
)
def test_the_default_month_is_the_last_one_that_is_over_there(zone: str, month: str) -> None:
    assert str(Month.before(datetime(2026, 10, 31, 15, 30, tzinfo=UTC), zone)) == month


@pytest.mark.parametrize(
    "name", ["", "Seoul", "../../etc/passwd", "/etc/localtime", "Asia", "x" * 400, "a\x00b"]
)
def test_a_zone_that_does_not_exist_is_a_clear_error(name: str) -> None:
    with pytest.raises(TimezoneUnknown):
        OCTOBER.span(NOW, name)


# ── what the data say ─────────────────────────────────────────────────────────────────────────────


def found_in(data: MonthlyData) -> set[str]:
    return {issue.rule.id for issue in judging.recommended(judging.issues(data))}


OLD, NEW = months.key(91), months.key(90)
CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "imdsv1": ({"instances": (months.instance(imdsv2=False),)}, {"imdsv1"}),
    "a bucket as it should be": ({"buckets": (months.bucket(),)}, set()),
    "a bucket in every way wrong": ({"buckets": (months.bucket(encryption="none", versioning="suspended", blocks_public=False),)}, {"bucket_in_the_clear", "bucket_without_versions", "bucket_not_blocked"}),
    "a database in every way wrong": ({"databases": (months.database(multi_az=False, encrypted=False, backup_days=0, deletion_protection=False, public=True),)}, {"public_database", "database_in_the_clear", "database_without_backups", "deletion_unprotected", "single_zone"}),
    "backups of six days": ({"databases": (months.database(backup_days=6),)}, {"few_backups"}),
    "backups of a week": ({"databases": (months.database(backup_days=7),)}, set()),
    "a cluster keeps its copies elsewhere": ({"databases": (months.database(in_cluster=True, multi_az=False, deletion_protection=False),)}, set()),
    "old runtime": ({"functions": (months.function(runtime="python3.8"),)}, {"old_runtime"}),
    "an image": ({"functions": (months.function(runtime=""),)}, set()),
    "volume": ({"volumes": (months.volume(encrypted=False),)}, {"volume_in_the_clear"}),
    "password without MFA": ({"users": (months.user(mfa=False),)}, {"user_without_mfa"}),
    "a machine needs no MFA": ({"users": (months.user(password=False, mfa=False),)}, set()),
    "a key of 91 days": ({"users": (months.user(keys=(OLD,)),)}, {"old_key"}),
    "a key of 90 days": ({"users": (months.user(keys=(NEW,)),)}, set()),
    "an old key that is off": ({"users": (months.user(keys=(replace(OLD, active=False),)),)}, set()),
    "root": ({"root": (months.root(mfa=False, keys=True),)}, {"root_without_mfa", "root_has_keys"}),
    "web ports": ({"open_rules": (months.rule(risk=Risk.WEB),)}, set()),
    "open": ({"open_rules": (months.rule(), months.rule(risk=Risk.EVERYTHING), months.rule(risk=Risk.OTHER))}, {"sensitive_port_open", "everything_open", "other_port_open"}),
    "advisor": ({"trusted_advisor": (months.check(), months.check(status="warning"), months.check(status="ok"))}, {"advisor_error", "advisor_warning"}),
    "an alarm": ({"alarms": (months.alarm(state="ALARM"), months.alarm())}, {"alarm_rings"}),
    "a deletion": ({"events": (months.event("DeleteUser"),)}, {"critical_event"}),
    "a refused deletion": ({"events": (months.event("DeleteUser", error="AccessDenied"),)}, set()),
    "a change": ({"events": (months.event("PutBucketPolicy"),)}, set()),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=CASES)
def test_issues_are_found_where_they_are_and_nowhere_else(rows: dict[str, Any], expected: set[str]) -> None:
    assert found_in(months.month(**rows)) == expected


@pytest.mark.parametrize(
    ("protocol", "first", "last", "risk"),
    [
        ("-1", 0, 65535, Risk.EVERYTHING),
        ("tcp", 0, 65535, Risk.EVERYTHING),
        ("udp", 0, 65535, Risk.EVERYTHING),
        ("6", 22, 22, Risk.SENSITIVE),
        ("tcp", 20, 25, Risk.SENSITIVE),
        ("tcp", 3000, 4000, Risk.SENSITIVE),
        ("tcp", 80, 80, Risk.WEB),
        ("tcp", 443, 443, Risk.WEB),
        ("tcp", 80, 81, Risk.OTHER),
        ("tcp", 80, 443, Risk.OTHER),
        ("tcp", 8080, 8080, Risk.OTHER),
        ("icmp", 0, 65535, Risk.OTHER),
        ("47", 0, 65535, Risk.OTHER),
    ],
)  # fmt: skip
def test_what_an_open_rule_opens(protocol: str, first: int, last: int, risk: Risk) -> None:
    assert risk_of(protocol, first, last) is risk


@pytest.mark.parametrize(
    ("good", "of", "percent", "tone"),
    [
        (0, 0, None, Tone.NONE),
        (90, 100, 90.0, Tone.OK),
        (899, 1000, 89.9, Tone.WARN),
        (7, 10, 70.0, Tone.WARN),
        (699, 1000, 69.9, Tone.BAD),
        (9999, 10000, 99.9, Tone.OK),  # never rounded up to all of them
        (0, 3, 0.0, Tone.BAD),
    ],
)
def test_rates_have_their_bounds(good: int, of: int, percent: float | None, tone: Tone) -> None:
    volumes = tuple(months.volume(f"v{n}", encrypted=n < good) for n in range(of))
    rate = judging.rates(months.month(volumes=volumes))["volumes_encrypted"]
    assert (rate.percent, rate.tone, rate.whole) == (percent, tone, True)


def without(data: MonthlyData, part: Part, cause: Cause = Cause.DENIED) -> MonthlyData:
    """`data` in which reading `part` failed everywhere."""
    gap = Gap(part=part, region="global", cause=cause, detail=f"{part.value} was denied (AccessDenied).")
    left = {key: regions for key, regions in data.read.items() if key is not part}
    rows: dict[str, Any] = {part.value: ()}
    return replace(data, read=left, gaps=(gap,), **rows)


def unknown(data: MonthlyData) -> set[str]:
    return {name for name, figure in judging.figures(data).items() if not figure.known}


FIGURES_OF: dict[str, Part] = {
    **{rule.id: rule.part for rule in judging.RULES},
    **{part.value: part for part in Part if part.value in judging.figures(months.empty())},
    "instances_running": Part.INSTANCES,
    "risky_rules": Part.OPEN_RULES,
    "events_critical": Part.EVENTS,
    "buckets_with_issues": Part.BUCKETS,
    "databases_with_issues": Part.DATABASES,
}


def test_every_figure_belongs_to_a_part() -> None:
    assert FIGURES_OF.keys() == judging.figures(months.empty()).keys()


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("language", Language)
def test_what_failed_is_unread_and_never_zero(part: Part, language: Language) -> None:
    customer = months.customer()[1]
    data = without(customer, part)
    assert data.state(part) is State.UNREAD
    assert unknown(data) == unknown(customer) | {name for name, of in FIGURES_OF.items() if of is part}
    document = json.loads(to_json(data))
    assert all(document["figures"][name]["value"] is None for name, of in FIGURES_OF.items() if of is part)
    assert document["states"][part.value] == "unread"
    text = Reader(to_html(data, language)).text
    assert f"{part.value} was denied" in text
    assert (
        PART_WORDS[language][part]
        in text.split(WORDS[language]["unread_note"].split("{}")[0])[1].split(".")[0]
    )
    assert f"{part.value} was denied" in to_csv(data)


@pytest.mark.parametrize("part", Part)
def test_nothing_found_in_what_was_partly_read_is_no_zero_either(part: Part) -> None:
    whole = months.month(root=(months.root(),))
    gap = Gap(part=part, region=VIRGINIA, cause=Cause.OUT_OF_TIME)
    data = replace(whole, gaps=(gap,), complete=False)
    assert data.state(part) is State.PARTLY
    assert not any(figure.known for name, figure in judging.figures(data).items() if FIGURES_OF[name] is part)
    assert "Nothing urgent was found." not in Reader(to_html(data, Language.ENGLISH)).text
    assert "Nothing urgent was found." in Reader(to_html(whole, Language.ENGLISH)).text


def test_what_was_partly_read_is_at_least_so_much() -> None:
    data = replace(
        months.month(volumes=(months.volume(encrypted=False),)),
        gaps=(Gap(part=Part.VOLUMES, region=VIRGINIA, cause=Cause.FAILED),),
    )
    assert judging.figures(data)["volume_in_the_clear"] == Figure(1, whole=False)
    assert judging.rates(data)["volumes_encrypted"].whole is False
    assert "partly read" in Reader(to_html(data, Language.ENGLISH)).text


def test_a_setting_that_could_not_be_read_counts_as_neither() -> None:
    reason = "s3:GetBucketEncryption was denied (AccessDenied)."
    buckets = tuple(months.bucket(f"b{n}", encryption=None, unread={"encryption": reason}) for n in range(3))
    data = months.month(buckets=(months.bucket(), *buckets))
    assert judging.figures(data)["bucket_in_the_clear"] == Figure(0, whole=False)
    assert judging.rates(data)["buckets_encrypted"].document() == {"percent": 100.0, "good": 1, "of": 1, "unread": 3, "whole": False, "tone": "ok"}  # fmt: skip
    text = Reader(to_html(data, Language.ENGLISH)).text
    assert "Encryption (resources: 3)" in text
    assert "3 not read" in text
    only = months.month(buckets=buckets)
    assert judging.figures(only)["bucket_in_the_clear"].value is None
    assert judging.rates(only)["buckets_encrypted"].tone is Tone.UNREAD


def test_what_nobody_tried_to_read_is_unread() -> None:
    assert {months.month(read={}).state(part) for part in Part} == {State.UNREAD}


def test_an_account_without_the_support_plan_is_told_so_and_nothing_is_missing() -> None:
    data = without(months.empty(), Part.TRUSTED_ADVISOR, Cause.SUPPORT_PLAN)
    assert data.state(Part.TRUSTED_ADVISOR) is State.UNAVAILABLE
    assert judging.figures(data)["advisor_error"].value is None
    text = Reader(to_html(data, Language.ENGLISH)).text
    assert "need Business or Enterprise support" in text
    assert "Nothing urgent was found." in text
    assert "Not everything could be read" not in text


def test_the_difference_to_the_month_before_is_shown_with_arrows() -> None:
    before, now = months.customer()
    moved = judging.change(before, now)
    assert (moved["instances"], moved["risky_rules"], moved["users"], moved["alarm_rings"]) == (2, 2, 0, 1)
    page = to_html(now, Language.KOREAN, before)
    assert "2026-09 대비 변화" in page
    assert re.search(r'class="moved fault"[^>]*>▲ 2<', page)  # two risky rules more
    assert "moved" not in to_html(now, Language.KOREAN).split("</style>")[1]


def test_numbers_that_are_not_known_are_not_compared() -> None:
    before, now = months.customer()
    assert judging.change(without(before, Part.INSTANCES), now)["instances"] is None
    assert set(judging.change(replace(before, regions=(SEOUL,)), now).values()) == {None}
    assert "read other regions" in to_html(now, Language.ENGLISH, replace(before, regions=(SEOUL,)))
    with pytest.raises(AccountsDiffer):
        render(now, language=Language.KOREAN, previous=replace(before, account=GLOBEX))


def test_events_are_counted_on_the_day_of_the_zone() -> None:
    late = months.event("DeleteUser", at=datetime(2026, 10, 4, 15, 30, tzinfo=UTC))  # the fifth in Seoul
    days = judging.by_day(months.month(events=(late, months.event("PutBucketPolicy", 31))))
    assert len(days) == 31
    assert {day.day: counts for day, counts in days.items() if any(counts)} == {5: (1, 0), 31: (0, 1)}


# ── how it is written ─────────────────────────────────────────────────────────────────────────────

HOSTILE_TEXTS = st.one_of(
    st.sampled_from((HOSTILE, RTL, "</style><style>*{display:none}", "=cmd|' /C calc'!A0", "'><svg onload=x>", "x" * 3000)),
    st.text(max_size=40),
    st.text(alphabet="<>\"'&/=`{}svgonloadscript", max_size=40),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(HOSTILE_TEXTS, st.sampled_from(Language))
def test_hostile_text_stays_text(text: str, language: Language) -> None:
    data = months.hostile(text)
    page = to_html(data, language, replace(data, month="2026-09"))
    read = Reader(page)
    assert read.tags <= TAGS
    assert not any(name.startswith("on") or name == "style" for name in read.attributes)
    assert all(address.startswith("#") for address in read.links)
    assert page.count("<style>") == 1
    page.encode("utf-8")


@settings(max_examples=50, deadline=None)
@given(HOSTILE_TEXTS.map(lambda text: text.replace("\r", "")))
def test_no_cell_of_the_table_is_a_formula_and_it_can_be_read_back(text: str) -> None:
    data = months.hostile(text)
    rows = list(csv.reader(io.StringIO(to_csv(data), newline="")))
    assert rows[0] == list(COLUMNS)
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert len(rows) == 1 + sum(len(data.rows(part)) for part in Part) + len(judging.blanks(data))
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip(" \n\t\u00a0\u3000\ufeff").startswith(tuple("=+-@＝＋－＠|%"))


@settings(max_examples=30, deadline=None)
@given(HOSTILE_TEXTS.filter(lambda text: text.isprintable()))
def test_the_document_can_be_read_back(text: str) -> None:
    data = months.hostile(text)
    assert from_json(to_json(data)) == data


def test_a_name_of_another_direction_stays_in_its_cell() -> None:
    page = to_html(months.month(buckets=(months.bucket(RTL),)), Language.KOREAN)
    assert f"<bdi>{RTL}</bdi>" in page


def test_the_page_needs_nothing_from_anywhere_and_its_policy_says_so() -> None:
    page = to_html(months.customer()[1], Language.ENGLISH)
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1])  # type: ignore[index]
    style = page.split("<style>")[1].split("</style>")[0]
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in Reader(page).tags
    assert not re.search(r"@import|url\(|https?://", page)


def test_chromium_shows_a_hostile_page_without_a_complaint_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_bytes(render(months.hostile(), language=Language.KOREAN)["report.html"])
    with running_chromium() as browser:
        page = browser.page((tmp_path / "r.html").as_uri(), stand_ins={}, width=390, height=800)
        page.until("document.readyState === 'complete' && document.querySelector('footer')")
        assert page.evaluate("document.querySelectorAll('img, script').length") == 0
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.cover')).color") == "rgb(255, 255, 255)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing stands out on a phone
        assert page.complaints == []


@pytest.mark.parametrize("language", Language)
def test_every_section_is_there(language: Language) -> None:
    before, now = months.customer()
    page = to_html(now, language, before)
    text, word = Reader(page).text, WORDS[language]
    for key in ("urgent_h", "encryption_h", "protection_h", "volumes_h", "bucket_issues_h", "root_h", "rules_h",
                "events_h", "alarms_h", "recommended_h", "unread_h", "footer_h", "caution"):  # fmt: skip
        assert word[key] in text, key
    for part in set(Part) - {Part.ROOT}:
        assert f'id="{part.value}"' in page
    for kind in WATCHED:
        assert kind.name in text
    assert month_name(2026, 10, language) in text
    assert "2026-10-01 00:00 – 2026-11-01 00:00 Asia/Seoul" in text
    assert page.count('class="card"') == 6
    for said in (
        "web-1",
        "acme-legacy",
        "aurora-postgresql 16.6",
        "nightly-export",
        "legacy-data",
        "lee.junho",
        "…M2PD",
        "::/0",
        "UDP 7000–7999",
        "temp-contractor",
        "AccessDenied",
        "orders-cpu-high",
        "cloudtrail:LookupEvents ×20",
        "botocore 1.44.5",
    ):
        assert said in text, said
    assert ("보안 그룹 - 제한 없는 특정 포트" in text) is (language is Language.KOREAN)


def test_ten_thousand_resources_make_a_bounded_page_and_a_whole_table() -> None:
    data = months.huge(10_000)
    files = render(data, language=Language.ENGLISH)
    assert len(files["report.html"]) < 700_000
    text = Reader(files["report.html"].decode()).text
    assert text.count(f"and {1_111 - MAX_ROWS:,} more: the CSV and the JSON hold them all.") == 6
    assert len(files["report.csv"].splitlines()) == 10_002  # a heading, and the root user
    assert sum(len(from_json(files["report.json"]).rows(part)) for part in Part) == 10_001


def test_the_worst_are_listed_before_a_table_is_cut() -> None:
    fine = tuple(months.bucket(f"a{n:03}") for n in range(MAX_ROWS + 20))
    page = to_html(
        months.month(buckets=(*fine, months.bucket("zz-open", blocks_public=False))), Language.KOREAN
    )
    section = page.split('id="buckets"')[1].split("</section>")[0]
    assert section.index("zz-open") < section.index("a000")
    assert section.count("<tr>") == MAX_ROWS + 1


def test_both_languages_have_the_same_words_for_everything() -> None:
    for table in (WORDS, RULE_WORDS, PART_WORDS, CAUSE_WORDS, CATEGORIES):
        assert table[Language.ENGLISH].keys() == table[Language.KOREAN].keys()
    assert RULE_WORDS[Language.KOREAN].keys() == {rule.id for rule in judging.RULES}
    assert PART_WORDS[Language.KOREAN].keys() == set(Part)
    assert CAUSE_WORDS[Language.KOREAN].keys() == set(Cause)
    for language in Language:
        assert all(text.strip() for text in WORDS[language].values())
        assert all(
            re.findall(r"\{", a) == re.findall(r"\{", b)
            for a, b in zip(WORDS[Language.ENGLISH].values(), WORDS[language].values(), strict=True)
        )
    severities = [rule.severity for rule in judging.RULES]
    assert severities == sorted(severities, key=list(Severity).index)


def test_the_files_are_what_their_names_say() -> None:
    files = render(months.empty(), language=Language.KOREAN)
    assert files.keys() == {"report.html", "report.json", "report.csv"}
    assert files["report.html"].startswith(b'<!doctype html>\n<html lang="ko">')
    assert files["report.csv"].startswith("\ufeff".encode())
    assert json.loads(files["report.json"])["format"] == "fairlead.monthly/1"


def bad(**changes: Any) -> bytes:
    document = json.loads(to_json(months.empty()))
    report = {k: changes.pop(k) for k in list(changes) if k in document["report"]}
    return json.dumps({**document, **changes, "report": {**document["report"], **report}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xfe", b"[]", b"{}", b"{" * 5000, bad(format="fairlead.monthly/9"), bad(month="2026-13"),
        bad(timezone="Mars/Olympus"), bad(start="2026-10-01T00:00:00"), bad(end="2026-09-01T00:00:00+09:00"),
        bad(finished_at="2020-01-01T00:00:00Z"), bad(instances=[{"uid": 7}]), bad(gaps=[{"part": "spaceships"}]), b'{"format": "fairlead.monthly/1", "report": null}',
    ],
    ids=range(14),
)  # fmt: skip
def test_a_file_that_is_no_report_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(MonthlyUnreadable, match=r"last-month\.json") as refused:
        from_json(data, name="last-month.json")
    assert refused.value.remedy


# ── reading an account ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    try:
        with start_sandbox(tmp_path_factory.mktemp("monthly"), latency_ms=0.0) as running:
            for account, word in ((ACME, "acme"), (GLOBEX, "globex")):
                seed = Seeder(running, account, word)
                seed.all()
                history(seed)
            yield running
    except ToolOffline as error:
        missing(f"the sandbox ({error.message})")


def history(seed: Seeder) -> None:
    """An instance, and what the report has to find in the month: deletions, keys, more rules than a page holds."""
    ec2, s3, iam = seed("ec2"), seed("s3"), seed("iam")
    image = ec2.describe_images(Owners=["amazon"])["Images"]
    ec2.run_instances(
        ImageId=image[0]["ImageId"] if image else "ami-12345678", MinCount=1, MaxCount=1, InstanceType="t3.micro",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": seed.name(HOSTILE)}]}],
    )  # fmt: skip
    s3.create_bucket(Bucket=seed.name("gone"), CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.delete_bucket(Bucket=seed.name("gone"))
    iam.create_user(UserName=seed.name("left"))
    iam.delete_user(UserName=seed.name("left"))
    iam.create_access_key(UserName=seed.name("machine"))
    iam.put_user_policy(
        UserName=seed.name("machine"), PolicyName="own",
        PolicyDocument=statement(Effect="Allow", Action="s3:ListAllMyBuckets", Resource="*"),
    )  # fmt: skip
    group = ec2.create_security_group(GroupName=seed.name("many"), Description="many")["GroupId"]
    for port in range(60):
        rule = {
            "IpProtocol": "tcp",
            "FromPort": 5000 + port,
            "ToPort": 5000 + port,
            "IpRanges": [{"CidrIp": "198.51.100.0/24"}],
        }
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    everything = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0", "Description": "oops"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[everything])


def access(url: str, account: str = ACME) -> Access:
    return Access(
        access_key_id=account,
        secret_access_key=SecretStr("sandbox"),
        endpoint_url=url,
        region=REGION,
        attempts=2,
    )


async def collected(url: str, account: str = ACME, **more: Any) -> MonthlyData:
    now = utc_now()
    options: dict[str, Any] = {"regions": (REGION,), "timezone": "UTC", "limits": FAST} | more
    month = options.pop("month", Month(now.year, now.month))
    async with open_account(access(url, account)) as opened:
        return await collect_month(opened, month, **options)


def set_faults(sandbox: SandboxProcess, *faults: dict[str, object]) -> None:
    httpx2.put(
        f"{sandbox.endpoint_url}/_fairlead/faults", json={"faults": list(faults)}, timeout=60
    ).raise_for_status()


@pytest.fixture
def faulty(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    yield sandbox
    set_faults(sandbox)


@dataclass(frozen=True)
class Two:
    """Two customers, read side by side."""

    acme: MonthlyData
    globex: MonthlyData
    told: list[Progress]


@pytest.fixture(scope="module")
def two(sandbox: SandboxProcess) -> Two:
    told: list[Progress] = []

    async def both() -> tuple[MonthlyData, MonthlyData]:
        return await asyncio.gather(
            collected(sandbox.endpoint_url, ACME, progress=told.append),
            collected(sandbox.endpoint_url, GLOBEX),
        )

    acme, globex = asyncio.run(both())
    return Two(acme, globex, told)


def test_a_seeded_account_is_read_whole(two: Two) -> None:
    data = two.acme
    assert {gap.part for gap in data.gaps} == {Part.TRUSTED_ADVISOR}  # which the sandbox does not have
    assert unknown(data) == {"advisor_error", "advisor_warning", "imdsv1"}  # nor says anything about IMDS
    counted = {name: figure.value for name, figure in judging.figures(data).items() if figure.value}
    assert counted == {
        "instances": 1, "instances_running": 1, "buckets": 2, "databases": 2, "functions": 2, "volumes": 3, "users": 3,
        "risky_rules": 2, "events": 69, "events_critical": 2, "alarms": 2, "buckets_with_issues": 1, "databases_with_issues": 1,
        "everything_open": 1, "public_database": 1, "user_without_mfa": 1, "sensitive_port_open": 1,
        "database_in_the_clear": 1, "database_without_backups": 1, "critical_event": 2, "alarm_rings": 1, "bucket_not_blocked": 1,
        "volume_in_the_clear": 2, "old_runtime": 1, "deletion_unprotected": 1, "single_zone": 1, "bucket_without_versions": 1,
    }  # fmt: skip
    assert data.calls["cloudtrail:LookupEvents"] == 11  # ten names, and one of them on two pages
    assert data.complete
    assert data.running


def test_progress_never_runs_backwards_and_ends_at_the_end(two: Two) -> None:
    percents = [progress.percent for progress in two.told]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert two.told[-1].total == len(two.told)


def test_events_without_a_region_are_found_where_aws_keeps_them(two: Two) -> None:
    found = {(event.name, event.region) for event in two.acme.events}
    assert found == {
        ("DeleteBucket", REGION), ("PutBucketPolicy", REGION), ("AuthorizeSecurityGroupIngress", REGION),
        ("DeleteUser", VIRGINIA), ("CreateAccessKey", VIRGINIA), ("PutUserPolicy", VIRGINIA),
    }  # fmt: skip
    assert [event.resources for event in two.acme.events if event.name == "DeleteBucket"] == [("acme-gone",)]
    assert {event.at.tzinfo for event in two.acme.events} == {UTC}


def test_two_customers_side_by_side_see_nothing_of_each_other_and_nobody_sees_a_secret(two: Two) -> None:
    for own, other, foreign in ((two.acme, "globex", GLOBEX), (two.globex, "acme", ACME)):
        for content in render(own, language=Language.ENGLISH).values():
            assert other not in content.decode()
            assert foreign not in content.decode()
            assert "VALUE-hunter2" not in content.decode()
        assert not re.search(r"A[KS]IA\w{8}", to_csv(own))  # of the ids of keys, the end alone
        assert [key.id[0] for user in own.users for key in user.keys or ()] == ["…"]
        assert Reader(to_html(own, Language.ENGLISH)).tags <= TAGS  # the instance has a hostile name


async def test_a_failing_part_is_unread_and_stops_no_other(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "throttle", "operation": "DescribeVolumes", "count": 0})
    data = await collected(faulty.endpoint_url)
    assert data.state(Part.VOLUMES) is State.UNREAD
    assert {part for part in Part if data.state(part) is State.READ} == set(Part) - {
        Part.VOLUMES,
        Part.TRUSTED_ADVISOR,
    }
    gap = next(gap for gap in data.gaps if gap.part is Part.VOLUMES)
    assert (gap.region, gap.cause) == (REGION, Cause.FAILED)
    assert "throttled" in gap.detail
    assert judging.rates(data)["volumes_encrypted"].tone is Tone.UNREAD


async def test_out_of_time_keeps_what_was_read_and_names_the_rest(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeInstances", "seconds": 20, "count": 0})
    data = await collected(faulty.endpoint_url, limits=replace(FAST, deadline_s=8))
    assert not data.complete
    assert data.state(Part.INSTANCES) is State.UNREAD
    assert [gap.cause for gap in data.gaps if gap.part is Part.INSTANCES] == [Cause.OUT_OF_TIME]
    assert len(data.volumes) == 3
    assert data.finished_at - data.started_at < timedelta(seconds=18)


async def test_pages_that_came_before_the_end_of_time_count() -> None:
    with small_aws.small_aws(volumes=900, stall_at=500) as aws:
        data = await collected(
            aws.url, small_aws.ACCOUNT, regions=("us-east-1",), limits=replace(FAST, deadline_s=8)
        )
    assert len(data.volumes) == 500
    assert data.state(Part.VOLUMES) is State.PARTLY
    assert data.state(Part.INSTANCES) is State.UNREAD  # denied there
    assert "SECRET-WORDS" not in to_json(data).decode()


async def test_a_stop_ends_it_with_what_there_is(faulty: SandboxProcess) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeInstances", "seconds": 30, "count": 0})
    stop = asyncio.Event()

    def look(progress: Progress) -> None:
        if progress.done == progress.total - 1:
            stop.set()

    data = await collected(faulty.endpoint_url, progress=look, stop=stop)
    assert not data.complete
    assert [gap.cause for gap in data.gaps if gap.part is Part.INSTANCES] == [Cause.CANCELLED]


async def test_who_leaves_or_fails_while_told_leaves_no_work_behind(sandbox: SandboxProcess) -> None:
    before = asyncio.all_tasks()

    async def fail(_: Progress) -> None:
        raise RuntimeError("the run was cancelled")

    with pytest.raises(RuntimeError, match="the run was cancelled"):
        await collected(sandbox.endpoint_url, progress=fail)
    begun = asyncio.Event()
    task = asyncio.create_task(collected(sandbox.endpoint_url, progress=lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


async def test_regions_that_are_off_or_unknown_are_told() -> None:
    with small_aws.small_aws() as aws:
        data = await collected(aws.url, small_aws.ACCOUNT, regions=())
        assert data.regions == ("ap-northeast-2", "us-east-1")
        assert data.regions_off == ("af-south-1",)
        assert not [gap for gap in data.gaps if gap.cause is Cause.REGION_OFF]  # nobody asked for it
        asked = await collected(aws.url, small_aws.ACCOUNT, regions=("us-east-1", "af-south-1"))
        assert {gap.region for gap in asked.gaps if gap.cause is Cause.REGION_OFF} == {"af-south-1"}
        assert asked.state(Part.VOLUMES) is State.PARTLY
        for regions in (("mars-north-1",), ("af-south-1",)):
            with pytest.raises(RegionUnknown) as refused:
                await collected(aws.url, small_aws.ACCOUNT, regions=regions)
            assert refused.value.remedy


# ── the past ──────────────────────────────────────────────────────────────────────────────────────


async def past_of(past: small_history.Past, month: Month = OCTOBER, **more: Any) -> MonthlyData:
    with small_history.small_history(past) as url:
        options = {"regions": (SEOUL,), "timezone": "Asia/Seoul", "now": NOW, "month": month} | more
        return await collected(url, small_history.ACCOUNT, **options)


def at(day: int, hour: int = 12, month: int = 10) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=ZoneInfo("Asia/Seoul"))


async def test_only_events_of_the_month_and_the_service_count_on_all_pages() -> None:
    past = small_history.Past()
    for number in range(120):
        past.happened(SEOUL, "DeleteBucket", "s3.amazonaws.com", at(1 + number % 31))
    past.happened(SEOUL, "DeleteBucket", "s3.amazonaws.com", at(1, 0, 11))  # midnight is November
    past.happened(SEOUL, "DeleteBucket", "s3.amazonaws.com", at(30, 23, 9))
    past.happened(VIRGINIA, "DeleteBucket", "s3.amazonaws.com", at(9))  # a region that was not asked for
    past.happened(VIRGINIA, "DeleteUser", "cognito-idp.amazonaws.com", at(9))
    past.happened(VIRGINIA, "DeleteUser", "iam.amazonaws.com", at(9))
    past.happened(SEOUL, "DeleteUser", "iam.amazonaws.com", at(9))
    data = await past_of(past)
    assert len([event for event in data.events if event.name == "DeleteBucket"]) == 120
    assert [(e.name, e.region) for e in data.events if e.name != "DeleteBucket"] == [("DeleteUser", VIRGINIA)]
    lookups = [(region, body) for region, operation, body in past.asked if operation == "LookupEvents"]
    assert {body["MaxResults"] for _, body in lookups} == {50}
    assert len(lookups) == 10 + 2
    assert data.state(Part.EVENTS) is State.READ


RECORDS: tuple[tuple[Any, str, str], ...] = (
    (
        {"userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/Admin/kim"}},
        "Admin/kim",
        "",
    ),
    ({"userIdentity": {"type": "Root", "arn": "arn:aws:iam::1:root"}}, "root", ""),
    ({"errorCode": "AccessDenied", "userIdentity": None}, "kim", "AccessDenied"),
    ("not JSON", "kim", ""),
    ("[1]", "kim", ""),
    ({"userIdentity": "text", "sourceIPAddress": {"odd": 1}}, "kim", ""),
)


async def test_whatever_cloudtrail_recorded_the_event_is_told() -> None:
    past = small_history.Past()
    for day, (record, _, _) in enumerate(RECORDS, start=1):
        past.happened(SEOUL, "PutBucketPolicy", "s3.amazonaws.com", at(day), record=record)
    found = {event.at.astimezone(ZoneInfo("Asia/Seoul")).day: event for event in (await past_of(past)).events}
    assert [(found[day].user, found[day].error) for day in sorted(found)] == [said[1:] for said in RECORDS]


async def test_a_month_that_cloudtrail_has_forgotten_is_unread_and_not_asked_for() -> None:
    past = small_history.Past()
    data = await past_of(past, Month(2026, 6))
    assert data.state(Part.EVENTS) is State.UNREAD
    assert {gap.cause for gap in data.gaps if gap.part is Part.EVENTS} == {Cause.HISTORY_ENDS}
    assert not [operation for _, operation, _ in past.asked if operation == "LookupEvents"]


async def test_of_a_month_that_cloudtrail_half_remembers_the_rest_is_told() -> None:
    past = small_history.Past()
    past.happened(SEOUL, "DeleteBucket", "s3.amazonaws.com", at(20, month=8))
    data = await past_of(past, Month(2026, 8))
    assert len(data.events) == 1
    assert data.state(Part.EVENTS) is State.PARTLY
    starts = {body["StartTime"] for _, operation, body in past.asked if operation == "LookupEvents"}
    assert min(starts) >= (NOW - timedelta(days=90)).timestamp()
    assert "2026-08-05" in next(gap.detail for gap in data.gaps if gap.cause is Cause.HISTORY_ENDS)


async def test_trusted_advisor_is_read_by_category_with_korean_names() -> None:
    past = small_history.Past()
    data = await past_of(past)
    assert len(data.trusted_advisor) == small_history.CHECKS
    assert sorted(len(body["checkIds"]) for _, name, body in past.asked if name.endswith("Summaries")) == [
        50,
        100,
    ]
    assert {region for region, name, _ in past.asked if "Advisor" in name} == {VIRGINIA}
    figures = judging.figures(data)
    assert (figures["advisor_error"].value, figures["advisor_warning"].value) == (1, 2)
    page = Reader(to_html(data, Language.KOREAN)).text
    assert "검사 0" in page
    assert "내결함성" in page


async def test_an_account_without_support_plan_has_no_trusted_advisor() -> None:
    data = await past_of(small_history.Past(support_plan=False))
    assert data.state(Part.TRUSTED_ADVISOR) is State.UNAVAILABLE
    assert data.state(Part.USERS) is State.UNREAD  # denied by this AWS


async def test_lookups_keep_to_the_pace_that_aws_allows() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await past_of(small_history.Past(), limits=replace(FAST, lookups_per_s=20))
    assert 5 / 20 <= loop.time() - began < 30  # two regions side by side, five names each


# ── the command ───────────────────────────────────────────────────────────────────────────────────


def environment(folder: Path) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACME,
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_DEFAULT_REGION": REGION,
    }


def arguments(url: str, *more: object) -> list[str]:
    month = utc_now().strftime("%Y-%m")
    return ["--endpoint-url", url, "--region", REGION, "--timezone", "UTC", "--month", month, *map(str, more)]


def command(url: str, folder: Path, *more: object) -> tuple[int, str]:
    app = Typer()
    support_monthly.register(app)
    result = CliRunner(env=environment(folder)).invoke(app, arguments(url, *more))
    if isinstance(result.exception, FairleadError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def test_the_command_writes_the_report_and_compares_with_the_one_before(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    code, text = command(sandbox.endpoint_url, tmp_path, "--json", "--out", tmp_path / "r.csv")
    assert code == 0
    assert (tmp_path / "r.csv").read_text("utf-8").startswith('\ufeff"account","month"')
    before = json.loads(text)
    before["report"] |= {"month": "2026-01", "volumes": []}
    (tmp_path / "before.json").write_text(json.dumps(before), "utf-8")
    out = tmp_path / "new" / "report.html"
    code, text = command(
        sandbox.endpoint_url,
        tmp_path,
        "--out",
        out,
        "--previous",
        tmp_path / "before.json",
        "--language",
        "en",
    )
    assert code == 0
    assert "A user with a password has no MFA" in text
    assert "not read: Trusted Advisor" in text
    page = out.read_text("utf-8")
    assert "Changes since 2026-01" in page
    assert "EBS volumes" in page.split('id="changes"')[1]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--month", "2025-13"), "support.month_unreadable"),
        (("--month", "2099-01"), "support.month_not_begun"),
        (("--timezone", "Seoul"), "support.timezone_unknown"),
        (("--previous", "/nonexistent.json"), "cli.file_unreadable"),
        (("--out", "/dev/null/report.html"), "cli.file_unwritable"),
    ],
)
def test_bad_input_is_a_clear_error(tmp_path: Path, more: tuple[str, ...], code: str) -> None:
    with pytest.raises(FairleadError) as refused:
        command("http://127.0.0.1:9", tmp_path, *more)
    assert refused.value.code == code
    assert refused.value.remedy


def test_the_command_refuses_another_account(sandbox: SandboxProcess, tmp_path: Path) -> None:
    with pytest.raises(AccountUnreachable, match=GLOBEX):
        command(sandbox.endpoint_url, tmp_path, "--account", GLOBEX)


COMMAND = "import typer; from fairlead.cli import support_monthly as s; a = typer.Typer(); s.register(a); a()"


def test_ctrl_c_ends_the_command_with_what_it_has(faulty: SandboxProcess, tmp_path: Path) -> None:
    set_faults(faulty, {"kind": "latency", "operation": "DescribeInstances", "seconds": 8, "count": 0})
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments(faulty.endpoint_url, "--json")],
        env={**os.environ, **environment(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        while " 91 %" not in (line := running.stderr.readline()):  # all but the instances
            assert line
        running.send_signal(signal.SIGINT)
        text, _ = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130
    found = json.loads(text)
    assert found["report"]["complete"] is False
    assert found["figures"]["instances"] == {"value": None, "whole": False}
    assert found["figures"]["volumes"] == {"value": 3, "whole": True}


def test_every_field_of_a_row_reaches_the_table_or_is_common() -> None:
    kinds = {type(row) for part in Part for row in months.customer()[1].rows(part)}
    assert len(kinds) == len(Part)
    table = to_csv(months.customer()[1])
    common = {field.name for field in fields(Row)}
    for kind in kinds:
        for field in fields(kind):
            assert field.name in common or f"{field.name}=" in table


def test_the_reference_names_everything_that_the_document_holds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "monthly-report.md").read_text("utf-8")
    data = months.customer()[1]
    document = json.loads(to_json(data))
    names = {
        *document,
        *document["figures"],
        *document["rates"],
        *document["states"],
        *(cause.value for cause in Cause),
    }
    names |= (
        {field.name for field in fields(MonthlyData)}
        | {kind.name for kind in WATCHED}
        | {risk.value for risk in Risk}
    )
    names |= {field.name for part in Part for row in data.rows(part) for field in fields(row)} | set(COLUMNS)
    assert not {name for name in names if f"`{name}`" not in page}
    for rule in judging.RULES:
        assert f"| `{rule.id}` | {rule.severity.value} | `{rule.part.value}` |" in page
