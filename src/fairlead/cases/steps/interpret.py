"""Interpret the logs and write what the hosts calculate from: no file of it names the patient."""

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import Any

from fairlead.cases import engines, offline, rtdose, verify
from fairlead.cases import interpret as logs
from fairlead.cases.deliveries import reference_fraction
from fairlead.cases.engines import DoseRequest
from fairlead.cases.engines.files import write_request
from fairlead.cases.model import Beam, LayerLog, Plan
from fairlead.cases.pseudonyms import Pseudonyms, export_dicom
from fairlead.cases.rules import Examined
from fairlead.cases.steps.port import Step, Work
from fairlead.cases.steps.validate import SOURCE, CaseChanged, own_folder
from fairlead.cases.verify import NotComparable

INPUT, LOGS = "in", "logs"
PLAN_FILE, CT_FOLDER = "dicom/RP.dcm", "dicom/CT"  # below INPUT, for engines that read DICOM
DELIVERED = 100_000  # + beam number: the delivered beam, calculated as a further beam of the same request


def request_name(beam: int) -> str:
    """Name of the dose request of one beam, the same here and on the host."""
    return f"beam-{beam}"


def examined_copy(work: Work) -> Examined:
    """The case as it was copied. Raises CaseChanged where the copy is not what it was."""
    examined = work.parts.readings.examined(work.folder / SOURCE, work.parts.machine)
    if not examined.valid or examined.plan is None or examined.room is None:
        raise CaseChanged("The copy of the case in the work folder is damaged.", remedy="Retry the case.")
    return examined


async def run(work: Work) -> dict[str, Any]:
    """One dose request per beam, and the samples of every layer as CSV."""
    beams = await work.calculate(_write, work)
    await work.change("case.interpreted", {"beams": beams}, key="interpreted", act=lambda _: None)
    return {"beams": beams}


def _write(work: Work) -> list[int]:
    examined = examined_copy(work)
    plan, room, ct = examined.plan, examined.room, examined.ct
    if plan is None or room is None or ct is None:
        raise NotComparable("The case has no CT, so no dose can be calculated.", remedy="Have it sent.")
    settings = work.parts.settings
    chosen = engines.engine(settings.engine, settings.engine_options)  # refused here, before a host is asked
    rtdose.check_fits(plan, ct, ct.grid)
    fractions, layers = verify.interpreted(examined)
    if reference_fraction(fractions) is None:
        raise NotComparable("The case has no delivery.", remedy="Have it sent.")
    by_beam: dict[int, list[LayerLog]] = defaultdict(list)
    for beam, log, _ in layers:
        by_beam[beam.number].append(log)
    own_folder(work.folder)
    offline.write_layers(work.folder / LOGS, layers)
    delivered = logs.delivered_plan(plan, by_beam)
    # The UID would let the host's owner find the patient; requests are told apart by their content.
    pseudonyms = _pseudonyms(plan)
    nameless = replace(plan, uid=pseudonyms.uid(plan.uid))
    if chosen.reads_dicom:
        export_dicom(examined, work.folder / INPUT / PLAN_FILE, work.folder / INPUT / CT_FOLDER, pseudonyms)
    for beam in plan.beams:
        request = DoseRequest(_both(nameless, beam, delivered), ct, room, work.parts.machine.ct, ct.grid)
        write_request(
            work.folder / INPUT,
            request,
            engine=settings.engine,
            options=settings.engine_options,
            name=request_name(beam.number),
            deadline_s=settings.job_deadline_s,
            dicom=(PLAN_FILE, CT_FOLDER) if chosen.reads_dicom else None,
            plan_numbers={DELIVERED + beam.number: beam.number} if chosen.reads_dicom else None,
        )
    return [beam.number for beam in plan.beams]


def _both(plan: Plan, beam: Beam, delivered: Plan) -> Plan:
    """A plan of two beams: `beam` as planned and, where it was delivered at all, as delivered."""
    found = delivered.beam(beam.number)
    again = (replace(found, number=DELIVERED + beam.number),) if found else ()
    return replace(plan, beams=(beam, *again))


def _pseudonyms(plan: Plan) -> Pseudonyms:
    """Those of one plan: whoever has its files already can link them, nobody else."""
    return Pseudonyms(hashlib.sha256(f"dose request\0{plan.uid}\0{plan.patient_id}".encode()).digest())


INTERPRET = Step(
    name="interpret",
    run=run,
    deadline_s=900,
    until=0.15,
    reattach="writes the same files again, each whole or not at all",
)
