"""What a month's data say: issues, figures, rates, what to do first. Pure; what is unread is never zero."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from fairlead.support.findings import AccountsDiffer
from fairlead.support.hazards import OLD_RUNTIMES
from fairlead.support.model import Severity
from fairlead.support.monthly.model import Cause, MonthlyData, Part, Risk, Row, State

MAX_KEY_AGE = timedelta(days=90)
MIN_BACKUP_DAYS = 7
OK_FROM, WARN_FROM = 0.9, 0.7  # rates


class Tone(StrEnum):
    """How a rate is to be taken."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNREAD = "unread"  # nothing of it was read
    NONE = "none"  # there is nothing of the kind


@dataclass(frozen=True, slots=True)
class Figure:
    """A count. `value` is None where nothing was read; not `whole`: at least so many."""

    value: int | None
    whole: bool = True

    @property
    def known(self) -> bool:
        """Whether it is a number at all: nothing found in what was partly read is no zero."""
        return self.value is not None and (self.whole or self.value > 0)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"value": self.value if self.known else None, "whole": self.whole}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of those that were read are as they should be."""

    good: int
    of: int
    unread: int  # resources whose setting could not be read
    whole: bool  # all of the kind were read
    tone: Tone

    @property
    def percent(self) -> float | None:
        """Cut, not rounded, to a tenth: 100 means all. None where there is nothing to count."""
        return (self.good * 1000 // self.of) / 10 if self.of else None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "percent": self.percent,
            "good": self.good,
            "of": self.of,
            "unread": self.unread,
            "whole": self.whole,
            "tone": self.tone.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of issue. `is_so` says of a row whether it has it; None where that was not read."""

    id: str
    part: Part
    severity: Severity
    is_so: Callable[[Any, MonthlyData], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A rule and the rows that have it."""

    rule: Rule
    rows: tuple[Row, ...]
    figure: Figure


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _without_mfa(user: Any, _: MonthlyData) -> bool | None:
    """Whoever has no password needs no MFA."""
    if user.password is False or user.mfa is True:
        return False
    return None if user.password is None or user.mfa is None else True


def old_keys(keys: Iterable[Any] | None, now: datetime) -> tuple[Any, ...] | None:
    """Active keys older than 90 days at `now`."""
    if keys is None:
        return None
    return tuple(key for key in keys if key.active and now - key.created > MAX_KEY_AGE)


def _old_key(user: Any, data: MonthlyData) -> bool | None:
    old = old_keys(user.keys, data.finished_at)
    return None if old is None else bool(old)


def _few_backups(database: Any, _: MonthlyData) -> bool | None:
    return None if database.backup_days is None else 0 < database.backup_days < MIN_BACKUP_DAYS


def _no_backups(database: Any, _: MonthlyData) -> bool | None:
    return None if database.backup_days is None else database.backup_days == 0


RULES = (
    Rule(
        id="root_without_mfa", part=Part.ROOT, severity=Severity.CRITICAL,
        is_so=lambda root, _: _not(root.mfa),
    ),
    Rule(id="root_has_keys", part=Part.ROOT, severity=Severity.CRITICAL, is_so=lambda root, _: root.keys),
    Rule(
        id="everything_open", part=Part.OPEN_RULES, severity=Severity.CRITICAL,
        is_so=lambda rule, _: rule.risk is Risk.EVERYTHING,
    ),
    Rule(
        id="public_database", part=Part.DATABASES, severity=Severity.CRITICAL,
        is_so=lambda database, _: database.public,
    ),
    Rule(id="user_without_mfa", part=Part.USERS, severity=Severity.HIGH, is_so=_without_mfa),
    Rule(
        id="sensitive_port_open", part=Part.OPEN_RULES, severity=Severity.HIGH,
        is_so=lambda rule, _: rule.risk is Risk.SENSITIVE,
    ),
    Rule(
        id="database_in_the_clear", part=Part.DATABASES, severity=Severity.HIGH,
        is_so=lambda database, _: _not(database.encrypted),
    ),
    Rule(id="database_without_backups", part=Part.DATABASES, severity=Severity.HIGH, is_so=_no_backups),
    Rule(
        id="advisor_error", part=Part.TRUSTED_ADVISOR, severity=Severity.HIGH,
        is_so=lambda check, _: check.status == "error",
    ),
    Rule(
        id="critical_event", part=Part.EVENTS, severity=Severity.HIGH,
        is_so=lambda event, _: event.critical and not event.error,
    ),
    Rule(
        id="alarm_rings", part=Part.ALARMS, severity=Severity.HIGH,
        is_so=lambda alarm, _: alarm.state == "ALARM",
    ),
    Rule(id="old_key", part=Part.USERS, severity=Severity.MEDIUM, is_so=_old_key),
    Rule(
        id="other_port_open", part=Part.OPEN_RULES, severity=Severity.MEDIUM,
        is_so=lambda rule, _: rule.risk is Risk.OTHER,
    ),
    Rule(
        id="bucket_not_blocked", part=Part.BUCKETS, severity=Severity.MEDIUM,
        is_so=lambda bucket, _: _not(bucket.blocks_public),
    ),
    Rule(
        id="bucket_in_the_clear", part=Part.BUCKETS, severity=Severity.MEDIUM,
        is_so=lambda bucket, _: None if bucket.encryption is None else bucket.encryption == "none",
    ),
    Rule(
        id="volume_in_the_clear", part=Part.VOLUMES, severity=Severity.MEDIUM,
        is_so=lambda volume, _: _not(volume.encrypted),
    ),
    Rule(
        id="imdsv1", part=Part.INSTANCES, severity=Severity.MEDIUM,
        is_so=lambda instance, _: _not(instance.imdsv2),
    ),
    Rule(
        id="old_runtime", part=Part.FUNCTIONS, severity=Severity.MEDIUM,
        is_so=lambda function, _: function.runtime in OLD_RUNTIMES,
    ),
    Rule(
        id="deletion_unprotected", part=Part.DATABASES, severity=Severity.MEDIUM,
        is_so=lambda database, _: False if database.in_cluster else _not(database.deletion_protection),
    ),
    Rule(id="few_backups", part=Part.DATABASES, severity=Severity.LOW, is_so=_few_backups),
    Rule(
        id="single_zone", part=Part.DATABASES, severity=Severity.LOW,
        is_so=lambda database, _: False if database.in_cluster else _not(database.multi_az),
    ),
    Rule(
        id="bucket_without_versions", part=Part.BUCKETS, severity=Severity.LOW,
        is_so=lambda bucket, _: None if bucket.versioning is None else bucket.versioning != "enabled",
    ),
    Rule(
        id="advisor_warning", part=Part.TRUSTED_ADVISOR, severity=Severity.LOW,
        is_so=lambda check, _: check.status == "warning",
    ),
)  # fmt: skip
URGENT = (Severity.CRITICAL, Severity.HIGH)


def issues(data: MonthlyData) -> dict[str, Issue]:
    """Every rule with the rows that have it, by the rule's id; also those that nothing has."""
    return {rule.id: _issue(rule, data) for rule in RULES}


def _issue(rule: Rule, data: MonthlyData) -> Issue:
    state = data.state(rule.part)
    judged = [(row, rule.is_so(row, data)) for row in data.rows(rule.part)]
    rows = tuple(row for row, so in judged if so)
    known = state is State.READ and all(so is not None for _, so in judged)
    nothing = state in (State.UNREAD, State.UNAVAILABLE) or (
        bool(judged) and all(so is None for _, so in judged)
    )
    return Issue(
        rule=rule, rows=rows, figure=Figure(None, whole=False) if nothing else Figure(len(rows), known)
    )


def of_row(found: Mapping[str, Issue], part: Part) -> dict[int, list[Rule]]:
    """The rules that each row of `part` breaks, by the row's identity in memory; the most severe first."""
    broken: dict[int, list[Rule]] = {}
    for issue in found.values():
        if issue.rule.part is part:
            for row in issue.rows:
                broken.setdefault(id(row), []).append(issue.rule)
    return broken


def count(data: MonthlyData, part: Part, only: Callable[[Any], bool] = lambda _: True) -> Figure:
    """How many rows of `part` there are, of those that `only` takes."""
    state = data.state(part)
    if state in (State.UNREAD, State.UNAVAILABLE):
        return Figure(None, whole=False)
    return Figure(sum(1 for row in data.rows(part) if only(row)), state is State.READ)


def figures(data: MonthlyData) -> dict[str, Figure]:
    """Every number of the report by its name in the JSON: counts of parts, and of issues by rule."""
    counted = {
        "instances": count(data, Part.INSTANCES),
        "instances_running": count(data, Part.INSTANCES, lambda row: row.state == "running"),
        "buckets": count(data, Part.BUCKETS),
        "databases": count(data, Part.DATABASES),
        "functions": count(data, Part.FUNCTIONS),
        "volumes": count(data, Part.VOLUMES),
        "users": count(data, Part.USERS),
        "risky_rules": count(data, Part.OPEN_RULES, lambda row: row.risk is not Risk.WEB),
        "events": count(data, Part.EVENTS),
        "events_critical": count(data, Part.EVENTS, lambda row: row.critical),
        "alarms": count(data, Part.ALARMS),
        "buckets_with_issues": _with_issues(data, Part.BUCKETS),
        "databases_with_issues": _with_issues(data, Part.DATABASES),
    }
    return counted | {name: issue.figure for name, issue in issues(data).items()}


def _with_issues(data: MonthlyData, part: Part) -> Figure:
    """How many rows of `part` have at least one issue."""
    rules = [rule for rule in RULES if rule.part is part]
    state, broken, whole = data.state(part), 0, True
    for row in data.rows(part):
        said = [rule.is_so(row, data) for rule in rules]
        broken += any(said)
        whole = whole and (any(said) or None not in said)
    if state in (State.UNREAD, State.UNAVAILABLE):
        return Figure(None, whole=False)
    return Figure(broken, whole and state is State.READ)


def rates(data: MonthlyData) -> dict[str, Rate]:
    """Encryption first, then protection; by name in the JSON."""
    return {
        "volumes_encrypted": _rate(data, Part.VOLUMES, [row.encrypted for row in data.volumes]),
        "buckets_encrypted": _rate(
            data,
            Part.BUCKETS,
            [None if row.encryption is None else row.encryption != "none" for row in data.buckets],
        ),
        "databases_encrypted": _rate(data, Part.DATABASES, [row.encrypted for row in data.databases]),
        "users_with_mfa": _rate(
            data,
            Part.USERS,
            [_not(_without_mfa(row, data)) for row in data.users if row.password is not False],
        ),
        "instances_imdsv2": _rate(data, Part.INSTANCES, [row.imdsv2 for row in data.instances]),
        "buckets_blocked": _rate(data, Part.BUCKETS, [row.blocks_public for row in data.buckets]),
    }


def _rate(data: MonthlyData, part: Part, said: list[bool | None]) -> Rate:
    good, of = sum(value is True for value in said), sum(value is not None for value in said)
    state = data.state(part)
    if not of:
        tone = Tone.NONE if state is State.READ and not said else Tone.UNREAD
    else:
        share = good / of
        tone = Tone.OK if share >= OK_FROM else Tone.WARN if share >= WARN_FROM else Tone.BAD
    whole = state is State.READ and of == len(said)
    return Rate(good=good, of=of, unread=len(said) - of, whole=whole, tone=tone)


def urgent(found: Mapping[str, Issue]) -> list[Issue]:
    """What to look at first: critical and high issues that somebody has, as ordered in RULES."""
    return [issue for issue in found.values() if issue.rows and issue.rule.severity in URGENT]


def recommended(found: Mapping[str, Issue]) -> list[Issue]:
    """Every issue that somebody has, as ordered in RULES."""
    return [issue for issue in found.values() if issue.rows]


def unread_parts(data: MonthlyData) -> list[Part]:
    """Parts that were not read to their end; what the account does not have is none of them."""
    return [part for part in Part if data.state(part) in (State.PARTLY, State.UNREAD)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """Why something stands as not read: a gap, or a field of so many rows."""

    part: Part
    region: str
    field: str  # "" for a gap
    cause: Cause
    detail: str
    rows: int


def blanks(data: MonthlyData) -> list[Blank]:
    """Everything that was not read, fields that fail alike counted together."""
    found = [
        Blank(part=gap.part, region=gap.region, field="", cause=gap.cause, detail=gap.detail, rows=0)
        for gap in data.gaps
    ]
    fields = Counter(
        (part, row.region, name, reason)
        for part in Part
        for row in data.rows(part)
        for name, reason in row.unread.items()
    )
    found += [
        Blank(part=part, region=region, field=name, cause=Cause.FAILED, detail=reason, rows=rows)
        for (part, region, name, reason), rows in fields.items()
    ]
    return found


def by_day(data: MonthlyData) -> dict[date, tuple[int, int]]:
    """(critical, high) events of each day of the period, in its zone; days without any too."""
    place = ZoneInfo(data.timezone)
    day, last = (
        data.start.astimezone(place).date(),
        (data.end - timedelta(microseconds=1)).astimezone(place).date(),
    )
    days: dict[date, tuple[int, int]] = {}
    while day <= last:
        days[day] = (0, 0)
        day += timedelta(days=1)
    for event in data.events:
        at = event.at.astimezone(place).date()
        critical, high = days.get(at, (0, 0))
        days[at] = (critical + event.critical, high + (not event.critical))
    return days


def change(previous: MonthlyData, current: MonthlyData) -> dict[str, int | None]:
    """By how much each figure moved; None where either of the two is not known as a whole.

    Reports of different regions do not compare: all of it is None.

    Raises AccountsDiffer.
    """
    if previous.account != current.account:
        raise AccountsDiffer(
            f"The previous report is of account {previous.account}, this one of {current.account}.",
            remedy="Give the previous report of the same account.",
        )
    before, after = figures(previous), figures(current)
    alike = set(previous.regions) == set(current.regions)
    return {name: _moved(before[name], figure) if alike else None for name, figure in after.items()}


def _moved(before: Figure, after: Figure) -> int | None:
    if before.value is None or after.value is None or not (before.whole and after.whole):
        return None
    return after.value - before.value
