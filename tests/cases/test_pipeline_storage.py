"""The pipeline where disks are full, permissions lost or places missing; and on PostgreSQL."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases import machine, routes, store
from fairlead.cases.generate import Written
from fairlead.cases.gpus import HostState
from fairlead.cases.places import open_places
from fairlead.cases.routes import CasesDoor
from fairlead.cases.steps.cleanup import sweep
from fairlead.cases.steps.port import CaseParts, Turns
from fairlead.cases.store import CaseRecord, CaseStatus
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import migrate, open_database
from fairlead.kernel.objects import open_objects
from fairlead.kernel.projects.model import Actor
from fairlead.kernel.settings import CaseHostSettings
from tests.cases import engine_subjects
from tests.cases.case_worker import case_settings
from tests.cases.clinic import Clinic, opened, until
from tests.ssh_service import start_sshd

ANN = Actor(user_id="ann", username="ann", is_admin=False)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `path`; needs the right to mount."""
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this account may not mount a small file system: full disks were NOT tried")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def quick(folder: Path) -> dict[str, Any]:
    """Settings of an engine that needs no time; planned and delivered dose are alike to it."""
    path = repr([place for place in sys.path if place])
    body = engine_subjects.COMMAND.replace("{path!r}", path).replace("(10 + beam)", "(10 + beam % 100000)")
    program = engine_subjects.script(folder / "calculate", body)
    argv = [str(program), "{request}", "{out}", "{beam}"]
    return {"engine": "command", "engine_options": {"argv": argv}}


def retried(clinic: Clinic, number: int = 1) -> CaseRecord:
    """The case once it was begun again and has ended."""
    case = clinic.case(number)
    assert case is not None
    round_ = case.round
    door = CasesDoor(
        database=clinic.database,
        runs=clinic.runs,
        objects=open_objects((clinic.folder / "objects").as_uri()),
        hosts=(),
    )
    with clinic.database.transaction() as conn:
        routes.retry(door, conn, store.by_id(conn, case.id, lock=True), ANN)
    clinic.start()
    return clinic.ended(number, round_=round_ + 1)


def test_a_full_disk_here_fails_the_case_with_a_remedy_and_a_retry_completes_it(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    with opened(tmp_path, sqlite_template, attempts=1, **quick(tmp_path)) as clinic:
        with small_disk(tmp_path / "work", "200k"):
            clinic.put(clean.folder)
            case = clinic.keep_running()
            assert (case.status, case.verdict) == (CaseStatus.FAILED, None)
            assert case.problem is not None
            assert case.problem["status"] == 507
            assert "no space left" in str(case.problem["detail"])
            assert case.problem["remedy"]
        assert retried(clinic).verdict == "pass"


def test_a_full_disk_on_the_host_fails_the_case_and_a_retry_completes_it(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    with start_sshd(tmp_path / "sshd") as server:
        target = server.target()
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts)
        host = CaseHostSettings(
            name="gpu1", executor="ssh", work_dir=str(Path(target.root) / "small"), python=sys.executable,
            slots=2, address="127.0.0.1", port=server.port, user=target.user,
            known_hosts=known, identity_file=server.key_file,
        )  # fmt: skip
        with opened(tmp_path, sqlite_template, hosts=(host,), attempts=1, **quick(tmp_path)) as clinic:
            with small_disk(Path(target.root) / "small", "100k"):
                clinic.put(clean.folder)
                case = clinic.keep_running()
                assert (case.status, case.verdict) == (CaseStatus.FAILED, None)
                assert case.problem is not None
                assert "full" in f"{case.problem['title']} {case.problem['detail']}".lower()
                assert case.problem["remedy"]
            assert retried(clinic).verdict == "pass"


def test_a_work_folder_that_may_not_be_written_is_an_error_without_names(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    with opened(tmp_path, sqlite_template, attempts=1, **quick(tmp_path)) as clinic:
        with small_disk(tmp_path / "work", "1m"):
            subprocess.run(["mount", "-o", "remount,ro", tmp_path / "work"], check=True)
            clinic.put(clean.folder)
            case = clinic.keep_running()
            assert case.status is CaseStatus.FAILED
            assert case.problem is not None
            assert "read-only" in str(case.problem["detail"])
            assert str(tmp_path) not in str(case.problem)
        assert retried(clinic).verdict == "pass"


def test_a_beam_does_not_wait_for_a_place_for_ever(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    with opened(tmp_path, sqlite_template, place_wait_s=0.5, **quick(tmp_path)) as clinic:
        clinic.put(clean.folder)
        placed = clinic.start("case.transferred!")
        until(lambda: not placed.is_alive(), "the case was given to the host")
        with clinic.database.transaction() as conn:
            store.update_host(conn, "here", utc_now(), state=HostState.DRAINING)
        clinic.start()
        case = clinic.ended()
        assert case.status is CaseStatus.FAILED
        assert "cases.place_deadline" in str(case.problem)
        assert clinic.jobs() == []


def test_what_a_host_kept_is_swept_later_and_nothing_else(
    tmp_path: Path, sqlite_template: Path, clean: Written
) -> None:
    root = tmp_path / "host"
    with opened(tmp_path, sqlite_template, **quick(tmp_path)) as clinic:
        clinic.put(clean.folder)
        case = clinic.keep_running()
        assert case.verdict == "pass"
        left = {name: root / name for name in (f"cases/{case.id}-r1", f"jobs/{case.id}-r1-b1-a1")}
        kept = {
            "another server's": root / "cases/c0123456789abcdef-r1",
            "no round of ours": root / "cases/mine",
            "a later round": root / f"cases/{case.id}-r2",
            "without our mark": root / f"cases/{case.id}-r001",
        }
        for name, folder in {**left, **kept}.items():
            folder.mkdir(parents=True)
            (folder / "big").write_bytes(b"x" * 1000)
            if name != "without our mark":
                (folder / ".fairlead-owner").write_text(folder.name)
        with clinic.database.transaction() as conn:
            store.update_case(conn, case.id, utc_now(), finished_at=utc_now() - timedelta(hours=1))
        sweep_now(clinic)
        assert [name for name, folder in left.items() if folder.exists()] == []
        assert [name for name, folder in kept.items() if not (folder / "big").exists()] == []


def sweep_now(clinic: Clinic) -> None:
    async def run() -> int:
        settings = case_settings(clinic.folder)
        async with open_places(settings.hosts) as places:
            parts = CaseParts(
                database=clinic.database,
                objects=open_objects((clinic.folder / "objects").as_uri()),
                machine=machine.load(),
                places=places,
                settings=settings,
                criteria=VerdictCriteria(),
                work=clinic.folder / "work",
                calculating=Turns(1),
            )
            return await sweep(parts)

    assert asyncio.run(run()) == 2


def test_on_postgresql_another_worker_takes_a_case_over(
    tmp_path: Path, empty_database_url: str, clean: Written
) -> None:
    if not empty_database_url.startswith("postgresql"):
        pytest.skip("SQLite is what every other test of the pipeline uses")
    database = open_database(empty_database_url)
    migrate(database)
    database.close()
    with opened(tmp_path, None, database_url=empty_database_url, **quick(tmp_path)) as clinic:
        clinic.put(clean.folder)
        first = clinic.start("beam.progress!")
        until(lambda: not first.is_alive(), "the first worker dies in the middle of a beam")
        second = clinic.start()
        case = clinic.ended()
        assert (case.status, case.verdict) == (CaseStatus.COMPLETED, "pass")
        assert second.is_alive()
        started = [data for type_, data in clinic.events(case.run_id) if type_ == "beam.started"]
        assert sorted((data["beam"], data["attempt"]) for data in started) == [(2, 1), (3, 1)]
