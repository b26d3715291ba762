"""A screening as a page, a table and a document: self-contained HTML, CSV and JSON, Korean and English.

The page needs nothing from anywhere: no scripts, one style element named in its content security policy,
charts as inline SVG. What could not be read is shown as unread, never as fine.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from fairlead.support import findings as found_by
from fairlead.support.charts import change_bar, severity_bars, severity_ring
from fairlead.support.markup import Markup, element, joined, link, printable, style_element
from fairlead.support.model import Difference, Finding, Language, Screening, Severity, Status
from fairlead.support.screening_words import WORDS, severity_word

MAX_ROWS = 500  # resources shown for one check; all of them are in the CSV and the JSON
ZONE = ZoneInfo("Asia/Seoul")


def render_html(screening: Screening, change: Difference, language: Language) -> str:
    """The screening as one HTML page. `change` is `findings.difference(previous or None, screening, …)`."""
    word = WORDS[language]
    style, style_source = style_element(_css())
    policy = (
        f"default-src 'none'; style-src {style_source}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = f"{word['title']} · {screening.account}"
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("title", None, title),
        style,
    )
    main = element(
        "main",
        None,
        _heading(screening, language),
        _cards(screening, change, language),
        _charts(change, language),
        _warnings(screening, change, language),
        _failed(change, language),
        _listed(word["fixed_h"], change.fixed, language),
        _listed(word["unknown_h"], change.unknown, language, word["unknown_p"]),
        _accepted(change, language),
        _unread(screening, language),
    )
    page = element("html", {"lang": language.value}, head, element("body", None, main))
    return f"<!doctype html>\n{page}\n"


@cache
def _css() -> str:
    return (files("fairlead.support") / "screening_report.css").read_text(encoding="utf-8")


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(ZONE):%Y-%m-%d %H:%M} KST"


def _heading(screening: Screening, language: Language) -> Markup:
    word = WORDS[language]
    facts = (
        (word["account"], screening.account),
        (word["regions"], ", ".join(screening.regions) or word["none"]),
        (word["engine"], screening.engine),
        (word["when"], f"{_time(screening.started_at)} \u2013 {_time(screening.finished_at)}"),
    )
    items = [element("li", None, f"{name} ", element("b", None, value)) for name, value in facts]
    return element(
        "header", None, element("h1", None, word["title"]), element("ul", {"class": "facts"}, *items)
    )


def _card(number: int, caption: str, tone: str | None = None) -> Markup:
    return element(
        "div", {"class": "card"}, element("b", {"class": tone}, f"{number:,}"), element("span", None, caption)
    )


def _cards(screening: Screening, change: Difference, language: Language) -> Markup:
    word = WORDS[language]
    statuses = [finding.status for finding in screening.findings]
    unread = statuses.count(Status.UNREAD) + len(screening.unread)
    numbers = (
        (len(change.new) + len(change.unchanged), word["failed"]),
        (len(change.new), word["new"]),
        (len(change.fixed), word["fixed"]),
        (statuses.count(Status.PASS), word["passed"]),
        (len(change.suppressed), word["accepted"]),
        (unread, word["unread"]),
    )
    return element(
        "section",
        {"aria-label": word["summary"]},
        element("h2", None, word["summary"]),
        element("div", {"class": "cards"}, *(_card(number, caption) for number, caption in numbers)),
    )


def _charts(change: Difference, language: Language) -> Markup:
    word = WORDS[language]
    shown = (*change.new, *change.unchanged)
    names = {severity: severity_word(severity, language) for severity in Severity}
    ring = severity_ring(found_by.count_by_severity(shown), names, word["failed"])
    bars = severity_bars(found_by.count_by_service(shown), names, word["by_service"])
    parts = [
        element("div", {"class": "chart"}, element("h3", None, word["by_severity"]), ring),
        element("div", {"class": "chart"}, element("h3", None, word["by_service"]), bars),
    ]
    counts = {
        "high": len(change.new),
        "same": len(change.unchanged),
        "fixed": len(change.fixed),
        "unknown": len(change.unknown),
    }
    captions = {
        "high": word["new"],
        "same": word["unchanged"],
        "fixed": word["fixed"],
        "unknown": word["unknown"],
    }
    bar = change_bar(counts, captions, word["change_h"])
    return joined(
        element("div", {"class": "charts"}, *parts),
        element("h2", None, word["change_h"]),
        element("div", {"class": "chart"}, bar),
    )


def _warnings(screening: Screening, change: Difference, language: Language) -> Markup:
    word = WORDS[language]
    notes = []
    if not screening.complete:
        notes.append(element("p", {"class": "note", "role": "note"}, word["incomplete"]))
    if change.lapsed:
        listed = "; ".join(f"{s.check} ({s.expires.isoformat()})" for s in change.lapsed[:10])
        notes.append(element("p", {"class": "note", "role": "note"}, f"{word['lapsed']} {listed}"))
    return joined(*notes)


def _tag(severity: Severity, language: Language) -> Markup:
    return element("span", {"class": f"tag {severity.value}"}, severity_word(severity, language))


def _failed(change: Difference, language: Language) -> Markup:
    word = WORDS[language]
    groups = found_by.by_check((*change.new, *change.unchanged))
    if not groups:
        return joined(
            element("h2", None, word["failed_h"]),
            element("p", {"class": "note good"}, word["nothing_failed"]),
        )
    fresh = {finding.identity for finding in change.new}
    return joined(
        element("h2", None, word["failed_h"]),
        *(_check(example, group, fresh, language) for example, group in groups),
    )


def _check(
    example: Finding, group: tuple[Finding, ...], fresh: set[tuple[str, str, str, str]], language: Language
) -> Markup:
    word = WORDS[language]
    facts: list[tuple[str, str | Markup]] = [(word["check"], element("code", None, example.check))]
    facts += [
        (word[key], value)
        for key, value in (("why", example.rationale), ("fix", example.remediation))
        if value
    ]
    if example.compliance:
        mapped = "\n".join(f"{name}: {', '.join(ids)}" for name, ids in sorted(example.compliance.items()))
        facts.append((word["compliance"], mapped))
    if example.pillars:
        facts.append((word["pillars"], ", ".join(example.pillars)))
    if example.references:
        facts.append(
            (word["references"], joined(*(joined(link(address), " ") for address in example.references)))
        )
    listed = [
        element(tag, None, value) for name, text in facts for tag, value in (("dt", name), ("dd", text))
    ]
    summary = element(
        "summary", None, _tag(example.severity, language), element("h3", None, example.title),
        element("span", {"class": "soft"}, f"{len(group):,}"),
    )  # fmt: skip
    inside = element(
        "div", {"class": "inside"}, element("dl", None, *listed), _resources(group, fresh, language)
    )
    return element(
        "details", {"open": "open" if example.severity is Severity.CRITICAL else None}, summary, inside
    )


def _resources(
    group: tuple[Finding, ...], fresh: set[tuple[str, str, str, str]], language: Language
) -> Markup:
    word = WORDS[language]
    head = element(
        "tr", None, *(element("th", {"scope": "col"}, word[key]) for key in ("resource", "region", "detail"))
    )
    rows = [
        element(
            "tr",
            None,
            element(
                "td", None, element("code", None, finding.resource.uid),
                element("span", {"class": "new"}, f" {word['new']}") if finding.identity in fresh else None,
            ),
            element("td", None, finding.resource.region),
            element("td", None, finding.detail),
        )
        for finding in group[:MAX_ROWS]
    ]  # fmt: skip
    more = len(group) - MAX_ROWS
    return joined(
        element(
            "div",
            {"class": "scroll"},
            element("table", None, element("thead", None, head), element("tbody", None, *rows)),
        ),
        element("p", {"class": "soft"}, word["more"].format(more)) if more > 0 else None,
    )


def _row(*cells: str) -> Markup:
    return element("tr", None, *(element("td", None, cell) for cell in cells))


def _listed(heading: str, listed: tuple[Finding, ...], language: Language, note: str | None = None) -> Markup:
    if not listed:
        return joined()
    rows = [
        _row(_tag(f.severity, language), f.title, element("code", None, f.resource.uid), f.resource.region)
        for f in listed[:MAX_ROWS]
    ]
    more = len(listed) - MAX_ROWS
    return joined(
        element("h2", None, heading),
        element("p", {"class": "soft"}, note) if note else None,
        element("div", {"class": "scroll"}, element("table", None, element("tbody", None, *rows))),
        element("p", {"class": "soft"}, WORDS[language]["more"].format(more)) if more > 0 else None,
    )


def _accepted(change: Difference, language: Language) -> Markup:
    word = WORDS[language]
    if not change.suppressed:
        return joined()
    head = element(
        "tr",
        None,
        *(
            element("th", {"scope": "col"}, word[k])
            for k in ("check", "resource", "reason", "author", "until")
        ),
    )
    rows = [
        _row(
            item.finding.title,
            element("code", None, item.finding.resource.uid),
            item.suppression.reason,
            item.suppression.author,
            item.suppression.expires.isoformat(),
        )
        for item in change.suppressed[:MAX_ROWS]
    ]
    table = element("table", None, element("thead", None, head), element("tbody", None, *rows))
    return joined(element("h2", None, word["accepted_h"]), element("div", {"class": "scroll"}, table))


def _unread(screening: Screening, language: Language) -> Markup:
    word = WORDS[language]
    lines = [(gap.service, gap.region, gap.reason) for gap in screening.unread]
    lines += [
        (found_by.service_of(f), f.resource.region, f"{f.title}: {f.detail}")
        for f in screening.findings
        if f.status is Status.UNREAD
    ]
    if not lines:
        return joined()
    rows = [_row(*line) for line in lines[:MAX_ROWS]]
    return joined(
        element("h2", None, word["unread_h"]),
        element("p", {"class": "soft"}, word["unread_p"]),
        element("div", {"class": "scroll"}, element("table", None, element("tbody", None, *rows))),
    )


# ── table and document ────────────────────────────────────────────────────────────────────────────

COLUMNS = (
    "account", "change", "severity", "status", "check", "title", "region", "resource_type", "resource",
    "detail", "remediation", "compliance", "pillars", "accepted_until", "accepted_reason",
)  # fmt: skip
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20|%\t\r")  # also the full-width forms that Excel takes


def safe_cell(text: str) -> str:
    """`text` for a spreadsheet: what a program would run as a formula is quoted with an apostrophe."""
    clean = printable(text.replace("\r", " "))
    return f"'{clean}" if clean.lstrip(" \n\t\u00a0\u3000\ufeff").startswith(_FORMULA) else clean


def render_csv(screening: Screening, change: Difference) -> str:
    """Every finding as one row, the fixed and unknown ones of the previous screening last; RFC 4180."""
    target = io.StringIO()
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for finding, kind in _with_change(screening, change):
        writer.writerow([safe_cell(cell) for cell in _cells(finding, kind, change)])
    return target.getvalue()


def _with_change(screening: Screening, change: Difference) -> Iterable[tuple[Finding, str]]:
    kinds: dict[tuple[str, str, str, str], str] = {f.identity: "new" for f in change.new}
    kinds |= {f.identity: "unchanged" for f in change.unchanged}
    kinds |= {item.finding.identity: "accepted" for item in change.suppressed}
    for finding in screening.findings:
        yield finding, kinds.get(finding.identity, "") if finding.status is Status.FAIL else ""
    yield from ((finding, "fixed") for finding in change.fixed)
    yield from ((finding, "unknown") for finding in change.unknown)


def _cells(finding: Finding, kind: str, change: Difference) -> list[str]:
    accepted = next(
        (
            i.suppression
            for i in change.suppressed
            if kind == "accepted" and i.finding.identity == finding.identity
        ),
        None,
    )
    return [
        finding.account, kind, finding.severity.value, finding.status.value, finding.check, finding.title,
        finding.resource.region, finding.resource.type, finding.resource.uid, finding.detail,
        finding.remediation,
        "; ".join(f"{name}: {', '.join(ids)}" for name, ids in sorted(finding.compliance.items())),
        ", ".join(finding.pillars),
        accepted.expires.isoformat() if accepted else "", accepted.reason if accepted else "",
    ]  # fmt: skip


def render_json(screening: Screening, change: Difference) -> str:
    """The screening, its counts and the difference as one JSON document."""
    shown = (*change.new, *change.unchanged)
    value: Mapping[str, Any] = {
        "screening": found_by.document(screening),
        "counts": {
            "failed": len(shown),
            "by_severity": {k.value: n for k, n in found_by.count_by_severity(shown).items()},
            "new": len(change.new),
            "unchanged": len(change.unchanged),
            "fixed": len(change.fixed),
            "unknown": len(change.unknown),
            "accepted": len(change.suppressed),
        },
        "change": found_by.document(change),
    }
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
