"""Finds cases in the watched folders and makes runs of them, each exactly once, whatever is restarted when.

A case is taken once its sender has put `_CASE_READY` beside or into it and nothing in it has changed for the
stability window. It is known by study and plan UID, never by patient or folder. What was seen is in the
database: a restart, a second watcher or a repeated scan finds nothing twice; a change of content begins a new
round of the case, or wakes the run that waits for it.

Change notices only shorten the wait: every scan reads the folders themselves.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from watchfiles import awatch

from fairlead.cases import folders, plans, store
from fairlead.cases.folders import READY_MARKER, CaseNotFound
from fairlead.cases.model import CaseFault
from fairlead.cases.store import CaseRecord, CaseStatus
from fairlead.kernel import audit, telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.projects import store as projects
from fairlead.kernel.runs import Runs

CASE, DELIVERIES, ACTOR = "cases.case", "deliveries", "fairlead"
NOTE_S = 5.0  # how often a scan that found nothing new is noted
_DEPTH = 3  # scan folder / room / patient / study
_DELIVERY = re.compile(r"\d{16}")
_LOOK_S = 0.25  # how often a case that still changes is looked at, at least
_TICK_S = 0.005  # after the end of a window, so that it surely has ended
_CHUNK = 1024 * 1024


class ScanFolderUnusable(FairleadError):
    """The folder that is watched for cases cannot be read."""

    code, status, retryable = "cases.scan_folder_unusable", 503, True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that its sender has marked as ready; `seen` changes whenever a file in it does."""

    folder: Path
    source: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the watcher needs."""

    database: Database
    runs: Runs
    scan: Mapping[str, Path]  # project → folder
    stability_s: float
    rescan_s: float


# --- looking -------------------------------------------------------------------------------------


def candidates(root: Path) -> Iterator[Candidate]:
    """Case folders below `root` that are marked as ready. What cannot be read is left for the next scan.

    Raises OSError where that is `root` itself.
    """
    os.scandir(root).close()
    for marked in _marked(root, _DEPTH):
        for folder in _case_folders(marked):
            with contextlib.suppress(OSError):
                yield Candidate(folder, store.digest_of(os.path.relpath(folder, root)), _stat_digest(folder))


def _marked(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == READY_MARKER and entry.is_file(follow_symlinks=False) for entry in found):
        yield folder
        return
    if depth:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _marked(Path(entry.path), depth - 1)


def _case_folders(marked: Path) -> list[Path]:
    """The folder itself where the plan or a delivery lies in it, else those of its folders that hold such."""
    if _holds_case(marked):
        return [marked]
    inside = [p for p in sorted(marked.iterdir()) if p.is_dir() and not p.is_symlink() and _holds_case(p)]
    return inside or [marked]


def _holds_case(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(
                (entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(".dcm"))
                or (_DELIVERY.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False))
                for entry in entries
            )
    except OSError:
        return False


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    count = 0
    for place, names, files in os.walk(folder, followlinks=False):
        names.sort()
        for name in sorted(files):
            count += 1
            if count > folders.MAX_FILES:
                return
            path = os.path.join(place, name)  # noqa: PTH118 - tens of thousands of them
            with contextlib.suppress(FileNotFoundError):
                yield os.path.relpath(path, folder), os.lstat(path)


def _stat_digest(folder: Path) -> str:
    """Changes with every change of a name, size or time."""
    digest = hashlib.sha256()
    for name, status in _files(folder):
        line = f"{name}\0{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def content_digest(folder: Path) -> str:
    """Changes with every change of a name or byte; copying a file again over itself changes nothing."""
    digest = hashlib.sha256()
    for name, status in _files(folder):
        if name == READY_MARKER:
            continue
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        if stat.S_ISREG(status.st_mode):
            digest.update(_file_digest(folder / name))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        return str(error.errno).encode()  # the rules will name it
    return digest.digest()


def identity(folder: Path, source: str) -> str:
    """Digest of study and plan UID; of the folder's place where no plan can be read."""
    with contextlib.suppress(CaseNotFound):
        found = folders.look(folder)
        read = []
        for path in found.dicom:
            with contextlib.suppress(CaseFault):
                read.append(plans.read(path, file="plan"))
        if len(read) == 1 and read[0].uid and read[0].study_uid:
            return store.digest_of("plan", read[0].study_uid, read[0].uid)
    return store.digest_of("place", source)


class Stability:
    """Since when each candidate has not changed, on our own clock: the sender's may be wrong."""

    def __init__(self, window_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """`window_s` seconds without a change make a candidate stable."""
        self.window_s = window_s
        self._now = now
        self._since: dict[str, tuple[str, float]] = {}

    def is_stable(self, key: str, seen: str) -> bool:
        """Whether `key` has looked like `seen` for the whole window."""
        before, since = self._since.get(key, ("", 0.0))
        if before != seen:
            since = self._now()
            self._since[key] = (seen, since)
        return self._now() - since >= self.window_s

    def soonest_s(self) -> float | None:
        """In how many seconds the next one may be stable; None where none is on its way."""
        left = [since + self.window_s - self._now() for _, since in self._since.values()]
        return min((left_s for left_s in left if left_s > 0), default=None)

    def forget(self, key: str) -> None:
        """It was taken."""
        self._since.pop(key, None)


# --- taking --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A stable candidate, read."""

    project_id: str
    folder: Path
    source: str
    seen: str
    content: str
    identity: str


def take(conn: sa.Connection, runs: Runs, found: Found) -> str:
    """Register what was found, in the caller's transaction; what became of it.

    new: a case and its run. again: the content changed, a new round. late: a waiting run was woken.
    noted: the run in progress will see it. known: nothing is new. duplicate: the same case lies elsewhere.
    """
    now = utc_now()
    case = store.by_identity(conn, found.project_id, found.identity)
    outcome, duplicate = "new", False
    if case is None:
        case = store.insert_case(
            conn,
            project_id=found.project_id,
            identity=found.identity,
            folder=str(found.folder),
            content=found.content,
            now=now,
        )
        start(conn, runs, case, ACTOR)
    elif case.folder != str(found.folder) and Path(case.folder).is_dir():
        outcome, duplicate = "duplicate", True
        audit.append(
            conn,
            actor=ACTOR,
            action="case.duplicate",
            subject=f"case:{case.id}",
            project_id=case.project_id,
            data={"source": found.source[:16]},
        )
    else:
        outcome = _changed(conn, runs, case, found)
    store.remember(
        conn,
        found.project_id,
        found.source,
        seen=found.seen,
        content=found.content,
        case_id=case.id,
        duplicate=duplicate,
        seen_at=now,
    )
    return outcome


def _changed(conn: sa.Connection, runs: Runs, case: CaseRecord, found: Found) -> str:
    now = utc_now()
    if case.content == found.content:
        store.update_case(conn, case.id, now, folder=str(found.folder))
        return "known"
    values = {"content": found.content, "folder": str(found.folder)}
    if case.status.final:
        start(conn, runs, store.reopen(conn, case, now, **values), ACTOR)
        return "again"
    store.update_case(conn, case.id, now, **values)
    if case.status is CaseStatus.WAITING and case.run_id:
        runs.decide(conn, case.run_id, DELIVERIES, {"content": found.content}, idempotency_key=found.content)
        return "late"
    return "noted"


def start(conn: sa.Connection, runs: Runs, case: CaseRecord, actor: str) -> CaseRecord:
    """Submit the run of the case's current round, with its audit entry."""
    run = runs.submit(
        conn,
        CASE,
        {"case": case.id, "round": case.round},
        project_id=case.project_id,
        actor=actor,
        title=f"Case {case.number}",
        idempotency_key=f"{case.id}:{case.round}",
    )
    store.update_case(conn, case.id, utc_now(), run_id=run.id)
    audit.append(
        conn,
        actor=actor,
        action="case.started",
        subject=f"case:{case.id}",
        project_id=case.project_id,
        data={"number": case.number, "round": case.round, "run": run.id},
    )
    return store.by_id(conn, case.id)


# --- watching ------------------------------------------------------------------------------------


async def watch(watched: Watched) -> None:
    """Scan for ever: at once, whenever the folders change, and every `rescan_s` seconds."""
    stability, changed = Stability(watched.stability_s), asyncio.Event()
    notices = [asyncio.create_task(_notice(folder, changed)) for folder in watched.scan.values()]
    try:
        while True:
            changed.clear()
            unstable = await scan(watched, stability)
            pause_s = max(_LOOK_S, watched.stability_s / 4) if unstable else watched.rescan_s
            if unstable and (soonest_s := stability.soonest_s()) is not None:
                pause_s = min(pause_s, soonest_s + _TICK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, watched.rescan_s)):
                    await changed.wait()
    finally:
        for task in notices:
            task.cancel()
        await asyncio.gather(*notices, return_exceptions=True)


async def scan(watched: Watched, stability: Stability) -> int:
    """Read every folder once and take what is stable; how many ready cases still change."""
    unstable = 0
    for project_id, root in watched.scan.items():
        found, problem = 0, None
        try:
            found = await _scan_one(watched, stability, project_id, root)
        except (FairleadError, OSError, sa.exc.SQLAlchemyError) as error:
            # The next scan tries again: a watcher that ends helps nobody. No text: it may hold a path.
            problem = _problem(error, project_id)
            telemetry.count("fairlead_case_scan_failures_total", labels={"code": problem["code"]})
            telemetry.log.warning("case.scan_failed", project_id=project_id, code=problem["code"])
        unstable += found
        try:
            await asyncio.to_thread(_note, watched.database, project_id, found, problem)
        except sa.exc.SQLAlchemyError as error:
            telemetry.log.warning("case.scan_unnoted", project_id=project_id, code=type(error).__name__)
    return unstable


def _problem(error: Exception, project_id: str) -> dict[str, Any]:
    if isinstance(error, FairleadError):
        return error.problem()
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return ScanFolderUnusable(
        f"The scan folder of project {project_id} cannot be read: {reason.lower()}.",
        remedy="Make it, mount it or correct its permissions, or correct cases.scan in the settings.",
    ).problem()


def _note(database: Database, project_id: str, unstable: int, problem: dict[str, Any] | None) -> None:
    """Remember for everybody how the scan went; what has not changed only now and then."""
    now = utc_now()
    with database.reading() as conn:
        known = store.scan(conn, project_id)
    if (
        known is not None
        and (known.unstable, known.problem) == (unstable, problem)
        and (now - known.tried_at).total_seconds() < NOTE_S
    ):
        return
    values: dict[str, Any] = {"tried_at": now, "unstable": unstable, "problem": problem}
    if problem is None:
        values["scanned_at"] = now
    with database.transaction() as conn:
        store.update_scan(conn, project_id, **values)


async def _scan_one(watched: Watched, stability: Stability, project_id: str, root: Path) -> int:
    known = await asyncio.to_thread(_known, watched.database, project_id)
    unstable = 0
    for candidate in await asyncio.to_thread(lambda: list(candidates(root))):
        key = f"{project_id}:{candidate.source}"
        if known.get(candidate.source) == candidate.seen:
            continue
        if not stability.is_stable(key, candidate.seen):
            unstable += 1
            continue
        found = await asyncio.to_thread(_read, project_id, candidate)
        outcome = await asyncio.to_thread(_take, watched, found)
        stability.forget(key)
        telemetry.count("fairlead_cases_seen_total", labels={"outcome": outcome})
        telemetry.log.info("case.seen", project_id=project_id, outcome=outcome, source=found.source[:16])
    return unstable


def _known(database: Database, project_id: str) -> dict[str, str]:
    with database.reading() as conn:
        projects.find(conn, project_id)
        return store.sightings_of(conn, project_id)


def _read(project_id: str, candidate: Candidate) -> Found:
    # A file may change once more in between: then `seen` is outdated and the next scan reads again.
    return Found(
        project_id=project_id,
        folder=candidate.folder,
        source=candidate.source,
        seen=candidate.seen,
        content=content_digest(candidate.folder),
        identity=identity(candidate.folder, candidate.source),
    )


def _take(watched: Watched, found: Found) -> str:
    with watched.database.transaction() as conn:
        return take(conn, watched.runs, found)


async def _notice(folder: Path, changed: asyncio.Event) -> None:
    while True:
        with contextlib.suppress(OSError, RuntimeError):  # not there, or out of watches: rescans do
            async for _ in awatch(folder, step=50, debounce=200):
                changed.set()
        await asyncio.sleep(5.0)
