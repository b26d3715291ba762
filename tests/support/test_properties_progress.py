"""Property 2, progress consistency.

Whatever an engine's program says, in whatever order: nobody sees progress run backwards, a hundred percent of
what was not read, or an estimate below zero.
"""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.support.screenings.pace import Course, Part
from fairlead.support.screenings.port import Plan, Progress, Scope
from fairlead.support.screenings.prowler.reading import Reading as ProwlerReading
from fairlead.support.screenings.service_screener.results import Reading as ScreenerReading
from tests.support.scripted_driver import CATALOGUE, check, finding

WHEN = datetime(2026, 11, 20, 1, tzinfo=UTC)
REGIONS = ("ap-northeast-2", "us-east-1")
CHECKS = {str(name): str(service) for name, service in CATALOGUE}
SERVICES = tuple(dict.fromkeys(CHECKS.values()))
PLAN = Plan(
    engine="any", account="123412341234", regions=REGIONS, regions_off=(), services=SERVICES,
    steps=1, checks=1, scope=Scope(),
)  # fmt: skip

moments = st.lists(st.floats(min_value=-5, max_value=1e6, allow_nan=False), min_size=1, max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
prowler_lines = st.one_of(
    st.binary(max_size=20),
    st.none(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda name, number, last: json.dumps(
            check(name, *[finding(str(n)) for n in range(number)], last=last)
        ).encode(),
        st.sampled_from([*CHECKS, "unknown_check"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    st.builds(
        lambda kind, value: json.dumps(
            {"kind": kind, "check": value, "account": value, "error": value}
        ).encode(),
        st.sampled_from(["began", "skipped", "account", "failed", "gap", "end", "else"]),
        st.sampled_from([*CHECKS, 7, None]),
    ),
)
parts = st.builds(Part, st.sampled_from(SERVICES), st.sampled_from([*REGIONS, "global"]), st.integers(1, 5))
screener_lines = st.one_of(
    st.binary(max_size=20),
    st.none(),
    st.builds(
        lambda word, service, region: f"\x1b[1m{word}\x1b[0m -- {service.upper()}::{region} (1s)".encode(),
        st.sampled_from(["PREPARING", "COMPLETED", "OTHER"]),
        st.sampled_from([*SERVICES, "rds"]),
        st.sampled_from([*REGIONS, "eu-west-1"]),
    ),
    st.sampled_from(SERVICES).map(lambda service: ("ended", service)),
)


class Watched:
    """Progress as people see it, held against what it promises."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._last = self.look(0.0)
        assert self._last.percent == 0 or not course.open
        assert self._last.remaining_s is None or not course.open

    def look(self, now: float) -> Progress:
        return self._course.progress(now)

    def see(self, now: float) -> None:
        progress = self.look(now)
        assert progress.percent >= self._last.percent
        assert progress.done >= self._last.done
        assert progress.elapsed_s >= self._last.elapsed_s >= 0
        assert progress.resources >= self._last.resources
        assert 0 <= progress.percent <= 100
        assert 0 <= progress.done <= progress.total == self._last.total
        assert (progress.percent == 100) == (not self._course.open)
        assert progress.remaining_s is None or progress.remaining_s >= 0
        if not self._course.open:
            assert progress.remaining_s == 0 or progress.elapsed_s == 0 or progress.total == 0
            assert progress.stage == ""
        self._last = progress


def times(moments: list[float], number: int) -> float:
    """Clocks may stand still or jump back; progress must not."""
    return moments[number % len(moments)]


@settings(max_examples=150, deadline=None)
@given(st.lists(prowler_lines, max_size=40), moments)
def test_property_2_progress_consistency_of_prowler(lines: list[bytes | None], clock: list[float]) -> None:
    course = Course(ProwlerReading.parts(CHECKS), 0.0)
    reading, watched = ProwlerReading(plan=PLAN, course=course, checks=CHECKS, seen_at=WHEN), Watched(course)
    for number, line in enumerate(lines):
        reading.feed(line)
        watched.see(times(clock, number))
    reading.feed(b'{"kind": "end"}')
    watched.see(times(clock, len(lines)))
    assert not course.open


@settings(max_examples=150, deadline=None)
@given(st.lists(screener_lines, max_size=40), moments)
def test_property_2_progress_consistency_of_service_screener(lines: list[Any], clock: list[float]) -> None:
    course = Course(ScreenerReading.parts(SERVICES, REGIONS), 0.0)
    reading, watched = ScreenerReading(plan=PLAN, course=course, rules={}, seen_at=WHEN), Watched(course)
    for number, line in enumerate(lines):
        if isinstance(line, tuple):
            reading.end(line[1], 3)
        else:
            reading.hear(line)
        watched.see(times(clock, number))
    for service in SERVICES:
        reading.end(service, 0)
        watched.see(times(clock, len(lines)))
    assert not course.open


acts = st.lists(
    st.tuples(st.sampled_from(["begin", "inside", "end"]), parts, st.integers(-2, 9)), max_size=60
)


@settings(max_examples=200, deadline=None)
@given(st.lists(parts, max_size=12), acts, moments)
def test_property_2_progress_consistency(
    planned: list[Part], events: list[tuple[str, Part, int]], clock: list[float]
) -> None:
    """Of any engine: events come in any order, also of parts that are not planned."""
    course = Course(planned, 0.0)
    watched = Watched(course)
    for number, (act, part, done) in enumerate(events):
        match act:
            case "begin":
                course.begin(part)
            case "inside":
                course.inside(part, done)
            case _:
                course.end(part)
        watched.see(times(clock, number))
    for part in planned:
        course.end(part)
        watched.see(times(clock, len(events)))
    assert watched.look(1e7).percent == 100
