"""The HTTP door of jobs: who may ask and see what, links that open one report, accepted findings."""
# Rows of tables stay on one line.
# ruff: noqa: E501

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects import accounts as users
from fairlead.kernel.projects import sessions
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings, Role
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.settings import Settings
from fairlead.support import accounts, links, records
from fairlead.support.job_routes import JobsDoor
from fairlead.support.model import Agent, AgentRole, Customer, JobKind
from fairlead.support.records import retain
from fairlead.support.zendesk import issue_session
from tests.api.conftest import problem
from tests.services import fresh_database
from tests.support.desk import INSTALLATION, KEY, PROJECT, TICKET, Desk, opened_desk, serving
from tests.support.rehearsal import Found, Script, finding, rehearsed
from tests.support.zendesk_keys import installation_settings

ACME, GLOBEX, STRANGER = "444455556666", "777788889999", "999999999999"
OTHER_INSTALLATION = "360007654321"
PEOPLE = {"vera": Role.VIEWER, "tom": Role.AUTHOR, "pia": Role.APPROVER}
BASE = f"/projects/{PROJECT}/support"
DAY = timedelta(days=1)


@dataclass
class Door:
    """A server with two screenings of ACME's ticket and one of GLOBEX's."""

    client: httpx2.Client
    tokens: dict[str, str]
    desk: Desk
    door: JobsDoor
    first: str
    second: str
    foreign: str  # GLOBEX's, of another ticket

    def call(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {**more.pop("headers", {})}
        if who:
            headers["Authorization"] = f"Bearer {self.tokens.get(who, who)}"
        return self.client.request(method, path, headers=headers, **more)

    def session(self, role: AgentRole = AgentRole.AGENT, user: str = "11", **values: Any) -> str:
        """An agent's session."""
        given = {"installation": INSTALLATION, "project_id": PROJECT, **values}
        agent = Agent(user=user, role=role, **given)
        with self.desk.database.transaction() as conn:
            accounts.put_agent(conn, agent.project_id, agent.installation, user, role, actor="ann")
        return issue_session(KEY, agent, utc_now(), 900)

    def link(self, who: str = "vera", record: str = "", file: str = "report.html") -> str:
        answer = self.call(who, "POST", f"{BASE}/records/{record or self.second}/link", json={"file": file})
        assert answer.status_code == 200, answer.text
        url: str = answer.json()["url"]
        return url


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("jobs")
    installations = (
        installation_settings(folder, id=INSTALLATION, project=PROJECT),
        installation_settings(
            folder,
            id=OTHER_INSTALLATION,
            project="other",
            subdomain="globex",
            key="other",
            shared_secret="a1" * 32,
        ),
    )
    base = Settings(data_dir=folder / "data")
    settings = base.model_copy(
        update={"support": base.support.model_copy(update={"installations": installations, "link_s": 60})}
    )
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database("sqlite", folder, request))
        desk = stack.enter_context(opened_desk(folder, url, settings))
        tokens = _people(desk)
        given, client = stack.enter_context(serving(desk))
        yield Door(client, tokens, desk, given, *_screened(desk))


def _people(desk: Desk) -> dict[str, str]:
    tokens = {}
    with desk.database.transaction() as conn:
        for name in (*PEOPLE, "eve"):
            user = users.create_user(conn, username=name, password_hash="!", is_admin=False)
            tokens[name] = sessions.open_session(conn, KEY, user).access_token
        project, _ = projects.find_with_role(conn, users.find_user(conn, "ann").id, PROJECT) or (None, None)
        assert project is not None
        for name, role in PEOPLE.items():
            projects.set_member(conn, project, users.find_user(conn, name), role)
        eve = users.find_user(conn, "eve")
        projects.create(
            conn,
            project_id="other",
            name="Other",
            description="",
            settings=ProjectSettings(),
            owner=Actor(user_id=eve.id, username="eve", is_admin=False),
        )
        for account, ticket in ((ACME, TICKET), (GLOBEX, "5005")):
            customer = Customer(
                project_id=PROJECT, account=account, name=account, role_name=None, external_id="x" * 8
            )
            accounts.put_customer(conn, customer, actor="ann")
            accounts.bind_ticket(conn, PROJECT, ticket, account, organization=None, actor="ann")
    return tokens


def _screened(desk: Desk) -> tuple[str, str, str]:
    hostile = "<img src=x onerror=alert(1)>"
    script = Script(acts=[Found((finding(uid=hostile), finding(uid="two")))])
    with rehearsed(desk, script):
        jobs = [desk.submit(JobKind.SCREEN, ACME)]
        desk.ended(jobs[0])
        script.acts = [Found((finding(uid=hostile), finding(uid="three")))]
        jobs.append(desk.submit(JobKind.SCREEN, ACME))
        desk.ended(jobs[1])
        script.acts = [Found((finding(GLOBEX, uid="globex-secret-name"),))]
        jobs.append(desk.submit(JobKind.SCREEN, GLOBEX, ticket="5005"))
        desk.ended(jobs[2])
    return jobs[0], jobs[1], jobs[2]


# ── asking ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("asks", {"account": ACME, "text": "Which alarms ring?"}),
        ("asks", {"ticket": TICKET, "text": "어떤 알람이 울리나요?", "language": "ko"}),
        ("screenings", {"account": ACME, "services": ["s3"], "regions": ["us-east-1"], "engine": "builtin"}),
        ("reports", {"ticket": TICKET}),
        ("reports", {"account": ACME, "month": "2025-01"}),
    ],
)
def test_a_member_asks_by_account_or_by_ticket(door: Door, path: str, body: dict[str, Any]) -> None:
    answer = door.call("tom", "POST", f"{BASE}/{path}", json=body)
    assert answer.status_code == 202, answer.text
    run = door.desk.runs.get(answer.json()["job"])
    assert (run.params["account"], run.actor, run.project_id) == (ACME, "tom", PROJECT)
    assert run.params["installation"] == (INSTALLATION if "ticket" in body else None)
    entry = next(e for e in door.desk.audited(run.kind) if e.subject == f"run:{run.id}")
    assert (entry.actor, entry.data["account"], entry.data["ticket"]) == ("tom", ACME, body.get("ticket"))
    assert "alarm" not in str(entry.data)


@pytest.mark.parametrize(
    ("who", "path", "body", "status", "code"),
    [
        ("vera", "asks", {"account": ACME, "text": "x"}, 403, "auth.permission_missing"),
        ("eve", "asks", {"account": ACME, "text": "x"}, 404, "projects.not_found"),
        (None, "asks", {"account": ACME, "text": "x"}, 401, "auth.unauthenticated"),
        ("tom", "asks", {"account": STRANGER, "text": "x"}, 404, "support.customer_not_found"),
        ("tom", "asks", {"account": "1234567890123456", "text": "x"}, 422, "input.invalid"),
        ("tom", "asks", {"ticket": "404", "text": "x"}, 409, "support.account_not_bound"),
        ("tom", "asks", {"ticket": TICKET, "account": ACME, "text": "x"}, 422, "input.invalid"),
        ("tom", "asks", {"text": "x"}, 422, "input.invalid"),
        ("tom", "asks", {"account": ACME, "text": " \n "}, 422, "input.invalid"),
        ("tom", "asks", {"account": ACME, "text": "x" * 4001}, 422, "input.invalid"),
        ("tom", "asks", {"account": ACME, "text": "a\u0000b"}, 422, "input.invalid"),
        ("tom", "asks", {"ticket": TICKET, "installation": OTHER_INSTALLATION, "text": "x"}, 422, "input.invalid"),
        ("tom", "screenings", {"account": ACME, "engine": "rm -rf"}, 422, "input.invalid"),
        ("tom", "screenings", {"account": ACME, "regions": ["../x"]}, 422, "input.invalid"),
        ("tom", "reports", {"account": ACME, "month": "2099-01"}, 422, "support.month_not_begun"),
        ("tom", "reports", {"account": ACME, "month": "2025-13"}, 422, "support.month_unreadable"),
    ],
)  # fmt: skip
def test_who_may_not_ask_or_asks_wrongly_is_told_why(
    door: Door, who: str | None, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    problem(door.call(who, "POST", f"{BASE}/{path}", json=body), status, code)


def test_the_same_request_is_one_job(door: Door) -> None:
    body = {"account": ACME, "text": "once", "request_id": "7f1b"}
    first, again = (door.call("tom", "POST", f"{BASE}/asks", json=body).json() for _ in range(2))
    assert first["job"] == again["job"]
    other = door.call("tom", "POST", f"{BASE}/asks", json={**body, "text": "twice"})
    problem(other, 409, "run.idempotency_conflict")


# ── records ───────────────────────────────────────────────────────────────────────────────────────


def test_records_are_listed_page_by_page_and_by_account(door: Door) -> None:
    page = door.call("vera", "GET", f"{BASE}/records", params={"account": ACME, "limit": 1}).json()["items"]
    assert [item["id"] for item in page] == [door.second]
    rest = door.call("vera", "GET", f"{BASE}/records", params={"account": ACME, "before": door.second})
    assert [item["id"] for item in rest.json()["items"]] == [door.first]
    assert page[0]["summary"]["counts"] == {"new": 1, "fixed": 1, "unchanged": 1}
    problem(door.call("eve", "GET", f"{BASE}/records"), 404, "projects.not_found")
    problem(
        door.call("eve", "GET", f"/projects/other/support/records/{door.second}"),
        404,
        "support.record_unknown",
    )


def test_a_difference_is_to_the_screening_before_or_to_another(door: Door) -> None:
    path = f"{BASE}/records/{door.second}/difference"
    found = door.call("vera", "GET", path).json()
    assert (found["since"], [f["resource"]["uid"] for f in found["fixed"]]) == (door.first, ["two"])
    other = door.call("vera", "GET", path, params={"since": door.foreign})
    problem(other, 422, "support.accounts_differ")


# ── links ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["report.html", "report.json", "report.csv"])
def test_a_link_opens_its_file_in_a_sandbox_and_every_view_is_audited(door: Door, file: str) -> None:
    before = len(door.desk.audited("support.report_viewed"))
    answer = door.client.get(door.link(file=file))
    assert answer.status_code == 200
    assert answer.content == door.desk.files()[f"support/{PROJECT}/{ACME}/{door.second}/{file}"]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "frame-ancestors 'self' https://acme.zendesk.com" in policy
    assert "globex" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert ("attachment" in answer.headers.get("content-disposition", "")) == (file != "report.html")
    viewed, *_ = door.desk.audited("support.report_viewed")
    assert len(door.desk.audited("support.report_viewed")) == before + 1
    assert (viewed.actor, viewed.data["account"], viewed.data["ticket"]) == ("vera", ACME, TICKET)
    assert b"<img src=x" not in answer.content or file != "report.html"


def _tampered(door: Door) -> dict[str, tuple[str, int]]:
    url = door.link()
    path, _, proof = url.partition("?link=")
    head, body, signature = proof.split(".")
    now = utc_now()
    link = links.Link(record=door.second, file="report.html", actor="vera", expires_at=now + DAY)
    theirs = links.sign(links.key_of(SigningKey(b"x" * 32)), link)
    none = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    return {
        "nothing": (path, 403),
        "no signature": (f"{path}?link={head}.{body}.", 403),
        "algorithm none": (f"{path}?link={none}.{body}.", 403),
        "changed signature": (f"{path}?link={head}.{body}.{signature[:-2]}AA", 403),
        "another server's": (theirs, 403),
        "another record": (url.replace(door.second, door.first, 1), 403),
        "another customer": (url.replace(door.second, door.foreign, 1), 403),
        "another file": (url.replace("report.html", "report.json", 1), 403),
        "rubbish": (f"{path}?link=%00%ff", 403),
        "a session": (f"{path}?link={door.session()}", 403),
        "over": (links.sign(door.door.link_key, replace(link, expires_at=now - DAY)), 410),
        "a record that is not there": (
            links.sign(door.door.link_key, replace(link, record="0" * 32)),
            404,
        ),
    }


@pytest.mark.parametrize(
    "how",
    [
        "nothing",
        "no signature",
        "algorithm none",
        "changed signature",
        "another server's",
        "another record",
        "another customer",
        "another file",
        "rubbish",
        "a session",
        "over",
        "a record that is not there",
    ],
)
def test_a_link_that_is_not_ours_opens_nothing_and_says_so(door: Door, how: str) -> None:
    url, status = _tampered(door)[how]
    viewed = len(door.desk.audited("support.report_viewed"))
    page = door.client.get(url, headers={"Accept": "text/html,*/*"})
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>" in page.text
    assert "globex-secret-name" not in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    assert "acme" not in page.headers["content-security-policy"]
    machine = door.client.get(url, headers={"Accept": "application/json"})
    assert machine.status_code == status
    assert machine.json()["code"].startswith("support.")
    assert len(door.desk.audited("support.report_viewed")) == viewed


def test_an_agent_gets_a_link_for_a_report_of_the_ticket_at_hand(door: Door) -> None:
    body = {"ticket": int(TICKET), "url": f"/support/reports/{door.second}/report.html?link=old"}
    answer = door.call(door.session(user="21"), "POST", "/support/zendesk/links", json=body)
    assert answer.status_code == 200, answer.text
    assert door.client.get(answer.json()["url"]).status_code == 200
    assert door.desk.audited("support.report_viewed")[0].actor == f"zendesk:{INSTALLATION}:21"


@pytest.mark.parametrize(
    ("session", "ticket", "record", "status", "code"),
    [
        ({}, TICKET, "foreign", 404, "support.record_unknown"),
        ({}, "5005", "second", 404, "support.record_unknown"),
        ({}, "404", "second", 409, "support.account_not_bound"),
        ({"installation": OTHER_INSTALLATION, "project_id": "other"}, TICKET, "second", 409, "support.account_not_bound"),
        ({"project_id": "other"}, TICKET, "second", 401, "auth.installation_unknown"),
        (None, TICKET, "second", 401, "auth.unauthenticated"),
    ],
)  # fmt: skip
def test_an_agent_gets_no_link_for_what_is_not_the_tickets(
    door: Door, session: dict[str, Any] | None, ticket: str, record: str, status: int, code: str
) -> None:
    who = None if session is None else door.session(**session)
    body = {"ticket": ticket, "url": f"/support/reports/{getattr(door, record)}/report.html"}
    problem(door.call(who, "POST", "/support/zendesk/links", json=body), status, code)


def test_an_agent_is_no_user_and_a_user_no_agent(door: Door) -> None:
    assert door.call(door.session(), "GET", f"{BASE}/records").status_code == 401
    body = {"ticket": TICKET, "url": f"/support/reports/{door.second}/report.html"}
    assert door.call("pia", "POST", "/support/zendesk/links", json=body).status_code == 401


# ── accepted findings ─────────────────────────────────────────────────────────────────────────────


def _acceptance(**values: Any) -> dict[str, Any]:
    until = (utc_now() + 30 * DAY).date().isoformat()
    return {"check": "s3.public", "reason": "known, on purpose", "expires": until, **values}


def test_an_approver_accepts_a_finding_and_lets_it_come_back(door: Door) -> None:
    made = door.call("pia", "POST", f"{BASE}/suppressions", json=_acceptance(account=ACME, resource="three"))
    assert made.status_code == 201, made.text
    listed = door.call("vera", "GET", f"{BASE}/suppressions", params={"account": ACME}).json()["items"]
    assert [(one["author"], one["resource"], one["lapsed"]) for one in listed] == [("pia", "three", False)]
    change = door.call("vera", "GET", f"{BASE}/records/{door.second}/difference").json()
    assert change["counts"]["suppressed"] == 1
    path = f"{BASE}/suppressions/{made.json()['id']}"
    problem(door.call("tom", "DELETE", path), 403, "auth.permission_missing")
    assert door.call("pia", "DELETE", path).status_code == 204
    problem(door.call("pia", "DELETE", path), 404, "support.suppression_unknown")
    for action in ("support.suppression_added", "support.suppression_removed"):
        assert door.desk.audited(action)[0].actor == "pia"


@pytest.mark.parametrize(
    ("who", "values", "status", "code"),
    [
        ("tom", {}, 403, "auth.permission_missing"),
        ("pia", {"reason": " "}, 422, "support.suppression_invalid"),
        ("pia", {"reason": None}, 422, "input.invalid"),
        ("pia", {"expires": None}, 422, "input.invalid"),
        ("pia", {"expires": (utc_now() - 3 * DAY).date().isoformat()}, 422, "support.suppression_invalid"),
        ("pia", {"expires": "2999-01-01"}, 422, "support.suppression_invalid"),
        ("pia", {"account": STRANGER}, 404, "support.customer_not_found"),
        ("pia", {"author": "somebody else"}, 422, "input.invalid"),
    ],
)
def test_an_acceptance_needs_a_reason_a_day_and_somebody_who_may(
    door: Door, who: str, values: dict[str, Any], status: int, code: str
) -> None:
    problem(door.call(who, "POST", f"{BASE}/suppressions", json=_acceptance(**values)), status, code)


def test_a_lead_accepts_findings_of_the_tickets_account_only(door: Door) -> None:
    lead, agent = door.session(AgentRole.LEAD, user="31"), door.session(user="32")
    body = _acceptance(ticket=TICKET)
    path = "/support/zendesk/suppressions"
    problem(door.call(agent, "POST", path, json=body), 403, "auth.agent_role_missing")
    made = door.call(lead, "POST", path, json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["account"], made.json()["author"]) == (ACME, f"zendesk:{INSTALLATION}:31")
    foreign = f"{path}/{made.json()['id']}?ticket=5005"
    problem(door.call(lead, "DELETE", foreign), 404, "support.suppression_unknown")
    listed = door.call(agent, "GET", path, params={"ticket": "5005"}).json()["items"]
    assert listed == []
    for resource in (None, f"arn:aws:s3:::bucket-of-{ACME}"):
        everywhere = {
            "check": "s3.versioning",
            "reason": "ours",
            "expires": body["expires"],
            "resource": resource,
        }
        assert door.call("pia", "POST", f"{BASE}/suppressions", json=everywhere).status_code == 201
    listed = door.call(agent, "GET", path, params={"ticket": "5005"}).json()["items"]
    assert [one["resource"] for one in listed] == [None]  # a thing of ACME's is not named to others
    assert door.call(lead, "DELETE", f"{path}/{made.json()['id']}?ticket={TICKET}").status_code == 204


def test_an_agent_sees_what_failed_and_is_not_accepted(door: Door) -> None:
    path = "/support/zendesk/findings"
    asked = {"ticket": TICKET, "record": door.second}
    lead = door.session(AgentRole.LEAD, user="33")
    (found,) = door.call(lead, "GET", path, params=asked).json()["items"]
    assert (found["check"], found["count"], found["severity"]) == ("s3.public", 2, "high")
    assert {one["uid"] for one in found["resources"]} == {"<img src=x onerror=alert(1)>", "three"}
    body = _acceptance(ticket=TICKET, resource="three")
    made = door.call(lead, "POST", "/support/zendesk/suppressions", json=body)
    (found,) = door.call(lead, "GET", path, params=asked).json()["items"]
    assert [one["uid"] for one in found["resources"]] == ["<img src=x onerror=alert(1)>"]
    gone = f"/support/zendesk/suppressions/{made.json()['id']}?ticket={TICKET}"
    assert door.call(lead, "DELETE", gone).status_code == 204


@pytest.mark.parametrize(
    ("ticket", "record", "status", "code"),
    [
        (TICKET, "foreign", 404, "support.record_unknown"),
        ("5005", "second", 404, "support.record_unknown"),
        (TICKET, "no-record", 422, "input.invalid"),
        ("404", "second", 409, "support.account_not_bound"),
    ],
)
def test_findings_of_other_tickets_are_not_told(
    door: Door, ticket: str, record: str, status: int, code: str
) -> None:
    asked = {"ticket": ticket, "record": getattr(door, record, record)}
    answer = door.call(
        door.session(AgentRole.LEAD, user="34"), "GET", "/support/zendesk/findings", params=asked
    )
    problem(answer, status, code)
    assert "globex" not in answer.text


# ── retention; the last, for it deletes ───────────────────────────────────────────────────────────


async def test_what_was_kept_long_enough_is_deleted_and_says_so(door: Door) -> None:
    desk, url, now = door.desk, door.link(), utc_now()
    assert await retain(desk.database, desk.objects, 400, now + 399 * DAY) == 0
    # A crash between the files and the mark: the files are gone already.
    with desk.database.reading() as conn:
        first = records.by_id(conn, door.first)
    await records.remove_files(desk.objects, first.prefix)
    assert await retain(desk.database, desk.objects, 400, now + 401 * DAY) == 3
    assert await retain(desk.database, desk.objects, 400, now + 401 * DAY) == 0
    assert [key for key in desk.files() if key.startswith("support/")] == []
    shown = door.call("vera", "GET", f"{BASE}/records/{door.second}").json()
    assert shown["deleted_at"]
    assert shown["files"] == []
    page = door.client.get(url, headers={"Accept": "text/html"})
    assert page.status_code == 410
    assert "보관" in page.text
    problem(
        door.call("vera", "POST", f"{BASE}/records/{door.second}/link", json={}),
        410,
        "support.record_deleted",
    )
    assert len(desk.audited("support.record_deleted")) == 3
    assert json.dumps(shown["summary"])
