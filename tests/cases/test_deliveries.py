"""Deliveries grouped into fractions."""

from datetime import datetime, timedelta

import pytest

from fairlead.cases.deliveries import group, reference_fraction
from fairlead.cases.model import Delivery, Fraction, FractionState

START = datetime(2026, 1, 12, 9, 0)  # noqa: DTZ001 - the room's own clock has no zone
COMPLETE, PENDING, PARTIAL, ANOMALY = FractionState


def _delivery(beam: int, minute: float) -> Delivery:
    at = START + timedelta(minutes=minute)
    return Delivery(at.strftime("%Y%m%d%H%M%S00"), "PlanRange.txt", beam, beam, 1, at, (), "P")


def _group(*made: tuple[int, float], now: float | None = None) -> tuple[Fraction, ...]:
    moment = None if now is None else START + timedelta(minutes=now)
    return group([_delivery(*one) for one in made], (2, 3), now=moment)


GROUPS = {
    "nothing": ((), None, []),
    "complete": (((2, 0), (3, 7)), None, [COMPLETE]),
    "any-order": (((3, 7), (2, 0)), None, [COMPLETE]),
    "open": (((2, 0),), 59, [PENDING]),
    "closes-on-the-hour": (((2, 0),), 60, [PARTIAL]),
    "closed": (((2, 0),), None, [PARTIAL]),
    "last-minute": (((2, 0), (3, 59.9)), None, [COMPLETE]),
    "an-hour-later-is-another": (((2, 0), (3, 60)), None, [PARTIAL, PARTIAL]),
    "next-day": (((2, 0), (3, 5), (2, 1440), (3, 1445)), None, [COMPLETE, COMPLETE]),
    "twice": (((2, 0), (3, 5), (2, 20)), None, [ANOMALY]),
    "twice-while-open": (((2, 0), (2, 5)), 10, [ANOMALY]),
    # As many deliveries as beams, but not of every beam: the count alone would call it complete.
    "right-count-wrong-beams": (((2, 0), (2, 5)), None, [ANOMALY]),
    "foreign-beam": (((2, 0), (9, 5)), None, [ANOMALY]),
    "complete-then-open": (((2, 0), (3, 5), (2, 1440)), 1450, [COMPLETE, PENDING]),
}


@pytest.mark.parametrize(("made", "now", "states"), GROUPS.values(), ids=GROUPS.keys())
def test_deliveries_within_an_hour_form_a_fraction(
    made: tuple[tuple[int, float], ...], now: float | None, states: list[FractionState]
) -> None:
    assert [fraction.state for fraction in _group(*made, now=now)] == states


def test_the_earliest_delivery_of_a_beam_is_the_reference_and_later_ones_are_duplicates() -> None:
    (fraction,) = _group((2, 0), (3, 5), (2, 20), (2, 30))
    assert [d.delivered_at.minute for d in fraction.reference] == [0, 5]
    assert [d.delivered_at.minute for d in fraction.duplicates] == [20, 30]
    assert fraction.missing_beams == ()


REFERENCES = {
    "first-complete": (((2, 0), (2, 1440), (3, 1445), (2, 2880), (3, 2885)), None, 1),
    "partial-where-none-is-complete": (((2, 0), (2, 10), (3, 1440)), None, 1),
    "anomaly-as-the-last-resort": (((2, 0), (2, 10)), None, 0),
    "never-a-pending-one": (((2, 0),), 5, None),
}


@pytest.mark.parametrize(("made", "now", "index"), REFERENCES.values(), ids=REFERENCES.keys())
def test_the_reference_fraction_is_the_best_there_is(
    made: tuple[tuple[int, float], ...], now: float | None, index: int | None
) -> None:
    fractions = _group(*made, now=now)
    assert reference_fraction(fractions) == (None if index is None else fractions[index])
