"""Watching runs: pages and streams that resume, end, and stop for those who may no longer look."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects import accounts, api_tokens, sessions, store
from fairlead.kernel.projects.model import Role
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.runs.model import Outcome, RunStatus
from tests.api.conftest import World, opened_world, problem
from tests.services import fresh_database

BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def ana(world: World) -> str:
    token = world.person("ana")
    world.person("ben")
    world.project("shop", {"ana": Role.OWNER, "ben": Role.OWNER})
    return token


def happen(world: World, run_id: str, *names: str) -> None:
    with world.database.transaction() as conn:
        for name in names:
            world.runs.append_event(conn, run_id, f"test.{name}", {"name": name})


def finish(world: World, run_id: str) -> None:
    with world.database.transaction() as conn:
        run_store.finish(conn, run_id, Outcome(status=RunStatus.SUCCEEDED, result={"done": True}))


@contextmanager
def streamed(
    world: World, token: str, run_id: str, after: int = 0, **headers: str
) -> Iterator[Iterator[str]]:
    """The lines of a stream."""
    headers = {"Authorization": f"Bearer {token}", **SSE, **headers}
    path = f"/runs/{run_id}/events?after={after}"
    with world.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert "no-cache" in answer.headers["cache-control"]
        yield answer.iter_lines()


def events(lines: Iterator[str], count: int | None = None) -> list[dict[str, Any]]:
    """The next `count` events, or all to the end."""
    found: list[dict[str, Any]] = []
    while count is None or len(found) < count:
        line = next(lines, None)
        if line is None:
            return found
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
    return found


@BOTH
def test_a_stream_tells_what_was_then_what_comes_and_ends_with_the_run(world: World, ana: str) -> None:
    run = world.run("shop")
    happen(world, run, "a", "b")
    with streamed(world, ana, run) as lines:
        assert [e["type"] for e in events(lines, 3)] == ["run.queued", "test.a", "test.b"]
        happen(world, run, "c")
        assert events(lines, 1)[0]["data"] == {"name": "c"}
        finish(world, run)
        assert [e["type"] for e in events(lines)] == ["run.succeeded"]


@pytest.mark.parametrize("by", ["after", "last-event-id"])
def test_a_stream_resumes_from_any_number_without_gap_or_repetition(world: World, ana: str, by: str) -> None:
    run = world.run("shop")
    happen(world, run, *"abcdefgh")
    finish(world, run)
    for after in (0, 1, 5, 9, 10):
        more = {"Last-Event-ID": str(after)} if by == "last-event-id" else {}
        with streamed(world, ana, run, after if by == "after" else 0, **more) as lines:
            assert [e["seq"] for e in events(lines)] == list(range(after + 1, 11))


def test_a_silent_stream_keeps_its_proxies_awake(world: World, ana: str) -> None:
    run = world.run("shop")
    with streamed(world, ana, run, 1) as lines:
        assert next(lines) == "retry: 1000"
        assert any(line.startswith(":") for line, _ in zip(lines, range(5), strict=False))


@pytest.mark.parametrize("how", ["logout", "disabled", "removed", "token"])
def test_a_stream_ends_for_who_may_no_longer_look(world: World, ana: str, how: str) -> None:
    run = world.run("shop")
    credential = world.api_token("ana") if how == "token" else ana
    with streamed(world, credential, run) as lines:
        assert events(lines, 1)[0]["type"] == "run.queued"
        with world.database.transaction() as conn:
            user = accounts.find_user(conn, "ana")
            match how:
                case "logout":
                    sessions.end_all(conn, user.id)
                case "disabled":
                    accounts.update_user(conn, user, {"disabled_at": utc_now()})
                case "token":
                    conn.execute(sa.update(api_tokens.api_tokens).values(revoked_at=utc_now()))
                case "removed":
                    found = store.find_with_role(conn, user.id, "shop")
                    assert found is not None
                    store.remove_member(conn, found[0], "ana")
        assert events(lines) == []
    assert world.call(credential, "GET", f"/runs/{run}/events").status_code in (401, 404)


def test_events_come_in_pages_too(world: World, ana: str) -> None:
    run = world.run("shop")
    happen(world, run, *"abcd")
    page = world.call(ana, "GET", f"/runs/{run}/events?after=1&limit=3").json()
    assert [e["type"] for e in page["items"]] == ["test.a", "test.b", "test.c"]
    assert (page["next_after"], page["final"]) == (4, False)
    finish(world, run)
    page = world.call(ana, "GET", f"/runs/{run}/events?after=4&limit=3").json()
    assert ([e["seq"] for e in page["items"]], page["next_after"], page["final"]) == ([5, 6], 6, True)
    empty = world.call(ana, "GET", f"/runs/{run}/events?after=6").json()
    assert (empty["items"], empty["next_after"], empty["final"]) == ([], 6, True)


@pytest.mark.parametrize(
    ("query", "headers"),
    [("after=-1", {}), ("after=x", {}), ("limit=0", {}), ("", {**SSE, "Last-Event-ID": "soon"})],
    ids=["negative", "word", "no-limit", "odd-id"],
)
def test_a_bad_position_is_refused(world: World, ana: str, query: str, headers: dict[str, str]) -> None:
    run = world.run("shop")
    problem(world.call(ana, "GET", f"/runs/{run}/events?{query}", headers=headers), 422, "input.invalid")


@BOTH
def test_cancelling_is_recorded_once_and_refused_after_the_end(world: World, ana: str) -> None:
    run = world.run("shop")
    cancelled = world.call(ana, "POST", f"/runs/{run}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    problem(world.call(ana, "POST", f"/runs/{run}/cancel"), 409, "run.finished")
    audit = world.call(ana, "GET", "/projects/shop/audit").json()["items"]
    assert [e["subject"] for e in audit if e["action"] == "run.cancel_requested"] == [f"run:{run}"]


def test_a_run_without_project_is_for_administrators(world: World, ana: str) -> None:
    admin = world.person("root", is_admin=True)
    run = world.run(None)
    assert world.call(admin, "GET", f"/runs/{run}").json()["project"] is None
    problem(world.call(ana, "GET", f"/runs/{run}"), 404, "run.not_found")


def test_open_streams_do_not_hold_up_the_shutdown(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, password_hash: str
) -> None:
    folder = tmp_path_factory.mktemp("shutdown")
    ends: list[float] = []
    readers: list[threading.Thread] = []

    def read(world: World, token: str, run: str, started: threading.Semaphore) -> None:
        with httpx2.Client(base_url=world.url, timeout=60, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {token}", **SSE}
            with client.stream("GET", f"/runs/{run}/events", headers=headers) as answer:
                for line in answer.iter_lines():
                    if line.startswith("id:"):
                        started.release()
        ends.append(time.monotonic())

    with fresh_database("sqlite", folder, request) as url:
        with opened_world(url, password_hash) as world:
            token = world.person("ana")
            world.project("shop", {"ana": Role.OWNER})
            run, started = world.run("shop"), threading.Semaphore(0)
            for _ in range(5):
                readers.append(threading.Thread(target=read, args=(world, token, run, started)))
                readers[-1].start()
            for _ in readers:
                assert started.acquire(timeout=60)
            world.client.close()
            asked = time.monotonic()
        stopped = time.monotonic()
    for reader in readers:
        reader.join(60)
    assert len(ends) == 5
    assert stopped - asked < 30  # streams that are open would last for ever
