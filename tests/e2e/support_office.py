"""The support assistant as it runs: a strict AWS, `fairlead serve`, a Zendesk, agents with real clients."""

import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairlead.cli.client import Client
from fairlead.cli.demo_support import stage, world
from fairlead.cli.demo_support.chromium import Asked
from fairlead.cli.demo_support.stage import BLUEWAVE, EMMA, HANBIT, PROJECT, Setter
from fairlead.cli.demo_support.world import Aws, Estate
from fairlead.cli.demo_support.zendesk import ORIGIN, Person, Zendesk
from tests.e2e.product import environment, until
from tests.sandbox.clients import Aws as Sandbox
from tests.sandbox_service import toolenvs
from tests.support.live import Client as App

CROWD = Estate(
    account="888899990000",
    name="Crowd Ltd",
    word="crowd",
    organization=1003,
    people=("root", "root"),
    gone="",
)
TICKETS = {HANBIT.account: 4711, BLUEWAVE.account: 4712, CROWD.account: 4714}
SERVERS = 400  # of Crowd


@dataclass
class Office:
    """What runs."""

    setter: Setter
    aws: Aws
    admin: Client
    folder: Path

    @property
    def url(self) -> str:
        return str(self.setter.about["url"])

    @property
    def zendesk(self) -> Zendesk:
        return self.setter.zendesk

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text(errors="replace")

    def session(self, agent: Person = EMMA) -> str:
        """A session for `agent`, as the app's page has it."""
        self.zendesk.agent = agent
        form = urllib.parse.urlencode({"token": self.zendesk.sign()}).encode()
        page = f"{self.url}/support/zendesk/assets/iframe.html"
        with urllib.request.urlopen(urllib.request.Request(page, data=form), timeout=60) as answer:
            found = re.search(r'name="fairlead-session" content="([^"]+)"', answer.read().decode())
        assert found
        return found[1]

    def renewed(self, session: str, *, zendesk: Zendesk | None = None) -> tuple[int, str]:
        """Status, and the session for an old one, as the app asks Zendesk's proxy for it."""
        asking = {
            "url": f"{self.url}/support/zendesk/session",
            "type": "POST",
            "contentType": "application/json",
            "data": json.dumps({"session": session}),
            "headers": {"Authorization": "Bearer {{jwt.token}}"},
            "jwt": {"algorithm": "HS256", "secret_key": "{{setting.shared_secret}}", "expiry": 60},
        }
        proxy = (zendesk or self.zendesk).stand_ins()[f"{ORIGIN}/proxy/*"]
        assert callable(proxy)
        answer = proxy(Asked(f"{ORIGIN}/proxy/apps/secure", "POST", json.dumps(asking)))
        return answer.status, str(json.loads(answer.body).get("session", ""))

    @asynccontextmanager
    async def beside(self, estate: Estate) -> AsyncIterator["Agent"]:
        """An agent's app beside the customer's ticket."""
        ticket = str(TICKETS[estate.account])
        app = await App(self.url, self.session(), ticket).connect()
        try:
            yield Agent(app, estate, self)
        finally:
            await app.close()

    def fetch(self, path: str) -> bytes:
        """A file of a report, by a link."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def run(self, *arguments: str, code: int = 0) -> Any:
        """The document that `fairlead … --json` prints, by the administrator."""
        client = self.admin
        variables = {
            "FAIRLEAD_URL": self.url,
            "FAIRLEAD_TOKEN": str(client.credentials.access_token),
            "FAIRLEAD_PROJECT": PROJECT,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "fairlead.cli.main", *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=240,
            env=environment(self.folder / "nothing-here", **variables),
        )
        assert ended.returncode == code, (ended.stdout, ended.stderr[-3000:])
        return json.loads(ended.stdout)

    def objects(self, account: str) -> dict[str, bytes]:
        """What is stored of an account, by key."""
        root = self.folder / "data" / "objects"
        return {
            str(path): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and account in str(path)
        }

    def audited(self, account: str) -> list[dict[str, Any]]:
        """What the audit record says of it, newest first."""
        entries = self.admin.get(f"/projects/{PROJECT}/audit", limit=200)["items"]
        return [one for one in entries if one["data"].get("account") == account]

    @property
    def sandbox(self) -> Sandbox:
        settings = {
            "endpoint_url": self.aws.endpoint_url,
            "region_name": world.REGION,
            "aws_access_key_id": "1",
        }
        return Sandbox(settings)

    @contextmanager
    def slow(self, operation: str, seconds: float) -> Iterator[None]:
        """The next call of `operation` takes so long, unless the block ends before."""
        self.sandbox.faults({"kind": "latency", "operation": operation, "seconds": seconds, "count": 1})
        try:
            yield
        finally:
            self.sandbox.faults()

    def until_slow(self) -> None:
        """Wait until a call is being kept waiting."""
        until(lambda: self.sandbox.admin("GET", "/_fairlead/faults")[1]["faults"][0]["hits"], "a call")

    def descendants(self, of: int) -> dict[int, str]:
        """Command lines of every process below one, by process id."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        found, wanted = {}, {of}
        while new := [row for row in rows if int(row[1]) in wanted and int(row[0]) not in found]:
            found.update({int(row[0]): row[2] for row in new if len(row) > 2})
            wanted |= {int(row[0]) for row in new}
        return found

    def worker_pid(self) -> int:
        """The worker of now."""
        children = self.descendants(int(self.setter.about["pid"]))
        return max(pid for pid, line in children.items() if " worker " in line)

    def secrets(self) -> tuple[str, ...]:
        """What must stand nowhere outside."""
        customers = self.admin.get(f"/projects/{PROJECT}/support/customers")["items"]
        ids = [
            self.admin.get(f"/projects/{PROJECT}/support/customers/{one['account']}")["external_id"]
            for one in customers
        ]
        return (*ids, self.zendesk.shared_secret, self.zendesk.api_token)


@dataclass
class Agent:
    """Somebody at work on a ticket."""

    app: App
    estate: Estate
    office: Office

    async def begin(self, name: str, **details: Any) -> str:
        """A job's id."""
        given = {"id": str(uuid.uuid4()), "ticket": self.app.ticket, "language": "en", **details}
        answer = await self.app.send(name, given)
        assert answer["ok"], answer
        return str(answer["job"])

    async def done(self, name: str, **details: Any) -> tuple[str, Mapping[str, Any]]:
        """A job's id and how it ended; everything of it arrived, in order."""
        job = await self.begin(name, **details)
        return job, await self.end(job)

    async def end(self, job: str) -> Mapping[str, Any]:
        """Kind and data of the job's end."""
        await self.app.ended(job)
        assert self.app.whole(job)
        last = next(one for one in reversed(self.app.of(job)) if not one["kind"].startswith("run."))
        return {**last["data"], "kind": last["kind"]}

    def report(self, url: str, name: str) -> str:
        """A file of a report, opened as the app does."""
        body = json.dumps({"ticket": self.app.ticket, "url": url.replace("report.html", name)}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.app.token}"}
        asked = urllib.request.Request(f"{self.office.url}/support/zendesk/links", body, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            link = json.loads(answer.read())["url"]
        return self.office.fetch(link).decode()


@contextmanager
def open_office(folder: Path) -> Iterator[Office]:
    """The product with three customers."""
    with ExitStack() as stack:
        setter = Setter(folder, toolenvs(), stack)
        ticket = replace(
            stage.BLUEWAVE_TICKET, number=TICKETS[CROWD.account], organization=CROWD.organization
        )
        setter.zendesk.tickets[ticket.number] = ticket
        aws, keys, hub = setter.local_aws()
        for estate in (HANBIT, BLUEWAVE):
            world.furnish(aws, estate)
        aws.client("ec2", CROWD.account).run_instances(
            ImageId="ami-0d1bf5b68307103c2", InstanceType="t3.micro", MinCount=SERVERS, MaxCount=SERVERS
        )
        admin = setter.server(
            aws, keys, hub, FAIRLEAD_SUPPORT__SESSION_S="900", FAIRLEAD_RUNS__LIVENESS_INTERVAL_S="0.5"
        )
        setter.zendesk.manifest = {"domainWhitelist": [urllib.parse.urlsplit(setter.about["url"]).netloc]}
        for estate in (HANBIT, BLUEWAVE, CROWD):
            stage.take_on(admin, aws, estate)
        yield Office(setter, aws, admin, folder)


def kill(pid: int) -> None:
    """kill -9, and wait until it has gone."""
    os.kill(pid, 9)
    until(lambda: not Path(f"/proc/{pid}").exists() or _is_dead(pid), f"the end of {pid}")


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
