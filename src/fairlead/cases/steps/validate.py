"""Check a case against every rule and take a copy that later steps read: senders may go on writing."""

import re
import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.cases import folders, report, rules, store, transfer
from fairlead.cases.folders import READY_MARKER
from fairlead.cases.rules import Examined
from fairlead.cases.steps.port import Step, Work
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

SOURCE, MARKER = "source", ".fairlead-work"


class CaseChanged(FairleadError):
    """The case was being written while it was read."""

    code, status, retryable = "cases.changed", 409, True


class WorkFolderUnusable(FairleadError):
    """The work folder on this machine cannot be written to."""

    code, status, retryable = "cases.work_folder_unusable", 507, False


async def run(work: Work) -> dict[str, Any]:
    """Violations into the case; a copy of a valid case into the work folder."""
    case = await work.case()
    examined = await work.calculate(_examine, work, Path(case.folder))
    found = report.violations(examined.anonymous)
    beams = [beam.number for beam in examined.plan.beams] if examined.plan and not found else []

    def act(conn: sa.Connection) -> None:
        now = utc_now()
        store.update_case(conn, case.id, now, status=store.CaseStatus.RUNNING, violations=found)
        store.plan_beams(conn, case.id, work.round, beams, now)

    rules_broken = sorted({violation["rule"] for violation in found})
    data = {"violations": len(found), "rules": rules_broken, "beams": beams}
    await work.change("case.validated", data, key=f"validated:{case.content}", act=act)
    for rule in rules_broken:
        telemetry.count("fairlead_cases_refused_total", labels={"rule": rule})
    return {"valid": not found, "beams": beams, "content": case.content}


def _examine(work: Work, folder: Path) -> Examined:
    if not _is_plain(folder) and not (examined := rules.examine(folder, work.parts.machine)).valid:
        return examined
    copied = _copied(work, folder)
    if copied.valid:
        return copied
    # What is wrong is told of the sender's folder: its names, and what lies beside it, are not the copy's.
    shutil.rmtree(work.folder / SOURCE, ignore_errors=True)
    examined = rules.examine(folder, work.parts.machine)
    if examined.valid:
        raise CaseChanged("The case changed while it was copied.", remedy="It is read again by itself.")
    return examined


def _is_plain(folder: Path) -> bool:
    """Whether it can be copied before it is read: files and folders, none too large, and marked as ready.

    Raises CaseNotFound.
    """
    found = folders.look(folder)
    if found.violations or not found.ready:
        return False
    try:
        return all(size <= folders.MAX_DICOM_BYTES for size, _ in transfer.survey(folder).values())
    except (FairleadError, OSError):
        return False


def _copied(work: Work, folder: Path) -> Examined:
    """The copy of the case in the work folder, read; the case itself where its faults prevent copying.

    Raises CaseChanged, WorkFolderUnusable.
    """
    copy = work.folder / SOURCE
    try:
        own_folder(work.folder)
        shutil.rmtree(copy, ignore_errors=True)
        # The rules refuse links: what is copied is what was read.
        shutil.copytree(folder, copy, symlinks=True)
        (copy / READY_MARKER).touch()
    except (OSError, shutil.Error) as error:
        if not folder.is_dir():
            raise CaseChanged("The case folder vanished while it was copied.") from None
        if not (examined := rules.examine(folder, work.parts.machine)).valid:
            return examined  # a file of it cannot be read
        raise WorkFolderUnusable(
            f"The work folder cannot take a copy of the case: {_reason(error)}.",
            remedy="Make room, or correct its permissions, and retry the case.",
        ) from None
    work.parts.readings.forget(copy)  # a former copy may look the same by size and time
    return work.parts.readings.examined(copy, work.parts.machine)


def _reason(error: OSError) -> str:
    """Why copying failed, without the names that `shutil.Error` collects beside it."""
    if error.strerror:
        return error.strerror.lower()
    named = re.search(r"\[Errno [0-9]+\] ([A-Za-z -]+)", str(error))
    return named[1].lower() if named else type(error).__name__


def own_folder(folder: Path) -> None:
    """Make `folder`, readable by us only, with the mark that lets clean-up touch it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MARKER).touch()


VALIDATE = Step(
    name="validate",
    run=run,
    deadline_s=600,
    until=0.05,
    reattach="reads the case again; an unfinished copy is replaced",
)
