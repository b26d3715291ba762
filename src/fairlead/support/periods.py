"""When: the period that a question names, as a half-open interval in a time zone.

Calendar words mean whole calendar units ("지난주", "last month", "10월"); counted words mean that much time
up to now ("최근 3일", "last 24 hours"). A unit that is still running ends now.
"""

# Patterns are rows of tables, read side by side.
# ruff: noqa: E501

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

from fairlead.kernel.errors import FairleadError
from fairlead.support.calendar_time import MONTH, MONTHS, Point, Span, day, midnight, points
from fairlead.support.clock_time import CLOCK, DEFAULT_ZONE, JOIN, PARTS, at, spelled_out, within_day, zone_of
from fairlead.support.counted_time import DAY, Impossible, rolling
from fairlead.support.model import Period

__all__ = ["DEFAULT_ZONE", "MomentUnreadable", "Reading", "find_period", "moment"]


class MomentUnreadable(FairleadError):
    """The moment to count from is not an ISO 8601 time between the years 2000 and 2100."""

    code, status, retryable = "support.moment_unreadable", 422, False


@dataclass(frozen=True, slots=True)
class Reading:
    """A period, or why there is none."""

    period: Period | None = None
    impossible: str | None = None  # the words that name no day of any calendar
    endless: str | None = None  # the words that say when it ends, where nothing says when it begins
    future: bool = False  # it has not begun yet


class _Endless(Exception):
    """It ends there, and has no beginning."""


def moment(text: str) -> datetime:
    """`text` as an aware datetime; without an offset it is Seoul's. Raises MomentUnreadable."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or not 2000 <= found.year <= 2100:
        raise MomentUnreadable(
            f"{text[:60]!r} is not a moment to count from.",
            remedy="Write it as 2026-11-20T10:00:00+09:00.",
        )
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(DEFAULT_ZONE))


_OPEN_BEFORE = re.compile(r"\bsince\s+(?:the\s+)?(?:start of\s+|beginning of\s+|early\s+)?(?:the\s+)?$")
_OPEN_AFTER = re.compile(
    r"^\s*(?:부터|이후|이래|onwards?\b|(?:to|until|till|through|up to|-|~)\s*(?:now|the present|present|date)\b)"
)
_END_BEFORE = re.compile(r"\b(?:before|prior to|earlier than)\s+(?:the\s+)?$")
_END_AFTER = re.compile(r"^\s*이전")


def _moment_of(text: str, point: Point, after: int) -> Span:
    """A point of a range, narrowed by a clock time written right behind it."""
    if clock := CLOCK.match(text, _skip(text, after)):
        start = at(point.start, clock)
        return start, start
    return point.start, point.end


def _skip(text: str, start: int) -> int:
    found = re.compile(r"[\s,t]*(?:at\s+)?").match(text, start)
    return found.end() if found else start


def _week_in_common(left: Point, right: Point) -> tuple[Point, Point]:
    """Two weekdays as a range: one that names its week gives it to the other."""
    if not (left.weekday and right.weekday and (left.loose or right.loose)):
        return left, right
    apart = timedelta(days=(right.start.weekday() - left.start.weekday()) % 7)
    if left.loose:
        return replace(left, start=right.start - apart, end=right.end - apart), right
    return left, replace(right, start=left.start + apart, end=left.end + apart)


def _joined(text: str, found: list[Point], now: datetime) -> Span | None:
    """A range between two of the points, or from one point until now."""
    for left, right in pairwise(found):
        between = text[left.to : right.at]
        clock = CLOCK.match(text, _skip(text, left.to))
        gap = text[clock.end() : right.at] if clock and clock.end() <= right.at else between
        if JOIN.match(gap) and len(gap) < 16:
            first, last = _week_in_common(left, right)
            start = _moment_of(text, first, left.to)[0]
            end = _moment_of(text, last, right.to)[1]
            return (start, end) if end > start else (right.start, left.end)
    for point in found:
        clock = CLOCK.match(text, _skip(text, point.to))
        after = text[clock.end() if clock else point.to :]
        opened = _OPEN_AFTER.match(after) and not (clock and CLOCK.search(after))
        if _OPEN_BEFORE.search(text[: point.at]) or (opened and point.start < now):
            return _moment_of(text, point, point.to)[0], now
    return None


_DAY_RANGE = re.compile(
    rf"(?:(?P<m>\d{{1,2}})\s*월\s*(?P<a>\d{{1,2}})\s*일?\s*(?:부터|~|-|에서)\s*(?P<b>\d{{1,2}})\s*일)"
    rf"|(?:\b{MONTH}\s*(?P<a2>\d{{1,2}})(?:st|nd|rd|th)?\s*(?:to|through|and|-|\u2013|~)\s*(?P<b2>\d{{1,2}})(?!\d|:)(?:st|nd|rd|th)?(?!\s*(?:am|pm)))"
    r"|(?<![\d-])(?P<y>20\d\d)[-./](?P<m3>\d{1,2})[-./](?P<a3>\d{1,2})\s*(?:부터|~|\u2013)\s*"
    r"(?:(?P<m4>\d{1,2})[-./])?(?P<b3>\d{1,2})(?![\d:.년월시/-])"
)


def _day_range(text: str, now: datetime) -> Span | None:
    """ "11월 3일부터 10일까지", "Nov 3 to 10", "2026.11.03~10": the second day takes the month of the first."""
    match = _DAY_RANGE.search(text)
    if not match:
        return None
    months = match["m"] or match["m3"]
    month = int(months) if months else MONTHS[match["mon"][:3]]
    first = int(match["a"] or match["a2"] or match["a3"])
    last = int(match["b"] or match["b2"] or match["b3"])
    try:
        latest = now.year if day(now.year, month, first)[0] <= now else now.year - 1
        year = int(match["y"] or latest)
        return day(year, month, first)[0], day(year, int(match["m4"] or month), last)[1]
    except (Impossible, ValueError) as error:
        raise Impossible(match.group().strip()) from error


def _clocked(text: str, now: datetime) -> Span | None:
    """The times of the day in a text that names no day."""
    if not (CLOCK.search(text) or any(pattern.search(text) for pattern, *_ in PARTS[:4])):
        return None
    found = within_day(text, midnight(now))
    if found is None:
        return None
    back = DAY if found[0] > now else timedelta()  # "at 15:30" in the morning was yesterday
    return found[0] - back, now if _until_now(text) else found[1] - back


def _calendar(text: str, now: datetime) -> Span | None:
    if found := _day_range(text, now):
        return found
    named = sorted(points(text, now), key=lambda point: point.at)
    named = [point for point in named if point.start <= now] or named  # what is to come is seldom asked about
    if found := _joined(text, named, now):
        return found
    if not named:
        return _clocked(text, now)
    chosen = min(named, key=lambda point: point.end - point.start)
    if _END_BEFORE.search(text[: chosen.at]) or _END_AFTER.match(text[chosen.to :]):
        raise _Endless(text[chosen.at : chosen.to].strip())
    if chosen.end - chosen.start == DAY and chosen.start == midnight(chosen.start):
        start, end = within_day(text, chosen.start) or (chosen.start, chosen.end)
        return (start, now) if _until_now(text) and start < now else (start, end)
    return chosen.start, chosen.end


def _until_now(text: str) -> bool:
    """Whether the only clock time is a beginning: "since 6am", "9시 이후"."""
    clocks = list(CLOCK.finditer(text))
    if len(clocks) != 1:
        return False
    before, after = text[: clocks[0].start()], text[clocks[0].end() :]
    return bool(re.search(r"\bsince\s+$", before) or _OPEN_AFTER.match(after))


def _aware(found: Span, now: datetime, zone: tzinfo) -> Span | None:
    """Both edges in `zone`, what is still running ended; None where nothing is left of it."""
    start, end = (edge.replace(tzinfo=zone) for edge in found)
    if start.astimezone(UTC) < now < end.astimezone(UTC):
        end = now.astimezone(zone)
    # An hour that the clocks skipped is none.
    return (start, end) if start.astimezone(UTC) < end.astimezone(UTC) else None


def find_period(text: str, now: datetime) -> Reading:
    """The period that `text` (folded, see `language`) names, seen from `now` (aware)."""
    text = spelled_out(text)
    name, zone = zone_of(text, now)
    try:
        if length := rolling(text):
            start = (now.astimezone(UTC) - length).astimezone(zone)
            return Reading(Period(start=start, end=now.astimezone(zone), timezone=name))
        found = _calendar(text, now.astimezone(zone).replace(tzinfo=None))
    except Impossible as error:
        return Reading(impossible=str(error) or text[:40])
    except _Endless as error:
        return Reading(endless=str(error))
    aware = _aware(found, now, zone) if found and found[0] < found[1] else None
    if aware is None:
        return Reading()
    return Reading(Period(start=aware[0], end=aware[1], timezone=name), future=aware[0] > now)
