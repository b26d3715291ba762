"""What went wrong in the systems before this one: what docs/reference/reliability.md says of it, checked."""

import re
import shutil
import subprocess
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa

from fairlead.cases import gpus, store
from fairlead.cases.generate import Written
from fairlead.cases.store import CaseStatus
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, migrate, open_database
from tests.cases.clinic import opened, until
from tests.cases.test_pipeline import counting_host, started

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "reference" / "reliability.md"
NAMED = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", TABLE.read_text(encoding="utf-8"))


def test_every_test_that_the_table_names_is_there() -> None:
    assert len(NAMED) > 20
    missing = [f"{file}::{name}" for file, name in NAMED if f"def {name}(" not in (ROOT / file).read_text()]
    assert missing == []


def test_a_fraction_that_waits_is_known_to_the_next_worker(
    tmp_path: Path, sqlite_template: Path, clean: Written, kept: Path
) -> None:
    hosts = (counting_host(tmp_path, kept),)
    with opened(tmp_path, sqlite_template, hosts=hosts, fraction_wait_s=3600.0) as clinic:
        folder = clinic.put(clean.folder)
        late = clean.deliveries[max(clean.deliveries)].name
        shutil.move(folder / late, tmp_path / late)
        first = clinic.start()
        until(lambda: any(case.status is CaseStatus.WAITING for case in clinic.cases()), "the case waits")
        waiting = clinic.cases()[0].id
        with clinic.database.reading() as conn:
            (before,) = store.fractions_of(conn, waiting)
        first.kill()
        first.join()
        shutil.copytree(tmp_path / late, folder / late)
        clinic.start()
        case = clinic.ended()
        with clinic.database.reading() as conn:
            (after,) = store.fractions_of(conn, case.id)
        assert (before.state, before.missing) == ("pending", [3])
        assert (after.state, after.missing, after.opened_at) == ("complete", [], before.opened_at)
        assert (case.verdict, case.round) == ("pass", 1)
        assert started(clinic) == ["beam-2.json", "beam-3.json"]


def test_a_lease_has_an_owner_from_its_first_moment_and_one_beam_releases_only_its_own(
    database: Database,
) -> None:
    now = utc_now()
    with database.transaction() as conn:
        for beam in (1, 2):
            job = store.job_name("c1", 1, beam, 1)
            gpus.enqueue(conn, gpus.Request(holder=job, project_id="p", gpus=1, priority=0, since=now), now)
            assert gpus.claim(conn, job, [gpus.Slots(host="h", gpus=("GPU-0", "GPU-1"))], now)
        gpus.release(conn, store.job_name("c1", 1, 1, 1))
        assert [lease.holder for lease in gpus.leases(conn)] == ["c1-r1-b2-a1"]
    assert gpus.leases_table.c.holder.nullable is False


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_write_ahead_log_stays_small_while_many_write_and_read(
    database: Database, tmp_path: Path
) -> None:
    with database.transaction() as conn:
        conn.exec_driver_sql("CREATE TABLE busy (id INTEGER PRIMARY KEY, text TEXT)")
        conn.exec_driver_sql("INSERT INTO busy VALUES (1, '')")
    for number in range(150):  # 24 MB of changes
        with database.transaction() as conn:
            conn.exec_driver_sql("UPDATE busy SET text = ?", (str(number % 10) * 160_000,))
        with database.reading() as conn:
            conn.exec_driver_sql("SELECT length(text) FROM busy").scalar()
    written = sum(path.stat().st_size for path in tmp_path.glob("*.db-wal"))
    assert 0 < written < 8_000_000


def test_a_database_of_an_earlier_release_keeps_every_row_and_column(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    config = alembic.config.Config()
    config.set_main_option("script_location", str(ROOT / "src" / "fairlead" / "migrations"))
    now = utc_now()
    with database.transaction() as conn:
        config.attributes["connection"] = conn
        alembic.command.upgrade(config, "0004_cases")
        conn.exec_driver_sql(
            "INSERT INTO case_hosts (name, state, changed_at, gpus, looked_at) "
            "VALUES ('old', 'paused', '2026-01-01 00:00:00', '[]', NULL)"
        )
        columns = {c["name"] for c in sa.inspect(conn).get_columns("cases")}
    migrate(database)
    with database.transaction() as conn:
        found = store.host(conn, "old")
        assert found is not None
        assert (found.state, found.problem) == (gpus.HostState.PAUSED, None)
        assert columns <= {c["name"] for c in sa.inspect(conn).get_columns("cases")}
        store.update_host(conn, "old", now, looked_at=now)
    database.close()


def test_neither_a_patients_file_nor_a_key_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    kinds = {".dcm", ".ptn", ".mgn", ".mhd", ".pem", ".key", ".p12", ".pfx", ".sqlite", ".db"}
    assert [str(file) for file in files if file.suffix.lower() in kinds] == []
    key = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
    assert [str(file) for file in files if file.is_file() and key.search(file.read_bytes())] == []


def test_no_test_and_no_module_needs_somebodys_own_folders() -> None:
    own = re.compile(r"[\"'(= ]/(?:home|Users)/\w+/")
    sources = [
        *(ROOT / "src" / "fairlead" / "cases").rglob("*.py"),
        *(ROOT / "tests" / "cases").rglob("*.py"),
    ]
    assert [str(path) for path in sources if own.search(path.read_text(encoding="utf-8"))] == []


def test_nothing_is_run_through_a_shell_or_removed_by_a_template() -> None:
    faults = re.compile(r"shell=True|os\.system\(|rm -rf? [^\"'\n]*\{(?![A-Z_]+\})")
    sources = (ROOT / "src" / "fairlead" / "cases").rglob("*.py")
    assert [str(path) for path in sources if faults.search(path.read_text(encoding="utf-8"))] == []
