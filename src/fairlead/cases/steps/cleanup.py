"""Remove what a finished round no longer needs, and only where its own mark says that it made it."""

import asyncio
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fairlead.cases import hostfolders, store
from fairlead.cases.places import Place
from fairlead.cases.steps.interpret import INPUT
from fairlead.cases.steps.port import CaseParts, Step, Work
from fairlead.cases.steps.transfer import remote_folder
from fairlead.cases.steps.validate import MARKER, SOURCE
from fairlead.cases.store import BeamRecord
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

SWEEP_AFTER_S = 600.0  # after the end of a round: its own clean-up comes first
_OF_A_ROUND = re.compile(r"(?P<case>[0-9A-Za-z]{1,32})-r(?P<round>[0-9]{1,6})(-b[0-9]+-a[0-9]+)?")


async def run(work: Work) -> dict[str, Any]:
    """The host's files of this round and our copy of the case go; results, logs and report stay.

    A host that does not answer now keeps its files: they are in the event, and `sweep` removes them later.
    """
    by_host: dict[str, list[BeamRecord]] = defaultdict(list)
    for record in await work.reading(lambda conn: store.beams_of(conn, work.case_id, work.round)):
        if record.job is not None:
            by_host[record.host or ""].append(record)
    there = [
        (work.parts.places[host], records) for host, records in by_host.items() if host in work.parts.places
    ]
    _, failed = await asyncio.gather(
        asyncio.to_thread(remove_marked, work.folder, (SOURCE, INPUT)),
        asyncio.gather(*(_cleared(work, place, records) for place, records in there)),
    )
    left = [job for jobs in failed for job in jobs]
    await work.change("case.cleaned", {"left_on_host": left}, key="cleaned", act=lambda _: None)
    return {"left_on_host": left}


async def _cleared(work: Work, place: Place, records: Sequence[BeamRecord]) -> list[str]:
    """Remove the round's folder and those of its jobs from one host; the jobs where that failed."""
    root = place.host.root.rstrip("/")
    attempts = [(record.beam, attempt) for record in records for attempt in range(1, record.attempt + 1)]
    jobs = [f"{work.name}-b{beam}-a{attempt}" for beam, attempt in attempts]
    folders = {remote_folder(place, work): work.name, **{f"{root}/jobs/{job}": job for job in jobs}}
    removing = (hostfolders.remove(place.host, folder, owner) for folder, owner in folders.items())
    for failure in await asyncio.gather(*removing, return_exceptions=True):
        if isinstance(failure, FairleadError):
            host, code = place.about.name, failure.code
            telemetry.log.warning("case.cleanup_left", case=work.case_id, host=host, code=code)
            return [str(record.job) for record in records]
        if failure is not None:
            raise failure
    return []


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
        for name in await hostfolders.folders(place.host, f"{root}/{parent}"):
            found = _OF_A_ROUND.fullmatch(name)
            if found is None or not await asyncio.to_thread(_over, parts, found["case"], int(found["round"])):
                continue
            try:
                await hostfolders.remove(place.host, f"{root}/{parent}/{name}", name)
                removed += 1
            except hostfolders.FolderNotOurs:
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
