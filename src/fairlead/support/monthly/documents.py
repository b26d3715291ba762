"""A month as JSON that can be read back, and as a table for a spreadsheet."""

import csv
import io
import json
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from fairlead.kernel.errors import FairleadError
from fairlead.support.monthly import judging
from fairlead.support.monthly.model import FORMAT, Key, MonthlyData, Part, Row
from fairlead.support.monthly.month import Month, zone
from fairlead.support.screening_report import safe_cell

MAX_BYTES = 256 * 1024 * 1024
COLUMNS = ("account", "month", "part", "region", "resource", "name", "severity", "issues", "facts")
_COMMON = frozenset(field.name for field in fields(Row))


class MonthlyUnreadable(FairleadError):
    """The file does not have the form of a monthly report."""

    code, status, retryable = "support.monthly_unreadable", 422, False


class _Document(msgspec.Struct, kw_only=True):
    format: str
    report: MonthlyData


def to_json(data: MonthlyData, previous: MonthlyData | None = None) -> bytes:
    """The data and what they say, as docs/reference/monthly-report.md has it. Raises AccountsDiffer."""
    found = judging.issues(data)
    document = {
        "format": FORMAT,
        "report": msgspec.to_builtins(data),
        "states": {part.value: data.state(part).value for part in Part},
        "figures": {name: figure.document() for name, figure in judging.figures(data).items()},
        "rates": {name: rate.document() for name, rate in judging.rates(data).items()},
        "issues": [
            {
                "id": issue.rule.id,
                "severity": issue.rule.severity.value,
                "part": issue.rule.part.value,
                **issue.figure.document(),
                "resources": [{"uid": row.uid, "region": row.region} for row in issue.rows],
            }
            for issue in found.values()
        ],
        "previous": previous.month if previous else None,
        "change": judging.change(previous, data) if previous else None,
    }
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def from_json(data: bytes, *, name: str = "the report") -> MonthlyData:
    """The data of a report that `to_json` wrote. Raises MonthlyUnreadable, naming the place."""
    remedy = "Give the .json of a monthly report."
    if len(data) > MAX_BYTES:
        raise MonthlyUnreadable(f"{name} has {len(data):,} bytes; {MAX_BYTES:,} are taken.", remedy=remedy)
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MonthlyUnreadable(f"{name}: {error}.", remedy=remedy) from error
    if document.format != FORMAT:
        raise MonthlyUnreadable(
            f"{name} has the format {document.format[:40]!r}; this reads {FORMAT}.", remedy=remedy
        )
    report = document.report
    try:
        Month.parse(report.month)
        zone(report.timezone)
    except FairleadError as error:
        raise MonthlyUnreadable(f"{name}: {error.message}", remedy=remedy) from error
    moments = (report.start, report.end, report.started_at, report.finished_at)
    naive = any(moment.tzinfo is None for moment in moments)
    if naive or not report.start < report.end or report.finished_at < report.started_at:
        raise MonthlyUnreadable(f"{name}: its times are out of order or without a zone.", remedy=remedy)
    return report


def to_csv(data: MonthlyData) -> str:
    """A row for each resource, event and check, and one for everything that was not read; RFC 4180."""
    target = io.StringIO()
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    found, place = judging.issues(data), zone(data.timezone)
    for part in Part:
        broken = judging.of_row(found, part)
        for row in data.rows(part):
            rules = broken.get(id(row), ())
            severity = rules[0].severity.value if rules else ""
            facts = "; ".join(
                f"{field.name}={_fact(row, field.name, place)}"
                for field in fields(row)
                if field.name not in _COMMON
            )
            cells = (row.region, row.uid, row.name, severity, "; ".join(rule.id for rule in rules), facts)
            writer.writerow([safe_cell(cell) for cell in (data.account, data.month, part.value, *cells)])
    for blank in judging.blanks(data):
        what = f"{blank.field} of {blank.rows}" if blank.field else "all"
        cells = (blank.region, "", f"not read: {what}", "", blank.cause.value, blank.detail)
        writer.writerow([safe_cell(cell) for cell in (data.account, data.month, blank.part.value, *cells)])
    return target.getvalue()


def _fact(row: Row, name: str, place: Any) -> str:
    if name in row.unread:
        return "not read"
    return _text(getattr(row, name), place)


def _text(value: Any, place: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(place).isoformat(timespec="seconds")
        case Key():
            state = "active" if value.active else "inactive"
            return f"{value.id} {state} since {_text(value.created, place)}"
        case tuple():
            return ", ".join(_text(item, place) for item in value)
        case _:
            return str(value)
