import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dbos import DBOS
from dbos._serialization import DefaultSerializer

from fairlead.kernel.db import Database
from fairlead.kernel.runs import binding
from fairlead.kernel.runs.liveness import Liveness
from fairlead.kernel.runs.locks import Locks, held
from tests.kernel.runs_fixtures import until
from tests.services import Postgres


def test_a_lock_is_held_once_whoever_asks(database: Database) -> None:
    mine, yours = Locks(database), Locks(database)
    assert mine.take("project:a")
    assert not yours.take("project:a")
    assert not mine.take("project:a")
    assert yours.take("project:b")
    mine.release("project:a")
    assert yours.take("project:a")
    mine.release_all()
    yours.release_all()
    assert mine.take("project:a")
    mine.release_all()


def test_a_shared_lock_is_seen_for_as_long_as_anybody_holds_it(database: Database) -> None:
    mine, yours = Locks(database), Locks(database)
    assert not held(database, "workers")
    assert mine.take("workers", shared=True)
    assert yours.take("workers", shared=True)
    assert held(database, "workers")
    mine.release_all()
    assert held(database, "workers")
    assert not held(database, "others")
    yours.release_all()
    deadline = time.monotonic() + 60  # a session of PostgreSQL ends a moment after its connection
    while held(database, "workers"):
        assert time.monotonic() < deadline


def test_names_that_no_file_could_have_are_locked_too(database: Database) -> None:
    locks = Locks(database)
    assert locks.take("project:../../etc/passwd\n" + "x" * 500)
    locks.release_all()


def test_locks_that_are_kept_are_given_back_by_nothing_but_the_end_of_the_process(database: Database) -> None:
    mine, yours = Locks(database), Locks(database)
    assert mine.take("a")
    mine.keep()
    mine.release("a")
    mine.release_all()
    assert not yours.take("a")


def test_a_lock_vanishes_with_its_process(database: Database, database_url: str) -> None:
    program = (
        "import sys; from fairlead.kernel.db import open_database; from fairlead.kernel.runs import locks;"
        f" held = locks.Locks(open_database({database_url!r}));"
        " print(held.take('x'), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    locks = Locks(database)
    assert not locks.take("x")
    process.kill()
    process.communicate()
    until(lambda: locks.take("x"))
    locks.release_all()


def test_locks_that_are_held_are_not_lost(database: Database) -> None:
    locks = Locks(database)
    locks.take("a")
    locks.take("b")
    assert locks.lost() == []
    locks.release("a")
    assert locks.lost() == []
    locks.release_all()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lock_whose_session_was_ended_is_lost(database: Database, postgres: Postgres) -> None:
    locks = Locks(database)
    locks.take("a")
    with database.reading() as connection:
        pid = connection.exec_driver_sql(
            "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        ).scalar_one()
    postgres.command(f"SELECT pg_terminate_backend({pid})")
    until(lambda: locks.lost() == ["a"])
    locks.release_all()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_blocked_event_loop_is_noticed_and_a_busy_one_is_not(database: Database) -> None:
    reasons: list[str] = []
    hung = threading.Event()

    def die(reason: str) -> None:
        reasons.append(reason)
        hung.set()

    liveness = Liveness(
        database,
        Locks(database),
        "me",
        interval_s=0.02,
        loop=asyncio.get_running_loop(),
        hang_s=3.0,  # a busy machine may keep a busy loop waiting for a second
        die=die,
    )
    liveness.start()
    deadline = asyncio.get_running_loop().time() + 3.5
    while asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - this is what is tested
        await asyncio.sleep(0.001)
    assert reasons == []
    assert hung.wait(timeout=60)  # this very thread is the loop's, and it is blocked here
    liveness.stop()
    assert "has not answered" in reasons[0]


def test_what_is_private_in_the_engine_is_still_there(database: Database) -> None:
    # An upgrade that moves any of these must fail here, loudly, and not in the night.
    assert callable(DBOS._recover_pending_workflows)
    assert DefaultSerializer.deserialize is binding._refuse
    assert DefaultSerializer.serialize is binding._refuse
    assert binding.owners(database) == ()
    assert binding.abandoned(database) == ()


def test_lock_files_lie_beside_the_database(database: Database) -> None:
    locks = Locks(database)
    locks.take("x")
    if database.path is not None:
        folder = Path(f"{database.path}.locks")
        assert len(list(folder.iterdir())) == 1
        assert folder.stat().st_mode & 0o077 == 0
    locks.release_all()
