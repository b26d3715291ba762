"""Which account, region, resource, event and metric a question mentions.

Texts come in two forms: `text` as checked (case kept, for names), `folded` for matching words. What is
ambiguous is reported as several candidates, never guessed.
"""

# Patterns are rows of tables, read side by side.
# ruff: noqa: E501

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
_DIGITS = re.compile(
    r"(?<![\w+./-])(?:\d{12}|\d{4}([ -])\d{4}\1\d{4})(?![ -]?\d)(?![a-zA-Z_])(?![.,/]\d)(?!-\w)"
)
_GROUP_BEFORE = re.compile(r"(?:\d[ -]|\+\s?)$")
_WRITTEN_IN = re.compile(
    r"\barn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(?P<arn>\d{12}):"
    r"|(?<!\d)(?P<host>\d{12})\.(?:signin\.aws|dkr\.ecr|cloudfront|s3)",
    re.IGNORECASE,
)
_ACCOUNT_NUMBER = terms("accounts? | acct | aws | owner id | 계정 | 어카운트 | arn")
_OTHER_NUMBER = terms(
    "orders? | invoices? | card | phone | tel | telephone | mobile | cell | whatsapp | fax | tickets? | tracking | receipt"
    " | case id | call me | call | dial | text me | contact | reach (?:me|us|him|her|them) | (?:request|session|event|user) id"
    " | customer (?:number|no|id) | reference | ref | serial | barcode | po number | payment | passport | imei | msisdn"
    " | 주문 | 송장 | 카드 | 전화 | 연락처 | 연락 | 휴대폰 | 핸드폰 | 팩스 | 문자"
    " | 티켓 | 영수증 | 운송장 | 사업자 | 계좌 | 결제 | 고객 ?번호 | 회원 ?번호 | 등록 ?번호 | 접수 ?번호 | 요청 ?번호 | 일련 ?번호 | 사번 | 여권"
)
_OTHER_SENSE = re.compile(r"\bin order\b|\bapi calls?\b")
_COUNTED = re.compile(
    r"^\s?(?:(?:원|달러|바이트|건|개|명|초|회)(?:이|가|을|를|은|는|의|에|만)?(?![가-힣])|bytes?\b|krw|usd|won\b|dollars?\b|ms\b|requests?\b|seconds?\b|%)"
)
_PARTICLE = re.compile(r"^\s*(?:번|호)?(?:으로|로|이|은|는|을|를|에|의)?\s*(?:된|한)?\s*")
_MARK = re.compile(r"[#₩$€£¥*]\s?$")
# Korean mobile numbers with the country's code, and moments as YYYYMMDDHHMM, have twelve digits too.
_LIKE_ANOTHER = re.compile(
    r"8210\d{8}|20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d"
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
    found = [(match.start(), match["arn"] or match["host"]) for match in _WRITTEN_IN.finditer(text)]
    for match in _DIGITS.finditer(text):
        number = re.sub(r"\D", "", match.group())
        if _is_account(number, text[: match.start()], text[match.end() :]):
            found.append((match.start(), number))
    numbers = _unique(number for _, number in sorted(found))
    return numbers or _named_accounts(text, folded)


def _is_account(number: str, before: str, after: str) -> bool:
    """Whether twelve digits are an account: the nearest word beside them that says what a number is decides."""
    if _GROUP_BEFORE.search(before):
        return False
    left = _OTHER_SENSE.sub(" ", re.split(r"[.!?\n,;]", before.casefold())[-1][-32:])
    right = re.split(r"[.!?\n,;]", after.casefold())[0][:24]
    said = _last(_ACCOUNT_NUMBER, left)
    if said > _last(_OTHER_NUMBER, left):
        return True
    following = right[_end(_PARTICLE, right) :]
    if _ACCOUNT_NUMBER.match(following):
        return True
    return not (
        _last(_OTHER_NUMBER, left) >= 0
        or _OTHER_NUMBER.match(following)
        or _COUNTED.match(right)
        or _MARK.search(before)
        or _LIKE_ANOTHER.fullmatch(number)
    )


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where `pattern` matches last, -1 where it does not."""
    return max((match.start() for match in pattern.finditer(text)), default=-1)


def _end(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.match(text)
    return match.end() if match else 0


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
    r"s3|my|our|the|a|an|in|of|.*\d{4}-\d{2}.*|(?:us|eu|ap|ca|sa|me|af|il|mx|cn)-(?:gov-)?[a-z]+-\d[a-f]?|publicly-.*|well-.*|non-.*"
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


def without_names(folded: str, resource: str | None) -> str:
    """The text without the name of its resource: "acme-logs" asks for no logs. Ids and services stay."""
    if resource is None or not re.search(r"[./:-]", resource) or _ID.fullmatch(resource):
        return folded
    return folded.replace(resource.casefold(), " - ")


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
