"""Text as it arrives from a ticket, made fit for matching: checked, normalised, typing errors mended.

Nothing here interprets. Text is data: sentences that try to give orders to a model are left out before
anything is matched, so that they neither choose an intent nor fill a slot.
"""

import re
import unicodedata
from functools import cache
from itertools import pairwise

from fairlead.kernel.errors import FairleadError
from fairlead.support.model import Language

MAX_CHARACTERS = 4_000


class QuestionTooLong(FairleadError):
    """The question is longer than 4,000 characters."""

    code, status, retryable = "support.question_too_long", 413, False


class QuestionUnreadable(FairleadError):
    """The question is empty or holds characters that are not text."""

    code, status, retryable = "support.question_unreadable", 422, False


def decoded(data: bytes) -> str:
    """`data` as text. Raises QuestionUnreadable where it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise QuestionUnreadable(
            f"Byte {error.start + 1} of the question is not UTF-8.",
            remedy="Send the question as UTF-8 text.",
            position=error.start + 1,
        ) from error


def checked(text: str) -> str:
    """`text` in NFKC without invisible format characters.

    Raises QuestionTooLong, or QuestionUnreadable for nothing, control characters and lone surrogates.
    """
    if len(text) > MAX_CHARACTERS:
        raise _too_long(len(text))
    for position, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            raise QuestionUnreadable(
                f"Character {position + 1} of the question is U+{ord(character):04X}, which is not text.",
                remedy="Remove it; it often comes from pasting out of a terminal or a binary file.",
                position=position + 1,
            )
    # Zero-width and bidirectional marks hide text from the eye; a reader must see what is matched.
    visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    if len(visible) > MAX_CHARACTERS:  # one ligature stands for up to 18 characters
        raise _too_long(len(visible))
    if not visible.strip():
        raise QuestionUnreadable("The question is empty.", remedy="Write what you want to know.")
    return visible


def _too_long(characters: int) -> QuestionTooLong:
    return QuestionTooLong(
        f"The question has {characters:,} characters; {MAX_CHARACTERS:,} are taken.",
        remedy="Ask one thing at a time, and attach long text to the ticket instead.",
        characters=characters,
        limit=MAX_CHARACTERS,
    )


def language_of(text: str) -> Language:
    """Korean where there is any Hangul, else English."""
    return Language.KOREAN if re.search(r"[가-힣ㄱ-ㅎㅏ-ㅣ\u1100-\u11ff]", text) else Language.ENGLISH


_EDGE = re.compile(r"[a-z0-9]")
# Character classes keep their spaces; " ?" and " *" are optional spaces.
_SPACE = re.compile(r"(\[[^\]]*\])|( [?*])|( +)")


def _term(term: str) -> str:
    prefix = term.endswith("*")
    body = term.rstrip("*")
    # Korean is spaced freely ("보안그룹", "보안 그룹"); English words need at least one space or hyphen.
    apart = r"[\s-]+" if body.isascii() else r"\s*"
    source = _SPACE.sub(lambda m: m[1] or (r"[\s-]*" if m[2] else apart), body)
    before = r"(?<![a-z0-9])" if _EDGE.match(body) else ""
    after = r"(?![a-z0-9])" if not prefix and _EDGE.match(body[-1]) else ""
    return f"{before}{source}{after}"


@cache
def terms(listed: str) -> re.Pattern[str]:
    """A pattern for any of the terms in `listed`, parted by " | ".

    Latin terms match whole words, with a trailing * beginnings of words, also where a Korean particle
    follows ("EC2를"); Korean terms match anywhere and with any spacing. Terms may hold regular expressions.
    """
    return re.compile("|".join(_term(term.strip()) for term in listed.split(" | ")))


_ORDERS = re.compile(
    r"(?:ignore|disregard|forget|override|bypass)\b[^.!?\n]{0,40}\b(?:instruction|prompt|rule|polic|previous|above)"
    r"|(?:이전|위의?|기존|모든|시스템)\s*(?:의\s*)?(?:지시|명령|프롬프트|규칙|설정)[^.!?\n]{0,12}(?:무시|잊|무효|따르지)"
    r"|system\s+prompt|시스템\s*프롬프트|developer\s+mode|jailbreak|개발자\s*모드"
    r"|\byou\s+are\s+now\b|\bact\s+as\b|\bpretend\s+(?:to\s+be|you)|너는\s*이제|당신은\s*이제|인\s*척\s*해"
    r"|\b(?:set|change|switch)\s+(?:the\s+|your\s+)?(?:intent|account|role|confidence|permissions?|tools?)\s+to\b"
    r"|(?:의도|권한|역할|도구|계정)(?:을|를|은)?\s*\S{1,40}\s*(?:으로|로)\s*(?:바꿔|변경해|설정해|전환)"
    r"|[\"']?(?:intent|confidence|slots|clarify)[\"']?\s*[:=]"
    r"|^\s*(?:system|assistant|tool|developer)\s*:|</?\s*(?:system|assistant|tool|instructions?|im_start|im_end)\b"
    r"|<\|[a-z_]+\|>|\[/?inst\]",
    re.IGNORECASE | re.MULTILINE,
)
# A full stop between digits or letters ("1.5", "python3.8", "a.b") does not end a sentence.
_SENTENCE = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|[\r\n]+")


def without_orders(text: str) -> str:
    """`text` without the sentences that talk to a model instead of asking about AWS."""
    kept = [sentence for sentence in _SENTENCE.split(text) if sentence and not _ORDERS.search(sentence)]
    return "\n".join(kept)


def _one_slip_apart(left: str, right: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours turns `left` into `right`."""
    if abs(len(left) - len(right)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    if start is None:
        return len(left) != len(right)
    rest, other = left[start:], right[start:]
    return (
        rest[1:] == other[1:]
        or rest[1:] == other
        or rest == other[1:]
        or (len(rest) == len(other) and rest[:2] == other[1::-1] and rest[2:] == other[2:])
    )


_SPELLING_WORDS = (
    "report monthly security screening vulnerability vulnerabilities compliance misconfigured "
    "cloudtrail cloudwatch alarms metrics utilization cpuutilization instance instances bucket "
    "buckets lambda history deleted terminated created modified launched inventory yesterday "
    "account activity database storage dynamodb encryption unencrypted certificates"
)
_SPELLINGS = tuple(_SPELLING_WORDS.split())
_KOREAN_SPELLINGS = (
    (re.compile("레포트|리폿트|보고소"), "리포트"),
    (re.compile("스켄"), "스캔"),
    (re.compile("정검"), "점검"),
    (re.compile("로긴"), "로그인"),
    (re.compile("메세지"), "메시지"),
    (re.compile("알림이 울|알람이 울"), "알람이 울"),
    (re.compile("인스턴츠|인스탄스"), "인스턴스"),
    (re.compile("버켓"), "버킷"),
    (re.compile("싱가폴"), "싱가포르"),
    (re.compile("몇일"), "며칠"),
    (re.compile("시큐리티 ?그룹"), "보안 그룹"),
)
_WORD = re.compile(r"(?<![a-z0-9_.:/@-])[a-z]{6,}(?![a-z0-9_:/@-])")


def _mended(match: re.Match[str]) -> str:
    word = match.group()
    if any(word.startswith(known) or known.startswith(word) for known in _SPELLINGS):
        return word
    near = [known for known in _SPELLINGS if known[0] == word[0] and _one_slip_apart(word, known)]
    return near[0] if len(near) == 1 else word


def folded(text: str) -> str:
    """`text` in lower case, spaces collapsed, with common typing errors mended. For matching only."""
    # Every kind of space: patterns look for optional ones, and a thousand would make each of them slow.
    lower = re.sub(r"\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text.casefold()))
    for wrong, right in _KOREAN_SPELLINGS:
        lower = wrong.sub(right, lower)
    return _WORD.sub(_mended, lower)


def bigrams(word: str) -> list[str]:
    """Pairs of neighbouring characters; a single character stays as it is."""
    return [a + b for a, b in pairwise(word)] or [word]
