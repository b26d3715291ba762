"""The support assistant's offline core: how well and how fast questions are read, general answers, reports.

.venv/bin/python -m tests.benchmarks.bench_support
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

from fairlead.support import general
from fairlead.support.findings import difference
from fairlead.support.model import Language
from fairlead.support.monthly.documents import to_csv, to_json
from fairlead.support.monthly.page import to_html
from fairlead.support.screening_report import render_csv, render_html
from fairlead.support.understanding import understand
from tests.support import accuracy, months, screenings

Line = tuple[str, float, str]


def _milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def _understanding() -> list[Line]:
    lines: list[Line] = []
    for split in ("dev", "held_out", "fresh", "later"):
        for language in ("ko", "en"):
            found = accuracy.measure(accuracy.questions(split, language))
            name = f"support.understand.{split}.{language}"
            lines += [
                (f"{name}.questions", found.questions, "questions"),
                (f"{name}.intent", round(100 * found.intent, 1), "% right"),
                (f"{name}.slots", round(100 * found.slots, 1), "% right"),
                (f"{name}.filled_slots", round(100 * found.filled_slots, 1), "% right"),
            ]
    texts = [row["text"] for row in accuracy.questions()]
    times = sorted(_milliseconds(lambda text=text: understand(text, accuracy.NOW)) for text in texts * 3)  # type: ignore[misc]
    lines.append(("support.understand.p50", round(statistics.median(times), 2), "ms"))
    lines.append(("support.understand.p99", round(times[int(len(times) * 0.99)], 2), "ms"))
    return lines


def _general() -> list[Line]:
    texts = [row["text"] for row in accuracy.questions() if row["intent"] == "general"]
    general.answer(texts[0])
    times = [_milliseconds(lambda text=text: general.answer(text)) for text in texts * 5]  # type: ignore[misc]
    return [
        ("support.general.entries", len(general.corpus()), "entries"),
        ("support.general.p50", round(statistics.median(times), 2), "ms"),
    ]


def _reports() -> list[Line]:
    many = screenings.screening(
        *(screenings.finding(f"s3.check_{n % 60}", f"arn:aws:s3:::bucket-{n}") for n in range(10_000))
    )
    change = difference(None, many, on=screenings.DAY)
    page = render_html(many, change, Language.KOREAN)
    timed = (
        ("difference", lambda: difference(many, many, on=screenings.DAY)),
        ("report.html", lambda: render_html(many, change, Language.KOREAN)),
        ("report.csv", lambda: render_csv(many, change)),
    )
    lines: list[Line] = [
        (f"support.{name}.10000_findings", round(_milliseconds(action), 1), "ms") for name, action in timed
    ]
    return [*lines, ("support.report.html.10000_findings.size", round(len(page.encode()) / 1e6, 2), "MB")]


def _monthly() -> list[Line]:
    lines: list[Line] = []
    for count in (1_000, 10_000):
        data = months.huge(count)
        forms: dict[str, Callable[[], str | bytes]] = {
            "html": partial(to_html, data, Language.KOREAN),
            "json": partial(to_json, data),
            "csv": partial(to_csv, data),
        }
        for form, written in forms.items():
            name = f"support.monthly.{form}.{count}_resources"
            lines.append((name, round(_milliseconds(written), 1), "ms"))
            lines.append((f"{name}.size", round(len(written()) / 1e6, 2), "MB"))
    return lines


def run() -> list[Line]:
    """All figures."""
    return [*_understanding(), *_general(), *_reports(), *_monthly()]


if __name__ == "__main__":
    for name, value, unit in run():
        print(f"{name:48} {value:>10} {unit}")
