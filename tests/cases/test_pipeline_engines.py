"""Engines that read DICOM, through the whole pipeline: what they are given, and what they are not."""

import stat
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

from fairlead.cases.engines import engine
from fairlead.cases.generate import Written
from fairlead.cases.rules import Examined
from fairlead.cases.store import CaseRecord, CaseStatus
from tests.cases import engine_subjects
from tests.cases.clinic import opened

# Keeps what the program can see, then becomes the program.
_WITNESS = """#!{python} -SE
import os, shutil, sys
values = dict(line.split(None, 1) for line in open(sys.argv[1]))
shutil.copytree(values["DicomPath"].strip(), {seen!r} + "/" + str(os.getpid()))
os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""
_READS_PLAN = """
import sys
sys.path[:0] = {path!r}
import pydicom
plan = pydicom.dcmread(sys.argv[5])
assert int(sys.argv[6]) in [beam.BeamNumber for beam in plan.IonBeamSequence], sys.argv
del sys.argv[4:]
"""


def settled(
    tmp_path: Path, sqlite_template: Path, case: Path, name: str, options: dict[str, Any]
) -> CaseRecord:
    """The case once the pipeline is through with it, calculated by the engine `name` on this machine."""
    with opened(tmp_path, sqlite_template, engine=name, engine_options=options) as clinic:
        clinic.put(case)
        return clinic.keep_running()


def options_of(made: Any) -> dict[str, Any]:
    """The options of an engine, as settings hold them."""
    return dict(made.options.model_dump(mode="json", exclude_defaults=True))


def test_moqui_gets_the_plan_and_the_ct_without_the_patient(
    tmp_path: Path, sqlite_template: Path, clean: Written, examined: Examined
) -> None:
    assert examined.plan is not None
    assert examined.ct is not None
    seen = tmp_path / "seen"
    seen.mkdir()
    made = engine_subjects.moqui(tmp_path, grid=examined.ct.grid)
    options = options_of(made)
    witness = tmp_path / "witness"
    witness.write_text(_WITNESS.format(python=sys.executable, seen=str(seen), program=options["executable"]))
    witness.chmod(witness.stat().st_mode | stat.S_IXUSR)
    options["executable"] = str(witness)

    case = settled(tmp_path, sqlite_template, clean.folder, "moqui", options)

    assert (case.status, case.verdict, case.problem) == (CaseStatus.COMPLETED, "pass", None)
    runs = sorted(seen.iterdir())
    assert len(runs) == 2 * len(examined.plan.beams)  # as planned, and as delivered
    identifiers = [value.encode() for value in (examined.plan.patient_id, examined.plan.uid)]
    files = [path for run in runs for path in run.iterdir()]
    assert len(files) == len(runs) * (1 + examined.ct.grid.shape[0])
    for path in files:
        content = path.read_bytes()
        assert not any(identifier in content for identifier in identifiers), path.name
    plan = pydicom.dcmread(runs[0] / "RP.dcm")
    assert plan.PatientIdentityRemoved == "YES"
    assert [beam.BeamNumber for beam in plan.IonBeamSequence]


@pytest.mark.parametrize("name", ["moqui", "command"])
def test_a_program_that_reads_spots_from_the_plan_is_not_believed_about_the_delivery(
    tmp_path: Path, sqlite_template: Path, clean: Written, examined: Examined, name: str
) -> None:
    assert examined.ct is not None
    if name == "moqui":
        options = options_of(engine_subjects.moqui(tmp_path, grid=examined.ct.grid, dialect="upstream"))
    else:
        options = {"argv": ["/bin/true", "{plan}", "{plan_beam}", "{ct}", "{out}"]}
    case = settled(tmp_path, sqlite_template, clean.folder, name, options)
    assert case.status is CaseStatus.FAILED
    assert case.verdict is None
    assert "delivered otherwise" in str(case.problem)


def test_a_command_can_read_the_plan_beside_the_request(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    path = repr([place for place in sys.path if place])
    body = _READS_PLAN.replace("{path!r}", path) + engine_subjects.COMMAND.replace("{path!r}", path)
    body = body.replace("(10 + beam)", "(10 + beam % 100000)")  # planned and delivered alike
    program = engine_subjects.script(tmp_path / "calculate", body)
    argv = [str(program), "{request}", "{out}", "{beam}", "no-fault", "{plan}", "{plan_beam}"]
    assert engine("command", {"argv": argv}).reads_dicom
    case = settled(
        tmp_path, sqlite_template, clean.folder, "command", {"argv": argv, "success": "all beams done"}
    )
    assert (case.status, case.verdict, case.problem) == (CaseStatus.COMPLETED, "pass", None)
