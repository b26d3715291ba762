"""What runs do while workers live: one database and two workers per kind for the whole module."""

import asyncio
import base64
import os
import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa
from dbos._serialization import DefaultSerializer

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import open_database
from fairlead.kernel.runs import (
    Event,
    RunConflict,
    RunFinished,
    RunNotFound,
    RunStatus,
    WorkerIdTaken,
    follow,
    news,
    open_runs,
    sse,
    sse_stream,
    worker,
)
from fairlead.kernel.runs.binding import PickleRefused
from fairlead.kernel.runs.liveness import lock_name
from fairlead.kernel.runs.locks import Locks
from fairlead.kernel.settings import RunSettings
from tests.kernel.runs_fixtures import Bench, at, in_a_while, until
from tests.services import fresh_database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("runs")
    with fresh_database(request.param, folder, request) as url:
        database = open_database(url)
        bench = Bench(url, folder, database, open_runs(database))
        try:
            for _ in range(2):
                bench.start_worker()
            bench.await_ready()
            yield bench
        finally:
            bench.close()


def test_a_submitted_run_is_executed_and_its_story_told(bench: Bench) -> None:
    run_id = bench.submit("echo", {"colour": "red"}, actor="ann", title="Echo")
    run = bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert run.result == {"kind": "list", "params": {"colour": "red"}, "actor": "ann"}
    assert run.title == "Echo"
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.created_at <= run.started_at <= run.finished_at
    assert bench.types(run_id) == ["run.queued", "run.started", "test.echoed", "run.succeeded"]


def test_an_event_with_a_known_key_is_not_appended_again(bench: Bench) -> None:
    run_id = bench.submit("echo")
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert [e.data for e in bench.runs.events(run_id) if e.type == "test.echoed"] == [{"pair": [1, 2]}]


def test_a_rolled_back_submission_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.database.transaction() as connection:  # noqa: PT012
        run = bench.runs.submit(connection, "test.echo", {}, project_id="p1", actor="ann")
        assert run.status is RunStatus.QUEUED
        1 / 0  # noqa: B018
    with pytest.raises(RunNotFound):
        bench.runs.get(run.id)
    # A later run has been executed: the engine had time enough to begin the lost one.
    bench.await_status(bench.submit("echo"), RunStatus.SUCCEEDED)
    assert bench.effects("echo", run.id) == []


def test_the_same_idempotency_key_gives_the_same_run_back(bench: Bench) -> None:
    first = bench.submit("echo", {"n": 1}, idempotency_key="k1")
    assert bench.submit("echo", {"n": 1}, idempotency_key="k1") == first
    assert bench.submit("echo", {"n": 1}, idempotency_key="k1", project_id="p2") != first
    with pytest.raises(RunConflict):
        bench.submit("echo", {"n": 2}, idempotency_key="k1")
    bench.await_status(first, RunStatus.SUCCEEDED)
    assert len(bench.effects("echo", first)) == 1


def test_the_same_run_id_gives_the_same_run_back(bench: Bench) -> None:
    assert bench.submit("echo", run_id="mine") == bench.submit("echo", run_id="mine") == "mine"
    with pytest.raises(RunConflict):
        bench.submit("wait", run_id="mine")


@pytest.mark.parametrize("where", ["step", "workflow"])
def test_an_expected_failure_keeps_its_code_and_remedy(bench: Bench, where: str) -> None:
    run = bench.await_status(bench.submit("fail", {"how": "expected", "where": where}), RunStatus.FAILED)
    assert run.error is not None
    assert run.error["code"] == "test.out_of_paint"
    assert run.error["status"] == 409
    assert run.error["remedy"] == "Buy paint."
    assert run.error["details"] == {"colour": "red"}
    assert bench.runs.events(run.id)[-1].data == {"problem": run.error}


@pytest.mark.parametrize("how", ["unexpected", "cancelled"])
@pytest.mark.parametrize("where", ["step", "workflow"])
def test_an_unexpected_failure_is_reported_without_its_text(bench: Bench, where: str, how: str) -> None:
    run = bench.await_status(bench.submit("fail", {"how": how, "where": where}), RunStatus.FAILED)
    assert run.error is not None
    assert run.error["code"] == "run.internal"
    assert "hunter2" not in str(bench.runs.events(run.id))


def test_an_unknown_operation_fails_its_run(bench: Bench) -> None:
    run = bench.await_status(bench.submit("nonsense"), RunStatus.FAILED)
    assert run.error is not None
    assert run.error["code"] == "run.operation_unknown"


def test_an_exclusive_operation_outside_its_partition_is_refused(bench: Bench) -> None:
    run = bench.await_status(bench.submit("exclusive"), RunStatus.FAILED)
    assert run.error is not None
    assert run.error["code"] == "run.not_exclusive"
    assert bench.effects("begin", "p1", run.id) == []


def test_runs_of_one_project_never_overlap_while_another_project_goes_on(bench: Bench) -> None:
    blocked = bench.submit("exclusive", {"gate": "later"}, project_id="px", partition="px")
    until(lambda: bench.effects("begin", "px", blocked))
    others = [bench.submit("exclusive", project_id="py", partition="py") for _ in range(4)]
    queued = [bench.submit("exclusive", project_id="px", partition="px") for _ in range(3)]
    for run_id in others:
        bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert {bench.runs.get(run_id).status for run_id in queued} == {RunStatus.QUEUED}
    bench.open_gate("later")
    for run_id in [blocked, *queued]:
        bench.await_status(run_id, RunStatus.SUCCEEDED)
    for project in ("px", "py"):
        times = sorted(
            [(at(line), +1) for line in bench.effects("begin", project)]
            + [(at(line), -1) for line in bench.effects("end", project)]
        )
        assert [change for _, change in times] == [+1, -1] * 4


def test_a_waiting_run_goes_on_with_the_decision(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    assert bench.await_status(run_id, RunStatus.WAITING).waiting_for == "decision"
    bench.decide(run_id, {"approved": True})
    run = bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert run.result == {"decision": {"approved": True}, "second": None}
    assert bench.types(run_id) == ["run.queued", "run.started", "run.waiting", "run.resumed", "run.succeeded"]


def test_a_decision_may_come_before_the_run_waits_for_it(bench: Bench) -> None:
    with bench.database.transaction() as connection:
        params = {"deadline": in_a_while()}
        run = bench.runs.submit(connection, "test.wait", params, project_id=None, actor="ann")
        bench.runs.decide(connection, run.id, "decision", {"n": 1}, idempotency_key="1")
    assert bench.await_status(run.id, RunStatus.SUCCEEDED).result == {"decision": {"n": 1}, "second": None}


def test_a_decision_that_is_sent_twice_counts_once(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while(), "second": in_a_while()})
    bench.decide(run_id, {"n": 1}, key="same")
    bench.decide(run_id, {"n": 2}, key="same")
    bench.decide(run_id, {"n": 3}, topic="more", key="other")
    run = bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert run.result == {"decision": {"n": 1}, "second": {"n": 3}}


def test_a_rolled_back_decision_is_not_delivered(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    with pytest.raises(ZeroDivisionError), bench.database.transaction() as connection:  # noqa: PT012
        bench.runs.decide(connection, run_id, "decision", {"n": 1}, idempotency_key="1")
        1 / 0  # noqa: B018
    bench.await_status(run_id, RunStatus.WAITING)
    bench.decide(run_id, {"n": 2}, key="2")
    result = bench.await_status(run_id, RunStatus.SUCCEEDED).result
    assert result is not None
    assert result["decision"] == {"n": 2}


def test_a_passed_deadline_ends_the_wait_and_later_decisions_are_refused(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while(0.3)})
    run = bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert run.result == {"decision": None}
    with pytest.raises(RunFinished):
        bench.decide(run_id, {"approved": True})
    with pytest.raises(RunNotFound):
        bench.decide("nobody", {})


def test_a_waiting_run_is_cancelled_at_once(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    bench.await_status(run_id, RunStatus.WAITING)
    assert bench.cancel(run_id).cancel_requested
    bench.await_status(run_id, RunStatus.CANCELLED)
    assert bench.types(run_id)[-2:] == ["run.cancel_requested", "run.cancelled"]
    with pytest.raises(RunFinished):
        bench.cancel(run_id)


def test_a_run_that_was_cancelled_before_it_waits_does_not_wait(bench: Bench) -> None:
    with bench.database.transaction() as connection:
        params = {"deadline": in_a_while()}
        run = bench.runs.submit(connection, "test.wait", params, project_id=None, actor="ann")
        # As if it had begun and not yet come to its wait.
        connection.exec_driver_sql(f"UPDATE runs SET status = 'running' WHERE id = '{run.id}'")
        bench.runs.request_cancel(connection, run.id, "bob")
    bench.await_status(run.id, RunStatus.CANCELLED)


def test_a_running_step_that_looks_stops_on_request(bench: Bench) -> None:
    run_id = bench.submit("patient")
    bench.await_status(run_id, RunStatus.RUNNING)
    bench.cancel(run_id)
    bench.cancel(run_id)
    bench.await_status(run_id, RunStatus.CANCELLED)
    assert bench.types(run_id).count("run.cancel_requested") == 1


def test_a_queued_run_is_cancelled_without_being_begun(bench: Bench) -> None:
    first = bench.submit("exclusive", {"gate": "free"}, project_id="pq", partition="pq")
    until(lambda: bench.effects("begin", "pq", first))
    second = bench.submit("exclusive", project_id="pq", partition="pq")
    assert bench.cancel(second).status is RunStatus.CANCELLED
    bench.open_gate("free")
    third = bench.submit("exclusive", project_id="pq", partition="pq")
    bench.await_status(third, RunStatus.SUCCEEDED)
    assert bench.effects("begin", "pq", second) == []


def test_a_failed_node_stops_only_what_depends_on_it(bench: Bench) -> None:
    graph = {"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": ["d", "c"], "f": []}
    run_id = bench.submit("graph", {"graph": graph, "fail": ["b"]})
    result = bench.await_status(run_id, RunStatus.SUCCEEDED).result
    assert result == {
        "a": ["succeeded", ["a"], None],
        "b": ["failed", None, "test.out_of_paint"],
        "c": ["skipped", None, None],
        "d": ["succeeded", ["a", "d"], None],
        "e": ["skipped", None, None],
        "f": ["succeeded", ["f"], None],
    }


def test_nodes_run_in_parallel_but_not_more_than_allowed(bench: Bench) -> None:
    graph: dict[str, list[str]] = {f"n{i}": [] for i in range(6)}
    gates = dict.fromkeys(graph, "dag-gate")
    run_id = bench.submit("graph", {"graph": graph, "gates": gates, "parallelism": 3}, project_id="pn")
    until(lambda: len(bench.effects("begin", run_id)) == 3)
    assert {line.split()[2] for line in bench.effects("begin", run_id)} == {"n0", "n1", "n2"}
    bench.open_gate("dag-gate")
    bench.await_status(run_id, RunStatus.SUCCEEDED)
    assert len(bench.effects("end", run_id)) == 6


def test_a_cancelled_graph_finishes_what_it_began_and_begins_nothing_more(bench: Bench) -> None:
    graph = {"a": [], "b": ["a"], "c": []}
    params = {"graph": graph, "gates": {"a": "cancel-gate"}, "parallelism": 1}
    run_id = bench.submit("graph", params, project_id="pc")
    until(lambda: bench.effects("begin", run_id, "a"))
    bench.cancel(run_id)
    bench.open_gate("cancel-gate")
    result = bench.await_status(run_id, RunStatus.SUCCEEDED).result
    assert result is not None
    assert {name: outcome[0] for name, outcome in result.items()} == {
        "a": "succeeded",
        "b": "cancelled",
        "c": "cancelled",
    }


def test_the_project_lock_keeps_two_runs_of_one_project_apart(bench: Bench) -> None:
    gated = {"graph": {"a": []}, "gates": {"a": "lock-gate"}}
    first = bench.submit("graph", gated, project_id="pl")
    until(lambda: bench.effects("begin", first))
    second = bench.submit("graph", {"graph": {"a": []}}, project_id="pl")
    other = bench.submit("graph", {"graph": {"a": []}}, project_id="pm")
    bench.await_status(other, RunStatus.SUCCEEDED)
    bench.await_status(second, RunStatus.RUNNING)
    assert bench.effects("begin", second) == []
    bench.open_gate("lock-gate")
    bench.await_status(second, RunStatus.SUCCEEDED)
    assert at(bench.effects("end", first)[0]) <= at(bench.effects("begin", second)[0])


def test_a_hundred_waiting_runs_do_not_block_others(bench: Bench) -> None:
    with bench.database.transaction() as connection:
        waiting = [
            bench.runs.submit(
                connection, "test.wait", {"deadline": in_a_while()}, project_id="crowd", actor="ann"
            ).id
            for _ in range(100)
        ]
    until(lambda: len(bench.runs.list(project_id="crowd", status=RunStatus.WAITING, limit=200)) == 100)
    bench.await_status(bench.submit("echo"), RunStatus.SUCCEEDED)
    bench.await_status(bench.submit("exclusive", project_id="pb", partition="pb"), RunStatus.SUCCEEDED)
    with bench.database.transaction() as connection:
        for run_id in waiting:
            bench.runs.decide(connection, run_id, "decision", {"n": 1}, idempotency_key="1")
    until(lambda: len(bench.runs.list(project_id="crowd", status=RunStatus.SUCCEEDED, limit=200)) == 100)


class Evil:
    """A pickle of this touches a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)

    def text(self) -> str:
        return base64.b64encode(pickle.dumps(self)).decode()


def tamper(connection: sa.Connection, statement: str, **values: str) -> None:
    if connection.dialect.name != "sqlite":
        statement = statement.replace("UPDATE ", "UPDATE dbos.")
    assert connection.execute(sa.text(statement), values).rowcount == 1


def test_a_pickled_record_is_refused_and_its_code_never_runs(bench: Bench, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "executed")
    with bench.database.transaction() as connection:
        run = bench.runs.submit(
            connection, "test.exclusive", {}, project_id="evil", partition="evil", actor="mallory"
        )
        tamper(
            connection,
            "UPDATE workflow_status SET serialization = 'py_pickle' WHERE workflow_uuid = :id",
            id=run.id,
        )
        tamper(
            connection,
            "UPDATE workflow_input SET inputs = :text WHERE workflow_uuid = :id",
            text=evil.text(),
            id=run.id,
        )
    ended = bench.await_status(run.id, RunStatus.FAILED)
    assert ended.error is not None
    assert ended.error["code"] == "run.lost"
    assert not evil.marker.exists()
    # Its place in the queue is free again.
    after = bench.submit("exclusive", project_id="evil", partition="evil")
    bench.await_status(after, RunStatus.SUCCEEDED)


def test_a_run_that_the_engine_no_longer_knows_ends(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    bench.await_status(run_id, RunStatus.WAITING)
    bench.runs.client.delete_workflow(run_id)
    assert (bench.await_status(run_id, RunStatus.FAILED).error or {})["code"] == "run.lost"


def test_a_pickled_message_is_refused_and_its_code_never_runs(bench: Bench, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "executed")
    with bench.database.transaction() as connection:
        params = {"deadline": in_a_while()}
        run = bench.runs.submit(connection, "test.wait", params, project_id="p1", actor="mallory")
        bench.runs.decide(connection, run.id, "decision", {}, idempotency_key="1")
        tamper(
            connection,
            "UPDATE notifications SET message = :text, serialization = 'py_pickle'"
            " WHERE destination_uuid = :id",
            text=evil.text(),
            id=run.id,
        )
    ended = bench.await_status(run.id, RunStatus.FAILED)
    assert ended.error is not None
    assert ended.error["code"] == "run.pickle_refused"
    assert not evil.marker.exists()


def test_no_step_was_ever_recorded_as_a_pickle(bench: Bench) -> None:
    bench.await_status(bench.submit("echo"), RunStatus.SUCCEEDED)
    table = "operation_outputs" if bench.database.is_sqlite else "dbos.operation_outputs"
    with bench.database.reading() as connection:
        kinds = connection.execute(sa.text(f"SELECT DISTINCT serialization FROM {table}")).scalars()
        assert "py_pickle" not in set(kinds)


def test_pickling_is_refused_in_both_directions() -> None:
    with pytest.raises(PickleRefused):
        DefaultSerializer().serialize({"harmless": 1})
    with pytest.raises(PickleRefused):
        DefaultSerializer().deserialize(base64.b64encode(pickle.dumps(1)).decode())


async def test_a_second_worker_with_the_same_id_is_refused(bench: Bench) -> None:
    taken = next(iter(bench.workers))
    with pytest.raises(WorkerIdTaken, match=taken):
        async with worker(bench.database, (), RunSettings(), executor_id=taken):
            pass
    # The attempt has not loosened the first one's hold.
    assert not Locks(bench.database).take(lock_name(taken))


def test_runs_of_another_release_are_reported(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    bench.await_status(run_id, RunStatus.WAITING)
    statement = "UPDATE workflow_status SET application_version = :v WHERE workflow_uuid = :id"
    with bench.database.transaction() as connection:
        tamper(connection, statement, v="0-old", id=run_id)
    until(lambda: all("0-old" in bench.log(name) for name in bench.workers))
    with bench.database.transaction() as connection:
        tamper(connection, statement, v="1", id=run_id)
    bench.cancel(run_id)
    bench.await_status(run_id, RunStatus.CANCELLED)


def test_runs_are_listed_newest_first_page_by_page(bench: Bench) -> None:
    ids = [bench.submit("echo", project_id="paged") for _ in range(5)]
    for run_id in ids:
        bench.await_status(run_id, RunStatus.SUCCEEDED)
    pages, before = [], None
    while page := bench.runs.list(project_id="paged", before=before, limit=2):
        pages.append([run.id for run in page])
        before = page[-1].id
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [run_id for page in pages for run_id in page] == ids[::-1]
    assert bench.runs.list(project_id="paged", status=RunStatus.FAILED) == ()
    assert len(bench.runs.list(project_id="paged", kind="test.echo")) == 5
    assert bench.runs.list(project_id="paged", kind="test.wait") == ()


def test_events_appended_at_once_are_numbered_without_gaps(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    bench.await_status(run_id, RunStatus.WAITING)
    before = len(bench.runs.events(run_id))

    def append(name: str) -> None:
        for number in range(10):
            with bench.database.transaction() as connection:
                bench.runs.append_event(connection, run_id, "test.note", {"from": name}, f"{name}-{number}")

    threads = [Thread(target=append, args=(name,)) for name in "abca"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = bench.runs.events(run_id)
    assert [event.seq for event in events] == list(range(1, before + 30 + 1))
    bench.cancel(run_id)
    bench.await_status(run_id, RunStatus.CANCELLED)


@pytest.mark.parametrize("after", [0, 1, 2, 4, 5, 99])
async def test_events_can_be_followed_from_any_number(bench: Bench, after: int) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    await asyncio.to_thread(bench.await_status, run_id, RunStatus.WAITING)
    following = asyncio.create_task(_collect(bench, run_id, after))
    await asyncio.to_thread(bench.decide, run_id, {"n": 1})
    events = await asyncio.wait_for(following, 60)
    assert [event.seq for event in events] == list(range(1, 6))[after:]
    if after < 5:
        assert events[-1].type == "run.succeeded"


async def _collect(bench: Bench, run_id: str, after: int) -> list[Event]:
    return [event async for event in follow(bench.database, run_id, after, poll_s=0.02)]


def test_news_of_many_runs_come_at_once_in_order_and_without_what_was_seen(bench: Bench) -> None:
    ids = [bench.submit("echo") for _ in range(3)]
    for run_id in ids:
        bench.await_status(run_id, RunStatus.SUCCEEDED)
    whole = {run_id: [event.seq for event in bench.runs.events(run_id)] for run_id in ids}
    first, second, third = ids
    found = news(bench.database, {first: 0, second: 2, third: len(whole[third]), "gone": 0})
    told = {run_id: [event.seq for event in found.events if event.run_id == run_id] for run_id in ids}
    assert told == {first: whole[first], second: whole[second][2:], third: []}
    assert found.ended == {*ids, "gone"}
    part = news(bench.database, {first: 0, second: 0}, limit=len(whole[first]) + 1)
    assert len(part.events) == len(whole[first]) + 1
    assert part.ended == {min(first, second)}


async def test_following_an_unknown_run_says_so(bench: Bench) -> None:
    with pytest.raises(RunNotFound):
        await anext(follow(bench.database, "nobody"))


async def test_a_silent_stream_carries_comments(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    await asyncio.to_thread(bench.await_status, run_id, RunStatus.WAITING)
    texts = []
    async for text in sse_stream(bench.database, run_id, 2, poll_s=0.02, heartbeat_s=0.1):
        texts.append(text)
        if text.startswith(":"):
            await asyncio.to_thread(bench.cancel, run_id)
    events = [text for text in texts if not text.startswith(":")]
    assert [text.splitlines()[0] for text in events] == ["id: 3", "id: 4", "id: 5"]
    assert [text.splitlines()[1] for text in events][-1] == "event: run.cancelled"
    assert texts[1] == ": nothing new\n\n"


def test_a_server_sent_event_is_one_line_of_data_whatever_it_holds(bench: Bench) -> None:
    run_id = bench.submit("wait", {"deadline": in_a_while()})
    with bench.database.transaction() as connection:
        event = bench.runs.append_event(connection, run_id, "test.note", {"text": "ä\nb\r\n\u2028c"})
    text = sse(event)
    assert text.startswith(f"id: {event.seq}\nevent: test.note\ndata: {{")
    assert text.endswith("}\n\n")
    assert text.count("\n") == 4
    bench.cancel(run_id)


def test_pruning_drops_events_and_checkpoints_of_old_runs_only(bench: Bench) -> None:
    old = bench.submit("echo", project_id="pruned")
    bench.await_status(old, RunStatus.SUCCEEDED)
    waiting = bench.submit("wait", {"deadline": in_a_while()}, project_id="pruned")
    bench.await_status(waiting, RunStatus.WAITING)
    assert bench.runs.prune(utc_now() - timedelta(days=90)) == 0
    while bench.runs.prune(utc_now() + timedelta(seconds=1)):
        pass
    assert bench.runs.get(old).status is RunStatus.SUCCEEDED
    assert bench.runs.events(old) == ()
    assert bench.types(waiting) == ["run.queued", "run.started", "run.waiting"]
    schema = "" if bench.database.is_sqlite else "dbos."
    with bench.database.reading() as connection:
        left = connection.execute(
            sa.text(f"SELECT workflow_uuid FROM {schema}workflow_status WHERE workflow_uuid IN (:a, :b)"),
            {"a": old, "b": waiting},
        ).scalars()
        assert list(left) == [waiting]
    assert asyncio.run(_collect(bench, old, 0)) == []
    bench.decide(waiting, {"n": 1})
    bench.await_status(waiting, RunStatus.SUCCEEDED)


def test_no_worker_has_stumbled(bench: Bench) -> None:
    for name, process in bench.workers.items():
        assert process.is_alive()
        assert "liveness_failed" not in bench.log(name)
        assert "prune_failed" not in bench.log(name)
