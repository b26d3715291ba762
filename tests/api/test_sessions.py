"""Logging in, staying in, getting out: over HTTP, against both databases where SQL decides."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects import accounts, sessions
from fairlead.kernel.projects.model import Role
from tests.api.conftest import PASSWORD, World, problem

BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


def login(world: World, username: str = "ana", password: str = PASSWORD) -> httpx2.Response:
    return world.call(None, "POST", "/sessions", json={"username": username, "password": password})


def refresh(world: World, token: str) -> httpx2.Response:
    return world.call(None, "POST", "/sessions/refresh", json={"refresh_token": token})


def opened(world: World) -> dict[str, Any]:
    answer = login(world)
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


def me(world: World, token: str) -> httpx2.Response:
    return world.call(token, "GET", "/users/me")


@BOTH
def test_a_session_lives_through_refreshes_and_ends_at_logout(world: World) -> None:
    world.person("ana")
    first = opened(world)
    assert (first["token_type"], first["expires_in"], first["user"]["username"]) == ("Bearer", 900, "ana")
    second = refresh(world, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert me(world, first["access_token"]).json()["username"] == "ana"
    assert me(world, second["access_token"]).status_code == 200
    assert world.call(second["access_token"], "DELETE", "/sessions/current").status_code == 204
    problem(me(world, first["access_token"]), 401, "auth.session_ended")
    problem(refresh(world, second["refresh_token"]), 401, "auth.session_ended")


@BOTH
def test_a_refresh_token_that_comes_twice_ends_its_session_for_thief_and_owner(world: World) -> None:
    world.person("ana")
    first = opened(world)
    second = refresh(world, first["refresh_token"]).json()
    problem(refresh(world, first["refresh_token"]), 401, "auth.refresh_reused")
    problem(refresh(world, second["refresh_token"]), 401, "auth.session_ended")
    problem(me(world, second["access_token"]), 401, "auth.session_ended")
    assert me(world, opened(world)["access_token"]).status_code == 200


@BOTH
def test_of_parallel_refreshes_with_one_token_at_most_one_succeeds(world: World) -> None:
    world.person("ana")
    token = opened(world)["refresh_token"]
    with ThreadPoolExecutor(6) as pool:
        codes = sorted(answer.status_code for answer in pool.map(lambda _: refresh(world, token), range(6)))
    assert codes == [200, 401, 401, 401, 401, 401]


def test_unknown_wrong_and_disabled_get_the_same_answer(world: World) -> None:
    world.person("ana")
    world.person("gone")
    with world.database.transaction() as conn:
        accounts.update_user(conn, accounts.find_user(conn, "gone"), {"disabled_at": utc_now()})
    answers = [
        login(world, "ana", "wrong"),
        login(world, "nobody"),
        login(world, "gone"),
        login(world, "\x00\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace")),
    ]
    bodies = [problem(answer, 401, "auth.invalid_credentials") for answer in answers]
    assert len({(body["detail"], body["remedy"]) for body in bodies}) == 1


def add_attempts(world: World, *, was: int) -> None:
    """As if there had been so many wrong passwords that no test is slow enough to sit the wait out."""
    with world.database.transaction() as conn:
        assert conn.execute(sa.select(sessions.login_attempts.c.attempts)).scalars().all() == [was]
        conn.execute(sa.update(sessions.login_attempts).values(attempts=20))


def test_wrong_passwords_make_the_right_one_wait_but_nobody_else(world: World) -> None:
    world.person("ana")
    world.person("ben")
    for _ in range(2):
        problem(login(world, "ana", "wrong"), 401, "auth.invalid_credentials")
    add_attempts(world, was=2)
    body = problem(refused := login(world), 429, "auth.throttled")
    assert body["retryable"] is True
    assert int(refused.headers["retry-after"]) == body["details"]["retry_after_s"]
    assert 800 < body["details"]["retry_after_s"] <= 900
    assert login(world, "ben").status_code == 201
    with world.database.transaction() as conn:
        past = utc_now() - timedelta(minutes=16)
        conn.execute(sa.update(sessions.login_attempts).values(last_at=past))
    assert login(world).status_code == 201
    with world.database.reading() as conn:
        assert conn.execute(sa.select(sessions.login_attempts)).all() == []  # the count began anew


def test_unknown_users_are_throttled_like_known_ones(world: World) -> None:
    problem(login(world, "nobody", "wrong"), 401, "auth.invalid_credentials")
    add_attempts(world, was=1)
    problem(login(world, "nobody", "wrong"), 429, "auth.throttled")


@pytest.mark.parametrize(
    ("attempts", "since_s", "wait_s"),
    [
        (0, 0, 0),
        (4, 0, 0),
        (5, 0, 1),
        (5, 1, 0),
        (6, 0, 2),
        (8, 3, 5),
        (14, 0, 512),
        (15, 0, 900),
        (10_000, 0, 900),
        (10_000, 901, 0),
    ],
)
def test_the_wait_doubles_up_to_fifteen_minutes(attempts: int, since_s: float, wait_s: float) -> None:
    assert sessions.throttle_wait_s(attempts, since_s) == wait_s


def test_an_idle_session_ends_and_a_busy_one_too_after_thirty_days(world: World) -> None:
    world.person("ana")
    busy = opened(world)
    with world.database.transaction() as conn:
        born = utc_now() - sessions.SESSION_LIFETIME + timedelta(hours=1)
        conn.execute(sa.update(sessions.sessions).values(created_at=born))
    again = refresh(world, busy["refresh_token"]).json()
    with world.database.reading() as conn:
        ends = conn.execute(sa.select(sa.func.min(sessions.sessions.c.expires_at))).scalar_one()
    assert timedelta(minutes=59) < ends - utc_now() < timedelta(minutes=61)
    with world.database.transaction() as conn:
        conn.execute(sa.update(sessions.sessions).values(expires_at=utc_now()))
    problem(me(world, again["access_token"]), 401, "auth.session_ended")
    problem(refresh(world, again["refresh_token"]), 401, "auth.session_ended")


def test_disabling_a_user_refuses_every_credential_at_once_and_enabling_revives_tokens_only(
    world: World,
) -> None:
    admin, ana = world.person("root", is_admin=True), world.person("ana")
    token = world.api_token("ana")
    session = opened(world)
    assert world.call(admin, "PATCH", "/users/ana", json={"disabled": True}).json()["disabled"] is True
    for credential in (ana, token, session["access_token"]):
        problem(me(world, credential), 401, "auth.user_disabled")
    problem(refresh(world, session["refresh_token"]), 401, "auth.user_disabled")
    assert world.call(admin, "PATCH", "/users/ana", json={"disabled": False}).json()["disabled"] is False
    problem(me(world, ana), 401, "auth.session_ended")
    assert me(world, token).status_code == 200


def test_a_new_password_ends_the_other_sessions(world: World) -> None:
    other = world.person("ana")
    mine = opened(world)["access_token"]
    change = {"current_password": PASSWORD, "new_password": "another quiet harbour"}
    assert world.call(mine, "PUT", "/users/me/password", json=change).status_code == 204
    assert me(world, mine).status_code == 200
    problem(me(world, other), 401, "auth.session_ended")
    problem(login(world), 401, "auth.invalid_credentials")
    assert login(world, "ana", "another quiet harbour").status_code == 201


@pytest.mark.parametrize(
    "password",
    ["tiny", "ana ana", "aaaaaaaaaaaaaaaaaaaa", "x" * 257, "anaanaana.ana"],
    ids=["short", "short-name", "repeated", "long", "name-repeated"],
)
def test_weak_passwords_are_refused_without_being_repeated(world: World, password: str) -> None:
    admin = world.person("root", is_admin=True)
    answer = world.call(admin, "POST", "/users", json={"username": "ana", "password": password})
    problem(answer, 422, "users.password_refused")
    assert password not in answer.text


def test_an_administrator_makes_a_user_whose_generated_password_works(world: World) -> None:
    admin = world.person("root", is_admin=True)
    made = world.call(admin, "POST", "/users", json={"username": "ana", "display_name": "Ana"})
    assert made.status_code == 201
    assert login(world, "ana", made.json()["generated_password"]).status_code == 201
    assert "generated_password" not in world.call(admin, "GET", "/users/ana").json()
    reset = world.call(admin, "PUT", "/users/ana/password", json={}).json()["generated_password"]
    problem(login(world, "ana", made.json()["generated_password"]), 401, "auth.invalid_credentials")
    assert login(world, "ana", reset).status_code == 201


def test_the_last_administrator_stays(world: World) -> None:
    admin = world.person("root", is_admin=True)
    for change in ({"is_admin": False}, {"disabled": True}):
        problem(world.call(admin, "PATCH", "/users/root", json=change), 409, "users.last_admin")
    world.person("second", is_admin=True)
    assert world.call(admin, "PATCH", "/users/root", json={"is_admin": False}).status_code == 200
    problem(world.call(admin, "GET", "/users"), 403, "auth.not_admin")


def test_a_user_cannot_make_oneself_administrator(world: World) -> None:
    ana = world.person("ana")
    problem(world.call(ana, "PATCH", "/users/me", json={"is_admin": True}), 403, "auth.not_admin")
    assert world.user("ana").is_admin is False


@BOTH
def test_an_api_token_is_shown_once_used_listed_and_revoked(world: World) -> None:
    ana = world.person("ana")
    world.project("shop", {"ana": Role.OWNER})
    body = {"name": "ci", "scope": "propose", "project": "shop"}
    made = world.call(ana, "POST", "/tokens", json=body).json()
    assert made["token"].startswith("fl_")
    assert made["token"].startswith(made["prefix"])
    assert world.call(made["token"], "GET", "/projects/shop").status_code == 200
    (listed,) = world.call(ana, "GET", "/tokens").json()["items"]
    assert "token" not in listed
    assert (listed["project"], listed["scope"]) == ("shop", "propose")
    assert listed["last_used_at"] is not None
    problem(world.call(made["token"], "POST", "/tokens", json=body), 403, "auth.scope_missing")
    assert world.call(ana, "DELETE", f"/tokens/{made['id']}").json()["revoked_at"] is not None
    problem(world.call(made["token"], "GET", "/projects/shop"), 401, "auth.unauthenticated")


@pytest.mark.parametrize(
    ("body", "days"),
    [({}, None), ({"expires_in_days": 90}, 90), ({"expires_at": "9999-01-01T00:00:00+09:00"}, 2_900_000)],
    ids=["never", "days", "moment"],
)
def test_a_token_expires_when_asked(world: World, body: dict[str, Any], days: int | None) -> None:
    made = world.call(world.person("ana"), "POST", "/tokens", json={"name": "ci", **body}).json()
    if days is None:
        assert made["expires_at"] is None
    else:
        left = datetime.fromisoformat(made["expires_at"]) - utc_now()
        assert timedelta(days=days - 1) < left < timedelta(days=days * 1.01)


@pytest.mark.parametrize(
    "body",
    [
        {"expires_in_days": 0},
        {"expires_in_days": 1, "expires_at": "9999-01-01T00:00:00Z"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2030-01-01T00:00:00"},
    ],
    ids=["today", "both", "past", "no-zone"],
)
def test_an_odd_expiry_is_refused(world: World, body: dict[str, Any]) -> None:
    answer = world.call(world.person("ana"), "POST", "/tokens", json={"name": "ci", **body})
    assert "expires" in problem(answer, 422, "input.invalid")["detail"]


def test_a_token_may_revoke_itself_and_no_other(world: World) -> None:
    ana = world.person("ana")
    first, second = (world.call(ana, "POST", "/tokens", json={"name": name}).json() for name in "ab")
    problem(world.call(first["token"], "DELETE", f"/tokens/{second['id']}"), 403, "auth.scope_missing")
    assert world.call(first["token"], "DELETE", f"/tokens/{first['id']}").status_code == 200
    problem(me(world, first["token"]), 401, "auth.unauthenticated")
    problem(world.call(second["token"], "DELETE", "/sessions/current"), 422, "input.invalid")
