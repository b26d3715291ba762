"""The monthly report as one page that needs nothing from anywhere: no scripts, one style, inline SVG."""

from functools import cache
from importlib.resources import files

from fairlead.support.charts import rate_bar, ring
from fairlead.support.markup import Markup, element, joined, style_element
from fairlead.support.model import Language, Severity
from fairlead.support.monthly import judging, sections
from fairlead.support.monthly.cells import (
    DASH,
    Cell,
    Page,
    figure_text,
    moved,
    table,
    tag,
    unread,
)
from fairlead.support.monthly.model import MonthlyData, Part, State
from fairlead.support.monthly.month import Month, zone
from fairlead.support.monthly.words import CAUSE_WORDS, RULE_WORDS, month_name
from fairlead.support.screening_words import severity_word

_MAX_REGIONS = 6
_MAX_CALLS = 40
_FEW = 2  # urgent issues that leave room for what else stands in the first row
_ROOMY = 6  # urgent issues beside which there is room for what to do


def to_html(data: MonthlyData, language: Language, previous: MonthlyData | None = None) -> str:
    """The report as an HTML page. Raises AccountsDiffer."""
    page = Page(
        data=data,
        language=language,
        zone=zone(data.timezone),
        issues=judging.issues(data),
        figures=judging.figures(data),
        previous=previous,
        change=judging.change(previous, data) if previous else {},
    )
    inner = element(
        "main",
        None,
        _notes(page),
        _first(page),
        _cards(page),
        _rates(page),
        _contents(page),
        *(make(page) for make in sections.SECTIONS),
        _recommended(page),
        _changes(page),
        _unread(page),
        _footer(page),
    )
    body = element("body", None, _cover(page), inner)
    return f"<!doctype html>\n{element('html', {'lang': language.value}, _head(page), body)}\n"


@cache
def _css() -> str:
    return (files("fairlead.support.monthly") / "report.css").read_text(encoding="utf-8")


def _head(page: Page) -> Markup:
    style, source = style_element(_css())
    policy = f"default-src 'none'; style-src {source}; img-src data:; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("title", None, f"{page.word('title')} · {page.data.account} · {page.data.month}"),
        style,
    )


def _cover(page: Page) -> Markup:
    data, month = page.data, Month.parse(page.data.month)
    regions = ", ".join(data.regions[:_MAX_REGIONS])
    if (more := len(data.regions) - _MAX_REGIONS) > 0:
        regions += f" +{more}"
    if data.regions_off:
        regions += f" ({page.word('regions_off')}: {len(data.regions_off)})"
    facts = (
        ("account", data.account),
        ("regions", regions),
        ("period", f"{page.time(data.start)} {DASH} {page.time(data.end)} {data.timezone}"),
        ("as_of", f"{page.time(data.finished_at)} {data.timezone}"),
    )
    items = [
        element("div", None, element("dt", None, page.word(key)), element("dd", None, value))
        for key, value in facts
    ]
    return element(
        "header",
        {"class": "cover"},
        element(
            "div",
            {"class": "inner"},
            element("p", {"class": "kicker"}, page.word("title")),
            element("h1", None, month_name(month.year, month.number, page.language)),
            element("dl", None, *items),
        ),
    )


def _notes(page: Page) -> Markup:
    said = []
    if page.data.running:
        said.append(page.word("running").format(f"{page.time(page.data.end)} {page.data.timezone}"))
    if not page.data.complete:
        said.append(page.word("incomplete"))
    if lacking := judging.unread_parts(page.data):
        said.append(page.word("unread_note").format(", ".join(page.part(part) for part in lacking)))
    previous = page.previous
    if previous and set(previous.regions) != set(page.data.regions):
        said.append(page.word("other_regions").format(previous.month))
    return joined(*(element("p", {"class": "note", "role": "note"}, text) for text in said))


def _first(page: Page) -> Markup:
    """What to act on now, beside how many issues there are of each severity."""
    urgent = judging.urgent(page.issues)
    whole, roomy = not judging.unread_parts(page.data), len(urgent) <= _ROOMY
    if urgent:
        items = [
            element(
                "li",
                None,
                tag(issue.rule.severity, page),
                element(
                    "a",
                    {"href": f"#{issue.rule.part.value}"},
                    page.rule(issue.rule.id)[0],
                    element("small", None, page.rule(issue.rule.id)[1]) if roomy else None,
                ),
                element("b", None, figure_text(page, issue.figure)),
            )
            for issue in urgent
        ]
        box = element("ul", {"class": "urgent"}, *items)
    else:
        box = element(
            "p",
            {"class": "allclear" if whole else "soft"},
            page.word("urgent_none" if whole else "urgent_partly"),
        )
    tone = "alert" if urgent else "calm" if whole else "wary"
    return element(
        "section",
        {"class": "first few" if len(urgent) <= _FEW else "first"},
        element("div", {"class": f"box {tone}"}, element("h2", None, page.word("urgent_h")), box),
        element(
            "div",
            {"class": "stack"},
            element(
                "div",
                {"class": "box"},
                element("h2", None, page.word("by_severity")),
                _ring(page),
            ),
            _coverage(page),
        ),
    )


def _ring(page: Page) -> Markup:
    """How many issues there are of each severity, as far as that is known."""
    counts = dict.fromkeys((severity.value for severity in list(Severity)[:4]), 0)
    for issue in page.issues.values():
        counts[issue.rule.severity.value] += len(issue.rows)
    partly = {
        issue.rule.severity.value
        for issue in page.issues.values()
        if not issue.figure.whole and page.data.state(issue.rule.part) is not State.UNAVAILABLE
    }
    names = {severity.value: severity_word(severity, page.language) for severity in Severity}
    return ring(counts, names, page.word("ring"), partly=partly)


def _coverage(page: Page) -> Markup:
    """How much the report rests on."""
    states = [page.data.state(part) for part in Part]
    asked = [state for state in states if state is not State.UNAVAILABLE]
    said = (
        ("read_resources", f"{sum(len(page.data.rows(part)) for part in Part):,}"),
        ("read_regions", f"{len(page.data.regions):,}"),
        ("read_parts", page.word("rate").format(states.count(State.READ), len(asked))),
    )
    lines = [
        element(kind, None, text)
        for key, value in said
        for kind, text in (("dt", page.word(key)), ("dd", value))
    ]
    return element(
        "div",
        {"class": "box"},
        element("h2", None, page.word("read_h")),
        element("dl", {"class": "known"}, *lines),
    )


_BAD = ("risky_rules", "events_critical", "buckets_with_issues", "databases_with_issues")
# (part, figure on the card, figure below it, its word, whether more of the first is bad)
_CARDS = (
    (Part.INSTANCES, "instances", "instances_running", "cards_running", None),
    (Part.BUCKETS, "buckets", "buckets_with_issues", "cards_issues", None),
    (Part.DATABASES, "databases", "databases_with_issues", "cards_issues", None),
    (Part.FUNCTIONS, "functions", "old_runtime", "cards_old_runtime", None),
    (Part.USERS, "users", "user_without_mfa", "cards_no_mfa", None),
    (Part.OPEN_RULES, "risky_rules", "sensitive_port_open", "cards_sensitive", True),
)


def _cards(page: Page) -> Markup:
    made = []
    for part, figure, below, word, bad_up in _CARDS:
        label = page.word("risky_rules") if part is Part.OPEN_RULES else page.part(part)
        before, _, after = page.word(word).partition("{}")
        lower_is_better = None if below == "instances_running" else True
        made.append(
            element(
                "a",
                {"class": "card", "href": f"#{part.value}"},
                element("span", {"class": "label"}, label),
                element(
                    "span",
                    {"class": "number"},
                    element("b", None, figure_text(page, page.figures[figure])),
                    moved(page, figure, bad_up=bad_up),
                ),
                element(
                    "span",
                    {"class": "below"},
                    before,
                    figure_text(page, page.figures[below]),
                    f"{after} ",
                    moved(page, below, bad_up=lower_is_better),
                ),
            )
        )
    return element(
        "section",
        {"aria-label": page.word("summary")},
        element("h2", None, page.word("summary")),
        element("div", {"class": "cards"}, *made),
    )


def _rates(page: Page) -> Markup:
    rates = judging.rates(page.data)
    names = list(rates)
    groups = (("encryption_h", names[:3]), ("protection_h", names[3:]))
    boxes = [
        element(
            "div",
            {"class": "box"},
            element("h2", None, page.word(heading)),
            *(_rate(page, key, rates[key]) for key in keys),
        )
        for heading, keys in groups
    ]
    return element("section", {"class": "rates"}, *boxes)


def _rate(page: Page, key: str, rate: judging.Rate) -> Markup:
    percent = rate.percent
    if percent is None:
        value: Cell = page.word("rate_none") if rate.tone is judging.Tone.NONE else unread(page)
        below = ""
    else:
        value = f"{percent:g} %"
        below = page.word("rate").format(rate.good, rate.of)
    said = [element("span", {"class": "soft"}, below)]
    if rate.unread and percent is not None:
        said.append(element("span", {"class": "unread"}, page.word("rate_unread").format(rate.unread)))
    elif not rate.whole and percent is not None:
        said.append(element("span", {"class": "unread"}, page.word("partly")))
    tone = "unknown" if rate.tone is judging.Tone.UNREAD else rate.tone.value
    title = f"{page.word(key)}: {f'{percent:g} %' if percent is not None else page.word('unread')}"
    return element(
        "div",
        {"class": f"rate {tone}"},
        element("span", {"class": "label"}, page.word(key)),
        element("b", None, value),
        rate_bar(None if percent is None else rate.good / rate.of, tone, title),
        element("span", {"class": "below"}, *said),
    )


def _contents(page: Page) -> Markup:
    parts = (
        Part.INSTANCES, Part.BUCKETS, Part.DATABASES, Part.FUNCTIONS, Part.VOLUMES, Part.USERS,
        Part.OPEN_RULES, Part.TRUSTED_ADVISOR, Part.EVENTS, Part.ALARMS,
    )  # fmt: skip
    links = [element("a", {"href": f"#{part.value}"}, page.part(part)) for part in parts]
    return element("nav", {"aria-label": page.word("contents")}, *links)


def _recommended(page: Page) -> Markup:
    found = judging.recommended(page.issues)
    heading = element("h2", None, page.word("recommended_h"))
    if not found:
        return element(
            "section",
            {"id": "recommended"},
            heading,
            element("p", {"class": "soft"}, page.word("recommended_none")),
        )
    rows = (
        [
            tag(issue.rule.severity, page),
            element("a", {"href": f"#{issue.rule.part.value}"}, page.rule(issue.rule.id)[0]),
            figure_text(page, issue.figure),
            page.rule(issue.rule.id)[1],
        ]
        for issue in found
    )
    head = ("severity", "issue", "affected", "what_to_do")
    return element("section", {"id": "recommended"}, heading, table(page, head, rows, of=len(found)))


def _changes(page: Page) -> Markup | None:
    """Every figure that moved since the previous report."""
    if page.previous is None:
        return None
    before = judging.figures(page.previous)
    rows = [
        [
            _figure_name(page, key),
            figure_text(page, before[key]),
            figure_text(page, page.figures[key]),
            moved(page, key, bad_up=True if key in page.issues or key in _BAD else None),
        ]
        for key, by in page.change.items()
        if by
    ]
    head = ("figure", "before", "now", "moved")
    return element(
        "section",
        {"id": "changes"},
        element("h2", None, page.word("change_h").format(page.previous.month)),
        table(page, head, rows, of=len(rows))
        if rows
        else element("p", {"class": "soft"}, page.word("nothing_moved")),
    )


def _figure_name(page: Page, key: str) -> str:
    if key in RULE_WORDS[page.language]:
        return page.rule(key)[0]
    part = next((part for part in Part if key.startswith(part.value)), None)
    if part is None:
        return page.word(key)
    rest = key.removeprefix(part.value)
    word = {"_running": "running_only", "_with_issues": "issues_only", "_critical": "critical"}.get(rest)
    return f"{page.part(part)}, {page.word(word)}" if word else page.part(part)


def _unread(page: Page) -> Markup:
    heading = element("h2", None, page.word("unread_h"))
    blanks = judging.blanks(page.data)
    if not blanks:
        return element(
            "section", {"id": "unread"}, heading, element("p", {"class": "soft"}, page.word("unread_none"))
        )

    def what(blank: judging.Blank) -> str:
        if not blank.field:
            return page.part(blank.part)
        return (
            f"{page.part(blank.part)}: {page.word('field_of').format(_field(page, blank.field), blank.rows)}"
        )

    rows = (
        [what(blank), blank.region, f"{CAUSE_WORDS[page.language][blank.cause]}. {blank.detail}".strip()]
        for blank in blanks
    )
    return element(
        "section",
        {"id": "unread"},
        heading,
        element("p", {"class": "soft"}, page.word("unread_p")),
        table(page, ("what", "region", "reason"), rows, of=len(blanks)),
    )


def _field(page: Page, field: str) -> str:
    known = {"backup_days": "backup", "account_block": "blocks_public"}
    key = known.get(field, field)
    try:
        return page.word(key)
    except KeyError:
        return field


def _footer(page: Page) -> Markup:
    calls = [f"{call} ×{count:,}" for call, count in sorted(page.data.calls.items())]  # noqa: RUF001
    listed = ", ".join(calls[:_MAX_CALLS])
    if len(calls) > _MAX_CALLS:
        listed += f", {page.word('calls_more').format(len(calls) - _MAX_CALLS)}"
    versions = ", ".join(f"{part} {version}" for part, version in sorted(page.data.versions.items()))
    said = [
        page.word("caution"),
        page.word("engine_is").format(versions or DASH),
        page.word("calls").format(sum(page.data.calls.values()), listed or DASH),
    ]
    return element(
        "footer",
        None,
        element("h2", None, page.word("footer_h")),
        *(element("p", None, text) for text in said),
    )
