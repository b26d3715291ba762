"""Remove what a finished round no longer needs, and only where its own mark says that it made it."""

import shutil
from pathlib import Path
from typing import Any

from fairlead.cases import store, transfer
from fairlead.cases.steps.interpret import INPUT
from fairlead.cases.steps.port import Step, Work
from fairlead.cases.steps.transfer import remote_folder
from fairlead.cases.steps.validate import MARKER, SOURCE
from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError


async def run(work: Work) -> dict[str, Any]:
    """The host's files of this round and our copy of the case go; results, logs and report stay.

    A host that does not answer now keeps its files: they are in the event, for the administrator.
    """
    left: list[str] = []
    for record in await work.reading(lambda conn: store.beams_of(conn, work.case_id, work.round)):
        place = work.parts.places.get(record.host or "")
        if place is None or record.job is None:
            continue
        try:
            await transfer.remove(place.host, remote_folder(place, work), work.name)
            for attempt in range(1, record.attempt + 1):
                job = f"{work.name}-b{record.beam}-a{attempt}"
                await transfer.remove(place.host, f"{place.host.root.rstrip('/')}/jobs/{job}", job)
        except FairleadError as error:
            left.append(record.job)
            telemetry.log.warning("case.cleanup_left", case=work.case_id, host=record.host, code=error.code)
    await work.calculate(remove_marked, work.folder, (SOURCE, INPUT))
    await work.change("case.cleaned", {"left_on_host": left}, key="cleaned", act=lambda _: None)
    return {"left_on_host": left}


def remove_marked(folder: Path, parts: tuple[str, ...] = ()) -> bool:
    """Remove these parts of a work folder, or all of it; nothing where it is a link or lacks our mark."""
    if folder.is_symlink() or not (folder / MARKER).is_file():
        return False
    for part in parts or (".",):
        target = folder / part
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(folder if part == "." else target, ignore_errors=True)
    return True


CLEANUP = Step(
    name="clean up",
    run=run,
    deadline_s=600,
    until=0.99,
    reattach="what is gone is gone; removing it again does nothing",
)
