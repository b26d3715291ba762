"""Real services that tests stand on: one PostgreSQL per test session, one database per test.

A missing service skips loudly on a laptop and fails where CI=true.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from fairlead.kernel.db import Database, migrate, open_database
from fairlead.kernel.runs import open_runs

START_S = 60.0


def missing(what: str) -> NoReturn:
    """Skip, loudly; fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is missing: these tests did NOT run")


@dataclass(frozen=True)
class Postgres:
    """A running server that trusts everybody on the loopback."""

    port: int
    numbers: "count[int]"

    def url(self, name: str) -> str:
        """Of the database `name`."""
        return f"postgresql://fairlead:irrelevant@127.0.0.1:{self.port}/{name}"

    def create(self, template: str = "template0") -> str:
        """Name of a new database, a copy of `template`."""
        name = f"test_{next(self.numbers)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self.command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def command(self, statement: str) -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


def _binaries() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    if found is None:
        missing("PostgreSQL (initdb)")
    return Path(found).resolve().parent


def _account() -> int | None:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    missing("an account other than root for PostgreSQL")


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port where nobody listens, and which the system gives to nobody else while this process lives.

    Servers that bind it by its number can, again and again: those that tests start all reuse addresses.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)  # bound and never listening
    return int(reserved.getsockname()[1])


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server in a temporary folder; stopped and removed at the end."""
    binaries, account = _binaries(), _account()
    folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        if account is not None:
            os.chown(folder, account, -1)
        data = folder / "data"
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "fairlead",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        made = subprocess.run(
            [*initdb, "--no-locale", "-N"], cwd=folder, capture_output=True, text=True, user=account
        )
        assert made.returncode == 0, made.stderr
        port = free_port()
        with (folder / "log").open("wb") as log:
            command: list[str | Path] = [binaries / "postgres", "-D", data, "-k", folder, "-F"]
            command += ["-p", str(port), "-h", "127.0.0.1", "-c", "max_connections=300"]
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, user=account)
        server = Postgres(port=port, numbers=count(1))
        _await_start(server, process, folder / "log")
        yield server
    finally:
        if process is not None:
            process.send_signal(3)  # SIGQUIT: at once; nothing here is to be kept
            process.wait(timeout=START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _await_start(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.command("SELECT 1")
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL server."""
    with running_postgres() as server:
        yield server


def _prepare(url: str) -> None:
    database = open_database(url)
    migrate(database)
    open_runs(database).close()
    database.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """Name of a database with all tables; copies are cheap."""
    name = postgres.create()
    _prepare(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    _prepare(f"sqlite:///{path}")
    return path


@contextmanager
def fresh_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a new database of `kind` with all tables."""
    if kind == "sqlite":
        path = folder / "fairlead.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create(request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new database with all tables, once for each kind."""
    with fresh_database(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new database without tables, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A new database with all tables, once for each kind."""
    opened = open_database(database_url)
    yield opened
    opened.close()
