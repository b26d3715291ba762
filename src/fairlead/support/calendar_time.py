"""Calendar time: days, weeks, months, quarters and years that a text names, in local wall-clock time.

A unit without a year is the latest one that has begun. Weeks begin on Monday; "the first week of October" is
its first seven days, the last its last seven; early, mid and late are its three thirds, cut after the 10th and
20th.
"""
# Calendar units are reckoned in local wall-clock time; `periods.find_period` makes them aware at the end.
# ruff: noqa: DTZ001, E501

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fairlead.support.counted_time import (
    COUNT,
    COUNT_KO,
    DAY,
    HOUR,
    LONGEST,
    UNIT_EN,
    UNIT_KO,
    Impossible,
    count,
    unit,
)

Span = tuple[datetime, datetime]
_Make = Callable[[re.Match[str], datetime], Span]


@dataclass(frozen=True, slots=True)
class Point:
    """A calendar unit that the text names: where, and from when to when (local time, naive)."""

    at: int
    to: int
    start: datetime
    end: datetime
    weekday: bool = False
    loose: bool = False  # a weekday of no particular week


_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES.split(), 1)}
MONTH = (
    r"(?P<mon>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAYS = {
    **{n: i for i, n in enumerate("월화수목금토일")},
    **{n: i for i, n in enumerate(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])},
}
_ORDINALS = {
    word: number
    for number, words in enumerate(
        ("first 1st 첫 첫째 첫번째", "second 2nd 둘째 두번째", "third 3rd 셋째 세번째", "fourth 4th 넷째 네번째", "fifth 5th 다섯째"), 1
    )
    for word in words.split()
}  # fmt: skip


def midnight(now: datetime) -> datetime:
    """The beginning of the day."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def day(year: int, month: int, number: int) -> Span:
    """One day. Raises Impossible where there is none."""
    try:
        start = datetime(year, month, number)
    except ValueError as error:
        raise Impossible from error
    return start, start + DAY


def _month(year: int, month: int) -> Span:
    if not 1 <= month <= 12:
        raise Impossible
    return datetime(year, month, 1), datetime(year + month // 12, month % 12 + 1, 1)


def _months_back(now: datetime, back: int) -> Span:
    index = now.year * 12 + now.month - 1 - back
    if index < 2000 * 12:
        raise Impossible
    return _month(index // 12, index % 12 + 1)


def _quarter(year: int, quarter: int) -> Span:
    return _month(year, quarter * 3 - 2)[0], _month(year, quarter * 3)[1]


def _week(now: datetime, weeks_back: int) -> Span:
    start = midnight(now) - timedelta(days=now.weekday(), weeks=weeks_back)
    return start, start + 7 * DAY


def _year(year: int) -> Span:
    return datetime(year, 1, 1), datetime(year + 1, 1, 1)


def _named_month(match: re.Match[str]) -> int:
    groups = match.groupdict()
    if groups.get("mon"):
        return MONTHS[groups["mon"][:3]]
    return int(groups["m"])


def _given_year(match: re.Match[str], now: datetime) -> int | None:
    groups = match.groupdict()
    if groups.get("y"):
        year = int(groups["y"])
        return year if year > 99 else 2000 + year
    relative = (groups.get("ry") or groups.get("ry2") or "").strip()
    if relative:
        back = {"작": 1, "지": 1, "la": 1, "재": 2, "내": -1, "ne": -1}
        return now.year - back.get(relative[: 2 if relative.isascii() else 1], 0)
    return None


_MONTH_BEFORE = re.compile(r"\b(?:in|of|for|from|during|since|until|to|and|through|early|mid|late)[\s-]+$")
_MONTH_AFTER = re.compile(r"^(?:'s|\s+(?:reports?|monthly|security|summary))")


def _is_a_verb(match: re.Match[str]) -> bool:
    """Whether "may" or "march" is no month here: nothing around it says so."""
    text, month = match.string, match.groupdict().get("mon")
    if month not in ("may", "march", "mar") or _given_year(match, datetime(2000, 1, 1)):
        return False
    return not (_MONTH_BEFORE.search(text[: match.start()]) or _MONTH_AFTER.match(text[match.end() :]))


def _month_point(match: re.Match[str], now: datetime) -> Span:
    month, year = _named_month(match), _given_year(match, now)
    found = _month(year or now.year, month)
    return _month(now.year - 1, month) if year is None and found[0] > now else found


def _day_point(match: re.Match[str], now: datetime) -> Span:
    month, number, year = _named_month(match), int(match["d"]), _given_year(match, now)
    if year is not None:
        return day(year, month, number)
    if (month, number) == (2, 29):  # the latest leap day
        return next(
            day(y, 2, 29) for y in range(now.year, 1990, -1) if y % 4 == 0 and datetime(y, 2, 29) <= now
        )
    found = day(now.year, month, number)
    return day(now.year - 1, month, number) if found[0] > now else found


def _day_of_a_month(match: re.Match[str], now: datetime) -> Span:
    """The latest day of that number which has begun."""
    number = int(match["d"])
    for back in range(4):
        month = _months_back(now, back)[0]
        start = month + (number - 1) * DAY
        if start.month == month.month and start <= now:
            return start, start + DAY
    raise Impossible


def _part_of_year(match: re.Match[str], now: datetime, parts: int, number: int) -> Span:
    """The `number`th of so many `parts` of a year."""
    year, months = _given_year(match, now), 12 // parts
    found = _month(year or now.year, number * months - months + 1)[0]
    year = now.year - 1 if year is None and found > now else year or now.year
    return _month(year, number * months - months + 1)[0], _month(year, number * months)[1]


def _ordinal(match: re.Match[str]) -> int:
    word = match["q"]
    return int(word) if word.isdigit() else _ORDINALS.get(word, 4)  # the last one of four


def _quarter_point(match: re.Match[str], now: datetime) -> Span:
    return _part_of_year(match, now, 4, _ordinal(match))


def _half_point(match: re.Match[str], now: datetime) -> Span:
    word = match["q"]
    return _part_of_year(match, now, 2, 1 if word in ("1", "상", "first", "1st") else 2)


def _last_quarter(now: datetime, back: int) -> Span:
    index = now.year * 4 + (now.month - 1) // 3 - back
    return _quarter(index // 4, index % 4 + 1)


def _weekday(match: re.Match[str], now: datetime) -> Span:
    word = match["wd"]
    number = _WEEKDAYS[word[:3] if word.isascii() else word[0]]
    which = _which(match)
    monday = _week(now, 0)[0]
    if which.startswith(("지난주", "지난 주", "저번주", "저번 주")) or which == "last week":
        start = monday - 7 * DAY + timedelta(days=number)
    elif which.startswith(("이번", "this")):
        start = monday + timedelta(days=number)
    elif which.startswith(("다음", "next")):
        start = monday + 7 * DAY + timedelta(days=number)
    else:  # the latest one: "last Friday" on a Friday is a week ago, "Friday" is today
        back = (now.weekday() - number) % 7
        start = midnight(now) - timedelta(days=back or (7 if which.startswith(("last", "지난")) else 0))
    return start, start + DAY


def _which(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return " ".join((groups.get("which2") or groups.get("which") or "").split())


def _weekend(match: re.Match[str], now: datetime) -> Span:
    """The latest weekend that has begun; "last weekend" on a Saturday is the one before."""
    which = _which(match)
    saturday = _week(now, 0)[0] + 5 * DAY
    if which.startswith(("지난주", "저번주", "지난 주", "저번 주")):
        saturday -= 7 * DAY
    elif which.startswith(("다음", "next")):
        saturday += 7 * DAY
    elif not which.startswith(("이번", "this")) and (
        saturday > now or which.startswith(("지난", "저번", "last"))
    ):
        saturday -= 7 * DAY
    return saturday, saturday + 2 * DAY


def _ago(match: re.Match[str], now: datetime) -> Span:
    counted, one = count(match), unit(match["u"])
    if one * min(counted, 100_000) > LONGEST:
        raise Impossible
    if one == 30 * DAY:
        return _months_back(now, round(counted))
    if one % (7 * DAY) == timedelta() and one < 30 * DAY:
        return _week(now, round(counted) * (one // (7 * DAY)))
    if one == 365 * DAY:
        return _year(now.year - round(counted))
    if one < DAY:
        return now - one * counted, now
    start = midnight(now) - one * round(counted)
    return start, start + DAY


def _days_back(days: int) -> _Make:
    return lambda _, now: (midnight(now) - days * DAY, midnight(now) - (days - 1) * DAY)


def _night(_: re.Match[str], now: datetime) -> Span:
    today = midnight(now)
    return today - 6 * HOUR, today + 6 * HOUR


_RELATIVE_YEAR = (
    r"(?P<ry>작년|지난해|재작년|올해|금년|내년|last year(?:'s)?|this year(?:'s)?|next year(?:'s)?)?\s*"
)
_YEAR_AFTER = (
    r"(?:,?\s*(?:of\s+|in\s+)?(?P<y>20\d\d)(?!\d)|\s+(?:of\s+)?(?P<ry2>last year|this year|next year))?"
)
_ISO = r"(?<![\d-])(?P<y>20\d\d)"
_WEEK_KO = r"(?P<which>(?:지난|저번|이번|다음)\s*주|지난|저번|이번|다음)?\s*"
# (pattern, what it means), longest and most special first: what one has taken, the next ones do not see.
_POINTS: tuple[tuple[re.Pattern[str], _Make], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (_ISO + r"(?:[-/]|\.\s?)(?P<m>\d{1,2})(?:[-/]|\.\s?)(?P<d>\d{1,2})(?!\d)", _day_point),
        (r"(?<![\d.:/-])(?P<y>20\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])(?!\d)", _day_point),
        (r"(?<![\d.])(?P<y>2\d)\.(?P<m>0[1-9]|1[0-2])\.(?P<d>0[1-9]|[12]\d|3[01])(?![\d.])", _day_point),
        (r"(?<!\d)(?P<y>20\d\d|\d\d)\s*년\s*(?P<m>\d{1,2})\s*월\s*(?P<d>\d{1,2})\s*일", _day_point),
        (_RELATIVE_YEAR + r"(?<![\d개])(?P<m>\d{1,2})\s*월\s*(?P<d>\d{1,2})\s*일", _day_point),
        (rf"\b{MONTH}\s*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:\s*,?\s*(?P<y>20\d\d))?", _day_point),
        (rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{MONTH}(?![a-z])(?:\s*,?\s*(?P<y>20\d\d))?", _day_point),
        (_ISO + r"[-./](?P<m>\d{1,2})(?![\d-])", _month_point),
        (r"(?<!\d)(?P<y>20\d\d)(?P<m>0[1-9]|1[0-2])(?=\s*(?:월|보고|리포트|report))", _month_point),
        (r"(?<!\d)(?P<y>20\d\d|\d\d)\s*년\s*(?P<m>\d{1,2})\s*월", _month_point),
        (r"(?<!\d)(?P<y>20\d\d)\s*년?\s*(?P<q>[1-4])\s*분기", _quarter_point),
        (_RELATIVE_YEAR + r"(?<!\d)(?P<q>[1-4])\s*분기", _quarter_point),
        (r"(?P<y>20\d\d)\s*q(?P<q>[1-4])(?!\d)", _quarter_point),
        (r"\bq(?P<q>[1-4])(?!\d)" + _YEAR_AFTER, _quarter_point),
        (r"\b(?P<q>first|1st|second|2nd|third|3rd|fourth|4th) quarter" + _YEAR_AFTER, _quarter_point),
        (r"\b(?P<q>last|final) quarter\s+of\s+(?:(?P<y>20\d\d)|(?P<ry2>last year|this year))", _quarter_point),
        (r"(?:(?<!\d)(?P<y>20\d\d|\d\d)\s*년?\s*)(?P<q>[상하])반기", _half_point),
        (_RELATIVE_YEAR + r"(?P<q>[상하])반기", _half_point),
        (r"(?P<y>20\d\d)\s*h(?P<q>[12])(?!\d)", _half_point),
        (r"\bh(?P<q>[12])(?![\d>])" + _YEAR_AFTER, _half_point),
        (r"\b(?P<q>first|1st|second|2nd) half(?!\s+of\s+(?!20\d\d|last year|this year|the year))" + _YEAR_AFTER, _half_point),
        (_RELATIVE_YEAR + r"(?<![\d.])(?P<m>\d{1,2})\s*월(?!요일)", _month_point),
        (rf"\b(?:(?P<ry>last|this|next)\s+)?{MONTH}(?![a-z])(?:\s*(?:of\s+)?(?P<y>20\d\d)|\s+(?:of\s+)?(?P<ry2>last year|this year|next year))?", _month_point),
        (r"(?<![\d/])(?P<m>1[0-2]|0?[1-9])/(?P<d>\d{1,2})(?![\d/])", _day_point),
        (_WEEK_KO + r"(?P<wd>[월화수목금토일])요일", _weekday),
        (r"(?:\b(?P<which>last week|last|this|next|on)\s+)?\b(?P<wd>(?:mon|tues?|wednes|thurs?|fri|satur|sun)day)(?:\s+(?:of\s+)?(?P<which2>last week|this week|next week))?", _weekday),
        (_WEEK_KO + r"주말(?!마다)", _weekend),
        (r"\b(?:(?P<which>last|this|next|past)\s+)?weekend(?!s)", _weekend),
        (rf"(?<![\d.]){COUNT_KO}\s*{UNIT_KO}\s*전(?!후)", _ago),
        (rf"(?<![\d.])(?:{COUNT}|an?)\s+{UNIT_EN}\s+ago", _ago),
        (r"어젯\s*밤|지난\s*밤|간밤|\blast night|\bovernight", _night),
        (r"그저께|그제|엊그제|\b(?:the )?day before yesterday", _days_back(2)),
        (r"어제|\byesterday", _days_back(1)),
        (r"오늘|금일|\btoday|\bthis (?=morning|afternoon|evening)|\btonight", _days_back(0)),
        (r"모레|\bday after tomorrow", _days_back(-2)),
        (r"내일|\btomorrow", _days_back(-1)),
        (r"지지난\s*주|저저번\s*주|\bweek before last", lambda _, now: _week(now, 2)),
        (r"지난\s*주(?!일)|저번\s*주(?!일)|전주(?!\s*시)|\b(?:last|previous) week(?!s?\s+of\b)", lambda _, now: _week(now, 1)),
        (r"이번\s*주|금주|\bthis week|\bweek to date", lambda _, now: _week(now, 0)),
        (r"다음\s*주(?!일)|\bnext week", lambda _, now: _week(now, -1)),
        (r"지지난\s*달|저저번\s*달|전전월|\bmonth before last", lambda _, now: _months_back(now, 2)),
        (r"지난\s*달|저번\s*달|전월|전달(?=\s|의|에|$)|\b(?:last|previous) month", lambda _, now: _months_back(now, 1)),
        (r"이번\s*달|이\s?달(?=의|에|\s|$)|당월|금월|\b(?:this|current) month|\bmonth to date|\bmtd\b", lambda _, now: _months_back(now, 0)),
        (r"다음\s*달|\bnext month", lambda _, now: _months_back(now, -1)),
        (r"지난\s*분기|전\s*분기|직전\s*분기|\b(?:last|previous) quarter", lambda _, now: _last_quarter(now, 1)),
        (r"이번\s*분기|당\s*분기|\bthis quarter|\bquarter to date|\bqtd\b", lambda _, now: _last_quarter(now, 0)),
        (r"다음\s*분기|\bnext quarter", lambda _, now: _last_quarter(now, -1)),
        (r"재작년|\byear before last", lambda _, now: _year(now.year - 2)),
        (r"작년|지난\s*해|\blast year", lambda _, now: _year(now.year - 1)),
        (r"올해|금년|연초부터|\bthis year|\byear to date|\bytd\b", lambda _, now: _year(now.year)),
        (r"내년|\bnext year", lambda _, now: _year(now.year + 1)),
        (r"(?<!\d)(?P<y>20\d\d)\s*년(?!\s*\d)|\b(?:in|of|during|for)\s+(?P<y2>20\d\d)\b(?!\s*[-./:])",
         lambda match, _: _year(int(match["y"] or match["y2"]))),
        (r"(?:^|(?<![\d월개])\s)(?P<d>\d{1,2})\s*일(?=에|까지|부터|\s*자)", _day_of_a_month),
        (r"\bon\s+the\s+(?P<d>\d{1,2})(?:st|nd|rd|th)\b", _day_of_a_month),
    )
)  # fmt: skip


def points(text: str, now: datetime) -> Iterator[Point]:
    """Every calendar unit that `text` (folded) names, seen from `now` (naive, local). Raises Impossible."""
    taken: list[tuple[int, int]] = []
    for pattern, make in _POINTS:
        for match in pattern.finditer(text):
            if any(at < match.end() and match.start() < to for at, to in taken):
                continue
            if make is _month_point and _is_a_verb(match):
                continue
            taken.append(match.span())
            try:
                span = make(match, now)
            except (Impossible, OverflowError, ValueError) as error:
                raise Impossible(match.group().strip()) from error
            weekday = make is _weekday
            found = Point(match.start(), match.end(), *span, weekday, weekday and _which(match) in ("", "on"))
            yield _part_of_month(text, found)


_NTH = "|".join(sorted(_ORDINALS, key=len, reverse=True))
_NTH_WEEK_BEFORE = re.compile(
    rf"\b(?:the\s+)?(?:(?P<nth>{_NTH})|last|final)\s+week\s+(?:of|in)\s+(?:the\s+)?$"
)
_NTH_WEEK_AFTER = re.compile(rf"^(?:의)?\s*(?:(?P<n>[1-5])\s*주\s?차|(?:(?P<nth>{_NTH})|마지막)\s*주(?!말))")
_THIRD_BEFORE = re.compile(
    r"\b(?P<early>early|(?:the\s+)?(?:beginning|start) of)[\s-]+(?:the\s+)?$"
    r"|\b(?P<mid>mid|(?:the\s+)?middle of)[\s-]+(?:the\s+)?$|\b(?:late|(?:the\s+)?end of)[\s-]+(?:the\s+)?$"
)
_THIRD_AFTER = re.compile(r"^\s*(?:(?P<early>초순?)|(?P<mid>중순)|(?:하순|말))(?![가-힣](?<![에의부까이로]))")
_MODIFIERS = (
    (_NTH_WEEK_BEFORE, True),
    (_NTH_WEEK_AFTER, False),
    (_THIRD_BEFORE, True),
    (_THIRD_AFTER, False),
)


def _part_of_month(text: str, point: Point) -> Point:
    """`point` narrowed where it is a month and the text says which week or third of it."""
    if point.start.day != 1 or not 27 < (point.end - point.start).days < 32:
        return point
    for pattern, before in _MODIFIERS:
        found = pattern.search(text[: point.at]) if before else pattern.match(text[point.to :])
        if not found or (before and re.search(r"\bsince\s*$", text[: found.start()])):
            continue
        groups = found.groupdict()
        start, end = (_week_of_month if "nth" in groups else _third_of_month)(point, groups)
        at, to = (found.start(), point.to) if before else (point.at, point.to + found.end())
        return replace(point, at=at, to=to, start=start, end=end)
    return point


def _week_of_month(point: Point, groups: dict[str, str | None]) -> Span:
    number = int(groups.get("n") or 0) or _ORDINALS.get(groups["nth"] or "", 0)
    if not number:
        return point.end - 7 * DAY, point.end
    start = point.start + (number - 1) * 7 * DAY
    return start, min(start + 7 * DAY, point.end)


def _third_of_month(point: Point, groups: dict[str, str | None]) -> Span:
    tenth, twentieth = point.start + 10 * DAY, point.start + 20 * DAY
    if groups["early"]:
        return point.start, tenth
    return (tenth, twentieth) if groups["mid"] else (twentieth, point.end)
