"""Every route against every kind of caller: one table, complete by a check against the app itself."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects import accounts, api_tokens, sessions, store, tokens
from fairlead.kernel.projects.model import Role, Scope
from tests.api.conftest import KEY, World, opened_world
from tests.services import fresh_database

READERS = {"viewer", "author", "approver", "owner", "admin"} | {
    f"owner's {limit} token" for limit in ("full", "propose", "read", "author", "shop")
}
AUTHORS = READERS - {"viewer", "owner's propose token", "owner's read token"}
MANAGERS = {"owner", "admin", "owner's full token", "owner's shop token"}
PEOPLE = {"viewer", "author", "approver", "owner", "admin", "outsider"}
TOKENS = {f"owner's {limit} token" for limit in ("full", "propose", "read", "author", "shop", "other")}
EVERYONE = PEOPLE | TOKENS
BLIND = {"outsider", "owner's other token"}  # do not learn that the project exists


JWT_KEY = KEY.for_access_tokens


@dataclass(frozen=True)
class Case:
    """One request; `allowed` get `status`, the blind 404, all others 403."""

    method: str
    route: str
    status: int
    allowed: AbstractSet[str]
    body: Any = None
    if_match: str | None = None
    blind: frozenset[str] = frozenset(BLIND)

    @property
    def id(self) -> str:
        return f"{self.method} {self.route}"


NONE: frozenset[str] = frozenset()
CASES = [
    Case("GET", "/projects/{project}", 200, READERS),
    # Stale on purpose: whoever is allowed gets 412, and the world stays as it is.
    Case("PATCH", "/projects/{project}", 412, MANAGERS, {"name": "x"}, '"999"'),
    Case("DELETE", "/projects/{project}", 412, MANAGERS, None, '"999"'),
    Case("GET", "/projects/{project}/members", 200, READERS),
    Case("PUT", "/projects/{project}/members/{username}", 200, MANAGERS, {"role": "viewer"}),
    Case("DELETE", "/projects/{project}/members/{username}", 404, MANAGERS),
    Case("GET", "/projects/{project}/audit", 200, READERS),
    Case("GET", "/projects/{project}/runs", 200, READERS),
    Case("GET", "/runs/{run_id}", 200, READERS),
    Case("GET", "/runs/{run_id}/events", 200, READERS),
    Case("POST", "/runs/{run_id}/cancel", 202, AUTHORS),
    Case("GET", "/projects", 200, EVERYONE, blind=NONE),
    Case("POST", "/projects", 409, PEOPLE | {"owner's full token"}, {"id": "shop", "name": "x"}, blind=NONE),
    Case("GET", "/users", 200, {"admin"}, blind=NONE),
    Case("POST", "/users", 409, {"admin"}, {"username": "viewer"}, blind=NONE),
    Case("GET", "/users/{username}", 200, {"admin", "viewer"}, blind=NONE),
    Case("PATCH", "/users/{username}", 200, {"admin", "viewer"}, {"display_name": "V"}, blind=NONE),
    Case("PUT", "/users/me/password", 403, NONE, {"current_password": "-", "new_password": "-"}, blind=NONE),
    Case("PUT", "/users/{username}/password", 422, {"admin"}, {"new_password": "short"}, blind=NONE),
    Case("GET", "/tokens", 200, PEOPLE, blind=NONE),
    Case("POST", "/tokens", 422, PEOPLE, {"name": "t", "expires_at": "2020-01-01T00:00:00Z"}, blind=NONE),
    Case("DELETE", "/tokens/{token_id}", 404, PEOPLE, blind=NONE),
    Case("GET", "/audit/verify", 200, {"admin"}, blind=NONE),
]
PUBLIC = {
    ("POST", "/sessions"),
    ("POST", "/sessions/refresh"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/metrics"),  # for loopback; test_server.py has the rest
}
OF_SESSIONS = {("DELETE", "/sessions/current")}  # ends the caller: test_sessions.py


@dataclass(frozen=True)
class Cast:
    """The world and everybody's credentials."""

    world: World
    good: dict[str, str]
    bad: dict[str, str | None]
    run_id: str

    def request(self, case: Case, token: str | None, *, fresh_run: bool = False) -> Any:
        run_id = self.world.run("shop") if fresh_run else self.run_id
        path = case.route.format(project="shop", username="viewer", run_id=run_id, token_id="0" * 32)
        if case.id == "DELETE /projects/{project}/members/{username}":
            path = path.replace("viewer", "nobody")
        headers = {"If-Match": case.if_match} if case.if_match else {}
        more = {"json": case.body} if case.body is not None else {}
        return self.world.call(token, case.method, path, headers=headers, **more)


def _good(world: World) -> dict[str, str]:
    good = {name: world.person(name, is_admin=name == "admin") for name in sorted(PEOPLE)}
    ranks = {"owner": Role.OWNER, "viewer": Role.VIEWER, "author": Role.AUTHOR, "approver": Role.APPROVER}
    world.project("shop", ranks)
    world.project("other", {"owner": Role.OWNER})
    limits: dict[str, dict[str, Any]] = {
        "full": {},
        "propose": {"scope": Scope.PROPOSE},
        "read": {"scope": Scope.READ},
        "author": {"role_ceiling": Role.AUTHOR},
        "shop": {"project_uid": _uid(world, "shop")},
        "other": {"project_uid": _uid(world, "other")},
    }
    made = {f"owner's {limit} token": world.api_token("owner", **more) for limit, more in limits.items()}
    return good | made


def _uid(world: World, project: str) -> str:
    with world.database.reading() as conn:
        found = store.find_with_role(conn, accounts.find_user(conn, "owner").id, project)
    assert found is not None
    return found[0].uid


def _bad(world: World) -> dict[str, str | None]:
    """Credentials that once were good, or never; all of an owner of the project."""
    now = utc_now()
    for name in ("disabled", "leaver", "former"):
        world.person(name)
    world.project("theirs", {"disabled": Role.OWNER})
    limits: list[tuple[str, str, dict[str, Any]]] = [
        ("disabled", "disabled", {}),
        ("revoked", "owner", {}),
        ("expired", "owner", {"expires_at": now - timedelta(seconds=1)}),
    ]
    with world.database.transaction() as conn:
        people = {n: accounts.find_user(conn, n) for n in ("disabled", "leaver", "former", "owner")}
        opened = {n: sessions.open_session(conn, KEY, user) for n, user in people.items()}
        sessions.end(conn, opened["leaver"].session_id)
        made = {
            name: api_tokens.create(conn, user_id=people[owner].id, name=name, **more)
            for name, owner, more in limits
        }
        api_tokens.revoke(conn, people["owner"].id, made["revoked"][0].id)
        accounts.update_user(conn, people["disabled"], {"disabled_at": now})
    claims = tokens.Claims(user_id=people["owner"].id, session_id=opened["owner"].session_id)
    payload = jwt.decode(opened["owner"].access_token, options={"verify_signature": False})
    past = now - timedelta(seconds=sessions.ACCESS_LIFETIME_S + 1)
    other_key = tokens.SigningKey(b"x" * 32)
    return {
        "nobody": None,
        "a session of a disabled user": opened["disabled"].access_token,
        "a token of a disabled user": made["disabled"][1],
        "a revoked session": opened["leaver"].access_token,
        "a revoked token": made["revoked"][1],
        "an expired token": made["expired"][1],
        "an expired session": tokens.access_token(KEY, claims, now=past, lifetime_s=900),
        "a wrong signature": tokens.access_token(other_key, claims, now=now, lifetime_s=900),
        "no algorithm": jwt.encode(payload, "", algorithm="none"),
        "another algorithm": jwt.encode(payload, JWT_KEY * 2, algorithm="HS512"),
        "no expiry": jwt.encode({k: v for k, v in payload.items() if k != "exp"}, JWT_KEY, "HS256"),
        "another issuer": jwt.encode({**payload, "iss": "evil"}, JWT_KEY, "HS256"),
        "another's session": jwt.encode({**payload, "sid": opened["former"].session_id}, JWT_KEY, "HS256"),
        "a refresh token": opened["owner"].refresh_token,
        "nonsense": "fl_nonsense",
        "an empty token": "x",
    }


@pytest.fixture(scope="module")
def cast(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, password_hash: str
) -> Iterator[Cast]:
    folder: Path = tmp_path_factory.mktemp("permissions")
    with fresh_database("sqlite", folder, request) as url, opened_world(url, password_hash) as world:
        good = _good(world)
        yield Cast(world, good, _bad(world), world.run("shop"))


def test_the_table_names_every_route(cast: Cast) -> None:
    known = {(case.method, case.route) for case in CASES} | PUBLIC | OF_SESSIONS
    schema = cast.world.call(None, "GET", "/openapi.json").json()
    routes = {(method.upper(), path) for path, item in schema["paths"].items() for method in item}
    assert routes == known


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_route_answers_each_caller_as_the_table_says(cast: Cast, case: Case) -> None:
    expected = {
        name: case.status if name in case.allowed else 404 if name in case.blind else 403
        for name in cast.good
    }
    fresh = case.route.endswith("/cancel")
    actual = {
        name: cast.request(case, token, fresh_run=fresh and name in case.allowed).status_code
        for name, token in cast.good.items()
    }
    assert actual == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_route_refuses_credentials_that_are_not_good(cast: Cast, case: Case) -> None:
    answers = {name: cast.request(case, token) for name, token in cast.bad.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(cast.bad, 401)
    assert {answer.headers["www-authenticate"] for answer in answers.values()} == {'Bearer realm="fairlead"'}
    codes = {name: answer.json()["code"] for name, answer in answers.items()}
    assert codes["an expired session"] == codes["an expired token"] == "auth.token_expired"
    assert (
        codes["a session of a disabled user"] == codes["a token of a disabled user"] == "auth.user_disabled"
    )
    assert codes["a revoked session"] == "auth.session_ended"


def test_an_outsider_gets_the_same_answer_for_a_foreign_and_for_a_missing_thing(cast: Cast) -> None:
    def told(path: str, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = cast.world.call(cast.good["outsider"], "GET", path).json()
        del answer["timestamp"], answer["request_id"]
        return {key: str(value).replace(name, "X") for key, value in answer.items()}

    assert told("/projects/shop", "shop") == told("/projects/none", "none")
    assert told(f"/runs/{cast.run_id}", cast.run_id) == told("/runs/nothing", "nothing")


def test_a_list_shows_each_caller_their_own_projects(cast: Cast) -> None:
    def seen(name: str) -> list[str]:
        items = cast.world.call(cast.good[name], "GET", "/projects").json()["items"]
        return [item["id"] for item in items]

    assert seen("outsider") == []
    assert seen("viewer") == ["shop"]
    assert seen("owner") == ["other", "shop"]
    assert seen("owner's shop token") == ["shop"]
    assert seen("admin") == ["other", "shop", "theirs"]


def test_a_project_tells_the_caller_what_this_credential_may_do(cast: Cast) -> None:
    def may(name: str) -> set[str]:
        return set(cast.world.call(cast.good[name], "GET", "/projects/shop").json()["permissions"])

    assert {"plan.approve", "apply"} <= may("approver")
    assert "plan.create" in may("owner's propose token")
    assert not may("owner's propose token") & {"plan.approve", "apply", "run.cancel", "members.manage"}
    assert not may("admin") & {"plan.create", "plan.approve", "apply"}
    assert "plan.approve" not in may("owner's author token")
