import threading

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fairlead.kernel import audit
from fairlead.kernel.db import Database, metadata, migrate, open_database
from fairlead.kernel.runs import open_runs, store


def test_the_migrations_make_the_tables_that_the_code_declares(database: Database) -> None:
    # Whatever other modules this process has imported declared tables too: all must match.
    assert {store.runs.name, store.run_events.name, audit.table.name} <= metadata.tables.keys()
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables},
        )
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = sorted(sa.inspect(database.engine).get_table_names())
    migrate(database)
    open_runs(database).close()
    assert sorted(sa.inspect(database.engine).get_table_names()) == before


def test_an_older_release_works_on_the_tables_of_a_newer_one(database: Database) -> None:
    def revision() -> object:
        with database.reading() as connection:
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()

    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_later'")
        connection.exec_driver_sql("CREATE TABLE later (id INTEGER PRIMARY KEY)")
    migrate(database)
    assert revision() == "9999_later"
    with database.transaction() as connection:
        entry = audit.append(connection, actor="test", action="test", subject="test")
        assert audit.newest(connection) == entry


def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    failures: list[Exception] = []

    def start() -> None:
        try:
            database = open_database(empty_database_url)
            migrate(database)
            open_runs(database).close()
            database.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    database = open_database(empty_database_url)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(store.runs)).scalar() == 0
    database.close()
