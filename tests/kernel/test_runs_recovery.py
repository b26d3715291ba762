"""What becomes of runs when workers die, hang, stop or lose their locks. Real processes, real kill -9."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.kernel.db import open_database
from fairlead.kernel.runs import RunStatus, open_runs
from fairlead.kernel.runs.liveness import EXIT_CODE
from tests.kernel.runs_fixtures import Bench, at, in_a_while, moment, until
from tests.services import Postgres

TAKE_OVER_S = 40.0  # seconds, on a machine that has nothing else to do


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[Bench]:
    database = open_database(database_url)
    bench = Bench(database_url, tmp_path, database, open_runs(database))
    yield bench
    bench.close()


def owner_of(bench: Bench, run_id: str, *words: str) -> str:
    """Executor id of the worker whose process noted the last effect that begins so."""
    line = until(lambda: bench.effects(*words, run_id))[-1]
    pid = int(line.split("pid=")[1].split()[0])
    return next(name for name, process in bench.workers.items() if process.pid == pid)


def test_a_graph_survives_kill_9_in_every_node_and_repeats_only_what_was_in_progress(bench: Bench) -> None:
    names = [bench.start_worker() for _ in range(4)]
    bench.await_ready()
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    deaths = ["a", "c", "d"]
    run_id = bench.submit("graph", {"graph": graph, "die": deaths, "parallelism": 1})
    run = bench.await_status(run_id, RunStatus.SUCCEEDED)

    assert run.result is not None
    assert {name: outcome[0] for name, outcome in run.result.items()} == dict.fromkeys(graph, "succeeded")
    assert run.result["d"][1] == ["a", "b", "c", "d"]
    begun = [line.split()[2] for line in bench.effects("begin", run_id)]
    assert begun == ["a", "a", "b", "c", "c", "d", "d"]
    assert [line.split()[2] for line in bench.effects("end", run_id)] == ["a", "b", "c", "d"]
    # Events of repeated steps are there once, numbered without gaps.
    events = bench.runs.events(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [e.data["node"] for e in events if e.type == "test.node"] == ["a", "b", "c", "d"]
    assert [e.type for e in events].count("run.started") == 1
    # Each successor began within seconds of its predecessor's death.
    for node in deaths:
        died, resumed = (at(line) for line in bench.effects("begin", run_id, node))
        assert resumed - died < TAKE_OVER_S
    assert sum(bench.workers[name].exitcode == -9 for name in names) == 3


def test_nodes_in_parallel_are_resumed_together(bench: Bench) -> None:
    first, second = bench.start_worker(), bench.start_worker()
    bench.await_ready()
    graph = {"a": [], "b": [], "c": [], "z": ["a", "b", "c"]}
    gates = {"b": "gate", "c": "gate"}
    run_id = bench.submit("graph", {"graph": graph, "gates": gates})
    until(lambda: bench.effects("end", run_id, "a") and len(bench.effects("begin", run_id)) == 3)
    # The end of a step and its record are two moments; wait for a sign that "a" is recorded.
    until(lambda: recorded_steps(bench, run_id) >= 1)
    dead = owner_of(bench, run_id, "begin")
    bench.kill(dead)
    until(lambda: len(bench.effects("begin", run_id)) == 5)
    bench.open_gate("gate")
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    begun = sorted(line.split()[2] for line in bench.effects("begin", run_id))
    assert begun == ["a", "b", "b", "c", "c", "z"]
    assert {first, second} - {dead} == set(bench.workers)


def recorded_steps(bench: Bench, run_id: str) -> int:
    table = "operation_outputs" if bench.database.is_sqlite else "dbos.operation_outputs"
    with bench.database.reading() as connection:
        statement = f"SELECT count(*) FROM {table} WHERE workflow_uuid = '{run_id}'"
        return int(connection.exec_driver_sql(statement).scalar_one())


def test_waiting_runs_outlive_their_worker_with_decisions_and_deadlines(bench: Bench) -> None:
    only = bench.start_worker()
    bench.await_ready()
    deadline = in_a_while(4.0)
    decided, expiring, cancelled, open_ = (
        bench.submit("wait", {"deadline": d}) for d in (in_a_while(), deadline, in_a_while(), in_a_while())
    )
    for run_id in (decided, cancelled, open_):
        bench.await_status(run_id, RunStatus.WAITING)
    until(lambda: "run.waiting" in bench.types(expiring))
    bench.kill(only)
    bench.decide(decided, {"approved": True})
    bench.cancel(cancelled)
    queued = bench.submit("echo")
    began = time.time()
    bench.start_worker()
    bench.await_ready()

    assert bench.await_status(queued, RunStatus.SUCCEEDED)
    result = bench.await_status(decided, RunStatus.SUCCEEDED).result
    assert result == {"decision": {"approved": True}, "second": None}
    bench.await_status(cancelled, RunStatus.CANCELLED)
    expired = bench.await_status(expiring, RunStatus.SUCCEEDED)
    assert expired.result == {"decision": None}
    assert expired.finished_at is not None
    # Not counted anew from the restart, nor missed.
    assert expired.finished_at >= moment(deadline)
    assert expired.finished_at.timestamp() < max(moment(deadline).timestamp(), began) + TAKE_OVER_S
    until(lambda: bench.runs.get(open_).status is RunStatus.WAITING)
    bench.decide(open_, {"n": 1})
    bench.await_status(open_, RunStatus.SUCCEEDED)
    assert bench.types(open_).count("run.waiting") == 1


def test_a_worker_that_is_asked_to_stop_finishes_its_step_and_leaves_the_rest(bench: Bench) -> None:
    name = bench.start_worker()
    bench.await_ready()
    run_id = bench.submit("steps", {"steps": 3, "gates": [1]})
    waiting = bench.submit("wait", {"deadline": in_a_while()})
    bench.await_status(waiting, RunStatus.WAITING)
    until(lambda: bench.effects("begin", run_id, "1"))
    bench.workers[name].terminate()
    until(lambda: "worker.stopping" in bench.log(name))
    bench.open_gate("gate-1")
    assert bench.exit_code(name) == 0
    assert len(bench.effects("end", run_id, "1")) == 1
    assert bench.effects("begin", run_id, "2") == []

    bench.start_worker()
    bench.await_ready()
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert [line.split()[2] for line in bench.effects("begin", run_id)] == ["0", "1", "2"]
    bench.decide(waiting, {"n": 1})
    bench.await_status(waiting, RunStatus.SUCCEEDED)


def test_a_step_that_does_not_end_in_time_is_cut_short_and_repeated(bench: Bench) -> None:
    name = bench.start_worker(grace_s=0.1)
    bench.await_ready()
    run_id = bench.submit("steps", {"steps": 1, "gates": [0]})
    until(lambda: bench.effects("begin", run_id))
    assert bench.stop(name) == 0
    bench.open_gate("gate-0")
    bench.start_worker()
    bench.await_ready()
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert len(bench.effects("begin", run_id)) == 2


def test_a_worker_whose_event_loop_hangs_dies(bench: Bench) -> None:
    name = bench.start_worker(hang_s=4.0)  # longer than a busy machine needs to start
    bench.await_ready()
    bench.submit("hang")
    assert bench.exit_code(name) == EXIT_CODE
    assert "event loop has not answered" in bench.log(name)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_loses_its_lock_dies_and_another_goes_on(bench: Bench, postgres: Postgres) -> None:
    names = [bench.start_worker(), bench.start_worker()]
    bench.await_ready()
    run_id = bench.submit("steps", {"steps": 2, "gates": [1]})
    until(lambda: bench.effects("begin", run_id, "1"))
    loser = owner_of(bench, run_id, "begin")
    with bench.database.reading() as connection:
        backends = connection.exec_driver_sql(
            "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
            " AND a.datname = current_database() ORDER BY a.backend_start"
        ).scalars()
        pids = list(backends)
    assert len(pids) >= 2
    for pid in pids:
        postgres.command(f"SELECT pg_terminate_backend({pid})")
    assert {bench.exit_code(name) for name in names} == {EXIT_CODE}
    assert "lost locks" in bench.log(loser)
    bench.open_gate("gate-1")
    bench.start_worker()
    bench.await_ready()
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert [line.split()[2] for line in bench.effects("begin", run_id)] == ["0", "1", "1"]
