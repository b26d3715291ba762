"""The MOQUI adapter against a program that behaves like it, well and badly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fairlead.cases.engines import Control, DicomSources, DoseRequest, engine
from fairlead.cases.engines.port import (
    DoseRejected,
    EngineBusy,
    EngineFailed,
    EngineNotConfigured,
    EngineOptionsInvalid,
)
from fairlead.cases.model import CaseUnsupported
from tests.cases.engine_subjects import moqui, script, small_request


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> DoseRequest:
    """The small request."""
    return small_request(tmp_path_factory.mktemp("dicom"))


def _input(folder: Path, beam: int) -> dict[str, str]:
    (file,) = folder.glob(f"moqui-*/moqui_tps_{beam}.in")
    lines = file.read_text().splitlines()
    values = dict(line.split(None, 1) for line in lines)
    assert len(values) == len(lines)  # no key twice
    return values


def test_each_beam_gets_its_input_file_with_the_treatment_number(
    request_: DoseRequest, tmp_path: Path
) -> None:
    moqui(tmp_path, gpu=3, seed=11, histories=200_000, multi_gpu=[0, 2]).dose(
        request_, Control(scratch=tmp_path / "s")
    )
    # The plan's beam 1 is a setup beam: MOQUI counts the treatment beams from 1.
    for number, index in ((2, "1"), (3, "2")):
        values = _input(tmp_path / "s", number)
        assert values["BeamNumbers"] == index
        assert (
            values
            | {
                "GPUID": "3",
                "RandomSeed": "11",
                "GantryNum": "1",
                "SourceType": "FluenceMap",
                "SimulationType": "perBeam",
                "RBE": "1.0",
                "NumberOfFraction": "1",
                "UseAbsolutePath": "true",
                "SupressStd": "true",
                "ScoreToCTGrid": "true",
                "Scorer": "Dose",
                "OutputFormat": "raw",
                "NormalizeTotalHistories": "200000",
                "EnableBeamLayerMultiGpu": "true",
                "BeamLayerMultiGpuAllowedGpuIds": "0,2",
            }
            == values
        )
        folder = Path(values["ParentDir"])
        assert Path(values["OutputDir"]).parent == folder
        assert (Path(values["DicomPath"]) / "RP.dcm").is_symlink()
        assert Path(values["logFilePath"]) == folder / "Log_csv" / "log" / f"beam_{number}"


def test_layers_are_written_by_number_and_energy_as_counts_of_the_monitor(
    request_: DoseRequest, tmp_path: Path
) -> None:
    moqui(tmp_path).dose(request_, Control(scratch=tmp_path / "s"))
    logs = Path(_input(tmp_path / "s", 2)["logFilePath"])
    assert sorted(path.name for path in logs.iterdir()) == ["01_90.00MeV.csv", "02_80.00MeV.csv"]
    rows = np.loadtxt(logs / "01_90.00MeV.csv", delimiter=",")
    assert np.allclose(rows[:, 1:3], [(-10.0, 0.0), (10.0, 5.0)])
    # 0.5 MU at range 2 (factor 1), dividing factor 1 and 2e-6 MU per count.
    assert (logs / "01_90.00MeV.csv").read_text().splitlines()[0].split(",")[3] == "250000"
    assert np.all(np.diff(rows[:, 0]) > 0)


def test_the_layer_number_is_kept_where_a_layer_before_it_is_missing(
    request_: DoseRequest, tmp_path: Path
) -> None:
    first, other = request_.plan.beams
    without = replace(request_.plan, beams=(replace(first, layers=first.layers[1:]), other))
    moqui(tmp_path).dose(replace(request_, plan=without), Control(scratch=tmp_path / "s"))
    logs = Path(_input(tmp_path / "s", 2)["logFilePath"])
    assert [path.name for path in logs.iterdir()] == ["02_80.00MeV.csv"]


def test_a_beam_alone_keeps_its_number_among_all_of_the_plan(request_: DoseRequest, tmp_path: Path) -> None:
    alone = replace(request_.plan, beams=request_.plan.beams[1:])
    result = moqui(tmp_path).dose(replace(request_, plan=alone), Control(scratch=tmp_path / "s"))
    assert _input(tmp_path / "s", 3)["BeamNumbers"] == "2"
    assert list(result.beams) == [3]


def test_numbers_of_4_bytes_and_a_scale_are_read(request_: DoseRequest, tmp_path: Path) -> None:
    once = moqui(tmp_path).dose(request_)
    program = tmp_path / "tps_env"
    script(
        program,
        program.read_text().split("\n", 1)[1].replace('array.array("d", bytes(8', 'array.array("f", bytes(4'),
    )
    options = {"executable": str(program), "gantries": {"G1": 1}, "dose_scale": 2.5}
    again = engine("moqui", options).dose(request_)
    assert np.allclose(again.total, 2.5 * once.total, rtol=1e-5)


REJECTED = [
    "no-marker", "no-output", "two-outputs", "truncated", "zero", "not-finite", "negative", "error-in-log",
    "segfault-in-log", "batch-missing",
]  # fmt: skip


@pytest.mark.parametrize("fault", REJECTED)
def test_a_failure_with_exit_code_0_is_noticed(fault: str, request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(DoseRejected):
        moqui(tmp_path, fault=fault).dose(request_)


@pytest.mark.parametrize("fault", ["exit-code", "killed"])
def test_a_marker_of_success_does_not_outweigh_the_exit_code(
    fault: str, request_: DoseRequest, tmp_path: Path
) -> None:
    with pytest.raises(EngineFailed) as caught:
        moqui(tmp_path, fault=fault).dose(request_)
    assert any("Total execution time" in line for line in caught.value.details["last_lines"])


def test_no_free_gpu_may_be_tried_again(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(EngineBusy) as caught:
        moqui(tmp_path, fault="no-gpu").dose(request_)
    assert caught.value.retryable


def test_output_of_an_earlier_run_is_never_taken_for_this_ones(request_: DoseRequest, tmp_path: Path) -> None:
    scratch = Control(scratch=tmp_path / "s")
    moqui(tmp_path).dose(request_, scratch)
    with pytest.raises(DoseRejected):
        moqui(tmp_path, fault="no-output").dose(request_, scratch)
    with pytest.raises(DoseRejected):
        moqui(tmp_path, fault="no-marker").dose(request_, scratch)


def test_a_ct_that_moqui_cannot_read_is_noticed(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(DoseRejected, match="ERROR:"):
        moqui(tmp_path, grid=replace(request_.grid, shape=(3, 3, 3))).dose(request_)


def test_a_ct_whose_rows_run_the_other_way_is_refused(request_: DoseRequest, tmp_path: Path) -> None:
    assert request_.sources is not None
    folder = tmp_path / "turned"
    folder.mkdir()
    for path in request_.sources.ct_folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        dataset.save_as(folder / path.name)
    sources = replace(request_.sources, ct_folder=folder)
    with pytest.raises(CaseUnsupported, match="ImageOrientationPatient"):
        moqui(tmp_path).dose(replace(request_, sources=sources))


def test_a_room_without_a_gantry_number_is_never_guessed(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(EngineNotConfigured, match="G1"):
        moqui(tmp_path, gantries={"G2": 2}).dose(request_)


def test_a_gantry_that_moqui_does_not_know_is_no_option(tmp_path: Path) -> None:
    with pytest.raises(EngineOptionsInvalid, match="gantries"):
        moqui(tmp_path, gantries={"G1": 3})


def test_the_upstream_dialect_refuses_what_was_delivered_otherwise(
    request_: DoseRequest, tmp_path: Path
) -> None:
    first, other = request_.plan.beams
    moved = replace(first.layers[0], positions_mm=first.layers[0].positions_mm + 0.5)
    delivered = replace(request_.plan, beams=(replace(first, layers=(moved, *first.layers[1:])), other))
    with pytest.raises(CaseUnsupported, match="delivered"):
        moqui(tmp_path, dialect="upstream").dose(replace(request_, plan=delivered))


def test_the_upstream_dialect_knows_its_own_words(request_: DoseRequest, tmp_path: Path) -> None:
    upstream = """
import os, sys
values = dict(line.split(None, 1) for line in open(sys.argv[1]))
assert "logFilePath" not in values and "NormalizeTotalHistories" not in values
assert values["ParticlesPerHistory"].strip() == "500.0"
print("Upload 100 histories per batch, 2 batches expected")
print("Generating particles...\\nGenerating particles...")
voxels = 18 * 24 * 22
import array
dose = array.array("d", [1.0] * voxels).tobytes()
open(values["OutputDir"].strip() + "/Field 2_1_Dose.raw", "wb").write(dose)
print("Time taken by MC engine: 1500 milli-seconds")
"""
    program = script(tmp_path / "tps_env", upstream)
    options = {
        "executable": str(program),
        "dialect": "upstream",
        "gantries": {"G1": 2},
        "particles_per_history": 500,
    }
    result = engine("moqui", options).dose(request_)
    assert result.details["beams"]["2"] == {"batches": 2, "seconds": 1.5}


def test_another_plan_file_is_noticed(request_: DoseRequest, tmp_path: Path) -> None:
    other = replace(request_, plan=replace(request_.plan, uid="1.2.3"))
    with pytest.raises(CaseUnsupported, match="not the plan"):
        moqui(tmp_path).dose(other)


def test_without_dicom_files_it_says_so(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(EngineNotConfigured, match="DICOM"):
        moqui(tmp_path).dose(replace(request_, sources=None))


def test_a_binary_that_is_not_there_is_no_crash(request_: DoseRequest, tmp_path: Path) -> None:
    options = {"executable": str(tmp_path / "nothing"), "gantries": {"G1": 1}}
    with pytest.raises(EngineNotConfigured, match="cannot be started"):
        engine("moqui", options).dose(request_)


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"RBE": 1.1}, EngineOptionsInvalid),
        ({"Note": "two\nGPUID 5"}, EngineNotConfigured),
    ],
    ids=["ours", "line-break"],
)
def test_further_keys_cannot_change_ours(
    extra: dict[str, object], error: type[Exception], request_: DoseRequest, tmp_path: Path
) -> None:
    options = {"executable": str(script(tmp_path / "p", "")), "gantries": {"G1": 1}, "extra": extra}
    with pytest.raises(error):
        engine("moqui", options).dose(request_)


def test_hostile_names_of_files_stay_outside(request_: DoseRequest, tmp_path: Path) -> None:
    sources = request_.sources
    assert sources is not None
    hostile = tmp_path / "$(touch pwned); x"
    hostile.symlink_to(sources.ct_folder)
    result = moqui(tmp_path).dose(replace(request_, sources=DicomSources(sources.plan_file, hostile)))
    assert result.total.max() > 0
    assert not list(tmp_path.rglob("pwned"))
