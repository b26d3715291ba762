"""Accepting what a screening found, in the packaged Zendesk app in real Chromium; and answers that say things once."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import json
from datetime import date, timedelta
from typing import Any

import pytest

from tests.support.chromium import Page
from tests.support.zendesk_page import APP, address, browser, ticket

__all__ = ["address", "browser", "ticket"]

DOC = f"{APP}.document"
DIALOG = f"{DOC}.querySelector('dialog.acceptance')"
HOSTILE = "<img src=x onerror=parent.pwned=1>"
FAILING = [
    {"check": "ec2.open_ssh", "title": f"SSH is open to the world {HOSTILE}", "severity": "critical", "count": 2,
     "resources": [{"uid": "sg-1", "name": "bastion", "region": "ap-northeast-2"}, {"uid": "sg-2", "name": HOSTILE, "region": "us-east-1"}]},
    {"check": "s3.public", "title": "Public bucket", "severity": "high", "count": 1,
     "resources": [{"uid": "arn:aws:s3:::web", "name": "web", "region": "global"}]},
]  # fmt: skip
KEPT = [
    {"id": "a1", "account": "111122223333", "check": "rds.public", "resource": None, "reason": f"Moves in spring {HOSTILE}", "author": "zendesk:1:2", "expires": "2027-01-31", "lapsed": False},
    {"id": "a2", "account": None, "check": "iam.root_key", "resource": None, "reason": "For every account", "author": "olga", "expires": "2026-01-31", "lapsed": True},
]  # fmt: skip


def serve(page: Page, *, failing: Any = FAILING, kept: Any = KEPT, refusal: str = "") -> None:
    """What the server will answer over HTTP."""
    answers = {"findings": {"items": failing}, "suppressions": {"items": kept}}
    problem = {"detail": refusal, "remedy": "Ask a lead."}
    page.evaluate(
        f"""{APP}.calls = []; {APP}.fetch = async (url, {{method, headers, body}}) => {{
  const name = url.pathname.split('/')[3];
  {APP}.calls.push({{method, path: url.pathname + url.search, proof: headers.Authorization, language: headers['Accept-Language'], body: body && JSON.parse(body)}});
  const answers = {json.dumps(answers)};
  if (method === 'GET') return new {APP}.Response(JSON.stringify(answers[name] ?? {{account: null, choices: []}}));
  return {json.dumps(bool(refusal))} ? new {APP}.Response({json.dumps(json.dumps(problem))}, {{status: 403}}) : new {APP}.Response(null, {{status: 204}});
}}"""
    )


def hello(page: Page, role: str) -> None:
    greeting = {"account": "111122223333", "organization": "1", "role": role}
    page.evaluate(f"{APP}.wire.emit('hello', {json.dumps(greeting)})")


def report(page: Page, kind: str = "screening", record: str = "'0a1b'") -> None:
    data = f"{{kind: '{kind}', record: {record}, url: '/support/reports/0a1b/report.html', expires_at: '2099-01-01T00:00:00Z', counts: {{new: 3}}}}"
    page.evaluate(f"{APP}.wire.emit('job', {{job: 'j', seq: 1, kind: 'accepted', data: {{what: 'screen'}}}})")
    page.evaluate(f"{APP}.wire.emit('job', {{job: 'j', seq: 2, kind: 'report', data: {data}}})")
    page.until(f"{DOC}.querySelector('.report .primary')")


def buttons(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        f"[...{DOC}.querySelectorAll('.report .button')].map((b) => b.innerText.trim())"
    )
    return found


def opened(page: Page, role: str = "lead", **answers: Any) -> None:
    """The dialog, open and filled."""
    serve(page, **answers)
    hello(page, role)
    report(page)
    page.until(f"[...{DOC}.querySelectorAll('.report .wide')].length === 1")
    page.evaluate(f"{DOC}.querySelector('.report .wide').focus()")
    page.evaluate(f"{DOC}.querySelector('.report .wide').click()")
    page.until(f"{DIALOG} && !{DIALOG}.hasAttribute('aria-busy')")


def calls(page: Page, method: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(f"{APP}.calls")
    return [one for one in found if one["method"] == method]


def field(page: Page, label: str) -> str:
    """JavaScript for the field that a screen reader calls so."""
    return (
        f"[...{DIALOG}.querySelectorAll('label')].find((l) => l.textContent === {json.dumps(label)}).control"
    )


def fill(page: Page, label: str, value: str, event: str = "input") -> None:
    page.evaluate(
        f"(() => {{ const f = {field(page, label)}; f.value = {json.dumps(value)}; f.dispatchEvent(new {APP}.Event('{event}')); }})()"
    )


def submit(page: Page) -> None:
    page.evaluate(f"{DIALOG}.querySelector('[type=submit]').click()")


@pytest.mark.parametrize(
    ("role", "kind", "record", "offered"),
    [
        ("agent", "screening", "'0a1b'", False),
        ("lead", "screening", "'0a1b'", True),
        ("administrator", "screening", "'0a1b'", True),
        ("lead", "monthly_report", "'0a1b'", False),
        ("lead", "screening", "null", False),
        ("owner", "screening", "'0a1b'", False),
    ],
)
def test_only_leads_and_administrators_are_offered_to_accept_and_only_at_screenings(
    ticket: Page, role: str, kind: str, record: str, offered: bool
) -> None:
    serve(ticket)
    hello(ticket, role)
    report(ticket, kind, record)
    assert ("Accept a finding…" in buttons(ticket)) is offered


def test_a_role_that_changes_while_a_report_is_shown_counts(ticket: Page) -> None:
    serve(ticket)
    report(ticket)
    assert "Accept a finding…" not in buttons(ticket)
    hello(ticket, "lead")
    ticket.until(f"{DOC}.querySelector('.report .wide')")
    hello(ticket, "agent")
    ticket.until(f"!{DOC}.querySelector('.report .wide')")


def test_a_lead_accepts_one_resource_with_a_reason_and_a_last_day(ticket: Page) -> None:
    opened(ticket)
    number = ticket.evaluate("document.getElementById('ticket').textContent")
    asked = [one["path"] for one in calls(ticket, "GET")]
    assert f"/support/zendesk/findings?ticket={number}&record=0a1b" in asked
    assert f"/support/zendesk/suppressions?ticket={number}" in asked
    assert {one["language"] for one in calls(ticket, "GET")} == {"en"}
    shown = ticket.evaluate(f"[...{field(ticket, 'Finding')}.options].map((o) => o.textContent)")
    assert shown == [f"Critical · SSH is open to the world {HOSTILE} (2)", "High · Public bucket (1)"]
    things = ticket.evaluate(f"[...{field(ticket, 'Resource')}.options].map((o) => o.textContent)")
    assert things == ["All of them (2)", "bastion · sg-1 · ap-northeast-2", f"{HOSTILE} · sg-2 · us-east-1"]
    fill(ticket, "Resource", "sg-1", "change")
    fill(ticket, "Reason", "  Bastion until the migration ")
    day = (date.today() + timedelta(days=30)).isoformat()  # noqa: DTZ011 - any day soon
    fill(ticket, "Accepted until", day)
    submit(ticket)
    ticket.until(f"{DIALOG}.querySelector('[role=status]').textContent.startsWith('Accepted until ')")
    (sent,) = calls(ticket, "POST")
    expected = {
        "ticket": number,
        "check": "ec2.open_ssh",
        "resource": "sg-1",
        "reason": "Bastion until the migration",
        "expires": day,
    }
    assert (sent["path"], sent["body"]) == ("/support/zendesk/suppressions", expected)
    assert sent["proof"] == "Bearer session-1"
    ticket.until(f"{APP}.calls.filter((c) => c.path.includes('/findings')).length === 2")  # read anew


def test_a_finding_of_one_thing_names_that_thing_and_all_is_chosen_for_several(ticket: Page) -> None:
    opened(ticket)
    assert ticket.evaluate(f"{field(ticket, 'Resource')}.value") == ""
    fill(ticket, "Finding", "1", "change")
    assert ticket.evaluate(f"{field(ticket, 'Resource')}.value") == "arn:aws:s3:::web"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("Reason", " \n "),
        ("Accepted until", ""),
        ("Accepted until", "2020-01-01"),
        ("Accepted until", "2999-01-01"),
    ],
)
def test_without_a_reason_and_a_day_that_counts_nothing_is_sent(ticket: Page, label: str, value: str) -> None:
    opened(ticket)
    fill(ticket, "Reason", "known")
    fill(ticket, label, value)
    submit(ticket)
    assert ticket.evaluate(f"{field(ticket, label)}.matches(':invalid')") is True
    assert calls(ticket, "POST") == []


def test_a_refusal_is_said_in_the_dialog_and_can_be_tried_again(ticket: Page) -> None:
    opened(ticket, refusal="You are no lead any more.")
    fill(ticket, "Reason", "known")
    submit(ticket)
    ticket.until(
        f"{DIALOG}.querySelector('[role=alert]')?.textContent === 'You are no lead any more. Ask a lead.'"
    )
    ticket.until(f"!{DIALOG}.querySelector('[type=submit]').disabled")
    assert ticket.evaluate(f"{field(ticket, 'Reason')}.value") == "known"


def test_what_is_accepted_is_listed_with_a_way_back(ticket: Page) -> None:
    opened(ticket)
    texts = ticket.evaluate(f"[...{DIALOG}.querySelectorAll('.accepted li')].map((li) => li.innerText)")
    assert "rds.public" in texts[0]
    assert HOSTILE in texts[0]
    assert "until January 31, 2027" in texts[0]
    assert "ended on January 31, 2026" in texts[1]
    back = f"[...{DIALOG}.querySelectorAll('.accepted button')]"
    assert ticket.evaluate(f"{back}.map((b) => b.getAttribute('aria-label'))") == [
        "Let it come back: rds.public"
    ]
    ticket.evaluate(f"{back}[0].click()")
    ticket.until(
        f"{DIALOG}.querySelector('[role=status]').textContent === 'It counts again from the next screening on'"
    )
    number = ticket.evaluate("document.getElementById('ticket').textContent")
    assert [one["path"] for one in calls(ticket, "DELETE")] == [
        f"/support/zendesk/suppressions/a1?ticket={number}"
    ]


def test_it_works_by_keyboard_and_gives_the_focus_back(ticket: Page) -> None:
    opened(ticket)
    ticket.until(f"{DOC}.activeElement === {field(ticket, 'Finding')}")
    assert ticket.evaluate(f"{DIALOG}.getAttribute('aria-label')") == "Accept a finding"
    ticket.key("Tab", code=9)
    ticket.until(f"{DOC}.activeElement === {field(ticket, 'Resource')}")
    ticket.key("Tab", code=9)
    ticket.until(f"{DOC}.activeElement === {field(ticket, 'Reason')}")
    described = (
        f"{DOC}.getElementById({field(ticket, 'Reason')}.getAttribute('aria-describedby')).textContent"
    )
    assert ticket.evaluate(described) == "Why this is no risk, or who took it on"
    ticket.key("Escape", code=27)
    ticket.until(f"!{DIALOG}")
    assert ticket.evaluate(f"{DOC}.activeElement.innerText.trim()") == "Accept a finding…"


def test_where_nothing_is_left_to_accept_it_says_so(ticket: Page) -> None:
    opened(ticket, failing=[], kept=[])
    said = ticket.evaluate(f"{DIALOG}.innerText")
    assert "Nothing in this screening is left to accept." in said
    assert "Nothing yet" in said
    assert ticket.evaluate(f"{DIALOG}.querySelector('form')") is None


# ── answers ───────────────────────────────────────────────────────────────────────────────────────

TEXT = (
    "1 event was found.\\n\\n• 14:02 DeleteBucket acme-web\\n\\n"
    "Basis: account 111122223333 (ACME) · region ap-northeast-2 · period 2026-11-19 00:00 to 2026-11-20 00:00 (Asia/Seoul)\\n"
    "Calls (2): cloudtrail:LookupEvents EventName=DeleteBucket x2\\n\\nBy rules."
)
EVIDENCE = """{account: '111122223333', region: 'ap-northeast-2', count: 1, truncated: false, unread: [],
 period: {start: '2026-11-19T00:00:00+09:00', end: '2026-11-20T00:00:00+09:00', timezone: 'Asia/Seoul'},
 calls: ['cloudtrail:LookupEvents EventName=DeleteBucket x2']}"""


def answer(page: Page, text: str) -> None:
    page.evaluate(
        f"{APP}.wire.emit('job', {{job: 'j', seq: 1, kind: 'accepted', data: {{what: 'ask', text: 'q'}}}})"
    )
    page.evaluate(
        f"{APP}.wire.emit('job', {{job: 'j', seq: 2, kind: 'answer', data: {{text: '{text}', model: 'embedded', evidence: {EVIDENCE}}}}})"
    )
    page.until(f"{DOC}.querySelector('.evidence')")
    page.evaluate(f"{DOC}.querySelector('.evidence').open = true")


def test_what_an_answer_stands_on_is_shown_once_and_inserted_whole(ticket: Page) -> None:
    answer(ticket, TEXT)
    shown = ticket.evaluate(f"{DOC}.querySelector('.item.answer').innerText")
    for once in ("111122223333", "2026-11-19 00:00", "region ap-northeast-2", "cloudtrail:LookupEvents"):
        assert shown.count(once) == 1, once
    assert "By rules." in shown
    assert ticket.evaluate(f"[...{DOC}.querySelectorAll('.evidence dt')].map((d) => d.textContent)") == [
        "Results"
    ]
    ticket.evaluate(
        f"[...{DOC}.querySelectorAll('.item.answer .button')].find((b) => b.innerText.includes('Internal note')).click()"
    )
    ticket.until(f"{DOC}.querySelector('.toast').textContent === 'Added to the internal note'")
    assert "Calls (2)" in ticket.evaluate("document.getElementById('comment').textContent")


def test_what_the_text_does_not_say_stands_under_evidence(ticket: Page) -> None:
    answer(ticket, "One bucket was deleted.")
    rows = ticket.evaluate(f"[...{DOC}.querySelectorAll('.evidence dt')].map((d) => d.textContent)")
    assert rows == ["Account", "Region", "Period", "Results"]
