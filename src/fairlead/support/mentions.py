"""Which account, region, resource, event and metric a question mentions.

Texts come in two forms: `text` as checked (case kept, for names), `folded` for matching words. What is
ambiguous is reported as several candidates, never guessed.
"""

import re
from collections.abc import Iterable

from fairlead.support.language import terms
from fairlead.support.vocabulary import (
    ENVIRONMENTS,
    EVENT_PHRASES,
    EVENT_VERBS,
    METRICS,
    REGIONS,
    SERVICES,
    WEAK_SERVICES,
)


def _unique(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────

# Twelve digits, alone or as 4-4-4, and no part of a longer number, a phone number or an identifier.
_DIGITS = re.compile(r"(?<![\w+./-])(?:\d{12}|\d{4}([ -])\d{4}\1\d{4})(?![ -]?\d)(?![a-zA-Z_])(?!-\w)")
_GROUP_BEFORE = re.compile(r"(?:\d[ -]|\+\s?)$")
_ARN_ACCOUNT = re.compile(r"\barn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(\d{12}):", re.IGNORECASE)
_OTHER_NUMBER = terms(
    "order | invoice | card | phone | tel | mobile | fax | ticket | tracking | receipt | case id | call me"
    " | 주문 | 송장 | 카드 | 전화 | 연락처 | 휴대폰 | 핸드폰 | 팩스"
    " | 티켓 | 영수증 | 운송장 | 사업자 | 계좌 | 결제"
)
_NAME = r"[a-z0-9][a-z0-9_.-]{1,62}"
_NAMED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\baccount\s+(?:named|called|name)\s+[\"'\u201c\u201d\u2018\u2019`]?({_NAME})",
        rf"\baccounts?\s+[\"'\u201c\u2018`]({_NAME})[\"'\u201d\u2019`]",
        rf"[\"'\u201c\u2018`]({_NAME})[\"'\u201d\u2019`]\s*(?:account|계정)",
        rf"\baccounts?\s+({_NAME}-{_NAME})(?![\w-])",
        rf"(?<![\w-])({_NAME}-{_NAME})\s*(?:account\b|계정)",
    )
)
_ENVIRONMENT = re.compile(
    rf"({terms(ENVIRONMENTS).pattern})\s*(?:account(?![a-z])|계정)"
    rf"|(?<![a-z])account\s+({terms(ENVIRONMENTS).pattern})"
)


def accounts(text: str, folded: str) -> tuple[str, ...]:
    """Accounts that are mentioned, 12 digits without separators or names, each once, in order."""
    found = [(match.start(1), match[1]) for match in _ARN_ACCOUNT.finditer(text)]
    for match in _DIGITS.finditer(text):
        before = text[: match.start()]
        if not _GROUP_BEFORE.search(before) and not _OTHER_NUMBER.search(_words_before(before)):
            found.append((match.start(), re.sub(r"\D", "", match.group())))
    numbers = _unique(number for _, number in sorted(found))
    return numbers or _named_accounts(text, folded)


def _words_before(before: str) -> str:
    """The words right before a number, in the same sentence: they say what kind of number it is."""
    return re.split(r"[.!?\n,;]", before.casefold())[-1][-24:]


def _named_accounts(text: str, folded: str) -> tuple[str, ...]:
    named = [match[1] for pattern in _NAMED for match in pattern.finditer(text)]
    if not named:
        named = [match[1] or match[2] for match in _ENVIRONMENT.finditer(folded)]
    return _unique(name.rstrip(".-_") for name in named if not name.replace("-", "").isdigit())


# ── regions ───────────────────────────────────────────────────────────────────────────────────────

_CODE = re.compile(
    r"(?<![a-z0-9-])((?:us|eu|ap|ca|sa|me|af|il|mx|cn|us-gov)-"
    r"(?:north|south|east|west|central|northeast|southeast|northwest|southwest)-\d)[a-f]?(?![a-z0-9-])"
)
_ONLY_AFTER = re.compile(r"^\s*(?:리전|region)?\s*(?:만(?![가-힣]*\s*(?:아니|말고))|only(?![a-z]))")
_NOT_PLACE = re.compile(r"^\s*(?:표준\s*)?(?:시간|time\b)")
_NOT = re.compile(r"^\s*(?:리전|region)?\s*(?:말고|빼고|제외)")
_NOT_BEFORE = re.compile(r"\b(?:not|except|excluding|without|other than)\s+(?:in\s+|for\s+)?(?:the\s+)?$")


def regions(folded: str) -> tuple[str, ...]:
    """Region codes that are mentioned, each once, in order; "only X" leaves X alone, "not X" drops it."""
    seen = [(match.start(), match.end(), match[1]) for match in _CODE.finditer(folded)]
    for code, listed in REGIONS:
        seen += [(match.start(), match.end(), code) for match in terms(listed).finditer(folded)]
    found: list[str] = []
    for start, end, code in sorted(seen):
        after = folded[end:]
        if _NOT_PLACE.match(after) or _NOT.match(after) or _NOT_BEFORE.search(folded[:start]):
            continue
        if _ONLY_AFTER.match(after):
            return (code,)
        found.append(code)
    return _unique(found)


# ── resources ─────────────────────────────────────────────────────────────────────────────────────

_ARN = re.compile(r"\barn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:\d{0,12}:[^\s\"'<>`,]+", re.IGNORECASE)
_ID = re.compile(
    r"(?<![a-z0-9-])(?:i|sg|sgr|vol|vpc|subnet|ami|snap|eni|rtb|igw|nat|acl|eipalloc|lt|vpce|pcx|tgw|fs|db)"
    r"-(?:[0-9a-f]{17}|[0-9a-f]{8})(?![0-9a-f-])"
)
_BUCKET_NAME = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_DASHED = r"(?=[a-z0-9.-]*[.-])" + _BUCKET_NAME  # a word with a dash or a dot is a name
_NAMED_THINGS = (
    "function|database|db instance|cluster|alarm|queue|table|함수|데이터베이스|클러스터|알람|테이블"
)
_NAMES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"s3://({_BUCKET_NAME})",
        rf"(?:buckets?|버킷)\s+(?:named\s+|called\s+)?[\"'\u201c\u2018`]({_BUCKET_NAME})[\"'\u201d\u2019`]",
        rf"[\"'\u201c\u2018`]({_BUCKET_NAME})[\"'\u201d\u2019`]\s*(?:이?라는\s*)?(?:s3\s*)?(?:bucket|버킷)",
        rf"\bbuckets?\s+(?:named\s+|called\s+)({_BUCKET_NAME})",
        rf"(?:\bbuckets?|버킷)\s+({_DASHED})",
        rf"(?<![a-z0-9.-])({_DASHED})\s*(?:이?라는\s*)?(?:s3\s*)?(?:버킷|bucket(?![a-z]))",
        rf"(?:{_NAMED_THINGS})\s+(?:named\s+|called\s+)?[\"'\u201c\u2018`]([a-z0-9][\w./-]{{1,100}})[\"'\u201d\u2019`]",
    )
)
_ORDINARY = re.compile(
    r"s3|my|our|the|a|an|in|of|.*\d{4}-\d{2}.*|us-.*|ap-.*|eu-.*|publicly-.*|well-.*|non-.*"
)


def resource(text: str, folded: str) -> str | None:
    """An ARN, id or name where one is given, else the service that is meant."""
    if match := _ARN.search(text):
        return match.group().rstrip(".?!)")
    if match := _ID.search(folded):
        return match.group()
    for pattern in _NAMES:
        if (match := pattern.search(folded)) and not _ORDINARY.fullmatch(match[1]):
            return match[1]
    for table in (SERVICES, WEAK_SERVICES):
        if service := _first(table, folded):
            return service
    return None


def _first(table: tuple[tuple[str, str], ...], folded: str) -> str | None:
    """The row whose term comes first in the text; of two at one place, the longer."""
    seen = [
        (match.start(), -len(match.group()), name)
        for name, listed in table
        if (match := terms(listed).search(folded))
    ]
    return min(seen)[2] if seen else None


# ── events and metrics ────────────────────────────────────────────────────────────────────────────

_EVENT_NAME = re.compile(
    rf"(?<![A-Za-z0-9])((?:{'|'.join(EVENT_VERBS.split())})(?:[A-Z][a-z0-9]+|[A-Z]{{2,}}(?![a-z]))+[A-Za-z0-9]*)"
)
_KNOWN_EVENTS = {event.casefold(): event for event, *_ in EVENT_PHRASES}


def events(text: str) -> tuple[str, ...]:
    """CloudTrail event names that are written out, each once, in order."""
    written = [(match.start(), match[1]) for match in _EVENT_NAME.finditer(text)]
    written += [
        (match.start(), _KNOWN_EVENTS[match.group()])
        for match in re.finditer(r"(?<![A-Za-z0-9])[a-z]{8,40}(?![A-Za-z0-9])", text)
        if match.group() in _KNOWN_EVENTS
    ]
    metric_names = {name for name, _ in METRICS}
    return _unique(name for _, name in sorted(written) if name not in metric_names)


def described_event(folded: str) -> str | None:
    """The CloudTrail event that phrases such as "누가 보안 그룹을 열었" or "deleted the bucket" describe."""
    for event, done_to, done in EVENT_PHRASES:
        if terms(done_to).search(folded) and (not done or terms(done).search(folded)):
            return event
    return None


def metric(text: str, folded: str) -> str | None:
    """The CloudWatch metric that is named or described."""
    for name, _ in METRICS:
        # "Errors" or "Latency" are words as well: only as written in CloudWatch. Longer names in any case.
        if name in text or (len(name) > 11 and name.casefold() in folded):
            return name
    return _first(METRICS, folded)
