"""Agents' live connections: a real server process, a real worker process, real clients."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
import socketio

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs import Runs, RunStatus, open_runs
from fairlead.kernel.runs import store as run_store
from fairlead.kernel.runs.model import Outcome
from fairlead.support import accounts, history, jobs, messages, session_ends
from fairlead.support.allowances import REQUESTS_A_SECOND, REQUESTS_AT_ONCE, TooManyRequests
from fairlead.support.history import EVENTS_MAX, JOBS_MAX
from fairlead.support.messages import MESSAGE_MAX_BYTES, NAMESPACE
from fairlead.support.model import Agent, AgentRole, Customer, JobKind, Language
from fairlead.support.socket_gate import JOIN_S, OWED_MAX, STALL_S, Connection, Gate
from fairlead.support.socket_requests import JOBS_AT_ONCE
from fairlead.support.socket_sessions import ARRIVALS_AT_ONCE, CONNECTIONS_MAX, Sessions
from fairlead.support.zendesk import issue_session
from tests.services import free_port, fresh_database
from tests.support.live import (
    ACCOUNT,
    OTHER,
    OTHER_ACCOUNT,
    OTHER_PROJECT,
    Client,
    Desk,
    Process,
    agents,
    open_desk,
    until,
)
from tests.support.redis_service import running_redis
from tests.support.zendesk_keys import INSTALLATION, PROJECT, SECRET, USER
from tests.support.zendesk_server import running_zendesk

Connect = Callable[..., Awaitable[Client]]
USERS = iter(range(361507780000, 361507790000))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with fresh_database("sqlite", folder, request) as url, open_desk(folder, url) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(desk: Desk) -> Process:
    """The API process of most tests; the worker runs too."""
    started = desk.start_server()
    desk.start_worker()
    return started


def agent_id() -> str:
    """Somebody who has not asked anything yet: limits are per agent."""
    return str(next(USERS))


@pytest.fixture
async def connect(desk: Desk, server: Process) -> AsyncIterator[Connect]:
    """Connects agents, each somebody else, to a ticket of the test's own or to the one that is named."""
    clients: list[Client] = []
    own = desk.ticket()

    async def connected(
        ticket: str | None = None, *, url: str | None = None, ttl_s: float = 900, **who: str
    ) -> Client:
        token = desk.token(**{"user": agent_id(), **who}, ttl_s=ttl_s)
        client = Client(url or server.said, token, ticket or own)
        clients.append(client)
        return await client.connect()

    async with agents():
        yield connected
    await asyncio.gather(*(client.close() for client in clients))


async def test_a_question_is_acknowledged_and_all_that_happens_is_told_in_order(connect: Connect) -> None:
    client = await connect()
    answer = await client.ask(deltas=3)
    assert answer["ok"] is True
    assert await client.ended(answer["job"]) == ["accepted", "progress", *["delta"] * 3, "answer"]
    assert client.whole(answer["job"])
    assert client.raw == client.events
    assert client.hellos == [{"account": ACCOUNT, "organization": None, "role": "agent"}]
    accepted = client.of(answer["job"])[0]["data"]
    assert (accepted["what"], json.loads(accepted["text"])) == ("ask", {"deltas": 3})
    assert client.of(answer["job"])[5]["data"]["text"] == "2 "
    for event in client.raw:
        messages.JobEvent.model_validate(event)
        if event["kind"] in messages.KINDS:
            messages.KINDS[event["kind"]].model_validate(event["data"])


async def test_screenings_and_monthly_reports_are_asked_for_and_told(connect: Connect) -> None:
    client = await connect()
    common = {"ticket": client.ticket, "language": "ko"}
    screen = await client.send("screen", {"id": str(uuid.uuid4()), **common})
    report = await client.send("report", {"id": str(uuid.uuid4()), "month": "2026-10", **common})
    assert await client.ended(screen["job"]) == ["accepted", "report"]
    assert await client.ended(report["job"]) == ["accepted", "report"]
    assert client.of(report["job"])[0]["data"]["month"] == "2026-10"
    future = await client.send("report", {"id": str(uuid.uuid4()), "month": "2098-10", **common})
    assert future["problem"]["code"] == "support.month_not_begun"


async def test_a_failed_job_says_why(connect: Connect) -> None:
    client = await connect()
    job = (await client.ask(fail=True))["job"]
    assert (await client.ended(job))[-1] == "failed"
    problem = client.of(job)[-1]["data"]["problem"]
    assert (problem["code"], problem["remedy"]) == ("test.out_of_luck", "Try tomorrow.")


async def test_who_comes_back_gets_what_follows_and_nothing_twice(desk: Desk, connect: Connect) -> None:
    client = await connect()
    job = (await client.ask(deltas=4, at=1, gate="back"))["job"]
    await until(lambda: client.seen.get(job) == 5)
    await client.cut()
    desk.open_gate("back")
    await until(lambda: _succeeded(desk, job))
    await client.connect()
    await client.ended(job)
    assert client.whole(job)
    assert client.raw == client.events  # the server sent only what was missing


def _succeeded(desk: Desk, job: str) -> bool:
    return "run.succeeded" in _types(desk, job)


def _types(desk: Desk, job: str) -> list[str]:
    with desk.database.reading() as connection:
        return [event.type for event in run_store.events(connection, job, 0, 500)]


async def test_a_server_that_is_killed_in_the_middle_of_a_job_loses_nothing(
    desk: Desk, connect: Connect
) -> None:
    port = free_port()
    doomed = desk.start_server(port=port)
    client = await connect(url=doomed.said)
    job = (await client.ask(deltas=6, at=2, gate="killed"))["job"]
    await until(lambda: client.seen.get(job) == 6)
    doomed.kill()
    await until(lambda: not client.io.connected, "the client to notice")
    desk.open_gate("killed")
    await until(lambda: _succeeded(desk, job))
    desk.start_server(port=port)
    await client.connect()
    assert (await client.ended(job))[-1] == "answer"
    assert client.whole(job)


async def test_a_request_that_is_sent_again_is_the_same_job(desk: Desk, connect: Connect) -> None:
    client = await connect()
    request = str(uuid.uuid4())
    first = await client.ask(id_=request, deltas=1)
    again = await client.ask(id_=request, deltas=1)
    await client.cut()
    await client.connect()
    after = await client.ask(id_=request, deltas=1)
    assert first == again == after
    with desk.database.reading() as connection:
        found = jobs.of_ticket(connection, PROJECT, INSTALLATION, client.ticket)
    assert [job.run_id for job in found] == [first["job"]]
    other = await client.ask(id_=request, deltas=2)
    assert other["problem"]["code"] == "run.idempotency_conflict"


async def test_everybody_at_the_ticket_sees_it_and_nobody_else(connect: Connect) -> None:
    asker, colleague = await connect(), await connect()
    elsewhere = await connect("55")
    stranger = await connect(asker.ticket, installation=OTHER, project=OTHER_PROJECT)
    job = (await asker.ask(deltas=2))["job"]
    await asyncio.gather(asker.over(job), colleague.over(job))
    assert asker.events == colleague.events
    late = await connect()
    assert await late.ended(job) == asker.kinds(job)
    assert late.whole(job)
    assert (elsewhere.raw, stranger.raw) == ([], [])


async def test_two_customers_side_by_side_never_see_each_other(connect: Connect) -> None:
    ours = await connect("56")
    theirs = await connect("56", installation=OTHER, project=OTHER_PROJECT)
    answers = await asyncio.gather(
        *(
            client.ask(deltas=3, mine=account)
            for client, account in ((ours, ACCOUNT), (theirs, OTHER_ACCOUNT))
        )
    )
    await asyncio.gather(ours.ended(answers[0]["job"]), theirs.ended(answers[1]["job"]))
    said = [json.dumps([client.raw, client.hellos]) for client in (ours, theirs)]
    assert ACCOUNT in said[0]
    assert OTHER_ACCOUNT in said[1]
    assert OTHER_ACCOUNT not in said[0]
    assert ACCOUNT not in said[1]


async def test_jobs_of_other_tickets_can_be_neither_stopped_nor_read(desk: Desk, connect: Connect) -> None:
    owner = await connect("57")
    job = (await owner.ask(deltas=2, at=0, gate="foreign"))["job"]
    await until(lambda: owner.seen.get(job) == 4)
    same_number = await connect("57", installation=OTHER, project=OTHER_PROJECT)
    for client in (await connect("58"), same_number):
        request = {"id": str(uuid.uuid4()), "ticket": client.ticket, "job": job}
        for name, payload in (
            ("cancel", request),
            ("inserted", {**request, "as": "reply"}),
            ("resume", {"jobs": {job: 0}}),
        ):
            refused = await client.send(name, payload)
            assert refused["problem"]["code"] == "support.job_not_found", name
        await client.cut()
        await client.connect(since={job: 0})
        other_ticket = await client.ask(ticket="57" if client.ticket != "57" else "59")
        assert other_ticket["problem"]["code"] == "support.ticket_foreign"
        assert client.raw == []
    desk.open_gate("foreign")
    assert (await owner.ended(job))[-1] == "answer"


async def test_claiming_to_have_seen_the_future_hides_nothing_from_others(
    desk: Desk, connect: Connect
) -> None:
    owner = await connect()
    job = (await owner.ask(deltas=3, at=0, gate="future"))["job"]
    await until(lambda: owner.seen.get(job) == 4)
    await owner.close()
    liar = await connect(owner.ticket)
    await liar.cut()
    await liar.connect(since={job: 10_000})
    await owner.connect()
    desk.open_gate("future")
    assert (await owner.ended(job))[-1] == "answer"
    assert owner.whole(job)


async def test_a_ticket_that_went_to_another_account_does_not_tell_what_was_found_in_the_one_before(
    desk: Desk, connect: Connect
) -> None:
    new = "777788889999"
    before = await connect()
    over = (await before.ask(deltas=2))["job"]
    await before.ended(over)
    at_work = (await before.ask(deltas=2, at=0, gate="rebound"))["job"]
    await until(lambda: before.seen.get(at_work) == 4)
    with desk.database.transaction() as connection:
        customer = Customer(project_id=PROJECT, account=new, name="new", role_name=None, external_id=None)
        accounts.put_customer(connection, customer, actor="test")
        accounts.bind_ticket(connection, PROJECT, before.ticket, new, organization=None, actor="test")
    after = await connect(before.ticket)
    await until(lambda: after.hellos)
    assert after.hellos[0]["account"] == new
    assert (await after.send("resume", {"jobs": {over: 0}}))["problem"]["code"] == "support.job_not_found"
    await after.cut()
    await after.connect(since={over: 0, at_work: 1})
    desk.open_gate("rebound")
    assert (await before.ended(at_work))[-1] == "answer"  # who asked is told to the end
    mine = (await after.ask(deltas=1))["job"]
    assert (await after.ended(mine))[-1] == "answer"
    await before.ended(mine)
    assert {event["job"] for event in after.raw} == {mine}
    assert ACCOUNT not in json.dumps(after.raw)


async def test_a_gap_is_filled_on_request(connect: Connect) -> None:
    client = await connect()
    job = (await client.ask(deltas=3))["job"]
    await client.over(job)
    before = len(client.raw)
    assert await client.send("resume", {"jobs": {job: 2}}) == {"ok": True, "job": None}
    await until(lambda: len(client.raw) > before + 4)
    again = [event["seq"] for event in client.raw[before:]]
    assert again == list(range(3, 3 + len(again)))


async def test_a_job_is_stopped_once_however_often_it_is_asked(desk: Desk, connect: Connect) -> None:
    client = await connect()
    job = (await client.ask(deltas=2, at=0, gate="never"))["job"]
    await until(lambda: client.seen.get(job) == 4)
    request = {"id": str(uuid.uuid4()), "ticket": client.ticket, "job": job}
    assert await client.send("cancel", request) == {"ok": True, "job": job}
    assert await client.send("cancel", request) == {"ok": True, "job": job}
    assert (await client.ended(job))[-1] == "cancelled"
    assert await client.send("cancel", request) == {"ok": True, "job": job}
    with desk.database.reading() as connection:
        noted = audit.entries(connection, subject=f"run:{job}")
    assert [entry.action for entry in noted] == ["run.cancel_requested", "support.ask"]


async def test_an_insertion_is_audited_once_with_agent_ticket_and_account(
    desk: Desk, connect: Connect
) -> None:
    client = await connect()
    job = (await client.ask(deltas=1))["job"]
    request = {"id": str(uuid.uuid4()), "ticket": client.ticket, "job": job, "as": "internal_note"}
    for _ in range(2):
        assert await client.send("inserted", request) == {"ok": True, "job": job}
    assert await client.send("inserted", {**request, "id": str(uuid.uuid4()), "job": None}) == {
        "ok": True,
        "job": None,
    }
    with desk.database.reading() as connection:
        noted = audit.entries(connection, action="support.inserted")
    mine = [entry for entry in noted if entry.data["ticket"] == client.ticket]
    assert len(mine) == 2
    assert mine[1].data == {
        "ticket": client.ticket,
        "installation": INSTALLATION,
        "as": "internal_note",
        "job": job,
        "account": ACCOUNT,
    }


async def test_while_zendesk_is_silent_a_tickets_own_binding_is_neither_shown_nor_used(
    connect: Connect, desk: Desk
) -> None:
    given = {"id": INSTALLATION, "project": PROJECT, "subdomain": "acme", "shared_secret": SECRET}
    api = {"api_url": "http://127.0.0.1:9", "api_email": "bot@acme.kr", "api_token": "t" * 20}
    key_file = desk.folder / "keys" / "zendesk.pem"
    server = desk.start_server(installations=[{**given, **api, "public_key_file": str(key_file)}])
    client = await connect(url=server.said)
    await until(lambda: client.hellos)
    assert client.hellos == [{"account": None, "organization": None, "role": "agent"}]
    refused = await client.ask()
    assert refused["problem"]["code"] == "support.zendesk_unavailable"
    health = httpx2.get(f"{server.said}/health", trust_env=False).json()
    assert (health["status"], health["checks"]["zendesk"]["ok"]) == ("degraded", False)
    server.stop()


async def test_what_is_hidden_while_zendesk_is_silent_follows_once_it_speaks(
    connect: Connect, desk: Desk
) -> None:
    asker = await connect()
    known, unknown = [(await asker.ask(deltas=1))["job"] for _ in range(2)]
    for job in (known, unknown):
        await asker.ended(job)
    given = {"id": INSTALLATION, "project": PROJECT, "subdomain": "acme", "shared_secret": SECRET}
    with desk.database.transaction() as connection:
        accounts.bind_organization(connection, PROJECT, "7001", ACCOUNT, actor="test")
    with running_zendesk() as zendesk:
        zendesk.organizations[asker.ticket] = 7001
        zendesk.failing = 401
        key_file = desk.folder / "keys" / "zendesk.pem"
        server = desk.start_server(
            installations=[{**given, **zendesk.settings, "public_key_file": str(key_file)}]
        )
        client = Client(server.said, desk.token(user=agent_id()), asker.ticket)
        await client.connect(since={known: 1})
        assert (await client.ask())["problem"]["code"] == "support.zendesk_refused"
        await until(lambda: len(client.raw) == asker.seen[known] - 1)
        assert {event["job"] for event in client.raw} == {known}  # it had begun to see that one
        zendesk.failing = None
        mine = (await client.ask(deltas=1))["job"]
        await until(lambda: client.seen.get(unknown) == asker.seen[unknown])
        assert (await client.ended(mine))[-1] == "answer"
        await client.close()
        server.stop()


async def test_a_ticket_without_an_account_can_be_opened_but_not_asked_about(connect: Connect) -> None:
    client = await connect("9999")
    await until(lambda: client.hellos)
    assert client.hellos[0]["account"] is None
    refused = await client.ask()
    assert refused["problem"]["code"] == "support.account_not_bound"
    assert refused["problem"]["remedy"]


def test_the_history_of_a_ticket_is_bounded_and_never_cuts_a_job_at_work(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_database("sqlite", tmp_path, request) as url, open_desk(tmp_path, url) as desk:
        runs = open_runs(desk.database)
        with desk.database.transaction() as connection:
            made = [_submitted(connection, runs) for _ in range(JOBS_MAX + 3)]
            at_work, *_, long_over, _newest = made[-6:]
            for job in (at_work, long_over):
                for number in range(EVENTS_MAX):
                    runs.append_event(connection, job, "support.delta", {"text": str(number)})
            run_store.finish(connection, long_over, Outcome(status=RunStatus.SUCCEEDED))
        runs.close()
        with desk.database.reading() as connection:
            at_first = history.stories(connection, _agent(), "1", {})
            seen = {made[0]: 1, long_over: 99_999}
            later = {story.job: story.after for story in history.stories(connection, _agent(), "1", seen)}
    assert [story.job for story in at_first] == [job for job in made[-JOBS_MAX:] if job != long_over]
    assert later[long_over] == EVENTS_MAX + 2  # no further than there is
    assert later[made[0]] == 1  # old, and the app knows it


def _submitted(connection: Any, runs: Runs) -> str:
    return jobs.submit(
        connection,
        runs,
        JobKind.ASK,
        accounts.customer(connection, PROJECT, ACCOUNT),
        actor="somebody",
        language=Language.ENGLISH,
        installation=INSTALLATION,
        ticket="1",
        details={"text": "?"},
    ).id


# --- bad input -----------------------------------------------------------------------------------

ASK = {"id": str(uuid.uuid4()), "ticket": "1", "text": "hello", "language": "en"}


@pytest.mark.parametrize(
    ("name", "payload", "field"),
    [
        ("ask", None, "payload"),
        ("ask", "text", "payload"),
        ("ask", [], "payload"),
        ("ask", {**ASK, "id": "1"}, "id"),
        ("ask", {**ASK, "text": ""}, "text"),
        ("ask", {**ASK, "text": " \n "}, "text"),
        ("ask", {**ASK, "text": "x" * 4001}, "text"),
        ("ask", {**ASK, "text": "a\x00b"}, "text"),
        ("ask", {**ASK, "text": "\ud800"}, "text"),
        ("ask", {**ASK, "text": {"a": 1}}, "text"),
        ("ask", {**ASK, "language": "fr"}, "language"),
        ("ask", {**ASK, "ticket": "1; DROP TABLE"}, "ticket"),
        ("ask", {**ASK, "ticket": -1}, "ticket"),
        ("report", {**ASK, "month": "2026-13"}, "month"),
        ("cancel", {**ASK, "job": "../../etc"}, "job"),
        ("inserted", {**ASK, "job": None, "as": "email"}, "as"),
        ("resume", {"jobs": {}}, "jobs"),
        ("resume", {"jobs": {"a": -1}}, "jobs.a"),
        ("resume", {"jobs": {"a": "1"}}, "jobs.a"),
        ("resume", {"jobs": {f"j{n}": 0 for n in range(101)}}, "jobs"),
        ("session", {}, "token"),
    ],
)
async def test_a_malformed_request_is_refused_and_the_field_named(
    connect: Connect, name: str, payload: Any, field: str
) -> None:
    client = await connect("1")
    problem = (await client.send(name, payload))["problem"]
    assert problem["code"] == "input.invalid"
    assert field in [fault["field"] for fault in problem["details"]["faults"]]
    assert "DROP" not in json.dumps(problem)


@pytest.mark.parametrize("name", ["nope", "a" * 500, "<script>", "*", "__proto__"])
async def test_an_unknown_event_is_answered(connect: Connect, name: str) -> None:
    client = await connect("1")
    assert (await client.send(name, {}))["problem"]["code"] == "support.event_unknown"


MALFORMED = "support.event_unknown"
FRAMES = {
    "an event named connect": ('42/support,1["connect",{}]', MALFORMED),
    "an event named disconnect": ('42/support,1["disconnect","bye"]', MALFORMED),
    "an event named like all": ('42/support,1["*",{"a":1}]', MALFORMED),
    "a name that is no text": ('42/support,1[{"a":1},{}]', MALFORMED),
    "an event without a name": ("42/support,1[]", MALFORMED),
    "an event that is no list": ('42/support,1{"a":1}', MALFORMED),
    "no data": ("42/support,1", MALFORMED),
    "not a number": ('42/support,1["resume",{"jobs":{"a":NaN}}]', "input.invalid"),
    "no payload": ('42/support,1["ask"]', "input.invalid"),
    "no JSON": ('42/support,1["ask",{', None),
    "deep nesting": ('42/support,1["ask",' + "[" * 20_000 + "]" * 20_000 + "]", None),
    "a huge number": ('42/support,1["ask",' + "9" * 20_000 + "]", None),
    "a binary event": ('451-/support,1["ask",{"_placeholder":true,"num":0}]', None),
    "a million attachments": ('45999999999-/support,1["ask"]', None),
    "an acknowledgement of nothing": ("43/support,7[]", None),
    "a second connect": ('40/support,{"token":"x"}', None),
    "a connect error": ('44/support,{"message":"no"}', None),
    "an unknown type": ("49/support", None),
    "an unknown packet": ("9hello", None),
    "an event elsewhere": ('42["ask",{}]', None),
    "an empty frame": ("", None),
    "bytes": (b"\x00\xff", None),
    "no bytes": (b"", None),
}


async def raw_socket(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    websocket = await session.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket", max_msg_size=0)
    assert (await websocket.receive_str()).startswith("0{")
    return websocket


@pytest.mark.parametrize(("frame", "code"), FRAMES.values(), ids=FRAMES.keys())
async def test_whatever_is_sent_is_answered_where_it_can_be_and_leaves_no_trace(
    desk: Desk, server: Process, frame: str | bytes, code: str | None
) -> None:
    async with aiohttp.ClientSession() as session:
        websocket = await raw_socket(session, server.said)
        auth = {"token": desk.token(user=agent_id()), "ticket": "1"}
        await websocket.send_str("40/support," + json.dumps(auth))
        await (websocket.send_str(frame) if isinstance(frame, str) else websocket.send_bytes(frame))
        await websocket.send_str('42/support,5["nope"]')
        answers: list[str] = []
        async with asyncio.timeout(60):
            while not (answers and answers[-1].startswith("43/support,5")):
                answers.append(await websocket.receive_str())
        assert MALFORMED in answers[-1]  # the connection has outlived it
        about_it = [answer for answer in answers if answer.startswith("43/support,1")]
        assert [str(code) in answer for answer in about_it] == ([True] if code else [])
    assert "Traceback" not in server.log


async def test_a_message_of_a_megabyte_ends_the_connection_and_harms_nobody(
    server: Process, connect: Connect
) -> None:
    client, bystander = await connect(), await connect()
    await client.io.emit("ask", {**ASK, "text": "x" * 1_000_000}, namespace=NAMESPACE)
    await until(lambda: not client.io.connected, "the connection to end")
    assert (await bystander.ask(deltas=1))["ok"] is True
    big = await bystander.send("nope", {"x": "y" * (MESSAGE_MAX_BYTES - 1000)})
    assert big["problem"]["code"] == "support.event_unknown"
    assert "Traceback" not in server.log


async def test_who_asks_too_often_is_told_to_wait_and_others_are_served(connect: Connect) -> None:
    noisy, quiet = await connect(), await connect()
    began, refused, served = time.monotonic(), list[dict[str, Any]](), 0

    async def at_once(number: int) -> None:
        nonlocal served
        answers = await asyncio.gather(*(noisy.send("nope", {}) for _ in range(number)))
        problems = [answer["problem"] for answer in answers]
        refused.extend(one for one in problems if one["code"] == "support.rate_limited")
        served += [one["code"] for one in problems].count("support.event_unknown")

    await at_once(5)
    assert (served, refused) == (5, [])
    while not refused:
        assert time.monotonic() - began < 60
        await at_once(int(REQUESTS_AT_ONCE))
    assert all(one["retryable"] is True for one in refused)
    assert all(one["details"]["retry_after_s"] >= 1 for one in refused)
    await noisy.cut()
    await noisy.connect()
    await at_once(int(REQUESTS_AT_ONCE))
    # Time brings more, a new connection does not.
    assert served <= REQUESTS_AT_ONCE + REQUESTS_A_SECOND * (time.monotonic() - began) + 1
    assert (await quiet.ask(deltas=1))["ok"] is True


async def test_one_agent_has_only_so_many_jobs_at_once(desk: Desk, connect: Connect) -> None:
    busy, other = await connect(), await connect()
    first = await busy.ask(id_=(again := str(uuid.uuid4())), deltas=1, at=0, gate="crowd")
    for _ in range(JOBS_AT_ONCE - 1):
        assert (await _patiently(busy, deltas=1, at=0, gate="crowd"))["ok"] is True
    refused = (await _patiently(busy, deltas=1))["problem"]
    assert (refused["code"], refused["retryable"]) == ("support.too_many_jobs", True)
    assert refused["details"]["retry_after_s"] > 0
    resent = await _patiently(busy, id_=again, deltas=1, at=0, gate="crowd")
    assert resent["job"] == first["job"]
    assert (await other.ask(deltas=1))["ok"] is True
    desk.open_gate("crowd")
    assert (await busy.ended(first["job"]))[-1] == "answer"


async def _patiently(client: Client, **script: Any) -> Any:
    """The answer to a question, asked again while it comes too soon."""
    while True:
        answer = await client.ask(**script)
        if answer.get("problem", {}).get("code") != "support.rate_limited":
            return answer
        await asyncio.sleep(0.1)  # an allowance that comes with time


async def test_in_an_archived_project_nothing_new_is_begun(desk: Desk, connect: Connect) -> None:
    client = await connect("54", installation=OTHER, project=OTHER_PROJECT)

    def archive(at: datetime | None) -> None:
        with desk.database.transaction() as connection:
            projects.update(connection, projects.find(connection, OTHER_PROJECT), {"archived_at": at})

    archive(utc_now())
    try:
        assert (await client.ask())["problem"]["code"] == "support.project_closed"
    finally:
        archive(None)
    assert (await client.ask(deltas=1))["ok"] is True


def test_who_comes_and_goes_and_comes_is_told_to_wait() -> None:
    sessions, agent = Sessions(), _agent()
    for _ in range(int(ARRIVALS_AT_ONCE)):
        sessions.check_room_for(agent)
    with pytest.raises(TooManyRequests):
        sessions.check_room_for(agent)
    sessions.check_room_for(_agent(user="361507770002"))


async def test_who_floods_is_put_out(connect: Connect) -> None:
    client = await connect()
    async with asyncio.timeout(60):
        while client.io.connected:
            await client.io.emit("nope", {}, namespace=NAMESPACE)
            await asyncio.sleep(0)


async def test_one_agent_can_only_open_so_many_tickets(desk: Desk, server: Process) -> None:
    token = desk.token(user=agent_id())
    clients = [Client(server.said, token, "60") for _ in range(CONNECTIONS_MAX)]
    async with agents(*clients):
        await asyncio.gather(*(client.connect() for client in clients))
        code = await refusal(Client(server.said, token, "60"))
    assert code == ("refused", "support.too_many_connections")


# --- who may connect -----------------------------------------------------------------------------


async def refusal(client: Client, **how: Any) -> tuple[str, str]:
    """(message, code) of a refused connection."""
    said: list[Any] = []
    new = client._new

    def listening() -> socketio.AsyncClient:
        io = new()
        io.on("connect_error", said.append, namespace=NAMESPACE)
        return io

    client._new = listening  # type: ignore[method-assign]
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(**how)
    await client.close()
    return (said[0]["message"], said[0]["data"]["code"]) if said else ("", "")


def _agent(**changes: str) -> Agent:
    given = {"installation": INSTALLATION, "user": USER, "project_id": PROJECT, **changes}
    return Agent(**given, role=AgentRole.AGENT)


TOKENS: dict[str, Callable[[Desk], str]] = {
    "nonsense": lambda _: "nonsense",
    "forged": lambda _: issue_session(SigningKey(b"x" * 32), _agent(), utc_now(), 900),
    "expired": lambda desk: issue_session(desk.key, _agent(), utc_now(), -1),
    "of an installation that is gone": lambda desk: issue_session(
        desk.key, _agent(installation="7"), utc_now(), 900
    ),
    "of another project": lambda desk: issue_session(desk.key, _agent(project_id="evil"), utc_now(), 900),
    "cut short": lambda desk: desk.token()[:-3],
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
async def test_who_has_no_good_session_is_refused_with_a_reason(
    desk: Desk, server: Process, token: Callable[[Desk], str]
) -> None:
    given = token(desk)
    message, code = await refusal(Client(server.said, given, "1"))
    assert message == "unauthorized"
    assert code.startswith("auth.")
    await until(lambda: code in server.log, "the refusal is in the log")
    assert given not in server.log


@pytest.mark.parametrize(
    "auth", [{"ticket": "x"}, {"ticket": ""}, {"since": {"a": "b"}}, {"since": [1]}, {"token": ""}]
)
async def test_malformed_auth_is_refused(desk: Desk, server: Process, auth: dict[str, Any]) -> None:
    client = Client(server.said, desk.token(), "1")
    client.auth = auth
    assert await refusal(client) == ("refused", "input.invalid")


@pytest.mark.parametrize(
    ("origin", "allowed"), [("own", True), ("https://evil.example", False), ("null", False)]
)
async def test_only_pages_of_known_origins_connect(
    desk: Desk, server: Process, origin: str, allowed: bool
) -> None:
    client = Client(server.said, desk.token(user=agent_id()), "1")
    headers = {"Origin": server.said if origin == "own" else origin}
    if allowed:
        await client.connect(headers=headers)
        assert client.io.connected
    else:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(headers=headers)
    await client.close()


async def test_other_namespaces_and_polling_are_not_served(server: Process) -> None:
    polling = httpx2.get(f"{server.said}/socket.io/?EIO=4&transport=polling", trust_env=False)
    assert polling.status_code == 400
    assert polling.headers["x-content-type-options"] == "nosniff"
    io = socketio.AsyncClient(reconnection=False)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await io.connect(server.said, namespaces=["/"], transports=["websocket"], wait_timeout=60)
    await io.disconnect()


async def test_a_session_is_renewed_in_time_or_the_connection_ends(desk: Desk, connect: Connect) -> None:
    user = agent_id()
    renewing, silent = await connect(ttl_s=18, user=user), await connect(ttl_s=9)
    await until(lambda: renewing.expiring, "the warning")
    answer = await renewing.send("session", {"token": desk.token(user=user)})
    assert answer == {"ok": True, "job": None}
    await until(lambda: not silent.io.connected, "the end of the session")
    assert (silent.left, silent.expiring) == (["server disconnect"], 1)
    assert renewing.io.connected
    assert len(renewing.hellos) == 2
    assert (await renewing.ask(deltas=1))["ok"] is True
    other = await renewing.send("session", {"token": desk.token(user=agent_id())})
    assert other["problem"]["code"] == "auth.agent_session_foreign"
    await until(lambda: not renewing.io.connected, "the end of a stolen connection")


async def test_what_an_administrator_ends_is_cut_and_does_not_come_back(desk: Desk, connect: Connect) -> None:
    user = agent_id()
    ended, other = await connect(user=user), await connect()
    with desk.database.transaction() as connection:
        session_ends.end(connection, PROJECT, INSTALLATION, user, actor="olga")
    await until(lambda: not ended.io.connected, "the end of the connection")
    assert ended.left == ["server disconnect"]
    assert await refusal(Client(ended.url, ended.token, ended.ticket)) == (
        "unauthorized",
        "auth.agent_session_ended",
    )
    assert (await other.ask(deltas=1))["ok"] is True


async def test_the_log_names_no_question_and_no_session(server: Process, connect: Connect) -> None:
    client = await connect()
    job = (await client.ask(deltas=1, secret="mother's maiden name"))["job"]
    await client.ended(job)
    assert "support.connected" in server.log
    assert "maiden" not in server.log
    assert client.token not in server.log


# --- the gate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"waiting_since": 0.0}, "no_session"),
        ({"sending_since": 100.0 - STALL_S - 1}, "stalled"),
        ({"owed": OWED_MAX + 1}, "behind"),
        ({"waiting_since": 100.0 - JOIN_S + 1}, None),
        ({"owed": OWED_MAX + 1, "sent": 1}, None),
    ],
    ids=str,
)
async def test_the_gate_puts_out_who_waits_or_does_not_read(
    change: dict[str, Any], reason: str | None
) -> None:
    connection = Connection(0.0)
    connection.waiting_since = None
    for name, value in change.items():
        setattr(connection, name, value)
    connection.look(100.0)
    assert (connection.ended[1] if connection.ended else None) == reason


async def test_a_client_that_stopped_reading_is_let_go_at_once() -> None:
    writing, gone = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        async def write() -> None:
            try:
                await send({"type": "websocket.send", "text": "hello"})
            except BaseException:
                await send({"type": "websocket.close"})
                gone.set()
                raise

        writer = asyncio.create_task(write())
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await asyncio.gather(writer, return_exceptions=True)

    async def stuck(message: Any) -> None:
        writing.set()
        await asyncio.Event().wait()

    async def nothing() -> Any:
        await asyncio.Event().wait()

    gate = Gate(app)
    served = asyncio.create_task(gate({"type": "websocket"}, nothing, stuck))
    await writing.wait()
    (connection,) = gate.connections
    assert connection.sending_since is not None
    connection.waiting_since = None
    gate.look(connection.sending_since + STALL_S + 1)
    async with asyncio.timeout(60):
        await asyncio.gather(served, return_exceptions=True)
    assert connection.ended == (1008, "stalled")
    assert not gate.connections


# --- life of a server ----------------------------------------------------------------------------


async def test_a_server_stops_in_time_with_agents_connected(desk: Desk, connect: Connect) -> None:
    server = desk.start_server()
    client = await connect(url=server.said)
    assert await asyncio.to_thread(server.stop) == 0
    await until(lambda: not client.io.connected)
    assert "Traceback" not in server.log
    assert "never retrieved" not in server.log


def test_health_names_workers_and_is_degraded_without_one(tmp_path: Path, request: Any) -> None:
    with fresh_database("sqlite", tmp_path, request) as url, open_desk(tmp_path, url, tickets=0) as desk:
        server = desk.start_server()

        def health() -> Any:
            return httpx2.get(f"{server.said}/health", trust_env=False)

        before = health()
        assert (before.status_code, before.json()["status"]) == (200, "degraded")
        assert before.json()["checks"]["workers"]["ok"] is False
        worker = desk.start_worker()
        asyncio.run(until(lambda: health().json()["status"] == "ok", "the worker to be seen"))
        worker.kill()
        asyncio.run(until(lambda: health().json()["status"] == "degraded", "its death to be seen"))


async def test_two_servers_and_a_redis_that_dies_in_the_middle_of_a_job_lose_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with (
        running_redis(tmp_path) as redis,
        fresh_database("sqlite", tmp_path, request) as url,
        open_desk(tmp_path, url) as desk,
    ):
        servers = [desk.start_server(redis_url=redis.url) for _ in range(2)]
        desk.start_worker()
        clients = [Client(server.said, desk.token(user=agent_id()), "1") for server in servers for _ in "ab"]
        async with agents(*clients):
            await asyncio.gather(*(client.connect() for client in clients))
            job = (await clients[0].ask(deltas=8, at=2, gate="redis"))["job"]
            await until(lambda: all(client.seen.get(job) == 6 for client in clients))
            health = httpx2.get(f"{servers[0].said}/health", trust_env=False).json()
            assert health["checks"]["redis"]["ok"] is True
            redis.kill()
            desk.open_gate("redis")
            await asyncio.gather(*(client.ended(job) for client in clients))
            second = (await clients[3].ask(deltas=2))["job"]
            await asyncio.gather(*(client.ended(second) for client in clients))
            assert all(client.whole(job) and client.whole(second) for client in clients)
            health = httpx2.get(f"{servers[0].said}/health", trust_env=False).json()
            assert (health["status"], health["checks"]["redis"]["ok"]) == ("degraded", False)
            redis.start()
            third = (await clients[0].ask(deltas=2))["job"]
            await asyncio.gather(*(client.ended(third) for client in clients))
            assert all(client.raw == client.events for client in clients)  # nothing twice on the wire
        assert not [server.log for server in servers if "Traceback" in server.log]


async def test_the_same_on_postgresql(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with fresh_database("postgresql", tmp_path, request) as url, open_desk(tmp_path, url) as desk:
        servers = [desk.start_server(), desk.start_server()]
        desk.start_worker()
        clients = [Client(server.said, desk.token(user=agent_id()), "1") for server in servers]
        async with agents(*clients):
            await asyncio.gather(*(client.connect() for client in clients))
            job = (await clients[0].ask(deltas=4, at=1, gate="pg"))["job"]
            await until(lambda: clients[1].seen.get(job) == 5)
            await clients[1].cut()
            desk.open_gate("pg")
            await clients[0].ended(job)
            await clients[1].connect()
            await clients[1].ended(job)
            assert [client.whole(job) for client in clients] == [True, True]
            health = httpx2.get(f"{servers[0].said}/health", trust_env=False).json()
            assert health["checks"]["workers"]["ok"] is True
