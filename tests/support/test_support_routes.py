"""The HTTP door of support as browsers, proxies and users of Fairlead meet it: a real server."""

import html
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
import typer
from typer.testing import CliRunner, Result

from fairlead.api.app import build_app
from fairlead.cli.support_customers import register
from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.projects import accounts as users
from fairlead.kernel.projects import sessions
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings, Role
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import open_runs
from fairlead.kernel.settings import Settings, SupportSettings
from fairlead.support import accounts
from fairlead.support.allowances import REQUESTS_AT_ONCE
from fairlead.support.model import Agent, AgentRole, Customer
from fairlead.support.routes import FORMS, SupportDoor, router
from fairlead.support.zendesk import (
    Installation,
    Installations,
    issue_session,
    read_installations,
    read_session,
)
from fairlead.support.zendesk_api import Directory
from fairlead.support.zendesk_app import app_dir, read_app
from tests.api.conftest import problem, served
from tests.services import fresh_database
from tests.support.zendesk_keys import (
    INSTALLATION,
    PROJECT,
    SECRET,
    USER,
    installation_settings,
    private_key,
    proxy_token,
    signed_url_token,
)
from tests.support.zendesk_server import ZendeskServer, running_zendesk

KEY = SigningKey(b"k" * 32)
PAGE, SESSION = "/support/zendesk/assets/iframe.html", "/support/zendesk/session"
PEOPLE = {"vera": Role.VIEWER, "ann": Role.AUTHOR, "olga": Role.OWNER}
GLOBEX = "360007654321"
ACCOUNT, SECOND, FOREIGN = "111111111111", "111111111112", "999999999999"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
META = re.compile(r'<meta name="fairlead-session" content="([^"]*)">')


@dataclass
class Door:
    """A server with two installations: acme asks its Zendesk's API, globex has none."""

    client: httpx2.Client
    tokens: dict[str, str]
    database: Database
    zendesk: ZendeskServer
    installations: Installations
    directory: Directory
    numbers: Iterator[int]

    @property
    def acme(self) -> Installation:
        return self.installations.by_id[INSTALLATION]

    @property
    def globex(self) -> Installation:
        return self.installations.by_id[GLOBEX]

    def post(self, token: str, **more: Any) -> httpx2.Response:
        return self.client.post(PAGE, data={"token": token}, **more)

    def call(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        bearer = self.tokens.get(who, who) if who else None
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.client.request(method, path, headers=headers, **more)

    def admin(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        return self.call(who, method, f"/projects/{PROJECT}/support{path}", **more)

    def session(self, role: AgentRole = AgentRole.AGENT, *, user: str = "", **values: Any) -> str:
        """A session of a new agent with this role, whom Zendesk knows."""
        user = user or str(next(self.numbers))
        self.zendesk.agent(user)
        given = {"installation": INSTALLATION, "project_id": PROJECT, **values}
        agent = Agent(user=user, role=role, **given)
        with self.database.transaction() as conn:
            accounts.put_agent(conn, agent.project_id, agent.installation, user, role, actor="olga")
        return issue_session(KEY, agent, utc_now(), 900)

    def audited(self, action: str) -> list[audit.Entry]:
        with self.database.reading() as conn:
            assert audit.verify(conn) is None
            return audit.entries(conn, action=action, limit=1000)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """No access log between the tests' dots."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    with ExitStack() as stack:
        zendesk = stack.enter_context(running_zendesk())
        url = stack.enter_context(fresh_database("sqlite", folder, request))
        database = open_database(url)
        stack.callback(database.close)
        runs = open_runs(database)
        stack.callback(runs.close)
        other = {"id": GLOBEX, "project": "globex", "subdomain": "globex", "shared_secret": "9e" * 32}
        installations = read_installations(
            [
                installation_settings(folder, **zendesk.settings),
                installation_settings(folder, key="globex", **other),
            ]
        )
        support = SupportDoor(
            database=database,
            key=KEY,
            settings=SupportSettings(),
            installations=installations,
            directory=Directory(),
            app_files=read_app(app_dir())[0],
        )
        app = build_app(database=database, signing_key=KEY, runs=runs, routers=[router(support)], forms=FORMS)
        base = stack.enter_context(served(app))
        client = stack.enter_context(httpx2.Client(base_url=base, timeout=60, trust_env=False))
        tokens = populate(database)
        numbers = iter(range(5001, 9999))
        yield Door(client, tokens, database, zendesk, installations, support.directory, numbers)


def populate(database: Database) -> dict[str, str]:
    """Two projects, and everybody's access tokens."""
    tokens = {}
    with database.transaction() as conn:
        for name in ("root", *PEOPLE, "eve"):
            user = users.create_user(conn, username=name, password_hash="!", is_admin=name == "root")
            tokens[name] = sessions.open_session(conn, KEY, user).access_token
        for project_id, owner in ((PROJECT, "olga"), ("globex", "eve")):
            user = users.find_user(conn, owner)
            made = projects.create(
                conn,
                project_id=project_id,
                name=project_id,
                description="",
                settings=ProjectSettings(),
                owner=Actor(user_id=user.id, username=owner, is_admin=False),
            )
            for name in ("vera", "ann") if project_id == PROJECT else ():
                projects.set_member(conn, made, users.find_user(conn, name), PEOPLE[name])
    return tokens


@pytest.fixture
def customers(door: Door) -> Door:
    """Two customers, bound to one organization; another project's customer."""
    with door.database.transaction() as conn:
        for project, account in ((PROJECT, ACCOUNT), (PROJECT, SECOND), ("globex", FOREIGN)):
            one = Customer(
                project_id=project, account=account, name=f"C {account}", role_name=None, external_id="e" * 43
            )
            accounts.put_customer(conn, one, actor="olga")
        for account in (ACCOUNT, SECOND):
            accounts.bind_organization(conn, PROJECT, "7001", account, actor="olga")
    door.zendesk.organizations.update({"35": 7001, "36": 7001, "37": 7002})
    return door


# --- the page ------------------------------------------------------------------------------------


def test_a_signed_url_is_exchanged_for_a_session_in_the_page(door: Door) -> None:
    door.zendesk.agent(USER)
    answer = door.post(signed_url_token(door.acme))
    assert answer.status_code == 200, answer.text
    found = META.search(answer.text)
    assert found is not None
    session = read_session(KEY, html.unescape(found[1]), utc_now())
    assert (session.agent.installation, session.agent.user) == (INSTALLATION, USER)
    assert (session.agent.project_id, session.agent.role) == (PROJECT, AgentRole.AGENT)
    # The rest of the page is the packaged one, byte for byte.
    packaged = (app_dir() / "assets" / "iframe.html").read_text(encoding="utf-8")
    assert answer.text.replace(found[1], "") == packaged
    assert door.audited("support.session_opened")[0].actor == f"zendesk:{INSTALLATION}:{USER}"


def test_only_the_installations_zendesk_may_frame_the_page(door: Door) -> None:
    door.zendesk.agent("31")
    headers = door.post(signed_url_token(door.acme, "31")).headers
    assert headers["content-security-policy"] == "frame-ancestors https://acme.zendesk.com"
    assert "x-frame-options" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers
    other = door.post(signed_url_token(door.globex, "31", key=private_key("globex"))).headers
    assert other["content-security-policy"] == "frame-ancestors https://globex.zendesk.com"


def test_other_pages_may_still_be_framed_by_nobody(door: Door) -> None:
    headers = door.client.get("/version").headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_without_a_token_the_page_says_where_it_belongs_and_holds_no_session(door: Door) -> None:
    answer = door.client.get(PAGE, params={"token": signed_url_token(door.acme, "32"), "origin": "x"})
    assert answer.status_code == 200
    assert "beside a ticket in Zendesk" in answer.text
    assert "티켓" in answer.text
    assert "fairlead-session" not in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "forged": ({"key": "evil"}, 401, "auth.zendesk_token_invalid"),
    "for another installation": ({"aud": "https://acme.zendesk.com/x"}, 401, "auth.zendesk_token_invalid"),
    "expired": ({"exp": 1_700_000_000}, 401, "auth.zendesk_token_expired"),
}


@pytest.mark.parametrize(("claims", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_token_gets_a_page_that_says_so_in_both_languages(
    door: Door, claims: dict[str, Any], status: int, code: str
) -> None:
    given = {**claims, "key": private_key(claims["key"])} if "key" in claims else claims
    before = len(door.audited("support.session_refused"))
    answer = door.post(signed_url_token(door.acme, "33", **given))
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert code in answer.text
    assert "Reload the ticket" in answer.text
    assert "티켓을 새로 고치십시오" in answer.text
    assert "fairlead-session" not in answer.text
    # What nobody signed fills no record.
    assert len(door.audited("support.session_refused")) == before


def test_a_replayed_token_is_refused_and_recorded(door: Door) -> None:
    door.zendesk.agent("34")
    token = signed_url_token(door.acme, "34")
    assert door.post(token).status_code == 200
    again = door.post(token)
    assert again.status_code == 401
    assert "auth.zendesk_token_replayed" in again.text
    entry = door.audited("support.session_refused")[0]
    assert entry.actor == f"zendesk:{INSTALLATION}:34"
    assert entry.data == {"code": "auth.zendesk_token_replayed"}


def test_of_many_browsers_with_one_token_one_gets_a_session(door: Door) -> None:
    door.zendesk.agent("38")
    token = signed_url_token(door.acme, "38")
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: door.post(token).status_code, range(8)))
    assert statuses == [200] + [401] * 7


@pytest.mark.parametrize("role", ["end-user", None])
def test_a_customer_in_zendesk_is_no_agent(door: Door, role: str | None) -> None:
    user = "41" if role else "42"
    if role:
        door.zendesk.agent(user, role=role)
    answer = door.post(signed_url_token(door.acme, user))
    assert answer.status_code == 403
    assert "auth.not_an_agent" in answer.text
    assert door.audited("support.session_refused")[0].data == {"code": "auth.not_an_agent"}


def test_where_zendesk_cannot_be_asked_nobody_gets_in(door: Door) -> None:
    door.zendesk.failing = 503
    try:
        answer = door.post(signed_url_token(door.acme, "43"))
    finally:
        door.zendesk.failing = None
    assert answer.status_code == 503
    assert "support.zendesk_unavailable" in answer.text
    assert "지금은" in answer.text


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"data": {}}, 401),
        ({"data": {"token": ""}}, 401),
        ({"content": b"token=a&token=b", "headers": FORM}, 401),
        ({"content": b"token=\xff\xfe", "headers": FORM}, 401),
        ({"content": b"&" * 9000, "headers": FORM}, 401),
        ({"data": {"token": "a" * 17_000}}, 413),
        ({"data": {"token": "a" * 1_000_000}}, 413),
        ({"json": {"token": "a"}}, 415),
        ({"files": {"token": b"a"}}, 415),
        ({"content": b"token=a", "headers": {"Content-Type": "text/plain"}}, 415),
        ({}, 401),
    ],
    ids=[
        "no field", "empty", "two tokens", "no text", "thousands of fields", "too long", "a megabyte", "JSON",
        "multipart", "plain text", "no body",
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(door: Door, more: dict[str, Any], status: int) -> None:
    assert door.client.post(PAGE, **more).status_code == status


def test_forms_are_taken_nowhere_else(door: Door) -> None:
    problem(door.client.post(SESSION, data={"session": "x"}), 415, "http.unsupported_media_type")
    problem(door.client.post("/sessions", data={"username": "x"}), 415, "http.unsupported_media_type")


def test_an_agent_of_an_archived_project_gets_no_session(door: Door) -> None:
    closed = Agent(installation=GLOBEX, user="1", project_id="globex", role=AgentRole.AGENT)
    assert door.call("eve", "PATCH", "/projects/globex", json={"archived": True}).status_code == 200
    try:
        token = signed_url_token(door.globex, "44", key=private_key("globex"))
        answer = door.post(token)
        assert answer.status_code == 409
        assert "support.project_closed" in answer.text
        session = issue_session(KEY, closed, utc_now(), 900)
        renewal = door.call(proxy_token(door.globex), "POST", SESSION, json={"session": session})
        problem(renewal, 409, "support.project_closed")
    finally:
        assert door.call("eve", "PATCH", "/projects/globex", json={"archived": False}).status_code == 200


# --- files ---------------------------------------------------------------------------------------


def test_the_apps_files_are_served_as_they_are_packaged(door: Door) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".png": "image/png"}
    kinds[".txt"] = "text/plain"
    for name, content in read_app(app_dir())[0].items():
        if name == "manifest.json" or name.endswith(".html"):
            continue
        answer = door.client.get(f"/support/zendesk/{name}")
        assert answer.content == content, name
        assert answer.headers["content-type"].split(";")[0] == kinds[Path(name).suffix]
        again = door.client.get(f"/support/zendesk/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "assets/../manifest.json",
        "assets/%2e%2e/manifest.json",
        "assets/..%2f..%2fpyproject.toml",
        "assets//etc/passwd",
        "assets/vendor",
        "assets/",
        "translations/fr.json",
        "manifest.json",
        "vendor.json",
    ],
)
def test_nothing_else_is_served(door: Door, path: str) -> None:
    problem(door.client.get(f"/support/zendesk/{path}"), 404, "http.not_found")


# --- renewing ------------------------------------------------------------------------------------


def renewed(door: Door, session: str, proxy: str | None) -> httpx2.Response:
    return door.call(proxy, "POST", SESSION, json={"session": session})


def test_a_session_is_renewed_with_the_role_of_now(door: Door) -> None:
    session = door.session(AgentRole.AGENT, user="51")
    with door.database.transaction() as conn:
        accounts.put_agent(conn, PROJECT, INSTALLATION, "51", AgentRole.LEAD, actor="olga")
    answer = renewed(door, session, proxy_token(door.acme, user="1", role="administrator"))
    assert answer.status_code == 200, answer.text
    fresh = read_session(KEY, answer.json()["session"], utc_now()).agent
    assert (fresh.user, fresh.role) == ("51", AgentRole.LEAD)


def test_a_proxy_token_alone_or_of_another_installation_renews_nothing(door: Door) -> None:
    session = door.session(user="52")
    problem(renewed(door, session, None), 401, "auth.unauthenticated")
    problem(renewed(door, "", proxy_token(door.acme)), 422, "input.invalid")
    problem(renewed(door, "fls_x.y.z", proxy_token(door.acme)), 401, "auth.agent_session_invalid")
    problem(renewed(door, session, proxy_token(door.globex)), 401, "auth.zendesk_token_invalid")
    problem(renewed(door, session, session), 401, "auth.zendesk_token_invalid")
    problem(renewed(door, session, door.tokens["root"]), 401, "auth.zendesk_token_invalid")
    expired = proxy_token(door.acme, now=utc_now() - timedelta(minutes=3))
    problem(renewed(door, session, expired), 401, "auth.zendesk_token_expired")


def test_an_agent_who_is_none_any_more_is_not_renewed(door: Door) -> None:
    session = door.session(user="53")
    door.zendesk.agent("53", suspended=True)
    problem(renewed(door, session, proxy_token(door.acme)), 403, "auth.not_an_agent")


def test_a_session_that_ran_out_long_ago_is_not_renewed(door: Door) -> None:
    agent = Agent(installation=INSTALLATION, user="54", project_id=PROJECT, role=AgentRole.AGENT)
    old = issue_session(KEY, agent, utc_now() - timedelta(hours=1), 900)
    problem(renewed(door, old, proxy_token(door.acme)), 401, "auth.agent_session_expired")


# --- customers, bindings, agents -----------------------------------------------------------------


def test_an_owner_keeps_the_list_of_customers(door: Door) -> None:
    put = door.admin("olga", "PUT", "/customers/222222222222", json={"name": "Lotte"})
    assert put.status_code == 200, put.text
    made = put.json()
    assert len(made["external_id"]) >= 32
    assert made == {
        "account": "222222222222",
        "name": "Lotte",
        "access": "role",
        "role_name": "FairleadReadOnly",
        "regions": [],
        "language": "ko",
        "timezone": "Asia/Seoul",
        "external_id": made["external_id"],
        "trust_policy": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": "ARN_OF_THE_ROLE_OR_USER_OF_THIS_SERVER"},
                    "Action": "sts:AssumeRole",
                    "Condition": {"StringEquals": {"sts:ExternalId": made["external_id"]}},
                }
            ],
        },
    }
    again = {"name": "Lotte Duty Free", "regions": ["us-east-1", "ap-northeast-2", "us-east-1"]}
    changed = door.admin("olga", "PUT", "/customers/222222222222", json=again).json()
    assert changed["external_id"] == made["external_id"]
    assert (changed["name"], changed["regions"]) == ("Lotte Duty Free", ["ap-northeast-2", "us-east-1"])
    renewed = door.admin("olga", "PUT", "/customers/222222222222", json={**again, "new_external_id": True})
    assert renewed.json()["external_id"] != made["external_id"]
    own = door.admin("root", "PUT", "/customers/222222222223", json={"name": "Us", "access": "own"}).json()
    assert (own["access"], own["external_id"], own["trust_policy"]) == ("own", None, None)
    for account in ("222222222222", "222222222223"):
        assert door.admin("olga", "DELETE", f"/customers/{account}").status_code == 204
        problem(door.admin("olga", "GET", f"/customers/{account}"), 404, "support.customer_not_found")


def test_an_external_id_is_shown_only_to_who_may_manage(customers: Door) -> None:
    for path in ("/customers", f"/customers/{ACCOUNT}"):
        assert "e" * 43 in customers.admin("olga", "GET", path).text
        seen = customers.admin("vera", "GET", path)
        assert seen.status_code == 200
        assert ACCOUNT in seen.text
        assert "external_id" not in seen.text
        assert "e" * 43 not in seen.text


MANAGING: list[tuple[str, str, Any]] = [
    ("PUT", "/customers/222222222222", {"name": "x"}),
    ("DELETE", f"/customers/{ACCOUNT}", None),
    ("PUT", f"/bindings/organization/7001/{ACCOUNT}", None),
    ("PUT", f"/bindings/ticket/35/{ACCOUNT}", None),
    ("DELETE", f"/bindings/organization/7001/{ACCOUNT}", None),
    ("PUT", f"/agents/{INSTALLATION}/{USER}", {"role": "lead"}),
    ("DELETE", f"/agents/{INSTALLATION}/{USER}", None),
]
READING = [("GET", path, None) for path in ("/customers", f"/customers/{ACCOUNT}", "/bindings", "/agents")]


@pytest.mark.parametrize(("method", "path", "body"), MANAGING + READING)
def test_who_may_not_keep_the_list_is_refused(customers: Door, method: str, path: str, body: Any) -> None:
    def refused(who: str | None, status: int, code: str) -> None:
        found = problem(customers.admin(who, method, path, json=body), status, code)
        assert "e" * 43 not in str(found)

    refused(None, 401, "auth.unauthenticated")
    refused("eve", 404, "projects.not_found")
    refused(customers.session(AgentRole.AGENT), 403, "auth.agent_role_missing")
    refused(customers.session(AgentRole.LEAD), 403, "auth.agent_role_missing")
    foreign = customers.session(AgentRole.ADMINISTRATOR, installation=GLOBEX, project_id="globex")
    refused(foreign, 404, "projects.not_found")
    moved = customers.session(AgentRole.ADMINISTRATOR, installation=GLOBEX)
    refused(moved, 401, "auth.installation_unknown")
    if method != "GET":
        refused("vera", 403, "auth.permission_missing")
        refused("ann", 403, "auth.permission_missing")


def test_an_administrator_from_zendesk_keeps_the_list_too(door: Door) -> None:
    session = door.session(AgentRole.ADMINISTRATOR, user="61")
    made = door.admin(session, "PUT", "/customers/222222222224", json={"name": "Busan"})
    assert made.json()["external_id"]
    assert door.audited("support.customer_put")[0].actor == f"zendesk:{INSTALLATION}:61"
    # The role is asked for each time: it is gone with the row.
    assert door.admin("olga", "DELETE", f"/agents/{INSTALLATION}/61").status_code == 204
    refused = door.admin(session, "DELETE", "/customers/222222222224")
    problem(refused, 403, "auth.agent_role_missing")
    assert door.admin("olga", "DELETE", "/customers/222222222224").status_code == 204


def test_organizations_and_tickets_are_bound_and_listed(customers: Door) -> None:
    assert customers.admin("olga", "PUT", f"/bindings/organization/7001/{ACCOUNT}").status_code == 204
    assert customers.admin("olga", "PUT", f"/bindings/ticket/36/{SECOND}").status_code == 204
    listed = customers.admin("vera", "GET", "/bindings").json()["items"]
    assert {(one["kind"], one["zendesk_id"], one["account"]) for one in listed} >= {
        ("organization", "7001", ACCOUNT),
        ("organization", "7001", SECOND),
        ("ticket", "36", SECOND),
    }
    # Even an owner's ticket keeps to its organization.
    problem(
        customers.admin("olga", "PUT", f"/bindings/ticket/37/{ACCOUNT}"), 403, "support.account_not_allowed"
    )
    problem(customers.admin("olga", "PUT", f"/bindings/ticket/99/{ACCOUNT}"), 404, "support.ticket_unknown")
    missing = customers.admin("olga", "PUT", f"/bindings/organization/7001/{FOREIGN}")
    problem(missing, 404, "support.customer_not_found")
    assert customers.admin("olga", "DELETE", f"/bindings/ticket/36/{SECOND}").status_code == 204
    gone = customers.admin("olga", "DELETE", f"/bindings/ticket/36/{SECOND}")
    problem(gone, 404, "support.binding_not_found")


def test_whoever_takes_a_projects_name_anew_does_not_get_its_customers(door: Door) -> None:
    body = {"id": "shop", "name": "Shop"}
    assert door.call("olga", "POST", "/projects", json=body).status_code == 201
    path = f"/projects/shop/support/customers/{ACCOUNT}"
    assert door.call("olga", "PUT", path, json={"name": "ACME"}).status_code == 200
    assert door.call("olga", "DELETE", "/projects/shop").json()["archived_at"]  # kept: there is a customer
    problem(door.call("eve", "POST", "/projects", json=body), 409, "projects.exists")
    problem(door.call("eve", "GET", path), 404, "projects.not_found")
    assert door.call("olga", "DELETE", path).status_code == 204
    assert door.call("olga", "DELETE", "/projects/shop").status_code == 204
    assert door.call("eve", "POST", "/projects", json=body).status_code == 201


def test_roles_are_given_in_the_projects_own_installations_only(door: Door) -> None:
    assert door.admin("olga", "PUT", f"/agents/{INSTALLATION}/71", json={"role": "lead"}).status_code == 204
    listed = door.admin("vera", "GET", "/agents").json()["items"]
    assert ("71", "lead") in {(one["user"], one["role"]) for one in listed}
    assert {one["installation"] for one in listed} == {INSTALLATION}
    other = door.admin("olga", "PUT", f"/agents/{GLOBEX}/71", json={"role": "lead"})
    problem(other, 404, "support.installation_unknown")
    problem(door.admin("olga", "DELETE", f"/agents/{INSTALLATION}/99"), 404, "support.agent_not_found")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/customers/1234", {"name": "x"}),
        ("/customers/1111111111112222", {"name": "x"}),
        ("/customers/11111111111a", {"name": "x"}),
        ("/customers/%EF%BC%91" + "1" * 11, {"name": "x"}),
        ("/customers/222222222222", {}),
        ("/customers/222222222222", {"name": ""}),
        ("/customers/222222222222", {"name": "a\u0000b"}),
        ("/customers/222222222222", {"name": "x" * 201}),
        ("/customers/222222222222", {"name": "x", "external_id": "mine"}),
        ("/customers/222222222222", {"name": "x", "role_name": "arn:aws:iam::1:role/x"}),
        ("/customers/222222222222", {"name": "x", "timezone": "Asia/Atlantis"}),
        ("/customers/222222222222", {"name": "x", "regions": ["everywhere"]}),
        ("/customers/222222222222", {"name": "x", "regions": ["us-east-1"] * 51}),
        ("/customers/222222222222", {"name": "x", "language": "fr"}),
        ("/customers/222222222222", {"name": "x", "access": "magic"}),
        ("/bindings/organization/0/111111111111", None),
        ("/bindings/organization/abc/111111111111", None),
        (f"/bindings/ticket/{'1' * 21}/111111111111", None),
        ("/bindings/ticket/35/1111111111112222", None),
        (f"/agents/{INSTALLATION}/me", {"role": "lead"}),
        (f"/agents/{INSTALLATION}/1", {"role": "root"}),
    ],
)
def test_wrong_values_are_refused_by_name(door: Door, path: str, body: Any) -> None:
    found = problem(door.admin("olga", "PUT", path, json=body), 422, "input.invalid")
    assert found["details"]["faults"]


# --- the account of a ticket ---------------------------------------------------------------------


def test_a_lead_chooses_among_the_accounts_of_the_tickets_organization(customers: Door) -> None:
    lead, agent = customers.session(AgentRole.LEAD), customers.session(AgentRole.AGENT)
    path = "/support/zendesk/tickets/35/account"
    both = [{"account": one, "name": f"C {one}"} for one in (ACCOUNT, SECOND)]
    assert customers.call(agent, "GET", path).json() == {"account": None, "choices": both}
    refused = customers.call(agent, "PUT", path, json={"account": ACCOUNT})
    problem(refused, 403, "auth.agent_role_missing")
    assert customers.call(lead, "PUT", path, json={"account": SECOND}).status_code == 204
    assert customers.call(agent, "GET", path).json() == {"account": SECOND, "choices": both}
    for account in (FOREIGN, "333333333333"):
        answer = customers.call(lead, "PUT", path, json={"account": account})
        assert account not in str(problem(answer, 403, "support.account_not_allowed"))
    elsewhere = "/support/zendesk/tickets/37/account"
    assert customers.call(lead, "GET", elsewhere).json() == {"account": None, "choices": []}
    assert customers.call(lead, "PUT", elsewhere, json={"account": ACCOUNT}).status_code == 403
    assert customers.call(lead, "PUT", path, json={"account": "1" * 16}).status_code == 422
    problem(customers.call(lead, "GET", "/support/zendesk/tickets/99/account"), 404, "support.ticket_unknown")
    customers.admin("olga", "DELETE", f"/bindings/ticket/35/{SECOND}")


def test_without_zendesks_word_only_an_administrator_chooses(customers: Door) -> None:
    where = {"installation": GLOBEX, "project_id": "globex"}
    path, body = "/support/zendesk/tickets/1/account", {"account": FOREIGN}
    lead = customers.session(AgentRole.LEAD, **where)
    problem(customers.call(lead, "PUT", path, json=body), 403, "auth.agent_role_missing")
    administrator = customers.session(AgentRole.ADMINISTRATOR, **where)
    assert customers.call(administrator, "PUT", path, json=body).status_code == 204
    assert customers.call(lead, "GET", path).json() == {"account": FOREIGN, "choices": []}
    theirs = [{"account": FOREIGN, "name": f"C {FOREIGN}"}]
    assert customers.call(administrator, "GET", path).json() == {"account": FOREIGN, "choices": theirs}
    assert customers.call(administrator, "PUT", path, json={"account": ACCOUNT}).status_code == 404


def test_one_agent_cannot_use_up_what_zendesks_api_gives_to_all(door: Door) -> None:
    noisy, quiet = door.session(), door.session()
    path = "/support/zendesk/tickets/70001/account"
    answers = [door.call(noisy, "GET", path) for _ in range(2 * int(REQUESTS_AT_ONCE))]
    problem(answers[0], 404, "support.ticket_unknown")
    problem(answers[-1], 429, "support.rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1
    problem(door.call(quiet, "GET", path), 404, "support.ticket_unknown")


@pytest.mark.parametrize("credential", ["root", "olga", None, "fls_"])
def test_an_agents_addresses_take_agents_only(door: Door, credential: str | None) -> None:
    answer = door.call(credential, "GET", "/support/zendesk/tickets/35/account")
    assert answer.status_code == 401


def test_an_agents_session_opens_nothing_else(customers: Door) -> None:
    session = customers.session(AgentRole.ADMINISTRATOR)
    for path in ("/projects", f"/projects/{PROJECT}", "/users", f"/projects/{PROJECT}/audit"):
        problem(customers.call(session, "GET", path), 401, "auth.unauthenticated")


def refused_in(
    door: Door, languages: str | None, path: str, credential: str | None = None
) -> httpx2.Response:
    headers = {"Accept-Language": languages} if languages else {}
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    return door.client.get(path, headers=headers)


@pytest.mark.parametrize(
    ("languages", "korean"),
    [
        (None, False),
        ("en", False),
        ("ko", True),
        ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", True),
        ("en-US,en;q=0.9,ko;q=0.8", False),
        ("fr, ko;q=0.3", True),
        ("ko;q=0, en;q=0.1", False),
        ("ko;q=x, *", False),
        ("de", False),
        ("," * 9000, False),
    ],
)
def test_a_refusal_is_in_the_language_that_the_caller_prefers(
    door: Door, languages: str | None, korean: bool
) -> None:
    answer = refused_in(door, languages, "/support/zendesk/tickets/35/account")
    body = problem(answer, 401, "auth.unauthenticated")
    assert (body["title"] == "로그인을 확인하지 못했습니다") is korean
    assert answer.headers.get("content-language") == ("ko" if korean else None)
    assert answer.headers["www-authenticate"]
    if korean:
        assert "Send the session" in body["details"]["said"]["remedy"]


def test_wrong_values_and_services_that_are_away_are_told_in_korean_too(customers: Door) -> None:
    session = customers.session(AgentRole.LEAD)
    wrong = refused_in(customers, "ko", "/support/zendesk/tickets/35x/account", session)
    body = problem(wrong, 422, "input.invalid")
    assert body["title"] == "요청을 처리할 수 없습니다"
    assert body["details"]["faults"][0]["field"] == "ticket"
    customers.zendesk.failing = 500
    try:
        away = refused_in(customers, "ko", "/support/zendesk/tickets/3999/account", session)
    finally:
        customers.zendesk.failing = None
    assert away.status_code == 503
    assert away.json()["title"] == "지금은 응답이 없습니다"


def end_sessions(door: Door, who: str, user: str, installation: str = INSTALLATION) -> httpx2.Response:
    return door.admin(who, "DELETE", f"/agents/{installation}/{user}/sessions")


def test_an_administrator_ends_what_somebody_has_open_at_once(customers: Door) -> None:
    session, other = customers.session(user="6101"), customers.session(user="6102")
    path = "/support/zendesk/tickets/35/account"
    assert customers.call(session, "GET", path).status_code == 200
    assert end_sessions(customers, "olga", "6101").status_code == 204
    problem(customers.call(session, "GET", path), 401, "auth.agent_session_ended")
    renewal = customers.client.post(
        SESSION,
        json={"session": session},
        headers={"Authorization": f"Bearer {proxy_token(customers.acme, now=utc_now())}"},
    )
    problem(renewal, 401, "auth.agent_session_ended")
    assert customers.call(other, "GET", path).status_code == 200
    (entry,) = [one for one in customers.audited("support.sessions_ended") if one.subject.endswith(":6101")]
    assert (entry.actor, entry.subject) == ("olga", f"zendesk:{INSTALLATION}:6101")


def test_who_comes_from_zendesk_again_gets_a_new_session(customers: Door) -> None:
    customers.session(user="6103")
    assert end_sessions(customers, "olga", "6103").status_code == 204
    agent = Agent(user="6103", role=AgentRole.AGENT, installation=INSTALLATION, project_id=PROJECT)
    later = issue_session(KEY, agent, utc_now() + timedelta(seconds=1), 900)
    assert customers.call(later, "GET", "/support/zendesk/tickets/35/account").status_code == 200


@pytest.mark.parametrize(
    ("who", "installation", "status", "code"),
    [
        ("ann", INSTALLATION, 403, "auth.permission_missing"),
        ("eve", INSTALLATION, 404, "projects.not_found"),
        ("olga", GLOBEX, 404, "support.installation_unknown"),
    ],
)
def test_who_does_not_keep_the_list_ends_nobodys_sessions(
    customers: Door, who: str, installation: str, status: int, code: str
) -> None:
    session = customers.session(user="6104")
    problem(end_sessions(customers, who, "6104", installation), status, code)
    assert customers.call(session, "GET", "/support/zendesk/tickets/35/account").status_code == 200


def test_an_administrator_from_zendesk_ends_sessions_and_a_lead_does_not(customers: Door) -> None:
    session = customers.session(user="6105")
    problem(
        end_sessions(customers, customers.session(AgentRole.LEAD), "6105"), 403, "auth.agent_role_missing"
    )
    assert end_sessions(customers, customers.session(AgentRole.ADMINISTRATOR), "6105").status_code == 204
    assert customers.call(session, "GET", "/support/zendesk/tickets/35/account").status_code == 401


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def fairlead(door: Door) -> Callable[..., Result]:
    """The commands of `fairlead support` as a user types them, against the running server."""
    app = typer.Typer()
    register(app)

    def run(*arguments: str, who: str = "olga") -> Result:
        variables = {
            "FAIRLEAD_URL": str(door.client.base_url),
            "FAIRLEAD_TOKEN": door.tokens[who],
            "FAIRLEAD_PROJECT": PROJECT,
        }
        return CliRunner().invoke(app, list(arguments), env=variables)

    return run


def test_a_customer_is_added_with_the_trust_policy_to_hand_on(fairlead: Callable[..., Result]) -> None:
    role = "arn:aws:iam::555555555555:role/Hub"
    added = fairlead("customers", "add", "222222222230", "--name", "[red]Lotte", "--principal", role)
    assert added.exit_code == 0, added.output
    shown = added.output
    policy = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"AWS": role}
    assert len(statement["Condition"]["StringEquals"]["sts:ExternalId"]) >= 32
    listed = fairlead("customers", "list").output
    assert "222222222230" in listed
    assert "[red]Lotte" in listed
    assert "ExternalId" not in fairlead("customers", "show", "222222222230", who="vera").output
    again = json.loads(fairlead("customers", "show", "222222222230", "--json").output)
    assert again["external_id"] == statement["Condition"]["StringEquals"]["sts:ExternalId"]
    assert fairlead("customers", "remove", "222222222230").output == "222222222230 removed\n"


def test_bindings_and_roles_are_kept_from_the_command_line(
    customers: Door, fairlead: Callable[..., Result]
) -> None:
    assert fairlead("bind", ACCOUNT, "--organization", "7003").exit_code == 0
    assert "7003" in fairlead("bindings").output
    bound = json.loads(fairlead("bind", ACCOUNT, "--organization", "7003", "--remove", "--json").output)
    assert bound == {"kind": "organization", "zendesk_id": "7003", "account": ACCOUNT, "bound": False}
    assert "7003" not in fairlead("bindings").output
    assert fairlead("agents", "set", INSTALLATION, "88", "lead").exit_code == 0
    roles = json.loads(fairlead("agents", "list", "--json").output)["items"]
    assert ("88", "lead") in {(one["user"], one["role"]) for one in roles}
    ended = json.loads(fairlead("agents", "end-sessions", INSTALLATION, "88", "--json").output)
    assert ended == {"installation": INSTALLATION, "user": "88", "ended": True}
    assert fairlead("agents", "remove", INSTALLATION, "88").exit_code == 0
    assert "lead" not in [line for line in fairlead("agents", "list").output.splitlines() if " 88 " in line]


@pytest.mark.parametrize(
    ("arguments", "who", "said"),
    [
        (("customers", "add", "1234", "--name", "x"), "olga", "account"),
        (("customers", "add", "../../users", "--name", "x"), "olga", "nothing at"),
        (("customers", "remove", "333333333333"), "olga", "no customer"),
        (("customers", "add", "333333333333", "--name", "x"), "vera", "needs the role owner"),
        (("bind", ACCOUNT), "olga", "either --organization or --ticket"),
        (("bind", ACCOUNT, "--ticket", "1", "--organization", "2"), "olga", "either"),
        (("agents", "set", "7", "1", "lead"), "olga", "no installation 7"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    fairlead: Callable[..., Result], arguments: tuple[str, ...], who: str, said: str
) -> None:
    found = fairlead(*arguments, who=who)
    assert found.exit_code != 0
    assert said in f"{found.output} {found.exception}"


# --- the composed server -------------------------------------------------------------------------


async def test_the_composed_server_has_these_routes_and_refuses_a_wrong_installation(tmp_path: Path) -> None:
    from fairlead.compose import open_fairlead, serving_app  # imports all of the product

    good = installation_settings(tmp_path)
    support: dict[str, Any] = {"installations": (good,)}
    settings = Settings(data_dir=tmp_path / "data", support=SupportSettings(**support))
    async with open_fairlead(settings) as found, serving_app(found) as app:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            paths = (await client.get("/openapi.json")).json()["paths"]
            assert "/projects/{project}/support/customers" in paths
            page = await client.post(PAGE, data={"token": signed_url_token(good)})
            assert "support.project_closed" in page.text  # the project was not made yet
            assert (await client.get("/support/zendesk/assets/app.js")).status_code == 200
    gone = good.model_copy(update={"public_key_file": tmp_path / "gone.pem"})
    support = {"installations": (gone,)}
    settings = Settings(data_dir=tmp_path / "data", support=SupportSettings(**support))
    async with open_fairlead(settings) as found:
        with pytest.raises(FairleadError, match=r"gone\.pem") as caught:
            async with serving_app(found):
                pytest.fail("it serves")
    assert SECRET not in json.dumps(caught.value.problem())
