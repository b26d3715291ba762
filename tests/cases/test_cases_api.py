"""The HTTP door: who may see and steer cases, and that nothing of a patient passes it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fairlead.api.app import build_app
from fairlead.cases import gpus, intake, machine, store
from fairlead.cases.generate import Written
from fairlead.cases.operations import end_case, free_expired, reconcile, retain
from fairlead.cases.routes import CasesDoor, router
from fairlead.cases.steps.port import CaseParts, Turns
from fairlead.cases.steps.validate import own_folder
from fairlead.cases.store import BeamStatus, CaseRecord, CaseStatus
from fairlead.cases.verify import VerdictCriteria
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.objects import ObjectStore, open_objects
from fairlead.kernel.projects import accounts, sessions
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Actor, ProjectSettings, Role
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Runs, RunStatus, open_runs
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.runs.model import Outcome
from fairlead.kernel.settings import CaseHostSettings, CasesSettings
from tests.api.conftest import problem, served

KEY = SigningKey(b"k" * 32)
PEOPLE = {"vera": Role.VIEWER, "ann": Role.AUTHOR, "olga": Role.OWNER}


@dataclass
class Door:
    """A server with one case, seen by intake, that no worker has begun."""

    client: httpx2.Client
    tokens: dict[str, str]
    database: Database
    runs: Runs
    objects: ObjectStore
    patient: str

    def call(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return self.client.request(method, path, headers=headers, **more)

    def case(self) -> CaseRecord:
        with self.database.reading() as conn:
            return store.by_number(conn, "clinic", 1)

    def set(self, **values: Any) -> None:
        case_id = self.case().id
        with self.database.transaction() as conn:
            store.update_case(conn, case_id, utc_now(), **values)


@pytest.fixture
def door(tmp_path: Path, database: Database, clean: Written) -> Iterator[Door]:
    with ExitStack() as stack:
        runs = open_runs(database)
        stack.callback(runs.close)
        tokens = {}
        with database.transaction() as conn:
            for name in ("root", *PEOPLE, "eve"):
                user = accounts.create_user(conn, username=name, password_hash="!", is_admin=name == "root")
                tokens[name] = sessions.open_session(conn, KEY, user).access_token
            owner = accounts.find_user(conn, "olga")
            project = projects.create(
                conn,
                project_id="clinic",
                name="Clinic",
                description="",
                settings=ProjectSettings(),
                owner=Actor(user_id=owner.id, username="olga", is_admin=False),
            )
            for name in ("vera", "ann"):
                projects.set_member(conn, project, accounts.find_user(conn, name), PEOPLE[name])
        folder = tmp_path / clean.identity.patient_id
        with database.transaction() as conn:
            found = intake.Found(
                project_id="clinic", folder=folder, source="s", seen="1", content="1", identity="i"
            )
            assert intake.take(conn, runs, found) == "new"
        objects = open_objects((tmp_path / "objects").as_uri())
        host = CaseHostSettings(name="here", work_dir="/nowhere", slots=2)
        parts = CasesDoor(database=database, runs=runs, objects=objects, hosts=(host,))
        app = build_app(database=database, signing_key=KEY, runs=runs, routers=[router(parts)])
        url = stack.enter_context(served(app))
        client = stack.enter_context(httpx2.Client(base_url=url, timeout=60, trust_env=False))
        yield Door(client, tokens, database, runs, objects, clean.identity.patient_id)


PATHS = [
    ("GET", "", 200, "vera"),
    ("GET", "/1", 200, "vera"),
    ("GET", "/1/pictures", 200, "vera"),
    ("POST", "/1/cancel", 202, "ann"),
    ("POST", "/1/priority", 200, "ann"),
]


def test_members_see_and_steer_by_their_role_and_others_learn_nothing(door: Door) -> None:
    body = {"priority": 5}
    for method, path, status, least in PATHS:
        more = {"json": body} if path.endswith("priority") else {}
        address = f"/projects/clinic/cases{path}"
        problem(door.call("eve", method, address, **more), 404, "projects.not_found")
        assert door.call(None, method, address, **more).status_code == 401
        if least == "ann":
            problem(door.call("vera", method, address, **more), 403, "auth.permission_missing")
        answer = door.call(least, method, address, **more)
        assert answer.status_code == status, (path, answer.text)
        assert door.patient not in answer.text


def test_a_case_that_nobody_has_begun_is_cancelled_at_once_and_can_be_retried(door: Door) -> None:
    address = "/projects/clinic/cases/1"
    problem(door.call("ann", "POST", f"{address}/retry"), 409, "cases.status")
    assert door.call("ann", "POST", f"{address}/cancel").json()["status"] == "cancelled"
    problem(door.call("ann", "POST", f"{address}/cancel"), 409, "cases.status")
    again = door.call("ann", "POST", f"{address}/retry").json()
    assert (again["status"], again["round"]) == ("pending", 2)
    problem(door.call("ann", "GET", "/projects/clinic/cases/2"), 404, "cases.unknown")
    history = door.call("olga", "GET", "/projects/clinic/audit").json()["items"]
    assert {"case.started", "case.cancel_requested", "case.cancelled"} <= {one["action"] for one in history}


def test_a_report_is_shown_where_it_can_do_nothing_and_only_pictures_are_pictures(door: Door) -> None:
    address, prefix = "/projects/clinic/cases/1", f"cases/{door.case().id}/1"
    problem(door.call("vera", "GET", f"{address}/report"), 404, "cases.report_missing")
    for name, content in (("report.html", b"<p>"), ("gamma.png", b"png"), ("result.json", b"{}")):
        asyncio.run(door.objects.put(f"{prefix}/{name}", content))
    report = door.call("vera", "GET", f"{address}/report")
    assert report.content == b"<p>"
    assert "sandbox" in report.headers["content-security-policy"]
    assert door.call("vera", "GET", f"{address}/pictures").json() == {"items": ["gamma.png"]}
    assert door.call("vera", "GET", f"{address}/pictures/gamma.png").content == b"png"
    for name in ("result.json", "..%2Freport.html", "missing.png"):
        answer = door.call("vera", "GET", f"{address}/pictures/{name}")
        assert answer.status_code == 404, name


def test_hosts_are_paused_by_administrators_and_show_who_holds_their_places(door: Door) -> None:
    with door.database.transaction() as conn:
        now = utc_now()
        request = gpus.Request(holder="job", project_id="clinic", gpus=0, priority=0, since=now)
        gpus.enqueue(conn, request, now)
        gpus.claim(conn, "job", [gpus.Slots(host="here", cpu_jobs=2)], now)
    (host,) = door.call("vera", "GET", "/case-hosts").json()["items"]
    assert [slot["job"] for slot in host["slots"]] == ["job", None]
    problem(door.call("ann", "PUT", "/case-hosts/here", json={"state": "paused"}), 403, "auth.not_admin")
    problem(door.call("root", "PUT", "/case-hosts/x", json={"state": "paused"}), 404, "cases.host_unknown")
    answer = door.call("root", "PUT", "/case-hosts/here", json={"state": "draining"}).json()
    assert (answer["items"][0]["state"], answer["items"][0]["drained"]) == ("draining", False)


def test_progress_never_falls_within_a_round_and_a_finished_round_is_not_ended_again(door: Door) -> None:
    for share in (0.5, 0.2, 0.7):
        door.set(progress=share)
    assert door.case().progress == 0.7
    door.set(status=CaseStatus.COMPLETED, verdict="pass")
    case_id = door.case().id
    with door.database.transaction() as conn:
        end_case(conn, case_id, 1, CaseStatus.FAILED, BeamStatus.FAILED, {"code": "x"})
    assert (door.case().status, door.case().problem) == (CaseStatus.COMPLETED, None)


def parts_of(door: Door, folder: Path) -> CaseParts:
    return CaseParts(
        database=door.database,
        objects=door.objects,
        machine=machine.load(),
        places={},
        settings=CasesSettings(retention_days=0),
        criteria=VerdictCriteria(),
        work=folder,
        calculating=Turns(1),
    )


def test_a_case_whose_run_was_given_up_ends_and_gives_its_places_back(door: Door, tmp_path: Path) -> None:
    case, parts = door.case(), parts_of(door, tmp_path)
    with door.database.transaction() as conn:
        now = utc_now()
        store.plan_beams(conn, case.id, 1, [2], now)
        job = store.job_name(case.id, 1, 2, 1)
        gpus.enqueue(conn, gpus.Request(holder=job, project_id="clinic", gpus=0, priority=0, since=now), now)
        gpus.claim(conn, job, [gpus.Slots(host="here", cpu_jobs=1)], now)
        store.update_beam(conn, case.id, 1, 2, status=BeamStatus.RUNNING, attempt=1, host="here", job=job)
        store.update_case(conn, case.id, now, status=CaseStatus.RUNNING)
    assert reconcile(parts) == 0
    with door.database.transaction() as conn:
        outcome = Outcome(status=RunStatus.FAILED, error={"code": "run.lost"})
        run_store.finish(conn, str(case.run_id), outcome)
    assert reconcile(parts) == 1
    assert (door.case().status, door.case().problem) == (CaseStatus.FAILED, {"code": "run.lost"})
    with door.database.reading() as conn:
        assert gpus.leases(conn) == ()
        assert [beam.status for beam in store.beams_of(conn, case.id, 1)] == [BeamStatus.FAILED]


def test_work_folders_go_with_the_retention_and_only_once(door: Door, tmp_path: Path) -> None:
    case, parts = door.case(), parts_of(door, tmp_path / "work")
    folder = tmp_path / "work" / f"{case.id}-r1"
    own_folder(folder)
    assert retain(parts) == 0
    assert folder.exists()
    door.set(status=CaseStatus.COMPLETED, finished_at=utc_now() - timedelta(days=1))
    assert (retain(parts), retain(parts)) == (1, 0)
    assert not folder.exists()


async def test_a_lease_that_nobody_renews_is_freed_where_no_job_holds_it(door: Door, tmp_path: Path) -> None:
    parts = parts_of(door, tmp_path)

    def claimed() -> None:
        with door.database.transaction() as conn:
            then = utc_now() - timedelta(hours=1)
            wanted = gpus.Request(holder="job", project_id="clinic", gpus=0, priority=0, since=then)
            gpus.enqueue(conn, wanted, then)
            gpus.claim(conn, "job", [gpus.Slots(host="gone", cpu_jobs=1)], then)

    await asyncio.to_thread(claimed)
    assert await free_expired(parts) == 1
    assert await free_expired(parts) == 0
