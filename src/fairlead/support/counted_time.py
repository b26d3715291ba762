"""Counted time, "최근 3일", "last 24 hours", "1시간 반", as a length; and the words in which one counts.

A month is 30 days, half a year six of them, a year 365 days.
"""

# Patterns are rows of tables, read side by side.
# ruff: noqa: E501

import re
from datetime import timedelta

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LONGEST = timedelta(days=3_660)


class Impossible(Exception):
    """No such day, or a longer time than is looked back; the message is the words that say so."""


_ONES = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_COUNTS: dict[str, float] = {
    **{n: i for i, n in enumerate([*_ONES.split(), *_TEENS.split()], 1)},
    **{n: i for i, n in zip(range(20, 100, 10), _TENS.split(), strict=True)},
    **{n: i for i, n in enumerate(["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열"], 1)},
    "일": 1, "이": 2, "삼": 3, "이틀": 2, "사흘": 3, "나흘": 4, "며칠": 3, "열흘": 10, "보름": 15, "": 1, "a": 1, "an": 1,
    "couple of": 2, "a couple of": 2, "few": 3, "a few": 3, "half": 0.5, "half a": 0.5, "half an": 0.5, "반": 0.5,
}  # fmt: skip
_COMPOUND = (f"{ten}[ -]{one}" for ten in _TENS.split() for one in _ONES.split())
_NUMBERS_EN = "|".join([*_COMPOUND, *_TENS.split(), *reversed(_TEENS.split()), *_ONES.split()])
_NUMBER = rf"\d{{1,9}}(?:\.\d{{1,3}})?|a couple of|couple of|a few|few|half an?|half|{_NUMBERS_EN}"
_NUMBER_KO = r"\d{1,9}(?:\.\d{1,3})?|한|두|세|네|다섯|여섯|일곱|여덟|아홉|열"
COUNT = rf"(?P<n>{_NUMBER})"
COUNT_KO = rf"(?P<n>{_NUMBER_KO}|일|이|삼|반(?=년))?"
UNIT_EN = r"(?P<u>minutes?|mins?|hours?|hrs?|days?|weeks?|fortnights?|months?|years?)"
UNIT_KO = r"(?P<u>분(?!기)|시간|일|주일|주|개월|달|년|하루)"
_UNITS = {
    "mi": timedelta(minutes=1), "분": timedelta(minutes=1),
    "ho": HOUR, "hr": HOUR, "시간": HOUR,
    "da": DAY, "일": DAY, "하루": DAY,
    "we": 7 * DAY, "주": 7 * DAY, "주일": 7 * DAY, "fo": 14 * DAY,
    "mo": 30 * DAY, "개월": 30 * DAY, "달": 30 * DAY,
    "ye": 365 * DAY, "년": 365 * DAY,
}  # fmt: skip
_LETTERS = {"": DAY, "h": HOUR, "d": DAY, "m": timedelta(minutes=1), "w": 7 * DAY, "24h": 24 * HOUR}


def unit(word: str) -> timedelta:
    """The length of a unit in either language."""
    return _UNITS[word[:2] if word.isascii() else word]


def count(match: re.Match[str]) -> float:
    """How many: the group `n` of a match of COUNT or COUNT_KO."""
    word = re.sub(r"[ -]+", " ", match["n"] or "")
    if word[:1].isdigit():
        return float(word)
    ten, _, one = word.partition(" ")
    return _COUNTS[word] if word in _COUNTS else _COUNTS[ten] + _COUNTS[one]


def length(match: re.Match[str]) -> timedelta:
    """The length that a match of count, unit and perhaps "and a half" names. Raises Impossible."""
    groups = match.groupdict()
    letters = _LETTERS.get(match["u"])
    one = letters if letters is not None else unit(match["u"])
    counted = min(count(match), 10_000_000) + (0.5 if groups.get("half") or groups.get("more") else 0)
    found = 180 * DAY if (one, counted) == (365 * DAY, 0.5) else one * counted
    if not timedelta() < found <= LONGEST:
        raise Impossible(match.group().strip())
    return found


_HALF_EN = r"(?P<half>\s+and\s+a\s+half)?"
_HALF_KO = r"(?P<half>\s*반(?![가-힣]))?"
_ROLLING = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:최근|지난|직전|과거|이전)\s*{COUNT_KO}\s*{UNIT_KO}{_HALF_KO}(?!\s*전)(?![가-힣]*요일)",
        r"(?:최근|지난|직전|과거)\s*(?P<n>이틀|사흘|나흘|며칠|열흘|보름)(?P<u>)",
        rf"(?<!\d){COUNT_KO}\s*{UNIT_KO}{_HALF_KO}\s*(?:간|동안|이내|치)(?![가-힣])",
        rf"\b(?:last|past|previous|recent|latest)[\s-]+{COUNT}(?:{_HALF_EN}\s+|[\s-]*){UNIT_EN}\b(?P<more>\s+and\s+a\s+half)?",
        r"\b(?:last|past|previous)\s+(?P<n>)(?P<u>hour|minute|fortnight|24h)\b(?P<half>\s+and\s+a\s+half)?",
        r"\b(?:last|past)\s+(?P<n>)(?P<u>day)\b(?!\s+of)",
        r"\bpast\s+(?P<n>)(?P<u>week|month|year)",
        r"\b(?:last|past)\s+(?P<n>\d{1,9})\s?(?P<u>h|d|m|w)\b",
        rf"\b(?:over|within)\s+(?:the\s+)?(?:last\s+|past\s+)?{COUNT}\s+{UNIT_EN}(?!\s+ago)",
    )
)
# "지난달" and "지난주" are calendar units; with 한/1/일 or 최근 they are counted.
_CALENDAR_KO = re.compile(r"(?:지난|이전)\s*(?:달|주|년|일|분|시간)$")
# Minutes and hours back are time that passed, also where clocks were put forward or back in between.
_AGO = (
    re.compile(rf"(?<![\d.])(?P<n>{_NUMBER_KO})\s*(?P<u>분|시간){_HALF_KO}\s*전(?![가-힣]?후)"),
    re.compile(rf"(?<![\d.])(?P<n>{_NUMBER}|an?)\s+(?P<u>minutes?|mins?|hours?|hrs?)\s+ago"),
)
_UNTIL = re.compile(r"(?:\bto|\buntil|\btill|\band|부터|에서|~|-|\u2013)\s*$")


def _since_ago(text: str) -> timedelta | None:
    """ "3 hours ago", where that is the only such moment and no end of a range: so much time up to now."""
    found = [match for pattern in _AGO for match in pattern.finditer(text)]
    if len(found) != 1 or _UNTIL.search(text[: found[0].start()]):
        return None
    return None if re.match(r"\s*까지", text[found[0].end() :]) else length(found[0])


def rolling(text: str) -> timedelta | None:
    """The length of the time up to now that `text` (folded) counts. Raises Impossible where it is too long."""
    for pattern in _ROLLING:
        for match in pattern.finditer(text):
            if not _CALENDAR_KO.match(match.group()):
                return length(match)
    return _since_ago(text)
