"""What a job's result says in the ticket, in the agent's language: short, plain text, ready to be inserted.

Nothing that a customer wrote is in it: titles are those of checks, figures are ours.
"""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from fairlead.support import findings as found_by
from fairlead.support.model import Customer, Difference, Finding, Language, Screening, Severity, Status
from fairlead.support.monthly import judging
from fairlead.support.monthly.model import MonthlyData
from fairlead.support.monthly.month import Month
from fairlead.support.monthly.words import PART_WORDS, RULE_WORDS, month_name
from fairlead.support.screening_words import severity_word

SHOWN = 5  # checks that are named

_KO: Mapping[str, str] = {
    "partial": "끝나기 전에 멈췄습니다. 읽은 곳까지의 결과입니다.",
    "failed": "조치가 필요한 항목 {number}건 ({severities})",
    "none": "조치가 필요한 항목이 없습니다.",
    "change": "지난 점검 이후: 신규 {new}건, 해결 {fixed}건, 유지 {unchanged}건",
    "unknown": "이번에 확인하지 못한 지난 항목 {number}건",
    "accepted": "수용한 항목 {number}건",
    "lapsed": "수용 기간이 끝난 항목 {number}건",
    "unread": "읽지 못한 항목 {number}건. 이상이 없다는 뜻이 아닙니다.",
    "first": "먼저 볼 것:",
    "times": "{title} ({number}건)",
    "month": "{month} 보안 현황입니다.",
    "running": "아직 끝나지 않은 달이어서 지금까지의 내용입니다.",
    "calm": "급히 조치할 항목은 찾지 못했습니다.",
    "parts": "읽지 못한 부분: {parts}. 이상이 없다는 뜻이 아닙니다.",
}
_EN: Mapping[str, str] = {
    "partial": "It was stopped before its end; this is what was read until then.",
    "failed": "{number} to be repaired ({severities})",
    "none": "Nothing has to be repaired.",
    "change": "Since the previous screening: {new} new, {fixed} fixed, {unchanged} unchanged",
    "unknown": "{number} of the previous could not be looked at this time",
    "accepted": "{number} accepted",
    "lapsed": "{number} acceptances have lapsed",
    "unread": "{number} could not be read, which does not mean that they are fine.",
    "first": "Look at these first:",
    "times": "{title} ({number})",
    "month": "Security in {month}.",
    "running": "The month is not over: this is what there is until now.",
    "calm": "Nothing was found that cannot wait.",
    "parts": "Not read to the end: {parts}. That does not mean that they are fine.",
}
_WORDS: Mapping[Language, Mapping[str, str]] = {Language.KOREAN: _KO, Language.ENGLISH: _EN}


def screening_subtitle(screening: Screening, customer: Customer) -> str:
    """Which account, when, by what."""
    when = screening.finished_at.astimezone(ZoneInfo(customer.timezone))
    return f"{screening.account} · {when:%Y-%m-%d %H:%M %Z} · {screening.engine}"


def screening_summary(screening: Screening, change: Difference, compared: bool, language: Language) -> str:
    """What was found, what changed, and what to look at first. `compared`: there was a screening before."""
    word = _WORDS[language]
    failed = (*change.new, *change.unchanged)
    unread = sum(f.status is Status.UNREAD for f in screening.findings) + len(screening.unread)
    lines = [] if screening.complete else [word["partial"]]
    lines.append(_failed(failed, language))
    if compared:
        counts = {kind: len(getattr(change, kind)) for kind in ("new", "fixed", "unchanged")}
        lines.append(word["change"].format(**counts))
    numbers = (
        ("unknown", len(change.unknown)),
        ("accepted", len(change.suppressed)),
        ("lapsed", len(change.lapsed)),
        ("unread", unread),
    )
    lines += [word[name].format(number=number) for name, number in numbers if number]
    if failed:
        lines.append(word["first"])
        groups = found_by.by_check(failed)[:SHOWN]
        lines += [f"- {word['times'].format(title=one.title, number=len(all_))}" for one, all_ in groups]
    return "\n".join(lines)


def _failed(failed: Sequence[Finding], language: Language) -> str:
    word = _WORDS[language]
    if not failed:
        return word["none"]
    counted = found_by.count_by_severity(failed)
    named = [f"{severity_word(s, language)} {counted[s]}" for s in Severity if counted[s]]
    return word["failed"].format(number=len(failed), severities=", ".join(named))


def monthly_summary(data: MonthlyData, language: Language) -> str:
    """Which month, what cannot wait, and what was not read."""
    word, month = _WORDS[language], Month.parse(data.month)
    lines = [word["month"].format(month=month_name(month.year, month.number, language))]
    lines += [word["running"]] if data.running else []
    lines += [] if data.complete else [word["partial"]]
    urgent = judging.urgent(judging.issues(data))
    lines.append(word["first"] if urgent else word["calm"])
    for issue in urgent[:SHOWN]:
        title, _ = RULE_WORDS[language][issue.rule.id]
        lines.append(f"- {word['times'].format(title=title, number=len(issue.rows))}")
    if unread := judging.unread_parts(data):
        lines.append(word["parts"].format(parts=", ".join(PART_WORDS[language][part] for part in unread)))
    return "\n".join(lines)
