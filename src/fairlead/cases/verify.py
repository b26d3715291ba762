"""Planned against delivered: the verdict on one case, from its files alone."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fairlead.cases import deliveries, interpret, rtdose, rules, volumes
from fairlead.cases.engines import DicomSources, DoseEngine, DoseRequest, DoseResult
from fairlead.cases.gamma import Criteria, Gamma, compare
from fairlead.cases.machine import Machine
from fairlead.cases.model import Beam, Fraction, FractionState, LayerDeviation, LayerLog, Plan, Volume
from fairlead.cases.rules import Examined
from fairlead.kernel.errors import FairleadError, InvalidInput


class CriteriaInvalid(InvalidInput):
    """A criterion of the verdict means nothing."""

    code, status, retryable = "cases.criteria_invalid", 422, False


class NotComparable(FairleadError):
    """Planned and delivered dose of this case cannot be compared."""

    code, status, retryable = "cases.not_comparable", 409, False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCriteria:
    """All of them have to hold; a limit is still a pass."""

    gamma: Criteria = field(default_factory=Criteria)
    pass_rate_percent: float = 95.0  # at least
    position_mm: float = 2.0  # at most, the worst spot
    layer_mu_percent: float = 3.0  # at most, the worst layer
    spot_size_percent: float = 15.0  # at most, the worst spot

    def __post_init__(self) -> None:
        """Raises CriteriaInvalid."""
        if not 0 < self.pass_rate_percent <= 100:
            raise CriteriaInvalid(
                "The pass rate must be above 0 and up to 100 percent.", remedy="Correct it."
            )
        if min(self.position_mm, self.layer_mu_percent, self.spot_size_percent) <= 0:
            raise CriteriaInvalid("Limits of deviations must be above 0.", remedy="Correct them.")


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion and how it came out."""

    name: str
    found: str
    limit: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was calculated for one case."""

    plan: Plan
    ct: Volume
    planned: Volume
    delivered: Volume
    gamma: Gamma
    deviations: tuple[LayerDeviation, ...]
    fraction: Fraction
    fractions: tuple[Fraction, ...]
    engine: str  # its label


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome; without a comparison where the records are not in order."""

    examined: Examined
    checks: tuple[Check, ...]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(
    case: Path,
    machine: Machine,
    engine: DoseEngine,
    criteria: VerdictCriteria | None = None,
    *,
    ct_folder: Path | None = None,
    now: datetime | None = None,
) -> Verdict:
    """The verdict on the case folder `case`.

    `ct_folder` replaces the case's own CT folder; `now` (on the room's clock) keeps a fraction pending while
    its window is open. Raises CaseNotFound, and NotComparable where there is no CT or nothing to compare yet.
    """
    criteria = criteria or VerdictCriteria()
    examined = rules.examine(case, machine)
    if not examined.valid:
        found = f"{len(examined.violations)} broken"
        return Verdict(examined, (Check("records in order", found, "no rule broken", False),), None)
    comparison = _compare(examined, machine, engine, criteria, ct_folder, now)
    return Verdict(examined, tuple(_checks(comparison, criteria)), comparison)


def _compare(
    examined: Examined,
    machine: Machine,
    engine: DoseEngine,
    criteria: VerdictCriteria,
    ct_folder: Path | None,
    now: datetime | None,
) -> Comparison:
    plan, room = examined.plan, examined.room
    ct = volumes.read(ct_folder) if ct_folder else examined.ct
    if plan is None or room is None or ct is None:
        raise NotComparable(
            "The case has no CT, so no dose can be calculated.", remedy="Name the folder of the CT with --ct."
        )
    fractions = deliveries.group(examined.deliveries, [beam.number for beam in plan.beams], now=now)
    fraction = deliveries.reference_fraction(fractions)
    if fraction is None:
        raise NotComparable(
            "The only fraction is still being delivered.", remedy="Come back when its hour has passed."
        )
    rtdose.check_fits(plan, ct, ct.grid)
    logs = {
        delivery.beam_number: interpret.layer_logs(examined.folder.root / delivery.folder, delivery, room)
        for delivery in fraction.reference
    }

    sources = None
    if (ct_files := ct_folder or examined.folder.ct) and examined.plan_file:
        sources = DicomSources(examined.plan_file, ct_files)

    def dose(of: Plan) -> DoseResult:
        return engine.dose(DoseRequest(of, ct, room, machine.ct, ct.grid, sources))

    planned = rtdose.as_plan_volume(dose(plan).total, ct.grid, plan, ct)
    delivered = rtdose.as_plan_volume(dose(interpret.delivered_plan(plan, logs)).total, ct.grid, plan, ct)
    return _comparison(examined, ct, planned, delivered, criteria, engine.label, now)


def judged(
    examined: Examined, planned: Volume, delivered: Volume, criteria: VerdictCriteria, *, engine: str
) -> Verdict:
    """The verdict on a valid case whose doses were calculated elsewhere, by `engine` (its label).

    Every fraction's window counts as closed. Raises NotComparable.
    """
    if examined.ct is None:
        raise NotComparable("The case has no CT.", remedy="Have it sent.")
    made = _comparison(examined, examined.ct, planned, delivered, criteria, engine, None)
    return Verdict(examined, tuple(_checks(made, criteria)), made)


def _comparison(
    examined: Examined, ct: Volume, planned: Volume, delivered: Volume,
    criteria: VerdictCriteria, engine: str, now: datetime | None,
) -> Comparison:  # fmt: skip
    fractions, layers = interpreted(examined, now=now)
    fraction = deliveries.reference_fraction(fractions)
    if examined.plan is None or fraction is None:
        raise NotComparable("The case has no delivery to compare.", remedy="Have it sent.")
    in_order = sorted(layers, key=lambda found: (found[1].beam_number, found[1].layer))
    return Comparison(
        examined.plan,
        ct,
        planned,
        delivered,
        compare(planned, delivered, criteria.gamma),
        tuple(deviation for _, _, deviation in in_order),
        fraction,
        fractions,
        engine,
    )


def _checks(made: Comparison, criteria: VerdictCriteria) -> list[Check]:
    layers = made.deviations
    rate, position = made.gamma.pass_rate, max((layer.max_position_mm for layer in layers), default=0.0)
    mu = max((abs(layer.mu_percent) for layer in layers), default=0.0)
    size = max((layer.max_size_percent for layer in layers), default=0.0)
    lost = sum(layer.undelivered_spots for layer in layers)
    missing = sum(len(beam.layers) for beam in made.plan.beams) - len(layers)
    g = criteria.gamma
    name = (
        f"gamma {g.dose_percent:g} % / {g.distance_mm:g} mm ({g.normalisation}, above {g.cutoff_percent:g} %)"
    )
    return [
        Check("records in order", "no rule broken", "no rule broken", True),
        Check(
            "fraction", made.fraction.state.value, "complete", made.fraction.state is FractionState.COMPLETE
        ),
        Check(
            name,
            f"{rate:.2f} % pass",
            f"≥ {criteria.pass_rate_percent:g} %",
            rate >= criteria.pass_rate_percent,
        ),
        Check("layers not delivered", str(missing), "0", missing == 0),
        Check("spots not delivered", str(lost), "0", lost == 0),
        Check(
            "largest spot position deviation",
            f"{position:.2f} mm",
            f"≤ {criteria.position_mm:g} mm",
            position <= criteria.position_mm,
        ),
        Check(
            "largest layer MU deviation",
            f"{mu:.2f} %",
            f"≤ {criteria.layer_mu_percent:g} %",
            mu <= criteria.layer_mu_percent,
        ),
        Check(
            "largest spot size deviation",
            f"{size:.2f} %",
            f"≤ {criteria.spot_size_percent:g} %",
            size <= criteria.spot_size_percent,
        ),
    ]


def interpreted(
    examined: Examined, *, now: datetime | None = None
) -> tuple[tuple[Fraction, ...], tuple[tuple[Beam, LayerLog, LayerDeviation], ...]]:
    """Fractions, and the layers of the reference fraction. Raises NotComparable for cases with violations."""
    plan, room = examined.plan, examined.room
    if plan is None or room is None or not examined.valid:
        raise NotComparable(
            "The case breaks rules; its logs are not interpreted.", remedy="See its violations."
        )
    fractions = deliveries.group(examined.deliveries, [beam.number for beam in plan.beams], now=now)
    fraction = deliveries.reference_fraction(fractions)
    layers: list[tuple[Beam, LayerLog, LayerDeviation]] = []
    for delivery in fraction.reference if fraction else ():
        beam = plan.beam(delivery.beam_number)
        if beam is None:
            continue
        in_mu = interpret.planned_mu(beam, room)
        logs = interpret.layer_logs(examined.folder.root / delivery.folder, delivery, room)
        layers += [
            (beam, log, interpret.deviations(in_mu.layers[log.layer - 1], log, room=room)) for log in logs
        ]
    return fractions, tuple(layers)
