"""Cases, offline: gamma of 100³ voxels beside pymedphys in the same run, and the demo case step by step.

    .venv/bin/python -m tests.benchmarks cases

CPU seconds (user + system of the process) are compared, because wall times mean little on shared cores.
Both kernels run after one small warm-up, which is where pymedphys' compiler does its work. 3 % / 3 mm,
cut-off 10 %, ten steps per distance, gamma searched up to 2.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fairlead.cases import faults, gamma, interpret, machine, phantom, report, rtdose, rules, verify
from fairlead.cases.engines import DoseRequest, engine
from fairlead.cases.model import Dose, Grid, Volume
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel import toolenv
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from tests.sandbox_service import toolenvs

Line = tuple[str, float, str]

GRID = Grid((100, 100, 100), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))


def _target(*, dx: float = 0.0, scale: float = 1.0) -> Dose:
    """A round target of 2 Gy with a penumbra, 42 379 points above the cut-off."""
    z, y, x = np.meshgrid(*(GRID.axis_mm(axis) for axis in (2, 1, 0)), indexing="ij")
    radius = np.sqrt((x - 100 - dx) ** 2 + (y - 100) ** 2 + (z - 100) ** 2) / 22.0
    return np.asarray(scale * 2.0 / (1.0 + np.exp(6.0 * (radius - 1.6))), dtype=np.float32)


def _pairs() -> dict[str, Dose]:
    noise = np.random.default_rng(1).normal(1.0, 0.01, GRID.shape)
    return {
        "noise": (_target() * noise).astype(np.float32),
        "shift4mm": _target(dx=4.0),
        "more8percent": _target(scale=1.08),
    }


THEIRS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, pymedphys
data = np.load(sys.argv[1])
def gamma(name, n):
    axes = (data["axis"][:n],) * 3
    cut = (slice(0, n),) * 3
    return pymedphys.gamma(axes, data["reference"][cut] + 1e-6, axes, data[name][cut], 3, 3, max_gamma=2,
                           lower_percent_dose_cutoff=10, interp_fraction=10, quiet=True)
names = [name for name in data.files if name not in ("axis", "reference")]
gamma(names[0], 60)
for name in names:
    start = time.process_time()
    found = gamma(name, 100)
    spent = time.process_time() - start
    known = found[~np.isnan(found)]
    print(json.dumps([name, spent, float((known <= 1).mean() * 100)]))
"""


def _theirs(pairs: dict[str, Dose], reference: Dose) -> dict[str, tuple[float, float]]:
    """CPU seconds and pass rate of pymedphys; empty where it cannot be installed."""
    try:
        python = toolenv.ensure("pymedphys", root=toolenvs())
    except FairleadError as error:
        print(f"# pymedphys left out: {error.message}")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doses.npz"
        wide = {name: values.astype(np.float64) for name, values in pairs.items()}
        axis = GRID.axis_mm(0)
        np.savez(path, allow_pickle=False, axis=axis, reference=reference.astype(np.float64), **wide)
        done = subprocess.run(
            [python, "-c", THEIRS, path],
            env=toolenv.clean_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
    return {name: (spent, rate) for name, spent, rate in map(json.loads, done.stdout.splitlines())}


def _gamma_lines() -> list[Line]:
    reference, pairs = _target(), _pairs()
    theirs = _theirs(pairs, reference)
    lines: list[Line] = []
    for name, values in pairs.items():
        start = time.process_time()
        found = gamma.compare(Volume(GRID, reference, "1"), Volume(GRID, values, "1"))
        spent = time.process_time() - start
        lines += [
            (f"cases_gamma_100_{name}_cpu", spent, "s"),
            (f"cases_gamma_100_{name}_pass_rate", found.pass_rate, "percent"),
        ]
        if name in theirs:
            lines += [
                (f"pymedphys_gamma_100_{name}_cpu", theirs[name][0], "s"),
                (f"pymedphys_gamma_100_{name}_pass_rate", theirs[name][1], "percent"),
                (f"pymedphys_to_cases_gamma_100_{name}_cpu", theirs[name][0] / spent, "ratio"),
            ]
    return lines


def _timed(name: str, work: Callable[[], object]) -> Line:
    start = time.perf_counter()
    work()
    return (f"cases_demo_{name}", time.perf_counter() - start, "s")


def _demo_lines() -> list[Line]:
    machines = machine.load()
    with tempfile.TemporaryDirectory() as folder:
        case, out = Path(folder) / "case", Path(folder) / "out"
        lines = [_timed("generate", lambda: faults.generate_case(case, machines))]
        lines.append(_timed("validate", lambda: rules.examine(case, machines)))
        found = rules.examine(case, machines)
        plan, ct, room = found.plan, found.ct, found.room
        if plan is None or ct is None or room is None:
            raise RuntimeError("the synthetic case cannot be read")
        request = DoseRequest(plan, ct, room, machines.ct, ct.grid)
        lines.append(_timed("reference_dose_197k_voxels", lambda: engine("reference").dose(request)))
        lines.append(
            _timed(
                "interpret",
                lambda: [interpret.layer_logs(case / d.folder, d, room) for d in found.deliveries],
            )
        )
        lines.append(_timed("verdict", lambda: verify.verify(case, machines, engine("reference"))))
        criteria = VerdictCriteria()
        verdict = verify.verify(case, machines, engine("reference"), criteria)
        lines.append(_timed("report", lambda: report.write(verdict, criteria, out, made_at=utc_now())))
        big = replace(ct, grid=GRID, values=np.zeros(GRID.shape, dtype=np.float32))
        inside = replace(plan, beams=tuple(replace(b, isocentre_mm=(99.0, 99.0, 99.0)) for b in plan.beams))
        dose = _target()
        lines.append(_timed("rtdose_100_encode", lambda: rtdose.encode(dose, GRID, inside, big)))
    return lines


def _mcsquare_lines() -> list[Line]:
    """Engine time for the synthetic plan (two beams), by protons per beam, and gamma against `reference`."""
    machines = machine.load()
    room = machines.room("G1")
    identity = phantom.Identity.of(1, "FAIRLEAD-G1")
    plan, ct = phantom.plan(identity, room), phantom.ct_volume(identity)
    request = DoseRequest(plan, ct, room, machines.ct, ct.grid)
    planned = Volume(ct.grid, engine("reference").dose(request).total, "1")
    lines: list[Line] = []
    for name, protons in (("1e5", 100_000), ("1e6", 1_000_000)):
        options = {"protons": protons, "threads": 2, "toolenvs": toolenvs()}
        try:
            toolenv.ensure("mcsquare", root=toolenvs())
        except FairleadError as error:
            print(f"# mcsquare left out: {error.message}")
            return []
        start = time.perf_counter()
        dose = engine("mcsquare", options).dose(request)
        lines.append((f"cases_mcsquare_{name}_two_beams", time.perf_counter() - start, "s"))
        uncertainty = max(facts["uncertainty_percent"] for facts in dose.details["beams"].values())
        rate = gamma.compare(planned, Volume(ct.grid, dose.total, "1")).pass_rate
        lines += [
            (f"cases_mcsquare_{name}_uncertainty", uncertainty, "percent"),
            (f"cases_mcsquare_{name}_gamma_3_3_to_reference", rate, "percent"),
        ]
    return lines


def run() -> list[Line]:
    """All lines of this benchmark."""
    return [*_gamma_lines(), *_demo_lines(), *_mcsquare_lines()]
