"""A real server on a free port, over real parts."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
import structlog
from fastapi import FastAPI

from fairlead.api.app import build_app
from fairlead.api.server import serving
from fairlead.kernel.db import Database, metadata, open_database
from fairlead.kernel.projects import accounts, api_tokens, passwords, sessions, store
from fairlead.kernel.projects.model import Actor, ProjectSettings, Role, User
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import open_runs
from fairlead.kernel.runs.service import Runs
from tests.services import fresh_database

KEY = SigningKey(b"k" * 32)
PASSWORD = "a quiet harbour at dawn"


@contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    """URL of `app` behind a real uvicorn in a thread of its own; port 0 is any free one."""
    up: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with serving(app, host="127.0.0.1", port=port) as url:
            up.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(60)
        yield up[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive()
        loop.close()


@dataclass(frozen=True)
class World:
    """A server with people in it. `token[name]` is an access token."""

    url: str
    app: FastAPI
    database: Database
    runs: Runs
    client: httpx2.Client
    password_hash: str

    def person(self, username: str, *, is_admin: bool = False) -> str:
        """A new user's access token."""
        with self.database.transaction() as conn:
            user = accounts.create_user(
                conn, username=username, password_hash=self.password_hash, is_admin=is_admin
            )
            return sessions.open_session(conn, KEY, user).access_token

    def user(self, username: str) -> User:
        with self.database.reading() as conn:
            return accounts.find_user(conn, username)

    def project(self, project_id: str, members: dict[str, Role]) -> str:
        """A new project; the first member owns it."""
        owner, *others = members
        with self.database.transaction() as conn:
            user = accounts.find_user(conn, owner)
            actor = Actor(user_id=user.id, username=user.username, is_admin=False)
            project = store.create(
                conn,
                project_id=project_id,
                name=project_id,
                description="",
                settings=ProjectSettings(),
                owner=actor,
            )
            for name in others:
                store.set_member(conn, project, accounts.find_user(conn, name), members[name])
        return project_id

    def run(self, project_id: str | None, actor: str = "owner") -> str:
        """A queued run's id."""
        with self.database.transaction() as conn:
            return self.runs.submit(conn, "test.nothing", {}, project_id=project_id, actor=actor).id

    def api_token(self, username: str, **limits: Any) -> str:
        with self.database.transaction() as conn:
            user = accounts.find_user(conn, username)
            return api_tokens.create(conn, user_id=user.id, name="t", **limits)[1]

    def call(self, token: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.request(method, path, headers=headers, **more)


@contextmanager
def opened_world(database_url: str, password_hash: str) -> Iterator[World]:
    with ExitStack() as stack:
        database = open_database(database_url)
        stack.callback(database.close)
        runs = open_runs(database)
        stack.callback(runs.close)
        app = build_app(
            database=database,
            signing_key=KEY,
            runs=runs,
            max_body_bytes=200_000,
            stream_check_s=0.1,
            heartbeat_s=0.2,
        )
        url = stack.enter_context(served(app))
        client = stack.enter_context(httpx2.Client(base_url=url, timeout=60, trust_env=False))
        yield World(url, app, database, runs, client, password_hash)


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """No access log between the tests' dots."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def password_hash() -> str:
    return passwords.hashed(PASSWORD)


@pytest.fixture(scope="package")
def worlds(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, password_hash: str
) -> Iterator[Callable[[str], World]]:
    """The server over each kind of database, started when first asked for."""
    with ExitStack() as stack:

        @cache
        def opened(kind: str) -> World:
            folder = tmp_path_factory.mktemp(kind)
            url = stack.enter_context(fresh_database(kind, folder, request))
            return stack.enter_context(opened_world(url, password_hash))

        yield opened


@pytest.fixture
def world(worlds: Callable[[str], World], request: pytest.FixtureRequest) -> World:
    """An empty server over SQLite; over PostgreSQL too where a test is parametrised with `world`."""
    found = worlds(getattr(request, "param", "sqlite"))
    with found.database.transaction() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(sa.delete(table))
    return found


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, password_hash: str
) -> Iterator[World]:
    """One server for a module whose tests change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    with fresh_database("sqlite", folder, request) as url, opened_world(url, password_hash) as opened:
        yield opened


@pytest.fixture(scope="module")
def ana(shared: World) -> str:
    """An ordinary user's access token on the shared server."""
    return shared.person("ana")


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem response, checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["request_id"] == response.headers["x-request-id"]
    return body
