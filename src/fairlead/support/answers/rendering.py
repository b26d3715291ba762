"""From what tools said to an answer: rows, counts, what is missing, what it stands on. Pure.

Everything that AWS or a customer wrote is cleaned to one short line and shown as text; nothing of it is read
as an instruction, a format or markup.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fairlead.support.answers import inventory
from fairlead.support.answers.inventory import KINDS
from fairlead.support.answers.model import Evidence, Question
from fairlead.support.answers.phrases import cause, column, say
from fairlead.support.answers.plans import Done, Metric, Plan, Topic, local_now, metric_of, resources_of
from fairlead.support.answers.tools import Cause, Failure, summary
from fairlead.support.model import Language, Period, Slots

SHOWN = 20  # rows of one answer
_LONGEST = 120  # characters of one value
Json = dict[str, Any]


def clean(value: object, longest: int = _LONGEST) -> str:
    """`value` as one line without control and direction characters, cut to `longest`."""
    kept = "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character
        for character in str(value)
        if unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn")
    )
    line = re.sub(r"\s+", " ", kept).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the results come to, before it is put into words."""

    lines: tuple[str, ...]  # sentences, in order
    rows: tuple[str, ...]  # at most SHOWN
    count: int
    hidden: int = 0  # rows that are not shown
    truncated: bool = False  # there is more than was read
    after: tuple[str, ...] = ()  # what stands behind the rows
    next_step: str = "next_events"


def rendered(
    question: Question, account: str, plan: Plan, done: Sequence[Done], slots: Slots
) -> tuple[str, Evidence]:
    """The whole text and its evidence."""
    language = question.language
    found = _FINDERS[plan.topic](question, plan, done, slots)
    failures = [(one, one.result.failure) for one in done if one.result.failure]
    unread = tuple(dict.fromkeys(_unread(one, failure, language) for one, failure in failures))
    calls = tuple(
        f"{what} x{times}" if times > 1 else what
        for what, times in Counter(summary(one.call.tool, one.call.arguments) for one in done).items()
    )
    truncated = found.truncated or found.hidden > 0
    evidence = Evidence(
        account=account,
        region=", ".join(plan.regions),
        period=plan.period,
        count=found.count,
        truncated=truncated,
        calls=calls,
        unread=unread,
    )
    blocks = [
        _sentences(question, account, plan, found, slots, read=len(failures) < len(done), whole=not failures),
        "\n".join(f"• {row}" for row in found.rows),
        "\n".join(_after(plan, found, language)),
        "\n".join(f"{say('unread', language)}: {line}" for line in unread),
        "\n".join(_basis(question, account, plan, evidence, len(done))),
        f"{say('next', language)}: {say('next_unread' if unread else found.next_step, language)}",
        say("by_rules", language),
    ]
    return "\n\n".join(block for block in blocks if block), evidence


def _sentences(
    question: Question, account: str, plan: Plan, found: Found, slots: Slots, *, read: bool, whole: bool
) -> str:
    language = question.language
    lines = list(found.lines) if read else [say("nothing_read", language)]
    if read and not whole:
        lines.append(say("partly_read", language))
    if read and plan.unapplied:
        lines.append(say("unapplied", language))
    if slots.account and slots.account.isdigit() and slots.account != account:
        lines.append(say("other_account", language, what=slots.account, account=account))
    return " ".join(lines)


def _after(plan: Plan, found: Found, language: Language) -> list[str]:
    lines = [say("more_rows", language, count=f"{found.hidden:,}")] if found.hidden else []
    lines += found.after
    if found.truncated:
        lines.append(say("truncated", language))
    if plan.clamped:
        lines.append(say("clamped", language))
    if plan.left_out:
        lines.append(say("left_out", language, what=", ".join(plan.left_out)))
    return lines


def _basis(question: Question, account: str, plan: Plan, evidence: Evidence, calls: int) -> list[str]:
    language = question.language
    whose = f"{account} ({clean(question.customer, 60)})" if question.customer else account
    parts = [
        say("account", language, what=whose),
        say("region", language, what=", ".join(plan.regions)),
        _told(plan.period, language)
        if plan.period
        else say("now", language, at=_moment(local_now(question), question.timezone)),
    ]
    made = say("calls", language, count=calls, what=", ".join(evidence.calls))
    return [f"{say('basis', language)}: {' · '.join(parts)}", made]


def _told(period: Period, language: Language) -> str:
    return say(
        "period",
        language,
        start=f"{period.start:%Y-%m-%d %H:%M}",
        end=f"{period.end:%Y-%m-%d %H:%M}",
        zone=period.timezone,
    )


def _unread(done: Done, failure: Failure, language: Language) -> str:
    what = summary(done.call.tool, {**done.call.arguments, "next_token": None})
    return f"{what} — {cause(failure.cause, language, code=failure.code, call=failure.call)}"


def _moment(value: object, timezone: str) -> str:
    """A time (ISO 8601 or datetime) in `timezone`; as it is where it is none."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return clean(value)
    at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo("UTC"))
    return f"{at.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S %Z}"


_LOOKS_LIKE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}")


def _cell(value: object, question: Question) -> str:
    korean = question.language is Language.KOREAN
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return ("예" if korean else "yes") if value else ("아니요" if korean else "no")
    if isinstance(value, list):
        return clean(", ".join("*" if item is None else str(item) for item in value))
    if isinstance(value, str) and _LOOKS_LIKE_TIME.match(value):
        return _moment(value, question.timezone)
    return clean(value)


# Events -------------------------------------------------------------------------------------------


def _about(event: Json) -> Json:
    try:
        record = json.loads(event.get("CloudTrailEvent") or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _who(event: Json, record: Json) -> str:
    identity = record.get("userIdentity") or {}
    name = event.get("Username") or identity.get("userName") or identity.get("invokedBy") or "?"
    issuer = ((identity.get("sessionContext") or {}).get("sessionIssuer") or {}).get("userName")
    kind = f"{identity.get('type', '')}{f'/{issuer}' if issuer else ''}"
    return f"{clean(name, 80)} ({clean(kind, 80)})" if kind else clean(name, 80)


def _matches(event: Json, plan: Plan) -> bool:
    if plan.event is None and str(event.get("ReadOnly", "")).lower() == "true":
        return False
    if plan.within and not re.search(plan.within, str(event.get("EventName", ""))):
        return False
    if plan.event and plan.resource:
        named = (str(one.get("ResourceName", "")) for one in event.get("Resources") or ())
        return any(
            name == plan.resource or name.endswith((f"/{plan.resource}", f":{plan.resource}"))
            for name in named
        )
    return True


def _event_row(event: Json, question: Question) -> str:
    record = _about(event)
    named = [clean(one.get("ResourceName", ""), 80) for one in event.get("Resources") or ()]
    parts = [
        _moment(event.get("EventTime", ""), question.timezone),
        clean(event.get("EventName", "?"), 80),
        _who(event, record),
        ", ".join(filter(None, named[:3])) or "-",
        clean(record.get("sourceIPAddress") or "-", 60),
        clean(record.get("awsRegion") or "-", 30),
    ]
    if code := record.get("errorCode"):
        parts.append(clean(f"errorCode={code}", 80))
    return " · ".join(parts)


def _found_events(question: Question, plan: Plan, done: Sequence[Done], _: Slots) -> Found:
    language = question.language
    events = {
        str(event.get("EventId", number)): event
        for one in done
        for number, event in enumerate(one.result.data.get("events") or ())
        if _matches(event, plan)
    }
    newest = sorted(events.values(), key=lambda event: str(event.get("EventTime", "")), reverse=True)
    latest = {one.call.region: one for one in done}
    what = clean(plan.event or plan.resource or plan.user or say("events_changing", language))
    count = len(newest)
    phrase = "events_none" if not count else "event_one" if count == 1 else "events"
    return Found(
        lines=(say(phrase, language, what=what, count=f"{count:,}"),),
        rows=tuple(_event_row(event, question) for event in newest[:SHOWN]),
        count=count,
        hidden=max(0, count - SHOWN),
        truncated=any(one.result.more for one in latest.values()),
        next_step="next_events" if count else "next_events_none",
    )


# Alarms and metrics -------------------------------------------------------------------------------


def _alarm_row(alarm: Json, region: str, question: Question) -> str:
    parts = (
        clean(alarm.get("alarm_name", "?")),
        clean(alarm.get("metric_name") or alarm.get("alarm_rule") or "-", 80),
        clean(alarm.get("state_reason") or "-", 200),
        _moment(alarm.get("state_updated_timestamp", ""), question.timezone),
        region,
    )
    return " · ".join(parts)


def _found_alarms(question: Question, plan: Plan, done: Sequence[Done], _: Slots) -> Found:
    language = question.language
    rows: list[str] = []
    changes: list[tuple[Done, Json]] = []
    for one in done:
        data = one.result.data
        alarms = [*(data.get("metric_alarms") or ()), *(data.get("composite_alarms") or ())]
        rows += [_alarm_row(alarm, one.call.region, question) for alarm in alarms]
        changes += [(one, row) for row in _rows(one)] if one.call.tool == "call_aws" else []
    count = len(rows)
    phrase = "alarms_none" if not count else "alarm_one" if count == 1 else "alarms"
    after: list[str] = []
    if plan.period and any(one.call.tool == "call_aws" and not one.result.failure for one in done):
        after = _changes(changes, question)
    return Found(
        lines=(say(phrase, language, count=f"{count:,}"),),
        rows=tuple(rows[:SHOWN]),
        count=count,
        hidden=max(0, count - SHOWN),
        truncated=any(one.result.more for one in done),
        after=tuple(after),
        next_step="next_alarms",
    )


def _changes(changes: Sequence[tuple[Done, Json]], question: Question) -> list[str]:
    if not changes:
        return [say("alarm_changes_none", question.language)]
    newest = sorted(changes, key=lambda pair: str(pair[1].get("at", "")), reverse=True)
    lines = [say("alarm_changes", question.language, count=f"{len(changes):,}")]
    for one, row in newest[:SHOWN]:
        at = _moment(row.get("at", ""), question.timezone)
        lines.append(
            f"• {at} · {clean(row.get('name', '?'))} · {clean(row.get('what', ''))} · {one.call.region}"
        )
    if len(newest) > SHOWN:
        lines.append(say("more_rows", question.language, count=f"{len(newest) - SHOWN:,}"))
    return lines


def _found_alarm_history(question: Question, plan: Plan, done: Sequence[Done], _: Slots) -> Found:
    language, rows, state = question.language, [], ""
    for one in done:
        details = one.result.data.get("alarm_details") or {}
        if details.get("current_state", "Unknown") != "Unknown":
            state = str(details["current_state"])
        rows += [
            " · ".join(
                (
                    _moment(item.get("timestamp", ""), question.timezone),
                    clean(f"{item.get('old_state') or '?'} → {item.get('new_state') or '?'}"),
                    clean(item.get("state_reason") or item.get("history_summary") or "-", 200),
                    one.call.region,
                )
            )
            for item in one.result.data.get("history_items") or ()
        ]
    what = clean(plan.resource)
    line = (
        say("alarm_history", language, what=what, count=f"{len(rows):,}", state=clean(state or "?"))
        if state or rows
        else say("alarm_unknown", language, what=what)
    )
    return Found(
        lines=(line,),
        rows=tuple(sorted(rows, reverse=True)[:SHOWN]),
        count=len(rows),
        hidden=max(0, len(rows) - SHOWN),
        truncated=any(one.result.more for one in done),
        next_step="next_metric",
    )


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def _found_metric(question: Question, _: Plan, done: Sequence[Done], slots: Slots) -> Found:
    language, metric = question.language, metric_of(slots)
    listed = {one.call.region: one for one in done if one.call.tool == "call_aws"}
    rows: list[tuple[float, str]] = []
    for one in done:
        if one.call.tool == "get_metric_data" and one.call.region in listed:
            rows += _metric_rows(one, listed[one.call.region], metric, language)
    ordered = [row for _, row in sorted(rows, key=lambda pair: (-pair[0], pair[1]))]
    known = sum(len(resources_of(one, metric)) for one in listed.values())
    statistics = "/".join(metric.statistics)
    lines = [
        say("metric", language, what=metric.name, count=f"{len(rows):,}", statistics=statistics)
        if rows
        else say("metric_none", language, what=metric.name)
    ]
    if metric.namespace == "CWAgent" and not rows:
        lines.append(say("metric_agent", language))
    return Found(
        lines=tuple(lines),
        rows=tuple(ordered[:SHOWN]),
        count=len(rows),
        hidden=max(0, len(ordered) - SHOWN),
        truncated=any(one.result.more for one in listed.values()) or known > _asked(done),
        next_step="next_metric",
    )


def _asked(done: Sequence[Done]) -> int:
    """How many resources' points were asked for; two statistics of each."""
    return sum(len(one.call.arguments["queries"]) for one in done if one.call.tool == "get_metric_data") // 2


def _metric_rows(points: Done, listed: Done, metric: Metric, language: Language) -> list[tuple[float, str]]:
    """(greatest value, row) of each resource that has points."""
    series = {
        str(one.get("id")): one.get("datapoints") or []
        for one in points.result.data.get("metricDataResults") or ()
    }
    rows = []
    for number, dimensions in enumerate(resources_of(listed, metric)):
        name = next((str(one["Value"]) for one in dimensions if one.get("Name") == metric.dimension), "?")
        values = {
            statistic: [float(point["value"]) for point in series.get(f"m{number}_{statistic.lower()}", ())]
            for statistic in metric.statistics
        }
        first, second = (values[statistic] for statistic in metric.statistics)
        if not first or not second:
            continue
        whole = sum(first) if metric.statistics[0] == "Sum" else sum(first) / len(first)
        edge = min(second) if metric.statistics[1] == "Minimum" else max(second)
        told = f"{metric.statistics[0]} {_number(whole)} · {metric.statistics[1]} {_number(edge)}"
        many = say("points", language, count=len(first))
        rows.append((max(first), f"{clean(name)} · {told} · {many} · {points.call.region}"))
    return rows


# Things -------------------------------------------------------------------------------------------


def _rows(done: Done) -> list[Json]:
    rows = done.result.data.get("rows")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _is_named(row: Json, plan: Plan) -> bool:
    return plan.resource is None or any(
        isinstance(value, str)
        and (value == plan.resource or value.endswith((f"/{plan.resource}", f":{plan.resource}")))
        for value in row.values()
    )


def _found_things(question: Question, plan: Plan, done: Sequence[Done], _: Slots) -> Found:
    assert plan.kind is not None
    kind, language = KINDS[plan.kind], question.language
    what = kind.names[0 if language is Language.KOREAN else 1]
    listed = [(one.call.region, row) for one in done for row in _rows(one)]
    chosen = [
        (region, row)
        for region, row in listed
        if _is_named(row, plan) and all(inventory.holds(condition, row) for condition in plan.conditions)
    ]
    more = any(one.result.more for one in done)
    count, total = len(chosen), len(listed)
    shown = say("at_least", language, count=f"{count:,}") if more else f"{count:,}"
    names = [one.names[0 if language is Language.KOREAN else 1] for one in plan.conditions]
    names += [clean(plan.resource)] if plan.resource else []
    if names:
        line = say(
            "things_some", language, what=what, total=f"{total:,}", condition=", ".join(names), count=shown
        )
    else:
        line = (
            say("things", language, what=what, count=shown)
            if count
            else say("things_none", language, what=what)
        )
    return Found(
        lines=(line,),
        rows=tuple(_thing_row(region, row, kind, question) for region, row in chosen[:SHOWN]),
        count=count,
        hidden=max(0, count - SHOWN),
        truncated=more,
        next_step="next_things",
    )


def _thing_row(region: str, row: Json, kind: inventory.Kind, question: Question) -> str:
    first, *others = kind.columns
    parts = [_cell(row.get(first), question)]
    parts += [
        f"{column(name, question.language)} {_cell(row.get(name), question)}"
        for name in others
        if row.get(name) not in (None, [], "")
    ]
    return " · ".join(parts if kind.is_global else [*parts, region])


_FINDERS = {
    Topic.EVENTS: _found_events,
    Topic.ALARMS: _found_alarms,
    Topic.ALARM_HISTORY: _found_alarm_history,
    Topic.METRIC: _found_metric,
    Topic.THINGS: _found_things,
}


def unreachable(code: str) -> Failure:
    """A tool's server that did not answer."""
    return Failure(cause=Cause.UNREACHABLE, code=code)
