"""One engine of each kind, ready to calculate, and the small request that they all get.

Programs that behave like a site's binary are written as scripts into a temporary folder; MCsquare is real.
"""

import os
import stat
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.cases import machine, phantom
from fairlead.cases.engines import DicomSources, DoseEngine, DoseRequest, engine, mcsquare
from fairlead.cases.model import Beam, Grid, Plan, PlanLayer, Volume
from fairlead.kernel import toolenv
from fairlead.kernel.errors import FairleadError
from tests.sandbox_service import toolenvs

GRID = Grid((18, 24, 22), (-63.0, -69.0, -51.0), (6.0, 6.0, 6.0))
PATIENT = "VERYPRIVATE77"
IDENTITY = replace(phantom.Identity.of(7, "FAIRLEAD-G1"), patient_id=PATIENT)


def water_box(grid: Grid = GRID, *, air: int = 1) -> Volume:
    """Water with `air` voxels of air around it."""
    hu = np.full(grid.shape, -1000.0, dtype=np.float32)
    hu[air:-air, air:-air, air:-air] = 0.0
    return Volume(grid, hu, IDENTITY.frame_uid, IDENTITY.study_uid, patient_id=PATIENT)


def layer(energy: float, spots: list[tuple[float, float]], mu: float = 0.5, number: int = 1) -> PlanLayer:
    return PlanLayer(number, energy, np.array(spots), np.full(len(spots), mu), (12.0, 12.0))


def beam(number: int, gantry: float, *layers: PlanLayer) -> Beam:
    return Beam(
        number, f"Field {number}", "FAIRLEAD-G1", "MU", gantry, 0.0, (3.0, 0.0, 0.0), phantom.SAD_MM, (),
        layers,
    )  # fmt: skip


def small_plan() -> Plan:
    """A setup beam 1, and treatment beams 2 (from the front) and 3 (from the left)."""
    spots = [(-10.0, 0.0), (10.0, 5.0)]
    beams = (
        beam(2, 0.0, layer(90.0, spots), layer(80.0, spots[:1], number=2)),
        beam(3, 90.0, layer(85.0, spots)),
    )
    return Plan(
        IDENTITY.plan_uid, IDENTITY.study_uid, IDENTITY.frame_uid, "T", "HFS", 5, beams, (1,),
        patient_id=PATIENT,
    )  # fmt: skip


def small_request(folder: Path) -> DoseRequest:
    """The plan and its CT, also as DICOM files in `folder`."""
    machines = machine.load()
    plan, ct = small_plan(), water_box()
    (folder / "CT").mkdir(parents=True)
    for index, dataset in enumerate(phantom.ct_slices(ct, IDENTITY)):
        (folder / "CT" / f"{PATIENT}-{index}.dcm").write_bytes(phantom.encoded(dataset))
    plan_file = folder / f"RP.{PATIENT}.dcm"
    plan_file.write_bytes(phantom.encoded(phantom.plan_dataset(plan, IDENTITY)))
    return DoseRequest(
        plan, ct, machines.room("G1"), machines.ct, ct.grid, DicomSources(plan_file, folder / "CT")
    )


def script(path: Path, body: str) -> Path:
    """An executable Python program."""
    path.write_text(f"#!{sys.executable} -SE\n{body}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@lru_cache(maxsize=1)
def mcsquare_program() -> Path:
    """The prepared MCsquare; the test is skipped where it cannot be installed, but never in CI."""
    try:
        python = toolenv.ensure("mcsquare", root=toolenvs())
    except FairleadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"MCsquare is not there: {error.message}")
    return mcsquare.prepare(python.parents[1])


# What a site's MOQUI does, as far as it can be seen from outside. `TestFault` makes it go wrong in one way.
MOQUI = """
import array, glob, os, sys
values = dict(line.split(None, 1) for line in open(sys.argv[1]) if line.strip() and line[0] != "#")
values = {key: value.strip() for key, value in values.items()}
fault = values.get("TestFault", "")
say = lambda text: (sys.stdout.write(text + "\\n"), sys.stdout.flush())
for key in ("GPUID", "DicomPath", "logFilePath", "OutputDir", "BeamNumbers", "GantryNum"):
    if key not in values:
        say(f"FATAL ERROR: {key} is missing"); sys.exit(1)
if fault == "no-gpu":
    say("No free GPU remains after BeamLayerMultiGpu filtering"); sys.exit(1)
slices = sorted(glob.glob(values["DicomPath"] + "/CT*.dcm"))
size = {size}
if len(slices) != size[0] or not os.path.exists(values["DicomPath"] + "/RP.dcm"):
    say("ERROR: Reading DICOM failed."); sys.exit(0)
counts = 0
for name in sorted(glob.glob(values["logFilePath"] + "/*MeV.csv")):
    counts += sum(int(row.split(",")[3]) for row in open(name))
say("Simulating with 3 batches")
for batch in range(1, 4 if fault != "batch-missing" else 3):
    say(f"Generating particles for ({batch} of 3 batches)")
if fault == "slow":
    import time; time.sleep(60)
number = size[0] * size[1] * size[2]
dose = array.array("d", bytes(8 * number))
start = number // 2 + 7 * int(values["BeamNumbers"])
for index in range(start, start + 5):
    dose[index] = counts * 1e-7 / (1 + index - start)
if fault == "not-finite": dose[3] = float("nan")
if fault == "negative": dose[3] = -1.0
if fault == "zero": dose = array.array("d", bytes(8 * number))
content = dose.tobytes()
if fault == "truncated": content = content[: len(content) // 2]
names = {"no-output": [], "two-outputs": ["a_1_Dose.raw", "b_1_Dose.raw"]}.get(fault, ["Field_1_Dose.raw"])
for name in names:
    open(os.path.join(values["OutputDir"], name), "wb").write(content)
if fault == "error-in-log": say("ERROR: something went wrong")
if fault == "segfault-in-log": say("Segmentation fault (core dumped)")
if fault != "no-marker": say("Total execution time: 166.989 seconds")
if fault == "exit-code": sys.exit(3)
if fault == "killed": os.kill(os.getpid(), 9)
"""


def moqui(folder: Path, *, grid: Grid = GRID, fault: str = "", **options: Any) -> DoseEngine:
    """The engine with a program that behaves like MOQUI."""
    program = script(folder / "tps_env", MOQUI.replace("{size}", repr(grid.shape)))
    extra = {"TestFault": fault} if fault else {}
    return engine(
        "moqui", {"executable": str(program), "gantries": {"G1": 1, "G2": 2}, "extra": extra, **options}
    )


# A dose that is proportional to the metersets, written the way `command` wants it.
COMMAND = """
import json, os, sys
sys.path[:0] = {path!r}
import numpy as np
request, out, beam = sys.argv[1], sys.argv[2], int(sys.argv[3])
fault = sys.argv[4] if len(sys.argv) > 4 else ""
order = json.load(open(request))
spots = np.load(os.path.join(os.path.dirname(request), order["spots"]["name"]))
total = sum(float(spots[name][:, 2].sum()) for name in spots.files if name.startswith(f"{beam}/"))
shape = order["dose_grid"]["shape"]
dose = np.zeros(shape)
grid = order["dose_grid"]
volume = np.prod(grid["spacing_mm"])
middle = tuple(count // 2 for count in shape)
dose[middle] = total * (10 + beam) * 216.0 / volume
print("progress 0.5", flush=True)
if fault == "slow":
    import time; time.sleep(60)
if fault == "not-finite": dose[0, 0, 0] = np.inf
if fault == "negative": dose[0, 0, 0] = -1
if fault == "zero": dose[:] = 0
if fault == "shape": dose = dose[1:]
if fault == "integers": dose = dose.astype(int)
with open(out, "wb") as stream:
    np.save(stream, dose)
if fault == "truncated": os.truncate(out, os.path.getsize(out) // 2)
if fault == "longer": open(out, "ab").write(b"more")
if fault == "text": open(out, "w").write("0.1 0.2")
if fault == "no-output": os.unlink(out)
if fault == "warning": print("warning: low memory", flush=True)
if fault != "silent": print("all beams done", flush=True)
if fault == "exit-code": sys.exit(3)
"""


def command(folder: Path, *, fault: str = "", **options: Any) -> DoseEngine:
    """The engine with a program of the site's own."""
    program = script(folder / "calculate", COMMAND.replace("{path!r}", repr([p for p in sys.path if p])))
    argv = [str(program), "{request}", "{out}", "{beam}", *([fault] if fault else [])]
    return engine("command", {"argv": argv, "deterministic": True, **options})


@dataclass(frozen=True)
class Subjects:
    """Engines made on demand; `slow` ones do not end by themselves within a minute."""

    folder: Path

    def quick(self, name: str) -> DoseEngine:
        if name == "moqui":
            return moqui(self.folder)
        if name == "command":
            return command(self.folder)
        if name == "mcsquare":
            return real_mcsquare(protons=3_000)
        return engine(name)

    def slow(self, name: str) -> DoseEngine:
        if name == "moqui":
            return moqui(self.folder, fault="slow")
        if name == "command":
            return command(self.folder, fault="slow")
        if name == "mcsquare":
            return real_mcsquare(protons=10**9)
        return engine(name)


def real_mcsquare(**options: Any) -> DoseEngine:
    """MCsquare itself, with few protons."""
    return engine(
        "mcsquare", {"program_dir": str(mcsquare_program()), "max_uncertainty_percent": 100.0, **options}
    )
