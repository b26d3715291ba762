"""Requests and results as files, and the command that turns one into the other."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fairlead.cases.engines import DoseRequest, engine, run
from fairlead.cases.engines.port import DoseRejected, EngineCancelled, EngineFailed, EngineOptionsInvalid
from fairlead.cases.engines.run import RequestInvalid, ResultIncomplete
from fairlead.cases.model import Volume
from tests.cases.engine_subjects import PATIENT, Subjects, small_request


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> DoseRequest:
    """The small request."""
    return small_request(tmp_path_factory.mktemp("dicom"))


@pytest.fixture
def done(request_: DoseRequest, tmp_path: Path) -> Path:
    """A request of the reference engine that was calculated."""
    file = run.write_request(tmp_path, request_, engine="reference")
    run.run(file)
    return file


def _command(file: Path) -> list[str]:
    return [sys.executable, "-m", "fairlead.cases.engines.run", str(file)]


def test_a_request_comes_back_as_it_was_without_what_names_the_patient(
    request_: DoseRequest, tmp_path: Path
) -> None:
    file = run.write_request(tmp_path, request_, engine="reference", deadline_s=12.5)
    order, read = run.read_request(file)
    assert (order.engine, order.deadline_s) == ("reference", 12.5)
    assert read.grid == request_.grid
    assert np.array_equal(read.ct.values, request_.ct.values)
    assert (read.room, read.scanner) == (request_.room, request_.scanner)
    assert read.plan.patient_id == ""
    for one, other in zip(read.plan.beams, request_.plan.beams, strict=True):
        assert replace(one, name=other.name, layers=()) == replace(other, layers=())
        for a, b in zip(one.layers, other.layers, strict=True):
            assert (a.number, a.energy_mev, a.fwhm_mm) == (b.number, b.energy_mev, b.fwhm_mm)
            assert np.array_equal(a.positions_mm, b.positions_mm)
            assert np.array_equal(a.meterset, b.meterset)
    assert all(PATIENT.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_hu_that_are_no_whole_numbers_survive(request_: DoseRequest, tmp_path: Path) -> None:
    values = request_.ct.values + np.float32(0.25)
    odd = replace(request_, ct=Volume(request_.ct.grid, values, ""))
    _, read = run.read_request(run.write_request(tmp_path, odd, engine="reference"))
    assert np.array_equal(read.ct.values, values)


def test_requests_of_one_folder_share_the_ct_and_repeat_their_bytes(
    request_: DoseRequest, tmp_path: Path
) -> None:
    for number in (2, 3):
        run.write_request(tmp_path, request_, engine="reference", name=f"beam-{number}", beams=[number])
    assert len(list(tmp_path.glob("ct-*.npy"))) == 1
    again = tmp_path / "again"
    run.write_request(again, request_, engine="reference", name="beam-2", beams=[2])
    for path in again.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    run.run(tmp_path / "beam-3.json")
    marker, result = run.read_result(tmp_path / "beam-3.json")
    assert list(result.beams) == [entry.number for entry in marker.beams] == [3]


def test_the_command_prints_rising_progress_and_writes_the_marker(
    request_: DoseRequest, tmp_path: Path
) -> None:
    file = run.write_request(tmp_path, request_, engine="reference")
    ended = subprocess.run(_command(file), capture_output=True, text=True, timeout=240)
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = [float(line.removeprefix("progress ")) for line in ended.stdout.splitlines()]
    assert shown == sorted(shown)
    assert shown[-1] == 1.0
    _, result = run.read_result(file)
    expected = engine("reference").dose(request_)
    assert np.array_equal(result.total, expected.total)


def test_a_cancelled_command_takes_its_program_with_it(request_: DoseRequest, tmp_path: Path) -> None:
    slow = Subjects(tmp_path).slow("command")
    options = slow.options.model_dump(mode="json", exclude_defaults=True)  # type: ignore[attr-defined]
    file = run.write_request(tmp_path / "r", request_, engine="command", options=options)
    process = subprocess.Popen(_command(file), stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        while process.stdout.readline() != b"progress 0.25\n":  # the program runs: half of the first beam
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == run.EXIT_CANCELLED
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _group_lives(process.pid):
        assert time.monotonic() < deadline
    with pytest.raises(EngineCancelled):
        run.read_result(file)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "options", "deadline_s", "code"),
    [
        ("moqui", {}, None, run.EXIT_FAILED),
        ("nothing", {}, None, run.EXIT_FAILED),
        ("reference", {}, 1e-6, run.EXIT_RETRYABLE),
    ],
    ids=["not-configured", "unknown", "deadline"],
)
def test_the_exit_code_tells_whether_repeating_is_of_use(
    name: str,
    options: dict[str, object],
    deadline_s: float | None,
    code: int,
    request_: DoseRequest,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = run.write_request(tmp_path, request_, engine=name, options=options, deadline_s=deadline_s)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert run.main([str(file)]) == code
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    problem = json.loads((run.result_folder(file) / "error.json").read_text())
    assert problem["code"] in capfd.readouterr().err
    with pytest.raises(EngineFailed) as caught:
        run.read_result(file)
    assert caught.value.details["engine_code"] == problem["code"]
    assert caught.value.details["engine_retryable"] == (code == run.EXIT_RETRYABLE)


def test_a_result_of_an_earlier_run_is_gone_when_the_next_one_fails(done: Path) -> None:
    text = done.read_text()
    done.write_text(text.replace('"engine": "reference"', '"engine": "moqui"'))
    with pytest.raises(Exception, match="moqui"):
        run.run(done)
    assert not (run.result_folder(done) / "result.json").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


DAMAGES: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "no-marker": (lambda file: (run.result_folder(file) / "result.json").unlink(), ResultIncomplete),
    "half-a-marker": (lambda file: _cut(run.result_folder(file) / "result.json"), ResultIncomplete),
    "beam-missing": (lambda file: (run.result_folder(file) / "beam-3.npy").unlink(), ResultIncomplete),
    "beam-cut-short": (lambda file: _cut(run.result_folder(file) / "beam-2.npy"), ResultIncomplete),
    "beams-exchanged": (
        lambda file: (run.result_folder(file) / "beam-2.npy").replace(run.result_folder(file) / "beam-3.npy"),
        ResultIncomplete,
    ),
    "other-request": (lambda file: file.write_text(file.read_text() + "\n"), ResultIncomplete),
}


@pytest.mark.parametrize(("damage", "error"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_result_is_never_taken_for_one(
    damage: Callable[[Path], object], error: type[Exception], done: Path
) -> None:
    run.read_result(done)
    damage(done)
    with pytest.raises(error):
        run.read_result(done)


def test_a_result_with_fewer_beams_than_were_asked_for_is_rejected(done: Path) -> None:
    marker = run.result_folder(done) / "result.json"
    content = json.loads(marker.read_text())
    content["beams"] = content["beams"][:1]
    marker.write_text(json.dumps(content))
    with pytest.raises(DoseRejected, match="beams"):
        run.read_result(done)


@pytest.mark.parametrize("pattern", ["ct-*.npy", "spots-*.npz", "request.json"])
def test_a_request_that_was_damaged_on_its_way_is_refused(
    pattern: str, request_: DoseRequest, tmp_path: Path
) -> None:
    file = run.write_request(tmp_path, request_, engine="reference")
    _cut(next(tmp_path.glob(pattern)))
    with pytest.raises(RequestInvalid):
        run.run(file)
    assert json.loads((run.result_folder(file) / "error.json").read_text())["code"] == "cases.request_invalid"


def test_names_that_lead_out_of_the_folder_are_refused(request_: DoseRequest, tmp_path: Path) -> None:
    file = run.write_request(tmp_path, request_, engine="reference")
    content = json.loads(file.read_text())
    content["ct"]["name"] = "../../etc/passwd"
    file.write_text(json.dumps(content))
    with pytest.raises(RequestInvalid, match=r"ct\.name"):
        run.read_request(file)


def test_wrong_options_are_told_before_anything_runs(request_: DoseRequest, tmp_path: Path) -> None:
    file = run.write_request(tmp_path, request_, engine="mcsquare", options={"protons": "many"})
    with pytest.raises(EngineOptionsInvalid, match="protons"):
        run.run(file)


def test_names_relative_to_where_we_stand_reach_programs_that_stand_elsewhere(
    request_: DoseRequest, tmp_path: Path
) -> None:
    options = Subjects(tmp_path).quick("command").options.model_dump(mode="json")  # type: ignore[attr-defined]
    file = run.write_request(tmp_path / "place", request_, engine="command", options=options)
    ended = subprocess.run(_command(Path(file.name)), cwd=file.parent, capture_output=True, timeout=240)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert run.read_result(file)[1].total.max() > 0


def test_a_full_disk_is_an_error_that_may_be_repeated(request_: DoseRequest, tmp_path: Path) -> None:
    options = Subjects(tmp_path).quick("command").options.model_dump(mode="json")  # type: ignore[attr-defined]
    file = run.write_request(tmp_path / "place", request_, engine="command", options=options)
    # No file may grow beyond 8 KiB: the copy of the CT for the program does not fit.
    limited = ["sh", "-c", 'ulimit -f 16 && exec "$@"', "sh", *_command(file)]
    ended = subprocess.run(limited, capture_output=True, text=True, timeout=240)
    assert ended.returncode == run.EXIT_RETRYABLE
    assert "cases.engine_storage" in ended.stderr
    assert not (run.result_folder(file) / "result.json").exists()


def test_only_what_an_earlier_run_made_is_removed(done: Path) -> None:
    work = done.with_suffix(".work")
    (run.result_folder(done) / "notes.txt").write_text("mine")
    (work / "left.log").write_text("old")
    run.run(done)
    assert (run.result_folder(done) / "notes.txt").exists()
    assert not (work / "left.log").exists()
    for path in work.iterdir():  # without its mark the folder is somebody else's
        path.unlink()
    (work / "mine.txt").write_text("mine")
    run.run(done)
    assert (work / "mine.txt").exists()
