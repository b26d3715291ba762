"""Intake: what is found, when it is taken, and that nothing is ever taken twice."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases import faults, intake, store
from fairlead.cases.generate import Written
from fairlead.cases.intake import Stability, Watched
from fairlead.cases.machine import Machine
from fairlead.cases.store import CaseRecord, CaseStatus
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.projects import accounts
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings
from fairlead.kernel.runs import Runs, RunStatus, open_runs


@dataclass
class Desk:
    """A scan folder and its watcher, scanned by hand; time passes when it is told to."""

    root: Path
    database: Database
    runs: Runs
    now: float = 0.0
    stability: Stability = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.stability = Stability(30.0, now=lambda: self.now)

    def scan(self) -> int:
        watched = Watched(
            database=self.database, runs=self.runs, scan={"clinic": self.root}, stability_s=30, rescan_s=60
        )
        return asyncio.run(intake.scan(watched, self.stability))

    def settle(self) -> list[CaseRecord]:
        """Scan, wait for the stability window, scan again."""
        self.scan()
        self.now += 31
        self.scan()
        return self.cases()

    def cases(self) -> list[CaseRecord]:
        with self.database.reading() as conn:
            return store.list_cases(conn, "clinic", status=None, before=None, limit=50)[::-1]

    def set(self, case: CaseRecord, **values: Any) -> None:
        with self.database.transaction() as conn:
            store.update_case(conn, case.id, utc_now(), **values)


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[Desk]:
    runs = open_runs(database)
    with database.transaction() as conn:
        user = accounts.create_user(conn, username="ann", password_hash="!", is_admin=False)
        owner = Actor(user_id=user.id, username="ann", is_admin=False)
        projects.create(
            conn, project_id="clinic", name="Clinic", description="", settings=ProjectSettings(), owner=owner
        )
    (tmp_path / "scan").mkdir()
    yield Desk(tmp_path / "scan", database, runs)
    runs.close()


def put(case: Path, target: Path, *, ready: bool = True) -> Path:
    shutil.copytree(case, target, ignore=shutil.ignore_patterns("_CASE_READY"))
    if ready:
        (target / "_CASE_READY").touch()
    return target


def test_a_ready_case_is_taken_once_it_has_not_changed_for_the_window(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "SYN1")
    assert (desk.scan(), desk.cases()) == (1, [])
    desk.now = 20
    (folder / "more.txt").write_text("still copying")
    assert (desk.scan(), desk.cases()) == (1, [])
    desk.now = 45  # 45 s after it was first seen, 25 s after its last change
    assert (desk.scan(), desk.cases()) == (1, [])
    desk.now = 51
    assert desk.scan() == 0
    (case,) = desk.cases()
    assert (case.number, case.status, case.round) == (1, CaseStatus.PENDING, 1)
    run = desk.runs.get(str(case.run_id))
    assert (run.status, run.project_id, run.params) == (
        RunStatus.QUEUED,
        "clinic",
        {"case": case.id, "round": 1},
    )


def test_a_half_written_case_waits_for_its_marker(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "SYN1", ready=False)
    assert desk.settle() == []
    (folder / "_CASE_READY").touch()
    assert len(desk.settle()) == 1


def test_restarts_rescans_and_a_second_watcher_find_nothing_twice(desk: Desk, clean: Written) -> None:
    put(clean.folder, desk.root / "SYN1")
    before = desk.settle()
    for _ in range(2):
        desk.restart()
        assert desk.settle() == before
    with desk.database.transaction() as conn:  # the other watcher was slower
        row = store.sightings_of(conn, "clinic")
        found = intake.Found(
            project_id="clinic",
            folder=desk.root / "SYN1",
            source=next(iter(row)),
            seen="another",
            content=before[0].content,
            identity=before[0].identity,
        )
        assert intake.take(conn, desk.runs, found) == "known"
    assert len(desk.runs.list(project_id="clinic")) == 1


def test_a_file_that_is_only_copied_again_changes_nothing(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "SYN1")
    (case,) = desk.settle()
    os.utime(folder / clean.plan_file.name, (1, 1))
    assert [one.round for one in desk.settle()] == [1]
    assert len(desk.runs.list(project_id="clinic")) == 1
    assert desk.cases()[0].content == case.content


@pytest.mark.parametrize(
    "layout",
    ["SYN1", "G1/SYN1", "G1/SYN1/1.2.3"],
    ids=["patient", "room and patient", "room, patient and study"],
)
def test_the_marker_may_lie_in_the_case_folder(desk: Desk, clean: Written, layout: str) -> None:
    put(clean.folder, desk.root / layout)
    assert len(desk.settle()) == 1


def test_two_studies_of_one_patient_are_two_cases(desk: Desk, clean: Written, machines: Machine) -> None:
    patient = desk.root / "G1" / "SYN1"
    put(clean.folder, patient / "first", ready=False)
    other = faults.generate_case(desk.root.parent / "other", machines, seed=7)
    put(other.folder, patient / "second", ready=False)
    (patient / "_CASE_READY").touch()
    assert [case.number for case in desk.settle()] == [1, 2]


def test_the_same_case_in_two_places_is_a_duplicate_and_is_recorded(desk: Desk, clean: Written) -> None:
    put(clean.folder, desk.root / "A")
    put(clean.folder, desk.root / "B")
    assert len(desk.settle()) == 1
    assert len(desk.runs.list(project_id="clinic")) == 1
    with desk.database.reading() as conn:
        entries = audit.entries(conn, project_id="clinic", action="case.duplicate")
    assert len(entries) == 1
    assert clean.identity.patient_id not in str(entries)


def test_a_case_that_was_moved_stays_the_same_case(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "A")
    (before,) = desk.settle()
    folder.rename(desk.root / "B")
    (after,) = desk.settle()
    assert (after.id, after.folder, after.round) == (before.id, str(desk.root / "B"), 1)


def late(folder: Path) -> None:
    (folder / "2026011210300000").mkdir()
    (folder / "2026011210300000" / "PlanInfo.txt").write_text("late")


def test_deliveries_that_arrive_after_the_verdict_begin_a_new_round(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "A")
    (case,) = desk.settle()
    desk.set(case, status=CaseStatus.COMPLETED, verdict="fail", progress=1.0, finished_at=utc_now())
    late(folder)
    (again,) = desk.settle()
    assert (again.status, again.round, again.verdict, again.progress) == (CaseStatus.PENDING, 2, None, 0.0)
    assert again.run_id != case.run_id


def test_deliveries_that_arrive_while_it_runs_are_noted_for_its_end(desk: Desk, clean: Written) -> None:
    folder = put(clean.folder, desk.root / "A")
    (case,) = desk.settle()
    desk.set(case, status=CaseStatus.RUNNING)
    late(folder)
    (noted,) = desk.settle()
    assert (noted.round, noted.run_id) == (1, case.run_id)
    assert noted.content != case.content


def test_a_case_without_a_readable_plan_is_taken_too_so_that_somebody_hears_of_it(
    desk: Desk, machines: Machine
) -> None:
    faults.generate_case(desk.root / "A", machines, fault="no-plan")
    assert len(desk.settle()) == 1


@pytest.mark.parametrize("name", ["a\nb", "$(touch x)", "-rf", "ä ö", "a'b"])
def test_hostile_folder_names_are_only_names(desk: Desk, clean: Written, name: str) -> None:
    put(clean.folder, desk.root / name)
    assert len(desk.settle()) == 1


def test_a_link_into_the_scan_folder_is_not_followed(desk: Desk, clean: Written) -> None:
    (desk.root / "link").symlink_to(clean.folder)
    assert desk.settle() == []


def test_a_folder_that_cannot_be_read_and_an_unknown_project_stop_no_other(
    desk: Desk, clean: Written
) -> None:
    put(clean.folder, desk.root / "A")
    watched = Watched(
        database=desk.database,
        runs=desk.runs,
        scan={"nobody": desk.root, "clinic": desk.root, "other": desk.root / "missing"},
        stability_s=0,
        rescan_s=60,
    )
    asyncio.run(intake.scan(watched, Stability(0.0)))
    assert len(desk.cases()) == 1


async def test_a_watch_takes_a_case_long_before_the_next_rescan(desk: Desk, clean: Written) -> None:
    watched = Watched(
        database=desk.database, runs=desk.runs, scan={"clinic": desk.root}, stability_s=0.1, rescan_s=600
    )
    watching = asyncio.create_task(intake.watch(watched))
    await asyncio.sleep(0)
    put(clean.folder, desk.root / "A")
    async with asyncio.timeout(90):
        while not await asyncio.to_thread(desk.cases):  # noqa: ASYNC110 - the database sets no event
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
