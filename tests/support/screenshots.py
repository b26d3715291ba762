"""Pictures of the app and the report for people to look at: `python -m tests.support.screenshots build/support`."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import sys
import tempfile
from pathlib import Path

from fairlead.support.findings import difference
from fairlead.support.model import Language
from fairlead.support.monthly.page import to_html
from fairlead.support.screening_report import render_html
from tests.support import months, screenings
from tests.support.chromium import Browser, Page, running_chromium
from tests.support.zendesk_page import APP, open_ticket, served_app

ANSWER_KO = "어제(2026-11-19) 서울 리전에서 버킷 'acme-web'을 삭제한 기록이 1건 있습니다.\n\n• 14:02 KST · DeleteBucket · 사용자 deploy-bot (203.0.113.7)"
ANSWER_EN = "One bucket was deleted yesterday (2026-11-19) in ap-northeast-2.\n\n• 14:02 KST · DeleteBucket · acme-web · by deploy-bot from 203.0.113.7"
EVIDENCE = """evidence: {account: '123456789012', region: 'ap-northeast-2', count: 1, truncated: false,
 period: {start: '2026-11-19T00:00:00+09:00', end: '2026-11-20T00:00:00+09:00', timezone: 'Asia/Seoul'},
 calls: ['cloudtrail:LookupEvents EventName=DeleteBucket']}"""


FAILING = """{findings: [{check: 'ec2.security_group_ssh_open', title: 'Security group opens SSH (22) to the world', severity: 'high', count: 2,
 resources: [{uid: 'arn:aws:ec2:ap-northeast-2:123456789012:security-group/sg-0a1b2c3d4e5f60718', name: 'bastion', region: 'ap-northeast-2'}]}],
 suppressions: [{id: 'a1', account: '123456789012', check: 's3.bucket_versioning', resource: 'arn:aws:s3:::acme-scratch',
 reason: 'Scratch space, emptied every night', author: 'kim', expires: '2027-03-31', lapsed: false}]}"""


def emit(page: Page, job: str, seq: int, kind: str, data: str) -> None:
    """An event of the server's."""
    page.evaluate(f"{APP}.wire.emit('job', {{job: '{job}', seq: {seq}, kind: '{kind}', data: {data}}})")


def ask(page: Page, text: str) -> None:
    """Type and send."""
    page.evaluate(f"{APP}.document.querySelector('textarea').focus()")
    page.call("Input.insertText", {"text": text})
    page.key("Enter", code=13)


def story(page: Page, language: str) -> None:
    """A question, an answer, a screening under way."""
    korean = language == "ko"
    ask(page, "어제 누가 우리 버킷을 삭제했나요?" if korean else "Who deleted our bucket yesterday?")
    emit(page, "job-1", 1, "accepted", "{}")
    emit(page, "job-1", 2, "answer", f"{{text: {(ANSWER_KO if korean else ANSWER_EN)!r}, {EVIDENCE}}}")
    page.until(f"{APP}.document.querySelector('.evidence')")
    page.evaluate(f"{APP}.document.querySelector('.evidence').open = true")
    page.evaluate(f"{APP}.document.querySelector('[data-action=screen]').click()")
    emit(
        page,
        "job-2",
        1,
        "progress",
        "{percent: 46, stage: 'checking', done: 7, total: 15, eta_s: 95, note: 'ec2 · ap-northeast-2'}",
    )
    page.until(f"{APP}.document.querySelector('.progress .bar')")


def settle(page: Page) -> None:
    """Wait for running animations that end."""
    page.until(
        f"{APP}.document.getAnimations().every((a) => a.effect.getTiming().iterations === Infinity || a.playState === 'finished')"
    )


def shoot(browser: Browser, address: str, folder: Path) -> None:
    """Every picture."""
    for name, query, language in (
        ("light-en", "", "en"),
        ("light-ko", "locale=ko", "ko"),
        ("dark-ko", "locale=ko&scheme=dark", "ko"),
    ):
        page = open_ticket(browser, address, query)
        page.screenshot(folder / f"app-{name}-welcome.png")
        story(page, language)
        settle(page)
        page.screenshot(folder / f"app-{name}-progress.png")
        page.evaluate(f"{APP}.wire.drop()")
        ask(
            page,
            "최근 24시간 CPU 사용률 보여줘"
            if language == "ko"
            else "Show CPU utilization for the last 24 hours",
        )
        settle(page)
        page.screenshot(folder / f"app-{name}-reconnecting.png")
        page.evaluate(f"{APP}.wire.restore()")
        emit(
            page,
            "job-2",
            2,
            "report",
            "{kind: 'screening', record: '0a1b', url: '/reports/1', expires_at: '2099-01-01T10:00:00Z', counts: {new: 6, fixed: 1, unchanged: 18}, summary: "
            + repr(
                "심각 1건, 높음 7건. 가장 시급한 것은 루트 사용자 MFA입니다."
                if language == "ko"
                else "1 critical, 7 high. Most urgent: MFA of the root user."
            )
            + "}",
        )
        page.until(f"{APP}.document.querySelector('.report')")
        page.evaluate(
            f"[...{APP}.document.querySelectorAll('.report .button')].find((b) => b.textContent.match(/note|메모/)).click()"
        )
        page.until(f"{APP}.document.querySelector('.toast').textContent")
        settle(page)
        page.screenshot(folder / f"app-{name}-report.png")
        page.evaluate(f"{APP}.document.querySelector('[data-action=report]').click()")
        settle(page)
        page.screenshot(folder / f"app-{name}-months.png")
        page.evaluate(f"{APP}.document.querySelector('.report .button.primary').click()")
        page.until(f"{APP}.document.querySelector('dialog:not([aria-busy]) iframe')")
        settle(page)
        page.screenshot(folder / f"app-{name}-viewer.png")
        page.evaluate(f"{APP}.document.querySelector('dialog').close()")
        accept(page)
        page.screenshot(folder / f"app-{name}-acceptance.png")
        page.close()


def accept(page: Page) -> None:
    """A lead about to accept a finding."""
    page.evaluate(
        f"{APP}.fetch = async (url) => new {APP}.Response(JSON.stringify({{items: {FAILING} [url.pathname.split('/')[3]], choices: []}}))"
    )
    page.evaluate(f"{APP}.wire.emit('hello', {{account: '123456789012', organization: '1', role: 'lead'}})")
    page.until(f"{APP}.document.querySelector('.report .wide')")
    page.evaluate(f"{APP}.document.querySelector('.report .wide').click()")
    page.until(f"{APP}.document.querySelector('dialog.acceptance form')")
    settle(page)


def main(folder: Path) -> None:
    """Write all pictures into `folder`."""
    before, now, accepted = screenings.customer()
    change = difference(before, now, accepted, on=screenings.DAY)
    pages = {language: render_html(now, change, language) for language in Language}
    september, october = months.customer()
    reports = {f"report-{language.value}": text for language, text in pages.items()}
    for language in Language:
        reports[f"monthly-{language.value}"] = to_html(october, language, september)
    reports |= {
        "monthly-unread": to_html(months.unread(), Language.KOREAN),
        "monthly-empty": to_html(months.empty(), Language.ENGLISH),
    }
    reports["monthly-hostile"] = to_html(months.hostile(), Language.ENGLISH)
    with (
        tempfile.TemporaryDirectory() as place,
        served_app(Path(place), pages[Language.KOREAN]) as address,
        running_chromium() as browser,
    ):
        shoot(browser, address, folder)
        for name, text in reports.items():
            file = folder / f"{name}.html"
            file.write_text(text, encoding="utf-8")
            for scheme in ("light", "dark"):
                page = browser.page("about:blank", stand_ins={}, width=1100, height=1500)
                page.call(
                    "Emulation.setEmulatedMedia",
                    {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
                )
                page.call("Page.navigate", {"url": file.resolve().as_uri()})
                page.until("document.querySelector('main') && document.readyState === 'complete'")
                page.screenshot(folder / f"{name}-{scheme}.png")
                page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/support"))
