import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from fairlead.kernel.db import (
    Database,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    UtcDateTime,
    in_transaction,
    open_database,
)
from tests.services import Postgres, free_port

things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcDateTime),
    sa.Column("data", sa.JSON),
)


@pytest.fixture
def with_things(database: Database) -> Database:
    with database.transaction() as connection:
        things.create(connection)
    return database


def count(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(things)).scalar_one()


def test_a_transaction_commits_at_its_end(with_things: Database) -> None:
    with with_things.transaction() as connection:
        connection.execute(sa.insert(things).values(id=1))
    assert count(with_things) == 1


def test_a_transaction_rolls_back_on_any_exception(with_things: Database) -> None:
    with pytest.raises(KeyboardInterrupt), with_things.transaction() as connection:  # noqa: PT012
        connection.execute(sa.insert(things).values(id=1))
        raise KeyboardInterrupt
    assert count(with_things) == 0


def test_tables_are_transactional_too(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:  # noqa: PT012
        things.create(connection)
        1 / 0  # noqa: B018
    assert not sa.inspect(database.engine).has_table("things")


def test_a_second_transaction_inside_one_is_refused(database: Database) -> None:
    with database.transaction():
        assert in_transaction()
        with pytest.raises(RuntimeError, match="already open"), database.transaction():
            pass
        with pytest.raises(RuntimeError, match="already open"), database.reading():
            pass
    assert not in_transaction()


def test_another_thread_is_not_in_this_threads_transaction(database: Database) -> None:
    seen: list[bool] = []
    with database.transaction():
        thread = threading.Thread(target=lambda: seen.append(in_transaction()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_moments_come_back_aware_and_in_utc(with_things: Database) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=there)
    with with_things.transaction() as connection:
        connection.execute(sa.insert(things).values(id=1, at=moment, data={"ü": [1, None]}))
        row = connection.execute(sa.select(things)).one()
    assert row.at == moment
    assert row.at.tzinfo is UTC
    assert row.data == {"ü": [1, None]}


def test_a_moment_without_a_zone_is_refused(with_things: Database) -> None:
    naive = datetime(2026, 3, 1)  # noqa: DTZ001
    with pytest.raises(sa.exc.StatementError, match="time zone"), with_things.transaction() as connection:
        connection.execute(sa.insert(things).values(id=1, at=naive))


def test_integrity_errors_reach_the_caller(with_things: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), with_things.transaction() as connection:
        connection.execute(sa.insert(things), [{"id": 1}, {"id": 1}])


def test_concurrent_writers_wait_for_each_other(with_things: Database) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 20):
            with with_things.transaction() as connection:
                seen = connection.execute(sa.select(sa.func.max(things.c.id))).scalar()
                connection.execute(sa.insert(things).values(id=number, data=seen))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(with_things) == 80


def test_a_reader_does_not_wait_for_a_writer(with_things: Database) -> None:
    counted: list[int] = []
    with with_things.transaction() as connection:
        connection.execute(sa.insert(things).values(id=1))
        reader = threading.Thread(target=lambda: counted.append(count(with_things)))
        reader.start()
        reader.join(timeout=30)
    assert counted == [0]


def test_sqlite_files_are_shared_by_write_ahead_log_and_private(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new/folder/fairlead.db")
    assert database.path is not None
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    assert database.path.stat().st_mode & 0o077 == 0
    database.close()


def test_several_threads_may_create_one_sqlite_file_at_once(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def create() -> None:
        try:
            open_database(f"sqlite:///{tmp_path}/x.db").close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("sqlite://", id="sqlite without a file"),
        pytest.param("sqlite:///:memory:", id="sqlite in memory"),
        pytest.param("sqlite://folder/file.db", id="sqlite with two slashes"),
        pytest.param("sqlite:///x.db?mode=ro&key=hunter2", id="sqlite with options"),
        pytest.param("mysql://me:hunter2@host/name", id="another database"),
        pytest.param("postgresql+asyncpg://me:hunter2@host/name", id="another driver"),
        pytest.param("postgresql://me:hunter2@host", id="no database name"),
        pytest.param("postgresql://me:hunter2@host:port/name", id="a port that is no number"),
        pytest.param("me:hunter2@host/name", id="no scheme"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_url_of_another_form_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        open_database(url)
    assert "hunter2" not in str(caught.value.problem())
    assert caught.value.remedy


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        open_database(f"postgresql://me:hunter2@127.0.0.1:{free_port()}/name")
    assert "127.0.0.1" in caught.value.message
    assert "hunter2" not in str(caught.value.problem())
    assert caught.value.retryable


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_common_form_of_a_postgresql_url_is_taken(scheme: str, postgres: Postgres) -> None:
    database = open_database(postgres.url("postgres").replace("postgresql", scheme))
    assert "irrelevant" not in str(database.url)
    assert not database.is_sqlite
    database.close()


def test_a_missing_postgresql_database_is_unavailable(postgres: Postgres) -> None:
    with pytest.raises(DatabaseUnavailable):
        open_database(postgres.url("no_such_database"))


def test_a_lost_connection_is_unavailable_and_the_next_transaction_works(postgres: Postgres) -> None:
    database = open_database(postgres.url("postgres"))
    with pytest.raises(DatabaseUnavailable), database.transaction() as connection:  # noqa: PT012
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        postgres.command(f"SELECT pg_terminate_backend({pid})")
        connection.exec_driver_sql("SELECT 1")
    with database.transaction() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    database.close()


def test_a_read_only_postgresql_is_reported_as_such(postgres: Postgres) -> None:
    database = open_database(postgres.url("postgres") + "?options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(DatabaseReadOnly), database.transaction() as connection:
        things.create(connection)
    database.close()


def test_a_read_only_sqlite_file_is_reported_as_such(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(DatabaseReadOnly), database.transaction() as connection:  # noqa: PT012
        connection.exec_driver_sql("PRAGMA query_only = 1")  # file modes do not bind root
        things.create(connection)
    database.close()


def test_a_full_disk_is_reported_and_nothing_is_changed(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    with database.transaction() as connection:
        things.create(connection)
    with pytest.raises(DatabaseFull) as caught, database.transaction() as connection:  # noqa: PT012
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        connection.execute(sa.insert(things).values(id=1, data="x" * 100_000))
    assert not caught.value.retryable
    assert count(database) == 0
    database.close()


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("This is a letter, not a database." * 100)
    with pytest.raises(DatabaseDamaged, match=r"x\.db"):
        open_database(f"sqlite:///{path}")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=r"file/x\.db"):
        open_database(f"sqlite:///{tmp_path}/file/x.db")


def test_a_writer_that_waits_too_long_is_told_that_the_database_is_busy(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/x.db")
    with database.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")  # stays with the pooled connection
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy) as caught, database.transaction():
        pass
    assert caught.value.retryable
    other.close()
    database.close()
