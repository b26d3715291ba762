"""When: the period that a question names, as a half-open interval in a time zone.

Calendar words mean whole calendar units ("지난주", "last month", "10월"); counted words mean that much time
up to now ("최근 3일", "last 24 hours"; a month is 30 days, a year 365). A unit that is still running ends
now. A month or day without a year is the latest one that has begun. Weeks begin on Monday.
"""
# Calendar units are reckoned in local wall-clock time; `find_period` makes them aware at the end.
# ruff: noqa: DTZ001, E501

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

from fairlead.kernel.errors import FairleadError
from fairlead.support.language import terms
from fairlead.support.model import Period
from fairlead.support.vocabulary import TIME_ZONES

DEFAULT_ZONE = "Asia/Seoul"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LONGEST = timedelta(days=3_660)


class MomentUnreadable(FairleadError):
    """The moment to count from is not an ISO 8601 time between the years 2000 and 2100."""

    code, status, retryable = "support.moment_unreadable", 422, False


@dataclass(frozen=True, slots=True)
class Reading:
    """A period, or why there is none."""

    period: Period | None = None
    impossible: str | None = None  # the words that name no day of any calendar
    future: bool = False  # it has not begun yet


@dataclass(frozen=True, slots=True)
class _Point:
    """A calendar unit that the text names: where, and from when to when (local time, naive)."""

    at: int
    to: int
    start: datetime
    end: datetime


class _Impossible(Exception):
    """No such day."""


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


_OFFSET = re.compile(
    r"\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:z(?![a-z])|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>[0-5]\d)(?!\d))"
)


def zone_of(text: str, now: datetime) -> tuple[str, tzinfo]:
    """Zone that `text` (folded) names, else that of `now`: (name, zone). Seoul's offset means Seoul."""
    for name, listed in TIME_ZONES:
        if terms(listed).search(text):
            return name, ZoneInfo(name)
    if written := _OFFSET.search(text):
        if not written["hours"]:
            return "UTC", ZoneInfo("UTC")
        minutes = int(written["hours"]) * 60 + int(written["minutes"])
        now = now.replace(
            tzinfo=timezone(timedelta(minutes=min(minutes, 14 * 60) * (1 if written["sign"] == "+" else -1)))
        )
    key = getattr(now.tzinfo, "key", None)
    offset = now.utcoffset() or timedelta()
    if key:
        return key, ZoneInfo(key)
    if offset == timedelta(hours=9):
        return DEFAULT_ZONE, ZoneInfo(DEFAULT_ZONE)
    if not offset:
        return "UTC", ZoneInfo("UTC")
    fixed = timezone(offset)
    return str(fixed), fixed


# ── calendar units ────────────────────────────────────────────────────────────────────────────────

_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES.split(), 1)}
_MONTH = (
    r"(?P<mon>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAYS = {
    **{n: i for i, n in enumerate("월화수목금토일")},
    **{n: i for i, n in enumerate(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])},
}
_NUMBERS_EN = "one two three four five six seven eight nine ten eleven twelve"
_COUNTS = {
    **{n: i for i, n in enumerate(_NUMBERS_EN.split(), 1)},
    **{n: i for i, n in enumerate(["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열"], 1)},
    "일": 1, "이": 2, "삼": 3, "이틀": 2, "사흘": 3, "나흘": 4, "열흘": 10, "보름": 15, "": 1,
    "couple of": 2, "a couple of": 2, "few": 3, "a few": 3,
}  # fmt: skip
_COUNT = rf"(?P<n>\d{{1,9}}|a couple of|couple of|a few|few|{_NUMBERS_EN.replace(' ', '|')})"
_COUNT_KO = r"(?P<n>\d{1,9}|한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|일|이|삼)?"
_UNIT_EN = r"(?P<u>minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?)"
_UNIT_KO = r"(?P<u>분|시간|일|주일|주|개월|달|년|하루)"
_UNITS = {
    "mi": timedelta(minutes=1), "분": timedelta(minutes=1),
    "ho": HOUR, "hr": HOUR, "시간": HOUR,
    "da": DAY, "일": DAY, "하루": DAY,
    "we": 7 * DAY, "주": 7 * DAY, "주일": 7 * DAY,
    "mo": 30 * DAY, "개월": 30 * DAY, "달": 30 * DAY,
    "ye": 365 * DAY, "년": 365 * DAY,
}  # fmt: skip


def _unit(word: str) -> timedelta:
    return _UNITS[word[:2] if word.isascii() else word]


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _day(year: int, month: int, day: int) -> tuple[datetime, datetime]:
    try:
        start = datetime(year, month, day)
    except ValueError as error:
        raise _Impossible from error
    return start, start + DAY


def _month(year: int, month: int) -> tuple[datetime, datetime]:
    if not 1 <= month <= 12:
        raise _Impossible
    return datetime(year, month, 1), datetime(year + month // 12, month % 12 + 1, 1)


def _months_back(now: datetime, count: int) -> tuple[datetime, datetime]:
    index = now.year * 12 + now.month - 1 - count
    if index < 2000 * 12:
        raise _Impossible
    return _month(index // 12, index % 12 + 1)


def _quarter(year: int, quarter: int) -> tuple[datetime, datetime]:
    return _month(year, quarter * 3 - 2)[0], _month(year, quarter * 3)[1]


def _week(now: datetime, weeks_back: int) -> tuple[datetime, datetime]:
    start = _midnight(now) - timedelta(days=now.weekday(), weeks=weeks_back)
    return start, start + 7 * DAY


def _year(year: int) -> tuple[datetime, datetime]:
    return datetime(year, 1, 1), datetime(year + 1, 1, 1)


def _count(match: re.Match[str]) -> int:
    word = match["n"] or ""
    return int(word) if word.isdigit() else _COUNTS[word]


def _named_month(match: re.Match[str]) -> int:
    groups = match.groupdict()
    if groups.get("mon"):
        return _MONTHS[groups["mon"][:3]]
    return int(groups["m"])


def _given_year(match: re.Match[str], now: datetime) -> int | None:
    groups = match.groupdict()
    if groups.get("y"):
        year = int(groups["y"])
        return year if year > 99 else 2000 + year
    relative = (groups.get("ry") or groups.get("ry2") or "").strip()
    if relative:
        return now.year - {"작": 1, "지": 1, "la": 1, "재": 2}.get(
            relative[: 2 if relative.isascii() else 1], 0
        )
    return None


_MONTH_BEFORE = re.compile(r"\b(?:in|of|for|from|during|since|until|to|and|through)\s+$")
_MONTH_AFTER = re.compile(r"^(?:'s|\s+(?:reports?|monthly|security|summary))")


def _is_a_verb(match: re.Match[str]) -> bool:
    """Whether "may" or "march" is no month here: nothing around it says so."""
    text, month = match.string, match.groupdict().get("mon")
    if month not in ("may", "march", "mar") or _given_year(match, datetime(2000, 1, 1)):
        return False
    return not (_MONTH_BEFORE.search(text[: match.start()]) or _MONTH_AFTER.match(text[match.end() :]))


def _month_point(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    month, year = _named_month(match), _given_year(match, now)
    found = _month(year or now.year, month)
    return _month(now.year - 1, month) if year is None and found[0] > now else found


def _day_point(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    month, day, year = _named_month(match), int(match["d"]), _given_year(match, now)
    if year is not None:
        return _day(year, month, day)
    if (month, day) == (2, 29):  # the latest leap day
        return next(
            _day(y, 2, 29) for y in range(now.year, 1990, -1) if y % 4 == 0 and datetime(y, 2, 29) <= now
        )
    found = _day(now.year, month, day)
    return _day(now.year - 1, month, day) if found[0] > now else found


def _day_of_this_month(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    found = _day(now.year, now.month, int(match["d"]))
    if found[0] <= now:
        return found
    before = _months_back(now, 1)[0]
    return _day(before.year, before.month, int(match["d"]))


def _quarter_point(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    year = _given_year(match, now)
    quarter = int(match["q"])
    found = _quarter(year or now.year, quarter)
    return _quarter(now.year - 1, quarter) if year is None and found[0] > now else found


def _last_quarter(now: datetime, back: int) -> tuple[datetime, datetime]:
    index = now.year * 4 + (now.month - 1) // 3 - back
    return _quarter(index // 4, index % 4 + 1)


def _weekday(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    word = match["wd"]
    day = _WEEKDAYS[word[:3] if word.isascii() else word[0]]
    which = (match["which"] or "").strip()
    monday = _week(now, 0)[0]
    if which.startswith(("지난주", "저번")) or which == "last week":
        start = monday - 7 * DAY + timedelta(days=day)
    elif which.startswith(("이번", "this")):
        start = monday + timedelta(days=day)
    else:  # the latest one: "last Friday" on a Friday is a week ago, "Friday" is today
        back = (now.weekday() - day) % 7
        start = _midnight(now) - timedelta(days=back or (7 if which.startswith(("last", "지난")) else 0))
    return start, start + DAY


def _ago(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    count, word = _count(match), match["u"]
    length = _unit(word) * min(count, 100_000)
    if length > LONGEST:
        raise _Impossible
    if _unit(word) == 30 * DAY:
        return _months_back(now, count)
    if _unit(word) == 7 * DAY:
        return _week(now, count)
    if _unit(word) == 365 * DAY:
        return _year(now.year - count)
    if _unit(word) < DAY:
        return now - length, now
    start = _midnight(now) - length
    return start, start + DAY


def _days_back(days: int) -> "_Make":
    return lambda _, now: (_midnight(now) - days * DAY, _midnight(now) - (days - 1) * DAY)


def _night(_: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    today = _midnight(now)
    return today - timedelta(hours=6), today + timedelta(hours=6)


_Make = Callable[[re.Match[str], datetime], tuple[datetime, datetime]]
_RELATIVE_YEAR = r"(?P<ry>작년|지난해|재작년|올해|금년|last year(?:'s)?|this year(?:'s)?)?\s*"
_ISO = r"(?<![\d-])(?P<y>20\d\d)"
# (pattern, what it means), longest and most special first: what one has taken, the next ones do not see.
_POINTS: tuple[tuple[re.Pattern[str], _Make], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (_ISO + r"[-./](?P<m>\d{1,2})[-./](?P<d>\d{1,2})(?!\d)", _day_point),
        (r"(?<!\d)(?P<y>20\d\d|\d\d)\s*년\s*(?P<m>\d{1,2})\s*월\s*(?P<d>\d{1,2})\s*일", _day_point),
        (_RELATIVE_YEAR + r"(?<![\d개])(?P<m>\d{1,2})\s*월\s*(?P<d>\d{1,2})\s*일", _day_point),
        (rf"\b{_MONTH}\s*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:\s*,?\s*(?P<y>20\d\d))?", _day_point),
        (rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?![a-z])(?:\s*,?\s*(?P<y>20\d\d))?", _day_point),
        (_ISO + r"[-./](?P<m>\d{1,2})(?![\d-])", _month_point),
        (r"(?<!\d)(?P<y>20\d\d|\d\d)\s*년\s*(?P<m>\d{1,2})\s*월", _month_point),
        (r"(?<!\d)(?P<y>20\d\d)\s*년?\s*(?P<q>[1-4])\s*분기", _quarter_point),
        (_RELATIVE_YEAR + r"(?<!\d)(?P<q>[1-4])\s*분기", _quarter_point),
        (r"(?P<y>20\d\d)\s*q(?P<q>[1-4])(?!\d)", _quarter_point),
        (r"\bq(?P<q>[1-4])(?!\d)(?:\s*(?:of\s+)?(?P<y>20\d\d))?", _quarter_point),
        (_RELATIVE_YEAR + r"(?<![\d.])(?P<m>\d{1,2})\s*월(?!요일)", _month_point),
        (rf"\b(?:(?P<ry>last|this)\s+)?{_MONTH}(?![a-z])(?:\s*(?:of\s+)?(?P<y>20\d\d)|\s+(?:of\s+)?(?P<ry2>last year|this year))?", _month_point),
        (r"(?<![\d/])(?P<m>1[0-2]|0?[1-9])/(?P<d>\d{1,2})(?![\d/])", _day_point),
        (r"(?P<which>지난\s*주|저번\s*주|이번\s*주|지난|저번)?\s*(?P<wd>[월화수목금토일])요일", _weekday),
        (r"(?:\b(?P<which>last week|last|this|on)\s+)?\b(?P<wd>(?:mon|tues?|wednes|thurs?|fri|satur|sun)day)", _weekday),
        (rf"{_COUNT_KO}\s*{_UNIT_KO}\s*전", _ago),
        (rf"(?<!\d){_COUNT}\s+{_UNIT_EN}\s+ago", _ago),
        (r"어젯\s*밤|지난\s*밤|간밤|\blast night|\bovernight", _night),
        (r"그저께|그제|엊그제|\b(?:the )?day before yesterday", _days_back(2)),
        (r"어제|\byesterday", _days_back(1)),
        (r"오늘|금일|\btoday|\bthis (?=morning|afternoon|evening)|\btonight", _days_back(0)),
        (r"지지난\s*주|저저번\s*주|\bweek before last", lambda _, now: _week(now, 2)),
        (r"지난\s*주(?!일)|저번\s*주(?!일)|전주(?!\s*시)|\b(?:last|previous) week", lambda _, now: _week(now, 1)),
        (r"이번\s*주|금주|\bthis week", lambda _, now: _week(now, 0)),
        (r"지지난\s*달|저저번\s*달|전전월|\bmonth before last", lambda _, now: _months_back(now, 2)),
        (r"지난\s*달|저번\s*달|전월|전달(?=\s|의|에|$)|\b(?:last|previous) month", lambda _, now: _months_back(now, 1)),
        (r"이번\s*달|이\s?달(?=의|에|\s|$)|당월|금월|\b(?:this|current) month|\bmonth to date", lambda _, now: _months_back(now, 0)),
        (r"지난\s*분기|전\s*분기|직전\s*분기|\b(?:last|previous) quarter", lambda _, now: _last_quarter(now, 1)),
        (r"이번\s*분기|당\s*분기|\bthis quarter", lambda _, now: _last_quarter(now, 0)),
        (r"재작년", lambda _, now: _year(now.year - 2)),
        (r"작년|지난\s*해|\blast year", lambda _, now: _year(now.year - 1)),
        (r"올해|금년|\bthis year", lambda _, now: _year(now.year)),
        (r"(?<!\d)(?P<y>20\d\d)\s*년(?!\s*\d)|\b(?:in|of|during|for)\s+(?P<y2>20\d\d)\b(?!\s*[-./:])",
         lambda match, _: _year(int(match["y"] or match["y2"]))),
        (r"(?<![\d월개])\s(?P<d>\d{1,2})\s*일(?=에|까지|부터|\s*자)", _day_of_this_month),
    )
)  # fmt: skip


def _points(text: str, now: datetime) -> Iterator[_Point]:
    taken: list[tuple[int, int]] = []
    for pattern, make in _POINTS:
        for match in pattern.finditer(text):
            if any(at < match.end() and match.start() < to for at, to in taken):
                continue
            if make is _month_point and _is_a_verb(match):
                continue
            taken.append(match.span())
            try:
                yield _Point(match.start(), match.end(), *make(match, now))
            except (_Impossible, OverflowError, ValueError) as error:
                raise _Impossible(match.group().strip()) from error


# ── counted time ──────────────────────────────────────────────────────────────────────────────────

_ROLLING = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:최근|지난|직전|과거|이전)\s*{_COUNT_KO}\s*{_UNIT_KO}(?!\s*전)(?![가-힣]*요일)",
        r"(?:최근|지난|직전|과거)\s*(?P<n>이틀|사흘|나흘|열흘|보름)(?P<u>)",
        rf"(?<!\d){_COUNT_KO}\s*{_UNIT_KO}\s*(?:간|동안|이내|치)(?![가-힣])",
        rf"\b(?:last|past|previous|recent|latest)\s+{_COUNT}\s*{_UNIT_EN}",
        r"\b(?:last|past|previous)\s+(?P<n>)(?P<u>hour|minute|24h)",
        r"\bpast\s+(?P<n>)(?P<u>day|week|month|year)",
        r"\b(?:last|past)\s+(?P<n>\d{1,9})\s?(?P<u>h|d|m|w)\b",
        rf"\b(?:over|within)\s+(?:the\s+)?(?:last\s+|past\s+)?{_COUNT}\s+{_UNIT_EN}(?!\s+ago)",
    )
)
_LETTERS = {"": DAY, "h": HOUR, "d": DAY, "m": timedelta(minutes=1), "w": 7 * DAY, "24h": 24 * HOUR}
# "지난달" and "지난주" are calendar units; with 한/1/일 or 최근 they are counted.
_CALENDAR_KO = re.compile(r"(?:지난|이전)\s*(?:달|주|년|일|분|시간)$")


def _rolling(text: str) -> timedelta | None:
    for pattern in _ROLLING:
        for match in pattern.finditer(text):
            if _CALENDAR_KO.match(match.group()):
                continue
            unit = _LETTERS.get(match["u"]) or _unit(match["u"])
            length = unit * min(_count(match), 10_000_000)
            if not timedelta() < length <= LONGEST:
                raise _Impossible(match.group().strip())
            return length
    return None


# ── times of the day ──────────────────────────────────────────────────────────────────────────────

_PARTS: tuple[tuple[re.Pattern[str], int, int], ...] = (
    (re.compile(r"새벽|\bdawn|\bearly morning"), 0, 6),
    (re.compile(r"오전|아침|\bmorning"), 0, 12),
    (re.compile(r"오후"), 12, 24),
    (re.compile(r"\bafternoon"), 12, 18),
    (re.compile(r"저녁|밤(?!에도)|\bevening|\btonight|(?<!last )\bnight"), 18, 24),
)
_CLOCK = re.compile(
    r"(?P<half>오전|오후|새벽|저녁|밤|아침)?\s*(?<![\d:.-])(?P<h>\d{1,2})\s*시(?!간)(?:\s*(?P<min>\d{1,2})\s*분|\s*(?P<halfpast>반))?"
    r"|(?<![\d:-])(?P<h2>\d{1,2})(?::(?P<min2>\d{2}))?(?::\d{2})?\s*(?P<ap>am|pm|a\.m\.|p\.m\.)(?![a-z])"
    r"|(?:(?<![\d:+.-])|(?<=\dt))(?P<h3>\d{1,2}):(?P<min3>\d{2})(?::\d{2}(?:\.\d+)?)?(?![\d:])"
)
# "from 3 to 5 pm": the first hour takes the half of the second.
_BARE_HOUR = re.compile(
    r"\b(from|between)\s+(\d{1,2}(?::\d{2})?)(\s*(?:to|and|-|\u2013|until)\s*\d{1,2}(?::\d{2})?\s*(am|pm))"
)
_CLOCK_WORDS = (
    (re.compile(r"\bnoon\b"), "12:00"),
    (re.compile(r"\bmidnight\b"), "0:00"),
    (re.compile("정오"), "12시"),
    (re.compile("자정"), "0시"),
)
_JOIN = re.compile(r"^\s*(?:z|utc|kst)?\s*(?:부터|에서|~|-|\u2013|to|and|until|till|through|thru)\s*")


def _clock(match: re.Match[str]) -> tuple[int, int]:
    hour = int(match["h"] or match["h2"] or match["h3"])
    minute = int(match["min"] or match["min2"] or match["min3"] or (30 if match["halfpast"] else 0))
    later = (match["half"] in ("오후", "저녁", "밤")) or (match["ap"] or "").startswith("p")
    if later and hour < 12:
        hour += 12
    elif hour == 12 and (match["half"] in ("오전", "새벽") or (match["ap"] or "").startswith("a")):
        hour = 0
    if hour > 24 or minute > 59 or (hour == 24 and minute):
        raise _Impossible(match.group().strip())
    return hour, minute


def _within_day(text: str, day: _Point) -> _Point:
    """`day` narrowed to the clock times or the part of the day that the text names."""
    clocks = list(_CLOCK.finditer(text))
    if clocks:
        first = _at(day.start, clocks[0])
        if len(clocks) > 1 and _JOIN.match(text[clocks[0].end() : clocks[1].end()]):
            second = _at(day.start, clocks[1])
            if second <= first and clocks[0]["half"] and not clocks[1]["half"]:
                second += 12 * HOUR  # "오후 3시부터 5시까지": the second takes the half of the first
            return _Point(day.at, day.to, first, second if second > first else second + DAY)
        return _Point(day.at, day.to, first, first + HOUR)
    for pattern, start, end in _PARTS:
        if pattern.search(text):
            return _Point(day.at, day.to, day.start + start * HOUR, day.start + end * HOUR)
    return day


def _at(day: datetime, match: re.Match[str]) -> datetime:
    hour, minute = _clock(match)
    return day + timedelta(hours=hour, minutes=minute)


# ── putting together ──────────────────────────────────────────────────────────────────────────────

_OPEN_BEFORE = re.compile(r"\bsince\s+(?:the\s+)?(?:start of\s+|beginning of\s+|early\s+)?$")
_OPEN_AFTER = re.compile(r"^\s*(?:부터|이후|이래)")


def _moment_of(text: str, point: _Point, after: int) -> tuple[datetime, datetime]:
    """A point of a range, narrowed by a clock time written right behind it."""
    if clock := _CLOCK.match(text, _skip(text, after)):
        start = _at(point.start, clock)
        return start, start
    return point.start, point.end


def _skip(text: str, at: int) -> int:
    found = re.compile(r"[\s,t]*(?:at\s+)?").match(text, at)
    return found.end() if found else at


def _joined(text: str, points: list[_Point], now: datetime) -> tuple[datetime, datetime] | None:
    """A range between two of the points, or from one point until now."""
    for left, right in pairwise(points):
        between = text[left.to : right.at]
        clock = _CLOCK.match(text, _skip(text, left.to))
        gap = text[clock.end() : right.at] if clock and clock.end() <= right.at else between
        if _JOIN.match(gap) and len(gap) < 16:
            start = _moment_of(text, left, left.to)[0]
            end = _moment_of(text, right, right.to)[1]
            return (start, end) if end > start else (right.start, left.end)
    for point in points:
        clock = _CLOCK.match(text, _skip(text, point.to))
        after = text[clock.end() if clock else point.to :]
        opened = _OPEN_AFTER.match(after) and not (clock and _CLOCK.search(after))
        if _OPEN_BEFORE.search(text[: point.at]) or (opened and point.start < now):
            return _moment_of(text, point, point.to)[0], now
    return None


_DAY_RANGE = re.compile(
    rf"(?:(?P<m>\d{{1,2}})\s*월\s*(?P<a>\d{{1,2}})\s*일?\s*(?:부터|~|-|에서)\s*(?P<b>\d{{1,2}})\s*일)"
    rf"|(?:\b{_MONTH}\s*(?P<a2>\d{{1,2}})(?:st|nd|rd|th)?\s*(?:to|through|and|-|\u2013|~)\s*(?P<b2>\d{{1,2}})(?!\d|:)(?:st|nd|rd|th)?(?!\s*(?:am|pm)))"
)


def _day_range(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    """ "11월 3일부터 10일까지", "Nov 3 to 10": the second day takes the month of the first."""
    match = _DAY_RANGE.search(text)
    if not match:
        return None
    month = int(match["m"]) if match["m"] else _MONTHS[match["mon"][:3]]
    first, last = int(match["a"] or match["a2"]), int(match["b"] or match["b2"])
    try:
        year = now.year if _day(now.year, month, first)[0] <= now else now.year - 1
        return _day(year, month, first)[0], _day(year, month, last)[1]
    except (_Impossible, ValueError) as error:
        raise _Impossible(match.group().strip()) from error


def _calendar(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    if found := _day_range(text, now):
        return found
    points = sorted(_points(text, now), key=lambda point: point.at)
    if found := _joined(text, points, now):
        return found
    if not points:
        clocked = _CLOCK.search(text) or any(pattern.search(text) for pattern, *_ in _PARTS[:4])
        if not clocked:
            return None
        today = _within_day(text, _Point(0, 0, _midnight(now), _midnight(now) + DAY))
        back = DAY if today.start > now else timedelta()  # "at 15:30" in the morning was yesterday
        return today.start - back, now if _until_now(text) else today.end - back
    chosen = min(points, key=lambda point: point.end - point.start)
    if chosen.end - chosen.start == DAY and chosen.start == _midnight(chosen.start):
        chosen = _within_day(text, chosen)
        if _until_now(text) and chosen.start < now:
            return chosen.start, now
    return chosen.start, chosen.end


def _until_now(text: str) -> bool:
    """Whether the only clock time is a beginning: "since 6am", "9시 이후"."""
    clocks = list(_CLOCK.finditer(text))
    if len(clocks) != 1:
        return False
    before, after = text[: clocks[0].start()], text[clocks[0].end() :]
    return bool(re.search(r"\bsince\s+$", before) or _OPEN_AFTER.match(after))


def find_period(text: str, now: datetime) -> Reading:
    """The period that `text` (folded, see `language`) names, seen from `now` (aware)."""
    for word, clock in _CLOCK_WORDS:
        text = word.sub(clock, text)
    text = _BARE_HOUR.sub(r"\1 \2 \4\3", text)
    name, zone = zone_of(text, now)
    local = now.astimezone(zone).replace(tzinfo=None)
    try:
        if length := _rolling(text):
            start = (now - length).astimezone(zone)
            return Reading(Period(start=start, end=now.astimezone(zone), timezone=name))
        found = _calendar(text, local)
    except _Impossible as error:
        return Reading(impossible=str(error) or text[:40])
    if found is None or found[1] <= found[0]:
        return Reading()
    start, end = (edge.replace(tzinfo=zone) for edge in found)
    if start.astimezone(UTC) < now < end.astimezone(UTC):
        end = now.astimezone(zone)
    if end.astimezone(UTC) <= start.astimezone(UTC):  # an hour that the clocks skipped
        return Reading()
    return Reading(Period(start=start, end=end, timezone=name), future=start > now)
