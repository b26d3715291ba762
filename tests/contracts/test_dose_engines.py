"""What every dose engine has to stand, whatever it is made of."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fairlead.cases.engines import ENGINES, Control, DoseRequest, DoseResult, EngineUnknown, engine, run
from fairlead.cases.engines.port import (
    EngineCancelled,
    EngineDeadline,
    EngineOptionsInvalid,
)
from fairlead.cases.engines.reference import coarser
from fairlead.cases.model import Beam, CaseUnsupported, Plan
from tests.cases.engine_subjects import PATIENT, Subjects, layer, small_request

NAMES = [one.name for one in ENGINES]
Calculate = Callable[[str], DoseResult]


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> DoseRequest:
    """The small request."""
    return small_request(tmp_path_factory.mktemp("dicom"))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """The engines."""
    return Subjects(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def calculated(subjects: Subjects, request_: DoseRequest) -> Calculate:
    """The small request's dose by an engine, calculated once."""
    known: dict[str, DoseResult] = {}

    def dose(name: str) -> DoseResult:
        if name not in known:
            known[name] = subjects.quick(name).dose(request_)
        return known[name]

    return dose


def _with_beam(request: DoseRequest, change: Callable[[Beam], Beam]) -> DoseRequest:
    """The request with its first beam changed."""
    first, *others = request.plan.beams
    return replace(request, plan=replace(request.plan, beams=(change(first), *others)))


def test_names_are_unique_and_labels_say_what_the_dose_is_not_for() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all("Not for clinical use" in one.label for one in ENGINES)
    assert all(engine(name).name == name for name in NAMES)
    with pytest.raises(EngineUnknown):
        engine("")


@pytest.mark.parametrize("name", NAMES)
def test_every_beam_has_a_finite_dose_above_zero_on_the_grid_that_was_asked_for(
    name: str, calculated: Calculate, request_: DoseRequest
) -> None:
    result = calculated(name)
    assert result.grid == request_.grid
    assert set(result.beams) == {2, 3}
    for values in result.beams.values():
        assert values.shape == request_.grid.shape
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() > 0
    assert not np.array_equal(result.beams[2], result.beams[3])
    assert np.allclose(result.total, result.beams[2] + result.beams[3], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_that_claims_to_be_deterministic_repeats_every_byte(
    name: str, subjects: Subjects, calculated: Calculate, request_: DoseRequest
) -> None:
    chosen = subjects.quick(name)
    if not chosen.deterministic:
        pytest.skip(f"{name} claims nothing")
    again = chosen.dose(request_)
    for number, values in calculated(name).beams.items():
        assert again.beams[number].tobytes() == values.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_mu_is_twice_the_dose_of_that_beam_and_no_other(
    name: str, subjects: Subjects, calculated: Calculate, request_: DoseRequest
) -> None:
    def doubled(beam: Beam) -> Beam:
        return replace(beam, layers=tuple(replace(one, meterset=2 * one.meterset) for one in beam.layers))

    once, twice = calculated(name), subjects.quick(name).dose(_with_beam(request_, doubled))
    assert twice.beams[2].sum() == pytest.approx(2 * once.beams[2].sum(), rel=1e-3)
    assert np.allclose(twice.beams[2], 2 * once.beams[2], rtol=1e-3, atol=1e-4 * once.beams[2].max())
    assert twice.beams[3].sum() == pytest.approx(once.beams[3].sum(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_coarser_grid_holds_the_same_dose(
    name: str, subjects: Subjects, calculated: Calculate, request_: DoseRequest
) -> None:
    grid = coarser(request_.grid, 8.0)
    coarse = subjects.quick(name).dose(replace(request_, grid=grid))
    assert coarse.grid == grid
    fine = calculated(name)
    volumes = [float(np.prod(one.spacing_mm)) for one in (grid, request_.grid)]
    for number, values in coarse.beams.items():
        assert values.shape == grid.shape
        assert values.sum() * volumes[0] == pytest.approx(fine.beams[number].sum() * volumes[1], rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_beam_that_delivered_nothing_has_no_dose(
    name: str, subjects: Subjects, request_: DoseRequest
) -> None:
    def silent(beam: Beam) -> Beam:
        return replace(beam, layers=())

    result = subjects.quick(name).dose(_with_beam(request_, silent))
    assert result.beams[2].max() == 0
    assert result.beams[3].max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_progress_never_falls_and_ends_at_one(name: str, subjects: Subjects, request_: DoseRequest) -> None:
    seen: list[float] = []
    subjects.quick(name).dose(request_, Control(progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_longer_wanted_ends_at_once(name: str, subjects: Subjects, request_: DoseRequest) -> None:
    wanted = threading.Event()
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        if len(asked) == 3:
            wanted.set()
        return wanted.is_set()

    started = time.monotonic()
    with pytest.raises(EngineCancelled):
        subjects.slow(name).dose(request_, Control(cancelled=cancelled))
    assert time.monotonic() - started < 45  # a slow one needs a minute


@pytest.mark.parametrize("name", NAMES)
def test_a_deadline_ends_the_calculation(name: str, subjects: Subjects, request_: DoseRequest) -> None:
    chosen, started = subjects.slow(name), time.monotonic()
    deadline_s = 0.0 if name == "reference" else 0.3
    with pytest.raises(EngineDeadline) as caught:
        chosen.dose(request_, Control.within(deadline_s))
    assert time.monotonic() - started < 45  # a slow one needs a minute
    assert caught.value.retryable


def _other(plan: Plan, what: str) -> Plan:
    first, *others = plan.beams
    changes: dict[str, Callable[[], Plan]] = {
        "modifier": lambda: replace(plan, beams=(replace(first, modifiers=("range shifter",)), *others)),
        "energy": lambda: replace(
            plan, beams=(replace(first, layers=(layer(999.0, [(0.0, 0.0)]),)), *others)
        ),
        "position": lambda: replace(plan, patient_position="HFDL"),
    }
    return changes[what]()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["modifier", "energy", "position"])
def test_a_plan_that_the_engine_cannot_model_is_refused(
    what: str, name: str, subjects: Subjects, request_: DoseRequest
) -> None:
    with pytest.raises(CaseUnsupported):
        subjects.quick(name).dose(replace(request_, plan=_other(request_.plan, what)))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_named(name: str) -> None:
    with pytest.raises(EngineOptionsInvalid) as caught:
        engine(name, {"protones": 5})
    assert "protones" in caught.value.message


@pytest.mark.parametrize("name", NAMES)
def test_a_request_on_disk_gives_the_same_dose_as_a_call(
    name: str, subjects: Subjects, calculated: Calculate, request_: DoseRequest, tmp_path: Path
) -> None:
    options = getattr(subjects.quick(name), "options", None)
    given = options.model_dump(mode="json", exclude_defaults=True) if options else {}
    sources = request_.sources
    assert sources is not None
    file = run.write_request(
        tmp_path, request_, engine=name, options=given, dicom=(str(sources.plan_file), str(sources.ct_folder))
    )
    run.run(file)
    marker, result = run.read_result(file)
    assert (marker.engine, [entry.number for entry in marker.beams]) == (name, [2, 3])
    for number, values in calculated(name).beams.items():
        assert np.allclose(result.beams[number], values, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_an_engine_makes_do_not_tell_who_the_patient_is(
    name: str, subjects: Subjects, request_: DoseRequest, tmp_path: Path
) -> None:
    subjects.quick(name).dose(request_, Control(scratch=tmp_path))
    for path in tmp_path.rglob("*"):
        assert PATIENT not in path.name
        if path.is_file() and not path.is_symlink():  # links lead to the case's own files
            assert PATIENT.encode() not in path.read_bytes(), path
