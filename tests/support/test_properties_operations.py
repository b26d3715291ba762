"""Correctness properties of jobs: reports and their attachment, errors, the audit record."""
# Strategies stay on one line.
# ruff: noqa: E501

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import OutcomeUnknown
from fairlead.kernel.runs import RunStatus
from fairlead.kernel.settings import Settings
from fairlead.support import links
from fairlead.support.collect import AccountUnreachable, ReadDenied, ReadFailed
from fairlead.support.errors_words import WORDS, category
from fairlead.support.findings import failures
from fairlead.support.job_routes import JobsDoor
from fairlead.support.model import Customer, Finding, JobKind, Language, Resource, Screening, Severity, Status
from fairlead.support.refusals import AccessRefused
from fairlead.support.screenings.port import ScreeningScopeInvalid
from tests.services import fresh_database
from tests.support.desk import INSTALLATION, PROJECT, Desk, opened_desk, serving
from tests.support.rehearsal import Fail, Found, Script, finding, progress, rehearsed

# The worker's threads draw random numbers while examples are made; no example depends on them.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
HOSTILE = (
    "<script>alert(1)</script>",
    '" onload="x',
    "javascript:alert(1)",
    "=HYPERLINK(1)",
    "]]>",
    "\u202e",
    "&lt;",
)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
names = st.one_of(st.sampled_from(HOSTILE), words)


@dataclass
class Stage:
    """A desk with a worker at work that does what `script` says, and its HTTP door."""

    desk: Desk
    script: Script
    door: JobsDoor
    client: httpx2.Client
    accounts: Iterator[int]

    def customer(self) -> str:
        """The account of a new customer."""
        account = str(next(self.accounts))
        self.desk.with_customers(
            Customer(project_id=PROJECT, account=account, name=account, role_name=None, external_id="x" * 8)
        )
        return account


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("properties")
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database("sqlite", folder, request))
        desk = stack.enter_context(opened_desk(folder, url, Settings(data_dir=folder / "data")))
        door, client = stack.enter_context(serving(desk))
        script = Script()
        stack.enter_context(rehearsed(desk, script))
        yield Stage(desk, script, door, client, count(100_000_000_001))


@st.composite
def found(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What differs between findings."""
    one = st.fixed_dictionaries(
        {
            "check": st.sampled_from(["s3.public", "ec2.open", "iam.mfa"]),
            "title": names,
            "severity": st.sampled_from(Severity),
            "status": st.sampled_from(Status),
            "detail": names,
            "resource": st.builds(
                Resource,
                uid=names.filter(bool),
                type=st.just("AWS::S3::Bucket"),
                region=st.sampled_from(["ap-northeast-2", "global"]),
                name=names,
                tags=st.dictionaries(names, names, max_size=2),
            ),
        }
    )
    return draw(st.lists(one, max_size=6))


class Page(HTMLParser):
    """What a page would do."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "form", "base"):
            self.bad.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("href", "src") and not str(value).startswith("https://")):
                self.bad.append(f"{tag} {name}={value}")


@settings(max_examples=6, deadline=None, suppress_health_check=SLOW)
@given(
    given_findings=found(),
    language=st.sampled_from(Language),
    ticket=st.from_regex(r"[1-9][0-9]{0,9}", fullmatch=True),
)
def test_property_5_report_generation_and_attachment(
    stage: Stage, given_findings: list[dict[str, Any]], language: Language, ticket: str
) -> None:
    """Whatever is found, the ticket gets one report that holds all of it, opens by its link, and does no harm."""
    desk, account = stage.desk, stage.customer()
    all_: list[Finding] = [finding(account, **one) for one in given_findings]
    stage.script.acts = [progress(50), Found(tuple(all_))]
    job = desk.submit(JobKind.SCREEN, account, language=language, ticket=ticket)
    assert desk.ended(job).status is RunStatus.SUCCEEDED
    (report,) = desk.told(job, "report")
    assert report["url"] == links.path_of(job, "report.html")
    record = desk.record(job)
    assert (record.account, record.ticket, record.installation) == (account, ticket, INSTALLATION)

    def opened(file: str) -> str:
        now = utc_now()
        link = links.Link(
            record=job,
            file=file,
            actor="zendesk:1:2",
            expires_at=links.lifetime(now, 60, now.replace(year=2100)),
        )
        answer = stage.client.get(links.sign(stage.door.link_key, link))
        assert answer.status_code == 200
        assert "sandbox" in answer.headers["content-security-policy"]
        return answer.text

    page = opened("report.html")
    assert Page(page).bad == []
    assert f'lang="{language.value}"' in page
    assert account in page
    document = json.loads(opened("report.json"))
    assert len(document["screening"]["findings"]) == len(all_)
    rows = list(csv.reader(io.StringIO(opened("report.csv").removeprefix("\ufeff"))))
    assert len(rows) == 1 + len(all_)
    assert all(not cell.lstrip().startswith(("=", "+", "@")) for row in rows[1:] for cell in row)
    now = utc_now()
    whole = Screening(
        account=account, engine="builtin", started_at=now, finished_at=now, regions=(), findings=tuple(all_)
    )
    assert report["counts"] == {"new": len(failures(whole)), "fixed": 0, "unchanged": 0}
    assert report["summary"]


SECRET = "hunter2-AKIAIOSFODNN7EXAMPLE"
EXPECTED = (
    AccessRefused, AccountUnreachable, ReadDenied, ReadFailed, OutcomeUnknown, ScreeningScopeInvalid,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(
    error=st.one_of(
        st.sampled_from(EXPECTED).map(lambda kind: kind("It did not work.", remedy="Do something.")),
        st.sampled_from([ValueError, KeyError, OSError, RuntimeError, TypeError]).map(
            lambda kind: kind(SECRET)
        ),
    ),
    where=st.sampled_from(["open", "plan", "run"]),
    language=st.sampled_from(Language),
)
def test_property_6_error_handling_and_resilience(
    stage: Stage, error: Exception, where: str, language: Language
) -> None:
    """Whatever fails wherever: the job ends with what to do, leaves nothing, tells no secret, harms no other."""
    desk, script, account = stage.desk, stage.script, stage.customer()
    script.open_error = error if where == "open" else None
    script.plan_error = error if where == "plan" else None
    script.acts = [progress(10), Found((finding(account),)), Fail(error)]
    try:
        job = desk.submit(JobKind.SCREEN, account, language=language)
        run = desk.ended(job)
    finally:
        script.open_error = script.plan_error = None
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    expected = error.code if isinstance(error, FairleadError) else "run.internal"
    said = WORDS[language][category(expected)]
    assert (run.error["code"], run.error["title"]) == (expected, said.title)
    assert run.error["detail"]
    assert run.error["remedy"]
    events = desk.events(job)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "run.failed"
    assert SECRET not in str(events)
    assert desk.files(job) == {}
    assert job not in [record.id for record in desk.records()]


def test_after_all_these_failures_the_worker_still_works(stage: Stage) -> None:
    """What property 6 ends with: run after it, on the same worker."""
    stage.script.acts = [Found((finding(account := stage.customer()),))]
    job = stage.desk.submit(JobKind.SCREEN, account)
    assert stage.desk.told_when_ended(job)["counts"]["new"] == 1


actions = st.lists(
    st.tuples(
        st.sampled_from(["ask", "screen", "view", "fail"]),
        st.sampled_from(["4711", "4712"]),
        st.sampled_from(["zendesk:360001234567:11", "zendesk:360001234567:12"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=6, deadline=None, suppress_health_check=SLOW)
@given(done=actions)
def test_property_9_audit_logging(stage: Stage, done: list[tuple[str, str, str]]) -> None:
    """Everything that anybody does is recorded once with agent, ticket and account, and never what was said."""
    desk, account = stage.desk, stage.customer()
    with desk.database.reading() as conn:
        newest = audit.newest(conn)
    expected, viewable = [], None
    for what, ticket, actor in done:
        if what == "view":
            if viewable is None:
                continue
            job, of_ticket = viewable
            now = utc_now()
            link = links.Link(record=job, file="report.html", actor=actor, expires_at=now.replace(year=2100))
            assert stage.client.get(links.sign(stage.door.link_key, link)).status_code == 200
            expected.append(("support.report_viewed", actor, of_ticket))
            continue
        stage.script.acts = [Fail(ReadFailed("no"))] if what == "fail" else []
        kind = JobKind.ASK if what == "ask" else JobKind.SCREEN
        details: dict[str, Any] = {"text": "my secret question"} if what == "ask" else {}
        job = desk.submit(kind, account, ticket=ticket, actor=actor, **details)
        desk.ended(job)
        expected.append((kind.operation, actor, ticket))
        if what == "screen":
            viewable = (job, ticket)
    with desk.database.reading() as conn:
        entries = [e for e in audit.entries(conn, limit=1000) if newest is None or e.seq > newest.seq]
        assert audit.verify(conn) is None
    ours = [e for e in reversed(entries) if e.action != "support.customer_put"]
    assert [(e.action, e.actor, e.data["ticket"]) for e in ours] == expected
    assert {e.data["account"] for e in ours} <= {account}
    assert "secret question" not in str(entries)
