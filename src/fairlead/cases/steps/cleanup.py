"""Remove what a finished round no longer needs, and only where its own mark says that it made it."""

import asyncio
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from fairlead.cases import store, transfer
from fairlead.cases.places import Place
from fairlead.cases.steps.interpret import INPUT
from fairlead.cases.steps.port import CaseParts, Step, Work
from fairlead.cases.steps.transfer import remote_folder
from fairlead.cases.steps.validate import MARKER, SOURCE
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

SWEEP_AFTER_S = 600.0  # after the end of a round: its own clean-up comes first
_OF_A_ROUND = re.compile(r"(?P<case>[0-9A-Za-z]{1,32})-r(?P<round>[0-9]{1,6})(-b[0-9]+-a[0-9]+)?")


async def run(work: Work) -> dict[str, Any]:
    """The host's files of this round and our copy of the case go; results, logs and report stay.

    A host that does not answer now keeps its files: they are in the event, and `sweep` removes them later.
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


async def sweep(parts: CaseParts) -> int:
    """Remove from every host what it still keeps of rounds that have ended; how many folders it were.

    A host may have been away when the round was cleaned up, or its worker killed in the middle of it.
    """
    removed = 0
    for name, place in parts.places.items():
        try:
            removed += await _swept(parts, place)
        except FairleadError as error:
            telemetry.log.warning("case.sweep_failed", host=name, code=error.code)
    return removed


async def _swept(parts: CaseParts, place: Place) -> int:
    removed, root = 0, place.host.root.rstrip("/")
    for parent in ("cases", "jobs"):
        for name in await transfer.folders(place.host, f"{root}/{parent}"):
            found = _OF_A_ROUND.fullmatch(name)
            if found is None or not await asyncio.to_thread(_over, parts, found["case"], int(found["round"])):
                continue
            try:
                await transfer.remove(place.host, f"{root}/{parent}/{name}", name)
                removed += 1
            except transfer.FolderNotOurs:
                telemetry.log.warning("case.sweep_not_ours", host=place.about.name)
    return removed


def _over(parts: CaseParts, case_id: str, round_: int) -> bool:
    """Whether this round of a case of ours ended a while ago. Another server's cases are none of ours."""
    try:
        with parts.database.reading() as conn:
            case = store.by_id(conn, case_id)
    except store.CaseUnknown:
        return False
    if round_ > case.round:
        return False
    long_ago = utc_now() - timedelta(seconds=SWEEP_AFTER_S)
    return round_ < case.round or (case.finished_at is not None and case.finished_at < long_ago)


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
