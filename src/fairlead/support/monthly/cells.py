"""Pieces that all sections are made of: the page's context, tables with a bound, marks for what is unread."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from fairlead.support.markup import Markup, element, joined
from fairlead.support.model import Language, Severity
from fairlead.support.monthly.judging import Figure, Issue
from fairlead.support.monthly.model import MonthlyData, Part, Row, State
from fairlead.support.monthly.words import CAUSE_WORDS, PART_WORDS, RULE_WORDS, WORDS
from fairlead.support.screening_words import severity_word

MAX_ROWS = 100  # of a table; all of them are in the CSV and the JSON
MAX_REASONS = 5  # of one part; the table at the end has them all
MAX_REGION = 20
MAX_ID = 48  # characters on one line
DASH = "\u2013"
Cell = str | Markup | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every piece of the page needs."""

    data: MonthlyData
    language: Language
    zone: ZoneInfo
    issues: Mapping[str, Issue]
    figures: Mapping[str, Figure]
    previous: MonthlyData | None
    change: Mapping[str, int | None]

    def word(self, name: str) -> str:
        """A word of the page's language."""
        return WORDS[self.language][name]

    def part(self, part: Part) -> str:
        """The name of `part`."""
        return PART_WORDS[self.language][part]

    def rule(self, name: str) -> tuple[str, str]:
        """(what is wrong, what to do) of a rule."""
        return RULE_WORDS[self.language][name]

    def time(self, moment: datetime) -> str:
        """`moment` in the page's zone, to the minute."""
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M}"


def name(text: str) -> Markup:
    """A name that somebody else chose: whatever direction it is written in, it stays within itself."""
    return element("bdi", None, text)


def code(text: str) -> Markup:
    """An id. AWS's are short; what is not may be broken into lines."""
    return element("code", {"class": "long" if len(text) > MAX_ID else None}, element("bdi", None, text))


def place(region: str) -> Markup:
    """A region, on one line; AWS's are short."""
    return element("span", {"class": "when" if len(region) <= MAX_REGION else None}, name(region))


def titled(row: Row) -> Markup:
    """A resource's name and, where that is another, its id below."""
    if row.name == row.uid:
        return code(row.uid)
    return element("div", {"class": "titled"}, name(row.name), code(row.uid))


def tag(severity: Severity, page: Page) -> Markup:
    """A severity."""
    return element("span", {"class": f"tag {severity.value}"}, severity_word(severity, page.language))


def absent() -> Markup:
    """The mark of what a resource does not have."""
    return element("span", {"class": "soft"}, DASH)


def unread(page: Page, reason: str = "") -> Markup:
    """The mark of what is not known."""
    return element("span", {"class": "unread", "title": reason or None}, page.word("unread"))


def verdict(page: Page, row: Row, field: str, *, good: bool | None = True, text: str | None = None) -> Markup:
    """Yes or no of a row's `field`, marked as fine where it is `good`; None: neither is better.

    `text` stands instead of the word.
    """
    value = getattr(row, field)
    if field in row.unread:
        return unread(page, row.unread[field])
    if value is None:
        return absent()
    said = text or page.word("yes" if value else "no")
    if good is None:
        return name(said)
    fine = bool(value) is good
    return element("span", {"class": "fine" if fine else "fault"}, "✓ " if fine else "✕ ", name(said))


def figure_text(page: Page, figure: Figure) -> Cell:
    """A number, at least a number, or that it is not known."""
    if not figure.known or figure.value is None:
        return unread(page)
    if figure.whole:
        return f"{figure.value:,}"
    return element(
        "span", {"title": page.word("at_least").format(figure.value)}, f"{figure.value:,}",
        element("span", {"class": "plus"}, "+"),
    )  # fmt: skip


def moved(page: Page, figure: str, *, bad_up: bool | None = None) -> Markup | None:
    """By how much a figure moved: an arrow, red where more of it is bad and there is more."""
    by = page.change.get(figure)
    if by is None or page.previous is None:
        return None
    tone = "soft" if not by or bad_up is None else "fault" if (by > 0) is bad_up else "fine"
    arrow = "＝" if by == 0 else "▲" if by > 0 else "▼"  # noqa: RUF001
    said = page.word("since").format(page.previous.month)
    return element(
        "span", {"class": f"moved {tone}", "title": said}, arrow if by == 0 else f"{arrow} {abs(by):,}"
    )


def table(page: Page, head: Sequence[str], rows: Iterable[Sequence[Cell]], *, of: int) -> Markup:
    """The first rows of a table that has `of` of them, and how many are left out."""
    names = [page.word(key) for key in head]
    body = [
        element(
            "tr",
            None,
            *(element("td", {"data-label": label}, cell) for label, cell in zip(names, cells, strict=True)),
        )
        for cells, _ in zip(rows, range(MAX_ROWS), strict=False)
    ]
    header = element("tr", None, *(element("th", {"scope": "col"}, label) for label in names))
    left = of - len(body)
    return joined(
        element(
            "div",
            {"class": "scroll"},
            element("table", None, element("thead", None, header), element("tbody", None, *body)),
        ),
        element("p", {"class": "soft more"}, page.word("more").format(left)) if left > 0 else None,
    )


def section(
    page: Page, part: Part, heading: str, *children: Markup | None, count: Cell = None, anchor: str = ""
) -> Markup:
    """A section with how much of it was read; where nothing was, that alone."""
    state = page.data.state(part)
    badge = {
        State.PARTLY: element("span", {"class": "unread"}, page.word("partly")),
        State.UNREAD: element("span", {"class": "unread"}, page.word("unread")),
    }.get(state)
    title = element(
        "h2", None, heading, element("span", {"class": "count"}, count) if count is not None else None, badge
    )
    reasons = gaps_of(page, part) if state in (State.PARTLY, State.UNREAD) else None
    inside = (reasons,) if state is State.UNREAD else (*children, reasons)
    return element("section", {"id": anchor or part.value}, title, *inside)


def gaps_of(page: Page, part: Part) -> Markup:
    """Why a part was not read, or not wholly."""
    gaps = [gap for gap in page.data.gaps if gap.part is part]
    said = [
        element("li", None, name(gap.region), f": {CAUSE_WORDS[page.language][gap.cause]} ", name(gap.detail))
        for gap in gaps[:MAX_REASONS]
    ]
    if len(gaps) > MAX_REASONS:
        said.append(element("li", None, f"+{len(gaps) - MAX_REASONS:,}"))
    lead = page.word("not_read_p") if page.data.state(part) is State.UNREAD else page.word("partly_p")
    return element(
        "div", {"class": "note", "role": "note"}, lead, element("ul", {"class": "plain soft"}, *said)
    )


def empty(page: Page, part: Part, word: str = "none") -> Markup:
    """That there is nothing, as far as that is known."""
    whole = page.data.state(part) is State.READ
    return element("p", {"class": "soft"}, page.word(word if whole else "none_partly"))


def worst_first(page: Page, part: Part, broken: Mapping[int, Sequence[object]]) -> list[Row]:
    """The rows of `part`, those with the most issues first."""
    return sorted(page.data.rows(part), key=lambda row: -len(broken.get(id(row), ())))
