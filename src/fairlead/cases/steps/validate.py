"""Check a case against every rule and take a copy that later steps read: senders may go on writing."""

import re
import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.cases import report, rules, store
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
    examined = rules.examine(folder, work.parts.machine)
    if not examined.valid:
        return examined
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
        raise WorkFolderUnusable(
            f"The work folder cannot take a copy of the case: {_reason(error)}.",
            remedy="Make room, or correct its permissions, and retry the case.",
        ) from None
    copied = rules.examine(copy, work.parts.machine)
    if not copied.valid or copied.plan is None or copied.plan.uid != (examined.plan and examined.plan.uid):
        raise CaseChanged("The case changed while it was copied.", remedy="It is read again by itself.")
    return copied


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
