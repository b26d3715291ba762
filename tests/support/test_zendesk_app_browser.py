"""The packaged Zendesk app in real Chromium; the test plays the server and a harness page plays Zendesk."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import Browser, Page
from tests.support.screenshots import ask, emit
from tests.support.zendesk_page import APP, STAND_INS, address, browser, ticket, ticket_page

__all__ = ["address", "browser", "ticket"]

DOC = f"{APP}.document"
HOSTILE = '<img src=x onerror="parent.pwned=1"><script>parent.pwned=1</script><b>bold</b>'


def sent(page: Page, name: str) -> list[dict[str, Any]]:
    """Payloads of what the app sent under `name`."""
    found: list[dict[str, Any]] = page.evaluate(
        f"{APP}.wire.sent.filter(([n]) => n === '{name}').map(([, p]) => p)"
    )
    return found


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.evaluate(
        f"[...{DOC}.querySelectorAll('{selector}')].map((e) => e.innerText.trim())"
    )
    return found


def press(page: Page, selector: str) -> None:
    page.evaluate(f"{DOC}.querySelector('{selector}').click()")


def test_a_question_is_answered_with_evidence_and_goes_into_the_ticket(ticket: Page) -> None:
    ask(ticket, "Who deleted the bucket?")
    assert sent(ticket, "ask")[0]["text"] == "Who deleted the bucket?"
    emit(ticket, "job-1", 1, "accepted", "{}")
    ticket.until(f"{DOC}.querySelector('.pending')")
    emit(ticket, "job-1", 2, "delta", "{text: 'It was '}")
    emit(ticket, "job-1", 3, "delta", "{text: 'deploy-bot'}")
    assert texts(ticket, ".answer .text") == ["It was deploy-bot"]
    assert texts(ticket, ".pending") == []
    emit(
        ticket,
        "job-1",
        4,
        "answer",
        "{text: 'It was deploy-bot.', evidence: {account: '123456789012', calls: ['cloudtrail:LookupEvents'], truncated: true}}",
    )
    assert "123456789012" in ticket.evaluate(f"{DOC}.querySelector('.evidence').textContent")
    press(ticket, ".answer .tools .button:nth-child(2)")
    ticket.until("harness.invoked.length === 3")
    assert ticket.evaluate("harness.invoked.slice(1)") == [
        ["set", "comment.type", "internalNote"],
        ["comment.appendText", "It was deploy-bot."],
    ]
    press(ticket, ".answer .tools .button:nth-child(3)")
    ticket.until("harness.invoked.length === 5")
    assert ticket.evaluate("harness.invoked[3]") == ["set", "comment.type", "publicReply"]
    ticket.until(f"{APP}.wire.sent.filter(([n]) => n === 'inserted').length === 2")
    assert [(i["job"], i["as"]) for i in sent(ticket, "inserted")] == [
        ("job-1", "internal_note"),
        ("job-1", "reply"),
    ]


def test_evidence_names_what_was_not_read_and_where_a_text_is_from(ticket: Page) -> None:
    emit(
        ticket,
        "job-1",
        1,
        "answer",
        "{text: 'x', evidence: {unread: ['us-east-1: denied'], sources: ['https://docs.aws.amazon.com/x']}}",
    )
    shown = ticket.evaluate(f"{DOC}.querySelector('.evidence').textContent")
    assert shown == "EvidenceNot readus-east-1: deniedSourceshttps://docs.aws.amazon.com/x"


def test_a_language_model_is_named_and_rules_are_not(ticket: Page) -> None:
    for job, model in (("job-1", "embedded"), ("job-2", "openai:qwen3")):
        emit(ticket, job, 1, "answer", f"{{text: 'x', model: '{model}', evidence: {{account: '1'}}}}")
    shown = ticket.evaluate(f"[...{DOC}.querySelectorAll('.evidence dl')].map((e) => e.textContent)")
    assert shown == ["Account1", "Account1Language modelopenai:qwen3"]


@pytest.mark.parametrize(
    ("suggests", "name", "request_", "month"),
    [
        ("{job: 'screen'}", "Run a screening", "screen", None),
        ("{job: 'report', month: '2026-10'}", "Create the report for October 2026", "report", "2026-10"),
    ],
    ids=["screening", "report"],
)
def test_the_job_that_does_what_was_asked_starts_at_a_press(
    ticket: Page, suggests: str, name: str, request_: str, month: str | None
) -> None:
    emit(ticket, "job-1", 1, "answer", f"{{text: 'x', suggests: {suggests}}}")
    assert texts(ticket, ".answer .button.primary") == [name]
    press(ticket, ".answer .button.primary")
    assert [one.get("month") for one in sent(ticket, request_)] == [month]


def test_a_job_that_the_app_does_not_know_is_not_offered(ticket: Page) -> None:
    for seq, suggests in enumerate(("{job: 'delete'}", "{job: 'report', month: 'soon'}", "7"), 1):
        emit(ticket, f"job-{seq}", 1, "answer", f"{{text: 'x', suggests: {suggests}}}")
    assert len(texts(ticket, ".answer")) == 3
    assert texts(ticket, ".answer .button.primary") == []


def test_what_others_wrote_is_shown_as_text(ticket: Page) -> None:
    hostile = f"{HOSTILE!r}"
    for seq, (kind, data) in enumerate(
        (
            ("accepted", f"{{what: 'ask', text: {hostile}}}"),
            ("progress", f"{{percent: 1, stage: 'checking', note: {hostile}}}"),
            ("clarify", f"{{question: {hostile}, choices: [{hostile}]}}"),
            (
                "answer",
                f"{{text: {hostile}, evidence: {{account: {hostile}, calls: [{hostile}], unread: [{hostile}], sources: [{hostile}]}}}}",
            ),
            (
                "failed",
                f"{{problem: {{title: {hostile}, detail: {hostile}, remedy: {hostile}, code: {hostile}}}}}",
            ),
            ("report", f"{{kind: 'screening', summary: {hostile}, subtitle: {hostile}, url: '/reports/1'}}"),
        ),
        1,
    ):
        emit(ticket, "job-9", seq, kind, data)
    assert HOSTILE in texts(ticket, ".answer .text")
    assert (
        ticket.evaluate(f"{DOC}.querySelectorAll('.items img, .items script, .items b:not(.count b)').length")
        == 0
    )
    assert ticket.evaluate("window.pwned ?? null") is None


def test_progress_never_runs_backwards_and_can_be_cancelled(ticket: Page) -> None:
    press(ticket, "[data-action=screen]")
    assert len(sent(ticket, "screen")) == 1
    shown = []
    for seq, percent in enumerate((10, 40, 25, "NaN", 140), 1):
        emit(
            ticket,
            "job-1",
            seq,
            "progress",
            f"{{percent: {percent}, stage: 'checking', done: 3, total: 15, eta_s: 95}}",
        )
        shown.append(int(ticket.evaluate(f"{DOC}.querySelector('[role=progressbar]').ariaValueNow")))
    assert shown == [10, 40, 40, 40, 100]
    assert "about 2 min left" in texts(ticket, ".progress")[0]
    press(ticket, ".progress .button")
    ticket.until(f"{APP}.wire.sent.some(([n]) => n === 'cancel')")
    assert sent(ticket, "cancel")[0]["job"] == "job-1"
    assert "Cancelling" in texts(ticket, ".progress")[0]
    emit(ticket, "job-1", 6, "cancelled", "{}")
    assert texts(ticket, ".progress") == []
    assert texts(ticket, ".cancelled") == ["Cancelled"]


def test_a_cut_connection_loses_nothing_and_doubles_nothing(ticket: Page) -> None:
    ask(ticket, "first")
    ticket.until(f"{APP}.wire.acknowledged === 1")
    emit(ticket, "job-1", 1, "delta", "{text: 'one '}")
    emit(ticket, "job-1", 2, "delta", "{text: 'two '}")
    ticket.evaluate(f"{APP}.wire.drop()")
    assert "Reconnecting" in texts(ticket, ".notice")[0]
    ask(ticket, "asked while away")
    assert "Will be sent" in texts(ticket, ".question")[-1]
    assert [p["text"] for p in sent(ticket, "ask")] == ["first"]
    ticket.evaluate(f"{APP}.wire.restore()")
    ticket.until(f"{APP}.wire.sent.filter(([n]) => n === 'ask').length === 2")
    assert ticket.evaluate(f"{APP}.wire.auths.at(-1)")["since"] == {"job-1": 2}
    for seq, word in ((1, "one"), (2, "two"), (3, "three")):  # the server replays more than was missed
        emit(ticket, "job-1", seq, "delta", f"{{text: '{word} '}}")
    assert texts(ticket, ".answer .text") == ["one two three"]
    assert ticket.evaluate(f"{DOC}.querySelector('.notice').hidden") is True
    ticket.until(f"!{DOC}.querySelector('.items').innerText.includes('Will be sent')")


def test_a_request_without_acknowledgement_is_sent_again_under_its_id(ticket: Page) -> None:
    ticket.evaluate(f"{APP}.wire.silent = true")
    ask(ticket, "lost on the way")
    ticket.evaluate(f"{APP}.wire.drop(); {APP}.wire.silent = false; {APP}.wire.restore()")
    ticket.until(f"{APP}.wire.sent.filter(([n]) => n === 'ask').length === 2")
    first, second = sent(ticket, "ask")
    assert first == second


def test_events_that_overtake_the_acknowledgement_stay(ticket: Page) -> None:
    ticket.evaluate(f"{APP}.wire.silent = true")
    ask(ticket, "quick")
    emit(ticket, "job-1", 1, "answer", "{text: 'already here'}")
    ticket.evaluate(f"{APP}.wire.drop(); {APP}.wire.silent = false; {APP}.wire.restore()")
    ticket.until(f"{APP}.wire.acknowledged === 1")
    assert texts(ticket, ".text") == ["quick", "already here"]


def test_a_gap_is_asked_for_once_and_filled_in_order(ticket: Page) -> None:
    for seq, word in ((1, "a"), (3, "c"), (4, "d")):
        emit(ticket, "job-1", seq, "delta", f"{{text: '{word}'}}")
    assert sent(ticket, "resume") == [{"jobs": {"job-1": 1}}]
    for seq, word in ((2, "b"), (3, "c"), (4, "d")):
        emit(ticket, "job-1", seq, "delta", f"{{text: '{word}'}}")
    assert texts(ticket, ".answer .text") == ["abcd"]


def test_enter_while_hangul_is_composed_sends_the_whole_word_once(ticket: Page) -> None:
    ticket.evaluate(f"{DOC}.querySelector('textarea').focus()")
    ticket.call("Input.imeSetComposition", {"text": "안녕하세", "selectionStart": 4, "selectionEnd": 4})
    ticket.key("Enter", code=229)
    assert sent(ticket, "ask") == []
    ticket.call("Input.insertText", {"text": "안녕하세요"})
    ticket.until(f"{APP}.wire.sent.length === 1")
    assert [p["text"] for p in sent(ticket, "ask")] == ["안녕하세요"]
    assert ticket.evaluate(f"{DOC}.querySelector('textarea').value") == ""


def test_shift_enter_begins_a_new_line_and_4000_characters_are_the_most(ticket: Page) -> None:
    ticket.evaluate(f"{DOC}.querySelector('textarea').focus()")
    ticket.call("Input.insertText", {"text": "a"})
    ticket.key("Enter", code=13, shift=True, text="\r")
    ticket.call("Input.insertText", {"text": "b" * 5000})
    assert sent(ticket, "ask") == []
    value = ticket.evaluate(f"{DOC}.querySelector('textarea').value")
    assert value.startswith("a\nb")
    assert len(value) == 4000
    assert "0 characters left" in texts(ticket, ".composer")[0]


def test_the_month_picker_works_by_keyboard_and_offers_no_future_month(ticket: Page) -> None:
    press(ticket, "[data-action=report]")
    ticket.until(f"{DOC}.activeElement.getAttribute('role') === 'radio'")
    chosen = ticket.evaluate(f"{DOC}.activeElement.ariaLabel")
    now = ticket.evaluate(
        "new Intl.DateTimeFormat('en-CA', {timeZone: 'Asia/Seoul', year: 'numeric', month: '2-digit'}).format(new Date()).slice(0, 7)"
    )
    year, number = (int(part) for part in now.split("-"))
    if number < 12:
        assert ticket.evaluate(
            f"[...{DOC}.querySelectorAll('.month')].filter((m) => !m.disabled).length"
        ) in (number, 12)
    ticket.key("ArrowRight", code=39)
    ticket.key("ArrowLeft", code=37)
    assert ticket.evaluate(f"{DOC}.activeElement.ariaLabel") == chosen
    press(ticket, ".panel .primary")
    ticket.until(f"{APP}.wire.sent.some(([n]) => n === 'report')")
    expected = f"{year}-{number - 1:02d}" if number > 1 else f"{year - 1}-12"
    assert sent(ticket, "report")[0]["month"] == expected
    assert ticket.evaluate(f"{DOC}.activeElement.dataset.action") == "report"
    press(ticket, "[data-action=report]")
    ticket.until(f"{DOC}.activeElement.getAttribute('role') === 'radio'")
    ticket.key("Escape", code=27)
    assert texts(ticket, ".panel") == []


def test_a_report_opens_in_a_sandbox_and_focus_comes_back(ticket: Page) -> None:
    emit(
        ticket,
        "job-1",
        1,
        "report",
        "{kind: 'monthly_report', url: '/reports/1', expires_at: '2099-01-01T00:00:00Z', counts: {new: 2}}",
    )
    ticket.evaluate(f"{DOC}.querySelector('.report .primary').focus()")
    press(ticket, ".report .primary")
    ticket.until(f"{DOC}.querySelector('dialog[open]:not([aria-busy]) iframe')")
    assert "allow-scripts" not in ticket.evaluate(
        f"{DOC}.querySelector('dialog iframe').getAttribute('sandbox')"
    )
    assert "allow-same-origin" not in ticket.evaluate(
        f"{DOC}.querySelector('dialog iframe').getAttribute('sandbox')"
    )
    ticket.key("Escape", code=27)
    ticket.until(f"!{DOC}.querySelector('dialog')")
    assert ticket.evaluate(f"{DOC}.activeElement.className") == "button primary"


@pytest.mark.parametrize("url", ["https://evil.example/r", "//evil.example/r", "javascript:alert(1)"])
def test_a_report_from_elsewhere_is_not_opened(ticket: Page, url: str) -> None:
    answer = json.dumps({"url": url})
    ticket.evaluate(f"{APP}.fetch = async () => new {APP}.Response({answer!r}, {{status: 200}})")
    emit(
        ticket,
        "job-1",
        1,
        "report",
        "{kind: 'screening', url: '/reports/1', expires_at: '2099-01-01T00:00:00Z'}",
    )
    press(ticket, ".report .primary")
    ticket.until(f"{DOC}.querySelector('.toast').textContent.includes('only opened from this server')")
    assert ticket.evaluate(f"{DOC}.querySelector('dialog')") is None


def test_a_report_that_is_gone_says_so(browser: Browser, address: str) -> None:
    with ticket_page(browser, address) as page:
        emit(
            page,
            "job-1",
            1,
            "report",
            "{kind: 'screening', url: '/reports/2', expires_at: '2099-01-01T00:00:00Z'}",
        )
        press(page, ".report .primary")
        page.until(f"{DOC}.querySelector('.toast').textContent.includes('Ask for it again')")


def test_what_a_colleague_asked_is_shown_and_what_was_asked_here_is_shown_once(ticket: Page) -> None:
    emit(ticket, "job-7", 1, "accepted", "{what: 'report', month: '2026-10', request: 'elsewhere'}")
    assert texts(ticket, ".question .text") == ["Monthly report: October 2026"]
    ticket.evaluate(f"{APP}.wire.silent = true")
    ask(ticket, "mine")
    request = sent(ticket, "ask")[0]["id"]
    # The acknowledgement was lost with the connection; the history comes before it is sent again.
    emit(ticket, "job-8", 1, "accepted", f"{{what: 'ask', text: 'mine', request: '{request}'}}")
    assert texts(ticket, ".question .text") == ["Monthly report: October 2026", "mine"]


def test_an_expired_report_says_so(ticket: Page) -> None:
    emit(
        ticket,
        "job-1",
        1,
        "report",
        "{kind: 'screening', url: '/reports/1', expires_at: '2020-01-01T00:00:00Z'}",
    )
    press(ticket, ".report .primary")
    ticket.until(f"{DOC}.querySelector('.toast').textContent.includes('no longer kept')")


def test_a_refused_request_shows_what_to_do_and_can_be_repeated(ticket: Page) -> None:
    ticket.evaluate(
        f"{APP}.wire.refuse = {{title: 'Too many questions', detail: 'Wait a minute.', remedy: 'Then ask again.', retryable: true, code: 'support.rate'}}"
    )
    ask(ticket, "again and again")
    ticket.until(f"{DOC}.querySelector('.item.error')")
    assert all(
        part in texts(ticket, ".item.error")[0]
        for part in ("Too many questions", "Wait a minute.", "Then ask again.")
    )
    ticket.evaluate(f"{APP}.wire.refuse = null")
    press(ticket, ".item.error .button")
    ticket.until(f"{APP}.wire.sent.filter(([n]) => n === 'ask').length === 2")
    assert [p["text"] for p in sent(ticket, "ask")] == ["again and again"] * 2


def test_an_expiring_session_is_renewed_through_zendesk_without_the_secret(ticket: Page) -> None:
    ticket.evaluate(f"{APP}.wire.emit('session_expiring')")
    ticket.until(f"{APP}.wire.sent.some(([n]) => n === 'session')")
    assert sent(ticket, "session") == [{"token": "session-2"}]
    request = ticket.evaluate("harness.requests[0]")
    assert request["secure"] is True
    assert request["jwt"]["secret_key"] == "{{setting.shared_secret}}"
    assert "session-1" in request["data"]


def test_an_agent_whose_session_cannot_be_renewed_is_told_to_reload(browser: Browser, address: str) -> None:
    with ticket_page(browser, address, "refuse=1&locale=ko") as page:
        page.evaluate(f"{APP}.wire.drop('io server disconnect')")
        page.until(f"{DOC}.documentElement.dataset.state === 'refused'")
        assert "새로 고쳐" in texts(page, ".notice")[0]


def test_everything_that_can_be_pressed_has_a_name_and_is_reached_by_tab(ticket: Page) -> None:
    emit(ticket, "job-1", 1, "answer", "{text: 'x', evidence: {account: '1'}}")
    emit(
        ticket,
        "job-2",
        1,
        "report",
        "{kind: 'screening', url: '/reports/1', expires_at: '2099-01-01T00:00:00Z'}",
    )
    unnamed = ticket.evaluate(
        f"[...{DOC}.querySelectorAll('button, a, textarea, iframe, [role]')]"
        ".filter((e) => !['group', 'status', 'alert'].includes(e.role) && !(e.ariaLabel || e.innerText || e.title).trim()).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    ticket.evaluate(f"{DOC}.querySelector('.scroller').focus()")
    reached = []
    for _ in range(20):
        ticket.key("Tab", code=9)
        reached.append(
            ticket.evaluate(f"{DOC}.activeElement.ariaLabel || {DOC}.activeElement.innerText?.trim()")
        )
    for name in (
        "Evidence",
        "Copy",
        "Internal note",
        "Reply",
        "Open",
        "Run a screening",
        "Monthly report",
        "Your question",
    ):
        assert name in reached, reached


CONTRAST = f"""(() => {{
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (e) => {{ for (; e; e = e.parentElement) {{ const c = rgb({APP}.getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; }} return [255, 255, 255]; }};
  return [...{DOC}.querySelectorAll('h1, h2, p, button:not(:disabled), span, summary, strong, dt, dd')]
    .filter((e) => e.innerText?.trim() && !e.classList.contains('visually-hidden')).map((e) => {{
      const [a, b] = [light(rgb({APP}.getComputedStyle(e).color)), light(back(e))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.className + ' ' + e.innerText.slice(0, 30)];
    }}).filter(([ratio]) => ratio < 4.5);
}})()"""


def test_text_has_enough_contrast_in_light_and_dark(ticket: Page, tmp_path: Path) -> None:
    page = ticket
    ask(page, "질문")
    emit(page, "job-1", 1, "answer", "{text: 'x', evidence: {account: '1', truncated: true, calls: ['a']}}")
    emit(page, "job-2", 1, "progress", "{percent: 3, stage: 'checking', done: 1, total: 4, eta_s: 20}")
    emit(page, "job-3", 1, "failed", "{problem: {title: 't', detail: 'd', code: 'c.d'}}")
    emit(
        page,
        "job-4",
        1,
        "report",
        "{kind: 'screening', url: '/reports/1', counts: {new: 1, fixed: 2, unchanged: 3}, complete: false}",
    )
    page.until(f"{DOC}.querySelectorAll('.item').length === 5")
    assert page.evaluate(CONTRAST) == []
    page.evaluate("harness.setScheme('dark')")
    assert page.evaluate(f"{APP}.getComputedStyle({DOC}.body).backgroundColor") == "rgb(21, 26, 30)"
    assert page.evaluate(CONTRAST) == []
    page.screenshot(tmp_path / "dark.png")
    assert (tmp_path / "dark.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_korean_agents_see_korean(browser: Browser, address: str) -> None:
    with ticket_page(browser, address, "locale=ko-KR") as page:
        assert page.evaluate(f"{DOC}.documentElement.lang") == "ko"
        assert texts(page, ".chip") == ["보안 점검", "월간 보고서", "최근 변경", "알람", "리소스"]
        press(page, "[data-action=alarms]")
        assert sent(page, "ask")[0] == {
            **sent(page, "ask")[0],
            "text": "지금 울리고 있는 알람이 있나요?",
            "language": "ko",
        }


def test_a_question_is_answered_in_the_language_that_it_is_asked_in(browser: Browser, address: str) -> None:
    with ticket_page(browser, address, "locale=ko-KR") as page:
        for text in ("Who deleted the bucket?", "S3 버킷을 누가 삭제했나요?", "404?"):
            ask(page, text)
        assert [one["language"] for one in sent(page, "ask")] == ["en", "ko", "ko"]


def test_each_answer_stands_below_its_own_question(ticket: Page) -> None:
    for text in ("first", "second"):
        ask(ticket, text)
    ticket.until(f"{APP}.wire.acknowledged === 2")
    for job in ("job-1", "job-2"):
        emit(ticket, job, 1, "progress", "{percent: 3, stage: 'collecting'}")
    emit(ticket, "job-2", 2, "answer", "{text: 'to the second'}")
    emit(ticket, "job-1", 2, "answer", "{text: 'to the first'}")
    assert texts(ticket, ".item .text") == ["first", "to the first", "second", "to the second"]


def test_what_is_the_same_is_not_said_twice_and_short_names_stay_whole(ticket: Page) -> None:
    emit(
        ticket, "job-1", 1, "failed", "{problem: {title: 'No account.', detail: 'No account.', code: 'a.b'}}"
    )
    assert texts(ticket, ".item.error .text") == []
    emit(ticket, "job-2", 1, "answer", "{text: 'in ap-northeast-2, since 2026-10-21 19:45', evidence: {}}")
    assert texts(ticket, ".answer .text") == ["in ap-northeast-2, since 2026-10-21 19:45"]
    assert texts(ticket, ".answer .whole") == ["ap-northeast-2", "2026-10-21"]
    assert texts(ticket, ".answer .evidence") == []


def test_the_packaged_page_loads_what_its_own_policy_allows_and_nothing_else(ticket: Page) -> None:
    assert ticket.evaluate(f"{DOC}.querySelectorAll('script:not([src])').length") == 0
    hosts = ticket.evaluate(
        f"[...new Set({APP}.performance.getEntriesByType('resource').map((e) => new URL(e.name).origin))]"
    )
    assert set(hosts) <= {ticket.evaluate("location.origin"), "https://static.zdassets.com"}


def test_the_real_socket_io_client_loads_and_keeps_trying_while_there_is_no_server(
    browser: Browser, address: str
) -> None:
    only_the_sdk = {name: body for name, body in STAND_INS.items() if "zaf_sdk" in name}
    page = browser.page(f"{address}/harness/zendesk.html", stand_ins=only_the_sdk)
    page.until(f"{DOC}.documentElement.dataset.state === 'reconnecting'")
    assert "Reconnecting" in texts(page, ".notice")[0]
    assert not [complaint for complaint in page.complaints if "Content Security Policy" in complaint]
    page.close()
