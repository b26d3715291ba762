"""Times of the day and time zones that a text names."""

# Patterns are rows of tables, read side by side.
# ruff: noqa: E501

import re
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from fairlead.support.calendar_time import Span
from fairlead.support.counted_time import DAY, HOUR, Impossible
from fairlead.support.language import terms
from fairlead.support.vocabulary import TIME_ZONES

DEFAULT_ZONE = "Asia/Seoul"

# After minutes, "-05:00" is an offset only where a T or seconds say that this is ISO 8601: "14:00-15:00" are hours.
_OFFSET = re.compile(
    r"(?:\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:z(?![a-z])|(?=\+))|\dt\d{2}:\d{2}(?=-)|\d{2}:\d{2}:\d{2}(?:\.\d+)?(?=-))"
    r"(?:(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>[0-5]\d)(?!\d))?"
)


def zone_of(text: str, now: datetime) -> tuple[str, tzinfo]:
    """Zone that `text` (folded) names, else that of `now`: (name, zone). Seoul's offset means Seoul."""
    for name, listed in TIME_ZONES:
        if terms(listed).search(text):
            return name, ZoneInfo(name)
    for written in _OFFSET.finditer(text):
        if written["hours"]:
            minutes = min(int(written["hours"]) * 60 + int(written["minutes"]), 14 * 60)
            now = now.replace(
                tzinfo=timezone(timedelta(minutes=minutes * (1 if written["sign"] == "+" else -1)))
            )
            break
        if written.group().endswith("z"):
            return "UTC", ZoneInfo("UTC")
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


PARTS: tuple[tuple[re.Pattern[str], int, int], ...] = (
    (re.compile(r"새벽|\bdawn|\bearly morning"), 0, 6),
    (re.compile(r"오전|아침|\bmorning"), 0, 12),
    (re.compile(r"오후"), 12, 24),
    (re.compile(r"\bafternoon"), 12, 18),
    (re.compile(r"저녁|밤(?!에도)|\bevening|\btonight|(?<!last )\bnight"), 18, 24),
)
CLOCK = re.compile(
    r"(?P<half>오전|오후|새벽|저녁|밤|아침)?\s*(?<![\d:.-])(?P<h>\d{1,2})\s*시(?!간)(?:\s*(?P<min>\d{1,2})\s*분|\s*(?P<halfpast>반))?"
    r"|(?<![\d:-])(?P<h2>\d{1,2})(?::(?P<min2>\d{2}))?(?::\d{2})?\s*(?P<ap>am|pm|a\.m\.|p\.m\.)(?![a-z])"
    r"|(?:(?<![\d:+.-])|(?<=\dt))(?P<h3>\d{1,2}):(?P<min3>\d{2})(?::\d{2}(?:\.\d+)?)?(?![\d:])"
)
JOIN = re.compile(r"^\s*(?:z|utc|kst)?\s*(?:부터|에서|~|-|\u2013|to|and|until|till|through|thru)\s*")
# A hyphen between two times is a range and no minus.
_HYPHEN = re.compile(
    r"(시|(?<=\d)\s?[ap]m|(?<![\dt:])\d{1,2}:\d{2})\s*[-\u2013]\s*(?=\d{1,2}(?::\d{2}(?!\d)|\s*시|\s*[ap]m))"
)
# "from 3 to 5 pm", "9-11am": the first hour takes the half of the second, unless it would come after it.
_BARE_HOUR = re.compile(
    r"(?:\b(from|between)\s+|(?<![\d:/.-]))(\d{1,2})(:\d{2})?(\s*(?:to|and|-|\u2013|until)\s*)(\d{1,2})((?::\d{2})?\s*)(am|pm)(?![a-z])"
)
_CLOCK_WORDS = (
    (re.compile(r"\bnoon\b"), "12:00"),
    (re.compile(r"\bmidnight\b"), "0:00"),
    (re.compile("정오"), "12시"),
    (re.compile("자정"), "0시"),
)


def _both_halves(match: re.Match[str]) -> str:
    opening, first, minutes, join, second, rest, half = match.groups(default="")
    other = "am" if half == "pm" else "pm"
    first_half = other if int(first) % 12 > int(second) % 12 else half
    to = " to " if join.strip() in ("-", "\u2013") else join
    return f"{opening} {first}{minutes} {first_half}{to}{second}{rest}{half}"


def spelled_out(text: str) -> str:
    """`text` with noon and midnight as clock times, and ranges of hours written in full."""
    for word, clock in _CLOCK_WORDS:
        text = word.sub(clock, text)
    return _BARE_HOUR.sub(_both_halves, _HYPHEN.sub(r"\1 ~ ", text))


def _clock(match: re.Match[str]) -> tuple[int, int]:
    hour = int(match["h"] or match["h2"] or match["h3"])
    minute = int(match["min"] or match["min2"] or match["min3"] or (30 if match["halfpast"] else 0))
    later = (match["half"] in ("오후", "저녁", "밤")) or (match["ap"] or "").startswith("p")
    if later and hour < 12:
        hour += 12
    elif hour == 12 and (match["half"] in ("오전", "새벽") or (match["ap"] or "").startswith("a")):
        hour = 0
    if hour > 24 or minute > 59 or (hour == 24 and minute):
        raise Impossible(match.group().strip())
    return hour, minute


def at(midnight: datetime, match: re.Match[str]) -> datetime:
    """The moment of that day which a match of CLOCK names. Raises Impossible."""
    hour, minute = _clock(match)
    return midnight + timedelta(hours=hour, minutes=minute)


_EITHER_SIDE = re.compile(r"^\s*(?:쯤|경|즈음)?\s*(?:전후|앞뒤|give or take)")
_UNTIL_BEFORE = re.compile(r"\b(?:until|till|before|by|up to)\s+$")
_UNTIL_AFTER = re.compile(r"^\s*(?:까지|이전|전(?!후))")


def within_day(text: str, midnight: datetime) -> Span | None:
    """The clock times or the part of the day that the text names; None where it names none.

    A single time is the hour from then on, or half an hour to either side for "전후"; an end, it begins with the day.
    """
    clocks = list(CLOCK.finditer(text))
    if clocks:
        first = at(midnight, clocks[0])
        if len(clocks) > 1 and JOIN.match(text[clocks[0].end() : clocks[1].end()]):
            second = at(midnight, clocks[1])
            if second <= first < second + 12 * HOUR and clocks[0]["half"] and not clocks[1]["half"]:
                second += 12 * HOUR  # "오후 3시부터 5시까지": the second takes the half of the first
            return first, second if second > first else second + DAY
        before, after = text[: clocks[0].start()], text[clocks[0].end() :]
        if _EITHER_SIDE.match(after):
            return first - HOUR / 2, first + HOUR / 2
        if _UNTIL_BEFORE.search(before) or _UNTIL_AFTER.match(after):
            return midnight, first if first > midnight else midnight + DAY
        return first, first + HOUR
    for pattern, start, end in PARTS:
        if pattern.search(text):
            return midnight + start * HOUR, midnight + end * HOUR
    return None
