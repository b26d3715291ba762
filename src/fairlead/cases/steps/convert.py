"""The accepted doses as DICOM RT Dose: planned and delivered, their geometry checked against the plan."""

from pathlib import Path
from typing import Any

import numpy as np

from fairlead.cases import offline, rtdose
from fairlead.cases.engines.files import read_result
from fairlead.cases.model import Floats
from fairlead.cases.steps.interpret import DELIVERED, INPUT, examined_copy, request_name
from fairlead.cases.steps.port import Step, Work
from fairlead.cases.steps.validate import CaseChanged, own_folder

RESULTS = "results"
PLANNED_FILE, DELIVERED_FILE = "RD.planned.dcm", "RD.delivered.dcm"


async def run(work: Work) -> dict[str, Any]:
    """Both RT Dose files, and what the engine calls itself."""
    label = await work.calculate(_convert, work)
    data = {"files": [PLANNED_FILE, DELIVERED_FILE], "engine": label}
    await work.change("case.converted", data, key="converted", act=lambda _: None)
    return data


def _convert(work: Work) -> str:
    examined = examined_copy(work)
    plan, ct = examined.plan, examined.ct
    if plan is None or ct is None:
        raise CaseChanged
    totals: dict[bool, Floats] = {kind: np.zeros(ct.grid.shape) for kind in (False, True)}
    label = ""
    for beam in plan.beams:
        marker, result = read_result(work.folder / INPUT / f"{request_name(beam.number)}.json")
        label = marker.label
        for number, values in result.beams.items():
            totals[number >= DELIVERED] += values
    out = results_folder(work)
    for name, delivered in ((PLANNED_FILE, False), (DELIVERED_FILE, True)):
        offline.write_whole(out / name, rtdose.encode(totals[delivered], ct.grid, plan, ct))
    return label


def results_folder(work: Work) -> Path:
    """Where results lie, made and marked as ours. Raises OSError."""
    own_folder(work.folder)
    out = work.folder / RESULTS
    out.mkdir(exist_ok=True, mode=0o700)
    return out


CONVERT = Step(
    name="convert",
    run=run,
    deadline_s=900,
    until=0.85,
    reattach="writes the same bytes again, whole or not at all",
)
