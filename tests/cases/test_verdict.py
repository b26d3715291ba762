"""Interpretation, verdict, report and pseudonymised copies of whole cases."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from fairlead.cases import faults, interpret, offline, pseudonyms, rtdose, rules, verify
from fairlead.cases.engines import engine
from fairlead.cases.gamma import Criteria
from fairlead.cases.generate import FolderNotEmpty
from fairlead.cases.machine import Machine, Room
from fairlead.cases.model import LayerLog, PlanLayer
from fairlead.cases.pseudonyms import KeyTooShort, NotPseudonymisable, Pseudonyms
from fairlead.cases.rules import Examined
from fairlead.cases.verify import NotComparable, Verdict, VerdictCriteria

IN_BETWEEN = datetime(2026, 1, 12, 9, 45)  # noqa: DTZ001 - the room's own clock has no zone

# The check that has to fail for each delivery fault.
TELLS = {
    "position-shift": ("gamma", "position"),
    "mu-error": ("gamma", "MU deviation"),
    "spots-missing": ("gamma", "spots not delivered"),
    "spot-size": ("spot size",),
    "early-stop": ("gamma", "layers not delivered"),
    "missing-beam": ("gamma", "fraction", "layers not delivered"),
    "repeated-beam": ("fraction",),
}


def test_every_delivery_fault_has_its_test() -> None:
    assert set(TELLS) == {fault.name for fault in faults.FAULTS if fault.kind == "delivery"}


@pytest.fixture(scope="module")
def clean_verdict(clean_case: Path, machines: Machine) -> Verdict:
    return verify.verify(clean_case, machines, engine("reference"))


def test_a_clean_delivery_passes(clean_verdict: Verdict) -> None:
    assert clean_verdict.passed
    assert clean_verdict.comparison is not None
    assert clean_verdict.comparison.gamma.pass_rate > 99.9
    assert len(clean_verdict.comparison.deviations) == 26


@pytest.mark.parametrize(("fault", "tells"), TELLS.items(), ids=TELLS.keys())
def test_a_delivery_fault_fails_and_the_checks_say_why(
    fault: str, tells: tuple[str, ...], machines: Machine, tmp_path: Path
) -> None:
    faults.generate_case(tmp_path / "case", machines, fault=fault)
    # Fewer points and a search no farther than 1: quicker, and the fault has to show all the same.
    verdict = verify.verify(
        tmp_path / "case",
        machines,
        engine("reference"),
        VerdictCriteria(gamma=Criteria(max_gamma=1.0, cutoff_percent=50.0)),
    )
    failed = [check.name for check in verdict.checks if not check.passed]
    assert not verdict.passed
    for words in tells:
        assert any(words in name for name in failed), failed


def test_a_case_that_breaks_rules_fails_without_a_dose(machines: Machine, tmp_path: Path) -> None:
    faults.generate_case(tmp_path / "case", machines, fault="swapped-logs")
    result = offline.report_case(
        tmp_path / "case", tmp_path / "out", machines, VerdictCriteria(), engine="reference"
    )
    assert result["verdict"] == "fail"
    assert result["gamma"] is None
    assert {found["rule"] for found in result["violations"]} == {"log.layer_mismatch"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "result.json"]
    assert "log.layer_mismatch" in (tmp_path / "out" / "report.html").read_text()


def test_criteria_decide_the_verdict(clean_case: Path, machines: Machine) -> None:
    strict = VerdictCriteria(position_mm=0.01)
    verdict = verify.verify(clean_case, machines, engine("reference"), strict)
    assert [check.name for check in verdict.checks if not check.passed] == ["largest spot position deviation"]


def test_nothing_is_compared_while_the_fraction_is_being_delivered(case: Path, machines: Machine) -> None:
    for path in (case / "2026011209370000").iterdir():
        path.unlink()
    (case / "2026011209370000").rmdir()
    with pytest.raises(NotComparable):
        verify.verify(case, machines, engine("reference"), now=IN_BETWEEN)


def test_without_a_ct_there_is_an_error_that_says_what_to_do(
    case: Path, machines: Machine, tmp_path: Path
) -> None:
    (case / "CT").rename(tmp_path / "elsewhere")
    with pytest.raises(NotComparable) as caught:
        verify.verify(case, machines, engine("reference"))
    assert "--ct" in (caught.value.remedy or "")
    verdict = verify.verify(case, machines, engine("reference"), ct_folder=tmp_path / "elsewhere")
    assert verdict.passed


class _Links(HTMLParser):
    """Everything that a page would load or show."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        assert tag not in {"script", "link", "iframe"}


def test_the_report_is_one_page_with_pictures_and_without_the_patient(
    clean_case: Path, machines: Machine, tmp_path: Path
) -> None:
    result = offline.report_case(
        clean_case, tmp_path / "out", machines, VerdictCriteria(), engine="reference"
    )
    page = (tmp_path / "out" / "report.html").read_text()
    links = _Links()
    links.feed(page)
    assert result["verdict"] == "pass"
    assert len(links.sources) == 8
    assert all(source.startswith("data:image/png;base64,") for source in links.sources)
    assert "Not for clinical use" in page
    assert "SYN000001" not in page + (tmp_path / "out" / "result.json").read_text()
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 8
    for path in pictures:
        image = Image.open(BytesIO(path.read_bytes()))
        assert image.width >= 1100
        assert len(image.convert("RGB").getcolors(10**7) or ()) > 30  # something was drawn
    planned, delivered = (
        rtdose.read(tmp_path / "out" / f"RD.{name}.dcm") for name in ("planned", "delivered")
    )
    assert planned.grid == delivered.grid
    assert planned.values.max() == pytest.approx(delivered.values.max(), rel=0.02)


LAYER = PlanLayer(
    1, 100.0, np.array([[0.0, 0.0], [5.0, 0.0], [10.0, 0.0]]), np.array([1.0, 2.0, 3.0]), (12.0, 12.0)
)


def _log(room: Room, *dwells: tuple[float, float, float], size: float = 12.0) -> LayerLog:
    """A log of (x, y, MU) dwells of four samples each, one row without beam in between."""
    count = 4 * len(dwells)
    places = np.repeat(np.array([dwell[:2] for dwell in dwells]), 4, axis=0)
    row = (np.arange(count) + np.repeat(np.arange(len(dwells)), 4)).astype(np.float64)
    return LayerLog(
        1, 1, 100.0, row * room.row_period_ms, places,
        np.full((count, 2), size), np.repeat([dwell[2] / 4 for dwell in dwells], 4),
        np.ones(count, dtype=np.int64),
    )  # fmt: skip


INTERPRETED: dict[str, tuple[tuple[tuple[float, float, float], ...], list[float | None], list[float]]] = {
    "as-planned": (((0, 0, 1), (5, 0, 2), (10, 0, 3)), [0, 0, 0], [1, 2, 3]),
    # 4 mm on a raster of 5: the nearest planned spot is the wrong one, the order is right.
    "shifted": (((4, 0, 1), (9, 0, 2), (14, 0, 3)), [4, 4, 4], [1, 2, 3]),
    "last-missing": (((0, 0, 1), (5, 0, 2)), [0, 0, None], [1, 2, 0]),
    "first-missing": (((5, 0, 2), (10.5, 0, 3)), [None, 0, 0.5], [0, 2, 3]),
    "interlock-and-again": (((0, 0, 1), (5, 0, 0.5), (5, 0, 1.5), (10, 0, 3)), [0, 0, 0], [1, 2, 3]),
    "mu": (((0, 0, 1.1), (5, 0, 2), (10, 0, 2.4)), [0, 0, 0], [1.1, 2, 2.4]),
}


@pytest.mark.parametrize(("dwells", "dx", "mu"), INTERPRETED.values(), ids=INTERPRETED.keys())
def test_dwells_are_matched_with_planned_spots(
    dwells: tuple[tuple[float, float, float], ...], dx: list[float | None], mu: list[float], room: Room
) -> None:
    found = interpret.deviations(LAYER, _log(room, *dwells), room=room)
    assert [spot.dx_mm for spot in found.spots] == [None if d is None else pytest.approx(d) for d in dx]
    assert [spot.delivered_mu for spot in found.spots] == pytest.approx(mu)
    assert found.undelivered_spots == dx.count(None)


def test_size_deviation_is_relative_to_the_planned_size(room: Room) -> None:
    log = _log(room, (0, 0, 1), (5, 0, 2), (10, 0, 3), size=13.2)
    assert interpret.deviations(LAYER, log, room=room).max_size_percent == pytest.approx(10.0)


def test_what_was_delivered_keeps_its_mu_and_its_centre(examined: Examined) -> None:
    assert examined.plan is not None
    assert examined.room is not None
    logs = {
        d.beam_number: interpret.layer_logs(examined.folder.root / d.folder, d, examined.room)
        for d in examined.deliveries
    }
    delivered = interpret.delivered_plan(examined.plan, logs)
    for beam in delivered.beams:
        for layer, log in zip(beam.layers, logs[beam.number], strict=True):
            assert layer.meterset.sum() == pytest.approx(log.meterset.sum())
            centre = (layer.positions_mm * layer.meterset[:, None]).sum(axis=0)
            assert np.allclose(centre, (log.positions_mm * log.meterset[:, None]).sum(axis=0))


def test_a_missing_layer_moves_no_other_layer(examined: Examined) -> None:
    """The original consumed logs in order of name: one missing shifted all later ones to wrong energies."""
    assert examined.plan is not None
    assert examined.room is not None
    delivery = examined.deliveries[0]
    logs = interpret.layer_logs(examined.folder.root / delivery.folder, delivery, examined.room)
    without = interpret.delivered_plan(examined.plan, {2: [log for log in logs if log.layer != 4]})
    assert [layer.number for layer in without.beams[0].layers] == [1, 2, 3, *range(5, 14)]
    planned = {layer.number: layer.energy_mev for layer in examined.plan.beams[0].layers}
    assert all(layer.energy_mev == planned[layer.number] for layer in without.beams[0].layers)


def test_samples_are_written_as_one_csv_per_layer(
    clean_case: Path, machines: Machine, tmp_path: Path
) -> None:
    result = offline.interpret_case(clean_case, machines, tmp_path / "csv")
    files = sorted(str(path.relative_to(tmp_path / "csv")) for path in (tmp_path / "csv").rglob("*.csv"))
    assert len(files) == len(result["layers"]) == 26
    assert files[0] == "02_Field_1/01_121.50MeV.csv"
    rows = list(csv.reader((tmp_path / "csv" / files[0]).open()))
    assert all(len(row) == 4 for row in rows)
    assert sum(int(row[3]) for row in rows) * 2e-6 == pytest.approx(
        result["layers"][0]["delivered_mu"], rel=1e-6
    )


def test_a_pseudonymised_copy_is_valid_passes_and_names_nobody(
    clean_case: Path, machines: Machine, examined: Examined, tmp_path: Path
) -> None:
    made = pseudonyms.export(clean_case, tmp_path / "copy", machines, Pseudonyms(b"k" * 32))
    assert made.violations == ()
    assert examined.plan is not None
    assert made.plan is not None
    wanted = [
        examined.plan.patient_id,
        examined.plan.uid,
        examined.plan.study_uid,
        "Phantom",
        "20260105",
        "20260112",
    ]
    for path in (tmp_path / "copy").rglob("*"):
        content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        assert not [word for word in wanted if word.encode() in content], path.name
    assert made.plan.patient_id != examined.plan.patient_id
    assert [d.beam_number for d in made.deliveries] == [2, 3]
    first, second = (d.delivered_at for d in made.deliveries)
    assert (second - first).total_seconds() == 420.0
    assert verify.verify(tmp_path / "copy", machines, engine("reference")).passed


def test_the_same_key_gives_the_same_pseudonyms_and_another_key_others() -> None:
    one, same, other = Pseudonyms(b"k" * 16), Pseudonyms(b"k" * 16), Pseudonyms(b"j" * 16)
    assert one.patient("A") == same.patient("A") != one.patient("B")
    assert one.uid("1.2.3") == same.uid("1.2.3") != other.uid("1.2.3")
    assert one.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert re.fullmatch(r"2\.25\.\d{1,39}", one.uid("1.2.3"))


def _add_private(dataset: pydicom.Dataset) -> None:
    dataset.private_block(0x3001, "SECRET", create=True).add_new(1, "LO", "DOE^JOHN")


def _add_nested(dataset: pydicom.Dataset) -> None:
    dataset.IonBeamSequence[1].BeamDescription = "DOE^JOHN left"
    dataset.IonBeamSequence[1].InstitutionName = "DOE^JOHN clinic"


def _add_preamble(dataset: pydicom.Dataset) -> None:
    dataset.preamble = b"DOE^JOHN".ljust(128, b"\0")


@pytest.mark.parametrize(
    "hide", [_add_private, _add_nested, _add_preamble], ids=["private", "nested", "preamble"]
)
def test_identifiers_in_unusual_places_are_dropped(
    hide: Callable[[pydicom.Dataset], None], case: Path, machines: Machine, tmp_path: Path
) -> None:
    path = next(case.glob("RP.*"))
    dataset = pydicom.dcmread(path)
    hide(dataset)
    dataset.save_as(path)
    assert b"DOE^JOHN" in path.read_bytes()
    pseudonyms.export(case, tmp_path / "copy", machines, Pseudonyms(b"k" * 32))
    assert b"DOE^JOHN" not in next((tmp_path / "copy").glob("RP.*")).read_bytes()


def test_a_case_with_violations_a_short_key_and_a_full_folder_are_refused(
    clean_case: Path, machines: Machine, tmp_path: Path
) -> None:
    faults.generate_case(tmp_path / "bad", machines, fault="truncated-log")
    with pytest.raises(NotPseudonymisable):
        pseudonyms.export(tmp_path / "bad", tmp_path / "copy", machines, Pseudonyms(b"k" * 32))
    with pytest.raises(KeyTooShort):
        Pseudonyms(b"short")
    with pytest.raises(FolderNotEmpty):
        pseudonyms.export(clean_case, tmp_path / "bad", machines, Pseudonyms(b"k" * 32))
    assert not (tmp_path / "copy").exists()


def test_a_plan_in_protons_gives_the_same_verdict(examined: Examined, room: Room) -> None:
    assert examined.plan is not None
    beam = examined.plan.beams[0]
    layers = tuple(
        replace(layer, meterset=layer.meterset * room.beam.protons(layer.energy_mev)) for layer in beam.layers
    )
    in_protons = replace(beam, unit="NP", layers=layers)
    assert interpret.planned_mu(in_protons, room).meterset == pytest.approx(beam.meterset)


def test_rules_examine_what_a_verdict_used(
    clean_verdict: Verdict, clean_case: Path, machines: Machine
) -> None:
    assert clean_verdict.examined.folder == rules.examine(clean_case, machines).folder
