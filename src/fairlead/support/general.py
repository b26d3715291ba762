"""General questions about AWS, answered offline from a small corpus of our own words; or not at all.

Retrieval is BM25 over titles, tags and texts: English by words, Korean by pairs of characters, so that
particles and spacing matter little. Deterministic, and honest: an answer is the text of one entry with
its source, and where no entry covers the question there is none.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from fairlead.support.language import bigrams, checked, language_of, without_orders
from fairlead.support.model import Language

K1, B = 1.3, 0.6  # BM25: how soon repetition stops counting, how much length matters
FIELD_WEIGHTS = {"title": 3, "tags": 2, "text": 1}
ENOUGH = 0.42  # share of the question's weight that the best entry must cover

_STOP_WORDS = (
    "a an and any are aws amazon as at be but by can could do does explain for from get have how "
    "i if in is it its mean me my of on or our please should so tell than that the their there "
    "these this to us was we what when where which who why will with would you your about between "
    "difference differ different versus vs best practice way use used using work works"
)
_STOP = frozenset(_STOP_WORDS.split())
# Ways of asking, not what is asked about. Longest first.
_ASKING = re.compile(
    r"무엇(?:인가요|인지|이고|이|을)?|뭔가요|뭔지|뭐예요|뭐에요|뭐하는|뭐야|인가요|인지|어떻게|어떤|왜|언제|하나요|해야|하면|되나요|돼요|될까요|되는지"
    r"|알려\s*(?:주세요|줘|주실|주시)|설명\s*(?:해\s*주세요|해줘|해)|궁금(?:합니다|해요|해)|(?:해|부탁)\s*(?:주세요|줘|드립니다|드려요|해요)"
    r"|있을까요|있나요|있는|싶어요|싶습니다|합니다|입니다|습니까|까요|나요|세요|대해서?|관해서?|경우|방법|이란|란|좀|수\s*있"
    r"|얼마|보여요|내\s|차이점?|다른가요|다른지|다른|설정하는|하는|하려면|려면|무슨|서비스"
)
_PARTICLE = re.compile(r"(?<=[가-힣]{2})(?:에서|까지|부터|으로|은|는|이|가|을|를|의|에|로|와|과|도|만)$")
_TOKEN = re.compile(r"[a-z0-9][a-z0-9.+#-]*|[가-힣]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is known, in both languages."""

    id: str
    tags: tuple[str, ...]
    source: str  # https address of the AWS page to read further
    titles: dict[Language, str]
    texts: dict[Language, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An entry's text, or why there is none (`text` None)."""

    text: str | None
    confidence: float  # 0..1: how much of the question the entry covers
    entry: Entry | None
    reason: str | None
    language: Language

    def document(self) -> dict[str, object]:
        """As JSON: answer, sources and confidence; or answer null and the reason."""
        if self.text is None or self.entry is None:
            return {"answer": None, "reason": self.reason}
        source = {"title": self.entry.titles[self.language], "url": self.entry.source}
        return {"answer": self.text, "sources": [source], "confidence": self.confidence}


def _stem(word: str) -> str:
    for ending in ("ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word.rstrip("e") if len(word) > 4 else word


def tokens(text: str) -> list[str]:
    """What is compared: stems of English words and pairs of Korean characters, ways of asking left out."""
    found: list[str] = []
    for word in _TOKEN.findall(_ASKING.sub(" ", text.casefold())):
        if not word.isascii():
            found += bigrams(_PARTICLE.sub("", word))
            continue
        for part in (word, *re.split(r"[.+#-]", word)) if re.search(r"[.+#-]", word) else (word,):
            if part and part not in _STOP:
                found.append(_stem(part))
    return found


@dataclass(frozen=True, slots=True)
class _Index:
    weights: tuple[dict[str, float], ...]  # of each entry: term -> BM25 weight without idf
    idf: dict[str, float]
    rarest: float  # idf of a term that no entry has


@cache
def corpus() -> tuple[Entry, ...]:
    """All entries, in the order of their files."""
    entries: list[Entry] = []
    folder = files("fairlead.support") / "corpus"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".yaml"):
            entries += [_entry(item) for item in yaml.safe_load(file.read_text(encoding="utf-8"))]
    return tuple(entries)


def _entry(item: dict[str, object]) -> Entry:
    words = {language: item[language.value] for language in Language}
    return Entry(
        str(item["id"]),
        tuple(str(tag) for tag in item["tags"]),  # type: ignore[attr-defined]
        str(item["source"]),
        {language: value["title"] for language, value in words.items()},  # type: ignore[index]
        {language: value["text"] for language, value in words.items()},  # type: ignore[index]
    )


@cache
def _index(language: Language) -> _Index:
    documents = [
        Counter(
            token
            for field, text in (
                ("title", entry.titles[language]),
                ("tags", " , ".join(entry.tags)),
                ("text", entry.texts[language]),
            )
            for token in tokens(text) * FIELD_WEIGHTS[field]
        )
        for entry in corpus()
    ]
    count = len(documents)
    spread = Counter(term for document in documents for term in document)
    average = sum(document.total() for document in documents) / count
    return _Index(
        tuple(
            {
                term: times * (K1 + 1) / (times + K1 * (1 - B + B * document.total() / average))
                for term, times in document.items()
            }
            for document in documents
        ),
        {term: math.log(1 + (count - n + 0.5) / (n + 0.5)) for term, n in spread.items()},
        math.log(1 + (count + 0.5) / 0.5),
    )


def _coverage(index: _Index, entry: int, asked: list[str]) -> float:
    """Share of the question's weight whose terms the entry has."""
    terms = set(asked)
    whole = sum(index.idf.get(term, index.rarest) for term in terms)
    return sum(index.idf[term] for term in terms if term in index.weights[entry]) / whole if whole else 0.0


def answer(question: str) -> Answer:
    """The best entry for `question`, or an Answer without text and with a reason.

    Raises QuestionTooLong or QuestionUnreadable.
    """
    readable = checked(question)
    language = language_of(readable)
    asked = tokens(without_orders(readable))
    index = _index(language)
    scores = [
        sum(index.idf[term] * weights[term] for term in asked if term in weights) for weights in index.weights
    ]
    best = max(range(len(scores)), key=lambda number: (scores[number], -number))
    covered = _coverage(index, best, asked)
    if covered < ENOUGH:
        return Answer(None, round(covered, 2), None, _reason(language), language)
    entry = corpus()[best]
    return Answer(entry.texts[language], round(covered, 2), entry, None, language)


def _reason(language: Language) -> str:
    if language is Language.KOREAN:
        return (
            "이 질문에 답할 만한 내용이 오프라인 자료에 없습니다."
            " 서비스 이름을 넣어 다시 묻거나 AWS 문서를 확인하십시오."
        )
    return (
        "Nothing in the offline corpus covers this question."
        " Name the service and ask again, or look in the AWS documentation."
    )
