"""The embedded model: deterministic rules that read a question in Korean or English. It writes no prose.

`understand` decides from the text and `now` alone; it reads nothing and calls nothing.
"""

from dataclasses import replace
from datetime import datetime

from fairlead.support import mentions
from fairlead.support.intents import Scores, score
from fairlead.support.language import checked, folded, language_of, terms, without_orders
from fairlead.support.model import Intent, Language, Period, Slots, Understanding
from fairlead.support.periods import Reading, find_period

UNSURE = 0.35
_BOTH = terms("both | 둘 ?다 | 둘 ?모두")
_CLEAR = 3.0  # points: by itself enough to be what is wanted
_LITTLE = 1.0  # points: "show" alone says nothing

_QUESTIONS: dict[str, tuple[str, str]] = {
    "accounts": (
        "여러 계정이 언급되었습니다({}). 어느 계정을 볼까요?",
        "Several accounts are mentioned ({}). Which one should I look at?",
    ),
    "regions": (
        "여러 리전이 언급되었습니다({}). 어느 리전부터 볼까요?",
        "Several regions are mentioned ({}). Which one should I look at first?",
    ),
    "events": (
        "여러 이벤트가 언급되었습니다({}). 어느 이벤트를 찾을까요?",
        "Several events are mentioned ({}). Which one should I look up?",
    ),
    "impossible": (
        "'{}'은(는) 달력에 없거나 너무 긴 기간입니다. 언제부터 언제까지 볼까요?",
        "'{}' is not a date, or too long a time. From when to when should I look?",
    ),
    "future": (
        "말씀하신 기간({})은 아직 오지 않았습니다. 어느 기간을 볼까요?",
        "That period ({}) has not begun yet. Which period do you mean?",
    ),
    "endless": (
        "'{}' 이전이라면 언제부터 볼까요?",
        "Before '{}': from when on should I look?",
    ),
    "months": (
        "월간 보고서는 한 달 단위입니다. {}부터의 기간 중 어느 달로 만들까요?",
        "A monthly report covers one month. Which month of the period from {} should it be?",
    ),
    "tie": (
        "{} 중 어느 것을 원하시나요?",
        "Which do you want: {}?",
    ),
    "what": (
        "무엇을 확인할까요? 예: 보안 점검, 월간 보고서, 누가 변경했는지, 지표와 알람, 리소스 목록.",
        (
            "What should I look at? For example a security screening, the monthly report,"
            " who changed something, metrics and alarms, or a list of resources."
        ),
    ),
    "metric": (
        "어떤 지표나 리소스를 모니터링할까요? 예: EC2 CPU, RDS 저장 공간, 울리는 알람.",
        "Which metric or resource should I monitor? For example EC2 CPU, RDS storage or firing alarms.",
    ),
}
_INTENT_NAMES: dict[Intent, tuple[str, str]] = {
    Intent.SCREENING: ("보안 점검", "a security screening"),
    Intent.MONTHLY_REPORT: ("월간 보고서", "the monthly report"),
    Intent.API_ACTIVITY: ("API 활동 기록", "who did what (API activity)"),
    Intent.MONITORING: ("지표와 알람", "metrics and alarms"),
    Intent.INVENTORY: ("리소스 목록", "a list of resources"),
    Intent.GENERAL: ("AWS에 대한 설명", "an explanation about AWS"),
}
_MOST_DAYS_IN_A_MONTH = 31
_ABOUT_A_TIME = frozenset({Intent.API_ACTIVITY, Intent.MONITORING, Intent.MONTHLY_REPORT})


def _ask(question: str, language: Language, value: str = "") -> str:
    return _QUESTIONS[question][0 if language is Language.KOREAN else 1].format(value)


def understand(text: str, now: datetime) -> Understanding:
    """What `text` asks for, seen from `now` (aware).

    Raises QuestionTooLong or QuestionUnreadable. Sentences that give orders to a model are not read.
    """
    readable = checked(text)
    language = language_of(readable)
    asked = without_orders(readable)
    lowered = folded(asked)
    accounts, regions = mentions.accounts(asked, lowered), mentions.regions(lowered)
    reading = find_period(_without(lowered, accounts), now.replace(microsecond=0))
    written = mentions.events(asked)
    slots = Slots(
        account=accounts[0] if len(accounts) == 1 else None,
        region=regions[0] if len(regions) == 1 else None,
        period=reading.period,
        resource=mentions.resource(asked, lowered),
        event=written[0] if len(written) == 1 else None,
        metric=mentions.metric(asked, lowered),
    )
    plain = mentions.without_names(lowered, slots.resource)
    described = mentions.described_event(plain)
    scores = score(plain, slots, written_event=bool(written), described_event=bool(described))
    intent = scores.ranked[0] if any(scores.points.values()) else Intent.GENERAL
    slots = _only_what_the_intent_takes(slots, intent, described if not written else None)
    if intent not in _ABOUT_A_TIME and (reading.future or reading.endless):
        # "before next week's audit" says why, and not from when to when.
        slots, reading = replace(slots, period=None), Reading()
    several = {"accounts": accounts, "regions": regions, "events": written}
    both = _BOTH.search(lowered) is not None
    bare = len(lowered.split()) <= 3 and not (slots.metric or slots.resource or slots.account)
    return Understanding(
        intent=intent,
        confidence=scores.confidence,
        slots=slots,
        clarify=_clarify_mentions(several, reading, language)
        or _clarify_intent(intent, scores, slots, language, bare=bare, both=both),
    )


def _without(folded: str, accounts: tuple[str, ...]) -> str:
    """The text without numbers of accounts, which may look like dates."""
    for account in accounts:
        folded = folded.replace(account, " ") if account.isdigit() else folded
    return folded


def _only_what_the_intent_takes(slots: Slots, intent: Intent, described: str | None) -> Slots:
    """Described events count only where activity is asked for, metrics only where it is about monitoring."""
    if intent is Intent.API_ACTIVITY:
        return replace(slots, event=slots.event or described, metric=None)
    if intent is Intent.MONITORING:
        return slots
    return replace(slots, metric=None)


def _clarify_mentions(
    several: dict[str, tuple[str, ...]], reading: Reading, language: Language
) -> str | None:
    """A question about what was named: several where one is needed, or a time that cannot be."""
    for what, mentioned in several.items():
        if len(mentioned) > 1:
            return _ask(what, language, ", ".join(mentioned[:5]))
    if reading.impossible:
        return _ask("impossible", language, reading.impossible[:40])
    if reading.endless:
        return _ask("endless", language, reading.endless[:40])
    if reading.period and reading.future:
        return _ask("future", language, f"{reading.period.start:%Y-%m-%d %H:%M}")
    return None


def _longer_than_a_month(period: Period) -> bool:
    return (period.end - period.start).days > _MOST_DAYS_IN_A_MONTH


def _clarify_intent(
    intent: Intent, scores: Scores, slots: Slots, language: Language, *, bare: bool, both: bool
) -> str | None:
    """A question about what is wanted, or about the one thing without which it cannot be done."""
    if scores.tied or (both and scores.points[scores.ranked[1]] >= _CLEAR):
        names = [_INTENT_NAMES[found][0 if language is Language.KOREAN else 1] for found in scores.ranked[:2]]
        return _ask("tie", language, (", " if language is Language.KOREAN else " or ").join(names))
    little = scores.points[intent] <= _LITTLE and not (slots.resource or slots.metric or slots.event)
    if scores.confidence < UNSURE or little:
        return _ask("what", language)
    if intent is Intent.MONTHLY_REPORT and slots.period and _longer_than_a_month(slots.period):
        return _ask("months", language, f"{slots.period.start:%Y-%m}")
    # Monitoring with nothing but that word: there is no sensible default among thousands of metrics.
    nothing_named = bare and scores.points[Intent.MONITORING] <= 3
    return _ask("metric", language) if intent is Intent.MONITORING and nothing_named else None
