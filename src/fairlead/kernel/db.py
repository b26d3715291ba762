"""One SQL database, SQLite or PostgreSQL, behind one door: `with database.transaction() as connection:`.

Our tables and the run engine's live in the same database, so that a run, its audit entry and
its workflow commit together or not at all. SQLAlchemy Core only.
"""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError, SettingsInvalid, Unavailable

BUSY_TIMEOUT_MS = 30_000
_MIGRATION_LOCK = 0x6661_6972  # "fair": PostgreSQL advisory lock that one migrator holds at a time

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of ours, declared beside the functions that use it."""

_open: ContextVar[bool] = ContextVar("fairlead_transaction_open", default=False)


class DatabaseUrlInvalid(SettingsInvalid):
    """The database URL has a form that cannot be used."""

    code = "database.url_invalid"


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database.unavailable"


class DatabaseBusy(Unavailable):
    """The database is locked by other work; the transaction was rolled back."""

    code = "database.busy"


class DatabaseReadOnly(FairleadError):
    """The database cannot be written to."""

    code, status, retryable = "database.read_only", 503, False


class DatabaseFull(FairleadError):
    """The database has no room left."""

    code, status, retryable = "database.full", 507, False


class DatabaseDamaged(FairleadError):
    """The database file is damaged or is not a database."""

    code, status, retryable = "database.damaged", 500, False


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment: aware datetimes in, aware datetimes in UTC out, on both databases."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """UTC, naive in SQLite's text. Raises ValueError on a naive datetime: whose time is that?"""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. `str(url)` hides the password."""

    engine: sa.Engine
    url: sa.URL

    @property
    def is_sqlite(self) -> bool:
        """Whether this is one local file (else PostgreSQL)."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """SQLite's file; None for PostgreSQL."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that may write: commits at the end, rolls back on any exception.

        On SQLite it holds the only write lock from its first moment (BEGIN IMMEDIATE), so keep it
        short; a network call inside is refused by `resilience.call`, a second one inside is a bug.
        Raises DatabaseUnavailable, DatabaseBusy, DatabaseReadOnly, DatabaseFull, DatabaseDamaged.
        """
        with self._begin("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One transaction that only reads: never waits for a writer, never makes one wait."""
        with self._begin("BEGIN") as connection:
            yield connection

    @contextmanager
    def _begin(self, statement: str) -> Iterator[sa.Connection]:
        if _open.get():
            raise RuntimeError("a transaction is already open here: pass its connection on")
        token = _open.set(True)
        try:
            with (
                _explained(self.url),
                self.engine.connect().execution_options(fairlead_begin=statement) as connection,
                connection.begin(),
            ):
                yield connection
        finally:
            _open.reset(token)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def in_transaction() -> bool:
    """Whether the caller (this thread or task) is inside `Database.transaction()`."""
    return _open.get()


def open_database(url: str) -> Database:
    """Open the database at `url` and prove that it answers; a missing SQLite file is created.

    `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:5432/name`.
    Raises DatabaseUrlInvalid and what `transaction` raises; no message holds the password.
    """
    parsed = _parse(url)
    with _explained(parsed):
        if parsed.get_backend_name() == "sqlite":
            return Database(_open_sqlite(parsed), parsed)
        return Database(_open_postgresql(parsed), parsed)


_migrating = threading.Lock()  # alembic keeps its context in module globals


def migrate(database: Database) -> None:
    """Bring our tables to the newest revision, in one transaction; safe from several processes at once."""
    config = alembic.config.Config()
    config.set_main_option("script_location", "fairlead:migrations")
    with _migrating, database.transaction() as connection:
        if not database.is_sqlite:  # SQLite's BEGIN IMMEDIATE is such a lock already
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        if _made_by_a_newer_release(connection, config):
            return
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _made_by_a_newer_release(connection: sa.Connection, config: alembic.config.Config) -> bool:
    """Whether the tables are of a revision that this release does not know.

    Revisions only add, and what they add has defaults or is written by newer code alone. So an older release
    works on them, which is what rolling back a deployment needs.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is None or revision in known:
        return False
    telemetry.log.warning("db.newer_revision", revision=revision)
    return True


def _parse(url: str) -> sa.URL:
    remedy = "Use sqlite:///path/to/file.db or postgresql://user:password@host:5432/name."
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # The parser's own message quotes the URL, password included.
        raise DatabaseUrlInvalid("The database URL cannot be parsed.", remedy=remedy) from None
    match parsed.drivername:
        case "sqlite":
            return _parse_sqlite(parsed, remedy)
        case "postgres" | "postgresql" | "postgresql+psycopg":
            if not parsed.database:
                raise DatabaseUrlInvalid("The database URL does not name a database.", remedy=remedy)
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise DatabaseUrlInvalid(f"Databases of kind {other!r} are not supported.", remedy=remedy)


def _parse_sqlite(parsed: sa.URL, remedy: str) -> sa.URL:
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseUrlInvalid("An SQLite database needs a file: processes share it.", remedy=remedy)
    if parsed.host or parsed.query:
        raise DatabaseUrlInvalid("An SQLite URL has a path only: three slashes, no options.", remedy=remedy)
    return parsed.set(database=str(Path(parsed.database).absolute()))


def _open_sqlite(url: sa.URL) -> sa.Engine:
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
        # Two processes that switch to WAL at once would get SQLITE_BUSY in spite of any timeout.
        with path.with_name(path.name + ".open.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            engine = _sqlite_engine(url)
            _use_wal(engine, path)
    except OSError as error:
        raise DatabaseUnavailable(
            f"The database file {path} cannot be opened: {error.strerror}.",
            remedy="Check that the folder exists, is writable and has room.",
        ) from error
    return engine


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=10,
        max_overflow=40,
        pool_timeout=30,
        hide_parameters=True,  # a traceback must not quote password hashes
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is deferred and would deadlock writers
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        statement = connection.get_execution_options().get("fairlead_begin", "BEGIN IMMEDIATE")
        connection.exec_driver_sql(statement)

    return engine


def _use_wal(engine: sa.Engine, path: Path) -> None:
    raw = engine.raw_connection()
    try:
        (mode,) = raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
    except Exception as error:
        engine.dispose()
        raise sa.exc.DBAPIError.instance(
            "PRAGMA journal_mode=WAL",
            None,
            error,
            engine.dialect.dbapi.Error,  # type: ignore[union-attr]
        ) from error
    finally:
        raw.close()
    if mode != "wal":
        engine.dispose()
        raise DatabaseUnavailable(
            f"{path} lies on a file system that cannot be shared between processes.",
            remedy="Put the data folder on a local disk, or use PostgreSQL.",
        )


def _open_postgresql(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=5,
        max_overflow=15,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": 10, "application_name": "fairlead"},
    )
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def _explained(url: sa.URL) -> Iterator[None]:
    """Turn the driver's operational errors into ours; integrity errors and bugs pass unchanged."""
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise DatabaseBusy("Every database connection is in use.", remedy="Try again.") from error
    except sa.exc.DBAPIError as error:
        explained = explain(error, url)
        if explained is None:
            raise
        raise explained from error


def explain(error: sa.exc.DBAPIError, url: sa.URL) -> FairleadError | None:
    """What the driver's `error` means to an operator; None where it is not about the database itself."""
    place = (
        f"The database file {url.database}" if url.get_backend_name() == "sqlite" else f"The database {url}"
    )
    kind = _kind(error)
    if kind is DatabaseUnavailable:
        return kind(f"{place} does not answer.", remedy="Check that it runs and that the URL is right.")
    if kind is DatabaseBusy:
        return kind(f"{place} is busy with other work.", remedy="Try again.")
    if kind is DatabaseReadOnly:
        return kind(f"{place} is read-only.", remedy="Check its permissions and its disk.")
    if kind is DatabaseFull:
        return kind(f"{place} has no room left.", remedy="Free disk space; nothing was changed.")
    if kind is DatabaseDamaged:
        return kind(f"{place} is damaged or is not a database.", remedy="Restore it from a backup.")
    return None


_SQLITE_KINDS: dict[str, type[FairleadError]] = {
    "SQLITE_BUSY": DatabaseBusy,
    "SQLITE_LOCKED": DatabaseBusy,
    "SQLITE_READONLY": DatabaseReadOnly,
    "SQLITE_PERM": DatabaseReadOnly,
    "SQLITE_FULL": DatabaseFull,
    "SQLITE_IOERR": DatabaseUnavailable,
    "SQLITE_CANTOPEN": DatabaseUnavailable,
    "SQLITE_CORRUPT": DatabaseDamaged,
    "SQLITE_NOTADB": DatabaseDamaged,
}
_SQLSTATE_KINDS: dict[str, type[FairleadError]] = {
    "25006": DatabaseReadOnly,  # read_only_sql_transaction
    "40001": DatabaseBusy,  # serialization_failure
    "40P01": DatabaseBusy,  # deadlock_detected
    "53100": DatabaseFull,  # disk_full
    "55P03": DatabaseBusy,  # lock_not_available
}


def _kind(error: sa.exc.DBAPIError) -> type[FairleadError] | None:
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        # Extended codes carry a suffix: SQLITE_BUSY_SNAPSHOT, SQLITE_READONLY_DIRECTORY.
        return next((kind for prefix, kind in _SQLITE_KINDS.items() if str(name).startswith(prefix)), None)
    state = getattr(error.orig, "sqlstate", None)
    if state in _SQLSTATE_KINDS:
        return _SQLSTATE_KINDS[state]
    # 08 connection, 28 authorisation, 53 resources, 57P shutting down, 3D no such database; none: no answer.
    lost = state is None or state.startswith(("08", "28", "53", "57P", "3D"))
    if error.connection_invalidated or (isinstance(error, sa.exc.OperationalError) and lost):
        return DatabaseUnavailable
    return None
