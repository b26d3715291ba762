"""The packaged app in real Chromium, signed in by a signed form, against real server and worker."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.demo_support import relay
from fairlead.cli.demo_support.sidebar import Sidebar, opened
from fairlead.cli.demo_support.zendesk import INSTALLATION, Person, Ticket, Zendesk
from fairlead.kernel import audit
from fairlead.kernel.runs import store as run_store
from fairlead.support import accounts, jobs
from fairlead.support.zendesk_app import app_dir, package
from tests.services import fresh_database
from tests.support.chromium import running_chromium
from tests.support.live import ACCOUNT, Desk, open_desk
from tests.support.zendesk_keys import PROJECT

TICKET, ORGANIZATION = 4711, 77
AGENT = Person(user=361507770009, name="Emma", locale="en-US")
SCRIPT = '{"deltas": 4, "at": 1, "gate": "browser"}'


def installed(desk: Desk, zendesk: Zendesk, line: relay.Line) -> None:
    """The app in Zendesk, its server behind `line`, a worker, and the organization's account."""
    package(app_dir(), desk.folder / "app.zip", server_url=line.url)
    with zipfile.ZipFile(desk.folder / "app.zip") as archive:
        zendesk.manifest = json.loads(archive.read("manifest.json"))
    key_file = desk.folder / "zendesk.pem"
    key_file.write_bytes(zendesk.public_key())
    server = desk.start_server(installations=[zendesk.settings(PROJECT, key_file)])
    line.lead_to(int(server.said.rsplit(":", 1)[1]))
    desk.start_worker()
    with desk.database.transaction() as connection:
        accounts.bind_organization(connection, PROJECT, str(ORGANIZATION), ACCOUNT, actor="test")


def until(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (answer := ask()):
        assert time.monotonic() < deadline, ask
        time.sleep(0.02)
    return answer


def heard_once_in_order(sidebar: Sidebar, job: str) -> bool:
    """Whether the numbers that came over the wire, each taken once, have no gap."""
    numbers = [event.seq for event in sidebar.heard() if event.job == job]
    return sorted(set(numbers)) == list(range(1, max(numbers) + 1)) and sorted(numbers) == numbers


def test_an_agent_asks_loses_the_line_and_loses_nothing_else(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ticket = Ticket(
        number=TICKET,
        organization=ORGANIZATION,
        organization_name="Acme",
        requester="Kim",
        subject="Bucket",
        text="Gone",
    )
    zendesk = Zendesk({TICKET: ticket}, {AGENT.user: AGENT})
    with (
        fresh_database("sqlite", tmp_path, request) as url,
        open_desk(tmp_path, url, tickets=0) as desk,
        relay.laid() as line,
        zendesk.answering(),
        running_chromium() as browser,
    ):
        installed(desk, zendesk, line)
        with opened(browser, zendesk, AGENT, TICKET, tmp_path) as sidebar:
            assert sidebar.texts(".account") == [f"AWS account {ACCOUNT}"]
            sidebar.write(SCRIPT)
            sidebar.until("document.querySelector('.answer .text')?.innerText.trim() === '0 1'")
            with desk.database.reading() as connection:
                (job,) = jobs.of_ticket(connection, PROJECT, INSTALLATION, str(TICKET))
            assert line.cut() > 0
            sidebar.until("document.documentElement.dataset.state === 'reconnecting'")
            desk.open_gate("browser")
            until(lambda: _final(desk, job.run_id))
            line.mend()
            sidebar.until("document.querySelector('.answer .text')?.innerText.trim() === 'all of it'")
            assert heard_once_in_order(sidebar, job.run_id)
            assert sidebar.texts(".question .text") == [SCRIPT]
            sidebar.press(".answer .tools .button:nth-child(2)")
            until(lambda: sidebar.editor == ("internalNote", "all of it"))
            until(lambda: _inserted(desk))
            assert sidebar.page.complaints == [] or all(
                "WebSocket" in one or "ERR_" in one for one in sidebar.page.complaints
            )
        with opened(browser, zendesk, AGENT, TICKET, tmp_path) as again:
            again.until("document.querySelector('.answer .text')?.innerText.trim() === 'all of it'")
            assert again.texts(".question .text") == [SCRIPT]
            assert heard_once_in_order(again, job.run_id)
            assert again.page.complaints == []


def _final(desk: Desk, job: str) -> bool:
    with desk.database.reading() as connection:
        return run_store.get(connection, job).status.final


def _inserted(desk: Desk) -> bool:
    with desk.database.reading() as connection:
        found = audit.entries(connection, action="support.inserted")
    return [entry.data["account"] for entry in found] == [ACCOUNT]
