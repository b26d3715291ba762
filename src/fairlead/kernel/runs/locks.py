"""Locks that vanish with the process that holds them: the only failure detector that needs no clock.

SQLite: `flock` on a file beside the database. PostgreSQL: a session's advisory lock on a
connection of its own. A process that is stopped (SIGSTOP) or frozen keeps its locks.
"""

import fcntl
import hashlib
import threading
from pathlib import Path
from typing import IO, Protocol

import sqlalchemy as sa

from fairlead.kernel.db import Database


class Lock(Protocol):
    """A lock that is held."""

    def alive(self) -> bool:
        """Whether it is still held; asks the server where there is one."""

    def release(self, *, for_good: bool) -> None:
        """Give it back; `for_good` leaves no trace of it."""


class Locks:
    """Locks of this process in one database, so that a lost one is noticed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, Lock] = {}
        self._guard = threading.Lock()
        self._kept = False

    def take(self, name: str, *, shared: bool = False) -> bool:
        """Try to take `name`; False where anybody, this process included, holds it.

        A `shared` name is never taken otherwise: any number of processes hold it, and `held` sees it.
        """
        take = _take_file if self._database.is_sqlite else _take
        lock = take(self._database, name, shared)
        if lock is None:
            return False
        with self._guard:
            self._held[name] = lock
        return True

    def keep(self) -> None:
        """From now on release nothing: only the end of the process shows that its effects have ended."""
        self._kept = True

    def release(self, name: str, *, for_good: bool = False) -> None:
        """Give `name` back, nothing where it is not held; `for_good`: the name is never used again."""
        if self._kept:
            return
        with self._guard:
            lock = self._held.pop(name, None)
        if lock is not None:
            lock.release(for_good=for_good)

    def lost(self) -> list[str]:
        """Names that this process believes to hold and does not."""
        with self._guard:
            held = list(self._held.items())
        # A lock released meanwhile is not lost.
        return [name for name, lock in held if not lock.alive() and name in self._held]

    def release_all(self) -> None:
        """Give everything back."""
        for name in list(self._held):
            self.release(name)


def held(database: Database, name: str) -> bool:
    """Whether any process, this one included, holds the shared `name`."""
    if database.is_sqlite:
        # Asks by taking it for a moment, for which those who begin to share it wait.
        lock = _take_file(database, name, shared=False)
        if lock is not None:
            lock.release(for_good=False)
        return lock is None
    high, low = divmod(_key(name) & 0xFFFF_FFFF_FFFF_FFFF, 2**32)
    statement = sa.text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND classid::bigint = :high AND objid::bigint = :low"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    with database.reading() as connection:
        return bool(connection.execute(statement, {"high": high, "low": low}).scalar())


class _FileLock:
    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def alive(self) -> bool:
        return True  # the kernel takes it only together with the process

    def release(self, *, for_good: bool) -> None:
        if for_good:
            self._path.unlink(missing_ok=True)
        self._file.close()


def _take_file(database: Database, name: str, shared: bool) -> Lock | None:
    assert database.path is not None
    folder = database.path.with_name(database.path.name + ".locks")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / _file_name(name)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return _FileLock(file, path)


def _file_name(name: str) -> Path:
    return Path(hashlib.sha256(name.encode()).hexdigest()[:32] + ".lock")


class _SessionLock:
    def __init__(self, connection: sa.Connection, key: int) -> None:
        self._connection = connection
        self._key = key
        self._guard = threading.Lock()

    def alive(self) -> bool:
        with self._guard:
            try:
                self._connection.execute(sa.select(1))
            except (sa.exc.SQLAlchemyError, OSError):
                return False
            return True

    def release(self, *, for_good: bool) -> None:  # noqa: ARG002 - a session leaves no trace anyway
        with self._guard:
            self._connection.close()  # detached from the pool: this ends the session


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"fairlead:{name}".encode()).digest()[:8], signed=True)


def _take(database: Database, name: str, shared: bool) -> Lock | None:
    take = sa.func.pg_try_advisory_lock_shared if shared else sa.func.pg_try_advisory_lock
    connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    try:
        # The server, too, must notice within seconds that our machine has gone.
        for setting, value in (("idle", 5), ("interval", 2), ("count", 3)):
            connection.exec_driver_sql(f"SET tcp_keepalives_{setting} = {value}")
        if connection.execute(sa.select(take(_key(name)))).scalar():
            return _SessionLock(connection, _key(name))
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None
