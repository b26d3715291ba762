"""Projects and members over HTTP."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from fairlead.api.app import build_app
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.http import encode_cursor
from fairlead.kernel.projects.model import ProjectSettings, Role, Scope
from tests.api.conftest import KEY, World, problem

BOTH = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
NEW = {"id": "shop", "name": "Web shop", "settings": {"region": "eu-central-1"}}


@BOTH
def test_a_project_is_made_read_changed_and_deleted(world: World) -> None:
    ana = world.person("ana")
    made = world.call(ana, "POST", "/projects", json=NEW)
    assert made.status_code == 201
    assert (made.headers["etag"], made.headers["location"]) == ('"1"', "/projects/shop")
    body = made.json()
    assert (body["owner"], body["role"], body["settings"]["region"]) == ("ana", "owner", "eu-central-1")
    change = {"description": "Ünïcode 漢字 🎣\nsecond line", "settings": {"account_id": "123456789012"}}
    changed = world.call(ana, "PATCH", "/projects/shop", json=change, headers={"If-Match": '"1"'})
    assert changed.headers["etag"] == '"2"'
    read = world.call(ana, "GET", "/projects/shop").json()
    assert read == changed.json()
    assert read["description"] == change["description"]
    assert (read["settings"]["region"], read["settings"]["account_id"]) == ("eu-central-1", "123456789012")
    assert read["updated_at"] > read["created_at"] == body["created_at"]
    assert world.call(ana, "DELETE", "/projects/shop").status_code == 204
    problem(world.call(ana, "GET", "/projects/shop"), 404, "projects.not_found")


def test_a_stale_change_is_refused_and_changes_nothing(world: World) -> None:
    ana = world.person("ana")
    world.call(ana, "POST", "/projects", json=NEW)
    assert world.call(ana, "PATCH", "/projects/shop", json={"name": "A"}).json()["version"] == 2
    stale = world.call(ana, "PATCH", "/projects/shop", json={"name": "B"}, headers={"If-Match": '"1"'})
    assert problem(stale, 412, "projects.stale")["details"] == {"version": 2}
    problem(world.call(ana, "DELETE", "/projects/shop", headers={"If-Match": '"1"'}), 412, "projects.stale")
    odd = world.call(ana, "PATCH", "/projects/shop", json={"name": "B"}, headers={"If-Match": "yesterday"})
    problem(odd, 422, "input.invalid")
    assert world.call(ana, "GET", "/projects/shop").json()["name"] == "A"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "Shop"}, "id"),
        ({"id": "s"}, "id"),
        ({"id": "shop--x"}, "id"),
        ({"id": "shop\n"}, "id"),
        ({"id": "x" * 41}, "id"),
        ({"id": "../etc"}, "id"),
        ({"name": ""}, "name"),
        ({"name": "nul\x00"}, "name"),
        ({"description": "\x1b[2J"}, "description"),
        ({"owner": "me"}, "owner"),
        ({"settings": {"region": "Frankfurt"}}, "settings.region"),
        ({"settings": {"account_id": 123456789012}}, "settings.account_id"),
        ({"settings": {"account_id": "12345"}}, "settings.account_id"),
        ({"settings": {"state_prefix": "a/../b"}}, "settings.state_prefix"),
        ({"settings": {"state_prefix": "/a"}}, "settings.state_prefix"),
        ({"settings": {"state_prefix": "a/projects/shop/state"}}, "settings.state_prefix"),
        ({"settings": {"approval_deadline_s": 0}}, "settings.approval_deadline_s"),
        ({"settings": {"approval_deadline_s": "soon"}}, "settings.approval_deadline_s"),
        ({"settings": {"auto_approval_rules": ["all"]}}, "settings.auto_approval_rules.0"),
        ({"settings": {"auto_approval_rules": [{"x": "y" * 20_001}]}}, "settings.auto_approval_rules.0"),
        ({"settings": {"notifications": {"webhook_url": "ftp://x"}}}, "settings.notifications.webhook_url"),
        ({"settings": {"colour": "blue"}}, "settings.colour"),
    ],
    ids=str,
)
def test_a_bad_field_is_named_and_nothing_is_made(
    shared: World, ana: str, change: dict[str, Any], field: str
) -> None:
    answer = shared.call(ana, "POST", "/projects", json={**NEW, **change})
    faults = problem(answer, 422, "input.invalid")["details"]["faults"]
    assert [fault["field"] for fault in faults] == [field]
    assert shared.call(ana, "GET", "/projects").json()["items"] == []


def test_a_capability_refuses_settings_that_it_cannot_use(world: World) -> None:
    def only_low(settings: ProjectSettings) -> None:
        if any(rule.get("risk") != "LOW" for rule in settings.auto_approval_rules):
            raise InvalidInput("settings.auto_approval_rules: only LOW can be approved by rule.")

    app = build_app(database=world.database, signing_key=KEY, runs=world.runs, check_settings=only_low)
    ana = world.person("ana")
    rules = {"auto_approval_rules": [{"risk": "HIGH"}]}
    with TestClient(app, headers={"Authorization": f"Bearer {ana}"}) as client:
        problem(client.post("/projects", json={**NEW, "settings": rules}), 422, "input.invalid")
        assert client.post("/projects", json=NEW).status_code == 201
        problem(client.patch("/projects/shop", json={"settings": rules}), 422, "input.invalid")


def test_a_project_id_is_taken_once_whoever_asks(world: World) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    assert world.call(ana, "POST", "/projects", json=NEW).status_code == 201
    problem(world.call(ben, "POST", "/projects", json=NEW), 409, "projects.exists")


@BOTH
def test_a_project_with_runs_is_archived_not_deleted_and_can_be_restored(world: World) -> None:
    ana = world.person("ana")
    world.call(ana, "POST", "/projects", json=NEW)
    run = world.run("shop")
    problem(
        world.call(ana, "PATCH", "/projects/shop", json={"settings": {"state_prefix": "elsewhere"}}),
        409,
        "projects.state_prefix_fixed",
    )
    deleted = world.call(ana, "DELETE", "/projects/shop")
    assert deleted.status_code == 200
    assert deleted.json()["archived_at"] is not None
    assert world.call(ana, "GET", "/projects").json()["items"] == []
    assert len(world.call(ana, "GET", "/projects?archived=true").json()["items"]) == 1
    assert world.call(ana, "GET", f"/runs/{run}").status_code == 200
    restored = world.call(ana, "PATCH", "/projects/shop", json={"archived": False}).json()
    assert restored["archived_at"] is None
    actions = [e["action"] for e in world.call(ana, "GET", "/projects/shop/audit").json()["items"]]
    assert actions == ["project.restored", "project.archived", "project.created"]


def test_who_takes_an_id_anew_does_not_see_what_was_before(world: World) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    world.call(ana, "POST", "/projects", json=NEW)
    token = world.call(ana, "POST", "/tokens", json={"name": "t", "project": "shop"}).json()["token"]
    assert world.call(ana, "DELETE", "/projects/shop").status_code == 204
    assert world.call(ben, "POST", "/projects", json=NEW).status_code == 201
    (entry,) = world.call(ben, "GET", "/projects/shop/audit").json()["items"]
    assert (entry["action"], entry["actor"]) == ("project.created", "ben")
    problem(world.call(ana, "GET", "/projects/shop"), 404, "projects.not_found")
    problem(world.call(token, "GET", "/projects/shop"), 401, "auth.unauthenticated")


@BOTH
def test_members_come_change_and_go_but_one_owner_stays(world: World) -> None:
    ana, ben = world.person("ana"), world.person("ben")
    world.call(ana, "POST", "/projects", json=NEW)

    def put(token: str, name: str, role: str) -> Any:
        return world.call(token, "PUT", f"/projects/shop/members/{name}", json={"role": role})

    problem(put(ana, "ana", "viewer"), 409, "projects.last_owner")
    problem(world.call(ana, "DELETE", "/projects/shop/members/ana"), 409, "projects.last_owner")
    problem(put(ana, "nobody", "viewer"), 404, "users.not_found")
    problem(put(ana, "ben", "king"), 422, "input.invalid")
    assert put(ana, "ben", "approver").json()["role"] == "approver"
    problem(put(ben, "ben", "owner"), 403, "auth.permission_missing")
    assert put(ana, "ben", "owner").json()["role"] == "owner"
    # Ana leaves; ben answers for the project from now on.
    assert world.call(ana, "DELETE", "/projects/shop/members/ana").status_code == 204
    problem(world.call(ana, "GET", "/projects/shop"), 404, "projects.not_found")
    assert world.call(ben, "GET", "/projects/shop").json()["owner"] == "ben"
    listed = world.call(ben, "GET", "/projects/shop/members").json()["items"]
    assert [(one["username"], one["role"]) for one in listed] == [("ben", "owner")]
    problem(world.call(ben, "DELETE", "/projects/shop/members/ana"), 404, "members.not_found")


def test_a_viewer_may_leave_but_a_limited_token_may_not_leave_for_them(world: World) -> None:
    world.person("ana")
    ben = world.person("ben")
    world.project("shop", {"ana": Role.OWNER, "ben": Role.VIEWER})
    agent = world.api_token("ben", scope=Scope.PROPOSE)
    problem(world.call(agent, "DELETE", "/projects/shop/members/ben"), 403, "auth.scope_missing")
    assert world.call(ben, "DELETE", "/projects/shop/members/ben").status_code == 204


def test_pages_show_every_project_once(world: World) -> None:
    ana = world.person("ana")
    ids = [f"p{number:02}" for number in range(11)]
    for project_id in ids:
        world.project(project_id, {"ana": Role.OWNER})
    seen: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        query = {"limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = world.call(ana, "GET", "/projects", params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        pages += 1
    assert (seen, pages) == (ids, 3)


def test_runs_and_audit_entries_are_paged_newest_first_within_their_project(world: World) -> None:
    ana = world.person("ana")
    world.project("shop", {"ana": Role.OWNER})
    world.project("other", {"ana": Role.OWNER})
    runs = [world.run("shop") for _ in range(5)]
    foreign = world.run("other")
    first = world.call(ana, "GET", "/projects/shop/runs?limit=3").json()
    cursor = first["next_cursor"]
    second = world.call(ana, "GET", f"/projects/shop/runs?limit=3&cursor={cursor}").json()
    assert [run["id"] for run in first["items"] + second["items"]] == runs[::-1]
    assert second["next_cursor"] is None
    assert world.call(ana, "GET", "/projects/shop/runs?status=failed").json()["items"] == []
    stranger = encode_cursor(foreign)
    problem(world.call(ana, "GET", f"/projects/shop/runs?cursor={stranger}"), 422, "input.invalid")
